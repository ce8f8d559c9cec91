/*
 * vm-slirp.c - the user-mode network as a program: options, then one wire, then
 * a sandbox (bus/sandbox.c), which leaves it sockets, the files of tftp=, and what
 * the porter does for it.
 *
 * #syscalls epoll_create1 epoll_ctl epoll_pwait2 epoll_pwait recvmmsg sendmmsg
 * #syscalls socket connect bind listen accept4 shutdown setsockopt getsockopt
 * #syscalls getsockname sendto recvfrom ioctl openat2 socketpair
 */
#include <arpa/inet.h>
#include <bsd/unistd.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/resource.h>
#include "../bus/bus.h"
#include "slirp.h"

static const char *hostfwds[64], *guestfwds[64];
static unsigned nh, ng;
static const char *ctlpath, *pidfile, *leasefile, *userdata, *smb;

static void
usage(void)
{
	fprintf(stderr, "usage: vm-slirp [-d] [-M control-socket] "
	    "[-p pidfile] [-L lease-file] [-o option,...] wire\n"
	    "options: as -netdev user: net= host= dns= dhcpstart= restrict= "
	    "hostname=\n  domainname= dnssearch= tftp= bootfile= "
	    "tftp-server-name= hostfwd= guestfwd=\n  ipv4= ipv6= ipv6-prefix= "
	    "ipv6-host= ipv6-dns= mtu= loopback= flows= user-data= smb= "
	    "smbserver=\n");
	exit(2);
}

static void
on(int sig)
{
	loop_quit = true;
}

static bool
boolean(const char *key, const char *v)
{
	if (!strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "y") || !*v)
		return true;
	if (!strcmp(v, "off") || !strcmp(v, "no") || !strcmp(v, "n"))
		return false;
	errx(2, "%s=%s: on or off", key, v);
}

static unsigned long
number(const char *key, const char *v, unsigned long lo, unsigned long hi)
{
	char *end;
	unsigned long x = strtoul(v, &end, 10);

	if (!*v || *end || x < lo || x > hi)
		errx(2, "%s=%s: a number from %lu to %lu", key, v, lo, hi);
	return x;
}

static uint32_t
quad(const char *key, const char *v)
{
	struct in_addr a;

	if (inet_pton(AF_INET, v, &a) != 1)
		errx(2, "%s=%s: not an IPv4 address", key, v);
	return ntohl(a.s_addr);
}

static uint32_t host_, dns_, start_, smb_;
static ip host6_, dns6_;

static void
six(const char *key, const char *v, ip *a)
{
	if (inet_pton(AF_INET6, v, a) != 1)
		errx(2, "%s=%s: not an IPv6 address", key, v);
}

static void
network(char *v)
{
	char *s = strchr(v, '/');
	unsigned long bits;

	cf.mask = 0xffffff00;
	if (s) {
		*s++ = 0;
		if (strchr(s, '.')) {
			cf.mask = quad("net", s);
		} else {
			bits = number("net", s, 8, 30);
			cf.mask = ~0u << (32 - bits);
		}
	}
	if (~cf.mask & (~cf.mask + 1))
		errx(2, "net: not a network mask");
	cf.net = quad("net", v) & cf.mask;
}

void
option(char *key)
{
	char *v = strchr(key, '=');

	if (v)
		*v++ = 0;
	else
		v = "";
	if (!strcmp(key, "net"))
		network(v);
	else if (!strcmp(key, "host"))
		host_ = quad(key, v);
	else if (!strcmp(key, "dns"))
		dns_ = quad(key, v);
	else if (!strcmp(key, "dhcpstart"))
		start_ = quad(key, v);
	else if (!strcmp(key, "restrict"))
		cf.restricted = boolean(key, v);
	else if (!strcmp(key, "loopback"))
		cf.loopback = boolean(key, v);
	else if (!strcmp(key, "ipv4"))
		cf.v4 = boolean(key, v);
	else if (!strcmp(key, "ipv6"))
		cf.v6 = boolean(key, v);
	else if (!strcmp(key, "ipv6-prefix"))
		six(key, v, &cf.net6);
	else if (!strcmp(key, "ipv6-host"))
		six(key, v, &host6_);
	else if (!strcmp(key, "ipv6-dns"))
		six(key, v, &dns6_);
	else if (!strcmp(key, "hostname"))
		cf.hostname = v;
	else if (!strcmp(key, "domainname"))
		cf.domain = v;
	else if (!strcmp(key, "bootfile"))
		cf.bootfile = v;
	else if (!strcmp(key, "tftp"))
		cf.tftp = v;
	else if (!strcmp(key, "tftp-server-name"))
		cf.tftpname = v;
	else if (!strcmp(key, "smb"))
		smb = v;
	else if (!strcmp(key, "smbserver"))
		smb_ = quad(key, v);
	else if (!strcmp(key, "user-data"))
		userdata = v;
	else if (!strcmp(key, "mtu"))
		cf.mtu = number(key, v, 576, 65520);
	else if (!strcmp(key, "flows"))
		cf.maxflows = number(key, v, 16, 1000000);
	else if (!strcmp(key, "dnssearch") && cf.nsearch < MAX_SEARCH)
		cf.search[cf.nsearch++] = v;
	else if (!strcmp(key, "hostfwd") && nh < 64)
		hostfwds[nh++] = v;
	else if (!strcmp(key, "guestfwd") && ng < 64)
		guestfwds[ng++] = v;
	else
		errx(2, "%s: unknown option, or one too many", key);
}

