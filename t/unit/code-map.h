/*
 * code-map.h - mappings that change under running code (SDM 3A 4.10): whatever
 * was seen of the old one is gone after INVLPG, INVPCID, a CR3 write, ...
 */

/* 40 times BODY, which gives EAX = 1 or 2 as PTE R14 or R15 is in [R13] */
#define FLIPS(body, flush) ASM64("mov ecx, 40\n1:\n" body \
	"\nlea rbx, [rbx + rbx * 2]\nadd rbx, rax\nxchg r14, r15\n" \
	"mov [r13], r14\n" flush "\ndec ecx\njnz 1b\nhlt")

static uint64_t
flipped(void)
{
	uint64_t v = 0;
	int i;

	for (i = 0; i < 40; i++)
		v = v * 3 + (i & 1 ? 2 : 1);
	return v;
}

static void
map_flip(const char *name, uint64_t lin, uint64_t pte, uint64_t bits,
    struct code k)
{
	what = name;
	begin64(0);
	put(PA, ASM64("mov eax, 1\nret\n.skip 26, 0x90\n"
	    "mov edx, 3\n1: dec edx\njnz 1b\nmov eax, 1\nret"));
	put(PB, ASM64("mov eax, 2\nret\n.skip 26, 0x90\n"
	    "mov edx, 3\n1: dec edx\njnz 1b\nmov eax, 2\nret"));
	put(PA + 0x1000, ASM64(".long 1, 0\n.skip 8\n"));
	put(PB + 0x1000, ASM64(".long 2, 0\n.skip 8\n"));
	/* mov eax, 1 or 2 with two bytes on page PA + 0x2000 */
	put(PA + 0x2ffe, ASM64(".byte 0xb8, 1"));
	put(PB + 0x2ffe, ASM64(".byte 0xb8, 2"));
	put(PA + 0x3000, ASM64(".byte 0, 0, 0\nret"));
	map4k(X, PA | 7);
	map4k(X + 0x1000, (PA + 0x1000) | 7);
	map4k(X + 0x2000, (PA + 0x2000) | 7);
	map4k(X + 0x3000, (PA + 0x3000) | 7);
	c->gpr[R12] = lin;
	c->gpr[R13] = PTE(pte);
	c->gpr[R14] = (PA + (pte - X)) | 7 | bits;
	c->gpr[R15] = (PB + (pte - X)) | 7 | bits;
	w64(PTE(pte), c->gpr[R14]);
	w64(DATA, 0);				/* INVPCID's operand */
	w64(DATA + 8, pte | (lin & HIGH));
	c->gpr[R8] = DATA;
	c->gpr[R9] = pte | (lin & HIGH);
	IS(go(k), NONE);
	IS(c->gpr[RBX], flipped());
	what = "";
}

#define FLIP_ALL(lin, pte, bits, body) do { \
	map_flip(body ", invlpg", lin, pte, bits, FLIPS(body, \
	    "invlpg [r9]")); \
	map_flip(body ", invpcid 0", lin, pte, bits, FLIPS(body, \
	    "xor eax, eax\ninvpcid rax, [r8]")); \
	map_flip(body ", invpcid 2", lin, pte, bits, FLIPS(body, \
	    "mov eax, 2\ninvpcid rax, [r8]")); \
	map_flip(body ", cr4.pge", lin, pte, bits, FLIPS(body, \
	    "mov rax, cr4\nxor al, 0x80\nmov cr4, rax\nxor al, 0x80\n" \
	    "mov cr4, rax")); \
	map_flip(body ", cr4.pge of jumps", lin, pte, bits, FLIPS(body, \
	    "mov rax, cr4\nxor al, 0x80\nmov cr4, rax\njmp 3f\n.skip 300\n" \
	    "3: xor al, 0x80\nmov cr4, rax")); \
	if (!(bits)) { \
		map_flip(body ", cr3", lin, pte, bits, FLIPS(body, \
		    "mov rax, cr3\nmov cr3, rax")); \
		map_flip(body ", invpcid 3", lin, pte, bits, FLIPS(body, \
		    "mov eax, 3\ninvpcid rax, [r8]")); \
	} \
} while (0)

