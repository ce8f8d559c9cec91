/*
 * tcp-input.c - segments from the guests (RFC 9293 section 3.10.7, RFC 5681,
 * RFC 5961 for blind attacks, RFC 6582 and RFC 5682 for recovery).  See tcp.h.
 *
 * In-order data of consecutive segments of a batch is gathered and written to
 * the host socket with one call and answered with one acknowledgement.  What they
 * acknowledge is taken from the socket, and what may be sent then is, once too.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "tcp.h"

static struct {
	struct tcp *t;
	struct iovec iov[BATCH];
	unsigned n;
	uint32_t bytes;
} pend;

static struct tcp *acked;	/* by segments of this batch */

static void
flush_acked(void)
{
	struct tcp *t = acked;

	acked = NULL;
	if (!t || t->state != T_OPEN)
		return;
	tcp_discard(t);
	tcp_push(t);
}

static void
guest_fin(struct tcp *t)
{
	t->fin_rcvd = true;
	t->rcv_nxt++;
	if (!t->shut) {
		t->shut = true;
		shutdown(t->ev.fd, SHUT_WR);
	}
}

static void
done_check(struct tcp *t)
{
	if (!t->fin_rcvd || !t->fin_acked)
		return;
	t->state = T_LINGER;
	ev_del(&t->ev);
	close(t->ev.fd);
	t->ev.fd = -1;
	timer_set(&t->timer, loop_now + SEC);
}

/* Early segments whose turn has come.  false: the connection is gone. */
static bool
drain_early(struct tcp *t)
{
	struct iovec iov[BATCH];
	struct msghdr m = { .msg_iov = iov };
	uint32_t want;
	unsigned i, k;
	ssize_t n;

	while (t->writable && (k = reass_ready(t, iov, BATCH))) {
		for (want = i = 0; i < k; i++)
			want += iov[i].iov_len;
		m.msg_iovlen = k;
		n = sendmsg(t->ev.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			tcp_rst(t);
			tcp_free(t);
			return false;
		}
		if (n > 0)
			t->rcv_nxt += n;
		if (n < (ssize_t)want)
			t->writable = false;
		/* the window may not end before what was taken */
		if (SEQ_LT(t->rcv_adv, t->rcv_nxt))
			t->rcv_adv = t->rcv_nxt;
	}
	reass_drop(t);
	return true;
}

/* Write what was gathered.  The connection may be gone afterwards. */
static void
flush_pend(void)
{
	struct tcp *t = pend.t;
	struct msghdr m = { .msg_iov = pend.iov, .msg_iovlen = pend.n };
	uint32_t want = pend.bytes;
	ssize_t n;

	pend.t = NULL;
	pend.n = pend.bytes = 0;
	if (!t || t->state != T_OPEN)	/* freed since: nothing is owed */
		return;
	if (want) {
		n = sendmsg(t->ev.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			/* the host's peer is gone: the guest hears it */
			tcp_rst(t);
			tcp_free(t);
			return;
		}
		if (n > 0)
			t->rcv_nxt += n;
		if (n < (ssize_t)want)
			t->writable = false;
	}
	if (t->ooo && !drain_early(t))
		return;
	tcp_ack(t);
}

void
tcp_forget(const struct tcp *t)
{
	if (pend.t == t) {
		pend.t = NULL;
		pend.n = pend.bytes = 0;
	}
	if (acked == t)
		acked = NULL;
}

void
tcp_batch_end(void)
{
	flush_pend();
	flush_acked();
}

