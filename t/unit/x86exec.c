/* links: cpu without its process, bus, mem */
/*
 * x86exec.c - instructions executed in C by the x86 vcpu: strings, stack,
 * system, ports, decimal arithmetic, debugging, CPUID (SDM volume 2).
 */
#include "x86sem.h"

/* ----------------------------------------------------------------- strings */

static uint8_t model_mem[0x10000];

/* REP MOVS and STOS against a byte-by-byte model, over page ends. */
static void
moves(void)
{
	static const struct { const char *op; unsigned n, size, src; } t[] = {
		{ "\xf3\xa4", 2, 1, 1 }, { "\xf3\x66\xa5", 3, 2, 1 },
		{ "\xf3\xa5", 2, 4, 1 }, { "\xf3\x48\xa5", 3, 8, 1 },
		{ "\xf3\xaa", 2, 1, 0 }, { "\xf3\x66\xab", 3, 2, 0 },
		{ "\xf3\xab", 2, 4, 0 }, { "\xf3\x48\xab", 3, 8, 0 },
	};
	static const int dist[] = { 0x2000, 0x1001, -0x1003, 1, 3, 4, 5, 8, 12,
		17, -1, -5, -64, 0 };
	static const unsigned count_[] = { 0, 1, 2, 7, 100, 600 };
	unsigned i, j, k, df, e, b;
	char msg[96];

	group = "rep movs, stos";
	what = msg;
	for (i = 0; i < 8; i++)
	for (j = 0; j < sizeof(dist) / sizeof(dist[0]); j++)
	for (k = 0; k < 6; k++)
	for (df = 0; df < 2; df++) {
		unsigned n = count_[k], size = t[i].size;
		unsigned si = 0x4ff3, di = (unsigned)((int)si + dist[j]);
		int step = df ? -(int)size : (int)size;

		long64(0);
		snprintf(msg, sizeof(msg), "size %u %s distance %d count %u "
		    "df %u", size, t[i].src ? "movs" : "stos", dist[j], n, df);
		for (b = 0; b < sizeof(model_mem); b++)
			model_mem[b] = (uint8_t)(b * 7 + (b >> 8));
		memcpy(at(DATA), model_mem, sizeof(model_mem));
		c->gpr[RSI] = DATA + si;
		c->gpr[RDI] = DATA + di;
		c->gpr[RCX] = n;
		c->gpr[RAX] = 0x8877665544332211;
		c->eflags |= df ? FL_DF : 0;
		IS(op_(t[i].op, t[i].n), NONE);
		for (e = 0; e < n; e++) {
			uint8_t v[8];

			memcpy(v, t[i].src ? &model_mem[(int)si + (int)e * step]
			    : (uint8_t *)&c->gpr[RAX], size);
			memcpy(&model_mem[(int)di + (int)e * step], v, size);
		}
		IS(memcmp(at(DATA), model_mem, sizeof(model_mem)), 0);
		IS(c->gpr[RCX], 0);
		IS(c->gpr[RDI], DATA + (uint64_t)((int)di + (int)n * step));
		if (t[i].src)
			IS(c->gpr[RSI], DATA + (uint64_t)((int)si +
			    (int)n * step));
		IS(c->rip, CODE + t[i].n);
	}
	what = "";
}

static void
scans(void)
{
	unsigned i, hit;

	group = "scas, cmps";
	for (hit = 0; hit < 40; hit++) {
		long64(0);
		memset(at(DATA + 0xff0), 'x', 64);
		*(uint8_t *)at(DATA + 0xff0 + hit) = 0;
		c->gpr[RDI] = DATA + 0xff0;
		c->gpr[RCX] = 30;
		IS(OP("\xf2\xae"), NONE);		/* repne scasb */
		IS(c->gpr[RCX], hit < 30 ? 29 - hit : 0);
		IS(c->gpr[RDI], DATA + 0xff0 + (hit < 30 ? hit + 1 : 30));
		IS(!!(c->eflags & FL_ZF), hit < 30);
		IS(!!(c->eflags & FL_CF), hit >= 30);	/* 0 - 'x' borrows */
		/* repe cmpsw of two strings that differ at byte `hit` */
		memset(at(DATA + 0xff0), 'x', 64);
		memset(at(DATA + 0x1ff8), 'x', 64);
		*(uint8_t *)at(DATA + 0x1ff8 + hit) = 'z';
		c->gpr[RSI] = DATA + 0xff0;
		c->gpr[RDI] = DATA + 0x1ff8;
		c->gpr[RCX] = 15;
		c->rip = CODE;
		IS(OP("\xf3\x66\xa7"), NONE);
		i = hit < 30 ? hit / 2 + 1 : 15;
		IS(c->gpr[RCX], 15 - i);
		IS(c->gpr[RSI], DATA + 0xff0 + 2 * i);
		IS(c->gpr[RDI], DATA + 0x1ff8 + 2 * i);
		IS(!!(c->eflags & FL_ZF), hit >= 30);
		IS(!!(c->eflags & FL_CF), hit < 30);
	}
	/* a count of zero touches no flag and no memory */
	c->gpr[RCX] = 0;
	c->gpr[RDI] = 0xdead0000dead0000;
	c->eflags = 2 | FL_ZF | FL_CF;
	c->rip = CODE;
	IS(OP("\xf2\xae"), NONE);
	IS(c->eflags, 2 | FL_ZF | FL_CF);
}

