/*
 * file.c - the file and host_device protocols: a file or block device of the
 * host, read and written in place.  Holes are found with SEEK_DATA/SEEK_HOLE
 * and made with fallocate(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "img.h"

struct file {
	int	fd;
	bool	dev;			/* a block device */
	bool	nozero, nopunch;	/* what fallocate refused before */
	bool	noseek;
	uint32_t dio;			/* O_DIRECT alignment, 0 without */
};

static const char *
plain(const char *name)
{
	return strncmp(name, "file:", 5) ? name : name + 5;
}

static int
file_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct file *f;
	const char *name = opts_get(o, "filename"), *lk;
	struct stat st;
	bool rw = im->flags & IMG_RDWR, locking = true;
	int perm, deny;
	off_t end;

	if (!name || !*name)
		return err_set(e, EINVAL, name ?
		    "The '%s' block driver requires a file name" :
		    "A block device must be specified for \"file\"",
		    im->drv->name);
	if ((lk = opts_get(o, "locking")) && !strcmp(lk, "off"))
		locking = false;
	opts_get(o, "aio");
	opts_get(o, "pr-manager");
	free(im->filename);
	im->filename = strdup(name);
	if (!(f = calloc(1, sizeof(*f))))
		return err_set(e, ENOMEM, "Out of memory");
	f->fd = open(name, O_CLOEXEC | (rw ? O_RDWR : O_RDONLY) |
	    (im->flags & IMG_NOCACHE ? O_DIRECT : 0));
	if (f->fd < 0) {
		err_set(e, errno, errno == EINVAL ?
		    "Could not open '%s': filesystem does not support "
		    "O_DIRECT" : "Could not open '%s': %m", name);
		free(f);
		return -1;
	}
	if (fstat(f->fd, &st))
		goto bad;
	if (S_ISDIR(st.st_mode)) {
		err_set(e, EISDIR, "Could not open '%s': Is a directory", name);
		goto out;
	}
	f->dev = S_ISBLK(st.st_mode);
	if (!strcmp(im->drv->name, "file") && !S_ISREG(st.st_mode) &&
	    !S_ISBLK(st.st_mode)) {
		err_set(e, EINVAL, "'file' driver requires '%s' to be a regular "
		    "file", name);
		goto out;
	}
	if (f->dev) {
		if ((end = lseek(f->fd, 0, SEEK_END)) < 0)
			goto bad;
		im->size = (uint64_t)end;
	} else
		im->size = (uint64_t)st.st_size;
	if (im->flags & IMG_NOCACHE)
		f->dio = 4096;
	if (locking && !(im->flags & (IMG_SHARE | IMG_NOLOCK))) {
		perm = PERM_READ;
		deny = 0;
		if (rw)
			perm |= PERM_WRITE;
		if (im->flags & IMG_FORMAT) {
			deny |= PERM_WRITE | PERM_RESIZE;
			if (rw)
				perm |= PERM_RESIZE;
		} else if (rw && im->flags & IMG_RESIZE)
			perm |= PERM_RESIZE;
		if (lock_file(f->fd, perm, deny, name, e))
			goto out;
	}
	im->zero_init = !f->dev;
	im->priv = f;
	return 0;
bad:
	err_set(e, errno, "Could not open '%s': %m", name);
out:
	close(f->fd);
	free(f);
	return -1;
}

static void
file_close(struct img *im)
{
	struct file *f = im->priv;

	close(f->fd);
	free(f);
}

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

static int
write_all(int fd, const uint8_t *p, size_t n, uint64_t off)
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
		if (fstat(f->fd, &st) || write_all(f->fd, b, hi - lo, lo))
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

static int
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

static int
file_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct file *f = im->priv;
	int r;

	if (!aligned(f, p, n, off))
		r = direct(f, true, (void *)(uintptr_t)p, n, off);
	else
		r = write_all(f->fd, p, n, off);
	if (!r)
		grown(im, off + n);
	return r;
}

static bool
unsup(int e)
{
	return e == EOPNOTSUPP || e == ENOSYS || e == EINVAL || e == ENOTTY ||
	    e == ENODEV;
}

static int
file_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct file *f = im->priv;
	int mode;

	if (f->dev) {
		uint64_t r[2] = { off, len };

		if (!((off | len) & 511) && !f->nozero &&
		    !ioctl(f->fd, BLKZEROOUT, r))
			return 0;
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

static int
file_discard(struct img *im, uint64_t off, uint64_t len)
{
	struct file *f = im->priv;
	uint64_t r[2] = { off, len };

	if (f->dev)
		return ioctl(f->fd, BLKDISCARD, r);
	if (off >= im->size)
		return 0;
	return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	    (off_t)off, (off_t)len);
}

static int
file_flush(struct img *im)
{
	struct file *f = im->priv;

	return fdatasync(f->fd);
}

static int
file_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct file *f = im->priv;
	off_t d, h;

	s->file = im;
	s->map = off;
	s->len = len;
	s->flags = IMG_ALLOC | IMG_MAPPED;
	if (off >= im->size) {
		s->flags |= IMG_ZERO | IMG_EOF;
		return 0;
	}
	if (f->dev || f->noseek) {
		s->flags |= IMG_DATA;
		return 0;
	}
	d = lseek(f->fd, (off_t)off, SEEK_DATA);
	if (d < 0) {
		if (errno != ENXIO) {
			f->noseek = true;
			s->flags |= IMG_DATA;
			return 0;
		}
		/* a hole up to the end of the file */
		s->flags |= IMG_ZERO;
		s->len = umin(len, im->size - off);
		return 0;
	}
	if ((uint64_t)d > off) {
		s->flags |= IMG_ZERO;
		s->len = umin(len, (uint64_t)d - off);
		return 0;
	}
	h = lseek(f->fd, (off_t)off, SEEK_HOLE);
	s->flags |= IMG_DATA;
	if (h > (off_t)off)
		s->len = umin(len, (uint64_t)h - off);
	return 0;
}

