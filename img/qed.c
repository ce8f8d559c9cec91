/*
 * qed.c - QEMU enhanced disk format ("QED image format specification"):
 * two levels of tables over clusters, a backing image, no counts.
 *
 * New clusters go to the end of the file.  Tables change in memory; a flush
 * brings data, then second-level tables, then the first to disk, so that a
 * cut leaves clusters nobody points to and nothing worse, and the "needs
 * check" flag is not needed by our own writes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qed.h"

static int
qed_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 64 && !memcmp(b, "QED\0", 4) ? 100 : 0;
}

bool
qed_sane(struct img *im, struct qed *q, uint64_t off, uint64_t len)
{
	return off >= q->cs && !(off & (q->cs - 1)) && off <= q->end &&
	    len <= q->end - off;
}

static int
qed_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct qed *q = calloc(1, sizeof(*q));
	uint8_t *h;
	uint32_t boff, blen;
	char name[1024] = "";

	if (!q)
		return err_set(e, ENOMEM, "Out of memory");
	h = q->h;
	if (img_pread_backing(im->file, h, 64, 0)) {
		err_set(e, errno, "Failed to read QED header: %s",
		    strerror(errno));
		goto bad;
	}
	if (memcmp(h, "QED\0", 4)) {
		err_set(e, EINVAL, "Image not in QED format");
		goto bad;
	}
	q->cs = le32(h + 4);
	q->tsize = le32(h + 8);
	q->feat = le64(h + 16);
	q->l1_off = le64(h + 40);
	im->size = le64(h + 48);
	if (q->feat & ~(uint64_t)F_ALL) {
		err_set(e, ENOTSUP, "Unsupported QED features: %llx",
		    (unsigned long long)(q->feat & ~(uint64_t)F_ALL));
		goto bad;
	}
	if (q->cs < 4096 || q->cs > 64 * MiB || q->cs & (q->cs - 1) ||
	    q->tsize < 1 || q->tsize > 16 || q->tsize & (q->tsize - 1)) {
		err_set(e, EINVAL, "QED cluster or table size is invalid");
		goto bad;
	}
	if (q->tsize * q->cs > QED_TABLE_MAX) {
		err_set(e, ENOTSUP, "QED tables of %llu MiB are not supported, "
		    "%d MiB at most", (unsigned long long)(q->tsize * q->cs /
		    MiB), QED_TABLE_MAX >> 20);
		goto bad;
	}
	q->n = (uint32_t)(q->tsize * q->cs / 8);
	q->end = rup(im->file->size, q->cs);
	if (im->size & 511 || im->size > IMG_MAX || (unsigned __int128)q->n *
	    q->n * q->cs < im->size) {
		err_set(e, EINVAL, "QED image size is invalid");
		goto bad;
	}
	if (!qed_sane(im, q, q->l1_off, q->tsize * q->cs)) {
		err_set(e, EINVAL, "QED table offset is invalid");
		goto bad;
	}
	if (q->feat & F_BACKING) {
		boff = le32(h + 56);
		blen = le32(h + 60);
		if (blen > 1023 || (uint64_t)boff + blen > q->cs *
		    umax(1, le32(h + 12)) || img_pread_backing(im->file, name,
		    blen, boff)) {
			err_set(e, EINVAL, "QED backing file name is invalid");
			goto bad;
		}
		im->backing_name = strdup(name);
		if (q->feat & F_RAWBACK)
			im->backing_fmt = strdup("raw");
	}
	/* memory only for what the file can hold */
	q->l1 = malloc((size_t)q->n * 8);
	q->l2 = calloc(q->n, sizeof(*q->l2));
	q->l2_dirty = calloc(q->n, 1);
	if (!q->l1 || !q->l2 || !q->l2_dirty || img_pread_backing(im->file,
	    q->l1, (size_t)q->n * 8, q->l1_off)) {
		err_set(e, errno, "Failed to read the L1 table: %s",
		    strerror(errno));
		goto bad;
	}
	pthread_mutex_init(&q->lock, NULL);
	im->cluster = (uint32_t)q->cs;
	im->dirty = q->feat & F_CHECK;
	im->zero_init = true;
	im->priv = q;
	return 0;
