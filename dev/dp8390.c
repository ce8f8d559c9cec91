/*
 * dp8390.c - see dp8390.h (National Semiconductor DP8390D/NS32490D data sheet;
 * the ports around it after the NE2000 and Realtek's RTL8029AS data sheet).
 *
 * Theory of operation.  Frames to send and received ones lie in the card's own
 * memory, which the driver reaches through the data port ("remote DMA").  A frame
 * received waits in the nic until the ring of pages between PSTART and PSTOP has
 * room for it.  Page 2 (diagnosis) reads as page 0's written registers.
 */
#include <string.h>

#include "dp8390.h"

enum { CR_STP = 1, CR_STA = 2, CR_TXP = 4, CR_READ = 8, CR_WRITE = 0x10,
	CR_ABORT = 0x20, CR_PAGE = 0xc0 };
enum { ISR_PRX = 1, ISR_PTX = 2, ISR_RDC = 0x40, ISR_RST = 0x80 };
enum { RCR_AR = 2, RCR_AB = 4, RCR_AM = 8, RCR_PRO = 0x10, RCR_MON = 0x20 };
enum { RSR_PRX = 1, RSR_PHY = 0x20, TSR_PTX = 1, TCR_LB = 6, DCR_WTS = 1 };
enum { DATA_PORT = 0x10, RESET_PORT = 0x18 };

static void
irq(struct devctx *d, unsigned causes)
{
	struct dp_priv *p = d->priv;
	struct dp8390 *s = p->s;

	s->isr |= (uint8_t)causes;
	p->irq(d, (s->isr & s->imr & 0x7f) != 0);
}

/* The card's memory at an address of it, for n bytes; NULL: there is none. */
static uint8_t *
mem_at(struct dp8390 *s, unsigned at, unsigned n)
{
	return at >= DP_MEM && at + n <= DP_MEM + DP_MEM_BYTES ?
	    s->mem + (at - DP_MEM) : NULL;
}

/* ------------------------------------------------------------ transmission */

static void
transmit(struct devctx *d)
{
	struct dp_priv *p = d->priv;
	struct dp8390 *s = p->s;
	struct iovec iov = { mem_at(s, s->tpsr << 8u, s->tbcr), s->tbcr };

	if (!(s->cr & CR_TXP) || s->cr & CR_STP || !d->running ||
	    nic_full(&p->nic))
		return;
	if (!iov.iov_base)
		dev_guest_error(d, "dp8390: frame out of memory", s->tpsr);
	else if (s->tcr & TCR_LB) {
		if (iov.iov_len >= 14)
			p->nic.ops->rx(d, iov.iov_base, s->tbcr);
	} else {
		nic_send(&p->nic, &iov, 1, 0);
		nic_flush(&p->nic);
	}
	s->cr &= (uint8_t)~CR_TXP;
	s->tsr = TSR_PTX;
	irq(d, ISR_PTX | (p->pending ? ISR_PRX : 0));
	p->pending = false;
}

/* --------------------------------------------------------------- reception */

/* Status if the frame passes the filter (data sheet, RCR), else 0. */
static unsigned
status_of(const struct dp8390 *s, const uint8_t *f)
{
	unsigned h;

	if (memcmp(f, "\377\377\377\377\377\377", 6) == 0)
		return s->rcr & (RCR_AB | RCR_PRO) ? RSR_PRX | RSR_PHY : 0;
	if (f[0] & 1) {
		h = nic_crc(f, 6) >> 26;
		return s->rcr & RCR_PRO || (s->rcr & RCR_AM &&
		    s->mar[h / 8] >> h % 8 & 1) ? RSR_PRX | RSR_PHY : 0;
	}
	return s->rcr & RCR_PRO || memcmp(f, s->par, 6) == 0 ? RSR_PRX : 0;
}

static bool
rx(struct devctx *d, const uint8_t *f, uint32_t len)
{
	static uint8_t b[2048];
	struct dp_priv *p = d->priv;
	struct dp8390 *s = p->s;
	unsigned status, need, room, pages = s->pstop - s->pstart, i, next;
	uint32_t fcs;
	uint8_t *to;

	if ((s->cr & (CR_STA | CR_STP)) != CR_STA || s->rcr & RCR_MON ||
	    len > 1518 || !(status = status_of(s, f)))
		return true;
	/* a ring that is none takes nothing */
	if (s->pstop <= s->pstart || s->curr < s->pstart ||
	    s->curr >= s->pstop ||
	    !mem_at(s, s->pstart << 8u, pages << 8))
		return true;
	memset(b, 0, sizeof b);
	memcpy(b + 4, f, len);
	if (len < 60)
		len = 60;
	need = (len + 8 + 255) / 256;
	/* drivers let BNRY be one below the ring, which is its last page */
	room = (s->bnry + 256 * pages - s->curr) % pages;
	if (room == 0)
		room = pages;
	if (need >= pages)
		return true;
	if (need >= room)
		return false;
	next = s->curr + need;
	if (next >= s->pstop)
		next -= pages;
	b[0] = (uint8_t)status;
	b[1] = (uint8_t)next;
	b[2] = (uint8_t)(len + 4);
	b[3] = (uint8_t)((len + 4) >> 8);
	fcs = nic_fcs(b + 4, len);
	memcpy(b + 4 + len, &fcs, 4);
	for (i = 0; i < need; i++) {
		to = mem_at(s, (s->curr + i >= s->pstop ? s->curr + i - pages :
		    s->curr + i) << 8, 256);
		memcpy(to, b + i * 256, 256);
	}
	s->curr = (uint8_t)next;
	s->rsr = (uint8_t)status;
	p->pending = true;
	return true;
}

