/*
 * smp.c - what only goes wrong with several processors, run inside a guest:
 *
 *	smp SECONDS [THREADS]
 *
 * Each part runs for SECONDS / 8 with THREADS threads (default: processors,
 * at least 2) and prints a line "NAME: N rounds".  A wrong result ends it with
 * a line on stderr and status 1.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE	4096

static int nthread;
static double each;
static atomic_bool over;
static atomic_ulong rounds;
static pthread_barrier_t barrier;

static void
fail(const char *what, uint64_t want, uint64_t got)
{
	fprintf(stderr, "smp: %s: %#llx expected, %#llx seen\n", what,
	    (unsigned long long)want, (unsigned long long)got);
	_exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *
pages(size_t n, int prot)
{
	void *p = mmap(NULL, n * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("smp: mmap");
		_exit(1);
	}
	return p;
}

static void
serialize(void)
{
	unsigned a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : :
	    "memory");
}

/* ------------------------------------------------------- locked operations */

static uint8_t *area;			/* three pages */
static atomic_ulong done_adds;

/* Aligned, across a cache line, across a page, beside code. */
static const unsigned place[] = { 0, 60, PAGE - 4, PAGE + 64 };
#define NPLACE	4

static void *
adds(void *arg)
{
	unsigned long n = 0;
	int i;

	/* code in the middle page, so that the last counter is beside it */
	while (!over) {
		((void (*)(void))(area + PAGE + 1024))();
		for (i = 0; i < NPLACE; i++) {
			uint64_t *p = (uint64_t *)(area + place[i]), old, v = 1;

			switch ((n + (uintptr_t)arg) % 3) {
			case 0:
				__asm__ volatile("lock incq %0" : "+m"(*p));
				break;
			case 1:
				__asm__ volatile("lock xaddq %1, %0" : "+m"(*p),
				    "+r"(v));
				break;
			case 2:
				old = *(volatile uint64_t *)p;
				__asm__ volatile("1: lea 1(%%rax), %1\n"
				    "lock cmpxchgq %1, %0\n jne 1b" : "+m"(*p),
				    "=&r"(v), "+a"(old) : : "cc");
				break;
			}
		}
		n++;
	}
	atomic_fetch_add(&done_adds, n);
	atomic_fetch_add(&rounds, n);
	return NULL;
}

static void
adds_begin(void)
{
	area = pages(3, PROT_READ | PROT_WRITE | PROT_EXEC);
	area[PAGE + 1024] = 0xc3;
	done_adds = 0;
}

static void
adds_end(void)
{
	int i;

	for (i = 0; i < NPLACE; i++)
		if (*(uint64_t *)(area + place[i]) != done_adds)
			fail("counter", done_adds,
			    *(uint64_t *)(area + place[i]));
	munmap(area, 3 * PAGE);
}

/* --------------------------------------------------------- memory ordering */

static struct { atomic_ulong a, pad[15], b, pad2[15]; } msg, dek;
static atomic_ulong both;

/* Message passing needs no fence; store buffering is ruled out by one. */
static void *
order(void *arg)
{
	long me = (long)arg;
	unsigned long i, a, b;

	for (i = 1; !over; i++) {
		if (me == 0) {
			atomic_store_explicit(&msg.a, i, memory_order_relaxed);
			__asm__ volatile("" : : : "memory");
			atomic_store_explicit(&msg.b, i, memory_order_relaxed);
		} else {
			b = atomic_load_explicit(&msg.b, memory_order_relaxed);
			__asm__ volatile("" : : : "memory");
			a = atomic_load_explicit(&msg.a, memory_order_relaxed);
			if (a < b)
				fail("message", b, a);
		}
		if (me < 2) {
			/* Peterson's lock, with a locked instruction or mfence */
			atomic_ulong *mine = me ? &dek.b : &dek.a;
			atomic_ulong *its = me ? &dek.a : &dek.b;
			static atomic_long turn;

			atomic_store_explicit(mine, 1, memory_order_relaxed);
			atomic_store_explicit(&turn, !me, memory_order_relaxed);
			if (i & 1)
				__asm__ volatile("mfence" : : : "memory");
			else
				__asm__ volatile("lock orl $0, (%%rsp)" : : :
				    "memory");
			while (atomic_load_explicit(its, memory_order_relaxed) &&
			    atomic_load_explicit(&turn, memory_order_relaxed) ==
			    !me && !over)
				__asm__ volatile("pause");
			if (!over) {
				if (both++)
					fail("Peterson", 0, both);
				both--;
			}
			atomic_store_explicit(mine, 0, memory_order_release);
		}
	}
	atomic_fetch_add(&rounds, i);
	return NULL;
}

static void
order_begin(void)
{
	memset(&msg, 0, sizeof(msg));
	memset(&dek, 0, sizeof(dek));
	both = 0;
}

/* -------------------------------------------------------------- time stamps */

static struct { atomic_int lock; uint64_t last; } stamp;

static uint64_t
rdtscp(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi) : : "rcx", "memory");
	return lo | (uint64_t)hi << 32;
}

