/*
 * part.c - a part's side of the bus: hello, requests, control lines, and the
 * loop that serves the channel (PROTOCOL.md "Life cycle", "Channels").
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
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bus.h"
#include "private.h"

#define BUS_FD		3
#define SPIN_MIN	2000	/* ns */
#define SPIN_MAX	50000
#define SPIN_LOOK	32	/* looks between two polls of the rest */
#define POLL_NS		100000	/* busy: look at the descriptors this often */

struct msg {
	struct msg	*next;
	int		nfd, fds[LINE_FDS];
	uint64_t	id;
	char		*line;		/* after the ID, in text */
	char		text[];
};

struct waiter {
	struct waiter	*next;
	uint64_t	id;
	struct msg	*answer;
	bool		eof;
};

struct gtimer {
	struct gtimer	*next;
	struct part	*part;
	int64_t		ns;		/* guest time; -1: not armed */
	loop_timer_fn	*fn;
	void		*arg;
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
};

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

/* ------------------------------------------------------------ control lines */

static void
msg_free(struct msg *m)
{
	int i;

	if (m == NULL)
		return;
	for (i = 0; i < m->nfd; i++)
		close(m->fds[i]);
	free(m);
}

/* Read one packet and file it.  Called with the lock, which is let go while
 * reading; the caller has made sure that nobody else reads. */
static void
read_one(struct part *p)
{
	struct part_priv *v = p->priv;
	struct waiter *w;
	struct msg *m;
	int fds[LINE_FDS], nfd = LINE_FDS, i;
	ssize_t n;
	uint64_t one = 1;

	v->reading = true;
	pthread_mutex_unlock(&v->lock);
	n = line_recv(p->bus, v->buf, LINE_MAX_BYTES + 1, fds, &nfd);
	m = n > 0 ? malloc(sizeof *m + (size_t)n + 1) : NULL;
	pthread_mutex_lock(&v->lock);
	v->reading = false;
	if (n < 0 && (errno == EMSGSIZE || errno == EAGAIN))
		goto out;
	if (n <= 0) {
		v->eof = true;
		for (w = v->waiters; w != NULL; w = w->next)
			w->eof = true;
		goto out;
	}
	if (m == NULL) {
		for (i = 0; i < nfd; i++)
			close(fds[i]);
		goto out;
	}
	memcpy(m->text, v->buf, (size_t)n + 1);
	memcpy(m->fds, fds, sizeof fds);
	m->nfd = nfd;
	m->next = NULL;
	m->line = line_id(m->text, &m->id);
	if (strncmp(m->line, "ok", 2) == 0 || strncmp(m->line, "err ", 4) == 0) {
		for (w = v->waiters; w != NULL; w = w->next)
			if (w->id == m->id && w->answer == NULL)
				break;
		if (w != NULL)
			w->answer = m;
		else
			msg_free(m);
	} else {
		*v->tail = m;
		v->tail = &m->next;
	}
out:
	pthread_cond_broadcast(&v->cond);
	if ((v->queue != NULL || v->eof) &&
	    !pthread_equal(pthread_self(), v->main) &&
	    write(v->wake, &one, sizeof one) < 0) {
		/* EAGAIN: already readable */
	}
}

