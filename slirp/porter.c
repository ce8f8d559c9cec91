/*
 * porter.c - the part of vm-slirp that stays outside of its sandbox: a child
 * forked before it, which does for it what a path or another program is needed
 * for, and no more than that:
 *
 *	run N		starts the command of guestfwd number N, as given at the
 *			start; its standard input and output
 *	resolver	/etc/resolv.conf, to be read
 *	listen TYPE PATH	a socket bound there, as unix_listen() makes one
 *	unlink PATH	which must have been made so, or owned
 *
 * A request is a control line (bus/bus.h), its answer `ok' with a descriptor or
 * `err ERRNO'.  When the network ends, however that comes, the porter removes
 * what it made and owns in the file system, and ends.
 */
#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../bus/bus.h"
#include "slirp.h"

#define NOWNED	128
#define REQUEST	1024

static int sock = -1;			/* to the porter, or to the network */

static struct owned {
	char	path[108];
	dev_t	dev;
	ino_t	ino;
} owned[NOWNED];

/* ------------------------------------------------------------- in the porter */

void
porter_own(const char *path)
{
	struct owned *o;
	struct stat sb;

	for (o = owned; o < owned + NOWNED && *o->path; o++)
		if (!strcmp(o->path, path))
			break;
	if (o == owned + NOWNED || strlen(path) >= sizeof o->path ||
	    lstat(path, &sb) < 0)
		return;
	strcpy(o->path, path);
	o->dev = sb.st_dev;
	o->ino = sb.st_ino;
}

static int
disown(struct owned *o)
{
	struct stat sb;
	int r = -1;

	errno = ENOENT;
	if (lstat(o->path, &sb) == 0 && sb.st_dev == o->dev &&
	    sb.st_ino == o->ino)
		r = unlink(o->path);
	*o->path = 0;
	return r;
}

/* As socketpair(), of loopback's TCP: smbd wants to know its peer's address. */
static int
inet_pair(int sv[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, us, peer;
	socklen_t n = sizeof a, k = sizeof us, l = sizeof peer;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sv[0] = sv[1] = -1;
	if (fd >= 0 && bind(fd, (void *)&a, n) == 0 && listen(fd, 1) == 0 &&
	    getsockname(fd, (void *)&a, &n) == 0 &&
	    (sv[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0 &&
	    connect(sv[0], (void *)&a, n) == 0)
		sv[1] = accept4(fd, (void *)&peer, &l, SOCK_CLOEXEC);
	/* somebody else may have been quicker */
	if (sv[1] >= 0 && (getsockname(sv[0], (void *)&us, &k) < 0 ||
	    us.sin_port != peer.sin_port)) {
		close(sv[1]);
		sv[1] = -1;
	}
	if (fd >= 0)
		close(fd);
	if (sv[1] < 0 && sv[0] >= 0)
		close(sv[0]);
	return sv[1] < 0 ? -1 : 0;
}

static int
run(const char *cmd, bool inet)
{
	char *argv[] = { "/bin/sh", "-c", (char *)cmd, NULL };
	int sv[2], e;
	pid_t pid;

	if (!cmd) {
		errno = ENOENT;
		return -1;
	}
	if (inet ? inet_pair(sv) < 0 : socketpair(AF_UNIX, SOCK_STREAM |
	    SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	e = spawn(argv, sv[1], sv[1], -1, &pid);
	close(sv[1]);
	if (e) {
		close(sv[0]);
		errno = e;
		return -1;
	}
	return sv[0];
}

/* A descriptor for the answer, -2 for one without, or -1 with errno. */
static int
serve(char **argv)
{
	struct owned *o;
	const char *cmd;
	char why[80];
	bool inet = false;
	int fd;

	if (!strcmp(argv[0], "run")) {
		cmd = guestfwd_command(atoi(argv[1]), &inet);
		return run(cmd, inet);
	}
	if (!strcmp(argv[0], "resolver"))
		return open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC);
	if (!strcmp(argv[0], "listen")) {
		fd = unix_listen(argv[2], atoi(argv[1]), why, sizeof why);
		if (fd >= 0)
			porter_own(argv[2]);
		return fd;
	}
	for (o = owned; o < owned + NOWNED; o++)
		if (*o->path && !strcmp(o->path, argv[1]))
			return disown(o) < 0 ? -1 : -2;
	errno = ENOENT;
	return -1;
}

static void
porter(void)
{
	char line[REQUEST], *argv[8];
	struct owned *o;
	ssize_t n;
	int nfd, fd;

	for (;;) {
		nfd = 0;
		n = line_recv(sock, line, sizeof line, NULL, &nfd);
		if (n <= 0)
			break;
		fd = -1;
		errno = EINVAL;
		if (line_split(line, argv, 8) >= 1 && argv[0] &&
		    (!strcmp(argv[0], "resolver") || (argv[1] &&
		    (strcmp(argv[0], "listen") || argv[2]))))
			fd = serve(argv);
		if (fd == -1)
			line_send(sock, NULL, 0, "err %d", errno);
		else
			line_send(sock, &fd, fd >= 0, "ok");
		if (fd >= 0)
			close(fd);
	}
	for (o = owned; o < owned + NOWNED; o++)
		if (*o->path)
			disown(o);
	smb_end();
	_exit(0);
}

/* ------------------------------------------------------------ in the network */

/* As serve(). */
static int
ask(const char *verb, const char *a, const char *b)
{
	char line[REQUEST] = "";
	int fd = -1, nfd = 1, e = EIO;
	FILE *f = fmemopen(line, sizeof line, "w");

	if (!f)
		return -1;
	fputs(verb, f);
	if (a)
		fputc(' ', f), line_quote(f, a);
	if (b)
		fputc(' ', f), line_quote(f, b);
	if (fclose(f) != 0 || line_send(sock, NULL, 0, "%s", line) < 0 ||
	    line_recv(sock, line, sizeof line, &fd, &nfd) <= 0) {
		errno = EIO;
		return -1;
	}
	if (!strcmp(line, "ok"))
		return nfd == 1 ? fd : -2;
	sscanf(line, "err %d", &e);
	errno = e;
	return -1;
}

int
porter_run(unsigned n)
{
	char num[16];
	int fd;

	snprintf(num, sizeof num, "%u", n);
	fd = ask("run", num, NULL);
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd < 0 ? -1 : fd;
}

int
porter_resolver(void)
{
	return ask("resolver", NULL, NULL);
}

static int
ask_listen(const char *path, int type, char *why, size_t n)
{
	char num[16];
	int fd;

	snprintf(num, sizeof num, "%d", type);
	fd = ask("listen", num, path);
	if (fd < 0)
		snprintf(why, n, "%s", strerror(errno));
	return fd;
}

static void
ask_unlink(const char *path)
{
	ask("unlink", path, NULL);
}

int
porter_start(void)
{
	int sv[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid == 0) {
		/* it ends when the network does, not before */
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		dup3(sv[1], 3, O_CLOEXEC);
		closefrom(4);
		sock = 3;
		setproctitle("porter");
		porter();
	}
	close(sv[1]);
	sock = sv[0];
	smb_leave();
	wire_paths(ask_listen, ask_unlink);
	return 0;
}

void
porter_end(void)
{
	char c;

	if (sock < 0)
		return;
	shutdown(sock, SHUT_WR);
	while (read(sock, &c, 1) < 0 && errno == EINTR)
		;
}
