/*
 * qcow2-snapshot.c - internal snapshots (qcow2 specification, "Snapshots"): a
 * saved copy of the L1 table; everything it leads to is shared by reference
 * counts.  The copied flag of the active tables says "count is exactly one".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "qcow2.h"

void
q2_snap_free(struct qcow2 *q)
{
	for (uint32_t i = 0; q->snap && i < q->nsnap; i++)
		free(q->snap[i].extra);
	free(q->snap);
	q->snap = NULL;
}

int
q2_snap_read(struct qcow2 *q, uint64_t off, uint32_t n, struct imgerr *e)
{
	uint64_t start = off;
	uint8_t b[40], x[24], *tmp;

	q->snap = calloc(n, sizeof(*q->snap));
	if (!q->snap)
		return err_set(e, ENOMEM, "Out of memory");
	for (uint32_t i = 0; i < n; i++) {
		struct q2snap *s = &q->snap[i];
		uint32_t idn, namen;

		off = rup(off, 8);
		if (img_pread_backing(q->im->file, b, 40, off))
			goto io;
		off += 40;
		s->l1_off = be64(b);
		s->l1_size = be32(b + 8);
		idn = be16(b + 12);
		namen = be16(b + 14);
		s->s.sec = be32(b + 16);
		s->s.nsec = be32(b + 20);
		s->s.clock_nsec = be64(b + 24);
		s->s.vm_size = be32(b + 32);
		s->extra_len = be32(b + 36);
		s->s.icount = UINT64_MAX;
		s->s.disk_size = q->active_size;
		if (s->extra_len > 1024 || (uint64_t)s->l1_size * 8 >
		    Q2_L1_MAX || s->l1_off & (q->cs - 1))
			return err_set(e, EINVAL, "Snapshot table entry %u is "
			    "invalid", i);
		memset(x, 0, sizeof(x));
		if (img_pread_backing(q->im->file, x, umin(24, s->extra_len),
		    off))
			goto io;
		if (s->extra_len >= 8)
			s->s.vm_size = be64(x);
		if (s->extra_len >= 16)
			s->s.disk_size = be64(x + 8);
		if (s->extra_len >= 24)
			s->s.icount = be64(x + 16);
		if (s->extra_len > 24) {
			s->unk_len = s->extra_len - 24;
			s->extra = malloc(s->unk_len);
			if (!s->extra || img_pread_backing(q->im->file,
			    s->extra, s->unk_len, off + 24))
				goto io;
		}
		off += s->extra_len;
		tmp = calloc(1, (size_t)idn + namen + 2);
		if (!tmp || img_pread_backing(q->im->file, tmp, idn + namen,
		    off)) {
			free(tmp);
			goto io;
		}
		snprintf(s->s.id, sizeof(s->s.id), "%.*s", (int)idn,
		    (char *)tmp);
		snprintf(s->s.name, sizeof(s->s.name), "%.*s", (int)namen,
		    (char *)tmp + idn);
		free(tmp);
		off += idn + namen;
		if (off - start > Q2_SNAPTAB_MAX)
			return err_set(e, EFBIG, "Snapshot table is too big");
	}
	return 0;
io:
	return err_set(e, errno, "Could not read snapshots: %s",
	    strerror(errno));
}

/* Write q->snap[0..n) somewhere new and make the header point there. */
static int
write_snaps(struct qcow2 *q, uint32_t n, uint64_t old_bytes)
{
	size_t len = 0, at = 0;
	uint64_t off = 0, old = q->snap_off;
	uint8_t *b = NULL, h[12];
	int r = -1;

	for (uint32_t i = 0; i < n; i++)
		len = rup(len, 8) + 64 + q->snap[i].unk_len +
		    strlen(q->snap[i].s.id) + strlen(q->snap[i].s.name);
	if (n) {
		if (!(b = calloc(1, len + 8)) || !(off = q2_alloc(q,
		    (len + q->cs - 1) / q->cs)))
			goto out;
		for (uint32_t i = 0; i < n; i++) {
			struct q2snap *s = &q->snap[i];
			size_t idn = strlen(s->s.id), nn = strlen(s->s.name);

			at = rup(at, 8);
			pbe64(b + at, s->l1_off);
			pbe32(b + at + 8, s->l1_size);
			pbe16(b + at + 12, (uint16_t)idn);
			pbe16(b + at + 14, (uint16_t)nn);
			pbe32(b + at + 16, s->s.sec);
			pbe32(b + at + 20, s->s.nsec);
			pbe64(b + at + 24, s->s.clock_nsec);
			pbe32(b + at + 32, s->s.vm_size > UINT32_MAX ? 0 :
			    (uint32_t)s->s.vm_size);
			pbe32(b + at + 36, 24 + s->unk_len);
			pbe64(b + at + 40, s->s.vm_size);
			pbe64(b + at + 48, s->s.disk_size);
			pbe64(b + at + 56, s->s.icount);
			at += 64;
			if (s->unk_len)
				memcpy(b + at, s->extra, s->unk_len);
			at += s->unk_len;
			memcpy(b + at, s->s.id, idn);
			memcpy(b + at + idn, s->s.name, nn);
			at += idn + nn;
		}
		if (img_pwrite(q->im->file, b, at, off, 0))
			goto out;
	}
	if (q2_sync(q, true))
		goto out;
	pbe32(h, n);
	pbe64(h + 4, off);
	if (q2_header_field(q, 60, h, 12))
		goto out;
	q->snap_off = off;
	q->nsnap = n;
	if (old_bytes)
		q2_unref(q, old, (old_bytes + q->cs - 1) / q->cs);
	r = 0;
out:
	free(b);
	return r;
}

