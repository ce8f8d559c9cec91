/*
 * placed.c - the host (struct dev_host) of the chips linked into the vcpu
 * process: 8259 pair, 8254, I/O APIC, and a local APIC per vcpu.
 *
 * Their ranges are claimed from the broker like everybody's, as part 0, so that
 * the map, `info mtree` and vm-tap know them; the range's number is the index
 * into `tab` here, which makes the look-up an array access.  All calls into a
 * chip are made under the interrupt lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vcpu.h"

struct devctx placed_pic, placed_pit, placed_ioapic;

#define TAB_MAX 32
static struct {
	struct devctx	*d;		/* NULL: io.c's own (PCI configuration) */
	unsigned	range;
} tab[TAB_MAX];
static unsigned ntab;

/* ------------------------------------------------------ struct dev_host */

static int
host_range(struct devctx *d, unsigned range, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	unsigned i;

	for (i = 0; i < ntab; i++)
		if (tab[i].d == d && tab[i].range == range)
			break;
	if (i == TAB_MAX) {
		errno = ENOSPC;
		return -1;
	}
	tab[i].d = d;
	tab[i].range = range;
	if (i == ntab)
		ntab++;
	return part_range(&machine.part, i, space, start, len, kind, off, bits,
	    prio);
}

static int
host_line(struct devctx *d, unsigned line)
{
	return 0;			/* irq.c keeps these apart */
}

static void
host_irq(struct devctx *d, unsigned line, int source, int lvl)
{
	irq_line(line, lvl);
}

static void
host_msi(struct devctx *d, unsigned n, uint64_t addr, uint32_t data)
{
}

static int
host_pci(struct devctx *d, int devfn)
{
	errno = ENOTSUP;
	return -1;
}

static int64_t
host_clock(struct devctx *d)
{
	return guest_clock();
}

static void
host_timer(struct devctx *d, unsigned n, int64_t when,
    void (*fn)(struct devctx *))
{
	if (d->dev == &lapic)
		irq_timer(vcpu(d->hostarg), T_LAPIC, when, fn, d);
	else if (n < NTIMER - T_CHIP)
		irq_timer(vcpu(machine.cpu[0]), T_CHIP + n, when, fn, d);
}

static void
flush(void)
{
	if (this_cpu)
		cpu_fpu_flush(this_cpu);
}

static int
host_event(struct devctx *d, const char *text)
{
	flush();
	return part_event(&machine.part, "%s", text);
}

static int
host_ask(struct devctx *d, const char *whom, const char *question, char **reply)
{
	return ENOTSUP;			/* would wait under the lock */
}

const struct dev_host placed_host = {
	.range = host_range,
	.line = host_line,
	.irq = host_irq,
	.msi = host_msi,
	.pci = host_pci,
	.clock = host_clock,
	.timer = host_timer,
	.event = host_event,
	.ask = host_ask,
};

void
dev_guest_error(struct devctx *d, const char *what, uint64_t n)
{
	flush();
	if (log_on("guest_errors"))
		log_once(what, n, "%s: guest error: %s 0x%llx", d->name, what,
		    (unsigned long long)n);
}

/* -------------------------------------------------------------- accesses */

static void
trace(struct cpu *c, const struct map_ent *e, uint64_t addr, unsigned size,
    uint64_t val, bool write)
{
	struct chan *ch = machine.part.chan;

	if (!ch || !ch->trace_on)
		return;
	cpu_fpu_flush(c);
	chan_trace(ch, write ? CHAN_WRITE : CHAN_READ, c->index, e->range,
	    addr - e->base, size, val, 1, false);
}

static struct devctx *
chip_of(struct cpu *c, const struct map_ent *e, uint64_t addr)
{
	struct devctx *d;

	if (e->part != 0 || e->range >= ntab)
		return NULL;
	d = tab[e->range].d;
	if (d && d->dev == &lapic) {	/* each vcpu sees its own */
		if ((addr & ~0xfffull) != vcpu(c)->lapic_page)
			return NULL;
		d = &vcpu(c)->lapic;
	}
	return d;
}

