/*
 * info.c - answers to the monitor (PROTOCOL.md "Questions to the vcpu").  The
 * layout of registers, page tables and the LAPIC follows what people know from
 * other monitors, so that their scripts find the same words.
 *
 * Runs on the control thread; what reads a vcpu's state parks the vcpus first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"
#include "vcpu.h"

typedef unsigned long long ull;

static struct cpu *
cpu_number(const char *s)
{
	char *end;
	unsigned long n;

	if (s == NULL)
		return machine.cpu[0];
	errno = 0;
	n = strtoul(s, &end, 0);
	if (errno || *end || end == s || n >= machine.ncpu)
		return NULL;
	return machine.cpu[n];
}

static unsigned
code_bits(const struct cpu *c)
{
	return 16u << (c->mode & M_SIZE);
}

/* -------------------------------------------------------------- registers */

static void
put_seg(FILE *f, const char *name, const struct seg *s)
{
	static const char *const sys[16] = { "Reserved", "TSS16-avl", "LDT",
		"TSS16-busy", "CallGate16", "TaskGate", "IntGate16",
		"TrapGate16", "Reserved", "TSS-avl", "Reserved", "TSS-busy",
		"CallGate", "Reserved", "IntGate", "TrapGate" };

	fprintf(f, "%-3s=%04x %016llx %08x %08x", name, s->sel, (ull)s->base,
	    s->limit, s->attr << 8);
	if (s->attr & SEG_UNUSABLE || !(s->attr & SEG_P)) {
		fprintf(f, "\n");
		return;
	}
	fprintf(f, " DPL=%u ", SEG_DPL(s->attr));
	if (!(s->attr & SEG_S))
		fprintf(f, "%s\n", sys[s->attr & SEG_TYPE]);
	else if (s->attr & 8)
		fprintf(f, "CS%s [%c%c%c]\n", s->attr & SEG_L ? "64" :
		    s->attr & SEG_DB ? "32" : "16", s->attr & 4 ? 'C' : '-',
		    s->attr & 2 ? 'R' : '-', s->attr & 1 ? 'A' : '-');
	else
		fprintf(f, "DS%s [%c%c%c]\n", s->attr & SEG_DB ? "" : "16",
		    s->attr & 4 ? 'E' : '-', s->attr & 2 ? 'W' : '-',
		    s->attr & 1 ? 'A' : '-');
}

static uint64_t
get(const struct cpu *c, unsigned off, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, c->xsave.b + off, size);
	return v;
}

/* SDM 1, table 10-2 and 13.4: the legacy area, then AVX at 576. */
static void
put_fpu(FILE *f, const struct cpu *c)
{
	uint64_t fsw = get(c, 2, 2), bv = get(c, 512, 8);
	unsigned i;

	fprintf(f, "FCW=%04x FSW=%04x [ST=%u] FTW=%02x MXCSR=%08x\n",
	    (unsigned)get(c, 0, 2), (unsigned)fsw, (unsigned)fsw >> 11 & 7,
	    (unsigned)get(c, 4, 1), (unsigned)get(c, 24, 4));
	for (i = 0; i < 8; i++)
		fprintf(f, "FPR%u=%016llx %04x%s", i,
		    (ull)get(c, 32 + 16 * i, 8),
		    (unsigned)get(c, 40 + 16 * i, 2), i & 1 ? "\n" : " ");
	for (i = 0; i < 16; i++) {
		if (bv & 4)
			fprintf(f, "YMM%02u=%016llx%016llx_%016llx%016llx\n", i,
			    (ull)get(c, 584 + 16 * i, 8),
			    (ull)get(c, 576 + 16 * i, 8),
			    (ull)get(c, 168 + 16 * i, 8),
			    (ull)get(c, 160 + 16 * i, 8));
		else
			fprintf(f, "XMM%02u=%016llx%016llx%s", i,
			    (ull)get(c, 168 + 16 * i, 8),
			    (ull)get(c, 160 + 16 * i, 8), i & 1 ? "\n" : " ");
	}
}

