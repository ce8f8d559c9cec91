/*
 * irq.c - from the shared interrupt page to a vcpu.
 *
 *	part --irq page--> irq_collect --> 8259 pair -- INTR --> LINT0 --+
 *	                        |--> I/O APIC --message--+               |
 *	MSI ------------------------------------------+--+--> LAPIC -----+--> vcpu
 *
 * All controllers live under one lock.  What a vcpu has to know between blocks
 * is one flag, `irq_ready`, worked out again whenever something that decides it
 * changed; a rise of it kicks the vcpu.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "vcpu.h"

#define PIIX3		(1 << 3)	/* devfn 00:01.0 */
#define PIRQ_ROUTE	0x60		/* registers 0x60-0x63 */

pthread_mutex_t irq_mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t seen[IRQ_LINES];	/* line words at the last look */
static uint32_t level;			/* lines now, from parts */
static uint32_t placed_level;		/* and from placed chips */
static uint8_t route[4];		/* PIRQ A-D */
static bool intr;			/* the 8259's output */

/* ------------------------------------------------------- what a vcpu sees */

/* Work out irq_ready; a vcpu that gains an interrupt is made to look. */
static void
refresh(struct vcpu *v)
{
	bool now = lapic_highest(&v->lapic) >= 0 || v->extint ||
	    (intr && lapic_takes_pic(&v->lapic));
	bool was = atomic_exchange_explicit(&v->c->irq_ready, now,
	    memory_order_relaxed);
	uint64_t base = lapic_base(&v->lapic);

	v->lapic_page = (base & 0xc00) == 0x800 ?
	    base & 0x000ffffffffff000ull : ~0ull;
	if (now && !was && !v->collecting)
		cpu_kick(v->c);
}

/* Pass the 8259's output on. */
static void
settle(void)
{
	bool now = i8259_intr(&placed_pic);
	unsigned i;

	if (now == intr)
		return;
	intr = now;
	for (i = 0; i < machine.ncpu; i++) {
		struct vcpu *v = vcpu(machine.cpu[i]);

		lapic_lint(&v->lapic, 0, now);
		refresh(v);
	}
	ioapic_set(&placed_ioapic, 0, now);	/* ExtINT by pin 0 */
}

void
irq_lock(void)
{
	pthread_mutex_lock(&irq_mutex);
}

void
irq_unlock(void)
{
	settle();
	pthread_mutex_unlock(&irq_mutex);
}

bool
irq_ready(struct cpu *c)
{
	return atomic_load_explicit(&c->irq_ready, memory_order_relaxed);
}

int
irq_vector(struct cpu *c)
{
	struct vcpu *v = vcpu(c);
	int vec;

	irq_lock();
	vec = lapic_ack(&v->lapic);
	if (vec < 0 && (v->extint ||
	    (intr && lapic_takes_pic(&v->lapic)))) {
		v->extint = false;
		vec = (int)i8259_ack(&placed_pic);
	}
	settle();
	refresh(v);
	pthread_mutex_unlock(&irq_mutex);
	return vec;
}

struct devctx *
irq_lapic(struct cpu *c)
{
	return &vcpu(c)->lapic;
}

int
irq_rdmsr(struct cpu *c, uint32_t msr, uint64_t *val)
{
	int r;

	irq_lock();
	r = lapic_rdmsr(irq_lapic(c), msr, val);
	irq_unlock();
	return r;
}

int
irq_wrmsr(struct cpu *c, uint32_t msr, uint64_t val)
{
	int r;

	irq_lock();
	r = lapic_wrmsr(irq_lapic(c), msr, val);
	irq_unlock();
	return r;
}

void
irq_set_tpr(struct cpu *c, uint8_t cr8)
{
	irq_lock();
	lapic_set_tpr(irq_lapic(c), cr8);
	irq_unlock();
}

uint8_t
irq_get_tpr(struct cpu *c)
{
	return lapic_get_tpr(irq_lapic(c));
}

/* --------------------------------------------------------------- messages */

