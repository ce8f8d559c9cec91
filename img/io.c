/*
 * io.c - reading and writing any image: bounds, zero detection, fallbacks,
 * block status over a backing chain.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "throttle.h"

static bool
inside(struct img *im, uint64_t off, uint64_t n)
{
	if (off <= im->size && n <= im->size - off)
		return true;
	errno = EIO;
	return false;
}

#ifndef __SANITIZE_THREAD__	/* whose start-up comes after ifuncs */
__attribute__((target_clones("avx2", "default")))
#endif
bool
is_zero(const void *v, size_t n)
{
	const uint8_t *p = v;
	uint64_t acc;

	/* most data differs early */
	if (n && (p[0] | p[n / 2] | p[n - 1]))
		return false;
	for (; n >= 256; n -= 256, p += 256) {
		acc = 0;
		for (int i = 0; i < 32; i++) {
			uint64_t w;

			memcpy(&w, p + i * 8, 8);
			acc |= w;
		}
		if (acc)
			return false;
	}
	for (; n; n--)
		if (*p++)
			return false;
	return true;
}

size_t
zero_run(const uint8_t *p, size_t n, size_t step, bool *zero)
{
	size_t at = umin(step, n);

	*zero = is_zero(p, at);
	while (at < n) {
		size_t k = umin(step, n - at);

		if (is_zero(p + at, k) != *zero)
			break;
		at += k;
	}
	return at;
}

/* ------------------------------------------------------- copy on read */

static bool
copies(const struct img *im)
{
	return im->flags & IMG_COR && im->flags & IMG_RDWR && im->backing;
}

/* Of a range, how many bytes from its start this layer has (*have) or not. */
static int
span(struct img *im, uint64_t off, uint64_t n, bool *have, uint64_t *len)
{
	struct img_status s;

	if (img_status1(im, off, n, &s))
		return -1;
	*have = s.flags & IMG_ALLOC;
	*len = s.len;
	return 0;
}

/* Read, and keep here what came from the backing image.  Writers are held off
 * meanwhile: what they wrote must not be covered by what was there before. */
static int
copy_on_read(struct img *im, uint8_t *p, size_t n, uint64_t off)
{
	uint64_t o, len, end = off + n;
	bool have = true;
	int r;

	for (o = off; o < end && have; o += len)
		if (span(im, o, end - o, &have, &len))
			return -1;
	if (have)
		return im->drv->pread(im, p, n, off);
	pthread_rwlock_wrlock(&im->cor);
	r = im->drv->pread(im, p, n, off);
	for (o = off; o < end && !r; o += len) {
		r = span(im, o, end - o, &have, &len);
		if (!r && !have)
			r = im->drv->pwrite(im, p + (o - off), len, o);
	}
	pthread_rwlock_unlock(&im->cor);
	return r;
}

/* Around every change.  A job comes and goes only while there are none. */
static void
write_begins(struct img *im, uint64_t off, uint64_t n)
{
	if (im->job)
		job_before(im->job, off, n);
	if (im->job || copies(im))
		pthread_rwlock_rdlock(&im->cor);
}

static int
write_ends(struct img *im, int r, uint64_t off, uint64_t n)
{
	int eno = errno;

	if (im->job || copies(im))
		pthread_rwlock_unlock(&im->cor);
	if (im->job)
		job_after(im->job, off, n);
	errno = eno;
	return r;
}

/* ------------------------------------------------------ reading and writing */

int
img_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	if (!inside(im, off, n))
		return -1;
	if (!n)
		return 0;
	throttle_wait(im->throttle, false, n);
	if (copies(im))
		return copy_on_read(im, p, n, off);
	return im->drv->pread(im, p, n, off);
}

int
img_pread_backing(struct img *im, void *p, size_t n, uint64_t off)
{
	size_t k = 0;

	if (im && off < im->size)
		k = umin(n, im->size - off);
	if (k && img_pread(im, p, k, off))
		return -1;
	memset((uint8_t *)p + k, 0, n - k);
	return 0;
}

