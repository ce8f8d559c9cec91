/* links: cpu without its process, bus, mem */
/*
 * emitted.c - how much host code the translator makes of each kind of guest
 * instruction: t/emitted.txt is what it printed last, so that a change of code
 * generation shows as a difference.
 *
 * For each: host instructions and bytes where control passes, in blocks that run
 * seldom and in those that run often.  Flags are dead behind the instruction,
 * unless it says "live".
 */
#include "codetest.h"

/* Host instructions and bytes of the block at CODE, to its end. */
static void
measure(struct code k, struct code rest, unsigned *n, unsigned *bytes)
{
	ZydisDecoder d;
	ZydisDecodedInstruction in;
	const struct block *b;
	const uint8_t *p;

	begin64(0);
	put(CODE, k);
	put(CODE + k.n, rest);
	c->rip = CODE;
	b = block_here(c);
	*n = *bytes = 0;
	if (!b)
		return;
	ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (p = b->host; p < b->host + b->host_len; p += in.length) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, p, 15,
		    &in)))
			break;
		++*n;
	}
	*bytes = b->host_len;
}

static void
row(const char *name, struct code k, bool live, bool ends)
{
	struct code dead = ASM64("xor eax, eax\nhlt");
	struct code all = ASM64("hlt");
	unsigned n[2], bytes[2], n0, bytes0, i;

	group = "emitted";
	what = name;
	for (i = 0; i < 2; i++) {
		jit_on.tiers = i == 0;
		measure((struct code){ "", 0 }, live ? all : dead, &n0, &bytes0);
		measure(k, live ? all : dead, &n[i], &bytes[i]);
		if (ends)
			continue;
		n[i] -= n0;
		bytes[i] -= bytes0;
	}
	printf("%-36s%8d%8d%10d%8d\n", name, (int)n[0], (int)bytes[0], (int)n[1],
	    (int)bytes[1]);
}

#define ROW(text)	row(text, ASM64(text), false, false)
#define LIVE(text)	row(text "; live", ASM64(text), true, false)
#define END(text)	row(text, ASM64(text), false, true)

int
main(void)
{
	world();
	printf("%-36s%16s%18s\n", "", "seldom run", "often run");
	printf("%-36s%8s%8s%10s%8s\n", "guest instruction", "insns", "bytes",
	    "insns", "bytes");
	ROW("mov eax, ebx");
	ROW("mov r9, rbx");
	ROW("lea rax, [rbx + 8]");
	ROW("add eax, ebx");
	ROW("add r9, r10");
	ROW("imul rax, rbx");
	ROW("mov rax, [rbx]");
	ROW("mov rax, [rbx + rcx * 8]");
	ROW("mov rax, [rip + 64]");
	ROW("mov rax, fs:[rbx]");
	ROW("mov [rbx], rax");
	ROW("add [rbx], rax");
	LIVE("mov rax, [rbx]");
	LIVE("mov [rbx], rax");
	ROW("lock xadd [rbx], rax");
	ROW("movups xmm0, [rbx]");
	ROW("addsd xmm0, [rbx]");
	ROW("fld qword ptr [rbx]");
	ROW("push rax");
	ROW("pop rax");
	ROW("push rax; push rbx; push rcx");
	ROW("mov rax, [rbx]; mov rcx, [rbx + 8]");
	ROW("jz 1f; nop; 1:");
	END("1: dec ecx; jnz 1b");
	END("call .+5");
	END("call .+8192");
	END("jmp .+8192");
	END("ret");
	END("jmp rax");
	END("jmp [rbx]");
	END("call rax");
	ROW("rep movsb");
	ROW("pushfq");
	END("cli");
	ROW("sti");
	ROW("swapgs");
	END("invlpg [rbx]");
	END("mov cr3, rax");
	ROW("rdtsc");
	ROW("rdtscp");
	ROW("cpuid");
	END("syscall");
	END("iretq");
	END("mov rax, cr2");
	ROW("in al, dx");
	return 0;
}
