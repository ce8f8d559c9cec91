/*
 * netsum.c - the sums that network cards compute: IEEE 802.3 CRC-32 in its two
 * forms, and RFC 1071's; and TCP and UDP segmentation, which goes with them.
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

static unsigned
be16(const uint8_t *p)
{
	return p[0] << 8u | p[1];
}

static void
put_be16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

void
nic_put_sum(uint8_t *f, unsigned len, unsigned start, unsigned at, unsigned end)
{
	unsigned sum;

	if (end == 0 || end >= len)
		end = len - 1;
	if (start > end || at + 2 > len)
		return;
	sum = ~nic_sum(f + start, end - start + 1) & 0xffff;
	put_be16(f + at, sum ? sum : 0xffff);
}

/* ------------------------------------------------------------ segmentation */

bool
nic_seg_ok(const struct nic_seg *g, unsigned len)
{
	return g->mss && g->data < len && g->ip + (g->v4 ? 20 : 40) <= g->l4 &&
	    g->l4 + (g->tcp ? 20 : 8) <= g->data && g->sum + 2 <= g->data;
}

unsigned
nic_seg(const struct nic_seg *g, const uint8_t *packet, unsigned len,
    unsigned off, unsigned n, uint8_t *f)
{
	unsigned part = len - off < g->mss ? len - off : g->mss, sum;
	unsigned total = g->data + part;
	uint8_t *l4 = f + g->l4;
	uint32_t seq;

	memcpy(f, packet, g->data);
	memcpy(f + g->data, packet + off, part);
	if (g->v4) {
		put_be16(f + g->ip + 2, total - g->ip);
		put_be16(f + g->ip + 4, be16(f + g->ip + 4) + n);
	} else {
		put_be16(f + g->ip + 4, total - g->ip - 40);
	}
	if (g->tcp) {
		seq = (be16(l4 + 4) << 16 | be16(l4 + 6)) + (off - g->data);
		put_be16(l4 + 4, seq >> 16);
		put_be16(l4 + 6, seq & 0xffff);
		if (off + part < len)
			l4[13] &= (uint8_t)~9;		/* PSH, FIN */
	} else {
		put_be16(l4 + 4, total - g->l4);
	}
	if (g->sum) {
		sum = be16(f + g->sum) + total - g->l4;
		put_be16(f + g->sum, (sum & 0xffff) + (sum >> 16));
	}
	return part;
}
