/*
 * vm-switch.c - an Ethernet switch with vde_switch's options.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include "switch.h"

enum { O_MACADDR = 256, O_PRIORITY, O_HASHSIZE, O_DIRMODE, O_MGMTMODE,
	O_MGMTGROUP, O_CAPTURE };

static unsigned hashsize = 128, prio = 0x8000;

static const struct option longopts[] = {
	{ "help", 0, NULL, 'h' }, { "version", 0, NULL, 'v' },
	{ "numports", 1, NULL, 'n' }, { "hub", 0, NULL, 'x' },
	{ "fstp", 0, NULL, 'F' }, { "macaddr", 1, NULL, O_MACADDR },
	{ "priority", 1, NULL, O_PRIORITY },
	{ "hashsize", 1, NULL, O_HASHSIZE }, { "sock", 1, NULL, 's' },
	{ "vdesock", 1, NULL, 's' }, { "unix", 1, NULL, 's' },
	{ "mode", 1, NULL, 'm' }, { "mod", 1, NULL, 'm' },
	{ "dirmode", 1, NULL, O_DIRMODE }, { "group", 1, NULL, 'g' },
	{ "daemon", 0, NULL, 'd' }, { "pidfile", 1, NULL, 'p' },
	{ "rcfile", 1, NULL, 'f' }, { "mgmt", 1, NULL, 'M' },
	{ "mgmtmode", 1, NULL, O_MGMTMODE },
	{ "mgmtgroup", 1, NULL, O_MGMTGROUP },
	{ "debugclients", 1, NULL, 'D' }, { "tap", 1, NULL, 't' },
	{ "port", 1, NULL, 'P' }, { "capture", 1, NULL, O_CAPTURE },
	{ NULL }
};

static void
on(int sig)
{
	loop_quit = true;
}

static void
kind(const char *k, const char *syntax)
{
	printf("      %s\n", syntax);
}

static void
help(void)
{
	printf("usage: vm-switch [options]\n"
"  -h, --help               this text\n"
"  -v, --version            the version\n"
"  -n, --numports N         number of ports (32)\n"
"  -x, --hub                a hub, not a switch\n"
"  -F, --fstp               fast spanning tree\n"
"      --macaddr MAC        the switch's own address\n"
"      --priority N         its spanning tree priority (32768)\n"
"      --hashsize N         size of the address table (128)\n"
"  -s, --sock DIR           socket directory (/tmp/vde.ctl, or\n"
"                           /var/run/vde.ctl for root)\n"
"  -m, --mode MODE          mode of the sockets (octal)\n"
"      --dirmode MODE       mode of the directory (octal)\n"
"  -g, --group GROUP        group of both\n"
"  -d, --daemon             go to the background when ready\n"
"  -p, --pidfile FILE       write the process number there\n"
"  -f, --rcfile FILE        commands to run at the start\n"
"  -M, --mgmt SOCK          management socket\n"
"      --mgmtmode MODE      its mode (octal)\n"
"      --mgmtgroup GROUP    its group\n"
"  -D, --debugclients N     accepted, without effect\n"
"  -t, --tap TAP            plug in a tap interface (or several: a,b)\n"
"  -P, --port WIRE          plug in a wire:\n");
	wire_kinds(kind);
	printf("      --capture FILE       write all frames to FILE as pcap "
	    "(- stdout)\n");
	exit(0);
}

static unsigned
num(const char *what, const char *s, int base, unsigned long lo,
    unsigned long hi)
{
	char *end;
	unsigned long v = strtoul(s, &end, base);

	if (!*s || *end || v < lo || v > hi)
		errx(1, "%s: %s: not a number from %lu to %lu", what, s, lo,
		    hi);
	return v;
}

static gid_t
group(const char *s)
{
	struct group *g = getgrnam(s);

	if (!g)
		errx(1, "%s: no such group", s);
	return g->gr_gid;
}

static void
new_mac(const char *s)
{
	unsigned m[6], i;

	if (s) {
		if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x", &m[0], &m[1], &m[2],
		    &m[3], &m[4], &m[5]) != 6 || m[0] & 1)
			errx(1, "macaddr: %s: not a station's address", s);
		for (i = 0; i < 6; i++)
			sw.mac[i] = m[i];
		return;
	}
	sw.mac[0] = 0;
	sw.mac[1] = 0xff;
	if (getrandom(sw.mac + 2, 4, 0) != 4)
		err(1, "getrandom");
}

void
switch_init(unsigned ports, bool hub)
{
	struct rlimit rl;

	sw.numports = ports;
	sw.hub = hub;
	sw.prio = prio;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	signal(SIGPIPE, SIG_IGN);
	loop_init();
	sw.started = loop_now;
	if (fdb_size(hashsize) || vlan_create(0))
		errx(1, "out of memory");
	stp_start();
}

int
main(int argc, char **argv)
{
	const char *sock = NULL, *mgmt = NULL, *pidfile = NULL, *rc = NULL,
	    *capture = NULL, *mac = NULL, *specs[64];
	unsigned mode = 0600, dirmode = 0, mgmtmode = 0600, numports = 32, i;
	unsigned nspec = 0;
	bool daemonize = false, modeset = false, fstp = false, hub = false;
	gid_t gid = -1, mgid = -1;
	struct session boot = { .outfd = 2, .rc = true };
	static char why[300], buf[300], taps[16][40];
	unsigned ntap = 0;
	char *s, *t;
	int c, e;

	if (argc > 2 && !strcmp(argv[1], "--part"))
		return part_main(argv + 3);
	while ((c = getopt_long_only(argc, argv,
	    "hvn:xFs:m:g:dp:f:M:D:t:P:", longopts, NULL)) != -1)
		switch (c) {
		case 'h':
			help();
			break;
		case 'v':
			printf("vm-switch (VDE 2.3.2 compatible)\n");
			return 0;
		case 'n':
			numports = num("numports", optarg, 10, 1,
			    PORT_MAX_NUM - 1);
			break;
		case 'x':
			hub = true;
			break;
		case 'F':
			fstp = true;
			break;
		case 's':
			sock = optarg;
			break;
		case 'm':
			mode = num("mode", optarg, 8, 0, 0777);
			modeset = true;
			break;
		case 'g':
			gid = group(optarg);
			break;
		case 'd':
			daemonize = true;
			break;
		case 'p':
			pidfile = optarg;
			break;
		case 'f':
			rc = optarg;
			break;
		case 'M':
			mgmt = optarg;
			break;
		case 'D':
			break;
		case 't':
			s = strdup(optarg);
			while ((t = strsep(&s, ",")))
				if (*t && ntap < 16 && nspec < 64) {
					snprintf(taps[ntap], sizeof *taps,
					    "tap:%.30s", t);
					specs[nspec++] = taps[ntap++];
				}
			break;
		case 'P':
			if (nspec == 64)
				errx(1, "more than 64 wires");
			specs[nspec++] = optarg;
			break;
		case O_MACADDR:
			mac = optarg;
			break;
		case O_PRIORITY:
			prio = num("priority", optarg, 10, 0, 65535);
			break;
		case O_HASHSIZE:
			hashsize = num("hashsize", optarg, 10, 1, 1 << 20);
			break;
		case O_DIRMODE:
			dirmode = num("dirmode", optarg, 8, 0, 07777);
			break;
		case O_MGMTMODE:
			mgmtmode = num("mgmtmode", optarg, 8, 0, 0777);
			break;
		case O_MGMTGROUP:
			mgid = group(optarg);
			break;
		case O_CAPTURE:
			capture = optarg;
			break;
		default:
			return 1;
		}
	if (optind != argc)
		errx(1, "%s: no such argument", argv[optind]);
	if (gid != (gid_t)-1 && !modeset)
		mode = 0660;
	if (!dirmode)		/* search where reading is allowed */
		dirmode = 02700 | (mode & 070 ? 070 : 0) | (mode & 07 ? 07 :
		    0);
	new_mac(mac);
	signal(SIGTERM, on);
	signal(SIGINT, on);
	signal(SIGHUP, on);
	switch_init(numports, hub);
	command_add(ds_cmds);
	command_add(base_cmds);
	command_add(fdb_cmds);
	command_add(stp_cmds);
	command_add(port_cmds);
	command_add(vlan_cmds);
	stp_enable(fstp);
	if (!sock)
		sock = geteuid() ? "/tmp/vde.ctl" : "/var/run/vde.ctl";
	if (vdesock_open(sock, mode, dirmode, gid, why, sizeof why) < 0)
		errx(1, "%s: %s", sock, why);
	if (mgmt && console_mgmt(mgmt, mgmtmode, mgid, why, sizeof why) < 0) {
		vdesock_close();
		errx(1, "%s: %s", mgmt, why);
	}
	for (i = 0; i < nspec; i++)
		if (port_open(specs[i], why, sizeof why) < 0) {
			vdesock_close();
			console_close();
			errx(1, "%s", why);
		}
	if (capture) {
		snprintf(buf, sizeof buf, "pcap:%.250s", capture);
		sw.capture = wire_open(buf, NULL, NULL, why, sizeof why);
		if (!sw.capture)
			errx(1, "%s", why);
	}
	if (rc) {
		e = command_load(&boot, rc);
		if (e)
			errx(1, "%s: %s", rc, strerror(e));
	} else {
		s = getenv("HOME");
		snprintf(buf, sizeof buf, "%.250s/.vderc", s ? s : "");
		if (command_load(&boot, buf))
			command_load(&boot, "/etc/vde2/vde_switch.rc");
	}
	if (daemonize && daemon(1, 0) < 0)
		err(1, "daemon");
	if (pidfile) {
		FILE *f = fopen(pidfile, "we");

		if (!f || fprintf(f, "%d\n", getpid()) < 0 || fclose(f))
			err(1, "%s", pidfile);
	}
	if (!daemonize && !(capture && !strcmp(capture, "-")))
		console_stdin();
	loop_main();
	vdesock_close();
	console_close();
	if (sw.capture)
		wire_close(sw.capture);
	if (pidfile)
		unlink(pidfile);
	return 0;
}
