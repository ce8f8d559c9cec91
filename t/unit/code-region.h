/*
 * code-region.h - blocks with jumps inside (cpu/x86/lift.c) and accesses that
 * are checked together (cpu/x86/group.c): the same as one instruction after the
 * other.
 */

/* k at CODE, RDI = a; X and X + 0x1000 are PA and, if present, PA + 0x1000. */
static int
region_run(const char *name, uint64_t a, uint64_t pte2, struct code k)
{
	unsigned i;

	what = name;
	begin64(0);
	for (i = 0; i < 0x2000; i += 8)
		w64(PA + i, 0x1111111111111111ull * (i / 8 % 15) + i);
	map4k(X, PA | 7);
	map4k(X + 0x1000, pte2);
	c->gpr[RDI] = c->gpr[R10] = a;
	c->gpr[RAX] = c->gpr[RBX] = c->gpr[RCX] = c->gpr[RDX] = 0;
	return go(k);
}

static void
group_rights(void)
{
	/* the leader is not the lowest: CR2 is its own */
	IS(region_run("absent", X + 0x1100, 0, ASM64("mov eax, [rdi + 64]\n"
	    "mov ebx, [rdi]\nhlt")), VEC_PF);
	IS(c->cr2, X + 0x1140);
	IS(F_ERR, 0);
	IS(F_RIP, CODE);
	IS(region_run("absent, for writes", X + 0x1100, 0, ASM64(
	    "mov [rdi + 64], eax\nmov [rdi], ebx\nhlt")), VEC_PF);
	IS(c->cr2, X + 0x1140);
	IS(F_ERR, 2);
	/* reads first, then a write to a page that may be read */
	IS(region_run("read-only", X + 0x1100, (PA + 0x1000) | 5, ASM64(
	    "mov eax, [rdi]\nmov ebx, [rdi + 8]\nmov [rdi + 16], eax\n"
	    "mov [rdi + 24], ebx\nhlt")), VEC_PF);
	IS(c->cr2, X + 0x1110);
	IS(F_ERR, 3);
	IS(F_RIP, CODE + 5);
	IS(c->gpr[RBX], r32(PA + 0x1108));
	/* a range over the end of a page: only what is executed matters */
	IS(region_run("beyond the page, not executed", X + 0xfe0, 0, ASM64(
	    "mov rax, [rdi]\ntest rax, rax\njnz 1f\nmov rbx, [rdi + 64]\n"
	    "1: mov rcx, [rdi + 8]\nhlt")), NONE);
	IS(c->gpr[RCX], r64(PA + 0xfe8));
	IS(region_run("beyond the page", X + 0xfe0, 0, ASM64("mov rax, [rdi]\n"
	    "cmp rax, 77\njz 1f\nmov rbx, [rdi + 64]\n1: hlt")), VEC_PF);
	IS(c->cr2, X + 0x1020);
	IS(c->gpr[RAX], r64(PA + 0xfe0));
	IS(region_run("on two pages", X + 0xfe4, (PA + 0x1000) | 7, ASM64(
	    "mov rax, [rdi]\nmov [rdi + 24], rax\nmov rbx, [rdi + 24]\n"
	    "mov rcx, [rdi + 56]\nhlt")), NONE);
	IS(c->gpr[RBX], r64(PA + 0xfe4));
	IS(c->gpr[RCX], r64(PA + 0x101c));
	IS(r64(PA + 0xffc), c->gpr[RAX]);
	IS(region_run("not canonical", 0x7fffffffffe0, 0, ASM64(
	    "mov rax, [rdi + 64]\nmov rbx, [rdi]\nhlt")), VEC_GP);
	IS(F_RIP, CODE);
}

