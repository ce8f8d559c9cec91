/*
 * x86.h - the x86 guest: architectural state, decoded instructions, memory
 * translation, exceptions and the instructions that are executed in C.
 *
 * Rules every C helper keeps:
 *  - on entry cpu->gpr, eflags (all bits) and rip (of this instruction) are
 *    true; on success it leaves rip at the next instruction to run;
 *  - it changes no guest-visible state before the last thing that can fault
 *    (except what the manual says a partial `rep` leaves);
 *  - a fault is x86_raise(), which does not return;
 *  - whatever changes CR0/CR4/EFER/CS/SS/CPL/TF/AC/... ends with x86_mode().
 *
 * Intel SDM volume and section numbers in comments are of the 2023 edition.
 */
#ifndef X86_H
#define X86_H

#include "../cpu.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14,
	R15 };
enum { ES, CS, SS, DS, FS, GS, LDTR, TR, NSEG };

/* Segment register with its hidden part. attr: descriptor bits 40-55 >> 40
 * (type 0-3, S 4, DPL 5-6, P 7, then at 12-15: AVL L D/B G); bit 16: unusable. */
struct seg {
	uint16_t	sel;
	uint32_t	attr;
	uint32_t	limit;		/* bytes, inclusive, scaled */
	uint64_t	base;
};
#define SEG_TYPE	0x0f
#define SEG_S		0x10
#define SEG_DPL(a)	((a) >> 5 & 3)
#define SEG_P		0x80
#define SEG_L		0x2000
#define SEG_DB		0x4000
#define SEG_G		0x8000
#define SEG_UNUSABLE	0x10000

enum {
	FL_CF = 1, FL_PF = 4, FL_AF = 0x10, FL_ZF = 0x40, FL_SF = 0x80,
	FL_TF = 0x100, FL_IF = 0x200, FL_DF = 0x400, FL_OF = 0x800,
	FL_IOPL = 0x3000, FL_NT = 0x4000, FL_RF = 0x10000, FL_VM = 0x20000,
	FL_AC = 0x40000, FL_VIF = 0x80000, FL_VIP = 0x100000, FL_ID = 0x200000,
	FL_STATUS = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF,
};
enum {
	CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_ET = 0x10,
	CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000, CR0_NW = 0x20000000,
	CR0_CD = 0x40000000,
};
#define CR0_PG 0x80000000ull
enum {
	CR4_VME = 1, CR4_PVI = 2, CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10,
	CR4_PAE = 0x20, CR4_MCE = 0x40, CR4_PGE = 0x80, CR4_PCE = 0x100,
	CR4_OSFXSR = 0x200, CR4_OSXMMEXCPT = 0x400, CR4_UMIP = 0x800,
	CR4_LA57 = 0x1000, CR4_FSGSBASE = 0x10000, CR4_PCIDE = 0x20000,
	CR4_OSXSAVE = 0x40000, CR4_SMEP = 0x100000, CR4_SMAP = 0x200000,
	CR4_PKE = 0x400000,
};
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };

enum { VEC_DE, VEC_DB, VEC_NMI, VEC_BP, VEC_OF, VEC_BR, VEC_UD, VEC_NM, VEC_DF,
	VEC_TS = 10, VEC_NP, VEC_SS, VEC_GP, VEC_PF, VEC_MF = 16, VEC_AC,
	VEC_MC, VEC_XM };

/* ----------------------------------------------------------- the mode word
 * All the state a translation depends on besides the bytes.  A block is valid
 * only for the mode it was made in.
 */
