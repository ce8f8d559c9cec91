/*
 * qcow2-bitmap.c - persistent dirty bitmaps (qcow2 specification, "Bitmaps
 * extension").  Bits are loaded when first needed.  Before the first write to
 * an image its enabled bitmaps get the in-use flag on disk; at close they are
 * written anew and the flag goes.  A bitmap found in use was lost in a crash:
 * it is kept and shown, but not trusted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

enum { F_INUSE = 1, F_AUTO = 2, F_EXTRA = 4 };
enum { BITS_MAX = 64 << 20 };		/* bytes of one bitmap in memory */

struct q2bm {
	char		*name;
	uint32_t	flags, table_size, extra_len;
	uint64_t	table_off;
	uint8_t		gran, *extra, *bits;
	bool		dirty;
};

static uint64_t
nbits(struct qcow2 *q, const struct q2bm *b)
{
	return (q->active_size + (1ull << b->gran) - 1) >> b->gran;
}

static bool
get(const uint8_t *b, uint64_t i)
{
	return b[i / 8] >> (i % 8) & 1;
}

static void
set_run(uint8_t *b, uint64_t from, uint64_t to)
{
	for (; from < to && from % 8; from++)
		b[from / 8] |= (uint8_t)(1 << from % 8);
	if (to > from) {
		memset(b + from / 8, 0xff, (to - from) / 8);
		from += (to - from) / 8 * 8;
	}
	for (; from < to; from++)
		b[from / 8] |= (uint8_t)(1 << from % 8);
}

static void
bm_free(struct q2bm *b)
{
	free(b->name);
	free(b->extra);
	free(b->bits);
}

void
q2_bm_free(struct qcow2 *q)
{
	for (uint32_t i = 0; q->bm && i < q->nbm; i++)
		bm_free(&q->bm[i]);
	free(q->bm);
	q->bm = NULL;
}

int
q2_bm_read(struct qcow2 *q, struct imgerr *e)
{
	uint8_t *d = malloc(q->bm_size + 1);
	uint64_t at = 0;
	uint32_t n = q->nbm, i;

	q->nbm = 0;
	q->bm = calloc(n, sizeof(*q->bm));
	if (!d || !q->bm) {
		free(d);
		return err_set(e, ENOMEM, "Out of memory");
	}
	if (img_pread_backing(q->im->file, d, q->bm_size, q->bm_off)) {
		free(d);
		return err_set(e, errno, "Failed to read bitmap directory");
	}
	for (i = 0; i < n; i++) {
		struct q2bm *b = &q->bm[i];
		uint32_t nn;

		if (q->bm_size - at < 24)
			break;
		b->table_off = be64(d + at);
		b->table_size = be32(d + at + 8);
		b->flags = be32(d + at + 12);
		b->gran = d[at + 17];
		nn = be16(d + at + 18);
		b->extra_len = be32(d + at + 20);
		if (d[at + 16] != 1 || b->gran < 9 || b->gran > 31 || !nn ||
		    nn > 1023 || b->extra_len > q->bm_size || 24ull + nn +
		    b->extra_len > q->bm_size - at || b->table_off &
		    (q->cs - 1) || (uint64_t)b->table_size * 8 > 32 * MiB)
			break;
		if (b->extra_len && (b->extra = malloc(b->extra_len)))
			memcpy(b->extra, d + at + 24, b->extra_len);
		b->name = strndup((char *)d + at + 24 + b->extra_len, nn);
		at += rup(24ull + b->extra_len + nn, 8);
		if (at > q->bm_size)
			at = q->bm_size;
		q->nbm++;
	}
	free(d);
	if (i < n)
		return err_set(e, EINVAL, "Broken bitmap directory");
	return 0;
}

static uint8_t *
read_dir_table(struct qcow2 *q, const struct q2bm *b)
{
	uint8_t *t = malloc((size_t)b->table_size * 8 + 8);

	if (t && img_pread_backing(q->im->file, t, (size_t)b->table_size * 8,
	    b->table_off)) {
		free(t);
		t = NULL;
	}
	return t;
}