static void
map_flips(void)
{
	static const uint64_t base[] = { 0, HIGH };
	unsigned i, g;

	for (i = 0; i < 2; i++)
	for (g = 0; g <= 0x100; g += 0x100) {
		uint64_t x = base[i] + X;

		group = g ? "another global page" : i ? "another page, upper "
		    "half" : "another page";
		FLIP_ALL(x, X, g, "call r12");
		FLIP_ALL(x + 32, X, g, "call r12");
		FLIP_ALL(x, X, g, "mov rax, r12\ncall rax\n"
		    "lea rsi, [r12 + 32]\ncall rsi");
		FLIP_ALL(x + 0x1000, X + 0x1000, g, "mov eax, [r12]");
		FLIP_ALL(x + 0x1000, X + 0x1000, g,
		    "mov eax, [r12]\nadd eax, [r12 + 4]\nlock inc qword ptr "
		    "[r12 + 8]");
		FLIP_ALL(x + 0x1000, X + 0x1000, g,
		    "mov rbp, rsp\nmov rsp, r12\npop rax\npop rdx\n"
		    "mov rsp, rbp");
		FLIP_ALL(x + 0x1000, X + 0x1000, g,
		    "mov rsi, r12\nlodsb\nmovzx eax, al");
		FLIP_ALL(x + 0x1000, X + 0x1000, g,
		    "movd xmm0, dword ptr [r12]\nmovd eax, xmm0");
		FLIP_ALL(x + 0x1000, X + 0x1000, g,
		    "add r10, [r12]\nmov eax, [r12]\nadc r10, 0");
		/* the first page of an instruction on two */
		FLIP_ALL(x + 0x2ffe, X + 0x2000, g, "call r12");
	}
	/* writes: they must reach the page mapped at the time */
	group = "writes to another page";
	map_flip("invlpg", X + 0x1000, X + 0x1000, 0, FLIPS("mov eax, [r12]\n"
	    "inc dword ptr [r12 + 4]", "invlpg [r9]"));
	IS(r32(PA + 0x1004), 20);
	IS(r32(PB + 0x1004), 20);
	map_flip("cr3", X + 0x1000, X + 0x1000, 0, FLIPS("mov eax, [r12]\n"
	    "inc dword ptr [r12 + 4]", "mov rax, cr3\nmov cr3, rax"));
	IS(r32(PA + 0x1004), 20);
	IS(r32(PB + 0x1004), 20);
	/* the second page of an instruction on two; the first stays */
	group = "an instruction whose second page is another";
	for (i = 0; i < 2; i++) {
		begin64(0);
		put(PA + 0xffe, ASM64(".byte 0xb8, 0x78"));
		put(PA + 0x1000, ASM64(".byte 0x56, 0x34, 0x12\nret"));
		put(PB + 0x1000, ASM64(".byte 0xdc, 0xfe, 0x01\nret"));
		map4k(X, PA | 7);
		map4k(X + 0x1000, (PA + 0x1000) | 7);
		c->gpr[R12] = X + 0xffe;
		c->gpr[R13] = PTE(X + 0x1000);
		c->gpr[R14] = (PB + 0x1000) | 7;
		IS(go(i ? ASM64("mov ecx, 9\n1: call r12\ndec ecx\njnz 1b\n"
		    "mov ebx, eax\nmov [r13], r14\nmov rax, cr3\nmov cr3, rax\n"
		    "call r12\nhlt") : ASM64("mov ecx, 9\n1: call r12\n"
		    "dec ecx\njnz 1b\nmov ebx, eax\nmov [r13], r14\n"
		    "invlpg [r12 + 2]\ncall r12\nhlt")), NONE);
		IS(c->gpr[RBX], 0x12345678);
		IS(c->gpr[RAX], 0x01fedc78);
	}
}

/* A second address space, with page tables at ALT that are PT's. */
enum { ALT = 0x100000 };

static void
alt_space(void)
{
	unsigned i;

	memcpy(at(ALT), at(PT), 0xc000);
	for (i = 0; i < 3 * 512; i++)
		if (r64(ALT + 8 * i))
			w64(ALT + 8 * i, r64(ALT + 8 * i) + ALT - PT);
}