enum {
	M_16 = 0, M_32 = 1, M_64 = 2, M_SIZE = 3,	/* code size */
	M_SS32 = 1 << 2,	/* stack pointer is ESP (RSP in M_64) */
	M_CPL = 3 << 3,
	M_VM86 = 1 << 5,
	M_PE = 1 << 6,
	/* segment is flat: base 0, limit 4 GiB, present, and for DS/ES/SS
	 * readable and writable.  In M_64 set for ES CS SS DS. */
	M_FLAT_ES = 1 << 7, M_FLAT_CS = 1 << 8, M_FLAT_SS = 1 << 9,
	M_FLAT_DS = 1 << 10,
	M_TF = 1 << 11,		/* single step: one instruction, then #DB */
	M_FPU = 1 << 12,	/* x87/MMX usable: !EM && !TS */
	M_SSE = 1 << 13,	/* OSFXSR && !EM && !TS */
	M_AVX = 1 << 14,	/* OSXSAVE && XCR0.AVX && M_SSE */
	M_MMU = 3 << 15,	/* TLB set: 0 supervisor, 1 supervisor with SMAP
				 * in force, 2 user */
	M_WAIT = 1 << 17,	/* MP && TS: fwait raises #NM */
	M_BRK = 1 << 18,	/* DR7 has an enabled breakpoint: slow path */
	M_SHADOW = 1 << 19,	/* one instruction after sti / mov ss */
	/* outside M_64: FS, GS have a base, but are otherwise as flat data */
	M_BIG_FS = 1 << 20, M_BIG_GS = 1 << 21,
	/* CR4 bits emitted code depends on; TSD at CPL 3 only, SMAP at 0 */
	M_SMAP = 1 << 22, M_TSD = 1 << 23, M_FSGS = 1 << 24,
};
#define MODE_CPL(m)	((m) >> 3 & 3)
#define MODE_MMU(m)	((m) >> 15 & 3)
#define MMU_N		3

/* ------------------------------------------------ fast TLB, gs-relative
 * Emitted code sees the vcpu through gs.  An entry maps one linear page for
 * one MMU set and one kind of access.
 */
struct tlbe {
	uint64_t	tag;		/* linear page address */
	uint64_t	host;		/* where that is */
};
struct site_slot {
	uint64_t	tag;
	uint64_t	addend;		/* host address - linear address */
};
#define TLB_BITS	12
#define TLB_N		(1u << TLB_BITS)
#define SLOT_N		1024
#define JC_N		16384	/* entries, */
#define JC_WAYS		4	/* as many in a line */
#define JC_PAGES	1024
#define ITLB_N		256
#define FLUSH_LOG	1024
#define GROUPS_N	16	/* groups of accesses in a block, and 1 */
#define LOOKS		8	/* that wait to be seen to */
#define MNEM_N		2048		/* at least as many as there are */
enum { ACC_READ, ACC_WRITE, ACC_EXEC };

/* Jump cache, one per MMU set: rip -> translated code, where CS is flat.  The
 * ways of a line are in order of their coming, the latest first. */
struct jcache {
	struct { uint64_t tag, host; } e[JC_N];
	uint64_t	pages[JC_PAGES / 64];	/* linear pages that may be in it */
};

/* Instruction TLB entry: a linear page, what it is, and where. */
struct itlbe {
	uint64_t	tag;		/* 1: empty */
	uint64_t	page;		/* guest-physical */
	const uint8_t	*host;		/* NULL: not memory */
	bool		global;
};

/* Entries of non-global pages filled since the last flush: indices into a
 * table; n > FLUSH_LOG: too many. */
struct flush_log { uint32_t n; uint16_t i[FLUSH_LOG + 1]; };
/* The same for slots of one MMU set; n > 2 * SLOT_N: too many. */
struct slot_log { uint32_t n; uint16_t i[2 * SLOT_N + 1]; };

struct xsave_area { uint8_t b[4096]; } __attribute__((aligned(64)));

