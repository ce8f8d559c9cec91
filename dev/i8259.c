/*
 * i8259.c - the two cascaded 8259A interrupt controllers of a PC and the
 * edge/level control registers of the PIIX.
 * Intel 8259A datasheet (231468); 82371SB (PIIX3, 290550) section 2.5 for ELCR.
 *
 * Inputs are levels.  An edge stays latched in IRR until acknowledged even if
 * the input falls again: the datasheet answers that with a spurious IR7, but
 * a pulse must not be lost when the processor is slow to look.
 */
#include "intc.h"

struct pic {
	uint8_t		irr, imr, isr;
	uint8_t		level;		/* inputs now */
	uint8_t		elcr;		/* 1: level-triggered */
	uint8_t		base;		/* ICW2 */
	uint8_t		step;		/* next ICW expected: 2, 3, 4; 0 none */
	uint8_t		icw1, icw3, icw4;
	uint8_t		lowest;		/* lowest-priority input */
	uint8_t		read_isr, poll, smm, rotate_aeoi;
	uint8_t		elcr_mask;
};

struct i8259_st {
	struct pic	c[2];		/* master, slave */
};
#define PIC_FIELD(i, m) { #i "." #m, \
	offsetof(struct i8259_st, c[i].m), 1, 1, false }
#define PIC_FIELDS(i) PIC_FIELD(i, irr), PIC_FIELD(i, imr), \
	PIC_FIELD(i, isr), PIC_FIELD(i, level), PIC_FIELD(i, elcr), \
	PIC_FIELD(i, base), PIC_FIELD(i, step), PIC_FIELD(i, icw1), \
	PIC_FIELD(i, icw3), PIC_FIELD(i, icw4), PIC_FIELD(i, lowest), \
	PIC_FIELD(i, read_isr), PIC_FIELD(i, poll), PIC_FIELD(i, smm), \
	PIC_FIELD(i, rotate_aeoi), \
	{ #i ".elcr_mask", offsetof(struct i8259_st, c[i].elcr_mask), 1, 1, \
	    true }

static const struct field fields[] = {
	PIC_FIELDS(0), PIC_FIELDS(1), FIELD_END
};

enum {
	ICW1_IC4 = 1, ICW1_SNGL = 2, ICW1_INIT = 0x10,
	ICW4_AEOI = 2, ICW4_SFNM = 0x10,
	OCW3 = 0x08, OCW3_RIS = 1, OCW3_RR = 2, OCW3_POLL = 4,
	OCW3_SMM = 0x20, OCW3_ESMM = 0x40,
};
#define CASCADE 2

/* Requests: latched edges, and level inputs as they are. */
static uint8_t
requests(const struct pic *p)
{
	return (uint8_t)((p->irr & ~p->elcr) | (p->level & p->elcr));
}

/* Input of highest priority among `set`, as distance from the top: 8 none. */
static unsigned
rank(const struct pic *p, uint8_t set)
{
	unsigned i;

	for (i = 0; i < 8; i++)
		if (set >> ((p->lowest + 1 + i) & 7) & 1)
			break;
	return i;
}

/* The input to be served now, or -1. */
static int
pending(const struct pic *p, bool master)
{
	uint8_t isr = p->isr;
	unsigned r = rank(p, requests(p) & (uint8_t)~p->imr);

	if (r == 8)
		return -1;
	if (p->smm)			/* special mask: masked ones in
					 * service do not hold back others */
		isr &= (uint8_t)~p->imr;
	if (master && p->icw4 & ICW4_SFNM)
		isr &= (uint8_t)~(1 << CASCADE);
	if (r >= rank(p, isr))
		return -1;
	return (int)((p->lowest + 1 + r) & 7);
}

static void
set_input(struct pic *p, unsigned ir, int level)
{
	uint8_t b = (uint8_t)(1 << ir);

	if (!level)
		p->level &= (uint8_t)~b;
	else if (!(p->level & b)) {
		p->level |= b;
		p->irr |= b;
	}
}

/* The slave's INT output is the master's input 2. */
static void
cascade(struct i8259_st *s)
{
	set_input(&s->c[0], CASCADE, pending(&s->c[1], false) >= 0);
	/* it is a level: gone when the slave withdraws */
	if (!(s->c[0].level >> CASCADE & 1))
		s->c[0].irr &= (uint8_t)~(1 << CASCADE);
}

