/* links: dev bus mem, and the placed chips */
/*
 * intc.c - the chips placed in the vcpu, against their data sheets, without a
 * vcpu: own clock, own timers, recorded lines and messages.  Prints TAP.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "dev/intc.h"

static int failed, count;
static const char *group = "";

static void
ok(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void
ok(bool good, const char *fmt, ...)
{
	va_list ap;

	count++;
	if (good)
		return;
	failed++;
	printf("# FAIL %s: ", group);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}
#define IS(a, b) do { unsigned long long a_ = (a), b_ = (b); \
	ok(a_ == b_, "line %d: %s is 0x%llx, not 0x%llx", __LINE__, #a, a_, \
	    b_); } while (0)

/* --------------------------------------------------------------- the host */

static int64_t now;
static struct { int64_t when; void (*fn)(struct devctx *); struct devctx *d; }
    timers[2][8];
static int line[32], rises[32];

static int
h_range(struct devctx *d, unsigned r, enum space s, uint64_t a, uint64_t l,
    enum range_kind k, uint64_t o, unsigned b, unsigned p)
{
	return 0;
}

static int
h_line(struct devctx *d, unsigned l)
{
	return 0;
}

static void
h_irq(struct devctx *d, unsigned l, int source, int v)
{
	if (v && !line[l])
		rises[l]++;
	line[l] = v;
}

static int64_t
h_clock(struct devctx *d)
{
	return now;
}

static void
h_timer(struct devctx *d, unsigned n, int64_t when, void (*fn)(struct devctx *))
{
	unsigned k = d->dev == &lapic;

	timers[k][n].when = when;
	timers[k][n].fn = fn;
	timers[k][n].d = d;
}

static int
h_event(struct devctx *d, const char *s)
{
	return 0;
}

static const struct dev_host host = { .range = h_range, .line = h_line,
	.irq = h_irq, .clock = h_clock, .timer = h_timer, .event = h_event };

void dev_guest_error(struct devctx *, const char *, uint64_t);
void
dev_guest_error(struct devctx *d, const char *what, uint64_t n)
{
}

static struct { int64_t when; uint64_t tsc; } deadline;

/* Guest TSC runs at 2 GHz here. */
static void
step(int64_t ns)
{
	int64_t end = now + ns, next;
	unsigned k, i, bk = 0, bi = 0;

	for (;;) {
		next = end + 1;
		for (k = 0; k < 2; k++)
			for (i = 0; i < 8; i++)
				if (timers[k][i].fn && timers[k][i].when >= 0 &&
				    timers[k][i].when < next) {
					next = timers[k][i].when;
					bk = k;
					bi = i;
				}
		if (deadline.tsc && (int64_t)(deadline.tsc / 2) < next &&
		    (int64_t)(deadline.tsc / 2) <= end) {
			if ((int64_t)(deadline.tsc / 2) > now)
				now = (int64_t)(deadline.tsc / 2);
			deadline.tsc = 0;
			lapic_timer_fired(timers[1][0].d);
			continue;
		}
		if (next > end)
			break;
		if (next > now)
			now = next;
		timers[bk][bi].when = -1;
		timers[bk][bi].fn(timers[bk][bi].d);
	}
	now = end;
}

static struct devctx made[16];
static unsigned nmade;

static struct devctx *
make(const struct dev *dev)
{
	struct devctx *d = &made[nmade++];
	char why[128];

	d->dev = dev;
	d->host = &host;
	d->name = dev->name;
	d->devfn = -1;
	d->st = calloc(1, dev->state_size);
	d->priv = calloc(1, dev->priv_size + 1);
	if (dev->init && dev->init(d, why, sizeof(why)) < 0)
		abort();
	if (dev != &lapic)
		dev->reset(d);
	return d;
}

static uint64_t
rd(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	uint64_t v = d->dev->read(d, range, off, size);

	return size < 8 ? v & ((1ull << 8 * size) - 1) : v;
}

static void
wr(struct devctx *d, unsigned range, uint64_t off, unsigned size, uint64_t v)
{
	d->dev->write(d, range, off, size, v);
}

