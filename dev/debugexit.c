/*
 * debugexit.c - isa-debug-exit: a write ends the machine with exit status
 * (value << 1) | 1, as QEMU's device of that name; test programs use it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev.h"

struct debugexit {
	uint8_t		zero[16];	/* what a read gives */
};

struct opts {
	uint32_t	iobase, iosize;
};

static const struct field fields[] = {
	FIELDS(debugexit, zero), FIELD_END
};

static const struct opt opts[] = {
	{ "iobase", OPT_U32, offsetof(struct opts, iobase), "0x501",
	    "first port", NULL },
	{ "iosize", OPT_U32, offsetof(struct opts, iosize), "2",
	    "number of ports, 1-16", NULL },
	{ 0 }
};

static uint64_t
exit_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	return range == 0 ? 0 : ~0ull;
}

static void
exit_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	char text[32];

	if (range != 0)
		return;
	snprintf(text, sizeof text, "exit %u",
	    ((unsigned)val << 1 | 1) & 0xff);
	dev_event(d, text);
}

static int
exit_init(struct devctx *d, char *why, size_t whylen)
{
	struct opts *o = d->opts;

	if (o->iosize < 1 || o->iosize > 16 || o->iobase > 0x10000 - o->iosize) {
		snprintf(why, whylen, "iosize is 1-16, iobase below 64 KiB");
		return -1;
	}
	if (dev_range_set(d, 0, SPACE_IO, o->iobase, o->iosize, RANGE_SYNC, 0,
	    0, 0) < 0) {
		snprintf(why, whylen, "port 0x%x: %s", o->iobase,
		    strerror(errno));
		return -1;
	}
	return 0;
}

static const struct dev_test tests[] = {
	{ 'r', 0, 1, 0, 0 }, { 'w', 0, 1, 0, 0x10 }, { 'r', 0, 2, 0, 0 },
	{ 0 }
};

static const struct dev debugexit = {
	.name = "debugexit",
	.desc = "debug exit port (isa-debug-exit)",
	.spec = "QEMU isa-debug-exit",
	.state_size = sizeof(struct debugexit),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.init = exit_init,
	.read = exit_read,
	.write = exit_write,
	.tests = tests,
};
DEV_MAIN(debugexit);
