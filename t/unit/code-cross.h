/*
 * code-cross.h - instructions, operands and stack runs on two pages, one of
 * which is not to be had: which fault, where, and what took effect (SDM 3A 6.5:
 * a fault leaves the state of before the instruction).
 */

/* An instruction at X + off whose second page, X + 0x1000, is `pte`. */
static void
cross_code(const char *name, unsigned off, unsigned cpl, uint64_t pte, int vec,
    uint64_t err, unsigned rip, struct code k)
{
	unsigned warm;

	for (warm = 0; warm < 2; warm++) {
		what = name;
		begin64(cpl);
		memset(at(PA), 0x90, 0x2000);
		put(PA + off, k);
		put(PA + 0x1800, ASM64("hlt"));
		map4k(X, PA | 7);
		map4k(X + 0x1000, (PA + 0x1000) | 7);
		c->rip = X + off;
		if (warm) {
			run();
			memset(c->gpr, 0, sizeof(c->gpr));
			c->cpl = (uint8_t)cpl;
			c->seg[CS] = seg(cpl ? S_U64 | 3 : S_C64);
			c->seg[SS] = seg(cpl ? S_UD | 3 : S_D32);
			c->eflags = 2;
			c->rip = X + off;
			x86_mode(c);
		}
		map4k(X + 0x1000, pte);
		IS(run(), vec);
		IS(F_RIP, X + rip);
		IS(c->gpr[RBX], 1);
		if (vec == VEC_PF) {
			IS(c->cr2, X + 0x1000);
			IS(F_ERR, err);
			map4k(X + 0x1000, (PA + 0x1000) | 7);
			IS(resume(), cpl ? VEC_GP : NONE);
			IS(c->gpr[RBX], 1);
			if (cpl)
				IS(F_RIP, X + 0x1800);
		}
	}
	what = "";
}

static void
cross_fetch(void)
{
	uint64_t nx = (PA + 0x1000) | 7 | 1ull << 63;

	group = "the second page of an instruction";
	cross_code("absent, mov", 0xffc, 0, 0, VEC_PF, 0x10, 0xffe,
	    ASM64("inc ebx\nmov eax, 0x90909090"));
	cross_code("absent, mov, user", 0xffc, 3, 0, VEC_PF, 0x14, 0xffe,
	    ASM64("inc ebx\nmov eax, 0x90909090"));
	cross_code("no execution, user", 0xffc, 3, nx, VEC_PF, 0x15, 0xffe,
	    ASM64("inc ebx\nmov eax, 0x90909090"));
	cross_code("supervisor's, user", 0xffc, 3, (PA + 0x1000) | 3, VEC_PF,
	    0x15, 0xffe, ASM64("inc ebx\nmov eax, 0x90909090"));
	cross_code("one byte, 0f", 0xffd, 0, 0, VEC_PF, 0x10, 0xfff,
	    ASM64("inc ebx\nsete al"));
	cross_code("prefixes", 0xffa, 0, 0, VEC_PF, 0x10, 0xffc,
	    ASM64("inc ebx\n.byte 0x66, 0x2e, 0x66, 0x2e\nnop"));
	cross_code("jcc, not taken", 0xffc, 0, 0, VEC_PF, 0x10, 0xffe,
	    ASM64("inc ebx\n.byte 0x0f, 0x84\n.long 0x10"));
	cross_code("jmp", 0xffc, 0, 0, VEC_PF, 0x10, 0xffe,
	    ASM64("inc ebx\n.byte 0xe9, 0x10\n.byte 0, 0, 0"));
	/* the next instruction, not this one */
	cross_code("none of it there", 0xffe, 0, 0, VEC_PF, 0x10, 0x1000,
	    ASM64("inc ebx"));
	cross_code("none of it there, a jump", 0xff9, 0, 0, VEC_PF, 0x10,
	    0x1000, ASM64("inc ebx\njmp 1f\n.byte 0xf4\n1: xor eax, eax"));
	/* what is wrong already on the first page is found first */
	cross_code("#UD on the first", 0xffc, 0, 0, VEC_UD, 0, 0xffe,
	    ASM64("inc ebx\nud2"));
	cross_code("too long", 0xff6, 0, (PA + 0x1000) | 7, VEC_GP, 0, 0xff8,
	    ASM64("inc ebx\n.skip 15, 0x66\nnop"));
}

/*
 * An operand of `size` at X2 + 0x1000 - lo, which is RDI: one of its pages is
 * not for `op`.  Nothing may have happened.
 */
