/*
 * amd64.h - writing x86-64 machine code into a buffer.
 *
 * Only what the translator emits itself; guest instructions are relocated by
 * cpu/x86/copy.c.  Encodings: Intel SDM vol. 2, ch. 2 and 3.  Register numbers
 * are the hardware's.  "gs" operands are [gs:disp32], the vcpu's own memory.
 */
#ifndef HOST_AMD64_H
#define HOST_AMD64_H

#include <stdint.h>

enum { H_AX, H_CX, H_DX, H_BX, H_SP, H_BP, H_SI, H_DI, H_8, H_9, H_10, H_11,
	H_12, H_13, H_14, H_15, H_NONE = 0xff };

struct emit {
	uint8_t	*p, *end;	/* writable view */
	int64_t	rx;		/* add to a writable address: executable one */
};

static inline void
e8(struct emit *e, unsigned v)
{
	*e->p++ = (uint8_t)v;
}

static inline void
e32(struct emit *e, uint32_t v)
{
	*(uint32_t __attribute__((aligned(1))) *)e->p = v;
	e->p += 4;
}

static inline void
e64(struct emit *e, uint64_t v)
{
	*(uint64_t __attribute__((aligned(1))) *)e->p = v;
	e->p += 8;
}

/* Optional REX for reg field r, base b, index x; `force` for byte registers. */
static inline void
e_rex(struct emit *e, int w, unsigned r, unsigned x, unsigned b, int force)
{
	unsigned v = 0x40 | (w ? 8 : 0) | (r >> 3 & 1) << 2 |
	    (x != H_NONE ? (x >> 3 & 1) << 1 : 0) |
	    (b != H_NONE ? b >> 3 & 1 : 0);

	if (v != 0x40 || force)
		e8(e, v);
}

/* ModRM + SIB + disp for [base + index<<ss + disp]; base H_NONE: disp32 only. */
static inline void
e_mem(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned ss,
    int32_t disp)
{
	unsigned mod, r = (reg & 7) << 3;

	if (base == H_NONE) {
		e8(e, r | 4);
		e8(e, ss << 6 | (index == H_NONE ? 4 : index & 7) << 3 | 5);
		e32(e, disp);
		return;
	}
	mod = disp == 0 && (base & 7) != 5 ? 0 :
	    disp >= -128 && disp < 128 ? 0x40 : 0x80;
	if (index != H_NONE || (base & 7) == 4) {
		e8(e, mod | r | 4);
		e8(e, ss << 6 | (index == H_NONE ? 4 : index & 7) << 3 |
		    (base & 7));
	} else
		e8(e, mod | r | (base & 7));
	if (mod == 0x40)
		e8(e, disp & 0xff);
	else if (mod == 0x80)
		e32(e, disp);
}

/* w: 1 for 64-bit operation */
static inline void
e_lea(struct emit *e, int w, unsigned dst, unsigned base, unsigned index,
    unsigned ss, int32_t disp)
{
	e_rex(e, w, dst, index, base, 0);
	e8(e, 0x8d);
	e_mem(e, dst, base, index, ss, disp);
}

static inline void
e_op_mem(struct emit *e, int w, unsigned op, unsigned reg, unsigned base,
    unsigned index, int32_t disp)
{
	e_rex(e, w, reg, index, base, 0);
	e8(e, op);
	e_mem(e, reg, base, index, 0, disp);
}

static inline void
e_ld(struct emit *e, int w, unsigned dst, unsigned base, unsigned index,
    int32_t disp)
{
	e_op_mem(e, w, 0x8b, dst, base, index, disp);
}

/* store of size 2, 4, 8 */
static inline void
e_st(struct emit *e, unsigned size, unsigned src, unsigned base, unsigned index,
    int32_t disp)
{
	if (size == 2)
		e8(e, 0x66);
	e_op_mem(e, size == 8, 0x89, src, base, index, disp);
}

