/*
 * jit.h - what the files of the x86 translator share.
 *
 * Guest registers live in host registers of the same number, except:
 *	rsp		in host r11
 *	r9, r10, r11	in cpu->gpr[], loaded where named
 * Host r9 and r10 are scratch (S1, S2), rsp is the C stack, gs the vcpu, and
 * the host's status flags are the guest's.  DF is always clear.
 *
 *	lift.c		one block: decode, liveness, emit
 *	copy.c		relocate an instruction
 *	site.c		a memory access: check, miss path
 *	group.c		one check for several accesses
 *	branch.c	jumps, calls, returns, exits
 *	stack.c		push and pop
 *	inline.c	what kernels do all the time
 *	flags.c		where the status flags are
 *	calls.c		the stack they return by
 *	stub.c		entering and leaving, misses, helper calls
 *	profile.c	what is remembered of code from one time to the next
 *	step.c		one instruction at a time
 *	switch.c	what can be switched off
 */
#ifndef X86_JIT_H
#define X86_JIT_H

#include <Zydis/Zydis.h>

#include "../block.h"

/*
 * Optimisations that can be switched off, to find the one a fault is in: options
 * of the vcpu, -accel translate,KEY=off.  Field, key, and what is on; off:
 *	slots		every site looks into the TLB, and there are no runs
 *	tiers		all blocks are made as those that run often: with slots
 *	regions		a block ends at its first jump
 *	groups		every access is checked by itself
 *	chain		a direct jump leaves to the run loop
 *	calls		returns look into the jump cache, as other jumps
 *	jcache		the jump cache stays empty: every other jump asks C
 *	lazy		checks leave the host's flags alone where they are live
 *	runs		pushes and pops one by one
 *	inline		C executes what inline.c would emit
 *	liveness	all flags are live everywhere
 *	crossing	an instruction on two pages is stepped
 *	sampling	a site keeps its slot however often that misses
 *	global		a CR3 write flushes everything
 */
#define JIT_SWITCHES(X) \
	X(slots, "slots", "memory accesses keep their last page") \
	X(tiers, "tiers", "only those of blocks that run often do") \
	X(regions, "regions", "blocks have jumps inside") \
	X(groups, "groups", "accesses off one register are checked together") \
	X(chain, "chain", "direct jumps are linked") \
	X(calls, "calls", "calls and returns are the host's") \
	X(jcache, "jcache", "other jumps look into a cache") \
	X(lazy, "lazy", "flags are put away for memory accesses") \
	X(runs, "runs", "pushes and pops in a row are one access") \
	X(inlined, "inline", "some system instructions are emitted") \
	X(liveness, "liveness", "flags nobody reads are not kept") \
	X(crossing, "crossing", "instructions on two pages are translated") \
	X(sampling, "sampling", "accesses that change pages look into the TLB") \
	X(global, "global", "global pages survive a CR3 write")
#define JIT_FIELD(field, key, what) bool field;
struct switches { JIT_SWITCHES(JIT_FIELD) };
#undef JIT_FIELD
/* A row of a struct opt table for a struct switches at `at` in the options. */
#define JIT_OPT(type, at, field, key, what) \
	{ key, OPT_BOOL, offsetof(type, at field), "on", what, NULL },
extern struct switches jit_on;
extern bool jit_count;			/* count accesses, by emitted code */
extern const struct opt jit_opts[];	/* of a struct switches */

_Static_assert(ZYDIS_MNEMONIC_MAX_VALUE < MNEM_N, "struct cpu.n_mnem");

enum { S1 = H_9, S2 = H_10, H_GSP = H_11 };
#define GS(m)		((uint32_t)__builtin_offsetof(struct cpu, m))
#define GS_GPR(r)	(GS(gpr) + 8 * (r))

/* Where guest register r lives, or H_NONE: in memory. */
static inline unsigned
hreg(unsigned r)
{
	return r == RSP ? H_GSP : r >= R9 && r <= R11 ? H_NONE : r;
}

enum { COLD_MISS, COLD_EXIT, COLD_RUN, COLD_TLB };
struct cold {
	uint8_t		kind;
	uint8_t		set, acc, cls, live;	/* COLD_MISS; live: see FLAGS_* */
	uint16_t	guest;			/* page offset of the insn */
	uint32_t	slot;			/* gs offset */
	uint8_t		*from;			/* rel32 that comes here */
	uint8_t		*back, *past;		/* before and after S2 is loaded */
	struct exit_rec	*exit;			/* COLD_EXIT */
	int		i, len;			/* COLD_RUN: instructions, */
	int32_t		disp, first;		/* stack bytes, */
	unsigned	size;
	uint8_t		*after;			/* and what follows them */
	bool		group;
};

