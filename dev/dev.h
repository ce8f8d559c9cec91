/*
 * dev.h - what a chip is.  A chip is one file in dev/ with one `const struct
 * dev`; dev.c gives it main(), options, protocol, save/load and sandbox when it
 * is a process, cpu/placed.c when it is linked into the vcpu.
 *
 * A chip never exits, asserts or blocks because of what a guest does.
 */
#ifndef DEV_H
#define DEV_H

#include "../bus/bus.h"

/* ------------------------------------------------------------ state fields
 * Every member of the state struct is listed, once; what load() recomputes
 * is FIELD_DERIVED.  Saved little-endian as name, size and bytes.
 */
struct field {
	const char	*name;
	uint32_t	off;
	uint32_t	size;		/* of one element: 1, 2, 4, 8, or any for
					 * an opaque byte array with n == 1 */
	uint32_t	n;		/* elements */
	bool		derived;
};
#define FIELD(st, m)	{ #m, offsetof(struct st, m), \
	sizeof(((struct st *)0)->m), 1, false }
#define FIELDS(st, m)	{ #m, offsetof(struct st, m), \
	sizeof(((struct st *)0)->m[0]), \
	sizeof(((struct st *)0)->m) / sizeof(((struct st *)0)->m[0]), false }
#define FIELD_DERIVED(st, m) { #m, offsetof(struct st, m), \
	sizeof(((struct st *)0)->m), 1, true }
#define FIELD_END	{ 0 }

/* -------------------------------------------------- ranges fixed at design */
struct dev_range {
	enum space	space;
	enum range_kind	kind;
	uint64_t	start, len;	/* len 0 ends the table */
	uint64_t	shadow;		/* offset in the state struct of the byte
					 * that mirrors `start` (rom, shadow,
					 * status); counter: Hz */
	unsigned	bits;		/* counter width */
	const char	*what;		/* "data", for vm-tap and info mtree */
};

struct devctx;

struct dev {
	const char	*name;		/* "uart16550": program dev-uart16550 */
	const char	*desc;		/* one line for -device help */
	const char	*spec;		/* datasheet or specification */
	size_t		state_size;	/* struct of guest-visible state, zeroed */
	const struct field *fields;
	size_t		opts_size;	/* struct filled by opts, lives as long
					 * as the chip */
	const struct opt *opts;
	const struct dev_range *ranges;	/* claimed before init; index = range */
	size_t		priv_size;	/* host-side things (descriptors), zeroed;
					 * not saved */

	/* all optional except read/write where ranges need them */
	int	(*init)(struct devctx *, char *why, size_t whylen);
	void	(*reset)(struct devctx *);	/* power-on values into state */
	uint64_t (*read)(struct devctx *, unsigned range, uint64_t off,
		    unsigned size);
	void	(*write)(struct devctx *, unsigned range, uint64_t off,
		    unsigned size, uint64_t val);
	/* string port I/O; default: repeated read/write */
	void	(*bell)(struct devctx *, uint64_t queues);
	void	(*config)(struct devctx *, unsigned fn, unsigned off,
		    unsigned size, uint32_t val);
	void	(*loaded)(struct devctx *);	/* state was replaced: recompute
						 * derived fields, re-raise lines,
						 * re-claim ranges, re-arm timers */
	void	(*stop)(struct devctx *);	/* drain host I/O; idempotent */
	void	(*run)(struct devctx *);
	int	(*ask)(struct devctx *, char **argv, FILE *out);
	/* an event of another part ("bus": the broker); subscribes */
	void	(*event)(struct devctx *, const char *from, char **argv);
	void	(*quit)(struct devctx *);
	const struct dev_test *tests;	/* vectors run by --selftest */
};

/* A test vector: on a chip fresh from reset, do, in order. */
struct dev_test {
	char		op;	/* 'w' write, 'r' read and compare, 'R' reset,
				 * 'i' line `off` must be at level `val`,
				 * 't' let `val` ns of guest time pass,
				 * 'c' PCI config write (range = devfn), 'C' read
				 * and compare; 0 ends the table */
	uint8_t		range, size;
	uint64_t	off, val, mask;	/* mask 0: all bits of size */
};

/* The host a chip runs in: functions differ between a process and the vcpu. */
struct dev_host {
	int	(*range)(struct devctx *, unsigned range, enum space,
		    uint64_t start, uint64_t len, enum range_kind,
		    uint64_t off, unsigned bits, unsigned prio);
	int	(*line)(struct devctx *, unsigned line);	/* -> source */
	void	(*irq)(struct devctx *, unsigned line, int source, int level);
	void	(*msi)(struct devctx *, unsigned n, uint64_t addr, uint32_t data);
	int	(*pci)(struct devctx *, int devfn);
	int64_t	(*clock)(struct devctx *);		/* guest ns */
	void	(*timer)(struct devctx *, unsigned n, int64_t guest_ns,
		    void (*fn)(struct devctx *));	/* n: 0-7, ns -1 disarms */
	int	(*event)(struct devctx *, const char *text);
	int	(*ask)(struct devctx *, const char *whom, const char *question,
		    char **reply);
};

struct devctx {
	const struct dev *dev;
	const struct dev_host *host;
	void		*st;		/* state struct */
	void		*opts;
	void		*priv;
	const char	*name;		/* part name */
	struct ram	*ram;		/* guest RAM for DMA (NULL in contract
					 * tests without RAM is not allowed) */
	uint8_t		*cfg;		/* PCI: this function's config page */
	int		devfn;		/* -1: not PCI */
	struct loop	*loop;		/* process only; NULL in the vcpu */
	struct part	*part;		/* process only */
	void		*hostarg;
	bool		running;
	char *const	*argv;		/* key=value words, for options that may
					 * be repeated; process only */
};