struct cpu {
	/* hot, at small gs offsets; order known only through offsetof */
	uint64_t	gpr[16];
	uint64_t	rip;		/* true in C code at boundaries */
	uint64_t	ripbase;	/* rip of the current block's page start */
	uint64_t	eflags;		/* in translated code: all but FL_STATUS */
	uint32_t	mode;
	uint32_t	req;		/* REQ_*, atomic */
	_Atomic uint32_t where;		/* smp.c: enum where */
	_Atomic uint32_t *poll;		/* irq_page.cpu[index].poll */
	uint64_t	save[9];	/* emitted code's spill places */
	uint64_t	found[GROUPS_N];	/* by groups without slot: where they are */
	uint16_t	lazy;		/* status flags put away: x86/flags.c */
	void		*host_rsp;	/* C stack of cpu_run at entry */
	uint64_t	*calls;		/* calls.c: where the stack of calls begins */
	uint64_t	*calls_end;	/* and the page that stops it */
	uint32_t	calls_stale;	/* a mapping may have changed since */
	struct block	*last;		/* block exited from, for chaining */
	uint64_t	exit_site;

	struct seg	seg[NSEG];
	struct { uint64_t base; uint16_t limit; } gdt, idt;
	uint64_t	cr0, cr2, cr3, cr4, dr[8], xcr0;
	uint64_t	efer, star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t	sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t	pat, tsc_aux, tsc_adjust, misc_enable, spec_ctrl, xss,
			mtrr_def, mtrr_fix[11], mtrr_var[16], mcg_status;
	int64_t		tsc_off;	/* this vcpu's, on top of the machine's */
	uint8_t		cpl;
	uint8_t		halted;
	uint8_t		shadow;		/* interrupts held off for 1 insn */
	uint8_t		nmi_blocked, nmi_pending;
	uint8_t		wait_sipi;	/* AP waiting for SIPI */
	uint8_t		a20;		/* 1: enabled */
	uint8_t		sipi_vector;
	uint8_t		xlive;		/* guest FPU state is in host registers */
	_Atomic bool	irq_ready;	/* an interrupt could be taken */
	uint64_t	split;		/* rip of an access that is on two pages */
	uint8_t		pauses;		/* PAUSEs executed, modulo 256 */
	uint8_t		sample;		/* slot refills, modulo 256 */
	uint8_t		high_local;	/* MMU sets with an upper-half page in the TLB
					 * that is not global: a bit each */
	/* exception being delivered, for double faults: -1 none */
	int		exc_vector;
	int		exc_pending;	/* raised, not delivered: -1 none */
	uint32_t	exc_err;
	uint64_t	int_rip;	/* of the int n being delivered, ~0 */
	int		exc_host;	/* from a host fault in emitted code */
	struct xsave_area xsave;	/* standard format, when !xlive */

	unsigned	index;		/* 0 .. ncpu-1 */
	unsigned	apic_id;
	int		kick;		/* eventfd */
	void		*irq;		/* irq.c private */
	void		*jit;		/* block.c private */
	struct machine	*m;
	struct cpu	*self;		/* for emitted code */
	/* profile.c: where it was seen lately; looks in all; ns between two */
	struct look {
		unsigned	n;
		const void	*pc[LOOKS];
		uint64_t	all;
		bool		found;		/* since the last one was asked for */
		int64_t		every;
	} look;
	uint64_t	n_lost;		/* TLB entries taken by other vcpus */
	uint64_t	n_exit, n_fill, n_fault, n_irq, n_io, n_halt, n_translate,
			n_helper, n_find;	/* statistics */
	uint64_t	n_miss;		/* not in the TLB, or not plain memory */
	uint64_t	n_refill;	/* slots filled again, without `sample` */
	uint64_t	n_by_slot, n_by_tlb;	/* accesses, if they are counted */
	/* operands that have no single address; aligned as they are */
	uint64_t	bounce[512] __attribute__((aligned(64)));

	/* constants for emitted code */
	uint64_t	k_hi52, k_not_if, k_status, k_pushf;
	const _Atomic int64_t *k_tsc;	/* the machine's TSC offset */
	void		*jb[5];		/* cpu_exit_loop's landing place */
	uint32_t	jc_mode[MMU_N];	/* mode the jump cache set is valid for */
	/* tlb[m] (reads and writes have one index), jc[m], itlb; slot[m] */
	struct flush_log tlb_log[MMU_N], jc_log[MMU_N], itlb_log;
	struct slot_log	slot_log[MMU_N];
	/* bit per 1 GiB (mod 1024) in which a large page was entered: INVLPG
	 * of any address in one drops all of it */
	uint64_t	large[16];
	struct itlbe	itlb[2][ITLB_N];
	/* executed in C, by mnemonic; accesses, by part that answers */
	uint32_t	n_mnem[MNEM_N];
	uint64_t	n_part[PART_MAX];

