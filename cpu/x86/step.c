/*
 * step.c - one instruction at a time, and the C side of emitted code's stubs.
 *
 * An instruction is either executed by x86_exec() or run natively: relocated
 * like any other (copy.c), but with its memory operand replaced by a fixed host
 * address, which is the guest's RAM where the operand lies in one plain page,
 * or a bounce buffer.  This is how accesses go that have no single host
 * address: device registers, page crossings, pages holding code, segments with
 * odd bases and limits.
 */
#include <Zydis/Zydis.h>

#include "jit.h"
#include "sys.h"

/* ------------------------------------------------------- FPU availability */

enum fpu_kind { F_NONE, F_X87, F_WAIT, F_MMX, F_SSE, F_AVX };

static enum fpu_kind
fpu_kind(const struct insn *in)
{
	bool xmm = false, mmx = false;
	unsigned i;

	if (in->mnem == ZYDIS_MNEMONIC_FWAIT)
		return F_WAIT;
	if (in->opcode >= 0xd8 && in->opcode <= 0xdf)
		return F_X87;
	for (i = 0; i < in->nop; i++) {
		xmm |= in->op[i].type == OP_XMM;
		mmx |= in->op[i].type == OP_MMX;
	}
	if (in->enc == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		if (xmm || in->mnem == ZYDIS_MNEMONIC_VZEROUPPER ||
		    in->mnem == ZYDIS_MNEMONIC_VZEROALL ||
		    in->mnem == ZYDIS_MNEMONIC_VLDMXCSR ||
		    in->mnem == ZYDIS_MNEMONIC_VSTMXCSR)
			return F_AVX;
		return F_NONE;
	}
	if (xmm || in->mnem == ZYDIS_MNEMONIC_LDMXCSR ||
	    in->mnem == ZYDIS_MNEMONIC_STMXCSR)
		return F_SSE;
	if (mmx || in->mnem == ZYDIS_MNEMONIC_EMMS)
		return F_MMX;
	return F_NONE;
}

bool
fpu_usable(uint32_t mode, const struct insn *in)
{
	switch (fpu_kind(in)) {
	case F_NONE:
		return true;
	case F_WAIT:
		return !(mode & M_WAIT);
	case F_X87:
	case F_MMX:
		return mode & M_FPU;
	case F_SSE:
		return mode & M_SSE;
	case F_AVX:
		return mode & M_AVX;
	}
	return false;
}

/* SDM 2A 2.4 and 3A 2.5: which of #UD and #NM */
static _Noreturn void
fpu_fault(struct cpu *c, const struct insn *in)
{
	enum fpu_kind k = fpu_kind(in);

	if (k == F_MMX && c->cr0 & CR0_EM)
		x86_ud(c);
	if (k == F_SSE && (c->cr0 & CR0_EM || !(c->cr4 & CR4_OSFXSR)))
		x86_ud(c);
	if (k == F_AVX && (!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6))
		x86_ud(c);
	x86_raise(c, VEC_NM, 0);
}

/* Run a copy of the instruction, its memory operand being `mem`. */
static void
run_at(struct cpu *c, const struct insn *in, void *mem)
{
	static __thread struct tr tr;
	static __thread unsigned turn;
	struct tr *t = &tr;
	uint8_t *start = jit.scratch +
	    (c->index * SCRATCH_N + turn++ % SCRATCH_N) * SCRATCH_SIZE;

	t->c = c;
	t->mode = c->mode;
	t->e = (struct emit){ .p = start, .end = start + SCRATCH_SIZE,
		.rx = jit.rx_off };
	t->i = 0;
	t->off[0] = 0;
	t->live[0] = FL_STATUS;
	t->ncold = 0;
	t->bounce = mem;
	copy_insn(t, in);
	e_jmp_to(&t->e, stub_leave);
	c->ripbase = c->rip;
	calls_nested(c, start + jit.rx_off);
}

/* --------------------------------------------------- masked vector accesses */

