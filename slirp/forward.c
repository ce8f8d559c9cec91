/*
 * forward.c - connections that begin outside: hostfwd (a listening socket of
 * the host leads to a guest's port) and guestfwd (a virtual address and port
 * of the network leads to a host socket or a command).  Rules are written as
 * in QEMU's manual:
 *
 *	hostfwd=[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport
 *	hostfwd=unix:PATH-[guestaddr]:guestport
 *	guestfwd=[tcp]:server:port-tcp:host:port | -unix:path | -cmd:command
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>
#include "slirp.h"

#define NFWD	64

static struct fwd {
	struct ev ev;
	bool	used, udp, un, given;
	char	key[216];		/* the part before the dash */
	char	rule[344];
	ip	guest;			/* v4 0.0.0.0: the first lease */
	uint16_t port;
} fwds[NFWD];

static struct gfwd {
	bool	used;
	ip	server;
	uint16_t port;
	char	target[200];
} gfwds[NFWD];

static void
accepting(struct ev *ev, uint32_t events)
{
	struct fwd *f = ev->arg;
	struct sockaddr_storage ss;
	socklen_t sl = sizeof ss;
	uint16_t port;
	ip peer;
	int fd, i;

	for (i = 0; i < 64; i++) {
		sl = sizeof ss;
		fd = accept4(ev->fd, (void *)&ss, &sl, SOCK_CLOEXEC |
		    SOCK_NONBLOCK);
		if (fd < 0)
			return;
		from_host(&ss, &peer, &port);
		if (is4(&peer) != is4(&f->guest) || f->un || in_net(&peer)) {
			peer = is4(&f->guest) ? cf.host4 : cf.host6;
		}
		if (!port)
			port = 1024 + random32() % 64000;
		if (tcp_accept(fd, &peer, port, &f->guest, f->port) < 0)
			close(fd);
	}
}

/* "addr:port", addr may be empty or [v6]; 0 or -1. */
static int
addr_port(const char *s, ip *a, bool *any, uint16_t *port)
{
	char buf[128], *c, *end;
	struct in_addr a4;
	unsigned long v;
	size_t n;

	if (strlen(s) >= sizeof buf)
		return -1;
	strcpy(buf, s);
	c = strrchr(buf, ':');
	if (!c)
		return -1;
	*c++ = 0;
	v = strtoul(c, &end, 10);
	if (!*c || *end || v > 65535)
		return -1;
	*port = v;
	*any = !*buf;
	*a = mk4(0);
	n = strlen(buf);
	if (*buf == '[' && buf[n - 1] == ']') {
		buf[n - 1] = 0;
		return inet_pton(AF_INET6, buf + 1, a) == 1 ? 0 : -1;
	}
	if (!*any) {
		if (inet_pton(AF_INET, buf, &a4) != 1)
			return -1;
		*a = mk4(ntohl(a4.s_addr));
	}
	return 0;
}

