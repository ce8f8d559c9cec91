/*
 * site.c - a memory access in emitted code.
 *
 * Most code runs seldom, and what it looks at costs more than what it does.  So an
 * access looks into the TLB, which others use as well:
 *
 *	lea	EA, S1
 *	rorx	$8, S1, S2
 *	and	$mask, S2		S2 = the entry's offset
 *	xor	gs:tlb.tag(S2), S1	S1 = offset in the page if it is the one
 *	cmp	$4096-size, S1		also catches a crossing
 *	ja	cold
 * back: mov	gs:tlb.host(S2), S2	where the page is
 *	OP	(S2, S1)
 *
 * or where the guest's flags are live calls what does that and keeps them
 * (stub_look).  In blocks that run often (profile.c) it has a slot {tag, addend}
 * in the vcpu: the linear page it touched last and what to add to reach the
 * host's.  That waits for nothing, but is data of its own; one that misses often
 * looks into the TLB again.
 *
 *	lea	EA, S1
 *	mov	S1, S2
 *	xor	gs:slot.tag, S2		S2 = offset in the page if it is the one
 *	cmp	$4096-size, S2		also catches a crossing
 *	ja	cold
 * back: mov	gs:slot.addend, S2
 *	OP	(S2, S1)		or OP disp(S2, base), which waits less
 *
 * Where flags are live that is done with not, lea, pext and jrcxz, which leave
 * them alone, rcx being put away meanwhile.  Slots are shared by sites of one kind when there are more sites than slots; that costs misses,
 * never correctness, as the tag is the page and not the site.
 */
#include "jit.h"

static unsigned next_slot;

static unsigned
cls_of(unsigned size)
{
	unsigned i;

	for (i = 0; i < NCLS - 1; i++)
		if (size <= cls_size[i])
			return i;
	return NCLS - 1;
}

void
emit_get(struct tr *t, unsigned dst, unsigned g)
{
	if (hreg(g) == H_NONE)
		e_ld_gs(&t->e, dst, GS_GPR(g));
	else
		e_mov_rr(&t->e, 1, dst, hreg(g));
}

/* Register of an address: its own host register, or loaded into `tmp`. */
static unsigned
addr_reg(struct tr *t, unsigned g, unsigned tmp)
{
	if (hreg(g) != H_NONE)
		return hreg(g);
	e_ld_gs(&t->e, tmp, GS_GPR(g));
	return tmp;
}

/*
 * dst (S1 or S2, or any register for lea) = effective address, with the
 * segment's base if `segment`.  Uses S1 and S2.  Leaves flags alone.
 */
void
emit_ea(struct tr *t, const struct insn *in, const struct operand *o,
    unsigned dst, bool segment)
{
	struct emit *e = &t->e;
	unsigned base = H_NONE, index = H_NONE, ss = 0;
	bool w = in->addrsize == 8;
	bool addbase = segment && (o->seg == FS || o->seg == GS ||
	    ((t->mode & M_SIZE) != M_64 && !(t->mode & (M_FLAT_ES << o->seg))));

	if (o->index != 0xff) {
		index = addr_reg(t, o->index, S2);
		ss = (unsigned)__builtin_ctz(o->scale ? o->scale : 1);
	}
	if (o->base == 16) {
		e_ld_gs(e, S1, GS(ripbase));
		base = S1;
		e_lea(e, w, dst, base, index, ss,
		    (int32_t)o->disp + t->off[t->i] + in->len);
	} else {
		if (o->base != 0xff)
			base = addr_reg(t, o->base, S1);
		if (base == H_NONE && index == H_NONE) {
			if (w)
				e_mov_ri(e, dst, (uint64_t)o->disp);
			else
				e_mov_ri32(e, dst, (uint32_t)o->disp);
		} else if (index == H_NONE && o->disp == 0)
			e_mov_rr(e, w, dst, base);
		else
			e_lea(e, w, dst, base, index, ss, (int32_t)o->disp);
	}
	if (in->addrsize == 2) {		/* movzx dst16 */
		e_rex(e, 0, dst, H_NONE, dst, 0);
		e8(e, 0x0f);
		e8(e, 0xb7);
		e8(e, 0xc0 | (dst & 7) << 3 | (dst & 7));
	}
	if (addbase) {
		unsigned tmp = dst == S2 ? S1 : S2;

		e_ld_gs(e, tmp, GS(seg) + o->seg * (uint32_t)sizeof(struct seg)
		    + (uint32_t)__builtin_offsetof(struct seg, base));
		e_lea(e, (t->mode & M_SIZE) == M_64, dst, dst, tmp, 0, 0);
	}
}

