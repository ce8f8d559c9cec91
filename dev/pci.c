/*
 * pci.c - what every PCI function has: the type 0 configuration header, BARs
 * and their decoding, capabilities, INTx and MSI-X (PCI Local Bus 3.0, chapters
 * 2.2.6 and 6; MSI-X 6.8.2).
 *
 * Theory of operation.  The configuration page is shared memory that the vcpu
 * reads; only writes come here.  A write changes the bits of the write mask,
 * clears the write-1-to-clear bits of the status register, and has the BARs
 * claimed again where base or decoding changed.
 *
 * Resources.  A kernel booted directly finds no firmware's assignments, so reset
 * makes them, from the function's number alone:
 *
 *	memory BARs	0xfd000000 + devfn * 64 KiB, one after the other
 *	one too large	0xf0000000 + (slot mod 13) * 16 MiB
 *	I/O BARs	0xc000 + devfn * 32, then 0xe000 + slot * 256
 *
 * Decoding is on from reset; bus mastering is the driver's to enable.  Firmware
 * that assigns resources itself just writes other addresses.
 *
 * INTx.  Pin INTA-INTD of slot S drives PIRQ (S + pin) mod 4, INTA being pin 0,
 * the wiring that _PRT in the DSDT describes.  The interrupt line register tells
 * what hostbridge.c routes at reset: PIRQA and B to 10, C and D to 11.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev.h"

enum { VENDOR = 0, DEVICE = 2, COMMAND = 4, STATUS = 6, CLASS_REV = 8,
	HEADER = 0x0e, BARS = 0x10, SUBVENDOR = 0x2c, SUBDEVICE = 0x2e,
	CAP_PTR = 0x34, INT_LINE = 0x3c, INT_PIN = 0x3d, CAP_FIRST = 0x40 };
enum { CMD_IO = 1, CMD_MEM = 2, CMD_MASTER = 4, CMD_NO_INTX = 0x400,
	CMD_WRITABLE = 0x547, STATUS_INTX = 8, STATUS_CAPS = 0x10,
	STATUS_W1C = 0xf900 };
enum { CAP_MSIX = 0x11, MSIX_MASK_ALL = 0x4000, MSIX_ENABLE = 0x8000 };
enum { PBA_OFF = 0x800 };

#define MEM_BASE	0xfd000000ull
#define MEM_WINDOW	0x10000ull
#define BIG_BASE	0xf0000000ull
#define BIG_WINDOW	0x1000000ull

struct bar_claim { uint64_t base; bool on; };

struct fn_priv {
	struct devctx	*d;
	const struct pci_fn *fn;
	struct pci_state *ps, own;
	uint8_t		w[256];		/* writable bits */
	uint8_t		fixed[256];	/* the page as init left it */
	unsigned	cap_end, cap_last, msix;	/* msix: 0 none */
	unsigned	line;
	int		source;
	struct bar_claim bar[6];
};

/* A process holds one function, the host bridge's two; the self-test makes
 * chips one after the other, so the oldest gives way. */
static struct fn_priv table[8];
static unsigned ntable;

static struct fn_priv *
priv(struct devctx *d)
{
	unsigned i;

	for (i = 0; i < sizeof table / sizeof *table; i++)
		if (table[i].d == d)
			return &table[i];
	return NULL;
}

static uint16_t
get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t
get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void
put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void
put32(uint8_t *p, uint32_t v)
{
	put16(p, v & 0xffff);
	put16(p + 2, v >> 16);
}

int
pci_addr(const char *s)
{
	unsigned long slot, fn = 0;
	char *end;

	if (!s || !*s)
		return -1;
	slot = strtoul(s, &end, 16);
	if (end == s)
		return -2;
	if (*end == '.') {
		s = end + 1;
		fn = strtoul(s, &end, 16);
		if (end == s)
			return -2;
	}
	return *end || slot > 31 || fn > 7 ? -2 : (int)(slot << 3 | fn);
}

