/*
 * serve.c - the transmission phase (proto.md, "Transmission", "Structured
 * reply chunk types").
 *
 * Each connection has a few threads.  One at a time reads a request with its
 * data; then it does the work while another reads the next; replies go out
 * under a lock in the order they are ready.  So requests of one connection
 * run in parallel.  Large buffers go when their request is done, and while they
 * are NBD_HELD together the next request is not read: a client that asks for
 * much and takes nothing has no more than that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd.h"

struct rq {
	uint16_t	flags, type;
	uint64_t	cookie, off;
	uint32_t	len;
};

static uint32_t
code(int e)
{
	switch (e) {
	case 0: return 0;
	case EPERM: case EROFS: return 1;
	case ENOMEM: return 12;
	case EINVAL: return 22;
	case ENOSPC: case EFBIG: case EDQUOT: return 28;
	case EOVERFLOW: return 75;
	case ENOTSUP: return 95;
	case ESHUTDOWN: return 108;
	}
	return 5;
}

static int
simple(struct nbd_conn *c, const struct rq *q, int e, const void *d, size_t n)
{
	uint8_t h[16];
	int r;

	pbe32(h, NBD_SIMPLE);
	pbe32(h + 4, code(e));
	pbe64(h + 8, q->cookie);
	pthread_mutex_lock(&c->wlock);
	r = nbd_send(c, h, 16, n > 0) || (n && nbd_send(c, d, n,
	    false)) ? -1 : 0;
	pthread_mutex_unlock(&c->wlock);
	return r;
}

static int
chunk(struct nbd_conn *c, const struct rq *q, bool done, uint16_t type,
    const void *a, size_t an, const void *d, size_t n)
{
	uint8_t h[20 + 16];
	int r;

	pbe32(h, NBD_CHUNK);
	pbe16(h + 4, done);
	pbe16(h + 6, type);
	pbe64(h + 8, q->cookie);
	pbe32(h + 16, (uint32_t)(an + n));
	if (an)
		memcpy(h + 20, a, an);
	pthread_mutex_lock(&c->wlock);
	r = nbd_send(c, h, 20 + an, n > 0) || (n && nbd_send(c, d, n,
	    false)) ? -1 : 0;
	pthread_mutex_unlock(&c->wlock);
	return r;
}

/* The end of a request without data to return. */
static int
finish(struct nbd_conn *c, const struct rq *q, int e)
{
	uint8_t b[6];

	if (!c->structured || (!e && q->type != NBD_READ && q->type !=
	    NBD_STATUS))
		return simple(c, q, e, NULL, 0);
	if (!e)
		return chunk(c, q, true, 0, NULL, 0, NULL, 0);
	pbe32(b, code(e));
	pbe16(b + 4, 0);
	return chunk(c, q, true, 0x8001, b, 6, NULL, 0);
}

static int
do_read(struct nbd_conn *c, const struct rq *q, uint8_t *buf)
{
	struct nbd_export *x = c->x;
	uint64_t off = q->off, end = off + q->len, n;
	struct img_status s;
	uint8_t a[12];

	if (!c->structured || q->flags & NBD_C_DF || q->len < 65536) {
		if (img_pread(x->im, buf, q->len, x->off + off))
			return finish(c, q, errno);
		if (!c->structured)
			return simple(c, q, 0, buf, q->len);
		pbe64(a, off);
		return chunk(c, q, true, 1, a, 8, buf, q->len);
	}
	for (; off < end; off += n) {
		bool hole;

		if (img_status(x->im, NULL, x->off + off, end - off, &s))
			return finish(c, q, errno);
		n = s.len;
		hole = s.flags & IMG_ZERO || !s.depth;
		pbe64(a, off);
		if (hole) {
			pbe32(a + 8, (uint32_t)n);
			if (chunk(c, q, off + n == end, 2, a, 12, NULL, 0))
				return -1;
			continue;
		}
		if (img_pread(x->im, buf, n, x->off + off))
			return finish(c, q, errno);
		if (chunk(c, q, off + n == end, 1, a, 8, buf, n))
			return -1;
	}
	return 0;
}

enum { EXTENTS = 2048 };

static int
extents(struct nbd_conn *c, const struct rq *q, uint32_t id, bool last)
{
	struct nbd_export *x = c->x;
	uint64_t off = q->off, end = off + q->len, n;
	int max = q->flags & NBD_C_ONE ? 1 : EXTENTS, k = 0;
	uint8_t *b = malloc(EXTENTS * 8), a[4];
	struct img_status s;
	uint32_t f, prev = 0, plen = 0;
	int r = 0;

	if (!b)
		return ENOMEM;
	for (; off < end; off += n) {
		if (id >= 2) {
			bool dirty;

			if (x->im->drv->bm_status(x->im, x->bitmap[id - 2],
			    x->off + off, end - off, &dirty, &n)) {
				r = errno;
				goto out;
			}
			f = dirty;
		} else {
			if (img_status(x->im, NULL, x->off + off, end - off,
			    &s)) {
				r = errno;
				goto out;
			}
			n = s.len;
			f = id ? (uint32_t)s.depth : (s.flags & IMG_DATA ? 0u :
			    1u) | (s.flags & IMG_ZERO || !s.depth ? 2u : 0u);
		}
		if (k && f == prev) {
			plen += (uint32_t)n;
			pbe32(b + (k - 1) * 8, plen);
			continue;
		}
		if (k == max)
			break;
		prev = f;
		plen = (uint32_t)n;
		pbe32(b + k * 8, plen);
		pbe32(b + k * 8 + 4, f);
		k++;
	}
	pbe32(a, id);
	if (chunk(c, q, last, 5, a, 4, b, (size_t)k * 8))
		r = -1;
out:
	free(b);
	return r;
}

