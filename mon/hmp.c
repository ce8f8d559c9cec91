/*
 * vm-mon --server: the part behind DIR/mon, a stream socket that nc, telnet,
 * socat and the terminal's Ctrl-a c connect to, and behind -monitor DEV.
 *
 * Any number of clients, each a session with the prompt `(vm) '.  A client that
 * sends whole lines (nc) is answered in lines.  One that sends single keys (a
 * terminal in raw mode, telnet in character mode) is found out by its first key
 * and from then on gets what a terminal lacks: echo, erase, CR before NL.
 *
 * Input is hostile: lines are bounded, and a client that does not read is
 * dropped when its output has grown too long.  The server is not confined to
 * its descriptors, since memsave writes the file its user names.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "mon.h"

#define PROMPT	"(vm) "
#define OUT_MAX	(8 << 20)
#define CLIENTS	64

struct client {
	LIST_ENTRY(client) next;
	struct mon	m;
	int		fd;		/* -1: a character back end */
	struct chardev	*cd;
	bool		raw, greeted, ended, cr, dead;
	int		iac;		/* telnet: bytes of a command seen */
	char		line[4096];
	size_t		len;
	char		last[4096];	/* the line before, for cursor up */
	int		esc;
	char		*out;		/* not yet taken by the peer */
	size_t		out_len, out_size;
};

static struct part part;
static LIST_HEAD(, client) clients = LIST_HEAD_INITIALIZER(clients);
static int	nclient;
static char	sock_path[sizeof(((struct sockaddr_un *)0)->sun_path)];

static void	on_socket(void *, int, short);

/* ------------------------------------------------------------------- output */

static void
drop(struct client *c)
{
	LIST_REMOVE(c, next);
	nclient--;
	if (c->fd != -1) {
		loop_fd_del(part.loop, c->fd);
		close(c->fd);
	}
	if (c->cd)
		chardev_close(c->cd);
	mon_end(&c->m);
	free(c->out);
	free(c);
}

static void
flush(struct client *c)
{
	size_t done = 0;
	ssize_t n;

	while (done < c->out_len) {
		if (c->fd == -1) {
			n = chardev_write(c->cd, (uint8_t *)c->out + done,
			    c->out_len - done);
			if (n == 0)
				break;
		} else {
			n = send(c->fd, c->out + done, c->out_len - done,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n == -1 && errno == EINTR)
				continue;
			if (n == -1 && errno != EAGAIN)
				c->dead = true;
			if (n == -1)
				break;
		}
		done += n;
	}
	memmove(c->out, c->out + done, c->out_len - done);
	c->out_len -= done;
	if (c->out_len > OUT_MAX)
		c->dead = true;
	if (c->fd != -1 && !c->dead)
		loop_fd(part.loop, c->fd, (c->ended ? 0 : POLLIN) |
		    (c->out_len ? POLLOUT : 0), on_socket, c);
}

static void
put(struct client *c, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (c->out_size - c->out_len < 2) {
			size_t size = c->out_size ? 2 * c->out_size : 1024;
			char *p = realloc(c->out, size);

			if (p == NULL) {
				c->dead = true;
				return;
			}
			c->out = p;
			c->out_size = size;
		}
		if (s[i] == '\n' && c->raw)
			c->out[c->out_len++] = '\r';
		c->out[c->out_len++] = s[i];
	}
}

static void
puts_to(struct client *c, const char *s)
{
	put(c, s, strlen(s));
}

static void
writable(void *arg)
{
	flush(arg);
}

/* -------------------------------------------------------------------- input */

static void
run_line(struct client *c)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	c->line[c->len] = '\0';
	if (c->len)
		memcpy(c->last, c->line, c->len + 1);
	c->len = 0;
	if (f == NULL) {
		c->dead = true;
		return;
	}
	c->m.out = c->m.err = f;
	mon_line(&c->m, c->line);
	c->m.out = c->m.err = NULL;
	fclose(f);
	put(c, text, len);
	free(text);
	puts_to(c, PROMPT);
}

