/*
 * virtio-balloon.c - virtio memory balloon (virtio 1.2, 5.5) with statistics
 * and free page reporting.
 *
 * Pages the guest gives away are punched out of the RAM memfd, so they cost
 * nothing until they are touched again, by whatever process maps them; they
 * then read as zeros.  Queues: inflate, deflate, then statistics and reporting,
 * numbered without gaps among those that were negotiated (5.5.2).
 *
 *	ask balloon [SIZE]	"actual=MiB"; SIZE (MiB, or with a suffix) is
 *				what the guest should be left with
 *	ask stats		a line for each statistic the driver gave last
 *
 * #syscalls madvise
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "virtio.h"

#define IOV_CAP		258
#define QUEUE_SIZE	128
#define PAGE		4096u
#define NSTAT		16
#define STEP		1024		/* page numbers read at once */

enum { F_TELL = 0, F_STATS = 1, F_OOM = 2, F_POISON = 4, F_REPORT = 5 };
enum { INFLATE, DEFLATE };
enum { CFG_ACTUAL = 4, CFG_POISON = 12 };

struct balloon {
	struct virtio_state v;
	uint32_t	target;		/* num_pages */
	uint32_t	actual, poison;
	uint64_t	stat[NSTAT];
	uint16_t	stat_valid;	/* bit a tag */
	uint16_t	stat_head;	/* the driver's buffer, held */
	uint8_t		stat_held;
	uint8_t		stat_want;	/* give the next one back at once */
	uint64_t	reported;	/* bytes, for info */
};

struct balloon_opts {
	const char	*addr;
	bool		report, oom;
};

struct balloon_priv {
	struct virtio	v;
	struct iovec	iov[IOV_CAP];
};