static uint64_t
table_bytes(struct qcow2 *q)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < q->nsnap; i++) {
		struct q2snap *s = &q->snap[i];

		len = rup(len, 8) + 40 + s->extra_len + strlen(s->s.id) +
		    strlen(s->s.name);
	}
	return len;
}

/* Add (+1) or drop (-1, when it is safe) one reference to all that an L1
 * table leads to. */
static int
refer(struct qcow2 *q, const uint64_t *l1, uint32_t n, int delta)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t o = l1[i] & Q2_OFFS, e, off, len;
		struct tab *t;
		uint8_t *copy;

		if (!o)
			continue;
		if (o & (q->cs - 1)) {
			errno = EIO;
			return -1;
		}
		if (!(t = q2_get(q, &q->l2c, o, false)))
			return -1;
		if (!(copy = malloc(q->cs))) {
			errno = ENOMEM;
			return -1;
		}
		memcpy(copy, t->buf, q->cs);
		for (uint32_t k = 0; k < 1u << q->l2bits; k++) {
			e = be64(copy + (size_t)k * q->l2e);
			if (delta < 0) {
				q2_free_entry(q, e);
				continue;
			}
			if (e & Q2_COMPR) {
				q2_compr_span(q, e, &off, &len);
				len = rup(off + len, q->cs) - rdown(off,
				    q->cs);
			} else if (!q->im->data && (off = e & Q2_OFFS)) {
				len = q->cs;
			} else
				continue;
			if (q2_rc_add(q, off / q->cs, len / q->cs, 1)) {
				free(copy);
				return -1;
			}
		}
		free(copy);
		if (delta < 0)
			q2_unref(q, o, 1);
		else if (q2_rc_add(q, o / q->cs, 1, 1))
			return -1;
	}
	return 0;
}

