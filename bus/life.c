/*
 * life.c - the life of the machine: start, run, stop, reset, end (PROTOCOL.md
 * "Life cycle", "Events").
 *
 * A job is a list of steps; a step asks some parts and the next one is taken
 * when all have answered.  Jobs wait for one another in a queue, so requests
 * from the guest, the monitor and signals never interleave.
 */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker.h"

#define STEP_NS		30000000000ll
#define QUIT_NS		2000000000ll
#define CALIBRATE_NS	20000000	/* at least, between two readings */

typedef void step_fn(struct broker *);

struct job {
	STAILQ_ENTRY(job) link;
	enum job_kind	kind;
	enum vm_state	then;
	job_fn		*fn;
	void		*arg;
	uint64_t	tag;
	step_fn *const	*step;
	bool		was_running;
	int		err;
};

static void advance(struct broker *);

/* ------------------------------------------------------------- guest clock */

static uint64_t
tsc(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return (uint64_t)now_ns();
#endif
}

/* The clock and the TSC at one moment: the tightest of a few tries. */
static void
both_clocks(int64_t *ns, uint64_t *t)
{
	int64_t a, b, best = INT64_MAX;
	uint64_t now;
	int i;

	for (i = 0; i < 8; i++) {
		a = now_ns();
		now = tsc();
		b = now_ns();
		if (b - a < best) {
			best = b - a;
			*ns = a + (b - a) / 2;
			*t = now;
		}
	}
}

static void
calibrate(struct broker *b)
{
	struct timespec ts = { 0, 0 };
	int64_t ns = 0;
	uint64_t t = 0;

	ns = now_ns() - b->cal_ns;
	if (ns < CALIBRATE_NS) {
		ts.tv_nsec = CALIBRATE_NS - ns;
		nanosleep(&ts, NULL);
	}
	both_clocks(&ns, &t);
	b->map->tsc_khz = (uint64_t)((double)(t - b->cal_tsc) * 1e6 /
	    (double)(ns - b->cal_ns) + 0.5);
}

static void
clock_set(struct broker *b, bool run)
{
	struct map *m = b->map;
	int64_t ns = 0;
	uint64_t t = 0;
	uint32_t seq;

	if ((bool)atomic_load(&m->running) == run)
		return;
	both_clocks(&ns, &t);
	if (!run) {
		b->saved_ns = ns + atomic_load(&m->clock_off);
		b->saved_tsc = t + (uint64_t)atomic_load(&m->tsc_off);
	}
	seq = atomic_load(&m->seq);
	atomic_store(&m->seq, seq + 1);
	atomic_thread_fence(memory_order_seq_cst);
	atomic_store(&m->clock_off, run ? b->saved_ns - ns : b->saved_ns);
	if (run)
		atomic_store(&m->tsc_off, (int64_t)(b->saved_tsc - t));
	atomic_store(&m->running, run);
	atomic_store_explicit(&m->seq, seq + 2, memory_order_release);
}

/* ------------------------------------------------------------------- steps */

static void
answered(struct broker *b, void *arg, uint64_t tag, int err, char *text,
    int *fds, int nfd)
{
	struct peer *p = arg;

	(void)tag, (void)fds, (void)nfd;
	if (err != 0 && err != ECONNRESET && !b->ending) {
		log_line("%s: %s", p->name, text != NULL && *text != '\0' ?
		    text : strerror(err));
		if (err == ETIMEDOUT)
			life_end(b, 1);
		else if (b->job != NULL)
			b->job->err = err;
	}
	if (--b->waiting == 0)
		advance(b);
}

static void
tell(struct broker *b, bool cpu, const char *line)
{
	unsigned i, from = cpu ? 0 : 1, to = cpu ? 1 : PART_MAX;

	for (i = from; i < to; i++) {
		if (b->part[i] == NULL || b->part[i]->state != PEER_READY)
			continue;
		b->waiting++;
		peer_ask(b->part[i], answered, b->part[i], 0, STEP_NS, NULL, 0,
		    "%s", line);
	}
}

static void
cpu_stop(struct broker *b)
{
	b->job->was_running = b->running;
	if (b->running)
		tell(b, true, "stop");
}

static void
devs_stop(struct broker *b)
{
	if (!b->running)
		return;
	clock_set(b, false);
	tell(b, false, "stop");
}

