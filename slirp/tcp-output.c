/*
 * tcp-output.c - segments to the guests: data peeked from the host socket,
 * acknowledgements with the window the host socket leaves, retransmission
 * (RFC 6298, RFC 5682), zero-window probes (RFC 9293 3.8.6.1).  See tcp.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include "tcp.h"

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

#define BURST	(512u << 10)	/* bytes at once: what a cache holds */

static uint8_t sink[1 << 20];	/* where bytes peeked before go; never read */

static void
segment(struct tcp *t, uint8_t *o, uint32_t seq, uint8_t flags, unsigned hl,
    unsigned len)
{
	uint32_t w;

	put16(o, t->fport);
	put16(o + 2, t->gport);
	put32(o + 4, seq);
	put32(o + 8, flags & ACK ? t->rcv_nxt : 0);
	o[12] = hl / 4 << 4;
	o[13] = flags;
	w = flags & SYN ? t->rcv_adv - t->rcv_nxt :
	    (t->rcv_adv - t->rcv_nxt) >> t->scale;
	put16(o + 14, w > 65535 ? 65535 : w);
	put32(o + 16, 0);
	out_tcp(o, hl, len, t->mss, &t->far, &t->guest, t->mac);
}

/* Less than this is told as none (RFC 9293 3.8.6.2.2), for the guest waits for a
 * full segment; and the guest is told when there is more. */
static uint32_t
worth(const struct tcp *t)
{
	uint32_t seg = l4_room(!is4(&t->guest)) - 20, n = t->sndbuf / 8;

	if (n > 32768)
		n = 32768;
	if (n < seg)
		n = seg;
	return t->scale || n < 32768 ? n : 32768;
}

bool
tcp_narrow(const struct tcp *t)
{
	return t->rcv_adv - t->rcv_nxt < worth(t);
}

/*
 * Bytes the host socket can surely take: three quarters of its buffer, for
 * the kernel counts overhead too.  The edge never moves back.
 */
void
tcp_window(struct tcp *t)
{
	socklen_t n = sizeof(int);
	uint32_t room, edge, most = t->scale ? 65535u << t->scale : 65535u;
	int v, q = 0;

	if (t->ev.fd < 0 || t->fin_rcvd || t->state == T_CONNECT)
		return;
	if (!(t->acks++ & 63) && getsockopt(t->ev.fd, SOL_SOCKET, SO_SNDBUF,
	    &v, &n) == 0)
		t->sndbuf = v;
	room = 0;
	if (t->writable) {
		ioctl(t->ev.fd, SIOCOUTQ, &q);
		room = t->sndbuf / 4 * 3;
		room = room > (uint32_t)q ? room - q : 0;
		if (room > most)
			room = most;
		if (room < worth(t))
			room = 0;
		room &= ~0u << t->scale;
	}
	edge = t->rcv_nxt + room;
	if (SEQ_LT(t->rcv_adv, edge))
		t->rcv_adv = edge;
	if (tcp_narrow(t))
		tcp_stall(t);
}

void
tcp_syn(struct tcp *t)
{
	bool v6 = !is4(&t->guest);
	uint8_t *o = out_at(0, v6);
	unsigned hl = 24;

	put32(o + 20, 0x02040000 | (l4_room(v6) - 20 > 65495 ? 65495 :
	    l4_room(v6) - 20));
	/* ours is offered, the guest's offer is answered */
	if (t->state == T_SYN_SENT || t->scale) {
		put32(o + 24, 0x01030300 | OUR_SCALE);
		hl = 28;
	}
	if (t->state == T_SYN_SENT || t->sack) {
		put32(o + hl, 0x01010402);
		hl += 4;
	}
	t->snd_nxt = t->snd_max = t->iss + 1;
	if (t->state == T_SYN_RCVD && SEQ_LT(t->rcv_adv, t->rcv_nxt + 65535))
		t->rcv_adv = t->rcv_nxt + 65535;
	segment(t, o, t->iss, t->state == T_SYN_SENT ? SYN : SYN | ACK, hl, 0);
	timer_set(&t->timer, loop_now + (SEC << (t->tries < 5 ? t->tries : 5)));
}

