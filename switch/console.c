/*
 * console.c - management sessions: the unix socket of -mgmt, and standard
 * input while in the foreground.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "switch.h"

#define NSESS	16
#define PROMPT	"\nvde$ "

static struct session ses[NSESS];
static struct ev lis = { .fd = -1 };
static char path_[108];
static unsigned mode_;

static void
say(struct session *s, const char *text, size_t n)
{
	ssize_t k;

	/* a reader that does not keep up loses text, we do not wait */
	while (n) {
		k = write(s->outfd, text, n);
		if (k <= 0)
			return;
		text += k;
		n -= k;
	}
}

void
console_wanted(void)
{
	debug_wanted = 0;
	for (unsigned i = 0; i < NSESS; i++)
		if (ses[i].used)
			debug_wanted |= ses[i].debug;
}

void
console_debug(unsigned bit, const char *line)
{
	for (unsigned i = 0; i < NSESS; i++)
		if (ses[i].used && ses[i].debug & bit)
			say(&ses[i], line, strlen(line));
}

static void
end(struct session *s)
{
	bool in = s->ev.fd == 0;

	ev_del(&s->ev);
	if (in)
		loop_quit = true;	/* the end of input ends the switch */
	else
		close(s->ev.fd);
	s->used = false;
	s->debug = 0;
	console_wanted();
}

static bool
run(struct session *s, char *line)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	bool bye;

	if (!out)
		return false;
	command_run(s, line, out);
	fclose(out);
	bye = n >= 4 && !strncmp(text + (n > 19 ? n - 19 : 0),
	    "9999 END OF SESSION", 19);
	say(s, text, n);
	free(text);
	if (!bye)
		say(s, PROMPT, sizeof PROMPT - 1);
	return !bye;
}

static void
session_rx(struct ev *ev, uint32_t events)
{
	struct session *s = ev->arg;
	ssize_t n = read(ev->fd, s->buf + s->n, sizeof s->buf - 1 - s->n);
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end(s);
		return;
	}
	s->n += n;
	while ((nl = memchr(s->buf, '\n', s->n))) {
		char line[sizeof s->buf];
		size_t k = nl - s->buf;

		memcpy(line, s->buf, k);
		line[k] = 0;
		s->n -= k + 1;
		memmove(s->buf, nl + 1, s->n);
		if (!run(s, line)) {
			end(s);
			return;
		}
	}
	if (s->n == sizeof s->buf - 1)
		end(s);
}

static struct session *
session_new(int in, int out)
{
	static const char hello[] = "VDE switch V.2.3.2\n"
	    "(compatible: vm-switch)\n" PROMPT;
	struct session *s;

	for (s = ses; s < ses + NSESS && s->used; s++)
		;
	if (s == ses + NSESS)
		return NULL;
	memset(s, 0, sizeof *s);
	s->used = true;
	s->outfd = out;
	s->ev = (struct ev){ in, session_rx, s };
	if (ev_add(&s->ev, EPOLLIN) < 0) {
		s->used = false;
		return NULL;
	}
	if (in || isatty(0))
		say(s, hello, sizeof hello - 1);
	return s;
}

static void
incoming(struct ev *ev, uint32_t events)
{
	int fd = accept4(ev->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && !session_new(fd, fd))
		close(fd);
}

int
console_mgmt(const char *path, unsigned mode, gid_t gid, char *why, size_t n)
{
	int fd = unix_listen(path, SOCK_STREAM, why, n);

	if (fd < 0)
		return -1;
	snprintf(path_, sizeof path_, "%s", path);
	mode_ = mode;
	if (chmod(path, mode) < 0 || (gid != (gid_t)-1 &&
	    chown(path, -1, gid) < 0)) {
		snprintf(why, n, "%s", strerror(errno));
		close(fd);
		unlink(path);
		return -1;
	}
	lis = (struct ev){ fd, incoming, NULL };
	return ev_add(&lis, EPOLLIN);
}

void
console_stdin(void)
{
	session_new(0, 1);
}

void
console_info(FILE *out)
{
	if (*path_)
		fprintf(out, "mgmt %s perm 0%03o\n", path_, mode_);
}

void
console_close(void)
{
	if (*path_)
		unlink(path_);
}
