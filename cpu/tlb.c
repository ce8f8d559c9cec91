/*
 * tlb.c - the tables emitted code looks at: the TLB, the per-site slots and
 * the jump cache.
 *
 * An empty entry has a non-canonical tag and addend, so that even a guest
 * address that equals the tag only reaches a host #GP, which is what the guest
 * should get.  Entries of non-global pages are logged as they are filled, so
 * that the usual flush (a CR3 write) clears a few entries and not tables.
 */
#include "block.h"

#define EMPTY 0x8000000000000000ull

static inline unsigned
index_of(uint64_t linear)
{
	return (unsigned)(linear >> 12) & (TLB_N - 1);
}

static void
clear(struct tlbe *t, unsigned n)
{
	for (; n--; t++) {
		t->tag = EMPTY;
		t->addend = EMPTY;
		__asm__ volatile("" ::: "memory");	/* no memset call */
	}
}

void
jc_flush(struct cpu *c, unsigned set)
{
	uint64_t *p = c->jc[set].ntag;
	unsigned long n = JC_N;

	/* 1: no rip's negation within reach, rip ~0 holds no instruction */
	__asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(1ull)
	    : "memory");
}

static void
itlb_flush(struct cpu *c)
{
	unsigned i, j;

	for (j = 0; j < 2; j++)
		for (i = 0; i < ITLB_N; i++)
			c->itlb[j][i].tag = 1;
}

void
tlb_flush_all(struct cpu *c)
{
	unsigned m;

	for (m = 0; m < 16; m++)
		c->large[m] = 0;
	for (m = 0; m < MMU_N; m++) {
		clear(c->tlb[m][0], 2 * TLB_N);
		clear(c->slot[m][0], 2 * SLOT_N);
		c->tlb_nlog[m] = c->slot_nlog[m] = 0;
		jc_flush(c, m);
	}
	itlb_flush(c);
}

void
tlb_flush_nonglobal(struct cpu *c)
{
	unsigned m, i;

	for (m = 0; m < MMU_N; m++) {
		if (c->tlb_nlog[m] > FLUSH_LOG)
			clear(c->tlb[m][0], 2 * TLB_N);
		else
			for (i = 0; i < c->tlb_nlog[m]; i++) {
				clear(&c->tlb[m][0][c->tlb_log[m][i]], 1);
				clear(&c->tlb[m][1][c->tlb_log[m][i]], 1);
			}
		if (c->slot_nlog[m] > FLUSH_LOG)
			clear(c->slot[m][0], 2 * SLOT_N);
		else
			for (i = 0; i < c->slot_nlog[m]; i++) {
				clear(&c->slot[m][0][c->slot_log[m][i]], 1);
				clear(&c->slot[m][1][c->slot_log[m][i]], 1);
			}
		c->tlb_nlog[m] = c->slot_nlog[m] = 0;
		jc_flush(c, m);
	}
	itlb_flush(c);
}

void
tlb_flush_page(struct cpu *c, uint64_t linear)
{
	unsigned m, a, i = index_of(linear), s;
	uint64_t tag = linear & ~0xfffull;

	if (c->large[linear >> 36 & 15] >> (linear >> 30 & 63) & 1) {
		tlb_flush_all(c);	/* SDM 3A 4.10.4.1 */
		return;
	}
	for (m = 0; m < MMU_N; m++) {
		for (a = 0; a < 2; a++) {
			if (c->tlb[m][a][i].tag == tag)
				clear(&c->tlb[m][a][i], 1);
			for (s = 0; s < SLOT_N; s++)
				if (c->slot[m][a][s].tag == tag)
					clear(&c->slot[m][a][s], 1);
		}
		jc_flush(c, m);
	}
	for (m = 0; m < 2; m++)
		c->itlb[m][(linear >> 12) % ITLB_N].tag = 1;
}

/* No writable entry for this RAM page may survive: it will hold code. */
void
tlb_drop_write(struct cpu *c, uint64_t ram_off)
{
	uint64_t host = (uint64_t)machine.ram->base + ram_off;
	unsigned m, i;

	for (m = 0; m < MMU_N; m++) {
		for (i = 0; i < TLB_N; i++)
			if (c->tlb[m][1][i].addend == host)
				clear(&c->tlb[m][1][i], 1);
		for (i = 0; i < SLOT_N; i++)
			if (c->slot[m][1][i].addend == host)
				clear(&c->slot[m][1][i], 1);
	}
}

void
tlb_init(struct cpu *c)
{
	tlb_flush_all(c);
}

/*
 * Enter the page of `linear` after a successful walk.  Nothing is entered for
 * pages that are not plain memory, or for writes to pages that hold code or
 * whose dirty bit is not set yet.
 */
void
tlb_fill(struct cpu *c, uint64_t linear, int access, unsigned mmu,
    const struct walk *w)
{
	unsigned i = index_of(linear);
	uint64_t page;
	bool writable;
	uint8_t *p;

	p = io_page(c, w->gpa & ~0xfffull, &writable);
	if (!p)
		return;
	if (access == ACC_WRITE) {
		if (!writable)
			return;
		page = (uint64_t)(p - machine.ram->base) >> 12;
		if (page < jit.npage) {
			if (dirty_code(machine.dirty, page))
				return;
			jit.wpage[page] = 1;
		}
	}
	c->n_fill++;
	if (w->page > 4096)
		c->large[linear >> 36 & 15] |= 1ull << (linear >> 30 & 63);
	c->tlb[mmu][access == ACC_WRITE][i].tag = linear & ~0xfffull;
	c->tlb[mmu][access == ACC_WRITE][i].addend = (uint64_t)p;
	if (!w->global) {
		if (c->tlb_nlog[mmu] < FLUSH_LOG)
			c->tlb_log[mmu][c->tlb_nlog[mmu]] = (uint16_t)i;
		if (c->tlb_nlog[mmu] <= FLUSH_LOG)
			c->tlb_nlog[mmu]++;
	}
}
