/*
 * profile.c - what has been seen of guest code while it ran, for when it is made
 * again: a bit each, by a hash of its physical address.  One that shares a bit
 * with another is no worse off.  All is forgotten when the translation cache has
 * been full, and found again.
 *
 *	busy	blocks that run often: their accesses have slots
 *	roams	accesses whose slot is refilled again and again: the TLB instead
 *	split	first accesses of groups that are none any more
 *
 * Blocks that run often are found by looking where the vcpu is every now and
 * then: a signal notes the host's pc, the run loop sees to what was noted.
 */
#include <string.h>

#include "jit.h"

#define BITS	65536
typedef uint64_t set_t[BITS / 64];
static set_t busy, roams, split;

/* How often something was seen, by the hash of what: others push it out. */
struct tally { uint32_t key, n; uint64_t since; };
#define TALLY_N	1024

static uint32_t
hash(const struct block *b, unsigned guest)
{
	return (uint32_t)(((b->key & ~0xfffull) + guest) *
	    0x9e3779b97f4a7c15ull >> 32);
}

static bool
marked(const set_t set, uint32_t key)
{
	return set[key % BITS / 64] >> (key % 64) & 1;
}

static void
mark(set_t set, uint32_t key)
{
	set[key % BITS / 64] |= 1ull << (key % 64);
}

/* One more at `now': how many since there were none, at most `window' ago. */
static uint32_t
count(struct tally *table, uint32_t key, uint64_t now, uint64_t window)
{
	struct tally *x = &table[key % TALLY_N];

	if (x->key != key || x->n == 0 || now - x->since > window)
		*x = (struct tally){ key, 0, now };
	return ++x->n;
}

void
profile_forget(void)
{
	memset(busy, 0, sizeof(busy));
	memset(roams, 0, sizeof(roams));
	memset(split, 0, sizeof(split));
}

/* ------------------------------------------------------------------- slots */

bool
profile_roams(const struct block *b, unsigned guest)
{
	return marked(roams, hash(b, guest));
}

void
profile_refilled(struct cpu *c, const struct block *b, unsigned guest)
{
	static struct tally refilled[TALLY_N];
	uint32_t k = hash(b, guest);

	/* not worth waiting for, and the block goes on afterwards */
	if (!jit_on.sampling || !jit_trylock(c))
		return;
	if (count(refilled, k, 0, 0) >= 2 && !marked(roams, k)) {
		mark(roams, k);
		block_drop(c, b);
	}
	jit_unlock(c);
}

/* ------------------------------------------------------------------ groups */

bool
profile_split(const struct block *b, unsigned guest)
{
	return marked(split, hash(b, guest));
}

/* So many in so short a time cost more than the group saves: each is some hundred
 * nanoseconds. */
#define OFTEN_N		32
#define OFTEN_TSC	(1u << 23)

bool
profile_crossed(struct cpu *c, const struct block *b, unsigned guest)
{
	static struct tally crossed[TALLY_N];
	bool often;

	jit_lock(c);
	often = count(crossed, hash(b, guest), __builtin_ia32_rdtsc(),
	    OFTEN_TSC) % OFTEN_N == 0;
	jit_unlock(c);
	return often;
}

void
profile_no_group(struct cpu *c, const struct block *b, unsigned guest)
{
	jit_lock(c);
	mark(split, hash(b, guest));
	block_drop(c, b);
	jit_unlock(c);
}

/* -------------------------------------------------------------- busy blocks */

/* Host nanoseconds between two looks: at first, and while nothing is found
 * twice as long each time up to the longest. */
#define LOOK_MIN	1000000
#define LOOK_MAX	32000000
#define LOOK_WINDOW	64	/* looks, of which a busy block has two */

bool
profile_busy(const struct block *b)
{
	return !jit_on.tiers || marked(busy, hash(b, b->key & 0xfff));
}

void
profile_look(struct cpu *c, const void *pc)
{
	struct look *l = &c->look;

	if (codemem_has(pc) && l->n < LOOKS)
		l->pc[l->n++] = pc;
}

/* False: it is as it should be. */
static bool
busier(struct cpu *c, const void *pc)
{
	static struct tally seen[TALLY_N];
	const struct block *b = block_of(pc);
	uint32_t k;

	if (!b || b->dead || b->busy)
		return false;
	k = hash(b, b->key & 0xfff);
	if (count(seen, k, c->look.all, LOOK_WINDOW) < 2)
		return false;
	mark(busy, k);
	block_drop(c, b);
	return true;
}

void
profile_looked(struct cpu *c)
{
	struct look *l = &c->look;
	unsigned i;

	if (!l->n || !jit_on.tiers || !jit_on.slots || !jit_trylock(c))
		return;
	for (i = 0; i < l->n; i++, l->all++)
		l->found |= busier(c, l->pc[i]);
	l->n = 0;
	jit_unlock(c);
}

int64_t
profile_every(struct cpu *c)
{
	struct look *l = &c->look;

	if (!jit_on.tiers || !jit_on.slots)
		return 0;
	l->every = l->found || !l->every ? LOOK_MIN :
	    l->every * 2 > LOOK_MAX ? LOOK_MAX : l->every * 2;
	l->found = false;
	return l->every;
}
