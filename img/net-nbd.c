/*
 * net-nbd.c - images served over the network (the NBD project's doc/proto.md), by
 * libnbd.
 *
 * There is no thread of its own, but for TLS (net-nbd-tls.c).  Whoever waits for
 * an answer watches the connection for all who wait; when his own has come, the
 * next one does.  Somebody with a new request wakes him if the socket must be
 * watched for something else from then on.
 *
 * When the connection is lost, requests without an answer are sent again on a
 * new one, which is tried for at least once, and for reconnect-delay seconds.
 * They are all idempotent.  The first that is out of luck fails, and the next
 * request tries again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "net-nbd.h"

enum { PIECE = 32 << 20, TRIES = 16, HANDSHAKE = 30 };

/* libnbd, as far as it is used here */
#define CALLS(X) X(create) X(close) X(get_errno) X(get_error) \
	X(set_export_name) X(add_meta_context) X(aio_connect_socket) \
	X(aio_is_connecting) X(aio_is_dead) X(aio_is_closed) \
	X(aio_is_ready) X(aio_get_fd) X(aio_get_direction) X(aio_notify_read) \
	X(aio_notify_write) X(aio_pread) X(aio_pwrite) X(aio_flush) \
	X(aio_trim) X(aio_zero) X(aio_block_status) X(get_size) \
	X(is_read_only) X(can_flush) X(can_trim) X(can_zero) X(can_fast_zero) \
	X(can_meta_context) X(get_block_size) X(aio_disconnect)
#define NAME(f) "nbd_" #f,
static const char *const calls[] = { CALLS(NAME) };
#define MEMBER(f) __typeof__(nbd_##f) *f;
static union {
	struct { CALLS(MEMBER) };
	void *p[sizeof(calls) / sizeof(calls[0])];
} lib;
_Static_assert(sizeof(lib) == sizeof(lib.p), "one pointer a call");

struct nbd {
	pthread_mutex_t	lock;		/* of all that follows */
	pthread_cond_t	cond;		/* answers; the watch is free */
	struct nbd_handle *h;		/* NULL: no connection */
	struct nbd_tls	*tls;		/* below it, or NULL */
	bool		watched;
	int		wake;		/* eventfd of whoever watches */
	pthread_mutex_t	rmw;		/* parts of the server's blocks */
	/* constant once open */
	struct nbd_name	name;
	char		*context;
	uint64_t	delay;
	uint64_t	max, block;	/* bytes of a request; of which a
					 * multiple */
	bool		readonly, flush, trim, zero, fast, status;
};

enum op { READ, WRITE, FLUSH, TRIM, ZERO, STATUS };
struct req {
	enum op		op;
	void		*p;
	uint64_t	len, off;
	uint32_t	flags;
	const char	*context;
	struct img_status *st;
	bool		done;
	int		eno;
};

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------------- connecting */

static bool
dead(struct nbd_handle *h)
{
	return lib.aio_is_dead(h) || lib.aio_is_closed(h);
}

/* Let the library do what the socket is ready for. */
static void
notify(struct nbd_handle *h, int revents)
{
	unsigned dir = lib.aio_get_direction(h);

	if (dir & LIBNBD_AIO_DIRECTION_READ &&
	    revents & (POLLIN | POLLHUP | POLLERR))
		lib.aio_notify_read(h);
	else if (dir & LIBNBD_AIO_DIRECTION_WRITE && revents & (POLLOUT |
	    POLLHUP | POLLERR))
		lib.aio_notify_write(h);
}

