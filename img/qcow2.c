/*
 * qcow2.c - QEMU's copy-on-write format, versions 2 and 3: header, options,
 * creation, resizing (docs: "qcow2 image file format" in the interop part of
 * QEMU's manual).  How the files share the work: qcow2.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

enum {
	EXT_END = 0, EXT_FMT = 0xe2792aca, EXT_FEAT = 0x6803f857,
	EXT_CRYPT = 0x0537be77, EXT_BITMAP = 0x23852875, EXT_DATA = 0x44415441,
};

static int
q2_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 72 && be32(b) == Q2_MAGIC && be32(b + 4) >= 2 ? 100 : 0;
}

/* ---------------------------------------------------------------- header */

static size_t
put_ext(uint8_t *b, size_t at, size_t cap, uint32_t type, const void *d,
    size_t n)
{
	if (at + 8 + rup(n, 8) > cap)
		return cap + 1;
	pbe32(b + at, type);
	pbe32(b + at + 4, (uint32_t)n);
	memset(b + at + 8, 0, rup(n, 8));
	if (n)
		memcpy(b + at + 8, d, n);
	return at + 8 + rup(n, 8);
}

static size_t
features(uint8_t *f)
{
	static const struct { uint8_t type, bit; const char *name; } tab[] = {
		{ 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" },
		{ 0, 2, "external data file" }, { 0, 3, "compression type" },
		{ 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
		{ 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
	};
	size_t i;

	for (i = 0; i < sizeof(tab) / sizeof(tab[0]); i++) {
		memset(f + i * 48, 0, 48);
		f[i * 48] = tab[i].type;
		f[i * 48 + 1] = tab[i].bit;
		memcpy(f + i * 48 + 2, tab[i].name, strlen(tab[i].name));
	}
	return i * 48;
}

/* The whole first cluster, from what we know. */
int
q2_write_header(struct qcow2 *q, struct imgerr *e)
{
	struct img *im = q->im;
	uint8_t *b = calloc(1, q->cs), f[8 * 48], x[24];
	size_t at, cap = q->cs, n;
	int r = -1;

	if (!b)
		return err_set(e, ENOMEM, "Out of memory");
	pbe32(b, Q2_MAGIC);
	pbe32(b + 4, q->version);
	pbe32(b + 20, q->cbits);
	pbe64(b + 24, q->active_size);
	pbe32(b + 36, q->l1_size);
	pbe64(b + 40, q->l1_off);
	pbe64(b + 48, q->rt_off);
	pbe32(b + 56, q->rt_clusters);
	pbe32(b + 60, q->nsnap);
	pbe64(b + 64, q->snap_off);
	at = 72;
	if (q->version > 2) {
		pbe64(b + 72, q->incompat);
		pbe64(b + 80, q->compat);
		pbe64(b + 88, q->autoclear);
		pbe32(b + 96, q->rorder);
		pbe32(b + 100, 112);
		b[104] = (uint8_t)q->compr;
		at = 112;
	}
	if (im->backing_fmt)
		at = put_ext(b, at, cap, EXT_FMT, im->backing_fmt,
		    strlen(im->backing_fmt));
	if (at <= cap && q->data_name)
		at = put_ext(b, at, cap, EXT_DATA, q->data_name,
		    strlen(q->data_name));
	if (at <= cap && q->version > 2 && q->cs >= 1024) {
		n = features(f);
		at = put_ext(b, at, cap, EXT_FEAT, f, n);
	}
	if (at <= cap && q->nbm) {
		memset(x, 0, sizeof(x));
		pbe32(x, q->nbm);
		pbe64(x + 8, q->bm_size);
		pbe64(x + 16, q->bm_off);
		at = put_ext(b, at, cap, EXT_BITMAP, x, 24);
	}
	for (struct q2ext *p = q->ext; p && at <= cap; p = p->next)
		at = put_ext(b, at, cap, p->type, p->data, p->len);
	if (at <= cap)
		at = put_ext(b, at, cap, EXT_END, NULL, 0);
	n = im->backing_name ? strlen(im->backing_name) : 0;
	if (at > cap || at + n > cap || n > 1023) {
		err_set(e, ENOSPC, "Header does not fit the first cluster");
		goto out;
	}
	if (n) {
		memcpy(b + at, im->backing_name, n);
		pbe64(b + 8, at);
		pbe32(b + 16, (uint32_t)n);
	}
	r = img_pwrite(im->file, b, cap, 0, 0);
	if (r)
		err_set(e, errno, "Could not write qcow2 header: %s",
		    strerror(errno));
out:
	free(b);
	return r;
}

/* Change some bytes of it; what was written before reaches the disk first,
 * and this before what comes after. */
int
q2_header_field(struct qcow2 *q, unsigned at, const void *p, size_t n)
{
	return img_flush(q->im->file) || img_pwrite(q->im->file, p, n, at, 0) ||
	    img_flush(q->im->file) ? -1 : 0;
}

static int
read_ext(struct qcow2 *q, const uint8_t *b, uint64_t end, struct imgerr *e)
{
	uint64_t at = q->hlen;
	struct q2ext *x;
	uint32_t type, len;

	while (at + 8 <= end) {
		const uint8_t *d = b + at + 8;

		type = be32(b + at);
		len = be32(b + at + 4);
		if (type == EXT_END)
			break;
		at += 8;
		if (len > end - at)
			return err_set(e, EINVAL, "Header extension too large");
		switch (type) {
		case EXT_FMT:
			if (len > 15)
				return err_set(e, EINVAL, "ERROR: ext_backing_"
				    "format: len=%u too large (>=16)", len);
			free(q->im->backing_fmt);
			q->im->backing_fmt = strndup((const char *)d, len);
			break;
		case EXT_DATA:
			free(q->data_name);
			q->data_name = strndup((const char *)d, len);
			break;
		case EXT_FEAT:
			break;
		case EXT_BITMAP:
			if (!(q->autoclear & Q2_A_BITMAPS))
				break;
			if (len != 24)
				return err_set(e, EINVAL, "bitmaps_ext: Invalid "
				    "extension length");
			q->nbm = be32(d);
			q->bm_size = be64(d + 8);
			q->bm_off = be64(d + 16);
			if (!q->nbm || q->nbm > Q2_BM_MAX ||
			    q->bm_off & (q->cs - 1) || !q->bm_off ||
			    q->bm_size > Q2_BM_MAX * 2048ull) {
				q->nbm = 0;
				return err_set(e, EINVAL, "bitmaps_ext: invalid "
				    "bitmap directory");
			}
			break;
		default:
			if (!(x = calloc(1, sizeof(*x))) ||
			    !(x->data = malloc(len + 1)))
				return err_set(e, ENOMEM, "Out of memory");
			x->type = type;
			x->len = len;
			memcpy(x->data, d, len);
			x->next = q->ext;
			q->ext = x;
		}
		at += rup(len, 8);
	}
	return 0;
}

static uint64_t *
read_table(struct img *f, uint64_t off, uint32_t n)
{
	uint64_t *t = calloc((size_t)n + 1, 8);

	if (!t || (n && img_pread_backing(f, t, (size_t)n * 8, off))) {
		free(t);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++)
		t[i] = __builtin_bswap64(t[i]);
	return t;
}

static void
q2_free(struct qcow2 *q)
{
	struct q2ext *x;

	q2_cache_free(&q->l2c);
	q2_cache_free(&q->rbc);
	q2_snap_free(q);
	q2_bm_free(q);
	while ((x = q->ext)) {
		q->ext = x->next;
		free(x->data);
		free(x);
	}
	free(q->freed);
	free(q->l1);
	free(q->rt);
	free(q->data_name);
	free(q);
}

static int
parse_header(struct qcow2 *q, const uint8_t *b, struct imgerr *e)
{
	struct img *im = q->im;
	uint64_t l1n;

	if (be32(b) != Q2_MAGIC)
		return err_set(e, EINVAL, "Image is not in qcow2 format");
	q->version = be32(b + 4);
	if (q->version < 2 || q->version > 3)
		return err_set(e, ENOTSUP, "Unsupported qcow2 version %u",
		    q->version);
	q->cbits = be32(b + 20);
	if (q->cbits < 9 || q->cbits > 21)
		return err_set(e, EINVAL, "Unsupported cluster size: 2^%u",
		    q->cbits);
	q->cs = 1ull << q->cbits;
	q->rorder = 4;
	q->hlen = 72;
	if (q->version > 2) {
		q->incompat = be64(b + 72);
		q->compat = be64(b + 80);
		q->autoclear = be64(b + 88);
		q->rorder = be32(b + 96);
		q->hlen = be32(b + 100);
		if (q->hlen < 104)
			return err_set(e, EINVAL, "qcow2 header too short");
		if (q->hlen > q->cs)
			return err_set(e, EINVAL, "qcow2 header exceeds cluster "
			    "size");
		q->compr = q->hlen > 104 ? b[104] : 0;
	}
	if (q->incompat & ~(uint64_t)Q2_I_ALL)
		return err_set(e, ENOTSUP, "Unsupported qcow2 feature(s): "
		    "Unknown incompatible feature: %llx", (unsigned long long)
		    (q->incompat & ~(uint64_t)Q2_I_ALL));
	if (q->compr > 1)
		return err_set(e, ENOTSUP, "qcow2: unknown compression type: "
		    "%u", q->compr);
	if (!q->compr != !(q->incompat & Q2_I_COMPR))
		return err_set(e, EINVAL, q->compr ? "qcow2: Compression type "
		    "incompatible feature bit must be set" : "qcow2: Compression "
		    "type incompatible feature bit must not be set");
	if (q->incompat & Q2_I_CORRUPT && im->flags & IMG_RDWR &&
	    !(im->flags & IMG_CHECK))
		return err_set(e, EACCES, "qcow2: Image is corrupt; cannot be "
		    "opened read/write");
	if (q->rorder > 6)
		return err_set(e, EINVAL, "Reference count entry width too "
		    "large; may not exceed 64 bits");
	if (be32(b + 32))
		return err_set(e, ENOTSUP, "qcow2 encryption method %u is not "
		    "implemented", be32(b + 32));
	q->nsub = q->incompat & Q2_I_EXTL2 ? 32 : 1;
	if (q->nsub > 1 && q->cbits < 14)
		return err_set(e, EINVAL, "Extended L2 entries need clusters of "
		    "at least 16 KiB");
	q->scs = q->cs / q->nsub;
	q->l2e = q->nsub > 1 ? 16 : 8;
	q->l2bits = q->cbits - (q->nsub > 1 ? 4 : 3);
	q->rb_n = q->cs * 8 >> q->rorder;
	q->rmax = q->rorder == 6 ? UINT64_MAX : (1ull << (1u << q->rorder)) - 1;
	q->active_size = be64(b + 24);
	if (q->active_size > IMG_MAX)
		return err_set(e, EFBIG, "Image is too big");
	q->l1_size = be32(b + 36);
	q->l1_off = be64(b + 40);
	q->rt_off = be64(b + 48);
	q->rt_clusters = be32(b + 56);
	q->nsnap = be32(b + 60);
	q->snap_off = be64(b + 64);
	if (!q->rt_clusters && !(im->flags & IMG_CHECK))
		return err_set(e, EINVAL, "Image does not contain a reference "
		    "count table");
	if ((uint64_t)q->rt_clusters * q->cs > Q2_RT_MAX)
		return err_set(e, EINVAL, "Reference count table too large");
	if (q->rt_off & (q->cs - 1) || q->rt_off > Q2_OFFS)
		return err_set(e, EINVAL, "Reference count table offset "
		    "invalid");
	if (q->nsnap > Q2_SNAP_MAX)
		return err_set(e, EINVAL, "Snapshot table too large");
	if (q->nsnap && (q->snap_off & (q->cs - 1) || q->snap_off > Q2_OFFS))
		return err_set(e, EINVAL, "Snapshot table offset invalid");
	if ((uint64_t)q->l1_size * 8 > Q2_L1_MAX)
		return err_set(e, EFBIG, "Active L1 table too large");
	if (q->l1_off & (q->cs - 1) || q->l1_off > Q2_OFFS)
		return err_set(e, EINVAL, "Active L1 table offset invalid");
	l1n = (q->active_size + (q->cs << q->l2bits) - 1) >>
	    (q->cbits + q->l2bits);
	if (l1n > q->l1_size)
		return err_set(e, EINVAL, "L1 table is too small");
	return 0;
}

static void
cache_sizes(struct qcow2 *q, uint64_t l2)
{
	/* all of it where that fits, as many as the disk can need */
	uint64_t need = (q->active_size >> (q->cbits + q->l2bits)) + 2;

	q2_cache_init(&q->l2c, (unsigned)umax(8, umin(need, l2 / q->cs)));
	q2_cache_init(&q->rbc, (unsigned)umax(8, 8 * MiB / q->cs));
}

static int
q2_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	uint64_t back, l2size;
	uint32_t blen;
	uint8_t *b = malloc(2 << 20);
	static const char *const ignored[] = {
		"pass-discard-request", "pass-discard-snapshot",
		"pass-discard-other", "overlap-check", "refcount-cache-size",
		"cache-clean-interval", "l2-cache-entry-size", "cache-size",
		"overlap-check.template",
	};
	bool lazy;

	if (!q || !b) {
		err_set(e, ENOMEM, "Out of memory");
		goto bad0;
	}
	q->im = im;
	if (img_pread_backing(im->file, b, 512, 0)) {
		err_set(e, errno, "Could not read qcow2 header: %s",
		    strerror(errno));
		goto bad;
	}
	if (parse_header(q, b, e))
		goto bad;
	if (img_pread_backing(im->file, b, q->cs, 0)) {
		err_set(e, errno, "Could not read qcow2 header: %s",
		    strerror(errno));
		goto bad;
	}
	back = be64(b + 8);
	blen = be32(b + 16);
	if (back > q->cs) {
		err_set(e, EINVAL, "Invalid backing file offset");
		goto bad;
	}
	if (read_ext(q, b, back ? back : q->cs, e))
		goto bad;
	if (back) {
		if (blen > 1023 || blen > q->cs - back) {
			err_set(e, EINVAL, "Backing file name too long");
			goto bad;
		}
		if (blen)
			im->backing_name = strndup((char *)b + back, blen);
		q->back_off = back;
	}
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		opts_get(o, ignored[i]);
	if (opts_size(o, "l2-cache-size", 32 * MiB, &l2size, e) ||
	    opts_bool(o, "lazy-refcounts", q->compat & Q2_C_LAZY, &lazy, e))
		goto bad;
	cache_sizes(q, l2size);
	q->rt_size = (uint32_t)(q->rt_clusters * q->cs / 8);
	q->rt = read_table(im->file, q->rt_off, q->rt_size);
	q->l1 = read_table(im->file, q->l1_off, q->l1_size);
	if (!q->rt || !q->l1) {
		err_set(e, errno, "Could not read %s table: %s", q->rt ? "L1" :
		    "refcount", strerror(errno));
		goto bad;
	}
	if (q->nsnap && q2_snap_read(q, q->snap_off, q->nsnap, e))
		goto bad;
	if (q->incompat & Q2_I_DATAFILE) {
		char *path = q->data_name ? img_backing_path(im->filename,
		    q->data_name) : NULL;

		im->data = img_open_child(im, o, "data-file", path, true,
		    im->flags & ~(IMG_NOBACKING | IMG_CHECK), e);
		free(path);
		if (!im->data)
			goto bad;
	}
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->cond, NULL);
	im->priv = q;
	im->size = q->active_size;
	im->vmstate_off = rup(im->size, q->cs << q->l2bits);
	im->cluster = (uint32_t)q->cs;
	im->align = (uint32_t)q->scs;
	im->zero_init = true;
	im->dirty = q->incompat & Q2_I_DIRTY;
	q->dirty_marked = im->dirty;
	/* a file with many holes: clusters were made ahead, ask it */
	q->holes = !im->data && img_allocated(im->file) >= 0 &&
	    (uint64_t)img_allocated(im->file) + 16 * q->cs < im->file->size;
	if (q->nbm && q2_bm_read(q, e))
		goto bad1;
	if (q->incompat & Q2_I_DIRTY && im->flags & IMG_RDWR &&
	    !(im->flags & IMG_CHECK)) {
		struct img_check c = { .fix = 2, .quiet = true };

		if (q2_check(im, &c, e))
			goto bad1;
		im->dirty = false;
	}
	free(b);
	return 0;
bad1:
	im->priv = NULL;
bad:
	q2_free(q);
	free(b);
	return -1;
bad0:
	free(q);
	free(b);
	return -1;
}

static void
q2_close(struct img *im)
{
	struct qcow2 *q = im->priv;
	uint8_t b[8];

	if (!q)
		return;
	if (im->flags & IMG_RDWR && !q->loaded_snap) {
		pthread_mutex_lock(&q->lock);
		if (!q2_bm_store(q) && !q2_sync(q, false) && q->dirty_marked &&
		    q->compat & Q2_C_LAZY) {
			pbe64(b, q->incompat & ~(uint64_t)Q2_I_DIRTY);
			q2_header_field(q, 72, b, 8);
		}
		pthread_mutex_unlock(&q->lock);
	}
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->cond);
	q2_free(q);
	im->priv = NULL;
}

