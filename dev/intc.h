/*
 * intc.h - the interrupt controllers and the interval timer, placed in the vcpu
 * process (architecture.md, "Placement").  Each is a `struct dev` like any chip
 * (fields, reset, read, write, save/load); these are the extra calls between
 * them, made by cpu/irq.c under the vcpu process's interrupt lock.
 */
#ifndef INTC_H
#define INTC_H

#include "dev.h"

extern const struct dev i8259, i8254, ioapic, lapic;

/* ---- 8259A pair, one struct dev with both chips and ELCR (0x20, 0xa0, 0x4d0) */
/* Level of IR input 0-15 changed; edge or level per ELCR. */
void	i8259_set(struct devctx *, unsigned ir, int level);
bool	i8259_intr(struct devctx *);		/* INTR output */
unsigned i8259_ack(struct devctx *);		/* INTA: vector (spurious: IR7) */

/* ---- I/O APIC, 24 inputs, 82093AA registers plus EOI register (version 0x20) */
/* Called when an input's level changed.  Delivers by the `deliver` hook. */
void	ioapic_set(struct devctx *, unsigned pin, int level);
void	ioapic_eoi(struct devctx *, unsigned vector);	/* broadcast from a LAPIC */
/* Set once by the host: sends an interrupt message in MSI form. */
void	ioapic_deliver_to(struct devctx *,
	    void (*deliver)(void *arg, uint64_t addr, uint32_t data), void *arg);

/* ---- local APIC, one devctx per vcpu; xAPIC and x2APIC, TSC-deadline */
enum lapic_mode { LAPIC_FIXED, LAPIC_LOWEST, LAPIC_SMI, LAPIC_NMI = 4,
	LAPIC_INIT, LAPIC_SIPI, LAPIC_EXTINT };
struct lapic_hooks {
	void	*arg;
	/* send an IPI or self message: decoded by cpu/irq.c to targets */
	void	(*ipi)(void *arg, unsigned from, uint32_t icr_lo, uint32_t dest);
	void	(*eoi)(void *arg, unsigned vector);	/* level EOI: to I/O APIC */
	void	(*kick)(void *arg, unsigned cpu);	/* look again */
	uint64_t (*tsc)(void *arg, unsigned cpu);	/* guest TSC */
	/* TSC deadline: absolute guest TSC, 0: disarm */
	void	(*deadline)(void *arg, unsigned cpu, uint64_t tsc);
	/* an LVT entry or a message delivers something that is no vector:
	 * NMI, SMI, INIT, ExtINT */
	void	(*event)(void *arg, unsigned cpu, enum lapic_mode);
};
/* Input clock of the timer's divider: what CPUID must tell as the core crystal
 * clock (15H ECX) or the hypervisor's bus clock: one tick is one nanosecond. */
#define LAPIC_HZ	1000000000u
/* `cpu` is what the hooks are told; `id` the APIC ID. */
void	lapic_init(struct devctx *, unsigned cpu, unsigned id, bool bsp,
	    const struct lapic_hooks *);
/* Does this LAPIC match destination `dest` (physical / logical)? */
bool	lapic_match(struct devctx *, uint32_t dest, bool logical);
/* Accept an interrupt; trigger: level sets TMR.  Safe from any thread. */
void	lapic_accept(struct devctx *, enum lapic_mode, uint8_t vector, bool level);
int	lapic_highest(struct devctx *);	/* deliverable vector, or -1 (TPR, ISR) */
int	lapic_ack(struct devctx *);	/* moves it to ISR; -1 none, 0xff.. spurious */
/* LVT LINT0 as ExtINT (virtual wire) or APIC disabled: take PIC interrupts? */
bool	lapic_takes_pic(struct devctx *);
void	lapic_timer_fired(struct devctx *);	/* deadline or count reached */
void	lapic_lint(struct devctx *, unsigned lint, int level);	/* 1: NMI */
uint32_t lapic_arb(struct devctx *);	/* priority for lowest-priority mode */
/* MSRs: IA32_APIC_BASE, 0x800-0x83f, IA32_TSC_DEADLINE. 0, or -1: #GP. */
int	lapic_rdmsr(struct devctx *, uint32_t msr, uint64_t *val);
int	lapic_wrmsr(struct devctx *, uint32_t msr, uint64_t val);
uint64_t lapic_base(struct devctx *);	/* IA32_APIC_BASE value */
void	lapic_set_tpr(struct devctx *, uint8_t cr8);	/* CR8: bits 7:4 of TPR */
uint8_t	lapic_get_tpr(struct devctx *);	/* all of TPR */
void	lapic_init_reset(struct devctx *);	/* INIT: keeps id and base */

/* ---- 8254: counters 0-2 at 0x40-0x43, port 0x61 gate/speaker bits */
/* Output of counter 0 is line 0, raised through host->irq. */

#endif
