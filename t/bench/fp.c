/* fp.c - floating point: SSE2, AVX2, x87 and the C library's functions. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels.h"

static uint64_t
bits(double d)
{
	uint64_t v;

	memcpy(&v, &d, sizeof v);
	return v;
}

/* in [0, 1), with 20 bits: products are exact, so their sums do not depend
 * on the order of addition */
static double
unit_rnd(uint64_t *s)
{
	return (double)(rnd(s) >> 44) / (1 << 20);
}

/* ---------------------------------------------------------------- matrices */
enum { N = 96 };
static double da[N][N], db[N][N], dc[N][N];
static float fa[N][N] __attribute__((aligned(32)));
static float fb[N][N] __attribute__((aligned(32)));
static float fc[N][N] __attribute__((aligned(32)));

static int
matrix_setup(void)
{
	uint64_t s = 11;

	for (int i = 0; i < N * N; i++) {
		da[i / N][i % N] = unit_rnd(&s);
		db[i / N][i % N] = unit_rnd(&s) - 0.5;
		/* 8 bits: exact in floats, too */
		fa[i / N][i % N] = (float)(rnd(&s) >> 56) / 16;
		fb[i / N][i % N] = (float)(rnd(&s) >> 56) / 16 - 8;
	}
	return 0;
}

static uint64_t
matmul(void)
{
	double t = 0;

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			double sum = 0;
			for (int k = 0; k < N; k++)
				sum += da[i][k] * db[k][j];
			dc[i][j] = sum;
		}
	for (int i = 0; i < N; i++)
		t += dc[i][i];
	return bits(t);
}

static uint64_t
float_sum(void)
{
	double t = 0;

	for (int i = 0; i < N; i++)
		t += fc[i][N - 1 - i];
	return bits(t);
}

static uint64_t
matmul_sse(void)
{
	for (int r = 0; r < 4; r++)
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j += 8) {
				__m128 x = _mm_setzero_ps(), y = x;
				for (int k = 0; k < N; k++) {
					__m128 a = _mm_set1_ps(fa[i][k]);
					x = _mm_add_ps(x, _mm_mul_ps(a,
					    _mm_load_ps(&fb[k][j])));
					y = _mm_add_ps(y, _mm_mul_ps(a,
					    _mm_load_ps(&fb[k][j + 4])));
				}
				_mm_store_ps(&fc[i][j], x);
				_mm_store_ps(&fc[i][j + 4], y);
			}
	return float_sum();
}

static __attribute__((target("avx2"))) uint64_t
matmul_avx2(void)
{
	for (int r = 0; r < 8; r++)
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j += 16) {
				__m256 x = _mm256_setzero_ps(), y = x;
				for (int k = 0; k < N; k++) {
					__m256 a = _mm256_set1_ps(fa[i][k]);
					x = _mm256_add_ps(x, _mm256_mul_ps(a,
					    _mm256_load_ps(&fb[k][j])));
					y = _mm256_add_ps(y, _mm256_mul_ps(a,
					    _mm256_load_ps(&fb[k][j + 8])));
				}
				_mm256_store_ps(&fc[i][j], x);
				_mm256_store_ps(&fc[i][j + 8], y);
			}
	_mm256_zeroupper();
	return float_sum();
}

static int
avx2_setup(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") ? matrix_setup() : -1;
}

/* ------------------------------------------------------------------ series */
static uint64_t
mandelbrot(void)
{
	uint64_t steps = 0;

	for (int py = 0; py < 64; py++)
		for (int px = 0; px < 64; px++) {
			double cx = px / 24.0 - 2, cy = py / 24.0 - 1.25;
			double x = 0, y = 0;
			for (int i = 0; i < 200; i++) {
				double xx = x * x, yy = y * y;
				if (xx + yy > 4)
					break;
				y = 2 * x * y + cy;
				x = xx - yy + cx;
				steps++;
			}
		}
	return steps;
}

/* pi by Leibniz's series and e by its own, in 64 bits of mantissa */
static uint64_t
x87(void)
{
	long double pi = 0, e = 1, term = 1;

	for (int i = 0; i < 100000; i++)
		pi += (i & 1 ? -4.0L : 4.0L) / (2 * i + 1);
	for (int i = 1; i < 100000; i++) {
		term = i % 25 ? term / (i % 25) : 1;
		e += term;
	}
	return mix(bits((double)pi), bits((double)sqrtl(e)));
}

