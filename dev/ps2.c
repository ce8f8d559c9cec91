/*
 * ps2.c - PS/2 keyboard (scan code sets 1 and 2) and mouse (with wheel), as IBM
 * PS/2 Hardware Interface Technical Reference, "Keyboard" and "Mouse", gives
 * their commands; the wheel as Microsoft's IntelliMouse knocks for it.
 */
#include <stdlib.h>
#include <string.h>

#include "ps2.h"

enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };

/* Set 2 to set 1, as the keyboard controller does it; 83 and 84 apart. */
static const uint8_t set1[128] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58,
	0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
	0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a,
	0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
	0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c,
	0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
	0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e,
	0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
	0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60,
	0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
	0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e,
	0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
	0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b,
	0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
	0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
	0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

#define EXT	0x100
#define PAUSE	0x145

static const struct { const char *name; uint16_t key; } keys[] = {
	{ "esc", 0x01 }, { "1", 0x02 }, { "2", 0x03 }, { "3", 0x04 },
	{ "4", 0x05 }, { "5", 0x06 }, { "6", 0x07 }, { "7", 0x08 },
	{ "8", 0x09 }, { "9", 0x0a }, { "0", 0x0b }, { "minus", 0x0c },
	{ "equal", 0x0d }, { "backspace", 0x0e }, { "tab", 0x0f },
	{ "q", 0x10 }, { "w", 0x11 }, { "e", 0x12 }, { "r", 0x13 },
	{ "t", 0x14 }, { "y", 0x15 }, { "u", 0x16 }, { "i", 0x17 },
	{ "o", 0x18 }, { "p", 0x19 }, { "bracket_left", 0x1a },
	{ "bracket_right", 0x1b }, { "ret", 0x1c }, { "ctrl", 0x1d },
	{ "a", 0x1e }, { "s", 0x1f }, { "d", 0x20 }, { "f", 0x21 },
	{ "g", 0x22 }, { "h", 0x23 }, { "j", 0x24 }, { "k", 0x25 },
	{ "l", 0x26 }, { "semicolon", 0x27 }, { "apostrophe", 0x28 },
	{ "grave_accent", 0x29 }, { "shift", 0x2a }, { "backslash", 0x2b },
	{ "z", 0x2c }, { "x", 0x2d }, { "c", 0x2e }, { "v", 0x2f },
	{ "b", 0x30 }, { "n", 0x31 }, { "m", 0x32 }, { "comma", 0x33 },
	{ "dot", 0x34 }, { "slash", 0x35 }, { "shift_r", 0x36 },
	{ "kp_multiply", 0x37 }, { "asterisk", 0x37 }, { "alt", 0x38 },
	{ "spc", 0x39 }, { "caps_lock", 0x3a }, { "f1", 0x3b },
	{ "f2", 0x3c }, { "f3", 0x3d }, { "f4", 0x3e }, { "f5", 0x3f },
	{ "f6", 0x40 }, { "f7", 0x41 }, { "f8", 0x42 }, { "f9", 0x43 },
	{ "f10", 0x44 }, { "num_lock", 0x45 }, { "scroll_lock", 0x46 },
	{ "kp_7", 0x47 }, { "kp_8", 0x48 }, { "kp_9", 0x49 },
	{ "kp_subtract", 0x4a }, { "kp_4", 0x4b }, { "kp_5", 0x4c },
	{ "kp_6", 0x4d }, { "kp_add", 0x4e }, { "kp_1", 0x4f },
	{ "kp_2", 0x50 }, { "kp_3", 0x51 }, { "kp_0", 0x52 },
	{ "kp_decimal", 0x53 }, { "sysrq", 0x54 }, { "less", 0x56 },
	{ "f11", 0x57 }, { "f12", 0x58 }, { "kp_enter", EXT | 0x1c },
	{ "ctrl_r", EXT | 0x1d }, { "kp_divide", EXT | 0x35 },
	{ "print", EXT | 0x37 }, { "alt_r", EXT | 0x38 }, { "pause", PAUSE },
	{ "home", EXT | 0x47 }, { "up", EXT | 0x48 }, { "pgup", EXT | 0x49 },
	{ "left", EXT | 0x4b }, { "right", EXT | 0x4d }, { "end", EXT | 0x4f },
	{ "down", EXT | 0x50 }, { "pgdn", EXT | 0x51 },
	{ "insert", EXT | 0x52 }, { "delete", EXT | 0x53 },
	{ "meta_l", EXT | 0x5b }, { "meta_r", EXT | 0x5c },
	{ "menu", EXT | 0x5d }, { "compose", EXT | 0x5d },
};

