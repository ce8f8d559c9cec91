/*
 * stat.c - what the vcpus count: `info jit' and `stat' (PROTOCOL.md "Questions to
 * the vcpu").
 *
 * Nothing is counted where it would cost, unless count=on: an access that hits is
 * not, and refills of slots are counted by 256, when one of them is looked at
 * (profile_refilled).
 */
#include <stdlib.h>

#include "vcpu.h"
#include "x86/jit.h"

typedef unsigned long long ull;

void
stat_vcpus(FILE *f)
{
	unsigned i;

	for (i = 0; i < machine.ncpu; i++) {
		const struct cpu *c = machine.cpu[i];

		fprintf(f, "cpu=%u exits=%llu fills=%llu faults=%llu irqs=%llu "
		    "io=%llu halts=%llu translated=%llu helpers=%llu "
		    "finds=%llu misses=%llu refills=%llu\n", i,
		    (ull)c->n_exit, (ull)c->n_fill, (ull)c->n_fault,
		    (ull)c->n_irq, (ull)c->n_io, (ull)c->n_halt,
		    (ull)c->n_translate, (ull)c->n_helper, (ull)c->n_find,
		    (ull)c->n_miss, (ull)(c->n_refill + c->sample));
	}
}

struct count { uint64_t n; const char *name; };

static int
most(const void *a, const void *b)
{
	uint64_t x = ((const struct count *)a)->n;
	uint64_t y = ((const struct count *)b)->n;

	return x < y ? 1 : -(x > y);
}

/* The TOP greatest that are not 0, a line each. */
#define TOP 10
static void
greatest(FILE *f, struct count *t, unsigned n)
{
	unsigned i;

	qsort(t, n, sizeof(*t), most);
	for (i = 0; i < n && i < TOP && t[i].n; i++)
		fprintf(f, "  %-14s%10llu\n", t[i].name, (ull)t[i].n);
}

static void
rate(FILE *f, const char *name, uint64_t all, uint64_t not)
{
	if (all)
		fprintf(f, "%-16s%10llu per mille of %llu\n", name,
		    (ull)((all - not) * 1000 / all), (ull)all);
}

/* With count=on only. */
static void
stat_hits(FILE *f)
{
	uint64_t slot = 0, tlb = 0, refill = 0, miss = 0;
	unsigned i;

	if (!jit_count)
		return;
	for (i = 0; i < machine.ncpu; i++) {
		const struct cpu *c = machine.cpu[i];

		slot += c->n_by_slot;
		tlb += c->n_by_tlb;
		refill += c->n_refill + c->sample;
		miss += c->n_miss;
	}
	rate(f, "slot hits", slot, refill);
	rate(f, "TLB hits", tlb + refill, miss);
}

void
stat_jit(FILE *f)
{
	static const struct { const char *name; unsigned off; } totals[] = {
#define N(name, m)	{ name, offsetof(struct cpu, m) }
		N("run loop", n_exit), N("interrupts", n_irq),
		N("exceptions", n_fault), N("halts", n_halt),
		N("jump cache miss", n_find), N("slots refilled", n_refill),
		N("TLB misses", n_miss), N("TLB fills", n_fill),
		N("slow accesses", n_io), N("helpers", n_helper),
#undef N
	};
	static struct count mnem[MNEM_N], part[PART_MAX];
	const struct { bool on; const char *key; } on[] = {
#define ON(field, key, what)	{ jit_on.field, key },
		JIT_SWITCHES(ON)
#undef ON
	};
	unsigned i, k;

	block_info(f);
	for (i = 0; i < sizeof(on) / sizeof(on[0]); i++)
		if (!on[i].on)
			fprintf(f, "switched off    %10s\n", on[i].key);
	for (k = 0; k < sizeof(totals) / sizeof(totals[0]); k++) {
		uint64_t n = 0;

		for (i = 0; i < machine.ncpu; i++)
			n += *(const uint64_t *)((const char *)machine.cpu[i] +
			    totals[k].off);
		fprintf(f, "%-16s%10llu\n", totals[k].name, (ull)n);
	}
	stat_hits(f);
	for (k = 0; k < MNEM_N; k++) {
		mnem[k] = (struct count){ 0, ZydisMnemonicGetString(k) };
		for (i = 0; i < machine.ncpu; i++)
			mnem[k].n += machine.cpu[i]->n_mnem[k];
	}
	greatest(f, mnem, MNEM_N);
	for (k = 0; k < PART_MAX; k++) {
		part[k] = (struct count){ 0, k ? machine.chan[k].name : "cpu" };
		for (i = 0; i < machine.ncpu; i++)
			part[k].n += machine.cpu[i]->n_part[k];
	}
	fprintf(f, "accesses to parts\n");
	greatest(f, part, PART_MAX);
}