static void
to_cpu(struct vcpu *v, enum lapic_mode mode, uint8_t vector, bool lvl)
{
	struct cpu *c = v->c;

	switch (mode) {
	case LAPIC_FIXED: case LAPIC_LOWEST:
		lapic_accept(&v->lapic, LAPIC_FIXED, vector, lvl);
		break;
	case LAPIC_NMI:
		cpu_request(c, REQ_NMI);
		break;
	case LAPIC_INIT:
		lapic_init_reset(&v->lapic);
		v->extint = false;
		refresh(v);
		cpu_request(c, REQ_INIT);
		break;
	case LAPIC_SIPI:
		c->sipi_vector = vector;
		cpu_request(c, REQ_SIPI);
		break;
	case LAPIC_EXTINT:
		v->extint = true;
		refresh(v);
		break;
	case LAPIC_SMI:			/* there is no SMM here */
		break;
	}
}

/* SDM 3A 11.6.2; the lowest-priority mode takes one of those that match. */
static void
send(enum lapic_mode mode, uint8_t vector, bool lvl, uint32_t dest,
    bool logical)
{
	struct vcpu *v, *best = NULL;
	unsigned i;

	for (i = 0; i < machine.ncpu; i++) {
		v = vcpu(machine.cpu[i]);
		if (!lapic_match(&v->lapic, dest, logical))
			continue;
		if (mode != LAPIC_LOWEST)
			to_cpu(v, mode, vector, lvl);
		else if (!best || lapic_arb(&v->lapic) <
		    lapic_arb(&best->lapic))
			best = v;
	}
	if (best)
		to_cpu(best, LAPIC_FIXED, vector, lvl);
}

/* SDM 3A 11.11.  Extended destination bits (address 11:5) are not used. */
static void
message(void *arg, uint64_t addr, uint32_t data)
{
	uint32_t dest = addr >> 12 & 0xff;
	enum lapic_mode mode = data >> 8 & 7;
	bool logical = addr & 4;

	if ((addr & 0xfff00000) != 0xfee00000)
		return;
	if (dest == 0xff && !logical)
		dest = 0xffffffff;
	if (mode == LAPIC_FIXED && addr & 8 && logical)
		mode = LAPIC_LOWEST;	/* redirection hint */
	send(mode, (uint8_t)data, data & 0x8000, dest, logical);
}

void
irq_msi_deliver(uint64_t addr, uint32_t data)
{
	irq_lock();
	message(NULL, addr, data);
	irq_unlock();
}

static void
hook_ipi(void *arg, unsigned from, uint32_t lo, uint32_t dest)
{
	enum lapic_mode mode = lo >> 8 & 7;
	uint8_t vector = (uint8_t)lo;
	unsigned i;

	switch (lo >> 18 & 3) {
	case 0:
		send(mode, vector, false, dest, lo & 0x800);
		break;
	case 1:
		to_cpu(vcpu(machine.cpu[from]), mode, vector, false);
		break;
	case 2: case 3:
		for (i = 0; i < machine.ncpu; i++)
			if (i != from || !(lo & 0x40000))
				to_cpu(vcpu(machine.cpu[i]), mode, vector,
				    false);
		break;
	}
}

static void
hook_eoi(void *arg, unsigned vector)
{
	ioapic_eoi(&placed_ioapic, vector);
}

static void
hook_kick(void *arg, unsigned cpu)
{
	refresh(vcpu(machine.cpu[cpu]));
}

static uint64_t
hook_tsc(void *arg, unsigned cpu)
{
	return cpu_tsc(machine.cpu[cpu]);
}

static void
hook_deadline(void *arg, unsigned cpu, uint64_t tsc)
{
	timer_deadline(vcpu(machine.cpu[cpu]), tsc);
}

static void
hook_event(void *arg, unsigned cpu, enum lapic_mode mode)
{
	to_cpu(vcpu(machine.cpu[cpu]), mode, 0, false);
}

static const struct lapic_hooks hooks = {
	.ipi = hook_ipi,
	.eoi = hook_eoi,
	.kick = hook_kick,
	.tsc = hook_tsc,
	.deadline = hook_deadline,
	.event = hook_event,
};

void
irq_nmi(void)
{
	unsigned i;

	irq_lock();
	for (i = 0; i < machine.ncpu; i++) {
		lapic_lint(irq_lapic(machine.cpu[i]), 1, 1);
		lapic_lint(irq_lapic(machine.cpu[i]), 1, 0);
	}
	irq_unlock();
}

/* ------------------------------------------------------------------ lines */

/* Drive the controllers' inputs of ISA interrupt or GSI n. */
static void
input(unsigned n, bool on)
{
	if (n < 16)
		i8259_set(&placed_pic, n, on);
	/* the timer's interrupt is at pin 2, as in the MADT's override */
	ioapic_set(&placed_ioapic, n == 0 ? 2 : n, on);
}

