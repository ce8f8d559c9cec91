/*
 * i8042.c - keyboard controller (8042 of the PC AT, with the PS/2 auxiliary
 * port): data at 60h, status and command at 64h, IRQ 1 and 12; and the fast
 * A20 and reset register at 92h.  IBM PS/2 Hardware Interface Technical
 * Reference, "Keyboard and Auxiliary Device Controller".
 *
 * Theory of operation.  One byte at a time is in the output buffer; when it is
 * read the next one comes from the controller's own answers, the keyboard or
 * the mouse, in this order.  A line is high while a byte of its device is in the
 * buffer, so each byte is an edge.  Commands take no time, and so the input
 * buffer is never seen full; status is shared memory.
 *
 * Reset leaves what a firmware would have: both lines enabled, translation to
 * scan code set 1, system flag (self-test passed), A20 on.
 *
 * A20 changes are told as the event "a20 0" or "a20 1".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev.h"
#include "ps2.h"

enum { DATA, COMMAND, FAST };
enum { ST_OBF = 1, ST_SYS = 4, ST_CMD = 8, ST_UNLOCKED = 0x10, ST_AUX = 0x20 };
enum { CTR_KBD_INT = 1, CTR_AUX_INT = 2, CTR_SYS = 4, CTR_KBD_OFF = 0x10,
	CTR_AUX_OFF = 0x20, CTR_XLATE = 0x40 };
enum { OUT_RUN = 1, OUT_A20 = 2, OUT_OBF = 0x10, OUT_AUX = 0x20 };
#define NCTL	8
#define CTL_AUX	0x100		/* an answer that counts as the mouse's */
#define HOLD_MS	100

struct i8042 {
	uint8_t		status;		/* as read at 64h */
	uint8_t		fast;		/* as read at 92h */
	uint8_t		data;		/* output buffer */
	uint8_t		ctr;		/* command byte, RAM 0 */
	uint8_t		ram[31];	/* RAM 1-31 */
	uint8_t		out;		/* output port */
	uint8_t		cmd;		/* waits for its parameter */
	uint8_t		release;	/* translation has seen F0 */
	uint8_t		nctl;
	uint16_t	ctl[NCTL];	/* the controller's answers */
	struct ps2_kbd	kbd;
	struct ps2_mouse mouse;
};

struct opts {
	bool		mouse;
};

struct priv {
	int		kbd, aux;	/* interrupt sources */
};

static const struct field fields[] = {
	FIELD(i8042, status), FIELD(i8042, fast), FIELD(i8042, data),
	FIELD(i8042, ctr), FIELDS(i8042, ram), FIELD(i8042, out),
	FIELD(i8042, cmd), FIELD(i8042, release), FIELD(i8042, nctl),
	FIELDS(i8042, ctl), PS2_KBD_FIELDS(i8042, kbd),
	PS2_MOUSE_FIELDS(i8042, mouse), FIELD_END
};

static const struct opt opts[] = {
	{ "mouse", OPT_BOOL, offsetof(struct opts, mouse), "on",
	    "a PS/2 mouse at the auxiliary port", NULL },
	{ 0 }
};

static const struct dev_range ranges[] = {
	{ SPACE_IO, RANGE_POSTED, 0x60, 1, 0, 0, "data" },
	{ SPACE_IO, RANGE_SHADOW, 0x64, 1, offsetof(struct i8042, status), 0,
	    "status, command" },
	{ SPACE_IO, RANGE_SHADOW, 0x92, 1, offsetof(struct i8042, fast), 0,
	    "fast A20 and reset" },
	{ 0 }
};

static void
lines(struct devctx *d)
{
	struct i8042 *c = d->st;
	struct priv *p = d->priv;
	bool full = c->status & ST_OBF, aux = c->status & ST_AUX;

	dev_irq(d, 1, p->kbd, full && !aux && c->ctr & CTR_KBD_INT);
	dev_irq(d, 12, p->aux, full && aux && c->ctr & CTR_AUX_INT);
}

static void
fill(struct i8042 *c, uint8_t v, bool aux)
{
	c->data = v;
	c->status |= ST_OBF;
	c->status &= (uint8_t)~ST_AUX;
	if (aux)
		c->status |= ST_AUX;
}

