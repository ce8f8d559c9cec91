/* links: cpu */
/*
 * difftest - the translator against the host CPU.
 *
 * Random instruction sequences of every form the relocator copies are run
 * natively and in a vcpu from the same registers, flags, vector state and
 * memory, at the same addresses; any difference is printed with the
 * instruction.  difftest [-n executions] [-s seed] [-v]
 */
#include <err.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <Zydis/Zydis.h>

#include "cpu/x86/jit.h"
#include "dev/intc.h"

#define CODE	0x10000000ull
#define CODE_N	(1u << 20)
#define DATA	0x20000000ull
#define DATA_N	0x4000u
#define SAVE	0x30000000ull
#define RAM_N	(16u << 20)
#define HANDLER	0x11000000ull

struct regs {
	uint64_t	gpr[16], flags, resume;
	uint8_t		x[1024] __attribute__((aligned(64)));
};
static struct regs *const save = (struct regs *)SAVE;	/* native in and out */
static uint64_t seed = 1;
static struct ram ram;
static struct cpu *cpu;
static int verbose;

/* ------------------------------------------------- the world of the vcpu */
struct machine machine;
static struct irq_page irqs;
static struct dirty *dirtymap;
static struct map map;

uint64_t io_read(struct cpu *c, uint64_t a, unsigned n) { return ~0ull; }
void io_write(struct cpu *c, uint64_t a, unsigned n, uint64_t v) {}
uint32_t io_in(struct cpu *c, uint16_t p, unsigned n) { return ~0u; }
void io_out(struct cpu *c, uint16_t p, unsigned n, uint32_t v) {}
unsigned io_string(struct cpu *c, int w, uint16_t p, unsigned s, void *b,
    unsigned n) { return n; }
uint8_t *
io_page(struct cpu *c, uint64_t gpa, bool *w)
{
	*w = true;
	return ram_at(&ram, gpa, 4096);
}
void irq_collect(struct cpu *c) { *c->poll = 0; }
bool irq_ready(struct cpu *c) { return false; }
int irq_vector(struct cpu *c) { return -1; }
struct devctx *irq_lapic(struct cpu *c) { return NULL; }
void irq_halt(struct cpu *c) { c->req |= REQ_STOP; cpu_exit_loop(c); }
uint64_t cpu_tsc(struct cpu *c) { return __builtin_ia32_rdtsc(); }
int irq_rdmsr(struct cpu *c, uint32_t m, uint64_t *v) { return -1; }
int irq_wrmsr(struct cpu *c, uint32_t m, uint64_t v) { return -1; }
uint8_t irq_get_tpr(struct cpu *c) { return 0; }
void irq_set_tpr(struct cpu *c, uint8_t v) {}

static uint64_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t
value(void)
{
	static const uint64_t edge[] = { 0, 1, ~0ull, 0x7f, 0x80, 0xff, 0x7fff,
		0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000 };

	switch (rnd() % 4) {
	case 0:
		return edge[rnd() % 14];
	case 1:
		return rnd() % 256;
	case 2:
		return (uint32_t)rnd();
	}
	return rnd();
}

/* ------------------------------------------------------------ native side */

static sigjmp_buf jb;
static struct regs nat;
static volatile int nat_vec;

