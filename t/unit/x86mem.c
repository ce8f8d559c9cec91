/* links: cpu without its process, bus, mem */
/*
 * x86mem.c - paging and segmentation of the x86 vcpu against the rules of the
 * SDM (volume 3A).
 */
#include "x86sem.h"

/* ------------------------------------------------------------ paging (4.6) */

struct access { uint64_t lin; int acc; unsigned mmu; struct walk w; int r; };

static void
walk(void *a)
{
	struct access *x = a;

	x->r = x86_walk(c, x->lin, x->acc, x->mmu, &x->w);
}

/* The rule, written down anew: may this access be made? */
static bool
allowed(unsigned e, bool nx, int acc, unsigned mmu, unsigned f)
{
	bool u = e & 4, w = e & 2;

	if (!(e & 1))
		return false;
	if (mmu == 2)
		return u && (acc == ACC_READ || (acc == ACC_WRITE && w) ||
		    (acc == ACC_EXEC && !nx));
	if (acc == ACC_EXEC)
		return !nx && !(u && f & 2);
	if (u && mmu == 1)
		return false;
	return acc == ACC_READ || w || !(f & 1);
}

static void
paging_matrix(int kind)
{
	static const char *const name[] = { "32-bit", "PAE", "4-level" };
	unsigned up, e, f, mmu, pdpe;
	int acc, nx;
	char msg[96];
	struct access x;

	group = "paging";
	for (f = 0; f < 4; f++)
	for (up = 0; up < 8; up++)
	for (e = 0; e < 8; e++)
	for (nx = 0; nx <= (kind != 0); nx++)
	for (acc = ACC_READ; acc <= ACC_EXEC; acc++)
	for (mmu = 0; mmu < 3; mmu++) {
		unsigned both = up & e;
		uint64_t code = 0, pde, pte;
		bool ok;

		pm32(0);
		c->cr0 |= CR0_PG | (f & 1 ? CR0_WP : 0);
		c->cr4 = CR4_PGE | (f & 2 ? CR4_SMEP : 0) | CR4_SMAP;
		c->cr3 = PT;
		memset(at(PT), 0, 0x6000);
		x = (struct access){ .lin = DATA + 0x123, .acc = acc,
			.mmu = mmu };
		if (kind == 0) {
			w32(PT, (PT + 0x1000) | up);
			w32(PT + 0x1000 + (DATA >> 12) * 4, DATA | e | 0x100);
			pde = PT;
			pte = PT + 0x1000 + (DATA >> 12) * 4;
		} else {
			c->cr4 |= CR4_PAE;
			c->efer = EFER_NXE;
			pdpe = 1;
			if (kind == 2) {
				c->efer |= EFER_LME | EFER_LMA;
				w64(PT, (PT + 0x1000) | 7);
				pdpe = 7;
			}
			w64(PT + (kind == 2 ? 0x1000 : 0),
			    (PT + 0x2000) | pdpe);
			w64(PT + 0x2000, (PT + 0x3000) | up);
			pde = PT + 0x2000;
			pte = PT + 0x3000 + (DATA >> 12) * 8;
			w64(pte, DATA | e | 0x100 | (uint64_t)nx << 63);
		}
		ok = (up & 1) && allowed(both | (up & e & 1), nx, acc, mmu, f);
		snprintf(msg, sizeof(msg), "%s up %u e %u nx %d acc %d mmu %u "
		    "flags %u", name[kind], up, e, nx, acc, mmu, f);
		what = msg;
		raised(walk, &x);
		IS(x.r == 0, ok);
		if (!ok) {
			code = (up & 1 && e & 1 ? 1 : 0) |
			    (acc == ACC_WRITE ? 2 : 0) | (mmu == 2 ? 4 : 0);
			if (acc == ACC_EXEC && (f & 2 || kind))
				code |= 16;
			IS(x.w.err, code);
			IS(r32(pte) & 0x60, 0);
			continue;
		}
		IS(x.w.gpa, DATA + 0x123);
		IS(r32(pde) & 0x60, 0x20);
		IS(r32(pte) & 0x60, acc == ACC_WRITE ? 0x60 : 0x20);
		IS(x.w.global, 1);
		/* a page whose D is clear may not be written through the TLB */
		if (acc == ACC_READ)
			IS(x.w.write, 0);
	}
	what = "";
}

static int
try(uint64_t lin, int acc, struct walk *w)
{
	struct access x = { .lin = lin, .acc = acc, .mmu = 0 };

	raised(walk, &x);
	*w = x.w;
	return x.r;
}

