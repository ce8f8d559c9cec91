/*
 * vpc.c - Virtual PC disks, dynamic and fixed (Microsoft, "Virtual Hard Disk
 * Image Format Specification" 1.0).
 *
 * Dynamic: footer copy, dynamic header, block allocation table, then blocks,
 * each a bitmap of sectors and the data, and the footer at the end.  A new
 * block is written with the footer behind it; the table entry follows at the
 * next flush, when that is on disk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "img.h"

#define VPC_MAX_SECT	(65535ull * 16 * 255)	/* of the CHS fields */
#define VPC_MAX		(2040ull * GiB)

struct vpc {
	pthread_mutex_t	lock;
	bool		fixed;
	uint8_t		foot[512];
	uint32_t	*bat, n, lo, hi;
	uint64_t	bat_off, bs, bmap, end;	/* end: where the footer is */
};

static int
vpc_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 8 && !memcmp(b, "conectix", 8) ? 100 : 0;
}

static uint32_t
checksum(const uint8_t *b, size_t n, size_t at)
{
	uint32_t s = 0;

	for (size_t i = 0; i < n; i++)
		if (i < at || i >= at + 4)
			s += b[i];
	return ~s;
}

/* The specification's appendix: geometry of a disk of `sect` sectors. */
static int
geometry(uint64_t sect, uint16_t *c, uint8_t *h, uint8_t *s)
{
	uint32_t ct;

	if (sect > VPC_MAX_SECT)
		return -1;
	if (sect >= 65535ull * 16 * 63) {
		*s = 255;
		*h = 16;
		ct = (uint32_t)(sect / *s);
	} else {
		*s = 17;
		ct = (uint32_t)(sect / 17);
		*h = (uint8_t)umax(4, (ct + 1023) / 1024);
		if (ct >= *h * 1024u || *h > 16 || (ct + 1023) / 1024 > 16) {
			*s = 31;
			*h = 16;
			ct = (uint32_t)(sect / 31);
		}
		if (ct >= *h * 1024u) {
			*s = 63;
			*h = 16;
			ct = (uint32_t)(sect / 63);
		}
	}
	*c = (uint16_t)(ct / *h);
	return 0;
}

static bool
exact(const uint8_t *f)
{
	static const char *const app[] = { "win ", "qem2", "d2v ", "tap", "wa",
		"vs  " };

	for (size_t i = 0; i < sizeof(app) / sizeof(app[0]); i++)
		if (!strncmp((const char *)f + 28, app[i], 4))
			return true;
	return false;
}

static int
vpc_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct vpc *v = calloc(1, sizeof(*v));
	uint8_t *f, h[1024];
	const char *force;
	uint64_t chs;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	f = v->foot;
	force = opts_get(o, "force_size_calc");
	if (img_pread_backing(im->file, f, 512, 0))
		goto io;
	if (memcmp(f, "conectix", 8)) {
		if (im->file->size < 512) {
			err_set(e, EIO, "File is too small for a VHD");
			goto bad;
		}
		if (img_pread_backing(im->file, f, 512, im->file->size - 512))
			goto io;
		if (memcmp(f, "conectix", 8)) {
			err_set(e, EINVAL, "invalid VPC image");
			goto bad;
		}
		v->fixed = true;
	}
	if (be32(f + 60) == 2)
		v->fixed = true;
	if (be32(f + 64) != checksum(f, 512, 64)) {
		err_set(e, EINVAL, "Incorrect header checksum");
		goto bad;
	}
	chs = 512ull * be16(f + 56) * f[58] * f[59];
	im->size = chs;
	if (force ? !strcmp(force, "current_size") : exact(f) || chs == 512 *
	    VPC_MAX_SECT)
		im->size = be64(f + 48);
	if (im->size > VPC_MAX) {
		err_set(e, EFBIG, "VHD is too large");
		goto bad;
	}
	im->size = rup(im->size, 512);
	if (!v->fixed) {
		uint64_t at = be64(f + 16);

		if (img_pread_backing(im->file, h, 1024, at))
			goto io;
		if (memcmp(h, "cxsparse", 8)) {
			err_set(e, EINVAL, "invalid VPC image (no dynamic "
			    "header)");
			goto bad;
		}
		v->bs = be32(h + 32);
		v->n = be32(h + 28);
		v->bat_off = be64(h + 16);
		if (v->bs < 512 || v->bs & (v->bs - 1) || v->bs > 256 * MiB) {
			err_set(e, EINVAL, "Invalid block size %llu",
			    (unsigned long long)v->bs);
			goto bad;
		}
		if (be32(f + 60) == 4) {
			err_set(e, ENOTSUP, "Differencing VHDs are not "
			    "supported");
			goto bad;
		}
		if ((uint64_t)v->n * v->bs < im->size) {
			err_set(e, EINVAL, "Page table too small");
			goto bad;
		}
		if (v->bat_off > im->file->size || (uint64_t)v->n * 4 >
		    im->file->size - v->bat_off) {
			err_set(e, EINVAL, "Page table reaches beyond the end "
			    "of the file");
			goto bad;
		}
		v->bmap = rup(v->bs / 512 / 8, 512);
		v->bat = malloc((size_t)v->n * 4 + 4);
		if (!v->bat || img_pread_backing(im->file, v->bat,
		    (size_t)v->n * 4, v->bat_off))
			goto io;
		v->end = rup(v->bat_off + v->n * 4ull, 512);
		for (uint32_t i = 0; i < v->n; i++) {
			v->bat[i] = __builtin_bswap32(v->bat[i]);
			if (v->bat[i] != UINT32_MAX)
				v->end = umax(v->end, v->bat[i] * 512ull +
				    v->bmap + v->bs);
		}
		im->cluster = (uint32_t)v->bs;
	}
	pthread_mutex_init(&v->lock, NULL);
	im->zero_init = true;
	im->priv = v;
	return 0;