static short
events(struct nbd_handle *h)
{
	unsigned dir = lib.aio_get_direction(h);

	return (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
	    (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
}

/* The library's words without the name of its function. */
static const char *
reason(void)
{
	const char *s = lib.get_error(), *p = s ? strstr(s, ": ") : NULL;

	return p ? p + 2 : s ? s : "unknown error";
}

/* A handle after its handshake, or NULL. */
static struct nbd_handle *
handshake(const struct nbd *n, int fd, struct imgerr *e)
{
	struct nbd_handle *h = lib.create();
	double end = now() + HANDSHAKE;
	struct pollfd p;
	int eno;

	if (!h || lib.set_export_name(h, n->name.export) ||
	    lib.add_meta_context(h, n->context)) {
		err_set(e, EINVAL, "%s", reason());
		close(fd);
		goto bad;
	}
	lib.aio_connect_socket(h, fd);		/* which owns it now */
	while (lib.aio_is_connecting(h) > 0 && now() < end) {
		p = (struct pollfd){ lib.aio_get_fd(h), events(h), 0 };
		if (poll(&p, 1, 1000) > 0)
			notify(h, p.revents);
	}
	if (lib.aio_is_ready(h) > 0)
		return h;
	eno = lib.get_errno();
	if (lib.aio_is_connecting(h) > 0)
		err_set(e, ETIMEDOUT, "The server does not answer");
	else if (eno == ENOENT)
		err_set(e, ENOENT, "Requested export not available");
	else
		err_set(e, eno ? eno : EIO, "%s", reason());
bad:
	if (h)
		lib.close(h);
	return NULL;
}

static void
hang_up(struct nbd *n)
{
	if (n->h)
		lib.close(n->h);
	n->h = NULL;
	nbd_tls_end(n->tls, NULL);
	n->tls = NULL;
}

/* Sets n->h. */
static int
attach(struct nbd *n, struct imgerr *e)
{
	int fd = address_connect(&n->name.a, e);

	if (fd >= 0 && n->name.creds)
		fd = nbd_tls_start(fd, n->name.creds, n->name.hostname,
		    &n->tls, e);
	if (fd < 0)
		return -1;
	if ((n->h = handshake(n, fd, e)))
		return 0;
	nbd_tls_end(n->tls, e);
	n->tls = NULL;
	return -1;
}

/* Until there is a connection to the same export, or the time is over. */
static int
reconnect(struct img *im)
{
	struct nbd *n = im->priv;
	double end = now() + (double)n->delay;
	struct imgerr e;

	while (!n->h) {
		struct timespec t = { 0, 200000000 };

		if (!attach(n, &e)) {
			if ((uint64_t)lib.get_size(n->h) == im->size &&
			    (n->readonly || !lib.is_read_only(n->h)))
				return 0;
			hang_up(n);
			errno = ESTALE;
			return -1;
		}
		if (now() >= end) {
			errno = EIO;
			return -1;
		}
		nanosleep(&t, NULL);
	}
	return 0;
}

static void
wake(struct nbd *n)
{
	uint64_t one = 1;

	if (n->watched && write(n->wake, &one, 8) < 0)
		abort();		/* an eventfd takes 2^64 - 2 of them */
}

/* The connection is dead: get rid of it, when nobody watches it. */
static void
drop(struct nbd *n, struct nbd_handle *h)
{
	while (n->h == h && n->watched) {
		wake(n);
		pthread_cond_wait(&n->cond, &n->lock);
	}
	if (n->h == h)
		hang_up(n);
}

/* --------------------------------------------------------------- requests */

static int
on_done(void *arg, int *eno)
{
	struct req *q = arg;

	q->eno = *eno;
	q->done = true;
	return 1;
}

static int
on_extents(void *arg, const char *context, uint64_t off, uint32_t *x, size_t n,
    int *eno)
{
	struct req *q = arg;
	struct img_status *s = q->st;

	if (strcmp(context, q->context) || n < 2)
		return 0;
	s->len = x[0];
	s->flags = IMG_ALLOC | IMG_MAPPED |
	    (x[1] & LIBNBD_STATE_HOLE ? 0 : IMG_DATA) |
	    (x[1] & LIBNBD_STATE_ZERO ? IMG_ZERO : 0);
	for (size_t i = 2; i + 1 < n && x[i + 1] == x[1]; i += 2)
		s->len += x[i];
	return 0;
}

static int64_t
issue(struct nbd_handle *h, struct req *q)
{
	nbd_completion_callback c = { .callback = on_done, .user_data = q };
	nbd_extent_callback x = { .callback = on_extents, .user_data = q };

	switch (q->op) {
	case READ:
		return lib.aio_pread(h, q->p, q->len, q->off, c, 0);
	case WRITE:
		return lib.aio_pwrite(h, q->p, q->len, q->off, c, q->flags);
	case FLUSH:
		return lib.aio_flush(h, c, 0);
	case TRIM:
		return lib.aio_trim(h, q->len, q->off, c, 0);
	case ZERO:
		return lib.aio_zero(h, q->len, q->off, c, q->flags);
	case STATUS:
		return lib.aio_block_status(h, q->len, q->off, x, c, 0);
	}
	return -1;
}

/* Watch the connection for a moment, or wait for somebody who does. */
static void
watch(struct nbd *n)
{
	struct nbd_handle *h = n->h;
	struct pollfd p[2] = { { lib.aio_get_fd(h), events(h), 0 },
		{ n->wake, POLLIN, 0 } };
	uint64_t count;

	if (n->watched) {
		pthread_cond_wait(&n->cond, &n->lock);
		return;
	}
	n->watched = true;
	pthread_mutex_unlock(&n->lock);
	if (poll(p, 2, -1) < 0)
		p[0].revents = p[1].revents = 0;
	pthread_mutex_lock(&n->lock);
	n->watched = false;
	if (p[1].revents && read(n->wake, &count, 8) < 0)
		abort();		/* only the watcher reads it */
	if (p[0].revents)
		notify(h, p[0].revents);
	pthread_cond_broadcast(&n->cond);
}

static int
request(struct img *im, struct req q)
{
	struct nbd *n = im->priv;
	int r = -1;

	pthread_mutex_lock(&n->lock);
	for (int i = 0; i < TRIES; i++) {
		struct nbd_handle *h;

		if (!n->h && reconnect(im))
			break;
		h = n->h;
		q.done = false;
		q.context = n->context;
		if (issue(h, &q) < 0 && !q.done) {
			q.eno = lib.get_errno();
			q.done = true;
		} else
			wake(n);
		while (!q.done)
			watch(n);
		if (!q.eno) {
			r = 0;
			break;
		}
		/* lost, or the server's word */
		if (n->h == h && !dead(h)) {
			errno = q.eno;
			break;
		}
		drop(n, h);
		errno = EIO;
	}
	pthread_mutex_unlock(&n->lock);
	return r;
}

/* ------------------------------------------------------------------- image */

static int
read_blocks(struct img *im, uint8_t *p, uint64_t len, uint64_t off)
{
	struct nbd *n = im->priv;
	uint64_t k;

	for (; len; len -= k, off += k, p += k) {
		k = umin(len, n->max);
		if (request(im, (struct req){ READ, p, k, off, .flags = 0 }))
			return -1;
	}
	return 0;
}

static int
remote_pread(struct img *im, void *p, size_t len, uint64_t off)
{
	struct nbd *n = im->priv;
	uint64_t lo = rdown(off, n->block);
	uint64_t hi = umin(rup(off + len, n->block), im->size);
	uint8_t *b;
	int r;

	if (lo == off && hi == off + len)
		return read_blocks(im, p, len, off);
	if (!(b = malloc(hi - lo)))
		return -1;
	r = read_blocks(im, b, hi - lo, lo);
	if (!r)
		memcpy(p, b + (off - lo), len);
	free(b);
	return r;
}

static int
write_blocks(struct img *im, const uint8_t *p, uint64_t len, uint64_t off)
{
	struct nbd *n = im->priv;
	uint64_t k;

	for (; len; len -= k, off += k, p += k) {
		k = umin(len, n->max);
		if (request(im, (struct req){ WRITE, (void *)(uintptr_t)p, k,
		    off }))
			return -1;
	}
	return 0;
}

static int
remote_pwrite(struct img *im, const void *p, size_t len, uint64_t off)
{
	struct nbd *n = im->priv;
	uint64_t lo = rdown(off, n->block);
	uint64_t hi = umin(rup(off + len, n->block), im->size);
	uint8_t *b;
	int r;

	if (off > im->size || len > im->size - off) {
		errno = ENOSPC;
		return -1;
	}
	if (lo == off && hi == off + len)
		return write_blocks(im, p, len, off);
	if (!(b = malloc(hi - lo)))
		return -1;
	pthread_mutex_lock(&n->rmw);
	r = read_blocks(im, b, hi - lo, lo);
	if (!r) {
		memcpy(b + (off - lo), p, len);
		r = write_blocks(im, b, hi - lo, lo);
	}
	pthread_mutex_unlock(&n->rmw);
	free(b);
	return r;
}

static int
unsupported(void)
{
	errno = ENOTSUP;
	return -1;
}

static int
remote_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	struct nbd *n = im->priv;
	uint32_t f = flags & IMG_MAYUNMAP ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
	uint64_t k;

	if (!n->zero || off % n->block || len % n->block)
		return unsupported();
	if (flags & IMG_NOFALLBACK) {
		if (!n->fast)
			return unsupported();
		f |= LIBNBD_CMD_FLAG_FAST_ZERO;
	}
	for (; len; len -= k, off += k) {
		k = umin(len, 1 * GiB);
		if (request(im, (struct req){ ZERO, NULL, k, off, f }))
			return -1;
	}
	return 0;
}

static int
remote_discard(struct img *im, uint64_t off, uint64_t len)
{
	struct nbd *n = im->priv;
	uint64_t k, end = rdown(off + len, n->block);

	off = rup(off, n->block);
	if (!n->trim)
		return unsupported();
	for (; off < end; off += k) {
		k = umin(end - off, 1 * GiB);
		if (request(im, (struct req){ TRIM, NULL, k, off, 0 }))
			return -1;
	}
	return 0;
}

static int
remote_flush(struct img *im)
{
	struct nbd *n = im->priv;

	return n->flush ? request(im, (struct req){ FLUSH }) : 0;
}

static int
remote_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	struct nbd *n = im->priv;
	uint64_t lo = rdown(off, n->block);
	uint64_t hi = umin(rup(off + umin(len, 1 * GiB), n->block), im->size);

	s->len = len;
	s->flags = IMG_DATA | IMG_ALLOC | IMG_MAPPED;
	if (off >= im->size)
		s->flags = IMG_ALLOC | IMG_ZERO | IMG_EOF;
	else if (n->status) {
		s->len = 0;
		if (request(im, (struct req){ STATUS, NULL, hi - lo, lo, 0,
		    NULL, s }))
			return -1;
		if (s->len <= off - lo) {
			errno = EIO;	/* the server says nothing */
			return -1;
		}
		s->len = umin(s->len - (off - lo), len);
	}
	s->map = off;
	s->file = im;
	return 0;
}

