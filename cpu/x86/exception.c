/*
 * exception.c - raising and delivering exceptions and interrupts (SDM 3A ch. 6;
 * real mode: 20.1.4; virtual-8086: 20.3).
 */
#include "sys.h"

#define BENIGN	0x100		/* exc_vector: delivering, not an exception */

_Noreturn void
x86_raise(struct cpu *c, int vector, uint32_t err)
{
	c->exc_pending = vector;
	c->exc_err = err;
	c->n_fault++;
	cpu_exit_loop(c);
}

_Noreturn void
x86_gp(struct cpu *c, uint32_t err)
{
	x86_raise(c, VEC_GP, err);
}

_Noreturn void
x86_ud(struct cpu *c)
{
	x86_raise(c, VEC_UD, 0);
}

_Noreturn void
x86_pf(struct cpu *c, uint64_t linear, uint32_t err)
{
	c->cr2 = linear;
	x86_raise(c, VEC_PF, err);
}

static bool
contributory(int v)
{
	return v == VEC_DE || (v >= VEC_TS && v <= VEC_GP);
}

/* Table 6-5: what two exceptions in a row become. */
static int
combine(int first, int second)
{
	if (first == VEC_DF && (contributory(second) || second == VEC_PF))
		return -1;
	if ((contributory(first) && contributory(second)) ||
	    (first == VEC_PF && (contributory(second) || second == VEC_PF)))
		return VEC_DF;
	return second;
}

/* Shutdown: nothing but a reset gets the vcpu out of it. */
static void
triple_fault(struct cpu *c)
{
	cpu_fpu_flush(c);
	log_line("cpu%u: triple fault at %x:%#llx", c->index, c->seg[CS].sel,
	    (unsigned long long)c->rip);
	c->exc_vector = -1;
	c->halted = 1;
	c->wait_sipi = 1;
	part_event(&machine.part, "triple");
}

void
x86_deliver_pending(struct cpu *c)
{
	int v = c->exc_pending;

	if (v < 0)
		return;
	c->exc_pending = -1;
	if (c->int_rip != ~0ull) {	/* int n did not get through */
		c->rip = c->int_rip;
		c->int_rip = ~0ull;
	}
	if (c->exc_vector >= 0 && c->exc_vector < BENIGN) {
		v = combine(c->exc_vector, v);
		if (v < 0) {
			triple_fault(c);
			return;
		}
		if (v == VEC_DF)
			c->exc_err = 0;
	}
	x86_interrupt(c, v, INT_EXCEPTION, c->exc_err);
}

static bool
has_error(int v)
{
	return v == VEC_DF || (v >= VEC_TS && v <= VEC_PF) || v == VEC_AC;
}

/* Flags as pushed: faults set RF (SDM 3B 17.3.1.1). */
static uint64_t
pushed_flags(struct cpu *c, int vector, int kind)
{
	uint64_t f = c->eflags | 2;

	if (kind == INT_EXCEPTION && vector != VEC_DB && vector != VEC_BP &&
	    vector != VEC_OF && vector != VEC_DF)
		f |= FL_RF;
	return f;
}

/* Real mode, and virtual-8086 through the program's own vectors. */
static void
real(struct cpu *c, int vector, uint64_t flags)
{
	uint64_t lin = (uint32_t)(c->idt.base + (unsigned)vector * 4), v;
	bool vm = c->eflags & FL_VM;
	struct stack s;

	if (vm)
		lin = (unsigned)vector * 4;
	else if ((unsigned)vector * 4 + 3 > c->idt.limit)
		x86_gp(c, 0);
	v = x86_ld(c, lin, 4, vm ? 2 : 0);
	stack_current(c, &s);
	stack_push(c, &s, 2, flags);
	stack_push(c, &s, 2, c->seg[CS].sel);
	stack_push(c, &s, 2, c->rip);
	stack_commit(c, &s);
	c->eflags &= ~(uint64_t)(FL_TF | FL_RF | (vm ? 0 : FL_IF | FL_AC));
	seg_real(c, CS, (uint16_t)(v >> 16));
	c->rip = v & 0xffff;
}

/*
 * INT n in virtual-8086 mode with CR4.VME (SDM 3B 20.3.3, table 20-2): true if
 * the TSS's redirection map sends it to the program's own vector.
 */
bool
vm86_redirect(struct cpu *c, int vector)
{
	const struct seg *t = &c->seg[TR];
	uint64_t fl = c->eflags;
	uint32_t map;

	if (!(c->cr4 & CR4_VME) || !(t->attr & 8) || t->limit < 0x67)
		return false;
	map = (uint32_t)x86_ld(c, t->base + 0x66, 2, 0);
	if (map < 32 || map > t->limit)
		return false;
	map -= 32;
	if (x86_ld(c, t->base + map + (unsigned)vector / 8, 1, 0) >>
	    (vector & 7) & 1)
		return false;
	if ((fl & FL_IOPL) == FL_IOPL) {
		real(c, vector, fl);
		c->eflags &= ~(uint64_t)FL_IF;
	} else {
		fl = (fl & ~(uint64_t)FL_IF) | FL_IOPL |
		    (fl & FL_VIF ? FL_IF : 0);
		real(c, vector, fl);
		c->eflags &= ~(uint64_t)FL_VIF;
	}
	c->int_rip = ~0ull;
	x86_mode(c);
	return true;
}