static void
group_bases(void)
{
	IS(region_run("the base moves", X + 0x100, (PA + 0x1000) | 7, ASM64(
	    "mov eax, [rdi]\nmov ebx, [rdi + 8]\nadd rdi, 4096\n"
	    "mov ecx, [rdi + 8]\nmov rdi, [rdi + 16]\nhlt")), NONE);
	IS(c->gpr[RAX], r32(PA + 0x100));
	IS(c->gpr[RBX], r32(PA + 0x108));
	IS(c->gpr[RCX], r32(PA + 0x1108));
	IS(c->gpr[RDI], r64(PA + 0x1110));
	IS(region_run("the base is written without being named", X, 0, ASM64(
	    "mov rdx, rdi\nmov rax, 2\nlea rcx, [rdi + 8]\nshr rcx\n"
	    "mov ebx, [rdx + 16]\nmul rcx\nmov rdx, rax\nmov esi, [rdx + 16]\n"
	    "mov rax, [rdx]\nhlt")), NONE);
	IS(c->gpr[RBX], r32(PA + 16));
	IS(c->gpr[RSI], r32(PA + 24));
	IS(c->gpr[RAX], r64(PA + 8));
	IS(region_run("a base in memory", X + 0x200, 0, ASM64(
	    "mov r9, [r10]\nmov [r10 + 8], r9\nadd [r10 + 16], r9\n"
	    "mov r11, [r10 + 16]\nmov r10, [r10 + 8]\nhlt")), NONE);
	IS(c->gpr[R10], c->gpr[R9]);
	IS(c->gpr[R11], r64(PA + 0x210));
	IS(region_run("rip", X, 0, ASM64("mov eax, [rip + 1f]\n"
	    "mov ebx, [rip + 1f + 4]\nadd eax, [rip + 1f + 8]\nhlt\n"
	    ".balign 64\n1: .long 1, 2, 3")), NONE);
	IS(c->gpr[RAX], 4);
	IS(c->gpr[RBX], 2);
	IS(region_run("flags through", X + 0x100, 0, ASM64("stc\n"
	    "mov rax, [rdi]\nmov rbx, [rdi + 8]\nmov [rdi + 16], rax\n"
	    "mov [rdi + 24], rbx\nsetc cl\nadc rdx, 0\nhlt")), NONE);
	IS(c->gpr[RDX], 1);
	IS(c->gpr[RCX] & 0xff, 1);
	IS(r64(PA + 0x110), c->gpr[RAX]);
	/* a new mapping between two accesses */
	what = "invlpg between";
	begin64(0);
	map4k(X, PA | 7);
	w64(PA, 1);
	w64(PA + 8, 2);
	w64(PB, 10);
	w64(PB + 8, 20);
	c->gpr[RDI] = X;
	c->gpr[RSI] = PTE(X);
	c->gpr[RDX] = PB | 7;
	IS(go(ASM64("mov rax, [rdi]\nmov rbx, [rdi + 8]\nmov [rsi], rdx\n"
	    "invlpg [rdi]\nadd rax, [rdi]\nadd rbx, [rdi + 8]\nhlt")), NONE);
	IS(c->gpr[RAX], 11);
	IS(c->gpr[RBX], 22);
}

/* A prologue, a body and an epilogue, RSP = sp. */
static int
frame_run(const char *name, uint64_t sp, uint64_t pte, uint64_t pte2)
{
	what = name;
	begin64(0);
	memset(at(PA), 0, 0x2000);
	map4k(X, pte);
	map4k(X + 0x1000, pte2);
	c->gpr[RSP] = sp;
	c->gpr[RAX] = 1;
	c->gpr[RBX] = 2;
	c->gpr[R9] = 3;
	c->gpr[RDI] = 4;
	c->gpr[RCX] = 0;
	return go(ASM64("push rax\nmov ebp, eax\npush r9\npush 77\npush rbx\n"
	    "sub rsp, 24\nmov [rsp + 8], rdi\nadd [rsp + 8], rdi\n"
	    "mov rsi, [rsp + 8]\nlea rsp, [rsp + 16]\nmov [rsp], rsi\n"
	    "add rsp, 8\npop rbx\npop rdx\npop r10\npush rsp\npop rcx\n"
	    "pop r11\nhlt"));
}

static void
group_stack(void)
{
	unsigned i;

	for (i = 0; i <= 80; i += 4) {
		IS(frame_run("a frame on two pages", X + 0x1000 + i, PA | 7,
		    (PA + 0x1000) | 7), NONE);
		IS(c->gpr[RSP], X + 0x1000 + i);
		IS(c->gpr[RSI], 8);
		IS(c->gpr[RBX], 2);
		IS(c->gpr[RDX], 77);
		IS(c->gpr[R10], 3);
		IS(c->gpr[RCX], X + 0x1000 + i - 8);
		IS(c->gpr[R11], 1);
	}
	IS(frame_run("the lower page absent", X + 0x1010, 0, (PA + 0x1000) | 7),
	    VEC_PF);
	IS(c->cr2, X + 0xff8);
	IS(F_RSP, X + 0x1000);
	IS(F_RIP, CODE + 5);
	IS(r64(PA + 0x1000), 3);
	IS(frame_run("absent", X + 0x1800, PA | 7, 0), VEC_PF);
	IS(c->cr2, X + 0x17f8);
	IS(F_RSP, X + 0x1800);
	IS(F_RIP, CODE);
}

