/*
 * job-step.c - the steps of block jobs (job.c tells how they work): the bits of
 * what is still to be copied, and copying one stretch.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job-step.h"

enum { STEP = 1 << 20,		/* bytes of one, at most */
	RUN = 1024 };		/* chunks looked at together */

static bool
bit(const uint64_t *map, uint64_t n)
{
	return map[n / 64] >> n % 64 & 1;
}

/* The job fails: for the first reason. */
static int
failed(struct job *j, const char *what, const struct img *im)
{
	int eno = errno;

	pthread_mutex_lock(&j->lock);
	if (!j->error) {
		j->error = eno ? eno : EIO;
		snprintf(j->why, sizeof(j->why), "%s '%s': %s", what,
		    im->filename, strerror(j->error));
	}
	pthread_cond_broadcast(&j->cond);
	pthread_mutex_unlock(&j->lock);
	errno = eno;
	return -1;
}

/* ---------------------------------------------------------------- the map */

void
job_mark(struct job *j, uint64_t a, uint64_t b)
{
	for (; a < b; a++)
		if (!bit(j->todo, a)) {
			j->todo[a / 64] |= 1ull << a % 64;
			j->ntodo++;
		}
}

static void
unmark(struct job *j, uint64_t a, uint64_t b)
{
	for (; a < b; a++)
		if (bit(j->todo, a)) {
			j->todo[a / 64] &= ~(1ull << a % 64);
			j->ntodo--;
		}
}

/* The next run of set bits from j->next on, around the end; at most `max`.
 * False: there are none.  Locked. */
static bool
next_run(struct job *j, uint64_t max, uint64_t *a, uint64_t *b)
{
	uint64_t n = j->next;

	if (!j->ntodo)
		return false;
	for (;;) {
		if (n >= j->nchunk)
			n = 0;
		if (!j->todo[n / 64])
			n = (n / 64 + 1) * 64;
		else if (!bit(j->todo, n))
			n++;
		else
			break;
	}
	*a = n;
	while (n < j->nchunk && n - *a < max && bit(j->todo, n))
		n++;
	*b = n;
	j->next = n;
	return true;
}

static uint64_t
chunk_end(const struct job *j, uint64_t n)
{
	return umin(n * j->chunk, j->src->size);
}

/* ------------------------------------------------------------------ copying */

static int
put_compressed(struct job *j, const uint8_t *p, uint64_t n, uint64_t off)
{
	uint64_t k, c = j->dst->cluster;

	for (; n; p += k, off += k, n -= k) {
		k = umin(n, c - off % c);
		if (is_zero(p, k) ? img_zero(j->dst, off, k, IMG_MAYUNMAP) :
		    (img_pwritec(j->dst, p, k, off) && (errno != EAGAIN ||
		    img_pwrite(j->dst, p, k, off, 0))))
			return -1;
	}
	return 0;
}

static int
put_data(struct job *j, uint64_t off, uint64_t n, uint8_t *buf)
{
	if (j->src->drv->pread(j->src, buf, n, off))
		return failed(j, "reading", j->src);
	if (j->flags & JOB_COMPRESS ? put_compressed(j, buf, n, off) :
	    img_pwrite(j->dst, buf, n, off, 0))
		return failed(j, "writing", j->dst);
	return 0;
}

/* Of [off, off+n), which is in chunks that are not being changed or will be
 * done again.  `virgin`: dst has not got anything of it yet. */
static int
copy(struct job *j, uint64_t off, uint64_t n, bool virgin)
{
	bool blank = virgin && j->flags & JOB_FRESH && !j->base;
	uint64_t k, most = j->flags & JOB_COMPRESS ? n : umin(n, STEP);
	struct img_status s;
	uint8_t *buf;
	int r = 0;

	if (posix_memalign((void **)&buf, 4096, most)) {
		errno = ENOMEM;
		return failed(j, "copying", j->src);
	}
	for (; n && !r; off += k, n -= k) {
		if (img_status(j->src, j->base, off, n, &s)) {
			r = failed(j, "reading", j->src);
			break;
		}
		k = umin(s.len, n);
		/* compressed, what is half a cluster counts as one */
		if (j->flags & JOB_COMPRESS && (k | off) % j->dst->cluster)
			s.flags &= ~(unsigned)IMG_ZERO, s.depth = 1, k = n;
		if (j->base && !s.depth && virgin)
			continue;
		if (s.flags & IMG_ZERO && (!j->base || s.depth)) {
			if (!blank && img_zero(j->dst, off, k, IMG_MAYUNMAP))
				r = failed(j, "writing", j->dst);
			continue;
		}
		k = umin(k, most);
		r = put_data(j, off, k, buf);
	}
	free(buf);
	return r;
}

/* Nothing is to be done for how many bytes from `off` on? */
static uint64_t
nothing(struct job *j, uint64_t off, uint64_t len)
{
	struct img_status s;

	if (img_status(j->src, j->base, off, len, &s))
		return 0;		/* copy() will say so */
	if (j->base ? !s.depth : s.flags & IMG_ZERO && j->flags & JOB_FRESH)
		return s.len;
	return 0;
}

/* ------------------------------------------------------------------- backup */

