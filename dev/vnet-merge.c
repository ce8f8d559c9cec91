/*
 * vnet-merge.c - frames received by the virtio network device: checksums checked
 * for the driver, and TCP segments of one flow that arrive together merged into
 * one packet, which the driver takes as if it were to be cut (virtio 1.2, 5.1.6.4:
 * GUEST_CSUM, GUEST_TSO4, GUEST_TSO6).
 *
 * A segment is merged if it follows in sequence and its headers differ in nothing
 * but length, number, checksum and PSH; a short one, or one with PSH, is the last.
 * Nothing waits beyond the frames that the wire hands over in one go.  A frame whose
 * sender left that to others is given on with its header.
 */
#include <string.h>

#include "../switch/wire.h"
#include "vnet.h"

enum { HDR_NEEDS_CSUM = 1, HDR_DATA_VALID = 2 };
enum { GSO_TCPV4 = 1, GSO_TCPV6 = 4 };
enum { TCP_PSH = 8, TCP_ACK = 0x10 };

static unsigned
be16(const uint8_t *p)
{
	return p[0] << 8u | p[1];
}

static uint32_t
be32(const uint8_t *p)
{
	return be16(p) << 16 | be16(p + 2);
}

static void
put_be16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static unsigned
fold(unsigned sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static unsigned
pseudo(const uint8_t *f, bool v4, unsigned proto, unsigned len)
{
	return fold(proto + len + (v4 ? nic_sum(f + 26, 8) :
	    nic_sum(f + 22, 32)));
}

/* What is in a frame: is its checksum there and right, and, in *t, the parts of
 * a plain TCP segment (t->data 0: it is none). */
static bool
look(const uint8_t *f, unsigned len, struct nic_seg *t)
{
	unsigned proto, end;

	memset(t, 0, sizeof *t);
	t->ip = 14;
	if (len >= 34 && be16(f + 12) == 0x0800 && f[14] == 0x45) {
		t->v4 = true;
		t->l4 = 34;
		proto = f[23];
		end = 14 + be16(f + 16);
		if (be16(f + 20) & 0x3fff || nic_sum(f + 14, 20) != 0xffff)
			return false;
	} else if (len >= 54 && be16(f + 12) == 0x86dd && f[14] >> 4 == 6) {
		t->l4 = 54;
		proto = f[20];
		end = 54 + be16(f + 18);
	} else {
		return false;
	}
	if (end > len || end < t->l4 + (proto == 6 ? 20 : 8) ||
	    (proto != 6 && (proto != 17 || !be16(f + t->l4 + 6))))
		return false;
	if (fold(pseudo(f, t->v4, proto, end - t->l4) +
	    nic_sum(f + t->l4, end - t->l4)) != 0xffff)
		return false;
	if (proto != 6 || end != len ||
	    (f[t->l4 + 13] & ~TCP_PSH) != TCP_ACK)
		return true;
	t->data = t->l4 + (f[t->l4 + 12] >> 4) * 4u;
	if (t->data < t->l4 + 20 || t->data >= len)
		t->data = 0;
	t->mss = len - t->data;
	return true;
}

/* Does the segment follow what is there? */
static bool
follows(const struct vnet_merge *m, const uint8_t *f, const struct nic_seg *t)
{
	const uint8_t *a = m->buf + m->t.l4, *b = f + t->l4;

	return !m->closed && t->data == m->t.data && t->v4 == m->t.v4 &&
	    t->mss <= m->t.mss && m->len + t->mss <= sizeof m->buf &&
	    be32(b + 4) == m->next && memcmp(m->buf, f, 16) == 0 &&
	    (t->v4 ? memcmp(m->buf + 20, f + 20, 4) == 0 &&
	    memcmp(m->buf + 26, f + 26, 8) == 0 :
	    memcmp(m->buf + 16, f + 16, 2) == 0 &&
	    memcmp(m->buf + 20, f + 20, 34) == 0) &&
	    memcmp(a, b, 4) == 0 && memcmp(a + 8, b + 8, 5) == 0 &&
	    memcmp(a + 14, b + 14, 2) == 0 &&
	    memcmp(a + 18, b + 18, t->data - t->l4 - 18) == 0;
}

static void
append(struct vnet_merge *m, const uint8_t *f, const struct nic_seg *t)
{
	memcpy(m->buf + m->len, f + t->data, t->mss);
	m->len += t->mss;
	m->next += t->mss;
	m->n++;
	m->buf[t->l4 + 13] |= f[t->l4 + 13] & TCP_PSH;
	m->closed = m->n == VNET_MERGE_MAX || t->mss < m->t.mss ||
	    f[t->l4 + 13] & TCP_PSH;
}

/* Give out what was merged; false: there is no room now. */
bool
vnet_merged(struct virtio *v)
{
	struct vnet_merge *m = &net(v)->merge;
	uint8_t h[HDR] = { HDR_DATA_VALID }, *f = m->buf;
	unsigned l4 = m->t.l4;

	if (m->len == 0)
		return true;
	if (m->n > 1) {
		h[0] = HDR_NEEDS_CSUM;
		h[1] = m->t.v4 ? GSO_TCPV4 : GSO_TCPV6;
		cfg16(h + 2, (uint16_t)m->t.data);
		cfg16(h + 4, (uint16_t)m->t.mss);
		cfg16(h + 6, (uint16_t)l4);
		cfg16(h + 8, 16);
		if (m->t.v4) {
			put_be16(f + 16, m->len - 14);
			put_be16(f + 24, 0);
			nic_put_sum(f, 34, 14, 24, 0);
		} else {
			put_be16(f + 18, m->len - 54);
		}
		put_be16(f + l4 + 16, pseudo(f, m->t.v4, 6, m->len - l4));
	}
	if (!vnet_deliver(v, h, f, m->len))
		return false;
	m->len = 0;
	return true;
}

/* A frame that passed the filter; false: there is no room now. */
bool
vnet_receive(struct virtio *v, const uint8_t *f, uint32_t len)
{
	struct vnet_merge *m = &net(v)->merge;
	uint8_t h[HDR] = { 0 };
	struct nic_seg t = { 0 };

	if (net(v)->nic.work) {			/* the driver's to do */
		if (!vnet_merged(v))
			return false;
		memcpy(h, net(v)->nic.work, sizeof *net(v)->nic.work);
		return vnet_deliver(v, h, f, len);
	}
	if (virtio_has(v, F_GUEST_CSUM) && look(f, len, &t))
		h[0] = HDR_DATA_VALID;
	if (m->len && t.data && follows(m, f, &t)) {
		append(m, f, &t);
		return true;
	}
	if (!vnet_merged(v))
		return false;
	if (!t.data || !virtio_has(v, t.v4 ? F_GUEST_TSO4 : F_GUEST_TSO6) ||
	    len > sizeof m->buf)
		return vnet_deliver(v, h, f, len);
	memcpy(m->buf, f, len);
	m->len = len;
	m->t = t;
	m->n = 1;
	m->next = be32(f + t.l4 + 4) + t.mss;
	m->closed = f[t.l4 + 13] & TCP_PSH;
	return true;
}
