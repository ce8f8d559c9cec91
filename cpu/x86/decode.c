/*
 * decode.c - guest instruction bytes to struct insn, through Zydis.
 *
 * Zydis knows operands, implicit registers and flags; what is kept here is the
 * part the translator and the C helpers use.
 */
#include <stdbool.h>
#include <Zydis/Zydis.h>

#include "x86.h"

static ZydisDecoder dec16r, dec16, dec32, dec64;

/* What is not offered and was a hint before it had a meaning stays a NOP. */
static void
init(ZydisDecoder *d, ZydisMachineMode mode, ZydisStackWidth width)
{
	ZydisDecoderInit(d, mode, width);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
}

/* before main(): the decoders are shared by the vcpus' threads */
static void __attribute__((constructor))
start(void)
{
	init(&dec16r, ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16);
	init(&dec16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	init(&dec32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	init(&dec64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

static const ZydisDecoder *
decoder(uint32_t mode)
{
	if ((mode & M_SIZE) == M_64)
		return &dec64;
	if ((mode & M_SIZE) == M_32)
		return &dec32;
	return mode & M_PE && !(mode & M_VM86) ? &dec16 : &dec16r;
}

static uint16_t
flags_of(ZydisAccessedFlagsMask f)
{
	uint16_t v = 0;

	if (f & ZYDIS_CPUFLAG_CF)
		v |= FL_CF;
	if (f & ZYDIS_CPUFLAG_PF)
		v |= FL_PF;
	if (f & ZYDIS_CPUFLAG_AF)
		v |= FL_AF;
	if (f & ZYDIS_CPUFLAG_ZF)
		v |= FL_ZF;
	if (f & ZYDIS_CPUFLAG_SF)
		v |= FL_SF;
	if (f & ZYDIS_CPUFLAG_OF)
		v |= FL_OF;
	return v;
}

static uint8_t
gpr(ZydisRegister r)
{
	ZydisRegisterClass k = ZydisRegisterGetClass(r);
	int id = ZydisRegisterGetId(r);

	if (r == ZYDIS_REGISTER_NONE)
		return 0xff;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP ||
	    r == ZYDIS_REGISTER_IP)
		return 16;
	if (k == ZYDIS_REGCLASS_GPR8) {
		/* al cl dl bl, ah ch dh bh, spl bpl sil dil, r8b ... */
		if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
			return (uint8_t)(16 + (r - ZYDIS_REGISTER_AH));
		if (r >= ZYDIS_REGISTER_SPL)
			return (uint8_t)(4 + (r - ZYDIS_REGISTER_SPL));
		return (uint8_t)(r - ZYDIS_REGISTER_AL);
	}
	return (uint8_t)id;
}

/* Bit of a general register, or nothing. */
static uint16_t
gpr_bit(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		return (uint16_t)(1u << (gpr(r) & 15));
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return (uint16_t)(1u << gpr(r));
	default:
		return 0;
	}
}

static uint8_t
sreg(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS ?
	    (uint8_t)(r - ZYDIS_REGISTER_ES) : DS;
}

static void
operand(const ZydisDecodedOperand *z, struct operand *o)
{
	ZydisRegisterClass k;

	*o = (struct operand){ .size = (uint8_t)(z->size / 8), .base = 0xff,
		.index = 0xff, .seg = DS, .enc = (uint8_t)z->encoding };
	if (z->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		o->act |= 1;
	if (z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		o->act |= 2;
	switch (z->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		k = ZydisRegisterGetClass(z->reg.value);
		o->reg = (uint8_t)ZydisRegisterGetId(z->reg.value);
		switch (k) {
		case ZYDIS_REGCLASS_GPR8:
		case ZYDIS_REGCLASS_GPR16:
		case ZYDIS_REGCLASS_GPR32:
		case ZYDIS_REGCLASS_GPR64:
			o->type = OP_REG;
			o->reg = gpr(z->reg.value);
			break;
		case ZYDIS_REGCLASS_X87:
			o->type = OP_ST;
			break;
		case ZYDIS_REGCLASS_MMX:
			o->type = OP_MMX;
			break;
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_YMM:
			o->type = OP_XMM;
			break;
		case ZYDIS_REGCLASS_SEGMENT:
			o->type = OP_SREG;
			o->reg = sreg(z->reg.value);
			break;
		case ZYDIS_REGCLASS_CONTROL:
			o->type = OP_CR;
			break;
		case ZYDIS_REGCLASS_DEBUG:
			o->type = OP_DR;
			break;
		default:
			o->type = OP_NONE;
		}
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		o->type = OP_MEM;
		o->base = gpr(z->mem.base);
		o->index = gpr(z->mem.index);
		o->scale = z->mem.scale;
		o->seg = sreg(z->mem.segment);
		o->disp = z->mem.disp.has_displacement ? z->mem.disp.value : 0;
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		o->type = OP_IMM;
		o->disp = z->imm.value.s;
		break;
	case ZYDIS_OPERAND_TYPE_POINTER:
		o->type = OP_PTR;
		o->disp = z->ptr.offset;
		o->reg = 0;
		o->base = (uint8_t)(z->ptr.segment & 0xff);
		o->index = (uint8_t)(z->ptr.segment >> 8);
		break;
	default:
		o->type = OP_NONE;
	}
}

int
x86_decode(uint32_t mode, const uint8_t *p, unsigned n, struct insn *in)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZyanStatus st;
	unsigned i, nop;

	if (n > 15)
		n = 15;
	st = ZydisDecoderDecodeFull(decoder(mode), p, n, &z, op);
	if (st == ZYDIS_STATUS_NO_MORE_DATA && n < 15)
		return -1;
	if (!ZYAN_SUCCESS(st)) {
		/* longer than 15 bytes is #GP: x86_fetch looks at len */
		in->len = st == ZYDIS_STATUS_NO_MORE_DATA ||
		    st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? 16 : 0;
		return 0;
	}
	*in = (struct insn){ .mnem = (uint16_t)z.mnemonic, .len = z.length,
		.opsize = (uint8_t)(z.operand_width / 8),
		.addrsize = (uint8_t)(z.address_width / 8),
		.enc = (uint8_t)z.encoding, .isa = (uint8_t)z.meta.isa_ext };
	in->opcode = (uint16_t)(z.opcode | z.opcode_map << 8);
	if (z.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		in->lock = 1;
	if (z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		in->rep = 0xf3;
	else if (z.attributes & ZYDIS_ATTRIB_HAS_REPNE)
		in->rep = 0xf2;
	for (i = 0; i < z.length; i++)
		in->raw[i] = p[i];
	if (z.cpu_flags) {
		in->fl_read = flags_of(z.cpu_flags->tested);
		in->fl_write = flags_of(z.cpu_flags->modified |
		    z.cpu_flags->set_0 | z.cpu_flags->set_1 |
		    z.cpu_flags->undefined);
		in->fl_undef = flags_of(z.cpu_flags->undefined);
	}
	for (i = 0; i < z.operand_count; i++)
		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			in->wr |= gpr_bit(op[i].reg.value);
	nop = z.operand_count_visible < 4 ? z.operand_count_visible : 4;
	in->nop = (uint8_t)nop;
	for (i = 0; i < nop; i++) {
		operand(&op[i], &in->op[i]);
		/* no base but a displacement, whatever REX.B says (SDM 2A,
		 * table 2-5); Zydis 4.0 gives r13 and no displacement */
		if (in->op[i].type == OP_MEM && z.raw.modrm.rm == 4 &&
		    z.raw.modrm.mod == 0 && z.address_width != 16 &&
		    z.attributes & ZYDIS_ATTRIB_HAS_SIB &&
		    z.raw.sib.base == 5) {
			in->op[i].base = 0xff;
			in->op[i].disp = z.raw.disp.value;
		}
	}
	return z.length;
}
