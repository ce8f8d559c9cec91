/*
 * inline.c - instructions C would execute, emitted because kernels execute
 * them all the time: interrupt flag, swapgs, rdtsc, SMAP windows, pushf, segment
 * and base reads, bit strings.  64-bit code; none of them touches the status
 * flags but bit strings.
 */
#include <Zydis/Zydis.h>

#include "jit.h"

/* Bit 9, IF, is bit 1 of byte 1 of eflags, whose other bits stay. */
static void
emit_if(struct tr *t, bool on)
{
	struct emit *e = &t->e;

	e_movzx_gs(e, 1, S1, GS(eflags) + 1);
	e_pext_gs(e, S1, S1, GS(k_not_if));
	e_pdep_gs(e, S1, S1, GS(k_not_if));
	if (on)
		e_lea(e, 1, S1, S1, H_NONE, 0, FL_IF >> 8);
	e_st8_gs(e, S1, GS(eflags) + 1);
}

/* The instruction in C, the block not going on behind it on this path. */
static void
emit_slow(struct tr *t, const struct insn *in)
{
	bool was = t->saved;

	emit_helper(t, keep(in), true);
	t->ended = false;
	t->saved = was;
}

/* An interrupt that waits already is taken behind the next instruction: C. */
static void
emit_sti(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	uint8_t *none;

	e_mov_rr(e, 1, S1, H_CX);
	e_movzx_gs(e, 1, H_CX, GS(irq_ready));
	none = e_jrcxz(e);
	e_mov_rr(e, 1, RCX, S1);
	emit_slow(t, in);
	e_here8(e, none);
	e_mov_rr(e, 1, RCX, S1);
	emit_if(t, true);
}

/*
 * STAC, CLAC: EFLAGS.AC decides which TLB set supervisor accesses use, so what
 * follows is another block, found through that set's jump cache.
 */
static bool
emit_ac(struct tr *t, const struct insn *in, bool on)
{
	struct emit *e = &t->e;
	unsigned set = on ? 0 : 1;
	uint32_t mode = (t->mode & ~(uint32_t)M_MMU) | set << 15;
	uint8_t *good;

	if (!(t->mode & M_SMAP))
		return false;
	if (mode == t->mode)
		return true;		/* AC is so already */
	e_mov_rr(e, 1, S2, H_CX);
	e_gs(e, 0, 0x8b, H_CX, GS(jc_mode[set]));
	e_lea(e, 0, H_CX, H_CX, H_NONE, 0, -(int32_t)mode);
	good = e_jrcxz(e);
	e_mov_rr(e, 1, H_CX, S2);
	emit_slow(t, in);
	e_here8(e, good);
	e_mov_rr(e, 1, H_CX, S2);
	e_gs_mov_imm(e, 0, GS(mode), (int32_t)mode);
	e_movzx_gs(e, 1, S1, GS(eflags) + 2);
	e_lea(e, 1, S1, S1, H_NONE, 0, on ? FL_AC >> 16 : -(FL_AC >> 16));
	e_st8_gs(e, S1, GS(eflags) + 2);
	flags_leave(t);
	emit_rip(t, S1, t->off[t->i] + in->len);
	e_jmp_to(e, stub_ind[set]);
	t->ended = true;
	return true;
}

static void
emit_swapgs(struct emit *e)
{
	uint32_t base = GS(seg) + GS * (uint32_t)sizeof(struct seg) +
	    (uint32_t)__builtin_offsetof(struct seg, base);

	e_ld_gs(e, S1, base);
	e_ld_gs(e, S2, GS(kernel_gs_base));
	e_st_gs(e, S2, base);
	e_st_gs(e, S1, GS(kernel_gs_base));
}

/*
 * edx:eax = host TSC + the machine's offset + the vcpu's.  RDTSCP waits for what
 * comes before it (SDM 18.17.2): a clock shared under a lock depends on that.
 */
static void
emit_rdtsc(struct emit *e, bool ordered)
{
	if (ordered) {
		e8(e, 0x0f);
		e8(e, 0xae);
		e8(e, 0xe8);		/* lfence */
	}
	e8(e, 0x0f);
	e8(e, 0x31);
	e_rorx(e, S1, H_DX, 32);
	e_lea(e, 1, H_AX, H_AX, S1, 0, 0);
	e_ld_gs(e, S1, GS(k_tsc));
	e_ld(e, 1, S1, S1, H_NONE, 0);
	e_ld_gs(e, S2, GS(tsc_off));
	e_lea(e, 1, S1, S1, S2, 0, 0);
	e_lea(e, 1, H_AX, H_AX, S1, 0, 0);
	e_rorx(e, H_DX, H_AX, 32);
	e_mov_rr(e, 0, H_DX, H_DX);
	e_mov_rr(e, 0, H_AX, H_AX);
}

static void
emit_pushf(struct tr *t)
{
	struct emit *e = &t->e;

	e8(e, 0x9c);
	e_pop(e, S1);
	e_pext_gs(e, S1, S1, GS(k_status));
	e_pdep_gs(e, S1, S1, GS(k_status));
	e_ld_gs(e, S2, GS(eflags));
	e_pext_gs(e, S2, S2, GS(k_pushf));
	e_pdep_gs(e, S2, S2, GS(k_pushf));
	e_lea(e, 1, S1, S1, S2, 0, 0);
	e_st_gs(e, S1, GS(save[2]));
	emit_push_gs(t, 8, GS(save[2]));
}

