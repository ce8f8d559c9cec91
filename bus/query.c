/*
 * query.c - what the broker answers itself (PROTOCOL.md "Questions to the bus"):
 * a table of words.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"

#define PMEM_MAX	16384
#define ASK_NS		20000000000ll

struct ask {
	struct broker	*b;
	struct peer	*from;
	uint64_t	id;
	char		**argv;
};

/* 0: *out is the answer; > 0: errno, with text in out or not; -1: answered, or
 * will be. */
typedef int query_fn(struct ask *, FILE *out);

static int
q_status(struct ask *a, FILE *out)
{
	fputs(life_status(a->b), out);
	return 0;
}

static int
q_name(struct ask *a, FILE *out)
{
	fputs(a->b->mf->name, out);
	return 0;
}

static int
q_uuid(struct ask *a, FILE *out)
{
	fputs(a->b->mf->uuid != NULL ? a->b->mf->uuid :
	    "00000000-0000-0000-0000-000000000000", out);
	return 0;
}

static int
q_dir(struct ask *a, FILE *out)
{
	fputs(a->b->dir, out);
	return 0;
}

static int
q_version(struct ask *a, FILE *out)
{
	(void)a;
	fputs(VERSION, out);
	return 0;
}

static int
q_machine(struct ask *a, FILE *out)
{
	fputs(a->b->mf->text, out);
	return 0;
}

static int
q_parts(struct ask *a, FILE *out)
{
	static const char *const state[] = { "starting", "hello", "ready",
	    "gone" };
	struct peer *p;
	unsigned i;

	for (i = 0; i < PART_MAX; i++) {
		p = a->b->part[i];
		if (p != NULL)
			fprintf(out, "num=%u name=%s chip=%s pid=%d "
			    "state=%s\n", i, p->name, p->chip, (int)p->pid,
			    state[p->state]);
	}
	return 0;
}

static int
q_mtree(struct ask *a, FILE *out)
{
	static const char *const title[] = { "memory", "I/O" };
	const struct map *m = a->b->map;
	const struct map_ent *e;
	const char *name;
	unsigned i;
	int space, w;

	for (space = SPACE_MEM; space <= SPACE_IO; space++) {
		fprintf(out, "address-space: %s\n", title[space]);
		w = space == SPACE_MEM ? 16 : 4;
		for (i = 0; i < m->nent; i++) {
			e = &m->ent[i];
			if (e->space != space)
				continue;
			name = e->part == MAP_RAM ? "ram" :
			    a->b->part[e->part]->name;
			fprintf(out, "  %0*llx-%0*llx (prio %u, %s): %s", w,
			    (unsigned long long)e->start, w,
			    (unsigned long long)e->last, e->prio,
			    range_kind_name[e->kind], name);
			if (e->part != MAP_RAM)
				fprintf(out, " range %u", e->range);
			if (e->start != e->base)
				fprintf(out, " @%llx", (unsigned long long)
				    (e->start - e->base));
			putc('\n', out);
		}
	}
	return 0;
}

static int
q_lines(struct ask *a, FILE *out)
{
	uint64_t w;
	unsigned i;

	for (i = 0; i < IRQ_LINES; i++) {
		w = atomic_load(&a->b->irq->line[i]);
		if (a->b->nsource[i] != 0)
			fprintf(out, "line=%u level=%d sources=0x%x edges=%u\n",
			    i, (uint32_t)w != 0, (uint32_t)w,
			    (uint32_t)(w >> 32));
	}
	return 0;
}

static int
q_stat(struct ask *a, FILE *out)
{
	part_stat(a->b, out);
	return 0;
}

static int
q_cleanup(struct ask *a, FILE *out)
{
	(void)out;
	return a->argv[1] != NULL ? peer_cleanup(a->from, a->argv[1]) : EINVAL;
}

static void
job_done(struct broker *b, void *arg, uint64_t tag, int err)
{
	const char *s = err != 0 ? strerror(err) : "";

	(void)b;
	peer_answer(arg, tag, err, s, strlen(s));
}

static int
job(struct ask *a, enum job_kind kind, enum vm_state then)
{
	life_job(a->b, kind, then, job_done, a->from, a->id);
	return -1;
}

static int
q_stop(struct ask *a, FILE *out)
{
	(void)out;
	return job(a, JOB_STOP, VM_PAUSED);
}

static int
q_cont(struct ask *a, FILE *out)
{
	(void)out;
	return job(a, JOB_RUN, VM_RUNNING);
}

static int
q_reset(struct ask *a, FILE *out)
{
	(void)out;
	return job(a, JOB_RESET, VM_NSTATE);
}

