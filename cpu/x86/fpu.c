/*
 * fpu.c - FXSAVE, FXRSTOR, XSAVE, XRSTOR, XGETBV, XSETBV (SDM 1 ch. 13, SDM 2).
 *
 * The guest's state is in cpu->xsave in standard format once flushed; these
 * copy between it and guest memory.  XSAVEOPT always writes; the compacted
 * forms are not offered.
 */
#include <Zydis/Zydis.h>

#include "sys.h"

#define FX_BYTES	512
#define YMM_OFF		576
#define YMM_BYTES	256
#define MXCSR_MASK	0xffffu

static uint64_t
area(struct cpu *c, const struct insn *in, unsigned n, unsigned align, int acc)
{
	const struct operand *o = &in->op[0];
	uint64_t lin = x86_linear(c, o->seg, x86_ea(c, in, o), n, acc);

	if (lin & (align - 1))
		x86_gp(c, 0);
	x86_probe(c, lin, n, acc, MODE_MMU(c->mode));
	return lin;
}

/* The rip and rdp of x87 are offsets only with REX.W; selectors otherwise. */
static void
fxsave(struct cpu *c, const struct insn *in)
{
	uint64_t lin = area(c, in, FX_BYTES, 16, ACC_WRITE);
	unsigned n = (c->mode & M_SIZE) == M_64 ? 416 : 288;
	uint8_t *x = c->xsave.b;
	uint8_t buf[416];
	unsigned i;
	static const uint8_t init[32] = { 0x7f, 0x03, [24] = 0x80, 0x1f };
	uint64_t bv = *(uint64_t *)(x + 512);

	cpu_fpu_flush(c);
	bv = *(uint64_t *)(x + 512);
	for (i = 0; i < n; i++) {
		if (i < 24 || (i >= 32 && i < 160))
			buf[i] = bv & 1 ? x[i] : i < 24 ? init[i] : 0;
		else if (i < 32)
			buf[i] = x[i];
		else
			buf[i] = bv & 2 ? x[i] : 0;
	}
	/* MXCSR and its mask are true when SSE or AVX was live */
	if (!(bv & 6)) {
		buf[24] = x[24];
		buf[25] = x[25];
	}
	for (i = 28; i < 32; i++)
		buf[i] = i < 30 ? 0xff : 0;
	x86_st_bytes(c, lin, buf, n, MODE_MMU(c->mode));
}

static void
fxrstor(struct cpu *c, const struct insn *in)
{
	uint64_t lin = area(c, in, FX_BYTES, 16, ACC_READ);
	unsigned n = (c->mode & M_SIZE) == M_64 ? 416 : 288, i;
	uint8_t buf[416];
	uint32_t mxcsr;

	x86_ld_bytes(c, lin, buf, n, MODE_MMU(c->mode));
	mxcsr = *(uint32_t __attribute__((aligned(1))) *)(buf + 24);
	if (mxcsr & ~MXCSR_MASK)
		x86_gp(c, 0);
	cpu_fpu_flush(c);
	for (i = 0; i < n; i++)
		if (i < 28 || i >= 32)
			((volatile uint8_t *)c->xsave.b)[i] = buf[i];
	*(uint64_t *)(c->xsave.b + 512) |= 3;
}

static uint64_t
rfbm(struct cpu *c)
{
	return ((uint32_t)c->gpr[RAX] | c->gpr[RDX] << 32) & c->xcr0;
}

static void
xsave(struct cpu *c, const struct insn *in)
{
	uint64_t m = rfbm(c), lin, old, bv, set;
	unsigned mmu = MODE_MMU(c->mode), n = 576 + (m & 4 ? 256 : 0);
	const uint8_t *x = c->xsave.b;

	if (!(c->cr4 & CR4_OSXSAVE))
		x86_ud(c);
	if (c->cr0 & CR0_TS)
		x86_raise(c, VEC_NM, 0);
	lin = area(c, in, n, 64, ACC_WRITE);
	cpu_fpu_flush(c);
	bv = *(const uint64_t *)(x + 512) & 7;
	old = x86_ld(c, lin + 512, 8, mmu);
	cpu_fpu_flush(c);
	set = (old & ~m) | (bv & m);
	if (m & 1 && bv & 1) {
		x86_st_bytes(c, lin, x, 24, mmu);
		x86_st_bytes(c, lin + 32, x + 32, 128, mmu);
	}
	if (m & 6)
		x86_st_bytes(c, lin + 24, x + 24, 8, mmu);
	if (m & 2 && bv & 2)
		x86_st_bytes(c, lin + 160, x + 160,
		    (c->mode & M_SIZE) == M_64 ? 256 : 128, mmu);
	if (m & 4 && bv & 4)
		x86_st_bytes(c, lin + YMM_OFF, x + YMM_OFF,
		    (c->mode & M_SIZE) == M_64 ? YMM_BYTES : 128, mmu);
	x86_st(c, lin + 512, 8, set, mmu);
}

