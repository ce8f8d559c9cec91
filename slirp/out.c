/*
 * out.c - building packets: Ethernet II, IPv4 (RFC 791, with fragmentation),
 * IPv6 (RFC 8200), and the Internet checksum (RFC 1071).
 *
 * A wire that takes frames with a vnet_hdr gets TCP in pieces of 64 KiB and without
 * checksums.
 *
 * Buffer i belongs to the i-th frame the wire holds unsent, so the wire's own
 * count says which are free; no frame is ever copied on the way to the wire.
 */
#include "slirp.h"

#define L3	64	/* the network header starts here: aligned */

static uint8_t obuf[BATCH][FRAME_MAX + 64] __attribute__((aligned(64)));
static uint16_t ip_id;

unsigned
out_room(void)
{
	return BATCH - cf.wire->ntx;
}

void
out_need(unsigned n)
{
	if (out_room() < n)
		wire_flush(cf.wire);
}

uint8_t *
out_at(unsigned i, bool v6)
{
	if (!i)
		out_need(1);
	return obuf[cf.wire->ntx + i] + L3 + (v6 ? 40 : 20);
}

unsigned
l4_room(bool v6)
{
	return cf.mtu - (v6 ? 40 : 20);
}

/* Sum of 16-bit words as they lie in memory; 64 bits at a time. */
uint32_t
csum_add(uint32_t sum, const void *v, unsigned len)
{
	const uint8_t *p = v;
	uint64_t s = sum, a;
	uint32_t w;
	uint16_t h;

	for (; len >= 32; len -= 32, p += 32)
		for (unsigned i = 0; i < 32; i += 4) {
			memcpy(&w, p + i, 4);
			s += w;
		}
	for (; len >= 4; len -= 4, p += 4) {
		memcpy(&w, p, 4);
		s += w;
	}
	if (len >= 2) {
		memcpy(&h, p, 2);
		s += h;
		len -= 2;
		p += 2;
	}
	if (len)
		s += *p;	/* little-endian: the odd byte is the low one */
	a = (s & 0xffffffff) + (s >> 32);
	a = (a & 0xffffffff) + (a >> 32);
	a = (a & 0xffff) + (a >> 16);
	return (a & 0xffff) + (a >> 16);
}

