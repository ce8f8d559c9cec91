/* links: cpu without its process, bus, mem */
/*
 * x86sem.c - exceptions, far transfers and tasks of the x86 vcpu against the
 * rules of the SDM (volume 3A unless said otherwise).
 */
#include "x86sem.h"

/* --------------------------------------------------- interrupts, exceptions */

static void
deliver_protected(void)
{
	unsigned bits;

	group = "protected-mode delivery";
	for (bits = 0; bits < 2; bits++) {
		unsigned n = bits ? 4 : 2, type = bits ? 0x8e : 0x86;
		uint32_t sp;

		what = bits ? "32-bit gate" : "16-bit gate";
		pm32(0);
		set_idt(13, S_C32, 0x5678, type, 0);
		c->eflags = 0x10202 | FL_IF;
		sp = (uint32_t)c->gpr[RSP];
		interrupt(13, INT_EXCEPTION, 0xabc);
		IS(c->rip, 0x5678);
		IS(c->gpr[RSP], sp - 4 * n);
		IS(r16(sp - 4 * n), 0xabc);
		IS(r32(sp - 3 * n) & 0xffff, CODE & 0xffff);
		IS(r16(sp - 2 * n), S_C32);
		IS(r16(sp - n), 0x202);
		IS(c->eflags & FL_IF, 0);
		/* trap gate keeps IF; no error code for an external interrupt */
		pm32(0);
		set_idt(13, S_C32, 0x5678, type | 1, 0);
		c->eflags |= FL_IF;
		interrupt(13, INT_EXTERNAL, 0);
		IS(c->gpr[RSP], sp - 3 * n);
		IS(c->eflags & FL_IF, FL_IF);
		/* from user: the stack of the TSS */
		pm32(3);
		set_idt(14, S_C32, 0x5678, type, 0);
		interrupt(14, INT_EXCEPTION, 5);
		IS(c->cpl, 0);
		IS(c->seg[CS].sel, S_C32);
		IS(c->seg[SS].sel, S_D32);
		IS(c->gpr[RSP], STACK0 - 6 * n);
		IS(r16(STACK0 - n), S_UD | 3);
		IS(r32(STACK0 - 2 * n) & 0xffff, STACK3 & 0xffff);
		IS(r16(STACK0 - 4 * n), S_U32 | 3);
	}
	what = "";
	/* int n needs the gate's DPL; the error names the gate */
	pm32(3);
	set_idt(0x80, S_C32, HANDLER, 0x8e, 0);
	set_idt(13, S_C32, HANDLER + 13, 0x8e, 0);
	IS(OP("\xcd\x80"), VEC_GP);
	IS(c->exc_err, 0x80 * 8 + 2);
	deliver();
	IS(c->rip, HANDLER + 13);
	IS(r32(STACK0 - 20), CODE);		/* at the int itself */
	pm32(3);
	set_idt(0x80, S_C32, HANDLER, 0xee, 0);
	IS(OP("\xcd\x80"), NONE);
	IS(c->rip, HANDLER);
	IS(r32(STACK0 - 20), CODE + 2);
	/* absent gate, absent code segment, null code segment */
	pm32(0);
	set_idt(0x80, S_C32, HANDLER, 0x0e, 0);
	IS(OP("\xcd\x80"), VEC_NP);
	IS(c->exc_err, 0x80 * 8 + 2);
	set_idt(0x80, S_TEST, HANDLER, 0x8e, 0);
	set_gdt(S_TEST, desc(0, 0xfffff, 0xc01b));
	IS(OP("\xcd\x80"), VEC_NP);
	IS(c->exc_err, S_TEST);
	set_idt(0x80, 0, HANDLER, 0x8e, 0);
	IS(OP("\xcd\x80"), VEC_GP);
	IS(c->exc_err, 0);
	/* conforming handler: no change of level or stack */
	pm32(3);
	set_gdt(S_TEST, desc(0, 0xfffff, 0xc09f));
	set_idt(0x80, S_TEST, HANDLER, 0xee, 0);
	IS(OP("\xcd\x80"), NONE);
	IS(c->cpl, 3);
	IS(c->gpr[RSP], STACK3 - 12);
	/* a bad stack in the TSS is #TS with its selector */
	pm32(3);
	set_idt(0x80, S_C32, HANDLER, 0xee, 0);
	w16(TSS + 8, S_UD | 3);
	IS(OP("\xcd\x80"), VEC_TS);
	IS(c->exc_err, S_UD);
	IS(c->gpr[RSP], STACK3);
	IS(c->cpl, 3);
}

