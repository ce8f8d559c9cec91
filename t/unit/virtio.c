/* links: bus mem, img, switch, and dev's pci, virtio, disk, chario, field, nic,
 * virtio-* */
/*
 * virtio.c - a driver for the virtio chips: negotiates, sets up rings in guest
 * memory, sends requests and looks at what comes back, in a host made of plain
 * memory.  Then the same with every kind of broken chain, and with random ones.
 * virtio DIR [ROUNDS]; prints TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev/virtio.h"
#include "img/img.h"

extern const struct dev virtio_blk, virtio_rng, virtio_console, virtio_balloon,
    virtio_net;

static unsigned checks, failed;

static void
is_(int line, const char *what, unsigned long long got,
    unsigned long long want)
{
	checks++;
	if (got == want)
		return;
	failed++;
	printf("# line %d: %s is 0x%llx, not 0x%llx\n", line, what, got, want);
}
#define IS(a, b) is_(__LINE__, #a, (unsigned long long)(a), \
    (unsigned long long)(b))

/* ---------------------------------------------------------------- the host */

struct host {
	struct devctx	d;
	struct part	part;
	struct ram	ram;
	uint8_t		cfg[4096];
	uint64_t	bar[3];		/* by range */
	unsigned	line[IRQ_LINES];
	_Atomic unsigned msi[MSI_MAX];
	uint64_t	errors;
	int64_t		now, timer;
	void		(*fn)(struct devctx *);
};
static struct host *host;
static struct map blank;
static struct loop *loop;

void
dev_guest_error(struct devctx *d, const char *what, uint64_t n)
{
	host->errors++;
}

static int
h_range(struct devctx *d, unsigned range, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	if (range < 3)
		host->bar[range] = kind == RANGE_NONE ? 0 : start;
	return 0;
}

static int
h_line(struct devctx *d, unsigned line)
{
	return 3;
}

static void
h_irq(struct devctx *d, unsigned line, int source, int level)
{
	host->line[line] = (unsigned)level;
}

static void
h_msi(struct devctx *d, unsigned n, uint64_t addr, uint32_t data)
{
	IS(addr, 0xfee00000);
	IS(data, 0x40 + n);
	host->msi[n]++;
}

static int
h_pci(struct devctx *d, int devfn)
{
	d->devfn = devfn < 0 ? 0x18 : devfn;
	d->cfg = host->cfg;
	return d->devfn;
}

static int64_t
h_clock(struct devctx *d)
{
	return host->now;
}

static void
h_timer(struct devctx *d, unsigned n, int64_t ns, void (*fn)(struct devctx *))
{
	host->timer = ns;
	host->fn = fn;
}

static const struct dev_host ops = {
	.range = h_range, .line = h_line, .irq = h_irq, .msi = h_msi,
	.pci = h_pci, .clock = h_clock, .timer = h_timer,
};

static void
plug(const struct dev *dev, char **argv)
{
	char why[256] = "";

	host = calloc(1, sizeof *host);
	if (!host || ram_create(&host->ram, "virtio", 16 << 20))
		perror("memory"), exit(1);
	host->part.map = &blank;
	host->part.ram = host->ram;
	if (!loop)
		loop = loop_new();
	host->part.loop = loop;
	host->part.bus = -1;
	host->d = (struct devctx){ .dev = dev, .host = &ops, .name = "t",
		.ram = &host->ram, .devfn = -1, .loop = host->part.loop,
		.part = &host->part, .argv = argv,
		.st = calloc(1, dev->state_size),
		.opts = calloc(1, dev->opts_size + 1),
		.priv = calloc(1, dev->priv_size + 1) };
	if (opts_parse(dev->opts, argv, host->d.opts, why, sizeof why) ||
	    dev->init(&host->d, why, sizeof why)) {
		printf("Bail out! %s: %s\n", dev->name, why);
		exit(1);
	}
	dev->reset(&host->d);
	host->d.running = true;
	dev->run(&host->d);
}

static void
unplug(void)
{
	if (host->d.dev->quit)
		host->d.dev->quit(&host->d);
	ram_detach(&host->ram);
	free(host->d.st);
	free(host->d.opts);
	free(host->d.priv);
	free(host);
}

/* -------------------------------------------------------------- the driver */

#define QSIZE	32
#define QBASE(q) (0x10000u + (q) * 0x4000u)	/* desc, +1000 avail, +2000 used */
#define DATA	0x100000u
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

static struct { uint16_t avail, used, free; } drv[8];
static bool event_idx;

static uint8_t *
mem(uint64_t gpa)
{
	return host->ram.base + gpa;
}

static void
w(uint64_t off, unsigned size, uint64_t v)
{
	host->d.dev->write(&host->d, 1, off, size, v);
}

static uint64_t
r(uint64_t off, unsigned size)
{
	return host->d.dev->read(&host->d, 1, off, size);
}

static void
cfgw(unsigned off, unsigned size, uint32_t v)
{
	host->d.dev->config(&host->d, 0x18, off, size, v);
}

static unsigned
find_cap(uint8_t id)
{
	unsigned at = host->cfg[0x34];

	while (at && host->cfg[at] != id)
		at = host->cfg[at + 1];
	return at;
}

static void
queue(unsigned q)
{
	memset(mem(QBASE(q)), 0, 0x3000);
	memset(&drv[q], 0, sizeof drv[q]);
	w(0x16, 2, q);
	w(0x18, 2, QSIZE);
	w(0x1a, 2, q + 1);
	w(0x20, 4, QBASE(q));
	w(0x24, 4, 0);
	w(0x28, 8, QBASE(q) + 0x1000);
	w(0x30, 4, QBASE(q) + 0x2000);
	w(0x34, 4, 0);
	w(0x1c, 2, 1);
}

