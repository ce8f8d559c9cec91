/*
 * diff-gen.h - random code for difftest: sequences of a few instructions whose
 * addresses are known to be good, or to fault alike on both sides.
 */
#include "difftest.h"

#define MAXSEQ	8
#define UNITMAX	15		/* bytes of one unit */

/*
 * What registers are for in the sequence being made: an address is computed
 * only from registers that still hold what they started with.
 */
enum { ANY, BASE, INDEX, COUNT };
enum { VANY, VIX4 = 4, VIX8 = 8 };	/* vector of indices of that size */
static uint8_t role[16], vrole[16];
static uint32_t written, vwritten;
static bool moved;		/* RSI or RDI, by a string instruction */
static bool many;		/* one of several accesses, in any order */
static bool sealed;		/* fnstenv, fnsave: nothing after it */

/* What the manual leaves to the processor: bytes not to be compared. */
static struct mask {
	struct insn	in;
	uint64_t	next;		/* rip behind it */
	unsigned	from, n;
} mask;

static bool
want_role(unsigned r, int as)
{
	if (r > 15)
		return true;
	if (written >> r & 1 || (role[r] != ANY && role[r] != as))
		return false;
	role[r] = (uint8_t)as;
	return true;
}

static uint32_t
gpr_bit(ZydisRegister r)
{
	ZydisRegister l = ZydisRegisterGetLargestEnclosing(
	    ZYDIS_MACHINE_MODE_LONG_64, r);

	return l >= ZYDIS_REGISTER_RAX && l <= ZYDIS_REGISTER_R15 ?
	    1u << (l - ZYDIS_REGISTER_RAX) : 0;
}

static bool
is_vector(ZydisRegister r)
{
	ZydisRegisterClass k = ZydisRegisterGetClass(r);

	return k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM;
}

static bool
string_op(const struct insn *in)
{
	return in->opcode >= 0xa4 && in->opcode <= 0xaf &&
	    in->opcode != 0xa8 && in->opcode != 0xa9;
}

static ZydisMachineMode
zmode(void)
{
	return kind == V64 ? ZYDIS_MACHINE_MODE_LONG_64 :
	    kind == V32 || kind == V32S ? ZYDIS_MACHINE_MODE_LEGACY_32 :
	    ZYDIS_MACHINE_MODE_LEGACY_16;
}

static const ZydisDecoder *
decoder(void)
{
	static ZydisDecoder dec[NKIND];
	static bool ready[NKIND];

	if (!ready[kind])
		ZydisDecoderInit(&dec[kind], zmode(), kind == V64 ?
		    ZYDIS_STACK_WIDTH_64 : kind == V32 || kind == V32S ?
		    ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16);
	ready[kind] = true;
	return &dec[kind];
}

/* Is what this memory operand will address known? */
static bool
good_address(const struct insn *in, const ZydisDecodedOperand *o, uint64_t at)
{
	uint64_t lo = origin();
	int64_t disp = o->mem.disp.value;
	unsigned vix, i, base = 0;

	if (o->mem.segment == ZYDIS_REGISTER_FS)
		return false;		/* the C library's, on the host */
	if (o->mem.segment == ZYDIS_REGISTER_CS && segmented())
		return false;		/* the code, which is not compared */
	if (in->addrsize == 2 && !segmented())
		return false;		/* too low for a process's memory */
	/* Zydis is wrong about SIB bytes without a base: ask our decoder */
	for (i = 0; i < in->nop; i++)
		if (in->op[i].type == OP_MEM && in->op[i].base == 0xff) {
			base = 0xff;
			disp = in->op[i].disp;
		}
	if (o->mem.base == ZYDIS_REGISTER_NONE)
		base = 0xff;
	if (o->mem.base == ZYDIS_REGISTER_RIP)
		return at + in->len + (uint64_t)o->mem.disp.value - DATA <=
		    0x3f00;
	if (base == 0xff) {
		if ((uint64_t)disp - lo > 0x3f00)
			return false;
		return o->mem.index == ZYDIS_REGISTER_NONE ||
		    (!is_vector(o->mem.index) && want_role((unsigned)
		    __builtin_ctz(gpr_bit(o->mem.index)), INDEX));
	}
	if (o->mem.disp.value < -128 || o->mem.disp.value > 0xd00)
		return false;
	if (!want_role((unsigned)__builtin_ctz(gpr_bit(o->mem.base)), BASE))
		return false;
	if (o->mem.index == ZYDIS_REGISTER_NONE)
		return true;
	if (!is_vector(o->mem.index))
		return want_role((unsigned)__builtin_ctz(gpr_bit(o->mem.index)),
		    INDEX);
	vix = in->mnem == ZYDIS_MNEMONIC_VGATHERDPD ||
	    in->mnem == ZYDIS_MNEMONIC_VGATHERDPS ||
	    in->mnem == ZYDIS_MNEMONIC_VPGATHERDD ||
	    in->mnem == ZYDIS_MNEMONIC_VPGATHERDQ ? VIX4 : VIX8;
	{
		unsigned v = (unsigned)ZydisRegisterGetId(o->mem.index);

		if (vwritten >> v & 1 || (vrole[v] != VANY && vrole[v] != vix))
			return false;
		vrole[v] = (uint8_t)vix;
	}
	return true;
}