static int
remote_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	if (pre != PRE_OFF)
		return err_set(e, ENOTSUP, "Unsupported preallocation mode: %s",
		    prealloc_name[pre]);
	/* a format may leave the rest unused */
	if (size != im->size && !(im->flags & IMG_FORMAT))
		return err_set(e, ENOTSUP, "Cannot resize NBD nodes");
	return size > im->size ? err_set(e, EINVAL, "Cannot grow NBD nodes") :
	    0;
}

static void
release(struct nbd *n)
{
	hang_up(n);
	if (n->wake >= 0)
		close(n->wake);
	nbd_name_free(&n->name);
	free(n->context);
	pthread_mutex_destroy(&n->lock);
	pthread_mutex_destroy(&n->rmw);
	pthread_cond_destroy(&n->cond);
	free(n);
}

static void
remote_close(struct img *im)
{
	struct nbd *n = im->priv;

	/* QEMU's servers want to hear that it is over */
	if (n->h && !dead(n->h) && lib.aio_is_ready(n->h) > 0)
		lib.aio_disconnect(n->h, 0);
	release(n);
}

static void
learn(struct img *im, struct nbd *n)
{
	int64_t v;

	im->size = (uint64_t)lib.get_size(n->h);
	n->readonly = lib.is_read_only(n->h) > 0;
	n->flush = lib.can_flush(n->h) > 0;
	n->trim = lib.can_trim(n->h) > 0;
	n->zero = lib.can_zero(n->h) > 0;
	n->fast = lib.can_fast_zero(n->h) > 0;
	n->status = lib.can_meta_context(n->h, n->context) > 0;
	v = lib.get_block_size(n->h, LIBNBD_SIZE_MINIMUM);
	n->block = v > 0 && v <= 65536 && !(v & (v - 1)) ? (uint64_t)v : 1;
	v = lib.get_block_size(n->h, LIBNBD_SIZE_MAXIMUM);
	n->max = rdown(v > 0 && v < PIECE ? (uint64_t)v : PIECE, n->block);
	if (!n->max)
		n->max = n->block;
}

