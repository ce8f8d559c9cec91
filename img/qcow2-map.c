/*
 * qcow2-map.c - the map from guest offsets to host clusters: requests in
 * flight, lookup, tables made our own to change (qcow2 specification, "Cluster
 * mapping", "Extended L2 entries").
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

void
q2_enter(struct qcow2 *q, struct req *r, uint64_t off, uint64_t len, bool excl)
{
	r->off = rdown(off, q->cs);
	r->end = rup(off + len, q->cs);
	r->excl = excl;
	r->next = q->reqs;
	q->reqs = r;
}

/* Wait until nothing stands in the way; true if the lock was let go. */
bool
q2_await(struct qcow2 *q, uint64_t off, uint64_t len, bool excl)
{
	bool slept = false;

	while (clash(q, rdown(off, q->cs), rup(off + len, q->cs), excl)) {
		pthread_cond_wait(&q->cond, &q->lock);
		slept = true;
	}
	return slept;
}

void
q2_leave(struct qcow2 *q, struct req *r)
{
	struct req **p;

	for (p = &q->reqs; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	pthread_cond_broadcast(&q->cond);
}

/* --------------------------------------------------------------- lookup */

uint64_t
q2_l1_index(struct qcow2 *q, uint64_t off)
{
	return off >> (q->cbits + q->l2bits);
}

unsigned
q2_l2_index(struct qcow2 *q, uint64_t off)
{
	return (unsigned)(off >> q->cbits & ((1u << q->l2bits) - 1));
}

uint64_t
q2_entry(struct qcow2 *q, struct tab *t, unsigned i, uint64_t *bits)
{
	*bits = q->nsub > 1 ? be64(t->buf + i * 16 + 8) : 0;
	return be64(t->buf + (size_t)i * q->l2e);
}

void
q2_set_entry(struct qcow2 *q, struct tab *t, unsigned i, uint64_t e,
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
enum q2type
q2_kind(struct qcow2 *q, uint64_t e, uint64_t bits, unsigned s)
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

struct tab *
q2_l2_table(struct qcow2 *q, uint64_t off)
{
	uint64_t i = q2_l1_index(q, off), o;

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
	unsigned i = q2_l2_index(q, off), n = 1u << q->l2bits, s;
	struct tab *t = q2_l2_table(q, off);
	enum q2type k;

	memset(m, 0, sizeof(*m));
	if (!t) {
		m->len = umin(len, ((uint64_t)(n - i) << q->cbits) - in);
		return errno ? -1 : 0;
	}
	e = q2_entry(q, t, i, &bits);
	s = (unsigned)(in / q->scs);
	m->type = q2_kind(q, e, bits, s);
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
			e = q2_entry(q, t, i, &bits);
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
		k = q2_kind(q, e, bits, s);
		if (k != m->type)
			break;
	}
	m->len = umin(len, got);
	return 0;
}

/* --------------------------------------------------------------- changing */

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
	uint64_t i = q2_l1_index(q, off), o, new;
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
int
q2_trim_freed(struct qcow2 *q)
{
	return q->nfreed > 4096 ? q2_sync(q, true) : 0;
}

/* Header bits that must be on disk before the first change. */
int
q2_begin_change(struct qcow2 *q)
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

uint64_t
q2_sub_mask(struct qcow2 *q, uint64_t from, uint64_t to)
{
	unsigned a = (unsigned)(from / q->scs), b = (unsigned)((to + q->scs -
	    1) / q->scs);

	return ((1ull << b) - 1) & ~((1ull << a) - 1);
}
