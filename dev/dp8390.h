/*
 * dp8390.h - the NE2000: a National DP8390 with 32 KiB of memory of its own, a data
 * port and a reset port in 32 I/O ports.  ne2k_pci.c and ne2k_isa.c put it on a bus.
 */
#ifndef DP8390_H
#define DP8390_H

#include "nic.h"

#define DP_PORTS	32
#define DP_MEM		0x4000u		/* where its memory begins */
#define DP_MEM_BYTES	0x8000u

/* Guest-visible state; saved by DP_FIELDS. */
struct dp8390 {
	uint8_t		cr, isr, imr, rcr, tcr, dcr, tsr, rsr;
	uint8_t		pstart, pstop, bnry, curr, tpsr;
	uint16_t	tbcr, rsar, rbcr;
	uint8_t		par[6], mar[8];
	uint8_t		prom[32];
	uint8_t		mem[DP_MEM_BYTES];
};
#define DP_FIELD(st, m, f, size, n) \
	{ #m "." #f, offsetof(struct st, m) + offsetof(struct dp8390, f), \
	size, n, false }
#define DP_FIELDS(st, m) \
	DP_FIELD(st, m, cr, 1, 1), DP_FIELD(st, m, isr, 1, 1), \
	DP_FIELD(st, m, imr, 1, 1), DP_FIELD(st, m, rcr, 1, 1), \
	DP_FIELD(st, m, tcr, 1, 1), DP_FIELD(st, m, dcr, 1, 1), \
	DP_FIELD(st, m, tsr, 1, 1), DP_FIELD(st, m, rsr, 1, 1), \
	DP_FIELD(st, m, pstart, 1, 1), DP_FIELD(st, m, pstop, 1, 1), \
	DP_FIELD(st, m, bnry, 1, 1), DP_FIELD(st, m, curr, 1, 1), \
	DP_FIELD(st, m, tpsr, 1, 1), DP_FIELD(st, m, tbcr, 2, 1), \
	DP_FIELD(st, m, rsar, 2, 1), DP_FIELD(st, m, rbcr, 2, 1), \
	DP_FIELD(st, m, par, 1, 6), DP_FIELD(st, m, mar, 1, 8), \
	DP_FIELD(st, m, prom, 1, 32), \
	DP_FIELD(st, m, mem, DP_MEM_BYTES, 1)

/* First member of the private part. */
struct dp_priv {
	struct nic	nic;
	struct dp8390	*s;
	void		(*irq)(struct devctx *, int level);
	bool		pending;	/* frames came in: interrupt */
};

/* Before the nic is opened, with these calls. */
void	dp_init(struct devctx *, struct dp8390 *,
	    void (*irq)(struct devctx *, int level));
extern const struct nic_ops dp_nic_ops;
/* Power-on. */
void	dp_reset(struct devctx *);
/* The state was replaced, or the machine goes on. */
void	dp_loaded(struct devctx *);
void	dp_run(struct devctx *);
/* Of struct dev, off in the 32 ports. */
uint64_t dp_read(struct devctx *, unsigned range, uint64_t off, unsigned size);
void	dp_write(struct devctx *, unsigned range, uint64_t off, unsigned size,
	    uint64_t val);

#endif
