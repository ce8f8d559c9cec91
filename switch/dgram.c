/*
 * dgram.c - a frame per datagram: QEMU's -netdev dgram over UDP or unix
 * sockets, UDP multicast (QEMU's -netdev socket,mcast= and dgram), the data
 * sockets of VDE, and under l2tpv3.c the tunnel's.
 *
 * Sockets are connected where there is one peer, because only then does the
 * kernel report when a full peer has room again.
 */
#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "wire.h"

static struct mmsghdr msg[BATCH];
static struct iovec rxiov[BATCH];
static struct sockaddr_storage from[BATCH];

static bool
our_own(struct wire *w, const struct sockaddr_storage *ss)
{
	const struct sockaddr_in *a = (const void *)ss, *b = (void *)&w->self;
	const struct sockaddr_in6 *a6 = (const void *)ss,
	    *b6 = (void *)&w->self;

	if (w->sendfd < 0 || a->sin_family != b->sin_family)
		return false;
	if (a->sin_family == AF_INET)
		return a->sin_port == b->sin_port &&
		    a->sin_addr.s_addr == b->sin_addr.s_addr;
	return a6->sin6_port == b6->sin6_port &&
	    !memcmp(&a6->sin6_addr, &b6->sin6_addr, 16);
}

void
dgram_rx(struct wire *w)
{
	struct frame f[BATCH];
	unsigned i, n, ih, off;
	uint8_t *p;
	int got;

	for (i = 0; i < BATCH; i++) {
		rxiov[i] = (struct iovec){ wire_buf[i], FRAME_MAX };
		msg[i].msg_hdr = (struct msghdr){ .msg_iov = &rxiov[i],
		    .msg_iovlen = 1, .msg_name = w->sendfd >= 0 ? &from[i] :
		    NULL, .msg_namelen = w->sendfd >= 0 ? sizeof *from : 0 };
	}
	got = recvmmsg(w->ev.fd, msg, BATCH, MSG_DONTWAIT, NULL);
	if (got <= 0)
		return;		/* an error of the last send, or nothing */
	for (n = i = 0; i < (unsigned)got; i++) {
		p = wire_buf[i];
		off = w->hdrlen;
		if (w->raw_ip && msg[i].msg_len >= 20) {
			ih = (p[0] & 15) * 4;
			off += ih;
		}
		if (msg[i].msg_len < off + ETH_HDR ||
		    msg[i].msg_hdr.msg_flags & MSG_TRUNC ||
		    (w->rxhdr && !w->rxhdr(w, p + off - w->hdrlen,
		    msg[i].msg_len))) {
			w->bad++;
			continue;
		}
		if (our_own(w, &from[i]))
			continue;
		f[n] = (struct frame){ p + off, msg[i].msg_len - off };
		w->rxb += f[n++].len;
	}
	w->rxp += n;
	if (n && w->rx)
		w->rx(w->arg, w, f, n);
	wire_flush_all();
}

static int
again(struct wire *w)
{
	/* the peer's socket was replaced, or was not there yet */
	if (w->peerlen && w->sendfd < 0)
		return connect(w->ev.fd, (void *)&w->peer, w->peerlen);
	return -1;
}

static bool
full(int e)
{
	return e == EAGAIN || e == ENOBUFS || e == EINTR;
}

void
dgram_flush(struct wire *w)
{
	int fd = w->sendfd >= 0 ? w->sendfd : w->ev.fd;
	bool retried = false;
	unsigned i, k;
	int n;

	if (w->hdrlen)
		for (i = 0; i < w->ntx; i++) {
			w->iov[w->tx[i].first].iov_len = w->hdrlen;
			w->txhdr(w, w->hdr[i]);
		}
	if (w->qhead != w->qtail) {
		wire_queue(w, 0);
		return;
	}
	for (i = 0; i < w->ntx; i++)
		msg[i].msg_hdr = (struct msghdr){
		    .msg_iov = &w->iov[w->tx[i].first],
		    .msg_iovlen = w->tx[i].n };
	for (i = 0; i < w->ntx; ) {
		n = sendmmsg(fd, msg + i, w->ntx - i,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && full(errno)) {
			wire_queue(w, i);
			return;
		}
		if (n < 0) {
			if (errno != EMSGSIZE && !retried) {
				retried = true;
				if (again(w) == 0)
					continue;
			}
			w->drop++;
			i++;
			continue;
		}
		for (; n > 0; n--, i++) {
			w->txp++;
			for (k = 0; k < w->tx[i].n; k++)
				w->txb += w->iov[w->tx[i].first + k].iov_len;
		}
	}
}

