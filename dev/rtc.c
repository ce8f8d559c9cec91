/*
 * rtc.c - MC146818A real-time clock and CMOS memory (Motorola MC146818A data
 * sheet), index at port 70h, data at 71h, IRQ 8; the PC's use of the memory
 * behind the clock: sizes of RAM for firmware, century at 32h.
 *
 * Theory of operation.  Nothing ticks while nobody looks: the time is the
 * source clock (the host's real time, or guest time with clock=vm) plus an
 * offset, and the flags of register C are worked out when C is read.  Timers
 * run only while an interrupt is enabled.  Setting the time changes the offset;
 * with SET (B.7) or the divider in reset (A.6-5 = 11) the registers stand still
 * and keep what is written; leaving the divider's reset starts half a second
 * before the next second.
 *
 * With the HPET in legacy replacement mode line 8 is not ours: its event tells.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dev.h"

#define SEC	1000000000ll
#define UIP_NS	244141		/* before the update, MC146818A figure 12 */

enum { SECS, ASEC, MINS, AMIN, HOURS, AHOUR, WDAY, MDAY, MONTH, YEAR, A, B, C,
	D, CENTURY = 0x32 };
enum { A_UIP = 0x80, A_DV = 0x70, A_RS = 0x0f };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_DM = 4,
	B_24 = 2 };
enum { C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };
enum { D_VRT = 0x80 };
enum { T_PERIODIC, T_SECOND };

struct rtc {
	uint8_t		index;
	uint8_t		port70;		/* what a read of 70h gives */
	uint8_t		cmos[128];
	uint8_t		on;		/* has been powered on */
	uint8_t		legacy;		/* the HPET has taken our line */
	int64_t		offset;		/* ns: RTC time - source clock */
	int64_t		frozen;		/* ns of the RTC while it stands */
	int64_t		seen;		/* second up to which UF/AF is known */
	int64_t		periodic;	/* guest ns of the next PF */
};

struct opts {
	const char	*base;
	int		clock;
};

struct priv {
	int		source;
};

static const struct field fields[] = {
	FIELD(rtc, index), FIELD(rtc, port70), FIELDS(rtc, cmos),
	FIELD(rtc, on), FIELD(rtc, legacy), FIELD(rtc, offset),
	FIELD(rtc, frozen), FIELD(rtc, seen), FIELD(rtc, periodic), FIELD_END
};

static const char *const clocks[] = { "host", "vm", NULL };

static const struct opt opts[] = {
	{ "base", OPT_STR, offsetof(struct opts, base), "utc",
	    "utc, localtime, or YYYY-MM-DD[THH:MM:SS]", NULL },
	{ "clock", OPT_ENUM, offsetof(struct opts, clock), "host",
	    "host: real time; vm: stands while the machine is stopped",
	    clocks },
	{ 0 }
};

static const struct dev_range ranges[] = {
	{ SPACE_IO, RANGE_SHADOW, 0x70, 1, offsetof(struct rtc, port70), 0,
	    "index" },
	{ SPACE_IO, RANGE_SYNC, 0x71, 1, 0, 0, "data" },
	{ 0 }
};

/* -------------------------------------------------------------------- time */

static int64_t
source_clock(struct devctx *d)
{
	struct timespec ts;

	if (((struct opts *)d->opts)->clock == 1)
		return dev_clock(d);
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * SEC + ts.tv_nsec;
}

static bool
standing(const struct rtc *r)
{
	return r->cmos[B] & B_SET || (r->cmos[A] & 0x60) == 0x60;
}

static int64_t
floor_sec(int64_t ns)
{
	return ns / SEC - (ns % SEC < 0);
}