static int
q_quit(struct ask *a, FILE *out)
{
	(void)out;
	peer_answer(a->from, a->id, 0, "", 0);
	life_end(a->b, 0);
	return -1;
}

static void
passed(struct broker *b, void *arg, uint64_t tag, int err, char *text,
    int *fds, int nfd)
{
	(void)b, (void)fds, (void)nfd;
	if (arg == NULL)
		return;
	if (text == NULL)
		text = strerror(err);
	peer_answer(arg, tag, err, text, strlen(text));
}

static int
pass(struct ask *a, const char *part, const char *words)
{
	struct peer *p = peer_named(a->b, part);

	if (p == NULL || p->state != PEER_READY)
		return ENODEV;
	peer_ask(p, passed, a->from, a->id, ASK_NS, NULL, 0, "ask %s", words);
	return -1;
}

static int
q_powerdown(struct ask *a, FILE *out)
{
	(void)out;
	broker_event(a->b, "bus", "powerdown");
	return pass(a, "pm0", "powerbutton");
}

static int
q_nmi(struct ask *a, FILE *out)
{
	(void)out;
	return pass(a, "cpu", "nmi");
}

static int
number(const char *s, uint64_t *n)
{
	char *end;

	if (s == NULL)
		return -1;
	errno = 0;
	*n = strtoull(s, &end, 0);
	return errno != 0 || end == s || *end != '\0' ? -1 : 0;
}

static int
q_pmem(struct ask *a, FILE *out)
{
	uint64_t addr, len, i;
	const uint8_t *p;

	if (number(a->argv[1], &addr) < 0 || number(a->argv[2], &len) < 0 ||
	    len == 0 || len > PMEM_MAX)
		return EINVAL;
	p = ram_at(&a->b->ram, addr, len);
	if (p == NULL)
		return EFAULT;
	for (i = 0; i < len; i++)
		fprintf(out, "%02x", p[i]);
	return 0;
}

static int
q_log(struct ask *a, FILE *out)
{
	const char *list = a->argv[1] != NULL ? a->argv[1] : "none";
	unsigned i;

	(void)out;
	log_items(list);
	for (i = 0; i < PART_MAX; i++)
		if (a->b->part[i] != NULL)
			peer_send(a->b->part[i], NULL, 0, "log %s", list);
	return 0;
}

static int
state_file(struct ask *a, FILE *out, const char *verb, int flags)
{
	struct peer *p;
	int fd;

	if (a->argv[1] == NULL || a->argv[2] == NULL)
		return EINVAL;
	p = peer_named(a->b, a->argv[1]);
	if (p == NULL || p->state != PEER_READY)
		return ENOENT;
	if (a->b->running)
		return EBUSY;
	fd = open(a->argv[2], flags | O_CLOEXEC, 0600);
	if (fd < 0) {
		fprintf(out, "%s: %s", a->argv[2], strerror(errno));
		return errno;
	}
	peer_ask(p, passed, a->from, a->id, ASK_NS, &fd, 1, "%s", verb);
	close(fd);
	return -1;
}

static int
q_save(struct ask *a, FILE *out)
{
	return state_file(a, out, "save", O_WRONLY | O_CREAT | O_TRUNC);
}

static int
q_load(struct ask *a, FILE *out)
{
	return state_file(a, out, "load", O_RDONLY);
}

static const struct {
	const char	*word;
	query_fn	*fn;
} table[] = {
	{ "status", q_status },
	{ "name", q_name },
	{ "uuid", q_uuid },
	{ "dir", q_dir },
	{ "version", q_version },
	{ "machine", q_machine },
	{ "parts", q_parts },
	{ "mtree", q_mtree },
	{ "lines", q_lines },
	{ "stat", q_stat },
	{ "cleanup", q_cleanup },
	{ "stop", q_stop },
	{ "cont", q_cont },
	{ "system_reset", q_reset },
	{ "system_powerdown", q_powerdown },
	{ "quit", q_quit },
	{ "nmi", q_nmi },
	{ "pmem", q_pmem },
	{ "log", q_log },
	{ "save", q_save },
	{ "load", q_load },
};

void
query(struct broker *b, struct peer *from, uint64_t id, char **argv)
{
	struct ask a = { b, from, id, argv };
	char *text = NULL;
	size_t len = 0, i;
	FILE *out;
	int e = ENOSYS;

	out = open_memstream(&text, &len);
	if (out == NULL)
		return;
	for (i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (strcmp(argv[0], table[i].word) == 0) {
			e = table[i].fn(&a, out);
			break;
		}
	}
	fclose(out);
	if (e > 0 && len == 0)
		peer_answer(from, id, e, strerror(e), strlen(strerror(e)));
	else if (e >= 0)
		peer_answer(from, id, e, text, len);
	free(text);
}
