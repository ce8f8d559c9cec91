/*
 * slirp-guest.h - the guests of slirp-inside.c: a wire whose frames are checked, a
 * little TCP, and stations that ask for all there is.
 */
#ifndef SLIRP_GUEST_H
#define SLIRP_GUEST_H

#define NCONN	96

static struct conn {
	ip	me, far;
	uint16_t mport, fport;
	uint32_t snd, una, rcv;	/* una: what vm-slirp acknowledged */
	uint8_t	st;		/* CLOSED... */
	uint8_t	rst, last;	/* seen: a reset; the last flags */
} conns[NCONN];
enum { CLOSED, SYN_SENT, OPEN, SYN_RCVD };

static bool silent;		/* nothing is answered any more */
static uint64_t guest_got;	/* frames */
static uint8_t offered[4];	/* the last DHCP address */
static const uint8_t guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0 };

static void
puts_(const char *s)
{
	fprintf(stderr, "%s\n", s);
}

/* -------------------------------------------------- what comes from vm-slirp */

static void
unsound(const uint8_t *f, unsigned len, const char *why)
{
	fprintf(stderr, "a frame of %u bytes, %s:", len, why);
	for (unsigned i = 0; i < len && i < 80; i++)
		fprintf(stderr, "%s%02x", i % 16 ? " " : "\n", f[i]);
	fprintf(stderr, "\n");
	abort();
}

static void
to_conn(const uint8_t *t, unsigned len, const ip *src, const ip *dst)
{
	uint16_t fp = get16(t), mp = get16(t + 2);
	struct conn *c, *empty = NULL;
	uint8_t fl = t[13];

	for (c = conns; c < conns + NCONN; c++) {
		if (c->st && c->mport == mp && c->fport == fp &&
		    ipeq(&c->me, dst) && ipeq(&c->far, src))
			break;
		if (!c->st)
			empty = c;
	}
	if (c == conns + NCONN) {
		c = empty;
		if (!c || (fl & (SYN | ACK | RST)) != SYN)
			return;
		*c = (struct conn){ *dst, *src, mp, fp, r(0xffffffff), 0,
		    get32(t + 4) + 1, SYN_RCVD };
		return;
	}
	c->last = fl;
	if (fl & RST) {
		c->st = CLOSED;
		c->rst++;
		return;
	}
	if (fl & ACK)
		c->una = get32(t + 8);
	if (c->st == SYN_SENT && (fl & (SYN | ACK)) == (SYN | ACK)) {
		c->rcv = get32(t + 4) + 1;
		c->snd = c->una;
		c->st = OPEN;
	} else if (c->st == OPEN && get32(t + 4) == c->rcv) {
		c->rcv += len - (t[12] >> 4) * 4 + !!(fl & FIN);
	}
}

static void
sound(const uint8_t *f, unsigned len, const struct vnet_hdr *v)
{
	const uint8_t *n = f + 14, *l4;
	unsigned l4len, proto;
	uint8_t ph[8];
	uint32_t s;
	ip src, dst;

	guest_got++;
	if (len < 14 || f[6] & 1)
		unsound(f, len, "no Ethernet header");
	if (get16(f + 12) == 0x0806)
		return;
	if (get16(f + 12) == 0x0800) {
		if (len < 34 || n[0] != 0x45 || get16(n + 2) != len - 14 ||
		    csum_fold(csum_add(0, n, 20)))
			unsound(f, len, "IPv4");
		if (get16(n + 6) & 0x3fff)
			return;
		src = mk4(get32(n + 12));
		dst = mk4(get32(n + 16));
		proto = n[9];
		l4 = n + 20;
	} else {
		if (get16(f + 12) != 0x86dd || len < 54 || n[0] >> 4 != 6 ||
		    get16(n + 4) != len - 54)
			unsound(f, len, "IPv6");
		memcpy(&src, n + 8, 16);
		memcpy(&dst, n + 24, 16);
		proto = n[6];
		l4 = n + 40;
	}
	l4len = f + len - l4;
	s = 0;
	if (proto != PROTO_ICMP) {
		put32(ph, l4len);
		put32(ph + 4, proto);
		s = csum_add(0, ph, 8);
		s = csum_add(s, is4(&src) ? src.s6_addr + 12 : src.s6_addr,
		    is4(&src) ? 4 : 16);
		s = csum_add(s, is4(&dst) ? dst.s6_addr + 12 : dst.s6_addr,
		    is4(&dst) ? 4 : 16);
	}
	if (v->flags & VNET_NEEDS_CSUM) {
		uint16_t c = ~csum_fold(s);

		if (proto != PROTO_TCP || v->start != l4 - f || v->at != 16 ||
		    memcmp(l4 + 16, &c, 2))
			unsound(f, len, "half a checksum");
	} else if (csum_fold(csum_add(s, l4, l4len)) &&
	    !(proto == PROTO_UDP && !get16(l4 + 6))) {
		unsound(f, len, "checksum");
	}
	if (len > cf.mtu + 14 && (!v->mss || !v->gso ||
	    v->hdr_len != l4 - f + (l4[12] >> 4) * 4))
		unsound(f, len, "too long");
	if (proto == PROTO_TCP)
		to_conn(l4, l4len, &src, &dst);
	else if (proto == PROTO_UDP && get16(l4 + 2) == 68 && l4len > 250)
		memcpy(offered, l4 + 8 + 16, 4);
}

