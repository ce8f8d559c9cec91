/*
 * raw.c - the raw format (the disk byte for byte, optionally a window of it)
 * and the null-co protocol (a disk of zeros).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img.h"

struct raw {
	uint64_t	off;		/* the window */
	bool		fixed;		/* it has a size */
};

static int
raw_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct raw *r;
	uint64_t off, size, fsize;
	bool sized = opts_peek(o, "size") != NULL;

	fsize = rup(im->file->size, 512);
	if (opts_size(o, "offset", 0, &off, e) ||
	    opts_size(o, "size", 0, &size, e))
		return -1;
	if (off > fsize || (!sized && off > fsize))
		return err_set(e, EINVAL, "Offset (%llu) cannot be greater "
		    "than size of the containing file (%llu)",
		    (unsigned long long)off, (unsigned long long)fsize);
	if (sized && fsize - off < size)
		return err_set(e, EINVAL, "The sum of offset (%llu) and size "
		    "(%llu) has to be smaller or equal to the  actual size of "
		    "the containing file (%llu)", (unsigned long long)off,
		    (unsigned long long)size, (unsigned long long)fsize);
	if (sized && size % 512)
		return err_set(e, EINVAL, "Specified size is not multiple of "
		    "512");
	if (!(r = calloc(1, sizeof(*r))))
		return err_set(e, ENOMEM, "Out of memory");
	r->off = off;
	r->fixed = sized;
	im->priv = r;
	im->size = sized ? size : fsize - off;
	im->zero_init = im->file->zero_init;
	return 0;
}

static void
raw_close(struct img *im)
{
	free(im->priv);
}

static uint64_t
at(struct img *im, uint64_t off)
{
	struct raw *r = im->priv;

	return off + r->off;
}

static int
raw_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	/* the disk ends with a sector, the file perhaps within it */
	return img_pread_backing(im->file, p, n, at(im, off));
}

/* A guessed raw image must not become another format under a guest that writes
 * a header there.  `p` is ours: what is looked at is what is written. */
static int
first_sector(struct img *im, const uint8_t *p, size_t n, uint64_t off)
{
	uint8_t b[512];

	if (raw_pread(im, b, sizeof(b), 0))
		return -1;
	memcpy(b + off, p, n);
	for (int i = 0; i < img_ndrivers; i++)
		if (img_drivers[i]->probe &&
		    img_drivers[i]->probe(b, sizeof(b), im->filename) > 1) {
			errno = EPERM;
			return -1;
		}
	return im->file->drv->pwrite(im->file, p, n, at(im, off));
}

static int
raw_preadv(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	return im->file->drv->preadv(im->file, v, n, at(im, off), flags);
}

static int
raw_pwritev(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	uint8_t b[512], *all;
	uint64_t len = vec_len(v, n), head;
	int r;

	if (!im->probed || off >= 512)
		return im->file->drv->pwritev(im->file, v, n, at(im, off),
		    flags);
	head = umin(len, 512 - off);
	vec_get(v, n, 0, b, head);
	if (first_sector(im, b, head, off))
		return -1;
	if (len == head)
		return 0;
	if (!(all = malloc(len - head)))
		return -1;
	vec_get(v, n, head, all, len - head);
	r = im->file->drv->pwrite(im->file, all, len - head, at(im, off +
	    head));
	free(all);
	return r;
}

static int
raw_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct iovec v = { (void *)(uintptr_t)p, n };

	return raw_pwritev(im, &v, 1, off, 0);
}

static int
raw_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	return im->file->drv->zero(im->file, at(im, off), len, flags);
}

static int
raw_discard(struct img *im, uint64_t off, uint64_t len)
{
	return img_discard(im->file, at(im, off), len);
}

static int
raw_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	int r = im->file->drv->status(im->file, at(im, off), len, s);

	s->flags &= ~(unsigned)IMG_EOF;
	return r;
}

static int
raw_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	struct raw *r = im->priv;

	if (r->fixed)
		return err_set(e, ENOTSUP, "Cannot resize fixed-size raw disks");
	if (size > IMG_MAX - r->off)
		return err_set(e, EINVAL, "Disk size too large for the chosen "
		    "offset");
	if (img_truncate(im->file, size + r->off, pre, e))
		return -1;
	im->size = size;
	return 0;
}

/* A file that is longer than the disk, and says why. */
static int
raw_unfinished(struct img *im, bool on)
{
	static const char text[512] = "\nThis is an unfinished copy of a disk.\n";
	struct raw *r = im->priv;

	if (r->fixed || r->off || strcmp(im->file->drv->name, "file")) {
		errno = ENOTSUP;
		return -1;
	}
	return on ? img_pwrite(im->file, text, sizeof(text), im->size, 0) :
	    img_truncate(im->file, im->size, PRE_OFF, NULL);
}

static int
raw_create(const char *name, struct opts *o, struct imgerr *e)
{
	bool known;
	const struct img_driver *p = img_protocol(name, &known);

	if (!p->create)
		return err_set(e, ENOTSUP, "Driver '%s' does not support image "
		    "creation", p->name);
	return p->create(name, o, e);
}

static int
raw_probe(const uint8_t *b, size_t n, const char *name)
{
	return 1;
}

static int
raw_measure(struct opts *o, struct img *in, struct img_measure *m,
    struct imgerr *e)
{
	uint64_t size;

	if (opts_size(o, "size", 0, &size, e))
		return -1;
	m->required = in ? in->size : rup(size, 512);
	m->full = m->required;
	return 0;
}

static const struct opt_desc raw_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ 0 }
};

const struct img_driver drv_raw = {
	.name = "raw", .late = true, .opts = raw_opts, .probe = raw_probe, .open = raw_open,
	.close = raw_close, .pread = raw_pread, .pwrite = raw_pwrite,
	.place = at, .preadv = raw_preadv, .pwritev = raw_pwritev,
	.zero = raw_zero, .discard = raw_discard, .status = raw_status,
	.truncate = raw_truncate, .create = raw_create, .measure = raw_measure,
	.unfinished = raw_unfinished,
};

/* ----------------------------------------------------------------- null */

static int
null_open(struct img *im, struct opts *o, struct imgerr *e)
{
	uint64_t lat;
	bool rz;

	opts_get(o, "filename");
	if (opts_size(o, "size", 1 << 30, &im->size, e) ||
	    opts_num(o, "latency-ns", 0, &lat, e) ||
	    opts_bool(o, "read-zeroes", false, &rz, e))
		return -1;
	return 0;
}

static int
null_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	memset(p, 0, n);
	return 0;
}

static int
null_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	return 0;
}

static int
null_preadv(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	for (; n; n--, v++)
		memset(v->iov_base, 0, v->iov_len);
	return 0;
}

static int
null_pwritev(struct img *im, const struct iovec *v, unsigned n, uint64_t off,
    int flags)
{
	return 0;
}

static int
null_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	return 0;
}

static int
null_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	s->flags = IMG_ALLOC | IMG_ZERO | IMG_MAPPED;
	s->len = len;
	s->map = off;
	s->file = im;
	return 0;
}

const struct img_driver drv_null = {
	.name = "null-co", .protocol = true, .open = null_open,
	.pread = null_pread, .pwrite = null_pwrite, .preadv = null_preadv,
	.pwritev = null_pwritev, .zero = null_zero,
	.status = null_status,
};
