/*
 * pm.c - power management of the 82371AB PIIX4, PCI function 3 of the ISA
 * bridge (Intel 290562, section 7): ACPI PM1 and PM timer registers, the SMI
 * command port, SMBus host registers; and a block of general purpose events at
 * AFE0h (ACPI 6.5, 4.8).  SCI is IRQ 9, level, active high.
 *
 * Theory of operation.  The PM timer is computed by the vcpu from the guest
 * clock (range kind counter); its overflow bit TMR_STS is worked out when PM1
 * status is read, and a timer runs only while TMR_EN is set.  There is no SMI:
 * the command port sets or clears SCI_EN itself, as firmware's handler would.
 * Reset leaves the I/O bases where a firmware would have put them (PMBASE
 * B000h, SMBus B100h), unless setup=off.
 *
 * The SMBus has nobody on it: every transfer ends with a device error.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev.h"

#define HZ		3579545ull
#define PMBASE		0xb000
#define SMBBASE		0xb100
#define GPEBASE		0xafe0
#define SCI		9

enum { R_PM1, R_CNT, R_TMR, R_REST, R_GPE, R_APM, R_SMB };
/* configuration registers */
enum { C_PMBASE = 0x40, C_PMREGMISC = 0x80, C_SMBBASE = 0x90, C_SMBCFG = 0xd2,
	C_SMBREV = 0xd6 };
/* PM1 status and enable */
enum { TMR = 1, BM = 0x10, GBL = 0x20, PWRBTN = 0x100, RTC = 0x400,
	WAK = 0x8000 };
enum { PM1_STS = TMR | BM | GBL | PWRBTN | RTC | WAK,
	PM1_EN = TMR | GBL | PWRBTN | RTC };
/* PM1 control */
enum { SCI_EN = 1, BM_RLD = 2, GBL_RLS = 4, SLP_TYP = 0x1c00, SLP_EN = 0x2000 };
/* values of port B2h that the FADT names */
enum { ACPI_ON = 0xf1, ACPI_OFF = 0xf0 };
/* SMBus */
enum { SMB_STS, SMB_CNT = 2, SMB_NREG = 16 };
enum { SMB_INTR = 2, SMB_DEV_ERR = 4, SMB_START = 0x40 };

struct pm {
	uint16_t	sts, en;	/* PM1 */
	uint16_t	cnt;
	uint16_t	gpe_sts, gpe_en;
	uint8_t		apm[2];		/* ports B2h, B3h */
	uint8_t		rest[0x34];	/* PMBASE + 0Ch.. */
	uint8_t		smb[SMB_NREG];
	int64_t		overflow;	/* guest ns of the next TMR_STS */
	struct pci_state pci;
};

struct opts {
	bool		setup;
};

struct priv {
	int		source;
	unsigned	base, smb;	/* as claimed; 0: not */
};

static const struct field fields[] = {
	FIELD(pm, sts), FIELD(pm, en), FIELD(pm, cnt), FIELD(pm, gpe_sts),
	FIELD(pm, gpe_en), FIELDS(pm, apm), FIELDS(pm, rest),
	FIELDS(pm, smb), FIELD(pm, overflow), PCI_FIELDS(pm, pci), FIELD_END
};

static const struct opt opts[] = {
	{ "setup", OPT_BOOL, offsetof(struct opts, setup), "on",
	    "on: I/O bases set at reset, as firmware does; off: as the chip",
	    NULL },
	{ 0 }
};

static const struct pci_fn function = {
	.vendor = 0x8086, .device = 0x7113, .class_rev = 0x06800003,
	.subvendor = 0x1af4, .subdevice = 0x1100,
	.state = offsetof(struct pm, pci) + 1,
};

/* --------------------------------------------------------------------- SCI */