/* Send a request and wait for its answer. 0 and *out (msg_free), or errno. */
static int
request(struct part *p, struct msg **out, char **text, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int
request(struct part *p, struct msg **out, char **text, const char *fmt, ...)
{
	struct part_priv *v = p->priv;
	struct waiter w = { 0 }, **pp;
	char *line;
	va_list ap;
	int n, e;

	*out = NULL;
	*text = NULL;
	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return ENOMEM;
	pthread_mutex_lock(&v->lock);
	w.id = ++v->last_id;
	w.next = v->waiters;
	w.eof = v->eof;
	v->waiters = &w;
	pthread_mutex_unlock(&v->lock);
	e = line_send(p->bus, NULL, 0, "@%llu %s", (unsigned long long)w.id,
	    line) < 0 ? errno : 0;
	free(line);
	pthread_mutex_lock(&v->lock);
	while (e == 0 && w.answer == NULL && !w.eof) {
		if (v->reading)
			pthread_cond_wait(&v->cond, &v->lock);
		else
			read_one(p);
	}
	for (pp = &v->waiters; *pp != &w; )
		pp = &(*pp)->next;
	*pp = w.next;
	pthread_mutex_unlock(&v->lock);
	if (e == 0 && w.answer == NULL)
		e = ECONNRESET;
	if (e != 0) {
		msg_free(w.answer);
		return e;
	}
	*out = w.answer;
	return answer_parse(w.answer->line, text);
}

/* A request whose answer is a few words. -1 errno. */
static int
simple(struct part *p, const char *key, int64_t *val, const char *line)
{
	struct msg *m;
	char *text, *argv[32];
	int e;

	e = request(p, &m, &text, "%s", line);
	if (e == 0 && key != NULL) {
		if (line_split(text, argv, 32) < 0 ||
		    line_key(argv, key) == NULL)
			e = EPROTO;
		else
			*val = strtoll(line_key(argv, key), NULL, 0);
	}
	msg_free(m);
	errno = e;
	return e == 0 ? 0 : -1;
}

int
part_range(struct part *p, unsigned range, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	char buf[256];

	if (kind >= RANGE_NKIND) {
		errno = EINVAL;
		return -1;
	}
	snprintf(buf, sizeof buf, "range %u space=%s start=0x%llx len=0x%llx "
	    "kind=%s off=0x%llx bits=%u prio=%u", range,
	    space == SPACE_IO ? "io" : "mem", (unsigned long long)start,
	    (unsigned long long)len, range_kind_name[kind],
	    (unsigned long long)off, bits, prio);
	return simple(p, NULL, NULL, buf);
}

int
part_line(struct part *p, unsigned line)
{
	char buf[32];
	int64_t v;

	snprintf(buf, sizeof buf, "line %u", line);
	return simple(p, "source", &v, buf) < 0 ? -1 : (int)v;
}

int
part_pci(struct part *p, int devfn)
{
	char buf[32];
	int64_t v;

	snprintf(buf, sizeof buf, "pci %d", devfn);
	return simple(p, "devfn", &v, buf) < 0 ? -1 : (int)v;
}

int
part_subscribe(struct part *p)
{
	return simple(p, NULL, NULL, "subscribe");
}

int
part_ready(struct part *p)
{
	return simple(p, NULL, NULL, "ready");
}

int
part_cleanup(struct part *p, const char *path)
{
	char buf[512], cwd[200] = "";

	if (*path != '/' && getcwd(cwd, sizeof cwd - 1) != NULL)
		strlcat(cwd, "/", sizeof cwd);
	snprintf(buf, sizeof buf, "cleanup '%s%s'", cwd, path);
	return simple(p, NULL, NULL, buf);
}

int
part_event(struct part *p, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	return line_send(p->bus, NULL, 0, "event %s", buf);
}

int
part_ask(struct part *p, const char *whom, const char *question, char **reply)
{
	struct msg *m;
	char *text;
	int e;

	e = request(p, &m, &text, "ask %s %s", whom, question);
	if (reply != NULL) {
		*reply = m == NULL ? strdup(strerror(e)) :
		    answer_text(text, m->fds, &m->nfd);
		if (*reply == NULL && e == 0)
			e = ENOMEM;
	}
	msg_free(m);
	return e;
}

/* ------------------------------------------------------------------- hello */

static void *
map_fd(int fd, size_t len, int prot)
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
		read_one(p);
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
	p->map = map_fd(m->fds[1], MAP_BYTES, PROT_READ);
	p->irq.page = map_fd(m->fds[2], IRQ_BYTES, PROT_READ | PROT_WRITE);
	p->dirty = map_fd(m->fds[3], DIRTY_BYTES(ram / PAGE_SIZE_4K),
	    PROT_READ | PROT_WRITE);
	p->pci = map_fd(m->fds[4], PCI_BYTES, PROT_READ | PROT_WRITE);
	p->chan = map_fd(m->fds[5], CHAN_BYTES(p->nvcpu),
	    PROT_READ | PROT_WRITE);
	p->kick = m->fds[6];
	p->state = p->state_len > 0 ? map_fd(m->fds[7], p->state_len,
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
		e = request(p, &m, &text, "hello chip=%s state=%zu nvcpu=%u",
		    chip, state_len, nvcpu);
	else
		e = request(p, &m, &text, "hello chip=%s state=%zu", chip,
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

/* ------------------------------------------------------------- guest timers */

static void arm(struct gtimer *);

static void
fire(void *arg)
{
	struct gtimer *t = arg;

	if (t->ns < 0)
		return;
	if (!t->part->running || !atomic_load(&t->part->map->running))
		return;		/* armed again by run */
	if (part_clock(t->part) < t->ns) {
		arm(t);
		return;
	}
	t->ns = -1;
	t->fn(t->arg);
}

static void
arm(struct gtimer *t)
{
	struct part *p = t->part;
	int64_t host;

	if (t->ns < 0 || !p->running) {
		loop_timer(p->loop, 0, fire, t);
		return;
	}
	host = now_ns() + (t->ns - part_clock(p));
	loop_timer(p->loop, host > 0 ? host : 1, fire, t);
}

int64_t
part_clock(struct part *p)
{
	return map_clock(p->map);
}

void
part_timer(struct part *p, int64_t guest_ns, loop_timer_fn *fn, void *arg)
{
	struct gtimer *t;

	for (t = p->priv->timers; t != NULL; t = t->next)
		if (t->fn == fn && t->arg == arg)
			break;
	if (t == NULL) {
		if (guest_ns < 0)
			return;
		t = calloc(1, sizeof *t);
		if (t == NULL)
			return;
		t->part = p;
		t->fn = fn;
		t->arg = arg;
		t->next = p->priv->timers;
		p->priv->timers = t;
	}
	t->ns = guest_ns;
	arm(t);
}

static void
arm_all(struct part *p)
{
	struct gtimer *t;

	for (t = p->priv->timers; t != NULL; t = t->next)
		arm(t);
}

/* ------------------------------------------------------------- the channel */

static uint64_t
do_read(struct part *p, unsigned range, uint64_t off, unsigned size)
{
	if (p->ops->read == NULL || !chan_size_ok(size))
		return ~0ull;
	return p->ops->read(p->arg, range, off, size);
}

static void
do_write(struct part *p, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	if (p->ops->write == NULL || !chan_size_ok(size))
		return;
	if (size < 8)
		val &= (1ull << size * 8) - 1;
	p->ops->write(p->arg, range, off, size, val);
}

static uint32_t
do_string(struct part *p, struct slot *s, int op, unsigned range, uint64_t off,
    unsigned size)
{
	uint32_t i, count = ONCE(s->count);
	uint64_t v;

	if (!chan_size_ok(size))
		count = 0;
	else if (count > SLOT_BUF / size)
		count = SLOT_BUF / size;
	for (i = 0; i < count; i++) {
		if (op == CHAN_INS) {
			v = do_read(p, range, off, size);
			memcpy(s->buf + i * size, &v, size);
		} else {
			v = 0;
			memcpy(&v, s->buf + i * size, size);
			do_write(p, range, off, size, v);
		}
	}
	s->count = count;
	return count;
}

static void
serve_slot(struct part *p, unsigned n, struct slot *s, bool trace)
{
	uint8_t op = ONCE(s->op), size = ONCE(s->size);
	uint16_t range = ONCE(s->range);
	uint64_t off = ONCE(s->off), data = ONCE(s->data);
	uint32_t count = 0;

	switch (op) {
	case CHAN_READ:
		data = do_read(p, range, off, size);
		s->data = data;
		break;
	case CHAN_WRITE:
		do_write(p, range, off, size, data);
		break;
	case CHAN_INS:
	case CHAN_OUTS:
		count = do_string(p, s, op, range, off, size);
		break;
	case CHAN_CFGW:
		if (p->ops->config != NULL && (size == 1 || size == 2 ||
		    size == 4) && off + size <= 4096)
			p->ops->config(p->arg, range & 0xff, (unsigned)off, size,
			    (uint32_t)data);
		break;
	}
	if (trace)
		chan_trace(p->chan, op, n, range, off, size, data, count,
		    false);
	/* the vcpu takes the slot back as soon as it sees SLOT_DONE */
	atomic_store(&s->state, SLOT_DONE);
	if (atomic_load(&s->waiting))
		syscall(SYS_futex, &s->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool
serve_cpu(struct part *p, unsigned n, bool trace)
{
	struct chan_cpu *c = &p->chan->cpu[n];
	struct ring_ent e;
	bool asked, did = false;
	unsigned i;

	/* looked at first: what was posted before the request is then seen */
	asked = atomic_load_explicit(&c->slot.state, memory_order_acquire) ==
	    SLOT_ASKED;
	for (i = 0; i < RING_N && ring_peek(&c->ring, &e); i++) {
		if (e.op == CHAN_WRITE)
			do_write(p, e.range, e.off, e.size, e.data);
		if (trace)
			chan_trace(p->chan, CHAN_WRITE, n, e.range, e.off,
			    e.size, e.data, 0, true);
		ring_pop(&c->ring);
		did = true;
	}
	if (i == RING_N)
		atomic_fetch_or(&p->chan->asked, 1ull << n % 64);
	if (asked) {
		serve_slot(p, n, &c->slot, trace);
		did = true;
	}
	return did;
}

/* Do what the vcpus asked for; false: there was nothing. */
static bool
serve(struct part *p)
{
	struct chan *c = p->chan;
	uint64_t asked, bell = 0;
	bool trace, did = false;
	unsigned n;

	if (atomic_load_explicit(&c->bell, memory_order_relaxed) != 0)
		bell = atomic_exchange(&c->bell, 0);
	if (atomic_load_explicit(&c->asked, memory_order_relaxed) == 0 &&
	    bell == 0)
		return false;
	asked = atomic_exchange(&c->asked, 0);
	trace = atomic_load_explicit(&c->trace_on, memory_order_relaxed) != 0;
	for (n = 0; asked != 0 && n <= p->nvcpu; n++)
		if (asked >> n % 64 & 1)
			did |= serve_cpu(p, n, trace);
	if (bell != 0) {
		if (trace)
			chan_trace(c, CHAN_BELL, 0, 0, 0, 8, bell, 0, false);
		if (p->ops->bell != NULL)
			p->ops->bell(p->arg, bell);
		did = true;
	}
	return did;
}

/* ------------------------------------------------- requests of the broker */

static void
answer(struct part *p, struct msg *m, int e, const char *text, size_t len)
{
	answer_send(p->bus, 0, m->id, e, text, len);
}

static void
answer_errno(struct part *p, struct msg *m, int e)
{
	const char *s = e != 0 ? strerror(e) : "";

	answer(p, m, e, s, strlen(s));
}

static void
do_ask(struct part *p, struct msg *m, char *question)
{
	char *argv[64], *text = NULL;
	size_t len = 0;
	FILE *out;
	int e;

	out = open_memstream(&text, &len);
	if (out == NULL) {
		answer_errno(p, m, ENOMEM);
		return;
	}
	if (line_split(question, argv, 64) < 0)
		e = EINVAL;
	else
		e = p->ops->ask != NULL ? p->ops->ask(p->arg, argv, out) :
		    ENOTSUP;
	fclose(out);
	if (e < 0)
		e = EINVAL;
	if (e != 0 && len == 0)
		answer_errno(p, m, e);
	else
		answer(p, m, e, text, len);
	free(text);
}

static void
do_boot(struct part *p, char *const *argv)
{
	static const char *const modes[] = {
		"reset", "real16", "prot32", "long64"
	};
	const char *s = line_key(argv, "mode");
	struct boot *b = &p->boot;
	unsigned i;

	memset(b, 0, sizeof *b);
	for (i = 0; i < 4 && s != NULL; i++)
		if (strcmp(s, modes[i]) == 0)
			b->mode = (enum boot_mode)i;
	b->rip = line_u64(argv, "rip", 0);
	b->rsp = line_u64(argv, "rsp", 0);
	b->rsi = line_u64(argv, "rsi", 0);
	b->rbx = line_u64(argv, "rbx", 0);
	b->rax = line_u64(argv, "rax", 0);
	b->cr3 = line_u64(argv, "cr3", 0);
	b->cs = (uint16_t)line_u64(argv, "cs", 0);
	b->ds = (uint16_t)line_u64(argv, "ds", 0);
	b->gdt = line_u64(argv, "gdt", 0);
}

static int
do_part(struct part *p, struct msg *m, char *const *argv)
{
	unsigned num = (unsigned)line_u64(argv, "num", PART_MAX);
	const char *name = line_key(argv, "name");
	struct chan_ref *r;

	if (p->refs == NULL)
		return ENOTSUP;
	if (num >= PART_MAX || name == NULL || m->nfd != 3)
		return EINVAL;
	r = &p->refs[num];
	m->nfd = 0;
	r->state_len = line_u64(argv, "state", 0);
	r->state = r->state_len > 0 ? map_fd(m->fds[2], r->state_len,
	    PROT_READ) : (close(m->fds[2]), NULL);
	r->kick = m->fds[1];
	strlcpy(r->name, name, sizeof r->name);
	r->chan = map_fd(m->fds[0], CHAN_BYTES(p->nvcpu),
	    PROT_READ | PROT_WRITE);
	if (r->chan == NULL || (r->state == NULL && r->state_len > 0))
		return ENOMEM;
	if (p->ops->newpart != NULL)
		p->ops->newpart(p->arg, num);
	return 0;
}

static void
do_stop(struct part *p)
{
	while (serve(p))
		;
	p->running = false;
	if (p->ops->stop != NULL)
		p->ops->stop(p->arg);
	arm_all(p);
}

static void
do_run(struct part *p)
{
	p->running = true;
	if (p->ops->run != NULL)
		p->ops->run(p->arg);
	arm_all(p);
}

static int
do_state(struct part *p, struct msg *m, bool save)
{
	int r;

	if (m->nfd < 1)
		return EBADF;
	if (p->running)
		return EBUSY;
	if ((save ? p->ops->save : p->ops->load) == NULL)
		return ENOTSUP;
	errno = EIO;
	r = save ? p->ops->save(p->arg, m->fds[0]) :
	    p->ops->load(p->arg, m->fds[0]);
	return r == 0 ? 0 : r > 0 ? r : errno;
}

static void
handle(struct part *p, struct msg *m)
{
	char *argv[64];
	int e = 0;

	if (strncmp(m->line, "ask ", 4) == 0) {
		do_ask(p, m, m->line + 4);
		return;
	}
	if (line_split(m->line, argv, 64) < 1) {
		answer_errno(p, m, EINVAL);
		return;
	}
	if (strcmp(argv[0], "run") == 0) {
		do_run(p);
	} else if (strcmp(argv[0], "stop") == 0) {
		do_stop(p);
	} else if (strcmp(argv[0], "reset") == 0) {
		if (p->ops->reset != NULL)
			p->ops->reset(p->arg);
	} else if (strcmp(argv[0], "save") == 0) {
		e = do_state(p, m, true);
	} else if (strcmp(argv[0], "load") == 0) {
		e = do_state(p, m, false);
	} else if (strcmp(argv[0], "boot") == 0) {
		do_boot(p, argv);
	} else if (strcmp(argv[0], "part") == 0) {
		e = do_part(p, m, argv);
	} else if (strcmp(argv[0], "log") == 0) {
		log_items(argv[1] != NULL ? argv[1] : "");
	} else if (strcmp(argv[0], "event") == 0 && argv[1] != NULL) {
		if (p->ops->event != NULL)
			p->ops->event(p->arg, argv[1], argv + 2);
	} else if (strcmp(argv[0], "quit") == 0) {
		p->priv->quit = true;
		answer_errno(p, m, 0);
		return;
	} else {
		e = ENOSYS;
	}
	answer_errno(p, m, e);
}

static bool
handle_queue(struct part *p)
{
	struct part_priv *v = p->priv;
	struct msg *m;

	pthread_mutex_lock(&v->lock);
	m = v->queue;
	if (m != NULL) {
		v->queue = m->next;
		if (v->queue == NULL)
			v->tail = &v->queue;
	}
	pthread_mutex_unlock(&v->lock);
	if (m == NULL)
		return false;
	handle(p, m);
	msg_free(m);
	return true;
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
		if (handle_queue(p))
			continue;
		if (v->eof)
			break;
		if (serve(p)) {
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
	for (i = 0; i < QUIT_ROUNDS && serve(p); i++)
		;
	p->running = false;
	if (p->ops->quit != NULL)
		p->ops->quit(p->arg);
	return 0;
}
