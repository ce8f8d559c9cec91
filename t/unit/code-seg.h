/*
 * code-seg.h - 16-bit code, and segments that are not flat: bases off a page
 * boundary, limits that cut an instruction, an operand or the stack, and
 * offsets that wrap (SDM 3A 5.3, 20.1; SDM 3B 20).
 */

/* Offset of the fault, by the frame of the handler's 32-bit or 16-bit entry. */
static uint64_t
seg_rip(bool err)
{
	uint64_t sp = c->seg[SS].base + c->gpr[RSP] + (err ? 4 : 0);

	if (!(c->cr0 & CR0_PE))
		return r16(c->seg[SS].base + (uint16_t)c->gpr[RSP]);
	return r32(sp);
}

/* 16-bit protected: CS at base, up to limit; data and stack flat. */
static void
begin_cs16(uint32_t base, uint32_t limit)
{
	begin32();
	set_gdt(S_TEST, desc(base, limit, 0x9b));
	c->seg[CS] = seg(S_TEST);
	c->rip = 0;
	x86_mode(c);
}

static void
seg_code_limit(void)
{
	static const uint32_t base[] = { CODE, CODE + 0x10, CODE + 0xff8,
		CODE + 0x123 };
	unsigned i, b, wide, warm;

	for (b = 0; b < 4; b++)
	for (wide = 0; wide < 2; wide++)
	for (i = 1; i < 6; i++)
	for (warm = 0; warm < 2; warm++) {
		/* i increments, then one cut by the limit, or behind it */
		group = wide ? "limit of 32-bit code" : "limit of 16-bit code";
		begin_cs16(base[b], 0xfff);
		if (wide) {
			set_gdt(S_TEST, desc(base[b], 0xfff, 0x409b));
			c->seg[CS] = seg(S_TEST);
			x86_mode(c);
		}
		memset(at(base[b]), 0x43, 32);		/* inc bx */
		put(base[b] + 10, ASM16("jmp .+4"));	/* over two */
		put(base[b] + 14, ASM16("mov ax, 0x4343\nhlt"));
		if (wide)
			put(base[b] + 14, ASM32("mov eax, 0x43434343\nhlt"));
		if (warm) {
			IS(run(), NONE);
			IS(c->gpr[RBX], 10);
			pm32(0);
			set_gdt(S_TEST, desc(base[b], 0xfff, wide ? 0x409b :
			    0x9b));
			handlers();
			c->rip = 0;
			memset(c->gpr, 0, sizeof(c->gpr));
			c->gpr[RSP] = STACK0 - 0x1000;
		}
		/* behind an instruction */
		c->seg[CS] = seg(S_TEST);
		c->seg[CS].limit = i - 1;
		x86_mode(c);
		IS(run(), VEC_GP);
		IS(c->gpr[RBX], i);
		IS(seg_rip(true), i);
		/* in one */
		c->seg[CS] = seg(S_TEST);
		c->seg[CS].limit = 14 + (i & 1);
		c->rip = 0;
		c->gpr[RBX] = c->gpr[RAX] = 0;
		x86_mode(c);
		IS(run(), VEC_GP);
		IS(c->gpr[RBX], 10);
		IS(c->gpr[RAX], 0);
		IS(seg_rip(true), 14);
		/* where a jump goes */
		c->seg[CS] = seg(S_TEST);
		c->seg[CS].limit = 12;
		c->rip = 0;
		c->gpr[RBX] = 0;
		x86_mode(c);
		IS(run(), VEC_GP);
		IS(c->gpr[RBX], 10);
	}
}

enum { FAR_DATA = 0x80000 };

