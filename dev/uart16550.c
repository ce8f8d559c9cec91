/*
 * uart16550.c - 16550A serial port: NS16550AF / PC16550D data sheet, section 8
 * (registers); ports and interrupts of COM1-4 as on the PC.
 *
 * Theory of operation.  Every register is a range of its own, so that each read
 * costs what it must: LSR and the plain registers are shared memory, RBR and
 * IIR a round trip, every write is posted.
 *
 * The transmitter takes bytes as fast as they come: LSR says "empty" until the
 * back end is blocked with CHARIO_HIGH bytes waiting, and the bytes go out in
 * one write when the guest pauses.  For the interrupt the transmitter is busy
 * from a THR write to that moment (or to an IIR read): then the "THR empty"
 * condition is set, once for the whole burst.  Reading IIR while it is the
 * reported cause clears it, so does a THR write; enabling it in IER with an
 * empty transmitter sets it.
 *
 * LSR and MSR lose their event bits when read.  Such bits are rare, so both are
 * plain shared memory until one is set; then the range is claimed anew as one
 * that is read by a round trip, until the guest has read it.
 *
 * #syscalls read write
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "chario.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, NREG };
enum { IER_RDA = 1, IER_THRE = 2, IER_RLS = 4, IER_MSI = 8 };
enum {
	IIR_NONE = 1, IIR_MSI = 0, IIR_THRE = 2, IIR_RDA = 4, IIR_RLS = 6,
	IIR_CTI = 0xc, IIR_FIFO = 0xc0
};
enum { FCR_ENABLE = 1, FCR_CLRRX = 2, FCR_CLRTX = 4 };
enum { LCR_DLAB = 0x80 };
enum { MCR_OUT1 = 4, MCR_LOOP = 0x10 };
enum {
	LSR_DR = 1, LSR_OE = 2, LSR_BI = 0x10, LSR_THRE = 0x20,
	LSR_TEMT = 0x40, LSR_EVENTS = 0x1e
};
enum { MSR_TERI = 4, MSR_RI = 0x40, MSR_LINES = 0xf0, MSR_READY = 0xb0 };

#define FIFO	16
#define T_TX	0
#define T_RX	1

struct uart {
	uint8_t		r1;		/* seen at port 1: IER or DLM */
	uint8_t		lcr, mcr, lsr, msr, scr;
	uint8_t		ier, dll, dlm, fcr;
	uint8_t		thri;		/* THR empty condition */
	uint8_t		busy;		/* a burst of THR writes goes on */
	uint8_t		cti;		/* character timeout condition */
	uint8_t		lsr_read;	/* LSR is claimed as read by us */
	uint8_t		msr_read;
	uint8_t		nrx;
	uint8_t		rx[FIFO];
	uint32_t	nin;		/* received, waiting for the FIFO */
	uint8_t		in[CHARIO_MAX];
	uint32_t	nout;		/* sent, not yet taken */
	uint8_t		out[CHARIO_MAX];
};

struct opts {
	uint32_t	index, iobase, irq;
	const char	*chardev;
};

struct priv {
	struct chario	io;
	unsigned	base, irq;
	int		source;
};

static const struct field fields[] = {
	FIELD_DERIVED(uart, r1), FIELD(uart, lcr), FIELD(uart, mcr),
	FIELD(uart, lsr), FIELD(uart, msr), FIELD(uart, scr),
	FIELD(uart, ier), FIELD(uart, dll), FIELD(uart, dlm),
	FIELD(uart, fcr), FIELD(uart, thri), FIELD(uart, busy),
	FIELD(uart, cti), FIELD(uart, lsr_read), FIELD(uart, msr_read),
	FIELD(uart, nrx), FIELDS(uart, rx), FIELD(uart, nin),
	FIELDS(uart, in), FIELD(uart, nout), FIELDS(uart, out), FIELD_END
};

static const struct opt opts[] = {
	{ "index", OPT_U32, offsetof(struct opts, index), "0",
	    "0-3: COM1-COM4 (ports 3f8 2f8 3e8 2e8, IRQ 4 3 4 3)", NULL },
	{ "iobase", OPT_U32, offsetof(struct opts, iobase), NULL,
	    "first port, instead of index", NULL },
	{ "irq", OPT_U32, offsetof(struct opts, irq), NULL,
	    "interrupt line, instead of index", NULL },
	{ "chardev", OPT_STR, offsetof(struct opts, chardev), "none",
	    "back end, as of -serial", NULL },
	{ 0 }
};

