/*
 * x86sem.h - a vcpu without a machine: RAM, tables and modes, for the tests of
 * cpu/x86.  One instruction at a time; what it raised is the result.
 */
#ifndef X86SEM_H
#define X86SEM_H

#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/x86/jit.h"
#include "cpu/x86/sys.h"

#define RAM_N	(16u << 20)
enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, TSS2 = 0x3400, TSS16 = 0x3800,
	LDT = 0x3c00, PT = 0x10000, CODE = 0x20000, STACK0 = 0x38000,
	STACK3 = 0x48000, DATA = 0x50000, HANDLER = 0x60000,
	MMIO = 0x1000000 /* beyond RAM */ };
/* selectors */
enum { S_C32 = 0x08, S_D32 = 0x10, S_C64 = 0x18, S_U32 = 0x20, S_UD = 0x28,
	S_U64 = 0x30, S_TSS = 0x38, S_TSS2 = 0x48, S_TSS16 = 0x50, S_LDT = 0x58,
	S_C16 = 0x68, S_D16 = 0x70, S_TEST = 0x80, S_GATE = 0x90 };

struct machine machine;
static struct irq_page irqs;
static struct map map;
static struct ram ram;
static struct cpu *c;
static int failed, count;
static const char *group = "", *what = "";

#define IS(a, b) do { unsigned long long a_ = (a), b_ = (b); count++; \
	if (a_ != b_) { failed++; printf("# FAIL %s%s%s, %s:%d: %s is " \
	    "0x%llx, not 0x%llx\n", group, *what ? ": " : "", what, __FILE__, \
	    __LINE__, #a, a_, b_); } } while (0)
#define NONE	((unsigned long long)-1)

/* ------------------------------------------------------ the world outside */

static uint32_t port_in = 0x11223344, port_out, port_last, port_n, mmio_val;
static char event[64];

uint64_t
io_read(struct cpu *p, uint64_t a, unsigned n)
{
	return ~0ull >> (64 - 8 * n);
}

void
io_write(struct cpu *p, uint64_t a, unsigned n, uint64_t v)
{
	mmio_val = (uint32_t)v;
}

uint32_t
io_in(struct cpu *p, uint16_t port, unsigned n)
{
	port_last = port;
	port_n++;
	return n == 4 ? port_in : port_in & ((1u << 8 * n) - 1);
}

void
io_out(struct cpu *p, uint16_t port, unsigned n, uint32_t v)
{
	port_last = port;
	port_n++;
	port_out = n == 4 ? v : v & ((1u << 8 * n) - 1);
}

unsigned
io_string(struct cpu *p, int w, uint16_t port, unsigned s, void *b, unsigned n)
{
	port_last = port;
	port_n += n;
	if (!w)
		memset(b, 0x5a, s * n);
	return n;
}

uint8_t *
io_page(struct cpu *p, uint64_t gpa, bool *w)
{
	*w = true;
	return ram_at(&ram, gpa & ~0xfffull, 4096);
}

/* the interrupt that waits, -1: none; the vcpu acknowledges it once */
static int irq_next = -1;
void irq_collect(struct cpu *p) { *p->poll = 0; }
void irq_look(struct cpu *p) { }
bool irq_ready(struct cpu *p) { return irq_next >= 0; }

int
irq_vector(struct cpu *p)
{
	int v = irq_next;

	irq_next = -1;
	p->irq_ready = false;
	return v;
}

struct devctx *irq_lapic(struct cpu *p) { return NULL; }
void irq_halt(struct cpu *p) { p->req |= REQ_STOP; cpu_exit_loop(p); }
uint64_t cpu_tsc(struct cpu *p) { return 1000 + (uint64_t)p->tsc_off; }
int irq_rdmsr(struct cpu *p, uint32_t m, uint64_t *v) { return -1; }
int irq_wrmsr(struct cpu *p, uint32_t m, uint64_t v) { return -1; }
static uint8_t tpr;
uint8_t irq_get_tpr(struct cpu *p) { return tpr; }
void irq_set_tpr(struct cpu *p, uint8_t v) { tpr = (uint8_t)(v << 4); }

int
part_event(struct part *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(event, sizeof(event), fmt, ap);
	va_end(ap);
	return 0;
}

/* ------------------------------------------------------------------ memory */

static inline void *
at(uint64_t a)
{
	return ram.base + a;
}

static inline uint64_t
r64(uint64_t a)
{
	uint64_t v;

	memcpy(&v, at(a), sizeof(v));
	return v;
}

static inline uint32_t
r32(uint64_t a)
{
	uint32_t v;

	memcpy(&v, at(a), sizeof(v));
	return v;
}

static inline uint16_t
r16(uint64_t a)
{
	uint16_t v;

	memcpy(&v, at(a), sizeof(v));
	return v;
}

static inline void
w64(uint64_t a, uint64_t v)
{
	memcpy(at(a), &v, sizeof(v));
}

static inline void
w32(uint64_t a, uint32_t v)
{
	memcpy(at(a), &v, sizeof(v));
}

static inline void
w16(uint64_t a, uint16_t v)
{
	memcpy(at(a), &v, sizeof(v));
}


/* attr: access byte | flags (G D L AVL) << 12 */
static inline uint64_t
desc(uint32_t base, uint32_t limit, unsigned attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	    (uint64_t)(attr & 0xf0ff) << 40 |
	    (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t
gate(unsigned sel, uint32_t off, unsigned access, unsigned params)
{
	return (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)params << 32 |
	    (uint64_t)access << 40 | (uint64_t)(off >> 16) << 48;
}

static inline void
set_gdt(unsigned sel, uint64_t d)
{
	w64(GDT + (sel & ~7u), d);
}

/* IDT entry for the present mode */
static inline void
set_idt(unsigned v, unsigned sel, uint64_t off, unsigned access, unsigned ist)
{
	if (c->efer & EFER_LMA) {
		w64(IDT + v * 16, gate(sel, (uint32_t)off, access, ist));
		w64(IDT + v * 16 + 8, off >> 32);
	} else
		w64(IDT + v * 8, gate(sel, (uint32_t)off, access, 0));
}

/* Identity paging of 16 MiB for long mode: 4 KiB pages at PT + 0x3000. */
static inline void
make_tables(void)
{
	unsigned i;

	memset(at(PT), 0, 0xc000);
	w64(PT, (PT + 0x1000) | 7);
	w64(PT + 0x1000, (PT + 0x2000) | 7);
	for (i = 0; i < 9; i++)
		w64(PT + 0x2000 + 8 * i, (PT + 0x3000 + 0x1000 * i) | 7);
	for (i = 0; i < 9 * 512; i++)
		w64(PT + 0x3000 + 8 * i, i * 4096ull | 7);
}
/* page table entry of an address below 18 MiB (MMIO included) */
#define PTE(a)	(PT + 0x3000 + ((a) >> 12) * 8)

/* ------------------------------------------------------------------- modes */

static inline struct seg
seg(unsigned sel)
{
	struct seg s;

	desc_seg(r64(GDT + (sel & ~7u)), (uint16_t)sel, &s);
	return s;
}

static inline void
clear(void)
{
	memset(at(GDT), 0, CODE - GDT);
	x86_reset(c);
	c->xcr0 = 7;
	set_gdt(S_C32, desc(0, 0xfffff, 0xc09b));
	set_gdt(S_D32, desc(0, 0xfffff, 0xc093));
	set_gdt(S_C64, desc(0, 0xfffff, 0xa09b));
	set_gdt(S_U32, desc(0, 0xfffff, 0xc0fb));
	set_gdt(S_UD, desc(0, 0xfffff, 0xc0f3));
	set_gdt(S_U64, desc(0, 0xfffff, 0xa0fb));
	set_gdt(S_TSS, desc(TSS, 0x3ff, 0x89));
	set_gdt(S_TSS2, desc(TSS2, 0x3ff, 0x89));
	set_gdt(S_TSS16, desc(TSS16, 0x3ff, 0x81));
	set_gdt(S_LDT, desc(LDT, 0xff, 0x82));
	set_gdt(S_C16, desc(0, 0xffff, 0x9b));
	set_gdt(S_D16, desc(0, 0xffff, 0x93));
	c->gdt.base = GDT;
	c->gdt.limit = 0xff;
	c->idt.base = IDT;
	c->idt.limit = 0xfff;
	w32(TSS + 4, STACK0);
	w16(TSS + 8, S_D32);
	w16(TSS + 0x66, 0x68 + 0x20);
	memset(at(TSS + 0x68), 0xff, 0x398);
	memset(c->gpr, 0, sizeof(c->gpr));
	c->halted = 0;
	c->wait_sipi = 0;
	c->rip = CODE;
	c->eflags = 2;
	port_n = 0;
	*event = 0;
}

/* 32-bit protected mode, flat, no paging */
static inline void
pm32(unsigned cpl)
{
	int i;

	clear();
	c->cr0 = CR0_PE | CR0_ET | CR0_NE;
	c->cpl = (uint8_t)cpl;
	c->seg[CS] = seg(cpl ? S_U32 | cpl : S_C32);
	for (i = 0; i < LDTR; i++)
		if (i != CS)
			c->seg[i] = seg(cpl ? S_UD | cpl : S_D32);
	c->seg[TR] = seg(S_TSS);
	c->seg[TR].attr |= 2;
	w64(GDT + S_TSS, r64(GDT + S_TSS) | 2ull << 40);
	c->seg[LDTR] = (struct seg){ .attr = SEG_UNUSABLE };
	c->gpr[RSP] = cpl ? STACK3 : STACK0 - 0x1000;
	x86_mode(c);
}

static inline void
real16(void)
{
	clear();
	c->cr0 = CR0_ET;
	seg_real(c, CS, CODE >> 4);
	seg_real(c, DS, DATA >> 4);
	seg_real(c, ES, DATA >> 4);
	seg_real(c, SS, 0x3000);
	c->rip = 0;
	c->idt.base = 0;
	c->idt.limit = 0x3ff;
	c->gpr[RSP] = 0x8000;
	x86_mode(c);
}

static inline void
vm86(unsigned iopl)
{
	static const uint8_t r[] = { ES, DS, FS, GS };
	int i;

	pm32(0);
	c->eflags = 2 | FL_VM | iopl << 12;
	c->cpl = 3;
	seg_real(c, CS, CODE >> 4);
	seg_real(c, SS, 0x4000);
	for (i = 0; i < 4; i++)
		seg_real(c, r[i], DATA >> 4);
	c->rip = 0;
	c->gpr[RSP] = 0x8000;
	x86_mode(c);
}

static inline void
long64(unsigned cpl)
{
	pm32(cpl);
	make_tables();
	c->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXSAVE | CR4_FSGSBASE;
	c->cr3 = PT;
	c->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	c->cr0 |= CR0_PG | CR0_WP;
	c->seg[CS] = seg(cpl ? S_U64 | 3 : S_C64);
	w64(TSS + 4, STACK0);
	w64(TSS + 0x24, STACK0 - 0x2000);		/* IST1 */
	w64(TSS + 0x66, 0x68 + 0x20);
	w64(GDT + S_TSS + 8, 0);
	tlb_flush_all(c);
	x86_mode(c);
}

/* ------------------------------------------------------------------ running */

/* fn(arg) in the vcpu's context: the vector it raised, or -1 */
static int __attribute__((noinline, unused))
raised(void (*fn)(void *), void *arg)
{
	c->exc_pending = -1;
	if (__builtin_setjmp(c->jb))
		return c->exc_pending;
	fn(arg);
	return -1;
}

static inline void step_(void *a) { x86_step(c); }
static inline void debug_(void *a) { x86_debug_step(c); }

/* Put bytes at rip and execute one instruction. */
static inline int
op_(const char *bytes, size_t n)
{
	memcpy(at(c->seg[CS].base + c->rip), bytes, n);
	block_flush();
	return raised(step_, NULL);
}
#define OP(s)	op_(s, sizeof(s) - 1)

/* Deliver what is pending, with what follows from it. */
static void __attribute__((noinline, unused))
deliver(void)
{
	volatile int i;

	for (i = 0; i < 4 && c->exc_pending >= 0; i++)
		if (__builtin_setjmp(c->jb) == 0)
			x86_deliver_pending(c);
}

/* An interrupt from outside or the tests, and what follows from it */
static void __attribute__((noinline, unused))
interrupt(int vec, int kind, uint32_t code)
{
	c->exc_pending = -1;
	if (__builtin_setjmp(c->jb) == 0)
		x86_interrupt(c, vec, kind, code);
	deliver();
}

/* Words KEY=off: jit.h. */
static inline void
switches(char **words)
{
	char why[128];

	if (opts_parse(jit_opts, words, &jit_on, why, sizeof(why)) < 0)
		errx(2, "%s", why);
}

static inline void
world(void)
{
	static struct dirty *d;
	char why[128];

	if (ram_create(&ram, "x86sem", RAM_N) < 0)
		err(1, "ram");
	d = calloc(1, DIRTY_BYTES(RAM_N >> 12));
	if (!d)
		err(1, "dirty");
	d->npage = RAM_N >> 12;
	machine.ram = &ram;
	machine.irqs = &irqs;
	machine.dirty = d;
	machine.map = &map;
	map.tsc_khz = 2100000;
	map.topo = (struct topology){ 1, 1 };
	machine.ncpu = 1;
	machine.model = x86_model("max", why, sizeof(why));
	if (!machine.model)
		errx(1, "%s", why);
	c = mmap(NULL, (sizeof(*c) + 4095) & ~4095ul, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c == MAP_FAILED)
		err(1, "mmap");
	machine.cpu[0] = c;
	c->poll = &irqs.cpu[0].poll;
	if (jit_start(16 << 20) < 0)
		err(1, "jit_start");
	if (jit_cpu(c) < 0)
		abort();
	calls_thread();
	__asm__ volatile("wrgsbase %0" : : "r"(c));
}

static inline int
result(void)
{
	printf("%d checks, %d failed\n", count, failed);
	return failed != 0;
}

#endif