static int
load(struct qcow2 *q, struct q2bm *b)
{
	uint64_t bytes = (nbits(q, b) + 7) / 8;
	uint8_t *t;

	if (b->bits)
		return 0;
	if (bytes > BITS_MAX) {
		errno = EFBIG;
		return -1;
	}
	if (!(b->bits = calloc(1, rup(bytes + 8, q->cs))))
		return -1;
	if (!b->table_size)
		return 0;
	if (!(t = read_dir_table(q, b)))
		return -1;
	for (uint64_t i = 0; i < b->table_size && i * q->cs < bytes; i++) {
		uint64_t e = be64(t + i * 8), o = e & Q2_OFFS;
		uint64_t n = umin(q->cs, bytes - i * q->cs);

		if (o & (q->cs - 1) || (o && img_pread_backing(q->im->file,
		    b->bits + i * q->cs, n, o))) {
			free(t);
			free(b->bits);
			b->bits = NULL;
			errno = EIO;
			return -1;
		}
		if (!o && e & 1)
			memset(b->bits + i * q->cs, 0xff, n);
	}
	free(t);
	return 0;
}

int
q2_bm_walk(struct qcow2 *q, int (*fn)(void *, uint64_t, uint64_t), void *arg)
{
	if (fn(arg, q->bm_off, (q->bm_size + q->cs - 1) / q->cs))
		return -1;
	for (uint32_t i = 0; i < q->nbm; i++) {
		struct q2bm *b = &q->bm[i];
		uint8_t *t;

		if (!b->table_size)
			continue;
		if (fn(arg, b->table_off, ((uint64_t)b->table_size * 8 + q->cs -
		    1) / q->cs))
			return -1;
		if (!(t = read_dir_table(q, b)))
			return -1;
		for (uint32_t k = 0; k < b->table_size; k++) {
			uint64_t o = be64(t + (size_t)k * 8) & Q2_OFFS;

			if (o && fn(arg, o, 1)) {
				free(t);
				return -1;
			}
		}
		free(t);
	}
	return 0;
}

static void
drop_table(struct qcow2 *q, struct q2bm *b)
{
	uint8_t *t = b->table_size ? read_dir_table(q, b) : NULL;

	for (uint32_t k = 0; t && k < b->table_size; k++) {
		uint64_t o = be64(t + (size_t)k * 8) & Q2_OFFS;

		if (o && !(o & (q->cs - 1)))
			q2_unref(q, o, 1);
	}
	if (t)
		q2_unref(q, b->table_off, ((uint64_t)b->table_size * 8 +
		    q->cs - 1) / q->cs);
	free(t);
	b->table_size = 0;
}

static int
store_bits(struct qcow2 *q, struct q2bm *b)
{
	uint64_t bytes = (nbits(q, b) + 7) / 8, n = (bytes + q->cs - 1) /
	    q->cs, o;
	uint8_t *t = calloc(n + 1, 8);
	int r = -1;

	drop_table(q, b);
	if (!t)
		return -1;
	for (uint64_t i = 0; i < n; i++) {
		size_t len = umin(q->cs, bytes - i * q->cs);

		if (is_zero(b->bits + i * q->cs, len))
			continue;
		if (!(o = q2_alloc(q, 1)) || img_pwrite(q->im->file, b->bits +
		    i * q->cs, q->cs, o, 0))
			goto out;
		pbe64(t + i * 8, o);
	}
	if (!(o = q2_alloc(q, umax(1, (n * 8 + q->cs - 1) / q->cs))) ||
	    img_pwrite(q->im->file, t, n * 8, o, 0))
		goto out;
	b->table_off = o;
	b->table_size = (uint32_t)n;
	b->dirty = false;
	r = 0;
out:
	free(t);
	return r;
}

static size_t
dir_bytes(struct qcow2 *q)
{
	size_t n = 0;

	for (uint32_t i = 0; i < q->nbm; i++)
		n += rup(24 + q->bm[i].extra_len + strlen(q->bm[i].name), 8);
	return n;
}

