/*
 * task.c - hardware task switch (SDM 3A ch. 7).
 */
#include "sys.h"

struct tss {
	uint64_t	cr3, rip, flags, r[8];
	uint16_t	s[6], ldt;	/* ES CS SS DS FS GS */
	bool		trap;
};

static void
read_tss(struct cpu *c, uint64_t base, bool t32, struct tss *t)
{
	unsigned i;

	*t = (struct tss){ 0 };
	if (t32) {
		t->cr3 = x86_ld(c, base + 0x1c, 4, 0);
		t->rip = x86_ld(c, base + 0x20, 4, 0);
		t->flags = x86_ld(c, base + 0x24, 4, 0);
		for (i = 0; i < 8; i++)
			t->r[i] = x86_ld(c, base + 0x28 + 4 * i, 4, 0);
		for (i = 0; i < 6; i++)
			t->s[i] = (uint16_t)x86_ld(c, base + 0x48 + 4 * i, 2, 0);
		t->ldt = (uint16_t)x86_ld(c, base + 0x60, 2, 0);
		t->trap = x86_ld(c, base + 0x64, 1, 0) & 1;
		return;
	}
	t->rip = x86_ld(c, base + 0x0e, 2, 0);
	t->flags = x86_ld(c, base + 0x10, 2, 0);
	for (i = 0; i < 8; i++)
		t->r[i] = x86_ld(c, base + 0x12 + 2 * i, 2, 0) | 0xffff0000;
	for (i = 0; i < 4; i++)
		t->s[i] = (uint16_t)x86_ld(c, base + 0x22 + 2 * i, 2, 0);
	t->ldt = (uint16_t)x86_ld(c, base + 0x2a, 2, 0);
}

static void
write_tss(struct cpu *c, uint64_t base, bool t32, uint64_t rip, uint64_t flags)
{
	unsigned i;

	if (t32) {
		x86_st(c, base + 0x20, 4, rip, 0);
		x86_st(c, base + 0x24, 4, flags, 0);
		for (i = 0; i < 8; i++)
			x86_st(c, base + 0x28 + 4 * i, 4, c->gpr[i], 0);
		for (i = 0; i < 6; i++)
			x86_st(c, base + 0x48 + 4 * i, 2, c->seg[i].sel, 0);
		return;
	}
	x86_st(c, base + 0x0e, 2, rip, 0);
	x86_st(c, base + 0x10, 2, flags, 0);
	for (i = 0; i < 8; i++)
		x86_st(c, base + 0x12 + 2 * i, 2, c->gpr[i], 0);
	for (i = 0; i < 4; i++)
		x86_st(c, base + 0x22 + 2 * i, 2, c->seg[i].sel, 0);
}

static void
busy(struct cpu *c, uint64_t lin, bool on)
{
	uint8_t v = (uint8_t)x86_ld(c, lin + 5, 1, 0);

	x86_st(c, lin + 5, 1, on ? v | 2 : v & ~2, 0);
}

/* Segments of the new task: faults from here on are the new task's. */
static void
load_segments(struct cpu *c, const struct tss *t)
{
	static const uint8_t order[] = { SS, ES, DS, FS, GS };
	uint64_t lin, d;
	struct seg s;
	unsigned i, a;

	if (c->eflags & FL_VM) {
		for (i = 0; i < 6; i++)
			seg_real(c, i, t->s[i]);
		c->cpl = 3;
		x86_mode(c);
		return;
	}
	if ((t->s[CS] & ~3u) == 0)
		x86_raise(c, VEC_TS, 0);
	d = desc_read(c, t->s[CS], VEC_TS, 0, &lin);
	a = d >> 40 & 0xff;
	if (!(a & SEG_S) || !(a & 8) || (a & 4 ? SEG_DPL(a) > (t->s[CS] & 3u) :
	    SEG_DPL(a) != (t->s[CS] & 3u)))
		x86_raise(c, VEC_TS, t->s[CS] & ~3u);
	if (!(a & SEG_P))
		x86_raise(c, VEC_NP, t->s[CS] & ~3u);
	desc_accessed(c, lin, d);
	desc_seg(d | 1ull << 40, t->s[CS], &c->seg[CS]);
	c->cpl = t->s[CS] & 3;
	x86_mode(c);
	for (i = 0; i < 5; i++) {
		if (order[i] == SS) {
			seg_load_ss(c, t->s[SS], c->cpl, VEC_TS, 0, &s);
			c->seg[SS] = s;
		} else
			seg_load_data(c, order[i], t->s[order[i]], VEC_TS);
	}
	x86_mode(c);
}

