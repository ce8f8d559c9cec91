/*
 * lift.c - make one translation block.
 *
 * Decode until control leaves, the page ends or the block is full; find which
 * status flags are live before each instruction (looking past the block's end
 * along direct jumps in the same page); then emit.  Bytes looked at belong to
 * the block: a write to them drops it.
 */
#include <Zydis/Zydis.h>
#include <string.h>

#include "jit.h"

/* Instructions executed in C; those after which the block ends. */
static enum class
special(uint16_t m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_AAA: case ZYDIS_MNEMONIC_AAD:
	case ZYDIS_MNEMONIC_AAM: case ZYDIS_MNEMONIC_AAS:
	case ZYDIS_MNEMONIC_DAA: case ZYDIS_MNEMONIC_DAS:
	case ZYDIS_MNEMONIC_SALC: case ZYDIS_MNEMONIC_BOUND:
	case ZYDIS_MNEMONIC_ARPL: case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD: case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD: case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD: case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD: case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_IN: case ZYDIS_MNEMONIC_OUT:
	case ZYDIS_MNEMONIC_INSB: case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD: case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW: case ZYDIS_MNEMONIC_OUTSD:
	case ZYDIS_MNEMONIC_LAR: case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_SGDT: case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT: case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW: case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW: case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW: case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ: case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW: case ZYDIS_MNEMONIC_MOVSQ:
	case ZYDIS_MNEMONIC_STOSB: case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD: case ZYDIS_MNEMONIC_STOSQ:
	case ZYDIS_MNEMONIC_SCASB: case ZYDIS_MNEMONIC_SCASW:
	case ZYDIS_MNEMONIC_SCASD: case ZYDIS_MNEMONIC_SCASQ:
	case ZYDIS_MNEMONIC_CMPSB: case ZYDIS_MNEMONIC_CMPSW:
	case ZYDIS_MNEMONIC_CMPSQ: case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_RDPMC: case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP: case ZYDIS_MNEMONIC_RDPID:
	case ZYDIS_MNEMONIC_XGETBV: case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64: case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64: case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64: case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64: case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64: case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64: case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64: case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64: case ZYDIS_MNEMONIC_XLAT:
	case ZYDIS_MNEMONIC_RDFSBASE: case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_MASKMOVDQU: case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_VMASKMOVDQU: case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD: case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ: case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VGATHERDPS: case ZYDIS_MNEMONIC_VGATHERQPD:
	case ZYDIS_MNEMONIC_VGATHERQPS: case ZYDIS_MNEMONIC_VPGATHERDD:
	case ZYDIS_MNEMONIC_VPGATHERDQ: case ZYDIS_MNEMONIC_VPGATHERQD:
	case ZYDIS_MNEMONIC_VPGATHERQQ: case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED: case ZYDIS_MNEMONIC_CLTS:
	case ZYDIS_MNEMONIC_SWAPGS: case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE: case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_LOOPE: case ZYDIS_MNEMONIC_LOOPNE:
	case ZYDIS_MNEMONIC_STI:
		return CL_HELPER;
	case ZYDIS_MNEMONIC_CLAC: case ZYDIS_MNEMONIC_STAC:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD: case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_HLT: case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INT1: case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_INTO: case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD: case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_INVD: case ZYDIS_MNEMONIC_INVLPG:
	case ZYDIS_MNEMONIC_INVPCID: case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES: case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS: case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LGDT: case ZYDIS_MNEMONIC_LIDT:
	case ZYDIS_MNEMONIC_LLDT: case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_LMSW: case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MWAIT: case ZYDIS_MNEMONIC_RSM:
	case ZYDIS_MNEMONIC_SYSCALL: case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSEXIT: case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_UD0: case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2: case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_VMCALL: case ZYDIS_MNEMONIC_VMMCALL:
		return CL_END;
	case ZYDIS_MNEMONIC_NOP: case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_ENDBR64: case ZYDIS_MNEMONIC_PREFETCH:
	case ZYDIS_MNEMONIC_PREFETCHNTA: case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1: case ZYDIS_MNEMONIC_PREFETCHT2:
	case ZYDIS_MNEMONIC_PREFETCHW: case ZYDIS_MNEMONIC_PREFETCHWT1: case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT: case ZYDIS_MNEMONIC_CLWB:
		return CL_NOTHING;
	case ZYDIS_MNEMONIC_PAUSE:	/* somebody may be waited for */
		return machine.ncpu > 1 ? CL_HELPER : CL_COPY;
	case ZYDIS_MNEMONIC_CLI:
		return CL_CLI;
	case ZYDIS_MNEMONIC_PUSH: case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_LEAVE:
		return CL_STACK;
	case ZYDIS_MNEMONIC_JMP: case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_RET: case ZYDIS_MNEMONIC_LOOP:
	case ZYDIS_MNEMONIC_JCXZ: case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
	case ZYDIS_MNEMONIC_JO: case ZYDIS_MNEMONIC_JNO:
	case ZYDIS_MNEMONIC_JB: case ZYDIS_MNEMONIC_JNB:
	case ZYDIS_MNEMONIC_JZ: case ZYDIS_MNEMONIC_JNZ:
	case ZYDIS_MNEMONIC_JBE: case ZYDIS_MNEMONIC_JNBE:
	case ZYDIS_MNEMONIC_JS: case ZYDIS_MNEMONIC_JNS:
	case ZYDIS_MNEMONIC_JP: case ZYDIS_MNEMONIC_JNP:
	case ZYDIS_MNEMONIC_JL: case ZYDIS_MNEMONIC_JNL:
	case ZYDIS_MNEMONIC_JLE: case ZYDIS_MNEMONIC_JNLE:
		return CL_BRANCH;
	}
	return CL_COPY;
}

