/*
 * lapic.c - the local APIC of one processor: xAPIC (memory-mapped) and x2APIC
 * (lapic-msr.c), with its timer (lapic-timer.c).
 * Intel SDM volume 3A, chapter 11 (sections in comments are of that chapter).
 *
 * One devctx per vcpu.  cpu/irq.c holds its interrupt lock around every call.
 * Between a message and this file stands cpu/irq.c, which finds the
 * destinations; between this file and the processor stands lapic_highest().
 */
#include <string.h>

#include "lapic.h"

static const struct field fields[] = {
	FIELD(lapic_st, id), FIELD(lapic_st, base), FIELD(lapic_st, tpr),
	FIELD(lapic_st, ldr), FIELD(lapic_st, dfr), FIELD(lapic_st, svr),
	FIELD(lapic_st, esr), FIELD(lapic_st, esr_new),
	FIELD(lapic_st, icr_lo), FIELD(lapic_st, icr_hi),
	FIELDS(lapic_st, isr), FIELDS(lapic_st, tmr), FIELDS(lapic_st, irr),
	FIELDS(lapic_st, lvt), FIELD(lapic_st, icount), FIELD(lapic_st, dcr),
	FIELD(lapic_st, start), FIELD(lapic_st, deadline),
	FIELDS(lapic_st, lint), FIELD(lapic_st, bsp),
	FIELD_END
};

/* What software may change in each LVT entry (figure 11-8). */
const uint32_t lapic_lvt_mask[NLVT] = {
	[LVT_TIMER]	= 0x700ff,
	[LVT_THERMAL]	= 0x107ff,
	[LVT_PERF]	= 0x107ff,
	[LVT_LINT0]	= 0x1a7ff,
	[LVT_LINT1]	= 0x1a7ff,
	[LVT_ERROR]	= 0x100ff,
};

static bool
enabled(const struct lapic_st *s)	/* by hardware and by software */
{
	return s->base & BASE_EN && s->svr & SVR_ENABLE;
}

static int
highest(const uint32_t *r)
{
	int i;

	for (i = 7; i >= 0; i--)
		if (r[i])
			return i * 32 + 31 - __builtin_clz(r[i]);
	return -1;
}

static bool
bit(const uint32_t *r, unsigned v)
{
	return r[v / 32] >> (v % 32) & 1;
}

static void
bit_set(uint32_t *r, unsigned v, bool on)
{
	if (on)
		r[v / 32] |= 1u << (v % 32);
	else
		r[v / 32] &= ~(1u << (v % 32));
}

/* Processor priority, 11.8.3.1. */
static uint32_t
ppr(const struct lapic_st *s)
{
	int v = highest(s->isr);
	uint32_t isrv = v < 0 ? 0 : (uint32_t)v;

	return (s->tpr & 0xf0) >= (isrv & 0xf0) ? s->tpr : isrv & 0xf0;
}

/* 11.5.3: the bit shows in ESR after its next write. */
static void
error(struct devctx *d, uint32_t what)
{
	struct lapic_st *s = d->st;

	if (s->esr_new & what)
		return;
	s->esr_new |= what;
	lapic_lvt_deliver(d, LVT_ERROR);
}

static void
set_irr(struct devctx *d, uint8_t vector, bool level)
{
	struct lapic_st *s = d->st;

	if (vector < 16) {
		error(d, ESR_RECV_VECTOR);
		return;
	}
	bit_set(s->irr, vector, true);
	bit_set(s->tmr, vector, level);
	hooks(d)->kick(hooks(d)->arg, cpu_of(d));
}

