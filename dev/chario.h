/*
 * chario.h - a chip's output to a character back end, collected and written in
 * one piece.  The bytes not yet taken are guest state: they live in the chip's
 * state struct and are saved.
 */
#ifndef CHARIO_H
#define CHARIO_H

#include "dev.h"

#define CHARIO_MAX	4096		/* bytes of buffer in the state */
#define CHARIO_HIGH	2048		/* the chip should stop its guest */

struct chario {
	struct chardev	*cd;		/* NULL: output is dropped */
	struct devctx	*d;
	uint8_t		*buf;		/* CHARIO_MAX bytes in the state */
	uint32_t	*len;
	void		(*space)(struct devctx *);	/* there is room again */
};

/* `spec` as -serial's; "none" or NULL: no back end.  `in` gets what is typed
 * (arg: the devctx).  0, or -1 with one line in why. */
int	chario_open(struct chario *, struct devctx *, const char *spec,
	    uint8_t *buf, uint32_t *len, chardev_in_fn *in, char *why,
	    size_t whylen);
/* Append a byte.  False: full, the byte is lost. */
bool	chario_put(struct chario *, uint8_t);
/* Hand over what is there. */
void	chario_flush(struct chario *);
bool	chario_full(const struct chario *);	/* over CHARIO_HIGH */
void	chario_close(struct chario *);
/* The answer to `ask chardev`: 0 or errno. */
int	chario_info(const struct chario *, FILE *);

#endif