/* Where an inner stack is, from the TSS (SDM 3A 7.2, 7.7). */
void
inner_stack(struct cpu *c, unsigned cpl, uint32_t ext, uint16_t *ss,
    uint64_t *sp)
{
	const struct seg *t = &c->seg[TR];
	unsigned off;

	if (t->attr & 8) {			/* 32-bit */
		off = 4 + cpl * 8;
		if (off + 5 > t->limit)
			x86_raise(c, VEC_TS, (t->sel & ~3u) | ext);
		*sp = x86_ld(c, (uint32_t)(t->base + off), 4, 0);
		*ss = (uint16_t)x86_ld(c, (uint32_t)(t->base + off + 4), 2, 0);
	} else {
		off = 2 + cpl * 4;
		if (off + 3 > t->limit)
			x86_raise(c, VEC_TS, (t->sel & ~3u) | ext);
		*sp = x86_ld(c, (uint32_t)(t->base + off), 2, 0);
		*ss = (uint16_t)x86_ld(c, (uint32_t)(t->base + off + 2), 2, 0);
	}
}

static void
protected(struct cpu *c, int vector, int kind, uint32_t err)
{
	uint32_t ext = kind == INT_SOFT || kind == INT_SOFT_EXC ? 0 : 1;
	uint32_t code = (uint32_t)vector * 8 + 2;
	uint64_t gate, desc, lin, off, fl = pushed_flags(c, vector, kind);
	unsigned type, dpl, a, size, ncpl;
	bool vm = c->eflags & FL_VM, he = kind == INT_EXCEPTION &&
	    has_error(vector);
	struct stack s;
	struct seg cs;
	uint16_t sel, ss;

	if (code - 2 + 7 > c->idt.limit)
		x86_gp(c, code | ext);
	gate = x86_ld(c, (uint32_t)(c->idt.base + (unsigned)vector * 8), 8, 0);
	type = gate >> 40 & 0x1f;
	dpl = gate >> 45 & 3;
	if (type != 5 && type != 6 && type != 7 && type != 14 && type != 15)
		x86_gp(c, code | ext);
	if (!ext && dpl < c->cpl)
		x86_gp(c, code);
	if (!(gate >> 47 & 1))
		x86_raise(c, VEC_NP, code | ext);
	sel = (uint16_t)(gate >> 16);
	if (type == 5) {
		task_switch(c, sel, TASK_INT, c->rip, he, err);
		return;
	}
	off = (gate & 0xffff) | (type & 8 ? gate >> 32 & 0xffff0000 : 0);
	size = type & 8 ? 4 : 2;
	if ((sel & ~3u) == 0)
		x86_gp(c, ext);
	desc = desc_read(c, sel, VEC_GP, ext, &lin);
	a = desc >> 40 & 0xff;
	if (!(a & SEG_S) || !(a & 8) || SEG_DPL(a) > c->cpl)
		x86_gp(c, (sel & ~3u) | ext);
	if (!(a & SEG_P))
		x86_raise(c, VEC_NP, (sel & ~3u) | ext);
	ncpl = a & 4 ? c->cpl : SEG_DPL(a);
	if (vm && ncpl != 0)
		x86_gp(c, (sel & ~3u) | ext);
	if (ncpl < c->cpl) {
		inner_stack(c, ncpl, ext, &ss, &s.sp);
		seg_load_ss(c, ss, ncpl, VEC_TS, ext, &s.ss);
		s.mask = s.ss.attr & SEG_DB ? 0xffffffff : 0xffff;
		s.mmu = mmu_of(c, ncpl);
		s.err = (ss & ~3u) | ext;
		if (vm) {
			stack_push(c, &s, size, c->seg[GS].sel);
			stack_push(c, &s, size, c->seg[FS].sel);
			stack_push(c, &s, size, c->seg[DS].sel);
			stack_push(c, &s, size, c->seg[ES].sel);
		}
		stack_push(c, &s, size, c->seg[SS].sel);
		stack_push(c, &s, size, c->gpr[RSP]);
	} else {
		stack_current(c, &s);
		s.mmu = mmu_of(c, ncpl);
		s.err = ext;
	}
	stack_push(c, &s, size, fl);
	stack_push(c, &s, size, c->seg[CS].sel);
	stack_push(c, &s, size, c->rip);
	if (he)
		stack_push(c, &s, size, err);
	desc_seg(desc | 1ull << 40, (uint16_t)((sel & ~3u) | ncpl), &cs);
	if (off > cs.limit)
		x86_gp(c, ext);
	desc_accessed(c, lin, desc);
	/* nothing can fail from here */
	if (vm) {
		seg_null(c, GS, 0);
		seg_null(c, FS, 0);
		seg_null(c, DS, 0);
		seg_null(c, ES, 0);
	}
	c->seg[CS] = cs;
	stack_commit(c, &s);
	c->cpl = (uint8_t)ncpl;
	c->rip = off;
	c->eflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM);
	if (!(type & 1))
		c->eflags &= ~(uint64_t)FL_IF;
}