/* Does this access have a slot? */
static bool
has_slot(const struct tr *t)
{
	return jit_on.slots && t->b->busy && !profile_roams(t->b, t->off[t->i]);
}

static unsigned
flags_where(const struct tr *t)
{
	return !tr_live(t) ? FLAGS_DEAD : t->saved ? FLAGS_LAZY : FLAGS_HOST;
}

static struct cold *
new_cold(struct tr *t, unsigned kind, int acc, unsigned cls)
{
	struct cold *k = &t->cold[t->ncold++];

	*k = (struct cold){ .kind = (uint8_t)kind, .set = (uint8_t)t->set,
		.acc = (uint8_t)acc, .cls = (uint8_t)cls,
		.live = (uint8_t)flags_where(t), .guest = (uint16_t)(t->off[t->i] |
		    (t->saved ? PC_LAZY : 0)) };
	return k;
}

/* One more, for info jit; leaves flags alone. */
static void
emit_count(struct tr *t, uint32_t counter)
{
	if (!jit_count)
		return;
	e_ld_gs(&t->e, S2, counter);
	e_lea(&t->e, 1, S2, S2, H_NONE, 0, 1);
	e_st_gs(&t->e, S2, counter);
}

/* Through the slot.  A run has its own way to miss. */
static struct cold *
check_slot(struct tr *t, unsigned kind, int acc, unsigned cls, unsigned size)
{
	struct emit *e = &t->e;
	unsigned i = next_slot++ % SLOT_N;
	uint32_t slot = GS(slot) + ((t->set * 2 + (unsigned)acc) * SLOT_N + i) *
	    (uint32_t)sizeof(struct site_slot);
	struct cold *k;
	uint8_t *hit;

	flags_free(t);
	k = new_cold(t, kind, acc, cls);
	k->slot = slot;
	emit_count(t, GS(n_by_slot));
	if (k->live != FLAGS_HOST) {
		e_mov_rr(e, 1, S2, S1);
		e_gs(e, 1, 0x33, S2, slot);
		e_alu_ri(e, 1, 7, S2, 4096 - (int32_t)size);
		k->from = e_jcc(e, 7);
		k->back = e->p;
	} else {
		e_st_gs(e, H_CX, GS(save[0]));
		e_ld_gs(e, H_CX, slot);
		e_not(e, H_CX);
		e_lea(e, 1, S2, H_CX, S1, 0, 1);
		/* both ends inside: an operand that ends in the page may
		 * begin before it */
		e_pext_gs(e, H_CX, S2, GS(k_hi52));
		if (size > 1) {
			e_lea(e, 1, S2, S2, H_NONE, 0, (int32_t)size - 1);
			e_pext_gs(e, S2, S2, GS(k_hi52));
			e_lea(e, 1, H_CX, H_CX, S2, 0, 0);
		}
		hit = e_jrcxz(e);
		k->from = e_jmp(e);
		e_here8(e, hit);
		e_ld_gs(e, H_CX, GS(save[0]));
		k->back = e->p;
	}
	e_ld_gs(e, S2, slot + 8);
	k->past = e->p;
	return k;
}

/* Through the TLB; where flags are live, by a call. */
static void
check_tlb(struct tr *t, int acc, unsigned cls, bool group)
{
	struct emit *e = &t->e;
	uint32_t tlb = GS(tlb) + (t->set * 2 + (unsigned)acc) *
	    (uint32_t)sizeof(((struct cpu *)0)->tlb[0][0]);
	struct cold *k;

	flags_free(t);
	emit_count(t, GS(n_by_tlb));
	if (flags_where(t) == FLAGS_HOST) {
		e_call_to(e, stub_look[t->set][acc][cls][group]);
		return;
	}
	k = new_cold(t, COLD_TLB, acc, cls);
	k->group = group;
	k->slot = tlb;
	k->back = e->p;
	emit_look(e, tlb, cls_size[cls]);
	k->from = e_jcc(e, 7);
	e_gs_reg(e, 0x8b, S2, S2, tlb + 8);
	k->past = e->p;
}