static int64_t
rtc_ns(struct devctx *d)
{
	struct rtc *r = d->st;
	int64_t ns, max = INT64_MAX - 2 * SEC;

	/* the offset may come from a file: no signed overflow */
	ns = standing(r) ? r->frozen :
	    (int64_t)((uint64_t)source_clock(d) + (uint64_t)r->offset);
	return ns > max ? max : ns < -max ? -max : ns;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t
days(int64_t y, unsigned m, unsigned day)
{
	int64_t era, doe;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	doe = y - era * 400;
	doe = doe * 365 + doe / 4 - doe / 100 +
	    (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + day - 1;
	return era * 146097 + doe - 719468;
}

static void
date(int64_t z, int64_t *y, unsigned *m, unsigned *day)
{
	int64_t era, doe, yoe, doy, mp;

	z += 719468;
	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = z - era * 146097;
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	*day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
	*m = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
	*y = yoe + era * 400 + (*m <= 2);
}

static uint8_t
encode(const struct rtc *r, unsigned v)
{
	return (uint8_t)(r->cmos[B] & B_DM ? v : (v / 10 % 10) << 4 | v % 10);
}

static unsigned
decode(const struct rtc *r, uint8_t v)
{
	return r->cmos[B] & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t
encode_hour(const struct rtc *r, unsigned h)
{
	if (r->cmos[B] & B_24)
		return encode(r, h);
	return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) |
	    (h >= 12 ? 0x80 : 0));
}

static unsigned
decode_hour(const struct rtc *r, uint8_t v)
{
	if (r->cmos[B] & B_24)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* The time into the registers. */
static void
to_regs(struct rtc *r, int64_t ns)
{
	int64_t sec = floor_sec(ns), day, y;
	unsigned m, md, s;

	day = sec / 86400 - (sec % 86400 < 0);
	s = (unsigned)(sec - day * 86400);
	date(day, &y, &m, &md);
	r->cmos[SECS] = encode(r, s % 60);
	r->cmos[MINS] = encode(r, s / 60 % 60);
	r->cmos[HOURS] = encode_hour(r, s / 3600);
	r->cmos[WDAY] = encode(r, (unsigned)((day % 7 + 7 + 4) % 7 + 1));
	r->cmos[MDAY] = encode(r, md);
	r->cmos[MONTH] = encode(r, m);
	r->cmos[YEAR] = encode(r, (unsigned)((y % 100 + 100) % 100));
	r->cmos[CENTURY] = encode(r, (unsigned)(y / 100 % 100));
}

/* Seconds since 1970 that the registers say. */
static int64_t
from_regs(const struct rtc *r)
{
	unsigned m = decode(r, r->cmos[MONTH]);
	unsigned md = decode(r, r->cmos[MDAY]);
	int64_t y = decode(r, r->cmos[YEAR]) +
	    100ll * decode(r, r->cmos[CENTURY]);

	m = m < 1 ? 1 : m > 12 ? 12 : m;
	y = y < 1700 ? 1700 : y > 2250 ? 2250 : y;	/* what ns can hold */
	return days(y, m, md) * 86400 + decode_hour(r, r->cmos[HOURS]) * 3600 +
	    decode(r, r->cmos[MINS]) * 60 + decode(r, r->cmos[SECS]);
}

/* The registers hold a new time; `ns` is what they held when last right. */
static void
set_time(struct devctx *d, int64_t ns)
{
	struct rtc *r = d->st;
	int64_t frac = ns - floor_sec(ns) * SEC, now = from_regs(r);

	now = now * SEC + frac;
	r->frozen = now;
	r->offset = (int64_t)((uint64_t)now - (uint64_t)source_clock(d));
	r->seen = floor_sec(now);
}

/* -------------------------------------------------------------- interrupts */

static void
line(struct devctx *d)
{
	struct rtc *r = d->st;
	struct priv *p = d->priv;
	uint8_t *c = &r->cmos[C];

	*c &= C_PF | C_AF | C_UF;
	if (*c & r->cmos[B])
		*c |= C_IRQF;
	dev_irq(d, 8, p->source, *c & C_IRQF && !r->legacy);
}

/* ns between periodic interrupts, 0: none. */
static int64_t
period(const struct rtc *r)
{
	unsigned rs = r->cmos[A] & A_RS, dv = r->cmos[A] & A_DV;

	if (rs == 0 || dv > 0x20)
		return 0;
	if (rs <= 2)
		rs += 7;
	return SEC * (1 << (rs - 1)) / 32768;
}

static void
catch_up_periodic(struct devctx *d)
{
	struct rtc *r = d->st;
	int64_t p = period(r), now = dev_clock(d);

	if (p == 0) {
		r->periodic = -1;
		return;
	}
	if (r->periodic < 0 || r->periodic > now + p) {
		r->periodic = now + p;
		return;
	}
	if (now < r->periodic)
		return;
	r->periodic += ((now - r->periodic) / p + 1) * p;
	r->cmos[C] |= C_PF;
}

static bool
alarm_field(const struct rtc *r, unsigned reg, unsigned v)
{
	if ((r->cmos[reg] & 0xc0) == 0xc0)
		return true;		/* "don't care" */
	return (reg == AHOUR ? decode_hour(r, r->cmos[reg]) :
	    decode(r, r->cmos[reg])) == v;
}

static bool
alarm_at(const struct rtc *r, int64_t sec)
{
	unsigned s = (unsigned)((sec % 86400 + 86400) % 86400);

	return alarm_field(r, ASEC, s % 60) &&
	    alarm_field(r, AMIN, s / 60 % 60) &&
	    alarm_field(r, AHOUR, s / 3600);
}

static void
catch_up_second(struct devctx *d)
{
	struct rtc *r = d->st;
	int64_t now = floor_sec(rtc_ns(d)), s;

	if (standing(r) || now == r->seen)
		return;
	r->cmos[C] |= C_UF;
	/* a clock that jumped: any time of day passes within a day */
	s = (uint64_t)now - (uint64_t)r->seen > 86400 ? now - 86400 : r->seen;
	while (s < now && !(r->cmos[C] & C_AF))
		if (alarm_at(r, ++s))
			r->cmos[C] |= C_AF;
	r->seen = now;
}

static void update(struct devctx *);

static void
arm(struct devctx *d)
{
	struct rtc *r = d->st;
	int64_t ns;

	dev_timer(d, T_PERIODIC, r->cmos[B] & B_PIE && r->periodic >= 0 ?
	    r->periodic : -1, update);
	if (!(r->cmos[B] & (B_UIE | B_AIE)) || standing(r)) {
		dev_timer(d, T_SECOND, -1, update);
		return;
	}
	ns = rtc_ns(d);
	dev_timer(d, T_SECOND, dev_clock(d) + SEC - (ns - floor_sec(ns) * SEC),
	    update);
}

static void
update(struct devctx *d)
{
	catch_up_periodic(d);
	catch_up_second(d);
	line(d);
	arm(d);
}

/* --------------------------------------------------------------- registers */

static bool
is_time(unsigned i)
{
	return i == SECS || i == MINS || i == HOURS || i == CENTURY ||
	    (i >= WDAY && i <= YEAR);
}

static uint64_t
rtc_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct rtc *r = d->st;
	unsigned i = r->index & 0x7f;
	int64_t ns;
	uint8_t v;

	if (range == 0)
		return r->port70;
	if (range != 1)
		return ~0ull;
	if (is_time(i)) {
		if (!standing(r))
			to_regs(r, rtc_ns(d));
		return r->cmos[i];
	}
	switch (i) {
	case A:
		ns = rtc_ns(d);
		return r->cmos[A] | (!standing(r) &&
		    (floor_sec(ns) + 1) * SEC - ns <= UIP_NS ? A_UIP : 0);
	case C:
		catch_up_periodic(d);
		catch_up_second(d);
		line(d);
		v = r->cmos[C];
		r->cmos[C] = 0;
		line(d);
		arm(d);
		return v;
	case D:
		return D_VRT;
	}
	return r->cmos[i];
}

static void
write_a_b(struct devctx *d, unsigned i, uint8_t v)
{
	struct rtc *r = d->st;
	bool was = standing(r), reset = (r->cmos[A] & 0x60) == 0x60;
	int64_t ns = rtc_ns(d);

	catch_up_periodic(d);
	catch_up_second(d);
	if (!was)
		to_regs(r, ns);
	if (i == A) {
		if ((r->cmos[A] ^ v) & 0x7f)
			r->periodic = -1;
		r->cmos[A] = v & 0x7f;
	} else {
		/* the registers keep their bytes; only their meaning changes */
		r->cmos[B] = v;
		if (v & B_SET)
			r->cmos[B] &= (uint8_t)~B_UIE;
	}
	if (!was && standing(r))
		r->frozen = ns;
	if (was && !standing(r)) {
		if (reset && i == A)
			ns = floor_sec(ns) * SEC + SEC / 2;
		set_time(d, ns);
	}
	if (was && standing(r) && reset && (r->cmos[A] & 0x60) != 0x60)
		r->frozen = floor_sec(ns) * SEC + SEC / 2;
	update(d);
}

static void
rtc_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct rtc *r = d->st;
	unsigned i = r->index & 0x7f;
	uint8_t v = (uint8_t)val;
	int64_t ns;

	if (range == 0) {
		r->index = v;		/* bit 7, NMI mask, is kept only */
		return;
	}
	if (range != 1)
		return;
	if (is_time(i)) {
		ns = rtc_ns(d);
		if (!standing(r))
			to_regs(r, ns);
		r->cmos[i] = v;
		if (!standing(r))
			set_time(d, ns);
		return;
	}
	if (i == A || i == B) {
		write_a_b(d, i, v);
	} else if (i == ASEC || i == AMIN || i == AHOUR) {
		catch_up_second(d);
		r->cmos[i] = v;
		update(d);
	} else if (i != C && i != D) {
		r->cmos[i] = v;
	}
}