static int
q2_flush(struct img *im)
{
	struct qcow2 *q = im->priv;
	int r;

	/* most of the waiting is for data: not under the lock */
	if (img_flush(im->file))
		return -1;
	pthread_mutex_lock(&q->lock);
	r = q2_sync(q, false);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* -------------------------------------------------------------- resizing */

int
q2_l1_grow(struct qcow2 *q, uint64_t n)
{
	uint64_t off, old = q->l1_off, oldn = q->l1_size, *l1;
	uint8_t *b, h[12];
	int r = -1;

	if (n <= q->l1_size)
		return 0;
	if (n * 8 > Q2_L1_MAX) {
		errno = EFBIG;
		return -1;
	}
	l1 = calloc(n, 8);
	b = calloc(n, 8);
	if (!l1 || !b) {
		errno = ENOMEM;
		goto out;
	}
	off = q2_alloc(q, (n * 8 + q->cs - 1) / q->cs);
	if (!off || q2_sync(q, true))
		goto out;
	memcpy(l1, q->l1, (size_t)oldn * 8);
	for (uint64_t i = 0; i < n; i++)
		pbe64(b + i * 8, l1[i]);
	if (img_pwrite(q->im->file, b, n * 8, off, 0))
		goto out;
	pbe32(h, (uint32_t)n);
	pbe64(h + 4, off);
	if (q2_header_field(q, 36, h, 12))
		goto out;
	free(q->l1);
	q->l1 = l1;
	l1 = NULL;
	q->l1_size = (uint32_t)n;
	q->l1_off = off;
	if (oldn)
		q2_unref(q, old, (oldn * 8 + q->cs - 1) / q->cs);
	r = 0;
out:
	free(l1);
	free(b);
	return r;
}

static int
q2_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	uint64_t old = im->size, n, end;
	uint8_t b[8];
	int r = -1;

	if (size & 511)
		return err_set(e, EINVAL, "The new size must be a multiple of "
		    "512");
	if (q->nsnap && q->version < 3)
		return err_set(e, ENOTSUP, "Can't resize a v2 image which has "
		    "snapshots");
	if (size < old && pre != PRE_OFF)
		return err_set(e, EINVAL, "Preallocation can't be used for "
		    "shrinking an image");
	if (size < old) {
		uint64_t from = rup(size, q->cs);

		if (from < old && q2_unmap(im, from, old - from, true))
			return err_set(e, errno, "Failed to discard cropped "
			    "clusters: %s", strerror(errno));
	}
	pthread_mutex_lock(&q->lock);
	n = (size + (q->cs << q->l2bits) - 1) >> (q->cbits + q->l2bits);
	if (q2_l1_grow(q, n)) {
		err_set(e, errno, "Failed to grow the L1 table: %s",
		    strerror(errno));
		goto out;
	}
	q->l2c.max = (unsigned)umax(q->l2c.max, umin(n + 2, 32 * MiB / q->cs));
	if (q->nbm && q2_bm_resize(q, size)) {
		err_set(e, errno, "Failed to resize the bitmaps: %s",
		    strerror(errno));
		goto out;
	}
	if (im->data && size > old && im->data->size < size &&
	    (q->autoclear & Q2_A_RAWDATA || pre != PRE_OFF) &&
	    img_truncate(im->data, size, pre == PRE_METADATA ? PRE_OFF : pre,
	    e))
		goto out;
	if (q2_sync(q, true)) {
		err_set(e, errno, "Failed to flush: %s", strerror(errno));
		goto out;
	}
	pbe64(b, size);
	if (q2_header_field(q, 24, b, 8)) {
		err_set(e, errno, "Failed to update the image size: %s",
		    strerror(errno));
		goto out;
	}
	q->active_size = im->size = size;
	im->vmstate_off = rup(size, q->cs << q->l2bits);
	if (pre != PRE_OFF && size > old && q2_preallocate(q, rdown(old,
	    q->cs), size, pre, e))
		goto out;
	r = 0;
out:
	pthread_mutex_unlock(&q->lock);
	if (r)
		return -1;
	/* what was cut off once, or what a longer backing image has there,
	 * must not show */
	end = umin(size, rup(old, q->cs));
	if (im->backing && im->backing->size > old)
		end = umax(end, umin(size, im->backing->size));
	if (size > old && old && end > old && img_zero(im, old, end - old, 0))
		return err_set(e, errno, "Failed to zero out the new area: %s",
		    strerror(errno));
	return 0;
}

