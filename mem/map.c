/*
 * map.c - the guest's two address spaces as a published table of ranges.
 *
 * Theory of operation.  The broker keeps every claim in a private list; after
 * each change it sweeps the list into sorted, disjoint pieces, the claim with
 * the higher priority (the later one among equals) being seen where several
 * overlap, and writes them to the page between two increments of `seq`.
 * Readers search by bisection and start again when `seq` was odd or moved.
 * While a reader races with a change it may see any mixture of entries: every
 * index is bounded, and the result is thrown away.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mem.h"

const char *const range_kind_name[RANGE_NKIND] = {
	"none", "ram", "rom", "shadow", "status", "counter", "posted",
	"doorbell", "sync"
};

#define CLAIM_MAX 2000

struct claim {
	struct map_ent	e;
	uint64_t	age;
};

struct map_list {
	struct map	*page;
	struct claim	claim[CLAIM_MAX];
	unsigned	n;
	uint64_t	age;
	struct map_ent	out[MAP_MAX];
};

static inline void
relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

bool
map_find(const struct map *m, enum space space, uint64_t addr,
    struct map_ent *e)
{
	const struct map_ent *p;
	uint32_t seq, lo, hi, mid, n;
	uint64_t before, after;
	bool found;

again:
	seq = atomic_load_explicit(&m->seq, memory_order_acquire);
	if (seq & 1) {
		relax();
		goto again;
	}
	n = m->nent;
	if (n > MAP_MAX)
		n = MAP_MAX;
	lo = 0;
	hi = n;
	while (lo < hi) {	/* the first entry that ends at addr or later */
		mid = (lo + hi) / 2;
		p = &m->ent[mid];
		if (p->space < space || (p->space == space && p->last < addr))
			lo = mid + 1;
		else
			hi = mid;
	}
	found = lo < n && m->ent[lo].space == space &&
	    m->ent[lo].start <= addr;
	if (found) {
		*e = m->ent[lo];
	} else {
		before = 0;
		after = space == SPACE_IO ? 0xffff : UINT64_MAX;
		if (lo > 0 && m->ent[lo - 1].space == space)
			before = m->ent[lo - 1].last + 1;
		if (lo < n && m->ent[lo].space == space)
			after = m->ent[lo].start - 1;
		memset(e, 0, sizeof *e);
		e->start = e->base = before;
		e->last = after;
		e->space = (uint8_t)space;
	}
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&m->seq, memory_order_relaxed) != seq)
		goto again;
	return found;
}

struct map_list *
map_list_new(struct map *page)
{
	struct map_list *l;

	l = calloc(1, sizeof *l);
	if (l != NULL)
		l->page = page;
	return l;
}

static int
by_address(const void *va, const void *vb)
{
	const struct map_ent *a = va, *b = vb;

	if (a->space != b->space)
		return a->space < b->space ? -1 : 1;
	return a->start < b->start ? -1 : a->start > b->start;
}

static bool
beats(const struct claim *a, const struct claim *b)
{
	if ((a->e.part == MAP_RAM) != (b->e.part == MAP_RAM))
		return b->e.part == MAP_RAM;
	if (a->e.prio != b->e.prio)
		return a->e.prio > b->e.prio;
	return a->age > b->age;
}

/* The piece of a claim that starts at `from` and ends at `last`. */
static struct map_ent
piece(const struct map_ent *e, uint64_t from, uint64_t last)
{
	struct map_ent p = *e;

	if (e->kind == RANGE_ROM || e->kind == RANGE_SHADOW ||
	    e->kind == RANGE_STATUS || e->kind == RANGE_RAM)
		p.off += from - e->start;
	p.start = from;
	p.last = last;
	return p;
}

/*
 * Resolve one space into l->out from *n on.  At each address the winner is
 * looked up among all claims and holds until it ends or a better one starts.
 */