/* Set the copied flags of the active tables from the counts. */
static int
copied(struct qcow2 *q)
{
	uint64_t v;

	if (q2_sync(q, true))
		return -1;
	for (uint32_t i = 0; i < q->l1_size; i++) {
		uint64_t o = q->l1[i] & Q2_OFFS, want;
		struct tab *t;

		if (!o)
			continue;
		if (q2_rc_get(q, o / q->cs, &v))
			return -1;
		want = o | (v == 1 ? Q2_COPIED : 0);
		if (want != q->l1[i]) {
			q->l1[i] = want;
			if (!q->l1_hi || i < q->l1_lo)
				q->l1_lo = i;
			if (i + 1 > q->l1_hi)
				q->l1_hi = i + 1;
		}
		if (!(t = q2_get(q, &q->l2c, o, false)))
			return -1;
		for (uint32_t k = 0; k < 1u << q->l2bits; k++) {
			uint8_t *p = t->buf + (size_t)k * q->l2e;
			uint64_t e = be64(p), h = e & Q2_OFFS, ne;

			if (e & Q2_COMPR || !h || q->im->data)
				continue;
			if (q2_rc_get(q, h / q->cs, &v))
				return -1;
			ne = v == 1 ? e | Q2_COPIED : e & ~Q2_COPIED;
			if (ne != e) {
				pbe64(p, ne);
				q2_dirty(&q->l2c, t);
			}
		}
	}
	return q2_sync(q, true);
}

static struct q2snap *
find(struct qcow2 *q, const char *id)
{
	for (uint32_t i = 0; i < q->nsnap; i++)
		if (!strcmp(q->snap[i].s.id, id))
			return &q->snap[i];
	for (uint32_t i = 0; i < q->nsnap; i++)
		if (!strcmp(q->snap[i].s.name, id))
			return &q->snap[i];
	return NULL;
}

static uint64_t *
load_l1(struct qcow2 *q, const struct q2snap *s)
{
	uint64_t *l1 = calloc((size_t)s->l1_size + 1, 8);

	if (!l1 || img_pread_backing(q->im->file, l1, (size_t)s->l1_size * 8,
	    s->l1_off)) {
		free(l1);
		return NULL;
	}
	for (uint32_t i = 0; i < s->l1_size; i++)
		l1[i] = __builtin_bswap64(l1[i]);
	return l1;
}

int
q2_snap_list(struct img *im, struct img_snap **out, int *n)
{
	struct qcow2 *q = im->priv;

	*n = (int)q->nsnap;
	*out = calloc((size_t)*n + 1, sizeof(**out));
	for (int i = 0; i < *n; i++)
		(*out)[i] = q->snap[i].s;
	return 0;
}

