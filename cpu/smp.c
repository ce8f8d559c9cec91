/*
 * smp.c - several vcpus and one translation cache.
 *
 * Each vcpu is a thread that runs emitted code, or C on its behalf, without
 * locks: it finds blocks, fills its own tables, stores to guest memory.  What
 * changes things under the others' feet goes by three rules:
 *
 *  - Blocks are made, linked and dropped under one lock, jit_lock().  Those who
 *    only look for a block do not take it: a block enters its hash chain when
 *    it is complete.
 *  - Code that others may be in is rewritten, and other vcpus' tables are
 *    touched, only after jit_exclusive(): then every other vcpu is away, which
 *    means asleep, waiting for a device or for the lock, or at a safe point
 *    between two instructions.  Emitted code looks at the poll word on every
 *    backward or indirect jump, so that nobody is long in coming.  The one
 *    exception are linked jumps, four bytes inside eight aligned ones (AMD APM
 *    vol. 2, 7.3.2): they are written while others jump.
 *  - Code memory is used anew (code_flush) when all other vcpus are out of the
 *    run loop's reach: not even in C that returns to emitted code.
 *
 * A vcpu that comes back from waiting (cpu->n_lost tells) may therefore find its TLB empty and its
 * block dead, but its block's code where it was.
 *
 * With one vcpu nothing of this happens.
 */
#include <linux/futex.h>

#include "vcpu.h"
#include "block.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t flushed = PTHREAD_COND_INITIALIZER;
static struct cpu *_Atomic owner;	/* of the mutex */
static unsigned depth;
static _Atomic bool exclusive;		/* the owner wants, or has, it so */
static _Atomic bool want_flush;

static bool
alone(void)
{
	return machine.ncpu <= 1;
}

static void
futex(_Atomic uint32_t *word, int op, uint32_t val, long ns)
{
	struct timespec ts = { 0, ns };

	raw4(SYS_futex, (long)word, op | FUTEX_PRIVATE_FLAG, val,
	    ns ? (long)&ts : 0);
}

void
cpu_away(struct cpu *c, enum where where)
{
	if (alone())
		return;
	atomic_store(&c->where, where);
	if (exclusive)
		futex(&c->where, FUTEX_WAKE, 1, 0);
	if (want_flush && where == CPU_OUT) {
		pthread_mutex_lock(&mutex);
		pthread_cond_broadcast(&flushed);
		pthread_mutex_unlock(&mutex);
	}
}

void
cpu_back(struct cpu *c)
{
	uint32_t was = c->where;

	if (alone())
		return;
	atomic_store(&c->where, CPU_IN);
	if ((!exclusive || owner == c) && !(want_flush && was == CPU_OUT))
		return;
	cpu_away(c, was);
	pthread_mutex_lock(&mutex);
	atomic_store(&c->where, CPU_IN);
	pthread_mutex_unlock(&mutex);
}

void
cpu_relax(struct cpu *c)
{
	__builtin_ia32_pause();
	if (alone() || ++c->pauses % 32)
		return;
	cpu_away(c, CPU_WAITS);
	raw4(SYS_sched_yield, 0, 0, 0, 0);
	cpu_back(c);
}

bool
jit_trylock(struct cpu *c)
{
	if (alone())
		return true;
	if (owner != c) {
		if (pthread_mutex_trylock(&mutex) != 0)
			return false;
		owner = c;
		depth = 0;
	}
	depth++;
	return true;
}

void
jit_lock(struct cpu *c)
{
	if (jit_trylock(c))
		return;
	cpu_away(c, CPU_WAITS);
	pthread_mutex_lock(&mutex);
	atomic_store(&c->where, CPU_IN);
	owner = c;
	depth = 1;
}

void
jit_unlock(struct cpu *c)
{
	if (alone() || --depth > 0)
		return;
	exclusive = false;
	owner = NULL;
	pthread_mutex_unlock(&mutex);
}

void
jit_unlock_all(struct cpu *c)
{
	if (owner != c || alone())
		return;
	depth = 1;
	jit_unlock(c);
}

void
jit_exclusive(struct cpu *c)
{
	unsigned i, n;

	if (alone() || exclusive)
		return;
	exclusive = true;
	jit.n_exclusive++;
	for (i = 0; i < machine.ncpu; i++)
		if (machine.cpu[i] != c &&
		    machine.cpu[i]->where == CPU_IN)
			cpu_kick(machine.cpu[i]);
	for (i = 0; i < machine.ncpu; i++) {
		struct cpu *o = machine.cpu[i];

		for (n = 0; o != c && o->where == CPU_IN; n++) {
			if (n < 1000) {
				__builtin_ia32_pause();
				continue;
			}
			cpu_kick(o);
			futex(&o->where, FUTEX_WAIT, CPU_IN, 1000000);
		}
	}
}

/* Under the mutex: is everybody else out of the run loop's reach? */
static bool
all_out(const struct cpu *c)
{
	unsigned i;

	for (i = 0; i < machine.ncpu; i++)
		if (machine.cpu[i] != c && machine.cpu[i]->where != CPU_OUT)
			return false;
	return true;
}

/* The mutex is held, and c is at the top of its run loop. */
static void
flush_or_wait(struct cpu *c)
{
	while (want_flush) {
		if (all_out(c)) {
			block_flush();
			want_flush = false;
			pthread_cond_broadcast(&flushed);
			return;
		}
		pthread_cond_wait(&flushed, &mutex);
	}
}

void
cpu_safe_point(struct cpu *c)
{
	if (alone() || (!exclusive && !want_flush))
		return;
	cpu_away(c, CPU_OUT);
	pthread_mutex_lock(&mutex);
	flush_or_wait(c);
	atomic_store(&c->where, CPU_IN);
	pthread_mutex_unlock(&mutex);
}

void
code_flush(struct cpu *c)
{
	unsigned i;

	if (alone()) {
		block_flush();
		return;
	}
	want_flush = true;
	for (i = 0; i < machine.ncpu; i++)
		if (machine.cpu[i] != c)
			cpu_kick(machine.cpu[i]);
	cpu_safe_point(c);
}
