/*
 * e1000.c - Intel 82540EM Gigabit Ethernet controller (SDM, see e1000.h):
 * registers, PHY, interrupts, statistics.
 *
 * Theory of operation.  The registers are one array; those without a side effect
 * are just stored.  The PHY is an 88E1011 that has always finished negotiating
 * 1000 Mb/s full duplex when there is a cable.  The delays a driver may ask for
 * between a descriptor and its interrupt (RDTR, RADV, TIDV, TADV) are upper
 * bounds and taken as zero; the throttle ITR is kept.
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "e1000.h"

enum { RANGE_MEM, RANGE_IO };
enum { ST_FD = 1, ST_LU = 2, ST_REST = 0x780 };	/* 1000 Mb/s, ASDV */
enum { EE_SK = 1, EE_CS = 2, EE_DI = 4, EE_DO = 8, EE_REQ = 0x40, EE_GNT = 0x80,
	EE_PRES = 0x100 };
enum { EERD_START = 1, EERD_DONE = 0x10 };
enum { MDIC_WRITE = 1, MDIC_READ = 2, MDIC_READY = 1 << 28, MDIC_INT = 1 << 29,
	MDIC_ERROR = 1 << 30 };
enum { PHY_LINK = 4, PHY_AN_DONE = 0x20, PHY_RESET = 0x8000,
	PHY_AN_RESTART = 0x200, PHY_SPECIFIC = 17 };

static const struct field fields[] = {
	PCI_FIELDS(e1000, pci),
	FIELDS(e1000, reg), FIELDS(e1000, phy), EE_FIELDS(e1000, ee),
	FIELD(e1000, ioaddr), FIELD(e1000, itr_next), FIELDS(e1000, ctx),
	FIELD_END
};

/* -------------------------------------------------- interrupts, SDM 13.4.17 */

static void	irq(struct devctx *);

static void
irq(struct devctx *d)
{
	struct e1000 *s = d->st;
	uint32_t on = *e1000_reg(s, ICR) & *e1000_reg(s, IMS);
	uint32_t itr = *e1000_reg(s, ITR) & 0xffff;
	int64_t now;

	if (!on || s->pci.intx) {
		pci_intx(d, on != 0);
		return;
	}
	now = dev_clock(d);
	if (itr && now < s->itr_next) {
		dev_timer(d, 0, s->itr_next, irq);
		return;
	}
	s->itr_next = now + itr * 256;
	pci_intx(d, 1);
}

void
e1000_cause(struct devctx *d, uint32_t causes)
{
	*e1000_reg(d->st, ICR) |= causes;
	irq(d);
}

/* -------------------------------------------------------------- statistics */

void
e1000_count(struct e1000 *s, unsigned off, unsigned n)
{
	uint32_t *r = e1000_reg(s, off);

	*r = *r > UINT32_MAX - n ? UINT32_MAX : *r + n;
}

void
e1000_count64(struct e1000 *s, unsigned off, unsigned n)
{
	uint32_t *r = e1000_reg(s, off);

	if (r[0] > UINT32_MAX - n && r[1] != UINT32_MAX)
		r[1]++;
	r[0] += n;
}

static bool
is_high(unsigned off)			/* of a pair of registers */
{
	return off == GORCL + 4 || off == GOTCL + 4 || off == TORL + 4 ||
	    off == TOTL + 4;
}

/* Clear on read; a pair with its high half. */
static uint32_t
stat_read(struct e1000 *s, unsigned off)
{
	uint32_t v = *e1000_reg(s, off);

	if (is_high(off))
		*e1000_reg(s, off - 4) = 0;
	if (!is_high(off + 4))
		*e1000_reg(s, off) = 0;
	return v;
}

/* ------------------------------------------------- EEPROM, SDM 5.6, 13.4.3 */

static void
ee_fill(struct devctx *d)
{
	struct eeprom *e = &((struct e1000 *)d->st)->ee;
	const uint8_t *m = ((struct e1000_priv *)d->priv)->nic.mac;
	uint16_t sum = 0;
	unsigned i;

	if (e->valid)
		return;
	e->valid = 1;
	for (i = 0; i < 3; i++)
		e->word[i] = (uint16_t)(m[2 * i] | m[2 * i + 1] << 8);
	e->word[0x0a] = 0x4408;			/* initialization control 1 */
	e->word[0x0b] = 0x1100;			/* subsystem, its vendor */
	e->word[0x0c] = 0x1af4;
	e->word[0x0d] = 0x100e;
	e->word[0x0e] = 0x8086;
	e->word[0x0f] = 0x3040;			/* initialization control 2 */
	for (i = 0; i < EE_WORDS - 1; i++)
		sum += e->word[i];
	e->word[EE_WORDS - 1] = (uint16_t)(0xbaba - sum);
}