static uint64_t
lfence_rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (uint64_t)hi << 32;
}

/* One clock: whoever takes the lock later reads a later time. */
static void *
stamps(void *arg)
{
	uint64_t last, t;
	unsigned long i;

	(void)arg;
	for (i = 0; !over; i++) {
		while (atomic_exchange_explicit(&stamp.lock, 1,
		    memory_order_acquire))
			while (atomic_load_explicit(&stamp.lock,
			    memory_order_relaxed))
				__asm__ volatile("pause");
		last = stamp.last;
		t = stamp.last = i & 1 ? rdtscp() : lfence_rdtsc();
		atomic_store_explicit(&stamp.lock, 0, memory_order_release);
		if (t < last)
			fail(i & 1 ? "rdtscp" : "lfence; rdtsc", last, t);
	}
	atomic_fetch_add(&rounds, i);
	return NULL;
}

static void
stamps_begin(void)
{
	memset(&stamp, 0, sizeof(stamp));
}

/* ---------------------------------------------------- cross-modifying code */

static uint8_t *code;
static atomic_uint version;

/* The first writes functions, the others run them (SDM 3A 9.1.3). */
static void *
modify(void *arg)
{
	unsigned n = 0, v, got;

	while (!over) {
		uint8_t *f = code + (n & 7) * 128;

		if (arg == NULL) {
			for (v = 0; v < 8; v++) {
				uint8_t ins[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
				unsigned w = version + 1;

				f = code + (w & 7) * 128;
				memcpy(ins + 1, &w, 4);
				/* not an instruction until it is whole */
				*(volatile uint8_t *)f = 0xc3;
				memcpy(f + 1, ins + 1, 5);
				*(volatile uint8_t *)f = 0xb8;
				atomic_store(&version, w);
			}
		} else {
			v = atomic_load(&version);
			serialize();
			f = code + (v & 7) * 128;
			__asm__ volatile("xorl %%eax, %%eax; call *%1"
			    : "=&a"(got) : "r"(f) : "memory");
			/* eight versions later it may be half written */
			if (got != v && atomic_load(&version) - v < 7)
				fail("function", v, got);
		}
		n++;
	}
	atomic_fetch_add(&rounds, n);
	return NULL;
}

static void
page_begin(void)
{
	code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static void
page_end(void)
{
	munmap(code, PAGE);
}

static void
modify_begin(void)
{
	unsigned i;

	page_begin();
	for (i = 0; i < 8; i++)
		memcpy(code + i * 128, "\xb8\0\0\0\0\xc3", 6);
	version = 0;
}

/* ------------------------------------------- code and data in the same page */

static void *
beside(void *arg)
{
	long me = (long)arg;
	uint8_t *f = code + me * 256;
	volatile uint64_t *mine = (uint64_t *)(f + 128);
	volatile uint32_t *imm = (uint32_t *)(f + 1);
	uint64_t n = 0;
	unsigned got;

	memcpy(f, "\xb8\0\0\0\0\xc3", 6);
	while (!over) {
		/* a counter between functions, then its own function */
		++*mine;
		n++;
		if (n % 64 == 0)
			*imm = (uint32_t)n;
		__asm__ volatile("call *%1" : "=&a"(got) : "r"(f) : "memory");
		if (got != (uint32_t)(n & ~63ull))
			fail("own function", n & ~63ull, got);
		if (*mine != n)
			fail("own counter", n, *mine);
	}
	atomic_fetch_add(&rounds, n);
	return NULL;
}

/* ------------------------------------------------------------- shoot-downs */

static uint8_t *volatile window;
static atomic_int phase;		/* 1: may be read, 2: must fault */
static atomic_ulong seen;
static __thread sigjmp_buf trap;
static __thread volatile int trapping;

static void
segv(int sig, siginfo_t *si, void *uc)
{
	if (!trapping || (uint8_t *)si->si_addr != window)
		fail("fault", (uintptr_t)window, (uintptr_t)si->si_addr);
	siglongjmp(trap, 1);
}

static void *
shoot(void *arg)
{
	unsigned long n = 0;
	int p;

	while (!over) {
		if (arg == NULL) {
			/* writable, read only, gone; each time all look */
			for (p = 1; p <= 3; p++) {
				if (p == 1) {
					window = pages(1, PROT_READ | PROT_WRITE);
					*window = (uint8_t)n;
				} else if (p == 2)
					mprotect(window, PAGE, PROT_READ);
				else
					munmap(window, PAGE);
				seen = 0;
				phase = p + (int)(n % 1000) * 4;
				while (seen < (unsigned)nthread - 1 && !over)
					sched_yield();
			}
		} else {
			static __thread int last;
			int now = phase;

			p = now & 3;
			if (now == last || p == 0) {
				sched_yield();
				continue;
			}
			last = now;
			trapping = 1;
			if (sigsetjmp(trap, 1) == 0) {
				if (p == 3)
					(void)*(volatile uint8_t *)window;
				else
					__asm__ volatile("lock orb $0, (%0)"
					    : : "r"(window) : "memory");
				if (p != 1 && !over)
					fail("access that must fault", 0,
					    (uint64_t)p);
			} else if (p == 1 && !over)
				fail("fault that must not be", 0, 0);
			trapping = 0;
			seen++;
		}
		n++;
	}
	atomic_fetch_add(&rounds, n);
	return NULL;
}

static void
shoot_begin(void)
{
	struct sigaction sa = { .sa_sigaction = segv, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	phase = 0;
}

static void
shoot_end(void)
{
	signal(SIGSEGV, SIG_DFL);
}

/* ------------------------------------------------- processes and the kernel */

static void *
forks(void *arg)
{
	unsigned long n = 0;
	int st, fd[2];
	char b = 0;

	while (!over) {
		if (pipe(fd) < 0)
			fail("pipe", 0, 0);
		pid_t p = fork();

		if (p == 0) {
			char *m = pages(16, PROT_READ | PROT_WRITE);

			memset(m, 7, 16 * PAGE);
			if (write(fd[1], m + 15 * PAGE, 1) != 1)
				_exit(1);
			_exit(m[5 * PAGE]);
		}
		if (p < 0 || read(fd[0], &b, 1) != 1 || b != 7 ||
		    waitpid(p, &st, 0) != p || !WIFEXITED(st) ||
		    WEXITSTATUS(st) != 7)
			fail("child", 7, (uint64_t)b);
		close(fd[0]);
		close(fd[1]);
		n++;
	}
	atomic_fetch_add(&rounds, n);
	return NULL;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned long ball;

/* A ball goes round, by futexes. */
static void *
ring(void *arg)
{
	unsigned long me = (unsigned long)arg, n = 0;

	pthread_mutex_lock(&mutex);
	while (!over) {
		while (ball % (unsigned)nthread != me && !over)
			pthread_cond_wait(&cond, &mutex);
		ball++;
		n++;
		pthread_cond_broadcast(&cond);
	}
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
	atomic_fetch_add(&rounds, n);
	return NULL;
}

/* Each its own pages, come and gone: zeroed, private, with the old contents of
 * nobody. */
static void *
churn(void *arg)
{
	unsigned long n = 0, i;

	while (!over) {
		uint64_t *m = pages(64, PROT_READ | PROT_WRITE);

		for (i = 0; i < 64; i++) {
			if (m[i * 512 + n % 512])
				fail("fresh page", 0, m[i * 512 + n % 512]);
			m[i * 512] = n * 64 + i;
			m[i * 512 + 511] = (uint64_t)arg;
		}
		for (i = 0; i < 64; i++)
			if (m[i * 512] != n * 64 + i ||
			    m[i * 512 + 511] != (uint64_t)arg)
				fail("own page", n * 64 + i, m[i * 512]);
		munmap(m, 64 * PAGE);
		n++;
	}
	atomic_fetch_add(&rounds, n);
	return NULL;
}

/* -------------------------------------------------------------------- main */

static const struct part {
	const char	*name;
	void		(*begin)(void);
	void		*(*fn)(void *);
	void		(*end)(void);
} parts[] = {
	{ "locked", adds_begin, adds, adds_end },
	{ "order", order_begin, order, NULL },
	{ "stamps", stamps_begin, stamps, NULL },
	{ "modify", modify_begin, modify, page_end },
	{ "beside", page_begin, beside, page_end },
	{ "shoot-down", shoot_begin, shoot, shoot_end },
	{ "fork", NULL, forks, NULL },
	{ "futex", NULL, ring, NULL },
	{ "churn", NULL, churn, NULL },
};
#define NPART	(sizeof(parts) / sizeof(parts[0]))

struct start { void *(*fn)(void *); void *arg; };

static void *
begin(void *arg)
{
	struct start *s = arg;

	pthread_barrier_wait(&barrier);
	return s->fn(s->arg);
}

static void
run(const struct part *p)
{
	pthread_t t[64];
	struct start s[64];
	double t0;
	int i;

	over = false;
	rounds = 0;
	if (p->begin)
		p->begin();
	pthread_barrier_init(&barrier, NULL, (unsigned)nthread);
	for (i = 0; i < nthread; i++) {
		s[i] = (struct start){ p->fn, (void *)(long)i };
		if (pthread_create(&t[i], NULL, begin, &s[i]) != 0)
			fail("pthread_create", 0, 0);
	}
	t0 = now();
	while (now() - t0 < each)
		usleep(20000);
	over = true;
	for (i = 0; i < nthread; i++)
		pthread_join(t[i], NULL);
	if (p->end)
		p->end();
	printf("%s: %lu rounds\n", p->name, (unsigned long)rounds);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	unsigned i;

	if (argc < 2 || (each = atof(argv[1]) / NPART) <= 0) {
		fprintf(stderr, "usage: smp SECONDS [THREADS]\n");
		return 2;
	}
	nthread = argc > 2 ? atoi(argv[2]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (nthread < 2)
		nthread = 2;
	if (nthread > 15)
		nthread = 15;
	for (i = 0; i < NPART; i++)
		run(&parts[i]);
	printf("smp: good\n");
	return 0;
}
