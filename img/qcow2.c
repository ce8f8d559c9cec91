/*
 * qcow2.c - QEMU's copy-on-write format, versions 2 and 3: header, opening and
 * closing (docs: "qcow2 image file format" in the interop part of
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
features(const struct qcow2 *q, uint8_t *f)
{
	static const struct { uint8_t type, bit; const char *name; } tab[] = {
		{ 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" },
		{ 0, 2, "external data file" }, { 0, 3, "compression type" },
		{ 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
		{ 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
		{ 0, Q2_I_PART, "unfinished copy" },	/* only of one */
	};
	size_t i, n = sizeof(tab) / sizeof(tab[0]) - !(q->incompat >> Q2_I_PART);

	for (i = 0; i < n; i++) {
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
	uint8_t *b = calloc(1, q->cs), f[9 * 48], x[24];
	size_t at, cap = q->cs, n;
	int r = -1;

	if (!b)
		return err_set(e, ENOMEM, "Out of memory");
	pbe32(b, Q2_MAGIC);
	pbe32(b + 4, q->version);
	pbe32(b + 20, q->cbits);
	pbe64(b + 24, q->active_size);
	pbe32(b + 32, q->method);
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
	if (at <= cap && q->method == Q2_LUKS) {
		pbe64(x, q->crypt_off);
		pbe64(x + 8, q->crypt_len);
		at = put_ext(b, at, cap, EXT_CRYPT, x, 16);
	}
	if (at <= cap && q->version > 2 && q->cs >= 1024) {
		n = features(q, f);
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
		case EXT_CRYPT:
			if (q->method != Q2_LUKS)
				return err_set(e, EINVAL, "CRYPTO header "
				    "extension only expected with LUKS "
				    "encryption method");
			if (len != 16)
				return err_set(e, EINVAL, "CRYPTO header "
				    "extension size %u, but expected size 16",
				    len);
			q->crypt_off = be64(d);
			q->crypt_len = be64(d + 8);
			if (q->crypt_off & (q->cs - 1) || !q->crypt_off ||
			    q->crypt_off > Q2_OFFS || q->crypt_len > 1 * GiB)
				return err_set(e, EINVAL, "Encryption header "
				    "offset '%llu' is not a multiple of cluster "
				    "size '%llu'", (unsigned long long)
				    q->crypt_off, (unsigned long long)q->cs);
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
	q2_crypt_free(q);
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
	if (q->incompat >> Q2_I_PART)
		return err_set(e, EINVAL, "The image is an unfinished copy");
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
	q->method = be32(b + 32);
	if (q->method > Q2_LUKS)
		return err_set(e, EINVAL, "Unsupported encryption method %u",
		    q->method);
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
cache_sizes(struct qcow2 *q, uint64_t l2, uint64_t rc)
{
	/* all of it where that fits, as many as the disk can need */
	uint64_t need = (q->active_size >> (q->cbits + q->l2bits)) + 2;

	q2_cache_init(&q->l2c, (unsigned)umax(8, umin(need, l2 / q->cs)));
	q2_cache_init(&q->rbc, (unsigned)umax(8, umin(rc / q->cs, UINT32_MAX)));
}

/* Options of the open image.  Those that only tune QEMU's driver are taken
 * where they ask for what this one does anyway. */
static int
tuning(struct qcow2 *q, struct opts *o, struct imgerr *e)
{
	static const struct { const char *key, *val; } fixed[] = {
		{ "overlap-check", "none" }, { "overlap-check.template", "none" },
		{ "pass-discard-request", "on" },
		{ "pass-discard-snapshot", "on" },
		{ "pass-discard-other", "on" }, { "cache-clean-interval", "0" },
	};
	uint64_t total, l2, rc, entry;
	bool lazy;

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		const char *s = opts_get(o, fixed[i].key);

		if (s && strcmp(s, fixed[i].val))
			return err_set(e, ENOTSUP, "%s=%s is not supported, "
			    "only %s", fixed[i].key, s, fixed[i].val);
	}
	if (opts_size(o, "l2-cache-size", 32 * MiB, &l2, e) ||
	    opts_size(o, "refcount-cache-size", 8 * MiB, &rc, e) ||
	    opts_size(o, "cache-size", 0, &total, e) ||
	    opts_size(o, "l2-cache-entry-size", q->cs, &entry, e) ||
	    opts_bool(o, "lazy-refcounts", q->compat & Q2_C_LAZY, &lazy, e))
		return -1;
	if (entry != q->cs)
		return err_set(e, ENOTSUP, "l2-cache-entry-size=%llu is not "
		    "supported, only the cluster size",
		    (unsigned long long)entry);
	if (total) {
		bool has_l2 = opts_peek(o, "l2-cache-size");
		bool has_rc = opts_peek(o, "refcount-cache-size");

		if (has_l2 && has_rc)
			return err_set(e, EINVAL, "cache-size, l2-cache-size "
			    "and refcount-cache-size may not be set at the "
			    "same time");
		if (has_l2 && l2 > total)
			return err_set(e, EINVAL, "l2-cache-size may not "
			    "exceed cache-size");
		if (has_rc && rc > total)
			return err_set(e, EINVAL, "refcount-cache-size may not "
			    "exceed cache-size");
		if (has_l2)
			rc = total - l2;
		else
			l2 = total - (has_rc ? rc : (rc = umin(total / 2,
			    8 * q->cs)));
	}
	if (lazy && q->version < 3)
		return err_set(e, EINVAL, "Lazy refcounts require a qcow2 image "
		    "with at least qemu 1.1 compatibility level");
	q->lazy = lazy;
	cache_sizes(q, l2, rc);
	return 0;
}

static int
q2_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	uint64_t back;
	uint32_t blen;
	uint8_t *b = malloc(2 << 20);

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
	if (tuning(q, o, e) || q2_crypt_open(q, o, e))
		goto bad;
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
	/* what is allocated ahead reads as deciphered zeros */
	im->zero_init = !q->method || !q->l1_size || !q->l1[0];
	im->dirty = q->incompat & Q2_I_DIRTY;
	im->broken = q->incompat & Q2_I_CORRUPT;
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
		    q->lazy) {
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

/* By an incompatible feature bit ("Header", 72): nobody who does not know it,
 * that is nobody, opens the image. */
static int
q2_unfinished(struct img *im, bool on)
{
	struct qcow2 *q = im->priv;
	uint64_t bit = 1ull << Q2_I_PART;
	int r;

	if (q->version < 3) {
		errno = ENOTSUP;
		return -1;
	}
	pthread_mutex_lock(&q->lock);
	q->incompat = on ? q->incompat | bit : q->incompat & ~bit;
	r = q2_sync(q, true) || q2_write_header(q, NULL);
	pthread_mutex_unlock(&q->lock);
	return r ? -1 : img_flush(im);
}

static int
q2_info(struct img *im, struct js *d)
{
	struct qcow2 *q = im->priv;

	js_str(d, "compat", q->version > 2 ? "1.1" : "0.10");
	js_str(d, "compression-type", q->compr ? "zstd" : "zlib");
	js_int(d, "refcount-bits", 1 << q->rorder);
	if (q->method)
		q2_crypt_info(q, d);
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

const struct img_driver drv_qcow2 = {
	.name = "qcow2", .late = true, .backing = true, .opts = q2_opts, .probe = q2_probe,
	.open = q2_open, .close = q2_close, .pread = q2_pread,
	.pwrite = q2_pwrite, .pwritec = q2_pwritec, .zero = q2_zero,
	.discard = q2_discard, .flush = q2_flush, .status = q2_status,
	.truncate = q2_truncate, .create = q2_create, .info = q2_info,
	.check = q2_check, .snap_list = q2_snap_list,
	.snap_create = q2_snap_create, .snap_apply = q2_snap_apply,
	.snap_delete = q2_snap_delete, .snap_load = q2_snap_load,
	.set_backing = q2_set_backing, .empty = q2_empty, .amend = q2_amend,
	.measure = q2_measure, .bm_list = q2_bm_list, .bm_op = q2_bm_op,
	.bm_merge = q2_bm_merge, .bm_status = q2_bm_status, .unfinished = q2_unfinished,
};
