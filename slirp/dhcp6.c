/*
 * dhcp6.c - stateless DHCPv6 (RFC 8415 section 18.3.6, RFC 3646): the name
 * server and search list for an Information-request.  Addresses come from
 * router advertisements.
 */
#include "slirp.h"

void
dhcp6_input(struct pkt *k)
{
	const uint8_t *q = k->l4 + 8, *id = NULL, *p, *end = k->l4 + k->len;
	static const ip ll = { .s6_addr = { 0xfe, 0x80, [15] = 2 } };
	unsigned n, idn = 0;
	uint8_t *r, *o, *at;

	if (k->len < 12 || q[0] != 11)
		return;
	for (p = q + 4; end - p >= 4; p += 4 + n) {
		n = get16(p + 2);
		if (end - p - 4 < (int)n) {
			st.bad++;
			return;
		}
		if (get16(p) == 1 && n <= 130)
			id = p, idn = n + 4;
	}
	r = o = out_at(0, true) + 8;
	*o++ = 7;			/* reply */
	memcpy(o, q + 1, 3);
	o += 3;
	put16(o, 2), put16(o + 2, 10), put16(o + 4, 3), put16(o + 6, 1);
	memcpy(o + 8, cf.mac, 6);	/* server id: DUID-LL */
	o += 14;
	if (id) {
		memcpy(o, id, idn);
		o += idn;
	}
	put16(o, 23), put16(o + 2, 16);
	memcpy(o + 4, &cf.dns6, 16);
	o += 20;
	if (cf.nsearch) {
		at = o;
		o += 4;
		for (unsigned i = 0; i < cf.nsearch; i++) {
			const char *s = cf.search[i];

			if (o - at + strlen(s) > 500)
				break;
			while (*s) {
				n = strcspn(s, ".");
				if (!n || n > 63)
					break;
				*o++ = n;
				memcpy(o, s, n);
				o += n;
				s += n + (s[n] == '.');
			}
			*o++ = 0;
		}
		put16(at, 24), put16(at + 2, o - at - 4);
	}
	udp_send(&ll, 547, &k->src, 546, k->mac, r, o - r);
}