static void
string_faults(void)
{
	group = "string faults";
	/* the third page is not there: registers say how far it came */
	long64(0);
	w64(PTE(DATA + 0x3000), 0);
	c->gpr[RSI] = DATA + 0x8000;
	c->gpr[RDI] = DATA + 0x1ff4;
	c->gpr[RCX] = 0x1000;
	memset(at(DATA + 0x2000), 0, 0x1000);
	memset(at(DATA + 0x8000), 0xa5, 0x4000);
	IS(OP("\xf3\x48\xa5"), VEC_PF);
	/* element 0x201 straddles into the absent page */
	IS(c->cr2, DATA + 0x3000);
	IS(c->exc_err, 2);
	IS(c->gpr[RCX], 0x1000 - 0x201);
	IS(c->gpr[RDI], DATA + 0x1ff4 + 8 * 0x201);
	IS(c->gpr[RSI], DATA + 0x8000 + 8 * 0x201);
	IS(c->rip, CODE);
	IS(r32(DATA + 0x2ff8), 0xa5a5a5a5);
	IS(r32(DATA + 0x2ffc), 0);
	w64(PTE(DATA + 0x3000), (DATA + 0x3000) | 7);
	IS(raised(step_, NULL), NONE);
	IS(c->gpr[RCX], 0);
	/* read-only for a user */
	long64(3);
	w64(PTE(DATA + 0x1000), (DATA + 0x1000) | 5);
	c->gpr[RDI] = DATA + 0xffe;
	c->gpr[RCX] = 4;
	IS(OP("\xf3\xaa"), VEC_PF);
	IS(c->exc_err, 7);
	IS(c->gpr[RCX], 2);
	/* 16-bit addresses wrap, count is CX */
	real16();
	c->gpr[RSI] = 0x1230fffe;
	c->gpr[RDI] = 0x45608000;
	c->gpr[RCX] = 0x78900004;
	memcpy(at(DATA + 0xfffe), "ab", 2);
	memcpy(at(DATA), "cd", 2);
	IS(OP("\xf3\xa4"), NONE);
	IS(memcmp(at(DATA + 0x8000), "abcd", 4), 0);
	IS(c->gpr[RSI], 0x12300002);
	IS(c->gpr[RDI], 0x45608004);
	IS(c->gpr[RCX], 0x78900000);
	/* a word at the end of the segment */
	c->gpr[RSI] = 0xffff;
	c->gpr[RCX] = 1;
	IS(OP("\xf3\xa5"), VEC_GP);
	IS(c->gpr[RCX], 1);
	/* segment override for the source only */
	real16();
	seg_real(c, FS, 0x7000);
	memcpy(at(0x70010), "FS", 2);
	c->gpr[RSI] = 0x10;
	c->gpr[RDI] = 0x20;
	IS(OP("\x64\xa5"), NONE);
	IS(memcmp(at(DATA + 0x20), "FS", 2), 0);
	/* 32-bit address size in 64-bit mode clears the upper halves */
	long64(0);
	c->gpr[RSI] = 0xffffffff00000000 | DATA;
	c->gpr[RDI] = 0xffffffff00000000 | (DATA + 0x100);
	c->gpr[RCX] = 0xffffffff00000002;
	IS(OP("\x67\xf3\xa4"), NONE);
	IS(c->gpr[RSI], DATA + 2);
	IS(c->gpr[RDI], DATA + 0x102);
	IS(c->gpr[RCX], 0);
	/* lods */
	w64(DATA, 0x8877665544332211);
	c->gpr[RSI] = DATA;
	c->gpr[RAX] = ~0ull;
	IS(OP("\xad"), NONE);
	IS(c->gpr[RAX], 0x44332211);
	c->gpr[RSI] = DATA;
	c->gpr[RAX] = ~0ull;
	IS(OP("\x66\xad"), NONE);
	IS(c->gpr[RAX], 0xffffffffffff2211);
	/* an interrupt waiting stops a long one between pages */
	long64(0);
	c->gpr[RSI] = DATA;
	c->gpr[RDI] = DATA + 0x40000;
	c->gpr[RCX] = 0x20000;
	*c->poll = 1;
	IS(OP("\xf3\xa4"), NONE);
	*c->poll = 0;
	IS(c->rip, CODE);
	IS(c->gpr[RCX] > 0 && c->gpr[RCX] < 0x20000, 1);
	IS(c->gpr[RSI], DATA + 0x20000 - c->gpr[RCX]);
	IS(raised(step_, NULL), NONE);
	IS(c->gpr[RCX], 0);
	IS(c->rip, CODE + 2);
}

static void
ports(void)
{
	group = "ports";
	pm32(3);
	c->gpr[RDX] = 0x80;
	IS(OP("\xee"), VEC_GP);			/* IOPL 0, bitmap says no */
	*(uint8_t *)at(TSS + 0x88 + 0x10) = 0;
	c->gpr[RAX] = 0x12345678;
	IS(OP("\xef"), NONE);			/* out dx, eax */
	IS(port_out, 0x12345678);
	c->gpr[RDX] = 0x85;
	IS(OP("\xef"), VEC_GP);			/* 0x88 is not allowed */
	c->eflags |= FL_IOPL;
	IS(OP("\xef"), NONE);
	c->eflags = 2;
	c->seg[TR].limit = 0x97;
	c->gpr[RDX] = 0x80;
	IS(OP("\xee"), VEC_GP);			/* bitmap needs a byte more */
	c->seg[TR].limit = 0x99;
	IS(OP("\xee"), NONE);
	w16(TSS + 0x66, 0xffff);
	IS(OP("\xee"), VEC_GP);
	pm32(0);
	c->gpr[RAX] = ~0ull >> 32;
	IS(OP("\xe4\x60"), NONE);		/* in al, 0x60 */
	IS(c->gpr[RAX], 0xffffff44);
	IS(port_last, 0x60);
	IS(OP("\x66\xe5\x61"), NONE);
	IS(c->gpr[RAX], 0xffff3344);
	c->gpr[RDX] = 0x1f0;
	c->gpr[RDI] = DATA + 0xf00;
	c->gpr[RCX] = 256;
	IS(OP("\xf3\x66\x6d"), NONE);		/* rep insw over a page end */
	IS(c->gpr[RDI], DATA + 0x1100);
	IS(r16(DATA + 0x10fe), 0x5a5a);
	IS(port_n, 258);
	long64(0);				/* a fault before the port */
	w64(PTE(DATA), 0);
	c->gpr[RDI] = DATA;
	IS(OP("\x6d"), VEC_PF);
	IS(port_n, 0);
}

