/*
 * tool.c - a tool's side of the bus: find the run directory, connect, ask
 * (PROTOCOL.md "Tools"), and the two forms an answer can take.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bus.h"
#include "private.h"

int
bus_dir(const char *name, char *buf, size_t len)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	int n;

	if (strchr(name, '/') != NULL)
		n = snprintf(buf, len, "%s", name);
	else
		n = snprintf(buf, len, "%s/vm/%s",
		    run != NULL && *run != '\0' ? run : "/tmp", name);
	if (n < 0 || (size_t)n >= len) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return 0;
}

int
bus_connect(const char *prog, const char *name, char *why, size_t whylen)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char dir[256], *reply = NULL;
	int fd, e;

	if (bus_dir(name, dir, sizeof dir) < 0 ||
	    strlen(dir) + sizeof "/bus" > sizeof sun.sun_path) {
		errno = ENAMETOOLONG;
		snprintf(why, whylen, "%s: %s", name, strerror(errno));
		return -1;
	}
	snprintf(sun.sun_path, sizeof sun.sun_path, "%.100s/bus", dir);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		snprintf(why, whylen, "%s: %s", name, strerror(errno));
		return -1;
	}
	if (connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
		e = errno;
		if (e == ENOENT || e == ECONNREFUSED || e == ENOTDIR)
			snprintf(why, whylen, "VM '%s' is not running", name);
		else
			snprintf(why, whylen, "%s: %s", name, strerror(e));
		close(fd);
		errno = e;
		return -1;
	}
	e = bus_request(fd, &reply, NULL, NULL, "hello tool=%s", prog);
	if (e != 0) {
		snprintf(why, whylen, "%s: hello refused: %s", name,
		    reply != NULL && *reply != '\0' ? reply : strerror(e));
		free(reply);
		close(fd);
		errno = e;
		return -1;
	}
	free(reply);
	return fd;
}

int
answer_parse(char *line, char **text)
{
	char *end;
	long n;

	if (strncmp(line, "ok", 2) == 0 &&
	    (line[2] == ' ' || line[2] == '\0')) {
		*text = line[2] != '\0' ? line + 3 : line + 2;
		return 0;
	}
	*text = line;
	if (strncmp(line, "err ", 4) != 0)
		return EPROTO;
	n = strtol(line + 4, &end, 10);
	*text = *end == ' ' ? end + 1 : end;
	return n > 0 && n < 4096 ? (int)n : EPROTO;
}

char *
answer_text(char *text, int *fds, int *nfd)
{
	struct stat st;
	char *p;
	ssize_t n;

	if (nfd == NULL || *nfd != 1 || *text != '\0')
		return strdup(text);
	if (fstat(fds[0], &st) < 0 || st.st_size < 0 ||
	    st.st_size > 256 * 1024 * 1024)
		return NULL;
	p = malloc((size_t)st.st_size + 1);
	if (p == NULL)
		return NULL;
	n = pread(fds[0], p, (size_t)st.st_size, 0);
	p[n < 0 ? 0 : n] = '\0';
	close(fds[0]);
	*nfd = 0;
	return p;
}

static int
memfd_with(const char *text, size_t len)
{
	size_t done = 0;
	ssize_t n;
	int fd;

	fd = memfd_create("answer", MFD_CLOEXEC);
	while (fd >= 0 && done < len) {
		n = write(fd, text + done, len - done);
		if (n <= 0) {
			close(fd);
			return -1;
		}
		done += (size_t)n;
	}
	return fd;
}

int
answer_send(int fd, int flags, uint64_t id, int err, const char *text,
    size_t len)
{
	char *buf;
	int n, r, mem = -1;

	if (id == 0)
		return 0;
	if (len + 64 > LINE_MAX_BYTES && err == 0) {
		mem = memfd_with(text, len);
		if (mem < 0)
			err = ENOMEM;
		text = "";
		len = 0;
	}
	if (len + 64 > LINE_MAX_BYTES)
		len = 1024;
	buf = malloc(len + 64);
	if (buf == NULL)
		return -1;
	if (err == 0)
		n = snprintf(buf, len + 64, "@%llu ok%s%.*s",
		    (unsigned long long)id, len > 0 ? " " : "", (int)len, text);
	else
		n = snprintf(buf, len + 64, "@%llu err %d %.*s",
		    (unsigned long long)id, err, (int)len, text);
	r = line_sendv(fd, flags, &mem, mem >= 0, buf, (size_t)n);
	if (mem >= 0)
		close(mem);
	free(buf);
	return r;
}

static int
request(int fd, int with, char **reply, int *fds, int *nfd, const char *fmt,
    va_list ap)
{
	static uint64_t last;
	int myfds[LINE_FDS], n, room, e = 0, i;
	char *buf, *line = NULL, *text;
	uint64_t id, want = ++last;
	ssize_t len;

	if (reply != NULL)
		*reply = NULL;
	room = nfd != NULL ? *nfd : 0;
	if (nfd != NULL)
		*nfd = 0;
	n = vasprintf(&line, fmt, ap);
	if (n < 0)
		return ENOMEM;
	if (line_send(fd, &with, with >= 0, "@%llu %s", (unsigned long long)want,
	    line) < 0)
		e = errno;
	free(line);
	buf = malloc(LINE_MAX_BYTES + 1);
	if (e != 0 || buf == NULL) {
		free(buf);
		return e != 0 ? e : ENOMEM;
	}
	for (;;) {
		n = LINE_FDS;
		len = line_recv(fd, buf, LINE_MAX_BYTES + 1, myfds, &n);
		if (len <= 0) {
			e = len < 0 ? errno : ECONNRESET;
			break;
		}
		line = line_id(buf, &id);
		if (id != want) {	/* an event nobody waits for here */
			for (i = 0; i < n; i++)
				close(myfds[i]);
			continue;
		}
		e = answer_parse(line, &text);
		if (reply != NULL) {
			*reply = room == 0 ? answer_text(text, myfds, &n) :
			    strdup(text);
			if (*reply == NULL && e == 0)
				e = ENOMEM;
		}
		for (i = 0; i < n; i++) {
			if (i < room)
				fds[(*nfd)++] = myfds[i];
			else
				close(myfds[i]);
		}
		break;
	}
	free(buf);
	return e;
}

int
bus_request(int fd, char **reply, int *fds, int *nfd, const char *fmt, ...)
{
	va_list ap;
	int e;

	va_start(ap, fmt);
	e = request(fd, -1, reply, fds, nfd, fmt, ap);
	va_end(ap);
	return e;
}

static int
ask_with(int fd, int with, char **reply, const char *fmt, ...)
{
	va_list ap;
	int e;

	va_start(ap, fmt);
	e = request(fd, with, reply, NULL, NULL, fmt, ap);
	va_end(ap);
	return e;
}

int
bus_ask(int fd, const char *whom, const char *question, int with, char **reply)
{
	return ask_with(fd, with, reply, "ask %s %s", whom, question);
}
