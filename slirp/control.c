/*
 * control.c - the control socket: a line is a command, its answer is lines of
 * text and then "ok" or "err ERRNO reason".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "slirp.h"

#define NCTL 8

static struct ctl { struct ev ev; char buf[1024]; unsigned n; } ctls[NCTL];
static struct ev lis;
static struct ctl *now;

static FILE *text;			/* of control_ask */

static void
put(const char *s)
{
	if (text) {
		fprintf(text, "%s\n", s);
		return;
	}
	/* an answer fits the socket's buffer; a peer that does not read loses
	 * the rest, we do not wait */
	struct iovec v[2] = { { (void *)s, strlen(s) }, { "\n", 1 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	sendmsg(now->ev.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int
usernet(char *arg, char *why, size_t n)
{
	flows_print(put);
	forward_print(put);
	return 0;
}

static int
leases(char *arg, char *why, size_t n)
{
	lease_print(put);
	return 0;
}

static int
stat_cmd(char *arg, char *why, size_t n)
{
	const struct { const char *name; uint64_t v; } t[] = {
		{ "frames-in", cf.wire->rxp }, { "bytes-in", cf.wire->rxb },
		{ "frames-out", cf.wire->txp }, { "bytes-out", cf.wire->txb },
		{ "frames-dropped", cf.wire->drop }, { "bad", st.bad },
		{ "tcp", tcp_count() }, { "tcp-opened", st.tcp_open },
		{ "tcp-refused", st.tcp_refused }, { "tcp-full", st.tcp_full },
		{ "tcp-evicted", st.tcp_evicted }, { "tcp-lost", st.tcp_lost },
		{ "tcp-retransmits", st.tcp_rexmit }, { "udp", udp_count() },
		{ "udp-opened", st.udp_open }, { "udp-full", st.udp_full },
		{ "icmp-opened", st.icmp_open }, { "arp", st.arp },
		{ "dhcp", st.dhcp }, { "dns-own", st.dns_own },
		{ "reassembled", st.frag }, { "tftp", st.tftp },
	};
	char line[80];

	for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
		snprintf(line, sizeof line, "%s %llu", t[i].name,
		    (unsigned long long)t[i].v);
		put(line);
	}
	return 0;
}

static int
fwd_add(char *arg, char *why, size_t n)
{
	if (forward_add(arg, false, why, n) < 0)
		return -1;
	keep_save();
	return 0;
}

static int
fwd_remove(char *arg, char *why, size_t n)
{
	if (forward_remove(arg, why, n) < 0)
		return -1;
	keep_save();
	return 0;
}

static int
quit(char *arg, char *why, size_t n)
{
	loop_quit = true;
	return 0;
}

static int help(char *arg, char *why, size_t n);

static const struct cmd {
	const char *name, *syntax, *help;
	int	(*fn)(char *arg, char *why, size_t n);
} cmds[] = {
	{ "help", "", "this list", help },
	{ "info usernet", "", "connections and forwards", usernet },
	{ "info leases", "", "addresses given", leases },
	{ "stat", "", "counters", stat_cmd },
	{ "hostfwd_add", "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
	    "forward a host port to a guest", fwd_add },
	{ "hostfwd_remove", "[tcp|udp]:[hostaddr]:hostport", "and no more",
	    fwd_remove },
	{ "quit", "", "end", quit },
};
#define NCMD (sizeof cmds / sizeof *cmds)

static int
help(char *arg, char *why, size_t n)
{
	char line[200];

	for (unsigned i = 0; i < NCMD; i++) {
		snprintf(line, sizeof line, "%-16s %s -- %s", cmds[i].name,
		    cmds[i].syntax, cmds[i].help);
		put(line);
	}
	return 0;
}

/* 0 or errno, with the reason in why. */
static int
command(char *s, char *why, size_t len)
{
	unsigned i;
	size_t n;

	*why = 0;
	for (i = 0; i < NCMD; i++) {
		n = strlen(cmds[i].name);
		if (strncmp(s, cmds[i].name, n) || (s[n] && s[n] != ' '))
			continue;
		s += n;
		while (*s == ' ')
			s++;
		errno = EINVAL;
		return cmds[i].fn(s, why, len) == 0 ? 0 : errno;
	}
	snprintf(why, len, "no such command");
	return ENOSYS;
}

int
control_ask(char *question, FILE *out)
{
	char why[256];
	int e;

	text = out;
	e = command(question, why, sizeof why);
	text = NULL;
	if (e)
		fprintf(out, "%s", why);
	return e;
}

static void
line(char *s)
{
	char why[256], out[320];
	int e;

	s[strcspn(s, "\r\n")] = 0;
	if (!*s)
		return;
	e = command(s, why, sizeof why);
	if (e)
		snprintf(out, sizeof out, "err %d %s", e, why);
	put(e ? out : "ok");
}

static void
ctl_rx(struct ev *ev, uint32_t events)
{
	struct ctl *c = ev->arg;
	ssize_t n = recv(ev->fd, c->buf + c->n, sizeof c->buf - 1 - c->n,
	    MSG_DONTWAIT);
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		goto gone;
	c->n += n;
	c->buf[c->n] = 0;
	now = c;
	while ((nl = memchr(c->buf, '\n', c->n))) {
		*nl++ = 0;
		line(c->buf);
		c->n -= nl - c->buf;
		memmove(c->buf, nl, c->n);
	}
	if (c->n < sizeof c->buf - 1)
		return;
gone:
	ev_del(ev);
	close(ev->fd);
	ev->fd = -1;
	c->n = 0;
}

static void
ctl_accept(struct ev *ev, uint32_t events)
{
	struct ctl *c;
	int fd = accept4(ev->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (c = ctls; c < ctls + NCTL && c->ev.fd >= 0; c++)
		;
	if (c == ctls + NCTL) {
		close(fd);
		return;
	}
	c->n = 0;
	c->ev = (struct ev){ fd, ctl_rx, c };
	ev_add(&c->ev, EPOLLIN);
}

int
control_open(const char *path, char *why, size_t n)
{
	int fd = unix_listen(path, SOCK_STREAM, why, n);

	for (unsigned i = 0; i < NCTL; i++)
		ctls[i].ev.fd = -1;
	if (fd < 0)
		return -1;
	lis = (struct ev){ fd, ctl_accept, NULL };
	return ev_add(&lis, EPOLLIN);
}