static void
cross_operand(const char *name, unsigned size, int write, struct code k)
{
	static uint8_t was[0x2000];
	unsigned lo, how, warm;
	char msg[128];

	what = msg;
	for (lo = 1; lo < size; lo += size > 16 ? 7 : 1)
	for (how = 0; how < 4; how++)		/* page; absent, read-only */
	for (warm = 0; warm < 2; warm++) {
		bool second = how & 1, ro = how & 2;
		uint64_t regs[16], flags, page = X2 + (second ? 0x1000 : 0);
		uint64_t pte = PA + (second ? 0x1000 : 0);

		if (ro && !write)
			continue;
		snprintf(msg, sizeof(msg), "%s, %u bytes on the first, %s is "
		    "%s%s", name, lo, second ? "second" : "first", ro ?
		    "read-only" : "absent", warm ? ", known" : "");
		begin64(3);
		memset(at(PA), 0x5a, 0x2000);
		map4k(X2, PA | 7);
		map4k(X2 + 0x1000, (PA + 0x1000) | 7);
		memset(at(CODE), 0x90, 64);
		put(CODE, ASM64("mov eax, 0x5a5a5a5a\nmovd xmm1, eax\n"
		    "pshufd xmm1, xmm1, 0\nfninit\ncmp ebx, -1\n"
		    "mov [rsp - 128], esp"));
		put(CODE + 64, k);
		put(CODE + 64 + k.n, ASM64("mov r10d, 77\nhlt"));
		c->gpr[RDI] = X2 + 0x1000 - lo;
		c->gpr[R9] = c->gpr[RDI] + size;
		c->gpr[RBX] = 7;
		c->gpr[RCX] = 0x1122334455667788;
		if (warm) {
			/* the same site on both pages */
			memcpy(regs, c->gpr, sizeof(regs));
			c->gpr[RDI] = X2 + 0x100;
			c->gpr[R9] = c->gpr[RDI] + size;
			run();
			memcpy(c->gpr, regs, sizeof(regs));
			c->gpr[RDI] = X2 + 0x1100;
			c->gpr[R9] = c->gpr[RDI] + size;
			long64(3);
			map4k(X2, PA | 7);
			map4k(X2 + 0x1000, (PA + 0x1000) | 7);
			handlers();
			memcpy(c->gpr, regs, sizeof(regs));
			c->rip = CODE;
			run();
			long64(3);
			map4k(X2, PA | 7);
			map4k(X2 + 0x1000, (PA + 0x1000) | 7);
			handlers();
			memcpy(c->gpr, regs, sizeof(regs));
			c->rip = CODE;
			memset(at(PA), 0x5a, 0x2000);
		}
		map4k(page, ro ? pte | 5 : 0);
		IS(run(), VEC_PF);
		IS(c->cr2, second ? X2 + 0x1000 : c->gpr[RDI]);
		IS(F_ERR, 4u | (ro ? 1 : 0) | (write ? 2 : 0));
		IS(c->gpr[R10], 0);
		memset(was, 0x5a, sizeof(was));
		IS(memcmp(was, at(PA), sizeof(was)), 0);
		flags = F_FLAGS;
		IS(flags & FL_STATUS, FL_CF | FL_AF);
		map4k(page, pte | 7);
		IS(resume(), VEC_GP);
		IS(c->gpr[R10], 77);
		if (write)
			IS(memcmp(was, at(PA), sizeof(was)) != 0, 1);
	}
	what = "";
}

static void
cross_operands(void)
{
	group = "an operand on two pages";
#define OPERAND(size, write, text) \
	cross_operand(text, size, write, ASM64(text "\nlahf\nseto al"))
	OPERAND(8, 0, "mov rax, [rdi]");
	OPERAND(4, 0, "mov eax, [rdi]");
	OPERAND(2, 0, "movzx eax, word ptr [rdi]");
	OPERAND(16, 0, "movups xmm0, [rdi]");
	OPERAND(32, 0, "vmovups ymm0, [rdi]");
	OPERAND(10, 0, "fld tbyte ptr [rdi]");
	OPERAND(8, 0, "lea rsp, [rdi]\npop rax");
	OPERAND(8, 0, "mov rsi, rdi\nlodsq");
	OPERAND(8, 1, "mov [rdi], rcx");
	OPERAND(4, 1, "mov [rdi], ecx");
	OPERAND(2, 1, "mov [rdi], cx");
	OPERAND(16, 1, "movups [rdi], xmm0");
	OPERAND(32, 1, "vmovdqu [rdi], ymm0");
	OPERAND(10, 1, "fstp tbyte ptr [rdi]");
	OPERAND(108, 1, "fnsave [rdi]");
	OPERAND(8, 1, "xchg [rdi], rcx");
	OPERAND(8, 1, "push rcx\nlea rsp, [r9]\npush rcx");
	OPERAND(8, 1, "lea rsp, [r9]\npushfq");
	OPERAND(8, 1, "lea rsp, [r9]\ncall 5f\n5:");
	OPERAND(8, 1, "mov rax, rcx\nstosq");
#undef OPERAND
}

