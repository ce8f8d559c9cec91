/*
 * loop.c - descriptors and timers, one poll() loop a process.
 *
 * Callbacks may add and remove any descriptor or timer, their own included:
 * removed ones are only marked and swept before the next poll.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bus.h"

struct watch {
	loop_fd_fn	*fn;
	void		*arg;
};

struct timer {
	struct timer	*next;
	int64_t		ns;
	loop_timer_fn	*fn;
	void		*arg;
};

struct loop {
	struct pollfd	*pfd;
	struct watch	*watch;
	int		n, room;
	struct timer	*timers;	/* soonest first */
	bool		stop, swept;
};

int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

struct loop *
loop_new(void)
{
	return calloc(1, sizeof(struct loop));
}

static int
find(const struct loop *l, int fd)
{
	int i;

	for (i = 0; i < l->n; i++)
		if (l->watch[i].fn != NULL &&
		    (l->pfd[i].fd == fd || l->pfd[i].fd == ~fd))
			return i;
	return -1;
}

int
loop_fd(struct loop *l, int fd, short events, loop_fd_fn *fn, void *arg)
{
	struct pollfd *p;
	struct watch *w;
	int i = find(l, fd), room;

	if (i < 0) {
		if (l->n == l->room) {
			room = l->room ? l->room * 2 : 8;
			p = reallocarray(l->pfd, (size_t)room, sizeof *p);
			if (p == NULL)
				return -1;
			l->pfd = p;
			w = reallocarray(l->watch, (size_t)room, sizeof *w);
			if (w == NULL)
				return -1;
			l->watch = w;
			l->room = room;
		}
		i = l->n++;
		l->pfd[i].revents = 0;
	}
	/* poll reports POLLHUP unasked: a negative number is really ignored */
	l->pfd[i].fd = events != 0 ? fd : ~fd;
	l->pfd[i].events = events;
	l->watch[i].fn = fn;
	l->watch[i].arg = arg;
	return 0;
}

void
loop_fd_del(struct loop *l, int fd)
{
	int i = find(l, fd);

	if (i < 0)
		return;
	l->pfd[i].fd = -1;
	l->pfd[i].revents = 0;
	l->watch[i].fn = NULL;
	l->swept = false;
}

static void
sweep(struct loop *l)
{
	int i, n = 0;

	for (i = 0; i < l->n; i++) {
		if (l->watch[i].fn == NULL)
			continue;
		l->pfd[n] = l->pfd[i];
		l->watch[n++] = l->watch[i];
	}
	l->n = n;
	l->swept = true;
}

void
loop_timer(struct loop *l, int64_t when, loop_timer_fn *fn, void *arg)
{
	struct timer **p, *t = NULL;

	for (p = &l->timers; *p != NULL; p = &(*p)->next) {
		if ((*p)->fn == fn && (*p)->arg == arg) {
			t = *p;
			*p = t->next;
			break;
		}
	}
	if (when == 0) {
		free(t);
		return;
	}
	if (t == NULL)
		t = malloc(sizeof *t);
	if (t == NULL)
		return;
	t->ns = when;
	t->fn = fn;
	t->arg = arg;
	for (p = &l->timers; *p != NULL && (*p)->ns <= when; )
		p = &(*p)->next;
	t->next = *p;
	*p = t;
}

int64_t
loop_next(const struct loop *l)
{
	return l->timers != NULL ? l->timers->ns : INT64_MAX;
}

static int
run_timers(struct loop *l)
{
	struct timer *t;
	int64_t now = now_ns();
	int done = 0;

	/* only those due now: one that re-arms itself in the past waits */
	while ((t = l->timers) != NULL && t->ns <= now && done < 64) {
		l->timers = t->next;
		done++;
		t->fn(t->arg);
		free(t);
	}
	return done;
}

int
loop_once(struct loop *l, int64_t deadline, int (*before_sleep)(void *),
    void *arg)
{
	struct timespec ts, *tsp = NULL;
	int64_t until = deadline, now;
	int i, n, done;

	if (!l->swept)
		sweep(l);
	if (l->timers != NULL && (until < 0 || l->timers->ns < until))
		until = l->timers->ns;
	if (until >= 0) {
		now = until > 0 ? now_ns() : 0;
		until = until > now ? until - now : 0;
		tsp = &ts;
	}
	if (until != 0 && before_sleep != NULL && before_sleep(arg)) {
		until = 0;
		tsp = &ts;
	}
	if (tsp != NULL) {
		ts.tv_sec = until / 1000000000;
		ts.tv_nsec = until % 1000000000;
	}
	n = ppoll(l->pfd, (nfds_t)l->n, tsp, NULL);
	done = run_timers(l);
	if (n <= 0)
		return done;
	n = l->n;
	for (i = 0; i < n; i++) {
		if (l->pfd[i].revents == 0 || l->watch[i].fn == NULL)
			continue;
		l->watch[i].fn(l->watch[i].arg, l->pfd[i].fd,
		    l->pfd[i].revents);
		done++;
	}
	return done;
}

void
loop_run(struct loop *l)
{
	l->stop = false;
	while (!l->stop)
		loop_once(l, -1, NULL, NULL);
}

void
loop_stop(struct loop *l)
{
	l->stop = true;
}
