/*
 * stp.c - rapid spanning tree, one per VLAN (IEEE 802.1D-2004 section 17),
 * reduced to what point-to-point virtual cables need: roles by priority
 * vectors, proposal/agreement hand-over, edge ports found by silence,
 * information that dies after three hellos.
 *
 * BPDUs carry hello 4 s and maximum age 40 s, as vde_switch's do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "switch.h"

#define HELLO		4u
#define MAXAGE		40u
#define EDGE_WAIT	3		/* seconds of silence */
#define FWD_WAIT	12		/* without agreement */
#define COST		20000000u

enum role { DISABLED, ROOT, DESIGNATED, ALTERNATE };
static const char *const role_name[] = { "Disabled", "Root", "Designated",
	"Alternate/Backup" };

struct vec { uint64_t root; uint32_t cost; uint64_t bridge; uint16_t port; };

struct pinfo {
	bool		active, heard, edge, has, proposing;
	enum role	role;
	struct vec	v;		/* the neighbour's */
	uint16_t	age;
	int64_t		rx, since;	/* last BPDU; start of this state */
};

struct stp {
	struct vec	best;
	unsigned	rootport, bonusport;
	uint32_t	bonuscost;
	int64_t		born, tc_until, rootrx;
	struct pinfo	p[PORT_MAX_NUM];
};

static struct timer ticker;

static uint64_t
self(void)
{
	return (uint64_t)sw.prio << 48 | mac48(sw.mac);
}

static int
cmp(const struct vec *a, const struct vec *b)
{
	if (a->root != b->root)
		return a->root < b->root ? -1 : 1;
	if (a->cost != b->cost)
		return a->cost < b->cost ? -1 : 1;
	if (a->bridge != b->bridge)
		return a->bridge < b->bridge ? -1 : 1;
	return (int)a->port - (int)b->port;
}

static bool
forwarding(unsigned v, unsigned n)
{
	return bit_is(&sw.vlan[v]->forward, n);
}

static void
send_bpdu(unsigned v, unsigned n, bool agree)
{
	/* one buffer per port: it must live until the flush */
	static uint8_t buf[PORT_MAX_NUM][64];
	struct stp *s = sw.vlan[v]->stp;
	struct pinfo *p = &s->p[n];
	uint8_t *b = buf[n], flags;

	wire_flush_all();
	memset(b, 0, 60);
	memcpy(b, "\001\200\302\0\0\0", 6);
	memcpy(b + 6, sw.mac, 6);
	put16(b + 12, 39);
	memcpy(b + 14, "\x42\x42\x03\0\0\2\2", 7);
	flags = (p->role == ROOT ? 2 : p->role == DESIGNATED ? 3 : 1) << 2;
	if (forwarding(v, n))
		flags |= 0x30;
	if (agree)
		flags |= 0x40;
	if (p->role == DESIGNATED && !forwarding(v, n)) {
		flags |= 2;
		p->proposing = true;
	}
	if (loop_now < s->tc_until)
		flags |= 1;
	b[21] = flags;
	put32(b + 22, s->best.root >> 32);
	put32(b + 26, s->best.root);
	put32(b + 30, s->best.cost);
	put32(b + 34, self() >> 32);
	put32(b + 38, self());
	put16(b + 42, 0x8000 | n);
	put16(b + 44, s->rootport ? (s->p[s->rootport].age + 1) << 8 : 0);
	put16(b + 46, MAXAGE << 8);
	put16(b + 48, HELLO << 8);
	port_send(n, v, b, 60);
}

static void
set_forward(unsigned v, unsigned n, bool on)
{
	struct vlan *vl = sw.vlan[v];
	struct stp *s = vl->stp;

	if (bit_is(&vl->forward, n) == on)
		return;
	bit_set(&vl->forward, n, on);
	s->p[n].since = loop_now;
	debug_out(D_FSTATUS, "Port %04u VLAN %02x:%02x %s", n, v >> 8, v & 255,
	    on ? "learning+forwarding" : "discarding");
	if (on && !s->p[n].edge) {
		s->tc_until = loop_now + 2 * HELLO * SEC;
		fdb_flush(v, n);
	}
}

