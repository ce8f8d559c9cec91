/*
 * vmdk.c - VMware disks ("Virtual Disk Format 5.0"): hosted sparse extents,
 * flat extents, split in 2 GiB pieces or not, streamOptimized (grains of
 * deflate streams).  The text descriptor names the extents; in a monolithic
 * sparse file it is embedded and the file is its own extent.
 *
 * Changed grain table entries stay in memory until a flush has brought the
 * grains to disk; then both copies of the table are written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

#include "img.h"

enum {
	SECT = 512, DESC_MAX = 64 << 10, NEXT_MAX = 4096, GTES = 512,
	F_RGD = 2, F_ZGTE = 4, F_COMPR = 1 << 16, F_MARK = 1 << 17,
};

struct gt {				/* a grain table in memory */
	uint32_t	e[GTES];
	bool		dirty;
};

struct ext {
	struct img	*file;
	bool		own, flat, zero, compressed, zgte;
	uint64_t	start, size;	/* bytes of the disk */
	uint64_t	off;		/* flat: offset in the file */
	uint64_t	grain, gd_off, rgd_off, end;
	uint32_t	ngd, *gd, *rgd;
	struct gt	**gt;
	char		*name, *type;
};

struct vmdk {
	pthread_mutex_t	lock;
	struct ext	*x;
	int		n;
	char		*desc, type[64];
	uint64_t	desc_off, desc_len;	/* of the embedded one */
	uint32_t	cid, pcid;
	bool		cid_new, any_dirty;
};

static int
vmdk_probe(const uint8_t *b, size_t n, const char *name)
{
	size_t i = 0;

	if (n >= 4 && !memcmp(b, "KDMV", 4))
		return 100;
	/* a descriptor: comments, then version=1..3 */
	while (i < n) {
		if (b[i] == '#' || b[i] == '\n' || b[i] == '\r' || b[i] == ' ')
			while (i < n && b[i] != '\n')
				i++;
		else
			return n - i > 9 && !memcmp(b + i, "version=", 8) &&
			    b[i + 8] >= '1' && b[i + 8] <= '3' ? 100 : 0;
		i++;
	}
	return 0;
}

static const char *
value(const char *desc, const char *key, char *out, size_t n)
{
	const char *p = desc;
	size_t k = strlen(key), i = 0;

	while ((p = strstr(p, key)) && p != desc && p[-1] != '\n')
		p += k;
	if (!p)
		return NULL;
	p += k;
	if (*p == '"')
		p++;
	while (*p && *p != '"' && *p != '\n' && *p != '\r' && i + 1 < n)
		out[i++] = *p++;
	out[i] = 0;
	return out;
}

static int
sparse(struct ext *x, struct imgerr *e, struct vmdk *v, bool top)
{
	uint8_t h[512];
	uint64_t cap, flags, n;
	uint32_t *t;

	if (img_pread_backing(x->file, h, 512, 0))
		return err_set(e, errno, "Could not read header from file '%s'",
		    x->file->filename);
	if (memcmp(h, "KDMV", 4))
		return err_set(e, EINVAL, "Extent '%s' is not a hosted sparse "
		    "extent", x->file->filename);
	/* streams: the real directory is in the footer */
	if (le64(h + 56) == UINT64_MAX && x->file->size > 2048) {
		if (img_pread_backing(x->file, h, 512, x->file->size - 1024) ||
		    memcmp(h, "KDMV", 4))
			return err_set(e, EINVAL, "Invalid footer");
	}
	if (le32(h + 4) > 3)
		return err_set(e, ENOTSUP, "Unsupported VMDK version %u",
		    le32(h + 4));
	flags = le32(h + 8);
	cap = le64(h + 12);
	x->grain = le64(h + 20) * SECT;
	x->compressed = flags & F_COMPR;
	x->zgte = flags & F_ZGTE;
	if (x->compressed && le16(h + 77) != 1)
		return err_set(e, ENOTSUP, "Unsupported compression %u",
		    le16(h + 77));
	if (x->grain < 4096 || x->grain > 4 * MiB || x->grain & (x->grain - 1))
		return err_set(e, EINVAL, "Invalid granularity, image may be "
		    "corrupt");
	if (le32(h + 44) != GTES)
		return err_set(e, EINVAL, "Invalid number of entries in a grain "
		    "table");
	if (cap > IMG_MAX / SECT)
		return err_set(e, EFBIG, "Image is too big");
	x->size = cap * SECT;
	n = (cap * SECT + x->grain * GTES - 1) / (x->grain * GTES);
	x->gd_off = le64(h + 56) * SECT;
	x->rgd_off = flags & F_RGD ? le64(h + 48) * SECT : 0;
	if (n > 64 * MiB / 4 || le64(h + 56) > IMG_MAX / SECT ||
	    x->gd_off + n * 4 > x->file->size || (x->rgd_off &&
	    (le64(h + 48) > IMG_MAX / SECT || x->rgd_off + n * 4 >
	    x->file->size)))
		return err_set(e, EINVAL, "L1 table of '%s' reaches beyond the "
		    "end of the file", x->file->filename);
	x->ngd = (uint32_t)n;
	x->gd = malloc(n * 4 + 4);
	x->rgd = x->rgd_off ? malloc(n * 4 + 4) : NULL;
	x->gt = calloc(n + 1, sizeof(*x->gt));
	if (!x->gd || !x->gt || (x->rgd_off && !x->rgd))
		return err_set(e, ENOMEM, "Out of memory");
	t = x->gd;
	if (img_pread_backing(x->file, t, n * 4, x->gd_off) || (x->rgd &&
	    img_pread_backing(x->file, x->rgd, n * 4, x->rgd_off)))
		return err_set(e, errno, "Could not read the grain directory");
	x->end = rup(x->file->size, SECT);
	if (top) {
		v->desc_off = le64(h + 28) * SECT;
		v->desc_len = le64(h + 36) * SECT;
		if (le64(h + 28) > IMG_MAX / SECT || v->desc_off >
		    x->file->size || v->desc_len > DESC_MAX)
			return err_set(e, EINVAL, "Invalid descriptor");
	}
	return 0;
}

