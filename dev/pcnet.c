/*
 * pcnet.c - AMD Am79C970A PCnet-PCI II (data sheet 19436): control and status
 * registers behind an address port, initialization block, descriptor rings in the
 * 16-bit and both 32-bit software styles.
 *
 * Theory of operation.  A frame is sent when all its descriptors are the card's,
 * so nothing of it need be remembered; a received one waits in the nic until the
 * descriptors that are the card's hold all of it.  A descriptor's OWN bit is
 * written last.  The rings are walked on demand (TDMD) and when frames come, not
 * polled; the driver that relies on polling is served at the next of those.
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 */
#include <string.h>

#include "pcnet.h"

enum { RANGE_IO, RANGE_MEM };

static const struct field fields[] = {
	PCI_FIELDS(pcnet, pci), FIELDS(pcnet, csr), FIELDS(pcnet, bcr),
	FIELDS(pcnet, prom), FIELD(pcnet, rap), FIELD(pcnet, rx_at),
	FIELD(pcnet, tx_at),
	FIELD_END
};

void
pcnet_irq(struct devctx *d, unsigned causes)
{
	struct pcnet *s = d->st;
	uint16_t *c = &s->csr[0];

	*c |= (uint16_t)causes;
	*c &= (uint16_t)~(C0_INTR | C0_ERR);
	if (*c & 0x7800)
		*c |= C0_ERR;
	if (*c & C0_CAUSES & ~s->csr[3])
		*c |= C0_INTR;
	pci_intx(d, *c & C0_INTR && *c & C0_IENA);
}

/* --------------------------------------------------------------- registers */

static void
link_changed(struct devctx *d)
{
	struct pcnet *s = d->st;

	s->bcr[BCR_LINK] = nic_link(d->priv) ? 0x80c0 : 0x00c0;
}

/* By the reset port, and part of power-on. */
static void
soft_reset(struct devctx *d)
{
	struct pcnet *s = d->st;

	memset(s->csr, 0, sizeof s->csr);
	s->csr[0] = C0_STOP;
	s->csr[4] = 0x0115;
	s->csr[88] = 0x1003;			/* Am79C970A */
	s->csr[89] = 0x0262;
	memset(s->bcr, 0, sizeof s->bcr);
	s->bcr[0] = s->bcr[1] = 5;
	s->bcr[2] = 2;
	s->bcr[5] = 0x84;
	s->bcr[6] = 0x88;
	s->bcr[7] = 0x90;
	s->bcr[BCR_BUS] = 0x9001;
	s->bcr[BCR_STYLE] = 0x200;
	s->rap = 0;
	s->rx_at = s->tx_at = 0;
	link_changed(d);
	pcnet_irq(d, 0);
	nic_more(d->priv);
}

/* 8.1, the initialization block. */
static void
initialize(struct devctx *d)
{
	struct pcnet *s = d->st;
	bool wide = s->bcr[BCR_STYLE] & SSIZE32;
	unsigned len = wide ? 28 : 24, i, rlen, tlen;
	uint8_t b[28] = { 0 };
	void *p = pci_dma(d, pcnet_base(s, 1), len);
	uint32_t rx_base, tx_base;

	if (!p) {
		dev_guest_error(d, "pcnet: initialization block is no memory",
		    pcnet_base(s, 1));
		pcnet_irq(d, C0_MERR);
		return;
	}
	memcpy(b, p, len);
	s->csr[15] = (uint16_t)(b[0] | b[1] << 8);
	p = b + (wide ? 4 : 2);
	memcpy(&s->csr[12], p, 6);
	memcpy(&s->csr[8], (uint8_t *)p + (wide ? 8 : 6), 8);
	memcpy(&rx_base, b + (wide ? 20 : 16), 4);
	memcpy(&tx_base, b + (wide ? 24 : 20), 4);
	if (wide) {
		rlen = b[2] >> 4;
		tlen = b[3] >> 4;
	} else {
		rlen = rx_base >> 29;
		tlen = tx_base >> 29;
		rx_base &= 0xffffff;
		tx_base &= 0xffffff;
	}
	rlen = rlen > 9 ? 9 : rlen;
	tlen = tlen > 9 ? 9 : tlen;
	for (i = 0; i < 2; i++) {
		s->csr[24 + i] = (uint16_t)(rx_base >> i * 16);
		s->csr[30 + i] = (uint16_t)(tx_base >> i * 16);
	}
	s->csr[76] = (uint16_t)(0x10000 - (1u << rlen));
	s->csr[78] = (uint16_t)(0x10000 - (1u << tlen));
	s->rx_at = s->tx_at = 0;
	pcnet_irq(d, C0_IDON);
}