static void
vectors(struct devctx *d)
{
	const struct dev_test *t;
	uint64_t v, m;

	group = d->dev->name;
	d->dev->reset(d);
	for (t = d->dev->tests; t->op; t++) {
		m = t->size < 8 ? (1ull << 8 * t->size) - 1 : ~0ull;
		if (t->mask)
			m = t->mask;
		switch (t->op) {
		case 'R':
			d->dev->reset(d);
			break;
		case 'w':
			wr(d, t->range, t->off, t->size, t->val);
			break;
		case 'r':
			v = rd(d, t->range, t->off, t->size);
			ok((v & m) == (t->val & m), "vector %d: read %u+0x%llx "
			    "gives 0x%llx, not 0x%llx",
			    (int)(t - d->dev->tests), t->range,
			    (unsigned long long)t->off, (unsigned long long)v,
			    (unsigned long long)t->val);
			break;
		}
	}
	d->dev->reset(d);
}

/* Save, load into a fresh one, save again: the same bytes. */
static void
identity(struct devctx *d)
{
	char *a = NULL, *b = NULL;
	size_t na, nb;
	FILE *f = open_memstream(&a, &na);
	void *st = calloc(1, d->dev->state_size);

	IS(dev_save(d->dev, d->st, f), 0);
	fclose(f);
	f = fmemopen(a, na, "r");
	IS(dev_load(d->dev, st, f), 0);
	fclose(f);
	f = open_memstream(&b, &nb);
	IS(dev_save(d->dev, st, f), 0);
	fclose(f);
	ok(na == nb && memcmp(a, b, na) == 0, "save/load identity");
	f = fmemopen(a, na / 2, "r");
	ok(dev_load(d->dev, st, f) < 0, "half a state is refused");
	fclose(f);
	free(a);
	free(b);
	free(st);
}

/* ------------------------------------------------------------------ lapic */

static unsigned n_kick, n_ipi, n_eoi, n_event, last_eoi;
static uint32_t ipi_lo, ipi_dest;
static enum lapic_mode last_event;

static void
k_ipi(void *arg, unsigned from, uint32_t lo, uint32_t dest)
{
	n_ipi++;
	ipi_lo = lo;
	ipi_dest = dest;
}

static void
k_eoi(void *arg, unsigned v)
{
	n_eoi++;
	last_eoi = v;
}

static void
k_kick(void *arg, unsigned cpu)
{
	n_kick++;
}

static uint64_t
k_tsc(void *arg, unsigned cpu)
{
	return (uint64_t)now * 2;
}

static void
k_deadline(void *arg, unsigned cpu, uint64_t tsc)
{
	deadline.tsc = tsc;
}

static void
k_event(void *arg, unsigned cpu, enum lapic_mode m)
{
	n_event++;
	last_event = m;
}

static const struct lapic_hooks hooks = { NULL, k_ipi, k_eoi, k_kick, k_tsc,
	k_deadline, k_event };

#define L(off)		rd(l, 0, off, 4)
#define LW(off, v)	wr(l, 0, off, 4, v)

static void
lapic_priority(struct devctx *l)
{
	group = "lapic priority (11.8.3)";
	l->dev->reset(l);
	lapic_accept(l, LAPIC_FIXED, 0x41, false);
	IS(lapic_highest(l), (unsigned long long)-1);	/* disabled */
	LW(0xf0, 0x1ff);
	lapic_accept(l, LAPIC_FIXED, 0x41, false);
	lapic_accept(l, LAPIC_FIXED, 0x52, true);
	lapic_accept(l, LAPIC_FIXED, 0x43, false);
	IS(L(0x220), 1u << 1 | 1u << 3 | 1u << 18);	/* IRR 0x40-0x5f */
	IS(lapic_highest(l), 0x52);
	IS(lapic_ack(l), 0x52);
	IS(L(0x120), 1u << 18);
	IS(L(0xa0), 0x50);				/* PPR */
	IS(lapic_highest(l), (unsigned long long)-1);
	n_eoi = 0;
	LW(0xb0, 0);
	IS(n_eoi, 1);					/* it was a level */
	IS(last_eoi, 0x52);
	IS(lapic_ack(l), 0x43);
	IS(lapic_highest(l), (unsigned long long)-1);	/* same class */
	LW(0xb0, 0);
	IS(n_eoi, 1);
	lapic_set_tpr(l, 4);
	IS(L(0x80), 0x40);
	IS(lapic_highest(l), (unsigned long long)-1);
	LW(0x80, 0x30);
	IS(lapic_get_tpr(l), 0x30);
	IS(lapic_ack(l), 0x41);
	LW(0xb0, 0);
	lapic_accept(l, LAPIC_FIXED, 5, false);		/* illegal vector */
	LW(0x280, 0);
	IS(L(0x280), 0x40);
}

