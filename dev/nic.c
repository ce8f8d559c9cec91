/*
 * nic.c - see nic.h.
 *
 * The wire's own loop is a guest of the part's (switch/onbus.c).  Frames that
 * the card has no room for are kept in one buffer that holds what a wire can
 * hand over in a round, and the wire is paused; so a frame is lost only when
 * its peer ended in between.
 *
 * part:NAME is the socket NAME in the machine's directory.  That part and this
 * one start at the same time, so it is looked for until it is there, and again
 * when it went.  While it is looked for the first time the link counts as up:
 * no guest is that quick, and a link that comes up late costs one seconds.
 * A switch must be there at the start, and is waited for when it went.  hub:NAME
 * is such a part, too, but one that leads to anybody.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../switch/wire.h"
#include "nic.h"

#define KEPT_MAX	(6 * FRAME_MAX)
#define START_NS	10000000000ll	/* a part that is not there by then */
#define STUCK_NS	1000000000ll

static struct nic *nics;
static uint8_t built[2 * FRAME_MAX];	/* frames put together, until the flush */
static size_t built_used;

/* The peer is looked for. */
static bool
waits(const struct wire *w)
{
	return w->reconnect && w->retry.slot;
}

bool
nic_link(const struct nic *n)
{
	return !n->off && (n->trying || (n->w && !waits(n->w)));
}

static void
tell(struct nic *n)
{
	bool up = nic_link(n);

	if (up != n->up) {
		n->up = up;
		n->ops->link(n->d);
	}
}

/* -------------------------------------------------------------- reception */

struct kept {				/* and then the frame */
	uint32_t	len;
	bool		work;
	struct vnet_hdr	vnet;		/* if so */
};

static void
keep(struct nic *n, const uint8_t *p, uint32_t len)
{
	struct kept k = { .len = len, .work = n->work };

	if (!n->kept)
		n->kept = malloc(KEPT_MAX);
	if (!n->kept || n->kept_len + sizeof k + len > KEPT_MAX) {
		n->rx_drop++;
		return;
	}
	if (n->work)
		k.vnet = *n->work;
	memcpy(n->kept + n->kept_len, &k, sizeof k);
	memcpy(n->kept + n->kept_len + sizeof k, p, len);
	n->kept_len += (uint32_t)sizeof k + len;
}

static bool
give(struct nic *n, const uint8_t *p, uint32_t len)
{
	if (n->stopped || !n->ops->rx(n->d, p, len))
		return false;
	n->rx++;
	n->rx_bytes += len;
	return true;
}

static void
on_frames(void *arg, struct wire *w, struct frame *f, unsigned count)
{
	struct nic *n = arg;
	unsigned i;

	for (i = 0; i < count; i++) {
		n->work = f[i].vnet;
		if (n->work && !n->takes)
			n->rx_drop++;	/* it was said too late */
		else if (n->filters)
			nic_filter(n, true, f[i].p, f[i].len);
		else
			nic_deliver(n, true, f[i].p, f[i].len);
	}
	n->work = NULL;
	nic_delivered(n);
}

void
nic_deliver(struct nic *n, bool to_guest, const uint8_t *p, uint32_t len)
{
	if (!to_guest) {
		if (n->w) {
			wire_put(n->w, p, len);
			wire_flush(n->w);	/* p is the caller's */
		}
	} else if (n->off) {
		n->rx_drop++;
	} else if (n->kept_len || !give(n, p, len)) {
		keep(n, p, len);
	}
}

void
nic_delivered(struct nic *n)
{
	if (n->ops->rx_end && !n->stopped)
		n->ops->rx_end(n->d);
	if (n->kept_len && n->w)
		wire_pause(n->w, true);
}

bool
nic_waiting(const struct nic *n)
{
	return n->kept_at < n->kept_len;
}

void
nic_more(struct nic *n)
{
	struct kept k;

	while (n->kept_at < n->kept_len) {
		memcpy(&k, n->kept + n->kept_at, sizeof k);
		n->work = k.work ? &k.vnet : NULL;
		if ((!k.work || n->takes) &&
		    !give(n, n->kept + n->kept_at + sizeof k, k.len))
			break;
		n->kept_at += (uint32_t)sizeof k + k.len;
	}
	n->work = NULL;
	if (n->kept_at && n->ops->rx_end && !n->stopped)
		n->ops->rx_end(n->d);
	if (n->kept_at < n->kept_len)
		return;
	n->kept_at = n->kept_len = 0;
	if (n->w && !n->stopped)
		wire_pause(n->w, false);
}

void
nic_stop(struct nic *n)
{
	n->stopped = true;
	if (n->w)
		wire_pause(n->w, true);
}

void
nic_run(struct nic *n)
{
	n->stopped = false;
	nic_more(n);
}

