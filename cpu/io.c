/*
 * io.c - guest-physical accesses that are not plain RAM, and ports.
 *
 * The map (mem/map.c) says whose an address is and what an access costs; each
 * vcpu keeps the ranges it met lately.  The cheap kinds of access are done here
 * without leaving the general registers, so that the guest's vector registers
 * can stay where they are; a round trip puts them away first.
 *
 * PCI configuration, mechanism 1 (PCI 2.1, 3.2.2.3.2) and ECAM (PCI Express
 * 1.0, 7.2.2) reads come from the functions' pages in shared memory.  0xcf9 is
 * the PIIX3's reset control register (290550, 2.5).
 */
#include "vcpu.h"

uint8_t io_cf9;
static _Atomic bool code_stale;		/* the ROM ranges changed */
static uint64_t rom_sum;

static uint64_t
ones(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << 8 * size) - 1;
}

/* One access of that size, wherever it lies: memory others read and write. */
struct u16 { uint16_t v; } __attribute__((packed));
struct u32 { uint32_t v; } __attribute__((packed));
struct u64 { uint64_t v; } __attribute__((packed));

static uint64_t
load(const void *p, unsigned size)
{
	switch (size) {
	case 1:	return *(const volatile uint8_t *)p;
	case 2:	return ((const volatile struct u16 *)p)->v;
	case 4:	return ((const volatile struct u32 *)p)->v;
	default: return ((const volatile struct u64 *)p)->v;
	}
}

static void
store(void *p, unsigned size, uint64_t v)
{
	switch (size) {
	case 1:	*(volatile uint8_t *)p = (uint8_t)v; break;
	case 2:	((volatile struct u16 *)p)->v = (uint16_t)v; break;
	case 4:	((volatile struct u32 *)p)->v = (uint32_t)v; break;
	default: ((volatile struct u64 *)p)->v = v; break;
	}
}

/* ---------------------------------------------------------------- the map */

static const struct map_ent *
find(struct cpu *c, enum space space, uint64_t addr)
{
	struct vcpu *v = vcpu(c);
	uint32_t seq = atomic_load_explicit(&machine.map->seq,
	    memory_order_acquire);
	struct map_ent *e;
	unsigned i;

	if (seq != v->seq) {
		for (i = 0; i < IOC_N; i++) {
			v->io[i].start = v->mem[i].start = 1;
			v->io[i].last = v->mem[i].last = 0;
		}
		for (i = 0; i < 4; i++) {
			v->plain[i].start = 1;
			v->plain[i].last = 0;
		}
		v->seq = seq;
	}
	e = space == SPACE_IO ? &v->io[addr >> 2 & (IOC_N - 1)] :
	    &v->mem[(addr >> 12 ^ addr >> 4) & (IOC_N - 1)];
	if (e->start <= addr && addr <= e->last)
		return e;
	cpu_fpu_flush(c);
	map_find(machine.map, space, addr, e);
	return e;
}

/*
 * The published map changed: every vcpu drops its TLB at its next boundary.
 * Translations are keyed by physical address, so they are stale only where
 * another memory answers now, which for code means other ROM ranges.
 */
void
io_map_changed(struct cpu *c)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	const struct map *m = machine.map;
	uint64_t sum = 0;
	uint32_t i, n, seq = atomic_load(&m->seq);

	pthread_mutex_lock(&one);
	if (machine.map_seq == seq)
		goto out;
	machine.map_seq = seq;
	n = m->nent;
	for (i = 0; i < n && i < MAP_MAX; i++)
		if (m->ent[i].kind == RANGE_ROM)
			sum = (sum + m->ent[i].start * 31 + m->ent[i].last * 37 +
			    m->ent[i].off * 41 + m->ent[i].part) *
			    0x9e3779b97f4a7c15ull;
	if (sum != rom_sum) {
		rom_sum = sum;
		atomic_store(&code_stale, true);
	}
	for (i = 0; i < machine.ncpu; i++)
		cpu_request(machine.cpu[i], REQ_FLUSH);
out:
	pthread_mutex_unlock(&one);
}

void
io_boundary(struct cpu *c)
{
	if (machine.map_seq != machine.map->seq)
		io_map_changed(c);
	if (code_stale && atomic_exchange(&code_stale, false))
		code_flush(c);
}