static void
eecd_write(struct e1000 *s, uint32_t v)
{
	eeprom_pins(&s->ee, v & EE_CS, v & EE_SK, v & EE_DI);
	*e1000_reg(s, EECD) = (v & (EE_SK | EE_CS | EE_DI | EE_REQ | 0x30)) |
	    EE_PRES | (v & EE_REQ ? EE_GNT : 0) | (s->ee.out ? EE_DO : 0);
}

/* ---------------------------------------------------- PHY, SDM 8.4, 13.4.6 */

static void
phy_reset(struct e1000 *s)
{
	static const uint16_t init[PHY_N] = {
		[0] = 0x1140, [1] = 0x7949, [2] = 0x0141, [3] = 0x0c20,
		[4] = 0x01e1, [5] = 0xc5e1, [6] = 0x0005, [7] = 0x2001,
		[9] = 0x0e00, [10] = 0x7c00, [15] = 0x3000, [16] = 0x0360,
		[17] = 0xa800, [20] = 0x0d60,
	};

	memcpy(s->phy, init, sizeof init);
}

static void
link_show(struct devctx *d)
{
	struct e1000 *s = d->st;
	const struct e1000_priv *p = d->priv;
	uint32_t *status = e1000_reg(s, STATUS);

	*status = ST_FD | ST_REST;
	s->phy[PHY_STATUS] &= (uint16_t)~(PHY_LINK | PHY_AN_DONE);
	s->phy[PHY_SPECIFIC] &= (uint16_t)~0x400;
	if (nic_link(&p->nic)) {
		*status |= ST_LU;
		s->phy[PHY_STATUS] |= PHY_LINK | PHY_AN_DONE;
		s->phy[PHY_SPECIFIC] |= 0x400;
	}
}

static void
link_changed(struct devctx *d)
{
	if (!d->cfg)
		return;
	link_show(d);
	e1000_cause(d, INT_LSC);
}

static void
phy_write(struct devctx *d, unsigned reg, uint16_t v)
{
	struct e1000 *s = d->st;

	switch (reg) {
	case PHY_CTRL:
		if (v & PHY_RESET)
			phy_reset(s);
		else
			s->phy[PHY_CTRL] = (uint16_t)(v & ~PHY_AN_RESTART);
		link_show(d);
		if (v & (PHY_RESET | PHY_AN_RESTART))
			e1000_cause(d, INT_LSC);
		break;
	case 1: case 2: case 3: case 5: case 6: case 8: case 10: case 15:
	case 17: case 19: case 21:
		break;				/* read-only */
	default:
		s->phy[reg] = v;
	}
}

static void
mdic_write(struct devctx *d, uint32_t v)
{
	struct e1000 *s = d->st;
	unsigned reg = v >> 16 & 31, op = v >> 26 & 3;

	v &= ~(uint32_t)(MDIC_READY | MDIC_ERROR);
	if ((v >> 21 & 31) != 1 || (op != MDIC_READ && op != MDIC_WRITE))
		v |= MDIC_ERROR;
	else if (op == MDIC_READ)
		v = (v & ~0xffffu) | s->phy[reg];
	else
		phy_write(d, reg, (uint16_t)v);
	*e1000_reg(s, MDIC) = v | MDIC_READY;
	if (v & MDIC_INT)
		e1000_cause(d, INT_MDAC);
}

/* --------------------------------------------------------------- registers */

/* SDM 14.4: what a software reset and power-on have in common. */
static void
soft_reset(struct devctx *d)
{
	struct e1000 *s = d->st;
	struct e1000_priv *p = d->priv;

	memset(s->reg, 0, sizeof s->reg);
	memset(s->ctx, 0, sizeof s->ctx);
	s->itr_next = 0;
	*e1000_reg(s, CTRL) = CTRL_SLU | 0x201;	/* 1000 Mb/s, full duplex */
	eecd_write(s, 0);
	*e1000_reg(s, PBA) = 0x00100030;
	*e1000_reg(s, LEDCTL) = 0x07068302;
	*e1000_reg(s, VET) = 0x8100;
	*e1000_reg(s, TXCW) = 0xc0000000;
	/* the first station address comes from the EEPROM */
	*e1000_reg(s, RA) = s->ee.word[0] |
	    (uint32_t)s->ee.word[1] << 16;
	*e1000_reg(s, RA + 4) = s->ee.word[2] | 1u << 31;
	link_show(d);
	irq(d);
	nic_more(&p->nic);			/* what waited is dropped */
}