static void
rx_end(struct devctx *d)
{
	struct dp_priv *p = d->priv;

	if (p->pending)
		irq(d, ISR_PRX);
	p->pending = false;
}

/* -------------------------------------------------------------- remote DMA */

static void
dma_step(struct devctx *d, unsigned n)
{
	struct dp8390 *s = ((struct dp_priv *)d->priv)->s;

	s->rsar = (uint16_t)(s->rsar + n);
	if (s->pstop > s->pstart && s->rsar == s->pstop << 8)
		s->rsar = (uint16_t)(s->pstart << 8);
	if (s->rbcr == 0)
		return;
	s->rbcr = s->rbcr > n ? (uint16_t)(s->rbcr - n) : 0;
	if (s->rbcr == 0)
		irq(d, ISR_RDC);
}

/* Bytes an access of the data port moves; in word mode two at least. */
static unsigned
dma_width(const struct dp8390 *s, unsigned size)
{
	return size == 1 && s->dcr & DCR_WTS ? 2 : size;
}

static uint64_t
data_read(struct devctx *d, unsigned size)
{
	struct dp8390 *s = ((struct dp_priv *)d->priv)->s;
	unsigned n = dma_width(s, size), i;
	uint64_t v = 0;
	uint8_t *m;

	for (i = 0; i < n; i++) {
		m = s->rsar + i < sizeof s->prom ? &s->prom[s->rsar + i] :
		    mem_at(s, s->rsar + i, 1);
		v |= (uint64_t)(m ? *m : 0xff) << i * 8;
	}
	dma_step(d, n);
	return v;
}

static void
data_write(struct devctx *d, unsigned size, uint64_t v)
{
	struct dp8390 *s = ((struct dp_priv *)d->priv)->s;
	unsigned n = dma_width(s, size), i;
	uint8_t *m;

	if (s->rbcr == 0)
		return;
	for (i = 0; i < n; i++)
		if ((m = mem_at(s, s->rsar + i, 1)))
			*m = (uint8_t)(v >> i * 8);
	dma_step(d, n);
}

/* --------------------------------------------------------------- registers */

static void
soft_reset(struct devctx *d)
{
	struct dp_priv *p = d->priv;

	p->s->cr = CR_STP | CR_ABORT;
	p->s->isr = ISR_RST;
	p->s->imr = 0;
	irq(d, 0);
	nic_more(&p->nic);		/* what waited is dropped */
}

static uint8_t
reg_read(struct devctx *d, unsigned off)
{
	const struct dp8390 *s = ((struct dp_priv *)d->priv)->s;
	const uint8_t page0[16] = { s->cr, (uint8_t)s->rsar,
		(uint8_t)(s->rsar >> 8), s->bnry, s->tsr, 0, 0, s->isr,
		(uint8_t)s->rsar, (uint8_t)(s->rsar >> 8), 0x50, 0x43, s->rsr };
	const uint8_t page2[16] = { s->cr, s->pstart, s->pstop, s->bnry, s->tpsr,
		0, 0, 0, 0, 0, 0, 0, s->rcr, s->tcr, s->dcr, s->imr };

	switch (s->cr & CR_PAGE) {
	case 0x00:
		return page0[off];
	case 0x40:
		return off == 0 ? s->cr : off < 7 ? s->par[off - 1] :
		    off == 7 ? s->curr : s->mar[off - 8];
	case 0x80:
		return page2[off];
	}
	return off ? 0 : s->cr;
}