uint8_t
ps2_translate(uint8_t c)
{
	return c == 0x83 ? 0x41 : c == 0x84 ? 0x54 : c < 0x80 ? set1[c] : c;
}

static uint8_t
set2(uint8_t c)
{
	unsigned i;

	if (c == 0x41)
		return 0x83;
	if (c == 0x54)
		return 0x84;
	for (i = 0; i < sizeof set1 && set1[i] != c; )
		i++;
	return (uint8_t)i;
}

uint16_t
ps2_key(const char *name)
{
	unsigned long v;
	unsigned i;
	char *end;

	for (i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(keys[i].name, name) == 0)
			return keys[i].key;
	if (strncmp(name, "0x", 2) == 0) {
		v = strtoul(name, &end, 16);
		if (*end == '\0' && (v & 0x7f) && v <= 0xff)
			return (uint16_t)(v & 0x80 ? EXT | (v & 0x7f) : v);
	}
	return 0;
}

static uint8_t
take(uint8_t *q, uint8_t *n)
{
	uint8_t c = q[0];

	if (*n > 0)
		memmove(q, q + 1, --*n);
	return c;
}

static void
put(uint8_t *q, uint8_t *n, uint8_t c)
{
	if (*n < PS2_QUEUE)
		q[(*n)++] = c;
}

void
ps2_bound(struct ps2_kbd *k, struct ps2_mouse *m)
{
	if (k->n > PS2_QUEUE)
		k->n = PS2_QUEUE;
	if (m->n > PS2_QUEUE)
		m->n = PS2_QUEUE;
	if (k->nheld > PS2_HELD)
		k->nheld = PS2_HELD;
}

/* ---------------------------------------------------------------- keyboard */

void
kbd_reset(struct ps2_kbd *k)
{
	memset(k, 0, sizeof *k);
	k->on = 1;
	k->set = 2;
	k->rate = 0x2b;
}

uint8_t
kbd_take(struct ps2_kbd *k)
{
	k->last = take(k->q, &k->n);
	return k->last;
}

static void
kbd_put(struct ps2_kbd *k, uint8_t c)
{
	put(k->q, &k->n, c);
}

void
kbd_key(struct ps2_kbd *k, uint16_t key, bool down)
{
	static const uint8_t pause1[] = { 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5 };
	static const uint8_t pause2[] = {
		0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77
	};
	uint8_t c = key & 0x7f;
	unsigned i;

	if (!k->on || k->n > PS2_QUEUE - 8)
		return;			/* a full buffer loses keys */
	if (key == PAUSE) {
		if (!down)
			return;
		for (i = 0; k->set == 1 ? i < 6 : i < 8; i++)
			kbd_put(k, k->set == 1 ? pause1[i] : pause2[i]);
		return;
	}
	if (key & EXT)
		kbd_put(k, 0xe0);
	if (k->set == 1) {
		kbd_put(k, down ? c : c | 0x80);
		return;
	}
	if (!down)
		kbd_put(k, 0xf0);
	kbd_put(k, set2(c));
}

static void
kbd_parameter(struct ps2_kbd *k, uint8_t cmd, uint8_t v)
{
	switch (cmd) {
	case 0xed:
		k->leds = v & 7;
		break;
	case 0xf3:
		k->rate = v;
		break;
	case 0xf0:
		if (v > 2) {		/* there is no set 3 here */
			kbd_put(k, RESEND);
			return;
		}
		if (v)
			k->set = v;
		kbd_put(k, ACK);
		if (!v)
			kbd_put(k, k->set);
		return;
	}
	kbd_put(k, ACK);
}

void
kbd_command(struct ps2_kbd *k, uint8_t v)
{
	uint8_t cmd = k->cmd;

	k->cmd = 0;
	if (cmd && v < 0x80) {
		kbd_parameter(k, cmd, v);
		return;
	}
	switch (v) {
	case 0xed:
	case 0xf0:
	case 0xf3:
		k->cmd = v;
		kbd_put(k, ACK);
		return;
	case 0xee:			/* echo */
		kbd_put(k, 0xee);
		return;
	case 0xf2:			/* identify: MF2 keyboard */
		kbd_put(k, ACK);
		kbd_put(k, 0xab);
		kbd_put(k, 0x83);
		return;
	case 0xf4:
	case 0xf5:
	case 0xf6:
		k->n = 0;
		if (v != 0xf4) {
			k->rate = 0x2b;
			k->set = 2;
			k->leds = 0;
		}
		k->on = v != 0xf5;
		kbd_put(k, ACK);
		return;
	case 0xfe:
		kbd_put(k, k->last);
		return;
	case 0xff:
		kbd_reset(k);
		kbd_put(k, ACK);
		kbd_put(k, BAT_OK);
		return;
	}
	kbd_put(k, RESEND);
}

