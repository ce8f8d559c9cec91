/*
 * diff-host.h - difftest's native side: load a state, run the code, keep what
 * comes out.  16- and 32-bit code runs in compatibility mode, in segments of
 * the process's LDT, entered and left by far jumps.
 */
#include <asm/ldt.h>
#include <sys/syscall.h>

#include "difftest.h"

#define USER32_CS	0x23
#define USER_SS		0x2b
#define USER_CS		0x33

static struct regs *const save = (struct regs *)SAVE;	/* native in and out */
static sigjmp_buf jb;
static struct regs nat;
static volatile int nat_vec;
static uint8_t *prologue, *epilogue;

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
	save->rip = (uint64_t)g[REG_RIP];
	save->cr2 = (uint64_t)g[REG_CR2];
	memcpy(save->x, uc->uc_mcontext.fpregs, 512);
	/* ymm halves: standard format, follow the legacy area and header */
	memcpy(save->x + 512, (uint8_t *)uc->uc_mcontext.fpregs + 512, 512);
	siglongjmp(jb, 1);
}

static void
set_ldt(unsigned l)
{
	struct segdesc s = segdesc(l);
	struct user_desc d = { .entry_number = l, .base_addr = s.base,
		.limit = s.limit == ~0u ? 0xfffff : s.limit,
		.seg_32bit = s.big, .contents = s.code ? 2 : s.down ? 1 : 0,
		.limit_in_pages = s.limit == ~0u, .useable = 1 };

	if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) != 0)
		err(1, "modify_ldt");
}

/* Straight-line code at fixed low addresses: load everything, go, store. */
static void
host_init(void)
{
	struct emit e;
	unsigned r;

	for (r = 0; r < L_N; r++)
		set_ldt(r);
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
	e8(&e, 0xff);			/* jmp far m16:32 */
	e_mem(&e, 5, H_NONE, H_NONE, 0,
	    SAVE + offsetof(struct regs, resume_off));
	e.p = epilogue = prologue + 2048;
	for (r = 0; r < 16; r++)
		e_op_mem(&e, 1, 0x89, r, H_NONE, H_NONE, (int32_t)(SAVE + 8 * r));
	e_ld(&e, 1, H_SP, H_NONE, H_NONE, SAVE + 0x1000);
	e8(&e, 0x9c);
	e8(&e, 0x8f);
	e_mem(&e, 0, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, flags));
	e8(&e, 0xfc);			/* cld */
	e_mov_ri32(&e, H_AX, 7);
	e_mov_ri32(&e, H_DX, 0);
	e8(&e, 0x48); e8(&e, 0x0f); e8(&e, 0xae);	/* xsave64 */
	e_mem(&e, 4, H_NONE, H_NONE, 0, SAVE + offsetof(struct regs, x));
	for (r = 16; r-- > 0;)
		if (r == H_BX || r == H_BP || r >= 12)
			e_pop(&e, r);
	e8(&e, 0xc3);
}

/* Write the way out of the code at `b`. */
static void
host_end(uint8_t *b)
{
	struct emit e = { .p = b };

	if (kind == V64) {
		e_jmp_to(&e, epilogue);
		return;
	}
	if (kind == V16 || kind == V16S)
		e8(&e, 0x66);
	e8(&e, 0xea);			/* jmp ptr16:32 */
	e32(&e, (uint32_t)(uintptr_t)epilogue);
	e8(&e, USER_CS);
	e8(&e, 0);
}

static uint16_t
host_sel(unsigned seg, uint64_t pc)
{
	int l = seg_ldt(seg, pc);

	if (l >= 0)
		return LDT_SEL((unsigned)l);
	return seg != CS ? USER_SS : kind == V64 ? USER_CS : USER32_CS;
}

static void
run_native(const struct regs *in, uint64_t pc)
{
	static const uint32_t mxcsr = 0x1f80;

	*save = *in;
	save->resume_off = (uint32_t)pc - seg_base(CS, pc);
	save->resume_cs = host_sel(CS, pc);
	nat_vec = -1;
	__asm__ volatile("mov %0, %%ds; mov %1, %%es; mov %2, %%ss;"
	    "mov %3, %%gs" : : "r"((uint32_t)host_sel(DS, pc)),
	    "r"((uint32_t)host_sel(ES, pc)), "r"((uint32_t)host_sel(SS, pc)),
	    "r"((uint32_t)(kind == V64 ? 0 : host_sel(GS, pc))));
	if (kind == V64)
		__asm__ volatile("wrgsbase %0" : : "r"((uint64_t)GS_BASE));
	if (sigsetjmp(jb, 0) == 0)
		((void (*)(void))prologue)();
	__asm__ volatile("mov %0, %%ss; mov %1, %%ds; mov %1, %%es;"
	    "mov %1, %%gs; wrgsbase %2" : : "r"(USER_SS), "r"(0), "r"(cpu));
	__asm__ volatile("fninit; ldmxcsr %0; cld" : : "m"(mxcsr));
	nat = *save;
}
