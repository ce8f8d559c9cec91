/*
 * qcow2-cache.c - L2 tables and refcount blocks in memory, and the order in
 * which changed ones are written (qcow2.h, theory of operation).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

static unsigned
slot(uint64_t off)
{
	return (unsigned)(off * 0x9e3779b97f4a7c15ull >> 52);
}

int
q2_cache_init(struct cache *c, unsigned max)
{
	memset(c, 0, sizeof(*c));
	c->lru.next = c->lru.prev = &c->lru;
	c->max = max;
	return 0;
}

static void
unlink_lru(struct tab *t)
{
	t->prev->next = t->next;
	t->next->prev = t->prev;
}

static void
front(struct cache *c, struct tab *t)
{
	t->next = c->lru.next;
	t->prev = &c->lru;
	t->next->prev = t;
	c->lru.next = t;
}

static void
drop(struct cache *c, struct tab *t)
{
	struct tab **p = &c->hash[slot(t->off)];

	while (*p != t)
		p = &(*p)->hash;
	*p = t->hash;
	unlink_lru(t);
	free(t->buf);
	free(t);
	c->n--;
}

void
q2_cache_free(struct cache *c)
{
	if (!c->lru.next)
		return;
	while (c->lru.next != &c->lru)
		drop(c, c->lru.next);
}

static struct tab *
find(struct cache *c, uint64_t off)
{
	struct tab *t;

	for (t = c->hash[slot(off)]; t && t->off != off; t = t->hash)
		;
	return t;
}

void
q2_cache_drop(struct cache *c, uint64_t off)
{
	struct tab *t = find(c, off);

	if (t)
		drop(c, t);
}

struct tab *
q2_get(struct qcow2 *q, struct cache *c, uint64_t off, bool fresh)
{
	struct tab *t = find(c, off);

	if (t) {
		unlink_lru(t);
		front(c, t);
		if (fresh)
			memset(t->buf, 0, q->cs);
		return t;
	}
	if (c->n >= c->max) {
		t = c->lru.prev;
		if (t->dirty && q2_sync(q, true))
			return NULL;
		drop(c, c->lru.prev);
	}
	t = calloc(1, sizeof(*t));
	if (!t || posix_memalign((void **)&t->buf, 4096, umax(q->cs, 4096))) {
		free(t);
		errno = ENOMEM;
		return NULL;
	}
	if (fresh)
		memset(t->buf, 0, q->cs);
	else if (img_pread_backing(q->im->file, t->buf, q->cs, off)) {
		free(t->buf);
		free(t);
		return NULL;
	}
	t->off = off;
	t->hash = c->hash[slot(off)];
	c->hash[slot(off)] = t;
	front(c, t);
	c->n++;
	return t;
}

void
q2_dirty(struct cache *c, struct tab *t)
{
	t->dirty = true;
	c->any_dirty = true;
}

static int
write_cache(struct qcow2 *q, struct cache *c)
{
	struct tab *t;

	for (t = c->lru.next; t != &c->lru; t = t->next) {
		if (!t->dirty)
			continue;
		if (img_pwrite(q->im->file, t->buf, q->cs, t->off, 0))
			return -1;
		t->dirty = false;
	}
	c->any_dirty = false;
	return 0;
}

static int
write_table(struct qcow2 *q, const uint64_t *t, uint64_t off, uint32_t *lo,
    uint32_t *hi)
{
	uint32_t n = *hi - *lo;
	uint8_t *b = malloc((size_t)n * 8);
	int r;

	if (!b) {
		errno = ENOMEM;
		return -1;
	}
	for (uint32_t i = 0; i < n; i++)
		pbe64(b + (size_t)i * 8, t[*lo + i]);
	r = img_pwrite(q->im->file, b, (size_t)n * 8, off + (uint64_t)*lo * 8,
	    0);
	free(b);
	if (!r)
		*lo = *hi = 0;
	return r;
}

int
q2_sync(struct qcow2 *q, bool data)
{
	struct img *f = q->im->file;
	bool moved = false;

	if (q->im->data && img_flush(q->im->data))
		return -1;
	for (int round = 0; round < 2; round++) {
		if (q->rbc.any_dirty) {
			if (write_cache(q, &q->rbc))
				return -1;
			moved = true;
		}
		if (q->rt_hi) {
			if (img_flush(f) || write_table(q, q->rt, q->rt_off,
			    &q->rt_lo, &q->rt_hi))
				return -1;
			moved = true;
		}
		if (q->l2c.any_dirty) {
			if (img_flush(f) || write_cache(q, &q->l2c))
				return -1;
			moved = true;
		}
		if (q->l1_hi) {
			if (img_flush(f) || write_table(q, q->l1, q->l1_off,
			    &q->l1_lo, &q->l1_hi))
				return -1;
			moved = true;
		}
		if (!q->nfreed)
			break;
		if (img_flush(f))
			return -1;
		if (q2_apply_freed(q))
			return -1;
	}
	return moved || data ? img_flush(f) : 0;
}
