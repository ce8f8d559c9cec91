/*
 * far.c - far transfers: jmp, call and ret through descriptors and call gates,
 * iret, syscall and sysenter with their returns (SDM 3A 5.8, SDM 2).
 */
#include "sys.h"

static void
set_cs(struct cpu *c, uint64_t desc, uint64_t lin, uint16_t sel, unsigned cpl)
{
	desc_accessed(c, lin, desc);
	desc_seg(desc | 1ull << 40, (uint16_t)((sel & ~3u) | cpl),
	    &c->seg[CS]);
	c->cpl = (uint8_t)cpl;
}

static void
check_rip(struct cpu *c, uint64_t desc, uint64_t off)
{
	struct seg s;

	if (c->efer & EFER_LMA && desc >> 53 & 1) {
		if (!canonical(off))
			x86_gp(c, 0);
		return;
	}
	desc_seg(desc, 0, &s);
	if (off > s.limit)
		x86_gp(c, 0);
}

/* A code segment reachable by jmp or call without changing CPL. */
static void
check_code(struct cpu *c, uint64_t d, uint16_t sel)
{
	unsigned a = d >> 40 & 0xff;

	if (c->efer & EFER_LMA && (d >> 53 & 3) == 3)	/* L and D */
		x86_gp(c, sel & ~3u);
	if (a & 4 ? SEG_DPL(a) > c->cpl :
	    (sel & 3u) > c->cpl || SEG_DPL(a) != c->cpl)
		x86_gp(c, sel & ~3u);
	if (!(a & SEG_P))
		x86_raise(c, VEC_NP, sel & ~3u);
}

static bool
real_mode(struct cpu *c)
{
	return !(c->cr0 & CR0_PE) || c->eflags & FL_VM;
}

struct gate {
	uint16_t	sel;
	uint64_t	off;
	unsigned	count, size;
};

/* The TSS behind a task gate, or the TSS itself, that jmp or call names. */
static uint16_t
task_of(struct cpu *c, uint64_t d, uint16_t sel)
{
	if (SEG_DPL(d >> 40) < c->cpl || SEG_DPL(d >> 40) < (sel & 3u))
		x86_gp(c, sel & ~3u);
	if ((d >> 40 & 0xf) != 5)
		return sel;
	if (!(d >> 47 & 1))
		x86_raise(c, VEC_NP, sel & ~3u);
	return (uint16_t)(d >> 16);
}

/* Call gate: checks it and reads it. */
static void
read_gate(struct cpu *c, uint64_t d, uint64_t lin, uint16_t sel, struct gate *g)
{
	unsigned type = d >> 40 & 0xf;

	if ((d >> 45 & 3) < c->cpl || (d >> 45 & 3) < (sel & 3u))
		x86_gp(c, sel & ~3u);
	if (!(d >> 47 & 1))
		x86_raise(c, VEC_NP, sel & ~3u);
	g->sel = (uint16_t)(d >> 16);
	g->off = d & 0xffff;
	g->count = d >> 32 & 31;
	g->size = 2;
	if (type == 12) {
		g->size = 4;
		g->off |= d >> 32 & 0xffff0000;
		if (c->efer & EFER_LMA) {
			uint64_t hi = x86_ld(c, lin + 8, 8, 0);

			if (hi >> 40 & 0x1f)
				x86_gp(c, sel & ~3u);
			g->off |= hi << 32;
			g->size = 8;
		}
	}
}

