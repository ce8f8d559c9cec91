/* links: cpu/{irq,io,placed}.o, the placed chips, dev, bus, mem */
/*
 * irq.c - the vcpu's side of interrupts and accesses without a translator: two
 * processors, the shared pages in private memory, one device played here.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/vcpu.h"
#include "cpu/block.h"

static int failed, count;
static const char *group = "";
#define IS(a, b) do { unsigned long long a_ = (a), b_ = (b); count++; \
	if (a_ != b_) { failed++; printf("# FAIL %s, line %d: %s is 0x%llx, " \
	    "not 0x%llx\n", group, __LINE__, #a, a_, b_); } } while (0)
#define NO	((unsigned long long)-1)

/* ------------------------------------------- what the rest of cpu/ would do */

struct machine machine;
static unsigned n_flush, n_wrote, n_event, n_codeflush;

void
cpu_kick(struct cpu *c)
{
	irq_kick(machine.irqs, c->index, c->kick);
}

void
cpu_request(struct cpu *c, unsigned req)
{
	__atomic_fetch_or(&c->req, req, __ATOMIC_SEQ_CST);
	cpu_kick(c);
}

void
cpu_fpu_flush(struct cpu *c)
{
	n_flush++;
}

void
code_wrote(struct cpu *c, uint64_t off, uint64_t len)
{
	n_wrote++;
}

void
code_sync_dma(struct cpu *c)
{
	machine.dirty->any = 0;
}

void
profile_look(struct cpu *c, const void *pc)
{
}

int64_t
profile_every(struct cpu *c)
{
	return 0;
}

void
code_flush(struct cpu *c)
{
	n_codeflush++;
}

void
cpu_away(struct cpu *c, enum where where)
{
}

void
cpu_back(struct cpu *c)
{
}

int
part_range(struct part *p, unsigned range, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	struct map_ent e = { .start = start, .last = start + len - 1,
		.off = off, .part = (uint16_t)p->num, .range = (uint16_t)range,
		.space = (uint8_t)space, .kind = (uint8_t)kind,
		.bits = (uint8_t)bits, .prio = (uint8_t)prio };

	return map_list_set(p->arg, &e);
}

int
part_event(struct part *p, const char *fmt, ...)
{
	n_event++;
	return 0;
}

/* --------------------------------------------------------------- a machine */

#define DEV 3
static struct irq_ref dev_irq_ref;
static struct part dev_part;
static struct map *map;
static struct ram ram;
static uint8_t state[8192];
static struct cpu *c0, *c1;
static struct vcpu vcpus[2];

static void *
pages(size_t n)
{
	return mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	    -1, 0);
}

static void
claim(unsigned range, enum space space, uint64_t start, uint64_t len,
    enum range_kind kind, uint64_t off, unsigned bits)
{
	if (part_range(&dev_part, range, space, start, len, kind, off, bits,
	    2) < 0) {
		perror("claim");
		exit(1);
	}
}

static void
set_up(void)
{
	unsigned i;

	map = pages(MAP_BYTES);
	map->tsc_khz = 1000000;
	map->running = 1;
	machine.map = map;
	machine.irqs = pages(IRQ_BYTES);
	machine.pci = pages(PCI_BYTES);
	machine.dirty = pages(DIRTY_BYTES(512));
	machine.ram = &ram;
	if (ram_create(machine.ram, "ram", 2 << 20) < 0)
		exit(1);
	machine.ecam = ECAM_BASE;
	machine.ncpu = 2;
	for (i = 0; i < 2; i++) {
		struct cpu *c = pages(sizeof(*c));
		struct vcpu *v = &vcpus[i];

		c->index = c->apic_id = i;
		c->irq = v;
		c->poll = &machine.irqs->cpu[i].poll;
		c->kick = eventfd(0, EFD_NONBLOCK);
		v->c = c;
		v->seq = ~0u;
		machine.cpu[i] = c;
	}
	c0 = machine.cpu[0];
	c1 = machine.cpu[1];
	machine.part.arg = map_list_new(map);
	dev_part.num = DEV;
	dev_part.arg = machine.part.arg;
	dev_irq_ref = (struct irq_ref){ machine.irqs, c0->kick, DEV, NULL };
	machine.chan[DEV].chan = pages(CHAN_BYTES(2));
	machine.chan[DEV].chan->nvcpu = 2;
	machine.chan[DEV].kick = eventfd(0, EFD_NONBLOCK);
	machine.chan[DEV].state = state;
	machine.chan[DEV].state_len = sizeof(state);
	if (placed_init() < 0)
		exit(1);
	placed_reset();
	irq_thread(c0);
	irq_resume(c0);
}