static int
write_dir(struct qcow2 *q, bool in_place)
{
	size_t len = dir_bytes(q), at = 0;
	uint64_t old = q->bm_off, oldn = (q->bm_size + q->cs - 1) / q->cs, o;
	uint8_t *d = calloc(1, len + 8);
	int r = -1;

	if (!d)
		return -1;
	for (uint32_t i = 0; i < q->nbm; i++) {
		struct q2bm *b = &q->bm[i];
		size_t nn = strlen(b->name);

		pbe64(d + at, b->table_off);
		pbe32(d + at + 8, b->table_size);
		pbe32(d + at + 12, b->flags);
		d[at + 16] = 1;
		d[at + 17] = b->gran;
		pbe16(d + at + 18, (uint16_t)nn);
		pbe32(d + at + 20, b->extra_len);
		if (b->extra)
			memcpy(d + at + 24, b->extra, b->extra_len);
		memcpy(d + at + 24 + b->extra_len, b->name, nn);
		at += rup(24 + b->extra_len + nn, 8);
	}
	if (in_place) {
		r = img_flush(q->im->file) ||
		    img_pwrite(q->im->file, d, len, old, 0) ||
		    img_flush(q->im->file) ? -1 : 0;
		goto out;
	}
	o = 0;
	if (q->nbm && (!(o = q2_alloc(q, (len + q->cs - 1) / q->cs)) ||
	    img_pwrite(q->im->file, d, len, o, 0)))
		goto out;
	/* what is freed now may only go once the header says so */
	if (q->rbc.any_dirty || q->rt_hi) {
		struct run *f = q->freed;
		size_t n = q->nfreed, c = q->cfreed;

		q->freed = NULL;
		q->nfreed = q->cfreed = 0;
		r = q2_sync(q, true);
		free(q->freed);
		q->freed = f;
		q->nfreed = n;
		q->cfreed = c;
		if (r)
			goto out;
		r = -1;
	}
	q->bm_off = o;
	q->bm_size = len;
	q->autoclear = q->nbm ? q->autoclear | Q2_A_BITMAPS : q->autoclear &
	    ~(uint64_t)Q2_A_BITMAPS;
	if (img_flush(q->im->file) || q2_write_header(q, NULL) ||
	    img_flush(q->im->file))
		goto out;
	if (oldn && old)
		q2_unref(q, old, oldn);
	r = q2_sync(q, true);
out:
	free(d);
	return r;
}

int
q2_bm_mark(struct qcow2 *q, uint64_t off, uint64_t len)
{
	bool any = false;

	if (!len)
		return 0;
	if (!q->bm_marked) {
		for (uint32_t i = 0; i < q->nbm; i++) {
			struct q2bm *b = &q->bm[i];

			if (!(b->flags & F_AUTO) || b->flags & F_INUSE)
				continue;
			if (load(q, b))
				return -1;
			b->flags |= F_INUSE;
			b->dirty = any = true;
		}
		if (any && write_dir(q, true))
			return -1;
		q->bm_marked = true;
	}
	for (uint32_t i = 0; i < q->nbm; i++) {
		struct q2bm *b = &q->bm[i];

		if (b->flags & F_AUTO && b->bits && b->dirty)
			set_run(b->bits, off >> b->gran, umin(nbits(q, b),
			    ((off + len - 1) >> b->gran) + 1));
	}
	return 0;
}

/* Bring changed bitmaps to disk; lock held. */
int
q2_bm_store(struct qcow2 *q)
{
	bool any = false;

	for (uint32_t i = 0; i < q->nbm; i++) {
		struct q2bm *b = &q->bm[i];

		if (!b->dirty || !b->bits)
			continue;
		if (store_bits(q, b))
			return -1;
		b->flags &= ~(uint32_t)F_INUSE;
		any = true;
	}
	q->bm_marked = false;
	return any ? write_dir(q, false) : 0;
}