static int
done(struct img *im, int r, int flags)
{
	if (!r && (flags & IMG_FUA || im->flags & IMG_WRTHROUGH))
		return img_flush(im);
	return r;
}

int
img_pwrite(struct img *im, const void *p, size_t n, uint64_t off, int flags)
{
	if (!(im->flags & IMG_RDWR) || !im->drv->pwrite) {
		errno = EPERM;
		return -1;
	}
	/* protocols grow by being written */
	if (!im->drv->protocol && !inside(im, off, n))
		return -1;
	if (off > IMG_MAX || n > IMG_MAX - off) {
		errno = EFBIG;
		return -1;
	}
	if (!n)
		return done(im, 0, flags);
	if (im->detect_zero && is_zero(p, n))
		return img_zero(im, off, n, flags | (im->detect_unmap ?
		    IMG_MAYUNMAP : 0));
	throttle_wait(im->throttle, true, n);
	write_begins(im, off, n);
	return done(im, write_ends(im, im->drv->pwrite(im, p, n, off), off, n),
	    flags);
}

/* -------------------------------------------------------------- vectors */

uint64_t
vec_len(const struct iovec *v, unsigned n)
{
	uint64_t len = 0;

	while (n--)
		len += v++->iov_len;
	return len;
}

static void
vec_copy(const struct iovec *v, unsigned n, uint64_t skip, uint8_t *p,
    size_t len, bool put)
{
	for (; n && len; v++, n--) {
		uint8_t *b = (uint8_t *)v->iov_base + skip;
		size_t k;

		if (skip >= v->iov_len) {
			skip -= v->iov_len;
			continue;
		}
		k = umin(len, v->iov_len - skip);
		if (put)
			memcpy(b, p, k);
		else
			memcpy(p, b, k);
		p += k;
		len -= k;
		skip = 0;
	}
}

void
vec_get(const struct iovec *v, unsigned n, uint64_t skip, void *p, size_t len)
{
	vec_copy(v, n, skip, p, len, false);
}

void
vec_put(const struct iovec *v, unsigned n, uint64_t skip, const void *p,
    size_t len)
{
	vec_copy(v, n, skip, (void *)(uintptr_t)p, len, true);
}

/* A vector through one buffer: a format would otherwise allocate a cluster for
 * its first part and change it for each of the others. */
static int
bounce(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    bool wr, int flags)
{
	const uint64_t most = 4 * MiB;
	uint64_t len = vec_len(v, n), at, k;
	uint8_t *b;
	int r = 0;

	if (n == 1)
		return wr ? img_pwrite(im, v->iov_base, len, off, flags) :
		    img_pread_backing(im, v->iov_base, len, off);
	if (posix_memalign((void **)&b, 4096, umin(len, most))) {
		errno = ENOMEM;
		return -1;
	}
	for (at = 0; at < len && !r; at += k) {
		k = umin(len - at, most - (off + at) % most);
		if (wr) {
			vec_get(v, n, at, b, k);
			r = img_pwrite(im, b, k, off + at, flags);
		} else if (!(r = img_pread_backing(im, b, k, off + at)))
			vec_put(v, n, at, b, k);
	}
	free(b);
	return r;
}

int
img_bounce_read(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	if (!(flags & IMG_NOWAIT))
		return bounce(im, v, n, off, false, flags);
	errno = EAGAIN;
	return -1;
}

int
img_bounce_write(struct img *im, const struct iovec *v, unsigned n,
    uint64_t off, int flags)
{
	if (!(flags & IMG_NOWAIT))
		return bounce(im, v, n, off, true, flags);
	errno = EAGAIN;
	return -1;
}

int
img_preadv(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	uint64_t len = vec_len(v, n);

	if (!inside(im, off, len))
		return -1;
	if (!len)
		return 0;
	if (flags & IMG_NOWAIT && (!im->drv->preadv || copies(im) ||
	    im->throttle)) {
		errno = EAGAIN;
		return -1;
	}
	if (im->drv->preadv && !copies(im)) {
		throttle_wait(im->throttle, false, len);
		return im->drv->preadv(im, v, n, off, flags);
	}
	return bounce(im, v, n, off, false, flags);
}

