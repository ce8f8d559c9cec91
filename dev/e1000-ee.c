/*
 * e1000-ee.c - the EEPROM of the 82540EM behind the register EECD, a 93C46: start
 * bit, two bits of operation, six of address, 16 of data (SDM 5.3, 5.6, 13.4.3).
 */
#include "e1000.h"

enum { EE_SK = 1, EE_CS = 2, EE_DI = 4, EE_DO = 8, EE_REQ = 0x40, EE_GNT = 0x80,
	EE_PRES = 0x100 };

void
e1000_ee_fill(struct e1000 *s, const uint8_t m[6])
{
	uint16_t sum = 0;
	unsigned i;

	if (s->ee_valid)
		return;
	s->ee_valid = 1;
	for (i = 0; i < 3; i++)
		s->ee[i] = (uint16_t)(m[2 * i] | m[2 * i + 1] << 8);
	s->ee[0x0a] = 0x4408;			/* initialization control 1 */
	s->ee[0x0b] = 0x1100;			/* subsystem, its vendor */
	s->ee[0x0c] = 0x1af4;
	s->ee[0x0d] = 0x100e;
	s->ee[0x0e] = 0x8086;
	s->ee[0x0f] = 0x3040;			/* initialization control 2 */
	for (i = 0; i < EE_WORDS - 1; i++)
		sum += s->ee[i];
	s->ee[EE_WORDS - 1] = (uint16_t)(0xbaba - sum);
}

/* A rising clock with data bit di. */
static void
ee_clock(struct e1000 *s, bool di)
{
	uint32_t *eecd = e1000_reg(s, EECD);
	unsigned op, addr;

	if (s->ee_n == 0 && !di)
		return;				/* no start bit yet */
	if (s->ee_n < 9) {
		s->ee_bits = s->ee_bits << 1 | di;
		if (++s->ee_n < 9)
			return;
	}
	op = s->ee_bits >> 6 & 3;
	addr = s->ee_bits & 63;
	if (s->ee_n == 9) {			/* the command is whole */
		s->ee_n = 10;
		s->ee_out = s->ee[addr];
		*eecd &= ~(uint32_t)EE_DO;	/* the dummy bit */
		if (op == 0 && addr >> 4 == 3)
			s->ee_writable = 1;
		else if (op == 0 && addr >> 4 == 0)
			s->ee_writable = 0;
		return;
	}
	if (op == 2) {				/* read, then on to the next */
		*eecd &= ~(uint32_t)EE_DO;
		if (s->ee_out & 0x8000)
			*eecd |= EE_DO;
		s->ee_out = (uint16_t)(s->ee_out << 1);
		if (++s->ee_n == 26) {
			addr = (addr + 1) % EE_WORDS;
			s->ee_bits = (s->ee_bits & ~63u) | addr;
			s->ee_out = s->ee[addr];
			s->ee_n = 10;
		}
	} else if (op == 1 && s->ee_n < 26) {	/* write */
		s->ee_out = (uint16_t)(s->ee_out << 1 | di);
		if (++s->ee_n == 26) {
			if (s->ee_writable)
				s->ee[addr] = s->ee_out;
			*eecd |= EE_DO;		/* ready */
		}
	}
}

void
e1000_eecd(struct e1000 *s, uint32_t v)
{
	uint32_t *r = e1000_reg(s, EECD), old = *r;

	*r = (v & (EE_SK | EE_CS | EE_DI | EE_REQ | 0x30)) | EE_PRES |
	    (v & EE_REQ ? EE_GNT : 0) | (old & EE_DO);
	if (!(v & EE_CS)) {
		s->ee_n = 0;
		s->ee_bits = 0;
		*r |= EE_DO;
	} else if (v & ~old & EE_SK) {
		ee_clock(s, v & EE_DI);
	}
}
