/*
 * part.c - a part's side of the bus: hello, and the loop that serves the channel
 * (serve.c) and the broker's requests (order.c) between the part's own
 * (request.c).  PROTOCOL.md "Life cycle".
 *
 * Theory of operation.  Control lines arrive on one socket, answers to our own
 * requests among the broker's requests.  Whoever needs an answer reads the
 * socket until it has come (one reader at a time; other threads wait on the
 * condition); lines that are not answers are queued and handled on the thread
 * in part_run, never from within a request.
 *
 * part_run serves the channel as long as there is work, goes on looking for a
 * few microseconds, then sleeps in poll().  How long it looks adapts: looking
 * in vain halves it, being woken just after falling asleep doubles it.
 *
 * #syscalls read write readv writev close poll ppoll recvmsg sendmsg futex
 * #syscalls clock_gettime nanosleep clock_nanosleep exit exit_group
 * #syscalls rt_sigaction rt_sigprocmask rt_sigreturn restart_syscall
 * #syscalls mmap munmap mremap mprotect madvise brk memfd_create ftruncate
 * #syscalls fcntl dup fstat newfstatat lseek pread64 pwrite64
 * #syscalls getpid gettid tgkill sched_yield sched_getaffinity getrandom
 * #syscalls rseq set_robust_list sigaltstack prctl getcwd
 */
#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "part.h"

#define BUS_FD		3
#define SPIN_MIN	2000	/* ns */
#define SPIN_MAX	50000
#define SPIN_LOOK	32	/* looks between two polls of the rest */
#define POLL_NS		100000	/* busy: look at the descriptors this often */

static int term_fd = -1;
static volatile sig_atomic_t term;

static void
on_term(int sig)
{
	uint64_t one = 1;
	int e = errno;

	(void)sig;
	term = 1;
	if (write(term_fd, &one, sizeof one) < 0) {
		/* cannot be full */
	}
	errno = e;
}

/* ------------------------------------------------------------------- hello */

void *
part_map(int fd, size_t len, int prot)
{
	void *v;

	v = mmap(NULL, len, prot, MAP_SHARED, fd, 0);
	close(fd);
	return v == MAP_FAILED ? NULL : v;
}

static void
wake_cb(void *arg, int fd, short revents)
{
	uint64_t n;

	(void)arg, (void)revents;
	if (read(fd, &n, sizeof n) < 0) {
		/* EAGAIN: somebody else was quicker */
	}
}

static void
kick_cb(void *arg, int fd, short revents)
{
	struct part *p = arg;

	wake_cb(arg, fd, revents);
	p->priv->kicked = true;
}

static void
bus_cb(void *arg, int fd, short revents)
{
	struct part *p = arg;
	struct part_priv *v = p->priv;
	struct pollfd one = { fd, POLLIN, 0 };

	(void)revents;
	pthread_mutex_lock(&v->lock);
	while (!v->reading && !v->eof && poll(&one, 1, 0) > 0)
		part_receive(p);
	pthread_mutex_unlock(&v->lock);
}

static int
setup(struct part *p)
{
	struct sigaction sa = { .sa_handler = on_term };
	struct part_priv *v;
	struct stat st;

	if (fstat(BUS_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "%s: not started by membus: descriptor %d is "
		    "no control socket\n", getprogname(), BUS_FD);
		return -1;
	}
	fcntl(BUS_FD, F_SETFD, FD_CLOEXEC);
	p->bus = BUS_FD;
	v = p->priv = calloc(1, sizeof *v);
	if (v == NULL)
		return -1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->cond, NULL);
	v->main = pthread_self();
	v->tail = &v->queue;
	v->spin = SPIN_MIN;
	v->buf = malloc(LINE_MAX_BYTES + 1);
	v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->loop = loop_new();
	if (v->buf == NULL || v->wake < 0 || p->loop == NULL)
		return -1;
	term_fd = v->wake;
	prctl(PR_SET_TIMERSLACK, 1000);	/* guests measure their timers */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	/* Who shares the broker's process group leaves SIGTERM to it: it is
	 * often sent to the whole group and means the power button. */
	if (getpgrp() == getpgid(getppid()))
		signal(SIGTERM, SIG_IGN);
	else
		sigaction(SIGTERM, &sa, NULL);
	loop_fd(p->loop, v->wake, POLLIN, wake_cb, p);
	loop_fd(p->loop, p->bus, POLLIN, bus_cb, p);
	return 0;
}

