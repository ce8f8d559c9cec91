/*
 * private.h - what the files of bus/ share and nobody else uses.
 */
#ifndef BUS_PRIVATE_H
#define BUS_PRIVATE_H

#include "bus.h"

#define VERSION "0.1"

static inline void
cpu_relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* Shared memory is read once: what was checked is what is used. */
#define ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)

static inline bool
chan_size_ok(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* ---- line.c */
/* One packet of `len` bytes; flags: MSG_DONTWAIT. */
int	line_sendv(int fd, int flags, const int *fds, int nfd, const char *buf,
	    size_t len);
uint64_t line_u64(char *const *argv, const char *key, uint64_t def);
/* Takes a leading "@ID " off; *id 0 if there is none (IDs start at 1). */
char	*line_id(char *line, uint64_t *id);

/* ---- tool.c: answers, for parts too */
/* `line` is what follows the ID: "ok ..." or "err N ...". Returns the errno
 * value (EPROTO if it is neither) and where the text starts. */
int	answer_parse(char *line, char **text);
/* malloc'ed text of an ok answer: the packet's, or the memfd's (consumed). */
char	*answer_text(char *text, int *fds, int *nfd);
/* Send text as an answer to request `id`; large text goes in a memfd. */
int	answer_send(int fd, int flags, uint64_t id, int err, const char *text,
	    size_t len);

#endif
