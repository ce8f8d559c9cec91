/* links: img */
/*
 * img-cut - power cuts.  Runs a random workload on an image with every write
 * to the file recorded (the C library's calls are replaced below), then makes
 * files as a power cut could have left them: all writes up to some fsync, and
 * any subset of those after it, in any order.  Each must open, check must
 * find leaks at worst, and what was flushed must be there.
 *
 *	img-cut FORMAT OPTIONS SEED OPERATIONS CUTS DIRECTORY
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "img/img.h"

enum { SIZE = 2 << 20, BLK = 512, NBLK = SIZE / BLK };
enum op { WRITE, TRUNC, PUNCH, SYNC };
struct rec {
	enum op		op;
	uint64_t	off, len;
	uint8_t		*data;
	/* at a SYNC: what the guest was promised by then */
	uint16_t	*promise;
};

static struct rec *rec;
static size_t nrec, crec;
static int recording;
static uint16_t promised[NBLK];	/* tag of the last flushed write */

static void
note(enum op op, uint64_t off, uint64_t len, const void *p)
{
	struct rec *r;

	if (!recording)
		return;
	if (nrec == crec && !(rec = realloc(rec, (crec = crec * 2 + 64) *
	    sizeof(*rec))))
		err(1, "realloc");
	r = &rec[nrec++];
	*r = (struct rec){ op, off, len, NULL, NULL };
	if (p && (r->data = malloc(len)))
		memcpy(r->data, p, len);
	if (op == SYNC && (r->promise = malloc(sizeof(promised))))
		memcpy(r->promise, promised, sizeof(promised));
}

ssize_t
pwrite(int fd, const void *p, size_t n, off_t off)
{
	note(WRITE, (uint64_t)off, n, p);
	return syscall(SYS_pwrite64, fd, p, n, off);
}

int
fdatasync(int fd)
{
	note(SYNC, 0, 0, NULL);
	return 0;
}

int
ftruncate(int fd, off_t len)
{
	note(TRUNC, (uint64_t)len, 0, NULL);
	return (int)syscall(SYS_ftruncate, fd, len);
}

int
fallocate(int fd, int mode, off_t off, off_t len)
{
	int r = (int)syscall(SYS_fallocate, fd, mode, off, len);

	if (!r)
		note(PUNCH, (uint64_t)off, (uint64_t)len, NULL);
	return r;
}

