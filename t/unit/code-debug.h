/*
 * code-debug.h - single step and breakpoints (SDM 3B 17.2, 17.3): after which
 * instructions #DB comes, with which bits of DR6.
 */
enum { TRACE = DATA + 0x8000, TRACE_AT = DATA + 0x7ff8 };

/*
 * A #DB handler that notes rip and DR6 and goes on, with RF set; run k, and
 * compare with the list of words at its end: offset of rip | DR6 bits << 16.
 */
static void
traced(const char *name, struct code k, unsigned n)
{
	const char *want = k.p + k.n - 4 * n;
	uint32_t w;
	unsigned i;

	what = name;
	put(HANDLER2, ASM64("push rax\npush rbx\nmov rbx, 0x57ff8\n"
	    "add qword ptr [rbx], 16\nmov rbx, [rbx]\nmov rax, [rsp + 16]\n"
	    "mov [rbx - 16], rax\nmov rax, dr6\nmov [rbx - 8], rax\n"
	    "xor eax, eax\nmov dr6, rax\nor dword ptr [rsp + 32], 0x10000\n"
	    "pop rbx\npop rax\niretq"));
	put(HANDLER2 + 0x80, ASM64("inc r8\niretq"));
	set_idt(1, S_C64, HANDLER2, 0xee, 1);
	set_idt(0x41, S_C64, HANDLER2 + 0x80, 0xee, 2);
	w64(TSS + 0x2c, STACK0 - 0x2800);		/* IST2 */
	w64(TRACE_AT, TRACE);
	IS(go(k), NONE);
	IS((r64(TRACE_AT) - TRACE) / 16, n);
	for (i = 0; i < n; i++) {
		memcpy(&w, want + 4 * i, 4);
		IS(r64(TRACE + 16 * i) - CODE, w & 0xffff);
		IS(r64(TRACE + 16 * i + 8) & 0xe00f, w >> 16);
	}
	what = "";
}

/* k with TF set before it and cleared behind it: labels 10 to 10 + n - 1 are
 * where #DB is. */
#define TF_ON	"10: push 0x102\npopfq\n"
#define TF_OFF	"push 0x2\n50: popfq\n51: "
#define BS(l)	".long " #l "b - 10b + 0x40000000\n"
#define STEPS(text, list) ASM64(TF_ON text TF_OFF "hlt\n" list BS(50) BS(51))

