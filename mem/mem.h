/*
 * mem.h - guest memory as shared memory: the RAM arena, the published map of
 * the guest's address spaces, posted-write rings, and the boot loaders.
 *
 * Everything here is plain shared memory and functions on it; no sockets, no
 * policy.  bus/PROTOCOL.md says who may write which page and when.
 */
#ifndef MEM_H
#define MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdatomic.h>
#include <sys/types.h>

/* ------------------------------------------------------------------ RAM */

#define PAGE_SIZE_4K	4096u
#define RAM_HOLE	0xc0000000ull	/* RAM below 4 GiB ends here at most */
#define RAM_HIGH	0x100000000ull	/* the rest of RAM starts here */
/* PCI Express configuration window, bus 0 only: served by the vcpu (cpu/io.c),
 * told by the MCFG table, reserved in e820. */
#define ECAM_BASE	0xe0000000ull
#define ECAM_BYTES	0x100000ull

/*
 * Guest RAM: one memfd, mapped once.  File offset 0 is guest-physical 0; RAM
 * beyond RAM_HOLE bytes appears in the guest at RAM_HIGH but follows the low
 * part without a gap in the file and in `base`.
 */
struct ram {
	int		fd;
	uint8_t		*base;
	uint64_t	size;		/* bytes in all */
	uint64_t	low;		/* bytes below the hole */
};

/* Create RAM of `size` bytes (a multiple of 4 KiB) as a sealed memfd called
 * `name`.  0, or -1 with errno (ENOMEM: no room). */
int	ram_create(struct ram *, const char *name, uint64_t size);
/* Map RAM received as `fd` (kept open, owned by the struct from then on). */
int	ram_attach(struct ram *, int fd, uint64_t size);
void	ram_detach(struct ram *);

/* Host address of [gpa, gpa+len), or NULL if it is not entirely RAM (or wraps).
 * Ranges that overlay RAM (ROM, VGA) are not considered: that is the map's. */
static inline void *
ram_at(const struct ram *r, uint64_t gpa, uint64_t len)
{
	if (gpa < r->low)
		return len <= r->low - gpa ? r->base + gpa : NULL;
	gpa -= RAM_HIGH;		/* wraps to huge inside the hole */
	return gpa < r->size - r->low && len <= r->size - r->low - gpa ?
	    r->base + r->low + gpa : NULL;
}

/* ------------------------------------------------------------------ map */

enum space { SPACE_MEM, SPACE_IO };

/*
 * What an access to a range costs; see the table in PROTOCOL.md, "Ranges".
 *   kind       read                          write
 *   ram        shared memory                 shared memory
 *   rom        shared memory                 ignored
 *   shadow     shared memory once drained    posted
 *   status     shared memory, never waits    posted
 *   counter    computed from the clock       posted
 *   posted     round trip                    ring entry, no wait
 *   doorbell   round trip                    bit set in chan.bell, kick if asleep
 *   sync       round trip                    round trip
 * `status` is a shadow whose value does not depend on writes still queued
 * (UART LSR); `shadow` is read by a round trip while writes are queued.
 */
enum range_kind {
	RANGE_NONE, RANGE_RAM, RANGE_ROM, RANGE_SHADOW, RANGE_STATUS,
	RANGE_COUNTER, RANGE_POSTED, RANGE_DOORBELL, RANGE_SYNC, RANGE_NKIND
};
extern const char *const range_kind_name[RANGE_NKIND];

struct map_ent {
	uint64_t	start, last;	/* inclusive, in the space's addresses */
	uint64_t	base;		/* where the owner's claim starts: what an
				 * access's offset counts from (start > base
				 * when a better range hides the beginning) */
	uint64_t	off;		/* rom, shadow, status: offset of `start`
					 * in the part's state memfd; counter:
					 * frequency in Hz */
	uint16_t	part;		/* owner's part number; MAP_RAM: guest
				 * RAM itself, `off` in the RAM file; it
				 * loses against every part's range */
	uint16_t	range;		/* owner's range number */
	uint8_t		space;		/* enum space */
	uint8_t		kind;		/* enum range_kind */
	uint8_t		bits;		/* counter: width (24, 32, 64) */
	uint8_t		prio;		/* higher wins where ranges overlap */
};

