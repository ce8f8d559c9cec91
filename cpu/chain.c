/*
 * chain.c - which block comes next: from rip to translated code, through the
 * jump cache, the instruction TLB and the translation cache.
 */
#include "x86/jit.h"

/* First entry of its line; stub.c has the same. */
static unsigned
jc_line(uint64_t rip)
{
	uint64_t h = 0;

	__asm__("crc32q %1, %0" : "+r"(h) : "r"(rip));
	return h / 16 & (JC_N - JC_WAYS);
}

/* From now on emitted code finds the block by itself. */
static void
jc_put(struct cpu *c, const struct block *b, bool global)
{
	unsigned set = MODE_MMU(c->mode), i = jc_line(c->rip), bit, k;
	struct jcache *j = &c->jc[set];

	if (!(c->mode & M_FLAT_CS) || (c->mode & M_SIZE) == M_16)
		return;
	if (c->jc_mode[set] != c->mode) {
		jc_flush(c, set);
		c->jc_mode[set] = c->mode;
	}
	for (k = JC_WAYS - 1; k > 0; k--)
		j->e[i + k] = j->e[i + k - 1];
	j->e[i].tag = c->rip;
	j->e[i].host = (uint64_t)(b->entry + jit.rx_off);
	bit = jc_page_bit(c->ripbase >> 12);
	j->pages[bit / 64] |= 1ull << (bit % 64);
	if (!global)
		flush_log(&c->jc_log[set], (uint16_t)i);	/* the line */
}

/* Page of code at a linear address, its bytes or NULL if it is not memory. */
static const struct itlbe *
code_page(struct cpu *c, uint64_t lin)
{
	unsigned u = MODE_CPL(c->mode) == 3, i = lin >> 12 & (ITLB_N - 1);
	struct itlbe *t = &c->itlb[u][i];
	struct walk w;
	bool writable;

	if (t->tag != (lin & ~0xfffull)) {
		if (x86_walk(c, lin, ACC_EXEC,
		    u ? 2 : MODE_MMU(c->mode), &w) < 0)
			x86_pf(c, lin, w.err);
		code_sync_dma(c);
		if (w.page > 4096)
			c->large[lin >> 36 & 15] |= 1ull << (lin >> 30 & 63);
		t->page = w.gpa & ~0xfffull;
		t->host = io_page(c, w.gpa & ~0xfffull, &writable);
		t->tag = lin & ~0xfffull;
		t->global = w.global;
		if (!w.global)
			flush_log(&c->itlb_log, (uint16_t)(u * ITLB_N + i));
	}
	return t;
}

static uint64_t
code_linear(struct cpu *c)
{
	uint64_t lin = c->rip;

	if ((c->mode & M_SIZE) != M_64) {
		if (c->rip > c->seg[CS].limit)
			x86_gp(c, 0);
		return (uint32_t)(c->seg[CS].base + c->rip);
	}
	if ((int64_t)(lin << 16) >> 16 != (int64_t)lin)
		x86_gp(c, 0);
	return lin;
}

/* The block of one instruction that lies on this page and the next. */
static struct block *
find_crossing(uint64_t gpa, uint32_t mode, uint64_t gpa2)
{
	struct block *b = block_find(gpa, mode | MODE_CROSS);

	while (b && b->gpa2 != gpa2)
		b = block_next(b);
	return b;
}

static struct block *
crossing(struct cpu *c, uint64_t lin, uint64_t gpa, const uint8_t *page,
    bool *global)
{
	uint64_t next = (lin | 0xfff) + 1;
	unsigned n = 4096 - (lin & 0xfff);
	const struct itlbe *t;
	struct block *b;
	struct insn in;

	if (!(c->mode & M_FLAT_CS) || n > 14)
		return NULL;
	if (!block_find(gpa, c->mode | MODE_CROSS)) {
		cpu_fpu_flush(c);
		if (x86_decode(c->mode, page + (lin & 0xfff), n, &in) != -1)
			return NULL;
	}
	t = code_page(c, (c->mode & M_SIZE) == M_64 ? next : (uint32_t)next);
	if (!t->host)
		return NULL;
	*global = *global && t->global;
	b = find_crossing(gpa, c->mode, t->page);
	if (b)
		return b;
	cpu_fpu_flush(c);
	jit_lock(c);
	b = find_crossing(gpa, c->mode, t->page);
	if (!b && block_room())
		b = lift_crossing(c, gpa, page, t->page, t->host);
	jit_unlock(c);
	return b;
}

static struct block *
make(struct cpu *c, uint64_t gpa, const uint8_t *page, uint32_t mode)
{
	struct block *b;

	cpu_fpu_flush(c);
	jit_lock(c);
	b = block_find(gpa, mode);
	if (!b && block_room())
		b = lift(c, gpa, page, mode);
	jit_unlock(c);
	return b;
}

struct block *
block_here(struct cpu *c)
{
	uint64_t gpa, lin = code_linear(c);
	const struct itlbe *t = code_page(c, lin);
	const uint8_t *host = t->host;
	bool global = t->global;
	uint32_t mode = c->mode;
	struct block *b;

	if (!host)
		return NULL;
	gpa = t->page | (lin & 0xfff);
	/* a group of accesses that is on two pages: this once without it */
	if (c->split == c->rip)
		mode |= MODE_SPLIT;
	c->split = ~0ull;
	b = block_find(gpa, mode);
	if (!b && jit_on.crossing)
		b = crossing(c, lin, gpa, host, &global);
	if (!b)
		b = make(c, gpa, host, mode);
	c->ripbase = c->rip - (lin & 0xfff);
	/* a block knows no limit */
	if (b && !(c->mode & M_FLAT_CS) &&
	    c->rip + b->hi - 1 - (lin & 0xfff) > c->seg[CS].limit)
		return NULL;
	if (b && !machine.check && jit_on.jcache && !(mode & MODE_SPLIT))
		jc_put(c, b, global);
	return b;
}

const uint8_t *
jit_next(struct cpu *c)
{
	unsigned set = MODE_MMU(c->mode), i, k;
	const uint8_t *to = NULL;
	struct block *b;

	if (c->req || c->halted || c->wait_sipi || c->shadow ||
	    c->exc_pending >= 0 || c->mode & (M_TF | M_BRK) || machine.check ||
	    atomic_load_explicit(c->poll, memory_order_relaxed))
		goto leave;
	i = jc_line(c->rip);
	if (c->jc_mode[set] == c->mode)
		for (k = 0; k < JC_WAYS && !to; k++)
			if (c->jc[set].e[i + k].tag == c->rip)
				to = (const uint8_t *)c->jc[set].e[i + k].host;
	if (to) {
		c->ripbase = c->rip & ~0xfffull;
	} else {
		c->n_find++;
		b = block_here(c);
		if (!b)
			goto leave;
		to = b->entry + jit.rx_off;
	}
	c->lazy = flags_encode(c->eflags);
	if (!c->xlive)
		cpu_fpu_load(c);
	return to;
leave:
	/* the flags are not the host's on this way out */
	c->save[1] = (c->eflags & FL_STATUS) | 2;
	return stub_away + jit.rx_off;
}