static int
claim(struct devctx *d, unsigned reg, enum range_kind kind)
{
	static const uint64_t mirror[NREG] = {
		[IER] = offsetof(struct uart, r1),
		[LCR] = offsetof(struct uart, lcr),
		[MCR] = offsetof(struct uart, mcr),
		[LSR] = offsetof(struct uart, lsr),
		[MSR] = offsetof(struct uart, msr),
		[SCR] = offsetof(struct uart, scr),
	};
	struct priv *p = d->priv;

	return dev_range_set(d, reg, SPACE_IO, p->base + reg, 1, kind,
	    mirror[reg], 0, 0);
}

/* -------------------------------------------------------------- conditions */

static unsigned
depth(const struct uart *u)
{
	return u->fcr & FCR_ENABLE ? FIFO : 1;
}

static unsigned
trigger(const struct uart *u)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

static uint8_t
cause(const struct uart *u)
{
	if (u->ier & IER_RLS && u->lsr & LSR_EVENTS)
		return IIR_RLS;
	if (u->ier & IER_RDA && u->nrx >= trigger(u))
		return IIR_RDA;
	if (u->ier & IER_RDA && u->cti && u->nrx > 0)
		return IIR_CTI;
	if (u->ier & IER_THRE && u->thri)
		return IIR_THRE;
	if (u->ier & IER_MSI && u->msr & 0x0f)
		return IIR_MSI;
	return IIR_NONE;
}

/* Work out LSR, the mirrors, how LSR and MSR are read, and the line. */
static void
update(struct devctx *d)
{
	struct priv *p = d->priv;
	struct uart *u = d->st;
	uint8_t lsr = u->lsr & LSR_EVENTS, want;

	if (u->nrx > 0)
		lsr |= LSR_DR;
	if (!chario_full(&p->io))
		lsr |= LSR_THRE | LSR_TEMT;
	u->lsr = lsr;
	u->r1 = u->lcr & LCR_DLAB ? u->dlm : u->ier;
	want = (u->lsr & LSR_EVENTS) != 0;
	if (want != u->lsr_read) {
		u->lsr_read = want;
		claim(d, LSR, want ? RANGE_POSTED : RANGE_STATUS);
	}
	want = (u->msr & 0x0f) != 0;
	if (want != u->msr_read) {
		u->msr_read = want;
		claim(d, MSR, want ? RANGE_POSTED : RANGE_SHADOW);
	}
	dev_irq(d, p->irq, p->source, cause(u) != IIR_NONE);
}

static void
modem_lines(struct devctx *d)
{
	struct uart *u = d->st;
	uint8_t m = u->mcr, now = MSR_READY, was = u->msr & MSR_LINES, delta;

	if (m & MCR_LOOP)	/* DTR->DSR RTS->CTS OUT1->RI OUT2->DCD */
		now = (uint8_t)((m & 1) << 5 | (m & 2) << 3 | (m & 4) << 4 |
		    (m & 8) << 4);
	delta = (uint8_t)((was ^ now) >> 4);
	if (delta & MSR_TERI && now & MSR_RI)
		delta &= (uint8_t)~MSR_TERI;	/* trailing edge only */
	u->msr = (uint8_t)(now | (u->msr & 0x0f) | delta);
}

/* ---------------------------------------------------------------- receiver */

/* Ten bits a character at 115200/divisor, four characters; bounded, as no
 * line really has to be waited for. */
static int64_t
timeout(const struct uart *u)
{
	int64_t t = ((int64_t)u->dlm << 8 | u->dll) * 40 * 8681;

	return t < 1 || t > 5000000 ? 5000000 : t;
}

static void
rx_timeout(struct devctx *d)
{
	struct uart *u = d->st;

	if (u->nrx > 0)
		u->cti = 1;
	update(d);
}

static void
rx_timer(struct devctx *d)
{
	struct uart *u = d->st;

	if (u->fcr & FCR_ENABLE && u->nrx > 0 && u->nrx < trigger(u))
		dev_timer(d, T_RX, dev_clock(d) + timeout(u), rx_timeout);
	else
		dev_timer(d, T_RX, -1, rx_timeout);
}

static void
rx_push(struct uart *u, uint8_t c)
{
	if (u->nrx < depth(u)) {
		u->rx[u->nrx++] = c;
		return;
	}
	u->lsr |= LSR_OE;
	if (!(u->fcr & FCR_ENABLE))
		u->rx[0] = c;		/* the older one is lost */
}

