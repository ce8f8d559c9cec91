/*
 * string.c - MOVS STOS LODS CMPS SCAS INS OUTS with every prefix.
 *
 * Element by element in principle; whole runs inside a page where the memory is
 * plain and the direction is up.  A long repeat comes up for air every few
 * pages: it then returns with rip still at the instruction, as an interrupted
 * one does on hardware.
 */
#include <Zydis/Zydis.h>

#include "sys.h"

struct str {
	struct cpu	*c;
	const struct insn *in;
	unsigned	size, seg, mmu;
	uint64_t	amask;
	int64_t		step;
};

static inline void
set_masked(uint64_t *r, uint64_t v, uint64_t mask)
{
	if (mask == 0xffff)
		*r = (*r & ~mask) | (v & mask);
	else
		*r = v & mask;
}

static inline uint64_t
reg(const struct str *s, unsigned r)
{
	return s->c->gpr[r] & s->amask;
}

static inline void
advance(const struct str *s, unsigned r, int64_t by)
{
	set_masked(&s->c->gpr[r], s->c->gpr[r] + (uint64_t)by, s->amask);
}

/* Its faults come before those of the destination. */
static uint64_t
src(const struct str *s)
{
	uint64_t lin = x86_linear(s->c, s->seg, reg(s, RSI), s->size, ACC_READ);

	x86_probe(s->c, lin, s->size, ACC_READ, s->mmu);
	return lin;
}

static uint64_t
dst(const struct str *s, int access)
{
	return x86_linear(s->c, ES, reg(s, RDI), s->size, access);
}

/* Elements from `lin` to the end of its page, at most n; 0: crosses. */
static uint64_t
run(const struct str *s, uint64_t lin, uint64_t n)
{
	uint64_t k = (4096 - (lin & 0xfff)) / s->size;

	return k < n ? k : n;
}

/* Runs go upward, and not while every iteration may trap. */
static bool
fast(const struct str *s, uint64_t n)
{
	return s->step > 0 && n > 1 && !(s->c->mode & (M_TF | M_BRK));
}

/* Is the whole run inside its segment and the address space? */
static bool
fits(const struct str *s, unsigned seg, uint64_t off, uint64_t bytes)
{
	if (off + bytes - 1 < off || off + bytes - 1 > s->amask)
		return false;
	if ((s->c->mode & M_SIZE) == M_64)
		return true;
	return off + bytes - 1 <= s->c->seg[seg].limit &&
	    !(s->c->seg[seg].attr & 4 && !(s->c->seg[seg].attr & 8));
}

static uint64_t
movs(struct str *s, uint64_t n)
{
	struct cpu *c = s->c;
	uint64_t a, b, k, v;
	uint8_t *p, *q;

	a = src(s);
	b = dst(s, ACC_WRITE);
	if (fast(s, n)) {
		k = run(s, a, run(s, b, n));
		if (k > 1 && fits(s, s->seg, reg(s, RSI), k * s->size) &&
		    fits(s, ES, reg(s, RDI), k * s->size)) {
			p = x86_host(c, a, ACC_READ, s->mmu);
			q = x86_host(c, b, ACC_WRITE, s->mmu);
			if (p && q) {
				uint64_t m = k * s->size;

				if (q <= p || q >= p + m) {
					__asm__ volatile("rep movsb"
					    : "+S"(p), "+D"(q), "+c"(m)
					    : : "memory");
				} else if (s->size == 1) {
					for (; m; m--)
						*(volatile uint8_t *)q++ =
						    *(volatile uint8_t *)p++;
				} else {
					/* up to where it reads its own writes */
					k = (uint64_t)(q - p) / s->size;
					if (k < 2)
						goto slow;
					m = k * s->size;
					__asm__ volatile("rep movsb"
					    : "+S"(p), "+D"(q), "+c"(m)
					    : : "memory");
				}
				advance(s, RSI, (int64_t)(k * s->size));
				advance(s, RDI, (int64_t)(k * s->size));
				return k;
			}
		}
	}
slow:
	v = x86_ld(c, a, s->size, s->mmu);
	x86_st(c, b, s->size, v, s->mmu);
	advance(s, RSI, s->step);
	advance(s, RDI, s->step);
	return 1;
}

static uint64_t
stos(struct str *s, uint64_t n)
{
	struct cpu *c = s->c;
	uint64_t b = dst(s, ACC_WRITE), k, v = c->gpr[RAX];
	uint8_t *q;

	if (fast(s, n)) {
		k = run(s, b, n);
		if (k > 1 && fits(s, ES, reg(s, RDI), k * s->size) &&
		    (q = x86_host(c, b, ACC_WRITE, s->mmu)) != NULL) {
			uint64_t m = k;

			switch (s->size) {
			case 1:
				__asm__ volatile("rep stosb" : "+D"(q), "+c"(m)
				    : "a"(v) : "memory");
				break;
			case 2:
				__asm__ volatile("rep stosw" : "+D"(q), "+c"(m)
				    : "a"(v) : "memory");
				break;
			case 4:
				__asm__ volatile("rep stosl" : "+D"(q), "+c"(m)
				    : "a"(v) : "memory");
				break;
			default:
				__asm__ volatile("rep stosq" : "+D"(q), "+c"(m)
				    : "a"(v) : "memory");
			}
			advance(s, RDI, (int64_t)(k * s->size));
			return k;
		}
	}
	x86_st(c, b, s->size, v, s->mmu);
	advance(s, RDI, s->step);
	return 1;
}

