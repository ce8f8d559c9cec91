/*
 * rtl8139.c - Realtek RTL8139C Fast Ethernet controller (data sheet rev. 1.4):
 * four transmit descriptors in registers, one receive ring in guest memory.
 *
 * Theory of operation.  The registers are an array of bytes; a table says which
 * the driver may write.  A transmit descriptor whose OWN bit the driver cleared is
 * sent in its turn, and stays until the wire takes it.  A frame received waits in
 * the nic until the ring has room for all of it.
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eeprom.h"
#include "nic.h"

enum { RANGE_IO, RANGE_MEM };
enum {					/* registers, data sheet 5 */
	IDR = 0x00, MAR = 0x08, TSD = 0x10, TSAD = 0x20, RBSTART = 0x30,
	CR = 0x37, CAPR = 0x38, CBR = 0x3a, IMR = 0x3c, ISR = 0x3e, TCR = 0x40,
	RCR = 0x44, TCTR = 0x48, MPC = 0x4c, CR9346 = 0x50, CONFIG0 = 0x51,
	CONFIG1 = 0x52, TIMERINT = 0x54, MSR = 0x58, CONFIG3 = 0x59,
	CONFIG4 = 0x5a, MULINT = 0x5c, RERID = 0x5e, TSAD_ALL = 0x60,
	BMCR = 0x62, BMSR = 0x64, ANAR = 0x66, ANLPAR = 0x68, ANER = 0x6a,
	CSCR = 0x74, REGS = 0x100
};
enum { TSD_OWN = 1 << 13, TSD_TOK = 1 << 15, TSD_TABT = 1 << 30 };
enum { CR_BUFE = 1, CR_TE = 4, CR_RE = 8, CR_RST = 0x10 };
enum { INT_ROK = 1, INT_TOK = 4, INT_TER = 8, INT_LINK = 0x20,
	INT_TIMEOUT = 0x4000 };
enum { RCR_AAP = 1, RCR_APM = 2, RCR_AM = 4, RCR_AB = 8, RCR_WRAP = 0x80 };
enum { RX_ROK = 1, RX_BAR = 0x2000, RX_PAM = 0x4000, RX_MAR = 0x8000 };
enum { EE_DO = 1, EE_DI = 2, EE_SK = 4, EE_CS = 8, MODE_PROGRAM = 2,
	MODE_CONFIG = 3 };

#define PCI_HZ		33333333ll	/* of the timer */

struct rtl {
	struct pci_state pci;
	uint8_t		r[REGS];
	struct eeprom	ee;
	uint8_t		next;		/* descriptor to send */
	uint8_t		asked;		/* a bit for each handed over */
	int64_t		timer_base;	/* guest ns when TCTR was 0 */
};

struct rtl_priv {
	struct nic	nic;		/* first: nic_dev_* */
	bool		pending;	/* frames came in: interrupt */
};

static const struct field fields[] = {
	PCI_FIELDS(rtl, pci), FIELDS(rtl, r), EE_FIELDS(rtl, ee),
	FIELD(rtl, next), FIELD(rtl, asked), FIELD(rtl, timer_base),
	FIELD_END
};

static unsigned
get16(const struct rtl *s, unsigned off)
{
	return s->r[off] | s->r[off + 1] << 8u;
}

static uint32_t
get32(const struct rtl *s, unsigned off)
{
	return get16(s, off) | get16(s, off + 2) << 16;
}

static void
put16(struct rtl *s, unsigned off, unsigned v)
{
	s->r[off] = (uint8_t)v;
	s->r[off + 1] = (uint8_t)(v >> 8);
}

static void
put32(struct rtl *s, unsigned off, uint32_t v)
{
	put16(s, off, v & 0xffff);
	put16(s, off + 2, v >> 16);
}

static void
irq(struct devctx *d, unsigned causes)
{
	struct rtl *s = d->st;

	put16(s, ISR, get16(s, ISR) | causes);
	pci_intx(d, (get16(s, ISR) & get16(s, IMR)) != 0);
}

/* ------------------------------------------------------ timer, 5.9 and 5.16 */