static void
ext_free(struct ext *x)
{
	for (uint32_t i = 0; x->gt && i < x->ngd; i++)
		free(x->gt[i]);
	free(x->gt);
	free(x->gd);
	free(x->rgd);
	free(x->name);
	free(x->type);
	if (x->own)
		img_close(x->file);
}

static void
vmdk_free(struct vmdk *v)
{
	for (int i = 0; i < v->n; i++)
		ext_free(&v->x[i]);
	free(v->x);
	free(v->desc);
	free(v);
}

/* "RW 20480 SPARSE "name" [offset]" lines. */
static int
extents(struct img *im, struct vmdk *v, struct imgerr *e)
{
	const char *p = v->desc;
	char acc[16], type[16], name[512], *path;
	unsigned long long sect, off;
	uint64_t at = 0;
	int k;

	for (; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		struct ext *x;

		off = 0;
		name[0] = 0;
		k = sscanf(p, "%15s %llu %15s \"%511[^\n\r\"]\" %llu", acc,
		    &sect, type, name, &off);
		if (k < 3 || (strcmp(acc, "RW") && strcmp(acc, "RDONLY") &&
		    strcmp(acc, "NOACCESS")))
			continue;
		if (strcmp(acc, "RW"))
			continue;
		if (sect > IMG_MAX / SECT || off > IMG_MAX / SECT ||
		    v->n >= NEXT_MAX)
			return err_set(e, EINVAL, "Invalid extent line: %.64s",
			    p);
		if ((x = realloc(v->x, (size_t)(v->n + 1) * sizeof(*x))) ==
		    NULL)
			return err_set(e, ENOMEM, "Out of memory");
		v->x = x;
		x += v->n++;
		memset(x, 0, sizeof(*x));
		x->type = strdup(type);
		x->start = at;
		x->size = sect * SECT;
		at += x->size;
		if (!strcmp(type, "ZERO")) {
			x->zero = true;
			continue;
		}
		if (k < 4)
			return err_set(e, EINVAL, "Invalid extent line: %.64s",
			    p);
		if (strcmp(type, "FLAT") && strcmp(type, "VMFS") &&
		    strcmp(type, "SPARSE"))
			return err_set(e, ENOTSUP, "Unsupported extent type "
			    "'%s'", type);
		path = img_backing_path(im->filename, name);
		x->name = strdup(path);
		x->file = img_open(path, NULL, NULL, (im->flags &
		    ~(IMG_NOBACKING | IMG_CHECK)) | IMG_ISPROTO | IMG_FORMAT,
		    e);
		free(path);
		if (!x->file)
			return -1;
		x->own = true;
		if (!strcmp(type, "SPARSE")) {
			uint64_t size = x->size;

			if (sparse(x, e, v, false))
				return -1;
			x->size = size;
		} else {
			x->flat = true;
			x->off = off * SECT;
		}
	}
	if (!v->n)
		return err_set(e, EINVAL, "No extents in the descriptor");
	im->size = at;
	return 0;
}

