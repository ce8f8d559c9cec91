/*
 * code-calls.h - calls and returns that are the host's (cpu/x86/calls.c): a
 * return goes where the guest's stack says, whoever was called.
 */

/* Deeper than the stack of calls: the way down counts, so does the way up. */
static void
calls_deep(void)
{
	what = "recursion";
	begin64(0);
	c->gpr[RSP] = PA + 0x80000;
	IS(go(ASM64("mov ecx, 20000\nxor ebx, ebx\nxor edx, edx\ncall 1f\nhlt\n"
	    "1: inc ebx\ndec ecx\njz 2f\ncall 1b\n2: inc edx\nret")), NONE);
	IS(c->gpr[RBX], 20000);
	IS(c->gpr[RDX], 20000);
	IS(c->gpr[RSP], PA + 0x80000);
	what = "recursion, live flags and pushes";
	begin64(0);
	c->gpr[RSP] = PA + 0x80000;
	IS(go(ASM64("mov ecx, 9000\nxor ebx, ebx\nclc\ncall 1f\nhlt\n"
	    "1: push rcx\ninc rbx\nlea rcx, [rcx - 1]\njrcxz 2f\nstc\n"
	    "push r9\ncall 1b\npop r9\nadc rbx, 0\n2: pop rcx\ncmp rcx, -1\n"
	    "ret")), NONE);
	IS(c->gpr[RBX], 9000 + 8999);
	IS(c->gpr[RCX], 9000);
	what = "recursion, 32 bits";
	begin32();
	c->gpr[RSP] = PA + 0x80000;
	IS(go(ASM32("mov ecx, 9000\nxor ebx, ebx\nxor edx, edx\ncall 1f\nhlt\n"
	    "1: inc ebx\ndec ecx\njz 2f\ncall 1b\n2: inc edx\nret")), NONE);
	IS(c->gpr[RDX], 9000);
	what = "calls that never return";
	begin64(0);
	IS(go(ASM64("mov ecx, 50000\n1: call 2f\n2: pop rax\nadd rbx, rax\n"
	    "dec ecx\njnz 1b\nhlt")), NONE);
	IS(c->gpr[RAX], CODE + 10);
}

/* 30 times, so that everything is linked. */
#define CALLS(body)	ASM64("mov ecx, 30\nxor ebx, ebx\n7: " body \
	"\ndec ecx\njnz 7b\nhlt\n")

static void
calls_other(const char *name, uint64_t rbx, struct code k)
{
	what = name;
	begin64(0);
	c->gpr[R12] = X;
	c->gpr[R13] = PTE(X);
	c->gpr[R14] = PA | 7;
	c->gpr[R15] = PB | 7;
	/* PB has more between call and hlt than PA */
	put(PA, ASM64("add ebx, 1\ncall r8\nadd ebx, 2\nret"));
	put(PB, ASM64("add ebx, 1\ncall r8\nadd ebx, 4\nret"));
	map4k(X, PA | 7);
	IS(go(k), NONE);
	IS(c->gpr[RBX], rbx);
}

static void
calls_return(void)
{
	calls_other("return to another place", 30 * 11, CALLS("call 1f\nadd ebx, 1\n"
	    "add ebx, 10\njmp 2f\n1: add qword ptr [rsp], 3\nadd ebx, 1\nret\n2:"));
	calls_other("a frame thrown away", 30 * 6, CALLS("call 1f\nadd ebx, 2\n"
	    "jmp 3f\n1: call 2f\nadd ebx, 1000\n2: add rsp, 8\nadd ebx, 4\nret\n"
	    "3:"));
	calls_other("stacks that are exchanged", 30 * 7, CALLS("mov r8, rsp\n"
	    "lea rax, [rip + 2f]\nlea r9, [rsp - 0x100]\nmov [r9], rax\n"
	    "call 1f\nadd ebx, 1\njmp 3f\n1: mov r10, rsp\nmov rsp, r9\n"
	    "add ebx, 2\nret\n2: add ebx, 4\nmov rsp, r10\nret\n3:"));
	calls_other("ret with a number", 30 * 3, CALLS("push rax\npush rax\n"
	    "call 1f\nadd ebx, 1\njmp 2f\n1: add ebx, 2\nret 16\n2:"));
	calls_other("an interrupt's return", 30 * 3, CALLS("mov r8, ss\n"
	    "mov r9, rsp\npushfq\npop r10\nmov r11, cs\ncall 1f\nadd ebx, 1\n"
	    "jmp 2f\n1: pop rax\nadd ebx, 2\npush r8\npush r9\npush r10\n"
	    "push r11\npush rax\niretq\n2:"));
	calls_other("flags pass both ways", 30 * 3, CALLS("stc\ncall 1f\n"
	    "adc ebx, 0\njmp 2f\n1: adc ebx, 1\nstc\nret\n2:"));
}

static void
calls_change(void)
{
	calls_other("as it was", 30 * 3, CALLS("lea r8, [rip + 1f]\ncall r12\n"
	    "jmp 2f\n1: ret\n2:"));
	/* half of the times, when all is linked */
	calls_other("the page returned to is another", 15 * 3 + 15 * 5, CALLS(
	    "mov [r13], r14\ninvlpg [r12]\nlea r8, [rip + 1f]\ncall r12\n"
	    "jmp 2f\n1: mov rax, r14\ncmp ecx, 15\ncmovbe rax, r15\n"
	    "mov [r13], rax\ninvlpg [r12]\nret\n2:"));
	calls_other("the same by CR3", 15 * 3 + 15 * 5, CALLS("mov [r13], r14\n"
	    "mov rax, cr3\nmov cr3, rax\nlea r8, [rip + 1f]\ncall r12\n"
	    "jmp 2f\n1: mov rax, r14\ncmp ecx, 15\ncmovbe rax, r15\n"
	    "mov [r13], rax\nmov rax, cr3\nmov cr3, rax\nret\n2:"));
	/* the immediate of the addition behind the call */
	calls_other("the code returned to is written", 29 * 30 / 2 + 30,
	    CALLS("lea r8, [rip + 1f]\nmov r11, r12\nlea eax, [rcx - 2]\n"
	    "call r12\njmp 2f\n1: lea eax, [rcx - 1]\nmov [r11 + 8], al\nret\n"
	    "2:"));
}

static void
calls(void)
{
	calls_deep();
	calls_return();
	calls_change();
	what = "";
}