/* ---------------------------------------------------------- stack and flow */

static void
stack_ops(void)
{
	group = "stack";
	long64(0);
	c->gpr[RSP] = DATA + 0x100;
	IS(OP("\x54"), NONE);				/* push rsp */
	IS(r64(DATA + 0xf8), DATA + 0x100);
	IS(OP("\x5c"), NONE);				/* pop rsp */
	IS(c->gpr[RSP], DATA + 0x100);
	IS(OP("\x6a\xff"), NONE);			/* push -1 */
	IS(r64(DATA + 0xf8), ~0ull);
	IS(OP("\x66\x6a\xfe"), NONE);
	IS(c->gpr[RSP], DATA + 0xf6);
	IS(r16(DATA + 0xf6), 0xfffe);
	c->gpr[RSP] = DATA + 0x100;
	w64(DATA + 0x100, 0x1122334455667788);
	IS(OP("\x8f\x44\x24\x10"), NONE);		/* pop [rsp+16] */
	IS(r64(DATA + 0x118), 0x1122334455667788);
	IS(c->gpr[RSP], DATA + 0x108);
	IS(OP("\x0f\xa0"), NONE);			/* push fs */
	IS(c->gpr[RSP], DATA + 0x100);
	w64(DATA + 0x100, S_D32);
	IS(OP("\x0f\xa9"), NONE);			/* pop gs */
	IS(c->seg[GS].sel, S_D32);
	/* enter with nesting, leave */
	c->gpr[RSP] = DATA + 0x200;
	c->gpr[RBP] = DATA + 0x300;
	w64(DATA + 0x2f8, 0xaa);
	w64(DATA + 0x2f0, 0xbb);
	IS(OP("\xc8\x20\0\x03"), NONE);
	IS(c->gpr[RBP], DATA + 0x1f8);
	IS(c->gpr[RSP], DATA + 0x1e0 - 0x20);
	IS(r64(DATA + 0x1f8), DATA + 0x300);
	IS(r64(DATA + 0x1f0), 0xaa);
	IS(r64(DATA + 0x1e8), 0xbb);
	IS(r64(DATA + 0x1e0), DATA + 0x1f8);
	IS(OP("\xc9"), NONE);
	IS(c->gpr[RSP], DATA + 0x200);
	IS(c->gpr[RBP], DATA + 0x300);
	/* a fault leaves the stack pointer */
	w64(PTE(DATA), DATA | 5);
	tlb_flush_all(c);
	c->gpr[RSP] = DATA + 0x1010;
	IS(OP("\xc8\x40\0\0"), VEC_PF);
	IS(c->gpr[RSP], DATA + 0x1010);
	c->gpr[RSP] = DATA + 0x1000;
	IS(OP("\xff\x34\x24"), VEC_PF);			/* push [rsp] */
	IS(c->gpr[RSP], DATA + 0x1000);
	pm32(0);
	c->gpr[RAX] = 0xa;
	c->gpr[RSP] = DATA + 0x100;
	IS(OP("\x60"), NONE);				/* pusha */
	IS(c->gpr[RSP], DATA + 0xe0);
	IS(r32(DATA + 0xfc), 0xa);
	IS(r32(DATA + 0xec), DATA + 0x100);
	c->gpr[RAX] = 0;
	IS(OP("\x61"), NONE);
	IS(c->gpr[RAX], 0xa);
	IS(c->gpr[RSP], DATA + 0x100);
	/* pop ss holds interrupts off */
	w32(DATA + 0x100, S_D32);
	c->shadow = 0;
	IS(OP("\x17"), NONE);
	IS(c->shadow, 1);
	/* 16-bit stack in 32-bit code */
	pm32(0);
	c->seg[SS] = seg(S_D16);
	x86_mode(c);
	c->gpr[RSP] = 0x12340000;
	IS(OP("\x50"), NONE);
	IS(c->gpr[RSP], 0x1234fffc);
}

static void
flow(void)
{
	group = "flow";
	real16();
	IS(OP("\xe9\xfd\xff"), NONE);			/* jmp $ */
	IS(c->rip, 0);
	IS(OP("\xeb\x80"), NONE);			/* backwards: wraps */
	IS(c->rip, 0xff82);
	c->rip = 0;
	IS(OP("\x66\xe9\0\0\1\0"), VEC_GP);		/* beyond the limit */
	IS(OP("\x66\xe8\0\0\1\0"), VEC_GP);
	IS(c->gpr[RSP], 0x8000);
	c->gpr[RCX] = 0x10001;
	IS(OP("\xe2\xfe"), NONE);			/* loop: CX */
	IS(c->gpr[RCX], 0x10000);
	IS(c->rip, 2);
	IS(OP("\xe3\x10"), NONE);			/* jcxz */
	IS(c->rip, 0x14);
	IS(OP("\x67\xe3\x10"), NONE);			/* jecxz */
	IS(c->rip, 0x17);
	long64(0);
	c->gpr[RCX] = 2;
	c->eflags |= FL_ZF;
	IS(OP("\xe1\x10"), NONE);			/* loope */
	IS(c->rip, CODE + 0x12);
	IS(OP("\xe0\x10"), NONE);			/* loopne: count out */
	IS(c->rip, CODE + 0x14);
	IS(c->gpr[RCX], 0);
	c->gpr[RAX] = 0x0000900000000000ull;
	IS(OP("\xff\xe0"), VEC_GP);			/* not canonical */
	IS(OP("\xff\xd0"), VEC_GP);
	IS(c->gpr[RSP], STACK0 - 0x1000);
	IS(OP("\xe8\0\1\0\0"), NONE);
	IS(c->rip, CODE + 0x14 + 5 + 0x100);
	IS(OP("\xc2\x10\0"), NONE);
	IS(c->rip, CODE + 0x14 + 5);
	IS(c->gpr[RSP], STACK0 - 0x1000 + 0x10);
}

