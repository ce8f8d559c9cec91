/*
 * stub.c - the shared pieces of emitted code: entering, leaving, the TLB look-up
 * behind every memory access that misses its slot, the jump cache, and calls
 * into C.
 *
 * Stack while guest code runs: 16-byte aligned at cpu->host_rsp.  gs:save[] :
 *	0 rcx at sites with live flags; enter: target
 *	1 flags on their way to and from C
 *	2 branch target during a call	3 borrowed register
 *	4, 5 rax, rcx in stubs		6, 7 S1, S2 in stubs
 */
#include "jit.h"

const uint8_t cls_size[NCLS] = { 1, 2, 4, 8, 16, 32, 64, 128 };
const uint8_t *stub_miss[MMU_N][2][NCLS][2];
const uint8_t *stub_ind[MMU_N];
const uint8_t *stub_leave, *stub_helper;
static const uint8_t *enter;

static const uint8_t saved[] = { H_BX, H_BP, H_12, H_13, H_14, H_15 };

static void
save_regs(struct emit *e)
{
	unsigned r;

	for (r = 0; r < 16; r++)
		if (hreg(r) != H_NONE)
			e_st_gs(e, hreg(r), GS_GPR(r));
}

static void
load_regs(struct emit *e)
{
	unsigned r;

	for (r = 0; r < 16; r++)
		if (hreg(r) != H_NONE)
			e_ld_gs(e, hreg(r), GS_GPR(r));
}

static void
e_gs_ff(struct emit *e, unsigned ext, uint32_t off)	/* push 6, jmp 4 */
{
	e8(e, 0x65);
	e8(e, 0xff);
	e_mem(e, ext, H_NONE, H_NONE, 0, (int32_t)off);
}

static void
e_pop_gs(struct emit *e, uint32_t off)
{
	e8(e, 0x65);
	e8(e, 0x8f);
	e_mem(e, 0, H_NONE, H_NONE, 0, (int32_t)off);
}

static void
e_pushf(struct emit *e)
{
	e8(e, 0x9c);
}

static void
e_popf(struct emit *e)
{
	e8(e, 0x9d);
}

/* Call a C function (rdi already set up) with the stack aligned; rbp is free
 * and survives the call. */
static void
call_c(struct emit *e, void *fn)
{
	e_mov_rr(e, 1, H_BP, H_SP);
	e_alu_ri(e, 1, 4, H_SP, -16);
	e_mov_ri(e, H_AX, (uint64_t)fn);
	e8(e, 0xff);
	e8(e, 0xd0);
	e_mov_rr(e, 1, H_SP, H_BP);
}

static void
self(struct emit *e)		/* rdi = struct cpu */
{
	e_ld_gs(e, H_DI, GS(self));
}

/* [gs:reg + disp8] */
static void
e_gs_at(struct emit *e, unsigned op, unsigned reg, unsigned base, int disp)
{
	e8(e, 0x65);
	e_op_mem(e, 1, op, reg, base, H_NONE, disp);
}

/*
 * Entered by a call from a site's cold code; returns to the site just before
 * it loads the slot's addend, with S1 the offset in the page.
 */
