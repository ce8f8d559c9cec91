/*
 * tcp.h - one TCP connection between a guest and a host socket (RFC 9293).
 *
 * Theory of operation.  Nothing is buffered here.  Data for the guest stays
 * in the host socket's receive buffer and is sent from there with MSG_PEEK;
 * only the guest's acknowledgement removes it.  Data from the guest goes into
 * the host socket at once; what the socket does not take is not acknowledged.
 * So the two kernels' buffers, windows and timers work end to end, and a
 * connection costs sizeof(struct tcp).
 *
 *	guest -> host:	tcp-input.c, rcv_*	host -> guest:	tcp-output.c, snd_*
 *
 * A guest may have been reset and know nothing of its connections.  When it asks for
 * an address anew, or its cable was out, they are asked for a sign of life
 * (RFC 9293 3.8.4), and go if there is none, as do idle ones; a SYN in the place
 * of one replaces it.  When the table is full the connection that was idle for
 * longest goes, unless all are in use.
 *
 * A connection is opened towards the guest only when the host's side stands,
 * and refused there when it is refused here.  Only segments from the guest
 * that come before their turn are kept, in a common pool (tcp-reass.c).
 */
#ifndef TCP_H
#define TCP_H

#include <bsd/sys/queue.h>
#include "slirp.h"

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

enum tcp_state {
	T_FREE, T_CONNECT,	/* host socket is connecting */
	T_SYN_RCVD,		/* SYN-ACK sent to the guest */
	T_SYN_SENT,		/* SYN sent to the guest (forward) */
	T_OPEN,			/* both directions, until both FINs are done */
	T_LINGER,		/* closed; answers a repeated FIN */
};

/* Was the timeout spurious, the guest only slow?  (F-RTO, RFC 5682) */
enum frto {
	F_NONE, F_FIRST,	/* only the first segment was sent again */
	F_SECOND,		/* the first acknowledgement came, new data went */
	F_SLOW,			/* no: all is sent again, from slow start */
};

struct tcp {
	struct ev	ev;
	struct timer	timer;		/* retransmit, persist, linger, SYN */
	struct tcp	*next;		/* hash chain, free list */
	struct tcp	*stall_next;
	TAILQ_ENTRY(tcp) idle;		/* the idlest first */
	int64_t		used;		/* when a segment came, or data went */
	ip		guest, far;
	uint16_t	gport, fport;
	uint8_t		mac[6];
	uint8_t		state, tries;
	uint8_t		doubt;		/* signs of life asked for, to come */
	bool		peek_off, unixfd;
	bool		stalled;	/* on the list for tcp_wake */
	bool		readable;	/* the host socket may have more */
	bool		writable;	/* it took everything so far */
	bool		fin_rcvd, fin_sent, fin_acked, host_eof, probing;
	bool		shut;		/* shutdown(SHUT_WR) done */
	bool		sack;		/* the guest takes SACK */
	uint16_t	nooo;
	struct chunk	*ooo;		/* early segments, by sequence */
	uint32_t	ooo_last;
	uint8_t		gscale, scale;	/* window scale: guest's, ours */
	uint16_t	mss;		/* towards the guest */
	/* towards us */
	uint32_t	irs, rcv_nxt, rcv_adv, last_wnd;
	/* towards the guest */
	uint32_t	iss, snd_una, snd_nxt, snd_max, snd_wnd, max_wnd;
	uint32_t	cwnd, ssthresh, recover, dupacks;
	uint8_t		frto;		/* after a timeout: enum frto */
	uint32_t	lost_end;	/* snd_max at the timeout */
	uint32_t	acked;		/* bytes still in the socket before snd_una */
	uint32_t	peeked;		/* SO_PEEK_OFF now */
	uint32_t	sndbuf;		/* of the host socket */
	unsigned	acks;
	/* round trip (RFC 6298), ns */
	int64_t		srtt, rttvar, rto, timed_at, born;
	uint32_t	timed_seq;
};

#define SEQ_LT(a, b)	((int32_t)((a) - (b)) < 0)
#define SEQ_LE(a, b)	((int32_t)((a) - (b)) <= 0)
#define RTO_MIN		(200 * MSEC)
#define RTO_MAX		(60 * SEC)	/* RFC 6298, 2.5 */
#define OUR_SCALE	8
#define TRIES		10
#define PATIENCE	(75 * SEC)	/* between two SYNs of a guest */

/* ---- tcp-socket.c */
struct tcp *tcp_find(const ip *guest, uint16_t gp, const ip *far, uint16_t fp);
struct tcp *tcp_new(const ip *guest, uint16_t gp, const ip *far, uint16_t fp);
void	tcp_free(struct tcp *);
void	tcp_abort(struct tcp *);	/* RST to the host, freed */
void	tcp_connect(struct pkt *, uint16_t sp, uint16_t dp);
void	tcp_established(struct tcp *);
void	tcp_stall(struct tcp *);	/* look again in a millisecond */
void	tcp_used(struct tcp *);		/* it is not idle */
/* ---- tcp-input.c: nothing more is owed to it in this batch */
void	tcp_forget(const struct tcp *);
/* MSS and scale from a SYN's header of hl bytes */
void	tcp_options(struct tcp *, const uint8_t *h, unsigned hl);
/* ---- tcp-reass.c */
void	reass_start(void);
void	reass_free(struct tcp *);
void	reass_add(struct tcp *, uint32_t seq, const uint8_t *, uint32_t len);
unsigned reass_ready(struct tcp *, struct iovec *, unsigned max);
void	reass_drop(struct tcp *);
unsigned reass_sack(struct tcp *, uint8_t *o);
/* ---- tcp-output.c */
void	tcp_syn(struct tcp *);		/* SYN or SYN-ACK by state */
void	tcp_ack(struct tcp *);
void	tcp_probe(struct tcp *);	/* must be answered */
void	tcp_push(struct tcp *);		/* send what may be sent */
void	tcp_rst_for(struct pkt *);	/* answer to a segment of nobody */
void	tcp_rst(struct tcp *);		/* RST to the guest, not freed */
void	tcp_timeout(struct timer *);
void	tcp_resend(struct tcp *);	/* the first unacknowledged segment */
void	tcp_restart(struct tcp *);	/* all from snd_una on is lost */
void	tcp_discard(struct tcp *);	/* what is acked leaves the socket */
void	tcp_window(struct tcp *);	/* moves the edge on, if it can */
bool	tcp_narrow(const struct tcp *);	/* the guest may wait for more */
void	tcp_arm(struct tcp *);

#endif