static void
lapic_timer(struct devctx *l)
{
	uint64_t v;

	group = "lapic timer (11.5.4)";
	l->dev->reset(l);
	LW(0xf0, 0x1ff);
	LW(0x320, 0x30);
	LW(0x3e0, 0xb);					/* divide by 1 */
	LW(0x380, 100000);
	step(40000);
	IS(L(0x390), 60000);
	IS(lapic_highest(l), (unsigned long long)-1);
	step(60000);
	IS(L(0x390), 0);
	IS(lapic_ack(l), 0x30);
	LW(0xb0, 0);
	step(1000000);
	IS(lapic_highest(l), (unsigned long long)-1);
	LW(0x3e0, 0x3);					/* divide by 16 */
	LW(0x320, 0x20031);				/* periodic */
	LW(0x380, 10000);
	step(159999);
	IS(lapic_highest(l), (unsigned long long)-1);
	step(1);
	IS(lapic_ack(l), 0x31);
	LW(0xb0, 0);
	step(160000 * 3);
	IS(lapic_ack(l), 0x31);
	LW(0xb0, 0);
	step(80000);
	IS(L(0x390), 5000);
	LW(0x320, 0x30031);				/* masked: no timer */
	IS(timers[1][0].when, (unsigned long long)-1);
	LW(0x380, 0);
	IS(L(0x390), 0);

	group = "lapic deadline (11.5.4.1)";
	LW(0x320, 0x40032);
	IS(lapic_wrmsr(l, 0x6e0, (uint64_t)(now + 500) * 2), 0);
	IS(lapic_rdmsr(l, 0x6e0, &v), 0);
	IS(v, (uint64_t)(now + 500) * 2);
	step(499);
	IS(lapic_highest(l), (unsigned long long)-1);
	step(2);
	IS(lapic_ack(l), 0x32);
	LW(0xb0, 0);
	lapic_rdmsr(l, 0x6e0, &v);
	IS(v, 0);
	lapic_wrmsr(l, 0x6e0, (uint64_t)(now + 500) * 2);
	LW(0x320, 0x32);				/* leaving disarms */
	LW(0x320, 0x40032);
	step(1000);
	IS(lapic_highest(l), (unsigned long long)-1);
	LW(0x380, 1000);				/* ignored in this mode */
	IS(L(0x380), 0);
}

static void
lapic_x2(struct devctx *l)
{
	uint64_t v;

	group = "x2APIC (11.12)";
	l->dev->reset(l);
	IS(lapic_rdmsr(l, 0x1b, &v), 0);
	IS(v, 0xfee00900);
	ok(lapic_rdmsr(l, 0x802, &v) < 0, "x2 MSR in xAPIC mode is #GP");
	ok(lapic_wrmsr(l, 0x1b, 0xfee00500) < 0, "EXTD without EN");
	ok(lapic_wrmsr(l, 0x1b, 0xfee00901) < 0, "reserved bit");
	LW(0xf0, 0x1ff);
	IS(lapic_wrmsr(l, 0x1b, 0xfee00d00), 0);
	IS(lapic_rdmsr(l, 0x802, &v), 0);
	IS(v, 3);
	IS(lapic_rdmsr(l, 0x80d, &v), 0);
	IS(v, 1u << 3);
	ok(lapic_rdmsr(l, 0x80e, &v) < 0, "DFR is #GP");
	ok(lapic_wrmsr(l, 0x80b, 1) < 0, "EOI of 1 is #GP");
	ok(lapic_wrmsr(l, 0x802, 1) < 0, "ID is read-only");
	ok(lapic_rdmsr(l, 0x831, &v) < 0, "no ICR2");
	IS(rd(l, 0, 0x20, 4), 0xffffffff);		/* no memory window */
	n_ipi = 0;
	IS(lapic_wrmsr(l, 0x830, 0x0000000700004041), 0);
	IS(n_ipi, 1);
	IS(ipi_lo, 0x4041);
	IS(ipi_dest, 7);
	IS(lapic_wrmsr(l, 0x83f, 0x61), 0);
	IS(n_ipi, 2);
	IS(ipi_lo & 0xc00ff, 0x40061);
	ok(lapic_match(l, 3, false), "physical");
	ok(!lapic_match(l, 0xff, false), "0xff is an ID");
	ok(lapic_match(l, 0xffffffff, false), "broadcast");
	ok(lapic_match(l, 0x0000000a, true), "logical");
	ok(!lapic_match(l, 0x00010008, true), "other cluster");
	ok(lapic_wrmsr(l, 0x1b, 0xfee00900) < 0, "no way back to xAPIC");
	IS(lapic_wrmsr(l, 0x1b, 0xfee00100), 0);
	ok(lapic_wrmsr(l, 0x1b, 0xfee00d00) < 0, "not from disabled");
	IS(lapic_wrmsr(l, 0x1b, 0xfee00900), 0);
}

