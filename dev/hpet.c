/*
 * hpet.c - high precision event timers (IA-PC HPET Specification 1.0a) at
 * FED00000h: a 64-bit main counter of 100 MHz and three comparators, each able
 * to be periodic.
 *
 * Theory of operation.  The running counter is guest time in 10 ns plus an
 * offset that is set when the counter starts, so nothing ticks; the stopped one
 * is a value in shared memory.  A comparator that may interrupt has one timer
 * armed for its next match.  Registers but the counter are set by round trips,
 * so that a kernel that looks at the counter after setting a comparator sees
 * the true order.
 *
 * An edge interrupt is a pulse; the line word counts rises, so none is lost.  In
 * legacy replacement mode timers 0 and 1 drive the lines of the 8254 and the
 * RTC, which are told by the event "hpet-legacy 0|1" that theirs are cut.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dev.h"

#define BASE	0xfed00000ull
#define NTIMER	3
#define HZ	100000000ull
#define TICK_NS	10
#define CAPS	(10000000ull << 32 | 0x8086u << 16 | 1u << 15 | 1u << 13 | \
		(NTIMER - 1) << 8 | 1)
#define ROUTES	0x00f00004ull	/* I/O APIC inputs 2, 20-23 */

enum { R_LOW, R_COUNTER, R_TIMERS };
enum { CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0, TIMERS = 0x100 };
enum { ENABLE = 1, LEGACY = 2 };
enum { T_LEVEL = 2, T_INT = 4, T_PERIODIC = 8, T_CAPS = 0x30, T_SETVAL = 0x40,
	T_32 = 0x100, T_ROUTE = 0x3e00, T_WRITABLE = T_LEVEL | T_INT |
	T_PERIODIC | T_SETVAL | T_32 | T_ROUTE };

struct hpet {
	uint64_t	config, status;
	uint64_t	counter;	/* while stopped; in shared memory */
	uint64_t	offset;		/* while running: counter - guest ticks */
	uint64_t	tconfig[NTIMER], cmp[NTIMER], period[NTIMER];
	uint8_t		armed[NTIMER];	/* a match is to come */
};

struct priv {
	int		source[32];	/* by line; -1: not ours */
	bool		legacy;		/* as told to others */
};

static const struct field fields[] = {
	FIELD(hpet, config), FIELD(hpet, status), FIELD(hpet, counter),
	FIELD(hpet, offset), FIELDS(hpet, tconfig), FIELDS(hpet, cmp),
	FIELDS(hpet, period), FIELDS(hpet, armed), FIELD_END
};

/* ----------------------------------------------------------------- counter */

static uint64_t
ticks(struct devctx *d)
{
	return (uint64_t)dev_clock(d) / TICK_NS;
}

static uint64_t
counter(struct devctx *d)
{
	struct hpet *h = d->st;

	return h->config & ENABLE ? ticks(d) + h->offset : h->counter;
}

/* The vcpu computes a counter that is guest time itself. */
static void
claim_counter(struct devctx *d)
{
	struct hpet *h = d->st;
	enum range_kind kind = RANGE_SHADOW;

	if (h->config & ENABLE)
		kind = h->offset ? RANGE_POSTED : RANGE_COUNTER;
	if (dev_range_set(d, R_COUNTER, SPACE_MEM, BASE + COUNTER, 8, kind,
	    kind == RANGE_COUNTER ? HZ : offsetof(struct hpet, counter), 64,
	    0) < 0)
		dev_guest_error(d, "counter", (uint64_t)errno);
}

/* -------------------------------------------------------------- interrupts */

static unsigned
line_of(const struct hpet *h, unsigned n)
{
	if (h->config & LEGACY && n < 2)
		return n == 0 ? 0 : 8;
	return h->tconfig[n] >> 9 & 31;
}

static void
drive(struct devctx *d, unsigned line, int level)
{
	struct priv *p = d->priv;

	if (line < 32 && p->source[line] >= 0)
		dev_irq(d, line, p->source[line], level);
}

/* Level of every line that a level-triggered timer holds. */
static void
levels(struct devctx *d)
{
	struct hpet *h = d->st;
	struct priv *p = d->priv;
	uint32_t high = 0;
	unsigned i;

	for (i = 0; i < NTIMER; i++)
		if (h->status >> i & 1 && h->tconfig[i] & T_INT &&
		    h->tconfig[i] & T_LEVEL && h->config & ENABLE)
			high |= 1u << line_of(h, i);
	for (i = 0; i < 32; i++)
		if (p->source[i] >= 0)
			dev_irq(d, i, p->source[i], high >> i & 1);
}

