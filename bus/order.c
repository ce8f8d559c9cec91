/*
 * order.c - what the broker requests of a part, one at a time, on the thread of
 * part_run (PROTOCOL.md "Life cycle").
 */
#include <bsd/string.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "part.h"

static void
answer(struct part *p, struct msg *m, int e, const char *text, size_t len)
{
	answer_send(p->bus, 0, m->id, e, text, len);
}

static void
answer_errno(struct part *p, struct msg *m, int e)
{
	const char *s = e != 0 ? strerror(e) : "";

	answer(p, m, e, s, strlen(s));
}

static void
do_ask(struct part *p, struct msg *m, char *question)
{
	char *argv[64], *text = NULL;
	size_t len = 0;
	FILE *out;
	int e;

	out = open_memstream(&text, &len);
	if (out == NULL) {
		answer_errno(p, m, ENOMEM);
		return;
	}
	if (line_split(question, argv, 64) < 0)
		e = EINVAL;
	else {
		p->priv->asked = m;
		e = p->ops->ask != NULL ? p->ops->ask(p->arg, argv, out) :
		    ENOTSUP;
		p->priv->asked = NULL;
	}
	fclose(out);
	if (e < 0)
		e = EINVAL;
	if (e != 0 && len == 0)
		answer_errno(p, m, e);
	else
		answer(p, m, e, text, len);
	free(text);
}

int
part_take_fd(struct part *p)
{
	struct msg *m = p->priv->asked;

	return m == NULL || m->nfd == 0 ? -1 : m->fds[--m->nfd];
}

static void
do_boot(struct part *p, char *const *argv)
{
	static const char *const modes[] = {
		"reset", "real16", "prot32", "long64"
	};
	const char *s = line_key(argv, "mode");
	struct boot *b = &p->boot;
	unsigned i;

	memset(b, 0, sizeof *b);
	for (i = 0; i < 4 && s != NULL; i++)
		if (strcmp(s, modes[i]) == 0)
			b->mode = (enum boot_mode)i;
	b->rip = line_u64(argv, "rip", 0);
	b->rsp = line_u64(argv, "rsp", 0);
	b->rsi = line_u64(argv, "rsi", 0);
	b->rbx = line_u64(argv, "rbx", 0);
	b->rax = line_u64(argv, "rax", 0);
	b->cr3 = line_u64(argv, "cr3", 0);
	b->cs = (uint16_t)line_u64(argv, "cs", 0);
	b->ds = (uint16_t)line_u64(argv, "ds", 0);
	b->gdt = line_u64(argv, "gdt", 0);
}

static int
do_part(struct part *p, struct msg *m, char *const *argv)
{
	unsigned num = (unsigned)line_u64(argv, "num", PART_MAX);
	const char *name = line_key(argv, "name");
	struct chan_ref *r;

	if (p->refs == NULL)
		return ENOTSUP;
	if (num >= PART_MAX || name == NULL || m->nfd != 3)
		return EINVAL;
	r = &p->refs[num];
	m->nfd = 0;
	r->state_len = line_u64(argv, "state", 0);
	r->state = r->state_len > 0 ? part_map(m->fds[2], r->state_len,
	    PROT_READ) : (close(m->fds[2]), NULL);
	r->kick = m->fds[1];
	strlcpy(r->name, name, sizeof r->name);
	r->chan = part_map(m->fds[0], CHAN_BYTES(p->nvcpu),
	    PROT_READ | PROT_WRITE);
	if (r->chan == NULL || (r->state == NULL && r->state_len > 0))
		return ENOMEM;
	if (p->ops->newpart != NULL)
		p->ops->newpart(p->arg, num);
	return 0;
}

static void
do_stop(struct part *p)
{
	while (part_serve(p))
		;
	p->running = false;
	if (p->ops->stop != NULL)
		p->ops->stop(p->arg);
	part_timers(p);
}

static void
do_run(struct part *p)
{
	p->running = true;
	if (p->ops->run != NULL)
		p->ops->run(p->arg);
	part_timers(p);
}

static int
do_state(struct part *p, struct msg *m, bool save)
{
	int r;

	if (m->nfd < 1)
		return EBADF;
	if (p->running)
		return EBUSY;
	if ((save ? p->ops->save : p->ops->load) == NULL)
		return ENOTSUP;
	errno = EIO;
	r = save ? p->ops->save(p->arg, m->fds[0]) :
	    p->ops->load(p->arg, m->fds[0]);
	return r == 0 ? 0 : r > 0 ? r : errno;
}

static void
handle(struct part *p, struct msg *m)
{
	char *argv[64];
	int e = 0;

	if (strncmp(m->line, "ask ", 4) == 0) {
		do_ask(p, m, m->line + 4);
		return;
	}
	if (line_split(m->line, argv, 64) < 1) {
		answer_errno(p, m, EINVAL);
		return;
	}
	if (strcmp(argv[0], "run") == 0) {
		do_run(p);
	} else if (strcmp(argv[0], "stop") == 0) {
		do_stop(p);
	} else if (strcmp(argv[0], "reset") == 0) {
		if (p->ops->reset != NULL)
			p->ops->reset(p->arg);
	} else if (strcmp(argv[0], "save") == 0) {
		e = do_state(p, m, true);
	} else if (strcmp(argv[0], "load") == 0) {
		e = do_state(p, m, false);
	} else if (strcmp(argv[0], "boot") == 0) {
		do_boot(p, argv);
	} else if (strcmp(argv[0], "part") == 0) {
		e = do_part(p, m, argv);
	} else if (strcmp(argv[0], "log") == 0) {
		log_items(argv[1] != NULL ? argv[1] : "");
	} else if (strcmp(argv[0], "event") == 0 && argv[1] != NULL) {
		if (p->ops->event != NULL)
			p->ops->event(p->arg, argv[1], argv + 2);
	} else if (strcmp(argv[0], "quit") == 0) {
		p->priv->quit = true;
		answer_errno(p, m, 0);
		return;
	} else {
		e = ENOSYS;
	}
	answer_errno(p, m, e);
}

bool
part_obey(struct part *p)
{
	struct part_priv *v = p->priv;
	struct msg *m;

	pthread_mutex_lock(&v->lock);
	m = v->queue;
	if (m != NULL) {
		v->queue = m->next;
		if (v->queue == NULL)
			v->tail = &v->queue;
	}
	pthread_mutex_unlock(&v->lock);
	if (m == NULL)
		return false;
	handle(p, m);
	msg_free(m);
	return true;
}