static void
zero(uint8_t *p, unsigned n)
{
	while (n--)
		*(volatile uint8_t *)p++ = 0;
}

static void
xrstor(struct cpu *c, const struct insn *in)
{
	uint64_t m = rfbm(c), lin, bv, h;
	unsigned mmu = MODE_MMU(c->mode), n = 576 + (m & 4 ? 256 : 0);
	uint8_t buf[832] __attribute__((aligned(8)));
	uint8_t *x = c->xsave.b;
	uint32_t mxcsr = 0x1f80;
	unsigned i, keep;

	if (!(c->cr4 & CR4_OSXSAVE))
		x86_ud(c);
	if (c->cr0 & CR0_TS)
		x86_raise(c, VEC_NM, 0);
	lin = area(c, in, n, 64, ACC_READ);
	x86_ld_bytes(c, lin, buf, n, mmu);
	bv = *(uint64_t *)(buf + 512);
	h = *(uint64_t *)(buf + 520);
	if (h || bv & ~c->xcr0)
		x86_gp(c, 0);
	for (i = 528; i < 536; i++)
		if (buf[i])
			x86_gp(c, 0);
	if (m & 6) {
		mxcsr = *(uint32_t *)(buf + 24);
		if (mxcsr & ~MXCSR_MASK)
			x86_gp(c, 0);
	}
	cpu_fpu_flush(c);
	keep = *(uint64_t *)(x + 512) & 7;
	if (m & 1) {
		if (bv & 1) {
			for (i = 0; i < 24; i++)
				((volatile uint8_t *)x)[i] = buf[i];
			for (i = 32; i < 160; i++)
				((volatile uint8_t *)x)[i] = buf[i];
			keep |= 1;
		} else
			keep &= ~1u;
	}
	if (m & 6)
		*(uint32_t *)(x + 24) = mxcsr;
	n = (c->mode & M_SIZE) == M_64 ? 256 : 128;
	if (m & 2) {
		if (bv & 2)
			for (i = 160; i < 160 + n; i++)
				((volatile uint8_t *)x)[i] = buf[i];
		else
			zero(x + 160, n);
		keep |= 2;
	}
	if (m & 4) {
		if (bv & 4)
			for (i = YMM_OFF; i < YMM_OFF + n; i++)
				((volatile uint8_t *)x)[i] = buf[i];
		else
			zero(x + YMM_OFF, n);
		keep |= 4;
	}
	*(uint64_t *)(x + 512) = keep;
}

bool
exec_fpu(struct cpu *c, const struct insn *in)
{
	uint64_t v;

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		if (c->cr0 & (CR0_EM | CR0_TS))
			x86_raise(c, VEC_NM, 0);
		if (in->mnem == ZYDIS_MNEMONIC_FXSAVE ||
		    in->mnem == ZYDIS_MNEMONIC_FXSAVE64)
			fxsave(c, in);
		else
			fxrstor(c, in);
		break;
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
		xsave(c, in);
		break;
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		xrstor(c, in);
		break;
	case ZYDIS_MNEMONIC_XGETBV:
		if (!(c->cr4 & CR4_OSXSAVE))
			x86_ud(c);
		if ((uint32_t)c->gpr[RCX] != 0)
			x86_gp(c, 0);
		c->gpr[RAX] = (uint32_t)c->xcr0;
		c->gpr[RDX] = 0;
		break;
	case ZYDIS_MNEMONIC_XSETBV:
		if (!(c->cr4 & CR4_OSXSAVE))
			x86_ud(c);
		if (c->cpl || (uint32_t)c->gpr[RCX] != 0)
			x86_gp(c, 0);
		v = (uint32_t)c->gpr[RAX] | c->gpr[RDX] << 32;
		if (!(v & 1) || v & ~7ull || (v & 6) == 4)
			x86_gp(c, 0);
		c->xcr0 = v;
		x86_mode(c);
		break;
	default:
		return false;
	}
	c->rip = (c->rip + in->len) & rip_mask(c);
	return true;
}