/* Take the instruction into the sequence, or say no. */
static bool
accept(const uint8_t *b, const struct insn *in, uint64_t at)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t keep[16], vkeep[16];
	uint32_t wr = 0, vwr = 0;
	unsigned i;
	bool env = false;

	switch (in->mnem) {
	case ZYDIS_MNEMONIC_XABORT: case ZYDIS_MNEMONIC_XBEGIN:
		return false;
	case ZYDIS_MNEMONIC_VPINSRD: case ZYDIS_MNEMONIC_VPINSRQ:
	case ZYDIS_MNEMONIC_VPEXTRD: case ZYDIS_MNEMONIC_VPEXTRQ:
		/* VEX.W outside 64-bit code: ignored (Intel) or #UD (AMD) */
		if (kind != V64)
			return false;
		break;
	case ZYDIS_MNEMONIC_FNSTENV: case ZYDIS_MNEMONIC_FNSAVE:
		env = true;
		/* the address must be computable afterwards */
		if (in->op[0].base == RSP || moved)
			return false;
		break;
	case ZYDIS_MNEMONIC_FLDENV: case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_PUSHA: case ZYDIS_MNEMONIC_PUSHAD:
	case ZYDIS_MNEMONIC_POPA: case ZYDIS_MNEMONIC_POPAD:
	case ZYDIS_MNEMONIC_ENTER: case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU: case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_FBLD: case ZYDIS_MNEMONIC_FBSTP:
		many = true;
		break;
	case ZYDIS_MNEMONIC_VZEROALL: case ZYDIS_MNEMONIC_VZEROUPPER:
		vwr = 0xffff;
		break;
	}
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder(), b, 15, &z, op)))
		return false;
	memcpy(keep, role, sizeof(keep));
	memcpy(vkeep, vrole, sizeof(vkeep));
	for (i = 0; i < z.operand_count; i++) {
		const ZydisDecodedOperand *o = &op[i];

		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
		    o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			wr |= gpr_bit(o->reg.value);
			if (is_vector(o->reg.value))
				vwr |= 1u << ZydisRegisterGetId(o->reg.value);
		}
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    in->mnem != ZYDIS_MNEMONIC_LEA &&
		    !good_address(in, o, at))
			goto no;
	}
	if (in->rep && string_op(in) && !want_role(RCX, COUNT))
		goto no;
	/* bit strings */
	if (insn_class(cpu->mode, in) == CL_HELPER && in->nop == 2 &&
	    in->op[0].type == OP_MEM && in->op[1].type == OP_REG &&
	    !want_role(in->op[1].reg, INDEX))
		goto no;
	if ((in->mnem == ZYDIS_MNEMONIC_LEAVE ||
	    in->mnem == ZYDIS_MNEMONIC_ENTER) && !want_role(RBP, BASE))
		goto no;
	/* a stack whose place nobody knows any more */
	if (written >> RSP & 1 && (in->mnem == ZYDIS_MNEMONIC_PUSH ||
	    in->mnem == ZYDIS_MNEMONIC_POP || in->mnem == ZYDIS_MNEMONIC_CALL))
		goto no;
	written |= wr;
	vwritten |= vwr;
	moved |= string_op(in);
	/* the stack pointer goes on pointing at the stack */
	if (in->mnem == ZYDIS_MNEMONIC_PUSH || in->mnem == ZYDIS_MNEMONIC_CALL)
		written &= ~(1u << RSP);
	if (env) {
		sealed = true;
		mask = (struct mask){ .in = *in, .next = at + in->len,
			.from = in->opsize == 2 ? 6 : 12,
			.n = in->opsize == 2 ? 8 : 16 };
	}
	return true;
