/*
 * file.c - the file and host_device protocols: a file or block device of the
 * host: opening and locking it, making it, its size and its holes (SEEK_DATA,
 * SEEK_HOLE).  file-io.c reads and writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

#include "file.h"

static const char *
plain(const char *name)
{
	return strncmp(name, "file:", 5) ? name : name + 5;
}

/* The least that O_DIRECT takes, in memory, offset and length. */
static uint32_t
dio_align(int fd)
{
	uint32_t a = 4096;
	uint8_t *b;

	if (posix_memalign((void **)&b, 4096, 4096))
		return a;
	for (a = 512; a < 4096; a *= 2)
		if (pread(fd, b + a, a, 0) > 0)
			break;
	free(b);
	return a;
}

int
aio_parse(const char *s, struct imgerr *e)
{
	if (!strcmp(s, "native") || !strcmp(s, "io_uring"))
		return err_set(e, ENOTSUP, "aio=%s is not supported, only "
		    "threads", s);
	if (strcmp(s, "threads"))
		return err_set(e, EINVAL, "Parameter 'aio' does not accept "
		    "value '%s'", s);
	return 0;
}

/* What the user of an image does to the file, and what nobody else may. */
static int
lock(struct img *im, int fd, bool must, struct imgerr *e)
{
	bool rw = im->flags & IMG_RDWR;
	int perm = PERM_READ | (rw ? PERM_WRITE : 0), deny = 0, r;

	if (im->flags & IMG_FORMAT)
		deny = PERM_WRITE | PERM_RESIZE;
	if (im->flags & IMG_NOWRITERS)
		deny |= PERM_WRITE;
	if (im->flags & IMG_NORESIZERS)
		deny |= PERM_RESIZE;
	if (rw && im->flags & (IMG_FORMAT | IMG_RESIZE))
		perm |= PERM_RESIZE;
	r = lock_file(fd, perm, deny, im->filename, e);
	if (r > 0 && must)
		return err_set(e, ENOLCK, "'%s' cannot be locked: no locks in "
		    "this file system", im->filename);
	return r < 0 ? -1 : 0;
}

static int
file_options(struct img *im, struct opts *o, const char **lk, struct imgerr *e)
{
	const char *aio = opts_get(o, "aio");

	*lk = opts_get(o, "locking");
	if (*lk && strcmp(*lk, "auto") && strcmp(*lk, "on") &&
	    strcmp(*lk, "off"))
		return err_set(e, EINVAL, "Parameter 'locking' does not accept "
		    "value '%s'", *lk);
	return aio ? aio_parse(aio, e) : 0;
}

static int
file_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct file *f;
	const char *name = opts_get(o, "filename"), *lk;
	struct stat st;
	off_t end;
	int fl;

	if (!name || !*name)
		return err_set(e, EINVAL, name ?
		    "The '%s' block driver requires a file name" :
		    "A block device must be specified for \"file\"",
		    im->drv->name);
	if (file_options(im, o, &lk, e))
		return -1;
	free(im->filename);
	im->filename = strdup(name);
	if (!(f = calloc(1, sizeof(*f))))
		return err_set(e, ENOMEM, "Out of memory");
	fl = O_CLOEXEC | O_NONBLOCK | (im->flags & IMG_NOCACHE ? O_DIRECT : 0);
	f->rw = im->flags & (IMG_RDWR | IMG_LATER);
	f->fd = file_fd(name, fl | (f->rw ? O_RDWR : O_RDONLY));
	if (f->fd < 0 && f->rw && (im->auto_ro || !(im->flags & IMG_RDWR)) &&
	    (errno == EACCES || errno == EROFS || errno == EPERM)) {
		im->flags &= ~IMG_RDWR;
		f->rw = false;
		f->fd = file_fd(name, fl | O_RDONLY);
	}
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
		err_set(e, EISDIR, "'%s' driver requires '%s' to be a regular "
		    "file", im->drv->name, name);
		goto out;
	}
	f->dev = S_ISBLK(st.st_mode);
	if (!S_ISREG(st.st_mode) && !f->dev) {
		err_set(e, EINVAL, "'%s' driver requires '%s' to be a regular "
		    "file", im->drv->name, name);
		goto out;
	}
	if (f->dev) {
		if ((end = lseek(f->fd, 0, SEEK_END)) < 0)
			goto bad;
		im->size = (uint64_t)end;
	} else
		im->size = (uint64_t)st.st_size;
	if (im->flags & IMG_NOCACHE)
		f->dio = dio_align(f->fd);
	f->locking = (!lk || strcmp(lk, "off")) && !(im->flags & (IMG_SHARE |
	    IMG_NOLOCK));
	if (f->locking && lock(im, f->fd, lk && !strcmp(lk, "on"), e))
		goto out;
	im->zero_init = !f->dev;
	pthread_rwlock_init(&f->rmw, NULL);
	im->priv = f;
	return 0;
bad:
	err_set(e, errno, "Could not open '%s': %m", name);
out:
	close(f->fd);
	free(f);
	return -1;
}

static int
file_writable(struct img *im, bool on, struct imgerr *e)
{
	struct file *f = im->priv;
	int perm = PERM_WRITE | PERM_RESIZE;

	if (on && !f->rw)
		return err_set(e, EACCES, "'%s' is read-only", im->filename);
	if (on && f->locking && lock_file(f->fd, perm, 0, im->filename, e) < 0) {
		int eno = errno;

		unlock_file(f->fd, perm);
		errno = eno;
		return -1;
	}
	if (!on && f->locking)
		unlock_file(f->fd, perm);
	return 0;
}

static void
file_close(struct img *im)
{
	struct file *f = im->priv;

	close(f->fd);
	free(f);
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
		if (file_write(fd, z, umin(to - from, sizeof(z)), from))
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

		if (file_write(fd, z, umin(size, sizeof(z)), 0))
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
	fd = file_fd(name, O_RDWR | O_CREAT | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, errno, "Could not create '%s': %m", name);
	/* whoever uses the file now keeps what is in it */
	if (lock_file(fd, PERM_WRITE | PERM_RESIZE, PERM_RESIZE, name, e) < 0)
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
	fd = file_fd(name, O_RDWR | O_CLOEXEC);
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
	{ "extent_size_hint", VAL_SIZE,
	    "Extent size hint for the image file, 0 to disable" },
	{ "nocow", VAL_BOOL,
	    "Turn off copy-on-write (valid only on btrfs)" },
	{ "preallocation", VAL_STR,
	    "Preallocation mode (allowed values: off, falloc, full)" },
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ 0 }
};

#define FILE_OPS \
	.protocol = true, .open = file_open, .close = file_close, \
	.pread = file_pread, .pwrite = file_pwrite, \
	.preadv = file_preadv, .pwritev = file_pwritev, .zero = file_zero, \
	.discard = file_discard, .writable = file_writable, \
	.copy = file_copy, .flush = file_flush, .status = file_status, \
	.truncate = file_truncate, .allocated = file_allocated

const struct img_driver drv_file = {
	.name = "file", .opts = file_opts, .create = file_create, FILE_OPS
};
const struct img_driver drv_host_device = {
	.name = "host_device", .create = dev_create, FILE_OPS
};