	struct tlbe	tlb[MMU_N][2][TLB_N] __attribute__((aligned(4096)));
	struct site_slot slot[MMU_N][2][SLOT_N];
	struct jcache	jc[MMU_N];
};

/* ---------------------------------------------------- decoded instructions
 * Compact form of what Zydis says; made once per instruction by x86_decode.
 */
enum { OP_NONE, OP_REG, OP_MEM, OP_IMM, OP_SREG, OP_CR, OP_DR, OP_XMM, OP_MMX,
	OP_ST, OP_PTR /* far immediate: imm = offset, disp = selector */ };
struct operand {
	uint8_t		type, size;	/* size in bytes (10, 16, 32 for FP) */
	uint8_t		reg;		/* number; OP_REG size 1: 16-19 are
					 * ah ch dh bh */
	uint8_t		base, index, scale;	/* 0xff: none; base 16: rip */
	uint8_t		seg;		/* ES.. after overrides and defaults */
	uint8_t		act;		/* 1 read, 2 written */
	uint8_t		enc;		/* ZydisOperandEncoding */
	int64_t		disp;		/* also imm, sign-extended */
};
struct insn {
	uint16_t	mnem;		/* ZydisMnemonic */
	uint8_t		len;
	uint8_t		opsize, addrsize;	/* bytes */
	uint8_t		rep;		/* 0, 0xf3, 0xf2 */
	uint8_t		lock;
	uint8_t		nop;		/* explicit operands */
	uint8_t		raw[15];
	uint8_t		enc;		/* ZydisInstructionEncoding */
	uint8_t		isa;		/* ZydisISAExt */
	uint16_t	opcode;		/* opcode byte | map << 8 */
	uint16_t	fl_read, fl_write;	/* status flags (FL_*) tested;
					 * set, cleared or left undefined */
	uint16_t	fl_undef;	/* part of fl_write */
	uint16_t	wr;		/* general registers changed: a bit each */
	struct operand	op[4];
};
/* Decode at `p` (n bytes available, at most 15).  Length; 0: #UD; -1: needs
 * more bytes than n (and n < 15). */
int	x86_decode(uint32_t mode, const uint8_t *p, unsigned n, struct insn *);
/* Fetch the instruction at c->rip (both pages if it crosses); raises. */
void	x86_fetch(struct cpu *, struct insn *);

/* ------------------------------------------------------------- exceptions */
_Noreturn void x86_raise(struct cpu *, int vector, uint32_t err);	/* fault */
_Noreturn void x86_gp(struct cpu *, uint32_t err);
_Noreturn void x86_ud(struct cpu *);
/* #PF: sets CR2. */
_Noreturn void x86_pf(struct cpu *, uint64_t linear, uint32_t err);

enum { INT_EXTERNAL, INT_NMI, INT_SOFT /* int n */, INT_SOFT_EXC /* int3, into */,
	INT_EXCEPTION, INT_ICEBP };
/* Deliver through IDT / IVT; rip is the return address to push.  Handles
 * double faults; triple fault shuts down (event "reset"). Returns normally. */
void	x86_interrupt(struct cpu *, int vector, int kind, uint32_t err);

/* ----------------------------------------------------------------- memory */
/* Page walk (SDM 3A ch. 4).  access ACC_*; mmu: MMU set.  Sets A and D bits.
 * 0 and fills *w, or -1 and w->err is the #PF error code. */
struct walk {
	uint64_t	gpa;		/* of the exact address */
	uint32_t	err;
	bool		write;		/* page may be written (D is set) */
	bool		global, user, nx;
	uint64_t	page;		/* page size in bytes */
};
int	x86_walk(struct cpu *, uint64_t linear, int access, unsigned mmu,
	    struct walk *);
