/*
 * branch.c - control flow: near jumps, calls and returns, and how a block ends.
 *
 * Offsets: a target is kept as `delta`, rip minus cpu->ripbase.  Deltas inside
 * [0, 4096) are in the block's own page and can be linked; others go through
 * the jump cache.
 */
#include <Zydis/Zydis.h>

#include "jit.h"

/*
 * A jump that will be linked.  Where other vcpus may be jumping meanwhile its
 * displacement must not cross eight aligned bytes (smp.c).
 */
static void
align_link(struct emit *e, unsigned opcode_len)
{
	if (machine.ncpu > 1)
		while ((((uintptr_t)e->p + opcode_len) & 7) > 4)
			e8(e, 0x90);
}

static uint8_t *
link_jmp(struct emit *e)
{
	align_link(e, 1);
	return e_jmp(e);
}

static uint8_t *
link_call(struct emit *e)
{
	align_link(e, 1);
	return e_call(e);
}

static uint8_t *
link_jcc(struct emit *e, unsigned cc)
{
	align_link(e, 2);
	return e_jcc(e, cc);
}

static struct cold *
cold_exit(struct tr *t, uint8_t *from, int32_t delta, int kind)
{
	struct cold *k = &t->cold[t->ncold++];

	*k = (struct cold){ .kind = COLD_EXIT, .from = from, .live = t->saved &&
		t->after[t->i] ? FLAGS_LAZY : FLAGS_HOST };
	k->exit = exit_new(t->b, kind, delta);
	if (kind == EXIT_LINK)
		k->exit->patch = from;
	return k;
}

/* Is the rip all that tells one target from another, for the jump cache? */
static bool
by_rip(const struct tr *t)
{
	return t->mode & M_FLAT_CS && (t->mode & M_SIZE) != M_16;
}

/* dst = rip of delta */
void
emit_rip(struct tr *t, unsigned dst, int32_t delta)
{
	e_ld_gs(&t->e, dst, GS(ripbase));
	if (delta)
		e_lea(&t->e, !rip32(t), dst, dst, H_NONE, 0, delta);
	else if (rip32(t))
		e_mov_rr(&t->e, 0, dst, dst);
	if ((t->mode & M_SIZE) == M_16) {
		e_rex(&t->e, 0, dst, H_NONE, dst, 0);
		e8(&t->e, 0x0f);
		e8(&t->e, 0xb7);
		e8(&t->e, 0xc0 | (dst & 7) << 3 | (dst & 7));
	}
}

/* Leave if somebody asked; target is where the guest goes on. */
static void
emit_poll(struct tr *t, int32_t delta)
{
	struct emit *e = &t->e;
	uint8_t *ok;

	e_ld_gs(e, S1, GS(poll));
	if (!t->after[t->i] || t->saved) {
		e8(e, 0x41); e8(e, 0x83); e8(e, 0x39); e8(e, 0); /* cmpl $0,(r9) */
		cold_exit(t, e_jcc(e, 5), delta, EXIT_LEAVE);
	} else {
		e_mov_rr(e, 1, S2, H_CX);
		e_ld(e, 0, H_CX, S1, H_NONE, 0);
		ok = e_jrcxz(e);
		e_mov_rr(e, 1, H_CX, S2);
		cold_exit(t, e_jmp(e), delta, EXIT_LEAVE);
		e_here8(e, ok);
		e_mov_rr(e, 1, H_CX, S2);
	}
}

/* To the rip in S1, flags put away, by a stub for the MMU set. */
static void
emit_goto(struct tr *t, const uint8_t *const *stub)
{
	struct emit *e = &t->e;

	if (by_rip(t))
		e_jmp_to(e, stub[t->set]);
	else {
		flags_get(e);
		e_st_gs(e, S1, GS(rip));
		e_jmp_to(e, stub_leave);
	}
}

/* To another page. */
void
emit_far(struct tr *t, int32_t delta)
{
	flags_leave(t);
	emit_rip(t, S1, delta);
	emit_goto(t, stub_ind);
}

/* The block's code goes on at delta: from here, unconditionally. */
void
emit_exit(struct tr *t, int32_t delta, int kind)
{
	if (kind == EXIT_LINK && (delta < 0 || delta > 4095)) {
		emit_far(t, delta);
		return;
	}
	cold_exit(t, link_jmp(&t->e), delta, kind);
}

/* As emit_exit, for a jump that goes backward: polls first. */
static void
emit_jump(struct tr *t, int32_t delta)
{
	if (delta <= t->off[t->i])
		emit_poll(t, delta);
	emit_exit(t, delta, EXIT_LINK);
}

