/*
 * segment.c - descriptors and segment registers (SDM 3A ch. 3 and 5).
 */
#include "sys.h"

/* Linear address of a selector's descriptor; false: beyond its table. */
bool
desc_find(struct cpu *c, uint16_t sel, unsigned size, uint64_t *lin)
{
	uint64_t base = c->gdt.base;
	uint32_t limit = c->gdt.limit, off = sel & ~7u;

	if (sel & 4) {
		if (c->seg[LDTR].attr & SEG_UNUSABLE)
			return false;
		base = c->seg[LDTR].base;
		limit = c->seg[LDTR].limit;
	}
	if (off + size - 1 > limit)
		return false;
	*lin = base + off;
	if (!(c->efer & EFER_LMA))
		*lin = (uint32_t)*lin;
	return true;
}

/* Read a descriptor or raise `vec` with the selector as error code. */
uint64_t
desc_read(struct cpu *c, uint16_t sel, int vec, uint32_t ext, uint64_t *lin)
{
	if (!desc_find(c, sel, 8, lin))
		x86_raise(c, vec, (sel & ~3u) | ext);
	return x86_ld(c, *lin, 8, 0);
}

void
desc_seg(uint64_t d, uint16_t sel, struct seg *s)
{
	s->sel = sel;
	s->attr = (uint32_t)(d >> 40) & 0xf0ff;
	s->base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
	s->limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));
	if (s->attr & SEG_G)
		s->limit = s->limit << 12 | 0xfff;
}

void
desc_accessed(struct cpu *c, uint64_t lin, uint64_t d)
{
	if (!(d >> 40 & 1))
		x86_st(c, lin + 5, 1, (d >> 40 & 0xff) | 1, 0);
}

void
seg_real(struct cpu *c, unsigned seg, uint16_t sel)
{
	struct seg *s = &c->seg[seg];

	s->sel = sel;
	s->base = (uint64_t)sel << 4;
	if (c->eflags & FL_VM) {
		s->limit = 0xffff;
		s->attr = 0xf3;
	} else {
		/* real mode keeps limits ("unreal") */
		s->attr = (s->attr & ~(uint32_t)(SEG_UNUSABLE | 0x60)) | 0x93;
	}
}

void
seg_null(struct cpu *c, unsigned seg, uint16_t sel)
{
	c->seg[seg].sel = sel;
	c->seg[seg].attr = SEG_UNUSABLE;
	if (!(c->efer & EFER_LMA))
		c->seg[seg].base = 0;
	else if (seg != FS && seg != GS)
		c->seg[seg].base = 0;
	c->seg[seg].limit = 0;
}

/* Load SS for privilege level `cpl` with fault `vec` (#GP, #TS). */
void
seg_load_ss(struct cpu *c, uint16_t sel, unsigned cpl, int vec, uint32_t ext,
    struct seg *out)
{
	uint64_t lin, d;
	unsigned a;

	if ((sel & ~3u) == 0) {
		if ((c->mode & M_SIZE) == M_64 && cpl != 3 && (sel & 3u) == cpl
		    && vec == VEC_GP) {
			*out = (struct seg){ .sel = sel,
				.attr = SEG_UNUSABLE | cpl << 5 };
			return;
		}
		x86_raise(c, vec, ext);
	}
	d = desc_read(c, sel, vec, ext, &lin);
	a = d >> 40 & 0xff;
	if ((sel & 3u) != cpl || SEG_DPL(a) != cpl || !(a & SEG_S) || a & 8 ||
	    !(a & 2))
		x86_raise(c, vec, (sel & ~3u) | ext);
	if (!(a & SEG_P))
		x86_raise(c, VEC_SS, (sel & ~3u) | ext);
	desc_accessed(c, lin, d);
	desc_seg(d | 1ull << 40, sel, out);
}

