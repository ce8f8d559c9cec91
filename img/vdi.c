/*
 * vdi.c - VirtualBox disk images, version 1.1 (dynamic and static).
 *
 * A header, a map of 32-bit block numbers, blocks of 1 MiB.  The map lives in
 * memory; changed entries are written at a flush, after the data they point
 * to is on disk, so a cut leaves at worst blocks nobody points to.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "img.h"

enum {
	H_TEXT = 0, H_SIG = 0x40, H_VER = 0x44, H_HLEN = 0x48, H_TYPE = 0x4c,
	H_BMAP = 0x154, H_DATA = 0x158, H_SECT = 0x168, H_SIZE = 0x170,
	H_BLK = 0x178, H_EXTRA = 0x17c, H_N = 0x180, H_USED = 0x184,
	H_UUID = 0x188, H_SNAP = 0x198, H_LINK = 0x1a8, H_PARENT = 0x1b8,
	T_DYNAMIC = 1, T_STATIC = 2,
};
#define VDI_SIG		0xbeda107fu
#define NONE		0xffffffffu
#define ZERO		0xfffffffeu
#define VDI_MAXN	0x1fffffffu	/* blocks */

struct vdi {
	pthread_mutex_t	lock;
	uint8_t		h[512];
	uint32_t	*map, n, used, type;
	uint64_t	bs, bmap, data;
	uint32_t	lo, hi;			/* changed: [lo, hi) */
};

static int
vdi_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 512 && le32(b + H_SIG) == VDI_SIG ? 100 : 0;
}

static int
vdi_open(struct img *im, struct opts *o, struct imgerr *e)
{
	static const uint8_t none[16];
	struct vdi *v = calloc(1, sizeof(*v));
	uint8_t *h;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	h = v->h;
	if (img_pread_backing(im->file, h, 512, 0)) {
		err_set(e, errno, "Could not read the VDI header: %s",
		    strerror(errno));
		goto bad;
	}
	if (le32(h + H_SIG) != VDI_SIG) {
		err_set(e, EINVAL, "Image not in VDI format (bad signature %08x)",
		    le32(h + H_SIG));
		goto bad;
	}
	v->n = le32(h + H_N);
	v->used = le32(h + H_USED);
	v->bs = le32(h + H_BLK);
	v->bmap = le32(h + H_BMAP);
	v->data = le32(h + H_DATA);
	v->type = le32(h + H_TYPE);
	im->size = le64(h + H_SIZE);
	if (le32(h + H_VER) != 0x00010001) {
		err_set(e, ENOTSUP, "unsupported VDI image (version %u.%u)",
		    le32(h + H_VER) >> 16, le32(h + H_VER) & 0xffff);
		goto bad;
	}
	if (v->bs != MiB || le32(h + H_SECT) != 512) {
		err_set(e, ENOTSUP, "unsupported VDI image (block size %llu is "
		    "not 1048576 or sector size %u is not 512)",
		    (unsigned long long)v->bs, le32(h + H_SECT));
		goto bad;
	}
	if (v->bmap & 511 || v->data & 511 || v->bmap < 512) {
		err_set(e, ENOTSUP, "unsupported VDI image (unaligned block map "
		    "or data)");
		goto bad;
	}
	if (im->size > (uint64_t)VDI_MAXN * MiB || rup(im->size, MiB) / MiB >
	    v->n || v->n > VDI_MAXN) {
		err_set(e, ENOTSUP, "unsupported VDI image (disk size %llu, "
		    "image bitmap has room for %llu)",
		    (unsigned long long)im->size,
		    (unsigned long long)v->n * MiB);
		goto bad;
	}
	if (memcmp(h + H_LINK, none, 16) || memcmp(h + H_PARENT, none, 16)) {
		err_set(e, ENOTSUP, "unsupported VDI image (non-NULL link or "
		    "parent UUID)");
		goto bad;
	}
	/* a map longer than the file is a lie: no memory for it */
	if (v->bmap + (uint64_t)v->n * 4 > im->file->size) {
		err_set(e, EINVAL, "VDI block map reaches beyond the end of the "
		    "file");
		goto bad;
	}
	v->map = malloc((size_t)v->n * 4 + 4);
	if (!v->map || img_pread_backing(im->file, v->map, (size_t)v->n * 4,
	    v->bmap)) {
		err_set(e, v->map ? errno : ENOMEM, "Could not read the block "
		    "map");
		goto bad;
	}
	pthread_mutex_init(&v->lock, NULL);
	im->size = rup(im->size, 512);
	im->cluster = MiB;
	im->zero_init = v->type != T_STATIC;
	im->priv = v;
	return 0;
bad:
	free(v->map);
	free(v);
	return -1;
}

