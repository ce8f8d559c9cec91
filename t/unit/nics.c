/* links: bus mem, switch, and dev's pci, field, nic, netsum, eeprom, cards */
/*
 * nics.c - the network cards that are no virtio ones, in a host made of plain
 * memory: descriptors, frames and registers of a hostile guest, mostly sensible.
 * What must hold: no crash, no access out of bounds (run it under ASan), no hang,
 * and the card works after a reset.  nics [ROUNDS]; prints TAP.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "dev/nic.h"
#include "chiphost.h"

extern const struct dev e1000, rtl8139, ne2k_pci, ne2k_isa, pcnet;

static int cable;

static void
plug_card(const struct dev *dev)
{
	char link[32], *argv[] = { link, NULL };
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sv))
		perror("socketpair"), exit(1);
	cable = sv[0];
	snprintf(link, sizeof link, "link=fd:%d", sv[1]);
	plug(dev, argv);
	host->step = 1000;
}

static void
unplug_card(void)
{
	unplug();
	close(cable);
}

static void
w(unsigned range, unsigned off, unsigned size, uint32_t v)
{
	host->d.dev->write(&host->d, range, off, size, v);
}

/* The range of the registers. */
static unsigned
regs(void)
{
	return host->d.dev == &rtl8139;
}

/* ------------------------------------------------------------- what guests do */

struct poke { uint16_t off; uint8_t size; uint32_t v, mask; };

/* A working set-up, then each register with the bits of its mask at random. */
static const struct poke e1000_regs[] = {
	{ 0x2800, 4, 0x10000, 0xff0 }, { 0x2804, 4, 0, 0 },
	{ 0x2808, 4, 512, 0x780 }, { 0x2810, 4, 0, 63 }, { 0x2818, 4, 31, 63 },
	{ 0x3800, 4, 0x20000, 0xff0 }, { 0x3804, 4, 0, 0 },
	{ 0x3808, 4, 512, 0x780 }, { 0x3810, 4, 0, 63 }, { 0x3818, 4, 0, 63 },
	{ 0x0100, 4, 0x801e, 0x0607837a }, { 0x0400, 4, 10, 8 },
	{ 0x5000, 4, 0x300, 0xffff }, { 0x0000, 4, 0x40, 0x40000000 },
	{ 0x00d0, 4, 0xffff, 0xffff }, { 0x00d8, 4, 0, 0xffff },
	{ 0x00c4, 4, 0, 0xff }, { 0x0038, 4, 0x8100, 0xffff },
	{ 0x0010, 4, 0, 0xff }, { 0x0020, 4, 0x08200000, 0x0fffffff },
	{ 0x0014, 4, 1, 0xff01 }, { 0x00c8, 4, 0, 0xffff }, { 0 }
};
static const struct poke rtl_regs[] = {
	{ 0x30, 4, 0x10000, 0xffff }, { 0x37, 1, 0x0c, 0x0c },
	{ 0x44, 4, 0x9f, 0xffff }, { 0x38, 2, 0xfff0, 0xffff },
	{ 0x20, 4, 0x90000, 0xffff }, { 0x24, 4, 0x91000, 0xffff },
	{ 0x28, 4, 0x92000, 0xffff }, { 0x2c, 4, 0x93000, 0xffff },
	{ 0x3c, 2, 0xffff, 0xffff }, { 0x10, 4, 60, 0x3fff },
	{ 0x14, 4, 60, 0x3fff }, { 0x18, 4, 60, 0x3fff },
	{ 0x1c, 4, 60, 0x3fff }, { 0x40, 4, 0x700, 0x60700 },
	{ 0x3e, 2, 0xffff, 0 }, { 0x50, 1, 0, 0xce }, { 0x54, 4, 0, 0xffff },
	{ 0x48, 4, 0, 0 }, { 0x62, 2, 0, 0xffff }, { 0 }
};