/* The saved copy follows the page. */
static void
mirror(struct fn_priv *p)
{
	memcpy(p->ps->cfg, p->d->cfg, sizeof p->ps->cfg);
}

/* Once init is over: what no guest and no saved state changes. */
static void
fixed(struct fn_priv *p)
{
	if (get16(p->fixed) == 0)
		memcpy(p->fixed, p->d->cfg, sizeof p->fixed);
}

/* ------------------------------------------------------------------- BARs */

static uint32_t
bar_flags(const struct pci_bar *b)
{
	if (b->space == SPACE_IO)
		return 1;
	return (b->is64 ? 4 : 0) | (b->prefetch ? 8 : 0);
}

static uint64_t
bar_base(const struct fn_priv *p, unsigned i)
{
	const struct pci_bar *b = &p->fn->bar[i];
	const uint8_t *r = p->d->cfg + BARS + i * 4;
	uint64_t v = get32(r);

	if (b->space == SPACE_IO)
		return v & ~3ull;
	v &= ~15ull;
	return b->is64 ? v | (uint64_t)get32(r + 4) << 32 : v;
}

static void
bar_put(struct fn_priv *p, unsigned i, uint64_t base)
{
	const struct pci_bar *b = &p->fn->bar[i];
	uint8_t *r = p->d->cfg + BARS + i * 4;

	put32(r, (uint32_t)base | bar_flags(b));
	if (b->is64)
		put32(r + 4, (uint32_t)(base >> 32));
}

/* Claim what the registers say, where that changed. */
static void
decode(struct fn_priv *p)
{
	unsigned cmd = get16(p->d->cfg + COMMAND), i;
	const struct pci_bar *b;
	uint64_t base, top;
	bool on;

	for (i = 0; i < 6; i++) {
		b = &p->fn->bar[i];
		if (!b->size)
			continue;
		base = bar_base(p, i);
		/* base 0 and the all-ones pattern of sizing decode nothing */
		top = b->space == SPACE_IO ? 0x10000 :
		    b->is64 ? 1ull << 46 : 1ull << 32;
		on = cmd & (b->space == SPACE_IO ? CMD_IO : CMD_MEM) &&
		    base && base < top && top - base > b->size;
		if (on == p->bar[i].on && (!on || base == p->bar[i].base))
			continue;
		if (dev_range_set(p->d, b->range, b->space, base, b->size,
		    on ? b->kind : RANGE_NONE, 0, 0, 1) < 0) {
			dev_guest_error(p->d, "BAR address is taken", base);
			dev_range_set(p->d, b->range, b->space, base, b->size,
			    RANGE_NONE, 0, 0, 1);
		}
		p->bar[i].on = on;
		p->bar[i].base = base;
	}
}

static void
assign(struct fn_priv *p)
{
	unsigned devfn = (unsigned)p->d->devfn, i, slot = devfn >> 3;
	uint64_t mem = MEM_BASE + devfn * MEM_WINDOW, mem_end = mem + MEM_WINDOW;
	uint64_t big = BIG_BASE + slot % 13 * BIG_WINDOW;
	uint64_t big_end = big + BIG_WINDOW;
	uint64_t io = 0xc000 + devfn * 32, io_end = io + 32;
	uint64_t io2 = 0xe000 + slot * 256, io2_end = io2 + 256;
	uint64_t *at, *end, base;
	const struct pci_bar *b;

	for (i = 0; i < 6; i++) {
		b = &p->fn->bar[i];
		if (!b->size)
			continue;
		if (b->space == SPACE_IO) {
			at = b->size <= 32 ? &io : &io2;
			end = b->size <= 32 ? &io_end : &io2_end;
		} else {
			at = b->size <= MEM_WINDOW ? &mem : &big;
			end = b->size <= MEM_WINDOW ? &mem_end : &big_end;
		}
		base = (*at + b->size - 1) & ~(b->size - 1);
		if (base + b->size > *end)
			base = 0;		/* left to the guest */
		else
			*at = base + b->size;
		bar_put(p, i, base);
	}
}