static void
paging_sizes(void)
{
	struct walk w;

	group = "page sizes";
	long64(0);
	w64(PT + 0x1000 + 8, 0xc0000000ull | 0x83);		/* 1 GiB */
	IS(try(0x40000000ull + 0x1234567, ACC_READ, &w), 0);
	IS(w.gpa, 0xc1234567ull);
	IS(w.page, 1 << 30);
	w64(PT + 0x1000 + 8, 0xc0200000ull | 0x83);
	IS(try(0x40000000ull, ACC_READ, &w), NONE);
	IS(w.err, 9);
	w64(PT + 0x2000 + 8 * 20, 0x600000ull | 0x83);		/* 2 MiB */
	IS(try(20 * 0x200000ull + 0x54321, ACC_WRITE, &w), 0);
	IS(w.gpa, 0x654321);
	IS(r64(PT + 0x2000 + 8 * 20) & 0x60, 0x60);
	w64(PT + 0x2000 + 8 * 20, 0x601000ull | 0x1083);	/* PAT bit: fine */
	IS(try(20 * 0x200000ull, ACC_WRITE, &w), 0);
	w64(PT + 0x2000 + 8 * 20, 0x602000ull | 0x83);
	IS(try(20 * 0x200000ull, ACC_WRITE, &w), NONE);
	IS(w.err, 0xb);
	w64(PTE(DATA), DATA | 3 | 1ull << 50);		/* beyond MAXPHYADDR */
	IS(try(DATA, ACC_READ, &w), NONE);
	IS(w.err, 9);
	w64(PTE(DATA), DATA | 3 | 1ull << 63);
	IS(try(DATA, ACC_READ, &w), 0);
	c->efer &= ~(uint64_t)EFER_NXE;
	IS(try(DATA, ACC_READ, &w), NONE);
	IS(w.err, 9);
	w64(PT, (PT + 0x1000) | 0x87);			/* PS in a PML4E */
	IS(try(CODE, ACC_READ, &w), NONE);
	/* 4 MiB pages with PSE-36 */
	pm32(0);
	c->cr0 |= CR0_PG;
	c->cr4 = CR4_PSE;
	c->cr3 = PT;
	memset(at(PT), 0, 0x1000);
	w32(PT + 4 * 3, 0x00800000 | 0x83 | 5 << 13);
	IS(try(3 * 0x400000ull + 0x12345, ACC_READ, &w), 0);
	IS(w.gpa, 5ull << 32 | 0x812345);
	w32(PT + 4 * 3, 0x00a00000 | 0x83);
	IS(try(3 * 0x400000ull, ACC_READ, &w), NONE);
	IS(w.err, 9);
	/* no paging; A20 */
	pm32(0);
	IS(try(0x123456, ACC_WRITE, &w), 0);
	IS(w.gpa, 0x123456);
	c->a20 = 0;
	IS(try(0x123456, ACC_WRITE, &w), 0);
	IS(w.gpa, 0x023456);
	c->a20 = 1;
}

/* ---------------------------------------------------------------- segments */

static void
load(void *a)
{
	unsigned *p = a;

	x86_load_seg(c, p[0], (uint16_t)p[1]);
}

static int
load_seg(unsigned s, unsigned sel)
{
	unsigned p[2] = { s, sel };

	return raised(load, p);
}

/* Loading a descriptor with access byte `a` into DS or SS (5.6, 5.7, 3.4.3). */
static void
segment_loads(void)
{
	unsigned a, rpl, cpl;
	int v, want;
	char msg[64];

	group = "segment loads";
	what = msg;
	for (a = 0; a < 256; a++)
	for (cpl = 0; cpl < 4; cpl += 3)
	for (rpl = 0; rpl < 4; rpl++) {
		unsigned dpl = a >> 5 & 3;
		bool code = a & 8, s = a & 16, conf = (a & 12) == 12;

		snprintf(msg, sizeof(msg), "access %#x cpl %u rpl %u", a, cpl,
		    rpl);
		pm32(cpl);
		set_gdt(S_TEST, desc(0x1000, 0xffff, a));
		want = -1;
		if (!s || (code && !(a & 2)) ||
		    (!conf && (rpl > dpl || cpl > dpl)))
			want = VEC_GP;
		else if (!(a & 0x80))
			want = VEC_NP;
		v = load_seg(DS, S_TEST | rpl);
		IS(v, want);
		if (want >= 0)
			IS(c->exc_err, S_TEST);
		else {
			IS(c->seg[DS].base, 0x1000);
			IS(r64(GDT + S_TEST) >> 40 & 1, 1);
		}
		want = -1;
		if (!s || code || !(a & 2) || rpl != cpl || dpl != cpl)
			want = VEC_GP;
		else if (!(a & 0x80))
			want = VEC_SS;
		v = load_seg(SS, S_TEST | rpl);
		IS(v, want);
		if (want >= 0)
			IS(c->exc_err, S_TEST);
	}
	what = "";
	pm32(0);
	IS(load_seg(SS, 0), VEC_GP);
	IS(c->exc_err, 0);
	IS(load_seg(ES, 3), NONE);
	IS(OP("\x26\x8b\x03"), VEC_GP);		/* mov eax, es:[ebx] */
	IS(load_seg(DS, 0x100), VEC_GP);	/* beyond the GDT */
	IS(c->exc_err, 0x100);
	IS(load_seg(DS, 0x0c), VEC_GP);		/* no LDT */
	IS(load_seg(FS, S_D32), NONE);
	/* LDT */
	w64(LDT + 8, desc(0x4000, 0xfff, 0x93));
	c->gpr[RAX] = S_LDT;
	IS(OP("\x0f\x00\xd0"), NONE);		/* lldt ax */
	IS(load_seg(DS, 0x0c), NONE);
	IS(c->seg[DS].base, 0x4000);
	c->gpr[RAX] = S_TSS2;
	IS(OP("\x0f\x00\xd0"), VEC_GP);
	IS(OP("\x0f\x00\xd8"), NONE);		/* ltr ax */
	IS(r64(GDT + S_TSS2) >> 40 & 0xff, 0x8b);
	IS(OP("\x0f\x00\xd8"), VEC_GP);		/* busy now */
	IS(c->exc_err, S_TSS2);
	/* a null SS is for 64-bit rings 0 to 2 */
	long64(0);
	IS(load_seg(SS, 0), NONE);
	long64(3);
	IS(load_seg(SS, 3), VEC_GP);
}

