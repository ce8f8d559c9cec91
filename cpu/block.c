/*
 * block.c - translation blocks: finding, making, linking and dropping them.
 * See block.h for what a block is.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "block.h"

struct jit jit;

#define GRAIN	512

static void *
reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int
block_init(size_t tb_size, const struct ram *ram)
{
	if (codemem_init(tb_size) < 0)
		return -1;
	jit.maxblk = (uint32_t)(tb_size / 128);
	jit.maxex = jit.maxblk * 3;
	jit.maxpc = jit.maxblk * 16;
	jit.maxins = jit.maxblk * 4;
	jit.ins = reserve(jit.maxins * sizeof(*jit.ins));
	jit.nhash = 1 << 18;
	jit.npage = ram->size >> 12;
	jit.blk = reserve(jit.maxblk * sizeof(*jit.blk));
	jit.ex = reserve(jit.maxex * sizeof(*jit.ex));
	jit.pc = reserve(jit.maxpc * sizeof(*jit.pc));
	jit.hash = reserve(jit.nhash * sizeof(*jit.hash));
	jit.page = reserve(jit.npage * sizeof(*jit.page));
	jit.wpage = reserve(jit.npage);
	jit.chunks = reserve(jit.npage * sizeof(*jit.chunks));
	jit.at = reserve(jit.size / GRAIN * sizeof(*jit.at));
	if (!jit.at || !jit.blk || !jit.ex || !jit.ins || !jit.pc ||
	    !jit.hash || !jit.page || !jit.wpage || !jit.chunks) {
		errno = ENOMEM;
		return -1;
	}
	/* read at random */
	madvise(jit.hash, jit.nhash * sizeof(*jit.hash), MADV_HUGEPAGE);
	madvise(jit.blk, jit.maxblk * sizeof(*jit.blk), MADV_HUGEPAGE);
	return 0;
}

