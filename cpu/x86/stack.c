/*
 * stack.c - push, pop and leave in emitted code, one by one and in runs.
 *
 * A run is pushes in a row, or pops and the return behind them: one check for
 * all.  Where the run crosses a page its instructions are done one by one, in
 * cold code.
 */
#include <Zydis/Zydis.h>

#include "jit.h"

/* Stack operations are emitted for flat stacks of the code's own width. */
unsigned
stack_size(const struct tr *t, const struct insn *in)
{
	if ((t->mode & M_SIZE) == M_64)
		return in->opsize == 2 ? 0 : 8;
	if ((t->mode & M_SIZE) == M_32 && t->mode & M_SS32 &&
	    t->mode & M_FLAT_SS && t->mode & M_FLAT_CS)
		return in->opsize == 4 ? 4 : 0;
	return 0;
}

void
emit_sp(struct tr *t, int32_t d)
{
	e_lea(&t->e, !rip32(t), H_GSP, H_GSP, H_NONE, 0, d);
}

/* Push the register `src` (host; not S1 or S2) or, H_NONE, gs:off. */
static void
emit_push(struct tr *t, unsigned size, unsigned src, uint32_t off)
{
	struct emit *e = &t->e;
	struct place p = site_stack(t, -(int32_t)size, ACC_WRITE, size);

	if (src == H_NONE) {
		e_lea(e, 1, S1, p.base, p.index, 0, p.disp);
		e_ld_gs(e, S2, off);
		e_st(e, size, S2, S1, H_NONE, 0);
	} else
		e_st(e, size, src, p.base, p.index, p.disp);
	emit_sp(t, -(int32_t)size);
}

void
emit_push_gs(struct tr *t, unsigned size, uint32_t off)
{
	emit_push(t, size, H_NONE, off);
}

static void
emit_pop(struct tr *t, unsigned size, unsigned g)
{
	struct emit *e = &t->e;
	struct place p = site_stack(t, 0, ACC_READ, size);

	if (g == RSP) {
		e_ld(e, size == 8, H_GSP, p.base, p.index, p.disp);
		return;
	}
	if (hreg(g) == H_NONE) {
		e_ld(e, size == 8, S2, p.base, p.index, p.disp);
		e_st_gs(e, S2, GS_GPR(g));
	} else
		e_ld(e, size == 8, hreg(g), p.base, p.index, p.disp);
	emit_sp(t, (int32_t)size);
}