static void
timer(struct devctx *d)
{
	irq(d, INT_TIMEOUT);
}

static uint32_t
timer_count(struct devctx *d)
{
	struct rtl *s = d->st;

	return (uint32_t)((__int128)(dev_clock(d) - s->timer_base) * PCI_HZ /
	    1000000000);
}

static void
timer_set(struct devctx *d)
{
	struct rtl *s = d->st;
	uint32_t at = get32(s, TIMERINT);
	int64_t when = s->timer_base + (int64_t)at * 1000000000 / PCI_HZ;

	dev_timer(d, 0, at && when > dev_clock(d) ? when : -1, timer);
}

/* ------------------------------------------------------------ transmission */

static bool
send_one(struct devctx *d, unsigned i)
{
	struct rtl *s = d->st;
	struct rtl_priv *p = d->priv;
	uint32_t tsd = get32(s, TSD + i * 4), len = tsd & 0x1fff;
	struct iovec iov = { pci_dma(d, get32(s, TSAD + i * 4), len), len };

	if (nic_full(&p->nic))
		return false;
	tsd &= 0x003f1fff;
	if (iov.iov_base && len <= 1792) {
		/* loop-back, 5.7: both bits of LBK */
		if ((get32(s, TCR) >> 17 & 3) == 3) {
			if (len >= 14)
				p->nic.ops->rx(d, iov.iov_base, len);
		} else {
			nic_send(&p->nic, &iov, 1, 0);
			nic_flush(&p->nic);
		}
		put32(s, TSD + i * 4, tsd | TSD_OWN | TSD_TOK);
		irq(d, INT_TOK);
	} else {
		dev_guest_error(d, "rtl8139: frame out of memory or bounds",
		    len);
		put32(s, TSD + i * 4, tsd | TSD_OWN | TSD_TABT);
		irq(d, INT_TER);
	}
	return true;
}

static void
transmit(struct devctx *d)
{
	struct rtl *s = d->st;
	struct rtl_priv *p = d->priv;

	if (!d->running || !(s->r[CR] & CR_TE) || !(d->cfg[4] & 4))
		return;
	while (s->asked >> s->next & 1 && send_one(d, s->next)) {
		s->asked &= (uint8_t)~(1 << s->next);
		s->next = (s->next + 1) & 3;
	}
	if (p->pending)				/* looped back */
		irq(d, INT_ROK);
	p->pending = false;
}

/* --------------------------------------------------------------- reception */

static unsigned
ring_size(const struct rtl *s)
{
	return 8192u << (get32(s, RCR) >> 11 & 3);
}

/* Does it pass (5.8), and the bits of its status; 0: no. */
static unsigned
status_of(const struct rtl *s, const uint8_t *f)
{
	uint32_t rcr = get32(s, RCR), h;

	if (memcmp(f, "\377\377\377\377\377\377", 6) == 0)
		return rcr & (RCR_AB | RCR_AAP) ? RX_BAR | RX_ROK : 0;
	if (f[0] & 1) {
		h = nic_crc(f, 6) >> 26;
		return rcr & RCR_AAP || (rcr & RCR_AM &&
		    s->r[MAR + h / 8] >> h % 8 & 1) ? RX_MAR | RX_ROK : 0;
	}
	if (memcmp(f, s->r + IDR, 6) == 0)
		return rcr & (RCR_APM | RCR_AAP) ? RX_PAM | RX_ROK : 0;
	return rcr & RCR_AAP ? RX_ROK : 0;
}

/* Bytes into the ring from `at` on; where they run over its end they go to its
 * start, or with WRAP beyond. */
static void
rx_put(struct devctx *d, unsigned at, const uint8_t *p, unsigned n)
{
	struct rtl *s = d->st;
	unsigned size = ring_size(s), part;
	bool beyond = get32(s, RCR) & RCR_WRAP && size < 65536;
	uint8_t *to;

	for (; n; n -= part, p += part, at += part) {
		if (!beyond)
			at %= size;
		part = beyond || n < size - at ? n : size - at;
		to = pci_dma(d, (uint64_t)get32(s, RBSTART) + at, part);
		if (!to) {
			dev_guest_error(d, "rtl8139: receive ring is no memory",
			    get32(s, RBSTART));
			return;
		}
		memcpy(to, p, part);
		dev_dma_wrote(d, to, part);
	}
}