/* By the address port: stop, style 2, initialization block at 30000, start. */
#define CSR(n, v, m) { 0x12, 2, n, 0 }, { 0x10, 2, v, m }
static const struct poke pcnet_regs[] = {
	CSR(0, 4, 0xff), { 0x12, 2, 20, 0 }, { 0x16, 2, 2, 3 },
	CSR(1, 0, 0xffff), CSR(2, 3, 1), CSR(3, 0, 0xffff),
	CSR(0, 0x41, 0xffff), CSR(0, 0x42, 0xffff), CSR(0, 0x48, 0xffff),
	CSR(76, 0xffe0, 0xff), CSR(78, 0xffe0, 0xff), CSR(15, 0x8000, 0xffff),
	CSR(0, 0x4a, 8), { 0 }
};

/* Page 1 first; then page 0, started; data port. */
static const struct poke ne2k_regs[] = {
	{ 0x00, 1, 0x61, 0 }, { 0x01, 1, 0x52, 0xff }, { 0x07, 1, 0x4c, 0x3f },
	{ 0x08, 4, 0xffffffff, 0xffffffff }, { 0x00, 1, 0x21, 0 },
	{ 0x01, 1, 0x4c, 0x3f }, { 0x02, 1, 0x80, 0xff },
	{ 0x03, 1, 0x4c, 0x3f }, { 0x0c, 1, 0x1c, 0x3f },
	{ 0x0d, 1, 0, 6 }, { 0x0e, 1, 0x49, 1 }, { 0x0f, 1, 0x3f, 0x7f },
	{ 0x04, 1, 0x40, 0xff }, { 0x05, 1, 64, 0xff }, { 0x06, 1, 0, 0xff },
	{ 0x07, 1, 0xff, 0xff }, { 0x00, 1, 0x22, 0xdf }, { 0 }
};
static const struct poke ne2k_data[] = {
	{ 0x08, 1, 0, 0xff }, { 0x09, 1, 0x40, 0xff }, { 0x0a, 1, 64, 0xff },
	{ 0x0b, 1, 0, 0xff }, { 0x00, 1, 0x12, 0 }, { 0x10, 4, 0xaaaaaaaa, ~0u },
	{ 0x10, 2, 0xaaaa, 0xffff }, { 0x1f, 1, 0, 0 }, { 0x00, 1, 0x62, 0xff },
	{ 0 }
};

static void
set_up(const struct poke *t)
{
	static const uint8_t block[28] = { 0, 0x80, 0x50, 0x50, 0x52, 0x54, 0,
		0x12, 0x34, 0x56, [22] = 1, [26] = 2 };

	host->cfg[4] |= 4;
	if (t == pcnet_regs)			/* 32 descriptors each */
		memcpy(mem(0x30000), block, sizeof block);
	if (host->d.dev->config)
		host->d.dev->config(&host->d, 0x18, 4, 2, 7);
	for (; t->size; t++)
		w(regs(), t->off, t->size, t->v);
}

/* Memory that looks like descriptors of buffers, contexts and headers. */
static void
litter(void)
{
	uint64_t d[2];
	unsigned i;

	for (i = 0; i < 64; i++) {
		d[0] = rnd() % 16 ? 0x90000 + rnd() % 0x200000 :
		    rnd() >> rnd() % 64;
		d[1] = rnd() % 8 ? (rnd() % 3000) | (rnd() & 0xff3full << 24) |
		    (rnd() % 3 ? 0x01ull << 24 : 0) | rnd() % 2 << 20 : rnd();
		if (rnd() % 4 == 0) {		/* a sane context */
			d[0] = 0x0010180e00160022 ^ (rnd() % 16 == 0 ? rnd() : 0);
			d[1] = 0x20000000ull | (rnd() & 7) << 24 |
			    54ull << 40 | (rnd() % 1500) << 48;
		}
		memcpy(mem((rnd() % 2 ? 0x10000 : 0x20000) +
		    (unsigned)(rnd() % 64) * 16), d, 16);
	}
	if (host->d.dev == &pcnet)		/* lengths, OWN, STP, ENP */
		for (i = 0; i < 64; i++) {
			d[0] = (0x90000 + rnd() % 0x200000) | (rnd() & 0xffff) <<
			    32 | (rnd() % 4 ? 0x8000ull << 48 : 0) |
			    (rnd() % 4 ? 0x0300ull << 48 : rnd() << 48);
			if (rnd() % 2)
				d[0] |= 0xfull << 44 | 0xaull << 40;
			memcpy(mem((rnd() % 2 ? 0x10000 : 0x20000) +
			    (unsigned)(rnd() % 64) * 16), d, 16);
		}
	for (i = 0; i < 16; i++)
		memcpy(mem(0x90000 + (unsigned)(rnd() % 0x20000)), d, 16);
}

