/*
 * qed-check.c - who uses the clusters of a QED image, and giving back those that
 * nobody does: the last ones take their places.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compact.h"
#include "qed.h"

enum { CLUSTERS_MAX = 1 << 28 };	/* of a file that can be checked */
struct census {				/* who uses the clusters of the file */
	struct img_check *c;
	uint64_t	*used;		/* bits */
	struct compact	k;		/* when leaks are repaired */
	uint64_t	n, next;
};

static bool
used(struct census *s, uint64_t i, uint64_t owner)
{
	if (s->used[i / 64] >> i % 64 & 1)
		return false;
	s->used[i / 64] |= 1ull << i % 64;
	return !s->c->fix || !compact_add(&s->k, i, owner);
}

/* Mark `k` clusters; false if one is not there to be had. */
static bool
claim(struct census *s, struct img *im, uint64_t off, uint64_t k,
    uint64_t owner)
{
	struct qed *q = im->priv;

	if (!qed_sane(im, q, off, k * q->cs))
		return false;
	for (uint64_t i = off / q->cs; k; i++, k--)
		if (!used(s, i, owner))
			return false;
	return true;
}

static void
count_table(struct census *s, struct img *im, const uint64_t *t, uint32_t i)
{
	struct qed *q = im->priv;

	for (uint32_t k = 0; k < q->n; k++) {
		if (t[k] < 2)
			continue;
		if (!claim(s, im, t[k], 1, (uint64_t)i * q->n + k)) {
			s->c->corruptions++;
			continue;
		}
		s->c->allocated++;
		if (s->next && s->next != t[k])
			s->c->fragmented++;
		s->next = t[k] + q->cs;
	}
}

static int
count_all(struct census *s, struct img *im)
{
	struct qed *q = im->priv;
	uint64_t len = (uint64_t)q->tsize * q->cs, *t = malloc(len);
	int r = -1;

	if (!t) {
		errno = ENOMEM;
		return -1;
	}
	claim(s, im, q->l1_off, q->tsize, UNIT_FIXED);
	for (uint64_t k = 0; k < umin(s->n, umax(1, le32(q->h + 12))); k++)
		used(s, k, UNIT_FIXED);
	for (uint32_t i = 0; i < q->n; i++) {
		if (!q->l1[i])
			continue;
		if (!claim(s, im, q->l1[i], q->tsize, UNIT_FIXED)) {
			s->c->corruptions++;
			continue;
		}
		if (img_pread_backing(im->file, t, len, q->l1[i]))
			goto out;
		count_table(s, im, t, i);
	}
	s->c->leaks = (int64_t)s->n;
	for (uint64_t k = 0; k < s->n / 64 + 1; k++)
		s->c->leaks -= __builtin_popcountll(s->used[k]);
	r = 0;
out:
	free(t);
	return r;
}

static int
move(struct img *im, uint64_t owner, uint64_t from, uint64_t to)
{
	struct qed *q = im->priv;
	uint64_t *t;

	if (compact_copy(im, from * q->cs, to * q->cs, q->cs) ||
	    qed_table(im, owner * q->cs, false, &t))
		return -1;
	t[owner % q->n] = to * q->cs;
	q->l2_dirty[owner / q->n] = q->any_dirty = true;
	return 0;
}

static int
fix_leaks(struct img *im, struct census *s)
{
	struct qed *q = im->priv;
	uint64_t n;
	int r = -1;

	s->k.move = move;
	pthread_mutex_lock(&q->lock);
	n = compact(im, &s->k);
	if (n != UINT64_MAX && !qed_sync(im) && !img_flush(im->file) &&
	    !img_truncate(im->file, n * q->cs, PRE_OFF, NULL)) {
		q->end = n * q->cs;
		s->c->leaks_fixed = (int64_t)(s->n - n);
		s->c->leaks -= s->c->leaks_fixed;
		r = 0;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

int
qed_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct qed *q = im->priv;
	struct census s = { .c = c, .n = q->end / q->cs };
	int r = -1;

	if (s.n > CLUSTERS_MAX)
		return err_set(e, EFBIG, "Image file is too large to check");
	if (!(s.used = calloc(s.n / 64 + 1, 8))) {
		err_set(e, ENOMEM, "Out of memory");
		goto out;
	}
	c->total = (im->size + q->cs - 1) / q->cs;
	if (qed_flush(im) || count_all(&s, im))
		goto io;
	if (c->fix && c->leaks && !c->corruptions && fix_leaks(im, &s))
		goto io;
	if (c->fix > 1 && !c->corruptions && q->feat & F_CHECK) {
		q->feat &= ~(uint64_t)F_CHECK;
		if (qed_write_header(im))
			goto io;
	}
	r = 0;
	goto out;
io:
	err_set(e, errno, "Check failed: %s", strerror(errno));
out:
	free(s.used);
	free(s.k.u);
	return r;
}
