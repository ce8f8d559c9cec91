/* mem.c - integer kernels that move: tables, lists, strings, compression. */
#include <string.h>

#include "kernels.h"

/* -------------------------------------------------------------- hash table */
struct slot {
	uint64_t key, value;
};
enum { BIG_N = 400000, SMALL_N = 50000 };
enum { BIG = ARENA / sizeof(struct slot), SMALL = 1024 };

static uint64_t
key(uint64_t i)
{
	return (i + 1) * 0xd6e8feb86659fd93ull;
}

static struct slot *
find(uint64_t k, unsigned size)
{
	struct slot *t = (struct slot *)arena;
	uint64_t i = (k ^ k >> 32) & (size - 1);

	while (t[i].key && t[i].key != k)
		i = (i + 1) & (size - 1);
	return &t[i];
}

static int
hash_fill(unsigned size)
{
	memset(arena, 0, size * sizeof(struct slot));
	for (unsigned i = 0; i < size / 4; i++)
		*find(key(i), size) = (struct slot){key(i), i};
	return 0;
}

static int
hash_big_setup(void)
{
	return hash_fill(BIG);
}

static int
hash_small_setup(void)
{
	return hash_fill(SMALL);
}

/* half of the keys that are looked for are there */
static uint64_t
hash_use(unsigned size, int lookups)
{
	uint64_t s = 99, h = 0;

	for (int i = 0; i < lookups; i++) {
		struct slot *p = find(key(rnd(&s) & (size / 2 - 1)), size);
		h += p->key ? p->value : 1;
	}
	return h;
}

static uint64_t
hash_big(void)
{
	return hash_use(BIG, BIG_N);
}

static uint64_t
hash_small(void)
{
	return hash_use(SMALL, SMALL_N);
}

/* ----------------------------------------------------------- pointer chase */
/* a line of cache: where to go, and how many steps away it is */
struct line {
	struct line	*next;
	uint64_t	step, pad[6];
};
enum { CHASE = 100000 };
static struct line *chase_at;
static unsigned chase_lines;

/* One cycle through all lines, in the order of a linear congruential generator
 * (Knuth, volume 2, 3.2.1.2: its period is full). */
static int
chase_setup(unsigned bytes)
{
	struct line *l = (struct line *)arena;
	unsigned n = bytes / sizeof *l, at = 0, to;

	for (unsigned i = 0; i < n; i++, at = to) {
		to = (at * 1103515245u + 12345) & (n - 1);
		l[at].next = &l[to];
		l[at].step = i;
	}
	chase_at = l;
	chase_lines = n;
	return 0;
}

static int
chase_l1(void)
{
	return chase_setup(16 << 10);
}

static int
chase_l2(void)
{
	return chase_setup(256 << 10);
}

static int
chase_ram(void)
{
	return chase_setup(ARENA);
}

/* goes on where the last unit ended, or it would stay in a cache */
static uint64_t
chase(void)
{
	struct line *p = chase_at;
	uint64_t start = p->step;

	for (int i = 0; i < CHASE; i++)
		p = p->next;
	chase_at = p;
	return (p->step - start) & (chase_lines - 1);
}

/* ----------------------------------------------------------------- strings */
enum { BLOCK = 256 << 10 };

/* words of letters, in a small vocabulary, separated by blanks */
static int
text_setup(void)
{
	uint64_t s = 2024;
	unsigned n = 0;

	while (n < 2 * BLOCK) {
		uint64_t word = rnd(&s) >> 56, w = word * 0x2545f4914f6cdd1dull;
		unsigned len = 2 + word % 7;
		for (unsigned i = 0; i < len; i++, w >>= 5)
			arena[n++] = 'a' + (w & 31) % 26;
		arena[n++] = ' ';
	}
	arena[BLOCK] = '\0';
	return 0;
}

/* the C library's, by pieces of 1 KiB and whole */
static uint64_t
copy(void)
{
	uint8_t *to = arena + 4 * BLOCK;

	for (int r = 0; r < 16; r++) {
		memcpy(to, arena, BLOCK / 2);
		for (int i = BLOCK / 2; i < BLOCK; i += 1024)
			memcpy(to + i, arena + i, 1024);
		__asm__ volatile("" : : : "memory");
	}
	return mix(to[12345], to[BLOCK - 77]);
}

static uint64_t
rep(void)
{
	uint8_t *to = arena + 4 * BLOCK;

	for (int r = 0; r < 16; r++) {
		void *d = to, *s = arena;
		size_t n = BLOCK;
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)
		    : : "memory");
		d = to + BLOCK;
		n = BLOCK / 8;
		__asm__ volatile("rep stosq" : "+D"(d), "+c"(n)
		    : "a"(0x0101010101010101ull * r) : "memory");
	}
	return mix(to[12345], to[2 * BLOCK - 77]);
}

static uint64_t
length(void)
{
	uint64_t n = 0;

	for (int r = 0; r < 16; r++) {
		n += strlen((char *)arena);
		for (int i = 0; i < BLOCK; i += 256)
			n += strlen((char *)arena + BLOCK - i % 4096 - 1);
		__asm__ volatile("" : : : "memory");
	}
	return n;
}

/* byte by byte, as a program does that does not ask the library */
static uint64_t
count_words(void)
{
	uint64_t words = 0, h = 0;
	int in = 0;

	for (const uint8_t *p = arena; *p; p++) {
		if (*p == ' ') {
			words += in;
			in = 0;
		} else {
			in = 1;
			h = h * 31 + *p;
		}
	}
	return mix(h, words);
}