static void
longmode(struct cpu *c, int vector, int kind, uint32_t err)
{
	uint32_t ext = kind == INT_SOFT || kind == INT_SOFT_EXC ? 0 : 1;
	uint32_t code = (uint32_t)vector * 8 + 2;
	uint64_t g0, g1, desc, lin, off, sp, fl = pushed_flags(c, vector, kind);
	uint64_t frame[6];
	unsigned type, a, ncpl, ist, n, i;
	bool he = kind == INT_EXCEPTION && has_error(vector);
	uint16_t sel;

	if ((unsigned)vector * 16 + 15 > c->idt.limit)
		x86_gp(c, code | ext);
	g0 = x86_ld(c, c->idt.base + (unsigned)vector * 16, 8, 0);
	g1 = x86_ld(c, c->idt.base + (unsigned)vector * 16 + 8, 8, 0);
	type = g0 >> 40 & 0x1f;
	if (type != 14 && type != 15)
		x86_gp(c, code | ext);
	if (!ext && (g0 >> 45 & 3) < c->cpl)
		x86_gp(c, code);
	if (!(g0 >> 47 & 1))
		x86_raise(c, VEC_NP, code | ext);
	sel = (uint16_t)(g0 >> 16);
	ist = g0 >> 32 & 7;
	off = (g0 & 0xffff) | (g0 >> 32 & 0xffff0000) | g1 << 32;
	if ((sel & ~3u) == 0)
		x86_gp(c, ext);
	desc = desc_read(c, sel, VEC_GP, ext, &lin);
	a = desc >> 40 & 0xff;
	if (!(a & SEG_S) || !(a & 8) || SEG_DPL(a) > c->cpl ||
	    !(desc >> 53 & 1) || desc >> 54 & 1)
		x86_gp(c, (sel & ~3u) | ext);
	if (!(a & SEG_P))
		x86_raise(c, VEC_NP, (sel & ~3u) | ext);
	ncpl = a & 4 ? c->cpl : SEG_DPL(a);
	sp = c->gpr[RSP];
	if (ist || ncpl < c->cpl) {
		unsigned o = ist ? 0x1c + ist * 8 : 4 + ncpl * 8;

		if (o + 7 > c->seg[TR].limit)
			x86_raise(c, VEC_TS, (c->seg[TR].sel & ~3u) | ext);
		sp = x86_ld(c, c->seg[TR].base + o, 8, 0);
	}
	sp &= ~15ull;
	n = he ? 6 : 5;
	i = 0;
	if (he)
		frame[i++] = err;
	frame[i++] = c->rip;
	frame[i++] = c->seg[CS].sel;
	frame[i++] = fl;
	frame[i++] = c->gpr[RSP];
	frame[i++] = c->seg[SS].sel;
	sp -= n * 8;
	if (!canonical(sp) || !canonical(sp + n * 8 - 1))
		x86_raise(c, VEC_SS, ext);
	x86_probe(c, sp, n * 8, ACC_WRITE, mmu_of(c, ncpl));
	for (i = 0; i < n; i++)
		x86_st(c, sp + i * 8, 8, frame[i], mmu_of(c, ncpl));
	if (!canonical(off))
		x86_gp(c, ext);
	desc_accessed(c, lin, desc);
	desc_seg(desc | 1ull << 40, (uint16_t)((sel & ~3u) | ncpl),
	    &c->seg[CS]);
	if (ncpl < c->cpl)
		c->seg[SS] = (struct seg){ .sel = (uint16_t)ncpl,
			.attr = SEG_UNUSABLE | ncpl << 5 };
	c->cpl = (uint8_t)ncpl;
	c->gpr[RSP] = sp;
	c->rip = off;
	c->eflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM);
	if (type == 14)
		c->eflags &= ~(uint64_t)FL_IF;
}

void
x86_interrupt(struct cpu *c, int vector, int kind, uint32_t err)
{
	if (machine.log_int) {
		cpu_fpu_flush(c);
		log_line("int %#x kind %d err %#x cs:rip %x:%llx cr2 %llx",
		    (unsigned)vector, kind, err, c->seg[CS].sel,
		    (unsigned long long)c->rip, (unsigned long long)c->cr2);
	}
	c->exc_vector = kind == INT_EXCEPTION ? vector : BENIGN;
	if (vector == VEC_DB)
		c->dr[7] &= ~(1ull << 13);	/* GD */
	if (kind == INT_NMI)
		c->nmi_blocked = 1;
	if (!(c->cr0 & CR0_PE))
		real(c, vector, c->eflags);
	else if (c->efer & EFER_LMA)
		longmode(c, vector, kind, err);
	else
		protected(c, vector, kind, err);
	c->exc_vector = -1;
	c->int_rip = ~0ull;
	c->halted = 0;
	x86_mode(c);
}
