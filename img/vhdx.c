/*
 * vhdx.c - Hyper-V's second format ([MS-VHDX] 1.0): a disk of equal payload
 * blocks that a table (BAT) places, two headers with sequence numbers, and a log
 * of changes that a writer had begun (vhdx-log.c).
 *
 * Power cuts: the log is played back, and not written.  Nothing of ours needs it:
 * a change of the table is one entry of 8 bytes that stands for itself, and is
 * written by a flush after the block it places.  A cut leaves unused blocks at
 * worst.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vhdx.h"

enum { MAX_BAT = 128 << 20 };

struct vhdx {
	pthread_mutex_t	lock;
	struct vhdx_header h;
	uint64_t	bs, end;	/* block; where the next one goes */
	uint64_t	bat_off, nbat, ratio;
	uint64_t	*bat;
	uint8_t		*dirty;		/* a byte for 4 KiB of the table */
	bool		any_dirty;
	_Atomic bool	changed;
	bool		replayed;	/* the log, when it was opened */
};

static int
vhdx_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 8 && !memcmp(b, "vhdxfile", 8) ? 100 : 0;
}

/* ---------------------------------------------------------------- headers */

int
vhdx_header_write(struct img *file, struct vhdx_header *h, bool data,
    const uint8_t *log_guid)
{
	static const uint8_t none[16];

	if (vhdx_random(h->b + 16) || (data && vhdx_random(h->b + 32)))
		return -1;
	memcpy(h->b + 48, log_guid ? log_guid : none, 16);
	h->slot ^= 1;
	ple64(h->b + 8, ++h->seq);
	ple32(h->b + 4, vhdx_sum(h->b, VHDX_HEADER));
	return img_pwrite(file, h->b, VHDX_HEADER, 65536ull + h->slot * 65536ull,
	    0) || img_flush(file) ? -1 : 0;
}

/* 2.2.2.1: the valid one with the higher number. */
static int
read_headers(struct img *im, struct vhdx_header *h, struct imgerr *e)
{
	struct vhdx_header t;
	bool found = false;

	for (t.slot = 0; t.slot < 2; t.slot++) {
		if (img_pread_backing(im->file, t.b, VHDX_HEADER, 65536 +
		    t.slot * 65536))
			return err_set(e, errno, "Could not read the VHDX "
			    "header: %s", strerror(errno));
		t.seq = le64(t.b + 8);
		if (memcmp(t.b, "head", 4) || le32(t.b + 4) != vhdx_sum(t.b,
		    VHDX_HEADER) || le16(t.b + 66) != 1 || (found && t.seq <=
		    h->seq))
			continue;
		t.log_len = le32(t.b + 68);
		t.log_off = le64(t.b + 72);
		*h = t;
		found = true;
	}
	if (!found)
		return err_set(e, EINVAL, "No valid VHDX header found");
	if (le16(h->b + 64) || h->log_len % MiB || h->log_off % MiB ||
	    h->log_off < MiB || h->log_off > IMG_MAX - h->log_len)
		return err_set(e, EINVAL, "VHDX header's log is not valid");
	return 0;
}

/* 2.2.3: places of the table and the metadata. */
static int
read_regions(struct img *im, uint64_t off[2], uint32_t len[2], struct imgerr *e)
{
	uint8_t *b = malloc(VHDX_TABLE);
	uint32_t n = 0;
	int r = -1, copy;

	if (!b)
		return err_set(e, ENOMEM, "Out of memory");
	for (copy = 0; copy < 2; copy++) {
		if (img_pread_backing(im->file, b, VHDX_TABLE, 3 * 65536 +
		    copy * 65536))
			continue;
		n = le32(b + 8);
		if (!memcmp(b, "regi", 4) && le32(b + 4) == vhdx_sum(b,
		    VHDX_TABLE) && n <= 2047)
			break;
	}
	off[0] = off[1] = 0;
	if (copy == 2) {
		err_set(e, EINVAL, "No valid VHDX region table found");
		goto out;
	}
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *p = b + 16 + i * 32;
		int k = !memcmp(p, vhdx_id_bat, 16) ? 0 : !memcmp(p, vhdx_id_meta, 16) ?
		    1 : -1;

		if (k < 0 && le32(p + 28) & 1) {
			err_set(e, ENOTSUP, "VHDX region that is required is "
			    "not known");
			goto out;
		}
		if (k < 0)
			continue;
		off[k] = le64(p + 16);
		len[k] = le32(p + 24);
		if (off[k] < MiB || off[k] % MiB || len[k] % MiB || !len[k] ||
		    off[k] > IMG_MAX - len[k]) {
			err_set(e, EINVAL, "VHDX region table is not valid");
			goto out;
		}
	}
	r = off[0] && off[1] ? 0 : err_set(e, EINVAL, "VHDX region is missing");
