/*
 * system.c - privileged and system instructions (SDM 2; SDM 3A ch. 2, 5).
 */
#include <Zydis/Zydis.h>

#include "sys.h"

static void
cpl0(struct cpu *c)
{
	if (c->cpl)
		x86_gp(c, 0);
}

/* ------------------------------------------------------- control registers */

/* The four entries PAE paging takes with CR3 (SDM 3A 4.4.1). */
static void
check_pdptes(struct cpu *c, uint64_t cr3)
{
	uint64_t *p = ram_at(machine.ram, cr3 & 0xffffffe0, 32), e;
	int i;

	for (i = 0; p && i < 4; i++) {
		e = __atomic_load_n(&p[i], __ATOMIC_RELAXED);
		if (e & 1 && e & 0xffffc000000001e6ull)
			x86_gp(c, 0);
	}
}

void
x86_set_cr0(struct cpu *c, uint64_t v)
{
	uint64_t old = c->cr0;

	if (v & CR0_PG && !(old & CR0_PG) && !(c->efer & EFER_LME) &&
	    c->cr4 & CR4_PAE)
		check_pdptes(c, c->cr3);
	v &= CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM |
	    CR0_NW | CR0_CD | CR0_PG;
	v |= CR0_ET;
	if ((v & CR0_PG && !(v & CR0_PE)) || (v & CR0_NW && !(v & CR0_CD)))
		x86_gp(c, 0);
	if (v & CR0_PG && !(old & CR0_PG) && c->efer & EFER_LME) {
		if (!(c->cr4 & CR4_PAE) || c->seg[CS].attr & SEG_L)
			x86_gp(c, 0);
		c->efer |= EFER_LMA;
	} else if (!(v & CR0_PG) && old & CR0_PG) {
		if ((c->mode & M_SIZE) == M_64 || c->cr4 & CR4_PCIDE)
			x86_gp(c, 0);
		c->efer &= ~(uint64_t)EFER_LMA;
	}
	c->cr0 = v;
	if ((old ^ v) & (CR0_PG | CR0_WP | CR0_PE))
		tlb_flush_all(c);
	x86_mode(c);
}

void
x86_set_cr3(struct cpu *c, uint64_t v)
{
	bool keep = c->cr4 & CR4_PCIDE && v >> 63;

	if (c->cr4 & CR4_PCIDE)
		v &= ~(1ull << 63);
	if (c->efer & EFER_LMA) {
		if (v >> 46)
			x86_gp(c, 0);
	} else {
		v &= 0xffffffff;
		if (c->cr0 & CR0_PG && c->cr4 & CR4_PAE)
			check_pdptes(c, v);
	}
	/* entries are not tagged by PCID: another address space means a flush
	 * even where the guest allows to keep them */
	if (keep && v == c->cr3)
		return;
	c->cr3 = v;
	tlb_flush_nonglobal(c);
}

void
x86_set_cr4(struct cpu *c, uint64_t v)
{
	uint64_t old = c->cr4;

	if (v & ~model_cr4())
		x86_gp(c, 0);
	if (c->efer & EFER_LMA && !(v & CR4_PAE))
		x86_gp(c, 0);
	if (v & CR4_PCIDE && !(old & CR4_PCIDE) &&
	    (!(c->efer & EFER_LMA) || c->cr3 & 0xfff))
		x86_gp(c, 0);
	c->cr4 = v;
	if ((old ^ v) & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP |
	    CR4_SMAP))
		tlb_flush_all(c);
	x86_mode(c);
}

static void
mov_cr(struct cpu *c, const struct insn *in)
{
	bool to = in->op[0].type == OP_CR;
	unsigned cr = in->op[to ? 0 : 1].reg, r = in->op[to ? 1 : 0].reg;
	uint64_t v = c->gpr[r];

	cpl0(c);
	if ((c->mode & M_SIZE) != M_64)
		v = (uint32_t)v;
	if (!to) {
		switch (cr) {
		case 0: v = c->cr0; break;
		case 2: v = c->cr2; break;
		case 3: v = c->cr3; break;
		case 4: v = c->cr4; break;
		case 8: v = irq_get_tpr(c) >> 4; break;
		default: x86_ud(c);
		}
		c->gpr[r] = (c->mode & M_SIZE) == M_64 ? v : (uint32_t)v;
		return;
	}
	switch (cr) {
	case 0:
		if (v >> 32)
			x86_gp(c, 0);
		x86_set_cr0(c, v);
		break;
	case 2:
		c->cr2 = v;
		break;
	case 3:
		x86_set_cr3(c, v);
		break;
	case 4:
		x86_set_cr4(c, v);
		break;
	case 8:
		if (v >> 4)
			x86_gp(c, 0);
		irq_set_tpr(c, (uint8_t)v);
		break;
	default:
		x86_ud(c);
	}
}