/* -------------------------------------------------------------- creation */

static const struct opt_desc q2_opts[] = {
	{ "backing_file", VAL_STR, "File name of a base image", NULL, true },
	{ "backing_fmt", VAL_STR, "Image format of the base image", NULL,
	    true },
	{ "cluster_size", VAL_SIZE, "qcow2 cluster size", "65536" },
	{ "compat", VAL_STR, "Compatibility level (v2 [0.10] or v3 [1.1])",
	    NULL, true },
	{ "compression_type", VAL_STR,
	    "Compression method used for image cluster compression", "zlib" },
	{ "data_file", VAL_STR, "File name of an external data file", NULL,
	    true },
	{ "data_file_raw", VAL_BOOL,
	    "The external data file must stay valid as a raw image", NULL,
	    true },
	{ "encrypt.cipher-alg", VAL_STR, "Name of encryption cipher algorithm" },
	{ "encrypt.cipher-mode", VAL_STR, "Name of encryption cipher mode" },
	{ "encrypt.format", VAL_STR,
	    "Encrypt the image, format choices: 'aes', 'luks'" },
	{ "encrypt.hash-alg", VAL_STR, "Name of encryption hash algorithm" },
	{ "encrypt.iter-time", VAL_NUM, "Time to spend in PBKDF in milliseconds",
	    NULL, true },
	{ "encrypt.keyslot", VAL_NUM,
	    "Select a single keyslot to modify explicitly", NULL, true, true },
	{ "encrypt.new-secret", VAL_STR, "New secret to set in the matching "
	    "keyslots. Empty string to erase", NULL, true, true },
	{ "encrypt.old-secret", VAL_STR,
	    "Select all keyslots that match this password", NULL, true, true },
	{ "encrypt.state", VAL_STR, "Select new state of affected keyslots "
	    "(active/inactive)", NULL, true, true },
	{ "encrypt.ivgen-alg", VAL_STR, "Name of IV generator algorithm" },
	{ "encrypt.ivgen-hash-alg", VAL_STR,
	    "Name of IV generator hash algorithm" },
	{ "encrypt.key-secret", VAL_STR,
	    "ID of secret providing qcow AES key or LUKS passphrase" },
	{ "encryption", VAL_BOOL, "Encrypt the image with format 'aes'. "
	    "(Deprecated in favor of encrypt.format=aes)" },
	{ "extended_l2", VAL_BOOL, "Extended L2 tables", "off" },
	{ "lazy_refcounts", VAL_BOOL, "Postpone refcount updates", "off",
	    true },
	{ "preallocation", VAL_STR, "Preallocation mode (allowed values: off, "
	    "metadata, falloc, full)" },
	{ "refcount_bits", VAL_NUM,
	    "Width of a reference count entry in bits", "16", true },
	{ "size", VAL_SIZE, "Virtual disk size", NULL, true },
	{ 0 }
};

