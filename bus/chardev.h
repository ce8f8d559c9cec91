/*
 * chardev.h - shared by the kinds of character back ends (chardev.c terminal.c
 * charsock.c).
 */
#ifndef CHARDEV_H
#define CHARDEV_H

#include <sys/socket.h>
#include <termios.h>

#include "bus.h"
#include "private.h"

struct addrinfo;

enum char_kind { CHAR_NULL, CHAR_STDIO, CHAR_PTY, CHAR_FILE, CHAR_PIPE,
	CHAR_STREAM, CHAR_DGRAM };

struct chardev {
	struct loop	*loop;
	struct part	*part;		/* may be NULL */
	enum char_kind	kind;
	char		spec[256], info[320];
	chardev_in_fn	*in;
	void		*arg;
	void		(*writable)(void *);
	void		*warg;
	void		(*brk)(void *);
	void		*barg;
	int		rfd, wfd;	/* -1: nobody there; may be the same */
	bool		paused, blocked;	/* no input; output was full */

	/* stdio: Ctrl-a, and the monitor beside it */
	bool		escape, mux, seen, tty, raw;
	bool		to_mon;
	int		mon;
	struct termios	saved;
	uint8_t		held[1024];	/* typed while paused: Ctrl-a x must
					 * be seen whatever the guest does */
	size_t		nheld;

	/* pty */
	int		master;

	/* sockets */
	int		lfd;		/* listening, or -1 */
	bool		server, wait, telnet;
	unsigned	reconnect;	/* seconds, 0: no */
	struct addrinfo	*ai;
	char		*path;		/* unix */
	unsigned	iac;		/* telnet input state */
	uint8_t		pend[2048];	/* telnet output, already encoded */
	size_t		npend;
};

/* ---- chardev.c */
void	char_open_fd(struct chardev *, int rfd, int wfd);
void	char_hangup(struct chardev *);	/* peer gone: kind decides what next */
void	char_watch(struct chardev *);	/* tell the loop what we wait for */
void	char_deliver(struct chardev *, const uint8_t *, size_t);
/* One comma-separated word "key" or "key=value" off the list; NULL at end. */
char	*char_word(char **list, char **value);
int	char_bool(const char *value, bool *out);

/* ---- terminal.c */
int	stdio_open(struct chardev *, char *why, size_t len);
void	stdio_close(struct chardev *);
void	stdio_unpaused(struct chardev *);
void	stdio_keys(struct chardev *, const uint8_t *, size_t);
int	pty_open(struct chardev *, char *why, size_t len);
void	pty_hangup(struct chardev *);
void	pty_close(struct chardev *);

/* ---- charsock.c */
int	sock_open(struct chardev *, const char *spec, char *why, size_t len);
void	sock_hangup(struct chardev *);
void	sock_close(struct chardev *);
void	telnet_hello(struct chardev *);
size_t	telnet_in(struct chardev *, uint8_t *, size_t);
/* Encode as much as fits into pend; returns bytes taken. */
size_t	telnet_out(struct chardev *, const uint8_t *, size_t);

#endif
