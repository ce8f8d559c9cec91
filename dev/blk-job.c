/*
 * blk-job.c - block jobs of a running disk (img/job.h): one at a time, each on a
 * thread of its own, for a step sleeps as long as its images do and must hold up
 * neither the guest's requests nor the control lines.  It begins, ends and
 * changes the image only on the main thread with the workers idle; its thread
 * says by an eventfd that it has nothing more to do.
 */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../img/job.h"
#include "blk.h"

struct blk_job {
	struct blk_priv	*b;
	struct job	*j;
	enum job_kind	kind;
	enum job_end	end;
	struct img	*dst, *base;
	bool		top, pivot;
	_Atomic bool	ended;
	pthread_t	thread;
};

bool
blk_busy(const struct blk_priv *b, FILE *out)
{
	if (b->job)
		fprintf(out, "Device '%s' is busy: a %s job is running",
		    b->v.d->name, job_name[b->job->kind]);
	return b->job;
}

static void
tell(struct blk_job *jb, const char *what, const char *why)
{
	char text[300];

	snprintf(text, sizeof text, "block-job %s %s%s%s", what,
	    job_name[jb->kind], *why ? ": " : "", why);
	dev_event(jb->b->v.d, text);
}

/* ------------------------------------------------------------------- the end */

/* The image takes over what the layers that were streamed leave: the base. */
static int
stream_end(struct blk_priv *b, struct img *base, struct imgerr *e)
{
	struct img *im = b->img, *p = im, *next;
	char *path = NULL, *name = NULL;
	const char *fmt = NULL;
	int r = -1;

	if (!im->backing)
		return 0;
	while (p->backing != base)
		p = p->backing;
	if (p == im)
		return 0;
	if (base) {
		path = img_backing_path(p->filename, p->backing_name ?
		    p->backing_name : base->filename);
		name = path ? blk_full_name(path) : NULL;
		fmt = base->drv->name;
	}
	if (img_flush(im) || (base && !name) ||
	    im->drv->set_backing(im, name, fmt) || img_flush(im)) {
		err_set(e, errno, "Could not change the backing image: %s",
		    strerror(errno));
		goto out;
	}
	for (p = im->backing, im->backing = base; p != base; p = next) {
		next = p->backing;
		p->backing = NULL;
		img_close(p);
	}
	r = 0;
out:
	free(path);
	free(name);
	return r;
}

/* The copy is the disk's image from now on. */
static void
pivot(struct blk_priv *b, struct blk_job *jb)
{
	struct img *old = b->img;

	disk_hand_on(old, jb->dst);
	if (jb->top) {
		jb->dst->backing = old->backing;
		old->backing = NULL;
	}
	blk_use(b, jb->dst);
	b->temp = false;
	jb->dst = NULL;
	if (img_close(old))
		log_line("%s: closing: %s", b->v.d->name, strerror(errno));
}

/* The thread has returned, or will at once. */
static void
finish(struct blk_priv *b)
{
	struct blk_job *jb = b->job;
	struct imgerr e = { "" };
	bool good;

	pthread_join(jb->thread, NULL);
	blk_quiet(b);
	good = jb->end == JOB_DONE;
	if (jb->end == JOB_FAILED)
		err_set(&e, EIO, "%s", job_why(jb->j));
	if (good && jb->kind == JOB_MIRROR && job_rest(jb->j, &e))
		good = false;
	if (job_close(jb->j, good, &e))
		good = false;
	if (good && jb->kind == JOB_STREAM && stream_end(b, jb->base, &e))
		good = false;
	if (good && jb->pivot)
		pivot(b, jb);
	if (jb->dst && img_close(jb->dst) && good) {
		good = false;
		err_set(&e, errno, "closing: %s", strerror(errno));
	}
	tell(jb, good ? "completed" : jb->end == JOB_CANCELLED ? "cancelled" :
	    "failed", e.s);
	if (!good && *e.s)
		log_line("%s job: %s", job_name[jb->kind], e.s);
	snprintf(b->last, sizeof b->last, "%s %s%s%.200s", job_name[jb->kind],
	    good ? "completed" : jb->end == JOB_CANCELLED ? "cancelled" :
	    "failed", *e.s ? ": " : "", e.s);
	b->job = NULL;
	free(jb);
}

