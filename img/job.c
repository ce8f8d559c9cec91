/*
 * job.c - block jobs: stream, backup and mirror beside the image's users.
 *
 * Backup and mirror have a bit for each chunk that is still to be copied.
 * Backup: who changes a chunk copies it first if its bit is set.  Mirror: who
 * has changed a chunk sets its bit; the job clears it before it reads.  Stream:
 * the job has the image's writers wait while it fills a hole (img.cor).
 * The job works in steps of at most 1 MiB; between them it waits for its
 * turn: pauses, keeps to its speed, looks whether it shall end.  It reads past
 * the limits (throttle) that its image's users have.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "job-step.h"

enum { CHUNK = 64 << 10, REST = 16 << 20 };
#define NS	1000000000ull

const char *const job_name[] = { "stream", "backup", "mirror" };

static uint64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------- other's view */

void
job_before(struct job *j, uint64_t off, uint64_t len)
{
	uint64_t c;

	if (j->kind == JOB_BACKUP)
		for (c = off / j->chunk; c * j->chunk < off + len; c++)
			job_chunk(j, c);	/* fails the job only */
}

void
job_after(struct job *j, uint64_t off, uint64_t len)
{
	if (j->kind != JOB_MIRROR || !len)
		return;
	pthread_mutex_lock(&j->lock);
	job_mark(j, off / j->chunk, (off + len - 1) / j->chunk + 1);
	pthread_cond_broadcast(&j->cond);
	pthread_mutex_unlock(&j->lock);
}

#define SET(stmt) do { \
	pthread_mutex_lock(&j->lock); \
	stmt; \
	pthread_cond_broadcast(&j->cond); \
	pthread_mutex_unlock(&j->lock); \
} while (0)

void
job_cancel(struct job *j)
{
	SET(j->cancel = true);
}

void
job_complete(struct job *j)
{
	SET(j->complete = true);
}

void
job_pause(struct job *j, bool on)
{
	SET(j->paused = on);
}

void
job_speed(struct job *j, uint64_t bytes)
{
	SET(j->speed = bytes; j->due = 0);
}

bool
job_ready(struct job *j)
{
	bool r;

	SET(r = j->synced);
	return r;
}

bool
job_paused(struct job *j)
{
	bool r;

	SET(r = j->paused);
	return r;
}

void
job_stat(struct job *j, struct job_stat *s)
{
	pthread_mutex_lock(&j->lock);
	s->total = j->src->size;
	s->speed = j->speed;
	s->done = j->kind == JOB_STREAM ? j->pos : s->total -
	    umin(s->total, j->ntodo * j->chunk);
	pthread_mutex_unlock(&j->lock);
}

const char *
job_why(const struct job *j)
{
	return j->why;
}

/* ---------------------------------------------------------------- the loop */

/* Wait for the job's turn; with `idle`, for something to do.  False: it has
 * ended, as *how says. */
static bool
turn(struct job *j, bool idle, enum job_end *how)
{
	struct timespec t;
	uint64_t left;
	bool go = false;

	pthread_mutex_lock(&j->lock);
	for (;;) {
		*how = j->error ? JOB_FAILED : j->cancel ? JOB_CANCELLED :
		    JOB_DONE;
		left = j->ntodo * j->chunk;
		if (*how != JOB_DONE || (j->complete && j->synced &&
		    left <= REST))
			break;
		if (j->paused || (idle && !left && !j->complete)) {
			pthread_cond_wait(&j->cond, &j->lock);
			continue;
		}
		go = !j->speed || j->due <= now();
		if (go)
			break;
		t.tv_sec = (time_t)(j->due / NS);
		t.tv_nsec = (long)(j->due % NS);
		pthread_cond_timedwait(&j->cond, &j->lock, &t);
	}
	pthread_mutex_unlock(&j->lock);
	return go;
}

static void
charge(struct job *j, uint64_t n)
{
	uint64_t t = now();

	pthread_mutex_lock(&j->lock);
	if (j->speed)
		j->due = umax(j->due, t) + (uint64_t)((double)n * (double)NS /
		    (double)j->speed);
	pthread_mutex_unlock(&j->lock);
}

enum job_end
job_run(struct job *j)
{
	enum job_end how;
	bool idle = false;
	int64_t n;

	while (turn(j, idle, &how)) {
		n = job_step(j);
		idle = false;
		if (n > 0) {
			charge(j, (uint64_t)n);
			continue;
		}
		if (n < 0 || (!job_ready(j) && job_flush(j, j->dst ? j->dst :
		    j->src)))
			return JOB_FAILED;
		if (j->kind != JOB_MIRROR)
			return JOB_DONE;
		idle = true;
		if (!job_ready(j)) {
			SET(j->synced = true);
			j->ready(j->arg);
		}
	}
	if (how == JOB_DONE && (job_flush(j, j->dst) || job_flush(j, j->src)))
		return JOB_FAILED;
	return how;
}

int
job_rest(struct job *j, struct imgerr *e)
{
	int64_t n;

	while ((n = j->error ? -1 : job_step(j)) > 0)
		;
	return n < 0 ? err_set(e, j->error, "%s", j->why) : 0;
}

/* ---------------------------------------------------------- begin and end */

struct job *
job_new(enum job_kind kind, struct img *src, struct img *dst, struct img *base,
    unsigned flags, void (*ready)(void *), void *arg, struct imgerr *e)
{
	struct job *j = calloc(1, sizeof(*j));
	pthread_condattr_t a;
	uint64_t words;

	if (!j) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	j->kind = kind;
	j->src = src;
	j->dst = dst;
	j->base = flags & JOB_TOP ? src->backing : base;
	j->flags = flags;
	j->ready = ready;
	j->arg = arg;
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&j->cond, &a);
	pthread_condattr_destroy(&a);
	if (dst) {
		j->chunk = umax(CHUNK, dst->cluster);
		j->nchunk = (src->size + j->chunk - 1) / j->chunk;
		words = j->nchunk / 64 + 1;
		j->todo = calloc(words, 8);
		j->seen = calloc(words, 8);
		if (!j->todo || !j->seen) {
			err_set(e, ENOMEM, "Out of memory");
			goto bad;
		}
		job_mark(j, 0, j->nchunk);
		if (dst->drv->unfinished(dst, true) && errno != ENOTSUP) {
			err_set(e, errno, "Could not write to '%s': %s",
			    dst->filename, strerror(errno));
			goto bad;
		}
	}
	src->job = j;
	return j;
bad:
	free(j->todo);
	free(j->seen);
	free(j);
	return NULL;
}

int
job_close(struct job *j, bool good, struct imgerr *e)
{
	int r = 0;

	if (good && j->dst && (img_flush(j->dst) ||
	    (j->dst->drv->unfinished(j->dst, false) && errno != ENOTSUP) ||
	    img_flush(j->dst)))
		r = err_set(e, errno, "Could not finish '%s': %s",
		    j->dst->filename, strerror(errno));
	j->src->job = NULL;
	pthread_mutex_destroy(&j->lock);
	pthread_cond_destroy(&j->cond);
	free(j->todo);
	free(j->seen);
	free(j);
	return r;
}