static int
vmdk_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	char b[1024];
	uint8_t m[4];
	uint64_t n;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	v->desc = calloc(1, DESC_MAX + 1);
	if (!v->desc || img_pread_backing(im->file, m, 4, 0)) {
		err_set(e, errno, "Could not read header from file '%s'",
		    im->file->filename);
		goto bad;
	}
	if (!memcmp(m, "KDMV", 4)) {
		if (!(v->x = calloc(1, sizeof(*v->x))))
			goto bad;
		v->n = 1;
		v->x->file = im->file;
		v->x->name = strdup(im->filename);
		v->x->type = strdup("");
		if (sparse(v->x, e, v, true))
			goto bad;
		im->size = v->x->size;
		if (img_pread_backing(im->file, v->desc, v->desc_len,
		    v->desc_off)) {
			err_set(e, errno, "Could not read the descriptor");
			goto bad;
		}
	} else {
		n = umin(im->file->size, DESC_MAX);
		if (img_pread_backing(im->file, v->desc, n, 0)) {
			err_set(e, errno, "Could not read the descriptor");
			goto bad;
		}
		if (!vmdk_probe((uint8_t *)v->desc, n, "")) {
			err_set(e, EINVAL, "Image not in VMDK format");
			goto bad;
		}
		v->desc_len = DESC_MAX;
		if (extents(im, v, e))
			goto bad;
	}
	if (value(v->desc, "createType=", b, sizeof(b)))
		snprintf(v->type, sizeof(v->type), "%.63s", b);
	v->cid = value(v->desc, "CID=", b, sizeof(b)) ? (uint32_t)strtoul(b,
	    NULL, 16) : UINT32_MAX;
	v->pcid = value(v->desc, "parentCID=", b, sizeof(b)) ?
	    (uint32_t)strtoul(b, NULL, 16) : UINT32_MAX;
	if (v->pcid != UINT32_MAX && value(v->desc, "parentFileNameHint=", b,
	    sizeof(b))) {
		im->backing_name = strdup(b);
		im->backing_fmt = strdup("vmdk");
	}
	for (int i = 0; i < v->n; i++)
		if (v->x[i].grain)
			im->cluster = (uint32_t)v->x[i].grain;
	pthread_mutex_init(&v->lock, NULL);
	im->zero_init = true;
	im->only_compressed = v->n == 1 && v->x->compressed;
	im->priv = v;
	return 0;
bad:
	vmdk_free(v);
	return -1;
}

static int
vmdk_sync(struct img *im)
{
	struct vmdk *v = im->priv;

	if (!v->any_dirty)
		return 0;
	for (int i = 0; i < v->n; i++)
		if (v->x[i].file && img_flush(v->x[i].file))
			return -1;
	for (int i = 0; i < v->n; i++) {
		struct ext *x = &v->x[i];

		for (uint32_t k = 0; k < x->ngd; k++) {
			struct gt *t = x->gt[k];

			if (!t || !t->dirty)
				continue;
			if (img_pwrite(x->file, t->e, sizeof(t->e),
			    x->gd[k] * 512ull, 0) || (x->rgd && x->rgd[k] &&
			    img_pwrite(x->file, t->e, sizeof(t->e),
			    x->rgd[k] * 512ull, 0)))
				return -1;
			t->dirty = false;
		}
	}
	v->any_dirty = false;
	return 0;
}

static int
vmdk_flush(struct img *im)
{
	struct vmdk *v = im->priv;
	int r;

	pthread_mutex_lock(&v->lock);
	r = vmdk_sync(im);
	pthread_mutex_unlock(&v->lock);
	for (int i = 0; !r && i < v->n; i++)
		if (v->x[i].file)
			r = img_flush(v->x[i].file);
	return r ? -1 : img_flush(im->file);
}

static void
vmdk_close(struct img *im)
{
	struct vmdk *v = im->priv;

	if (im->flags & IMG_RDWR)
		vmdk_flush(im);
	pthread_mutex_destroy(&v->lock);
	vmdk_free(v);
}

static struct ext *
at(struct vmdk *v, uint64_t off)
{
	for (int i = 0; i < v->n; i++)
		if (off < v->x[i].start + v->x[i].size)
			return &v->x[i];
	return NULL;
}

