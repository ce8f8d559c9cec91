/*
 * ip4.c - frames and IPv4 packets from the guests (RFC 791): validation,
 * reassembly, and the way up.
 */
#include "slirp.h"

#define NREASM	8
#define REASM_NS (5 * SEC)

/* One datagram being put together: which 8-byte blocks are there. */
static struct reasm {
	ip	src, dst;
	uint16_t id;
	uint8_t	proto;
	bool	used;
	unsigned total, have;		/* bytes; total 0: not known */
	int64_t	since;
	uint8_t	map[8192 / 8];
	uint8_t	buf[65536];
} reasm[NREASM];

void
eth_input(void *arg, struct wire *w, struct frame *f, unsigned n)
{
	static const uint8_t bcast[6] = { 255, 255, 255, 255, 255, 255 };
	uint8_t *p, mac[6];
	unsigned i, len;
	bool summed;

	for (i = 0; i < n; i++) {
		p = f[i].p;
		if (f[i].len < ETH_HDR) {
			st.bad++;
			continue;
		}
		len = f[i].len - ETH_HDR;
		/* for us, for all, or for a group */
		if (memcmp(p, cf.mac, 6) && memcmp(p, cf.dnsmac, 6) &&
		    memcmp(p, bcast, 6) && !(p[0] == 0x33 && p[1] == 0x33))
			continue;
		summed = f[i].vnet && f[i].vnet->flags &
		    (VNET_NEEDS_CSUM | VNET_DATA_VALID);
		memcpy(mac, p + 6, 6);
		if (mac[0] & 1 || !memcmp(mac, cf.mac, 6)) {
			st.bad++;
			continue;
		}
		switch (get16(p + 12)) {
		case 0x0806:
			if (cf.v4)
				arp_input(p + ETH_HDR, len, p + 6);
			break;
		case 0x0800:
			if (cf.v4)
				ip4_input(p + ETH_HDR, len, p + 6, summed);
			break;
		case 0x86dd:
			if (cf.v6)
				ip6_input(p + ETH_HDR, len, p + 6, summed);
			break;
		}
	}
	tcp_batch_end();
}

/* The whole datagram in k->l4, or false. */
static bool
reassemble(struct pkt *k, uint16_t id, uint16_t frag)
{
	unsigned off = (frag & 0x1fff) * 8, i, end = off + k->len;
	struct reasm *r = NULL, *old = &reasm[0];

	if (end > 65515 || !k->len || (frag & 0x2000 && k->len % 8))
		goto bad;
	for (i = 0; i < NREASM; i++) {
		struct reasm *x = &reasm[i];

		if (x->used && loop_now - x->since > REASM_NS)
			x->used = false;
		if (x->used && x->id == id && x->proto == k->proto &&
		    ipeq(&x->src, &k->src) && ipeq(&x->dst, &k->dst))
			r = x;
		if (!x->used || (old->used && x->since < old->since))
			old = x;
	}
	if (!r) {
		r = old;
		memset(r, 0, offsetof(struct reasm, buf));
		r->used = true;
		r->src = k->src;
		r->dst = k->dst;
		r->id = id;
		r->proto = k->proto;
		r->since = loop_now;
	}
	if (!(frag & 0x2000)) {
		if (r->total && r->total != end)
			goto drop;
		r->total = end;
	}
	if (r->total && end > r->total)
		goto drop;
	/* overlaps are attacks or errors: the datagram is given up */
	for (i = off / 8; i < (end + 7) / 8; i++) {
		if (r->map[i / 8] & 1 << i % 8)
			goto drop;
		r->map[i / 8] |= 1 << i % 8;
	}
	memcpy(r->buf + off, k->l4, k->len);
	r->have += k->len;
	if (!r->total || r->have < r->total)
		return false;
	if (r->have > r->total)
		goto drop;
	r->used = false;
	st.frag++;
	k->l4 = r->buf;
	k->len = r->total;
	return true;
drop:
	r->used = false;
bad:
	st.bad++;
	return false;
}

void
ip4_input(uint8_t *p, unsigned len, const uint8_t *mac, bool summed)
{
	struct pkt k = { .mac = mac };
	unsigned hl, total;
	uint16_t frag;

	if (len < 20 || p[0] >> 4 != 4)
		goto bad;
	hl = (p[0] & 15) * 4;
	total = get16(p + 2);
	if (hl < 20 || total < hl || total > len ||
	    csum_fold(csum_add(0, p, hl)))
		goto bad;
	k.src = mk4(get32(p + 12));
	k.dst = mk4(get32(p + 16));
	k.proto = p[9];
	k.hops = p[8];
	k.l4 = p + hl;
	k.len = total - hl;
	k.net = p;
	k.netlen = total;
	frag = get16(p + 6);
	k.summed = summed && !(frag & 0x3fff);
	/* a guest without address may only ask for one */
	if (v4of(&k.src) && (!in_net(&k.src) || is_ours(&k.src)))
		goto bad;
	if (v4of(&k.src))
		nb_learn(&k.src, mac);
	if (frag & 0x3fff && !reassemble(&k, get16(p + 4), frag))
		return;
	l4_input(&k);
	return;
bad:
	st.bad++;
}

/* Checksums of what goes on to host sockets must be verified here: the
 * kernel's copy starts afresh. */
static bool
sum_ok(const struct pkt *k)
{
	uint8_t ph[8];
	uint32_t s;

	if (k->summed)
		return true;
	put32(ph, k->len);
	put32(ph + 4, k->proto);
	s = csum_add(0, ph, 8);
	if (is4(&k->src)) {
		s = csum_add(s, k->src.s6_addr + 12, 4);
		s = csum_add(s, k->dst.s6_addr + 12, 4);
	} else {
		s = csum_add(s, &k->src, 16);
		s = csum_add(s, &k->dst, 16);
	}
	return csum_fold(csum_add(s, k->l4, k->len)) == 0;
}

void
l4_input(struct pkt *k)
{
	switch (k->proto) {
	case PROTO_TCP:
		if (k->len < 20 || !sum_ok(k))
			break;
		tcp_input(k);
		return;
	case PROTO_UDP:
		if (k->len < 8 || get16(k->l4 + 4) < 8 ||
		    get16(k->l4 + 4) > k->len)
			break;
		k->len = get16(k->l4 + 4);
		if ((k->l4[6] || k->l4[7] || !is4(&k->src)) && !sum_ok(k))
			break;
		udp_input(k);
		return;
	case PROTO_ICMP:
		if (k->len < 8 || !is4(&k->src) ||
		    csum_fold(csum_add(0, k->l4, k->len)))
			break;
		icmp_input(k);
		return;
	case PROTO_ICMP6:
		if (k->len < 8 || is4(&k->src) || !sum_ok(k))
			break;
		ndp_input(k);
		return;
	default:
		if (is4(&k->src) && v4of(&k->src) && is_ours(&k->dst))
			icmp_unreach(k, 2);
		return;
	}
	st.bad++;
}
