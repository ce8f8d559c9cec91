/*
 * blk-io.c - the I/O of a virtio block request and the threads that do what may
 * sleep (virtio-blk.c tells which).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "../img/throttle.h"
#include "blk.h"

bool
blk_write_through(const struct blk_priv *b)
{
	const struct blk *s = b->v.d->st;

	return options(b)->d.cache != UNSAFE &&
	    (!s->wce || !virtio_has(&b->v, F_FLUSH));
}

void
blk_use(struct blk_priv *b, struct img *im)
{
	b->img = im;
	b->direct = im->flags & IMG_NOCACHE;
	if (b->nbd)
		blk_nbd_use(b->nbd, im);
}

void
blk_quiet(struct blk_priv *b)
{
	if (b->quiet)
		return;
	blk_drain(&b->v);
	throttle_off(b->img->throttle, true);
	if (b->nbd)
		blk_nbd_gate(b->nbd, true);
	throttle_off(b->img->throttle, false);
	b->quiet = true;
}

void
blk_go_on(struct blk_priv *b)
{
	if (b->quiet && b->nbd)
		blk_nbd_gate(b->nbd, false);
	b->quiet = false;
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
		unmap = s[i].flags & 1 && disk_unmaps(&options(b)->d);
		if (zero ? img_zero(b->img, s[i].sector * SECTOR,
		    s[i].n * (uint64_t)SECTOR, unmap ? IMG_MAYUNMAP : 0) :
		    img_discard(b->img, s[i].sector * SECTOR,
		    s[i].n * (uint64_t)SECTOR))
			e = errno;
	}
	if (e == 0 && zero && blk_write_through(b) && img_flush(b->img))
		e = errno;
	if (e == 0)
		*status = S_OK;
	return e;
}

static void
data_wrote(struct blk_priv *b, const struct req *r)
{
	unsigned i;

	for (i = 0; i < r->n_data; i++)
		dev_dma_wrote(b->v.d, r->data[i].iov_base, r->data[i].iov_len);
}

/* Remember the request's chain, and have the machine stopped. */
static void
keep(struct blk_priv *b, const struct req *r, const char *what, int e)
{
	struct blk *s = b->v.d->st;
	char text[128];
	bool first;

	pthread_mutex_lock(&b->m);
	s->kept[r->e.queue][r->e.head / 8] |= (uint8_t)(1 << r->e.head % 8);
	first = !b->halted;
	b->halted = true;
	pthread_mutex_unlock(&b->m);
	if (!first)
		return;
	log_line("%s: %s at sector %llu: %s: the machine stops, cont tries "
	    "again", disk_name(&options(b)->d), what,
	    (unsigned long long)r->sector, strerror(e));
	snprintf(text, sizeof text, "io-error %s %llu %s", what,
	    (unsigned long long)r->sector, strerror(e));
	dev_event(b->v.d, text);
}

/* What the user is told, and whether the guest is: the status for it, or KEPT
 * in *how. */
static uint8_t
trouble(struct blk_priv *b, const struct req *r, int e, enum performed *how)
{
	const struct blk_opts *o = options(b);
	bool rd = r->type == T_IN;
	int act = rd ? o->rerror : o->werror;
	const char *what = rd ? "read" : r->type == T_OUT ? "write" :
	    r->type == T_FLUSH ? "flush" : "discard";

	b->errors++;
	if (act == STOP || (act == ON_ENOSPC && e == ENOSPC)) {
		keep(b, r, what, e);
		*how = KEPT;
		return S_IOERR;
	}
	log_once("blk", (uint64_t)e, "%s: %s at sector %llu: %s",
	    disk_name(&o->d), what, (unsigned long long)r->sector, strerror(e));
	return act == IGNORE ? S_OK : S_IOERR;
}

enum performed
blk_perform(struct blk_priv *b, struct req *r, bool nowait)
{
	uint64_t off = r->sector * SECTOR;
	int fl = nowait ? IMG_NOWAIT : 0, e = 0;
	enum performed how = DONE;
	uint8_t status = S_OK;
	int64_t t0 = now_ns();

	switch (r->type) {
	case T_IN:
		if (img_preadv(b->img, r->data, r->n_data, off, fl))
			e = errno;
		if (nowait && e)	/* the workers find out */
			return SLEEPS;
		data_wrote(b, r);
		b->rd_ops++;
		b->rd_bytes += r->len;
		b->rd_ns += (uint64_t)(now_ns() - t0);
		break;
	case T_OUT:
		if (!nowait && blk_write_through(b))
			fl |= IMG_FUA;
		if (img_pwritev(b->img, r->data, r->n_data, off, fl))
			e = errno;
		if (nowait && e == EAGAIN)
			return SLEEPS;
		b->wr_ops++;
		b->wr_bytes += r->len;
		b->wr_ns += (uint64_t)(now_ns() - t0);
		break;
	case T_FLUSH:
		if (img_flush(b->img))
			e = errno;
		b->flush_ops++;
		b->flush_ns += (uint64_t)(now_ns() - t0);
		break;
	default:			/* discard, write zeroes */
		e = ranges(b, r, &status);
		b->unmap_ops++;
		break;
	}
	if (e)
		status = trouble(b, r, e, &how);
	if (how == KEPT)
		return KEPT;
	*r->status = status;
	r->written = r->type == T_IN ? (uint32_t)r->e.in_len : 1;
	dev_dma_wrote(b->v.d, r->status, 1);
	return DONE;
}

/* ------------------------------------------------------------------ workers */

void
blk_req_free(struct blk_priv *b, struct req *r)
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

		if (blk_perform(b, r, false) == DONE) {
			pthread_mutex_lock(&b->v.lock);
			vq_push(&b->v, &r->e, r->written);
			vq_notify(&b->v, r->e.queue);
			pthread_mutex_unlock(&b->v.lock);
		}
		pthread_mutex_lock(&b->m);
		blk_req_free(b, r);
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

bool
blk_hand_over(struct blk_priv *b, struct req *r)
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

void
blk_drain(struct virtio *v)
{
	struct blk_priv *b = blk(v);

	struct throttle *t = b->img->throttle;

	throttle_off(t, true);
	pthread_mutex_lock(&b->m);
	while (b->inflight)
		pthread_cond_wait(&b->idle, &b->m);
	pthread_mutex_unlock(&b->m);
	throttle_off(t, false);
}

void
blk_end_workers(struct blk_priv *b)
{
	unsigned i;

	pthread_mutex_lock(&b->m);
	b->quit = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->m);
	for (i = 0; i < b->nthread; i++)
		pthread_join(b->thread[i], NULL);
	b->nthread = 0;
}
