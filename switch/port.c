/*
 * port.c - ports, what is plugged into them, and the forwarding of frames
 * (IEEE 802.1Q section 8.6 in short: classify, learn, look up, send).
 *
 * A batch of frames is taken from one wire; each frame is sent by reference to
 * the wires it goes to, and everything is flushed at the end of the batch.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include "switch.h"

struct switch_state sw;

static const uint8_t bpdu_mac[6] = { 1, 0x80, 0xc2, 0, 0, 0 };

/*
 * Back pressure.  Reading frames only to drop them behind a full queue costs
 * the very time its reader needs, so a wire that feeds such a queue is not
 * read for a moment.  A peer that has taken nothing for STUCK does not count:
 * it may not hold up the others.
 */
#define STUCK	(5 * MSEC)
#define REST	(MSEC / 5)

static struct wire *resting[64];
static unsigned nresting;
static bool crowded;

static void
wake(struct timer *t)
{
	while (nresting)
		wire_pause(resting[--nresting], false);
}

static struct timer rest_timer = { 0, wake, NULL };

static void
rest(struct wire *w)
{
	if (nresting == 64 || w->paused)
		return;
	resting[nresting++] = w;
	wire_pause(w, true);
	if (!rest_timer.slot)
		timer_set(&rest_timer, loop_now + REST);
}

static void
forget(struct wire *w)
{
	for (unsigned i = 0; i < nresting; i++)
		if (resting[i] == w)
			resting[i--] = resting[--nresting];
}

int
port_create(unsigned n, bool explicit_)
{
	struct port *p;

	if (n < 1 || n > sw.numports || n >= PORT_MAX_NUM)
		return EINVAL;
	if (sw.port[n])
		return EEXIST;
	p = calloc(1, sizeof *p);
	if (!p)
		return ENOMEM;
	p->user = p->current = -1;
	p->group = -1;
	p->noalloc = explicit_;
	p->untagged = NVLAN - 1;
	sw.port[n] = p;
	vlan_untag(n, 0);
	debug_out(D_PORTP, "%02u", n);
	return 0;
}

static void
wire_gone(void *arg, struct wire *w)
{
	struct endpoint *ep = arg;

	if (!w->retry.slot)
		port_unplug(ep);
}

static void
new_peer(void *arg, struct wire *nw)
{
	struct endpoint *srv = arg;

	/* each connection to a listening wire is a port of its own */
	if (!port_plug(0, nw, srv->module, srv->descr))
		wire_close(nw);
}

struct endpoint *
port_plug(unsigned n, struct wire *w, const char *module, const char *descr)
{
	struct endpoint *ep;
	bool first;
	int e;

	if (!n) {
		for (n = 1; n <= sw.numports; n++)
			if (!sw.port[n] || (!sw.port[n]->eps &&
			    !sw.port[n]->noalloc))
				break;
	}
	if (n > sw.numports || n >= PORT_MAX_NUM) {
		errno = ENOSPC;
		return NULL;
	}
	if (!sw.port[n] && (e = port_create(n, false))) {
		errno = e;
		return NULL;
	}
	ep = calloc(1, sizeof *ep);
	if (!ep)
		return NULL;
	ep->wire = w;
	ep->port = n;
	ep->id = w->ev.fd >= 0 ? w->ev.fd : w->ctl.fd;
	ep->ctl.fd = -1;
	ep->module = module;
	snprintf(ep->descr, sizeof ep->descr, "%s", descr);
	first = !sw.port[n]->eps;
	ep->next = sw.port[n]->eps;
	sw.port[n]->eps = ep;
	w->rx = switch_rx;
	w->arg = ep;
	w->gone = wire_gone;
	w->accepted = new_peer;
	if (first)
		vlan_port_active(n, true);
	debug_out(D_EPP, "Port %02u EP %02d (%s)", n, ep->id, descr);
	return ep;
}

void
port_unplug(struct endpoint *ep)
{
	unsigned n = ep->port;
	struct endpoint **p;

	for (p = &sw.port[n]->eps; *p != ep; p = &(*p)->next)
		;
	*p = ep->next;
	debug_out(D_EPM, "Port %02u EP %02d", n, ep->id);
	if (!sw.port[n]->eps) {
		vlan_port_active(n, false);
		fdb_forget_port(n);
		sw.port[n]->current = -1;
		if (!sw.port[n]->noalloc)
			debug_out(D_PORTM, "%02u", n);
	}
	vdesock_unplug(ep);
	forget(ep->wire);
	wire_close(ep->wire);
	free(ep);
}

