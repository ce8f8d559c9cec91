/*
 * virtio-blk.c - virtio block device (virtio 1.2, 5.2) on a raw image: a file
 * or a block device, read and written directly from and to guest memory.
 *
 * Theory of operation.  The main thread takes requests.  A read that the page
 * cache can satisfy (RWF_NOWAIT), a write into the page cache and what fails at
 * once are done on the spot: that is faster than any hand-over.  Whatever may
 * sleep (a read that misses, O_DIRECT, flush, discard, write-through) goes to a
 * few worker threads, made when first needed, which complete requests
 * themselves under v->lock.  So slow requests overlap and do not delay quick
 * ones; the chains' order of completion is free (5.2.6).  `drain` waits until
 * the workers hold nothing.
 *
 * #syscalls clone3 futex
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rawimage.h"
#include "virtio.h"

#define SEG_MAX		254u
#define IOV_CAP		(SEG_MAX + 4)	/* parts of one request */
#define NWORKER		4
#define MAX_SECTORS	(1u << 22)	/* of a discard or write-zeroes */
#define MAX_RANGES	32u

enum { F_SEG_MAX = 2, F_GEOMETRY = 4, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9,
	F_TOPOLOGY = 10, F_WCE = 11, F_MQ = 12, F_DISCARD = 13,
	F_WRITE_ZEROES = 14 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11,
	T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP };
enum { CFG_LEN = 60, CFG_WCE = 32 };

struct blk {
	struct virtio_state v;
	uint8_t		wce;		/* write cache enabled */
};

struct blk_opts {
	const char	*file, *format, *serial, *addr;
	bool		readonly, share_rw;
	uint32_t	queues, queue_size, lbs, pbs;
	int		cache, discard, zeroes, locking, werror, rerror;
};

struct req {
	struct req	*next;
	struct vq_elem	e;
	struct iovec	iov[IOV_CAP];
	uint32_t	type;
	uint64_t	sector;
	struct iovec	*data;		/* in iov */
	unsigned	n_data;
	uint64_t	len;
	struct xfer	x;
	uint8_t		*status;	/* in guest memory */
	uint32_t	written;	/* bytes for the used ring */
};

struct blk_priv {
	struct virtio	v;
	struct rawimage	img;
	uint64_t	bytes;		/* capacity, whole logical blocks */
	_Atomic uint64_t rd_ops, wr_ops, flush_ops, rd_bytes, wr_bytes, errors;
	struct req	*free;
	/* under m */
	pthread_mutex_t	m;
	pthread_cond_t	work, idle;
	struct req	*head, **tail;
	unsigned	inflight, nthread;
	bool		quit;
	pthread_t	thread[NWORKER];
};

static const char *const cache_values[] = { "writeback", "none",
	"writethrough", "unsafe", "directsync", NULL };
static const char *const discard_values[] = { "unmap", "on", "ignore", "off",
	NULL };
static const char *const zeroes_values[] = { "off", "on", "unmap", NULL };
static const char *const locking_values[] = { "auto", "on", "off", NULL };
static const char *const error_values[] = { "report", NULL };

