/*
 * i8254.c - the 8254 interval timer and port 0x61 of a PC.
 * Intel 8254 datasheet (231164); 82371SB (PIIX3, 290550) section 2.5 for port
 * 0x61 (NMI status and control).
 *
 * Nothing ticks: a counter remembers the clock at which it was loaded, and its
 * value and output are computed when somebody looks.  Counter 0's output is
 * interrupt line 0; a host timer is armed for its rising edges only, because
 * nothing can see the falling ones (the line is edge-triggered).  A new count
 * in modes 2 and 3 takes effect at once, not at the end of the period.
 * Periodic edges that went by while the host ran something else are made up for,
 * four times as fast as they should have come, up to a second's: guests count them.
 * Counter 1 was the DRAM refresh; its trace is bit 4 of port 0x61.
 */
#include "intc.h"

#define HZ	1193182u
#define NS	1000000000ll
#define OWED_MIN	64	/* shorter periods are not made up for */

struct counter {
	int64_t		start;		/* clock (ticks) of the load */
	int64_t		held;		/* ticks counted when the gate fell */
	uint32_t	count;		/* 1..65536 */
	uint16_t	latch;
	uint8_t		mode, bcd, rw;	/* rw: 1 low, 2 high, 3 low then high */
	uint8_t		wrote_low, low;	/* first half of a 16-bit load */
	uint8_t		read_high;	/* next byte read is the high one */
	uint8_t		latched;	/* bytes of `latch` left to read */
	uint8_t		status_latched, status;
	uint8_t		loaded;		/* a count was written since the mode */
	uint8_t		running;	/* modes 1, 5: triggered */
	uint8_t		gate;
};

struct i8254_st {
	struct counter	c[3];
	uint8_t		port61;		/* bits 0-3 as written */
	uint8_t		out0;		/* line 0 as driven */
	int64_t		edges;		/* of counter 0 since its start: gone by, */
	uint32_t	owed;		/* and of those, not driven yet */
};
#define CF(i, m) { #i "." #m, offsetof(struct i8254_st, c[i].m), \
	sizeof(((struct counter *)0)->m), 1, false }
#define CFS(i) CF(i, start), CF(i, held), CF(i, count), CF(i, latch), \
	CF(i, mode), CF(i, bcd), CF(i, rw), CF(i, wrote_low), CF(i, low), \
	CF(i, read_high), CF(i, latched), CF(i, status_latched), \
	CF(i, status), CF(i, loaded), CF(i, running), CF(i, gate)

static const struct field fields[] = {
	CFS(0), CFS(1), CFS(2), FIELD(i8254_st, port61), FIELD(i8254_st, out0),
	FIELD(i8254_st, edges), FIELD(i8254_st, owed), FIELD_END
};

struct i8254_priv {
	int	source;
};

static int64_t
ticks(struct devctx *d)
{
	int64_t ns = dev_clock(d);

	return ns / NS * HZ + ns % NS * HZ / NS;
}

static int64_t
ticks_ns(int64_t t)			/* first ns at which tick t is reached */
{
	return t / HZ * NS + (t % HZ * NS + HZ - 1) / HZ;
}

static bool
counts(const struct counter *c)		/* does the gate let it count? */
{
	if (!c->loaded)
		return false;
	return c->mode == 1 || c->mode == 5 ? c->running : c->gate;
}

static int64_t
elapsed(const struct counter *c, int64_t now)
{
	int64_t e = counts(c) ? now - c->start : c->held;

	return e < 0 ? 0 : e;
}

static bool
output(const struct counter *c, int64_t now)
{
	int64_t e = elapsed(c, now);

	switch (c->mode) {
	case 0:
		return c->loaded && e >= c->count;
	case 1:
		return !c->running || e >= c->count;
	case 2:
		return !counts(c) || e % c->count != c->count - 1;
	case 3:
		return !counts(c) || e % c->count < (c->count + 1) / 2;
	default:			/* 4, 5: low for one clock */
		return !counts(c) || e != c->count;
	}
}

static uint16_t
to_bcd(uint32_t v)
{
	v %= 10000;
	return (uint16_t)(v / 1000 << 12 | v / 100 % 10 << 8 |
	    v / 10 % 10 << 4 | v % 10);
}