static void
csr0_write(struct devctx *d, unsigned v)
{
	struct pcnet *s = d->st;
	uint16_t *c = &s->csr[0];

	*c &= (uint16_t)~(v & C0_CAUSES);
	*c = (uint16_t)((*c & ~C0_IENA) | (v & C0_IENA));
	if (v & C0_STOP) {
		*c = C0_STOP;
		s->csr[5] &= 0xfffe;
		pcnet_irq(d, 0);
		return;
	}
	if (v & C0_INIT) {
		*c = (uint16_t)((*c & ~C0_STOP) | C0_INIT);
		initialize(d);
	}
	if (v & C0_STRT && !(*c & C0_STRT)) {
		*c = (uint16_t)((*c & ~C0_STOP) | C0_STRT);
		*c |= s->csr[15] & MODE_DTX ? 0 : C0_TXON;
		*c |= s->csr[15] & MODE_DRX ? 0 : C0_RXON;
	}
	pcnet_irq(d, 0);
	pcnet_transmit(d);
	if (d->running)
		nic_more(d->priv);
}

static unsigned
csr_read(const struct pcnet *s, unsigned n)
{
	switch (n) {
	case 72: return (pcnet_len(s, 76) - s->rx_at) & 0xffff;
	case 74: return (pcnet_len(s, 78) - s->tx_at) & 0xffff;
	}
	return n < CSRS ? s->csr[n] : 0;
}

static void
csr_write(struct devctx *d, unsigned n, unsigned v)
{
	struct pcnet *s = d->st;

	if (n == 0) {
		csr0_write(d, v);
	} else if (n == 4) {			/* causes are cleared by ones */
		s->csr[4] = (uint16_t)((s->csr[4] & ~v & 0x026a) |
		    (v & 0xfd95));
	} else if (n == 3 || n == 5) {
		s->csr[n] = (uint16_t)(n == 3 ? v & 0x5f7c : v & 0x0001);
		pcnet_irq(d, 0);
		pcnet_transmit(d);
		if (d->running)
			nic_more(d->priv);
	} else if (s->csr[0] & C0_STOP || s->csr[5] & 1) {
		/* the rest may be written while the card stands */
		if (n == 1 || n == 2 || (n >= 8 && n <= 15) || n == 24 ||
		    n == 25 || n == 30 || n == 31 || n == 47 || n == 76 ||
		    n == 78)
			s->csr[n] = (uint16_t)v;
	}
}

static void
bcr_write(struct devctx *d, unsigned n, unsigned v)
{
	struct pcnet *s = d->st;

	switch (n) {
	case 2: case 5: case 6: case 7: case 9: case 16: case 17: case 22:
		s->bcr[n] = (uint16_t)v;
		break;
	case BCR_BUS:
		s->bcr[n] = (uint16_t)((s->bcr[n] & DWIO) | (v & ~DWIO));
		break;
	case BCR_STYLE:
		v &= 0xff;
		if (!(s->csr[0] & C0_STOP) || (v != 0 && v != 2 && v != 3))
			break;
		s->bcr[n] = (uint16_t)(0x200 | v | (v ? SSIZE32 : 0));
		break;
	}
}

static uint64_t
pcnet_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct pcnet *s = d->st;
	unsigned step = s->bcr[BCR_BUS] & DWIO ? 4 : 2;
	uint64_t v = 0;

	off &= 31;
	if (off < sizeof s->prom) {
		memcpy(&v, s->prom + off, off + size <= 16 ? size : 16 - off);
		return v;
	}
	switch ((off - 16) / step) {
	case 0: return csr_read(s, s->rap);
	case 1: return s->rap;
	case 2:
		soft_reset(d);
		return 0;
	case 3: return s->rap < BCRS ? s->bcr[s->rap] : 0;
	}
	return 0;
}

