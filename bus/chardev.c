/*
 * chardev.c - character back ends: what a serial port, console or monitor is
 * connected to.  This file has what all kinds share, and the simple kinds.
 *
 * Nobody connected means that output is dropped, as on a real line.  Output
 * that the other side does not take is left to the caller, who is told when
 * there is room again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chardev.h"

#define CHUNK	64		/* input at a time: a chip's buffer is small */

char *
char_word(char **list, char **value)
{
	char *w = *list, *comma;

	if (w == NULL || *w == '\0')
		return NULL;
	comma = strchr(w, ',');
	if (comma != NULL)
		*comma++ = '\0';
	*list = comma;
	*value = strchr(w, '=');
	if (*value != NULL)
		*(*value)++ = '\0';
	return w;
}

int
char_bool(const char *v, bool *out)
{
	if (v == NULL || strcmp(v, "on") == 0 || strcmp(v, "yes") == 0)
		*out = true;
	else if (strcmp(v, "off") == 0 || strcmp(v, "no") == 0)
		*out = false;
	else
		return -1;
	return 0;
}

/* ------------------------------------------------------------------ events */

static void fd_cb(void *, int, short);

void
char_watch(struct chardev *c)
{
	short in, out;

	if (c->rfd < 0 && c->wfd < 0)
		return;
	in = c->rfd >= 0 && (!c->paused || c->escape) ? POLLIN : 0;
	out = c->wfd >= 0 && (c->blocked || c->npend > 0) ? POLLOUT : 0;
	if (c->rfd == c->wfd) {
		loop_fd(c->loop, c->rfd, in | out, fd_cb, c);
		return;
	}
	if (c->rfd >= 0)
		loop_fd(c->loop, c->rfd, in, fd_cb, c);
	if (c->wfd >= 0 && (out || c->kind != CHAR_FILE))
		loop_fd(c->loop, c->wfd, out, fd_cb, c);
}

void
char_open_fd(struct chardev *c, int rfd, int wfd)
{
	c->rfd = rfd;
	c->wfd = wfd;
	c->npend = 0;
	c->iac = 0;
	if (c->telnet)
		telnet_hello(c);
	char_watch(c);
	/* what waited for room is dropped or sent now */
	if (c->blocked && c->writable != NULL) {
		c->blocked = false;
		c->writable(c->warg);
	}
}

void
char_hangup(struct chardev *c)
{
	bool blocked = c->blocked;

	if (c->rfd >= 0)
		loop_fd_del(c->loop, c->rfd);
	if (c->wfd >= 0 && c->wfd != c->rfd)
		loop_fd_del(c->loop, c->wfd);
	switch (c->kind) {
	case CHAR_STREAM:
		sock_hangup(c);
		break;
	case CHAR_PTY:
		pty_hangup(c);
		break;
	default:
		c->rfd = c->wfd = -1;
		break;
	}
	c->npend = 0;
	if (blocked && c->writable != NULL) {
		c->blocked = false;
		c->writable(c->warg);
	}
}

void
char_deliver(struct chardev *c, const uint8_t *buf, size_t n)
{
	if (n > 0)
		c->in(c->arg, buf, n);
}

static bool
flush(struct chardev *c)
{
	ssize_t n;

	while (c->npend > 0) {
		n = write(c->wfd, c->pend, c->npend);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			char_hangup(c);
			return false;
		}
		if (n <= 0)
			return false;
		memmove(c->pend, c->pend + n, c->npend - (size_t)n);
		c->npend -= (size_t)n;
	}
	return true;
}

