/*
 * filter.c - a bad cable: loss (single or in bursts, Gilbert's two-state
 * model), duplication, delay with jitter, bandwidth, bit errors, reordering,
 * MTU.  Where nothing is set a frame passes by reference; otherwise it is
 * copied into a fixed pool and waits in a heap by time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "filter.h"

#define POOL	(16u << 20)		/* bytes, also the queue's limit */
#define SLOT	2048u
#define NSLOT	(POOL / SLOT)

struct held { int64_t at; uint64_t seq; uint32_t slot, len; };

struct filter {
	struct filter_set set;
	struct wire	*to;
	struct timer	timer;
	uint64_t	rng, seq;
	bool		bad;			/* in a burst of losses */
	int64_t		last, line_free;
	uint8_t		*pool;
	uint32_t	*freelist, nfree;	/* runs of one slot */
	struct held	*heap;
	unsigned	nheap;
	uint32_t	bytes;
	uint64_t	n_in, n_lost, n_dup, n_full, n_bits, n_out, n_late;
};

static uint64_t
rnd(struct filter *f)
{
	uint64_t z = f->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static double
unit(struct filter *f)
{
	return (rnd(f) >> 11) * 0x1p-53;
}

static bool
chance(struct filter *f, double percent)
{
	return percent > 0 && unit(f) * 100 < percent;
}

static bool
before(const struct held *a, const struct held *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void
push(struct filter *f, struct held h)
{
	unsigned i = f->nheap++;

	while (i && before(&h, &f->heap[(i - 1) / 2])) {
		f->heap[i] = f->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	f->heap[i] = h;
}

static struct held
pop(struct filter *f)
{
	struct held top = f->heap[0], h = f->heap[--f->nheap];
	unsigned i = 0, k;

	while ((k = 2 * i + 1) < f->nheap) {
		if (k + 1 < f->nheap && before(&f->heap[k + 1], &f->heap[k]))
			k++;
		if (before(&h, &f->heap[k]))
			break;
		f->heap[i] = f->heap[k];
		i = k;
	}
	f->heap[i] = h;
	return top;
}

static void
due(struct timer *t)
{
	struct filter *f = t->arg;
	struct held h;
	unsigned n = 0;

	while (f->nheap && f->heap[0].at <= loop_now) {
		h = pop(f);
		wire_put(f->to, f->pool + (size_t)h.slot * SLOT, h.len);
		f->n_out++;
		f->bytes -= h.len;
		/* sent by reference: the slot is free after the flush */
		f->freelist[f->nfree++] = h.slot;
		if (++n % BATCH == 0)
			wire_flush(f->to);
	}
	wire_flush(f->to);
	if (f->nheap)
		timer_set(t, f->heap[0].at);
}

struct filter *
filter_new(struct wire *to, uint64_t seed)
{
	struct filter *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	f->to = to;
	f->rng = seed;
	f->set.fifo = true;
	f->set.queue = POOL / 2;
	f->timer = (struct timer){ 0, due, f };
	f->pool = malloc(POOL);
	f->freelist = calloc(NSLOT, sizeof *f->freelist);
	f->heap = calloc(NSLOT, sizeof *f->heap);
	if (!f->pool || !f->freelist || !f->heap)
		return NULL;
	for (f->nfree = 0; f->nfree < NSLOT; f->nfree++)
		f->freelist[f->nfree] = f->nfree;
	return f;
}

struct filter_set *
filter_settings(struct filter *f)
{
	return &f->set;
}

bool
filter_idle(const struct filter *f)
{
	return !f->nheap;
}

static bool
lost(struct filter *f)
{
	double p = f->set.loss / 100;

	if (f->set.burst <= 1)
		return chance(f, f->set.loss);
	/* leave the bad state with 1/burst; enter so that the share is p */
	if (f->bad ? unit(f) < 1 / f->set.burst :
	    p < 1 && unit(f) < p / (f->set.burst * (1 - p)))
		f->bad = !f->bad;
	return f->bad;
}

static int64_t
delay(struct filter *f)
{
	double d = f->set.delay, j = f->set.jitter, r;

	if (j > 0) {
		if (f->set.normal)	/* 98.8% within the limits */
			r = sqrt(-2 * log(unit(f) + 1e-12)) *
			    cos(6.283185307179586 * unit(f)) / 2.5;
		else
			r = unit(f) * 2 - 1;
		d += j * r;
	}
	return d > 0 ? d * MSEC : 0;
}

/* Keep a copy until `at`. */
static void
hold(struct filter *f, const struct frame *fr, int64_t at, uint64_t seq)
{
	uint32_t slot;
	uint64_t bit;
	double bits;
	uint8_t *p;

	if (!f->nfree || fr->len > SLOT || f->bytes + fr->len > f->set.queue) {
		f->n_full++;
		return;
	}
	slot = f->freelist[--f->nfree];
	p = f->pool + (size_t)slot * SLOT;
	memcpy(p, fr->p, fr->len);
	for (bits = f->set.corrupt * fr->len / (1 << 20); bits > 0; bits--)
		if (bits >= 1 || unit(f) < bits) {
			bit = rnd(f) % (fr->len * 8);
			p[bit / 8] ^= 1 << bit % 8;
			f->n_bits++;
		}
	f->bytes += fr->len;
	push(f, (struct held){ at, seq, slot, fr->len });
}

static void
one(struct filter *f, const struct frame *fr)
{
	struct filter_set *s = &f->set;
	int64_t at;

	f->n_in++;
	if (s->mtu && fr->len > s->mtu) {
		f->n_lost++;
		return;
	}
	if (s->loss > 0 && lost(f)) {
		f->n_lost++;
		return;
	}
	if (s->delay <= 0 && s->jitter <= 0 && s->rate <= 0 && s->dup <= 0 &&
	    s->reorder <= 0 && s->corrupt <= 0 && !f->nheap) {
		wire_put(f->to, fr->p, fr->len);
		f->n_out++;
		return;
	}
	at = loop_now;
	if (s->rate > 0) {
		if (f->line_free < at)
			f->line_free = at;
		f->line_free += fr->len / s->rate * SEC;
		at = f->line_free;
	}
	at += delay(f);
	if (chance(f, s->reorder)) {
		/* held back past those that follow */
		at += 2 * MSEC;
		f->n_late++;
	} else if (s->fifo) {
		if (at < f->last)
			at = f->last;
		f->last = at;
	}
	hold(f, fr, at, f->seq++);
	while (chance(f, s->dup > 90 ? 90 : s->dup)) {
		f->n_dup++;
		hold(f, fr, at, f->seq++);
	}
}

void
filter_in(struct filter *f, const struct frame *fr, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		one(f, &fr[i]);
	if (f->nheap)
		timer_set(&f->timer, f->heap[0].at);
}

/* ---------------------------------------------------------------- settings */

static const struct {
	const char *name, *unit;
	size_t	off;
	double	max;
} table[] = {
	{ "loss", "%", offsetof(struct filter_set, loss), 100 },
	{ "lostburst", "frames", offsetof(struct filter_set, burst), 1e6 },
	{ "dup", "%", offsetof(struct filter_set, dup), 90 },
	{ "reorder", "%", offsetof(struct filter_set, reorder), 100 },
	{ "delay", "ms", offsetof(struct filter_set, delay), 1e6 },
	{ "bandwidth", "bytes/s", offsetof(struct filter_set, rate), 1e12 },
	{ "noise", "bits/MiB", offsetof(struct filter_set, corrupt), 1e6 },
};
#define NT (sizeof table / sizeof *table)

static const char *
value(const char *s, double *v)
{
	char *end;

	*v = strtod(s, &end);
	if (end == s || !isfinite(*v) || *v < 0)
		return NULL;
	switch (*end) {
	case 'K': *v *= 1 << 10; end++; break;
	case 'M': *v *= 1 << 20; end++; break;
	case 'G': *v *= 1 << 30; end++; break;
	}
	return end;
}

int
filter_set(struct filter_set *s, const char *name, const char *val)
{
	double v, j = 0;
	const char *e = value(val, &v);
	unsigned i;

	if (!strcmp(name, "mtu") || !strcmp(name, "chanbufsize")) {
		if (!e || *e || v > 65535 * 1024.0)
			return -2;
		if (*name == 'm')
			s->mtu = v;
		else
			s->queue = v && v < POOL ? v : POOL / 2;
		return 0;
	}
	if (!strcmp(name, "fifo")) {
		if (!e || *e)
			return -2;
		s->fifo = v != 0;
		return 0;
	}
	for (i = 0; i < NT && strcmp(table[i].name, name); i++)
		;
	if (i == NT)
		return -1;
	if (e && *e == '+' && !strcmp(name, "delay")) {
		e = value(e + 1, &j);
		if (e && (*e == 'N' || *e == 'U'))
			s->normal = *e++ == 'N';
	}
	if (!e || *e || v > table[i].max)
		return -2;
	*(double *)((char *)s + table[i].off) = v;
	if (!strcmp(name, "delay"))
		s->jitter = j;
	return 0;
}

void
filter_show(const struct filter_set *s, FILE *out)
{
	for (unsigned i = 0; i < NT; i++) {
		fprintf(out, " %s %g", table[i].name, *(const double *)
		    ((const char *)s + table[i].off));
		if (!strcmp(table[i].name, "delay") && s->jitter > 0)
			fprintf(out, "+%g%c", s->jitter, s->normal ? 'N' : 'U');
		fprintf(out, " %s\n", table[i].unit);
	}
	fprintf(out, " mtu %u\n chanbufsize %u\n fifo %d\n", s->mtu, s->queue,
	    s->fifo);
}

void
filter_stat(struct filter *f, FILE *out)
{
	fprintf(out, " in %llu out %llu lost %llu full %llu dup %llu late %llu "
	    "bits %llu waiting %u\n", (unsigned long long)f->n_in,
	    (unsigned long long)f->n_out, (unsigned long long)f->n_lost,
	    (unsigned long long)f->n_full, (unsigned long long)f->n_dup,
	    (unsigned long long)f->n_late, (unsigned long long)f->n_bits,
	    f->nheap);
}
