/*
 * vde.c - a plug into a VDE 2 switch.
 *
 * The switch's directory holds a stream socket "ctl".  A client sends a
 * request (magic, version 3, wanted port << 8, the address of its own
 * datagram socket, a description) and gets back the address of the port's
 * datagram socket; then one frame is one datagram.  The control connection
 * stays open: its end is the end of the plug.
 *
 * A plug that comes back keeps its datagram socket: who is in a sandbox by then
 * cannot make another in the file system.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "vde.h"

static void
ctl_event(struct ev *ev, uint32_t events)
{
	struct wire *w = ev->arg;
	char c[64];

	if (recv(ev->fd, c, sizeof c, MSG_DONTWAIT) <= 0 && errno != EAGAIN)
		wire_lost(w);
}

static void
vde_close(struct wire *w)
{
	if (w->ctl.fd >= 0) {
		ev_del(&w->ctl);
		close(w->ctl.fd);
		w->ctl.fd = -1;
	}
	if (w->reconnect) {
		if (w->ev.fd >= 0) {
			ev_del(&w->ev);
			w->kept = w->ev.fd;
			w->ev.fd = -1;
		}
		return;
	}
	if (w->bound[0])
		unix_unlink(w->bound);
	w->bound[0] = 0;
}

/* The datagram socket: bound, and connected to nobody. */
static int
data_socket(struct wire *w, const char *dir)
{
	static const struct sockaddr nobody = { .sa_family = AF_UNSPEC };
	static unsigned serial;
	struct stat st;
	char why[80];
	int fd = w->kept;

	w->kept = -1;
	if (fd >= 0 && lstat(w->bound, &st) == 0) {
		connect(fd, &nobody, sizeof nobody);
		return fd;
	}
	if (fd >= 0)
		close(fd);
	snprintf(w->bound, sizeof w->bound, "%s/.%05d-%05u", dir, getpid(),
	    serial++);
	fd = unix_listen(w->bound, SOCK_DGRAM, why, sizeof why);
	if (fd < 0) {
		snprintf(w->bound, sizeof w->bound, "/tmp/.vde-%05d-%05u",
		    getpid(), serial++);
		fd = unix_listen(w->bound, SOCK_DGRAM, why, sizeof why);
	}
	if (fd < 0)
		w->bound[0] = 0;
	else
		chmod(w->bound, 0600);
	return fd;
}

static int
vde_open(struct wire *w, char *arg)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX }, back;
	struct vde_request rq = { VDE_MAGIC, VDE_VERSION };
	struct timeval tv = { 5, 0 };
	uint64_t port = 0;
	int ctl = -1, fd = -1, e, n = 4 << 20;

	if (!*arg)
		arg = "/run/vde.ctl";
	if (wire_num(w, "port", 0xffffff, &port) < 0)
		return -1;
	if (strlen(arg) + 24 > sizeof un.sun_path) {
		errno = ENAMETOOLONG;
		return wire_fail(w, "path too long");
	}
	snprintf(un.sun_path, sizeof un.sun_path, "%s/ctl", arg);
	ctl = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (ctl < 0 || connect(ctl, (void *)&un, sizeof un) < 0)
		goto bad;
	/* an answer within five seconds: a switch that is stopped must not
	 * stop us */
	setsockopt(ctl, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	fd = data_socket(w, arg);
	if (fd < 0)
		goto bad;
	rq.type = port << 8;
	rq.sock.sun_family = AF_UNIX;
	strcpy(rq.sock.sun_path, w->bound);
	snprintf(rq.descr, sizeof rq.descr, "%s pid=%d",
	    wire_opt(w, "descr") ? wire_opt(w, "descr") : "sluice", getpid());
	if (send(ctl, &rq, offsetof(struct vde_request, descr) +
	    strlen(rq.descr), MSG_NOSIGNAL) < 0)
		goto bad;
	memset(&back, 0, sizeof back);
	if (recv(ctl, &back, sizeof back, MSG_WAITALL) != sizeof back) {
		errno = ECONNREFUSED;
		wire_fail(w, "the switch gave no port");
		goto bad;
	}
	if (back.sun_family != AF_UNIX ||
	    !memchr(back.sun_path, 0, sizeof back.sun_path)) {
		errno = EPROTO;
		goto bad;
	}
	memcpy(&w->peer, &back, sizeof back);
	w->peerlen = sizeof back;
	if (connect(fd, (void *)&back, sizeof back) < 0)
		goto bad;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
	w->ctl = (struct ev){ ctl, ctl_event, w };
	ev_add(&w->ctl, EPOLLIN);
	w->ev.fd = fd;
	wire_start(w);
	return 0;
bad:
	e = errno;
	if (!*w->why)
		wire_fail(w, "%s", strerror(e));
	if (ctl >= 0)
		close(ctl);
	if (w->reconnect)
		w->kept = fd >= 0 ? fd : w->kept;
	else if (fd >= 0)
		close(fd);
	vde_close(w);
	errno = e;
	return -1;
}

const struct wire_ops vde_ops = {
	"vde", "vde:DIR[,port=N][,descr=TEXT][,reconnect=SECONDS]",
	vde_open, dgram_rx, dgram_flush, dgram_drain, vde_close
};

/* The switch's end of a port: an adopted socket; the control connection is
 * the switch's business. */
const struct wire_ops vdeport_ops = {
	"vdeport", "", NULL, dgram_rx, dgram_flush, dgram_drain, NULL
};
