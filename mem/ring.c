/*
 * ring.c - the ring of posted writes: one producer (a vcpu), one consumer (a
 * part), indices that only count up and are taken modulo RING_N.
 */
#include "mem.h"

bool
ring_put(struct ring *r, const struct ring_ent *e)
{
	uint32_t head, tail;

	head = atomic_load_explicit(&r->head, memory_order_relaxed);
	tail = atomic_load_explicit(&r->tail, memory_order_acquire);
	if (head - tail >= RING_N)
		return false;
	r->ent[head % RING_N] = *e;
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	return true;
}

bool
ring_peek(struct ring *r, struct ring_ent *e)
{
	uint32_t head, tail;

	tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	head = atomic_load_explicit(&r->head, memory_order_acquire);
	if (head == tail)
		return false;
	/* A wild head only replays old entries; each pop brings tail nearer,
	 * and the caller bounds its turn by RING_N. */
	*e = r->ent[tail % RING_N];
	return true;
}

void
ring_pop(struct ring *r)
{
	uint32_t tail;

	tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
}