void
far_jump(struct cpu *c, uint16_t sel, uint64_t off, uint64_t next,
    unsigned opsize)
{
	uint64_t d, lin;
	unsigned a, type;
	struct gate g;

	if (real_mode(c)) {
		if (off > 0xffff && off > c->seg[CS].limit)
			x86_gp(c, 0);
		seg_real(c, CS, sel);
		c->rip = off;
		x86_mode(c);
		return;
	}
	if ((sel & ~3u) == 0)
		x86_gp(c, 0);
	d = desc_read(c, sel, VEC_GP, 0, &lin);
	a = d >> 40 & 0xff;
	if (!(a & SEG_S)) {
		type = a & 0xf;
		if (type == 12 || (type == 4 && !(c->efer & EFER_LMA))) {
			read_gate(c, d, lin, sel, &g);
			if ((g.sel & ~3u) == 0)
				x86_gp(c, 0);
			sel = g.sel & ~3u;
			d = desc_read(c, sel, VEC_GP, 0, &lin);
			a = d >> 40 & 0xff;
			if (!(a & SEG_S) || !(a & 8) ||
			    (g.size == 8 && (d >> 53 & 3) != 1))
				x86_gp(c, sel);
			off = g.off;
		} else if ((type == 1 || type == 9 || type == 5) &&
		    !(c->efer & EFER_LMA)) {
			task_switch(c, task_of(c, d, sel), TASK_JMP, next,
			    false, 0);
			return;
		} else
			x86_gp(c, sel & ~3u);
	}
	if (!(a & 8))
		x86_gp(c, sel & ~3u);
	check_code(c, d, (uint16_t)((sel & ~3u) | (a & 4 ? 0 : sel & 3)));
	check_rip(c, d, off);
	set_cs(c, d, lin, sel, c->cpl);
	c->rip = off;
	x86_mode(c);
}

/* Through a call gate to an inner ring: its stack gets the old one's address
 * and the parameters. */
static void
call_inner(struct cpu *c, const struct gate *g, uint64_t d, uint64_t lin,
    uint64_t next)
{
	unsigned ncpl = SEG_DPL(d >> 40), i;
	const struct seg *t = &c->seg[TR];
	struct stack s = { .mmu = mmu_of(c, ncpl) };
	uint32_t param[31];
	uint16_t ss;

	if (g->size == 8) {
		if (4 + ncpl * 8 + 7 > t->limit)
			x86_raise(c, VEC_TS, t->sel & ~3u);
		s.sp = x86_ld(c, t->base + 4 + ncpl * 8, 8, 0);
		s.mask = ~0ull;
		s.ss = (struct seg){ .sel = (uint16_t)ncpl,
			.attr = SEG_UNUSABLE | ncpl << 5 };
	} else {
		inner_stack(c, ncpl, 0, &ss, &s.sp);
		seg_load_ss(c, ss, ncpl, VEC_TS, 0, &s.ss);
		s.mask = s.ss.attr & SEG_DB ? 0xffffffff : 0xffff;
		s.err = ss & ~3u;
		for (i = 0; i < g->count; i++)
			param[i] = (uint32_t)stack_at(c, (int64_t)i * g->size,
			    g->size);
	}
	stack_push(c, &s, g->size, c->seg[SS].sel);
	stack_push(c, &s, g->size, c->gpr[RSP]);
	if (g->size != 8)
		for (i = g->count; i-- > 0;)
			stack_push(c, &s, g->size, param[i]);
	stack_push(c, &s, g->size, c->seg[CS].sel);
	stack_push(c, &s, g->size, next);
	check_rip(c, d, g->off);
	set_cs(c, d, lin, g->sel, ncpl);
	stack_commit(c, &s);
	c->rip = g->off;
	x86_mode(c);
}

void
far_call(struct cpu *c, uint16_t sel, uint64_t off, uint64_t next,
    unsigned opsize)
{
	unsigned a, type;
	uint64_t d, lin;
	struct stack s;
	struct gate g;

	if (real_mode(c)) {
		if (off > 0xffff && off > c->seg[CS].limit)
			x86_gp(c, 0);
		stack_current(c, &s);
		stack_push(c, &s, opsize, c->seg[CS].sel);
		stack_push(c, &s, opsize, next);
		stack_commit(c, &s);
		seg_real(c, CS, sel);
		c->rip = off;
		x86_mode(c);
		return;
	}
	if ((sel & ~3u) == 0)
		x86_gp(c, 0);
	d = desc_read(c, sel, VEC_GP, 0, &lin);
	a = d >> 40 & 0xff;
	if (!(a & SEG_S)) {
		type = a & 0xf;
		if (type == 12 || (type == 4 && !(c->efer & EFER_LMA))) {
			read_gate(c, d, lin, sel, &g);
			if ((g.sel & ~3u) == 0)
				x86_gp(c, 0);
			d = desc_read(c, g.sel, VEC_GP, 0, &lin);
			a = d >> 40 & 0xff;
			if (!(a & SEG_S) || !(a & 8) || SEG_DPL(a) > c->cpl ||
			    (g.size == 8 && (d >> 53 & 3) != 1))
				x86_gp(c, g.sel & ~3u);
			if (!(a & SEG_P))
				x86_raise(c, VEC_NP, g.sel & ~3u);
			if (!(a & 4) && SEG_DPL(a) < c->cpl) {
				call_inner(c, &g, d, lin, next);
				return;
			}
			sel = g.sel;
			off = g.off;
			opsize = g.size;
		} else if ((type == 1 || type == 9 || type == 5) &&
		    !(c->efer & EFER_LMA)) {
			task_switch(c, task_of(c, d, sel), TASK_CALL, next,
			    false, 0);
			return;
		} else
			x86_gp(c, sel & ~3u);
	} else {
		if (!(a & 8))
			x86_gp(c, sel & ~3u);
		check_code(c, d, sel);
	}
	check_rip(c, d, off);
	stack_current(c, &s);
	stack_push(c, &s, opsize, c->seg[CS].sel);
	stack_push(c, &s, opsize, next);
	set_cs(c, d, lin, sel, c->cpl);
	stack_commit(c, &s);
	c->rip = off;
	x86_mode(c);
}