/* The entry of a grain: 0 none, 1 zeros (if zgte), else its sector. */
static int
grain(struct img *im, struct ext *x, uint64_t in, uint32_t *out,
    struct gt **tp)
{
	uint64_t g = in / x->grain, k = g / GTES;
	struct gt *t;

	*out = 0;
	*tp = NULL;
	if (k >= x->ngd || !x->gd[k])
		return 0;
	if (!(t = x->gt[k])) {
		if (x->gd[k] * 512ull + sizeof(t->e) > rup(x->file->size,
		    SECT)) {
			errno = EIO;
			return -1;
		}
		if (!(t = calloc(1, sizeof(*t))))
			return -1;
		if (img_pread_backing(x->file, t->e, sizeof(t->e),
		    x->gd[k] * 512ull)) {
			free(t);
			return -1;
		}
		x->gt[k] = t;
	}
	*tp = t;
	*out = t->e[g % GTES];
	return 0;
}

static int
inflate_grain(struct ext *x, uint32_t sect, uint8_t *out)
{
	uint8_t m[12], *c;
	uint32_t n;
	uLongf len = x->grain;
	int r = -1;

	if (img_pread_backing(x->file, m, 12, sect * 512ull))
		return -1;
	n = le32(m + 8);
	if (!n || n > 2 * x->grain) {
		errno = EINVAL;
		return -1;
	}
	if (!(c = malloc(n)))
		return -1;
	memset(out, 0, x->grain);
	if (!img_pread_backing(x->file, c, n, sect * 512ull + 12)) {
		if (uncompress(out, &len, c, n) == Z_OK)
			r = 0;
		else
			errno = EINVAL;
	}
	free(c);
	return r;
}

static int
vmdk_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct vmdk *v = im->priv;
	uint8_t *b = p, *tmp;
	struct gt *t;
	uint32_t g;
	size_t k;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		struct ext *x = at(v, off);
		uint64_t in = off - x->start;

		k = umin(n, x->size - in);
		if (x->zero) {
			memset(b, 0, k);
			continue;
		}
		if (x->flat) {
			r = img_pread_backing(x->file, b, k, x->off + in);
			continue;
		}
		k = umin(k, x->grain - in % x->grain);
		pthread_mutex_lock(&v->lock);
		r = grain(im, x, in, &g, &t);
		pthread_mutex_unlock(&v->lock);
		if (r)
			break;
		if (!g)
			r = img_pread_backing(im->backing, b, k, off);
		else if (g == 1 && x->zgte)
			memset(b, 0, k);
		else if (x->compressed) {
			if (!(tmp = malloc(x->grain)))
				return -1;
			r = inflate_grain(x, g, tmp);
			memcpy(b, tmp + in % x->grain, k);
			free(tmp);
		} else
			r = img_pread_backing(x->file, b, k, g * 512ull +
			    in % x->grain);
	}
	return r;
}

/* Written to for the first time since open: a new content id. */
static int
new_cid(struct img *im)
{
	struct vmdk *v = im->priv;
	char *p = v->desc, s[16];
	uint32_t id;

	if (v->cid_new)
		return 0;
	while ((p = strstr(p, "CID=")) && p != v->desc && p[-1] != '\n')
		p += 4;
	if (!p || getrandom(&id, 4, 0) != 4)
		return 0;
	snprintf(s, sizeof(s), "%08x", id);
	/* in place when it has eight digits, as ours and VMware's do */
	if (strspn(p + 4, "0123456789abcdefABCDEF") != 8)
		return 0;
	memcpy(p + 4, s, 8);
	v->cid = id;
	v->cid_new = true;
	return img_pwrite(im->file, s, 8, v->desc_off + (uint64_t)(p + 4 -
	    v->desc), 0);
}

static void
set(struct vmdk *v, struct ext *x, struct gt *t, uint64_t in, uint32_t e)
{
	t->e[in / x->grain % GTES] = e;
	t->dirty = v->any_dirty = true;
}

