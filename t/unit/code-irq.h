/*
 * code-irq.h - interrupts: after which instruction (SDM 3A 6.8.3), and that
 * every loop lets them in.
 */

/* An interrupt waits with IF = 0; the program lets it in. */
static void
irq_after(const char *name, unsigned rip, struct code k)
{
	unsigned warm;

	what = name;
	for (warm = 0; warm < 2; warm++) {
		begin64(0);
		/* the same code before, when nothing waits */
		if (warm) {
			IS(go(k), NONE);
			c->rip = CODE;
			c->eflags = 2;
			c->gpr[RBX] = 0;
		}
		irq_next = 0x40;
		c->irq_ready = true;
		IS(go(k), 0x40);
		IS(F_RIP, CODE + rip);
		IS(!!(F_FLAGS & FL_IF), 1);
		IS(c->eflags & FL_IF, 0);
	}
	what = "";
}

static void
irq_shadows(void)
{
	group = "an interrupt that waits";
	irq_after("sti", 3, ASM64("sti\ninc ebx\ninc ecx\nhlt"));
	irq_after("sti in a block", 7, ASM64("inc ebx\ninc ecx\nsti\ninc ebx\n"
	    "inc ecx\nhlt"));
	irq_after("sti, jmp", 4 + 3, ASM64("sti\njmp 1f\n.skip 4, 0x90\n"
	    "1: inc ecx\nhlt"));
	irq_after("sti, cli, sti", 5, ASM64("sti\ncli\nsti\ninc ebx\n"
	    "inc ecx\nhlt"));
	irq_after("sti, nop, cli", 2, ASM64("sti\nnop\ncli\ninc ecx\nhlt"));
	irq_after("sti, hlt", 2, ASM64("sti\nhlt\ninc ecx\nhlt"));
	irq_after("popf", 6, ASM64("push 0x202\npopfq\ninc ecx\nhlt"));
	irq_after("mov ss", 7, ASM64("mov ecx, ss\nsti\nmov ss, ecx\n"
	    "inc ebx\ninc ebx\nhlt"));
}

/* A loop that never ends but by an interrupt, a while from now. */
static void
irq_loop(const char *name, struct code k)
{
	what = name;
	begin64(0);
	put(CODE + 0x1000, ASM64("inc edx\njmp rdi"));
	put(CODE + 0x1010, ASM64("inc edx\nret"));
	c->gpr[RSI] = CODE + 0x1000;
	c->gpr[RDI] = CODE;
	c->gpr[R12] = CODE + 0x1010;
	c->gpr[R13] = DATA;
	c->eflags = 2 | FL_IF;
	alarm_irq = 0x40;
	IS(go(k), 0x40);
	IS(F_RIP >> 13, CODE >> 13);
	IS(!!(F_FLAGS & FL_IF), 1);
	what = "";
}

static void
irq_loops(void)
{
	group = "an interrupt into a loop";
	irq_loop("jmp", ASM64("1: jmp 1b"));
	irq_loop("jcc", ASM64("xor eax, eax\n1: inc ecx\ntest eax, eax\n"
	    "jz 1b\nhlt"));
	irq_loop("jcc, forward", ASM64("1: test rsi, rsi\njnz 2f\nhlt\n2: nop\n"
	    "jmp 1b"));
	irq_loop("jcc, flags through", ASM64("stc\n1: lea rcx, [rcx + 1]\n"
	    "mov eax, [rsp]\njc 1b\nhlt"));
	irq_loop("jrcxz", ASM64("1: jrcxz 1b\nhlt"));
	irq_loop("loop", ASM64("1: loop 1b\njmp 1b"));
	irq_loop("loopne", ASM64("1: loopne 1b\njmp 1b"));
	irq_loop("indirect", ASM64("jmp rdi"));
	irq_loop("indirect, memory", ASM64("mov [r13], rdi\njmp [r13]"));
	irq_loop("two pages", ASM64("jmp rsi"));
	irq_loop("calls", ASM64("1: call r12\njmp 1b"));
	irq_loop("call backward", ASM64("mov rbp, rsp\njmp 2f\n"
	    "1: mov rsp, rbp\n2: call 1b"));
	irq_loop("call forward, indirect back", ASM64("mov rbp, rsp\n"
	    "lea rax, [rip]\n1: call 2f\n2: mov rsp, rbp\njmp rax"));
	irq_loop("push, ret", ASM64("push rdi\nret"));
	irq_loop("push, ret, flags through", ASM64("lea rax, [rdi]\npush rax\n"
	    "mov ecx, [rsp]\nret"));
	irq_loop("push, ret n", ASM64("mov rsp, [rip + 1f]\npush rdi\nret 8\n"
	    "1: .quad 0x37000"));
	irq_loop("pops, ret", ASM64("push rdi\npush rdi\npush rdi\npop rax\n"
	    "pop rcx\nret"));
	irq_loop("a retpoline", ASM64("call 2f\n1: pause\nlfence\njmp 1b\n"
	    "2: mov [rsp], rdi\nret"));
	irq_loop("iretq", ASM64("mov eax, ss\npush rax\nlea rcx, [rsp + 8]\n"
	    "push rcx\npush 0x202\nmov eax, cs\npush rax\npush rdi\niretq"));
	irq_loop("far return", ASM64("mov eax, cs\npush rax\npush rdi\nretfq"));
	irq_loop("sti, nop, cli", ASM64("1: sti\nnop\ncli\njmp 1b"));
	irq_loop("popf, nop, popf", ASM64("1: push 0x202\npopfq\nnop\n"
	    "push 2\npopfq\njmp 1b"));
	irq_loop("rep stosb", ASM64("2: mov ecx, 4096\nmov rdi, r13\n"
	    "rep stosb\njmp 2b"));
	irq_loop("an instruction on two pages", ASM64("jmp 2f\n.skip 0xffb\n"
	    "2: jmp 3f\n3: jmp 2b"));
}

/* 32- and 16-bit code; the frame is on the program's stack. */
static void
irq_loop_old(const char *name, bool wide, struct code k)
{
	what = name;
	if (wide)
		begin32();
	else
		begin16();
	c->gpr[RDI] = wide ? CODE : 0;
	c->eflags = 2 | FL_IF;
	alarm_irq = 0x40;
	IS(go(k), 0x40);
	what = "";
}

static void
irq_loops_old(void)
{
	group = "an interrupt into a loop of 32-bit code";
	irq_loop_old("jmp", true, ASM32("1: jmp 1b"));
	irq_loop_old("loop", true, ASM32("1: loop 1b\njmp 1b"));
	irq_loop_old("indirect", true, ASM32("jmp edi"));
	irq_loop_old("push, ret", true, ASM32("push edi\nret"));
	irq_loop_old("sti, nop, cli", true, ASM32("1: sti\nnop\ncli\njmp 1b"));
	irq_loop_old("far return", true, ASM32("push cs\npush edi\nretf"));
	group = "an interrupt into a loop of real mode";
	irq_loop_old("jmp", false, ASM16("1: jmp 1b"));
	irq_loop_old("loop", false, ASM16("1: loop 1b\njmp 1b"));
	irq_loop_old("jcxz", false, ASM16("1: jcxz 1b\n"));
	irq_loop_old("indirect", false, ASM16("jmp di"));
	irq_loop_old("push, ret", false, ASM16("push di\nret"));
	irq_loop_old("sti, nop, cli", false, ASM16("1: sti\nnop\ncli\njmp 1b"));
	irq_loop_old("far return", false, ASM16("push cs\npush di\nretf"));
}

static void
interrupts(void)
{
	irq_shadows();
	irq_loops();
	irq_loops_old();
}
