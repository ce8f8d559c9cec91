/*
 * qcow2-zero.c - clusters made to read as zeros, or given back (qcow2
 * specification, "Cluster mapping", "Extended L2 entries").
 */
#include <errno.h>

#include "qcow2.h"

/* Change whole (sub)clusters of one L2 table to zeros; lock held. */
static int
zero_table(struct qcow2 *q, uint64_t off, uint64_t len, bool unmap)
{
	struct tab *t = q2_l2_for_write(q, off);
	uint64_t e, bits, end = off + len;

	if (!t)
		return -1;
	for (; off < end; off = rdown(off, q->cs) + q->cs) {
		unsigned i = q2_l2_index(q, off);
		uint64_t in = off & (q->cs - 1);
		uint64_t to = umin(q->cs, in + (end - off)), m;

		e = q2_entry(q, t, i, &bits);
		if (q->nsub > 1 && (in || to < q->cs)) {
			if (e & Q2_COMPR) {
				errno = ENOTSUP;
				return -1;
			}
			m = q2_sub_mask(q, in, to);
			q2_set_entry(q, t, i, e, (bits & ~m) | m << 32);
			continue;
		}
		if (e & Q2_COMPR || unmap || !(e & Q2_COPIED) ||
		    !(e & Q2_OFFS)) {
			if (!q->im->data || unmap || e & Q2_COMPR) {
				q2_free_entry(q, e);
				e = 0;
			} else
				e &= Q2_OFFS | Q2_COPIED;
		} else
			e &= Q2_OFFS | Q2_COPIED;
		if (q->nsub > 1)
			q2_set_entry(q, t, i, e, 0xffffffffull << 32);
		else
			q2_set_entry(q, t, i, e | Q2_ZERO, 0);
	}
	return 0;
}

/* Does the cluster piece at `off` read as zeros without looking at data? */
static bool
reads_zero(struct qcow2 *q, uint64_t off, uint64_t len)
{
	struct q2map m;
	struct img_status s;

	for (uint64_t end = off + len; off < end; off += m.len) {
		if (q2_lookup(q, off, end - off, &m))
			return false;
		if (m.type == Q2_ZEROED)
			continue;
		if (m.type != Q2_UNALLOC)
			return false;
		if (!q->im->backing || off >= q->im->backing->size)
			continue;
		if (img_status(q->im->backing, NULL, off, m.len, &s) ||
		    !(s.flags & IMG_ZERO || s.depth == 0))
			return false;
		m.len = umin(m.len, s.len);
	}
	return true;
}

int
q2_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct qcow2 *q = im->priv;
	uint64_t a = q->scs, end = off + len, n, span;
	bool unmap = flags & IMG_MAYUNMAP;
	int ret = 0;

	if (q->version < 3) {
		if (im->backing || off % q->cs || (end % q->cs &&
		    end != im->size)) {
			errno = ENOTSUP;
			return -1;
		}
		return q2_unmap(im, off, len, true);
	}
	while (off < end && !ret) {
		uint64_t pend = umin(rdown(off, a) + a, im->size);

		pthread_mutex_lock(&q->lock);
		if (off % a || (end < pend)) {
			uint64_t lo = rdown(off, a), ce = umin(pend, end);
			bool z;

			q2_await(q, lo, a, true);
			z = reads_zero(q, lo, pend - lo);
			if (!z) {
				pthread_mutex_unlock(&q->lock);
				ret = img_write_zeros(im, off, ce - off,
				    flags);
			} else {
				if (q2_begin_change(q) || (q->nbm &&
				    q2_bm_mark(q, off, ce - off)) ||
				    zero_table(q, lo, a, unmap))
					ret = -1;
				pthread_mutex_unlock(&q->lock);
			}
			off = ce;
			continue;
		}
		span = q->cs << q->l2bits;
		n = umin(end - off, span - off % span);
		if (off + n != im->size)
			n = rdown(n, a);
		q2_await(q, off, n, true);
		if (q2_begin_change(q) || (q->nbm && q2_bm_mark(q, off, n)) ||
		    zero_table(q, off, rup(n, a), unmap) || q2_trim_freed(q))
			ret = -1;
		pthread_mutex_unlock(&q->lock);
		off += n;
	}
	return ret;
}

/* full: what the backing image has shows again. */
int
q2_unmap(struct img *im, uint64_t off, uint64_t len, bool full)
{
	struct qcow2 *q = im->priv;
	uint64_t end = off + len, e, bits, ne, nb;
	struct tab *t;
	int ret = 0;

	off = rup(off, q->cs);
	if (end != im->size)
		end = rdown(end, q->cs);
	pthread_mutex_lock(&q->lock);
	if (off < end && q2_begin_change(q))
		ret = -1;
	if (off < end && !ret && q->nbm && q2_bm_mark(q, off, end - off))
		ret = -1;
	for (; off < end && !ret; off += q->cs) {
		unsigned i = q2_l2_index(q, off);

		q2_await(q, off, q->cs, true);
		t = q2_l2_table(q, off);
		if (!t) {
			if (errno) {
				ret = -1;
				break;
			}
			if (full || !im->backing) {
				/* nothing in this table */
				off = rdown(off, q->cs << q->l2bits) +
				    (q->cs << q->l2bits) - q->cs;
				continue;
			}
			e = bits = 0;
		} else
			e = q2_entry(q, t, i, &bits);
		ne = nb = 0;
		if (!full) {
			bool plain = !(e & (Q2_OFFS | Q2_COMPR |
			    Q2_COPIED)) && (q->nsub > 1 ?
			    !bits : !(e & Q2_ZERO));

			if (plain && !im->backing)
				continue;
			if (q->version < 3) {
				if (im->backing)
					continue;
			} else if (q->nsub > 1)
				nb = 0xffffffffull << 32;
			else
				ne = Q2_ZERO;
		}
		if (ne == e && nb == bits)
			continue;
		if (!(t = q2_l2_for_write(q, off))) {
			ret = -1;
			break;
		}
		q2_free_entry(q, e);
		q2_set_entry(q, t, i, ne, nb);
		ret = q2_trim_freed(q);
	}
	pthread_mutex_unlock(&q->lock);
	return ret;
}

int
q2_discard(struct img *im, uint64_t off, uint64_t len)
{
	return q2_unmap(im, off, len, false);
}
