/*
 * loop.c - the run loop of a vcpu: requests, interrupts, exceptions, then the
 * block at rip, for as long as blocks lead to each other without coming back.
 *
 * C code that has to give up what it is doing (a fault in a helper, a slow
 * access) lands at the top of the loop through cpu_exit_loop(); architectural
 * state is then in struct cpu.
 */
#include <signal.h>
#include <string.h>
#include <sys/ucontext.h>
#include <immintrin.h>

#include "x86/jit.h"

_Noreturn void
cpu_exit_loop(struct cpu *c)
{
	__builtin_longjmp(c->jb, 1);
}

void
cpu_kick(struct cpu *c)
{
	irq_kick(machine.irqs, c->index, c->kick);
}

void
cpu_request(struct cpu *c, unsigned req)
{
	__atomic_fetch_or(&c->req, req, __ATOMIC_SEQ_CST);
	cpu_kick(c);
}

/* ------------------------------------------------------------ FPU in or out */

void
cpu_fpu_flush(struct cpu *c)
{
	static const uint32_t mxcsr = 0x1f80;

	if (!c->xlive)
		return;
	__asm__ volatile("xsave64 %0" : "+m"(c->xsave) : "a"(7), "d"(0)
	    : "memory");
	__asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
	c->xlive = 0;
}

void
cpu_fpu_load(struct cpu *c)
{
	if (c->xlive)
		return;
	__asm__ volatile("xrstor64 %0" : : "m"(c->xsave), "a"(7), "d"(0)
	    : "memory");
	c->xlive = 1;
}

/* ---------------------------------------------------------------- signals */


static void
from_signal_raise(struct cpu *c)
{
	x86_raise(c, c->exc_host, 0);
}

/* Our own fault: say where, and let it happen again, which kills us. */
static void
unexpected(int sig, const greg_t *g, const char *where)
{
	const uint8_t *pc = (const uint8_t *)g[REG_RIP];
	struct block *b;

	log_line("host exception %lld %s at %#llx, address %#llx (code at %p, "
	    "stubs end %#zx)", (long long)g[REG_TRAPNO], where,
	    (unsigned long long)g[REG_RIP], (unsigned long long)g[REG_CR2],
	    (void *)(jit.rw + jit.rx_off), jit.base);
	b = block_of((const void *)g[REG_RIP]);
	if (b)
		log_line("block at %#llx mode %#x, instruction at page offset "
		    "%#x, host bytes %02x %02x %02x %02x %02x %02x %02x %02x",
		    (unsigned long long)b->key, b->mode,
		    (unsigned)block_guest(b, (const void *)g[REG_RIP]),
		    pc[0], pc[1], pc[2], pc[3], pc[4], pc[5], pc[6], pc[7]);
	signal(sig, SIG_DFL);
}

/*
 * A fault in emitted code is the guest's: divide errors, unmasked floating
 * point exceptions, misaligned SSE operands, non-canonical addresses.  The
 * guest's registers are in the host's.
 */
static void
host_fault(int sig, siginfo_t *si, void *uc)
{
	greg_t *g = ((ucontext_t *)uc)->uc_mcontext.gregs;
	static const int map[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
		REG_R11, REG_RBP, REG_RSI, REG_RDI, REG_R8, -1, -1, -1,
		REG_R12, REG_R13, REG_R14, REG_R15 };
	const void *pc = (const void *)g[REG_RIP];
	struct cpu *c;
	struct block *b;
	int i, vec = -1;

	if (!codemem_has(pc)) {
		unexpected(sig, g, "in the emulator");
		return;
	}
	__asm__("movq %%gs:%c1, %0" : "=r"(c) : "i"(GS(self)));
	if (calls_full(c, si->si_addr)) {
		g[REG_RSP] = calls_emptied(c, g[REG_RSP]);
		return;
	}
	switch (g[REG_TRAPNO]) {
	case 0:
		vec = VEC_DE;
		break;
	case 13:
		vec = VEC_GP;
		break;
	case 16:
		vec = VEC_MF;
		break;
	case 19:
		vec = VEC_XM;
		break;
	case 6:
		vec = VEC_UD;
		break;
	}
	if (vec < 0) {
		unexpected(sig, g, "in translated code");
		return;
	}
	for (i = 0; i < 16; i++)
		if (map[i] >= 0)
			c->gpr[i] = (uint64_t)g[map[i]];
	b = block_of(pc);
	if (b)
		c->rip = c->ripbase + (uint64_t)block_guest(b, pc);
	if ((c->mode & M_SIZE) != M_64)
		c->rip &= (c->mode & M_SIZE) == M_32 ? 0xffffffffu : 0xffffu;
	c->eflags = (c->eflags & ~(uint64_t)FL_STATUS) |
	    (b && block_lazy(b, pc) ? flags_decode(c->lazy) :
	    (uint64_t)g[REG_EFL] & FL_STATUS);
	c->exc_host = vec;
	g[REG_RDI] = (greg_t)c;
	g[REG_RSP] = (greg_t)c->host_rsp - 8;
	g[REG_RIP] = (greg_t)from_signal_raise;
}

int
jit_start(size_t tb_size)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	struct sigaction sa;
	unsigned i;

	machine.log_int = log_on("int");
	machine.log_guest = log_on("guest_errors");
	machine.log_asm = log_on("in_asm");
	if (block_init(tb_size, machine.ram) < 0 || stub_init() < 0)
		return -1;
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = host_fault;
	sa.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
	for (i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &sa, NULL);
	return 0;
}

