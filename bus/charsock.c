/*
 * charsock.c - character back ends on sockets: unix, tcp, telnet (RFC 854, 857,
 * 858, 856: remote echo, no go-ahead, binary), udp.
 *
 * One client at a time; while one is there the listening socket is not looked
 * at.  Names are resolved and sockets made before the sandbox closes; only
 * connect() and accept() come later.
 *
 * #syscalls socket connect accept4 setsockopt getsockopt getsockname unlink
 * #syscalls sendto recvfrom shutdown
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "chardev.h"

enum { IAC = 255, DO = 253, WILL = 251, SB = 250, BRK = 243, SE = 240,
	OPT_BINARY = 0, OPT_ECHO = 1, OPT_SGA = 3 };
enum { T_DATA, T_IAC, T_OPT, T_SUB, T_SUB_IAC, T_CR };

/* ------------------------------------------------------------------ telnet */

void
telnet_hello(struct chardev *c)
{
	static const uint8_t hello[] = {
		IAC, WILL, OPT_ECHO, IAC, WILL, OPT_SGA,
		IAC, WILL, OPT_BINARY, IAC, DO, OPT_BINARY
	};

	memcpy(c->pend, hello, sizeof hello);
	c->npend = sizeof hello;
}

size_t
telnet_in(struct chardev *c, uint8_t *buf, size_t n)
{
	size_t i, out = 0;
	uint8_t b;

	for (i = 0; i < n; i++) {
		b = buf[i];
		switch (c->iac) {
		case T_CR:
			c->iac = T_DATA;
			if (b == 0 || b == '\n')
				break;		/* CR NUL, CR LF: a CR */
			/* FALLTHROUGH */
		case T_DATA:
			if (b == IAC) {
				c->iac = T_IAC;
				break;
			}
			if (b == '\r')
				c->iac = T_CR;
			buf[out++] = b;
			break;
		case T_IAC:
			c->iac = b >= WILL && b != IAC ? T_OPT :
			    b == SB ? T_SUB : T_DATA;
			if (b == IAC)
				buf[out++] = b;
			if (b == BRK && c->brk != NULL)
				c->brk(c->barg);
			break;
		case T_OPT:
			c->iac = T_DATA;
			break;
		case T_SUB:
			if (b == IAC)
				c->iac = T_SUB_IAC;
			break;
		case T_SUB_IAC:
			c->iac = b == SE ? T_DATA : T_SUB;
			break;
		}
	}
	return out;
}

size_t
telnet_out(struct chardev *c, const uint8_t *buf, size_t n)
{
	size_t i;

	for (i = 0; i < n && c->npend + 2 <= sizeof c->pend; i++) {
		if (buf[i] == IAC)
			c->pend[c->npend++] = IAC;
		c->pend[c->npend++] = buf[i];
	}
	return i;
}

/* ------------------------------------------------------- connections coming */

static void accept_cb(void *, int, short);
static void retry(void *);

static void
connected(struct chardev *c, int fd)
{
	int one = 1;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (c->path == NULL)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	char_open_fd(c, fd, fd);
}

static void
accept_cb(void *arg, int lfd, short revents)
{
	struct chardev *c = arg;
	int fd;

	(void)revents;
	fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	loop_fd(c->loop, lfd, 0, accept_cb, c);
	connected(c, fd);
}

void
sock_hangup(struct chardev *c)
{
	if (c->rfd >= 0)
		close(c->rfd);
	c->rfd = c->wfd = -1;
	if (c->lfd >= 0)
		loop_fd(c->loop, c->lfd, POLLIN, accept_cb, c);
	else if (c->reconnect > 0)
		loop_timer(c->loop, now_ns() + c->reconnect * 1000000000ll,
		    retry, c);
}

static int
try_connect(struct chardev *c)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct addrinfo *a;
	int fd, e = ECONNREFUSED;

	if (c->path != NULL) {
		strcpy(sun.sun_path, c->path);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&sun,
		    sizeof sun) == 0)
			return fd;
		e = errno;
		if (fd >= 0)
			close(fd);
		errno = e;
		return -1;
	}
	for (a = c->ai; a != NULL; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
			return fd;
		e = errno;
		if (fd >= 0)
			close(fd);
	}
	errno = e;
	return -1;
}

static void
retry(void *arg)
{
	struct chardev *c = arg;
	int fd = try_connect(c);

	if (fd >= 0)
		connected(c, fd);
	else
		loop_timer(c->loop, now_ns() + c->reconnect * 1000000000ll,
		    retry, c);
}

