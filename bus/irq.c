/*
 * irq.c - interrupt lines and messages in the shared page (PROTOCOL.md
 * "Interrupts"): one word holds both the level and the count of edges.
 */
#include <unistd.h>

#include "bus.h"

void
irq_kick(struct irq_page *p, unsigned vcpu, int kickfd)
{
	uint64_t one = 1;

	atomic_store(&p->cpu[vcpu].poll, 1);
	if (atomic_load(&p->cpu[vcpu].halted) &&
	    write(kickfd, &one, sizeof one) < 0) {
		/* EAGAIN: the counter is full, so it is readable */
	}
}

void
irq_set(struct irq_ref *r, unsigned line, unsigned source, int level)
{
	struct irq_page *p = r->page;
	uint64_t old, new, bit;

	if (line >= IRQ_LINES || source > 31)
		return;
	bit = 1ull << source;
	old = atomic_load(&p->line[line]);
	do {
		if (!!(old & bit) == !!level)
			return;
		new = old ^ bit;
		if (level && (uint32_t)old == 0)
			new += 1ull << 32;
	} while (!atomic_compare_exchange_weak(&p->line[line], &old, new));
	if (r->chan != NULL && atomic_load_explicit(&r->chan->trace_on,
	    memory_order_relaxed))
		chan_trace(r->chan, CHAN_IRQ, 0, 0, line, 0, !!level, 0, false);
	atomic_fetch_or(&p->changed, 1u << line);
	irq_kick(p, 0, r->kick);
}

void
irq_msi(struct irq_ref *r, unsigned n)
{
	struct irq_page *p = r->page;

	if (n >= MSI_MAX || r->part >= PART_MAX)
		return;
	if (r->chan != NULL && atomic_load_explicit(&r->chan->trace_on,
	    memory_order_relaxed))
		chan_trace(r->chan, CHAN_MSI, 0, 0, n, 4,
		    p->msi[r->part].vec[n].data, 0, false);
	atomic_fetch_or(&p->msi[r->part].pending, 1ull << n);
	atomic_fetch_or(&p->msi_parts, 1ull << r->part);
	irq_kick(p, 0, r->kick);
}