int
jit_cpu(struct cpu *c)
{
	c->self = c;
	c->m = &machine;
	c->k_hi52 = ~0xfffull;
	c->k_not_if = 0xfd;		/* eflags byte 1 without IF */
	c->k_status = FL_STATUS;
	c->k_pushf = ~(uint64_t)(FL_STATUS | FL_VM | FL_RF);
	c->k_tsc = machine.map ? &machine.map->tsc_off : NULL;
	tlb_init(c);
	return calls_init(c);
}

/* ------------------------------------------------------------------ blocks */

/* Everything that happens between instructions. False: leave cpu_run. */
static bool
boundary(struct cpu *c)
{
	bool polled = atomic_load_explicit(c->poll, memory_order_relaxed);
	uint32_t req;
	int v;

	if (c->req) {
		if (c->req & REQ_STOP)
			return false;
		req = __atomic_exchange_n(&c->req, 0, __ATOMIC_SEQ_CST);
		if (req & REQ_NMI)
			c->nmi_pending = 1;
		if (req & REQ_FLUSH)
			tlb_flush_all(c);
		if (req & REQ_INIT)
			x86_init_ap(c);
		if (req & REQ_SIPI && c->wait_sipi)
			x86_sipi(c, c->sipi_vector);
	}
	if (polled)
		irq_collect(c);
	cpu_safe_point(c);
	if (!block_room())
		code_flush(c);
	if (c->shadow)			/* one instruction first */
		return true;
	if (c->nmi_pending && !c->nmi_blocked && !c->wait_sipi) {
		c->nmi_pending = 0;
		c->halted = 0;
		x86_interrupt(c, VEC_NMI, INT_NMI, 0);
	}
	if (c->eflags & FL_IF && !c->wait_sipi && irq_ready(c) &&
	    (v = irq_vector(c)) >= 0) {
		c->halted = 0;
		c->n_irq++;
		x86_interrupt(c, v, INT_EXTERNAL, 0);
	}
	if (polled && !c->halted) {
		profile_looked(c);
		irq_look(c);
	}
	return true;
}

/* -accel check: the block alone, after its stepped double. */
static uint32_t
run_checked(struct cpu *c, struct block *b)
{
	uint64_t base = c->ripbase;
	bool cmp = check_before(c, b);
	uint32_t n;

	c->ripbase = base;		/* the steps used it */
	n = stub_enter(c, b->host + jit.rx_off);
	if (n != ~0u)
		c->rip = c->ripbase + (uint64_t)(int64_t)jit.ex[n].delta;
	if (cmp && (n == ~0u || jit.ex[n].kind != EXIT_DEAD)) {
		if ((c->mode & M_SIZE) != M_64)
			c->rip = (uint32_t)c->rip;
		check_after(c, b, b->live_out);
	}
	return n;
}

static void __attribute__((noinline))
loop(struct cpu *c)
{
	struct exit_rec *link = NULL, *x;
	uint64_t flushes = 0, rip = 0;
	struct block *b;
	uint32_t n;
	bool one;

	if (machine.check)
		check_abort(c);
	for (;;) {
		x86_deliver_pending(c);
		if (!boundary(c))
			return;
		if (c->halted || c->wait_sipi) {
			cpu_away(c, CPU_OUT);
			irq_halt(c);
			cpu_back(c);
			link = NULL;
			continue;
		}
		one = c->shadow;
		c->shadow = 0;
		if (c->mode & (M_TF | M_BRK)) {
			x86_debug_step(c);
			link = NULL;
			continue;
		}
		/* what was held off comes behind this one, not its block */
		if (one) {
			x86_step(c);
			link = NULL;
			continue;
		}
		b = block_here(c);
		if (!b) {
			x86_step(c);
			link = NULL;
			continue;
		}
		if (link && flushes == jit.n_flush && rip == c->rip &&
		    !((link->from->mode ^ b->mode) &
		    ~(MODE_CROSS | MODE_SPLIT)) && !(b->mode & MODE_SPLIT) &&
		    link->from->key >> 12 == b->key >> 12) {
			jit_lock(c);
			block_link(link, b);
			jit_unlock(c);
		}
		c->n_exit++;
		if (machine.check) {
			jit_lock(c);
			jit_exclusive(c);
			n = run_checked(c, b);
			jit_unlock(c);
			if (n == ~0u)
				continue;
			x = &jit.ex[n];
			goto left;
		}
		n = stub_enter(c, b->host + jit.rx_off);
		link = NULL;
		if (n == ~0u)
			continue;
		x = &jit.ex[n];
left:
		c->rip = c->ripbase + (uint64_t)(int64_t)x->delta;
		if ((c->mode & M_SIZE) != M_64)
			c->rip &= (c->mode & M_SIZE) == M_32 ? 0xffffffffu :
			    0xffffu;
		if (x->kind == EXIT_LINK && !machine.check && jit_on.chain) {
			link = x;
			rip = c->rip;
			flushes = jit.n_flush;
		}
	}
}

void
cpu_run(struct cpu *c0)
{
	struct cpu *volatile c = c0;
	uint64_t *volatile calls;

	calls = c->calls;
	cpu_back(c);
	__builtin_setjmp(c->jb);
	c->calls = calls;		/* left from scratch code, maybe */
	jit_unlock_all(c);
	loop(c);
	cpu_away(c, CPU_OUT);
	__atomic_fetch_and(&c->req, ~(uint32_t)REQ_STOP, __ATOMIC_SEQ_CST);
}
