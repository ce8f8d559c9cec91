/*
 * ne2k_isa.c - Novell NE2000 (dp8390.h): 32 ports and a line of the ISA bus.
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dp8390.h"

struct ne2k {
	struct dp8390	dp;
};

struct ne2k_opts {
	struct nic_opts	nic;
	uint32_t	iobase, irq;
};

struct ne2k_priv {
	struct dp_priv	dp;		/* first */
	int		source;
};

static const struct field fields[] = { DP_FIELDS(ne2k, dp), FIELD_END };

static const struct opt opts[] = {
	NIC_OPTS(ne2k_opts, nic),
	{ "iobase", OPT_U32, offsetof(struct ne2k_opts, iobase), "0x300",
	    "first port", NULL },
	{ "irq", OPT_U32, offsetof(struct ne2k_opts, irq), "9",
	    "interrupt line, 3 to 15", NULL },
	{ 0 }
};

static void
line(struct devctx *d, int level)
{
	const struct ne2k_opts *o = d->opts;

	dev_irq(d, o->irq, ((struct ne2k_priv *)d->priv)->source, level);
}

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct ne2k_priv *p = d->priv;
	const struct ne2k_opts *o = d->opts;

	if (o->irq < 3 || o->irq > 15) {
		snprintf(why, whylen, "irq=%u: not 3 to 15", o->irq);
		return -1;
	}
	p->source = dev_line(d, o->irq);
	if (o->iobase > 0x10000 - DP_PORTS || o->iobase % DP_PORTS ||
	    dev_range_set(d, 0, SPACE_IO, o->iobase, DP_PORTS, RANGE_POSTED, 0,
	    0, 0) < 0) {
		snprintf(why, whylen, "iobase=0x%x: %s", o->iobase,
		    o->iobase % DP_PORTS ? "not a multiple of 32" :
		    strerror(errno));
		return -1;
	}
	dp_init(d, &((struct ne2k *)d->st)->dp, line);
	return nic_open(&p->dp.nic, d, d->dev->name, &o->nic, &dp_nic_ops, why,
	    whylen);
}

static const struct dev_test tests[] = {
	{ 'r', 0, 1, 0x00, 0x21 },
	{ 'w', 0, 1, 0x0a, 6 },
	{ 'w', 0, 1, 0x00, 0x0a },
	{ 'r', 0, 1, 0x10, 0x52 },		/* byte mode: each twice */
	{ 'r', 0, 1, 0x10, 0x52 },
	{ 'r', 0, 1, 0x10, 0x54 },
	{ 'w', 0, 1, 0x0f, 0x40 },
	{ 'i', 0, 0, 9, 0 },
	{ 'r', 0, 2, 0x10, 0x0054 },
	{ 'r', 0, 1, 0x10, 0x00 },
	{ 'i', 0, 0, 9, 1 },
	{ 0 }
};

const struct dev ne2k_isa = {
	.name = "ne2k_isa",
	.desc = "NE2000 on the ISA bus",
	.spec = "National DP8390D data sheet",
	.state_size = sizeof(struct ne2k),
	.fields = fields,
	.opts_size = sizeof(struct ne2k_opts),
	.opts = opts,
	.priv_size = sizeof(struct ne2k_priv),
	.init = init,
	.reset = dp_reset,
	.read = dp_read,
	.write = dp_write,
	.loaded = dp_loaded,
	.stop = nic_dev_stop,
	.run = dp_run,
	.ask = nic_dev_ask,
	.quit = nic_dev_quit,
	.tests = tests,
};
DEV_MAIN(ne2k_isa);