static void
take(struct wire *w)
{
	static uint8_t f[FRAME_MAX + 64];
	struct vnet_hdr v;
	unsigned i, k, len;

	for (i = 0; i < w->ntx; i++) {
		const struct iovec *p = &w->iov[w->tx[i].first];

		memcpy(&v, p[0].iov_base, sizeof v);
		for (len = 0, k = 1; k < w->tx[i].n; k++) {
			memcpy(f + len, p[k].iov_base, p[k].iov_len);
			len += p[k].iov_len;
		}
		w->txp++;
		sound(f, len, &v);
	}
}

static const struct wire_ops guest_wire = { .kind = "guest", .flush = take };

/* ------------------------------------------------------ what goes to vm-slirp */

static struct frame batch[BATCH];
static struct vnet_hdr unsummed = { .flags = VNET_NEEDS_CSUM };
static unsigned nbatch;

static void
deliver(void)
{
	unsigned i;

	eth_input(NULL, cf.wire, batch, nbatch);
	for (i = 0; i < nbatch; i++)
		free(batch[i].p);
	nbatch = 0;
	wire_flush_all();
}

/* In memory of its own size, so that a byte too many is seen. */
static void
put(const uint8_t *f, unsigned len, bool summed)
{
	uint8_t *p = malloc(len);

	memcpy(p, f, len);
	batch[nbatch++] = (struct frame){ p, len, summed ? NULL : &unsummed };
	if (nbatch == BATCH || r(3))
		deliver();
}

static uint8_t out[FRAME_MAX];

static uint8_t *
l4_of(const ip *src)
{
	return out + 14 + (is4(src) ? 20 : 40);
}

/* The packet whose upper part lies at l4_of(src). */
static void
packet(const ip *src, const ip *dst, unsigned proto, unsigned len, bool damage)
{
	static const uint8_t bcast[6] = { 255, 255, 255, 255, 255, 255 };
	uint8_t *n = out + 14, *l4 = l4_of(src), ph[8], last;
	unsigned at = proto == PROTO_TCP ? 16 : proto == PROTO_UDP ? 6 : 2, i;
	bool summed = true;
	uint32_t s = 0;
	uint16_t c;

	last = is4(src) ? n[0] : 0;
	last = src->s6_addr[15];
	memcpy(out, v4of(dst) == ~0u ? bcast : cf.mac, 6);
	memcpy(out + 6, guest_mac, 5);
	out[11] = last;
	memset(l4 + at, 0, 2);
	if (damage && r(2))
		for (i = r(4) + 1; i; i--)
			l4[r(r(2) && len > 40 ? 40 : len)] = r(256);
	put32(ph, len);
	put32(ph + 4, proto);
	if (is4(src)) {
		put16(out + 12, 0x0800);
		memset(n, 0, 20);
		n[0] = 0x45;
		put16(n + 2, len + 20);
		n[8] = 64;
		n[9] = proto;
		memcpy(n + 12, src->s6_addr + 12, 4);
		memcpy(n + 16, dst->s6_addr + 12, 4);
		c = csum_fold(csum_add(0, n, 20));
		memcpy(n + 10, &c, 2);
		if (proto != PROTO_ICMP)
			s = csum_add(csum_add(0, ph, 8), n + 12, 8);
	} else {
		put16(out + 12, 0x86dd);
		memset(n, 0, 8);
		n[0] = 0x60;
		put16(n + 4, len);
		n[6] = proto;
		n[7] = 255;
		memcpy(n + 8, src, 16);
		memcpy(n + 24, dst, 16);
		s = csum_add(csum_add(0, ph, 8), n + 8, 32);
	}
	if (proto == PROTO_TCP && r(4) == 0) {
		summed = false;
	} else {
		memset(l4 + at, 0, 2);
		c = csum_fold(csum_add(s, l4, len));
		memcpy(l4 + at, &c, 2);
	}
	len += l4 - out;
	if (damage && r(4) == 0)
		out[r(len)] = r(256);
	if (damage && r(20) == 0)
		len = 1 + r(len);
	put(out, len, summed);
}

