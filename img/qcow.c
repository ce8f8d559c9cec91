/*
 * qcow.c - QEMU's first copy-on-write format ("The QCOW Image Format", version
 * 1, big-endian): header, a first table of second tables of cluster offsets,
 * deflated clusters.  There are no reference counts: clusters are added at the
 * end of the file and never given back.
 *
 * In an encrypted image clusters that are not deflated are enciphered as qcow2's
 * legacy "aes" is, by sectors of the disk.
 *
 * Power cuts: tables are changed in memory and written by a flush, after the
 * data they point to and second tables before the first, so that a cut leaves
 * unused clusters at worst.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypt.h"
#include "qcow2.h"

enum { HEADER = 48, NAME_MAX_LEN = 1023, L1_MAX = 32 << 20, KEEP = 32 << 20 };
#define COMPRESSED	(1ull << 63)

struct qcow {
	pthread_mutex_t	lock;
	unsigned	cbits, l2bits;
	uint64_t	cs;		/* cluster */
	uint32_t	l1_n, l2_n;
	uint64_t	l1_off, end;	/* where the next cluster goes */
	uint64_t	*l1, **l2;	/* as in the file: big-endian */
	bool		*l2_dirty, l1_dirty, any_dirty;
	size_t		kept;		/* bytes of second tables */
	bool		encrypted;
	struct crypt	*crypt;		/* NULL: opened to look only */
};

static int
qcow_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= HEADER && be32(b) == Q2_MAGIC && be32(b + 4) == 1 ? 100 : 0;
}

static void
release(struct qcow *q)
{
	for (uint32_t i = 0; q->l2 && i < q->l1_n; i++)
		free(q->l2[i]);
	free(q->l2);
	free(q->l2_dirty);
	free(q->l1);
	crypt_free(q->crypt);
	free(q);
}

static int
header(struct img *im, struct qcow *q, const uint8_t *h, struct imgerr *e)
{
	uint64_t size = be64(h + 24), span;

	if (be32(h) != Q2_MAGIC)
		return err_set(e, EINVAL, "Image not in qcow format");
	if (be32(h + 4) != 1)
		return err_set(e, ENOTSUP, "qcow (v1) does not support qcow "
		    "version %u", be32(h + 4));
	if (size <= 1)
		return err_set(e, EINVAL, "Image size is too small (must be at "
		    "least 2 bytes)");
	q->cbits = h[32];
	q->l2bits = h[33];
	if (q->cbits < 9 || q->cbits > 16)
		return err_set(e, EINVAL, "Cluster size must be between 512 and "
		    "64k");
	if (q->l2bits < 6 || q->l2bits > 13)
		return err_set(e, EINVAL, "L2 table size must be between 512 "
		    "and 64k");
	q->encrypted = be32(h + 36) == Q2_AES;
	if (be32(h + 36) && !q->encrypted)
		return err_set(e, EINVAL, "invalid encryption method in qcow "
		    "header");
	q->cs = 1ull << q->cbits;
	q->l2_n = 1u << q->l2bits;
	span = q->cs << q->l2bits;
	if (size > IMG_MAX - span || (size + span - 1) / span > L1_MAX / 8)
		return err_set(e, EINVAL, "Image too large");
	q->l1_n = (uint32_t)((size + span - 1) / span);
	q->l1_off = be64(h + 40);
	if (q->l1_off > IMG_MAX - L1_MAX)
		return err_set(e, EINVAL, "Image too large");
	im->size = rdown(size, 512);
	return 0;
}

static int
unlock(struct img *im, struct qcow *q, struct opts *o, struct imgerr *e)
{
	const char *fmt = opts_get(o, "encrypt.format"), *pw = NULL;
	struct opts sub = { 0 };

	if (fmt && strcmp(fmt, "aes"))
		return err_set(e, EINVAL, "Header reported 'aes' encryption "
		    "format but options specify '%s'", fmt);
	im->encrypted = true;
	if (im->flags & IMG_NOIO) {
		opts_get(o, "encrypt.key-secret");
		return 0;
	}
	opts_sub(o, "encrypt", &sub);
	if ((pw = crypt_password(&sub, "encrypt.", e)))
		q->crypt = crypt_legacy(pw, e);
	opts_free(&sub);
	return q->crypt ? 0 : -1;
}

