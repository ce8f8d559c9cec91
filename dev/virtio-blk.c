/*
 * virtio-blk.c - virtio block device (virtio 1.2, 5.2) on an image of any
 * format the image library has, read and written directly from and to guest
 * memory where the format allows.
 *
 * Theory of operation.  The main thread takes requests.  A read that the page
 * cache can satisfy, a write into the page cache and what fails at once are
 * done on the spot: that is faster than any hand-over.  Whatever may sleep (a
 * read that misses, O_DIRECT, flush, discard, write-through, a format that looks
 * up where things are) goes to a few worker threads, made when first needed,
 * which complete requests themselves under v->lock.  So slow requests overlap
 * and do not delay quick ones; the chains' order of completion is free (5.2.6).
 * `drain` waits until the workers hold nothing.
 *
 * What fails where werror= or rerror= says stop is not completed: its chain's
 * head is noted in the state, the machine is asked to stop, and `run` takes the
 * chain from the ring's memory once more.
 *
 * #syscalls clone clone3 futex preadv2 pwritev fdatasync fallocate
 * #syscalls sendto recvfrom accept4 shutdown
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"

static const char *const rerror_values[] = { "report", "ignore", "stop", NULL };
static const char *const werror_values[] = { "report", "ignore", "stop",
	"enospc", NULL };

#define O(m) offsetof(struct blk_opts, m)
static const struct opt opts[] = {
	DISK_OPTS(blk_opts, d),
	{ "serial", OPT_STR, O(serial), "", "serial number, 20 bytes", NULL },
	{ "queues", OPT_U32, O(queues), "1", "request queues, 1-64", NULL },
	{ "num-queues", OPT_U32, O(queues), NULL, "the same", NULL },
	{ "queue-size", OPT_U32, O(queue_size), "256",
	    "descriptors, a power of two up to 1024", NULL },
	{ "logical_block_size", OPT_U32, O(lbs), "512", "bytes", NULL },
	{ "physical_block_size", OPT_U32, O(pbs), "512", "bytes", NULL },
	{ "werror", OPT_ENUM, O(werror), "enospc", "on a write error",
	    werror_values },
	{ "rerror", OPT_ENUM, O(rerror), "report", "on a read error",
	    rerror_values },
	{ "addr", OPT_STR, O(addr), NULL, "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};
#undef O

static const struct field fields[] = {
	VIRTIO_FIELDS(blk, v),
	FIELD(blk, wce),
	FIELD(blk, kept),
	FIELD_END
};

/* ----------------------------------------------------------------- requests */

static struct req *
req_new(struct blk_priv *b)
{
	struct req *r;

	pthread_mutex_lock(&b->m);
	r = b->free;
	if (r)
		b->free = r->next;
	pthread_mutex_unlock(&b->m);
	if (!r)
		r = malloc(sizeof *r);
	if (r) {
		r->e.iov = r->iov;
		r->e.cap = IOV_CAP;
	}
	return r;
}