static void
woken(void *arg, int fd, short revents)
{
	struct blk_priv *b = arg;
	uint64_t n;

	/* it may have been the one before */
	if (read(fd, &n, sizeof n) == sizeof n && b->job &&
	    atomic_load(&b->job->ended)) {
		finish(b);
		blk_go_on(b);
	}
}

int
blk_job_init(struct blk_priv *b)
{
	b->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return b->wake < 0 ? -1 : loop_fd(b->v.d->loop, b->wake, POLLIN, woken,
	    b);
}

void
blk_job_quit(struct blk_priv *b)
{
	if (b->job) {
		job_cancel(b->job->j);
		b->job->pivot = false;
		finish(b);
		blk_go_on(b);
	}
}

/* ------------------------------------------------------------- the beginning */

static void
ready(void *arg)
{
	tell(arg, "ready", "");
}

static void *
run(void *arg)
{
	struct blk_job *jb = arg;
	uint64_t one = 1;

	jb->end = job_run(jb->j);
	atomic_store(&jb->ended, true);
	if (write(jb->b->wake, &one, sizeof one) < 0) {
		/* it is readable already */
	}
	return NULL;
}

/* Takes `dst`. */
static int
begin(struct blk_priv *b, enum job_kind kind, struct img *dst,
    struct img *base, unsigned flags, uint64_t speed, FILE *out)
{
	struct blk_job *jb = calloc(1, sizeof *jb);
	sigset_t all, old;
	struct imgerr e;
	int r;

	if (!jb) {
		img_close(dst);
		return ENOMEM;
	}
	blk_quiet(b);
	jb->b = b;
	jb->kind = kind;
	jb->dst = dst;
	jb->base = base;
	jb->top = flags & JOB_TOP;
	jb->j = job_new(kind, b->img, dst, base, flags, ready, jb, &e);
	if (!jb->j) {
		r = blk_say(out, &e);
		goto bad;
	}
	job_speed(jb->j, speed);
	b->job = jb;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&jb->thread, NULL, run, jb);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		return 0;
	b->job = NULL;
	job_close(jb->j, false, NULL);
bad:
	img_close(dst);
	free(jb);
	return r;
}

/* A layer under the disk's image, by its name or what is recorded. */
static struct img *
find_base(struct blk_priv *b, const char *name)
{
	struct img *p;
	char *full;
	bool is;

	for (p = b->img; p->backing; p = p->backing) {
		full = blk_full_name(p->backing->filename);
		is = !strcmp(name, p->backing->filename) ||
		    (full && !strcmp(name, full)) || (p->backing_name &&
		    !strcmp(name, p->backing_name));
		free(full);
		if (is)
			return p->backing;
	}
	return NULL;
}

static int
speed_of(char **argv, uint64_t *speed, FILE *out)
{
	const char *s = line_key(argv, "speed");

	*speed = 0;
	if (s && parse_size(s, speed)) {
		fprintf(out, "%s: not a speed", s);
		return EINVAL;
	}
	return 0;
}

int
blk_stream(struct blk_priv *b, char **argv, FILE *out)
{
	const char *name = line_key(argv, "base");
	struct img *base = NULL;
	uint64_t speed;

	if (blk_busy(b, out))
		return EBUSY;
	if (b->ro || !b->img->drv->set_backing) {
		fprintf(out, b->ro ? "the disk is read-only" :
		    "Format '%s' has no backing images", b->img->drv->name);
		return ENOTSUP;
	}
	if (name && !(base = find_base(b, name))) {
		fprintf(out, "'%s' is no backing image of this disk", name);
		return ENOENT;
	}
	return speed_of(argv, &speed, out) ? EINVAL :
	    begin(b, JOB_STREAM, NULL, base, 0, speed, out);
}

