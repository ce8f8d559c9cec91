/*
 * selftest.c - a chip alone: `dev-CHIP --selftest [N[:SEED]] [key=value...]`.
 *
 * The chip runs in a host made of plain memory: 16 MiB of RAM, a clock that
 * moves only when told, lines and ranges that are just noted.  In this order:
 * its test vectors; save, load into a fresh one, save again: the same bytes;
 * a damaged state is refused; N random accesses (any range, offset, size and
 * value, timers and PCI configuration between them), and identity again; stop
 * twice, run.  One line a step, exit status 1 if a step failed.
 */
#include <bsd/stdlib.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "selftest.h"

#define NRANGE	64
#define NTIMER	8
#define NFN	8

struct claim {
	enum space	space;
	uint64_t	start, len, off;
	enum range_kind	kind;
};

struct bench {
	struct devctx	ctx;
	struct part	part;
	struct ram	ram;
	struct claim	claim[NRANGE];
	uint32_t	level[IRQ_LINES];
	int64_t		now;
	struct { int64_t ns; void (*fn)(struct devctx *); } timer[NTIMER];
	uint8_t		cfg[NFN][PAGE_SIZE_4K];
	int		devfn[NFN];
	unsigned	nfn;
	unsigned	events;
};

static struct map blank_map;
static struct loop *loop;
static int failed;

static void
verdict(const char *what, bool ok)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	failed |= !ok;
}

/* -------------------------------------------------------------- the host */

static int
t_range(struct devctx *d, unsigned n, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	struct bench *b = d->hostarg;
	size_t need;

	if (n >= NRANGE) {
		errno = EINVAL;
		return -1;
	}
	need = kind == RANGE_SHADOW || kind == RANGE_STATUS ||
	    kind == RANGE_ROM ? off + len : 0;
	if (need > d->dev->state_size) {
		printf("not ok - range %u is outside the state\n", n);
		failed = 1;
		errno = EINVAL;
		return -1;
	}
	b->claim[n] = (struct claim){ space, start, len, off, kind };
	return 0;
}

static int
t_line(struct devctx *d, unsigned line)
{
	return line < IRQ_LINES ? 1 : -1;
}

static void
t_irq(struct devctx *d, unsigned line, int source, int level)
{
	struct bench *b = d->hostarg;

	if (line < IRQ_LINES)
		b->level[line] = level != 0;
}

static void
t_msi(struct devctx *d, unsigned n, uint64_t addr, uint32_t data)
{
}

static int
t_pci(struct devctx *d, int devfn)
{
	struct bench *b = d->hostarg;

	if (b->nfn == NFN) {
		errno = ENOSPC;
		return -1;
	}
	d->devfn = devfn < 0 ? 0x10 : devfn;
	d->cfg = b->cfg[b->nfn];
	b->devfn[b->nfn++] = d->devfn;
	return d->devfn;
}

static int64_t
t_clock(struct devctx *d)
{
	return ((struct bench *)d->hostarg)->now;
}

static void
t_timer(struct devctx *d, unsigned n, int64_t ns, void (*fn)(struct devctx *))
{
	struct bench *b = d->hostarg;

	if (n < NTIMER) {
		b->timer[n].ns = ns;
		b->timer[n].fn = fn;
	}
}

static int
t_event(struct devctx *d, const char *text)
{
	((struct bench *)d->hostarg)->events++;
	return 0;
}

static int
t_ask(struct devctx *d, const char *whom, const char *question, char **reply)
{
	if (reply)
		*reply = strdup("nobody there");
	return ENOENT;
}

static const struct dev_host host = {
	.range = t_range,
	.line = t_line,
	.irq = t_irq,
	.msi = t_msi,
	.pci = t_pci,
	.clock = t_clock,
	.timer = t_timer,
	.event = t_event,
	.ask = t_ask,
};

/* Let ns of guest time pass; bounded, in case a timer is always due. */
static void
advance(struct bench *b, int64_t ns)
{
	int64_t end = b->now + ns;
	unsigned i, best, n;

	for (n = 0; n < 1000; n++) {
		best = NTIMER;
		for (i = 0; i < NTIMER; i++)
			if (b->timer[i].ns >= 0 && b->timer[i].fn &&
			    b->timer[i].ns <= end && (best == NTIMER ||
			    b->timer[i].ns < b->timer[best].ns))
				best = i;
		if (best == NTIMER)
			break;
		if (b->timer[best].ns > b->now)
			b->now = b->timer[best].ns;
		b->timer[best].ns = -1;
		b->timer[best].fn(&b->ctx);
	}
	b->now = end;
}