/* Lock held. */
static int
vdi_sync(struct img *im)
{
	struct vdi *v = im->priv;

	if (!v->hi)
		return 0;
	/* the count first: too high a one only leaks */
	ple32(v->h + H_USED, v->used);
	if (img_pwrite(im->file, v->h, 512, 0, 0) || img_flush(im->file) ||
	    img_pwrite(im->file, v->map + v->lo, (size_t)(v->hi - v->lo) * 4,
	    v->bmap + (uint64_t)v->lo * 4, 0))
		return -1;
	v->lo = v->hi = 0;
	return 0;
}

static int
vdi_flush(struct img *im)
{
	struct vdi *v = im->priv;
	int r;

	pthread_mutex_lock(&v->lock);
	r = vdi_sync(im);
	pthread_mutex_unlock(&v->lock);
	return r ? -1 : img_flush(im->file);
}

static void
vdi_close(struct img *im)
{
	struct vdi *v = im->priv;

	if (im->flags & IMG_RDWR)
		vdi_flush(im);
	pthread_mutex_destroy(&v->lock);
	free(v->map);
	free(v);
}

static uint32_t
entry(struct vdi *v, uint64_t i)
{
	uint32_t e;

	pthread_mutex_lock(&v->lock);
	e = v->map[i];
	pthread_mutex_unlock(&v->lock);
	return e;
}

static int
vdi_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct vdi *v = im->priv;
	uint8_t *b = p;
	size_t k;

	for (; n; n -= k, off += k, b += k) {
		uint32_t e = entry(v, off / v->bs);

		k = umin(n, v->bs - off % v->bs);
		if (e >= ZERO)
			memset(b, 0, k);
		else if (img_pread_backing(im->file, b, k, v->data +
		    e * v->bs + off % v->bs))
			return -1;
	}
	return 0;
}

static int
vdi_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct vdi *v = im->priv;
	const uint8_t *b = p;
	uint8_t *blk = NULL;
	size_t k;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		uint64_t i = off / v->bs, in = off % v->bs;
		uint32_t e = entry(v, i);

		k = umin(n, v->bs - in);
		if (e < ZERO) {
			r = img_pwrite(im->file, b, k, v->data + e * v->bs +
			    in, 0);
			continue;
		}
		pthread_mutex_lock(&v->lock);
		e = v->map[i];
		if (e < ZERO) {
			r = img_pwrite(im->file, b, k, v->data + e * v->bs +
			    in, 0);
		} else if (!blk && !(blk = malloc(v->bs))) {
			errno = ENOMEM;
			r = -1;
		} else {
			memset(blk, 0, v->bs);
			memcpy(blk + in, b, k);
			e = v->used;
			if (e >= VDI_MAXN) {
				errno = EFBIG;
				r = -1;
			} else
				r = img_pwrite(im->file, blk, v->bs, v->data +
				    e * v->bs, 0);
			if (!r) {
				v->used++;
				v->map[i] = e;
				if (!v->hi || i < v->lo)
					v->lo = (uint32_t)i;
				if (i + 1 > v->hi)
					v->hi = (uint32_t)i + 1;
			}
		}
		pthread_mutex_unlock(&v->lock);
	}
	free(blk);
	return r;
}

/* Zeros where there is nothing need nothing. */
static int
vdi_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct vdi *v = im->priv;
	uint64_t k;
	uint8_t *z;

	for (; len; off += k, len -= k) {
		k = umin(len, v->bs - off % v->bs);
		if (entry(v, off / v->bs) >= ZERO)
			continue;
		if (flags & IMG_NOFALLBACK) {
			errno = ENOTSUP;
			return -1;
		}
		if (!(z = calloc(1, k)))
			return -1;
		if (vdi_pwrite(im, z, k, off)) {
			free(z);
			return -1;
		}
		free(z);
	}
	return 0;
}