static void
erase(struct client *c, size_t to)
{
	while (c->len > to) {
		c->len--;
		puts_to(c, "\b \b");
	}
}

/* A key of a raw client that is not an ordinary character. */
static void
edit(struct client *c, unsigned char ch)
{
	size_t to;

	switch (ch) {
	case 8: case 127:
		if (c->len)
			erase(c, c->len - 1);
		break;
	case 'U' & 31:
		erase(c, 0);
		break;
	case 'W' & 31:
		for (to = c->len; to > 0 && c->line[to - 1] == ' '; to--)
			;
		for (; to > 0 && c->line[to - 1] != ' '; to--)
			;
		erase(c, to);
		break;
	case 'C' & 31:
		c->len = 0;
		puts_to(c, "\n" PROMPT);
		break;
	case 27:
		c->esc = 1;
		break;
	}
}

/* Telnet (RFC 854): its commands are taken out; nothing is negotiated.
 * IAC is 255; 250 SB ... IAC 240 SE; 251-254 take an option. */
static bool
telnet(struct client *c, unsigned char ch)
{
	switch (c->iac) {
	case 0:
		if (ch != 255)
			return false;
		c->iac = 1;
		return true;
	case 1:
		c->iac = ch == 250 ? 3 : ch >= 251 && ch <= 254 ? 2 : 0;
		return true;
	case 2:
		c->iac = 0;
		return true;
	case 3:
		if (ch == 255)
			c->iac = 4;
		return true;
	default:
		c->iac = ch == 240 ? 0 : 3;
		return true;
	}
}

static void
key(struct client *c, unsigned char ch)
{
	if (telnet(c, ch))
		return;
	if (ch == '\n' && c->cr) {
		c->cr = false;
		return;
	}
	c->cr = ch == '\r';
	if (ch == '\r' || ch == '\n') {
		if (c->raw)
			puts_to(c, "\n");
		run_line(c);
		return;
	}
	if (c->raw && c->esc) {
		/* ESC [ A is cursor up; other sequences are swallowed */
		if (c->esc == 1 && ch == '[') {
			c->esc = 2;
			return;
		}
		if (c->esc == 2 && ch < 64)
			return;
		if (c->esc == 2 && ch == 'A') {
			erase(c, 0);
			c->len = strlen(c->last);
			memcpy(c->line, c->last, c->len);
			put(c, c->line, c->len);
		}
		c->esc = 0;
		return;
	}
	if (ch < 32 || ch == 127) {
		if (c->raw)
			edit(c, ch);
		else if (ch == '\t')
			ch = ' ';
		if (ch != ' ')
			return;
	}
	if (c->len == sizeof(c->line) - 1)
		return;		/* the rest of a long line is lost */
	c->line[c->len++] = ch;
	if (c->raw)
		put(c, (char *)&ch, 1);
}

static void
input(void *arg, const uint8_t *buf, size_t n)
{
	struct client *c = arg;

	/* A person's key: short, and no whole line; or one pasted. */
	if (!c->raw && c->len == 0 && n > 0 && buf[0] != 255 &&
	    (buf[n - 1] == '\r' || (n <= 4 && buf[n - 1] != '\n')))
		c->raw = true;
	for (size_t i = 0; i < n && !c->dead; i++)
		key(c, buf[i]);
	flush(c);
}

static void
on_socket(void *arg, int fd, short revents)
{
	struct client *c = arg;
	uint8_t buf[4096];
	ssize_t n;

	if (revents & POLLOUT)
		flush(c);
	if (!c->dead && !c->ended && revents & (POLLIN | POLLHUP | POLLERR)) {
		n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			input(c, buf, n);
		} else if (n == 0) {
			/* what it asked without a newline is a line too */
			c->ended = true;
			if (c->len && !c->raw)
				run_line(c);
			flush(c);
		} else if (errno != EAGAIN && errno != EINTR)
			c->dead = true;
	}
	if (c->dead || (c->ended && c->out_len == 0))
		drop(c);
}