static void
stopped(struct broker *b)
{
	if (b->running && b->job->kind != JOB_RESET)
		broker_event(b, "bus", "stop");
	b->running = false;
}

static void
devs_reset(struct broker *b)
{
	tell(b, false, "reset");
}

static void *
slurp_dsdt(struct broker *b, size_t *len)
{
	char path[560];
	struct stat st;
	void *p = NULL;
	int fd;

	snprintf(path, sizeof path, "%s/dsdt.aml", b->share);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 &&
	    (p = malloc((size_t)st.st_size)) != NULL) {
		*len = (size_t)st.st_size;
		if (read(fd, p, *len) != (ssize_t)*len) {
			free(p);
			p = NULL;
		}
	}
	if (p == NULL)
		log_line("%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return p;
}

static int
load_kernel(struct broker *b)
{
	struct mfile *m = b->mf;
	struct acpi_opts a = { .ncpu = m->smp, .topo = m->topo, .hpet = m->hpet,
	    .uuid = m->uuid, .name = m->name };
	struct boot *t = &b->boot;
	void *dsdt;

	memset(t, 0, sizeof *t);
	t->mode = BOOT_RESET;
	if (m->kernel == NULL) {
		if (m->initrd != NULL || m->append != NULL) {
			log_line("boot: %s without kernel",
			    m->initrd != NULL ? "initrd" : "append");
			return -1;
		}
		return 0;
	}
	dsdt = slurp_dsdt(b, &a.dsdt_len);
	if (dsdt == NULL)
		return -1;
	a.dsdt = dsdt;
	t->rsdp = acpi_write(&b->ram, &a);
	free(dsdt);
	if (t->rsdp == 0 || smbios_write(&b->ram, &a) < 0) {
		log_line("ACPI and SMBIOS tables: %s", strerror(errno));
		return -1;
	}
	t->kernel = m->kernel;
	t->initrd = m->initrd;
	t->append = m->append;
	t->entry = m->entry;
	if (boot_load(&b->ram, t) < 0) {
		log_line("%s", t->why);
		return -1;
	}
	return 0;
}

static void
cpu_boot(struct broker *b)
{
	static const char *const modes[] = {
		"reset", "real16", "prot32", "long64"
	};
	const struct boot *t = &b->boot;
	char line[400];

	if (load_kernel(b) < 0) {
		life_end(b, 1);
		return;
	}
	if (b->map->tsc_khz == 0 && b->hooks == NULL)
		calibrate(b);
	snprintf(line, sizeof line, "boot mode=%s rip=0x%llx rsp=0x%llx "
	    "rsi=0x%llx rbx=0x%llx rax=0x%llx cr3=0x%llx cs=0x%x ds=0x%x "
	    "gdt=0x%llx", modes[t->mode], (unsigned long long)t->rip,
	    (unsigned long long)t->rsp, (unsigned long long)t->rsi,
	    (unsigned long long)t->rbx, (unsigned long long)t->rax,
	    (unsigned long long)t->cr3, t->cs, t->ds,
	    (unsigned long long)t->gdt);
	tell(b, true, line);
}

static void
cpu_reset(struct broker *b)
{
	tell(b, true, "reset");
}

static bool
shall_run(const struct broker *b)
{
	return b->job->kind != JOB_RESET || b->job->was_running;
}

static void
devs_run(struct broker *b)
{
	if (b->running || !shall_run(b))
		return;
	clock_set(b, true);
	tell(b, false, "run");
}

static void
cpu_run(struct broker *b)
{
	if (!b->running && shall_run(b))
		tell(b, true, "run");
}

static void
ran(struct broker *b)
{
	if (b->running || !shall_run(b))
		return;
	b->running = true;
	b->state = VM_RUNNING;
	broker_event(b, "bus", b->job->kind == JOB_RESET ? "reset" : "run");
}

static void
set_state(struct broker *b)
{
	if (b->job->then != VM_NSTATE)
		b->state = b->job->then;
}

static step_fn *const steps_start[] = { cpu_boot, cpu_reset, set_state, NULL };
static step_fn *const steps_run[] = { devs_run, cpu_run, ran, NULL };
static step_fn *const steps_stop[] = { cpu_stop, devs_stop, stopped, set_state,
	NULL };