/* Initialisation as 3.1.1 has it. */
static void
start(uint64_t features, unsigned nq)
{
	unsigned i;

	cfgw(4, 2, 6);
	w(0x14, 1, 0);
	w(0x14, 1, 1);
	w(0x14, 1, 3);
	features |= 1ull << 32;
	event_idx = features >> 29 & 1;
	w(0x08, 4, 0);
	w(0x0c, 4, (uint32_t)features);
	w(0x08, 4, 1);
	w(0x0c, 4, (uint32_t)(features >> 32));
	w(0x14, 1, 11);
	IS(r(0x14, 1), 11);
	w(0x10, 2, 0);
	for (i = 0; i < nq; i++)
		queue(i);
	w(0x14, 1, 15);
	IS(r(0x14, 1), 15);
}

static void
desc(uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
    unsigned next)
{
	uint8_t *p = mem(table + i * 16);

	cfg64(p, addr);
	cfg32(p + 8, len);
	cfg16(p + 12, (uint16_t)flags);
	cfg16(p + 14, (uint16_t)next);
}

static void
avail(unsigned q, unsigned head)
{
	uint8_t *a = mem(QBASE(q) + 0x1000);

	cfg16(a + 4 + drv[q].avail++ % QSIZE * 2, (uint16_t)head);
	cfg16(a + 2, drv[q].avail);
}

static uint16_t
get16(uint64_t gpa)
{
	return (uint16_t)(mem(gpa)[0] | mem(gpa)[1] << 8);
}

static uint32_t
get32(uint64_t gpa)
{
	return get16(gpa) | (uint32_t)get16(gpa + 2) << 16;
}

static void
kick(unsigned q)
{
	host->d.dev->bell(&host->d, 1ull << q);
}

/* Let everything end, without waiting for a clock. */
static void
settle(void)
{
	host->d.running = false;
	host->d.dev->stop(&host->d);
	host->d.running = true;
	host->d.dev->run(&host->d);
	host->d.running = false;
	host->d.dev->stop(&host->d);
	host->d.running = true;
}

/* Take one used element; false: there is none. */
static bool
used(unsigned q, unsigned *head, uint32_t *len)
{
	uint64_t u = QBASE(q) + 0x2000;

	if (get16(u + 2) == drv[q].used)
		return false;
	*head = get32(u + 4 + drv[q].used % QSIZE * 8);
	*len = get32(u + 4 + drv[q].used % QSIZE * 8 + 4);
	drv[q].used++;
	if (event_idx)
		cfg16(mem(QBASE(q) + 0x1000 + 4 + QSIZE * 2), drv[q].used);
	return true;
}

/* ------------------------------------------------------------------- block */

/* A request of header, one data buffer of `len` and status; its status. */
static unsigned
request(unsigned type, uint64_t sector, uint32_t len, bool in, bool indirect,
    uint32_t *wrote)
{
	uint64_t table = indirect ? 0x80000 : QBASE(0), h = 0x90000;
	unsigned head, n = 0;
	uint32_t got = 0;

	cfg32(mem(h), type);
	cfg32(mem(h + 4), 0);
	cfg64(mem(h + 8), sector);
	*mem(h + 16) = 0xee;
	desc(table, n, h, 16, NEXT, n + 1), n++;
	if (len)
		desc(table, n, DATA, len, NEXT | (in ? WRITE : 0), n + 1), n++;
	desc(table, n, h + 16, 1, WRITE, 0), n++;
	if (indirect)
		desc(QBASE(0), 0, table, n * 16, INDIRECT, 0);
	avail(0, 0);
	kick(0);
	settle();
	head = 99;
	if (!used(0, &head, &got))
		return 0x100;
	IS(head, 0);
	if (wrote)
		*wrote = got;
	return *mem(h + 16);
}

static void
block_io(bool indirect)
{
	unsigned i;
	uint32_t n;

	for (i = 0; i < 8192; i++)
		mem(DATA)[i] = (uint8_t)(i * 7 + 3);
	IS(request(1, 5, 8192, false, indirect, &n), 0);
	IS(n, 1);
	memset(mem(DATA), 0, 8192);
	IS(request(0, 5, 8192, true, indirect, &n), 0);
	IS(n, 8193);
	IS(mem(DATA)[0], 3);
	IS(mem(DATA)[8191], (uint8_t)(8191 * 7 + 3));
	IS(request(0, 6, 512, true, indirect, &n), 0);
	IS(mem(DATA)[0], (uint8_t)(512 * 7 + 3));
	IS(request(4, 0, 0, false, indirect, &n), 0);
	IS(request(8, 0, 20, true, indirect, &n), 0);
	IS(memcmp(mem(DATA), "serial-0123456789abc", 20), 0);
	/* the last sector, one past it, far past it, wrapping */
	IS(request(0, 2047, 512, true, indirect, &n), 0);
	IS(request(0, 2047, 1024, true, indirect, &n), 1);
	IS(request(0, 2048, 512, true, indirect, &n), 1);
	IS(request(0, ~0ull, 512, true, indirect, &n), 1);
	IS(request(0, 1ull << 55, 512, true, indirect, &n), 1);
	IS(request(1, 2048, 512, false, indirect, &n), 1);
	IS(request(0, 0, 100, true, indirect, &n), 1);
	IS(request(77, 0, 512, true, indirect, &n), 2);
	/* write zeroes, discard: sectors 5 to 8 */
	cfg64(mem(DATA), 5);
	cfg32(mem(DATA + 8), 4);
	cfg32(mem(DATA + 12), 0);
	IS(request(13, 0, 16, false, indirect, &n), 0);
	memset(mem(DATA), 0x55, 4096);
	IS(request(0, 5, 4096, true, indirect, &n), 0);
	IS(mem(DATA)[0], 0);
	IS(mem(DATA)[2047], 0);
	IS(mem(DATA)[2048], (uint8_t)(2048 * 7 + 3));
	cfg64(mem(DATA), 9);
	cfg32(mem(DATA + 8), 1);
	cfg32(mem(DATA + 12), 1);		/* discard has no flags */
	IS(request(11, 0, 16, false, indirect, &n), 2);
	cfg32(mem(DATA + 12), 0);
	IS(request(11, 0, 16, false, indirect, &n), 0);
	cfg64(mem(DATA), 2040);
	cfg32(mem(DATA + 8), 9);
	IS(request(11, 0, 16, false, indirect, &n), 1);
	IS(request(13, 0, 16, false, indirect, &n), 1);
	IS(request(11, 0, 15, false, indirect, &n), 1);
}

