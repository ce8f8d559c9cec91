/*
 * net.c - addresses, sockets and libraries for the network protocols.
 */
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net.h"

void
address_free(struct address *a)
{
	free(a->host);
	free(a->port);
	free(a->path);
}

char *
address_text(const struct address *a)
{
	char *s;

	if (a->path)
		return strdup(a->path);
	return asprintf(&s, strchr(a->host, ':') ? "[%s]:%s" : "%s:%s",
	    a->host, a->port) < 0 ? NULL : s;
}

static int
connect_unix(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		int eno = errno;

		close(fd);
		errno = eno;
		return -1;
	}
	return fd;
}

int
address_connect(const struct address *a, struct imgerr *e)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM }, *ai, *p;
	int fd = -1, one = 1, r, eno = ECONNREFUSED;
	char *s;

	if (a->path) {
		if ((fd = connect_unix(a->path)) < 0)
			err_set(e, errno, "Failed to connect to '%s': %m",
			    a->path);
		return fd;
	}
	if ((r = getaddrinfo(a->host, a->port, &hint, &ai)))
		return err_set(e, ENOENT, "address resolution failed for "
		    "%s:%s: %s", a->host, a->port, gai_strerror(r));
	for (p = ai; p; p = p->ai_next) {
		fd = socket(p->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && !connect(fd, p->ai_addr, p->ai_addrlen))
			break;
		eno = errno;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(ai);
	if (fd < 0) {
		s = address_text(a);
		err_set(e, eno, "Failed to connect to '%s': %s", s,
		    strerror(eno));
		free(s);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static int
hex(char c)
{
	const char *digits = "0123456789abcdef", *p;

	p = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
	return p ? (int)(p - digits) : -1;
}

void
url_decode(char *s)
{
	char *w = s;

	for (; *s; s++)
		if (*s == '%' && hex(s[1]) >= 0 && hex(s[2]) >= 0) {
			*w++ = (char)(hex(s[1]) << 4 | hex(s[2]));
			s += 2;
		} else
			*w++ = *s;
	*w = 0;
}

int
library(const char *soname, const char *const *names, size_t n, void **fn,
    struct imgerr *e)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	void *h = NULL;
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!fn[n - 1] && !(h = dlopen(soname, RTLD_NOW | RTLD_LOCAL)))
		r = err_set(e, ENOTSUP, "This needs a library: %s", dlerror());
	for (size_t i = 0; i < n && h && !r; i++)
		if (!(fn[i] = dlsym(h, names[i])))
			r = err_set(e, ENOTSUP, "%s has no %s", soname,
			    names[i]);
	pthread_mutex_unlock(&lock);
	return r;
}