static step_fn *const steps_reset[] = { cpu_stop, devs_stop, stopped,
	devs_reset, cpu_boot, cpu_reset, devs_run, cpu_run, ran, NULL };
static step_fn *const steps_state[] = { set_state, NULL };

static step_fn *const *const steps[] = {
	[JOB_START] = steps_start, [JOB_RUN] = steps_run,
	[JOB_STOP] = steps_stop, [JOB_RESET] = steps_reset,
	[JOB_STATE] = steps_state,
};

static void
advance(struct broker *b)
{
	struct job *j;

	while (b->waiting == 0 && !b->ending) {
		if (b->job == NULL) {
			b->job = STAILQ_FIRST(&b->jobs);
			if (b->job == NULL)
				return;
			STAILQ_REMOVE_HEAD(&b->jobs, link);
			b->job->step = steps[b->job->kind];
		}
		if (*b->job->step != NULL) {
			b->waiting++;	/* hold: an answer may come at once */
			(*b->job->step++)(b);
			b->waiting--;
			continue;
		}
		j = b->job;
		b->job = NULL;
		if (j->fn != NULL)
			j->fn(b, j->arg, j->tag, j->err);
		free(j);
	}
}

void
life_job(struct broker *b, enum job_kind kind, enum vm_state then, job_fn *fn,
    void *arg, uint64_t tag)
{
	struct job *j;

	j = calloc(1, sizeof *j);
	if (j == NULL) {
		if (fn != NULL)
			fn(b, arg, tag, ENOMEM);
		return;
	}
	j->kind = kind;
	j->then = then;
	j->fn = fn;
	j->arg = arg;
	j->tag = tag;
	STAILQ_INSERT_TAIL(&b->jobs, j, link);
	if (b->job == NULL)
		advance(b);
}

void
life_forget(struct broker *b, void *arg)
{
	struct job *j;

	if (b->job != NULL && b->job->arg == arg)
		b->job->fn = NULL;
	STAILQ_FOREACH(j, &b->jobs, link)
		if (j->arg == arg)
			j->fn = NULL;
}

/* ------------------------------------------------------------- the beginning */

static void
detach(struct broker *b)
{
	char zero = 0;
	int fd;

	if (b->tell < 0)
		return;
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		close(fd);
	}
	if (write(b->tell, &zero, 1) < 0) {
		/* the parent is gone: nobody to tell */
	}
	close(b->tell);
	b->tell = -1;
}

static void
started(struct broker *b, void *arg, uint64_t tag, int err)
{
	FILE *f;

	(void)arg, (void)tag;
	if (err != 0) {
		life_end(b, 1);
		return;
	}
	if (b->hooks != NULL)
		b->hooks->started(b);
	broker_open(b);
	if (b->mf->pidfile != NULL) {
		f = fopen(b->mf->pidfile, "we");
		if (f == NULL || fprintf(f, "%d\n", (int)getpid()) < 0 ||
		    fclose(f) != 0) {
			log_line("%s: %s", b->mf->pidfile, strerror(errno));
			life_end(b, 1);
			return;
		}
		b->pid_written = true;
	}
	detach(b);
}

static void
runs_again(struct broker *b, void *arg, uint64_t tag, int err, char *text,
    int *fds, int nfd)
{
	char line[64];

	if (err != 0)
		return;			/* its death is told */
	snprintf(line, sizeof line, "revived %s", ((struct peer *)arg)->name);
	broker_event(b, "bus", line);
}

void
life_ready(struct broker *b, struct peer *p)
{
	unsigned i;

	if (b->ending)
		return;
	if (b->state != VM_STARTING) {	/* in place of a dead one */
		peer_ask(p, runs_again, p, 0, STEP_NS, NULL, 0, b->running ?
		    "run" : "stop");
		return;
	}
	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && b->part[i]->state != PEER_READY)
			return;
	life_job(b, JOB_START, VM_PRELAUNCH, b->mf->start ? NULL : started,
	    NULL, 0);
	if (b->mf->start)
		life_job(b, JOB_RUN, VM_RUNNING, started, NULL, 0);
}

/* ------------------------------------------------------------------- events */

/* A guest that pulls the reset line twice is reset once. */
static bool
resetting(const struct broker *b)
{
	const struct job *j;

	if (b->job != NULL && b->job->kind == JOB_RESET)
		return true;
	STAILQ_FOREACH(j, &b->jobs, link)
		if (j->kind == JOB_RESET)
			return true;
	return false;
}

