/*
 * qcow2-change.c - changing what a qcow2 image is: its size, its backing file,
 * its version, or dropping all it holds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

int
q2_l1_grow(struct qcow2 *q, uint64_t n)
{
	uint64_t off, old = q->l1_off, oldn = q->l1_size, *l1;
	uint8_t *b, h[12];
	int r = -1;

	if (n <= q->l1_size)
		return 0;
	if (n * 8 > Q2_L1_MAX) {
		errno = EFBIG;
		return -1;
	}
	l1 = calloc(n, 8);
	b = calloc(n, 8);
	if (!l1 || !b) {
		errno = ENOMEM;
		goto out;
	}
	off = q2_alloc(q, (n * 8 + q->cs - 1) / q->cs);
	if (!off || q2_sync(q, true))
		goto out;
	memcpy(l1, q->l1, (size_t)oldn * 8);
	for (uint64_t i = 0; i < n; i++)
		pbe64(b + i * 8, l1[i]);
	if (img_pwrite(q->im->file, b, n * 8, off, 0))
		goto out;
	pbe32(h, (uint32_t)n);
	pbe64(h + 4, off);
	if (q2_header_field(q, 36, h, 12))
		goto out;
	free(q->l1);
	q->l1 = l1;
	l1 = NULL;
	q->l1_size = (uint32_t)n;
	q->l1_off = off;
	if (oldn)
		q2_unref(q, old, (oldn * 8 + q->cs - 1) / q->cs);
	r = 0;
out:
	free(l1);
	free(b);
	return r;
}

int
q2_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	uint64_t old = im->size, n, end;
	uint8_t b[8];
	int r = -1;

	if (size & 511)
		return err_set(e, EINVAL, "The new size must be a multiple of "
		    "512");
	if (q->nsnap && q->version < 3)
		return err_set(e, ENOTSUP, "Can't resize a v2 image which has "
		    "snapshots");
	if (size < old && pre != PRE_OFF)
		return err_set(e, EINVAL, "Preallocation can't be used for "
		    "shrinking an image");
	if (size < old) {
		uint64_t from = rup(size, q->cs);

		if (from < old && q2_unmap(im, from, old - from, true))
			return err_set(e, errno, "Failed to discard cropped "
			    "clusters: %s", strerror(errno));
	}
	pthread_mutex_lock(&q->lock);
	n = (size + (q->cs << q->l2bits) - 1) >> (q->cbits + q->l2bits);
	if (q2_l1_grow(q, n)) {
		err_set(e, errno, "Failed to grow the L1 table: %s",
		    strerror(errno));
		goto out;
	}
	q->l2c.max = (unsigned)umax(q->l2c.max, umin(n + 2, 32 * MiB / q->cs));
	if (q->nbm && q2_bm_resize(q, size)) {
		err_set(e, errno, "Failed to resize the bitmaps: %s",
		    strerror(errno));
		goto out;
	}
	if (im->data && size > old && im->data->size < size &&
	    (q->autoclear & Q2_A_RAWDATA || pre != PRE_OFF) &&
	    img_truncate(im->data, size, pre == PRE_METADATA ? PRE_OFF : pre,
	    e))
		goto out;
	if (q2_sync(q, true)) {
		err_set(e, errno, "Failed to flush: %s", strerror(errno));
		goto out;
	}
	pbe64(b, size);
	if (q2_header_field(q, 24, b, 8)) {
		err_set(e, errno, "Failed to update the image size: %s",
		    strerror(errno));
		goto out;
	}
	q->active_size = im->size = size;
	im->vmstate_off = rup(size, q->cs << q->l2bits);
	if (pre != PRE_OFF && size > old && q2_preallocate(q, rdown(old,
	    q->cs), size, pre, e))
		goto out;
	r = 0;
out:
	pthread_mutex_unlock(&q->lock);
	if (r)
		return -1;
	/* what was cut off once, or what a longer backing image has there,
	 * must not show */
	end = umin(size, rup(old, q->cs));
	if (im->backing && im->backing->size > old)
		end = umax(end, umin(size, im->backing->size));
	if (size > old && old && end > old && img_zero(im, old, end - old, 0))
		return err_set(e, errno, "Failed to zero out the new area: %s",
		    strerror(errno));
	return 0;
}

