/*
 * qcow2-cluster.c - from guest offsets to host clusters and back: lookup,
 * reading, writing with copy on write, zeroing, discarding (qcow2
 * specification, "Cluster mapping", "Extended L2 entries").
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

/* ------------------------------------------------------- requests in flight */

static bool
clash(struct qcow2 *q, uint64_t off, uint64_t end, bool excl)
{
	for (struct req *r = q->reqs; r; r = r->next)
		if (r->off < end && off < r->end && (excl || r->excl))
			return true;
	return false;
}

static void
enter(struct qcow2 *q, struct req *r, uint64_t off, uint64_t len, bool excl)
{
	r->off = rdown(off, q->cs);
	r->end = rup(off + len, q->cs);
	r->excl = excl;
	r->next = q->reqs;
	q->reqs = r;
}

/* Wait until nothing stands in the way; true if the lock was let go. */
static bool
await(struct qcow2 *q, uint64_t off, uint64_t len, bool excl)
{
	bool slept = false;

	while (clash(q, rdown(off, q->cs), rup(off + len, q->cs), excl)) {
		pthread_cond_wait(&q->cond, &q->lock);
		slept = true;
	}
	return slept;
}

static void
leave(struct qcow2 *q, struct req *r)
{
	struct req **p;

	for (p = &q->reqs; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	pthread_cond_broadcast(&q->cond);
}

/* --------------------------------------------------------------- lookup */

static uint64_t
l1_index(struct qcow2 *q, uint64_t off)
{
	return off >> (q->cbits + q->l2bits);
}

static unsigned
l2_index(struct qcow2 *q, uint64_t off)
{
	return (unsigned)(off >> q->cbits & ((1u << q->l2bits) - 1));
}

static uint64_t
entry(struct qcow2 *q, struct tab *t, unsigned i, uint64_t *bits)
{
	*bits = q->nsub > 1 ? be64(t->buf + i * 16 + 8) : 0;
	return be64(t->buf + (size_t)i * q->l2e);
}

static void
set_entry(struct qcow2 *q, struct tab *t, unsigned i, uint64_t e,
    uint64_t bits)
{
	pbe64(t->buf + (size_t)i * q->l2e, e);
	if (q->nsub > 1)
		pbe64(t->buf + i * 16 + 8, bits);
	q2_dirty(&q->l2c, t);
}

void
q2_compr_span(struct qcow2 *q, uint64_t e, uint64_t *off, uint64_t *len)
{
	unsigned x = 62 - (q->cbits - 8);

	*off = e & ((1ull << x) - 1);
	*len = ((e >> x & ((1ull << (q->cbits - 8)) - 1)) + 1) * 512 -
	    (*off & 511);
}

/* The kind of sub-cluster `s` of an entry. */
static enum q2type
kind(struct qcow2 *q, uint64_t e, uint64_t bits, unsigned s)
{
	if (e & Q2_COMPR)
		return Q2_COMPRESSED;
	if (q->nsub > 1) {
		if (bits >> (32 + s) & 1)
			return Q2_ZEROED;
		return bits >> s & 1 ? Q2_NORMAL : Q2_UNALLOC;
	}
	if (e & Q2_ZERO && q->version > 2)
		return Q2_ZEROED;
	return e & Q2_OFFS || (q->im->data && e & Q2_COPIED) ? Q2_NORMAL :
	    Q2_UNALLOC;
}

static struct tab *
l2_table(struct qcow2 *q, uint64_t off)
{
	uint64_t i = l1_index(q, off), o;

	errno = 0;
	if (i >= q->l1_size)
		return NULL;
	o = q->l1[i] & Q2_OFFS;
	if (!o)
		return NULL;
	if (o & (q->cs - 1)) {
		errno = EIO;
		return NULL;
	}
	return q2_get(q, &q->l2c, o, false);
}

int
q2_lookup(struct qcow2 *q, uint64_t off, uint64_t len, struct q2map *m)
{
	uint64_t in = off & (q->cs - 1), e, bits, host, got;
	unsigned i = l2_index(q, off), n = 1u << q->l2bits, s;
	struct tab *t = l2_table(q, off);
	enum q2type k;

	memset(m, 0, sizeof(*m));
	if (!t) {
		m->len = umin(len, ((uint64_t)(n - i) << q->cbits) - in);
		return errno ? -1 : 0;
	}
	e = entry(q, t, i, &bits);
	s = (unsigned)(in / q->scs);
	m->type = kind(q, e, bits, s);
	m->entry = e;
	host = e & Q2_OFFS;
	if (m->type == Q2_COMPRESSED) {
		m->len = umin(len, q->cs - in);
		return 0;
	}
	if ((host & (q->cs - 1)) || (q->nsub > 1 &&
	    (bits & bits >> 32 & 0xffffffff))) {
		errno = EIO;
		return -1;
	}
	m->host = host + in;
	got = (s + 1) * q->scs - in;
	/* sub-clusters, then clusters, that go on alike */
	for (s++; got < len; s++, got += q->scs) {
		uint64_t h;

		if (s == q->nsub) {
			s = 0;
			if (++i == n)
				break;
			e = entry(q, t, i, &bits);
			h = e & Q2_OFFS;
			if (h & (q->cs - 1))
				break;
			if ((m->type == Q2_NORMAL || (m->type == Q2_ZEROED &&
			    host)) && h != host + (in + got))
				if (h != m->host + got)
					break;
			if (m->type == Q2_ZEROED && !host && h)
				break;
			if (m->type == Q2_NORMAL &&
			    (e ^ m->entry) & Q2_COPIED)
				break;
		}
		k = kind(q, e, bits, s);
		if (k != m->type)
			break;
	}
	m->len = umin(len, got);
	return 0;
}

/* --------------------------------------------------------------- reading */

static struct img *
dfile(struct qcow2 *q)
{
	return q->im->data ? q->im->data : q->im->file;
}

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
		return img_pread_backing(dfile(q), p, m->len, m->host);
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
		await(q, off, n, false);
		ret = q2_lookup(q, off, n, &m);
		if (!ret)
			enter(q, &r, off, m.len, false);
		pthread_mutex_unlock(&q->lock);
		if (ret)
			return -1;
		ret = fetch(q, &m, p, off);
		pthread_mutex_lock(&q->lock);
		leave(q, &r);
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

static void
l1_dirty(struct qcow2 *q, uint32_t i)
{
	if (!q->l1_hi || i < q->l1_lo)
		q->l1_lo = i;
	if (i + 1 > q->l1_hi)
		q->l1_hi = i + 1;
}

/* The L2 table of `off`, our own to change: made or copied if need be. */
struct tab *
q2_l2_for_write(struct qcow2 *q, uint64_t off)
{
	uint64_t i = l1_index(q, off), o, new;
	struct tab *t;
	uint8_t *copy = NULL;

	if (i >= q->l1_size) {
		errno = EIO;
		return NULL;
	}
	o = q->l1[i] & Q2_OFFS;
	if (o & (q->cs - 1)) {
		errno = EIO;
		return NULL;
	}
	if (o && q->l1[i] & Q2_COPIED)
		return q2_get(q, &q->l2c, o, false);
	if (o) {
		if (!(t = q2_get(q, &q->l2c, o, false)))
			return NULL;
		if (!(copy = malloc(q->cs)))
			return NULL;
		memcpy(copy, t->buf, q->cs);
	}
	new = q2_alloc(q, 1);
	if (!new || !(t = q2_get(q, &q->l2c, new, true))) {
		free(copy);
		return NULL;
	}
	if (copy)
		memcpy(t->buf, copy, q->cs);
	free(copy);
	q2_dirty(&q->l2c, t);
	q->l1[i] = new | Q2_COPIED;
	l1_dirty(q, (uint32_t)i);
	if (o)
		q2_unref(q, o, 1);
	return t;
}

void
q2_free_entry(struct qcow2 *q, uint64_t e)
{
	uint64_t off, len;

	if (e & Q2_COMPR) {
		q2_compr_span(q, e, &off, &len);
		q2_unref(q, rdown(off, q->cs), (rup(off + len, q->cs) -
		    rdown(off, q->cs)) / q->cs);
	} else if (!q->im->data && e & Q2_OFFS && !(e & Q2_OFFS & (q->cs - 1)))
		q2_unref(q, e & Q2_OFFS, 1);
}

/* Keep the list of clusters to be freed short. */
static int
trim_freed(struct qcow2 *q)
{
	return q->nfreed > 4096 ? q2_sync(q, true) : 0;
}

/* Header bits that must be on disk before the first change. */
static int
begin_change(struct qcow2 *q)
{
	uint8_t b[8];

	if (q->lazy && !q->dirty_marked) {
		pbe64(b, q->incompat | Q2_I_DIRTY);
		if (q2_header_field(q, 72, b, 8))
			return -1;
		q->incompat |= Q2_I_DIRTY;
		q->dirty_marked = true;
	}
	return 0;
}

static uint64_t
sub_mask(struct qcow2 *q, uint64_t from, uint64_t to)
{
	unsigned a = (unsigned)(from / q->scs), b = (unsigned)((to + q->scs -
	    1) / q->scs);

	return ((1ull << b) - 1) & ~((1ull << a) - 1);
}

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
	unsigned i = l2_index(q, off), cnt = 1u << q->l2bits;
	struct tab *t = q2_l2_for_write(q, off);
	bool own = false, whole;
	uint8_t *b = NULL;
	struct req r;
	int ret = -1;

	if (!t || begin_change(q))
		return -1;
	t = q2_l2_for_write(q, off);
	if (!t)
		return -1;
	e = entry(q, t, i, &bits);
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
			uint64_t b2, e2 = entry(q, t, i + (unsigned)k, &b2);

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
	whole = q->nsub == 1 || (!own && (kind(q, e, bits, 0) ==
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
	enter(q, &r, base, got * q->cs, true);
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
			if (img_pwrite(dfile(q), b, zlen, host + in - head, 0))
				goto out;
		} else {
			b = malloc(umax(head, tail));
			if (!b) {
				errno = ENOMEM;
				goto out;
			}
			if (fetch_range(q, b, off - head, head) ||
			    img_pwrite(dfile(q), b, head, host + in - head, 0)
			    || img_pwrite(dfile(q), p, len, host + in, 0) ||
			    fetch_range(q, b, off + len, tail) ||
			    img_pwrite(dfile(q), b, tail, host + in + len, 0))
				goto out;
		}
	} else if (img_pwrite(dfile(q), p, len, host + in, 0))
		goto out;
	ret = 0;
out:
	free(b);
	pthread_mutex_lock(&q->lock);
	if (!ret && !(t = q2_l2_for_write(q, off)))
		ret = -1;
	for (k = 0; !ret && k < got; k++) {
		uint64_t from, to, m;

		e = entry(q, t, i + (unsigned)k, &bits);
		from = k ? 0 : in - head;
		to = k == got - 1 ? in + len + tail - k * q->cs : q->cs;
		m = sub_mask(q, from, to);
		if (whole && got == 1)
			bits = 0xffffffff;
		else if (k == got - 1 && got > 1)
			bits = 0xffffffff;
		else
			bits = (bits | m) & ~(m << 32);
		if (!own)
			q2_free_entry(q, e);
		set_entry(q, t, i + (unsigned)k, (host + k * q->cs) |
		    Q2_COPIED, bits);
	}
	if (ret && !own && !q->im->data)
		q2_unref(q, host, got);
	leave(q, &r);
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
		await(q, off, n, false);
		if ((ret = q2_lookup(q, off, n, &m)))
			break;
		if (m.type == Q2_NORMAL && m.entry & Q2_COPIED &&
		    q->l1[l1_index(q, off)] & Q2_COPIED) {
			k = m.len;
			enter(q, &r, off, k, false);
			pthread_mutex_unlock(&q->lock);
			ret = img_pwrite(dfile(q), p, k, m.host, 0);
			pthread_mutex_lock(&q->lock);
			leave(q, &r);
		} else {
			if (await(q, off, n, true))
				continue;
			ret = write_alloc(q, p, n, off, &k);
		}
		p += k;
		off += k;
		n -= k;
	}
	if (!ret)
		ret = trim_freed(q);
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

	if (im->data) {
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
	await(q, off, q->cs, true);
	if ((q->nbm && q2_bm_mark(q, off, n)) || begin_change(q) ||
	    !(t = q2_l2_for_write(q, off)))
		goto unlock;
	/* as QEMU: compression does not overwrite what is there */
	if (entry(q, t, l2_index(q, off), &bits) & Q2_COPIED) {
		errno = EIO;
		goto unlock;
	}
	if (!(host = q2_alloc_bytes(q, len)))
		goto unlock;
	enter(q, &r, off, q->cs, true);
	pthread_mutex_unlock(&q->lock);
	ret = img_pwrite(im->file, out, len, host, 0);
	pthread_mutex_lock(&q->lock);
	leave(q, &r);
	if (!ret && !(t = q2_l2_for_write(q, off)))
		ret = -1;
	nsec = (host + len - 1) / 512 - host / 512;
	if (!ret) {
		e = entry(q, t, l2_index(q, off), &bits);
		q2_free_entry(q, e);
		set_entry(q, t, l2_index(q, off), Q2_COMPR | host |
		    nsec << (62 - (q->cbits - 8)), 0);
		ret = trim_freed(q);
	}
unlock:
	pthread_mutex_unlock(&q->lock);
out:
	free(in);
	free(out);
	return ret;
}