static void
command(struct devctx *d, uint8_t v)
{
	struct dp_priv *p = d->priv;
	struct dp8390 *s = p->s;

	if (v & CR_STP) {
		s->cr = v & (uint8_t)~CR_TXP;
		s->isr |= ISR_RST;
		return;
	}
	/* Only STP stops it: STA activates it after power-up or a reset, and
	 * without it the started card goes on (DP8390D, command register).
	 * Drivers turn pages that way.  Transmission ends by itself. */
	s->cr = (uint8_t)(v | (s->cr & (CR_TXP | CR_STA)));
	s->isr &= (uint8_t)~ISR_RST;
	if (v & (CR_READ | CR_WRITE) && s->rbcr == 0)
		irq(d, ISR_RDC);
	transmit(d);
	if (d->running)
		nic_more(&p->nic);
}

/* Drivers acknowledge PRX behind their last look at CURR and rely on the next
 * frame for what came in between; here it may wait for room, or there is none: so
 * PRX stays while frames are unread.  An empty ring has BNRY at CURR or before. */
static bool
unread(const struct dp8390 *s)
{
	unsigned next = s->bnry + 1u;

	if (next == s->pstop)
		next = s->pstart;
	return s->cr & CR_STA && s->curr != s->bnry && s->curr != next &&
	    s->curr >= s->pstart && s->curr < s->pstop;
}

static void
reg_write(struct devctx *d, unsigned off, uint8_t v)
{
	struct dp_priv *p = d->priv;
	struct dp8390 *s = p->s;

	if (off == 0) {
		command(d, v);
		return;
	}
	if ((s->cr & CR_PAGE) == 0x40) {
		if (off < 7)
			s->par[off - 1] = v;
		else if (off == 7)
			s->curr = v;
		else
			s->mar[off - 8] = v;
		return;
	}
	if (s->cr & CR_PAGE)
		return;
	switch (off) {
	case 1: s->pstart = v; break;
	case 2: s->pstop = v; break;
	case 3:
		s->bnry = v;
		if (d->running)
			nic_more(&p->nic);
		break;
	case 4: s->tpsr = v; break;
	case 5: s->tbcr = (uint16_t)((s->tbcr & 0xff00) | v); break;
	case 6: s->tbcr = (uint16_t)((s->tbcr & 0xff) | v << 8); break;
	case 7:
		s->isr &= (uint8_t)~(v & 0x7f);
		irq(d, unread(s) ? ISR_PRX : 0);
		break;
	case 8: s->rsar = (uint16_t)((s->rsar & 0xff00) | v); break;
	case 9: s->rsar = (uint16_t)((s->rsar & 0xff) | v << 8); break;
	case 10: s->rbcr = (uint16_t)((s->rbcr & 0xff00) | v); break;
	case 11: s->rbcr = (uint16_t)((s->rbcr & 0xff) | v << 8); break;
	case 12: s->rcr = v; break;
	case 13: s->tcr = v; break;
	case 14: s->dcr = v; break;
	case 15:
		s->imr = v;
		irq(d, 0);
		break;
	}
}

uint64_t
dp_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	uint64_t v = 0;
	unsigned i;

	off %= DP_PORTS;
	if (off >= RESET_PORT) {
		soft_reset(d);
		return 0;
	}
	if (off >= DATA_PORT)
		return data_read(d, size);
	for (i = 0; i < size && off + i < DATA_PORT; i++)
		v |= (uint64_t)reg_read(d, (unsigned)off + i) << i * 8;
	return v;
}

void
dp_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	unsigned i;

	off %= DP_PORTS;
	if (off >= RESET_PORT)
		return;
	if (off >= DATA_PORT) {
		data_write(d, size, val);
		return;
	}
	for (i = 0; i < size && off + i < DATA_PORT; i++)
		reg_write(d, (unsigned)off + i, (uint8_t)(val >> i * 8));
}

/* -------------------------------------------------------------- life cycle */

static void
link_changed(struct devctx *d)
{
	/* there is no register that would show it */
}

const struct nic_ops dp_nic_ops = {
	.rx = rx, .rx_end = rx_end, .room = transmit, .link = link_changed,
};

void
dp_init(struct devctx *d, struct dp8390 *s,
    void (*line)(struct devctx *, int level))
{
	struct dp_priv *p = d->priv;

	p->s = s;
	p->irq = line;
}

void
dp_reset(struct devctx *d)
{
	struct dp_priv *p = d->priv;
	struct dp8390 *s = p->s;
	unsigned i;

	memset(s, 0, sizeof *s);
	/* on a 16-bit card each byte is there twice; WW: it is one */
	for (i = 0; i < 6; i++)
		s->prom[i * 2] = s->prom[i * 2 + 1] = s->par[i] =
		    p->nic.mac[i];
	memset(s->prom + 28, 'W', 4);
	soft_reset(d);
}

void
dp_loaded(struct devctx *d)
{
	irq(d, 0);
}

void
dp_run(struct devctx *d)
{
	struct dp_priv *p = d->priv;

	transmit(d);
	nic_run(&p->nic);
}