static void
registers(FILE *f, const struct cpu *c)
{
	static const char *const name[16] = { "RAX", "RCX", "RDX", "RBX", "RSP",
		"RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13",
		"R14", "R15" };
	static const uint8_t order[16] = { RAX, RBX, RCX, RDX, RSI, RDI, RBP,
		RSP, R8, R9, R10, R11, R12, R13, R14, R15 };
	static const char *const segs[NSEG] = { "ES", "CS", "SS", "DS", "FS",
		"GS", "LDT", "TR" };
	uint64_t fl = c->eflags;
	unsigned i;

	fprintf(f, "\nCPU#%u\n", c->index);
	for (i = 0; i < 16; i++)
		fprintf(f, "%s=%016llx%c", name[order[i]],
		    (ull)c->gpr[order[i]], i % 4 == 3 ? '\n' : ' ');
	fprintf(f, "RIP=%016llx RFL=%08llx [%c%c%c%c%c%c%c] CPL=%u II=%u "
	    "A20=%u SMM=0 HLT=%u\n", (ull)c->rip, (ull)fl,
	    fl & FL_DF ? 'D' : '-', fl & FL_OF ? 'O' : '-',
	    fl & FL_SF ? 'S' : '-', fl & FL_ZF ? 'Z' : '-',
	    fl & FL_AF ? 'A' : '-', fl & FL_PF ? 'P' : '-',
	    fl & FL_CF ? 'C' : '-', c->cpl, c->shadow, c->a20, c->halted);
	for (i = 0; i < NSEG; i++)
		put_seg(f, segs[i], &c->seg[i]);
	fprintf(f, "GDT=     %016llx %08x\n", (ull)c->gdt.base, c->gdt.limit);
	fprintf(f, "IDT=     %016llx %08x\n", (ull)c->idt.base, c->idt.limit);
	fprintf(f, "CR0=%08llx CR2=%016llx CR3=%016llx CR4=%08llx\n",
	    (ull)c->cr0, (ull)c->cr2, (ull)c->cr3, (ull)c->cr4);
	for (i = 0; i < 4; i++)
		fprintf(f, "DR%u=%016llx%c", i, (ull)c->dr[i],
		    i == 3 ? '\n' : ' ');
	fprintf(f, "DR6=%016llx DR7=%016llx\n", (ull)c->dr[6], (ull)c->dr[7]);
	fprintf(f, "EFER=%016llx\n", (ull)c->efer);
	put_fpu(f, c);
}

static const struct { const char *name; unsigned off, size; } regs[] = {
#define R(n, m)	{ n, offsetof(struct cpu, m), sizeof(((struct cpu *)0)->m) }
#define G(n, r)	{ "r" n, offsetof(struct cpu, gpr[r]), 8 }, \
		{ "e" n, offsetof(struct cpu, gpr[r]), 4 }
	G("ax", RAX), G("cx", RCX), G("dx", RDX), G("bx", RBX), G("sp", RSP),
	G("bp", RBP), G("si", RSI), G("di", RDI), R("r8", gpr[8]),
	R("r9", gpr[9]), R("r10", gpr[10]), R("r11", gpr[11]),
	R("r12", gpr[12]), R("r13", gpr[13]), R("r14", gpr[14]),
	R("r15", gpr[15]), R("rip", rip), R("eip", rip), R("pc", rip),
	R("rflags", eflags), R("eflags", eflags),
	R("es", seg[ES].sel), R("cs", seg[CS].sel), R("ss", seg[SS].sel),
	R("ds", seg[DS].sel), R("fs", seg[FS].sel), R("gs", seg[GS].sel),
	R("es_base", seg[ES].base), R("cs_base", seg[CS].base),
	R("ss_base", seg[SS].base), R("ds_base", seg[DS].base),
	R("fs_base", seg[FS].base), R("gs_base", seg[GS].base),
	R("ldtr", seg[LDTR].sel), R("tr", seg[TR].sel),
	R("gdt_base", gdt.base), R("idt_base", idt.base),
	R("kernel_gs_base", kernel_gs_base), R("cr0", cr0), R("cr2", cr2),
	R("cr3", cr3), R("cr4", cr4), R("efer", efer), R("xcr0", xcr0),
	R("dr0", dr[0]), R("dr1", dr[1]), R("dr2", dr[2]), R("dr3", dr[3]),
	R("dr6", dr[6]), R("dr7", dr[7]), R("cpl", cpl), R("halted", halted),
	R("lstar", lstar), R("star", star), R("cstar", cstar),
	R("sfmask", sfmask), R("pat", pat),
#undef G
#undef R
};

