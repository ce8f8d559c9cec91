/*
 * copy.c - relocate one guest instruction: write it again with its registers
 * renamed to where they live in the host and its memory operand replaced by
 * its host address.  SDM vol. 2A ch. 2 (prefixes, REX, VEX, ModRM).
 */
#include <Zydis/Zydis.h>

#include "jit.h"

/* An instruction taken apart far enough to write it again. */
struct enc {
	uint8_t		p66, rep, lock, rex, vex, map, w, l, pp;
	uint8_t		vvvv, op, modrm;
	bool		has_modrm;
	const uint8_t	*imm;
	unsigned	nimm;
};

static bool
map0_modrm(unsigned op)
{
	if (op < 0x40)
		return (op & 7) < 4;
	return op == 0x62 || op == 0x63 || op == 0x69 || op == 0x6b ||
	    (op >= 0x80 && op <= 0x8f) || op == 0xc0 || op == 0xc1 ||
	    (op >= 0xc4 && op <= 0xc7) || (op >= 0xd0 && op <= 0xd3) ||
	    (op >= 0xd8 && op <= 0xdf) || op == 0xf6 || op == 0xf7 ||
	    op == 0xfe || op == 0xff;
}

static bool
map1_modrm(unsigned op)
{
	return !((op >= 0x04 && op <= 0x0c) || op == 0x0e ||
	    (op >= 0x30 && op <= 0x37) || op == 0x77 ||
	    (op >= 0x80 && op <= 0x8f) || op == 0xa0 || op == 0xa1 ||
	    op == 0xa2 || op == 0xa8 || op == 0xa9 || op == 0xaa ||
	    (op >= 0xc8 && op <= 0xcf));
}

static void
parse(uint32_t mode, const struct insn *in, struct enc *x)
{
	const uint8_t *p = in->raw, *end = in->raw + in->len;
	bool m64 = (mode & M_SIZE) == M_64;
	unsigned mod, rm;

	*x = (struct enc){ 0 };
	for (;; p++) {
		if (m64 && (*p & 0xf0) == 0x40) {
			x->rex = *p;
			continue;
		}
		if (*p == 0x66)
			x->p66 = 1;
		else if (*p == 0xf2 || *p == 0xf3)
			x->rep = *p;
		else if (*p == 0xf0)
			x->lock = 1;
		else if (*p != 0x67 && *p != 0x2e && *p != 0x36 && *p != 0x3e &&
		    *p != 0x26 && *p != 0x64 && *p != 0x65)
			break;
		x->rex = 0;	/* only the last prefix counts as REX */
	}
	x->w = x->rex >> 3 & 1;
	if ((*p == 0xc4 || *p == 0xc5) && (m64 || (p[1] & 0xc0) == 0xc0)) {
		if (*p == 0xc5) {
			x->vex = 2;
			x->rex = (~p[1] >> 7 & 1) << 2;
			x->map = 1;
			x->vvvv = ~p[1] >> 3 & 15;
			x->l = p[1] >> 2 & 1;
			x->pp = p[1] & 3;
			p += 2;
		} else {
			x->vex = 3;
			x->rex = (~p[1] >> 5 & 7);	/* R X B */
			x->map = p[1] & 31;
			x->w = p[2] >> 7;
			x->vvvv = ~p[2] >> 3 & 15;
			x->l = p[2] >> 2 & 1;
			x->pp = p[2] & 3;
			p += 3;
		}
		if (!m64) {
			x->rex = 0;
			x->vvvv &= 7;
		}
		x->op = *p++;
		x->has_modrm = !(x->map == 1 && x->op == 0x77);
	} else if (*p == 0x0f) {
		p++;
		if (*p == 0x38 || *p == 0x3a) {
			x->map = *p++ == 0x38 ? 2 : 3;
			x->op = *p++;
			x->has_modrm = true;
		} else {
			x->map = 1;
			x->op = *p++;
			x->has_modrm = map1_modrm(x->op);
		}
	} else {
		x->op = *p++;
		x->has_modrm = map0_modrm(x->op);
	}
	if (x->has_modrm) {
		x->modrm = *p++;
		mod = x->modrm >> 6;
		rm = x->modrm & 7;
		if (mod != 3) {
			if (in->addrsize == 2) {
				p += mod == 1 ? 1 : mod == 2 ||
				    (mod == 0 && rm == 6) ? 2 : 0;
			} else {
				unsigned base = rm;

				if (rm == 4)
					base = *p++ & 7;
				p += mod == 1 ? 1 : mod == 2 ||
				    (mod == 0 && base == 5) ? 4 : 0;
			}
		}
	}
	x->imm = p;
	x->nimm = (unsigned)(end - p);
}

