/*
 * dmg.c - Apple disk images (UDIF), read only: UDRO, UDCO, UDZO, UDBZ.  The last
 * 512 bytes ("koly") say where a property list, or in old images a resource
 * fork, is; in it are tables ("mish") of chunks of the disk.  All numbers are
 * big-endian.  Apple has published no specification; hdiutil(1) names the kinds,
 * and the layout is that of the Darwin kernel community's notes ("Demystifying
 * the DMG File Format").
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "chunks.h"

enum { KOLY = 512, MISH = 204, ROW = 40, TABLE_MAX = 64 << 20,
	CHUNKS_MAX = 2 << 20 };

struct dmg {				/* while it is opened */
	struct chunks	*k;
	uint64_t	data;		/* data fork in the file */
	uint64_t	sectors;
};

static int
dmg_probe(const uint8_t *b, size_t n, const char *name)
{
	size_t len = strlen(name);

	return len > 4 && !strcmp(name + len - 4, ".dmg") ? 2 : 0;
}

static int
row(struct dmg *d, const uint8_t *p, uint64_t first, uint64_t base,
    struct imgerr *e)
{
	uint32_t type = be32(p);
	uint64_t at = be64(p + 8), n = be64(p + 16), off = be64(p + 24);
	uint64_t len = be64(p + 32);
	enum chunk_kind kind;

	switch (type) {
	case 0: case 2: kind = CHUNK_ZERO; break;
	case 1: kind = CHUNK_PLAIN; break;
	case 0x80000004: kind = CHUNK_ADC; break;
	case 0x80000005: kind = CHUNK_ZLIB; break;
	case 0x80000006: kind = CHUNK_BZ2; break;
	case 0x7ffffffe: case 0xffffffff: return 0;	/* comment, end */
	default:
		return err_set(e, ENOTSUP, "Chunks of type 0x%08x (lzfse, lzma) "
		    "are not supported", type);
	}
	if (at > IMG_MAX / 512 || first > IMG_MAX / 512 - at ||
	    n > IMG_MAX / 512 - first - at || off > IMG_MAX ||
	    base > IMG_MAX - off || (kind == CHUNK_PLAIN && len < n * 512) ||
	    d->k->n >= CHUNKS_MAX || chunks_add(d->k, kind, (first + at) * 512,
	    n * 512, base + off, kind > CHUNK_PLAIN ? len : 0))
		return err_set(e, EINVAL, "A chunk of the disk is too large");
	return 0;
}

/* A table; other resources are none of ours. */
static int
mish(struct dmg *d, const uint8_t *p, size_t n, struct imgerr *e)
{
	uint64_t first, base;
	uint32_t rows;

	if (n < MISH || memcmp(p, "mish", 4))
		return 0;
	first = be64(p + 8);
	base = be64(p + 24);
	rows = be32(p + 200);
	if (rows > (n - MISH) / ROW)
		return err_set(e, EINVAL, "A table of chunks is cut off");
	if (base > IMG_MAX || d->data > IMG_MAX - base)
		return err_set(e, EINVAL, "A table of chunks is beyond the end "
		    "of the file");
	for (uint32_t i = 0; i < rows; i++)
		if (row(d, p + MISH + (size_t)i * ROW, first, base + d->data,
		    e))
			return -1;
	return 0;
}

/* In place; the bytes that came out. */
static size_t
unbase64(uint8_t *p, size_t n)
{
	static const char tab[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
	    "qrstuvwxyz0123456789+/";
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t w = 0;

	for (size_t i = 0; i < n && p[i] != '='; i++) {
		const char *c = p[i] ? strchr(tab, p[i]) : NULL;

		if (!c)
			continue;
		acc = acc << 6 | (uint32_t)(c - tab);
		if ((bits += 6) >= 8)
			p[w++] = (uint8_t)(acc >> (bits -= 8));
	}
	return w;
}

static int
property_list(struct dmg *d, char *x, struct imgerr *e)
{
	char *end;

	while ((x = strstr(x, "<data>"))) {
		x += 6;
		if (!(end = strstr(x, "</data>")))
			return err_set(e, EINVAL, "The property list is cut "
			    "off");
		if (mish(d, (uint8_t *)x, unbase64((uint8_t *)x, (size_t)(end -
		    x)), e))
			return -1;
		x = end;
	}
	return 0;
}

/* Inside Macintosh, "Resource File Format": where the data is, each with its
 * length in front. */
static int
resources(struct dmg *d, const uint8_t *p, size_t n, struct imgerr *e)
{
	uint64_t at = n >= 16 ? be32(p) : n, end = n >= 16 ? be32(p + 8) : 0;

	for (end = umin(n, at + end); at + 4 <= end; ) {
		uint64_t len = be32(p + at);

		at += 4;
		if (len > end - at)
			return err_set(e, EINVAL, "The resource fork is cut "
			    "off");
		if (mish(d, p + at, len, e))
			return -1;
		at += len;
	}
	return 0;
}

/* One of the two places, at `off` of the file. */
static int
tables(struct img *im, struct dmg *d, uint64_t off, uint64_t n, bool xml,
    struct imgerr *e)
{
	uint8_t *b;
	int r;

	if (n > TABLE_MAX || off > im->file->size || n > im->file->size - off)
		return err_set(e, EINVAL, "The tables of chunks are beyond the "
		    "end of the file");
	if (!(b = malloc(n + 1)))
		return err_set(e, ENOMEM, "Out of memory");
	b[n] = 0;
	if (img_pread_backing(im->file, b, n, off))
		r = err_set(e, errno, "Could not read the tables of chunks: %m");
	else
		r = xml ? property_list(d, (char *)b, e) : resources(d, b, n,
		    e);
	free(b);
	return r;
}

static int
dmg_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct dmg d = { 0 };
	uint64_t size = im->file->size;
	uint8_t h[KOLY];
	int r;

	if (im->flags & IMG_RDWR)
		return err_set(e, EACCES, "dmg images can only be read");
	if (size < KOLY || img_pread(im->file, h, KOLY, size - KOLY) ||
	    memcmp(h, "koly", 4))
		return err_set(e, EINVAL, "Could not locate UDIF trailer in dmg "
		    "file");
	d.data = be64(h + 24);
	d.sectors = be64(h + 492);
	if (d.data > size || d.sectors > IMG_MAX / 512)
		return err_set(e, EINVAL, "The UDIF trailer is corrupt");
	if (!(d.k = chunks_new()))
		return err_set(e, ENOMEM, "Out of memory");
	if (be64(h + 48))
		r = tables(im, &d, be64(h + 40), be64(h + 48), false, e);
	else if (be64(h + 224))
		r = tables(im, &d, be64(h + 216), be64(h + 224), true, e);
	else
		r = err_set(e, EINVAL, "The UDIF trailer names no tables");
	if (r || chunks_ready(d.k, e)) {
		chunks_free(d.k);
		return -1;
	}
	im->size = d.sectors * 512;
	im->priv = d.k;
	return 0;
}

const struct img_driver drv_dmg = {
	.name = "dmg", .terse = true, .probe = dmg_probe, .open = dmg_open,
	.close = chunks_close, .pread = chunks_pread, .status = chunks_status,
};
