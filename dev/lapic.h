/*
 * lapic.h - what the files of the local APIC share: lapic.c has its registers and
 * what comes in and goes out, lapic-timer.c the timer, lapic-msr.c the registers
 * as MSRs.  Sections are of Intel SDM volume 3A, chapter 11.
 */
#ifndef LAPIC_H
#define LAPIC_H

#include "intc.h"

enum {				/* register offsets, table 11-1 */
	R_ID = 0x020, R_VERSION = 0x030, R_TPR = 0x080, R_APR = 0x090,
	R_PPR = 0x0a0, R_EOI = 0x0b0, R_RRD = 0x0c0, R_LDR = 0x0d0,
	R_DFR = 0x0e0, R_SVR = 0x0f0, R_ISR = 0x100, R_TMR = 0x180,
	R_IRR = 0x200, R_ESR = 0x280, R_CMCI = 0x2f0, R_ICR_LO = 0x300,
	R_ICR_HI = 0x310, R_LVT = 0x320, R_ICOUNT = 0x380, R_CCOUNT = 0x390,
	R_DCR = 0x3e0, R_SELF = 0x3f0,
};
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR,
	NLVT };
enum {
	BASE_BSP = 0x100, BASE_EXTD = 0x400, BASE_EN = 0x800,
	LVT_MASKED = 0x10000, LVT_LEVEL = 0x8000, LVT_IRR = 0x4000,
	LVT_LOW = 0x2000,
	TIMER_PERIODIC = 0x20000, TIMER_DEADLINE = 0x40000,
	TIMER_MODE = 0x60000,
	SVR_ENABLE = 0x100,
	ESR_SEND_VECTOR = 0x20, ESR_RECV_VECTOR = 0x40, ESR_REGISTER = 0x80,
};
#define BASE_ADDR	0x000ffffffffff000ull
#define VERSION		(0x14u | (NLVT - 1) << 16)

struct lapic_st {
	uint32_t	id;		/* x2APIC ID; the xAPIC ID is its low
					 * byte */
	uint64_t	base;		/* IA32_APIC_BASE */
	uint32_t	tpr, ldr, dfr, svr;
	uint32_t	esr, esr_new;	/* as read; collected since (11.5.3) */
	uint32_t	icr_lo, icr_hi;
	uint32_t	isr[8], tmr[8], irr[8];
	uint32_t	lvt[NLVT];
	uint32_t	icount, dcr;
	int64_t		start;		/* guest ns when the count was written,
					 * -1: not counting */
	uint64_t	deadline;	/* IA32_TSC_DEADLINE */
	uint8_t		lint[2];	/* input levels */
	uint8_t		bsp;
};

struct lapic_priv {
	const struct lapic_hooks *h;
	unsigned	cpu;
};

static inline const struct lapic_hooks *
hooks(struct devctx *d)
{
	return ((struct lapic_priv *)d->priv)->h;
}

static inline unsigned
cpu_of(struct devctx *d)
{
	return ((struct lapic_priv *)d->priv)->cpu;
}

static inline bool
x2(const struct lapic_st *s)
{
	return (s->base & (BASE_EN | BASE_EXTD)) == (BASE_EN | BASE_EXTD);
}

static inline bool
deadline_mode(const struct lapic_st *s)
{
	return (s->lvt[LVT_TIMER] & TIMER_MODE) == TIMER_DEADLINE;
}

/* lapic.c */
extern const uint32_t lapic_lvt_mask[NLVT];	/* what software may change */
uint32_t lapic_reg_read(struct devctx *, unsigned r);
void	lapic_reg_write(struct devctx *, unsigned r, uint32_t val);
void	lapic_send_ipi(struct devctx *, uint32_t lo, uint32_t dest);
void	lapic_lvt_deliver(struct devctx *, unsigned n);	/* 11.5.1: its event */

/* lapic-timer.c */
void	lapic_timer_arm(struct devctx *);	/* as the registers say */
unsigned lapic_divisor(const struct lapic_st *);
uint32_t lapic_current_count(struct devctx *);
/* Forget a count or a deadline that ended while the LVT entry was masked. */
void	lapic_count_expire(struct devctx *);
void	lapic_deadline_expire(struct devctx *);

#endif
