/*
 * vlan.c - 802.1Q VLANs: which ports belong to which, tagged or not.  VLAN 0
 * is the untagged network every port begins in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "switch.h"

static struct bits plugged;

int
vlan_create(unsigned v)
{
	if (v >= NVLAN - 1)
		return EINVAL;
	if (sw.vlan[v])
		return EEXIST;
	sw.vlan[v] = calloc(1, sizeof *sw.vlan[v]);
	if (!sw.vlan[v])
		return ENOMEM;
	stp_vlan(v, true);
	return 0;
}

static void
join(unsigned v, unsigned port, bool in)
{
	struct vlan *vl = sw.vlan[v];
	bool act = in && bit_is(&plugged, port);

	bit_set(&vl->member, port, in);
	if (bit_is(&vl->active, port) != act) {
		bit_set(&vl->active, port, act);
		bit_set(&vl->forward, port, act && !sw.fstp);
		stp_port(v, port, act);
	}
}

void
vlan_port_active(unsigned port, bool on)
{
	struct vlan *vl;

	bit_set(&plugged, port, on);
	for (unsigned v = 0; v < NVLAN; v++) {
		vl = sw.vlan[v];
		if (vl && bit_is(&vl->member, port) &&
		    bit_is(&vl->active, port) != on) {
			bit_set(&vl->active, port, on);
			bit_set(&vl->forward, port, on && !sw.fstp);
			stp_port(v, port, on);
		}
	}
}

int
vlan_untag(unsigned port, unsigned v)
{
	unsigned old = sw.port[port]->untagged;

	if (v != NVLAN - 1 && (v >= NVLAN || !sw.vlan[v]))
		return ENXIO;
	if (old != NVLAN - 1 && sw.vlan[old])
		join(old, port, false);
	sw.port[port]->untagged = v;
	if (v != NVLAN - 1) {
		bit_set(&sw.vlan[v]->tagged, port, false);
		join(v, port, true);
	}
	fdb_forget_port(port);
	return 0;
}

/* ---------------------------------------------------------------- commands */

static int
c_create(struct session *s, FILE *out, char *arg)
{
	long v;

	if (arg_nums(arg, 1, &v) != 1 || v < 1)
		return EINVAL;
	return v >= NVLAN ? EINVAL : vlan_create(v);
}

static int
c_remove(struct session *s, FILE *out, char *arg)
{
	struct vlan *vl;
	long v;

	if (arg_nums(arg, 1, &v) != 1 || v < 1 || v >= NVLAN)
		return EINVAL;
	vl = sw.vlan[v];
	if (!vl)
		return ENXIO;
	for (unsigned i = 0; i < WORDS; i++)
		if (vl->member.w[i])
			return EADDRINUSE;
	stp_vlan(v, false);
	fdb_flush(v, -1);
	free(vl);
	sw.vlan[v] = NULL;
	return 0;
}

static int
both(char *arg, long *n)
{
	if (arg_nums(arg, 2, n) != 2 || n[0] < 0 || n[0] >= NVLAN - 1 ||
	    n[1] < 1 || n[1] >= PORT_MAX_NUM)
		return EINVAL;
	if (!sw.vlan[n[0]] || !sw.port[n[1]])
		return ENXIO;
	return 0;
}

static int
c_addport(struct session *s, FILE *out, char *arg)
{
	long n[2];
	int e = both(arg, n);

	if (e)
		return e;
	if (sw.port[n[1]]->untagged == n[0])
		return 0;		/* it is in already */
	bit_set(&sw.vlan[n[0]]->tagged, n[1], true);
	join(n[0], n[1], true);
	return 0;
}

static int
c_delport(struct session *s, FILE *out, char *arg)
{
	long n[2];
	int e = both(arg, n);

	if (e)
		return e;
	if (sw.port[n[1]]->untagged == n[0])
		return EADDRINUSE;
	if (!bit_is(&sw.vlan[n[0]]->tagged, n[1]))
		return ENXIO;
	join(n[0], n[1], false);
	bit_set(&sw.vlan[n[0]]->tagged, n[1], false);
	return 0;
}

static void
show(FILE *out, unsigned v, bool all)
{
	struct vlan *vl = sw.vlan[v];

	fprintf(out, "VLAN %04u\n", v);
	for (unsigned p = 1; p < PORT_MAX_NUM; p++)
		if (bit_is(&vl->member, p) && (all || bit_is(&vl->active, p)))
			fprintf(out, " -- Port %04u tagged=%d active=%d "
			    "status=%s\n", p, bit_is(&vl->tagged, p),
			    bit_is(&vl->active, p), stp_status(v, p));
}

static int
list(FILE *out, char *arg, bool all)
{
	long n;

	if (*arg) {
		if (arg_nums(arg, 1, &n) != 1 || n < 0 || n >= NVLAN)
			return EINVAL;
		if (!sw.vlan[n])
			return ENXIO;
		show(out, n, all);
		return 0;
	}
	for (n = 0; n < NVLAN; n++)
		if (sw.vlan[n])
			show(out, n, all);
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

const struct command vlan_cmds[] = {
	{ "vlan", "============", "VLAN MANAGEMENT MENU" },
	{ "vlan/create", "N", "create the VLAN with tag N", c_create },
	{ "vlan/remove", "N", "remove the VLAN with tag N", c_remove },
	{ "vlan/addport", "N PORT", "add port to the vlan N (tagged)",
	    c_addport },
	{ "vlan/delport", "N PORT", "take port out of the vlan N (tagged)",
	    c_delport },
	{ "vlan/print", "[N]", "print the list of defined vlan", c_print,
	    true },
	{ "vlan/allprint", "[N]",
	    "print the list of defined vlan (including inactive port)",
	    c_allprint, true },
	{ NULL }
};