/* Five pushes, or four pops and a return, of which k fit before the fault. */
static void
cross_runs(void)
{
	static const uint8_t plen[] = { 0, 1, 2, 4, 6 };
	unsigned k, mis, warm, i;
	char msg[80];

	what = msg;
	for (k = 0; k < 5; k++)
	for (mis = 0; mis < 8; mis += 4)
	for (warm = 0; warm < 2; warm++) {
		uint64_t sp = X2 + 0x1000 + 8 * k + mis;
		/* cmp ebx, -1; mov rsp, r12 */
		struct code push = ASM64("cmp ebx, -1\nmov rsp, r12\n"
		    "push rax\npush rcx\npush r9\npush 0x55\npush rdx\n"
		    "adc ebp, 0\nmov esi, 7\nhlt");

		snprintf(msg, sizeof(msg), "%u fit, misaligned by %u%s", k,
		    mis, warm ? ", known" : "");
		group = "pushes in a row";
		begin64(0);
		memset(at(PA), 0, 0x2000);
		map4k(X2, PA | 7);
		map4k(X2 + 0x1000, (PA + 0x1000) | 7);
		c->gpr[RAX] = 0xa;
		c->gpr[RCX] = 0xc;
		c->gpr[R9] = 9;
		c->gpr[RDX] = 0xd;
		if (warm) {
			c->gpr[R12] = X2 + 0x800;
			IS(go(push), NONE);
			c->rip = CODE;
		}
		c->gpr[R12] = sp;
		memset(at(PA), 0, 0x2000);
		c->gpr[RBP] = c->gpr[RSI] = 0;
		map4k(X2, k & 1 ? PA | 5 : 0);
		IS(go(push), VEC_PF);
		IS(F_ERR, k & 1 ? 3 : 2);
		IS(F_RSP, sp - 8 * k);
		IS(c->cr2, sp - 8 * k - 8);
		IS(F_RIP, CODE + 6 + plen[k]);
		IS(F_FLAGS & FL_STATUS, FL_CF | FL_AF);
		for (i = 0; i < k; i++)
			IS(r64(PA + (sp - 8 * i - 8 - X2)), i == 0 ? 0xa :
			    i == 1 ? 0xc : i == 2 ? 9 : 0x55);
		for (i = 0xfc0; i < 0x1000 + mis; i++)
			IS(*(uint8_t *)at(PA + i), 0);
		map4k(X2, PA | 7);
		IS(resume(), NONE);
		IS(c->gpr[RSP], sp - 40);
		IS(c->gpr[RBP], 1);
		IS(r64(PA + (sp - 40 - X2)), 0xd);
		IS(r64(PA + (sp - 32 - X2)), 0x55);

		group = "pops in a row";
		begin64(0);
		for (i = 0; i < 0x2000; i += 4)
			w32(PA + i, 0);
		map4k(X2, PA | 7);
		map4k(X2 + 0x1000, (PA + 0x1000) | 7);
		sp = X2 + 0x1000 - 8 * k - mis;
		for (i = 0; i < 5; i++) {
			w64(PA + (sp - X2) + 8 * i, i < 4 ? i + 1 : CODE + 64);
			w64(PA + 0x800 + 8 * i, i < 4 ? 99 : CODE + 64);
		}
		put(CODE, ASM64("cmp ebx, -1\nmov rsp, r12\npop rax\n"
		    "pop rcx\npop r9\npop rdx\nret"));
		put(CODE + 64, ASM64("adc ebp, 0\nhlt"));
		if (warm) {
			c->gpr[R12] = X2 + 0x800;
			IS(run(), NONE);
			c->rip = CODE;
		}
		c->gpr[R12] = sp;
		c->gpr[RAX] = c->gpr[RCX] = c->gpr[RDX] = c->gpr[R9] = 0;
		c->gpr[RBP] = 0;
		map4k(X2 + 0x1000, 0);
		IS(run(), VEC_PF);
		IS(F_ERR, 0);
		IS(F_RSP, sp + 8 * k);
		IS(c->cr2, X2 + 0x1000);
		IS(F_RIP, CODE + 6 + (k == 4 ? 5 : k < 3 ? k : 4u));
		IS(c->gpr[RAX], k > 0 ? 1 : 0);
		IS(c->gpr[RCX], k > 1 ? 2 : 0);
		IS(c->gpr[R9], k > 2 ? 3 : 0);
		IS(c->gpr[RDX], k > 3 ? 4 : 0);
		IS(F_FLAGS & FL_STATUS, FL_CF | FL_AF);
		map4k(X2 + 0x1000, (PA + 0x1000) | 7);
		IS(resume(), NONE);
		IS(c->gpr[RSP], sp + 40);
		IS(c->gpr[RDX], 4);
		IS(c->gpr[RBP], 1);
	}
	what = "";
	group = "a stack that is not canonical";
	begin64(0);
	c->gpr[R12] = 0x800000000010;
	IS(go(ASM64("mov rsp, r12\npush rax\npush rcx\npush rdx\nhlt")),
	    VEC_SS);
	IS(F_RSP, 0x800000000010);
	begin64(0);
	c->gpr[R12] = 0xffff7ffffffffff8;
	IS(go(ASM64("mov rsp, r12\npop rax\npop rcx\nret")), VEC_SS);
	IS(F_RSP, 0xffff7ffffffffff8);
}

static void
crossings(void)
{
	cross_fetch();
	cross_operands();
	cross_runs();
}
