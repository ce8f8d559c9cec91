/*
 * sys.c - kernels that are mostly the operating system's work, and so of the
 * processor's privileged side: entries, page tables, address spaces, timers.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

static uint64_t
getppid_unit(void)
{
	uint64_t bad = 0;
	pid_t p = getppid();

	for (int i = 0; i < 5000; i++)
		bad += syscall(SYS_getppid) != p;
	return bad;
}

static uint64_t
clock_unit(void)
{
	struct timespec a, b;
	uint64_t back = 0;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 10000; i++) {
		clock_gettime(CLOCK_MONOTONIC, &b);
		back += b.tv_sec < a.tv_sec ||
		    (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec);
		a = b;
	}
	return back;
}

/* ------------------------------------------------------------------- pages */
static uint64_t
fault(void)
{
	enum { PAGES = 128 };
	uint64_t sum = 0;

	for (int r = 0; r < 8; r++) {
		volatile uint8_t *p = mmap(NULL, PAGES * 4096, PROT_READ |
		    PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return 1;
		for (int i = 0; i < PAGES; i++)
			p[i * 4096] = i;
		for (int i = 0; i < PAGES; i++)
			sum += p[i * 4096];
		munmap((void *)p, PAGES * 4096);
	}
	return sum;
}

static uint64_t
protect(void)
{
	uint64_t sum = 0;

	arena[0] = 0;
	for (int i = 0; i < 1000; i++) {
		sum += mprotect(arena, 4096, PROT_READ) != 0;
		sum += arena[0];
		sum += mprotect(arena, 4096, PROT_READ | PROT_WRITE) != 0;
		*(volatile uint8_t *)arena = i;
	}
	return sum;
}

/* --------------------------------------------------------------- processes */
static uint64_t
reaped(pid_t p)
{
	int st;

	if (p < 0 || waitpid(p, &st, 0) != p || !WIFEXITED(st))
		return 0;
	return WEXITSTATUS(st) + 1;
}

static uint64_t
fork_unit(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 20; i++) {
		pid_t p = fork();
		if (p == 0)
			_exit(i);
		n += reaped(p);
	}
	return n;
}

/* the child writes 64 pages that it shares with its parent */
static uint64_t
cow(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 64; i++)
		arena[i * 4096] = 1;
	for (int i = 0; i < 10; i++) {
		pid_t p = fork();
		if (p == 0) {
			for (int k = 0; k < 64; k++)
				arena[k * 4096]++;
			_exit(arena[0]);
		}
		n += reaped(p) + arena[4096];
	}
	return n;
}

static uint64_t
exec_unit(void)
{
	static char *argv[] = {(char *)"kernels", (char *)"-X", NULL};
	static char *env[] = {NULL};
	pid_t p = vfork();

	if (p == 0) {
		execve("/proc/self/exe", argv, env);
		_exit(100);
	}
	return reaped(p);
}

static void *
nothing(void *arg)
{
	return arg;
}

static uint64_t
thread(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 50; i++) {
		pthread_t t;
		void *r;
		if (pthread_create(&t, NULL, nothing, &n) == 0 &&
		    pthread_join(t, &r) == 0)
			n += r == &n;
	}
	return n;
}

/* --------------------------------------------- two processes, taking turns */
static pid_t other;
static int there[2], back[2];
static struct turn {
	uint32_t whose, count;
} *turn;

/* The other process lives from setup to end. */
static int
pipe_setup(void)
{
	char c;

	if (pipe(there) < 0 || pipe(back) < 0)
		return -1;
	if ((other = fork()) == 0) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1 && write(back[1], &c, 1) == 1)
			;
		_exit(0);
	}
	return other < 0 ? -1 : 0;
}

static void
pipe_end(void)
{
	close(there[1]);
	reaped(other);
	close(there[0]);
	close(back[0]);
	close(back[1]);
}

static uint64_t
pipe_unit(void)
{
	uint64_t n = 0;
	char c = 0;

	for (int i = 0; i < 300; i++) {
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			return 0;
		n += c++ == (char)i;
	}
	return n;
}

static void
futex_wait_for(uint32_t me)
{
	uint32_t v;

	while ((v = __atomic_load_n(&turn->whose, __ATOMIC_ACQUIRE)) != me)
		syscall(SYS_futex, &turn->whose, FUTEX_WAIT, v, NULL, NULL, 0);
}