#define BLK_FEATURES (1ull << 9 | 1ull << 11 | 1ull << 13 | 1ull << 14)
#define F_RINGS (1ull << 28 | 1ull << 29)

/* Chains that break the rules: the device asks for a reset, and works again
 * after it. */
static void
broken(void)
{
	unsigned i;

	for (i = 0; i < 12; i++) {
		start(BLK_FEATURES | (i & 1 ? F_RINGS : 1ull << 28), 1);
		desc(QBASE(0), 0, 0x90000, 16, NEXT, 1);
		desc(QBASE(0), 1, DATA, 512, NEXT | WRITE, 2);
		desc(QBASE(0), 2, 0x90010, 1, WRITE, 0);
		switch (i) {
		case 0:				/* a loop */
			desc(QBASE(0), 1, DATA, 512, NEXT | WRITE, 1);
			break;
		case 1:				/* next out of the table */
			desc(QBASE(0), 0, 0x90000, 16, NEXT, QSIZE);
			break;
		case 2:				/* memory that is none */
			desc(QBASE(0), 1, 1 << 24, 512, NEXT | WRITE, 2);
			break;
		case 3:				/* runs out of memory */
			desc(QBASE(0), 1, (1 << 24) - 100, 512, NEXT | WRITE,
			    2);
			break;
		case 4:
			desc(QBASE(0), 1, ~0ull - 100, 512, NEXT | WRITE, 2);
			break;
		case 5:				/* readable behind writable */
			desc(QBASE(0), 2, 0x90010, 1, 0, 0);
			break;
		case 6:				/* no status */
			desc(QBASE(0), 0, 0x90000, 16, 0, 0);
			break;
		case 7:				/* half a header */
			desc(QBASE(0), 0, 0x90000, 8, NEXT, 2);
			break;
		case 8:				/* indirect in indirect */
			desc(QBASE(0), 0, QBASE(0) + 16, 16, INDIRECT, 0);
			desc(QBASE(0), 1, QBASE(0), 16, INDIRECT, 0);
			break;
		case 9:				/* indirect and next */
			desc(QBASE(0), 0, QBASE(0) + 16, 16, INDIRECT | NEXT,
			    1);
			break;
		case 10:			/* table of no whole entries */
			desc(QBASE(0), 0, QBASE(0) + 16, 20, INDIRECT, 0);
			break;
		case 11:			/* head out of the table */
			break;
		}
		avail(0, i == 11 ? QSIZE : 0);
		kick(0);
		settle();
		IS(r(0x14, 1), 15 | 0x40);
		kick(0);
	}
	start(BLK_FEATURES | F_RINGS, 1);	/* available index too far */
	cfg16(mem(QBASE(0) + 0x1000 + 2), QSIZE + 1);
	kick(0);
	IS(r(0x14, 1), 15 | 0x40);
	start(BLK_FEATURES | F_RINGS, 1);
	IS(request(0, 0, 512, true, true, NULL), 0);
}

static void
interrupts(void)
{
	unsigned cap = find_cap(0x11), line = IRQ_PIRQ + 3, i, head;
	uint32_t n;

	/* INTx and ISR: slot 3, INTA is PIRQD */
	start(BLK_FEATURES, 1);
	IS(host->line[line], 0);
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->line[line], 1);
	IS(host->cfg[6] & 8, 8);
	cfgw(4, 2, 0x406);			/* interrupt disable */
	IS(host->line[line], 0);
	cfgw(4, 2, 6);
	IS(host->line[line], 1);
	IS(r(0x100, 1), 1);
	IS(r(0x100, 1), 0);
	IS(host->line[line], 0);
	cfg16(mem(QBASE(0) + 0x1000), 1);	/* none wanted */
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->line[line], 0);
	IS(r(0x100, 1), 0);

	/* MSI-X: masked first, pending, then unmasked */
	for (i = 0; i < 2; i++) {
		host->d.dev->write(&host->d, 0, i * 16, 4, 0xfee00000);
		host->d.dev->write(&host->d, 0, i * 16 + 8, 4, 0x40 + i);
	}
	cfgw(cap + 2, 2, 0x8000);
	start(BLK_FEATURES | F_RINGS, 1);
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->msi[1], 0);
	IS(host->d.dev->read(&host->d, 0, 0x800, 8), 2);
	host->d.dev->write(&host->d, 0, 16 + 12, 4, 0);
	IS(host->msi[1], 1);
	IS(host->d.dev->read(&host->d, 0, 0x800, 8), 0);
	cfgw(cap + 2, 2, 0xc000);		/* function mask */
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->msi[1], 1);
	cfgw(cap + 2, 2, 0x8000);
	IS(host->msi[1], 2);
	IS(host->line[line], 0);

	/* event index: an interrupt for the third completion only */
	cfg16(mem(QBASE(0) + 0x1000 + 4 + QSIZE * 2),
	    (uint16_t)(drv[0].used + 2));
	event_idx = false;		/* `used` leaves it alone */
	for (i = 0; i < 3; i++) {
		IS(host->msi[1], 2);
		IS(request(0, 0, 512, true, false, NULL), 0);
	}
	IS(host->msi[1], 3);
	cfgw(cap + 2, 2, 0);

	/* many at once, one interrupt; the device works as they come */
	start(BLK_FEATURES, 1);
	cfg32(mem(0x90000), 0);
	cfg64(mem(0x90008), 0);
	for (i = 0; i + 2 < QSIZE; i += 3) {
		desc(QBASE(0), i, 0x90000, 16, NEXT, i + 1);
		desc(QBASE(0), i + 1, DATA + i * 512, 512, NEXT | WRITE,
		    i + 2);
		desc(QBASE(0), i + 2, 0x90010 + i, 1, WRITE, 0);
		avail(0, i);
	}
	kick(0);
	settle();
	for (i = 0; used(0, &head, &n); i++)
		IS(n, 513);
	IS(i, QSIZE / 3);
}

