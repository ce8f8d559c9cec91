/*
 * selftest.h - what dev.c and selftest.c share.
 */
#ifndef SELFTEST_H
#define SELFTEST_H

#include "dev.h"

/* argv: [N[:SEED]] then options of the chip.  Exit code. */
int	selftest(const struct dev *, char **argv);

/* Claim the fixed ranges: 0, or 1 + the number of the one refused. */
int	dev_claim(struct devctx *);
/* Parse the options of a chip, as opts_parse. */
int	dev_opts(const struct dev *, char *const *argv, void *dst, char *why,
	    size_t whylen);

#endif