void
lapic_lvt_deliver(struct devctx *d, unsigned n)
{
	struct lapic_st *s = d->st;
	uint32_t l = s->lvt[n];
	unsigned mode = n == LVT_TIMER || n == LVT_ERROR ? 0 : l >> 8 & 7;

	if (l & LVT_MASKED || !(s->base & BASE_EN))
		return;
	switch (mode) {
	case LAPIC_FIXED:
		if (n == LVT_LINT0 && l & LVT_LEVEL) {
			if (l & LVT_IRR)
				return;
			s->lvt[n] |= LVT_IRR;
			set_irr(d, (uint8_t)l, true);
		} else
			set_irr(d, (uint8_t)l, false);
		break;
	case LAPIC_NMI: case LAPIC_SMI: case LAPIC_INIT: case LAPIC_EXTINT:
		hooks(d)->event(hooks(d)->arg, cpu_of(d),
		    (enum lapic_mode)mode);
		break;
	}
}

/* -------------------------------------------------------------- registers */

static void
lvt_write(struct devctx *d, unsigned n, uint32_t val)
{
	struct lapic_st *s = d->st;
	uint32_t old = s->lvt[n];

	if (n == LVT_TIMER) {
		lapic_deadline_expire(d);
		lapic_count_expire(d);
	}
	val &= lapic_lvt_mask[n];
	if (!(s->svr & SVR_ENABLE))
		val |= LVT_MASKED;
	s->lvt[n] = val | (old & (LVT_IRR | 0x1000));
	if (n == LVT_LINT0 && !(val & LVT_LEVEL))
		s->lvt[n] &= ~(uint32_t)LVT_IRR;
	if (n == LVT_TIMER) {
		/* 11.5.4.1: changing to or from deadline mode disarms */
		if ((old ^ val) & TIMER_DEADLINE) {
			s->deadline = 0;
			s->start = -1;
			s->icount = 0;
		}
		lapic_timer_arm(d);
	} else if (n == LVT_LINT0 && val & LVT_LEVEL && s->lint[0])
		lapic_lvt_deliver(d, n);
}

static void
svr_write(struct devctx *d, uint32_t val)
{
	struct lapic_st *s = d->st;
	unsigned i;

	s->svr = val & 0x3ff;
	if (!(s->svr & SVR_ENABLE)) {	/* 11.4.7.2 */
		for (i = 0; i < NLVT; i++)
			s->lvt[i] |= LVT_MASKED;
		lapic_timer_arm(d);
	}
}

static void
eoi(struct devctx *d)
{
	struct lapic_st *s = d->st;
	const struct lapic_hooks *h = hooks(d);
	int v = highest(s->isr);

	if (v < 0)
		return;
	bit_set(s->isr, (unsigned)v, false);
	if (bit(s->tmr, (unsigned)v)) {
		if (s->lvt[LVT_LINT0] & LVT_IRR &&
		    (int)(s->lvt[LVT_LINT0] & 0xff) == v) {
			s->lvt[LVT_LINT0] &= ~(uint32_t)LVT_IRR;
			if (s->lint[0])
				lapic_lvt_deliver(d, LVT_LINT0);
		}
		h->eoi(h->arg, (unsigned)v);
	}
	h->kick(h->arg, cpu_of(d));
}

void
lapic_send_ipi(struct devctx *d, uint32_t lo, uint32_t dest)
{
	struct lapic_st *s = d->st;
	const struct lapic_hooks *h = hooks(d);
	unsigned mode = lo >> 8 & 7;

	if (!(s->base & BASE_EN))
		return;
	if (mode <= LAPIC_LOWEST && (lo & 0xff) < 16) {
		error(d, ESR_SEND_VECTOR);
		return;
	}
	/* 11.6.1: the level INIT de-assert message has had no effect since
	 * the Pentium 4 */
	if (mode == LAPIC_INIT && lo & LVT_LEVEL && !(lo & 0x4000))
		return;
	if (mode == LAPIC_EXTINT || mode == 3)
		return;
	h->ipi(h->arg, cpu_of(d), lo, dest);
}