/* the processor's own functions */
static uint64_t
x87_functions(void)
{
	long double s = 0;

	for (int i = 1; i < 10000; i++) {
		long double x = i / 10000.0L, y, z;
		__asm__("fsin" : "=t"(y) : "0"(x));
		__asm__("fpatan" : "=t"(z) : "0"(1.0L), "u"(x) : "st(1)");
		s += y * z;
	}
	return (uint64_t)(s * 1e6L + 0.5L);
}

/*
 * The C library chooses its code by CPUID, and with it the last bit of a
 * result: sums are rounded to what all agree upon.
 */
static uint64_t
rounded(double sum)
{
	return (uint64_t)(int64_t)floor(sum * 1e5 + 0.5);
}

static uint64_t
libm(void)
{
	double s = 0;

	for (int i = 1; i <= 10000; i++) {
		double x = i * 0.0007;
		s += sin(x) + exp(x / 4) * pow(x, 0.37) + log(x) + atan(x);
	}
	return rounded(s);
}

static uint64_t
roots(void)
{
	double s = 0;

	for (int i = 1; i <= 100000; i++)
		s += sqrt(i) / (i + 0.5);
	return bits(s);
}

/* to integers and back, comparisons, minima */
static uint64_t
convert(void)
{
	uint64_t s = 3;
	int64_t sum = 0;
	double low = 1;
	float f = 0;

	for (int i = 0; i < 100000; i++) {
		double d = (double)(int64_t)rnd(&s) * 1e-12;
		sum += (int32_t)d;
		f = (float)((float)sum * 0.5f + d);
		low = d < low ? d : low;
	}
	return mix(sum ^ (int64_t)f, bits(low));
}

/* ------------------------------------------------------------------- nbody */
struct body {
	double x[3], v[3], mass;
};

static uint64_t
nbody(void)
{
	struct body b[5];
	uint64_t s = 17;
	double energy = 0;

	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 3; k++) {
			b[i].x[k] = unit_rnd(&s) * 10 + i * 10;
			b[i].v[k] = unit_rnd(&s) - 0.5;
		}
		b[i].mass = 1 + unit_rnd(&s);
	}
	for (int step = 0; step < 10000; step++) {
		for (int i = 0; i < 5; i++)
			for (int j = i + 1; j < 5; j++) {
				double d[3], r = 0;
				for (int k = 0; k < 3; k++) {
					d[k] = b[i].x[k] - b[j].x[k];
					r += d[k] * d[k];
				}
				double m = 0.001 / (r * sqrt(r));
				for (int k = 0; k < 3; k++) {
					b[i].v[k] -= d[k] * b[j].mass * m;
					b[j].v[k] += d[k] * b[i].mass * m;
				}
			}
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 3; k++)
				b[i].x[k] += 0.001 * b[i].v[k];
	}
	for (int i = 0; i < 5; i++)
		energy += b[i].mass * (b[i].v[0] * b[i].v[0] +
		    b[i].v[1] * b[i].v[1] + b[i].v[2] * b[i].v[2]);
	return bits(energy);
}

const struct kernel fp_kernels[] = {
	{"matmul", "multiply", matmul, N * N * N,
	    0xc03065ae01b75f00ull, matrix_setup},
	{"matmul-sse", "multiply", matmul_sse, 4 * N * N * N,
	    0xc0b5612100000000ull, matrix_setup},
	{"matmul-avx2", "multiply", matmul_avx2, 8 * N * N * N,
	    0xc0b5612100000000ull, avx2_setup},
	{"mandelbrot", "step", mandelbrot, 197108, 0x301f4ull},
	{"nbody", "pair", nbody, 100000, 0x400c9c9ee61d6fd4ull},
	{"libm", "five calls", libm, 10000, 0x18fea6e2cull},
	{"roots", "root and division", roots, 100000, 0x4083af763206c533ull},
	{"convert", "round trip", convert, 100000, 0xd815facd6ac7e685ull},
	{"x87", "term", x87, 200000, 0xf4e62c3bf4e14dfcull},
	{"x87-functions", "fsin and fpatan", x87_functions, 10000,
	    0x9a1b39a5ull},
	{NULL},
};
