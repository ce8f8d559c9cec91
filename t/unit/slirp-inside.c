/* links: slirp */
/*
 * slirp-inside: vm-slirp in one process with its guests, its peers and a clock that
 * can be put forward, in a network of its own.
 *
 *	slirp-inside rules		what must be; prints ok
 *	slirp-inside frames SEED N	N events, most of them a guest's
 *	slirp-inside peers SEED N	most of them of those the guests talk to
 *	slirp-inside day SEED HOURS	stations that come, ask, connect and go
 *
 * Guests have a little TCP (slirp-guest.h), so that damaged segments come in all
 * states of a connection.  All that vm-slirp sends is checked; in the end all is
 * quiet, and nothing may be left: no connection, no descriptor, no memory.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "slirp/slirp.h"
#include "slirp/tcp.h"
#include "slirp-gen.h"
#include "slirp-guest.h"

static const char *dir;		/* what TFTP serves */
static uint64_t events;

/* ------------------------------------------------------------------ the host */

static void
network(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int s;

	if (unshare(CLONE_NEWNET) < 0 &&
	    unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		err(77, "no network of its own");
	s = socket(AF_INET, SOCK_DGRAM, 0);
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		err(77, "lo");
	close(s);
}

static int
bound(int type, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (void *)&a, sizeof a) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 64) < 0))
		err(77, "port %u", port);
	return fd;
}

static int web[2], dns, echo;
#define NPEER 48
static int peer[NPEER];

static void
hang_up(int *fd)
{
	struct linger l = { 1, 0 };

	if (*fd < 0)
		return;
	if (r(3) == 0)
		setsockopt(*fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(*fd);
	*fd = -1;
}

/* Somebody takes a connection, or makes one to a forward. */
static void
peer_new(int *p)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
	    .sin_port = htons(2001 + r(2)),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	if (r(4)) {
		*p = accept4(web[r(2)], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		return;
	}
	*p = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*p >= 0 && connect(*p, (void *)&a, sizeof a) < 0 &&
	    errno != EINPROGRESS)
		hang_up(p);
}

static void
noise(uint8_t *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		b[i] = r(256);
}

/* Answers to what came by UDP: any, wrong, or none. */
static void
answers(int fd)
{
	static uint8_t b[70000];
	struct sockaddr_storage ss;
	socklen_t sl = sizeof ss;
	ssize_t n = recvfrom(fd, b, sizeof b, MSG_DONTWAIT, (void *)&ss, &sl);
	unsigned i;

	if (n < 0 || r(5) == 0)
		return;
	if (r(2) && n > 3)
		b[2] |= 0x80;		/* a DNS response */
	for (i = r(4); i && n; i--)
		b[r(n)] = r(256);
	if (r(3) == 0) {
		n = r(r(8) ? 1600 : 65000);
		noise(b, n < 64 ? n : 64);
	}
	for (i = r(3); i < 3; i++)
		sendto(fd, b, n, MSG_DONTWAIT | MSG_NOSIGNAL, (void *)&ss, sl);
}

static void
ask(void)
{
	static const char *const words[] = { "info usernet", "info leases",
	    "stat", "hostfwd_add tcp:127.0.0.1:2003-:80", "help",
	    "hostfwd_add udp:127.0.0.1:2004-10.0.2.15:9", "hostfwd_add ",
	    "hostfwd_remove tcp:127.0.0.1:2003", "hostfwd_add tcp::99999-:x",
	    "hostfwd_remove udp:127.0.0.1:2004", "hostfwd_add unix:/none/a-:80",
	    "" };
	char line[200], undo[220];
	FILE *f = fopen("/dev/null", "w");
	bool wrong;
	size_t n;

	snprintf(line, sizeof line, "%s", words[r(sizeof words /
	    sizeof *words)]);
	n = strlen(line);
	wrong = n && r(3) == 0;
	if (wrong)
		line[r(n)] = 1 + r(255);
	snprintf(undo, sizeof undo, "hostfwd_remove%s", line + 11);
	undo[strcspn(undo, "-")] = 0;
	if (f && strncmp(line, "quit", 4) && control_ask(line, f) == 0 &&
	    !strncmp(line, "hostfwd_add", 11) && (wrong || r(2)))
		control_ask(undo, f);
	if (f)
		fclose(f);
}