void
port_close_all(void)
{
	for (unsigned i = 1; i < PORT_MAX_NUM; i++)
		while (sw.port[i] && sw.port[i]->eps)
			port_unplug(sw.port[i]->eps);
}

int
port_open(const char *spec, char *why, size_t n)
{
	struct wire *w = wire_open(spec, NULL, NULL, why, n);

	if (!w)
		return -1;
	if (!port_plug(0, w, w->ops->kind, strchr(spec, ':') ?
	    strchr(spec, ':') + 1 : spec)) {
		snprintf(why, n, "%s: no free port", spec);
		wire_close(w);
		return -1;
	}
	return 0;
}

/* -------------------------------------------------------------- forwarding */

static uint8_t tags[BATCH][4];

/* tci < 0: the frame as it is. */
static void
emit(struct port *p, const uint8_t *f, unsigned len, bool has, bool want,
    uint8_t *tag)
{
	struct endpoint *ep;
	struct iovec v[3];
	int n;

	v[0] = (struct iovec){ (void *)f, len };
	n = 1;
	if (has && !want) {
		v[0].iov_len = 12;
		v[n++] = (struct iovec){ (void *)(f + 16), len - 16 };
		len -= 4;
	} else if (!has && want) {
		v[0].iov_len = 12;
		v[n++] = (struct iovec){ tag, 4 };
		v[n++] = (struct iovec){ (void *)(f + 12), len - 12 };
		len += 4;
	}
	p->outp++;
	p->outb += len;
	for (ep = p->eps; ep; ep = ep->next) {
		struct wire *w = ep->wire;

		if (w->qtail - w->qhead > w->qsize / 4 &&
		    loop_now - w->drained < STUCK)
			crowded = true;
		wire_send(w, v, n);
	}
}

void
port_send(unsigned n, unsigned vlan, const uint8_t *f, unsigned len)
{
	static uint8_t t[NVLAN][4];

	put16(t[vlan], 0x8100);
	put16(t[vlan] + 2, vlan);
	if (sw.port[n])
		emit(sw.port[n], f, len, false, bit_is(&sw.vlan[vlan]->tagged,
		    n), t[vlan]);
}

/* A token bucket of a tenth of a second. */
static bool
within(struct port *p, unsigned len)
{
	p->credit += (loop_now - p->filled) * (double)p->rate / SEC;
	p->filled = loop_now;
	if (p->credit > (int64_t)p->rate / 10 + 1514)
		p->credit = p->rate / 10 + 1514;
	if (p->credit < len) {
		p->limited++;
		return false;
	}
	p->credit -= len;
	return true;
}

static void
mirror(struct port *p, const uint8_t *f, unsigned len)
{
	if (sw.port[p->mirror])
		emit(sw.port[p->mirror], f, len, false, false, NULL);
}

static void
forward_one(unsigned in, struct port *p, uint8_t *f, unsigned len,
    uint8_t *tag)
{
	unsigned vlan, out, i;
	struct vlan *vl;
	struct bits *b;
	bool has;
	uint64_t w;

	if (sw.hub) {
		for (out = 1; out <= sw.numports; out++)
			if (out != in && sw.port[out] && sw.port[out]->eps)
				emit(sw.port[out], f, len, false, false, NULL);
		return;
	}
	has = get16(f + 12) == 0x8100 && len >= 18;
	vlan = has ? get16(f + 14) & 4095 : p->untagged;
	if (has && !vlan)
		vlan = p->untagged;	/* only a priority */
	vl = vlan < NVLAN - 1 ? sw.vlan[vlan] : NULL;
	if (!vl || !bit_is(&vl->member, in) || f[6] & 1)
		return;
	if (sw.fstp && !memcmp(f, bpdu_mac, 6)) {
		stp_input(vlan, in, f + (has ? 4 : 0), len - (has ? 4 : 0));
		return;
	}
	if (!bit_is(&vl->forward, in))
		return;
	fdb_learn(mac48(f + 6), vlan, in);
	put16(tag, 0x8100);
	put16(tag + 2, (has ? get16(f + 14) & 0xf000 : 0) | vlan);
	out = f[0] & 1 ? 0 : fdb_find(mac48(f), vlan);
	if (out) {
		if (out != in && bit_is(&vl->forward, out))
			emit(sw.port[out], f, len, has, bit_is(&vl->tagged,
			    out), tag);
		return;
	}
	b = &vl->forward;
	for (i = 0; i < WORDS; i++)
		for (w = b->w[i]; w; w &= w - 1) {
			out = i * 64 + __builtin_ctzll(w);
			if (out != in)
				emit(sw.port[out], f, len, has,
				    bit_is(&vl->tagged, out), tag);
		}
}

