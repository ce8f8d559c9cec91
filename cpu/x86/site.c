/*
 * site.c - a memory access in emitted code.
 *
 * Each site has a slot {tag, addend} in the vcpu (gs): the linear page it
 * touched last and the host page behind it.
 *
 *	lea	EA, S1
 *	xor	gs:slot.tag, S1		S1 = offset in the page if it is the one
 *	cmp	$4096-size, S1		also catches a crossing
 *	ja	cold
 * back: mov	gs:slot.addend, S2
 *	OP	(S2, S1)
 *
 * Where the guest's flags are live the same is done with not, lea, pext and
 * jrcxz, which leave them alone, rcx being put away meanwhile.  Slots are
 * shared by sites of one kind when there are more sites than slots; that costs
 * misses, never correctness, as the tag is the page and not the site.
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
		} else
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

static void
check(struct tr *t, int acc, unsigned size)
{
	struct emit *e = &t->e;
	unsigned cls = cls_of(size), i = next_slot++ % SLOT_N;
	uint32_t slot = GS(slot) + ((t->set * 2 + (unsigned)acc) * SLOT_N + i) *
	    (uint32_t)sizeof(struct tlbe);
	struct cold *k = &t->cold[t->ncold++];
	uint8_t *hit;

	*k = (struct cold){ .kind = COLD_MISS, .set = (uint8_t)t->set,
		.acc = (uint8_t)acc, .cls = (uint8_t)cls,
		.live = tr_live(t), .guest = t->off[t->i], .slot = slot };
	if (!k->live) {
		e_gs(e, 1, 0x33, S1, slot);
		e_alu_ri(e, 1, 7, S1, 4096 - cls_size[cls]);
		k->from = e_jcc(e, 7);
		k->back = e->p;
	} else {
		e_st_gs(e, H_CX, GS(save[0]));
		e_ld_gs(e, H_CX, slot);
		e_not(e, H_CX);
		e_lea(e, 1, S1, H_CX, S1, 0, 1);
		/* both ends inside: an operand that ends in the page may
		 * begin before it */
		e_pext_gs(e, S2, S1, GS(k_hi52));
		e_lea(e, 1, H_CX, S1, H_NONE, 0, cls_size[cls] - 1);
		e_pext_gs(e, H_CX, H_CX, GS(k_hi52));
		if (size > 1)
			e_lea(e, 1, H_CX, H_CX, S2, 0, 0);
		hit = e_jrcxz(e);
		k->from = e_jmp(e);
		e_here8(e, hit);
		e_ld_gs(e, H_CX, GS(save[0]));
		k->back = e->p;
	}
	e_ld_gs(e, S2, slot + 8);
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

void
site_operand(struct tr *t, const struct insn *in, const struct operand *o,
    int acc, unsigned size)
{
	if (t->bounce) {
		e_mov_ri(&t->e, S2, (uint64_t)t->bounce);
		e_mov_ri32(&t->e, S1, 0);
		return;
	}
	emit_ea(t, in, o, S1, true);
	check(t, acc, size);
}

void
site_reg(struct tr *t, unsigned hbase, int32_t disp, bool w64, int acc,
    unsigned size)
{
	e_lea(&t->e, w64, S1, hbase, H_NONE, 0, disp);
	check(t, acc, size);
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
		if (k->kind == COLD_MISS) {
			t->b->pc[t->b->npc++] = (struct pcmap){
				(uint16_t)(e->p - t->b->host), k->guest };
			e_mov_ri32(e, S2, k->slot);
			e_call_to(e, stub_miss[k->set][k->acc][k->cls][k->live]);
			e_jmp_to(e, k->back);
		} else {
			k->exit->cold = e->p;
			e_mov_ri32(e, S1, (uint32_t)(k->exit - jit.ex));
			e_jmp_to(e, jit.stub_exit);
		}
	}
}
