/*
 * stream.c - frames in a byte stream, each after its length, big-endian: four
 * bytes on QEMU's -netdev stream and -netdev socket (unix or TCP), two on the
 * stdin/stdout of vde_plug and dpipe.
 *
 * A length that cannot be is the end of the connection: there is no way to
 * find the next frame.
 *
 * Between parts of a machine (bus/PROTOCOL.md) the four-byte length may have its
 * top bit set: a vnet_hdr comes first and is counted.  Without a frame behind it,
 * it says whether such are welcome: flags 1 or 0.  The client says that first,
 * with the option `offload', and the server answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "wire.h"

#define INSIZE	(4 * FRAME_MAX)
#define VNET	0x80000000u
#define CONNECT_NS (5 * SEC)

/* Whether we take frames with a vnet_hdr. */
static void
tell(struct wire *w)
{
	struct vnet_hdr h = { .flags = w->takes };

	wire_send_vnet(w, &h, NULL, 0);
	wire_flush(w);
}

/* The peer said it, or sent such a frame: frame of f, which has one more then. */
static unsigned
with_header(struct wire *w, uint8_t *p, uint32_t len, struct frame *f)
{
	struct vnet_hdr *h = (void *)p;

	if (len == sizeof *h) {
		w->offload = h->flags & 1;
		if (w->ctl.fd >= 0)
			tell(w);
		return 0;
	}
	*f = (struct frame){ p + sizeof *h, len - sizeof *h, h };
	return 1;
}

static void
stream_offload(struct wire *w)
{
	if (w->speaks)
		tell(w);
}

/* Hand over the whole frames in the buffer.  false: the wire is closed. */
static bool
parse(struct wire *w)
{
	struct frame f[BATCH];
	uint32_t pos = w->inpos, len, vnet;
	unsigned n = 0, h = w->framing, k;

	while (w->inlen - pos >= h) {
		len = h == 4 ? get32(w->in + pos) : get16(w->in + pos);
		vnet = len & (w->takes || w->speaks ? VNET : 0);
		len -= vnet;
		if (len > FRAME_MAX || len < (vnet ? sizeof(struct vnet_hdr) :
		    1)) {
			w->bad++;
			return false;
		}
		if (w->inlen - pos - h < len)
			break;
		f[n] = (struct frame){ w->in + pos + h, len };
		k = vnet ? with_header(w, f[n].p, len, &f[n]) : 1;
		if (k && f[n].len < ETH_HDR) {
			w->bad++;
		} else if (k) {
			w->rxp++;
			w->rxb += f[n++].len;
		}
		pos += h + len;
		if (n == BATCH) {
			if (w->rx)
				w->rx(w->arg, w, f, n);
			wire_flush_all();
			n = 0;
			if (!w->up)
				return true;
		}
	}
	if (n && w->rx)
		w->rx(w->arg, w, f, n);
	wire_flush_all();
	if (!w->up)
		return true;
	w->inpos = pos;
	if (pos == w->inlen || INSIZE - w->inlen < FRAME_MAX) {
		memmove(w->in, w->in + pos, w->inlen - pos);
		w->inlen -= pos;
		w->inpos = 0;
	}
	return true;
}

static void
stream_rx(struct wire *w)
{
	ssize_t n = read(w->ev.fd, w->in + w->inlen, INSIZE - w->inlen);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		wire_lost(w);
		return;
	}
	w->inlen += n;
	if (!parse(w))
		wire_lost(w);
}

static void
stream_flush(struct wire *w)
{
	struct iovec *v;
	uint32_t len;
	unsigned i, k;
	size_t left;
	ssize_t n;

	for (i = 0; i < w->ntx; i++) {
		v = &w->iov[w->tx[i].first];
		for (len = 0, k = 1; k < w->tx[i].n; k++)
			len += v[k].iov_len;
		len += v->iov_len - w->framing;
		if (w->framing == 4)
			put32(v->iov_base, len | (v->iov_len > 4 ? VNET : 0));
		else
			put16(v->iov_base, len);
	}
	if (w->qhead != w->qtail) {
		wire_queue(w, 0);
		return;
	}
	n = writev(w->out.fd >= 0 ? w->out.fd : w->ev.fd, w->iov, w->niov);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		w->drop += w->ntx;	/* the reader will see it too */
		return;
	}
	left = n < 0 ? 0 : n;
	for (i = 0; i < w->ntx; i++) {
		v = &w->iov[w->tx[i].first];
		for (len = k = 0; k < w->tx[i].n; k++)
			len += v[k].iov_len;
		if (left < len)
			break;
		left -= len;
		w->txp++;
		w->txb += len - w->framing;
	}
	if (i == w->ntx)
		return;
	for (k = 0; left; k++) {	/* the part sent already */
		len = v[k].iov_len < left ? v[k].iov_len : left;
		v[k].iov_base = (char *)v[k].iov_base + len;
		v[k].iov_len -= len;
		left -= len;
	}
	wire_queue(w, i);
}

static void
stream_drain(struct wire *w)
{
	ssize_t n = write(w->out.fd >= 0 ? w->out.fd : w->ev.fd,
	    w->q + w->qhead, w->qtail - w->qhead);

	if (n > 0)
		w->qhead += n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		w->qhead = w->qtail;
	if (w->qhead == w->qtail)
		w->qhead = w->qtail = 0;
}