void
tcp_options(struct tcp *t, const uint8_t *h, unsigned hl)
{
	unsigned i, n, mss = 536, room = l4_room(!is4(&t->guest)) - 20;
	bool ws = false;

	for (i = 20; i < hl && h[i]; i += n) {
		n = 1;
		if (h[i] == 1)
			continue;
		if (i + 1 >= hl || (n = h[i + 1]) < 2 || i + n > hl)
			break;
		if (h[i] == 2 && n == 4) {
			mss = get16(h + i + 2);
		} else if (h[i] == 3 && n == 3) {
			t->gscale = h[i + 2] > 14 ? 14 : h[i + 2];
			ws = true;
		} else if (h[i] == 4 && n == 2) {
			t->sack = true;
		}
	}
	t->mss = mss < 64 ? 64 : mss > room ? room : mss;
	t->scale = ws ? OUR_SCALE : 0;
	if (!ws)
		t->gscale = 0;
	t->cwnd = 10 * t->mss > 65536u ? 10u * t->mss : 65536u;
	t->ssthresh = 1u << 30;
}

static void
rtt(struct tcp *t)
{
	int64_t r = loop_now - t->timed_at, d;

	t->timed_at = 0;
	if (!t->srtt) {
		t->srtt = r;
		t->rttvar = r / 2;
	} else {
		d = t->srtt > r ? t->srtt - r : r - t->srtt;
		t->rttvar += (d - t->rttvar) / 4;
		t->srtt += (r - t->srtt) / 8;
	}
	t->rto = t->srtt + 4 * t->rttvar;
	if (t->rto < RTO_MIN)
		t->rto = RTO_MIN;
}

/*
 * A selective acknowledgement says for sure that a segment came too early, and
 * the window may change with it; one of data below the acknowledgement that a
 * segment came twice (RFC 2883, section 4), so nothing is missing.
 */
enum sack { NO_SACK, D_SACK, SACK };

static enum sack
sack_of(const uint8_t *h, unsigned hl, uint32_t ack)
{
	unsigned i, n;

	for (i = 20; i < hl && h[i]; i += n) {
		n = 1;
		if (h[i] == 1)
			continue;
		if (i + 1 >= hl || (n = h[i + 1]) < 2 || i + n > hl)
			break;
		if (h[i] == 5 && n >= 10)
			return n > 10 || SEQ_LE(ack, get32(h + i + 2)) ? SACK :
			    D_SACK;
	}
	return NO_SACK;
}

/* New data is acknowledged after a timeout (RFC 5682, 2.1, steps 2 and 3). */
static void
after_timeout(struct tcp *t, enum sack sack)
{
	if (SEQ_LE(t->lost_end, t->snd_una))
		t->frto = F_NONE;
	else if (t->frto == F_SLOW)
		return;
	else if (sack == SACK)
		tcp_restart(t);
	else
		t->frto = t->frto == F_FIRST ? F_SECOND : F_NONE;
}

static void
dup_ack(struct tcp *t, enum sack sack)
{
	uint32_t flight = t->snd_max - t->snd_una;

	if (sack == D_SACK) {
		if (t->frto == F_SECOND)
			t->frto = F_NONE;
		return;
	}
	if (t->frto) {
		/* all is sent again already (RFC 6582, 3.2, step 4) */
		if (t->frto != F_SLOW)
			tcp_restart(t);
		return;
	}
	if (++t->dupacks == 3) {
		/* a virtual cable: no less than an initial window (RFC 6928),
		 * so that three duplicates still come */
		t->ssthresh = flight / 10 * 7 > 10u * t->mss ? flight /
		    10 * 7 : 10u * t->mss;
		t->cwnd = t->ssthresh + 3 * t->mss;
		t->recover = t->snd_max;
		t->timed_at = 0;
		tcp_resend(t);
	} else if (t->dupacks > 3) {
		t->cwnd += t->mss;
	}
}