no:
	memcpy(role, keep, sizeof(keep));
	memcpy(vrole, vkeep, sizeof(vkeep));
	return false;
}

static bool
shifts(const struct insn *in)
{
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR: case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD: case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
		return true;
	}
	return false;
}

/* Copied, or executed in C though a program may use it. */
static bool
testable(const struct insn *in)
{
	switch (insn_class(cpu->mode, in)) {
	case CL_COPY:
	case CL_STACK:
		return true;
	case CL_HELPER:
		break;
	default:
		return false;
	}
	switch (in->mnem) {
	case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_VMASKMOVPS: case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD: case ZYDIS_MNEMONIC_VPMASKMOVQ:
	case ZYDIS_MNEMONIC_VGATHERDPD: case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VGATHERQPD: case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VPGATHERDD: case ZYDIS_MNEMONIC_VPGATHERDQ:
	case ZYDIS_MNEMONIC_VPGATHERQD: case ZYDIS_MNEMONIC_VPGATHERQQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU: case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_VMASKMOVDQU: case ZYDIS_MNEMONIC_XLAT:
	case ZYDIS_MNEMONIC_AAA: case ZYDIS_MNEMONIC_AAD:
	case ZYDIS_MNEMONIC_AAM: case ZYDIS_MNEMONIC_AAS:
	case ZYDIS_MNEMONIC_DAA: case ZYDIS_MNEMONIC_DAS:
	case ZYDIS_MNEMONIC_SALC: case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD: case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD: case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD: case ZYDIS_MNEMONIC_ENTER:
		return true;
	}
	return string_op(in);
}

static unsigned
code_size(void)
{
	return kind == V64 ? 8 : kind == V32 || kind == V32S ? 4 : 2;
}

/* Little-endian immediate of n bytes. */
static int
imm(uint8_t *t, unsigned n, uint64_t v)
{
	memcpy(t, &v, n);
	return (int)n;
}

/* An instruction the sequence's rules must pass, at t[*n]. */
static bool
also(uint8_t *t, int *n, int len, uint64_t at)
{
	struct insn in;

	memset(t + *n + len, 0x90, 15);
	if (x86_decode(cpu->mode, t + *n, 15, &in) != len ||
	    !accept(t + *n, &in, at + (unsigned)*n))
		return false;
	*n += len;
	return true;
}

/*
 * Control flow that ends up at the next instruction either way; 0: not now.
 * *over is where to put the distance of a jump over what comes next.
 */