static uint32_t
from_bcd(uint32_t v)
{
	return (v >> 12 & 15) * 1000 + (v >> 8 & 15) * 100 +
	    (v >> 4 & 15) * 10 + (v & 15);
}

static uint16_t
value(const struct counter *c, int64_t now)
{
	int64_t e = elapsed(c, now), wrap = c->bcd ? 10000 : 65536, v, half;

	switch (c->mode) {
	case 2:
		v = c->count - e % c->count;
		break;
	case 3:
		half = (c->count + 1) / 2;
		e %= c->count;
		if (e >= half)
			e -= half;
		v = (int64_t)(c->count & ~1u) - 2 * e;
		break;
	default:
		v = (c->count - e % wrap + wrap) % wrap;
	}
	return c->bcd ? to_bcd((uint32_t)v) : (uint16_t)v;
}

/* ------------------------------------------------------------ interrupt 0 */

static void	fired(struct devctx *);

static void
drive(struct devctx *d, bool level)
{
	struct i8254_st *s = d->st;
	struct i8254_priv *p = d->priv;

	if (s->out0 == level)
		return;
	s->out0 = level;
	dev_irq(d, 0, p->source, level);
}

/* Set the timer for the next rising edge of counter 0. */
static void
arm(struct devctx *d)
{
	struct i8254_st *s = d->st;
	struct counter *c = &s->c[0];
	int64_t now = ticks(d), e = elapsed(c, now), next = -1;

	if (counts(c))
		switch (c->mode) {
		case 0:
			if (e < c->count)
				next = c->start + c->count;
			break;
		case 2: case 3:
			next = c->start + (s->edges + 1) * c->count;
			if (s->owed && next > now + c->count / 4)
				next = now + c->count / 4;
			break;
		case 4: case 5:
			if (e <= c->count)
				next = c->start + c->count + 1;
			break;
		}
	dev_timer(d, 0, next < 0 ? -1 : ticks_ns(next), fired);
}

/* One edge of modes 2 and 3, if there is one. */
static bool
periodic_edge(struct i8254_st *s, int64_t now)
{
	struct counter *c = &s->c[0];
	int64_t n = elapsed(c, now) / c->count;

	if (n > s->edges) {
		s->owed += (uint32_t)(n - s->edges < HZ ? n - s->edges : HZ);
		s->edges = n;
	}
	if (s->owed > 1 && c->count < OWED_MIN)
		s->owed = 1;
	if (s->owed > HZ / c->count + 1)
		s->owed = HZ / c->count + 1;
	if (!s->owed)
		return false;
	s->owed--;
	return true;
}

static void
fired(struct devctx *d)
{
	struct i8254_st *s = d->st;

	if ((s->c[0].mode == 2 || s->c[0].mode == 3) && counts(&s->c[0]) &&
	    !periodic_edge(s, ticks(d))) {
		arm(d);			/* early */
		return;
	}
	if (s->c[0].mode != 0)
		drive(d, 0);
	else if (!output(&s->c[0], ticks(d))) {
		arm(d);			/* early */
		return;
	}
	drive(d, 1);
	arm(d);
}

/* A mode or count was written, or the gate moved. */
static void
changed(struct devctx *d, unsigned n)
{
	struct i8254_st *s = d->st;

	if (n != 0)
		return;
	s->edges = elapsed(&s->c[0], ticks(d)) / s->c[0].count;
	s->owed = 0;
	drive(d, output(&s->c[0], ticks(d)));
	arm(d);
}

/* --------------------------------------------------------------- counters */

static void
load(struct devctx *d, struct counter *c, uint32_t v)
{
	if (c->bcd)
		v = from_bcd(v);
	if (v == 0)
		v = c->bcd ? 10000 : 65536;
	c->count = v;
	c->held = 0;
	c->loaded = 1;
	if (c->mode != 1 && c->mode != 5)	/* these wait for the gate */
		c->start = ticks(d);
}

