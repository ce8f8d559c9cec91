/*
 * nic-filter.c - what stands between a card and its cable when it is asked for,
 * as -object filter-* of QEMU: dump writes the frames to a capture, mirror copies
 * them to a wire, redirector sends them there instead and takes others in, buffer
 * holds them back until the end of an interval.
 *
 *	filter.ID.KEY=VALUE	kind=dump|mirror|redirector|buffer, out=WIRE, in=WIRE,
 *				interval=MICROSECONDS, queue=all|rx|tx, status=on|off
 *
 * Frames to the guest (queue tx, the network's) pass the filters in the order in
 * which they were named, those from it (rx) the other way round.  A frame that
 * comes in by a redirector goes on behind it.
 */
#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../switch/wire.h"
#include "nic.h"

#define PREFIX		"filter."
#define HELD_MAX	(2u << 20)	/* bytes that a buffer holds */

enum kind { NONE, DUMP, MIRROR, REDIRECTOR, BUFFER, NKIND };
static const char *const kinds[] = { "", "dump", "mirror", "redirector",
    "buffer" };

struct nic_filter {
	struct nic_filter *next, *before;
	struct nic	*nic;
	char		id[32];
	enum kind	kind;
	bool		rx, tx, off;
	struct wire	*out, *in;
	int64_t		interval;	/* ns */
	/* frames held: direction, length in four bytes, and the frame */
	uint8_t		*held;
	uint32_t	len;
};

static void
hold(struct nic_filter *f, bool to_guest, const uint8_t *p, uint32_t len)
{
	int64_t now = now_ns();

	if (f->len + 5 + len > HELD_MAX) {
		f->nic->rx_drop += to_guest;
		f->nic->tx_drop += !to_guest;
		return;
	}
	if (!f->len)
		loop_timer(f->nic->d->loop, now + f->interval - now %
		    f->interval, nic_filter_release, f);
	f->held[f->len] = to_guest;
	memcpy(f->held + f->len + 1, &len, 4);
	memcpy(f->held + f->len + 5, p, len);
	f->len += 5 + len;
}

/* From filter f on, which may be NULL: the end. */
static void
pass(struct nic *n, struct nic_filter *f, bool to_guest, const uint8_t *p,
    uint32_t len)
{
	for (; f; f = to_guest ? f->next : f->before) {
		if (f->off || !(to_guest ? f->tx : f->rx))
			continue;
		if (f->kind == BUFFER) {
			hold(f, to_guest, p, len);
			return;
		}
		if (f->out) {
			wire_put(f->out, p, len);
			wire_flush(f->out);	/* p is the caller's */
			if (f->kind == REDIRECTOR)
				return;
		}
	}
	nic_deliver(n, to_guest, p, len);
}

void
nic_filter(struct nic *n, bool to_guest, const uint8_t *p, uint32_t len)
{
	struct nic_filter *f = n->filters;

	while (!to_guest && f->next)
		f = f->next;
	pass(n, f, to_guest, p, len);
}

void
nic_filter_release(void *arg)
{
	struct nic_filter *f = arg;
	uint32_t at, len, end = f->len;
	bool to_guest;

	for (at = 0; at < end; at += 5 + len) {
		to_guest = f->held[at];
		memcpy(&len, f->held + at + 1, 4);
		pass(f->nic, to_guest ? f->next : f->before, to_guest,
		    f->held + at + 5, len);
	}
	f->len = 0;
	nic_delivered(f->nic);
}

/* What a redirector takes in: to the guest (tx), to the network (rx), or both. */
static void
taken(void *arg, struct wire *w, struct frame *v, unsigned count)
{
	struct nic_filter *f = arg;
	unsigned i;

	for (i = 0; i < count; i++) {
		if (f->off)
			continue;
		if (f->tx)
			pass(f->nic, f->next, true, v[i].p, v[i].len);
		if (f->rx)
			pass(f->nic, f->before, false, v[i].p, v[i].len);
	}
	nic_delivered(f->nic);
}

