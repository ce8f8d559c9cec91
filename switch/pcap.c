/*
 * pcap.c - capture files (draft-ietf-opsawg-pcap): pcap:FILE writes what is
 * sent to the wire, to a file or a pipe ("-": standard output, for
 * `| tcpdump -r -`); with ,read it plays a file back, then ends.
 *
 * A capture must not hold up the network: on a full pipe whole records are
 * queued, then dropped and counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "wire.h"

struct rec { uint32_t sec, usec, cap, len; };

/* The head of record i, and of the frame no more than is wanted. */
static void
head(struct wire *w, unsigned i, const struct timespec *ts)
{
	struct iovec *v = &w->iov[w->tx[i].first];
	uint32_t len = 0, left = w->snap, k;
	struct rec r;

	v->iov_len = sizeof r;
	for (k = 1; k < w->tx[i].n; k++) {
		len += v[k].iov_len;
		if (v[k].iov_len > left)
			v[k].iov_len = left;
		left -= v[k].iov_len;
	}
	r = (struct rec){ ts->tv_sec, ts->tv_nsec / 1000, w->snap - left, len };
	memcpy(w->hdr[i], &r, sizeof r);
}

static void
pcap_flush(struct wire *w)
{
	unsigned i, k;
	struct timespec ts;
	struct iovec *v;
	uint32_t len;
	ssize_t n;
	size_t want;

	clock_gettime(CLOCK_REALTIME, &ts);
	for (i = 0; i < w->ntx; i++)
		head(w, i, &ts);
	for (i = 0; i < w->ntx; i++) {
		v = &w->iov[w->tx[i].first];
		for (want = k = 0; k < w->tx[i].n; k++)
			want += v[k].iov_len;
		if (w->qhead != w->qtail)
			break;
		n = writev(w->out.fd, v, w->tx[i].n);
		if (n == (ssize_t)want) {
			w->txp++;
			w->txb += want - sizeof(struct rec);
			continue;
		}
		if (n < 0 && errno != EAGAIN) {
			w->drop++;
			continue;
		}
		for (k = 0; n > 0; k++) {
			len = v[k].iov_len < (size_t)n ? v[k].iov_len :
			    (size_t)n;
			v[k].iov_base = (char *)v[k].iov_base + len;
			v[k].iov_len -= len;
			n -= len;
		}
		break;
	}
	if (i < w->ntx)
		wire_queue(w, i);
}

static void
pcap_drain(struct wire *w)
{
	ssize_t n = write(w->out.fd, w->q + w->qhead, w->qtail - w->qhead);

	if (n > 0)
		w->qhead += n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		w->qhead = w->qtail;
	if (w->qhead == w->qtail)
		w->qhead = w->qtail = 0;
}

static int
whole(int fd, void *p, size_t n)
{
	size_t done = 0;
	ssize_t k;

	while (done < n) {
		k = read(fd, (char *)p + done, n - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		done += k;
	}
	return 0;
}

/* Playback: a timer's turn per batch, so that the rest of the loop runs. */
static void
play(struct timer *t)
{
	struct wire *w = t->arg;
	struct frame f[BATCH];
	struct rec r;
	unsigned n;

	for (n = 0; n < BATCH; n++) {
		if (whole(w->out.fd, &r, sizeof r) < 0 || r.cap > FRAME_MAX ||
		    whole(w->out.fd, wire_buf[n], r.cap) < 0)
			break;
		f[n] = (struct frame){ wire_buf[n], r.cap };
		if (r.cap < ETH_HDR)
			f[n].len = 0;
		w->rxb += r.cap;
	}
	w->rxp += n;
	if (n && w->rx)
		w->rx(w->arg, w, f, n);
	wire_flush_all();
	if (n == BATCH) {
		timer_set(t, loop_now + 1);
	} else {
		w->reconnect = 0;
		wire_lost(w);
	}
}

static int
pcap_open(struct wire *w, char *arg)
{
	static const uint32_t hdr[6] = { 0xa1b2c3d4, 2 | 4 << 16, 0, 0, 262144,
	    1 };
	uint32_t h[6];
	bool rd = wire_opt(w, "read");
	uint64_t snap = FRAME_MAX;
	int fd;

	if (wire_num(w, "snap", FRAME_MAX, &snap) < 0)
		return -1;
	w->snap = snap;

	if (!strcmp(arg, "-"))
		fd = dup(rd ? 0 : 1);
	else
		fd = open(arg, rd ? O_RDONLY | O_CLOEXEC :
		    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return wire_fail(w, "%s", strerror(errno));
	w->out = (struct ev){ fd, wire_event, w };
	if (rd) {
		if (whole(fd, h, sizeof h) < 0 || h[0] != hdr[0] || h[5] != 1) {
			errno = EINVAL;
			return wire_fail(w, "not a capture of Ethernet in this "
			    "machine's byte order");
		}
		w->retry.fn = play;
		timer_set(&w->retry, loop_now + 1);
		w->reconnect = 0;
		w->up = true;
		return 0;
	}
	if (write(fd, hdr, sizeof hdr) != sizeof hdr)
		return wire_fail(w, "%s", strerror(errno));
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	ev_add(&w->out, 0);	/* a plain file cannot be, and is never full */
	w->framing = 16;
	w->up = true;
	return 0;
}

static void
pcap_close(struct wire *w)
{
	if (w->out.fd >= 0) {
		if (w->qhead != w->qtail)
			pcap_drain(w);
		ev_del(&w->out);
		close(w->out.fd);
		w->out.fd = -1;
	}
}

static void
nothing(struct wire *w)
{
}

const struct wire_ops pcap_ops = {
	"pcap", "pcap:FILE[,read][,snap=BYTES]", pcap_open, nothing, pcap_flush, pcap_drain,
	pcap_close
};
