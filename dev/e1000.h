/*
 * e1000.h - shared by the files of the 82540EM (e1000.c: registers, PHY,
 * interrupts; e1000-ring.c: descriptors and frames).  "SDM" is Intel's PCI/PCI-X
 * Family of Gigabit Ethernet Controllers Software Developer's Manual (317453).
 */
#ifndef E1000_H
#define E1000_H

#include "eeprom.h"
#include "nic.h"

enum {					/* registers, SDM 13.2 */
	CTRL = 0x0000, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014,
	CTRL_EXT = 0x0018, MDIC = 0x0020, FCAL = 0x0028, FCAH = 0x002c,
	FCT = 0x0030, VET = 0x0038, ICR = 0x00c0, ITR = 0x00c4, ICS = 0x00c8,
	IMS = 0x00d0, IMC = 0x00d8, RCTL = 0x0100, FCTTV = 0x0170,
	TXCW = 0x0178, RXCW = 0x0180, TCTL = 0x0400, TIPG = 0x0410,
	AIFS = 0x0458, LEDCTL = 0x0e00, PBA = 0x1000, FCRTL = 0x2160,
	FCRTH = 0x2168, RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808,
	RDH = 0x2810, RDT = 0x2818, RDTR = 0x2820, RXDCTL = 0x2828,
	RADV = 0x282c, RSRPD = 0x2c00, TDBAL = 0x3800, TDBAH = 0x3804,
	TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820,
	TXDCTL = 0x3828, TADV = 0x382c, TSPMT = 0x3830, STATS = 0x4000,
	RXCSUM = 0x5000, MTA = 0x5200, RA = 0x5400, VFTA = 0x5600,
	WUC = 0x5800, REG_END = 0x6000
};
enum {					/* statistics, SDM 13.7 */
	PRC64 = 0x405c, GPRC = 0x4074, BPRC = 0x4078, MPRC = 0x407c,
	GPTC = 0x4080, GORCL = 0x4088, GOTCL = 0x4090, RUC = 0x40a4,
	ROC = 0x40ac, TORL = 0x40c0, TOTL = 0x40c8, TPR = 0x40d0, TPT = 0x40d4,
	PTC64 = 0x40d8, MPTC = 0x40f0, BPTC = 0x40f4, TSCTC = 0x40f8,
	STATS_END = 0x4100
};
enum { CTRL_SLU = 1u << 6, CTRL_RST = 1u << 26, CTRL_VME = 1u << 30,
	CTRL_PHY_RST = 1u << 31 };
enum { INT_TXDW = 1, INT_TXQE = 2, INT_LSC = 4, INT_RXDMT0 = 0x10,
	INT_RXT0 = 0x80, INT_MDAC = 0x200 };
enum { RCTL_EN = 2, RCTL_UPE = 8, RCTL_MPE = 0x10, RCTL_LPE = 0x20,
	RCTL_LBM = 0x40, RCTL_BAM = 0x8000, RCTL_VFE = 1 << 18,
	RCTL_BSEX = 1 << 25, RCTL_SECRC = 1 << 26 };
enum { TCTL_EN = 2, TCTL_PSP = 8 };
enum { PHY_CTRL = 0, PHY_STATUS = 1, PHY_N = 32, PHY_LOOPBACK = 0x4000 };

struct e1000 {
	struct pci_state pci;
	uint32_t	reg[REG_END / 4];
	uint16_t	phy[PHY_N];
	struct eeprom	ee;
	uint32_t	ioaddr;
	int64_t		itr_next;	/* guest ns: no interrupt before */
	uint8_t		ctx[16];	/* the last context descriptor */
};

struct e1000_priv {
	struct nic	nic;		/* first: nic_dev_* */
	bool		pending;	/* causes since the last e1000_irq */
};

static inline uint32_t *
e1000_reg(struct e1000 *s, unsigned off)
{
	return &s->reg[off / 4];
}

/* Add to a statistics register, which sticks at its end; octets: a pair. */
void	e1000_count(struct e1000 *, unsigned off, unsigned n);
void	e1000_count64(struct e1000 *, unsigned off, unsigned n);
/* Set causes and interrupt if they are not masked. */
void	e1000_cause(struct devctx *, uint32_t causes);

/* ---- e1000-ring.c */
/* Send what lies between head and tail; goes on later by itself if that is
 * much or the peer is slow. */
void	e1000_transmit(struct devctx *);
/* Of struct nic_ops. */
bool	e1000_rx(struct devctx *, const uint8_t *, uint32_t);

#endif