int
img_pwritev(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	uint64_t len = vec_len(v, n);
	int fl = flags & ~IMG_NOWAIT;

	if (flags & IMG_NOWAIT && (!im->drv->pwritev || im->detect_zero ||
	    copies(im) || im->job || fl & IMG_FUA || im->flags & IMG_WRTHROUGH ||
	    im->throttle)) {
		errno = EAGAIN;
		return -1;
	}
	if (!im->drv->pwritev || im->detect_zero)
		return bounce(im, v, n, off, true, fl);
	if (!(im->flags & IMG_RDWR)) {
		errno = EPERM;
		return -1;
	}
	if (!inside(im, off, len))
		return -1;
	throttle_wait(im->throttle, true, len);
	write_begins(im, off, len);
	return done(im, write_ends(im, im->drv->pwritev(im, v, n, off, flags),
	    off, len), fl);
}

int
img_pwritec(struct img *im, const void *p, size_t n, uint64_t off)
{
	if (!(im->flags & IMG_RDWR)) {
		errno = EPERM;
		return -1;
	}
	if (!im->drv->pwritec) {
		errno = ENOTSUP;
		return -1;
	}
	if (!inside(im, off, n))
		return -1;
	if (!n)
		return 0;
	throttle_wait(im->throttle, true, n);
	return im->drv->pwritec(im, p, n, off);
}

int
img_write_zeros(struct img *im, uint64_t off, uint64_t len, int flags)
{
	static const uint8_t z[65536];

	if (flags & IMG_NOFALLBACK) {
		errno = ENOTSUP;
		return -1;
	}
	while (len) {
		size_t n = umin(len, sizeof(z));

		if (im->drv->pwrite(im, z, n, off))
			return -1;
		off += n;
		len -= n;
	}
	return 0;
}

int
img_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	int r = -1;

	if (!(im->flags & IMG_RDWR)) {
		errno = EPERM;
		return -1;
	}
	if (!im->drv->protocol && !inside(im, off, len))
		return -1;
	if (!len)
		return done(im, 0, flags);
	throttle_wait(im->throttle, true, len);
	write_begins(im, off, len);
	errno = ENOTSUP;
	if (im->drv->zero)
		r = im->drv->zero(im, off, len, flags);
	if (r && (errno == ENOTSUP || errno == EOPNOTSUPP))
		r = img_write_zeros(im, off, len, flags);
	return done(im, write_ends(im, r, off, len), flags);
}

int
img_discard(struct img *im, uint64_t off, uint64_t len)
{
	if (!(im->flags & IMG_RDWR)) {
		errno = EPERM;
		return -1;
	}
	if (!inside(im, off, len))
		return -1;
	if (!len || !(im->flags & IMG_UNMAP) || !im->drv->discard)
		return 0;
	write_begins(im, off, len);
	if (write_ends(im, im->drv->discard(im, off, len), off, len) &&
	    errno != ENOTSUP && errno != EOPNOTSUPP)
		return -1;
	return 0;
}

int
img_copy(struct img *from, uint64_t off, struct img *to, uint64_t to_off,
    uint64_t len)
{
	struct img_status s;
	const struct img *f;

	errno = ENOTSUP;
	if (!to->drv->place || to->probed || to->detect_zero || copies(from) ||
	    from->throttle || to->throttle ||
	    !(to->flags & IMG_RDWR) || !inside(from, off, len) ||
	    !inside(to, to_off, len))
		return -1;
	for (; len; off += s.len, to_off += s.len, len -= s.len) {
		if (img_status(from, NULL, off, len, &s))
			return -1;
		f = s.file;
		if (!(s.flags & IMG_DATA) || !(s.flags & IMG_MAPPED) ||
		    s.flags & IMG_COMPRESSED || !f || !f->drv->copy ||
		    f->drv->copy != to->file->drv->copy) {
			errno = ENOTSUP;
			return -1;
		}
		if (f->drv->copy(s.file, s.map, to->file, to->drv->place(to,
		    to_off), s.len))
			return -1;
	}
	return 0;
}

