/*
 * vmdk-io.c - VMware disks: grains and their tables, read and written.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

#include "vmdk.h"

static int
sync_tables(struct img *im)
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

int
vmdk_flush(struct img *im)
{
	struct vmdk *v = im->priv;
	int r;

	pthread_mutex_lock(&v->lock);
	r = sync_tables(im);
	pthread_mutex_unlock(&v->lock);
	for (int i = 0; !r && i < v->n; i++)
		if (v->x[i].file)
			r = img_flush(v->x[i].file);
	return r ? -1 : img_flush(im->file);
}

static struct ext *
at(struct vmdk *v, uint64_t off)
{
	for (int i = 0; i < v->n; i++)
		if (off < v->x[i].start + v->x[i].size)
			return &v->x[i];
	return NULL;
}

int
vmdk_grain(struct img *im, struct ext *x, uint64_t in, uint32_t *out,
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

int
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
		r = vmdk_grain(im, x, in, &g, &t);
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

int
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
		r = vmdk_grain(im, x, in, &g, &t);
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

int
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
	if (!vmdk_grain(im, x, in, &g, &t) && t && !g) {
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

int
vmdk_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct vmdk *v = im->priv;
	struct gt *t;
	uint64_t k;
	uint32_t g;
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
		r = vmdk_grain(im, x, in, &g, &t);
		if (!r && x->zgte && t && k == x->grain) {
			set(v, x, t, in, 1);
			g = 1;
		}
		pthread_mutex_unlock(&v->lock);
		if (r || (g == 1 && x->zgte) || (!g && !im->backing))
			continue;
		r = img_write_zeros(im, off, k, flags);
	}
	return r;
}

int
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
	r = vmdk_grain(im, x, in, &g, &t);
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