static void
on_fault(int sig, siginfo_t *si, void *ucv)
{
	ucontext_t *uc = ucv;
	greg_t *g = uc->uc_mcontext.gregs;
	static const int map_[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
		REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10,
		REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	int i;

	nat_vec = (int)g[REG_TRAPNO];
	for (i = 0; i < 16; i++)
		save->gpr[i] = (uint64_t)g[map_[i]];
	save->flags = (uint64_t)g[REG_EFL];
	memcpy(save->x, uc->uc_mcontext.fpregs, 512);
	/* ymm halves: standard format, follow the legacy area and header */
	memcpy(save->x + 512, (uint8_t *)uc->uc_mcontext.fpregs + 512, 512);
	siglongjmp(jb, 1);
}

static uint8_t *prologue, *epilogue;

/* Straight-line code at fixed low addresses: load everything, go, store. */
static void
make_native(void)
{
	struct emit e;
	unsigned r;

	prologue = mmap((void *)0x31000000, 4096, PROT_READ | PROT_WRITE |
	    PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (prologue == MAP_FAILED)
		err(1, "mmap");
	e.p = prologue;
	for (r = 0; r < 16; r++)	/* our own registers */
		if (r == H_BX || r == H_BP || r >= 12)
			e_push(&e, r);
	e_op_mem(&e, 1, 0x89, H_SP, H_NONE, H_NONE, SAVE + 0x1000);
	e_mov_ri32(&e, H_AX, 7);
	e_mov_ri32(&e, H_DX, 0);
	e8(&e, 0x48); e8(&e, 0x0f); e8(&e, 0xae);	/* xrstor64 */
	e_mem(&e, 5, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, x));
	e8(&e, 0xff);
	e_mem(&e, 6, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, flags));
	e8(&e, 0x9d);
	for (r = 0; r < 16; r++)
		e_ld(&e, 1, r, H_NONE, H_NONE, (int32_t)(SAVE + 8 * r));
	e8(&e, 0xff);
	e_mem(&e, 4, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, resume));
	e.p = epilogue = prologue + 2048;
	for (r = 0; r < 16; r++)
		e_op_mem(&e, 1, 0x89, r, H_NONE, H_NONE, (int32_t)(SAVE + 8 * r));
	e_ld(&e, 1, H_SP, H_NONE, H_NONE, SAVE + 0x1000);
	e8(&e, 0x9c);
	e8(&e, 0x8f);
	e_mem(&e, 0, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, flags));
	e_mov_ri32(&e, H_AX, 7);
	e_mov_ri32(&e, H_DX, 0);
	e8(&e, 0x48); e8(&e, 0x0f); e8(&e, 0xae);	/* xsave64 */
	e_mem(&e, 4, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, x));
	for (r = 16; r-- > 0;)
		if (r == H_BX || r == H_BP || r >= 12)
			e_pop(&e, r);
	e8(&e, 0xc3);
}

static void
run_native(const struct regs *in, uint64_t pc)
{
	static const uint32_t mxcsr = 0x1f80;

	*save = *in;
	save->resume = pc;
	nat_vec = -1;
	if (sigsetjmp(jb, 0) == 0)
		((void (*)(void))prologue)();
	__asm__ volatile("fninit; ldmxcsr %0; cld" : : "m"(mxcsr));
	nat = *save;
}

/* ------------------------------------------------------------- guest side */

static uint64_t
phys(uint64_t lin)
{
	return lin >= HANDLER ? 0x300000 + (lin - HANDLER) :
	    lin - CODE + 0x100000;
}

static void
map_page(uint64_t lin, uint64_t pa)
{
	uint64_t *t = (uint64_t *)(ram.base + 0x1000), e;
	static uint64_t next = 0x2000;
	int s;

	for (s = 39; s > 12; s -= 9) {
		e = t[lin >> s & 511];
		if (!e) {
			e = next | 7;
			next += 4096;
			t[lin >> s & 511] = e;
		}
		t = (uint64_t *)(ram.base + (e & ~0xfffull));
	}
	t[lin >> 12 & 511] = pa | 0x67;
}

