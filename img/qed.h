/*
 * qed.h - between the files of the QED format.
 */
#ifndef QED_H
#define QED_H

#include "img.h"

enum {
	F_BACKING = 1, F_CHECK = 2, F_RAWBACK = 4, F_ALL = 7,
	L2_KEEP = 64 << 20,		/* bytes of tables kept */
	QED_TABLE_MAX = 32 << 20,	/* of one: 2^65 bytes of disk */
};

struct qed {
	pthread_mutex_t	lock;
	uint8_t		h[64];
	uint64_t	cs, feat, l1_off, end, *l1, **l2;
	uint32_t	tsize, n;	/* clusters, entries of a table */
	bool		*l2_dirty, l1_dirty, any_dirty;
	uint64_t	kept;
};

/* Is [off, off+len) whole clusters of the file, without its header? */
bool	qed_sane(struct img *, struct qed *, uint64_t off, uint64_t len);
/* The table for `off`: *t NULL if there is none and none is wanted; locked. */
int	qed_table(struct img *, uint64_t off, bool make, uint64_t **t);
int	qed_sync(struct img *);			/* locked */
int	qed_flush(struct img *);
int	qed_write_header(struct img *);
int	qed_check(struct img *, struct img_check *, struct imgerr *);

#endif
