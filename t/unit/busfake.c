/*
 * links: bus mem
 * busfake.c - a vcpu and a device without any hardware in them, for the tests
 * of the bus: called vcpu-x86_64 it is a vcpu whose threads do what its do=
 * option says, called dev-ANYTHING it is a device with a few registers.
 *
 * do= of the vcpu, words separated by commas, run once at the first `run`:
 *   reads:N     N round trips to register 0 of part 1; prints ns per trip
 *   posts:N     N posted writes to register 8 of part 1, then reads register 8
 *   rw:V        writes V to register 16 of part 1 and prints what it reads
 *   event:E     part_event
 *   boot        prints the boot state
 *   die:N       kill itself with signal N
 *   dead        waits until part 1 is dead and prints a read from it
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bus/bus.h"

static struct part part;
static struct chan_ref refs[PART_MAX];
static const char *todo;
static bool started;

struct st { uint64_t reg[8]; };
static uint64_t posted;
static int source = -1;

static void
act(char *w)
{
	char *arg = strchr(w, ':');
	struct chan_ref *r = &refs[1];
	long i, n;
	int64_t t;

	if (arg != NULL)
		*arg++ = '\0';
	n = arg != NULL ? strtol(arg, NULL, 0) : 0;
	if (strcmp(w, "reads") == 0) {
		for (i = 0; i < 100; i++)
			chan_read(r, 0, 0, 0, 4);
		t = now_ns();
		for (i = 0; i < n; i++)
			chan_read(r, 0, 0, 0, 4);
		printf("reads %ld: %ld ns each\n", n,
		    (long)((now_ns() - t) / (n ? n : 1)));
	} else if (strcmp(w, "posts") == 0) {
		t = now_ns();
		for (i = 0; i < n; i++)
			chan_post(r, 0, 0, 8, 4, (uint64_t)i);
		printf("posts: saw %llu\n", (unsigned long long)
		    chan_read(r, 0, 0, 8, 4));
		fprintf(stderr, "posts %ld: %ld ns each\n", n,
		    (long)((now_ns() - t) / (n ? n : 1)));
	} else if (strcmp(w, "rw") == 0) {
		chan_write(r, 0, 0, 16, 4, (uint64_t)n);
		printf("rw: %llx\n", (unsigned long long)chan_read(r, 0, 0, 16,
		    4));
	} else if (strcmp(w, "event") == 0) {
		part_event(&part, "%s", arg);
	} else if (strcmp(w, "boot") == 0) {
		printf("boot: mode %d rip %llx\n", part.boot.mode,
		    (unsigned long long)part.boot.rip);
	} else if (strcmp(w, "die") == 0) {
		kill(getpid(), (int)n);
	} else if (strcmp(w, "sleep") == 0) {
		struct timespec ts = { n / 1000, n % 1000 * 1000000 };

		nanosleep(&ts, NULL);
	} else if (strcmp(w, "claim") == 0) {
		printf("claim: %d\n", part_range(&part, 7, SPACE_IO,
		    (uint64_t)n, 4, RANGE_SYNC, 0, 0, 0) < 0 ? errno : 0);
	} else if (strcmp(w, "clock") == 0) {
		printf("clock: %s\n", part.map->running &&
		    part_clock(&part) > 0 && part.map->tsc_khz > 1000 ?
		    "runs" : "stands");
	} else if (strcmp(w, "dead") == 0) {
		while (!r->chan->dead)
			usleep(1000);
		printf("dead: %llx\n", (unsigned long long)chan_read(r, 0, 0,
		    0, 4));
	}
	fflush(stdout);
}

static void *
work(void *arg)
{
	char *s = strdup(todo), *w, *save;

	(void)arg;
	for (w = strtok_r(s, ",", &save); w != NULL;
	    w = strtok_r(NULL, ",", &save))
		act(w);
	free(s);
	return NULL;
}

static void
vcpu_run(void *arg)
{
	pthread_t t;

	(void)arg;
	if (started || todo == NULL)
		return;
	started = true;
	pthread_create(&t, NULL, work, NULL);
}

static void
vcpu_reset(void *arg)
{
	(void)arg;
	if (started)
		printf("vcpu: reset\n");
	fflush(stdout);
}

static uint64_t
dev_read(void *arg, unsigned range, uint64_t off, unsigned size)
{
	struct st *s = arg;

	(void)range, (void)size;
	if (off == 8)
		return posted;
	return s->reg[off / 8 % 8];
}

static void
dev_write(void *arg, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct st *s = arg;

	(void)range, (void)size;
	if (off == 8)
		posted++;
	s->reg[off / 8 % 8] = val;
	if (off == 24 && source >= 0)
		irq_set(&part.irq, 5, (unsigned)source, val & 1);
}

static int
dev_save(void *arg, int fd)
{
	return write(fd, arg, sizeof(struct st)) == sizeof(struct st) ? 0 : -1;
}

static int
dev_load(void *arg, int fd)
{
	return read(fd, arg, sizeof(struct st)) == sizeof(struct st) ? 0 : -1;
}

static int
dev_ask(void *arg, char **argv, FILE *out)
{
	struct st *s = arg;
	long n;

	if (argv[0] == NULL)
		return EINVAL;
	if (strcmp(argv[0], "reg") == 0) {
		fprintf(out, "%llx", (unsigned long long)s->reg[0]);
	} else if (strcmp(argv[0], "big") == 0) {
		for (n = atol(argv[1]); n > 0; n--)
			putc('x', out);
	} else if (strcmp(argv[0], "powerbutton") == 0) {
		part_event(&part, "poweroff");
	} else {
		return EINVAL;
	}
	return 0;
}

static void
dev_reset(void *arg)
{
	memset(arg, 0, sizeof(struct st));
}

int
main(int argc, char **argv)
{
	static const struct part_ops vcpu_ops = { .run = vcpu_run,
	    .reset = vcpu_reset, .ask = dev_ask };
	static const struct part_ops dev_ops = { .read = dev_read,
	    .write = dev_write, .reset = dev_reset, .ask = dev_ask,
	    .save = dev_save, .load = dev_load };
	static struct st dummy;
	const char *prog = strrchr(argv[0], '/'), *s;
	char *const *words = argc > 2 ? argv + 2 : argv + argc;
	uint64_t port;

	prog = prog != NULL ? prog + 1 : argv[0];
	s = line_key(words, "fail");
	if (s != NULL) {
		fprintf(stderr, "%s: %s: failing as told\n", prog, argv[1]);
		return atoi(s);
	}
	if (strncmp(prog, "vcpu", 4) == 0) {
		s = line_key(words, "smp");
		todo = line_key(words, "do");
		if (part_hello_vcpu(&part, "vcpu", s != NULL ?
		    (unsigned)atoi(s) : 1, refs, &vcpu_ops, &dummy) < 0)
			return 1;
	} else {
		if (part_hello(&part, prog + 4, 4096, &dev_ops, NULL) < 0)
			return 1;
		part.arg = part.state;
		s = line_key(words, "port");
		port = s != NULL ? strtoul(s, NULL, 0) : 0x100;
		if (part_range(&part, 0, SPACE_IO, port, 32, RANGE_SYNC, 0, 0,
		    0) < 0) {
			log_line("port 0x%lx: %s", (long)port,
			    strerror(errno));
			return 1;
		}
		source = part_line(&part, 5);
	}
	if (part_ready(&part) < 0)
		return 1;
	return part_run(&part);
}
