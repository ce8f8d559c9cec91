/*
 * ne2k_pci.c - Realtek RTL8029AS, an NE2000 (dp8390.h) on PCI: 32 ports in BAR 0.
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 */
#include "dp8390.h"

struct ne2k {
	struct pci_state pci;
	struct dp8390	dp;
};

static const struct field fields[] = {
	PCI_FIELDS(ne2k, pci), DP_FIELDS(ne2k, dp), FIELD_END
};

static const struct pci_fn pci_fn = {
	NIC_PCI(0x10ec, 0x8029, 0x02000000),
	.bar = { NIC_PCI_BAR(DP_PORTS, SPACE_IO, 0) },
	.state = offsetof(struct ne2k, pci) + 1,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	dp_init(d, &((struct ne2k *)d->st)->dp, pci_intx);
	return nic_pci_open(d, &pci_fn, &dp_nic_ops, why, whylen);
}

static void
reset(struct devctx *d)
{
	dp_reset(d);
	pci_reset(d, &pci_fn);
}

static void
loaded(struct devctx *d)
{
	pci_loaded(d, &pci_fn);
	dp_loaded(d);
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x802910ec },
	{ 'r', 0, 1, 0x00, 0x21 },		/* stopped */
	{ 'r', 0, 1, 0x07, 0x80 },
	{ 'r', 0, 2, 0x0a, 0x4350 },		/* an RTL8029 */
	{ 'w', 0, 1, 0x0e, 0x49 },		/* words */
	{ 'w', 0, 1, 0x0a, 32 },
	{ 'w', 0, 1, 0x00, 0x0a },		/* read the PROM */
	{ 'r', 0, 1, 0x10, 0x52 },
	{ 'r', 0, 2, 0x10, 0x5454 },
	{ 'r', 0, 4, 0x10, 0x12120000 },
	{ 'w', 0, 1, 0x0f, 0x40 },
	{ 'w', 0, 1, 0x08, 0x00 },		/* write four bytes, read them */
	{ 'w', 0, 1, 0x09, 0x40 },
	{ 'w', 0, 2, 0x0a, 4 },
	{ 'w', 0, 1, 0x00, 0x12 },
	{ 'i', 0, 0, 26, 0 },
	{ 'w', 0, 4, 0x10, 0x11223344 },
	{ 'i', 0, 0, 26, 1 },			/* remote DMA complete */
	{ 'w', 0, 1, 0x07, 0x40 },
	{ 'i', 0, 0, 26, 0 },
	{ 'w', 0, 2, 0x08, 0x4002 },
	{ 'w', 0, 2, 0x0a, 2 },
	{ 'w', 0, 1, 0x00, 0x0a },
	{ 'r', 0, 2, 0x10, 0x1122 },
	{ 'r', 0, 1, 0x1f, 0 },			/* reset */
	{ 'r', 0, 1, 0x07, 0x80 },
	{ 'w', 0, 1, 0x00, 0x61 },		/* page 1 */
	{ 'r', 0, 4, 0x01, 0x12005452 },
	{ 0 }
};

const struct dev ne2k_pci = {
	.name = "ne2k_pci",
	.desc = "NE2000 on PCI, Realtek RTL8029AS",
	.spec = "National DP8390D and Realtek RTL8029AS data sheets",
	.state_size = sizeof(struct ne2k),
	.fields = fields,
	.opts_size = sizeof(struct nic_pci_opts),
	.opts = nic_pci_opts,
	.priv_size = sizeof(struct dp_priv),
	.init = init,
	.reset = reset,
	.read = dp_read,
	.write = dp_write,
	.config = nic_pci_config,
	.loaded = loaded,
	.stop = nic_dev_stop,
	.run = dp_run,
	.ask = nic_dev_ask,
	.quit = nic_dev_quit,
	.tests = tests,
};
DEV_MAIN(ne2k_pci);
