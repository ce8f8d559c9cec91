/*
 * vdesock.c - the socket directory of a VDE switch: DIR/ctl takes requests
 * (vde.h), each answered with the address of a new datagram socket
 * DIR/PORT.NUMBER.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "switch.h"
#include "vde.h"

#define NPENDING 64

static struct ev lis = { .fd = -1 };
static char dir_[96];
static unsigned mode_, dirmode_;
static gid_t gid_;
static bool made;

/* Connections that have not sent their request yet. */
static struct pending { struct ev ev; bool used; } pend[NPENDING];

static void
ctl_event(struct ev *ev, uint32_t events)
{
	char c[256];
	ssize_t n = recv(ev->fd, c, sizeof c, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		port_unplug(ev->arg);
}

void
vdesock_unplug(struct endpoint *ep)
{
	if (ep->ctl.fd >= 0) {
		ev_del(&ep->ctl);
		close(ep->ctl.fd);
	}
	if (*ep->path)
		unlink(ep->path);
}

/* Whether the port's owner lets this peer in. */
static int
allowed(unsigned n, int ctl, uid_t *uid)
{
	struct ucred uc;
	socklen_t len = sizeof uc;
	struct port *p = sw.port[n];

	if (getsockopt(ctl, SOL_SOCKET, SO_PEERCRED, &uc, &len) < 0)
		return errno;
	*uid = uc.uid;
	if (!p || uc.uid == 0 || (p->user == (uid_t)-1 &&
	    p->group == (gid_t)-1))
		return 0;
	if (p->user == uc.uid || p->group == uc.gid)
		return 0;
	return EPERM;
}

static void
request(int ctl, const struct vde_request *rq, size_t len)
{
	unsigned n = rq->type >> 8, k;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct endpoint *ep = NULL;
	struct wire *w;
	char descr[VDE_DESCR + 1], why[80];
	uid_t uid;
	int fd = -1, b = 4 << 20;
	size_t dl;

	if (len < offsetof(struct vde_request, descr) ||
	    rq->magic != VDE_MAGIC || rq->version != VDE_VERSION ||
	    rq->type & 0xff || rq->sock.sun_family != AF_UNIX ||
	    !memchr(rq->sock.sun_path, 0, sizeof rq->sock.sun_path))
		goto bad;
	dl = len - offsetof(struct vde_request, descr);
	for (k = 0; k < dl && rq->descr[k]; k++)	/* it gets printed */
		descr[k] = rq->descr[k] < 32 || rq->descr[k] > 126 ? '?' :
		    rq->descr[k];
	descr[k] = 0;
	if (n > sw.numports || n >= PORT_MAX_NUM)
		goto bad;
	if (n && allowed(n, ctl, &uid))
		goto bad;
	if (!n) {
		for (n = 1; n <= sw.numports; n++)
			if (!sw.port[n] || (!sw.port[n]->eps &&
			    !sw.port[n]->noalloc && !allowed(n, ctl, &uid)))
				break;
		if (n > sw.numports || allowed(n, ctl, &uid))
			goto bad;
	}
	/* a name of its own: the control descriptor's number is unique */
	snprintf(un.sun_path, sizeof un.sun_path, "%s/%03u.%d", dir_, n, ctl);
	unlink(un.sun_path);
	fd = unix_listen(un.sun_path, SOCK_DGRAM, why, sizeof why);
	if (fd < 0)
		goto bad;
	if (chmod(un.sun_path, mode_) < 0 || (gid_ != (gid_t)-1 &&
	    chown(un.sun_path, -1, gid_) < 0))
		goto bad;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &b, sizeof b);
	if (connect(fd, (void *)&rq->sock, sizeof rq->sock) < 0)
		goto bad;
	w = wire_adopt("vdeport", fd);
	if (!w)
		goto bad;
	ep = port_plug(n, w, "unix prog", descr);
	if (!ep) {
		wire_close(w);
		fd = -1;
		goto bad;
	}
	snprintf(ep->path, sizeof ep->path, "%s", un.sun_path);
	sw.port[n]->current = uid;
	ep->id = ctl;
	ep->ctl = (struct ev){ ctl, ctl_event, ep };
	ev_add(&ep->ctl, EPOLLIN);
	if (send(ctl, &un, sizeof un, MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    sizeof un)
		port_unplug(ep);
	else
		debug_out(D_PORTDESCR, "Port %02u EP %02d \"%s\"", n, ctl,
		    descr);
	return;
bad:
	if (fd >= 0)
		close(fd);
	if (*un.sun_path)
		unlink(un.sun_path);
	close(ctl);
}

static void
pending_rx(struct ev *ev, uint32_t events)
{
	struct pending *p = ev->arg;
	struct vde_request rq;
	ssize_t n = recv(ev->fd, &rq, sizeof rq, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	ev_del(ev);
	p->used = false;
	if (n <= 0)
		close(ev->fd);
	else
		request(ev->fd, &rq, n);
}

static void
incoming(struct ev *ev, uint32_t events)
{
	int fd = accept4(ev->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct pending *p;

	if (fd < 0)
		return;
	for (p = pend; p < pend + NPENDING && p->used; p++)
		;
	if (p == pend + NPENDING) {
		close(fd);
		return;
	}
	p->used = true;
	p->ev = (struct ev){ fd, pending_rx, p };
	ev_add(&p->ev, EPOLLIN);
}

int
vdesock_open(const char *dir, unsigned mode, unsigned dirmode, gid_t gid,
    char *why, size_t n)
{
	char path[108];
	int fd;

	if (strlen(dir) >= sizeof dir_ - 1) {
		snprintf(why, n, "path too long");
		return -1;
	}
	strcpy(dir_, dir);
	mode_ = mode;
	dirmode_ = dirmode;
	gid_ = gid;
	if (mkdir(dir, 0700) == 0)
		made = true;
	else if (errno != EEXIST) {
		snprintf(why, n, "%s", strerror(errno));
		return -1;
	}
	snprintf(path, sizeof path, "%s/ctl", dir);
	fd = unix_listen(path, SOCK_STREAM, why, n);
	if (fd < 0)
		return -1;
	if ((gid != (gid_t)-1 && (chown(dir, -1, gid) < 0 ||
	    chown(path, -1, gid) < 0)) || chmod(path, mode) < 0 ||
	    chmod(dir, dirmode) < 0) {
		snprintf(why, n, "%s", strerror(errno));
		close(fd);
		return -1;
	}
	lis = (struct ev){ fd, incoming, NULL };
	return ev_add(&lis, EPOLLIN);
}

void
vdesock_close(void)
{
	char path[108];

	if (lis.fd < 0)
		return;
	port_close_all();
	snprintf(path, sizeof path, "%s/ctl", dir_);
	unlink(path);
	rmdir(dir_);
}

static int
c_showinfo(struct session *s, FILE *out, char *arg)
{
	fprintf(out, "ctl dir %s\nstd mode 0%03o\n", dir_, mode_);
	return 0;
}

const struct command ds_cmds[] = {
	{ "ds", "============", "DATA SOCKET MENU" },
	{ "ds/showinfo", "", "show ds info", c_showinfo, true },
	{ NULL }
};
