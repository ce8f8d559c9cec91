/*
 * slot.c - the vcpu's side of a channel: round trips, posted writes, doorbells
 * (PROTOCOL.md "Channels").
 *
 * A round trip spins while the part is likely to answer within the time a
 * futex sleep and wake-up would cost, then sleeps.  It returns all ones when
 * the broker has marked the part dead.
 */
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bus.h"
#include "private.h"

#define SPIN_NS		30000
#define DEAD_LOOK_NS	50000000	/* how often a sleeper looks at `dead` */

static void
notify(struct chan_ref *r, unsigned vcpu)
{
	struct chan *c = r->chan;
	uint64_t one = 1;

	/* a full barrier, so that `sleeping` is read after the request is
	 * visible */
	atomic_fetch_or(&c->asked, 1ull << vcpu % 64);
	if (atomic_load(&c->sleeping) && atomic_exchange(&c->sleeping, 0)) {
		atomic_fetch_add_explicit(&c->n_kick, 1, memory_order_relaxed);
		if (write(r->kick, &one, sizeof one) < 0) {
			/* EAGAIN: already readable */
		}
	}
}

static int64_t
ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static int64_t spin_ns;

/* Looking around is for those who have a CPU to spare.  Asked at the start: a
 * sandbox has no /sys. */
static void __attribute__((constructor))
count_cpus(void)
{
	spin_ns = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SPIN_NS : 0;
}

/* Wait for the answer in the slot. false: the part is dead. */
static bool
await(struct chan *c, struct slot *s)
{
	struct timespec ts = { 0, DEAD_LOOK_NS };
	int64_t end = 0;
	unsigned i;

	for (i = 1; ; i++) {
		if (atomic_load_explicit(&s->state, memory_order_acquire) ==
		    SLOT_DONE)
			return true;
		cpu_relax();
		if (i % 16 != 0)
			continue;
		if (end == 0)
			end = ns() + spin_ns;
		else if (ns() > end)
			break;
	}
	for (;;) {
		atomic_store(&s->waiting, 1);
		if (atomic_load(&s->state) == SLOT_DONE)
			break;
		if (atomic_load(&c->dead)) {
			atomic_store(&s->waiting, 0);
			return false;
		}
		syscall(SYS_futex, &s->state, FUTEX_WAIT, SLOT_ASKED, &ts,
		    NULL, 0);
	}
	atomic_store(&s->waiting, 0);
	return true;
}

static bool
ask(struct chan_ref *r, unsigned vcpu)
{
	struct chan *c = r->chan;
	struct slot *s = &c->cpu[vcpu].slot;

	if (atomic_load_explicit(&c->dead, memory_order_relaxed))
		return false;
	atomic_store_explicit(&s->state, SLOT_ASKED, memory_order_release);
	atomic_fetch_add_explicit(&c->n_sync, 1, memory_order_relaxed);
	notify(r, vcpu);
	if (!await(c, s))
		return false;
	atomic_store_explicit(&s->state, SLOT_IDLE, memory_order_relaxed);
	return true;
}

uint64_t
chan_read(struct chan_ref *r, unsigned vcpu, unsigned range, uint64_t off,
    unsigned size)
{
	struct slot *s = &r->chan->cpu[vcpu].slot;
	uint64_t ones = size >= 8 ? ~0ull : (1ull << size * 8) - 1;

	s->op = CHAN_READ;
	s->size = (uint8_t)size;
	s->range = (uint16_t)range;
	s->off = off;
	if (!ask(r, vcpu))
		return ones;
	return ONCE(s->data) & ones;
}

void
chan_write(struct chan_ref *r, unsigned vcpu, unsigned range, uint64_t off,
    unsigned size, uint64_t data)
{
	struct slot *s = &r->chan->cpu[vcpu].slot;

	s->op = CHAN_WRITE;
	s->size = (uint8_t)size;
	s->range = (uint16_t)range;
	s->off = off;
	s->data = data;
	ask(r, vcpu);
}

void
chan_config(struct chan_ref *r, unsigned vcpu, unsigned fn, unsigned off,
    unsigned size, uint32_t data)
{
	struct slot *s = &r->chan->cpu[vcpu].slot;

	s->op = CHAN_CFGW;
	s->size = (uint8_t)size;
	s->range = (uint16_t)fn;
	s->off = off;
	s->data = data;
	ask(r, vcpu);
}

unsigned
chan_string(struct chan_ref *r, unsigned vcpu, int write, unsigned range,
    uint64_t off, unsigned size, void *buf, unsigned count)
{
	struct slot *s = &r->chan->cpu[vcpu].slot;
	unsigned done;

	if (!chan_size_ok(size))
		return 0;
	if (count > SLOT_BUF / size)
		count = SLOT_BUF / size;
	s->op = write ? CHAN_OUTS : CHAN_INS;
	s->size = (uint8_t)size;
	s->range = (uint16_t)range;
	s->off = off;
	s->count = count;
	if (write)
		memcpy(s->buf, buf, (size_t)count * size);
	if (!ask(r, vcpu)) {
		if (!write)
			memset(buf, 0xff, (size_t)count * size);
		return count;
	}
	done = ONCE(s->count);
	if (done > count)
		done = count;
	if (!write)
		memcpy(buf, s->buf, (size_t)done * size);
	return done;
}

void
chan_post(struct chan_ref *r, unsigned vcpu, unsigned range, uint64_t off,
    unsigned size, uint64_t data)
{
	struct chan *c = r->chan;
	struct ring_ent e = { .off = off, .data = data,
	    .range = (uint16_t)range, .size = (uint8_t)size,
	    .op = CHAN_WRITE };
	struct timespec ts = { 0, 20000 };
	unsigned i;

	for (i = 1; !ring_put(&c->cpu[vcpu].ring, &e); i++) {
		if (atomic_load_explicit(&c->dead, memory_order_relaxed))
			return;
		notify(r, vcpu);
		if (i < 1000)
			cpu_relax();
		else
			nanosleep(&ts, NULL);
	}
	atomic_fetch_add_explicit(&c->n_post, 1, memory_order_relaxed);
	notify(r, vcpu);
}

void
chan_bell(struct chan_ref *r, uint64_t queue)
{
	struct chan *c = r->chan;
	uint64_t one = 1;

	atomic_fetch_add_explicit(&c->n_bell, 1, memory_order_relaxed);
	atomic_fetch_or(&c->bell, 1ull << queue % 64);
	if (atomic_load(&c->sleeping) && atomic_exchange(&c->sleeping, 0)) {
		atomic_fetch_add_explicit(&c->n_kick, 1, memory_order_relaxed);
		if (write(r->kick, &one, sizeof one) < 0) {
			/* EAGAIN: already readable */
		}
	}
}

void
chan_trace(struct chan *c, enum chan_op op, unsigned vcpu, unsigned range,
    uint64_t off, unsigned size, uint64_t data, uint32_t count, bool posted)
{
	uint64_t i = atomic_fetch_add(&c->trace.head, 1);
	struct trace_ent *e = &c->trace.ent[i % TRACE_N];

	atomic_store_explicit(&e->seq, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	e->when = ns();
	e->off = off;
	e->data = data;
	e->count = count;
	e->range = (uint16_t)range;
	e->op = (uint8_t)op;
	e->size = (uint8_t)size;
	e->vcpu = (uint8_t)vcpu;
	e->posted = posted;
	atomic_store_explicit(&e->seq, i + 1, memory_order_release);
}
