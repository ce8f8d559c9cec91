/*
 * broker.h - the broker's own structures (machine.c broker.c life.c query.c
 * supervise.c membus.c); nobody else includes it.
 */
#ifndef BROKER_H
#define BROKER_H

#include <sys/types.h>
#include <bsd/sys/queue.h>

#include "bus.h"
#include "private.h"

/* ------------------------------------------------- machine.c: the file */

#define WORDS_MAX 96

struct mpart {
	char		*name, *chip;
	char		*argv[WORDS_MAX];	/* key=value words */
	int		n;
};

struct mfile {
	char		*text;			/* the statements as read */
	char		*name, *uuid;
	uint64_t	ram;
	unsigned	smp;
	struct topology	topo;
	char		*kernel, *initrd, *append, *entry;
	bool		reboot_exit, shutdown_pause, start, daemonize, hpet;
	enum { PANIC_EXIT, PANIC_PAUSE, PANIC_NONE } panic;
	char		*pidfile, *log_items, *log_file;
	struct mpart	cpu;
	struct mpart	part[PART_MAX];
	unsigned	npart;
};
/* 0, or -1 with one line in why. */
int	mfile_read(struct mfile *, const char *path, char *why, size_t len);
bool	part_name_ok(const char *);

/* ------------------------------------------------------------- the broker */

struct broker;
struct peer;

/* A request of ours to a part, until its answer. `err` ECONNRESET: the part is
 * gone; ETIMEDOUT.  The text and descriptors are the callee's to look at. */
typedef void answer_fn(struct broker *, void *arg, uint64_t tag, int err,
    char *text, int *fds, int nfd);

struct pend {
	LIST_ENTRY(pend) link;
	uint64_t	id;
	answer_fn	*fn;
	void		*arg;
	uint64_t	tag;
	int64_t		deadline;
	bool		late;		/* timed out: the answer is dropped */
	char		what[24];
};

struct packet {
	STAILQ_ENTRY(packet) link;
	size_t		len;
	int		nfd, fds[LINE_FDS];
	char		text[];
};

enum peer_state { PEER_STARTED, PEER_HELLO, PEER_READY, PEER_GONE };

struct peer {
	LIST_ENTRY(peer) link;		/* tools only */
	struct broker	*b;
	int		fd;
	bool		tool;
	enum peer_state	state;
	char		name[32], chip[32];
	unsigned	num;
	pid_t		pid;		/* 0: reaped */
	int64_t		died[2];	/* when it was started again */
	bool		subscribed;
	uint64_t	traced;		/* tools: parts whose flag we hold */
	uint64_t	last_id;
	LIST_HEAD(, pend) pends;
	STAILQ_HEAD(, packet) out;
	/* parts */
	struct chan	*chan;
	int		chan_fd, kick, state_fd;
	size_t		state_len;
};

enum vm_state { VM_STARTING, VM_PRELAUNCH, VM_RUNNING, VM_PAUSED, VM_SHUTDOWN,
	VM_PANICKED, VM_SUSPENDED, VM_IO_ERROR, VM_NSTATE };

struct job;

struct socket_file {
	char		*path;
	dev_t		dev;
	ino_t		ino;
};