static void
seg_data_limit(void)
{
	static const struct {
		unsigned attr, limit, off, n; bool ok;
	} t[] = {
		{ 0x93, 0xff, 0xfe, 2, true },
		{ 0x93, 0xff, 0xff, 2, false },
		{ 0x93, 0xff, 0xff, 1, true },
		{ 0x93, 0xff, 0x100, 1, false },
		{ 0x97, 0xfff, 0xfff, 2, false },
		{ 0x97, 0xfff, 0x1000, 2, true },
		{ 0x97, 0xfff, 0xffff, 1, true },
		{ 0x97, 0xfff, 0xffff, 2, false },
		{ 0x97, 0xfff, 0, 1, false },
		{ 0x93, 0xffff, 0xffff, 2, false },
		{ 0x93, 0xffff, 0xfffe, 2, true },
		{ 0x91, 0xffff, 0, 1, false },
	};
	struct code k;
	unsigned i, w, s;

	group = "limit of data";
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++)
	for (w = 0; w < 2; w++)
	for (s = 0; s < 2; s++) {
		bool ok = t[i].ok || (t[i].attr == 0x91 && !w);

		begin_cs16(CODE + 0x35, 0xffff);
		set_gdt(S_GATE, desc(FAR_DATA + 0x35, t[i].limit, t[i].attr));
		memset(at(FAR_DATA), 0x11, 0x11000);
		c->gpr[RBX] = t[i].off;
		c->gpr[RCX] = 0x7777;
		c->gpr[RDX] = S_GATE;
		c->seg[DS] = c->seg[ES] = seg(S_GATE);
		x86_mode(c);
		if (w && s)
			k = t[i].n == 1 ?
			    ASM16("mov di, bx\nmov al, cl\nstosb\nhlt") :
			    ASM16("mov di, bx\nmov ax, cx\nstosw\nhlt");
		else if (w)
			k = t[i].n == 1 ? ASM16("mov [bx], cl\nhlt") :
			    ASM16("mov [bx], cx\nhlt");
		else if (s)
			k = t[i].n == 1 ? ASM16("mov si, bx\nlodsb\nhlt") :
			    ASM16("mov si, bx\nlodsw\nhlt");
		else
			k = t[i].n == 1 ? ASM16("mov al, [bx]\nhlt") :
			    ASM16("mov ax, [bx]\nhlt");
		IS(go(k), ok ? NONE : VEC_GP);
		if (ok && w)
			IS(*(uint8_t *)at(FAR_DATA + 0x35 + t[i].off), 0x77);
		else if (ok)
			IS(c->gpr[RAX] & 0xff, 0x11);
		else
			IS(c->gpr[RAX] & 0xff, w && s ? 0x77 : 0);
	}
}

/* The same programs in real, virtual-8086 and 16-bit protected mode. */
enum { REAL, V86, P16 };
static const char *const mode_name[] = { "real mode", "virtual-8086 mode",
	"16-bit protected mode" };

static void
begin_mode(unsigned m, unsigned off)
{
	if (m == REAL)
		begin16();
	else if (m == V86) {
		vm86(3);
		handlers();
	} else {
		begin_cs16(CODE + off, 0xffff);
		set_gdt(S_TEST + 8, desc(0x40000, 0xffff, 0x93));
		c->seg[SS] = c->seg[DS] = seg(S_TEST + 8);
	}
	if (m != P16) {
		seg_real(c, CS, (uint16_t)((CODE + off) >> 4));
		seg_real(c, SS, 0x4000);
	}
	c->gpr[RSP] = 0x8000;
	c->rip = 0;
	x86_mode(c);
}