struct layout {
	uint64_t	size, cs, rbits, compr;
	unsigned	version;
	bool		lazy, extl2, raw_data;
	enum prealloc	pre;
	const char	*back, *bfmt, *data;
};

static int
layout(struct opts *o, struct layout *l, bool check, struct imgerr *e)
{
	const char *s;
	bool crypt;

	if (opts_size(o, "size", 0, &l->size, e) ||
	    opts_size(o, "cluster_size", 65536, &l->cs, e) ||
	    opts_num(o, "refcount_bits", 16, &l->rbits, e) ||
	    opts_bool(o, "lazy_refcounts", false, &l->lazy, e) ||
	    opts_bool(o, "extended_l2", false, &l->extl2, e) ||
	    opts_bool(o, "data_file_raw", false, &l->raw_data, e) ||
	    opts_bool(o, "encryption", false, &crypt, e) ||
	    prealloc_parse(opts_get(o, "preallocation"), "preallocation", true,
	    &l->pre, e))
		return -1;
	l->size = rup(l->size, 512);
	s = opts_get(o, "compat");
	l->version = 3;
	if (s && (!strcmp(s, "0.10") || !strcmp(s, "v2")))
		l->version = 2;
	else if (s && strcmp(s, "1.1") && strcmp(s, "v3"))
		return err_set(e, EINVAL, "Parameter 'version' does not accept "
		    "value '%s'", s);
	s = opts_get(o, "compression_type");
	l->compr = 0;
	if (s && !strcmp(s, "zstd"))
		l->compr = 1;
	else if (s && strcmp(s, "zlib"))
		return err_set(e, EINVAL, "Parameter 'compression-type' does "
		    "not accept value '%s'", s);
	l->back = opts_get(o, "backing_file");
	l->bfmt = opts_get(o, "backing_fmt");
	if (l->back && !*l->back)
		l->back = NULL;
	l->data = opts_get(o, "data_file");
	if (crypt || opts_peek(o, "encrypt.format"))
		return err_set(e, ENOTSUP, "qcow2 encryption is not "
		    "implemented");
	if (l->cs < 512 || l->cs > 2 * MiB || l->cs & (l->cs - 1))
		return err_set(e, EINVAL, "Cluster size must be a power of two "
		    "between 512 and 2048k");
	if (l->extl2 && l->version < 3)
		return err_set(e, EINVAL, "Extended L2 entries are only "
		    "supported with compatibility level 1.1 and above (use "
		    "version=v3 or greater)");
	if (l->extl2 && l->cs < 16384)
		return err_set(e, EINVAL, "Extended L2 entries are only "
		    "supported with cluster sizes of at least 16384 bytes");
	if (l->pre != PRE_OFF && l->back && !l->extl2)
		return err_set(e, EINVAL, "Backing file and preallocation can "
		    "only be used at the same time if extended_l2 is enabled");
	if (l->version < 3 && l->lazy)
		return err_set(e, EINVAL, "Lazy refcounts only supported with "
		    "compatibility level 1.1 and above (use version=v3 or "
		    "greater)");
	if (!l->rbits || l->rbits > 64 || l->rbits & (l->rbits - 1))
		return err_set(e, EINVAL, "Refcount width must be a power of two "
		    "and may not exceed 64 bits");
	if (l->version < 3 && l->rbits != 16)
		return err_set(e, EINVAL, "Different refcount widths than 16 "
		    "bits require compatibility level 1.1 or above (use "
		    "version=v3 or greater)");
	if (l->raw_data && !l->data)
		return err_set(e, EINVAL, "data-file-raw requires data-file");
	if (l->raw_data && l->back)
		return err_set(e, EINVAL, "Backing file and data-file-raw "
		    "cannot be used at the same time");
	if (l->raw_data && l->pre == PRE_OFF)
		l->pre = PRE_METADATA;
	if (l->data && l->version < 3)
		return err_set(e, EINVAL, "External data files are only "
		    "supported with compatibility level 1.1 and above (use "
		    "version=v3 or greater)");
	if (l->compr && l->version < 3)
		return err_set(e, EINVAL, "Non-zlib compression type is only "
		    "supported with compatibility level 1.1 and above (use "
		    "version=v3 or greater)");
	return 0;
}