enum class
insn_class(uint32_t mode, const struct insn *in)
{
	enum class k = special(in->mnem);
	bool mem = false;
	unsigned i;

	for (i = 0; i < in->nop; i++) {
		switch (in->op[i].type) {
		case OP_SREG:
			/* loads of SS hold off interrupts; any load changes
			 * the mode or the limits emitted code relies on */
			return in->op[i].act & 2 ? CL_END : CL_HELPER;
		case OP_CR:
		case OP_DR:
			return CL_END;
		case OP_PTR:
			return CL_END;
		case OP_MEM:
			mem = true;
		}
	}
	/* A4-A7: movsd and cmpsd are also SSE mnemonics */
	if ((in->mnem == ZYDIS_MNEMONIC_MOVSD ||
	    in->mnem == ZYDIS_MNEMONIC_CMPSD) &&
	    (in->opcode == 0xa5 || in->opcode == 0xa7))
		return CL_HELPER;
	/* far returns and far jumps through memory share the mnemonics */
	if (k == CL_BRANCH && (in->opcode == 0xca || in->opcode == 0xcb ||
	    (in->op[0].type == OP_MEM && in->op[0].size > in->opsize)))
		return CL_END;
	if (k != CL_COPY)
		return k;
	if (!fpu_usable(mode, in))
		return CL_END;
	/* of eight registers only, outside 64-bit code */
	if ((mode & M_SIZE) != M_64 && (in->mnem == ZYDIS_MNEMONIC_VZEROALL ||
	    in->mnem == ZYDIS_MNEMONIC_VZEROUPPER))
		return CL_HELPER;
	/* bit string forms reach beyond the operand */
	if (mem && in->nop > 1 && in->op[1].type == OP_REG &&
	    (in->mnem == ZYDIS_MNEMONIC_BT || in->mnem == ZYDIS_MNEMONIC_BTS ||
	    in->mnem == ZYDIS_MNEMONIC_BTR || in->mnem == ZYDIS_MNEMONIC_BTC))
		return CL_HELPER;
	return CL_COPY;
}

/* Flags an instruction certainly replaces. */
uint16_t
kills(const struct insn *in)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR: case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD: case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR: {
		const struct operand *o = &in->op[in->nop - 1];

		/* a count of zero leaves all, of more than one may leave OF */
		if (o->type != OP_IMM || (o->disp & 0x1f) == 0)
			return 0;
		return in->fl_write & ~FL_OF & ~FL_AF;
	}
	}
	return in->fl_write;
}

