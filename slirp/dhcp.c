/*
 * dhcp.c - BOOTP and DHCP server (RFC 951, 2131, 2132): a lease per MAC
 * address, the same one each time, kept in a file if one is given.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include "slirp.h"

#define LEASE_SECS 86400u

enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACKN, NAK, RELEASE, INFORM };

static struct lease {
	uint8_t	mac[6];
	bool	used, taken;		/* taken: declined by a client */
	char	name[64];
	uint32_t seen;
} leases[MAX_LEASE];
static uint32_t tick;

static uint32_t
addr_of(const struct lease *l)
{
	return cf.dhcpstart + (l - leases);
}

static bool
usable(unsigned i)
{
	uint32_t a = cf.dhcpstart + i;

	return (a & cf.mask) == cf.net && a != (cf.net | ~cf.mask) &&
	    a != cf.host && a != cf.dns;
}

static struct lease *
find(const uint8_t *mac, bool make)
{
	struct lease *old = NULL;
	unsigned i;

	for (i = 0; i < MAX_LEASE; i++)
		if (leases[i].used && !memcmp(leases[i].mac, mac, 6))
			return &leases[i];
	if (!make)
		return NULL;
	for (i = 0; i < 2 * MAX_LEASE && !(old && i >= MAX_LEASE); i++) {
		struct lease *l = &leases[i % MAX_LEASE];

		/* declined ones the second time: they may be free by now */
		if (!usable(i % MAX_LEASE) || (l->taken && i < MAX_LEASE))
			continue;
		if (!l->used) {
			old = l;
			break;
		}
		if (!old || l->seen < old->seen)
			old = l;
	}
	if (old) {
		memset(old, 0, sizeof *old);
		old->used = true;
		memcpy(old->mac, mac, 6);
	}
	return old;
}

static bool
keep_name(struct lease *l, const uint8_t *s, unsigned n)
{
	char new[64];
	unsigned i;

	if (n > 63)
		n = 63;
	for (i = 0; i < n && (isalnum(s[i]) || s[i] == '-' || s[i] == '_'); i++)
		new[i] = s[i];
	new[i] = 0;
	if (!strcmp(l->name, new))
		return false;
	strcpy(l->name, new);
	return true;
}

void
leases_write(FILE *f)
{
	for (unsigned i = 0; i < MAX_LEASE; i++)
		if (leases[i].used) {
			const uint8_t *m = leases[i].mac;

			fprintf(f, "%u %02x:%02x:%02x:%02x:%02x:%02x %s\n", i,
			    m[0], m[1], m[2], m[3], m[4], m[5],
			    *leases[i].name ? leases[i].name : "-");
		}
}

void
lease_again(const char *line)
{
	unsigned i, m[6], k;
	char name[64];

	if (sscanf(line, "%u %2x:%2x:%2x:%2x:%2x:%2x %63s", &i, &m[0], &m[1],
	    &m[2], &m[3], &m[4], &m[5], name) != 8 || i >= MAX_LEASE)
		return;
	leases[i].used = true;
	for (k = 0; k < 6; k++)
		leases[i].mac[k] = m[k];
	keep_name(&leases[i], (const uint8_t *)name, strcmp(name, "-") ?
	    strlen(name) : 0);
}

void
lease_print(void (*put)(const char *))
{
	char line[160];
	ip a;

	for (unsigned i = 0; i < MAX_LEASE; i++)
		if (leases[i].used) {
			const uint8_t *m = leases[i].mac;

			a = mk4(addr_of(&leases[i]));
			snprintf(line, sizeof line, "%s %02x:%02x:%02x:%02x:"
			    "%02x:%02x %s", ipstr(&a), m[0], m[1], m[2], m[3],
			    m[4], m[5], leases[i].name);
			put(line);
		}
}

bool
lease_name(const char *name, size_t n, uint32_t *addr)
{
	for (unsigned i = 0; i < MAX_LEASE; i++)
		if (leases[i].used && strlen(leases[i].name) == n && n &&
		    !strncasecmp(leases[i].name, name, n)) {
			*addr = addr_of(&leases[i]);
			return true;
		}
	return false;
}

/* ----------------------------------------------------------------- options */

struct opts {
	uint8_t	type;
	bool	has_req, has_server, any;
	uint32_t req, server;
	const uint8_t *name, *id;
	unsigned nname;
};

static void
parse(const uint8_t *p, const uint8_t *end, struct opts *o)
{
	unsigned n;

	while (p < end && *p != 255) {
		if (*p == 0) {
			p++;
			continue;
		}
		if (end - p < 2 || end - p - 2 < (n = p[1]))
			return;
		if (*p == 53 && n == 1)
			o->type = p[2];
		else if (*p == 50 && n == 4)
			o->has_req = true, o->req = get32(p + 2);
		else if (*p == 54 && n == 4)
			o->has_server = true, o->server = get32(p + 2);
		else if (*p == 12 && n)
			o->name = p + 2, o->nname = n;
		p += 2 + n;
	}
}

struct wr { uint8_t *p, *end; };