/* Guest ns at which the 24-bit timer's top bit changes next after `now`. */
static int64_t
next_overflow(int64_t now)
{
	uint64_t half = 1 << 23;
	uint64_t t = (uint64_t)now / 1000000000 * HZ +
	    (uint64_t)now % 1000000000 * HZ / 1000000000;

	t = (t / half + 1) * half;
	return (int64_t)(t / HZ * 1000000000 +
	    (t % HZ * 1000000000 + HZ - 1) / HZ);
}

static void update(struct devctx *);

/* Has the timer run over since the last look? */
static void
timer_status(struct devctx *d)
{
	struct pm *p = d->st;
	int64_t now = dev_clock(d);

	if (now < p->overflow)
		return;
	p->sts |= TMR;
	p->overflow = next_overflow(now < 0 ? 0 : now);
}

static void
update(struct devctx *d)
{
	struct priv *h = d->priv;
	struct pm *p = d->st;
	bool on;

	timer_status(d);
	on = p->sts & p->en & PM1_EN || p->gpe_sts & p->gpe_en;
	dev_irq(d, SCI, h->source, on && p->cnt & SCI_EN);
	dev_timer(d, 0, p->en & TMR ? p->overflow : -1, update);
}

/* ---------------------------------------------------- bytes of a register */

/* Merge a write of `size` bytes at `off` into the little-endian number `old`. */
static uint32_t
merge(uint32_t old, uint64_t off, unsigned size, uint64_t val, unsigned bytes)
{
	unsigned i;

	for (i = 0; i < size && off + i < bytes; i++) {
		old &= ~(0xffu << (off + i) * 8);
		old |= (uint32_t)(val >> i * 8 & 0xff) << (off + i) * 8;
	}
	return old;
}

static uint64_t
bytes(const uint8_t *p, size_t n, uint64_t off, unsigned size)
{
	uint64_t v = 0;
	unsigned i;

	for (i = 0; i < size && off < n && i < n - off; i++)
		v |= (uint64_t)p[off + i] << i * 8;
	return v;
}

/* ------------------------------------------------------------- registers */

static void
sleep_now(struct devctx *d, unsigned type)
{
	if (type == 0)
		dev_event(d, "poweroff");
	else
		dev_guest_error(d, "unsupported sleep type", type);
}

static void
write_cnt(struct devctx *d, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = d->st;
	uint32_t v = merge(p->cnt, off, size, val, 2);

	/* SCI_EN is firmware's; SLP_EN and GBL_RLS read as 0 */
	p->cnt = (uint16_t)((p->cnt & SCI_EN) | (v & (BM_RLD | SLP_TYP)));
	if (v & SLP_EN)
		sleep_now(d, (v & SLP_TYP) >> 10);
}

static void
write_pm1(struct devctx *d, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = d->st;
	uint32_t clear;

	timer_status(d);
	clear = merge(0, off, size, val, 2);
	p->sts &= (uint16_t)~(clear & PM1_STS);
	p->en = (uint16_t)(merge(p->sts | (uint32_t)p->en << 16, off, size,
	    val, 4) >> 16) & PM1_EN;
	update(d);
}

static void
write_gpe(struct devctx *d, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = d->st;

	p->gpe_sts &= (uint16_t)~merge(0, off, size, val, 2);
	p->gpe_en = (uint16_t)(merge((uint32_t)p->gpe_en << 16, off, size, val,
	    4) >> 16);
	update(d);
}

static void
write_apm(struct devctx *d, uint64_t off, unsigned size, uint64_t val)
{
	struct pm *p = d->st;
	unsigned i;

	for (i = 0; i < size && off + i < 2; i++)
		p->apm[off + i] = (uint8_t)(val >> i * 8);
	if (off != 0)
		return;
	if (p->apm[0] == ACPI_ON)
		p->cnt |= SCI_EN;
	else if (p->apm[0] == ACPI_OFF)
		p->cnt &= (uint16_t)~SCI_EN;
	update(d);
}