static void
make_guest(void)
{
	uint64_t i, *idt, a;
	char why[128];

	if (ram_create(&ram, "difftest", RAM_N) < 0)
		err(1, "ram");
	dirtymap = calloc(1, DIRTY_BYTES(RAM_N >> 12));
	dirtymap->npage = RAM_N >> 12;
	machine.ram = &ram;
	machine.irqs = &irqs;
	machine.dirty = dirtymap;
	machine.map = &map;
	machine.ncpu = 1;
	machine.model = x86_model("max", why, sizeof(why));
	if (!machine.model)
		errx(1, "%s", why);
	cpu = mmap(NULL, (sizeof(*cpu) + 4095) & ~4095ul,
	    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	machine.cpu[0] = cpu;
	cpu->poll = &irqs.cpu[0].poll;
	if (jit_start(64 << 20) < 0)
		err(1, "jit_start");
	jit_cpu(cpu);
	__asm__ volatile("wrgsbase %0" : : "r"(cpu));
	cpu->m = &machine;
	x86_reset(cpu);
	for (i = 0; i < CODE_N; i += 4096)
		map_page(CODE + i, phys(CODE + i));
	for (i = 0; i < DATA_N; i += 4096)
		map_page(DATA + i, 0x400000 + i);
	map_page(HANDLER, phys(HANDLER));
	for (i = 0; i < 32; i++)
		ram.base[phys(HANDLER) + i * 16] = 0xf4;	/* hlt */
	idt = (uint64_t *)(ram.base + phys(HANDLER) + 0x400);
	for (i = 0; i < 32; i++) {
		a = HANDLER + i * 16;
		idt[2 * i] = (a & 0xffff) | 0x10ull << 16 | 1ull << 32 |
		    0x8e00ull << 32 | (a >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = a >> 32;
	}
	/* GDT with a code segment at 0x10, TSS with IST1 */
	*(uint64_t *)(ram.base + phys(HANDLER) + 0x810) = 0x00af9b000000ffffull;
	*(uint64_t *)(ram.base + phys(HANDLER) + 0x818) = 0x00cf93000000ffffull;
	*(uint64_t *)(ram.base + phys(HANDLER) + 0xa24) = HANDLER + 0xff0;
	cpu->gdt.base = HANDLER + 0x800;
	cpu->gdt.limit = 0x1f;
	cpu->idt.base = HANDLER + 0x400;
	cpu->idt.limit = 0x1ff;
	cpu->seg[TR] = (struct seg){ .sel = 0x20, .attr = 0x8b, .limit = 0x67,
		.base = HANDLER + 0xa00 };
}

static void
guest_state(void)
{
	int i;

	cpu->cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_ET | CR0_WP | CR0_PG;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
	cpu->xcr0 = 7;
	cpu->cr3 = 0x1000;
	cpu->cpl = 0;
	cpu->seg[CS] = (struct seg){ .sel = 0x10, .attr = 0xa09b,
		.limit = ~0u };
	for (i = 0; i < NSEG; i++)
		if (i != CS && i < LDTR)
			cpu->seg[i] = (struct seg){ .sel = 0x18,
				.attr = 0xc093, .limit = ~0u };
	x86_mode(cpu);
}

static int
run_guest(const struct regs *in, uint64_t pc, struct regs *out)
{
	int i, vec = -1;

	for (i = 0; i < 16; i++)
		cpu->gpr[i] = in->gpr[i];
	cpu->eflags = (in->flags & FL_STATUS) | 2;
	cpu_fpu_flush(cpu);
	memcpy(cpu->xsave.b, in->x, sizeof(in->x));
	cpu->rip = pc;
	cpu->halted = 0;
	cpu->req = 0;
	guest_state();
	cpu_run(cpu);
	cpu_fpu_flush(cpu);
	if (cpu->rip >= HANDLER && cpu->rip < HANDLER + 0x1000) {
		vec = (int)((cpu->rip - HANDLER) / 16);
		/* the frame: rip cs flags rsp ss below HANDLER + 0xff0 */
		uint64_t *f = (uint64_t *)(ram.base + phys(HANDLER + 0xff0));

		cpu->gpr[RSP] = f[-2];
		cpu->eflags = f[-3];
	}
	for (i = 0; i < 16; i++)
		out->gpr[i] = cpu->gpr[i];
	out->flags = cpu->eflags;
	memcpy(out->x, cpu->xsave.b, sizeof(out->x));
	return vec;
}

/* ------------------------------------------------------------- generation */

/*
 * What registers are for in the sequence being made: an address is computed
 * only from registers that still hold what they started with.
 */
enum { ANY, BASE, INDEX };
static uint8_t role[16];
static uint32_t written;

static bool
want_role(unsigned r, int as)
{
	if (r > 15)
		return true;
	if (written >> r & 1 || (role[r] != ANY && role[r] != as))
		return false;
	role[r] = (uint8_t)as;
	return true;
}

static uint32_t
gpr_bit(ZydisRegister r)
{
	ZydisRegister l = ZydisRegisterGetLargestEnclosing(
	    ZYDIS_MACHINE_MODE_LONG_64, r);

	return l >= ZYDIS_REGISTER_RAX && l <= ZYDIS_REGISTER_R15 ?
	    1u << (l - ZYDIS_REGISTER_RAX) : 0;
}

/* Take the instruction into the sequence, or say no. */
static bool
accept(const uint8_t *b, const struct insn *in, uint64_t at)
{
	static ZydisDecoder dec;
	static bool ready;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t keep[16];
	uint32_t wr = 0;
	unsigned i;

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_XABORT: case ZYDIS_MNEMONIC_XBEGIN:
		return false;
	}
	if (!ready)
		ZydisDecoderInit(&dec, ZYDIS_MACHINE_MODE_LONG_64,
		    ZYDIS_STACK_WIDTH_64);
	ready = true;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&dec, b, 15, &z, op)))
		return false;
	memcpy(keep, role, sizeof(keep));
	for (i = 0; i < z.operand_count; i++) {
		const ZydisDecodedOperand *o = &op[i];

		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
		    o->type == ZYDIS_OPERAND_TYPE_REGISTER)
			wr |= gpr_bit(o->reg.value);
		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    in->mnem == ZYDIS_MNEMONIC_LEA)
			continue;
		if (o->mem.segment == ZYDIS_REGISTER_FS ||
		    o->mem.segment == ZYDIS_REGISTER_GS || in->addrsize != 8)
			goto no;
		if (o->mem.base == ZYDIS_REGISTER_RIP) {
			if (at + in->len + (uint64_t)o->mem.disp.value - DATA >
			    0x3f00)
				goto no;
			continue;
		}
		if (o->mem.base == ZYDIS_REGISTER_NONE)
			goto no;
		if (o->mem.disp.value < -128 || o->mem.disp.value > 0xd00)
			goto no;
		if (!want_role((unsigned)__builtin_ctz(
		    gpr_bit(o->mem.base)), BASE))
			goto no;
		if (o->mem.index != ZYDIS_REGISTER_NONE &&
		    !want_role((unsigned)__builtin_ctz(
		    gpr_bit(o->mem.index)), INDEX))
			goto no;
	}
	if (in->rep && in->opcode >= 0xa4 && in->opcode <= 0xaf &&
	    !want_role(RCX, INDEX))
		goto no;
	/* bit strings */
	if (insn_class(cpu->mode, in) == CL_HELPER && in->nop == 2 &&
	    in->op[0].type == OP_MEM && in->op[1].type == OP_REG &&
	    !want_role(in->op[1].reg, INDEX))
		goto no;
	if (in->mnem == ZYDIS_MNEMONIC_LEAVE && !want_role(RBP, BASE))
		goto no;
	written |= wr;
	/* the stack pointer goes on pointing at the stack */
	if (in->mnem == ZYDIS_MNEMONIC_PUSH || in->mnem == ZYDIS_MNEMONIC_CALL)
		written &= ~(1u << RSP);
	return true;