static void
fd_cb(void *arg, int fd, short revents)
{
	struct chardev *c = arg;
	uint8_t buf[CHUNK];
	ssize_t n;

	if (revents & POLLOUT && fd == c->wfd) {
		if (!flush(c)) {
			char_watch(c);
			return;
		}
		if (c->blocked) {
			c->blocked = false;
			if (c->writable != NULL)
				c->writable(c->warg);
		}
		char_watch(c);
	}
	if (fd != c->rfd) {
		if (fd == c->wfd && revents & POLLERR)
			char_hangup(c);
		return;
	}
	if ((revents & (POLLIN | POLLHUP | POLLERR)) == 0 ||
	    (c->paused && !c->escape))
		return;
	n = read(fd, buf, sizeof buf);
	if (n < 0 && (errno == EAGAIN || errno == EINTR ||
	    (c->kind == CHAR_DGRAM && errno == ECONNREFUSED)))
		return;
	if (n <= 0 && c->kind == CHAR_DGRAM)
		return;
	if (n <= 0) {
		if (c->kind == CHAR_STDIO || c->kind == CHAR_PIPE) {
			/* end of input is not the end of output */
			loop_fd_del(c->loop, fd);
			c->rfd = -1;
			if (c->wfd == fd)
				char_hangup(c);
			return;
		}
		char_hangup(c);
		return;
	}
	if (c->escape)
		stdio_keys(c, buf, (size_t)n);
	else if (c->telnet)
		char_deliver(c, buf, telnet_in(c, buf, (size_t)n));
	else
		char_deliver(c, buf, (size_t)n);
}

/* -------------------------------------------------------------- simple kinds */

static int
file_open(struct chardev *c, char *spec, char *why, size_t len)
{
	char *list = strchr(spec, ','), *w, *v;
	bool append = false;
	int fd;

	/* only a trailing ",append=on" is an option: paths have commas */
	if (list != NULL && strncmp(list, ",append", 7) == 0) {
		*list++ = '\0';
		w = char_word(&list, &v);
		if (strcmp(w, "append") != 0 || char_bool(v, &append) < 0) {
			snprintf(why, len, "%s: bad option '%s'", c->spec, w);
			return -1;
		}
	}
	fd = open(spec, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY |
	    (append ? O_APPEND : O_TRUNC), 0644);
	if (fd < 0) {
		snprintf(why, len, "%s: %s", spec, strerror(errno));
		return -1;
	}
	c->kind = CHAR_FILE;
	c->wfd = fd;
	return 0;
}