static void
steps(void)
{
	group = "single step";
	begin64(0);
	traced("straight", STEPS("inc eax\n11: mov [rsp - 8], rax\n12: nop\n"
	    "13: ", BS(11) BS(12) BS(13)), 5);
	begin64(0);
	traced("jumps", STEPS("jmp 11f\nnop\n11: cmp eax, eax\n"
	    "12: jnz 13f\n13: jz 14f\nnop\n14: ", BS(11) BS(12) BS(13)
	    BS(14)), 6);
	begin64(0);
	traced("call, ret", STEPS("call 11f\n12: jmp 13f\n11: ret\n13: ",
	    BS(11) BS(12) BS(13)), 5);
	begin64(0);
	traced("a call of another page", STEPS("call 11f\n12: jmp 13f\n"
	    ".skip 4096\n11: ret\n13: ", BS(11) BS(12) BS(13)), 5);
	begin64(0);
	traced("pushes and pops", STEPS("push rax\n11: push rcx\n12: pop rcx\n"
	    "13: pop rax\n14: ", BS(11) BS(12) BS(13) BS(14)), 6);
	begin64(0);
	c->gpr[RCX] = 3;
	c->gpr[RSI] = c->gpr[RDI] = DATA;
	traced("rep movsb", STEPS("11: rep movsb\n12: ", BS(11) BS(11) BS(12)),
	    5);
	begin64(0);
	c->gpr[RCX] = 2;
	traced("loop", STEPS("11: loop 11b\n12: ", BS(11) BS(12)), 4);
	/* no #DB between mov ss and the next (SDM 3A 6.8.3) */
	begin64(0);
	c->gpr[RAX] = S_D32;
	traced("mov ss", STEPS("mov ss, eax\n11: nop\n12: nop\n13: ",
	    BS(12) BS(13)), 4);
	begin64(0);
	traced("sti", STEPS("sti\n11: cli\n12: ", BS(11) BS(12)), 4);
	begin64(0);
	traced("pushf, popf", STEPS("pushfq\n11: popfq\n12: ", BS(11) BS(12)),
	    4);
	begin64(0);
	traced("cpuid, rdtsc, cr3", STEPS("cpuid\n11: rdtsc\n12: mov rax, cr3\n"
	    "13: mov cr3, rax\n14: ", BS(11) BS(12) BS(13) BS(14)), 6);
	/* the handler runs without TF; IRETQ sets it again, and the #DB is
	 * behind the instruction after that */
	begin64(0);
	traced("int n", STEPS("int 0x41\n11: nop\n12: nop\n13: ",
	    BS(12) BS(13)), 4);
	IS(c->gpr[R8], 1);
	/* TF by iretq */
	begin64(0);
	traced("iretq", ASM64("10: mov eax, ss\npush rax\nlea rcx, [rsp + 8]\n"
	    "push rcx\npush 0x102\nmov eax, cs\npush rax\n"
	    "lea rcx, [rip + 20f]\npush rcx\niretq\n20: nop\n21: jmp 22f\n22: "
	    TF_OFF "hlt\n" BS(21) BS(22) BS(50) BS(51)), 4);
	/* code that was translated before, and is again behind */
	begin64(0);
	traced("in a loop that ran before", ASM64("10: mov edx, 3\n"
	    "12: mov ecx, 100\n11: add ebx, ecx\ndec ecx\njnz 11b\n"
	    "dec edx\njz 15f\ncmp edx, 1\njne 12b\nmov ecx, 2\npush 0x102\n"
	    "popfq\njmp 11b\n15: push 2\npopfq\n16: hlt\n"
	    /* twice round, down to the POPF */
	    BS(11) ".long 11b - 10b + 0x40000002\n"
	    ".long 11b - 10b + 0x40000004\n" BS(11)
	    ".long 11b - 10b + 0x40000002\n.long 11b - 10b + 0x40000004\n"
	    ".long 11b - 10b + 0x40000006\n.long 11b - 10b + 0x40000008\n"
	    BS(15) ".long 15b - 10b + 0x40000002\n" BS(16)), 11);
	IS(c->gpr[RBX], 2 * 5050 + 3);
	/* a fault is delivered, and stepped over when it is tried again */
	begin64(0);
	map4k(X, 0);
	put(HANDLER2 + 0x100, ASM64("push rax\nmov eax, 0x600007\n"
	    "mov [r13], rax\npop rax\nadd rsp, 8\niretq"));
	set_idt(14, S_C64, HANDLER2 + 0x100, 0xee, 2);
	c->gpr[R12] = X;
	c->gpr[R13] = PTE(X);
	traced("a page fault", STEPS("mov rax, [r12]\n11: nop\n12: ",
	    BS(11) BS(12)), 4);
}

#define DB(l, hit) ".long " #l "b - 10b + " #hit " * 0x10000\n"