static void
deliver_long(void)
{
	group = "long-mode delivery";
	long64(0);
	set_idt(14, S_C64, 0xffff800000001000ull, 0x8e, 0);
	c->gpr[RSP] = STACK0 - 0x1003;
	c->cr2 = 0;
	interrupt(14, INT_EXCEPTION, 2);
	IS(c->rip, 0xffff800000001000ull);
	IS(c->gpr[RSP], STACK0 - 0x1010 - 48);
	IS(r64(c->gpr[RSP]), 2);
	IS(r64(c->gpr[RSP] + 8), CODE);
	IS(r64(c->gpr[RSP] + 16), S_C64);
	IS(r64(c->gpr[RSP] + 24), 2 | FL_RF);
	IS(r64(c->gpr[RSP] + 32), STACK0 - 0x1003);
	IS(r64(c->gpr[RSP] + 40), S_D32);
	/* user, and IST even without a change of level */
	long64(3);
	set_idt(0x40, S_C64, HANDLER, 0x8e, 0);
	interrupt(0x40, INT_EXTERNAL, 0);
	IS(c->gpr[RSP], STACK0 - 40);
	IS(c->seg[SS].sel, 0);
	IS(c->cpl, 0);
	long64(0);
	set_idt(2, S_C64, HANDLER, 0x8e, 1);
	interrupt(2, INT_NMI, 0);
	IS(c->gpr[RSP], STACK0 - 0x2000 - 40);
	IS(c->nmi_blocked, 1);
	IS(OP("\x48\xcf"), NONE);
	IS(c->nmi_blocked, 0);
	IS(c->rip, CODE);
	IS(c->seg[SS].sel, S_D32);
	/* a 32-bit code segment cannot handle, nor 16-bit gates */
	set_idt(0x40, S_C32, HANDLER, 0x8e, 0);
	set_idt(0x41, S_C64, HANDLER, 0x86, 0);
	IS(OP("\xcd\x40"), VEC_GP);
	IS(c->exc_err, S_C32);
	IS(OP("\xcd\x41"), VEC_GP);
	IS(c->exc_err, 0x41 * 8 + 2);
}

static void
double_faults(void)
{
	group = "double faults";
	/* #GP while delivering #GP: #DF with 0; then nothing left: shutdown */
	pm32(0);
	set_idt(8, S_C32, HANDLER, 0x8e, 0);
	IS(OP("\x0f\x0b"), VEC_UD);		/* IDT 6 and 13 are empty */
	deliver();
	IS(c->rip, HANDLER);
	IS(r32(c->gpr[RSP]), 0);
	IS(r32(c->gpr[RSP] + 4), CODE);
	pm32(0);
	IS(OP("\x0f\x0b"), VEC_UD);
	deliver();
	IS(strcmp(event, "triple"), 0);
	/* #UD is benign: #GP follows it as itself */
	pm32(0);
	set_idt(13, S_C32, HANDLER + 13, 0x8e, 0);
	set_idt(8, S_C32, HANDLER + 8, 0x8e, 0);
	OP("\x0f\x0b");
	deliver();
	IS(c->rip, HANDLER + 13);
	/* #PF then #PF (stack not mapped): #DF on its IST */
	long64(0);
	set_idt(14, S_C64, HANDLER, 0x8e, 0);
	set_idt(8, S_C64, HANDLER + 8, 0x8e, 1);
	c->gpr[RSP] = 0x700000;
	w64(PTE(0x6ff000), 0);
	c->gpr[RBX] = 0x6ff000;
	IS(OP("\x8b\x03"), VEC_PF);
	IS(c->cr2, 0x6ff000);
	deliver();
	IS(c->rip, HANDLER + 8);
	IS(r64(c->gpr[RSP]), 0);
}