static uint64_t
lods(struct str *s, uint64_t n)
{
	uint64_t v = x86_ld(s->c, src(s), s->size, s->mmu), *r =
	    &s->c->gpr[RAX];

	switch (s->size) {
	case 1:
		*r = (*r & ~0xffull) | v;
		break;
	case 2:
		*r = (*r & ~0xffffull) | v;
		break;
	default:
		*r = v;
	}
	advance(s, RSI, s->step);
	return 1;
}

/* Flags of a - b, by the host's own cmp. */
static void
compare(struct cpu *c, unsigned size, uint64_t a, uint64_t b)
{
	uint64_t f;

	switch (size) {
	case 1:
		__asm__("cmpb %b2, %b1; pushfq; popq %0" : "=r"(f)
		    : "q"(a), "q"(b) : "cc");
		break;
	case 2:
		__asm__("cmpw %w2, %w1; pushfq; popq %0" : "=r"(f)
		    : "r"(a), "r"(b) : "cc");
		break;
	case 4:
		__asm__("cmpl %k2, %k1; pushfq; popq %0" : "=r"(f)
		    : "r"(a), "r"(b) : "cc");
		break;
	default:
		__asm__("cmpq %2, %1; pushfq; popq %0" : "=r"(f)
		    : "r"(a), "r"(b) : "cc");
	}
	c->eflags = (c->eflags & ~(uint64_t)FL_STATUS) | (f & FL_STATUS);
}

static inline uint64_t
item(const uint8_t *p, unsigned size)
{
	return size == 1 ? *p :
	    size == 2 ? *(const uint16_t __attribute__((aligned(1))) *)p :
	    size == 4 ? *(const uint32_t __attribute__((aligned(1))) *)p :
	    *(const uint64_t __attribute__((aligned(1))) *)p;
}

static uint64_t
cmps(struct str *s, uint64_t n)
{
	uint64_t la, lb, a, b, k, i;
	bool equal = s->in->rep == 0xf3;	/* go on while */
	const uint8_t *p, *q;

	la = src(s);
	lb = dst(s, ACC_READ);
	if (fast(s, n)) {
		k = run(s, la, run(s, lb, n));
		if (k > 1 && fits(s, s->seg, reg(s, RSI), k * s->size) &&
		    fits(s, ES, reg(s, RDI), k * s->size) &&
		    (p = x86_host(s->c, la, ACC_READ, s->mmu)) != NULL &&
		    (q = x86_host(s->c, lb, ACC_READ, s->mmu)) != NULL) {
			for (i = 0; i < k; i++, p += s->size, q += s->size) {
				a = item(p, s->size);
				b = item(q, s->size);
				if ((a == b) != equal) {
					i++;
					break;
				}
			}
			compare(s->c, s->size, a, b);
			advance(s, RSI, (int64_t)(i * s->size));
			advance(s, RDI, (int64_t)(i * s->size));
			return i;
		}
	}
	a = x86_ld(s->c, la, s->size, s->mmu);
	b = x86_ld(s->c, lb, s->size, s->mmu);
	compare(s->c, s->size, a, b);
	advance(s, RSI, s->step);
	advance(s, RDI, s->step);
	return 1;
}

static uint64_t
scas(struct str *s, uint64_t n)
{
	uint64_t lb = dst(s, ACC_READ), a = s->c->gpr[RAX], b, k, i;
	bool equal = s->in->rep == 0xf3;
	const uint8_t *q;

	a = item((const uint8_t *)&a, s->size);
	if (fast(s, n)) {
		k = run(s, lb, n);
		if (k > 1 && fits(s, ES, reg(s, RDI), k * s->size) &&
		    (q = x86_host(s->c, lb, ACC_READ, s->mmu)) != NULL) {
			for (i = 0; i < k; i++, q += s->size) {
				b = item(q, s->size);
				if ((a == b) != equal) {
					i++;
					break;
				}
			}
			compare(s->c, s->size, a, b);
			advance(s, RDI, (int64_t)(i * s->size));
			return i;
		}
	}
	b = x86_ld(s->c, lb, s->size, s->mmu);
	compare(s->c, s->size, a, b);
	advance(s, RDI, s->step);
	return 1;
}

