/*
 * ioapic.c - I/O APIC with 24 inputs: the Intel 82093AA (datasheet 290566,
 * section 3) with the EOI register of its successors, version 0x20 (Intel
 * ICH-family datasheets, "I/O APIC").
 *
 * Inputs come from cpu/irq.c as levels; a redirection entry turns them into a
 * message in MSI form, address 0xfee00000 | destination << 12 | mode.
 */
#include "intc.h"

#define NPIN	24
#define VERSION	(0x20u | (NPIN - 1) << 16)
enum { R_ID, R_VER, R_ARB, R_REDIR = 0x10 };
enum {
	RTE_STATUS = 0x1000, RTE_LOW = 0x2000, RTE_IRR = 0x4000,
	RTE_LEVEL = 0x8000, RTE_MASK = 0x10000, RTE_LOGICAL = 0x800,
};
#define RTE_WRITABLE	0xff0000000001afffull

struct ioapic_st {
	uint32_t	id, index;
	uint64_t	redir[NPIN];
	uint32_t	level;		/* inputs: bit per pin, as driven */
};

static const struct field fields[] = {
	FIELD(ioapic_st, id), FIELD(ioapic_st, index),
	FIELDS(ioapic_st, redir), FIELD(ioapic_st, level),
	FIELD_END
};

struct ioapic_priv {
	void	(*deliver)(void *arg, uint64_t addr, uint32_t data);
	void	*arg;
};

/* Is the input active, as its polarity bit has it?  The machine's inputs are
 * levels of the wire's meaning (1: asserted); ACPI describes PCI lines as
 * active high here, and a guest that programs active low is still right,
 * because nothing else drives the pin. */
static bool
active(const struct ioapic_st *s, unsigned pin)
{
	return s->level >> pin & 1;
}

static void
send(struct devctx *d, unsigned pin)
{
	struct ioapic_st *s = d->st;
	struct ioapic_priv *p = d->priv;
	uint64_t e = s->redir[pin];
	unsigned mode = e >> 8 & 7;
	uint64_t addr;
	uint32_t data;

	if (e & RTE_LEVEL)
		s->redir[pin] |= RTE_IRR;
	addr = 0xfee00000 | (e >> 56) << 12 | (e & RTE_LOGICAL ? 4 : 0) |
	    (mode == LAPIC_LOWEST ? 8 : 0);
	data = (uint32_t)((e & 0x7ff) | 0x4000 | (e & RTE_LEVEL));
	if (p->deliver)
		p->deliver(p->arg, addr, data);
}

/* Send what a level entry has to send. */
static void
service(struct devctx *d, unsigned pin)
{
	struct ioapic_st *s = d->st;
	uint64_t e = s->redir[pin];

	if (e & RTE_LEVEL && !(e & (RTE_MASK | RTE_IRR)) && active(s, pin))
		send(d, pin);
}

void
ioapic_set(struct devctx *d, unsigned pin, int level)
{
	struct ioapic_st *s = d->st;
	uint32_t b;

	if (pin >= NPIN)
		return;
	b = 1u << pin;
	if (!level) {
		s->level &= ~b;
		return;
	}
	if (s->redir[pin] & RTE_LEVEL) {
		s->level |= b;
		service(d, pin);
	} else if (!(s->level & b)) {
		s->level |= b;
		/* 3.2.4: an edge on a masked input is lost */
		if (!(s->redir[pin] & RTE_MASK))
			send(d, pin);
	}
}

void
ioapic_eoi(struct devctx *d, unsigned vector)
{
	struct ioapic_st *s = d->st;
	unsigned pin;

	for (pin = 0; pin < NPIN; pin++)
		if (s->redir[pin] & RTE_IRR && (s->redir[pin] & 0xff) == vector) {
			s->redir[pin] &= ~(uint64_t)RTE_IRR;
			service(d, pin);
		}
}

void
ioapic_deliver_to(struct devctx *d,
    void (*deliver)(void *arg, uint64_t addr, uint32_t data), void *arg)
{
	struct ioapic_priv *p = d->priv;

	p->deliver = deliver;
	p->arg = arg;
}

static void
redir_write(struct devctx *d, unsigned n, uint32_t val)
{
	struct ioapic_st *s = d->st;
	unsigned pin = n / 2;
	uint64_t *e, v;

	if (pin >= NPIN)
		return;
	e = &s->redir[pin];
	v = n & 1 ? (*e & 0xffffffff) | (uint64_t)val << 32 :
	    (*e & ~0xffffffffull) | val;
	/* status bits are the chip's; leaving level mode clears the IRR, which
	 * is how software without an EOI register acknowledges */
	*e = (v & RTE_WRITABLE) | (*e & (RTE_IRR | RTE_STATUS));
	if (!(*e & RTE_LEVEL))
		*e &= ~(uint64_t)RTE_IRR;
	service(d, pin);
}

