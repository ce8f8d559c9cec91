/*
 * pcnet.h - shared by the files of the Am79C970A (pcnet.c: registers; pcnet-ring.c:
 * descriptors and frames).
 */
#ifndef PCNET_H
#define PCNET_H

#include "nic.h"

enum { C0_INIT = 1, C0_STRT = 2, C0_STOP = 4, C0_TDMD = 8, C0_TXON = 0x10,
	C0_RXON = 0x20, C0_IENA = 0x40, C0_INTR = 0x80, C0_IDON = 0x100,
	C0_TINT = 0x200, C0_RINT = 0x400, C0_MERR = 0x800, C0_MISS = 0x1000,
	C0_CAUSES = 0x7f00, C0_ERR = 0x8000 };
enum { MODE_DRX = 1, MODE_DTX = 2, MODE_LOOP = 4, MODE_DRCVPA = 0x2000,
	MODE_DRCVBC = 0x4000, MODE_PROM = 0x8000 };
enum { OWN = 0x8000, ERR = 0x4000, STP = 0x200, ENP = 0x100, RX_PAM = 0x40,
	RX_LAFM = 0x20, RX_BAM = 0x10 };
enum { BCR_LINK = 4, BCR_BUS = 18, BCR_STYLE = 20, DWIO = 0x80,
	SSIZE32 = 0x100 };
enum { CSRS = 128, BCRS = 32, LONGEST = 4096, TX_BUDGET = 256 };

struct pcnet {
	struct pci_state pci;
	uint16_t	csr[CSRS], bcr[BCRS];
	uint8_t		prom[16];
	uint16_t	rap;
	uint32_t	rx_at, tx_at;	/* descriptor to look at next */
};

struct pcnet_priv {
	struct nic	nic;		/* first: nic_dev_* */
	bool		pending;	/* frames came in: interrupt */
};

/* Entries of the ring whose length register is `csr`. */
static inline unsigned
pcnet_len(const struct pcnet *s, unsigned csr)
{
	return (0x10000u - s->csr[csr]) & 0xffff;
}

/* Causes of CSR0 are set; the interrupt follows. */
void	pcnet_irq(struct devctx *, unsigned causes);

/* ---- pcnet-ring.c */
uint32_t pcnet_base(const struct pcnet *, unsigned csr);
void	pcnet_transmit(struct devctx *);
bool	pcnet_rx(struct devctx *, const uint8_t *, uint32_t);
void	pcnet_rx_end(struct devctx *);

#endif