uint32_t
lapic_reg_read(struct devctx *d, unsigned r)
{
	struct lapic_st *s = d->st;

	switch (r) {
	case R_ID:	return x2(s) ? s->id : s->id << 24;
	case R_VERSION:	return VERSION;
	case R_TPR:	return s->tpr;
	case R_APR:	return lapic_arb(d);
	case R_PPR:	return ppr(s);
	case R_RRD:	return 0;
	case R_LDR:	return x2(s) ? s->id >> 4 << 16 | 1u << (s->id & 15) :
			    s->ldr;
	case R_DFR:	return s->dfr;
	case R_SVR:	return s->svr;
	case R_ISR ... R_ISR + 0x7f:	return s->isr[(r - R_ISR) / 16];
	case R_TMR ... R_TMR + 0x7f:	return s->tmr[(r - R_TMR) / 16];
	case R_IRR ... R_IRR + 0x7f:	return s->irr[(r - R_IRR) / 16];
	case R_ESR:	return s->esr;
	case R_ICR_LO:	return s->icr_lo;
	case R_ICR_HI:	return s->icr_hi;
	case R_LVT ... R_LVT + 0x5f:	return s->lvt[(r - R_LVT) / 16];
	case R_ICOUNT:	return s->icount;
	case R_CCOUNT:	return lapic_current_count(d);
	case R_DCR:	return s->dcr;
	case R_EOI:	return 0;
	}
	error(d, ESR_REGISTER);
	return 0;
}

void
lapic_reg_write(struct devctx *d, unsigned r, uint32_t val)
{
	struct lapic_st *s = d->st;

	switch (r) {
	case R_ID:		/* read-only here; 11.4.6 allows that */
		break;
	case R_TPR:
		s->tpr = val & 0xff;
		hooks(d)->kick(hooks(d)->arg, cpu_of(d));
		break;
	case R_EOI:
		eoi(d);
		break;
	case R_LDR:
		s->ldr = val & 0xff000000;
		break;
	case R_DFR:
		s->dfr = val | 0x0fffffff;
		break;
	case R_SVR:
		svr_write(d, val);
		hooks(d)->kick(hooks(d)->arg, cpu_of(d));
		break;
	case R_ESR:
		s->esr = s->esr_new;
		s->esr_new = 0;
		break;
	case R_ICR_LO:
		s->icr_lo = val & 0xcefff;	/* bit 12: never pending */
		lapic_send_ipi(d, s->icr_lo, s->icr_hi >> 24);
		break;
	case R_ICR_HI:
		s->icr_hi = val & 0xff000000;
		break;
	case R_LVT ... R_LVT + 0x5f:
		lvt_write(d, (r - R_LVT) / 16, val);
		break;
	case R_ICOUNT:
		if (deadline_mode(s))
			break;
		s->icount = val;
		s->start = val ? dev_clock(d) : -1;
		lapic_timer_arm(d);
		break;
	case R_DCR:
		s->dcr = val & 0xb;
		lapic_timer_arm(d);
		break;
	default:
		error(d, ESR_REGISTER);
	}
}

/* 11.4.1: 32-bit accesses aligned on 16 bytes; others are undefined. */
static uint64_t
lapic_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct lapic_st *s = d->st;
	uint32_t v;

	if (!(s->base & BASE_EN) || x2(s))
		return ~0ull;
	v = lapic_reg_read(d, (unsigned)off & 0xff0);
	return (off & 12) ? 0 : v >> 8 * (off & 3);
}

static void
lapic_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct lapic_st *s = d->st;

	if (!(s->base & BASE_EN) || x2(s))
		return;
	if (size < 4 || off & 15) {
		dev_guest_error(d, "access width", off);
		return;
	}
	lapic_reg_write(d, (unsigned)off & 0xff0, (uint32_t)val);
}

uint64_t
lapic_base(struct devctx *d)
{
	return ((struct lapic_st *)d->st)->base;
}

void
lapic_set_tpr(struct devctx *d, uint8_t cr8)
{
	((struct lapic_st *)d->st)->tpr = (uint32_t)(cr8 & 15) << 4;
	hooks(d)->kick(hooks(d)->arg, cpu_of(d));
}

uint8_t
lapic_get_tpr(struct devctx *d)
{
	return (uint8_t)((struct lapic_st *)d->st)->tpr;
}