int
img_flush(struct img *im)
{
	if (!(im->flags & IMG_RDWR))
		return 0;
	if (im->drv->flush && (im->drv->protocol ?
	    !(im->flags & IMG_NOFLUSH) : true) && im->drv->flush(im))
		return -1;
	if (im->drv->flush && !im->drv->protocol)
		return 0;		/* it flushed its file in its order */
	if (im->data && img_flush(im->data))
		return -1;
	return im->file ? img_flush(im->file) : 0;
}

int
img_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	if (!(im->flags & IMG_RDWR))
		return err_set(e, EACCES, "Image is read-only");
	if (size > IMG_MAX)
		return err_set(e, EINVAL, "Required too big image size, it must "
		    "be not greater than %llu", (unsigned long long)IMG_MAX);
	if (!im->drv->truncate)
		return err_set(e, ENOTSUP,
		    "Image format driver does not support resize");
	return im->drv->truncate(im, size, pre, e);
}

int
img_status1(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	memset(s, 0, sizeof(*s));
	if (off >= im->size) {
		s->flags = IMG_EOF;
		s->len = len;
		return 0;
	}
	len = umin(len, im->size - off);
	if (im->drv->status) {
		if (im->drv->status(im, off, len, s))
			return -1;
	} else {
		s->flags = IMG_DATA | IMG_ALLOC;
		s->len = len;
	}
	s->len = umin(s->len, len);
	if (!s->len)
		s->len = len;
	if (!(s->flags & (IMG_ALLOC | IMG_ZERO))) {
		if (!im->backing)
			s->flags |= IMG_ZERO;
		else if (off >= im->backing->size)
			s->flags |= IMG_ZERO;
	}
	if (!im->drv->backing)
		s->flags |= IMG_ALLOC;	/* there is nothing else to ask */
	if (s->flags & IMG_SUB && s->flags & IMG_DATA && s->file &&
	    s->file->drv->status) {
		struct img_status t;

		if (!s->file->drv->status(s->file, s->map, s->len, &t)) {
			if (t.flags & IMG_EOF)
				s->flags |= IMG_ZERO;
			else if (t.flags & IMG_ZERO) {
				s->flags |= IMG_ZERO;
				s->len = umin(s->len, t.len);
			} else
				s->len = umin(s->len, t.len);
		}
	}
	if (off + s->len >= im->size)
		s->flags |= IMG_EOF;
	return 0;
}

int
img_status(struct img *im, struct img *base, uint64_t off, uint64_t len,
    struct img_status *s)
{
	struct img *p;
	struct img_status t;
	int depth = 0;
	bool eof = false;

	memset(s, 0, sizeof(*s));
	for (p = im; p && p != base; p = p->backing) {
		depth++;
		if (p != im && off >= p->size) {
			/* past a short backing image: zeros, made by the
			 * image above it */
			s->flags = IMG_ZERO | IMG_ALLOC;
			s->len = len;
			s->depth = depth;
			return 0;
		}
		if (img_status1(p, off, len, &t))
			return -1;
		if (p == im) {
			eof = t.flags & IMG_EOF;
			if (!t.len)
				break;
		}
		/* a short backing image ends here, the disk need not */
		t.flags &= ~(unsigned)IMG_EOF;
		if (t.flags & IMG_ALLOC) {
			*s = t;
			s->depth = depth;
			if (eof && off + s->len >= im->size)
				s->flags |= IMG_EOF;
			return 0;
		}
		s->flags = t.flags & IMG_ZERO;
		len = t.len;
		s->len = len;
	}
	s->len = len;
	if (off + len >= im->size)
		s->flags |= IMG_EOF;
	s->depth = 0;
	return 0;
}

int64_t
img_allocated(struct img *im)
{
	int64_t n, d;

	if (im->drv->allocated)
		return im->drv->allocated(im);
	if (!im->file)
		return -1;
	n = img_allocated(im->file);
	if (n >= 0 && im->data && (d = img_allocated(im->data)) >= 0)
		n += d;
	return n;
}