static int
vdi_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct vdi *v = im->priv;
	uint32_t e = entry(v, off / v->bs);

	s->len = umin(len, v->bs - off % v->bs);
	if (e >= ZERO)
		return 0;
	s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED |
	    (v->type == T_STATIC ? IMG_SUB : 0);
	s->map = v->data + e * v->bs + off % v->bs;
	s->file = im->file;
	return 0;
}

static int
vdi_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct vdi *v = im->priv;
	uint8_t *seen;
	uint32_t n = 0;
	char s[128];

	if (c->fix)
		return err_set(e, ENOTSUP, "Repair is not supported for VDI");
	if (!(seen = calloc(1, v->n / 8 + 1)))
		return err_set(e, ENOMEM, "Out of memory");
	for (uint32_t i = 0; i < v->n; i++) {
		uint32_t b = v->map[i];

		if (b >= ZERO)
			continue;
		n++;
		s[0] = 0;
		if (b >= v->n)
			snprintf(s, sizeof(s), "ERROR: block index %u out of "
			    "range, is %u", i, b);
		else if (seen[b / 8] >> (b % 8) & 1)
			snprintf(s, sizeof(s), "ERROR: block index %u also used "
			    "by %u", b, b);
		else
			seen[b / 8] |= (uint8_t)(1 << b % 8);
		if (*s) {
			c->corruptions++;
			c->say(c->arg, true, s);
		}
	}
	/* QEMU calls any difference an error; blocks counted and not mapped
	 * are what a power cut leaves, and only waste space */
	if (n < v->used)
		c->leaks += v->used - n;
	if (n > v->used) {
		snprintf(s, sizeof(s), "ERROR: allocated blocks mismatch, is "
		    "%u, should be %u", n, v->used);
		c->corruptions++;
		c->say(c->arg, true, s);
	}
	free(seen);
	return 0;
}

static int
vdi_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size, n, data;
	uint8_t h[512] = "<<< QEMU VM Virtual Disk Image >>>\n";
	uint32_t *map = NULL;
	struct img *f = NULL;
	bool fixed;
	int r = -1;

	if (opts_size(o, "size", 0, &size, e) ||
	    opts_bool(o, "static", false, &fixed, e))
		return -1;
	size = rup(size, 512);
	if (size > (uint64_t)VDI_MAXN * MiB)
		return err_set(e, ENOTSUP, "Unsupported VDI image size (size is "
		    "0x%llx, max supported is 0x%llx)",
		    (unsigned long long)size, (unsigned long long)VDI_MAXN *
		    MiB);
	n = rup(size, MiB) / MiB;
	data = 512 + rup(n * 4, 512);
	if (!(f = img_create_file(name, 0, o, e)))
		return -1;
	ple32(h + H_SIG, VDI_SIG);
	ple32(h + H_VER, 0x00010001);
	ple32(h + H_HLEN, 0x180);
	ple32(h + H_TYPE, fixed ? T_STATIC : T_DYNAMIC);
	ple32(h + H_BMAP, 512);
	ple32(h + H_DATA, (uint32_t)data);
	ple32(h + H_SECT, 512);
	ple64(h + H_SIZE, size);
	ple32(h + H_BLK, MiB);
	ple32(h + H_N, (uint32_t)n);
	ple32(h + H_USED, fixed ? (uint32_t)n : 0);
	if (getrandom(h + H_UUID, 32, 0) != 32)
		goto io;
	if (!(map = calloc(data - 512 + 4, 1)))
		goto io;
	for (uint64_t i = 0; i < n; i++)
		map[i] = fixed ? (uint32_t)i : NONE;
	if (img_pwrite(f, h, 512, 0, 0) || (n && img_pwrite(f, map, data - 512,
	    512, 0)))
		goto io;
	if (fixed && img_truncate(f, data + n * MiB, PRE_OFF, e))
		goto out;
	r = 0;
	goto out;
io:
	err_set(e, errno, "Error writing VDI image: %s", strerror(errno));
out:
	free(map);
	img_close(f);
	return r;
}

static const struct opt_desc vdi_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "static", VAL_BOOL, "VDI static (pre-allocated) image", "off" },
	{ 0 }
};

const struct img_driver drv_vdi = {
	.name = "vdi", .late = true, .opts = vdi_opts, .probe = vdi_probe, .open = vdi_open,
	.close = vdi_close, .pread = vdi_pread, .pwrite = vdi_pwrite,
	.zero = vdi_zero, .flush = vdi_flush, .status = vdi_status,
	.create = vdi_create, .check = vdi_check,
};