uint8_t *
io_page(struct cpu *c, uint64_t gpa, bool *writable)
{
	struct vcpu *v = vcpu(c);
	uint64_t page = gpa & ~0xfffull;
	const struct map_ent *e;
	const struct chan_ref *r;
	uint64_t off;
	unsigned i;

	*writable = true;
	if (machine.map_seq != machine.map->seq)
		io_map_changed(c);
	if (v->seq == machine.map->seq)
		for (i = 0; i < 4; i++)
			if (v->plain[i].start <= page &&
			    page + 4095 <= v->plain[i].last)
				return ram_at(machine.ram, page, 4096);
	e = find(c, SPACE_MEM, page);
	if (e->start > page || e->last < page + 4095)
		return NULL;
	if (e->kind == RANGE_NONE || e->kind == RANGE_RAM) {
		v->plain[v->turn++ & 3] = *e;
		return ram_at(machine.ram, page, 4096);
	}
	if (e->kind != RANGE_ROM || e->part >= PART_MAX)
		return NULL;
	r = &machine.chan[e->part];
	off = e->off + (page - e->start);
	if (!r->state || off > r->state_len || r->state_len - off < 4096)
		return NULL;
	*writable = false;
	return r->state + off;
}

/* --------------------------------------------------------------- channels */

/* A round trip to another process follows. */
static void
waits(struct cpu *c)
{
	cpu_fpu_flush(c);
	cpu_away(c, CPU_WAITS);
}

static struct chan_ref *
chan_of(struct cpu *c, const struct map_ent *e)
{
	struct chan_ref *r;

	if (e->part >= PART_MAX)
		return NULL;
	r = &machine.chan[e->part];
	return r->chan && !atomic_load_explicit(&r->chan->dead,
	    memory_order_relaxed) ? r : NULL;
}

/* PROTOCOL.md "Channels": after a ring entry or a bell bit. */
static void
wake(struct chan_ref *r)
{
	if (atomic_load(&r->chan->sleeping) &&
	    atomic_exchange(&r->chan->sleeping, 0)) {
		atomic_fetch_add_explicit(&r->chan->n_kick, 1,
		    memory_order_relaxed);
		raw_kick(r->kick);
	}
}

/* Have the other vcpus' posted writes been made? */
static bool
others_drained(const struct cpu *c, const struct chan_ref *r)
{
	unsigned i;

	for (i = 0; i < machine.ncpu; i++)
		if (i != c->index && !ring_drained(&r->chan->cpu[i].ring))
			return false;
	return true;
}

static void
sync_write(struct cpu *c, struct chan_ref *r, unsigned range, uint64_t off,
    unsigned size, uint64_t val)
{
	waits(c);
	chan_write(r, c->index, range, off, size, val);
	cpu_back(c);
}

static void
post(struct cpu *c, struct chan_ref *r, unsigned range, uint64_t off,
    unsigned size, uint64_t val)
{
	struct ring *g = &r->chan->cpu[c->index].ring;
	uint32_t head = atomic_load_explicit(&g->head, memory_order_relaxed);
	struct ring_ent *e;

	/* what another vcpu posted may have to come first; a round trip comes
	 * behind everything */
	if (!others_drained(c, r)) {
		sync_write(c, r, range, off, size, val);
		return;
	}
	if (head - atomic_load_explicit(&g->tail, memory_order_acquire) >=
	    RING_N) {
		waits(c);
		chan_post(r, c->index, range, off, size, val);
		cpu_back(c);
		return;
	}
	e = &g->ent[head % RING_N];
	e->off = off;
	e->data = val;
	e->range = (uint16_t)range;
	e->size = (uint8_t)size;
	e->op = CHAN_WRITE;
	atomic_store_explicit(&g->head, head + 1, memory_order_release);
	atomic_fetch_add_explicit(&r->chan->n_post, 1, memory_order_relaxed);
	atomic_fetch_or(&r->chan->asked, 1ull << (c->index & 63));
	wake(r);
}

static void
unclaimed(struct cpu *c, enum space space, uint64_t addr, bool write)
{
	if (space == SPACE_IO && (addr == 0x80 || addr == 0xed))
		return;			/* delays */
	cpu_fpu_flush(c);
	if (log_on("unimp") || log_on("guest_errors"))
		log_once(space == SPACE_IO ? "port" : "memory", addr,
		    "%s of unclaimed %s 0x%llx", write ? "write" : "read",
		    space == SPACE_IO ? "port" : "address",
		    (unsigned long long)addr);
}