/* From the keyboard, by way of the translation. False: nothing to see. */
static bool
from_kbd(struct i8042 *c)
{
	uint8_t v;

	while (c->kbd.n > 0) {
		v = kbd_take(&c->kbd);
		if (c->ctr & CTR_XLATE) {
			if (v == 0xf0) {
				c->release = 1;
				continue;
			}
			v = ps2_translate(v);
			if (c->release && v < 0x80)
				v |= 0x80;
			c->release = 0;
		}
		fill(c, v, false);
		return true;
	}
	return false;
}

/* Something changed: the next byte, if there is room, and the lines. */
static void
update(struct devctx *d)
{
	struct i8042 *c = d->st;

	if (!(c->status & ST_OBF)) {
		if (c->nctl > 0) {
			fill(c, (uint8_t)c->ctl[0], c->ctl[0] & CTL_AUX);
			memmove(c->ctl, c->ctl + 1,
			    --c->nctl * sizeof c->ctl[0]);
		} else if ((c->ctr & CTR_KBD_OFF || !from_kbd(c)) &&
		    !(c->ctr & CTR_AUX_OFF) && c->mouse.n > 0) {
			fill(c, mouse_take(&c->mouse), true);
		}
	}
	c->status = (uint8_t)((c->status & ~ST_SYS) | ST_UNLOCKED |
	    (c->ctr & CTR_SYS ? ST_SYS : 0));
	lines(d);
}

static void
reply(struct i8042 *c, unsigned v)
{
	if (c->nctl < NCTL)
		c->ctl[c->nctl++] = (uint16_t)v;
}

static void
output_port(struct devctx *d, uint8_t v)
{
	struct i8042 *c = d->st;
	uint8_t was = c->out;

	c->out = v & (OUT_RUN | OUT_A20);
	c->fast = (uint8_t)((c->fast & ~2) | (c->out & OUT_A20));
	if ((was ^ v) & OUT_A20)
		dev_event(d, v & OUT_A20 ? "a20 1" : "a20 0");
	if (!(v & OUT_RUN)) {
		c->out |= OUT_RUN;
		dev_event(d, "reset");
	}
}

static void
command(struct devctx *d, uint8_t v)
{
	struct i8042 *c = d->st;

	c->cmd = 0;
	c->status |= ST_CMD;
	if (v >= 0x20 && v < 0x40) {
		reply(c, v == 0x20 ? c->ctr : c->ram[v - 0x21]);
		return;
	}
	if (v >= 0x60 && v < 0x80) {
		c->cmd = v;
		return;
	}
	if (v >= 0xf0) {		/* pulse output port bits low */
		if (!(v & 1))
			dev_event(d, "reset");
		return;
	}
	switch (v) {
	case 0xa7:
		c->ctr |= CTR_AUX_OFF;
		break;
	case 0xa8:
		c->ctr &= (uint8_t)~CTR_AUX_OFF;
		break;
	case 0xa9:			/* auxiliary port test */
	case 0xab:			/* keyboard port test */
		reply(c, 0);
		break;
	case 0xaa:
		c->ctr |= CTR_SYS;
		reply(c, 0x55);
		break;
	case 0xad:
		c->ctr |= CTR_KBD_OFF;
		break;
	case 0xae:
		c->ctr &= (uint8_t)~CTR_KBD_OFF;
		break;
	case 0xc0:			/* input port: not locked */
		reply(c, 0x80);
		break;
	case 0xd0:
		reply(c, (unsigned)(c->out | (c->status & ST_OBF &&
		    !(c->status & ST_AUX) ? OUT_OBF : 0) |
		    (c->status & ST_OBF && c->status & ST_AUX ? OUT_AUX : 0)));
		break;
	case 0xd1:
	case 0xd2:
	case 0xd3:
	case 0xd4:
		c->cmd = v;
		break;
	case 0xdd:
		output_port(d, c->out & (uint8_t)~OUT_A20);
		break;
	case 0xdf:
		output_port(d, c->out | OUT_A20);
		break;
	default:
		dev_guest_error(d, "unknown command", v);
	}
}

static void
to_mouse(struct devctx *d, uint8_t v)
{
	struct i8042 *c = d->st;

	c->ctr &= (uint8_t)~CTR_AUX_OFF;
	if (((struct opts *)d->opts)->mouse)
		mouse_command(&c->mouse, v);
	else
		reply(c, CTL_AUX | 0xfe);	/* nobody answered */
}