io:
	err_set(e, errno, "Could not read the VHD: %s", strerror(errno));
bad:
	free(v->bat);
	free(v);
	return -1;
}

static int
vpc_sync(struct img *im)
{
	struct vpc *v = im->priv;
	uint32_t n = v->hi - v->lo;
	uint8_t *b;
	int r;

	if (!v->hi)
		return 0;
	if (!(b = malloc((size_t)n * 4)))
		return -1;
	for (uint32_t i = 0; i < n; i++)
		pbe32(b + i * 4, v->bat[v->lo + i]);
	r = img_flush(im->file) || img_pwrite(im->file, b, (size_t)n * 4,
	    v->bat_off + v->lo * 4ull, 0) ? -1 : 0;
	free(b);
	if (!r)
		v->lo = v->hi = 0;
	return r;
}

static int
vpc_flush(struct img *im)
{
	struct vpc *v = im->priv;
	int r;

	pthread_mutex_lock(&v->lock);
	r = vpc_sync(im);
	pthread_mutex_unlock(&v->lock);
	return r ? -1 : img_flush(im->file);
}

static void
vpc_close(struct img *im)
{
	struct vpc *v = im->priv;

	if (im->flags & IMG_RDWR)
		vpc_flush(im);
	pthread_mutex_destroy(&v->lock);
	free(v->bat);
	free(v);
}

/* Host offset of the data of block i, or 0. */
static uint64_t
where(struct vpc *v, uint64_t i)
{
	uint32_t b;

	pthread_mutex_lock(&v->lock);
	b = v->bat[i];
	pthread_mutex_unlock(&v->lock);
	return b == UINT32_MAX ? 0 : b * 512ull + v->bmap;
}

static int
vpc_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct vpc *v = im->priv;
	uint8_t *b = p;
	size_t k;

	if (v->fixed)
		return img_pread_backing(im->file, p, n, off);
	for (; n; n -= k, off += k, b += k) {
		uint64_t h = where(v, off / v->bs);

		k = umin(n, v->bs - off % v->bs);
		if (!h)
			memset(b, 0, k);
		else if (img_pread_backing(im->file, b, k, h + off % v->bs))
			return -1;
	}
	return 0;
}

static int
alloc(struct img *im, uint64_t i, const uint8_t *p, size_t n, uint64_t in)
{
	struct vpc *v = im->priv;
	size_t len = v->bmap + v->bs + 512;
	uint8_t *b;
	int r;

	if (v->end / 512 >= UINT32_MAX) {
		errno = EFBIG;
		return -1;
	}
	if (!(b = calloc(1, len))) {
		errno = ENOMEM;
		return -1;
	}
	memset(b, 0xff, v->bmap);
	memcpy(b + v->bmap + in, p, n);
	memcpy(b + len - 512, v->foot, 512);
	r = img_pwrite(im->file, b, len, v->end, 0);
	free(b);
	if (r)
		return -1;
	v->bat[i] = (uint32_t)(v->end / 512);
	v->end += len - 512;
	if (!v->hi || i < v->lo)
		v->lo = (uint32_t)i;
	if (i + 1 > v->hi)
		v->hi = (uint32_t)i + 1;
	return 0;
}

static int
vpc_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct vpc *v = im->priv;
	const uint8_t *b = p;
	size_t k;
	int r = 0;

	if (v->fixed)
		return img_pwrite(im->file, p, n, off, 0);
	for (; n && !r; n -= k, off += k, b += k) {
		uint64_t i = off / v->bs, h = where(v, i);

		k = umin(n, v->bs - off % v->bs);
		if (!h) {
			pthread_mutex_lock(&v->lock);
			if (v->bat[i] != UINT32_MAX)
				h = v->bat[i] * 512ull + v->bmap;
			else
				r = alloc(im, i, b, k, off % v->bs);
			pthread_mutex_unlock(&v->lock);
		}
		if (h && !r)
			r = img_pwrite(im->file, b, k, h + off % v->bs, 0);
	}
	return r;
}

static int
vpc_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct vpc *v = im->priv;
	uint64_t h;

	if (v->fixed) {
		s->len = len;
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED | IMG_SUB;
		s->map = off;
		s->file = im->file;
		return 0;
	}
	h = where(v, off / v->bs);
	s->len = umin(len, v->bs - off % v->bs);
	if (!h)
		return 0;
	s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED;
	s->map = h + off % v->bs;
	s->file = im->file;
	return 0;
}