int
job_chunk(struct job *j, uint64_t c)
{
	int i, slot, r;

	pthread_mutex_lock(&j->lock);
again:
	for (i = 0, slot = -1; i < 64; i++) {
		if (j->busy[i] == c + 1) {
			pthread_cond_wait(&j->cond, &j->lock);
			goto again;
		}
		if (!j->busy[i])
			slot = i;
	}
	if (j->error || !bit(j->todo, c)) {
		pthread_mutex_unlock(&j->lock);
		return j->error ? -1 : 0;
	}
	if (slot < 0) {
		pthread_cond_wait(&j->cond, &j->lock);
		goto again;
	}
	j->busy[slot] = c + 1;
	pthread_mutex_unlock(&j->lock);
	r = copy(j, c * j->chunk, chunk_end(j, c + 1) - c * j->chunk, true);
	pthread_mutex_lock(&j->lock);
	unmark(j, c, c + 1);
	j->busy[slot] = 0;
	pthread_cond_broadcast(&j->cond);
	pthread_mutex_unlock(&j->lock);
	return r;
}

static int64_t
backup_step(struct job *j)
{
	uint64_t a, b, n, off;
	bool any;

	pthread_mutex_lock(&j->lock);
	any = next_run(j, RUN, &a, &b);
	pthread_mutex_unlock(&j->lock);
	if (!any)
		return 0;
	off = a * j->chunk;
	n = nothing(j, off, chunk_end(j, b) - off);
	n = off + n == j->src->size ? b : a + n / j->chunk;
	pthread_mutex_lock(&j->lock);
	/* whose bits are set yet has not been changed since */
	if (n > a)
		unmark(j, a, n);
	j->next = n > a ? n : a + 1;
	pthread_mutex_unlock(&j->lock);
	if (n > a)
		return 1;
	return job_chunk(j, a) ? -1 : (int64_t)j->chunk;
}

/* ------------------------------------------------------------------- mirror */

/* What dst has not got and need not get is known by then. */
static void
see(struct job *j, uint64_t a, uint64_t b, bool on)
{
	for (; a < b; a++)
		if (on)
			j->seen[a / 64] |= 1ull << a % 64;
		else
			j->seen[a / 64] &= ~(1ull << a % 64);
}

static int64_t
mirror_step(struct job *j)
{
	uint64_t a, b, c, off, n;
	bool any, virgin = true;
	int r = 0;

	pthread_mutex_lock(&j->lock);
	any = next_run(j, RUN, &a, &b);
	pthread_mutex_unlock(&j->lock);
	if (!any)
		return 0;
	off = a * j->chunk;
	n = nothing(j, off, chunk_end(j, b) - off) / j->chunk;
	b = umin(b, a + umax(n, umax(1, STEP / j->chunk)));
	n = chunk_end(j, b) - off;

	/* bits first, then data: what is written meanwhile sets them again */
	pthread_mutex_lock(&j->lock);
	unmark(j, a, b);
	for (c = a; c < b; c++)
		virgin = virgin && !bit(j->seen, c);
	see(j, a, b, true);
	j->next = b;
	pthread_mutex_unlock(&j->lock);
	if (virgin && nothing(j, off, n) >= n) {
		pthread_mutex_lock(&j->lock);
		see(j, a, b, false);
		pthread_mutex_unlock(&j->lock);
		return 1;
	}
	r = copy(j, off, n, virgin);
	return r ? -1 : (int64_t)n;
}

/* ------------------------------------------------------------------- stream */

/* Fill [off, off+n), which a layer below holds and `src` did not; writers wait. */
static int
fill(struct job *j, uint64_t off, uint64_t n, bool zero)
{
	struct img *im = j->src;
	uint64_t end = off + n, k;
	struct img_status s;
	uint8_t *buf = NULL;
	int r = 0;

	if (posix_memalign((void **)&buf, 4096, n)) {
		errno = ENOMEM;
		return failed(j, "copying", im);
	}
	pthread_rwlock_wrlock(&im->cor);
	for (; off < end && !r; off += k) {
		if ((r = img_status1(im, off, end - off, &s)))
			break;
		k = umin(s.len, end - off);
		if (s.flags & IMG_ALLOC)
			continue;
		if (!zero)
			r = im->drv->pread(im, buf, k, off) ||
			    im->drv->pwrite(im, buf, k, off) ? -1 : 0;
		else if (!im->drv->zero || ((r = im->drv->zero(im, off, k, 0)) &&
		    errno == ENOTSUP))
			r = img_write_zeros(im, off, k, 0);
	}
	pthread_rwlock_unlock(&im->cor);
	free(buf);
	return r ? failed(j, "streaming into", im) : 0;
}

static int64_t
stream_step(struct job *j)
{
	struct img_status s;
	uint64_t off = j->pos, n;
	bool zero, skip;

	if (off >= j->src->size)
		return 0;
	if (img_status(j->src, j->base, off, j->src->size - off, &s))
		return failed(j, "reading", j->src);
	n = s.len;
	zero = s.flags & IMG_ZERO;
	/* without a base, what nobody holds is zeros afterwards */
	skip = s.depth < 2 || (zero && !j->base);
	if (!skip) {
		n = umin(n, STEP / 2 - off % (STEP / 2));
		if (fill(j, off, n, zero))
			return -1;
	}
	pthread_mutex_lock(&j->lock);
	j->pos = off + n;
	pthread_mutex_unlock(&j->lock);
	return skip ? 1 : (int64_t)n;
}

int
job_flush(struct job *j, struct img *im)
{
	return img_flush(im) ? failed(j, "flushing", im) : 0;
}

int64_t
job_step(struct job *j)
{
	return j->kind == JOB_STREAM ? stream_step(j) : j->kind == JOB_BACKUP ?
	    backup_step(j) : mirror_step(j);
}
