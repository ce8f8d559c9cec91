/*
 * wire.h - Ethernet frames in and out of a process: the event loop and the
 * kinds of wire (VDE plug, QEMU stream and dgram sockets, UDP multicast,
 * L2TPv3, tap, pcap, stdin/stdout) behind one interface.  Used by vm-switch,
 * vm-plug and vm-slirp.
 *
 * A wire hands received frames over in batches and takes frames to send as
 * references: the memory given to wire_send() must stay as it is until the
 * wire is flushed, which whoever received the batch does at its end
 * (wire_flush_all).  What the kernel does not take at once is copied into the
 * wire's queue; what does not fit there is dropped and counted.  Nothing is
 * allocated between opening and closing a wire.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* ---------------------------------------------------------------- the loop */

struct ev {
	int	fd;			/* -1: not watched */
	void	(*fn)(struct ev *, uint32_t events);
	void	*arg;
};
/* Watch ev->fd; events as for epoll.  0 or -1 with errno. */
int	ev_add(struct ev *, uint32_t events);
int	ev_mod(struct ev *, uint32_t events);
void	ev_del(struct ev *);		/* does not close; fd stays set */

struct timer {
	int64_t	at;			/* CLOCK_MONOTONIC ns */
	void	(*fn)(struct timer *);
	void	*arg;
	unsigned slot;			/* place in the heap + 1; 0: not armed */
};
void	timer_set(struct timer *, int64_t at);	/* arms or moves; 0 disarms */
int64_t	mono(void);			/* CLOCK_MONOTONIC ns */
extern int64_t loop_ahead;		/* added to that: a test's clock */
extern int64_t loop_now;		/* mono() of this round of the loop */
void	loop_init(void);
int	loop_timers(unsigned n);	/* room for n more; 0 or -1 */
int	loop_step(int64_t max_ns);	/* one round; 0 or -1 with errno */
extern volatile bool loop_quit;
void	loop_main(void);		/* until loop_quit */
int	loop_epoll(void);		/* the set: readable when there is work */
int64_t	loop_due(void);			/* the next timer's time; 0: none */

/* onbus.c: this loop as a guest of a part's (bus/bus.h).  `after` (may be NULL)
 * is called at the end of each round.  Call onbus_arm when a timer was set
 * outside of one.  0, or -1 with errno. */
struct loop;
int	onbus(struct loop *, void (*after)(void));
void	onbus_arm(void);

#define SEC	1000000000ll
#define MSEC	1000000ll

/* ------------------------------------------------------------------- wires */

#define ETH_HDR		14
#define FRAME_MAX	65568u		/* longest frame taken or sent */
#define BATCH		32u		/* frames handed over at once */
#define WIRE_IOV	4		/* pieces of a frame, with our header */
#define WIRE_PIECES	20		/* of one with a vnet_hdr */

/*
 * What is left to do for a frame by whoever has it last: the checksum from byte
 * `start` on goes to start + `at`; segments of `mss` bytes behind `hdr_len`.  It
 * is the header of virtio 1.2, 5.1.6, which a tap has too, and in host byte order,
 * which is little-endian.
 */
struct vnet_hdr {
	uint8_t		flags, gso;
	uint16_t	hdr_len, mss, start, at;
} __attribute__((packed));
_Static_assert(sizeof(struct vnet_hdr) == 10, "as in the specification");
enum { VNET_NEEDS_CSUM = 1, VNET_DATA_VALID = 2 };		/* flags */
enum { VNET_TCP4 = 1, VNET_TCP6 = 4, VNET_ECN = 0x80 };	/* gso */

struct frame {
	uint8_t		*p;
	uint32_t	len;
	const struct vnet_hdr *vnet;	/* NULL: nothing is left to do */
};
struct wire;
typedef void wire_rx_fn(void *arg, struct wire *, struct frame *, unsigned n);

struct wire_ops {
	const char *kind, *syntax;
	/* arg is cut at commas already (wire_opt gives the rest) */
	int	(*open)(struct wire *, char *arg);
	void	(*rx)(struct wire *);		/* descriptor is readable */
	void	(*flush)(struct wire *);	/* send tx[0..ntx) */
	void	(*drain)(struct wire *);	/* send from the queue */
	void	(*close)(struct wire *);	/* what is beyond ev.fd */
	/* wire_takes() changed, or the wire came up with it; may be NULL */
	void	(*offload)(struct wire *);
};

struct wire {
	const struct wire_ops *ops;
	struct ev	ev;		/* data in; out too unless outfd >= 0 */
	struct ev	ctl;		/* VDE control, listening socket */
	struct ev	out;		/* stdout of a pair */
	wire_rx_fn	*rx;
	void		*arg;
	/* the peer went away; with reconnect it will be tried again */
	void		(*gone)(void *arg, struct wire *);
	/* a peer is there again */
	void		(*back)(void *arg, struct wire *);
	/* a listening wire: takes over the new wire; NULL: one at a time */
	void		(*accepted)(void *arg, struct wire *);
	char		spec[256];
	char		why[160];	/* reason of the last failure */
	unsigned	reconnect;	/* seconds at most, 0: never */
	struct timer	retry;		/* armed: there is no peer */
	int64_t		wait;		/* before the next try, ns */
	bool		up, paused;
	bool		takes;		/* we take frames with a vnet_hdr */
	bool		offload;	/* and so does the peer */

