/*
 * hostbridge.c - the PC's two fixed PCI functions in one process: the 82441FX
 * host bridge 00:00.0 (Intel 290549, 3.2) and the PCI-ISA bridge of the 82371SB
 * PIIX3 00:01.0 (Intel 290550, 2.2).
 *
 * What acts here is small: the vcpu reads the PIRQ route registers 60h-63h from
 * the PIIX3's page itself, RAM sizing and shadowing (PAM, SMRAM) registers hold
 * what is written and do nothing, since no firmware needs them yet.  Reset
 * leaves the routing that firmware would have made: PIRQA and B to IRQ 10, C
 * and D to IRQ 11 (share/dsdt.asl offers the choice to the guest).
 *
 * Function 3 of slot 1, power management, is pm.c: PIIX3's header says
 * multi-function.
 */
#include <stdio.h>
#include <string.h>

#include "dev.h"

enum { PIRQ = 0x60, PAM = 0x59, SMRAM = 0x72, XBCS = 0x4e, ERRCMD = 0x90 };

struct hostbridge {
	struct pci_state north, south;
};

struct hostbridge_priv {
	struct devctx	fn[2];		/* the chip as each function */
};

static const struct field fields[] = {
	PCI_FIELDS(hostbridge, north),
	PCI_FIELDS(hostbridge, south),
	FIELD_END
};

static const struct pci_fn i440fx = {
	.vendor = 0x8086, .device = 0x1237, .class_rev = 0x06000002,
	.subvendor = 0x1af4, .subdevice = 0x1100,
	.state = offsetof(struct hostbridge, north) + 1,
};

static const struct pci_fn piix3 = {
	.vendor = 0x8086, .device = 0x7000, .class_rev = 0x06010000,
	.subvendor = 0x1af4, .subdevice = 0x1100, .header = 0x80,
	.state = offsetof(struct hostbridge, south) + 1,
};

static const struct opt opts[] = { { 0 } };

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct hostbridge_priv *h = d->priv;

	h->fn[0] = h->fn[1] = *d;
	if (pci_init(&h->fn[0], &i440fx, 0) < 0 ||
	    pci_init(&h->fn[1], &piix3, 1 << 3) < 0) {
		snprintf(why, whylen, "PCI 00:00.0 or 00:01.0 is taken");
		return -1;
	}
	pci_writable(&h->fn[0], 0x50, 2, 0xff);		/* PMCCFG etc. */
	pci_writable(&h->fn[0], 0x57, 1, 0xff);		/* DRAMC */
	pci_writable(&h->fn[0], PAM, 7, 0xff);
	pci_writable(&h->fn[0], 0x60, 8, 0xff);		/* DRB */
	pci_writable(&h->fn[0], SMRAM, 1, 0x7f);
	pci_writable(&h->fn[0], ERRCMD, 1, 0xff);
	pci_writable(&h->fn[1], 0x4c, 1, 0xff);		/* IORT */
	pci_writable(&h->fn[1], XBCS, 2, 0xff);
	pci_writable(&h->fn[1], PIRQ, 4, 0x8f);
	pci_writable(&h->fn[1], 0x69, 1, 0xfe);		/* TOM */
	pci_writable(&h->fn[1], 0x6a, 2, 0xff);		/* MSTAT */
	pci_writable(&h->fn[1], 0x70, 1, 0xcf);		/* MBIRQ */
	pci_writable(&h->fn[1], 0x76, 2, 0x8f);		/* MBDMA */
	pci_writable(&h->fn[1], 0x80, 1, 0x7f);		/* APICBASE */
	pci_writable(&h->fn[1], 0x82, 1, 0x0f);		/* DLC */
	pci_writable(&h->fn[1], 0xa0, 16, 0xff);	/* SMI control */
	return 0;
}

static void
store(struct devctx *d, const struct pci_fn *fn, unsigned off, unsigned size,
    uint32_t v)
{
	pci_config(d, fn, off, size, v);
}

static void
reset(struct devctx *d)
{
	struct hostbridge_priv *h = d->priv;
	struct devctx *n = &h->fn[0], *s = &h->fn[1];
	unsigned i;

	pci_reset(n, &i440fx);
	pci_reset(s, &piix3);
	/* both bridges are always on: command 6 and 7, status 2200h / 0200h */
	n->cfg[4] = 0x06;
	n->cfg[7] = 0x22;
	s->cfg[4] = 0x07;
	s->cfg[7] = 0x02;
	for (i = 0; i < 7; i++)			/* 0xc0000-0xfffff is RAM */
		store(n, &i440fx, PAM + i, 1, i ? 0x33 : 0x30);
	store(n, &i440fx, SMRAM, 1, 0x02);
	store(s, &piix3, 0x4c, 1, 0x4d);
	store(s, &piix3, XBCS, 2, 0x03);
	store(s, &piix3, PIRQ, 4, 0x0b0b0a0a);
	store(s, &piix3, 0x69, 1, 0x02);
	store(s, &piix3, 0x70, 1, 0x80);
	store(s, &piix3, 0x76, 2, 0x0c0c);
	store(s, &piix3, 0xa0, 1, 0x08);
	store(s, &piix3, 0xa8, 1, 0x0f);
}

static void
config(struct devctx *d, unsigned fn, unsigned off, unsigned size,
    uint32_t val)
{
	struct hostbridge_priv *h = d->priv;

	if (fn == 0)
		store(&h->fn[0], &i440fx, off, size, val);
	else if (fn == 1 << 3)
		store(&h->fn[1], &piix3, off, size, val);
}

static void
loaded(struct devctx *d)
{
	struct hostbridge_priv *h = d->priv;

	pci_loaded(&h->fn[0], &i440fx);
	pci_loaded(&h->fn[1], &piix3);
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x12378086 },
	{ 'C', 0, 4, 0x08, 0x06000002 },
	{ 'C', 8, 4, 0x00, 0x70008086 },
	{ 'C', 8, 4, 0x0c, 0x00800000 },	/* multi-function */
	{ 'C', 8, 4, PIRQ, 0x0b0b0a0a },
	{ 'c', 8, 1, PIRQ, 0xff },
	{ 'C', 8, 1, PIRQ, 0x8f },		/* bits 4-6 are reserved */
	{ 'c', 0, 4, 0x00, 0 },			/* identity is read-only */
	{ 'C', 0, 4, 0x00, 0x12378086 },
	{ 'c', 0, 4, 0x10, 0xffffffff },	/* no BARs */
	{ 'C', 0, 4, 0x10, 0 },
	{ 'C', 0, 1, PAM, 0x30 },
	{ 'c', 0, 1, PAM + 1, 0x11 },
	{ 'R' },
	{ 'C', 0, 1, PAM + 1, 0x33 },
	{ 'C', 8, 1, PIRQ, 0x0a },
	{ 0 }
};

const struct dev hostbridge = {
	.name = "hostbridge",
	.desc = "82441FX host bridge and PIIX3 PCI-ISA bridge",
	.spec = "Intel 290549, 290550",
	.state_size = sizeof(struct hostbridge),
	.fields = fields,
	.opts = opts,
	.priv_size = sizeof(struct hostbridge_priv),
	.init = init,
	.reset = reset,
	.config = config,
	.loaded = loaded,
	.tests = tests,
};
DEV_MAIN(hostbridge);