/* The linear address in S1 may be accessed: [S1 + S2] is it. */
static void
check(struct tr *t, int acc, unsigned size)
{
	unsigned cls = cls_of(size);

	if (has_slot(t))
		check_slot(t, COLD_MISS, acc, cls, cls_size[cls]);
	else
		check_tlb(t, acc, cls, false);
}

void
site_run(struct tr *t, int32_t disp, int32_t first, bool write, unsigned n,
    int len)
{
	struct cold *k;

	e_lea(&t->e, !rip32(t), S1, H_GSP, H_NONE, 0, disp);
	/* any class will do: crossing has been ruled out when it is used */
	k = check_slot(t, COLD_RUN, write ? ACC_WRITE : ACC_READ, 0, n);
	k->i = t->i;
	k->len = len;
	k->disp = disp;
	k->first = first;
	k->size = n;
}

/*
 * The stack's page is not the slot's: look it up, unless the run crosses a page
 * boundary; then one instruction after the other.
 */
static void
cold_run(struct tr *t, struct cold k)
{
	struct emit *e = &t->e;
	uint8_t *same, *again, *beside;
	int i;

	if (k.live != FLAGS_HOST)
		e_st_gs(e, H_CX, GS(save[0]));
	e_lea(e, !rip32(t), H_CX, H_GSP, H_NONE, 0, k.disp);
	e_pext_gs(e, S1, H_CX, GS(k_hi52));
	e_lea(e, !rip32(t), H_CX, H_GSP, H_NONE, 0,
	    k.disp + (int32_t)k.size - 1);
	e_pext_gs(e, H_CX, H_CX, GS(k_hi52));
	e_not(e, S1);
	e_lea(e, 1, H_CX, H_CX, S1, 0, 1);
	same = e_jrcxz(e);
	e_ld_gs(e, H_CX, GS(save[0]));
	k.from = e_jmp(e);
	e_here8(e, same);
	e_ld_gs(e, H_CX, GS(save[0]));
	/* a page fault is the first instruction's, which is in the same page */
	e_lea(e, !rip32(t), S1, H_GSP, H_NONE, 0, k.first);
	note_cold(t, k.guest);
	e_mov_ri32(e, S2, k.slot);
	/* one instruction might do with this access only, a run cannot */
	e_call_to(e, stub_miss[k.set][k.acc][k.cls][k.live][0]);
	again = e_jmp(e);
	beside = e_jmp(e);
	e_patch(again, e->p);
	e_lea(e, !rip32(t), S1, H_GSP, H_NONE, 0, k.disp);
	e_jmp_to(e, k.back);
	e_patch(beside, e->p);
	e_patch(k.from, e->p);
	t->ended = false;
	t->saved = k.live == FLAGS_LAZY;
	t->fixed = true;
	for (i = k.i; i < k.i + k.len; i++) {
		t->i = i;
		note_pc(t);
		emit_one(t, &t->in[i]);
	}
	if (!t->ended)
		e_jmp_to(e, k.after);
}

/* Can the operand be reached by emitted code in this mode? */
bool
site_possible(const struct tr *t, const struct insn *in,
    const struct operand *o)
{
	if ((t->mode & M_SIZE) == M_64)
		return true;
	switch (o->seg) {
	case FS:			/* the base is read at run time */
		return t->mode & M_BIG_FS;
	case GS:
		return t->mode & M_BIG_GS;
	case CS:			/* not to be written, nor always read */
		return false;
	}
	return t->mode & (M_FLAT_ES << o->seg);
}

/* An access that is checked with others: disp from guest register `base`, 16:
 * from ripbase. */