/* Two address spaces in turn, with and without PCIDs. */
static void
map_spaces(void)
{
	static const char *const name[] = { "no PCID", "PCID", "PCID, kept" };
	unsigned i;

	group = "two address spaces";
	for (i = 0; i < 6; i++) {
		what = name[i % 3];
		begin64(0);
		put(PA, ASM64("mov eax, 1\nret"));
		put(PB, ASM64("mov eax, 2\nret"));
		w64(PA + 0x100, 10);
		w64(PB + 0x100, 20);
		put(PA + 0xffe, ASM64(".byte 0xb8, 1"));
		put(PB + 0xffe, ASM64(".byte 0xb8, 2"));
		put(PA + 0x1000, ASM64(".byte 0, 0, 0\nret"));
		map4k(X, PA | 7);
		map4k(X + 0x1000, (PA + 0x1000) | 7 | (i >= 3 ? 0x100 : 0));
		alt_space();
		w64(ALT - PT + PTE(X), PB | 7);
		c->gpr[R12] = X;
		c->gpr[R13] = PT | (i % 3 ? 1 : 0) | (i % 3 == 2 ? 1ull << 63 :
		    0);
		c->gpr[R14] = ALT | (i % 3 ? 2 : 0) | (i % 3 == 2 ? 1ull << 63 :
		    0);
		if (i % 3)
			x86_set_cr4(c, c->cr4 | CR4_PCIDE);
		IS(go(ASM64("mov ecx, 50\n1: call r12\nadd rax, [r12 + 0x100]\n"
		    "add rbx, rax\nlea rdx, [r12 + 0xffe]\ncall rdx\n"
		    "add rbx, rax\nmov cr3, r14\ncall r12\nadd rax, "
		    "[r12 + 0x100]\nadd r8, rax\nlea rdx, [r12 + 0xffe]\n"
		    "call rdx\nadd r8, rax\nmov cr3, r13\ndec ecx\njnz 1b\n"
		    "hlt")), NONE);
		IS(c->gpr[RBX], 50 * 12);
		IS(c->gpr[R8], 50 * 24);
	}
	what = "";
}

/* More pages than the logs of a flush hold, in two address spaces. */
static void
map_many(void)
{
	static const unsigned count_[] = { 100, 1023, 1024, 1025, 1500 };
	unsigned i, j, n, half;
	uint64_t there, back;

	group = "many pages";
	for (j = 0; j < 5; j++)
	for (half = 0; half < 2; half++) {
		n = count_[j];
		begin64(0);
		for (i = 0; i < n; i++) {
			put(X + i * 4096, ASM64("mov eax, 0\nret"));
			w32(X + i * 4096 + 1, i);
			w32(X + i * 4096 + 0x100, i);
		}
		alt_space();
		there = back = 0;
		for (i = 0; i < n; i++) {
			w64(ALT - PT + PTE(X + i * 4096),
			    (X + (n - 1 - i) * 4096) | 7);
			there = there * 3 + i;
			there = there * 3 + i;
		}
		for (i = 0; i < n; i++) {
			back = back * 3 + n - 1 - i;
			back = back * 3 + n - 1 - i;
		}
		c->gpr[R12] = X + (half ? HIGH : 0);
		c->gpr[R13] = PT;
		c->gpr[R14] = ALT;
		c->gpr[R15] = n;
		IS(go(ASM64("mov r9d, 3\n2: xor ebx, ebx\nmov ecx, r15d\n"
		    "mov rdi, r12\n1: call rdi\nlea rbx, [rbx + rbx * 2]\n"
		    "add rbx, rax\nmov eax, [rdi + 0x100]\n"
		    "lea rbx, [rbx + rbx * 2]\nadd rbx, rax\nadd rdi, 4096\n"
		    "dec ecx\njnz 1b\nmov cr3, r14\nxor edx, edx\n"
		    "mov ecx, r15d\nmov rdi, r12\n1: call rdi\n"
		    "lea rdx, [rdx + rdx * 2]\nadd rdx, rax\n"
		    "mov eax, [rdi + 0x100]\nlea rdx, [rdx + rdx * 2]\n"
		    "add rdx, rax\nadd rdi, 4096\ndec ecx\njnz 1b\n"
		    "mov cr3, r13\ndec r9d\njnz 2b\nhlt")), NONE);
		IS(c->gpr[RBX], there);
		IS(c->gpr[RDX], back);
	}
}

/* A user's page that loses a right while in use: R13 = PTE, R14 = its new
 * value, written by int 0x80. */
static void
map_right(const char *name, unsigned cpl, uint64_t pte, uint64_t err,
    struct code k)
{
	unsigned cr3;