void
i8259_set(struct devctx *d, unsigned ir, int level)
{
	struct i8259_st *s = d->st;

	if (ir > 15 || ir == CASCADE)
		return;
	set_input(&s->c[ir / 8], ir & 7, level);
	cascade(s);
}

bool
i8259_intr(struct devctx *d)
{
	struct i8259_st *s = d->st;

	return pending(&s->c[0], true) >= 0;
}

/* INTA: the input enters service. */
static void
acknowledge(struct pic *p, unsigned ir)
{
	uint8_t b = (uint8_t)(1 << ir);

	p->irr &= (uint8_t)~b;
	if (!(p->icw4 & ICW4_AEOI))
		p->isr |= b;
	else if (p->rotate_aeoi)
		p->lowest = (uint8_t)ir;
}

unsigned
i8259_ack(struct devctx *d)
{
	struct i8259_st *s = d->st;
	struct pic *m = &s->c[0], *p = &s->c[1];
	int ir = pending(m, true), ir2;
	unsigned v;

	if (ir < 0)
		return m->base + 7u;	/* spurious */
	acknowledge(m, (unsigned)ir);
	if (ir != CASCADE)
		return m->base + (unsigned)ir;
	ir2 = pending(p, false);
	if (ir2 < 0)
		return p->base + 7u;
	acknowledge(p, (unsigned)ir2);
	v = p->base + (unsigned)ir2;
	/* INT drops during INTA; with another request it rises again */
	m->level &= (uint8_t)~(1 << CASCADE);
	cascade(s);
	return v;
}

static void
eoi(struct pic *p, uint8_t cmd)		/* OCW2: R SL EOI 0 0 L2 L1 L0 */
{
	unsigned ir = cmd & 7, r;

	switch (cmd >> 5) {
	case 1: case 5:			/* non-specific EOI, rotating */
		r = rank(p, p->smm ? p->isr & (uint8_t)~p->imr : p->isr);
		if (r == 8)
			return;
		ir = (p->lowest + 1u + r) & 7;
		p->isr &= (uint8_t)~(1 << ir);
		if (cmd & 0x80)
			p->lowest = (uint8_t)ir;
		return;
	case 3: case 7:			/* specific */
		p->isr &= (uint8_t)~(1 << ir);
		if (cmd & 0x80)
			p->lowest = (uint8_t)ir;
		return;
	case 6:				/* set priority */
		p->lowest = (uint8_t)ir;
		return;
	case 4: case 0:			/* rotate in automatic EOI */
		p->rotate_aeoi = cmd >> 7;
		return;
	}
}

static void
command(struct pic *p, uint8_t v)
{
	if (v & ICW1_INIT) {
		p->icw1 = v;
		p->irr = p->imr = p->isr = 0;
		p->lowest = 7;
		p->read_isr = p->poll = p->smm = p->rotate_aeoi = 0;
		if (!(v & ICW1_IC4))
			p->icw4 = 0;
		p->step = 2;
	} else if (v & OCW3) {
		p->poll = !!(v & OCW3_POLL);
		if (v & OCW3_RR)
			p->read_isr = v & OCW3_RIS;
		if (v & OCW3_ESMM)
			p->smm = !!(v & OCW3_SMM);
	} else
		eoi(p, v);
}

static void
data(struct pic *p, uint8_t v)
{
	switch (p->step) {
	case 0:
		p->imr = v;
		return;
	case 2:
		p->base = v & 0xf8;
		p->step = !(p->icw1 & ICW1_SNGL) ? 3 :
		    p->icw1 & ICW1_IC4 ? 4 : 0;
		return;
	case 3:
		p->icw3 = v;
		p->step = p->icw1 & ICW1_IC4 ? 4 : 0;
		return;
	case 4:
		p->icw4 = v & 0x1f;
		p->step = 0;
		return;
	}
}

enum { RG_MASTER, RG_SLAVE, RG_ELCR };

static uint64_t
i8259_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct i8259_st *s = d->st;
	struct pic *p;
	int ir;

	if (range == RG_ELCR)
		return s->c[off & 1].elcr;
	p = &s->c[range & 1];
	if (p->poll) {
		p->poll = 0;
		ir = pending(p, range == RG_MASTER);
		if (ir < 0)
			return 7;
		acknowledge(p, (unsigned)ir);
		cascade(s);
		return 0x80u | (unsigned)ir;
	}
	if (off & 1)
		return p->imr;
	return p->read_isr ? p->isr : requests(p);
}