bool
placed_read(struct cpu *c, const struct map_ent *e, uint64_t addr,
    unsigned size, uint64_t *val)
{
	struct devctx *d = chip_of(c, e, addr);

	if (!d)
		return false;
	irq_lock();
	*val = d->dev->read(d, tab[e->range].range, addr - e->base, size);
	irq_unlock();
	trace(c, e, addr, size, *val, false);
	return true;
}

bool
placed_write(struct cpu *c, const struct map_ent *e, uint64_t addr,
    unsigned size, uint64_t val)
{
	struct devctx *d = chip_of(c, e, addr);

	if (!d)
		return false;
	irq_lock();
	d->dev->write(d, tab[e->range].range, addr - e->base, size, val);
	irq_unlock();
	trace(c, e, addr, size, val, true);
	return true;
}

/* ------------------------------------------------------------- life cycle */

void *
placed_alloc(struct devctx *d, const struct dev *dev, const char *name)
{
	d->dev = dev;
	d->host = &placed_host;
	d->name = name;
	d->devfn = -1;
	d->ram = machine.ram;
	d->st = calloc(1, dev->state_size);
	d->priv = calloc(1, dev->priv_size + 1);
	return d->priv ? d->st : NULL;
}

static int
claim(struct devctx *d)
{
	const struct dev_range *r;
	unsigned i;

	for (i = 0; d->dev->ranges[i].len; i++) {
		r = &d->dev->ranges[i];
		if (host_range(d, i, r->space, r->start, r->len, r->kind, 0, 0,
		    1) < 0) {
			log_line("%s: 0x%llx: %m", d->name,
			    (unsigned long long)r->start);
			return -1;
		}
	}
	return 0;
}

/* Ranges that io.c serves itself are claimed too, for the map's sake. */
static int
claim_own(enum space space, uint64_t start, uint64_t len)
{
	if (ntab == TAB_MAX)
		return -1;
	tab[ntab].d = NULL;
	return part_range(&machine.part, ntab++, space, start, len, RANGE_SYNC,
	    0, 0, 1);
}

int
placed_init(void)
{
	struct { struct devctx *d; const struct dev *dev; const char *name; }
	    chip[] = {
		{ &placed_pic, &i8259, "pic" },
		{ &placed_ioapic, &ioapic, "ioapic" },
		{ &placed_pit, &i8254, "pit" },
	};
	char why[128];
	unsigned i;

	for (i = 0; i < 3; i++)
		if (!placed_alloc(chip[i].d, chip[i].dev, chip[i].name))
			return -1;
	if (irq_init() < 0)
		return -1;
	for (i = 0; i < 3; i++) {
		if (chip[i].dev->init &&
		    chip[i].dev->init(chip[i].d, why, sizeof(why)) < 0) {
			log_line("%s: %s", chip[i].name, why);
			return -1;
		}
		if (claim(chip[i].d) < 0)
			return -1;
	}
	if (claim(irq_lapic(machine.cpu[0])) < 0 ||
	    claim_own(SPACE_IO, 0xcf8, 8) < 0)
		return -1;
	if (machine.ecam && claim_own(SPACE_MEM, machine.ecam, ECAM_BYTES) < 0)
		return -1;
	return 0;
}

void
placed_reset(void)
{
	unsigned i;

	irq_lock();
	i8259.reset(&placed_pic);
	ioapic.reset(&placed_ioapic);
	i8254.reset(&placed_pit);
	for (i = 0; i < machine.ncpu; i++)
		lapic.reset(irq_lapic(machine.cpu[i]));
	irq_unlock();
	irq_reset();
}

/* Chips in the order in which they are saved; the LAPICs follow their cpus. */
unsigned
placed_list(struct placed_chip *l, unsigned max)
{
	unsigned n = 0;

	if (n < max)
		l[n++] = (struct placed_chip){ "pic", &placed_pic };
	if (n < max)
		l[n++] = (struct placed_chip){ "ioapic", &placed_ioapic };
	if (n < max)
		l[n++] = (struct placed_chip){ "pit", &placed_pit };
	return n;
}