static void
decimal(void)
{
	static const struct { const char *op; unsigned n, ax, fl, ax2, fl2; }
	t[] = {
		{ "\x27", 1, 0x79, FL_CF, 0xd9, FL_CF | FL_SF },
		{ "\x27", 1, 0x9a, 0, 0x00, FL_CF | FL_AF | FL_ZF | FL_PF },
		{ "\x27", 1, 0x0b, 0, 0x11, FL_AF | FL_PF },
		{ "\x2f", 1, 0xee, FL_CF | FL_AF, 0x88, FL_CF | FL_AF | FL_SF |
		    FL_PF },
		{ "\x2f", 1, 0x03, FL_AF, 0xfd, FL_CF | FL_AF | FL_SF },
		{ "\x37", 1, 0x01fa, 0, 0x0300, FL_CF | FL_AF },
		{ "\x37", 1, 0x0105, 0, 0x0105, 0 },
		{ "\x3f", 1, 0x0205, FL_AF, 0x000f, FL_CF | FL_AF },
		{ "\xd4\x0a", 2, 0x004f, 0, 0x0709, FL_PF },
		{ "\xd5\x0a", 2, 0x0709, 0, 0x004f, 0 },
		{ "\xd6", 1, 0x1234, FL_CF, 0x12ff, FL_CF },
		{ "\xd6", 1, 0x1234, 0, 0x1200, 0 },
	};
	unsigned i, mask;

	group = "decimal";
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		pm32(0);
		c->gpr[RAX] = 0xabcd0000 | t[i].ax;
		c->eflags = 2 | t[i].fl;
		IS(op_(t[i].op, t[i].n), NONE);
		IS(c->gpr[RAX], 0xabcd0000 | t[i].ax2);
		/* what is defined: daa/das all but OF, aaa/aas CF AF, aam/aad
		 * SF ZF PF */
		mask = i < 5 ? FL_STATUS & ~FL_OF : i < 8 ? FL_CF | FL_AF :
		    i < 10 ? FL_SF | FL_ZF | FL_PF : FL_STATUS;
		IS(c->eflags & mask, t[i].fl2 & mask);
	}
	IS(OP("\xd4\0"), VEC_DE);
	c->gpr[RBX] = DATA;
	c->gpr[RAX] = 0x105;
	*(uint8_t *)at(DATA + 5) = 0x77;
	IS(OP("\xd7"), NONE);
	IS(c->gpr[RAX], 0x177);
	w32(DATA, 5);
	w32(DATA + 4, 10);
	IS(OP("\x62\x03"), VEC_BR);			/* bound eax, [ebx] */
	c->gpr[RAX] = 10;
	IS(OP("\x62\x03"), NONE);
}

/* ------------------------------------------------------------------ system */