static unsigned
bucket(uint64_t key, uint32_t mode)
{
	uint64_t h = (key ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

	return (unsigned)(h >> 40) & (jit.nhash - 1);
}

struct block *
block_find(uint64_t key, uint32_t mode)
{
	struct block *b;

	for (b = __atomic_load_n(&jit.hash[bucket(key, mode)], __ATOMIC_ACQUIRE);
	    b; b = b->hash)
		if (b->key == key && b->mode == mode)
			return b;
	return NULL;
}

struct block *
block_next(const struct block *a)
{
	struct block *b;

	for (b = a->hash; b; b = b->hash)
		if (b->key == a->key && b->mode == a->mode)
			return b;
	return NULL;
}

bool
block_room(void)
{
	return jit.used + BLOCK_ROOM <= jit.cold &&
	    jit.cold_used + BLOCK_ROOM <= jit.size && jit.nblk + 2 < jit.maxblk &&
	    jit.nex + 2 * BLOCK_INSNS <= jit.maxex &&
	    jit.npc + 8 * BLOCK_INSNS <= jit.maxpc &&
	    jit.nins + BLOCK_INSNS <= jit.maxins;
}

struct block *
block_new(uint64_t key, uint32_t mode)
{
	struct block *b = &jit.blk[jit.nblk];

	*b = (struct block){ .key = key, .mode = mode,
		.host = jit.rw + jit.used, .cold = jit.rw + jit.cold_used,
		.pc = jit.pc + jit.npc };
	return b;
}

static bool
ram_page(uint64_t gpa, uint64_t *page)
{
	struct ram *r = machine.ram;
	uint8_t *p = ram_at(r, gpa & ~0xfffull, 4096);

	if (!p)
		return false;
	*page = (uint64_t)(p - r->base) >> 12;
	return true;
}

static uint8_t
writer_bit(const struct cpu *c)
{
	return (uint8_t)(1u << (c->index & 7));
}

static void
be_writer(struct cpu *c, uint64_t pg)
{
	if (!(jit.wpage[pg] & writer_bit(c)))
		atomic_fetch_or(&jit.wpage[pg], writer_bit(c));
}

bool
block_writer(struct cpu *c, uint64_t pg)
{
	if (dirty_code(machine.dirty, pg))
		return false;
	/* said first: whoever sets the bit now comes to ask */
	be_writer(c, pg);
	return !dirty_code(machine.dirty, pg);
}

/* Bits of the chunks that page offsets lo to hi - 1 are in. */
static uint64_t
chunks(unsigned lo, unsigned hi)
{
	unsigned a = lo / 64, z = hi > 4096 ? 63 : (hi - 1) / 64;

	return ~0ull << a & ~0ull >> (63 - z);
}

uint8_t *
code_beside(struct cpu *c, uint64_t gpa, unsigned n)
{
	uint64_t pg;
	unsigned off = gpa & 0xfff;

	if (!ram_page(gpa, &pg))
		return NULL;
	if (machine.ncpu > 1)
		be_writer(c, pg);	/* until this store is made */
	if (__atomic_load_n(&jit.chunks[pg], __ATOMIC_SEQ_CST) &
	    chunks(off, off + n))
		return NULL;
	return machine.ram->base + (pg << 12) + off;
}

/* Code of this block is at `p`. */
static void
note_at(const struct block *b, const uint8_t *p, uint32_t len)
{
	size_t i = (size_t)(p - jit.rw) / GRAIN;

	for (; len && i <= (size_t)(p + len - 1 - jit.rw) / GRAIN; i++)
		if (!jit.at[i])
			jit.at[i] = (uint32_t)(b - jit.blk) + 1;
}

static void
forget_at(size_t from, size_t to)
{
	size_t i;

	for (i = from / GRAIN; i * GRAIN < to; i++)
		jit.at[i] = 0;
}

void
block_commit(struct block *b)
{
	unsigned i = bucket(b->key, b->mode);
	uint64_t pg;

	jit.used = (size_t)(b->host + b->host_len - jit.rw + 15) & ~15ul;
	jit.cold_used = (size_t)(b->cold + b->cold_len - jit.rw);
	jit.npc += b->npc;
	note_at(b, b->host, b->host_len);
	note_at(b, b->cold, b->cold_len);
	jit.nblk++;
	jit.n_made++;
	b->hash = jit.hash[i];
	if (ram_page(b->key, &pg)) {
		b->page = jit.page[pg];
		jit.page[pg] = b;
		jit.chunks[pg] |= chunks(b->lo, b->hi);
	}
	/* from here on it is found by those without the lock */
	__atomic_store_n(&jit.hash[i], b, __ATOMIC_RELEASE);
}

void
block_twin(struct block *b, uint64_t gpa2, unsigned n)
{
	struct block *t = &jit.blk[jit.nblk];
	uint64_t pg;

	b->gpa2 = gpa2;
	if (!ram_page(gpa2, &pg))
		return;
	/* found by no pc, as it has no code; by no key, as it is not hashed */
	*t = (struct block){ .key = gpa2, .mode = b->mode, .hi = (uint16_t)n,
		.host = jit.rw + jit.used, .cold = jit.rw + jit.cold_used,
		.twin = b, .page = jit.page[pg] };
	jit.page[pg] = t;
	jit.chunks[pg] |= chunks(0, n);
	jit.nblk++;
}

struct exit_rec *
exit_new(struct block *b, int kind, int32_t delta)
{
	struct exit_rec *x = &jit.ex[jit.nex++];

	*x = (struct exit_rec){ .from = b, .kind = (uint8_t)kind,
		.delta = delta };
	return x;
}

void
block_link(struct exit_rec *x, struct block *to)
{
	if (x->to || !x->patch || to->dead || x->from->dead)
		return;
	e_patch(x->patch, x->lazy ? to->lazy : to->link);
	x->to = to;
	x->next = to->in;
	to->in = x;
	jit.n_link++;
}

/*
 * Drop a block.  Jumps to it go back to their cold stubs, and its first bytes
 * become an exit, for those who reach it through a jump cache.  A vcpu that is
 * inside may finish it.
 */
static void
kill_block(struct block *b)
{
	struct block **pb;
	struct exit_rec *x;

	if (b->dead)
		return;
	b->dead = true;
	if (b->twin) {
		kill_block(b->twin);
		return;
	}
	jit.n_killed++;
	for (pb = &jit.hash[bucket(b->key, b->mode)]; *pb; pb = &(*pb)->hash)
		if (*pb == b) {
			*pb = b->hash;
			break;
		}
	for (x = b->in; x; x = x->next) {
		/* a dead block's code is not its own any more */
		if (!x->from->dead)
			e_patch(x->patch, x->cold);
		x->to = NULL;
	}
	b->in = NULL;
	if (jit.nex < jit.maxex) {
		x = exit_new(b, EXIT_DEAD, (int32_t)(b->key & 0xfff));
		struct emit e = { .p = b->host };

		e_mov_ri32(&e, H_9, (uint32_t)(x - jit.ex));
		e_jmp_to(&e, jit.stub_exit);
	} else {
		unsigned i, m;

		for (i = 0; i < machine.ncpu; i++)
			for (m = 0; m < MMU_N; m++)
				jc_flush(machine.cpu[i], m);
	}
}

void
block_drop(struct cpu *c, const struct block *b)
{
	jit_exclusive(c);
	kill_block(&jit.blk[b - jit.blk]);
}

static void
code_bit(uint64_t pg, bool on)
{
	_Atomic uint64_t *w = &machine.dirty->bits[pg / 64];
	uint64_t bit = 1ull << (pg % 64);

	if (on)
		atomic_fetch_or(w, bit);
	else
		atomic_fetch_and(w, ~bit);
}

void
code_wrote(struct cpu *c, uint64_t off, uint64_t len)
{
	uint64_t pg, a, z, last = off + len - 1;
	struct block *b, **pb;

	/* the store, then the bit: see block_protect() */
	if (machine.ncpu > 1)
		atomic_thread_fence(memory_order_seq_cst);
	for (pg = off >> 12; pg <= last >> 12; pg++) {
		if (!dirty_code(machine.dirty, pg))
			continue;
		jit_lock(c);
		a = pg == off >> 12 ? off & 0xfff : 0;
		z = pg == last >> 12 ? last & 0xfff : 0xfff;
		for (pb = &jit.page[pg]; (b = *pb);) {
			if (b->lo <= z && b->hi > a) {
				jit_exclusive(c);
				kill_block(b);
				*pb = b->page;
			} else
				pb = &b->page;
		}
		if (!jit.page[pg]) {
			jit.chunks[pg] = 0;
			code_bit(pg, false);
		}
		jit_unlock(c);
	}
}

void
code_sync_dma(struct cpu *c)
{
	struct dirty *d = machine.dirty;
	uint64_t i, n = (d->npage + 63) / 64, w;

	if (!d->any && !jit.syncing)
		return;
	/* who comes meanwhile waits until it is done */
	jit_lock(c);
	jit.syncing = true;
	if (!atomic_exchange(&d->any, 0))
		n = 0;
	for (i = 0; i < n; i++) {
		if (!d->bits[n + i])
			continue;
		w = atomic_exchange(&d->bits[n + i], 0);
		for (; w; w &= w - 1)
			code_wrote(c, (i * 64 + (uint64_t)__builtin_ctzll(w))
			    << 12, 4096);
	}
	jit.syncing = false;
	jit_unlock(c);
}

struct block *
block_of(const void *pc)
{
	const uint8_t *p = (const uint8_t *)pc - jit.rx_off;
	bool cold = p >= jit.rw + jit.cold;
	struct block *b;
	uint32_t i;

	if (p < jit.rw + jit.base || p >= jit.rw + jit.size)
		return NULL;
	i = jit.at[(size_t)(p - jit.rw) / GRAIN];
	if (i == 0)
		return NULL;
	for (i--; i < jit.nblk; i++) {
		b = &jit.blk[i];
		if (p < (cold ? b->cold : b->host))
			return NULL;
		if (p < (cold ? b->cold + b->cold_len : b->host + b->host_len))
			return b;
	}
	return NULL;
}

static int
pc_find(const struct block *b, const void *pc)
{
	const uint8_t *p = (const uint8_t *)pc - jit.rx_off;
	uint32_t off = p >= jit.rw + jit.cold ?
	    PC_COLD | (uint32_t)(p - b->cold) : (uint32_t)(p - b->host);
	int lo = 0, hi = b->npc, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (b->pc[mid].host <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? b->pc[lo - 1].guest : -1;
}

int
block_guest(const struct block *b, const void *pc)
{
	int g = pc_find(b, pc);

	return g < 0 ? -1 : g & ~PC_LAZY;
}

bool
block_lazy(const struct block *b, const void *pc)
{
	int g = pc_find(b, pc);

	return g >= 0 && g & PC_LAZY;
}

/*
 * The bit, and the chunks that block_commit() noted, come before the look at
 * who may be writing; those say so before they look at the bit or the chunks.
 */
void
block_protect(struct cpu *c, uint64_t gpa)
{
	uint64_t pg;
	unsigned i;
	uint8_t w;

	if (!ram_page(gpa, &pg))
		return;
	if (!dirty_code(machine.dirty, pg))
		code_bit(pg, true);
	else if (machine.ncpu > 1)
		atomic_thread_fence(memory_order_seq_cst);
	w = jit.wpage[pg];
	if (!w)
		return;
	if (w & ~writer_bit(c) || machine.ncpu > 8)
		jit_exclusive(c);
	jit.wpage[pg] = 0;
	for (i = 0; i < machine.ncpu; i++)
		if (w & writer_bit(machine.cpu[i]))
			tlb_drop_write(machine.cpu[i], pg << 12);
}

void
block_flush(void)
{
	unsigned i, m;
	uint64_t pg;

	for (i = 0; i < jit.nblk; i++)
		if (ram_page(jit.blk[i].key, &pg) && jit.page[pg]) {
			jit.page[pg] = NULL;
			jit.chunks[pg] = 0;
			code_bit(pg, false);
		}
	for (i = 0; i < jit.nhash; i++)
		jit.hash[i] = NULL;
	jit.nblk = jit.nex = jit.npc = jit.nins = 0;
	forget_at(jit.base, jit.used);
	forget_at(jit.cold, jit.cold_used);
	jit.used = jit.base;
	jit.cold_used = jit.cold;
	jit.n_flush++;
	perfmap_flush();
	profile_forget();
	for (i = 0; i < machine.ncpu; i++)
		for (m = 0; m < MMU_N; m++)
			jc_flush(machine.cpu[i], m);
}

void
block_info(FILE *f)
{
	uint64_t guest = jit.guest_bytes;

	fprintf(f, "blocks          %10u of %u\n", jit.nblk, jit.maxblk);
	fprintf(f, "code bytes      %10zu of %zu\n", jit.used, jit.cold);
	fprintf(f, "cold code bytes %10zu of %zu\n", jit.cold_used - jit.cold,
	    jit.size - jit.cold);
	fprintf(f, "guest bytes     %10llu\n", (unsigned long long)guest);
	fprintf(f, "translated      %10llu blocks\n",
	    (unsigned long long)jit.n_made);
	fprintf(f, "dropped         %10llu blocks\n",
	    (unsigned long long)jit.n_killed);
	fprintf(f, "linked          %10llu jumps\n",
	    (unsigned long long)jit.n_link);
	fprintf(f, "cache flushes   %10llu\n",
	    (unsigned long long)jit.n_flush);
	fprintf(f, "safe points     %10llu\n",
	    (unsigned long long)jit.n_exclusive);
}