void
tcp_ack(struct tcp *t)
{
	uint8_t *o;

	if (t->state == T_OPEN)
		tcp_window(t);
	o = out_at(0, !is4(&t->guest));
	segment(t, o, t->snd_max, ACK, 20 + reass_sack(t, o + 20), 0);
}

/* From before what is acknowledged: RFC 9293 3.8.4. */
void
tcp_probe(struct tcp *t)
{
	segment(t, out_at(0, !is4(&t->guest)), t->snd_una - 1, ACK, 20, 0);
}

void
tcp_rst(struct tcp *t)
{
	segment(t, out_at(0, !is4(&t->guest)), t->snd_max,
	    t->state == T_SYN_SENT ? RST : RST | ACK, 20, 0);
}

void
tcp_rst_for(struct pkt *k)
{
	uint8_t *h = k->l4, *o = out_at(0, !is4(&k->src));
	unsigned hl = (h[12] >> 4) * 4, len = k->len - hl;

	memcpy(o, h + 2, 2);
	memcpy(o + 2, h, 2);
	if (h[13] & ACK) {
		memcpy(o + 4, h + 8, 4);
		put32(o + 8, 0);
		o[13] = RST;
	} else {
		put32(o + 4, 0);
		put32(o + 8, get32(h + 4) + len + !!(h[13] & SYN) +
		    !!(h[13] & FIN));
		o[13] = RST | ACK;
	}
	o[12] = 5 << 4;
	memset(o + 14, 0, 6);
	out_ip(o, 20, PROTO_TCP, &k->dst, &k->src, k->mac);
}

/*
 * Peek at the socket's bytes from `off` on, into n pieces of iov.  Bytes, 0 at the end of
 * the stream, -1 EAGAIN.
 */
static ssize_t
peek(struct tcp *t, uint32_t off, struct iovec *iov, unsigned n)
{
	struct iovec v[BATCH + 17];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n };
	uint32_t left;
	unsigned k;
	ssize_t got;
	int o;

	if (t->peek_off) {
		if (t->peeked != off) {
			o = off;
			setsockopt(t->ev.fd, SOL_SOCKET, SO_PEEK_OFF, &o,
			    sizeof o);
			t->peeked = off;
		}
		got = recvmsg(t->ev.fd, &m, MSG_PEEK | MSG_DONTWAIT);
		if (got > 0)
			t->peeked += got;
		return got;
	}
	/* an older kernel: the bytes before are copied into the sink */
	for (k = 0, left = off; left && k < 16; k++) {
		v[k].iov_base = sink;
		v[k].iov_len = left < sizeof sink ? left : sizeof sink;
		left -= v[k].iov_len;
	}
	memcpy(v + k, iov, n * sizeof *iov);
	m.msg_iov = v;
	m.msg_iovlen = k + n;
	got = recvmsg(t->ev.fd, &m, MSG_PEEK | MSG_DONTWAIT);
	if (got < 0)
		return -1;
	if (got > (ssize_t)off)
		return got - off;
	if (t->host_eof || got < (ssize_t)off || !off)
		return 0;
	errno = EAGAIN;
	return -1;
}

void
tcp_discard(struct tcp *t)
{
	uint32_t n = t->acked;
	ssize_t got;

	t->acked = 0;
	while (n) {
		/* MSG_TRUNC on TCP: thrown away, not copied */
		got = recv(t->ev.fd, sink, n > sizeof sink ? sizeof sink : n,
		    MSG_DONTWAIT | (t->unixfd ? 0 : MSG_TRUNC));
		if (got <= 0)
			break;
		n -= got;
		t->peeked = t->peeked > got ? t->peeked - got : 0;
	}
}