static void
breakpoints(void)
{
	group = "instruction breakpoints";
	begin64(0);
	/* a loop before, with, and after */
	traced("in a loop", ASM64("10: lea rax, [rip + 11f]\nmov dr0, rax\n"
	    "mov r9d, 3\n12: mov ecx, 3\n11: add ebx, ecx\ndec ecx\njnz 11b\n"
	    "xor eax, eax\ncmp r9d, 3\nsete al\nmov dr7, rax\ndec r9d\n"
	    "jnz 12b\nhlt\n" DB(11, 1) DB(11, 1) DB(11, 1)), 3);
	IS(c->gpr[RBX], 18);
	begin64(0);
	traced("two, the second of an instruction's bytes", ASM64("10: "
	    "lea rax, [rip + 11f]\nmov dr1, rax\nlea rax, [rip + 12f + 1]\n"
	    "mov dr2, rax\nmov eax, 0x14\nmov dr7, rax\n11: inc ecx\n"
	    "12: inc edx\nxor eax, eax\nmov dr7, rax\nhlt\n" DB(11, 2)), 1);
	begin64(0);
	traced("on another page, called", ASM64("10: lea rax, [rip + 11f]\n"
	    "mov dr3, rax\nmov ecx, 5\n13: call 11f\ndec ecx\njnz 13b\n"
	    "mov eax, 0x80\nmov dr7, rax\ncall 11f\n12: call 11f\n"
	    "xor eax, eax\nmov dr7, rax\nhlt\n.skip 4096\n11: ret\n"
	    DB(11, 8) DB(11, 8)), 2);
	group = "data breakpoints";
	/* writes of 4 bytes at DATA + 4: L 3 << 18, RW 1 << 16 */
	begin64(0);
	c->gpr[R12] = DATA;
	traced("writes, 4 bytes", ASM64("10: lea rax, [r12 + 4]\n"
	    "mov dr0, rax\nmov eax, 0xd0001\nmov ecx, 4\n"
	    "12: mov [r12 + 4], ecx\ndec ecx\njnz 12b\nmov dr7, rax\n"
	    "mov [r12 + 3], al\nmov [r12 + 4], al\n13: mov [r12 + 7], al\n"
	    "14: mov [r12 + 8], al\nmov [r12 + 1], eax\n15: mov eax, "
	    "[r12 + 4]\nmov [r12], rax\n16: inc dword ptr [r12 + 6]\n17: nop\n"
	    "lock xadd [r12 + 4], ecx\n18: xor eax, eax\nmov dr7, rax\n"
	    "mov [r12 + 4], eax\nhlt\n" DB(13, 1) DB(14, 1) DB(15, 1)
	    DB(16, 1) DB(17, 1) DB(18, 1)), 6);
	begin64(0);
	c->gpr[R12] = DATA;
	traced("accesses, 8 bytes", ASM64("10: lea rax, [r12 + 8]\n"
	    "mov dr1, rax\nmov eax, 0xb00004\nmov dr7, rax\n"
	    "mov ecx, [r12 + 4]\nmov ecx, [r12 + 5]\n13: mov cl, [r12 + 15]\n"
	    "14: mov cl, [r12 + 16]\nmovups xmm0, [r12]\n15: lea rcx, "
	    "[r12 + 8]\nmov [rcx], ecx\n16: nop\nxor eax, eax\n"
	    "mov dr7, rax\nhlt\n" DB(13, 2) DB(14, 2) DB(15, 2) DB(16, 2)),
	    4);
	begin64(0);
	c->gpr[R12] = DATA + 0x100;
	traced("the stack", ASM64("10: lea rax, [r12 - 16]\nmov dr0, rax\n"
	    "mov rbp, rsp\nmov rsp, r12\nmov eax, 0xb0001\nmov dr7, rax\n"
	    "push rax\npush rcx\n13: push rdx\npop rdx\npop rcx\n"
	    "14: pop rax\npush rax\ncall 15f\n15: add rsp, 8\npush rax\n"
	    "16: lea rax, [rip + 17f]\nmov [rsp], rax\n18: ret\n"
	    "17: xor eax, eax\nmov dr7, rax\nmov rsp, rbp\nhlt\n"
	    DB(13, 1) DB(14, 1) DB(15, 1) DB(16, 1) DB(18, 1) DB(17, 1)), 6);
	begin64(0);
	c->gpr[RDI] = DATA;
	c->gpr[R12] = DATA;
	traced("rep stosb", ASM64("10: lea rax, [r12 + 2]\nmov dr0, rax\n"
	    "mov eax, 0x50001\nmov ecx, 6\nmov dr7, rax\n11: rep stosb\n"
	    "12: xor eax, eax\nmov dr7, rax\nhlt\n" DB(11, 1) DB(11, 1)), 2);
	IS(c->gpr[RDI], DATA + 6);
	begin64(0);
	c->gpr[R12] = DATA;
	traced("single step as well", ASM64("10: mov rax, r12\nmov dr0, rax\n"
	    "mov eax, 0x10001\nmov dr7, rax\npush 0x102\npopfq\n"
	    "mov [r12], al\n11: nop\n12: push 2\n13: popfq\n14: "
	    "xor eax, eax\nmov dr7, rax\nhlt\n" DB(11, 0x4001) DB(12, 0x4000)
	    DB(13, 0x4000) DB(14, 0x4000)), 4);
	/* RF goes with the next instruction: not in a later frame */
	group = "RF";
	begin64(0);
	put(HANDLER2, ASM64("pop rax\nmov eax, 0x600007\nmov [r13], rax\n"
	    "iretq"));
	set_idt(14, S_C64, HANDLER2, 0xee, 1);
	map4k(X, 0);
	c->gpr[R12] = X;
	c->gpr[R13] = PTE(X);
	IS(go(ASM64("mov ecx, [r12]\nnop\nint 0x50")), 0x50);
	IS(F_FLAGS & FL_RF, 0);
}

static void
debugging(void)
{
	steps();
	breakpoints();
}