static bool
rx(struct devctx *d, const uint8_t *f, uint32_t len)
{
	static uint8_t b[2048];
	struct rtl *s = d->st;
	struct rtl_priv *p = d->priv;
	unsigned size = ring_size(s), at = get16(s, CBR) % size, status, total;
	unsigned room = (get16(s, CAPR) + 16 + size - at - 1) % size;
	uint32_t fcs;

	if (!(s->r[CR] & CR_RE) || len > 1792 || !(status = status_of(s, f)))
		return true;
	memset(b, 0, sizeof b);
	memcpy(b + 4, f, len);
	if (len < 60)
		len = 60;
	total = (len + 8 + 3) & ~3u;
	/* one byte stays free: a full ring would look empty */
	if (total > room || !(d->cfg[4] & 4))
		return false;
	b[0] = (uint8_t)status;
	b[1] = (uint8_t)(status >> 8);
	b[2] = (uint8_t)(len + 4);
	b[3] = (uint8_t)((len + 4) >> 8);
	fcs = nic_fcs(b + 4, len);
	memcpy(b + 4 + len, &fcs, 4);
	rx_put(d, at, b, total);
	put16(s, CBR, (at + total) % size);
	p->pending = true;
	return true;
}

static void
rx_end(struct devctx *d)
{
	struct rtl_priv *p = d->priv;

	if (p->pending)
		irq(d, INT_ROK);
	p->pending = false;
}

/* --------------------------------------------------------------- registers */

static void
link_show(struct devctx *d)
{
	struct rtl *s = d->st;
	bool up = nic_link(&((struct rtl_priv *)d->priv)->nic);

	put16(s, BMSR, up ? 0x782d : 0x7809);
	s->r[MSR] = up ? 0 : 4;
	put16(s, CSCR, up ? 0x03c8 : 0x0008);
}

static void
link_changed(struct devctx *d)
{
	if (!d->cfg)
		return;
	link_show(d);
	irq(d, INT_LINK);
}

/* By the bit RST, 5.6: addresses stay. */
static void
soft_reset(struct devctx *d)
{
	struct rtl *s = d->st;
	unsigned i;

	memset(s->r + TSD, 0, REGS - TSD);
	for (i = 0; i < 4; i++)
		put32(s, TSD + i * 4, TSD_OWN);
	s->next = s->asked = 0;
	s->r[CR] = 0;
	put16(s, CAPR, 0xfff0);
	put32(s, TCR, 0x74000700);
	s->r[CONFIG1] = 0x0c;
	s->r[CONFIG3] = 1;
	put16(s, BMCR, 0x1000 | 0x2000 | 0x100);
	put16(s, ANAR, 0x01e1);
	put16(s, ANLPAR, 0x45e1);
	put16(s, ANER, 1);
	s->timer_base = dev_clock(d);
	dev_timer(d, 0, -1, timer);
	link_show(d);
	irq(d, 0);
	nic_more(d->priv);		/* what waited is dropped */
}

static uint8_t
reg_read(struct devctx *d, unsigned off)
{
	struct rtl *s = d->st;
	unsigned i, all = 0, size = ring_size(s);
	uint32_t tsd;

	switch (off) {
	case CR:
		return (uint8_t)(s->r[CR] | (get16(s, CBR) % size ==
		    (get16(s, CAPR) + 16) % size ? CR_BUFE : 0));
	case CR9346:
		return (uint8_t)((s->r[off] & ~EE_DO) | (s->ee.out ? EE_DO : 0));
	case TCTR: case TCTR + 1: case TCTR + 2: case TCTR + 3:
		return (uint8_t)(timer_count(d) >> (off - TCTR) * 8);
	case TSAD_ALL: case TSAD_ALL + 1:
		for (i = 0; i < 4; i++) {
			tsd = get32(s, TSD + i * 4);
			all |= (tsd >> 13 & 1) << i | (tsd >> 30 & 1) << (4 + i)
			    | (tsd >> 14 & 1) << (8 + i) |
			    (tsd >> 15 & 1) << (12 + i);
		}
		return (uint8_t)(all >> (off - TSAD_ALL) * 8);
	}
	return s->r[off];
}