static void
write_smb(struct devctx *d, uint64_t off, uint8_t v)
{
	struct pm *p = d->st;

	switch (off) {
	case SMB_STS:
		p->smb[SMB_STS] &= (uint8_t)~v;
		return;
	case SMB_CNT:
		p->smb[SMB_CNT] = v & 0x1f;
		if (v & SMB_START)
			p->smb[SMB_STS] |= SMB_DEV_ERR;
		return;
	case 1:					/* slave status */
		return;
	}
	if (off < SMB_NREG)
		p->smb[off] = v;
}

static uint64_t
pm_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct pm *p = d->st;
	uint64_t t;
	uint8_t b[4];

	switch (range) {
	case R_PM1:
		timer_status(d);
		update(d);
		b[0] = (uint8_t)p->sts;
		b[1] = (uint8_t)(p->sts >> 8);
		b[2] = (uint8_t)p->en;
		b[3] = (uint8_t)(p->en >> 8);
		return bytes(b, 4, off, size);
	case R_CNT:
		b[0] = (uint8_t)p->cnt;
		b[1] = (uint8_t)(p->cnt >> 8);
		return bytes(b, 2, off, size);
	case R_TMR:
		t = (uint64_t)dev_clock(d);
		t = t / 1000000000 * HZ + t % 1000000000 * HZ / 1000000000;
		return off < 4 ? (t & 0xffffff) >> off * 8 : 0;
	case R_REST:
		return bytes(p->rest, sizeof p->rest, off, size);
	case R_GPE:
		b[0] = (uint8_t)p->gpe_sts;
		b[1] = (uint8_t)(p->gpe_sts >> 8);
		b[2] = (uint8_t)p->gpe_en;
		b[3] = (uint8_t)(p->gpe_en >> 8);
		return bytes(b, 4, off, size);
	case R_APM:
		return bytes(p->apm, 2, off, size);
	case R_SMB:
		return bytes(p->smb, SMB_NREG, off, size);
	}
	return ~0ull;
}

static void
pm_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct pm *p = d->st;
	unsigned i;

	if (off > 0xff)
		return;
	switch (range) {
	case R_PM1:
		write_pm1(d, off, size, val);
		break;
	case R_CNT:
		write_cnt(d, off, size, val);
		break;
	case R_REST:			/* kept; only the first two registers
					 * have status bits, and none is set */
		for (i = 0; i < size && off + i < sizeof p->rest; i++)
			if (off + i >= 2)
				p->rest[off + i] = (uint8_t)(val >> i * 8);
		break;
	case R_GPE:
		write_gpe(d, off, size, val);
		break;
	case R_APM:
		write_apm(d, off, size, val);
		break;
	case R_SMB:
		for (i = 0; i < size; i++)
			write_smb(d, off + i, (uint8_t)(val >> i * 8));
		break;
	}
}

/* ------------------------------------------------------------ PCI function */

static void
claim(struct devctx *d, unsigned range, uint64_t start, uint64_t len,
    enum range_kind kind, uint64_t off, unsigned width)
{
	if (dev_range_set(d, range, SPACE_IO, start, len, kind, off, width,
	    0) < 0)
		dev_guest_error(d, "I/O base is taken", start);
}

static void
claim_pm(struct devctx *d, unsigned base)
{
	bool on = base != 0;

	claim(d, R_PM1, base, 4, on ? RANGE_POSTED : RANGE_NONE, 0, 0);
	claim(d, R_CNT, base + 4, 2, on ? RANGE_SHADOW : RANGE_NONE,
	    offsetof(struct pm, cnt), 0);
	claim(d, R_TMR, base + 8, 4, on ? RANGE_COUNTER : RANGE_NONE, HZ, 24);
	claim(d, R_REST, base + 12, sizeof ((struct pm *)0)->rest,
	    on ? RANGE_SHADOW : RANGE_NONE, offsetof(struct pm, rest), 0);
}

