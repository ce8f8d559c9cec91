/*
 * qcow2-cluster.c - reading, writing with copy on write, compressed clusters,
 * block status, allocating ahead (qcow2 specification, "Cluster mapping").
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

/* --------------------------------------------------------------- reading */

static int
read_compressed(struct qcow2 *q, uint64_t e, uint8_t *p, size_t n, uint64_t in)
{
	uint64_t off, len;
	uint8_t *c, *out = NULL;
	int r = -1;

	q2_compr_span(q, e, &off, &len);
	c = malloc(len);
	if (in || n != q->cs)
		out = malloc(q->cs);
	if (!c || ((in || n != q->cs) && !out)) {
		errno = ENOMEM;
		goto out;
	}
	if (img_pread_backing(q->im->file, c, len, off) ||
	    q2_inflate(q->compr, c, len, out ? out : p, q->cs))
		goto out;
	if (out)
		memcpy(p, out + in, n);
	r = 0;
out:
	free(c);
	free(out);
	return r;
}

/* Read without registering (the caller has, or does not care). */
static int
fetch(struct qcow2 *q, const struct q2map *m, uint8_t *p, uint64_t off)
{
	switch (m->type) {
	case Q2_UNALLOC:
		return img_pread_backing(q->im->backing, p, m->len, off);
	case Q2_ZEROED:
		memset(p, 0, m->len);
		return 0;
	case Q2_NORMAL:
		return q2_data_read(q, p, m->len, m->host, off);
	case Q2_COMPRESSED:
		return read_compressed(q, m->entry, p, m->len,
		    off & (q->cs - 1));
	}
	return -1;
}

int
q2_pread(struct img *im, void *v, size_t n, uint64_t off)
{
	struct qcow2 *q = im->priv;
	uint8_t *p = v;
	struct q2map m;
	struct req r;
	int ret;

	while (n) {
		pthread_mutex_lock(&q->lock);
		q2_await(q, off, n, false);
		ret = q2_lookup(q, off, n, &m);
		if (!ret)
			q2_enter(q, &r, off, m.len, false);
		pthread_mutex_unlock(&q->lock);
		if (ret)
			return -1;
		ret = fetch(q, &m, p, off);
		pthread_mutex_lock(&q->lock);
		q2_leave(q, &r);
		pthread_mutex_unlock(&q->lock);
		if (ret)
			return -1;
		p += m.len;
		off += m.len;
		n -= m.len;
	}
	return 0;
}

static int
fetch_range(struct qcow2 *q, uint8_t *p, uint64_t off, uint64_t n)
{
	struct q2map m;
	int r;

	while (n) {
		/* past the end of the image there is nothing to keep */
		if (off >= q->im->size) {
			memset(p, 0, n);
			return 0;
		}
		pthread_mutex_lock(&q->lock);
		r = q2_lookup(q, off, umin(n, q->im->size - off), &m);
		pthread_mutex_unlock(&q->lock);
		if (r || fetch(q, &m, p, off))
			return -1;
		p += m.len;
		off += m.len;
		n -= m.len;
	}
	return 0;
}

/* --------------------------------------------------------------- writing */

/*
 * Write [off, off+n) that starts in a cluster which cannot be overwritten in
 * place; sets *done to how much of it.  Lock held on entry and exit, dropped
 * while data moves; the caller has made sure that nothing clashes.
 */
