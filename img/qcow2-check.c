/*
 * qcow2-check.c - count all references from the top, compare with what the
 * image says, repair.  Hostile images may claim anything: counts live in
 * pages made on demand, references behind the end of the file are errors and
 * are not counted.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

enum { PAGE = 1 << 12 };
struct ck {
	struct qcow2	*q;
	struct img_check *c;
	uint32_t	**page;
	uint64_t	npage, nclusters;	/* of the file */
	uint64_t	room;		/* pages that may still be made */
	uint64_t	next;		/* where an unfragmented image goes on */
	int		fix;
};

static void __attribute__((format(printf, 3, 4)))
say(struct ck *k, bool err, const char *fmt, ...)
{
	char s[512];
	va_list ap;

	if (!k->c->say)
		return;
	va_start(ap, fmt);
	vsnprintf(s, sizeof(s), fmt, ap);
	va_end(ap);
	k->c->say(k->c->arg, err, s);
}

static int
count(struct ck *k, uint64_t off, uint64_t len)
{
	uint64_t cs = k->q->cs;

	if (!len)
		return 0;
	for (uint64_t c = off / cs; c <= (off + len - 1) / cs; c++) {
		uint32_t **p;

		if (c >= k->nclusters) {
			say(k, true, "ERROR: counting reference for region "
			    "exceeding the end of the file by one cluster or "
			    "more: offset 0x%llx size 0x%llx",
			    (unsigned long long)off, (unsigned long long)len);
			k->c->corruptions++;
			return 0;
		}
		p = &k->page[c / PAGE];
		if (!*p && (!k->room-- || !(*p = calloc(PAGE, 4)))) {
			errno = ENOMEM;
			return -1;
		}
		if ((*p)[c % PAGE] != UINT32_MAX)
			(*p)[c % PAGE]++;
	}
	return 0;
}

static uint32_t
refs(struct ck *k, uint64_t c)
{
	uint32_t *p = c < k->nclusters ? k->page[c / PAGE] : NULL;

	return p ? p[c % PAGE] : 0;
}

/* A table that is used more often than it can be: what it has was counted. */
static bool
again(struct ck *k, uint64_t off, uint32_t most)
{
	if (refs(k, off / k->q->cs) <= most)
		return false;
	say(k, true, "ERROR: table at 0x%llx is used more than once",
	    (unsigned long long)off);
	k->c->corruptions++;
	return true;
}

static int
walk_l2(struct ck *k, uint64_t o, bool active)
{
	struct qcow2 *q = k->q;
	uint8_t *b = malloc(q->cs);
	uint64_t e, off, len;
	int r = -1;

	if (!b) {
		errno = ENOMEM;
		return -1;
	}
	if (img_pread_backing(q->im->file, b, q->cs, o)) {
		say(k, true, "ERROR: I/O error in check_refcounts_l2");
		k->c->errors++;
		r = 0;
		goto out;
	}
	for (uint32_t i = 0; i < 1u << q->l2bits; i++) {
		e = be64(b + (size_t)i * q->l2e);
		if (e & Q2_COMPR) {
			if (e & Q2_COPIED) {
				say(k, true, "ERROR: coffset=0x%llx: copied flag "
				    "must never be set for compressed clusters",
				    (unsigned long long)(e & Q2_OFFS));
				k->c->corruptions++;
			}
			q2_compr_span(q, e, &off, &len);
			/* data may end before its last sector does */
			if (off + len > q->im->file->size && off <
			    q->im->file->size)
				len = q->im->file->size - off;
			if (count(k, off, len))
				goto out;
			if (active) {
				k->c->allocated++;
				k->c->compressed++;
				k->c->fragmented++;
			}
			continue;
		}
		off = e & Q2_OFFS;
		if (!off && !(q->im->data && e & Q2_COPIED))
			continue;
		if (off & (q->cs - 1)) {
			say(k, true, "ERROR offset=%llx: Cluster is not properly "
			    "aligned; L2 entry corrupted.",
			    (unsigned long long)off);
			k->c->corruptions++;
			continue;
		}
		if (active) {
			k->c->allocated++;
			if (k->next && off != k->next)
				k->c->fragmented++;
			k->next = off + q->cs;
		}
		if (!q->im->data && count(k, off, q->cs))
			goto out;
	}
	r = 0;
out:
	free(b);
	return r;
}

