/*
 * loop.c - one epoll set and one heap of timers per process.
 *
 * A handler may remove any watch, also one whose event is still waiting in
 * this round: ev_del() blanks it in the round's array.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "wire.h"

#define ROUND	64

static int epfd = -1;
static struct epoll_event round_ev[ROUND];
static int round_n;

static struct timer **heap;
static unsigned nheap, heap_room;

int64_t loop_now, loop_ahead;
volatile bool loop_quit;

int64_t
mono(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SEC + ts.tv_nsec + loop_ahead;
}

void
loop_init(void)
{
	if (epfd < 0)
		epfd = epoll_create1(EPOLL_CLOEXEC);
	if (!heap) {
		heap_room = 1024;
		heap = calloc(heap_room, sizeof *heap);
	}
	if (epfd < 0 || !heap)
		abort();
	loop_now = mono();
}

int
ev_add(struct ev *ev, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = ev };

	return epoll_ctl(epfd, EPOLL_CTL_ADD, ev->fd, &e);
}

int
ev_mod(struct ev *ev, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = ev };

	return epoll_ctl(epfd, EPOLL_CTL_MOD, ev->fd, &e);
}

void
ev_del(struct ev *ev)
{
	int i;

	if (ev->fd >= 0)
		epoll_ctl(epfd, EPOLL_CTL_DEL, ev->fd, NULL);
	for (i = 0; i < round_n; i++)
		if (round_ev[i].data.ptr == ev)
			round_ev[i].data.ptr = NULL;
}

/* ------------------------------------------------------------------ timers */

static void
place(struct timer *t, unsigned i)
{
	heap[i] = t;
	t->slot = i + 1;
}

static void
sift(unsigned i)
{
	struct timer *t = heap[i];
	unsigned k;

	while (i && heap[(i - 1) / 2]->at > t->at) {
		place(heap[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	for (; (k = 2 * i + 1) < nheap; i = k) {
		if (k + 1 < nheap && heap[k + 1]->at < heap[k]->at)
			k++;
		if (heap[k]->at >= t->at)
			break;
		place(heap[k], i);
	}
	place(t, i);
}

int
loop_timers(unsigned n)
{
	struct timer **h = reallocarray(heap, heap_room + n, sizeof *heap);

	if (!h)
		return -1;
	heap = h;
	heap_room += n;
	return 0;
}

void
timer_set(struct timer *t, int64_t at)
{
	unsigned i;

	if (at) {
		t->at = at;
		if (!t->slot) {
			if (nheap == heap_room && loop_timers(heap_room) < 0)
				return;
			place(t, nheap++);
		}
		sift(t->slot - 1);
	} else if (t->slot) {
		i = t->slot - 1;
		t->slot = 0;
		if (i != --nheap) {
			place(heap[nheap], i);
			sift(i);
		}
	}
}

int
loop_step(int64_t max)
{
	struct timespec ts;
	struct timer *t;
	struct ev *ev;
	int i, n;

	loop_now = mono();
	if (nheap && (max < 0 || heap[0]->at - loop_now < max))
		max = heap[0]->at > loop_now ? heap[0]->at - loop_now : 0;
	ts.tv_sec = max / SEC;
	ts.tv_nsec = max % SEC;
	n = epoll_pwait2(epfd, round_ev, ROUND, max < 0 ? NULL : &ts, NULL);
	if (n < 0 && errno != EINTR)
		return -1;
	loop_now = mono();
	round_n = n < 0 ? 0 : n;
	for (i = 0; i < round_n; i++) {
		ev = round_ev[i].data.ptr;
		if (ev)
			ev->fn(ev, round_ev[i].events);
	}
	round_n = 0;
	while (nheap && heap[0]->at <= loop_now) {
		t = heap[0];
		timer_set(t, 0);
		t->fn(t);
	}
	return 0;
}

int
loop_epoll(void)
{
	return epfd;
}

int64_t
loop_due(void)
{
	return nheap ? heap[0]->at : 0;
}

void
loop_main(void)
{
	while (!loop_quit && loop_step(-1) == 0)
		wire_flush_all();
}