out:
	free(b);
	return r;
}

/* 2.6.2: one item of at most `n` bytes; 1: there is none. */
static int
item(struct img *im, const uint8_t *table, uint64_t off, uint32_t len,
    const uint8_t *id, uint8_t *to, uint32_t n)
{
	for (uint32_t i = 0; i < le16(table + 10); i++) {
		const uint8_t *p = table + 32 + i * 32;
		uint32_t at = le32(p + 16);

		if (memcmp(p, id, 16))
			continue;
		if (at < VHDX_TABLE || n > len || at > len - n ||
		    le32(p + 20) < n) {
			errno = EINVAL;
			return -1;
		}
		return img_pread_backing(im->file, to, n, off + at);
	}
	return 1;
}

static int
read_metadata(struct img *im, struct vhdx *v, uint64_t off, uint32_t len,
    struct imgerr *e)
{
	static const uint8_t *const known[] = { vhdx_id_param, vhdx_id_size, vhdx_id_disk,
		vhdx_id_logical, vhdx_id_physical };
	uint8_t *t = malloc(VHDX_TABLE), b[8], size[8], ls[4];
	int r = -1;

	if (!t || img_pread_backing(im->file, t, VHDX_TABLE, off)) {
		err_set(e, errno, "Could not read the VHDX metadata: %s",
		    strerror(errno));
		goto out;
	}
	if (memcmp(t, "metadata", 8) || le16(t + 10) > 2047) {
		err_set(e, EINVAL, "VHDX metadata table is not valid");
		goto out;
	}
	if (item(im, t, off, len, vhdx_id_param, b, 8) ||
	    item(im, t, off, len, vhdx_id_size, size, 8) ||
	    item(im, t, off, len, vhdx_id_logical, ls, 4)) {
		err_set(e, EINVAL, "VHDX metadata is not complete");
		goto out;
	}
	if (le32(b + 4) & 2) {
		err_set(e, ENOTSUP, "VHDX images with a parent are not "
		    "supported");
		goto out;
	}
	for (uint32_t i = 0; i < le16(t + 10); i++) {
		const uint8_t *p = t + 32 + i * 32;
		size_t k = 0;

		while (k < 5 && memcmp(p, known[k], 16))
			k++;
		if (k == 5 && le32(p + 24) & 4) {
			err_set(e, ENOTSUP, "VHDX metadata that is required is "
			    "not known");
			goto out;
		}
	}
	v->bs = le32(b);
	im->size = le64(size);
	if (v->bs < MiB || v->bs > VHDX_BLOCK_MAX || v->bs & (v->bs - 1) ||
	    (le32(ls) != 512 && le32(ls) != 4096) || im->size % le32(ls) ||
	    im->size > 64ull << 40) {
		err_set(e, EINVAL, "VHDX metadata is not valid");
		goto out;
	}
	v->ratio = (8ull << 20) * le32(ls) / v->bs;
	r = 0;
out:
	free(t);
	return r;
}

/* 2.6.1: after each `ratio` blocks an entry of a bitmap, unused here. */
static uint64_t
bat_index(const struct vhdx *v, uint64_t block)
{
	return block + block / v->ratio;
}

