/*
 * virtio-net.c - virtio network device (virtio 1.2, 5.1): pairs of receive and
 * transmit queues, mergeable receive buffers, control queue.
 *
 * Theory of operation.  A frame to send is handed to the wire where it lies in
 * guest memory and its buffer is given back after the flush.  A received frame
 * is copied into as many chains as it takes; if there are not enough, they are
 * put back and the frame waits in the nic.  With several pairs a flow is
 * received on the pair it was last sent on (5.1.6.5.6), found by a symmetric
 * hash of its addresses.
 *
 * Checksums and segmentation of frames to send are the card's (vnet-offload.c),
 * checks and merging of received ones too (vnet-merge.c).
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 * #syscalls ioctl
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vnet.h"

static const struct field fields[] = {
	VIRTIO_FIELDS(net, v),
	FIELDS(net, mac), FIELDS(net, mode), FIELD(net, n_uni),
	FIELD(net, n_multi), FIELDS(net, uni), FIELDS(net, multi),
	FIELDS(net, vlan), FIELD(net, pairs),
	FIELD_END
};

static const struct opt opts[] = {
	NIC_OPTS(net_opts, nic),
	{ "queues", OPT_U32, offsetof(struct net_opts, queues), "1",
	    "pairs of queues, 1-31", NULL },
	{ "queue-size", OPT_U32, offsetof(struct net_opts, rx_size), "256",
	    "descriptors, a power of two up to 1024", NULL },
	{ "host_mtu", OPT_U32, offsetof(struct net_opts, mtu), "0",
	    "MTU to tell the driver, 0: none", NULL },
	{ "mrg_rxbuf", OPT_BOOL, offsetof(struct net_opts, mrg), "on",
	    "a frame may span receive buffers", NULL },
	{ "csum", OPT_BOOL, offsetof(struct net_opts, csum), "on",
	    "the card computes checksums", NULL },
	{ "host_tso4", OPT_BOOL, offsetof(struct net_opts, tso4), "on",
	    "and cuts TCP over IPv4", NULL },
	{ "host_tso6", OPT_BOOL, offsetof(struct net_opts, tso6), "on",
	    "and over IPv6", NULL },
	{ "guest_csum", OPT_BOOL, offsetof(struct net_opts, gcsum), "on",
	    "the card checks checksums", NULL },
	{ "guest_tso4", OPT_BOOL, offsetof(struct net_opts, gtso4), "on",
	    "and merges TCP over IPv4", NULL },
	{ "guest_tso6", OPT_BOOL, offsetof(struct net_opts, gtso6), "on",
	    "and over IPv6", NULL },
	{ "addr", OPT_STR, offsetof(struct net_opts, addr), NULL,
	    "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};

/* 5.1.2: behind all pairs if the driver knows of them. */
static unsigned
ctrl_queue(const struct virtio *v)
{
	return virtio_has(v, F_MQ) ? v->nq - 1 : 2;
}

/* The same for both directions of a flow; 0 for what is not IP. */
static unsigned
flow_of(const uint8_t *p, size_t len)
{
	unsigned h = 0, i;

	if (len < 42)
		return 0;
	if (p[12] == 8 && p[13] == 0)
		for (i = 26; i < 34; i++)
			h ^= p[i] * (i % 4 + 1);
	else if (p[12] == 0x86 && p[13] == 0xdd && len >= 58)
		for (i = 22; i < 54; i++)
			h ^= p[i] * (i % 4 + 1);
	else
		return 0;
	i = p[12] == 8 ? 14 + (p[14] & 15) * 4u : 54;
	if (i + 4 <= len)		/* ports, where there are some */
		h ^= p[i] ^ p[i + 2] ^ (p[i + 1] ^ p[i + 3]) * 5;
	return (h ^ h >> 8) % FLOWS;
}

/* ------------------------------------------------------------ transmission */

