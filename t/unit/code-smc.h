/*
 * code-smc.h - self-modifying code (SDM 3A 11.6): an instruction stored to is
 * the new one when it is next executed, whatever stored it.
 */
static void
smc_same_block(void)
{
	group = "a store into its own block";
	begin64(0);
	/* the next instruction */
	IS(go(ASM64("mov byte ptr [rip + 1f + 1], 7\n1: mov eax, 1\nhlt")),
	    NONE);
	IS(c->gpr[RAX], 7);
	/* one further on, which was executed before, with the flags of
	 * before the store */
	begin64(0);
	IS(go(ASM64("mov ecx, 50\n1: cmp ecx, 25\n"
	    "mov byte ptr [rip + 2f + 2], cl\nsetc al\nmovzx eax, al\n"
	    "add r8, rax\n2: add ebx, 1\ndec ecx\njnz 1b\nhlt")), NONE);
	IS(c->gpr[RBX], 50 * 51 / 2);
	IS(c->gpr[R8], 24);
	/* one before, in a loop */
	begin64(0);
	IS(go(ASM64("mov ecx, 100\n1: add ebx, 1\n"
	    "mov byte ptr [rip + 1b + 2], cl\ndec ecx\njnz 1b\nhlt")), NONE);
	IS(c->gpr[RBX], 1 + 100 * 101 / 2 - 1);
	/* the block's first bytes, what is behind going on as before */
	begin64(0);
	IS(go(ASM64("1: nop\nmov byte ptr [rip + 1b], 0xf4\ninc ebx\n"
	    "inc ecx\nadd ebx, ecx\njmp 1b")), NONE);
	IS(c->gpr[RBX], 2);
	IS(c->gpr[RCX], 1);
	IS(c->rip, CODE + 1);
	/* rep stosb into what follows it, over and over */
	begin64(0);
	c->gpr[RSI] = 20;
	IS(go(ASM64("1: lea rdi, [rip + 2f]\nmov ecx, 4\nmov eax, 0xc3ff\n"
	    "test sil, 1\njz 3f\nmov eax, 0xc5ff\n3: mov byte ptr [rdi], al\n"
	    "mov al, ah\nmov ah, 0\nlea rdi, [rip + 2f + 1]\nmov ecx, 1\n"
	    "rep stosb\n2: inc edx\ndec esi\njnz 1b\nhlt")), NONE);
	IS(c->gpr[RBX], 10);
	IS(c->gpr[RBP], 10);
	IS(c->gpr[RDX], 0);
	/* rep movsb of a whole loop's body */
	begin64(0);
	IS(go(ASM64("mov r8d, 10\n1: lea rsi, [rip + 3f]\ntest r8b, 1\n"
	    "jz 5f\nlea rsi, [rip + 4f]\n5: lea rdi, [rip + 2f]\n"
	    "mov ecx, 8\nrep movsb\n2: .skip 8, 0x90\n"
	    "dec r8d\njnz 1b\nhlt\n"
	    "3: inc ebx\nadd edx, 2\n.skip 3, 0x90\n"
	    "4: add edx, 100\nnop\ninc eax\n.skip 8, 0x90")), NONE);
	IS(c->gpr[RBX], 5);
	IS(c->gpr[RAX], 5);
	IS(c->gpr[RDX], 510);
}

/* A word of data between instructions, both changing all the time. */
static void
smc_mixed(void)
{
	group = "code and data on one page";
	begin64(0);
	IS(go(ASM64("mov ecx, 5000\n1: inc dword ptr [rip + 9f]\n"
	    "mov eax, ecx\nand eax, 63\nmov byte ptr [rip + 2f + 3], al\n"
	    "2: add rbx, 1\nadd rdx, rax\ndec ecx\njnz 1b\n"
	    "mov eax, [rip + 9f]\nhlt\n9: .long 0")), NONE);
	IS(c->gpr[RAX], 5000);
	IS(c->gpr[RBX], c->gpr[RDX]);
}

