/*
 * nic.h - what network cards share: the cable.  A nic passes Ethernet frames
 * between a card and one wire (switch/wire.h): a part of the machine, a socket
 * in QEMU's framings, a VDE switch, a tap.
 *
 * Frames are bare: destination, source, type, data; no checksum at the end.
 * Nothing here waits for the peer.  When the card has no room, frames stay in
 * the socket; when the peer is slow, the card keeps what it has to send, and
 * after a second without movement loses it.
 *
 * The link is up while the cable leads somewhere and nobody said `set_link
 * off`.  A peer that goes away takes the link down; a part of the machine, a
 * switch, or a peer with reconnect= that comes back takes it up again.
 */
#ifndef NIC_H
#define NIC_H

#include <sys/uio.h>
#include "dev.h"

#define NIC_FRAME_MAX	65568u		/* bytes of the longest frame */
#define NIC_PIECES	256		/* of one frame to send */

struct wire;
struct vnet_hdr;
struct nic;
struct pci_fn;

/* Calls into the card; all on the main thread, and only while it runs, except
 * for link. */
struct nic_ops {
	/* A frame of len bytes (14 to NIC_FRAME_MAX) came in.  False: there is
	 * no room; it will be offered again after nic_more().  A card that is
	 * off, or does not want the frame, says true. */
	bool	(*rx)(struct devctx *, const uint8_t *frame, uint32_t len);
	/* The last of several; may be NULL. */
	void	(*rx_end)(struct devctx *);
	/* nic_full() was true and is no more. */
	void	(*room)(struct devctx *);
	/* nic_link() changed. */
	void	(*link)(struct devctx *);
};

/* What every card has among its options; first member of the options struct,
 * NIC_OPTS(STRUCT, MEMBER) first in the table. */
struct nic_opts {
	const char	*link, *mac, *filter;	/* filter: see nic-filter.c */
};
#define NIC_OPTS(st, m) \
	{ "link", OPT_STR, offsetof(struct st, m.link), "none", \
	    "part:NAME, hub:NAME, a wire as of vm-plug, or none", NULL }, \
	{ "mac", OPT_STR, offsetof(struct st, m.mac), "52:54:00:12:34:56", \
	    "station address", NULL }, \
	{ "filter.", OPT_STR, offsetof(struct st, m.filter), NULL, \
	    "filter.ID.KEY=VALUE: dump, mirror, redirector, buffer", NULL }

/* The options of a card on PCI that has no others. */
struct nic_pci_opts {
	struct nic_opts	nic;
	const char	*addr;
};
extern const struct opt nic_pci_opts[];
/* What such cards have in common of struct pci_fn. */
#define NIC_PCI(v, d, class) .vendor = (v), .device = (d), \
	.subvendor = 0x1af4, .subdevice = 0x1100, .class_rev = (class), \
	.intpin = 1
#define NIC_PCI_BAR(size, space, range) \
	{ (size), (space), RANGE_POSTED, false, false, (range) }

struct nic {
	struct devctx	*d;
	const struct nic_ops *ops;
	const char	*model, *spec;	/* spec: as in link= */
	const struct pci_fn *fn;	/* of nic_pci_open */
	uint8_t		mac[6];		/* as in mac= */
	struct nic	*next;
	struct wire	*w;		/* NULL: no cable, or it is off */
	bool		vnet;		/* the card can leave work to others (set
					 * before nic_open) */
	bool		takes;		/* and do what others left, now */
	const struct vnet_hdr *work;	/* left with the frame that rx() gets; NULL:
					 * none.  Only while takes */
	bool		trying;		/* since the start: the link counts as up */
	bool		off;		/* set_link off */
	bool		up;		/* what the card was told last */
	bool		stopped;	/* the machine is */
	bool		blocked;	/* nic_full() said true */
	struct nic_filter *filters;
	uint8_t		*kept;		/* frames the card had no room for, each
					 * behind its length */
	uint32_t	kept_len, kept_at;
	uint64_t	rx, tx, rx_bytes, tx_bytes, rx_drop, tx_drop;
};

/* Plug in, before the sandbox: d->loop is used from now on.  `model` is the
 * card's name for the monitor.  The struct is zeroed by the caller and lives
 * until nic_close.  0, or -1 with one line in why. */
int	nic_open(struct nic *, struct devctx *, const char *model,
	    const struct nic_opts *, const struct nic_ops *, char *why,
	    size_t whylen);
void	nic_close(struct nic *);
bool	nic_link(const struct nic *);