static struct place
group_operand(struct tr *t, unsigned base, int32_t disp)
{
	struct group *g = &t->groups[t->group[t->i]];
	struct emit *e = &t->e;
	bool own = base < 16 && hreg(base) != H_NONE;
	unsigned h = own ? hreg(base) : S1, cls;
	uint32_t mem = base == 16 ? GS(ripbase) : GS_GPR(base);
	int32_t lo = (int32_t)g->lo - (base == RSP ? t->sp[t->i] : 0);
	struct cold *k;

	if (t->i != g->first) {
		e_ld_gs(e, S2, g->found);
		if (!g->slot)
			return (struct place){ S2, H_NONE, disp - lo };
		if (!own)
			e_ld_gs(e, S1, mem);
		return (struct place){ S2, h, disp };
	}
	if (!own)
		e_ld_gs(e, S1, mem);
	e_lea(e, 1, S1, h, H_NONE, 0, lo);
	cls = cls_of((unsigned)(g->hi - g->lo));
	g->slot = has_slot(t);
	if (!g->slot) {
		check_tlb(t, (int)g->acc, cls, true);
		g->found = GS(found) + 8 * t->group[t->i];
		e_lea(e, 1, S2, S2, S1, 0, 0);
		e_st_gs(e, S2, g->found);
		return (struct place){ S2, H_NONE, disp - lo };
	}
	k = check_slot(t, COLD_MISS, (int)g->acc, cls, cls_size[cls]);
	k->group = true;
	g->found = k->slot + 8;
	return (struct place){ S2, h, own ? disp : disp - lo };
}

struct place
site_operand(struct tr *t, const struct insn *in, const struct operand *o,
    int acc, unsigned size)
{
	struct place p = { S2, S1, 0 };

	if (t->bounce) {
		e_mov_ri(&t->e, S2, (uint64_t)t->bounce);
		e_mov_ri32(&t->e, S1, 0);
		return p;
	}
	if (grouped(t, t->i))
		return group_operand(t, o->base, (int32_t)(o->disp +
		    (o->base == 16 ? t->off[t->i] + in->len : 0)));
	emit_ea(t, in, o, S1, true);
	check(t, acc, size);
	/* without waiting for S1 where the address is one register */
	if (has_slot(t) && in->addrsize == 8 && o->base < 16 &&
	    hreg(o->base) != H_NONE && o->index == 0xff && o->seg != FS &&
	    o->seg != GS)
		p = (struct place){ S2, hreg(o->base), (int32_t)o->disp };
	return p;
}

void
site_ea(struct tr *t, int acc, unsigned size)
{
	check(t, acc, size);
}

void
site_reg(struct tr *t, unsigned hbase, int32_t disp, bool w64, int acc,
    unsigned size)
{
	e_lea(&t->e, w64, S1, hbase, H_NONE, 0, disp);
	check(t, acc, size);
}

struct place
site_stack(struct tr *t, int32_t disp, int acc, unsigned size)
{
	if (!t->in_cold && !t->bounce && grouped(t, t->i))
		return group_operand(t, RSP, disp);
	site_reg(t, H_GSP, disp, !rip32(t), acc, size);
	return (struct place){ S2, S1, 0 };
}

void
emit_cold(struct tr *t)
{
	struct emit *e = &t->e;
	struct cold *k;
	int i;

	for (i = 0; i < t->ncold; i++) {
		k = &t->cold[i];
		e_patch(k->from, e->p);
		if (k->kind == COLD_RUN) {
			cold_run(t, *k);
		} else if (k->kind == COLD_TLB) {
			e_gs_reg(e, 0x33, S1, S2, k->slot);
			note_cold(t, k->guest);
			e_call_to(e, stub_tmiss[k->set][k->acc][k->cls]
			    [k->live][k->group]);
			e_jmp_to(e, k->back);
			e_jmp_to(e, k->past);
		} else if (k->kind == COLD_MISS) {
			if (k->live == FLAGS_HOST)
				e_ld_gs(e, H_CX, GS(save[0]));
			note_cold(t, k->guest);
			e_mov_ri32(e, S2, k->slot);
			e_call_to(e, stub_miss[k->set][k->acc][k->cls]
			    [k->live][k->group]);
			e_jmp_to(e, k->back);
			e_jmp_to(e, k->past);
		} else {
			k->exit->cold = e->p;
			if (k->live == FLAGS_LAZY)
				flags_get(e);
			e_mov_ri32(e, S1, (uint32_t)(k->exit - jit.ex));
			e_jmp_to(e, jit.stub_exit);
		}
	}
}