void
task_switch(struct cpu *c, uint16_t sel, int how, uint64_t next, bool has_err,
    uint32_t err)
{
	/* a nested interrupt or an external event: EXT in error codes */
	uint32_t ext = how == TASK_INT;
	uint64_t lin, d, oldlin, flags = c->eflags;
	int vec = how == TASK_IRET ? VEC_TS : VEC_GP;
	uint16_t old = c->seg[TR].sel;
	bool t32, old32 = c->seg[TR].attr & 8;
	unsigned type, i;
	struct seg ntr;
	struct tss t;

	if (sel & 4)
		x86_raise(c, vec, (sel & ~3u) | ext);
	d = desc_read(c, sel, vec, ext, &lin);
	type = d >> 40 & 0x1f;
	if (how == TASK_IRET ? type != 3 && type != 11 :
	    type != 1 && type != 9)
		x86_raise(c, vec, (sel & ~3u) | ext);
	if (!(d >> 47 & 1))
		x86_raise(c, VEC_NP, (sel & ~3u) | ext);
	desc_seg(d, sel, &ntr);
	t32 = type & 8;
	if (ntr.limit < (t32 ? 0x67 : 0x2b))
		x86_raise(c, VEC_TS, (sel & ~3u) | ext);
	x86_probe(c, c->seg[TR].base, old32 ? 0x68 : 0x2c, ACC_WRITE, 0);
	read_tss(c, ntr.base, t32, &t);
	if (how == TASK_IRET)
		flags &= ~(uint64_t)FL_NT;
	write_tss(c, c->seg[TR].base, old32, next, flags);
	if ((how == TASK_JMP || how == TASK_IRET) &&
	    desc_find(c, old, 8, &oldlin))
		busy(c, oldlin, false);
	if (how == TASK_CALL || how == TASK_INT)
		x86_st(c, ntr.base, 2, old, 0);
	if (how != TASK_IRET)
		busy(c, lin, true);
	/* commit */
	c->seg[TR] = ntr;
	c->seg[TR].attr |= 2;
	c->cr0 |= CR0_TS;
	if (t32 && c->cr0 & CR0_PG && t.cr3 != c->cr3) {
		c->cr3 = t.cr3;
		tlb_flush_nonglobal(c);
	}
	c->eflags = (t.flags & 0x3f7fd7) | 2;
	if (how == TASK_CALL || how == TASK_INT)
		c->eflags |= FL_NT;
	c->rip = t.rip;
	for (i = 0; i < 8; i++)
		c->gpr[i] = (uint32_t)t.r[i];
	c->dr[7] &= ~0x155ull;
	for (i = 0; i < 6; i++)
		c->seg[i] = (struct seg){ .sel = t.s[i],
			.attr = SEG_UNUSABLE };
	c->int_rip = ~0ull;
	seg_lldt(c, t.ldt, VEC_TS);
	load_segments(c, &t);
	if (has_err)
		push(c, t32 ? 4 : 2, err);
	if (c->rip > c->seg[CS].limit)
		x86_gp(c, 0);
	if (t.trap) {
		c->dr[6] |= 1 << 15;
		x86_raise(c, VEC_DB, 0);
	}
}
