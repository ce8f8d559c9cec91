/*
 * job.h - block jobs: long work on an image that goes on being read and written.
 * A job is begun and closed while nobody uses the image; in between, a thread of
 * its own is in job_run().
 */
#ifndef JOB_H
#define JOB_H

#include "img.h"

/* STREAM: what layers under `src`, down to `base`, hold comes into it.
 * BACKUP: `dst` becomes what `src` was at the beginning.
 * MIRROR: `dst` becomes what `src` is. */
enum job_kind { JOB_STREAM, JOB_BACKUP, JOB_MIRROR };
enum job_flags {
	JOB_TOP		= 1 << 0,	/* only what src itself holds; src's
					 * backing image is, or will be, dst's */
	JOB_FRESH	= 1 << 1,	/* nothing was written to dst yet */
	JOB_COMPRESS	= 1 << 2,
};
/* DONE: all is copied; of a mirror: it was told to complete, and job_rest() is
 * short. */
enum job_end { JOB_DONE, JOB_CANCELLED, JOB_FAILED };
extern const char *const job_name[];

struct job;
/* `dst` (NULL for a stream) is marked as unfinished; it stays the caller's.
 * `ready` is told once, on the job's thread, that a mirror has caught up. */
struct job *job_new(enum job_kind, struct img *src, struct img *dst,
	    struct img *base, unsigned flags, void (*ready)(void *), void *arg,
	    struct imgerr *);
enum job_end job_run(struct job *);

/* Any thread. */
void	job_cancel(struct job *);
void	job_complete(struct job *);	/* a mirror that is ready */
bool	job_ready(struct job *);
void	job_pause(struct job *, bool);
bool	job_paused(struct job *);
void	job_speed(struct job *, uint64_t bytes);	/* a second; 0: none */
struct job_stat { uint64_t done, total, speed; };
void	job_stat(struct job *, struct job_stat *);

/* When job_run() has returned and nobody uses the image: copy what a mirror has
 * left. */
int	job_rest(struct job *, struct imgerr *);
/* Let go of the image.  `good`: the copy is whole, and marked so; -1: it could
 * not be made so. */
int	job_close(struct job *, bool good, struct imgerr *);
/* Why it failed. */
const char *job_why(const struct job *);

/* io.c: before and after each change of the image. */
void	job_before(struct job *, uint64_t off, uint64_t len);
void	job_after(struct job *, uint64_t off, uint64_t len);

#endif