static void
control(void)
{
	group = "control registers";
	pm32(0);
	c->gpr[RAX] = CR0_PG;				/* PG without PE */
	IS(OP("\x0f\x22\xc0"), VEC_GP);
	c->gpr[RAX] = CR0_PE | CR0_NW;
	IS(OP("\x0f\x22\xc0"), VEC_GP);
	c->gpr[RAX] = 0x10000000;			/* ignored bit */
	IS(OP("\x0f\x22\xc0"), NONE);
	IS(c->cr0, CR0_ET);
	IS(c->mode & (M_SIZE | M_PE), M_16);
	pm32(0);
	c->gpr[RAX] = CR4_PCIDE;			/* outside long mode */
	IS(OP("\x0f\x22\xe0"), VEC_GP);
	c->gpr[RAX] = 1 << 13;				/* VMXE: not offered */
	IS(OP("\x0f\x22\xe0"), VEC_GP);
	c->gpr[RAX] = CR4_SMEP | CR4_SMAP | CR4_UMIP;
	IS(OP("\x0f\x22\xe0"), NONE);
	IS(MODE_MMU(c->mode), 1);
	IS(OP("\x0f\x01\xcb"), NONE);			/* stac */
	IS(MODE_MMU(c->mode), 0);
	pm32(3);
	IS(OP("\x0f\x20\xc0"), VEC_GP);
	IS(OP("\x0f\x01\xcb"), VEC_UD);
	IS(OP("\x0f\x01\xe0"), NONE);			/* smsw */
	IS(OP("\x0f\x06"), VEC_GP);			/* clts */
	IS(OP("\xf4"), VEC_GP);
	IS(OP("\x0f\x30"), VEC_GP);
	IS(OP("\x0f\x09"), VEC_GP);
	c->gpr[RAX] = DATA;
	IS(OP("\x0f\x01\x10"), VEC_GP);			/* lgdt */
	IS(OP("\x0f\x01\x00"), NONE);			/* sgdt */
	IS(r16(DATA), 0xff);
	IS(r32(DATA + 2), GDT);
	c->cr4 |= CR4_UMIP;
	IS(OP("\x0f\x01\x00"), VEC_GP);
	IS(OP("\x0f\x01\xe0"), VEC_GP);
	/* lmsw sets PE and cannot clear it */
	real16();
	c->gpr[RAX] = 0xf;
	IS(OP("\x0f\x01\xf0"), NONE);
	IS(c->cr0 & 0xf, 0xf);
	c->gpr[RAX] = 0;
	IS(OP("\x0f\x01\xf0"), NONE);
	IS(c->cr0 & 0xf, 1);
	/* into long mode by the book, and what is forbidden there */
	pm32(0);
	make_tables();
	c->cr3 = PT;
	c->gpr[RCX] = 0xc0000080;
	c->gpr[RAX] = EFER_LME;
	IS(OP("\x0f\x30"), NONE);
	c->gpr[RAX] = CR0_PE | CR0_PG;
	IS(OP("\x0f\x22\xc0"), VEC_GP);			/* no PAE */
	c->cr4 = CR4_PAE;
	IS(OP("\x0f\x22\xc0"), NONE);
	IS(c->efer, EFER_LME | EFER_LMA);
	IS(c->mode & M_SIZE, M_32);
	IS(OP("\xea\0\0\6\0\x18\0"), NONE);
	IS(c->mode & M_SIZE, M_64);
	c->gpr[RAX] = 0;
	IS(OP("\x0f\x22\xe0"), VEC_GP);			/* PAE off */
	c->gpr[RAX] = CR0_PE;
	IS(OP("\x0f\x22\xc0"), VEC_GP);			/* PG off in 64-bit */
	c->gpr[RCX] = 0xc0000080;
	c->gpr[RAX] = 0;
	c->gpr[RDX] = 0;
	IS(OP("\x0f\x30"), VEC_GP);			/* LME under PG */
	c->gpr[RAX] = 1ull << 46 | PT;
	IS(OP("\x0f\x22\xd8"), VEC_GP);			/* cr3 */
	c->gpr[RAX] = 1ull << 63 | PT;
	IS(OP("\x0f\x22\xd8"), VEC_GP);
	c->cr4 |= CR4_PCIDE;
	IS(OP("\x0f\x22\xd8"), NONE);
	IS(c->cr3, PT);
	c->gpr[RAX] = 5;
	IS(OP("\x44\x0f\x22\xc0"), NONE);		/* cr8 */
	IS(OP("\x44\x0f\x20\xc3"), NONE);
	IS(c->gpr[RBX], 5);
	c->gpr[RAX] = 16;
	IS(OP("\x44\x0f\x22\xc0"), VEC_GP);
	/* a reserved bit in a PDPTE */
	pm32(0);
	memset(at(PT), 0, 0x1000);
	w64(PT, (PT + 0x1000) | 3);
	c->cr4 = CR4_PAE;
	c->cr3 = PT;
	c->gpr[RAX] = CR0_PE | CR0_PG;
	IS(OP("\x0f\x22\xc0"), VEC_GP);
}

static void
queries(void)
{
	unsigned a;

	group = "lar, lsl, verr, verw, arpl";
	for (a = 0; a < 256; a++) {
		static const unsigned sys = 0x1a3e, lim = 0x0a0e;
		unsigned dpl = a >> 5 & 3;
		bool s = a & 16, conf = s && (a & 12) == 12, see;

		pm32(3);
		set_gdt(S_TEST, desc(0, 0x12345, a | 0x8000));
		c->gpr[RAX] = S_TEST | 3;
		c->gpr[RBX] = 7;
		see = conf || dpl == 3;
		IS(OP("\x0f\x02\xd8"), NONE);		/* lar ebx, eax */
		IS(!!(c->eflags & FL_ZF), see && (s || sys >> (a & 15) & 1));
		if (c->eflags & FL_ZF)
			IS(c->gpr[RBX] & 0xf0ff00, a << 8 | 0x800000);
		else
			IS(c->gpr[RBX], 7);
		IS(OP("\x0f\x03\xd8"), NONE);		/* lsl ebx, eax */
		IS(!!(c->eflags & FL_ZF), see && (s || lim >> (a & 15) & 1));
		if (c->eflags & FL_ZF)
			IS(c->gpr[RBX], 0x12345fff);
		IS(OP("\x0f\x00\xe0"), NONE);		/* verr */
		IS(!!(c->eflags & FL_ZF), see && s && (!(a & 8) || a & 2));
		IS(OP("\x0f\x00\xe8"), NONE);		/* verw */
		IS(!!(c->eflags & FL_ZF), see && s && !(a & 8) && a & 2);
	}
	c->gpr[RAX] = 0x10;
	c->gpr[RBX] = 0x23;
	IS(OP("\x63\xd8"), NONE);			/* arpl ax, bx */
	IS(c->gpr[RAX], 0x13);
	IS(c->eflags & FL_ZF, FL_ZF);
	real16();
	IS(OP("\x0f\x02\xd8"), VEC_UD);
	IS(OP("\x63\xd8"), VEC_UD);
}

