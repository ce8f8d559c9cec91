/*
 * calls.c - the stack of calls: guest calls and returns are the host's.
 *
 * A guest call pushes the guest's return address here and is a host call; its
 * return, if it goes to the address on top, is a host return to behind that,
 * which the processor predicts.  Any other return empties the stack, and asks
 * the jump cache.  It is empty again wherever mode or mappings may have changed:
 * whenever C goes on with another instruction (stub_end) or the run loop does, and
 * behind a helper that flushed something (calls_stale).
 *
 *	calls + 1	an address that is none, as is the one below: bottom
 *	...		return address, where the host returns to
 *	calls_end	below is a page that cannot be written: the stack is
 *			emptied, but for what is on top
 *
 * Signal handlers have a stack of their own, as this one may be full.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "jit.h"

#define PAGE		4096ul
#define CALLS_BYTES	(64ul << 10)	/* for guest code */
#define NESTED_BYTES	PAGE		/* above it, for scratch code */
#define SIGNAL_BYTES	(64ul << 10)
#define NOWHERE		0x8000000000000000ull
/* Words that are kept: stubs may be in the middle of something. */
#define KEPT		8

/* The word below which `bytes' are for a stack of calls. */
static uint64_t *
begin(uint8_t *end)
{
	uint64_t *p = (uint64_t *)end - 2;

	p[0] = p[1] = NOWHERE;
	return p;
}

int
calls_init(struct cpu *c)
{
	uint8_t *p = mmap(NULL, PAGE + CALLS_BYTES + NESTED_BYTES,
	    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p, PAGE, PROT_NONE) < 0)
		return -1;
	c->calls_end = (uint64_t *)(p + PAGE);
	c->calls = begin(p + PAGE + CALLS_BYTES);
	begin(p + PAGE + CALLS_BYTES + NESTED_BYTES);
	return 0;
}

void
calls_thread(void)
{
	static __thread bool done;
	stack_t s = { .ss_size = SIGNAL_BYTES };

	if (done)
		return;
	s.ss_sp = mmap(NULL, SIGNAL_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s.ss_sp == MAP_FAILED || sigaltstack(&s, NULL) < 0) {
		log_line("no stack for signals: %m");
		abort();
	}
	done = true;
}

bool
calls_full(struct cpu *c, const void *address)
{
	return (uint64_t)((uint8_t *)c->calls_end - (const uint8_t *)address) - 1 <
	    PAGE;
}

int64_t
calls_emptied(struct cpu *c, int64_t rsp)
{
	uint64_t *to = c->calls - KEPT;

	memmove(to, (const void *)rsp, KEPT * sizeof(*to));
	return (int64_t)to;
}

void
calls_nested(struct cpu *c, const uint8_t *host)
{
	uint64_t *calls = c->calls;
	void *rsp = c->host_rsp;

	c->calls = (uint64_t *)((uint8_t *)c->calls + NESTED_BYTES);
	stub_enter(c, host);
	c->calls = calls;
	c->host_rsp = rsp;
}