static void
data(struct devctx *d, uint8_t v)
{
	struct i8042 *c = d->st;
	uint8_t cmd = c->cmd;

	c->cmd = 0;
	c->status &= (uint8_t)~ST_CMD;
	if (cmd == 0) {
		c->ctr &= (uint8_t)~CTR_KBD_OFF;
		kbd_command(&c->kbd, v);
	} else if (cmd == 0x60) {
		c->ctr = v;
	} else if (cmd < 0x80) {
		c->ram[cmd - 0x61] = v;
	} else if (cmd == 0xd1) {
		output_port(d, v);
	} else if (cmd == 0xd2) {
		reply(c, v);
	} else if (cmd == 0xd3) {
		reply(c, CTL_AUX | v);
	} else {
		to_mouse(d, v);
	}
}

static uint64_t
kbc_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct i8042 *c = d->st;
	uint8_t v;

	switch (range) {
	case DATA:
		v = c->data;
		c->status &= (uint8_t)~(ST_OBF | ST_AUX);
		lines(d);		/* low between two bytes */
		update(d);
		return v;
	case COMMAND:
		return c->status;
	case FAST:
		return c->fast;
	}
	return ~0ull;
}

static void
kbc_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct i8042 *c = d->st;
	uint8_t v = (uint8_t)val;

	switch (range) {
	case DATA:
		data(d, v);
		break;
	case COMMAND:
		command(d, v);
		break;
	case FAST:
		if (v & 1 && !(c->fast & 1))
			dev_event(d, "reset");
		c->fast = v & 0xfe;
		output_port(d, (uint8_t)((c->out & ~OUT_A20) | (v & OUT_A20)));
		break;
	default:
		return;
	}
	update(d);
}

/* ------------------------------------------------- keys from the monitor */

static void
let_go(struct devctx *d)
{
	struct i8042 *c = d->st;

	while (c->kbd.nheld > 0)
		kbd_key(&c->kbd, c->kbd.held[--c->kbd.nheld], false);
	update(d);
}

/* sendkey NAME-NAME-... [MS]: press in order, hold, release. */
static int
sendkey(struct devctx *d, char **argv, FILE *out)
{
	struct i8042 *c = d->st;
	char buf[256], *s, *name;
	uint16_t key[PS2_HELD];
	long ms = HOLD_MS;
	unsigned n = 0, i;

	if (argv[1] == NULL || strlen(argv[1]) >= sizeof buf)
		return EINVAL;
	if (argv[2] != NULL)
		ms = strtol(argv[2], NULL, 0);
	if (ms < 0 || ms > 60000)
		ms = HOLD_MS;
	strcpy(buf, argv[1]);
	for (s = buf; (name = strsep(&s, "-")) != NULL; ) {
		if (n == PS2_HELD) {
			fprintf(out, "too many keys");
			return E2BIG;
		}
		key[n] = ps2_key(name);
		if (key[n++] == 0) {
			fprintf(out, "unknown key: '%s'", name);
			return ENOENT;
		}
	}
	let_go(d);			/* of an earlier one */
	for (i = 0; i < n; i++) {
		kbd_key(&c->kbd, key[i], true);
		c->kbd.held[c->kbd.nheld++] = key[i];
	}
	dev_timer(d, 0, dev_clock(d) + ms * 1000000ll, let_go);
	update(d);
	return 0;
}

static int
kbc_ask(struct devctx *d, char **argv, FILE *out)
{
	struct i8042 *c = d->st;
	struct opts *o = d->opts;
	int v[3] = { 0 };
	unsigned i;

	if (strcmp(argv[0], "sendkey") == 0)
		return sendkey(d, argv, out);
	for (i = 0; i < 3 && argv[i + 1] != NULL; i++)
		v[i] = (int)strtol(argv[i + 1], NULL, 0);
	if (strcmp(argv[0], "mouse_move") == 0 && o->mouse && i >= 2)
		mouse_move(&c->mouse, v[0], v[1], v[2]);
	else if (strcmp(argv[0], "mouse_button") == 0 && o->mouse && i >= 1)
		mouse_buttons(&c->mouse, (uint8_t)v[0]);
	else
		return ENOTSUP;
	update(d);
	return 0;
}

/* -------------------------------------------------------------- life cycle */