static void
make_miss(struct emit *e, unsigned set, unsigned acc, unsigned cls, int live)
{
	uint8_t *retry, *slow, *skip;
	uint32_t tlb = GS(tlb) +
	    (set * 2 + acc) * (uint32_t)sizeof(((struct cpu *)0)->tlb[0][0]);

	/* S1 back to the linear address; S2 = gs offset of the slot */
	if (live) {
		e_ld_gs(e, H_CX, GS(save[0]));
		e_pushf(e);
		e_gs_at(e, 0x03, S1, S2, 0);	/* add slot.tag, S1 */
	} else
		e_gs_at(e, 0x33, S1, S2, 0);	/* xor slot.tag, S1 */
	e_st_gs(e, H_AX, GS(save[4]));
	e_st_gs(e, H_CX, GS(save[5]));
	retry = e->p;
	/* rax = TLB index * 16 */
	e_mov_rr(e, 1, H_AX, S1);
	e8(e, 0x48); e8(e, 0xc1); e8(e, 0xe8); e8(e, 8);	/* shr $8, rax */
	e_alu_ri(e, 0, 4, H_AX, (TLB_N - 1) << 4);
	e8(e, 0x65);						/* rcx = tag */
	e_op_mem(e, 1, 0x8b, H_CX, H_AX, H_NONE, (int32_t)tlb);
	e8(e, 0x4c); e8(e, 0x31); e8(e, 0xc9);			/* xor r9, rcx */
	e_alu_ri(e, 1, 7, H_CX, 4096 - cls_size[cls]);
	slow = e_jcc(e, 7);					/* ja */
	/* hit: copy the entry to the slot */
	e8(e, 0x65);
	e_op_mem(e, 1, 0x8b, H_AX, H_AX, H_NONE, (int32_t)tlb + 8);
	e_gs_at(e, 0x89, H_AX, S2, 8);
	e8(e, 0x49); e8(e, 0x31); e8(e, 0xc9);			/* xor rcx, r9 */
	e_gs_at(e, 0x89, S1, S2, 0);
	e_mov_rr(e, 1, S1, H_CX);
	/* log it for the next flush */
	e_gs(e, 0, 0x8b, H_CX, GS(slot_nlog[set]));
	e_alu_ri(e, 0, 7, H_CX, FLUSH_LOG);
	skip = e_jcc(e, 7);
	e_lea(e, 0, H_AX, S2, H_NONE, 0,
	    -(int32_t)(GS(slot) + (set * 2 + acc) *
	    (uint32_t)sizeof(((struct cpu *)0)->slot[0][0])));
	e8(e, 0xc1); e8(e, 0xe8); e8(e, 4);			/* shr $4, eax */
	e8(e, 0x65); e8(e, 0x66);		/* mov ax, gs:log(,rcx,2) */
	e8(e, 0x89);
	e_mem(e, H_AX, H_NONE, H_CX, 1, (int32_t)GS(slot_log[set]));
	e_gs_imm(e, 0, 0, GS(slot_nlog[set]), 1);
	e_patch(skip, e->p);
	e_ld_gs(e, H_AX, GS(save[4]));
	e_ld_gs(e, H_CX, GS(save[5]));
	if (live)
		e_popf(e);
	e8(e, 0xc3);
	/* not in the TLB, crosses the page, or no plain memory */
	e_patch(slow, e->p);
	e_ld_gs(e, H_AX, GS(save[4]));
	e_ld_gs(e, H_CX, GS(save[5]));
	save_regs(e);
	e_st_gs(e, S1, GS(save[6]));
	e_st_gs(e, S2, GS(save[7]));
	if (live) {
		e_ld(e, 1, H_AX, H_SP, H_NONE, 0);
		e_st_gs(e, H_AX, GS(save[1]));
	} else {
		e_pushf(e);
		e_pop_gs(e, GS(save[1]));
	}
	e_mov_rr(e, 1, H_SI, S1);
	e_ld(e, 1, H_DX, H_SP, H_NONE, live ? 8 : 0);
	e_mov_ri32(e, H_CX, set | acc << 4 | (uint32_t)cls_size[cls] << 8);
	self(e);
	call_c(e, jit_miss);
	load_regs(e);
	e_ld_gs(e, S1, GS(save[6]));
	e_ld_gs(e, S2, GS(save[7]));
	e_jmp_to(e, retry);
}

/*
 * Jump to the rip in S1 through the jump cache without touching flags.
 */
