/* int.c - integer kernels that compute: what they touch fits the L1 or L2. */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

/* ---------------------------------------------------------------- sorting */
enum { SORT_N = 20000 };
static uint32_t keys[SORT_N];

static void
fill_keys(void)
{
	uint64_t s = 88172645463325252ull;

	for (int i = 0; i < SORT_N; i++)
		keys[i] = rnd(&s) >> 32;
}

static uint64_t
sum_keys(void)
{
	uint64_t h = 0;

	for (int i = 0; i < SORT_N; i += 7)
		h = mix(h, keys[i]);
	return h;
}

static void
quick(uint32_t *a, long n)
{
	while (n > 12) {
		uint32_t p = a[n / 2], x;
		long i = 0, j = n - 1;
		while (i <= j) {
			while (a[i] < p)
				i++;
			while (a[j] > p)
				j--;
			if (i <= j) {
				x = a[i];
				a[i++] = a[j];
				a[j--] = x;
			}
		}
		quick(a, j + 1);
		a += i;
		n -= i;
	}
	for (long i = 1; i < n; i++) {
		uint32_t x = a[i];
		long j = i;
		for (; j > 0 && a[j - 1] > x; j--)
			a[j] = a[j - 1];
		a[j] = x;
	}
}

static uint64_t
sort(void)
{
	fill_keys();
	quick(keys, SORT_N);
	return sum_keys();
}

static int
by_key(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* by way of the C library's pointer to a function */
static uint64_t
sort_libc(void)
{
	fill_keys();
	qsort(keys, SORT_N, sizeof *keys, by_key);
	return sum_keys();
}

/* ---------------------------------------------------------------- digests */
enum { TEXT_N = 1 << 20 };
static uint32_t crc_table[256];

static int
crc_setup(void)
{
	uint64_t s = 1;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
		crc_table[i] = c;
	}
	for (int i = 0; i < TEXT_N; i++)
		arena[i] = rnd(&s);
	return 0;
}

static uint64_t
crc32(void)
{
	uint32_t c = ~0u;

	for (int i = 0; i < TEXT_N; i++)
		c = crc_table[(c ^ arena[i]) & 255] ^ c >> 8;
	return ~c;
}

static uint32_t
ror(uint32_t v, int n)
{
	return v >> n | v << (32 - n);
}

/* FIPS 180-4 6.2.2.  The constants are the fractions of the first cube roots
 * of primes; digest_setup finds them in integers. */
static uint32_t sha_k[64];

static int
sha_setup(void)
{
	unsigned n = 0;

	for (unsigned p = 2; n < 64; p++) {
		unsigned d = 2;
		while (d * d <= p && p % d)
			d++;
		if (d * d <= p)
			continue;
		/* the root of p * 2^96: bits of it below 2^32 */
		uint64_t r = 0;
		for (int b = 35; b >= 0; b--) {
			unsigned __int128 t = r | 1ull << b;
			/* t^3 <= p << 96, t < 2^36: t^3 < 2^108 */
			if (t * t * t <= (unsigned __int128)p << 96)
				r = t;
		}
		sha_k[n++] = r;
	}
	return crc_setup();
}

static void
sha_block(uint32_t *h, const uint8_t *p)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++, p += 4)
		w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];
		w[i] = w[i - 16] + w[i - 7] +
		    (ror(a, 7) ^ ror(a, 18) ^ a >> 3) +
		    (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
	}
	memcpy(v, h, sizeof v);
	for (int i = 0; i < 64; i++) {
		uint32_t a = v[0], e = v[4];
		uint32_t t1 = v[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) +
		    ((e & v[5]) ^ (~e & v[6])) + sha_k[i] + w[i];
		uint32_t t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) +
		    ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
		v[7] = v[6];
		v[6] = v[5];
		v[5] = v[4];
		v[4] = v[3] + t1;
		v[3] = v[2];
		v[2] = v[1];
		v[1] = v[0];
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

static uint64_t
sha256(void)
{
	uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

	for (int i = 0; i < TEXT_N / 2; i += 64)
		sha_block(h, arena + i);
	return (uint64_t)h[0] << 32 | h[7];
}

/* ----------------------------------------------------------- control flow */
static __attribute__((noinline)) uint64_t
fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t
fib_unit(void)
{
	return fib(27);
}

static int
place(unsigned all, unsigned cols, unsigned left, unsigned right)
{
	unsigned free = all & ~(cols | left | right);
	int n = cols == all;

	while (free) {
		unsigned bit = free & -free;
		free ^= bit;
		n += place(all, cols | bit, (left | bit) << 1,
		    (right | bit) >> 1);
	}
	return n;
}

static uint64_t
queens(void)
{
	return place((1 << 9) - 1, 0, 0, 0);
}

static uint64_t
collatz(void)
{
	uint64_t steps = 0;

	for (uint64_t i = 1; i <= 10000; i++)
		for (uint64_t n = i; n != 1; steps++)
			n = n & 1 ? 3 * n + 1 : n / 2;
	return steps;
}

enum opcode { PUSH, LOAD, STORE, ADD, SUB, MUL, XOR, SHR, DUP, SWAP, LESS,
	JNZ, JMP, STOP };

/* x = 1; for (i = 0; i < N; i++) x = (x * 5 + i) ^ (x >> 3), a stack machine */
static const int32_t program[] = {
	PUSH, 1, STORE, 0, PUSH, 0, STORE, 1,
	LOAD, 0, PUSH, 5, MUL, LOAD, 1, ADD, LOAD, 0, PUSH, 3, SHR, XOR,
	STORE, 0, LOAD, 1, PUSH, 1, ADD, DUP, STORE, 1, PUSH, 20000, LESS,
	JNZ, 8, STOP,
};