static int
read_bat(struct img *im, struct vhdx *v, uint32_t len, struct imgerr *e)
{
	uint64_t blocks = (im->size + v->bs - 1) / v->bs;

	v->nbat = blocks ? bat_index(v, blocks - 1) + 1 : 0;
	if (v->nbat * 8 > len)
		return err_set(e, EINVAL, "VHDX block table is too short");
	if (v->nbat * 8 > MAX_BAT)
		return err_set(e, EFBIG, "VHDX block table of %llu bytes is not "
		    "supported", (unsigned long long)v->nbat * 8);
	v->bat = malloc(rup(v->nbat * 8 + 1, VHDX_SECTOR));
	v->dirty = calloc(1, v->nbat * 8 / VHDX_SECTOR + 1);
	if (!v->bat || !v->dirty)
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(im->file, v->bat, rup(v->nbat * 8, VHDX_SECTOR),
	    v->bat_off))
		return err_set(e, errno, "Could not read the VHDX block table: "
		    "%s", strerror(errno));
	v->end = rup(umax(im->file->size, v->bat_off + len), MiB);
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t w = v->bat[bat_index(v, i)], at = w >> 20 << 20;

		if ((w & 7) == B_PARTLY || (w & 7) == 4 || (w & 7) == 5 ||
		    ((w & 7) == B_PRESENT && (at < MiB || at > IMG_MAX - v->bs)))
			return err_set(e, EINVAL, "VHDX block table is not "
			    "valid");
		if ((w & 7) == B_PRESENT && at + v->bs > v->end)
			v->end = at + v->bs;
	}
	return 0;
}

static int
vhdx_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	uint64_t off[2];
	uint32_t len[2];
	uint8_t sig[8];
	int log;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(im->file, sig, 8, 0) || memcmp(sig, "vhdxfile",
	    8)) {
		err_set(e, EINVAL, "Could not open '%s': Invalid argument",
		    im->filename);
		goto bad;
	}
	if (read_headers(im, &v->h, e))
		goto bad;
	log = vhdx_log(im->file, &v->h, im->flags & IMG_RDWR, e);
	if (log < 0)
		goto bad;
	if (log && !(im->flags & IMG_RDWR)) {
		err_set(e, EPERM, "VHDX image file '%s' opened read-only, but "
		    "contains a log that needs to be replayed\n"
		    "To replay the log, run:\nvm-img check -r all '%s'",
		    im->filename, im->filename);
		goto bad;
	}
	if (log && vhdx_header_write(im->file, &v->h, false, NULL)) {
		err_set(e, errno, "Could not write the VHDX header: %s",
		    strerror(errno));
		goto bad;
	}
	if (read_regions(im, off, len, e) ||
	    read_metadata(im, v, off[1], len[1], e))
		goto bad;
	v->replayed = log;
	v->bat_off = off[0];
	if (read_bat(im, v, len[0], e))
		goto bad;
	pthread_mutex_init(&v->lock, NULL);
	im->cluster = (uint32_t)v->bs;
	im->zero_init = true;
	im->priv = v;
	return 0;
bad:
	free(v->bat);
	free(v->dirty);
	free(v);
	return -1;
}

/* --------------------------------------------------------------------- I/O */

/* Lock held. */
static int
sync_bat(struct img *im)
{
	struct vhdx *v = im->priv;
	uint64_t n = rup(v->nbat * 8, VHDX_SECTOR) / VHDX_SECTOR;

	if (!v->any_dirty)
		return 0;
	if (img_flush(im->file))
		return -1;
	for (uint64_t i = 0; i < n; i++) {
		if (!v->dirty[i])
			continue;
		if (img_pwrite(im->file, (uint8_t *)v->bat + i * VHDX_SECTOR,
		    VHDX_SECTOR, v->bat_off + i * VHDX_SECTOR, 0))
			return -1;
		v->dirty[i] = 0;
	}
	v->any_dirty = false;
	return 0;
}

static int
vhdx_flush(struct img *im)
{
	struct vhdx *v = im->priv;
	int r;

	pthread_mutex_lock(&v->lock);
	r = sync_bat(im);
	pthread_mutex_unlock(&v->lock);
	return r ? -1 : img_flush(im->file);
}

static void
vhdx_close(struct img *im)
{
	struct vhdx *v = im->priv;

	if (im->flags & IMG_RDWR)
		vhdx_flush(im);
	pthread_mutex_destroy(&v->lock);
	free(v->bat);
	free(v->dirty);
	free(v);
}

/* 2.2.2: the identifiers change before the first write does.  Lock held. */
static int
begin(struct img *im)
{
	struct vhdx *v = im->priv;

	if (v->changed)
		return 0;
	if (vhdx_header_write(im->file, &v->h, true, NULL))
		return -1;
	v->changed = true;
	return 0;
}