static void
deliver_real(void)
{
	group = "real-mode delivery";
	real16();
	w32(0x21 * 4, 0x60001234);
	c->eflags |= FL_IF | FL_TF;
	IS(OP("\xcd\x21"), NONE);
	IS(c->seg[CS].sel, 0x6000);
	IS(c->seg[CS].base, 0x60000);
	IS(c->rip, 0x1234);
	IS(c->gpr[RSP], 0x8000 - 6);
	IS(r16(0x38000 - 6), 2);
	IS(r16(0x38000 - 4), CODE >> 4);
	IS(r16(0x38000 - 2), 2 | FL_IF | FL_TF);
	IS(c->eflags & (FL_IF | FL_TF), 0);
	c->seg[CS].limit = 0xffff;
	IS(OP("\xcf"), NONE);
	IS(c->rip, 2);
	IS(c->seg[CS].base, CODE);
	IS(c->gpr[RSP], 0x8000);
	IS(c->eflags, 2 | FL_IF | FL_TF);
	/* the stack pointer wraps, one word at a time */
	c->eflags = 2;
	c->rip = 0;
	x86_mode(c);
	c->gpr[RSP] = 0x12340002;
	IS(OP("\xcd\x21"), NONE);
	IS(c->gpr[RSP], 0x1234fffc);
	/* a frame that straddles the limit changes nothing */
	real16();
	c->gpr[RSP] = 0x8003;
	c->seg[SS].limit = 0x8000;
	IS(OP("\xcd\x21"), VEC_SS);
	IS(c->gpr[RSP], 0x8003);
	c->idt.limit = 0x83;
	IS(OP("\xcd\x21"), VEC_GP);
}

static void
virtual86(void)
{
	group = "virtual-8086";
	vm86(3);
	set_idt(0x21, S_C32, HANDLER, 0xee, 0);
	c->gpr[RAX] = 0;
	c->eflags |= FL_IF;
	IS(OP("\xcd\x21"), NONE);
	IS(c->rip, HANDLER);
	IS(c->cpl, 0);
	IS(c->eflags & FL_VM, 0);
	IS(c->gpr[RSP], STACK0 - 36);
	IS(r32(STACK0 - 4), DATA >> 4);		/* GS */
	IS(r32(STACK0 - 16), DATA >> 4);	/* ES */
	IS(r32(STACK0 - 20), 0x4000);		/* SS */
	IS(r32(STACK0 - 24), 0x8000);
	IS(r32(STACK0 - 28), 2 | FL_VM | FL_IOPL | FL_IF);
	IS(r32(STACK0 - 32), CODE >> 4);
	IS(r32(STACK0 - 36), 2);
	IS(c->seg[DS].attr & SEG_UNUSABLE, SEG_UNUSABLE);
	/* and back */
	IS(OP("\xcf"), NONE);
	IS(c->eflags, 2 | FL_VM | FL_IOPL | FL_IF);
	IS(c->cpl, 3);
	IS(c->rip, 2);
	IS(c->seg[CS].base, CODE);
	IS(c->seg[GS].base, DATA);
	IS(c->gpr[RSP], 0x8000);
	IS(c->mode & M_VM86, M_VM86);
	/* IOPL < 3: int, cli, sti, pushf, popf, iret are #GP */
	vm86(0);
	IS(OP("\xcd\x21"), VEC_GP);
	IS(c->exc_err, 0);
	IS(OP("\xfa"), VEC_GP);
	IS(OP("\xfb"), VEC_GP);
	IS(OP("\x9c"), VEC_GP);
	IS(OP("\x9d"), VEC_GP);
	IS(OP("\xcf"), VEC_GP);
	IS(OP("\xf4"), VEC_GP);
	IS(OP("\x0f\x00\xc8"), VEC_UD);		/* str */
	/* a handler that is not of ring 0 */
	vm86(3);
	set_idt(0x21, S_U32 | 3, HANDLER, 0xee, 0);
	IS(OP("\xcd\x21"), VEC_GP);
	IS(c->exc_err, S_U32);
	/* VME: the redirection map sends int 21h to the program's vector */
	vm86(0);
	c->cr4 = CR4_VME;
	w32(0x21 * 4, 0x60001234);
	w16(TSS + 0x66, 0x88);
	memset(at(TSS + 0x68), 0, 0x20);
	IS(OP("\xfb"), NONE);			/* sti: VIF */
	IS(c->eflags & (FL_VIF | FL_IF), FL_VIF);
	IS(OP("\xcd\x21"), NONE);
	IS(c->seg[CS].base, 0x60000);
	IS(c->rip, 0x1234);
	IS(c->eflags & (FL_VIF | FL_VM), FL_VM);
	IS(r16(0x48000 - 2), 2 | FL_IF | FL_IOPL);
	IS(OP("\xcf"), NONE);			/* iret: IF is VIF */
	IS(c->eflags & (FL_VIF | FL_IF | FL_IOPL), FL_VIF);
	IS(OP("\x9c"), NONE);			/* pushf */
	IS(r16(0x48000 - 2), 2 | FL_IF | FL_IOPL);
	IS(OP("\xfa"), NONE);			/* cli */
	IS(c->eflags & FL_VIF, 0);
	c->eflags |= FL_VIP;
	IS(OP("\x9d"), VEC_GP);			/* popf of IF with VIP */
	IS(c->gpr[RSP], 0x7ffe);
	IS(OP("\xfb"), VEC_GP);
	*(uint8_t *)at(TSS + 0x68 + 0x21 / 8) = 1 << (0x21 & 7);
	IS(OP("\xcd\x21"), VEC_GP);		/* not redirected: IOPL */
	/* ports go by the bitmap even with IOPL 3 */
	vm86(3);
	IS(OP("\xec"), VEC_GP);
	*(uint8_t *)at(TSS + 0x88) = 0xfe;
	IS(OP("\xec"), NONE);
	IS(OP("\xed"), VEC_GP);			/* word: second port denied */
}