static struct bench *
bench_new(const struct dev *dev, char **argv)
{
	struct bench *b = calloc(1, sizeof *b);
	char why[256] = "";
	unsigned i;

	if (b == NULL || ram_create(&b->ram, "selftest", 16 << 20)) {
		printf("not ok - memory: %s\n", strerror(errno));
		exit(1);
	}
	b->now = 1000000000;
	for (i = 0; i < NTIMER; i++)
		b->timer[i].ns = -1;
	b->part.map = &blank_map;
	b->part.ram = b->ram;
	if (loop == NULL)
		loop = loop_new();
	b->part.loop = loop;
	b->part.nvcpu = 1;
	b->part.bus = -1;
	b->part.kick = -1;
	strcpy(b->part.name, "selftest");
	b->ctx = (struct devctx){
		.dev = dev, .host = &host, .name = b->part.name,
		.ram = &b->ram, .devfn = -1, .loop = b->part.loop,
		.part = &b->part, .hostarg = b, .argv = argv,
		.st = calloc(1, dev->state_size + 1),
		.opts = calloc(1, dev->opts_size + 1),
		.priv = calloc(1, dev->priv_size + 1),
	};
	if (dev_opts(dev, argv, b->ctx.opts, why, sizeof why) < 0) {
		fprintf(stderr, "dev-%s: %s\n", dev->name, why);
		exit(2);
	}
	if (dev_claim(&b->ctx) ||
	    (dev->init && dev->init(&b->ctx, why, sizeof why))) {
		fprintf(stderr, "dev-%s: %s\n", dev->name, *why ? why :
		    "cannot start");
		exit(1);
	}
	if (dev->reset)
		dev->reset(&b->ctx);
	return b;
}

static void
bench_free(struct bench *b)
{
	if (b->ctx.dev->quit)
		b->ctx.dev->quit(&b->ctx);
	ram_detach(&b->ram);
	free(b->ctx.st);
	free(b->ctx.opts);
	free(b->ctx.priv);
	free(b);
}

static void
pause_chip(struct bench *b, bool on)
{
	const struct dev *dev = b->ctx.dev;

	b->ctx.running = !on;
	if (on && dev->stop)
		dev->stop(&b->ctx);
	if (!on && dev->run)
		dev->run(&b->ctx);
}

/* ---------------------------------------------------------- test vectors */

static uint64_t
ones(unsigned size)
{
	return size < 8 ? (1ull << size * 8) - 1 : ~0ull;
}

/* As the vcpu reads: shared memory where the kind says so. */
static uint64_t
bus_read(struct bench *b, unsigned range, uint64_t off, unsigned size)
{
	struct claim *c = &b->claim[range];
	uint64_t v = 0;

	if ((c->kind == RANGE_SHADOW || c->kind == RANGE_STATUS ||
	    c->kind == RANGE_ROM) && off + size <= c->len) {
		memcpy(&v, (uint8_t *)b->ctx.st + c->off + off, size);
		return v;
	}
	return b->ctx.dev->read ?
	    b->ctx.dev->read(&b->ctx, range, off, size) & ones(size) :
	    ones(size);
}

static bool
vector(struct bench *b, const struct dev_test *t, unsigned i)
{
	const struct dev *dev = b->ctx.dev;
	uint64_t mask = t->mask ? t->mask : ones(t->size), got;
	uint32_t w = 0;
	unsigned fn;

	switch (t->op) {
	case 'R':
		if (dev->reset)
			dev->reset(&b->ctx);
		return true;
	case 'w':
		if (dev->write)
			dev->write(&b->ctx, t->range, t->off, t->size,
			    t->val & ones(t->size));
		return true;
	case 't':
		advance(b, (int64_t)t->val);
		return true;
	case 'c':
		if (dev->config)
			dev->config(&b->ctx, t->range, (unsigned)t->off,
			    t->size, (uint32_t)t->val);
		return true;
	case 'C':
		for (fn = 0; fn + 1 < b->nfn && b->devfn[fn] != t->range; )
			fn++;
		if (t->off + t->size <= PAGE_SIZE_4K)
			memcpy(&w, b->cfg[fn] + t->off, t->size & 7);
		got = w;
		break;
	case 'i':
		mask = 1;
		got = t->off < IRQ_LINES ? b->level[t->off] : 2;
		break;
	case 'r':
		got = bus_read(b, t->range % NRANGE, t->off, t->size);
		break;
	default:
		printf("# vector %u: unknown operation %c\n", i, t->op);
		return false;
	}
	if (((got ^ t->val) & mask) == 0)
		return true;
	printf("# vector %u: %c range %u off 0x%" PRIx64 " size %u: 0x%" PRIx64
	    ", expected 0x%" PRIx64 " (mask 0x%" PRIx64 ")\n", i, t->op,
	    t->range, t->off, t->size, got, t->val, mask);
	return false;
}

static void
vectors(const struct dev *dev, char **argv)
{
	struct bench *b = bench_new(dev, argv);
	const struct dev_test *t = dev->tests;
	unsigned i;
	bool ok = true;

	pause_chip(b, false);
	for (i = 0; t != NULL && t[i].op != 0; i++)
		ok &= vector(b, &t[i], i);
	verdict("test vectors", ok && i > 0);
	if (i == 0)
		printf("# none\n");
	bench_free(b);
}

/* ------------------------------------------------------------ save, load */

static char *
saved(struct bench *b, size_t *len)
{
	char *buf = NULL;
	FILE *f = open_memstream(&buf, len);

	if (f == NULL || dev_save(b->ctx.dev, b->ctx.st, f) || fclose(f)) {
		printf("not ok - save: %s\n", strerror(errno));
		exit(1);
	}
	return buf;
}