static int
qcow_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct qcow *q = calloc(1, sizeof(*q));
	uint8_t h[HEADER];
	uint64_t boff;
	uint32_t blen;
	char name[NAME_MAX_LEN + 1] = { 0 };

	if (!q)
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(im->file, h, HEADER, 0)) {
		err_set(e, errno, "Could not read qcow header: %s",
		    strerror(errno));
		goto bad;
	}
	if (header(im, q, h, e) || (q->encrypted && unlock(im, q, o, e)))
		goto bad;
	q->l1 = malloc((size_t)q->l1_n * 8);
	q->l2 = calloc(q->l1_n, sizeof(*q->l2));
	q->l2_dirty = calloc(q->l1_n, 1);
	if (!q->l1 || !q->l2 || !q->l2_dirty || img_pread_backing(im->file,
	    q->l1, (size_t)q->l1_n * 8, q->l1_off)) {
		err_set(e, errno, "Could not read the L1 table: %s",
		    strerror(errno));
		goto bad;
	}
	boff = be64(h + 8);
	blen = be32(h + 16);
	if (boff) {
		if (blen > NAME_MAX_LEN) {
			err_set(e, EINVAL, "Backing file name too long");
			goto bad;
		}
		if (boff > IMG_MAX || img_pread_backing(im->file, name, blen,
		    boff)) {
			err_set(e, EINVAL, "Could not read the backing file "
			    "name");
			goto bad;
		}
		im->backing_name = strdup(name);
	}
	q->end = rup(umax(im->file->size, q->l1_off + q->l1_n * 8ull), q->cs);
	pthread_mutex_init(&q->lock, NULL);
	im->cluster = (uint32_t)q->cs;
	im->zero_init = true;
	im->priv = q;
	return 0;
bad:
	release(q);
	return -1;
}

/* Lock held. */
static int
sync_tables(struct img *im)
{
	struct qcow *q = im->priv;
	size_t len = (size_t)q->l2_n * 8;

	if (q->any_dirty) {
		if (img_flush(im->file))
			return -1;
		for (uint32_t i = 0; i < q->l1_n; i++) {
			if (!q->l2_dirty[i])
				continue;
			if (img_pwrite(im->file, q->l2[i], len,
			    be64(&q->l1[i]), 0))
				return -1;
			q->l2_dirty[i] = false;
		}
		q->any_dirty = false;
	}
	if (q->l1_dirty) {
		if (img_flush(im->file) || img_pwrite(im->file, q->l1,
		    (size_t)q->l1_n * 8, q->l1_off, 0))
			return -1;
		q->l1_dirty = false;
	}
	return 0;
}

static int
qcow_flush(struct img *im)
{
	struct qcow *q = im->priv;
	int r;

	pthread_mutex_lock(&q->lock);
	r = sync_tables(im);
	pthread_mutex_unlock(&q->lock);
	return r ? -1 : img_flush(im->file);
}

static void
qcow_close(struct img *im)
{
	struct qcow *q = im->priv;

	if (im->flags & IMG_RDWR)
		qcow_flush(im);
	pthread_mutex_destroy(&q->lock);
	release(q);
}

/* The second table of `off`; *t is NULL if there is none and none is wanted.
 * Lock held. */