static int
branch(uint8_t *t, uint64_t at, uint8_t **over)
{
	unsigned w = code_size(), iw = w == 2 ? 2 : 4, r;
	uint32_t off = (uint32_t)at - seg_base(CS, at);
	int n = 0, k;

	*over = NULL;
	switch (rnd() % 12) {
	case 0:
		t[0] = 0xeb;
		t[1] = 0;
		return 2;
	case 1:			/* call the next instruction */
		t[0] = 0xe8;
		imm(t + 1, iw, 0);
		return also(t, &n, 1 + (int)iw, at) ? n : 0;
	case 2:			/* loop, jcxz */
		if (rnd() % 4 == 0)
			t[n++] = 0x67;
		r = (unsigned)rnd() % 2;
		t[n++] = (uint8_t)(0xe2 + r);
		t[n++] = 0;
		if (r == 0)
			written |= 1u << RCX;
		return n;
	case 3:
		t[0] = 0x0f;
		t[1] = (uint8_t)(0x80 | rnd() % 16);
		imm(t + 2, iw, 0);
		return 2 + (int)iw;
	case 4:			/* push, return */
		t[0] = 0x68;
		imm(t + 1, iw, off + 1 + iw + 1);
		if (!also(t, &n, 1 + (int)iw, at))
			return 0;
		t[n++] = 0xc3;
		return n;
	case 5:			/* mov, jump or call through a register */
		if ((r = (unsigned)rnd() % 8) == RSP)
			return 0;
		k = rnd() % 2 ? 4 : 2;
		t[0] = (uint8_t)(0xb8 | r);
		imm(t + 1, iw, off + 1 + iw + 2);
		if (!also(t, &n, 1 + (int)iw, at))
			return 0;
		t[n] = 0xff;
		t[n + 1] = (uint8_t)(0xc0 | k << 3 | r);
		if (k == 2)
			return also(t, &n, 2, at) ? n : 0;
		return n + 2;
	case 6:
	case 7:
	case 8:
		t[0] = (uint8_t)(rnd() % 8 ? 0x70 | rnd() % 16 : 0xeb);
		t[1] = 0;
		*over = t + 1;
		return 2;
	}
	t[0] = (uint8_t)(0x70 | rnd() % 16);
	t[1] = 0;
	return 2;
}

static const uint8_t gather_op[] = { 0x90, 0x91, 0x92, 0x93 };

/* Bytes that may be an instruction; the place of an absolute or (*rel)
 * rip-relative displacement in *abs, or 0. */
static void
scramble(uint8_t *t, int *abs, bool *rel)
{
	static const uint8_t segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x65 };
	unsigned kind_ = rnd() % 17;
	bool a67 = rnd() % (kind == V16 ? 2 : 12) == 0, a16, moffs = false;
	int n = 0, i, mod;
	int32_t d;

	*abs = 0;
	*rel = kind == V64;
	if (a67)
		t[n++] = 0x67;
	if (rnd() % 12 == 0)
		t[n++] = segs[rnd() % 5];
	a16 = (kind == V16 || kind == V16S) != a67 && kind != V64;
	if (kind_ < 12 || kind_ == 16) {
		if (rnd() % 6 == 0)
			t[n++] = 0x66;
		if (rnd() % 6 == 0)
			t[n++] = rnd() & 1 ? 0xf2 : 0xf3;
		if (rnd() % 24 == 0)
			t[n++] = 0xf0;
		if (rnd() % 2 && kind == V64)
			t[n++] = 0x40 | (rnd() & 15);
		if (kind_ >= 4 && kind_ < 12) {
			t[n++] = 0x0f;
			if (kind_ == 10)
				t[n++] = 0x38;
			else if (kind_ == 11)
				t[n++] = 0x3a;
		}
	} else if (kind_ == 12) {
		t[n++] = 0xc5;
		t[n++] = (uint8_t)rnd() | (kind == V64 ? 0 : 0xc0);
	} else {
		t[n++] = 0xc4;
		t[n++] = (uint8_t)((rnd() & 0xe0) | (1 + rnd() % 3) |
		    (kind == V64 ? 0 : 0xc0));
		t[n++] = (uint8_t)rnd();
	}
	t[n++] = (uint8_t)rnd();
	if (kind_ == 13 && rnd() % 8 == 0) {	/* a gather: VSIB */
		t[n - 3] = (t[n - 3] & 0xe0) | 2;
		t[n - 2] = (t[n - 2] & ~3) | 1;
		t[n - 1] = gather_op[rnd() % 4];
		t[n++] = (uint8_t)(0x44 | (rnd() & 0x38));
		t[n++] = (uint8_t)rnd();
		t[n++] = (uint8_t)(rnd() % 100);
		return;
	}
	if (kind_ == 16) {
		if (rnd() % 4) {		/* the x87 */
			t[n - 1] = (uint8_t)(0xd8 | rnd() % 8);
		} else {			/* moffs */
			t[n - 1] = (uint8_t)(0xa0 | rnd() % 4);
			moffs = true;
		}
	}
	if (moffs) {
		imm(t + n, 8, origin() + rnd() % 0x3f00);
		return;
	}
	mod = (int)(rnd() % 4);
	if (mod == 0 && rnd() % 2)
		t[n++] = (uint8_t)(rnd() & 0x3f);
	else if (mod == 0) {
		if (!a16 && rnd() % 4 == 0) {	/* a SIB byte with no base */
			t[n++] = (uint8_t)((rnd() & 0x38) | 4);
			t[n++] = (uint8_t)(rnd() & 0xf8) | 5;
			*rel = false;
		} else
			t[n++] = (uint8_t)((rnd() & 0x38) | (a16 ? 6 : 5));
		*abs = n;
	} else
		t[n++] = (uint8_t)(mod << 6 | (rnd() & 0x3f));
	for (i = n; i < 24; i++)
		t[i] = (uint8_t)rnd();
	if (mod == 2) {
		d = (int32_t)(rnd() % 3000);
		if (a16)
			imm(t + n, 2, (uint64_t)d);
		else
			imm(t + n + ((t[n - 1] & 7) == 4), 4, (uint64_t)d);
	}
}

