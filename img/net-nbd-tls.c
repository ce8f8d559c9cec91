/*
 * net-nbd-tls.c - NBD over TLS for a client (the NBD project's doc/proto.md,
 * "TLS support", NBD_OPT_STARTTLS).
 *
 * libnbd can do this, but not say whom it expects at the other end of a socket
 * that it was given, nor take a priority.  So the negotiation up to STARTTLS is
 * done here, and libnbd gets one end of a socket pair where the greeting is
 * said again.  Two threads carry bytes between the other end and the server:
 * as libnbd wants a descriptor that polls as the connection would, somebody
 * must decrypt before it asks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "net-nbd-tls.h"

#define PASSWD	0x4e42444d41474943ull	/* "NBDMAGIC" */
#define IHAVEOPT 0x49484156454f5054ull
#define REPLY	0x0003e889045565a9ull
enum { GREETING = 18, STARTTLS = 5, ACK = 1, TEXT_MAX = 4096, WAIT = 30 };

struct nbd_tls {
	struct tls	*t;
	int		fd, local;
	pthread_t	up, down;
	char		why[300];	/* why `down' ended, if not well */
};

static int
all(int fd, void *p, size_t n, bool out)
{
	char *b = p;
	ssize_t k;

	for (; n; b += k, n -= (size_t)k) {
		k = out ? send(fd, b, n, MSG_NOSIGNAL) : recv(fd, b, n, 0);
		if (k < 0 && errno == EINTR)
			k = 0;
		else if (k <= 0)
			return -1;
	}
	return 0;
}

/* From the server's greeting, which is kept, to its consent. */
static int
starttls(int fd, uint8_t greeting[GREETING], struct imgerr *e)
{
	uint8_t b[20];
	char text[TEXT_MAX + 1];
	uint32_t n;

	if (all(fd, greeting, GREETING, false))
		return err_set(e, EIO, "The server does not answer");
	if (be64(greeting) != PASSWD || be64(greeting + 8) != IHAVEOPT ||
	    !(be16(greeting + 16) & 1))
		return err_set(e, EPROTO, "Server does not support STARTTLS");
	pbe32(b, be16(greeting + 16) & 3u);
	pbe64(b + 4, IHAVEOPT);
	pbe32(b + 12, STARTTLS);
	pbe32(b + 16, 0);
	if (all(fd, b, 20, true) || all(fd, b, 20, false) || be64(b) != REPLY ||
	    be32(b + 8) != STARTTLS || (n = be32(b + 16)) > TEXT_MAX ||
	    all(fd, text, n, false))
		return err_set(e, EPROTO, "Server does not support STARTTLS");
	text[n] = 0;
	if (be32(b + 12) == ACK)
		return 0;
	return err_set(e, EPROTO, n ? "Server refuses TLS: %s" :
	    "Server refuses TLS", text);
}

static void *
upwards(void *arg)
{
	struct nbd_tls *n = arg;
	uint8_t b[65536];
	ssize_t k;

	/* the flags of its greeting: the server has had ours */
	if (!all(n->local, b, 4, false))
		while ((k = recv(n->local, b, sizeof(b), 0)) > 0)
			for (ssize_t at = 0, w; at < k; at += w)
				if ((w = tls_write(n->t, b + at, (size_t)(k -
				    at))) <= 0)
					goto out;
	tls_bye(n->t);
out:
	shutdown(n->fd, SHUT_RDWR);
	shutdown(n->local, SHUT_RDWR);
	return NULL;
}

static void *
downwards(void *arg)
{
	struct nbd_tls *n = arg;
	uint8_t b[65536];
	ssize_t k;

	while ((k = tls_read(n->t, b, sizeof(b))) > 0)
		if (all(n->local, b, (size_t)k, true))
			break;
	if (k < 0)
		snprintf(n->why, sizeof(n->why), "%s", tls_reason(n->t));
	shutdown(n->fd, SHUT_RDWR);
	shutdown(n->local, SHUT_RDWR);
	return NULL;
}

static void
patience(int fd, int seconds)
{
	struct timeval t = { seconds, 0 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

int
nbd_tls_start(int fd, const struct tls_creds *c, const char *hostname,
    struct nbd_tls **out, struct imgerr *e)
{
	struct nbd_tls *n = calloc(1, sizeof(*n));
	uint8_t greeting[GREETING];
	int pair[2] = { -1, -1 };

	if (!n) {
		err_set(e, ENOMEM, "Out of memory");
		goto bad;
	}
	patience(fd, WAIT);
	if (starttls(fd, greeting, e) || !(n->t = tls_open(c, fd, hostname, e)))
		goto bad;
	patience(fd, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ||
	    all(pair[1], greeting, GREETING, true)) {
		err_set(e, errno, "socket pair: %m");
		goto bad;
	}
	n->fd = fd;
	n->local = pair[1];
	if ((errno = pthread_create(&n->up, NULL, upwards, n))) {
		err_set(e, errno, "thread: %m");
		goto bad;
	}
	if ((errno = pthread_create(&n->down, NULL, downwards, n))) {
		err_set(e, errno, "thread: %m");
		shutdown(pair[0], SHUT_RDWR);
		pthread_join(n->up, NULL);
		goto bad;
	}
	*out = n;
	return pair[0];
bad:
	if (n)
		tls_close(n->t);
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
	close(fd);
	free(n);
	return -1;
}

void
nbd_tls_end(struct nbd_tls *n, struct imgerr *e)
{
	if (!n)
		return;
	pthread_join(n->up, NULL);
	pthread_join(n->down, NULL);
	if (*n->why && e)
		err_set(e, EACCES, "TLS: %s", n->why);
	tls_close(n->t);
	close(n->fd);
	close(n->local);
	free(n);
}
