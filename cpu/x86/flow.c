/*
 * flow.c - control flow and the stack in C: everything emitted code does not
 * do itself because of mode, segments or rarity.
 */
#include <Zydis/Zydis.h>

#include "sys.h"

static bool
condition(uint64_t f, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = f & FL_OF; break;
	case 1: r = f & FL_CF; break;
	case 2: r = f & FL_ZF; break;
	case 3: r = f & (FL_CF | FL_ZF); break;
	case 4: r = f & FL_SF; break;
	case 5: r = f & FL_PF; break;
	case 6: r = !(f & FL_SF) != !(f & FL_OF); break;
	default: r = f & FL_ZF || !(f & FL_SF) != !(f & FL_OF);
	}
	return r != (cc & 1);
}

/* Near transfer to `to`, truncated by the operand size and checked. */
static void
go(struct cpu *c, const struct insn *in, uint64_t to)
{
	if (in->opsize == 2)
		to &= 0xffff;
	to &= (c->mode & M_SIZE) == M_64 ? ~0ull : 0xffffffffull;
	if ((c->mode & M_SIZE) == M_64 ? !canonical(to) :
	    to > c->seg[CS].limit)
		x86_gp(c, 0);
	c->rip = to;
}

static uint64_t
next_rip(struct cpu *c, const struct insn *in)
{
	return (c->rip + in->len) & rip_mask(c);
}

static uint64_t
count(struct cpu *c, const struct insn *in)
{
	return in->addrsize == 8 ? c->gpr[RCX] : in->addrsize == 4 ?
	    (uint32_t)c->gpr[RCX] : (uint16_t)c->gpr[RCX];
}

static void
set_count(struct cpu *c, const struct insn *in, uint64_t v)
{
	if (in->addrsize == 2)
		c->gpr[RCX] = (c->gpr[RCX] & ~0xffffull) | (v & 0xffff);
	else
		c->gpr[RCX] = in->addrsize == 4 ? (uint32_t)v : v;
}

static uint64_t
rel(struct cpu *c, const struct insn *in)
{
	return c->rip + in->len + (uint64_t)in->op[0].disp;
}

/* jmp and call through a far pointer: immediate or in memory. */
static bool
far_target(struct cpu *c, const struct insn *in, uint16_t *sel, uint64_t *off)
{
	const struct operand *o = &in->op[0];
	unsigned n = in->opsize;
	uint64_t lin;

	if (o->type == OP_PTR) {
		*sel = (uint16_t)(o->base | o->index << 8);
		*off = n == 2 ? (uint16_t)o->disp : (uint32_t)o->disp;
		return true;
	}
	/* FF /3 and /5 */
	if (o->type != OP_MEM || in->opcode != 0xff || o->size <= n)
		return false;
	lin = x86_linear(c, o->seg, x86_ea(c, in, o), n + 2, ACC_READ);
	*off = x86_ld(c, lin, n, MODE_MMU(c->mode));
	*sel = (uint16_t)x86_ld(c, lin + n, 2, MODE_MMU(c->mode));
	return true;
}

static void
set_reg(struct cpu *c, unsigned r, unsigned size, uint64_t v)
{
	if (size == 2)
		c->gpr[r] = (c->gpr[r] & ~0xffffull) | (v & 0xffff);
	else
		c->gpr[r] = size == 4 ? (uint32_t)v : v;
}

static void
do_pop(struct cpu *c, const struct insn *in)
{
	const struct operand *o = &in->op[0];
	unsigned size = in->opsize;
	uint64_t old = c->gpr[RSP], v;

	if (o->type == OP_SREG) {
		v = stack_at(c, 0, size == 2 ? 2 : size);
		x86_load_seg(c, o->reg, (uint16_t)v);
		set_sp(c, old + size);
		if (o->reg == SS)
			c->shadow = 1;
		return;
	}
	v = stack_at(c, 0, size);
	if (o->type == OP_MEM) {
		/* an address by rsp uses the incremented one */
		uint64_t lin;

		set_sp(c, old + size);
		lin = x86_ea(c, in, o);
		c->gpr[RSP] = old;
		lin = x86_linear(c, o->seg, lin, size, ACC_WRITE);
		x86_st(c, lin, size, v, MODE_MMU(c->mode));
		set_sp(c, old + size);
		return;
	}
	set_sp(c, old + size);
	set_reg(c, o->reg, size, v);
}

static void
do_pusha(struct cpu *c, unsigned size)
{
	struct stack s;
	unsigned i;

	stack_current(c, &s);
	for (i = 0; i < 8; i++)
		stack_push(c, &s, size, c->gpr[i]);
	stack_commit(c, &s);
}

static void
do_popa(struct cpu *c, unsigned size)
{
	uint64_t v[8], old = c->gpr[RSP];
	unsigned i;

	for (i = 0; i < 8; i++)
		v[7 - i] = stack_at(c, (int64_t)i * size, size);
	for (i = 0; i < 8; i++)
		if (i != RSP)
			set_reg(c, i, size, v[i]);
	set_sp(c, old + 8 * size);
}

