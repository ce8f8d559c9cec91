/*
 * vhdx-log.c - the log of a VHDX image: what a writer that was cut off had
 * promised, put into the file ([MS-VHDX] 2.3).
 *
 * The log is a ring of entries of whole 4 KiB sectors: a header, descriptors,
 * and a sector for each data descriptor.  The active sequence is the run of
 * valid entries with consecutive numbers that ends with the highest one; it
 * starts where that entry's tail points.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vhdx.h"

struct ring {
	uint8_t		*b;
	uint32_t	n;		/* sectors */
	const uint8_t	*guid;
	uint64_t	work;		/* bytes that may still be summed: a log
					 * made of overlapping entries would
					 * take for ever */
};

struct entry {
	uint32_t	at, n, tail;	/* sectors */
	uint32_t	ndesc, desc_n;	/* descriptors, their sectors */
	uint64_t	seq, flushed, last;
};

static uint8_t *
sector(const struct ring *r, uint64_t i)
{
	return r->b + (size_t)(i % r->n) * VHDX_SECTOR;
}

/* Descriptor i (2.3.1.2): 32 bytes each, after the header's 64. */
static const uint8_t *
descriptor(const struct ring *r, const struct entry *e, uint32_t i)
{
	uint64_t at = 64 + (uint64_t)i * 32;

	return sector(r, e->at + at / VHDX_SECTOR) + at % VHDX_SECTOR;
}

static bool
summed(struct ring *r, const struct entry *e)
{
	static const uint8_t zero[4];
	uint32_t crc;

	if ((uint64_t)e->n * VHDX_SECTOR > r->work)
		return false;
	r->work -= (uint64_t)e->n * VHDX_SECTOR;
	crc = vhdx_crc(0, sector(r, e->at), 4);
	crc = vhdx_crc(crc, zero, 4);
	crc = vhdx_crc(crc, sector(r, e->at) + 8, VHDX_SECTOR - 8);
	for (uint32_t i = 1; i < e->n; i++)
		crc = vhdx_crc(crc, sector(r, e->at + i), VHDX_SECTOR);
	return crc == le32(sector(r, e->at) + 4);
}

/* 2.3.1: is there a valid entry at this sector? */
static bool
valid(struct ring *r, uint32_t at, struct entry *e)
{
	const uint8_t *h = sector(r, at), *d;
	uint32_t len = le32(h + 8), data = 0;

	if (memcmp(h, "loge", 4) || memcmp(h + 32, r->guid, 16))
		return false;
	*e = (struct entry){ .at = at, .n = len / VHDX_SECTOR,
		.tail = le32(h + 12) / VHDX_SECTOR, .ndesc = le32(h + 24),
		.seq = le64(h + 16), .flushed = le64(h + 48),
		.last = le64(h + 56) };
	if (len % VHDX_SECTOR || !len || e->n > r->n || !e->seq ||
	    le32(h + 12) % VHDX_SECTOR || e->tail >= r->n ||
	    e->ndesc > e->n * (VHDX_SECTOR / 32))
		return false;
	e->desc_n = (uint32_t)((64 + (uint64_t)e->ndesc * 32 + VHDX_SECTOR -
	    1) / VHDX_SECTOR);
	if (e->desc_n > e->n || !summed(r, e))
		return false;
	for (uint32_t i = 0; i < e->ndesc; i++) {
		d = descriptor(r, e, i);
		if (le64(d + 24) != e->seq || le64(d + 16) % VHDX_SECTOR)
			return false;
		if (!memcmp(d, "zero", 4)) {
			if (le64(d + 8) % VHDX_SECTOR)
				return false;
			continue;
		}
		if (memcmp(d, "desc", 4) || e->desc_n + data >= e->n)
			return false;
		d = sector(r, e->at + e->desc_n + data++);
		if (memcmp(d, "data", 4) || le32(d + 4) != e->seq >> 32 ||
		    le32(d + 4092) != (uint32_t)e->seq)
			return false;
	}
	return e->desc_n + data == e->n;
}

