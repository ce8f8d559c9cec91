/*
 * access.c - memory and operand accesses made by C helpers: linear, segmented,
 * and by decoded operand.
 */
#include "x86.h"

#define OFF(l)	((l) & 0xfffull)

/* Linear addresses are 32 bits outside long mode. */
static inline uint64_t
wrap(const struct cpu *c, uint64_t lin)
{
	return c->efer & EFER_LMA ? lin : (uint32_t)lin;
}

static inline struct tlbe *
hit(struct cpu *c, uint64_t lin, unsigned acc, unsigned mmu)
{
	struct tlbe *t = &c->tlb[mmu][acc][lin >> 12 & (TLB_N - 1)];

	return t->tag == (lin & ~0xfffull) ? t : NULL;
}

/* Host page of plain memory for this access, or NULL with *gpa set. */
static uint8_t *
page(struct cpu *c, uint64_t lin, int access, unsigned mmu, uint64_t *gpa)
{
	struct tlbe *t = hit(c, lin, access == ACC_WRITE, mmu);
	struct walk w;

	if (t)
		return (uint8_t *)t->host;
	if (x86_walk(c, lin, access, mmu, &w) < 0)
		x86_pf(c, lin, w.err);
	if (access != ACC_EXEC) {
		tlb_fill(c, lin, access, mmu, &w);
		t = hit(c, lin, access == ACC_WRITE, mmu);
		if (t)
			return (uint8_t *)t->host;
	}
	*gpa = w.gpa & ~0xfffull;
	return NULL;
}

void *
x86_host(struct cpu *c, uint64_t lin, int access, unsigned mmu)
{
	uint64_t gpa;
	uint8_t *p = page(c, lin, access, mmu, &gpa);

	return p ? p + OFF(lin) : NULL;
}

void
x86_probe(struct cpu *c, uint64_t lin, unsigned n, int access, unsigned mmu)
{
	uint64_t gpa;

	page(c, lin, access, mmu, &gpa);
	if (OFF(lin) + n > 4096)
		page(c, wrap(c, (lin + n - 1) & ~0xfffull), access, mmu, &gpa);
}

static inline uint64_t
get(const uint8_t *p, unsigned n)
{
	switch (n) {
	case 1:
		return *p;
	case 2:
		return *(const uint16_t __attribute__((aligned(1))) *)p;
	case 4:
		return *(const uint32_t __attribute__((aligned(1))) *)p;
	}
	return *(const uint64_t __attribute__((aligned(1))) *)p;
}

static inline void
set(uint8_t *p, unsigned n, uint64_t v)
{
	switch (n) {
	case 1:
		*p = (uint8_t)v;
		break;
	case 2:
		*(uint16_t __attribute__((aligned(1))) *)p = (uint16_t)v;
		break;
	case 4:
		*(uint32_t __attribute__((aligned(1))) *)p = (uint32_t)v;
		break;
	default:
		*(uint64_t __attribute__((aligned(1))) *)p = v;
	}
}

/* Memory whose page is not for the fast path: ROM, device, holds code. */
static uint64_t
slow_read(struct cpu *c, uint64_t gpa, unsigned n)
{
	bool w;
	uint8_t *p = io_page(c, gpa & ~0xfffull, &w);

	return p ? get(p + OFF(gpa), n) : io_read(c, gpa, n);
}

static void
slow_write(struct cpu *c, uint64_t gpa, unsigned n, uint64_t v)
{
	bool w;
	uint8_t *p = io_page(c, gpa & ~0xfffull, &w);

	if (!p) {
		io_write(c, gpa, n, v);
	} else if (w) {
		p += OFF(gpa);
		set(p, n, v);
		code_wrote(c, (uint64_t)(p - machine.ram->base), n);
	}
}

void
x86_ld_bytes(struct cpu *c, uint64_t lin, void *buf, unsigned n, unsigned mmu)
{
	uint8_t *d = buf, *p;
	uint64_t gpa = 0;
	unsigned k, i;

	x86_probe(c, lin, n, ACC_READ, mmu);
	while (n) {
		k = 4096 - (unsigned)OFF(lin);
		if (k > n)
			k = n;
		p = page(c, lin, ACC_READ, mmu, &gpa);
		for (i = 0; i < k; i++)
			d[i] = p ? ((volatile uint8_t *)p)[OFF(lin) + i] :
			    (uint8_t)slow_read(c, gpa + OFF(lin) + i, 1);
		d += k;
		lin = wrap(c, lin + k);
		n -= k;
	}
}

