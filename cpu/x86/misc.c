/*
 * misc.c - the instructions that are left: decimal arithmetic, XLAT, and
 * x86_exec() itself.
 */
#include <Zydis/Zydis.h>

#include "sys.h"

static void
szp(struct cpu *c, uint8_t v)
{
	uint64_t f = c->eflags & ~(uint64_t)(FL_SF | FL_ZF | FL_PF);

	if (!v)
		f |= FL_ZF;
	if (v & 0x80)
		f |= FL_SF;
	if (!(__builtin_popcount(v) & 1))
		f |= FL_PF;
	c->eflags = f;
}

static void
flag(struct cpu *c, uint64_t f, bool on)
{
	c->eflags = on ? c->eflags | f : c->eflags & ~f;
}

static void
set_al(struct cpu *c, uint8_t v)
{
	c->gpr[RAX] = (c->gpr[RAX] & ~0xffull) | v;
}

static void
set_ax(struct cpu *c, uint16_t v)
{
	c->gpr[RAX] = (c->gpr[RAX] & ~0xffffull) | v;
}

/* SDM 2: DAA, DAS */
static void
daa_das(struct cpu *c, bool sub)
{
	uint8_t al = (uint8_t)c->gpr[RAX], old = al;
	bool cf = c->eflags & FL_CF, af = c->eflags & FL_AF, ncf = false;

	if ((al & 15) > 9 || af) {
		ncf = cf || (sub ? al < 6 : al > 0xf9);
		al = (uint8_t)(sub ? al - 6 : al + 6);
		af = true;
	} else
		af = false;
	if (old > 0x99 || cf) {
		al = (uint8_t)(sub ? al - 0x60 : al + 0x60);
		ncf = true;
	} else if (!sub)
		ncf = false;
	set_al(c, al);
	szp(c, al);
	flag(c, FL_AF, af);
	flag(c, FL_CF, ncf);
}

static void
aaa_aas(struct cpu *c, bool sub)
{
	uint16_t ax = (uint16_t)c->gpr[RAX];
	bool adj = (ax & 15) > 9 || c->eflags & FL_AF;

	if (adj)
		ax = (uint16_t)(sub ? ax - 0x106 : ax + 0x106);
	set_ax(c, ax & 0xff0f);
	flag(c, FL_AF, adj);
	flag(c, FL_CF, adj);
}

static bool
decimal(struct cpu *c, const struct insn *in)
{
	uint8_t al = (uint8_t)c->gpr[RAX], ah = (uint8_t)(c->gpr[RAX] >> 8), b;

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_DAA:
		daa_das(c, false);
		break;
	case ZYDIS_MNEMONIC_DAS:
		daa_das(c, true);
		break;
	case ZYDIS_MNEMONIC_AAA:
		aaa_aas(c, false);
		break;
	case ZYDIS_MNEMONIC_AAS:
		aaa_aas(c, true);
		break;
	case ZYDIS_MNEMONIC_AAM:
		b = (uint8_t)in->op[0].disp;
		if (!b)
			x86_raise(c, VEC_DE, 0);
		set_ax(c, (uint16_t)((al / b) << 8 | al % b));
		szp(c, al % b);
		break;
	case ZYDIS_MNEMONIC_AAD:
		b = (uint8_t)in->op[0].disp;
		al = (uint8_t)(al + ah * b);
		set_ax(c, al);
		szp(c, al);
		break;
	case ZYDIS_MNEMONIC_SALC:
		set_al(c, c->eflags & FL_CF ? 0xff : 0);
		break;
	default:
		return false;
	}
	return true;
}

static void
xlat(struct cpu *c, const struct insn *in)
{
	uint64_t mask = in->addrsize == 8 ? ~0ull : in->addrsize == 4 ?
	    0xffffffffull : 0xffffull;
	uint64_t a = ((c->gpr[RBX] & mask) + (uint8_t)c->gpr[RAX]) & mask;

	set_al(c, (uint8_t)x86_ld(c, x86_linear(c, string_seg(c, in), a, 1,
	    ACC_READ), 1, MODE_MMU(c->mode)));
}

/* RDRAND, RDSEED: run here, so that no loop of translated code depends on the
 * host's luck; CF as the host gave it. */
static void
rdrand(struct cpu *c, const struct insn *in)
{
	uint64_t v = 0;
	uint8_t ok = 0;

	if (in->mnem == ZYDIS_MNEMONIC_RDRAND)
		__asm__ volatile("rdrand %0; setc %1" : "=r"(v), "=q"(ok)
		    : : "cc");
	else
		__asm__ volatile("rdseed %0; setc %1" : "=r"(v), "=q"(ok)
		    : : "cc");
	x86_put(c, in, 0, ok ? v : 0);
	c->eflags &= ~(uint64_t)FL_STATUS;
	flag(c, FL_CF, ok);
}

bool
exec_misc(struct cpu *c, const struct insn *in)
{
	if (decimal(c, in)) {
		/* done */
	} else if (in->mnem == ZYDIS_MNEMONIC_XLAT) {
		xlat(c, in);
	} else if (in->mnem == ZYDIS_MNEMONIC_RDRAND ||
	    in->mnem == ZYDIS_MNEMONIC_RDSEED) {
		rdrand(c, in);
	} else
		return false;
	c->rip = (c->rip + in->len) & rip_mask(c);
	return true;
}

bool
x86_exec(struct cpu *c, const struct insn *in)
{
	return exec_string(c, in) || exec_flow(c, in) || exec_system(c, in) ||
	    exec_fpu(c, in) || exec_misc(c, in);
}