static void
tune(int fd)
{
	int one = 1;

	/* fails on unix sockets, where it is not needed */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int
room(struct wire *w)
{
	if (!w->in)
		w->in = malloc(INSIZE);
	return w->in ? 0 : -1;
}

static void
incoming(struct ev *ev, uint32_t events)
{
	struct wire *w = ev->arg, *nw;
	int fd;

	if (!w->accepted && w->up) {
		/* one peer at a time: the next waits in the backlog */
		ev_mod(ev, 0);
		return;
	}
	fd = accept4(ev->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	tune(fd);
	if (!w->accepted) {
		w->ev.fd = fd;
		wire_start(w);
		return;
	}
	nw = wire_adopt("stream", fd);
	if (!nw || room(nw) < 0) {
		if (nw)
			wire_close(nw);
		else
			close(fd);
		return;
	}
	w->accepted(w->arg, nw);
}

static void
stream_close(struct wire *w)
{
	if (w->ctl.fd >= 0 && !w->accepted)
		ev_mod(&w->ctl, EPOLLIN);
}

/* A connection that is tried again and again is made without waiting. */
static void
connected(struct ev *ev, uint32_t events)
{
	struct wire *w = ev->arg;
	int e = 0;
	socklen_t n = sizeof e;

	ev_del(ev);
	ev->fn = wire_event;
	if (getsockopt(ev->fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && !e) {
		wire_start(w);
		return;
	}
	close(ev->fd);
	ev->fd = -1;
	wire_retry(w);
}

static void
give_up(struct wire *w)
{
	ev_del(&w->ev);
	w->ev.fn = wire_event;
	close(w->ev.fd);
	w->ev.fd = -1;
}

static int
stream_connect(struct wire *w, int fd)
{
	tune(fd);
	w->ev.fd = fd;
	if (connect(fd, (void *)&w->peer, w->peerlen) == 0) {
		fcntl(fd, F_SETFL, O_NONBLOCK);
		wire_start(w);
		return 0;
	}
	if (errno == EINPROGRESS) {
		w->ev.fn = connected;
		timer_set(&w->retry, mono() + CONNECT_NS);
		return ev_add(&w->ev, EPOLLOUT);
	}
	w->ev.fd = -1;
	return -1;
}

static int
stream_open(struct wire *w, char *arg)
{
	bool un = strchr(arg, '/') != NULL, server = wire_opt(w, "server");
	int fd, one = 1, e;

	w->framing = 4;
	w->speaks = wire_opt(w, "offload");
	if (room(w) < 0)
		return -1;
	if (w->ev.fd >= 0)	/* the last try is still under way */
		give_up(w);
	if (server && un) {
		fd = unix_listen(arg, SOCK_STREAM, w->why, sizeof w->why);
		if (fd < 0)
			return -1;
		snprintf(w->bound, sizeof w->bound, "%s", arg);
	} else {
		/* a name is looked up once: not again in a sandbox */
		if (!w->peerlen && (un ? wire_unix(w, arg, &w->peer,
		    &w->peerlen) : wire_addr(w, arg, server, SOCK_STREAM,
		    &w->peer, &w->peerlen)) < 0)
			return -1;
		fd = socket(w->peer.ss_family, SOCK_STREAM | SOCK_CLOEXEC |
		    (server || w->reconnect ? SOCK_NONBLOCK : 0), 0);
		if (fd >= 0 && server)
			setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
			    sizeof one);
		if (fd < 0 || (server ? bind(fd, (void *)&w->peer,
		    w->peerlen) < 0 || listen(fd, 64) < 0 :
		    stream_connect(w, fd) < 0)) {
			e = errno;
			wire_fail(w, "%s", strerror(e));
			if (fd >= 0)
				close(fd);
			errno = e;
			return -1;
		}
	}
	if (!server)
		return 0;
	w->reconnect = 0;
	w->ctl = (struct ev){ fd, incoming, w };
	return ev_add(&w->ctl, EPOLLIN);
}

const struct wire_ops stream_ops = {
	"stream", "stream:PATH|HOST:PORT[,server][,reconnect=SECONDS]",
	stream_open, stream_rx, stream_flush, stream_drain, stream_close,
	stream_offload
};

static void
stdio_close(struct wire *w)
{
	if (w->out.fd >= 0) {
		ev_del(&w->out);
		close(w->out.fd);
		w->out.fd = -1;
	}
}

/* A file as stdin or stdout cannot be polled and is always ready. */
static int
stdio_open(struct wire *w, char *arg)
{
	w->framing = wire_opt(w, "qemu") ? 4 : 2;
	if (room(w) < 0)
		return -1;
	w->ev.fd = 0;
	w->out = (struct ev){ 1, wire_event, w };
	fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
	w->up = true;
	if (ev_add(&w->ev, EPOLLIN) < 0)
		return wire_fail(w, "standard input is a file; use cat | ");
	if (ev_add(&w->out, 0) < 0)
		return wire_fail(w, "standard output is a file; use | cat");
	return 0;
}

const struct wire_ops stdio_ops = {
	"stdio", "stdio[,qemu] or -  (two-byte lengths, as vde_plug; qemu: four)",
	stdio_open, stream_rx, stream_flush, stream_drain, stdio_close
};

/* An inherited socket, as QEMU's fd=: its type tells the framing. */
static int
fd_open(struct wire *w, char *arg)
{
	int type;
	socklen_t n = sizeof type;
	char *end;
	long fd = strtol(arg, &end, 10);

	if (!*arg || *end || fd < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0) {
		errno = EINVAL;
		return wire_fail(w, "not an open socket");
	}
	w->ops = type == SOCK_STREAM ? &stream_ops : &dgram_ops;
	if (type == SOCK_STREAM) {
		w->framing = 4;
		if (room(w) < 0)
			return -1;
	}
	w->reconnect = 0;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	w->ev.fd = fd;
	wire_start(w);
	return 0;
}

const struct wire_ops fd_ops = {
	"fd", "fd:N  (an inherited socket)", fd_open, stream_rx, stream_flush,
	stream_drain, NULL
};