static void
lapic_on(struct cpu *c)
{
	io_write(c, 0xfee000f0, 4, 0x1ff);
}

static void
eoi(struct cpu *c)
{
	io_write(c, 0xfee000b0, 4, 0);
}

static void
redir(unsigned pin, uint64_t e)
{
	io_write(c0, 0xfec00000, 4, 0x11 + 2 * pin);
	io_write(c0, 0xfec00010, 4, e >> 32);
	io_write(c0, 0xfec00000, 4, 0x10 + 2 * pin);
	io_write(c0, 0xfec00010, 4, (uint32_t)e);
}

static int
next(struct cpu *c)
{
	if (*c->poll)
		irq_collect(c);
	return irq_ready(c) ? irq_vector(c) : -1;
}

/* ------------------------------------------------------------------- tests */

static void
test_pic(void)
{
	unsigned i;

	group = "8259 by virtual wire";
	irq_virtual_wire();
	for (i = 0; i < 2; i++) {
		uint16_t p = i ? 0xa0 : 0x20;

		io_out(c0, p, 1, 0x11);
		io_out(c0, p + 1, 1, 0x20 + 8 * i);
		io_out(c0, p + 1, 1, i ? 2 : 4);
		io_out(c0, p + 1, 1, 1);
		io_out(c0, p + 1, 1, 0);
	}
	IS(next(c0), NO);
	irq_set(&dev_irq_ref, 4, 0, 1);
	IS(*c0->poll, 1);
	IS(next(c0), 0x24);
	IS(next(c0), NO);
	io_out(c0, 0x20, 1, 0x20);
	irq_set(&dev_irq_ref, 4, 0, 0);
	IS(next(c0), NO);
	/* a pulse nobody saw in between (PROTOCOL.md "Interrupts") */
	irq_set(&dev_irq_ref, 4, 0, 1);
	irq_set(&dev_irq_ref, 4, 0, 0);
	IS(next(c0), 0x24);
	io_out(c0, 0x20, 1, 0x20);
	/* high, then low and high again: one more edge */
	irq_set(&dev_irq_ref, 4, 0, 1);
	IS(next(c0), 0x24);
	io_out(c0, 0x20, 1, 0x20);
	irq_set(&dev_irq_ref, 4, 0, 0);
	irq_set(&dev_irq_ref, 4, 0, 1);
	IS(next(c0), 0x24);
	io_out(c0, 0x20, 1, 0x20);
	/* a second source of a line that is high is no edge */
	irq_set(&dev_irq_ref, 4, 1, 1);
	IS(next(c0), NO);
	irq_set(&dev_irq_ref, 4, 0, 0);
	irq_set(&dev_irq_ref, 4, 1, 0);
	IS(next(c0), NO);
	IS(irq_ready(c1), 0);			/* the PIC is the BSP's */
	io_out(c0, 0x21, 1, 0xff);
	io_out(c0, 0xa1, 1, 0xff);
	IS(io_in(c0, 0x21, 1), 0xff);
}