static void
mov_dr(struct cpu *c, const struct insn *in)
{
	bool to = in->op[0].type == OP_DR;
	unsigned n = in->op[to ? 0 : 1].reg, r = in->op[to ? 1 : 0].reg;
	uint64_t v = c->gpr[r];

	cpl0(c);
	if ((c->mode & M_SIZE) != M_64)
		v = (uint32_t)v;
	if (n == 4 || n == 5) {
		if (c->cr4 & CR4_DE)
			x86_ud(c);
		n += 2;
	}
	if (n > 7)
		x86_ud(c);
	if (c->dr[7] & 1 << 13) {	/* general detect */
		c->dr[6] |= 1 << 13;
		c->dr[7] &= ~(1ull << 13);
		x86_raise(c, VEC_DB, 0);
	}
	if (!to) {
		c->gpr[r] = c->dr[n];
		return;
	}
	if (n >= 6 && v >> 32)
		x86_gp(c, 0);
	if (n == 6)
		v = (v & 0xe00f) | 0xffff0ff0;
	else if (n == 7)
		v = (v & 0xffff23ff) | 0x400;
	c->dr[n] = v;
	x86_mode(c);
}

/* ------------------------------------------------------- descriptor tables */

static void
store_table(struct cpu *c, const struct insn *in, uint64_t base, uint16_t limit)
{
	const struct operand *o = &in->op[0];
	unsigned n = (c->mode & M_SIZE) == M_64 ? 8 : 4;
	uint64_t lin;
	uint8_t b[10];
	unsigned i;

	if (c->cr4 & CR4_UMIP && c->cpl)
		x86_gp(c, 0);
	lin = x86_linear(c, o->seg, x86_ea(c, in, o), 2 + n, ACC_WRITE);
	b[0] = (uint8_t)limit;
	b[1] = (uint8_t)(limit >> 8);
	for (i = 0; i < n; i++)
		b[2 + i] = (uint8_t)(base >> 8 * i);
	x86_st_bytes(c, lin, b, 2 + n, MODE_MMU(c->mode));
}

static void
load_table(struct cpu *c, const struct insn *in, bool idt)
{
	const struct operand *o = &in->op[0];
	unsigned n = (c->mode & M_SIZE) == M_64 ? 8 : 4, mmu;
	uint64_t lin, base;
	uint16_t limit;

	cpl0(c);
	mmu = MODE_MMU(c->mode);
	lin = x86_linear(c, o->seg, x86_ea(c, in, o), 2 + n, ACC_READ);
	limit = (uint16_t)x86_ld(c, lin, 2, mmu);
	base = x86_ld(c, lin + 2, n, mmu);
	if (n == 4 && in->opsize == 2)
		base &= 0xffffff;
	if (n == 8 && !canonical(base))
		x86_gp(c, 0);
	if (idt) {
		c->idt.base = base;
		c->idt.limit = limit;
	} else {
		c->gdt.base = base;
		c->gdt.limit = limit;
	}
}

static bool
protected_only(struct cpu *c)
{
	return c->cr0 & CR0_PE && !(c->eflags & FL_VM);
}

static void
umip(struct cpu *c)
{
	if (c->cr4 & CR4_UMIP && c->cpl)
		x86_gp(c, 0);
}

/* Stores of a 16-bit value: registers take it zero-extended. */
static void
store16(struct cpu *c, const struct insn *in, uint64_t v)
{
	struct insn k = *in;

	if (k.op[0].type == OP_MEM)
		k.op[0].size = 2;
	x86_put(c, &k, 0, v);
}

static uint16_t
load16(struct cpu *c, const struct insn *in, unsigned i)
{
	struct insn k = *in;

	k.op[i].size = 2;
	return (uint16_t)x86_get(c, &k, i);
}

