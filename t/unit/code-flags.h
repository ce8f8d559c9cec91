/*
 * code-flags.h - status flags from where they are set, through instructions
 * that leave them alone, to where they are read, in another block on another
 * page; what they are comes from the host.
 */
enum { FLAGS_OUT = DATA + 0x800, FLAGS_FRAME = DATA + 0x700 };

static const uint16_t flags_in[][2] = { { 0, 0 }, { 0x7f, 1 }, { 0xff, 1 },
	{ 0x80, 0x80 }, { 0x0f, 1 }, { 0x80, 0x7f }, { 0x80, 0xff }, { 3, 3 },
	{ 0x10, 0xf8 } };

/* The flags that AL, CL and the instructions of k give, here. */
static uint64_t
flags_host(struct code k, unsigned a, unsigned b)
{
	static uint8_t *page;
	uint64_t (*fn)(uint64_t, uint64_t);
	/* mov eax, edi; mov ecx, esi; mov edx, esi */
	static const uint8_t in[] = { 0x89, 0xf8, 0x89, 0xf1, 0x89, 0xf2 },
	    out[] = { 0x9c, 0x58, 0xc3 };

	if (!page)
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		err(1, "mmap");
	memcpy(page, in, 6);
	memcpy(page + 6, k.p, k.n);
	memcpy(page + 6 + k.n, out, 3);
	memcpy(&fn, &page, sizeof(fn));
	return fn(a, b) & FL_STATUS;
}

/* How the reader in the guest tells the flags. */
static uint64_t
flags_told(unsigned reader, uint64_t v)
{
	uint64_t f = 0;

	switch (reader) {
	case 0:					/* pushf */
		return v & FL_STATUS;
	case 1:					/* lahf; seto al */
		return (v >> 8 & 0xd5) | (v & 1 ? FL_OF : 0);
	}
	/* bits by condition; AF is not one */
	f |= v & 1 ? FL_CF : 0;
	f |= v & 2 ? FL_OF : 0;
	f |= v & 4 ? FL_ZF : 0;
	f |= v & 8 ? FL_SF : 0;
	f |= v & 16 ? FL_PF : 0;
	return f;
}