/* MOV/POP/Lxx to ES, SS, DS, FS, GS */
void
x86_load_seg(struct cpu *c, unsigned seg, uint16_t sel)
{
	struct seg s;

	if (!(c->cr0 & CR0_PE) || c->eflags & FL_VM) {
		seg_real(c, seg, sel);
		x86_mode(c);
		return;
	}
	if (seg == SS) {
		seg_load_ss(c, sel, c->cpl, VEC_GP, 0, &s);
		c->seg[SS] = s;
		x86_mode(c);
		return;
	}
	seg_load_data(c, seg, sel, VEC_GP);
	x86_mode(c);
}

/* ES, DS, FS, GS in protected mode; vec: #GP, or #TS in a task switch */
void
seg_load_data(struct cpu *c, unsigned seg, uint16_t sel, int vec)
{
	uint64_t lin, d;
	unsigned a;

	if ((sel & ~3u) == 0) {
		seg_null(c, seg, sel);
		c->seg[seg].base = 0;
		return;
	}
	d = desc_read(c, sel, vec, 0, &lin);
	a = d >> 40 & 0xff;
	if (!(a & SEG_S) || ((a & 8) && !(a & 2)))
		x86_raise(c, vec, sel & ~3u);
	if (!((a & 0xc) == 0xc) &&
	    ((sel & 3u) > SEG_DPL(a) || c->cpl > SEG_DPL(a)))
		x86_raise(c, vec, sel & ~3u);
	if (!(a & SEG_P))
		x86_raise(c, VEC_NP, sel & ~3u);
	desc_accessed(c, lin, d);
	desc_seg(d | 1ull << 40, sel, &c->seg[seg]);
}

/* After a return to an outer ring: what may no longer be held is nulled. */
void
seg_drop(struct cpu *c)
{
	static const uint8_t r[] = { ES, DS, FS, GS };
	unsigned i;

	for (i = 0; i < 4; i++) {
		struct seg *s = &c->seg[r[i]];

		if (s->attr & SEG_UNUSABLE)
			continue;
		if (SEG_DPL(s->attr) < c->cpl && (s->attr & 0xc) != 0xc)
			seg_null(c, r[i], 0);
	}
}

/* ---------------------------------------------------------- system segments */

void
seg_lldt(struct cpu *c, uint16_t sel, int vec)
{
	uint64_t lin, d, hi = 0;

	if ((sel & ~3u) == 0) {
		c->seg[LDTR] = (struct seg){ .sel = sel, .attr = SEG_UNUSABLE };
		return;
	}
	if (sel & 4 || !desc_find(c, sel, c->efer & EFER_LMA ? 16 : 8, &lin))
		x86_raise(c, vec, sel & ~3u);
	d = x86_ld(c, lin, 8, 0);
	if ((d >> 40 & 0x1f) != 2)
		x86_raise(c, vec, sel & ~3u);
	if (!(d >> 40 & SEG_P))
		x86_raise(c, vec == VEC_TS ? VEC_TS : VEC_NP, sel & ~3u);
	if (c->efer & EFER_LMA) {
		hi = x86_ld(c, lin + 8, 8, 0);
		if (hi >> 40 & 0x1f || !canonical((d >> 16 & 0xffffff) |
		    (d >> 56) << 24 | hi << 32))
			x86_gp(c, sel & ~3u);
	}
	desc_seg(d, sel, &c->seg[LDTR]);
	c->seg[LDTR].base |= hi << 32;
}

void
seg_ltr(struct cpu *c, uint16_t sel)
{
	uint64_t lin, d, hi = 0;
	unsigned type;

	if ((sel & ~3u) == 0 || sel & 4 ||
	    !desc_find(c, sel, c->efer & EFER_LMA ? 16 : 8, &lin))
		x86_gp(c, sel & ~3u);
	d = x86_ld(c, lin, 8, 0);
	type = d >> 40 & 0x1f;
	if (type != 9 && (type != 1 || c->efer & EFER_LMA))
		x86_gp(c, sel & ~3u);
	if (!(d >> 40 & SEG_P))
		x86_raise(c, VEC_NP, sel & ~3u);
	if (c->efer & EFER_LMA) {
		hi = x86_ld(c, lin + 8, 8, 0);
		if (hi >> 40 & 0x1f || !canonical((d >> 16 & 0xffffff) |
		    (d >> 56) << 24 | hi << 32))
			x86_gp(c, sel & ~3u);
	}
	x86_st(c, lin + 5, 1, (d >> 40 & 0xff) | 2, 0);
	desc_seg(d | 2ull << 40, sel, &c->seg[TR]);
	c->seg[TR].base |= hi << 32;
}

