/*
 * compact.h - for formats without a list of free space: after a power cut, what
 * nobody points to is filled with what lies at the end.
 */
#ifndef COMPACT_H
#define COMPACT_H

#include "img.h"

#define UNIT_FIXED	UINT64_MAX
struct compact {
	uint64_t	n;		/* units of the file's data */
	uint64_t	*owner;		/* of each: 0 nobody, UNIT_FIXED what
					 * cannot move, else move() knows */
	/* Copy a unit and note who must point to the new place. */
	int		(*move)(struct img *, uint64_t owner, uint64_t from,
			    uint64_t to);
};

/* Lowers n; what is above it can be cut off when all pointers are on disk. */
int	compact(struct img *, struct compact *);
/* For move(): `len` bytes of the image's file. */
int	compact_copy(struct img *, uint64_t from, uint64_t to, uint64_t len);

#endif