/* PCI: capabilities lie in BARs, sizing, relocation, access by the window. */
static void
configuration(void)
{
	unsigned at, types = 0, w5 = 0;

	IS(host->bar[0], 0xfd180000);
	IS(host->bar[1], 0xfd181000);
	IS(host->bar[2], 0xfd182000);
	for (at = host->cfg[0x34]; at; at = host->cfg[at + 1])
		if (host->cfg[at] == 9) {
			types |= 1u << host->cfg[at + 3];
			if (host->cfg[at + 3] == 5)
				w5 = at;
		}
	IS(types, 0x3e);
	IS(host->cfg[6] & 0x10, 0x10);
	cfgw(4, 2, 0);
	IS(host->bar[1], 0);
	cfgw(0x18, 4, 0xffffffff);
	IS(host->cfg[0x18], 0);
	IS(host->cfg[0x19], 0xf0);
	cfgw(0x18, 4, 0xe8001000);
	cfgw(4, 2, 6);
	IS(host->bar[1], 0xe8001000);
	cfgw(0x18, 4, 0xfd181000);
	IS(host->bar[1], 0xfd181000);
	w(0x16, 2, 0);
	cfgw(w5 + 4, 1, 2);
	cfgw(w5 + 12, 4, 2);
	cfgw(w5 + 8, 4, 0x12);			/* num_queues */
	IS(host->cfg[w5 + 16], 1);
	cfgw(w5 + 8, 4, 0x16);			/* queue_select */
	cfgw(w5 + 16, 4, 5);
	IS(r(0x16, 2), 5);
	cfgw(w5 + 8, 4, 0xfffffffe);
	cfgw(w5 + 16, 4, 5);
	cfgw(0, 4, 0xffffffff);
	IS(host->cfg[0], 0xf4);
}

static uint64_t seed = 88172645463325252ull;

static uint64_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void (*between)(void);		/* rounds of fuzz */

/* Random chains out of mostly sensible pieces, on every queue. */
static void
fuzz(unsigned rounds, uint64_t features, unsigned nq)
{
	unsigned i, n, q;
	uint64_t addr;
	uint32_t len;

	for (i = 0; i < rounds; i++) {
		if (i % 64 == 0 || r(0x14, 1) & 0x40)
			start(features & (rnd() | 1ull << 32), nq);
		q = (unsigned)(rnd() % nq);
		for (n = 0; n < QSIZE; n++) {
			addr = rnd() % 8 ? 0x90000 + rnd() % 0x200000 :
			    rnd() >> rnd() % 64;
			len = rnd() % 8 ? (uint32_t)(rnd() % 9000) :
			    (uint32_t)(rnd() >> rnd() % 64);
			if (rnd() % 4 == 0)
				len = len % 32 * 16;
			desc(QBASE(q), n, addr, len, rnd() % 8 ? (n > QSIZE / 2 ?
			    2 : 0) | (rnd() % 4 != 0) : rnd() % 8,
			    rnd() % 16 ? n + 1 : (unsigned)(rnd() % 40));
		}
		for (n = 0; n < 64; n += 4)
			cfg32(mem(0x90000 + rnd() % 0x200000),
			    (uint32_t)(rnd() % 16));
		for (n = (unsigned)(rnd() % 8); n; n--)
			avail(q, (unsigned)(rnd() % (QSIZE + (rnd() % 16 ==
			    0))));
		kick(q);
		if (between)
			between();
		if (rnd() % 16 == 0)
			settle();
		if (rnd() % 256 == 0)
			host->d.dev->reset(&host->d);
	}
	settle();
}

static void
test_block(const char *dir, unsigned rounds, const char *format)
{
	char file[600], opt[640], fmt[40];
	char *argv[] = { opt, "serial=serial-0123456789abcdef", NULL, fmt,
		NULL };
	static const char *const cache[] = { "cache=writeback",
		"cache=writethrough", "cache=unsafe" };
	struct opts o = { 0 };
	struct imgerr e;
	unsigned i;

	snprintf(fmt, sizeof fmt, "format=%s", format);
	snprintf(file, sizeof file, "%s/disk", dir);
	snprintf(opt, sizeof opt, "file=%s", file);
	for (i = 0; i < 3; i++) {
		opts_set(&o, "size", "1M");
		if (img_create(format, file, &o, &e))
			fprintf(stderr, "%s\n", e.s), exit(1);
		opts_free(&o);
		argv[2] = (char *)cache[i];
		plug(&virtio_blk, argv);
		configuration();
		start(BLK_FEATURES, 1);
		IS(r(0x200, 8), 2048);
		block_io(false);
		start(BLK_FEATURES | F_RINGS, 1);
		block_io(true);
		broken();
		interrupts();
		fuzz(rounds, BLK_FEATURES | F_RINGS | 1ull << 32, 1);
		unplug();
	}
	argv[2] = "readonly=on";
	plug(&virtio_blk, argv);
	start(F_RINGS, 1);
	w(0x00, 4, 0);
	IS(r(0x04, 4) >> 5 & 1, 1);		/* RO */
	IS(r(0x04, 4) >> 13 & 3, 0);		/* no discard, no zeroing */
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(request(1, 0, 512, false, false, NULL), 1);
	unplug();
}

static void
test_rng(unsigned rounds)
{
	char *argv[] = { "max-bytes=100", "period=1000", NULL };
	unsigned head, i, sum = 0;
	uint32_t len = 0;

	plug(&virtio_rng, argv);
	start(F_RINGS, 1);
	memset(mem(DATA), 0, 256);
	desc(QBASE(0), 0, DATA, 64, WRITE, 0);
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), true);
	IS(len, 64);
	for (i = 0; i < 64; i++)
		sum += mem(DATA)[i];
	IS(sum > 0, true);
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), true);
	IS(len, 36);				/* the rest of this period */
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), false);
	IS(host->timer, 1000000000);
	host->fn(&host->d);
	IS(used(0, &head, &len), true);
	IS(len, 64);
	fuzz(rounds, F_RINGS | 1ull << 32, 1);
	unplug();
}