	what = name;
	for (cr3 = 0; cr3 < 2; cr3++) {
		begin64(cpl);
		put(PA, ASM64("ret"));
		map4k(X, PA | 7);
		set_idt(0x80, S_C64, HANDLER2, 0xee, 1);
		put(HANDLER2, cr3 ? ASM64("mov [r13], r14\nmov rax, cr3\n"
		    "mov cr3, rax\niretq") : ASM64("mov [r13], r14\n"
		    "invlpg [r12]\niretq"));
		c->gpr[R12] = X;
		c->gpr[R13] = PTE(X);
		c->gpr[R14] = pte;
		IS(go(k), VEC_PF);
		IS(c->cr2, X + (err & 16 ? 0 : 0x100));
		IS(F_ERR, err);
		IS(c->gpr[RCX], 10);
		IS(c->gpr[RDX], 1);
		map4k(X, PA | 7);
		IS(resume(), cpl ? VEC_GP : NONE);
		IS(c->gpr[RCX], 0);
		IS(c->gpr[RDX], 0);
	}
	what = "";
}

static void
map_rights(void)
{
#define TWICE(op) ASM64("mov edx, 2\n3: mov ecx, 10\n1: " op \
	"\ndec ecx\njnz 1b\nint 0x80\ndec edx\njnz 3b\nhlt")
	group = "a page that loses a right";
	map_right("absent, read", 3, 0, 4, TWICE("mov eax, [r12 + 0x100]"));
	map_right("absent, write", 3, 0, 6, TWICE("mov [r12 + 0x100], eax"));
	map_right("absent, code", 3, 0, 0x14, TWICE("call r12"));
	map_right("supervisor, read", 3, PA | 3, 5,
	    TWICE("mov eax, [r12 + 0x100]"));
	map_right("supervisor, code", 3, PA | 3, 0x15, TWICE("call r12"));
	map_right("read-only, write", 3, PA | 5, 7,
	    TWICE("mov [r12 + 0x100], eax"));
	map_right("read-only, add", 3, PA | 5, 7,
	    TWICE("lock add [r12 + 0x100], eax"));
	map_right("read-only, push", 3, PA | 5, 7,
	    TWICE("mov rbp, rsp\nlea rsp, [r12 + 0x108]\npush rax\n"
	    "mov rsp, rbp"));
	map_right("read-only, CR0.WP", 0, PA | 5, 3,
	    TWICE("mov [r12 + 0x100], eax"));
	map_right("no execution", 3, PA | 7 | 1ull << 63, 0x15,
	    TWICE("call r12"));
	map_right("no execution", 0, PA | 7 | 1ull << 63, 0x11,
	    TWICE("call r12"));
	map_right("absent, code", 0, 0, 0x10, TWICE("call r12"));
#undef TWICE
	/* a page that takes the right away from itself */
	group = "a running page without execution";
	begin64(0);
	map4k(X, PA | 7);
	put(PA, ASM64("mov [r13], r14\ninvlpg [rip]\n1: inc ebx\nhlt"));
	c->gpr[R13] = PTE(X);
	c->gpr[R14] = PA | 7 | 1ull << 63;
	c->rip = X;
	IS(run(), VEC_PF);
	IS(c->gpr[RBX], 0);
	IS(c->cr2, F_RIP);
	IS(F_ERR, 0x11);
	/* writable again: the dirty bit must be set by the write */
	group = "a read-only page made writable";
	begin64(0);
	map4k(X, PA | 5);
	c->gpr[R12] = X;
	c->gpr[R13] = PTE(X);
	c->gpr[R14] = PA | 7;
	IS(go(ASM64("mov eax, [r12]\nmov [r13], r14\ninvlpg [r12]\n"
	    "mov eax, [r12]\nmov rbx, [r13]\nmov dword ptr [r12], 5\n"
	    "mov rdx, [r13]\nhlt")), NONE);
	IS(c->gpr[RBX] & 0x60, 0x20);
	IS(c->gpr[RDX] & 0x60, 0x60);
	/* CR0.WP off and on again */
	group = "CR0.WP";
	begin64(0);
	map4k(X, PA | 5);
	c->gpr[R12] = X;
	IS(go(ASM64("mov rbx, cr0\nmov rdx, rbx\nbtr rbx, 16\nmov cr0, rbx\n"
	    "mov r8d, 2\n2: mov ecx, 5\n1: inc dword ptr [r12]\ndec ecx\n"
	    "jnz 1b\nmov cr0, rdx\ndec r8d\njnz 2b\nhlt")), VEC_PF);
	IS(c->gpr[RCX], 5);
	IS(c->gpr[R8], 1);
	IS(F_ERR, 3);
}

