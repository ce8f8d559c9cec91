/*
 * diff-guest.h - difftest's other side: a vcpu without a machine, its page
 * tables, and handlers that stop it at any exception.
 */
#include "difftest.h"

static struct ram ram;
struct machine machine;
static struct irq_page irqs;
static struct dirty *dirtymap;
static struct map map;
static unsigned cpl;

/* code ends with int END, as hlt is not for every privilege level */
#define END	32

uint64_t io_read(struct cpu *c, uint64_t a, unsigned n) { return ~0ull; }
void io_write(struct cpu *c, uint64_t a, unsigned n, uint64_t v) {}
uint32_t io_in(struct cpu *c, uint16_t p, unsigned n) { return ~0u; }
void io_out(struct cpu *c, uint16_t p, unsigned n, uint32_t v) {}
unsigned io_string(struct cpu *c, int w, uint16_t p, unsigned s, void *b,
    unsigned n) { return n; }
uint8_t *
io_page(struct cpu *c, uint64_t gpa, bool *w)
{
	*w = true;
	return ram_at(&ram, gpa, 4096);
}
void irq_collect(struct cpu *c) { *c->poll = 0; }
void irq_look(struct cpu *c) { }
bool irq_ready(struct cpu *c) { return false; }
int irq_vector(struct cpu *c) { return -1; }
struct devctx *irq_lapic(struct cpu *c) { return NULL; }
void irq_halt(struct cpu *c) { c->req |= REQ_STOP; cpu_exit_loop(c); }
uint64_t cpu_tsc(struct cpu *c) { return __builtin_ia32_rdtsc(); }
int irq_rdmsr(struct cpu *c, uint32_t m, uint64_t *v) { return -1; }
int irq_wrmsr(struct cpu *c, uint32_t m, uint64_t v) { return -1; }
uint8_t irq_get_tpr(struct cpu *c) { return 0; }
void irq_set_tpr(struct cpu *c, uint8_t v) {}

static uint64_t
phys(uint64_t lin)
{
	return lin >= HANDLER ? 0x300000 + (lin - HANDLER) :
	    lin - CODE + 0x100000;
}

/* Data pages are not neighbours in physical memory. */
static uint64_t
data_phys(uint64_t off)
{
	return 0x400000 + (DATA_N - 4096 - (off & ~0xfffull)) * 2 +
	    (off & 0xfff);
}

static void
map_page(uint64_t lin, uint64_t pa)
{
	uint64_t *t = (uint64_t *)(ram.base + 0x1000), e;
	static uint64_t next = 0x2000;
	int s;

	for (s = 39; s > 12; s -= 9) {
		e = t[lin >> s & 511];
		if (!e) {
			e = next | 7;
			next += 4096;
			t[lin >> s & 511] = e;
		}
		t = (uint64_t *)(ram.base + (e & ~0xfffull));
	}
	t[lin >> 12 & 511] = pa | 0x67;
}