static uint32_t
xmm_lane(struct cpu *c, unsigned reg, unsigned lane32)
{
	/* XSAVE area: XMM at 160, YMM high halves at 576 (SDM 1, 13.4) */
	const uint32_t *p = (const uint32_t *)(c->xsave.b +
	    (lane32 < 4 ? 160 : 576) + reg * 16);

	return p[lane32 & 3];
}

static void
xmm_set_lane(struct cpu *c, unsigned reg, unsigned lane32, uint32_t v)
{
	uint32_t *p = (uint32_t *)(c->xsave.b + (lane32 < 4 ? 160 : 576) +
	    reg * 16);

	p[lane32 & 3] = v;
	*(uint64_t *)(c->xsave.b + 512) |= 7;	/* XSTATE_BV */
}

static void
xmm_zero_high(struct cpu *c, unsigned reg, unsigned from32)
{
	for (; from32 < 8; from32++)
		xmm_set_lane(c, reg, from32, 0);
}

/* VGATHER*, VPGATHER* (SDM 2: faults leave finished elements done). */
static void
gather(struct cpu *c, const struct insn *in, unsigned ixsize, unsigned elsize)
{
	const struct operand *m = &in->op[1];
	unsigned dst = in->op[0].reg, mask = in->op[2].reg, i, n, w;
	unsigned vl = in->op[0].size > in->op[2].size ? in->op[0].size :
	    in->op[2].size;
	struct operand b = *m;
	uint64_t base, lin, v;
	int64_t ix;

	n = vl / elsize;
	if (ixsize == 8 && elsize == 4) {
		/* both registers are XMM: VEX.L tells */
		for (i = 0; in->raw[i] != 0xc4; i++)
			;
		n = in->raw[i + 2] & 4 ? 4 : 2;
	} else if (ixsize == 4 && elsize == 8)
		n = vl / 8;
	b.index = 0xff;
	base = x86_ea(c, in, &b);
	cpu_fpu_flush(c);
	w = elsize / 4;
	for (i = 0; i < n; i++) {
		if (!(xmm_lane(c, mask, i * w + w - 1) >> 31))
			goto done;
		ix = ixsize == 4 ? (int32_t)xmm_lane(c, m->index, i) :
		    (int64_t)(xmm_lane(c, m->index, 2 * i) |
		    (uint64_t)xmm_lane(c, m->index, 2 * i + 1) << 32);
		lin = base + (uint64_t)ix * (m->scale ? m->scale : 1);
		if (in->addrsize == 4)
			lin = (uint32_t)lin;
		lin = x86_linear(c, m->seg, lin, elsize, ACC_READ);
		v = x86_ld(c, lin, elsize, MODE_MMU(c->mode));
		cpu_fpu_flush(c);
		xmm_set_lane(c, dst, i * w, (uint32_t)v);
		if (w == 2)
			xmm_set_lane(c, dst, i * 2 + 1, (uint32_t)(v >> 32));
done:
		xmm_set_lane(c, mask, i * w, 0);
		if (w == 2)
			xmm_set_lane(c, mask, i * 2 + 1, 0);
	}
	for (i = 0; i < 8; i++)
		xmm_set_lane(c, mask, i, 0);
	xmm_zero_high(c, dst, n * w);
}