static int
table(struct img *im, uint64_t off, bool make, uint64_t **t)
{
	struct qcow *q = im->priv;
	uint64_t i = off >> (q->cbits + q->l2bits), at = be64(&q->l1[i]);
	size_t len = (size_t)q->l2_n * 8;

	*t = q->l2[i];
	if (*t || (!at && !make))
		return 0;
	if (at > IMG_MAX - len) {
		errno = EIO;
		return -1;
	}
	if (q->kept + len > KEEP) {
		if (sync_tables(im))
			return -1;
		for (uint32_t k = 0; k < q->l1_n; k++) {
			free(q->l2[k]);
			q->l2[k] = NULL;
		}
		q->kept = 0;
	}
	if (!(*t = calloc(1, len)))
		return -1;
	if (at && img_pread_backing(im->file, *t, len, at)) {
		free(*t);
		return -1;
	}
	if (!at) {
		q->end = rup(q->end, q->cs);
		pbe64(&q->l1[i], q->end);
		q->end = rup(q->end + len, q->cs);
		q->l1_dirty = q->l2_dirty[i] = q->any_dirty = true;
	}
	q->l2[i] = *t;
	q->kept += len;
	return 0;
}

static uint64_t *
slot(struct qcow *q, uint64_t *t, uint64_t off)
{
	return &t[off >> q->cbits & (q->l2_n - 1)];
}

static void
set(struct qcow *q, uint64_t *t, uint64_t off, uint64_t entry)
{
	pbe64(slot(q, t, off), entry);
	q->l2_dirty[off >> (q->cbits + q->l2bits)] = q->any_dirty = true;
}

/* The entry of `off`, and for how many bytes (at most *len) it goes on: in one
 * piece, or not there. */
static int
lookup(struct img *im, uint64_t off, uint64_t *len, uint64_t *entry)
{
	struct qcow *q = im->priv;
	uint64_t in = off & (q->cs - 1), got = q->cs - in, *t, *s, *last;
	int r;

	*entry = 0;
	pthread_mutex_lock(&q->lock);
	r = table(im, off, false, &t);
	if (!r && !t) {
		*len = umin(*len, (q->cs << q->l2bits) - (off & ((q->cs <<
		    q->l2bits) - 1)));
	} else if (!r) {
		s = slot(q, t, off);
		last = t + q->l2_n - 1;
		*entry = be64(s);
		if (!(*entry & COMPRESSED))
			while (got < *len && s++ < last && be64(s) == (*entry ?
			    *entry + got + in : 0))
				got += q->cs;
		*len = umin(*len, got);
		if (!(*entry & COMPRESSED) && *entry > IMG_MAX - *len) {
			errno = EIO;
			r = -1;
		}
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* The whole cluster of a compressed entry: offset in the low bits, then the
 * number of bytes. */
static int
inflate_cluster(struct img *im, uint64_t entry, uint8_t *out)
{
	struct qcow *q = im->priv;
	uint64_t at = entry & ((1ull << (63 - q->cbits)) - 1);
	size_t n = entry >> (63 - q->cbits) & (q->cs - 1);
	uint8_t *c = malloc(n + 1);
	int r;

	if (!c)
		return -1;
	r = img_pread_backing(im->file, c, n, at) || q2_inflate(0, c, n, out,
	    q->cs) ? -1 : 0;
	free(c);
	return r;
}

/* A part of the disk at `off`, in the file at `at`. */
static int
read_data(struct img *im, void *p, size_t n, uint64_t at, uint64_t off)
{
	struct qcow *q = im->priv;

	return q->encrypted ? crypt_pread(q->crypt, im->file, p, n, at, off) :
	    img_pread_backing(im->file, p, n, at);
}

static int
write_data(struct img *im, const void *p, size_t n, uint64_t at, uint64_t off)
{
	struct qcow *q = im->priv;

	return q->encrypted ? crypt_pwrite(q->crypt, im->file, p, n, at, off) :
	    img_pwrite(im->file, p, n, at, 0);
}

static int
read_compressed(struct img *im, uint64_t entry, void *p, size_t n, uint64_t in)
{
	struct qcow *q = im->priv;
	uint8_t *c = malloc(q->cs);
	int r;

	if (!c)
		return -1;
	r = inflate_cluster(im, entry, c);
	if (!r)
		memcpy(p, c + in, n);
	free(c);
	return r;
}

static int
qcow_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct qcow *q = im->priv;
	uint8_t *b = p;
	uint64_t k, entry, in;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		k = n;
		in = off & (q->cs - 1);
		if (lookup(im, off, &k, &entry))
			return -1;
		if (!entry)
			r = img_pread_backing(im->backing, b, k, off);
		else if (entry & COMPRESSED)
			r = read_compressed(im, entry, b, k, in);
		else
			r = read_data(im, b, k, entry + in, off);
	}
	return r;
}