static bool
isa_level(unsigned n)
{
	unsigned i;

	if ((level | placed_level) >> n & 1)
		return true;
	for (i = 0; i < 4; i++)
		if (route[i] == n && level >> (IRQ_PIRQ + i) & 1)
			return true;
	return false;
}

static void
update(unsigned n)
{
	if (n >= IRQ_PIRQ) {
		if (n >= IRQ_PIRQ + 4)
			return;
		n = route[n - IRQ_PIRQ];
		if (n > 15)
			return;
	}
	input(n, isa_level(n));
}

void
irq_line(unsigned n, int on)
{
	if (on)
		placed_level |= 1u << n;
	else
		placed_level &= ~(1u << n);
	update(n);
}

/* 290550, 2.2.9: bit 7 off, bits 3:0 interrupt (0-2, 8, 13 reserved). */
void
irq_route(void)
{
	uint8_t old, new;
	unsigned i;

	irq_lock();
	for (i = 0; i < 4; i++) {
		old = route[i];
		new = machine.pci->fn[PIIX3][PIRQ_ROUTE + i];
		if (new & 0x80 || !(0xdef8 >> (new & 15) & 1))
			new = 0xff;
		else
			new &= 15;
		if (old == new)
			continue;
		route[i] = new;
		if (old < 16)
			input(old, isa_level(old));
		if (new < 16)
			input(new, isa_level(new));
	}
	irq_unlock();
}

/* Look at a line's word: a pulse that came and went still counts. */
static void
look(unsigned n)
{
	uint64_t w = atomic_load(&machine.irqs->line[n]);
	bool on = (uint32_t)w != 0, was = level >> n & 1;
	bool rose = w >> 32 != seen[n] >> 32;
	uint32_t b = 1u << n;

	seen[n] = w;
	if (was && rose) {
		level &= ~b;
		update(n);
		was = false;
	}
	if (!was && rose && !on) {
		level |= b;
		update(n);
		was = true;
	}
	if (on != was) {
		level = on ? level | b : level & ~b;
		update(n);
	}
}

static void
collect_lines(void)
{
	struct irq_page *p = machine.irqs;
	uint32_t ch = atomic_exchange(&p->changed, 0);

	for (; ch; ch &= ch - 1)
		look((unsigned)__builtin_ctz(ch));
}

static void
collect_msi(void)
{
	struct irq_page *p = machine.irqs;
	uint64_t parts = atomic_exchange(&p->msi_parts, 0), bits;
	unsigned part, n;

	for (; parts; parts &= parts - 1) {
		part = (unsigned)__builtin_ctzll(parts);
		bits = atomic_exchange(&p->msi[part].pending, 0);
		for (; bits; bits &= bits - 1) {
			n = (unsigned)__builtin_ctzll(bits);
			message(NULL, p->msi[part].vec[n].addr,
			    p->msi[part].vec[n].data);
		}
	}
}

void
irq_collect(struct cpu *c)
{
	struct vcpu *v = vcpu(c);
	struct irq_page *p = machine.irqs;

	atomic_exchange(c->poll, 0);
	io_boundary(c);
	code_sync_dma(c);
	pthread_mutex_lock(&irq_mutex);
	v->collecting = true;
	timer_run(v);
	if (p->changed)
		collect_lines();
	if (p->msi_parts)
		collect_msi();
	settle();
	v->collecting = false;
	pthread_mutex_unlock(&irq_mutex);
}

/* ------------------------------------------------------------------- halt */

static bool
wakes(struct cpu *c)
{
	if (atomic_load(c->poll) || __atomic_load_n(&c->req, __ATOMIC_SEQ_CST))
		return true;
	if (c->wait_sipi)
		return false;
	return (c->nmi_pending && !c->nmi_blocked) ||
	    (c->eflags & FL_IF && irq_ready(c));
}

/*
 * A guest that waits for a quick device sleeps and wakes in tens of
 * microseconds, most of it scheduling.  After a short sleep the next halt looks
 * around for a while first; after a long one it does not, so that an idle guest
 * costs nothing.
 */
#define SPIN_NS		40000
#define SHORT_NS	60000

static bool
spin(struct cpu *c, int64_t until)
{
	unsigned i;

	do {
		for (i = 0; i < 32; i++) {
			if (wakes(c))
				return true;
			__builtin_ia32_pause();
		}
	} while (guest_clock() < until);
	return false;
}