/* VMASKMOV, VPMASKMOV: op0 <- mask op1, op2 */
static void
maskmov(struct cpu *c, const struct insn *in, unsigned elsize)
{
	bool store = in->op[0].type == OP_MEM;
	const struct operand *m = &in->op[store ? 0 : 2];
	unsigned mask = in->op[1].reg, reg = in->op[store ? 2 : 0].reg;
	unsigned w = elsize / 4, n = m->size / elsize, i;
	uint64_t ea = x86_ea(c, in, m), v[8], lin;

	cpu_fpu_flush(c);
	for (i = 0; i < n; i++) {
		v[i] = 0;
		if (!(xmm_lane(c, mask, i * w + w - 1) >> 31))
			continue;
		lin = x86_linear(c, m->seg, ea + i * elsize, elsize,
		    store ? ACC_WRITE : ACC_READ);
		if (store)
			x86_probe(c, lin, elsize, ACC_WRITE, MODE_MMU(c->mode));
		else
			v[i] = x86_ld(c, lin, elsize, MODE_MMU(c->mode));
	}
	cpu_fpu_flush(c);
	for (i = 0; i < n; i++) {
		if (store) {
			if (!(xmm_lane(c, mask, i * w + w - 1) >> 31))
				continue;
			v[i] = xmm_lane(c, reg, i * w);
			if (w == 2)
				v[i] |= (uint64_t)xmm_lane(c, reg, 2 * i + 1)
				    << 32;
			lin = x86_linear(c, m->seg, ea + i * elsize, elsize,
			    ACC_WRITE);
			x86_st(c, lin, elsize, v[i], MODE_MMU(c->mode));
		} else {
			xmm_set_lane(c, reg, i * w, (uint32_t)v[i]);
			if (w == 2)
				xmm_set_lane(c, reg, i * 2 + 1,
				    (uint32_t)(v[i] >> 32));
		}
	}
	if (!store)
		xmm_zero_high(c, reg, n * w);
}

/* MASKMOVQ, MASKMOVDQU: bytes of op0 where op1 says so, to [rdi] */
static void
maskmovdqu(struct cpu *c, const struct insn *in)
{
	bool mmx = in->op[0].type == OP_MMX;
	unsigned i, n = mmx ? 8 : 16, seg = string_seg(c, in);
	unsigned mmu = MODE_MMU(c->mode);
	const uint8_t *src, *mask;
	uint64_t di = c->gpr[RDI], lin[16];

	if (mmx) {
		/* as before any MMX instruction: #MF, and TOP becomes 0 */
		static const uint8_t store_mm0[] = { 0x0f, 0x7f, 0x07 };
		struct insn store;

		cpu_fpu_flush(c);
		x86_decode(c->mode, store_mm0, 3, &store);
		run_at(c, &store, c->bounce);
	}
	cpu_fpu_flush(c);
	/* MMX registers are ST mantissas at 32 + 16 n */
	src = c->xsave.b + (mmx ? 32 : 160) + in->op[0].reg * 16;
	mask = c->xsave.b + (mmx ? 32 : 160) + in->op[1].reg * 16;
	if (in->addrsize < 8)
		di = in->addrsize == 4 ? (uint32_t)di : (uint16_t)di;
	for (i = 0; i < n; i++) {
		if (!(mask[i] & 0x80))
			continue;
		lin[i] = x86_linear(c, seg, di + i, 1, ACC_WRITE);
		x86_probe(c, lin[i], 1, ACC_WRITE, mmu);
	}
	for (i = 0; i < n; i++)
		if (mask[i] & 0x80)
			x86_st(c, lin[i], 1, src[i], mmu);
}

/* VZEROALL, VZEROUPPER on registers 0-7: 16- and 32-bit code (SDM 2C) */
static void
vzero(struct cpu *c, unsigned from32)
{
	unsigned r;

	cpu_fpu_flush(c);
	for (r = 0; r < 8; r++)
		xmm_zero_high(c, r, from32);
}