/* -------------------------------------------------------------- life cycle */

static int
parse_base(const char *s, int64_t *offset)
{
	int y, mo, d, h = 0, mi = 0, se = 0, n = 0;
	time_t now = time(NULL);
	struct tm tm;

	*offset = 0;
	if (strcmp(s, "utc") == 0)
		return 0;
	if (strcmp(s, "localtime") == 0) {
		if (localtime_r(&now, &tm) == NULL)
			return -1;
		*offset = tm.tm_gmtoff * SEC;
		return 0;
	}
	if (sscanf(s, "%4d-%2d-%2d%n", &y, &mo, &d, &n) != 3 || n == 0)
		return -1;
	s += n;
	n = 0;
	if (*s == 'T' || *s == ' ') {
		if (sscanf(s + 1, "%2d:%2d:%2d%n", &h, &mi, &se, &n) != 3 ||
		    n == 0)
			return -1;
		s += n + 1;
	}
	if (*s != '\0' || y < 0 || mo < 1 || mo > 12 || d < 1 || d > 31 ||
	    h < 0 || h > 23 || mi < 0 || mi > 59 || se < 0 || se > 59)
		return -1;
	*offset = (days(y, (unsigned)mo, (unsigned)d) * 86400 + h * 3600 +
	    mi * 60 + se) * SEC;
	return 1;
}