static void
lin(void *a)
{
	uint64_t *p = a;

	p[4] = x86_linear(c, (unsigned)p[0], p[1], (unsigned)p[2], (int)p[3]);
}

static int
linear(unsigned s, uint64_t off, unsigned n, int acc)
{
	uint64_t p[5] = { s, off, n, (uint64_t)acc };

	return raised(lin, p);
}

static void
limits(void)
{
	group = "limits";
	pm32(0);
	c->seg[DS] = (struct seg){ .attr = 0x93, .limit = 0xfff };
	IS(linear(DS, 0xffc, 4, ACC_READ), NONE);
	IS(linear(DS, 0xffd, 4, ACC_READ), VEC_GP);
	IS(c->exc_err, 0);
	IS(linear(DS, 0xffffffff, 2, ACC_READ), VEC_GP);
	c->seg[DS].attr = 0x91;			/* read-only */
	IS(linear(DS, 0, 4, ACC_WRITE), VEC_GP);
	c->seg[DS].attr = 0x97;			/* expand down, 16-bit */
	IS(linear(DS, 0xfff, 1, ACC_READ), VEC_GP);
	IS(linear(DS, 0x1000, 1, ACC_READ), NONE);
	IS(linear(DS, 0xffff, 1, ACC_READ), NONE);
	IS(linear(DS, 0xffff, 2, ACC_READ), VEC_GP);
	c->seg[DS].attr = 0x4097;		/* expand down, 32-bit */
	IS(linear(DS, 0xffff, 2, ACC_READ), NONE);
	c->seg[DS].attr = 0x99;			/* execute-only code */
	IS(linear(DS, 0, 1, ACC_READ), VEC_GP);
	c->seg[DS].attr = 0x9b;
	IS(linear(DS, 0, 1, ACC_READ), NONE);
	IS(linear(DS, 0, 1, ACC_WRITE), VEC_GP);
	c->seg[SS] = (struct seg){ .attr = 0x93, .limit = 0xff };
	IS(linear(SS, 0x100, 1, ACC_READ), VEC_SS);
	long64(0);
	IS(linear(DS, 0x00007ffffffffff9ull, 8, ACC_READ), VEC_GP);
	IS(linear(DS, 0x00007ffffffffff8ull, 8, ACC_READ), NONE);
	IS(linear(SS, 0x0000800000000000ull, 8, ACC_READ), VEC_SS);
	IS(linear(DS, 0xffff800000000000ull, 8, ACC_READ), NONE);
	/* the limit of CS holds byte by byte (nop; 5-byte mov at the end) */
	pm32(0);
	c->seg[CS].limit = CODE + 5;
	IS(OP("\x90"), NONE);
	IS(OP("\xb8\1\2\3\4"), NONE);
	IS(OP("\x90"), VEC_GP);
	pm32(0);
	c->seg[CS].limit = CODE + 3;
	IS(OP("\xb8\1\2\3\4"), VEC_GP);
}

int
main(void)
{
	int i;

	world();
	for (i = 0; i < 3; i++)
		paging_matrix(i);
	paging_sizes();
	segment_loads();
	limits();
	return result();
}