static uint64_t state;
static uint64_t
rnd(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

static void
fill(uint8_t *b, uint16_t tag)
{
	memset(b, tag & 0xff, BLK);
	ple16(b, tag);
}

/* The last tag written to each block, 0 zeros; and all ever written. */
static uint16_t now[NBLK];
static uint8_t ever[NBLK][8192];	/* bits */

static void
work(struct img *im, int ops)
{
	uint8_t *b = malloc(64 * BLK);
	uint16_t tag = 0;

	for (int i = 0; i < ops; i++) {
		uint64_t blk = rnd(NBLK), n = rnd(64) + 1;
		int k = (int)rnd(10), r;

		n = umin(n, NBLK - blk);
		if (k == 0) {
			r = img_flush(im);
			if (!r) {
				memcpy(promised, now, sizeof(now));
				/* as of now: the next sync carries it, but it
				 * already holds */
				note(SYNC, 0, 0, NULL);
			}
		} else if (k < 3) {
			r = img_zero(im, blk * BLK, n * BLK, k == 1 ?
			    IMG_MAYUNMAP : 0);
			for (uint64_t j = 0; j < n; j++) {
				now[blk + j] = 0;
				ever[blk + j][0] |= 1;
			}
		} else if (k == 3 && im->drv->discard) {
			/* either content is right: only whole disks' worth
			 * of clusters go, so do not promise anything */
			r = img_zero(im, blk * BLK, n * BLK, IMG_MAYUNMAP);
			for (uint64_t j = 0; j < n; j++) {
				now[blk + j] = 0;
				ever[blk + j][0] |= 1;
			}
		} else {
			tag++;
			for (uint64_t j = 0; j < n; j++) {
				fill(b + j * BLK, tag);
				now[blk + j] = tag;
				ever[blk + j][tag / 8] |= (uint8_t)(1 <<
				    tag % 8);
			}
			r = img_pwrite(im, b, n * BLK, blk * BLK, 0);
		}
		if (r)
			err(1, "operation %d", i);
	}
	free(b);
}

static void
apply(int fd, const struct rec *r)
{
	switch (r->op) {
	case WRITE:
		if (syscall(SYS_pwrite64, fd, r->data, r->len, r->off) < 0)
			err(1, "pwrite");
		break;
	case TRUNC:
		if (syscall(SYS_ftruncate, fd, r->off))
			err(1, "ftruncate");
		break;
	case PUNCH:
		syscall(SYS_fallocate, fd, 3, r->off, r->len);
		break;
	case SYNC:
		break;
	}
}

static void
quiet(void *arg, bool bad, const char *s)
{
	if (arg)
		fprintf(stderr, "%s\n", s);
}

static int
cut(const char *base, const char *x, const char *fmt, size_t at)
{
	static char buf[1 << 16];
	const uint16_t *promise = NULL;
	struct img_check c = { .say = quiet };
	struct imgerr e;
	struct img *im;
	size_t sync = 0, i, n = 0, idx[4096];
	uint8_t b[BLK];
	ssize_t k;
	int in, fd, bad = 0;

	for (i = 0; i < at; i++)
		if (rec[i].op == SYNC) {
			sync = i + 1;
			promise = rec[i].promise;
		}
	in = open(base, O_RDONLY);
	fd = open(x, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (in < 0 || fd < 0)
		err(1, "open");
	while ((k = read(in, buf, sizeof(buf))) > 0)
		if (write(fd, buf, (size_t)k) != k)
			err(1, "write");
	close(in);
	for (i = 0; i < sync; i++)
		apply(fd, &rec[i]);
	/* of the rest some, in some order; truncations stay in order */
	for (i = sync; i < at && n < 4096; i++)
		if (rnd(3))
			idx[n++] = i;
	for (i = 0; n && i < n - 1; i++) {
		size_t j = i + rnd(n - i), t = idx[i];

		if (rec[idx[i]].op != WRITE || rec[idx[j]].op != WRITE)
			continue;
		/* two writes to one place keep their order */
		if (rnd(2) && rec[idx[i]].off != rec[idx[j]].off) {
			bool lap = false;

			for (size_t m = i; m <= j; m++)
				lap |= rec[idx[m]].op != WRITE;
			if (!lap) {
				idx[i] = idx[j];
				idx[j] = t;
			}
		}
	}
	for (i = 0; i < n; i++)
		apply(fd, &rec[idx[i]]);
	close(fd);
	im = img_open(x, fmt, NULL, IMG_CHECK, &e);
	if (!im) {
		warnx("cut %zu: does not open: %s", at, e.s);
		return 1;
	}
	if (im->drv->check && im->drv->check(im, &c, &e)) {
		warnx("cut %zu: check: %s", at, e.s);
		bad = 1;
	}
	if (c.corruptions || c.errors) {
		warnx("cut %zu (sync %zu): %lld corruptions, %lld errors", at,
		    sync, (long long)c.corruptions, (long long)c.errors);
		c = (struct img_check){ .say = quiet, .arg = &c };
		im->drv->check(im, &c, &e);
		bad = 1;
	}
	for (uint64_t j = 0; promise && j < NBLK && !bad; j++) {
		uint16_t tag;

		if (img_pread(im, b, BLK, j * BLK)) {
			warn("cut %zu: read", at);
			bad = 1;
			break;
		}
		tag = le16(b);
		/* not overwritten since: must be what was promised */
		if (tag != promise[j] && now[j] == promise[j] &&
		    !(ever[j][tag / 8] >> tag % 8 & 1)) {
			warnx("cut %zu: block %llu has %u, promised %u", at,
			    (unsigned long long)j, tag, promise[j]);
			bad = 1;
		}
		/* older than the promise: a lost flush */
		if (tag < promise[j] && tag && promise[j]) {
			warnx("cut %zu: block %llu went back to %u from %u",
			    at, (unsigned long long)j, tag, promise[j]);
			bad = 1;
		}
	}
	img_close(im);
	return bad;
}

int
main(int argc, char **argv)
{
	struct opts o = { 0 };
	struct imgerr e;
	struct img *im;
	char *a, *base, *x;
	uint8_t *copy;
	int bad = 0, cuts, fd;
	off_t len;

	if (argc != 7)
		errx(2, "usage: img-cut FORMAT OPTIONS SEED OPS CUTS DIR");
	state = strtoull(argv[3], NULL, 10) * 2654435761u + 88172645463325252u;
	cuts = atoi(argv[5]);
	if (asprintf(&a, "%s/a", argv[6]) < 0 || asprintf(&base, "%s/base",
	    argv[6]) < 0 || asprintf(&x, "%s/x", argv[6]) < 0)
		err(1, "asprintf");
	opts_text(&o, argv[2], NULL, &e);
	opts_setf(&o, "size", "%d", SIZE);
	if (img_create(argv[1], a, &o, &e))
		errx(1, "create: %s", e.s);
	/* the image before the work, to replay on */
	fd = open(a, O_RDONLY);
	len = lseek(fd, 0, SEEK_END);
	copy = malloc((size_t)len + 1);
	if (!copy || pread(fd, copy, (size_t)len, 0) != len)
		err(1, "%s", a);
	close(fd);
	fd = open(base, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, copy, (size_t)len) != len)
		err(1, "%s", base);
	close(fd);
	if (!(im = img_open(a, argv[1], NULL, IMG_RDWR | IMG_UNMAP, &e)))
		errx(1, "open: %s", e.s);
	recording = 1;
	work(im, atoi(argv[4]));
	if (img_close(im))
		err(1, "close");
	recording = 0;
	for (int i = 0; i < cuts && bad < 5; i++)
		bad += cut(base, x, argv[1], rnd(nrec + 1));
	printf("%s %s: %zu records, %d cuts, %d bad\n", argv[1], argv[2], nrec,
	    cuts, bad);
	return bad != 0;
}