/* A part of a cluster that cannot be overwritten, into a new one; lock held. */
static int
allocate(struct img *im, uint64_t *t, const uint8_t *p, size_t n, uint64_t off)
{
	struct qcow *q = im->priv;
	uint64_t in = off & (q->cs - 1), old = be64(slot(q, t, off));
	uint8_t *c = malloc(q->cs);
	int r = -1;

	if (!c)
		return -1;
	if (n < q->cs && (old & COMPRESSED ? inflate_cluster(im, old, c) :
	    img_pread_backing(im->backing, c, q->cs, off - in)))
		goto out;
	memcpy(c + in, p, n);
	q->end = rup(q->end, q->cs);
	if (write_data(im, c, q->cs, q->end, off - in))
		goto out;
	set(q, t, off, q->end);
	q->end += q->cs;
	r = 0;
out:
	free(c);
	return r;
}

static int
qcow_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct qcow *q = im->priv;
	const uint8_t *b = p;
	uint64_t k, entry, *t;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		k = n;
		if (lookup(im, off, &k, &entry))
			return -1;
		if (entry && !(entry & COMPRESSED)) {
			r = write_data(im, b, k, entry + (off & (q->cs - 1)),
			    off);
			continue;
		}
		k = umin(n, q->cs - (off & (q->cs - 1)));
		pthread_mutex_lock(&q->lock);
		r = table(im, off, true, &t);
		entry = r ? 0 : be64(slot(q, t, off));
		/* somebody may have been faster */
		if (!r && entry && !(entry & COMPRESSED))
			r = write_data(im, b, k, entry + (off & (q->cs - 1)),
			    off);
		else if (!r)
			r = allocate(im, t, b, k, off);
		pthread_mutex_unlock(&q->lock);
	}
	return r;
}

static int
qcow_pwritec(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct qcow *q = im->priv;
	uint8_t *c;
	uint64_t *t;
	size_t z;
	int r = -1;

	if (q->encrypted) {		/* they would not be */
		errno = ENOTSUP;
		return -1;
	}
	if (!(c = calloc(2, q->cs)))
		return -1;
	memcpy(c, p, n);
	z = q2_deflate(0, c, q->cs, c + q->cs, q->cs - 1);
	if (!z) {
		r = qcow_pwrite(im, p, n, off);
		goto out;
	}
	pthread_mutex_lock(&q->lock);
	if (q->end >> (63 - q->cbits)) {
		errno = EFBIG;
	} else if (!table(im, off, true, &t) && !img_pwrite(im->file,
	    c + q->cs, z, q->end, 0)) {
		set(q, t, off, COMPRESSED | (uint64_t)z << (63 - q->cbits) |
		    q->end);
		q->end += z;
		r = 0;
	}
	pthread_mutex_unlock(&q->lock);
out:
	free(c);
	return r;
}

static int
qcow_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct qcow *q = im->priv;
	uint64_t entry;

	s->len = len;
	if (lookup(im, off, &s->len, &entry))
		return -1;
	if (entry & COMPRESSED)
		s->flags = IMG_DATA | IMG_ALLOC | IMG_COMPRESSED;
	else if (entry && q->encrypted)
		s->flags = IMG_DATA | IMG_ALLOC;
	else if (entry) {
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED;
		s->map = entry + (off & (q->cs - 1));
		s->file = im->file;
	}
	return 0;
}