void
x86_st_bytes(struct cpu *c, uint64_t lin, const void *buf, unsigned n,
    unsigned mmu)
{
	const uint8_t *s = buf;
	uint8_t *p;
	uint64_t gpa = 0;
	unsigned k, i;

	x86_probe(c, lin, n, ACC_WRITE, mmu);
	while (n) {
		k = 4096 - (unsigned)OFF(lin);
		if (k > n)
			k = n;
		p = page(c, lin, ACC_WRITE, mmu, &gpa);
		for (i = 0; i < k; i++) {
			if (p)
				((volatile uint8_t *)p)[OFF(lin) + i] = s[i];
			else
				slow_write(c, gpa + OFF(lin) + i, 1, s[i]);
		}
		s += k;
		lin = wrap(c, lin + k);
		n -= k;
	}
}

uint64_t
x86_ld(struct cpu *c, uint64_t lin, unsigned n, unsigned mmu)
{
	uint64_t gpa, v = 0;
	uint8_t *p;

	if (OFF(lin) + n > 4096) {
		x86_ld_bytes(c, lin, &v, n, mmu);
		return v;
	}
	p = page(c, lin, ACC_READ, mmu, &gpa);
	return p ? get(p + OFF(lin), n) : slow_read(c, gpa + OFF(lin), n);
}

void
x86_st(struct cpu *c, uint64_t lin, unsigned n, uint64_t v, unsigned mmu)
{
	uint64_t gpa;
	uint8_t *p;

	if (OFF(lin) + n > 4096) {
		x86_st_bytes(c, lin, &v, n, mmu);
		return;
	}
	p = page(c, lin, ACC_WRITE, mmu, &gpa);
	if (p)
		set(p + OFF(lin), n, v);
	else
		slow_write(c, gpa + OFF(lin), n, v);
}

/* ---------------------------------------------------------------- segments */

/* SDM 3A 5.3 (limits), 5.4 (types), 3.3.7.1 (canonical). */
uint64_t
x86_linear(struct cpu *c, unsigned seg, uint64_t off, unsigned n, int access)
{
	const struct seg *s = &c->seg[seg];
	int vec = seg == SS ? VEC_SS : VEC_GP;
	uint64_t lin, last;

	if ((c->mode & M_SIZE) == M_64) {
		lin = off + (seg == FS || seg == GS ? s->base : 0);
		if ((int64_t)(lin << 16) >> 16 != (int64_t)lin ||
		    (int64_t)((lin + n - 1) << 16) >> 16 !=
		    (int64_t)(lin + n - 1))
			x86_raise(c, vec, 0);
		return lin;
	}
	off &= 0xffffffff;
	last = off + n - 1;
	if (c->mode & M_PE && !(c->mode & M_VM86)) {
		if (s->attr & SEG_UNUSABLE || !(s->attr & SEG_P))
			x86_raise(c, vec, 0);
		if (s->attr & 8) {		/* code */
			if (access == ACC_WRITE ||
			    (access == ACC_READ && !(s->attr & 2)))
				x86_raise(c, vec, 0);
		} else if (access == ACC_WRITE && !(s->attr & 2))
			x86_raise(c, vec, 0);
		if (!(s->attr & 8) && s->attr & 4) {	/* expand down */
			uint64_t top = s->attr & SEG_DB ? 0xffffffff : 0xffff;

			if (off <= s->limit || last > top)
				x86_raise(c, vec, 0);
			return (uint32_t)(s->base + off);
		}
	}
	if (last > s->limit)
		x86_raise(c, vec, 0);
	return (uint32_t)(s->base + off);
}

/* ---------------------------------------------------------------- operands */

uint64_t
x86_ea(struct cpu *c, const struct insn *in, const struct operand *o)
{
	uint64_t a = (uint64_t)o->disp;

	if (o->base == 16)
		a += c->rip + in->len;
	else if (o->base != 0xff)
		a += c->gpr[o->base];
	if (o->index != 0xff)
		a += c->gpr[o->index] * (o->scale ? o->scale : 1);
	return in->addrsize == 8 ? a : in->addrsize == 4 ? (uint32_t)a :
	    (uint16_t)a;
}

uint64_t
x86_get(struct cpu *c, const struct insn *in, unsigned i)
{
	const struct operand *o = &in->op[i];
	uint64_t v = 0;

	switch (o->type) {
	case OP_REG:
		if (o->size == 1 && o->reg >= 16)
			return (uint8_t)(c->gpr[o->reg - 16] >> 8);
		v = c->gpr[o->reg];
		break;
	case OP_IMM:
		v = (uint64_t)o->disp;
		break;
	case OP_SREG:
		return c->seg[o->reg].sel;
	case OP_MEM:
		return x86_ld(c, x86_linear(c, o->seg, x86_ea(c, in, o),
		    o->size, ACC_READ), o->size, MODE_MMU(c->mode));
	}
	return o->size == 1 ? (uint8_t)v : o->size == 2 ? (uint16_t)v :
	    o->size == 4 ? (uint32_t)v : v;
}