static void
seg_wrap(void)
{
	unsigned m, k;
	uint64_t base;

	for (m = 0; m < 3; m++)
	for (k = 0; k < 2; k++) {
		unsigned off = k ? 0x1230 : 0;

		what = k ? "base off a page" : "";
		group = mode_name[m];
		/* the stack pointer wraps, operands at the limit do not */
		begin_mode(m, off);
		c->gpr[RSP] = 0x12340002;
		IS(go(ASM16("mov ax, 0x1122\npush ax\npush ax\nmov bp, sp\n"
		    "mov bx, [bp]\npop cx\npop dx\nmov sp, 0x8000\n"
		    ".byte 0xcd, 0x40")), 0x40);
		IS(c->gpr[RBP] & 0xffff, 0xfffe);
		IS(c->gpr[RBX] & 0xffff, 0x1122);
		IS(c->gpr[RDX] & 0xffff, 0x1122);
		IS(c->gpr[RSP] >> 16 == 0x1234, m != V86);
		IS(r16(0x40000), 0x1122);
		IS(r16(0x4fffe), 0x1122);
		begin_mode(m, off);
		c->gpr[RBX] = 0xffff;
		IS(go(ASM16("inc cx\nmov ax, [bx]\ninc cx\nhlt")), VEC_GP);
		IS(c->gpr[RCX], 1);
		begin_mode(m, off);
		c->gpr[RBP] = 0xffff;
		IS(go(ASM16("inc cx\nmov ax, [bp]\ninc cx\nhlt")), VEC_SS);
		IS(c->gpr[RCX], 1);
		/* jumps: IP is 16 bits */
		begin_mode(m, off);
		base = c->seg[CS].base;
		put(base + 0xfff0, ASM16("inc cx\njmp .+0x20"));
		put(base + 0x11, ASM16("inc dx\ncmp dx, 50\njb 1f\n"
		    ".byte 0xcd, 0x40\n1: jmp .-0x29"));
		c->rip = 0xfff0;
		IS(run(), 0x40);
		IS(c->gpr[RCX] & 0xffff, 50);
		IS(c->gpr[RDX] & 0xffff, 50);
		/* call and ret, near and far, through memory, and int */
		begin_mode(m, off);
		base = c->seg[CS].base;
		put(base + 0x800, ASM16("inc dx\nret"));
		put(base + 0x900, ASM16("inc si\nretf"));
		put(base + 0xa00, ASM16("inc di\nret 2"));
		w16(0x40100, 0x800);
		w16(0x40110, 0x900);
		w16(0x40112, c->seg[CS].sel);
		IS(go(ASM16("mov cx, 20\n1: call .+0x800-3\nmov bx, 0x800\n"
		    "call bx\nmov bp, 0x100\ncall word ptr [bp]\n"
		    "mov bp, 0x110\ncall dword ptr [bp]\npush cs\n"
		    "mov bx, 0x900\ncall bx\npush cx\nmov bx, 0xa00\ncall bx\n"
		    "push cs\nmov bx, offset 2f - 1b + 3\npush bx\n"
		    "retf\nhlt\n2: dec cx\njnz 1b\n"
		    ".byte 0xcd, 0x40")), 0x40);
		IS(c->gpr[RDX] & 0xffff, 60);
		IS(c->gpr[RSI] & 0xffff, 40);
		IS(c->gpr[RDI] & 0xffff, 20);
		IS(c->gpr[RCX] & 0xffff, 0);
		/* an instruction and an operand on two pages */
		begin_mode(m, off);
		base = c->seg[CS].base;
		c->rip = 0x2ffe - (base & 0xfff);
		w16(0x40fff, 0x5566);
		put(base + c->rip, ASM16("mov ebx, 0x12345678\nmov bp, 0xfff\n"
		    "mov ax, [bp]\nadd word ptr [bp], 1\nmov cx, [bp]\n"
		    ".byte 0xcd, 0x40"));
		IS(run(), 0x40);
		IS(c->gpr[RBX], 0x12345678);
		IS(c->gpr[RAX] & 0xffff, 0x5566);
		IS(c->gpr[RCX] & 0xffff, 0x5567);
		/* self-modifying, through another segment */
		begin_mode(m, off);
		c->gpr[RCX] = 40;
		IS(go(ASM16("push cs\npop ax\n1: mov bp, 0x100\n"
		    "mov byte ptr cs:[2f - 1b + 4], cl\n2: add dx, 1\n"
		    "dec cx\njnz 1b\n.byte 0xcd, 0x40")), m == P16 ? VEC_GP :
		    0x40);
		if (m != P16)
			IS(c->gpr[RDX] & 0xffff, 40 * 41 / 2);
	}
	what = "";
	/* SP odd: a word beyond the limit */
	group = "real mode";
	begin_mode(REAL, 0);
	c->gpr[RSP] = 0x8000;
	IS(go(ASM16("mov sp, 0xffff\npop ax\nhlt")), VEC_SS);
	/* 32-bit stack of 16-bit code, and the other way round */
	group = "16-bit code, 32-bit stack";
	begin_cs16(CODE + 0x77, 0xffff);
	c->gpr[RSP] = 0x50002;
	IS(go(ASM16("mov ax, 0x3344\npush ax\npush eax\npop ecx\npop dx\n"
	    "call 1f\nhlt\n1: ret")), NONE);
	IS(c->gpr[RSP], 0x50002);
	IS(r16(0x50000), 12);		/* where the call returned to */
	IS(c->gpr[RCX] & 0xffff, 0x3344);
	group = "32-bit code, 16-bit stack";
	begin32();
	set_gdt(S_TEST + 8, desc(0x40000, 0xffff, 0x93));
	c->seg[SS] = seg(S_TEST + 8);
	c->gpr[RSP] = 0xabcd0004;
	x86_mode(c);
	IS(go(ASM32("mov eax, 0x55667788\npush eax\npush eax\npop ecx\n"
	    "pop edx\ncall 1f\nhlt\n1: inc ebx\nret")), NONE);
	IS(c->gpr[RSP], 0xabcd0004);
	IS(r32(0x4fffc), 0x55667788);
	IS(r32(0x40000), CODE + ASM32("mov eax, 0x55667788\npush eax\n"
	    "push eax\npop ecx\npop edx\ncall .+5\n").n);
	IS(c->gpr[RDX], 0x55667788);
	IS(c->gpr[RBX], 1);
	/* ESP wraps at 4 GiB in a flat segment: a run over the end */
	group = "32-bit stack, a run over 4 GiB";
	begin32();
	c->gpr[RSP] = 8;
	IS(go(ASM32("mov eax, 0x1234\npush eax\npush eax\npush eax\n"
	    "pop ecx\nhlt")), NONE);
	IS(c->gpr[RSP], 0);
	IS(r32(0), 0x1234);
	IS(r32(4), 0x1234);
}

static void
segments(void)
{
	seg_code_limit();
	seg_data_limit();
	seg_wrap();
}