/* Common end of retf and iret in protected mode: CS:RIP, and SS:RSP if `outer`
 * or always for a 64-bit iret. */
static void
far_return(struct cpu *c, uint16_t sel, uint64_t off, unsigned opsize,
    int64_t ssoff, unsigned pop, bool always_ss)
{
	unsigned rpl = sel & 3u, a, old = c->cpl;
	uint64_t d, lin, sp = 0;
	uint16_t ss = 0;
	struct seg nss = c->seg[SS];
	bool outer;

	if ((sel & ~3u) == 0)
		x86_gp(c, 0);
	d = desc_read(c, sel, VEC_GP, 0, &lin);
	a = d >> 40 & 0xff;
	if (!(a & SEG_S) || !(a & 8) || rpl < c->cpl ||
	    (c->efer & EFER_LMA && (d >> 53 & 3) == 3) || (a & 4 ? SEG_DPL(a) > rpl : SEG_DPL(a) != rpl))
		x86_gp(c, sel & ~3u);
	if (!(a & SEG_P))
		x86_raise(c, VEC_NP, sel & ~3u);
	outer = rpl > c->cpl;
	if (outer || always_ss) {
		sp = stack_at(c, ssoff, opsize);
		ss = (uint16_t)stack_at(c, ssoff + opsize, 2);
		if ((ss & ~3u) == 0 && d >> 53 & 1 && c->efer & EFER_LMA &&
		    rpl != 3 && (ss & 3u) == rpl)
			nss = (struct seg){ .sel = ss,
				.attr = SEG_UNUSABLE | rpl << 5 };
		else
			seg_load_ss(c, ss, rpl, VEC_GP, 0, &nss);
	}
	check_rip(c, d, off);
	set_cs(c, d, lin, sel, rpl);
	c->rip = off;
	if (outer || always_ss) {
		c->seg[SS] = nss;
		x86_mode(c);
		set_sp(c, sp + pop);
		if (rpl > old)
			seg_drop(c);
	} else
		set_sp(c, c->gpr[RSP] + (uint64_t)ssoff);
	x86_mode(c);
}

void
far_ret(struct cpu *c, unsigned opsize, unsigned pop)
{
	uint64_t off = stack_at(c, 0, opsize);
	uint16_t sel = (uint16_t)stack_at(c, opsize, opsize);

	if (real_mode(c)) {
		if (off > 0xffff && off > c->seg[CS].limit)
			x86_gp(c, 0);
		set_sp(c, c->gpr[RSP] + 2 * opsize + pop);
		seg_real(c, CS, sel);
		c->rip = off;
		x86_mode(c);
		return;
	}
	far_return(c, sel, off, opsize, 2 * opsize + pop, pop, false);
}

/* Flags that iret and popf may change at this privilege. */
static uint64_t
flags_mask(struct cpu *c, unsigned opsize, unsigned cpl)
{
	uint64_t m = FL_STATUS | FL_TF | FL_DF | FL_NT;

	if (opsize > 2)
		m |= FL_RF | FL_AC | FL_ID;
	if (cpl == 0)
		m |= FL_IOPL | (opsize > 2 ? FL_VIF | FL_VIP : 0);
	if (cpl <= (c->eflags >> 12 & 3))
		m |= FL_IF;
	return m;
}