/* One random unit: an instruction, or a jump; its length. */
static int
unit(uint8_t *b, uint64_t at, struct insn *in, uint8_t **over)
{
	uint8_t t[48], *o = NULL;
	int n, len, abs, tries;
	bool rel;

	*over = NULL;
	for (tries = 0; tries < 20000; tries++) {
		if (rnd() % 2000 == 0 || (tries == 0 && rnd() % 10 == 0)) {
			uint8_t keep[16];
			uint32_t w = written;

			memcpy(keep, role, sizeof(keep));
			memset(t, 0x90, sizeof(t));
			n = branch(t, at, &o);
			memset(t + n, 0x90, 15);
			if (n && x86_decode(cpu->mode, t, 15, in) > 0) {
				memcpy(b, t, (size_t)n);
				if (o)
					*over = b + (o - t);
				return n;
			}
			memcpy(role, keep, sizeof(keep));
			written = w;
		}
		scramble(t, &abs, &rel);
		len = x86_decode(cpu->mode, t, 15, in);
		if (len <= 0)
			continue;
		if (abs) {
			uint32_t d = origin() + 64 + (uint32_t)(rnd() % 240) * 16;

			if (rel)
				d -= (uint32_t)at + (unsigned)len;
			imm(t + abs, in->addrsize == 2 ? 2 : 4, d);
			if (x86_decode(cpu->mode, t, 15, in) != len)
				continue;
		}
		if (!x86_allowed(cpu, in) || !fpu_usable(cpu->mode, in) ||
		    !testable(in) || !accept(t, in, at))
			continue;
		memcpy(b, t, (size_t)len);
		return len;
	}
	errx(1, "nothing generated");
}

/*
 * A sequence at `b`, which is at `pc` for both sides.  Returns its bytes;
 * *n its units, *defined the status flags both sides must agree on.
 */
static int
sequence(uint8_t *b, uint64_t pc, int *n, uint64_t *defined)
{
	uint64_t def = FL_STATUS, before = 0;
	uint8_t keep[16], vkeep[16], *over = NULL, *next;
	struct mask mkeep;
	struct insn in;
	uint32_t w, vw;
	bool skip = false;
	int want = 1 + (int)(rnd() % 6), i, k = 0, len;

	memset(role, ANY, sizeof(role));
	memset(vrole, VANY, sizeof(vrole));
	written = vwritten = 0;
	role[RSP] = BASE;
	mask.n = 0;
	many = moved = false;
	for (i = 0; i < want && !sealed;) {
		memcpy(keep, role, sizeof(keep));
		memcpy(vkeep, vrole, sizeof(vkeep));
		w = written;
		vw = vwritten;
		mkeep = mask;
		len = unit(b + k, pc + (unsigned)k, &in, &next);
		/* of undefined flags */
		if (in.fl_read & ~def || (sealed && skip)) {
			memcpy(role, keep, sizeof(keep));
			memcpy(vrole, vkeep, sizeof(vkeep));
			written = w;
			vwritten = vw;
			mask = mkeep;
			sealed = false;
			continue;
		}
		if (skip)
			*over = (uint8_t)len;
		before = def;
		/* a shift by 0 defines nothing, by more than 1 not OF */
		if (shifts(&in))
			def &= ~(uint64_t)(FL_OF | FL_AF);
		else
			def |= in.fl_write;
		def &= ~(uint64_t)in.fl_undef;
		if (skip)
			def &= before;
		skip = next != NULL;
		over = next;
		k += len;
		i++;
	}
	sealed = false;
	*n = i;
	*defined = def;
	return k;
}

