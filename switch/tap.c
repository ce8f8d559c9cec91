/*
 * tap.c - a Linux tap interface (Documentation/networking/tuntap.rst),
 * without the packet-information header, with a vnet_hdr if the kernel has that:
 * opened here, then given to a script; or
 * by a helper with more rights, which puts it on a bridge and sends it through a
 * socket (--fd=N --br=BRIDGE, as qemu-bridge-helper does).
 */
#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <linux/if_tun.h>
#include "wire.h"

#define MANY	(4 * FRAME_MAX)	/* bytes taken at once */

/* Open or create `name` ("" or with %d: the kernel chooses). */
int
tap_open(const char *name, char *got, size_t n)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd, e;

	if (strlen(name) >= sizeof ifr.ifr_name) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(ifr.ifr_name, name);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		e = errno;
		close(fd);
		errno = e;
		return -1;
	}
	if (got)
		snprintf(got, n, "%s", ifr.ifr_name);
	return fd;
}

/* Run argv to its end with descriptor 3 being `three`, if that is one. */
static int
run(struct wire *w, char **argv, int three)
{
	int e, status = 0;
	pid_t pid;

	e = spawn(argv, -1, -1, three, &pid);
	errno = e;
	if (e)
		return wire_fail(w, "%s: %s", argv[0], strerror(e));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	errno = ECANCELED;
	return status ? wire_fail(w, "%s: failed", argv[0]) : 0;
}

/* A child runs the script when this process has closed its end of a pipe, be it
 * in a sandbox by then, or dead; until the script ends the interface is there. */
static int
run_later(struct wire *w, const char *script, const char *name, int tap)
{
	int p[2], a, b;
	pid_t pid;
	char c;

	if (access(script, X_OK) < 0)
		return wire_fail(w, "%s: %s", script, strerror(errno));
	if (pipe2(p, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		return wire_fail(w, "%s", strerror(errno));
	if (pid == 0) {
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		a = fcntl(p[0], F_DUPFD, 10);
		b = fcntl(tap, F_DUPFD, 10);
		dup2(a, 3);
		dup2(b, 4);
		closefrom(5);
		while (read(3, &c, 1) < 0 && errno == EINTR)
			;
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		close(3);
		execl(script, script, name, (char *)NULL);
		_exit(1);
	}
	close(p[0]);
	w->kept = p[1];
	return 0;
}

static int
tap_wire_open(struct wire *w, char *arg)
{
	const char *up = wire_opt(w, "script"), *down = wire_opt(w, "downscript");
	char name[IFNAMSIZ], *argv[] = { (char *)up, name, NULL };
	int fd = tap_open(arg, name, sizeof name);

	if (fd < 0)
		return wire_fail(w, "%s", strerror(errno));
	if ((up && run(w, argv, -1) < 0) ||
	    (down && run_later(w, down, name, fd) < 0)) {
		close(fd);
		return -1;
	}
	w->ev.fd = fd;
	w->hdrlen = sizeof(struct vnet_hdr);
	wire_start(w);
	return 0;
}

static void
tap_offload(struct wire *w)
{
	int what = w->takes ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 : 0;

	if (w->hdrlen)
		w->offload = ioctl(w->ev.fd, TUNSETOFFLOAD, what) == 0 &&
		    w->takes;
}

static int
bridge_open(struct wire *w, char *arg)
{
	const char *helper = wire_opt(w, "helper");
	char br[64], c, *argv[] = { (char *)helper, "--fd=3", br, NULL };
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = { &c, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = &u, .msg_controllen = sizeof u };
	struct cmsghdr *h;
	int sv[2], fd = -1;

	errno = EINVAL;
	if (!helper || !*arg || strlen(arg) >= IFNAMSIZ)
		return wire_fail(w, "needs a bridge and helper=");
	snprintf(br, sizeof br, "--br=%s", arg);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return wire_fail(w, "%s", strerror(errno));
	if (run(w, argv, sv[1]) == 0 &&
	    recvmsg(sv[0], &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1 &&
	    (h = CMSG_FIRSTHDR(&m)) && h->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(h), sizeof fd);
	close(sv[0]);
	close(sv[1]);
	if (fd < 0)
		return *w->why ? -1 : wire_fail(w, "%s: gave no interface",
		    helper);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	w->ev.fd = fd;
	wire_start(w);
	return 0;
}

static void
tap_rx(struct wire *w)
{
	struct frame f[BATCH];
	struct vnet_hdr *h;
	uint64_t end = w->rxb + MANY;
	unsigned n;
	ssize_t len;

	for (n = 0; n < BATCH && w->rxb < end; n++) {
		h = (void *)wire_buf[n];
		len = read(w->ev.fd, h, FRAME_MAX) - w->hdrlen;
		if (len < ETH_HDR)
			break;
		f[n] = (struct frame){ wire_buf[n] + w->hdrlen, len,
		    w->hdrlen && (h->flags || h->gso) ? h : NULL };
		w->rxb += len;
	}
	w->rxp += n;
	if (n && w->rx)
		w->rx(w->arg, w, f, n);
	wire_flush_all();
}

static void
tap_flush(struct wire *w)
{
	unsigned i;
	ssize_t n;

	for (i = 0; i < w->ntx; i++) {
		n = writev(w->ev.fd, &w->iov[w->tx[i].first], w->tx[i].n);
		if (n < 0 && errno == EAGAIN) {
			wire_queue(w, i);
			return;
		}
		if (n < 0) {
			w->drop++;	/* EIO: the interface is down */
		} else {
			w->txp++;
			w->txb += n - w->hdrlen;
		}
	}
}

static void
tap_drain(struct wire *w)
{
	uint32_t len;

	while (w->qtail - w->qhead > 4) {
		memcpy(&len, w->q + w->qhead, 4);
		if (write(w->ev.fd, w->q + w->qhead + 4, len) < 0 &&
		    errno == EAGAIN)
			return;
		w->qhead += 4 + len;
	}
	w->qhead = w->qtail = 0;
}

const struct wire_ops tap_ops = {
	"tap", "tap:INTERFACE[,script=FILE][,downscript=FILE]", tap_wire_open,
	tap_rx, tap_flush, tap_drain, NULL, tap_offload
};

const struct wire_ops bridge_ops = {
	"bridge", "bridge:BRIDGE,helper=FILE", bridge_open, tap_rx, tap_flush,
	tap_drain, NULL
};