	/* options of the spec, "a\0b=c\0\0" */
	char		opts[256];

	/* sending */
	struct wire	*dirty_next;
	bool		dirty;
	unsigned	ntx, niov;
	struct iovec	iov[BATCH * WIRE_IOV];
	struct { uint16_t first, n; } tx[BATCH];
	uint8_t		hdr[BATCH][16];
	uint8_t		*q;
	uint32_t	qhead, qtail, qsize;
	int64_t		drained;	/* when the queue last moved */

	/* receiving, streams */
	uint8_t		*in;
	uint32_t	inpos, inlen;
	unsigned	framing;	/* bytes of length before each frame */
	bool		speaks;		/* says first whether it takes vnet_hdrs */

	uint32_t	snap;		/* of a frame in a capture */

	/* datagrams */
	bool		raw_ip;		/* the kernel gives the IPv4 header too */
	unsigned	hdrlen;		/* tunnel header before each frame */
	bool		(*rxhdr)(struct wire *, const uint8_t *, unsigned len);
	void		(*txhdr)(struct wire *, uint8_t *);
	void		*tun;		/* L2TPv3 state */
	struct sockaddr_storage peer, self;
	socklen_t	peerlen, selflen;
	int		sendfd;		/* multicast: -1: same as ev.fd */
	int		kept;		/* until the end of the wire, or -1 */
	char		bound[108];	/* unix path to remove at close */

	uint64_t	rxp, rxb, txp, txb, drop, bad;
};

/* Open "KIND:ARG[,OPT[=VAL]]..."; `rx` may be set later.  NULL with one line in
 * why (may be NULL).  A server returns at once, listening. */
struct wire *wire_open(const char *spec, wire_rx_fn *, void *arg, char *why,
	    size_t whylen);
/* Wrap a connected descriptor; kind "stream", "vdeport" or "dgram". */
struct wire *wire_adopt(const char *kind, int fd);
void	wire_close(struct wire *);	/* frees it */
/* Send one frame, in up to WIRE_IOV - 1 pieces. */
void	wire_send(struct wire *, const struct iovec *, int n);
void	wire_put(struct wire *, const void *, uint32_t len);
/* The same with work left, only while ->offload; up to WIRE_PIECES of them. */
void	wire_send_vnet(struct wire *, const struct vnet_hdr *,
	    const struct iovec *, int n);
/* Frames with work left are welcome from now on, or are not. */
void	wire_takes(struct wire *, bool);
void	wire_flush(struct wire *);
void	wire_flush_all(void);
void	wire_pause(struct wire *, bool);	/* stop reading */
bool	wire_busy(const struct wire *);	/* something waits in the queue */
void	wire_kinds(void (*fn)(const char *kind, const char *syntax));

/* ---- for the kinds */
extern uint8_t wire_buf[BATCH][FRAME_MAX];	/* datagrams are received here */
extern const struct wire_ops vde_ops, vdeport_ops, stream_ops, dgram_ops,
	    mcast_ops, l2tpv3_ops, tap_ops, bridge_ops, pcap_ops, stdio_ops, fd_ops;
int	wire_fail(struct wire *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));	/* returns -1 */
const char *wire_opt(struct wire *, const char *key);	/* "" if no value */
int	wire_num(struct wire *, const char *key, uint64_t max, uint64_t *);
void	wire_start(struct wire *);	/* ev.fd is connected: watch it */
void	wire_retry(struct wire *);	/* soon, then less and less often */
void	wire_lost(struct wire *);	/* peer closed */
void	wire_queue(struct wire *, unsigned from);	/* tx[from..] -> queue */
void	wire_want(struct wire *);	/* set the epoll mask anew */
void	wire_event(struct ev *, uint32_t);
int	wire_addr(struct wire *, const char *hostport, bool passive,
	    int socktype, struct sockaddr_storage *, socklen_t *);
int	wire_unix(struct wire *, const char *path, struct sockaddr_storage *,
	    socklen_t *);
int	unix_listen(const char *path, int type, char *why, size_t n);
void	unix_unlink(const char *path);
/* Somebody else does the two, for a process in a sandbox. */
void	wire_paths(int (*)(const char *path, int type, char *why, size_t n),
	    void (*)(const char *path));
void	dgram_rx(struct wire *), dgram_flush(struct wire *),
	dgram_drain(struct wire *);
int	tap_open(const char *name, char *got, size_t n);
/* Start argv[0] with these as descriptors 0, 1 and 3; -1: 0 and 1 as they are, 3
 * closed.  0 or errno. */
int	spawn(char *const *argv, int in, int out, int three, pid_t *);

static inline uint16_t
get16(const void *v)
{
	const uint8_t *p = v;
	return p[0] << 8 | p[1];
}
static inline uint32_t
get32(const void *v)
{
	const uint8_t *p = v;
	return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}
static inline void
put16(void *v, uint16_t x)
{
	uint8_t *p = v;
	p[0] = x >> 8, p[1] = x;
}
static inline void
put32(void *v, uint32_t x)
{
	uint8_t *p = v;
	p[0] = x >> 24, p[1] = x >> 16, p[2] = x >> 8, p[3] = x;
}

#endif