/* ----------------------------------------------------------- far transfers */

static void
frame3(unsigned n, uint64_t ip, unsigned cs, uint64_t fl, uint64_t sp,
    unsigned ss)
{
	uint64_t v[5] = { ip, cs, fl, sp, ss }, a = c->gpr[RSP];
	int i;

	for (i = 0; i < 5; i++)
		memcpy(at(a + (unsigned)i * n), &v[i], n);
}

static void
irets(void)
{
	unsigned s;

	group = "iret";
	pm32(0);
	c->seg[FS] = seg(S_D32);
	c->seg[ES] = seg(S_UD | 3);
	frame3(4, HANDLER, S_U32 | 3, 0x3202, STACK3, S_UD | 3);
	IS(OP("\xcf"), NONE);
	IS(c->cpl, 3);
	IS(c->rip, HANDLER);
	IS(c->gpr[RSP], STACK3);
	IS(c->eflags, 0x3202);
	IS(c->seg[FS].attr & SEG_UNUSABLE, SEG_UNUSABLE);
	IS(c->seg[DS].attr & SEG_UNUSABLE, SEG_UNUSABLE);
	IS(c->seg[ES].attr & SEG_UNUSABLE, 0);
	/* user code cannot raise IOPL or IF */
	frame3(4, HANDLER, S_U32 | 3, 0x0002, 0, 0);
	IS(OP("\xcf"), NONE);
	IS(c->eflags, 0x3002);		/* IOPL 3: IF may change, IOPL not */
	c->eflags = 2 | FL_IF;
	c->gpr[RSP] = STACK3;
	frame3(4, HANDLER, S_U32 | 3, 0x3002, 0, 0);
	IS(OP("\xcf"), NONE);
	IS(c->eflags, 2 | FL_IF);
	/* not to an inner level; not to data; absent; faults change nothing */
	s = (unsigned)c->gpr[RSP];
	frame3(4, HANDLER, S_C32, 2, 0, 0);
	IS(OP("\xcf"), VEC_GP);
	IS(c->exc_err, S_C32);
	frame3(4, HANDLER, S_UD | 3, 2, 0, 0);
	IS(OP("\xcf"), VEC_GP);
	frame3(4, HANDLER, 0, 2, 0, 0);
	IS(OP("\xcf"), VEC_GP);
	IS(c->exc_err, 0);
	IS(c->gpr[RSP], s);
	pm32(0);
	frame3(4, HANDLER, S_U32 | 3, 2, STACK3, S_D32);
	IS(OP("\xcf"), VEC_GP);
	IS(c->exc_err, S_D32);
	IS(c->cpl, 0);
	/* 16-bit SS: only SP changes */
	pm32(0);
	set_gdt(S_TEST, desc(0, 0xffff, 0xf3));
	c->gpr[RSP] = STACK0 - 0x1000;
	frame3(4, HANDLER, S_U32 | 3, 2, 0x12345678, S_TEST | 3);
	IS(OP("\xcf"), NONE);
	IS(c->gpr[RSP], ((STACK0 - 0x1000) & ~0xffff) | 0x5678);
	/* 64-bit: always SS:RSP; to compatibility mode and back */
	long64(0);
	frame3(8, HANDLER, S_C64, 0x202, STACK0 - 0x101, S_D32);
	IS(OP("\x48\xcf"), NONE);
	IS(c->gpr[RSP], STACK0 - 0x101);
	IS(c->cpl, 0);
	c->gpr[RSP] = STACK0 - 0x1000;
	frame3(8, HANDLER, S_U32 | 3, 0x202, STACK3, S_UD | 3);
	IS(OP("\x48\xcf"), NONE);
	IS(c->mode & M_SIZE, M_32);
	IS(c->cpl, 3);
	long64(0);
	frame3(8, 0x0000800000000000ull, S_C64, 0x202, STACK0, S_D32);
	IS(OP("\x48\xcf"), VEC_GP);
	frame3(8, HANDLER, S_U64 | 3, 0x202, STACK3, 3);
	IS(OP("\x48\xcf"), VEC_GP);		/* null SS for ring 3 */
	c->eflags |= FL_NT;
	IS(OP("\x48\xcf"), VEC_GP);
}