static void
transmit(struct virtio *v, unsigned q)
{
	struct net_priv *p = net(v);
	unsigned left = VQ_BUDGET, used, n, i;
	struct vq_elem *e;
	uint8_t head[64];
	bool full = false;

	do {
		vq_want(v, q, false);
		do {
			used = n = 0;
			while (left && n < BATCH_MAX &&
			    IOV_POOL - used >= NIC_PIECES &&
			    !(full = nic_full(&p->nic))) {
				e = &p->e[n];
				e->iov = p->iov + used;
				e->cap = NIC_PIECES;
				if (!vq_pop(v, q, e))
					break;
				left--;
				if (e->out_len < HDR) {
					virtio_broken(v, "virtio-net: frame "
					    "without header", e->out_len);
					nic_flush(&p->nic);
					return;
				}
				vnet_send(v, e);
				if (max_pairs(v) > 1)
					p->flow[flow_of(head, iov_get(e->iov,
					    e->n_out, HDR, head, sizeof head))]
					    = (uint8_t)(q / 2);
				used += e->n_out + e->n_in;
				n++;
			}
			nic_flush(&p->nic);
			for (i = 0; i < n; i++)
				vq_done(v, &p->e[i], 0);
		} while (n && left && !full);
	} while (!full && vq_want(v, q, true) && left);
	if (!left)
		vq_again(v, q);
	vq_flush(v, q);
}

/* --------------------------------------------------------------- reception */

/* Take chains for len bytes; how many, 0: not enough, or none will do. */
static unsigned
gather(struct virtio *v, unsigned q, size_t len, bool *never)
{
	struct net_priv *p = net(v);
	unsigned n = 0, used = 0, max = virtio_has(v, F_MRG_RXBUF) ?
	    CHAINS_MAX : 1;
	size_t room = 0;
	struct vq_elem *e;

	*never = false;
	while (room < len) {
		e = &p->e[n];
		e->iov = p->iov + used;
		e->cap = IOV_POOL - used < NIC_PIECES ? IOV_POOL - used :
		    NIC_PIECES;
		if (n == max || e->cap == 0) {
			*never = true;
			break;
		}
		if (!vq_pop(v, q, e)) {
			/* asked here, where the queue is empty */
			if (vq_want(v, q, true))
				continue;
			break;
		}
		n++;
		if (e->in_len < (n == 1 ? HDR : 1)) {
			virtio_broken(v, "virtio-net: receive buffer too small",
			    e->in_len);
			*never = true;
			return 0;
		}
		used += e->n_out + e->n_in;
		room += e->in_len;
	}
	if (room >= len)
		return n;
	while (n--)
		vq_unpop(v, &p->e[n]);
	return 0;
}

static void
scatter(struct virtio *v, unsigned n, uint8_t *hdr, const uint8_t *frame,
    uint32_t len)
{
	struct net_priv *p = net(v);
	size_t skip = HDR, part;
	struct vq_elem *e;
	unsigned i;

	cfg16(hdr + HDR_BUFFERS, (uint16_t)n);
	for (i = 0; i < n; i++) {
		e = &p->e[i];
		part = e->in_len - skip < len ? e->in_len - skip : len;
		if (skip)
			iov_put(v->d, e->iov + e->n_out, e->n_in, 0, hdr, HDR);
		iov_put(v->d, e->iov + e->n_out, e->n_in, skip, frame, part);
		vq_done(v, e, (uint32_t)(part + skip));
		frame += part;
		len -= (uint32_t)part;
		skip = 0;
	}
}

bool
vnet_deliver(struct virtio *v, uint8_t hdr[HDR], const uint8_t *frame,
    uint32_t len)
{
	struct net_priv *p = net(v);
	const struct net *s = v->d->st;
	unsigned q = 0, n;
	bool never;

	if (s->pairs > 1)
		q = p->flow[flow_of(frame, len)] % s->pairs * 2;
	if (!vring_usable(v, q))
		return true;
	n = gather(v, q, len + HDR, &never);
	if (n) {
		scatter(v, n, hdr, frame, len);
		p->touched |= 1ull << q;
	} else if (!never && vring_usable(v, q)) {
		return false;
	}
	return true;
}

static bool
rx(struct devctx *d, const uint8_t *frame, uint32_t len)
{
	struct net_priv *p = d->priv;
	struct virtio *v = &p->v;

	if (len < 16 || !(v->s->status & VS_DRIVER_OK) ||
	    !vnet_wanted(d->st, virtio_has(v, F_CTRL_VLAN), frame))
		return true;
	return vnet_receive(v, frame, len);
}

