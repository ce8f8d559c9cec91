/*
 * serve.c - the channel of a part: reads, posted writes, strings and bells of
 * the vcpus (PROTOCOL.md "Channels").
 */
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "part.h"

static uint64_t
do_read(struct part *p, unsigned range, uint64_t off, unsigned size)
{
	if (p->ops->read == NULL || !chan_size_ok(size))
		return ~0ull;
	return p->ops->read(p->arg, range, off, size);
}

static void
do_write(struct part *p, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	if (p->ops->write == NULL || !chan_size_ok(size))
		return;
	if (size < 8)
		val &= (1ull << size * 8) - 1;
	p->ops->write(p->arg, range, off, size, val);
}

static uint32_t
do_string(struct part *p, struct slot *s, int op, unsigned range, uint64_t off,
    unsigned size)
{
	uint32_t i, count = ONCE(s->count);
	uint64_t v;

	if (!chan_size_ok(size))
		count = 0;
	else if (count > SLOT_BUF / size)
		count = SLOT_BUF / size;
	for (i = 0; i < count; i++) {
		if (op == CHAN_INS) {
			v = do_read(p, range, off, size);
			memcpy(s->buf + i * size, &v, size);
		} else {
			v = 0;
			memcpy(&v, s->buf + i * size, size);
			do_write(p, range, off, size, v);
		}
	}
	s->count = count;
	return count;
}

static void
serve_slot(struct part *p, unsigned n, struct slot *s, bool trace)
{
	uint8_t op = ONCE(s->op), size = ONCE(s->size);
	uint16_t range = ONCE(s->range);
	uint64_t off = ONCE(s->off), data = ONCE(s->data);
	uint32_t count = 0;

	switch (op) {
	case CHAN_READ:
		data = do_read(p, range, off, size);
		s->data = data;
		break;
	case CHAN_WRITE:
		do_write(p, range, off, size, data);
		break;
	case CHAN_INS:
	case CHAN_OUTS:
		count = do_string(p, s, op, range, off, size);
		break;
	case CHAN_CFGW:
		if (p->ops->config != NULL && (size == 1 || size == 2 ||
		    size == 4) && off + size <= 4096)
			p->ops->config(p->arg, range & 0xff, (unsigned)off, size,
			    (uint32_t)data);
		break;
	}
	if (trace)
		chan_trace(p->chan, op, n, range, off, size, data, count,
		    false);
	/* the vcpu takes the slot back as soon as it sees SLOT_DONE */
	atomic_store(&s->state, SLOT_DONE);
	if (atomic_load(&s->waiting))
		syscall(SYS_futex, &s->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* The posted writes of a vcpu. */
static bool
serve_ring(struct part *p, unsigned n, bool trace)
{
	struct chan_cpu *c = &p->chan->cpu[n];
	struct ring_ent e;
	unsigned i;

	for (i = 0; i < RING_N && ring_peek(&c->ring, &e); i++) {
		if (e.op == CHAN_WRITE)
			do_write(p, e.range, e.off, e.size, e.data);
		if (trace)
			chan_trace(p->chan, CHAN_WRITE, n, e.range, e.off,
			    e.size, e.data, 0, true);
		ring_pop(&c->ring);
	}
	if (i == RING_N)
		atomic_fetch_or(&p->chan->asked, 1ull << n % 64);
	return i > 0;
}

bool
part_serve(struct part *p)
{
	struct chan *c = p->chan;
	uint64_t asked, bell = 0;
	bool slots[NVCPU_MAX + 1], trace, did = false;
	unsigned n;

	if (atomic_load_explicit(&c->bell, memory_order_relaxed) != 0)
		bell = atomic_exchange(&c->bell, 0);
	if (atomic_load_explicit(&c->asked, memory_order_relaxed) == 0 &&
	    bell == 0)
		return false;
	asked = atomic_exchange(&c->asked, 0);
	trace = atomic_load_explicit(&c->trace_on, memory_order_relaxed) != 0;
	/*
	 * The requests are looked at first, then who posted, on all vcpus: what
	 * was posted before a request, by whomever, is then seen and comes first.
	 */
	for (n = 0; n <= p->nvcpu; n++)
		slots[n] = asked >> n % 64 & 1 && atomic_load_explicit(
		    &c->cpu[n].slot.state, memory_order_acquire) == SLOT_ASKED;
	asked |= atomic_exchange(&c->asked, 0);
	for (n = 0; asked != 0 && n <= p->nvcpu; n++)
		if (asked >> n % 64 & 1)
			did |= serve_ring(p, n, trace);
	for (n = 0; asked != 0 && n <= p->nvcpu; n++) {
		if (slots[n]) {
			serve_slot(p, n, &c->cpu[n].slot, trace);
			did = true;
		} else if (atomic_load(&c->cpu[n].slot.state) == SLOT_ASKED) {
			/* asked meanwhile: next time */
			atomic_fetch_or(&c->asked, 1ull << n % 64);
			did = true;
		}
	}
	if (bell != 0) {
		if (trace)
			chan_trace(c, CHAN_BELL, 0, 0, 0, 8, bell, 0, false);
		if (p->ops->bell != NULL)
			p->ops->bell(p->arg, bell);
		did = true;
	}
	return did;
}