static void
calls(void)
{
	group = "far calls";
	/* through a gate to ring 0 with two parameters, and back */
	pm32(3);
	set_gdt(S_GATE, gate(S_C32, HANDLER, 0xec, 2));
	w32(STACK3, 0x11111111);
	w32(STACK3 + 4, 0x22222222);
	IS(OP("\x9a\0\0\0\0\x90\0"), NONE);
	IS(c->cpl, 0);
	IS(c->rip, HANDLER);
	IS(c->gpr[RSP], STACK0 - 24);
	IS(r32(STACK0 - 24), CODE + 7);
	IS(r32(STACK0 - 20), S_U32 | 3);
	IS(r32(STACK0 - 16), 0x11111111);
	IS(r32(STACK0 - 12), 0x22222222);
	IS(r32(STACK0 - 8), STACK3);
	IS(r32(STACK0 - 4), S_UD | 3);
	c->seg[DS] = seg(S_D32);
	IS(OP("\xca\x08\0"), NONE);		/* retf 8 */
	IS(c->cpl, 3);
	IS(c->rip, CODE + 7);
	IS(c->gpr[RSP], STACK3 + 8);
	IS(c->seg[DS].attr & SEG_UNUSABLE, SEG_UNUSABLE);
	/* gate of too high privilege; jmp cannot change level */
	set_gdt(S_GATE, gate(S_C32, HANDLER, 0x8c, 0));
	IS(OP("\x9a\0\0\0\0\x90\0"), VEC_GP);
	IS(c->exc_err, S_GATE);
	set_gdt(S_GATE, gate(S_C32, HANDLER, 0xec, 0));
	IS(OP("\xea\0\0\0\0\x90\0"), VEC_GP);
	IS(c->exc_err, S_C32);
	IS(OP("\xea\0\0\0\0\x08\0"), VEC_GP);	/* directly */
	set_gdt(S_GATE, gate(S_C32, HANDLER, 0x6c, 0));
	IS(OP("\x9a\0\0\0\0\x90\0"), VEC_NP);
	/* conforming code runs at the caller's level */
	set_gdt(S_TEST, desc(0, 0xfffff, 0xc09f));
	IS(OP("\xea\0\0\6\0\x80\0"), NONE);
	IS(c->rip, 0x60000);
	IS(c->cpl, 3);
	IS(c->seg[CS].sel, S_TEST | 3);
	/* an inner stack without room changes nothing */
	pm32(3);
	set_gdt(S_GATE, gate(S_C32, HANDLER, 0xec, 0));
	set_gdt(S_TEST, desc(0, 0xfff, 0x4093));
	w16(TSS + 8, S_TEST);
	w32(TSS + 4, 8);
	IS(OP("\x9a\0\0\0\0\x90\0"), VEC_SS);
	IS(c->exc_err, S_TEST);
	IS(c->cpl, 3);
	IS(c->gpr[RSP], STACK3);
	/* real mode: both directions, with an offset in memory */
	real16();
	w32(DATA, 0x60001234);
	IS(OP("\xff\x1f"), NONE);		/* call far [bx] */
	IS(c->rip, 0x1234);
	IS(c->seg[CS].base, 0x60000);
	IS(OP("\xcb"), NONE);
	IS(c->rip, 2);
	IS(c->gpr[RSP], 0x8000);
	/* long mode: 16-byte gate, 64-bit target */
	long64(3);
	w64(GDT + S_GATE, gate(S_C64, HANDLER, 0xec, 0));
	w64(GDT + S_GATE + 8, 0);
	w32(DATA, 0);
	w16(DATA + 4, S_GATE);
	c->gpr[RBX] = DATA;
	IS(OP("\xff\x1b"), NONE);
	IS(c->rip, HANDLER);
	IS(c->cpl, 0);
	IS(c->gpr[RSP], STACK0 - 32);
	IS(r64(STACK0 - 32), CODE + 2);
	IS(OP("\x48\xcb"), NONE);		/* retfq */
	IS(c->cpl, 3);
	IS(c->gpr[RSP], STACK3);
	IS(c->rip, CODE + 2);
}

