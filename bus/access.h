/*
 * access.h - guest-physical and port accesses from outside the vcpu, for tools:
 * by the published map, through the monitor's slot (PROTOCOL.md "Tools").
 */
#ifndef ACCESS_H
#define ACCESS_H

#include "bus.h"

struct access {
	int		bus;		/* a tool's connection */
	unsigned	nvcpu;
	struct map	*map;
	struct irq_page	*irq;
	struct pci_space *pci;
	struct ram	ram;
	struct dirty	*dirty;
	int		kick;		/* vcpu 0's */
	struct chan_ref	ref[PART_MAX];
	char		why[160];	/* of the last failure */
};
/* `poke`: take the monitor's slot, too. 0 or -1 with why. */
int	access_open(struct access *, int bus, bool poke);
/* The handle of a part, fetched when first used; NULL with why. */
struct chan_ref *access_part(struct access *, unsigned num);
/* 0, or -1 with why (a range in the vcpu process). */
int	access_read(struct access *, enum space, uint64_t addr, unsigned size,
	    uint64_t *val);
int	access_write(struct access *, enum space, uint64_t addr, unsigned size,
	    uint64_t val);
int	access_string(struct access *, int write, uint64_t port, unsigned size,
	    void *buf, unsigned count);
int	access_config(struct access *, unsigned devfn, unsigned off,
	    unsigned size, uint32_t val);

/* Guest RAM was written: stale translations are dropped. */
void	access_wrote(struct access *, const void *p, uint64_t len);

#endif
