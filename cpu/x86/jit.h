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
 *	branch.c	jumps, calls, returns, exits, stack
 *	stub.c		entering and leaving, misses, helper calls
 *	step.c		one instruction at a time
 */
#ifndef X86_JIT_H
#define X86_JIT_H

#include "../block.h"

enum { S1 = H_9, S2 = H_10, H_GSP = H_11 };
#define GS(m)		((uint32_t)__builtin_offsetof(struct cpu, m))
#define GS_GPR(r)	(GS(gpr) + 8 * (r))

/* Where guest register r lives, or H_NONE: in memory. */
static inline unsigned
hreg(unsigned r)
{
	return r == RSP ? H_GSP : r >= R9 && r <= R11 ? H_NONE : r;
}

enum { COLD_MISS, COLD_EXIT };
struct cold {
	uint8_t		kind;
	uint8_t		set, acc, cls, live;	/* COLD_MISS */
	uint16_t	guest;			/* page offset of the insn */
	uint32_t	slot;			/* gs offset */
	uint8_t		*from;			/* rel32 that comes here */
	uint8_t		*back;
	struct exit_rec	*exit;			/* COLD_EXIT */
};

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
	int		i;		/* being emitted */
	unsigned	lo, hi;		/* page bytes looked at */
	struct cold	cold[6 * BLOCK_INSNS];
	int		ncold;
	void		*bounce;	/* step: address of the memory operand */
	bool		ended;		/* control never reaches the next insn */
};

static inline bool
tr_live(const struct tr *t)
{
	return t->live[t->i] != 0;
}

/* size classes of a memory access */
#define NCLS 8
extern const uint8_t cls_size[NCLS];

/* stub.c */
int	stub_init(void);
extern const uint8_t *stub_miss[MMU_N][2][NCLS][2];
extern const uint8_t *stub_ind[MMU_N];	/* jump to rip in S1 */
extern const uint8_t *stub_leave;	/* leave; cpu->rip is set */
extern const uint8_t *stub_helper;	/* call: cpu->rip set, S2 = insn */
/* Run host code (executable view) until it leaves: exit record number, or ~0. */
uint32_t stub_enter(struct cpu *, const uint8_t *host);

/* site.c: afterwards the operand is at [S2 + S1] */
void	site_operand(struct tr *, const struct insn *, const struct operand *,
	    int acc, unsigned size);
void	site_reg(struct tr *, unsigned hbase, int32_t disp, bool w64, int acc,
	    unsigned size);
/* S1 = effective address (no segment) */
void	emit_ea(struct tr *, const struct insn *, const struct operand *,
	    unsigned dst, bool segment);
bool	site_possible(const struct tr *, const struct insn *,
	    const struct operand *);
void	emit_cold(struct tr *);

/* copy.c */
void	copy_insn(struct tr *, const struct insn *);
void	emit_get(struct tr *, unsigned dst, unsigned guest_reg);

/* branch.c */
bool	branch_insn(struct tr *, const struct insn *);	/* false: not one */
bool	stack_insn(struct tr *, const struct insn *);
void	emit_helper(struct tr *, const struct insn *, bool ends);
void	emit_exit(struct tr *, int32_t delta, int kind);
void	emit_goto(struct tr *, uint8_t *from, int32_t delta, bool poll);

/* lift.c */
enum class { CL_COPY, CL_BRANCH, CL_STACK, CL_HELPER, CL_END, CL_NOTHING,
	CL_CLI };
enum class insn_class(uint32_t mode, const struct insn *);
struct block *lift(struct cpu *, uint64_t gpa, const uint8_t *page);
bool	writes_flags(const struct insn *, uint16_t *kill);

/* step.c; scratch code: the last few instructions run one at a time */
#define SCRATCH_N	8
#define SCRATCH_SIZE	256
void	x86_step(struct cpu *);		/* one instruction at cpu->rip */
void	x86_run_insn(struct cpu *, const struct insn *);
bool	fpu_usable(uint32_t mode, const struct insn *);

/* in C, called by stubs */
void	jit_miss(struct cpu *, uint64_t linear, const void *ret, unsigned how);
void	jit_helper(struct cpu *, const struct insn *);

#endif
