/*
 * supervise.c - the broker as parent: starts every part, notices its death,
 * ends them all, and reads what they cost from /proc (proc(5)).
 */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker.h"

#define LOST_NS	500000000	/* from EOF to exit: more is an error */
#define OFTEN_NS 10000000000ll	/* three deaths in this time are the end */

/*
 * libexec is where membus is; a program in bin finds it beside bin.  share is
 * found from there.
 */
void
part_places(struct broker *b)
{
	const char *env = getenv("VM_LIBEXEC");
	char self[400], lx[480], try[560];
	ssize_t n;
	char *slash;

	n = readlink("/proc/self/exe", self, sizeof self - 1);
	self[n < 0 ? 0 : n] = '\0';
	slash = strrchr(self, '/');
	if (slash != NULL)
		*slash = '\0';
	snprintf(lx, sizeof lx, "%s", self);
	slash = strrchr(self, '/');
	if (slash != NULL && strcmp(slash, "/bin") == 0)
		snprintf(lx, sizeof lx, "%s/../libexec/vm", self);
	if (access(lx, X_OK) < 0)
		strlcpy(lx, LIBEXEC, sizeof lx);
	strlcpy(b->libexec, env != NULL && *env != '\0' ? env : lx,
	    sizeof b->libexec);
	snprintf(try, sizeof try, "%s/../../share/vm", lx);
	strlcpy(b->share, access(try, X_OK) == 0 ? try : SHARE,
	    sizeof b->share);
}

/* Parts that are no chips of their own: programs of bin, told by a word that
 * they are a part. */
static const struct helper {
	const char *chip, *prog, *word;
	bool	optional;	/* the machine goes on without it, and it is
				 * started again */
} helpers[] = {
	{ "monitor", "vm-mon", "--server", false },
	{ "slirp", "vm-slirp", "--part", true },
	{ "hub", "vm-switch", "--part", true },
};

static const struct helper *
helper(const char *chip)
{
	size_t i;

	for (i = 0; i < sizeof helpers / sizeof *helpers; i++)
		if (strcmp(helpers[i].chip, chip) == 0)
			return &helpers[i];
	return NULL;
}

static bool
optional(const char *chip)
{
	const struct helper *h = helper(chip);

	return h != NULL && h->optional;
}

/* The program of a chip, and its name for argv[0]. */
static void
program(struct broker *b, const struct mpart *mp, char *path, size_t len)
{
	const struct helper *h = helper(mp->chip);

	if (strcmp(mp->name, "cpu") == 0) {
		snprintf(path, len, "%s/vcpu-x86_64", b->libexec);
	} else if (h != NULL) {
		snprintf(path, len, "%s/%s", b->libexec, h->prog);
		if (access(path, X_OK) < 0)
			snprintf(path, len, "%s/../../bin/%s", b->libexec,
			    h->prog);
	} else {
		snprintf(path, len, "%s/dev-%s", b->libexec, mp->chip);
	}
}

/* 0; or the exit status, with a message printed. */
int
part_find_programs(struct broker *b)
{
	struct mfile *m = b->mf;
	const struct mpart *mp;
	char path[600];
	unsigned i;

	for (i = 0; i < m->npart + (b->hooks == NULL); i++) {
		mp = i < m->npart ? &m->part[i] : &m->cpu;
		program(b, mp, path, sizeof path);
		if (access(path, X_OK) == 0)
			continue;
		if (errno == ENOENT && mp != &m->cpu &&
		    helper(mp->chip) == NULL) {
			log_line("unknown device '%s'", mp->chip);
			return 2;
		}
		log_line("%s: %s", path, strerror(errno));
		return 1;
	}
	return 0;
}

static bool
uses_stdio(const struct mpart *mp)
{
	const char *v;
	int i;

	for (i = 0; i < mp->n; i++) {
		v = strchr(mp->argv[i], '=');
		if (v != NULL && (strncmp(v, "=stdio", 6) == 0 ||
		    strncmp(v, "=mon:stdio", 10) == 0))
			return true;
	}
	return false;
}

