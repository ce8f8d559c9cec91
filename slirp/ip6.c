/*
 * ip6.c - IPv6 packets from the guests (RFC 8200).  Extension headers that may
 * be skipped are; fragments are not taken (guests see the MTU in our router
 * advertisement).
 */
#include "slirp.h"

void
ip6_input(uint8_t *p, unsigned len, const uint8_t *mac, bool summed)
{
	struct pkt k = { .mac = mac, .summed = summed };
	unsigned off = 40, n, next;

	if (len < 40 || p[0] >> 4 != 6)
		goto bad;
	n = get16(p + 4);
	if (n + 40 > len)
		goto bad;
	memcpy(&k.src, p + 8, 16);
	memcpy(&k.dst, p + 24, 16);
	if (is4(&k.src) || is4(&k.dst))
		goto bad;
	k.net = p;
	k.netlen = n + 40;
	k.hops = p[7];
	next = p[6];
	n += 40;
	/* hop-by-hop, routing without segments left, destination options */
	while (next == 0 || next == 60 || next == 43) {
		if (n - off < 8 || n - off < (p[off + 1] + 1u) * 8)
			goto bad;
		if (next == 43 && p[off + 3])
			goto bad;
		next = p[off];
		off += (p[off + 1] + 1u) * 8;
	}
	k.proto = next;
	k.l4 = p + off;
	k.len = n - off;
	if (!IN6_IS_ADDR_UNSPECIFIED(&k.src)) {
		if (!in_net(&k.src) || is_ours(&k.src))
			goto bad;
		nb_learn(&k.src, mac);
	} else if (next != PROTO_ICMP6) {
		goto bad;
	}
	l4_input(&k);
	return;
bad:
	st.bad++;
}
