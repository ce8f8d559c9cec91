/*
 * vpc.c - Virtual PC disks, dynamic and fixed (Microsoft, "Virtual Hard Disk
 * Image Format Specification" 1.0).
 *
 * Dynamic: footer copy, dynamic header, block allocation table, then blocks,
 * each a bitmap of sectors and the data, and the footer at the end.  A new
 * block is written with the footer behind it; for the table see blockmap.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "blockmap.h"

#define VPC_MAX_SECT	(65535ull * 16 * 255)	/* of the CHS fields */
#define VPC_MAX		(2040ull * GiB)

struct vpc {
	struct blockmap	m;		/* of a dynamic one */
	bool		fixed;
	uint8_t		foot[512];
	uint64_t	bitmap, end;	/* bytes of one; where the footer is */
};

static uint64_t
where(const struct blockmap *m, uint32_t e)
{
	return e == UINT32_MAX ? NOWHERE : e * 512ull +
	    ((const struct vpc *)m)->bitmap;
}

/* With the footer behind it. */
static int
append(struct img *im, const uint8_t *p, size_t n, uint64_t in, uint32_t *e)
{
	struct vpc *v = im->priv;
	size_t len = v->bitmap + v->m.bs + 512;
	uint8_t *b;
	int r;

	if (v->end / 512 >= UINT32_MAX) {
		errno = EFBIG;
		return -1;
	}
	if (!(b = calloc(1, len)))
		return -1;
	memset(b, 0xff, v->bitmap);
	memcpy(b + v->bitmap + in, p, n);
	memcpy(b + len - 512, v->foot, 512);
	r = img_pwrite(im->file, b, len, v->end, 0);
	free(b);
	if (r)
		return -1;
	*e = (uint32_t)(v->end / 512);
	v->end += len - 512;
	return 0;
}

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

/* The dynamic header and the table. */
static int
dynamic(struct img *im, struct vpc *v, struct imgerr *e)
{
	struct blockmap *m = &v->m;
	uint8_t h[1024];

	if (img_pread_backing(im->file, h, 1024, be64(v->foot + 16)))
		return err_set(e, errno, "Could not read the VHD: %s",
		    strerror(errno));
	if (memcmp(h, "cxsparse", 8))
		return err_set(e, EINVAL, "invalid VPC image (no dynamic "
		    "header)");
	*m = (struct blockmap){ .n = be32(h + 28), .bs = be32(h + 32),
		.off = be64(h + 16), .big = true, .where = where,
		.append = append };
	if (m->bs < 512 || m->bs & (m->bs - 1) || m->bs > 256 * MiB)
		return err_set(e, EINVAL, "Invalid block size %llu",
		    (unsigned long long)m->bs);
	if (be32(v->foot + 60) == 4)
		return err_set(e, ENOTSUP, "Differencing VHDs are not "
		    "supported");
	if ((uint64_t)m->n * m->bs < im->size)
		return err_set(e, EINVAL, "Page table too small");
	if (m->off > im->file->size || (uint64_t)m->n * 4 >
	    im->file->size - m->off)
		return err_set(e, EINVAL, "Page table reaches beyond the end "
		    "of the file");
	v->bitmap = rup(m->bs / 512 / 8, 512);
	if (blockmap_open(im, m))
		return err_set(e, errno, "Could not read the VHD: %s",
		    strerror(errno));
	v->end = rup(m->off + m->n * 4ull, 512);
	for (uint32_t i = 0; i < m->n; i++)
		if (where(m, m->map[i]) != NOWHERE)
			v->end = umax(v->end, where(m, m->map[i]) + m->bs);
	im->cluster = (uint32_t)m->bs;
	return 0;
}

static int
vpc_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct vpc *v = calloc(1, sizeof(*v));
	const char *force;
	uint8_t *f;
	uint64_t chs;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	f = v->foot;
	force = opts_get(o, "force_size_calc");
	if (img_pread_backing(im->file, f, 512, 0))
		goto io;
	if (memcmp(f, "conectix", 8)) {
		if (im->file->size < 512) {
			err_set(e, EINVAL, "invalid VPC image");
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
	if (!v->fixed && dynamic(im, v, e))
		goto bad;
	im->zero_init = true;
	im->priv = v;
	return 0;
io:
	err_set(e, errno, "Could not read the VHD: %s", strerror(errno));
bad:
	free(v);
	return -1;
}

static int
vpc_flush(struct img *im)
{
	struct vpc *v = im->priv;

	return v->fixed ? img_flush(im->file) : blockmap_flush(im);
}

static void
vpc_close(struct img *im)
{
	struct vpc *v = im->priv;

	if (!v->fixed)
		blockmap_close(im);
	else if (im->flags & IMG_RDWR)
		img_flush(im->file);
	free(v);
}

static int
vpc_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct vpc *v = im->priv;

	return v->fixed ? img_pread_backing(im->file, p, n, off) :
	    blockmap_pread(im, p, n, off);
}

static int
vpc_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct vpc *v = im->priv;

	return v->fixed ? img_pwrite(im->file, p, n, off, 0) :
	    blockmap_pwrite(im, p, n, off);
}

static int
vpc_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct vpc *v = im->priv;

	if (!v->fixed)
		return blockmap_zero(im, off, len, flags);
	errno = ENOTSUP;
	return -1;
}

static int
vpc_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct vpc *v = im->priv;

	if (!v->fixed)
		return blockmap_status(im, off, len, s);
	s->len = len;
	s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED | IMG_SUB;
	s->map = off;
	s->file = im->file;
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
		return err_set(e, EINVAL, "Parameter 'subformat' does not "
		    "accept value '%s'", sub);
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
	.name = "vpc", .late = true, .opts = vpc_opts, .probe = vpc_probe,
	.open = vpc_open, .close = vpc_close, .pread = vpc_pread, .pwrite = vpc_pwrite,
	.zero = vpc_zero, .flush = vpc_flush, .status = vpc_status,
	.create = vpc_create,
};
