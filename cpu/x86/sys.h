/*
 * sys.h - what the files that execute system instructions in C share.
 */
#ifndef X86_SYS_H
#define X86_SYS_H

#include "x86.h"

/* segment.c */
bool	desc_find(struct cpu *, uint16_t sel, unsigned size, uint64_t *lin);
uint64_t desc_read(struct cpu *, uint16_t sel, int vec, uint32_t ext,
	    uint64_t *lin);
void	desc_seg(uint64_t desc, uint16_t sel, struct seg *);
void	desc_accessed(struct cpu *, uint64_t lin, uint64_t desc);
void	seg_real(struct cpu *, unsigned seg, uint16_t sel);
void	seg_null(struct cpu *, unsigned seg, uint16_t sel);
void	seg_load_ss(struct cpu *, uint16_t sel, unsigned cpl, int vec,
	    uint32_t ext, struct seg *);
void	seg_load_data(struct cpu *, unsigned seg, uint16_t sel, int vec);
void	seg_drop(struct cpu *);
void	seg_lldt(struct cpu *, uint16_t sel, int vec);
void	seg_ltr(struct cpu *, uint16_t sel);
bool	seg_peek(struct cpu *, uint16_t sel, uint64_t *desc);

/* far.c */
void	far_jump(struct cpu *, uint16_t sel, uint64_t off, uint64_t next,
	    unsigned opsize);
void	far_call(struct cpu *, uint16_t sel, uint64_t off, uint64_t next,
	    unsigned opsize);
void	far_ret(struct cpu *, unsigned opsize, unsigned pop);

void	x86_sysenter(struct cpu *);
void	x86_sysexit(struct cpu *, unsigned opsize);
void	x86_popf(struct cpu *, uint64_t v, unsigned opsize);

/* cpuid.c: bits the model has */
uint64_t model_cr4(void);
uint64_t model_xcr0(void);

/* exception.c */
bool	vm86_redirect(struct cpu *, int vector);
void	inner_stack(struct cpu *, unsigned cpl, uint32_t ext, uint16_t *ss,
	    uint64_t *sp);

/* task.c */
enum { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
void	task_switch(struct cpu *, uint16_t sel, int how, uint64_t next,
	    bool has_err, uint32_t err);

/* string.c: segment of the source operand */
unsigned string_seg(const struct cpu *, const struct insn *);

/* the parts of x86_exec; false: not theirs */
bool	exec_string(struct cpu *, const struct insn *);
bool	exec_system(struct cpu *, const struct insn *);
bool	exec_flow(struct cpu *, const struct insn *);
bool	exec_misc(struct cpu *, const struct insn *);
bool	exec_fpu(struct cpu *, const struct insn *);

/* Mask of rip and of the stack pointer in the current mode */
static inline uint64_t
rip_mask(const struct cpu *c)
{
	return (c->mode & M_SIZE) == M_64 ? ~0ull :
	    (c->mode & M_SIZE) == M_32 ? 0xffffffffull : 0xffffull;
}

static inline uint64_t
sp_mask(const struct cpu *c)
{
	return (c->mode & M_SIZE) == M_64 ? ~0ull :
	    c->mode & M_SS32 ? 0xffffffffull : 0xffffull;
}

static inline void
set_sp(struct cpu *c, uint64_t v)
{
	uint64_t m = sp_mask(c);

	if (m == 0xffff)
		c->gpr[RSP] = (c->gpr[RSP] & ~m) | (v & m);
	else
		c->gpr[RSP] = v & m;
}

/* Stack through SS with the current rights. */
static inline uint64_t
stack_at(struct cpu *c, int64_t off, unsigned size)
{
	uint64_t sp = (c->gpr[RSP] + (uint64_t)off) & sp_mask(c);

	return x86_ld(c, x86_linear(c, SS, sp, size, ACC_READ), size,
	    MODE_MMU(c->mode));
}

static inline void
push(struct cpu *c, unsigned size, uint64_t v)
{
	uint64_t sp = (c->gpr[RSP] - size) & sp_mask(c);

	x86_st(c, x86_linear(c, SS, sp, size, ACC_WRITE), size, v,
	    MODE_MMU(c->mode));
	set_sp(c, sp);
}

/* A stack being built: nothing of the vcpu changes before stack_commit(). */
struct stack {
	struct seg	ss;
	uint64_t	sp, mask;
	unsigned	mmu;
	uint32_t	err;		/* of the #SS if it does not fit */
};

/* Rights of the processor's own accesses to a stack of level `cpl` */
static inline unsigned
mmu_of(const struct cpu *c, unsigned cpl)
{
	return cpl == 3 ? 2 : c->cr4 & CR4_SMAP ? 1 : 0;
}

static inline void
stack_current(const struct cpu *c, struct stack *s)
{
	*s = (struct stack){ .ss = c->seg[SS], .sp = c->gpr[RSP],
		.mask = sp_mask(c), .mmu = MODE_MMU(c->mode) };
}

static inline void
stack_push(struct cpu *c, struct stack *s, unsigned size, uint64_t v)
{
	uint64_t off = (s->sp - size) & s->mask, lin;

	if (s->mask == ~0ull) {
		lin = off;
		if ((int64_t)(off << 16) >> 16 != (int64_t)off)
			x86_raise(c, VEC_SS, s->err);
	} else {
		if (s->ss.attr & 8 || !(s->ss.attr & 4) ?
		    off + size - 1 > s->ss.limit : off <= s->ss.limit)
			x86_raise(c, VEC_SS, s->err);
		lin = (uint32_t)(s->ss.base + off);
	}
	x86_st(c, lin, size, v, s->mmu);
	s->sp = (s->sp & ~s->mask) | off;
}

static inline void
stack_commit(struct cpu *c, const struct stack *s)
{
	c->seg[SS] = s->ss;
	if (s->mask == 0xffff)
		c->gpr[RSP] = (c->gpr[RSP] & ~0xffffull) | (s->sp & 0xffff);
	else
		c->gpr[RSP] = s->sp & s->mask;
}

/* system.c: #GP unless the port is allowed (SDM 1 19.5.2) */
void	io_permit(struct cpu *, uint16_t port, unsigned size);

#define canonical(a)	((int64_t)((uint64_t)(a) << 16) >> 16 == (int64_t)(a))

#endif