/* Claim what the configuration registers say, where that changed. */
static void
decode(struct devctx *d)
{
	struct priv *h = d->priv;
	const uint8_t *c = d->cfg;
	unsigned base = 0, smb = 0;

	if (c[C_PMREGMISC] & 1)
		base = (unsigned)(c[C_PMBASE] | c[C_PMBASE + 1] << 8) & 0xffc0;
	if (c[C_SMBCFG] & 1)
		smb = (unsigned)(c[C_SMBBASE] | c[C_SMBBASE + 1] << 8) & 0xfff0;
	if (base != h->base)
		claim_pm(d, base);
	if (smb != h->smb)
		claim(d, R_SMB, smb, SMB_NREG, smb ? RANGE_SHADOW : RANGE_NONE,
		    offsetof(struct pm, smb), 0);
	h->base = base;
	h->smb = smb;
}

static void
pm_config(struct devctx *d, unsigned fn, unsigned off, unsigned size,
    uint32_t val)
{
	pci_config(d, &function, off, size, val);
	decode(d);
}

static void
set(struct devctx *d, unsigned off, unsigned size, uint32_t val)
{
	pci_config(d, &function, off, size, val);
}

/* -------------------------------------------------------------- life cycle */

static int
pm_init(struct devctx *d, char *why, size_t whylen)
{
	struct priv *h = d->priv;

	h->source = dev_line(d, SCI);
	if (h->source < 0) {
		snprintf(why, whylen, "IRQ %d: %s", SCI, strerror(errno));
		return -1;
	}
	if (pci_init(d, &function, 1 << 3 | 3) < 0) {
		snprintf(why, whylen, "PCI 00:01.3: %s", strerror(errno));
		return -1;
	}
	d->cfg[C_PMBASE] = d->cfg[C_SMBBASE] = 1;	/* I/O, read-only */
	d->cfg[C_SMBREV] = 0;
	pci_writable(d, C_PMBASE, 1, 0xc0);
	pci_writable(d, C_PMBASE + 1, 1, 0xff);
	pci_writable(d, C_PMBASE + 4, 0x1e, 0xff);	/* counters, device
							 * resources */
	pci_writable(d, C_PMREGMISC, 1, 1);
	pci_writable(d, C_SMBBASE, 1, 0xf0);
	pci_writable(d, C_SMBBASE + 1, 1, 0xff);
	pci_writable(d, C_SMBCFG, 4, 0xff);
	if (dev_range_set(d, R_GPE, SPACE_IO, GPEBASE, 4, RANGE_POSTED, 0, 0,
	    0) < 0 || dev_range_set(d, R_APM, SPACE_IO, 0xb2, 2, RANGE_SHADOW,
	    offsetof(struct pm, apm), 0, 0) < 0) {
		snprintf(why, whylen, "port 0xafe0 or 0xb2: %s",
		    strerror(errno));
		return -1;
	}
	return 0;
}

static void
pm_reset(struct devctx *d)
{
	struct opts *o = d->opts;
	struct pm *p = d->st;
	unsigned i;

	pci_reset(d, &function);
	for (i = 0x40; i < 0x100; i += 4)
		set(d, i, 4, 0);
	if (o->setup) {
		set(d, C_PMBASE, 2, PMBASE);
		set(d, C_PMREGMISC, 1, 1);
		set(d, C_SMBBASE, 2, SMBBASE);
		set(d, C_SMBCFG, 1, 9);		/* on, IRQ 9 */
		set(d, 4, 2, 1);		/* command: I/O */
	}
	p->sts = p->en = p->cnt = p->gpe_sts = p->gpe_en = 0;
	memset(p->apm, 0, sizeof p->apm);
	memset(p->rest, 0, sizeof p->rest);
	memset(p->smb, 0, sizeof p->smb);
	p->overflow = next_overflow(dev_clock(d));
	decode(d);
	update(d);
}

static void
pm_loaded(struct devctx *d)
{
	struct priv *h = d->priv;

	pci_loaded(d, &function);
	h->base = h->smb = ~0u;
	decode(d);
	update(d);
}

