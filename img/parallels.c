/*
 * parallels.c - Parallels' expanding disk ("Parallels Expandable Image File
 * Format", little-endian), read only: a header and a table (BAT) of where each
 * cluster is, in sectors or, with the extended magic, in clusters.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img.h"

enum { HEADER = 64, BAT_MAX = 128 << 20, INUSE = 0x746f6e59 };

struct parallels {
	uint64_t	cs, unit;	/* cluster; what the table counts in */
	uint32_t	n;
	uint32_t	*bat;
};

static bool
magic(const uint8_t *b, bool *ext)
{
	*ext = !memcmp(b, "WithouFreSpacExt", 16);
	return (*ext || !memcmp(b, "WithoutFreeSpace", 16)) &&
	    le32(b + 16) == 2;
}

static int
parallels_probe(const uint8_t *b, size_t n, const char *name)
{
	bool ext;

	return n >= HEADER && magic(b, &ext) ? 100 : 0;
}

static int
parallels_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct parallels *p;
	uint8_t h[HEADER];
	uint64_t sectors;
	uint32_t tracks;
	bool ext;

	if (img_pread_backing(im->file, h, HEADER, 0))
		return err_set(e, errno, "Could not read the Parallels header: "
		    "%s", strerror(errno));
	if (!magic(h, &ext))
		return err_set(e, EINVAL, "Image not in Parallels format");
	if (im->flags & IMG_RDWR)
		return err_set(e, EACCES, "Parallels images can only be read");
	tracks = le32(h + 28);
	sectors = ext ? le64(h + 36) : le32(h + 36);
	if (!tracks)
		return err_set(e, EINVAL, "Invalid image: Zero sectors per "
		    "track");
	if (tracks > INT32_MAX / 513)
		return err_set(e, EINVAL, "Invalid image: Too big cluster");
	if (le32(h + 32) > BAT_MAX / 4)
		return err_set(e, EFBIG, "Catalog too large");
	if (sectors > IMG_MAX / 512 || (sectors + tracks - 1) / tracks >
	    le32(h + 32))
		return err_set(e, EINVAL, "Invalid image: the disk is larger "
		    "than its table");
	if (!(p = calloc(1, sizeof(*p))) ||
	    !(p->bat = malloc(le32(h + 32) * 4ull + 1))) {
		free(p);
		return err_set(e, ENOMEM, "Out of memory");
	}
	p->n = le32(h + 32);
	p->cs = tracks * 512ull;
	p->unit = ext ? p->cs : 512;
	if (img_pread_backing(im->file, p->bat, p->n * 4ull, HEADER)) {
		err_set(e, errno, "Could not read the Parallels table: %s",
		    strerror(errno));
		free(p->bat);
		free(p);
		return -1;
	}
	im->size = sectors * 512;
	im->dirty = le32(h + 44) == INUSE;
	im->priv = p;
	return 0;
}

static void
parallels_close(struct img *im)
{
	struct parallels *p = im->priv;

	free(p->bat);
	free(p);
}

/* Where `off` is in the file, 0: nowhere; *len is cut to what lies there in one
 * piece. */
static uint64_t
place(struct img *im, uint64_t off, uint64_t *len)
{
	struct parallels *p = im->priv;
	uint64_t i = off / p->cs, in = off % p->cs, got = p->cs - in;
	uint64_t at = p->bat[i] * p->unit;

	while (got < *len && ++i < p->n && p->bat[i] * p->unit == (at ? at +
	    in + got : 0))
		got += p->cs;
	*len = umin(*len, got);
	return at ? at + in : 0;
}

static int
parallels_pread(struct img *im, void *v, size_t n, uint64_t off)
{
	uint8_t *b = v;
	uint64_t k, at;

	for (; n; n -= k, off += k, b += k) {
		k = n;
		if (!(at = place(im, off, &k)))
			memset(b, 0, k);
		else if (img_pread_backing(im->file, b, k, at))
			return -1;
	}
	return 0;
}

static int
parallels_status(struct img *im, uint64_t off, uint64_t len,
    struct img_status *s)
{
	s->len = len;
	s->map = place(im, off, &s->len);
	if (s->map) {
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED;
		s->file = im->file;
	}
	return 0;
}

/* Clusters in use, those outside the file, and space behind the last one. */
static int
parallels_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct parallels *p = im->priv;
	uint64_t last = 0, at;
	char text[80];

	c->total = p->n;
	c->end = p->cs;		/* of the header, at least */
	for (uint32_t i = 0; i < p->n; i++) {
		if (!(at = p->bat[i] * p->unit)) {
			last = 0;
			continue;
		}
		if (at + p->cs > im->file->size) {
			snprintf(text, sizeof(text), "ERROR cluster %u is "
			    "outside image", i);
			c->say(c->arg, true, text);
			c->corruptions++;
			last = 0;
			continue;
		}
		c->end = umax(c->end, at + p->cs);
		c->allocated++;
		c->fragmented += last && last + p->cs != at;
		last = at;
	}
	if (im->file->size > c->end) {
		at = im->file->size - c->end;
		snprintf(text, sizeof(text), "ERROR space leaked at the end of "
		    "the image %llu", (unsigned long long)at);
		c->say(c->arg, true, text);
		c->leaks += (int64_t)((at + p->cs - 1) / p->cs);
	}
	return 0;
}

const struct img_driver drv_parallels = {
	.name = "parallels", .probe = parallels_probe, .open = parallels_open,
	.close = parallels_close, .pread = parallels_pread,
	.status = parallels_status, .check = parallels_check,
	.backing = true, .terse = true,
};