/* OP reg, gs:off (op 0x8b load, 0x89 store, 0x33 xor, 0x3b cmp, 0x03 add) */
static inline void
e_gs(struct emit *e, int w, unsigned op, unsigned reg, uint32_t off)
{
	e8(e, 0x65);
	e_op_mem(e, w, op, reg, H_NONE, H_NONE, (int32_t)off);
}
#define e_ld_gs(e, dst, off)	e_gs(e, 1, 0x8b, dst, off)
#define e_st_gs(e, src, off)	e_gs(e, 1, 0x89, src, off)

/* OP imm32 on gs:off; ext: 0 add 1 or 4 and 5 sub 6 xor 7 cmp */
static inline void
e_gs_imm(struct emit *e, int w, unsigned ext, uint32_t off, int32_t imm)
{
	e8(e, 0x65);
	e_rex(e, w, 0, H_NONE, H_NONE, 0);
	e8(e, 0x81);
	e_mem(e, ext, H_NONE, H_NONE, 0, (int32_t)off);
	e32(e, imm);
}

static inline void
e_gs_mov_imm(struct emit *e, int w, uint32_t off, int32_t imm)
{
	e8(e, 0x65);
	e_rex(e, w, 0, H_NONE, H_NONE, 0);
	e8(e, 0xc7);
	e_mem(e, 0, H_NONE, H_NONE, 0, (int32_t)off);
	e32(e, imm);
}

static inline void
e_mov_rr(struct emit *e, int w, unsigned dst, unsigned src)
{
	e_rex(e, w, src, H_NONE, dst, 0);
	e8(e, 0x89);
	e8(e, 0xc0 | (src & 7) << 3 | (dst & 7));
}

static inline void
e_mov_ri32(struct emit *e, unsigned dst, uint32_t v)	/* zero-extends */
{
	e_rex(e, 0, 0, H_NONE, dst, 0);
	e8(e, 0xb8 | (dst & 7));
	e32(e, v);
}

static inline void
e_mov_ri(struct emit *e, unsigned dst, uint64_t v)
{
	if (v <= 0xffffffffu) {
		e_mov_ri32(e, dst, (uint32_t)v);
	} else if ((int64_t)v == (int32_t)v) {
		e_rex(e, 1, 0, H_NONE, dst, 0);
		e8(e, 0xc7);
		e8(e, 0xc0 | (dst & 7));
		e32(e, (uint32_t)v);
	} else {
		e_rex(e, 1, 0, H_NONE, dst, 0);
		e8(e, 0xb8 | (dst & 7));
		e64(e, v);
	}
}

/* group-1 arithmetic with imm32 on a register */
static inline void
e_alu_ri(struct emit *e, int w, unsigned ext, unsigned reg, int32_t imm)
{
	e_rex(e, w, 0, H_NONE, reg, 0);
	if (imm >= -128 && imm < 128) {
		e8(e, 0x83);
		e8(e, 0xc0 | ext << 3 | (reg & 7));
		e8(e, imm & 0xff);
	} else {
		e8(e, 0x81);
		e8(e, 0xc0 | ext << 3 | (reg & 7));
		e32(e, imm);
	}
}

static inline void
e_not(struct emit *e, unsigned reg)	/* leaves flags alone */
{
	e_rex(e, 1, 0, H_NONE, reg, 0);
	e8(e, 0xf7);
	e8(e, 0xd0 | (reg & 7));
}

/* pext gs:off, src -> dst (VEX.LZ.F3.0F38.W1 F5): dst = pext(src, mask) */
static inline void
e_pext_gs(struct emit *e, unsigned dst, unsigned src, uint32_t off)
{
	e8(e, 0x65);
	e8(e, 0xc4);
	e8(e, (dst & 8 ? 0 : 0x80) | 0x60 | 0x02);
	e8(e, 0x80 | (~src & 15) << 3 | 0x02);
	e8(e, 0xf5);
	e_mem(e, dst, H_NONE, H_NONE, 0, (int32_t)off);
}

