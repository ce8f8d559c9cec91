/*
 * compact.h - for formats without a list of free space: after a power cut, what
 * nobody points to is filled with what lies at the end.
 */
#ifndef COMPACT_H
#define COMPACT_H

#include "img.h"

#define UNIT_FIXED	UINT64_MAX
struct compact {
	struct unit {			/* one that is used */
		uint64_t	at;	/* units from the first one */
		uint64_t	owner;	/* UNIT_FIXED if it cannot move, else
					 * what move() knows it by */
	}		*u;
	size_t		n, room;
	/* Copy a unit and note who must point to the new place. */
	int		(*move)(struct img *, uint64_t owner, uint64_t from,
			    uint64_t to);
};

int	compact_add(struct compact *, uint64_t at, uint64_t owner);
/* How many units are left: what is above them can be cut off when all pointers
 * are on disk; UINT64_MAX with errno.  Frees the list. */
uint64_t compact(struct img *, struct compact *);
/* For move(): `len` bytes of the image's file. */
int	compact_copy(struct img *, uint64_t from, uint64_t to, uint64_t len);

#endif
