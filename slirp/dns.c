/*
 * dns.c - names we know ourselves (RFC 1035): the guests', as they gave them
 * to DHCP, bare or in our domain, and _gateway.  Everything else goes to the
 * host's resolver (udp.c, net.c).
 */
#include <ctype.h>
#include "slirp.h"

bool
dns_own(struct pkt *k)
{
	const uint8_t *q = k->l4 + 8, *end = k->l4 + k->len, *p;
	char name[256];
	unsigned n = 0, l, type;
	uint32_t addr;
	size_t dl, host;
	uint8_t *r, *o;

	/* one standard query with one question */
	if (end - q < 17 || q[2] & 0xf8 || get16(q + 4) != 1)
		return false;
	for (p = q + 12; p < end && *p; p += l + 1) {
		l = *p;
		if (l > 63 || end - p < (int)l + 2 || n + l + 2 > sizeof name)
			return false;
		if (n)
			name[n++] = '.';
		memcpy(name + n, p + 1, l);
		n += l;
	}
	if (end - p < 5 || !n)
		return false;
	name[n] = 0;
	type = get16(p + 1);
	if (get16(p + 3) != 1)
		return false;
	host = n;
	if (cf.domain) {
		dl = strlen(cf.domain);
		if (n > dl + 1 && name[n - dl - 1] == '.' &&
		    !strcasecmp(name + n - dl, cf.domain))
			host = n - dl - 1;
	}
	if (!strcasecmp(name, "_gateway"))
		addr = cf.host;
	else if (!lease_name(name, host, &addr))
		return false;
	st.dns_own++;
	p += 5;
	r = out_at(0, !is4(&k->src)) + 8;
	memcpy(r, q, p - q);
	r[2] = 0x84 | (q[2] & 1);		/* answer, authoritative */
	r[3] = 0x80;
	put16(r + 6, type == 1);
	put32(r + 8, 0);
	o = r + (p - q);
	if (type == 1) {
		put16(o, 0xc00c);
		put16(o + 2, 1);
		put16(o + 4, 1);
		put32(o + 6, 60);
		put16(o + 10, 4);
		put32(o + 12, addr);
		o += 16;
	}
	udp_send(&k->dst, 53, &k->src, get16(k->l4), k->mac, r, o - r);
	return true;
}