#define O(m) offsetof(struct blk_opts, m)
static const struct opt opts[] = {
	{ "file", OPT_STR, O(file), NULL, "image file or block device", NULL },
	{ "format", OPT_STR, O(format), "raw", "raw", NULL },
	{ "readonly", OPT_BOOL, O(readonly), "off", "refuse writes", NULL },
	{ "serial", OPT_STR, O(serial), "", "serial number, 20 bytes", NULL },
	{ "queues", OPT_U32, O(queues), "1", "request queues, 1-64", NULL },
	{ "num-queues", OPT_U32, O(queues), NULL, "the same", NULL },
	{ "queue-size", OPT_U32, O(queue_size), "256",
	    "descriptors, a power of two up to 1024", NULL },
	{ "cache", OPT_ENUM, O(cache), "writeback", "host cache",
	    cache_values },
	{ "discard", OPT_ENUM, O(discard), "unmap", "what discard does",
	    discard_values },
	{ "detect-zeroes", OPT_ENUM, O(zeroes), "off",
	    "writes of zeroes become write-zeroes", zeroes_values },
	{ "logical_block_size", OPT_U32, O(lbs), "512", "bytes", NULL },
	{ "physical_block_size", OPT_U32, O(pbs), "512", "bytes", NULL },
	{ "locking", OPT_ENUM, O(locking), "auto", "lock the image",
	    locking_values },
	{ "share-rw", OPT_BOOL, O(share_rw), "off",
	    "other writers may open the image", NULL },
	{ "werror", OPT_ENUM, O(werror), "report", "on a write error",
	    error_values },
	{ "rerror", OPT_ENUM, O(rerror), "report", "on a read error",
	    error_values },
	{ "addr", OPT_STR, O(addr), NULL, "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};
#undef O

static const struct field fields[] = {
	VIRTIO_FIELDS(blk, v),
	FIELD(blk, wce),
	FIELD_END
};

static struct blk_priv *
blk(struct virtio *v)
{
	return (struct blk_priv *)v;
}

static const struct blk_opts *
options(const struct blk_priv *b)
{
	return b->v.d->opts;
}

/* Must a write be on stable storage before it is completed? */
static bool
write_through(const struct blk_priv *b)
{
	const struct blk *s = b->v.d->st;

	return options(b)->cache != UNSAFE &&
	    (!s->wce || !virtio_has(&b->v, F_FLUSH));
}

/* ------------------------------------------------------------------- the I/O */

static bool
aligned(const struct blk_priv *b, const struct req *r)
{
	unsigned i;

	for (i = 0; i < r->n_data; i++)
		if ((uintptr_t)r->data[i].iov_base % b->img.align ||
		    r->data[i].iov_len % b->img.align)
			return false;
	return true;
}

/* O_DIRECT with buffers the kernel would refuse. */
static int
bounce(struct blk_priv *b, struct req *r, bool write)
{
	void *buf;
	int e;

	if (posix_memalign(&buf, 4096, r->len + 1))
		return ENOMEM;
	if (write)
		iov_get(r->data, r->n_data, 0, buf, r->len);
	e = img_buf(&b->img, buf, r->len, r->x.off, write);
	if (!write && e == 0)
		iov_put(b->v.d, r->data, r->n_data, 0, buf, r->len);
	free(buf);
	return e;
}

/* 5.2.6: struct virtio_blk_discard_write_zeroes, checked as a whole first. */
static int
ranges(struct blk_priv *b, struct req *r, uint8_t *status)
{
	struct { uint64_t sector; uint32_t n, flags; } s[MAX_RANGES];
	bool zero = r->type == T_WRITE_ZEROES, unmap;
	unsigned i, n = (unsigned)(r->len / 16);
	uint64_t total = b->bytes / SECTOR;
	int e = 0;

	*status = S_IOERR;
	if (r->len % 16 || n == 0 || r->len / 16 > MAX_RANGES)
		return 0;
	iov_get(r->data, r->n_data, 0, s, r->len);
	for (i = 0; i < n; i++) {
		if (s[i].flags & ~1u || (!zero && s[i].flags)) {
			*status = S_UNSUPP;
			return 0;
		}
		if (s[i].n > MAX_SECTORS || s[i].sector > total ||
		    s[i].n > total - s[i].sector)
			return 0;
	}
	for (i = 0; i < n && e == 0; i++) {
		if (s[i].n == 0)
			continue;
		unmap = s[i].flags & 1 && options(b)->discard < 2;
		e = zero ? img_zero(&b->img, (off_t)(s[i].sector * SECTOR),
		    s[i].n * (uint64_t)SECTOR, unmap) :
		    img_discard(&b->img, (off_t)(s[i].sector * SECTOR),
		    s[i].n * (uint64_t)SECTOR);
	}
	if (e == 0 && zero && write_through(b))
		e = img_sync(&b->img);
	if (e == 0)
		*status = S_OK;
	return e;
}

static bool
all_zero(const struct req *r)
{
	const uint8_t *p;
	unsigned i;
	size_t n;

	for (i = 0; i < r->n_data; i++) {
		p = r->data[i].iov_base;
		n = r->data[i].iov_len;
		if (n && (p[0] || memcmp(p, p + 1, n - 1)))
			return false;
	}
	return true;
}

static void
data_wrote(struct blk_priv *b, const struct req *r)
{
	unsigned i;

	for (i = 0; i < r->n_data; i++)
		dev_dma_wrote(b->v.d, r->data[i].iov_base, r->data[i].iov_len);
}

/*
 * Carry out a request; `nowait`: only if that does not sleep.  False: it would.
 * Sets *r->status and r->written.
 */
static bool
perform(struct blk_priv *b, struct req *r, bool nowait)
{
	uint8_t status = S_IOERR;
	int e = 0;

	switch (r->type) {
	case T_IN:
		if (b->img.direct && !aligned(b, r))
			e = bounce(b, r, false);
		else
			e = img_transfer(&b->img, &r->x, false, nowait ? RWF_NOWAIT : 0);
		if (nowait && e)	/* the workers find out */
			return false;
		data_wrote(b, r);
		b->rd_ops++;
		b->rd_bytes += r->len;
		break;
	case T_OUT:
		if (options(b)->zeroes && all_zero(r))
			e = img_zero(&b->img, r->x.off, r->len,
			    options(b)->zeroes == 2);
		else if (b->img.direct && !aligned(b, r))
			e = bounce(b, r, true);
		else
			e = img_transfer(&b->img, &r->x, true, 0);
		if (e == 0 && write_through(b))
			e = img_sync(&b->img);
		b->wr_ops++;
		b->wr_bytes += r->len;
		break;
	case T_FLUSH:
		e = img_sync(&b->img);
		b->flush_ops++;
		break;
	default:			/* discard, write zeroes */
		e = ranges(b, r, &status);
		break;
	}
	if (e == 0 && r->type != T_DISCARD && r->type != T_WRITE_ZEROES)
		status = S_OK;
	if (e) {
		b->errors++;
		status = S_IOERR;
		log_once("blk", (uint64_t)e, "%s: %s at sector %llu: %s",
		    options(b)->file, r->type == T_IN ? "read" :
		    r->type == T_OUT ? "write" : r->type == T_FLUSH ? "flush" :
		    "discard", (unsigned long long)r->sector, strerror(e));
	}
	*r->status = status;
	r->written = r->type == T_IN ? (uint32_t)r->e.in_len : 1;
	dev_dma_wrote(b->v.d, r->status, 1);
	return true;
}

/* ------------------------------------------------------------------ workers */

static void
req_free(struct blk_priv *b, struct req *r)
{
	r->next = b->free;
	b->free = r;
}

static void *
worker(void *arg)
{
	struct blk_priv *b = arg;
	struct req *r;

	pthread_mutex_lock(&b->m);
	for (;;) {
		while (!b->head && !b->quit)
			pthread_cond_wait(&b->work, &b->m);
		if (!b->head)
			break;
		r = b->head;
		b->head = r->next;
		if (!b->head)
			b->tail = &b->head;
		pthread_mutex_unlock(&b->m);

		perform(b, r, false);
		pthread_mutex_lock(&b->v.lock);
		vq_push(&b->v, &r->e, r->written);
		vq_notify(&b->v, r->e.queue);
		pthread_mutex_unlock(&b->v.lock);

		pthread_mutex_lock(&b->m);
		req_free(b, r);
		if (--b->inflight == 0)
			pthread_cond_broadcast(&b->idle);
	}
	pthread_mutex_unlock(&b->m);
	return NULL;
}

static bool
start_workers(struct blk_priv *b)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (b->nthread < NWORKER && pthread_create(&b->thread[b->nthread],
	    NULL, worker, b) == 0)
		b->nthread++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return b->nthread > 0;
}

/* Hand over; false if there are no threads to be had. */
static bool
hand_over(struct blk_priv *b, struct req *r)
{
	if (!b->nthread && !start_workers(b))
		return false;
	pthread_mutex_lock(&b->m);
	r->next = NULL;
	*b->tail = r;
	b->tail = &r->next;
	b->inflight++;
	pthread_cond_signal(&b->work);
	pthread_mutex_unlock(&b->m);
	return true;
}

static void
drain(struct virtio *v)
{
	struct blk_priv *b = blk(v);

	pthread_mutex_lock(&b->m);
	while (b->inflight)
		pthread_cond_wait(&b->idle, &b->m);
	pthread_mutex_unlock(&b->m);
}

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
	r->x = (struct xfer){ r->data, r->n_data, 0,
	    (off_t)(r->sector * SECTOR), r->len };
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
		    !(write && b->img.ro))
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
		if (!b->img.ro)
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
	return !b->img.direct && (r->type == T_IN ||
	    (r->type == T_OUT && !write_through(b)));
}