static void
test_apic(void)
{
	group = "I/O APIC";
	lapic_on(c0);
	lapic_on(c1);
	redir(4, 0x0000000000000034ull);
	redir(11, 0x010000000000a045ull);
	irq_set(&dev_irq_ref, 4, 0, 1);
	IS(next(c0), 0x34);
	eoi(c0);
	irq_set(&dev_irq_ref, 4, 0, 0);

	group = "PIRQ";
	machine.pci->fn[8][0x61] = 0x0b;
	irq_route();
	irq_set(&dev_irq_ref, 25, 0, 1);
	irq_collect(c0);
	IS(next(c1), 0x45);
	IS(*c1->poll, 0);
	eoi(c1);
	IS(next(c1), 0x45);			/* still high */
	machine.pci->fn[8][0x61] = 0x80;
	irq_route();
	eoi(c1);
	IS(next(c1), NO);
	irq_set(&dev_irq_ref, 25, 0, 0);
	irq_collect(c0);

	group = "MSI";
	machine.irqs->msi[DEV].vec[2].addr = 0xfee01000;
	machine.irqs->msi[DEV].vec[2].data = 0x51;
	irq_msi(&dev_irq_ref, 2);
	irq_collect(c0);
	IS(next(c0), NO);
	IS(next(c1), 0x51);
	eoi(c1);
	irq_msi_deliver(0xfeeff000, 0x52);	/* broadcast */
	IS(next(c0), 0x52);
	IS(next(c1), 0x52);
	eoi(c0);
	eoi(c1);
	irq_msi_deliver(0xfe001000, 0x53);	/* not ours */
	IS(next(c1), NO);
	/* lowest priority goes to the idle one */
	io_write(c0, 0xfee000d0, 4, 0x01000000);
	io_write(c1, 0xfee000d0, 4, 0x02000000);
	io_write(c0, 0xfee00080, 4, 0x20);
	irq_msi_deliver(0xfee0300c, 0x154);
	IS(next(c0), NO);
	IS(next(c1), 0x54);
	eoi(c1);
	io_write(c0, 0xfee00080, 4, 0);

	group = "IPI";
	io_write(c0, 0xfee00310, 4, 0x01000000);
	io_write(c0, 0xfee00300, 4, 0x61);
	IS(next(c1), 0x61);
	eoi(c1);
	io_write(c0, 0xfee00300, 4, 0xc0062);	/* all but self */
	IS(next(c0), NO);
	IS(next(c1), 0x62);
	eoi(c1);
	io_write(c0, 0xfee00300, 4, 0x80063);	/* all */
	IS(next(c0), 0x63);
	IS(next(c1), 0x63);
	eoi(c0);
	eoi(c1);
	io_write(c0, 0xfee00300, 4, 0x4500);	/* INIT */
	IS(c1->req & REQ_INIT, REQ_INIT);
	IS(io_read(c1, 0xfee000f0, 4), 0xff);
	io_write(c0, 0xfee00300, 4, 0x4612);	/* start-up */
	IS(c1->req & REQ_SIPI, REQ_SIPI);
	IS(c1->sipi_vector, 0x12);
	io_write(c0, 0xfee00300, 4, 0x4400);	/* NMI */
	IS(c1->req & REQ_NMI, REQ_NMI);
	irq_nmi();
	IS(c0->req & REQ_NMI, REQ_NMI);
	c0->req = c1->req = 0;

	group = "TPR";
	irq_set_tpr(c0, 7);
	IS(irq_get_tpr(c0), 0x70);
	irq_msi_deliver(0xfee00000, 0x71);
	*c0->poll = 0;
	IS(irq_ready(c0), 0);
	irq_set_tpr(c0, 0);
	IS(*c0->poll, 1);			/* it is made to look */
	IS(next(c0), 0x71);
	eoi(c0);
}