static void
segment_(struct conn *c, uint8_t flags, uint32_t seq, uint32_t ack,
    unsigned wnd, unsigned data, bool damage)
{
	uint8_t *h = l4_of(&c->me);
	unsigned hl = 20;

	put16(h, c->mport);
	put16(h + 2, c->fport);
	put32(h + 4, seq);
	put32(h + 8, flags & ACK ? ack : 0);
	put16(h + 14, wnd);
	put32(h + 16, 0);
	if (flags & SYN) {
		put32(h + 20, 0x02040000 | (r(4) ? 1460 : r(65536)));
		put32(h + 24, 0x01030300 | r(r(4) ? 9 : 256));
		put32(h + 28, r(2) ? 0x01010402 : 0);
		hl = 32;
	} else if (flags & ACK && r(8) == 0) {
		put32(h + 20, 0x0101050a);
		put32(h + 24, ack + r(100000));
		put32(h + 28, get32(h + 24) + r(3000));
		hl = 32;
	}
	h[12] = hl / 4 << 4;
	h[13] = flags;
	packet(&c->me, &c->far, PROTO_TCP, hl + data, damage);
}

static void
dial(struct conn *c)
{
	static const struct { uint32_t a; uint16_t port; } to[] = {
	    { 0x0a000202, 80 }, { 0x0a000202, 80 }, { 0x0a000202, 81 },
	    { 0x0a000264, 99 }, { 0x0a000202, 7 }, { 0x0a000203, 53 },
	    { 0x01020304, 80 } };
	unsigned i = r(7);
	uint8_t rst = c->rst;

	*c = (struct conn){ .far = mk4(to[i].a), .fport = to[i].port,
	    .me = mk4(0x0a00020f + r(2)), .mport = 40000 + (c - conns),
	    .snd = r(0xffffffff), .st = SYN_SENT, .rst = rst };
	if (r(6) == 0) {
		c->far = cf.host6;
		c->me = cf.net6;
		c->me.s6_addr[15] = 15;
	}
	segment_(c, SYN, c->snd, 0, 65535, 0, false);
}

static void
segment_event(struct conn *c, bool damage)
{
	unsigned n = r(r(8) ? 1460 : cf.wire->offload ? 60000 : 1461);
	unsigned wnd = r(6) ? 65535 : r(4) ? r(4000) : 0;

	switch (r(14)) {
	case 0: case 1: case 2: case 3:
		segment_(c, ACK, c->snd, c->rcv, wnd, 0, damage);
		break;
	case 4: case 5: case 6:
		segment_(c, ACK | (r(2) ? PSH : 0), c->snd, c->rcv, wnd, n, damage);
		c->snd += n;
		break;
	case 7:		/* too early, or once more */
		segment_(c, ACK, c->snd + r(40000) - 10000, c->rcv, wnd, n, damage);
		break;
	case 8:
		c->snd = c->una;
		break;
	case 9:
		segment_(c, ACK, c->snd, c->rcv - r(5000), wnd, 0, damage);
		break;
	case 10:
		segment_(c, FIN | ACK, c->snd, c->rcv, wnd, r(3) ? 0 : n, damage);
		break;
	case 11:
		if (r(3) == 0)
			segment_(c, RST | (r(2) ? ACK : 0), r(3) ? c->una :
			    c->snd + r(1000), c->rcv, 0, 0, damage);
		break;
	case 12:	/* reset: knows nothing */
		if (r(4) == 0)
			c->st = CLOSED;
		break;
	case 13:
		if (r(10) == 0) {
			c->snd = r(0xffffffff);
			c->st = SYN_SENT;
			segment_(c, SYN, c->snd, 0, 65535, 0, damage);
		}
		break;
	}
}