static void
send_fin(struct tcp *t)
{
	t->fin_sent = true;
	segment(t, out_at(0, !is4(&t->guest)), t->snd_nxt, FIN | ACK, 20, 0);
	t->snd_nxt++;
	if (SEQ_LT(t->snd_max, t->snd_nxt))
		t->snd_max = t->snd_nxt;
}

void
tcp_arm(struct tcp *t)
{
	int64_t wait = t->rto << (t->tries < 6 ? t->tries : 6);

	if (t->snd_max != t->snd_una || t->probing)
		timer_set(&t->timer, loop_now + (wait < RTO_MAX ? wait :
		    RTO_MAX));
	else
		timer_set(&t->timer, 0);
}

/* Send up to `max` bytes from snd_nxt on.  Bytes sent; 0 nothing there. */
static uint32_t
burst(struct tcp *t, uint32_t max)
{
	bool v6 = !is4(&t->guest);
	struct iovec iov[BATCH];
	uint32_t end, sent = 0, len, seg = out_mss(t->mss);
	uint32_t seq = t->snd_nxt;
	unsigned i, n, room;
	ssize_t got;

	n = (max + seg - 1) / seg;
	out_need(n < 8 ? n : 8);
	room = out_room();
	if (n > room)
		n = room;
	if (n > 1 && n * seg > BURST)
		n = BURST / seg;
	for (i = 0; i < n; i++)
		iov[i] = (struct iovec){ out_at(i, v6) + 20, seg };
	if (n * seg > max)
		iov[n - 1].iov_len = max - (n - 1) * seg;
	got = peek(t, t->acked + seq - t->snd_una, iov, n);
	if (got == 0) {
		t->host_eof = true;
		t->readable = false;
		return 0;
	}
	if (got < 0) {
		if (errno == EAGAIN || errno == EINTR) {
			t->readable = false;
			return 0;
		}
		tcp_rst(t);		/* the peer reset */
		tcp_free(t);
		return 0;
	}
	end = seq + got;
	tcp_used(t);
	for (i = 0; sent < (uint32_t)got; i++) {
		len = got - sent < seg ? got - sent : seg;
		segment(t, (uint8_t *)iov[i].iov_base - 20, seq + sent,
		    ACK | (sent + len == (uint32_t)got ? PSH : 0), 20, len);
		sent += len;
	}
	if (!t->timed_at && seq == t->snd_max) {
		t->timed_at = loop_now;
		t->timed_seq = seq;
	}
	t->snd_nxt = end;
	if (SEQ_LT(t->snd_max, end))
		t->snd_max = end;
	if ((uint32_t)got < max && !SEQ_LT(end, t->snd_max) &&
	    (uint32_t)got < n * seg)
		t->readable = false;	/* until the next edge */
	return sent;
}

void
tcp_push(struct tcp *t)
{
	uint32_t wnd, flight, left, before = t->snd_max;

	if (t->state != T_OPEN)
		return;
	while (!t->fin_sent || SEQ_LT(t->snd_nxt, t->snd_max)) {
		if (wire_busy(cf.wire)) {
			tcp_stall(t);
			break;
		}
		wnd = t->snd_wnd < t->cwnd ? t->snd_wnd : t->cwnd;
		flight = t->snd_nxt - t->snd_una;
		if (t->frto == F_FIRST)
			break;
		if (t->frto == F_SECOND && wnd > t->lost_end - t->snd_una +
		    2u * t->mss)
			wnd = t->lost_end - t->snd_una + 2u * t->mss;
		left = wnd > flight ? wnd - flight : 0;
		/* a rewound FIN alone */
		if (t->fin_sent && t->snd_nxt + 1 == t->snd_max) {
			send_fin(t);
			break;
		}
		if (t->fin_sent && left > t->snd_max - 1 - t->snd_nxt)
			left = t->snd_max - 1 - t->snd_nxt;
		if (!t->readable && !t->host_eof &&
		    !SEQ_LT(t->snd_nxt, t->snd_max))
			break;
		/* no silly windows: a full segment or half the largest */
		if (!left || (left < t->mss && flight &&
		    left < t->max_wnd / 2 && !t->fin_sent)) {
			if (!flight && !left && !t->probing) {
				t->probing = true;
				t->tries = 0;
				tcp_arm(t);
			}
			break;
		}
		if (burst(t, left))
			continue;
		if (t->state != T_OPEN)
			return;
		if (t->host_eof && !t->fin_sent) {
			send_fin(t);
			t->readable = false;
		}
		break;
	}
	if (t->snd_max != before || !t->timer.slot ||
	    t->snd_una == t->snd_max)
		tcp_arm(t);
}