bad:
	free(q->l1);
	free(q->l2);
	free(q->l2_dirty);
	free(q);
	return -1;
}

int
qed_sync(struct img *im)
{
	struct qed *q = im->priv;

	if (q->any_dirty) {
		if (img_flush(im->file))
			return -1;
		for (uint32_t i = 0; i < q->n; i++) {
			if (!q->l2_dirty[i])
				continue;
			if (img_pwrite(im->file, q->l2[i], (size_t)q->n * 8,
			    q->l1[i], 0))
				return -1;
			q->l2_dirty[i] = false;
		}
		q->any_dirty = false;
	}
	if (q->l1_dirty) {
		if (img_flush(im->file) || img_pwrite(im->file, q->l1,
		    (size_t)q->n * 8, q->l1_off, 0))
			return -1;
		q->l1_dirty = false;
	}
	return 0;
}

int
qed_flush(struct img *im)
{
	struct qed *q = im->priv;
	int r;

	pthread_mutex_lock(&q->lock);
	r = qed_sync(im);
	pthread_mutex_unlock(&q->lock);
	return r ? -1 : img_flush(im->file);
}

static void
drop_tables(struct qed *q)
{
	for (uint32_t i = 0; i < q->n; i++) {
		free(q->l2[i]);
		q->l2[i] = NULL;
	}
	q->kept = 0;
}

static void
qed_close(struct img *im)
{
	struct qed *q = im->priv;

	if (im->flags & IMG_RDWR)
		qed_flush(im);
	drop_tables(q);
	pthread_mutex_destroy(&q->lock);
	free(q->l1);
	free(q->l2);
	free(q->l2_dirty);
	free(q);
}

int
qed_table(struct img *im, uint64_t off, bool make, uint64_t **t)
{
	struct qed *q = im->priv;
	uint64_t i = off / q->cs / q->n, len = (uint64_t)q->tsize * q->cs;

	*t = q->l2[i];
	if (*t)
		return 0;
	if (!q->l1[i] && !make)
		return 0;
	if (q->kept + len > L2_KEEP && q->kept) {
		if (qed_sync(im))
			return -1;
		drop_tables(q);
	}
	if (q->l1[i] && !qed_sane(im, q, q->l1[i], len)) {
		errno = EIO;
		return -1;
	}
	if (!(*t = calloc(1, len)))
		return -1;
	if (q->l1[i]) {
		if (img_pread_backing(im->file, *t, len, q->l1[i])) {
			free(*t);
			return -1;
		}
	} else {
		q->l1[i] = q->end;
		q->end += len;
		q->l1_dirty = q->l2_dirty[i] = q->any_dirty = true;
	}
	q->l2[i] = *t;
	q->kept += len;
	return 0;
}

/* What [off, off+*len) of one kind is: 0 unallocated, 1 zeros, else host. */
static int
lookup(struct img *im, uint64_t off, uint64_t *len, uint64_t *host)
{
	struct qed *q = im->priv;
	uint64_t *t, i = off / q->cs % q->n, in = off & (q->cs - 1), got, h;
	int r;

	pthread_mutex_lock(&q->lock);
	r = qed_table(im, off, false, &t);
	*host = 0;
	if (!r && !t) {
		*len = umin(*len, (q->n - i) * q->cs - in);
	} else if (!r) {
		h = t[i];
		if (h > 1 && !qed_sane(im, q, h, 1)) {
			errno = EIO;
			r = -1;
		}
		got = q->cs - in;
		while (got < *len && ++i < q->n && (h > 1 ? t[i] == h + got +
		    in : t[i] == h))
			got += q->cs;
		*len = umin(*len, got);
		*host = h > 1 ? h + in : h;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int
qed_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	uint8_t *b = p;
	uint64_t k, h;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		k = n;
		if (lookup(im, off, &k, &h))
			return -1;
		if (h == 1)
			memset(b, 0, k);
		else if (!h)
			r = img_pread_backing(im->backing, b, k, off);
		else
			r = img_pread_backing(im->file, b, k, h);
	}
	return r;
}