int
q2_bm_resize(struct qcow2 *q, uint64_t size)
{
	uint64_t old = q->active_size;

	for (uint32_t i = 0; i < q->nbm; i++) {
		struct q2bm *b = &q->bm[i];
		uint64_t n, o;
		uint8_t *p;

		if (b->flags & F_INUSE && !b->bits)
			continue;
		if (load(q, b))
			return -1;
		o = nbits(q, b);
		q->active_size = size;
		n = nbits(q, b);
		q->active_size = old;
		if ((n + 7) / 8 > BITS_MAX ||
		    !(p = calloc(1, rup((n + 7) / 8 + 8, q->cs)))) {
			errno = EFBIG;
			return -1;
		}
		memcpy(p, b->bits, (umin(o, n) + 7) / 8);
		if (n > o)
			set_run(p, o, n);
		else if (n % 8)
			p[n / 8] &= (uint8_t)((1 << n % 8) - 1);
		free(b->bits);
		b->bits = p;
		b->dirty = true;
	}
	return 0;
}

static struct q2bm *
find(struct qcow2 *q, const char *name)
{
	for (uint32_t i = 0; i < q->nbm; i++)
		if (!strcmp(q->bm[i].name, name))
			return &q->bm[i];
	return NULL;
}

int
q2_bm_list(struct img *im, struct img_bitmap **out, int *n)
{
	struct qcow2 *q = im->priv;

	*n = (int)q->nbm;
	*out = calloc(q->nbm + 1, sizeof(**out));
	for (uint32_t i = 0; i < q->nbm; i++) {
		struct img_bitmap *o = *out + i;

		strncpy(o->name, q->bm[i].name, sizeof(o->name) - 1);
		o->granularity = 1u << q->bm[i].gran;
		o->in_use = q->bm[i].flags & F_INUSE && !q->bm[i].bits;
		o->enabled = q->bm[i].flags & F_AUTO;
	}
	return 0;
}

void
q2_bm_js(struct qcow2 *q, struct js *d)
{
	struct js *l = js_add(d, "bitmaps", js_new(JLIST));

	for (uint32_t i = 0; i < q->nbm; i++) {
		struct js *o = js_add(l, NULL, js_new(JDICT));
		struct js *f = js_add(o, "flags", js_new(JLIST));

		if (q->bm[i].flags & F_INUSE)
			js_str(f, NULL, "in-use");
		if (q->bm[i].flags & F_AUTO)
			js_str(f, NULL, "auto");
		js_str(o, "name", q->bm[i].name);
		js_int(o, "granularity", 1ll << q->bm[i].gran);
	}
}

static int
add(struct qcow2 *q, const char *name, uint64_t gran, struct imgerr *e)
{
	struct q2bm *n;

	if (find(q, name))
		return err_set(e, EEXIST, "Bitmap already exists: %s", name);
	if (q->version < 3)
		return err_set(e, ENOTSUP, "Cannot store dirty bitmaps in qcow2 "
		    "v2 files");
	if (!*name || strlen(name) > 1023)
		return err_set(e, EINVAL, *name ? "Bitmap name too long" :
		    "Bitmap name cannot be empty");
	if (!gran)
		gran = q->cs < 4096 ? 4096 : q->cs > 65536 ? 65536 : q->cs;
	if (gran < 512 || gran & (gran - 1) || gran > 1u << 31)
		return err_set(e, EINVAL, "Granularity must be power of 2 and "
		    "at least 512");
	if (q->nbm >= Q2_BM_MAX)
		return err_set(e, EFBIG, "Too many bitmaps");
	if (!(n = realloc(q->bm, (q->nbm + 1) * sizeof(*n))))
		return err_set(e, ENOMEM, "Out of memory");
	q->bm = n;
	n += q->nbm++;
	memset(n, 0, sizeof(*n));
	n->name = strdup(name);
	n->flags = F_AUTO;
	n->gran = (uint8_t)__builtin_ctzll(gran);
	if (load(q, n)) {
		bm_free(n);
		q->nbm--;
		return err_set(e, errno, "Bitmap is too large");
	}
	n->dirty = true;
	return 0;
}