static void
test_balloon(unsigned rounds)
{
	char *argv[] = { NULL };
	char *ask1[] = { "balloon", "12", NULL }, *ask2[] = { "stats", NULL };
	char text[512] = "";
	unsigned head, i;
	uint32_t len;
	FILE *f;

	plug(&virtio_balloon, argv);
	start(0x33 | F_RINGS, 4);
	/* give pages 0x300 to 0x303 and 0x310, with one that is none */
	memset(mem(0x300000), 0x77, 0x11000);
	for (i = 0; i < 4; i++)
		cfg32(mem(DATA + i * 4), 0x300 + i);
	cfg32(mem(DATA + 16), 0xfffffff);
	cfg32(mem(DATA + 20), 0x310);
	desc(QBASE(0), 0, DATA, 24, 0, 0);
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), true);
	IS(*mem(0x300000), 0);
	IS(*mem(0x303fff), 0);
	IS(*mem(0x304000), 0x77);
	IS(*mem(0x30ffff), 0x77);
	IS(*mem(0x310000), 0);
	/* report 0x304 to 0x306, not whole at both ends */
	desc(QBASE(3), 0, 0x303800, 0x2900, WRITE, 0);
	avail(3, 0);
	kick(3);
	IS(used(3, &head, &len), true);
	IS(*mem(0x304000), 0);
	IS(*mem(0x305fff), 0);
	IS(*mem(0x306000), 0x77);
	/* statistics: kept until asked for */
	memset(mem(DATA), 0, 20);
	cfg16(mem(DATA), 4);
	cfg64(mem(DATA + 2), 123456);
	cfg16(mem(DATA + 10), 99);
	desc(QBASE(2), 0, DATA, 20, 0, 0);
	avail(2, 0);
	kick(2);
	IS(used(2, &head, &len), false);
	f = fmemopen(text, sizeof text, "w");
	IS(virtio_balloon.ask(&host->d, ask2, f), 0);
	fclose(f);
	IS(!!strstr(text, "free-memory=123456\n"), true);
	IS(used(2, &head, &len), true);
	f = fmemopen(text, sizeof text, "w");
	IS(virtio_balloon.ask(&host->d, ask1, f), 0);
	fclose(f);
	IS(r(0x200, 4), (4 << 20) / 4096);
	IS(r(0x100, 1), 3);			/* configuration changed */
	IS(strcmp(text, "actual=16\n"), 0);
	fuzz(rounds, 0x33 | F_RINGS | 1ull << 32, 4);
	unplug();
}

static void
test_console(const char *dir, unsigned rounds)
{
	char file[600], opt[640], got[64] = "";
	char *argv[] = { opt, NULL };
	unsigned head;
	uint32_t len;
	int fd;

	snprintf(file, sizeof file, "%s/console", dir);
	snprintf(opt, sizeof opt, "chardev=file:%s", file);
	plug(&virtio_console, argv);
	start(F_RINGS, 2);
	memcpy(mem(DATA), "hello, world\n", 13);
	desc(QBASE(1), 0, DATA, 7, NEXT, 1);
	desc(QBASE(1), 1, DATA + 7, 6, 0, 0);
	avail(1, 0);
	kick(1);
	IS(used(1, &head, &len), true);
	w(0x208, 4, '!');
	fd = open(file, O_RDONLY);
	IS(read(fd, got, sizeof got), 14);
	IS(strcmp(got, "hello, world\n!"), 0);
	close(fd);
	unplug();
	argv[0] = NULL;
	plug(&virtio_console, argv);
	fuzz(rounds, F_RINGS | 1ull << 32, 2);
	unplug();
}

/* ----------------------------------------------------------------- network */

#define NET_FEATURES (1ull << 5 | 1ull << 16 | 1ull << 17 | 1ull << 18 | \
    1ull << 19 | 1ull << 20 | 1ull << 23)
#define F_MRG (1ull << 15)
#define F_MERGE (1ull << 1 | 1ull << 7 | 1ull << 8)
#define F_OFFLOAD (1ull << 0 | 1ull << 11 | 1ull << 12 | 1ull << 13)

static int cable;			/* our end */

static void
arrive(const void *frame, size_t len)
{
	IS(send(cable, frame, len, MSG_DONTWAIT), len);
	loop_once(loop, 0, NULL, NULL);
}

/* What the card sent; 0: nothing. */
static unsigned
sent(uint8_t *buf, size_t size)
{
	ssize_t n = recv(cable, buf, size, MSG_DONTWAIT);

	return n < 0 ? 0 : (unsigned)n;
}

/* Receive buffers i.. of len bytes each, at DATA + i * 4096. */
static void
buffers(unsigned i, unsigned n, uint32_t len)
{
	for (; n--; i++) {
		desc(QBASE(0), i, DATA + i * 4096, len, WRITE, 0);
		avail(0, i);
	}
	kick(0);
	loop_once(loop, 0, NULL, NULL);
}

/* A command on the control queue; its answer. */
static unsigned
control(unsigned class, unsigned cmd, const void *data, uint32_t len)
{
	unsigned head;
	uint32_t n;

	mem(0x90000)[0] = (uint8_t)class;
	mem(0x90000)[1] = (uint8_t)cmd;
	memcpy(mem(0x90002), data, len);
	*mem(0x91000) = 0xee;
	desc(QBASE(2), 0, 0x90000, 2, NEXT, 1);
	desc(QBASE(2), 1, 0x90002, len, NEXT, 2);
	desc(QBASE(2), 2, 0x91000, 1, WRITE, 0);
	avail(2, 0);
	kick(2);
	IS(used(2, &head, &n), true);
	return *mem(0x91000);
}