static int
fill(int fd, uint64_t from, uint64_t to)
{
	static const uint8_t z[65536];

	for (; from < to; from += umin(to - from, sizeof(z)))
		if (write_all(fd, z, umin(to - from, sizeof(z)), from))
			return -1;
	return fsync(fd);
}

static int
resize(int fd, const char *name, uint64_t old, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	if (size < old && pre != PRE_OFF)
		return err_set(e, ENOTSUP,
		    "Preallocation can't be used for shrinking files");
	switch (pre) {
	case PRE_OFF:
		break;
	case PRE_FALLOC:
		if (size == old)
			return 0;
		errno = posix_fallocate(fd, (off_t)old, (off_t)(size - old));
		if (errno)
			return err_set(e, errno,
			    "Could not preallocate data for the new file: %m");
		return 0;
	case PRE_FULL:
		if (ftruncate(fd, (off_t)size))
			return err_set(e, errno,
			    "Could not resize the file: %m");
		if (fill(fd, old, size))
			return err_set(e, errno, "Could not write zeros for "
			    "preallocation: %m");
		return 0;
	default:
		return err_set(e, ENOTSUP, "Unsupported preallocation mode: %s",
		    prealloc_name[pre]);
	}
	if (ftruncate(fd, (off_t)size))
		return err_set(e, errno, "Failed to resize the file: %m");
	/* QEMU gives an empty file its first block, so that probing for the
	 * alignment of direct I/O works; so do we, for equal sizes */
	if (!old && size) {
		static const uint8_t z[4096];

		if (write_all(fd, z, umin(size, sizeof(z)), 0))
			return err_set(e, errno,
			    "Failed to resize the file: %m");
	}
	return 0;
}

static int
file_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	struct file *f = im->priv;

	if (f->dev) {
		if (size > im->size)
			return err_set(e, EINVAL, "Cannot grow device files");
		return 0;
	}
	if (resize(f->fd, im->filename, im->size, size, pre, e))
		return -1;
	im->size = size;
	return 0;
}

static int64_t
file_allocated(struct img *im)
{
	struct file *f = im->priv;
	struct stat st;

	if (fstat(f->fd, &st))
		return -1;
	return (int64_t)st.st_blocks * 512;
}

int
prealloc_parse(const char *s, const char *key, bool meta, enum prealloc *p,
    struct imgerr *e)
{
	*p = PRE_OFF;
	if (!s)
		return 0;
	for (int i = 0; i < 4; i++)
		if (!strcmp(s, prealloc_name[i]) && (meta || i != PRE_METADATA)) {
			*p = (enum prealloc)i;
			return 0;
		}
	return err_set(e, EINVAL, "Parameter '%s' does not accept value '%s'",
	    key, s);
}

static int
file_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size, hint;
	enum prealloc pre;
	bool nocow;
	int fd, r = -1;

	name = plain(name);
	if (opts_size(o, "size", 0, &size, e) ||
	    opts_bool(o, "nocow", false, &nocow, e) ||
	    opts_size(o, "extent_size_hint", 0, &hint, e) ||
	    prealloc_parse(opts_get(o, "preallocation"), "preallocation", true,
	    &pre, e))
		return -1;
	if (pre == PRE_METADATA)
		return err_set(e, ENOTSUP, "Unsupported preallocation mode: "
		    "metadata");
	size = rup(size, 512);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(e, errno, "Could not create '%s': %m", name);
	/* whoever uses the file now keeps what is in it */
	if (lock_file(fd, PERM_WRITE | PERM_RESIZE, 0, name, e))
		goto out;
	if (ftruncate(fd, 0)) {
		err_set(e, errno, "Could not resize file: %m");
		goto out;
	}
	if (nocow) {
		int attr;

		if (!ioctl(fd, FS_IOC_GETFLAGS, &attr)) {
			attr |= FS_NOCOW_FL;
			ioctl(fd, FS_IOC_SETFLAGS, &attr);
		}
	}
	r = resize(fd, name, 0, size, pre, e);
out:
	close(fd);
	return r;
}

static int
dev_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size;
	off_t end;
	int fd, r = 0;

	if (opts_size(o, "size", 0, &size, e))
		return -1;
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, errno, "Could not open '%s': %m", name);
	end = lseek(fd, 0, SEEK_END);
	if (end < 0 || (uint64_t)end < size)
		r = err_set(e, ENOSPC, "Device is too small");
	close(fd);
	return r;
}

const char *const prealloc_name[4] = { "off", "metadata", "falloc", "full" };

static const struct opt_desc file_opts[] = {
	{ "extent_size_hint", OPT_SIZE,
	    "Extent size hint for the image file, 0 to disable" },
	{ "nocow", OPT_BOOL,
	    "Turn off copy-on-write (valid only on btrfs)" },
	{ "preallocation", OPT_STR,
	    "Preallocation mode (allowed values: off, falloc, full)" },
	{ "size", OPT_SIZE, "Virtual disk size" },
	{ 0 }
};

#define FILE_OPS \
	.protocol = true, .open = file_open, .close = file_close, \
	.pread = file_pread, .pwrite = file_pwrite, .zero = file_zero, \
	.discard = file_discard, .flush = file_flush, .status = file_status, \
	.truncate = file_truncate, .allocated = file_allocated

const struct img_driver drv_file = {
	.name = "file", .opts = file_opts, .create = file_create, FILE_OPS
};
const struct img_driver drv_host_device = {
	.name = "host_device", .create = dev_create, FILE_OPS
};