void
switch_rx(void *arg, struct wire *wire, struct frame *f, unsigned n)
{
	struct endpoint *ep = arg;
	struct port *p = sw.port[ep->port];

	for (unsigned i = 0; i < n; i++) {
		if (p->rate && !within(p, f[i].len))
			continue;
		p->inp++;
		p->inb += f[i].len;
		if (sw.capture)
			wire_put(sw.capture, f[i].p, f[i].len);
		if (p->mirror)
			mirror(p, f[i].p, f[i].len);
		forward_one(ep->port, p, f[i].p, f[i].len, tags[i]);
	}
	if (crowded)
		rest(wire);
	crowded = false;
}

/* ---------------------------------------------------------------- commands */

static int
one(char *arg, long *n)
{
	if (arg_nums(arg, 1, n) != 1 || *n < 1 || *n > sw.numports)
		return EINVAL;
	return sw.port[*n] ? 0 : ENXIO;
}

static int
c_showinfo(struct session *s, FILE *out, char *arg)
{
	fprintf(out, "Numports=%u\nHUB=%s\ncounters=true\n", sw.numports,
	    sw.hub ? "true" : "false");
	return 0;
}

static int
c_setnumports(struct session *s, FILE *out, char *arg)
{
	long n;

	if (arg_nums(arg, 1, &n) != 1 || n < 1 || n >= PORT_MAX_NUM)
		return EINVAL;
	for (unsigned i = n + 1; i < PORT_MAX_NUM; i++)
		if (sw.port[i])
			return EADDRINUSE;
	sw.numports = n;
	return 0;
}

static int
c_sethub(struct session *s, FILE *out, char *arg)
{
	long n;

	if (arg_nums(arg, 1, &n) != 1)
		return EINVAL;
	sw.hub = n != 0;
	if (sw.hub)
		fdb_flush(-1, -1);
	return 0;
}

static int
c_setvlan(struct session *s, FILE *out, char *arg)
{
	long n[2];

	if (arg_nums(arg, 2, n) != 2 || n[0] < 1 || n[0] > sw.numports ||
	    n[1] < 0 || n[1] >= NVLAN)
		return EINVAL;
	return sw.port[n[0]] ? vlan_untag(n[0], n[1]) : ENXIO;
}

static int
c_createauto(struct session *s, FILE *out, char *arg)
{
	for (unsigned n = 1; n <= sw.numports; n++)
		if (!sw.port[n]) {
			fprintf(out, "Port %04u\n", n);
			return port_create(n, true);
		}
	return ENOSPC;
}

static int
c_create(struct session *s, FILE *out, char *arg)
{
	long n;

	if (arg_nums(arg, 1, &n) != 1 || n < 1)
		return EINVAL;
	return port_create(n, true);
}

static int
c_remove(struct session *s, FILE *out, char *arg)
{
	long n;
	int e = one(arg, &n);

	if (e)
		return e;
	if (sw.port[n]->eps)
		return EADDRINUSE;
	vlan_untag(n, NVLAN - 1);
	for (unsigned v = 0; v < NVLAN; v++)
		if (sw.vlan[v]) {
			bit_set(&sw.vlan[v]->member, n, false);
			bit_set(&sw.vlan[v]->tagged, n, false);
		}
	free(sw.port[n]);
	sw.port[n] = NULL;
	debug_out(D_PORTM, "%02ld", n);
	return 0;
}