/*
 * Behind the host's call: the guest returned to the rip in S1, flags put away.
 * Nothing has changed this page's mapping, or the stack of calls would be empty.
 */
static void
emit_returned(struct tr *t, int32_t next)
{
	struct emit *e = &t->e;
	struct cold *k;

	t->saved = true;
	if (next > 4095) {
		e_jmp_to(e, stub_ind[t->set]);
		return;
	}
	e_alu_ri(e, 1, 4, S1, -4096);
	e_st_gs(e, S1, GS(ripbase));
	k = cold_exit(t, link_jmp(e), next, EXIT_LINK);
	k->live = FLAGS_LAZY;
	k->exit->lazy = true;
}

/* A direct call; what it returns to is on the stack of calls. */
static void
emit_call(struct tr *t, int32_t delta, int32_t next)
{
	struct emit *e = &t->e;

	if (delta <= t->off[t->i])
		emit_poll(t, delta);
	if (delta < 0 || delta > 4095) {
		flags_leave(t);
		emit_rip(t, S1, delta);
		e_call_to(e, stub_ind[t->set]);
	} else
		cold_exit(t, link_call(e), delta, EXIT_LINK);
	emit_returned(t, next);
}

/* Call C for an instruction.  ends: the rest of the block is not emitted, and
 * C has set rip. */
void
emit_helper(struct tr *t, const struct insn *in, bool ends)
{
	struct emit *e = &t->e;

	if (t->saved)
		flags_get(e);
	t->saved = false;
	emit_rip(t, S1, t->off[t->i]);
	e_st_gs(e, S1, GS(rip));
	e_mov_ri(e, S2, (uint64_t)in);
	if (ends) {
		e_jmp_to(e, stub_end);
		t->ended = true;
	} else
		e_call_to(e, stub_helper);
}

/* Load a near indirect target into gs:save[2]. */
static bool
emit_target(struct tr *t, const struct insn *in, unsigned size)
{
	struct emit *e = &t->e;
	const struct operand *o = &in->op[0];

	if (o->type == OP_REG) {
		if (hreg(o->reg) != H_NONE && size == 8) {
			e_st_gs(e, hreg(o->reg), GS(save[2]));
			return true;
		}
		emit_get(t, S1, o->reg);
		if (size == 4)
			e_mov_rr(e, 0, S1, S1);
	} else {
		if (!site_possible(t, in, o))
			return false;
		site_operand(t, in, o, ACC_READ, size);
		e_ld(e, size == 8, S1, S2, S1, 0);
	}
	e_st_gs(e, S1, GS(save[2]));
	return true;
}

/* The target is in S1, the stack as before. */
void
emit_return(struct tr *t, const struct insn *in, unsigned size)
{
	emit_sp(t, (int32_t)size + (in->op[0].type == OP_IMM ?
	    (int32_t)(uint16_t)in->op[0].disp : 0));
	flags_leave(t);
	emit_goto(t, stub_ret);
	t->ended = true;
}

static int
jcc_of(uint16_t m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_JO: return 0;
	case ZYDIS_MNEMONIC_JNO: return 1;
	case ZYDIS_MNEMONIC_JB: return 2;
	case ZYDIS_MNEMONIC_JNB: return 3;
	case ZYDIS_MNEMONIC_JZ: return 4;
	case ZYDIS_MNEMONIC_JNZ: return 5;
	case ZYDIS_MNEMONIC_JBE: return 6;
	case ZYDIS_MNEMONIC_JNBE: return 7;
	case ZYDIS_MNEMONIC_JS: return 8;
	case ZYDIS_MNEMONIC_JNS: return 9;
	case ZYDIS_MNEMONIC_JP: return 10;
	case ZYDIS_MNEMONIC_JNP: return 11;
	case ZYDIS_MNEMONIC_JL: return 12;
	case ZYDIS_MNEMONIC_JNL: return 13;
	case ZYDIS_MNEMONIC_JLE: return 14;
	case ZYDIS_MNEMONIC_JNLE: return 15;
	}
	return -1;
}

bool
branch_direct(uint32_t mode, const struct insn *in)
{
	return (jcc_of(in->mnem) >= 0 || in->mnem == ZYDIS_MNEMONIC_JMP) &&
	    in->op[0].type == OP_IMM &&
	    (in->opsize == 2) == ((mode & M_SIZE) == M_16) &&
	    in->op[0].disp == (int32_t)in->op[0].disp;
}

/* A jump of this block to an instruction further on in it. */
static void
inner(struct tr *t, uint8_t *rel)
{
	t->fix[t->nfix].rel = rel;
	t->fix[t->nfix++].to = t->to[t->i];
}