/* In memory order: store it with memcpy, not put16. */
uint16_t
csum_fold(uint32_t s)
{
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

uint8_t *
out_raw(void)
{
	out_need(1);
	return obuf[cf.wire->ntx] + L3;
}

static void
eth(uint8_t *p, unsigned len, uint16_t type, const uint8_t dst[6],
    const struct vnet_hdr *h)
{
	struct iovec v = { p - ETH_HDR, len + ETH_HDR };
	uint8_t *e = v.iov_base;

	memcpy(e, dst, 6);
	memcpy(e + 6, cf.mac, 6);
	put16(e + 12, type);
	wire_send_vnet(cf.wire, h, &v, 1);
}

void
out_eth(uint8_t *p, unsigned len, uint16_t type, const uint8_t dst[6])
{
	eth(p, len, type, dst, NULL);
}

/* Of the pseudo-header. */
static uint32_t
pseudo(unsigned len, uint8_t proto, const ip *src, const ip *dst)
{
	unsigned at = is4(dst) ? 12 : 0;
	uint8_t ph[8];

	put32(ph, len);
	put32(ph + 4, proto);
	return csum_add(csum_add(csum_add(0, ph, 8), src->s6_addr + at,
	    16 - at), dst->s6_addr + at, 16 - at);
}

static void
l4_csum(uint8_t *l4, unsigned len, uint8_t proto, const ip *src, const ip *dst)
{
	static const uint8_t where[64] = { [PROTO_ICMP] = 2, [PROTO_TCP] = 16,
	    [PROTO_UDP] = 6, [PROTO_ICMP6] = 2 };
	uint8_t *at = l4 + where[proto & 63];
	uint32_t s = proto == PROTO_ICMP ? 0 : pseudo(len, proto, src, dst);
	uint16_t c;

	memset(at, 0, 2);
	c = csum_fold(csum_add(s, l4, len));
	if (!c && proto == PROTO_UDP)
		c = 0xffff;
	memcpy(at, &c, 2);
}

static void
hdr4(uint8_t *h, unsigned len, uint16_t id, uint16_t frag, uint8_t proto,
    const ip *src, const ip *dst)
{
	uint16_t c;

	h[0] = 0x45;
	h[1] = 0;
	put16(h + 2, len + 20);
	put16(h + 4, id);
	put16(h + 6, frag);
	h[8] = 64;
	h[9] = proto;
	h[10] = h[11] = 0;
	memcpy(h + 12, src->s6_addr + 12, 4);
	memcpy(h + 16, dst->s6_addr + 12, 4);
	c = csum_fold(csum_add(0, h, 20));
	memcpy(h + 10, &c, 2);
}

static void
send4(uint8_t *l4, unsigned len, uint8_t proto, const ip *src, const ip *dst,
    const uint8_t *mac)
{
	unsigned off, n, step;
	uint8_t *o;

	if (len + 20 <= cf.mtu) {
		hdr4(l4 - 20, len, ip_id++, proto == PROTO_TCP ? 0x4000 : 0,
		    proto, src, dst);
		out_eth(l4 - 20, len + 20, 0x0800, mac);
		return;
	}
	/* The packet sits in the next free buffer: cut it into those behind,
	 * last piece first is not needed; the first piece stays where it is
	 * and is cut short. */
	step = (cf.mtu - 20) & ~7u;
	ip_id++;
	if (out_room() < len / step + 2) {
		unsigned was = cf.wire->ntx;

		wire_flush(cf.wire);
		memmove(obuf[0] + L3 + 20, obuf[was] + L3 + 20, len);
		l4 = obuf[0] + L3 + 20;
		if (BATCH < len / step + 2)
			return;		/* a tiny MTU: dropped */
	}
	for (off = 0; off < len; off += n) {
		n = len - off < step ? len - off : step;
		o = off ? out_at(0, false) : l4;
		if (off)
			memcpy(o, l4 + off, n);
		hdr4(o - 20, n, ip_id - 1, off / 8 | (off + n < len ? 0x2000 :
		    0), proto, src, dst);
		out_eth(o - 20, n + 20, 0x0800, mac);
	}
}

static void
hdr6(uint8_t *h, unsigned len, uint8_t proto, const ip *src, const ip *dst,
    uint8_t hops)
{
	put32(h, 0x60000000);
	put16(h + 4, len);
	h[6] = proto;
	h[7] = hops;
	memcpy(h + 8, src, 16);
	memcpy(h + 24, dst, 16);
}

static void
send6(uint8_t *l4, unsigned len, uint8_t proto, const ip *src, const ip *dst,
    const uint8_t *mac, uint8_t hops)
{
	if (len + 40 > cf.mtu)
		return;		/* fragments are not sent over IPv6 */
	hdr6(l4 - 40, len, proto, src, dst, hops);
	out_eth(l4 - 40, len + 40, 0x86dd, mac);
}

unsigned
out_mss(unsigned mss)
{
	/* with headers, IP's length has 16 bits */
	return cf.wire->offload && mss < 65415 ? 65415 / mss * mss : mss;
}

void
out_tcp(uint8_t *l4, unsigned hl, unsigned len, unsigned mss, const ip *src,
    const ip *dst, const uint8_t mac[6])
{
	unsigned nh = is4(dst) ? 20 : 40;
	struct vnet_hdr h = { .flags = VNET_NEEDS_CSUM, .start = ETH_HDR + nh,
	    .at = 16 };
	uint16_t c;

	if (!cf.wire->offload) {
		out_ip(l4, hl + len, PROTO_TCP, src, dst, mac);
		return;
	}
	if (len > mss) {
		h.gso = nh == 20 ? VNET_TCP4 : VNET_TCP6;
		h.mss = mss;
		h.hdr_len = h.start + hl;
	}
	c = ~csum_fold(pseudo(hl + len, PROTO_TCP, src, dst));
	memcpy(l4 + 16, &c, 2);
	if (nh == 20)
		hdr4(l4 - 20, hl + len, ip_id++, 0x4000, PROTO_TCP, src, dst);
	else
		hdr6(l4 - 40, hl + len, PROTO_TCP, src, dst, 64);
	eth(l4 - nh, nh + hl + len, nh == 20 ? 0x0800 : 0x86dd, mac, &h);
}

void
out_ip(uint8_t *l4, unsigned len, uint8_t proto, const ip *src, const ip *dst,
    const uint8_t mac[6])
{
	l4_csum(l4, len, proto, src, dst);
	if (is4(dst))
		send4(l4, len, proto, src, dst, mac);
	else
		send6(l4, len, proto, src, dst, mac, 64);
}

void
out_ndp(uint8_t *l4, unsigned len, const ip *src, const ip *dst,
    const uint8_t mac[6])
{
	l4_csum(l4, len, PROTO_ICMP6, src, dst);
	send6(l4, len, PROTO_ICMP6, src, dst, mac, 255);
}
