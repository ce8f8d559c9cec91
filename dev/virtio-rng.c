/*
 * virtio-rng.c - virtio entropy device (virtio 1.2, 5.4): fills the driver's
 * buffers from getrandom(2) or from a file, at most max-bytes in every period.
 *
 * One buffer gets at most 64 KiB: the driver takes what it is told it got.
 *
 * #syscalls getrandom read
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "virtio.h"

#define CHAIN_MAX	(64u << 10)
#define IOV_CAP		256
#define QUEUE_SIZE	64

struct rng {
	struct virtio_state v;
	uint64_t	quota;		/* bytes left in this period */
	int64_t		period_end;	/* guest ns; 0: period not started */
};

struct rng_opts {
	const char	*file, *addr;
	uint64_t	max_bytes;
	uint32_t	period;
};

struct rng_priv {
	struct virtio	v;
	int		fd;		/* -1: getrandom */
	bool		waiting;	/* for the file to become readable */
	struct iovec	iov[IOV_CAP];
};

static const struct field fields[] = {
	VIRTIO_FIELDS(rng, v),
	FIELD(rng, quota),
	FIELD(rng, period_end),
	FIELD_END
};

static const struct opt opts[] = {
	{ "file", OPT_STR, offsetof(struct rng_opts, file), NULL,
	    "source instead of the kernel's generator", NULL },
	{ "max-bytes", OPT_U64, offsetof(struct rng_opts, max_bytes), "0",
	    "bytes a period, 0: no limit", NULL },
	{ "period", OPT_U32, offsetof(struct rng_opts, period), "65536",
	    "milliseconds", NULL },
	{ "addr", OPT_STR, offsetof(struct rng_opts, addr), NULL,
	    "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};

static void	kick(struct virtio *, unsigned);

static void
period_over(struct devctx *d)
{
	struct rng *s = d->st;
	const struct rng_opts *o = d->opts;
	struct rng_priv *p = d->priv;

	s->quota = o->max_bytes;
	s->period_end = 0;
	if (d->running)
		kick(&p->v, 0);
}

/* Bytes that may be given now; starts the period with the first. */
static uint64_t
allowance(struct devctx *d, uint64_t want)
{
	struct rng *s = d->st;
	const struct rng_opts *o = d->opts;

	if (want > CHAIN_MAX)
		want = CHAIN_MAX;
	if (!o->max_bytes)
		return want;
	if (s->period_end == 0) {
		s->period_end = dev_clock(d) + o->period * 1000000ll;
		dev_timer(d, 0, s->period_end, period_over);
	}
	return want < s->quota ? want : s->quota;
}

static void
readable(void *arg, int fd, short revents)
{
	struct rng_priv *p = arg;

	p->waiting = false;
	loop_fd(p->v.d->loop, fd, 0, readable, p);
	if (p->v.d->running)
		kick(&p->v, 0);
}

/* Up to len bytes; 0: none now (the file will tell), -1: the source failed. */
static ssize_t
entropy(struct rng_priv *p, uint8_t *buf, size_t len)
{
	ssize_t n;

	do {
		n = p->fd < 0 ? getrandom(buf, len, 0) :
		    read(p->fd, buf, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		if (!p->waiting)
			loop_fd(p->v.d->loop, p->fd, POLLIN, readable, p);
		p->waiting = true;
		return 0;
	}
	if (n <= 0) {
		log_once("virtio-rng", 0, "%s: %s", p->fd < 0 ? "getrandom" :
		    ((const struct rng_opts *)p->v.d->opts)->file,
		    n ? strerror(errno) : "no more bytes");
		return -1;
	}
	return n;
}

/* False: there are no more bytes now. */
static bool
serve(struct virtio *v, unsigned q, unsigned *left)
{
	struct rng_priv *p = (struct rng_priv *)v;
	struct rng *s = v->d->st;
	struct vq_elem e = { .iov = p->iov, .cap = IOV_CAP };
	uint64_t want, done;
	uint8_t buf[4096];
	ssize_t n;

	while (*left && vq_pop(v, q, &e)) {
		--*left;
		want = allowance(v->d, e.in_len);
		for (n = 0, done = 0; done < want; done += (uint64_t)n) {
			n = entropy(p, buf, want - done < sizeof buf ?
			    want - done : sizeof buf);
			if (n <= 0)
				break;
			iov_put(v->d, e.iov + e.n_out, e.n_in, done, buf,
			    (size_t)n);
		}
		if (done == 0 && e.in_len) {	/* later */
			vq_unpop(v, &e);
			return false;
		}
		if (((const struct rng_opts *)v->d->opts)->max_bytes)
			s->quota -= done;
		vq_done(v, &e, (uint32_t)done);
	}
	return true;
}

/* Notifications stay wanted: a driver asks rarely. */
static void
kick(struct virtio *v, unsigned q)
{
	unsigned left = VQ_BUDGET;
	bool more;

	do
		more = serve(v, q, &left);
	while (vq_want(v, q, true) && more && left);
	if (!left)
		vq_again(v, q);
	vq_flush(v, q);
}

static const struct virtio_type type = {
	.id = 4,
	.class_rev = 0x00ff0001,
	.kick = kick,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct rng_priv *p = d->priv;
	const struct rng_opts *o = d->opts;

	p->fd = -1;
	if (o->period == 0) {
		snprintf(why, whylen, "period=0: not a number of milliseconds");
		return -1;
	}
	if (o->file) {
		p->fd = open(o->file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (p->fd < 0) {
			snprintf(why, whylen, "%s: %s", o->file,
			    strerror(errno));
			return -1;
		}
	}
	p->v.nq = 1;
	p->v.qsize = QUEUE_SIZE;
	return virtio_init(d, &type, o->addr, why, whylen);
}

static void
reset(struct devctx *d)
{
	struct rng *s = d->st;

	virtio_reset(d);
	s->quota = ((const struct rng_opts *)d->opts)->max_bytes;
	s->period_end = 0;
	dev_timer(d, 0, -1, period_over);
}

static void
loaded(struct devctx *d)
{
	struct rng *s = d->st;
	const struct rng_opts *o = d->opts;

	virtio_loaded(d);
	if (s->quota > o->max_bytes)
		s->quota = o->max_bytes;
	dev_timer(d, 0, s->period_end ? s->period_end : -1, period_over);
}

static void
quit(struct devctx *d)
{
	struct rng_priv *p = d->priv;

	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x10441af4 },
	{ 'C', 0, 4, 0x08, 0x00ff0001 },
	{ 'C', 0, 1, 0x3d, 1 },			/* INTA */
	{ 'r', 1, 2, 0x12, 1 },			/* one queue */
	{ 'w', 1, 2, 0x16, 1 },
	{ 'r', 1, 2, 0x18, 0 },			/* no second one */
	{ 'w', 1, 2, 0x10, 5 },
	{ 'r', 1, 2, 0x10, 0xffff },		/* no such vector */
	{ 'w', 1, 2, 0x10, 1 },
	{ 'r', 1, 2, 0x10, 1 },
	{ 'R' },
	{ 'r', 1, 2, 0x10, 0xffff },
	{ 0 }
};

const struct dev virtio_rng = {
	.name = "virtio-rng",
	.desc = "virtio entropy device over PCI",
	.spec = "virtio 1.2, 5.4",
	.state_size = sizeof(struct rng),
	.fields = fields,
	.opts_size = sizeof(struct rng_opts),
	.opts = opts,
	.priv_size = sizeof(struct rng_priv),
	.init = init,
	.reset = reset,
	.read = virtio_read,
	.write = virtio_write,
	.bell = virtio_bell,
	.config = virtio_config,
	.loaded = loaded,
	.stop = virtio_stop,
	.run = virtio_run,
	.quit = quit,
	.tests = tests,
};
DEV_MAIN(virtio_rng);