static void
i8259_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct i8259_st *s = d->st;
	struct pic *p;

	if (range == RG_ELCR) {
		p = &s->c[off & 1];
		p->elcr = (uint8_t)val & p->elcr_mask;
	} else if (off & 1)
		data(&s->c[range & 1], (uint8_t)val);
	else
		command(&s->c[range & 1], (uint8_t)val);
	cascade(s);
}

static void
masks(struct i8259_st *s)
{
	s->c[0].elcr_mask = 0xf8;	/* IRQ 0, 1, 2 stay edge */
	s->c[1].elcr_mask = 0xde;	/* IRQ 8, 13 */
}

static void
i8259_reset(struct devctx *d)
{
	struct i8259_st *s = d->st;
	unsigned i;

	for (i = 0; i < 2; i++) {
		struct pic *p = &s->c[i];

		p->irr = p->imr = p->isr = p->elcr = p->base = p->step = 0;
		p->icw1 = p->icw3 = p->icw4 = 0;
		p->read_isr = p->poll = p->smm = p->rotate_aeoi = 0;
		p->lowest = 7;
	}
	masks(s);
}

static void
i8259_loaded(struct devctx *d)
{
	masks(d->st);
}

static int
i8259_ask(struct devctx *d, char **argv, FILE *f)
{
	struct i8259_st *s = d->st;
	unsigned i;

	for (i = 0; i < 2; i++) {
		const struct pic *p = &s->c[i];

		fprintf(f, "pic%u: irr=%02x imr=%02x isr=%02x hprio=%u "
		    "irq_base=%02x rr_sel=%u elcr=%02x fnm=%u\n", i,
		    requests(p), p->imr, p->isr, (p->lowest + 1) & 7, p->base,
		    p->read_isr, p->elcr, !!(p->icw4 & ICW4_SFNM));
	}
	return 0;
}

static const struct dev_range ranges[] = {
	{ SPACE_IO, RANGE_SYNC, 0x20, 2, .what = "master" },
	{ SPACE_IO, RANGE_SYNC, 0xa0, 2, .what = "slave" },
	{ SPACE_IO, RANGE_SYNC, 0x4d0, 2, .what = "ELCR" },
	{ 0 }
};

static const struct dev_test tests[] = {
	{ 'r', RG_MASTER, 1, 0, 0 },
	{ 'r', RG_MASTER, 1, 1, 0 },
	{ 'r', RG_ELCR, 1, 0, 0 },
	{ 'w', RG_MASTER, 1, 0, 0x11 },		/* ICW1-4 */
	{ 'w', RG_MASTER, 1, 1, 0x20 },
	{ 'w', RG_MASTER, 1, 1, 0x04 },
	{ 'w', RG_MASTER, 1, 1, 0x01 },
	{ 'r', RG_MASTER, 1, 1, 0x00 },
	{ 'w', RG_MASTER, 1, 1, 0xfb },		/* OCW1 */
	{ 'r', RG_MASTER, 1, 1, 0xfb },
	{ 'w', RG_MASTER, 1, 0, 0x0b },		/* read ISR */
	{ 'r', RG_MASTER, 1, 0, 0 },
	{ 'w', RG_MASTER, 1, 0, 0x0c },		/* poll: nothing */
	{ 'r', RG_MASTER, 1, 0, 0x07 },
	{ 'r', RG_MASTER, 1, 1, 0xfb },
	{ 'w', RG_ELCR, 1, 0, 0xff },
	{ 'r', RG_ELCR, 1, 0, 0xf8 },
	{ 'w', RG_ELCR, 1, 1, 0xff },
	{ 'r', RG_ELCR, 1, 1, 0xde },
	{ 'R' },
	{ 'r', RG_ELCR, 1, 1, 0 },
	{ 'r', RG_MASTER, 1, 1, 0 },
	{ 0 }
};

const struct dev i8259 = {
	.name = "i8259",
	.desc = "8259A interrupt controller pair (placed in the vcpu)",
	.spec = "Intel 8259A, 231468; 82371SB, 290550",
	.state_size = sizeof(struct i8259_st),
	.fields = fields,
	.ranges = ranges,
	.reset = i8259_reset,
	.read = i8259_read,
	.write = i8259_write,
	.loaded = i8259_loaded,
	.ask = i8259_ask,
	.tests = tests,
};

DEV_MAIN(i8259);
