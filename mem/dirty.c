/*
 * dirty.c - which pages of RAM hold translated code, and which of those a
 * device has written (mem.h).
 */
#include "mem.h"

bool
dirty_touch(struct dirty *d, const struct ram *r, const void *p, uint64_t len)
{
	uint64_t first, last, n, off;
	bool hit = false;

	if (len == 0 || (const uint8_t *)p < r->base)
		return false;
	off = (uint64_t)((const uint8_t *)p - r->base);
	if (off >= r->size || len > r->size - off)
		return false;
	n = r->size / PAGE_SIZE_4K;
	/* The data must be visible before the bit is looked at: the vcpu sets
	 * the bit, then reads the code. */
	atomic_thread_fence(memory_order_seq_cst);
	last = (off + len - 1) / PAGE_SIZE_4K;
	for (first = off / PAGE_SIZE_4K; first <= last; first++) {
		if (!dirty_code(d, first))
			continue;
		atomic_fetch_or(&d->bits[(n + 63) / 64 + first / 64],
		    1ull << first % 64);
		hit = true;
	}
	if (hit)
		atomic_store(&d->any, 1);
	return hit;
}
