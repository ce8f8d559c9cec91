/*
 * wire.c - what all kinds of wire share: opening by specification, the list of
 * wires that have something to send, the queue behind a slow peer, and
 * reconnection.
 */
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "wire.h"

#define QSIZE	(1u << 20)
#define WAIT_MIN (2 * MSEC)

uint8_t wire_buf[BATCH][FRAME_MAX] __attribute__((aligned(64)));

static const struct wire_ops *const kinds[] = {
	&vde_ops, &stream_ops, &dgram_ops, &mcast_ops, &l2tpv3_ops, &tap_ops,
	&bridge_ops, &pcap_ops, &stdio_ops, &fd_ops,
};
#define NKINDS	(sizeof kinds / sizeof *kinds)

static struct wire *dirty;

int
wire_fail(struct wire *w, const char *fmt, ...)
{
	va_list ap;
	int e = errno;

	va_start(ap, fmt);
	vsnprintf(w->why, sizeof w->why, fmt, ap);
	va_end(ap);
	errno = e;
	return -1;
}

void
wire_kinds(void (*fn)(const char *, const char *))
{
	for (unsigned i = 0; i < NKINDS; i++)
		fn(kinds[i]->kind, kinds[i]->syntax);
}

const char *
wire_opt(struct wire *w, const char *key)
{
	size_t n = strlen(key);
	const char *p;

	for (p = w->opts; *p; p += strlen(p) + 1)
		if (!strncmp(p, key, n)) {
			if (!p[n])
				return p + n;
			if (p[n] == '=')
				return p + n + 1;
		}
	return NULL;
}

/* Absent: *out stays.  0, or -1 with the reason. */
int
wire_num(struct wire *w, const char *key, uint64_t max, uint64_t *out)
{
	const char *s = wire_opt(w, key);
	char *end;
	uint64_t v;

	if (!s)
		return 0;
	errno = 0;
	v = strtoull(s, &end, 0);
	if (!*s || *s == '-' || *end || errno || v > max)
		return wire_fail(w, "%s=%s: not a number up to %llu", key, s,
		    (unsigned long long)max);
	*out = v;
	return 0;
}

static struct wire *
wire_new(const struct wire_ops *ops)
{
	struct wire *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->ops = ops;
	w->ev = (struct ev){ -1, wire_event, w };
	w->ctl.fd = w->out.fd = w->sendfd = w->kept = -1;
	w->qsize = QSIZE;
	w->q = malloc(w->qsize);
	if (!w->q) {
		free(w);
		return NULL;
	}
	return w;
}

void
wire_retry(struct wire *w)
{
	w->up = false;
	w->wait = w->wait ? w->wait * 2 : WAIT_MIN;
	if (w->wait > w->reconnect * SEC)
		w->wait = w->reconnect * SEC;
	timer_set(&w->retry, mono() + w->wait);
}

static void
try_again(struct timer *t)
{
	struct wire *w = t->arg;
	char arg[256], *p;

	p = strchr(w->spec, ':');
	snprintf(arg, sizeof arg, "%s", p ? p + 1 : "");
	arg[strcspn(arg, ",")] = 0;
	if (w->ops->open(w, arg) < 0)
		wire_retry(w);
}

static int
known_kind(const char *spec, size_t *n)
{
	size_t len = strcspn(spec, ":,");

	for (unsigned i = 0; i < NKINDS; i++)
		if (strlen(kinds[i]->kind) == len &&
		    !strncmp(kinds[i]->kind, spec, len)) {
			*n = len;
			return i;
		}
	return -1;
}