/* Before a new root port may open, the others must be in step. */
static void
sync_others(unsigned v, unsigned keep)
{
	struct stp *s = sw.vlan[v]->stp;

	for (unsigned n = 1; n <= sw.numports; n++)
		if (n != keep && s->p[n].active && !s->p[n].edge &&
		    s->p[n].role == DESIGNATED && forwarding(v, n)) {
			set_forward(v, n, false);
			send_bpdu(v, n, false);
		}
}

static void
decide(unsigned v)
{
	struct stp *s = sw.vlan[v]->stp;
	struct vec best = { self(), 0, self(), 0 }, c, d;
	unsigned root = 0, n;
	enum role r;
	uint32_t cost;

	for (n = 1; n <= sw.numports; n++) {
		struct pinfo *p = &s->p[n];

		if (!p->active || !p->has || p->v.bridge == self() ||
		    p->v.root == self())
			continue;
		cost = n == s->bonusport && s->bonuscost < COST ? COST -
		    s->bonuscost : COST;
		c = p->v;
		c.cost += cost;
		if (c.root < self() && cmp(&c, &best) < 0) {
			best = c;
			root = n;
		}
	}
	if (root != s->rootport || best.root != s->best.root)
		debug_out(D_FROOT, "Port %04u VLAN %02x:%02x root "
		    "%016llx", root, v >> 8, v & 255,
		    (unsigned long long)best.root);
	if (root && root != s->rootport) {
		s->rootrx = loop_now;
		s->best = best;
		sync_others(v, root);
	}
	s->best = best;
	s->rootport = root;
	for (n = 1; n <= sw.numports; n++) {
		struct pinfo *p = &s->p[n];

		if (!p->active)
			continue;
		d = (struct vec){ best.root, best.cost, self(), 0x8000 | n };
		r = n == root ? ROOT : p->has && cmp(&p->v, &d) < 0 ?
		    ALTERNATE : DESIGNATED;
		if (r != p->role) {
			p->role = r;
			p->since = loop_now;
		}
		if (r == ALTERNATE)
			set_forward(v, n, false);
		else if (r == ROOT)
			set_forward(v, n, true);
		else if (p->edge)
			set_forward(v, n, true);
	}
}

void
stp_input(unsigned v, unsigned n, const uint8_t *f, unsigned len)
{
	struct stp *s = sw.vlan[v]->stp;
	struct pinfo *p = &s->p[n];
	struct vec in;
	unsigned age;
	uint8_t flags;
	bool same;

	/* f points 4 bytes into a tagged frame: only what follows the type is
	 * looked at */
	if (!p->active || len < 12 + 2 + 38 || memcmp(f + 14, "\x42\x42\x03\0\0",
	    5) || f[20] != 2 || f[19] < 2)
		return;
	flags = f[21];
	in.root = (uint64_t)get32(f + 22) << 32 | get32(f + 26);
	in.cost = get32(f + 30);
	in.bridge = (uint64_t)get32(f + 34) << 32 | get32(f + 38);
	in.port = get16(f + 42);
	age = get16(f + 44) >> 8;
	if (age >= MAXAGE || in.cost > UINT32_MAX / 2)
		return;
	p->heard = true;
	p->edge = false;
	if (flags & 1)
		fdb_flush(v, n);
	/* a root or alternate port of a neighbour answers a proposal */
	if ((flags >> 2 & 3) != 3) {
		if (flags & 0x40 && p->role == DESIGNATED &&
		    in.root == s->best.root) {
			p->proposing = false;
			set_forward(v, n, true);
		}
		/* whatever it was, it has given way to us */
		if (p->has && p->v.bridge == in.bridge) {
			p->has = false;
			decide(v);
		}
		return;
	}
	same = p->has && p->v.bridge == in.bridge && p->v.port == in.port;
	if (!p->has || same || cmp(&in, &p->v) < 0) {
		p->v = in;
		p->has = true;
		p->age = age;
		p->rx = loop_now;
	}
	decide(v);
	if (p->role == DESIGNATED) {
		send_bpdu(v, n, false);		/* it does not know better */
		if (p->has && p->v.bridge == in.bridge)
			p->has = false;
	} else if (flags & 2) {
		if (p->role == ROOT)
			sync_others(v, n);
		send_bpdu(v, n, true);
	}
}