static int
take_pages(struct part *p, struct msg *m, char *const *argv)
{
	uint64_t ram = line_u64(argv, "ram", 0);
	const char *s;

	p->num = (unsigned)line_u64(argv, "num", PART_MAX);
	p->nvcpu = (unsigned)line_u64(argv, "nvcpu", 0);
	p->state_len = line_u64(argv, "state", 0);
	if (m->nfd != 9 || p->num >= PART_MAX || p->nvcpu == 0 ||
	    p->nvcpu > NVCPU_MAX) {
		errno = EPROTO;
		return -1;
	}
	if ((s = line_key(argv, "name")) != NULL)
		strlcpy(p->name, s, sizeof p->name);
	if ((s = line_key(argv, "vm")) != NULL)
		strlcpy(p->vm, s, sizeof p->vm);
	if ((s = line_key(argv, "dir")) != NULL)
		strlcpy(p->dir, s, sizeof p->dir);
	m->nfd = 0;		/* all taken from here on */
	if (ram_attach(&p->ram, m->fds[0], ram) < 0)
		return -1;
	p->map = part_map(m->fds[1], MAP_BYTES, PROT_READ);
	p->irq.page = part_map(m->fds[2], IRQ_BYTES, PROT_READ | PROT_WRITE);
	p->dirty = part_map(m->fds[3], DIRTY_BYTES(ram / PAGE_SIZE_4K),
	    PROT_READ | PROT_WRITE);
	p->pci = part_map(m->fds[4], PCI_BYTES, PROT_READ | PROT_WRITE);
	p->chan = part_map(m->fds[5], CHAN_BYTES(p->nvcpu),
	    PROT_READ | PROT_WRITE);
	p->kick = m->fds[6];
	p->state = p->state_len > 0 ? part_map(m->fds[7], p->state_len,
	    PROT_READ | PROT_WRITE) : (close(m->fds[7]), NULL);
	p->irq.kick = m->fds[8];
	p->irq.part = p->num;
	p->irq.chan = p->chan;
	if (p->map == NULL || p->irq.page == NULL || p->dirty == NULL ||
	    p->pci == NULL || p->chan == NULL ||
	    (p->state == NULL && p->state_len > 0))
		return -1;
	return loop_fd(p->loop, p->kick, POLLIN, kick_cb, p);
}

static int
hello(struct part *p, const char *chip, size_t state_len, unsigned nvcpu,
    const struct part_ops *ops, void *arg)
{
	struct msg *m;
	char *text, *argv[64];
	int e;

	memset(p, 0, sizeof *p);
	p->ram.fd = -1;
	if (setup(p) < 0)
		return -1;
	p->ops = ops;
	p->arg = arg;
	if (nvcpu > 0)
		e = part_request(p, -1, &m, &text, "hello chip=%s state=%zu nvcpu=%u",
		    chip, state_len, nvcpu);
	else
		e = part_request(p, -1, &m, &text, "hello chip=%s state=%zu", chip,
		    state_len);
	if (e == 0 && (line_split(text, argv, 64) < 0 ||
	    take_pages(p, m, argv) < 0))
		e = errno;
	if (e != 0)
		fprintf(stderr, "%s: hello failed: %s\n", getprogname(),
		    strerror(e));
	msg_free(m);
	if (e != 0)
		return -1;
	log_open(getprogname(), p->vm, p->name);
	return 0;
}

int
part_hello(struct part *p, const char *chip, size_t state_len,
    const struct part_ops *ops, void *arg)
{
	return hello(p, chip, state_len, 0, ops, arg);
}

int
part_hello_vcpu(struct part *p, const char *chip, unsigned nvcpu,
    struct chan_ref *refs, const struct part_ops *ops, void *arg)
{
	memset(refs, 0, PART_MAX * sizeof *refs);
	if (hello(p, chip, 0, nvcpu, ops, arg) < 0)
		return -1;
	p->refs = refs;
	return 0;
}

/* -------------------------------------------------------------------- loop */

static int
before_sleep(void *arg)
{
	struct part *p = arg;
	struct part_priv *v = p->priv;

	atomic_store(&p->chan->sleeping, 1);
	if (atomic_load(&p->chan->asked) != 0 ||
	    atomic_load(&p->chan->bell) != 0 || v->queue != NULL || v->eof ||
	    term)
		return 1;
	v->slept = now_ns();
	return 0;
}

/* Look for work for a while. */
static bool
spin(struct part *p)
{
	struct part_priv *v = p->priv;
	struct chan *c = p->chan;
	int64_t end = now_ns() + v->spin;
	unsigned i;

	if (loop_next(p->loop) < end)
		return false;
	do {
		for (i = 0; i < SPIN_LOOK; i++) {
			if (atomic_load_explicit(&c->asked,
			    memory_order_relaxed) != 0 ||
			    atomic_load_explicit(&c->bell,
			    memory_order_relaxed) != 0)
				return true;
			cpu_relax();
		}
	} while (now_ns() < end);
	v->spin = v->spin / 2 > SPIN_MIN ? v->spin / 2 : SPIN_MIN;
	return false;
}

static void
sleep_once(struct part *p)
{
	struct part_priv *v = p->priv;

	v->kicked = false;
	v->slept = 0;
	loop_once(p->loop, -1, before_sleep, p);
	atomic_store_explicit(&p->chan->sleeping, 0, memory_order_relaxed);
	if (v->kicked && v->slept != 0 && now_ns() - v->slept < SPIN_MAX)
		v->spin = v->spin * 2 < SPIN_MAX ? v->spin * 2 : SPIN_MAX;
}

#define QUIT_ROUNDS 1000	/* a guest that goes on writing is not waited for */

int
part_run(struct part *p)
{
	struct part_priv *v = p->priv;
	int64_t polled = now_ns(), now;
	bool busy = false;
	unsigned i;

	v->main = pthread_self();
	while (!v->quit && !term) {
		if (part_obey(p))
			continue;
		if (v->eof)
			break;
		if (part_serve(p)) {
			busy = true;
			now = now_ns();
			if (now - polled < POLL_NS &&
			    now < loop_next(p->loop))
				continue;
			polled = now;
			loop_once(p->loop, 0, NULL, NULL);
			continue;
		}
		if (busy && spin(p))
			continue;
		busy = false;
		sleep_once(p);
		polled = now_ns();
	}
	/* writes that were posted before the end still count */
	for (i = 0; i < QUIT_ROUNDS && part_serve(p); i++)
		;
	p->running = false;
	if (p->ops->quit != NULL)
		p->ops->quit(p->arg);
	return 0;
}
