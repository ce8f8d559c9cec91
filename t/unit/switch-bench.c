/* links: switch */
/*
 * switch-bench DIR SIZE SECONDS [PAIRS [PID]]: frames a second through a VDE switch,
 * from one plug to another; several pairs share the time.  Prints that, and the CPU
 * seconds that process PID used meanwhile.
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "switch/wire.h"

static volatile uint64_t *got;
static uint8_t buf[9000];

static void
rx(void *arg, struct wire *w, struct frame *f, unsigned n)
{
	*(volatile uint64_t *)arg += n;
}

static void
addr(uint8_t *p, unsigned i)
{
	memcpy(p, "\2\0\0\0\0", 5);
	p[5] = i;
}

static double
cpu(const char *pid)
{
	unsigned long long ns = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof path, "/proc/%s/schedstat", pid);
	f = fopen(path, "r");
	if (f && fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return ns / 1e9;
}

int
main(int argc, char **argv)
{
	unsigned size, pairs, i, k;
	char spec[200], why[200];
	struct wire *w;
	int64_t end, secs;
	pid_t pid[128];
	double used;
	uint64_t sum = 0;

	if (argc < 4)
		errx(2, "DIR SIZE SECONDS [PAIRS]");
	size = strtoul(argv[2], NULL, 10);
	secs = strtoul(argv[3], NULL, 10);
	pairs = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;
	if (size < 60 || size > 1514 || pairs > 64)
		errx(2, "size 60 to 1514, pairs up to 64");
	got = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED |
	    MAP_ANONYMOUS, -1, 0);
	snprintf(spec, sizeof spec, "vde:%s", argv[1]);
	for (i = 0; i < 2 * pairs; i++) {
		pid[i] = fork();
		if (pid[i])
			continue;
		loop_init();
		w = wire_open(spec, rx, (void *)&got[i / 2], why, sizeof why);
		if (!w)
			errx(1, "%s", why);
		addr(buf, i ^ 1);
		addr(buf + 6, i);
		wire_put(w, buf, size);		/* be learnt */
		wire_flush(w);
		for (;;) {
			if (i & 1) {
				loop_step(SEC);
				continue;
			}
			for (k = 0; k < BATCH && !wire_busy(w); k++)
				wire_put(w, buf, size);
			wire_flush_all();
			loop_step(wire_busy(w) ? SEC : 0);
		}
	}
	usleep(500000);
	for (i = 0; i < pairs; i++)
		got[i] = 0;
	used = argc > 5 ? cpu(argv[5]) : 0;
	end = mono() + secs * SEC;
	while (mono() < end)
		usleep(10000);
	for (i = 0; i < pairs; i++)
		sum += got[i];
	used = argc > 5 ? cpu(argv[5]) - used : 0;
	for (i = 0; i < 2 * pairs; i++)
		kill(pid[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	printf("%llu %.6f\n", (unsigned long long)(sum / secs), used);
	return 0;
}
