/*
 * qcow2-refcount.c - reference counts of host clusters (qcow2 specification,
 * "Host cluster management"): any width from 1 to 64 bits; allocation.
 *
 * A missing refcount block is made when the search for free clusters comes to
 * it, on the first cluster it covers, so it counts itself.  When the refcount
 * table ends, a larger one goes behind all that the old one covered.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

uint64_t
q2_rc_read(const uint8_t *b, unsigned order, uint64_t i)
{
	switch (order) {
	case 0: return b[i / 8] >> (i % 8) & 1;
	case 1: return b[i / 4] >> (i % 4 * 2) & 3;
	case 2: return b[i / 2] >> (i % 2 * 4) & 15;
	case 3: return b[i];
	case 4: return be16(b + i * 2);
	case 5: return be32(b + i * 4);
	default: return be64(b + i * 8);
	}
}

void
q2_rc_write(uint8_t *b, unsigned order, uint64_t i, uint64_t v)
{
	unsigned w = 1u << order, sh;

	switch (order) {
	case 0: case 1: case 2:
		sh = (unsigned)(i % (8 / w)) * w;
		b += i / (8 / w);
		*b = (uint8_t)((*b & ~(((1u << w) - 1) << sh)) | v << sh);
		break;
	case 3: b[i] = (uint8_t)v; break;
	case 4: pbe16(b + i * 2, (uint16_t)v); break;
	case 5: pbe32(b + i * 4, (uint32_t)v); break;
	default: pbe64(b + i * 8, v);
	}
}

/* The block that counts `cluster`; NULL with errno 0 if there is none. */
static struct tab *
block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster / q->rb_n, off;

	errno = 0;
	if (i >= q->rt_size)
		return NULL;
	off = q->rt[i] & ~511ull;
	if (!off)
		return NULL;
	if (off & (q->cs - 1)) {
		errno = EIO;
		return NULL;
	}
	return q2_get(q, &q->rbc, off, false);
}

int
q2_rc_get(struct qcow2 *q, uint64_t cluster, uint64_t *v)
{
	struct tab *t = block(q, cluster);

	*v = 0;
	if (!t)
		return errno ? -1 : 0;
	*v = q2_rc_read(t->buf, q->rorder, cluster % q->rb_n);
	return 0;
}

static void
rt_dirty(struct qcow2 *q, uint32_t i)
{
	if (!q->rt_hi || i < q->rt_lo)
		q->rt_lo = i;
	if (i + 1 > q->rt_hi)
		q->rt_hi = i + 1;
}

static int
grow_table(struct qcow2 *q)
{
	uint64_t x = (uint64_t)q->rt_size * q->rb_n;	/* first not covered */
	uint64_t per = q->cs / 8, want, r, old_off = q->rt_off;
	uint64_t old_clusters = q->rt_clusters, *rt;
	uint32_t old_size = q->rt_size;
	uint8_t *b, hdr[12];
	int ret = -1;

	want = rup(umax(old_size + old_size / 2, old_size + 1), per);
	for (r = 1; r * q->rb_n < r + want / per; r++)
		;
	if (old_size + r > want)
		want = rup(old_size + r, per);
	if (want * 8 > Q2_RT_MAX || (x + r + want / per) * q->cs > Q2_OFFS) {
		errno = EFBIG;
		return -1;
	}
	if (q2_sync(q, true))
		return -1;
	rt = calloc(want, 8);
	b = calloc(1, umax(q->cs, want * 8));
	if (!rt || !b)
		goto out;
	memcpy(rt, q->rt, (size_t)old_size * 8);
	for (uint64_t i = 0; i < r; i++) {
		memset(b, 0, q->cs);
		for (uint64_t k = 0; k < q->rb_n; k++)
			if (i * q->rb_n + k < r + want / per)
				q2_rc_write(b, q->rorder, k, 1);
		rt[old_size + i] = (x + i) * q->cs;
		if (img_pwrite(q->im->file, b, q->cs, (x + i) * q->cs, 0))
			goto out;
	}
	for (uint64_t i = 0; i < want; i++)
		pbe64(b + i * 8, rt[i]);
	if (img_pwrite(q->im->file, b, want * 8, (x + r) * q->cs, 0) ||
	    img_flush(q->im->file))
		goto out;
	pbe64(hdr, (x + r) * q->cs);
	pbe32(hdr + 8, (uint32_t)(want / per));
	if (q2_header_field(q, 48, hdr, 12))
		goto out;
	free(q->rt);
	q->rt = rt;
	rt = NULL;
	q->rt_size = (uint32_t)want;
	q->rt_clusters = (uint32_t)(want / per);
	q->rt_off = (x + r) * q->cs;
	q2_unref(q, old_off, old_clusters);
	ret = 0;
out:
	free(rt);
	free(b);
	return ret;
}

/* Make the block for `cluster`, which has none. */
static int
make_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster / q->rb_n;
	struct tab *t;

	while (i >= q->rt_size)
		if (grow_table(q))
			return -1;
	if (q->rt[i])
		return 0;
	t = q2_get(q, &q->rbc, i * q->rb_n * q->cs, true);
	if (!t)
		return -1;
	q2_rc_write(t->buf, q->rorder, 0, 1);
	q2_dirty(&q->rbc, t);
	q->rt[i] = t->off;
	rt_dirty(q, (uint32_t)i);
	return 0;
}

int
q2_rc_set(struct qcow2 *q, uint64_t cluster, uint64_t v)
{
	struct tab *t = block(q, cluster);

	if (!t && !errno && v) {
		if (make_block(q, cluster))
			return -1;
		t = block(q, cluster);
	}
	if (!t)
		return errno ? -1 : 0;
	q2_rc_write(t->buf, q->rorder, cluster % q->rb_n, v);
	q2_dirty(&q->rbc, t);
	if (!v) {
		if (cluster < q->hint)
			q->hint = cluster;
		if (q->comp_next && (q->comp_next - 1) / q->cs == cluster)
			q->comp_next = 0;
	}
	return 0;
}