int
blk_copy(struct blk_priv *b, char **argv, FILE *out)
{
	enum job_kind kind = *argv[0] == 'b' ? JOB_BACKUP : JOB_MIRROR;
	bool top = line_key(argv, "sync") && b->img->backing &&
	    !strcmp(line_key(argv, "sync"), "top");
	const char *new = line_key(argv, "new");
	unsigned flags = top ? JOB_TOP : 0;
	struct img *dst;
	uint64_t speed;

	if (blk_busy(b, out))
		return EBUSY;
	if (speed_of(argv, &speed, out))
		return EINVAL;
	dst = blk_target(b, argv, top ? b->img->backing : NULL, out);
	if (!dst)
		return errno;
	if (!dst->drv->unfinished) {
		fprintf(out, "Format '%s' cannot say that a copy is unfinished;"
		    " raw and qcow2 can", dst->drv->name);
		goto bad;
	}
	if (new && !strcmp(new, "on") && dst->zero_init)
		flags |= JOB_FRESH;
	if (line_key(argv, "compress")) {
		flags |= JOB_COMPRESS;
		if (!dst->drv->pwritec || !dst->cluster) {
			fprintf(out, "Format '%s' has no compression",
			    dst->drv->name);
			goto bad;
		}
	}
	return begin(b, kind, dst, NULL, flags, speed, out);
bad:
	img_close(dst);
	return ENOTSUP;
}

/* --------------------------------------------------------------- what it does */

static int
info(struct blk_priv *b, FILE *out)
{
	struct blk_job *jb = b->job;
	struct job_stat s;

	if (!jb)
		return 0;
	job_stat(jb->j, &s);
	if (jb->kind == JOB_STREAM)
		fprintf(out, "Streaming device %s", b->v.d->name);
	else
		fprintf(out, "Type %s, device %s", job_name[jb->kind],
		    b->v.d->name);
	fprintf(out, ": Completed %" PRIu64 " of %" PRIu64 " bytes, speed limit "
	    "%" PRIu64 " bytes/s%s%s\n", s.done, s.total, s.speed,
	    job_ready(jb->j) ? ", ready" : "",
	    job_paused(jb->j) ? ", paused" : "");
	return 0;
}

static int
cancel(struct blk_priv *b, bool force, FILE *out)
{
	struct blk_job *jb = b->job;

	if (job_paused(jb->j) && !force) {
		fprintf(out, "The block job for device '%s' is currently "
		    "paused", b->v.d->name);
		return EBUSY;
	}
	jb->pivot = false;
	if (job_ready(jb->j) && !force) {
		job_complete(jb->j);	/* a copy of this moment */
		return 0;
	}
	job_cancel(jb->j);
	finish(b);
	return 0;
}

int
blk_job_ask(struct blk_priv *b, char **argv, FILE *out)
{
	const char *verb = argv[1] ? argv[1] : "info";
	uint64_t speed;

	if (!strcmp(verb, "info"))
		return info(b, out);
	if (!b->job) {
		fprintf(out, "No active block job on device '%s'",
		    b->v.d->name);
		return ESRCH;
	}
	if (!strcmp(verb, "cancel"))
		return cancel(b, argv[2] && !strcmp(argv[2], "force"), out);
	if (!strcmp(verb, "pause") || !strcmp(verb, "resume")) {
		job_pause(b->job->j, *verb == 'p');
		return 0;
	}
	if (!strcmp(verb, "complete")) {
		if (!job_ready(b->job->j)) {
			fprintf(out, "The active block job for device '%s' "
			    "cannot be completed", b->v.d->name);
			return EBUSY;
		}
		b->job->pivot = true;
		job_complete(b->job->j);
		return 0;
	}
	if (!strcmp(verb, "set")) {
		if (speed_of(argv, &speed, out))
			return EINVAL;
		job_speed(b->job->j, speed);
		return 0;
	}
	return EINVAL;
}
