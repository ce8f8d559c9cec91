/*
 * job-step.h - between the two files of block jobs.
 */
#ifndef JOB_STEP_H
#define JOB_STEP_H

#include "job.h"

struct job {
	enum job_kind	kind;
	struct img	*src, *dst, *base;
	unsigned	flags;
	void		(*ready)(void *);
	void		*arg;
	uint64_t	chunk, nchunk;
	pthread_mutex_t	lock;		/* all below */
	pthread_cond_t	cond;
	uint64_t	*todo;		/* bits */
	uint64_t	*seen;		/* mirror: chunks that dst has data of */
	uint64_t	ntodo, next;	/* chunk to look at */
	uint64_t	busy[64];	/* backup: being copied, + 1; 0: free */
	uint64_t	pos;		/* stream */
	uint64_t	speed, due;
	bool		paused, cancel, complete, synced;
	int		error;
	char		why[256];
};

/* One step: bytes it took, at least 1; 0: nothing is to be done (now); -1: it
 * failed. */
int64_t	job_step(struct job *);
/* Have it on the disk now, so that at the end, when everybody waits, there is
 * little to do. */
int	job_flush(struct job *, struct img *);
/* Chunks [a, b) are to be copied.  Locked. */
void	job_mark(struct job *, uint64_t a, uint64_t b);
/* Backup: copy the chunk if that is still to be done; wait if somebody does. */
int	job_chunk(struct job *, uint64_t c);

#endif
