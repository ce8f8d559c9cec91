/*
 * cpu.h - the virtual CPU process, the part every guest instruction set needs:
 * the run loop, physical memory and I/O, interrupts, the translation cache.
 * It knows no instruction set; cpu/x86/x86.h is the x86 side.
 *
 * Who calls whom:
 *   vcpu.c    main(): control lines, machine wiring, one thread per vcpu
 *   loop.c    cpu_run(): deliver interrupts, find or make a block, enter it
 *   block.c   the translation cache: lookup, chaining, invalidation
 *   codemem.c double-mapped code memory
 *   perfmap.c names of translated code for perf(1)
 *   tlb.c     fast-path TLB and slots: fill, flush
 *   io.c      physical accesses that are not plain RAM; ports
 *   irq.c     shared interrupt page -> PIC, I/O APIC, LAPIC -> vcpu; IPIs
 *   smp.c     several vcpus: locks and safe points
 *   timer.c   guest time, timers of the placed chips
 *   placed.c  the host (struct dev_host) of the chips linked into this process
 *   info.c    answers to `ask` (info registers, lapic, tlb, mem ...)
 *   stat.c    what the vcpus count (info jit, stat)
 *
 * Floating point: while `xlive` is set, the guest's x87/SSE/AVX registers are in
 * the host's.  All of cpu/ is compiled with -mgeneral-regs-only, so C code here
 * does not disturb them; before calling anything that may (libc string and
 * stdio functions, chips, Zydis) call cpu_fpu_flush().
 */
#ifndef CPU_H
#define CPU_H

#include "../bus/bus.h"

struct cpu;		/* x86/x86.h */

/* Everything the process shares between its vcpus. */
struct machine {
	struct part	part;		/* our side of the bus */
	struct ram	*ram;
	const struct map *map;
	struct irq_page	*irqs;
	struct dirty	*dirty;
	struct pci_space *pci;
	struct chan_ref	chan[PART_MAX];	/* by part number; chan NULL: none */
	unsigned	ncpu;
	struct cpu	*cpu[NVCPU_MAX];
	uint64_t	ecam;		/* base of the MCFG window, 0: none */
	uint32_t	cf8;
	const struct cpu_model *model;
	_Atomic uint64_t map_seq;	/* of the map the TLBs were filled from */
	size_t		tb_size;	/* code cache bytes */
	bool		check;		/* -accel check */
	bool		log_int, log_guest, log_asm;	/* -d items; log_on() may
					 * use vector registers */
};
extern struct machine machine;

/* Requests to a vcpu thread, or-ed into cpu->req; then cpu_kick(). */
enum {
	REQ_STOP = 1,		/* park at the next boundary, post `parked` */
	REQ_RESET = 2,
	REQ_NMI = 4,
	REQ_FLUSH = 8,		/* flush the TLB */
	REQ_INIT = 16, REQ_SIPI = 32,
	REQ_IRQ = 64,		/* look at the interrupt controllers */
	REQ_SMI = 128,
};

/* ---- loop.c */
/* Once, when machine.ram and machine.ncpu are known: code cache, stubs, signal
 * handlers. -1 errno. */
int	jit_start(size_t tb_size);
int	jit_cpu(struct cpu *);		/* once per vcpu, before it runs; -1 errno */
void	cpu_run(struct cpu *);		/* thread body: returns on REQ_STOP */
void	cpu_request(struct cpu *, unsigned req);	/* any thread */
void	cpu_kick(struct cpu *);
/* Leave translated code and C helpers; resume cpu_run's loop. */
_Noreturn void cpu_exit_loop(struct cpu *);

/* ---- io.c: guest-physical accesses outside RAM, size 1,2,4,8; any alignment
 * inside one page.  May sleep.  They flush the FPU themselves. */