static void
child(struct broker *b, const struct mpart *mp, int sock, pid_t parent)
{
	char path[600], who[112], *argv[WORDS_MAX + 8];
	int i, n = 0, fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/* A terminal's signals are the broker's to handle; who reads the
	 * terminal must stay in the foreground group. */
	if (!uses_stdio(mp))
		setpgid(0, 0);
	if (b->mf->daemonize) {
		fd = open("/dev/null", O_RDWR);
		if (fd >= 0) {
			dup2(fd, 0);
			dup2(fd, 1);
		}
		dup2(b->errpipe, 2);
	}
	/* the socket may be descriptor 3 already: then clear its CLOEXEC */
	if (sock == 3)
		fcntl(sock, F_SETFD, 0);
	else
		dup2(sock, 3);
	sigprocmask(SIG_SETMASK, &b->oldmask, NULL);
	program(b, mp, path, sizeof path);
	argv[n++] = strrchr(path, '/') + 1;
	if (helper(mp->chip) != NULL)
		argv[n++] = (char *)helper(mp->chip)->word;
	snprintf(who, sizeof who, "%s/%s", b->mf->name, mp->name);
	argv[n++] = who;
	for (i = 0; i < mp->n; i++)
		argv[n++] = mp->argv[i];
	argv[n] = NULL;
	execv(path, argv);
	log_line("%s: %s", path, strerror(errno));
	_exit(1);
}

int
part_start(struct broker *b, struct peer *p, const struct mpart *mp)
{
	char sub[80], text[16];
	pid_t parent = getpid();
	int sv[2];

	strlcpy(p->name, mp->name, sizeof p->name);
	strlcpy(p->chip, mp->chip, sizeof p->chip);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		goto fail;
	p->pid = fork();
	if (p->pid == 0)
		child(b, mp, sv[1], parent);
	if (p->pid < 0) {
		p->pid = 0;
		goto fail;
	}
	close(sv[1]);
	p->fd = sv[0];
	snprintf(sub, sizeof sub, "part/%s/pid", mp->name);
	snprintf(text, sizeof text, "%d\n", (int)p->pid);
	rundir_put(b, sub, text);
	return 0;
fail:
	log_line("%s: cannot start: %s", mp->name, strerror(errno));
	return -1;
}

static struct peer *
peer_of(struct broker *b, pid_t pid)
{
	unsigned i;

	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && b->part[i]->pid == pid)
			return b->part[i];
	return NULL;
}

unsigned
part_alive(const struct broker *b)
{
	unsigned i, n = 0;

	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && b->part[i]->pid > 0)
			n++;
	return n;
}

void
part_kill_all(struct broker *b, int sig)
{
	unsigned i;

	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && b->part[i]->pid > 0)
			kill(b->part[i]->pid, sig);
}

static void
gone(struct peer *p)
{
	p->state = PEER_GONE;
	if (p->chan != NULL)
		atomic_store(&p->chan->dead, 1);
	peer_fail(p);
}

static void
linger(void *arg)
{
	struct peer *p = arg;

	if (p->pid == 0 || p->b->ending)
		return;
	log_line("%s/%s (pid %d) closed its connection", p->b->mf->name,
	    p->name, (int)p->pid);
	kill(p->pid, SIGKILL);
	if (!optional(p->chip))
		life_end(p->b, 1);
}

void
part_lost(struct peer *p)
{
	gone(p);
	if (p->pid > 0)
		loop_timer(p->b->loop, now_ns() + LOST_NS, linger, p);
}

/* A new process in its place: its state and channel wait for it. */
static void
revive(struct broker *b, struct peer *p)
{
	int64_t now = now_ns();

	if (p->died[0] != 0 && now - p->died[0] < OFTEN_NS) {
		log_line("%s/%s died three times in ten seconds: not started "
		    "again", b->mf->name, p->name);
		return;
	}
	p->died[0] = p->died[1];
	p->died[1] = now;
	p->state = PEER_STARTED;
	loop_timer(b->loop, 0, linger, p);	/* that was the other's */
	if (part_start(b, p, &b->mf->part[p->num - 1]) < 0 || peer_open(p) < 0)
		p->state = PEER_GONE;
}

static void
died(struct broker *b, struct peer *p, pid_t pid, int status)
{
	bool up = p->state == PEER_READY || b->state != VM_STARTING;
	char text[64];
	int code = 1;

	if (WIFSIGNALED(status)) {
		log_line("%s/%s (pid %d) killed by signal %d", b->mf->name,
		    p->name, (int)pid, WTERMSIG(status));
	} else if (up || WEXITSTATUS(status) == 0) {
		log_line("%s/%s (pid %d) ended with status %d", b->mf->name,
		    p->name, (int)pid, WEXITSTATUS(status));
	} else if (WEXITSTATUS(status) == 2) {
		code = 2;	/* its own message says which option */
	}
	snprintf(text, sizeof text, "died %s", p->name);
	gone(p);
	broker_event(b, "bus", text);
	if (!up || !optional(p->chip))
		life_end(b, code);
	else
		revive(b, p);
}

