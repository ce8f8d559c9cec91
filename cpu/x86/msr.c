/*
 * msr.c - model-specific registers (SDM 4).
 */
#include "sys.h"

enum {
	MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b,
	MSR_TSC_ADJUST = 0x3b, MSR_SPEC_CTRL = 0x48, MSR_UCODE = 0x8b,
	MSR_MTRRCAP = 0xfe, MSR_ARCH_CAP = 0x10a, MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS,
	MSR_MISC_ENABLE = 0x1a0, MSR_MTRR_VAR = 0x200, MSR_PAT = 0x277,
	MSR_MTRR_DEF = 0x2ff, MSR_MC0 = 0x400, MSR_TSC_DEADLINE = 0x6e0,
	MSR_EFER = 0xc0000080u, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK,
	MSR_FS_BASE = 0xc0000100u, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_TSC_AUX,
};

/* RDCL_NO, IBRS_ALL, RSBA clear, SKIP_L1DFL, SSB_NO, MDS_NO, PSCHANGE_MC_NO,
 * TSX_CTRL 0, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, PBRSB_NO, GDS_NO,
 * RFDS_NO, BHI_NO: a translator has none of these leaks' mechanisms, so the
 * guest need not pay for mitigations. */
#define ARCH_CAP (1ull | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | \
	1 << 13 | 1 << 14 | 1 << 15 | 1 << 20 | 1 << 24 | 1 << 26 | 1 << 27)

static int
mtrr_fixed(uint32_t msr)
{
	static const uint16_t n[] = { 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
		0x26b, 0x26c, 0x26d, 0x26e, 0x26f };
	int i;

	for (i = 0; i < 11; i++)
		if (n[i] == msr)
			return i;
	return -1;
}

int
x86_rdmsr(struct cpu *c, uint32_t msr, uint64_t *v)
{
	int i;

	if (msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	    (msr >= 0x800 && msr < 0x900))
		return irq_rdmsr(c, msr, v);
	if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 16) {
		*v = c->mtrr_var[msr - MSR_MTRR_VAR];
		return 0;
	}
	if ((i = mtrr_fixed(msr)) >= 0) {
		*v = c->mtrr_fix[i];
		return 0;
	}
	switch (msr) {
	case MSR_TSC:
		*v = cpu_tsc(c);
		break;
	case MSR_PLATFORM_ID:
	case MSR_MCG_CAP:
	case MSR_SPEC_CTRL:
	case 0x2a:		/* EBL_CR_POWERON */
	case 0xcd:		/* FSB_FREQ */
	case 0x34:		/* SMI_COUNT */
	case 0x140:		/* MISC_FEATURE_ENABLES */
	case 0x1d9:		/* DEBUGCTL */
	case 0x3a:		/* FEATURE_CONTROL: locked below */
		*v = msr == 0x3a ? 1 : 0;
		break;
	case 0xce:		/* PLATFORM_INFO */
		*v = 0;
		break;
	case MSR_TSC_ADJUST:
		*v = c->tsc_adjust;
		break;
	case MSR_UCODE:
		*v = 0x100000000ull;
		break;
	case MSR_MTRRCAP:
		*v = 0x508;	/* 8 variable, fixed, write combining */
		break;
	case MSR_ARCH_CAP:
		*v = ARCH_CAP;
		break;
	case MSR_SYSENTER_CS:
		*v = c->sysenter_cs;
		break;
	case MSR_SYSENTER_ESP:
		*v = c->sysenter_esp;
		break;
	case MSR_SYSENTER_EIP:
		*v = c->sysenter_eip;
		break;
	case MSR_MCG_STATUS:
		*v = c->mcg_status;
		break;
	case MSR_MISC_ENABLE:
		*v = c->misc_enable;
		break;
	case MSR_PAT:
		*v = c->pat;
		break;
	case MSR_MTRR_DEF:
		*v = c->mtrr_def;
		break;
	case MSR_EFER:
		*v = c->efer;
		break;
	case MSR_STAR:
		*v = c->star;
		break;
	case MSR_LSTAR:
		*v = c->lstar;
		break;
	case MSR_CSTAR:
		*v = c->cstar;
		break;
	case MSR_SFMASK:
		*v = c->sfmask;
		break;
	case MSR_FS_BASE:
		*v = c->seg[FS].base;
		break;
	case MSR_GS_BASE:
		*v = c->seg[GS].base;
		break;
	case MSR_KERNEL_GS_BASE:
		*v = c->kernel_gs_base;
		break;
	case MSR_TSC_AUX:
		*v = c->tsc_aux;
		break;
	default:
		if (machine.log_guest) {
			cpu_fpu_flush(c);
			log_once("rdmsr", msr, "rdmsr %#x: no such register",
			    msr);
		}
		return -1;
	}
	return 0;
}

