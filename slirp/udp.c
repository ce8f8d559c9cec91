/*
 * udp.c - UDP (RFC 768).  Each guest address and port gets one unconnected
 * host socket, so any peer it talked to, or that finds it, can answer
 * (endpoint-independent mapping, RFC 4787); queries to the virtual name
 * server have their own, since their answers must bear its address.  Idle
 * ones go after two minutes, ten seconds for DNS; when the table is full the
 * least used one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "slirp.h"

#define NUDP	4096
#define NHASH	8192
#define IDLE	(120 * SEC)
#define IDLE_DNS (10 * SEC)

struct udp {
	struct ev ev;
	ip	guest, virt;		/* virt: answers come from, if dns */
	uint16_t port, vport;
	uint8_t	mac[6];
	bool	used, dns, fwd;
	bool	mute;			/* not watched until the timer */
	int	family;
	int64_t	last;
	struct udp *next;		/* hash chain or free list */
};

static struct udp flows[NUDP], *hash[NHASH], *freelist;
static unsigned nflows;

static void	age(struct timer *);
static struct timer ager = { 0, age, NULL };

/* The timer runs only while there is something to wait for. */
static void
age_at(int64_t at)
{
	if (!ager.slot || ager.at > at)
		timer_set(&ager, at);
}

/* payload lies 8 bytes behind an out_at() area. */
void
udp_send(const ip *src, uint16_t sp, const ip *dst, uint16_t dp,
    const uint8_t mac[6], uint8_t *pl, unsigned len)
{
	uint8_t *h = pl - 8;

	put16(h, sp);
	put16(h + 2, dp);
	put16(h + 4, len + 8);
	out_ip(h, len + 8, PROTO_UDP, src, dst, mac);
}

static unsigned
slot(const ip *g, uint16_t port, bool dns)
{
	return flow_hash(g, port, g, dns) & (NHASH - 1);
}

static void
drop(struct udp *u)
{
	struct udp **p;

	if (!u->fwd) {
		for (p = &hash[slot(&u->guest, u->port, u->dns)]; *p;
		    p = &(*p)->next)
			if (*p == u) {
				*p = u->next;
				break;
			}
		ev_del(&u->ev);
		close(u->ev.fd);
	}
	u->used = false;
	u->next = freelist;
	freelist = u;
	nflows--;
}

static void
udp_rx(struct ev *ev, uint32_t events)
{
	struct udp *u = ev->arg;
	struct sockaddr_storage ss;
	socklen_t sl;
	bool v6 = !is4(&u->guest);
	uint16_t port;
	uint8_t *o;
	ssize_t n;
	ip from;
	int i;

	if (u->fwd && !nb_get(&u->guest, u->mac)) {
		/* ARP is under way: look again in a while */
		ev_mod(ev, 0);
		u->mute = true;
		age_at(loop_now + SEC / 4);
		return;
	}
	for (i = 0; i < 16; i++) {
		o = out_at(0, v6) + 8;
		sl = sizeof ss;
		n = recvfrom(ev->fd, o, 65400, MSG_DONTWAIT, (void *)&ss, &sl);
		if (n < 0)
			return;
		if (u->dns) {
			from = u->virt;
			port = u->vport;
		} else {
			from_host(&ss, &from, &port);
			if (is4(&from) == v6) {
				/* a peer of the other family: the gateway
				 * stands for it */
				from = v6 ? cf.host6 : cf.host4;
			}
		}
		u->last = loop_now;
		udp_send(&from, port, &u->guest, u->port, u->mac, o, n);
	}
}

static struct udp *
get(struct pkt *k, uint16_t sp, uint16_t dp, bool dns, int family)
{
	unsigned h = slot(&k->src, sp, dns), i;
	struct udp *u, *old;
	int fd;

	for (u = hash[h]; u; u = u->next)
		if (u->port == sp && u->dns == dns && u->family == family &&
		    ipeq(&u->guest, &k->src) && (!dns ||
		    (ipeq(&u->virt, &k->dst) && u->vport == dp)))
			return u;
	if (!freelist) {
		for (old = NULL, i = 0; i < NUDP; i++)
			if (!flows[i].fwd && (!old ||
			    flows[i].last < old->last))
				old = &flows[i];
		st.udp_full++;
		if (!old)
			return NULL;
		drop(old);
	}
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return NULL;
	u = freelist;
	freelist = u->next;
	*u = (struct udp){ .ev = { fd, udp_rx, u }, .guest = k->src,
	    .virt = k->dst, .port = sp, .vport = dp, .used = true, .dns = dns,
	    .family = family, .next = hash[h] };
	hash[h] = u;
	nflows++;
	st.udp_open++;
	ev_add(&u->ev, EPOLLIN);
	age_at(loop_now + (dns ? IDLE_DNS : IDLE));
	return u;
}