/* Cut `n` bytes off the front of an iovec list; false: it is shorter. */
static bool
cut_front(struct iovec **iov, unsigned *n, size_t len)
{
	while (len) {
		if (*n == 0)
			return false;
		if ((*iov)->iov_len > len) {
			(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + len;
			(*iov)->iov_len -= len;
			return true;
		}
		len -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	return true;
}

/* Header, data and status of a chain.  False: malformed. */
static bool
parse(struct req *r)
{
	struct iovec *in = r->iov + r->e.n_out, *last;
	unsigned n_in = r->e.n_in, n_out = r->e.n_out;
	struct { uint32_t type, ioprio; uint64_t sector; } h;

	if (r->e.out_len < sizeof h || r->e.in_len < 1)
		return false;
	iov_get(r->iov, r->e.n_out, 0, &h, sizeof h);
	r->type = h.type;
	r->sector = h.sector;
	r->written = 0;
	last = &in[n_in - 1];
	r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	if (--last->iov_len == 0)
		n_in--;
	r->e.n_in = n_in;
	if (r->type == T_OUT || r->type == T_DISCARD ||
	    r->type == T_WRITE_ZEROES) {
		r->data = r->iov;
		cut_front(&r->data, &n_out, sizeof h);
		r->n_data = n_out;
		r->len = r->e.out_len - sizeof h;
	} else {
		r->data = in;
		r->n_data = n_in;
		r->len = r->e.in_len - 1;
	}
	return true;
}

static void
finish(struct blk_priv *b, struct req *r, uint8_t status, uint32_t written)
{
	*r->status = status;
	dev_dma_wrote(b->v.d, r->status, 1);
	r->written = written;
}

/* What needs no I/O, or must not get to it.  True: done. */
static bool
answer(struct blk_priv *b, struct req *r)
{
	uint64_t total = b->bytes / SECTOR;
	char id[20] = { 0 };
	bool write = r->type == T_OUT || r->type == T_DISCARD ||
	    r->type == T_WRITE_ZEROES;

	switch (r->type) {
	case T_IN:
	case T_OUT:
		if (r->len % SECTOR == 0 && r->sector <= total &&
		    r->len / SECTOR <= total - r->sector &&
		    !(write && b->ro))
			return false;
		finish(b, r, S_IOERR, 1);
		return true;
	case T_FLUSH:
		return false;
	case T_DISCARD:
	case T_WRITE_ZEROES:
		if (!virtio_has(&b->v, r->type == T_DISCARD ? F_DISCARD :
		    F_WRITE_ZEROES)) {
			finish(b, r, S_UNSUPP, 1);
			return true;
		}
		if (!b->ro)
			return false;
		finish(b, r, S_IOERR, 1);
		return true;
	case T_GET_ID:
		memcpy(id, options(b)->serial, strnlen(options(b)->serial,
		    sizeof id));
		finish(b, r, S_OK, (uint32_t)iov_put(b->v.d, r->data,
		    r->n_data, 0, id, sizeof id) + 1);
		return true;
	}
	finish(b, r, S_UNSUPP, 1);
	return true;
}

/* May the main thread do it now?  Reads try without sleeping. */
static bool
quick(struct blk_priv *b, const struct req *r)
{
	return !b->direct && (r->type == T_IN ||
	    (r->type == T_OUT && !blk_write_through(b)));
}

/* The next request of queue n, or the one at `head` if that is not -1; or
 * NULL. */
static struct req *
take(struct blk_priv *b, unsigned n, int head)
{
	struct req *r = req_new(b);

	if (!r) {
		virtio_broken(&b->v, "virtio-blk: no memory for a request", n);
		return NULL;
	}
	if (head < 0 ? vq_pop(&b->v, n, &r->e) :
	    vq_refetch(&b->v, n, (unsigned)head, &r->e)) {
		if (parse(r))
			return r;
		virtio_broken(&b->v, "virtio-blk: request without header or "
		    "status", n);
	}
	pthread_mutex_lock(&b->m);
	blk_req_free(b, r);
	pthread_mutex_unlock(&b->m);
	return NULL;
}

static void
serve(struct blk_priv *b, struct req *r)
{
	enum performed how = DONE;

	if (!answer(b, r)) {
		how = quick(b, r) ? blk_perform(b, r, true) : SLEEPS;
		if (how == SLEEPS && blk_hand_over(b, r))
			return;
		if (how == SLEEPS)
			how = blk_perform(b, r, false);
	}
	if (how == DONE)
		vq_done(&b->v, &r->e, r->written);
	pthread_mutex_lock(&b->m);
	blk_req_free(b, r);
	pthread_mutex_unlock(&b->m);
}

static void
kick(struct virtio *v, unsigned n)
{
	struct blk_priv *b = blk(v);
	unsigned left = VQ_BUDGET;
	struct req *r;

	do {
		vq_want(v, n, false);
		while (left && (r = take(b, n, -1))) {
			left--;
			serve(b, r);
		}
	} while (vq_want(v, n, true) && left);
	if (!left)
		vq_again(v, n);
	vq_flush(v, n);
}

/* Once more what was kept; then what came meanwhile. */
static void
blk_run(struct devctx *d)
{
	struct blk_priv *b = d->priv;
	struct blk *s = d->st;
	uint8_t kept[sizeof s->kept[0]];
	struct req *r;
	unsigned n, i;

	b->halted = false;
	for (n = 0; n < b->v.nq; n++) {
		pthread_mutex_lock(&b->m);
		memcpy(kept, s->kept[n], sizeof kept);
		memset(s->kept[n], 0, sizeof kept);
		pthread_mutex_unlock(&b->m);
		for (i = 0; i < VQ_SIZE_MAX; i++)
			if (kept[i / 8] >> i % 8 & 1 &&
			    (r = take(b, n, (int)i)))
				serve(b, r);
		vq_flush(&b->v, n);
	}
	virtio_run(d);
}

/* ------------------------------------------------------------- configuration */

static void
blk_config(struct virtio *v, uint8_t *c)
{
	struct blk_priv *b = blk(v);
	const struct blk *s = v->d->st;
	const struct blk_opts *o = options(b);
	uint64_t cyl = b->bytes / SECTOR / (16 * 63);

	cfg64(c, b->bytes / SECTOR);
	cfg32(c + 12, SEG_MAX);
	cfg16(c + 16, cyl < 16383 ? (uint16_t)cyl : 16383);
	c[18] = 16;
	c[19] = 63;
	cfg32(c + 20, o->lbs);
	c[24] = (uint8_t)__builtin_ctz(o->pbs / o->lbs);
	c[CFG_WCE] = s->wce;
	cfg16(c + 34, (uint16_t)v->nq);
	cfg32(c + 36, MAX_SECTORS);
	cfg32(c + 40, MAX_RANGES);
	cfg32(c + 44, o->lbs / SECTOR);
	cfg32(c + 48, MAX_SECTORS);
	cfg32(c + 52, MAX_RANGES);
	c[56] = disk_unmaps(&o->d);		/* write zeroes may unmap */
}

static void
blk_config_write(struct virtio *v, unsigned off, unsigned size, uint32_t val)
{
	struct blk *s = v->d->st;

	if (off == CFG_WCE && size == 1 && virtio_has(v, F_WCE))
		s->wce = val & 1;
}

static void
blk_reset(struct virtio *v)
{
	struct blk *s = v->d->st;
	int cache = options(blk(v))->d.cache;

	s->wce = cache != WRITETHROUGH && cache != DIRECTSYNC;
	memset(s->kept, 0, sizeof s->kept);
}

static const struct virtio_type type = {
	.id = 2,
	.class_rev = 0x01000001,
	.cfg_len = CFG_LEN,
	.config = blk_config,
	.config_write = blk_config_write,
	.kick = kick,
	.drain = blk_drain,
	.reset = blk_reset,
};

/* ------------------------------------------------------------------- options */

static bool
power2(uint32_t v, uint32_t min, uint32_t max)
{
	return v >= min && v <= max && !(v & (v - 1));
}

static int
check_options(const struct blk_opts *o, char *why, size_t whylen)
{
	if (o->queues < 1 || o->queues > VQ_MAX)
		snprintf(why, whylen, "queues=%u: not 1 to %u", o->queues,
		    VQ_MAX);
	else if (!power2(o->queue_size, 2, VQ_SIZE_MAX))
		snprintf(why, whylen, "queue-size=%u: not a power of two up "
		    "to %u", o->queue_size, VQ_SIZE_MAX);
	else if (!power2(o->lbs, 512, 32768) || !power2(o->pbs, 512, 1 << 20) ||
	    o->pbs < o->lbs)
		snprintf(why, whylen, "logical_block_size=%u, "
		    "physical_block_size=%u: not powers of two from 512 on, "
		    "the second not the smaller", o->lbs, o->pbs);
	else
		return 0;
	return -1;
}

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct blk_priv *b = d->priv;
	const struct blk_opts *o = d->opts;
	uint64_t f = 1ull << F_SEG_MAX | 1ull << F_GEOMETRY |
	    1ull << F_BLK_SIZE | 1ull << F_FLUSH | 1ull << F_TOPOLOGY |
	    1ull << F_WCE | 1ull << F_MQ | 1ull << F_WRITE_ZEROES;

	/* giving back a second arena's memory, the C library would look into
	 * /proc */
	mallopt(M_ARENA_MAX, 1);
	b->tail = &b->head;
	pthread_mutex_init(&b->m, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->idle, NULL);
	if (check_options(o, why, whylen) ||
	    !(b->img = disk_open(&o->d, why, whylen)))
		return -1;
	b->ro = !(b->img->flags & IMG_RDWR);
	blk_use(b, b->img);
	b->temp = o->d.snapshot && !b->ro;
	b->bytes = b->img->size & ~(uint64_t)(o->lbs - 1);
	if (b->ro)
		f = (f & ~(1ull << F_WRITE_ZEROES)) | 1ull << F_RO;
	else if (disk_unmaps(&o->d))
		f |= 1ull << F_DISCARD;
	b->v.offered = f;
	b->v.nq = o->queues;
	b->v.qsize = (uint16_t)o->queue_size;
	if (virtio_init(d, &type, o->addr, why, whylen))
		return -1;
	if (blk_job_init(b)) {
		snprintf(why, whylen, "%s", strerror(errno));
		return -1;
	}
	return 0;
}

static void
quit(struct devctx *d)
{
	struct blk_priv *b = d->priv;
	struct req *r;

	blk_drain(&b->v);
	blk_nbd_quit(b);
	blk_job_quit(b);
	blk_end_workers(b);
	while ((r = b->free)) {
		b->free = r->next;
		free(r);
	}
	if (img_close(b->img))
		log_line("%s: %s", disk_name(&options(b)->d), strerror(errno));
	b->img = NULL;
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x10421af4 },
	{ 'C', 0, 4, 0x08, 0x01000001 },
	{ 'C', 0, 4, 0x2c, 0x11001af4 },
	{ 'c', 0, 4, 0x18, 0xffffffff },		/* BAR 2: 4 KiB */
	{ 'C', 0, 4, 0x18, 0xfffff000 },
	{ 'r', 1, 4, 0x04, 0x00001000, 0x1000 },	/* MQ */
	{ 'w', 1, 4, 0x00, 1 },
	{ 'r', 1, 4, 0x04, 1, 1 },			/* VERSION_1 */
	{ 'w', 1, 1, 0x14, 3 },
	{ 'w', 1, 1, 0x14, 11 },		/* FEATURES_OK without it */
	{ 'r', 1, 1, 0x14, 3 },
	{ 'w', 1, 4, 0x08, 1 },
	{ 'w', 1, 4, 0x0c, 1 },
	{ 'w', 1, 1, 0x14, 11 },
	{ 'r', 1, 1, 0x14, 11 },
	{ 'r', 1, 2, 0x18, 256 },
	{ 'w', 1, 2, 0x18, 100 },		/* not a power of two */
	{ 'r', 1, 2, 0x18, 256 },
	{ 'w', 1, 2, 0x18, 64 },
	{ 'w', 1, 4, 0x20, 0xfffff0 },		/* table runs out of RAM */
	{ 'w', 1, 2, 0x1c, 1 },
	{ 'r', 1, 1, 0x14, 0x4b },		/* DEVICE_NEEDS_RESET */
	{ 'w', 1, 1, 0x14, 0 },
	{ 'r', 1, 1, 0x14, 0 },
	{ 'r', 1, 2, 0x18, 256 },
	{ 'r', 1, 4, 0x214, 512 },		/* blk_size */
	{ 'r', 0, 4, 0x0c, 1 },			/* MSI-X entry masked */
	{ 0 }
};

const struct dev virtio_blk = {
	.name = "virtio-blk",
	.desc = "virtio block device over PCI",
	.spec = "virtio 1.2, 5.2",
	.state_size = sizeof(struct blk),
	.fields = fields,
	.opts_size = sizeof(struct blk_opts),
	.opts = opts,
	.priv_size = sizeof(struct blk_priv),
	.init = init,
	.reset = virtio_reset,
	.read = virtio_read,
	.write = virtio_write,
	.bell = virtio_bell,
	.config = virtio_config,
	.loaded = virtio_loaded,
	.stop = virtio_stop,
	.run = blk_run,
	.ask = blk_ask,
	.quit = quit,
	.tests = tests,
};
DEV_MAIN(virtio_blk);