static void
group_code(void)
{
	/* stores beside this very code, in one group and across it */
	IS(region_run("beside code", CODE + 0x800, 0, ASM64(
	    "mov [rdi], rdi\nmov [rdi + 8], rax\nmov rbx, [rdi]\n"
	    "mov [rdi + 16], rbx\nhlt")), NONE);
	IS(r64(CODE + 0x810), CODE + 0x800);
	IS(region_run("the code itself", CODE, 0, ASM64(
	    "mov al, 0x90\nmov [rdi + 32], al\nmov [rdi + 33], al\n"
	    "jmp 1f\n.fill 32 - (. - 771b), 1, 0xf4\n1: ud2\nhlt")), NONE);
	/* 4000 times, pages in turn: through the TLB */
	IS(hot_run("hot", X + 0x200, 0, ASM64("mov rax, [rdi]\n"
	    "add rax, 1\nmov [rdi + 8], rax\nmov [rdi], rax\n"
	    "add [rdi + 16], rax\nmov rcx, [rdi + 8]\nadd rbx, rcx\n")), NONE);
	IS(r64(PA + 0x100), 2000);
	IS(r64(PA + 0x2108), 2000);
	IS(r64(PA + 0x2110), 2000 * 2001 / 2);
	IS(c->gpr[RBX], 2 * 2000 * 2001 / 2 + 1);
	IS(hot_run("hot, the second page absent", X2 + 0xffc, 0, ASM64(
	    "stc\nmov eax, [rdi]\nadc ebx, [rdi + 4]\n")), VEC_PF);
	IS(c->cr2, X2 + 0x1000);
	IS(F_RIP, CODE + 64 + 3);
	IS(F_FLAGS & FL_CF, 1);
}

static void
region_jumps(void)
{
	unsigned i, n;

	/* one of four ways, and what is common to all */
	for (i = 0; i < 4; i++) {
		what = "a choice";
		begin64(0);
		c->gpr[RCX] = i;
		c->gpr[RAX] = 0;
		IS(go(ASM64("test cl, 1\njz 1f\nadd eax, 1\n"
		    "cmp cl, 3\njne 2f\nadd eax, 0x100\njmp 3f\n"
		    "1: test cl, cl\nje 3f\nadd eax, 0x10000\n"
		    "2: add eax, 0x10\n3: lea rax, [rax + rax]\nhlt")), NONE);
		n = i == 0 ? 0 : i == 1 ? 0x11 : i == 2 ? 0x10010 : 0x101;
		IS(c->gpr[RAX], 2 * n);
	}
	/* flags that pass a place jumped to, put away above it or not */
	for (i = 0; i < 4; i++) {
		IS(region_run("flags at a join", X + 0x100, 0, ASM64("hlt")),
		    NONE);
		begin64(0);
		map4k(X, PA | 7);
		c->gpr[RDI] = X + 0x100;
		c->gpr[RCX] = i;
		IS(go(ASM64("cmp ecx, 2\nje 1f\nmov eax, [rdi]\n"
		    "mov ebx, [rdi + 0x300]\nmov eax, [rdi + 0x600]\n"
		    "1: setb dl\nsete dh\nmov esi, [rdi]\nhlt")), NONE);
		IS(c->gpr[RDX] & 0xffff, (i < 2) | (i == 2) << 8);
	}
	/* a function: its end in the middle, a loop, an early way out */
	for (i = 0; i < 5; i++) {
		what = "a function";
		begin64(0);
		c->gpr[RCX] = i;
		IS(go(ASM64("call 1f\nhlt\n1: test ecx, ecx\njnz 2f\n"
		    "mov eax, 7\nret\n2: xor eax, eax\n3: add eax, ecx\n"
		    "cmp eax, 100\nja 4f\ndec ecx\njnz 3b\nret\n"
		    "4: mov eax, 99\nret")), NONE);
		IS(c->gpr[RAX], i ? i * (i + 1) / 2 : 7);
	}
	/* a jump to the middle of what is a block already */
	what = "into the middle";
	begin64(0);
	c->gpr[RCX] = 3;
	c->gpr[RAX] = 0;
	IS(go(ASM64("test eax, eax\njz 1f\nadd eax, 1000\n1: add eax, 1\n"
	    "2: add eax, 10\ndec ecx\njnz 2b\nhlt")), NONE);
	IS(c->gpr[RAX], 31);
	/* a fault in the middle says where */
	IS(region_run("a fault behind jumps", X + 0x1000, 0, ASM64(
	    "xor eax, eax\njz 1f\nnop\n1: jnz 2f\nmov eax, [rdi]\n2: hlt")),
	    VEC_PF);
	IS(F_RIP, CODE + 7);
	IS(F_FLAGS & FL_ZF, FL_ZF);
}

static void
regions(void)
{
	group = "several accesses, one check";
	group_rights();
	group_bases();
	group_stack();
	group_code();
	group = "jumps inside a block";
	region_jumps();
	what = "";
}
