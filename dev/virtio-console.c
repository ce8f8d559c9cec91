/*
 * virtio-console.c - virtio console (virtio 1.2, 5.3) with one port: queue 0
 * carries input to the guest, queue 1 its output; emergency write.
 *
 * Output that the back end does not take stays in the guest's queue: the chain
 * is put back and the place in it remembered.  Input that the guest has no
 * buffer for is held here and the back end paused.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtio.h"

#define IOV_CAP		256
#define QUEUE_SIZE	128
#define IN_BYTES	8192
#define OUT_STEP	4096

enum { F_SIZE = 0, F_EMERG = 2, RX = 0, TX = 1, EMERG_OFF = 8 };

struct console {
	struct virtio_state v;
	uint32_t	tx_off;		/* of the first chain in TX: done */
	uint32_t	in_len;
	uint8_t		in[IN_BYTES];	/* not given to the guest yet */
};

struct console_opts {
	const char	*chardev, *addr;
	uint32_t	cols, rows;
};

struct console_priv {
	struct virtio	v;
	struct chardev	*cd;
	struct iovec	iov[IOV_CAP];
};

#define O(m) offsetof(struct console_opts, m)
static const struct opt opts[] = {
	{ "chardev", OPT_STR, O(chardev), "null", "back end", NULL },
	{ "cols", OPT_U32, O(cols), "0", "columns told to the guest", NULL },
	{ "rows", OPT_U32, O(rows), "0", "rows told to the guest", NULL },
	{ "addr", OPT_STR, O(addr), NULL, "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};
#undef O

static const struct field fields[] = {
	VIRTIO_FIELDS(console, v),
	FIELD(console, tx_off),
	FIELD(console, in_len),
	{ "in", offsetof(struct console, in), IN_BYTES, 1, false },
	FIELD_END
};

/* Give held input to the guest. */
static void
receive(struct virtio *v)
{
	struct console_priv *p = (struct console_priv *)v;
	struct console *s = v->d->st;
	struct vq_elem e = { .iov = p->iov, .cap = IOV_CAP };
	unsigned left = VQ_BUDGET;
	size_t n;

	do {
		while (s->in_len && left && vq_pop(v, RX, &e)) {
			left--;
			n = iov_put(v->d, e.iov + e.n_out, e.n_in, 0, s->in,
			    s->in_len);
			s->in_len -= (uint32_t)n;
			memmove(s->in, s->in + n, s->in_len);
			memset(s->in + s->in_len, 0, n);
			vq_done(v, &e, (uint32_t)n);
		}
	} while (s->in_len && vq_want(v, RX, true) && left);
	if (!left)
		vq_again(v, RX);
	vq_flush(v, RX);
	if (p->cd)
		chardev_pause(p->cd, s->in_len != 0);
}

static void
input(void *arg, const uint8_t *buf, size_t n)
{
	struct devctx *d = arg;
	struct console_priv *p = d->priv;
	struct console *s = d->st;
	size_t room = IN_BYTES - s->in_len;

	if (n > room) {
		log_once("virtio-console", 0, "input lost");
		n = room;
	}
	memcpy(s->in + s->in_len, buf, n);
	s->in_len += (uint32_t)n;
	if (d->running)
		receive(&p->v);
	else if (p->cd)
		chardev_pause(p->cd, true);
}

/* Write a chain from tx_off on; false: the back end is full. */
static bool
send_chain(struct virtio *v, const struct vq_elem *e)
{
	struct console_priv *p = (struct console_priv *)v;
	struct console *s = v->d->st;
	uint8_t buf[OUT_STEP];
	size_t n, done;

	while ((n = iov_get(e->iov, e->n_out, s->tx_off, buf, sizeof buf))) {
		done = p->cd ? chardev_write(p->cd, buf, n) : n;
		s->tx_off += (uint32_t)done;
		if (done < n)
			return false;
	}
	s->tx_off = 0;
	return true;
}

static void
transmit(struct virtio *v)
{
	struct console_priv *p = (struct console_priv *)v;
	struct vq_elem e = { .iov = p->iov, .cap = IOV_CAP };
	unsigned left = VQ_BUDGET;
	bool full = false;

	do {
		vq_want(v, TX, false);
		while (left && !full && vq_pop(v, TX, &e)) {
			left--;
			full = !send_chain(v, &e);
			if (full)
				vq_unpop(v, &e);	/* `writable` goes on */
			else
				vq_done(v, &e, 0);
		}
	} while (vq_want(v, TX, true) && left && !full);
	if (!left)
		vq_again(v, TX);
	vq_flush(v, TX);
}

static void
writable(void *arg)
{
	struct devctx *d = arg;
	struct console_priv *p = d->priv;

	if (d->running)
		transmit(&p->v);
}

static void
kick(struct virtio *v, unsigned q)
{
	if (q == RX)
		receive(v);
	else
		transmit(v);
}

static void
config(struct virtio *v, uint8_t *c)
{
	const struct console_opts *o = v->d->opts;

	cfg16(c, (uint16_t)o->cols);
	cfg16(c + 2, (uint16_t)o->rows);
	cfg32(c + 4, 1);
}

static void
config_write(struct virtio *v, unsigned off, unsigned size, uint32_t val)
{
	struct console_priv *p = (struct console_priv *)v;
	uint8_t c = (uint8_t)val;

	if (off == EMERG_OFF && p->cd)
		chardev_write(p->cd, &c, 1);
}

static void
console_reset(struct virtio *v)
{
	struct console *s = v->d->st;

	s->tx_off = 0;
}

static void
driver_ok(struct virtio *v)
{
	if (v->d->running)
		receive(v);
}

static const struct virtio_type type = {
	.id = 3,
	.class_rev = 0x07800001,
	.cfg_len = 12,
	.config = config,
	.config_write = config_write,
	.kick = kick,
	.reset = console_reset,
	.driver_ok = driver_ok,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct console_priv *p = d->priv;
	const struct console_opts *o = d->opts;

	if (strcmp(o->chardev, "null") && strcmp(o->chardev, "none")) {
		p->cd = chardev_open(d->loop, o->chardev, d->part, input, d,
		    why, whylen);
		if (!p->cd)
			return -1;
		chardev_writable(p->cd, writable, d);
	}
	p->v.offered = 1ull << F_EMERG;
	if (o->cols && o->rows)
		p->v.offered |= 1ull << F_SIZE;
	p->v.nq = 2;
	p->v.qsize = QUEUE_SIZE;
	return virtio_init(d, &type, o->addr, why, whylen);
}

static void
reset(struct devctx *d)
{
	struct console_priv *p = d->priv;
	struct console *s = d->st;

	virtio_reset(d);
	s->in_len = 0;
	memset(s->in, 0, sizeof s->in);
	if (p->cd)
		chardev_pause(p->cd, false);
}

static void
loaded(struct devctx *d)
{
	struct console *s = d->st;

	virtio_loaded(d);
	if (s->in_len > IN_BYTES)
		s->in_len = 0;
}

static int
ask(struct devctx *d, char **argv, FILE *out)
{
	struct console_priv *p = d->priv;

	if (strcmp(argv[0], "chardev"))
		return ENOTSUP;
	fprintf(out, "%s\n", p->cd ? chardev_info(p->cd) : "null");
	return 0;
}

static void
quit(struct devctx *d)
{
	struct console_priv *p = d->priv;

	if (p->cd)
		chardev_close(p->cd);
	p->cd = NULL;
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x10431af4 },
	{ 'C', 0, 4, 0x08, 0x07800001 },
	{ 'r', 1, 2, 0x12, 2 },
	{ 'r', 1, 4, 0x204, 1 },		/* one port */
	{ 'w', 1, 2, 0x16, 1 },
	{ 'r', 1, 2, 0x1e, 1 },			/* its notify offset */
	{ 'r', 1, 2, 0x18, QUEUE_SIZE },
	{ 0 }
};

const struct dev virtio_console = {
	.name = "virtio-console",
	.desc = "virtio console over PCI, one port",
	.spec = "virtio 1.2, 5.3",
	.state_size = sizeof(struct console),
	.fields = fields,
	.opts_size = sizeof(struct console_opts),
	.opts = opts,
	.priv_size = sizeof(struct console_priv),
	.init = init,
	.reset = reset,
	.read = virtio_read,
	.write = virtio_write,
	.bell = virtio_bell,
	.config = virtio_config,
	.loaded = loaded,
	.stop = virtio_stop,
	.run = virtio_run,
	.ask = ask,
	.quit = quit,
	.tests = tests,
};
DEV_MAIN(virtio_console);