int
q2_rc_add(struct qcow2 *q, uint64_t cluster, uint64_t n, int delta)
{
	uint64_t v;

	for (; n; n--, cluster++) {
		if (q2_rc_get(q, cluster, &v))
			return -1;
		if ((delta > 0 && v >= q->rmax) || (delta < 0 && !v)) {
			errno = EINVAL;
			return -1;
		}
		if (q2_rc_set(q, cluster, v + (uint64_t)(int64_t)delta))
			return -1;
	}
	return 0;
}

/* Up to `max` free clusters in a row (all of them if `exact`). */
static uint64_t
search(struct qcow2 *q, uint64_t max, bool exact, uint64_t *got)
{
	uint64_t c = q->hint, run = 0, v;
	struct tab *t;
	bool first = true;

	for (;; c++) {
		if (c >= Q2_OFFS / q->cs) {
			errno = EFBIG;
			return 0;
		}
		t = block(q, c);
		if (!t) {
			if (errno || make_block(q, c))
				return 0;
			t = block(q, c);
			if (!t)
				return 0;
		}
		v = q2_rc_read(t->buf, q->rorder, c % q->rb_n);
		if (!v) {
			if (first) {
				q->hint = c;
				first = false;
			}
			if (++run == max) {
				c++;
				break;
			}
		} else if (run && !exact) {
			break;
		} else
			run = 0;
	}
	*got = run;
	return c - run;
}

/* The first cluster of a row that is longer than what one block counts: behind
 * everything, after the blocks that count it. */
static uint64_t
search_long(struct qcow2 *q, uint64_t n)
{
	uint64_t k = (n + q->rb_n - 2) / (q->rb_n - 1), i, x;
	struct tab *t;

	for (;;) {
		for (i = q->rt_size; i && !q->rt[i - 1]; i--)
			;
		if (i + k <= q->rt_size)
			break;
		if (grow_table(q))
			return 0;
	}
	x = i * q->rb_n;
	for (uint64_t j = 0; j < k; j++) {
		if (!(t = q2_get(q, &q->rbc, (x + j) * q->cs, true)))
			return 0;
		q2_dirty(&q->rbc, t);
		q->rt[i + j] = t->off;
		rt_dirty(q, (uint32_t)(i + j));
	}
	return q2_rc_add(q, x, k, 1) ? 0 : x + k;
}

static uint64_t
take(struct qcow2 *q, uint64_t max, bool exact, uint64_t *got)
{
	bool lng = exact && max >= q->rb_n;
	uint64_t c = lng ? search_long(q, max) : search(q, max, exact, got);

	if (!c)
		return 0;
	if (lng)
		*got = max;
	if (q2_rc_add(q, c, *got, 1))
		return 0;
	if (q->hint == c)
		q->hint = c + *got;
	return c * q->cs;
}

uint64_t
q2_alloc(struct qcow2 *q, uint64_t n)
{
	uint64_t got;

	return take(q, n, true, &got);
}

uint64_t
q2_alloc_some(struct qcow2 *q, uint64_t max, uint64_t *got)
{
	return take(q, max, false, got);
}

uint64_t
q2_alloc_bytes(struct qcow2 *q, uint64_t n)
{
	uint64_t off = q->comp_next, room, c, v;

	if (off) {
		room = rup(off, q->cs) - off;
		if (q2_rc_get(q, (off - 1) / q->cs, &v))
			return 0;
		if (!room || v >= q->rmax)
			off = 0;
	}
	if (!off || room < n) {
		c = q2_alloc(q, 1);
		if (!c)
			return 0;
		if (off && c == off + room) {
			/* goes on in the next cluster */
			if (q2_rc_add(q, off / q->cs, 1, 1))
				return 0;
		} else
			off = c;
	} else if (q2_rc_add(q, off / q->cs, 1, 1))
		return 0;
	q->comp_next = off + n;
	return off;
}

void
q2_unref(struct qcow2 *q, uint64_t off, uint64_t n)
{
	struct run *r;

	if (q->nfreed) {
		r = &q->freed[q->nfreed - 1];
		if (r->off + r->n * q->cs == off) {
			r->n += n;
			return;
		}
	}
	if (q->nfreed == q->cfreed) {
		size_t c = q->cfreed ? q->cfreed * 2 : 64;

		r = realloc(q->freed, c * sizeof(*r));
		if (!r)
			return;		/* a leak, which check finds */
		q->freed = r;
		q->cfreed = c;
	}
	q->freed[q->nfreed++] = (struct run){ off, n };
}

int
q2_apply_freed(struct qcow2 *q)
{
	size_t n = q->nfreed;
	struct run *r = q->freed;
	uint64_t v;
	int ret = 0;

	q->freed = NULL;
	q->nfreed = q->cfreed = 0;
	for (size_t i = 0; i < n; i++)
		for (uint64_t k = 0; k < r[i].n; k++) {
			uint64_t c = r[i].off / q->cs + k;

			if (q2_rc_get(q, c, &v))
				ret = -1;
			else if (v && q2_rc_set(q, c, v - 1))
				ret = -1;
			else if (v == 1) {
				q2_cache_drop(&q->l2c, c * q->cs);
				if (q->im->flags & IMG_UNMAP)
					img_discard(q->im->file, c * q->cs,
					    umin(q->cs, c * q->cs <
					    q->im->file->size ?
					    q->im->file->size - c * q->cs : 0));
			}
		}
	free(r);
	return ret;
}