static int
walk_l1(struct ck *k, uint64_t at, uint32_t n, bool active)
{
	struct qcow2 *q = k->q;
	uint8_t *b = malloc((size_t)n * 8 + 8);
	int r = -1;

	if (!b) {
		errno = ENOMEM;
		return -1;
	}
	if (count(k, at, (uint64_t)n * 8))
		goto out;
	if (n && again(k, at, 1))
		n = 0;
	if (n && img_pread_backing(q->im->file, b, (size_t)n * 8, at)) {
		say(k, true, "ERROR: I/O error in check_refcounts_l1");
		k->c->errors++;
		r = 0;
		goto out;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint64_t o = be64(b + (size_t)i * 8) & Q2_OFFS;

		if (!o)
			continue;
		if (o & (q->cs - 1)) {
			say(k, true, "ERROR l2_offset=%llx: Table is not cluster "
			    "aligned; L1 entry corrupted",
			    (unsigned long long)o);
			k->c->corruptions++;
			continue;
		}
		if (count(k, o, q->cs))
			goto out;
		if (!again(k, o, 1 + q->nsnap) && walk_l2(k, o, active))
			goto out;
	}
	r = 0;
out:
	free(b);
	return r;
}

static int
count_run(void *arg, uint64_t off, uint64_t n)
{
	struct ck *k = arg;

	return count(k, off, n * k->q->cs);
}

static int
count_all(struct ck *k)
{
	struct qcow2 *q = k->q;
	uint64_t len = 0;

	if (count(k, 0, q->cs) || walk_l1(k, q->l1_off, q->l1_size, true))
		return -1;
	for (uint32_t i = 0; i < q->nsnap; i++) {
		struct q2snap *s = &q->snap[i];

		if (walk_l1(k, s->l1_off, s->l1_size, false))
			return -1;
		len = rup(len, 8) + 40 + s->extra_len + strlen(s->s.id) +
		    strlen(s->s.name);
	}
	if (count(k, q->snap_off, len) ||
	    count(k, q->crypt_off, q->crypt_len) ||
	    (q->nbm && q2_bm_walk(q, count_run, k)) ||
	    count(k, q->rt_off, (uint64_t)q->rt_clusters * q->cs))
		return -1;
	for (uint32_t i = 0; i < q->rt_size; i++) {
		uint64_t o = q->rt[i] & ~511ull;

		if (!o)
			continue;
		if (o & (q->cs - 1)) {
			say(k, true, "ERROR refcount block %u is not cluster "
			    "aligned; refcount table entry corrupted", i);
			k->c->corruptions++;
			continue;
		}
		if (o / q->cs >= k->nclusters) {
			say(k, true, "ERROR refcount block %u is outside image",
			    i);
			k->c->corruptions++;
			if (k->fix > 1) {
				q->rt[i] = 0;
				if (!q->rt_hi || i < q->rt_lo)
					q->rt_lo = i;
				q->rt_hi = umax(q->rt_hi, i + 1);
			}
			continue;
		}
		if (count(k, o, q->cs))
			return -1;
		if (refs(k, o / q->cs) != 1) {
			say(k, true, "ERROR refcount block %u refcount=%u", i,
			    refs(k, o / q->cs));
			k->c->corruptions++;
		}
	}
	return 0;
}

/* The first cluster from `c` on that may be used or count something. */
static uint64_t
next(struct ck *k, uint64_t c)
{
	struct qcow2 *q = k->q;
	uint64_t to;

	for (; c < k->nclusters && !k->page[c / PAGE]; c = to) {
		to = rup(c + 1, PAGE);
		if (c / q->rb_n >= q->rt_size)
			continue;
		if (q->rt[c / q->rb_n])
			return c;
		to = umin(to, (c / q->rb_n + 1) * q->rb_n);
	}
	return c;
}

static int
compare(struct ck *k, uint64_t *end)
{
	struct qcow2 *q = k->q;
	uint64_t have;

	for (uint64_t c = next(k, 0); c < k->nclusters; c = next(k, c + 1)) {
		uint32_t want = refs(k, c);
		bool fix;

		if (!want && !(c / q->rb_n < q->rt_size && q->rt[c / q->rb_n]))
			continue;
		if (q2_rc_get(q, c, &have)) {
			say(k, true, "Can't get refcount for cluster %llu: %s",
			    (unsigned long long)c, strerror(errno));
			k->c->errors++;
			continue;
		}
		if (want || have)
			*end = c + 1;
		if (want == have)
			continue;
		fix = have > want ? k->fix >= 1 : k->fix >= 2;
		say(k, true, "%s cluster %llu refcount=%llu reference=%u",
		    fix ? "Repairing" : have > want ? "Leaked" : "ERROR",
		    (unsigned long long)c, (unsigned long long)have, want);
		if (fix) {
			if (q2_rc_set(q, c, umin(want, q->rmax))) {
				k->c->errors++;
				continue;
			}
			if (have > want)
				k->c->leaks_fixed++;
			else
				k->c->corruptions_fixed++;
		} else if (have > want)
			k->c->leaks++;
		else
			k->c->corruptions++;
	}
	return 0;
}