static void
rx_end(struct devctx *d)
{
	struct net_priv *p = d->priv;
	uint64_t bits;
	unsigned q;

	vnet_merged(&p->v);
	bits = p->touched;
	p->touched = 0;
	for (q = 0; bits; q++, bits >>= 1)
		if (bits & 1) {
			vq_flush(&p->v, q);
			vq_want(&p->v, q, false);
		}
}

/* Frames that others left unfinished: if the driver asked for all kinds of them,
 * and has the buffers. */
static void
takes(struct virtio *v)
{
	nic_takes(&net(v)->nic, virtio_has(v, F_GUEST_CSUM) &&
	    virtio_has(v, F_GUEST_TSO4) && virtio_has(v, F_GUEST_TSO6) &&
	    v->q[0].mask + 1u >= 2 * CHAINS_MAX);
}

static void
kick(struct virtio *v, unsigned n)
{
	if (n == ctrl_queue(v)) {
		if (virtio_has(v, F_CTRL_VQ))
			vnet_control(v, n);
	} else if (n % 2) {
		transmit(v, n);
	} else {
		rx_end(v->d);
		nic_more(&net(v)->nic);
	}
}

/* ------------------------------------------------------------- configuration */

static void
net_config(struct virtio *v, uint8_t *c)
{
	struct net_priv *p = net(v);
	const struct net_opts *o = v->d->opts;

	memcpy(c, ((struct net *)v->d->st)->mac, 6);
	cfg16(c + 6, (uint16_t)((nic_link(&p->nic) ? ST_LINK_UP : 0) |
	    (p->announce ? ST_ANNOUNCE : 0)));
	cfg16(c + 8, (uint16_t)max_pairs(v));
	cfg16(c + 10, (uint16_t)o->mtu);
}

static void
net_reset(struct virtio *v)
{
	struct net_priv *p = net(v);
	struct net *s = v->d->st;

	memset((uint8_t *)s + sizeof s->v, 0, sizeof *s - sizeof s->v);
	memcpy(s->mac, p->nic.mac, 6);
	s->mode[RX_PROMISC] = 1;	/* until the driver says otherwise */
	s->pairs = 1;
	p->announce = false;
	nic_takes(&p->nic, false);
	p->merge.len = 0;
	memset(p->flow, 0, sizeof p->flow);
}

static const struct virtio_type type = {
	.id = 1,
	.class_rev = 0x02000001,
	.cfg_len = CFG_LEN,
	.config = net_config,
	.kick = kick,
	.reset = net_reset,
	.driver_ok = takes,
};

static void
room(struct devctx *d)
{
	virtio_bell(d, 0xaaaaaaaaaaaaaaaaull);
}

static void
link_changed(struct devctx *d)
{
	struct net_priv *p = d->priv;

	if (p->v.s)
		virtio_config_changed(&p->v);
}

static const struct nic_ops nic_ops = {
	.rx = rx, .rx_end = rx_end, .room = room, .link = link_changed,
};