/* Fill the FIFO from what has arrived. */
static void
rx_fill(struct devctx *d)
{
	struct priv *p = d->priv;
	struct uart *u = d->st;
	uint32_t n;

	if (u->nin > 0 && u->nrx < depth(u) && !(u->mcr & MCR_LOOP)) {
		n = depth(u) - u->nrx;
		if (n > u->nin)
			n = u->nin;
		memcpy(u->rx + u->nrx, u->in, n);
		u->nrx += (uint8_t)n;
		u->nin -= n;
		memmove(u->in, u->in + n, u->nin);
		rx_timer(d);
	}
	if (p->io.cd)
		chardev_pause(p->io.cd, u->nin > 0 || u->mcr & MCR_LOOP ||
		    u->nrx >= depth(u));
}

static void
arrived(void *arg, const uint8_t *buf, size_t n)
{
	struct devctx *d = arg;
	struct uart *u = d->st;

	if (n > sizeof u->in - u->nin) {
		log_once("input lost", 0, "input lost: more than %zu bytes at "
		    "once", sizeof u->in);
		n = sizeof u->in - u->nin;
	}
	memcpy(u->in + u->nin, buf, n);
	u->nin += (uint32_t)n;
	rx_fill(d);
	update(d);
}

static uint8_t
rx_pop(struct devctx *d)
{
	struct uart *u = d->st;
	uint8_t c = u->rx[0];

	if (u->nrx > 0)
		memmove(u->rx, u->rx + 1, --u->nrx);
	u->cti = 0;
	rx_fill(d);
	rx_timer(d);
	update(d);
	return c;
}

/* ------------------------------------------------------------- transmitter */

static void
tx_done(struct devctx *d)
{
	struct priv *p = d->priv;
	struct uart *u = d->st;

	chario_flush(&p->io);
	if (u->busy && !chario_full(&p->io)) {
		u->busy = 0;
		u->thri = 1;
	}
	update(d);
}

static void
tx(struct devctx *d, uint8_t c)
{
	struct priv *p = d->priv;
	struct uart *u = d->st;

	if (!u->busy) {
		u->busy = 1;
		dev_timer(d, T_TX, 1, tx_done);		/* at the next pause */
	}
	u->thri = 0;
	if (u->mcr & MCR_LOOP) {
		rx_push(u, c);
		rx_timer(d);
	} else {
		chario_put(&p->io, c);
		if (u->nout >= 1024)
			chario_flush(&p->io);
	}
	update(d);
}

/* --------------------------------------------------------------- registers */

static uint64_t
uart_read(struct devctx *d, unsigned reg, uint64_t off, unsigned size)
{
	struct uart *u = d->st;
	uint8_t v;

	switch (reg) {
	case RBR:
		return u->lcr & LCR_DLAB ? u->dll : rx_pop(d);
	case IER:
		return u->r1;
	case IIR:
		if (u->busy)
			tx_done(d);
		v = cause(u);
		if (v == IIR_THRE) {
			u->thri = 0;
			update(d);
		}
		return v | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
	case LCR:
		return u->lcr;
	case MCR:
		return u->mcr;
	case LSR:
		v = u->lsr;
		u->lsr &= (uint8_t)~LSR_EVENTS;
		update(d);
		return v;
	case MSR:
		v = u->msr;
		u->msr &= MSR_LINES;
		update(d);
		return v;
	case SCR:
		return u->scr;
	}
	return ~0ull;
}

static void
write_fcr(struct devctx *d, uint8_t v)
{
	struct uart *u = d->st;

	if ((v ^ u->fcr) & FCR_ENABLE)
		v |= FCR_CLRRX | FCR_CLRTX;
	if (v & FCR_CLRRX) {
		u->nrx = u->cti = 0;
		u->lsr &= (uint8_t)~LSR_EVENTS;
	}
	if (v & FCR_CLRTX && !u->busy)
		u->thri = 1;
	u->fcr = v & FCR_ENABLE ? v & 0xc9 : 0;
	rx_fill(d);
	rx_timer(d);
}

static void
uart_write(struct devctx *d, unsigned reg, uint64_t off, unsigned size,
    uint64_t val)
{
	struct uart *u = d->st;
	uint8_t v = (uint8_t)val;

	switch (reg) {
	case RBR:
		if (u->lcr & LCR_DLAB)
			u->dll = v;
		else
			tx(d, v);
		return;
	case IER:
		if (u->lcr & LCR_DLAB) {
			u->dlm = v;
			break;
		}
		if (v & ~u->ier & IER_THRE && u->lsr & LSR_THRE && !u->busy)
			u->thri = 1;
		u->ier = v & 0x0f;
		break;
	case IIR:
		write_fcr(d, v);
		break;
	case LCR:
		u->lcr = v;
		break;
	case MCR:
		u->mcr = v & 0x1f;
		modem_lines(d);
		rx_fill(d);
		break;
	case LSR:			/* factory test; MSR: read-only */
	case MSR:
		dev_guest_error(d, "write to read-only register", reg);
		return;
	case SCR:
		u->scr = v;
		break;
	}
	update(d);
}