/* Vector instructions of more than one access, or of other registers. */
static bool
exec_vector(struct cpu *c, const struct insn *in)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_VGATHERDPD: case ZYDIS_MNEMONIC_VPGATHERDQ:
		gather(c, in, 4, 8);
		return true;
	case ZYDIS_MNEMONIC_VGATHERDPS: case ZYDIS_MNEMONIC_VPGATHERDD:
		gather(c, in, 4, 4);
		return true;
	case ZYDIS_MNEMONIC_VGATHERQPD: case ZYDIS_MNEMONIC_VPGATHERQQ:
		gather(c, in, 8, 8);
		return true;
	case ZYDIS_MNEMONIC_VGATHERQPS: case ZYDIS_MNEMONIC_VPGATHERQD:
		gather(c, in, 8, 4);
		return true;
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VPMASKMOVD:
		maskmov(c, in, 4);
		return true;
	case ZYDIS_MNEMONIC_VMASKMOVPD: case ZYDIS_MNEMONIC_VPMASKMOVQ:
		maskmov(c, in, 8);
		return true;
	case ZYDIS_MNEMONIC_MASKMOVQ: case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		maskmovdqu(c, in);
		return true;
	case ZYDIS_MNEMONIC_VZEROALL:
		vzero(c, 0);
		return true;
	case ZYDIS_MNEMONIC_VZEROUPPER:
		vzero(c, 4);
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ native */

/* A locked read-modify-write that is done in several steps: nobody else is at
 * work until jit_unlock(). */
static bool
lock_bus(struct cpu *c, const struct insn *in, const struct operand *m)
{
	if (machine.ncpu == 1 || (m->act & 3) != 3 ||
	    !(in->lock || in->mnem == ZYDIS_MNEMONIC_XCHG))
		return false;
	jit_lock(c);
	jit_exclusive(c);
	return true;
}

/*
 * BT, BTS, BTR, BTC on memory with the bit number in a register, which moves
 * the operand by any distance (SDM 2).  Always atomic where it is RAM.
 */
static bool
bit_string(struct cpu *c, const struct insn *in)
{
	const struct operand *m = &in->op[0];
	unsigned size = in->opsize, mmu = MODE_MMU(c->mode), bit;
	bool rd = in->mnem == ZYDIS_MNEMONIC_BT, old, locked;
	int acc = rd ? ACC_READ : ACC_WRITE;
	uint64_t lin, ea, mask, v;
	uint8_t *p;
	int64_t n;

	if ((!rd && in->mnem != ZYDIS_MNEMONIC_BTS &&
	    in->mnem != ZYDIS_MNEMONIC_BTR && in->mnem != ZYDIS_MNEMONIC_BTC) ||
	    m->type != OP_MEM || in->op[1].type != OP_REG)
		return false;
	n = (int64_t)c->gpr[in->op[1].reg];
	n = size == 2 ? (int16_t)n : size == 4 ? (int32_t)n : n;
	bit = (unsigned)n & (size * 8 - 1);
	ea = x86_ea(c, in, m) + (uint64_t)((n - (int64_t)bit) / 8);
	if (in->addrsize < 8)
		ea &= in->addrsize == 4 ? 0xffffffffull : 0xffffull;
	lin = x86_linear(c, m->seg, ea, size, acc);
	/* one byte holds the bit: no crossing to think of for RAM */
	p = (lin & 0xfff) + size <= 4096 ? x86_host(c, lin, acc, mmu) : NULL;
	mask = 1ull << bit;
	if (p) {
		uint8_t *q = p + bit / 8, b = (uint8_t)(1u << (bit & 7)), o;

		if (rd)
			o = *(volatile uint8_t *)q;
		else if (in->mnem == ZYDIS_MNEMONIC_BTS)
			o = __atomic_fetch_or(q, b, __ATOMIC_SEQ_CST);
		else if (in->mnem == ZYDIS_MNEMONIC_BTR)
			o = __atomic_fetch_and(q, (uint8_t)~b, __ATOMIC_SEQ_CST);
		else
			o = __atomic_fetch_xor(q, b, __ATOMIC_SEQ_CST);
		old = o & b;
	} else {
		if (!rd)
			x86_probe(c, lin, size, ACC_WRITE, mmu);
		locked = lock_bus(c, in, m);
		v = x86_ld(c, lin, size, mmu);
		old = v & mask;
		if (in->mnem == ZYDIS_MNEMONIC_BTS)
			v |= mask;
		else if (in->mnem == ZYDIS_MNEMONIC_BTR)
			v &= ~mask;
		else
			v ^= mask;
		if (!rd)
			x86_st(c, lin, size, v, mmu);
		if (locked)
			jit_unlock(c);
	}
	c->eflags = old ? c->eflags | FL_CF : c->eflags & ~(uint64_t)FL_CF;
	return true;
}

