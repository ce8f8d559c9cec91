/*
 * netsum.c - the sums that network cards compute: IEEE 802.3 CRC-32 in its two
 * forms, and RFC 1071's.
 */
#include <string.h>

#include "nic.h"

uint32_t
nic_crc(const uint8_t *p, size_t len)
{
	uint32_t crc = 0xffffffff;
	unsigned i, bit;

	while (len--) {
		for (i = 0; i < 8; i++) {
			bit = (crc >> 31) ^ (*p >> i & 1);
			crc = crc << 1 ^ (bit ? 0x04c11db7 : 0);
		}
		p++;
	}
	return crc;
}

uint32_t
nic_fcs(const uint8_t *p, size_t len)
{
	static uint32_t table[256];
	uint32_t c;
	unsigned i, k;

	if (!table[1])
		for (i = 0; i < 256; i++) {
			for (c = i, k = 0; k < 8; k++)
				c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
			table[i] = c;
		}
	for (c = 0xffffffff; len--; p++)
		c = c >> 8 ^ table[(c ^ *p) & 255];
	return ~c;
}

uint16_t
nic_sum(const uint8_t *p, size_t len)
{
	uint64_t sum = 0;
	uint32_t w = 0;

	for (; len >= 4; len -= 4, p += 4) {
		memcpy(&w, p, 4);
		sum += w;
	}
	w = 0;
	memcpy(&w, p, len);
	sum += w;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum >> 8 | sum << 8);
}