/* tlb.c: make the page known to emitted code, if it may be. */
void	tlb_fill(struct cpu *, uint64_t linear, int access, unsigned mmu,
	    const struct walk *);
/* Linear -> physical for debuggers: no A/D updates, no checks. ~0: unmapped */
uint64_t x86_debug_phys(struct cpu *, uint64_t linear);

/* Linear accesses with the rights of MMU set `mmu`; any alignment, may cross a
 * page (both pages checked before anything is written); raise #PF. */
uint64_t x86_ld(struct cpu *, uint64_t linear, unsigned size, unsigned mmu);
void	x86_st(struct cpu *, uint64_t linear, unsigned size, uint64_t v,
	    unsigned mmu);
void	x86_ld_bytes(struct cpu *, uint64_t linear, void *, unsigned n,
	    unsigned mmu);
void	x86_st_bytes(struct cpu *, uint64_t linear, const void *, unsigned n,
	    unsigned mmu);
/* Check that [linear, +n) can be accessed, raising as the access would. */
void	x86_probe(struct cpu *, uint64_t linear, unsigned n, int access,
	    unsigned mmu);
/* Host pointer to a linear address if its page is plain RAM with the right and
 * (for writes) holds no code; NULL otherwise.  Valid to the page's end. */
void	*x86_host(struct cpu *, uint64_t linear, int access, unsigned mmu);

/* Segmented: offset -> linear with limit, type and canonical checks (#GP/#SS). */
uint64_t x86_linear(struct cpu *, unsigned seg, uint64_t off, unsigned size,
	    int access);
uint64_t x86_ea(struct cpu *, const struct insn *, const struct operand *);
uint64_t x86_get(struct cpu *, const struct insn *, unsigned op);
void	x86_put(struct cpu *, const struct insn *, unsigned op, uint64_t v);

bool	x86_allowed(struct cpu *, const struct insn *);	/* by CPUID */

void	x86_deliver_pending(struct cpu *);
/* debug.c: one instruction while mode has M_TF or M_BRK; raises #DB. */
void	x86_debug_step(struct cpu *);

void	x86_sipi(struct cpu *, unsigned vector);

/* -------------------------------------------------------- semantics in C */
/* Execute a special instruction (everything the relocator does not copy).
 * True if it was one; false: unknown here (caller raises #UD). */
bool	x86_exec(struct cpu *, const struct insn *);
void	x86_mode(struct cpu *);		/* recompute c->mode */
void	x86_set_cr0(struct cpu *, uint64_t);
void	x86_set_cr3(struct cpu *, uint64_t);
void	x86_set_cr4(struct cpu *, uint64_t);
void	x86_load_seg(struct cpu *, unsigned seg, uint16_t sel);	/* mov/pop */
void	x86_syscall(struct cpu *, uint64_t next_rip);
void	x86_sysret(struct cpu *, unsigned opsize);
void	x86_iret(struct cpu *, unsigned opsize);
int	x86_rdmsr(struct cpu *, uint32_t msr, uint64_t *);	/* -1: #GP */
int	x86_wrmsr(struct cpu *, uint32_t msr, uint64_t);
void	x86_cpuid(struct cpu *, uint32_t leaf, uint32_t sub, uint32_t out[4]);
void	x86_reset(struct cpu *);	/* power-on / RESET# */
void	x86_init_ap(struct cpu *);	/* INIT */
void	x86_boot(struct cpu *, const struct boot *);

/* Models: `--cpu NAME[,+feat][,-feat][,feat=on|off]` */
struct cpu_model {
	const char	*name, *desc;
	uint32_t	leaf[32][5];	/* leaf, eax.. after masking by the host */
};
/* NULL with one line in why */
const struct cpu_model *x86_model(const char *spec, char *why, size_t n);
void	x86_model_help(FILE *);

#endif