/* An access inside one range. */
static uint64_t
range_read(struct cpu *c, const struct map_ent *ent, uint64_t addr,
    unsigned size)
{
	const struct map_ent e = *ent;	/* find() may reuse its place */
	struct chan_ref *r;
	uint64_t off, v, ns, hz;
	void *p;

	if (e.kind == RANGE_NONE || e.kind == RANGE_RAM) {
		p = e.space == SPACE_MEM ? ram_at(machine.ram, addr, size) :
		    NULL;
		if (p)
			return load(p, size);
		unclaimed(c, e.space, addr, false);
		return ones(size);
	}
	c->n_part[e.part % PART_MAX]++;
	if (e.part == 0)
		return placed_read(c, &e, addr, size, &v) ? v & ones(size) :
		    ones(size);
	r = chan_of(c, &e);
	if (!r)
		return ones(size);
	switch (e.kind) {
	case RANGE_COUNTER:
		hz = e.off;
		ns = (uint64_t)guest_clock();
		v = ns / 1000000000 * hz + ns % 1000000000 * hz / 1000000000;
		if (e.bits < 64)
			v &= (1ull << e.bits) - 1;
		off = (addr - e.base) & 7;
		return v >> 8 * off & ones(size);
	case RANGE_SHADOW:
		if (!ring_drained(&r->chan->cpu[c->index].ring) ||
		    !others_drained(c, r))
			break;
		/* FALLTHROUGH */
	case RANGE_STATUS:
	case RANGE_ROM:
		off = e.off + (addr - e.start);
		if (!r->state || off > r->state_len ||
		    r->state_len - off < size)
			return ones(size);
		return load(r->state + off, size);
	}
	waits(c);
	v = chan_read(r, c->index, e.range, addr - e.base, size);
	cpu_back(c);
	return v & ones(size);
}

static void
range_write(struct cpu *c, const struct map_ent *ent, uint64_t addr,
    unsigned size, uint64_t val)
{
	const struct map_ent e = *ent;
	struct chan_ref *r;
	uint8_t *p;

	if (e.kind == RANGE_NONE || e.kind == RANGE_RAM) {
		p = e.space == SPACE_MEM ? ram_at(machine.ram, addr, size) :
		    NULL;
		if (!p) {
			unclaimed(c, e.space, addr, true);
			return;
		}
		store(p, size, val);
		code_wrote(c, (uint64_t)(p - machine.ram->base), size);
		return;
	}
	if (e.kind == RANGE_ROM)
		return;
	c->n_part[e.part % PART_MAX]++;
	if (e.part == 0) {
		placed_write(c, &e, addr, size, val);
		return;
	}
	r = chan_of(c, &e);
	if (!r)
		return;
	switch (e.kind) {
	case RANGE_DOORBELL:
		atomic_fetch_or(&r->chan->bell, 1ull << (val & 63));
		atomic_fetch_add_explicit(&r->chan->n_bell, 1,
		    memory_order_relaxed);
		wake(r);
		return;
	case RANGE_SYNC:
		sync_write(c, r, e.range, addr - e.base, size, val);
		if (machine.map_seq != machine.map->seq)
			io_map_changed(c);
		return;
	}
	post(c, r, e.range, addr - e.base, size, val);
}

/* ------------------------------------------------------ PCI configuration */

static uint64_t
config_read(unsigned devfn, unsigned reg, unsigned size)
{
	if (!machine.pci->owner[devfn])
		return ones(size);
	return load(&machine.pci->fn[devfn][reg], size);
}

static void
config_write(struct cpu *c, unsigned devfn, unsigned reg, unsigned size,
    uint32_t val)
{
	unsigned owner = machine.pci->owner[devfn];
	struct chan_ref *r;

	if (owner == 0 || owner > PART_MAX)
		return;
	r = &machine.chan[owner - 1];
	if (!r->chan)
		return;
	waits(c);
	chan_config(r, c->index, devfn, reg, size, val);
	cpu_back(c);
	irq_route();
	if (machine.map_seq != machine.map->seq)
		io_map_changed(c);
}

/* Ports 0xcf8-0xcff, inside the dword at 0xcf8 or at 0xcfc. */
static uint64_t
conf1_read(unsigned port, unsigned size)
{
	uint32_t a = machine.cf8;

	if (port < 0xcfc) {
		if (port == 0xcf8 && size == 4)
			return a;
		if (port == 0xcf9 && size == 1)
			return io_cf9;
		return ones(size);
	}
	if (!(a >> 31) || a >> 16 & 0xff)
		return ones(size);
	return config_read(a >> 8 & 0xff, (a & 0xfc) | (port & 3), size);
}

static void
conf1_write(struct cpu *c, unsigned port, unsigned size, uint32_t val)
{
	uint32_t a = machine.cf8;

	if (port < 0xcfc) {
		if (port == 0xcf8 && size == 4)
			machine.cf8 = val & 0x80fffffc;
		else if (port == 0xcf9 && size == 1) {
			bool reset = val & ~io_cf9 & 4;

			io_cf9 = val & 2;
			if (reset) {
				cpu_fpu_flush(c);
				part_event(&machine.part, "reset");
			}
		}
		return;
	}
	if (a >> 31 && !(a >> 16 & 0xff))
		config_write(c, a >> 8 & 0xff, (a & 0xfc) | (port & 3), size,
		    val);
}