static void
flags(void)
{
	group = "flags";
	pm32(3);
	IS(OP("\xfa"), VEC_GP);
	c->eflags |= FL_IOPL;
	IS(OP("\xfb"), NONE);
	IS(c->eflags & FL_IF, FL_IF);
	IS(c->shadow, 1);
	c->shadow = 0;
	IS(OP("\xfb"), NONE);
	IS(c->shadow, 0);				/* was on already */
	/* popf: IF only with IOPL, IOPL only in ring 0, never VM or RF */
	w32((uint32_t)c->gpr[RSP], 0xffffffff & ~FL_TF);
	IS(OP("\x9d"), NONE);
	IS(c->eflags, 2 | FL_STATUS | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC |
	    FL_ID);
	pm32(3);
	w32(STACK3, FL_IF | FL_IOPL);
	IS(OP("\x9d"), NONE);
	IS(c->eflags, 2);
	pm32(3);
	c->cr4 = CR4_PVI;
	IS(OP("\xfb"), NONE);
	IS(c->eflags & (FL_VIF | FL_IF), FL_VIF);
	IS(OP("\xfa"), NONE);
	IS(c->eflags & (FL_VIF | FL_IF), 0);
	pm32(0);
	w32((uint32_t)c->gpr[RSP], FL_IF | FL_IOPL | 8 | FL_RF | FL_VM);
	IS(OP("\x9d"), NONE);
	IS(c->eflags, 2 | FL_IF | FL_IOPL);
}

static void
others(void)
{
	uint64_t v;

	group = "others";
	long64(0);
	c->seg[GS].base = 0x1111;
	c->kernel_gs_base = 0x2222;
	IS(OP("\x0f\x01\xf8"), NONE);			/* swapgs */
	IS(c->seg[GS].base, 0x2222);
	c->gpr[RAX] = 0xffff800000000000ull;
	IS(OP("\xf3\x48\x0f\xae\xd0"), NONE);		/* wrfsbase */
	IS(OP("\xf3\x48\x0f\xae\xc3"), NONE);		/* rdfsbase rbx */
	IS(c->gpr[RBX], 0xffff800000000000ull);
	c->gpr[RAX] = 0x0000800000000000ull;
	IS(OP("\xf3\x48\x0f\xae\xd0"), VEC_GP);
	IS(OP("\x0f\x33"), VEC_GP);			/* rdpmc */
	c->tsc_aux = 3;
	IS(OP("\x0f\x01\xf9"), NONE);			/* rdtscp */
	IS(c->gpr[RCX], 3);
	long64(3);
	c->cr4 |= CR4_TSD;
	IS(OP("\x0f\x31"), VEC_GP);
	c->cr4 &= ~(uint64_t)CR4_FSGSBASE;
	IS(OP("\xf3\x48\x0f\xae\xd0"), VEC_UD);
	IS(OP("\x0f\x01\xf8"), VEC_GP);
	/* what is not offered does not exist; what was a hint is one */
	long64(0);
	IS(OP("\x0f\x01\xc8"), VEC_UD);			/* monitor */
	IS(OP("\x0f\x01\xc1"), VEC_UD);			/* vmcall */
	IS(OP("\xc7\xf8\0\0\0\0"), VEC_UD);		/* xbegin */
	IS(OP("\x62\xf1\x7c\x48\x58\xc0"), VEC_UD);	/* zmm vaddps */
	IS(OP("\xf0\x90"), VEC_UD);			/* lock nop */
	IS(OP("\xf0\x01\xc0"), VEC_UD);			/* lock add eax,eax */
	IS(OP("\x0f\x0b"), VEC_UD);
	IS(OP("\xf3\x0f\x1e\xfa"), NONE);		/* endbr64 */
	IS(OP("\x66\x0f\x1a\xc0"), NONE);		/* bndmov */
	IS(OP("\x0f\x0d\x08"), NONE);			/* prefetchw */
	IS(OP("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66"
	    "\x90"), VEC_GP);				/* 16 bytes */
	/* MSRs */
	c->gpr[RCX] = 0x12345;
	IS(OP("\x0f\x32"), VEC_GP);
	IS(OP("\x0f\x30"), VEC_GP);
	c->gpr[RCX] = 0xc0000082;			/* LSTAR */
	c->gpr[RAX] = 0;
	c->gpr[RDX] = 0x8000;
	IS(OP("\x0f\x30"), VEC_GP);
	c->gpr[RDX] = 0xffff8000;
	IS(OP("\x0f\x30"), NONE);
	IS(c->lstar, 0xffff800000000000ull);
	c->gpr[RCX] = 0x277;				/* PAT */
	c->gpr[RAX] = 0x02;
	IS(OP("\x0f\x30"), VEC_GP);
	/* TSC and TSC_ADJUST move together */
	IS(x86_wrmsr(c, 0x10, 5000), 0);
	IS(cpu_tsc(c), 5000);
	IS(x86_rdmsr(c, 0x3b, &v), 0);
	IS(v, 4000);
	IS(x86_wrmsr(c, 0x3b, 0), 0);
	IS(cpu_tsc(c), 1000);
	/* XCR0 */
	c->gpr[RCX] = 0;
	c->gpr[RDX] = 0;
	c->gpr[RAX] = 6;
	IS(OP("\x0f\x01\xd1"), VEC_GP);
	c->gpr[RAX] = 5;
	IS(OP("\x0f\x01\xd1"), VEC_GP);
	c->gpr[RAX] = 0xff;
	IS(OP("\x0f\x01\xd1"), VEC_GP);
	c->gpr[RAX] = 3;
	IS(OP("\x0f\x01\xd1"), NONE);
	IS(c->mode & M_AVX, 0);
	/* FXSAVE and FXRSTOR: alignment, reserved MXCSR bits, identity */
	c->gpr[RBX] = DATA + 8;
	IS(OP("\x0f\xae\x03"), VEC_GP);
	c->gpr[RBX] = DATA;
	IS(OP("\x0f\xae\x03"), NONE);
	IS(r32(DATA + 24), 0x1f80);
	w32(DATA + 24, 0x10000);
	IS(OP("\x0f\xae\x0b"), VEC_GP);
	w32(DATA + 24, 0x1fbf);
	w64(DATA + 160, 0x123456789abcdef0);
	IS(OP("\x0f\xae\x0b"), NONE);
	c->gpr[RBX] = DATA + 0x400;
	IS(OP("\x0f\xae\x03"), NONE);
	IS(r64(DATA + 0x400 + 160), 0x123456789abcdef0);
	IS(r32(DATA + 0x400 + 24), 0x1fbf);
	c->cr0 |= CR0_TS;
	x86_mode(c);
	IS(OP("\x0f\xae\x03"), VEC_NM);
}