static void
lar_lsl(struct cpu *c, const struct insn *in)
{
	uint16_t sel;
	static const uint32_t lar = 0x1a3e, lsl = 0x0a0e;	/* types, S = 0 */
	bool is_lsl = in->mnem == ZYDIS_MNEMONIC_LSL;
	struct seg s;
	uint64_t d;
	unsigned a;

	if (!protected_only(c))
		x86_ud(c);
	sel = load16(c, in, 1);
	if (!seg_peek(c, sel, &d)) {
		c->eflags &= ~(uint64_t)FL_ZF;
		return;
	}
	c->eflags &= ~(uint64_t)FL_ZF;
	a = d >> 40 & 0xff;
	if (!(a & SEG_S)) {
		uint32_t ok = is_lsl ? lsl : lar;

		if (c->efer & EFER_LMA)
			ok = is_lsl ? 0x0a04 : 0x1a04;
		if (!(ok >> (a & 15) & 1))
			return;
	}
	if (is_lsl) {
		desc_seg(d, sel, &s);
		x86_put(c, in, 0, s.limit);
	} else
		x86_put(c, in, 0, d >> 32 & 0x00ffff00);
	c->eflags |= FL_ZF;
}

static void
verify(struct cpu *c, const struct insn *in)
{
	uint64_t d;
	unsigned a;
	uint16_t sel;
	bool ok = false;

	if (!protected_only(c))
		x86_ud(c);
	sel = load16(c, in, 0);
	if (seg_peek(c, sel, &d)) {
		a = d >> 40 & 0xff;
		if (a & SEG_S)
			ok = in->mnem == ZYDIS_MNEMONIC_VERR ?
			    !(a & 8) || a & 2 : !(a & 8) && a & 2;
	}
	c->eflags = (c->eflags & ~(uint64_t)FL_ZF) | (ok ? FL_ZF : 0);
}

static void
load_far_pointer(struct cpu *c, const struct insn *in, unsigned seg)
{
	const struct operand *o = &in->op[1];
	unsigned n = in->opsize;
	uint64_t lin = x86_linear(c, o->seg, x86_ea(c, in, o), n + 2, ACC_READ);
	uint64_t off = x86_ld(c, lin, n, MODE_MMU(c->mode));
	uint16_t sel = (uint16_t)x86_ld(c, lin + n, 2, MODE_MMU(c->mode));

	x86_load_seg(c, seg, sel);
	x86_put(c, in, 0, off);
}

static void
invpcid(struct cpu *c, const struct insn *in)
{
	const struct operand *o = &in->op[1];
	uint64_t type = c->gpr[in->op[0].reg], lin, a, b;

	cpl0(c);
	if ((c->mode & M_SIZE) != M_64)
		type = (uint32_t)type;
	lin = x86_linear(c, o->seg, x86_ea(c, in, o), 16, ACC_READ);
	a = x86_ld(c, lin, 8, MODE_MMU(c->mode));
	b = x86_ld(c, lin + 8, 8, MODE_MMU(c->mode));
	if (type > 3 || (type < 2 && a >> 12) || (type == 0 && !canonical(b)))
		x86_gp(c, 0);
	if (type == 0)
		tlb_flush_page(c, b);
	else if (type == 2)
		tlb_flush_all(c);
	else
		tlb_flush_nonglobal(c);
}

/* ---------------------------------------------------------------- I/O ports */

void
io_permit(struct cpu *c, uint16_t port, unsigned size)
{
	const struct seg *t = &c->seg[TR];
	uint32_t map, bits;

	if (!(c->cr0 & CR0_PE) || (!(c->eflags & FL_VM) &&
	    c->cpl <= (c->eflags >> 12 & 3)))
		return;
	if (!(t->attr & 8) || t->limit < 0x67)
		x86_gp(c, 0);
	map = (uint32_t)x86_ld(c, t->base + 0x66, 2, 0) + port / 8;
	if (map + 1 > t->limit)
		x86_gp(c, 0);
	bits = (uint32_t)x86_ld(c, t->base + map, 2, 0) >> (port & 7);
	if (bits & ((1u << size) - 1))
		x86_gp(c, 0);
}

static void
in_out(struct cpu *c, const struct insn *in)
{
	bool out = in->mnem == ZYDIS_MNEMONIC_OUT;
	const struct operand *o = &in->op[out ? 0 : 1];
	uint16_t port = o->type == OP_IMM ? (uint8_t)o->disp :
	    (uint16_t)c->gpr[RDX];
	unsigned size = in->opcode & 1 ? (in->opsize == 2 ? 2 : 4) : 1;
	uint32_t v;

	io_permit(c, port, size);
	if (out) {
		io_out(c, port, size, (uint32_t)c->gpr[RAX]);
		return;
	}
	v = io_in(c, port, size);
	if (size == 4)
		c->gpr[RAX] = v;
	else if (size == 2)
		c->gpr[RAX] = (c->gpr[RAX] & ~0xffffull) | (v & 0xffff);
	else
		c->gpr[RAX] = (c->gpr[RAX] & ~0xffull) | (v & 0xff);
}