/* pdep the same way: dst = pdep(src, gs:off) */
static inline void
e_pdep_gs(struct emit *e, unsigned dst, unsigned src, uint32_t off)
{
	e8(e, 0x65);
	e8(e, 0xc4);
	e8(e, (dst & 8 ? 0 : 0x80) | 0x60 | 0x02);
	e8(e, 0x80 | (~src & 15) << 3 | 0x03);
	e8(e, 0xf5);
	e_mem(e, dst, H_NONE, H_NONE, 0, (int32_t)off);
}

/* rorx $by, src -> dst: leaves flags alone */
static inline void
e_rorx(struct emit *e, unsigned dst, unsigned src, unsigned by)
{
	e8(e, 0xc4);
	e8(e, (dst & 8 ? 0 : 0x80) | 0x40 | (src & 8 ? 0 : 0x20) | 0x03);
	e8(e, 0xfb);
	e8(e, 0xf0);
	e8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
	e8(e, by);
}

/* movzx of size 1 or 2 from gs:off */
static inline void
e_movzx_gs(struct emit *e, unsigned size, unsigned dst, uint32_t off)
{
	e8(e, 0x65);
	e_rex(e, 0, dst, H_NONE, H_NONE, 0);
	e8(e, 0x0f);
	e8(e, size == 1 ? 0xb6 : 0xb7);
	e_mem(e, dst, H_NONE, H_NONE, 0, (int32_t)off);
}

/* mov of the low byte of src to gs:off */
static inline void
e_st8_gs(struct emit *e, unsigned src, uint32_t off)
{
	e8(e, 0x65);
	e_rex(e, 0, src, H_NONE, H_NONE, 1);
	e8(e, 0x88);
	e_mem(e, src, H_NONE, H_NONE, 0, (int32_t)off);
}

/* Patchable jumps: return the address of the rel32. */
static inline uint8_t *
e_jmp(struct emit *e)
{
	e8(e, 0xe9);
	e32(e, 0);
	return e->p - 4;
}

static inline uint8_t *
e_jcc(struct emit *e, unsigned cc)
{
	e8(e, 0x0f);
	e8(e, 0x80 | cc);
	e32(e, 0);
	return e->p - 4;
}

static inline uint8_t *
e_call(struct emit *e)
{
	e8(e, 0xe8);
	e32(e, 0);
	return e->p - 4;
}

static inline void
e_patch(uint8_t *rel, const uint8_t *target)
{
	int32_t d = (int32_t)(target - (rel + 4));

	__atomic_store((int32_t __attribute__((aligned(1))) *)rel, &d,
	    __ATOMIC_RELAXED);
}

static inline void
e_jmp_to(struct emit *e, const uint8_t *target)
{
	e_patch(e_jmp(e), target);
}

static inline void
e_call_to(struct emit *e, const uint8_t *target)
{
	e_patch(e_call(e), target);
}

static inline void
e_jmp_gs_index(struct emit *e, unsigned index, uint32_t off) /* jmp *gs:off(,i,8) */
{
	e8(e, 0x65);
	e_rex(e, 0, 0, index, H_NONE, 0);
	e8(e, 0xff);
	e_mem(e, 4, H_NONE, index, 3, (int32_t)off);
}

static inline void
e_ld_gs_index(struct emit *e, unsigned dst, unsigned index, uint32_t off)
{
	e8(e, 0x65);
	e_rex(e, 1, dst, index, H_NONE, 0);
	e8(e, 0x8b);
	e_mem(e, dst, H_NONE, index, 3, (int32_t)off);
}

static inline uint8_t *
e_jrcxz(struct emit *e)		/* returns the rel8's address */
{
	e8(e, 0xe3);
	e8(e, 0);
	return e->p - 1;
}

static inline void
e_here8(struct emit *e, uint8_t *rel)
{
	*rel = (uint8_t)(e->p - (rel + 1));
}

static inline void
e_push(struct emit *e, unsigned r)
{
	e_rex(e, 0, 0, H_NONE, r, 0);
	e8(e, 0x50 | (r & 7));
}

static inline void
e_pop(struct emit *e, unsigned r)
{
	e_rex(e, 0, 0, H_NONE, r, 0);
	e8(e, 0x58 | (r & 7));
}

#endif