/* ------------------------------------------------------------ transmission */

bool
nic_offloads(const struct nic *n)
{
	return n->w && n->w->offload && !n->filters;
}

void
nic_takes(struct nic *n, bool on)
{
	n->takes = on && n->vnet && !n->filters;
	if (n->w)
		wire_takes(n->w, n->takes);
}

void
nic_send(struct nic *n, const struct iovec *iov, unsigned count, size_t skip)
{
	nic_send_vnet(n, NULL, iov, count, skip);
}

void
nic_send_vnet(struct nic *n, const struct vnet_hdr *h, const struct iovec *iov,
    unsigned count, size_t skip)
{
	struct iovec v[NIC_PIECES];
	unsigned i, k = 0;
	size_t len = 0;
	uint8_t *p;

	for (i = 0; i < count && k < NIC_PIECES; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		v[k].iov_base = (uint8_t *)iov[i].iov_base + skip;
		v[k].iov_len = iov[i].iov_len - skip;
		len += v[k++].iov_len;
		skip = 0;
	}
	if (i < count || len < ETH_HDR || len > FRAME_MAX || !n->w || n->off) {
		n->tx_drop++;
		return;
	}
	n->tx++;
	n->tx_bytes += len;
	if (k <= WIRE_PIECES && !n->filters) {
		wire_send_vnet(n->w, h, v, (int)k);
		return;
	}
	p = nic_room(n, len);
	for (len = i = 0; i < k; i++) {
		memcpy(p + len, v[i].iov_base, v[i].iov_len);
		len += v[i].iov_len;
	}
	if (n->filters)
		nic_filter(n, false, p, (uint32_t)len);
	else
		wire_send_vnet(n->w, h, &(struct iovec){ p, len }, 1);
}

uint8_t *
nic_room(struct nic *n, size_t len)
{
	uint8_t *p;

	if (built_used + len > sizeof built)
		nic_flush(n);
	p = built + built_used;
	built_used += len;
	return p;
}

void
nic_flush(struct nic *n)
{
	if (n->w)
		wire_flush(n->w);
	built_used = 0;
}

static void
unstick(void *arg)
{
	struct nic *n = arg;

	n->blocked = false;
	if (!n->stopped)
		n->ops->room(n->d);
}

bool
nic_full(struct nic *n)
{
	if (!n->w || !wire_busy(n->w) || now_ns() - n->w->drained > STUCK_NS)
		return false;
	if (!n->blocked)
		loop_timer(n->d->loop, now_ns() + STUCK_NS, unstick, n);
	n->blocked = true;
	return true;
}

/* After each round of the wires' loop. */
static void
after(void)
{
	struct nic *n;

	for (n = nics; n; n = n->next)
		if (n->blocked && !nic_full(n)) {
			loop_timer(n->d->loop, 0, unstick, n);
			unstick(n);
		}
}

/* --------------------------------------------------------------- the cable */

/* part:NAME, hub:NAME: NAME; else NULL. */
static const char *
part_of(const char *spec)
{
	return !strncmp(spec, "part:", 5) ? spec + 5 :
	    !strncmp(spec, "hub:", 4) ? spec + 4 : NULL;
}

/* Of a part the broker tells. */
static void
say(struct nic *n, const char *what)
{
	if (!part_of(n->spec))
		log_line("%s: the other end is %s", n->spec, what);
}

static void
gone(void *arg, struct wire *w)
{
	struct nic *n = arg;

	if (!waits(w)) {
		wire_close(w);
		n->w = NULL;
	}
	say(n, "gone");
	tell(n);
	if (n->blocked)
		loop_timer(n->d->loop, 1, unstick, n);
}

static void
back(void *arg, struct wire *w)
{
	struct nic *n = arg;

	if (!n->up && !n->off)
		say(n, "back");
	n->trying = false;
	tell(n);
}

static int
plug(struct nic *n, const char *spec, char *why, size_t whylen)
{
	n->w = wire_open(spec, on_frames, n, why, whylen);
	if (!n->w)
		return -1;
	if (n->w->ops == &vde_ops && !n->w->reconnect)
		n->w->reconnect = 1;
	n->trying = waits(n->w);
	n->w->gone = gone;
	n->w->back = back;
	wire_pause(n->w, true);
	return 0;
}

static void
give_up(void *arg)
{
	struct nic *n = arg;

	n->trying = false;
	tell(n);
}

int
nic_mac(const char *s, uint8_t mac[6])
{
	unsigned b[6], i;
	int end = 0;

	if (strlen(s) != 17 || sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0],
	    &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 || s[end] ||
	    b[0] & 1)
		return -1;
	for (i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return 0;
}