static int
ask_reg(struct cpu *c, const char *name, FILE *f)
{
	uint64_t v = 0;
	unsigned i;

	if (strcmp(name, "bits") == 0) {
		fprintf(f, "%u", code_bits(c));
		return 0;
	}
	if (strcmp(name, "cr8") == 0) {
		fprintf(f, "0x%x", irq_get_tpr(c) >> 4);
		return 0;
	}
	for (i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
		if (strcmp(regs[i].name, name) == 0) {
			memcpy(&v, (const char *)c + regs[i].off,
			    regs[i].size);
			fprintf(f, "0x%llx", (ull)v);
			return 0;
		}
	fprintf(f, "%s: no such register", name);
	return EINVAL;
}

/* ------------------------------------------------------------ page tables
 * SDM 3A chapter 4.  One walker for all paging modes; a visitor gets each
 * present page with the rights of all levels and-ed together.
 */
enum { P = 1, RW = 2, US = 4, PWT = 8, PCD = 16, A = 32, D = 64, PS = 128,
	GL = 256 };
#define NX	(1ull << 63)
#define ADDR	0x000ffffffffff000ull

struct visit {
	FILE		*f;
	unsigned	lines;
	bool		mem;		/* ranges, not pages */
	/* info mem: the range being collected */
	uint64_t	start, end;
	unsigned	prot;
};
#define LINES_MAX 100000

static void
range_end(struct visit *v)
{
	if (v->prot && v->lines < LINES_MAX) {
		v->lines++;
		fprintf(v->f, "%016llx-%016llx %016llx %c%c%c\n",
		    (ull)v->start, (ull)v->end, (ull)(v->end - v->start),
		    v->prot & US ? 'u' : '-', 'r', v->prot & RW ? 'w' : '-');
	}
	v->prot = 0;
}

static void
page(struct visit *v, uint64_t va, uint64_t pa, uint64_t size, uint64_t e,
    unsigned prot)
{
	if (v->mem) {
		if (v->prot != prot || v->end != va) {
			range_end(v);
			v->start = va;
			v->prot = prot;
		}
		v->end = va + size;
		return;
	}
	if (v->lines++ >= LINES_MAX)
		return;
	fprintf(v->f, "%016llx: %016llx %c%c%c%c%c%c%c%c%c\n", (ull)va,
	    (ull)pa, e & NX ? 'X' : '-', e & GL ? 'G' : '-',
	    size > 4096 ? 'P' : '-', e & D ? 'D' : '-', e & A ? 'A' : '-',
	    e & PCD ? 'C' : '-', e & PWT ? 'T' : '-', prot & US ? 'U' : '-',
	    prot & RW ? 'W' : '-');
}

static void
table(struct visit *v, struct cpu *c, uint64_t gpa, unsigned level,
    uint64_t va, unsigned prot)
{
	bool wide = c->cr4 & CR4_PAE;
	unsigned n = wide ? 512 : 1024, i, pr;
	unsigned shift = wide ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
	bool pdpt32 = wide && level == 3 && !(c->efer & EFER_LMA);
	const uint8_t *t;
	uint64_t e, at, base;

	if (pdpt32)
		n = 4;
	t = ram_at(machine.ram, pdpt32 ? gpa & ~31ull : gpa & ~0xfffull,
	    pdpt32 ? 32 : 4096);
	if (!t)
		return;
	for (i = 0; i < n && v->lines < LINES_MAX; i++) {
		if (wide)
			memcpy(&e, t + i * 8, 8);
		else {
			e = 0;
			memcpy(&e, t + i * 4, 4);
		}
		if (!(e & P))
			continue;
		at = va | (uint64_t)i << shift;
		if (c->efer & EFER_LMA)		/* canonical */
			at = (uint64_t)((int64_t)(at << (c->cr4 & CR4_LA57 ? 7 :
			    16)) >> (c->cr4 & CR4_LA57 ? 7 : 16));
		pr = pdpt32 ? prot : prot & (unsigned)(e & (RW | US | P));
		base = wide ? e & ADDR : e & 0xfffff000;
		if (level == 1)
			page(v, at, base, 4096, e, pr);
		else if (e & PS && level <= 3 && !pdpt32 &&
		    (wide || c->cr4 & CR4_PSE)) {
			if (!wide)		/* PSE-36 */
				base = (e & 0xffc00000) | (e & 0x1fe000) << 19;
			else
				base &= ~((1ull << shift) - 1);
			page(v, at, base, 1ull << shift, e, pr);
		} else
			table(v, c, base, level - 1, at, pr);
	}
}

static void
page_tables(struct cpu *c, FILE *f, bool mem)
{
	struct visit v = { .f = f, .mem = mem };
	unsigned level;

	if (!(c->cr0 & CR0_PG)) {
		fprintf(f, "PG disabled\n");
		return;
	}
	level = c->efer & EFER_LMA ? (c->cr4 & CR4_LA57 ? 5 : 4) :
	    c->cr4 & CR4_PAE ? 3 : 2;
	table(&v, c, level == 3 ? c->cr3 & 0xffffffe0 : c->cr3 & ADDR, level,
	    0, P | RW | US);
	if (mem)
		range_end(&v);
	if (v.lines >= LINES_MAX)
		fprintf(f, "... (cut at %d lines)\n", LINES_MAX);
}

/* ----------------------------------------------------------------- memory */

static int
ask_vmem(struct cpu *c, const char *addr, const char *len, FILE *f)
{
	uint64_t a = strtoull(addr, NULL, 0), n = strtoull(len, NULL, 0), gpa,
	    k, i;
	const uint8_t *p;
	bool w;

	if (n > 16384)
		return EINVAL;
	for (; n; n -= k, a += k) {
		k = 4096 - (a & 0xfff);
		if (k > n)
			k = n;
		gpa = x86_debug_phys(c, a);
		p = gpa == ~0ull ? NULL : io_page(c, gpa, &w);
		if (!p) {
			/* hex digits so far are not an answer */
			fprintf(f, " cannot access memory at 0x%llx", (ull)a);
			return EFAULT;
		}
		p += gpa & 0xfff;
		for (i = 0; i < k; i++)
			fprintf(f, "%02x", p[i]);
	}
	return 0;
}

/* ----------------------------------------------------------------- topics */

static void
cpus(FILE *f)
{
	unsigned i;

	for (i = 0; i < machine.ncpu; i++) {
		struct cpu *c = machine.cpu[i];

		fprintf(f, "%c CPU #%u: pc=0x%016llx%s thread_id=%u\n",
		    i == 0 ? '*' : ' ', i, (ull)(c->rip +
		    (code_bits(c) == 64 ? 0 : c->seg[CS].base)),
		    c->wait_sipi ? " (waiting for SIPI)" :
		    c->halted ? " (halted)" : "", vcpu(c)->tid);
	}
}

static void
chip(struct devctx *d, FILE *f)
{
	irq_lock();
	d->dev->ask(d, NULL, f);
	irq_unlock();
}

static int
topic(char **argv, FILE *f)
{
	const char *t = argv[0];
	bool all = t != NULL && argv[1] != NULL && strcmp(argv[1], "-a") == 0;
	struct cpu *c = all ? machine.cpu[0] :
	    cpu_number(t != NULL ? argv[1] : NULL);
	unsigned i;

	if (t == NULL)
		return EINVAL;
	if (c == NULL) {
		fprintf(f, "%s: no such vcpu", argv[1]);
		return EINVAL;
	}
	if (strcmp(t, "cpus") == 0)
		cpus(f);
	else if (strcmp(t, "registers") == 0) {
		for (i = 0; i < machine.ncpu; i++)
			if (all || machine.cpu[i] == c)
				registers(f, machine.cpu[i]);
	} else if (strcmp(t, "lapic") == 0)
		chip(irq_lapic(c), f);
	else if (strcmp(t, "pic") == 0) {
		chip(&placed_ioapic, f);
		chip(&placed_pic, f);
	} else if (strcmp(t, "pit") == 0)
		chip(&placed_pit, f);
	else if (strcmp(t, "mem") == 0)
		page_tables(c, f, true);
	else if (strcmp(t, "tlb") == 0)
		page_tables(c, f, false);
	else if (strcmp(t, "jit") == 0)
		stat_jit(f);
	else if (strcmp(t, "stat") == 0)
		stat_vcpus(f);
	else {
		fprintf(f, "%s: no such topic", t);
		return EINVAL;
	}
	return 0;
}

static int
answer(char **argv, FILE *f)
{
	struct cpu *c;

	if (argv[0] == NULL)
		return EINVAL;
	if (strcmp(argv[0], "info") == 0)
		return topic(argv + 1, f);
	if (strcmp(argv[0], "stat") == 0) {
		stat_vcpus(f);
		return 0;
	}
	if (strcmp(argv[0], "nmi") == 0) {
		irq_nmi();
		return 0;
	}
	if (strcmp(argv[0], "jit") == 0 && argv[1] != NULL &&
	    strcmp(argv[1], "flush") == 0) {
		bool ran = vcpu_pause();

		block_flush();
		if (ran)
			vcpu_run_all();
		return 0;
	}
	c = argv[1] != NULL ? cpu_number(argv[1]) : NULL;
	if (strcmp(argv[0], "reg") == 0 && c && argv[2] != NULL)
		return ask_reg(c, argv[2], f);
	if (strcmp(argv[0], "vmem") == 0 && c && argv[2] && argv[3])
		return ask_vmem(c, argv[2], argv[3], f);
	fprintf(f, "%s: unknown question", argv[0]);
	return EINVAL;
}

int
info_ask(void *arg, char **argv, FILE *f)
{
	bool ran = vcpu_pause();
	int e = answer(argv, f);

	if (ran)
		vcpu_run_all();
	return e;
}