int
q2_snap_create(struct img *im, struct img_snap *in, struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct q2snap *s, *ns;
	uint64_t off, old;
	unsigned long max = 0;
	uint8_t *b = NULL;
	size_t bytes;
	int r = -1;

	if (q->nsnap >= Q2_SNAP_MAX)
		return err_set(e, EFBIG, "Too many snapshots");
	if (im->data)
		return err_set(e, ENOTSUP, "Operation not supported");
	pthread_mutex_lock(&q->lock);
	for (uint32_t i = 0; i < q->nsnap; i++) {
		unsigned long k = strtoul(q->snap[i].s.id, NULL, 10);

		if (k > max)
			max = k;
	}
	old = table_bytes(q);
	ns = realloc(q->snap, (q->nsnap + 1) * sizeof(*ns));
	if (!ns) {
		errno = ENOMEM;
		goto out;
	}
	q->snap = ns;
	s = &ns[q->nsnap];
	memset(s, 0, sizeof(*s));
	s->s = *in;
	s->extra_len = 24;
	snprintf(s->s.id, sizeof(s->s.id), "%lu", max + 1);
	s->s.disk_size = q->active_size;
	s->l1_size = q->l1_size;
	if (refer(q, q->l1, q->l1_size, 1))
		goto out;
	bytes = (size_t)q->l1_size * 8;
	if (!(b = malloc(bytes + 8)) || !(off = q2_alloc(q, umax(1,
	    (bytes + q->cs - 1) / q->cs))))
		goto out;
	/* counts first, then flags, then the saved table */
	if (copied(q))
		goto out;
	for (uint32_t i = 0; i < q->l1_size; i++)
		pbe64(b + (size_t)i * 8, q->l1[i]);
	s->l1_off = off;
	if (img_pwrite(im->file, b, bytes, off, 0) ||
	    write_snaps(q, q->nsnap + 1, old))
		goto out;
	*in = q->snap[q->nsnap - 1].s;
	r = q2_sync(q, true);
out:
	if (r)
		err_set(e, errno, "%s", strerror(errno));
	free(b);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int
q2_snap_apply(struct img *im, const char *id, struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct q2snap *s = find(q, id);
	uint64_t *l1 = NULL, *old = NULL, size;
	int r = -1;

	if (q->nbm)
		return err_set(e, EBUSY, "Device has active dirty bitmaps");
	if (!s)
		return err_set(e, ENOENT, "Failed to load snapshot: %s",
		    strerror(ENOENT));
	if (im->data)
		return err_set(e, ENOTSUP, "Operation not supported");
	size = s->s.disk_size;
	if (size != im->size && img_truncate(im, size, PRE_OFF, e))
		return -1;
	pthread_mutex_lock(&q->lock);
	if (q2_l1_grow(q, s->l1_size) || !(l1 = load_l1(q, s)) ||
	    refer(q, l1, s->l1_size, 1) || q2_sync(q, true))
		goto out;
	old = malloc((size_t)q->l1_size * 8 + 8);
	if (!old)
		goto out;
	memcpy(old, q->l1, (size_t)q->l1_size * 8);
	memset(q->l1, 0, (size_t)q->l1_size * 8);
	for (uint32_t i = 0; i < s->l1_size; i++)
		q->l1[i] = l1[i] & Q2_OFFS;
	q->l1_lo = 0;
	q->l1_hi = q->l1_size;
	if (refer(q, old, q->l1_size, -1) || copied(q))
		goto out;
	r = 0;
out:
	if (r)
		err_set(e, errno, "%s", strerror(errno));
	free(l1);
	free(old);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int
q2_snap_delete(struct img *im, const char *id, struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct q2snap *s = find(q, id), gone;
	uint64_t *l1 = NULL, old;
	uint32_t i;
	int r = -1;

	if (!s)
		return err_set(e, ENOENT, "snapshot not found");
	pthread_mutex_lock(&q->lock);
	gone = *s;
	old = table_bytes(q);
	if (!(l1 = load_l1(q, &gone)))
		goto out;
	i = (uint32_t)(s - q->snap);
	memmove(s, s + 1, (q->nsnap - 1 - i) * sizeof(*s));
	if (write_snaps(q, q->nsnap - 1, old)) {
		memmove(s + 1, s, (q->nsnap - 1 - i) * sizeof(*s));
		*s = gone;
		goto out;
	}
	free(gone.extra);
	if (refer(q, l1, gone.l1_size, -1))
		goto out;
	q2_unref(q, gone.l1_off, umax(1, ((uint64_t)gone.l1_size * 8 + q->cs -
	    1) / q->cs));
	r = copied(q);
out:
	if (r)
		err_set(e, errno, "%s", strerror(errno));
	free(l1);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* Make a read-only image show a snapshot. */
int
q2_snap_load(struct img *im, const char *id, const char *name,
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct q2snap *s = NULL;
	uint64_t *l1;

	for (uint32_t i = 0; i < q->nsnap && !s; i++)
		if ((!id || !strcmp(q->snap[i].s.id, id)) &&
		    (!name || !strcmp(q->snap[i].s.name, name)))
			s = &q->snap[i];
	if (!s)
		return err_set(e, ENOENT, "Can't find snapshot");
	if (im->flags & IMG_RDWR)
		return err_set(e, EACCES, "Device is not readonly");
	if (!(l1 = load_l1(q, s)))
		return err_set(e, errno, "Failed to load snapshot: %s",
		    strerror(errno));
	pthread_mutex_lock(&q->lock);
	free(q->l1);
	q->l1 = l1;
	q->l1_size = s->l1_size;
	q->loaded_snap = true;
	im->size = umin(s->s.disk_size, (uint64_t)s->l1_size <<
	    (q->cbits + q->l2bits));
	pthread_mutex_unlock(&q->lock);
	return 0;
}