/* ------------------------------------------------------------ for cpu/irq.c */

/*
 * 11.6.2.  A message's 8-bit broadcast 0xff is given here as 0xffffffff where
 * the destination is physical.
 */
bool
lapic_match(struct devctx *d, uint32_t dest, bool logical)
{
	struct lapic_st *s = d->st;
	uint32_t l;

	if (!(s->base & BASE_EN))
		return !logical && dest == s->id;	/* INIT, SIPI reach it */
	if (dest == 0xffffffff)
		return true;
	if (!logical)
		return x2(s) ? dest == s->id :
		    (dest & 0xff) == 0xff || dest == (s->id & 0xff);
	l = lapic_reg_read(d, R_LDR);
	if (x2(s))
		return dest >> 16 == l >> 16 && dest & l & 0xffff;
	l >>= 24;
	dest &= 0xff;
	if (s->dfr >> 28 == 0xf)		/* flat */
		return dest & l;
	if (s->dfr >> 28 == 0)			/* cluster */
		return (dest >> 4 == 0xf || dest >> 4 == l >> 4) &&
		    dest & l & 0xf;
	return false;
}

void
lapic_accept(struct devctx *d, enum lapic_mode mode, uint8_t vector, bool level)
{
	struct lapic_st *s = d->st;

	switch (mode) {
	case LAPIC_FIXED: case LAPIC_LOWEST:
		if (enabled(s))
			set_irr(d, vector, level);
		break;
	case LAPIC_NMI: case LAPIC_SMI: case LAPIC_INIT: case LAPIC_EXTINT:
		hooks(d)->event(hooks(d)->arg, cpu_of(d), mode);
		break;
	case LAPIC_SIPI:		/* carries a vector: cpu/irq.c does it */
		break;
	}
}

int
lapic_highest(struct devctx *d)
{
	struct lapic_st *s = d->st;
	int v = highest(s->irr);

	if (v < 0 || !enabled(s) || (v & 0xf0) <= (int)(ppr(s) & 0xf0))
		return -1;
	return v;
}

int
lapic_ack(struct devctx *d)
{
	struct lapic_st *s = d->st;
	int v = lapic_highest(d);

	if (v < 0)
		return -1;
	bit_set(s->irr, (unsigned)v, false);
	bit_set(s->isr, (unsigned)v, true);
	return v;
}

bool
lapic_takes_pic(struct devctx *d)
{
	struct lapic_st *s = d->st;
	uint32_t l = s->lvt[LVT_LINT0];

	if (!(s->base & BASE_EN))
		return s->bsp;		/* 11.4.3: LINT0 is INTR */
	return !(l & LVT_MASKED) && (l >> 8 & 7) == LAPIC_EXTINT;
}

/* Level change of LINT0 (the 8259's INTR) or LINT1 (NMI). */
void
lapic_lint(struct devctx *d, unsigned lint, int level)
{
	struct lapic_st *s = d->st;
	unsigned n = LVT_LINT0 + lint;
	uint8_t on = !!level;

	if (s->lint[lint] == on)
		return;
	s->lint[lint] = on;
	if (!(s->base & BASE_EN)) {
		if (lint == 1 && on)
			hooks(d)->event(hooks(d)->arg, cpu_of(d), LAPIC_NMI);
		return;
	}
	/* ExtINT is a level which lapic_takes_pic() passes on */
	if (on && (s->lvt[n] >> 8 & 7) != LAPIC_EXTINT)
		lapic_lvt_deliver(d, n);
}

uint32_t
lapic_arb(struct devctx *d)		/* 11.6.2.4 */
{
	struct lapic_st *s = d->st;
	int v = highest(s->irr), i = highest(s->isr);
	uint32_t irrv = v < 0 ? 0 : (uint32_t)v & 0xf0;
	uint32_t isrv = i < 0 ? 0 : (uint32_t)i & 0xf0;

	if ((s->tpr & 0xf0) >= irrv && (s->tpr & 0xf0) > isrv)
		return s->tpr;
	return irrv > isrv ? irrv : isrv;
}