static void
map_large(void)
{
	enum { PD = PT + 0x2000 };
	unsigned i;

	group = "a large page split";
	for (i = 0; i < 2; i++) {
		begin64(0);
		put(PA, ASM64("mov eax, 1\nret"));
		put(0x800000, ASM64("mov eax, 2\nret"));
		w64(PA + 0x3000, 10);
		w64(0x803000, 20);
		w64(PTE(X), 0x800000 | 7);
		w64(PTE(X + 0x3000), 0x803000 | 7);
		c->gpr[R15] = r64(PD + 16);
		w64(PD + 16, PA | 0x87 | (i ? 0x100 : 0));
		c->gpr[R12] = X;
		c->gpr[R13] = PD + 16;
		IS(go(ASM64("mov ecx, 9\n1: call r12\nadd rbx, rax\n"
		    "add rbx, [r12 + 0x3000]\ndec ecx\njnz 1b\n"
		    "mov [r13], r15\ninvlpg [r12 + 0x17123]\n"
		    "mov ecx, 9\n1: call r12\nadd rdx, rax\n"
		    "add rdx, [r12 + 0x3000]\ndec ecx\njnz 1b\nhlt")), NONE);
		IS(c->gpr[RBX], 9 * 11);
		IS(c->gpr[RDX], 9 * 22);
	}
}

static void
map_alias(void)
{
	unsigned warm;

	group = "two addresses of one page";
	for (warm = 0; warm < 2; warm++) {
		begin64(0);
		put(PA, ASM64("mov eax, 0\nret"));
		map4k(X, PA | 7);
		map4k(X2, PA | 7);
		c->gpr[R12] = X;
		c->gpr[R13] = X2;
		c->gpr[R8] = warm;
		IS(go(ASM64("test r8b, r8b\njz 2f\nmov ecx, 3\n"
		    "3: mov [r13 + 0x80], ecx\ndec ecx\njnz 3b\n"
		    "2: mov ecx, 50\n1: call r12\nadd ebx, eax\n"
		    "mov [r13 + 1], ecx\ncall r12\nadd ebx, eax\n"
		    "lea rdi, [r13 + 1]\nmov eax, ecx\nadd eax, eax\nstosd\n"
		    "call r12\nadd ebx, eax\nmov dword ptr [r13 + 1], 0\n"
		    "dec ecx\njnz 1b\nhlt")), NONE);
		IS(c->gpr[RBX], 3 * 50 * 51 / 2);
		/* the page that runs */
		begin64(0);
		map4k(X, CODE | 7);
		c->gpr[R12] = X - CODE;
		IS(go(ASM64("mov ecx, 50\n1: lea rdi, [rip + 2f]\n"
		    "mov [rdi + r12 + 1], ecx\n2: mov eax, 0\nadd ebx, eax\n"
		    "dec ecx\njnz 1b\nhlt")), NONE);
		IS(c->gpr[RBX], 50 * 51 / 2);
	}
	/* one address runs code, the other holds the stack */
	begin64(0);
	put(PA, ASM64("push rax\npush rcx\npop rdx\npop rsi\ninc ebx\nret"));
	map4k(X, PA | 7);
	map4k(X2, PA | 7);
	c->gpr[R12] = X;
	c->gpr[RSP] = X2 + 0x1000;
	IS(go(ASM64("mov ecx, 30\n1: call r12\nadd r8, rdx\ndec ecx\njnz 1b\n"
	    "hlt")), NONE);
	IS(c->gpr[RBX], 30);
	IS(c->gpr[R8], 30 * 31 / 2);
}

/* The same with 32-bit paging, and a page of 4 MiB split. */
enum { PD32 = 0x100000, PT32 = 0x101000 };