/* ------------------------------------------------------ zero and discard */

/* Change whole (sub)clusters of one L2 table to zeros; lock held. */
static int
zero_table(struct qcow2 *q, uint64_t off, uint64_t len, bool unmap)
{
	struct tab *t = q2_l2_for_write(q, off);
	uint64_t e, bits, end = off + len;

	if (!t)
		return -1;
	for (; off < end; off = rdown(off, q->cs) + q->cs) {
		unsigned i = l2_index(q, off);
		uint64_t in = off & (q->cs - 1);
		uint64_t to = umin(q->cs, in + (end - off)), m;

		e = entry(q, t, i, &bits);
		if (q->nsub > 1 && (in || to < q->cs)) {
			if (e & Q2_COMPR) {
				errno = ENOTSUP;
				return -1;
			}
			m = sub_mask(q, in, to);
			set_entry(q, t, i, e, (bits & ~m) | m << 32);
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
			set_entry(q, t, i, e, 0xffffffffull << 32);
		else
			set_entry(q, t, i, e | Q2_ZERO, 0);
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

static int
write_zeros(struct img *im, uint64_t off, uint64_t n)
{
	uint8_t *z = calloc(1, n);
	int r;

	if (!z) {
		errno = ENOMEM;
		return -1;
	}
	r = q2_pwrite(im, z, n, off);
	free(z);
	return r;
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

			await(q, lo, a, true);
			z = reads_zero(q, lo, pend - lo);
			if (!z) {
				pthread_mutex_unlock(&q->lock);
				if (flags & IMG_NOFALLBACK) {
					errno = ENOTSUP;
					return -1;
				}
				ret = write_zeros(im, off, ce - off);
			} else {
				if (begin_change(q) || (q->nbm &&
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
		await(q, off, n, true);
		if (begin_change(q) || (q->nbm && q2_bm_mark(q, off, n)) ||
		    zero_table(q, off, rup(n, a), unmap) || trim_freed(q))
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
	if (off < end && begin_change(q))
		ret = -1;
	if (off < end && !ret && q->nbm && q2_bm_mark(q, off, end - off))
		ret = -1;
	for (; off < end && !ret; off += q->cs) {
		unsigned i = l2_index(q, off);

		await(q, off, q->cs, true);
		t = l2_table(q, off);
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
			e = entry(q, t, i, &bits);
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
		set_entry(q, t, i, ne, nb);
		ret = trim_freed(q);
	}
	pthread_mutex_unlock(&q->lock);
	return ret;
}

int
q2_discard(struct img *im, uint64_t off, uint64_t len)
{
	return q2_unmap(im, off, len, false);
}

int
q2_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct qcow2 *q = im->priv;
	struct q2map m;
	int r;

	pthread_mutex_lock(&q->lock);
	await(q, off, 1, false);
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
		if (m.host & ~(q->cs - 1)) {
			s->flags |= IMG_MAPPED;
			s->map = m.host;
			s->file = dfile(q);
		}
		break;
	case Q2_NORMAL:
		s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED |
		    (q->holes ? IMG_SUB : 0);
		s->map = m.host;
		s->file = dfile(q);
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
		unsigned i = l2_index(q, off);
		uint64_t max = umin((1u << q->l2bits) - i, (to - off + q->cs -
		    1) / q->cs);

		if (!(t = q2_l2_for_write(q, off)))
			goto bad;
		if (entry(q, t, i, &bits)) {
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
			set_entry(q, t, i + (unsigned)k, (host + k * q->cs) |
			    Q2_COPIED, 0xffffffff);
		end = umax(end, host + got * q->cs);
	}
	if (end > dfile(q)->size && !q->im->data)
		return img_truncate(dfile(q), end, pre == PRE_METADATA ?
		    PRE_OFF : pre, e);
	return 0;
bad:
	return err_set(e, errno, "Could not preallocate metadata: %s",
	    strerror(errno));
}