static void
conn_event(bool damage)
{
	struct conn *c = &conns[r(NCONN)];

	switch (c->st) {
	case CLOSED:
		dial(c);
		break;
	case SYN_SENT:
		if (r(4) == 0)
			c->st = CLOSED;
		else
			segment_(c, SYN, c->snd, 0, 65535, 0, damage);
		break;
	case SYN_RCVD:
		segment_(c, r(10) ? SYN | ACK : RST | ACK, c->snd, c->rcv, 65535, 0,
		    damage);
		c->snd++;
		c->una = c->snd;
		c->st = OPEN;
		break;
	case OPEN:
		segment_event(c, damage);
		break;
	}
}

static void
datagram(const ip *src, const ip *dst, uint16_t sp, uint16_t dp, unsigned len,
    bool damage)
{
	uint8_t *h = l4_of(src);

	put16(h, sp);
	put16(h + 2, dp);
	put16(h + 4, 8 + len);
	packet(src, dst, PROTO_UDP, 8 + len, damage);
}

static void
dhcp(uint8_t last, unsigned type, bool damage)
{
	ip src = mk4(0), dst = mk4(~0u);
	uint8_t *p = l4_of(&src) + 8;

	memset(p, 0, 300);
	p[0] = p[1] = 1, p[2] = 6;
	put32(p + 4, r(0xffffffff));
	memcpy(p + 28, guest_mac, 5);
	p[33] = last;
	p[32] = r(4);
	put32(p + 236, 0x63825363);
	p[240] = 53, p[241] = 1, p[242] = type;
	p[243] = 12, p[244] = 6;
	memcpy(p + 245, "host-", 5);
	p[250] = 'a' + last % 26;
	p[251] = 255;
	if (type == 3) {
		p[251] = 50, p[252] = 4, p[257] = 255;
		memcpy(p + 253, offered, 4);
	}
	datagram(&src, &dst, 68, 67, 300, damage);
}

static void
query(const ip *me, bool damage)
{
	static const char *const names[] = { "\4host\0", "\6host-a\0",
	    "\3www\7example\3com\0", "\1a\4test\0",
	    "\6host-b\3lab\4test\0" };
	static const uint8_t size[] = { 6, 8, 17, 8, 17 };
	uint8_t *p = l4_of(me) + 8;
	unsigned i = r(5), n = size[i];
	ip to = is4(me) ? cf.dns4 : cf.dns6;

	memset(p, 0, 12);
	put16(p, r(65536));
	p[2] = 1;
	p[5] = 1;
	memcpy(p + 12, names[i], n);
	put32(p + 12 + n, (r(3) ? 1 : 28) << 16 | 1);
	datagram(me, &to, 50000 + r(200), 53, 16 + n, damage);
}

static void
tftp(const ip *me, bool damage)
{
	uint8_t *p = l4_of(me) + 8;
	ip to = cf.host4;

	if (r(2)) {
		memcpy(p, "\0\1a\0octet\0blksize\0" "1000\0tsize\0000\0", 32);
		datagram(me, &to, 51000 + r(4), 69, 32, damage);
	} else {
		put32(p, 4 << 16 | r(5));
		datagram(me, &to, 51000 + r(4), 69, 4, damage);
	}
}

/* A datagram in pieces, in any order, some twice or not at all. */
static void
pieces(const ip *me)
{
	unsigned size = 8 + 8 * r(400), at[8], n = 0, i, k, len;
	uint8_t *l4 = l4_of(me), *o = out + 14, whole[4000];
	static uint16_t id;
	uint16_t c;

	memset(whole, 0, sizeof whole);
	put16(whole, 53000 + r(4));
	put16(whole + 2, 9);
	put16(whole + 4, size);
	id++;
	for (i = 0; i < size && n < 8; i += at[n++] >> 16)
		at[n] = i | (n == 7 || size - i < 16 ? size - i : 8 + 8 *
		    r((size - i) / 8)) << 16;
	for (i = r(8) ? 0 : 1; i < n + (r(8) == 0); i++) {
		k = r(6) ? i % n : r(n);
		len = at[k] >> 16;
		memcpy(l4, whole + (at[k] & 0xffff), len);
		memcpy(out, cf.mac, 6);
		memcpy(out + 6, guest_mac, 6);
		put16(out + 12, 0x0800);
		memset(o, 0, 20);
		o[0] = 0x45;
		put16(o + 2, 20 + len);
		put16(o + 4, id);
		put16(o + 6, (at[k] & 0xffff) / 8 | (k < n - 1 ? 0x2000 : 0));
		o[8] = 64;
		o[9] = PROTO_UDP;
		memcpy(o + 12, me->s6_addr + 12, 4);
		memcpy(o + 16, cf.host4.s6_addr + 12, 4);
		c = csum_fold(csum_add(0, o, 20));
		memcpy(o + 10, &c, 2);
		put(out, 34 + len, true);
	}
}