/* One grain into a new place; lock held. */
static int
alloc(struct img *im, struct ext *x, struct gt *t, const uint8_t *p, size_t n,
    uint64_t off, uint32_t old)
{
	struct vmdk *v = im->priv;
	uint64_t in = off - x->start, o = in % x->grain;
	uint64_t place = rup(x->end, x->grain);
	uint8_t *g;
	int r = -1;

	if (place / 512 > UINT32_MAX) {
		errno = EFBIG;
		return -1;
	}
	if (!(g = calloc(1, x->grain))) {
		errno = ENOMEM;
		return -1;
	}
	if (!old && n < x->grain && img_pread_backing(im->backing, g, x->grain,
	    off - o))
		goto out;
	memcpy(g + o, p, n);
	if (img_pwrite(x->file, g, x->grain, place, 0))
		goto out;
	x->end = place + x->grain;
	set(v, x, t, in, (uint32_t)(place / 512));
	r = 0;
out:
	free(g);
	return r;
}

static int
vmdk_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct vmdk *v = im->priv;
	const uint8_t *b = p;
	struct gt *t;
	uint32_t g;
	size_t k;
	int r;

	pthread_mutex_lock(&v->lock);
	r = new_cid(im);
	pthread_mutex_unlock(&v->lock);
	for (; n && !r; n -= k, off += k, b += k) {
		struct ext *x = at(v, off);
		uint64_t in = off - x->start;

		k = umin(n, x->size - in);
		if (x->zero) {
			errno = EIO;
			return -1;
		}
		if (x->flat) {
			r = img_pwrite(x->file, b, k, x->off + in, 0);
			continue;
		}
		if (x->compressed) {
			errno = EIO;	/* a stream is written once */
			return -1;
		}
		k = umin(k, x->grain - in % x->grain);
		pthread_mutex_lock(&v->lock);
		r = grain(im, x, in, &g, &t);
		if (!r && !t) {
			errno = EIO;	/* no table: not made by this format's
					 * usual writers */
			r = -1;
		}
		if (!r && (!g || (g == 1 && x->zgte))) {
			r = alloc(im, x, t, b, k, off, g);
			g = 0;
		}
		pthread_mutex_unlock(&v->lock);
		if (!r && g)
			r = img_pwrite(x->file, b, k, g * 512ull +
			    in % x->grain, 0);
	}
	return r;
}

static int
vmdk_pwritec(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct vmdk *v = im->priv;
	struct ext *x = at(v, off);
	uint64_t in = off - x->start;
	uint8_t *c, *full = NULL;
	uLongf len;
	struct gt *t;
	uint32_t g;
	int r = -1;

	if (v->n != 1 || !x->compressed) {
		errno = ENOTSUP;
		return -1;
	}
	if (in % x->grain || n > x->grain || (n < x->grain && off + n !=
	    im->size)) {
		errno = EINVAL;
		return -1;
	}
	len = compressBound(x->grain);
	c = calloc(1, 12 + len + SECT);
	if (!c)
		return -1;
	if (n < x->grain) {
		if (!(full = calloc(1, x->grain)))
			goto out;
		memcpy(full, p, n);
		p = full;
	}
	if (compress(c + 12, &len, p, x->grain) != Z_OK) {
		errno = EINVAL;
		goto out;
	}
	ple64(c, off / SECT);
	ple32(c + 8, (uint32_t)len);
	pthread_mutex_lock(&v->lock);
	if (!grain(im, x, in, &g, &t) && t && !g) {
		r = img_pwrite(x->file, c, rup(12 + len, SECT), x->end, 0);
		if (!r) {
			set(v, x, t, in, (uint32_t)(x->end / SECT));
			x->end += rup(12 + len, SECT);
		}
	} else
		errno = EIO;
	pthread_mutex_unlock(&v->lock);
out:
	free(c);
	free(full);
	return r;
}

static int
vmdk_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct vmdk *v = im->priv;
	struct gt *t;
	uint64_t k;
	uint32_t g;
	uint8_t *z;
	int r = 0;

	for (; len && !r; off += k, len -= k) {
		struct ext *x = at(v, off);
		uint64_t in = off - x->start;

		k = umin(len, x->size - in);
		if (x->zero)
			continue;
		if (x->flat) {
			r = img_zero(x->file, x->off + in, k, flags);
			continue;
		}
		k = umin(k, x->grain - in % x->grain);
		pthread_mutex_lock(&v->lock);
		r = grain(im, x, in, &g, &t);
		if (!r && x->zgte && t && k == x->grain) {
			set(v, x, t, in, 1);
			g = 1;
		}
		pthread_mutex_unlock(&v->lock);
		if (r || (g == 1 && x->zgte) || (!g && !im->backing))
			continue;
		if (flags & IMG_NOFALLBACK) {
			errno = ENOTSUP;
			return -1;
		}
		if (!(z = calloc(1, k)))
			return -1;
		r = vmdk_pwrite(im, z, k, off);
		free(z);
	}
	return r;
}

