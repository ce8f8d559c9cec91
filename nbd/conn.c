/*
 * conn.c - bytes to and from a client, in the clear or by TLS.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nbd.h"

void
nbd_conn_init(struct nbd_conn *c, struct nbd_export *x, int in, int out)
{
	*c = (struct nbd_conn){ .x = x, .in = in, .out = out };
	pthread_mutex_init(&c->rlock, NULL);
	pthread_mutex_init(&c->wlock, NULL);
	pthread_mutex_init(&c->mlock, NULL);
	pthread_cond_init(&c->mcond, NULL);
}

static ssize_t
out(struct nbd_conn *c, const void *p, size_t n, bool more)
{
	ssize_t k;

	if (c->tls)
		return tls_write(c->tls, p, n);
	k = send(c->out, p, n, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	if (k < 0 && errno == ENOTSOCK)
		k = write(c->out, p, n);
	return k;
}

int
nbd_recv(struct nbd_conn *c, void *p, size_t n)
{
	char *b = p;

	while (n) {
		ssize_t k = c->tls ? tls_read(c->tls, b, n) :
		    read(c->in, b, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		b += k;
		n -= (size_t)k;
	}
	return 0;
}

int
nbd_send(struct nbd_conn *c, const void *p, size_t n, bool more)
{
	const char *b = p;

	while (n) {
		ssize_t k = out(c, b, n, more);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -1;
		b += k;
		n -= (size_t)k;
	}
	return 0;
}

/* Closing a socket with something to read would take back what was said last,
 * like why a client was refused: leave it a second to hear that. */
static void
linger(int fd)
{
	struct timeval t = { 1, 0 };
	char b[4096];

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 16 && read(fd, b, sizeof(b)) > 0; i++)
		;
}

void
nbd_conn_end(struct nbd_conn *c)
{
	if (c->tls)
		tls_bye(c->tls);
	if (c->creds)
		linger(c->in);
	tls_close(c->tls);
	c->tls = NULL;
	pthread_mutex_destroy(&c->rlock);
	pthread_mutex_destroy(&c->wlock);
	pthread_mutex_destroy(&c->mlock);
	pthread_cond_destroy(&c->mcond);
}
