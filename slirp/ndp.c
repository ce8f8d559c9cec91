/*
 * ndp.c - IPv6 neighbour discovery (RFC 4861): router and neighbour
 * advertisements, with the prefix, the MTU and the name server (RFC 8106).
 */
#include <netinet/icmp6.h>
#include "slirp.h"

void	icmp6_echo(struct pkt *);

static const ip ll = { .s6_addr = { 0xfe, 0x80, [15] = 2 } };
static const ip all = { .s6_addr = { 0xff, 2, [15] = 1 } };
static const uint8_t allmac[6] = { 0x33, 0x33, 0, 0, 0, 1 };

static void
router_adv(const ip *to, const uint8_t *mac)
{
	uint8_t *o = out_at(0, true), *p = o;

	memset(o, 0, 16);
	o[0] = 134;
	o[4] = 64;
	o[5] = 0x40;			/* other configuration: DHCPv6 */
	put16(o + 6, 1800);
	p = o + 16;
	p[0] = 1, p[1] = 1;		/* source link-layer address */
	memcpy(p + 2, cf.mac, 6);
	p += 8;
	memset(p, 0, 32);		/* prefix, on link, autonomous */
	p[0] = 3, p[1] = 4, p[2] = 64, p[3] = 0xc0;
	put32(p + 4, 86400);
	put32(p + 8, 14400);
	memcpy(p + 16, &cf.net6, 8);
	p += 32;
	memset(p, 0, 8);
	p[0] = 5, p[1] = 1;
	put32(p + 4, cf.mtu < 65535 ? cf.mtu : 65535);
	p += 8;
	memset(p, 0, 8);
	p[0] = 25, p[1] = 3;		/* recursive DNS server */
	put32(p + 4, 1800);
	memcpy(p + 8, &cf.dns6, 16);
	p += 24;
	out_ndp(o, p - o, &ll, to, mac);
}

static void
neighbour_sol(struct pkt *k)
{
	bool dad = IN6_IS_ADDR_UNSPECIFIED(&k->src);
	const uint8_t *mac;
	uint8_t *o;
	ip t;

	if (k->len < 24)
		return;
	memcpy(&t, k->l4 + 8, 16);
	if (!is_ours(&t))
		return;
	mac = is_dns(&t) ? cf.dnsmac : cf.mac;
	o = out_at(0, true);
	memset(o, 0, 32);
	o[0] = 136;
	o[4] = (ipeq(&t, &ll) || is_host(&t) ? 0x80 : 0) | (dad ? 0 : 0x40) |
	    0x20;
	memcpy(o + 8, &t, 16);
	o[24] = 2, o[25] = 1;
	memcpy(o + 26, mac, 6);
	out_ndp(o, 32, &t, dad ? &all : &k->src, dad ? allmac : k->mac);
}

void
ndp_ask(const ip *a)
{
	uint8_t *o = out_at(0, true);
	uint8_t mac[6] = { 0x33, 0x33, 0xff };
	ip g = { .s6_addr = { 0xff, 2, [11] = 1, [12] = 0xff } };

	memcpy(g.s6_addr + 13, a->s6_addr + 13, 3);
	memcpy(mac + 3, a->s6_addr + 13, 3);
	memset(o, 0, 32);
	o[0] = 135;
	memcpy(o + 8, a, 16);
	o[24] = 1, o[25] = 1;
	memcpy(o + 26, cf.mac, 6);
	out_ndp(o, 32, &ll, &g, mac);
}

void
ndp_input(struct pkt *k)
{
	switch (k->l4[0]) {
	case 133:
		if (k->hops == 255)
			router_adv(&all, allmac);
		break;
	case 135:
		if (k->hops == 255)
			neighbour_sol(k);
		break;
	case 128:
		if (!IN6_IS_ADDR_MULTICAST(&k->dst) &&
		    !IN6_IS_ADDR_UNSPECIFIED(&k->src))
			icmp6_echo(k);
		break;
	}
}

static void
tick(struct timer *t)
{
	router_adv(&all, allmac);
	timer_set(t, loop_now + 200 * SEC);
}

void
ndp_start(void)
{
	static struct timer t = { 0, tick, NULL };

	if (cf.v6)
		timer_set(&t, loop_now + SEC);
}
