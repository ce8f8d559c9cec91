/*
 * icmp.c - ICMP (RFC 792): echo to the virtual addresses is answered here,
 * echo to the world goes through ping sockets (ICMP datagram sockets, which
 * need no privilege but a group inside net.ipv4.ping_group_range) or, for
 * root, raw ones; errors for what cannot be sent.  ICMPv6 echo (RFC 4443)
 * likewise.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <netinet/icmp6.h>
#include "slirp.h"

#define NPING	64
#define PING_NS	(30 * SEC)

static struct ping {
	struct ev ev;
	ip	guest, dst;
	uint16_t id;
	uint8_t	mac[6];
	int64_t	last;
	bool	raw;
} pings[NPING];

static void
reply(struct pkt *k)
{
	uint8_t *o;

	if (k->len > 65000)
		return;
	o = out_at(0, !is4(&k->src));
	memcpy(o, k->l4, k->len);
	o[0] = is4(&k->src) ? 0 : 129;
	out_ip(o, k->len, k->proto, &k->dst, &k->src, k->mac);
}

static void
ping_rx(struct ev *ev, uint32_t events)
{
	struct ping *p = ev->arg;
	bool v6 = !is4(&p->dst);
	struct sockaddr_storage ss;
	socklen_t sl = sizeof ss;
	uint8_t *o = out_at(0, v6);
	ssize_t n;
	ip from;
	uint16_t port;
	unsigned ih;

	n = recvfrom(ev->fd, o, 65000, MSG_DONTWAIT, (void *)&ss, &sl);
	if (n < 0)
		return;
	if (p->raw && !v6) {
		ih = n > 20 ? (o[0] & 15) * 4 : n;
		if (n < (ssize_t)ih + 8 || get16(o + ih + 4) != p->id)
			return;
		memmove(o, o + ih, n - ih);
		n -= ih;
	}
	if (n < 8 || o[0] != (v6 ? 129 : 0))
		return;
	put16(o + 4, p->id);
	from_host(&ss, &from, &port);
	out_ip(o, n, v6 ? PROTO_ICMP6 : PROTO_ICMP, &from, &p->guest, p->mac);
}

static void	age(struct timer *);
static struct timer ager = { 0, age, NULL };	/* while there are any */

static struct ping *
ping_get(struct pkt *k)
{
	uint16_t id = get16(k->l4 + 4);
	struct ping *p, *old = NULL;
	bool v6 = !is4(&k->dst);
	int fd;

	for (p = pings; p < pings + NPING; p++) {
		if (p->ev.fd >= 0 && p->id == id && ipeq(&p->guest, &k->src) &&
		    ipeq(&p->dst, &k->dst))
			return p;
		if (!old || (old->ev.fd >= 0 && (p->ev.fd < 0 ||
		    p->last < old->last)))
			old = p;
	}
	p = old;
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	p->raw = fd < 0;
	if (fd < 0)
		fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	if (fd < 0)
		return NULL;
	if (p->ev.fd >= 0) {
		ev_del(&p->ev);
		close(p->ev.fd);
	}
	p->ev = (struct ev){ fd, ping_rx, p };
	p->guest = k->src;
	p->dst = k->dst;
	p->id = id;
	ev_add(&p->ev, EPOLLIN);
	st.icmp_open++;
	if (!ager.slot)
		timer_set(&ager, loop_now + PING_NS);
	return p;
}

static void
echo(struct pkt *k)
{
	struct sockaddr_storage ss;
	socklen_t sl;
	struct ping *p;

	if (is_ours(&k->dst)) {
		reply(k);
		return;
	}
	if (!to_host(&k->dst, 0, &ss, &sl)) {
		icmp_unreach(k, 13);
		return;
	}
	p = ping_get(k);
	if (!p) {
		icmp_unreach(k, 13);
		return;
	}
	memcpy(p->mac, k->mac, 6);
	p->last = loop_now;
	if (sendto(p->ev.fd, k->l4, k->len, MSG_DONTWAIT, (void *)&ss, sl) < 0)
		icmp_unreach(k, errno == EHOSTUNREACH ? 1 : 0);
}

void
icmp_input(struct pkt *k)
{
	if (v4of(&k->src) && k->l4[0] == 8 && k->l4[1] == 0)
		echo(k);
}

void
icmp_unreach(struct pkt *k, uint8_t code)
{
	static const uint8_t code6[16] = { [0] = 0, [1] = 3, [2] = 4, [3] = 4,
	    [13] = 1 };
	bool v6 = !is4(&k->src);
	unsigned n = k->netlen;
	const ip *us = v6 ? &cf.host6 : &cf.host4;
	uint8_t *o;

	/* never about errors, groups or nobody (RFC 1122 3.2.2) */
	if ((!v6 && !v4of(&k->src)) || IN6_IS_ADDR_MULTICAST(&k->src))
		return;
	if (n > (v6 ? 1232u : 548u))
		n = v6 ? 1232 : 548;
	o = out_at(0, v6);
	o[0] = v6 ? 1 : 3;
	o[1] = v6 ? code6[code & 15] : code;
	memset(o + 2, 0, 6);
	memcpy(o + 8, k->net, n);
	out_ip(o, n + 8, v6 ? PROTO_ICMP6 : PROTO_ICMP, us, &k->src, k->mac);
}

/* From ndp.c, after neighbour discovery took its own. */
void	icmp6_echo(struct pkt *);
void
icmp6_echo(struct pkt *k)
{
	echo(k);
}

static void
age(struct timer *t)
{
	struct ping *p;
	bool more = false;

	for (p = pings; p < pings + NPING; p++) {
		if (p->ev.fd < 0)
			continue;
		if (loop_now - p->last > PING_NS) {
			ev_del(&p->ev);
			close(p->ev.fd);
			p->ev.fd = -1;
		} else {
			more = true;
		}
	}
	if (more)
		timer_set(t, loop_now + PING_NS / 2);
}

void
icmp_start(void)
{
	struct ping *p;

	for (p = pings; p < pings + NPING; p++)
		p->ev.fd = -1;
}