/* Where flags are at a check. */
enum { FLAGS_DEAD, FLAGS_HOST, FLAGS_LAZY, FLAGS_N };

struct tr {
	struct emit	e;
	struct cpu	*c;
	struct block	*b;
	uint32_t	mode;
	unsigned	set;		/* MMU set */
	const uint8_t	*page;		/* guest page bytes */
	int		n;
	struct insn	*in;		/* of BLOCK_INSNS */
	uint16_t	off[BLOCK_INSNS + 1];
	uint16_t	live[BLOCK_INSNS + 1];	/* flags live before insn i */
	uint16_t	after[BLOCK_INSNS + 1];	/* behind it, whichever way */
	uint8_t		to[BLOCK_INSNS];	/* insn it jumps to, 0: none here */
	bool		join[BLOCK_INSNS + 1];	/* something jumps to insn i */
	struct { uint8_t *rel; int to; } fix[BLOCK_INSNS];	/* those jumps */
	int		nfix;
	/* accesses checked together: the number of insn i's, 0: alone */
	uint8_t		group[BLOCK_INSNS];
	int32_t		sp[BLOCK_INSNS];	/* RSP since the block's begin */
	struct group {
		int64_t		lo, hi;		/* bytes from the base, or from
						 * RSP at the block's begin */
		unsigned	n, acc;
		int		first;		/* insn that checks */
		bool		slot;
		uint32_t	found;		/* gs offset of its addend, or
						 * without slot of lo's address */
	} groups[GROUPS_N];
	uint8_t		ngroup;
	int		i;		/* being emitted */
	unsigned	lo, hi;		/* page bytes looked at */
	struct cold	cold[8 * BLOCK_INSNS];
	int		ncold;
	bool		saved;		/* flags are in cpu->lazy */
	bool		in_cold;	/* emitting what is seldom run */
	bool		fixed;		/* cold code: they stay where they are */
	void		*bounce;	/* step: address of the memory operand */
	bool		ended;		/* control never reaches the next insn */
};

static inline bool
rip32(const struct tr *t)
{
	return (t->mode & M_SIZE) != M_64;
}

static inline bool
tr_live(const struct tr *t)
{
	return t->live[t->i] != 0;
}

/* size classes of a memory access */
#define NCLS 8
extern const uint8_t cls_size[NCLS];

/* [reg + disp] of gs */
static inline void
e_gs_reg(struct emit *e, unsigned op, unsigned r, unsigned base, uint32_t disp)
{
	e8(e, 0x65);
	e_op_mem(e, 1, op, r, base, H_NONE, (int32_t)disp);
}

/* stub.c */
int	stub_init(void);
/* S2 = offset in the TLB at gs:tlb, S1 = offset in the page; above: no hit */
void	emit_look(struct emit *, uint32_t tlb, unsigned size);
/* the last index: for a group of accesses */
extern const uint8_t *stub_miss[MMU_N][2][NCLS][FLAGS_N][2];
extern const uint8_t *stub_tmiss[MMU_N][2][NCLS][FLAGS_N][2];
/* call: S1 is the linear address; afterwards [S1 + S2] is it; keeps flags */
extern const uint8_t *stub_look[MMU_N][2][NCLS][2];
extern const uint8_t *stub_ind[MMU_N];	/* jump to rip in S1; flags lazy */
extern const uint8_t *stub_goto[MMU_N];	/* the same, polls first */
extern const uint8_t *stub_ret[MMU_N];	/* a return there; polls first */
extern const uint8_t *stub_find;	/* look for the code at cpu->rip; flags lazy */
extern const uint8_t *stub_leave;	/* leave; cpu->rip is set */
extern const uint8_t *stub_away;	/* the same; flags are in save[1] */
extern const uint8_t *stub_helper;	/* call: cpu->rip set, S2 = insn */
extern const uint8_t *stub_end;		/* jump: the same, then on at cpu->rip */
/* Run host code (executable view) until it leaves: exit record number, or ~0. */
uint32_t stub_enter(struct cpu *, const uint8_t *host);

/* site.c: afterwards the operand is at [S2 + S1], or for site_operand() where
 * it says */
struct place { unsigned base, index; int32_t disp; };
struct place site_operand(struct tr *, const struct insn *, const struct operand *,
	    int acc, unsigned size);
/* n bytes from disp(rsp) for the `len` instructions from t->i on, the first of
 * which accesses first(rsp) */
void	site_run(struct tr *, int32_t disp, int32_t first, bool write,
	    unsigned n, int len);