static void
shut_down(struct broker *b, int code)
{
	broker_event(b, "bus", "shutdown");
	if (b->mf->shutdown_pause)
		life_job(b, JOB_STOP, VM_SHUTDOWN, NULL, NULL, 0);
	else
		life_end(b, code);
}

void
life_event(struct broker *b, struct peer *p, char **argv)
{
	const char *e = argv[0];
	char text[256] = "";
	int i;

	for (i = 0; argv[i] != NULL; i++) {
		if (i > 0)
			strlcat(text, " ", sizeof text);
		strlcat(text, argv[i], sizeof text);
	}
	broker_event(b, p->name, text);
	if (b->hooks != NULL) {
		b->hooks->event(b, text);
		return;
	}
	if (b->ending)
		return;
	if (strcmp(e, "reset") == 0 || strcmp(e, "triple") == 0) {
		if (b->mf->reboot_exit)
			shut_down(b, *e == 't' ? 3 : 0);
		else if (!resetting(b))
			life_job(b, JOB_RESET, VM_NSTATE, NULL, NULL, 0);
	} else if (strcmp(e, "poweroff") == 0) {
		shut_down(b, 0);
	} else if (strcmp(e, "panic") == 0) {
		if (b->mf->panic == PANIC_EXIT)
			life_end(b, 3);
		else if (b->mf->panic == PANIC_PAUSE)
			life_job(b, JOB_STOP, VM_PANICKED, NULL, NULL, 0);
	} else if (strcmp(e, "exit") == 0) {
		life_end(b, argv[1] != NULL ? atoi(argv[1]) & 0xff : 0);
	} else if (strcmp(e, "quit") == 0) {
		life_end(b, 0);
	} else if (strcmp(e, "stop") == 0) {
		life_job(b, JOB_STOP, VM_PAUSED, NULL, NULL, 0);
	} else if (strcmp(e, "cont") == 0 || strcmp(e, "wake") == 0) {
		life_job(b, JOB_RUN, VM_RUNNING, NULL, NULL, 0);
	} else if (strcmp(e, "sleep") == 0) {
		life_job(b, JOB_STOP, VM_SUSPENDED, NULL, NULL, 0);
	} else if (strcmp(e, "io-error") == 0) {
		life_job(b, JOB_STOP, VM_IO_ERROR, NULL, NULL, 0);
	}
}

static void
pressed(struct broker *b, void *arg, uint64_t tag, int err, char *text,
    int *fds, int nfd)
{
	(void)arg, (void)tag, (void)text, (void)fds, (void)nfd;
	if (err != 0)
		life_end(b, 0);
}

/* SIGTERM: the button if there is one and somebody to see it. */
void
life_powerbutton(struct broker *b)
{
	struct peer *pm = peer_named(b, "pm0");

	if (pm == NULL || pm->state != PEER_READY || !b->running) {
		life_end(b, 0);
		return;
	}
	broker_event(b, "bus", "powerdown");
	peer_ask(pm, pressed, NULL, 0, STEP_NS, NULL, 0, "ask powerbutton");
}

static const char *const status_name[VM_NSTATE] = {
	[VM_STARTING] = "starting", [VM_PRELAUNCH] = "paused (prelaunch)",
	[VM_RUNNING] = "running", [VM_PAUSED] = "paused",
	[VM_SHUTDOWN] = "paused (shutdown)",
	[VM_PANICKED] = "paused (panicked)", [VM_SUSPENDED] = "suspended",
	[VM_IO_ERROR] = "paused (io-error)",
};

const char *
life_status(const struct broker *b)
{
	return status_name[b->state];
}

/* --------------------------------------------------------------------- end */

static void
too_long(void *arg)
{
	struct broker *b = arg;

	part_kill_all(b, 9);
	if (part_alive(b) == 0)
		loop_stop(b->loop);
}

void
life_end(struct broker *b, int code)
{
	unsigned i;

	if (b->ending)
		return;
	b->ending = true;
	b->code = code;
	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && b->part[i]->fd >= 0)
			peer_send(b->part[i], NULL, 0, "quit");
	loop_timer(b->loop, now_ns() + QUIT_NS, too_long, b);
	if (part_alive(b) == 0)
		loop_stop(b->loop);
}
