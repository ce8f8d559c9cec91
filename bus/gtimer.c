/*
 * gtimer.c - timers in guest time, which stands while the machine is stopped.
 */
#include <stdlib.h>

#include "part.h"

struct gtimer {
	struct gtimer	*next;
	struct part	*part;
	int64_t		ns;		/* guest time; -1: not armed */
	loop_timer_fn	*fn;
	void		*arg;
};

static void arm(struct gtimer *);

static void
fire(void *arg)
{
	struct gtimer *t = arg;

	if (t->ns < 0)
		return;
	if (!t->part->running || !atomic_load(&t->part->map->running))
		return;		/* armed again by run */
	if (part_clock(t->part) < t->ns) {
		arm(t);
		return;
	}
	t->ns = -1;
	t->fn(t->arg);
}

static void
arm(struct gtimer *t)
{
	struct part *p = t->part;
	int64_t host;

	if (t->ns < 0 || !p->running) {
		loop_timer(p->loop, 0, fire, t);
		return;
	}
	host = now_ns() + (t->ns - part_clock(p));
	loop_timer(p->loop, host > 0 ? host : 1, fire, t);
}

int64_t
part_clock(struct part *p)
{
	return map_clock(p->map);
}

void
part_timer(struct part *p, int64_t guest_ns, loop_timer_fn *fn, void *arg)
{
	struct gtimer *t;

	for (t = p->priv->timers; t != NULL; t = t->next)
		if (t->fn == fn && t->arg == arg)
			break;
	if (t == NULL) {
		if (guest_ns < 0)
			return;
		t = calloc(1, sizeof *t);
		if (t == NULL)
			return;
		t->part = p;
		t->fn = fn;
		t->arg = arg;
		t->next = p->priv->timers;
		p->priv->timers = t;
	}
	t->ns = guest_ns;
	arm(t);
}

void
part_timers(struct part *p)
{
	struct gtimer *t;

	for (t = p->priv->timers; t != NULL; t = t->next)
		arm(t);
}