static void
native(struct cpu *c, const struct insn *in)
{
	const struct operand *m = NULL;
	unsigned i, mmu = MODE_MMU(c->mode), size, acc;
	uint64_t ea, lin;
	uint8_t *p, *buf;
	bool locked;

	if (in->mnem != ZYDIS_MNEMONIC_LEA)
		for (i = 0; i < in->nop; i++)
			if (in->op[i].type == OP_MEM)
				m = &in->op[i];
	if (!m) {
		run_at(c, in, NULL);
		goto done;
	}
	size = m->size ? m->size : 1;
	acc = m->act & 2 ? ACC_WRITE : ACC_READ;
	ea = x86_ea(c, in, m);
	if (in->addrsize < 8)
		ea &= in->addrsize == 4 ? 0xffffffffull : 0xffffull;
	lin = x86_linear(c, m->seg, ea, size, (int)acc);
	if ((lin & 0xfff) + size <= 4096 &&
	    (p = x86_host(c, lin, (int)acc, mmu)) != NULL) {
		run_at(c, in, p);
		goto done;
	}
	/* the bounce keeps the operand's alignment */
	buf = (uint8_t *)c->bounce + (lin & 63);
	if (acc == ACC_WRITE)
		x86_probe(c, lin, size, ACC_WRITE, mmu);
	locked = lock_bus(c, in, m);
	/* an x87 store does not store if it raises an unmasked exception */
	if (m->act & 1 || !(m->act & 2) ||
	    (in->opcode >= 0xd8 && in->opcode <= 0xdf)) {
		if (size <= 8 && !(size & (size - 1))) {
			uint64_t v = x86_ld(c, lin, size, mmu);

			for (i = 0; i < size; i++)
				buf[i] = (uint8_t)(v >> 8 * i);
		} else
			x86_ld_bytes(c, lin, buf, size, mmu);
	}
	run_at(c, in, buf);
	if (acc == ACC_WRITE) {
		if (size <= 8 && !(size & (size - 1))) {
			uint64_t v = 0;

			for (i = 0; i < size; i++)
				v |= (uint64_t)buf[i] << 8 * i;
			x86_st(c, lin, size, v, mmu);
		} else
			x86_st_bytes(c, lin, buf, size, mmu);
	}
	if (locked)
		jit_unlock(c);
done:
	c->rip = (c->rip + in->len) & rip_mask(c);
}

void
x86_run_insn(struct cpu *c, const struct insn *in)
{
	uint64_t next = (c->rip + in->len) & rip_mask(c);

	if (!x86_allowed(c, in))
		x86_ud(c);
	if (!fpu_usable(c->mode, in))
		fpu_fault(c, in);
	switch (insn_class(c->mode, in)) {
	case CL_NOTHING:
		c->rip = next;
		return;
	case CL_COPY:
		native(c, in);
		return;
	default:
		break;
	}
	if (exec_vector(c, in) || bit_string(c, in)) {
		c->rip = next;
		return;
	}
	if (!x86_exec(c, in))
		native(c, in);
}

void
x86_step(struct cpu *c)
{
	struct insn in;

	cpu_fpu_flush(c);		/* the decoder may use vector registers */
	x86_fetch(c, &in);
	x86_run_insn(c, &in);
}

/* ------------------------------------------------------- behind the stubs */

static void
take_flags(struct cpu *c)
{
	c->eflags = (c->eflags & ~(uint64_t)FL_STATUS) |
	    (c->save[1] & FL_STATUS);
}

static void
take_lazy(struct cpu *c)
{
	c->eflags = (c->eflags & ~(uint64_t)FL_STATUS) |
	    flags_decode(c->lazy);
}