static void
set_flags(struct cpu *c, uint64_t v, uint64_t m)
{
	c->eflags = (c->eflags & ~m) | (v & m) | 2;
}

/* RF only means something while a breakpoint is set, and it is cleared after
 * every instruction only then (debug.c). */
static uint64_t
rf(struct cpu *c, uint64_t m)
{
	if (c->dr[7] & 0xff)
		return m;
	c->eflags &= ~(uint64_t)FL_RF;
	return m & ~(uint64_t)FL_RF;
}

/*
 * Flags popped by iret or popf in virtual-8086 mode with CR4.VME and IOPL < 3:
 * IF is VIF (SDM 3B 20.3).  True: they are set.
 */
static bool
vme_flags(struct cpu *c, uint64_t v, unsigned opsize, bool set)
{
	if (!(c->eflags & FL_VM) || (c->eflags & FL_IOPL) == FL_IOPL)
		return false;
	if (!(c->cr4 & CR4_VME) || opsize != 2 || v & FL_TF ||
	    (v & FL_IF && c->eflags & FL_VIP))
		x86_gp(c, 0);
	if (!set)
		return true;
	set_flags(c, v, FL_STATUS | FL_DF | FL_NT);
	c->eflags &= ~(uint64_t)(FL_VIF | FL_TF);
	if (v & FL_IF)
		c->eflags |= FL_VIF;
	return true;
}

void
x86_iret(struct cpu *c, unsigned opsize)
{
	uint64_t off, fl, m;
	unsigned cpl = c->cpl;
	uint16_t sel;

	if (c->eflags & FL_VM && (c->eflags & FL_IOPL) != FL_IOPL &&
	    (!(c->cr4 & CR4_VME) || opsize != 2))
		x86_gp(c, 0);
	if (!real_mode(c) && c->eflags & FL_NT) {
		if (c->efer & EFER_LMA)
			x86_gp(c, 0);
		task_switch(c, (uint16_t)x86_ld(c, c->seg[TR].base, 2, 0),
		    TASK_IRET, c->rip, false, 0);
		c->nmi_blocked = 0;
		return;
	}
	off = stack_at(c, 0, opsize);
	sel = (uint16_t)stack_at(c, opsize, opsize);
	fl = stack_at(c, 2 * opsize, opsize);
	if (real_mode(c)) {
		m = FL_STATUS | FL_TF | FL_DF | FL_NT | FL_IF;
		if (!(c->eflags & FL_VM))
			m |= FL_IOPL;
		if (opsize > 2)
			m |= FL_RF | FL_AC | FL_ID;
		if (off > 0xffff && off > c->seg[CS].limit)
			x86_gp(c, 0);
		vme_flags(c, fl, opsize, false);
		set_sp(c, c->gpr[RSP] + 3 * opsize);
		seg_real(c, CS, sel);
		c->rip = off;
		if (!vme_flags(c, fl, opsize, true))
			set_flags(c, fl, rf(c, m));
		c->nmi_blocked = 0;
		x86_mode(c);
		return;
	}
	if (fl & FL_VM && opsize == 4 && cpl == 0 && !(c->efer & EFER_LMA)) {
		uint64_t v[6];
		unsigned i;
		static const uint8_t r[] = { ES, DS, FS, GS };

		for (i = 0; i < 6; i++)
			v[i] = stack_at(c, 12 + 4 * i, 4);
		c->eflags = (fl & 0x3f7fd7) | 2 | FL_VM;
		c->cpl = 3;
		seg_real(c, CS, sel);
		seg_real(c, SS, (uint16_t)v[1]);
		c->gpr[RSP] = (uint32_t)v[0];
		for (i = 0; i < 4; i++)
			seg_real(c, r[i], (uint16_t)v[2 + i]);
		c->rip = off & 0xffff;
		c->nmi_blocked = 0;
		x86_mode(c);
		return;
	}
	m = flags_mask(c, opsize, cpl);
	far_return(c, sel, off, opsize, 3 * opsize, 0,
	    (c->mode & M_SIZE) == M_64);
	set_flags(c, fl, rf(c, m));
	c->nmi_blocked = 0;
	x86_mode(c);
}

