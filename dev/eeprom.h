/*
 * eeprom.h - the serial EEPROM of network cards, a 93C46: 64 words of 16 bits
 * behind chip select, clock, data in and data out (Microchip DS21749).
 */
#ifndef EEPROM_H
#define EEPROM_H

#include "dev.h"

#define EE_WORDS	64

/* Saved by EE_FIELDS in the field table. */
struct eeprom {
	uint16_t	word[EE_WORDS];
	uint32_t	bits;		/* shifted in since the chip select */
	uint16_t	shift;		/* data going out or coming in */
	uint8_t		n;		/* bits so far, from the start bit on */
	uint8_t		valid, writable, sk, out;	/* filled; pins */
};
#define EE_FIELD(st, m, f, size, n) \
	{ #m "." #f, offsetof(struct st, m) + offsetof(struct eeprom, f), \
	size, n, false }
#define EE_FIELDS(st, m) EE_FIELD(st, m, word, 2, EE_WORDS), \
	EE_FIELD(st, m, bits, 4, 1), EE_FIELD(st, m, shift, 2, 1), \
	EE_FIELD(st, m, n, 1, 1), EE_FIELD(st, m, valid, 1, 1), \
	EE_FIELD(st, m, writable, 1, 1), EE_FIELD(st, m, sk, 1, 1), \
	EE_FIELD(st, m, out, 1, 1)

/* Chip select, clock and data in take these values; data out is in e->out. */
void	eeprom_pins(struct eeprom *, bool cs, bool sk, bool di);

#endif
