/* links: cpu */
/*
 * difftest - the translator against the host CPU.
 *
 * Random instruction sequences of every form the relocator copies, in 64-, 32-
 * and 16-bit code with and without segments, are run natively and in a vcpu
 * from the same registers, flags, vector state and memory, at the same
 * addresses; any difference is printed with the instructions.
 * difftest [-v] [-k machine] [-n executions] [-s seed] [KEY=off ...]
 * with the switches of cpu/x86/jit.h.
 */
#include "difftest.h"
#include "diff-guest.h"
#include "diff-host.h"
#include "diff-gen.h"

static const char *const rname[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
	"rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

static int
differ_x(struct regs *n, struct regs *g)
{
	unsigned i;

	/* last instruction and data pointers are of no interest */
	memset(n->x + 6, 0, 18);
	memset(g->x + 6, 0, 18);
	memset(n->x + 28, 0, 4);
	memset(g->x + 28, 0, 4);
	/* components in their initial state may be left unwritten */
	for (i = 0; i < 832; i++) {
		if (i >= 416 && i < 576)
			continue;
		if (i < 160 && (i < 24 || i >= 28) && !(n->x[512] & 1) &&
		    !(g->x[512] & 1))
			continue;
		if (n->x[i] != g->x[i]) {
			fprintf(stderr, "xsave byte %u: native %02x, vcpu "
			    "%02x\n", i, n->x[i], g->x[i]);
			return 1;
		}
	}
	return 0;
}

static int
differ_word(const char *what, uint64_t n, uint64_t g)
{
	if (n == g)
		return 0;
	fprintf(stderr, "%s: native %#llx, vcpu %#llx\n", what,
	    (unsigned long long)n, (unsigned long long)g);
	return 1;
}

/* Does the instruction there have a memory operand that must be aligned? */
static bool
aligned_at(uint64_t pc)
{
	struct insn in;
	unsigned i;

	if (x86_decode(cpu->mode, (uint8_t *)pc, 15, &in) <= 0)
		return false;
	for (i = 0; i < in.nop; i++)
		if (in.op[i].type == OP_MEM && in.op[i].size >= 16)
			return true;
	return false;
}

/* 1: they differ; -1: nothing to compare. */
static int
differ(struct regs *n, struct regs *g, int nv, int gv, uint64_t flags,
    uint64_t pc)
{
	unsigned i;

	/* an operand not to be had and misaligned, or an x87 exception
	 * pending: the processor's choice (SDM 3A 6.9, last class) */
	if (n->rip == g->rip && (gv == VEC_PF || gv == VEC_SS || gv == VEC_GP) &&
	    (nv == VEC_MF || (nv == VEC_GP && gv != VEC_GP &&
	    aligned_at(n->rip + seg_base(CS, pc)))))
		return -1;
	if (nv != gv) {
		fprintf(stderr, "exception: native %d at %#llx, vcpu %d at "
		    "%#llx\n", nv, (unsigned long long)n->rip, gv,
		    (unsigned long long)g->rip);
		return 1;
	}
	for (i = 0; i < 16; i++)
		/* the host's upper half of RSP is lost where it comes back to a
		 * 16-bit stack */
		if (differ_word(rname[i], kind == V64 || i != RSP ? n->gpr[i] :
		    (uint32_t)n->gpr[i], g->gpr[i]))
			return 1;
	flags |= FL_DF;
	if (nv < 0 && differ_word("flags", n->flags & flags, g->flags & flags))
		return 1;
	if (nv >= 0 && differ_word("rip of the exception", n->rip, g->rip))
		return 1;
	if (nv == VEC_PF && differ_word("cr2", n->cr2, g->cr2))
		return 1;
	return differ_x(n, g);
}

/* Bytes the manual leaves to the processor look alike. */
static void
forget(const struct regs *r, uint64_t pc, uint8_t *a, uint8_t *b)
{
	const struct operand *o = &mask.in.op[0];
	uint64_t ea = (uint64_t)o->disp;
	unsigned i;

	if (!mask.n)
		return;
	if (o->base == 16)
		ea += mask.next;
	else if (o->base != 0xff)
		ea += r->gpr[o->base];
	if (o->index != 0xff)
		ea += r->gpr[o->index] * (o->scale ? o->scale : 1);
	if (mask.in.addrsize == 2)
		ea = (uint16_t)ea;
	else if (mask.in.addrsize == 4)
		ea = (uint32_t)ea;
	ea += kind == V64 && o->seg == GS ? GS_BASE : seg_base(o->seg, pc);
	for (i = mask.from; i < mask.from + mask.n; i++)
		if (ea + i - DATA < DATA_N)
			a[ea + i - DATA] = b[ea + i - DATA] = 0;
}

static void
report(const struct regs *r, uint64_t pc, const uint8_t *code, int n)
{
	int i;

	fprintf(stderr, "%s code, privilege %u%s%s\n", kind_name[kind], cpl,
	    segmented() ? ss32 ? ", 32-bit stack" : ", 16-bit stack" : "",
	    segmented() && downward ? ", es expands down" : "");
	print_code(pc, code, n);
	if (!r)
		return;
	for (i = 0; i < 16; i++)
		fprintf(stderr, "%s%-3s %016llx", i % 4 ? "  " : "\n",
		    rname[i], (unsigned long long)r->gpr[i]);
	fprintf(stderr, "\n");
}

int
main(int argc, char **argv)
{
	uint64_t want = 100000, done = 0, defined, pc = CODE, faults = 0, start;
	uint8_t *data = (uint8_t *)DATA, gdata[DATA_N], init[DATA_N], code[128];
	struct regs r, g;
	char why[128];
	struct sigaction sa = { .sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER }, old[32];
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	int ch, i, n, k, gv, bad = 0, only = -1, verbose = 0;
	unsigned s;

	while ((ch = getopt(argc, argv, "k:n:s:v")) != -1)
		switch (ch) {
		case 'k':
			only = atoi(optarg);
			break;
		case 'n':
			want = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0) * 0x9e3779b97f4a7c15ull
			    | 1;
			break;
		case 'v':
			verbose = 1;
			break;
		default:
			only = NKIND;
		}
	if (only >= NKIND)
		errx(2, "usage: difftest [-v] [-k 0-%d] [-n executions] "
		    "[-s seed] [KEY=off ...]", NKIND - 1);
	if (opts_parse(jit_opts, argv + optind, &jit_on, why, sizeof(why)) < 0)
		errx(2, "%s", why);
	if (mmap((void *)CODE, CODE_N, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap(data, DATA_N, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap((void *)SAVE, 8192, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		err(1, "mmap");
	sigaltstack(&ss, NULL);
	host_init();
	guest_init();
	while (done < want) {
		uint8_t *b = (uint8_t *)pc;

		start = seed;
		/* half of the work on 64-bit code */
		kind = only >= 0 ? (enum kind)only : rnd() & 1 ? V64 :
		    (enum kind)(rnd() % NKIND);
		ss32 = rnd() & 1;
		downward = rnd() % 4 == 0;
		cpl = rnd() & 1 ? 3 : 0;
		guest_mode(pc);
		k = sequence(b, pc, &n, &defined);
		memcpy(code, b, (size_t)k);
		memcpy(ram.base + phys(pc), b, (size_t)k);
		guest_end(pc + (unsigned)k);
		host_end(b + k);
		for (s = 0; s < 6 && !bad; s++) {
			random_state(&r);
			for (i = 0; i < (int)DATA_N; i += 8)
				*(uint64_t *)(init + i) = value();
			memcpy(data, init, DATA_N);
			for (i = 0; i < (int)DATA_N; i += 4096)
				memcpy(ram.base + data_phys((uint64_t)i),
				    init + i, 4096);
			for (i = 0; i < 5; i++)
				sigaction(sigs[i], &sa, &old[i]);
			run_native(&r, pc);
			for (i = 0; i < 5; i++)
				sigaction(sigs[i], &old[i], NULL);
			gv = run_guest(&r, pc, &g);
			for (i = 0; i < (int)DATA_N; i += 4096)
				memcpy(gdata + i,
				    ram.base + data_phys((uint64_t)i), 4096);
			forget(&r, pc, data, gdata);
			bad = differ(&nat, &g, nat_vec, gv, defined, pc);
			if (bad < 0)
				bad = 0;
			else if (!bad && memcmp(data, gdata, DATA_N)) {
				for (i = 0; data[i] == gdata[i]; i++)
					;
				fprintf(stderr, "memory %#x: native %02x, "
				    "vcpu %02x\n", i, data[i], gdata[i]);
				bad = 1;
			}
			faults += nat_vec >= 0;
			done += (unsigned)n;
		}
		if (bad || verbose)
			report(bad ? &r : NULL, pc, code, k);
		if (bad) {
			fprintf(stderr, "difference after %llu executions, "
			    "exception %d, state %#llx\n",
			    (unsigned long long)done, nat_vec,
			    (unsigned long long)start);
			return 1;
		}
		pc += 128;
		if (pc >= CODE + CODE_N) {
			pc = CODE;
			block_flush();
		}
		if (rnd() % 512 == 0)
			tlb_flush_all(cpu);
	}
	printf("%llu executions, %llu ended in an exception, no difference\n",
	    (unsigned long long)done, (unsigned long long)faults);
	return 0;
}
