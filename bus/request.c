/*
 * request.c - the control lines of a part: its requests and their answers
 * (PROTOCOL.md "Requests of a part").
 */
#include <bsd/string.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "part.h"

struct waiter {
	struct waiter	*next;
	uint64_t	id;
	struct msg	*answer;
	bool		eof;
};

void
msg_free(struct msg *m)
{
	int i;

	if (m == NULL)
		return;
	for (i = 0; i < m->nfd; i++)
		close(m->fds[i]);
	free(m);
}

void
part_receive(struct part *p)
{
	struct part_priv *v = p->priv;
	struct waiter *w;
	struct msg *m;
	int fds[LINE_FDS], nfd = LINE_FDS, i;
	ssize_t n;
	uint64_t one = 1;

	v->reading = true;
	pthread_mutex_unlock(&v->lock);
	n = line_recv(p->bus, v->buf, LINE_MAX_BYTES + 1, fds, &nfd);
	m = n > 0 ? malloc(sizeof *m + (size_t)n + 1) : NULL;
	pthread_mutex_lock(&v->lock);
	v->reading = false;
	if (n < 0 && (errno == EMSGSIZE || errno == EAGAIN))
		goto out;
	if (n <= 0) {
		v->eof = true;
		for (w = v->waiters; w != NULL; w = w->next)
			w->eof = true;
		goto out;
	}
	if (m == NULL) {
		for (i = 0; i < nfd; i++)
			close(fds[i]);
		goto out;
	}
	memcpy(m->text, v->buf, (size_t)n + 1);
	memcpy(m->fds, fds, sizeof fds);
	m->nfd = nfd;
	m->next = NULL;
	m->line = line_id(m->text, &m->id);
	if (strncmp(m->line, "ok", 2) == 0 || strncmp(m->line, "err ", 4) == 0) {
		for (w = v->waiters; w != NULL; w = w->next)
			if (w->id == m->id && w->answer == NULL)
				break;
		if (w != NULL)
			w->answer = m;
		else
			msg_free(m);
	} else {
		*v->tail = m;
		v->tail = &m->next;
	}
out:
	pthread_cond_broadcast(&v->cond);
	if ((v->queue != NULL || v->eof) &&
	    !pthread_equal(pthread_self(), v->main) &&
	    write(v->wake, &one, sizeof one) < 0) {
		/* EAGAIN: already readable */
	}
}

int
part_request(struct part *p, int fd, struct msg **out, char **text,
    const char *fmt, ...)
{
	struct part_priv *v = p->priv;
	struct waiter w = { 0 }, **pp;
	char *line;
	va_list ap;
	int n, e;

	*out = NULL;
	*text = NULL;
	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return ENOMEM;
	pthread_mutex_lock(&v->lock);
	w.id = ++v->last_id;
	w.next = v->waiters;
	w.eof = v->eof;
	v->waiters = &w;
	pthread_mutex_unlock(&v->lock);
	e = line_send(p->bus, &fd, fd >= 0, "@%llu %s",
	    (unsigned long long)w.id, line) < 0 ? errno : 0;
	free(line);
	pthread_mutex_lock(&v->lock);
	while (e == 0 && w.answer == NULL && !w.eof) {
		if (v->reading)
			pthread_cond_wait(&v->cond, &v->lock);
		else
			part_receive(p);
	}
	for (pp = &v->waiters; *pp != &w; )
		pp = &(*pp)->next;
	*pp = w.next;
	pthread_mutex_unlock(&v->lock);
	if (e == 0 && w.answer == NULL)
		e = ECONNRESET;
	if (e != 0) {
		msg_free(w.answer);
		return e;
	}
	*out = w.answer;
	return answer_parse(w.answer->line, text);
}

/* A request whose answer is a few words. -1 errno. */
static int
simple(struct part *p, const char *key, int64_t *val, const char *line)
{
	struct msg *m;
	char *text, *argv[32];
	int e;

	e = part_request(p, -1, &m, &text, "%s", line);
	if (e == 0 && key != NULL) {
		if (line_split(text, argv, 32) < 0 ||
		    line_key(argv, key) == NULL)
			e = EPROTO;
		else
			*val = strtoll(line_key(argv, key), NULL, 0);
	}
	msg_free(m);
	errno = e;
	return e == 0 ? 0 : -1;
}

int
part_range(struct part *p, unsigned range, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	char buf[256];

	if (kind >= RANGE_NKIND) {
		errno = EINVAL;
		return -1;
	}
	snprintf(buf, sizeof buf, "range %u space=%s start=0x%llx len=0x%llx "
	    "kind=%s off=0x%llx bits=%u prio=%u", range,
	    space == SPACE_IO ? "io" : "mem", (unsigned long long)start,
	    (unsigned long long)len, range_kind_name[kind],
	    (unsigned long long)off, bits, prio);
	return simple(p, NULL, NULL, buf);
}

int
part_line(struct part *p, unsigned line)
{
	char buf[32];
	int64_t v;

	snprintf(buf, sizeof buf, "line %u", line);
	return simple(p, "source", &v, buf) < 0 ? -1 : (int)v;
}

int
part_pci(struct part *p, int devfn)
{
	char buf[32];
	int64_t v;

	snprintf(buf, sizeof buf, "pci %d", devfn);
	return simple(p, "devfn", &v, buf) < 0 ? -1 : (int)v;
}

int
part_subscribe(struct part *p)
{
	return simple(p, NULL, NULL, "subscribe");
}

int
part_ready(struct part *p)
{
	return simple(p, NULL, NULL, "ready");
}

int
part_cleanup(struct part *p, const char *path)
{
	char buf[512], cwd[200] = "";

	if (*path != '/' && getcwd(cwd, sizeof cwd - 1) != NULL)
		strlcat(cwd, "/", sizeof cwd);
	snprintf(buf, sizeof buf, "cleanup '%s%s'", cwd, path);
	return simple(p, NULL, NULL, buf);
}

int
part_event(struct part *p, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	return line_send(p->bus, NULL, 0, "event %s", buf);
}

int
part_ask(struct part *p, const char *whom, const char *question, int fd,
    char **reply)
{
	struct msg *m;
	char *text;
	int e;

	e = part_request(p, fd, &m, &text, "ask %s %s", whom, question);
	if (reply != NULL) {
		*reply = m == NULL ? strdup(strerror(e)) :
		    answer_text(text, m->fds, &m->nfd);
		if (*reply == NULL && e == 0)
			e = ENOMEM;
	}
	msg_free(m);
	return e;
}