static int
init(struct devctx *d, char *why, size_t whylen)
{
	struct net_priv *p = d->priv;
	const struct net_opts *o = d->opts;

	if (o->queues < 1 || o->queues > PAIRS_MAX) {
		snprintf(why, whylen, "queues=%u: not 1 to %u", o->queues,
		    PAIRS_MAX);
		return -1;
	}
	if (o->rx_size < 2 || o->rx_size > VQ_SIZE_MAX ||
	    o->rx_size & (o->rx_size - 1)) {
		snprintf(why, whylen, "queue-size=%u: not a power of two up "
		    "to %u", o->rx_size, VQ_SIZE_MAX);
		return -1;
	}
	if (o->mtu && (o->mtu < 68 || o->mtu > 65535)) {
		snprintf(why, whylen, "host_mtu=%u: not 68 to 65535", o->mtu);
		return -1;
	}
	p->v.offered = 1ull << F_MAC | 1ull << F_STATUS | 1ull << F_CTRL_VQ |
	    1ull << F_CTRL_RX | 1ull << F_CTRL_VLAN | 1ull << F_CTRL_RX_EXTRA |
	    1ull << F_GUEST_ANNOUNCE | 1ull << F_CTRL_MAC_ADDR |
	    (uint64_t)o->mrg << F_MRG_RXBUF | (o->queues > 1 ?
	    1ull << F_MQ : 0) | (o->mtu ? 1ull << F_MTU : 0);
	if (o->csum)
		p->v.offered |= 1ull << F_CSUM |
		    (uint64_t)o->tso4 << F_HOST_TSO4 |
		    (uint64_t)o->tso6 << F_HOST_TSO6 |
		    (uint64_t)(o->tso4 || o->tso6) << F_HOST_ECN;
	if (o->gcsum)
		p->v.offered |= 1ull << F_GUEST_CSUM;
	if (o->gcsum && o->rx_size >= 2 * VNET_MERGE_MAX)
		p->v.offered |= (uint64_t)o->gtso4 << F_GUEST_TSO4 |
		    (uint64_t)o->gtso6 << F_GUEST_TSO6;
	p->v.nq = o->queues * 2 + 1;
	p->v.qsize = (uint16_t)o->rx_size;
	p->nic.vnet = true;
	if (nic_open(&p->nic, d, "virtio-net-pci", &o->nic, &nic_ops, why,
	    whylen) < 0)
		return -1;
	return virtio_init(d, &type, o->addr, why, whylen);
}

static void
loaded(struct devctx *d)
{
	struct net_priv *p = d->priv;
	struct net *s = d->st;

	virtio_loaded(d);
	if (s->pairs < 1 || s->pairs > max_pairs(&p->v))
		s->pairs = 1;
	/* 5.1.6.5.4: the machine may hang on another cable now */
	p->announce = virtio_has(&p->v, F_GUEST_ANNOUNCE) &&
	    s->v.status & VS_DRIVER_OK;
}

static void
stop(struct devctx *d)
{
	virtio_stop(d);
	nic_stop(&((struct net_priv *)d->priv)->nic);
}

static void
run(struct devctx *d)
{
	struct net_priv *p = d->priv;

	if (p->announce)
		virtio_config_changed(&p->v);
	takes(&p->v);
	virtio_run(d);
	nic_run(&p->nic);
}

static int
ask(struct devctx *d, char **argv, FILE *out)
{
	return nic_ask(&((struct net_priv *)d->priv)->nic, argv, out);
}

static void
quit(struct devctx *d)
{
	nic_close(&((struct net_priv *)d->priv)->nic);
}

static const struct dev_test tests[] = {
	{ 'C', 0, 4, 0x00, 0x10411af4 },
	{ 'C', 0, 4, 0x08, 0x02000001 },
	{ 'r', 1, 2, 0x12, 3 },			/* a pair and control */
	{ 'r', 1, 4, 0x04, 0x00bfb9a3, 0x00ffffff },
	{ 'r', 1, 4, 0x200, 0x12005452 },	/* mac */
	{ 'r', 1, 2, 0x204, 0x5634 },
	{ 'r', 1, 2, 0x206, 0 },		/* no cable, no link */
	{ 'r', 1, 2, 0x208, 1 },
	{ 'w', 1, 4, 0x200, 0 },		/* not writable */
	{ 'r', 1, 4, 0x200, 0x12005452 },
	{ 0 }
};

const struct dev virtio_net = {
	.name = "virtio-net",
	.desc = "virtio network device over PCI",
	.spec = "virtio 1.2, 5.1",
	.state_size = sizeof(struct net),
	.fields = fields,
	.opts_size = sizeof(struct net_opts),
	.opts = opts,
	.priv_size = sizeof(struct net_priv),
	.init = init,
	.reset = virtio_reset,
	.read = virtio_read,
	.write = virtio_write,
	.bell = virtio_bell,
	.config = virtio_config,
	.loaded = loaded,
	.stop = stop,
	.run = run,
	.ask = ask,
	.quit = quit,
	.tests = tests,
};
DEV_MAIN(virtio_net);