static void
frames(void)
{
	static uint8_t f[20000];
	unsigned n = (unsigned)(rnd() % 4), i;

	for (; n; n--) {
		for (i = 0; i < 64; i++)
			f[i] = (uint8_t)rnd();
		if (rnd() % 2)
			memset(f, 255, 6);
		if (rnd() % 2)
			memcpy(f + 12, "\x08\0\x45\0\0\x40\0\0\0\0\x40\x06", 12);
		(void)!send(cable, f, rnd() % 32 ? rnd() % 1600 :
		    rnd() % sizeof f, MSG_DONTWAIT);
	}
	loop_once(loop, 0, NULL, NULL);
	while (recv(cable, f, sizeof f, MSG_DONTWAIT) > 0)
		;
}

static void
torment(const struct dev *dev, const struct poke *t, unsigned rounds)
{
	const struct poke *p;
	unsigned i, n, range;

	for (n = 0; t[n].size; n++)
		;
	plug_card(dev);
	range = regs();
	for (i = 0; i < rounds; i++) {
		if (i % 32 == 0) {
			if (rnd() % 2)
				dev->reset(&host->d);
			set_up(t);
		}
		litter();
		p = &t[rnd() % n];
		w(range, p->off, p->size, rnd() % 32 ? p->v ^
		    ((uint32_t)rnd() & p->mask) : (uint32_t)rnd());
		if (t == ne2k_regs && rnd() % 2) {
			p = &ne2k_data[rnd() % 9];
			w(range, p->off, p->size, p->v ^
			    ((uint32_t)rnd() & p->mask));
			(void)dev->read(&host->d, range, rnd() % 32,
			    1u << rnd() % 3);
		}
		if (rnd() % 64 == 0)
			w(range, (unsigned)rnd() & 0x5ffc, 4, (uint32_t)rnd());
		(void)dev->read(&host->d, range, rnd() & 0x5ffc, 4);
		frames();
		if (host->fn && host->timer >= 0 && rnd() % 2)
			host->fn(&host->d);
	}
}

/* After all that, a reset and a frame each way. */
static bool
works(const struct dev *dev, const struct poke *t)
{
	static uint8_t f[64] = { 255, 255, 255, 255, 255, 255 }, got[2048];
	uint64_t d[2] = { 0x90000, 64 | 0x09ull << 24 };
	unsigned i;
	ssize_t n;

	dev->reset(&host->d);
	for (i = 0; i < 100; i++)		/* what is still in the socket */
		loop_once(loop, 0, NULL, NULL);
	while (recv(cable, got, sizeof got, MSG_DONTWAIT) > 0)
		;
	memset(mem(0x10000), 0, 0x20000);
	set_up(t);
	memset(mem(0x90000), 0xaa, 64);
	if (dev == &pcnet) {
		d[1] = 0;
		d[0] = 0xa0000 | 0x8000fa00ull << 32;	/* 1536 bytes */
		memcpy(mem(0x10000), d, 16);
		d[0] = 0x90000 | 0x8300ffc0ull << 32;	/* 64 bytes */
		memcpy(mem(0x20000), d, 16);
		set_up(t);
	} else if (dev == &e1000) {
		memcpy(mem(0x20000), d, 16);
		d[0] = 0xa0000;
		memcpy(mem(0x10000), d, 16);
		w(0, 0x2810, 4, 0);
		w(0, 0x3810, 4, 0);
		w(0, 0x3818, 4, 1);
	} else if (dev == &rtl8139) {
		w(1, 0x10, 4, 64);
	} else {
		for (i = 0; i < 5; i++)
			w(0, ne2k_data[i].off, 1, ne2k_data[i].v);
		for (i = 0; i < 16; i++)
			w(0, 0x10, 4, 0xaaaaaaaa);
		w(0, 0, 1, 0x26);		/* send */
	}
	do
		n = recv(cable, got, sizeof got, MSG_DONTWAIT);
	while (n > 0 && n != 64);
	if (n != 64 || got[5] != 0xaa)
		return false;
	f[40] = 0x77;
	(void)!send(cable, f, 64, 0);
	loop_once(loop, 0, NULL, NULL);
	if (t == ne2k_regs) {			/* 4 of header, 40 of frame */
		w(0, 8, 2, 0x4c2c);
		w(0, 10, 2, 2);
		w(0, 0, 1, 0x0a);
		return dev->read(&host->d, 0, 0x10, 1) == 0x77 && host->level;
	}
	n = dev != &rtl8139 ? 0xa0000 + 40 : 0x10000 + 44;
	return *mem((uint32_t)n) == 0x77 && host->level;
}

