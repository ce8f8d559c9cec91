/*
 * membus.c - the broker's main(): reads the machine file, makes the run
 * directory and the shared pages, starts the parts, and stays their parent
 * until the machine ends (PROTOCOL.md, "Exit status of a machine").
 */
#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <signal.h>
#include <unistd.h>

#include "broker.h"

/* --------------------------------------------------------------- daemonize */

static void
err_cb(void *arg, int fd, short revents)
{
	struct broker *b = arg;
	char buf[4096];
	ssize_t n;

	(void)revents;
	n = read(fd, buf, sizeof buf);
	if (n <= 0)
		return;
	if (b->tell >= 0 && write(2, buf, (size_t)n) < 0) {
		/* the user's terminal is gone */
	}
	if (b->logfd >= 0 && write(b->logfd, buf, (size_t)n) < 0) {
		/* no room for the log: the machine goes on */
	}
}

/* The caller's process waits until the machine runs, then ends. */
static int
daemonize(struct broker *b)
{
	int fd[2];
	char code = 1;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid > 0) {
		close(fd[1]);
		if (read(fd[0], &code, 1) != 1) {
			int st = 0;

			waitpid(pid, &st, 0);
			code = WIFEXITED(st) ? (char)WEXITSTATUS(st) : 1;
		}
		_exit(code);
	}
	close(fd[0]);
	setsid();
	b->tell = fd[1];
	return 0;
}

static int
stderr_pipe(struct broker *b)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	b->errpipe = fd[1];
	b->logfd = openat(b->dirfd, "log", O_WRONLY | O_CREAT | O_APPEND |
	    O_CLOEXEC, 0600);
	return loop_fd(b->loop, fd[0], POLLIN, err_cb, b);
}

/* -------------------------------------------------------------------- main */

static void
environment(struct broker *b)
{
	struct mfile *m = b->mf;

	setenv("VM_DIR", b->dir, 1);
	if (m->log_items != NULL)
		setenv("VM_LOG_ITEMS", m->log_items, 1);
	else
		unsetenv("VM_LOG_ITEMS");
	if (m->log_file != NULL)
		setenv("VM_LOG_FILE", m->log_file, 1);
	else
		unsetenv("VM_LOG_FILE");
	log_open("membus", NULL, NULL);
}

static int
start_all(struct broker *b)
{
	struct mfile *m = b->mf;
	const struct mpart *mp;
	struct peer *p;
	unsigned i;

	for (i = 0; i <= m->npart; i++) {
		mp = i == 0 ? &m->cpu : &m->part[i - 1];
		p = peer_new(b, -1, false);
		if (p == NULL)
			return -1;
		p->num = i;
		b->part[i] = p;
		b->npart = i + 1;
		if (part_start(b, p, mp) < 0 || peer_open(p) < 0)
			return -1;
	}
	return 0;
}

static int
run(struct broker *b)
{
	int code;

	code = part_find_programs(b);
	if (code != 0)
		return code;
	b->loop = loop_new();
	if (b->loop == NULL || rundir_make(b) < 0)
		return 1;
	if (b->mf->daemonize && (daemonize(b) < 0 || stderr_pipe(b) < 0)) {
		log_line("daemonize: %s", strerror(errno));
		return 1;
	}
	environment(b);
	rundir_put(b, "machine", b->mf->text);
	if (part_signals(b) < 0 || broker_pages(b) < 0 || broker_listen(b) < 0)
		return 1;
	if (start_all(b) < 0)
		life_end(b, 1);
	if (!b->ending || part_alive(b) > 0)
		loop_run(b->loop);
	if (b->errpipe >= 0)	/* last words */
		loop_once(b->loop, 0, NULL, NULL);
	broker_close(b);
	return b->code;
}

int
main(int argc, char **argv, char **envp)
{
	static struct broker b;
	static struct mfile mf;
	struct termios tty;
	char why[512];
	bool have_tty;
	int code;

	setproctitle_init(argc, argv, envp);
	log_open("membus", NULL, NULL);
	if (argc != 2 || argv[1][0] == '-') {
		if (argc == 2 && strcmp(argv[1], "--version") == 0) {
			puts("membus " VERSION);
			return 0;
		}
		fprintf(stderr, "usage: membus MACHINEFILE\n");
		return 2;
	}
	b.dirfd = b.tell = b.errpipe = b.logfd = b.listen = -1;
	b.code = 1;
	b.mf = &mf;
	LIST_INIT(&b.tools);
	STAILQ_INIT(&b.jobs);
	b.cal_ns = now_ns();
#ifdef __x86_64__
	b.cal_tsc = __builtin_ia32_rdtsc();
#else
	b.cal_tsc = (uint64_t)b.cal_ns;
#endif
	if (mfile_read(&mf, argv[1], why, sizeof why) < 0) {
		log_line("%s", why);
		return 2;
	}
	closefrom(3);		/* the machine file among others */
	setproctitle("-membus %s", mf.name);
	part_places(&b);
	have_tty = tcgetattr(0, &tty) == 0;
	code = run(&b);
	if (have_tty && !mf.daemonize) {
		/* a part that was killed has left it raw */
		signal(SIGTTOU, SIG_IGN);
		tcsetattr(0, TCSANOW, &tty);
	}
	if (b.pid_written)
		unlink(mf.pidfile);
	rundir_remove(&b);
	return code;
}