/* Are flags read before they are written, from page offset `off` on? */
static uint16_t
look_ahead(struct tr *t, unsigned off, uint16_t want, int budget)
{
	struct insn in;
	uint16_t live = 0;
	enum class k;
	int n;

	while (want && budget-- > 0) {
		if (off > 4095)
			return live | want;
		n = x86_decode(t->mode, t->page + off, 4096 - off, &in);
		if (n <= 0)
			return live | want;
		if (off < t->lo)
			t->lo = off;
		if (off + (unsigned)n > t->hi)
			t->hi = off + (unsigned)n;
		k = insn_class(t->mode, &in);
		if (k == CL_HELPER || k == CL_END || k == CL_CLI)
			return live | want;
		live |= in.fl_read & want;
		want &= ~in.fl_read;
		if (k == CL_BRANCH) {
			int64_t d;

			if (in.mnem != ZYDIS_MNEMONIC_JMP ||
			    in.op[0].type != OP_IMM)
				return live | want;
			d = (int64_t)off + n + in.op[0].disp;
			if (d < 0 || d > 4095)
				return live | want;
			off = (unsigned)d;
			continue;
		}
		want &= ~kills(&in);
		off += (unsigned)n;
	}
	return live | want;
}

/* Page offset the direct jump i goes to. */
static int64_t
target(const struct tr *t, int i)
{
	return t->off[i] + t->in[i].len + t->in[i].op[0].disp;
}

/* Flags live where the direct jump i goes. */
static uint16_t
live_target(struct tr *t, int i, uint16_t want)
{
	int64_t to = target(t, i);

	if (t->to[i])
		return t->live[t->to[i]];
	return to < 0 || to > 4095 || !jit_on.liveness ? want :
	    look_ahead(t, (unsigned)to, want, 6);
}

/* May control go on behind it? */
static bool
falls(uint16_t mnem)
{
	return mnem != ZYDIS_MNEMONIC_JMP && mnem != ZYDIS_MNEMONIC_CALL &&
	    mnem != ZYDIS_MNEMONIC_RET;
}

static void
liveness(struct tr *t)
{
	const struct insn *last = &t->in[t->n - 1];
	uint16_t live = FL_STATUS;
	enum class k;
	int i;

	if (jit_on.liveness && (insn_class(t->mode, last) != CL_BRANCH ||
	    falls(last->mnem)))
		live = look_ahead(t, t->off[t->n], FL_STATUS, 6);
	t->live[t->n] = t->after[t->n] = live;
	t->b->live_out = live;
	for (i = t->n - 1; i >= 0; i--) {
		const struct insn *in = &t->in[i];

		k = insn_class(t->mode, in);
		if (k == CL_BRANCH) {
			if (!falls(in->mnem))
				live = 0;
			if (in->op[0].type != OP_IMM ||
			    in->mnem == ZYDIS_MNEMONIC_RET)
				live = FL_STATUS;
			else
				live |= live_target(t, i, FL_STATUS & ~live);
			t->b->live_out &= live;
		}
		t->after[i] = jit_on.liveness ? live : FL_STATUS;
		if (k == CL_HELPER || k == CL_END || k == CL_CLI)
			live = FL_STATUS;
		else
			live = (uint16_t)((live & ~kills(in)) | in->fl_read);
		t->live[i] = jit_on.liveness ? live : FL_STATUS;
	}
}

const struct insn *
keep(const struct insn *in)
{
	struct insn *k = &jit.ins[jit.nins++];

	*k = *in;
	return k;
}

void
emit_one(struct tr *t, const struct insn *in)
{
	unsigned i;

	switch (insn_class(t->mode, in)) {
	case CL_NOTHING:
		return;
	case CL_CLI:
		if (!inline_insn(t, in))
			emit_helper(t, keep(in), true);
		return;
	case CL_STACK:
		if (!stack_insn(t, in))
			emit_helper(t, keep(in), false);
		return;
	case CL_BRANCH:
		if (!branch_insn(t, in))
			emit_helper(t, keep(in), true);
		return;
	case CL_END:
		if (!inline_insn(t, in))
			emit_helper(t, keep(in), true);
		return;
	case CL_HELPER:
		if (!inline_insn(t, in))
			emit_helper(t, keep(in), false);
		return;
	case CL_COPY:
		break;
	}
	if (in->mnem != ZYDIS_MNEMONIC_LEA)
		for (i = 0; i < in->nop; i++)
			if (in->op[i].type == OP_MEM &&
			    !site_possible(t, in, &in->op[i])) {
				emit_helper(t, keep(in), false);
				return;
			}
	copy_insn(t, in);
}