static void
ack_in(struct tcp *t, uint32_t ack, uint32_t wnd, bool pure, enum sack sack)
{
	uint32_t n = ack - t->snd_una, data;
	bool opened = wnd > t->snd_wnd, same = wnd == t->snd_wnd;

	if (SEQ_LT(t->snd_max, ack)) {
		tcp_ack(t);
		return;
	}
	if (SEQ_LT(ack, t->snd_una))
		return;
	t->snd_wnd = wnd;
	if (n) {
		data = n;
		if (t->fin_sent && ack == t->snd_max) {
			t->fin_acked = true;
			data--;
		}
		if (t->timed_at && SEQ_LT(t->timed_seq, ack))
			rtt(t);
		t->acked += data;
		t->snd_una = ack;
		if (SEQ_LT(t->snd_nxt, ack))
			t->snd_nxt = ack;
		t->tries = 0;
		if (t->dupacks >= 3) {
			if (SEQ_LT(ack, t->recover)) {
				tcp_resend(t);	/* the next hole */
			} else {
				t->dupacks = 0;
				t->cwnd = t->ssthresh;
			}
		} else {
			t->dupacks = 0;
			if (t->cwnd < t->ssthresh)
				t->cwnd += n;
			else
				t->cwnd += (uint64_t)t->mss * n / t->cwnd + 1;
			if (t->cwnd > 16u << 20)
				t->cwnd = 16u << 20;
		}
		if (t->frto)
			after_timeout(t, sack);
	} else if (pure && wnd && (sack || same) &&
	    t->snd_max != t->snd_una) {
		dup_ack(t, sack);
	}
	if (t->state != T_OPEN)
		return;
	if (!wnd)
		t->tries = 0;	/* alive, only full */
	if (n)
		tcp_arm(t);
	if (wnd > t->max_wnd)
		t->max_wnd = wnd;
	if (opened && t->probing) {
		t->probing = false;
		t->snd_nxt = t->snd_una;	/* the probe's byte may be lost */
	}
}

/* In T_OPEN, seq and length known: the part in the window, in order. */
static void
data_in(struct tcp *t, uint8_t *p, uint32_t seq, uint32_t len, bool fin)
{
	uint32_t next = t->rcv_nxt + (pend.t == t ? pend.bytes : 0), skip, room;

	if (SEQ_LT(seq, next)) {
		skip = next - seq;
		if (skip > len || (skip == len && !fin)) {
			flush_pend();
			tcp_ack(t);	/* seen before */
			return;
		}
		p += skip;
		len -= skip;
		seq = next;
	}
	if (seq != next || !t->writable || t->fin_rcvd) {
		struct tcp *keep = t;

		if (pend.t == t) {
			flush_pend();
			if (keep->state != T_OPEN)
				return;
		}
		if (!t->fin_rcvd && len && SEQ_LT(t->rcv_nxt, seq) &&
		    SEQ_LE(seq + len, t->rcv_adv))
			reass_add(t, seq, p, len);
		tcp_ack(t);
		return;
	}
	room = t->rcv_adv - next;
	if ((int32_t)room < 0)
		room = 0;
	if (len > room) {
		len = room;
		fin = false;
	}
	if (pend.t != t || pend.n == BATCH) {
		flush_pend();
		if (t->state != T_OPEN)
			return;
	}
	pend.t = t;
	if (len) {
		pend.iov[pend.n++] = (struct iovec){ p, len };
		pend.bytes += len;
	}
	if (t->ooo && !fin) {
		flush_pend();		/* it may be what they waited for */
		return;
	}
	if (fin) {
		next = t->rcv_nxt + pend.bytes;
		/* everything before the FIN must be in the socket */
		flush_pend();
		if (t->state != T_OPEN || t->rcv_nxt != next)
			return;
		guest_fin(t);
		tcp_ack(t);
	}
}