void
x86_put(struct cpu *c, const struct insn *in, unsigned i, uint64_t v)
{
	const struct operand *o = &in->op[i];
	uint64_t *r;

	if (o->type == OP_MEM) {
		x86_st(c, x86_linear(c, o->seg, x86_ea(c, in, o), o->size,
		    ACC_WRITE), o->size, v, MODE_MMU(c->mode));
		return;
	}
	r = &c->gpr[o->size == 1 && o->reg >= 16 ? o->reg - 16 : o->reg];
	switch (o->size) {
	case 1:
		if (o->reg >= 16)
			*r = (*r & ~0xff00ull) | (v & 0xff) << 8;
		else
			*r = (*r & ~0xffull) | (v & 0xff);
		break;
	case 2:
		*r = (*r & ~0xffffull) | (v & 0xffff);
		break;
	case 4:
		*r = (uint32_t)v;
		break;
	default:
		*r = v;
	}
}

/* ------------------------------------------------------------------- fetch */

void
x86_fetch(struct cpu *c, struct insn *in)
{
	uint64_t lin, gpa, off = c->rip;
	unsigned mmu = MODE_CPL(c->mode) == 3 ? 2 : MODE_MMU(c->mode), n, k, i;
	uint8_t buf[15], *p;
	struct walk w;
	bool wr;
	int len;

	for (n = 0;; n += k) {
		lin = off + n;
		k = 15 - n;
		if ((c->mode & M_SIZE) != M_64) {
			if (lin > c->seg[CS].limit)
				x86_gp(c, 0);
			if (c->seg[CS].limit - lin < k - 1)
				k = (unsigned)(c->seg[CS].limit - lin) + 1;
			lin = (uint32_t)(lin + c->seg[CS].base);
		} else if ((int64_t)(lin << 16) >> 16 != (int64_t)lin)
			x86_gp(c, 0);
		if (k > 4096 - (unsigned)OFF(lin))
			k = 4096 - (unsigned)OFF(lin);
		if (x86_walk(c, lin, ACC_EXEC, mmu, &w) < 0)
			x86_pf(c, lin, w.err);
		gpa = w.gpa;
		p = io_page(c, gpa & ~0xfffull, &wr);
		for (i = 0; i < k; i++)
			buf[n + i] = p ? p[OFF(gpa) + i] :
			    (uint8_t)io_read(c, gpa + i, 1);
		len = x86_decode(c->mode, buf, n + k, in);
		if (len > 0)
			return;
		if (len == 0 && in->len == 16)
			x86_gp(c, 0);		/* longer than 15 bytes */
		if (len == 0)
			x86_ud(c);
	}
}

uint64_t
x86_debug_phys(struct cpu *c, uint64_t lin)
{
	uint64_t table, e, size;
	uint64_t *p;
	uint32_t *q;
	int level;

	if (!(c->cr0 & CR0_PG))
		return (uint32_t)lin;
	if (!(c->cr4 & CR4_PAE)) {
		q = ram_at(machine.ram, (c->cr3 & 0xfffff000) |
		    (lin >> 20 & 0xffc), 4);
		if (!q || !(*q & 1))
			return ~0ull;
		if (*q & 0x80)
			return (*q & 0xffc00000ull) | (lin & 0x3fffff);
		q = ram_at(machine.ram, (*q & 0xfffff000) | (lin >> 10 & 0xffc),
		    4);
		return q && *q & 1 ? (*q & 0xfffff000ull) | OFF(lin) : ~0ull;
	}
	level = c->efer & EFER_LMA ? 4 : 3;
	table = level == 4 ? c->cr3 & 0x000ffffffffff000ull :
	    c->cr3 & 0xffffffe0;
	for (;; level--) {
		size = 1ull << (12 + 9 * (level - 1));
		p = ram_at(machine.ram, table +
		    (lin / size & (level == 3 && !(c->efer & EFER_LMA) ? 3 :
		    511)) * 8, 8);
		if (!p || !((e = *p) & 1))
			return ~0ull;
		table = e & 0x000ffffffffff000ull;
		if (level == 1 || (e & 0x80 && level < 4))
			return (table & ~(size - 1)) | (lin & (size - 1));
	}
}
