/*
 * slirp-gen.h - damaged frames for vm-slirp, from a seed: most are near to valid,
 * with right checksums: ARP, DHCP, DNS, TFTP, ICMP, fragments, TCP in all states,
 * neighbour discovery, DHCPv6, extension headers; then some bytes are changed or
 * the frame is cut.
 */
#ifndef SLIRP_GEN_H
#define SLIRP_GEN_H

#include <stdint.h>
#include <string.h>

static uint64_t seed;

static uint32_t
r(uint32_t n)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)((z ^ z >> 31) >> 16) % n;
}

static void
w16(uint8_t *p, unsigned v)
{
	p[0] = v >> 8, p[1] = v;
}

static void
w32(uint8_t *p, uint32_t v)
{
	w16(p, v >> 16), w16(p + 2, v);
}

static uint32_t
sum(uint32_t a, const uint8_t *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		a += i & 1 ? p[i] : p[i] << 8;
	return a;
}

static unsigned
fold(uint32_t a)
{
	a = (a & 0xffff) + (a >> 16);
	a = (a & 0xffff) + (a >> 16);
	return ~a & 0xffff;
}

static unsigned
l4(uint8_t *p, unsigned *proto, int v6, const uint8_t *mac)
{
	static const uint16_t ports[] = { 53, 67, 68, 69, 80, 9, 1, 547, 546 };
	unsigned n, i;

	switch (r(v6 ? 5 : 6)) {
	case 0: case 1: case 2:
		*proto = 6;
		w16(p, 1000 + r(3));
		w16(p + 2, r(3) ? 80 : ports[r(9)]);
		/* sequence numbers near each other, so that some fit */
		w32(p + 4, 1000 + r(4) * r(3000));
		w32(p + 8, r(0xffffffff));
		n = 20 + 4 * (r(3) ? 0u : r(11));
		p[12] = n / 4 << 4;
		p[13] = r(3) ? 1u << r(6) : r(256);
		w16(p + 14, r(65536));
		w32(p + 16, 0);
		for (i = 20; i < n; i++)
			p[i] = r(2) ? r(9) : r(256);
		return n + (r(2) ? r(1400) : 0);
	case 3: case 4:
		*proto = 17;
		w16(p, r(2) ? 68 : 1000 + r(40));
		w16(p + 2, ports[r(9)]);
		n = 8 + r(700);
		for (i = 8; i < n; i++)
			p[i] = r(4) ? r(8) : r(256);
		if (p[3] == 67 || r(4) == 0) {
			w16(p, 68), w16(p + 2, 67);
			n = 8 + 240 + r(200);
			memset(p + 8, 0, 240);
			p[8] = 1, p[9] = 1, p[10] = 6;
			memcpy(p + 36, mac, 6);
			w32(p + 244, 0x63825363);
			p[248] = 53, p[249] = 1, p[250] = 1 + r(8);
		} else if (r(3) == 0) {
			w16(p + 2, 69);
			memcpy(p + 8, "\0\1../a\0octet\0blksize\0009999\0", 27);
		} else if (p[3] == 53) {
			w32(p + 12, 0x10000);
			p[20] = 2 + r(60);
		}
		w16(p + 4, n);
		return n;
	}
	*proto = 1;
	p[0] = 8, p[1] = 0;
	return 8 + r(1000);
}

/* Frame number n, in f[4096]; its length. */
static unsigned
damaged(uint8_t *f, unsigned long n)
{
	unsigned len, proto, i, k, off;
	uint8_t *p;

	for (i = 14; i < 1600; i++)
		f[i] = n * 7 + i;
	memcpy(f, r(4) ? "\x52\x55\x0a\0\2\2" : "\377\377\377\377\377"
	    "\377", 6);
	memcpy(f + 6, "\x52\x54\0\x12\x34", 5);
	f[11] = r(4);
	p = f + 14;
	switch (r(10)) {
	case 0:
		w16(f + 12, 0x806);
		memcpy(p, "\0\1\x08\0\6\4\0\1", 8);
		memcpy(p + 8, f + 6, 6);
		w32(p + 14, 0x0a00020f);
		w32(p + 24, 0x0a000200 + r(8));
		len = 14 + 28;
		break;
	case 1: case 2: case 3:
		w16(f + 12, 0x86dd);
		off = 40;
		memset(p, 0, 40);
		p[0] = 0x60;
		p[7] = 255;
		w32(p + 8, 0xfec00000);
		p[23] = 15;
		w32(p + 24, 0xfec00000);
		p[39] = 2 + r(2);
		if (r(3) == 0) {
			w32(p + 24, 0xff020000);
			p[39] = 1 + r(2);
		}
		if (r(3)) {
			len = l4(p + off, &proto, 1, f + 6);
		} else {
			proto = 58;
			p[40] = 128 + r(10);
			p[41] = 0;
			len = 8 + r(64);
			memcpy(p + 48, p + 24, 16);
		}
		p[6] = r(8) ? proto : r(64);
		w16(p + 4, len);
		k = proto == 6 ? 16 : proto == 17 ? 6 : 2;
		w16(p + 40 + k, 0);
		w16(p + 40 + k, fold(sum(len + proto, p + 8,
		    32 + len)));
		len += 54;
		break;
	default:
		w16(f + 12, 0x800);
		len = l4(p + 20, &proto, 0, f + 6);
		k = proto == 6 ? 16 : proto == 17 ? 6 : 2;
		p[0] = 0x45;
		w16(p + 2, len + 20);
		w16(p + 4, r(4));
		w16(p + 6, r(5) ? 0 : r(2) ? 0x2000 | r(30) : r(200));
		p[8] = 64;
		p[9] = proto;
		w32(p + 12, r(20) ? 0x0a00020f : 0);
		w32(p + 16, r(3) ? 0x0a000202 + r(2) : 0x0a000264);
		w16(p + 10, 0);
		w16(p + 10, fold(sum(0, p, 20)));
		w16(p + 20 + k, 0);
		w16(p + 20 + k, fold(proto == 1 ? sum(0, p + 20, len) :
		    sum(len + proto, p + 12, 8 + len)));
		len += 34;
		break;
	}
	if (r(4) == 0)
		for (i = r(4) + 1; i; i--)
			f[r(3) ? 12 + r(60) : r(len)] = r(256);
	if (r(20) == 0)
		len = r(len + 1);
	if (!len)
		len = 1;
	return len;
}

#endif
