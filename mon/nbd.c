/*
 * The machine's disks by NBD.  The listening socket is made here, on the user's
 * side, and given to every disk; the one that is exported serves it.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "mon.h"

static char	*question, *first;	/* question; what the last disk said */
static bool	ignore, said;

static int
put(struct mon *m, const char *disk)
{
	char *reply;
	int e = mon_question(m, &reply, disk, "%s", question);

	said = true;
	if (e && !ignore)
		mon_fail(m, "%s", reply);
	if (e == 0 && *reply) {
		free(first);
		first = reply;
	} else {
		free(reply);
	}
	return e && !ignore ? -1 : 0;
}

/* `words` to a disk, or to all; 0 with their last text in `first`. */
static int
tell(struct mon *m, const char *disk, const char *words, int fd)
{
	int r;

	free(first);
	first = NULL;
	said = false;
	question = strdup(words);
	m->with = fd;
	r = question == NULL ? -1 : mon_disks(m, disk, put);
	m->with = -1;
	free(question);
	return r;
}

static int
listen_unix(struct mon *m, const char *path, char *full, size_t len)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char dir[4096] = "";
	int fd;

	if (*path != '/' && getcwd(dir, sizeof(dir)) == NULL)
		return mon_fail(m, "%s", strerror(errno));
	snprintf(full, len, "%s%s%s", dir, *dir ? "/" : "", path);
	if (strlen(path) >= sizeof(a.sun_path))
		return mon_fail(m, "%s: the name is too long for a socket",
		    path);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1 || bind(fd, (struct sockaddr *)&a, sizeof(a)) == -1 ||
	    listen(fd, 16) == -1) {
		mon_fail(m, "%s: %s", path, strerror(errno));
		if (fd != -1)
			close(fd);
		return -1;
	}
	return fd;
}

static int
listen_tcp(struct mon *m, char *host)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE }, *ai, *p;
	char *port = strrchr(host, ':');
	size_t n;
	int fd = -1, one = 1, e;

	if (port == NULL)
		return mon_fail(m, "%s: host:port or unix:path is wanted", host);
	*port++ = '\0';
	n = strlen(host);
	if (*host == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		host++;
	}
	if ((e = getaddrinfo(*host ? host : NULL, port, &hint, &ai)) != 0)
		return mon_fail(m, "%s:%s: %s", host, port, gai_strerror(e));
	for (p = ai; p != NULL && fd == -1; p = p->ai_next) {
		fd = socket(p->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd == -1)
			continue;
		/* those accepted inherit them */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (bind(fd, p->ai_addr, p->ai_addrlen) == -1 ||
		    listen(fd, 16) == -1) {
			e = errno;
			close(fd);
			fd = -1;
			errno = e;
		}
	}
	if (fd == -1)
		mon_fail(m, "%s:%s: %s", host, port, strerror(errno));
	freeaddrinfo(ai);
	return fd;
}

/* nbd_server_stop: the socket's name goes too. */
static int
stop(struct mon *m)
{
	ignore = true;
	if (tell(m, NULL, "nbd stop", -1) == -1)
		return -1;
	if (first == NULL)
		return mon_fail(m, "NBD server not running");
	if (*first == '/')
		unlink(first);
	return 0;
}

static int
start(struct mon *m, char *address)
{
	char full[8192] = "", *words = NULL, *reply, *text = NULL;
	size_t len;
	FILE *f;
	int fd, r;

	if (strncmp(address, "unix:", 5) == 0)
		fd = listen_unix(m, address + 5, full, sizeof(full));
	else
		fd = listen_tcp(m, address);
	if (fd == -1)
		return -1;
	if ((f = open_memstream(&text, &len)) == NULL ||
	    asprintf(&words, "address=%s", *full ? full : "tcp") == -1) {
		close(fd);
		return mon_fail(m, "%s", strerror(ENOMEM));
	}
	fputs("nbd start ", f);
	line_quote(f, words);
	fclose(f);
	ignore = false;
	r = tell(m, NULL, text, fd);
	if (r == 0 && !said)
		r = mon_fail(m, "the machine has no disk");
	close(fd);
	if (*full && r == 0) {
		/* "cleanup" has the broker remove it with the machine */
		free(words);
		if ((f = open_memstream(&words, &len)) != NULL) {
			line_quote(f, full);
			fclose(f);
			if (mon_ask(m, &reply, "bus", "cleanup %s", words) == 0)
				free(reply);
		}
	} else if (*full) {
		unlink(full);
	}
	free(words);
	free(text);
	return r;
}

/* One disk, by its name or as `name`. */
static int
add(struct mon *m, const char *disk, const char *name, bool writable)
{
	char *text = NULL, *word = NULL;
	size_t len;
	FILE *f;
	int r;

	ignore = true;
	if (tell(m, NULL, "nbd export", -1) == -1)
		return -1;
	if (first != NULL)
		return mon_fail(m, "one disk at a time can be exported; '%s' "
		    "is", first);
	if ((f = open_memstream(&text, &len)) == NULL ||
	    asprintf(&word, "name=%s", name) == -1)
		return mon_fail(m, "%s", strerror(ENOMEM));
	fputs("nbd add ", f);
	line_quote(f, word);
	if (writable)
		fputs(" writable=on", f);
	fclose(f);
	ignore = false;
	r = tell(m, disk, text, -1);
	free(word);
	free(text);
	return r;
}

static char	*disk;			/* the only one, or a surplus */

static int
only(struct mon *m, const char *name)
{
	if (disk != NULL)
		return mon_fail(m, "-a: there is more than one disk, and one "
		    "at a time can be exported");
	disk = strdup(name);
	return 0;
}

/* nbd_server_start [-a] [-w] address, nbd_server_add [-w] device [name],
 * nbd_server_remove [-f] name, nbd_server_stop */
int
cmd_nbd(struct mon *m, int argc, char **argv)
{
	const char *verb = argv[0] + strlen("nbd_server_");
	const char *known = *verb == 's' ? "aw" : *verb == 'a' ? "w" : "f";
	bool all = false, writable = false, force = false;
	int r;

	for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
		char c = argv[1][1];

		if (c == '\0' || argv[1][2] || strchr(known, c) == NULL)
			return mon_fail(m, "nbd_server_%s: unsupported option "
			    "%s", verb, argv[1]);
		all |= c == 'a';
		writable |= c == 'w';
		force |= c == 'f';
	}
	if (strcmp(verb, "stop") == 0)
		return stop(m);
	if (argc < 2)
		return mon_fail(m, "nbd_server_%s: an argument is missing",
		    verb);
	if (*verb == 'a')
		return add(m, argv[1], argc > 2 ? argv[2] : argv[1], writable);
	if (*verb == 'r') {
		ignore = true;
		if (tell(m, NULL, "nbd export", -1) == -1)
			return -1;
		if (first == NULL || strcmp(first, argv[1]) != 0)
			return mon_fail(m, "Export '%s' is not found", argv[1]);
		ignore = false;
		return tell(m, NULL, force ? "nbd remove force=on" :
		    "nbd remove", -1);
	}
	if (writable && !all)
		return mon_fail(m, "-w only valid together with -a");
	free(disk);
	disk = NULL;
	if (all && mon_disks(m, NULL, only) == -1)
		return -1;
	r = start(m, argv[1]);
	return r == 0 && disk != NULL ? add(m, disk, disk, writable) : r;
}