static void
test_timer(void)
{
	unsigned i;
	uint64_t v;

	group = "timers and halt";
	c0->eflags = FL_IF;
	io_write(c0, 0xfee00320, 4, 0x400ef);
	IS(irq_wrmsr(c0, 0x6e0, cpu_tsc(c0) + 3000000), 0);
	*c0->poll = 0;
	for (i = 0; i < 1000 && !irq_ready(c0); i++) {
		irq_halt(c0);
		if (*c0->poll)
			irq_collect(c0);
	}
	IS(irq_vector(c0), 0xef);
	eoi(c0);
	IS(irq_rdmsr(c0, 0x6e0, &v), 0);
	IS(v, 0);
	/* running: the signal sets the poll word */
	*c0->poll = 0;
	IS(irq_wrmsr(c0, 0x6e0, cpu_tsc(c0) + 3000000), 0);
	while (!*(volatile uint32_t *)c0->poll)
		;
	for (i = 0; i < 1000 && next(c0) != 0xef; i++)
		irq_halt(c0);
	eoi(c0);
	/* periodic by the count, many times */
	io_write(c0, 0xfee00320, 4, 0x200ee);
	io_write(c0, 0xfee003e0, 4, 0xb);
	io_write(c0, 0xfee00380, 4, 1000000);
	for (i = 0; i < 5;) {
		irq_halt(c0);
		if (next(c0) == 0xee) {
			i++;
			eoi(c0);
		}
	}
	io_write(c0, 0xfee00380, 4, 0);
	IS(vcpu(c0)->timer[T_LAPIC].when, NO);
	/* cli; hlt with one pending sleeps until a request */
	c0->eflags = 0;
	irq_msi_deliver(0xfee00000, 0x72);
	irq_collect(c0);
	cpu_request(c0, REQ_STOP);
	irq_halt(c0);
	IS(c0->req, REQ_STOP);
	c0->req = 0;
	IS(next(c0), 0x72);
	eoi(c0);
}

static void *
device(void *arg)
{
	struct slot *s = &machine.chan[DEV].chan->cpu[0].slot;
	struct ring *r = &machine.chan[DEV].chan->cpu[0].ring;
	struct ring_ent e;
	unsigned todo = *(unsigned *)arg;

	while (todo) {
		if (atomic_load(&s->state) != SLOT_ASKED)
			continue;
		while (ring_peek(r, &e))
			ring_pop(r);
		if (s->op == CHAN_READ)
			s->data = 0x1122334455667788ull + s->off;
		s->data += (uint64_t)s->range << 56;
		todo--;
		atomic_store(&s->state, SLOT_DONE);
	}
	return NULL;
}