static bool
in_ecam(uint64_t gpa)
{
	return machine.ecam && gpa - machine.ecam < ECAM_BYTES;
}

/* --------------------------------------------------------------- accesses */

uint64_t
io_read(struct cpu *c, uint64_t gpa, unsigned size)
{
	struct vcpu *v = vcpu(c);
	const struct map_ent *e;
	uint64_t val = 0, off = gpa & 0xfff;
	unsigned i;

	if (gpa - off == v->lapic_page) {
		irq_lock();
		val = lapic.read(&v->lapic, 0, off, size);
		irq_unlock();
		return val & ones(size);
	}
	if (in_ecam(gpa) && off + size <= 4096) {
		if (size < 8)
			return config_read((gpa - machine.ecam) >> 12 & 0xff,
			    (unsigned)off, size);
		return io_read(c, gpa, 4) | io_read(c, gpa + 4, 4) << 32;
	}
	e = find(c, SPACE_MEM, gpa);
	if (e->last - gpa >= size - 1)
		return range_read(c, e, gpa, size);
	for (i = 0; i < size; i++)
		val |= range_read(c, find(c, SPACE_MEM, gpa + i), gpa + i, 1)
		    << 8 * i;
	return val;
}

void
io_write(struct cpu *c, uint64_t gpa, unsigned size, uint64_t val)
{
	struct vcpu *v = vcpu(c);
	const struct map_ent *e;
	uint64_t off = gpa & 0xfff;
	unsigned i;

	val &= ones(size);
	if (gpa - off == v->lapic_page) {
		irq_lock();
		lapic.write(&v->lapic, 0, off, size, val);
		irq_unlock();
		return;
	}
	if (in_ecam(gpa) && off + size <= 4096) {
		if (size < 8) {
			config_write(c, (gpa - machine.ecam) >> 12 & 0xff,
			    (unsigned)off, size, (uint32_t)val);
			return;
		}
		io_write(c, gpa, 4, val);
		io_write(c, gpa + 4, 4, val >> 32);
		return;
	}
	e = find(c, SPACE_MEM, gpa);
	if (e->last - gpa >= size - 1) {
		range_write(c, e, gpa, size, val);
		return;
	}
	for (i = 0; i < size; i++)
		range_write(c, find(c, SPACE_MEM, gpa + i), gpa + i, 1,
		    val >> 8 * i & 0xff);
}

uint32_t
io_in(struct cpu *c, uint16_t port, unsigned size)
{
	const struct map_ent *e;
	uint32_t val = 0;
	unsigned i;

	if ((port & 0xfff8) == 0xcf8 && (port & 3) + size <= 4)
		return (uint32_t)conf1_read(port, size);
	e = find(c, SPACE_IO, port);
	if (e->last - port >= size - 1)
		return (uint32_t)range_read(c, e, port, size);
	for (i = 0; i < size; i++)
		val |= io_in(c, (uint16_t)(port + i), 1) << 8 * i;
	return val;
}

void
io_out(struct cpu *c, uint16_t port, unsigned size, uint32_t val)
{
	const struct map_ent *e;
	unsigned i;

	val &= (uint32_t)ones(size);
	if ((port & 0xfff8) == 0xcf8 && (port & 3) + size <= 4) {
		conf1_write(c, port, size, val);
		return;
	}
	e = find(c, SPACE_IO, port);
	if (e->last - port >= size - 1) {
		range_write(c, e, port, size, val);
		return;
	}
	for (i = 0; i < size; i++)
		io_out(c, (uint16_t)(port + i), 1, val >> 8 * i & 0xff);
}

unsigned
io_string(struct cpu *c, int write, uint16_t port, unsigned size, void *buf,
    unsigned count)
{
	const struct map_ent *e = find(c, SPACE_IO, port);
	struct map_ent ent = *e;
	struct chan_ref *r;
	unsigned i;

	if (count == 0)
		return 0;
	r = ent.part ? chan_of(c, &ent) : NULL;
	if (r && (uint64_t)port + size - 1 <= ent.last &&
	    (ent.kind == RANGE_SYNC || ent.kind == RANGE_POSTED ||
	    ent.kind == RANGE_DOORBELL)) {
		if (count > SLOT_BUF / size)
			count = SLOT_BUF / size;
		waits(c);
		i = chan_string(r, c->index, write, ent.range,
		    port - ent.base, size, buf, count);
		cpu_back(c);
		return i < 1 ? 1 : i > count ? count : i;
	}
	for (i = 0; i < count; i++) {
		uint8_t *p = (uint8_t *)buf + (size_t)i * size;

		if (write)
			io_out(c, port, size, (uint32_t)load(p, size));
		else
			store(p, size, io_in(c, port, size));
	}
	return count;
}