struct broker {
	struct loop	*loop;
	struct mfile	*mf;
	char		dir[256], libexec[512], share[512];
	int		dirfd;		/* holds the lock */
	int		listen;
	int		sigfd;
	sigset_t	oldmask;
	/* shared pages */
	struct ram	ram;
	struct map	*map;
	struct irq_page	*irq;
	struct dirty	*dirty;
	struct pci_space *pci;
	int		map_fd, irq_fd, dirty_fd, pci_fd, cpukick;
	struct map_list	*ranges;
	unsigned	nsource[IRQ_LINES];
	/* peers */
	struct peer	*part[PART_MAX];	/* 0: the vcpu */
	unsigned	npart;
	LIST_HEAD(, peer) tools;
	struct peer	*poker;
	/* life */
	enum vm_state	state;
	bool		running;
	STAILQ_HEAD(, job) jobs;
	struct job	*job;
	unsigned	waiting;
	int64_t		saved_ns;
	uint64_t	saved_tsc;
	struct boot	boot;
	uint64_t	cal_tsc;	/* calibration: first reading */
	int64_t		cal_ns;
	/* end */
	bool		ending;
	int		code;		/* exit status */
	unsigned	terms;		/* SIGTERMs so far */
	/* daemonize */
	int		tell;		/* pipe to the waiting parent, or -1 */
	int		errpipe;	/* parts' stderr, or -1 */
	int		logfd;
	bool		pid_written;
	struct socket_file sock[64];
	unsigned	nsock;
	/* vm-poke, which is a broker without a vcpu */
	const struct hooks *hooks;
};

struct hooks {
	void	(*started)(struct broker *);
	/* instead of acting on the event */
	void	(*event)(struct broker *, const char *text);
};

/* ---- broker.c */
int	broker_pages(struct broker *);		/* -1: message printed */
int	broker_listen(struct broker *);
int	broker_open(struct broker *);
struct peer *peer_new(struct broker *, int fd, bool tool);
void	peer_free(struct peer *);
void	peer_drain(struct peer *);
int	peer_open(struct peer *);	/* p->fd is there now: listen to it */
/* Queue one packet; never blocks. The descriptors are duplicated if need be. */
void	peer_send(struct peer *, const int *fds, int nfd, const char *fmt, ...)
	    __attribute__((format(printf, 4, 5)));
void	peer_answer(struct peer *, uint64_t id, int err, const char *text,
	    size_t len);
void	peer_ask(struct peer *, answer_fn *, void *arg, uint64_t tag,
	    int64_t timeout_ns, const int *fds, int nfd, const char *fmt, ...)
	    __attribute__((format(printf, 8, 9)));
/* Fail every request still open to this peer. */
void	peer_fail(struct peer *);
int	peer_cleanup(struct peer *, const char *path);
struct peer *peer_named(struct broker *, const char *name);
/* Tell subscribers. `from` is a part's name or "bus". */
void	broker_event(struct broker *, const char *from, const char *text);
void	broker_close(struct broker *);

/* ---- life.c */
enum job_kind { JOB_START, JOB_RUN, JOB_STOP, JOB_RESET, JOB_STATE };
typedef void job_fn(struct broker *, void *arg, uint64_t tag, int err);
/* Do it after the jobs already queued; fn (may be NULL) when done. */
void	life_job(struct broker *, enum job_kind, enum vm_state then,
	    job_fn *, void *arg, uint64_t tag);
/* Forget callbacks that would go to this peer. */
void	life_forget(struct broker *, void *arg);
void	life_event(struct broker *, struct peer *, char **argv);
void	life_ready(struct broker *, struct peer *);	/* it became ready */
void	life_powerbutton(struct broker *);
void	life_end(struct broker *, int code);	/* begin to quit */
const char *life_status(const struct broker *);

/* ---- query.c */
/* Answer `ask bus argv...` of a peer, now or later. */
void	query(struct broker *, struct peer *, uint64_t id, char **argv);

/* ---- supervise.c */
void	part_places(struct broker *);	/* libexec and share */
int	part_signals(struct broker *);	/* SIGCHLD and the like, by the loop */
int	part_find_programs(struct broker *);	/* -1: message; exit 2 */
int	part_start(struct broker *, struct peer *, const struct mpart *);
void	part_reap(struct broker *);		/* SIGCHLD */
void	part_lost(struct peer *);		/* EOF on its socket */
void	part_kill_all(struct broker *, int sig);
unsigned part_alive(const struct broker *);
void	part_stat(struct broker *, FILE *);

/* ---- rundir.c */
int	rundir_make(struct broker *);		/* -1: message printed */
void	rundir_remove(struct broker *);
int	rundir_put(struct broker *, const char *name, const char *text);

#endif