void
part_reap(struct broker *b)
{
	struct peer *p;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		p = peer_of(b, pid);
		if (p == NULL)
			continue;
		p->pid = 0;
		if (p->fd >= 0)
			peer_drain(p);
		if (b->ending && b->hooks != NULL && status != 0) {
			log_line("%s (pid %d) ended with %s %d", p->name,
			    (int)pid, WIFSIGNALED(status) ? "signal" : "status",
			    WIFSIGNALED(status) ? WTERMSIG(status) :
			    WEXITSTATUS(status));
			if (b->code == 0)
				b->code = 1;
		}
		if (b->ending)
			gone(p);
		else
			died(b, p, pid, status);
	}
	if (b->ending && part_alive(b) == 0)
		loop_stop(b->loop);
}

static void
signal_cb(void *arg, int fd, short revents)
{
	struct broker *b = arg;
	struct signalfd_siginfo si;

	(void)revents;
	while (read(fd, &si, sizeof si) == sizeof si) {
		switch (si.ssi_signo) {
		case SIGCHLD:
			part_reap(b);
			break;
		case SIGHUP:
			life_end(b, 0);
			break;
		case SIGTERM:
		case SIGINT:
			if (b->terms++ == 0) {
				life_powerbutton(b);
			} else {
				if (!b->ending)
					log_line("%s: killed", b->mf->name);
				life_end(b, 1);
				part_kill_all(b, SIGKILL);
			}
			break;
		}
	}
}

int
part_signals(struct broker *b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &b->oldmask);
	signal(SIGPIPE, SIG_IGN);
	b->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b->sigfd < 0)
		return -1;
	return loop_fd(b->loop, b->sigfd, POLLIN, signal_cb, b);
}

/* ---------------------------------------------------------------- accounting */

static uint64_t
cpu_ms(pid_t pid)
{
	char path[64], line[1024], *s;
	unsigned long long ut = 0, st = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fgets(line, sizeof line, f) != NULL &&
	    (s = strrchr(line, ')')) != NULL)
		sscanf(s + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
		    "%llu %llu", &ut, &st);
	fclose(f);
	return (ut + st) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* Resident and proportional KiB, guest RAM not counted. */
static void
memory(pid_t pid, uint64_t *rss, uint64_t *pss)
{
	char path[64], line[1024];
	unsigned long long n;
	bool ram = false;
	FILE *f;

	*rss = *pss = 0;
	snprintf(path, sizeof path, "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return;
	while (fgets(line, sizeof line, f) != NULL) {
		if (line[0] < 'A' || line[0] > 'Z')
			ram = strstr(line, "/memfd:vm-ram") != NULL;
		else if (!ram && sscanf(line, "Rss: %llu", &n) == 1)
			*rss += n;
		else if (!ram && sscanf(line, "Pss: %llu", &n) == 1)
			*pss += n;
	}
	fclose(f);
}

static void
stat_line(FILE *out, const char *name, pid_t pid, const struct chan *c)
{
	uint64_t rss, pss;

	memory(pid, &rss, &pss);
	fprintf(out, "name=%s pid=%d cpu_ms=%llu rss=%llu pss=%llu", name,
	    (int)pid, (unsigned long long)cpu_ms(pid),
	    (unsigned long long)rss, (unsigned long long)pss);
	fprintf(out, " sync=%llu post=%llu bell=%llu kick=%llu\n",
	    c != NULL ? (unsigned long long)c->n_sync : 0,
	    c != NULL ? (unsigned long long)c->n_post : 0,
	    c != NULL ? (unsigned long long)c->n_bell : 0,
	    c != NULL ? (unsigned long long)c->n_kick : 0);
}

void
part_stat(struct broker *b, FILE *out)
{
	struct peer *p;
	unsigned i;

	stat_line(out, "bus", getpid(), NULL);
	for (i = 0; i < PART_MAX; i++) {
		p = b->part[i];
		if (p != NULL && p->pid > 0)
			stat_line(out, p->name, p->pid, p->chan);
	}
}
