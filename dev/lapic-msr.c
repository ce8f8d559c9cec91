/*
 * lapic-msr.c - the local APIC as MSRs: x2APIC registers, IA32_APIC_BASE and
 * IA32_TSC_DEADLINE (Intel SDM volume 3A, 11.12 and 11.5.4.1).
 */
#include "lapic.h"

enum { MSR_APIC_BASE = 0x1b, MSR_DEADLINE = 0x6e0, MSR_X2 = 0x800 };

int
lapic_rdmsr(struct devctx *d, uint32_t msr, uint64_t *val)
{
	struct lapic_st *s = d->st;
	unsigned r;

	if (msr == MSR_APIC_BASE) {
		*val = s->base;
		return 0;
	}
	if (msr == MSR_DEADLINE) {
		lapic_deadline_expire(d);
		*val = deadline_mode(s) ? s->deadline : 0;
		return 0;
	}
	if (msr < MSR_X2 || msr > MSR_X2 + 0x3f || !x2(s))
		return -1;
	r = (msr - MSR_X2) << 4;
	switch (r) {			/* table 11-6 */
	case R_APR: case R_RRD: case R_DFR: case R_ICR_HI: case R_EOI:
	case R_SELF: case R_CMCI:
		return -1;
	case R_ICR_LO:
		*val = (uint64_t)s->icr_hi << 32 | s->icr_lo;
		return 0;
	case R_ID: case R_VERSION: case R_TPR: case R_PPR: case R_LDR:
	case R_SVR: case R_ESR: case R_ICOUNT: case R_CCOUNT: case R_DCR:
	case R_ISR ... R_ISR + 0x7f:
	case R_TMR ... R_TMR + 0x7f:
	case R_IRR ... R_IRR + 0x7f:
	case R_LVT ... R_LVT + 0x5f:
		*val = lapic_reg_read(d, r);
		return 0;
	}
	return -1;
}

static int
base_write(struct devctx *d, uint64_t val)
{
	struct lapic_st *s = d->st;
	uint64_t diff = s->base ^ val;

	if (val & ~(BASE_ADDR | BASE_EN | BASE_EXTD | BASE_BSP))
		return -1;
	/* 11.12.5: no EXTD without EN; x2APIC is entered from xAPIC and left
	 * only to disabled */
	if ((val & (BASE_EN | BASE_EXTD)) == BASE_EXTD)
		return -1;
	if (diff & BASE_EXTD) {
		if (val & BASE_EXTD && !(s->base & BASE_EN))
			return -1;
		if (!(val & BASE_EXTD) && val & BASE_EN)
			return -1;
	}
	if (diff & BASE_EN && !(val & BASE_EN)) {
		lapic_init_reset(d);
		s->ldr = 0;
	}
	s->base = val;
	lapic_timer_arm(d);
	hooks(d)->kick(hooks(d)->arg, cpu_of(d));
	return 0;
}

int
lapic_wrmsr(struct devctx *d, uint32_t msr, uint64_t val)
{
	struct lapic_st *s = d->st;
	unsigned r;

	if (msr == MSR_APIC_BASE)
		return base_write(d, val);
	if (msr == MSR_DEADLINE) {
		if (deadline_mode(s)) {
			s->deadline = val;
			lapic_timer_arm(d);
		}
		return 0;
	}
	if (msr < MSR_X2 || msr > MSR_X2 + 0x3f || !x2(s))
		return -1;
	r = (msr - MSR_X2) << 4;
	if (r == R_ICR_LO) {
		if (val & 0xfff32000)
			return -1;
		s->icr_lo = (uint32_t)val & 0xcefff;
		s->icr_hi = (uint32_t)(val >> 32);
		lapic_send_ipi(d, s->icr_lo, s->icr_hi);
		return 0;
	}
	if (val >> 32)
		return -1;
	switch (r) {
	case R_TPR: case R_SELF:
		if (val > 0xff)
			return -1;
		break;
	case R_EOI: case R_ESR:
		if (val)
			return -1;
		break;
	case R_SVR:
		if (val & ~0x3ffull)
			return -1;
		break;
	case R_LVT ... R_LVT + 0x5f:
		if (val & ~(uint64_t)(lapic_lvt_mask[(r - R_LVT) / 16] | 0x5000))
			return -1;
		break;
	case R_DCR:
		if (val & ~0xbull)
			return -1;
		break;
	case R_ICOUNT:
		break;
	default:
		return -1;
	}
	if (r == R_SELF)
		lapic_send_ipi(d, 0x40000 | (uint32_t)val, 0);
	else
		lapic_reg_write(d, r, (uint32_t)val);
	return 0;
}