/* ------------------------------------------------------------------- MSI-X */

static bool
msix_on(const struct fn_priv *p)
{
	return p->msix && p->d->cfg[p->msix + 3] & 0x80;
}

static bool
msix_masked(const struct fn_priv *p, unsigned n)
{
	return p->d->cfg[p->msix + 3] & 0x40 || p->ps->msix[n * 4 + 3] & 1;
}

static void
msix_send(struct fn_priv *p, unsigned n)
{
	const uint32_t *e = &p->ps->msix[n * 4];

	dev_msi(p->d, n, e[0] | (uint64_t)e[1] << 32, e[2]);
}

/* What became unmasked and is pending goes out. */
static void
msix_pending(struct fn_priv *p)
{
	unsigned n;

	if (!msix_on(p) || !p->ps->pba)
		return;
	for (n = 0; n < p->fn->msix_vectors; n++)
		if (p->ps->pba >> n & 1 && !msix_masked(p, n)) {
			p->ps->pba &= ~(1ull << n);
			msix_send(p, n);
		}
}

bool
pci_msix_enabled(struct devctx *d)
{
	struct fn_priv *p = priv(d);

	return p && msix_on(p);
}

void
pci_msix(struct devctx *d, unsigned n)
{
	struct fn_priv *p = priv(d);

	if (!p || !msix_on(p) || n >= p->fn->msix_vectors)
		return;
	if (msix_masked(p, n))
		p->ps->pba |= 1ull << n;
	else
		msix_send(p, n);
}

uint64_t
pci_msix_read(struct devctx *d, uint64_t off, unsigned size)
{
	struct fn_priv *p = priv(d);
	uint64_t v = 0;

	if (!p || off % size)
		return 0;
	if (off + size <= p->fn->msix_vectors * 16)
		memcpy(&v, (uint8_t *)p->ps->msix + off, size);
	else if (off >= PBA_OFF && off + size <= PBA_OFF + 8)
		v = p->ps->pba >> (off - PBA_OFF) * 8;
	return size < 8 ? v & ((1ull << size * 8) - 1) : v;
}

void
pci_msix_write(struct devctx *d, uint64_t off, unsigned size, uint64_t v)
{
	struct fn_priv *p = priv(d);

	if (!p || (size != 4 && size != 8) || off % size ||
	    off + size > p->fn->msix_vectors * 16)
		return;
	p->ps->msix[off / 4] = (uint32_t)v;
	if (size == 8)
		p->ps->msix[off / 4 + 1] = (uint32_t)(v >> 32);
	p->ps->msix[off / 16 * 4 + 3] &= 1;	/* the rest is reserved */
	msix_pending(p);
}

/* -------------------------------------------------------------------- INTx */

static void
intx_update(struct fn_priv *p)
{
	uint8_t *cfg = p->d->cfg;
	bool off = get16(cfg + COMMAND) & CMD_NO_INTX || msix_on(p);

	if (p->source < 0)
		return;
	cfg[STATUS] = (uint8_t)(p->ps->intx ? cfg[STATUS] | STATUS_INTX :
	    cfg[STATUS] & ~STATUS_INTX);
	dev_irq(p->d, p->line, p->source, p->ps->intx && !off);
}

void
pci_intx(struct devctx *d, int level)
{
	struct fn_priv *p = priv(d);

	if (!p || p->ps->intx == !!level)
		return;
	p->ps->intx = !!level;
	intx_update(p);
	p->ps->cfg[STATUS] = d->cfg[STATUS];
}

/* --------------------------------------------------------------- functions */

