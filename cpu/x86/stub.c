/*
 * stub.c - the shared pieces of emitted code: entering, leaving, the TLB look-up
 * behind every memory access that misses its slot, the jump cache, and calls
 * into C.
 *
 * Guest code runs on the stack of calls (calls.c), C on its own from
 * cpu->host_rsp, 16-byte aligned, on.  gs:save[] :
 *	0 rcx at sites with live flags; enter: target
 *	1 flags on their way to and from C
 *	2 branch target during a call	3 borrowed register
 *	4, 5 rax, rcx in stubs		6, 7 S1, S2 in stubs
 *	8 what jit_miss() returned
 */
#include "jit.h"

const uint8_t cls_size[NCLS] = { 1, 2, 4, 8, 16, 32, 64, 128 };
const uint8_t *stub_miss[MMU_N][2][NCLS][FLAGS_N][2];
const uint8_t *stub_tmiss[MMU_N][2][NCLS][FLAGS_N][2];
const uint8_t *stub_look[MMU_N][2][NCLS][2];
const uint8_t *stub_ind[MMU_N], *stub_goto[MMU_N], *stub_ret[MMU_N];
const uint8_t *stub_leave, *stub_away, *stub_helper, *stub_end;
const uint8_t *stub_find;
static const uint8_t *enter, *look_miss;

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

/* Call a C function (rdi already set up) on its stack; rbp is free and survives
 * the call. */