static void
tick(struct timer *t)
{
	static unsigned round;
	unsigned v, n;

	timer_set(t, loop_now + SEC);
	if (!sw.fstp)
		return;
	round++;
	for (v = 0; v < NVLAN; v++) {
		struct stp *s = sw.vlan[v] ? sw.vlan[v]->stp : NULL;
		bool again = false;

		if (!s)
			continue;
		for (n = 1; n <= sw.numports; n++) {
			struct pinfo *p = &s->p[n];

			if (p->active && p->has &&
			    loop_now - p->rx > 3 * HELLO * SEC) {
				p->has = false;
				again = true;
			}
		}
		if (again)
			decide(v);
		for (n = 1; n <= sw.numports; n++) {
			struct pinfo *p = &s->p[n];

			if (!p->active || p->role != DESIGNATED)
				continue;
			if (!forwarding(v, n)) {
				if (!p->heard && loop_now - p->since >=
				    EDGE_WAIT * SEC) {
					p->edge = true;
					set_forward(v, n, true);
				} else if (loop_now - p->since >=
				    FWD_WAIT * SEC) {
					set_forward(v, n, true);
				}
			}
			if (round % HELLO == 0 || !forwarding(v, n))
				send_bpdu(v, n, false);
		}
	}
	wire_flush_all();
}

void
stp_port(unsigned v, unsigned n, bool active)
{
	struct stp *s = sw.vlan[v]->stp;
	struct pinfo *p;

	if (!s)
		return;
	p = &s->p[n];
	bool edge = p->edge && !p->heard;

	memset(p, 0, sizeof *p);
	p->active = active;
	p->edge = active && edge;
	p->role = DESIGNATED;
	p->since = loop_now;
	debug_out(active ? D_FPLUS : D_FMINUS, "Port %04u VLAN %02x:%02x", n,
	    v >> 8, v & 255);
	if (!sw.fstp)
		return;
	bit_set(&sw.vlan[v]->forward, n, false);
	decide(v);
	if (active)
		send_bpdu(v, n, false);
}

void
stp_vlan(unsigned v, bool create)
{
	if (!create) {
		free(sw.vlan[v]->stp);
		sw.vlan[v]->stp = NULL;
		return;
	}
	sw.vlan[v]->stp = calloc(1, sizeof(struct stp));
	if (!sw.vlan[v]->stp)
		abort();
	sw.vlan[v]->stp->born = sw.vlan[v]->stp->rootrx = loop_now;
	sw.vlan[v]->stp->best = (struct vec){ self(), 0, self(), 0 };
}

void
stp_enable(bool on)
{
	unsigned v, n;

	if (sw.fstp == on)
		return;
	sw.fstp = on;
	for (v = 0; v < NVLAN; v++) {
		struct vlan *vl = sw.vlan[v];

		if (!vl)
			continue;
		for (n = 1; n <= sw.numports; n++) {
			if (!bit_is(&vl->active, n))
				continue;
			if (on)
				stp_port(v, n, true);
			else
				bit_set(&vl->forward, n, true);
		}
	}
	wire_flush_all();
}

void
stp_start(void)
{
	ticker = (struct timer){ 0, tick, NULL };
	timer_set(&ticker, loop_now + SEC);
}

const char *
stp_status(unsigned v, unsigned n)
{
	return bit_is(&sw.vlan[v]->active, n) && !forwarding(v, n) ?
	    "Discarding" : "Forwarding";
}

/* ---------------------------------------------------------------- commands */

static void
id(FILE *out, uint64_t b)
{
	for (int i = 56; i >= 0; i -= 8)
		fprintf(out, "%02x%s", (int)(b >> i & 255), i ? ":" : "\n");
}