/* PATH.in and PATH.out if both are there, otherwise PATH both ways. */
static int
pipe_open(struct chardev *c, const char *path, char *why, size_t len)
{
	char name[300];
	int r, w;

	snprintf(name, sizeof name, "%s.in", path);
	r = open(name, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	snprintf(name, sizeof name, "%s.out", path);
	w = open(name, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (r < 0 || w < 0) {
		if (r >= 0)
			close(r);
		if (w >= 0)
			close(w);
		r = w = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (r < 0) {
			snprintf(why, len, "%s: %s", path, strerror(errno));
			return -1;
		}
	}
	c->kind = CHAR_PIPE;
	char_open_fd(c, r, w);
	return 0;
}

static int
open_kind(struct chardev *c, char *spec, char *why, size_t len)
{
	if (strcmp(spec, "null") == 0 || strcmp(spec, "none") == 0) {
		c->kind = CHAR_NULL;
		return 0;
	}
	if (strcmp(spec, "mon:stdio") == 0 || strcmp(spec, "stdio") == 0) {
		c->mux = *spec == 'm';
		c->kind = CHAR_STDIO;
		return stdio_open(c, why, len);
	}
	if (strcmp(spec, "pty") == 0) {
		c->kind = CHAR_PTY;
		return pty_open(c, why, len);
	}
	if (strncmp(spec, "file:", 5) == 0)
		return file_open(c, spec + 5, why, len);
	if (strncmp(spec, "pipe:", 5) == 0)
		return pipe_open(c, spec + 5, why, len);
	if (strncmp(spec, "unix:", 5) == 0 || strncmp(spec, "tcp:", 4) == 0 ||
	    strncmp(spec, "telnet:", 7) == 0 || strncmp(spec, "udp:", 4) == 0)
		return sock_open(c, spec, why, len);
	if (strcmp(spec, "vc") == 0 || strncmp(spec, "vc:", 3) == 0)
		snprintf(why, len, "chardev vc: there is no virtual console");
	else
		snprintf(why, len, "chardev '%s': unknown kind", spec);
	return -1;
}

struct chardev *
chardev_open(struct loop *loop, const char *spec, struct part *part,
    chardev_in_fn *in, void *arg, char *why, size_t whylen)
{
	char copy[256];
	struct chardev *c;

	c = calloc(1, sizeof *c);
	if (c == NULL || strlen(spec) >= sizeof copy) {
		snprintf(why, whylen, "chardev: %s", c == NULL ?
		    strerror(ENOMEM) : "specification too long");
		free(c);
		return NULL;
	}
	strcpy(copy, spec);
	strcpy(c->spec, spec);
	strcpy(c->info, spec);
	c->loop = loop;
	c->part = part;
	c->in = in;
	c->arg = arg;
	c->rfd = c->wfd = c->lfd = c->mon = c->master = -1;
	if (open_kind(c, copy, why, whylen) < 0) {
		chardev_close(c);
		return NULL;
	}
	return c;
}

static size_t
write_some(struct chardev *c, const uint8_t *buf, size_t n)
{
	struct pollfd p = { c->wfd, POLLOUT, 0 };
	ssize_t r;

	/* stdio may be a blocking descriptor shared with others: ask first,
	 * and give it no more than a pipe takes in one piece */
	if (c->kind == CHAR_STDIO) {
		if (poll(&p, 1, 0) < 1)
			return 0;
		if (n > 512)
			n = 512;
	}
	do
		r = write(c->wfd, buf, n);
	while (r < 0 && errno == EINTR);
	if (r >= 0)
		return (size_t)r;
	if (errno == EAGAIN)
		return 0;
	if (c->kind == CHAR_DGRAM)
		return n;	/* lost on the way */
	if (c->kind == CHAR_FILE)
		log_once("chardev", 0, "%s: %s", c->spec, strerror(errno));
	else
		char_hangup(c);
	return n;
}

size_t
chardev_write(struct chardev *c, const uint8_t *buf, size_t n)
{
	size_t done = 0, k;

	while (done < n) {
		if (c->wfd < 0)
			return n;
		if (c->telnet) {
			k = telnet_out(c, buf + done, n - done);
			flush(c);
		} else {
			k = write_some(c, buf + done, n - done);
		}
		if (k == 0) {
			c->blocked = true;
			char_watch(c);
			return done;
		}
		done += k;
	}
	if (c->npend > 0)
		char_watch(c);
	return n;
}

void
chardev_writable(struct chardev *c, void (*fn)(void *), void *arg)
{
	c->writable = fn;
	c->warg = arg;
}

void
chardev_break(struct chardev *c, void (*fn)(void *), void *arg)
{
	c->brk = fn;
	c->barg = arg;
}

void
chardev_pause(struct chardev *c, bool on)
{
	if (c->paused == on)
		return;
	c->paused = on;
	if (c->escape && !on)
		stdio_unpaused(c);
	char_watch(c);
}

const char *
chardev_info(struct chardev *c)
{
	static char text[400];

	if (c->kind == CHAR_STREAM)
		snprintf(text, sizeof text, "%s (%s)", c->info, c->rfd >= 0 ?
		    "connected" : "disconnected");
	else
		snprintf(text, sizeof text, "%s", c->info);
	return text;
}

void
chardev_close(struct chardev *c)
{
	if (c == NULL)
		return;
	if (c->rfd >= 0)
		loop_fd_del(c->loop, c->rfd);
	if (c->wfd >= 0 && c->wfd != c->rfd)
		loop_fd_del(c->loop, c->wfd);
	if (c->kind == CHAR_STDIO) {
		stdio_close(c);
	} else {
		if (c->wfd >= 0 && c->wfd != c->rfd && c->kind != CHAR_PTY)
			close(c->wfd);
		if (c->rfd >= 0 && c->kind != CHAR_PTY)
			close(c->rfd);
	}
	if (c->kind == CHAR_PTY)
		pty_close(c);
	if (c->kind == CHAR_STREAM || c->kind == CHAR_DGRAM)
		sock_close(c);
	free(c);
}