static uint64_t
interp(void)
{
	static const void *const to[] = {&&push, &&load, &&store, &&add, &&sub,
	    &&mul, &&xor, &&shr, &&dup, &&swap, &&less, &&jnz, &&jmp, &&stop};
	const int32_t *pc = program;
	uint32_t stack[16], *sp = stack, var[4] = {0}, x;

#define NEXT	goto *to[*pc++]
	NEXT;
push:	*sp++ = *pc++; NEXT;
load:	*sp++ = var[*pc++]; NEXT;
store:	var[*pc++] = *--sp; NEXT;
add:	sp--; sp[-1] += *sp; NEXT;
sub:	sp--; sp[-1] -= *sp; NEXT;
mul:	sp--; sp[-1] *= *sp; NEXT;
xor:	sp--; sp[-1] ^= *sp; NEXT;
shr:	sp--; sp[-1] >>= *sp; NEXT;
dup:	*sp = sp[-1]; sp++; NEXT;
swap:	x = sp[-1]; sp[-1] = sp[-2]; sp[-2] = x; NEXT;
less:	sp--; sp[-1] = sp[-1] < *sp; NEXT;
jnz:	x = *pc++; if (*--sp) pc = program + x; NEXT;
jmp:	pc = program + *pc; NEXT;
stop:
#undef NEXT
	return var[0];
}

/* Shapes with an operation each: an indirect call that goes to one of four. */
struct shape {
	uint32_t (*grow)(struct shape *, uint32_t);
	uint32_t size;
};

static uint32_t
grow_a(struct shape *s, uint32_t x)
{
	return s->size += x;
}

static uint32_t
grow_b(struct shape *s, uint32_t x)
{
	return s->size = s->size * 3 + x;
}

static uint32_t
grow_c(struct shape *s, uint32_t x)
{
	return s->size ^= x << 5;
}

static uint32_t
grow_d(struct shape *s, uint32_t x)
{
	return s->size -= x >> 2;
}

static uint64_t
virtual(void)
{
	static uint32_t (*const kind[])(struct shape *, uint32_t) = {grow_a,
	    grow_b, grow_c, grow_d};
	static struct shape shapes[256];
	uint64_t s = 42;
	uint32_t x = 1;

	for (int i = 0; i < 256; i++)
		shapes[i] = (struct shape){kind[rnd(&s) >> 62], i};
	for (int i = 0; i < 400; i++)
		for (int k = 0; k < 256; k++)
			x = shapes[k].grow(&shapes[k], x);
	return x;
}

/* -------------------------------------------------------------- arithmetic */
static uint64_t
matrix(void)
{
	enum { N = 96 };
	static int32_t a[N][N], b[N][N], c[N][N];
	uint64_t s = 7, h = 0;

	for (int i = 0; i < N * N; i++) {
		a[i / N][i % N] = rnd(&s);
		b[i / N][i % N] = rnd(&s);
	}
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			uint32_t t = 0;
			for (int k = 0; k < N; k++)
				t += (uint32_t)a[i][k] * b[k][j];
			c[i][j] = t;
		}
	for (int i = 0; i < N; i++)
		h = mix(h, c[i][i ^ 1]);
	return h;
}

/* 64-bit modular exponentiation: mul and div of 128 bits */
static uint64_t
modexp(void)
{
	const uint64_t m = 0xffffffffffffffc5ull;
	uint64_t h = 0;

	for (uint64_t i = 2; i < 402; i++) {
		uint64_t r = 1, b = i;
		for (uint64_t e = m - 2; e; e >>= 1) {
			uint64_t q;
			if (e & 1) {
				unsigned __int128 t = (unsigned __int128)r * b;
				__asm__("divq %3" : "=d"(r), "=a"(q) :
				    "a"((uint64_t)t), "r"(m),
				    "d"((uint64_t)(t >> 64)) : "cc");
			}
			unsigned __int128 t = (unsigned __int128)b * b;
			__asm__("divq %3" : "=d"(b), "=a"(q) :
			    "a"((uint64_t)t), "r"(m),
			    "d"((uint64_t)(t >> 64)) : "cc");
		}
		h = mix(h, r);
	}
	return h;
}

const struct kernel int_kernels[] = {
	{"sort", "key", sort, SORT_N, 0xea9702a5ebf30b81ull},
	{"qsort", "key", sort_libc, SORT_N, 0xea9702a5ebf30b81ull},
	{"crc32", "byte", crc32, TEXT_N, 0xf1767b73ull, crc_setup},
	{"sha256", "byte", sha256, TEXT_N / 2,
	    0x790a021af9ce9106ull, sha_setup},
	{"fib", "call", fib_unit, 832040, 0x2ff42ull},
	{"queens", "node", queens, 8394, 0x160ull},
	{"collatz", "step", collatz, 849666, 0xcf702ull},
	{"interp", "instruction", interp, 320000, 0xd9dd7aa9ull},
	{"virtual", "call", virtual, 400 * 256, 0x9cdbf33full},
	{"matrix", "multiply", matrix, 96 * 96 * 96, 0x139f7828059ae50cull},
	{"modexp", "division", modexp, 400 * 128, 0x78c21689a839929eull},
	{NULL},
};