static bool
vector(const struct insn *in)
{
	unsigned i;

	for (i = 0; i < in->nop; i++)
		if (in->op[i].type == OP_XMM || in->op[i].type == OP_MMX)
			return true;
	return false;
}

/* Is prefix 66 the operand size?  Otherwise it is part of the opcode: emms,
 * fences and ldmxcsr, movnti, adcx and adox. */
static bool
sized(const struct enc *x)
{
	return x->map == 1 ? x->op != 0x77 && x->op != 0xae && x->op != 0xc3 :
	    x->map != 2 || x->op != 0xf6;
}

/* Does VEX.W give the size of a general operand?  It is ignored outside
 * 64-bit code then. */
static bool
w_is_size(const struct enc *x, const struct insn *in)
{
	unsigned i;

	for (i = 0; i < in->nop; i++)
		if (in->op[i].type == OP_REG)
			return true;
	/* vcvtsi2ss, vcvtsi2sd, vmovd, vpextrd, vpinsrd with memory; the
	 * lengths vpcmpestrm and vpcmpestri take from eax and edx */
	return x->map == 1 ? x->op == 0x2a || x->op == 0x6e || x->op == 0x7e :
	    x->map == 3 && (x->op == 0x16 || x->op == 0x22 ||
	    x->op == 0x60 || x->op == 0x61);
}

/* Does the instruction set all of its register operand, reading nothing? */
static bool
plain_write(const struct insn *in, const struct operand *o)
{
	return !(o->act & 1) && o->size >= 4 &&
	    (in->mnem == ZYDIS_MNEMONIC_MOV || in->mnem == ZYDIS_MNEMONIC_LEA ||
	    in->mnem == ZYDIS_MNEMONIC_MOVZX ||
	    in->mnem == ZYDIS_MNEMONIC_MOVSX ||
	    in->mnem == ZYDIS_MNEMONIC_MOVSXD);
}

/* One GPR operand on its way into the new encoding. */
struct sub {
	uint8_t	enc, guest, host, act;
	bool	high, temp, load, borrowed;
};

static unsigned
borrow(const struct insn *in, unsigned used)
{
	static const uint8_t cand[] = { H_15, H_14, H_13, H_12, H_BP, H_8 };
	unsigned i, j;
	bool hit;

	for (i = 0; i < sizeof(cand); i++) {
		hit = used & 1u << cand[i];
		for (j = 0; j < in->nop; j++)
			hit |= in->op[j].type == OP_REG &&
			    in->op[j].reg == cand[i];
		if (!hit)
			return cand[i];
	}
	return H_BX;
}

/*
 * Operands of the high byte registers cannot be named beside a REX prefix:
 * swap the pair around the instruction instead.  Returns 0-3, or -1.
 */
static int
high_byte(const struct insn *in, bool need_rex)
{
	unsigned i;

	if (!need_rex)
		return -1;
	for (i = 0; i < in->nop; i++)
		if (in->op[i].type == OP_REG && in->op[i].size == 1 &&
		    in->op[i].reg >= 16)
			return in->op[i].reg - 16;
	return -1;
}

static void
e_swap_bytes(struct emit *e, unsigned r)	/* xchg al,ah and so on */
{
	e8(e, 0x86);
	e8(e, 0xc0 | r << 3 | (r + 4));
}

/* moffs forms have no ModRM: A0-A3 are 8A, 8B, 88, 89 with register rax */
static void
unmoffs(struct enc *x)
{
	x->op = x->op == 0xa0 ? 0x8a : x->op == 0xa1 ? 0x8b :
	    x->op == 0xa2 ? 0x88 : 0x89;
	x->has_modrm = true;
	x->modrm = 0;
	x->rex = 0;		/* R, X and B mean nothing here */
	x->nimm = 0;
}