/* -------------------------------------------------------------- life cycle */

static int
uart_init(struct devctx *d, char *why, size_t whylen)
{
	static const uint16_t port[4] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
	static const enum range_kind kind[NREG] = {
		RANGE_POSTED, RANGE_SHADOW, RANGE_POSTED, RANGE_SHADOW,
		RANGE_SHADOW, RANGE_STATUS, RANGE_SHADOW, RANGE_SHADOW,
	};
	struct opts *o = d->opts;
	struct priv *p = d->priv;
	struct uart *u = d->st;
	unsigned i;

	if (o->index > 3 || o->iobase > 0xfff8 || o->irq > 15) {
		snprintf(why, whylen, "index is 0-3, iobase at most 0xfff8, "
		    "irq at most 15");
		return -1;
	}
	p->base = o->iobase ? o->iobase : port[o->index];
	p->irq = o->irq ? o->irq : o->index & 1 ? 3 : 4;
	for (i = 0; i < NREG; i++) {
		if (claim(d, i, kind[i]) < 0) {
			snprintf(why, whylen, "port 0x%x: %s", p->base + i,
			    strerror(errno));
			return -1;
		}
	}
	p->source = dev_line(d, p->irq);
	if (p->source < 0) {
		snprintf(why, whylen, "IRQ %u: %s", p->irq, strerror(errno));
		return -1;
	}
	p->io.space = tx_done;
	return chario_open(&p->io, d, o->chardev, u->out, &u->nout, arrived,
	    why, whylen);
}

static void
uart_reset(struct devctx *d)
{
	struct uart *u = d->st;

	u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
	u->dlm = 0;
	u->dll = 12;			/* 9600 */
	u->thri = u->busy = u->cti = u->nrx = 0;
	u->lsr = LSR_THRE | LSR_TEMT;
	u->msr = MSR_READY;
	rx_fill(d);
	rx_timer(d);
	dev_timer(d, T_TX, u->nout ? 1 : -1, tx_done);
	update(d);
}

static void
uart_loaded(struct devctx *d)
{
	struct uart *u = d->st;

	if (u->nrx > FIFO)
		u->nrx = FIFO;
	if (u->nin > sizeof u->in)
		u->nin = sizeof u->in;
	if (u->nout > sizeof u->out)
		u->nout = sizeof u->out;
	u->lsr_read = u->msr_read = 0;
	claim(d, LSR, RANGE_STATUS);
	claim(d, MSR, RANGE_SHADOW);
	dev_timer(d, T_TX, u->busy || u->nout ? 1 : -1, tx_done);
	rx_timer(d);
	update(d);
}

static void
uart_stop(struct devctx *d)
{
	struct priv *p = d->priv;

	chario_flush(&p->io);
}

/* New characters come while the clock stands, too: look again. */
static void
uart_run(struct devctx *d)
{
	rx_fill(d);
	update(d);
}

static int
uart_ask(struct devctx *d, char **argv, FILE *out)
{
	struct priv *p = d->priv;
	struct uart *u = d->st;

	if (strcmp(argv[0], "chardev") == 0)
		return chario_info(&p->io, out);
	if (strcmp(argv[0], "break") == 0) {
		if (!(u->mcr & MCR_LOOP)) {
			rx_push(u, 0);
			u->lsr |= LSR_BI;
			rx_timer(d);
			update(d);
		}
		return 0;
	}
	return ENOTSUP;
}

static void
uart_quit(struct devctx *d)
{
	struct priv *p = d->priv;

	chario_close(&p->io);
}