static void
call_c(struct emit *e, void *fn)
{
	e_mov_rr(e, 1, H_BP, H_SP);
	e_ld_gs(e, H_SP, GS(host_rsp));
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

/*
 * Into C, for the linear address in S1; ret: where the return address is above
 * the stack pointer (8: flags are below it).  Falls out to look again.
 */
static void
slow_miss(struct emit *e, uint32_t how, unsigned ret)
{
	uint8_t *again;

	save_regs(e);
	e_st_gs(e, S1, GS(save[6]));
	e_st_gs(e, S2, GS(save[7]));
	e_mov_rr(e, 1, H_SI, S1);
	e_ld(e, 1, H_DX, H_SP, H_NONE, (int32_t)ret);
	e_mov_ri32(e, H_CX, how);
	self(e);
	call_c(e, jit_miss);
	e_st_gs(e, H_AX, GS(save[8]));
	load_regs(e);
	e_ld_gs(e, S1, GS(save[6]));
	e_ld_gs(e, S2, GS(save[7]));
	/* this access only: return to the jump behind the usual one */
	e_gs_imm(e, 1, 7, GS(save[8]), 0);
	again = e_jcc(e, 4);
	e_ld_gs(e, S2, GS(save[8]));
	e8(e, 0x48); e8(e, 0x83);		/* add $5, ret(rsp) */
	e8(e, 0x44); e8(e, 0x24); e8(e, ret); e8(e, 5);
	if (ret)
		e_popf(e);
	e8(e, 0xc3);
	e_patch(again, e->p);
}

/*
 * A slot's page is another: called by a site's cold code with the linear
 * address in S1 and the slot's gs offset in S2; returns with S1 as it was and
 * the slot filled.
 */
static void
make_miss(struct emit *e, unsigned set, unsigned acc, unsigned cls, int flags,
    bool group)
{
	bool live = flags == FLAGS_HOST;
	uint8_t *retry, *slow, *skip, *high, *full, *sample;
	uint32_t tlb = GS(tlb) +
	    (set * 2 + acc) * (uint32_t)sizeof(((struct cpu *)0)->tlb[0][0]);
	uint32_t how = set | acc << 4 | (uint32_t)cls_size[cls] << 8 |
	    (flags == FLAGS_LAZY ? MISS_LAZY : 0) | (group ? MISS_GROUP : 0);

	if (live)
		e_pushf(e);
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
	e8(e, 0x65); e8(e, 0x80);				/* addb $1 */
	e_mem(e, 0, H_NONE, H_NONE, 0, (int32_t)GS(sample));
	e8(e, 1);
	sample = e_jcc(e, 2);					/* jc */
	/* hit: it goes to the slot */
	e8(e, 0x65);
	e_op_mem(e, 1, 0x8b, H_AX, H_AX, H_NONE, (int32_t)tlb + 8);
	e8(e, 0x4c); e8(e, 0x31); e8(e, 0xc9);			/* rcx = tag */
	e8(e, 0x48); e8(e, 0x29); e8(e, 0xc8);			/* sub rcx, rax */
	e_gs_reg(e, 0x89, H_AX, S2, 8);
	e_gs_reg(e, 0x8b, H_AX, S2, 0);				/* old tag */
	e_gs_reg(e, 0x89, H_CX, S2, 0);
	/* log it for the next flush, unless it is in the upper half or has
	 * been: the old tag is in the lower half */
	e8(e, 0x48); e8(e, 0x85); e8(e, 0xc9);			/* test rcx */
	high = e_jcc(e, 8);					/* js */
	e8(e, 0x48); e8(e, 0x85); e8(e, 0xc0);			/* test rax */
	skip = e_jcc(e, 9);					/* jns */
	e_gs(e, 0, 0x8b, H_CX, GS(slot_log[set].n));
	e_alu_ri(e, 0, 7, H_CX, 2 * SLOT_N);
	full = e_jcc(e, 7);
	e_lea(e, 0, H_AX, S2, H_NONE, 0,
	    -(int32_t)(GS(slot) + set * 2 *
	    (uint32_t)sizeof(((struct cpu *)0)->slot[0][0])));
	e8(e, 0xc1); e8(e, 0xe8); e8(e, 4);			/* shr $4, eax */
	e8(e, 0x65); e8(e, 0x66);		/* mov ax, gs:log(,rcx,2) */
	e8(e, 0x89);
	e_mem(e, H_AX, H_NONE, H_CX, 1, (int32_t)GS(slot_log[set].i));
	e_gs_imm(e, 0, 0, GS(slot_log[set].n), 1);
	e_patch(skip, e->p);
	e_patch(high, e->p);
	e_patch(full, e->p);
	e_ld_gs(e, H_AX, GS(save[4]));
	e_ld_gs(e, H_CX, GS(save[5]));
	if (live)
		e_popf(e);
	e8(e, 0xc3);
	/* one refill in 256: is it always the same site? */
	e_patch(sample, e->p);
	e_ld_gs(e, H_AX, GS(save[4]));
	e_ld_gs(e, H_CX, GS(save[5]));
	slow_miss(e, how | MISS_SAMPLE, live ? 8 : 0);
	e_jmp_to(e, retry);
	/* not in the TLB, crosses the page, or no plain memory */
	e_patch(slow, e->p);
	e_ld_gs(e, H_AX, GS(save[4]));
	e_ld_gs(e, H_CX, GS(save[5]));
	if (live) {
		e_ld(e, 1, H_AX, H_SP, H_NONE, 0);
		e_st_gs(e, H_AX, GS(save[1]));
		e_ld_gs(e, H_AX, GS(save[4]));
	}
	slow_miss(e, how, live ? 8 : 0);
	e_jmp_to(e, retry);
}

/*
 * The TLB has not got it: called with the linear address in S1 by sites that
 * look there themselves; returns for them to look again.
 */
static void
make_tmiss(struct emit *e, unsigned set, unsigned acc, unsigned cls, int flags,
    bool group)
{
	bool live = flags == FLAGS_HOST;

	if (live) {
		e_st_gs(e, H_AX, GS(save[4]));
		e_pushf(e);
		e_ld(e, 1, H_AX, H_SP, H_NONE, 0);
		e_st_gs(e, H_AX, GS(save[1]));
		e_ld_gs(e, H_AX, GS(save[4]));
	}
	slow_miss(e, set | acc << 4 | (uint32_t)cls_size[cls] << 8 |
	    (flags == FLAGS_LAZY ? MISS_LAZY : 0) | (group ? MISS_GROUP : 0),
	    live ? 8 : 0);
	if (live)
		e_popf(e);
	e8(e, 0xc3);
}

void
emit_look(struct emit *e, uint32_t tlb, unsigned size)
{
	e_rorx(e, S2, S1, 8);
	e_alu_ri(e, 0, 4, S2, (TLB_N - 1) << 4);
	e_gs_reg(e, 0x33, S1, S2, tlb);
	e_alu_ri(e, 1, 7, S1, 4096 - (int32_t)size);
}

/*
 * The access at the linear address in S1, flags live: called by sites that look
 * into the TLB.
 */
static void
make_look(struct emit *e, unsigned set, unsigned acc, unsigned cls, bool group)
{
	const uint8_t *entry = e->p;
	uint32_t tlb = GS(tlb) +
	    (set * 2 + acc) * (uint32_t)sizeof(((struct cpu *)0)->tlb[0][0]);
	uint8_t *slow;

	e_st_gs(e, H_AX, GS(save[4]));
	flags_to_ax(e);
	emit_look(e, tlb, cls_size[cls]);
	slow = e_jcc(e, 7);
	e_gs_reg(e, 0x8b, S2, S2, tlb + 8);
	flags_from_ax(e);
	e_ld_gs(e, H_AX, GS(save[4]));
	e8(e, 0xc3);
	e_patch(slow, e->p);
	e_gs_reg(e, 0x33, S1, S2, tlb);
	flags_from_ax(e);
	e_ld_gs(e, H_AX, GS(save[4]));
	e_mov_ri32(e, S2, set | acc << 4 | (uint32_t)cls_size[cls] << 8 |
	    (group ? MISS_GROUP : 0));
	e_call_to(e, look_miss);
	e_jmp_to(e, entry);
}

/*
 * Called by those, with what jit_miss() wants to know in S2: returns for them to
 * look again, or with where it is in S2 to who called them.
 */
static void
make_look_miss(struct emit *e)
{
	uint8_t *again;

	look_miss = e->p;
	e_pushf(e);
	e_pop_gs(e, GS(save[1]));
	save_regs(e);
	e_st_gs(e, S1, GS(save[6]));
	e_mov_rr(e, 1, H_SI, S1);
	e_ld(e, 1, H_DX, H_SP, H_NONE, 8);
	e_mov_rr(e, 0, H_CX, S2);
	self(e);
	call_c(e, jit_miss);
	e_mov_rr(e, 1, S2, H_AX);
	load_regs(e);
	e_ld_gs(e, S1, GS(save[6]));
	e_alu_ri(e, 1, 7, S2, 0);
	again = e_jcc(e, 4);
	e_alu_ri(e, 1, 0, H_SP, 8);
	e_patch(again, e->p);
	e_gs_ff(e, 6, GS(save[1]));
	e_popf(e);
	e8(e, 0xc3);
}

static void
make_misses(struct emit *e, unsigned set, unsigned acc, unsigned cls, int flags,
    bool group)
{
	stub_miss[set][acc][cls][flags][group] = e->p;
	make_miss(e, set, acc, cls, flags, group);
	stub_tmiss[set][acc][cls][flags][group] = e->p;
	make_tmiss(e, set, acc, cls, flags, group);
	if (flags == FLAGS_HOST) {
		stub_look[set][acc][cls][group] = e->p;
		make_look(e, set, acc, cls, group);
	}
}

#define JC(m)	(jc + (uint32_t)__builtin_offsetof(struct jcache, e[0].m))
/*
 * Jump to the rip in S1 through the jump cache.  The flags have been put away.
 */
static void
make_ind(struct emit *e, unsigned set)
{
	uint8_t *next;
	unsigned way;
	uint32_t jc = GS(jc) + set * (uint32_t)sizeof(struct jcache);

	e_mov_ri32(e, S2, 0);
	/* crc32 r9, r10 (F2 REX.W 0F 38 F1), as chain.c has it */
	e8(e, 0xf2); e8(e, 0x4d); e8(e, 0x0f); e8(e, 0x38); e8(e, 0xf1);
	e8(e, 0xc0 | (S2 & 7) << 3 | (S1 & 7));
	e_alu_ri(e, 0, 4, S2, (JC_N - JC_WAYS) * 16);
	for (way = 0; way < JC_WAYS; way++) {
		e_gs_reg(e, 0x3b, S1, S2, JC(tag) + way * 16);
		next = e_jcc(e, 5);
		e_alu_ri(e, 1, 4, S1, -4096);
		e_st_gs(e, S1, GS(ripbase));
		e8(e, 0x65);				/* jmp *gs:host(S2) */
		e_rex(e, 0, 0, H_NONE, S2, 0);
		e8(e, 0xff);
		e_mem(e, 4, S2, H_NONE, 0, (int32_t)(JC(host) + way * 16));
		e_patch(next, e->p);
	}
	e_st_gs(e, S1, GS(rip));
	e_jmp_to(e, stub_find);
}

/* The same behind a look at the poll word: rip in S1, flags put away. */
static void
make_poll(struct emit *e)
{
	uint8_t *ok;

	e_ld_gs(e, S2, GS(poll));
	e8(e, 0x41); e8(e, 0x83); e8(e, 0x3a); e8(e, 0);	/* cmpl $0,(S2) */
	ok = e_jcc(e, 4);
	e_st_gs(e, S1, GS(rip));
	e_jmp_to(e, stub_find);
	e_patch(ok, e->p);
}

/* A return to the rip in S1: to behind the host's call, if it is that. */
static void
make_ret(struct emit *e, unsigned set)
{
	uint8_t *no;

	make_poll(e);
	if (jit_on.calls) {
		e_op_mem(e, 1, 0x3b, S1, H_SP, H_NONE, 8);	/* cmp 8(rsp), S1 */
		no = e_jcc(e, 5);
		e8(e, 0xc2); e8(e, 8); e8(e, 0);		/* ret $8 */
		e_patch(no, e->p);
		e_ld_gs(e, H_SP, GS(calls));
	}
	e_jmp_to(e, stub_ind[set]);
}

static void
make_leave(struct emit *e)
{
	int i;

	save_regs(e);
	e_mov_rr(e, 0, H_AX, S1);
	e_ld_gs(e, H_SP, GS(host_rsp));
	e_alu_ri(e, 1, 0, H_SP, 8);
	for (i = 5; i >= 0; i--)
		e_pop(e, saved[i]);
	e8(e, 0xc3);
}

/* Go on where a C function says. */
static void
make_goto(struct emit *e, const uint8_t *(*fn)())
{
	self(e);
	call_c(e, (void *)fn);
	e_st_gs(e, H_AX, GS(save[2]));
	load_regs(e);
	e_gs_ff(e, 4, GS(save[2]));
}

int
stub_init(void)
{
	struct emit e = { .p = jit.rw, .end = jit.rw + jit.size,
		.rx = jit.rx_off };
	uint8_t *good;
	unsigned set, i;

	/* enter(rdi = cpu, rsi = code) */
	enter = e.p + e.rx;
	for (i = 0; i < 6; i++)
		e_push(&e, saved[i]);
	e_alu_ri(&e, 1, 5, H_SP, 8);
	e_st_gs(&e, H_SP, GS(host_rsp));
	e_ld_gs(&e, H_SP, GS(calls));
	e_st_gs(&e, H_SI, GS(save[0]));
	e_gs_ff(&e, 6, GS(save[1]));
	e_popf(&e);
	load_regs(&e);
	e_gs_ff(&e, 4, GS(save[0]));

	stub_away = e.p;
	e_mov_ri32(&e, S1, ~0u);
	make_leave(&e);
	stub_leave = e.p;
	e_mov_ri32(&e, S1, ~0u);
	jit.stub_exit = e.p;
	e_pushf(&e);
	e_pop_gs(&e, GS(save[1]));
	make_leave(&e);

	/* helper: the return address stays on the stack during the call */
	stub_helper = e.p;
	save_regs(&e);
	e_pushf(&e);
	e_pop_gs(&e, GS(save[1]));
	e_mov_rr(&e, 1, H_SI, S2);
	self(&e);
	call_c(&e, jit_helper);
	e_gs_imm(&e, 0, 7, GS(calls_stale), 0);
	good = e_jcc(&e, 4);
	e_pop(&e, S1);
	e_ld_gs(&e, H_SP, GS(calls));
	e_push(&e, S1);
	e_gs_mov_imm(&e, 0, GS(calls_stale), 0);
	e_patch(good, e.p);
	e_gs_ff(&e, 6, GS(save[1]));
	e_popf(&e);
	load_regs(&e);
	e8(&e, 0xc3);

	stub_end = e.p;
	save_regs(&e);
	e_pushf(&e);
	e_pop_gs(&e, GS(save[1]));
	e_mov_rr(&e, 1, H_SI, S2);
	e_ld_gs(&e, H_SP, GS(calls));	/* mode or mappings may change */
	make_goto(&e, jit_end);
	stub_find = e.p;
	save_regs(&e);
	make_goto(&e, jit_find);

	make_look_miss(&e);
	for (set = 0; set < MMU_N; set++) {
		stub_ind[set] = e.p;
		make_ind(&e, set);
		stub_goto[set] = e.p;
		make_poll(&e);
		e_jmp_to(&e, stub_ind[set]);
		stub_ret[set] = e.p;
		make_ret(&e, set);
		for (i = 0; i < 2 * NCLS * FLAGS_N * 2; i++)
			make_misses(&e, set, i & 1, i / 2 % NCLS,
			    i / 2 / NCLS % FLAGS_N, i / 2 / NCLS / FLAGS_N);
	}
	jit.scratch = e.p;
	e.p += machine.ncpu * SCRATCH_N * SCRATCH_SIZE;
	jit.used = jit.base = (size_t)(e.p - jit.rw + 4095) & ~4095ul;
	/* cold code is a little more than a third of it */
	jit.cold = jit.cold_used = (jit.base + (jit.size - jit.base) / 8 * 5) &
	    ~4095ul;
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