bool
stack_insn(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	const struct operand *o = &in->op[0];
	unsigned size = stack_size(t, in);
	struct place p;

	if (!size)
		return false;
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_PUSH:
		if (o->type == OP_REG) {
			emit_push(t, size, hreg(o->reg), GS_GPR(o->reg));
			return true;
		}
		if (o->type == OP_IMM) {
			p = site_stack(t, -(int32_t)size, ACC_WRITE, size);
			e_rex(e, size == 8, 0, p.index, p.base, 0);
			e8(e, 0xc7);
			e_mem(e, 0, p.base, p.index, 0, p.disp);
			e32(e, (uint32_t)o->disp);
			emit_sp(t, -(int32_t)size);
			return true;
		}
		if (o->type != OP_MEM || !site_possible(t, in, o))
			return false;
		site_operand(t, in, o, ACC_READ, size);
		e_ld(e, size == 8, S1, S2, S1, 0);
		e_st_gs(e, S1, GS(save[2]));
		emit_push(t, size, H_NONE, GS(save[2]));
		return true;
	case ZYDIS_MNEMONIC_POP:
		if (o->type != OP_REG)
			return false;
		emit_pop(t, size, o->reg);
		return true;
	case ZYDIS_MNEMONIC_LEAVE:
		site_reg(t, H_BP, 0, !rip32(t), ACC_READ, size);
		e_lea(e, !rip32(t), H_GSP, H_BP, H_NONE, 0, (int32_t)size);
		e_ld(e, size == 8, H_BP, S2, S1, 0);
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------- runs */

static bool
in_run(const struct tr *t, int i, uint16_t mnem, unsigned size)
{
	const struct insn *in = &t->in[i];
	const struct operand *o = &in->op[0];

	return in->mnem == mnem && stack_size(t, in) == size &&
	    ((o->type == OP_REG && o->reg != RSP) ||
	    (o->type == OP_IMM && mnem == ZYDIS_MNEMONIC_PUSH));
}

static unsigned
group_of(const struct tr *t, int i)
{
	return grouped(t, i) ? t->group[i] : 0;
}

/* Instructions from t->i on that make a run; 0: none. *n accesses */
static int
run_length(const struct tr *t, unsigned size, unsigned *n)
{
	uint16_t mnem = t->in[t->i].mnem;
	unsigned g = group_of(t, t->i);
	const struct insn *ret;
	int i = t->i;

	if (mnem != ZYDIS_MNEMONIC_PUSH && mnem != ZYDIS_MNEMONIC_POP)
		return 0;
	while (i < t->n && i - t->i < 16 && in_run(t, i, mnem, size) &&
	    (i == t->i || !t->join[i]) && group_of(t, i) == g)
		i++;
	*n = (unsigned)(i - t->i);
	ret = &t->in[i];
	if (mnem == ZYDIS_MNEMONIC_POP && *n && i < t->n && !t->join[i] &&
	    ret->mnem == ZYDIS_MNEMONIC_RET && ret->opcode != 0xca &&
	    ret->opcode != 0xcb && stack_size(t, ret) == size &&
	    group_of(t, i) == g) {
		++*n;
		i++;
	}
	return *n < 2 ? 0 : i - t->i;
}

int
stack_run(struct tr *t)
{
	struct emit *e = &t->e;
	unsigned size = stack_size(t, &t->in[t->i]), n, k, tmp = S2;
	int len, i;
	bool push = t->in[t->i].mnem == ZYDIS_MNEMONIC_PUSH;
	bool in_group = grouped(t, t->i);
	struct place p = { S1, H_NONE, 0 };
	int32_t at, from;

	if (!jit_on.runs || t->bounce || !size ||
	    (!in_group && !(jit_on.slots && t->b->busy)) || !(len = run_length(t, size, &n)))
		return 0;
	from = push ? -(int32_t)(n * size) : 0;
	if (in_group) {
		p = site_stack(t, from, push ? ACC_WRITE : ACC_READ, size);
		tmp = S1;
	} else {
		site_run(t, from, push ? -(int32_t)size : 0, push, n * size,
		    len);
		e_lea(e, 1, S1, S1, S2, 0, 0);
	}
	for (k = 0, i = t->i; k < n; k++, i++) {
		const struct insn *in = &t->in[i];
		const struct operand *o = &in->op[0];
		unsigned h = o->type == OP_REG ? hreg(o->reg) : H_NONE;

		at = (int32_t)(size * (push ? n - 1 - k : k));
		if (in->mnem == ZYDIS_MNEMONIC_RET) {
			e_ld(e, size == 8, S1, p.base, p.index, p.disp + at);
			emit_sp(t, at);
			emit_return(t, in, size);
			return len;
		}
		if (push && o->type == OP_IMM) {
			e_rex(e, size == 8, 0, p.index, p.base, 0);
			e8(e, 0xc7);
			e_mem(e, 0, p.base, p.index, 0, p.disp + at);
			e32(e, (uint32_t)o->disp);
		} else if (push) {
			if (h == H_NONE)
				e_ld_gs(e, h = tmp, GS_GPR(o->reg));
			e_st(e, size, h, p.base, p.index, p.disp + at);
		} else {
			e_ld(e, size == 8, h == H_NONE ? tmp : h, p.base,
			    p.index, p.disp + at);
			if (h == H_NONE)
				e_st_gs(e, tmp, GS_GPR(o->reg));
		}
	}
	emit_sp(t, push ? from : (int32_t)(n * size));
	if (!in_group)
		t->cold[t->ncold - 1].after = e->p;
	return len;
}