static void
net_transmit(void)
{
	uint8_t got[4096];
	unsigned head, i, k;
	uint32_t n;

	for (i = 0; i < 200; i++)
		mem(DATA)[i] = (uint8_t)i;
	/* in one piece, header apart, and in ten */
	for (k = 0; k < 3; k++) {
		if (k == 0) {
			desc(QBASE(1), 0, DATA, 112, 0, 0);
		} else if (k == 1) {
			desc(QBASE(1), 0, DATA, 12, NEXT, 1);
			desc(QBASE(1), 1, DATA + 12, 100, 0, 0);
		} else {
			for (i = 0; i < 14; i++)
				desc(QBASE(1), i, DATA + i * 8, 8,
				    i < 13 ? NEXT : 0, i + 1);
		}
		avail(1, 0);
		kick(1);
		IS(used(1, &head, &n), true);
		IS(sent(got, sizeof got), 100);
		IS(memcmp(got, mem(DATA + 12), 100), 0);
	}
	desc(QBASE(1), 0, DATA, 25, 0, 0);	/* half an Ethernet header */
	avail(1, 0);
	desc(QBASE(1), 1, 0x200000, 70000, 0, 0);	/* too long */
	avail(1, 1);
	kick(1);
	IS(used(1, &head, &n), true);
	IS(used(1, &head, &n), true);
	IS(sent(got, sizeof got), 0);
	desc(QBASE(1), 0, DATA, 11, 0, 0);
	avail(1, 0);
	kick(1);
	IS(r(0x14, 1), 15 | 0x40);
	IS(sent(got, sizeof got), 0);
}

static unsigned
sum16(const uint8_t *p, unsigned n)
{
	unsigned sum = 0, i;

	for (i = 0; i < n; i++)
		sum += i % 2 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A TCP packet with 3000 bytes of data, to be cut at 1400; then lies. */
static void
net_offload(bool v6)
{
	uint8_t *h = mem(DATA), *f = h + 12, got[4096], ps[40];
	unsigned ip = v6 ? 40 : 20, tu = 14 + ip, hdr = tu + 20, len = hdr + 3000;
	unsigned i, n, head, data, al = v6 ? 32 : 8;
	uint32_t l;

	memset(h, 0, 12 + hdr);
	for (i = hdr; i < len; i++)
		f[i] = (uint8_t)rnd();
	h[0] = 1;				/* NEEDS_CSUM */
	h[1] = v6 ? 4 : 1;
	cfg16(h + 4, 1400);
	cfg16(h + 6, (uint16_t)tu);
	cfg16(h + 8, 16);
	f[12] = v6 ? 0x86 : 8;
	f[13] = v6 ? 0xdd : 0;
	f[14] = v6 ? 0x60 : 0x45;
	f[v6 ? 20 : 23] = 6;
	for (i = 0; i < al; i++)
		f[(v6 ? 22 : 26) + i] = (uint8_t)(i * 37 + 1);
	f[tu + 7] = 100;			/* sequence number */
	f[tu + 12] = 0x50;
	f[tu + 13] = 0x18;			/* ACK, PSH */
	desc(QBASE(1), 0, DATA, 12 + len, 0, 0);
	avail(1, 0);
	kick(1);
	IS(used(1, &head, &l), true);
	for (i = 0; i < 3; i++) {
		n = sent(got, sizeof got);
		data = i < 2 ? 1400 : 200;
		IS(n, hdr + data);
		IS(memcmp(got + hdr, f + hdr + i * 1400, data), 0);
		IS(got[tu + 6] << 8 | got[tu + 7], 100 + i * 1400);
		IS(got[tu + 13], i < 2 ? 0x10 : 0x18);
		if (v6) {
			IS(got[18] << 8 | got[19], 20 + data);
		} else {
			IS(got[16] << 8 | got[17], 40 + data);
			IS(got[19], i);		/* identification */
			IS(sum16(got + 14, 20), 0xffff);
		}
		memset(ps, 0, sizeof ps);
		memcpy(ps, got + (v6 ? 22 : 26), al);
		ps[al + 1] = 6;
		ps[al + 2] = (uint8_t)((20 + data) >> 8);
		ps[al + 3] = (uint8_t)(20 + data);
		IS((sum16(ps, al + 4) + sum16(got + tu, n - tu)) % 0xffff, 0);
	}
	IS(sent(got, sizeof got), 0);
	for (i = 0; i < 7; i++) {		/* dropped, and no more */
		h[0] = i != 0;
		h[1] = i == 1 ? 3 : v6 ? 4 : 1;
		cfg16(h + 4, i == 2 ? 0 : 1400);
		cfg16(h + 6, (uint16_t)(i == 3 ? len : i == 4 ? 20 : tu));
		f[tu + 12] = i == 5 ? 0xf0 : 0x50;
		f[14] = i == 6 ? 0x77 : v6 ? 0x60 : 0x45;
		desc(QBASE(1), 0, DATA, 12 + (i == 5 ? hdr + 10 : len), 0, 0);
		avail(1, 0);
		kick(1);
		IS(used(1, &head, &l), true);
		IS(sent(got, sizeof got), 0);
	}
	f[14] = v6 ? 0x60 : 0x45;
	f[tu + 12] = 0x50;
	for (i = 0; i < 3; i++) {		/* a checksum in or out of it */
		h[0] = 1;
		h[1] = 0;
		cfg16(h + 6, i == 2 ? 0xffff : (uint16_t)tu);
		cfg16(h + 8, i == 1 ? 0xffff : 16);
		f[tu + 16] = f[tu + 17] = 0;
		desc(QBASE(1), 0, DATA, 12 + hdr + 100, 0, 0);
		avail(1, 0);
		kick(1);
		IS(used(1, &head, &l), true);
		IS(sent(got, sizeof got), hdr + 100);
		IS(sum16(got + tu, 120), i ? sum16(f + tu, 120) : 0xffff);
	}
}

static void
net_receive(bool merge)
{
	uint8_t f[1500] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	unsigned head, i;
	uint32_t n = 0;

	for (i = 12; i < sizeof f; i++)
		f[i] = (uint8_t)(i * 3);
	/* no buffer: it waits, and comes in order */
	arrive(f, 1000);
	arrive(f, 60);
	IS(used(0, &head, &n), false);
	buffers(0, 1, 2048);
	IS(used(0, &head, &n), true);
	IS(n, 1012);
	IS(get16(DATA + 10), 1);
	IS(memcmp(mem(DATA + 12), f, 1000), 0);
	IS(used(0, &head, &n), false);
	buffers(1, 1, 2048);
	IS(used(0, &head, &n), true);
	IS(head, 1);
	IS(n, 72);
	/* a buffer that holds a part of the frame */
	buffers(2, 3, 100);
	arrive(f, 300);
	if (merge) {
		IS(used(0, &head, &n), false);
		buffers(5, 1, 100);
		for (i = 0; i < 3; i++) {
			IS(used(0, &head, &n), true);
			IS(head, i + 2);
			IS(n, 100);
		}
		IS(get16(DATA + 2 * 4096 + 10), 4);
		IS(memcmp(mem(DATA + 3 * 4096), f + 88, 100), 0);
		IS(used(0, &head, &n), true);
		IS(n, 12);
	} else {				/* lost; the buffer is not */
		IS(used(0, &head, &n), false);
		arrive(f, 88);
		IS(used(0, &head, &n), true);
		IS(n, 100);
	}
	start(NET_FEATURES | (merge ? F_MRG : 0), 3);
	buffers(0, 1, 11);
	arrive(f, 60);
	IS(r(0x14, 1), 15 | 0x40);
}

/* A TCP segment of n bytes from `seq` on arrives, but is not looked at yet. */
static void
segment(bool v6, uint32_t seq, unsigned n, unsigned flags, bool broken_sum)
{
	uint8_t f[1600] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 }, ps[40] = { 0 };
	unsigned tu = v6 ? 54 : 34, i, al = v6 ? 32 : 8, sum;

	f[12] = v6 ? 0x86 : 8;
	f[13] = v6 ? 0xdd : 0;
	f[14] = v6 ? 0x60 : 0x45;
	f[v6 ? 20 : 23] = 6;
	f[v6 ? 18 : 16] = (uint8_t)((n + (v6 ? 20 : 40)) >> 8);
	f[v6 ? 19 : 17] = (uint8_t)(n + (v6 ? 20 : 40));
	for (i = 0; i < al; i++)
		f[(v6 ? 22 : 26) + i] = (uint8_t)(i * 37 + 1);
	if (!v6) {
		sum = ~sum16(f + 14, 20);
		f[24] = (uint8_t)(sum >> 8);
		f[25] = (uint8_t)sum;
	}
	for (i = 0; i < 4; i++)
		f[tu + 4 + i] = (uint8_t)(seq >> (24 - 8 * i));
	f[tu + 12] = 0x50;
	f[tu + 13] = (uint8_t)flags;
	for (i = 0; i < n; i++)
		f[tu + 20 + i] = (uint8_t)((seq + i) * 7 >> 3);
	memcpy(ps, f + (v6 ? 22 : 26), al);
	ps[al + 1] = 6;
	ps[al + 2] = (uint8_t)((20 + n) >> 8);
	ps[al + 3] = (uint8_t)(20 + n);
	sum = sum16(ps, al + 4) + sum16(f + tu, 20 + n);
	sum = ~((sum & 0xffff) + (sum >> 16)) + broken_sum;
	f[tu + 16] = (uint8_t)(sum >> 8);
	f[tu + 17] = (uint8_t)sum;
	IS(send(cable, f, tu + 20 + n, MSG_DONTWAIT), tu + 20 + n);
}