static void
flags_through(struct code set, struct code path, bool frame)
{
	static struct code reader[5];
	uint64_t a, want, mask, got;
	unsigned i, j, r;

	if (!reader[0].p) {
		reader[0] = ASM64("pushfq\npop rbx");
		reader[1] = ASM64("lahf\nseto al\nmov rbx, rax");
		reader[2] = ASM64("mov ebx, 0\njnc 1f\nlea ebx, [rbx + 1]\n"
		    "1: jno 1f\nlea ebx, [rbx + 2]\n1: jnz 1f\n"
		    "lea ebx, [rbx + 4]\n1: jns 1f\nlea ebx, [rbx + 8]\n"
		    "1: jnp 1f\nlea ebx, [rbx + 16]\n1:");
		reader[3] = ASM64("mov rax, [r13]\nsetc [rsp - 64]\n"
		    "push rcx\npush rdx\npop rdx\npop rcx\n"
		    "seto [rsp - 63]\nsetz [rsp - 62]\nsets al\nsetp dl\n"
		    "movzx ebx, dl\nmovzx eax, al\nlea ebx, [rbx * 2 + rax]\n"
		    "movzx eax, byte ptr [rsp - 62]\n"
		    "lea ebx, [rbx * 2 + rax]\nmovzx eax, byte ptr [rsp - 63]\n"
		    "lea ebx, [rbx * 2 + rax]\nmovzx eax, byte ptr [rsp - 64]\n"
		    "lea ebx, [rbx * 2 + rax]");
		reader[4] = ASM64("mov rax, [r13]\nmov edx, 0\nmov ebx, 0\n"
		    "mov eax, 2\ncmovo ebx, eax\nmov eax, 4\ncmovz edx, eax\n"
		    "lea rbx, [rbx + rdx]\nmov edx, 0\nmov eax, 8\n"
		    "cmovs edx, eax\nlea rbx, [rbx + rdx]\nmov edx, 0\n"
		    "mov eax, 16\ncmovp edx, eax\nlea rbx, [rbx + rdx]\n"
		    "mov ecx, [r13]\nadc rbx, 0");
	}
	for (r = 0; r < 5; r++) {
		begin64(0);
		/* for STAC and CLAC all is the supervisor's */
		for (i = 0; i < 128; i++)
			w64(PTE(i << 12), i << 12 | 3);
		c->cr4 |= CR4_SMAP;
		c->eflags |= FL_AC;
		for (i = 0; i < 0x1000; i += 8)
			w64(DATA + i, 0);
		/* CODE: set, path, on to the reader; called by
		 * CODE + 0x3000 */
		memset(at(CODE), 0x90, 1024);
		put(CODE, ASM64("mov rax, r8\nmov rcx, r9\nmov rdx, r9"));
		put(CODE + 16, set);
		a = CODE + 32;
		put(a, path);
		a += path.n;
		put(a, ASM64("jmp r14"));
		put(CODE + 0x1000, reader[r]);
		put(CODE + 0x1000 + reader[r].n, ASM64("mov rsi, [rsp + 16]\n"
		    "mov [rsi], rbx\njmp [rsp]"));
		put(CODE + 0x2000, ASM64("ret\n.skip 15\n"
		    "push rax\npush rcx\npush r9\npop r9\npop rcx\npop rax\n"
		    "ret\n.skip 7\n.skip 16\nmov r10, [rsp]\nret 0\n"));
		put(HANDLER2, ASM64("push rax\nmov rax, [rsp + 32]\n"
		    "mov [r13 + 0x700], rax\nmov eax, 0x600007\n"
		    "mov [r15], rax\nxor eax, eax\npop rax\n"
		    "lea rsp, [rsp + 8]\niretq"));
		put(HANDLER2 + 0x80, ASM64("cmp rsp, rax\niretq"));
		set_idt(14, S_C64, HANDLER2, 0x8e, 1);
		set_idt(0x41, S_C64, HANDLER2 + 0x80, 0x8e, 1);
		put(CODE + 0x3000, ASM64("mov rsi, 0x50800\nmov r11d, 2\n"
		    "3: mov rdi, 0x30400\n2: mov r8, [rdi]\nmov r9, [rdi + 8]\n"
		    "xor eax, eax\nmov [r15], rax\ninvlpg [rbp]\n"
		    "call 1f\nadd rdi, 16\nadd rsi, 8\n"
		    "cmp rdi, 0x30490\njne 2b\ndec r11d\njnz 3b\nhlt\n"
		    "1: push rdi\npush rsi\npush r11\n"
		    "lea rcx, [rip + 4f]\npush rcx\njmp r12\n"
		    "4: pop rcx\npop r11\npop rsi\npop rdi\nret"));
		for (i = 0; i < 9; i++) {
			w64(0x30400 + 16 * i, flags_in[i][0]);
			w64(0x30408 + 16 * i, flags_in[i][1]);
		}
		c->gpr[R12] = CODE;
		c->gpr[R13] = DATA;
		c->gpr[R14] = CODE + 0x1000;
		c->gpr[R15] = PTE(X);
		c->gpr[RBP] = X;
		c->rip = CODE + 0x3000;
		x86_mode(c);
		IS(run(), NONE);
		mask = r < 2 ? FL_STATUS : FL_STATUS & ~FL_AF;
		for (j = 0; j < 18; j++) {
			i = j % 9;
			want = flags_host(set, flags_in[i][0], flags_in[i][1]);
			got = flags_told(r, r64(FLAGS_OUT + 8 * j));
			IS(got, want & mask);
		}
		/* seen by a fault's handler: what is read behind it */
		if (frame)
			IS(r64(FLAGS_FRAME) & (mask | FL_RF),
			    (want & mask) | FL_RF);
	}
}

/* A block is full while flags pass checks: the next one is linked to. */
static void
flags_full_block(void)
{
	group = "flags";
	what = "through a full block, linked";
	begin64(0);
	put(CODE, ASM64("mov ecx, 4\nmov edx, 0\n1: cmp ecx, 1\n"
	    ".rept 70\nmov eax, [rsp]\n.endr\n"
	    "adc edx, 0\ndec ecx\njnz 1b\nhlt"));
	IS(run(), NONE);
	IS(c->gpr[RDX], 0);
}