static void
pcnet_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct pcnet *s = d->st;
	unsigned step;

	off &= 31;
	if (off == 16 && size == 4)		/* 6.1: from words to dwords */
		s->bcr[BCR_BUS] |= DWIO;
	step = s->bcr[BCR_BUS] & DWIO ? 4 : 2;
	if (off < 16 || (off - 16) % step || size < 2)
		return;
	switch ((off - 16) / step) {
	case 0:
		csr_write(d, s->rap, val & 0xffff);
		break;
	case 1:
		s->rap = val & (CSRS - 1);
		break;
	case 3:
		bcr_write(d, s->rap, val & 0xffff);
		break;
	}
}

/* -------------------------------------------------------------- life cycle */

static const struct nic_ops nic_ops = {
	.rx = pcnet_rx, .rx_end = pcnet_rx_end, .room = pcnet_transmit,
	.link = link_changed,
};

static const struct pci_fn pci_fn = {
	NIC_PCI(0x1022, 0x2000, 0x02000010),
	.bar = {
		NIC_PCI_BAR(32, SPACE_IO, RANGE_IO),
		NIC_PCI_BAR(32, SPACE_MEM, RANGE_MEM),
	},
	.state = offsetof(struct pcnet, pci) + 1,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	return nic_pci_open(d, &pci_fn, &nic_ops, why, whylen);
}

static void
reset(struct devctx *d)
{
	struct pcnet *s = d->st;
	struct pcnet_priv *p = d->priv;
	unsigned i, sum = 0;

	memset(s->prom, 0, sizeof s->prom);	/* 5.1: address, sum, WW */
	memcpy(s->prom, p->nic.mac, 6);
	s->prom[9] = 0x11;
	s->prom[14] = s->prom[15] = 'W';
	for (i = 0; i < 16; i++)
		sum += s->prom[i];
	s->prom[12] = (uint8_t)sum;
	s->prom[13] = (uint8_t)(sum >> 8);
	soft_reset(d);
	pci_reset(d, &pci_fn);
}

static void
loaded(struct devctx *d)
{
	pci_loaded(d, &pci_fn);
	pcnet_irq(d, 0);
}

static void
run(struct devctx *d)
{
	link_changed(d);
	pcnet_transmit(d);
	nic_run(d->priv);
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x20001022 },
	{ 'r', 0, 4, 0x00, 0x12005452 },
	{ 'r', 0, 2, 0x0e, 0x5757 },
	{ 'r', 0, 2, 0x10, 4 },			/* CSR0: stopped */
	{ 'w', 0, 2, 0x12, 88 },
	{ 'r', 0, 2, 0x12, 88 },
	{ 'r', 0, 2, 0x10, 0x1003 },
	{ 'w', 0, 2, 0x12, 20 },
	{ 'w', 0, 2, 0x16, 2 },			/* BCR20: style 2 */
	{ 'r', 0, 2, 0x16, 0x302 },
	{ 'w', 0, 2, 0x16, 7 },			/* no such style */
	{ 'r', 0, 2, 0x16, 0x302 },
	{ 'w', 0, 2, 0x12, 0 },
	{ 'w', 0, 2, 0x10, 0x41 },		/* INIT without bus mastering */
	{ 'r', 0, 2, 0x10, 0x88c1 },		/* memory error */
	{ 'i', 0, 0, 26, 1 },
	{ 'r', 0, 2, 0x14, 0 },			/* reset */
	{ 'i', 0, 0, 26, 0 },
	{ 'w', 1, 4, 0x10, 4 },			/* dwords from now on */
	{ 'w', 1, 4, 0x14, 89 },
	{ 'r', 1, 4, 0x10, 0x0262 },
	{ 0 }
};

const struct dev pcnet = {
	.name = "pcnet",
	.desc = "AMD Am79C970A PCnet-PCI II",
	.spec = "AMD 19436, Am79C970A data sheet",
	.state_size = sizeof(struct pcnet),
	.fields = fields,
	.opts_size = sizeof(struct nic_pci_opts),
	.opts = nic_pci_opts,
	.priv_size = sizeof(struct pcnet_priv),
	.init = init,
	.reset = reset,
	.read = pcnet_read,
	.write = pcnet_write,
	.config = nic_pci_config,
	.loaded = loaded,
	.stop = nic_dev_stop,
	.run = run,
	.ask = nic_dev_ask,
	.quit = nic_dev_quit,
	.tests = tests,
};
DEV_MAIN(pcnet);