/* --------------------------------------------------------------- debugging */

static int
dstep(const char *b, size_t n)
{
	memcpy(at(c->seg[CS].base + c->rip), b, n);
	return raised(debug_, NULL);
}
#define DSTEP(s)	dstep(s, sizeof(s) - 1)

static void
debugging(void)
{
	group = "debugging";
	long64(0);
	c->eflags |= FL_TF;
	x86_mode(c);
	IS(DSTEP("\x90"), VEC_DB);
	IS(c->rip, CODE + 1);
	IS(c->dr[6], 0xffff4ff0);
	/* each iteration of a repeat traps */
	c->dr[6] = 0xffff0ff0;
	c->gpr[RCX] = 2;
	c->gpr[RDI] = DATA;
	IS(DSTEP("\xf3\xaa"), VEC_DB);
	IS(c->rip, CODE + 1);
	IS(c->gpr[RCX], 1);
	IS(DSTEP("\xf3\xaa"), VEC_DB);
	IS(c->rip, CODE + 3);
	/* int n: the handler runs without a trap first */
	set_idt(0x80, S_C64, HANDLER, 0x8e, 0);
	IS(DSTEP("\xcd\x80"), NONE);
	IS(c->rip, HANDLER);
	IS(c->eflags & FL_TF, 0);
	/* mov ss: not after it, but after the next */
	long64(0);
	c->eflags |= FL_TF;
	x86_mode(c);
	c->gpr[RAX] = S_D32;
	IS(DSTEP("\x8e\xd0"), NONE);
	IS(c->rip, CODE + 2);
	c->shadow = 0;
	IS(DSTEP("\x90"), VEC_DB);
	/* an instruction breakpoint faults once; RF gets past it */
	long64(0);
	c->dr[0] = CODE;
	c->dr[7] = 0x402;
	x86_mode(c);
	IS(c->mode & M_BRK, M_BRK);
	IS(DSTEP("\x90"), VEC_DB);
	IS(c->rip, CODE);
	IS(c->dr[6], 0xffff0ff1);
	set_idt(1, S_C64, HANDLER, 0x8e, 0);
	deliver();
	IS(c->rip, HANDLER);
	IS(DSTEP("\x48\xcf"), NONE);			/* iretq with RF */
	IS(c->rip, CODE);
	IS(c->eflags & FL_RF, FL_RF);
	IS(DSTEP("\x90"), NONE);
	IS(c->eflags & FL_RF, 0);
	/* data: write of 4 at DATA + 4, read or write of 8 at DATA + 8 */
	long64(0);
	c->dr[1] = DATA + 4;
	c->dr[2] = DATA + 8;
	c->dr[7] = 0x400 | 1 << 2 | 1 << 4 | 0xd << 20 | 0xb << 24;
	x86_mode(c);
	c->gpr[RBX] = DATA;
	IS(DSTEP("\x8b\x43\x04"), NONE);		/* read: not 1 */
	IS(DSTEP("\x88\x43\x07"), VEC_DB);		/* last byte of it */
	IS(c->dr[6], 0xffff0ff2);
	c->dr[6] = 0xffff0ff0;
	IS(DSTEP("\x48\x89\x43\x01"), VEC_DB);		/* 1..8: both */
	IS(c->dr[6], 0xffff0ff6);
	c->dr[6] = 0xffff0ff0;
	IS(DSTEP("\x48\x8b\x43\x0f"), VEC_DB);
	IS(c->dr[6], 0xffff0ff4);
	IS(DSTEP("\x8a\x43\x10"), NONE);
	IS(DSTEP("\x48\x8d\x43\x08"), NONE);		/* lea */
	c->gpr[RSP] = DATA + 16;
	IS(DSTEP("\x50"), VEC_DB);			/* push */
	c->gpr[RDI] = DATA;
	c->gpr[RCX] = 16;
	c->dr[7] = 0x400 | 1 << 2 | 0xd << 20;
	IS(DSTEP("\xf3\xaa"), NONE);
	IS(c->gpr[RCX], 15);
	/* general detect */
	long64(0);
	c->dr[7] = 0x2400;
	IS(OP("\x0f\x21\xc0"), VEC_DB);
	IS(c->dr[6] >> 13 & 1, 1);
	IS(c->dr[7] >> 13 & 1, 0);
	c->gpr[RAX] = ~0u;
	IS(OP("\x0f\x23\xf8"), NONE);			/* dr7 */
	IS(c->dr[7], 0xffff27ff);
	long64(0);
	c->gpr[RAX] = 1ull << 32;
	IS(OP("\x0f\x23\xf8"), VEC_GP);
	c->cr4 |= CR4_DE;
	IS(OP("\x0f\x21\xe0"), VEC_UD);			/* dr4 */
}

/* ------------------------------------------------------------------- CPUID */

