/*
 * code-hot.h - sites that touch another page every time: after some hundreds
 * they look into the TLB themselves (cpu/x86/site.c).  The same rules hold.
 */

/* 4000 times k at RDI, in pages X and X2 in turn; then once at `last`. */
static int
hot_run(const char *name, uint64_t last, uint64_t pte, struct code k)
{
	what = name;
	begin64(0);
	memset(at(PA), 0, 0x4000);
	map4k(X, PA | 7);
	map4k(X + 0x1000, (PA + 0x1000) | 7);
	map4k(X2, (PA + 0x2000) | 7);
	map4k(X2 + 0x1000, pte);
	memset(at(CODE), 0x90, 256);
	put(CODE, ASM64("mov r14d, 4001\nmov rdi, r12\nmov r8, r12\n"
	    "mov r9, r13\nmov rbp, rsp"));
	put(CODE + 64, k);
	c->gpr[R12] = X + 0x100;
	c->gpr[R13] = X2 + 0x100;
	c->gpr[R15] = last;
	c->gpr[RSI] = CODE + 64;
	put(CODE + 128, ASM64("mov rsp, rbp\nxchg r8, r9\nmov rdi, r8\n"
	    "dec r14d\njz 2f\ncmp r14d, 1\njne 1f\nmov rdi, r15\n"
	    "1: jmp rsi\n2: hlt"));
	return run();
}

static void
hot_sites(void)
{
	unsigned i;

	group = "a site of many pages";
	/* reads, writes and both, flags dead and live */
	IS(hot_run("add to memory", X + 0x200, 0,
	    ASM64("add dword ptr [rdi], 1")), NONE);
	IS(r32(PA + 0x100), 2000);
	IS(r32(PA + 0x2100), 2000);
	IS(r32(PA + 0x200), 1);
	IS(hot_run("adc, flags through", X + 0x200, 0, ASM64("stc\n"
	    "mov eax, [rdi]\nadc ebx, eax\nsetc cl\nmov [rdi], ebx\n"
	    "setns dl")), NONE);
	IS(r32(PA + 0x200), (uint32_t)c->gpr[RBX]);
	IS(hot_run("flags through", X + 0x200, 0, ASM64("cmp r14d, 2000\n"
	    "mov eax, [rdi]\nlea rax, [rax + 1]\nmov [rdi], rax\n"
	    "mov eax, 0\nadc rbx, 0")), NONE);
	IS(c->gpr[RBX], 1999);
	IS(r32(PA + 0x100), 2000);
	IS(hot_run("push", X + 0x208, 0, ASM64("mov rsp, rdi\npush r14")),
	    NONE);
	IS(r64(PA + 0x200), 1);
	IS(hot_run("push, flags through", X + 0x208, 0, ASM64("cmp r14d, 2000\n"
	    "mov rsp, rdi\npush r14\nadc rbx, 0")), NONE);
	IS(c->gpr[RBX], 1999);
	IS(r64(PA + 0x200), 1);
	IS(hot_run("movups", X + 0x200, 0, ASM64("movq xmm0, r14\n"
	    "movups [rdi], xmm0\nmovups xmm1, [rdi]\nmovq rbx, xmm1")), NONE);
	IS(c->gpr[RBX], 1);
	/* an operand on two pages, then an absent second one */
	for (i = 1; i < 8; i++) {
		IS(hot_run("two pages", X + 0x1000 - i, 0,
		    ASM64("mov [rdi], r14\nadd rbx, [rdi]")), NONE);
		IS(r64(PA + 0x1000 - i), 1);
		IS(c->gpr[RBX], 4001 * 4002 / 2);
		IS(hot_run("two pages, flags through", X + 0x1000 - i, 0,
		    ASM64("stc\nmov [rdi], r14\nmov rax, [rdi]\n"
		    "adc rbx, rax")), NONE);
		IS(r64(PA + 0x1000 - i), 1);
		IS(c->gpr[RBX], 4001 * 4002 / 2 + 4001);
		IS(hot_run("the second absent", X2 + 0x1000 - i, 0,
		    ASM64("mov [rdi], r14")), VEC_PF);
		IS(c->cr2, X2 + 0x1000);
		IS(F_RIP, CODE + 64);
		IS(c->gpr[R14], 1);
		IS(hot_run("the second read-only", X2 + 0x1000 - i,
		    (PA + 0x3000) | 5, ASM64("stc\nmov [rdi], r14\n"
		    "adc ebx, 0")), VEC_PF);
		IS(c->cr2, X2 + 0x1000);
		IS(F_ERR, 3);
		IS(F_RIP, CODE + 65);
		IS(F_FLAGS & FL_CF, 1);
		IS(c->gpr[R14], 1);
		IS(r64(PA + 0x2ff8), 0);
	}
	IS(hot_run("absent", X2 + 0x1004, 0, ASM64("mov eax, [rdi]")), VEC_PF);
	IS(c->cr2, X2 + 0x1004);
	IS(hot_run("not canonical", 0x800000000000, 0, ASM64("mov eax, [rdi]")),
	    VEC_GP);
	IS(hot_run("not canonical, flags through", 0x800000000000, 0,
	    ASM64("stc\nmov eax, [rdi]\nadc ebx, 0")), VEC_GP);
	IS(c->gpr[RBX], 4000);
	/* its own code, behind it and in it */
	IS(hot_run("the next instruction", CODE + 64 + 5, 0,
	    ASM64("mov [rdi], r14b\nadd ebx, 7\nnop")), NONE);
	IS(c->gpr[RBX], 4000 * 7 + 1);
	IS(hot_run("the next instruction, flags through", CODE + 64 + 7, 0,
	    ASM64("stc\nmov [rdi], r14b\nadc rbx, 7\nnop")), NONE);
	IS(c->gpr[RBX], 4000 * 8 + 2);
	what = "";
}

/* The densest blocks fit into what is set aside for one. */
static void
hot_room(void)
{
	unsigned i, n, most = 0;

	group = "host bytes of a block";
	for (i = 0; i < 5; i++) {
		begin64(0);
		c->gpr[R9] = DATA - 0x12345678;
		IS(go(i == 0 ? ASM64("clc\n.rept 80\npushfq\n.endr\nhlt") :
		    i == 1 ? ASM64("clc\n.rept 80\n"
		    "push qword ptr fs:[r9 + r10 * 8 + 0x12345678]\n.endr\n"
		    "pushfq\nhlt") :
		    i == 2 ? ASM64("clc\n.rept 40\npushfq\n"
		    "push qword ptr fs:[r9 + r10 * 8 + 0x12345678]\n.endr\n"
		    "hlt") :
		    i == 3 ? ASM64("clc\n.rept 80\n"
		    "adc qword ptr fs:[r9 + r10 * 8 + 0x12345678], r10\n.endr\n"
		    "pushfq\nhlt") : ASM64("clc\n.rept 80\npush rax\n.endr\n"
		    "pushfq\nhlt")), NONE);
		for (n = 0; n < jit.nblk; n++)
			if (jit.blk[n].host_len > most)
				most = jit.blk[n].host_len;
	}
	/* a site that looks into the TLB takes a little more */
	IS(most < BLOCK_ROOM - BLOCK_ROOM / 8, 1);
}

static void
hot(void)
{
	hot_sites();
	hot_room();
}