#define dev_range_set(d, ...)	((d)->host->range((d), __VA_ARGS__))
#define dev_line(d, l)		((d)->host->line((d), (l)))
#define dev_irq(d, l, s, v)	((d)->host->irq((d), (l), (s), (v)))
#define dev_msi(d, n, a, v)	((d)->host->msi((d), (n), (a), (v)))
#define dev_clock(d)		((d)->host->clock((d)))
#define dev_timer(d, n, t, f)	((d)->host->timer((d), (n), (t), (f)))
#define dev_event(d, t)		((d)->host->event((d), (t)))
/* Guest did something undefined: counted, logged once per place. */
void	dev_guest_error(struct devctx *, const char *what, uint64_t n);

/* Save / load by the field table; identical bytes for identical state.
 * -1 EINVAL: unknown or missing field, wrong size; state untouched. */
int	dev_save(const struct dev *, const void *st, FILE *);
int	dev_load(const struct dev *, void *st, FILE *);
void	dev_info(const struct dev *, const void *st, FILE *); /* name = value */

/* The chip this program is (each dev-* program links one). */
extern const struct dev *const the_dev;
#define DEV_MAIN(d) const struct dev *const the_dev = &(d)
/* A chip placed in the vcpu is compiled with -DPLACED: then DEV_MAIN is
 * nothing and the struct is found by name. */
#ifdef PLACED
#undef DEV_MAIN
#define DEV_MAIN(d) extern const struct dev d
#endif

/* ------------------------------------------------------------------ pci.c
 * Common PCI function: config header, BARs, capabilities, INTx, MSI-X.
 */
struct pci_bar {
	uint64_t	size;		/* power of two; 0: no BAR */
	enum space	space;
	enum range_kind	kind;
	bool		is64, prefetch;
	unsigned	range;		/* range number of its first byte */
};
struct pci_fn {
	uint16_t	vendor, device, subvendor, subdevice;
	uint32_t	class_rev;	/* class << 8 | revision */
	uint8_t		header;		/* bit 7: multi-function */
	uint8_t		intpin;		/* 1-4: A-D; 0: none */
	struct pci_bar	bar[6];
	unsigned	msix_vectors;	/* 0: no MSI-X */
	unsigned	msix_bar;	/* BAR holding table (at 0) and PBA */
	size_t		state;		/* offset of a struct pci_state in the
					 * state struct + 1; 0: the chip saves
					 * its configuration itself */
};
/* What of a function is saved: PCI_FIELDS(STRUCT, MEMBER) in its table. */
struct pci_state {
	uint8_t		cfg[256];	/* as in the page, kept by pci_config */
	uint32_t	msix[MSI_MAX * 4];	/* the MSI-X table */
	uint64_t	pba;		/* its pending bits */
	uint8_t		intx;		/* level of the function's INTx */
};
#define PCI_FIELD(st, m, f, size, n) \
	{ #m "." #f, offsetof(struct st, m) + offsetof(struct pci_state, f), \
	size, n, false }
#define PCI_FIELDS(st, m) PCI_FIELD(st, m, cfg, 256, 1), \
	PCI_FIELD(st, m, msix, 4, MSI_MAX * 4), PCI_FIELD(st, m, pba, 8, 1), \
	PCI_FIELD(st, m, intx, 1, 1)
/* Where a function without an address of its own is placed; pci.c tells how
 * resources follow from it.  Value of an addr= option ("SLOT[.FN]", hex):
 * devfn, -1 for NULL (any free slot), -2 for a malformed one. */
int	pci_addr(const char *);
/* Fill the config page from `fn`, claim the function (opts key addr=). */
int	pci_init(struct devctx *, const struct pci_fn *, int devfn);
/* The same where the value of addr= says; -1 with one line in why. */
int	pci_place(struct devctx *, const struct pci_fn *, const char *addr,
	    char *why, size_t whylen);
void	pci_reset(struct devctx *, const struct pci_fn *);
/* Call from .config first: header, BARs, command, MSI-X; then the chip's own. */
void	pci_config(struct devctx *, const struct pci_fn *, unsigned off,
	    unsigned size, uint32_t val);
/* Bits a guest may write in configuration bytes off.. (after pci_init). */
void	pci_writable(struct devctx *, unsigned off, unsigned len, uint8_t mask);
/* Add a capability of len bytes; returns its offset in the page. */
unsigned pci_cap(struct devctx *, uint8_t id, const void *body, unsigned len);
/* Interrupt: MSI-X vector n if enabled, otherwise INTx level. */
void	pci_intx(struct devctx *, int level);
void	pci_msix(struct devctx *, unsigned n);
bool	pci_msix_enabled(struct devctx *);
uint64_t pci_msix_read(struct devctx *, uint64_t off, unsigned size);
void	pci_msix_write(struct devctx *, uint64_t off, unsigned size, uint64_t v);
void	pci_loaded(struct devctx *, const struct pci_fn *); /* re-claim BARs */
/* DMA window check: bus mastering on, and RAM. NULL otherwise. */
void	*pci_dma(struct devctx *, uint64_t gpa, uint64_t len);
/* Call after writing guest memory by DMA, before publishing the completion:
 * translations of overwritten code are dropped. */
void	dev_dma_wrote(struct devctx *, const void *host, uint64_t len);

#endif
