/*
 * vm-plug.c - a cable between any two wires, which may be a bad one.
 *
 * Frames of A go out at B and the other way round; each direction has its
 * filter.  With one wire the other end is stdin/stdout in vde_plug's framing,
 * so dpipe and ssh work as they do with it.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>
#include "filter.h"

static struct wire *end[2], *capture;
static struct filter *dir[2];		/* LR: 0 to 1; RL: 1 to 0 */
static int64_t closing;

static void
kind(const char *k, const char *syntax)
{
	fprintf(stderr, "  %s\n", syntax);
}

static void
usage(void)
{
	fprintf(stderr, "usage: vm-plug [-d] [-p pidfile] [-M control-socket] "
	    "[-c capture]\n    [-s seed] [-f [LR:|RL:]setting=value]... "
	    "[wire] wire\nsettings: loss lostburst dup reorder delay "
	    "bandwidth noise mtu chanbufsize fifo\nwires:\n");
	wire_kinds(kind);
	exit(2);
}

static void
on(int sig)
{
	loop_quit = true;
}

static void
rx(void *arg, struct wire *w, struct frame *f, unsigned n)
{
	unsigned side = w == end[1];

	if (capture)
		for (unsigned i = 0; i < n; i++)
			wire_put(capture, f[i].p, f[i].len);
	filter_in(dir[side], f, n);
}

static void
gone(void *arg, struct wire *w)
{
	if (!w->retry.slot)	/* what is under way still arrives */
		closing = loop_now + SEC;
}

/* "LR:loss=3" or "loss=3"; message or NULL. */
static const char *
setting(char *s, char *val)
{
	int which = 3, e = 0;

	if (!strncmp(s, "LR:", 3) || !strncmp(s, "RL:", 3)) {
		which = *s == 'L' ? 1 : 2;
		s += 3;
	} else if (!strncmp(val, "LR", 2) || !strncmp(val, "RL", 2)) {
		which = *val == 'L' ? 1 : 2;	/* wirefilter's way */
		val += 2;
	}
	for (int i = 0; i < 2; i++)
		if (which & 1 << i)
			e |= filter_set(filter_settings(dir[i]), s, val);
	return !e ? NULL : e == -1 ? "no such setting" : "bad value";
}

/* ----------------------------------------------------------------- control
 * As wirefilter: a prompt, commands "NAME VALUE", replies "1000 Success" or
 * "1022 ..." as VDE's. */

#define NSESS 8
static struct sess { struct ev ev; char buf[512]; unsigned n; } ses[NSESS];
static struct ev lis = { .fd = -1 };

static void
command(char *line, FILE *out)
{
	char *name = strtok(line, " \t\r\n"), *val = strtok(NULL, "\r\n");
	const char *why;

	if (!name)
		return;
	if (!strcmp(name, "showinfo")) {
		fprintf(out, "0000 DATA END WITH '.'\n");
		for (int i = 0; i < 2; i++) {
			fprintf(out, "%s\n", i ? "RL" : "LR");
			filter_show(filter_settings(dir[i]), out);
			filter_stat(dir[i], out);
		}
		fprintf(out, ".\n1000 Success\n");
	} else if (!strcmp(name, "help")) {
		fprintf(out, "0000 DATA END WITH '.'\nloss dup reorder noise "
		    "[LR|RL]N\nlostburst delay bandwidth mtu chanbufsize fifo "
		    "[LR|RL]N\ndelay N+M[U|N]\nshowinfo logout shutdown\n.\n"
		    "1000 Success\n");
	} else if (!strcmp(name, "shutdown")) {
		loop_quit = true;
		fprintf(out, "1000 Success\n");
	} else if (!val) {
		fprintf(out, "1%03d %s\n", ENOSYS, strerror(ENOSYS));
	} else {
		why = setting(name, val + strspn(val, " \t"));
		if (!why)
			fprintf(out, "1000 Success\n");
		else
			fprintf(out, "1%03d %s\n", *why == 'n' ? ENOSYS :
			    EINVAL, why);
	}
}