static void
do_enter(struct cpu *c, const struct insn *in)
{
	unsigned size = in->opsize, level = in->op[1].disp & 31, i;
	uint64_t frame, bp = c->gpr[RBP], at;
	struct stack s;

	stack_current(c, &s);
	stack_push(c, &s, size, bp);
	frame = s.sp;
	for (i = 1; i < level; i++) {
		at = (bp - i * size) & sp_mask(c);
		stack_push(c, &s, size, x86_ld(c, x86_linear(c, SS, at, size,
		    ACC_READ), size, MODE_MMU(c->mode)));
	}
	if (level)
		stack_push(c, &s, size, frame);
	s.sp -= (uint16_t)in->op[0].disp;
	/* the new top must be writable */
	at = s.sp & s.mask;
	x86_probe(c, x86_linear(c, SS, at, size, ACC_WRITE), size, ACC_WRITE,
	    s.mmu);
	stack_commit(c, &s);
	set_reg(c, RBP, size, frame);
}

static bool
branches(struct cpu *c, const struct insn *in)
{
	uint64_t next = next_rip(c, in), to, n;
	uint16_t sel;
	int cc = -1;

	if (in->opcode >= 0x70 && in->opcode <= 0x7f)
		cc = in->opcode & 15;
	else if (in->opcode >= 0x180 && in->opcode <= 0x18f)
		cc = in->opcode & 15;
	if (cc >= 0 && in->op[0].type == OP_IMM) {
		if (condition(c->eflags, (unsigned)cc))
			go(c, in, rel(c, in));
		else
			c->rip = next;
		return true;
	}
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_JMP:
		if (far_target(c, in, &sel, &to)) {
			far_jump(c, sel, to, next, in->opsize);
			return true;
		}
		go(c, in, in->op[0].type == OP_IMM ? rel(c, in) :
		    x86_get(c, in, 0));
		return true;
	case ZYDIS_MNEMONIC_CALL:
		if (far_target(c, in, &sel, &to)) {
			far_call(c, sel, to, next, in->opsize);
			return true;
		}
		to = in->op[0].type == OP_IMM ? rel(c, in) : x86_get(c, in, 0);
		n = c->rip;
		go(c, in, to);
		to = c->rip;
		c->rip = n;
		push(c, in->opsize, next);
		c->rip = to;
		return true;
	case ZYDIS_MNEMONIC_RET:
		n = in->nop && in->op[0].type == OP_IMM ?
		    (uint16_t)in->op[0].disp : 0;
		if (in->opcode == 0xca || in->opcode == 0xcb) {
			far_ret(c, in->opsize, (unsigned)n);
			return true;
		}
		go(c, in, stack_at(c, 0, in->opsize));
		set_sp(c, c->gpr[RSP] + in->opsize + n);
		return true;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		if (count(c, in) == 0)
			go(c, in, rel(c, in));
		else
			c->rip = next;
		return true;
	case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_LOOPE:
	case ZYDIS_MNEMONIC_LOOPNE:
		n = count(c, in) - 1;
		if (in->addrsize == 2)
			n &= 0xffff;
		else if (in->addrsize == 4)
			n &= 0xffffffff;
		if (n && (in->mnem == ZYDIS_MNEMONIC_LOOP ||
		    !(c->eflags & FL_ZF) == (in->mnem ==
		    ZYDIS_MNEMONIC_LOOPNE)))
			go(c, in, rel(c, in));
		else
			c->rip = next;
		set_count(c, in, n);
		return true;
	}
	return false;
}

bool
exec_flow(struct cpu *c, const struct insn *in)
{
	uint64_t next = next_rip(c, in), v;

	if (branches(c, in))
		return true;
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_PUSH:
		v = in->op[0].type == OP_IMM ? (uint64_t)in->op[0].disp :
		    x86_get(c, in, 0);
		push(c, in->opsize, v);
		break;
	case ZYDIS_MNEMONIC_POP:
		do_pop(c, in);
		break;
	case ZYDIS_MNEMONIC_PUSHA:
		do_pusha(c, 2);
		break;
	case ZYDIS_MNEMONIC_PUSHAD:
		do_pusha(c, 4);
		break;
	case ZYDIS_MNEMONIC_POPA:
		do_popa(c, 2);
		break;
	case ZYDIS_MNEMONIC_POPAD:
		do_popa(c, 4);
		break;
	case ZYDIS_MNEMONIC_ENTER:
		do_enter(c, in);
		break;
	case ZYDIS_MNEMONIC_LEAVE: {
		uint64_t at = c->gpr[RBP] & sp_mask(c);

		v = x86_ld(c, x86_linear(c, SS, at, in->opsize, ACC_READ),
		    in->opsize, MODE_MMU(c->mode));
		set_sp(c, at + in->opsize);
		set_reg(c, RBP, in->opsize, v);
		break;
	}
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		v = (c->eflags | 2) & ~(uint64_t)(FL_VM | FL_RF);
		if (c->eflags & FL_VM && (c->eflags & FL_IOPL) != FL_IOPL) {
			if (!(c->cr4 & CR4_VME) || in->opsize != 2)
				x86_gp(c, 0);
			v = (v & ~(uint64_t)FL_IF) | FL_IOPL |
			    (v & FL_VIF ? FL_IF : 0);
		}
		push(c, in->opsize, v);
		break;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		if (c->eflags & FL_VM && (c->eflags & FL_IOPL) != FL_IOPL &&
		    (!(c->cr4 & CR4_VME) || in->opsize != 2))
			x86_gp(c, 0);
		v = stack_at(c, 0, in->opsize);
		x86_popf(c, v, in->opsize);
		set_sp(c, c->gpr[RSP] + in->opsize);
		break;
	default:
		return false;
	}
	c->rip = next;
	return true;
}