static int
write_alloc(struct qcow2 *q, const uint8_t *p, uint64_t n, uint64_t off,
    uint64_t *done)
{
	uint64_t in = off & (q->cs - 1), e, bits, host = 0, k, max, got, len;
	uint64_t head, tail, base = off - in, zlen;
	unsigned i = q2_l2_index(q, off), cnt = 1u << q->l2bits;
	struct tab *t = q2_l2_for_write(q, off);
	bool own = false, whole;
	uint8_t *b = NULL;
	struct req r;
	int ret = -1;

	if (!t || q2_begin_change(q))
		return -1;
	t = q2_l2_for_write(q, off);
	if (!t)
		return -1;
	e = q2_entry(q, t, i, &bits);
	max = umin((in + n + q->cs - 1) / q->cs, cnt - i);
	max = umin(max, umax(1, 16 * MiB / q->cs));
	if (!(e & Q2_COMPR) && e & Q2_COPIED &&
	    (q->im->data || e & Q2_OFFS) && !(e & Q2_OFFS & (q->cs - 1))) {
		/* ours already, but zeroed or with unallocated parts */
		host = e & Q2_OFFS;
		own = true;
		got = 1;
	} else {
		for (k = 1; k < max; k++) {
			uint64_t b2, e2 = q2_entry(q, t, i + (unsigned)k, &b2);

			if (!(e2 & Q2_COMPR) && e2 & Q2_COPIED)
				break;
		}
		if (q->im->data) {
			host = base;
			got = k;
		} else if (!(host = q2_alloc_some(q, k, &got)))
			return -1;
	}
	len = umin(n, got * q->cs - in);
	/* what has to be copied in front and behind */
	whole = q->nsub == 1 || (!own && (q2_kind(q, e, bits, 0) ==
	    Q2_COMPRESSED || (bits & 0xffffffff)));
	head = whole ? in : in % q->scs;
	tail = whole ? rup(in + len, q->cs) : rup(in + len, q->scs);
	if (own && q->nsub > 1) {
		/* parts that are there stay */
		if (bits >> (in / q->scs) & 1)
			head = 0;
		if (bits >> ((in + len - 1) / q->scs) & 1)
			tail = in + len;
	}
	if (!whole && got > 1)		/* the last cluster: be simple */
		tail = rup(in + len, q->cs);
	tail -= in + len;
	q2_enter(q, &r, base, got * q->cs, true);
	pthread_mutex_unlock(&q->lock);
	zlen = head + len + tail;
	if (head || tail) {
		if (zlen <= 4 * MiB) {
			b = malloc(zlen);
			if (!b) {
				errno = ENOMEM;
				goto out;
			}
			if (fetch_range(q, b, off - head, head) ||
			    fetch_range(q, b + head + len, off + len, tail))
				goto out;
			memcpy(b + head, p, len);
			if (q2_data_write(q, b, zlen, host + in - head,
			    off - head))
				goto out;
		} else {
			b = malloc(umax(head, tail));
			if (!b) {
				errno = ENOMEM;
				goto out;
			}
			if (fetch_range(q, b, off - head, head) ||
			    q2_data_write(q, b, head, host + in - head,
			    off - head) ||
			    q2_data_write(q, p, len, host + in, off) ||
			    fetch_range(q, b, off + len, tail) ||
			    q2_data_write(q, b, tail, host + in + len,
			    off + len))
				goto out;
		}
	} else if (q2_data_write(q, p, len, host + in, off))
		goto out;
	ret = 0;
out:
	free(b);
	pthread_mutex_lock(&q->lock);
	if (!ret && !(t = q2_l2_for_write(q, off)))
		ret = -1;
	for (k = 0; !ret && k < got; k++) {
		uint64_t from, to, m;

		e = q2_entry(q, t, i + (unsigned)k, &bits);
		from = k ? 0 : in - head;
		to = k == got - 1 ? in + len + tail - k * q->cs : q->cs;
		m = q2_sub_mask(q, from, to);
		if (whole && got == 1)
			bits = 0xffffffff;
		else if (k == got - 1 && got > 1)
			bits = 0xffffffff;
		else
			bits = (bits | m) & ~(m << 32);
		if (!own)
			q2_free_entry(q, e);
		q2_set_entry(q, t, i + (unsigned)k, (host + k * q->cs) |
		    Q2_COPIED, bits);
	}
	if (ret && !own && !q->im->data)
		q2_unref(q, host, got);
	q2_leave(q, &r);
	*done = len;
	return ret;
}

int
q2_pwrite(struct img *im, const void *v, size_t n, uint64_t off)
{
	struct qcow2 *q = im->priv;
	const uint8_t *p = v;
	struct q2map m;
	struct req r;
	uint64_t k = 0;
	int ret = 0;

	pthread_mutex_lock(&q->lock);
	if (q->nbm && q2_bm_mark(q, off, n))
		ret = -1;
	while (n && !ret) {
		q2_await(q, off, n, false);
		if ((ret = q2_lookup(q, off, n, &m)))
			break;
		if (m.type == Q2_NORMAL && m.entry & Q2_COPIED &&
		    q->l1[q2_l1_index(q, off)] & Q2_COPIED) {
			k = m.len;
			q2_enter(q, &r, off, k, false);
			pthread_mutex_unlock(&q->lock);
			ret = q2_data_write(q, p, k, m.host, off);
			pthread_mutex_lock(&q->lock);
			q2_leave(q, &r);
		} else {
			if (q2_await(q, off, n, true))
				continue;
			ret = write_alloc(q, p, n, off, &k);
		}
		p += k;
		off += k;
		n -= k;
	}
	if (!ret)
		ret = q2_trim_freed(q);
	pthread_mutex_unlock(&q->lock);
	return ret;
}