int
pci_init(struct devctx *d, const struct pci_fn *fn, int devfn)
{
	struct fn_priv *p;

	if (devfn < -1 || devfn > 255 || fn->msix_vectors > MSI_MAX) {
		errno = EINVAL;
		return -1;
	}
	devfn = d->host->pci(d, devfn);
	if (devfn < 0)
		return -1;
	d->devfn = devfn;
	if (!d->cfg) {
		errno = EFAULT;
		return -1;
	}
	p = priv(d);
	if (!p)
		p = &table[ntable++ % (sizeof table / sizeof *table)];
	memset(p, 0, sizeof *p);
	p->d = d;
	p->fn = fn;
	p->ps = fn->state ? (struct pci_state *)((uint8_t *)d->st +
	    fn->state - 1) : &p->own;
	p->cap_end = CAP_FIRST;
	p->source = -1;
	if (fn->intpin) {
		p->line = IRQ_PIRQ + (((unsigned)devfn >> 3) + fn->intpin - 1)
		    % 4;
		p->source = dev_line(d, p->line);
	}
	memset(d->cfg, 0, 4096);
	put16(d->cfg + VENDOR, fn->vendor);
	put16(d->cfg + DEVICE, fn->device);
	put32(d->cfg + CLASS_REV, fn->class_rev);
	d->cfg[HEADER] = fn->header;
	put16(d->cfg + SUBVENDOR, fn->subvendor);
	put16(d->cfg + SUBDEVICE, fn->subdevice);
	d->cfg[INT_PIN] = fn->intpin;
	put16(p->w + COMMAND, CMD_WRITABLE);
	p->w[0x0c] = 0xff;			/* cache line size */
	p->w[0x0d] = 0xf8;			/* latency timer */
	p->w[INT_LINE] = fn->intpin ? 0xff : 0;
	if (fn->msix_vectors) {
		uint8_t body[10] = { 0 };

		put16(body, fn->msix_vectors - 1);
		put32(body + 2, fn->msix_bar);
		put32(body + 6, PBA_OFF | fn->msix_bar);
		p->msix = pci_cap(d, CAP_MSIX, body, sizeof body);
		p->w[p->msix + 3] = 0xc0;
	}
	return 0;
}

int
pci_place(struct devctx *d, const struct pci_fn *fn, const char *addr,
    char *why, size_t whylen)
{
	int devfn = pci_addr(addr);

	if (devfn == -2) {
		snprintf(why, whylen, "addr=%s: not SLOT or SLOT.FUNCTION",
		    addr);
		return -1;
	}
	if (pci_init(d, fn, devfn) < 0) {
		snprintf(why, whylen, "addr=%s: %s", addr ? addr : "",
		    errno == EEXIST ? "PCI slot is taken" : strerror(errno));
		return -1;
	}
	return 0;
}

unsigned
pci_cap(struct devctx *d, uint8_t id, const void *body, unsigned len)
{
	struct fn_priv *p = priv(d);
	unsigned at;

	if (!p || len > 254 || p->cap_end + len + 2 > 256)
		return 0;
	at = p->cap_end;
	d->cfg[at] = id;
	d->cfg[at + 1] = 0;
	memcpy(d->cfg + at + 2, body, len);
	d->cfg[p->cap_last ? p->cap_last + 1 : CAP_PTR] = (uint8_t)at;
	d->cfg[STATUS] |= STATUS_CAPS;
	p->cap_last = at;
	p->cap_end = (at + len + 2 + 3) & ~3u;
	return at;
}

void
pci_writable(struct devctx *d, unsigned off, unsigned len, uint8_t mask)
{
	struct fn_priv *p = priv(d);

	if (p && off <= 256 && len <= 256 - off)
		memset(p->w + off, mask, len);
}

void
pci_reset(struct devctx *d, const struct pci_fn *fn)
{
	struct fn_priv *p = priv(d);
	unsigned i, cmd = 0;

	if (!p)
		return;
	fixed(p);
	memcpy(d->cfg, p->fixed, sizeof p->fixed);
	for (i = 0; i < 6; i++)
		if (fn->bar[i].size)
			cmd |= fn->bar[i].space == SPACE_IO ? CMD_IO : CMD_MEM;
	put16(d->cfg + COMMAND, cmd);
	put16(d->cfg + STATUS, p->cap_last ? STATUS_CAPS : 0);
	d->cfg[INT_LINE] = !fn->intpin ? 0 : p->line - IRQ_PIRQ < 2 ? 10 : 11;
	memset(p->ps->msix, 0, sizeof p->ps->msix);
	for (i = 0; i < fn->msix_vectors; i++)
		p->ps->msix[i * 4 + 3] = 1;	/* masked */
	p->ps->pba = 0;
	p->ps->intx = 0;
	intx_update(p);
	assign(p);
	decode(p);
	mirror(p);
}