no:
	memcpy(role, keep, sizeof(keep));
	return false;
}

static bool
shifts(const struct insn *in)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR: case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD: case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
		return true;
	}
	return false;
}

/* Copied, or executed in C though a program may use it. */
static bool
testable(const struct insn *in)
{
	switch (insn_class(cpu->mode, in)) {
	case CL_COPY:
		return true;
	case CL_STACK:
		return in->opsize == 8;
	case CL_HELPER:
		break;
	default:
		return false;
	}
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD: case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return true;
	}
	return in->opcode >= 0xa4 && in->opcode <= 0xaf &&
	    in->opcode != 0xa8 && in->opcode != 0xa9;
}

/* Control flow that ends up at the next instruction either way. */
static int
branch(uint8_t *t)
{
	switch (rnd() % 6) {
	case 0:
		t[0] = 0xeb;
		t[1] = 0;
		return 2;
	case 1:
		t[0] = 0xe8;
		memset(t + 1, 0, 4);
		return 5;
	case 2:
		t[0] = (uint8_t)(0xe2 + rnd() % 2);
		t[1] = 0;
		return 2;
	case 3:
		t[0] = 0x0f;
		t[1] = (uint8_t)(0x80 | rnd() % 16);
		memset(t + 2, 0, 4);
		return 6;
	}
	t[0] = (uint8_t)(0x70 | rnd() % 16);
	t[1] = 0;
	return 2;
}