void	site_ea(struct tr *, int acc, unsigned size);	/* the address is S1 */
/* of the stack, disp from RSP */
struct place site_stack(struct tr *, int32_t disp, int acc, unsigned size);
void	site_reg(struct tr *, unsigned hbase, int32_t disp, bool w64, int acc,
	    unsigned size);
/* S1 = effective address (no segment) */
void	emit_ea(struct tr *, const struct insn *, const struct operand *,
	    unsigned dst, bool segment);
bool	site_possible(const struct tr *, const struct insn *,
	    const struct operand *);
void	emit_cold(struct tr *);

/* profile.c: `guest' is the page offset of the instruction */
bool	profile_busy(const struct block *);	/* it is to have slots */
/* The slot there was refilled 256 times, or so. */
void	profile_refilled(struct cpu *, const struct block *, unsigned guest);
bool	profile_roams(const struct block *, unsigned guest);	/* no slot then */
/* The group there was on two pages: is it so often? */
bool	profile_crossed(struct cpu *, const struct block *, unsigned guest);
void	profile_no_group(struct cpu *, const struct block *, unsigned guest);
bool	profile_split(const struct block *, unsigned guest);

/* group.c: fills t->group and t->groups */
void	groups_find(struct tr *, bool none);
static inline bool
grouped(const struct tr *t, int i)
{
	return t->group[i] && t->groups[t->group[i]].n > 1;
}

/* copy.c */
void	copy_insn(struct tr *, const struct insn *);
void	emit_get(struct tr *, unsigned dst, unsigned guest_reg);

/* branch.c */
bool	branch_insn(struct tr *, const struct insn *);	/* false: not one */
bool	branch_direct(uint32_t mode, const struct insn *);	/* Jcc or JMP to a
					 * target emitted code knows */
void	emit_return(struct tr *, const struct insn *, unsigned size);
void	emit_helper(struct tr *, const struct insn *, bool ends);
void	emit_exit(struct tr *, int32_t delta, int kind);
void	emit_far(struct tr *, int32_t delta);	/* through the jump cache */
void	emit_rip(struct tr *, unsigned dst, int32_t delta);

/* stack.c */
bool	stack_insn(struct tr *, const struct insn *);
/* Several from t->i on at once: how many; 0: none. */
int	stack_run(struct tr *);
unsigned stack_size(const struct tr *, const struct insn *);
void	emit_sp(struct tr *, int32_t by);
void	emit_push_gs(struct tr *, unsigned size, uint32_t off);

/* flags.c */
void	flags_to_ax(struct emit *);
void	flags_from_ax(struct emit *);
void	flags_put(struct emit *);
void	flags_get(struct emit *);
uint64_t flags_decode(uint16_t lazy);
uint16_t flags_encode(uint64_t fl);
bool	flags_free(struct tr *);
void	flags_sync(struct tr *);
void	flags_leave(struct tr *);

/* inline.c: instructions C would execute; false: not this one */
bool	inline_insn(struct tr *, const struct insn *);

/* lift.c */
enum class { CL_COPY, CL_BRANCH, CL_STACK, CL_HELPER, CL_END, CL_NOTHING,
	CL_CLI };
void	emit_one(struct tr *, const struct insn *);
enum class insn_class(uint32_t mode, const struct insn *);
uint16_t kills(const struct insn *);	/* flags certainly replaced */
void	note_pc(struct tr *);		/* host code from here is of in[t->i] */
void	note_cold(struct tr *, uint16_t guest);	/* the same in cold code */
const struct insn *keep(const struct insn *);	/* as long as blocks are */
struct block *lift(struct cpu *, uint64_t gpa, const uint8_t *page,
	    uint32_t mode);		/* the vcpu's, perhaps and MODE_SPLIT */
struct block *lift_crossing(struct cpu *, uint64_t gpa, const uint8_t *page,
	    uint64_t gpa2, const uint8_t *page2);

/* step.c; scratch code: the last few instructions run one at a time */
#define SCRATCH_N	8
#define SCRATCH_SIZE	256
void	x86_step(struct cpu *);		/* one instruction at cpu->rip */
void	x86_run_insn(struct cpu *, const struct insn *);
bool	fpu_usable(uint32_t mode, const struct insn *);

/* in C, called by stubs */
/* how: MMU set, ACC_* << 4, bytes << 8 */
#define MISS_GROUP	0x10000
#define MISS_SAMPLE	0x80
#define MISS_LAZY	0x40		/* flags are in cpu->lazy */
/* 0: look again; otherwise host - linear address, for this access only */
uint64_t jit_miss(struct cpu *, uint64_t linear, const void *ret, unsigned how);
void	jit_helper(struct cpu *, const struct insn *);
const uint8_t *jit_end(struct cpu *, const struct insn *);
const uint8_t *jit_find(struct cpu *);

#endif