static void
ses_rx(struct ev *ev, uint32_t events)
{
	struct sess *s = ev->arg;
	ssize_t n = recv(ev->fd, s->buf + s->n, sizeof s->buf - 1 - s->n,
	    MSG_DONTWAIT);
	char *nl, *text;
	size_t len;
	FILE *out;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		s->n += n;
	while (n > 0 && (nl = memchr(s->buf, '\n', s->n))) {
		*nl++ = 0;
		if (!strncmp(s->buf, "logout", 6)) {
			n = 0;
			break;
		}
		out = open_memstream(&text, &len);
		if (!out)
			break;
		command(s->buf, out);
		fprintf(out, "\nVDEwf$ ");
		fclose(out);
		send(ev->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		free(text);
		s->n -= nl - s->buf;
		memmove(s->buf, nl, s->n);
	}
	if (n <= 0 || s->n == sizeof s->buf - 1) {
		ev_del(ev);
		close(ev->fd);
		ev->fd = -1;
	}
}

static void
incoming(struct ev *ev, uint32_t events)
{
	int fd = accept4(ev->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct sess *s;

	for (s = ses; s < ses + NSESS && s->ev.fd >= 0; s++)
		;
	if (fd < 0)
		return;
	if (s == ses + NSESS) {
		close(fd);
		return;
	}
	s->n = 0;
	s->ev = (struct ev){ fd, ses_rx, s };
	ev_add(&s->ev, EPOLLIN);
	send(fd, "VDE wirefilter (compatible: vm-plug)\n\nVDEwf$ ", 46,
	    MSG_DONTWAIT | MSG_NOSIGNAL);
}

int
main(int argc, char **argv)
{
	static char why[300], buf[300];
	const char *ctl = NULL, *pidfile = NULL, *spec[2], *m;
	char *sets[64], *p;
	unsigned nsets = 0, i;
	bool daemonize = false;
	uint64_t seed;
	int c;

	if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
		seed = 1;
	loop_init();
	while ((c = getopt(argc, argv, "dp:M:c:s:f:")) != -1)
		switch (c) {
		case 'd':
			daemonize = true;
			break;
		case 'p':
			pidfile = optarg;
			break;
		case 'M':
			ctl = optarg;
			break;
		case 'c':
			snprintf(buf, sizeof buf, "pcap:%.250s", optarg);
			capture = wire_open(buf, NULL, NULL, why, sizeof why);
			if (!capture)
				errx(1, "%s", why);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			if (nsets == 64 || !strchr(optarg, '='))
				usage();
			sets[nsets++] = optarg;
			break;
		default:
			usage();
		}
	argv += optind;
	if (argc - optind < 1 || argc - optind > 2)
		usage();
	spec[0] = argc - optind == 2 ? argv[0] : "stdio";
	spec[1] = argc - optind == 2 ? argv[1] : argv[0];
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, on);
	signal(SIGINT, on);
	signal(SIGHUP, on);
	for (i = 0; i < 2; i++) {
		end[i] = wire_open(spec[i], rx, NULL, why, sizeof why);
		if (!end[i])
			errx(1, "%s", why);
		end[i]->gone = gone;
	}
	for (i = 0; i < 2; i++) {
		dir[i] = filter_new(end[1 - i], seed + i);
		if (!dir[i])
			errx(1, "out of memory");
	}
	for (i = 0; i < nsets; i++) {
		p = strchr(sets[i], '=');
		*p++ = 0;
		m = setting(sets[i], p);
		if (m)
			errx(2, "%s=%s: %s", sets[i], p, m);
	}
	for (i = 0; i < NSESS; i++)
		ses[i].ev.fd = -1;
	if (ctl) {
		int fd = unix_listen(ctl, SOCK_STREAM, why, sizeof why);

		if (fd < 0)
			errx(1, "%s: %s", ctl, why);
		lis = (struct ev){ fd, incoming, NULL };
		ev_add(&lis, EPOLLIN);
	}
	if (daemonize && daemon(1, 0) < 0)
		err(1, "daemon");
	if (pidfile) {
		FILE *f = fopen(pidfile, "we");

		if (!f || fprintf(f, "%d\n", getpid()) < 0 || fclose(f))
			err(1, "%s", pidfile);
	}
	while (!loop_quit && loop_step(closing ? 10 * MSEC : -1) == 0) {
		wire_flush_all();
		if (closing && (loop_now > closing || (filter_idle(dir[0]) &&
		    filter_idle(dir[1]) && !wire_busy(end[0]) &&
		    !wire_busy(end[1]))))
			break;
	}
	wire_close(end[0]);
	wire_close(end[1]);
	if (capture)
		wire_close(capture);
	if (ctl)
		unlink(ctl);
	if (pidfile)
		unlink(pidfile);
	return 0;
}