static int
vmdk_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct vmdk *v = im->priv;
	struct ext *x = at(v, off);
	uint64_t in = off - x->start;
	struct gt *t;
	uint32_t g;
	int r;

	s->len = umin(len, x->size - in);
	if (x->zero) {
		s->flags = IMG_ZERO | IMG_ALLOC;
		return 0;
	}
	if (x->flat) {
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED | IMG_SUB;
		s->map = x->off + in;
		s->file = x->file;
		return 0;
	}
	s->len = umin(s->len, x->grain - in % x->grain);
	pthread_mutex_lock(&v->lock);
	r = grain(im, x, in, &g, &t);
	pthread_mutex_unlock(&v->lock);
	if (r || !g)
		return r;
	if (g == 1 && x->zgte) {
		s->flags = IMG_ZERO | IMG_ALLOC;
		return 0;
	}
	s->flags = IMG_DATA | IMG_ALLOC;
	if (x->compressed)
		s->flags |= IMG_COMPRESSED;
	else {
		s->flags |= IMG_MAPPED;
		s->map = g * 512ull + in % x->grain;
		s->file = x->file;
	}
	return 0;
}

static int64_t
vmdk_allocated(struct img *im)
{
	struct vmdk *v = im->priv;
	int64_t n = img_allocated(im->file), k;

	for (int i = 0; i < v->n; i++)
		if (v->x[i].own && (k = img_allocated(v->x[i].file)) > 0)
			n += k;
	return n;
}

static int
vmdk_info(struct img *im, struct js *d)
{
	struct vmdk *v = im->priv;
	struct js *l;

	js_int(d, "cid", v->cid);
	js_int(d, "parent-cid", v->pcid);
	js_str(d, "create-type", v->type);
	l = js_add(d, "extents", js_new(JLIST));
	for (int i = 0; i < v->n; i++) {
		struct ext *x = &v->x[i];
		struct js *o = js_add(l, NULL, js_new(JDICT));

		js_str(o, "filename", x->name ? x->name : "");
		js_str(o, "format", x->type);
		js_int(o, "virtual-size", (int64_t)x->size);
		if (x->compressed)
			js_bool(o, "compressed", true);
		if (x->grain)
			js_int(o, "cluster-size", (int64_t)x->grain);
	}
	return 0;
}

static int
vmdk_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct vmdk *v = im->priv;
	char s[160];

	if (c->fix)
		return err_set(e, ENOTSUP, "Repair is not supported for VMDK");
	for (int i = 0; i < v->n; i++) {
		struct ext *x = &v->x[i];

		if (x->flat || x->zero)
			continue;
		for (uint64_t in = 0; in < x->size; in += x->grain) {
			struct gt *t;
			uint32_t g;

			if (grain(im, x, in, &g, &t)) {
				snprintf(s, sizeof(s), "ERROR: could not get "
				    "the grain table for offset %llu",
				    (unsigned long long)(x->start + in));
				c->say(c->arg, true, s);
				c->corruptions++;
				in += x->grain * (GTES - 1);
				continue;
			}
			if (!t) {	/* a whole table missing */
				in = (in / (x->grain * GTES) + 1) * x->grain *
				    GTES - x->grain;
				continue;
			}
			if (g > 1 && g * 512ull >= x->file->size) {
				snprintf(s, sizeof(s), "ERROR: grain of offset "
				    "%llu is beyond the end of the file",
				    (unsigned long long)(x->start + in));
				c->say(c->arg, true, s);
				c->corruptions++;
			}
		}
	}
	return 0;
}

/* --------------------------------------------------------------- creation */