static void
syn_state(struct tcp *t, struct pkt *k, uint32_t seq, uint32_t ack,
    uint8_t flags, unsigned hl)
{
	if (flags & RST) {
		/* RFC 5961: only an exact one counts */
		if (t->state == T_SYN_SENT ? flags & ACK && ack == t->snd_max :
		    seq == t->rcv_nxt)
			tcp_abort(t);
		return;
	}
	if (t->state == T_SYN_SENT) {
		if ((flags & (SYN | ACK)) != (SYN | ACK) ||
		    ack != t->snd_max) {
			if (flags & ACK)
				tcp_rst_for(k);
			return;
		}
		t->irs = seq;
		t->rcv_nxt = t->rcv_adv = seq + 1;
		tcp_options(t, k->l4, hl);
		t->snd_una = ack;
		t->snd_wnd = t->max_wnd = get16(k->l4 + 14);
		tcp_established(t);
		tcp_ack(t);
		tcp_push(t);
		return;
	}
	/* T_SYN_RCVD, T_CONNECT: a repeated SYN */
	if (flags & SYN) {
		if (t->state == T_SYN_RCVD && seq + 1 == t->rcv_nxt)
			tcp_syn(t);
		return;
	}
	if (t->state != T_SYN_RCVD || !(flags & ACK))
		return;
	if (ack != t->snd_max) {
		tcp_rst_for(k);
		return;
	}
	t->snd_una = ack;
	tcp_established(t);
}

/* A SYN where there is a connection: is it the first of another one?  From the
 * guest's own station, so this is no blind attack (RFC 5961, 4). */
static bool
another(const struct tcp *t, const struct pkt *k, uint8_t flags, uint32_t seq)
{
	return (flags & (SYN | ACK | RST | FIN)) == SYN &&
	    t->state != T_SYN_SENT && (t->state == T_LINGER ||
	    (seq != t->irs && !memcmp(t->mac, k->mac, 6)));
}

void
tcp_input(struct pkt *k)
{
	uint8_t *h = k->l4, flags = h[13];
	unsigned hl = (h[12] >> 4) * 4;
	uint16_t sp = get16(h), dp = get16(h + 2);
	uint32_t seq = get32(h + 4), ack = get32(h + 8), len, wnd;
	struct tcp *t;

	if (hl < 20 || hl > k->len || !sp || !dp ||
	    (is4(&k->src) && !v4of(&k->src)) ||
	    IN6_IS_ADDR_UNSPECIFIED(&k->src)) {
		st.bad++;
		return;
	}
	len = k->len - hl;
	t = tcp_find(&k->src, sp, &k->dst, dp);
	if (t && another(t, k, flags, seq)) {
		tcp_abort(t);		/* the port is used again */
		t = NULL;
	}
	if (t && t->state == T_LINGER) {
		if (!(flags & RST) && flags & FIN)
			tcp_ack(t);
		return;
	}
	if (!t) {
		if ((flags & (SYN | ACK | RST | FIN)) == SYN)
			tcp_connect(k, sp, dp);
		else if (!(flags & RST))
			tcp_rst_for(k);
		return;
	}
	memcpy(t->mac, k->mac, 6);
	tcp_used(t);
	t->doubt = 0;
	if (t->state != T_OPEN) {
		syn_state(t, k, seq, ack, flags, hl);
		if (t->state != T_OPEN || flags & SYN)
			return;
	}
	if (flags & RST) {
		if (pend.t == t)
			flush_pend();
		if (t->state != T_OPEN)
			return;
		if (seq == t->rcv_nxt)
			tcp_abort(t);
		else if (SEQ_LT(t->rcv_nxt, seq) && SEQ_LT(seq, t->rcv_adv))
			tcp_ack(t);
		return;
	}
	if (flags & SYN) {
		if (pend.t == t)
			flush_pend();
		if (t->state == T_OPEN)
			tcp_ack(t);	/* challenge */
		return;
	}
	if (!(flags & ACK))
		return;
	wnd = (uint32_t)get16(h + 14) << t->gscale;
	ack_in(t, ack, wnd, !len && !(flags & FIN), sack_of(h, hl, ack));
	if (t->state != T_OPEN)
		return;
	if (len || flags & FIN)
		data_in(t, h + hl, seq, len, flags & FIN);
	else if (seq + 1 == t->rcv_nxt && pend.t != t)
		tcp_ack(t);		/* a keep-alive */
	if (t->state != T_OPEN)
		return;
	if (t->fin_rcvd && t->fin_acked) {
		done_check(t);
		return;
	}
	if (acked != t) {
		flush_acked();
		acked = t;
	}
}