static int
options(struct nbd *n, struct opts *o, uint64_t *timeout, struct imgerr *e)
{
	const char *bm = opts_get(o, "x-dirty-bitmap");

	if (nbd_name_parse(o, &n->name, e) ||
	    opts_num(o, "reconnect-delay", 0, &n->delay, e) ||
	    opts_num(o, "open-timeout", 0, timeout, e))
		return -1;
	if (asprintf(&n->context, bm ? "qemu:dirty-bitmap:%s" :
	    LIBNBD_CONTEXT_BASE_ALLOCATION, bm) < 0)
		n->context = NULL;
	return 0;
}

static int
remote_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct nbd *n;
	uint64_t timeout;
	double end;

	if (library("libnbd.so.0", calls, sizeof(lib.p) / sizeof(lib.p[0]),
	    lib.p, e))
		return -1;
	if (!(n = calloc(1, sizeof(*n))))
		return err_set(e, ENOMEM, "Out of memory");
	pthread_mutex_init(&n->lock, NULL);
	pthread_mutex_init(&n->rmw, NULL);
	pthread_cond_init(&n->cond, NULL);
	n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->wake < 0 || options(n, o, &timeout, e))
		goto bad;
	for (end = now() + (double)timeout; attach(n, e); sleep(1))
		if (now() >= end)
			goto bad;
	learn(im, n);
	if (im->size > IMG_MAX) {
		err_set(e, EFBIG, "The export is too large");
		goto bad;
	}
	if (n->readonly && im->flags & IMG_RDWR) {
		if (!im->auto_ro) {
			err_set(e, EACCES, "Could not open image: Permission "
			    "denied");
			goto bad;
		}
		im->flags &= ~IMG_RDWR;
	}
	free(im->filename);
	im->filename = nbd_name_url(&n->name);
	im->priv = n;
	return 0;
bad:
	release(n);
	return -1;
}

static int
remote_writable(struct img *im, bool on, struct imgerr *e)
{
	struct nbd *n = im->priv;

	return on && n->readonly ? err_set(e, EACCES, "'%s' is read-only",
	    im->filename) : 0;
}

const struct img_driver drv_nbd = {
	.name = "nbd", .schemes = "nbd+tcp nbd+unix nbds nbds+tcp nbds+unix", .protocol = true,
	.open = remote_open, .close = remote_close, .pread = remote_pread,
	.pwrite = remote_pwrite, .preadv = img_bounce_read,
	.pwritev = img_bounce_write, .zero = remote_zero, .discard = remote_discard,
	.flush = remote_flush, .status = remote_status, .truncate = remote_truncate,
	.create = img_create_existing, .writable = remote_writable,
	.terse = true,
};
