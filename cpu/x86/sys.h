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
void	seg_drop(struct cpu *);
void	seg_lldt(struct cpu *, uint16_t sel);
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

/* task.c */
enum { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
void	task_switch(struct cpu *, uint16_t sel, int how, uint64_t next,
	    bool has_err, uint32_t err);

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

/* system.c: #GP unless the port is allowed (SDM 1 19.5.2) */
void	io_permit(struct cpu *, uint16_t port, unsigned size);

#define canonical(a)	((int64_t)((uint64_t)(a) << 16) >> 16 == (int64_t)(a))

#endif