/* What came in: bytes of data, segment size (0: one frame), flags. */
static void
merged(bool v6, unsigned data, unsigned mss, unsigned flags, uint32_t seq)
{
	unsigned head, i, tu = v6 ? 54 : 34, bad = 0;
	uint8_t *h, *f;
	uint32_t n = 0;

	IS(used(0, &head, &n), true);
	h = mem(DATA + head * 8192);
	f = h + 12;
	IS(n, 12 + tu + 20 + data);
	IS(h[0], flags);
	IS(h[1], mss ? (v6 ? 4 : 1) : 0);
	IS(h[4] | h[5] << 8, mss);
	for (i = 0; i < data; i++)
		bad += f[tu + 20 + i] != (uint8_t)((seq + i) * 7 >> 3);
	IS(bad, 0);
	if (mss) {
		IS(h[6] | h[7] << 8, tu);
		IS(h[8], 16);
		IS(f[v6 ? 18 : 16] << 8 | f[v6 ? 19 : 17],
		    data + 20 + (v6 ? 0 : 20));
		IS(v6 ? 0xffff : sum16(f + 14, 20), 0xffff);
	}
}

static void
net_merge(bool v6)
{
	unsigned i;

	for (i = 0; i < 20; i++) {
		desc(QBASE(0), i, DATA + i * 8192, 8192, WRITE, 0);
		avail(0, i);
	}
	kick(0);
	for (i = 0; i < 3; i++)			/* three, the last one short */
		segment(v6, 1000 + i * 1400, i < 2 ? 1400 : 30, 0x10, false);
	segment(v6, 3830, 100, 0x10, false);	/* after a short one */
	segment(v6, 3930, 100, 0x18, false);	/* PSH ends it */
	segment(v6, 4030, 100, 0x10, false);
	segment(v6, 9000, 100, 0x10, false);	/* a gap */
	segment(v6, 9100, 100, 0x11, false);	/* FIN stays alone */
	segment(v6, 9200, 100, 0x10, true);
	loop_once(loop, 0, NULL, NULL);
	merged(v6, 2830, 1400, 1, 1000);
	merged(v6, 200, 100, 1, 3830);
	merged(v6, 100, 0, 2, 4030);
	merged(v6, 100, 0, 2, 9000);
	merged(v6, 100, 0, 2, 9100);
	merged(v6, 100, 0, 0, 9200);
}

