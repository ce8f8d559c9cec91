/*
 * seed.c - the first words to a new guest: cloud-init's NoCloud data source by
 * HTTP (RFC 9112), on port 80 of the fourth address of the network.
 *
 *	/user-data	the file of user-data=, read at the start
 *	/meta-data	an instance-id that changes with it, and hostname=
 *	/vendor-data	nothing
 *
 * A connection of a guest is one end of a socket pair; at the other is this
 * server, with a table of requests under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "slirp.h"

#define NREQ	16
#define BIGGEST	(16 << 20)		/* of a file */

static char *data, meta[300];
static size_t len;

static struct request {
	struct ev ev;
	char	in[2048], head[200];
	unsigned n;
	struct iovec out[2];		/* what is still to be sent */
	bool	used, asked;
} reqs[NREQ];

static void
hang_up(struct request *r)
{
	ev_del(&r->ev);
	close(r->ev.fd);
	r->used = false;
}

static void
answer(struct request *r, int status, const char *text, size_t n, bool body)
{
	r->out[0].iov_base = r->head;
	r->out[0].iov_len = snprintf(r->head, sizeof r->head, "HTTP/1.0 %d %s\r\n"
	    "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", status,
	    status == 200 ? "OK" : status == 404 ? "Not Found" : "Bad Request",
	    n);
	r->out[1] = (struct iovec){ (char *)text, body ? n : 0 };
	r->asked = true;
}

/* The request in r->in, whole and ended by a NUL. */
static void
look(struct request *r)
{
	bool get = !strncmp(r->in, "GET ", 4);
	char *path = r->in + (get ? 4 : 5);

	if (!get && strncmp(r->in, "HEAD ", 5)) {
		answer(r, 400, "", 0, true);
		return;
	}
	path[strcspn(path, " ?\r\n")] = 0;
	path += strspn(path, "/");
	if (!strcmp(path, "user-data"))
		answer(r, 200, data, len, get);
	else if (!strcmp(path, "meta-data"))
		answer(r, 200, meta, strlen(meta), get);
	else if (!strcmp(path, "vendor-data"))
		answer(r, 200, "", 0, get);
	else
		answer(r, 404, "", 0, get);
}

static void
seed_event(struct ev *ev, uint32_t events)
{
	struct request *r = ev->arg;
	struct msghdr m = { .msg_iov = r->out, .msg_iovlen = 2 };
	unsigned i;
	ssize_t n;

	if (!r->asked) {
		n = recv(ev->fd, r->in + r->n, sizeof r->in - 1 - r->n,
		    MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || r->n + n == sizeof r->in - 1) {
			hang_up(r);
			return;
		}
		r->n += n;
		r->in[r->n] = 0;
		if (!strstr(r->in, "\r\n\r\n") && !strstr(r->in, "\n\n"))
			return;
		look(r);
	}
	n = sendmsg(ev->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN) {
		hang_up(r);
		return;
	}
	for (i = 0; i < 2 && n > 0; i++) {
		size_t k = (size_t)n < r->out[i].iov_len ? (size_t)n :
		    r->out[i].iov_len;

		r->out[i].iov_base = (char *)r->out[i].iov_base + k;
		r->out[i].iov_len -= k;
		n -= k;
	}
	if (!r->out[0].iov_len && !r->out[1].iov_len)
		hang_up(r);
	else
		ev_mod(ev, EPOLLOUT);
}

int
seed_connect(void)
{
	struct request *r;
	int sv[2];

	for (r = reqs; r < reqs + NREQ && r->used; r++)
		;
	if (r == reqs + NREQ || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0, sv) < 0)
		return -1;
	memset(r, 0, sizeof *r);
	r->used = true;
	r->ev = (struct ev){ sv[1], seed_event, r };
	if (ev_add(&r->ev, EPOLLIN) < 0) {
		r->used = false;
		close(sv[0]);
		close(sv[1]);
		return -1;
	}
	return sv[0];
}

int
seed_start(const char *file)
{
	uint64_t hash = 0xcbf29ce484222325;	/* FNV-1a */
	struct stat sb;
	ssize_t n;
	size_t i;
	int fd;

	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &sb) < 0)
		return -1;
	errno = EFBIG;
	if (sb.st_size > BIGGEST || !(data = malloc(sb.st_size + 1)))
		return -1;
	while ((n = read(fd, data + len, sb.st_size - len)) > 0)
		len += n;
	close(fd);
	if (n < 0)
		return -1;
	for (i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)data[i]) * 0x100000001b3;
	snprintf(meta, sizeof meta, "instance-id: iid-%016llx\n%s%.200s%s",
	    (unsigned long long)hash, cf.hostname ? "local-hostname: " : "",
	    cf.hostname ? cf.hostname : "", cf.hostname ? "\n" : "");
	return 0;
}
