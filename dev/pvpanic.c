/*
 * pvpanic.c - paravirtual panic port: the guest's kernel tells the machine that
 * it has panicked.  QEMU docs/specs/pvpanic: one port, ACPI device QEMU0001;
 * a read gives the events supported, a write reports events.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev.h"

enum { PANICKED = 1, CRASHLOADED = 2 };

struct pvpanic {
	uint8_t		events;		/* what a read gives */
};

struct opts {
	uint32_t	iobase;
};

static const struct field fields[] = {
	FIELD(pvpanic, events), FIELD_END
};

static const struct opt opts[] = {
	{ "iobase", OPT_U32, offsetof(struct opts, iobase), "0x505",
	    "the port (the ACPI tables know 0x505 only)", NULL },
	{ 0 }
};

static void
panic_reset(struct devctx *d)
{
	struct pvpanic *p = d->st;

	p->events = PANICKED | CRASHLOADED;
}

static uint64_t
panic_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct pvpanic *p = d->st;

	return range == 0 && off == 0 ? p->events : ~0ull;
}

static void
panic_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	if (range != 0)
		return;
	if (val & ~(uint64_t)(PANICKED | CRASHLOADED))
		dev_guest_error(d, "event", val);
	/* a crash kernel that goes on is not the end */
	if (val & PANICKED)
		dev_event(d, "panic");
}

static int
panic_init(struct devctx *d, char *why, size_t whylen)
{
	struct opts *o = d->opts;

	if (o->iobase > 0xffff) {
		snprintf(why, whylen, "iobase is below 64 KiB");
		return -1;
	}
	if (dev_range_set(d, 0, SPACE_IO, o->iobase, 1, RANGE_SYNC, 0, 0, 0)
	    < 0) {
		snprintf(why, whylen, "port 0x%x: %s", o->iobase,
		    strerror(errno));
		return -1;
	}
	return 0;
}

static const struct dev_test tests[] = {
	{ 'r', 0, 1, 0, 3 }, { 'w', 0, 1, 0, 2 }, { 'r', 0, 1, 0, 3 },
	{ 0 }
};

static const struct dev pvpanic = {
	.name = "pvpanic",
	.desc = "panic notification port (pvpanic)",
	.spec = "QEMU docs/specs/pvpanic",
	.state_size = sizeof(struct pvpanic),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.init = panic_init,
	.reset = panic_reset,
	.read = panic_read,
	.write = panic_write,
	.tests = tests,
};
DEV_MAIN(pvpanic);