static int
q2_create(const char *name, struct opts *o, struct imgerr *e)
{
	struct layout l;
	struct opts fo = { 0 };
	struct img f = { 0 }, *im = NULL, *file = NULL;
	struct qcow2 q = { 0 };
	uint8_t *b = NULL;
	bool known;
	const struct img_driver *p;
	int r = -1;

	if (layout(o, &l, true, e))
		return -1;
	if (l.data && (p = img_protocol(l.data, &known))->create) {
		opts_set(&fo, "size", "0");
		if (p->create(l.data, &fo, e))
			goto out;
		opts_free(&fo);
	}
	file = img_create_file(name, 0, o, e);
	if (!file)
		goto out;
	q.im = &f;
	f.file = file;
	q.version = l.version;
	q.cbits = (unsigned)__builtin_ctzll(l.cs);
	q.cs = l.cs;
	q.rorder = (unsigned)__builtin_ctzll(l.rbits);
	q.rt_off = l.cs;
	q.rt_clusters = 1;
	q.compr = (unsigned)l.compr;
	q.compat = l.lazy ? Q2_C_LAZY : 0;
	q.incompat = (l.data ? Q2_I_DATAFILE : 0) | (l.compr ? Q2_I_COMPR : 0) |
	    (l.extl2 ? Q2_I_EXTL2 : 0);
	q.autoclear = l.raw_data ? Q2_A_RAWDATA : 0;
	q.data_name = (char *)(uintptr_t)l.data;
	b = calloc(2, l.cs);
	if (!b) {
		err_set(e, ENOMEM, "Out of memory");
		goto out;
	}
	pbe64(b, 2 * l.cs);
	for (int i = 0; i < 3; i++)
		q2_rc_write(b + l.cs, q.rorder, (uint64_t)i, 1);
	if (img_pwrite(file, b, 2 * l.cs, l.cs, 0)) {
		err_set(e, errno, "Could not write: %s", strerror(errno));
		goto out;
	}
	if (q2_write_header(&q, e))
		goto out;
	img_close(file);
	file = NULL;
	im = img_open(name, "qcow2", NULL, IMG_RDWR | IMG_NOBACKING |
	    IMG_NOFLUSH | IMG_RESIZE, e);
	if (!im || img_truncate(im, l.size, l.pre, e))
		goto out;
	if (l.back && im->drv->set_backing(im, l.back, l.bfmt)) {
		err_set(e, errno, "Could not assign backing file '%s' with "
		    "format '%s'", l.back, l.bfmt ? l.bfmt : "");
		goto out;
	}
	r = 0;
out:
	if (im && img_close(im) && !r)
		r = err_set(e, errno, "Could not flush: %s", strerror(errno));
	img_close(file);
	opts_free(&fo);
	free(b);
	return r;
}