/* Send the frame that lies in iov[0..n), without its first `skip` bytes.  The
 * memory must not be given back before nic_flush.  Frames shorter than 14 or
 * longer than NIC_FRAME_MAX bytes, and all while the link is down, are dropped
 * and counted. */
void	nic_send(struct nic *, const struct iovec *iov, unsigned n, size_t skip);
/* The same with work left (switch/wire.h), only while nic_offloads(). */
void	nic_send_vnet(struct nic *, const struct vnet_hdr *,
	    const struct iovec *iov, unsigned n, size_t skip);
bool	nic_offloads(const struct nic *);
/* The card, which is `vnet`, takes frames with work left from now on, or does not. */
void	nic_takes(struct nic *, bool);
void	nic_flush(struct nic *);
/* Room for a frame that the card puts together (at most NIC_FRAME_MAX + 256
 * bytes), valid until the next nic_room or nic_flush after it was sent. */
uint8_t	*nic_room(struct nic *, size_t len);
/* Better not send now: ops->room will be called. */
bool	nic_full(struct nic *);
/* Does a frame wait for room?  A card whose driver may acknowledge interrupts
 * with frames unread, and which then relies on the next frame's, asks for it
 * again: there is no next one. */
bool	nic_waiting(const struct nic *);
/* The card has room again for frames. */
void	nic_more(struct nic *);
/* Of struct dev: the card calls these from its own. */
void	nic_stop(struct nic *);
void	nic_run(struct nic *);
/* Questions `network` and `set_link on|off`: 0 or errno; ENOTSUP for others. */
int	nic_ask(struct nic *, char **argv, FILE *out);

/* ---- nic-filter.c: filters of the words filter.*; 0, or -1 with why */
int	nic_filters(struct nic *, char *const *argv, char *why, size_t whylen);
void	nic_filters_close(struct nic *);
/* A frame on its way; ends in nic_deliver, now, later, or never. */
void	nic_filter(struct nic *, bool to_guest, const uint8_t *, uint32_t len);
void	nic_filter_release(void *filter);
void	nic_deliver(struct nic *, bool to_guest, const uint8_t *, uint32_t len);
void	nic_delivered(struct nic *);	/* the last of several */

/* Of struct dev, for a card whose private part begins with its nic and which has
 * nothing to add. */
void	nic_dev_stop(struct devctx *);
int	nic_dev_ask(struct devctx *, char **argv, FILE *out);
void	nic_dev_quit(struct devctx *);
/* The same for one on PCI with struct nic_pci_opts.  Until the function is placed
 * (d->cfg) the link's changes are nothing to show. */
int	nic_pci_open(struct devctx *, const struct pci_fn *,
	    const struct nic_ops *, char *why, size_t whylen);
void	nic_pci_config(struct devctx *, unsigned fn, unsigned off,
	    unsigned size, uint32_t val);

/* "xx:xx:xx:xx:xx:xx", a station's: 0, or -1. */
int	nic_mac(const char *, uint8_t mac[6]);
/* IEEE 802.3 CRC-32 of an address, as hash filters use it: most significant
 * bit first, not complemented. */
uint32_t nic_crc(const uint8_t *, size_t len);
/* IEEE 802.3 frame check sequence, to be stored little-endian. */
uint32_t nic_fcs(const uint8_t *, size_t len);
/* Internet checksum's sum, not complemented (RFC 1071); as if big-endian. */
uint16_t nic_sum(const uint8_t *, size_t len);
/* Complement of the sum from byte `start` to `end` (0: the last one) of a frame
 * goes to byte `at`; nothing if these lie outside. */
void	nic_put_sum(uint8_t *frame, unsigned len, unsigned start, unsigned at,
	    unsigned end);

/* How to cut a packet into frames: offsets of its IP and its TCP or UDP header,
 * of its data, of the checksum (0: none), and the data bytes of a frame. */
struct nic_seg {
	unsigned	ip, l4, data, sum, mss;
	bool		v4, tcp;
};
/* Could it be cut this way? */
bool	nic_seg_ok(const struct nic_seg *, unsigned len);
/* Frame number n, with the packet's data from byte `off` on, to f, which has
 * room for data + mss bytes.  To the checksum field the length is added, for a
 * sum of the pseudo-header without it.  Returns the data bytes. */
unsigned nic_seg(const struct nic_seg *, const uint8_t *packet, unsigned len,
	    unsigned off, unsigned n, uint8_t *f);

#endif
