/* links: switch */
/*
 * switch-fuzz SEED N DIR: vm-switch in one process with its stations, its plugs and
 * those who manage it: N events of frames, damaged requests for ports, commands, and
 * a clock that is put forward.  In the end everybody goes, and no descriptor and no
 * port in use may be left.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "switch/switch.h"
#include "switch/vde.h"
#include "slirp-gen.h"

#define NWIRE	6
#define NCLIENT	12

static struct wire *wires[NWIRE];
static struct client { int ctl, data; struct sockaddr_un at; } plugs[NCLIENT];
static int managers[NCLIENT];
static const char *dir;
static uint64_t got, commands, requests;

static int
client(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof un.sun_path, "%s/%s", dir, name);
	if (fd >= 0 && connect(fd, (void *)&un, sizeof un) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* ------------------------------------------------------------------ stations */

/* All that is sent is looked at, byte by byte. */
static void
take(struct wire *w)
{
	static volatile uint8_t sum;
	unsigned i, k, len;

	for (i = 0; i < w->ntx; i++) {
		const struct iovec *v = &w->iov[w->tx[i].first];

		for (len = k = 0; k < w->tx[i].n; k++)
			for (unsigned b = 0; b < v[k].iov_len; b++, len++)
				sum += ((uint8_t *)v[k].iov_base)[b];
		if (len < ETH_HDR || len > FRAME_MAX + 4)
			errx(1, "a frame of %u bytes", len);
		got++;
	}
}

static const struct wire_ops station = { .kind = "station", .flush = take };

static unsigned
frame(uint8_t *f)
{
	unsigned len = r(4) ? 60 + r(100) : 14 + r(1600), i;

	if (r(20) == 0) {
		len = damaged(f, r(1000));
		return len < ETH_HDR ? ETH_HDR : len;
	}
	for (i = 0; i < len; i++)
		f[i] = r(3) ? 0 : r(256);
	memset(f, 0, 12);
	f[0] = r(5) ? 2 : 255;
	f[6] = r(40) ? 2 : 3;
	f[5] = r(40);
	f[11] = r(40);
	if (r(3) == 0 && len >= 18) {
		put16(f + 12, 0x8100);
		put16(f + 14, r(4) ? r(6) : r(65536));
	}
	if (r(6) == 0 && len >= 52) {		/* spanning tree */
		memcpy(f, "\1\x80\xc2\0\0\0", 6);
		i = r(2) ? 12 : 16;
		if (i == 16)
			put16(f + 12, 0x8100);
		put16(f + i, r(8) ? 38 : r(100));
		memcpy(f + i + 2, "\x42\x42\3\0\0", 5);
		f[i + 7] = r(2) ? 0 : 2;
		f[i + 8] = r(2) ? 0 : r(2) ? 2 : 0x80;
		put16(f + i + 10, r(3) ? 0x8000 : r(65536));
	}
	return len;
}

static void
frames(void)
{
	struct frame f[8];
	uint8_t *b;
	struct wire *w = wires[r(NWIRE)];
	unsigned n = 1 + r(8), i;
	static uint8_t buf[4096];

	for (i = 0; i < n; i++) {
		unsigned len = frame(buf);

		b = malloc(len);		/* of its own size */
		memcpy(b, buf, len);
		f[i] = (struct frame){ b, len };
	}
	if (w && w->rx)
		w->rx(w->arg, w, f, n);
	wire_flush_all();
	for (i = 0; i < n; i++)
		free(f[i].p);
}

/* ------------------------------------------------------- plugs and managers */

static void
hang_up(struct client *c)
{
	if (c->ctl >= 0)
		close(c->ctl);
	if (c->data >= 0)
		close(c->data);
	c->ctl = c->data = -1;
	c->at.sun_family = 0;
}

static void
plug(struct client *c)
{
	struct vde_request rq = { VDE_MAGIC, VDE_VERSION };
	static unsigned serial;
	unsigned len, i;

	c->ctl = client("sw/ctl");
	c->data = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->ctl < 0 || c->data < 0) {
		hang_up(c);
		return;
	}
	rq.type = (r(3) ? 0 : r(40)) << 8;
	rq.sock.sun_family = AF_UNIX;
	/* in no file system: nothing to clear away */
	snprintf(rq.sock.sun_path + 1, 60, "switch-fuzz.%d.%u", getpid(),
	    serial++);
	if (bind(c->data, (void *)&rq.sock, sizeof rq.sock) < 0)
		err(1, "bind");
	len = offsetof(struct vde_request, descr) + r(VDE_DESCR + 1);
	for (i = offsetof(struct vde_request, descr); i < len; i++)
		((uint8_t *)&rq)[i] = r(256);
	if (r(4) == 0)
		for (i = r(3) + 1; i; i--)
			((uint8_t *)&rq)[r(len)] = r(256);
	if (r(8) == 0)
		len = 1 + r(len);
	send(c->ctl, &rq, len, MSG_NOSIGNAL);
	requests++;
}

static void
plug_event(struct client *c)
{
	static uint8_t b[4096];
	unsigned len;

	if (c->ctl < 0) {
		plug(c);
		return;
	}
	switch (r(5)) {
	case 0:
		if (r(4) == 0)
			hang_up(c);
		break;
	case 1:
		if (recv(c->ctl, &c->at, sizeof c->at, MSG_DONTWAIT) == 0)
			hang_up(c);
		break;
	case 2:
		if (r(20) == 0)
			send(c->ctl, b, 1 + r(sizeof b), MSG_NOSIGNAL |
			    MSG_DONTWAIT);
		break;
	default:
		while (r(4) && recv(c->data, b, sizeof b, MSG_DONTWAIT) > 0)
			;
		len = r(10) ? frame(b) : r(sizeof b);
		if (c->at.sun_family == AF_UNIX)
			sendto(c->data, b, len, MSG_DONTWAIT | MSG_NOSIGNAL,
			    (void *)&c->at, sizeof c->at);
	}
}

