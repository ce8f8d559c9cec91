/* filter.h - impairments of one direction of a wire: wirefilter's set. */
#ifndef FILTER_H
#define FILTER_H

#include <stdio.h>
#include "wire.h"

struct filter_set {
	double	loss, dup, reorder;	/* percent */
	double	burst;			/* mean length of a loss, 0: single */
	double	delay, jitter;		/* ms */
	bool	normal;			/* jitter's distribution */
	double	rate;			/* bytes a second, 0: any */
	double	corrupt;		/* bits damaged per 2^20 bytes */
	unsigned mtu;			/* longer frames are lost, 0: any */
	unsigned queue;			/* bytes waiting at most */
	bool	fifo;			/* delays do not reorder */
};

struct filter;
struct filter *filter_new(struct wire *to, uint64_t seed);
struct filter_set *filter_settings(struct filter *);
/* Frames go through the filter to its wire. */
void	filter_in(struct filter *, const struct frame *, unsigned n);
void	filter_stat(struct filter *, FILE *);
/* "delay", "10+5N"...: 0, or -1 unknown name, -2 bad value. */
int	filter_set(struct filter_set *, const char *name, const char *value);
void	filter_show(const struct filter_set *, FILE *);
bool	filter_idle(const struct filter *);

#endif