/* The next request of queue n, or NULL. */
static struct req *
take(struct blk_priv *b, unsigned n)
{
	struct req *r = req_new(b);

	if (!r) {
		virtio_broken(&b->v, "virtio-blk: no memory for a request", n);
		return NULL;
	}
	if (vq_pop(&b->v, n, &r->e)) {
		if (parse(r))
			return r;
		virtio_broken(&b->v, "virtio-blk: request without header or "
		    "status", n);
	}
	pthread_mutex_lock(&b->m);
	req_free(b, r);
	pthread_mutex_unlock(&b->m);
	return NULL;
}

static void
complete(struct blk_priv *b, struct req *r)
{
	vq_done(&b->v, &r->e, r->written);
	pthread_mutex_lock(&b->m);
	req_free(b, r);
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
		while (left && (r = take(b, n))) {
			left--;
			if (!answer(b, r) && !(quick(b, r) &&
			    perform(b, r, r->type == T_IN))) {
				if (hand_over(b, r))
					continue;
				perform(b, r, false);
			}
			complete(b, r);
		}
	} while (vq_want(v, n, true) && left);
	if (!left)
		vq_again(v, n);
	vq_flush(v, n);
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
	c[56] = o->discard < 2;			/* write zeroes may unmap */
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
	int cache = options(blk(v))->cache;

	s->wce = cache != WRITETHROUGH && cache != DIRECTSYNC;
}