/* ------------------------------------------------------------------- mouse */

static void
mouse_defaults(struct ps2_mouse *m)
{
	m->on = m->remote = m->scale = m->wrap = 0;
	m->res = 2;
	m->rate = 100;
	m->dx = m->dy = m->dz = 0;
}

void
mouse_reset(struct ps2_mouse *m)
{
	memset(m, 0, sizeof *m);
	mouse_defaults(m);
}

uint8_t
mouse_take(struct ps2_mouse *m)
{
	return take(m->q, &m->n);
}

static void
mouse_put(struct ps2_mouse *m, uint8_t c)
{
	put(m->q, &m->n, c);
}

static int
clamp(int v, int lo, int hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* One movement packet of what is left to report. */
static void
packet(struct ps2_mouse *m)
{
	int dx = clamp(m->dx, -255, 255), dy = clamp(m->dy, -255, 255);
	int dz = clamp(m->dz, -8, 7);

	mouse_put(m, (uint8_t)(0x08 | (m->buttons & 7) |
	    (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)));
	mouse_put(m, (uint8_t)dx);
	mouse_put(m, (uint8_t)dy);
	m->dx = (int16_t)(m->dx - dx);
	m->dy = (int16_t)(m->dy - dy);
	if (m->id == 3) {
		mouse_put(m, (uint8_t)dz);
		m->dz = (int16_t)(m->dz - dz);
	} else {
		m->dz = 0;
	}
	m->pressed = m->buttons;
}

static void
report(struct ps2_mouse *m)
{
	if (!m->on || m->remote)
		return;
	while (m->n <= PS2_QUEUE - 16 && (m->dx || m->dy || m->dz ||
	    m->pressed != m->buttons))
		packet(m);
}

void
mouse_move(struct ps2_mouse *m, int dx, int dy, int dz)
{
	dx = clamp(dx, -10000, 10000);
	dy = clamp(dy, -10000, 10000);
	dz = clamp(dz, -10000, 10000);
	m->dx = (int16_t)clamp(m->dx + dx, -10000, 10000);
	m->dy = (int16_t)clamp(m->dy - dy, -10000, 10000);
	m->dz = (int16_t)clamp(m->dz + dz, -10000, 10000);
	report(m);
}

void
mouse_buttons(struct ps2_mouse *m, uint8_t b)
{
	m->buttons = b & 7;
	report(m);
}

static void
mouse_rate(struct ps2_mouse *m, uint8_t v)
{
	if (m->knock[0] == 200 && m->knock[1] == 100 && v == 80)
		m->id = 3;
	m->knock[0] = m->knock[1];
	m->knock[1] = v;
	m->rate = v;
}

static void
mouse_status(struct ps2_mouse *m)
{
	mouse_put(m, (uint8_t)(m->remote << 6 | m->on << 5 | m->scale << 4 |
	    (m->buttons & 1) << 2 | (m->buttons & 4) >> 1 |
	    (m->buttons & 2) >> 1));
	mouse_put(m, m->res);
	mouse_put(m, m->rate);
}

void
mouse_command(struct ps2_mouse *m, uint8_t v)
{
	uint8_t cmd = m->cmd;

	m->cmd = 0;
	if (m->wrap && v != 0xec && v != 0xff) {
		mouse_put(m, v);
		return;
	}
	if (cmd) {
		if (cmd == 0xf3)
			mouse_rate(m, v);
		else
			m->res = v & 3;
		mouse_put(m, ACK);
		return;
	}
	if (v != 0xeb)
		m->n = 0;		/* a command ends what was going on */
	switch (v) {
	case 0xe6:
	case 0xe7:
		m->scale = v & 1;
		break;
	case 0xe8:
	case 0xf3:
		m->cmd = v;
		break;
	case 0xe9:
		mouse_put(m, ACK);
		mouse_status(m);
		return;
	case 0xea:
		m->remote = 0;
		break;
	case 0xeb:
		mouse_put(m, ACK);
		packet(m);
		return;
	case 0xec:
	case 0xee:
		m->wrap = v == 0xee;
		break;
	case 0xf0:
		m->remote = 1;
		break;
	case 0xf2:
		mouse_put(m, ACK);
		mouse_put(m, m->id);
		return;
	case 0xf4:
	case 0xf5:
		m->on = v == 0xf4;
		break;
	case 0xf6:
		mouse_defaults(m);
		break;
	case 0xff:
		mouse_reset(m);
		mouse_put(m, ACK);
		mouse_put(m, BAT_OK);
		mouse_put(m, 0);
		return;
	default:
		mouse_put(m, RESEND);
		return;
	}
	mouse_put(m, ACK);
}