static const struct opt opts[] = {
	{ "free-page-reporting", OPT_BOOL, offsetof(struct balloon_opts,
	    report), "on", "take pages the guest says are free", NULL },
	{ "deflate-on-oom", OPT_BOOL, offsetof(struct balloon_opts, oom), "off",
	    "the guest may take pages back when it runs out", NULL },
	{ "addr", OPT_STR, offsetof(struct balloon_opts, addr), NULL,
	    "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};

static const struct field fields[] = {
	VIRTIO_FIELDS(balloon, v),
	FIELD(balloon, target),
	FIELD(balloon, actual),
	FIELD(balloon, poison),
	FIELDS(balloon, stat),
	FIELD(balloon, stat_valid),
	FIELD(balloon, stat_head),
	FIELD(balloon, stat_held),
	FIELD(balloon, stat_want),
	FIELD(balloon, reported),
	FIELD_END
};

static const char *const stat_name[] = {
	"swap-in", "swap-out", "major-faults", "minor-faults", "free-memory",
	"total-memory", "available-memory", "disk-caches",
	"hugetlb-allocations", "hugetlb-failures",
};

/* Number of the statistics and reporting queues; 0: not negotiated. */
static unsigned
stats_queue(const struct virtio *v)
{
	return virtio_has(v, F_STATS) ? 2 : 0;
}

static unsigned
report_queue(const struct virtio *v)
{
	return !virtio_has(v, F_REPORT) ? 0 : virtio_has(v, F_STATS) ? 3 : 2;
}

/* Drop the whole pages of [p, p+len), a range of RAM. */
static void
drop(struct virtio *v, uint8_t *p, uint64_t len)
{
	uint64_t off = (uint64_t)(p - v->d->ram->base);
	uint64_t first = (off + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	uint64_t end = (off + len) & ~(uint64_t)(PAGE - 1);

	if (first >= end)
		return;
	if (madvise(v->d->ram->base + first, end - first, MADV_REMOVE) < 0)
		log_once("virtio-balloon", 0, "madvise: %s", strerror(errno));
	dev_dma_wrote(v->d, v->d->ram->base + first, end - first);
}

/* Runs of consecutive page numbers go in one piece. */
static void
inflate(struct virtio *v, const struct vq_elem *e)
{
	uint32_t pfn[STEP];
	size_t off = 0, n, i, run;
	uint8_t *p;

	while ((n = iov_get(e->iov, e->n_out, off, pfn, sizeof pfn) / 4)) {
		for (i = 0; i < n; i += run) {
			for (run = 1; i + run < n && pfn[i + run] ==
			    pfn[i] + run; run++)
				;
			p = ram_at(v->d->ram, (uint64_t)pfn[i] * PAGE,
			    run * PAGE);
			if (p) {
				drop(v, p, run * PAGE);
				continue;
			}
			run = 1;
			p = ram_at(v->d->ram, (uint64_t)pfn[i] * PAGE, PAGE);
			if (p)
				drop(v, p, PAGE);
			else
				dev_guest_error(v->d, "balloon: no such page",
				    pfn[i]);
		}
		off += n * 4;
	}
}

static void
report(struct virtio *v, const struct vq_elem *e)
{
	struct balloon *s = v->d->st;
	unsigned i;

	if (s->poison)			/* must keep its pattern */
		return;
	for (i = 0; i < e->n_in; i++) {
		drop(v, e->iov[e->n_out + i].iov_base,
		    e->iov[e->n_out + i].iov_len);
		s->reported += e->iov[e->n_out + i].iov_len;
	}
}

/* The driver's buffer goes back: it will come again with fresh numbers. */
static void
stats_return(struct virtio *v)
{
	struct balloon *s = v->d->st;
	struct vq_elem e = { .queue = (uint16_t)stats_queue(v),
		.head = s->stat_head };

	if (!s->stat_held || !e.queue)
		return;
	s->stat_held = 0;
	vq_done(v, &e, 0);
	vq_flush(v, e.queue);
}

static void
stats(struct virtio *v, const struct vq_elem *e)
{
	struct balloon *s = v->d->st;
	uint8_t b[10];
	uint16_t tag;
	size_t off;

	for (off = 0; off < 10 * 64 && iov_get(e->iov, e->n_out, off, b, 10) ==
	    10; off += 10) {
		tag = (uint16_t)(b[0] | b[1] << 8);
		if (tag >= NSTAT)
			continue;
		memcpy(&s->stat[tag], b + 2, 8);
		s->stat_valid |= (uint16_t)(1u << tag);
	}
	if (s->stat_held)		/* a second one: no use for the first */
		stats_return(v);
	s->stat_head = e->head;
	s->stat_held = 1;
	if (s->stat_want) {
		s->stat_want = 0;
		stats_return(v);
	}
}

static void
kick(struct virtio *v, unsigned q)
{
	struct balloon_priv *p = (struct balloon_priv *)v;
	struct vq_elem e = { .iov = p->iov, .cap = IOV_CAP };
	unsigned left = VQ_BUDGET;

	do {
		while (left && vq_pop(v, q, &e)) {
			left--;
			if (q && q == stats_queue(v)) {
				stats(v, &e);
				continue;
			}
			if (q == INFLATE)
				inflate(v, &e);
			else if (q != DEFLATE && q == report_queue(v))
				report(v, &e);
			vq_done(v, &e, 0);
		}
	} while (vq_want(v, q, true) && left);
	if (!left)
		vq_again(v, q);
	vq_flush(v, q);
}

static void
config(struct virtio *v, uint8_t *c)
{
	const struct balloon *s = v->d->st;

	cfg32(c, s->target);
	cfg32(c + CFG_ACTUAL, s->actual);
	cfg32(c + CFG_POISON, s->poison);
}

static void
config_write(struct virtio *v, unsigned off, unsigned size, uint32_t val)
{
	struct balloon *s = v->d->st;

	if (size != 4)
		return;
	if (off == CFG_ACTUAL)
		s->actual = val;
	else if (off == CFG_POISON && virtio_has(v, F_POISON))
		s->poison = val;
}

/* The target stays: it is the host's wish, not the driver's state. */
static void
balloon_reset(struct virtio *v)
{
	struct balloon *s = v->d->st;

	s->actual = s->poison = 0;
	s->stat_valid = 0;
	memset(s->stat, 0, sizeof s->stat);
	s->stat_head = 0;
	s->stat_held = s->stat_want = 0;
}

static const struct virtio_type type = {
	.id = 5,
	.class_rev = 0x00ff0001,
	.cfg_len = 16,
	.config = config,
	.config_write = config_write,
	.kick = kick,
	.reset = balloon_reset,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct balloon_priv *p = d->priv;
	const struct balloon_opts *o = d->opts;

	p->v.offered = 1ull << F_TELL | 1ull << F_STATS | 1ull << F_POISON;
	p->v.nq = 3;
	if (o->oom)
		p->v.offered |= 1ull << F_OOM;
	if (o->report) {
		p->v.offered |= 1ull << F_REPORT;
		p->v.nq = 4;
	}
	p->v.qsize = QUEUE_SIZE;
	return virtio_init(d, &type, o->addr, why, whylen);
}

static void
reset(struct devctx *d)
{
	struct balloon *s = d->st;

	virtio_reset(d);
	s->reported = 0;
}

/* SIZE as the monitor's `balloon`: MiB, or bytes with a suffix. */
static int
set_target(struct devctx *d, const char *text)
{
	struct balloon_priv *p = d->priv;
	struct balloon *s = d->st;
	uint64_t n, size = d->ram->size;
	size_t len = strlen(text);

	if (len == 0 || len > 20 || parse_size(text, &n) < 0)
		return EINVAL;
	if (text[len - 1] >= '0' && text[len - 1] <= '9') {
		if (n > size >> 20)
			n = size >> 20;
		n <<= 20;
	}
	if (n > size)
		n = size;
	s->target = (uint32_t)((size - n) / PAGE);
	virtio_config_changed(&p->v);
	return 0;
}

static int
ask(struct devctx *d, char **argv, FILE *out)
{
	struct balloon_priv *p = d->priv;
	struct balloon *s = d->st;
	uint64_t given = (uint64_t)s->actual * PAGE;
	unsigned i;

	if (!strcmp(argv[0], "balloon")) {
		if (argv[1] && set_target(d, argv[1])) {
			fprintf(out, "%s: not a size", argv[1]);
			return ERANGE;
		}
		fprintf(out, "actual=%llu\n", (unsigned long long)
		    (given < d->ram->size ? d->ram->size - given : 0) >> 20);
		return 0;
	}
	if (strcmp(argv[0], "stats"))
		return ENOTSUP;
	for (i = 0; i < NSTAT; i++)
		if (s->stat_valid >> i & 1 && i < sizeof stat_name /
		    sizeof *stat_name)
			fprintf(out, "%s=%llu\n", stat_name[i],
			    (unsigned long long)s->stat[i]);
	fprintf(out, "reported=%llu\n", (unsigned long long)s->reported);
	if (d->running) {
		s->stat_want = !s->stat_held;
		stats_return(&p->v);
	}
	return 0;
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x10451af4 },
	{ 'C', 0, 4, 0x08, 0x00ff0001 },
	{ 'r', 1, 4, 0x04, 0x33, 0x37 },	/* TELL STATS POISON REPORT */
	{ 'r', 1, 2, 0x12, 4 },
	{ 'r', 1, 4, 0x200, 0 },		/* num_pages */
	{ 'w', 1, 4, 0x204, 5 },
	{ 'r', 1, 4, 0x204, 5 },		/* actual */
	{ 'w', 1, 1, 0x14, 0 },
	{ 'r', 1, 4, 0x204, 0 },
	{ 0 }
};

const struct dev virtio_balloon = {
	.name = "virtio-balloon",
	.desc = "virtio memory balloon over PCI",
	.spec = "virtio 1.2, 5.5",
	.state_size = sizeof(struct balloon),
	.fields = fields,
	.opts_size = sizeof(struct balloon_opts),
	.opts = opts,
	.priv_size = sizeof(struct balloon_priv),
	.init = init,
	.reset = reset,
	.read = virtio_read,
	.write = virtio_write,
	.bell = virtio_bell,
	.config = virtio_config,
	.loaded = virtio_loaded,
	.stop = virtio_stop,
	.run = virtio_run,
	.ask = ask,
	.tests = tests,
};
DEV_MAIN(virtio_balloon);
