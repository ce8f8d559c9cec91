/*
 * chunks.c - pieces of a disk that are compressed each for itself: see chunks.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "chunks.h"
#include "net.h"

/* of libbz2, which only dmg wants and not each */
static union {
	int	(*unpack)(char *, unsigned *, char *, unsigned, int, int);
	void	*p;
} bz2;

struct chunks *
chunks_new(void)
{
	struct chunks *k = calloc(1, sizeof(*k));

	if (k)
		pthread_mutex_init(&k->lock, NULL);
	return k;
}

void
chunks_free(struct chunks *k)
{
	if (!k)
		return;
	pthread_mutex_destroy(&k->lock);
	free(k->c);
	free(k->buf);
	free(k);
}

int
chunks_add(struct chunks *k, enum chunk_kind kind, uint64_t at, uint64_t len,
    uint64_t off, uint64_t packed)
{
	struct chunk *c;

	if (at > IMG_MAX || len > IMG_MAX - at || off > IMG_MAX ||
	    packed > IMG_MAX - off || (kind > CHUNK_PLAIN && (len > CHUNK_MAX ||
	    packed > CHUNK_MAX))) {
		errno = EINVAL;
		return -1;
	}
	if (kind == CHUNK_ZERO || !len)
		return 0;		/* the same as nothing at all */
	if (k->n == k->room) {
		size_t room = k->room ? k->room * 2 : 64;

		if (!(c = realloc(k->c, room * sizeof(*c))))
			return -1;
		k->c = c;
		k->room = room;
	}
	k->c[k->n++] = (struct chunk){ at, off, len, (uint32_t)packed, kind };
	return 0;
}

static int
order(const void *a, const void *b)
{
	const struct chunk *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

int
chunks_ready(struct chunks *k, struct imgerr *e)
{
	static const char *const name = "BZ2_bzBuffToBuffDecompress";
	uint64_t end = 0;

	if (k->n)
		qsort(k->c, k->n, sizeof(*k->c), order);
	for (size_t i = 0; i < k->n; i++) {
		if (k->c[i].at < end)
			return err_set(e, EINVAL, "Two chunks are at the same "
			    "place of the disk");
		end = k->c[i].at + k->c[i].len;
		if (k->c[i].kind == CHUNK_BZ2 &&
		    library("libbz2.so.1.0", &name, 1, &bz2.p, e))
			return -1;
	}
	return 0;
}

/* ---------------------------------------------------------------- unpacking */

/* Apple Data Compression: runs of bytes as they are, and copies of what was a
 * distance before; how many bytes came out. */
static size_t
unpack_adc(const uint8_t *p, size_t n, uint8_t *out, size_t cap)
{
	const uint8_t *end = p + n;
	size_t w = 0, len, back;

	while (p < end && w < cap) {
		uint8_t b = *p++;

		if (b & 0x80) {
			len = umin((b & 0x7f) + 1u, cap - w);
			if ((size_t)(end - p) < len)
				break;
			memcpy(out + w, p, len);
			p += len;
			w += len;
			continue;
		}
		if (end - p < (b & 0x40 ? 2 : 1))
			break;
		if (b & 0x40) {
			len = (b & 0x3f) + 4u;
			back = (size_t)p[0] << 8 | p[1];
			p += 2;
		} else {
			len = (b >> 2) + 3u;
			back = (size_t)(b & 3) << 8 | p[0];
			p++;
		}
		if (back >= w)
			break;
		for (len = umin(len, cap - w); len; len--, w++)
			out[w] = out[w - back - 1];
	}
	return w;
}

static int
unpack(const struct chunk *c, uint8_t *in, uint8_t *out)
{
	uLongf z = c->len;
	unsigned b = (unsigned)c->len;
	bool ok = false;

	switch (c->kind) {
	case CHUNK_ZLIB:
		ok = uncompress(out, &z, in, c->packed) == Z_OK && z == c->len;
		break;
	case CHUNK_BZ2:
		ok = !bz2.unpack((char *)out, &b, (char *)in, c->packed, 0, 0)
		    && b == c->len;
		break;
	case CHUNK_ADC:
		ok = unpack_adc(in, c->packed, out, c->len) == c->len;
		break;
	default:
		break;
	}
	if (!ok)
		errno = EIO;
	return ok ? 0 : -1;
}

/* Locked. */
static int
load(struct img *im, struct chunk *c)
{
	struct chunks *k = im->priv;
	uint8_t *in;
	int r = -1;

	if (k->now == c)
		return 0;
	k->now = NULL;
	free(k->buf);
	k->buf = malloc(c->len);
	in = malloc(c->packed + 1);
	if (in && k->buf && !img_pread_backing(im->file, in, c->packed, c->off) &&
	    !unpack(c, in, k->buf)) {
		k->now = c;
		r = 0;
	}
	free(in);
	return r;
}

/* The chunk that has `off`, or the next one, or NULL. */
static struct chunk *
find(struct chunks *k, uint64_t off)
{
	size_t lo = 0, hi = k->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (k->c[mid].at + k->c[mid].len <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < k->n ? &k->c[lo] : NULL;
}

int
chunks_pread(struct img *im, void *v, size_t n, uint64_t off)
{
	struct chunks *k = im->priv;
	uint8_t *p = v;
	uint64_t len, in;
	int r = 0;

	for (; n && !r; n -= len, off += len, p += len) {
		struct chunk *c = find(k, off);

		if (!c || c->at > off) {
			len = c ? umin(n, c->at - off) : n;
			memset(p, 0, len);
			continue;
		}
		in = off - c->at;
		len = umin(n, c->len - in);
		if (c->kind == CHUNK_PLAIN) {
			r = img_pread_backing(im->file, p, len, c->off + in);
			continue;
		}
		pthread_mutex_lock(&k->lock);
		if (!(r = load(im, c)))
			memcpy(p, k->buf + in, len);
		pthread_mutex_unlock(&k->lock);
	}
	return r;
}

int
chunks_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct chunk *c = find(im->priv, off);

	if (c && c->at <= off) {
		s->len = umin(len, c->at + c->len - off);
		s->flags = IMG_DATA | IMG_ALLOC;
	} else {
		s->len = c ? umin(len, c->at - off) : len;
		s->flags = IMG_ZERO | IMG_ALLOC;
	}
	return 0;
}

void
chunks_close(struct img *im)
{
	chunks_free(im->priv);
}