/* The socket a forward uses for answers, so that they come from its port. */
static struct udp *
forwarded(struct pkt *k, uint16_t sp)
{
	for (unsigned i = 0; i < NUDP; i++)
		if (flows[i].used && flows[i].fwd && flows[i].port == sp &&
		    ipeq(&flows[i].guest, &k->src))
			return &flows[i];
	return NULL;
}

static unsigned nforward;

void
udp_input(struct pkt *k)
{
	uint16_t sp = get16(k->l4), dp = get16(k->l4 + 2);
	struct sockaddr_storage ss;
	struct udp *u;
	socklen_t sl;
	bool dns;

	if (is4(&k->dst) && dp == 67 && sp == 68) {
		dhcp_input(k);
		return;
	}
	if (!is4(&k->dst) && dp == 547) {
		dhcp6_input(k);
		return;
	}
	if (is4(&k->src) && !v4of(&k->src))
		return;
	if (is_host(&k->dst) && dp == 69 && cf.tftp) {
		tftp_input(k);
		return;
	}
	dns = is_dns(&k->dst);
	if (dns && dp == 53 && dns_own(k))
		return;
	if (is4(&k->dst) ? v4of(&k->dst) == ~0u || v4of(&k->dst) >> 28 == 14 ||
	    v4of(&k->dst) == (cf.net | ~cf.mask) :
	    IN6_IS_ADDR_MULTICAST(&k->dst))
		return;
	u = nforward ? forwarded(k, sp) : NULL;
	if (!u || !is_host(&k->dst)) {
		if (!to_host(&k->dst, dp, &ss, &sl)) {
			icmp_unreach(k, dns ? 3 : 13);
			return;
		}
		u = get(k, sp, dp, dns, ss.ss_family);
	} else {
		/* an answer to a forwarded datagram; the rule's socket may be
		 * of any address, so loopback it is */
		if (!to_loopback(&k->dst, dp, &ss, &sl))
			return;
	}
	if (!u) {
		icmp_unreach(k, 1);
		return;
	}
	memcpy(u->mac, k->mac, 6);
	u->last = loop_now;
	if (sendto(u->ev.fd, k->l4 + 8, k->len - 8, MSG_DONTWAIT | MSG_NOSIGNAL,
	    (void *)&ss, sl) < 0) {
		if (errno == ECONNREFUSED)
			icmp_unreach(k, 3);
		else if (errno == ENETUNREACH || errno == EHOSTUNREACH)
			icmp_unreach(k, errno == ENETUNREACH ? 0 : 1);
	}
}

int
udp_forward(int fd, const ip *guest, uint16_t port)
{
	struct udp *u = freelist;
	int family;
	socklen_t n = sizeof family;

	if (!u || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) < 0) {
		errno = ENOSPC;
		return -1;
	}
	freelist = u->next;
	*u = (struct udp){ .ev = { fd, udp_rx, u }, .guest = *guest,
	    .port = port, .used = true, .fwd = true, .family = family };
	nflows++;
	nforward++;
	return ev_add(&u->ev, EPOLLIN);
}

void
udp_unforward(int fd)
{
	for (unsigned i = 0; i < NUDP; i++)
		if (flows[i].used && flows[i].fwd && flows[i].ev.fd == fd) {
			ev_del(&flows[i].ev);
			drop(&flows[i]);
			nforward--;
		}
}

unsigned
udp_count(void)
{
	return nflows;
}

static void
age(struct timer *t)
{
	int64_t next = 0, end;
	struct udp *u;

	for (u = flows; u < flows + NUDP; u++) {
		if (!u->used)
			continue;
		if (u->fwd) {
			if (u->mute)
				ev_mod(&u->ev, EPOLLIN);
			u->mute = false;
			continue;
		}
		end = u->last + (u->dns ? IDLE_DNS : IDLE);
		if (end <= loop_now)
			drop(u);
		else if (!next || end < next)
			next = end;
	}
	if (next)
		age_at(next + SEC / 4);
}

void
udp_start(void)
{
	for (unsigned i = NUDP; i-- > 0; ) {
		flows[i].next = freelist;
		freelist = &flows[i];
	}
}