int
q2_set_backing(struct img *im, const char *file, const char *fmt)
{
	struct qcow2 *q = im->priv;
	int r;

	if (file && strlen(file) > 1023) {
		errno = EINVAL;
		return -1;
	}
	if (q->autoclear & Q2_A_RAWDATA && file) {
		errno = EINVAL;
		return -1;
	}
	pthread_mutex_lock(&q->lock);
	free(im->backing_name);
	free(im->backing_fmt);
	im->backing_name = file && *file ? strdup(file) : NULL;
	im->backing_fmt = im->backing_name && fmt && *fmt ? strdup(fmt) : NULL;
	r = q2_sync(q, true) || q2_write_header(q, NULL);
	pthread_mutex_unlock(&q->lock);
	return r ? -1 : 0;
}

int
q2_empty(struct img *im)
{
	return q2_unmap(im, 0, im->size, true) ? -1 : img_flush(im);
}

int
q2_amend(struct img *im, struct opts *o, bool force, void (*prog)(double),
    struct imgerr *e)
{
	struct qcow2 *q = im->priv;
	const char *s;
	uint64_t size, rbits;
	unsigned v = q->version;
	bool lazy;
	int r;

	if (opts_peek(o, "backing_file") || opts_peek(o, "backing_fmt"))
		return err_set(e, EINVAL, "Cannot amend the backing file\n"
		    "You can use 'vm-img rebase' instead.");
	s = opts_get(o, "compat");
	if (s && (!strcmp(s, "0.10") || !strcmp(s, "v2")))
		v = 2;
	else if (s && (!strcmp(s, "1.1") || !strcmp(s, "v3")))
		v = 3;
	else if (s && *s)
		return err_set(e, EINVAL, "Unknown compatibility level %s", s);
	if (opts_size(o, "size", im->size, &size, e) ||
	    opts_num(o, "refcount_bits", 1ull << q->rorder, &rbits, e) ||
	    opts_bool(o, "lazy_refcounts", q->compat & Q2_C_LAZY, &lazy, e))
		return -1;
	for (struct optval *p = o->head; p; p = p->next)
		if (!p->used)
			return err_set(e, ENOTSUP, "Changing '%s' is not "
			    "implemented", p->key);
	if (rbits != 1ull << q->rorder)
		return err_set(e, ENOTSUP, "Changing 'refcount_bits' is not "
		    "implemented");
	if (lazy && v < 3)
		return err_set(e, EINVAL, "Lazy refcounts only supported with "
		    "compatibility level 1.1 and above (use compat=1.1 or "
		    "greater)");
	if (v < q->version) {
		if (q->rorder != 4)
			return err_set(e, ENOTSUP, "Refcount width other than 16 "
			    "bits requires compatibility level 1.1 and above");
		if (q->nsub > 1 || q->compr || im->data || q->nbm)
			return err_set(e, ENOTSUP, "Cannot downgrade an image "
			    "with features of compatibility level 1.1");
		/* zero clusters do not exist there: write them out */
		for (uint64_t off = 0; off < im->size;) {
			struct img_status st;
			static const uint8_t z[65536];

			if (img_status1(im, off, im->size - off, &st))
				return err_set(e, errno, "Failed to read: %s",
				    strerror(errno));
			if (st.flags & IMG_ALLOC && st.flags & IMG_ZERO) {
				uint64_t n = im->backing ? umin(st.len,
				    sizeof(z)) : st.len;

				if (im->backing ? q2_pwrite(im, z, n, off) :
				    q2_unmap(im, off, n, true))
					return err_set(e, errno, "Failed to turn "
					    "zero into data clusters: %s",
					    strerror(errno));
				off += n;
			} else
				off += st.len;
			if (prog)
				prog(100.0 * (double)off / (double)im->size);
		}
	}
	pthread_mutex_lock(&q->lock);
	q->compat = lazy ? q->compat | Q2_C_LAZY : q->compat &
	    ~(uint64_t)Q2_C_LAZY;
	q->lazy = lazy;
	if (!lazy) {
		q->incompat &= ~(uint64_t)Q2_I_DIRTY;
		q->dirty_marked = false;
	}
	q->version = v;
	r = q2_sync(q, true) || q2_write_header(q, e);
	pthread_mutex_unlock(&q->lock);
	if (r)
		return -1;
	if (size != im->size)
		return img_truncate(im, size, PRE_OFF, e);
	return 0;
}
