/*
 * ps2.h - what hangs on the i8042's two ports: a keyboard and a mouse, as
 * state machines that take bytes and queue bytes.
 */
#ifndef PS2_H
#define PS2_H

#include <stdbool.h>
#include <stdint.h>

#define PS2_QUEUE	64
#define PS2_HELD	8

struct ps2_kbd {
	uint8_t		n, q[PS2_QUEUE];	/* bytes for the host */
	uint8_t		cmd;		/* waits for its parameter */
	uint8_t		on;		/* scanning */
	uint8_t		set;		/* scan code set: 1 or 2 */
	uint8_t		leds, rate;
	uint8_t		last;		/* for FE, resend */
	uint8_t		nheld;
	uint16_t	held[PS2_HELD];	/* keys to release, see ps2_key */
};

struct ps2_mouse {
	uint8_t		n, q[PS2_QUEUE];
	uint8_t		cmd, on, wrap, remote, scale, res, rate, buttons, id;
	uint8_t		knock[2];	/* last sample rates set */
	int16_t		dx, dy, dz;	/* not yet reported */
	uint8_t		pressed;	/* buttons last reported */
};

#define PS2_KBD_FIELDS(st, m) \
	FIELD(st, m.n), FIELDS(st, m.q), FIELD(st, m.cmd), FIELD(st, m.on), \
	FIELD(st, m.set), FIELD(st, m.leds), FIELD(st, m.rate), \
	FIELD(st, m.last), FIELD(st, m.nheld), FIELDS(st, m.held)
#define PS2_MOUSE_FIELDS(st, m) \
	FIELD(st, m.n), FIELDS(st, m.q), FIELD(st, m.cmd), FIELD(st, m.on), \
	FIELD(st, m.wrap), FIELD(st, m.remote), FIELD(st, m.scale), \
	FIELD(st, m.res), FIELD(st, m.rate), FIELD(st, m.buttons), \
	FIELD(st, m.id), FIELDS(st, m.knock), FIELD(st, m.dx), \
	FIELD(st, m.dy), FIELD(st, m.dz), FIELD(st, m.pressed)

void	kbd_reset(struct ps2_kbd *);
void	kbd_command(struct ps2_kbd *, uint8_t);		/* byte from the host */
uint8_t	kbd_take(struct ps2_kbd *);			/* n > 0 */
void	kbd_key(struct ps2_kbd *, uint16_t key, bool down);
/* A key by its name ("ctrl", "a", "f1", 0x1e): set 1 code, bit 8: after E0;
 * 0: no such key. */
uint16_t ps2_key(const char *name);
/* The controller's translation of a set 2 code to set 1. */
uint8_t	ps2_translate(uint8_t);

void	mouse_reset(struct ps2_mouse *);
void	mouse_command(struct ps2_mouse *, uint8_t);
uint8_t	mouse_take(struct ps2_mouse *);
/* dx right, dy down, dz towards the user. */
void	mouse_move(struct ps2_mouse *, int dx, int dy, int dz);
void	mouse_buttons(struct ps2_mouse *, uint8_t);	/* 1 left 2 right 4 mid */

/* A damaged state: bring counts into their bounds. */
void	ps2_bound(struct ps2_kbd *, struct ps2_mouse *);

#endif