static void
emit_put(struct emit *e, unsigned g, unsigned src, bool w)
{
	if (hreg(g) != H_NONE) {
		e_mov_rr(e, w, hreg(g), src);
		return;
	}
	if (!w)
		e_mov_rr(e, 0, src, src);
	e_st_gs(e, src, GS_GPR(g));
}

static void
emit_read_base(struct tr *t, const struct insn *in, unsigned seg)
{
	e_ld_gs(&t->e, S1, GS(seg) + seg * (uint32_t)sizeof(struct seg) +
	    (uint32_t)__builtin_offsetof(struct seg, base));
	emit_put(&t->e, in->op[0].reg, S1, in->opsize == 8);
}

/* BT, BTS, BTR, BTC of memory, the bit in a register. */
static bool
emit_bits(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	unsigned r = in->op[1].reg, n = in->opsize * 8, sh = n == 64 ? 6 : 5;
	int acc = in->op[0].act & 2 ? ACC_WRITE : ACC_READ;
	uint16_t was = t->live[t->i];

	/* clobbers the flags it leaves undefined, and ZF */
	if (n == 16 || t->after[t->i] & ~in->fl_write ||
	    in->addrsize != 8)
		return false;
	emit_ea(t, in, &in->op[0], S1, true);
	emit_get(t, S2, r);
	if (n == 32) {				/* movsxd S2, S2d */
		e_rex(e, 1, S2, H_NONE, S2, 0);
		e8(e, 0x63);
		e8(e, 0xc0 | (S2 & 7) << 3 | (S2 & 7));
	}
	e_rex(e, 1, 0, H_NONE, S2, 0);		/* sar sh, S2 */
	e8(e, 0xc1);
	e8(e, 0xf8 | (S2 & 7));
	e8(e, sh);
	e_lea(e, 1, S1, S1, S2, sh - 3, 0);
	t->live[t->i] = 0;
	site_ea(t, acc, n / 8);
	t->live[t->i] = was;
	e_lea(e, 1, S1, S1, S2, 0, 0);
	emit_get(t, S2, r);
	e_alu_ri(e, 0, 4, S2, (int32_t)n - 1);
	if (in->lock)
		e8(e, 0xf0);
	e_rex(e, n == 64, S2, H_NONE, S1, 0);
	e8(e, 0x0f);
	e8(e, in->mnem == ZYDIS_MNEMONIC_BT ? 0xa3 :
	    in->mnem == ZYDIS_MNEMONIC_BTS ? 0xab :
	    in->mnem == ZYDIS_MNEMONIC_BTR ? 0xb3 : 0xbb);
	e_mem(e, S2, S1, H_NONE, 0, 0);
	return true;
}

bool
inline_insn(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	bool kernel = MODE_CPL(t->mode) == 0;

	if (!jit_on.inlined)
		return false;
	if (in->mnem == ZYDIS_MNEMONIC_CLI && kernel &&
	    !(t->mode & M_VM86)) {
		emit_if(t, false);
		return true;
	}
	if ((t->mode & M_SIZE) != M_64 || t->bounce)
		return false;
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_STI:
		if (kernel)
			emit_sti(t, in);
		return kernel;
	case ZYDIS_MNEMONIC_STAC:
	case ZYDIS_MNEMONIC_CLAC:
		return kernel && emit_ac(t, in, in->mnem ==
		    ZYDIS_MNEMONIC_STAC);
	case ZYDIS_MNEMONIC_SWAPGS:
		if (kernel)
			emit_swapgs(e);
		return kernel;
	case ZYDIS_MNEMONIC_RDTSC:
		if (t->mode & M_TSD || !t->c->k_tsc)
			return false;
		emit_rdtsc(e, false);
		return true;
	case ZYDIS_MNEMONIC_RDTSCP:
		if (t->mode & M_TSD || !t->c->k_tsc)
			return false;
		emit_rdtsc(e, true);
		e_ld_gs(e, S1, GS(tsc_aux));
		e_mov_rr(e, 0, H_CX, S1);
		return true;
	case ZYDIS_MNEMONIC_PUSHFQ:
		if (in->opsize != 8)
			return false;
		emit_pushf(t);
		return true;
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_RDGSBASE:
		if (!(t->mode & M_FSGS))
			return false;
		emit_read_base(t, in, in->mnem == ZYDIS_MNEMONIC_RDFSBASE ?
		    FS : GS);
		return true;
	case ZYDIS_MNEMONIC_MOV:
		if (in->op[1].type != OP_SREG || in->op[0].type != OP_REG ||
		    in->op[0].size < 4)
			return false;
		e_movzx_gs(e, 2, S1, GS(seg) + in->op[1].reg *
		    (uint32_t)sizeof(struct seg) +
		    (uint32_t)__builtin_offsetof(struct seg, sel));
		emit_put(e, in->op[0].reg, S1, true);
		return true;
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return in->op[0].type == OP_MEM && emit_bits(t, in);
	}
	return false;
}