#define MAP_MAX	1000
#define MAP_RAM	0xffffu

/* How the processors hang together: sockets of cores of threads. */
struct topology {
	uint32_t	cores, threads;		/* of a socket, of a core; not 0 */
};

/* Bits that number n > 0 things: the width of a field of an APIC ID. */
static inline unsigned
topo_bits(unsigned n)
{
	unsigned b = 0;

	while (1u << b < n)
		b++;
	return b;
}

/* APIC ID of processor i: thread, core and socket, each in bits of its own (SDM
 * 3A 9.9.1). */
static inline uint32_t
topo_apic_id(const struct topology *t, unsigned i)
{
	unsigned core = i / t->threads, socket = core / t->cores;

	return i % t->threads | (core % t->cores | socket <<
	    topo_bits(t->cores)) << topo_bits(t->threads);
}

/*
 * The machine page: written by the broker only, mapped read-only by everyone.
 * The ranges are sorted by (space, start) and do not overlap (the broker has
 * resolved priorities).  Readers use the seqlock: `seq` odd while it changes.
 */
struct map {
	_Atomic uint32_t seq;
	uint32_t	nent;
	_Atomic uint32_t running;	/* 1 while the guest's clock runs */
	uint32_t	nvcpu;
	_Atomic int64_t	clock_off;	/* guest ns = CLOCK_MONOTONIC + clock_off
					 * while running, = clock_off if not */
	_Atomic int64_t	tsc_off;	/* guest TSC = host TSC + tsc_off */
	uint64_t	tsc_khz;	/* measured once by the broker */
	uint64_t	ram_size;
	struct topology	topo;
	uint64_t	pad[7];
	struct map_ent	ent[MAP_MAX];
};
#define MAP_BYTES ((sizeof(struct map) + 4095) & ~4095ul)

/* Find the range holding `addr`; copies it to *e.  false: unclaimed (then
 * *e spans the gap, kind RANGE_NONE). Lock-free, any thread. */
bool	map_find(const struct map *, enum space, uint64_t addr,
	    struct map_ent *e);
/* Broker side: replace / remove the ranges of (part, range); -1 ENOSPC or
 * EINVAL.  `raw` is the broker's private list; the page is rebuilt from it. */
struct map_list;
struct map_list *map_list_new(struct map *page);
int	map_list_set(struct map_list *, const struct map_ent *);
void	map_list_clear(struct map_list *, unsigned part, int range /* -1 all */);

/* Guest clock in nanoseconds; stands still while the VM is stopped. */
int64_t	map_clock(const struct map *);

/* ----------------------------------------------------------------- rings */

/* A posted write.  `op` is a CHAN_* code (bus.h). */
struct ring_ent {
	uint64_t	off;		/* byte offset in the range */
	uint64_t	data;
	uint16_t	range;
	uint8_t		size;		/* 1, 2, 4, 8 */
	uint8_t		op;
	uint32_t	pad;
};
_Static_assert(sizeof(struct ring_ent) == 24, "ring_ent");

#define RING_N	256

/* Single producer (one vcpu), single consumer (the part).  The consumer
 * advances `tail` only after it has acted, so head == tail means drained. */
struct ring {
	_Atomic uint32_t head __attribute__((aligned(64)));
	_Atomic uint32_t tail __attribute__((aligned(64)));
	struct ring_ent	ent[RING_N] __attribute__((aligned(64)));
};

static inline bool
ring_drained(struct ring *r)
{
	return atomic_load_explicit(&r->head, memory_order_acquire) ==
	    atomic_load_explicit(&r->tail, memory_order_acquire);
}
/* false if full. */
bool	ring_put(struct ring *, const struct ring_ent *);
/* Copy out the oldest entry without consuming; then ring_pop.  A hostile
 * producer can put any head: the functions bound it by RING_N. */