static int
c_showinfo(struct session *se, FILE *out, char *arg)
{
	fprintf(out, "MAC %02x:%02x:%02x:%02x:%02x:%02x Priority %u (0x%x)\n"
	    "FSTP=%s\n", sw.mac[0], sw.mac[1], sw.mac[2], sw.mac[3], sw.mac[4],
	    sw.mac[5], sw.prio, sw.prio, sw.fstp ? "true" : "false");
	return 0;
}

static int
c_setfstp(struct session *se, FILE *out, char *arg)
{
	long n;

	if (arg_nums(arg, 1, &n) != 1)
		return EINVAL;
	stp_enable(n != 0);
	return 0;
}

static int
target(char *arg, long *n)
{
	if (arg_nums(arg, 3, n) != 3 || n[0] < 0 || n[0] >= NVLAN ||
	    n[1] > sw.numports)
		return EINVAL;
	if (n[1] < 1)
		return ENXIO;
	return sw.vlan[n[0]] ? 0 : ENXIO;
}

static int
c_setedge(struct session *se, FILE *out, char *arg)
{
	long n[3];
	int e = target(arg, n);

	if (e)
		return e;
	sw.vlan[n[0]]->stp->p[n[1]].edge = n[2] != 0;
	if (sw.fstp)
		decide(n[0]);
	return 0;
}

static int
c_bonus(struct session *se, FILE *out, char *arg)
{
	long n[3];
	int e = target(arg, n);

	if (e)
		return e;
	if (n[2] < 0 || n[2] > (long)COST)
		return EINVAL;
	sw.vlan[n[0]]->stp->bonusport = n[1];
	sw.vlan[n[0]]->stp->bonuscost = n[2];
	if (sw.fstp)
		decide(n[0]);
	return 0;
}

static void
show(FILE *out, unsigned v)
{
	struct stp *s = sw.vlan[v]->stp;
	unsigned n;

	fprintf(out, "FST DATA VLAN %04u %s %s\n ++ root ", v, s->rootport ? "" :
	    "ROOTSWITCH", sw.fstp ? "" : "FSTP IS DISABLED");
	id(out, s->best.root);
	fprintf(out, " ++ designated ");
	id(out, s->rootport ? s->p[s->rootport].v.bridge : ~0ull);
	fprintf(out, " ++ rootport %04u cost %u age %lld bonusport %04u "
	    "bonuscost %u\n", s->rootport, s->best.cost, (long long)
	    ((loop_now - s->rootrx) / SEC), s->bonusport, s->bonuscost);
	for (n = 1; sw.fstp && n <= sw.numports; n++)
		if (s->p[n].active)
			fprintf(out, " -- Port %04u tagged=%d portcost=%u "
			    "role=%s%s\n", n, bit_is(&sw.vlan[v]->tagged, n),
			    COST, role_name[s->p[n].role],
			    forwarding(v, n) ? "" : " (discarding)");
}

static int
c_print(struct session *se, FILE *out, char *arg)
{
	long n;

	if (*arg) {
		if (arg_nums(arg, 1, &n) != 1 || n < 0 || n >= NVLAN)
			return EINVAL;
		if (!sw.vlan[n])
			return ENXIO;
		show(out, n);
		return 0;
	}
	for (n = 0; n < NVLAN; n++)
		if (sw.vlan[n])
			show(out, n);
	return 0;
}

const struct command stp_cmds[] = {
	{ "fstp", "============", "FAST SPANNING TREE MENU" },
	{ "fstp/showinfo", "", "show fstp info", c_showinfo, true },
	{ "fstp/setfstp", "0/1", "Fast spanning tree protocol 1=ON 0=OFF",
	    c_setfstp, true },
	{ "fstp/setedge", "VLAN PORT 1/0",
	    "Define an edge port for a vlan 1=Y 0=N", c_setedge },
	{ "fstp/bonus", "VLAN PORT COST", "set the port bonus for a vlan",
	    c_bonus },
	{ "fstp/print", "[N]", "print fst data for the defined vlan", c_print,
	    true },
	{ NULL }
};