static int
write_efer(struct cpu *c, uint64_t v)
{
	if (v & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return -1;
	if ((v ^ c->efer) & EFER_LME && c->cr0 & CR0_PG)
		return -1;
	v = (v & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
	if ((v ^ c->efer) & EFER_NXE)
		tlb_flush_all(c);
	c->efer = v;
	x86_mode(c);
	return 0;
}

static bool
pat_valid(uint64_t v)
{
	unsigned i, t;

	for (i = 0; i < 8; i++) {
		t = v >> 8 * i & 0xff;
		if (t > 7 || t == 2 || t == 3)
			return false;
	}
	return true;
}

int
x86_wrmsr(struct cpu *c, uint32_t msr, uint64_t v)
{
	int i;

	if (msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	    (msr >= 0x800 && msr < 0x900))
		return irq_wrmsr(c, msr, v);
	if (msr >= MSR_MTRR_VAR && msr < MSR_MTRR_VAR + 16) {
		c->mtrr_var[msr - MSR_MTRR_VAR] = v;
		return 0;
	}
	if ((i = mtrr_fixed(msr)) >= 0) {
		c->mtrr_fix[i] = v;
		return 0;
	}
	switch (msr) {
	case MSR_TSC: {
		int64_t d = (int64_t)(v - cpu_tsc(c));

		c->tsc_off += d;
		c->tsc_adjust += (uint64_t)d;
		break;
	}
	case MSR_TSC_ADJUST:
		c->tsc_off += (int64_t)(v - c->tsc_adjust);
		c->tsc_adjust = v;
		break;
	case MSR_UCODE:
	case 0x140:
	case 0x1d9:
	case MSR_PLATFORM_ID:
	case 0x79:		/* microcode update trigger */
		break;
	case MSR_SYSENTER_CS:
		c->sysenter_cs = v & 0xffff;
		break;
	case MSR_SYSENTER_ESP:
		if (!canonical(v))
			return -1;
		c->sysenter_esp = v;
		break;
	case MSR_SYSENTER_EIP:
		if (!canonical(v))
			return -1;
		c->sysenter_eip = v;
		break;
	case MSR_MCG_STATUS:
		c->mcg_status = v;
		break;
	case MSR_MISC_ENABLE:
		c->misc_enable = v;
		break;
	case MSR_PAT:
		if (!pat_valid(v))
			return -1;
		c->pat = v;
		break;
	case MSR_MTRR_DEF:
		if (v & ~0xcffull)
			return -1;
		c->mtrr_def = v;
		break;
	case MSR_EFER:
		return write_efer(c, v);
	case MSR_STAR:
		c->star = v;
		break;
	case MSR_LSTAR:
		if (!canonical(v))
			return -1;
		c->lstar = v;
		break;
	case MSR_CSTAR:
		if (!canonical(v))
			return -1;
		c->cstar = v;
		break;
	case MSR_SFMASK:
		c->sfmask = v & 0xffffffff;
		break;
	case MSR_FS_BASE:
	case MSR_GS_BASE:
		if (!canonical(v))
			return -1;
		c->seg[msr == MSR_FS_BASE ? FS : GS].base = v;
		break;
	case MSR_KERNEL_GS_BASE:
		if (!canonical(v))
			return -1;
		c->kernel_gs_base = v;
		break;
	case MSR_TSC_AUX:
		c->tsc_aux = (uint32_t)v;
		break;
	default:
		if (machine.log_guest) {
			cpu_fpu_flush(c);
			log_once("wrmsr", msr, "wrmsr %#x: no such register",
			    msr);
		}
		return -1;
	}
	return 0;
}
