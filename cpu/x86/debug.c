/*
 * debug.c - single step and the debug registers (SDM 3B 17.2, 17.3).
 *
 * While TF or a breakpoint of DR7 is on, the vcpu runs one instruction at a
 * time through x86_debug_step().  Instruction breakpoints are faults, looked for
 * before the instruction; data and I/O breakpoints and single step are traps:
 * what an instruction touches is worked out from its operands beforehand and
 * reported when it has completed.
 */
#include <Zydis/Zydis.h>

#include "jit.h"
#include "sys.h"

enum { DR7_EXEC, DR7_WRITE, DR7_IO, DR7_ACCESS };
#define DR6_BS	(1 << 14)

/* DR6 bits of the breakpoints that [at, at + n) touches. */
static unsigned
hits(const struct cpu *c, uint64_t at, unsigned n, int kind)
{
	static const uint8_t size[] = { 1, 2, 8, 4 };
	unsigned i, hit = 0, rw, len;
	uint64_t a;

	for (i = 0; i < 4; i++) {
		if (!(c->dr[7] >> 2 * i & 3))
			continue;
		rw = c->dr[7] >> (16 + 4 * i) & 3;
		len = size[c->dr[7] >> (18 + 4 * i) & 3];
		if (rw != (unsigned)kind &&
		    !(rw == DR7_ACCESS && kind == DR7_WRITE))
			continue;
		if (rw == DR7_IO && !(c->cr4 & CR4_DE))
			continue;
		a = c->dr[i];
		if (rw == DR7_EXEC)
			hit |= (unsigned)(a == at) << i;
		else {
			a &= ~(uint64_t)(len - 1);
			if (at < a + len && a < at + n)
				hit |= 1u << i;
		}
	}
	return hit;
}

static uint64_t
linear(const struct cpu *c, unsigned seg, uint64_t off)
{
	if ((c->mode & M_SIZE) == M_64)
		return off + (seg == FS || seg == GS ? c->seg[seg].base : 0);
	return (uint32_t)(off + c->seg[seg].base);
}

/* Bytes of a memory operand; the large ones do not fit operand.size. */
static unsigned
extent(const struct insn *in, const struct operand *o)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_FXSAVE: case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR: case ZYDIS_MNEMONIC_FXRSTOR64:
		return 512;
	case ZYDIS_MNEMONIC_XSAVE: case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT: case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XRSTOR: case ZYDIS_MNEMONIC_XRSTOR64:
		return 832;
	}
	return o->size;
}

static unsigned
stack_hits(const struct cpu *c, const struct insn *in)
{
	unsigned n = in->opsize;
	uint64_t sp = c->gpr[RSP] & sp_mask(c), below;
	bool up = false;

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_PUSHA: case ZYDIS_MNEMONIC_PUSHAD:
		n *= 8;
		/* fall through */
	case ZYDIS_MNEMONIC_PUSH: case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_PUSHF: case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ: case ZYDIS_MNEMONIC_ENTER:
		break;
	case ZYDIS_MNEMONIC_POPA: case ZYDIS_MNEMONIC_POPAD:
		n *= 8;
		/* fall through */
	case ZYDIS_MNEMONIC_POP: case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_POPF: case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		up = true;
		break;
	case ZYDIS_MNEMONIC_IRET: case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		n *= 3;
		up = true;
		break;
	case ZYDIS_MNEMONIC_LEAVE:
		sp = c->gpr[RBP] & sp_mask(c);
		up = true;
		break;
	default:
		return 0;
	}
	if (up)
		return hits(c, linear(c, SS, sp), n, DR7_ACCESS);
	below = (sp - n) & sp_mask(c);
	return hits(c, linear(c, SS, below), n, DR7_WRITE);
}