/* One random instruction of at most 15 bytes; its length. */
static int
generate(uint8_t *b, uint64_t at, struct insn *in)
{
	uint8_t t[32];
	int n, i, len, mod, tries;

	for (tries = 0; tries < 10000; tries++) {
		unsigned kind = rnd() % 16, vexmap = 0;
		bool modrm = true;

		n = 0;
		if (rnd() % 16 == 0) {
			n = branch(t);
			memset(t + n, 0x90, sizeof(t) - (size_t)n);
			if (x86_decode(cpu->mode, t, 15, in) == n &&
			    (in->mnem != ZYDIS_MNEMONIC_CALL ||
			    accept(t, in, at))) {
				if (in->mnem == ZYDIS_MNEMONIC_LOOP)
					written |= 1u << RCX;
				memcpy(b, t, (size_t)n);
				return n;
			}
			n = 0;
		}
		if (kind < 12) {
			if (rnd() % 6 == 0)
				t[n++] = 0x66;
			if (rnd() % 6 == 0)
				t[n++] = rnd() & 1 ? 0xf2 : 0xf3;
			if (rnd() % 24 == 0)
				t[n++] = 0xf0;
			if (rnd() % 2)
				t[n++] = 0x40 | (rnd() & 15);
			if (kind >= 4) {
				t[n++] = 0x0f;
				if (kind == 10)
					t[n++] = 0x38;
				else if (kind == 11)
					t[n++] = 0x3a;
			}
		} else if (kind == 12) {
			t[n++] = 0xc5;
			t[n++] = (uint8_t)rnd();
			vexmap = 1;
		} else {
			t[n++] = 0xc4;
			vexmap = 1 + rnd() % 3;
			t[n++] = (uint8_t)((rnd() & 0xe0) | vexmap);
			t[n++] = (uint8_t)rnd();
		}
		t[n++] = (uint8_t)rnd();
		(void)modrm;
		mod = (int)(rnd() % 4);
		if (mod == 0)	/* [rip+d] stays inside the data page */
			t[n++] = (uint8_t)((rnd() & 0x38) | 5);
		else if (mod < 3)
			t[n++] = (uint8_t)(mod << 6 | (rnd() & 0x3f));
		else
			t[n++] = (uint8_t)(0xc0 | (rnd() & 0x3f));
		for (i = n; i < 24; i++)
			t[i] = (uint8_t)rnd();
		/* displacement */
		if (mod == 2) {
			int32_t d = (int32_t)(rnd() % 3000);

			memcpy(t + n + ((t[n - 1] & 7) == 4), &d, 4);
		}
		len = x86_decode(cpu->mode, t, 15, in);
		if (len <= 0)
			continue;
		if (mod == 0) {
			int32_t d = (int32_t)(DATA + 64 + (rnd() % 240) * 16 -
			    (at + (unsigned)len));

			memcpy(t + n, &d, 4);
			if (x86_decode(cpu->mode, t, 15, in) != len)
				continue;
		}
		if (!x86_allowed(cpu, in) || !fpu_usable(cpu->mode, in) ||
		    !testable(in) || !accept(t, in, at))
			continue;
		memcpy(b, t, (size_t)len);
		return len;
	}
	errx(1, "nothing generated");
}

