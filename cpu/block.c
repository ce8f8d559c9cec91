/*
 * block.c - translation blocks: finding, making, linking and dropping them.
 * See block.h for what a block is.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "block.h"

struct jit jit;

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
	if (!jit.blk || !jit.ex || !jit.ins || !jit.pc || !jit.hash || !jit.page ||
	    !jit.wpage || !jit.chunks) {
		errno = ENOMEM;
		return -1;
	}
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

	for (b = jit.hash[bucket(key, mode)]; b; b = b->hash)
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
	return jit.used + BLOCK_ROOM <= jit.size && jit.nblk + 2 < jit.maxblk &&
	    jit.nex + 2 * BLOCK_INSNS <= jit.maxex &&
	    jit.npc + 8 * BLOCK_INSNS <= jit.maxpc &&
	    jit.nins + BLOCK_INSNS <= jit.maxins;
}

struct block *
block_new(uint64_t key, uint32_t mode)
{
	struct block *b = &jit.blk[jit.nblk];

	*b = (struct block){ .key = key, .mode = mode,
		.host = jit.rw + jit.used, .pc = jit.pc + jit.npc };
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

/* Bits of the chunks that page offsets lo to hi - 1 are in. */
static uint64_t
chunks(unsigned lo, unsigned hi)
{
	unsigned a = lo / 64, z = hi > 4096 ? 63 : (hi - 1) / 64;

	return ~0ull << a & ~0ull >> (63 - z);
}

uint8_t *
code_beside(uint64_t gpa, unsigned n)
{
	uint64_t pg;
	unsigned off = gpa & 0xfff;

	if (!ram_page(gpa, &pg) || jit.chunks[pg] & chunks(off, off + n))
		return NULL;
	return machine.ram->base + (pg << 12) + off;
}

void
block_commit(struct block *b, const uint8_t *end)
{
	unsigned i = bucket(b->key, b->mode);
	uint64_t pg;

	b->host_len = (uint32_t)(end - b->host);
	jit.used = (size_t)(end - jit.rw + 15) & ~15ul;
	jit.npc += b->npc;
	jit.nblk++;
	jit.n_made++;
	b->hash = jit.hash[i];
	jit.hash[i] = b;
	if (ram_page(b->key, &pg)) {
		b->page = jit.page[pg];
		jit.page[pg] = b;
		jit.chunks[pg] |= chunks(b->lo, b->hi);
	}
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
		.host = jit.rw + jit.used, .twin = b, .page = jit.page[pg] };
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

static uint8_t *
rx(uint8_t *rw)
{
	return rw + jit.rx_off;
}

void
block_link(struct exit_rec *x, struct block *to)
{
	if (x->to || !x->patch || to->dead || x->from->dead)
		return;
	e_patch(x->patch, to->link);
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
block_drop(const struct block *b)
{
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

	for (pg = off >> 12; pg <= last >> 12; pg++) {
		if (!dirty_code(machine.dirty, pg))
			continue;
		a = pg == off >> 12 ? off & 0xfff : 0;
		z = pg == last >> 12 ? last & 0xfff : 0xfff;
		for (pb = &jit.page[pg]; (b = *pb);) {
			if (b->lo <= z && b->hi > a) {
				kill_block(b);
				*pb = b->page;
			} else
				pb = &b->page;
		}
		if (!jit.page[pg]) {
			jit.chunks[pg] = 0;
			code_bit(pg, false);
		}
	}
}

void
code_sync_dma(struct cpu *c)
{
	struct dirty *d = machine.dirty;
	uint64_t i, n = (d->npage + 63) / 64, w;

	if (!atomic_exchange(&d->any, 0))
		return;
	for (i = 0; i < n; i++) {
		if (!d->bits[n + i])
			continue;
		w = atomic_exchange(&d->bits[n + i], 0);
		for (; w; w &= w - 1)
			code_wrote(c, (i * 64 + (uint64_t)__builtin_ctzll(w))
			    << 12, 4096);
	}
}

struct block *
block_of(const void *pc)
{
	const uint8_t *p = (const uint8_t *)pc - jit.rx_off;
	uint32_t lo = 0, hi = jit.nblk, mid;

	if (p < jit.rw + jit.base || p >= jit.rw + jit.size)
		return NULL;
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (jit.blk[mid].host <= p)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0 || p >= jit.blk[lo - 1].host + jit.blk[lo - 1].host_len)
		return NULL;
	return &jit.blk[lo - 1];
}

static int
pc_find(const struct block *b, const void *pc)
{
	uint32_t off = (uint32_t)((const uint8_t *)pc - rx(b->host));
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

/* A page is about to hold code: writes to it must take the slow path. */
void
block_protect(struct cpu *c, uint64_t gpa)
{
	uint64_t pg;
	unsigned i;

	if (!ram_page(gpa, &pg) || dirty_code(machine.dirty, pg))
		return;
	code_bit(pg, true);
	if (jit.wpage[pg]) {
		jit.wpage[pg] = 0;
		for (i = 0; i < machine.ncpu; i++)
			tlb_drop_write(machine.cpu[i], pg << 12);
	}
}

void
block_flush(struct cpu *c)
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
	jit.used = jit.base;
	jit.n_flush++;
	perfmap_flush();
	for (i = 0; i < machine.ncpu; i++)
		for (m = 0; m < MMU_N; m++)
			jc_flush(machine.cpu[i], m);
}

void
code_flush_all(struct cpu *c)
{
	block_flush(c);
}

void
block_info(FILE *f)
{
	uint64_t guest = jit.guest_bytes;

	fprintf(f, "blocks          %10u of %u\n", jit.nblk, jit.maxblk);
	fprintf(f, "code bytes      %10zu of %zu\n", jit.used, jit.size);
	fprintf(f, "guest bytes     %10llu\n", (unsigned long long)guest);
	fprintf(f, "translated      %10llu blocks\n",
	    (unsigned long long)jit.n_made);
	fprintf(f, "dropped         %10llu blocks\n",
	    (unsigned long long)jit.n_killed);
	fprintf(f, "linked          %10llu jumps\n",
	    (unsigned long long)jit.n_link);
	fprintf(f, "cache flushes   %10llu\n",
	    (unsigned long long)jit.n_flush);
}
