/*
 * tcp-socket.c - the table of TCP connections and their host sockets.
 *
 * Host sockets are watched edge-triggered: data waits in them for the guest's
 * acknowledgement, so level-triggered events would never end.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tcp.h"

#define NHASH	32768
#define IDLE	(5 * SEC)		/* in use until then */
#define DOUBTS	30			/* seconds */
#define SWEEP	(60 * SEC)
#define LONG	(7200 * SEC)		/* RFC 9293, 3.8.4 */

static struct tcp *pool, *freelist, *hash[NHASH], *stalled;
static unsigned npool;			/* so many were ever used */
static unsigned ntcp;
static TAILQ_HEAD(, tcp) idle = TAILQ_HEAD_INITIALIZER(idle);
static struct timer stall_timer, sweep_timer;
static bool have_peek_off = true;

unsigned
tcp_count(void)
{
	return ntcp;
}

static struct tcp **
chain(const ip *g, uint16_t gp, const ip *f, uint16_t fp)
{
	return &hash[flow_hash(g, gp, f, fp) & (NHASH - 1)];
}

struct tcp *
tcp_find(const ip *g, uint16_t gp, const ip *f, uint16_t fp)
{
	struct tcp *t;

	for (t = *chain(g, gp, f, fp); t; t = t->next)
		if (t->gport == gp && t->fport == fp && ipeq(&t->guest, g) &&
		    ipeq(&t->far, f))
			return t;
	return NULL;
}

void
tcp_used(struct tcp *t)
{
	t->used = loop_now;
	if (TAILQ_NEXT(t, idle)) {
		TAILQ_REMOVE(&idle, t, idle);
		TAILQ_INSERT_TAIL(&idle, t, idle);
	}
}

/* Room for one more; false: all are in use. */
static bool
evict(void)
{
	struct tcp *t = TAILQ_FIRST(&idle);

	if (!t || loop_now - t->used < IDLE)
		return false;
	st.tcp_evicted++;
	if (t->state != T_LINGER)
		tcp_rst(t);
	tcp_abort(t);
	return true;
}

struct tcp *
tcp_new(const ip *g, uint16_t gp, const ip *f, uint16_t fp)
{
	struct tcp *t, **c = chain(g, gp, f, fp);

	if (!freelist && npool == cf.maxflows)
		evict();
	t = freelist;
	if (t) {
		freelist = t->next;
	} else if (npool < cf.maxflows) {
		t = &pool[npool++];
	} else {
		st.tcp_full++;
		return NULL;
	}
	memset(t, 0, sizeof *t);
	t->ev.fd = -1;
	t->timer = (struct timer){ 0, tcp_timeout, t };
	t->guest = *g;
	t->gport = gp;
	t->far = *f;
	t->fport = fp;
	t->rto = SEC;
	t->mss = 536;
	t->writable = true;
	t->sndbuf = 65536;
	t->born = loop_now;
	t->iss = t->snd_una = t->snd_nxt = t->snd_max = random32();
	t->next = *c;
	*c = t;
	TAILQ_INSERT_TAIL(&idle, t, idle);
	t->used = loop_now;
	ntcp++;
	if (!sweep_timer.slot)
		timer_set(&sweep_timer, loop_now + SWEEP);
	return t;
}

void
tcp_free(struct tcp *t)
{
	struct tcp **p;

	for (p = chain(&t->guest, t->gport, &t->far, t->fport); *p;
	    p = &(*p)->next)
		if (*p == t) {
			*p = t->next;
			break;
		}
	if (t->stalled)
		for (p = &stalled; *p; p = &(*p)->stall_next)
			if (*p == t) {
				*p = t->stall_next;
				break;
			}
	if (t->ev.fd >= 0) {
		ev_del(&t->ev);
		close(t->ev.fd);
		t->ev.fd = -1;
	}
	TAILQ_REMOVE(&idle, t, idle);
	tcp_forget(t);
	reass_free(t);
	timer_set(&t->timer, 0);
	t->state = T_FREE;
	t->next = freelist;
	freelist = t;
	ntcp--;
}