static void
smc_other_block(void)
{
	group = "a store into another block";
	/* linked to: a jump in the page, taken often before */
	begin64(0);
	IS(go(ASM64("mov r8d, 6\n1: mov ecx, 20\n2: jmp 4f\n.skip 64, 0xcc\n"
	    "3: dec ecx\njnz 2b\ninc byte ptr [rip + 4f + 2]\n"
	    "dec r8d\njnz 1b\nhlt\n.skip 64, 0xcc\n"
	    "4: add ebx, 1\njmp 3b")), NONE);
	IS(c->gpr[RBX], 20 * (1 + 2 + 3 + 4 + 5 + 6));
	/* through the jump cache: calls of another page, each kind */
	begin64(0);
	put(CODE + 0x1000, ASM64("1: add ebx, 1\nret"));
	IS(go(ASM64("lea rdi, [rip + 0x1000]\nand rdi, -4096\nmov r9, rdi\n"
	    "push rdi\nmov r8d, 6\n1: mov ecx, 20\n2: call rdi\n"
	    "call r9\ncall [rsp]\ndec ecx\njnz 2b\n"
	    "inc byte ptr [rdi + 2]\ndec r8d\njnz 1b\nhlt")), NONE);
	IS(c->gpr[RBX], 60 * (1 + 2 + 3 + 4 + 5 + 6));
	/* a return into a changed instruction */
	begin64(0);
	put(CODE + 0x1000, ASM64("inc byte ptr [rdx + 2]\nret"));
	IS(go(ASM64("lea rdi, [rip + 0x1000]\nand rdi, -4096\n"
	    "lea rdx, [rip + 2f]\nmov ecx, 50\n1: call rdi\n2: add ebx, 0\n"
	    "dec ecx\njnz 1b\nhlt")), NONE);
	IS(c->gpr[RBX], 50 * 51 / 2);
}

/*
 * Every way to store.  RDI is where: the 16-bit operand of the RET at T, behind
 * which anything may be.  It is called before and after; the same instruction
 * has stored to data before, so that its check knows another page.
 */
#define T	(CODE + 0xc00)
static void
smc_store(const char *name, unsigned page, struct code store)
{
	uint64_t a = CODE + page;

	what = name;
	begin64(0);
	memset(at(DATA), 0, 8192);
	memset(at(a), 0x90, 512);
	put(T, ASM64("ret 0x1110"));
	c->gpr[R12] = T;
	c->gpr[R13] = T + 1;
	c->gpr[R14] = DATA + 0x800;
	c->rip = a;
	put(a, ASM64("mov r15d, 4\nfninit\nmov eax, 0x3456789a\n"
	    "movd xmm0, eax\nvpbroadcastd ymm0, xmm0\nmov rbp, rsp\n"));
	put(a + 64, ASM64("mov rdi, r14\ncmp r15d, 1\ncmove rdi, r13\n"
	    "mov rcx, 0x7a5b3c2d7a5b3c2d\nmov rax, 0x7654321089abcdef\n"
	    "mov rbx, rax\n"));
	put(a + 128, store);
	put(a + 192, ASM64("mov rsp, rbp\ncall r12\nmov rsi, rsp\n"
	    "mov rsp, rbp\ndec r15d\njz 1f\njmp r11\n1: hlt"));
	c->gpr[R11] = a + 64;
	IS(run(), NONE);
	IS(r16(T + 1) != 0x1110, 1);
	IS(c->gpr[RSI] - c->gpr[RBP], r16(T + 1));
	what = "";
}

static void
smc_stores(void)
{
	unsigned page;

	group = "a store by";
#define STORE(text) smc_store(text, page, ASM64(text))
	for (page = 0; page < 0x2000; page += 0x1000) {
		STORE("mov [rdi], cl");
		STORE("mov [rdi], cx");
		STORE("mov [rdi], ecx");
		STORE("mov [rdi], rcx");
		STORE("mov dword ptr [rdi], 0x2468ace0");
		STORE("xchg [rdi], ecx");
		STORE("add [rdi], ecx");
		STORE("not dword ptr [rdi]");
		STORE("shl dword ptr [rdi], 3");
		STORE("lock xadd [rdi], ecx");
		STORE("mov eax, [rdi]\nlock cmpxchg [rdi], ecx");
		STORE("mov rax, [rdi]\nmov edx, [rdi + 4]\nmov ebx, 5\n"
		    "lock cmpxchg8b [rdi]");
		STORE("setnz [rdi]");
		STORE("bts dword ptr [rdi], 7");
		STORE("mov edx, 9\nbtc [rdi], edx");
		STORE("mov edx, 5\nlock bts [rdi], edx");
		STORE("movbe [rdi], ecx");
		STORE("movnti [rdi], ecx");
		STORE("lea rsp, [rdi + 8]\npush rcx");
		STORE("lea rsp, [rdi + 8]\npush 0x12345678");
		STORE("lea rsp, [rdi + 8]\npushfq");
		STORE("lea rsp, [rdi + 16]\npush rax\npush rcx");
		STORE("lea rsp, [rdi + 48]\npush rax\npush rcx\n"
		    "push r9\npush 5\npush r10\npush rdx");
		STORE("lea rsp, [rdi + 8]\ncall 5f\n5:");
		STORE("lea rsp, [rdi + 8]\nlea rdx, [rip + 5f]\n"
		    "call rdx\n5:");
		STORE("push rcx\npop [rdi]");
		STORE("lea rsp, [rdi + 8]\nenter 0, 0\nmov rbp, [rsp]");
		STORE("stosb");
		STORE("stosd");
		STORE("stosq");
		STORE("mov ecx, 30\nrep stosb");
		STORE("mov ecx, 8\nrep stosq");
		STORE("lea rsi, [r14 + 0x10]\nmov byte ptr [rsi + 29], 7\n"
		    "mov ecx, 30\nrep movsb");
		STORE("lea rsi, [r14 + 0x10]\nmov byte ptr [rsi + 63], 7\n"
		    "mov ecx, 16\nrep movsd");
		STORE("movups [rdi], xmm0");
		STORE("vmovdqu [rdi], xmm0");
		STORE("vmovdqu [rdi], ymm0");
		STORE("movd [rdi], xmm0");
		STORE("movq [rdi], mm0");
		STORE("vpcmpeqd xmm1, xmm1, xmm1\nvmaskmovps [rdi], xmm1, "
		    "xmm0\nadd rdi, 12\nvmovd [rdi - 12], xmm0");
		STORE("pcmpeqd xmm1, xmm1\nmaskmovdqu xmm0, xmm1");
		STORE("fldpi\nfstp dword ptr [rdi]");
		STORE("fldpi\nfstp qword ptr [rdi]");
		STORE("fldpi\nfstp tbyte ptr [rdi]");
		STORE("fnstcw [rdi]");
		STORE("stmxcsr [rdi]");
		STORE("fnstenv [rdi]");
		STORE("fnsave [rdi]");
		STORE("sgdt [rdi]");
	}
#undef STORE
	what = "";
}
#undef T

