/*
 * line.c - control lines: one packet, one line of text, descriptors beside it
 * (PROTOCOL.md "Control lines").
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus.h"
#include "private.h"

int
line_sendv(int fd, int flags, const int *fds, int nfd, const char *buf,
    size_t len)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(LINE_FDS * sizeof(int))];
	} u;
	struct iovec iov = { (void *)buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (nfd < 0 || nfd > LINE_FDS || len > LINE_MAX_BYTES) {
		errno = nfd < 0 || nfd > LINE_FDS ? EINVAL : EMSGSIZE;
		return -1;
	}
	if (nfd > 0) {
		memset(&u, 0, sizeof u);
		m.msg_control = u.room;
		m.msg_controllen = CMSG_SPACE((size_t)nfd * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)nfd * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)nfd * sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL | flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -1 : 0;
}

int
line_send(int fd, const int *fds, int nfd, const char *fmt, ...)
{
	char small[1024], *buf = small;
	va_list ap;
	int n, r, e;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof small, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -1;
	if (n > LINE_MAX_BYTES) {
		errno = EMSGSIZE;
		return -1;
	}
	if ((size_t)n >= sizeof small) {
		buf = malloc((size_t)n + 1);
		if (buf == NULL)
			return -1;
		va_start(ap, fmt);
		vsnprintf(buf, (size_t)n + 1, fmt, ap);
		va_end(ap);
	}
	r = line_sendv(fd, 0, fds, nfd, buf, (size_t)n);
	e = errno;
	if (buf != small)
		free(buf);
	errno = e;
	return r;
}

ssize_t
line_recv(int fd, char *buf, size_t size, int *fds, int *nfd)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(LINE_FDS * sizeof(int))];
	} u;
	struct iovec iov = { buf, size - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = u.room, .msg_controllen = sizeof u.room };
	struct cmsghdr *c;
	int got[LINE_FDS], ngot = 0, room = 0, i, k;
	ssize_t n;

	if (nfd != NULL) {
		room = *nfd;
		*nfd = 0;
	}
	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	for (c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (i = 0; i < k && ngot < LINE_FDS; i++)
			memcpy(&got[ngot++], CMSG_DATA(c) +
			    (size_t)i * sizeof(int), sizeof(int));
	}
	if (m.msg_flags & MSG_TRUNC) {
		for (i = 0; i < ngot; i++)
			close(got[i]);
		errno = EMSGSIZE;
		return -1;
	}
	for (i = 0; i < ngot; i++) {
		if (i < room)
			fds[i] = got[i];
		else
			close(got[i]);
	}
	if (nfd != NULL)
		*nfd = ngot < room ? ngot : room;
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = '\0';
	return n == 0 && ngot == 0 && iov.iov_len > 0 ? 0 : n;
}

static bool
blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int
line_split(char *line, char **argv, int max)
{
	char *in = line, *out = line, q;
	int n = 0;

	for (;;) {
		while (blank(*in))
			in++;
		if (*in == '\0')
			break;
		if (n >= max - 1) {
			errno = E2BIG;
			return -1;
		}
		argv[n++] = out;
		for (q = 0; *in != '\0' && (q != 0 || !blank(*in)); in++) {
			if (q == 0 && (*in == '"' || *in == '\'')) {
				q = *in;
			} else if (q != 0 && *in == q) {
				q = 0;
			} else if (*in == '\\' && q != '\'') {
				if (in[1] == '\0') {
					errno = EINVAL;
					return -1;
				}
				/* inside "" only \" and \\ are escapes */
				if (q == '"' && in[1] != '"' && in[1] != '\\')
					*out++ = *in;
				else
					*out++ = *++in;
			} else {
				*out++ = *in;
			}
		}
		if (q != 0) {
			errno = EINVAL;
			return -1;
		}
		if (*in != '\0')
			in++;
		*out++ = '\0';
	}
	argv[n] = NULL;
	return n;
}

const char *
line_key(char *const *argv, const char *key)
{
	size_t n = strlen(key);
	const char *v = NULL;

	for (; *argv != NULL; argv++)
		if (strncmp(*argv, key, n) == 0 && (*argv)[n] == '=')
			v = *argv + n + 1;
	return v;
}

void
line_quote(FILE *f, const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/:,=@%^~[]{}!?*&()<>|;$";

	if (*s != '\0' && s[strspn(s, plain)] == '\0') {
		fputs(s, f);
		return;
	}
	putc('\'', f);
	for (; *s != '\0'; s++) {
		if (*s == '\'')
			fputs("'\\''", f);
		else
			putc(*s, f);
	}
	putc('\'', f);
}

uint64_t
line_u64(char *const *argv, const char *key, uint64_t def)
{
	const char *v = line_key(argv, key);
	char *end;
	uint64_t n;

	if (v == NULL)
		return def;
	errno = 0;
	n = strtoull(v, &end, 0);
	return errno != 0 || end == v || *end != '\0' ? def : n;
}

char *
line_id(char *line, uint64_t *id)
{
	char *end;

	*id = 0;
	if (*line != '@')
		return line;
	*id = strtoull(line + 1, &end, 10);
	if (*end == ' ')
		end++;
	return end;
}
