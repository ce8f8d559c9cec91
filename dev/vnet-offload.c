/*
 * vnet-offload.c - what the virtio network device does for the driver with a
 * frame to send: checksum and segmentation (virtio 1.2, 5.1.6.2).
 *
 * A peer that takes the header (vm-slirp as a part of the machine, a tap) gets
 * the frame as it is.  For others the card itself computes and cuts.  Of the header
 * only the offsets of the checksum and the segment size are believed; the rest is
 * read from the packet.
 */
#include <string.h>

#include "../switch/wire.h"
#include "vnet.h"

enum { HDR_NEEDS_CSUM = 1 };
enum { GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_ECN = 0x80 };

static unsigned
le16(const uint8_t *p)
{
	return p[0] | p[1] << 8u;
}

static unsigned
be16(const uint8_t *p)
{
	return p[0] << 8u | p[1];
}

/* Where to cut; the checksum field becomes the pseudo-header's sum without the
 * length.  False: the packet is not what the header says. */
static bool
plan(uint8_t *f, unsigned len, const uint8_t *h, struct nic_seg *g)
{
	unsigned sum;

	memset(g, 0, sizeof *g);
	g->ip = len > 18 && be16(f + 12) == 0x8100 ? 18 : 14;
	g->l4 = le16(h + 6);
	g->mss = le16(h + 4);
	g->sum = g->l4 + 16;
	g->tcp = true;
	g->v4 = (h[1] & ~GSO_ECN) == GSO_TCPV4;
	if (g->l4 + 20 > len || g->ip + (g->v4 ? 20 : 40) > g->l4 ||
	    f[g->ip] >> 4 != (g->v4 ? 4 : 6) ||
	    be16(f + g->ip - 2) != (g->v4 ? 0x0800 : 0x86dd))
		return false;
	g->data = g->l4 + (f[g->l4 + 12] >> 4) * 4u;
	if (!nic_seg_ok(g, len))
		return false;
	sum = 6 + (g->v4 ? nic_sum(f + g->ip + 12, 8) :
	    nic_sum(f + g->ip + 8, 32));
	sum = (sum & 0xffff) + (sum >> 16);
	f[g->sum] = (uint8_t)(sum >> 8);
	f[g->sum + 1] = (uint8_t)sum;
	return true;
}

static void
send_one(struct net_priv *p, uint8_t *f, unsigned len)
{
	struct iovec v = { f, len };

	nic_send(&p->nic, &v, 1, 0);
}

static void
segments(struct net_priv *p, const uint8_t *packet, unsigned len,
    const struct nic_seg *g)
{
	unsigned off, n = 0, part;
	uint8_t *f;

	for (off = g->data; off < len; off += part) {
		f = nic_room(&p->nic, g->data + (len - off < g->mss ?
		    len - off : g->mss));
		part = nic_seg(g, packet, len, off, n++, f);
		if (g->v4) {		/* its length and number changed */
			memset(f + g->ip + 10, 0, 2);
			nic_put_sum(f, g->l4, g->ip, g->ip + 10, 0);
		}
		nic_put_sum(f, g->data + part, g->l4, g->sum, 0);
		send_one(p, f, g->data + part);
	}
}

/* Is there nothing in the header that the peer could trip over? */
static bool
passes(struct virtio *v, const uint8_t *h, unsigned len)
{
	unsigned gso = h[1] & ~GSO_ECN;

	return h[0] & HDR_NEEDS_CSUM && le16(h + 6) + le16(h + 8) + 2 <= len &&
	    (!h[1] || (le16(h + 4) && le16(h + 2) < len &&
	    ((gso == GSO_TCPV4 && virtio_has(v, F_HOST_TSO4)) ||
	    (gso == GSO_TCPV6 && virtio_has(v, F_HOST_TSO6)))));
}

void
vnet_send(struct virtio *v, const struct vq_elem *e)
{
	static uint8_t packet[NIC_FRAME_MAX];
	struct net_priv *p = net(v);
	struct nic_seg g;
	uint8_t h[HDR], *f;
	unsigned len;

	iov_get(e->iov, e->n_out, 0, h, HDR);
	if (!virtio_has(v, F_CSUM) || (!(h[0] & HDR_NEEDS_CSUM) && !h[1])) {
		nic_send(&p->nic, e->iov, e->n_out, HDR);
		return;
	}
	if (e->out_len - HDR > NIC_FRAME_MAX) {
		p->nic.tx_drop++;
		return;
	}
	len = (unsigned)e->out_len - HDR;
	if (nic_offloads(&p->nic) && passes(v, h, len)) {
		nic_send_vnet(&p->nic, (void *)h, e->iov, e->n_out, HDR);
		return;
	}
	if (!h[1]) {				/* a checksum, no more */
		f = nic_room(&p->nic, len);
		iov_get(e->iov, e->n_out, HDR, f, len);
		nic_put_sum(f, len, le16(h + 6), le16(h + 6) + le16(h + 8), 0);
		send_one(p, f, len);
		return;
	}
	iov_get(e->iov, e->n_out, HDR, packet, len);
	if (!(h[0] & HDR_NEEDS_CSUM) || !virtio_has(v,
	    (h[1] & ~GSO_ECN) == GSO_TCPV4 ? F_HOST_TSO4 : F_HOST_TSO6) ||
	    ((h[1] & ~GSO_ECN) != GSO_TCPV4 && (h[1] & ~GSO_ECN) != GSO_TCPV6)
	    || !plan(packet, len, h, &g)) {
		dev_guest_error(v->d, "virtio-net: segmentation of no packet",
		    h[1]);
		p->nic.tx_drop++;
		return;
	}
	segments(p, packet, len, &g);
}
