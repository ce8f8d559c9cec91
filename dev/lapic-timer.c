/*
 * lapic-timer.c - the local APIC's timer: one-shot, periodic and TSC-deadline
 * (Intel SDM volume 3A, 11.5.4).
 *
 * The timer counts LAPIC_HZ / divisor in guest time.  Nothing ticks: the count
 * is computed from `start` when read, and a host timer is armed only while the
 * LVT entry is unmasked.
 */
#include "lapic.h"

/* A period nobody could serve is stretched: a guest may only harm itself. */
#define MIN_PERIOD	20000		/* ns */

unsigned
lapic_divisor(const struct lapic_st *s)	/* figure 11-10 */
{
	unsigned v = (s->dcr & 3) | (s->dcr >> 1 & 4);

	return 1u << ((v + 1) & 7);
}

static int64_t
period(const struct lapic_st *s)	/* ns; LAPIC_HZ makes ticks ns */
{
	int64_t p = (int64_t)s->icount * lapic_divisor(s);

	if (s->lvt[LVT_TIMER] & TIMER_PERIODIC && p < MIN_PERIOD)
		p = MIN_PERIOD;
	return p;
}

uint32_t
lapic_current_count(struct devctx *d)
{
	struct lapic_st *s = d->st;
	int64_t gone, p = period(s);

	if (s->start < 0 || s->icount == 0 || deadline_mode(s))
		return 0;
	gone = dev_clock(d) - s->start;
	if (gone < 0)
		gone = 0;
	if (s->lvt[LVT_TIMER] & TIMER_PERIODIC)
		gone %= p;
	if (gone >= p)
		return 0;
	gone /= lapic_divisor(s);
	return gone >= s->icount ? 0 : s->icount - (uint32_t)gone;
}

static void
count_fired(struct devctx *d)
{
	lapic_timer_fired(d);
}

void
lapic_timer_arm(struct devctx *d)
{
	struct lapic_st *s = d->st;
	const struct lapic_hooks *h = hooks(d);
	uint32_t l = s->lvt[LVT_TIMER];
	bool live = !(l & LVT_MASKED) && s->base & BASE_EN;
	int64_t when = -1, p = period(s), now;

	if (live && !deadline_mode(s) && s->start >= 0 && s->icount) {
		when = s->start + p;
		if (l & TIMER_PERIODIC) {
			now = dev_clock(d);
			if (when <= now)
				when = now + p - (now - s->start) % p;
		}
	}
	dev_timer(d, 0, when, count_fired);
	h->deadline(h->arg, cpu_of(d),
	    live && deadline_mode(s) ? s->deadline : 0);
}

void
lapic_timer_fired(struct devctx *d)
{
	struct lapic_st *s = d->st;
	uint32_t l = s->lvt[LVT_TIMER];
	int64_t now;

	if (deadline_mode(s)) {
		if (s->deadline == 0)
			return;
		s->deadline = 0;
	} else if (s->start < 0 || s->icount == 0) {
		return;
	} else if (l & TIMER_PERIODIC) {
		now = dev_clock(d);
		/* the phase stays; what was missed is merged */
		if (now > s->start)
			s->start = now - (now - s->start) % period(s);
	} else
		s->start = -1;
	lapic_lvt_deliver(d, LVT_TIMER);
	lapic_timer_arm(d);
}

/* While masked no host timer runs: a deadline that passed is simply over. */
void
lapic_deadline_expire(struct devctx *d)
{
	struct lapic_st *s = d->st;
	const struct lapic_hooks *h = hooks(d);

	if (s->deadline && s->lvt[LVT_TIMER] & LVT_MASKED &&
	    h->tsc(h->arg, cpu_of(d)) >= s->deadline)
		s->deadline = 0;
}

void
lapic_count_expire(struct devctx *d)
{
	struct lapic_st *s = d->st;

	if (s->start >= 0 && !(s->lvt[LVT_TIMER] & TIMER_PERIODIC) &&
	    s->lvt[LVT_TIMER] & LVT_MASKED &&
	    dev_clock(d) - s->start >= period(s))
		s->start = -1;
}
