/*
 * bios16.c - interrupt stubs for a bzImage started at its 16-bit entry when
 * there is no firmware: INT 15h reports memory (E820h, E801h, 88h; ACPI 6.5
 * section 15.1) and says A20 is open; INT 10h, 11h, 12h, 13h, 16h and 1Ah
 * answer "nothing there"; every other vector returns.
 *
 * The code runs at 0060:0000 of the guest and touches nothing but its own
 * table; it is assembled here and copied.
 */
#include <string.h>

#include "boot.h"

#define STUB_E820_MAX 16

#ifdef __x86_64__
extern const uint8_t bios16_start[], bios16_end[], bios16_iret[],
    bios16_10[], bios16_11[], bios16_12[], bios16_13[], bios16_15[],
    bios16_16[], bios16_1a[], bios16_n[], bios16_table[], bios16_kb[],
    bios16_blocks[];

__asm__(
"	.pushsection .rodata\n"
"	.code16\n"
"	.globl bios16_start, bios16_end, bios16_iret, bios16_10, bios16_11\n"
"	.globl bios16_12, bios16_13, bios16_15, bios16_16, bios16_1a\n"
"	.globl bios16_n, bios16_table, bios16_kb, bios16_blocks\n"
"bios16_start:\n"
"bios16_iret:\n"
"	iretw\n"
"set_carry:\n"				/* and return from the interrupt */
"	pushw %bp\n"
"	movw %sp, %bp\n"
"	orw $1, 6(%bp)\n"
"	popw %bp\n"
"	iretw\n"
"clear_carry:\n"
"	pushw %bp\n"
"	movw %sp, %bp\n"
"	andw $0xfffe, 6(%bp)\n"
"	popw %bp\n"
"	iretw\n"
"bios16_10:\n"				/* video: text mode 3, 80 columns */
"	cmpb $0x0f, %ah\n"
"	jne 1f\n"
"	movw $0x5003, %ax\n"
"	xorb %bh, %bh\n"
"	iretw\n"
"1:	cmpb $0x03, %ah\n"
"	jne 1f\n"
"	movw $0x0607, %cx\n"
"	xorw %dx, %dx\n"
"	iretw\n"
"1:	cmpb $0x4f, %ah\n"		/* VESA: not supported */
"	jne 1f\n"
"	movw $0x0100, %ax\n"
"1:	iretw\n"
"bios16_11:\n"
"	xorw %ax, %ax\n"
"	iretw\n"
"bios16_12:\n"
"	movw $639, %ax\n"
"	iretw\n"
"bios16_13:\n"
"	movb $1, %ah\n"
"	jmp set_carry\n"
"bios16_16:\n"				/* keyboard: no key waiting */
"	testb $0x01, %ah\n"
"	jz 1f\n"
"	pushw %bp\n"
"	movw %sp, %bp\n"
"	orw $0x40, 6(%bp)\n"
"	popw %bp\n"
"	iretw\n"
"1:	testb $0x02, %ah\n"
"	jz 1f\n"
"	xorb %al, %al\n"
"	iretw\n"
"1:	movw $0x1c0d, %ax\n"
"	iretw\n"
"bios16_1a:\n"
"	orb %ah, %ah\n"
"	jnz set_carry\n"
"	xorw %ax, %ax\n"
"	xorw %cx, %cx\n"
"	xorw %dx, %dx\n"
"	iretw\n"
"bios16_15:\n"
"	cmpw $0xe820, %ax\n"
"	je e820\n"
"	cmpw $0xe801, %ax\n"
"	je e801\n"
"	cmpb $0x88, %ah\n"
"	je 2f\n"
"	cmpw $0x2401, %ax\n"		/* enable A20 */
"	je 1f\n"
"	movb $0x86, %ah\n"		/* no such function */
"	jmp set_carry\n"
"1:	xorb %ah, %ah\n"
"	jmp clear_carry\n"
"2:	movw %cs:(bios16_kb - bios16_start), %ax\n"
"	jmp clear_carry\n"
"e801:\n"
"	movw %cs:(bios16_kb - bios16_start), %ax\n"
"	movw %cs:(bios16_blocks - bios16_start), %bx\n"
"	movw %ax, %cx\n"
"	movw %bx, %dx\n"
"	jmp clear_carry\n"
"e820:\n"
"	cmpl $0x534d4150, %edx\n"	/* SMAP */
"	jne 1f\n"
"	cmpl $20, %ecx\n"
"	jb 1f\n"
"	cmpw %cs:(bios16_n - bios16_start), %bx\n"
"	jae 1f\n"
"	pushw %ds\n"
"	pushw %si\n"
"	pushw %di\n"
"	pushw %cs\n"
"	popw %ds\n"
"	imulw $20, %bx, %si\n"
"	addw $(bios16_table - bios16_start), %si\n"
"	movw $10, %cx\n"
"	cld\n"
"	rep movsw\n"
"	incw %bx\n"
"	cmpw %cs:(bios16_n - bios16_start), %bx\n"
"	jb 2f\n"
"	xorl %ebx, %ebx\n"
"2:	popw %di\n"
"	popw %si\n"
"	popw %ds\n"
"	movl %edx, %eax\n"
"	movl $20, %ecx\n"
"	jmp clear_carry\n"
"1:	movb $0x86, %ah\n"
"	jmp set_carry\n"
"	.balign 4\n"
"bios16_n:	.word 0\n"
"bios16_kb:	.word 0\n"		/* KiB above 1 MiB, at most 15 MiB */
"bios16_blocks:	.word 0\n"		/* 64 KiB blocks above 16 MiB */
"	.balign 4\n"
"bios16_table:	.fill 16 * 20, 1, 0\n"
"bios16_end:\n"
"	.code64\n"
"	.popsection\n"
);