static void
peer_event(void)
{
	static uint8_t b[65536];
	int *p = &peer[r(NPEER)];

	switch (r(9)) {
	case 0:
		answers(dns);
		return;
	case 1:
		answers(echo);
		return;
	case 2:
		if (r(10) == 0)
			ask();
		return;
	}
	if (*p < 0) {
		peer_new(p);
		return;
	}
	switch (r(8)) {
	case 0: case 1: case 2:
		send(*p, b, 1 + r(r(4) ? 3000 : sizeof b), MSG_DONTWAIT |
		    MSG_NOSIGNAL);
		break;
	case 3: case 4: case 5:
		recv(*p, b, 1 + r(sizeof b), MSG_DONTWAIT);
		break;
	case 6:
		shutdown(*p, r(3));
		break;
	case 7:
		hang_up(p);
		break;
	}
}

/* ------------------------------------------------------------------- the run */

static void
round_(int64_t ns)
{
	loop_ahead += ns;
	if (loop_step(0) < 0)
		err(1, "loop");
	tcp_wake();
	wire_flush_all();
}

static unsigned
descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static size_t
heap(void)
{
	return mallinfo2().uordblks;
}

static void
begin(const char *flows)
{
	static const char *const options[] = { "hostfwd=tcp:127.0.0.1:2001-:80",
	    "hostfwd=tcp:127.0.0.1:2002-10.0.2.16:22", "domainname=lab.test",
	    "hostfwd=udp:127.0.0.1:2009-:9", "dnssearch=a.test",
	    "guestfwd=tcp:10.0.2.100:99-tcp:127.0.0.1:81", "bootfile=a",
	    "hostname=gate" };
	char o[200], path[300];
	unsigned i;
	int sv[2], fd;

	network();
	signal(SIGPIPE, SIG_IGN);
	dir = "/tmp";
	defaults();
	for (i = 0; i < sizeof options / sizeof *options; i++) {
		snprintf(o, sizeof o, "%s", options[i]);
		option(strdup(o));
	}
	snprintf(path, sizeof path, "%s/slirp-inside.XXXXXX", dir);
	if (mkdtemp(path)) {
		dir = strdup(path);
		strcat(path, "/a");
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		if (fd < 0 || ftruncate(fd, 3000) < 0)
			err(1, "%s", path);
		close(fd);
		snprintf(o, sizeof o, "tftp=%s", dir);
		option(strdup(o));
	}
	snprintf(o, sizeof o, "flows=%s", flows);
	option(o);
	for (i = 0; i < NPEER; i++)
		peer[i] = -1;
	web[0] = bound(SOCK_STREAM, 80);
	web[1] = bound(SOCK_STREAM, 81);
	dns = bound(SOCK_DGRAM, 53);
	echo = bound(SOCK_DGRAM, 9);
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) < 0)
		err(1, "socketpair");
	snprintf(o, sizeof o, "fd:%d", sv[0]);
	start(o, false);
	cf.wire->ops = &guest_wire;
	cf.wire->hdrlen = sizeof(struct vnet_hdr);
}

static void
end(void)
{
	char path[300];

	snprintf(path, sizeof path, "%s/a", dir);
	unlink(path);
	rmdir(dir);
}

/* Everybody goes; what is left after some minutes? */
static void
all_quiet(unsigned fds, unsigned udp)
{
	FILE *f = fopen("/dev/null", "w");
	char rule[] = "hostfwd_remove tcp:127.0.0.1:2003",
	    rule2[] = "hostfwd_remove udp:127.0.0.1:2004";
	unsigned i;

	control_ask(rule, f);
	control_ask(rule2, f);
	fclose(f);
	for (i = 0; i < NPEER; i++)
		hang_up(&peer[i]);
	silent = true;
	for (i = 0; i < 3000; i++) {
		int fd = accept4(web[i & 1], NULL, NULL, SOCK_CLOEXEC);

		hang_up(&fd);
		round_(SEC);
	}
	if (tcp_count() || udp_count() > udp || descriptors() > fds) {
		flows_print(puts_);
		errx(1, "left: %u connections, %u UDP flows (%u at the start), "
		    "%u descriptors (%u)", tcp_count(), udp_count(), udp,
		    descriptors(), fds);
	}
}