int
q2_pwritec(struct img *im, const void *v, size_t n, uint64_t off)
{
	struct qcow2 *q = im->priv;
	uint64_t host, e, bits, nsec;
	uint8_t *in = NULL, *out;
	size_t len;
	struct tab *t;
	struct req r;
	int ret = -1;

	/* compressed clusters are not encrypted: nobody wants that */
	if (im->data || q->method) {
		errno = ENOTSUP;
		return -1;
	}
	if (off & (q->cs - 1) || (n % q->cs && off + n != im->size)) {
		errno = EINVAL;
		return -1;
	}
	for (; n > q->cs; n -= q->cs, off += q->cs) {
		if (q2_pwritec(im, v, q->cs, off))
			return -1;
		v = (const uint8_t *)v + q->cs;
	}
	out = malloc(q->cs);
	if (!out) {
		errno = ENOMEM;
		return -1;
	}
	if (n < q->cs) {
		if (!(in = calloc(1, q->cs)))
			goto out;
		memcpy(in, v, n);
		v = in;
	}
	len = q2_deflate(q->compr, v, q->cs, out, q->cs - 1);
	if (!len) {
		ret = img_pwrite(im, v, n, off, 0);
		goto out;
	}
	pthread_mutex_lock(&q->lock);
	q2_await(q, off, q->cs, true);
	if ((q->nbm && q2_bm_mark(q, off, n)) || q2_begin_change(q) ||
	    !(t = q2_l2_for_write(q, off)))
		goto unlock;
	/* as QEMU: compression does not overwrite what is there */
	if (q2_entry(q, t, q2_l2_index(q, off), &bits) & Q2_OFFS) {
		errno = EIO;
		goto unlock;
	}
	if (!(host = q2_alloc_bytes(q, len)))
		goto unlock;
	q2_enter(q, &r, off, q->cs, true);
	pthread_mutex_unlock(&q->lock);
	ret = img_pwrite(im->file, out, len, host, 0);
	pthread_mutex_lock(&q->lock);
	q2_leave(q, &r);
	if (!ret && !(t = q2_l2_for_write(q, off)))
		ret = -1;
	nsec = (host + len - 1) / 512 - host / 512;
	if (!ret) {
		e = q2_entry(q, t, q2_l2_index(q, off), &bits);
		q2_free_entry(q, e);
		q2_set_entry(q, t, q2_l2_index(q, off), Q2_COMPR | host |
		    nsec << (62 - (q->cbits - 8)), 0);
		ret = q2_trim_freed(q);
	}
unlock:
	pthread_mutex_unlock(&q->lock);
out:
	free(in);
	free(out);
	return ret;
}

/* ------------------------------------------------- status, preallocation */

int
q2_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct qcow2 *q = im->priv;
	struct q2map m;
	int r;

	pthread_mutex_lock(&q->lock);
	q2_await(q, off, 1, false);
	r = q2_lookup(q, off, len, &m);
	pthread_mutex_unlock(&q->lock);
	if (r)
		return -1;
	s->len = m.len;
	switch (m.type) {
	case Q2_UNALLOC:
		break;
	case Q2_ZEROED:
		s->flags = IMG_ZERO | IMG_ALLOC;
		if (m.host & ~(q->cs - 1) && !q->method) {
			s->flags |= IMG_MAPPED;
			s->map = m.host;
			s->file = q2_data(q);
		}
		break;
	case Q2_NORMAL:
		s->flags = IMG_DATA | IMG_ALLOC;
		if (q->method)
			break;
		s->flags |= IMG_MAPPED | (q->holes ? IMG_SUB : 0);
		s->map = m.host;
		s->file = q2_data(q);
		break;
	case Q2_COMPRESSED:
		s->flags = IMG_DATA | IMG_ALLOC | IMG_COMPRESSED;
	}
	return 0;
}

int
q2_preallocate(struct qcow2 *q, uint64_t from, uint64_t to, enum prealloc pre,
    struct imgerr *e)
{
	uint64_t off, got, host, bits, end = 0;
	struct tab *t;

	for (off = from; off < to; off += got * q->cs) {
		unsigned i = q2_l2_index(q, off);
		uint64_t max = umin((1u << q->l2bits) - i, (to - off + q->cs -
		    1) / q->cs);

		if (!(t = q2_l2_for_write(q, off)))
			goto bad;
		if (q2_entry(q, t, i, &bits)) {
			got = 1;
			continue;
		}
		if (q->im->data) {
			host = off;
			got = max;
		} else if (!(host = q2_alloc_some(q, max, &got)))
			goto bad;
		if (!(t = q2_l2_for_write(q, off)))
			goto bad;
		for (uint64_t k = 0; k < got; k++)
			q2_set_entry(q, t, i + (unsigned)k, (host + k * q->cs) |
			    Q2_COPIED, 0xffffffff);
		end = umax(end, host + got * q->cs);
	}
	if (end > q2_data(q)->size && !q->im->data)
		return img_truncate(q2_data(q), end, pre == PRE_METADATA ?
		    PRE_OFF : pre, e);
	return 0;
bad:
	return err_set(e, errno, "Could not preallocate metadata: %s",
	    strerror(errno));
}
