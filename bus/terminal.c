/*
 * terminal.c - the character back ends stdio and pty (termios(3), pty(7)), and
 * the keys after Ctrl-a.
 *
 * A terminal is put into raw mode; mon:stdio takes the signal keys too.  The
 * broker restores the terminal once more at the end, for a part that was
 * killed.  The monitor behind Ctrl-a c is DIR/mon; its bytes are passed on as
 * they are, since it does its own echo and editing.
 *
 * #syscalls ioctl
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "chardev.h"

#define PTY_LOOK_NS	500000000

static void deliver_held(void *);

static struct chardev *owner;	/* of the terminal: one a process */

static void
restore(void)
{
	if (owner != NULL && owner->raw)
		tcsetattr(owner->rfd >= 0 ? owner->rfd : 0, TCSANOW,
		    &owner->saved);
}

/* Our own open description, so that O_NONBLOCK is not the shell's, too. */
static int
own(int fd)
{
	char path[32];
	struct stat st;
	int n = -1;

	if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd))) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		n = open(path, (fd == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK |
		    O_NOCTTY | O_CLOEXEC);
	}
	return n >= 0 ? n : fcntl(fd, F_DUPFD_CLOEXEC, 4);
}

int
stdio_open(struct chardev *c, char *why, size_t len)
{
	struct termios t;
	struct stat st;
	int r, w;

	if (owner != NULL) {
		snprintf(why, len, "stdio: already in use");
		return -1;
	}
	if (fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0) {
		snprintf(why, len, "stdio: %s", strerror(errno));
		return -1;
	}
	r = own(0);
	w = own(1);
	if (r < 0 || w < 0) {
		snprintf(why, len, "stdio: %s", strerror(errno));
		return -1;
	}
	owner = c;
	c->tty = isatty(0);
	c->escape = c->mux || c->tty;
	/* The broker's death must not take us before the terminal is itself
	 * again: end of file on the control socket tells us. */
	prctl(PR_SET_PDEATHSIG, 0);
	if (c->tty && tcgetattr(r, &c->saved) == 0) {
		t = c->saved;
		t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP |
		    INLCR | IGNCR | ICRNL | IXON);
		t.c_oflag |= OPOST;
		t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN);
		t.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
		t.c_cflag |= CS8;
		if (c->mux)
			t.c_lflag &= ~(tcflag_t)ISIG;
		t.c_cc[VSUSP] = _POSIX_VDISABLE;
		t.c_cc[VMIN] = 1;
		t.c_cc[VTIME] = 0;
		c->raw = tcsetattr(r, TCSANOW, &t) == 0;
		atexit(restore);
	}
	/* a regular file as input is at its end sooner than a guest is up */
	if (fstat(0, &st) == 0 && S_ISREG(st.st_mode) && !c->mux)
		c->escape = false;
	char_open_fd(c, r, w);
	return 0;
}

void
stdio_close(struct chardev *c)
{
	if (owner == c) {
		restore();
		owner = NULL;
	}
	loop_timer(c->loop, 0, deliver_held, c);
	if (c->mon >= 0) {
		loop_fd_del(c->loop, c->mon);
		close(c->mon);
	}
	if (c->rfd >= 0)
		close(c->rfd);
	if (c->wfd >= 0 && c->wfd != c->rfd)
		close(c->wfd);
	c->rfd = c->wfd = c->mon = -1;
}

/* To the terminal, beside what the guest writes there. */
static void
say(struct chardev *c, const char *s, size_t n)
{
	struct pollfd p = { c->wfd, POLLOUT, 0 };
	ssize_t r;

	while (n > 0 && c->wfd >= 0 && poll(&p, 1, 200) > 0) {
		r = write(c->wfd, s, n > 512 ? 512 : n);
		if (r <= 0)
			break;
		s += r;
		n -= (size_t)r;
	}
}

static void
say_line(struct chardev *c, const char *s)
{
	say(c, s, strlen(s));
}

static void
mon_gone(struct chardev *c)
{
	loop_fd_del(c->loop, c->mon);
	close(c->mon);
	c->mon = -1;
	if (c->to_mon)
		say_line(c, "\r\n[the monitor is gone]\r\n");
	c->to_mon = false;
	char_watch(c);
}

static void
mon_cb(void *arg, int fd, short revents)
{
	struct chardev *c = arg;
	char buf[1024];
	ssize_t n;

	(void)revents;
	n = read(fd, buf, sizeof buf);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		mon_gone(c);
	else
		say(c, buf, (size_t)n);
}

static void
to_monitor(struct chardev *c)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (!c->mux) {
		say_line(c, "\r\n[no monitor here: use mon:stdio]\r\n");
		return;
	}
	if (c->to_mon) {
		c->to_mon = false;
		char_watch(c);
		return;
	}
	if (c->mon < 0 && c->part != NULL) {
		snprintf(sun.sun_path, sizeof sun.sun_path, "%.100s/mon",
		    c->part->dir);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&sun,
		    sizeof sun) == 0) {
			fcntl(fd, F_SETFL, O_NONBLOCK);
			c->mon = fd;
			loop_fd(c->loop, fd, POLLIN, mon_cb, c);
		} else if (fd >= 0) {
			close(fd);
		}
	} else if (c->mon >= 0 && write(c->mon, "\r", 1) == 1) {
		/* a fresh prompt */
	}
	if (c->mon < 0) {
		say_line(c, "\r\n[this machine has no monitor]\r\n");
		return;
	}
	c->to_mon = true;
	char_watch(c);
}