static uint64_t
lookup(struct img *im, uint64_t off, uint64_t *len)
{
	struct vhdx *v = im->priv;
	uint64_t in = off & (v->bs - 1), w;

	pthread_mutex_lock(&v->lock);
	w = v->bat[bat_index(v, off / v->bs)];
	pthread_mutex_unlock(&v->lock);
	*len = umin(*len, v->bs - in);
	return (w & 7) == B_PRESENT ? (w >> 20 << 20) + in : 0;
}

static int
vhdx_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	uint8_t *b = p;
	uint64_t k, at;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		k = n;
		if ((at = lookup(im, off, &k)))
			r = img_pread_backing(im->file, b, k, at);
		else
			memset(b, 0, k);
	}
	return r;
}

/* A new block at the end of the file, which reads as zeros there.  Lock held. */
static uint64_t
allocate(struct img *im, uint64_t off)
{
	struct vhdx *v = im->priv;
	uint64_t i = bat_index(v, off / v->bs), w = v->bat[i], at = v->end;
	struct imgerr e;

	if ((w & 7) == B_PRESENT)
		return w >> 20 << 20;
	if (im->file->drv->protocol && im->file->zero_init) {
		if (img_truncate(im->file, at + v->bs, PRE_OFF, &e))
			return 0;
	} else if (img_zero(im->file, at, v->bs, 0))
		return 0;
	v->end += v->bs;
	v->bat[i] = at | B_PRESENT;
	v->dirty[i * 8 / VHDX_SECTOR] = 1;
	v->any_dirty = true;
	return at;
}

static int
vhdx_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct vhdx *v = im->priv;
	const uint8_t *b = p;
	uint64_t k, at;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		k = n;
		at = v->changed ? lookup(im, off, &k) : 0;
		if (!at) {
			k = umin(n, v->bs - (off & (v->bs - 1)));
			pthread_mutex_lock(&v->lock);
			at = begin(im) ? 0 : allocate(im, off);
			pthread_mutex_unlock(&v->lock);
			if (!at)
				return -1;
			at += off & (v->bs - 1);
		}
		r = img_pwrite(im->file, b, k, at, 0);
	}
	return r;
}

/* Blocks that are not there are zeros already. */
static int
vhdx_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct vhdx *v = im->priv;
	uint64_t k, at;

	pthread_mutex_lock(&v->lock);
	k = begin(im);
	pthread_mutex_unlock(&v->lock);
	if (k)
		return -1;
	for (; len; off += k, len -= k) {
		k = len;
		if ((at = lookup(im, off, &k)) && img_zero(im->file, at, k,
		    flags))
			return -1;
	}
	return 0;
}

static int
vhdx_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	s->len = len;
	s->map = lookup(im, off, &s->len);
	s->flags = IMG_ALLOC | (s->map ? IMG_DATA | IMG_MAPPED : IMG_ZERO);
	s->file = s->map ? im->file : NULL;
	return 0;
}

static int
by_place(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Blocks that overlap or lie outside the file (2.6.1.2). */
static int
vhdx_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct vhdx *v = im->priv;
	uint64_t blocks = (im->size + v->bs - 1) / v->bs, n = 0, end = 0;
	uint64_t *at = malloc(blocks * sizeof(*at) + 1);

	if (!at)
		return err_set(e, ENOMEM, "Out of memory");
	c->corruptions_fixed += v->replayed;
	v->replayed = false;
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t w = v->bat[bat_index(v, i)];

		if ((w & 7) == B_PRESENT)
			at[n++] = w >> 20;
	}
	qsort(at, n, sizeof(*at), by_place);
	for (uint64_t i = 0; i < n; i++) {
		if (at[i] < end || at[i] >= (im->file->size + MiB - 1) / MiB)
			c->corruptions++;
		end = at[i] + v->bs / MiB;
	}
	free(at);
	return 0;
}

const struct img_driver drv_vhdx = {
	.name = "vhdx", .late = true, .opts = vhdx_opts, .probe = vhdx_probe,
	.open = vhdx_open, .close = vhdx_close, .pread = vhdx_pread,
	.pwrite = vhdx_pwrite, .zero = vhdx_zero, .flush = vhdx_flush,
	.status = vhdx_status, .check = vhdx_check, .create = vhdx_create,
};
