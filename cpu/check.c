/*
 * check.c - the oracle: `-accel check` runs every block twice, first one
 * instruction at a time, then translated, and stops at the first difference.
 *
 * The stepped run goes first with an undo log of what it stores; then registers
 * and memory are put back and the block runs translated, on its own (nothing is
 * linked and the jump cache stays empty).  Blocks that touch devices, change
 * the mode or fault are only run translated: stepping them has effects that
 * cannot be undone.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "x86/jit.h"

#define LOG_N	256

struct undo {
	uint8_t		*p;
	uint8_t		old[32], new[32];
	unsigned	n;
};

static struct {
	struct cpu	*c;
	uint64_t	gpr[16], eflags, rip;
	struct xsave_area x;
	uint64_t	gpr1[16], eflags1, rip1;
	struct xsave_area x1;
	struct undo	log[LOG_N];
	unsigned	n;
	bool		stepping;
} k;

uint64_t check_blocks, check_skipped;

static void
put_back(void)
{
	unsigned i;

	for (i = k.n; i-- > 0;)
		memcpy(k.log[i].p, k.log[i].old, k.log[i].n);
	memcpy(k.c->gpr, k.gpr, sizeof(k.gpr));
	k.c->eflags = k.eflags;
	k.c->rip = k.rip;
	cpu_fpu_flush(k.c);
	k.c->xsave = k.x;
	k.c->exc_pending = -1;
	k.stepping = false;
}

/* Called when the stepped run raised: forget it. */
void
check_abort(struct cpu *c)
{
	if (k.stepping) {
		put_back();
		check_skipped++;
	}
}

static bool
note(struct cpu *c, uint64_t lin, unsigned n)
{
	uint8_t *p;

	if (n > 32 || k.n == LOG_N || (lin & 0xfff) + n > 4096)
		return false;
	p = x86_host(c, lin, ACC_WRITE, MODE_MMU(c->mode));
	cpu_fpu_flush(c);
	if (!p)
		return false;
	k.log[k.n].p = p;
	k.log[k.n].n = n;
	memcpy(k.log[k.n++].old, p, n);
	return true;
}

/* Can this instruction be stepped and undone? Logs what it stores. */
static bool
prepare(struct cpu *c, const struct insn *in)
{
	enum class cl = insn_class(c->mode, in);
	unsigned i;

	if (cl == CL_NOTHING)
		return true;
	if (cl != CL_COPY && cl != CL_STACK && cl != CL_BRANCH)
		return false;
	if (cl != CL_COPY && in->opsize != ((c->mode & M_SIZE) == M_64 ? 8 : 4)
	    && in->mnem != 0 && in->op[0].type != OP_IMM)
		return false;
	if (in->mnem != 0 && in->op[0].type == OP_PTR)
		return false;
	for (i = 0; i < in->nop; i++) {
		const struct operand *o = &in->op[i];
		uint64_t lin;

		if (o->type != OP_MEM || insn_class(c->mode, in) == CL_NOTHING)
			continue;
		if (in->raw[0] == 0x8d || o->size == 0 || o->size > 32)
			continue;
		lin = x86_linear(c, o->seg, x86_ea(c, in, o), o->size,
		    o->act & 2 ? ACC_WRITE : ACC_READ);
		if ((lin & 0xfff) + o->size > 4096)
			return false;
		if (o->act & 2) {
			if (!note(c, lin, o->size))
				return false;
		} else if (!x86_host(c, lin, ACC_READ, MODE_MMU(c->mode)))
			return false;
	}
	/* pushes and calls; noting too much does no harm */
	if (cl != CL_COPY)
		if (!note(c, c->gpr[RSP] - 8, 8))
			return false;
	return true;
}

static void
report(struct cpu *c, struct block *b, const char *what, uint64_t want,
    uint64_t got)
{
	fprintf(stderr, "check: %s: stepped %#llx, translated %#llx, block at "
	    "rip %#llx, %u instructions, mode %#x\n", what,
	    (unsigned long long)want, (unsigned long long)got,
	    (unsigned long long)k.rip, b->ninsn, b->mode);
}

static void
dump(struct cpu *c, struct block *b)
{
	unsigned i;
	uint8_t *p = x86_host(c, k.rip, ACC_READ, MODE_MMU(c->mode));

	cpu_fpu_flush(c);
	fprintf(stderr, "bytes:");
	for (i = 0; p && i < 64 && i < (unsigned)(b->hi - b->lo); i++)
		fprintf(stderr, " %02x", p[i]);
	for (i = 0; i < 16; i++)
		fprintf(stderr, "%sr%-2u %016llx", i % 4 ? "  " : "\n", i,
		    (unsigned long long)k.gpr[i]);
	fprintf(stderr, "\n");
}

/* Does the block go on at this page offset? */
static bool
goes_on(const struct block *b, const struct insn *in, uint64_t off)
{
	unsigned i;

	if (insn_class(b->mode, in) == CL_BRANCH &&
	    !branch_direct(b->mode, in))
		return false;
	for (i = 0; i < b->npc; i++)
		if ((b->pc[i].guest & ~PC_LAZY) == off)
			return true;
	return false;
}

/* The stepped run of block b. True: compare afterwards. */
bool
check_before(struct cpu *c, struct block *b)
{
	uint64_t base = c->rip - (b->key & 0xfff), was;
	struct insn in;
	unsigned i;

	cpu_fpu_flush(c);
	k.c = c;
	k.n = 0;
	memcpy(k.gpr, c->gpr, sizeof(k.gpr));
	k.eflags = c->eflags;
	k.rip = c->rip;
	k.x = c->xsave;
	k.stepping = true;
	do {
		was = c->rip;
		cpu_fpu_flush(c);
		x86_fetch(c, &in);
		if (!prepare(c, &in)) {
			check_abort(c);
			return false;
		}
		cpu_fpu_flush(c);
		x86_run_insn(c, &in);
	} while (c->rip > was && goes_on(b, &in, c->rip - base));
	cpu_fpu_flush(c);
	memcpy(k.gpr1, c->gpr, sizeof(k.gpr1));
	k.eflags1 = c->eflags;
	k.rip1 = c->rip;
	k.x1 = c->xsave;
	for (i = 0; i < k.n; i++)
		memcpy(k.log[i].new, k.log[i].p, k.log[i].n);
	put_back();
	check_blocks++;
	return true;
}

/* The block has run translated: the same? */
void
check_after(struct cpu *c, struct block *b, uint16_t defined)
{
	unsigned i;
	char what[48];

	cpu_fpu_flush(c);
	for (i = 0; i < 16; i++)
		if (c->gpr[i] != k.gpr1[i]) {
			snprintf(what, sizeof(what), "gpr %u", i);
			report(c, b, what, k.gpr1[i], c->gpr[i]);
			goto bad;
		}
	if (c->rip != k.rip1) {
		report(c, b, "rip", k.rip1, c->rip);
		goto bad;
	}
	if ((c->eflags ^ k.eflags1) & defined) {
		report(c, b, "flags", k.eflags1, c->eflags);
		goto bad;
	}
	for (i = 0; i < k.n; i++)
		if (memcmp(k.log[i].p, k.log[i].new, k.log[i].n)) {
			report(c, b, "memory", *(uint64_t *)k.log[i].new,
			    *(uint64_t *)k.log[i].p);
			goto bad;
		}
	if (memcmp(c->xsave.b + 160, k.x1.b + 160, 256)) {
		report(c, b, "xmm", 0, 0);
		goto bad;
	}
	return;
bad:
	dump(c, b);
	_exit(1);
}