static void
vector(uint8_t *ivt, unsigned n, const uint8_t *at)
{
	put16(ivt + n * 4, (uint16_t)(at - bios16_start));
	put16(ivt + n * 4 + 2, BOOT_BIOS16 >> 4);
}

void
boot_bios16(struct ram *r)
{
	uint8_t *ivt = ram_at(r, 0, 0x400);
	size_t len = (size_t)(bios16_end - bios16_start);
	uint8_t *s = ram_at(r, BOOT_BIOS16, len), *t;
	uint64_t ext = boot_top(r) - 0x100000, high = 0;
	struct e820 e[STUB_E820_MAX];
	int i, n;

	memcpy(s, bios16_start, len);
	n = boot_e820(r, e, STUB_E820_MAX);
	put16(s + (bios16_n - bios16_start), (uint16_t)n);
	t = s + (bios16_table - bios16_start);
	for (i = 0; i < n; i++, t += 20) {
		put64(t, e[i].addr);
		put64(t + 8, e[i].size);
		put32(t + 16, e[i].type);
	}
	if (ext > 0xf00000) {
		high = (ext - 0xf00000) >> 16;
		ext = 0xf00000;
	}
	put16(s + (bios16_kb - bios16_start), (uint16_t)(ext >> 10));
	put16(s + (bios16_blocks - bios16_start), (uint16_t)high);
	for (i = 0; i < 256; i++)
		vector(ivt, (unsigned)i, bios16_iret);
	vector(ivt, 0x10, bios16_10);
	vector(ivt, 0x11, bios16_11);
	vector(ivt, 0x12, bios16_12);
	vector(ivt, 0x13, bios16_13);
	vector(ivt, 0x15, bios16_15);
	vector(ivt, 0x16, bios16_16);
	vector(ivt, 0x1a, bios16_1a);
}
#else
void
boot_bios16(struct ram *r)
{
	/* the stubs cannot be assembled here; INT n finds an empty table */
	memset(ram_at(r, 0, 0x400), 0, 0x400);
}
#endif