static void
interrupt(struct devctx *d, unsigned n)
{
	struct hpet *h = d->st;

	if (h->tconfig[n] & T_LEVEL)
		h->status |= 1u << n;
	if (!(h->tconfig[n] & T_INT))
		return;
	if (h->tconfig[n] & T_LEVEL) {
		levels(d);
		return;
	}
	drive(d, line_of(h, n), 1);
	drive(d, line_of(h, n), 0);
}

/* ------------------------------------------------------------- comparators */

/* Ticks until the comparator matches; 0: now or lately. */
static uint64_t
distance(const struct hpet *h, unsigned n, uint64_t now)
{
	uint32_t diff;

	if (h->tconfig[n] & T_32) {
		diff = (uint32_t)h->cmp[n] - (uint32_t)now;
		return diff >> 31 ? 0 : diff;
	}
	return h->cmp[n] > now ? h->cmp[n] - now : 0;
}

static void match(struct devctx *, unsigned n);

static void
match0(struct devctx *d)
{
	match(d, 0);
}

static void
match1(struct devctx *d)
{
	match(d, 1);
}

static void
match2(struct devctx *d)
{
	match(d, 2);
}

static void
arm(struct devctx *d, unsigned n)
{
	static void (*const fn[NTIMER])(struct devctx *) = {
		match0, match1, match2
	};
	struct hpet *h = d->st;
	uint64_t dist;

	if (!(h->config & ENABLE) || !h->armed[n] ||
	    !(h->tconfig[n] & (T_INT | T_LEVEL))) {
		dev_timer(d, n, -1, fn[n]);
		return;
	}
	dist = distance(h, n, counter(d));
	/* further than a century away is never */
	dev_timer(d, n, dist > 1ull << 58 ? -1 :
	    dev_clock(d) + (int64_t)dist * TICK_NS, fn[n]);
}

/* Periodic: the comparator goes on by whole periods, past `now`. */
static void
advance(struct hpet *h, unsigned n, uint64_t now)
{
	uint64_t p = h->period[n], late;

	if (h->tconfig[n] & T_32) {
		p &= 0xffffffff;
		late = (uint32_t)((uint32_t)now - (uint32_t)h->cmp[n]);
	} else {
		late = now - h->cmp[n];
	}
	if (p == 0) {
		h->armed[n] = 0;
		return;
	}
	h->cmp[n] += (late / p + 1) * p;
	if (h->tconfig[n] & T_32)
		h->cmp[n] &= 0xffffffff;
}

static void
match(struct devctx *d, unsigned n)
{
	struct hpet *h = d->st;
	uint64_t now = counter(d);

	if (!h->armed[n] || !(h->config & ENABLE))
		return;
	if (distance(h, n, now) > 0) {
		arm(d, n);
		return;
	}
	if (h->tconfig[n] & T_PERIODIC)
		advance(h, n, now);
	else
		h->armed[n] = 0;
	interrupt(d, n);
	arm(d, n);
}

/* --------------------------------------------------------------- registers */

static uint64_t
merge(uint64_t old, unsigned shift, unsigned size, uint64_t val)
{
	uint64_t mask = size < 8 ? (1ull << size * 8) - 1 : ~0ull;

	return (old & ~(mask << shift)) | (val & mask) << shift;
}

static uint64_t
get(struct devctx *d, uint64_t reg)
{
	struct hpet *h = d->st;
	unsigned n = (unsigned)(reg - TIMERS) / 0x20;

	switch (reg) {
	case 0:
		return CAPS;
	case CONFIG:
		return h->config;
	case STATUS:
		return h->status;
	case COUNTER:
		return counter(d);
	}
	if (reg < TIMERS || n >= NTIMER)
		return 0;
	switch (reg & 0x1f) {
	case 0:
		return h->tconfig[n] | T_CAPS | ROUTES << 32;
	case 8:
		return h->cmp[n];
	}
	return 0;			/* no message delivery */
}

static void
told(struct devctx *d)
{
	struct hpet *h = d->st;
	struct priv *p = d->priv;
	bool on = (h->config & (ENABLE | LEGACY)) == (ENABLE | LEGACY);

	if (on == p->legacy)
		return;
	p->legacy = on;
	dev_event(d, on ? "hpet-legacy 1" : "hpet-legacy 0");
}