static void
lapic_rest(struct devctx *l)
{
	group = "lapic destinations (11.6.2)";
	l->dev->reset(l);
	LW(0xf0, 0x1ff);
	LW(0xd0, 0x04000000);
	ok(lapic_match(l, 3, false) && !lapic_match(l, 2, false), "physical");
	ok(lapic_match(l, 0xffffffff, false), "broadcast");
	ok(lapic_match(l, 6, true) && !lapic_match(l, 3, true), "flat");
	LW(0xe0, 0x0fffffff);
	LW(0xd0, 0x21000000);
	ok(lapic_match(l, 0x23, true) && !lapic_match(l, 0x13, true) &&
	    lapic_match(l, 0xf1, true), "cluster");
	n_ipi = 0;
	LW(0x310, 0x02000000);
	LW(0x300, 0x00004500);				/* INIT assert */
	IS(n_ipi, 1);
	IS(ipi_dest, 2);
	LW(0x300, 0x00008500);				/* de-assert: nothing */
	IS(n_ipi, 1);

	group = "lapic LINT (11.5.1)";
	ok(!lapic_takes_pic(l), "LINT0 masked");
	LW(0x350, 0x700);
	ok(lapic_takes_pic(l), "LINT0 ExtINT");
	n_event = 0;
	lapic_lint(l, 0, 1);
	IS(n_event, 0);
	lapic_lint(l, 0, 0);
	LW(0x360, 0x400);
	lapic_lint(l, 1, 1);
	lapic_lint(l, 1, 0);
	IS(n_event, 1);
	IS(last_event, LAPIC_NMI);
	LW(0x350, 0x33);				/* fixed, edge */
	lapic_lint(l, 0, 1);
	lapic_lint(l, 0, 0);
	IS(lapic_ack(l), 0x33);
	LW(0xb0, 0);
	LW(0x350, 0x8034);				/* fixed, level */
	lapic_lint(l, 0, 1);
	IS(lapic_ack(l), 0x34);
	ok(L(0x350) & 0x4000, "remote IRR");
	LW(0xb0, 0);
	IS(lapic_ack(l), 0x34);				/* still high */
	lapic_lint(l, 0, 0);
	LW(0xb0, 0);
	IS(lapic_highest(l), (unsigned long long)-1);
	identity(l);
	lapic_init_reset(l);
	IS(L(0x20), 3u << 24);
	IS(L(0x350), 0x10000);
	IS(lapic_base(l), 0xfee00900);
}

/* ----------------------------------------------------------------- ioapic */

static unsigned n_msg;
static uint64_t msg_addr;
static uint32_t msg_data;

static void
deliver(void *arg, uint64_t addr, uint32_t data)
{
	n_msg++;
	msg_addr = addr;
	msg_data = data;
}

static void
redir(struct devctx *d, unsigned pin, uint64_t e)
{
	wr(d, 0, 0, 4, 0x11 + 2 * pin);
	wr(d, 0, 0x10, 4, e >> 32);
	wr(d, 0, 0, 4, 0x10 + 2 * pin);
	wr(d, 0, 0x10, 4, (uint32_t)e);
}