static void
futex_give(uint32_t to)
{
	turn->count++;
	__atomic_store_n(&turn->whose, to, __ATOMIC_RELEASE);
	syscall(SYS_futex, &turn->whose, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void
yield_wait_for(uint32_t me)
{
	while (__atomic_load_n(&turn->whose, __ATOMIC_ACQUIRE) != me)
		sched_yield();
}

static void
yield_give(uint32_t to)
{
	turn->count++;
	__atomic_store_n(&turn->whose, to, __ATOMIC_RELEASE);
}

static int
turns_setup(void (*wait_for)(uint32_t), void (*give)(uint32_t))
{
	turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (turn == MAP_FAILED)
		return -1;
	if ((other = fork()) == 0)
		for (;;) {
			wait_for(1);
			give(0);
		}
	return other < 0 ? -1 : 0;
}

static void
turns_end(void)
{
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	munmap(turn, 4096);
}

static int
futex_setup(void)
{
	return turns_setup(futex_wait_for, futex_give);
}

static int
yield_setup(void)
{
	return turns_setup(yield_wait_for, yield_give);
}

static uint64_t
futex_unit(void)
{
	turn->count = 0;
	for (int i = 0; i < 300; i++) {
		futex_give(1);
		futex_wait_for(0);
	}
	return turn->count;
}

static uint64_t
yield_unit(void)
{
	turn->count = 0;
	for (int i = 0; i < 500; i++) {
		yield_give(1);
		yield_wait_for(0);
	}
	return turn->count;
}

/* ----------------------------------------------------------------- signals */
static volatile uint64_t caught;
static void *volatile trapped;

static void
catch(int sig)
{
	caught++;
}

static uint64_t
signal_unit(void)
{
	pid_t me = getpid();

	signal(SIGUSR1, catch);
	caught = 0;
	for (int i = 0; i < 1000; i++)
		kill(me, SIGUSR1);
	return caught;
}

static void
let_write(int sig, siginfo_t *si, void *uc)
{
	caught++;
	mprotect(si->si_addr, 1, PROT_READ | PROT_WRITE);
}

/* a store to a page that may not be written, as collectors of garbage do */
static uint64_t
segv(void)
{
	struct sigaction sa = {.sa_sigaction = let_write,
	    .sa_flags = SA_SIGINFO}, was;

	sigaction(SIGSEGV, &sa, &was);
	caught = 0;
	for (int i = 0; i < 500; i++) {
		mprotect(arena, 4096, PROT_READ);
		*(volatile uint8_t *)arena = i;
	}
	sigaction(SIGSEGV, &was, NULL);
	return caught;
}

/* ------------------------------------------------------------------- files */
static uint64_t
open_unit(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 1000; i++) {
		int fd = open("/dev/null", O_RDONLY);
		n += fd >= 0 && close(fd) == 0;
	}
	return n;
}

static uint64_t
stat_unit(void)
{
	struct stat st;
	uint64_t n = 0;

	for (int i = 0; i < 2000; i++)
		n += stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode);
	return n;
}

static int zero = -1, null = -1;

static int
rw_setup(void)
{
	zero = open("/dev/zero", O_RDONLY);
	null = open("/dev/null", O_WRONLY);
	return zero < 0 || null < 0 ? -1 : 0;
}

static void
rw_end(void)
{
	close(zero);
	close(null);
}

static uint64_t
read_zero(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 1000; i++)
		n += read(zero, arena, 4096);
	return n + arena[4095];
}

static uint64_t
write_null(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 5000; i++)
		n += write(null, arena, 4096);
	return n;
}

/* through the page cache */
static uint64_t
file(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	uint64_t n = 0;

	if (fd < 0)
		return 0;
	for (int i = 0; i < 256; i++)
		n += write(fd, arena, 4096);
	for (int i = 0; i < 256; i++)
		n += pread(fd, arena, 4096, i * 4096);
	close(fd);
	return n;
}

const struct kernel sys_kernels[] = {
	{"getppid", "call", getppid_unit, 5000, 0x0ull},
	{"clock", "call", clock_unit, 10000, 0x0ull},
	{"fault", "page", fault, 8 * 128, 0xfe00ull},
	{"mprotect", "pair", protect, 1000, 0x1e645ull},
	{"segv", "fault", segv, 500, 0x1f4ull},
	{"signal", "signal", signal_unit, 1000, 0x3e8ull},
	{"fork", "process", fork_unit, 20, 0xd2ull},
	{"cow", "process and 64 pages", cow, 10, 0x28ull},
	{"exec", "process", exec_unit, 1, 0x1ull},
	{"thread", "thread", thread, 50, 0x32ull},
	{"pipe", "round trip", pipe_unit, 300, 0x12cull, pipe_setup, pipe_end},
	{"futex", "round trip", futex_unit, 300,
	    0x258ull, futex_setup, turns_end},
	{"yield", "round trip", yield_unit, 500,
	    0x3e8ull, yield_setup, turns_end},
	{"open", "open and close", open_unit, 1000, 0x3e8ull},
	{"stat", "call", stat_unit, 2000, 0x7d0ull},
	{"read", "4 KiB", read_zero, 1000, 0x3e8000ull, rw_setup, rw_end},
	{"write", "4 KiB", write_null, 5000, 0x1388000ull, rw_setup, rw_end},
	{"file", "4 KiB written, read", file, 256, 0x200000ull},
	{NULL},
};