static void
power_button(struct devctx *d)
{
	struct pm *p = d->st;

	p->sts |= PWRBTN;
	update(d);
}

static void
pm_event(struct devctx *d, const char *from, char **argv)
{
	if (strcmp(from, "bus") == 0 && strcmp(argv[0], "powerdown") == 0)
		power_button(d);
}

static int
pm_ask(struct devctx *d, char **argv, FILE *out)
{
	if (strcmp(argv[0], "powerbutton") != 0)
		return ENOTSUP;
	power_button(d);
	return 0;
}

#define FN	(1 << 3 | 3)
#define IN(r, o, s, v)	{ 'r', r, s, o, v }
#define OUT(r, o, s, v)	{ 'w', r, s, o, v }

static const struct dev_test tests[] = {
	{ 'C', FN, 4, 0, 0x71138086 }, { 'C', FN, 4, C_PMBASE, 0xb001 },
	{ 'C', FN, 4, C_SMBBASE, 0xb101 },
	IN(R_PM1, 0, 2, 0), IN(R_PM1, 2, 2, 0), IN(R_CNT, 0, 2, 0),
	/* ACPI on and off by the command port */
	OUT(R_APM, 0, 1, ACPI_ON), IN(R_CNT, 0, 2, SCI_EN),
	OUT(R_APM, 0, 1, ACPI_OFF), IN(R_CNT, 0, 2, 0),
	OUT(R_APM, 0, 1, ACPI_ON), IN(R_APM, 0, 1, ACPI_ON),
	/* overflow of the timer: status always, SCI when enabled */
	{ 't', 0, 1, 0, 2400000000 }, { 'i', 0, 1, SCI, 0 },
	IN(R_PM1, 0, 2, TMR), OUT(R_PM1, 2, 2, TMR), { 'i', 0, 1, SCI, 1 },
	OUT(R_PM1, 0, 2, TMR), { 'i', 0, 1, SCI, 0 }, IN(R_PM1, 0, 2, 0),
	IN(R_PM1, 0, 4, TMR << 16),
	{ 't', 0, 1, 0, 2400000000 }, { 'i', 0, 1, SCI, 1 },
	OUT(R_PM1, 2, 1, 0), { 'i', 0, 1, SCI, 0 },
	OUT(R_PM1, 3, 1, PWRBTN >> 8), IN(R_PM1, 2, 2, PWRBTN),
	/* SLP_TYP is kept, SLP_EN not */
	OUT(R_CNT, 0, 2, 5 << 10 | SCI_EN), IN(R_CNT, 0, 2, 5 << 10 | SCI_EN),
	/* general purpose events */
	OUT(R_GPE, 2, 1, 0x05), IN(R_GPE, 0, 4, 0x50000),
	/* nobody on the SMBus */
	OUT(R_SMB, 4, 1, 0xa1), OUT(R_SMB, SMB_CNT, 1, SMB_START | 8),
	IN(R_SMB, SMB_STS, 1, SMB_DEV_ERR), OUT(R_SMB, SMB_STS, 1, 0xff),
	IN(R_SMB, SMB_STS, 1, 0),
	{ 'R' }, IN(R_CNT, 0, 2, 0), IN(R_PM1, 0, 4, 0),
	{ 0 }
};

static const struct dev pm = {
	.name = "pm",
	.desc = "PIIX4 power management: ACPI registers, SMBus",
	.spec = "Intel 290562 (82371AB), section 7; ACPI 6.5, 4.8",
	.state_size = sizeof(struct pm),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.priv_size = sizeof(struct priv),
	.init = pm_init,
	.reset = pm_reset,
	.read = pm_read,
	.write = pm_write,
	.config = pm_config,
	.loaded = pm_loaded,
	.event = pm_event,
	.ask = pm_ask,
	.tests = tests,
};
DEV_MAIN(pm);