/* 11.4.7.3: INIT keeps the ID, the base register (so the mode) and, in the
 * xAPIC, the arbitration ID. */
void
lapic_init_reset(struct devctx *d)
{
	struct lapic_st *s = d->st;
	unsigned i;

	s->tpr = s->ldr = s->esr = s->esr_new = s->icr_lo = s->icr_hi = 0;
	s->dfr = 0xffffffff;
	s->svr = 0xff;
	for (i = 0; i < 8; i++)
		s->isr[i] = s->tmr[i] = s->irr[i] = 0;
	for (i = 0; i < NLVT; i++)
		s->lvt[i] = LVT_MASKED;
	s->icount = s->dcr = 0;
	s->start = -1;
	s->deadline = 0;
	if (hooks(d))
		lapic_timer_arm(d);
}

static void
lapic_reset(struct devctx *d)
{
	struct lapic_st *s = d->st;

	s->base = 0xfee00000ull | BASE_EN | (s->bsp ? BASE_BSP : 0);
	s->lint[0] = s->lint[1] = 0;
	lapic_init_reset(d);
}

void
lapic_init(struct devctx *d, unsigned cpu, unsigned id, bool bsp,
    const struct lapic_hooks *h)
{
	struct lapic_st *s = d->st;
	struct lapic_priv *p = d->priv;

	p->h = h;
	p->cpu = cpu;
	s->id = id;
	s->bsp = bsp;
	lapic_reset(d);
}

static void
lapic_loaded(struct devctx *d)
{
	lapic_timer_arm(d);
	hooks(d)->kick(hooks(d)->arg, cpu_of(d));
}

/* Vectors as `info lapic` shows them: set bits of a 256-bit register. */
static void
print_bits(FILE *f, const char *name, const uint32_t *r, const uint32_t *tmr)
{
	unsigned v, n = 0;

	fprintf(f, "%s\t", name);
	for (v = 0; v < 256; v++)
		if (bit(r, v)) {
			fprintf(f, "%s%u%s", n++ ? " " : "", v,
			    tmr && bit(tmr, v) ? "(level)" : "");
		}
	fprintf(f, n ? "\n" : "(none)\n");
}

static const char *const mode_name[8] = { "Fixed", "LowPri", "SMI", "?", "NMI",
	"INIT", "SIPI", "ExtINT" };

static int
lapic_ask(struct devctx *d, char **argv, FILE *f)
{
	static const char *const lvt_name[NLVT] = { "LVTT", "LVTTHMR",
		"LVTPC", "LVT0", "LVT1", "LVTERR" };
	static const char *const timer_name[4] = { "one-shot", "periodic",
		"tsc-deadline", "?" };
	struct lapic_st *s = d->st;
	unsigned i;

	fprintf(f, "local APIC %u: %s, base 0x%llx%s\n", s->id,
	    !(s->base & BASE_EN) ? "disabled" : x2(s) ? "x2APIC" : "xAPIC",
	    (unsigned long long)(s->base & BASE_ADDR),
	    s->bsp ? ", BSP" : "");
	for (i = 0; i < NLVT; i++) {
		uint32_t l = s->lvt[i];

		fprintf(f, "%s\t0x%08x vector %u %s%s", lvt_name[i], l,
		    l & 0xff, mode_name[i == LVT_TIMER || i == LVT_ERROR ? 0 :
		    l >> 8 & 7], l & LVT_MASKED ? " masked" : "");
		if (i == LVT_TIMER)
			fprintf(f, " %s", timer_name[l >> 17 & 3]);
		else if (i == LVT_LINT0 || i == LVT_LINT1)
			fprintf(f, " %s %s", l & LVT_LEVEL ? "level" : "edge",
			    l & LVT_LOW ? "active-low" : "active-high");
		fputc('\n', f);
	}
	fprintf(f, "Timer\tdivide %u initial %u current %u deadline %llu\n",
	    lapic_divisor(s), s->icount, lapic_current_count(d),
	    (unsigned long long)s->deadline);
	fprintf(f, "SVR\t0x%08x %s spurious vector %u\n", s->svr,
	    s->svr & SVR_ENABLE ? "enabled" : "disabled", s->svr & 0xff);
	fprintf(f, "ICR\t0x%08x:%08x %s\n", s->icr_hi, s->icr_lo,
	    mode_name[s->icr_lo >> 8 & 7]);
	fprintf(f, "ESR\t0x%08x\n", s->esr);
	print_bits(f, "ISR", s->isr, NULL);
	print_bits(f, "IRR", s->irr, s->tmr);
	fprintf(f, "APR 0x%02x TPR 0x%02x PPR 0x%02x DFR 0x%02x LDR 0x%08x\n",
	    lapic_arb(d), s->tpr, ppr(s), s->dfr >> 28, lapic_reg_read(d, R_LDR));
	return 0;
}