/* 2.3.2: sets *first and *head of the active sequence; false: none. */
static bool
active(struct ring *r, struct entry *first, struct entry *head)
{
	struct entry e, top = { 0 };
	uint32_t at = 0, len, next;
	bool found = false;

	while (at < r->n) {
		if (!valid(r, at, &e)) {
			at++;
			continue;
		}
		for (len = 0;; ) {
			top = e;
			len += e.n;
			next = (e.at + e.n) % r->n;
			if (len >= r->n || !valid(r, next, &e) ||
			    e.seq != top.seq + 1)
				break;
		}
		/* the tail must be an entry of this run */
		for (next = at; valid(r, next, &e); next = (next + e.n) %
		    r->n) {
			if (next == top.tail && (!found ||
			    top.seq > head->seq)) {
				*first = e;
				*head = top;
				found = true;
			}
			if (next == top.tail || next == top.at)
				break;
		}
		at += len;
	}
	return found;
}

/* 2.3.3 */
static int
apply(struct img *file, struct ring *r, const struct entry *e)
{
	uint8_t b[VHDX_SECTOR];
	uint32_t data = 0;

	for (uint32_t i = 0; i < e->ndesc; i++) {
		const uint8_t *d = descriptor(r, e, i), *s;
		uint64_t off = le64(d + 16), len = VHDX_SECTOR;
		bool zero = !memcmp(d, "zero", 4);

		if (zero)
			len = le64(d + 8);
		if (off > IMG_MAX || len > IMG_MAX - off ||
		    off + len > rup(e->last, VHDX_SECTOR)) {
			errno = EINVAL;
			return -1;
		}
		if (zero) {
			if (img_zero(file, off, len, 0))
				return -1;
			continue;
		}
		s = sector(r, e->at + e->desc_n + data++);
		memcpy(b, d + 8, 8);
		memcpy(b + 8, s + 8, VHDX_SECTOR - 12);
		memcpy(b + VHDX_SECTOR - 4, d + 4, 4);
		if (img_pwrite(file, b, VHDX_SECTOR, off, 0))
			return -1;
	}
	return 0;
}

int
vhdx_log(struct img *file, const struct vhdx_header *h, bool write,
    struct imgerr *err)
{
	static const uint8_t none[16];
	struct ring r = { .n = h->log_len / VHDX_SECTOR, .guid = h->b + 48 };
	struct entry e = { 0 }, head = { 0 };
	uint32_t at;
	int ret = -1;

	if (!memcmp(r.guid, none, 16))
		return 0;
	if (!r.n || h->log_len > VHDX_LOG_MAX)
		return err_set(err, EINVAL, "VHDX log of %u bytes is not "
		    "supported", h->log_len);
	r.work = 8ull * h->log_len;
	if (!(r.b = malloc(h->log_len)))
		return err_set(err, ENOMEM, "Out of memory");
	if (img_pread_backing(file, r.b, h->log_len, h->log_off)) {
		err_set(err, errno, "Could not read the VHDX log: %s",
		    strerror(errno));
		goto out;
	}
	if (!active(&r, &e, &head)) {
		ret = 0;
		goto out;
	}
	ret = 1;
	if (!write)
		goto out;
	ret = -1;
	/* what the writer had on disk when it logged must be there */
	if (file->size < head.flushed) {
		err_set(err, EINVAL, "VHDX file is shorter than its log says");
		goto out;
	}
	for (at = e.at;;) {
		if (apply(file, &r, &e)) {
			err_set(err, errno, "Could not replay the VHDX log: %s",
			    strerror(errno));
			goto out;
		}
		if (at == head.at)
			break;
		at = (at + e.n) % r.n;
		if (!valid(&r, at, &e))
			break;
	}
	if (file->size < head.last && img_truncate(file, head.last, PRE_OFF,
	    err))
		goto out;
	if (img_flush(file)) {
		err_set(err, errno, "Could not flush: %s", strerror(errno));
		goto out;
	}
	ret = 1;
out:
	free(r.b);
	return ret;
}
