/*
 * vm-tap.c - prints the bus of a running machine as text.
 *
 * The data path does not pass the broker, so each part writes a trace into its
 * own channel page while somebody taps it (PROTOCOL.md "Channels", Trace); this
 * program has the flags counted up, reads the rings and sorts by time.  What
 * costs no round trip (RAM, ROM, shadow and status reads) is not seen; chips in
 * the vcpu process show what cpu/ puts into its trace.
 */
#include <bsd/string.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "private.h"

#define LOOK_NS	10000000

struct tapped {
	struct chan_ref	*ref;
	unsigned	num;
	uint64_t	next;		/* entry to read */
	uint64_t	lost;
};

static struct access acc;
static struct tapped tap[PART_MAX];
static unsigned ntap;
static volatile sig_atomic_t end;
static enum space f_space;
static uint64_t f_first, f_last = ~0ull;
static bool f_range;
static int64_t t0;

static void
on_signal(int sig)
{
	(void)sig;
	end = 1;
}

static void
usage(void)
{
	fputs("usage: vm-tap [-n COUNT] [-p PART]... [-r [io:|mem:]FIRST"
	    "[-LAST]]... NAME\n", stderr);
	exit(2);
}

/* Where a range is now: its address in *addr. */
static bool
where(unsigned part, unsigned range, uint64_t off, struct map_ent *out)
{
	const struct map *m = acc.map;
	unsigned i, n = m->nent < MAP_MAX ? m->nent : MAP_MAX;

	for (i = 0; i < n; i++) {
		*out = m->ent[i];
		if (out->part == part && out->range == range &&
		    off <= out->last - out->base)
			return true;
	}
	return false;
}

static const char *const op_name[] = {
	[CHAN_READ] = "r", [CHAN_WRITE] = "w", [CHAN_INS] = "ins",
	[CHAN_OUTS] = "outs", [CHAN_CFGW] = "cfgw", [CHAN_BELL] = "bell",
	[CHAN_IRQ] = "irq", [CHAN_MSI] = "msi", [CHAN_NOP] = "nop"
};

/* false: filtered out */
static bool
print(const struct tapped *t, const struct trace_ent *e)
{
	struct map_ent m;
	char at[40];
	bool known = false;
	const char *op = e->op <= CHAN_NOP ? op_name[e->op] : "?";

	if (e->op <= CHAN_OUTS)
		known = where(t->num, e->range, e->off, &m);
	if (f_range && (!known || m.space != f_space ||
	    m.base + e->off < f_first || m.base + e->off > f_last))
		return false;
	if (known)
		snprintf(at, sizeof at, "%s%llx", m.space == SPACE_IO ? "" :
		    "m", (unsigned long long)(m.base + e->off));
	else
		snprintf(at, sizeof at, "#%u+%llx", e->range,
		    (unsigned long long)e->off);
	printf("%lld.%06lld %s ", (long long)(e->when - t0) / 1000000000,
	    (long long)(e->when - t0) / 1000 % 1000000, t->ref->name);
	switch (e->op) {
	case CHAN_READ:
	case CHAN_WRITE:
		printf("%s%u %s %0*llx%s", op, e->size, at,
		    e->size <= 8 ? e->size * 2 : 2, (unsigned long long)
		    (e->size >= 8 ? e->data : e->data &
		    ((1ull << e->size * 8) - 1)), e->posted ? " posted" : "");
		break;
	case CHAN_INS:
	case CHAN_OUTS:
		printf("%s%u %s x%u", op, e->size, at, e->count);
		break;
	case CHAN_CFGW:
		printf("%s%u fn%u+%llx %llx", op, e->size, e->range,
		    (unsigned long long)e->off, (unsigned long long)e->data);
		break;
	case CHAN_IRQ:
		printf("irq %llu %llu", (unsigned long long)e->off,
		    (unsigned long long)e->data);
		break;
	case CHAN_MSI:
		printf("msi %llu %llx", (unsigned long long)e->off,
		    (unsigned long long)e->data);
		break;
	default:
		printf("%s %llx", op, (unsigned long long)e->data);
		break;
	}
	if (e->op <= CHAN_CFGW && acc.nvcpu > 1)
		printf(" cpu%u", e->vcpu);
	putchar('\n');
	return true;
}

/* Copy the next whole entry; false: none yet. */
static bool
peek(struct tapped *t, struct trace_ent *out)
{
	struct trace *tr = &t->ref->chan->trace;
	struct trace_ent *e;
	uint64_t head = atomic_load(&tr->head), seq;

	if (head == t->next)
		return false;
	if (head - t->next > TRACE_N || head < t->next) {
		t->lost += head - t->next;
		t->next = head > TRACE_N ? head - TRACE_N / 2 : 0;
	}
	e = &tr->ent[t->next % TRACE_N];
	seq = atomic_load_explicit(&e->seq, memory_order_acquire);
	if (seq < t->next + 1)
		return false;		/* being written */
	memcpy(out, e, sizeof *out);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&e->seq, memory_order_relaxed) !=
	    t->next + 1) {
		t->next++;
		t->lost++;
		return peek(t, out);
	}
	return true;
}