void
dgram_drain(struct wire *w)
{
	int fd = w->sendfd >= 0 ? w->sendfd : w->ev.fd;
	struct iovec v[BATCH];
	uint32_t len, pos;
	unsigned k;
	int n;

	while (w->qtail - w->qhead > 4) {
		for (k = 0, pos = w->qhead; k < BATCH && pos < w->qtail; k++) {
			memcpy(&len, w->q + pos, 4);
			v[k] = (struct iovec){ w->q + pos + 4, len };
			msg[k].msg_hdr = (struct msghdr){ .msg_iov = &v[k],
			    .msg_iovlen = 1 };
			pos += 4 + len;
		}
		n = sendmmsg(fd, msg, k, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && full(errno))
			return;
		if (n < 0)
			n = 1;		/* this one cannot be sent */
		while (n--) {
			memcpy(&len, w->q + w->qhead, 4);
			w->qhead += 4 + len;
		}
	}
	w->qhead = w->qtail = 0;
}

static void
big_buffers(int fd)
{
	int n = 4 << 20;

	/* no harm if the limits are lower */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
}

static int
dgram_open(struct wire *w, char *arg)
{
	const char *remote = wire_opt(w, "remote");
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;

	if (!remote) {
		errno = EINVAL;
		return wire_fail(w, "remote= is missing");
	}
	if (strchr(arg, '/') || strchr(remote, '/')) {
		if (wire_unix(w, remote, &w->peer, &w->peerlen) < 0)
			return -1;
		fd = unix_listen(arg, SOCK_DGRAM, w->why, sizeof w->why);
		if (fd < 0)
			return -1;
		snprintf(w->bound, sizeof w->bound, "%s", arg);
	} else {
		if (wire_addr(w, arg, true, SOCK_DGRAM, &ss, &len) < 0 ||
		    wire_addr(w, remote, false, SOCK_DGRAM, &w->peer,
		    &w->peerlen) < 0)
			return -1;
		fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
		if (fd < 0 || bind(fd, (void *)&ss, len) < 0) {
			wire_fail(w, "%s: %s", arg, strerror(errno));
			if (fd >= 0)
				close(fd);
			return -1;
		}
	}
	big_buffers(fd);
	w->ev.fd = fd;
	again(w);	/* a unix peer may come later: tried at each send */
	wire_start(w);
	return 0;
}

const struct wire_ops dgram_ops = {
	"dgram", "dgram:LOCAL,remote=REMOTE  (paths, or HOST:PORT each)",
	dgram_open, dgram_rx, dgram_flush, dgram_drain, NULL
};

static int
mcast_open(struct wire *w, char *arg)
{
	const char *local = wire_opt(w, "local");
	struct sockaddr_in *g = (void *)&w->peer;
	struct ip_mreq mr;
	uint8_t loop = 1;
	int fd, one = 1;

	if (wire_addr(w, arg, false, SOCK_DGRAM, &w->peer, &w->peerlen) < 0)
		return -1;
	if (g->sin_family != AF_INET ||
	    !IN_MULTICAST(ntohl(g->sin_addr.s_addr))) {
		errno = EINVAL;
		return wire_fail(w, "%s: not an IPv4 multicast group", arg);
	}
	mr.imr_multiaddr = g->sin_addr;
	mr.imr_interface.s_addr = INADDR_ANY;
	if (local && inet_pton(AF_INET, local, &mr.imr_interface) != 1) {
		errno = EINVAL;
		return wire_fail(w, "local=%s: not an address", local);
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	w->sendfd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (fd < 0 || w->sendfd < 0)
		goto bad;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (void *)g, sizeof *g) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr) < 0 ||
	    setsockopt(w->sendfd, IPPROTO_IP, IP_MULTICAST_LOOP, &loop,
	    sizeof loop) < 0 ||
	    setsockopt(w->sendfd, IPPROTO_IP, IP_MULTICAST_IF,
	    &mr.imr_interface, sizeof mr.imr_interface) < 0 ||
	    connect(w->sendfd, (void *)g, sizeof *g) < 0)
		goto bad;
	/* frames from this address are ours, coming back */
	w->selflen = sizeof w->self;
	getsockname(w->sendfd, (void *)&w->self, &w->selflen);
	big_buffers(fd);
	w->ev.fd = fd;
	wire_start(w);
	return 0;
bad:
	wire_fail(w, "%s: %s", arg, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

const struct wire_ops mcast_ops = {
	"mcast", "mcast:GROUP:PORT[,local=ADDR]",
	mcast_open, dgram_rx, dgram_flush, dgram_drain, NULL
};