/* --------------------------------------------------------------- listening */

static int
listen_unix(struct chardev *c)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, probe;

	strcpy(sun.sun_path, c->path);
	/* a socket that nobody answers at is left over */
	if (lstat(c->path, &st) == 0 && S_ISSOCK(st.st_mode)) {
		probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (probe >= 0) {
			if (connect(probe, (struct sockaddr *)&sun,
			    sizeof sun) < 0 && errno == ECONNREFUSED)
				unlink(c->path);
			close(probe);
		}
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0 ||
	    listen(fd, 1) < 0)) {
		close(fd);
		return -1;
	}
	if (fd >= 0 && c->part != NULL)
		part_cleanup(c->part, c->path);
	return fd;
}

static int
listen_inet(struct chardev *c)
{
	struct addrinfo *a;
	int fd, one = 1, e = EADDRNOTAVAIL;

	for (a = c->ai; a != NULL; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
		if (fd < 0) {
			e = errno;
			continue;
		}
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 &&
		    listen(fd, 1) == 0)
			return fd;
		e = errno;
		close(fd);
	}
	errno = e;
	return -1;
}

/* What the kernel chose when the port was 0. */
static void
name_port(struct chardev *c)
{
	struct sockaddr_storage ss;
	socklen_t n = sizeof ss;
	char host[64], port[16];

	if (c->path != NULL || getsockname(c->lfd, (struct sockaddr *)&ss,
	    &n) < 0 || getnameinfo((struct sockaddr *)&ss, n, host, sizeof host,
	    port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	snprintf(c->info, sizeof c->info, "%s:%s:%s,server",
	    c->telnet ? "telnet" : "tcp", host, port);
}

/* Wait for the first client, but not longer than the broker lives. */
static int
wait_client(struct chardev *c, char *why, size_t len)
{
	struct pollfd p[2] = { { c->lfd, POLLIN, 0 }, { -1, 0, 0 } };
	int fd;

	if (c->part != NULL) {
		p[1].fd = c->part->bus;
		p[1].events = POLLIN;
	}
	fprintf(stderr, "%s: waiting for connection on: %s\n",
	    c->part != NULL ? c->part->name : "chardev", c->info);
	while (poll(p, 2, -1) < 0 || (p[0].revents | p[1].revents) == 0)
		;
	if (p[0].revents == 0) {
		snprintf(why, len, "%s: nobody connected", c->spec);
		return -1;
	}
	fd = accept4(c->lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		snprintf(why, len, "%s: %s", c->spec, strerror(errno));
		return -1;
	}
	loop_fd(c->loop, c->lfd, 0, accept_cb, c);
	connected(c, fd);
	return 0;
}

/* -------------------------------------------------------------------- open */

/* "HOST:PORT", "[ADDR]:PORT", ":PORT" -> cut in place. */
static int
host_port(char *s, char **host, char **port)
{
	char *colon;

	*host = s;
	if (*s == '[') {
		*host = s + 1;
		s = strchr(s, ']');
		if (s == NULL || s[1] != ':')
			return -1;
		*s = '\0';
		colon = s + 1;
	} else {
		colon = strrchr(s, ':');
		if (colon == NULL)
			return -1;
	}
	*colon = '\0';
	*port = colon + 1;
	if (**host == '\0')
		*host = NULL;
	return **port != '\0' ? 0 : -1;
}

static int
lookup(struct chardev *c, char *host, char *port, int type, bool passive,
    struct addrinfo **out, char *why, size_t len)
{
	struct addrinfo hint = { .ai_socktype = type,
	    .ai_flags = passive ? AI_PASSIVE : 0 };
	int e;

	e = getaddrinfo(host, port, &hint, out);
	if (e == 0)
		return 0;
	snprintf(why, len, "%s: %s", c->spec, gai_strerror(e));
	return -1;
}

/* [RHOST]:RPORT[@[LHOST]:LPORT] */
static int
udp_open(struct chardev *c, char *s, char *why, size_t len)
{
	char *at = strchr(s, '@'), *host, *port;
	struct addrinfo *local = NULL, *a;
	char any[] = "0";
	int fd = -1, e = EADDRNOTAVAIL;

	c->kind = CHAR_DGRAM;
	if (at != NULL)
		*at++ = '\0';
	if (host_port(s, &host, &port) < 0) {
		snprintf(why, len, "%s: not HOST:PORT", c->spec);
		return -1;
	}
	if (host == NULL)
		host = (char *)"localhost";
	if (lookup(c, host, port, SOCK_DGRAM, false, &c->ai, why, len) < 0)
		return -1;
	host = NULL;
	port = any;
	if (at != NULL && host_port(at, &host, &port) < 0) {
		snprintf(why, len, "%s: not HOST:PORT", c->spec);
		return -1;
	}
	if (lookup(c, host, port, SOCK_DGRAM, true, &local, why, len) < 0)
		return -1;
	for (a = local; a != NULL; a = a->ai_next) {
		if (a->ai_family != c->ai->ai_family)
			continue;
		fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
		if (fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) == 0 &&
		    connect(fd, c->ai->ai_addr, c->ai->ai_addrlen) == 0)
			break;
		e = errno;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(local);
	if (fd < 0) {
		snprintf(why, len, "%s: %s", c->spec, strerror(e));
		return -1;
	}
	char_open_fd(c, fd, fd);
	return 0;
}

static int
options(struct chardev *c, char *list, char *why, size_t len)
{
	char *w, *v, *end;
	bool b;

	c->wait = true;
	while ((w = char_word(&list, &v)) != NULL) {
		if (strcmp(w, "server") == 0 && char_bool(v, &b) == 0) {
			c->server = b;
		} else if (strcmp(w, "nowait") == 0 && v == NULL) {
			c->wait = false;
		} else if (strcmp(w, "wait") == 0 && char_bool(v, &b) == 0) {
			c->wait = b;
		} else if (strcmp(w, "telnet") == 0 && char_bool(v, &b) == 0 &&
		    c->path == NULL) {
			c->telnet = b;
		} else if ((strcmp(w, "nodelay") == 0 ||
		    strcmp(w, "delay") == 0) && char_bool(v, &b) == 0) {
			continue;	/* TCP_NODELAY is always set */
		} else if (strcmp(w, "reconnect") == 0 && v != NULL) {
			c->reconnect = (unsigned)strtoul(v, &end, 10);
			if (*end != '\0' || c->reconnect > 86400)
				goto bad;
		} else {
			goto bad;
		}
	}
	return 0;
bad:
	snprintf(why, len, "%s: bad option '%s'", c->spec, w);
	return -1;
}

int
sock_open(struct chardev *c, const char *spec, char *why, size_t len)
{
	char copy[256], *s, *list, *host, *port;
	int fd;

	strcpy(copy, spec);
	s = strchr(copy, ':') + 1;
	if (strncmp(spec, "udp:", 4) == 0)
		return udp_open(c, s, why, len);
	c->kind = CHAR_STREAM;
	c->telnet = strncmp(spec, "telnet:", 7) == 0;
	list = strchr(s, ',');
	if (list != NULL)
		*list++ = '\0';
	if (strncmp(spec, "unix:", 5) == 0) {
		if (*s == '\0' || strlen(s) >= sizeof
		    ((struct sockaddr_un *)0)->sun_path) {
			snprintf(why, len, "%s: bad path", spec);
			return -1;
		}
		c->path = strdup(s);
	}
	if (options(c, list, why, len) < 0)
		return -1;
	if (c->path == NULL) {
		if (host_port(s, &host, &port) < 0) {
			snprintf(why, len, "%s: not HOST:PORT", spec);
			return -1;
		}
		if (lookup(c, host, port, SOCK_STREAM, c->server, &c->ai, why,
		    len) < 0)
			return -1;
	}
	if (c->server) {
		c->lfd = c->path != NULL ? listen_unix(c) : listen_inet(c);
		if (c->lfd < 0) {
			snprintf(why, len, "%s: %s", spec, strerror(errno));
			return -1;
		}
		name_port(c);
		if (c->wait)
			return wait_client(c, why, len);
		return loop_fd(c->loop, c->lfd, POLLIN, accept_cb, c);
	}
	fd = try_connect(c);
	if (fd >= 0) {
		connected(c, fd);
	} else if (c->reconnect > 0) {
		sock_hangup(c);
	} else {
		snprintf(why, len, "%s: %s", spec, strerror(errno));
		return -1;
	}
	return 0;
}

void
sock_close(struct chardev *c)
{
	loop_timer(c->loop, 0, retry, c);
	if (c->lfd >= 0) {
		loop_fd_del(c->loop, c->lfd);
		close(c->lfd);
		if (c->path != NULL)
			unlink(c->path);
	}
	free(c->path);
	if (c->ai != NULL)
		freeaddrinfo(c->ai);
}