/* Drivers turn the NE2000's pages and end transfers with neither STA nor STP:
 * the started card goes on (DP8390D, command register).  What comes in such a
 * moment is kept, be it from the socket or what waited in the card for room. */
static bool
stays_on(void)
{
	static uint8_t f[1500] = { 255, 255, 255, 255, 255, 255 };
	unsigned i, curr;

	plug_card(&ne2k_pci);
	set_up(ne2k_regs);
	w(0, 0, 1, 0x60);			/* page 1 */
	curr = (unsigned)host->d.dev->read(&host->d, 0, 7, 1);
	(void)!send(cable, f, 64, 0);
	loop_once(loop, 0, NULL, NULL);
	if (host->d.dev->read(&host->d, 0, 7, 1) != curr + 1)
		return false;
	w(0, 0, 1, 0x20);			/* page 0 */
	for (i = 0; i < 10; i++) {		/* eight fill 52 pages */
		(void)!send(cable, f, sizeof f, 0);
		loop_once(loop, 0, NULL, NULL);
	}
	w(0, 0, 1, 0x60);			/* nothing read: as before */
	curr = (unsigned)host->d.dev->read(&host->d, 0, 7, 1);
	w(0, 0, 1, 0x20);
	w(0, 3, 1, 0x4c + 13);			/* two frames are */
	w(0, 0, 1, 0x60);
	loop_once(loop, 0, NULL, NULL);
	curr = (unsigned)host->d.dev->read(&host->d, 0, 7, 1) + 0x80 - 0x4c -
	    curr;
	w(0, 0, 1, 0x21);			/* this stops it */
	i = (unsigned)host->d.dev->read(&host->d, 0, 0, 1);
	unplug_card();
	return curr % (0x80 - 0x4c) == 12 && i == 0x21;
}

int
main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 20000, i, k;
	unsigned bad = 0;
	static const struct { const struct dev *dev; const struct poke *t; } c[] = {
		{ &e1000, e1000_regs }, { &rtl8139, rtl_regs },
		{ &ne2k_pci, ne2k_regs }, { &ne2k_isa, ne2k_regs },
		{ &pcnet, pcnet_regs },
	};
	bool ok;

	for (i = 0; i < sizeof c / sizeof *c; i++) {
		ok = true;
		for (k = 0; k < 5; k++) {	/* it ends in many states */
			torment(c[i].dev, c[i].t, k < 4 ? rounds / 20 * (1 + k) :
			    rounds);
			ok = ok && works(c[i].dev, c[i].t);
			if (k < 4)
				unplug_card();
		}
		bad += !ok;
		printf("%sok %u - %s: works after what a hostile guest did\n",
		    ok ? "" : "not ", i + 1, c[i].dev->name);
		fflush(stdout);
		unplug_card();
	}
	ok = stays_on();
	bad += !ok;
	printf("%sok %u - ne2k_pci: started, it loses no frame between commands\n",
	    ok ? "" : "not ", ++i);
	printf("1..%u\n", i);
	return bad != 0;
}