static void
counter_write(struct devctx *d, unsigned n, uint8_t v)
{
	struct counter *c = &((struct i8254_st *)d->st)->c[n];

	switch (c->rw) {
	case 1:
		load(d, c, v);
		break;
	case 2:
		load(d, c, (uint32_t)v << 8);
		break;
	default:
		if (!c->wrote_low) {
			c->wrote_low = 1;
			c->low = v;
			if (c->mode == 0)	/* the first byte stops it */
				c->loaded = 0;
			changed(d, n);
			return;
		}
		c->wrote_low = 0;
		load(d, c, (uint32_t)v << 8 | c->low);
	}
	changed(d, n);
}

static uint8_t
counter_read(struct devctx *d, unsigned n)
{
	struct counter *c = &((struct i8254_st *)d->st)->c[n];
	uint16_t v;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	v = c->latched ? c->latch : value(c, ticks(d));
	if (c->latched)
		c->latched--;
	switch (c->rw) {
	case 1:
		return (uint8_t)v;
	case 2:
		return (uint8_t)(v >> 8);
	}
	c->read_high ^= 1;
	return (uint8_t)(c->read_high ? v : v >> 8);
}

static void
latch_count(struct devctx *d, struct counter *c)
{
	if (c->latched)
		return;
	c->latch = value(c, ticks(d));
	c->latched = c->rw == 3 ? 2 : 1;
}

static void
latch_status(struct devctx *d, struct counter *c)
{
	if (c->status_latched)
		return;
	c->status_latched = 1;
	c->status = (uint8_t)(output(c, ticks(d)) << 7 | !c->loaded << 6 |
	    c->rw << 4 | c->mode << 1 | c->bcd);
}

static void
control(struct devctx *d, uint8_t v)
{
	struct i8254_st *s = d->st;
	struct counter *c;
	unsigned i, n = v >> 6;

	if (n == 3) {			/* read-back: a 0 bit selects */
		for (i = 0; i < 3; i++) {
			if (!(v >> (i + 1) & 1))
				continue;
			if (!(v & 0x20))
				latch_count(d, &s->c[i]);
			if (!(v & 0x10))
				latch_status(d, &s->c[i]);
		}
		return;
	}
	c = &s->c[n];
	if (!(v & 0x30)) {
		latch_count(d, c);
		return;
	}
	c->rw = v >> 4 & 3;
	c->mode = v >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3;		/* x10, x11 */
	c->bcd = v & 1;
	c->wrote_low = c->read_high = c->latched = c->status_latched = 0;
	c->loaded = c->running = 0;
	c->held = 0;
	changed(d, n);
}

static void
gate(struct devctx *d, unsigned n, uint8_t level)
{
	struct counter *c = &((struct i8254_st *)d->st)->c[n];
	int64_t now = ticks(d);

	if (c->gate == level)
		return;
	if (!level) {
		if (c->mode != 1 && c->mode != 5)
			c->held = elapsed(c, now);
		c->gate = 0;
	} else {
		c->gate = 1;
		switch (c->mode) {
		case 0: case 4:
			c->start = now - c->held;
			break;
		case 2: case 3:
			c->start = now;
			break;
		default:
			c->start = now;
			c->running = c->loaded;
		}
	}
	changed(d, n);
}

enum { RG_PIT, RG_61 };

static uint64_t
i8254_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct i8254_st *s = d->st;

	if (range == RG_61)		/* refresh: a request every 15.085 us */
		return s->port61 |
		    (unsigned)(dev_clock(d) / 15085 & 1) << 4 |
		    output(&s->c[2], ticks(d)) << 5;
	if (off == 3)			/* write-only */
		return 0;
	return counter_read(d, (unsigned)off & 3);
}

static void
i8254_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct i8254_st *s = d->st;

	if (range == RG_61) {
		s->port61 = val & 0xf;
		gate(d, 2, val & 1);
	} else if (off == 3)
		control(d, (uint8_t)val);
	else
		counter_write(d, (unsigned)off & 3, (uint8_t)val);
}

static int
i8254_init(struct devctx *d, char *why, size_t whylen)
{
	struct i8254_priv *p = d->priv;

	p->source = dev_line(d, 0);
	if (p->source < 0) {
		snprintf(why, whylen, "interrupt line 0: not to be had");
		return -1;
	}
	return 0;
}