/* 3.1: IOREGSEL at 0, IOWIN at 0x10; EOI at 0x40 */
static uint64_t
ioapic_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct ioapic_st *s = d->st;
	unsigned n;

	switch (off & 0xff) {
	case 0x00:
		return s->index;
	case 0x10:
		switch (s->index) {
		case R_ID: case R_ARB:
			return s->id;
		case R_VER:
			return VERSION;
		}
		n = s->index - R_REDIR;
		if (s->index < R_REDIR || n >= 2 * NPIN)
			return 0;
		return (uint32_t)(s->redir[n / 2] >> (n & 1 ? 32 : 0));
	}
	dev_guest_error(d, "read", off);
	return 0;
}

static void
ioapic_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct ioapic_st *s = d->st;

	switch (off & 0xff) {
	case 0x00:
		s->index = val & 0xff;
		return;
	case 0x10:
		if (size < 4) {
			dev_guest_error(d, "access width", size);
			return;
		}
		if (s->index == R_ID)
			s->id = val & 0x0f000000;
		else if (s->index >= R_REDIR)
			redir_write(d, s->index - R_REDIR, (uint32_t)val);
		return;
	case 0x40:
		ioapic_eoi(d, val & 0xff);
		return;
	}
	dev_guest_error(d, "write", off);
}

static void
ioapic_reset(struct devctx *d)
{
	struct ioapic_st *s = d->st;
	unsigned pin;

	s->id = s->index = 0;
	for (pin = 0; pin < NPIN; pin++)
		s->redir[pin] = RTE_MASK;
}

static int
ioapic_ask(struct devctx *d, char **argv, FILE *f)
{
	static const char *const mode[8] = { "fixed", "lowest", "SMI", "?",
		"NMI", "INIT", "?", "ExtINT" };
	struct ioapic_st *s = d->st;
	unsigned pin;

	fprintf(f, "ioapic: id 0x%02x select 0x%02x\n", s->id >> 24, s->index);
	for (pin = 0; pin < NPIN; pin++) {
		uint64_t e = s->redir[pin];

		fprintf(f, "  pin %-2u 0x%016llx dest %llu vector %u %s %s %s"
		    "%s%s%s\n", pin, (unsigned long long)e,
		    (unsigned long long)(e >> 56), (unsigned)e & 0xff,
		    mode[e >> 8 & 7], e & RTE_LOGICAL ? "logical" : "physical",
		    e & RTE_LEVEL ? "level" : "edge",
		    e & RTE_MASK ? " masked" : "",
		    e & RTE_IRR ? " remote-irr" : "",
		    active(s, pin) ? " high" : "");
	}
	return 0;
}

static const struct dev_range ranges[] = {
	{ SPACE_MEM, RANGE_SYNC, 0xfec00000, 0x1000, .what = "registers" },
	{ 0 }
};

static const struct dev_test tests[] = {
	{ 'r', 0, 4, 0x00, 0 },
	{ 'w', 0, 4, 0x00, R_VER },
	{ 'r', 0, 4, 0x10, 0x170020 },
	{ 'w', 0, 4, 0x00, R_ID },
	{ 'w', 0, 4, 0x10, 0xffffffff },
	{ 'r', 0, 4, 0x10, 0x0f000000 },
	{ 'w', 0, 4, 0x00, 0x10 },
	{ 'r', 0, 4, 0x10, 0x10000 },
	{ 'w', 0, 4, 0x10, 0xffffffff },	/* read-only bits 12, 14 */
	{ 'r', 0, 4, 0x10, 0x1afff },
	{ 'w', 0, 4, 0x00, 0x11 },
	{ 'w', 0, 4, 0x10, 0xffffffff },
	{ 'r', 0, 4, 0x10, 0xff000000 },
	{ 'w', 0, 4, 0x00, 0x3f },		/* last entry */
	{ 'w', 0, 4, 0x10, 0x05000000 },
	{ 'r', 0, 4, 0x10, 0x05000000 },
	{ 'w', 0, 4, 0x00, 0x40 },		/* none there */
	{ 'r', 0, 4, 0x10, 0 },
	{ 'R' },
	{ 'w', 0, 4, 0x00, 0x10 },
	{ 'r', 0, 4, 0x10, 0x10000 },
	{ 0 }
};

const struct dev ioapic = {
	.name = "ioapic",
	.desc = "I/O APIC, 24 inputs (placed in the vcpu)",
	.spec = "Intel 82093AA, 290566",
	.state_size = sizeof(struct ioapic_st),
	.fields = fields,
	.ranges = ranges,
	.priv_size = sizeof(struct ioapic_priv),
	.reset = ioapic_reset,
	.read = ioapic_read,
	.write = ioapic_write,
	.ask = ioapic_ask,
	.tests = tests,
};

DEV_MAIN(ioapic);
