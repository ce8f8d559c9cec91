/*
 * throttle.c - limits of bytes and requests a second: leaky buckets, as QEMU's
 * documentation describes them (docs/throttle.txt).
 *
 * A request pours its bytes, or 1, into a bucket that leaks as many a second as
 * the limit is.  It must wait while the bucket is too full: of a tenth of a
 * second's flow, or with a burst of as much as the burst may bring.  A burst of
 * more than a second has a second bucket, for the burst's own limit.  What is
 * poured in counts at once, so those that wait stand in a line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "throttle.h"

enum { TOTAL, READ, WRITE, KINDS };
static const char *const kinds[KINDS] = { "total", "read", "write" };
static const char *const units[2] = { "bps", "iops" };

struct bucket {
	uint64_t	limit, max, length;	/* a second; seconds */
	double		level, burst;
};
struct throttle {
	pthread_mutex_t	lock;
	pthread_cond_t	cond;
	bool		off;		/* nobody waits */
	struct timespec	last;		/* leaked until then */
	uint64_t	iops_size;	/* more bytes are more requests */
	struct bucket	b[2][KINDS];
};

void
throttle_free(struct throttle *t)
{
	if (t) {
		pthread_mutex_destroy(&t->lock);
		pthread_cond_destroy(&t->cond);
	}
	free(t);
}

static int
check(const struct bucket *b, struct imgerr *e)
{
	for (int k = 0; k < KINDS; k++) {
		if (k && (b[k].limit || b[k].max) && (b[TOTAL].limit ||
		    b[TOTAL].max))
			return err_set(e, EINVAL, "bps/iops/max total values "
			    "and read/write values cannot be used at the same "
			    "time");
		if (b[k].max && !b[k].limit)
			return err_set(e, EINVAL, "bps_max/iops_max require "
			    "corresponding bps/iops values");
		if (b[k].max && b[k].max < b[k].limit)
			return err_set(e, EINVAL, "bps_max/iops_max cannot be "
			    "lower than bps/iops");
		if (!b[k].length)
			return err_set(e, EINVAL, "the burst length cannot be "
			    "0");
		if (b[k].length > 1 && !b[k].max)
			return err_set(e, EINVAL, "burst length set without "
			    "burst rate");
	}
	return 0;
}

static int
value(struct opts *o, const char *unit, const char *kind, const char *what,
    uint64_t dflt, uint64_t *v, bool *any, struct imgerr *e)
{
	char key[40];

	snprintf(key, sizeof(key), "%s-%s%s", unit, kind, what);
	*any |= opts_peek(o, key) != NULL;
	if (opts_size(o, key, dflt, v, e))
		return -1;
	return *v <= 1000000000000000 ? 0 : err_set(e, EINVAL, "bps/iops/max "
	    "values must be within [0, 1000000000000000]");
}

int
throttle_parse(struct opts *o, struct throttle **tp, struct imgerr *e)
{
	struct opts sub = { 0 };
	struct throttle *t = calloc(1, sizeof(*t));
	pthread_condattr_t a;
	bool any = false;
	int r = 0;

	*tp = NULL;
	if (!t)
		return err_set(e, ENOMEM, "Out of memory");
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&t->cond, &a);
	pthread_condattr_destroy(&a);
	if (!opts_sub(o, "throttling", &sub))
		goto out;
	for (int u = 0; u < 2 && !r; u++) {
		for (int k = 0; k < KINDS && !r; k++) {
			struct bucket *b = &t->b[u][k];

			r = value(&sub, units[u], kinds[k], "", 0, &b->limit,
			    &any, e) || value(&sub, units[u], kinds[k], "-max",
			    0, &b->max, &any, e) || value(&sub, units[u],
			    kinds[k], "-max-length", 1, &b->length, &any, e) ?
			    -1 : 0;
		}
		if (!r)
			r = check(t->b[u], e);
	}
	if (!r)
		r = opts_size(&sub, "iops-size", 0, &t->iops_size, e);
	for (struct optval *p = sub.head; p && !r; p = p->next)
		if (!p->used)
			r = err_set(e, ENOTSUP, "throttling.%s is not "
			    "supported", p->key);
	clock_gettime(CLOCK_MONOTONIC, &t->last);
	if (!r && any)
		*tp = t;
out:
	if (!*tp)
		throttle_free(t);
	opts_free(&sub);
	return r;
}

static double
most(double a, double b)
{
	return a > b ? a : b;
}

/* Seconds to wait, before `n` are poured in. */
static double
pour(struct bucket *b, double n, double dt)
{
	double wait, over;

	if (!b->limit)
		return 0;
	b->level = most(0, b->level - (double)b->limit * dt);
	over = b->level - (b->max ? (double)b->max * (double)b->length :
	    (double)b->limit / 10);
	wait = over / (double)b->limit;
	b->level += n;
	if (b->length > 1) {
		b->burst = most(0, b->burst - (double)b->max * dt);
		wait = most(wait, (b->burst - (double)b->max / 10) /
		    (double)b->max);
		b->burst += n;
	}
	return most(0, wait);
}

void
throttle_wait(struct throttle *t, bool write, uint64_t n)
{
	struct timespec now;
	double dt, wait = 0, ops;

	if (!t)
		return;
	ops = t->iops_size && n > t->iops_size ? (double)n /
	    (double)t->iops_size : 1;
	pthread_mutex_lock(&t->lock);
	clock_gettime(CLOCK_MONOTONIC, &now);
	dt = (double)(now.tv_sec - t->last.tv_sec) + 1e-9 *
	    (double)(now.tv_nsec - t->last.tv_nsec);
	t->last = now;
	for (int u = 0; u < 2 && !t->off; u++)
		for (int k = 0; k < KINDS; k++) {
			bool mine = k == TOTAL || (k == WRITE) == write;

			wait = most(wait, pour(&t->b[u][k], !mine ? 0 : u ?
			    ops : (double)n, dt) * mine);
		}
	if (wait > 0) {
		wait += 1e-9 * (double)now.tv_nsec;
		now.tv_sec += (time_t)wait;
		now.tv_nsec = (long)((wait - (double)(time_t)wait) * 1e9);
		while (!t->off && !pthread_cond_timedwait(&t->cond, &t->lock,
		    &now))
			;
	}
	pthread_mutex_unlock(&t->lock);
}

void
throttle_off(struct throttle *t, bool off)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->off = off;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->lock);
}