/* Horspool's search for words that are there and one that is not */
static uint64_t
search(void)
{
	static const char *const pat[] = {"zzzzqzzz", "abcdefgh", "a b", "the"};
	uint64_t hits = 0;

	for (unsigned k = 0; k < 4; k++) {
		const uint8_t *p = (const uint8_t *)pat[k];
		long m = strlen(pat[k]), skip[256];
		for (int i = 0; i < 256; i++)
			skip[i] = m;
		for (long i = 0; i < m - 1; i++)
			skip[p[i]] = m - 1 - i;
		for (long i = 0; i + m <= BLOCK; i += skip[arena[i + m - 1]]) {
			long j = m - 1;
			while (j >= 0 && arena[i + j] == p[j])
				j--;
			hits += j < 0;
		}
	}
	return hits;
}

static uint64_t
base64(void)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	static uint8_t value[256];
	uint8_t *enc = arena + 4 * BLOCK, *dec = arena + 8 * BLOCK, *o = enc;

	for (int i = 0; i < 64; i++)
		value[(uint8_t)digit[i]] = i;
	for (int i = 0; i + 3 <= BLOCK; i += 3) {
		uint32_t v = arena[i] << 16 | arena[i + 1] << 8 | arena[i + 2];
		*o++ = digit[v >> 18];
		*o++ = digit[v >> 12 & 63];
		*o++ = digit[v >> 6 & 63];
		*o++ = digit[v & 63];
	}
	uint8_t *d = dec;
	for (uint8_t *p = enc; p < o; p += 4) {
		uint32_t v = value[p[0]] << 18 | value[p[1]] << 12 |
		    value[p[2]] << 6 | value[p[3]];
		*d++ = v >> 16;
		*d++ = v >> 8;
		*d++ = v;
	}
	if (memcmp(dec, arena, d - dec) != 0)
		return 0;
	return mix(enc[1000], o - enc);
}

/* ------------------------------------------------------------- compression */
/*
 * LZ77 with a table of the last place of each three bytes: tokens are a byte
 * below 128 that counts literals, or 128 + length and two bytes of distance.
 */
static uint32_t last[4096];

static uint8_t *
pack(const uint8_t *in, unsigned n, uint8_t *out)
{
	unsigned lit = 0, i = 0;

	memset(last, 0, sizeof last);
	while (i < n) {
		unsigned len = 0, at = 0;
		if (i + 4 < n) {
			uint32_t w = in[i] | in[i + 1] << 8 | in[i + 2] << 16;
			uint32_t *e = &last[w * 2654435761u >> 20];
			at = *e;
			*e = i + 1;
			if (at-- && i - at < 65536)
				while (len < 127 && i + len < n &&
				    in[at + len] == in[i + len])
					len++;
		}
		if (len >= 4 || i - lit == 127) {
			*out++ = i - lit;
			while (lit < i)
				*out++ = in[lit++];
		}
		if (len >= 4) {
			*out++ = 128 + len;
			*out++ = (i - at) >> 8;
			*out++ = i - at;
			lit = i += len;
		} else
			i++;
	}
	*out++ = n - lit;
	while (lit < n)
		*out++ = in[lit++];
	return out;
}

static uint8_t *
unpack(const uint8_t *in, const uint8_t *end, uint8_t *out)
{
	while (in < end) {
		unsigned n = *in++;
		if (n < 128) {
			while (n--)
				*out++ = *in++;
			continue;
		}
		const uint8_t *from = out - (in[0] << 8 | in[1]);
		in += 2;
		for (n -= 128; n--;)
			*out++ = *from++;
	}
	return out;
}

static uint64_t
lz(void)
{
	uint8_t *to = arena + 4 * BLOCK, *back = arena + 8 * BLOCK;
	uint8_t *end = pack(arena, BLOCK, to), *d = unpack(to, end, back);

	if (d - back != BLOCK || memcmp(back, arena, BLOCK) != 0)
		return 0;
	return mix(end - to, to[999]);
}

const struct kernel mem_kernels[] = {
	{"hash-big", "lookup in 64 MiB", hash_big, BIG_N,
	    0x1872d47b24ull, hash_big_setup},
	{"hash", "lookup in 16 KiB", hash_small, SMALL_N,
	    0x306bd8ull, hash_small_setup},
	{"chase-l1", "load in 16 KiB", chase, CHASE, 0xa0ull, chase_l1},
	{"chase-l2", "load in 256 KiB", chase, CHASE, 0x6a0ull, chase_l2},
	{"chase-ram", "load in 64 MiB", chase, CHASE, 0x186a0ull, chase_ram},
	{"memcpy", "byte", copy, 16 * BLOCK, 0xc4da5e0c6482db71ull, text_setup},
	{"rep", "byte", rep, 32 * BLOCK, 0x2a010ef2fae25e45ull, text_setup},
	{"strlen", "byte", length, 16 * BLOCK * 9, 0x2204000ull, text_setup},
	{"words", "byte", count_words, BLOCK,
	    0xdf24c83e66049550ull, text_setup},
	{"search", "byte", search, 4 * BLOCK, 0xf1ull, text_setup},
	{"base64", "byte", base64, BLOCK, 0x7312bbde853b1cceull, text_setup},
	{"lz", "byte", lz, BLOCK, 0xb2d70994196b761eull, text_setup},
	{NULL},
};
