/*
 * tlb.c - the tables emitted code looks at: the TLB, the per-site slots and
 * the jump cache.
 *
 * An empty entry has a non-canonical tag and no addend, or is there itself, so
 * that even a guest address that equals the tag only reaches a host #GP, which is
 * what the guest should get.  Entries of non-global pages are logged as they are
 * filled, so that the usual flush (a CR3 write) clears a few entries and not
 * tables.  For slots emitted code decides, by the address: all of the lower half are logged,
 * none of the upper half, where `high_local` says that one was not global.
 */
#include "x86/jit.h"

#define EMPTY 0x8000000000000000ull
/* In the lower half, but canonical nowhere: see slot_flush_page(). */
#define NOWHERE 0x4000000000000000ull

static inline unsigned
index_of(uint64_t linear)
{
	return (unsigned)(linear >> 12) & (TLB_N - 1);
}

static void
clear(struct tlbe *t, unsigned n)
{
	for (; n--; t++) {
		t->tag = t->host = EMPTY;
		__asm__ volatile("" ::: "memory");	/* no memset call */
	}
}

static void
slot_clear(struct site_slot *t, unsigned n)
{
	for (; n--; t++) {
		t->tag = EMPTY;
		t->addend = 0;
		__asm__ volatile("" ::: "memory");
	}
}

void
jc_flush(struct cpu *c, unsigned set)
{
	uint64_t *p = c->jc[set].pages;
	unsigned long n = JC_PAGES / 64;
	unsigned i;

	for (i = 0; i < JC_N; i++)
		c->jc[set].e[i].tag = EMPTY;
	__asm__ volatile("rep stosq" : "+D"(p), "+c"(n) : "a"(0ull)
	    : "memory");
	c->jc_log[set].n = 0;
}

static void
jc_flush_page(struct cpu *c, unsigned set, uint64_t linear)
{
	struct jcache *j = &c->jc[set];
	uint64_t page = linear >> 12;
	unsigned i, a, b;

	/* the last instruction of the page before may reach into this one */
	a = jc_page_bit(page);
	b = jc_page_bit(page - 1);
	if (!(j->pages[a / 64] >> (a % 64) & 1) &&
	    !(j->pages[b / 64] >> (b % 64) & 1))
		return;
	for (i = 0; i < JC_N; i++)
		if (j->e[i].tag >> 12 == page || j->e[i].tag >> 12 == page - 1)
			j->e[i].tag = EMPTY;
}

static void
jc_flush_nonglobal(struct cpu *c, unsigned set)
{
	struct flush_log *l = &c->jc_log[set];
	unsigned i, k;

	if (l->n > FLUSH_LOG) {
		jc_flush(c, set);
		return;
	}
	for (i = 0; i < l->n; i++)
		for (k = 0; k < JC_WAYS; k++)
			c->jc[set].e[l->i[i] + k].tag = EMPTY;
	l->n = 0;
}

static void
itlb_flush(struct cpu *c)
{
	unsigned i, j;

	for (j = 0; j < 2; j++)
		for (i = 0; i < ITLB_N; i++)
			c->itlb[j][i].tag = 1;
	c->itlb_log.n = 0;
}

void
tlb_flush_all(struct cpu *c)
{
	unsigned m;

	for (m = 0; m < 16; m++)
		c->large[m] = 0;
	c->high_local = 0;
	c->calls_stale = 1;
	for (m = 0; m < MMU_N; m++) {
		clear(c->tlb[m][0], 2 * TLB_N);
		slot_clear(c->slot[m][0], 2 * SLOT_N);
		c->tlb_log[m].n = c->slot_log[m].n = 0;
		jc_flush(c, m);
	}
	itlb_flush(c);
}

/* Both halves, reads and writes, of the entries in the log. */
static void
tlb_clear_logged(struct tlbe *t, struct flush_log *l)
{
	unsigned i;

	if (l->n > FLUSH_LOG)
		clear(t, 2 * TLB_N);
	else
		for (i = 0; i < l->n; i++) {
			clear(&t[l->i[i]], 1);
			clear(&t[l->i[i] + TLB_N], 1);
		}
	l->n = 0;
}

void
tlb_flush_nonglobal(struct cpu *c)
{
	struct itlbe *t = c->itlb[0];
	unsigned m, i;

	if (!jit_on.global) {
		tlb_flush_all(c);
		return;
	}
	c->calls_stale = 1;
	for (m = 0; m < MMU_N; m++) {
		tlb_clear_logged(c->tlb[m][0], &c->tlb_log[m]);
		if (c->high_local >> m & 1 || c->slot_log[m].n > 2 * SLOT_N)
			slot_clear(c->slot[m][0], 2 * SLOT_N);
		else
			for (i = 0; i < c->slot_log[m].n; i++)
				slot_clear(c->slot[m][0] + c->slot_log[m].i[i], 1);
		c->slot_log[m].n = 0;
		jc_flush_nonglobal(c, m);
	}
	if (c->itlb_log.n > FLUSH_LOG)
		itlb_flush(c);
	for (i = 0; i < c->itlb_log.n; i++)
		t[c->itlb_log.i[i]].tag = 1;
	c->itlb_log.n = 0;
	c->high_local = 0;
}

static void
slot_flush_page(struct cpu *c, unsigned m, uint64_t tag)
{
	const struct slot_log *l = &c->slot_log[m];
	struct site_slot *t = c->slot[m][0];
	unsigned i;

	if (!(tag >> 63) && l->n <= 2 * SLOT_N) {
		/* it stays in the log: a tag of the lower half says so */
		for (i = 0; i < l->n; i++)
			if (t[l->i[i]].tag == tag)
				t[l->i[i]] = (struct site_slot){ NOWHERE, 0 };
		return;
	}
	for (i = 0; i < 2 * SLOT_N; i++)
		if (t[i].tag == tag)
			slot_clear(&t[i], 1);
}

void
tlb_flush_page(struct cpu *c, uint64_t linear)
{
	unsigned m, a, i = index_of(linear);
	uint64_t tag = linear & ~0xfffull;

	if (c->large[linear >> 36 & 15] >> (linear >> 30 & 63) & 1) {
		tlb_flush_all(c);	/* SDM 3A 4.10.4.1 */
		return;
	}
	c->calls_stale = 1;
	for (m = 0; m < MMU_N; m++) {
		for (a = 0; a < 2; a++)
			if (c->tlb[m][a][i].tag == tag)
				clear(&c->tlb[m][a][i], 1);
		slot_flush_page(c, m, tag);
		jc_flush_page(c, m, linear);
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

	c->n_lost++;
	for (m = 0; m < MMU_N; m++) {
		for (i = 0; i < TLB_N; i++)
			if (c->tlb[m][1][i].host == host)
				clear(&c->tlb[m][1][i], 1);
		for (i = 0; i < SLOT_N; i++)
			if (c->slot[m][1][i].tag + c->slot[m][1][i].addend ==
			    host)
				slot_clear(&c->slot[m][1][i], 1);
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
		if (page < jit.npage && !block_writer(c, page))
			return;
	}
	c->n_fill++;
	if (w->page > 4096)
		c->large[linear >> 36 & 15] |= 1ull << (linear >> 30 & 63);
	c->tlb[mmu][access == ACC_WRITE][i] = (struct tlbe){
		linear & ~0xfffull, (uint64_t)p };
	if (!w->global) {
		flush_log(&c->tlb_log[mmu], (uint16_t)i);
		c->high_local |= (uint8_t)(linear >> 63 << mmu);
	}
}
