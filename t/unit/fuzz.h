/*
 * fuzz.h - what the fuzz drivers share: a worker that runs inputs one after
 * another, and a parent that outlives it.
 *
 * An input is found by changing one that reached something new, if the code
 * was compiled with -fsanitize=coverage=trace-pc; else one of the seeds.  An
 * input that crashes the worker, takes more than a second of the processor, has
 * more than 256 MiB allocated or loses memory is a finding: the report goes to
 * the findings' directory, named after the innermost frames of the code under
 * test, and a new worker goes on with the next input.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOCOV __attribute__((no_sanitize_coverage, \
    no_sanitize("address"), no_sanitize("undefined")))
enum { FUZZ_INPUT = 1024, FUZZ_CORPUS = 8192, FUZZ_MAP = 1 << 16,
	FUZZ_MEM = 256 << 20 };

struct fuzz {
	size_t	size;				/* of an input */
	int64_t	slack;				/* bytes that may be kept */
	void	(*make)(void *in);		/* a plain seed, any */
	void	(*change)(void *in, const void *other);
	void	(*run)(const void *in);
	void	(*print)(FILE *, const void *in);
};

struct fuzz_shared {
	uint64_t	done, kept, rng, found, ok;
	uint64_t	running;
	uint8_t		cur[FUZZ_INPUT];
	uint8_t		corpus[FUZZ_CORPUS][FUZZ_INPUT];
	uint8_t		seen[FUZZ_MAP];
};
static struct fuzz_shared *fz;
static uint8_t fz_map[FUZZ_MAP];
static uintptr_t fz_prev;
static int64_t fz_live, fz_most, fz_took;	/* bytes; nanoseconds */
static const struct fuzz *fz_target;

size_t	__sanitizer_get_allocated_size(const volatile void *)
	    __attribute__((weak));
void	__sanitizer_print_stack_trace(void) __attribute__((weak));
void	__lsan_do_leak_check(void) __attribute__((weak));
void	__sanitizer_malloc_hook(const volatile void *, size_t);
void	__sanitizer_free_hook(const volatile void *);
void	__sanitizer_cov_trace_pc(void);
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

NOCOV const char *
__asan_default_options(void)
{
	return "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=4"
	    ":malloc_context_size=8:detect_stack_use_after_return=0";
}

NOCOV const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}

NOCOV void
__sanitizer_cov_trace_pc(void)
{
	uintptr_t pc = (uintptr_t)__builtin_return_address(0);

	pc = (pc ^ pc >> 16) & (FUZZ_MAP - 1);
	fz_map[pc ^ fz_prev]++;
	fz_prev = pc >> 1;
}

static void
fz_end(const char *why)
{
	fprintf(stderr, "FUZZ: %s\n", why);
	if (__sanitizer_print_stack_trace)
		__sanitizer_print_stack_trace();
	_exit(99);
}

NOCOV void
__sanitizer_malloc_hook(const volatile void *p, size_t n)
{
	int64_t live;

	if (!p)
		return;
	live = __atomic_add_fetch(&fz_live, (int64_t)n, __ATOMIC_RELAXED);
	if (live > fz_most) {
		fz_most = live;
		if (fz && fz->running && fz_most > FUZZ_MEM) {
			fz->running = false;
			fz_end("more than 256 MiB");
		}
	}
}

NOCOV void
__sanitizer_free_hook(const volatile void *p)
{
	if (p && __sanitizer_get_allocated_size)
		__atomic_sub_fetch(&fz_live, (int64_t)
		    __sanitizer_get_allocated_size(p), __ATOMIC_RELAXED);
}

static void
fz_alarm(int sig)
{
	fz_end(sig == SIGPROF ? "a second of the processor" :
	    "20 seconds of waiting");
}

static uint64_t
fz_mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* 0 to n - 1; the state is the caller's. */
static uint64_t
fz_rnd(uint64_t *s, uint64_t n)
{
	return n ? fz_mix(*s += 0x9e3779b97f4a7c15ull) % n : 0;
}

static uint64_t
rnd(uint64_t n)
{
	return fz_rnd(&fz->rng, n);
}

/* Values that arithmetic breaks at; `near` is any number of the input's. */
static uint64_t
fz_value(uint64_t near, uint64_t size)
{
	unsigned k = (unsigned)rnd(64);

	switch (rnd(14)) {
	case 0: return 0;
	case 1: return ~0ull;
	case 2: return 1ull << k;
	case 3: return (1ull << k) - 1;
	case 4: return ~0ull << k;
	case 5: return near + 1;
	case 6: return near - 1;
	case 7: return near ^ 1ull << k;
	case 8: return near << k % 20;
	case 9: return size - rnd(3) * 512 + rnd(3);
	case 10: return size + (rnd(64) << 9);
	case 11: return rnd(256);
	case 12: return rnd(64) << 9;
	}
	return fz_mix(fz->rng);
}

static bool
fz_new(void)
{
	bool new = false;

	for (size_t i = 0; i < FUZZ_MAP; i += 8) {
		uint64_t w;

		memcpy(&w, fz_map + i, 8);
		if (!w)
			continue;
		for (size_t j = i; j < i + 8; j++) {
			uint8_t n = fz_map[j];

			n = n > 31 ? 128 : n > 7 ? 32 : n > 3 ? 8 : n > 1 ? 2 : n;
			if (n & ~fz->seen[j]) {
				fz->seen[j] |= n;
				new = true;
			}
		}
	}
	return new;
}