/* Write it.  mem: the operand is at `at`, otherwise it is register at.base. */
static void
put(struct emit *e, const struct enc *x, unsigned reg, struct place at,
    unsigned vvvv, bool mem, bool byte_rex)
{
	unsigned i, base = at.base, index = at.index;

	if (x->vex) {
		e8(e, 0xc4);
		e8(e, (reg & 8 ? 0 : 0x80) | (index != H_NONE && index & 8 ? 0 : 0x40) |
		    (base & 8 ? 0 : 0x20) | x->map);
		e8(e, (unsigned)x->w << 7 | (~vvvv & 15) << 3 | x->l << 2 |
		    x->pp);
		e8(e, x->op);
	} else {
		if (x->lock)
			e8(e, 0xf0);
		if (x->p66)
			e8(e, 0x66);
		if (x->rep)
			e8(e, x->rep);
		e_rex(e, x->w, reg, index, base, byte_rex);
		if (x->map) {
			e8(e, 0x0f);
			if (x->map > 1)
				e8(e, x->map == 2 ? 0x38 : 0x3a);
		}
		e8(e, x->op);
	}
	if (x->has_modrm) {
		if (mem)
			e_mem(e, reg, base, index, 0, at.disp);
		else
			e8(e, 0xc0 | (reg & 7) << 3 | (base & 7));
	}
	for (i = 0; i < x->nimm; i++)
		e8(e, x->imm[i]);
}

static void
emit_lea(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	unsigned g = in->op[0].reg, d = hreg(g) == H_NONE ? S1 : hreg(g);
	const struct operand *m = &in->op[1];

	if (in->opsize == 2) {		/* keeps the upper bits */
		emit_ea(t, in, m, S1, false);
		if (hreg(g) == H_NONE) {
			e8(e, 0x65);
			e_st(e, 2, S1, H_NONE, H_NONE, (int32_t)GS_GPR(g));
		} else {
			e8(e, 0x66);
			e_mov_rr(e, 0, hreg(g), S1);
		}
		return;
	}
	/* the destination may be part of the address: go through S1 unless
	 * one lea does it */
	if (hreg(g) != H_NONE && m->base != 16 && in->addrsize == 8 &&
	    in->opsize == 8)
		emit_ea(t, in, m, d, false);
	else {
		emit_ea(t, in, m, S1, false);
		if (hreg(g) != H_NONE)
			e_mov_rr(e, in->opsize == 8, d, S1);
		else if (in->opsize == 4)
			e_mov_rr(e, 0, S1, S1);
	}
	if (hreg(g) == H_NONE)
		e_st_gs(e, S1, GS_GPR(g));
}

