/*
 * l2tpv3.c - Ethernet over L2TPv3 static tunnels (RFC 3931 section 4.1, RFC
 * 4719), over UDP or IP protocol 115, with QEMU's -netdev l2tpv3 options.
 *
 * Header: over UDP a word 0x00030000; session id; cookie of 0, 4 or 8 bytes;
 * optionally a counter (RFC 3931 calls it the L2-specific sublayer).
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "wire.h"

struct l2tp {
	bool	udp, counter, pincounter;
	uint32_t txs, rxs, count;
	unsigned ncookie;
	uint64_t txc, rxc;
};

static unsigned
put_cookie(uint8_t *p, uint64_t c, unsigned n)
{
	if (n == 8) {
		put32(p, c >> 32);
		put32(p + 4, c);
	} else if (n == 4) {
		put32(p, c);
	}
	return n;
}

static void
txhdr(struct wire *w, uint8_t *h)
{
	struct l2tp *t = w->tun;

	if (t->udp) {
		put32(h, 0x00030000);
		h += 4;
	}
	put32(h, t->txs);
	h += 4;
	h += put_cookie(h, t->txc, t->ncookie);
	if (t->counter)
		put32(h, t->pincounter ? 0 : ++t->count);
}

static bool
rxhdr(struct wire *w, const uint8_t *h, unsigned len)
{
	struct l2tp *t = w->tun;
	uint8_t c[8];

	if (t->udp) {
		if (get32(h) != 0x00030000)
			return false;
		h += 4;
	}
	if (get32(h) != t->rxs)
		return false;
	put_cookie(c, t->rxc, t->ncookie);
	return !memcmp(h + 4, c, t->ncookie);
}

static int
l2tp_open(struct wire *w, char *arg)
{
	const char *dst = wire_opt(w, "dst"), *sp = wire_opt(w, "srcport"),
	    *dp = wire_opt(w, "dstport");
	struct sockaddr_storage ss;
	char hp[300];
	socklen_t len;
	struct l2tp *t;
	uint64_t txs = 0, rxs;
	int fd, n = 4 << 20;

	t = w->tun ? w->tun : calloc(1, sizeof *t);
	if (!t)
		return -1;
	w->tun = t;
	t->udp = wire_opt(w, "udp") != NULL;
	t->counter = wire_opt(w, "counter") != NULL;
	t->pincounter = wire_opt(w, "pincounter") != NULL;
	errno = EINVAL;
	if (!dst || !wire_opt(w, "txsession"))
		return wire_fail(w, "dst= and txsession= are needed");
	if (t->udp && (!sp || !dp))
		return wire_fail(w, "udp needs srcport= and dstport=");
	if (wire_num(w, "txsession", UINT32_MAX, &txs) < 0)
		return -1;
	rxs = txs;
	if (wire_num(w, "rxsession", UINT32_MAX, &rxs) < 0 ||
	    wire_num(w, "txcookie", UINT64_MAX, &t->txc) < 0 ||
	    wire_num(w, "rxcookie", UINT64_MAX, &t->rxc) < 0)
		return -1;
	t->txs = txs;
	t->rxs = rxs;
	if (wire_opt(w, "txcookie") || wire_opt(w, "rxcookie"))
		t->ncookie = wire_opt(w, "cookie64") ? 8 : 4;
	w->hdrlen = (t->udp ? 4 : 0) + 4 + t->ncookie + (t->counter ? 4 : 0);
	/* hdr[] holds 16: udp, session, 64-bit cookie fit; counter makes 20 */
	if (w->hdrlen > sizeof w->hdr[0]) {
		errno = EINVAL;
		return wire_fail(w, "udp, cookie64 and counter together are "
		    "not supported");
	}
	w->rxhdr = rxhdr;
	w->txhdr = txhdr;
	snprintf(hp, sizeof hp, "%s:%s", arg, t->udp ? sp : "0");
	if (wire_addr(w, hp, true, SOCK_DGRAM, &ss, &len) < 0)
		return -1;
	snprintf(hp, sizeof hp, "%s:%s", dst, t->udp ? dp : "0");
	if (wire_addr(w, hp, false, SOCK_DGRAM, &w->peer, &w->peerlen) < 0)
		return -1;
	fd = socket(ss.ss_family, (t->udp ? SOCK_DGRAM : SOCK_RAW) |
	    SOCK_CLOEXEC | SOCK_NONBLOCK, t->udp ? 0 : 115);
	if (fd < 0 || bind(fd, (void *)&ss, len) < 0 ||
	    connect(fd, (void *)&w->peer, w->peerlen) < 0) {
		wire_fail(w, "%s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	w->raw_ip = !t->udp && ss.ss_family == AF_INET;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, sizeof n);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n);
	w->ev.fd = fd;
	wire_start(w);
	return 0;
}

const struct wire_ops l2tpv3_ops = {
	"l2tpv3", "l2tpv3:SRC,dst=DST,txsession=N[,rxsession=N][,udp,srcport=P,"
	"dstport=P][,txcookie=N,rxcookie=N[,cookie64]][,counter[,pincounter]]",
	l2tp_open, dgram_rx, dgram_flush, dgram_drain, NULL
};