static int
c_allocatable(struct session *s, FILE *out, char *arg)
{
	long n[2];

	if (arg_nums(arg, 2, n) != 2 || n[0] < 1 || n[0] > sw.numports)
		return EINVAL;
	if (!sw.port[n[0]])
		return ENXIO;
	sw.port[n[0]]->noalloc = !n[1];
	return 0;
}

static int
owner(char *arg, bool group)
{
	char name[64];
	struct passwd *pw;
	struct group *gr;
	int n;

	if (sscanf(arg, "%d %63s", &n, name) != 2 || n < 1 ||
	    n > (int)sw.numports)
		return EINVAL;
	if (!sw.port[n])
		return ENXIO;
	if (!strcmp(name, "NONE") || !strcmp(name, "ANY")) {
		if (group)
			sw.port[n]->group = -1;
		else
			sw.port[n]->user = -1;
		return 0;
	}
	if (group) {
		gr = getgrnam(name);
		if (!gr)
			return EINVAL;
		sw.port[n]->group = gr->gr_gid;
	} else {
		pw = getpwnam(name);
		if (!pw)
			return EINVAL;
		sw.port[n]->user = pw->pw_uid;
	}
	return 0;
}

static int
c_setuser(struct session *s, FILE *out, char *arg)
{
	return owner(arg, false);
}

static int
c_setgroup(struct session *s, FILE *out, char *arg)
{
	return owner(arg, true);
}

static int
c_epclose(struct session *s, FILE *out, char *arg)
{
	struct endpoint *ep;
	long n[2];

	if (arg_nums(arg, 2, n) != 2 || n[0] < 1 || n[0] > sw.numports)
		return EINVAL;
	if (!sw.port[n[0]])
		return ENXIO;
	for (ep = sw.port[n[0]]->eps; ep; ep = ep->next)
		if (ep->id == n[1]) {
			port_unplug(ep);
			return 0;
		}
	return ENXIO;
}

static int
c_reset(struct session *s, FILE *out, char *arg)
{
	long n = 0;
	int e;

	if (*arg && (e = one(arg, &n)))
		return e;
	for (unsigned i = 1; i < PORT_MAX_NUM; i++)
		if (sw.port[i] && (!n || n == i))
			sw.port[i]->inp = sw.port[i]->inb = sw.port[i]->outp =
			    sw.port[i]->outb = sw.port[i]->limited = 0;
	return 0;
}

static const char *
who(uid_t id, bool group)
{
	static char buf[3][48];
	static unsigned k;
	char *b = buf[k++ % 3];
	struct passwd *pw = group || id == (uid_t)-1 ? NULL : getpwuid(id);
	struct group *gr = !group || id == (uid_t)-1 ? NULL : getgrgid(id);

	if (id == (uid_t)-1)
		return "NONE";
	if (pw || gr)
		snprintf(b, sizeof *buf, "%s", pw ? pw->pw_name : gr->gr_name);
	else
		snprintf(b, sizeof *buf, "%u", id);
	return b;
}

static void
show(FILE *out, unsigned n)
{
	struct port *p = sw.port[n];
	struct endpoint *ep;

	fprintf(out, "Port %04u untagged_vlan=%04u %sACTIVE - %sUnnamed "
	    "Allocatable\n", n, p->untagged, p->eps ? "" : "IN",
	    p->noalloc ? "NOT " : "");
	fprintf(out, " Current User: %s Access Control: (User: %s - Group: "
	    "%s)\n", who(p->current, false), who(p->user, false),
	    who(p->group, true));
	fprintf(out, " IN:  pkts %10llu          bytes %20llu\n",
	    (unsigned long long)p->inp, (unsigned long long)p->inb);
	fprintf(out, " OUT: pkts %10llu          bytes %20llu\n",
	    (unsigned long long)p->outp, (unsigned long long)p->outb);
	if (p->rate)
		fprintf(out, " LIMIT: %llu bytes/s, %llu pkts dropped\n",
		    (unsigned long long)p->rate, (unsigned long long)
		    p->limited);
	for (ep = p->eps; ep; ep = ep->next) {
		fprintf(out, "  -- endpoint ID %04d module %-12s: %s\n",
		    ep->id, ep->module, ep->descr);
		if (ep->wire->drop)
			fprintf(out, "     dropped %llu\n",
			    (unsigned long long)ep->wire->drop);
	}
}