static void
flags(void)
{
	static struct { const char *name; struct code k; } set[8], path[64];
	unsigned ns = 0, np = 0, i, j;

	group = "flags";
#define S(text) (set[ns].name = text, set[ns++].k = ASM64(text))
#define P(text) (path[np].name = text, path[np++].k = ASM64(text))
	S("add al, cl");
	S("sub al, cl\ninc dl");
	S("cmp al, cl");
	S("add al, cl\ncmc");
	S("add al, cl\nmov cl, 0\nshl edx, cl");
	S("add al, cl\nrol dl, 1");
	P("nop");
	P("mov rbx, [r13]");
	P("mov rbx, [r13]\nmov [r13 + 8], rbx\nmov ebx, [r13 + 8]");
	P("push rax\npush rcx\npush rdx\npop rdx\npop rcx\npop rax");
	P("push [r13]\npop [r13]");
	P("call 1f\njmp 2f\n1: mov rbx, [rsp]\nret\n2:");
	P("lea rbx, [r12 + 0x2000]\ncall rbx");
	P("lea rbx, [r12 + 0x2010]\ncall rbx\nmov rbx, [r13]\ncall [rip + 1f]\n"
	    "jmp 2f\n1: .quad 0x22030\n2:");
	P("jmp 1f\n.skip 200\n1:");
	P("mov ecx, 3\n1: mov rbx, [r13]\nloop 1b");
	P("mov ecx, 3\n1: lea rcx, [rcx - 1]\njrcxz 2f\njmp 1b\n2:");
	P("stac\nclac\nstac");
	P("clac\nmov rbx, [rsp]\nlea rbx, [r12 + 0x2000]\ncall rbx\nstac");
	P("sti\nnop\ncli");
	P("mov rbx, [r13]\nsti\nmov rbx, [rsp]\ncli\nmov rbx, [rsp]");
	P("swapgs\nswapgs");
	P("rdtsc");
	P("rdtscp");
	P("pushfq\npopfq");
	P("pushfq\nmov rbx, [rsp]\npop rbx");
	P("cld");
	P("std\nmov rbx, [r13]\ncld");
	P("cpuid");
	P("mov rbx, cr3\nmov cr3, rbx");
	P("mov rbx, cr4\nmov cr4, rbx");
	P("invlpg [r13]");
	P("mov ebx, ss\nmov ss, ebx");
	P("mov ebx, ds\nmov ds, ebx");
	P("mov [r13], esp\nlea rsi, [r13]\nlea rdi, [r13 + 64]\nmov ecx, 20\n"
	    "rep movsb");
	P("lea rdi, [r13]\nstosd\nlea rsi, [r13]\nlodsb");
	P("movups xmm0, [r13]\nmovups [r13 + 0x10], xmm0");
	P("fninit\nfldpi\nfstp qword ptr [r13]\nfwait");
	P("fxsave [r13 + 0x200]\nfxrstor [r13 + 0x200]");
	P("xchg [r13], rbx\nbswap rbx");
	P("not qword ptr [r13]\nmov rbx, [r13]");
	P("mov rbx, [r13 + 0xffc]\nmov [r13 + 0xffd], rbx");
	P("push rax\nlea rbx, [rsp]\nleave\nlea rsp, [rbx + 8]\n"
	    "mov rbp, 0x400000");
	P("enter 16, 0\nleave");
	P("int 0x41");
	P("mov rbx, 0x60081\nmov byte ptr [rip + 1f], 0x90\n1: nop");
	P("vzeroupper\nvmovups ymm0, [r13]");
	P("mulx rbx, rcx, rdx\nrorx rbx, rcx, 3\npdep rbx, rcx, rdx\n"
	    "shlx rbx, rbx, rcx\nmov rbx, [r13]");
	P("mov rbx, r13\nxlatb\nmovbe rbx, [r13]");
	P("mov ecx, 0xc0000080\nrdmsr");
	for (i = 0; i < ns; i++)
		for (j = 0; j < np; j++) {
			char msg[160];

			snprintf(msg, sizeof(msg), "%s; %s", set[i].name,
			    path[j].name);
			what = msg;
			flags_through(set[i].k, path[j].k, false);
		}
	np = 0;
	P("mov rbx, [rbp]");
	P("mov [rbp + 8], rbx\nmov rbx, [r13]");
	P("mov rbx, [r13]\nmov ebx, [rbp + 0x20]\nmov rbx, [r13]");
	P("lea rdi, [rbp]\nstosb");
	P("mov rbx, [rbp - 4]");
	P("lea rbx, [rsp]\nlea rsp, [rbp + 64]\npush rax\npush rcx\npush 1\n"
	    "lea rsp, [rbx]");
	P("lea rbx, [rsp]\nlea rsp, [rbp + 64]\npop rax\npop rcx\n"
	    "lea rsp, [rbx]");
	P("movups xmm0, [rbp]");
	P("not byte ptr [rbp]");
	for (i = 0; i < ns; i++)
		for (j = 0; j < np; j++) {
			char msg[160];

			snprintf(msg, sizeof(msg), "%s; a page fault in %s",
			    set[i].name, path[j].name);
			what = msg;
			flags_through(set[i].k, path[j].k, true);
		}
	flags_full_block();
	what = "";
#undef S
#undef P
}
