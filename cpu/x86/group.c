/*
 * group.c - one check for several accesses of a block.
 *
 * Accesses off the same register, which is not changed between them, and within
 * GROUP_MAX bytes of each other are checked together by the first of them: it
 * checks the whole range, the others use what it found.  If the range is ever
 * not in one plain page the block is made again without this group
 * (site_split()); the range may reach further than what is executed, so that
 * says nothing about faults.
 *
 * Between them nothing may happen that changes what the check found: no helper,
 * and no jump that comes from elsewhere.  A miss of another access does not,
 * unless other vcpus took the page from us meanwhile; jit_miss() then leaves.
 */
#include "jit.h"

#define GROUP_MAX	128
#define BASE_RIP	16
#define NBASE		17

/* The operand a group may have, or NULL. *at: its offset from the base */
static const struct operand *
member(const struct tr *t, int i, int64_t *at)
{
	const struct insn *in = &t->in[i];
	const struct operand *o, *m = NULL;
	unsigned k;

	if (in->mnem == ZYDIS_MNEMONIC_LEA ||
	    insn_class(t->mode, in) != CL_COPY)
		return NULL;
	for (k = 0; k < in->nop; k++) {
		o = &in->op[k];
		if (o->type == OP_MEM)
			m = o;
	}
	if (!m || m->index != 0xff || m->base > BASE_RIP ||
	    in->addrsize != 8 || m->seg == FS || m->seg == GS ||
	    m->size == 0 || m->size > GROUP_MAX / 2)
		return NULL;
	*at = m->disp + (m->base == BASE_RIP ? t->off[i] + in->len : 0);
	return *at == (int32_t)*at ? m : NULL;
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
groups_find(struct tr *t)
{
	/* the group open for each base, for reads and writes; 0: none */
	uint8_t open[NBASE][2] = { { 0 } }, *o;
	const struct operand *m;
	unsigned acc, r, k;
	int64_t at;
	int i;

	t->ngroup = 1;
	for (i = 0; i < t->n; i++) {
		t->group[i] = 0;
		if (t->join[i] || closes(t, &t->in[i]))
			for (k = 0; k < NBASE; k++)
				open[k][0] = open[k][1] = 0;
		m = jit_on.groups && (t->mode & M_SIZE) == M_64 ?
		    member(t, i, &at) : NULL;
		if (m) {
			acc = m->act & 2 ? ACC_WRITE : ACC_READ;
			o = open[m->base];
			/* what may be written may be read */
			if (o[ACC_WRITE] &&
			    extend(&t->groups[o[ACC_WRITE]], at, m->size)) {
				t->group[i] = o[ACC_WRITE];
			} else if (acc == ACC_READ && o[ACC_READ] &&
			    extend(&t->groups[o[ACC_READ]], at, m->size)) {
				t->group[i] = o[ACC_READ];
			} else if (t->ngroup < GROUPS_N && !is_split(t, i)) {
				t->groups[t->ngroup] = (struct group){
					.lo = at, .hi = at + m->size, .n = 1,
					.first = i, .acc = acc };
				t->group[i] = o[acc] = t->ngroup++;
			}
		}
		for (r = 0; r < 16; r++)
			if (t->in[i].wr >> r & 1)
				open[r][0] = open[r][1] = 0;
	}
}
