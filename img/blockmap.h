/*
 * blockmap.h - a disk of blocks that lie in their file in the order they were
 * first written, found by one table of 32-bit numbers: what vdi and dynamic vpc
 * have in common.
 *
 * The table lives in memory.  Changed entries are written at a flush, after the
 * data they point to is on disk, so a cut leaves at worst blocks nobody points
 * to.
 */
#ifndef BLOCKMAP_H
#define BLOCKMAP_H

#include "img.h"

#define NOWHERE	UINT64_MAX

struct blockmap {
	pthread_mutex_t	lock;		/* of what follows */
	uint32_t	*map, n;
	uint32_t	lo, hi;		/* changed: [lo, hi) */
	uint64_t	off;		/* of the table in the file */
	uint64_t	bs;		/* bytes of a block */
	bool		big;		/* the table is big-endian */
	bool		ahead;		/* blocks may be holes of the file */
	/* Where the data of an entry's block is in the file, or NOWHERE. */
	uint64_t	(*where)(const struct blockmap *, uint32_t entry);
	/* Write a new block, zeros but for `n` bytes at `in`, and say its
	 * entry; locked. */
	int		(*append)(struct img *, const uint8_t *, size_t n,
			    uint64_t in, uint32_t *entry);
	/* Before changed entries are written; locked.  May be NULL. */
	int		(*before_sync)(struct img *);
};

/* The rest of the struct is set; -1 with errno, and nothing to free.  The image
 * has it as its priv's first member from then on. */
int	blockmap_open(struct img *, struct blockmap *);
void	blockmap_close(struct img *);	/* flushes */
int	blockmap_flush(struct img *);
int	blockmap_pread(struct img *, void *, size_t, uint64_t off);
int	blockmap_pwrite(struct img *, const void *, size_t, uint64_t off);
int	blockmap_zero(struct img *, uint64_t off, uint64_t len, int flags);
int	blockmap_status(struct img *, uint64_t off, uint64_t len,
	    struct img_status *);

#endif
