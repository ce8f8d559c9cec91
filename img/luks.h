/*
 * luks.h - LUKS headers, of whole images (luks.c's driver) and within others.
 */
#ifndef LUKS_H
#define LUKS_H

#include "crypt.h"

struct luks;
/* Read the header at `base` of a file and the key, unless the password is NULL:
 * then the disk can only be described. */
struct luks *luks_load(struct img *, uint64_t base, const char *pw,
	    struct imgerr *);
void	luks_free(struct luks *);
struct crypt *luks_crypt(const struct luks *);	/* stays the luks's */
void	luks_describe(const struct luks *, struct js *);
/* A new header from the creation options, whose names in messages begin with
 * `prefix`: what to write, malloc'd, its length, and that with all slots. */
uint8_t	*luks_make(struct opts *, const char *prefix, size_t *n, uint64_t *all,
	    struct imgerr *);
/* All of that but the work: the length with all slots. */
int	luks_length(struct opts *, const char *prefix, uint64_t *all,
	    struct imgerr *);

#endif