static int
q2_set_backing(struct img *im, const char *file, const char *fmt)
{
	struct qcow2 *q = im->priv;
	int r;

	if (file && strlen(file) > 1023) {
		errno = EINVAL;
		return -1;
	}
	if (q->autoclear & Q2_A_RAWDATA && file) {
		errno = EINVAL;
		return -1;
	}
	pthread_mutex_lock(&q->lock);
	free(im->backing_name);
	free(im->backing_fmt);
	im->backing_name = file && *file ? strdup(file) : NULL;
	im->backing_fmt = im->backing_name && fmt && *fmt ? strdup(fmt) : NULL;
	r = q2_sync(q, true) || q2_write_header(q, NULL);
	pthread_mutex_unlock(&q->lock);
	return r ? -1 : 0;
}

static int
q2_empty(struct img *im)
{
	return q2_unmap(im, 0, im->size, true) ? -1 : q2_flush(im);
}

static int
q2_amend(struct img *im, struct opts *o, bool force, void (*prog)(double),
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	const char *s, *b = opts_get(o, "backing_file");
	const char *bf = opts_get(o, "backing_fmt");
	uint64_t size, rbits;
	unsigned v = q->version;
	bool lazy;
	int r;

	s = opts_get(o, "compat");
	if (s && (!strcmp(s, "0.10") || !strcmp(s, "v2")))
		v = 2;
	else if (s && (!strcmp(s, "1.1") || !strcmp(s, "v3")))
		v = 3;
	else if (s && *s)
		return err_set(e, EINVAL, "Unknown compatibility level %s", s);
	if (opts_size(o, "size", im->size, &size, e) ||
	    opts_num(o, "refcount_bits", 1ull << q->rorder, &rbits, e) ||
	    opts_bool(o, "lazy_refcounts", q->compat & Q2_C_LAZY, &lazy, e))
		return -1;
	for (struct optval *p = o->head; p; p = p->next)
		if (!p->used)
			return err_set(e, ENOTSUP, "Changing '%s' is not "
			    "implemented", p->key);
	if (rbits != 1ull << q->rorder)
		return err_set(e, ENOTSUP, "Changing 'refcount_bits' is not "
		    "implemented");
	if (lazy && v < 3)
		return err_set(e, EINVAL, "Lazy refcounts only supported with "
		    "compatibility level 1.1 and above (use compat=1.1 or "
		    "greater)");
	if (v < q->version) {
		if (q->rorder != 4)
			return err_set(e, ENOTSUP, "Refcount width other than 16 "
			    "bits requires compatibility level 1.1 and above");
		if (q->nsub > 1 || q->compr || im->data || q->nbm)
			return err_set(e, ENOTSUP, "Cannot downgrade an image "
			    "with features of compatibility level 1.1");
		/* zero clusters do not exist there: write them out */
		for (uint64_t off = 0; off < im->size;) {
			struct img_status st;
			static const uint8_t z[65536];

			if (img_status1(im, off, im->size - off, &st))
				return err_set(e, errno, "Failed to read: %s",
				    strerror(errno));
			if (st.flags & IMG_ALLOC && st.flags & IMG_ZERO) {
				uint64_t n = im->backing ? umin(st.len,
				    sizeof(z)) : st.len;

				if (im->backing ? q2_pwrite(im, z, n, off) :
				    q2_unmap(im, off, n, true))
					return err_set(e, errno, "Failed to turn "
					    "zero into data clusters: %s",
					    strerror(errno));
				off += n;
			} else
				off += st.len;
			if (prog)
				prog(100.0 * (double)off / (double)im->size);
		}
	}
	if ((b || bf) && q2_set_backing(im, b ? b : im->backing_name,
	    bf ? bf : im->backing_fmt))
		return err_set(e, errno, "Failed to change the backing file: %s",
		    strerror(errno));
	pthread_mutex_lock(&q->lock);
	q->compat = lazy ? q->compat | Q2_C_LAZY : q->compat &
	    ~(uint64_t)Q2_C_LAZY;
	if (!lazy) {
		q->incompat &= ~(uint64_t)Q2_I_DIRTY;
		q->dirty_marked = false;
	}
	q->version = v;
	r = q2_sync(q, true) || q2_write_header(q, e);
	pthread_mutex_unlock(&q->lock);
	if (r)
		return -1;
	if (size != im->size)
		return img_truncate(im, size, PRE_OFF, e);
	return 0;
}