static int
resolve(struct map_list *l, enum space space, uint32_t *n)
{
	const struct claim *c, *win;
	uint64_t addr = 0, next;
	unsigned i;

	for (;;) {
		win = NULL;
		for (i = 0; i < l->n; i++) {
			c = &l->claim[i];
			if (c->e.space == space && c->e.start <= addr &&
			    addr <= c->e.last && (win == NULL || beats(c, win)))
				win = c;
		}
		next = win != NULL ? win->e.last : UINT64_MAX;
		for (i = 0; i < l->n; i++) {
			c = &l->claim[i];
			if (c->e.space == space && c->e.start > addr &&
			    c->e.start <= next &&
			    (win == NULL || beats(c, win)))
				next = c->e.start - 1;
		}
		if (win != NULL) {
			if (*n == MAP_MAX) {
				errno = ENOSPC;
				return -1;
			}
			l->out[(*n)++] = piece(&win->e, addr, next);
		}
		if (next == UINT64_MAX)
			return 0;
		addr = next + 1;
	}
}

static int
publish(struct map_list *l)
{
	struct map *m = l->page;
	uint32_t n = 0, seq;

	if (resolve(l, SPACE_MEM, &n) < 0 || resolve(l, SPACE_IO, &n) < 0)
		return -1;
	qsort(l->out, n, sizeof l->out[0], by_address);
	seq = atomic_load_explicit(&m->seq, memory_order_relaxed);
	atomic_store_explicit(&m->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	memcpy(m->ent, l->out, n * sizeof l->out[0]);
	m->nent = n;
	atomic_store_explicit(&m->seq, seq + 2, memory_order_release);
	return 0;
}

static int
find_claim(const struct map_list *l, unsigned part, unsigned range)
{
	unsigned i;

	for (i = 0; i < l->n; i++)
		if (l->claim[i].e.part == part && l->claim[i].e.range == range)
			return (int)i;
	return -1;
}

int
map_list_set(struct map_list *l, const struct map_ent *e)
{
	struct claim old;
	const struct map_ent *c;
	unsigned i;
	int k;

	if (e->kind == RANGE_NONE) {
		map_list_clear(l, e->part, e->range);
		return 0;
	}
	if (e->kind >= RANGE_NKIND || e->space > SPACE_IO ||
	    e->start > e->last || (e->space == SPACE_IO && e->last > 0xffff)) {
		errno = EINVAL;
		return -1;
	}
	for (i = 0; i < l->n; i++) {
		c = &l->claim[i].e;
		if (c->space == e->space && c->prio == e->prio &&
		    c->part != e->part && c->part != MAP_RAM &&
		    e->part != MAP_RAM && c->start <= e->last &&
		    e->start <= c->last) {
			errno = EEXIST;
			return -1;
		}
	}
	k = find_claim(l, e->part, e->range);
	if (k < 0) {
		if (l->n == CLAIM_MAX) {
			errno = ENOSPC;
			return -1;
		}
		k = (int)l->n++;
		memset(&old, 0, sizeof old);
	} else {
		old = l->claim[k];
	}
	l->claim[k].e = *e;
	l->claim[k].e.base = e->start;
	l->claim[k].age = ++l->age;
	if (publish(l) < 0) {
		if (old.age != 0)
			l->claim[k] = old;
		else
			l->n--;
		return -1;
	}
	return 0;
}

void
map_list_clear(struct map_list *l, unsigned part, int range)
{
	unsigned i, n = 0;

	for (i = 0; i < l->n; i++)
		if (l->claim[i].e.part != part ||
		    (range >= 0 && l->claim[i].e.range != (unsigned)range))
			l->claim[n++] = l->claim[i];
	l->n = n;
	publish(l);
}

int64_t
map_clock(const struct map *m)
{
	struct timespec ts;
	uint32_t seq, running;
	int64_t off;

	for (;;) {
		seq = atomic_load_explicit(&m->seq, memory_order_acquire);
		running = atomic_load_explicit(&m->running,
		    memory_order_relaxed);
		off = atomic_load_explicit(&m->clock_off,
		    memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
		if ((seq & 1) == 0 && atomic_load_explicit(&m->seq,
		    memory_order_relaxed) == seq)
			break;
		relax();
	}
	if (!running)
		return off;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec + off;
}
