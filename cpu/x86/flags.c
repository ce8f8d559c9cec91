/*
 * flags.c - where the guest's status flags are while a block runs: in the
 * host's, or put away in cpu->lazy so that memory checks may use the host's.
 *
 * They are put away where that is cheaper than checks that leave flags alone,
 * and always where a block goes on through the jump cache; a block that needs
 * them begins by taking them back (block.entry).  AH has SF ZF AF PF CF as LAHF
 * puts them, AL is OF.
 */
#include "jit.h"

static void
e_lazy(struct emit *e, bool store)
{
	if (store) {
		e8(e, 0x65); e8(e, 0x66); e8(e, 0x89);	/* mov ax, gs:lazy */
		e_mem(e, H_AX, H_NONE, H_NONE, 0, (int32_t)GS(lazy));
	} else
		e_movzx_gs(e, 2, H_AX, GS(lazy));
}

void
flags_to_ax(struct emit *e)
{
	e8(e, 0x9f);				/* lahf */
	e8(e, 0x0f); e8(e, 0x90); e8(e, 0xc0);	/* seto al */
}

void
flags_from_ax(struct emit *e)
{
	e8(e, 0x04); e8(e, 0x7f);		/* add $127, al: OF */
	e8(e, 0x9e);				/* sahf */
}

/* Uses S2. */
void
flags_put(struct emit *e)
{
	e_mov_rr(e, 1, S2, H_AX);
	flags_to_ax(e);
	e_lazy(e, true);
	e_mov_rr(e, 1, H_AX, S2);
}

/* Uses S2. */
void
flags_get(struct emit *e)
{
	e_mov_rr(e, 1, S2, H_AX);
	e_lazy(e, false);
	flags_from_ax(e);
	e_mov_rr(e, 1, H_AX, S2);
}

uint64_t
flags_decode(uint16_t lazy)
{
	return (lazy >> 8 & (FL_STATUS & 0xff)) | (lazy & 1 ? FL_OF : 0);
}

uint16_t
flags_encode(uint64_t fl)
{
	return (uint16_t)((fl & 0xff) << 8 | (fl & FL_OF ? 1 : 0));
}

/* Flags that are live behind instruction i and not of its making. */
static uint16_t
through(const struct tr *t, int i)
{
	return t->after[i] & ~kills(&t->in[i]);
}

/* Does control, leaving behind instruction i, pass flags through the jump cache,
 * or to nobody? */
static bool
leaves_lazy(const struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int64_t to = t->off[i] + in->len;

	if (insn_class(t->mode, in) == CL_BRANCH) {
		if (in->op[0].type != OP_IMM ||
		    in->mnem == ZYDIS_MNEMONIC_RET)
			return true;
		if (t->to[i])
			return !t->after[i];
		to += in->op[0].disp;
	}
	return !t->after[i] || to < 0 || to > 4095;
}

/*
 * Are flags that pass instruction t->i better put away for its memory check?
 * Not if it needs them itself.  Otherwise count the checks until they are
 * overwritten, which is free, or wanted back.
 */
static bool
worth(const struct tr *t)
{
	unsigned n = 0, j;
	int i;

	for (i = t->i; i < t->n; i++) {
		const struct insn *in = &t->in[i];
		enum class k = insn_class(t->mode, in);

		if (i > t->i && t->join[i])
			break;
		if (k == CL_HELPER || k == CL_END || k == CL_CLI ||
		    in->fl_read & t->live[i])
			break;
		/* its own are not to be taken for those put away */
		if (in->fl_write && (i == t->i || through(t, i)))
			break;
		if (k == CL_STACK)
			n++;
		for (j = 0; j < in->nop; j++)
			n += in->op[j].type == OP_MEM;
		if (!through(t, i))
			return true;
		if (k == CL_BRANCH || i == t->n - 1)
			return n > 1 || leaves_lazy(t, i);
	}
	return i > t->i && n > 1;
}

/* A memory check is about to use the host's flags.  May they be used? */
bool
flags_free(struct tr *t)
{
	if (!tr_live(t) || t->saved)
		return true;
	if (!jit_on.lazy || t->bounce || t->fixed || !worth(t))
		return false;
	flags_put(&t->e);
	t->saved = true;
	note_pc(t);
	return true;
}

/* Before instruction t->i: in the host's if it needs them there. */
void
flags_sync(struct tr *t)
{
	const struct insn *in = &t->in[t->i];
	enum class k = insn_class(t->mode, in);
	bool back;

	if (!t->saved)
		return;
	if (k == CL_BRANCH)
		back = in->fl_read || !leaves_lazy(t, t->i);
	else if (k == CL_COPY || k == CL_STACK || k == CL_NOTHING)
		back = in->fl_read & t->live[t->i] ||
		    (in->fl_write && through(t, t->i));
	else
		back = true;
	if (back)
		flags_get(&t->e);
	if (back || (in->fl_write && !through(t, t->i)))
		t->saved = false;
}

/* A way out through the jump cache. */
void
flags_leave(struct tr *t)
{
	if (!t->saved)
		flags_put(&t->e);
}