/* Does a frame to this address come through? */
static bool
passes(unsigned a0, unsigned a5, unsigned vlan)
{
	uint8_t f[64] = { (uint8_t)a0, 0x54, 0, 0x12, 0x34, (uint8_t)a5 };
	unsigned head;
	uint32_t n;

	if (a0 == 255)
		memset(f, 255, 6);
	if (vlan) {
		f[12] = 0x81;
		f[14] = (uint8_t)(vlan >> 8);
		f[15] = (uint8_t)vlan;
	}
	if (get16(QBASE(0) + 0x1002) == drv[0].used)
		buffers(0, 1, 2048);
	arrive(f, sizeof f);
	return used(0, &head, &n);
}

static void
net_filter(void)
{
	static const uint8_t macs[] = { 1, 0, 0, 0, 0x52, 0x54, 0, 0x12, 0x34, 9,
		1, 0, 0, 0, 0x33, 0x54, 0, 0x12, 0x34, 7 };
	uint8_t many[2 + 8 + 100 * 6] = { 100 };

	IS(passes(0x52, 0x99, 0), true);	/* promiscuous at first */
	IS(control(0, 0, "\0", 1), 0);
	IS(passes(0x52, 0x99, 0), false);
	IS(passes(0x52, 0x56, 0), true);
	IS(passes(255, 0, 0), true);
	IS(control(0, 5, "\1", 1), 0);		/* no broadcast */
	IS(passes(255, 0, 0), false);
	IS(passes(0x33, 7, 0), false);
	IS(control(1, 0, macs, sizeof macs), 0);
	IS(passes(0x33, 7, 0), true);
	IS(passes(0x52, 9, 0), true);
	IS(passes(0x33, 8, 0), false);
	IS(control(1, 0, macs, sizeof macs - 1), 1);	/* cut off */
	IS(passes(0x33, 7, 0), true);		/* and without effect */
	IS(control(1, 0, "\xff\xff\xff\xff\0\0\0\0", 8), 1);
	IS(control(1, 0, many, 4 + 600 + 4), 0);	/* table too small: all */
	IS(passes(0x52, 0x77, 0), true);
	IS(control(1, 0, "\0\0\0\0\0\0\0\0", 8), 0);
	IS(passes(0x52, 0x77, 0), false);
	IS(control(0, 1, "\1", 1), 0);		/* all multicast */
	IS(passes(0x33, 8, 0), true);
	IS(passes(0x52, 0x56, 5), false);
	IS(control(2, 0, "\5\0", 2), 0);
	IS(passes(0x52, 0x56, 5), true);
	IS(control(2, 1, "\5\0", 2), 0);
	IS(passes(0x52, 0x56, 5), false);
	IS(control(2, 0, "\0\x10", 2), 1);	/* no such VLAN */
	IS(control(1, 1, "\x52\x54\0\x12\x34\x77", 6), 0);
	IS(passes(0x52, 0x77, 0), true);
	IS(r(0x204, 2), 0x7734);
	IS(control(4, 0, "\2\0", 2), 1);		/* one pair only */
	IS(control(3, 0, "", 0), 1);		/* nothing announced */
	IS(control(9, 9, "x", 1), 1);
}

static void
noise(void)
{
	static uint8_t f[9000];
	unsigned i;

	for (i = 0; i < 6; i++)
		f[i] = rnd() % 2 ? 255 : (uint8_t)rnd();
	if (rnd() % 2)
		(void)!send(cable, f, rnd() % sizeof f, MSG_DONTWAIT);
	while (recv(cable, f, sizeof f, MSG_DONTWAIT) > 0)
		;
	loop_once(loop, 0, NULL, NULL);
}

static void
test_net(unsigned rounds)
{
	char link[32], *argv[] = { link, NULL, NULL };
	char *off[] = { "set_link", "off", NULL };
	char *on[] = { "set_link", "on", NULL };
	int sv[2], k;

	for (k = 0; k < 3; k++) {
		if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sv))
			perror("socketpair"), exit(1);
		cable = sv[0];
		snprintf(link, sizeof link, "link=fd:%d", sv[1]);
		if (k == 2)
			argv[1] = "queues=4";
		plug(&virtio_net, argv);
		start(NET_FEATURES | (k ? F_MRG : 0), 3);
		IS(r(0x206, 2), 1);
		IS(virtio_net.ask(&host->d, off, stdout), 0);
		IS(r(0x206, 2), 0);
		IS(r(0x100, 1), 2);
		IS(virtio_net.ask(&host->d, on, stdout), 0);
		IS(r(0x206, 2), 1);
		net_transmit();
		start(NET_FEATURES | F_OFFLOAD, 3);
		net_offload(k);
		start(NET_FEATURES | (k ? F_MRG : 0), 3);
		net_receive(k);
		start(NET_FEATURES | F_MRG | F_MERGE, 3);
		net_merge(k);
		start(NET_FEATURES | F_MRG, 3);
		net_filter();
		between = noise;
		fuzz(rounds, NET_FEATURES | F_MRG | F_OFFLOAD |
		    F_MERGE | F_RINGS | 1ull << 32 |
		    (k == 2 ? 1ull << 22 : 0), k == 2 ? 8 : 3);
		between = NULL;
		unplug();
		close(cable);
	}
}

static void
verdict(const char *what)
{
	static unsigned n, before;

	printf("%sok %u - %s\n", failed == before ? "" : "not ", ++n, what);
	fflush(stdout);
	before = failed;
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : ".";
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 2000;

	test_block(dir, rounds, "raw");
	verdict("block: requests, broken chains, interrupts, configuration");
	test_block(dir, rounds, "qcow2");
	verdict("block: the same on a format whose requests go to threads");
	test_rng(rounds);
	verdict("rng: bytes, limit");
	test_balloon(rounds);
	verdict("balloon: inflate, reporting, statistics, target");
	test_console(dir, rounds);
	verdict("console: output");
	test_net(rounds);
	verdict("net: frames, filters, link");
	printf("1..6\n# %u checks, %u failed\n", checks, failed);
	return failed != 0;
}