static int64_t
fz_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void
fz_one(void)
{
	static const struct itimerval second = { .it_value = { 1, 0 } },
		long_time = { .it_value = { 20, 0 } };
	int64_t before;

	for (int again = 0; again < 3; again++) {
		before = fz_most = fz_live;
		memset(fz_map, 0, sizeof(fz_map));
		fz_prev = 0;
		setitimer(ITIMER_PROF, &second, NULL);
		setitimer(ITIMER_REAL, &long_time, NULL);
		fz->running = true;
		fz_took = fz_clock();
		fz_target->run(fz->cur);
		fz_took = fz_clock() - fz_took;
		fz->running = false;
		if (fz_live <= before + fz_target->slack)
			return;
	}
	/* three times the same, and more memory in use each time */
	fprintf(stderr, "FUZZ: %lld bytes lost\n", (long long)(fz_live -
	    before));
	if (__lsan_do_leak_check)	/* with ASAN_OPTIONS=detect_leaks=1 */
		__lsan_do_leak_check();
	_exit(99);
}

static void
fz_worker(uint64_t count)
{
	uint8_t in[FUZZ_INPUT] __attribute__((aligned(8)));

	signal(SIGPROF, fz_alarm);
	signal(SIGALRM, fz_alarm);
	while (fz->done < count) {
		uint64_t i = fz->kept;

		fz->done++;
		if (!i || !rnd(8))
			fz_target->make(in);
		else
			memcpy(in, fz->corpus[rnd(2) ? i - 1 - rnd((i + 3) / 4) :
			    rnd(i)], fz_target->size);
		if (i || rnd(16))
			fz_target->change(in, i ? fz->corpus[rnd(i)] : in);
		memcpy(fz->cur, in, fz_target->size);
		fz_one();
		/* what takes long is rarely worth another try */
		if (fz_new() && i < FUZZ_CORPUS && (fz_took < 2000000 ||
		    !rnd(16))) {
			memcpy(fz->corpus[i], in, fz_target->size);
			fz->kept++;
		}
	}
	_exit(0);
}

/* The name of a finding: its kind and innermost two frames of our code. */
static void
fz_name(const char *log, char *name, size_t n)
{
	char line[1024], why[64] = "died", *p, *q;
	FILE *f = fopen(log, "r");
	int frames = 0;

	*name = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if ((p = strstr(line, "ERROR: AddressSanitizer: ")))
			snprintf(why, sizeof(why), "%.40s", p + 25);
		else if ((p = strstr(line, "runtime error: ")))
			snprintf(why, sizeof(why), "%.40s", p + 15);
		else if ((p = strstr(line, "FUZZ: ")))
			snprintf(why, sizeof(why), "%.40s", p + 6);
		if (frames < 2 && (p = strstr(line, " in ")) &&
		    (q = strrchr(line, '/')) && (strstr(line, "img/") ||
		    strstr(line, "nbd/")) && !strstr(line, "unit/")) {
			p[strcspn(p + 4, " ") + 4] = 0;
			q[strcspn(q, "\n")] = 0;
			strncat(name, "-", n - strlen(name) - 1);
			strncat(name, p + 4, n - strlen(name) - 1);
			strncat(name, q + 1, n - strlen(name) - 1);
			frames++;
		}
	}
	if (f)
		fclose(f);
	strncat(name, "-", n - strlen(name) - 1);
	strncat(name, why, n - strlen(name) - 1);
	for (p = name; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "0123456789._-", *p))
			*p = '_';
}

static void
fz_found(const char *dir, const char *log, const char *label)
{
	char name[300], path[600];
	struct stat st;
	FILE *f;

	fz_name(log, name, sizeof(name));
	snprintf(path, sizeof(path), "%s/%s%s", dir, label, name);
	if (stat(path, &st)) {
		if (rename(log, path) && errno)
			warn("%s", path);
		if ((f = fopen(path, "a"))) {
			fprintf(f, "INPUT: ");
			fz_target->print(f, fz->cur);
			fputc('\n', f);
			fclose(f);
		}
		fprintf(stderr, "finding: %s\n", path);
	}
	fz->found++;
}

/* The number of findings. */
static uint64_t
fz_main(const struct fuzz *t, const char *label, const char *dir, uint64_t seed,
    uint64_t count)
{
	char log[600];
	int st, fd;
	pid_t pid;

	fz_target = t;
	snprintf(log, sizeof(log), "%s/log.%s.%ld", dir, label, (long)getpid());
	mkdir(dir, 0777);
	fz->rng = seed;
	while (fz->done < count) {
		fflush(NULL);
		if ((pid = fork()) < 0)
			err(1, "fork");
		if (!pid) {
			fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
			if (fd < 0 || dup2(fd, 2) < 0)
				err(1, "%s", log);
			fz_worker(count);
		}
		while (waitpid(pid, &st, 0) < 0)
			if (errno != EINTR)
				err(1, "waitpid");
		if (!WIFEXITED(st) || WEXITSTATUS(st))
			fz_found(dir, log, label);
	}
	unlink(log);
	printf("%s: %llu executions, %llu reached something new, %llu were "
	    "taken, %llu findings\n", label, (unsigned long long)fz->done,
	    (unsigned long long)fz->kept, (unsigned long long)fz->ok,
	    (unsigned long long)fz->found);
	return fz->found;
}

static void
fz_init(const struct fuzz *t)
{
	fz_target = t;
	if (t->size > FUZZ_INPUT)
		errx(1, "inputs are too large");
	fz = mmap(NULL, sizeof(*fz), PROT_READ | PROT_WRITE, MAP_SHARED |
	    MAP_ANONYMOUS, -1, 0);
	if (fz == MAP_FAILED)
		err(1, "mmap");
}

#endif