static int
listen_on(struct fwd *f, const ip *a, bool any, uint16_t port)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET,
	    .sin_port = htons(port) };
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6,
	    .sin6_port = htons(port), .sin6_addr = *a };
	bool v4 = is4(a);
	int fd, one = 1, e;

	s4.sin_addr.s_addr = any ? INADDR_ANY : htonl(v4of(a));
	fd = socket(v4 ? AF_INET : AF_INET6, (f->udp ? SOCK_DGRAM :
	    SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (!f->udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, v4 ? (void *)&s4 : (void *)&s6, v4 ? sizeof s4 :
	    sizeof s6) < 0 || (!f->udp && listen(fd, 1024) < 0)) {
		e = errno;
		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

int
forward_add(const char *rule, bool given, char *why, size_t n)
{
	const char *dash = strchr(rule, '-'), *p = rule;
	struct fwd *f;
	char left[200];
	uint16_t hport = 0;
	ip haddr;
	bool any = true, gany;
	int fd;

	for (f = fwds; f < fwds + NFWD && f->used; f++)
		;
	if (f == fwds + NFWD) {
		snprintf(why, n, "more than %d forwards", NFWD);
		return -1;
	}
	memset(f, 0, sizeof *f);
	/* a path may hold dashes: the last one counts there */
	if (!strncmp(p, "unix:", 5)) {
		dash = strrchr(rule, '-');
		f->un = true;
		p += 5;
	} else if (!strncmp(p, "udp:", 4)) {
		f->udp = true;
		p += 4;
	} else if (!strncmp(p, "tcp:", 4)) {
		p += 4;
	} else if (*p == ':') {
		p += 1;
	} else {
		dash = NULL;
	}
	if (!dash || (size_t)(dash - p) >= sizeof left || dash < p ||
	    strlen(rule) >= sizeof f->rule || strchr(rule, '\n')) {
		snprintf(why, n, "%s: not [tcp|udp]:[addr]:port-[addr]:port",
		    rule);
		return -1;
	}
	snprintf(left, sizeof left, "%.*s", (int)(dash - p), p);
	snprintf(f->key, sizeof f->key, "%s:%s", f->un ? "unix" : f->udp ?
	    "udp" : "tcp", left);
	if (addr_port(dash + 1, &f->guest, &gany, &f->port) < 0 || !f->port ||
	    (!f->un && addr_port(left, &haddr, &any, &hport) < 0)) {
		snprintf(why, n, "%s: bad address or port", rule);
		return -1;
	}
	if (gany)
		f->guest = mk4(cf.dhcpstart);
	if (f->un)
		fd = unix_listen(left, SOCK_STREAM, why, n);
	else
		fd = listen_on(f, &haddr, any, hport);
	if (fd < 0) {
		snprintf(why, n, "%s: %s", rule, strerror(errno));
		return -1;
	}
	f->ev = (struct ev){ fd, accepting, f };
	if (f->udp ? udp_forward(fd, &f->guest, f->port) < 0 :
	    ev_add(&f->ev, EPOLLIN) < 0) {
		snprintf(why, n, "%s: %s", rule, strerror(errno));
		close(fd);
		return -1;
	}
	if (f->un)
		porter_own(left);
	strcpy(f->rule, rule);
	f->given = given;
	f->used = true;
	return 0;
}

void
forwards_write(FILE *out)
{
	for (struct fwd *f = fwds; f < fwds + NFWD; f++)
		if (f->used)
			fprintf(out, "%s %s\n", f->given ? "option" : "hostfwd",
			    f->rule);
}

void
forward_again(const char *rule, bool given)
{
	char why[300];

	for (struct fwd *f = fwds; f < fwds + NFWD; f++)
		if (f->used && !strcmp(f->rule, rule))
			return;
	if (forward_add(rule, given, why, sizeof why) < 0)
		warnx("hostfwd=%s: %s", rule, why);
}

int
forward_remove(const char *rule, char *why, size_t n)
{
	struct fwd *f;
	char key[216];

	snprintf(key, sizeof key, "%s%s", *rule == ':' ? "tcp" : "", rule);
	if (strncmp(key, "unix:", 5))
		key[strcspn(key, "-")] = 0;
	for (f = fwds; f < fwds + NFWD; f++)
		if (f->used && !strcmp(f->key, key)) {
			if (f->udp)
				udp_unforward(f->ev.fd);
			else
				ev_del(&f->ev);
			close(f->ev.fd);
			if (f->un)
				unix_unlink(f->key + 5);
			f->used = false;
			return 0;
		}
	snprintf(why, n, "%s: no such forward", rule);
	errno = ENOENT;
	return -1;
}

int
guestfwd_add(const char *rule, char *why, size_t n)
{
	const char *p = rule, *dash = strchr(rule, '-');
	struct gfwd *g;
	char left[128];
	bool any;

	for (g = gfwds; g < gfwds + NFWD && g->used; g++)
		;
	if (!strncmp(p, "tcp:", 4))
		p += 4;
	else if (*p == ':')
		p++;
	if (g == gfwds + NFWD || !dash || dash - p >= (int)sizeof left ||
	    strlen(dash + 1) >= sizeof g->target)
		goto bad;
	snprintf(left, sizeof left, "%.*s", (int)(dash - p), p);
	if (addr_port(left, &g->server, &any, &g->port) < 0 || any ||
	    !g->port || (strncmp(dash + 1, "tcp:", 4) &&
	    strncmp(dash + 1, "unix:", 5) && strncmp(dash + 1, "cmd:", 4)))
		goto bad;
	if (!in_net(&g->server)) {
		snprintf(why, n, "%s: the server must be in the network", rule);
		return -1;
	}
	strcpy(g->target, dash + 1);
	g->used = true;
	return 0;
bad:
	snprintf(why, n, "%s: not tcp:server:port-{tcp:host:port|unix:path|"
	    "cmd:command}", rule);
	return -1;
}

void
guestfwd_own(uint32_t server, uint16_t port, const char *target)
{
	struct gfwd *g;

	for (g = gfwds; g < gfwds + NFWD && g->used; g++)
		;
	if (g == gfwds + NFWD || strlen(target) >= sizeof g->target)
		errx(1, "more than %d guestfwd, smb and user-data", NFWD);
	*g = (struct gfwd){ true, mk4(server), port };
	strcpy(g->target, target);
}

bool
guestfwd_addr(const ip *a)
{
	for (struct gfwd *g = gfwds; g < gfwds + NFWD && g->used; g++)
		if (ipeq(a, &g->server))
			return true;
	return false;
}

const char *
guestfwd_command(unsigned n, bool *inet)
{
	if (n >= NFWD || !gfwds[n].used)
		return NULL;
	*inet = !strncmp(gfwds[n].target, "smb:", 4);
	return *inet || !strncmp(gfwds[n].target, "cmd:", 4) ?
	    gfwds[n].target + 4 : NULL;
}

int
guestfwd_connect(const ip *dst, uint16_t port, bool *busy)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct gfwd *g;
	uint16_t p;
	bool any;
	int fd;
	ip a;

	for (g = gfwds; g < gfwds + NFWD && g->used; g++)
		if (g->port == port && ipeq(&g->server, dst))
			break;
	if (g == gfwds + NFWD || !g->used)
		return -2;
	*busy = false;
	if (!strncmp(g->target, "cmd:", 4) || !strncmp(g->target, "smb:", 4))
		return porter_run(g - gfwds);
	if (!strcmp(g->target, "seed:"))
		return seed_connect();
	if (!strncmp(g->target, "unix:", 5)) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
		    SOCK_NONBLOCK, 0);
		snprintf(un.sun_path, sizeof un.sun_path, "%s", g->target + 5);
		if (fd >= 0 && connect(fd, (void *)&un, sizeof un) < 0) {
			close(fd);
			fd = -1;
		}
		return fd;
	}
	if (addr_port(g->target + 4, &a, &any, &p) < 0 || !is4(&a))
		return -1;
	sin.sin_port = htons(p);
	sin.sin_addr.s_addr = htonl(any ? INADDR_LOOPBACK : v4of(&a));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (void *)&sin, sizeof sin) < 0) {
		if (errno != EINPROGRESS) {
			close(fd);
			return -1;
		}
		*busy = true;
	}
	return fd;
}

void
forward_print(void (*put)(const char *))
{
	char line[400];

	for (struct fwd *f = fwds; f < fwds + NFWD; f++)
		if (f->used) {
			snprintf(line, sizeof line, "  %s[HOST_FORWARD] %4d "
			    "%s -> %s:%u", f->udp ? "UDP" : f->un ? "UNIX" :
			    "TCP", f->ev.fd, f->key, ipstr(&f->guest), f->port);
			put(line);
		}
}
