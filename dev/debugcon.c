/*
 * debugcon.c - debug console port: a byte written is a byte printed, a read
 * gives a fixed value by which firmware knows that somebody listens.  As Bochs
 * does at port 0xe9 and SeaBIOS and OVMF expect at 0x402.
 *
 * #syscalls write
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "chario.h"

struct debugcon {
	uint8_t		value;		/* what a read gives */
	uint32_t	nout;
	uint8_t		out[CHARIO_MAX];
};

struct opts {
	uint32_t	iobase, readback;
	const char	*chardev;
};

struct priv {
	struct chario	io;
	bool		armed;
};

static const struct field fields[] = {
	FIELD(debugcon, value), FIELD(debugcon, nout), FIELDS(debugcon, out),
	FIELD_END
};

static const struct opt opts[] = {
	{ "iobase", OPT_U32, offsetof(struct opts, iobase), "0x402",
	    "the port", NULL },
	{ "readback", OPT_U32, offsetof(struct opts, readback), "0xe9",
	    "what a read gives", NULL },
	{ "chardev", OPT_STR, offsetof(struct opts, chardev), "none",
	    "back end, as of -serial", NULL },
	{ 0 }
};

static void
flush(struct devctx *d)
{
	struct priv *p = d->priv;

	p->armed = false;
	chario_flush(&p->io);
}

static uint64_t
con_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct debugcon *c = d->st;

	return range == 0 ? c->value : ~0ull;
}

static void
con_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct debugcon *c = d->st;
	struct priv *p = d->priv;

	if (range != 0)
		return;
	chario_put(&p->io, (uint8_t)val);
	if (c->nout >= 1024)
		chario_flush(&p->io);
	if (!p->armed) {
		p->armed = true;
		dev_timer(d, 0, 1, flush);
	}
}

static int
con_init(struct devctx *d, char *why, size_t whylen)
{
	struct debugcon *c = d->st;
	struct opts *o = d->opts;
	struct priv *p = d->priv;

	if (o->iobase > 0xffff || o->readback > 0xff) {
		snprintf(why, whylen, "iobase is at most 0xffff, readback "
		    "0xff");
		return -1;
	}
	c->value = (uint8_t)o->readback;
	if (dev_range_set(d, 0, SPACE_IO, o->iobase, 1, RANGE_SHADOW,
	    offsetof(struct debugcon, value), 0, 0) < 0) {
		snprintf(why, whylen, "port 0x%x: %s", o->iobase,
		    strerror(errno));
		return -1;
	}
	return chario_open(&p->io, d, o->chardev, c->out, &c->nout, NULL, why,
	    whylen);
}

static void
con_reset(struct devctx *d)
{
	struct debugcon *c = d->st;

	c->value = (uint8_t)((struct opts *)d->opts)->readback;
	flush(d);
}

static int
con_ask(struct devctx *d, char **argv, FILE *out)
{
	struct priv *p = d->priv;

	return strcmp(argv[0], "chardev") == 0 ? chario_info(&p->io, out) :
	    ENOTSUP;
}

static void
con_loaded(struct devctx *d)
{
	struct debugcon *c = d->st;

	if (c->nout > sizeof c->out)
		c->nout = sizeof c->out;
	if (c->nout)
		dev_timer(d, 0, 1, flush);
}

static void
con_quit(struct devctx *d)
{
	struct priv *p = d->priv;

	chario_close(&p->io);
}

static const struct dev_test tests[] = {
	{ 'r', 0, 1, 0, 0xe9 }, { 'w', 0, 1, 0, 'x' }, { 'r', 0, 1, 0, 0xe9 },
	{ 0 }
};

static const struct dev debugcon = {
	.name = "debugcon",
	.desc = "debug console port",
	.spec = "Bochs port E9; SeaBIOS and OVMF debug port",
	.state_size = sizeof(struct debugcon),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.priv_size = sizeof(struct priv),
	.init = con_init,
	.reset = con_reset,
	.read = con_read,
	.write = con_write,
	.loaded = con_loaded,
	.stop = flush,
	.ask = con_ask,
	.quit = con_quit,
	.tests = tests,
};
DEV_MAIN(debugcon);