void
irq_halt(struct cpu *c)
{
	struct vcpu *v = vcpu(c);
	_Atomic uint32_t *halted = &machine.irqs->cpu[c->index].halted;
	struct pollfd pf = { .fd = c->kick, .events = POLLIN };
	struct timespec ts, *tsp = NULL;
	int64_t next, left, start = guest_clock();
	uint64_t count;

	c->n_halt++;
	if (v->spin && !c->wait_sipi && spin(c, start + SPIN_NS))
		return;
	atomic_store(halted, 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (wakes(c))
		goto awake;
	pthread_mutex_lock(&irq_mutex);
	next = timer_next(v);
	pthread_mutex_unlock(&irq_mutex);
	if (next >= 0) {
		left = next - guest_clock();
		if (left <= 0) {
			atomic_store(c->poll, 1);
			goto awake;
		}
		ts.tv_sec = left / 1000000000;
		ts.tv_nsec = left % 1000000000;
		tsp = &ts;
	}
	if (raw4(SYS_ppoll, (long)&pf, 1, (long)tsp, 0) > 0)
		raw4(SYS_read, c->kick, (long)&count, 8, 0);
	atomic_store(c->poll, 1);
	v->spin = guest_clock() - start < SHORT_NS;
awake:
	atomic_store(halted, 0);
}

/* ------------------------------------------------------------- life cycle */

int
irq_init(void)
{
	unsigned i;

	if (timer_init() < 0)
		return -1;
	for (i = 0; i < 4; i++)
		route[i] = 0xff;
	for (i = 0; i < machine.ncpu; i++) {
		struct cpu *c = machine.cpu[i];
		struct vcpu *v = vcpu(c);

		if (!placed_alloc(&v->lapic, &lapic, "lapic"))
			return -1;
		v->lapic.hostarg = c;
		lapic_init(&v->lapic, i, c->apic_id, i == 0, &hooks);
	}
	ioapic_deliver_to(&placed_ioapic, message, NULL);
	return 0;
}

/* Everything from the lines anew: the controllers were reset or loaded. */
static void
all_lines(void)
{
	unsigned n, i;

	level = 0;
	for (i = 0; i < 4; i++) {
		uint8_t r = machine.pci->fn[PIIX3][PIRQ_ROUTE + i];

		route[i] = r & 0x80 || !(0xdef8 >> (r & 15) & 1) ? 0xff :
		    r & 15;
	}
	for (n = 0; n < IRQ_LINES; n++) {
		seen[n] = atomic_load(&machine.irqs->line[n]);
		if ((uint32_t)seen[n])
			level |= 1u << n;
	}
	for (n = 0; n < IRQ_PIRQ; n++)
		input(n, n < 16 ? isa_level(n) : level >> n & 1);
	intr = i8259_intr(&placed_pic);
	for (i = 0; i < machine.ncpu; i++) {
		lapic_lint(irq_lapic(machine.cpu[i]), 0, intr);
		refresh(vcpu(machine.cpu[i]));
	}
}

void
irq_reset(void)
{
	unsigned i, n;

	pthread_mutex_lock(&irq_mutex);
	atomic_store(&machine.irqs->msi_parts, 0);
	for (n = 0; n < PART_MAX; n++)
		atomic_store(&machine.irqs->msi[n].pending, 0);
	for (i = 0; i < machine.ncpu; i++)
		vcpu(machine.cpu[i])->extint = false;
	all_lines();
	pthread_mutex_unlock(&irq_mutex);
}

/*
 * Started without firmware: leave the boot processor's LAPIC as firmware does,
 * in virtual wire mode (MP specification 1.4, 3.6.2.2).
 */
void
irq_virtual_wire(void)
{
	struct devctx *d = irq_lapic(machine.cpu[0]);

	irq_lock();
	lapic.write(d, 0, 0x0f0, 4, 0x1ff);	/* enabled */
	lapic.write(d, 0, 0x350, 4, 0x700);	/* LINT0: ExtINT */
	lapic.write(d, 0, 0x360, 4, 0x400);	/* LINT1: NMI */
	irq_unlock();
}

void
irq_loaded(void)
{
	pthread_mutex_lock(&irq_mutex);
	all_lines();
	pthread_mutex_unlock(&irq_mutex);
}