static int
rtc_init(struct devctx *d, char *why, size_t whylen)
{
	struct opts *o = d->opts;
	struct priv *p = d->priv;
	int64_t off;

	if (parse_base(o->base, &off) < 0) {
		snprintf(why, whylen, "base=%s: not utc, localtime or "
		    "YYYY-MM-DD[THH:MM:SS]", o->base);
		return -1;
	}
	p->source = dev_line(d, 8);
	if (p->source < 0) {
		snprintf(why, whylen, "IRQ 8: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static void
put16(uint8_t *c, unsigned i, uint64_t v)
{
	c[i] = (uint8_t)v;
	c[i + 1] = (uint8_t)(v >> 8);
}

/* What firmware expects in the memory behind the clock. */
static void
memory_sizes(struct devctx *d)
{
	uint8_t *c = ((struct rtc *)d->st)->cmos;
	uint64_t low = d->ram->low, high = d->ram->size - d->ram->low, k;

	put16(c, 0x15, 640);
	k = low > 1 << 20 ? (low - (1 << 20)) >> 10 : 0;
	put16(c, 0x17, k > 0xffff ? 0xffff : k);
	put16(c, 0x30, k > 0xffff ? 0xffff : k);
	k = low > 16 << 20 ? (low - (16 << 20)) >> 16 : 0;
	put16(c, 0x34, k > 0xffff ? 0xffff : k);
	k = high >> 16;
	put16(c, 0x5b, k);
	c[0x5d] = (uint8_t)(k >> 16);
	c[0x5f] = (uint8_t)(d->part && d->part->nvcpu ?
	    d->part->nvcpu - 1 : 0);
	c[0x14] = 0x06;			/* FPU, PS/2 mouse; no floppy */
}

static void
power_on(struct devctx *d)
{
	struct opts *o = d->opts;
	struct rtc *r = d->st;
	int64_t base;

	r->cmos[A] = 0x26;
	r->cmos[B] = B_24;
	/* an absolute date starts now */
	if (parse_base(o->base, &base) > 0)
		r->offset = base - source_clock(d);
	else if (o->clock == 1)
		r->offset = base + time(NULL) * SEC - dev_clock(d);
	else
		r->offset = base;
	r->on = 1;
}

static void
rtc_reset(struct devctx *d)
{
	struct rtc *r = d->st;

	if (!r->on)
		power_on(d);
	memory_sizes(d);
	r->port70 = 0xff;
	r->index = 0;
	r->cmos[B] &= B_SET | B_DM | B_24 | 1;
	r->cmos[C] = 0;
	r->legacy = 0;
	r->seen = floor_sec(rtc_ns(d));
	r->periodic = -1;
	update(d);
}

static void
rtc_loaded(struct devctx *d)
{
	struct rtc *r = d->st;
	struct priv *p = d->priv;

	dev_irq(d, 8, p->source, r->cmos[C] & C_IRQF && !r->legacy);
	arm(d);
}

static void
rtc_event(struct devctx *d, const char *from, char **argv)
{
	struct rtc *r = d->st;

	if (strcmp(argv[0], "hpet-legacy") == 0 && argv[1] != NULL) {
		r->legacy = strcmp(argv[1], "1") == 0;
		line(d);
	}
}

static const struct dev_test tests[] = {
	{ 'r', 0, 1, 0, 0xff },
	{ 'w', 0, 1, 0, A }, { 'r', 1, 1, 0, 0x26, 0x7f },
	{ 'w', 0, 1, 0, B }, { 'r', 1, 1, 0, 0x02 },
	{ 'w', 0, 1, 0, C }, { 'r', 1, 1, 0, 0 },
	{ 'w', 0, 1, 0, D }, { 'r', 1, 1, 0, 0x80 },
	{ 'w', 0, 1, 0, 0x40 }, { 'w', 1, 1, 0, 0xa5 }, { 'r', 1, 1, 0, 0xa5 },
	/* set 2001-02-28 23:59:59, BCD */
	{ 'w', 0, 1, 0, B }, { 'w', 1, 1, 0, 0x82 },
	{ 'w', 0, 1, 0, SECS }, { 'w', 1, 1, 0, 0x59 },
	{ 'w', 0, 1, 0, MINS }, { 'w', 1, 1, 0, 0x59 },
	{ 'w', 0, 1, 0, HOURS }, { 'w', 1, 1, 0, 0x23 },
	{ 'w', 0, 1, 0, MDAY }, { 'w', 1, 1, 0, 0x28 },
	{ 'w', 0, 1, 0, MONTH }, { 'w', 1, 1, 0, 0x02 },
	{ 'w', 0, 1, 0, YEAR }, { 'w', 1, 1, 0, 0x01 },
	{ 'w', 0, 1, 0, CENTURY }, { 'w', 1, 1, 0, 0x20 },
	{ 'r', 1, 1, 0, 0x20 },
	{ 'w', 0, 1, 0, SECS }, { 'r', 1, 1, 0, 0x59 },
	{ 'w', 0, 1, 0, YEAR }, { 'r', 1, 1, 0, 0x01 },
	/* periodic interrupt, 1024 Hz; C clears it */
	{ 'w', 0, 1, 0, B }, { 'w', 1, 1, 0, 0xc2 }, { 'i', 0, 1, 8, 0 },
	{ 't', 0, 1, 0, 1000000 }, { 'i', 0, 1, 8, 1 },
	{ 'w', 0, 1, 0, C }, { 'r', 1, 1, 0, 0xc0 }, { 'i', 0, 1, 8, 0 },
	{ 'r', 1, 1, 0, 0x00 }, { 't', 0, 1, 0, 1000000 },
	{ 'i', 0, 1, 8, 1 },
	{ 'R' }, { 'i', 0, 1, 8, 0 }, { 'w', 0, 1, 0, 0x40 },
	{ 'r', 1, 1, 0, 0xa5 },
	{ 0 }
};

static const struct dev rtc = {
	.name = "rtc",
	.desc = "real-time clock and CMOS memory",
	.spec = "Motorola MC146818A",
	.state_size = sizeof(struct rtc),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.ranges = ranges,
	.priv_size = sizeof(struct priv),
	.init = rtc_init,
	.reset = rtc_reset,
	.read = rtc_read,
	.write = rtc_write,
	.loaded = rtc_loaded,
	.event = rtc_event,
	.tests = tests,
};
DEV_MAIN(rtc);