static void
make_ind(struct emit *e, unsigned set)
{
	uint8_t *hit;
	uint32_t jc = GS(jc) + set * (uint32_t)sizeof(struct jcache);

	e_st_gs(e, H_CX, GS(save[0]));
	e_mov_ri32(e, S2, 0);
	/* crc32 r9, r10 (F2 REX.W 0F 38 F1): a hash that leaves flags alone */
	e8(e, 0xf2); e8(e, 0x4d); e8(e, 0x0f); e8(e, 0x38); e8(e, 0xf1);
	e8(e, 0xc0 | (S2 & 7) << 3 | (S1 & 7));
	e_pext_gs(e, S2, S2, GS(k_jcmask));
	e_ld_gs_index(e, H_CX, S2,
	    jc + (uint32_t)__builtin_offsetof(struct jcache, ntag));
	e_lea(e, 1, H_CX, H_CX, S1, 0, 0);
	hit = e_jrcxz(e);
	e_ld_gs(e, H_CX, GS(save[0]));
	e_st_gs(e, S1, GS(rip));
	e_jmp_to(e, stub_leave);
	e_here8(e, hit);
	e_ld_gs_index(e, S1, S2,
	    jc + (uint32_t)__builtin_offsetof(struct jcache, ripbase));
	e_st_gs(e, S1, GS(ripbase));
	e_ld_gs(e, H_CX, GS(save[0]));
	e_jmp_gs_index(e, S2,
	    jc + (uint32_t)__builtin_offsetof(struct jcache, host));
}

static void
make_leave(struct emit *e)
{
	int i;

	save_regs(e);
	e_pushf(e);
	e_pop_gs(e, GS(save[1]));
	e_mov_rr(e, 0, H_AX, S1);
	e_alu_ri(e, 1, 0, H_SP, 8);
	for (i = 5; i >= 0; i--)
		e_pop(e, saved[i]);
	e8(e, 0xc3);
}

int
stub_init(void)
{
	struct emit e = { .p = jit.rw, .end = jit.rw + jit.size,
		.rx = jit.rx_off };
	unsigned set, acc, cls, i;
	int live;

	/* enter(rdi = cpu, rsi = code) */
	enter = e.p + e.rx;
	for (i = 0; i < 6; i++)
		e_push(&e, saved[i]);
	e_alu_ri(&e, 1, 5, H_SP, 8);
	e_st_gs(&e, H_SP, GS(host_rsp));
	e_st_gs(&e, H_SI, GS(save[0]));
	e_gs_ff(&e, 6, GS(save[1]));
	e_popf(&e);
	load_regs(&e);
	e_gs_ff(&e, 4, GS(save[0]));

	stub_leave = e.p;
	e_mov_ri32(&e, S1, ~0u);
	jit.stub_exit = e.p;
	make_leave(&e);

	/* helper: the return address stays on the stack during the call */
	stub_helper = e.p;
	save_regs(&e);
	e_pushf(&e);
	e_pop_gs(&e, GS(save[1]));
	e_mov_rr(&e, 1, H_SI, S2);
	self(&e);
	call_c(&e, jit_helper);
	e_gs_ff(&e, 6, GS(save[1]));
	e_popf(&e);
	load_regs(&e);
	e8(&e, 0xc3);

	for (set = 0; set < MMU_N; set++) {
		stub_ind[set] = e.p;
		make_ind(&e, set);
		for (acc = 0; acc < 2; acc++)
			for (cls = 0; cls < NCLS; cls++)
				for (live = 0; live < 2; live++) {
					stub_miss[set][acc][cls][live] = e.p;
					make_miss(&e, set, acc, cls, live);
				}
	}
	jit.scratch = e.p;
	e.p += machine.ncpu * SCRATCH_N * SCRATCH_SIZE;
	jit.used = jit.base = (size_t)(e.p - jit.rw + 4095) & ~4095ul;
	return 0;
}

uint32_t
stub_enter(struct cpu *c, const uint8_t *host)
{
	uint32_t x;

	if (!c->xlive)
		cpu_fpu_load(c);
	c->save[1] = (c->eflags & FL_STATUS) | 2;
	x = ((uint32_t (*)(struct cpu *, const uint8_t *))enter)(c, host);
	c->eflags = (c->eflags & ~(uint64_t)FL_STATUS) |
	    (c->save[1] & FL_STATUS);
	return x;
}