static int
make_sparse(struct img *f, uint64_t size, bool compressed, bool zgte,
    const char *desc, struct imgerr *e)
{
	uint64_t cap = size / SECT, gts, gds, rgd, gd, first;
	uint8_t h[512] = "KDMV", *b;
	int r = -1;

	gts = (cap + 128 * GTES - 1) / (128 * GTES);
	gds = (gts * 4 + SECT - 1) / SECT;
	rgd = 1 + 20;
	gd = rgd + gds + 4 * gts;
	first = rup(gd + gds + 4 * gts, 128);
	ple32(h + 4, compressed ? 3 : zgte ? 2 : 1);
	ple32(h + 8, 1 | F_RGD | (compressed ? F_COMPR | F_MARK : 0) |
	    (zgte ? F_ZGTE : 0));
	ple64(h + 12, cap);
	ple64(h + 20, 128);
	ple64(h + 28, 1);
	ple64(h + 36, 20);
	ple32(h + 44, GTES);
	ple64(h + 48, rgd);
	ple64(h + 56, gd);
	ple64(h + 64, first);
	memcpy(h + 73, "\n \r\n", 4);
	ple16(h + 77, compressed);
	if (!(b = calloc(1, (gd - rgd) * SECT + 20 * SECT)))
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pwrite(f, h, 512, 0, 0))
		goto io;
	if (desc) {
		if (strlen(desc) > 20 * SECT) {
			err_set(e, EINVAL, "Descriptor is too long");
			goto out;
		}
		memcpy(b, desc, strlen(desc));
		if (img_pwrite(f, b, 20 * SECT, SECT, 0))
			goto io;
		memset(b, 0, 20 * SECT);
	}
	for (int i = 0; i < 2; i++) {
		uint64_t base = i ? gd : rgd;

		for (uint64_t k = 0; k < gts; k++)
			ple32(b + k * 4, (uint32_t)(base + gds + k * 4));
		if (img_pwrite(f, b, gds * SECT, base * SECT, 0))
			goto io;
	}
	if (img_truncate(f, first * SECT, PRE_OFF, e))
		goto out;
	r = 0;
	goto out;
io:
	err_set(e, errno, "Could not write the VMDK: %s", strerror(errno));
out:
	free(b);
	return r;
}

