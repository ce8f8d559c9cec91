/*
 * vnet.h - shared by the files of the virtio network device (virtio-net.c
 * vnet-ctrl.c vnet-offload.c vnet-merge.c).
 */
#ifndef VNET_H
#define VNET_H

#include "nic.h"
#include "virtio.h"

enum { F_CSUM = 0, F_GUEST_CSUM = 1, F_GUEST_TSO4 = 7, F_GUEST_TSO6 = 8,
	F_HOST_TSO4 = 11, F_HOST_TSO6 = 12, F_HOST_ECN = 13,
	F_MTU = 3, F_MAC = 5, F_MRG_RXBUF = 15, F_STATUS = 16, F_CTRL_VQ = 17,
	F_CTRL_RX = 18, F_CTRL_VLAN = 19, F_CTRL_RX_EXTRA = 20,
	F_GUEST_ANNOUNCE = 21, F_MQ = 22, F_CTRL_MAC_ADDR = 23 };
enum { ST_LINK_UP = 1, ST_ANNOUNCE = 2 };
enum { CFG_LEN = 12, HDR = 12, HDR_BUFFERS = 10 };
enum { CTRL_RX, CTRL_MAC, CTRL_VLAN, CTRL_ANNOUNCE, CTRL_MQ };	/* 5.1.6.5 */
enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST,
	RX_N };

#define PAIRS_MAX	31
#define MACS_MAX	64		/* of each kind; more: all pass */
#define IOV_POOL	2048
#define BATCH_MAX	32
#define CHAINS_MAX	64		/* of one received frame */
#define FLOWS		256

struct net {
	struct virtio_state v;
	uint8_t		mac[6];
	uint8_t		mode[RX_N];	/* commands of class RX */
	uint16_t	n_uni, n_multi;	/* > MACS_MAX: the table overflowed */
	uint8_t		uni[MACS_MAX * 6], multi[MACS_MAX * 6];
	uint8_t		vlan[512];	/* a bit for each id that passes */
	uint16_t	pairs;		/* in use */
};

struct net_opts {
	struct nic_opts	nic;
	const char	*addr;
	uint32_t	queues, rx_size, mtu;
	bool		mrg, csum, tso4, tso6, gcsum, gtso4, gtso6;
};

/* Segments of one flow that became one packet (vnet-merge.c). */
#define VNET_MERGE_MAX	16		/* segments: fewer than a small ring has */
struct vnet_merge {
	uint8_t		buf[0x10000];
	unsigned	len, n;		/* bytes, 0: none; segments */
	struct nic_seg	t;		/* of the first */
	uint32_t	next;		/* sequence number */
	bool		closed;		/* nothing may follow */
};

struct net_priv {
	struct virtio	v;
	struct nic	nic;
	bool		announce;	/* ask the driver to */
	struct vnet_merge merge;
	uint64_t	touched;	/* receive queues to flush */
	uint8_t		flow[FLOWS];	/* pair a flow was sent on */
	struct iovec	iov[IOV_POOL];
	struct vq_elem	e[CHAINS_MAX];
};

static inline struct net_priv *
net(struct virtio *v)
{
	return (struct net_priv *)v;
}

static inline unsigned
max_pairs(const struct virtio *v)
{
	return (v->nq - 1) / 2;
}

/* ---- vnet-ctrl.c: what the driver asked to receive, and how it asks */
/* Does this frame of at least 16 bytes pass?  vlans: the filter is on. */
bool	vnet_wanted(const struct net *, bool vlans, const uint8_t *frame);
/* Serve the control queue, number q. */
void	vnet_control(struct virtio *, unsigned q);
/* ---- virtio-net.c */
/* Put a frame with its header into receive buffers; false: there are not enough
 * of them now.  One that cannot be received at all is dropped, with true. */
bool	vnet_deliver(struct virtio *, uint8_t hdr[HDR], const uint8_t *frame,
	    uint32_t len);

/* ---- vnet-merge.c */
bool	vnet_receive(struct virtio *, const uint8_t *frame, uint32_t len);
bool	vnet_merged(struct virtio *);

/* ---- vnet-offload.c */
/* Send the frame of a chain that has a whole header; then nic_flush. */
void	vnet_send(struct virtio *, const struct vq_elem *);

#endif