static void
settle(void)
{
	uint8_t m[6] = { 0x52, 0x55 };

	cf.host = host_ ? host_ : cf.net | 2;
	cf.dns = dns_ ? dns_ : cf.net | 3;
	cf.dhcpstart = start_ ? start_ : cf.net | 15;
	if ((cf.host & cf.mask) != cf.net || (cf.dns & cf.mask) != cf.net ||
	    (cf.dhcpstart & cf.mask) != cf.net || cf.host == cf.dns ||
	    (smb_ && (smb_ & cf.mask) != cf.net))
		errx(2, "host, dns, dhcpstart and smbserver must lie in net, "
		    "host and dns differ");
	cf.host4 = mk4(cf.host);
	cf.dns4 = mk4(cf.dns);
	cf.host6 = cf.dns6 = cf.net6;
	cf.host6.s6_addr[15] = 2;
	cf.dns6.s6_addr[15] = 3;
	if (!IN6_IS_ADDR_UNSPECIFIED(&host6_))
		cf.host6 = host6_;
	if (!IN6_IS_ADDR_UNSPECIFIED(&dns6_))
		cf.dns6 = dns6_;
	put32(m + 2, cf.host);
	memcpy(cf.mac, m, 6);
	put32(m + 2, cf.dns);
	memcpy(cf.dnsmac, m, 6);
}

/* The cable is in again. */
static void
back(void *arg, struct wire *w)
{
	tcp_doubt(NULL);
}

static void
lost(void *arg, struct wire *w)
{
	if (!w->retry.slot)
		loop_quit = true;
}

void
defaults(void)
{
	cf.v4 = cf.v6 = cf.loopback = true;
	cf.mtu = 1500;
	cf.maxflows = 16384;
	cf.net = 0x0a000200;
	cf.mask = 0xffffff00;
	inet_pton(AF_INET6, "fec0::", &cf.net6);
}

void
start(const char *wire, bool revived)
{
	static char why[300];
	struct rlimit rl;
	unsigned i;

	settle();
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	signal(SIGPIPE, SIG_IGN);
	loop_init();
	cf.wire = wire_open(wire, eth_input, NULL, why, sizeof why);
	if (!cf.wire)
		errx(1, "%s", why);
	signal(SIGCHLD, SIG_IGN);	/* the porter, and its commands */
	cf.wire->gone = lost;
	cf.wire->back = back;
	wire_takes(cf.wire, true);
	if (tftp_start() < 0)
		err(1, "tftp=%s", cf.tftp);
	icmp_start();
	ndp_start();
	udp_start();
	tcp_start();
	for (i = 0; i < nh && !revived; i++)
		if (forward_add(hostfwds[i], true, why, sizeof why) < 0)
			errx(1, "hostfwd=%s: %s", hostfwds[i], why);
	for (i = 0; i < ng; i++)
		if (guestfwd_add(guestfwds[i], why, sizeof why) < 0)
			errx(1, "guestfwd=%s: %s", guestfwds[i], why);
	if (userdata) {
		if (seed_start(userdata) < 0)
			err(1, "user-data=%s", userdata);
		guestfwd_own(cf.net | 4, 80, "seed:");
	}
	if (smb)
		smb_start(smb, smb_ ? smb_ : cf.net | 4);
	keep_load();
	keep_save();
}

void
confine(void)
{
	if (porter_start() < 0)
		err(1, "fork");
	if (sandbox_reading("vm-slirp", cf.tftp) < 0)
		err(1, "sandbox");
}

int
main(int argc, char **argv)
{
	static char why[300];
	char *s, *p;
	int c, daemonize = 0;

	setproctitle_init(argc, argv, environ);	/* for the porter's */
	defaults();
	if (argc > 2 && !strcmp(argv[1], "--part"))
		return part_main(argv + 3);
	while ((c = getopt(argc, argv, "dM:p:L:o:")) != -1)
		switch (c) {
		case 'd':
			daemonize = 1;
			break;
		case 'M':
			ctlpath = optarg;
			break;
		case 'p':
			pidfile = optarg;
			break;
		case 'L':
			leasefile = optarg;
			break;
		case 'o':
			s = strdup(optarg);
			while ((p = strsep(&s, ",")))
				if (*p)
					option(p);
			break;
		default:
			usage();
		}
	if (argc - optind != 1)
		usage();
	signal(SIGTERM, on);
	signal(SIGINT, on);
	if (leasefile && keep_file(leasefile) < 0)
		err(1, "%s", leasefile);
	start(argv[optind], false);
	if (ctlpath && control_open(ctlpath, why, sizeof why) < 0)
		errx(1, "%s: %s", ctlpath, why);
	if (daemonize) {
		/* everything is open: readiness is the parent's exit.  The
		 * epoll set and timers survive a fork */
		if (daemon(1, 0) < 0)
			err(1, "daemon");
	}
	if (pidfile) {
		FILE *f = fopen(pidfile, "we");

		if (!f || fprintf(f, "%d\n", getpid()) < 0 || fclose(f))
			err(1, "%s", pidfile);
	}
	porter_own(cf.wire->bound);
	if (ctlpath)
		porter_own(ctlpath);
	if (pidfile)
		porter_own(pidfile);
	confine();
	while (!loop_quit && loop_step(-1) == 0) {
		tcp_wake();
		wire_flush_all();
	}
	wire_close(cf.wire);
	porter_end();
	return 0;
}