static void
opt(struct wr *w, uint8_t code, const void *v, unsigned n)
{
	if (n > 255 || w->end - w->p < (int)n + 3)
		return;
	*w->p++ = code;
	*w->p++ = n;
	memcpy(w->p, v, n);
	w->p += n;
}

static void
opt32(struct wr *w, uint8_t code, uint32_t v)
{
	uint8_t b[4];

	put32(b, v);
	opt(w, code, b, 4);
}

static void
optstr(struct wr *w, uint8_t code, const char *s)
{
	if (s && *s)
		opt(w, code, s, strlen(s));
}

/* RFC 3397 without compression. */
static void
search(struct wr *w)
{
	uint8_t b[255], *p = b;
	unsigned i;

	for (i = 0; i < cf.nsearch; i++) {
		const char *s = cf.search[i];
		size_t n;

		if ((size_t)(b + sizeof b - p) < strlen(s) + 2)
			break;
		while (*s) {
			n = strcspn(s, ".");
			if (!n || n > 63)
				break;
			*p++ = n;
			memcpy(p, s, n);
			p += n;
			s += n + (s[n] == '.');
		}
		*p++ = 0;
	}
	if (p > b)
		opt(w, 119, b, p - b);
}

void
dhcp_input(struct pkt *k)
{
	const uint8_t *q = k->l4 + 8;
	unsigned len = k->len - 8;
	struct opts o = { 0 };
	struct lease *l;
	struct wr w;
	uint8_t *r, mac[6], answer = 0;
	uint32_t ciaddr, yours = 0;
	bool bootp, bcast;
	ip us = cf.host4, to;

	if (len < 236 || q[0] != 1 || q[1] != 1 || q[2] != 6) {
		st.bad++;
		return;
	}
	st.dhcp++;
	memcpy(mac, q + 28, 6);
	ciaddr = get32(q + 12);
	if (len >= 240 && get32(q + 236) == 0x63825363)
		parse(q + 240, q + len, &o);
	bootp = !o.type;
	if (o.has_server && o.server != cf.host)
		return;		/* for another server */
	l = find(mac, o.type != RELEASE && o.type != DECLINE &&
	    o.type != INFORM);
	switch (o.type) {
	case 0:				/* BOOTP */
	case DISCOVER:
		answer = OFFER;
		tcp_doubt(mac);
		break;
	case REQUEST:
		answer = ACKN;
		if (l && (o.has_req ? o.req : ciaddr) &&
		    (o.has_req ? o.req : ciaddr) != addr_of(l))
			answer = NAK;
		break;
	case INFORM:
		answer = ACKN;
		break;
	case DECLINE:
		if (l) {
			l->used = false;
			l->taken = true;
		}
		return;
	default:
		return;		/* RELEASE: the lease stays the client's */
	}
	if (!l && o.type != INFORM)
		return;		/* no address left */
	if (l) {
		l->seen = ++tick;
		if (o.name && keep_name(l, o.name, o.nname))
			keep_save();
		else if (o.type == REQUEST)
			keep_save();
		yours = o.type == INFORM ? 0 : addr_of(l);
	}
	r = out_at(0, false) + 8;
	memset(r, 0, 576);
	r[0] = 2, r[1] = 1, r[2] = 6;
	memcpy(r + 4, q + 4, 4);		/* xid */
	memcpy(r + 10, q + 10, 2);		/* flags */
	memcpy(r + 28, mac, 6);
	if (answer != NAK) {
		if (o.type == REQUEST || o.type == INFORM)
			put32(r + 12, ciaddr);
		put32(r + 16, yours);
		put32(r + 20, cf.host);		/* next server */
		snprintf((char *)r + 44, 64, "%s", cf.tftpname ? cf.tftpname :
		    "");
		snprintf((char *)r + 108, 128, "%s", cf.bootfile ?
		    cf.bootfile : "");
	}
	put32(r + 236, 0x63825363);
	w = (struct wr){ r + 240, r + 548 };
	if (!bootp) {
		opt(&w, 53, &answer, 1);
		opt32(&w, 54, cf.host);
	}
	if (answer != NAK) {
		uint8_t mtu[2];

		if (!bootp && o.type != INFORM) {
			opt32(&w, 51, LEASE_SECS);
		}
		opt32(&w, 1, cf.mask);
		if (!cf.restricted)
			opt32(&w, 3, cf.host);
		if (!cf.restricted)
			opt32(&w, 6, cf.dns);
		if (cf.mtu != 1500) {
			put16(mtu, cf.mtu);
			opt(&w, 26, mtu, 2);
		}
		optstr(&w, 12, cf.hostname);
		optstr(&w, 15, cf.domain);
		optstr(&w, 66, cf.tftpname);
		optstr(&w, 67, cf.bootfile);
		search(&w);
	}
	*w.p++ = 255;
	bcast = q[10] & 0x80 || answer == NAK;
	if (ciaddr && !bcast && in_net(&k->src))
		to = k->src;
	else
		to = mk4(bcast || !yours ? ~0u : yours);
	udp_send(&us, 67, &to, 68, v4of(&to) == ~0u ?
	    (const uint8_t *)"\377\377\377\377\377\377" : mac, r,
	    w.p - r < 300 ? 300 : w.p - r);
}