/* ----------------------------------------------------------------- the rest */

static void
software_int(struct cpu *c, const struct insn *in, uint64_t next)
{
	uint64_t rip = c->rip;
	int v = (uint8_t)in->op[0].disp, kind = INT_SOFT;

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_INT3:
		v = VEC_BP;
		kind = INT_SOFT_EXC;
		break;
	case ZYDIS_MNEMONIC_INTO:
		if (!(c->eflags & FL_OF)) {
			c->rip = next;
			return;
		}
		v = VEC_OF;
		kind = INT_SOFT_EXC;
		break;
	case ZYDIS_MNEMONIC_INT1:
		v = VEC_DB;
		kind = INT_ICEBP;
		break;
	}
	/* a fault on the way must show the instruction itself */
	c->int_rip = rip;
	c->rip = next;
	if (in->mnem == ZYDIS_MNEMONIC_INT && c->eflags & FL_VM) {
		if (vm86_redirect(c, v))
			return;
		if ((c->eflags & FL_IOPL) != FL_IOPL)
			x86_gp(c, 0);
	}
	x86_interrupt(c, v, kind, 0);
}

/* CLI and STI act on IF, or on VIF in virtual-8086 mode with CR4.VME and at
 * CPL 3 with CR4.PVI (SDM 3B 20.3, 20.4). */
static bool
virtual_if(struct cpu *c)
{
	if (!(c->cr0 & CR0_PE) || c->cpl <= (c->eflags >> 12 & 3))
		return false;
	if (!(c->cr4 & (c->eflags & FL_VM ? CR4_VME : CR4_PVI)) || c->cpl != 3)
		x86_gp(c, 0);
	return true;
}

static void
cli(struct cpu *c)
{
	c->eflags &= ~(uint64_t)(virtual_if(c) ? FL_VIF : FL_IF);
}

static void
sti(struct cpu *c)
{
	if (virtual_if(c)) {
		if (c->eflags & FL_VIP)
			x86_gp(c, 0);
		c->eflags |= FL_VIF;
		return;
	}
	if (!(c->eflags & FL_IF))
		c->shadow = 1;
	c->eflags |= FL_IF;
}

static void
bound(struct cpu *c, const struct insn *in)
{
	const struct operand *o = &in->op[1];
	unsigned n = in->opsize;
	uint64_t lin = x86_linear(c, o->seg, x86_ea(c, in, o), 2 * n, ACC_READ);
	int64_t v, lo, hi;

	lo = (int64_t)x86_ld(c, lin, n, MODE_MMU(c->mode));
	hi = (int64_t)x86_ld(c, lin + n, n, MODE_MMU(c->mode));
	v = (int64_t)x86_get(c, in, 0);
	if (n == 2) {
		lo = (int16_t)lo;
		hi = (int16_t)hi;
		v = (int16_t)v;
	} else {
		lo = (int32_t)lo;
		hi = (int32_t)hi;
		v = (int32_t)v;
	}
	if (v < lo || v > hi)
		x86_raise(c, VEC_BR, 0);
}

static void
arpl(struct cpu *c, const struct insn *in)
{
	uint16_t d, s;

	if (!protected_only(c))
		x86_ud(c);
	d = load16(c, in, 0);
	s = load16(c, in, 1);
	if ((d & 3) < (s & 3)) {
		store16(c, in, (d & ~3u) | (s & 3));
		c->eflags |= FL_ZF;
	} else
		c->eflags &= ~(uint64_t)FL_ZF;
}

static void
rdtsc(struct cpu *c)
{
	uint64_t t;

	if (c->cr4 & CR4_TSD && c->cpl)
		x86_gp(c, 0);
	t = cpu_tsc(c);
	c->gpr[RAX] = (uint32_t)t;
	c->gpr[RDX] = t >> 32;
}