/*
 * A block goes on behind conditional jumps forward, and wherever one of its own
 * jumps goes: it may be a whole small function.
 */
static bool
ends(const struct tr *t, unsigned next)
{
	const struct insn *in = &t->in[t->n - 1];
	enum class k = insn_class(t->mode, in);
	int i;

	if (k != CL_BRANCH && k != CL_END)
		return false;
	if (!jit_on.regions)
		return true;
	if (in->mnem != ZYDIS_MNEMONIC_JMP && branch_direct(t->mode, in) &&
	    in->op[0].disp > 0)
		return false;
	for (i = 0; i < t->n; i++)
		if (branch_direct(t->mode, &t->in[i]) && target(t, i) == next)
			return false;
	return true;
}

/* Find the jumps that stay inside. */
static void
joins(struct tr *t)
{
	int64_t to;
	int i, k;

	for (i = 0; i < t->n; i++) {
		t->join[i] = false;
		t->to[i] = 0;
	}
	for (i = 0; i < t->n; i++) {
		if (!branch_direct(t->mode, &t->in[i]))
			continue;
		to = target(t, i);
		for (k = i + 1; k < t->n && t->off[k] < to; k++)
			;
		if (k < t->n && t->off[k] == to) {
			t->to[i] = (uint8_t)k;
			t->join[k] = true;
		}
	}
}

/*
 * Before instruction t->i: jumps come here, with the flags in the host's.  If
 * control does not reach it from above, it is again the block's way.
 */
static void
join(struct tr *t)
{
	int i;

	if (!t->ended && t->saved && tr_live(t))
		flags_get(&t->e);
	t->saved = t->ended = false;
	for (i = 0; i < t->nfix; i++)
		if (t->fix[i].to == t->i)
			e_patch(t->fix[i].rel, t->e.p);
}

static void
begin(struct tr *t, struct cpu *c, uint64_t gpa, const uint8_t *page)
{
	static struct insn insns[BLOCK_INSNS];
	static uint8_t copy[4096];

	c->n_translate++;
	/* others may be storing to it until it is protected: see settled() */
	if (machine.ncpu > 1)
		page = memcpy(copy, page, sizeof(copy));
	t->c = c;
	t->mode = c->mode;
	t->set = MODE_MMU(c->mode);
	t->page = page;
	t->in = insns;
	t->n = t->ncold = t->nfix = 0;
	t->lo = gpa & 0xfff;
	t->bounce = NULL;
	t->ended = t->saved = t->fixed = t->in_cold = false;
}

void
note_pc(struct tr *t)
{
	uint16_t guest = (uint16_t)(t->off[t->i] | (t->saved ? PC_LAZY : 0));

	if (t->in_cold)
		note_cold(t, guest);
	else
		t->b->pc[t->b->npc++] = (struct pcmap){
			(uint16_t)(t->e.p - t->b->host), guest };
}

void
note_cold(struct tr *t, uint16_t guest)
{
	t->b->pc[t->b->npc++] = (struct pcmap){
		(uint16_t)(PC_COLD | (t->e.p - t->b->cold)), guest };
}

/* Does something that was emitted jump to instruction t->i? */
static bool
reached(const struct tr *t)
{
	int i;

	for (i = 0; i < t->nfix; i++)
		if (t->fix[i].to == t->i)
			return true;
	return false;
}