/* One cluster's worth into a new cluster; lock held. */
static int
alloc(struct img *im, const uint8_t *p, size_t n, uint64_t off)
{
	struct qed *q = im->priv;
	uint64_t *t, in = off & (q->cs - 1), base = off - in;
	uint8_t *c;
	int r = -1;

	if (qed_table(im, off, true, &t))
		return -1;
	if (!(c = calloc(1, q->cs))) {
		errno = ENOMEM;
		return -1;
	}
	if (n < q->cs && t[off / q->cs % q->n] != 1 && img_pread_backing(
	    im->backing, c, q->cs, base))
		goto out;
	if (base + q->cs > im->size)
		memset(c + (im->size - base), 0, q->cs - (im->size - base));
	memcpy(c + in, p, n);
	if (img_pwrite(im->file, c, q->cs, q->end, 0))
		goto out;
	t[off / q->cs % q->n] = q->end;
	q->end += q->cs;
	q->l2_dirty[off / q->cs / q->n] = q->any_dirty = true;
	r = 0;
out:
	free(c);
	return r;
}

static int
qed_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct qed *q = im->priv;
	const uint8_t *b = p;
	uint64_t k, h, *t;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		k = n;
		if (lookup(im, off, &k, &h))
			return -1;
		if (h > 1) {
			r = img_pwrite(im->file, b, k, h, 0);
			continue;
		}
		k = umin(n, q->cs - off % q->cs);
		pthread_mutex_lock(&q->lock);
		/* somebody may have been faster */
		r = qed_table(im, off, true, &t);
		h = r ? 0 : t[off / q->cs % q->n];
		if (!r && h > 1)
			r = img_pwrite(im->file, b, k, h + off % q->cs, 0);
		else if (!r)
			r = alloc(im, b, k, off);
		pthread_mutex_unlock(&q->lock);
	}
	return r;
}

static int
qed_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct qed *q = im->priv;
	uint64_t *t, k;
	uint8_t *z;
	int r = 0;

	for (; len && !r; off += k, len -= k) {
		k = umin(len, q->cs - off % q->cs);
		if (k == q->cs || (!(off % q->cs) && off + k == im->size)) {
			pthread_mutex_lock(&q->lock);
			r = qed_table(im, off, true, &t);
			if (!r && t[off / q->cs % q->n] <= 1) {
				t[off / q->cs % q->n] = 1;
				q->l2_dirty[off / q->cs / q->n] = true;
				q->any_dirty = true;
				pthread_mutex_unlock(&q->lock);
				continue;
			}
			pthread_mutex_unlock(&q->lock);
		}
		if (r || !(z = calloc(1, k)))
			return -1;
		r = qed_pwrite(im, z, k, off);
		free(z);
	}
	return r;
}

static int
qed_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	uint64_t h;

	s->len = len;
	if (lookup(im, off, &s->len, &h))
		return -1;
	if (h == 1)
		s->flags = IMG_ZERO | IMG_ALLOC;
	else if (h) {
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED;
		s->map = h;
		s->file = im->file;
	}
	return 0;
}

int
qed_write_header(struct img *im)
{
	struct qed *q = im->priv;
	uint8_t *b = calloc(1, q->cs);
	size_t n = im->backing_name ? strlen(im->backing_name) : 0;
	int r = -1;

	if (!b)
		return -1;
	q->feat &= ~(uint64_t)(F_BACKING | F_RAWBACK);
	if (n)
		q->feat |= F_BACKING | (im->backing_fmt && !strcmp(
		    im->backing_fmt, "raw") ? F_RAWBACK : 0);
	ple64(q->h + 16, q->feat);
	ple64(q->h + 48, im->size);
	ple32(q->h + 56, n ? 64 : 0);
	ple32(q->h + 60, (uint32_t)n);
	memcpy(b, q->h, 64);
	if (n)
		memcpy(b + 64, im->backing_name, n);
	if (!img_flush(im->file) && !img_pwrite(im->file, b, q->cs, 0, 0) &&
	    !img_flush(im->file))
		r = 0;
	free(b);
	return r;
}

static int
qed_set_backing(struct img *im, const char *file, const char *fmt)
{
	if (file && strlen(file) > 1023) {
		errno = EINVAL;
		return -1;
	}
	free(im->backing_name);
	free(im->backing_fmt);
	im->backing_name = file && *file ? strdup(file) : NULL;
	im->backing_fmt = im->backing_name && fmt ? strdup(fmt) : NULL;
	return qed_flush(im) ? -1 : qed_write_header(im);
}