/* What a block only looked at, to see whether flags are read behind it. */
static void
smc_looked_at(void)
{
	group = "a store to what follows a block";
	begin64(0);
	/* xor ebx, ebx and adc ebx, ebx in turn */
	IS(go(ASM64("mov ecx, 20\n1: mov ebx, 0\nstc\nmov edx, [rsp]\n"
	    "mov edx, [rsp - 8]\njmp 2f\n.skip 100, 0x90\n"
	    "2: xor ebx, ebx\nadd r8, rbx\nadd r8, r8\n"
	    "xor byte ptr [rip + 2b], 0x20\ndec ecx\njnz 1b\nhlt")), NONE);
	IS(c->gpr[R8], 0xaaaaa);
	begin64(0);
	/* behind a jump that is not taken, and one that is */
	IS(go(ASM64("mov ecx, 20\n1: mov ebx, 0\ncmp ebx, 1\n"
	    "mov edx, [rsp]\njrcxz 3f\n2: xor ebx, ebx\nadd r8, rbx\n"
	    "mov ebx, 0\ncmp ebx, 1\nmov edx, [rsp]\njecxz 3f\njmp 4f\n"
	    "3: hlt\n4: xor ebx, ebx\nadd r8, rbx\n"
	    "xor byte ptr [rip + 2b], 0x20\nxor byte ptr [rip + 4b], 0x20\n"
	    "dec ecx\njmp 1b")), NONE);
	IS(c->gpr[R8], 20);
}

/* An instruction on two pages, written to on either. */
static void
smc_crossing(void)
{
	unsigned at_, i;
	char msg[32];

	group = "an instruction on two pages";
	what = msg;
	for (at_ = 1; at_ < 5; at_++)
	for (i = 0; i < 5; i++) {
		uint64_t a = CODE + 0x2000 - at_;

		snprintf(msg, sizeof(msg), "%u bytes on the first, byte %u",
		    at_, i);
		begin64(0);
		put(a, ASM64("mov eax, 0x90909001\nret"));
		c->gpr[R12] = a;
		c->gpr[R13] = a + i;
		/* the opcode becomes mov al, 1; nop; nop; nop */
		c->gpr[RDX] = i ? 2 : 0xb0;
		IS(go(ASM64("mov ecx, 5\n1: xor eax, eax\ncall r12\n"
		    "add rbx, rax\ncmp ecx, 3\njne 2f\nmov [r13], dl\n"
		    "2: dec ecx\njnz 1b\nhlt")), NONE);
		IS(c->gpr[RBX], i ? 3 * 0x90909001ull + 2 * (r32(a + 1) +
		    0ull) : 3 * 0x90909001ull + 2);
	}
	/* by itself: an immediate operand that doubles */
	what = "by itself";
	begin64(0);
	put(CODE + 0x2000 - 3,
	    ASM64("1: add dword ptr [rip + 1b + 6], 0x1000\nret"));
	c->gpr[R12] = CODE + 0x2000 - 3;
	IS(go(ASM64("mov ecx, 5\n1: call r12\ndec ecx\njnz 1b\nhlt")), NONE);
	IS(r32(CODE + 0x2003), 0x1000 << 5);
	what = "";
}

static void
smc(void)
{
	smc_same_block();
	smc_mixed();
	smc_other_block();
	smc_looked_at();
	smc_stores();
	smc_crossing();
}
