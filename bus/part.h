/*
 * part.h - what the files of a part's side of the bus share: part.c says how
 * they work together.
 */
#ifndef BUS_PART_H
#define BUS_PART_H

#include <pthread.h>

#include "bus.h"
#include "private.h"

/* A packet of the control line. */
struct msg {
	struct msg	*next;
	int		nfd, fds[LINE_FDS];
	uint64_t	id;
	char		*line;		/* after the ID, in text */
	char		text[];
};

struct part_priv {
	pthread_mutex_t	lock;
	pthread_cond_t	cond;
	pthread_t	main;
	bool		reading;	/* a thread is in line_recv */
	bool		eof;
	uint64_t	last_id;
	struct waiter	*waiters;
	struct msg	*queue, **tail;
	int		wake;		/* eventfd: queue filled by another
					 * thread, or SIGTERM */
	char		*buf;
	struct gtimer	*timers;
	int64_t		spin, slept;
	bool		kicked;		/* woken by the kick eventfd */
	bool		quit;
	struct msg	*asked;		/* the question being answered */
};

/* part.c: the memory behind fd, which is closed; NULL. */
void	*part_map(int fd, size_t len, int prot);

/* ---- request.c: control lines */
void	msg_free(struct msg *);		/* with its descriptors */
/* Read one packet and file it.  Called with the lock, which is let go while
 * reading; the caller has made sure that nobody else reads. */
void	part_receive(struct part *);
/* Send a request, with a descriptor if `fd` is one, and wait for its answer.
 * 0 and *out (msg_free), or errno. */
int	part_request(struct part *, int fd, struct msg **out, char **text,
	    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ---- order.c: do the first request of the queue; false: there is none */
bool	part_obey(struct part *);

/* ---- serve.c: do what the vcpus asked for; false: there was nothing */
bool	part_serve(struct part *);

/* ---- gtimer.c: arm the guest timers, or disarm them, as the part runs */
void	part_timers(struct part *);

#endif