/* ------------------------------------------------------------ fast system calls */

static void
flat_cs(struct cpu *c, uint16_t sel, unsigned cpl, bool l64)
{
	c->seg[CS] = (struct seg){ .sel = sel, .limit = 0xffffffff,
		.attr = (l64 ? 0xa01bu : 0xc01bu) | SEG_P | cpl << 5 };
	c->cpl = (uint8_t)cpl;
}

static void
flat_ss(struct cpu *c, uint16_t sel, unsigned cpl)
{
	c->seg[SS] = (struct seg){ .sel = sel, .limit = 0xffffffff,
		.attr = 0xc013u | SEG_P | cpl << 5 };
}

void
x86_syscall(struct cpu *c, uint64_t next)
{
	if (!(c->efer & EFER_SCE) || (c->mode & M_SIZE) != M_64)
		x86_ud(c);
	c->gpr[RCX] = next;
	c->gpr[R11] = c->eflags & ~(uint64_t)FL_RF;
	c->rip = c->lstar;
	c->eflags = (c->eflags & ~(c->sfmask | FL_RF)) | 2;
	flat_cs(c, c->star >> 32 & 0xfffc, 0, true);
	flat_ss(c, (uint16_t)((c->star >> 32 & 0xfffc) + 8), 0);
	x86_mode(c);
}

void
x86_sysret(struct cpu *c, unsigned opsize)
{
	uint16_t base = (uint16_t)(c->star >> 48);

	if (!(c->efer & EFER_SCE) || (c->mode & M_SIZE) != M_64)
		x86_ud(c);
	if (c->cpl)
		x86_gp(c, 0);
	if (opsize == 8 && !canonical(c->gpr[RCX]))
		x86_gp(c, 0);
	c->eflags = (c->gpr[R11] & 0x3c7fd7) | 2;
	if (opsize == 8) {
		c->rip = c->gpr[RCX];
		flat_cs(c, (uint16_t)((base + 16) | 3), 3, true);
	} else {
		c->rip = (uint32_t)c->gpr[RCX];
		flat_cs(c, (uint16_t)(base | 3), 3, false);
	}
	flat_ss(c, (uint16_t)((base + 8) | 3), 3);
	x86_mode(c);
}

void
x86_sysenter(struct cpu *c)
{
	uint16_t sel = c->sysenter_cs & 0xfffc;
	bool lm = c->efer & EFER_LMA;

	if (!(c->cr0 & CR0_PE) || !sel)
		x86_gp(c, 0);
	c->eflags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
	c->gpr[RSP] = lm ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
	c->rip = lm ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
	flat_cs(c, sel, 0, lm);
	flat_ss(c, (uint16_t)(sel + 8), 0);
	x86_mode(c);
}

void
x86_sysexit(struct cpu *c, unsigned opsize)
{
	uint16_t sel = c->sysenter_cs & 0xfffc;
	bool l64 = opsize == 8;

	if (!(c->cr0 & CR0_PE) || !sel || c->cpl)
		x86_gp(c, 0);
	if (l64 && (!canonical(c->gpr[RDX]) || !canonical(c->gpr[RCX])))
		x86_gp(c, 0);
	c->rip = l64 ? c->gpr[RDX] : (uint32_t)c->gpr[RDX];
	c->gpr[RSP] = l64 ? c->gpr[RCX] : (uint32_t)c->gpr[RCX];
	flat_cs(c, (uint16_t)((sel + (l64 ? 32 : 16)) | 3), 3, l64);
	flat_ss(c, (uint16_t)((sel + (l64 ? 40 : 24)) | 3), 3);
	x86_mode(c);
}

/* POPF at the current privilege (SDM 2, POPF table). */
void
x86_popf(struct cpu *c, uint64_t v, unsigned opsize)
{
	uint64_t m = flags_mask(c, opsize, c->cpl) & ~(uint64_t)(FL_VIF |
	    FL_VIP | FL_RF);

	if (vme_flags(c, v, opsize, true)) {
		x86_mode(c);
		return;
	}
	if (opsize > 2)
		c->eflags &= ~(uint64_t)FL_RF;
	set_flags(c, v, m);
	x86_mode(c);
}