static void
test_io(void)
{
	struct chan *ch = machine.chan[DEV].chan;
	struct ring *g = &ch->cpu[0].ring;
	struct ring_ent e;
	unsigned todo = 2;
	pthread_t t;
	uint8_t *p;
	uint64_t v;
	bool w;

	group = "ranges";
	claim(0, SPACE_IO, 0x3f8, 4, RANGE_POSTED, 0, 0);
	claim(1, SPACE_IO, 0x3fc, 2, RANGE_STATUS, 0x10, 0);
	claim(2, SPACE_IO, 0x3fe, 2, RANGE_SHADOW, 0x20, 0);
	claim(3, SPACE_IO, 0x608, 4, RANGE_COUNTER, 3579545, 24);
	claim(4, SPACE_MEM, 0xd0000000, 0x1000, RANGE_DOORBELL, 0, 0);
	claim(5, SPACE_MEM, 0xd0001000, 0x1000, RANGE_SYNC, 0, 0);
	claim(6, SPACE_MEM, 0xf0000, 0x1000, RANGE_ROM, 4096, 0);
	state[0x10] = 0x60;
	state[0x11] = 0xb0;
	state[0x20] = 0x77;
	state[4096 + 5] = 0xea;
	n_flush = 0;
	IS(io_in(c0, 0x3fc, 1), 0x60);
	n_flush = 0;
	IS(io_in(c0, 0x3fc, 2), 0xb060);
	IS(n_flush, 0);				/* the FPU is left alone */
	IS(io_in(c0, 0x3fe, 1), 0x77);
	io_out(c0, 0x3f8, 1, 0x141);
	IS(ring_drained(g), 0);
	IS(ring_peek(g, &e), 1);
	IS(e.data, 0x41);
	IS(e.range, 0);
	IS(e.off, 0);
	IS(e.size, 1);
	IS(ch->asked, 1);
	IS(ch->n_kick, 0);
	/* a shadow is not true while writes are queued: a round trip */
	pthread_create(&t, NULL, device, &todo);
	IS(io_in(c0, 0x3fe, 1), 0x88);
	IS(io_read(c0, 0xd0001010, 8), 0x1622334455667798ull);
	pthread_join(t, NULL);
	IS(ring_drained(g), 1);
	ch->sleeping = 1;
	io_write(c0, 0xd0000000, 4, 5);
	IS(ch->bell, 1u << 5);
	IS(ch->sleeping, 0);
	IS(read(machine.chan[DEV].kick, &v, 8), 8);
	v = io_in(c0, 0x608, 4);
	IS(v >> 24, 0);
	while (io_in(c0, 0x608, 4) == v)
		;
	/* spanning two ranges */
	IS(io_in(c0, 0x3fd, 2), 0x77b0);
	IS(io_in(c0, 0x500, 4), 0xffffffff);	/* nobody */
	IS(io_in(c0, 0x500, 2), 0xffff);
	io_out(c0, 0x80, 1, 1);
	IS(io_read(c0, 0xd0002000, 8), ~0ull);
	io_write(c0, 0xd0002000, 8, 1);
	ch->dead = 1;
	IS(io_in(c0, 0x3fc, 1), 0xff);
	ch->dead = 0;

	group = "pages";
	p = io_page(c0, 0x1234, &w);
	IS(p == machine.ram->base + 0x1000 && w, 1);
	p = io_page(c0, 0xf0123, &w);
	IS(p == state + 4096 && !w, 1);
	IS(io_page(c0, 0xd0000000, &w) == NULL, 1);
	IS(io_page(c0, 0xd0002000, &w) == NULL, 1);
	IS(io_read(c0, 0xf0005, 1), 0xea);
	io_write(c0, 0xf0005, 1, 0);
	IS(state[4096 + 5], 0xea);
	io_write(c0, 0x2345, 4, 0xdeadbeef);
	IS(n_wrote, 1);
	IS(io_read(c0, 0x2345, 4), 0xdeadbeef);
	c0->req = c1->req = 0;
	irq_collect(c0);
	n_codeflush = 0;
	claim(6, SPACE_MEM, 0xe0000, 0x1000, RANGE_ROM, 4096, 0);
	p = io_page(c0, 0xf0123, &w);
	IS(p == machine.ram->base + 0xf0000 && w, 1);
	IS(c1->req, REQ_FLUSH);
	irq_collect(c0);
	IS(n_codeflush, 1);			/* another ROM: other code */
	c0->req = c1->req = 0;

	group = "PCI configuration";
	machine.pci->owner[0x18] = DEV + 1;
	memcpy(machine.pci->fn[0x18], "\xf4\x1a\x42\x10", 4);
	machine.pci->fn[0x18][0x104] = 0x99;
	io_out(c0, 0xcf8, 4, 0x80001800);
	IS(io_in(c0, 0xcf8, 4), 0x80001800);
	IS(io_in(c0, 0xcfc, 4), 0x10421af4);
	IS(io_in(c0, 0xcfe, 2), 0x1042);
	IS(io_in(c0, 0xcfd, 1), 0x1a);
	io_out(c0, 0xcf8, 1, 0);		/* not a 32-bit write */
	IS(io_in(c0, 0xcfc, 2), 0x1af4);
	io_out(c0, 0xcf8, 4, 0x80002000);
	IS(io_in(c0, 0xcfc, 4), 0xffffffff);
	io_out(c0, 0xcf8, 4, 0x00001800);
	IS(io_in(c0, 0xcfc, 4), 0xffffffff);
	io_out(c0, 0xcf8, 4, 0x80011800);	/* bus 1 */
	IS(io_in(c0, 0xcfc, 4), 0xffffffff);
	IS(io_read(c0, ECAM_BASE + 0x18104, 1), 0x99);
	IS(io_read(c0, ECAM_BASE + 0x18000, 4), 0x10421af4);
	IS(io_read(c0, ECAM_BASE + 0x19000, 4), 0xffffffff);
	io_out(c0, 0xcf9, 1, 2);
	IS(n_event, 0);
	io_out(c0, 0xcf9, 1, 6);
	IS(n_event, 1);
}

int
main(void)
{
	set_up();
	test_pic();
	test_apic();
	test_timer();
	test_io();
	printf("%d checks, %d failed\n", count, failed);
	return failed != 0;
}