/* Print what there is, the oldest first. Entries printed. */
static long
drain(long max)
{
	static struct trace_ent ent[PART_MAX];
	static bool have[PART_MAX];
	unsigned i, best;
	long n = 0;

	while (n < max) {
		best = ntap;
		for (i = 0; i < ntap; i++) {
			if (!have[i])
				have[i] = peek(&tap[i], &ent[i]);
			if (have[i] && (best == ntap ||
			    ent[i].when < ent[best].when))
				best = i;
		}
		if (best == ntap)
			break;
		have[best] = false;
		tap[best].next++;
		if (tap[best].lost > 0)
			printf("# %s: %llu lost\n", tap[best].ref->name,
			    (unsigned long long)tap[best].lost);
		tap[best].lost = 0;
		n += print(&tap[best], &ent[best]);
	}
	fflush(stdout);
	return n;
}

static int
attach(const char *vm, char **want, unsigned nwant)
{
	char *text = NULL, *line, *save, *argv[32];
	const char *name;
	unsigned num, i;
	bool found;

	if (bus_ask(acc.bus, "bus", "parts", -1, &text) != 0) {
		fprintf(stderr, "vm-tap: %s: no answer\n", vm);
		return -1;
	}
	for (i = 0; i < nwant; i++) {
		char pat[64];

		snprintf(pat, sizeof pat, " name=%.31s ", want[i]);
		if (strstr(text, pat) == NULL) {
			fprintf(stderr, "vm-tap: %s has no part '%s'\n", vm,
			    want[i]);
			return -1;
		}
	}
	for (line = strtok_r(text, "\n", &save); line != NULL;
	    line = strtok_r(NULL, "\n", &save)) {
		if (line_split(line, argv, 32) < 1 ||
		    (name = line_key(argv, "name")) == NULL)
			continue;
		found = nwant == 0;
		for (i = 0; i < nwant; i++)
			if (strcmp(want[i], name) == 0)
				found = true;
		num = (unsigned)line_u64(argv, "num", PART_MAX);
		if (!found || num >= PART_MAX)
			continue;
		tap[ntap].ref = access_part(&acc, num);
		if (tap[ntap].ref == NULL)
			continue;	/* not up */
		tap[ntap].num = num;
		tap[ntap].next = atomic_load(
		    &tap[ntap].ref->chan->trace.head);
		if (bus_request(acc.bus, NULL, NULL, NULL, "trace %s on",
		    name) == 0)
			ntap++;
	}
	free(text);
	return 0;
}

static int
range_option(char *s)
{
	char *end_of, *dash;

	f_space = SPACE_IO;
	if (strncmp(s, "mem:", 4) == 0) {
		f_space = SPACE_MEM;
		s += 4;
	} else if (strncmp(s, "io:", 3) == 0) {
		s += 3;
	}
	dash = strchr(s, '-');
	f_first = f_last = strtoull(s, &end_of, 16);
	if (end_of == s || (*end_of != '\0' && end_of != dash))
		return -1;
	if (dash != NULL) {
		f_last = strtoull(dash + 1, &end_of, 16);
		if (end_of == dash + 1 || *end_of != '\0')
			return -1;
	}
	f_range = true;
	return 0;
}

int
main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct pollfd p = { -1, POLLIN, 0 };
	struct timespec ts = { 0, LOOK_NS };
	char why[256], *want[PART_MAX], drop[4096];
	unsigned nwant = 0;
	long max = -1, n;
	int c, nfd;

	while ((c = getopt(argc, argv, "+n:p:r:")) != -1) {
		switch (c) {
		case 'n':
			max = atol(optarg);
			break;
		case 'p':
			if (nwant == PART_MAX)
				usage();
			want[nwant++] = optarg;
			break;
		case 'r':
			if (range_option(optarg) < 0) {
				fprintf(stderr, "vm-tap: -r %s: not a range\n",
				    optarg);
				return 2;
			}
			break;
		default:
			usage();
		}
	}
	if (optind != argc - 1)
		usage();
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	p.fd = bus_connect("vm-tap", argv[optind], why, sizeof why);
	if (p.fd < 0) {
		fprintf(stderr, "vm-tap: %s\n", why);
		return 1;
	}
	if (access_open(&acc, p.fd, false) < 0) {
		fprintf(stderr, "vm-tap: %s: %s\n", argv[optind], acc.why);
		return 1;
	}
	t0 = now_ns();
	if (attach(argv[optind], want, nwant) < 0 || bus_request(p.fd, NULL,
	    NULL, NULL, "subscribe") != 0)
		return 1;
	fprintf(stderr, "tapping %u parts of %s\n", ntap, argv[optind]);
	while (!end && max != 0) {
		n = drain(max < 0 ? 10000 : max);
		if (max > 0)
			max -= n;
		if (n > 0 && max != 0)
			continue;
		if (poll(&p, 1, 0) > 0) {
			nfd = 0;
			n = line_recv(p.fd, drop, sizeof drop, NULL, &nfd);
			if (n <= 0)
				break;	/* the machine has ended */
			printf("# %s\n", drop);
			fflush(stdout);
		}
		nanosleep(&ts, NULL);
	}
	drain(max < 0 ? 100000 : max);
	return 0;
}