/* The datasheet leaves power-on undefined; this is what firmware expects to
 * be harmless: mode 3, no count loaded. */
static void
i8254_reset(struct devctx *d)
{
	struct i8254_st *s = d->st;
	unsigned i;

	for (i = 0; i < 3; i++)
		s->c[i] = (struct counter){ .mode = 3, .rw = 3,
			.count = 65536, .gate = i != 2 };
	s->port61 = 0;
	s->out0 = 1;
	drive(d, 0);
	dev_timer(d, 0, -1, fired);
}

static void
i8254_loaded(struct devctx *d)
{
	struct i8254_st *s = d->st;
	struct i8254_priv *p = d->priv;
	unsigned i;

	for (i = 0; i < 3; i++) {	/* what arithmetic relies on */
		struct counter *c = &s->c[i];

		if (c->count == 0 || c->count > 65536)
			c->count = 65536;
		if (c->mode > 5)
			c->mode &= 3;
	}
	dev_irq(d, 0, p->source, s->out0);
	arm(d);
}

static int
i8254_ask(struct devctx *d, char **argv, FILE *f)
{
	struct i8254_st *s = d->st;
	int64_t now = ticks(d);
	unsigned i;

	for (i = 0; i < 3; i++) {
		const struct counter *c = &s->c[i];

		fprintf(f, "pit%u: mode=%u%s count=%u value=%u out=%u gate=%u"
		    "%s\n", i, c->mode, c->bcd ? " bcd" : "", c->count,
		    value(c, now), output(c, now), c->gate,
		    c->loaded ? "" : " (not loaded)");
	}
	return 0;
}

static const struct dev_range ranges[] = {
	{ SPACE_IO, RANGE_SYNC, 0x40, 4, .what = "counters" },
	{ SPACE_IO, RANGE_SYNC, 0x61, 1, .what = "NMI control" },
	{ 0 }
};

static const struct dev_test tests[] = {
	{ 'w', RG_PIT, 1, 3, 0x30 },		/* counter 0, mode 0 */
	{ 'w', RG_PIT, 1, 3, 0xe2 },		/* read back its status */
	{ 'r', RG_PIT, 1, 0, 0x70 },		/* OUT 0, null count, rw 3 */
	{ 'w', RG_PIT, 1, 3, 0xb0 },		/* counter 2, gate low */
	{ 'w', RG_PIT, 1, 2, 0x34 },
	{ 'w', RG_PIT, 1, 2, 0x12 },
	{ 'r', RG_PIT, 1, 2, 0x34 },		/* does not count */
	{ 'r', RG_PIT, 1, 2, 0x12 },
	{ 'w', RG_PIT, 1, 3, 0x80 },		/* latch */
	{ 'r', RG_PIT, 1, 2, 0x34 },
	{ 'r', RG_PIT, 1, 2, 0x12 },
	{ 'w', RG_PIT, 1, 3, 0xe8 },
	{ 'r', RG_PIT, 1, 2, 0x30 },		/* OUT 0, loaded */
	{ 'r', RG_61, 1, 0, 0x00, 0x2f },
	{ 'w', RG_61, 1, 0, 0x02 },
	{ 'r', RG_61, 1, 0, 0x02, 0x2f },
	{ 'r', RG_PIT, 1, 3, 0 },
	{ 'R' },
	{ 'r', RG_61, 1, 0, 0x20, 0x2f },	/* mode 3 without count: high */
	{ 0 }
};

const struct dev i8254 = {
	.name = "i8254",
	.desc = "8254 interval timer (placed in the vcpu)",
	.spec = "Intel 8254, 231164; 82371SB, 290550",
	.state_size = sizeof(struct i8254_st),
	.fields = fields,
	.ranges = ranges,
	.priv_size = sizeof(struct i8254_priv),
	.init = i8254_init,
	.reset = i8254_reset,
	.read = i8254_read,
	.write = i8254_write,
	.loaded = i8254_loaded,
	.ask = i8254_ask,
	.tests = tests,
};

DEV_MAIN(i8254);