/* May the driver write this byte?  2: only in the configuration mode. */
static unsigned
writable(unsigned off)
{
	static const struct { uint8_t from, to, how; } t[] = {
		{ IDR, IDR + 5, 2 }, { MAR, MAR + 7, 1 }, { TSAD, CR - 2, 1 },
		{ CAPR, CAPR + 1, 1 }, { IMR, IMR + 1, 1 },
		{ TCR, TCR + 2, 1 }, { RCR, RCR + 3, 1 },
		{ CONFIG0, CONFIG1, 2 }, { TIMERINT, TIMERINT + 3, 1 },
		{ CONFIG3, CONFIG4, 2 }, { MULINT, MULINT + 1, 1 },
		{ ANAR, ANAR + 1, 1 }, { 0x70, 0x71, 1 }, { 0x78, 0x83, 1 },
	};
	unsigned i;

	for (i = 0; i < sizeof t / sizeof *t; i++)
		if (off >= t[i].from && off <= t[i].to)
			return t[i].how;
	return 0;
}

static void
byte_write(struct devctx *d, unsigned off, uint8_t v)
{
	struct rtl *s = d->st;
	unsigned how = writable(off), mode = s->r[CR9346] >> 6;

	if (how == 1 || (how == 2 && mode == MODE_CONFIG)) {
		s->r[off] = v;
		return;
	}
	switch (off) {
	case CR:
		if (v & CR_RST)
			soft_reset(d);
		else
			s->r[CR] = v & (CR_RE | CR_TE);
		if (!(v & CR_RE))
			put16(s, CBR, 0);
		break;
	case ISR: case ISR + 1:
		s->r[off] &= (uint8_t)~v;
		break;
	case CR9346:
		s->r[off] = v & 0xce;
		if (v >> 6 == MODE_PROGRAM)
			eeprom_pins(&s->ee, v & EE_CS, v & EE_SK, v & EE_DI);
		break;
	case BMCR + 1:				/* reset and restart end at once */
		s->r[off] = v & 0x31;
		break;
	case MPC: case TCTR:
		s->r[MPC] = s->r[MPC + 1] = s->r[MPC + 2] = 0;
		if (off == TCTR) {
			s->timer_base = dev_clock(d);
			timer_set(d);
		}
		break;
	}
}

static uint64_t
rtl_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < size; i++)
		v |= (uint64_t)reg_read(d, (unsigned)(off + i) % REGS) << i * 8;
	return v;
}

static void
rtl_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct rtl *s = d->st;
	struct rtl_priv *p = d->priv;
	unsigned at = (unsigned)off % REGS, n = (at - TSD) / 4, i;

	if (at >= TSD && at < TSAD) {
		if (size != 4 || at % 4) {
			dev_guest_error(d, "rtl8139: part of a descriptor", at);
			return;
		}
		put32(s, at, (uint32_t)val & 0x003f3fff);
		if (!(val & TSD_OWN))
			s->asked |= (uint8_t)(1 << n);
		transmit(d);
		return;
	}
	for (i = 0; i < size; i++)
		byte_write(d, (at + i) % REGS, (uint8_t)(val >> i * 8));
	if (at <= TIMERINT + 3 && at + size > TIMERINT)
		timer_set(d);
	if (at <= ISR + 1 && at + size > IMR)
		irq(d, nic_waiting(&p->nic) && !(reg_read(d, CR) & CR_BUFE) ?
		    INT_ROK : 0);
	if (at <= RCR + 3 && at + size > CR && d->running) {
		transmit(d);
		nic_more(&p->nic);
	}
}

/* -------------------------------------------------------------- life cycle */

static const struct nic_ops nic_ops = {
	.rx = rx, .rx_end = rx_end, .room = transmit, .link = link_changed,
};