static void
help(struct chardev *c)
{
	say_line(c, "\r\n"
	    "Ctrl-a h    this help\r\n"
	    "Ctrl-a x    quit the machine\r\n"
	    "Ctrl-a c    switch between the console and the monitor\r\n"
	    "Ctrl-a b    send a break\r\n"
	    "Ctrl-a s    write disk data back (only with a snapshot)\r\n"
	    "Ctrl-a Ctrl-a    send Ctrl-a\r\n");
}

/* Later, from the loop: the chip is in the middle of something now. */
static void
deliver_held(void *arg)
{
	struct chardev *c = arg;
	uint8_t buf[64];
	size_t n;

	while (!c->paused && c->nheld > 0) {
		n = c->nheld < sizeof buf ? c->nheld : sizeof buf;
		memcpy(buf, c->held, n);
		memmove(c->held, c->held + n, c->nheld - n);
		c->nheld -= n;
		char_deliver(c, buf, n);
	}
}

void
stdio_unpaused(struct chardev *c)
{
	if (c->nheld > 0)
		loop_timer(c->loop, 1, deliver_held, c);
}

static void
pass(struct chardev *c, const uint8_t *buf, size_t n)
{
	if (n == 0)
		return;
	if (c->to_mon) {
		if (write(c->mon, buf, n) < 0 && errno != EAGAIN)
			mon_gone(c);
	} else if (c->paused || c->nheld > 0) {
		if (n > sizeof c->held - c->nheld)
			n = sizeof c->held - c->nheld;	/* the rest is lost */
		memcpy(c->held + c->nheld, buf, n);
		c->nheld += n;
	} else {
		char_deliver(c, buf, n);
	}
}

/* Ctrl-a s: `commit all' (PROTOCOL.md, "Questions to a device"). */
static void
commit_all(struct chardev *c)
{
	char *parts = NULL, *reply, *line, *save, *words[16], text[512];
	const char *name, *chip;
	int e, done = 0;

	if (c->part == NULL || part_ask(c->part, "bus", "parts", -1, &parts) != 0 ||
	    parts == NULL) {
		free(parts);
		return;
	}
	for (line = strtok_r(parts, "\n", &save); line != NULL;
	    line = strtok_r(NULL, "\n", &save)) {
		if (line_split(line, words, 16) < 1 ||
		    (name = line_key(words, "name")) == NULL ||
		    (chip = line_key(words, "chip")) == NULL ||
		    strcmp(chip, "virtio-blk") != 0)
			continue;
		reply = NULL;
		e = part_ask(c->part, name, "commit", -1, &reply);
		if (e == 0)
			snprintf(text, sizeof text, "\r\n[%s is written back]\r\n",
			    name);
		else
			snprintf(text, sizeof text, "\r\n[%s: %s]\r\n", name,
			    reply != NULL && *reply ? reply : strerror(e));
		if (e != ENOTSUP) {
			say_line(c, text);
			done++;
		}
		free(reply);
	}
	if (!done)
		say_line(c, "\r\n[no disk has a snapshot to write back]\r\n");
	free(parts);
}

static void
escaped(struct chardev *c, uint8_t key)
{
	static const uint8_t ctrl_a = 1;

	switch (key) {
	case 'h':
	case '?':
		help(c);
		break;
	case 'x':
		say_line(c, "\r\n");
		if (c->part != NULL)
			part_event(c->part, "quit");
		break;
	case 'c':
		to_monitor(c);
		break;
	case 'b':
		if (c->brk != NULL)
			c->brk(c->barg);
		else
			say_line(c, "\r\n[this device takes no break]\r\n");
		break;
	case 's':
		commit_all(c);
		break;
	case 'a':
	case 1:
		pass(c, &ctrl_a, 1);
		break;
	}
}

void
stdio_keys(struct chardev *c, const uint8_t *buf, size_t n)
{
	size_t i, from = 0;

	for (i = 0; i < n; i++) {
		if (c->seen) {
			c->seen = false;
			from = i + 1;
			escaped(c, buf[i]);
		} else if (buf[i] == 1) {
			pass(c, buf + from, i - from);
			from = i + 1;
			c->seen = true;
		}
	}
	pass(c, buf + from, n - from);
}

/* --------------------------------------------------------------------- pty */

/* Nobody has the other end open: look now and then. */
static void
pty_look(void *arg)
{
	struct chardev *c = arg;
	struct pollfd p = { c->master, POLLIN, 0 };

	if (poll(&p, 1, 0) == 0 || !(p.revents & POLLHUP))
		char_open_fd(c, c->master, c->master);
	else
		loop_timer(c->loop, now_ns() + PTY_LOOK_NS, pty_look, c);
}

void
pty_hangup(struct chardev *c)
{
	c->rfd = c->wfd = -1;
	loop_timer(c->loop, now_ns() + PTY_LOOK_NS, pty_look, c);
}

int
pty_open(struct chardev *c, char *why, size_t len)
{
	struct termios t;
	char name[64];
	int fd;

	c->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->master < 0 || grantpt(c->master) < 0 ||
	    unlockpt(c->master) < 0 ||
	    ptsname_r(c->master, name, sizeof name) != 0 ||
	    (fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
		snprintf(why, len, "pty: %s", strerror(errno));
		return -1;
	}
	if (tcgetattr(fd, &t) == 0) {
		cfmakeraw(&t);
		tcsetattr(fd, TCSANOW, &t);
	}
	close(fd);		/* from now on a hang-up until somebody comes */
	fcntl(c->master, F_SETFL, O_NONBLOCK);
	snprintf(c->info, sizeof c->info, "pty:%s", name);
	fprintf(stderr, "char device redirected to %s (label %s)\n", name,
	    c->part != NULL ? c->part->name : "pty");
	pty_look(c);
	return 0;
}

void
pty_close(struct chardev *c)
{
	loop_timer(c->loop, 0, pty_look, c);
	if (c->master >= 0)
		close(c->master);
}
