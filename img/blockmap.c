/*
 * blockmap.c - blocks in the order of first writes, found by a table: see
 * blockmap.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blockmap.h"

/* Entries to or from the file's byte order. */
static void
order(const struct blockmap *m, uint32_t *to, const uint32_t *from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		to[i] = m->big ? be32(from + i) : le32(from + i);
}

int
blockmap_open(struct img *im, struct blockmap *m)
{
	if (!(m->map = malloc((size_t)m->n * 4 + 4))) {
		errno = ENOMEM;
		return -1;
	}
	if (img_pread_backing(im->file, m->map, (size_t)m->n * 4, m->off)) {
		free(m->map);
		return -1;
	}
	order(m, m->map, m->map, m->n);
	pthread_mutex_init(&m->lock, NULL);
	return 0;
}

static int
sync_map(struct img *im)
{
	struct blockmap *m = im->priv;
	uint32_t n = m->hi - m->lo, *b;
	int r;

	if (!m->hi)
		return 0;
	if (!(b = malloc((size_t)n * 4)))
		return -1;
	order(m, b, m->map + m->lo, n);
	r = (m->before_sync && m->before_sync(im)) || img_flush(im->file) ||
	    img_pwrite(im->file, b, (size_t)n * 4, m->off + m->lo * 4ull, 0) ?
	    -1 : 0;
	free(b);
	if (!r)
		m->lo = m->hi = 0;
	return r;
}

int
blockmap_flush(struct img *im)
{
	struct blockmap *m = im->priv;
	int r;

	pthread_mutex_lock(&m->lock);
	r = sync_map(im);
	pthread_mutex_unlock(&m->lock);
	return r ? -1 : img_flush(im->file);
}

void
blockmap_close(struct img *im)
{
	struct blockmap *m = im->priv;

	if (im->flags & IMG_RDWR)
		blockmap_flush(im);
	pthread_mutex_destroy(&m->lock);
	free(m->map);
}

static uint64_t
find(struct blockmap *m, uint64_t off)
{
	uint64_t at;

	pthread_mutex_lock(&m->lock);
	at = m->where(m, m->map[off / m->bs]);
	pthread_mutex_unlock(&m->lock);
	return at == NOWHERE ? NOWHERE : at + off % m->bs;
}

int
blockmap_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct blockmap *m = im->priv;
	uint8_t *b = p;
	size_t k;

	for (; n; n -= k, off += k, b += k) {
		uint64_t at = find(m, off);

		k = umin(n, m->bs - off % m->bs);
		if (at == NOWHERE)
			memset(b, 0, k);
		else if (img_pread_backing(im->file, b, k, at))
			return -1;
	}
	return 0;
}

/* The part of a block that was not there a moment ago. */
static int
first_write(struct img *im, const uint8_t *p, size_t n, uint64_t off)
{
	struct blockmap *m = im->priv;
	uint64_t in = off % m->bs, at;
	uint32_t i = (uint32_t)(off / m->bs);
	int r;

	pthread_mutex_lock(&m->lock);
	/* somebody may have been faster */
	if ((at = m->where(m, m->map[i])) != NOWHERE)
		r = img_pwrite(im->file, p, n, at + in, 0);
	else if (!(r = m->append(im, p, n, in, &m->map[i]))) {
		if (!m->hi || i < m->lo)
			m->lo = i;
		if (i + 1 > m->hi)
			m->hi = i + 1;
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

int
blockmap_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct blockmap *m = im->priv;
	const uint8_t *b = p;
	size_t k;
	int r = 0;

	for (; n && !r; n -= k, off += k, b += k) {
		uint64_t at = find(m, off);

		k = umin(n, m->bs - off % m->bs);
		r = at == NOWHERE ? first_write(im, b, k, off) :
		    img_pwrite(im->file, b, k, at, 0);
	}
	return r;
}

/* Zeros where there is nothing need nothing. */
int
blockmap_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct blockmap *m = im->priv;
	uint64_t k;

	for (; len; off += k, len -= k) {
		k = umin(len, m->bs - off % m->bs);
		if (find(m, off) != NOWHERE &&
		    img_write_zeros(im, off, k, flags))
			return -1;
	}
	return 0;
}

int
blockmap_status(struct img *im, uint64_t off, uint64_t len,
    struct img_status *s)
{
	struct blockmap *m = im->priv;
	uint64_t at = find(m, off);

	s->len = umin(len, m->bs - off % m->bs);
	if (at == NOWHERE)
		return 0;
	s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED |
	    (m->ahead ? IMG_SUB : 0);
	s->map = at;
	s->file = im->file;
	return 0;
}
