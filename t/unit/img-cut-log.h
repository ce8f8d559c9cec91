/* The record of what was written to an image's files, and what of it a power
 * cut leaves. */
#ifndef IMG_CUT_LOG_H
#define IMG_CUT_LOG_H

enum { FILES = 2, SECT = 512 };
enum what { WRITE, TRUNC, PUNCH, SYNC, PROMISE };
struct rec {
	enum what	op;
	int		file;
	uint64_t	off, len;
	uint8_t		*data;
};
static struct rec *rec;
static size_t nrec, crec;
static bool recording;

struct disk {				/* a file's bytes */
	uint8_t		*b;
	uint64_t	n, room;
};
static struct disk before[FILES];	/* the work */
static ino_t inode[FILES];

static void
note(enum what op, int fd, uint64_t off, uint64_t len, const void *p)
{
	struct stat st;
	struct rec *r;
	int f = 0;

	if (!recording)
		return;
	if (fd >= 0 && !fstat(fd, &st))
		for (f = 0; f < FILES && inode[f] != st.st_ino; f++)
			;
	if (f == FILES)
		return;			/* an eventfd, a terminal */
	if (nrec == crec && !(rec = realloc(rec, (crec = crec * 2 + 64) *
	    sizeof(*rec))))
		err(1, "realloc");
	r = &rec[nrec++];
	*r = (struct rec){ op, f, off, len, NULL };
	if (p) {
		if (!(r->data = malloc(len + 1)))
			err(1, "malloc");
		memcpy(r->data, p, len);
	}
}

ssize_t
pwrite(int fd, const void *p, size_t n, off_t off)
{
	note(WRITE, fd, (uint64_t)off, n, p);
	return syscall(SYS_pwrite64, fd, p, n, off);
}

ssize_t
pwritev(int fd, const struct iovec *v, int n, off_t off)
{
	ssize_t sum = 0;

	for (int i = 0; i < n; i++) {
		if (pwrite(fd, v[i].iov_base, v[i].iov_len, off + sum) < 0)
			return -1;
		sum += (ssize_t)v[i].iov_len;
	}
	return sum;
}

int
fdatasync(int fd)
{
	note(SYNC, fd, 0, 0, NULL);
	return 0;
}

int
fsync(int fd)
{
	return fdatasync(fd);
}

int
ftruncate(int fd, off_t len)
{
	note(TRUNC, fd, (uint64_t)len, 0, NULL);
	return (int)syscall(SYS_ftruncate, fd, len);
}

int
fallocate(int fd, int mode, off_t off, off_t len)
{
	int r = (int)syscall(SYS_fallocate, fd, mode, off, len);

	if (!r)
		note(PUNCH, fd, (uint64_t)off, (uint64_t)len, NULL);
	return r;
}

/* Forget the record and remember the files as they are. */
static void
begin(const char *dir)
{
	char path[500];
	struct stat st;
	int fd;

	while (nrec)
		free(rec[--nrec].data);
	for (int f = 0; f < FILES; f++) {
		struct disk *d = &before[f];

		snprintf(path, sizeof(path), "%s/%s", dir, f ? "a.data" : "a");
		inode[f] = 0;
		d->n = 0;
		if ((fd = open(path, O_RDONLY)) < 0)
			continue;
		if (fstat(fd, &st))
			err(1, "%s", path);
		inode[f] = st.st_ino;
		d->n = (uint64_t)st.st_size;
		if (d->room < d->n && !(d->b = realloc(d->b, d->room = d->n)))
			err(1, "realloc");
		if (pread(fd, d->b, d->n, 0) != (ssize_t)d->n)
			err(1, "%s", path);
		close(fd);
	}
}

static void
resize(struct disk *d, uint64_t n)
{
	if (n > d->room) {
		d->room = n + (1 << 20);
		if (!(d->b = realloc(d->b, d->room)))
			err(1, "realloc");
	}
	if (n > d->n)
		memset(d->b + d->n, 0, n - d->n);
	d->n = n;
}

static void
apply(struct disk *d, const struct rec *r, bool torn)
{
	uint64_t end = r->off + r->len;

	switch (r->op) {
	case WRITE:
		if (end > d->n)
			resize(d, end);
		for (uint64_t at = r->off, k; at < end; at += k) {
			k = umin(end, rdown(at + SECT, SECT)) - at;
			if (!torn || rnd(2))
				memcpy(d->b + at, r->data + (at - r->off), k);
		}
		break;
	case TRUNC:
		resize(d, r->off);
		break;
	case PUNCH:
		if (r->off < d->n)
			memset(d->b + r->off, 0, umin(r->len, d->n - r->off));
		break;
	default:
		break;
	}
}

/* File `f` as a cut before record `at` leaves it, as `path`.  How: 0 all of what
 * was not synced is there, 1 nothing, 2 some writes, 3 some of their sectors. */
static void
outcome(int f, size_t at, int how, const char *path)
{
	static struct disk d;
	size_t sync = 0;
	uint64_t of = 1 + rnd(3);
	int fd;

	if (!inode[f])
		return;
	d.n = 0;
	resize(&d, before[f].n);
	memcpy(d.b, before[f].b, d.n);
	for (size_t i = 0; i < at; i++)
		if (rec[i].file == f && rec[i].op == SYNC)
			sync = i + 1;
	for (size_t i = 0; i < at; i++)
		if (rec[i].file == f && (i < sync || how == 0 || (how > 1 &&
		    rnd(4) < of)))
			apply(&d, &rec[i], how == 3 && i >= sync);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || syscall(SYS_ftruncate, fd, d.n))
		err(1, "%s", path);
	for (uint64_t o = 0, k; o < d.n; o += k) {
		k = umin(4096, d.n - o);
		if (!is_zero(d.b + o, k) && syscall(SYS_pwrite64, fd, d.b + o,
		    k, o) < 0)
			err(1, "%s", path);
	}
	close(fd);
}

#endif