static void
models(void)
{
	uint32_t r[4], max[4];
	char why[128];

	group = "cpuid";
	pm32(0);
	x86_cpuid(c, 0, 0, r);
	IS(r[0], 0x16);
	IS(r[1], 0x756e6547);
	x86_cpuid(c, 1, 0, max);
	IS(max[2] >> 27 & 1, 0);			/* OSXSAVE follows CR4 */
	c->cr4 |= CR4_OSXSAVE;
	x86_cpuid(c, 1, 0, r);
	IS(r[2] >> 27 & 1, 1);
	x86_cpuid(c, 0x15, 0, r);
	IS((uint64_t)r[2] * r[1] / r[0], map.tsc_khz * 1000);
	IS((uint64_t)(r[2] / 1000) * r[1] >> 32, 0);
	x86_cpuid(c, 0x80000008, 0, r);
	IS(r[0] >> 8, 48);
	x86_cpuid(c, 0xd, 0, r);
	IS(r[1], r[0] & 4 ? 832 : 576);
	/* words after the name */
	IS(x86_model("max,-avx,sse4.2=off,x2apic=on", why, sizeof(why)) != NULL,
	    1);
	x86_cpuid(c, 1, 0, r);
	IS(r[2] >> 28 & 1, 0);				/* avx */
	IS(r[2] >> 12 & 1, 0);				/* fma with it */
	IS(r[2] >> 20 & 1, 0);
	long64(0);
	IS(OP("\xc5\xf8\x58\xc0"), VEC_UD);		/* vaddps */
	c->gpr[RAX] = 7;
	c->gpr[RCX] = c->gpr[RDX] = 0;
	IS(OP("\x0f\x01\xd1"), VEC_GP);			/* xsetbv */
	IS(x86_model("max,-smep", why, sizeof(why)) != NULL, 1);
	c->gpr[RAX] = c->cr4 | CR4_SMEP;
	IS(OP("\x0f\x22\xe0"), VEC_GP);
	IS(x86_model("max,+nosuch", why, sizeof(why)) == NULL, 1);
	IS(strstr(why, "nosuch") != NULL, 1);
	IS(x86_model("pentium9", why, sizeof(why)) == NULL, 1);
	IS(strstr(why, "pentium9") != NULL, 1);
	IS(x86_model("max,avx=maybe", why, sizeof(why)) == NULL, 1);
	IS(x86_model("x86-64-v2,-sse3", why, sizeof(why)) != NULL, 1);
	x86_cpuid(c, 1, 0, r);
	IS(r[2] & (1 | 1 << 19 | 1 << 28), 1 << 19);
	IS(x86_model("base", why, sizeof(why)) != NULL, 1);
	IS(OP("\xf3\x0f\xbc\xc0"), NONE);		/* tzcnt as bsf */
	IS(x86_model("max", why, sizeof(why)) != NULL, 1);
}

/*
 * SDM 2A, CPUID: leaves 1 (EBX, EDX.HTT), 4 (EAX) and 0BH, for sockets of
 * cores of threads.  80000008H ECX is AMD's: 0 on this processor.
 */
static void
topologies(void)
{
	static const struct {
		unsigned ncpu, cores, threads, thread_bits, package_bits;
	} t[] = {
		{ 1, 1, 1, 0, 0 }, { 4, 4, 1, 0, 2 }, { 4, 2, 2, 1, 2 },
		{ 4, 1, 1, 0, 0 }, { 12, 6, 2, 1, 4 }, { 12, 3, 2, 1, 3 },
		{ 9, 3, 3, 2, 4 }, { 15, 5, 3, 2, 5 }, { 255, 255, 1, 0, 8 },
	};
	unsigned i, k, ids;
	uint32_t r[4];

	group = "cpuid topology";
	pm32(0);
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		machine.ncpu = t[i].ncpu;
		map.topo = (struct topology){ t[i].cores, t[i].threads };
		c->apic_id = topo_apic_id(&map.topo, t[i].ncpu - 1);
		ids = 1u << t[i].package_bits;
		x86_cpuid(c, 1, 0, r);
		IS(r[1] >> 24, c->apic_id);
		IS(r[1] >> 16 & 0xff, ids < 256 ? ids : 255);
		IS(r[3] >> 28 & 1, t[i].cores * t[i].threads > 1);
		for (k = 0; k < 4; k++) {
			x86_cpuid(c, 4, k, r);
			IS((r[0] >> 14 & 0xfff) + 1, k == 3 ? ids :
			    1u << t[i].thread_bits);
			IS((r[0] >> 26) + 1, t[i].package_bits -
			    t[i].thread_bits > 6 ? 64 :
			    ids >> t[i].thread_bits);
		}
		x86_cpuid(c, 4, 4, r);
		IS(r[0] | r[1] | r[2] | r[3], 0);
		x86_cpuid(c, 0xb, 0, r);
		IS(r[0], t[i].thread_bits);
		IS(r[1], t[i].threads);
		IS(r[2], 0x100);
		IS(r[3], c->apic_id);
		x86_cpuid(c, 0xb, 1, r);
		IS(r[0], t[i].package_bits);
		IS(r[1], t[i].cores * t[i].threads);
		IS(r[2], 0x201);
		IS(r[3], c->apic_id);
		x86_cpuid(c, 0xb, 2, r);
		IS(r[0] | r[1], 0);
		IS(r[2], 2);
		IS(r[3], c->apic_id);
		x86_cpuid(c, 0x80000008, 0, r);
		IS(r[2], 0);
	}
	/* each level has bits of its own */
	map.topo = (struct topology){ 3, 3 };
	IS(topo_apic_id(&map.topo, 2), 2);
	IS(topo_apic_id(&map.topo, 3), 4);
	IS(topo_apic_id(&map.topo, 8), 10);
	IS(topo_apic_id(&map.topo, 9), 16);
	map.topo = (struct topology){ 1, 1 };
	machine.ncpu = 1;
	c->apic_id = 0;
}

int
main(void)
{
	world();
	moves();
	scans();
	string_faults();
	ports();
	stack_ops();
	flow();
	decimal();
	control();
	queries();
	flags();
	others();
	debugging();
	models();
	topologies();
	return result();
}