static void
ping(const ip *me, bool damage)
{
	uint8_t *p = l4_of(me);

	put32(p, 8 << 24);
	put32(p + 4, r(4) << 16 | r(100));
	packet(me, r(2) ? &cf.host4 : &(ip){ .s6_addr = { [10] = 255, [11] = 255,
	    [12] = 127, [15] = 1 } }, PROTO_ICMP, 8 + r(1400), damage);
}

static void
neighbour(uint8_t last, bool damage)
{
	ip me = cf.net6, to = cf.host6;
	uint8_t *p = l4_of(&me);
	unsigned type = 133 + r(4);

	me.s6_addr[15] = last;
	if (r(3) == 0)
		memset(&me, 0, 16);
	if (r(2)) {
		memset(&to, 0, 16);
		to.s6_addr[0] = 0xff;
		to.s6_addr[1] = 2;
		to.s6_addr[15] = 2;
	}
	memset(p, 0, 48);
	p[0] = type;
	memcpy(p + 8, &cf.host6, 16);
	p[type == 133 ? 8 : 24] = 1;
	p[type == 133 ? 9 : 25] = 1;
	memcpy(p + (type == 133 ? 10 : 26), guest_mac, 6);
	packet(&me, &to, PROTO_ICMP6, type == 133 ? 16 : 32, damage);
}

static void
dhcp6(uint8_t last, bool damage)
{
	ip me = { .s6_addr = { 0xfe, 0x80, [15] = last } }, to = { .s6_addr =
	    { 0xff, 2, [13] = 1, [15] = 2 } };
	uint8_t *p = l4_of(&me) + 8;

	memset(p, 0, 32);
	p[0] = 11;			/* information request */
	put32(p + 4, 1 << 16 | 10);	/* who */
	put32(p + 18, 6 << 16 | 4);	/* what */
	put32(p + 22, 23 << 16 | 24);
	datagram(&me, &to, 546, 547, 26, damage);
}

static void
arp(uint8_t last, unsigned op)
{
	static const uint8_t bcast[6] = { 255, 255, 255, 255, 255, 255 };

	memcpy(out, op == 1 ? bcast : cf.mac, 6);
	memcpy(out + 6, guest_mac, 5);
	out[11] = last;
	memcpy(out + 12, "\x08\x06\0\1\x08\0\6\4\0", 9);
	out[21] = op;
	memcpy(out + 22, out + 6, 6);
	put32(out + 28, 0x0a000200 | last);
	memcpy(out + 32, cf.mac, 6);
	put32(out + 38, 0x0a000202 + r(3));
	put(out, 42, true);
}

/* Something a guest does. */
static void
guest_event(unsigned long n)
{
	ip me = mk4(0x0a00020f + r(2));
	bool damage = r(6) == 0;
	unsigned what = r(100);

	cf.wire->offload = n >> 12 & 1;
	if (what < 2) {
		pieces(&me);
	} else if (what < 4) {
		ping(&me, damage);
	} else if (what < 30) {
		put(out, damaged(out, n), true);
	} else if (what < 85) {
		conn_event(damage);
	} else if (what < 88) {
		arp(15 + r(2), 1 + r(2));
	} else if (what < 90) {
		dhcp(r(r(50) ? 4 : 256), 1 + 2 * r(2), damage);
	} else if (what < 94) {
		query(&me, damage);
	} else if (what < 95) {
		tftp(&me, damage);
	} else if (what < 97) {
		neighbour(15 + r(3), damage);
	} else if (what < 98) {
		dhcp6(15, damage);
	} else {
		datagram(&me, &cf.host4, 52000 + r(100), r(2) ? 9 : r(65536),
		    r(2000), damage);
	}
}

/* Something one of many stations does in a second of its day. */
static void
station_event(unsigned second)
{
	ip me = mk4(0x0a00020f + r(200));

	arp(r(256), 1);
	if (second % 10 == 0)
		dhcp(r(256), 1 + 2 * r(2), false);
	if (second % 3 == 0)
		query(&me, false);
	if (second % 60 == 0)
		dhcp6(r(256), false);
	neighbour(r(256), false);
	for (int i = 0; i < 4; i++)
		conn_event(false);
	deliver();
}

#endif
