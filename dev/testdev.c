/*
 * testdev.c - pc-testdev, the device of kvm-unit-tests (x86/ in that project;
 * QEMU's documentation of the device): ports and memory with known behaviour.
 *
 *	00e0h-00e3h	a register of 4 bytes, any width
 *	00e4h-00e7h	write: forget translations of a page; here nothing is
 *			held that the guest's own rules would not drop
 *	00e8h-00ebh	a register of 4 bytes, a byte at a time
 *	2000h-2017h	write: level of interrupt line 0-23
 *	ff000000h	64 KiB of device memory
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev.h"

#define NLINE	24
#define MEM	0x10000

enum { R_WIDE, R_FLUSH, R_BYTE, R_LINES, R_MEM };

struct testdev {
	uint8_t		wide[4], byte[4];
	uint8_t		level[NLINE];
	uint8_t		flush[4];
	uint8_t		mem[MEM];
};

struct priv {
	int		source[NLINE];
};

static const struct field fields[] = {
	FIELDS(testdev, wide), FIELDS(testdev, byte), FIELDS(testdev, level),
	FIELDS(testdev, flush), FIELDS(testdev, mem), FIELD_END
};

static const struct dev_range ranges[] = {
	{ SPACE_IO, RANGE_SYNC, 0xe0, 4, 0, 0, "register" },
	{ SPACE_IO, RANGE_SYNC, 0xe4, 4, 0, 0, "flush page" },
	{ SPACE_IO, RANGE_SYNC, 0xe8, 4, 0, 0, "bytes" },
	{ SPACE_IO, RANGE_SYNC, 0x2000, NLINE, 0, 0, "interrupt lines" },
	{ SPACE_MEM, RANGE_SYNC, 0xff000000, MEM, 0, 0, "memory" },
	{ 0 }
};

static uint8_t *
region(struct testdev *t, unsigned range, size_t *len)
{
	*len = 4;
	switch (range) {
	case R_WIDE:
		return t->wide;
	case R_BYTE:
		return t->byte;
	case R_MEM:
		*len = MEM;
		return t->mem;
	}
	return t->flush;
}

static uint64_t
test_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	uint64_t v = ~0ull;
	size_t len;
	uint8_t *p = region(d->st, range, &len);

	if (range == R_LINES || range > R_MEM || off > len || size > len - off)
		return v;
	if (size < 8)
		v = 0;
	memcpy(&v, p + off, size);
	return v;
}

static void
test_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct testdev *t = d->st;
	struct priv *h = d->priv;
	size_t len;
	uint8_t *p = region(t, range, &len);

	if (range == R_LINES) {
		if (off < NLINE) {
			t->level[off] = val != 0;
			dev_irq(d, (unsigned)off, h->source[off], val != 0);
		}
		return;
	}
	if (range == R_FLUSH || range > R_MEM || off > len || size > len - off)
		return;
	memcpy(p + off, &val, size);
}

static void
levels(struct devctx *d)
{
	struct testdev *t = d->st;
	struct priv *h = d->priv;
	unsigned i;

	for (i = 0; i < NLINE; i++)
		dev_irq(d, i, h->source[i], t->level[i] != 0);
}

static int
test_init(struct devctx *d, char *why, size_t whylen)
{
	struct priv *h = d->priv;
	unsigned i;

	for (i = 0; i < NLINE; i++) {
		h->source[i] = dev_line(d, i);
		if (h->source[i] < 0) {
			snprintf(why, whylen, "IRQ %u: %s", i, strerror(errno));
			return -1;
		}
	}
	return 0;
}

static void
test_reset(struct devctx *d)
{
	memset(d->st, 0, sizeof(struct testdev));
	levels(d);
}

static const struct dev_test tests[] = {
	{ 'w', R_WIDE, 4, 0, 0x12345678 }, { 'r', R_WIDE, 2, 2, 0x1234 },
	{ 'r', R_WIDE, 1, 1, 0x56 }, { 'w', R_BYTE, 1, 3, 0xab },
	{ 'r', R_BYTE, 1, 3, 0xab }, { 'r', R_BYTE, 1, 0, 0 },
	{ 'w', R_LINES, 1, 5, 1 }, { 'i', 0, 1, 5, 1 },
	{ 'w', R_LINES, 4, 5, 0 }, { 'i', 0, 1, 5, 0 },
	{ 'w', R_MEM, 8, 0xfff8, 0x0102030405060708 },
	{ 'r', R_MEM, 4, 0xfffc, 0x01020304 }, { 'r', R_MEM, 8, 0xfffc, ~0ull },
	{ 'w', R_FLUSH, 4, 0, 0x1000 },
	{ 'R' }, { 'r', R_WIDE, 4, 0, 0 },
	{ 0 }
};

static const struct dev testdev = {
	.name = "testdev",
	.desc = "test device of kvm-unit-tests (pc-testdev)",
	.spec = "kvm-unit-tests x86; QEMU pc-testdev",
	.state_size = sizeof(struct testdev),
	.fields = fields,
	.ranges = ranges,
	.priv_size = sizeof(struct priv),
	.init = test_init,
	.reset = test_reset,
	.read = test_read,
	.write = test_write,
	.loaded = levels,
	.tests = tests,
};
DEV_MAIN(testdev);