/*
 * A memory access whose page is not in the TLB.  Returns to try again when it
 * is now; a write beside code goes ahead this once; a group of accesses is not
 * one any more; otherwise the whole instruction is done in C, and we leave.
 */
uint64_t
jit_miss(struct cpu *c, uint64_t linear, const void *ret, unsigned how)
{
	unsigned set = how & 15, acc = how >> 4 & 1, size = how >> 8 & 0xff;
	uint64_t lost = c->n_lost;
	bool group = how & MISS_GROUP, fits = false, paged = false;
	struct block *b;
	struct tlbe *t;
	struct walk w;
	uint8_t *p;

	if (how & MISS_SAMPLE) {
		c->n_refill += 256;
		b = block_of(ret);
		profile_refilled(c, b, (unsigned)block_guest(b, ret));
		return 0;
	}
	c->n_miss++;
	if ((int64_t)(linear << 16) >> 16 == (int64_t)linear &&
	    (linear & 0xfff) + size <= 4096) {
		paged = x86_walk(c, linear, (int)acc, set, &w) == 0;
		if (paged)
			tlb_fill(c, linear, (int)acc, set, &w);
		t = &c->tlb[set][acc][linear >> 12 & (TLB_N - 1)];
		if (t->tag == (linear & ~0xfffull) && c->n_lost == lost) {
			c->save[1] |= 2;
			return 0;
		}
		fits = true;
	}
	b = block_of(ret);
	c->rip = (c->ripbase + (uint64_t)block_guest(b, ret)) &
	    rip_mask(c);
	if (how & MISS_LAZY)
		take_lazy(c);
	else
		take_flags(c);
	if (c->n_lost != lost)
		cpu_exit_loop(c);
	if (fits && !paged) {
		/* a group's address is not the one that faults */
		if (group)
			goto step;
		x86_pf(c, linear, w.err);
	}
	if (fits && acc == ACC_WRITE && !group &&
	    (p = code_beside(c, w.gpa, size)))
		return (uint64_t)p - linear;
	if (group) {
		if (fits || profile_crossed(c, b, (unsigned)block_guest(b, ret)))
			profile_no_group(c, b, (unsigned)block_guest(b, ret));
		else
			c->split = c->rip;
		cpu_exit_loop(c);
	}
step:
	c->n_io++;
	x86_step(c);
	cpu_exit_loop(c);
}

/* An instruction executed in C from inside a block. */
void
jit_helper(struct cpu *c, const struct insn *in)
{
	uint64_t next = (c->rip + in->len) & rip_mask(c);
	uint64_t fl, killed = jit.n_killed, ripbase = c->ripbase;
	uint32_t mode = c->mode;

	take_flags(c);
	fl = c->eflags;
	c->n_helper++;
	c->n_mnem[in->mnem]++;
	x86_run_insn(c, in);
	if (c->rip != next || c->mode != mode || c->req || c->halted ||
	    c->shadow || jit.n_killed != killed ||
	    (c->eflags & ~fl & FL_IF))
		cpu_exit_loop(c);
	c->save[1] = (c->eflags & FL_STATUS) | 2;
	c->ripbase = ripbase;		/* native() uses it */
	if (!c->xlive)
		cpu_fpu_load(c);
}

/* The same for the last of a block; where to go on. */
const uint8_t *
jit_end(struct cpu *c, const struct insn *in)
{
	uint64_t fl;

	take_flags(c);
	fl = c->eflags;
	c->n_helper++;
	c->n_mnem[in->mnem]++;
	x86_run_insn(c, in);
	if (c->eflags & ~fl & FL_IF && irq_ready(c))
		cpu_exit_loop(c);
	return jit_next(c);
}

/* A target that is not in the jump cache. */
const uint8_t *
jit_find(struct cpu *c)
{
	take_lazy(c);
	return jit_next(c);
}
