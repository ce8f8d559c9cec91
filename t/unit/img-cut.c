/* links: img */
/*
 * img-cut FORMAT OPTIONS SEED POINTS DIRECTORY - power cuts.
 *
 * A random workload runs on an image while every write to its files is recorded
 * (the C library's calls are replaced in img-cut-log.h).  Then files are made as
 * a power cut could have left them: what was written before a file's last
 * fdatasync, and of what came after it, up to the cut, all, nothing, or any
 * part, to the sector.  That is every prefix, and as sectors written once are
 * there or not whatever the order, every order.  Each must open; check must
 * find leaks at worst, and mend them (or, when OPTIONS begin with `snapshots,',
 * what it can mend, as counts and flags cannot change at once); and each block
 * must be what the last flush promised, or something written to it between that
 * and the cut.  When a workload's points are made another is recorded, until
 * POINTS are.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "img/img.h"

static uint64_t state;
static uint64_t
rnd(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 11) % n;
}

#include "img-cut-log.h"
#include "img-cut-work.h"

enum { OPS = 60, ROUNDS = 12 };
static const char *fmt, *options;
static bool snapshots;			/* the work makes some */
static char name[FILES][500];		/* of the files that are tested */

static void
quiet(void *arg, bool bad, const char *s)
{
	if (arg)
		fprintf(stderr, "\t%s\n", s);
}

/* A point's outcome, or what is wrong with it on stderr. */
struct point {
	size_t		at;
	uint64_t	state;		/* what rnd() chose by */
	const char	*what;
};

static int
wrong(const struct point *p, const char *text, const char *why)
{
	warnx("%s %s: cut %zu of %zu (%s): %s%s%s", fmt, options, p->at, nrec,
	    p->what, text, *why ? ": " : "", why);
	return -1;
}

static struct img *
reopen(const struct point *p, int flags)
{
	struct opts o = { 0 };
	struct imgerr e;
	struct img *im;

	if (inode[1])
		opts_set(&o, "data-file.filename", name[1]);
	if (!(im = img_open(name[0], fmt, &o, flags | IMG_NOLOCK, &e)))
		wrong(p, "does not open", e.s);
	return im;
}

/* Leaks, or -1. */
static int64_t
look(const struct point *p, struct img *im, int fix)
{
	struct img_check c = { .say = quiet, .fix = fix };
	struct imgerr e;
	char text[100];

	if (!im->drv->check)
		return 0;
	if (im->drv->check(im, &c, &e))
		return wrong(p, "check", e.s);
	if (!c.corruptions && !c.errors)
		return c.leaks;
	snprintf(text, sizeof(text), "%lld corruptions, %lld errors",
	    (long long)c.corruptions, (long long)c.errors);
	c = (struct img_check){ .say = quiet, .arg = &c };
	im->drv->check(im, &c, &e);
	return wrong(p, text, "");
}

/* Every block is what it may be. */
static int
content(const struct point *p, struct img *im)
{
	static uint8_t b[64 * BLK];
	char text[100];

	for (uint64_t i = 0; i < NBLK; i++) {
		if (i % 64 == 0 && img_pread(im, b, sizeof(b), i * BLK))
			return wrong(p, "read", strerror(errno));
		if (may_be(i, p->at, b + i % 64 * BLK))
			continue;
		snprintf(text, sizeof(text), "block %llu has %u",
		    (unsigned long long)i, le16(b + i % 64 * BLK));
		return wrong(p, text, "neither promised nor written since");
	}
	return 0;
}

/* It goes on living: new writes, which are there afterwards. */
static int
live(const struct point *p)
{
	struct img *im = reopen(p, IMG_RDWR | IMG_UNMAP);
	uint8_t b[8 * BLK], got[8 * BLK];
	uint64_t off[4];
	int r = 0;

	if (!im)
		return -1;
	for (int i = 0; i < 4 && !r; i++) {
		/* one in each quarter */
		off[i] = (uint64_t)i * SIZE / 4 + rnd(SIZE / 4 / BLK - 8) * BLK;
		memset(b, 0xa0 + i, sizeof(b));
		if (img_pwrite(im, b, sizeof(b), off[i], 0))
			r = wrong(p, "write", strerror(errno));
	}
	if (!r && img_flush(im))
		r = wrong(p, "flush", strerror(errno));
	for (int i = 0; i < 4 && !r; i++) {
		memset(b, 0xa0 + i, sizeof(b));
		if (img_pread(im, got, sizeof(got), off[i]) ||
		    memcmp(b, got, sizeof(b)))
			r = wrong(p, "what was written after it", "is lost");
	}
	if (!r && look(p, im, 0) < 0)
		r = -1;
	if (img_close(im) && !r)
		r = wrong(p, "close", strerror(errno));
	return r;
}

