/*
 * tap.c - a Linux tap interface (Documentation/networking/tuntap.rst),
 * without the packet-information header.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <linux/if_tun.h>
#include "wire.h"

/* Open or create `name` ("" or with %d: the kernel chooses). */
int
tap_open(const char *name, char *got, size_t n)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
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

static int
tap_wire_open(struct wire *w, char *arg)
{
	int fd = tap_open(arg, NULL, 0);

	if (fd < 0)
		return wire_fail(w, "%s", strerror(errno));
	w->ev.fd = fd;
	wire_start(w);
	return 0;
}

static void
tap_rx(struct wire *w)
{
	struct frame f[BATCH];
	unsigned n;
	ssize_t len;

	for (n = 0; n < BATCH; n++) {
		len = read(w->ev.fd, wire_buf[n], FRAME_MAX);
		if (len < ETH_HDR)
			break;
		f[n] = (struct frame){ wire_buf[n], len };
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
			w->txb += n;
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
	"tap", "tap:INTERFACE", tap_wire_open, tap_rx, tap_flush, tap_drain,
	NULL
};