static int
q2_info(struct img *im, struct js *d)
{
	struct qcow2 *q = im->priv;

	js_str(d, "compat", q->version > 2 ? "1.1" : "0.10");
	js_str(d, "compression-type", q->compr ? "zstd" : "zlib");
	js_int(d, "refcount-bits", 1 << q->rorder);
	if (q->version < 3)
		return 0;
	js_bool(d, "lazy-refcounts", q->compat & Q2_C_LAZY);
	js_bool(d, "corrupt", q->incompat & Q2_I_CORRUPT);
	js_bool(d, "extended-l2", q->nsub > 1);
	if (q->nbm)
		q2_bm_js(q, d);
	if (im->data) {
		js_str(d, "data-file", q->data_name ? q->data_name :
		    im->data->filename);
		js_bool(d, "data-file-raw", q->autoclear & Q2_A_RAWDATA);
	}
	return 0;
}

/* Clusters of refcount blocks and table for `n` others. */
static uint64_t
refcount_clusters(uint64_t n, uint64_t cs, uint64_t rbits)
{
	uint64_t per = cs * 8 / rbits, blocks = 0, table = 0, last;

	do {
		last = blocks + table;
		blocks = (n + table + blocks + per - 1) / per;
		table = (blocks * 8 + cs - 1) / cs;
	} while (blocks + table != last);
	return last;
}