static void
set_config(struct devctx *d, uint64_t v)
{
	struct hpet *h = d->st;
	uint64_t was = h->config, now = counter(d);
	unsigned i;

	h->config = v & (ENABLE | LEGACY);
	if ((was ^ h->config) & ENABLE) {
		if (h->config & ENABLE)
			h->offset = h->counter - ticks(d);
		else
			h->counter = now;
		claim_counter(d);
	}
	told(d);
	for (i = 0; i < NTIMER; i++)
		arm(d, i);
	levels(d);
}

static void
set_timer(struct devctx *d, unsigned n, unsigned shift, unsigned size,
    uint64_t val)
{
	struct hpet *h = d->st;

	h->tconfig[n] = merge(h->tconfig[n], shift, size, val) & T_WRITABLE;
	if (h->tconfig[n] & T_32) {
		h->cmp[n] &= 0xffffffff;
		h->period[n] &= 0xffffffff;
	}
	if (!(h->tconfig[n] & T_LEVEL))
		h->status &= ~(1ull << n);
	arm(d, n);
	levels(d);
}

static void
set_cmp(struct devctx *d, unsigned n, unsigned shift, unsigned size,
    uint64_t val)
{
	struct hpet *h = d->st;
	uint64_t c = h->tconfig[n];

	if (c & T_32 && shift >= 32)
		return;
	if (!(c & T_PERIODIC) || c & T_SETVAL)
		h->cmp[n] = merge(h->cmp[n], shift, size, val);
	if (c & T_PERIODIC)
		h->period[n] = merge(h->period[n], shift, size, val);
	if (c & T_32) {
		h->cmp[n] &= 0xffffffff;
		h->period[n] &= 0xffffffff;
	}
	h->tconfig[n] &= ~(uint64_t)T_SETVAL;
	h->armed[n] = 1;
	arm(d, n);
}

static void
set(struct devctx *d, uint64_t reg, unsigned shift, unsigned size,
    uint64_t val)
{
	struct hpet *h = d->st;
	unsigned n = (unsigned)(reg - TIMERS) / 0x20;

	switch (reg) {
	case CONFIG:
		set_config(d, merge(h->config, shift, size, val));
		return;
	case STATUS:
		h->status &= ~merge(0, shift, size, val);
		levels(d);
		return;
	case COUNTER:
		if (h->config & ENABLE)
			dev_guest_error(d, "write to the running counter", val);
		else
			h->counter = merge(h->counter, shift, size, val);
		return;
	}
	if (reg < TIMERS || n >= NTIMER)
		return;
	if ((reg & 0x1f) == 0)
		set_timer(d, n, shift, size, val);
	else if ((reg & 0x1f) == 8)
		set_cmp(d, n, shift, size, val);
}

static const uint16_t first[] = { 0, COUNTER, COUNTER + 8 };

static uint64_t
hpet_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	if (range > R_TIMERS || off > 0x3ff)
		return ~0ull;
	off += first[range];
	return get(d, off & ~7ull) >> (off & 7) * 8;
}

static void
hpet_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	if (range > R_TIMERS || off > 0x3ff)
		return;
	off += first[range];
	if (size < 4 || off & (size - 1)) {
		dev_guest_error(d, "access width", off);
		return;
	}
	set(d, off & ~7ull, (unsigned)(off & 7) * 8, size, val);
}

/* -------------------------------------------------------------- life cycle */

static int
hpet_init(struct devctx *d, char *why, size_t whylen)
{
	struct priv *p = d->priv;
	uint32_t lines = ROUTES | 1 << 0 | 1 << 8;
	unsigned i;

	if (dev_range_set(d, R_LOW, SPACE_MEM, BASE, COUNTER, RANGE_SYNC, 0, 0,
	    0) < 0 || dev_range_set(d, R_COUNTER, SPACE_MEM, BASE + COUNTER, 8,
	    RANGE_SHADOW, offsetof(struct hpet, counter), 64, 0) < 0 ||
	    dev_range_set(d, R_TIMERS, SPACE_MEM, BASE + COUNTER + 8,
	    0x400 - COUNTER - 8, RANGE_SYNC, 0, 0, 0) < 0) {
		snprintf(why, whylen, "address 0x%llx: %s", BASE,
		    strerror(errno));
		return -1;
	}
	for (i = 0; i < 32; i++) {
		p->source[i] = -1;
		if (lines >> i & 1 && (p->source[i] = dev_line(d, i)) < 0) {
			snprintf(why, whylen, "IRQ %u: %s", i, strerror(errno));
			return -1;
		}
	}
	return 0;
}