static int
flags_ok(struct ck *k)
{
	struct qcow2 *q = k->q;
	bool fix = k->fix >= 2;
	uint64_t v;

	for (uint32_t i = 0; i < q->l1_size; i++) {
		uint64_t l1 = q->l1[i], o = l1 & Q2_OFFS;
		struct tab *t;

		if (!o || o & (q->cs - 1) || o / q->cs >= k->nclusters)
			continue;
		if (q2_rc_get(q, o / q->cs, &v))
			continue;
		if ((v == 1) != !!(l1 & Q2_COPIED)) {
			say(k, true, "%s OFLAG_COPIED L2 cluster: l1_index=%u "
			    "l1_entry=%llx refcount=%llu", fix ? "Repairing" :
			    "ERROR", i, (unsigned long long)l1,
			    (unsigned long long)v);
			if (fix) {
				q->l1[i] = v == 1 ? l1 | Q2_COPIED : l1 &
				    ~Q2_COPIED;
				if (!q->l1_hi || i < q->l1_lo)
					q->l1_lo = i;
				q->l1_hi = (uint32_t)umax(q->l1_hi, i + 1);
				k->c->corruptions_fixed++;
			} else
				k->c->corruptions++;
		}
		if (!(t = q2_get(q, &q->l2c, o, false))) {
			k->c->errors++;
			continue;
		}
		for (uint32_t n = 0; n < 1u << q->l2bits; n++) {
			uint8_t *p = t->buf + (size_t)n * q->l2e;
			uint64_t e = be64(p), h = e & Q2_OFFS;

			if (e & Q2_COMPR || !h || h & (q->cs - 1) || q->im->data
			    || h / q->cs >= k->nclusters)
				continue;
			if (q2_rc_get(q, h / q->cs, &v))
				continue;
			if ((v == 1) == !!(e & Q2_COPIED))
				continue;
			say(k, true, "%s OFLAG_COPIED data cluster: "
			    "l2_entry=%llx refcount=%llu", fix ? "Repairing" :
			    "ERROR", (unsigned long long)e,
			    (unsigned long long)v);
			if (fix) {
				pbe64(p, v == 1 ? e | Q2_COPIED : e &
				    ~Q2_COPIED);
				q2_dirty(&q->l2c, t);
				k->c->corruptions_fixed++;
			} else
				k->c->corruptions++;
		}
	}
	return 0;
}

int
q2_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct ck k = { .q = q, .c = c, .fix = c->fix };
	uint64_t end = 0;
	int64_t held;
	int r = -1;

	pthread_mutex_lock(&q->lock);
	if (q2_sync(q, false))
		goto io;
	k.nclusters = (im->file->size + q->cs - 1) / q->cs;
	if (k.nclusters > 1ull << 33) {
		err_set(e, EFBIG, "Image file is too large to check");
		goto out;
	}
	k.npage = k.nclusters / PAGE + 1;
	/* a reference takes 8 bytes of the file, and few are by themselves */
	held = img_allocated(im->file);
	k.room = 4096 + (held > 0 ? (uint64_t)held / 8192 : 0);
	k.page = calloc(k.npage, sizeof(*k.page));
	if (!k.page) {
		errno = ENOMEM;
		goto io;
	}
	c->total = (q->active_size + q->cs - 1) / q->cs;
	if (count_all(&k))
		goto io;
	if (c->fix) {
		/* say all that is wrong before changing any of it */
		struct img_check before = *c;

		k.fix = 0;
		if (compare(&k, &end))
			goto io;
		k.fix = c->fix;
		*c = before;
	}
	if (compare(&k, &end) || flags_ok(&k))
		goto io;
	c->end = end * q->cs;
	if (c->fix) {
		if (q2_sync(q, true))
			goto io;
		if (!c->corruptions && !c->errors && q->incompat &
		    (Q2_I_DIRTY | Q2_I_CORRUPT) && c->fix > 1) {
			uint8_t b[8];

			q->incompat &= ~(uint64_t)(Q2_I_DIRTY | Q2_I_CORRUPT);
			q->dirty_marked = false;
			pbe64(b, q->incompat);
			if (q2_header_field(q, 72, b, 8))
				goto io;
		}
	}
	r = 0;
	goto out;
io:
	err_set(e, errno, "Check failed: %s", strerror(errno));
out:
	for (uint64_t i = 0; k.page && i < k.npage; i++)
		free(k.page[i]);
	free(k.page);
	pthread_mutex_unlock(&q->lock);
	return r;
}
