/*
 * chain.c - which block comes next: from rip to translated code, through the
 * jump cache, the instruction TLB and the translation cache.
 */
#include "x86/jit.h"

static unsigned
jc_index(uint64_t rip)
{
	uint64_t h = 0;

	__asm__("crc32q %1, %0" : "+r"(h) : "r"(rip));
	return h & (JC_N - 1);
}

/* From now on emitted code finds the block by itself. */
static void
jc_put(struct cpu *c, const struct block *b, bool global)
{
	unsigned set = MODE_MMU(c->mode), i = jc_index(c->rip);
	struct jcache *j = &c->jc[set];
	unsigned bit;

	if (!(c->mode & M_FLAT_CS) || (c->mode & M_SIZE) == M_16)
		return;
	if (c->jc_mode[set] != c->mode) {
		jc_flush(c, set);
		c->jc_mode[set] = c->mode;
	}
	j->e[i].tag = c->rip;
	j->e[i].host = (uint64_t)(b->entry + jit.rx_off);
	j->e[i].ripbase = c->ripbase;
	bit = jc_page_bit(c->ripbase >> 12);
	j->pages[bit / 64] |= 1ull << (bit % 64);
	if (!global)
		flush_log(&c->jc_log[set], (uint16_t)i);
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
		if (machine.dirty->any)
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

static void
make_room(struct cpu *c)
{
	cpu_fpu_flush(c);
	if (!block_room())
		block_flush(c);
	c->n_translate++;
}

/* The block of one instruction that lies on this page and the next. */
static struct block *
crossing(struct cpu *c, uint64_t gpa, const uint8_t *page, bool *global)
{
	uint64_t lin = code_linear(c), next = (lin | 0xfff) + 1;
	unsigned n = 4096 - (lin & 0xfff), i;
	uint32_t mode = c->mode | MODE_CROSS;
	const struct itlbe *t;
	uint8_t buf[15];
	struct block *b;
	struct insn in;

	if (!(c->mode & M_FLAT_CS) || n > 14)
		return NULL;
	b = block_find(gpa, mode);
	if (!b) {
		cpu_fpu_flush(c);
		if (x86_decode(c->mode, page + (lin & 0xfff), n, &in) != -1)
			return NULL;
	}
	t = code_page(c, (c->mode & M_SIZE) == M_64 ? next : (uint32_t)next);
	if (!t->host)
		return NULL;
	for (; b; b = block_next(b))
		if (b->gpa2 == t->page)
			break;
	*global = *global && t->global;
	if (b)
		return b;
	for (i = 0; i < 15; i++)
		buf[i] = i < n ? page[(lin & 0xfff) + i] : t->host[i - n];
	make_room(c);
	if (x86_decode(c->mode, buf, 15, &in) <= (int)n || !x86_allowed(c, &in))
		return NULL;
	return lift_crossing(c, gpa, page, &in, t->page);
}

struct block *
block_here(struct cpu *c)
{
	uint64_t gpa, lin = code_linear(c);
	const struct itlbe *t = code_page(c, lin);
	bool global = t->global;
	struct block *b;

	if (!t->host)
		return NULL;
	gpa = t->page | (lin & 0xfff);
	b = block_find(gpa, c->mode);
	if (!b && jit_on.crossing)
		b = crossing(c, gpa, t->host, &global);
	if (!b) {
		make_room(c);
		b = lift(c, gpa, t->host);
	}
	c->ripbase = c->rip - (lin & 0xfff);
	/* a block knows no limit */
	if (b && !(c->mode & M_FLAT_CS) &&
	    c->rip + b->hi - 1 - (lin & 0xfff) > c->seg[CS].limit)
		return NULL;
	if (b && !machine.check && jit_on.jcache)
		jc_put(c, b, global);
	return b;
}

const uint8_t *
jit_next(struct cpu *c)
{
	unsigned set = MODE_MMU(c->mode), i;
	const uint8_t *to;
	struct block *b;

	if (c->req || c->halted || c->wait_sipi || c->shadow ||
	    c->exc_pending >= 0 || c->mode & (M_TF | M_BRK) || machine.check ||
	    atomic_load_explicit(c->poll, memory_order_relaxed))
		goto leave;
	i = jc_index(c->rip);
	if (c->jc_mode[set] == c->mode && c->jc[set].e[i].tag == c->rip) {
		c->ripbase = c->jc[set].e[i].ripbase;
		to = (const uint8_t *)c->jc[set].e[i].host;
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