/* jcxz, jecxz, jrcxz, loop: on a taken jump control falls into the code after
 * this call, otherwise it jumps over it; returns the place to patch (rel8). */
static bool
emit_count(struct tr *t, const struct insn *in, int32_t next, int32_t delta)
{
	struct emit *e = &t->e;
	uint8_t *z;

	if (in->addrsize == 2)
		return false;
	if (in->mnem == ZYDIS_MNEMONIC_LOOP) {
		e_lea(e, in->addrsize == 8, H_CX, H_CX, H_NONE, 0, -1);
		if (in->addrsize == 4)
			e8(e, 0x67);
		z = e_jrcxz(e);		/* zero: fall through */
		cold_exit(t, link_jmp(e), delta,
		    delta > t->off[t->i] && delta < 4096 ? EXIT_LINK :
		    EXIT_LEAVE);
		e_here8(e, z);
		emit_exit(t, next, EXIT_LINK);
	} else {
		if (in->addrsize == 4)
			e8(e, 0x67);
		z = e_jrcxz(e);
		/* over the short jump's target */
		cold_exit(t, link_jmp(e), next, next < 4096 ? EXIT_LINK :
		    EXIT_LEAVE);
		e_here8(e, z);
		emit_jump(t, delta);
	}
	return true;
}

/* Near control transfers.  False: not one, or not for emitted code. */
bool
branch_insn(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	const struct operand *o = &in->op[0];
	int32_t next = t->off[t->i] + in->len, delta;
	unsigned size = stack_size(t, in);
	struct place p;
	uint8_t *taken;
	bool pair = false;
	int cc;

	if (o->type == OP_IMM && in->opsize == 2 && (t->mode & M_SIZE) != M_16)
		return false;		/* truncates rip */
	if ((t->mode & M_SIZE) == M_16 && (in->opsize != 2 || o->type != OP_IMM))
		return false;
	delta = o->type == OP_IMM ? next + (int32_t)o->disp : 0;
	if (o->type == OP_IMM && o->disp != (int32_t)o->disp)
		return false;
	if ((cc = jcc_of(in->mnem)) >= 0) {
		if (t->to[t->i]) {
			inner(t, e_jcc(e, (unsigned)cc));
		} else if (delta < 4096 && delta > t->off[t->i]) {
			cold_exit(t, link_jcc(e, (unsigned)cc), delta,
			    EXIT_LINK);
		} else {
			taken = e_jcc(e, (unsigned)cc ^ 1);
			emit_jump(t, delta);
			e_patch(taken, e->p);
		}
		return true;
	}
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_JMP:
		if (t->to[t->i] == t->i + 1)
			return true;
		if (t->to[t->i]) {
			inner(t, e_jmp(e));
			return t->ended = true;
		}
		if (o->type == OP_IMM) {
			emit_jump(t, delta);
			return t->ended = true;
		}
		if (!size || (o->type != OP_REG && o->type != OP_MEM))
			return false;
		if (!emit_target(t, in, size))
			return false;
		break;
	case ZYDIS_MNEMONIC_CALL:
		if (!size || (o->type != OP_REG && o->type != OP_MEM &&
		    o->type != OP_IMM))
			return false;
		if (o->type != OP_IMM && !emit_target(t, in, size))
			return false;
		p = site_stack(t, -(int32_t)size, ACC_WRITE, size);
		e_lea(e, 1, S1, p.base, p.index, 0, p.disp);
		emit_rip(t, S2, next);
		e_st(e, size, S2, S1, H_NONE, 0);
		emit_sp(t, -(int32_t)size);
		if ((pair = jit_on.calls && by_rip(t)))
			e_push(e, S2);
		if (o->type == OP_IMM) {
			if (pair)
				emit_call(t, delta, next);
			else
				emit_jump(t, delta);
			return t->ended = true;
		}
		break;
	case ZYDIS_MNEMONIC_RET:
		if (!size)
			return false;
		p = site_stack(t, 0, ACC_READ, size);
		e_ld(e, size == 8, S1, p.base, p.index, p.disp);
		emit_return(t, in, size);
		return true;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_LOOP:
		if (!emit_count(t, in, next, delta))
			return false;
		return t->ended = true;
	default:
		return false;
	}
	flags_leave(t);
	e_ld_gs(e, S1, GS(save[2]));
	if (pair) {
		e_call_to(e, stub_goto[t->set]);
		emit_returned(t, next);
	} else
		emit_goto(t, stub_goto);
	return t->ended = true;
}