static int
vmdk_create(const char *name, struct opts *o, struct imgerr *e)
{
	static const char *const kinds[] = { "monolithicSparse",
		"monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
		"streamOptimized" };
	static const char *const adapters[] = { "ide", "buslogic", "lsilogic",
		"legacyESX" };
	const char *sub = opts_get(o, "subformat"), *ad, *hw, *tv, *back, *base;
	uint64_t size, left, n;
	bool compat6, zgte, flat, split, ok = false;
	char *desc = NULL, *ext = NULL, hwbuf[64], *path = NULL;
	uint32_t cid, pcid = UINT32_MAX;
	size_t dn, en;
	FILE *f;
	struct img *im;
	int r = -1, kind;

	ad = opts_get(o, "adapter_type");
	hw = opts_get(o, "hwversion");
	tv = opts_get(o, "toolsversion");
	back = opts_get(o, "backing_file");
	opts_get(o, "backing_fmt");
	if (opts_size(o, "size", 0, &size, e) ||
	    opts_bool(o, "compat6", false, &compat6, e) ||
	    opts_bool(o, "zeroed_grain", false, &zgte, e))
		return -1;
	size = rup(size, SECT);
	ad = ad ? ad : "ide";
	for (int i = 0; i < 4; i++)
		ok |= !strcasecmp(ad, adapters[i]);
	if (!ok)
		return err_set(e, EINVAL, "Unknown adapter type: '%s'", ad);
	if (hw && strcmp(hw, "undefined")) {
		if (compat6)
			return err_set(e, EINVAL, "compat6 cannot be enabled "
			    "with hwversion set");
		snprintf(hwbuf, sizeof(hwbuf), "%s", hw);
	} else
		strcpy(hwbuf, compat6 ? "6" : "4");
	for (kind = 0; kind < 5; kind++)
		if (!strcasecmp(sub ? sub : kinds[0], kinds[kind]))
			break;
	if (kind == 5)
		return err_set(e, EINVAL, "Invalid subformat '%s'", sub);
	flat = kind == 1 || kind == 3;
	split = kind == 2 || kind == 3;
	if (flat && back)
		return err_set(e, ENOTSUP, "Flat image can't have backing file");
	if (flat && zgte)
		return err_set(e, ENOTSUP, "Flat image can't enable zeroed "
		    "grain");
	if (back) {
		char *bp = img_backing_path(name, back);
		struct img *b = img_open(bp, NULL, NULL, IMG_NOBACKING, e);

		free(bp);
		if (!b)
			return -1;
		if (strcmp(b->drv->name, "vmdk")) {
			img_close(b);
			return err_set(e, EINVAL, "Invalid backing file format: "
			    "%s. Must be vmdk", b->drv->name);
		}
		pcid = ((struct vmdk *)b->priv)->cid;
		img_close(b);
	}
	if (getrandom(&cid, 4, 0) != 4)
		return -1;
	base = strrchr(name, '/');
	base = base ? base + 1 : name;
	if (!(f = open_memstream(&ext, &en)))
		return -1;
	if (!flat && !split) {
		fprintf(f, "RW %llu SPARSE \"%s\"\n", (unsigned long long)size /
		    SECT, base);
	} else {
		const char *dot = strrchr(base, '.');
		int stem = dot ? (int)(dot - base) : (int)strlen(base), i = 1;

		for (left = size; left || i == 1; left -= n, i++) {
			char fn[600];

			n = split ? umin(left, 2047 * MiB) : left;
			if (split)
				snprintf(fn, sizeof(fn), "%.*s-%c%03d%s", stem,
				    base, flat ? 'f' : 's', i, dot ? dot : "");
			else
				snprintf(fn, sizeof(fn), "%.*s-flat%s", stem,
				    base, dot ? dot : "");
			free(path);
			if (asprintf(&path, "%.*s%s", (int)(base - name), name,
			    fn) < 0)
				path = NULL;
			if (!path || !(im = img_create_file(path, flat ? n : 0,
			    o, e))) {
				fclose(f);
				goto out;
			}
			if (!flat && make_sparse(im, n, false, zgte, NULL, e)) {
				img_close(im);
				fclose(f);
				goto out;
			}
			img_close(im);
			fprintf(f, "RW %llu %s \"%s\"%s\n",
			    (unsigned long long)n / SECT, flat ? "FLAT" :
			    "SPARSE", fn, flat ? " 0" : "");
		}
	}
	fclose(f);
	if (!(f = open_memstream(&desc, &dn)))
		goto out;
	fprintf(f, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\n"
	    "createType=\"%s\"\n", cid, pcid, kinds[kind]);
	if (back)
		fprintf(f, "parentFileNameHint=\"%s\"\n", back);
	n = strcasecmp(ad, "ide") ? 255 : 16;
	fprintf(f, "\n# Extent description\n%s\n# The Disk Data Base\n#DDB\n\n"
	    "ddb.virtualHWVersion = \"%s\"\n"
	    "ddb.geometry.cylinders = \"%llu\"\n"
	    "ddb.geometry.heads = \"%llu\"\n"
	    "ddb.geometry.sectors = \"63\"\n"
	    "ddb.adapterType = \"%s\"\n"
	    "ddb.toolsVersion = \"%s\"\n", ext, hwbuf,
	    (unsigned long long)(size / (63 * n * 512)),
	    (unsigned long long)n, ad, tv ? tv : "2147483647");
	fclose(f);
	if (!(im = img_create_file(name, 0, o, e)))
		goto out;
	if (flat || split)
		r = img_pwrite(im, desc, dn, 0, 0) ? err_set(e, errno,
		    "Could not write the descriptor") : 0;
	else
		r = make_sparse(im, size, kind == 4, zgte, desc, e);
	img_close(im);
out:
	free(path);
	free(ext);
	free(desc);
	return r;
}

static const struct opt_desc vmdk_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "adapter_type", VAL_STR, "Virtual adapter type, can be one of ide "
	    "(default), lsilogic, buslogic or legacyESX" },
	{ "backing_file", VAL_STR, "File name of a base image" },
	{ "backing_fmt", VAL_STR, "Must be 'vmdk' if present" },
	{ "compat6", VAL_BOOL, "VMDK version 6 image", "off" },
	{ "hwversion", VAL_STR, "VMDK hardware version", "undefined" },
	{ "toolsversion", VAL_STR, "VMware guest tools version" },
	{ "subformat", VAL_STR, "VMDK flat extent format, can be one of "
	    "{monolithicSparse (default) | monolithicFlat | "
	    "twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} " },
	{ "zeroed_grain", VAL_BOOL, "Enable efficient zero writes using the "
	    "zeroed-grain GTE feature" },
	{ 0 }
};

const struct img_driver drv_vmdk = {
	.name = "vmdk", .backing = true, .opts = vmdk_opts,
	.probe = vmdk_probe, .open = vmdk_open, .close = vmdk_close,
	.pread = vmdk_pread, .pwrite = vmdk_pwrite, .pwritec = vmdk_pwritec,
	.zero = vmdk_zero, .flush = vmdk_flush, .status = vmdk_status,
	.allocated = vmdk_allocated, .create = vmdk_create, .info = vmdk_info,
	.check = vmdk_check,
};
