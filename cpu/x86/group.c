/*
 * group.c - one check for several accesses of a block.
 *
 * Accesses off the same register, which is not changed between them, and within
 * GROUP_MAX bytes of each other are checked together by the first of them: it
 * checks the whole range, the others use what it found.  The stack pointer may
 * change by pushes, pops and constants: a prologue is one group.
 *
 * If the range is on two pages the rest of the block runs from a translation
 * without groups (MODE_SPLIT), this once; if that happens often, or the page is
 * not plain memory, the block is made again without this group.  The range may
 * reach further than what is executed, so none of that says anything about
 * faults.
 *
 * Between them nothing may happen that changes what the check found: no helper,
 * and no jump that comes from elsewhere.  A miss of another access does not,
 * unless other vcpus took the page from us meanwhile; jit_miss() then leaves.
 */
#include <Zydis/Zydis.h>

#include "jit.h"

#define GROUP_MAX	128
#define BASE_RIP	16
#define NBASE		17

struct access { unsigned base, size, acc; int64_t at; };

/* What a stack instruction accesses, `at` from RSP before it. */
static bool
stack_access(const struct tr *t, const struct insn *in, struct access *a)
{
	const struct operand *o = &in->op[0];

	if (stack_size(t, in) != 8)
		return false;
	*a = (struct access){ RSP, 8, ACC_READ, 0 };
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_CALL:
		a->acc = ACC_WRITE;
		a->at = -8;
		return o->type == OP_REG || o->type == OP_IMM;
	case ZYDIS_MNEMONIC_POP:
		return o->type == OP_REG && o->reg != RSP;
	case ZYDIS_MNEMONIC_RET:
		return true;
	}
	return false;
}

/* The access of instruction i that may be of a group. */
static bool
member(const struct tr *t, int i, struct access *a)
{
	const struct insn *in = &t->in[i];
	const struct operand *o, *m = NULL;
	enum class k = insn_class(t->mode, in);
	unsigned j;

	if (k == CL_STACK || k == CL_BRANCH)
		return stack_access(t, in, a);
	if (in->mnem == ZYDIS_MNEMONIC_LEA || k != CL_COPY)
		return false;
	for (j = 0; j < in->nop; j++) {
		o = &in->op[j];
		if (o->type == OP_MEM)
			m = o;
	}
	if (!m || m->index != 0xff || m->base > BASE_RIP ||
	    in->addrsize != 8 || m->seg == FS || m->seg == GS ||
	    m->size == 0 || m->size > GROUP_MAX / 2)
		return false;
	*a = (struct access){ m->base, m->size,
		m->act & 2 ? ACC_WRITE : ACC_READ, m->disp };
	if (m->base == BASE_RIP)
		a->at += t->off[i] + in->len;
	return a->at == (int32_t)a->at;
}

/* What instruction `in` adds to RSP, where that is known. */
static bool
moves_sp(const struct tr *t, const struct insn *in, int32_t *by)
{
	const struct operand *o = in->op;
	unsigned size = stack_size(t, in);

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_PUSH:
		*by = -(int32_t)size;
		return size;
	case ZYDIS_MNEMONIC_POP:
		*by = (int32_t)size;
		return size && o[0].type == OP_REG && o[0].reg != RSP;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		*by = (int32_t)o[1].disp;
		if (in->mnem == ZYDIS_MNEMONIC_SUB)
			*by = -*by;
		return o[0].type == OP_REG && o[0].reg == RSP &&
		    o[1].type == OP_IMM && in->opsize == 8 &&
		    o[1].disp >= -65536 && o[1].disp <= 65536;
	case ZYDIS_MNEMONIC_LEA:
		*by = (int32_t)o[1].disp;
		return o[0].reg == RSP && o[1].base == RSP &&
		    o[1].index == 0xff && in->opsize == 8 &&
		    in->addrsize == 8 && o[1].disp >= -65536 &&
		    o[1].disp <= 65536;
	}
	return false;
}

/* Make `g` take [at, at + size) too. False: too far. */
static bool
extend(struct group *g, int64_t at, unsigned size)
{
	int64_t lo = at < g->lo ? at : g->lo;
	int64_t hi = at + size > g->hi ? at + size : g->hi;

	if (hi - lo > GROUP_MAX || lo != (int32_t)lo)
		return false;
	g->lo = lo;
	g->hi = hi;
	g->n++;
	return true;
}

/* Does executing it end all groups? */
static bool
closes(const struct tr *t, const struct insn *in)
{
	switch (insn_class(t->mode, in)) {
	case CL_COPY:
	case CL_STACK:
	case CL_BRANCH:
	case CL_NOTHING:
		return false;
	default:
		return true;
	}
}

void
groups_find(struct tr *t, bool none)
{
	/* the group open for each base, for reads and writes; 0: none */
	uint8_t open[NBASE][2] = { { 0 } }, *o;
	bool apart[NBASE] = { false };	/* bases whose group was split */
	int32_t sp = 0, by;
	struct access a;
	unsigned r, k;
	int i;

	none |= !jit_on.groups || (t->mode & M_SIZE) != M_64;
	t->ngroup = 1;
	for (i = 0; i < t->n; i++) {
		t->group[i] = 0;
		t->sp[i] = sp;
		if (none)
			continue;
		if (t->join[i] || closes(t, &t->in[i]))
			for (k = 0; k < NBASE; k++)
				open[k][0] = open[k][1] = 0;
		if (member(t, i, &a) && !apart[a.base]) {
			if (a.base == RSP)
				a.at += sp;
			o = open[a.base];
			/* what may be written may be read */
			if (o[ACC_WRITE] &&
			    extend(&t->groups[o[ACC_WRITE]], a.at, a.size)) {
				t->group[i] = o[ACC_WRITE];
			} else if (a.acc == ACC_READ && o[ACC_READ] &&
			    extend(&t->groups[o[ACC_READ]], a.at, a.size)) {
				t->group[i] = o[ACC_READ];
			} else if (profile_split(t->b, t->off[i])) {
				apart[a.base] = true;
			} else if (t->ngroup < GROUPS_N) {
				t->groups[t->ngroup] = (struct group){
					.lo = a.at, .hi = a.at + a.size, .n = 1,
					.first = i, .acc = a.acc };
				t->group[i] = o[a.acc] = t->ngroup++;
			}
		}
		if (moves_sp(t, &t->in[i], &by))
			sp += by;
		else if (t->in[i].wr >> RSP & 1)
			open[RSP][0] = open[RSP][1] = 0;
		for (r = 0; r < 16; r++)
			if (r != RSP && t->in[i].wr >> r & 1)
				open[r][0] = open[r][1] = 0;
	}
}