static bool
plain(unsigned off)
{
	static const uint16_t at[] = { CTRL_EXT, FCAL, FCAH, FCT, VET, ITR,
		FCTTV, TXCW, TIPG, AIFS, LEDCTL, PBA, FCRTL, FCRTH, RDBAH,
		RDTR, RXDCTL, RADV, RSRPD, TDBAH, TIDV, TXDCTL, TADV, TSPMT,
		RXCSUM, TCTL };
	size_t i;

	if ((off >= MTA && off < MTA + 0x200) || (off >= RA && off < RA + 0x80)
	    || (off >= VFTA && off < VFTA + 0x200) ||
	    (off >= WUC && off < 0x5b00))
		return true;
	for (i = 0; i < sizeof at / sizeof *at; i++)
		if (at[i] == off)
			return true;
	return false;
}

static uint32_t
reg_read(struct devctx *d, unsigned off)
{
	struct e1000 *s = d->st;
	uint32_t v;

	if (off >= REG_END)
		return 0;
	v = *e1000_reg(s, off);
	if (off >= STATS && off < STATS_END)
		return stat_read(s, off);
	switch (off) {
	case ICR:
		*e1000_reg(s, ICR) = 0;
		irq(d);
		return v;
	case ICS: case IMC:
		return 0;			/* write-only */
	}
	return v;
}

static void
reg_write(struct devctx *d, unsigned off, uint32_t v)
{
	struct e1000 *s = d->st;
	struct e1000_priv *p = d->priv;
	uint32_t *r;

	if (off >= REG_END)
		return;
	r = e1000_reg(s, off);
	switch (off) {
	case CTRL:
		if (v & CTRL_PHY_RST)
			phy_reset(s);
		if (v & CTRL_RST) {
			soft_reset(d);
			return;
		}
		*r = v & ~(uint32_t)CTRL_PHY_RST;
		link_show(d);
		return;
	case EECD:
		eecd_write(s, v);
		return;
	case EERD:
		*r = v & EERD_START ? (v & 0xff00) | EERD_DONE |
		    (uint32_t)s->ee.word[v >> 8 & (EE_WORDS - 1)] << 16 : v & 0xff00;
		return;
	case MDIC:
		mdic_write(d, v);
		return;
	case ICR:				/* writing ones clears */
		*r &= ~v;
		irq(d);
		return;
	case ICS:
		e1000_cause(d, v & 0x1ffff);
		return;
	case IMS:
		*r |= v & 0x1ffff;
		irq(d);
		return;
	case IMC:
		*e1000_reg(s, IMS) &= ~v;
		irq(d);
		return;
	case RCTL:
		*r = v;
		if (d->running)
			nic_more(&p->nic);
		return;
	case RDBAL: case TDBAL:
		*r = v & ~15u;
		return;
	case RDLEN: case TDLEN:
		*r = v & 0xfff80;
		return;
	case RDH: case TDH:
		*r = v & 0xffff;
		return;
	case RDT:
		*r = v & 0xffff;
		if (d->running)
			nic_more(&p->nic);
		return;
	case TDT:
		*r = v & 0xffff;
		e1000_transmit(d);
		return;
	}
	if (plain(off)) {
		*r = v;
		if (off == TCTL)
			e1000_transmit(d);
	}
}

static uint64_t
e1000_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct e1000 *s = d->st;
	uint32_t v;

	if (range == RANGE_IO) {		/* SDM 13.1.2 */
		v = off / 4 == 0 ? s->ioaddr : off / 4 == 1 ?
		    reg_read(d, s->ioaddr & 0x1fffc) : 0;
	} else {
		v = reg_read(d, (unsigned)off & 0x1fffc);
	}
	return v >> off % 4 * 8;
}

static void
e1000_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct e1000 *s = d->st;

	if (size != 4 || off % 4) {
		dev_guest_error(d, "e1000: access of a part of a register", off);
		return;
	}
	if (range == RANGE_IO) {
		if (off == 0)
			s->ioaddr = (uint32_t)val;
		else if (off == 4)
			reg_write(d, s->ioaddr & 0x1fffc, (uint32_t)val);
	} else {
		reg_write(d, (unsigned)off & 0x1fffc, (uint32_t)val);
	}
}

/* -------------------------------------------------------------- life cycle */