static const struct pci_fn pci_fn = {
	NIC_PCI(0x10ec, 0x8139, 0x02000010),
	.bar = {
		NIC_PCI_BAR(REGS, SPACE_IO, RANGE_IO),
		NIC_PCI_BAR(REGS, SPACE_MEM, RANGE_MEM),
	},
	.state = offsetof(struct rtl, pci) + 1,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	return nic_pci_open(d, &pci_fn, &nic_ops, why, whylen);
}

static void
reset(struct devctx *d)
{
	struct rtl *s = d->st;
	struct rtl_priv *p = d->priv;
	const uint8_t *m = p->nic.mac;
	unsigned i;

	if (!s->ee.valid) {			/* data sheet 6 */
		s->ee.valid = 1;
		s->ee.word[0] = 0x8129;
		s->ee.word[1] = 0x10ec;
		s->ee.word[2] = 0x8139;
		for (i = 0; i < 3; i++)
			s->ee.word[7 + i] = (uint16_t)(m[2 * i] |
			    m[2 * i + 1] << 8);
	}
	s->ee.writable = 0;
	memset(s->r, 0, sizeof s->r);
	for (i = 0; i < 3; i++)
		put16(s, IDR + i * 2, s->ee.word[7 + i]);
	soft_reset(d);
	pci_reset(d, &pci_fn);
}

static void
loaded(struct devctx *d)
{
	struct rtl *s = d->st;

	pci_loaded(d, &pci_fn);
	s->next &= 3;
	timer_set(d);
	irq(d, 0);
}

static void
run(struct devctx *d)
{
	struct rtl *s = d->st;
	struct rtl_priv *p = d->priv;

	if (!(s->r[MSR] & 4) != nic_link(&p->nic))
		link_changed(d);
	transmit(d);
	nic_run(&p->nic);
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x813910ec },
	{ 'C', 0, 4, 0x08, 0x02000010 },
	{ 'r', 0, 4, IDR, 0x12005452 },
	{ 'r', 1, 2, IDR + 4, 0x5634 },
	{ 'w', 0, 1, IDR, 2 },			/* locked */
	{ 'r', 0, 1, IDR, 0x52 },
	{ 'w', 0, 1, CR9346, 0xc0 },
	{ 'w', 0, 1, IDR, 2 },
	{ 'r', 0, 1, IDR, 2 },
	{ 'r', 0, 4, TSD, TSD_OWN },
	{ 'r', 0, 1, CR, CR_BUFE },
	{ 'r', 0, 2, BMSR, 0x7809 },		/* no cable */
	{ 'r', 0, 2, TSAD_ALL, 0x000f },
	{ 'w', 0, 2, IMR, INT_TIMEOUT },
	{ 'w', 0, 4, TIMERINT, 33333 },		/* a millisecond */
	{ 'w', 0, 4, TCTR, 0 },
	{ 't', 0, 0, 0, 900000 },
	{ 'i', 0, 0, 26, 0 },
	{ 't', 0, 0, 0, 200000 },
	{ 'i', 0, 0, 26, 1 },
	{ 'w', 0, 2, ISR, INT_TIMEOUT },
	{ 'i', 0, 0, 26, 0 },
	{ 'w', 0, 1, CR, CR_RST },
	{ 'r', 0, 2, IMR, 0 },
	{ 'r', 0, 1, IDR, 2 },
	{ 0 }
};

const struct dev rtl8139 = {
	.name = "rtl8139",
	.desc = "Realtek RTL8139C Fast Ethernet controller",
	.spec = "Realtek RTL8139C(L) data sheet 1.4",
	.state_size = sizeof(struct rtl),
	.fields = fields,
	.opts_size = sizeof(struct nic_pci_opts),
	.opts = nic_pci_opts,
	.priv_size = sizeof(struct rtl_priv),
	.init = init,
	.reset = reset,
	.read = rtl_read,
	.write = rtl_write,
	.config = nic_pci_config,
	.loaded = loaded,
	.stop = nic_dev_stop,
	.run = run,
	.ask = nic_dev_ask,
	.quit = nic_dev_quit,
	.tests = tests,
};
DEV_MAIN(rtl8139);
