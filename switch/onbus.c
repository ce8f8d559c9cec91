/*
 * onbus.c - the wires' loop inside the loop of a part of a machine: the epoll
 * set is one descriptor of the other loop, the next timer one of its timers.
 */
#include "../bus/bus.h"
#include "wire.h"

static struct loop *host;
static void (*after_round)(void);

static void	due(void *);

void
onbus_arm(void)
{
	if (host)
		loop_timer(host, loop_due(), due, NULL);
}

static void
round_(void)
{
	loop_step(0);
	wire_flush_all();
	if (after_round)
		after_round();
	onbus_arm();
}

static void
due(void *arg)
{
	round_();
}

static void
ready(void *arg, int fd, short revents)
{
	round_();
}

int
onbus(struct loop *l, void (*after)(void))
{
	loop_init();
	host = l;
	after_round = after;
	return loop_fd(l, loop_epoll(), POLLIN, ready, NULL);
}
