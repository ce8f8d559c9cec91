/*
 * virtio-drv.h - a driver's part in virtio (1.2, 2 and 3): negotiates, sets up
 * rings in guest memory, makes chains and takes what was used; and chains at
 * random out of mostly sensible pieces.
 */
#ifndef VIRTIO_DRV_H
#define VIRTIO_DRV_H

#include "dev/virtio.h"
#include "chiphost.h"

#define QSIZE	32
#define QBASE(q) (0x10000u + (q) * 0x4000u)	/* desc, +1000 avail, +2000 used */
#define DATA	0x100000u
#define F_RINGS (1ull << 28 | 1ull << 29)
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

static struct { uint16_t avail, used, free; } drv[8];
static bool event_idx;

static void
w(uint64_t off, unsigned size, uint64_t v)
{
	host->d.dev->write(&host->d, 1, off, size, v);
}

static uint64_t
r(uint64_t off, unsigned size)
{
	return host->d.dev->read(&host->d, 1, off, size);
}

static void
cfgw(unsigned off, unsigned size, uint32_t v)
{
	host->d.dev->config(&host->d, 0x18, off, size, v);
}

static unsigned
find_cap(uint8_t id)
{
	unsigned at = host->cfg[0x34];

	while (at && host->cfg[at] != id)
		at = host->cfg[at + 1];
	return at;
}

static void
queue(unsigned q)
{
	memset(mem(QBASE(q)), 0, 0x3000);
	memset(&drv[q], 0, sizeof drv[q]);
	w(0x16, 2, q);
	w(0x18, 2, QSIZE);
	w(0x1a, 2, q + 1);
	w(0x20, 4, QBASE(q));
	w(0x24, 4, 0);
	w(0x28, 8, QBASE(q) + 0x1000);
	w(0x30, 4, QBASE(q) + 0x2000);
	w(0x34, 4, 0);
	w(0x1c, 2, 1);
}

/* Initialisation as 3.1.1 has it. */
static void
start(uint64_t features, unsigned nq)
{
	unsigned i;

	cfgw(4, 2, 6);
	w(0x14, 1, 0);
	w(0x14, 1, 1);
	w(0x14, 1, 3);
	features |= 1ull << 32;
	event_idx = features >> 29 & 1;
	w(0x08, 4, 0);
	w(0x0c, 4, (uint32_t)features);
	w(0x08, 4, 1);
	w(0x0c, 4, (uint32_t)(features >> 32));
	w(0x14, 1, 11);
	IS(r(0x14, 1), 11);
	w(0x10, 2, 0);
	for (i = 0; i < nq; i++)
		queue(i);
	w(0x14, 1, 15);
	IS(r(0x14, 1), 15);
}

static void
desc(uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
    unsigned next)
{
	uint8_t *p = mem(table + i * 16);

	cfg64(p, addr);
	cfg32(p + 8, len);
	cfg16(p + 12, (uint16_t)flags);
	cfg16(p + 14, (uint16_t)next);
}

static void
avail(unsigned q, unsigned head)
{
	uint8_t *a = mem(QBASE(q) + 0x1000);

	cfg16(a + 4 + drv[q].avail++ % QSIZE * 2, (uint16_t)head);
	cfg16(a + 2, drv[q].avail);
}

static uint16_t
get16(uint64_t gpa)
{
	return (uint16_t)(mem(gpa)[0] | mem(gpa)[1] << 8);
}

static uint32_t
get32(uint64_t gpa)
{
	return get16(gpa) | (uint32_t)get16(gpa + 2) << 16;
}

static void
kick(unsigned q)
{
	host->d.dev->bell(&host->d, 1ull << q);
}

/* Let everything end, without waiting for a clock. */
static void
settle(void)
{
	host->d.running = false;
	host->d.dev->stop(&host->d);
	host->d.running = true;
	host->d.dev->run(&host->d);
	host->d.running = false;
	host->d.dev->stop(&host->d);
	host->d.running = true;
}

/* Take one used element; false: there is none. */
static bool
used(unsigned q, unsigned *head, uint32_t *len)
{
	uint64_t u = QBASE(q) + 0x2000;

	if (get16(u + 2) == drv[q].used)
		return false;
	*head = get32(u + 4 + drv[q].used % QSIZE * 8);
	*len = get32(u + 4 + drv[q].used % QSIZE * 8 + 4);
	drv[q].used++;
	if (event_idx)
		cfg16(mem(QBASE(q) + 0x1000 + 4 + QSIZE * 2), drv[q].used);
	return true;
}

static void (*between)(void);		/* rounds of fuzz */

/* Random chains out of mostly sensible pieces, on every queue. */
static void
fuzz(unsigned rounds, uint64_t features, unsigned nq)
{
	unsigned i, n, q;
	uint64_t addr;
	uint32_t len;

	for (i = 0; i < rounds; i++) {
		if (i % 64 == 0 || r(0x14, 1) & 0x40)
			start(features & (rnd() | 1ull << 32), nq);
		q = (unsigned)(rnd() % nq);
		for (n = 0; n < QSIZE; n++) {
			addr = rnd() % 8 ? 0x90000 + rnd() % 0x200000 :
			    rnd() >> rnd() % 64;
			len = rnd() % 8 ? (uint32_t)(rnd() % 9000) :
			    (uint32_t)(rnd() >> rnd() % 64);
			if (rnd() % 4 == 0)
				len = len % 32 * 16;
			desc(QBASE(q), n, addr, len, rnd() % 8 ? (n > QSIZE / 2 ?
			    2 : 0) | (rnd() % 4 != 0) : rnd() % 8,
			    rnd() % 16 ? n + 1 : (unsigned)(rnd() % 40));
		}
		for (n = 0; n < 64; n += 4)
			cfg32(mem(0x90000 + rnd() % 0x200000),
			    (uint32_t)(rnd() % 16));
		for (n = (unsigned)(rnd() % 8); n; n--)
			avail(q, (unsigned)(rnd() % (QSIZE + (rnd() % 16 ==
			    0))));
		kick(q);
		if (between)
			between();
		if (rnd() % 16 == 0)
			settle();
		if (rnd() % 256 == 0)
			host->d.dev->reset(&host->d);
	}
	settle();
}

#endif