static void
report(const char *what)
{
	printf("%s: %llu events, tcp %llu (refused %llu, full %llu, evicted %llu, "
	    "lost %llu, again %llu), udp %llu, dhcp %llu, tftp %llu, "
	    "reassembled %llu, bad %llu; out %llu\n", what,
	    (unsigned long long)events, (unsigned long long)st.tcp_open,
	    (unsigned long long)st.tcp_refused, (unsigned long long)st.tcp_full,
	    (unsigned long long)st.tcp_evicted, (unsigned long long)st.tcp_lost,
	    (unsigned long long)st.tcp_rexmit, (unsigned long long)st.udp_open,
	    (unsigned long long)st.dhcp, (unsigned long long)st.tftp,
	    (unsigned long long)st.frag, (unsigned long long)st.bad,
	    (unsigned long long)guest_got);
}

static void
fuzz(unsigned long n, unsigned of_guests)
{
	unsigned fds, udp;

	begin(seed & 1 ? "64" : "300");
	round_(0);
	fds = descriptors();
	udp = udp_count();
	for (events = 0; events < n; events++) {
		if (r(10) < of_guests)
			guest_event(events);
		else
			peer_event();
		round_(r(1000) ? r(2000000) : r(40) * SEC);
		if (events % 256 == 0 && descriptors() > fds + 64 + 4096 + NPEER)
			errx(1, "%u connections, %u descriptors", tcp_count(),
			    descriptors());
	}
	report(of_guests > 5 ? "frames" : "peers");
	all_quiet(fds, udp);
	end();
}

/* Stations that come and go for hours: a lease, a name, ARP, a query, a web page,
 * sometimes a connection left behind. */
static void
day(unsigned hours)
{
	unsigned h, s, fds = 0, udp, most = 0, base;
	size_t was = 0;

	begin("256");
	round_(0);
	base = descriptors();
	udp = udp_count();
	for (h = 0; h < hours; h++) {
		for (s = 0; s < 3600; s++) {
			unsigned n = s % 64 ? 0 : descriptors();

			station_event(s);
			for (int i = 0; i < 4; i++)
				peer_event();
			round_(SEC);
			if (n > most)
				most = n;
		}
		if (h == 0) {
			was = heap();
			fds = most;
		}
		if (heap() > was + 65536)
			errx(1, "hour %u: %zu bytes allocated, %zu after the "
			    "first", h + 1, heap(), was);
		if (h == 0 || h + 1 == hours || (h + 1) % 6 == 0)
			printf("hour %u: %u connections, %u UDP flows, %u "
			    "descriptors (%u at most), %zu bytes allocated\n",
			    h + 1, tcp_count(), udp_count(), descriptors(),
			    most, heap());
	}
	if (most > base + 256 + NPEER + 400)
		errx(1, "%u descriptors, %u in the first hour", most, fds);
	report("day");
	all_quiet(base, udp);
	end();
}

#include "slirp-rules.h"

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "rules") && argc == 2) {
		seed = 1;
		rules();
		puts("ok");
		return 0;
	}
	if (argc != 4)
		errx(2, "rules | frames SEED N | peers SEED N | day SEED HOURS");
	seed = strtoull(argv[2], NULL, 10);
	if (!strcmp(what, "frames"))
		fuzz(strtoul(argv[3], NULL, 10), 8);
	else if (!strcmp(what, "peers"))
		fuzz(strtoul(argv[3], NULL, 10), 3);
	else if (!strcmp(what, "day"))
		day(strtoul(argv[3], NULL, 10));
	else
		errx(2, "%s: no such thing", what);
	puts("ok");
	return 0;
}
