/*
 * rawimage.c - a raw disk image: opening, locking, transfers, zeroing, discard.
 *
 * Locking is byte-range locks of the open file description on the bytes qemu
 * uses for the same purpose (100 + n: we do n; 200 + n: nobody else may do n),
 * so that either sees the other.
 *
 * #syscalls preadv2 pwritev fdatasync fallocate
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rawimage.h"

#define ZERO_BYTES	(256u << 10)

static int
lock_byte(int fd, int cmd, short kind, off_t at)
{
	struct flock f = { .l_type = kind, .l_whence = SEEK_SET, .l_start = at,
	    .l_len = 1 };

	if (fcntl(fd, cmd, &f) < 0)
		return -1;
	return cmd == F_OFD_GETLK && f.l_type != F_UNLCK;
}

/* Bits: 0 read, 1 write, 3 resize.  1: somebody else is in the way. */
static int
lock_image(int fd, bool ro, bool share_rw)
{
	unsigned use = ro ? 1 : 3, deny = share_rw ? 8 : 2 | 8, i;
	int r = 0;

	for (i = 0; i < 4 && r == 0; i++) {
		if (use >> i & 1)
			r |= lock_byte(fd, F_OFD_SETLK, F_RDLCK, 100 + i);
		if (deny >> i & 1)
			r |= lock_byte(fd, F_OFD_SETLK, F_RDLCK, 200 + i);
	}
	for (i = 0; i < 4 && r == 0; i++) {
		if (deny >> i & 1)
			r |= lock_byte(fd, F_OFD_GETLK, F_WRLCK, 100 + i);
		if (use >> i & 1)
			r |= lock_byte(fd, F_OFD_GETLK, F_WRLCK, 200 + i);
	}
	if (r < 0 && (errno == EAGAIN || errno == EACCES))
		return 1;
	return r;
}

int
img_open(struct rawimage *m, const char *path, bool ro, enum img_cache cache,
    enum img_locking locking, bool share_rw, char *why, size_t whylen)
{
	int flags = (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
	struct stat st;
	off_t end;
	int sector, r;

	m->path = path;
	m->direct = cache == NONE || cache == DIRECTSYNC;
	m->unsafe = cache == UNSAFE;
	m->ro = ro;
	m->fd = open(path, flags | (m->direct ? O_DIRECT : 0));
	if (m->fd < 0 || fstat(m->fd, &st) < 0) {
		if (errno == EINVAL && m->direct)
			snprintf(why, whylen, "%s: no direct I/O on this file "
			    "system", path);
		else
			snprintf(why, whylen, "%s: %s", path,
			    strerror(errno));
		return -1;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		snprintf(why, whylen, "%s: is neither a file nor a block "
		    "device", path);
		return -1;
	}
	m->align = SECTOR;
	if (S_ISBLK(st.st_mode) && ioctl(m->fd, BLKSSZGET, &sector) == 0 &&
	    sector > 0)
		m->align = (uint32_t)sector;
	end = lseek(m->fd, 0, SEEK_END);
	if (end < 0) {
		snprintf(why, whylen, "%s: %s", path, strerror(errno));
		return -1;
	}
	m->bytes = ((uint64_t)end + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
	r = locking == LOCK_OFF ? 0 : lock_image(m->fd, m->ro, share_rw);
	if (r > 0) {
		snprintf(why, whylen, "%s: locked by another process", path);
		return -1;
	}
	if (r < 0 && locking == LOCK_ON) {
		snprintf(why, whylen, "%s: cannot be locked: %s", path,
		    strerror(errno));
		return -1;
	}
	return 0;
}

void
img_close(struct rawimage *m)
{
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

int
img_sync(const struct rawimage *m)
{
	return !m->unsafe && fdatasync(m->fd) < 0 ? errno : 0;
}

/* preadv/pwritev all of it, whatever the kernel's steps.  0, or errno with *x
 * at the first byte not done.  Reading past the end of a file gives zeros (its
 * last sector may be partial). */
int
img_transfer(const struct rawimage *m, struct xfer *x, bool write,
    int flags)
{
	const struct iovec *iov;
	struct iovec part;
	ssize_t got;
	int n;

	while (x->len) {
		iov = x->iov;
		n = (int)x->n;
		if (x->skip) {
			part.iov_base = (uint8_t *)iov->iov_base + x->skip;
			part.iov_len = iov->iov_len - x->skip;
			iov = &part;
			n = 1;
		}
		got = write ? pwritev(m->fd, iov, n, x->off) :
		    preadv2(m->fd, iov, n, x->off, flags);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno;
		if (got == 0 && write)
			return EIO;
		if (got == 0) {
			memset((uint8_t *)x->iov->iov_base + x->skip, 0,
			    x->iov->iov_len - x->skip);
			got = (ssize_t)(x->iov->iov_len - x->skip);
		}
		x->off += got;
		x->len -= (uint64_t)got;
		x->skip += (size_t)got;
		while (x->n && x->skip >= x->iov->iov_len) {
			x->skip -= x->iov->iov_len;
			x->iov++;
			x->n--;
		}
	}
	return 0;
}

/* One buffer of our own. */
int
img_buf(const struct rawimage *m, void *buf, uint64_t len, off_t off,
    bool write)
{
	struct iovec v = { buf, len };
	struct xfer x = { &v, 1, 0, off, len };

	return img_transfer(m, &x, write, 0);
}

static int
zero_by_writing(const struct rawimage *m, off_t off, uint64_t len)
{
	uint64_t n;
	void *buf;
	int e = 0;

	if (posix_memalign(&buf, 4096, ZERO_BYTES))
		return ENOMEM;
	memset(buf, 0, ZERO_BYTES);
	while (len && e == 0) {
		n = len < ZERO_BYTES ? len : ZERO_BYTES;
		e = img_buf(m, buf, n, off, true);
		off += (off_t)n;
		len -= n;
	}
	free(buf);
	return e;
}

int
img_zero(const struct rawimage *m, off_t off, uint64_t len, bool unmap)
{
	int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

	if (unmap && fallocate(m->fd, hole, off, (off_t)len) == 0)
		return 0;
	if (fallocate(m->fd, zero, off, (off_t)len) == 0)
		return 0;
	return zero_by_writing(m, off, len);
}

int
img_discard(const struct rawimage *m, off_t off, uint64_t len)
{
	int e;

	if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
	    (off_t)len) == 0)
		return 0;
	e = errno;		/* a hint: a file that cannot is no error */
	return e == EOPNOTSUPP || e == ENOSYS || e == EINVAL ? 0 : e;
}