static void
begin_paged32(void)
{
	unsigned i;

	begin32();
	memset(at(PD32), 0, 0x1000);
	for (i = 0; i < 4 * 1024; i++)
		w32(PT32 + 4 * i, i << 12 | 7);
	for (i = 0; i < 4; i++)
		w32(PD32 + 4 * i, (PT32 + 0x1000 * i) | 7);
	c->cr3 = PD32;
	c->cr4 = CR4_PSE | CR4_PGE;
	c->cr0 |= CR0_PG | CR0_WP;
	tlb_flush_all(c);
	x86_mode(c);
}
#define PTE32(a)	(PT32 + ((a) >> 12) * 4)

static void
map_32(void)
{
	struct code k;
	unsigned i;

	group = "another page, 32-bit paging";
	for (i = 0; i < 6; i++) {
		begin_paged32();
		put(PA, ASM32("mov eax, 1\nret"));
		put(PB, ASM32("mov eax, 2\nret"));
		w32(PA + 0x100, 1);
		w32(PB + 0x100, 2);
		c->gpr[RDI] = X + (i & 1 ? 0x100 : 0);
		c->gpr[RSI] = PTE32(X);
		c->gpr[RDX] = PA | 7 | (i < 2 ? 0 : 0x100);
		c->gpr[RBP] = PB | 7 | (i < 2 ? 0 : 0x100);
		w32(PTE32(X), (uint32_t)c->gpr[RDX]);
#define FLIPS32(body, flush) ASM32("mov ecx, 40\n1:\n" body \
	"\nlea ebx, [ebx + ebx * 2]\nadd ebx, eax\nxchg edx, ebp\n" \
	"mov [esi], edx\n" flush "\ndec ecx\njnz 1b\nhlt")
		k = i == 0 ? FLIPS32("call edi", "mov eax, cr3\nmov cr3, eax") :
		    i == 1 ? FLIPS32("mov eax, [edi]", "mov eax, cr3\n"
		    "mov cr3, eax") :
		    i == 2 ? FLIPS32("call edi", "invlpg [edi]") :
		    i == 3 ? FLIPS32("mov eax, [edi]", "invlpg [edi]") :
		    i == 4 ? FLIPS32("call edi", "mov eax, cr4\n"
		    "xor al, 0x80\nmov cr4, eax\nxor al, 0x80\n"
		    "mov cr4, eax") : FLIPS32("mov eax, [edi]", "mov eax, cr4\n"
		    "xor al, 0x80\nmov cr4, eax\nxor al, 0x80\n"
		    "mov cr4, eax");
#undef FLIPS32
		IS(go(k), NONE);
		IS(c->gpr[RBX], (uint32_t)flipped());
	}
	group = "a page of 4 MiB split";
	begin_paged32();
	put(0x800000, ASM32("mov eax, 1\nret"));
	put(PB, ASM32("mov eax, 2\nret"));
	w32(0x803000, 10);
	w32(PB + 0x3000, 20);
	w32(PTE32(X), PB | 7);
	w32(PTE32(X + 0x3000), (PB + 0x3000) | 7);
	w32(PD32 + 4, 0x800087);
	c->gpr[RDI] = X;
	c->gpr[RSI] = PD32 + 4;
	c->gpr[RBP] = (PT32 + 0x1000) | 7;
	IS(go(ASM32("mov ecx, 9\n1: call edi\nadd ebx, eax\n"
	    "add ebx, [edi + 0x3000]\ndec ecx\njnz 1b\nmov [esi], ebp\n"
	    "invlpg [edi + 0x123456]\nmov ecx, 9\n1: call edi\n"
	    "add edx, eax\nadd edx, [edi + 0x3000]\ndec ecx\njnz 1b\n"
	    "hlt")), NONE);
	IS(c->gpr[RBX], 9 * 11);
	IS(c->gpr[RDX], 9 * 22);
	/* an instruction whose second page is not there */
	group = "the second page of an instruction, 32-bit paging";
	begin_paged32();
	put(PA + 0xffe, ASM32("mov eax, 0x12345678\nhlt"));
	w32(PTE32(X), PA | 7);
	w32(PTE32(X + 0x1000), 0);
	c->rip = X + 0xffe;
	IS(run(), VEC_PF);
	IS(c->cr2, X + 0x1000);
	IS(r32(c->gpr[RSP]), 0);			/* error code */
	IS(r32(c->gpr[RSP] + 4), X + 0xffe);
}

static void
mappings(void)
{
	map_flips();
	map_spaces();
	map_many();
	map_rights();
	map_large();
	map_alias();
	map_32();
}
