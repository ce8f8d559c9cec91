/*
 * file-io.c - reading, writing, zeroing and discarding a file or block device
 * of the host in place.  Holes are made with fallocate(2).
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "file.h"

/* Short reads are the end of the file: the rest is zeros. */
static int
read_all(int fd, uint8_t *p, size_t n, uint64_t off)
{
	while (n) {
		ssize_t k = pread(fd, p, n, (off_t)off);

		if (k < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (!k) {
			memset(p, 0, n);
			return 0;
		}
		p += k;
		n -= (size_t)k;
		off += (uint64_t)k;
	}
	return 0;
}

int
file_write(int fd, const uint8_t *p, size_t n, uint64_t off)
{
	while (n) {
		ssize_t k = pwrite(fd, p, n, (off_t)off);

		if (k < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (!k) {
			errno = ENOSPC;
			return -1;
		}
		p += k;
		n -= (size_t)k;
		off += (uint64_t)k;
	}
	return 0;
}

/* O_DIRECT wants alignment in memory, offset and length: bounce. */
static int
direct(struct file *f, bool wr, void *p, size_t n, uint64_t off)
{
	uint64_t a = f->dio, lo = rdown(off, a), hi = rup(off + n, a);
	uint8_t *b;
	int r = -1;

	if (posix_memalign((void **)&b, a, hi - lo)) {
		errno = ENOMEM;
		return -1;
	}
	if (wr) {
		struct stat st;
		bool part = lo != off || hi != off + n;

		if (part && read_all(f->fd, b, hi - lo, lo))
			goto out;
		memcpy(b + (off - lo), p, n);
		if (fstat(f->fd, &st) || file_write(f->fd, b, hi - lo, lo))
			goto out;
		if (hi != off + n && (uint64_t)st.st_size < hi && !f->dev &&
		    ftruncate(f->fd, (off_t)umax(off + n,
		    (uint64_t)st.st_size)))
			goto out;
	} else {
		if (read_all(f->fd, b, hi - lo, lo))
			goto out;
		memcpy(p, b + (off - lo), n);
	}
	r = 0;
out:
	free(b);
	return r;
}

static bool
aligned(struct file *f, const void *p, size_t n, uint64_t off)
{
	return !f->dio || !(((uintptr_t)p | n | off) & (f->dio - 1));
}

int
file_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct file *f = im->priv;

	if (!aligned(f, p, n, off))
		return direct(f, false, p, n, off);
	return read_all(f->fd, p, n, off);
}

static void
grown(struct img *im, uint64_t end)
{
	uint64_t s = __atomic_load_n(&im->size, __ATOMIC_RELAXED);

	while (end > s && !__atomic_compare_exchange_n(&im->size, &s, end,
	    true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Before a write of whole or not so whole blocks, and after. */
static void
rmw_lock(struct file *f, size_t n, uint64_t off)
{
	if (!f->dio)
		return;
	if ((n | off) & (f->dio - 1))
		pthread_rwlock_wrlock(&f->rmw);
	else
		pthread_rwlock_rdlock(&f->rmw);
}

static int
wrote(struct img *im, int r, uint64_t end)
{
	struct file *f = im->priv;

	if (f->dio)
		pthread_rwlock_unlock(&f->rmw);
	if (!r)
		grown(im, end);
	return r;
}

int
file_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct file *f = im->priv;

	rmw_lock(f, n, off);
	return wrote(im, aligned(f, p, n, off) ? file_write(f->fd, p, n, off) :
	    direct(f, true, (void *)(uintptr_t)p, n, off), off + n);
}

/* The kernel's steps of a vector: short ones are gone on with; what lies past
 * the end of the file reads as zeros. */
static int
vec_all(int fd, bool wr, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	struct iovec part;
	size_t skip = 0;
	ssize_t k;

	while (n) {
		const struct iovec *w = v;
		int cnt = n < IOV_MAX ? (int)n : IOV_MAX;

		if (skip) {
			part.iov_base = (uint8_t *)v->iov_base + skip;
			part.iov_len = v->iov_len - skip;
			w = &part;
			cnt = 1;
		}
		k = wr ? pwritev(fd, w, cnt, (off_t)off) :
		    preadv2(fd, w, cnt, (off_t)off, flags);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		if (k == 0 && wr && w->iov_len) {
			errno = ENOSPC;
			return -1;
		}
		if (k == 0) {
			memset(w->iov_base, 0, w->iov_len);
			k = (ssize_t)w->iov_len;
		}
		off += (uint64_t)k;
		skip += (size_t)k;
		while (n && skip >= v->iov_len) {
			skip -= v->iov_len;
			v++;
			n--;
		}
	}
	return 0;
}

static int
vec_bounce(struct img *im, bool wr, const struct iovec *v, unsigned n,
    uint64_t off)
{
	uint64_t len = vec_len(v, n);
	uint8_t *b;
	int r;

	if (posix_memalign((void **)&b, 4096, rup(len, 4096))) {
		errno = ENOMEM;
		return -1;
	}
	if (wr)
		vec_get(v, n, 0, b, len);
	r = wr ? file_pwrite(im, b, len, off) : file_pread(im, b, len, off);
	if (!wr && !r)
		vec_put(v, n, 0, b, len);
	free(b);
	return r;
}

static bool
vec_aligned(struct file *f, const struct iovec *v, unsigned n, uint64_t off)
{
	for (; f->dio && n; n--, v++)
		if (!aligned(f, v->iov_base, v->iov_len, off))
			return false;
	return true;
}

int
file_preadv(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	struct file *f = im->priv;

	if (flags & IMG_NOWAIT) {
		if (!f->dio && !vec_all(f->fd, false, v, n, off, RWF_NOWAIT))
			return 0;
		errno = EAGAIN;		/* without NOWAIT it will be known */
		return -1;
	}
	if (!vec_aligned(f, v, n, off))
		return vec_bounce(im, false, v, n, off);
	return vec_all(f->fd, false, v, n, off, 0);
}

int
file_pwritev(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	struct file *f = im->priv;
	uint64_t len = vec_len(v, n);

	if (flags & IMG_NOWAIT && f->dio) {
		errno = EAGAIN;
		return -1;
	}
	if (!vec_aligned(f, v, n, off))
		return vec_bounce(im, true, v, n, off);
	rmw_lock(f, len, off);
	return wrote(im, vec_all(f->fd, true, v, n, off, 0), off + len);
}

static bool
unsup(int e)
{
	return e == EOPNOTSUPP || e == ENOSYS || e == EINVAL || e == ENOTTY ||
	    e == ENODEV;
}

int
file_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct file *f = im->priv;
	int mode;

	/* of a device the kernel zeroes in whole sectors only */
	if (f->dev && (f->nozero || (off | len) & 511)) {
		errno = ENOTSUP;
		return -1;
	}
	if (off >= im->size && flags & IMG_MAYUNMAP) {
		if (ftruncate(f->fd, (off_t)(off + len)))
			return -1;
		grown(im, off + len);
		return 0;
	}
	if (flags & IMG_MAYUNMAP && !f->nopunch) {
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		if (!fallocate(f->fd, mode, (off_t)off, (off_t)len)) {
			if (off + len > im->size) {
				if (ftruncate(f->fd, (off_t)(off + len)))
					return -1;
				grown(im, off + len);
			}
			return 0;
		}
		if (!unsup(errno))
			return -1;
		f->nopunch = true;
	}
	if (!f->nozero) {
		if (!fallocate(f->fd, FALLOC_FL_ZERO_RANGE, (off_t)off,
		    (off_t)len)) {
			grown(im, off + len);
			return 0;
		}
		if (!unsup(errno))
			return -1;
		f->nozero = true;
	}
	/* punch and allocate again */
	mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	if (!f->nopunch && !fallocate(f->fd, mode, (off_t)off, (off_t)len) &&
	    !fallocate(f->fd, 0, (off_t)off, (off_t)len)) {
		grown(im, off + len);
		return 0;
	}
	errno = ENOTSUP;
	return -1;
}

int
file_discard(struct img *im, uint64_t off, uint64_t len)
{
	struct file *f = im->priv;
	uint64_t r[2] = { off, len };

	if (off >= im->size)
		return 0;
	if (!fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	    (off_t)off, (off_t)len))
		return 0;
	/* a device that discards without promising zeros; a sandbox may say
	 * ENOSYS */
	if (f->dev && unsup(errno) && !ioctl(f->fd, BLKDISCARD, r))
		return 0;
	if (unsup(errno))
		errno = ENOTSUP;
	return -1;
}

int
file_flush(struct img *im)
{
	struct file *f = im->priv;

	return fdatasync(f->fd);
}

/* copy_file_range(2): the file system may share the blocks. */
int
file_copy(struct img *from, uint64_t off, struct img *im, uint64_t to,
    uint64_t len)
{
	struct file *f = from->priv, *t = im->priv;
	uint64_t end = to + len;
	off_t a = (off_t)off, b = (off_t)to;
	ssize_t k;

	while (len) {
		k = copy_file_range(f->fd, &a, t->fd, &b, len, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (!k)
				errno = ENOTSUP;	/* past the end */
			return -1;
		}
		len -= (uint64_t)k;
	}
	grown(im, end);
	return 0;
}
