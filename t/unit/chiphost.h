/*
 * chiphost.h - a host made of plain memory, for chips without a machine: plug()
 * starts one as dev.c does, and the test makes the calls into it.  IS counts
 * checks, and rnd() gives the same numbers in every run.
 */
#ifndef CHIPHOST_H
#define CHIPHOST_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"

static unsigned checks, failed;

static void
is_(const char *file, int line, const char *what, unsigned long long got,
    unsigned long long want)
{
	checks++;
	if (got == want)
		return;
	failed++;
	printf("# %s:%d: %s is 0x%llx, not 0x%llx\n", file, line, what, got,
	    want);
}
#define IS(a, b) is_(__FILE__, __LINE__, #a, (unsigned long long)(a), \
    (unsigned long long)(b))

static uint64_t seed = 88172645463325252ull;

static uint64_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

struct host {
	struct devctx	d;
	struct part	part;
	struct ram	ram;
	uint8_t		cfg[4096];
	uint64_t	bar[3];		/* by range */
	unsigned	line[IRQ_LINES], level;	/* level: the last one's */
	_Atomic unsigned msi[MSI_MAX];
	uint64_t	errors;
	int64_t		now, timer, step;	/* step: a look at the clock */
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
	host->line[line] = host->level = (unsigned)level;
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
	return host->now += host->step;
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
	if (!host || ram_create(&host->ram, "chip", 16 << 20))
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

static uint8_t *
mem(uint64_t gpa)
{
	return host->ram.base + gpa;
}

#endif