static uint32_t
redir_lo(struct devctx *d, unsigned pin)
{
	wr(d, 0, 0, 4, 0x10 + 2 * pin);
	return (uint32_t)rd(d, 0, 0x10, 4);
}

static void
test_ioapic(void)
{
	struct devctx *d = make(&ioapic);

	vectors(d);
	group = "ioapic";
	ioapic_deliver_to(d, deliver, NULL);
	redir(d, 4, 0x0200000000000034ull);
	ioapic_set(d, 4, 1);
	IS(n_msg, 1);
	IS(msg_addr, 0xfee02000);
	IS(msg_data, 0x4034);
	ioapic_set(d, 4, 1);
	IS(n_msg, 1);					/* an edge, once */
	ioapic_set(d, 4, 0);
	ioapic_set(d, 4, 1);
	IS(n_msg, 2);
	redir(d, 4, 0x10034);
	ioapic_set(d, 4, 0);
	ioapic_set(d, 4, 1);
	redir(d, 4, 0x34);
	IS(n_msg, 2);					/* masked edges are lost */
	/* level, logical, lowest priority */
	redir(d, 10, 0x0f00000000008945ull);
	ioapic_set(d, 10, 1);
	IS(n_msg, 3);
	IS(msg_addr, 0xfee0f00c);
	IS(msg_data, 0xc145);
	IS(redir_lo(d, 10), 0xc945);			/* remote IRR */
	ioapic_set(d, 10, 0);
	ioapic_set(d, 10, 1);
	IS(n_msg, 3);
	ioapic_eoi(d, 0x44);
	IS(n_msg, 3);
	ioapic_eoi(d, 0x45);
	IS(n_msg, 4);					/* still asserted */
	ioapic_set(d, 10, 0);
	wr(d, 0, 0x40, 4, 0x45);			/* EOI register */
	IS(n_msg, 4);
	IS(redir_lo(d, 10), 0x8945);
	redir(d, 11, 0x18046);				/* masked level */
	ioapic_set(d, 11, 1);
	IS(n_msg, 4);
	redir(d, 11, 0x8046);
	IS(n_msg, 5);
	identity(d);
}

/* ------------------------------------------------------------------ i8259 */

enum { M, S, E };

static void
pic_init(struct devctx *d, uint8_t icw4)
{
	static const uint8_t base[2] = { 0x20, 0x28 }, icw3[2] = { 4, 2 };
	unsigned i;

	for (i = 0; i < 2; i++) {
		wr(d, i, 0, 1, 0x11);
		wr(d, i, 1, 1, base[i]);
		wr(d, i, 1, 1, icw3[i]);
		wr(d, i, 1, 1, icw4);
		wr(d, i, 1, 1, 0);
	}
}