static int
qcow_empty(struct img *im)
{
	struct qcow *q = im->priv;
	int r;

	pthread_mutex_lock(&q->lock);
	memset(q->l1, 0, (size_t)q->l1_n * 8);
	for (uint32_t i = 0; i < q->l1_n; i++) {
		free(q->l2[i]);
		q->l2[i] = NULL;
		q->l2_dirty[i] = false;
	}
	q->kept = 0;
	q->any_dirty = false;
	r = img_pwrite(im->file, q->l1, (size_t)q->l1_n * 8, q->l1_off, 0) ||
	    img_flush(im->file) || img_truncate(im->file, q->l1_off + q->l1_n *
	    8ull, PRE_OFF, NULL) ? -1 : 0;
	if (!r)
		q->end = rup(q->l1_off + q->l1_n * 8ull, q->cs);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* -------------------------------------------------------------- creation */

static const struct opt_desc qcow_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "backing_file", VAL_STR, "File name of a base image" },
	{ "backing_fmt", VAL_STR, "Format of the backing image" },
	{ "encryption", VAL_BOOL, "Encrypt the image with format 'aes'. "
	    "(Deprecated in favor of encrypt.format=aes)" },
	{ "encrypt.format", VAL_STR,
	    "Encrypt the image, format choices: 'aes'" },
	{ "encrypt.key-secret", VAL_STR,
	    "ID of the secret that provides the AES encryption key" },
	{ 0 }
};

/* With a backing file clusters are sectors, so that a write copies nothing. */
static int
qcow_create(const char *name, struct opts *o, struct imgerr *e)
{
	const char *back = opts_get(o, "backing_file");
	size_t bn = back ? strlen(back) : 0, head = rup(HEADER + bn, 8), l1;
	unsigned cbits = bn ? 9 : 12, l2bits = bn ? 12 : 9;
	uint64_t size, span;
	struct img *f;
	unsigned method;
	uint8_t *b;
	int r = 0;

	opts_get(o, "backing_fmt");
	if (opts_size(o, "size", 0, &size, e) ||
	    q2_crypt_method(o, &method, e))
		return -1;
	if (method == Q2_LUKS)
		return err_set(e, EINVAL, "Unsupported encryption format");
	if (q2_crypt_measure(method, o, &span, e))
		return -1;
	span = 1ull << (cbits + l2bits);
	if (!size)
		return err_set(e, EINVAL, "Image size is too small, cannot be "
		    "zero length");
	if (bn > NAME_MAX_LEN)
		return err_set(e, EINVAL, "Backing file name too long");
	size = rup(size, 512);
	if (size > IMG_MAX - span || (size + span - 1) / span > L1_MAX / 8)
		return err_set(e, EINVAL, "Image too large");
	l1 = (size_t)((size + span - 1) / span) * 8;
	if (!(b = calloc(1, head + l1)))
		return err_set(e, ENOMEM, "Out of memory");
	if (!(f = img_create_file(name, 0, o, e))) {
		free(b);
		return -1;
	}
	pbe32(b, Q2_MAGIC);
	pbe32(b + 4, 1);
	if (bn) {
		pbe64(b + 8, HEADER);
		pbe32(b + 16, (uint32_t)bn);
		memcpy(b + HEADER, back, bn);
	}
	pbe32(b + 20, (uint32_t)time(NULL));
	pbe64(b + 24, size);
	b[32] = (uint8_t)cbits;
	b[33] = (uint8_t)l2bits;
	pbe32(b + 36, method);
	pbe64(b + 40, head);
	if (img_pwrite(f, b, head + l1, 0, 0))
		r = err_set(e, errno, "Could not write: %s", strerror(errno));
	img_close(f);
	free(b);
	return r;
}

const struct img_driver drv_qcow = {
	.name = "qcow", .late = true, .backing = true, .opts = qcow_opts,
	.probe = qcow_probe, .open = qcow_open, .close = qcow_close,
	.pread = qcow_pread, .pwrite = qcow_pwrite, .pwritec = qcow_pwritec,
	.flush = qcow_flush, .status = qcow_status, .empty = qcow_empty,
	.create = qcow_create,
};