static void
print_insn(uint64_t at, const uint8_t *b, int len)
{
	ZydisDisassembledInstruction d;
	int i;

	ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, at, b, 15, &d);
	fprintf(stderr, "  %-40s", d.text);
	for (i = 0; i < len; i++)
		fprintf(stderr, " %02x", b[i]);
	fputc('\n', stderr);
}

static void
random_state(struct regs *r)
{
	unsigned i, j;

	memset(r, 0, sizeof(*r));
	for (i = 0; i < 16; i++)
		r->gpr[i] = value();
	for (i = 0; i < 16; i++)
		if (role[i] == BASE)
			r->gpr[i] = DATA + 0x1000 + (rnd() & 1 ? rnd() % 0x800 :
			    rnd() % 64 * 32);
		else if (role[i] == INDEX)
			r->gpr[i] = rnd() % 64;
	r->flags = (rnd() & FL_STATUS) | 0x202;
	/* x87: default control word, some values, tags full or empty */
	r->x[0] = 0x7f;
	r->x[1] = 0x03;
	r->x[4] = rnd() & 1 ? 0xff : 0;
	*(uint32_t *)(r->x + 24) = 0x1f80;
	*(uint32_t *)(r->x + 28) = 0xffff;
	for (i = 0; i < 8; i++) {
		double v = (double)(int64_t)rnd() / (double)(1 + rnd() % 100000);
		long double l = v;

		memcpy(r->x + 32 + 16 * i, &l, 10);
	}
	for (i = 0; i < 16; i++)
		for (j = 0; j < 8; j++) {
			uint32_t w = (uint32_t)value();
			float f = (float)(int32_t)rnd() / 1000.0f;

			if (rnd() & 1)
				memcpy(&w, &f, 4);
			memcpy(r->x + (j < 4 ? 160 : 576) + 16 * i +
			    (j & 3) * 4, &w, 4);
		}
	*(uint64_t *)(r->x + 512) = 7;
}