static const struct dev_test tests[] = {
	{ 'r', LSR, 1, 0, 0x60 }, { 'r', MSR, 1, 0, 0xb0 },
	{ 'r', IIR, 1, 0, 0x01 }, { 'r', IER, 1, 0, 0 },
	{ 'r', LCR, 1, 0, 0 }, { 'r', MCR, 1, 0, 0 },
	{ 'w', SCR, 1, 0, 0x55 }, { 'r', SCR, 1, 0, 0x55 },
	/* divisor latch */
	{ 'w', LCR, 1, 0, 0x83 }, { 'r', RBR, 1, 0, 12 },
	{ 'w', RBR, 1, 0, 1 }, { 'w', IER, 1, 0, 0x34 },
	{ 'r', RBR, 1, 0, 1 }, { 'r', IER, 1, 0, 0x34 },
	{ 'w', LCR, 1, 0, 3 }, { 'r', IER, 1, 0, 0 },
	{ 'w', LCR, 1, 0, 0x83 }, { 'w', IER, 1, 0, 0 },
	{ 'w', LCR, 1, 0, 3 },
	/* THR empty: enabling raises it, IIR clears it, enabling again */
	{ 'i', 0, 1, 4, 0 }, { 'w', IER, 1, 0, 2 }, { 'i', 0, 1, 4, 1 },
	{ 'r', IIR, 1, 0, 2 }, { 'i', 0, 1, 4, 0 }, { 'r', IIR, 1, 0, 1 },
	{ 'w', IER, 1, 0, 0 }, { 'w', IER, 1, 0, 2 }, { 'i', 0, 1, 4, 1 },
	/* a THR write clears it until the burst is over */
	{ 'w', RBR, 1, 0, 'a' }, { 'i', 0, 1, 4, 0 }, { 'r', LSR, 1, 0, 0x60 },
	{ 't', 0, 1, 0, 1000 }, { 'i', 0, 1, 4, 1 },
	{ 'w', RBR, 1, 0, 'b' }, { 'i', 0, 1, 4, 0 }, { 'r', IIR, 1, 0, 2 },
	{ 'w', IER, 1, 0, 0 },
	/* a 16550A shows its FIFO */
	{ 'w', IIR, 1, 0, 0xe7 }, { 'r', IIR, 1, 0, 0xc1 },
	{ 'w', IIR, 1, 0, 0 }, { 'r', IIR, 1, 0, 1 },
	/* loop: modem lines, deltas, data */
	{ 'w', MCR, 1, 0, 0x1a }, { 'r', MSR, 1, 0, 0x90, 0xf0 },
	{ 'r', MSR, 1, 0, 0x90 }, { 'w', MCR, 1, 0, 0x15 },
	{ 'r', MSR, 1, 0, 0x6b }, { 'w', MCR, 1, 0, 0x11 },
	{ 'w', IER, 1, 0, 8 }, { 'i', 0, 1, 4, 1 }, { 'r', IIR, 1, 0, 0 },
	{ 'r', MSR, 1, 0, 0x24 }, { 'i', 0, 1, 4, 0 },
	{ 'w', IER, 1, 0, 1 }, { 'w', RBR, 1, 0, 0x41 }, { 'i', 0, 1, 4, 1 },
	{ 'r', LSR, 1, 0, 0x61 }, { 'r', IIR, 1, 0, 4 },
	{ 'r', RBR, 1, 0, 0x41 }, { 'i', 0, 1, 4, 0 },
	{ 'r', LSR, 1, 0, 0x60 },
	/* overrun without FIFO; LSR read clears it */
	{ 'w', RBR, 1, 0, 1 }, { 'w', RBR, 1, 0, 2 }, { 'r', LSR, 1, 0, 0x63 },
	{ 'r', LSR, 1, 0, 0x61 }, { 'r', RBR, 1, 0, 2 },
	/* FIFO: below the trigger only the timeout interrupts */
	{ 'w', IIR, 1, 0, 0x81 }, { 'w', RBR, 1, 0, 7 }, { 'i', 0, 1, 4, 0 },
	{ 't', 0, 1, 0, 10000000 }, { 'i', 0, 1, 4, 1 },
	{ 'r', IIR, 1, 0, 0xcc }, { 'r', RBR, 1, 0, 7 }, { 'i', 0, 1, 4, 0 },
	{ 'R' }, { 'r', MCR, 1, 0, 0 }, { 'r', IIR, 1, 0, 1 },
	{ 0 }
};

static const struct dev uart16550 = {
	.name = "uart16550",
	.desc = "16550A serial port",
	.spec = "National Semiconductor PC16550D, registers",
	.state_size = sizeof(struct uart),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.priv_size = sizeof(struct priv),
	.init = uart_init,
	.reset = uart_reset,
	.read = uart_read,
	.write = uart_write,
	.loaded = uart_loaded,
	.stop = uart_stop,
	.run = uart_run,
	.ask = uart_ask,
	.quit = uart_quit,
	.tests = tests,
};
DEV_MAIN(uart16550);
