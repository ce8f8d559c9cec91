/*
 * difftest.h - what the files of difftest share: the memory both sides see,
 * the register state, and the machines code is tried in.
 */
#ifndef DIFFTEST_H
#define DIFFTEST_H

#include <err.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <Zydis/Zydis.h>

#include "cpu/x86/jit.h"
#include "dev/intc.h"

#define CODE	0x10000000ull
#define CODE_N	(1u << 20)
#define DATA	0x20000000ull
#define DATA_N	0x4000u
#define SAVE	0x30000000ull
#define RAM_N	(16u << 20)
#define HANDLER	0x11000000ull

struct regs {
	uint64_t	gpr[16], flags;
	uint32_t	resume_off;		/* far pointer to the code */
	uint16_t	resume_cs, pad;
	uint64_t	rip, cr2;		/* of a fault */
	uint8_t		x[1024] __attribute__((aligned(64)));
};

/*
 * The machines.  In those with segments, data segments have bases and limits
 * of their own; in the others they are flat but for GS, whose base is GS_BASE.
 * All are long mode: 64-bit code, or 16- or 32-bit code in compatibility mode.
 */
enum kind { V64, V32, V32S, V16, V16S, NKIND };
#define GS_BASE	0x40
static const char *const kind_name[NKIND] = { "64-bit", "32-bit, flat",
	"32-bit, segments", "16-bit, flat", "16-bit, segments" };
static enum kind kind;
static bool ss32;			/* with segments: SS.B */
static bool downward;			/* with segments: ES expands down */

static inline bool
segmented(void)
{
	return kind == V32S || kind == V16S;
}

/* Offset of the first byte of data as addresses are computed. */
static inline uint32_t
origin(void)
{
	return segmented() ? 0 : (uint32_t)DATA;
}

/* The segments with bases, as the host's LDT has them. */
enum ldt { L_DS, L_ES, L_ES_DOWN, L_SS16, L_SS32, L_GS, L_GS_FLAT, L_CS16,
	L_CS32 = L_CS16 + CODE_N / 65536, L_N = L_CS32 + CODE_N / 65536 };
struct segdesc {
	uint32_t	base, limit;
	bool		big, code, down;
};
static inline struct segdesc
segdesc(unsigned l)
{
	switch (l) {
	case L_DS:
		return (struct segdesc){ DATA, DATA_N - 1, true };
	case L_ES:
		return (struct segdesc){ DATA + 0x200, DATA_N - 0x401, true };
	case L_ES_DOWN:
		return (struct segdesc){ DATA, 0x7ff, .down = true };
	case L_SS16:
	case L_SS32:
		return (struct segdesc){ DATA + 0x100, DATA_N - 0x101,
			l == L_SS32 };
	case L_GS:
		return (struct segdesc){ DATA + GS_BASE, DATA_N - GS_BASE - 1,
			true };
	case L_GS_FLAT:
		return (struct segdesc){ GS_BASE, ~0u, true };
	}
	return (struct segdesc){ (uint32_t)CODE + (l - (l < L_CS32 ? L_CS16 :
		L_CS32)) * 65536, 0xffff, l >= L_CS32, true };
}
#define LDT_SEL(l)	((uint16_t)((l) << 3 | 7))

/* Which LDT entry a segment register holds, or -1: flat. */
static inline int
seg_ldt(unsigned seg, uint64_t pc)
{
	unsigned chunk = (unsigned)((pc - CODE) / 65536);

	switch (seg) {
	case CS:
		return kind == V16 || kind == V16S ? (int)(L_CS16 + chunk) :
		    kind == V32S ? (int)(L_CS32 + chunk) : -1;
	case GS:
		return kind == V64 ? -1 : segmented() ? L_GS : L_GS_FLAT;
	case DS:
		return segmented() ? L_DS : -1;
	case ES:
		return !segmented() ? -1 : downward ? L_ES_DOWN : L_ES;
	case SS:
		return !segmented() ? -1 : ss32 ? L_SS32 : L_SS16;
	}
	return -1;
}

static inline uint32_t
seg_base(unsigned seg, uint64_t pc)
{
	int l = seg_ldt(seg, pc);

	return l >= 0 ? segdesc((unsigned)l).base : 0;
}

static uint64_t seed = 1;
static struct cpu *cpu;

static inline uint64_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static inline uint64_t
value(void)
{
	static const uint64_t edge[] = { 0, 1, ~0ull, 0x7f, 0x80, 0xff, 0x7fff,
		0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7fffffffffffffff, 0x8000000000000000 };

	switch (rnd() % 4) {
	case 0:
		return edge[rnd() % 14];
	case 1:
		return rnd() % 256;
	case 2:
		return (uint32_t)rnd();
	}
	return rnd();
}

#endif