/* BAR i after its register was written with `v` at its dword. */
static void
bar_written(struct fn_priv *p, unsigned i, uint32_t v)
{
	unsigned lo = i;
	uint64_t base, mask;

	if (!p->fn->bar[i].size && i && p->fn->bar[i - 1].is64)
		lo = i - 1;
	if (!p->fn->bar[lo].size)
		return;
	mask = ~(p->fn->bar[lo].size - 1);
	base = bar_base(p, lo);
	if (lo == i)
		base = (base & ~0xffffffffull) | v;
	else
		base = (base & 0xffffffff) | (uint64_t)v << 32;
	bar_put(p, lo, base & mask);
}

void
pci_config(struct devctx *d, const struct pci_fn *fn, unsigned off,
    unsigned size, uint32_t val)
{
	struct fn_priv *p = priv(d);
	unsigned i, bar;
	uint32_t v, at;
	uint8_t b, m;

	if (!p || off >= 256 || size > 4 || off + size > 256)
		return;
	for (i = 0; i < size; i++) {
		at = off + i;
		b = (uint8_t)(val >> i * 8);
		if (at >= BARS && at < BARS + 24) {
			bar = (at - BARS) / 4;
			v = get32(d->cfg + BARS + bar * 4);
			v &= ~(0xffu << at % 4 * 8);
			v |= (uint32_t)b << at % 4 * 8;
			bar_written(p, bar, v);
			continue;
		}
		if (at == STATUS + 1)
			d->cfg[at] &= (uint8_t)~(b & (STATUS_W1C >> 8));
		m = p->w[at];
		d->cfg[at] = (uint8_t)((d->cfg[at] & ~m) | (b & m));
	}
	if (off < BARS + 24 && off + size > COMMAND)
		decode(p);
	if (off <= COMMAND + 1 || (p->msix && off < p->msix + 4 &&
	    off + size > p->msix + 2)) {
		intx_update(p);
		msix_pending(p);
	}
	mirror(p);
}

void
pci_loaded(struct devctx *d, const struct pci_fn *fn)
{
	struct fn_priv *p = priv(d);
	unsigned i;

	if (!p)
		return;
	if (p->ps != &p->own) {
		/* identity and read-only bits are ours, not the file's */
		fixed(p);
		for (i = 0; i < 256; i++)
			d->cfg[i] = (uint8_t)((p->fixed[i] & ~p->w[i]) |
			    (p->ps->cfg[i] & p->w[i]));
		for (i = 0; i < 6; i++)
			bar_written(p, i, get32(p->ps->cfg + BARS + i * 4));
		d->cfg[STATUS + 1] = p->ps->cfg[STATUS + 1];
		for (i = 0; i < MSI_MAX; i++)
			p->ps->msix[i * 4 + 3] &= 1;
		p->ps->intx = !!p->ps->intx;
	}
	decode(p);
	intx_update(p);
	mirror(p);
}

void *
pci_dma(struct devctx *d, uint64_t gpa, uint64_t len)
{
	if (!(d->cfg[COMMAND] & CMD_MASTER))
		return NULL;
	return ram_at(d->ram, gpa, len);
}

void
dev_dma_wrote(struct devctx *d, const void *host, uint64_t len)
{
	struct part *p = d->part;

	if (p && p->dirty && dirty_touch(p->dirty, d->ram, host, len))
		irq_kick(p->irq.page, 0, p->irq.kick);
}
