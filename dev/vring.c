/*
 * vring.c - split virtqueues, the device's side (virtio 1.2, 2.7): taking
 * chains of buffers, giving them back, notifications either way.
 *
 * Everything here is read from memory the guest may change at any time: each
 * index and descriptor is copied once, then checked, then used.
 */
#include <string.h>

#include "virtio.h"

enum { D_NEXT = 1, D_WRITE = 2, D_INDIRECT = 4 };

static uint16_t
le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t
le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static uint64_t
le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* Ring indices are shared with the guest: one access each, in order. */
static uint16_t
ring16(const uint8_t *p)
{
	return atomic_load_explicit((_Atomic uint16_t *)(uintptr_t)p,
	    memory_order_acquire);
}

static void
set_ring16(uint8_t *p, uint16_t v)
{
	atomic_store_explicit((_Atomic uint16_t *)(void *)p, v,
	    memory_order_release);
}

bool
vring_map(struct virtio *v, unsigned n)
{
	const struct virtio_state *s = v->s;
	struct vring *q = &v->q[n];
	uint64_t size = s->size[n];

	memset(q, 0, sizeof *q);
	if (size == 0 || size > v->qsize || size & (size - 1) ||
	    s->desc[n] & 15 || s->avail[n] & 1 || s->used[n] & 3)
		return false;
	q->desc = ram_at(v->d->ram, s->desc[n], size * 16);
	q->avail = ram_at(v->d->ram, s->avail[n], size * 2 + 6);
	q->used = ram_at(v->d->ram, s->used[n], size * 8 + 6);
	if (!q->desc || !q->avail || !q->used)
		return false;
	q->mask = (uint16_t)(size - 1);
	q->ready = true;
	return true;
}

bool
vring_usable(const struct virtio *v, unsigned n)
{
	return n < v->nq && v->q[n].ready && v->d->cfg[4] & 4 &&
	    (v->s->status & (VS_DRIVER_OK | VS_NEEDS_RESET)) == VS_DRIVER_OK;
}

bool
vq_more(struct virtio *v, unsigned n)
{
	return vring_usable(v, n) &&
	    ring16(v->q[n].avail + 2) != v->s->avail_idx[n];
}

bool
vq_want(struct virtio *v, unsigned n, bool want)
{
	struct vring *q = &v->q[n];

	if (!vring_usable(v, n))
		return false;
	if (virtio_has(v, VIRTIO_F_EVENT_IDX)) {
		if (!want)
			return false;	/* a stale index asks for nothing */
		set_ring16(q->used + 4 + (q->mask + 1) * 8,
		    v->s->avail_idx[n]);
	} else {
		set_ring16(q->used, want ? 0 : 1);
	}
	if (!want)
		return false;
	atomic_thread_fence(memory_order_seq_cst);
	return vq_more(v, n);
}

static bool
broken(struct virtio *v, const char *what, uint64_t n)
{
	virtio_broken(v, what, n);
	return false;
}

/* Add a descriptor's buffer to the chain. */
static bool
add_buffer(struct virtio *v, struct vq_elem *e, uint64_t addr, uint32_t len,
    bool write)
{
	void *p;

	if (!write && e->n_in)
		return broken(v, "virtio: readable buffer behind a writable",
		    addr);
	if (len == 0)
		return true;
	if (e->n_out + e->n_in == e->cap)
		return broken(v, "virtio: chain too long", e->cap);
	p = pci_dma(v->d, addr, len);
	if (!p)
		return broken(v, "virtio: buffer is not in memory", addr);
	e->iov[e->n_out + e->n_in] = (struct iovec){ p, len };
	if (write) {
		e->n_in++;
		e->in_len += len;
	} else {
		e->n_out++;
		e->out_len += len;
	}
	return true;
}

static bool
walk(struct virtio *v, struct vring *q, unsigned head, struct vq_elem *e)
{
	unsigned i = head, n = q->mask + 1u, left = n;
	const uint8_t *table = q->desc;
	bool indirect = false;
	uint8_t c[16];
	uint64_t addr;
	uint32_t len;
	uint16_t flags;

	for (;;) {
		if (i >= n)
			return broken(v, "virtio: descriptor index", i);
		if (left-- == 0)
			return broken(v, "virtio: descriptors form a loop", i);
		memcpy(c, table + i * 16ul, 16);
		addr = le64(c);
		len = le32(c + 8);
		flags = le16(c + 12);
		if (flags & D_INDIRECT) {
			if (indirect || flags & (D_NEXT | D_WRITE) ||
			    !virtio_has(v, VIRTIO_F_INDIRECT))
				return broken(v, "virtio: indirect descriptor",
				    flags);
			if (len == 0 || len % 16 || len / 16 > VQ_SIZE_MAX)
				return broken(v, "virtio: indirect table size",
				    len);
			table = pci_dma(v->d, addr, len);
			if (!table)
				return broken(v, "virtio: indirect table is "
				    "not in memory", addr);
			indirect = true;
			n = left = len / 16;
			i = 0;
			continue;
		}
		if (!add_buffer(v, e, addr, len, flags & D_WRITE))
			return false;
		if (!(flags & D_NEXT))
			return true;
		i = le16(c + 14);
	}
}

