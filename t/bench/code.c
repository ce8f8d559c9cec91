/*
 * code.c - kernels whose cost is in the code itself: how much of it there is,
 * where it lies and when it was written.  A processor hardly notices; who
 * translates it does.
 */
#include <string.h>
#include <sys/mman.h>

#include "kernels.h"

enum { SIZE = 32, MANY = 65536, CALLED = 20000, FRESH = 4096 };
static uint8_t *code;		/* MANY functions */

/* a function of ten instructions and a branch, in SIZE bytes */
static void
put(uint8_t *p, uint32_t a, uint32_t b)
{
	static const uint8_t text[SIZE] = {
		0x89, 0xf8,			/* mov %edi, %eax */
		0x69, 0xc0, 0, 0, 0, 0,		/* imul $a, %eax, %eax */
		0x05, 0, 0, 0, 0,		/* add $b, %eax */
		0x89, 0xc1,			/* mov %eax, %ecx */
		0xc1, 0xe9, 7,			/* shr $7, %ecx */
		0x31, 0xc8,			/* xor %ecx, %eax */
		0xa9, 0x10, 0, 0, 0,		/* test $16, %eax */
		0x74, 2,			/* jz 1f */
		0xf7, 0xd0,			/* not %eax */
		0xc3, 0x90, 0x90		/* 1: ret */
	};

	memcpy(p, text, SIZE);
	memcpy(p + 4, &a, 4);
	memcpy(p + 9, &b, 4);
}

static uint32_t
call(const uint8_t *p, uint32_t x)
{
	return ((uint32_t (*)(uint32_t))(uintptr_t)p)(x);
}

static uint8_t *
room(size_t n)
{
	uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int
code_setup(void)
{
	if ((code = room(MANY * SIZE + 4096)) == NULL)
		return -1;
	for (uint32_t i = 0; i < MANY; i++)
		put(code + i * SIZE, i * 2 + 1, i);
	return 0;
}

static void
code_end(void)
{
	munmap(code, MANY * SIZE + 4096);
}

/* more code than caches of translations like to have: 20000 functions of 2 MiB
 * in no order */
static uint64_t
wide(void)
{
	uint64_t s = 31;
	uint32_t x = 1;

	for (int i = 0; i < CALLED; i++)
		x = call(code + (rnd(&s) >> 48) * SIZE, x);
	return x;
}

/* an instruction that lies on two pages */
static uint64_t
straddle(void)
{
	uint8_t *f = code + 8192 - 4;
	uint32_t x = 1;

	put(f, 7, 5);
	for (int i = 0; i < 10000; i++)
		x = call(f, x);
	put(code + 8192 - SIZE, 9, 5);
	put(code + 8192, 11, 5);
	return x;
}

/* as a program does that has just been started: all code is new, runs once */
static uint64_t
cold(void)
{
	uint8_t *p = room(FRESH * SIZE);
	uint32_t x = 1;

	if (p == NULL)
		return 0;
	for (uint32_t i = 0; i < FRESH; i++)
		put(p + i * SIZE, i * 4 + 3, i);
	for (uint32_t i = 0; i < FRESH; i++)
		x = call(p + i * SIZE, x);
	munmap(p, FRESH * SIZE);
	return x;
}

/* what was just executed is written again */
static uint64_t
rewrite(void)
{
	uint32_t x = 1;

	for (uint32_t i = 0; i < 500; i++) {
		put(code, i | 1, x);
		x = call(code, x);
	}
	return x;
}

/* data beside code: a store to the page that the loop's function is on */
static uint64_t
beside(void)
{
	volatile uint32_t *d = (uint32_t *)(code + 2048);
	uint32_t x = 1;

	for (int i = 0; i < 2000; i++)
		*d = x = call(code + 4096 - SIZE, x);
	put(code + 2048, 1, 1);
	return x;
}

const struct kernel code_kernels[] = {
	{"wide", "call", wide, CALLED, 0xe4ab82e1ull, code_setup, code_end},
	{"straddle", "call", straddle, 10000,
	    0xef5b3163ull, code_setup, code_end},
	{"cold", "new function", cold, FRESH, 0x14750089ull},
	{"rewrite", "rewritten function", rewrite, 500,
	    0x72981efull, code_setup, code_end},
	{"beside", "call and store", beside, 2000,
	    0x895298c8ull, code_setup, code_end},
	{NULL},
};
