/*
 * eeprom.c - see eeprom.h.  A command is a start bit, two bits of operation and
 * six of address; then a dummy 0 and the word go out, most significant bit first,
 * and on to the next word; or a word comes in.
 */
#include "eeprom.h"

enum { OP_OTHER, OP_WRITE, OP_READ, OP_ERASE };
enum { CMD_BITS = 9, WHOLE = 10, END = WHOLE + 16 };

static void
command(struct eeprom *e)
{
	unsigned op = e->bits >> 6 & 3, addr = e->bits & 63;

	e->n = WHOLE;
	e->out = 0;			/* the dummy bit */
	e->shift = op == OP_READ ? e->word[addr] : 0;
	if (op == OP_OTHER && addr >> 4 == 3)
		e->writable = 1;
	else if (op == OP_OTHER && addr >> 4 == 0)
		e->writable = 0;
	else if (op == OP_ERASE && e->writable)
		e->word[addr] = 0xffff;
	if (op == OP_ERASE)
		e->out = 1;		/* done at once */
}

static void
rise(struct eeprom *e, bool di)
{
	unsigned op = e->bits >> 6 & 3, addr = e->bits & 63;

	if (e->n == 0 && !di)
		return;				/* no start bit yet */
	if (e->n < CMD_BITS) {
		e->bits = e->bits << 1 | di;
		if (++e->n == CMD_BITS)
			command(e);
	} else if (op == OP_READ) {
		e->out = e->shift >> 15;
		e->shift = (uint16_t)(e->shift << 1);
		if (++e->n >= END) {
			addr = (addr + 1) % EE_WORDS;
			e->bits = (e->bits & ~63u) | addr;
			e->shift = e->word[addr];
			e->n = WHOLE;
		}
	} else if (op == OP_WRITE && e->n < END) {
		e->shift = (uint16_t)(e->shift << 1 | di);
		if (++e->n == END) {
			if (e->writable)
				e->word[addr] = e->shift;
			e->out = 1;		/* ready */
		}
	}
}

void
eeprom_pins(struct eeprom *e, bool cs, bool sk, bool di)
{
	if (!cs) {
		e->n = 0;
		e->bits = 0;
		e->out = 1;
	} else if (sk && !e->sk) {
		rise(e, di);
	}
	e->sk = sk;
}