static void
test_i8259(void)
{
	struct devctx *d = make(&i8259);

	vectors(d);
	group = "i8259";
	pic_init(d, 1);
	ok(!i8259_intr(d), "quiet");
	i8259_set(d, 3, 1);
	i8259_set(d, 1, 1);
	ok(i8259_intr(d), "INTR");
	IS(rd(d, M, 0, 1), 0x0a);			/* IRR */
	IS(i8259_ack(d), 0x21);
	ok(!i8259_intr(d), "lower one waits");
	wr(d, M, 0, 1, 0x0b);
	IS(rd(d, M, 0, 1), 0x02);			/* ISR */
	wr(d, M, 0, 1, 0x20);				/* EOI */
	IS(i8259_ack(d), 0x23);
	wr(d, M, 0, 1, 0x63);				/* specific EOI */
	ok(!i8259_intr(d), "edges are used up");
	i8259_set(d, 3, 0);
	i8259_set(d, 1, 0);
	IS(i8259_ack(d), 0x27);				/* spurious */

	group = "i8259 cascade";
	i8259_set(d, 12, 1);
	i8259_set(d, 12, 0);				/* a pulse counts */
	ok(i8259_intr(d), "INTR from the slave");
	IS(i8259_ack(d), 0x2c);
	i8259_set(d, 9, 1);
	ok(!i8259_intr(d), "no special fully nested mode");
	wr(d, S, 0, 1, 0x20);
	wr(d, M, 0, 1, 0x20);
	ok(i8259_intr(d), "then the next");
	IS(i8259_ack(d), 0x29);
	wr(d, S, 0, 1, 0x20);
	wr(d, M, 0, 1, 0x20);
	i8259_set(d, 9, 0);
	wr(d, S, 1, 1, 0xff);
	i8259_set(d, 14, 1);
	ok(!i8259_intr(d), "masked");
	wr(d, S, 1, 1, 0);
	ok(i8259_intr(d), "unmasked");
	wr(d, S, 1, 1, 0xff);
	ok(!i8259_intr(d), "slave withdraws");
	wr(d, S, 1, 1, 0);
	IS(i8259_ack(d), 0x2e);
	wr(d, S, 0, 1, 0x20);
	wr(d, M, 0, 1, 0x20);
	i8259_set(d, 14, 0);

	group = "i8259 level (ELCR)";
	wr(d, E, 0, 1, 0x20);
	i8259_set(d, 5, 1);
	IS(i8259_ack(d), 0x25);
	wr(d, M, 0, 1, 0x20);
	ok(i8259_intr(d), "again while high");
	i8259_set(d, 5, 0);
	ok(!i8259_intr(d), "gone when low");
	wr(d, E, 0, 1, 0);

	group = "i8259 modes";
	wr(d, M, 0, 1, 0xc4);				/* IR4 lowest: IR5 top */
	i8259_set(d, 4, 1);
	i8259_set(d, 5, 1);
	IS(i8259_ack(d), 0x25);
	wr(d, M, 0, 1, 0xa0);				/* rotate on EOI */
	IS(i8259_ack(d), 0x24);
	wr(d, M, 0, 1, 0x20);
	i8259_set(d, 4, 0);
	i8259_set(d, 5, 0);
	wr(d, M, 0, 1, 0xc7);
	i8259_set(d, 1, 1);
	IS(i8259_ack(d), 0x21);
	wr(d, M, 1, 1, 0x02);
	wr(d, M, 0, 1, 0x68);				/* special mask mode */
	i8259_set(d, 6, 1);
	ok(i8259_intr(d), "special mask mode");
	wr(d, M, 0, 1, 0x0c);				/* poll */
	IS(rd(d, M, 0, 1), 0x86);
	pic_init(d, 3);					/* automatic EOI */
	i8259_set(d, 6, 0);
	i8259_set(d, 6, 1);
	IS(i8259_ack(d), 0x26);
	wr(d, M, 0, 1, 0x0b);
	IS(rd(d, M, 0, 1), 0);
	identity(d);
}

/* ------------------------------------------------------------------ i8254 */

#define TICK(n)	((int64_t)(n) * 1000000000 / 1193182)

