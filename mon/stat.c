/*
 * `stat': what each part costs and why vcpus leave translated code, per second
 * between two readings of the broker's and the vcpu's counters.  A client takes
 * both a second apart; the server must not sleep, so there a session's first
 * `stat' shows the totals and the next ones rates.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "mon.h"

#define WORDS_MAX 64

struct row {
	char		name[32];
	uint64_t	cpu, sync, post, bell, kick, rss, pss;
};
/* Counters of a vcpu: the key of its answer, the heading. */
static const struct { const char *key, *head; } cols[] = {
	{ "exits", "loop" }, { "irqs", "irq" }, { "faults", "fault" },
	{ "halts", "halt" }, { "io", "slow" }, { "helpers", "helper" },
	{ "finds", "jump" }, { "misses", "miss" }, { "refills", "refill" },
	{ "translated", "new" },
};
#define NCOL	(sizeof(cols) / sizeof(cols[0]))
struct vrow { uint64_t v[NCOL]; };

struct mon_stat {
	int64_t		when;
	int		n, ncpu;
	struct row	row[PART_MAX];
	struct vrow	cpu[NVCPU_MAX];
};

static uint64_t
num(char **argv, const char *key)
{
	const char *v = line_key(argv, key);

	return v ? strtoull(v, NULL, 0) : 0;
}

static int
read_vcpus(struct mon *m, struct mon_stat *s)
{
	char *reply, *line, *save, *argv[WORDS_MAX];

	if (mon_ask(m, &reply, "cpu", "stat") == -1)
		return -1;
	for (line = strtok_r(reply, "\n", &save);
	    line != NULL && s->ncpu < NVCPU_MAX;
	    line = strtok_r(NULL, "\n", &save)) {
		if (line_split(line, argv, WORDS_MAX) < 1)
			continue;
		for (size_t i = 0; i < NCOL; i++)
			s->cpu[s->ncpu].v[i] = num(argv, cols[i].key);
		s->ncpu++;
	}
	free(reply);
	return 0;
}

static struct mon_stat *
reading(struct mon *m)
{
	struct mon_stat *s;
	char *reply, *line, *save, *argv[WORDS_MAX];
	const char *name;

	if (mon_ask(m, &reply, "bus", "stat") == -1)
		return NULL;
	if ((s = calloc(1, sizeof(*s))) == NULL) {
		free(reply);
		return NULL;
	}
	s->when = now_ns();
	for (line = strtok_r(reply, "\n", &save);
	    line != NULL && s->n < PART_MAX;
	    line = strtok_r(NULL, "\n", &save)) {
		struct row *r = &s->row[s->n];

		if (line_split(line, argv, WORDS_MAX) < 1 ||
		    (name = line_key(argv, "name")) == NULL)
			continue;
		snprintf(r->name, sizeof(r->name), "%s", name);
		r->cpu = num(argv, "cpu_ms");
		r->sync = num(argv, "sync");
		r->post = num(argv, "post");
		r->bell = num(argv, "bell");
		r->kick = num(argv, "kick");
		r->rss = num(argv, "rss");
		r->pss = num(argv, "pss");
		s->n++;
	}
	free(reply);
	if (read_vcpus(m, s) == -1) {
		free(s);
		return NULL;
	}
	return s;
}

static void
show_vcpus(struct mon *m, const struct mon_stat *old,
    const struct mon_stat *now, double sec)
{
	char name[16];

	fprintf(m->out, "%-6s", "vcpu");
	for (size_t k = 0; k < NCOL; k++) {
		snprintf(name, sizeof(name), "%s%s", cols[k].head,
		    sec > 0 ? "/s" : "");
		fprintf(m->out, " %9s", name);
	}
	fprintf(m->out, "\n");
	for (int i = 0; i < now->ncpu; i++) {
		fprintf(m->out, "%-6d", i);
		for (size_t k = 0; k < NCOL; k++)
			fprintf(m->out, " %9.0f", (now->cpu[i].v[k] -
			    (old && i < old->ncpu ? old->cpu[i].v[k] : 0)) /
			    (sec > 0 ? sec : 1));
		fprintf(m->out, "\n");
	}
}

static const struct row *
before(const struct mon_stat *s, const char *name)
{
	static const struct row none;

	for (int i = 0; s != NULL && i < s->n; i++)
		if (strcmp(s->row[i].name, name) == 0)
			return &s->row[i];
	return &none;
}

int
cmd_stat(struct mon *m, int argc, char **argv)
{
	struct mon_stat *old = m->stat, *now;
	double sec = 0;

	if (old == NULL && !m->server) {
		if ((old = reading(m)) == NULL)
			return -1;
		nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	}
	if ((now = reading(m)) == NULL) {
		if (old != m->stat)
			free(old);
		return -1;
	}
	if (old != NULL)
		sec = (now->when - old->when) / 1e9;
	if (sec > 0)
		fprintf(m->out, "%-12s %6s %9s %9s %9s %9s %8s %8s\n", "part",
		    "cpu%", "sync/s", "post/s", "bell/s", "kick/s", "rss KiB",
		    "pss KiB");
	else
		fprintf(m->out, "%-12s %6s %9s %9s %9s %9s %8s %8s\n", "part",
		    "cpu s", "sync", "post", "bell", "kick", "rss KiB",
		    "pss KiB");
	for (int i = 0; i < now->n; i++) {
		const struct row *n = &now->row[i];
		const struct row *o = before(old, n->name);
		double d = sec > 0 ? sec : 1;

		fprintf(m->out, "%-12s %6.1f %9.0f %9.0f %9.0f %9.0f %8" PRIu64
		    " %8" PRIu64 "\n", n->name, sec > 0 ?
		    (n->cpu - o->cpu) / d / 10 : n->cpu / 1000.0,
		    (n->sync - o->sync) / d, (n->post - o->post) / d,
		    (n->bell - o->bell) / d, (n->kick - o->kick) / d, n->rss,
		    n->pss);
	}
	show_vcpus(m, old, now, sec);
	free(old);
	m->stat = now;
	return 0;
}