struct wire *
wire_open(const char *spec, wire_rx_fn *rx, void *arg, char *why,
    size_t whylen)
{
	char buf[256], *p, *o;
	struct wire *w;
	uint64_t v;
	size_t n;
	int k;

	if (!strcmp(spec, "-"))
		spec = "stdio";
	snprintf(buf, sizeof buf, "%s%s",
	    strchr(spec, '/') == spec || *spec == '.' ? "vde:" : "", spec);
	k = known_kind(buf, &n);
	if (k < 0 || strlen(spec) > 200) {
		if (why)
			snprintf(why, whylen, "%s: no such kind of wire", spec);
		errno = EINVAL;
		return NULL;
	}
	w = wire_new(kinds[k]);
	if (!w) {
		if (why)
			snprintf(why, whylen, "%s: out of memory", spec);
		return NULL;
	}
	w->rx = rx;
	w->arg = arg;
	snprintf(w->spec, sizeof w->spec, "%s", buf);
	p = strchr(buf, ',');
	if (p) {
		*p++ = 0;
		for (o = w->opts; *p; ) {
			n = strcspn(p, ",");
			memcpy(o, p, n);
			o += n;
			*o++ = 0;
			p += n + (p[n] == ',');
		}
	}
	w->retry = (struct timer){ 0, try_again, w };
	p = strchr(buf, ':');
	p = p ? p + 1 : buf + strlen(buf);
	v = 0;
	k = wire_num(w, "reconnect", 3600, &v);
	w->reconnect = v;
	if (k == 0)
		k = w->ops->open(w, p);
	if (k < 0 && w->reconnect && errno != EINVAL) {
		wire_retry(w);
		k = 0;
	}
	if (k < 0) {
		if (why)
			snprintf(why, whylen, "%s: %s", spec,
			    *w->why ? w->why : strerror(errno));
		wire_close(w);
		return NULL;
	}
	return w;
}

struct wire *
wire_adopt(const char *kind, int fd)
{
	struct wire *w = wire_new(!strcmp(kind, "stream") ? &stream_ops :
	    !strcmp(kind, "vdeport") ? &vdeport_ops : &dgram_ops);

	if (!w)
		return NULL;
	w->retry = (struct timer){ 0, try_again, w };
	snprintf(w->spec, sizeof w->spec, "%s", kind);
	w->ev.fd = fd;
	w->framing = w->ops == &stream_ops ? 4 : 0;
	wire_start(w);
	return w;
}

void
wire_want(struct wire *w)
{
	bool more = w->qhead != w->qtail;
	uint32_t in = w->paused ? 0 : EPOLLIN;

	if (w->out.fd >= 0) {
		ev_mod(&w->ev, in);
		ev_mod(&w->out, more ? EPOLLOUT : 0);
	} else if (w->up) {
		ev_mod(&w->ev, in | (more ? EPOLLOUT : 0));
	}
}

