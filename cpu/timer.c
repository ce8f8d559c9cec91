/*
 * timer.c - guest time and the timers of the chips placed in the vcpu process.
 *
 * A vcpu has a few deadlines in guest time.  One POSIX timer whose signal sets
 * the poll word runs for the earliest; it is set again only when a deadline
 * lies before what it is set for, since a guest mostly moves its deadline away.
 * A halted vcpu sleeps with the deadline as its timeout too (irq.c).
 * Everything here is under the interrupt lock.
 */
#include <errno.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include <unistd.h>

#include "vcpu.h"
#include "block.h"

__thread struct cpu *this_cpu;

int64_t
guest_clock(void)
{
	const struct map *m = machine.map;
	struct timespec ts;
	uint32_t seq, running;
	int64_t off;

	do {
		seq = atomic_load_explicit(&m->seq, memory_order_acquire);
		running = atomic_load_explicit(&m->running,
		    memory_order_relaxed);
		off = atomic_load_explicit(&m->clock_off,
		    memory_order_relaxed);
		atomic_thread_fence(memory_order_acquire);
	} while (seq & 1 || atomic_load_explicit(&m->seq,
	    memory_order_relaxed) != seq);
	if (!running)
		return off;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec + off;
}

uint64_t
cpu_tsc(struct cpu *c)
{
	return __builtin_ia32_rdtsc() + (uint64_t)machine.map->tsc_off +
	    (uint64_t)c->tsc_off;
}

/* Guest time at which the TSC reaches `tsc`. */
static int64_t
tsc_when(struct cpu *c, uint64_t tsc)
{
	uint64_t now = cpu_tsc(c), khz = machine.map->tsc_khz, d;

	if (tsc <= now)
		return guest_clock();
	d = tsc - now;
	if (khz == 0)
		khz = 1000000;
	/* a deadline years away is none; this also bounds the product */
	if (d / khz > 1000ull * 86400 * 365)
		return -1;
	return guest_clock() + (int64_t)(d / khz * 1000000 +
	    (d % khz * 1000000 + khz - 1) / khz);
}

int64_t
timer_next(const struct vcpu *v)
{
	int64_t t = -1;
	unsigned i;

	for (i = 0; i < NTIMER; i++)
		if (v->timer[i].when >= 0 && (t < 0 || v->timer[i].when < t))
			t = v->timer[i].when;
	return t;
}

static void
arm(struct vcpu *v)
{
	int64_t t = timer_next(v);
	struct itimerspec its = { { 0, 0 }, { 0, 0 } };

	if (t < 0 || !machine.map->running || !v->has_ptimer)
		return;
	t -= machine.map->clock_off;
	if (t < 1)
		t = 1;
	if (v->armed && v->armed <= t)
		return;
	v->armed = t;
	its.it_value.tv_sec = t / 1000000000;
	its.it_value.tv_nsec = t % 1000000000;
	timer_settime(v->ptimer, TIMER_ABSTIME, &its, NULL);
}

void
irq_timer(struct vcpu *v, unsigned slot, int64_t when,
    void (*fn)(struct devctx *), struct devctx *d)
{
	struct vtimer *t = &v->timer[slot];

	t->when = when;
	t->fn = fn;
	t->d = d;
	if (when >= 0)
		arm(v);
}

void
timer_run(struct vcpu *v)
{
	int64_t now, next = timer_next(v);
	unsigned i, round;

	if (next < 0 && !v->armed)
		return;
	now = guest_clock();
	if (v->armed && now - machine.map->clock_off >= v->armed)
		v->armed = 0;
	/* a handler may set its timer for now again; not for ever */
	for (round = 0; round < 4 && next >= 0 && next <= now; round++) {
		for (i = 0; i < NTIMER; i++) {
			struct vtimer *t = &v->timer[i];

			if (t->when < 0 || t->when > now)
				continue;
			t->when = -1;
			if (i == T_DEADLINE && cpu_tsc(v->c) < v->deadline) {
				t->when = tsc_when(v->c, v->deadline);
				continue;
			}
			t->fn(t->d);
		}
		next = timer_next(v);
	}
	arm(v);
}

static void
on_signal(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *u = context;

	if (!this_cpu)
		return;
	profile_look(this_cpu, (const void *)u->uc_mcontext.gregs[REG_RIP]);
	atomic_store(this_cpu->poll, 1);
}

/*
 * A timer of its own, in host time, for whoever runs so long without a deadline.
 * One that halts is not looked at, and does not have it set again.
 */
void
irq_look(struct cpu *c)
{
	struct vcpu *v = vcpu(c);
	struct itimerspec its = { { 0, 0 }, { 0, 0 } };
	struct timespec ts;
	int64_t now, every;

	if (!v->has_looker)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec * 1000000000ll + ts.tv_nsec;
	if (now < v->look)
		return;
	every = profile_every(c);
	v->has_looker = every > 0;
	v->look = now + every;
	its.it_value.tv_nsec = every;
	timer_settime(v->looker, 0, &its, NULL);
}

void
irq_thread(struct cpu *c)
{
	struct vcpu *v = vcpu(c);
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGUSR1 };

	this_cpu = c;
	v->tid = (unsigned)syscall(SYS_gettid);
	ev._sigev_un._tid = (pid_t)v->tid;
	v->has_ptimer = timer_create(CLOCK_MONOTONIC, &ev, &v->ptimer) == 0;
	if (!v->has_ptimer)
		log_line("cpu%u: timer_create: %m", c->index);
	v->has_looker = timer_create(CLOCK_MONOTONIC, &ev, &v->looker) == 0;
	prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
}

void
irq_resume(struct cpu *c)
{
	struct vcpu *v = vcpu(c);

	pthread_mutex_lock(&irq_mutex);
	v->armed = 0;
	/* the TSC may have been moved while we stood still */
	if (v->timer[T_DEADLINE].when >= 0)
		v->timer[T_DEADLINE].when = tsc_when(c, v->deadline);
	arm(v);
	pthread_mutex_unlock(&irq_mutex);
	atomic_store(c->poll, 1);
}

int
timer_init(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
	unsigned i, n;

	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGUSR1, &sa, NULL) < 0)
		return -1;
	for (i = 0; i < machine.ncpu; i++)
		for (n = 0; n < NTIMER; n++)
			vcpu(machine.cpu[i])->timer[n].when = -1;
	return 0;
}

void
timer_deadline(struct vcpu *v, uint64_t tsc)
{
	v->deadline = tsc;
	irq_timer(v, T_DEADLINE, tsc ? tsc_when(v->c, tsc) : -1,
	    lapic_timer_fired, &v->lapic);
}
