/*
 * multiboot.c - a kernel for t/boot.bats: checks what a Multiboot 1 loader
 * promises (section 3.2, 3.3), prints command line, modules and memory on the
 * first serial port, and powers off through ACPI's fixed registers.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

__asm__(
"	.section .multiboot, \"a\"\n"
"	.balign 4\n"
"	.long 0x1badb002, 3, -(0x1badb002 + 3)\n"
"	.text\n"
"	.globl _start\n"
"_start:\n"
"	movl $stack + 4096, %esp\n"
"	pushl %ebx\n"
"	pushl %eax\n"
"	call kernel\n"
"	.bss\n"
"	.balign 16\n"
"stack:	.skip 4096\n"
"	.text\n"
);

static void
outb(unsigned port, unsigned v)
{
	__asm__ volatile("outb %b0, %w1" : : "a"(v), "d"(port));
}

static void
print(const char *s)
{
	for (; *s; s++)
		outb(0x3f8, (unsigned char)*s);
}

static void
hex(u32 v)
{
	char b[11] = "0x00000000";
	int i;

	for (i = 9; v; v >>= 4)
		b[i--] = "0123456789abcdef"[v & 15];
	print(b);
}

void	kernel(u32, const u32 *);

void
kernel(u32 magic, const u32 *info)
{
	const u32 *mod = (const u32 *)info[6];
	const char *map = (const char *)info[12];
	u32 i, cr0, kib = 0;

	__asm__ volatile("movl %%cr0, %0" : "=r"(cr0));
	print("magic ");
	hex(magic);
	print(cr0 & 0x80000000 ? " paging" : cr0 & 1 ? " protected" : " real");
	print("\nflags ");
	hex(info[0] & 0x4d);
	print("\ncmdline ");
	print((const char *)info[4]);
	for (i = 0; i < info[5]; i++) {
		print("\nmodule ");
		print((const char *)mod[i * 4 + 2]);
		print(mod[i * 4] & 4095 ? " not aligned: " : ": ");
		*(char *)mod[i * 4 + 1] = 0;
		print((const char *)mod[i * 4]);
	}
	while (map < (const char *)info[12] + info[11]) {
		if (*(const u32 *)(map + 20) == 1)
			kib += (u32)(*(const u64 *)(map + 12) >> 10);
		map += *(const u32 *)map + 4;
	}
	print("\nram ");
	hex(kib);
	print("\n");
	__asm__ volatile("outw %w0, %w1" : : "a"(0x2000), "d"(0xb004));
	for (;;)
		__asm__ volatile("hlt");
}
