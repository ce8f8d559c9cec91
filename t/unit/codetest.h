/*
 * codetest.h - guest programs run to their end in a vcpu without a machine.
 *
 * A program is assembled with the test (Intel syntax), put where the test wants
 * it, and runs until HLT or an exception: every vector's handler is a HLT of
 * its own at HANDLER + 16 * vector.  In long mode all use IST1.
 */
#ifndef CODETEST_H
#define CODETEST_H

#include <signal.h>
#include <sys/time.h>

#include "x86sem.h"

struct code { const char *p; size_t n; };

#define ASM_(bits, text) ({ const char *p_, *e_; \
	__asm__ volatile(".pushsection .rodata\n.code" #bits "\n" \
	    ".intel_syntax noprefix\n771:\n" text "\n772:\n" \
	    ".att_syntax prefix\n.code64\n.popsection\n" \
	    "lea 771b(%%rip), %0\nlea 772b(%%rip), %1" \
	    : "=r"(p_), "=r"(e_)); \
	(struct code){ p_, (size_t)(e_ - p_) }; })
#define ASM64(text)	ASM_(64, text)
#define ASM32(text)	ASM_(32, text)
#define ASM16(text)	ASM_(16, text)

enum { IST1 = STACK0 - 0x2000, HANDLER2 = 0x61000, X = 0x400000, X2 = 0x500000,
	PA = 0x600000, PB = 0x700000, HUNG = 0x1000 };
#define HIGH	0xffff800000000000ull	/* the same tables again */

/* Frame of the last exception in long mode. */
#define F_ERR	r64(IST1 - 48)
#define F_RIP	r64(IST1 - 40)
#define F_FLAGS	r64(IST1 - 24)
#define F_RSP	r64(IST1 - 16)

static bool hung;
static int alarm_irq = -1;

/* An interrupt at any time; or the end of a program that does not end. */
static void
on_alarm(int sig)
{
	if (alarm_irq >= 0) {
		irq_next = alarm_irq;
		alarm_irq = -1;
		c->irq_ready = true;
		*c->poll = 1;
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){
			.it_value.tv_sec = 1 }, NULL);
		return;
	}
	hung = true;
	c->req |= REQ_STOP;
	*c->poll = 1;
	/* a loop that nobody can leave */
	if (signal(SIGVTALRM, SIG_DFL) != SIG_ERR)
		setitimer(ITIMER_VIRTUAL, &(struct itimerval){
			.it_value.tv_sec = 1 }, NULL);
}

static inline void
put(uint64_t a, struct code k)
{
	memcpy(at(a), k.p, k.n);
	code_wrote(c, a, k.n);
}

/* Run from c->rip: the vector that ended it, NONE: HLT, or HUNG. */
static int
run(void)
{
	hung = false;
	/* the stack of calls may have no room for it */
	sigaction(SIGVTALRM, &(struct sigaction){ .sa_handler = on_alarm,
		.sa_flags = SA_ONSTACK | SA_RESTART }, NULL);
	setitimer(ITIMER_VIRTUAL, &(struct itimerval){ .it_value = {
		alarm_irq >= 0 ? 0 : 1, alarm_irq >= 0 ? 5000 : 0 } }, NULL);
	c->exc_pending = -1;
	c->exc_vector = -1;
	c->int_rip = ~0ull;
	c->halted = 0;
	c->shadow = 0;
	c->req = 0;
	*c->poll = 0;
	cpu_run(c);
	cpu_fpu_flush(c);
	setitimer(ITIMER_VIRTUAL, &(struct itimerval){ .it_value.tv_sec = 0 },
	    NULL);
	if (hung)
		return HUNG;
	if ((c->seg[CS].base + c->rip) >> 12 == HANDLER >> 12)
		return (int)((c->seg[CS].base + c->rip - HANDLER - 1) / 16);
	return -1;
}

static inline int
go(struct code k)
{
	put(c->seg[CS].base + c->rip, k);
	return run();
}

/* Go on where the last exception came from. */
static inline int
resume(void)
{
	c->rip = F_RIP;
	c->gpr[RSP] = F_RSP;
	c->eflags = F_FLAGS;
	c->seg[CS] = seg((unsigned)r64(IST1 - 32));
	c->seg[SS] = seg((unsigned)r64(IST1 - 8));
	c->cpl = (uint8_t)(r64(IST1 - 32) & 3);
	x86_mode(c);
	return run();
}

/* What all modes have: handlers, and nothing left of the test before. */
static inline void
handlers(void)
{
	unsigned v;

	block_flush();
	memset(at(HANDLER), 0xf4, 4096);
	for (v = 0; v < 256; v++)
		if (c->efer & EFER_LMA)
			set_idt(v, S_C64, HANDLER + 16 * v, 0xee, 1);
		else if (c->cr0 & CR0_PE)
			set_idt(v, S_C32, HANDLER + 16 * v, 0xee, 0);
		else
			w32(4 * v, HANDLER >> 4 << 16 | 16 * v);
	irq_next = alarm_irq = -1;
	c->irq_ready = false;
}

static inline void
begin64(unsigned cpl)
{
	long64(cpl);
	w64(PT + 8 * 256, r64(PT));		/* HIGH */
	handlers();
	x86_mode(c);
}

static inline void
begin32(void)
{
	pm32(0);
	handlers();
}

static inline void
begin16(void)
{
	real16();
	handlers();
}

/* Map a page of linear memory, from outside. */
static inline void
map4k(uint64_t lin, uint64_t pte)
{
	w64(PTE(lin), pte);
	tlb_flush_all(c);
}

#endif