static void
syscalls(void)
{
	group = "system calls";
	long64(3);
	c->star = (uint64_t)(S_C32 | 0) << 32 | (uint64_t)S_U32 << 48;
	c->lstar = 0xffffffff81000000ull;
	c->sfmask = FL_IF | FL_TF;
	c->eflags |= FL_IF | FL_CF;
	IS(OP("\x0f\x05"), NONE);
	IS(c->rip, 0xffffffff81000000ull);
	IS(c->gpr[RCX], CODE + 2);
	IS(c->gpr[R11], 2 | FL_IF | FL_CF);
	IS(c->eflags, 2 | FL_CF);
	IS(c->cpl, 0);
	IS(c->seg[CS].sel, S_C32);
	IS(c->seg[SS].sel, S_D32);
	IS(c->mode & M_SIZE, M_64);
	c->rip = CODE;
	c->gpr[RCX] = 0x0000800000000000ull;
	IS(OP("\x48\x0f\x07"), VEC_GP);
	c->gpr[RCX] = CODE + 2;
	IS(OP("\x48\x0f\x07"), NONE);
	IS(c->rip, CODE + 2);
	IS(c->cpl, 3);
	IS(c->seg[CS].sel, (S_U32 + 16) | 3);
	IS(c->seg[SS].sel, (S_U32 + 8) | 3);
	IS(c->eflags, 2 | FL_IF | FL_CF);
	IS(OP("\x0f\x07"), VEC_GP);		/* ring 3 */
	c->efer &= ~(uint64_t)EFER_SCE;
	IS(OP("\x0f\x05"), VEC_UD);
	/* sysenter, 32-bit */
	pm32(3);
	IS(OP("\x0f\x34"), VEC_GP);		/* CS 0 */
	c->sysenter_cs = S_C32;
	c->sysenter_esp = STACK0;
	c->sysenter_eip = HANDLER;
	c->eflags |= FL_IF;
	IS(OP("\x0f\x34"), NONE);
	IS(c->rip, HANDLER);
	IS(c->gpr[RSP], STACK0);
	IS(c->cpl, 0);
	IS(c->eflags & FL_IF, 0);
	c->gpr[RDX] = CODE;
	c->gpr[RCX] = STACK3;
	IS(OP("\x0f\x35"), NONE);
	IS(c->rip, CODE);
	IS(c->gpr[RSP], STACK3);
	IS(c->cpl, 3);
	IS(c->seg[CS].sel, (S_C32 + 16) | 3);
}

/* --------------------------------------------------------------- tasks (7) */

static void
make_task(void)
{
	w32(TSS2 + 0x1c, 0);
	w32(TSS2 + 0x20, HANDLER);
	w32(TSS2 + 0x24, 2);
	w32(TSS2 + 0x28, 0xa0a0a0a0);		/* eax */
	w32(TSS2 + 0x38, STACK0 - 0x3000);
	w32(TSS2 + 0x48, S_D32);
	w32(TSS2 + 0x4c, S_C32);
	w32(TSS2 + 0x50, S_D32);
	w32(TSS2 + 0x54, S_D32);
	w32(TSS2 + 0x58, S_D32);
	w32(TSS2 + 0x5c, 0);
	w32(TSS2 + 0x60, S_LDT);
}

static unsigned
type_of(unsigned sel)
{
	return r64(GDT + sel) >> 40 & 15;
}