static void
segbase(struct cpu *c, const struct insn *in)
{
	bool fs = in->mnem == ZYDIS_MNEMONIC_RDFSBASE ||
	    in->mnem == ZYDIS_MNEMONIC_WRFSBASE;
	bool wr = in->mnem == ZYDIS_MNEMONIC_WRFSBASE ||
	    in->mnem == ZYDIS_MNEMONIC_WRGSBASE;
	struct seg *s = &c->seg[fs ? FS : GS];
	uint64_t v;

	if (!(c->cr4 & CR4_FSGSBASE) || (c->mode & M_SIZE) != M_64)
		x86_ud(c);
	if (!wr) {
		x86_put(c, in, 0, s->base);
		return;
	}
	v = x86_get(c, in, 0);
	if (!canonical(v))
		x86_gp(c, 0);
	s->base = v;
}

/* Instructions that leave at another rip than the next. */
static bool
transfers(struct cpu *c, const struct insn *in, uint64_t next)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_INTO:
		software_int(c, in, next);
		return true;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		x86_iret(c, in->opsize);
		return true;
	case ZYDIS_MNEMONIC_SYSCALL:
		x86_syscall(c, next);
		return true;
	case ZYDIS_MNEMONIC_SYSRET:
		x86_sysret(c, in->opsize);
		return true;
	case ZYDIS_MNEMONIC_SYSENTER:
		x86_sysenter(c);
		return true;
	case ZYDIS_MNEMONIC_SYSEXIT:
		x86_sysexit(c, in->opsize);
		return true;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MWAIT:
	case ZYDIS_MNEMONIC_RSM:
	case ZYDIS_MNEMONIC_VMCALL:
	case ZYDIS_MNEMONIC_VMMCALL:
		x86_ud(c);
	}
	return false;
}

static bool
moves(struct cpu *c, const struct insn *in)
{
	if (in->mnem != ZYDIS_MNEMONIC_MOV)
		return false;
	if (in->op[0].type == OP_CR || in->op[1].type == OP_CR)
		mov_cr(c, in);
	else if (in->op[0].type == OP_DR || in->op[1].type == OP_DR)
		mov_dr(c, in);
	else if (in->op[0].type == OP_SREG) {
		if (in->op[0].reg == CS)
			x86_ud(c);
		x86_load_seg(c, in->op[0].reg, load16(c, in, 1));
		if (in->op[0].reg == SS)
			c->shadow = 1;
	} else if (in->op[1].type == OP_SREG)
		store16(c, in, c->seg[in->op[1].reg].sel);
	else
		return false;
	return true;
}

static bool
tables(struct cpu *c, const struct insn *in)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_SGDT:
		store_table(c, in, c->gdt.base, c->gdt.limit);
		break;
	case ZYDIS_MNEMONIC_SIDT:
		store_table(c, in, c->idt.base, c->idt.limit);
		break;
	case ZYDIS_MNEMONIC_LGDT:
		load_table(c, in, false);
		break;
	case ZYDIS_MNEMONIC_LIDT:
		load_table(c, in, true);
		break;
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
		if (!protected_only(c))
			x86_ud(c);
		umip(c);
		store16(c, in, c->seg[in->mnem == ZYDIS_MNEMONIC_STR ? TR :
		    LDTR].sel);
		break;
	case ZYDIS_MNEMONIC_LLDT:
	case ZYDIS_MNEMONIC_LTR:
		if (!protected_only(c))
			x86_ud(c);
		cpl0(c);
		if (in->mnem == ZYDIS_MNEMONIC_LTR)
			seg_ltr(c, load16(c, in, 0));
		else
			seg_lldt(c, load16(c, in, 0), VEC_GP);
		break;
	case ZYDIS_MNEMONIC_SMSW:
		umip(c);
		if (in->op[0].type == OP_MEM)
			store16(c, in, c->cr0);
		else
			x86_put(c, in, 0, c->cr0);
		break;
	case ZYDIS_MNEMONIC_LMSW:
		cpl0(c);
		x86_set_cr0(c, (c->cr0 & ~0xeull) |
		    (load16(c, in, 0) & 0xf));
		break;
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
		lar_lsl(c, in);
		break;
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
		verify(c, in);
		break;
	case ZYDIS_MNEMONIC_ARPL:
		arpl(c, in);
		break;
	case ZYDIS_MNEMONIC_LES:
		load_far_pointer(c, in, ES);
		break;
	case ZYDIS_MNEMONIC_LDS:
		load_far_pointer(c, in, DS);
		break;
	case ZYDIS_MNEMONIC_LSS:
		load_far_pointer(c, in, SS);
		break;
	case ZYDIS_MNEMONIC_LFS:
		load_far_pointer(c, in, FS);
		break;
	case ZYDIS_MNEMONIC_LGS:
		load_far_pointer(c, in, GS);
		break;
	default:
		return false;
	}
	return true;
}