/* ----------------------------------------------------------------- beginning */

static void
gone(void *arg, struct wire *w)
{
	struct nic_filter *f = arg;

	log_line("filter %s: the other end of %s is gone", f->id, w->spec);
	if (f->in == w)
		f->in = NULL;
	if (f->out == w)
		f->out = NULL;
	wire_close(w);
}

static int
set(struct nic_filter *f, const char *key, const char *v, char *why,
    size_t whylen)
{
	struct wire *w;
	const char *bad = NULL;
	unsigned k;

	if (!strcmp(key, "kind")) {
		for (k = 1; k < NKIND && strcmp(kinds[k], v); k++)
			;
		f->kind = k % NKIND;
	} else if (!strcmp(key, "queue")) {
		f->rx = strcmp(v, "tx");
		f->tx = strcmp(v, "rx");
		if (f->rx && f->tx && strcmp(v, "all"))
			goto bad;
	} else if (!strcmp(key, "status")) {
		f->off = !strcmp(v, "off");
		if (!f->off && strcmp(v, "on"))
			goto bad;
	} else if (!strcmp(key, "interval")) {
		f->interval = strtonum(v, 1, 3600000000ll, &bad) * 1000;
		if (bad)
			goto bad;
	} else if (!strcmp(key, "out") || !strcmp(key, "in")) {
		w = wire_open(v, *key == 'i' ? taken : NULL, f, why, whylen);
		if (!w)
			return -1;
		w->gone = gone;
		if (*w->bound && f->nic->d->part->bus >= 0)
			part_cleanup(f->nic->d->part, w->bound);
		*(*key == 'i' ? &f->in : &f->out) = w;
	} else {
		goto bad;
	}
	return 0;
bad:
	snprintf(why, whylen, PREFIX "%s.%s=%s: not understood", f->id, key, v);
	return -1;
}

static struct nic_filter *
named(struct nic *n, const char *id)
{
	struct nic_filter *f, *last = NULL;

	for (f = n->filters; f; last = f, f = f->next)
		if (!strcmp(f->id, id))
			return f;
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	strlcpy(f->id, id, sizeof f->id);
	f->nic = n;
	f->rx = f->tx = true;
	f->before = last;
	*(last ? &last->next : &n->filters) = f;
	return f;
}

int
nic_filters(struct nic *n, char *const *argv, char *why, size_t whylen)
{
	struct nic_filter *f;
	char word[300], *key, *v;

	for (; argv && *argv; argv++) {
		if (strncmp(*argv, PREFIX, strlen(PREFIX)))
			continue;
		snprintf(word, sizeof word, "%s", *argv + strlen(PREFIX));
		v = strchr(word, '=');
		if (v)
			*v++ = 0;
		key = strrchr(word, '.');
		if (!v || !key || strlen(*argv) >= sizeof word ||
		    key - word >= (int)sizeof f->id) {
			snprintf(why, whylen, "%s: not " PREFIX "ID.KEY=VALUE",
			    *argv);
			return -1;
		}
		*key++ = 0;
		f = named(n, word);
		if (!f || set(f, key, v, why, whylen) < 0)
			return -1;
	}
	for (f = n->filters; f; f = f->next) {
		if (f->kind == BUFFER && f->interval)
			f->held = malloc(HELD_MAX);
		if (f->kind == NONE || (f->kind == BUFFER ? !f->held :
		    f->kind == REDIRECTOR ? !f->in && !f->out : !f->out)) {
			snprintf(why, whylen, PREFIX "%s: says too little",
			    f->id);
			return -1;
		}
	}
	return 0;
}

void
nic_filters_close(struct nic *n)
{
	struct nic_filter *f;

	while ((f = n->filters)) {
		n->filters = f->next;
		loop_timer(n->d->loop, 0, nic_filter_release, f);
		if (f->out)
			wire_close(f->out);
		if (f->in)
			wire_close(f->in);
		free(f->held);
		free(f);
	}
}
