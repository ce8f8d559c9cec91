/*
 * bochs.c - Bochs' growing disk (Bochs user manual, "Disk Image Modes"; the
 * header is that of its redolog), read only.  A catalog says which extent of the
 * file holds which part of the disk; an extent begins with a bitmap of the
 * sectors that were ever written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "img.h"

enum { HEADER = 512, CATALOG_MAX = 1 << 20, NONE = 0xffffffff };

struct bochs {
	uint32_t	n, extent, bitmap;	/* bytes, whole sectors */
	uint64_t	data;
	uint32_t	*catalog;
};

static bool
magic(const uint8_t *b)
{
	uint32_t v = le32(b + 64);

	return !memcmp(b, "Bochs Virtual HD Image", 23) &&
	    !memcmp(b + 32, "Redolog", 8) && !memcmp(b + 48, "Growing", 8) &&
	    (v == 0x20000 || v == 0x10000);
}

static int
bochs_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= HEADER && magic(b) ? 100 : 0;
}

static int
bochs_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct bochs *p;
	uint8_t h[HEADER];
	uint64_t size;
	uint32_t n, extent, bitmap;

	if (img_pread_backing(im->file, h, HEADER, 0))
		return err_set(e, errno, "Could not read the Bochs header: %s",
		    strerror(errno));
	if (!magic(h))
		return err_set(e, EINVAL, "Image not in Bochs format");
	if (im->flags & IMG_RDWR)
		return err_set(e, EACCES, "Bochs images can only be read");
	n = le32(h + 72);
	bitmap = le32(h + 76);
	extent = le32(h + 80);
	size = le64(h + (le32(h + 64) == 0x10000 ? 84 : 88));
	if (n > CATALOG_MAX)
		return err_set(e, EFBIG, "Catalog size is too large");
	if (extent < 512 || extent > 0x800000 || extent & (extent - 1))
		return err_set(e, EINVAL, "Extent size must be a power of two "
		    "between 512 and 8M");
	if (bitmap > extent || bitmap < (extent / 512 + 7) / 8)
		return err_set(e, EINVAL, "Bitmap size does not fit the "
		    "extent");
	if (size > IMG_MAX || n < (size + extent - 1) / extent)
		return err_set(e, EINVAL, "Catalog size is too small for this "
		    "disk size");
	if (!(p = calloc(1, sizeof(*p))) ||
	    !(p->catalog = malloc(n * 4ull + 1))) {
		free(p);
		return err_set(e, ENOMEM, "Out of memory");
	}
	*p = (struct bochs){ .n = n, .extent = extent,
		.bitmap = (uint32_t)rup(bitmap, 512), .catalog = p->catalog,
		.data = (uint64_t)le32(h + 68) + n * 4ull };
	if (img_pread_backing(im->file, p->catalog, n * 4ull, le32(h + 68))) {
		err_set(e, errno, "Could not read the Bochs catalog: %s",
		    strerror(errno));
		free(p->catalog);
		free(p);
		return -1;
	}
	im->size = rdown(size, 512);
	im->priv = p;
	return 0;
}

static void
bochs_close(struct img *im)
{
	struct bochs *p = im->priv;

	free(p->catalog);
	free(p);
}

/* Where `off` is in the file, *at 0: nowhere, and for how many bytes that goes
 * on, within an extent. */
static int
place(struct img *im, uint64_t off, uint64_t *len, uint64_t *at)
{
	struct bochs *p = im->priv;
	uint64_t in = off % p->extent, first = in / 512, got, base;
	uint32_t w = p->catalog[off / p->extent];
	uint8_t bits[0x800000 / 512 / 8];
	bool set;

	*at = 0;
	*len = umin(*len, p->extent - in);
	if (w == NONE)
		return 0;
	base = p->data + w * ((uint64_t)p->extent + p->bitmap);
	if (img_pread_backing(im->file, bits, (p->extent / 512 + 7) / 8, base))
		return -1;
#define BIT(i)	(bits[(i) / 8] >> (i) % 8 & 1)
	set = BIT(first);
	for (got = 512 - in % 512; got < *len; got += 512)
		if (BIT((in + got) / 512) != set)
			break;
#undef BIT
	*len = umin(*len, got);
	if (set)
		*at = base + p->bitmap + in;
	return 0;
}

static int
bochs_pread(struct img *im, void *v, size_t n, uint64_t off)
{
	uint8_t *b = v;
	uint64_t k, at;

	for (; n; n -= k, off += k, b += k) {
		k = n;
		if (place(im, off, &k, &at))
			return -1;
		if (!at)
			memset(b, 0, k);
		else if (img_pread_backing(im->file, b, k, at))
			return -1;
	}
	return 0;
}

static int
bochs_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	s->len = len;
	if (place(im, off, &s->len, &s->map))
		return -1;
	if (s->map) {
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED;
		s->file = im->file;
	} else
		s->flags = IMG_ZERO | IMG_ALLOC;
	return 0;
}

const struct img_driver drv_bochs = {
	.name = "bochs", .probe = bochs_probe, .open = bochs_open,
	.close = bochs_close, .pread = bochs_pread, .status = bochs_status,
	.terse = true,
};