static const char *const rname[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp",
	"rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

static int
differ(struct regs *n, struct regs *g, int nv, int gv, uint64_t flags)
{
	unsigned i;

	if (nv != gv) {
		fprintf(stderr, "exception: native %d, vcpu %d\n", nv, gv);
		return 1;
	}
	for (i = 0; i < 16; i++)
		if (n->gpr[i] != g->gpr[i]) {
			fprintf(stderr, "%s: native %016llx, vcpu %016llx\n",
			    rname[i], (unsigned long long)n->gpr[i],
			    (unsigned long long)g->gpr[i]);
			return 1;
		}
	if (nv < 0 && (n->flags ^ g->flags) & flags) {
		fprintf(stderr, "flags: native %03llx, vcpu %03llx\n",
		    (unsigned long long)n->flags & FL_STATUS,
		    (unsigned long long)g->flags & FL_STATUS);
		return 1;
	}
	/* last instruction and data pointers are of no interest */
	memset(n->x + 6, 0, 18);
	memset(g->x + 6, 0, 18);
	memset(n->x + 28, 0, 4);
	memset(g->x + 28, 0, 4);
	/* components in their initial state may be left unwritten */
	for (i = 0; i < 832; i++) {
		if (i >= 416 && i < 576)
			continue;
		if (i >= 24 && i < 28) {
			if (n->x[i] != g->x[i])
				break;
			continue;
		}
		if (i < 160 && !(n->x[512] & 1) && !(g->x[512] & 1))
			continue;
		if (n->x[i] != g->x[i])
			break;
	}
	if (i < 832) {
		fprintf(stderr, "exception %d, xsave byte %u: native %02x, vcpu %02x\n", nv, i,
		    n->x[i], g->x[i]);
		return 1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	uint64_t want = 100000, done = 0, defined, pc = CODE, faults = 0, start_seed;
	uint8_t *data = (uint8_t *)DATA, *gdata, init[DATA_N], keep[16];
	struct insn in;
	struct regs r, g;
	struct sigaction sa = { .sa_sigaction = on_fault,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER }, old[32];
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	stack_t ss = { .ss_sp = malloc(65536), .ss_size = 65536 };
	int ch, i, n, k, len[8], gv, bad = 0;
	unsigned s;

	while ((ch = getopt(argc, argv, "n:s:v")) != -1)
		switch (ch) {
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
			errx(2, "usage: difftest [-v] [-n executions] [-s seed]");
		}
	if (mmap((void *)CODE, CODE_N, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap(data, DATA_N, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap((void *)SAVE, 8192, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		err(1, "mmap");
	sigaltstack(&ss, NULL);
	make_native();
	make_guest();
	guest_state();
	gdata = ram.base + 0x400000;
	while (done < want) {
		uint8_t *b = (uint8_t *)pc;
		struct emit e;

		start_seed = seed;
		n = 1 + (int)(rnd() % 6);
		defined = FL_STATUS;
		memset(role, ANY, sizeof(role));
		written = 0;
		role[RSP] = BASE;
		for (i = 0, k = 0; i < n;) {
			uint32_t w = written;

			memcpy(keep, role, sizeof(keep));
			len[i] = generate(b + k, pc + (unsigned)k, &in);
			if (in.fl_read & ~defined) {	/* of undefined flags */
				memcpy(role, keep, sizeof(keep));
				written = w;
				continue;
			}
			/* a shift by 0 defines nothing, by more than 1 not OF */
			if (shifts(&in))
				defined &= ~(uint64_t)(FL_OF | FL_AF);
			else
				defined |= in.fl_write;
			defined &= ~(uint64_t)in.fl_undef;
			k += len[i++];
		}
		/* natively: jump to the epilogue; in the vcpu: hlt */
		memcpy(ram.base + phys(pc), b, (size_t)k);
		ram.base[phys(pc) + (unsigned)k] = 0xf4;
		e.p = b + k;
		e_jmp_to(&e, epilogue);
		for (s = 0; s < 6 && !bad; s++) {
			random_state(&r);
			for (i = 0; i < (int)DATA_N; i += 8)
				*(uint64_t *)(init + i) = value();
			memcpy(data, init, DATA_N);
			memcpy(gdata, init, DATA_N);
			for (i = 0; i < 5; i++)
				sigaction(sigs[i], &sa, &old[i]);
			run_native(&r, pc);
			for (i = 0; i < 5; i++)
				sigaction(sigs[i], &old[i], NULL);
			gv = run_guest(&r, pc, &g);
			bad = differ(&nat, &g, nat_vec, gv, defined);
			if (!bad && memcmp(data, gdata, DATA_N)) {
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
			for (i = 0, k = 0; i < n; k += len[i++])
				print_insn(pc + (unsigned)k, b + k, len[i]);
		if (bad) {
			fprintf(stderr, "difference after %llu executions, "
			    "state %#llx\n", (unsigned long long)done,
			    (unsigned long long)start_seed);
			return 1;
		}
		pc += 128;
		if (pc >= CODE + CODE_N) {
			pc = CODE;
			code_flush_all(cpu);
		}
		if (rnd() % 512 == 0)
			tlb_flush_all(cpu);
	}
	printf("%llu executions, %llu ended in an exception, no difference\n",
	    (unsigned long long)done, (unsigned long long)faults);
	return 0;
}