static int
list(FILE *out, char *arg, bool all)
{
	long n;

	if (*arg) {
		if (arg_nums(arg, 1, &n) != 1 || n < 1 || n > sw.numports)
			return EINVAL;
		if (!sw.port[n] || (!all && !sw.port[n]->eps))
			return ENXIO;
		show(out, n);
		return 0;
	}
	for (n = 1; n < PORT_MAX_NUM; n++)
		if (sw.port[n] && (all || sw.port[n]->eps))
			show(out, n);
	return 0;
}

static int
c_print(struct session *s, FILE *out, char *arg)
{
	return list(out, arg, false);
}

static int
c_allprint(struct session *s, FILE *out, char *arg)
{
	return list(out, arg, true);
}

static int
c_mirror(struct session *s, FILE *out, char *arg)
{
	long n[2];

	if (arg_nums(arg, 2, n) != 2 || n[0] < 1 || n[0] > sw.numports ||
	    n[1] < 0 || n[1] > sw.numports || n[0] == n[1])
		return EINVAL;
	if (!sw.port[n[0]])
		return ENXIO;
	sw.port[n[0]]->mirror = n[1];
	return 0;
}

static int
c_limit(struct session *s, FILE *out, char *arg)
{
	long n[2];

	if (arg_nums(arg, 2, n) != 2 || n[0] < 1 || n[0] > sw.numports ||
	    n[1] < 0)
		return EINVAL;
	if (!sw.port[n[0]])
		return ENXIO;
	sw.port[n[0]]->rate = n[1];
	sw.port[n[0]]->credit = n[1] / 10 + 1514;
	sw.port[n[0]]->filled = loop_now;
	return 0;
}

static int
c_open(struct session *s, FILE *out, char *arg)
{
	char why[200];

	if (port_open(arg, why, sizeof why) < 0) {
		fprintf(out, "%s\n", why);
		return errno ? errno : EINVAL;
	}
	return 0;
}

static int
c_capture(struct session *s, FILE *out, char *arg)
{
	char spec[220], why[200];

	if (sw.capture)
		wire_close(sw.capture);
	sw.capture = NULL;
	if (!*arg)
		return 0;
	snprintf(spec, sizeof spec, "pcap:%.200s", arg);
	sw.capture = wire_open(spec, NULL, NULL, why, sizeof why);
	return sw.capture ? 0 : errno ? errno : EINVAL;
}

const struct command port_cmds[] = {
	{ "port", "============", "PORT STATUS MENU" },
	{ "port/showinfo", "", "show port info", c_showinfo, true },
	{ "port/setnumports", "N", "set the number of ports", c_setnumports },
	{ "port/sethub", "0/1", "1=HUB 0=switch", c_sethub },
	{ "port/setvlan", "N VLAN", "set port VLAN (untagged)", c_setvlan },
	{ "port/createauto", "", "create a port with an automatically "
	    "allocated id (inactive|notallocatable)", c_createauto, true },
	{ "port/create", "N", "create the port N (inactive|notallocatable)",
	    c_create },
	{ "port/remove", "N", "remove the port N", c_remove },
	{ "port/allocatable", "N 0/1",
	    "Is the port allocatable as unnamed? 1=Y 0=N", c_allocatable },
	{ "port/setuser", "N user", "access control: set user", c_setuser },
	{ "port/setgroup", "N user", "access control: set group",
	    c_setgroup },
	{ "port/epclose", "N ID", "remove the endpoint port N/id ID",
	    c_epclose },
	{ "port/resetcounter", "[N]", "reset the port (N) counters", c_reset },
	{ "port/print", "[N]", "print the port/endpoint table", c_print,
	    true },
	{ "port/allprint", "[N]",
	    "print the port/endpoint table (including inactive port)",
	    c_allprint, true },
	{ "port/open", "WIRE", "plug a wire into the next free port", c_open,
	    true },
	{ "port/mirror", "N TO", "copy what comes in at N to port TO, 0=off",
	    c_mirror },
	{ "port/limit", "N BYTES", "take BYTES/s in at port N, 0=any",
	    c_limit },
	{ "port/capture", "[FILE]", "write all frames to FILE (pcap); none: "
	    "stop", c_capture },
	{ NULL }
};