static int
do_status(struct nbd_conn *c, const struct rq *q)
{
	int r;

	for (uint32_t id = 0; id < 64; id++) {
		if (!(c->ctx >> id & 1))
			continue;
		r = extents(c, q, id, !(id < 63 && c->ctx >> (id + 1)));
		if (r > 0)
			return finish(c, q, r);
		if (r < 0)
			return -1;
	}
	return 0;
}

static int
perform(struct nbd_conn *c, const struct rq *q, uint8_t *buf)
{
	struct nbd_export *x = c->x;
	uint64_t off = x->off + q->off;
	int fl = q->flags & NBD_C_FUA ? IMG_FUA : 0, r = 0;
	bool wr = q->type == NBD_WRITE || q->type == NBD_WZERO ||
	    q->type == NBD_TRIM;

	if (wr && x->readonly)
		return finish(c, q, EPERM);
	if (q->type != NBD_FLUSH && (q->off > x->size || q->len > x->size -
	    q->off))
		return finish(c, q, wr ? ENOSPC : EINVAL);
	switch (q->type) {
	case NBD_READ:
		return do_read(c, q, buf);
	case NBD_WRITE:
		r = img_pwrite(x->im, buf, q->len, off, fl);
		break;
	case NBD_FLUSH:
		r = img_flush(x->im);
		break;
	case NBD_TRIM:
		r = img_discard(x->im, off, q->len);
		if (!r && fl)
			r = img_flush(x->im);
		break;
	case NBD_WZERO:
		if (!(q->flags & NBD_C_NOHOLE))
			fl |= IMG_MAYUNMAP;
		if (q->flags & NBD_C_FAST)
			fl |= IMG_NOFALLBACK;
		r = img_zero(x->im, off, q->len, fl);
		break;
	case NBD_CACHE:
		for (uint64_t n, at = 0; at < q->len && !r; at += n) {
			n = umin(q->len - at, NBD_MAX);
			r = img_pread(x->im, buf, n, off + at);
		}
		break;
	case NBD_STATUS:
		if (!c->ctx || !q->len)
			return finish(c, q, EINVAL);
		return do_status(c, q);
	default:
		return finish(c, q, EINVAL);
	}
	return finish(c, q, r ? errno : 0);
}

static int
work(struct nbd_conn *c, const struct rq *q, uint8_t *buf)
{
	pthread_rwlock_t *gate = c->x->gate;
	int r;

	if (gate)
		pthread_rwlock_rdlock(gate);
	r = perform(c, q, buf);
	if (gate)
		pthread_rwlock_unlock(gate);
	return r;
}

static void
hold(struct nbd_conn *c, size_t n)
{
	pthread_mutex_lock(&c->mlock);
	while (c->held && c->held + n > NBD_HELD)
		pthread_cond_wait(&c->mcond, &c->mlock);
	c->held += n;
	pthread_mutex_unlock(&c->mlock);
}

static void
release(struct nbd_conn *c, uint8_t **buf, size_t *cap)
{
	free(*buf);
	*buf = NULL;
	pthread_mutex_lock(&c->mlock);
	c->held -= *cap;
	*cap = 0;
	pthread_cond_signal(&c->mcond);
	pthread_mutex_unlock(&c->mlock);
}

/* The next request, its data in *buf; -1 when there are no more. */
static int
next(struct nbd_conn *c, struct rq *q, uint8_t **buf, size_t *cap)
{
	uint8_t h[28];
	size_t need;

	if (nbd_recv(c, h, 28) || be32(h) != NBD_REQUEST)
		return -1;
	q->flags = be16(h + 4);
	q->type = be16(h + 6);
	q->cookie = be64(h + 8);
	q->off = be64(h + 16);
	q->len = be32(h + 24);
	if (q->type == NBD_DISC)
		return -1;
	need = q->type == NBD_READ || q->type == NBD_WRITE ? q->len :
	    q->type == NBD_CACHE ? umin(q->len, NBD_MAX) : 0;
	/* too much data to take: the stream cannot be followed any more */
	if (need > NBD_MAX && q->type == NBD_WRITE)
		return -1;
	if (need > *cap && need <= NBD_MAX) {
		release(c, buf, cap);
		hold(c, rup(need, 4096));
		*cap = rup(need, 4096);
		if (posix_memalign((void **)buf, 4096, *cap)) {
			*buf = NULL;
			return -1;
		}
	}
	if (q->type == NBD_WRITE && nbd_recv(c, *buf, q->len))
		return -1;
	return 0;
}

static void *
loop(void *arg)
{
	struct nbd_conn *c = arg;
	uint8_t *buf = NULL;
	size_t cap = 0;
	struct rq q;
	int r;

	for (;;) {
		pthread_mutex_lock(&c->rlock);
		r = c->dead ? -1 : next(c, &q, &buf, &cap);
		if (r)
			c->dead = true;
		pthread_mutex_unlock(&c->rlock);
		if (r)
			break;
		if (q.type == NBD_READ && q.len > NBD_MAX)
			r = finish(c, &q, EINVAL);
		else if (q.flags & ~31u)
			r = finish(c, &q, EINVAL);
		else
			r = work(c, &q, buf);
		if (r) {
			c->dead = true;
			break;
		}
		if (cap > NBD_KEPT)
			release(c, &buf, &cap);
	}
	release(c, &buf, &cap);
	return NULL;
}

void
nbd_serve(struct nbd_conn *c, int threads)
{
	pthread_t t[32];
	int n = 0;

	while (n < threads - 1 && n < 32 && !pthread_create(&t[n], NULL, loop,
	    c))
		n++;
	loop(c);
	while (n)
		pthread_join(t[--n], NULL);
}