static int
test(const struct point *p)
{
	/* a log is replayed by whoever may write */
	int fl = strcmp(fmt, "vhdx") ? IMG_CHECK : IMG_CHECK | IMG_RDWR, r;
	struct img *im = reopen(p, fl);
	int64_t leaks;

	if (!im)
		return -1;
	leaks = snapshots ? 1 : look(p, im, 0);
	r = leaks < 0 || content(p, im) ? -1 : 0;
	img_close(im);
	if (r)
		return r;
	if (leaks) {
		if (!(im = reopen(p, IMG_CHECK | IMG_RDWR)))
			return -1;
		if (look(p, im, snapshots ? 2 : 1) < 0)
			r = -1;
		else if (look(p, im, 0))
			r = wrong(p, "leaks are left after repair", "");
		if (!r)
			r = content(p, im);
		img_close(im);
	}
	return r || rnd(8) ? r : live(p);
}

/* Cut before record `at`; the round says how much of what was in flight is
 * there. */
static int
cut(size_t at, int round)
{
	static const char *const what[] = { "all", "nothing", "some writes",
		"some sectors" };
	struct point p = { at, state, what[round < 2 ? round : 2 + round % 2] };
	int r;

	for (int f = 0; f < FILES; f++)
		outcome(f, at, round < 2 ? round : 2 + round % 2, name[f]);
	r = test(&p);
	if (r && getenv("KEEP"))
		exit(1);
	return r;
}

static uint64_t
workload(const char *dir, uint64_t points, int *bad)
{
	struct opts o = { 0 };
	struct imgerr e;
	struct img *im;
	char path[400];
	uint64_t n = 0;

	snprintf(path, sizeof(path), "%s/a.data", dir);
	unlink(path);
	path[strlen(path) - 5] = 0;
	unlink(path);
	opts_text(&o, options, NULL, &e);
	opts_setf(&o, "size", "%d", SIZE);
	if (strstr(options, "data_file"))
		opts_setf(&o, "data_file", "%s/a.data", dir);
	if (img_create(fmt, path, &o, &e))
		errx(1, "create: %s", e.s);
	opts_free(&o);
	begin(dir);
	if (!(im = img_open(path, fmt, NULL, IMG_RDWR | IMG_UNMAP, &e)))
		errx(1, "open: %s", e.s);
	recording = true;
	work(im, OPS, snapshots);
	if (img_close(im))
		err(1, "close");
	recording = false;
	for (int round = 0; round < ROUNDS; round++)
		for (size_t at = 0; at <= nrec && n < points && *bad < 5; at++) {
			/* the same as the point before it */
			if (round && at && rec[at - 1].op != SYNC && round == 1)
				continue;
			*bad += cut(at, round) != 0;
			n++;
		}
	return n;
}

int
main(int argc, char **argv)
{
	uint64_t points, done = 0, works = 0, records = 0;
	int bad = 0;

	if (argc != 6)
		errx(2, "usage: img-cut FORMAT OPTIONS SEED POINTS DIR");
	fmt = argv[1];
	options = argv[2];
	if ((snapshots = !strncmp(options, "snapshots,", 10)))
		options += 10;
	points = strtoull(argv[4], NULL, 10);
	for (int f = 0; f < FILES; f++)
		snprintf(name[f], sizeof(name[f]), "%s/%s", argv[5],
		    f ? "x.data" : "x");
	while (done < points && bad < 5) {
		state = (strtoull(argv[3], NULL, 10) + works++ * 977) *
		    2654435761u + 88172645463325252u;
		done += workload(argv[5], points - done, &bad);
		records += nrec;
	}
	printf("%s %s: %llu workloads, %llu records, %llu cut points, %d bad\n",
	    fmt, options, (unsigned long long)works, (unsigned long long)
	    records, (unsigned long long)done, bad);
	return bad != 0;
}