/* String I/O travels as one request per page of memory. */
static uint64_t
ins(struct str *s, uint64_t n)
{
	struct cpu *c = s->c;
	uint16_t port = (uint16_t)c->gpr[RDX];
	uint64_t b = dst(s, ACC_WRITE), k;
	uint8_t *q;

	x86_probe(c, b, s->size, ACC_WRITE, s->mmu);
	if (fast(s, n)) {
		k = run(s, b, n);
		if (k * s->size > 2048)
			k = 2048 / s->size;
		if (k > 1 && fits(s, ES, reg(s, RDI), k * s->size) &&
		    (q = x86_host(c, b, ACC_WRITE, s->mmu)) != NULL) {
			k = io_string(c, 0, port, s->size, q, (unsigned)k);
			/* it may have become code while we waited */
			code_wrote(c, (uint64_t)(q - machine.ram->base),
			    k * s->size);
			advance(s, RDI, (int64_t)(k * s->size));
			return k;
		}
	}
	x86_st(c, b, s->size, io_in(c, port, s->size), s->mmu);
	advance(s, RDI, s->step);
	return 1;
}

static uint64_t
outs(struct str *s, uint64_t n)
{
	struct cpu *c = s->c;
	uint16_t port = (uint16_t)c->gpr[RDX];
	uint64_t a = src(s), k;
	uint8_t *p;

	if (fast(s, n)) {
		k = run(s, a, n);
		if (k * s->size > 2048)
			k = 2048 / s->size;
		if (k > 1 && fits(s, s->seg, reg(s, RSI), k * s->size) &&
		    (p = x86_host(c, a, ACC_READ, s->mmu)) != NULL) {
			k = io_string(c, 1, port, s->size, p, (unsigned)k);
			advance(s, RSI, (int64_t)(k * s->size));
			return k;
		}
	}
	io_out(c, port, s->size, (uint32_t)x86_ld(c, a, s->size, s->mmu));
	advance(s, RSI, s->step);
	return 1;
}

/*
 * The segment of an operand that has no ModRM byte.  REX prefixes may stand
 * before others, where they mean nothing; no instruction asked about is an
 * inc or dec.
 */
unsigned
string_seg(const struct cpu *c, const struct insn *in)
{
	static const uint8_t pre[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	unsigned i, j, seg = DS;

	for (i = 0; i < in->len; i++) {
		for (j = 0; j < 6; j++)
			if (in->raw[i] == pre[j])
				break;
		if (j < 6) {		/* ES CS SS DS FS GS in this order */
			/* only FS and GS mean anything in 64-bit code */
			if (j >= FS || (c->mode & M_SIZE) != M_64)
				seg = j;
		}
		else if (in->raw[i] != 0x66 && in->raw[i] != 0x67 &&
		    in->raw[i] != 0xf2 && in->raw[i] != 0xf3 &&
		    in->raw[i] != 0xf0 && (in->raw[i] & 0xf0) != 0x40)
			break;
	}
	return seg;
}

bool
exec_string(struct cpu *c, const struct insn *in)
{
	uint64_t (*fn)(struct str *, uint64_t), n, done, pages = 0;
	struct str s = { .c = c, .in = in, .mmu = MODE_MMU(c->mode) };
	bool rep = in->rep, cond = false;

	if (in->opcode < 0x6c || in->opcode > 0xaf)
		return false;
	switch (in->opcode & 0xfe) {
	case 0x6c: fn = ins; break;
	case 0x6e: fn = outs; break;
	case 0xa4: fn = movs; break;
	case 0xa6: fn = cmps; cond = true; break;
	case 0xaa: fn = stos; break;
	case 0xac: fn = lods; break;
	case 0xae: fn = scas; cond = true; break;
	default:
		return false;
	}
	s.size = in->opcode & 1 ? in->opsize : 1;
	if ((in->opcode & 0xfc) == 0x6c) {
		if (s.size == 8)
			s.size = 4;
		io_permit(c, (uint16_t)c->gpr[RDX], s.size);
	}
	s.amask = in->addrsize == 8 ? ~0ull : in->addrsize == 4 ?
	    0xffffffffull : 0xffffull;
	s.step = c->eflags & FL_DF ? -(int64_t)s.size : (int64_t)s.size;
	s.seg = string_seg(c, in);
	if (!rep) {
		fn(&s, 1);
		c->rip = (c->rip + in->len) & rip_mask(c);
		return true;
	}
	while ((n = c->gpr[RCX] & s.amask) != 0) {
		done = fn(&s, n);
		set_masked(&c->gpr[RCX], n - done, s.amask);
		if (cond && !(c->eflags & FL_ZF) == (in->rep == 0xf3))
			break;
		if (n == done)
			break;
		if (c->mode & (M_TF | M_BRK))
			return true;
		pages += done > 1;
		if ((pages & 7) == 7 || done == 1) {
			if (*c->poll || c->req)
				return true;	/* rip stays: resumed later */
		}
	}
	c->rip = (c->rip + in->len) & rip_mask(c);
	return true;
}