int
q2_bm_op(struct img *im, int op, const char *name, uint64_t gran,
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct q2bm *b;
	int r = -1;

	pthread_mutex_lock(&q->lock);
	b = find(q, name);
	if (op == BM_ADD) {
		if (add(q, name, gran, e))
			goto out;
	} else if (!b) {
		err_set(e, ENOENT, "Dirty bitmap '%s' not found", name);
		goto out;
	} else if (op == BM_REMOVE) {
		drop_table(q, b);
		bm_free(b);
		memmove(b, b + 1, (size_t)(q->bm + q->nbm - b - 1) *
		    sizeof(*b));
		q->nbm--;
		r = write_dir(q, false);
		goto io;
	} else if (b->flags & F_INUSE && !b->bits) {
		err_set(e, EINVAL, "Bitmap '%s' is inconsistent and cannot be "
		    "used", name);
		goto out;
	} else if (load(q, b)) {
		goto io;
	}
	switch (op) {
	case BM_CLEAR:
		memset(b->bits, 0, (nbits(q, b) + 7) / 8);
		break;
	case BM_ENABLE:
		b->flags |= F_AUTO;
		break;
	case BM_DISABLE:
		b->flags &= ~(uint32_t)F_AUTO;
		break;
	}
	if (op != BM_ADD)
		b->dirty = true;
	r = q2_bm_store(q);
io:
	if (r)
		err_set(e, errno, "Could not write the bitmap: %s",
		    strerror(errno));
out:
	pthread_mutex_unlock(&q->lock);
	return r;
}

int
q2_bm_merge(struct img *im, const char *to, struct img *src, const char *from,
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	struct q2bm *b;
	uint64_t off = 0, run;
	bool dirty;

	if (!src->drv->bm_status)
		return err_set(e, ENOENT, "Dirty bitmap '%s' not found", from);
	pthread_mutex_lock(&q->lock);
	b = find(q, to);
	if (!b || load(q, b)) {
		pthread_mutex_unlock(&q->lock);
		return err_set(e, ENOENT, "Dirty bitmap '%s' not found", to);
	}
	pthread_mutex_unlock(&q->lock);
	if (src->size != im->size)
		return err_set(e, EINVAL, "Bitmaps are of different sizes "
		    "(destination size is %llu and source size is %llu) and "
		    "can't be merged", (unsigned long long)im->size,
		    (unsigned long long)src->size);
	while (off < im->size) {
		if (src->drv->bm_status(src, from, off, im->size - off, &dirty,
		    &run))
			return err_set(e, errno, "Dirty bitmap '%s' not found",
			    from);
		if (dirty)
			set_run(b->bits, off >> b->gran, ((off + run - 1) >>
			    b->gran) + 1);
		off += run;
	}
	pthread_mutex_lock(&q->lock);
	b->dirty = true;
	run = (uint64_t)q2_bm_store(q);
	pthread_mutex_unlock(&q->lock);
	return run ? err_set(e, errno, "Could not write the bitmap: %s",
	    strerror(errno)) : 0;
}

int
q2_bm_status(struct img *im, const char *name, uint64_t off, uint64_t len,
    bool *dirty, uint64_t *run)
{
	struct qcow2 *q = im->priv;
	struct q2bm *b;
	uint64_t i, end;
	int r = -1;

	pthread_mutex_lock(&q->lock);
	b = find(q, name);
	if (!b || (b->flags & F_INUSE && !b->bits)) {
		errno = ENOENT;
		goto out;
	}
	if (load(q, b))
		goto out;
	i = off >> b->gran;
	*dirty = get(b->bits, i);
	end = nbits(q, b);
	for (i++; i < end && i << b->gran < off + len &&
	    get(b->bits, i) == *dirty; i++)
		;
	*run = umin(len, (i << b->gran) - off);
	r = 0;
out:
	pthread_mutex_unlock(&q->lock);
	return r;
}