/* Emit what has been decoded; page offset `off` is behind it. */
static void
finish(struct tr *t, uint64_t gpa, unsigned off, uint32_t mode)
{
	int run;

	t->off[t->n] = (uint16_t)off;
	t->hi = off;
	t->b = block_new(gpa, mode);
	t->b->busy = profile_busy(t->b);
	joins(t);
	liveness(t);
	groups_find(t, mode & MODE_SPLIT);
	t->e = (struct emit){ .p = t->b->host, .end = t->b->host + BLOCK_ROOM,
		.rx = jit.rx_off };
	t->b->entry = t->e.p;
	if (t->live[0])
		flags_get(&t->e);
	t->b->host = t->e.p;
	for (t->i = 0; t->i < t->n; t->i++) {
		if (t->ended && !reached(t))
			continue;
		if (t->join[t->i])
			join(t);
		flags_sync(t);
		note_pc(t);
		run = stack_run(t);
		if (run)
			t->i += run - 1;
		else
			emit_one(t, &t->in[t->i]);
	}
	if (!t->ended) {
		/* a linked jump passes them in the host's */
		if (t->saved && t->live[t->n] && off < 4096) {
			flags_get(&t->e);
			t->saved = false;
		}
		emit_exit(t, (int32_t)off, EXIT_LINK);
	}
	while (t->e.p - t->b->host < BLOCK_MIN)
		e8(&t->e, 0xcc);
	t->b->host_len = (uint32_t)(t->e.p - t->b->host);
	t->e.p = t->b->cold;
	t->e.end = t->b->cold + BLOCK_ROOM;
	t->in_cold = true;
	emit_cold(t);
	t->b->link = t->b->host;
	t->b->lazy = t->b->entry;
	if (mode & MODE_CROSS) {
		t->b->link = t->e.p;
		flags_put(&t->e);
		t->b->lazy = t->e.p;
		t->saved = true;
		emit_far(t, (int32_t)(gpa & 0xfff));
	}
	t->b->cold_len = (uint32_t)(t->e.p - t->b->cold);
	t->b->ninsn = (uint16_t)t->n;
	t->b->lo = (uint16_t)t->lo;
	t->b->hi = (uint16_t)t->hi;
	jit.guest_bytes += off - (gpa & 0xfff);
	block_commit(t->b);
	block_protect(t->c, gpa);
	perfmap_block(t->b, t->c->rip + (rip32(t) ? t->c->seg[CS].base : 0));
}

/* The new block, unless what it was made from has changed before stores to it
 * were caught. */
static struct block *
settled(struct tr *t, const uint8_t *page)
{
	unsigned hi = t->hi > 4096 ? 4096 : t->hi;

	if (memcmp(t->page + t->lo, page + t->lo, hi - t->lo) == 0)
		return t->b;
	block_drop(t->c, t->b);
	return NULL;
}

/*
 * Translate the block at guest-physical `gpa`, whose page is readable at
 * `page`.  NULL: the first instruction does not decode, crosses the page or is
 * being changed; the caller executes it by x86_step().
 */
struct block *
lift(struct cpu *c, uint64_t gpa, const uint8_t *page, uint32_t mode)
{
	static struct tr tr;
	struct tr *t = &tr;
	unsigned off = gpa & 0xfff;
	int n;

	begin(t, c, gpa, page);
	while (t->n < BLOCK_INSNS && off < 4096) {
		n = x86_decode(c->mode, t->page + off, 4096 - off,
		    &t->in[t->n]);
		if (n <= 0 || !x86_allowed(c, &t->in[t->n]))
			break;
		t->off[t->n++] = (uint16_t)off;
		off += (unsigned)n;
		if (ends(t, off))
			break;
	}
	if (t->n == 0)
		return NULL;
	finish(t, gpa, off, mode);
	return settled(t, page);
}

/* The same for the one instruction at gpa, which goes on in page gpa2. */
struct block *
lift_crossing(struct cpu *c, uint64_t gpa, const uint8_t *page, uint64_t gpa2,
    const uint8_t *page2)
{
	static struct tr tr;
	struct tr *t = &tr;
	unsigned off = gpa & 0xfff, n = 4096 - off;
	uint8_t buf[15];
	int len;

	begin(t, c, gpa, page);
	memcpy(buf, t->page + off, n);
	memcpy(buf + n, page2, 15 - n);
	len = x86_decode(c->mode, buf, 15, &t->in[0]);
	if (len <= (int)n || !x86_allowed(c, &t->in[0]))
		return NULL;
	t->off[0] = (uint16_t)off;
	t->n = 1;
	finish(t, gpa, off + (unsigned)len, c->mode | MODE_CROSS);
	block_twin(t->b, gpa2, (unsigned)len - n);
	block_protect(c, gpa2);
	if (memcmp(buf + n, page2, (unsigned)len - n) != 0) {
		block_drop(c, t->b);
		return NULL;
	}
	return settled(t, page);
}