static void
hpet_reset(struct devctx *d)
{
	struct hpet *h = d->st;
	unsigned i;

	memset(h, 0, sizeof *h);
	for (i = 0; i < NTIMER; i++) {
		h->cmp[i] = ~0ull;
		arm(d, i);
	}
	claim_counter(d);
	levels(d);
	told(d);
}

static void
hpet_loaded(struct devctx *d)
{
	struct hpet *h = d->st;
	unsigned i;

	h->config &= ENABLE | LEGACY;
	claim_counter(d);
	for (i = 0; i < NTIMER; i++)
		arm(d, i);
	levels(d);
	told(d);
}

#define RD(r, o, s, v)	{ 'r', r, s, o, v }
#define WR(r, o, s, v)	{ 'w', r, s, o, v }
#define T(n, reg)	(TIMERS + (n) * 0x20 + (reg) - COUNTER - 8)

static const struct dev_test tests[] = {
	RD(R_LOW, 0, 4, 0x8086a201), RD(R_LOW, 4, 4, 10000000),
	RD(R_LOW, CONFIG, 8, 0), RD(R_LOW, STATUS, 8, 0),
	RD(R_COUNTER, 0, 8, 0), RD(R_TIMERS, T(0, 0), 4, 0x30),
	RD(R_TIMERS, T(0, 4), 4, ROUTES), RD(R_TIMERS, T(2, 8), 8, ~0ull),
	RD(R_TIMERS, T(3, 0), 8, 0),
	/* counter: written while stopped, runs, stops */
	WR(R_COUNTER, 4, 4, 1), WR(R_COUNTER, 0, 4, 0xfffffff0),
	RD(R_COUNTER, 0, 8, 0x1fffffff0), WR(R_LOW, CONFIG, 4, 1),
	{ 't', 0, 1, 0, 1000 }, RD(R_COUNTER, 0, 8, 0x200000054),
	RD(R_COUNTER, 4, 4, 2), WR(R_LOW, CONFIG, 4, 0),
	{ 't', 0, 1, 0, 1000 }, RD(R_COUNTER, 0, 4, 0x54),
	/* one shot, level, on input 20 */
	WR(R_COUNTER, 0, 8, 0), WR(R_LOW, CONFIG, 4, 1),
	WR(R_TIMERS, T(2, 0), 4, 20 << 9 | T_INT | T_LEVEL),
	WR(R_TIMERS, T(2, 8), 4, 100), WR(R_TIMERS, T(2, 12), 4, 0),
	{ 't', 0, 1, 0, 900 }, { 'i', 0, 1, 20, 0 },
	{ 't', 0, 1, 0, 200 }, { 'i', 0, 1, 20, 1 },
	RD(R_LOW, STATUS, 4, 4), WR(R_LOW, STATUS, 4, 4),
	{ 'i', 0, 1, 20, 0 }, RD(R_LOW, STATUS, 4, 0),
	{ 't', 0, 1, 0, 100000 }, { 'i', 0, 1, 20, 0 },
	/* periodic: comparator and period set as kernels do */
	WR(R_LOW, CONFIG, 4, 0), WR(R_COUNTER, 0, 8, 0),
	WR(R_TIMERS, T(0, 0), 4, T_INT | T_PERIODIC | T_SETVAL | T_32 |
	    T_LEVEL | 21 << 9),
	WR(R_TIMERS, T(0, 8), 4, 50), WR(R_TIMERS, T(0, 8), 4, 100),
	RD(R_TIMERS, T(0, 8), 4, 50), WR(R_LOW, CONFIG, 4, 1),
	{ 't', 0, 1, 0, 600 }, { 'i', 0, 1, 21, 1 },
	RD(R_TIMERS, T(0, 8), 4, 150), WR(R_LOW, STATUS, 4, 1),
	{ 't', 0, 1, 0, 1000 }, { 'i', 0, 1, 21, 1 },
	RD(R_TIMERS, T(0, 8), 4, 250),
	/* on and on */
	{ 't', 0, 1, 0, 100000 }, RD(R_TIMERS, T(0, 8), 4, 10250),
	{ 'R' }, RD(R_LOW, CONFIG, 8, 0), { 'i', 0, 1, 21, 0 },
	{ 0 }
};

static const struct dev hpet = {
	.name = "hpet",
	.desc = "high precision event timer",
	.spec = "IA-PC HPET Specification 1.0a",
	.state_size = sizeof(struct hpet),
	.fields = fields,
	.priv_size = sizeof(struct priv),
	.init = hpet_init,
	.reset = hpet_reset,
	.read = hpet_read,
	.write = hpet_write,
	.loaded = hpet_loaded,
	.tests = tests,
};
DEV_MAIN(hpet);
