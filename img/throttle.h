/*
 * throttle.h - limits of an image's bytes and requests a second, with bursts.
 */
#ifndef THROTTLE_H
#define THROTTLE_H

#include "img.h"

struct throttle;
/* From the options throttling.*: *t stays NULL if there are none. */
int	throttle_parse(struct opts *, struct throttle **t, struct imgerr *);
void	throttle_free(struct throttle *);
/* Sleep until a request of `n` bytes may go.  NULL: at once.  Any thread. */
void	throttle_wait(struct throttle *, bool write, uint64_t n);
/* Let those go that wait, and do not have others wait; or have them. */
void	throttle_off(struct throttle *, bool);

#endif