static int
kbc_init(struct devctx *d, char *why, size_t whylen)
{
	struct priv *p = d->priv;

	p->kbd = dev_line(d, 1);
	p->aux = dev_line(d, 12);
	if (p->kbd < 0 || p->aux < 0) {
		snprintf(why, whylen, "IRQ 1, 12: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static void
kbc_reset(struct devctx *d)
{
	struct i8042 *c = d->st;

	memset(c, 0, sizeof *c);
	kbd_reset(&c->kbd);
	mouse_reset(&c->mouse);
	c->ctr = CTR_KBD_INT | CTR_AUX_INT | CTR_SYS | CTR_XLATE;
	c->out = OUT_RUN | OUT_A20;
	c->fast = 2;
	dev_timer(d, 0, -1, let_go);
	update(d);
}

static void
kbc_loaded(struct devctx *d)
{
	struct i8042 *c = d->st;

	ps2_bound(&c->kbd, &c->mouse);
	if (c->nctl > NCTL)
		c->nctl = NCTL;
	if (c->cmd && (c->cmd < 0x60 || (c->cmd >= 0x80 && c->cmd < 0xd1)))
		c->cmd = 0;
	dev_timer(d, 0, c->kbd.nheld ? dev_clock(d) + HOLD_MS * 1000000ll : -1,
	    let_go);
	lines(d);
}

#define CMD(v)	{ 'w', COMMAND, 1, 0, v }
#define PUT(v)	{ 'w', DATA, 1, 0, v }
#define GET(v)	{ 'r', DATA, 1, 0, v }
#define STAT(v)	{ 'r', COMMAND, 1, 0, v, 0x25 }

static const struct dev_test tests[] = {
	{ 'r', COMMAND, 1, 0, 0x14 }, { 'r', FAST, 1, 0, 2 },
	CMD(0x20), STAT(5), GET(0x47), STAT(4),
	CMD(0xaa), GET(0x55), CMD(0xab), GET(0), CMD(0xa9), GET(0),
	/* auxiliary loop */
	CMD(0xd3), PUT(0x5a), STAT(0x25), { 'i', 0, 1, 12, 1 }, GET(0x5a),
	{ 'i', 0, 1, 12, 0 },
	/* keyboard: identify (translated), echo, each byte an interrupt */
	PUT(0xf2), { 'i', 0, 1, 1, 1 }, GET(0xfa), { 'i', 0, 1, 1, 1 },
	GET(0xab), GET(0x41), STAT(4), { 'i', 0, 1, 1, 0 },
	PUT(0xee), GET(0xee),
	CMD(0x60), PUT(0x05), PUT(0xf2), GET(0xfa), GET(0xab), GET(0x83),
	PUT(0xff), GET(0xfa), GET(0xaa), PUT(0xed), GET(0xfa), PUT(7),
	GET(0xfa), PUT(0xf0), GET(0xfa), PUT(0), GET(0xfa), GET(2),
	/* mouse: reset, then the wheel's knock */
	CMD(0xd4), PUT(0xff), GET(0xfa), GET(0xaa), GET(0),
	CMD(0xd4), PUT(0xf3), GET(0xfa), CMD(0xd4), PUT(200), GET(0xfa),
	CMD(0xd4), PUT(0xf3), GET(0xfa), CMD(0xd4), PUT(100), GET(0xfa),
	CMD(0xd4), PUT(0xf3), GET(0xfa), CMD(0xd4), PUT(80), GET(0xfa),
	CMD(0xd4), PUT(0xf2), STAT(0x25), GET(0xfa), GET(3),
	/* A20 through the output port is seen at 92h */
	CMD(0xd1), PUT(0xdd), { 'r', FAST, 1, 0, 0 }, CMD(0xdf),
	{ 'r', FAST, 1, 0, 2 }, CMD(0xd0), GET(3),
	{ 'R' }, CMD(0x20), GET(0x47),
	{ 0 }
};

static const struct dev i8042 = {
	.name = "i8042",
	.desc = "keyboard controller with PS/2 keyboard and mouse",
	.spec = "IBM PS/2 Hardware Interface Technical Reference",
	.state_size = sizeof(struct i8042),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.ranges = ranges,
	.priv_size = sizeof(struct priv),
	.init = kbc_init,
	.reset = kbc_reset,
	.read = kbc_read,
	.write = kbc_write,
	.loaded = kbc_loaded,
	.ask = kbc_ask,
	.tests = tests,
};
DEV_MAIN(i8042);