static void
random_state(struct regs *r)
{
	uint32_t org = origin();
	unsigned i, j, count = 0;
	bool stray = rnd() % 12 == 0;

	memset(r, 0, sizeof(*r));
	for (i = 0; i < 16; i++) {
		r->gpr[i] = value();
		switch (role[i]) {
		case BASE:
			r->gpr[i] = org + 0x1000 + (rnd() & 1 ?
			    rnd() % 0x800 : rnd() % 64 * 32);
			if (!stray || rnd() % 2 || mask.n || many)
				break;
			/* past the end; anywhere is safe behind a limit */
			r->gpr[i] = org + DATA_N - 16 + rnd() % 32;
			if (segmented() && rnd() % 2)
				r->gpr[i] = value();
			break;
		case INDEX:
			r->gpr[i] = rnd() % 64;
			break;
		case COUNT:
			count = rnd() % 8 ? 64 : 0x380;
			r->gpr[i] = rnd() % count;
		}
		if (kind != V64)
			r->gpr[i] = (uint32_t)r->gpr[i];
	}
	r->flags = (rnd() & FL_STATUS) | 0x202;
	if (rnd() % 8 == 0)
		r->flags |= FL_DF;
	/* x87: default control word, some values, tags full or empty */
	r->x[0] = 0x7f;
	r->x[1] = 0x03;
	r->x[4] = rnd() & 1 ? 0xff : 0;
	*(uint32_t *)(r->x + 24) = 0x1f80;
	if (rnd() % 8 == 0) {		/* rounding, precision, exceptions */
		r->x[0] = 0x40 | (rnd() & 0x3f);
		r->x[1] = rnd() & 0x0f;
		r->x[3] = rnd() & 0x38;	/* TOP */
	}
	if (rnd() % 8 == 0)
		*(uint32_t *)(r->x + 24) = (uint32_t)(rnd() & 0xffff);
	*(uint32_t *)(r->x + 28) = 0xffff;
	for (i = 0; i < 8; i++) {
		double v = (double)(int64_t)rnd() / (double)(1 + rnd() % 100000);
		long double l = v;

		memcpy(r->x + 32 + 16 * i, &l, 10);
	}
	for (i = 0; i < 16; i++)
		for (j = 0; j < 8; j++) {
			uint32_t w = (uint32_t)value();
			float f = (float)(int32_t)rnd() / 1000.0f;

			if (rnd() & 1)
				memcpy(&w, &f, 4);
			if (vrole[i] == VIX4 || (vrole[i] == VIX8 && !(j & 1)))
				w = (uint32_t)(rnd() % 200);
			else if (vrole[i] == VIX8)
				w = 0;
			memcpy(r->x + (j < 4 ? 160 : 576) + 16 * i +
			    (j & 3) * 4, &w, 4);
		}
	*(uint64_t *)(r->x + 512) = 7;
}

static void
print_code(uint64_t pc, const uint8_t *b, int n)
{
	ZydisDisassembledInstruction d;
	int i, len;

	for (; n > 0; n -= len, b += len, pc += (unsigned)len) {
		if (!ZYAN_SUCCESS(ZydisDisassembleIntel(zmode(), pc, b, 15, &d)))
			return;
		len = d.info.length;
		fprintf(stderr, "  %-40s", d.text);
		for (i = 0; i < len; i++)
			fprintf(stderr, " %02x", b[i]);
		fputc('\n', stderr);
	}
}