/* ------------------------------------------------------------------ sessions */

static int
server_ask(struct mon *m, const char *whom, const char *question, char **reply)
{
	return part_ask(&part, whom, question, m->with, reply);
}

static int
server_pages(struct mon *m, struct ram **ram, struct pci_space **pci)
{
	*ram = &part.ram;
	*pci = part.pci;
	return 0;
}

static struct client *
session(int fd)
{
	struct client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->fd = fd;
	c->m = (struct mon){ .ask = server_ask, .pages = server_pages,
		.arg = c, .server = true, .with = -1 };
	LIST_INSERT_HEAD(&clients, c, next);
	nclient++;
	return c;
}

static void
greet(struct client *c)
{
	puts_to(c, "Sluice monitor of ");
	puts_to(c, part.vm);
	/* whether it is a terminal is not known yet */
	puts_to(c, " - type 'help' for the commands\r\n" PROMPT);
	flush(c);
}

static void
on_listen(void *arg, int fd, short revents)
{
	struct client *c;
	int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (s == -1)
		return;
	if (nclient >= CLIENTS || (c = session(s)) == NULL) {
		close(s);
		return;
	}
	loop_fd(part.loop, s, POLLIN, on_socket, c);
	greet(c);
	if (c->dead)
		drop(c);
}

static int
listen_at(const char *dir)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	mode_t mask;
	int fd, n;

	n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/mon", dir);
	if (n < 0 || (size_t)n >= sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	unlink(sun.sun_path);	/* of a machine that died: the dir is ours */
	mask = umask(077);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    listen(fd, 16) == -1) {
		int error = errno;

		umask(mask);
		close(fd);
		errno = error;
		return -1;
	}
	umask(mask);
	memcpy(sock_path, sun.sun_path, sizeof(sock_path));
	loop_fd(part.loop, fd, POLLIN, on_listen, NULL);
	return 0;
}

static int
on_ask(void *arg, char **argv, FILE *out)
{
	struct client *c;

	if (argv[0] == NULL || strcmp(argv[0], "info") != 0)
		return EINVAL;
	fprintf(out, "socket = %s\nclients = %d\n", sock_path, nclient);
	LIST_FOREACH(c, &clients, next)
		if (c->cd)
			fprintf(out, "chardev = %s\n", chardev_info(c->cd));
	return 0;
}

static void
on_quit(void *arg)
{
	struct client *c;

	while ((c = LIST_FIRST(&clients)) != NULL) {
		flush(c);
		drop(c);
	}
	if (*sock_path)
		unlink(sock_path);
}

static const struct part_ops ops = { .ask = on_ask, .quit = on_quit };

int
server(int argc, char **argv)
{
	char why[512];

	if (part_hello(&part, "monitor", 0, &ops, NULL) == -1)
		return 1;
	if (listen_at(part.dir) == -1) {
		log_line("%s/mon: %s", part.dir, strerror(errno));
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		struct client *c;

		if (strncmp(argv[i], "chardev=", 8) != 0) {
			log_line("unknown option: %s", argv[i]);
			return 2;
		}
		if ((c = session(-1)) == NULL)
			return 1;
		c->cd = chardev_open(part.loop, argv[i] + 8, &part, input, c,
		    why, sizeof(why));
		if (c->cd == NULL) {
			log_line("%s", why);
			return 1;
		}
		chardev_writable(c->cd, writable, c);
		c->raw = strncmp(argv[i] + 8, "stdio", 5) == 0 ||
		    strncmp(argv[i] + 8, "pty", 3) == 0;
		greet(c);
	}
	if (part_ready(&part) == -1)
		return 1;
	return part_run(&part);
}