static void
rx_end(struct devctx *d)
{
	struct e1000_priv *p = d->priv;

	if (p->pending)
		e1000_cause(d, INT_RXT0);
	p->pending = false;
}

static const struct nic_ops nic_ops = {
	.rx = e1000_rx, .rx_end = rx_end, .room = e1000_transmit,
	.link = link_changed,
};

static const struct pci_fn pci_fn = {
	NIC_PCI(0x8086, 0x100e, 0x02000003),
	.bar = {
		NIC_PCI_BAR(0x20000, SPACE_MEM, RANGE_MEM),
		NIC_PCI_BAR(0x40, SPACE_IO, RANGE_IO),
	},
	.state = offsetof(struct e1000, pci) + 1,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	return nic_pci_open(d, &pci_fn, &nic_ops, why, whylen);
}

static void
reset(struct devctx *d)
{
	struct e1000 *s = d->st;

	ee_fill(d);
	s->ee.writable = 0;
	s->ioaddr = 0;
	phy_reset(s);
	soft_reset(d);
	pci_reset(d, &pci_fn);
}

static void
loaded(struct devctx *d)
{
	pci_loaded(d, &pci_fn);
	irq(d);
}

static void
run(struct devctx *d)
{
	struct e1000 *s = d->st;
	struct e1000_priv *p = d->priv;

	if (!(*e1000_reg(s, STATUS) & ST_LU) == nic_link(&p->nic))
		link_changed(d);	/* it changed while nobody looked */
	e1000_transmit(d);
	nic_run(&p->nic);
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x100e8086 },
	{ 'C', 0, 4, 0x08, 0x02000003 },
	{ 'r', 0, 4, STATUS, 0x781 },		/* no cable */
	{ 'r', 0, 4, RA, 0x12005452 },
	{ 'r', 0, 4, RA + 4, 0x80005634 },
	{ 'w', 0, 4, EERD, 0x0101 },		/* word 1 */
	{ 'r', 0, 4, EERD, 0x12000110 },
	{ 'w', 0, 4, MDIC, 0x08220000 },	/* PHY 1, register 2 */
	{ 'r', 0, 4, MDIC, 0x18220141 },
	{ 'w', 0, 4, MDIC, 0x08420000 },	/* no PHY 2 */
	{ 'r', 0, 4, MDIC, 0x40000000, 0x40000000 },
	{ 'w', 0, 4, IMS, 4 },
	{ 'r', 0, 4, IMS, 4 },
	{ 'i', 0, 0, 26, 0 },			/* slot 2, INTA: PIRQC */
	{ 'w', 0, 4, ICS, 4 },
	{ 'i', 0, 0, 26, 1 },
	{ 'r', 0, 4, ICR, 4 },			/* and cleared by that */
	{ 'i', 0, 0, 26, 0 },
	{ 'w', 0, 4, ITR, 1000 },		/* 256 us between two */
	{ 'w', 0, 4, ICS, 4 },
	{ 'i', 0, 0, 26, 1 },
	{ 'r', 0, 4, ICR, 4 },
	{ 'w', 0, 4, ICS, 4 },
	{ 'i', 0, 0, 26, 0 },
	{ 't', 0, 0, 0, 256000 },
	{ 'i', 0, 0, 26, 1 },
	{ 'w', 0, 4, IMC, 4 },
	{ 'i', 0, 0, 26, 0 },
	{ 'w', 1, 4, 0, IMS },			/* the I/O window */
	{ 'w', 1, 4, 4, 0x80 },
	{ 'r', 0, 4, IMS, 0x80 },
	{ 'w', 0, 4, CTRL, 0x04000000 },
	{ 'r', 0, 4, IMS, 0 },
	{ 0 }
};

const struct dev e1000 = {
	.name = "e1000",
	.desc = "Intel 82540EM Gigabit Ethernet controller",
	.spec = "Intel 317453, PCI/PCI-X Family of Gigabit Ethernet Controllers",
	.state_size = sizeof(struct e1000),
	.fields = fields,
	.opts_size = sizeof(struct nic_pci_opts),
	.opts = nic_pci_opts,
	.priv_size = sizeof(struct e1000_priv),
	.init = init,
	.reset = reset,
	.read = e1000_read,
	.write = e1000_write,
	.config = nic_pci_config,
	.loaded = loaded,
	.stop = nic_dev_stop,
	.run = run,
	.ask = nic_dev_ask,
	.quit = nic_dev_quit,
	.tests = tests,
};
DEV_MAIN(e1000);