static void
guest_init(void)
{
	uint64_t i, *idt, a;
	char why[128];

	if (ram_create(&ram, "difftest", RAM_N) < 0)
		err(1, "ram");
	dirtymap = calloc(1, DIRTY_BYTES(RAM_N >> 12));
	dirtymap->npage = RAM_N >> 12;
	machine.ram = &ram;
	machine.irqs = &irqs;
	machine.dirty = dirtymap;
	machine.map = &map;
	machine.ncpu = 1;
	machine.model = x86_model("max", why, sizeof(why));
	if (!machine.model)
		errx(1, "%s", why);
	cpu = mmap(NULL, (sizeof(*cpu) + 4095) & ~4095ul,
	    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	machine.cpu[0] = cpu;
	cpu->poll = &irqs.cpu[0].poll;
	if (jit_start(64 << 20) < 0)
		err(1, "jit_start");
	if (jit_cpu(cpu) < 0)
		abort();
	calls_thread();
	__asm__ volatile("wrgsbase %0" : : "r"(cpu));
	cpu->m = &machine;
	x86_reset(cpu);
	for (i = 0; i < CODE_N; i += 4096)
		map_page(CODE + i, phys(CODE + i));
	for (i = 0; i < DATA_N; i += 4096)
		map_page(DATA + i, data_phys(i));
	map_page(HANDLER, phys(HANDLER));
	idt = (uint64_t *)(ram.base + phys(HANDLER) + 0x400);
	for (i = 0; i <= END; i++) {
		ram.base[phys(HANDLER) + i * 16] = 0xf4;	/* hlt */
		a = HANDLER + i * 16;
		idt[2 * i] = (a & 0xffff) | 0x10ull << 16 | 1ull << 32 |
		    0xee00ull << 32 | (a >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = a >> 32;
	}
	/* GDT with a code segment at 0x10, TSS with IST1 */
	*(uint64_t *)(ram.base + phys(HANDLER) + 0x810) = 0x00af9b000000ffffull;
	*(uint64_t *)(ram.base + phys(HANDLER) + 0x818) = 0x00cf93000000ffffull;
	*(uint64_t *)(ram.base + phys(HANDLER) + 0xa24) = HANDLER + 0xff0;
	cpu->gdt.base = HANDLER + 0x800;
	cpu->gdt.limit = 0x1f;
	cpu->idt.base = HANDLER + 0x400;
	cpu->idt.limit = 16 * (END + 1) - 1;
	cpu->seg[TR] = (struct seg){ .sel = 0x20, .attr = 0x8b, .limit = 0x67,
		.base = HANDLER + 0xa00 };
}

/* Write the way out of the code at `b`, which is at `pc` for the guest. */
static void
guest_end(uint64_t pc)
{
	ram.base[phys(pc)] = 0xcd;
	ram.base[phys(pc) + 1] = END;
}

/* The control registers and segments of the machine being tried. */
static void
guest_mode(uint64_t pc)
{
	unsigned i;
	int l;

	cpu->cr0 = CR0_PE | CR0_MP | CR0_NE | CR0_ET | CR0_WP | CR0_PG;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	cpu->efer = EFER_LME | EFER_LMA | EFER_NXE;
	cpu->xcr0 = 7;
	cpu->cr3 = 0x1000;
	cpu->cpl = (uint8_t)cpl;
	for (i = 0; i < NSEG; i++) {
		struct seg *s = &cpu->seg[i];

		if (i >= LDTR)
			continue;
		l = seg_ldt(i, pc);
		*s = (struct seg){ .sel = (uint16_t)(0x18 | cpl),
			.attr = 0xc093 | cpl << 5, .limit = ~0u };
		if (i == CS)
			s->attr = (kind == V64 ? 0xa09b : 0xc09b) | cpl << 5;
		if (i == GS && kind == V64)
			s->base = GS_BASE;
		if (l >= 0) {
			struct segdesc d = segdesc((unsigned)l);

			s->base = d.base;
			s->limit = d.limit;
			s->attr = (d.code ? 0x9b : d.down ? 0x97 : 0x93) |
			    cpl << 5 | (d.big ? SEG_DB : 0) |
			    (d.limit == ~0u ? SEG_G : 0);
		}
	}
	x86_mode(cpu);
}

static int
run_guest(const struct regs *in, uint64_t pc, struct regs *out)
{
	uint64_t *f;
	int i, vec = -1;

	for (i = 0; i < 16; i++)
		cpu->gpr[i] = in->gpr[i];
	cpu->eflags = (uint32_t)in->flags;
	cpu_fpu_flush(cpu);
	memcpy(cpu->xsave.b, in->x, sizeof(in->x));
	cpu->halted = 0;
	cpu->req = 0;
	cpu->cr2 = 0;
	guest_mode(pc);
	cpu->rip = (uint32_t)pc - seg_base(CS, pc);
	cpu_run(cpu);
	cpu_fpu_flush(cpu);
	if (cpu->rip < HANDLER || cpu->rip >= HANDLER + 0x1000)
		errx(1, "the vcpu stopped at %#llx",
		    (unsigned long long)cpu->rip);
	vec = (int)((cpu->rip - HANDLER) / 16);
	/* the frame: rip cs flags rsp ss below HANDLER + 0xff0 */
	f = (uint64_t *)(ram.base + phys(HANDLER + 0xff0));
	cpu->gpr[RSP] = f[-2];
	cpu->eflags = (uint32_t)f[-3];
	for (i = 0; i < 16; i++)
		out->gpr[i] = cpu->gpr[i];
	out->rip = f[-5];
	out->cr2 = cpu->cr2;
	out->flags = cpu->eflags;
	memcpy(out->x, cpu->xsave.b, sizeof(out->x));
	return vec == END ? -1 : vec;
}