void
tcp_abort(struct tcp *t)
{
	struct linger l = { 1, 0 };

	if (t->ev.fd >= 0)
		setsockopt(t->ev.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	tcp_free(t);
}

void
tcp_stall(struct tcp *t)
{
	if (t->stalled)
		return;
	t->stalled = true;
	t->stall_next = stalled;
	stalled = t;
	if (!stall_timer.slot)
		timer_set(&stall_timer, loop_now + MSEC);
}

/* Those that waited for the wire or for room in the host socket. */
static void
unstall(void)
{
	struct tcp *t, *list = stalled;
	uint32_t edge;

	/* taken as a whole: those that still wait come back */
	stalled = NULL;
	while ((t = list)) {
		list = t->stall_next;
		t->stalled = false;
		if (t->state != T_OPEN)
			continue;
		edge = t->rcv_adv;
		if (tcp_narrow(t)) {
			tcp_window(t);
			if (t->rcv_adv != edge)
				tcp_ack(t);
		}
		/* a push may free t, not its followers: they are off the
		 * list only by their own events, which do not run here */
		tcp_push(t);
	}
}

static void
stall_tick(struct timer *timer)
{
	unstall();
	if (stalled && !timer->slot)
		timer_set(timer, loop_now + MSEC);
}

void
tcp_wake(void)
{
	static bool was;
	bool busy = wire_busy(cf.wire);

	if (was && !busy && stalled)
		unstall();
	was = wire_busy(cf.wire);
}

void
tcp_doubt(const uint8_t mac[6])
{
	struct tcp *t;

	TAILQ_FOREACH(t, &idle, idle) {
		if (t->state != T_OPEN || (mac && memcmp(t->mac, mac, 6)))
			continue;
		t->doubt = DOUBTS;
		timer_set(&sweep_timer, loop_now + SEC);
	}
}

/*
 * Once a second while there is a doubt, else now and then: whose guest has said
 * nothing for long, or not for a minute when all that was missing is its end.  It is
 * asked after one second, two, four and so on, as a guest that boots is slow.
 */
static void
sweep(struct timer *timer)
{
	struct tcp *t, *next;
	unsigned n;
	bool any = false;

	TAILQ_FOREACH_SAFE(t, &idle, idle, next) {
		if (t->state != T_OPEN || (!t->doubt && loop_now - t->used <
		    (t->fin_acked ? SWEEP : LONG)))
			continue;
		any = true;
		if (!t->doubt)
			t->doubt = DOUBTS;
		n = DOUBTS - --t->doubt;
		if (!t->doubt) {
			st.tcp_lost++;
			tcp_abort(t);
		} else if (!(n & (n - 1))) {
			tcp_probe(t);
		}
	}
	if (ntcp)
		timer_set(timer, loop_now + (any ? SEC : SWEEP));
}

void
tcp_established(struct tcp *t)
{
	int on = 1, zero = 0;
	socklen_t n = sizeof on;

	t->state = T_OPEN;
	t->tries = 0;
	t->readable = true;
	t->snd_nxt = t->snd_max = t->snd_una;
	timer_set(&t->timer, 0);
	if (getsockopt(t->ev.fd, SOL_SOCKET, SO_DOMAIN, &on, &n) == 0)
		t->unixfd = on == AF_UNIX;
	on = 1;
	setsockopt(t->ev.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (have_peek_off && setsockopt(t->ev.fd, SOL_SOCKET, SO_PEEK_OFF,
	    &zero, sizeof zero) == 0)
		t->peek_off = true;
}

static void
connected(struct tcp *t)
{
	int e = 0;
	socklen_t n = sizeof e;

	if (getsockopt(t->ev.fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
		e = errno;
	if (e) {
		st.tcp_refused++;
		/* the guest sees a refusal; RST needs ACK of its SYN */
		tcp_rst(t);
		tcp_free(t);
		return;
	}
	t->state = T_SYN_RCVD;
	tcp_syn(t);
}

static void
socket_event(struct ev *ev, uint32_t events)
{
	struct tcp *t = ev->arg;
	int e = 0;
	socklen_t n = sizeof e;

	if (t->state == T_CONNECT) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			connected(t);
		return;
	}
	if (events & EPOLLERR &&
	    getsockopt(ev->fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e) {
		tcp_rst(t);
		tcp_free(t);
		return;
	}
	if (events & EPOLLRDHUP)
		t->host_eof = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
		t->readable = true;
	if (events & EPOLLOUT && !t->writable) {
		t->writable = true;
		if (t->state == T_OPEN)
			tcp_ack(t);
	}
	tcp_push(t);
}

static int
watch(struct tcp *t, int fd)
{
	t->ev = (struct ev){ fd, socket_event, t };
	return ev_add(&t->ev, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

/* A guest's SYN: open the host's side first. */
void
tcp_connect(struct pkt *k, uint16_t sp, uint16_t dp)
{
	struct sockaddr_storage ss;
	const uint8_t *h = k->l4;
	bool busy = true;
	struct tcp *t;
	socklen_t sl;
	int fd;

	fd = guestfwd_connect(&k->dst, dp, &busy);
	if (fd == -2) {
		if (!to_host(&k->dst, dp, &ss, &sl)) {
			icmp_unreach(k, 13);
			return;
		}
		fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE)
				evict();
			return;		/* out of descriptors: SYN again */
		}
		if (connect(fd, (void *)&ss, sl) == 0) {
			busy = false;
		} else if (errno != EINPROGRESS) {
			if (errno == ENETUNREACH || errno == EHOSTUNREACH)
				icmp_unreach(k, errno == ENETUNREACH ? 0 : 1);
			else
				tcp_rst_for(k);
			st.tcp_refused++;
			close(fd);
			return;
		}
	} else if (fd < 0) {
		tcp_rst_for(k);
		return;
	}
	t = tcp_new(&k->src, sp, &k->dst, dp);
	if (!t) {
		close(fd);
		return;
	}
	st.tcp_open++;
	memcpy(t->mac, k->mac, 6);
	t->state = T_CONNECT;
	t->irs = get32(h + 4);
	t->rcv_nxt = t->rcv_adv = t->irs + 1;
	t->snd_wnd = t->max_wnd = get16(h + 14);
	tcp_options(t, h, (h[12] >> 4) * 4);
	if (watch(t, fd) < 0) {
		close(fd);
		t->ev.fd = -1;
		tcp_free(t);
		return;
	}
	if (!busy)
		connected(t);
	else
		timer_set(&t->timer, loop_now + PATIENCE);
}

int
tcp_accept(int fd, const ip *peer, uint16_t peerport, const ip *guest,
    uint16_t port)
{
	struct tcp *t;

	/* two peers may look the same from the guest's side */
	while (tcp_find(guest, port, peer, peerport))
		peerport = 1024 + random32() % 64000;
	t = tcp_new(guest, port, peer, peerport);
	if (!t)
		return -1;
	st.tcp_open++;
	t->state = T_SYN_SENT;
	if (watch(t, fd) < 0) {
		tcp_free(t);
		return -1;
	}
	if (nb_get(guest, t->mac))
		tcp_syn(t);
	else	/* ARP is under way */
		timer_set(&t->timer, loop_now + 50 * MSEC);
	return 0;
}

void
tcp_start(void)
{
	pool = calloc(cf.maxflows, sizeof *pool);
	if (!pool || loop_timers(cf.maxflows) < 0)
		abort();
	reass_start();
	stall_timer = (struct timer){ 0, stall_tick, NULL };
	sweep_timer = (struct timer){ 0, sweep, NULL };
	have_peek_off = !getenv("SLUICE_NO_PEEK_OFF");
}

void
flows_print(void (*put)(const char *))
{
	static const char *const names[] = { "-", "CONNECTING", "SYN_RECEIVED",
	    "SYN_SENT", "ESTABLISHED", "TIME_WAIT" };
	char line[200];
	unsigned i;

	put("  Protocol[State]    FD  Source Address  Port   Dest. Address  "
	    "Port RecvQ SendQ");
	for (i = 0; i < npool; i++) {
		struct tcp *t = &pool[i];

		if (t->state == T_FREE)
			continue;
		snprintf(line, sizeof line, "  TCP[%-12s] %4d %15s %5u %15s "
		    "%5u %5u %5u", names[t->state], t->ev.fd, ipstr(&t->guest),
		    t->gport, ipstr(&t->far), t->fport, 0,
		    t->snd_max - t->snd_una);
		put(line);
	}
}