static const struct virtio_type type = {
	.id = 2,
	.class_rev = 0x01000001,
	.cfg_len = CFG_LEN,
	.config = blk_config,
	.config_write = blk_config_write,
	.kick = kick,
	.drain = drain,
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
	if (!o->file || !*o->file)
		snprintf(why, whylen, "file= is missing");
	else if (strcmp(o->format, "raw"))
		snprintf(why, whylen, "%s: format=%s is not supported here, "
		    "only raw", o->file, o->format);
	else if (o->queues < 1 || o->queues > VQ_MAX)
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

	b->img.fd = -1;
	b->tail = &b->head;
	pthread_mutex_init(&b->m, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->idle, NULL);
	if (check_options(o, why, whylen) || img_open(&b->img, o->file,
	    o->readonly, o->cache, o->locking, o->share_rw, why, whylen))
		return -1;
	b->bytes = b->img.bytes & ~(uint64_t)(o->lbs - 1);
	if (b->img.ro)
		f = (f & ~(1ull << F_WRITE_ZEROES)) | 1ull << F_RO;
	else if (o->discard < 2)
		f |= 1ull << F_DISCARD;
	b->v.offered = f;
	b->v.nq = o->queues;
	b->v.qsize = (uint16_t)o->queue_size;
	return virtio_init(d, &type, o->addr, why, whylen);
}

static int
ask(struct devctx *d, char **argv, FILE *out)
{
	struct blk_priv *b = d->priv;
	const struct blk_opts *o = d->opts;

	if (strcmp(argv[0], "block"))
		return ENOTSUP;
	fprintf(out, "%s (raw%s) size=%llu cache=%s rd_ops=%llu wr_ops=%llu "
	    "flush_ops=%llu rd_bytes=%llu wr_bytes=%llu errors=%llu\n",
	    o->file, b->img.ro ? ", read-only" : "", (unsigned long long)b->bytes,
	    cache_values[o->cache], (unsigned long long)b->rd_ops,
	    (unsigned long long)b->wr_ops, (unsigned long long)b->flush_ops,
	    (unsigned long long)b->rd_bytes, (unsigned long long)b->wr_bytes,
	    (unsigned long long)b->errors);
	return 0;
}

static void
quit(struct devctx *d)
{
	struct blk_priv *b = d->priv;
	struct req *r;
	unsigned i;

	drain(&b->v);
	pthread_mutex_lock(&b->m);
	b->quit = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->m);
	for (i = 0; i < b->nthread; i++)
		pthread_join(b->thread[i], NULL);
	b->nthread = 0;
	while ((r = b->free)) {
		b->free = r->next;
		free(r);
	}
	img_close(&b->img);
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
	.run = virtio_run,
	.ask = ask,
	.quit = quit,
	.tests = tests,
};
DEV_MAIN(virtio_blk);