void
tcp_resend(struct tcp *t)
{
	uint32_t was = t->snd_nxt, n = t->snd_max - t->snd_una;

	st.tcp_rexmit++;
	t->timed_at = 0;
	t->snd_nxt = t->snd_una;
	if (t->fin_sent)
		n--;
	if (n > t->mss)
		n = t->mss;
	if (n)
		burst(t, n);
	else if (t->fin_sent)
		send_fin(t);
	if (t->state == T_OPEN && SEQ_LT(t->snd_nxt, was))
		t->snd_nxt = was;
}

/* Slow start from the first unacknowledged byte (RFC 5681, 3.1). */
void
tcp_restart(struct tcp *t)
{
	t->ssthresh = (t->snd_max - t->snd_una) / 2;
	if (t->ssthresh < 10u * t->mss)
		t->ssthresh = 10 * t->mss;
	t->cwnd = 4 * t->mss;
	t->dupacks = 0;
	t->frto = F_SLOW;
	t->lost_end = t->snd_max;
	t->snd_nxt = t->snd_una;
	st.tcp_rexmit++;
	tcp_push(t);
}

/*
 * RFC 5682, 2.1: only the first segment goes again until acknowledgements tell
 * whether it, or only the guest's answer, was lost or late.  A guest may be
 * stopped for longer than any estimate of the round trip.
 */
static void
timed_out(struct tcp *t)
{
	if (wire_busy(cf.wire)) {
		t->tries--;	/* it is still here */
	} else if (t->frto > F_FIRST) {
		tcp_restart(t);
	} else {
		t->frto = F_FIRST;
		t->lost_end = t->snd_max;
		t->dupacks = 0;
		tcp_resend(t);
	}
}

void
tcp_timeout(struct timer *timer)
{
	struct tcp *t = timer->arg;

	switch (t->state) {
	case T_LINGER:
		tcp_free(t);
		return;
	case T_CONNECT:
		if (loop_now - t->used < PATIENCE)
			timer_set(timer, t->used + PATIENCE);
		else
			tcp_abort(t);	/* the guest gave up */
		return;
	case T_SYN_SENT:
		if (!nb_get(&t->guest, t->mac)) {
			/* asked again: nobody yet */
			if (++t->tries > 40)
				tcp_abort(t);
			else
				timer_set(timer, loop_now + SEC / 5);
			return;
		}
		if (t->snd_max == t->iss)
			t->tries = 0;	/* this is the first SYN */
		/* fall through */
	case T_SYN_RCVD:
		if (++t->tries > 6)
			tcp_abort(t);
		else
			tcp_syn(t);
		return;
	}
	/* an answer to a probe, even of no room, begins anew */
	if (++t->tries > TRIES) {
		tcp_rst(t);
		tcp_abort(t);
		return;
	}
	t->timed_at = 0;
	if (t->probing) {
		/* one byte beyond the window */
		t->snd_nxt = t->snd_una;
		if (burst(t, 1) == 0 && t->state == T_OPEN && t->host_eof &&
		    !t->fin_sent)
			send_fin(t);
	} else {
		timed_out(t);
	}
	if (t->state == T_OPEN)
		tcp_arm(t);
}