bool
vq_refetch(struct virtio *v, unsigned n, unsigned head, struct vq_elem *e)
{
	if (!vring_usable(v, n))
		return false;
	e->queue = (uint16_t)n;
	e->head = (uint16_t)head;
	e->n_out = e->n_in = 0;
	e->out_len = e->in_len = 0;
	return walk(v, &v->q[n], head, e);
}

bool
vq_pop(struct virtio *v, unsigned n, struct vq_elem *e)
{
	struct virtio_state *s = v->s;
	struct vring *q = &v->q[n];
	uint16_t idx;

	if (!vring_usable(v, n))
		return false;
	idx = ring16(q->avail + 2);
	if (idx == s->avail_idx[n])
		return false;
	if ((uint16_t)(idx - s->avail_idx[n]) > q->mask + 1)
		return broken(v, "virtio: available index", idx);
	if (!vq_refetch(v, n, ring16(q->avail + 4 +
	    (s->avail_idx[n] & q->mask) * 2), e))
		return false;
	s->avail_idx[n]++;
	return true;
}

void
vq_push(struct virtio *v, const struct vq_elem *e, uint32_t len)
{
	unsigned n = e->queue;
	struct vring *q = &v->q[n];
	uint8_t *u;

	if (!q->ready)
		return;
	u = q->used + 4 + (v->s->used_idx[n] & q->mask) * 8;
	cfg32(u, e->head);
	cfg32(u + 4, len);
	v->s->used_idx[n]++;
}

void
vq_notify(struct virtio *v, unsigned n)
{
	struct virtio_state *s = v->s;
	struct vring *q = &v->q[n];
	uint16_t idx = s->used_idx[n], old = s->told_idx[n], event;
	bool want;

	if (!q->ready || (s->told[n] && idx == old))
		return;
	set_ring16(q->used + 2, idx);
	dev_dma_wrote(v->d, q->used, (q->mask + 1) * 8u + 6);
	atomic_thread_fence(memory_order_seq_cst);
	if (virtio_has(v, VIRTIO_F_EVENT_IDX)) {
		event = ring16(q->avail + 4 + (q->mask + 1) * 2);
		want = !s->told[n] || (uint16_t)(idx - event - 1) <
		    (uint16_t)(idx - old);
	} else {
		want = !(ring16(q->avail) & 1);
	}
	s->told_idx[n] = idx;
	s->told[n] = 1;
	if (want)
		virtio_interrupt(v, s->vector[n], ISR_QUEUE);
}

void
vq_unpop(struct virtio *v, const struct vq_elem *e)
{
	v->s->avail_idx[e->queue]--;
}

void
vq_done(struct virtio *v, const struct vq_elem *e, uint32_t len)
{
	pthread_mutex_lock(&v->lock);
	vq_push(v, e, len);
	pthread_mutex_unlock(&v->lock);
}

void
vq_flush(struct virtio *v, unsigned n)
{
	pthread_mutex_lock(&v->lock);
	vq_notify(v, n);
	pthread_mutex_unlock(&v->lock);
}

size_t
iov_get(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len)
{
	size_t done = 0, part;
	unsigned i;

	for (i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = iov[i].iov_len - off;
		if (part > len - done)
			part = len - done;
		memcpy((uint8_t *)buf + done, (uint8_t *)iov[i].iov_base + off,
		    part);
		done += part;
		off = 0;
	}
	return done;
}

size_t
iov_put(struct devctx *d, const struct iovec *iov, unsigned n, size_t off,
    const void *buf, size_t len)
{
	size_t done = 0, part;
	unsigned i;

	for (i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = iov[i].iov_len - off;
		if (part > len - done)
			part = len - done;
		memcpy((uint8_t *)iov[i].iov_base + off,
		    (const uint8_t *)buf + done, part);
		dev_dma_wrote(d, (uint8_t *)iov[i].iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}