void
copy_insn(struct tr *t, const struct insn *in)
{
	struct emit *e = &t->e;
	struct enc x;
	struct sub s[4];
	const struct operand *mem = NULL, *o;
	unsigned ns = 0, i, reg, rm, vvvv, used = 0, nmem = 0;
	unsigned free1 = S1, free2 = S2;
	struct place at;
	bool byte_rex = false, need_rex, vec = vector(in);
	uint8_t is4;
	int hi;

	if (in->mnem == ZYDIS_MNEMONIC_LEA) {
		emit_lea(t, in);
		return;
	}
	parse(t->mode, in, &x);
	for (i = 0; i < in->nop; i++)
		if (in->op[i].type == OP_MEM)
			mem = &in->op[i];
	if (mem && !x.has_modrm)
		unmoffs(&x);
	if (!vec && !x.vex && (t->mode & M_SIZE) != M_64 && sized(&x))
		x.p66 = in->opsize == 2;
	if (x.vex && (t->mode & M_SIZE) != M_64 && w_is_size(&x, in))
		x.w = 0;
	/* one-byte inc and dec are REX prefixes in 64-bit mode */
	if (!x.vex && x.map == 0 && (x.op & 0xf0) == 0x40) {
		x.modrm = (uint8_t)(0xc0 | (x.op & 8) | (x.op & 7));
		x.op = 0xff;
		x.has_modrm = true;
	}
	if (!x.vex && x.map == 0 && x.op == 0x82)
		x.op = 0x80;
	/* vblendvps, vblendvpd, vpblendvb: a register in the immediate */
	if (x.vex && x.map == 3 && x.op >= 0x4a && x.op <= 0x4c &&
	    (t->mode & M_SIZE) != M_64) {
		is4 = x.imm[0] & 0x7f;
		x.imm = &is4;
	}

	if (mem) {
		at = site_operand(t, in, mem,
		    mem->act & 2 ? ACC_WRITE : ACC_READ,
		    mem->size ? mem->size : 1);
		free1 = free2 = H_NONE;
	}
	/* registers */
	reg = (x.modrm >> 3 & 7) | (x.rex & 4) << 1;
	rm = mem ? 0 : (x.modrm & 7) | (x.rex & 1) << 3;
	vvvv = x.vvvv;
	if (!x.has_modrm)
		rm = (x.op & 7) | (x.rex & 1) << 3;
	for (i = 0; i < in->nop; i++) {
		o = &in->op[i];
		if (o->type != OP_REG || o->enc == ZYDIS_OPERAND_ENCODING_NONE)
			continue;
		s[ns] = (struct sub){ .enc = o->enc, .act = o->act };
		if (o->size == 1 && o->reg >= 16) {
			s[ns].high = true;
			s[ns].host = o->reg - 16 + 4;
		} else {
			s[ns].guest = o->reg;
			s[ns].host = hreg(o->reg);
			if (s[ns].host == H_NONE) {
				s[ns].temp = true;
				s[ns].load = !plain_write(in, o);
				nmem++;
			}
			if (o->size == 1 && s[ns].host >= 4)
				byte_rex = true;
		}
		ns++;
	}
	if (mem && nmem) {		/* address into S1, S2 is free */
		e_lea(e, 1, S1, at.base, at.index, 0, at.disp);
		at = (struct place){ S1, H_NONE, 0 };
		free2 = S2;
	}
	for (i = 0; i < ns; i++) {
		unsigned j;

		if (!s[i].temp)
			continue;
		for (j = 0; j < i; j++)		/* same register twice */
			if (s[j].temp && s[j].guest == s[i].guest)
				break;
		if (j < i) {
			s[i].host = s[j].host;
			s[i].borrowed = false;
			if (s[i].load && !s[j].load) {
				e_ld_gs(e, s[i].host, GS_GPR(s[i].guest));
				s[j].load = true;
			}
			continue;
		}
		if (free2 != H_NONE) {
			s[i].host = (uint8_t)free2;
			free2 = H_NONE;
		} else if (free1 != H_NONE) {
			s[i].host = (uint8_t)free1;
			free1 = H_NONE;
		} else {
			s[i].host = (uint8_t)borrow(in, used);
			s[i].borrowed = true;
			e_st_gs(e, s[i].host, GS(save[3]));
		}
		used |= 1u << s[i].host;
		if (s[i].load)
			e_ld_gs(e, s[i].host, GS_GPR(s[i].guest));
	}
	need_rex = mem || byte_rex || x.w;
	for (i = 0; i < ns; i++)
		if (s[i].host >= 8)
			need_rex = true;
	hi = x.vex ? -1 : high_byte(in, need_rex);
	if (mem && hi >= 0 && at.index == (unsigned)hi) {
		/* not by what is swapped */
		e_lea(e, 1, S1, at.base, at.index, 0, at.disp);
		at = (struct place){ S1, H_NONE, 0 };
	}
	if (hi == 0 && in->mnem == ZYDIS_MNEMONIC_CMPXCHG) {
		/* al takes part itself: a copy of ah instead of a swap */
		e_lea(e, 1, S1, at.base, at.index, 0, at.disp);
		e_swap_bytes(e, 0);
		e_mov_rr(e, 0, S2, H_AX);
		e_swap_bytes(e, 0);
		put(e, &x, S2, (struct place){ S1, H_NONE, 0 }, 0, true, false);
		return;
	}
	for (i = 0; i < ns; i++) {
		unsigned h = s[i].host;

		if (hi >= 0 && s[i].high)
			h = (unsigned)hi;
		switch (s[i].enc) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG:
			reg = h;
			break;
		case ZYDIS_OPERAND_ENCODING_OPCODE:
			if (!x.has_modrm)
				x.op = (uint8_t)((x.op & 0xf8) | (h & 7));
			/* fall through */
		case ZYDIS_OPERAND_ENCODING_MODRM_RM:
			rm = h;
			break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD:
			vvvv = h;
			break;
		}
	}
	if (hi >= 0)
		e_swap_bytes(e, (unsigned)hi);
	if (!mem)
		at = (struct place){ rm, H_NONE, 0 };
	put(e, &x, reg, at, vvvv, mem, byte_rex);
	if (hi >= 0)
		e_swap_bytes(e, (unsigned)hi);
	for (i = 0; i < ns; i++)
		if (s[i].temp && s[i].act & 2)
			e_st_gs(e, s[i].host, GS_GPR(s[i].guest));
	for (i = 0; i < ns; i++)
		if (s[i].borrowed)
			e_ld_gs(e, s[i].host, GS(save[3]));
}