static const struct dev_range ranges[] = {
	{ SPACE_MEM, RANGE_SYNC, 0xfee00000, 0x1000, .what = "registers" },
	{ 0 }
};

static const struct dev_test tests[] = {
	{ 'r', 0, 4, R_ID, 0, 0xffffff },	/* power-on, 11.4.7.1 */
	{ 'r', 0, 4, R_VERSION, 0x50014 },
	{ 'r', 0, 4, R_TPR, 0 },
	{ 'r', 0, 4, R_DFR, 0xffffffff },
	{ 'r', 0, 4, R_SVR, 0xff },
	{ 'r', 0, 4, R_LVT, 0x10000 },
	{ 'r', 0, 4, R_LVT + 0x50, 0x10000 },
	{ 'w', 0, 4, R_LVT, 0x20 },		/* disabled: mask stays */
	{ 'r', 0, 4, R_LVT, 0x10020 },
	{ 'w', 0, 4, R_SVR, 0x1ff },
	{ 'w', 0, 4, R_LVT, 0x20 },
	{ 'r', 0, 4, R_LVT, 0x20 },
	{ 'w', 0, 4, R_TPR, 0x45 },
	{ 'r', 0, 4, R_TPR, 0x45 },
	{ 'r', 0, 4, R_PPR, 0x45 },
	{ 'w', 0, 4, R_LDR, 0x12ffffff },
	{ 'r', 0, 4, R_LDR, 0x12000000 },
	{ 'w', 0, 4, R_DFR, 0x0 },
	{ 'r', 0, 4, R_DFR, 0x0fffffff },
	{ 'w', 0, 4, R_DCR, 0xff },
	{ 'r', 0, 4, R_DCR, 0xb },
	{ 'w', 0, 4, R_ICR_LO, 0x00000005 },	/* illegal vector */
	{ 'r', 0, 4, R_ESR, 0 },
	{ 'w', 0, 4, R_ESR, 0 },
	{ 'r', 0, 4, R_ESR, ESR_SEND_VECTOR },
	{ 'w', 0, 4, R_ESR, 0 },
	{ 'r', 0, 4, R_ESR, 0 },
	{ 'w', 0, 4, R_SVR, 0xff },		/* off: every LVT masked */
	{ 'r', 0, 4, R_LVT, 0x10020 },
	{ 'R' },
	{ 'r', 0, 4, R_TPR, 0 },
	{ 'r', 0, 4, R_SVR, 0xff },
	{ 0 }
};

const struct dev lapic = {
	.name = "lapic",
	.desc = "local APIC (placed in the vcpu)",
	.spec = "Intel SDM volume 3A, chapter 11",
	.state_size = sizeof(struct lapic_st),
	.fields = fields,
	.ranges = ranges,
	.priv_size = sizeof(struct lapic_priv),
	.reset = lapic_reset,
	.read = lapic_read,
	.write = lapic_write,
	.loaded = lapic_loaded,
	.ask = lapic_ask,
	.tests = tests,
};

DEV_MAIN(lapic);