int
nic_open(struct nic *n, struct devctx *d, const char *model,
    const struct nic_opts *o, const struct nic_ops *ops, char *why,
    size_t whylen)
{
	const char *spec = o->link, *name = part_of(spec);
	char path[280];

	n->d = d;
	n->ops = ops;
	n->model = model;
	n->spec = spec;
	n->stopped = true;
	if (nic_mac(o->mac, n->mac) < 0) {
		snprintf(why, whylen, "mac=%s: not a station's address, "
		    "xx:xx:xx:xx:xx:xx", o->mac);
		return -1;
	}
	n->next = nics;
	nics = n;
	if (onbus(d->loop, after) < 0) {
		snprintf(why, whylen, "%s", strerror(errno));
		return -1;
	}
	if (nic_filters(n, d->argv, why, whylen) < 0)
		return -1;
	if (strcmp(spec, "none") == 0)
		return 0;
	if (name) {
		if (!*d->part->dir || strchr(name, '/') ||
		    snprintf(path, sizeof path,
		    "stream:%s/%s,reconnect=1%s", d->part->dir, name,
		    n->vnet && *spec == 'p' && !n->filters ? ",offload" : "") >=
		    (int)sizeof path) {
			snprintf(why, whylen, "link=%s: no such part", spec);
			return -1;
		}
		spec = path;
	}
	if (plug(n, spec, why, whylen) < 0)
		return -1;
	if (n->trying)
		loop_timer(d->loop, now_ns() + START_NS, give_up, n);
	if (*n->w->bound && d->part->bus >= 0)
		part_cleanup(d->part, n->w->bound);
	onbus_arm();
	n->up = nic_link(n);
	return 0;
}

void
nic_close(struct nic *n)
{
	struct nic **p;

	for (p = &nics; *p; p = &(*p)->next)
		if (*p == n) {
			*p = n->next;
			break;
		}
	if (n->d) {
		loop_timer(n->d->loop, 0, give_up, n);
		loop_timer(n->d->loop, 0, unstick, n);
	}
	nic_filters_close(n);
	if (n->w)
		wire_close(n->w);
	n->w = NULL;
	free(n->kept);
	n->kept = NULL;
}

int
nic_ask(struct nic *n, char **argv, FILE *text)
{
	if (strcmp(argv[0], "network") == 0) {
		fprintf(text, "type=nic,model=%s,macaddr=%02x:%02x:%02x:%02x:"
		    "%02x:%02x,link=%s,rx=%llu,rx_bytes=%llu,rx_dropped=%llu,"
		    "tx=%llu,tx_bytes=%llu,tx_dropped=%llu,peer=%s\n", n->model,
		    n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4],
		    n->mac[5], nic_link(n) ? "up" : "down",
		    (unsigned long long)n->rx, (unsigned long long)n->rx_bytes,
		    (unsigned long long)n->rx_drop, (unsigned long long)n->tx,
		    (unsigned long long)n->tx_bytes,
		    (unsigned long long)(n->tx_drop + (n->w ? n->w->drop : 0)),
		    n->spec);
		return 0;
	}
	if (strcmp(argv[0], "set_link"))
		return ENOTSUP;
	if (!argv[1] || argv[2] || (strcmp(argv[1], "on") &&
	    strcmp(argv[1], "off"))) {
		fprintf(text, "on or off expected");
		return EINVAL;
	}
	n->off = !strcmp(argv[1], "off");
	tell(n);
	return 0;
}

void
nic_dev_stop(struct devctx *d)
{
	nic_stop(d->priv);
}

int
nic_dev_ask(struct devctx *d, char **argv, FILE *text)
{
	return nic_ask(d->priv, argv, text);
}

void
nic_dev_quit(struct devctx *d)
{
	nic_close(d->priv);
}

/* ------------------------------------------------------------------- on PCI */

const struct opt nic_pci_opts[] = {
	NIC_OPTS(nic_pci_opts, nic),
	{ "addr", OPT_STR, offsetof(struct nic_pci_opts, addr), NULL,
	    "PCI SLOT[.FUNCTION], hex", NULL },
	{ 0 }
};

int
nic_pci_open(struct devctx *d, const struct pci_fn *fn,
    const struct nic_ops *ops, char *why, size_t whylen)
{
	const struct nic_pci_opts *o = d->opts;
	struct nic *n = d->priv;

	n->fn = fn;
	if (nic_open(n, d, d->dev->name, &o->nic, ops, why, whylen) < 0)
		return -1;
	return pci_place(d, fn, o->addr, why, whylen);
}

void
nic_pci_config(struct devctx *d, unsigned fn, unsigned off, unsigned size,
    uint32_t val)
{
	struct nic *n = d->priv;

	pci_config(d, n->fn, off, size, val);
	/* bus mastering may have come on */
	if (off <= 4 && off + size > 4 && d->cfg[4] & 4 && d->running) {
		n->ops->room(d);
		nic_more(n);
	}
}