bool	ring_peek(struct ring *, struct ring_ent *);
void	ring_pop(struct ring *);

/* ----------------------------------------------------------- dirty (code) map
 * Device DMA and translated code: `code` has a bit per RAM page that holds
 * translated guest code (set and cleared by the vcpu process); a device that
 * writes guest RAM calls dirty_touch() before it publishes the completion, and
 * the vcpu drops the stale translations (`touched`, `any`) at its next poll and
 * at every instruction-TLB refill.  Pages are numbered by file offset in RAM.
 */
struct dirty {
	_Atomic uint32_t any;		/* some bit of touched is set */
	uint32_t	pad;
	uint64_t	npage;
	_Atomic uint64_t bits[];	/* code: npage/64 words; then touched */
};
#define DIRTY_BYTES(npage) \
	((sizeof(struct dirty) + 2 * (((npage) + 63) / 64) * 8 + 4095) & ~4095ul)
static inline bool
dirty_code(const struct dirty *d, uint64_t page)
{
	return d->bits[page / 64] >> (page % 64) & 1;
}
/* A device wrote [p, p+len), a range of r->base.  True if some page holds code:
 * the caller then makes vcpu 0 poll (irq_kick). */
bool	dirty_touch(struct dirty *, const struct ram *, const void *p,
	    uint64_t len);

/* ------------------------------------------------------------ boot loaders */

/*
 * Loaders put a kernel and its data into RAM and say how the first vcpu
 * starts.  They trust nothing in the files.  On error they return -1 and
 * write one line "OBJECT: reason" into `why`.
 */
enum boot_mode {
	BOOT_RESET,		/* real-mode reset vector f000:fff0 */
	BOOT_REAL16,		/* bzImage 16-bit entry */
	BOOT_PROT32,		/* 32-bit flat protected mode (bzImage 32-bit,
				 * PVH, multiboot) */
	BOOT_LONG64,		/* bzImage 64-bit entry, identity page tables */
};

struct boot {
	/* in */
	const char	*kernel, *initrd, *append;	/* NULL: absent */
	const char	*entry;	/* NULL: best; "16", "32", "64": forced */
	uint64_t	rsdp;	/* where the ACPI RSDP is, 0: none */
	/* out: register state of vcpu 0; also written as text by boot_print */
	enum boot_mode	mode;
	uint64_t	rip, rsp, rsi, rbx, rax, cr3;
	uint16_t	cs, ds;		/* REAL16: segment values */
	uint64_t	gdt;		/* PROT32, LONG64: GDT base (8 entries:
					 * null, null, code@0x10, data@0x18) */
	char		why[256];
};

/* Try bzImage, ELF (PVH note), multiboot 1 in that order by magic. */
int	boot_load(struct ram *, struct boot *);
int	boot_linux(struct ram *, struct boot *);	/* linux.c */
int	boot_elf(struct ram *, struct boot *);		/* elf.c, PVH */
int	boot_multiboot(struct ram *, struct boot *);	/* multiboot.c */

/* One e820/PVH memory map for every protocol: fills at most `max` entries. */
struct e820 { uint64_t addr, size; uint32_t type; };
int	boot_e820(const struct ram *, struct e820 *, int max);

/*
 * ACPI and SMBIOS (acpi.c, smbios.c).  Tables are written below 1 MiB
 * (RSDP, SMBIOS entry point in 0xf0000-0xfffff) and at the top of low RAM
 * (reserved in boot_e820: the last ACPI_BYTES of RAM below RAM_HOLE).
 * `dsdt` is the AML iasl made from share/dsdt.asl.  Returns the RSDP's
 * address, or 0 with errno.
 */
#define ACPI_BYTES	0x20000u
struct acpi_opts {
	unsigned	ncpu;
	struct topology	topo;
	const void	*dsdt;
	size_t		dsdt_len;
	bool		hpet;
	const char	*uuid, *name;	/* SMBIOS type 1; may be NULL */
};
uint64_t acpi_write(struct ram *, const struct acpi_opts *);
int	smbios_write(struct ram *, const struct acpi_opts *);

#endif