static unsigned
string_hits(const struct cpu *c, const struct insn *in)
{
	uint64_t mask = in->addrsize == 8 ? ~0ull : in->addrsize == 4 ?
	    0xffffffffull : 0xffffull;
	uint64_t si = linear(c, string_seg(c, in), c->gpr[RSI] & mask);
	uint64_t di = linear(c, ES, c->gpr[RDI] & mask);
	unsigned n = in->opcode & 1 ? in->opsize : 1;

	if (in->rep && !(c->gpr[RCX] & mask))
		return 0;
	switch (in->opcode & 0xfe) {
	case 0x6c:
		return hits(c, di, n, DR7_WRITE) |
		    hits(c, (uint16_t)c->gpr[RDX], n, DR7_IO);
	case 0x6e:
		return hits(c, si, n, DR7_ACCESS) |
		    hits(c, (uint16_t)c->gpr[RDX], n, DR7_IO);
	case 0xa4:
		return hits(c, si, n, DR7_ACCESS) | hits(c, di, n, DR7_WRITE);
	case 0xa6:
		return hits(c, si, n, DR7_ACCESS) | hits(c, di, n, DR7_ACCESS);
	case 0xaa:
		return hits(c, di, n, DR7_WRITE);
	case 0xac:
		return hits(c, si, n, DR7_ACCESS);
	case 0xae:
		return hits(c, di, n, DR7_ACCESS);
	}
	return 0;
}

static unsigned
port_hits(const struct cpu *c, const struct insn *in)
{
	const struct operand *o;

	if (in->mnem != ZYDIS_MNEMONIC_IN && in->mnem != ZYDIS_MNEMONIC_OUT)
		return 0;
	o = &in->op[in->mnem == ZYDIS_MNEMONIC_OUT ? 0 : 1];
	return hits(c, o->type == OP_IMM ? (uint8_t)o->disp :
	    (uint16_t)c->gpr[RDX], in->opcode & 1 ? in->opsize : 1, DR7_IO);
}

static unsigned
touched(struct cpu *c, const struct insn *in)
{
	unsigned i, hit = 0;

	if (in->opcode >= 0x6c && in->opcode <= 0xaf &&
	    (in->opcode <= 0x6f || in->opcode >= 0xa4))
		hit = string_hits(c, in);
	hit |= stack_hits(c, in) | port_hits(c, in);
	if (in->mnem == ZYDIS_MNEMONIC_LEA || in->mnem == ZYDIS_MNEMONIC_NOP ||
	    in->mnem == ZYDIS_MNEMONIC_INVLPG)
		return hit;
	for (i = 0; i < in->nop; i++)
		if (in->op[i].type == OP_MEM)
			hit |= hits(c, linear(c, in->op[i].seg,
			    x86_ea(c, in, &in->op[i])),
			    extent(in, &in->op[i]),
			    in->op[i].act & 2 ? DR7_WRITE : DR7_ACCESS);
	return hit;
}

/* Entering a handler clears TF first: no trap after these (17.3.1.4). */
static bool
steps_in(const struct insn *in)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_INT: case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_INT3: case ZYDIS_MNEMONIC_INTO:
	case ZYDIS_MNEMONIC_SYSCALL: case ZYDIS_MNEMONIC_SYSENTER:
		return true;
	}
	return false;
}

/* One instruction at cpu->rip with all that debugging asks for. */
void
x86_debug_step(struct cpu *c)
{
	uint64_t fl = c->eflags, rip = c->rip;
	unsigned hit = 0;
	struct insn in;

	if (c->mode & M_BRK && !(fl & FL_RF)) {
		hit = hits(c, linear(c, CS, rip), 1, DR7_EXEC);
		if (hit) {
			c->dr[6] |= hit;
			c->eflags |= FL_RF;
			x86_raise(c, VEC_DB, 0);
		}
	}
	cpu_fpu_flush(c);
	x86_fetch(c, &in);
	if (c->mode & M_BRK)
		hit = touched(c, &in);
	c->eflags &= ~(uint64_t)FL_RF;
	x86_run_insn(c, &in);
	if (in.rep && c->rip == rip)
		c->eflags |= FL_RF;		/* to be resumed */
	if (c->shadow && in.mnem != ZYDIS_MNEMONIC_STI)
		return;				/* mov ss, pop ss */
	if (fl & FL_TF && !(steps_in(&in) && !(c->eflags & FL_TF)))
		hit |= DR6_BS;
	if (hit) {
		c->dr[6] |= hit;
		x86_raise(c, VEC_DB, 0);
	}
}