/* LAR, LSL, VERR, VERW: a descriptor the caller may see, or false. */
bool
seg_peek(struct cpu *c, uint16_t sel, uint64_t *d)
{
	uint64_t lin;
	unsigned a;

	if ((sel & ~3u) == 0 || !desc_find(c, sel, 8, &lin))
		return false;
	*d = x86_ld(c, lin, 8, 0);
	a = *d >> 40 & 0xff;
	if ((a & SEG_S) && (a & 0xc) == 0xc)
		return true;
	return SEG_DPL(a) >= c->cpl && SEG_DPL(a) >= (sel & 3u);
}

/* -------------------------------------------------------------------- mode */

/* Does it reach 4 GiB and, for data, let them be read and written? */
static bool
big(const struct seg *s, bool data)
{
	return s->limit == 0xffffffff &&
	    !(s->attr & SEG_UNUSABLE) && s->attr & SEG_P &&
	    (!data || ((s->attr & 0xa) == 2 && !(s->attr & 4)));
}

static bool
flat(const struct seg *s, bool data)
{
	return s->base == 0 && big(s, data);
}

void
x86_mode(struct cpu *c)
{
	uint32_t m;
	bool vm = c->eflags & FL_VM;

	if (!(c->cr0 & CR0_PE))
		m = M_16;
	else if (vm)
		m = M_16 | M_PE | M_VM86;
	else if (c->efer & EFER_LMA && c->seg[CS].attr & SEG_L)
		m = M_64 | M_PE | M_SS32 | M_FLAT_ES | M_FLAT_CS | M_FLAT_SS |
		    M_FLAT_DS;
	else
		m = M_PE | (c->seg[CS].attr & SEG_DB ? M_32 : M_16);
	if (!(c->cr0 & CR0_PE))
		c->cpl = 0;
	else if (vm)
		c->cpl = 3;
	m |= (uint32_t)c->cpl << 3;
	if ((m & M_SIZE) != M_64) {
		if (c->seg[SS].attr & SEG_DB && !vm && m & M_PE)
			m |= M_SS32;
		if (flat(&c->seg[ES], true))
			m |= M_FLAT_ES;
		if (flat(&c->seg[CS], false))
			m |= M_FLAT_CS;
		if (flat(&c->seg[SS], true))
			m |= M_FLAT_SS;
		if (flat(&c->seg[DS], true))
			m |= M_FLAT_DS;
		if (big(&c->seg[FS], true))
			m |= M_BIG_FS;
		if (big(&c->seg[GS], true))
			m |= M_BIG_GS;
	}
	if (c->eflags & FL_TF)
		m |= M_TF;
	if (!(c->cr0 & (CR0_EM | CR0_TS))) {
		m |= M_FPU;
		if (c->cr4 & CR4_OSFXSR) {
			m |= M_SSE;
			if (c->cr4 & CR4_OSXSAVE && (c->xcr0 & 6) == 6 &&
			    m & M_PE && !vm)
				m |= M_AVX;
		}
	}
	if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		m |= M_WAIT;
	if (c->cpl == 3)
		m |= 2 << 15;
	else if (c->cr4 & CR4_SMAP && !(c->eflags & FL_AC))
		m |= 1 << 15;
	if (c->dr[7] & 0xff)
		m |= M_BRK;
	if (c->cr4 & CR4_SMAP && c->cpl == 0)
		m |= M_SMAP;
	if (c->cr4 & CR4_TSD && c->cpl != 0)
		m |= M_TSD;
	if (c->cr4 & CR4_FSGSBASE)
		m |= M_FSGS;
	c->mode = m;
}