uint64_t io_read(struct cpu *, uint64_t gpa, unsigned size);
void	io_write(struct cpu *, uint64_t gpa, unsigned size, uint64_t val);
uint32_t io_in(struct cpu *, uint16_t port, unsigned size);
void	io_out(struct cpu *, uint16_t port, unsigned size, uint32_t val);
/* rep ins/outs: count items in buf; returns items done (>= 1). */
unsigned io_string(struct cpu *, int write, uint16_t port, unsigned size,
	    void *buf, unsigned count);
/* Host address of the page that backs gpa for direct access, or NULL when it is
 * not plain memory.  *writable false for ROM.  Follows the published map. */
uint8_t	*io_page(struct cpu *, uint64_t gpa, bool *writable);

/* ---- irq.c */
int	irq_init(void);
/* Take everything new from the shared page into the controllers. vcpu 0. */
void	irq_collect(struct cpu *);
/* Have it looked at where this vcpu is, in a while (profile_every). */
void	irq_look(struct cpu *);
/* Is an interrupt deliverable to this vcpu (RFLAGS.IF not considered)? */
bool	irq_ready(struct cpu *);
int	irq_vector(struct cpu *);	/* acknowledge: vector, or -1 */
void	irq_line(unsigned gsi, int level);	/* from placed chips */
void	irq_msi_deliver(uint64_t addr, uint32_t data);
/* Sleep until an interrupt, request or kick (HLT). */
void	irq_halt(struct cpu *);
/* LAPIC of a vcpu (devctx of dev/lapic.c).  For info only: instructions reach
 * it through the calls below, which take the interrupt lock. */
struct devctx *irq_lapic(struct cpu *);
/* MSRs IA32_APIC_BASE, 0x800-0x83f, IA32_TSC_DEADLINE.  0, or -1: #GP. */
int	irq_rdmsr(struct cpu *, uint32_t msr, uint64_t *val);
int	irq_wrmsr(struct cpu *, uint32_t msr, uint64_t val);
void	irq_set_tpr(struct cpu *, uint8_t cr8);
uint8_t	irq_get_tpr(struct cpu *);		/* all of TPR; CR8 is >> 4 */

/* ---- placed.c */
int	placed_init(void);
bool	placed_read(struct cpu *, const struct map_ent *, uint64_t addr,
	    unsigned size, uint64_t *val);
bool	placed_write(struct cpu *, const struct map_ent *, uint64_t addr,
	    unsigned size, uint64_t val);
void	placed_reset(void);

/* ---- block.c: called when guest memory holding code changes */
void	code_wrote(struct cpu *, uint64_t ram_off, uint64_t len);
void	code_sync_dma(struct cpu *);	/* drop what dirty->touched names */

/* ---- smp.c */
/* Where a vcpu is, for the others: at work; waiting inside something that will
 * go on; parked, halted or between two instructions. */
enum where { CPU_OUT, CPU_IN, CPU_WAITS };
/* Around whatever may take long.  Afterwards nothing learnt from the TLB or the
 * translation cache before is still true. */
void	cpu_away(struct cpu *, enum where);
void	cpu_back(struct cpu *);
/* PAUSE: who is waited for may not have a host CPU. */
void	cpu_relax(struct cpu *);
void	cpu_safe_point(struct cpu *);	/* at the top of the run loop */
void	code_flush(struct cpu *);	/* there too: all translated code */

/* ---- tlb.c */
void	tlb_flush_all(struct cpu *);			/* incl. global */
void	tlb_flush_nonglobal(struct cpu *);		/* CR3 write */
void	tlb_flush_page(struct cpu *, uint64_t linear);	/* INVLPG */

/* ---- guest time */
uint64_t cpu_tsc(struct cpu *);

/* Put the guest's FPU registers into cpu->xsave and give the host its own. */
void	cpu_fpu_flush(struct cpu *);
void	cpu_fpu_load(struct cpu *);

/* ---- info.c */
int	info_ask(void *arg, char **argv, FILE *out);

/* ---- stat.c: while the vcpus are parked */
void	stat_vcpus(FILE *);		/* a line each: key=value */
void	stat_jit(FILE *);		/* the translation cache and totals */

#endif