/* A command of any of the tables, with numbers that may fit; now and then damaged. */
static void
manage(int *fd)
{
	static const struct command *const tables[] = { base_cmds, fdb_cmds,
	    stp_cmds, port_cmds, vlan_cmds, ds_cmds };
	const struct command *c;
	char line[1200], b[8192];
	unsigned n = 0, len;

	if (*fd < 0) {
		*fd = client("m");
		return;
	}
	while (recv(*fd, b, sizeof b, MSG_DONTWAIT) > 0)
		;
	if (r(60) == 0) {
		close(*fd);
		*fd = -1;
		return;
	}
	c = tables[r(6)];
	while (c[n].path)
		n++;
	c += r(n);
	/* not those that open what they are told to, and not the end */
	if (strstr(c->path, "shutdown") || strstr(c->path, "load") ||
	    strstr(c->path, "open") || strstr(c->path, "capture"))
		return;
	len = snprintf(line, sizeof line, "%s", c->path);
	for (n = r(4); n; n--)
		len += r(5) ? snprintf(line + len, 40, " %u", r(r(4) ? 9 : 5000)) :
		    snprintf(line + len, 40, " 02:0:0:0:0:%x", r(40));
	if (r(8) == 0)
		line[r(len)] = r(256);
	if (r(200) == 0)
		while (len < 1100)
			line[len++] = 'x';
	line[len++] = '\n';
	send(*fd, line, r(30) ? len : r(len), MSG_DONTWAIT | MSG_NOSIGNAL);
	commands++;
}

/* ------------------------------------------------------------------- the run */

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

static void
round_(int64_t ns)
{
	loop_ahead += ns;
	if (loop_step(0) < 0)
		err(1, "loop");
	wire_flush_all();
}

static void
begin(void)
{
	static char path[100], why[300];

	signal(SIGPIPE, SIG_IGN);
	switch_init(32, false);
	command_add(ds_cmds);
	command_add(base_cmds);
	command_add(fdb_cmds);
	command_add(stp_cmds);
	command_add(port_cmds);
	command_add(vlan_cmds);
	sw.mac[1] = 0xff;
	snprintf(path, sizeof path, "%s/sw", dir);
	if (vdesock_open(path, 0600, 0700, -1, why, sizeof why) < 0)
		errx(1, "%s: %s", path, why);
	snprintf(path, sizeof path, "%s/m", dir);
	if (console_mgmt(path, 0600, -1, why, sizeof why) < 0)
		errx(1, "%s: %s", path, why);
	for (int i = 0; i < NCLIENT; i++) {
		plugs[i].ctl = plugs[i].data = -1;
		managers[i] = -1;
	}
}

/* A command may have closed one, or removed all ports: another comes. */
static void
plugged(void)
{
	struct endpoint *e;
	bool there;
	int sv[2];

	for (int i = 0; i < NWIRE; i++) {
		there = false;
		for (unsigned p = 1; p < PORT_MAX_NUM && !there; p++)
			for (e = sw.port[p] ? sw.port[p]->eps : NULL; e; e = e->next)
				there |= e->wire == wires[i];
		if (there)
			continue;
		if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) < 0)
			err(1, "socketpair");
		close(sv[1]);
		wires[i] = wire_adopt("dgram", sv[0]);
		wires[i]->ops = &station;
		if (!port_plug(0, wires[i], "station", "fuzz")) {
			wire_close(wires[i]);
			wires[i] = NULL;
		}
	}
}

int
main(int argc, char **argv)
{
	unsigned long n, i;
	unsigned fds, used = 0;

	if (argc != 4)
		errx(2, "SEED N DIR");
	seed = strtoull(argv[1], NULL, 10);
	n = strtoul(argv[2], NULL, 10);
	dir = argv[3];
	begin();
	plugged();
	fds = descriptors();
	for (i = 0; i < n; i++) {
		unsigned what = r(10);

		plugged();
		if (what < 5)
			frames();
		else if (what < 8)
			plug_event(&plugs[r(NCLIENT)]);
		else
			manage(&managers[r(NCLIENT)]);
		round_(r(100) ? r(3000000) : r(20) * SEC);
	}
	for (i = 0; i < NCLIENT; i++) {
		hang_up(&plugs[i]);
		if (managers[i] >= 0)
			close(managers[i]);
	}
	for (i = 0; i < 200; i++)
		round_(SEC);
	printf("%lu events: %llu frames out, %llu commands, %llu requests, %u "
	    "descriptors (%u at the start)\n", n, (unsigned long long)got,
	    (unsigned long long)commands, (unsigned long long)requests,
	    descriptors(), fds);
	for (i = 1; i < PORT_MAX_NUM; i++)
		for (struct endpoint *e = sw.port[i] ? sw.port[i]->eps : NULL; e;
		    e = e->next)
			used++;
	if (used > NWIRE || descriptors() > fds)
		errx(1, "left: %u plugs, %u descriptors", used, descriptors());
	port_close_all();
	vdesock_close();
	console_close();
	puts("ok");
	return 0;
}