static int
vpc_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct vpc *v = im->priv;
	uint64_t k;
	uint8_t *z;

	if (v->fixed) {
		errno = ENOTSUP;
		return -1;
	}
	for (; len; off += k, len -= k) {
		k = umin(len, v->bs - off % v->bs);
		k = umin(k, 2 * MiB);
		if (!where(v, off / v->bs))
			continue;
		if (flags & IMG_NOFALLBACK) {
			errno = ENOTSUP;
			return -1;
		}
		if (!(z = calloc(1, k)))
			return -1;
		if (vpc_pwrite(im, z, k, off)) {
			free(z);
			return -1;
		}
		free(z);
	}
	return 0;
}

static int
vpc_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size, want, n;
	const char *sub = opts_get(o, "subformat");
	uint8_t f[512] = "conectix", h[1024] = "cxsparse", *bat = NULL;
	bool force, fixed;
	uint16_t c = 0;
	uint8_t hd = 0, s = 0;
	struct img *im;
	int r = -1;

	if (opts_size(o, "size", 0, &want, e) ||
	    opts_bool(o, "force_size", false, &force, e))
		return -1;
	if (sub && strcmp(sub, "dynamic") && strcmp(sub, "fixed"))
		return err_set(e, EINVAL, "Invalid parameter '%s'", sub);
	fixed = sub && !strcmp(sub, "fixed");
	want = rup(want, 512);
	if (want > VPC_MAX)
		return err_set(e, EFBIG, "Disk size is too large, max size is "
		    "2040 GiB");
	size = want;
	if (force) {
		if (geometry(umin(size / 512, VPC_MAX_SECT), &c, &hd, &s))
			return err_set(e, EFBIG, "Disk is too large");
	} else {
		/* the smallest geometry that holds it */
		uint64_t sect = umin(size / 512, VPC_MAX_SECT), got = 0;

		for (uint64_t i = 0; sect > got; i++) {
			if (geometry(sect + i, &c, &hd, &s))
				break;
			got = (uint64_t)c * hd * s;
		}
		if (size / 512 <= VPC_MAX_SECT && got >= sect)
			size = got * 512;
	}
	if (!(im = img_create_file(name, 0, o, e)))
		return -1;
	pbe32(f + 8, 2);
	pbe32(f + 12, 0x00010000);
	pbe64(f + 16, fixed ? UINT64_MAX : 512);
	pbe32(f + 24, (uint32_t)(time(NULL) - 946684800));
	memcpy(f + 28, force ? "qem2" : "qemu", 4);
	pbe16(f + 32, 5);
	pbe16(f + 34, 3);
	memcpy(f + 36, "Wi2k", 4);
	pbe64(f + 40, size);
	pbe64(f + 48, size);
	pbe16(f + 56, c);
	f[58] = hd;
	f[59] = s;
	pbe32(f + 60, fixed ? 2 : 3);
	if (getrandom(f + 68, 16, 0) != 16)
		goto io;
	pbe32(f + 64, checksum(f, 512, 64));
	if (fixed) {
		if (img_truncate(im, size, PRE_OFF, e))
			goto out;
		if (img_pwrite(im, f, 512, size, 0))
			goto io;
		r = 0;
		goto out;
	}
	n = (size + 2 * MiB - 1) / (2 * MiB);
	pbe64(h + 8, UINT64_MAX);
	pbe64(h + 16, 1536);
	pbe32(h + 24, 0x00010000);
	pbe32(h + 28, (uint32_t)n);
	pbe32(h + 32, 2 * MiB);
	pbe32(h + 36, checksum(h, 1024, 36));
	if (!(bat = malloc(rup(n * 4, 512) + 512)))
		goto io;
	memset(bat, 0xff, rup(n * 4, 512));
	if (img_pwrite(im, f, 512, 0, 0) || img_pwrite(im, h, 1024, 512, 0) ||
	    (n && img_pwrite(im, bat, rup(n * 4, 512), 1536, 0)) ||
	    img_pwrite(im, f, 512, 1536 + rup(n * 4, 512), 0))
		goto io;
	r = 0;
	goto out;
io:
	err_set(e, errno, "Could not write the VHD: %s", strerror(errno));
out:
	free(bat);
	img_close(im);
	return r;
}

static const struct opt_desc vpc_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "subformat", VAL_STR, "Type of virtual hard disk format. Supported "
	    "formats are {dynamic (default) | fixed} " },
	{ "force_size", VAL_BOOL, "Force disk size calculation to use the actual "
	    "size specified, rather than using the nearest CHS-based "
	    "calculation" },
	{ 0 }
};

const struct img_driver drv_vpc = {
	.name = "vpc", .late = true, .opts = vpc_opts, .probe = vpc_probe, .open = vpc_open,
	.close = vpc_close, .pread = vpc_pread, .pwrite = vpc_pwrite,
	.zero = vpc_zero, .flush = vpc_flush, .status = vpc_status,
	.create = vpc_create,
};