static int
q2_measure(struct opts *o, struct img *in, struct img_measure *m,
    struct imgerr *e)
{
	struct layout l;
	uint64_t l2e, nl2, meta, alloc = 0, size;
	struct img_status s;

	if (layout(o, &l, false, e))
		return -1;
	size = in ? in->size : l.size;
	l2e = l.extl2 ? 16 : 8;
	nl2 = (size + l.cs - 1) / l.cs;
	nl2 = (nl2 * l2e + l.cs - 1) / l.cs;
	meta = 1 + nl2 + (nl2 * 8 + l.cs - 1) / l.cs;
	meta += refcount_clusters(meta + (size + l.cs - 1) / l.cs, l.cs,
	    l.rbits);
	if (in) {
		uint64_t off = 0, n;

		while (off < size) {
			if (img_status(in, NULL, off, size - off, &s))
				return err_set(e, errno, "Unable to get block "
				    "status: %s", strerror(errno));
			n = s.len;
			if (!(s.flags & IMG_ZERO) && s.flags & IMG_DATA) {
				uint64_t a = rup(off + n, l.cs);

				alloc += a - rdown(off, l.cs);
				n = a - off;
			}
			off += n;
		}
	} else if (l.pre == PRE_FALLOC || l.pre == PRE_FULL)
		alloc = size;
	m->full = meta * l.cs + rup(size, l.cs);
	m->required = meta * l.cs + (l.pre == PRE_FALLOC || l.pre == PRE_FULL ?
	    rup(size, l.cs) : alloc);
	if (in && in->drv->bm_list && !strcmp(in->drv->name, "qcow2")) {
		m->has_bitmaps = true;
		m->bitmaps = 0;
	}
	if (l.back && !in)
		m->required = meta * l.cs;
	return 0;
}

const struct img_driver drv_qcow2 = {
	.name = "qcow2", .backing = true, .opts = q2_opts, .probe = q2_probe,
	.open = q2_open, .close = q2_close, .pread = q2_pread,
	.pwrite = q2_pwrite, .pwritec = q2_pwritec, .zero = q2_zero,
	.discard = q2_discard, .flush = q2_flush, .status = q2_status,
	.truncate = q2_truncate, .create = q2_create, .info = q2_info,
	.check = q2_check, .snap_list = q2_snap_list,
	.snap_create = q2_snap_create, .snap_apply = q2_snap_apply,
	.snap_delete = q2_snap_delete, .snap_load = q2_snap_load,
	.set_backing = q2_set_backing, .empty = q2_empty, .amend = q2_amend,
	.measure = q2_measure, .bm_list = q2_bm_list, .bm_op = q2_bm_op,
	.bm_merge = q2_bm_merge, .bm_status = q2_bm_status,
};