static int
load(struct bench *b, const char *buf, size_t len)
{
	FILE *f = fmemopen((void *)buf, len, "r");
	int ret;

	if (f == NULL)
		return -1;
	ret = dev_load(b->ctx.dev, b->ctx.st, f);
	fclose(f);
	if (ret == 0 && b->ctx.dev->loaded)
		b->ctx.dev->loaded(&b->ctx);
	return ret;
}

static void
identity(struct bench *a, const char *what, char **argv)
{
	struct bench *b = bench_new(a->ctx.dev, argv);
	char *s1, *s2, *s3;
	size_t n1, n2, n3;
	bool ok = false;

	pause_chip(a, true);
	b->now = a->now;
	s1 = saved(a, &n1);
	s2 = saved(a, &n2);
	if (n1 != n2 || memcmp(s1, s2, n1)) {
		printf("# two saves of one state differ\n");
		goto out;
	}
	if (load(b, s1, n1)) {
		printf("# load: %s\n", strerror(errno));
		goto out;
	}
	s3 = saved(b, &n3);
	ok = n1 == n3 && memcmp(s1, s3, n1) == 0;
	if (!ok)
		printf("# saved, loaded, saved: the bytes differ\n");
	free(s3);
out:
	verdict(what, ok);
	free(s1);
	free(s2);
	bench_free(b);
	pause_chip(a, false);
}

static void
damaged(struct bench *a)
{
	char *s1, *s2;
	size_t n, n2, cut;
	bool ok = true;

	pause_chip(a, true);
	s1 = saved(a, &n);
	for (cut = 1; cut < n; cut += cut < 64 ? 1 : n / 16 + 1)
		ok &= load(a, s1, cut) != 0;
	s1[9] ^= 1;				/* the name */
	ok &= load(a, s1, n) != 0;
	s1[9] ^= 1;
	s2 = saved(a, &n2);
	ok &= n == n2 && memcmp(s1, s2, n) == 0;
	verdict("a damaged state is refused and changes nothing", ok);
	free(s1);
	free(s2);
	pause_chip(a, false);
}

/* ---------------------------------------------------------------- random */

static uint64_t seed;

static uint64_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void
poke(struct bench *b)
{
	static const uint64_t good[] = {
		0, 1, 0x80, 0xff, 0xffff, 0x100000, 0xffffffff, ~0ull
	};
	const struct dev *dev = b->ctx.dev;
	unsigned range = (unsigned)(rnd() % NRANGE), size = 1u << rnd() % 4, i;
	uint64_t off, val, len;

	for (i = 0; i < NRANGE && b->claim[range].kind == RANGE_NONE; i++)
		range = (range + 1) % NRANGE;
	len = b->claim[range].len;
	off = len ? rnd() % len : 0;
	if (rnd() % 4)
		off &= ~(uint64_t)(size - 1);
	val = rnd() % 2 ? good[rnd() % 8] : rnd() >> rnd() % 64;
	switch (rnd() % 64) {
	case 0:
		off = rnd() >> rnd() % 64;
		range = (unsigned)(rnd() % 256);
		break;
	case 1:
		advance(b, (int64_t)(rnd() >> (24 + rnd() % 40)));
		return;
	case 2:
		if (dev->bell)
			dev->bell(&b->ctx, rnd());
		return;
	case 3: case 4: case 5:
		size = size == 8 ? 4 : size;
		if (dev->config && b->nfn)
			dev->config(&b->ctx, (unsigned)b->devfn[rnd() % b->nfn],
			    (unsigned)(rnd() % (rnd() % 4 ? 256 : 4096)) &
			    ~(size - 1), size, (uint32_t)val);
		return;
	case 6:
		if (rnd() % 64 == 0 && dev->reset)
			dev->reset(&b->ctx);
		return;
	}
	if (rnd() % 2) {
		if (dev->write)
			dev->write(&b->ctx, range, off, size,
			    val & ones(size));
	} else if (dev->read) {
		dev->read(&b->ctx, range, off, size);
	}
}

int
selftest(const struct dev *dev, char **argv)
{
	uint64_t n = 10000, i;
	struct bench *b;
	char *end;

	seed = 1;
	if (*argv && **argv >= '0' && **argv <= '9') {
		n = strtoull(*argv, &end, 0);
		if (*end == ':')
			seed = strtoull(end + 1, &end, 0);
		if (*end != '\0') {
			fprintf(stderr, "dev-%s: %s: not N[:SEED]\n", dev->name,
			    *argv);
			return 2;
		}
		argv++;
	}
	seed = seed * 0x9e3779b97f4a7c15ull + 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	vectors(dev, argv);
	b = bench_new(dev, argv);
	identity(b, "save, load, save after reset", argv);
	damaged(b);
	for (i = 0; i < n; i++)
		poke(b);
	printf("ok - %" PRIu64 " random accesses\n", n);
	identity(b, "save, load, save after random accesses", argv);
	pause_chip(b, true);
	pause_chip(b, true);
	pause_chip(b, false);
	verdict("stop twice, run", true);
	bench_free(b);
	return failed;
}