static int
qed_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	struct qed *q = im->priv;
	uint64_t old = im->size, end;

	if (pre != PRE_OFF)
		return err_set(e, ENOTSUP, "Unsupported preallocation mode "
		    "'%s'", prealloc_name[pre]);
	if (size < old)
		return err_set(e, ENOTSUP, "Shrinking images is currently not "
		    "supported");
	if ((unsigned __int128)q->n * q->n * q->cs < size)
		return err_set(e, EINVAL, "Invalid image size specified");
	im->size = size;
	if (qed_write_header(im)) {
		im->size = old;
		return err_set(e, errno, "Failed to update the image size");
	}
	end = umin(size, rup(old, q->cs));
	if (im->backing && im->backing->size > old)
		end = umax(end, umin(size, im->backing->size));
	if (end > old && img_zero(im, old, end - old, 0))
		return err_set(e, errno, "Failed to zero out the new area");
	return 0;
}

static int
qed_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size, cs, ts;
	const char *back = opts_get(o, "backing_file");
	const char *fmt = opts_get(o, "backing_fmt");
	struct qed q = { 0 };
	struct img im = { .priv = &q };
	uint8_t *z = NULL;
	int r = -1;

	if (opts_size(o, "size", 0, &size, e) ||
	    opts_size(o, "cluster_size", 65536, &cs, e) ||
	    opts_size(o, "table_size", 4, &ts, e))
		return -1;
	if (cs < 4096 || cs > 64 * MiB || cs & (cs - 1))
		return err_set(e, EINVAL, "QED cluster size must be within range "
		    "[4096, 67108864] and power of 2");
	if (ts < 1 || ts > 16 || ts & (ts - 1))
		return err_set(e, EINVAL, "QED table size must be within range "
		    "[1, 16] and power of 2");
	if (ts * cs > QED_TABLE_MAX)
		return err_set(e, ENOTSUP, "QED tables of %llu MiB are not "
		    "supported, %d MiB at most", (unsigned long long)(ts * cs /
		    MiB), QED_TABLE_MAX >> 20);
	size = rup(size, 512);
	if ((unsigned __int128)(ts * cs / 8) * (ts * cs / 8) * cs < size)
		return err_set(e, EINVAL, "QED image size must be a non-zero "
		    "multiple of cluster size and less than %llu bytes",
		    (unsigned long long)umin((uint64_t)INT64_MAX, ts * cs / 8 *
		    (ts * cs / 8) * cs));
	if (!(im.file = img_create_file(name, 0, o, e)))
		return -1;
	memcpy(q.h, "QED\0", 4);
	q.cs = cs;
	ple32(q.h + 4, (uint32_t)cs);
	ple32(q.h + 8, (uint32_t)ts);
	ple32(q.h + 12, 1);
	ple64(q.h + 40, cs);
	im.size = size;
	im.backing_name = (char *)(uintptr_t)back;
	im.backing_fmt = (char *)(uintptr_t)fmt;
	z = calloc(1, ts * cs);
	if (!z || qed_write_header(&im) || img_pwrite(im.file, z, ts * cs, cs, 0))
		err_set(e, errno, "Could not write the QED image: %s",
		    strerror(errno));
	else
		r = 0;
	free(z);
	img_close(im.file);
	return r;
}

static const struct opt_desc qed_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "backing_file", VAL_STR, "File name of a base image" },
	{ "backing_fmt", VAL_STR, "Image format of the base image" },
	{ "cluster_size", VAL_SIZE, "Cluster size (in bytes)", "65536" },
	{ "table_size", VAL_SIZE, "L1/L2 table size (in clusters)" },
	{ 0 }
};

const struct img_driver drv_qed = {
	.name = "qed", .late = true, .backing = true, .opts = qed_opts, .probe = qed_probe,
	.open = qed_open, .close = qed_close, .pread = qed_pread,
	.pwrite = qed_pwrite, .zero = qed_zero, .flush = qed_flush,
	.status = qed_status, .truncate = qed_truncate, .create = qed_create,
	.check = qed_check, .set_backing = qed_set_backing,
};