void
wire_event(struct ev *ev, uint32_t events)
{
	struct wire *w = ev->arg;

	if (ev == &w->out || events & EPOLLOUT) {
		w->ops->drain(w);
		w->drained = loop_now;
		if (w->qhead == w->qtail)
			wire_want(w);
	}
	if (ev == &w->ev && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		w->ops->rx(w);
}

void
wire_start(struct wire *w)
{
	w->up = true;
	w->wait = 0;
	timer_set(&w->retry, 0);
	w->qhead = w->qtail = 0;
	w->inpos = w->inlen = 0;
	ev_add(&w->ev, w->paused ? 0 : EPOLLIN);
	if (w->ops->offload)
		w->ops->offload(w);
	if (w->back)
		w->back(w->arg, w);
}

static void
shut(struct wire *w)
{
	if (w->ops->close)
		w->ops->close(w);
	if (w->ev.fd >= 0) {
		ev_del(&w->ev);
		close(w->ev.fd);
		w->ev.fd = -1;
	}
	w->up = w->offload = false;
	w->ntx = w->niov = 0;
	w->qhead = w->qtail = 0;
}

/* The callback may close the wire: nothing may be done with it after this. */
void
wire_lost(struct wire *w)
{
	shut(w);
	if (w->reconnect)
		wire_retry(w);
	/* a server waits for the next peer */
	if (w->gone && w->ctl.fd < 0)
		w->gone(w->arg, w);
}

void
wire_close(struct wire *w)
{
	struct wire **p;

	w->reconnect = 0;
	shut(w);
	if (w->ctl.fd >= 0) {
		ev_del(&w->ctl);
		close(w->ctl.fd);
	}
	if (w->sendfd >= 0)
		close(w->sendfd);
	if (w->kept >= 0)
		close(w->kept);
	if (w->bound[0])
		unix_unlink(w->bound);
	timer_set(&w->retry, 0);
	for (p = &dirty; *p; p = &(*p)->dirty_next)
		if (*p == w) {
			*p = w->dirty_next;
			break;
		}
	free(w->q);
	free(w->in);
	free(w->tun);
	free(w);
}

void
wire_pause(struct wire *w, bool on)
{
	if (w->paused != on) {
		w->paused = on;
		if (w->up)
			wire_want(w);
	}
}

bool
wire_busy(const struct wire *w)
{
	return w->qhead != w->qtail;
}

void
wire_takes(struct wire *w, bool on)
{
	bool was = w->takes;

	w->takes = on;
	if (was != on && w->up && w->ops->offload)
		w->ops->offload(w);
}

void
wire_send(struct wire *w, const struct iovec *iov, int n)
{
	wire_send_vnet(w, NULL, iov, n);
}

void
wire_send_vnet(struct wire *w, const struct vnet_hdr *h,
    const struct iovec *iov, int n)
{
	int i;

	if (!w->up) {
		w->drop++;
		return;
	}
	if (w->ntx == BATCH || w->niov + n >= BATCH * WIRE_IOV)
		wire_flush(w);
	if (!w->dirty) {
		w->dirty = true;
		w->dirty_next = dirty;
		dirty = w;
	}
	w->tx[w->ntx].first = w->niov;
	if (w->framing || w->hdrlen) {
		w->iov[w->niov].iov_base = w->hdr[w->ntx];
		w->iov[w->niov++].iov_len = w->hdrlen + w->framing +
		    (h && w->framing ? sizeof *h : 0);
		if (h)
			memcpy(w->hdr[w->ntx] + w->framing, h, sizeof *h);
		else if (w->hdrlen == sizeof *h)
			memset(w->hdr[w->ntx], 0, sizeof *h);
	}
	for (i = 0; i < n; i++)
		w->iov[w->niov++] = iov[i];
	w->tx[w->ntx].n = w->niov - w->tx[w->ntx].first;
	w->ntx++;
}

void
wire_put(struct wire *w, const void *p, uint32_t len)
{
	struct iovec iov = { (void *)p, len };

	wire_send(w, &iov, 1);
}

void
wire_flush(struct wire *w)
{
	if (w->ntx && w->up)
		w->ops->flush(w);
	w->ntx = w->niov = 0;
}

void
wire_flush_all(void)
{
	struct wire *w;

	while ((w = dirty)) {
		dirty = w->dirty_next;
		w->dirty = false;
		w->dirty_next = NULL;
		wire_flush(w);
	}
}

/* ------------------------------------------------------------------- queue
 * A buffer filled at qtail and emptied at qhead, moved down when it is used
 * up.  A stream's holds wire bytes, the others' a 32-bit length (host order)
 * before each frame.  Whole frames only. */
void
wire_queue(struct wire *w, unsigned from)
{
	bool stream = w->framing, idle = w->qhead == w->qtail;
	uint32_t len;
	unsigned i, k;

	for (i = from; i < w->ntx; i++) {
		struct iovec *v = &w->iov[w->tx[i].first];

		for (len = k = 0; k < w->tx[i].n; k++)
			len += v[k].iov_len;
		/* half the buffer is free before it is moved: each byte is
		 * moved once at most */
		if (w->qsize - w->qtail < len + 4 && w->qhead > w->qsize / 2) {
			memmove(w->q, w->q + w->qhead, w->qtail - w->qhead);
			w->qtail -= w->qhead;
			w->qhead = 0;
		}
		if (w->qsize - w->qtail < len + 4) {
			w->drop++;
			continue;
		}
		if (!stream) {
			memcpy(w->q + w->qtail, &len, 4);
			w->qtail += 4;
		}
		for (k = 0; k < w->tx[i].n; k++) {
			memcpy(w->q + w->qtail, v[k].iov_base, v[k].iov_len);
			w->qtail += v[k].iov_len;
		}
		w->txp++;
		w->txb += len;
	}
	if (idle) {
		w->drained = loop_now;
		wire_want(w);
	}
}

/* --------------------------------------------------------------- addresses */

int
wire_unix(struct wire *w, const char *path, struct sockaddr_storage *ss,
    socklen_t *len)
{
	struct sockaddr_un *un = (void *)ss;

	if (!*path || strlen(path) >= sizeof un->sun_path) {
		errno = EINVAL;
		return wire_fail(w, "%s: not a usable socket path", path);
	}
	memset(ss, 0, sizeof *ss);
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	*len = sizeof *un;
	return 0;
}

/* HOST:PORT, [V6]:PORT or :PORT. */
int
wire_addr(struct wire *w, const char *hp, bool passive, int type,
    struct sockaddr_storage *ss, socklen_t *len)
{
	struct addrinfo hint = { .ai_socktype = type }, *ai;
	char host[200];
	const char *port = strrchr(hp, ':');
	size_t n;
	int e;

	if (!port || (size_t)(port - hp) >= sizeof host) {
		errno = EINVAL;
		return wire_fail(w, "%s: HOST:PORT expected", hp);
	}
	n = port - hp;
	memcpy(host, hp, n);
	host[n] = 0;
	if (host[0] == '[' && n > 1 && host[n - 1] == ']') {
		host[n - 1] = 0;
		memmove(host, host + 1, n - 1);
	}
	hint.ai_flags = (passive ? AI_PASSIVE : 0) | AI_NUMERICSERV;
	if (passive && !host[0])
		hint.ai_family = AF_INET;
	e = getaddrinfo(host[0] ? host : NULL, port + 1, &hint, &ai);
	if (e) {
		errno = EADDRNOTAVAIL;
		return wire_fail(w, "%s: %s", hp, gai_strerror(e));
	}
	memcpy(ss, ai->ai_addr, ai->ai_addrlen);
	*len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return 0;
}

static int (*listen_elsewhere)(const char *, int, char *, size_t);
static void (*unlink_elsewhere)(const char *);

void
wire_paths(int (*lis)(const char *, int, char *, size_t),
    void (*unl)(const char *))
{
	listen_elsewhere = lis;
	unlink_elsewhere = unl;
}

void
unix_unlink(const char *path)
{
	if (unlink_elsewhere)
		unlink_elsewhere(path);
	else
		unlink(path);
}

/* A socket bound to path; one left behind by a dead process is replaced, a
 * live one is EADDRINUSE.  SOCK_STREAM ones listen. */
int
unix_listen(const char *path, int type, char *why, size_t n)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, try, e;

	if (listen_elsewhere)
		return listen_elsewhere(path, type, why, n);
	if (strlen(path) >= sizeof un.sun_path) {
		snprintf(why, n, "path too long for a socket");
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(un.sun_path, path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		goto bad;
	if (bind(fd, (void *)&un, sizeof un) < 0) {
		if (errno != EADDRINUSE || lstat(path, &st) < 0 ||
		    !S_ISSOCK(st.st_mode))
			goto bad;
		try = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (try < 0)
			goto bad;
		e = connect(try, (void *)&un, sizeof un) < 0 ? errno : 0;
		close(try);
		errno = EADDRINUSE;
		if (e != ECONNREFUSED ||
		    (unlink(path) < 0 && errno != ENOENT) ||
		    bind(fd, (void *)&un, sizeof un) < 0)
			goto bad;
	}
	if (type == SOCK_STREAM && listen(fd, 64) < 0)
		goto bad;
	return fd;
bad:
	e = errno;
	snprintf(why, n, "%s", strerror(e));
	if (fd >= 0)
		close(fd);
	errno = e;
	return -1;
}