static void
test_i8254(void)
{
	struct devctx *d = make(&i8254);
	unsigned v;

	vectors(d);
	group = "i8254 mode 2";
	wr(d, 0, 3, 1, 0x34);
	rises[0] = 0;
	wr(d, 0, 0, 1, 0xa9);
	wr(d, 0, 0, 1, 0x04);				/* 1193: 1 ms */
	step(1000000);
	IS(rises[0], 1);
	step(9 * 1000000);
	IS(rises[0], 10);
	now += 10 * 1000000;			/* nobody looked */
	step(1);
	IS(rises[0], 11);
	step(5 * 1000000);
	IS(rises[0], 25);
	step(5 * 1000000);
	IS(rises[0], 30);
	now += 3600ll * 1000000000;
	step(2ll * 1000000000);
	ok(rises[0] > 3000 && rises[0] < 3100, "%u edges, for a second made up "
	    "for and two seconds", rises[0]);
	wr(d, 0, 0, 1, 0xa9);
	wr(d, 0, 0, 1, 0x04);
	step(500000);
	wr(d, 0, 3, 1, 0x00);				/* latch */
	step(300000);
	v = (unsigned)rd(d, 0, 0, 1);
	v |= (unsigned)rd(d, 0, 0, 1) << 8;
	ok(v > 585 && v < 615, "latched count %u near 600", v);

	group = "i8254 mode 0";
	wr(d, 0, 3, 1, 0x30);
	IS(line[0], 0);
	rises[0] = 0;
	wr(d, 0, 0, 1, 0x00);
	wr(d, 0, 0, 1, 0x01);				/* 256 */
	step(TICK(255));
	IS(rises[0], 0);
	step(TICK(3));
	IS(rises[0], 1);
	step(TICK(100000));
	IS(rises[0], 1);
	IS(line[0], 1);

	group = "i8254 mode 3";
	wr(d, 0, 3, 1, 0x36);
	wr(d, 0, 0, 1, 0);
	wr(d, 0, 0, 1, 0);				/* 65536 */
	rises[0] = 0;
	step(1000000000);
	IS(rises[0], 18);

	group = "i8254 mode 4";
	wr(d, 0, 3, 1, 0x38);
	rises[0] = 0;
	wr(d, 0, 0, 1, 100);
	wr(d, 0, 0, 1, 0);
	step(TICK(1000));
	IS(rises[0], 1);

	group = "i8254 counter 2, port 0x61";
	wr(d, 1, 0, 1, 0);				/* gate low */
	wr(d, 0, 3, 1, 0xb0);
	wr(d, 0, 2, 1, 0xff);
	wr(d, 0, 2, 1, 0);
	step(TICK(1000));
	IS(rd(d, 1, 0, 1) & 0x20, 0);
	wr(d, 1, 0, 1, 1);				/* gate high */
	step(TICK(200));
	IS(rd(d, 1, 0, 1) & 0x20, 0);
	wr(d, 1, 0, 1, 0);				/* pause */
	step(TICK(1000));
	IS(rd(d, 1, 0, 1) & 0x20, 0);
	wr(d, 1, 0, 1, 1);
	step(TICK(60));
	IS(rd(d, 1, 0, 1) & 0x20, 0x20);
	v = rd(d, 1, 0, 1) & 0x10;
	step(15085);
	IS((rd(d, 1, 0, 1) & 0x10), (v ^ 0x10));

	group = "i8254 mode 1, BCD";
	wr(d, 1, 0, 1, 0);
	wr(d, 0, 3, 1, 0xb3);				/* mode 1, BCD */
	wr(d, 0, 2, 1, 0x00);
	wr(d, 0, 2, 1, 0x10);				/* 1000 */
	IS(rd(d, 1, 0, 1) & 0x20, 0x20);
	wr(d, 1, 0, 1, 1);				/* trigger */
	IS(rd(d, 1, 0, 1) & 0x20, 0);
	step(TICK(500));
	wr(d, 0, 3, 1, 0x80);
	v = (unsigned)rd(d, 0, 2, 1);
	v |= (unsigned)rd(d, 0, 2, 1) << 8;
	ok(v >= 0x0499 && v <= 0x0502, "BCD count %x near 500", v);
	step(TICK(600));
	IS(rd(d, 1, 0, 1) & 0x20, 0x20);
	identity(d);
}

/* Whatever a guest writes: no crash, no hang, and the state saves and loads. */
static void
noise(struct devctx *d, unsigned nrange, const uint16_t *len)
{
	uint32_t x = 12345, i, r;

	group = d->dev->name;
	for (i = 0; i < 10000; i++) {
		x = x * 1664525 + 1013904223;
		r = (x >> 8) % nrange;
		if (x & 0x80)
			wr(d, r, (x >> 16) % len[r], 1u << (x >> 5 & 1) * 2,
			    x * 2654435761u);
		else
			rd(d, r, (x >> 16) % len[r], 1u << (x >> 5 & 1) * 2);
		if (i % 16 == 0)
			step(x % 100000);
	}
	identity(d);
}

int
main(void)
{
	struct devctx *l = make(&lapic);

	now = 1000000;
	lapic_init(l, 3, 3, true, &hooks);
	vectors(l);
	lapic_priority(l);
	lapic_timer(l);
	lapic_x2(l);
	lapic_rest(l);
	noise(l, 1, (const uint16_t[]){ 0x400 });
	test_ioapic();
	test_i8259();
	test_i8254();
	noise(make(&ioapic), 1, (const uint16_t[]){ 0x44 });
	noise(make(&i8259), 3, (const uint16_t[]){ 2, 2, 2 });
	noise(make(&i8254), 2, (const uint16_t[]){ 4, 1 });
	while (nmade) {
		free(made[--nmade].st);
		free(made[nmade].priv);
	}
	printf("%d checks, %d failed\n", count, failed);
	return failed != 0;
}