bool
exec_system(struct cpu *c, const struct insn *in)
{
	uint64_t next = (c->rip + in->len) & rip_mask(c), v;
	uint32_t r[4];

	if (transfers(c, in, next))
		return true;
	if (moves(c, in) || tables(c, in)) {
		c->rip = next;
		return true;
	}
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
		in_out(c, in);
		break;
	case ZYDIS_MNEMONIC_CLI:
		cli(c);
		break;
	case ZYDIS_MNEMONIC_STI:
		sti(c);
		break;
	case ZYDIS_MNEMONIC_CLD:
		c->eflags &= ~(uint64_t)FL_DF;
		break;
	case ZYDIS_MNEMONIC_STD:
		c->eflags |= FL_DF;
		break;
	case ZYDIS_MNEMONIC_CLAC:
	case ZYDIS_MNEMONIC_STAC:
		if (c->cpl)
			x86_ud(c);
		if (in->mnem == ZYDIS_MNEMONIC_STAC)
			c->eflags |= FL_AC;
		else
			c->eflags &= ~(uint64_t)FL_AC;
		x86_mode(c);
		break;
	case ZYDIS_MNEMONIC_PAUSE:
		cpu_relax(c);
		break;
	case ZYDIS_MNEMONIC_HLT:
		cpl0(c);
		c->halted = 1;
		c->n_halt++;
		break;
	case ZYDIS_MNEMONIC_CLTS:
		cpl0(c);
		c->cr0 &= ~(uint64_t)CR0_TS;
		x86_mode(c);
		break;
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_WBINVD:
		cpl0(c);
		break;
	case ZYDIS_MNEMONIC_INVLPG:
		cpl0(c);
		v = x86_ea(c, in, &in->op[0]);
		if ((c->mode & M_SIZE) != M_64)
			v = (uint32_t)(v + c->seg[in->op[0].seg].base);
		else if (in->op[0].seg == FS || in->op[0].seg == GS)
			v += c->seg[in->op[0].seg].base;
		tlb_flush_page(c, v);
		break;
	case ZYDIS_MNEMONIC_INVPCID:
		invpcid(c, in);
		break;
	case ZYDIS_MNEMONIC_RDMSR:
		cpl0(c);
		if (x86_rdmsr(c, (uint32_t)c->gpr[RCX], &v) < 0)
			x86_gp(c, 0);
		c->gpr[RAX] = (uint32_t)v;
		c->gpr[RDX] = v >> 32;
		break;
	case ZYDIS_MNEMONIC_WRMSR:
		cpl0(c);
		if (x86_wrmsr(c, (uint32_t)c->gpr[RCX],
		    (uint32_t)c->gpr[RAX] | c->gpr[RDX] << 32) < 0)
			x86_gp(c, 0);
		break;
	case ZYDIS_MNEMONIC_RDTSC:
		rdtsc(c);
		break;
	case ZYDIS_MNEMONIC_RDTSCP:
		__asm__ volatile("lfence" : : : "memory");
		rdtsc(c);
		c->gpr[RCX] = (uint32_t)c->tsc_aux;
		break;
	case ZYDIS_MNEMONIC_RDPID:
		x86_put(c, in, 0, c->tsc_aux);
		break;
	case ZYDIS_MNEMONIC_RDPMC:
		x86_gp(c, 0);
	case ZYDIS_MNEMONIC_CPUID:
		x86_cpuid(c, (uint32_t)c->gpr[RAX], (uint32_t)c->gpr[RCX], r);
		c->gpr[RAX] = r[0];
		c->gpr[RBX] = r[1];
		c->gpr[RCX] = r[2];
		c->gpr[RDX] = r[3];
		break;
	case ZYDIS_MNEMONIC_SWAPGS:
		cpl0(c);
		v = c->seg[GS].base;
		c->seg[GS].base = c->kernel_gs_base;
		c->kernel_gs_base = v;
		break;
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
		segbase(c, in);
		break;
	case ZYDIS_MNEMONIC_BOUND:
		bound(c, in);
		break;
	default:
		return false;
	}
	c->rip = next;
	return true;
}