static void
tasks(void)
{
	group = "task switch";
	pm32(0);
	make_task();
	c->gpr[RAX] = 0x12345678;
	IS(OP("\x9a\0\0\0\0\x48\0"), NONE);	/* call TSS2 */
	IS(c->rip, HANDLER);
	IS(c->gpr[RAX], 0xa0a0a0a0);
	IS(c->gpr[RSP], STACK0 - 0x3000);
	IS(c->eflags, 2 | FL_NT);
	IS(c->seg[TR].sel, S_TSS2);
	IS(c->seg[LDTR].sel, S_LDT);
	IS(c->cr0 & CR0_TS, CR0_TS);
	IS(type_of(S_TSS), 11);
	IS(type_of(S_TSS2), 11);
	IS(r16(TSS2), S_TSS);
	IS(r32(TSS + 0x20), CODE + 7);
	IS(r32(TSS + 0x28), 0x12345678);
	IS(r16(TSS + 0x4c), S_C32);
	IS(OP("\xcf"), NONE);			/* iret: back */
	IS(c->rip, CODE + 7);
	IS(c->gpr[RAX], 0x12345678);
	IS(c->seg[TR].sel, S_TSS);
	IS(c->eflags & FL_NT, 0);
	IS(type_of(S_TSS2), 9);
	IS(type_of(S_TSS), 11);
	/* jmp: no nesting, the old one is free */
	IS(OP("\xea\0\0\0\0\x48\0"), NONE);
	IS(type_of(S_TSS), 9);
	IS(c->eflags & FL_NT, 0);
	IS(OP("\xea\0\0\0\0\x48\0"), VEC_GP);	/* busy: itself */
	IS(c->exc_err, S_TSS2);
	/* a 16-bit TSS */
	pm32(0);
	w16(TSS16 + 0x0e, 0x1234);
	w16(TSS16 + 0x10, 2);
	w16(TSS16 + 0x12, 0xbeef);
	w16(TSS16 + 0x1a, 0x9000);
	w16(TSS16 + 0x22, S_D16);
	w16(TSS16 + 0x24, S_C16);
	w16(TSS16 + 0x26, S_D16);
	w16(TSS16 + 0x28, S_D16);
	IS(OP("\xea\0\0\0\0\x50\0"), NONE);
	IS(c->rip, 0x1234);
	IS(c->gpr[RAX] & 0xffff, 0xbeef);
	IS(c->mode & M_SIZE, M_16);
	/* task gates: for user code by the gate's DPL; as interrupt handler */
	pm32(3);
	make_task();
	set_gdt(S_GATE, gate(S_TSS2, 0, 0xe5, 0));
	IS(OP("\x9a\0\0\0\0\x48\0"), VEC_GP);	/* the TSS itself: DPL 0 */
	IS(OP("\x9a\0\0\0\0\x90\0"), NONE);
	IS(c->cpl, 0);
	IS(c->rip, HANDLER);
	pm32(0);
	make_task();
	set_idt(8, S_TSS2, 0, 0x85, 0);
	OP("\x0f\x0b");
	deliver();				/* #UD, #GP, #DF by a task */
	IS(c->rip, HANDLER);
	IS(c->seg[TR].sel, S_TSS2);
	IS(r32(c->gpr[RSP]), 0);		/* its error code */
	IS(c->gpr[RSP], STACK0 - 0x3000 - 4);
	/* what is wrong in the new task is #TS there */
	pm32(0);
	make_task();
	w32(TSS2 + 0x54, S_TSS);		/* DS: no data segment */
	IS(OP("\xea\0\0\0\0\x48\0"), VEC_TS);
	IS(c->exc_err, S_TSS);
	IS(c->seg[TR].sel, S_TSS2);
	IS(c->rip, HANDLER);
	pm32(0);
	make_task();
	set_gdt(S_TSS2, desc(TSS2, 0x66, 0x89));	/* too short */
	IS(OP("\xea\0\0\0\0\x48\0"), VEC_TS);
	IS(c->exc_err, S_TSS2);
	IS(c->seg[TR].sel, S_TSS);
	IS(c->rip, CODE);
}

int
main(void)
{
	world();
	deliver_protected();
	deliver_long();
	double_faults();
	deliver_real();
	virtual86();
	irets();
	calls();
	syscalls();
	tasks();
	return result();
}
