/*
 * kernels - small benchmarks of an x86-64 Linux machine.
 *
 * kernels [-l] [-t seconds] [-n units] [-c class,...] [NAME,... ...]
 *
 * prints a line `name class nanoseconds-per-operation checksum' for each
 * kernel.  Every kernel repeats a fixed unit of work: once to warm up and to
 * check the result, once to see how long it takes, then three batches that
 * together last about the time asked for (0.2 s), or n units each.  The fastest
 * batch counts, so that what else the machine does disturbs little.
 *
 * The process stays on the CPU it starts on, and with it its children: those
 * kernels that have two processes measure the switch between them.
 */
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

enum { BATCHES = 3 };

uint8_t arena[ARENA] __attribute__((aligned(4096)));

static const struct {
	const char *class;
	const struct kernel *k;
} tables[] = {
	{"int", int_kernels},
	{"int", mem_kernels},
	{"code", code_kernels},
	{"fp", fp_kernels},
	{"sys", sys_kernels},
};

static double seconds = 0.2;
static unsigned units;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* listed: name is one of the words of list, which commas separate */
static int
listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	while (list && *list) {
		if (strncmp(list, name, n) == 0 &&
		    (list[n] == ',' || list[n] == '\0'))
			return 1;
		list = strchr(list, ',');
		list += list != NULL;
	}
	return 0;
}

/* batch: seconds that n units took; a wrong result is in *sum */
static double
batch(const struct kernel *k, unsigned n, uint64_t *sum)
{
	double t = now();

	while (n--) {
		uint64_t s = k->unit();
		if (s != k->sum)
			*sum = s;
	}
	return now() - t;
}

/* measure: -1 for a wrong result, 1 for a kernel that cannot run here */
static int
measure(const char *class, const struct kernel *k)
{
	double best = 1e30, t;
	unsigned n = units;
	uint64_t sum = k->sum;

	madvise(arena, ARENA, MADV_DONTNEED);
	if (k->setup && k->setup() < 0)
		return 1;
	batch(k, 1, &sum);
	t = batch(k, 1, &sum);
	if (n == 0) {
		double want = seconds / BATCHES / (t > 1e-7 ? t : 1e-7);
		n = want < 1 ? 1 : want > 1e6 ? 1000000 : (unsigned)(want + .5);
	}
	for (int i = 0; i < BATCHES; i++) {
		t = batch(k, n, &sum) / n;
		if (t < best)
			best = t;
	}
	if (k->end)
		k->end();
	printf("%s %s %.4f %016" PRIx64 "\n", k->name, class,
	    best / k->ops * 1e9, sum);
	fflush(stdout);
	if (sum == k->sum)
		return 0;
	warnx("%s: checksum %016" PRIx64 ", not %016" PRIx64, k->name, sum,
	    k->sum);
	return -1;
}

static int
wanted(const char *class, const char *name, const char *classes,
    char *const *names)
{
	if (classes && !listed(classes, class))
		return 0;
	if (*names == NULL)
		return 1;
	for (; *names; names++)
		if (listed(*names, name))
			return 1;
	return 0;
}

static void
usage(void)
{
	fputs("usage: kernels [-l] [-t seconds] [-n units] [-c class,...] "
	    "[name,... ...]\n", stderr);
	exit(2);
}

static double
number(const char *s)
{
	char *end;
	double v = strtod(s, &end);

	if (end == s || *end || !(v > 0 && v < 1e6))
		errx(2, "%s: not a number of this size", s);
	return v;
}

int
main(int argc, char **argv)
{
	const char *classes = NULL;
	int c, list = 0, bad = 0, found = 0;
	cpu_set_t one;

	if (argc == 2 && strcmp(argv[1], "-X") == 0)
		_exit(0);	/* what the kernel exec executes */
	while ((c = getopt(argc, argv, "lt:n:c:")) != -1) {
		switch (c) {
		case 'l': list = 1; break;
		case 't': seconds = number(optarg); break;
		case 'n': units = number(optarg); break;
		case 'c': classes = optarg; break;
		default: usage();
		}
	}
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof one, &one) < 0)
		warn("cannot stay on one CPU");
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		const char *class = tables[i].class;
		const struct kernel *k;
		for (k = tables[i].k; k->name; k++) {
			if (!wanted(class, k->name, classes, argv + optind))
				continue;
			found = 1;
			if (list)
				printf("%s %s %s\n", k->name, class, k->op);
			else if (measure(class, k) < 0)
				bad = 1;
		}
	}
	if (!found)
		errx(2, "no such kernel");
	return bad;
}
