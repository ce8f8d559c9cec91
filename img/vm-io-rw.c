/*
 * vm-io-rw.c - vm-io's commands that move data: read, write, discard, truncate.
 * The aio_ commands do their work at once; aio_flush then has nothing to wait
 * for.
 */
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vm-io.h"

static int
pattern(const char *s, int *p)
{
	char *end;
	long v = strtol(s, &end, 0);

	if (*end || end == s || v < 0 || v > 255) {
		printf("%s is not a valid pattern byte\n", s);
		return -1;
	}
	*p = (int)v;
	return 0;
}

static struct timespec t0;

static void
report(const char *op, int64_t off, int64_t count, int64_t total, int ops,
    bool csv)
{
	struct timespec t;
	char a[64], b[64];
	double s;
	unsigned sec, cs;

	clock_gettime(CLOCK_MONOTONIC, &t);
	s = (double)(t.tv_sec - t0.tv_sec) + (double)(t.tv_nsec - t0.tv_nsec) /
	    1e9;
	if (s <= 0)
		s = 1e-9;
	sec = (unsigned)s;
	cs = (unsigned)((s - sec) * 100);
	if (csv) {
		printf("%" PRId64 ",%d,%u:%02u:%02u.%02u,%.3f,%.3f\n", total,
		    ops, sec / 3600, sec / 60 % 60, sec % 60, cs,
		    (double)total / s, ops / s);
		return;
	}
	printf("%s %" PRId64 "/%" PRId64 " bytes at offset %" PRId64 "\n", op,
	    total, count, off);
	printf("%s, %d ops; %02u.%02u sec (%s/sec and %.4f ops/sec)\n",
	    io_size((double)total, a, sizeof(a)), ops, sec, cs,
	    io_size((double)total / s, b, sizeof(b)), ops / s);
}

static void
begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &t0);
}

static void
dump(const uint8_t *p, int64_t off, int64_t n)
{
	for (int64_t i = 0; i < n; i += 16) {
		printf("%08" PRIx64 ":  ", off + i);
		for (int k = 0; k < 16 && i + k < n; k++)
			printf("%02x ", p[i + k]);
		putchar(' ');
		for (int k = 0; k < 16 && i + k < n; k++)
			putchar(isalnum(p[i + k]) ? p[i + k] : '.');
		putchar('\n');
	}
}

struct rw {
	bool		csv, quiet, verbose, compressed, fua, zero, unmap, nofall;
	int		pat;
	bool		has_pat;
	const char	*src;
	int64_t		poff, plen;
	bool		has_poff, has_plen, vmstate;
};

static int
options(int argc, char **argv, const char *set, struct rw *o)
{
	int c;

	memset(o, 0, sizeof(*o));
	o->pat = 0xcd;
	optind = 0;
	while ((c = getopt(argc, argv, set)) != -1)
		switch (c) {
		case 'a': case 'p': case 'i': break;
		case 'b': o->vmstate = true; break;
		case 'C': o->csv = true; break;
		case 'c': o->compressed = true; break;
		case 'f': o->fua = true; break;
		case 'n': o->nofall = true; break;
		case 'q': o->quiet = true; break;
		case 'u': o->unmap = true; break;
		case 'v': o->verbose = true; break;
		case 'z': o->zero = true; break;
		case 'P':
			if (pattern(optarg, &o->pat))
				return -1;
			o->has_pat = true;
			break;
		case 'l':
			if (io_number(optarg, &o->plen))
				return -1;
			o->has_plen = true;
			break;
		case 's':
			o->src = optarg;
			o->has_poff = true;
			break;
		default:
			io_usage(argv[0]);
			return -1;
		}
	return 0;
}

/* Lengths from argv; the buffer for all of them. */
static uint8_t *
lengths(int argc, char **argv, int64_t *off, int64_t *len)
{
	int64_t k;
	uint8_t *b;

	if (io_number(argv[optind++], off))
		return NULL;
	*len = 0;
	for (; optind < argc; optind++) {
		if (io_number(argv[optind], &k))
			return NULL;
		*len += k;
		if (*len > INT32_MAX - 511) {
			printf("length cannot exceed %d, given %s\n",
			    INT32_MAX - 511, argv[optind]);
			return NULL;
		}
	}
	b = malloc((size_t)*len + 1);
	if (!b)
		printf("out of memory\n");
	return b;
}

int
do_read(int argc, char **argv)
{
	struct rw o;
	int64_t off, len;
	uint8_t *b;
	bool vec = strcmp(argv[0], "read") && strcmp(argv[0], "r");
	bool aio = !strcmp(argv[0], "aio_read");
	int r = 0;

	if (options(argc, argv, vec ? "CiP:qv" : "abCl:pP:qs:v", &o))
		return 1;
	if (argc - optind < 2 || (!vec && argc - optind != 2))
		return io_usage(argv[0]);
	if (o.vmstate) {
		printf("%s: reading the VM state is not implemented\n",
		    argv[0]);
		return 1;
	}
	if (o.has_poff && io_number(o.src, &o.poff))
		return 1;
	if (!o.has_pat && (o.has_plen || o.has_poff))
		return io_usage(argv[0]);
	if (!(b = lengths(argc, argv, &off, &len)))
		return 1;
	if (!o.has_plen)
		o.plen = len - o.poff;
	if (o.plen < 0 || o.poff + o.plen > len) {
		printf("pattern verification range exceeds end of read data\n");
		free(b);
		return 1;
	}
	memset(b, 0xab, (size_t)len);
	begin();
	if (img_pread(io_img, b, (size_t)len, (uint64_t)off)) {
		printf("%s failed: %s\n", argv[0], strerror(errno));
		free(b);
		return 1;
	}
	if (o.has_pat)
		for (int64_t i = 0; i < o.plen; i++)
			if (b[o.poff + i] != o.pat) {
				printf("Pattern verification failed at offset %"
				    PRId64 ", %" PRId64 " bytes\n",
				    off + o.poff, o.plen);
				r = 1;
				break;
			}
	if (o.quiet)
		goto out;
	if (o.verbose)
		dump(b, off, len);
	report("read", off, len, len, 1, o.csv);
out:
	free(b);
	/* qemu-io has forgotten the command by then */
	return aio ? 0 : r;
}

static int
source(const char *file, uint8_t *b, int64_t n)
{
	FILE *f = fopen(file, "re");
	size_t k;

	if (!f) {
		fflush(stdout);
		fprintf(stderr, "%s: %s\n", file, strerror(errno));
		return -1;
	}
	k = fread(b, 1, (size_t)n, f);
	fclose(f);
	if (!k) {
		printf("%s: empty file\n", file);
		return -1;
	}
	for (int64_t i = (int64_t)k; i < n; i++)
		b[i] = b[i - (int64_t)k];
	return 0;
}

int
do_write(int argc, char **argv)
{
	struct rw o;
	int64_t off, len;
	uint8_t *b;
	bool vec = strcmp(argv[0], "write") && strcmp(argv[0], "w");
	bool aio = !strcmp(argv[0], "aio_write");
	int r, fl;

	if (options(argc, argv, aio ? "CfiP:quz" : vec ? "CfqP:" :
	    "bcCfnpP:qs:uz", &o))
		return 1;
	if (argc - optind < 2 || (!vec && argc - optind != 2))
		return io_usage(argv[0]);
	if (o.vmstate) {
		printf("%s: writing the VM state is not implemented\n",
		    argv[0]);
		return 1;
	}
	if (o.fua && o.compressed) {
		printf("-f and -b or -c cannot be specified at the same time\n");
		return 1;
	}
	if (o.nofall && !o.zero) {
		printf("-n requires -z to be specified\n");
		return 1;
	}
	if (o.unmap && !o.zero) {
		printf("-u requires -z to be specified\n");
		return 1;
	}
	if (aio && o.zero && argc - optind != 2) {
		printf("-z supports only a single length parameter\n");
		return 1;
	}
	if (!aio && (o.zero + o.has_pat + (o.src != NULL)) > 1) {
		printf("Only one of -z, -P, and -s can be specified at the same "
		    "time\n");
		return 1;
	}
	if (!(b = lengths(argc, argv, &off, &len)))
		return 1;
	memset(b, o.pat, (size_t)len);
	if (o.src && source(o.src, b, len)) {
		free(b);
		return 1;
	}
	fl = (o.fua ? IMG_FUA : 0) | (o.unmap ? IMG_MAYUNMAP : 0) |
	    (o.nofall ? IMG_NOFALLBACK : 0);
	begin();
	if (o.zero)
		r = img_zero(io_img, (uint64_t)off, (uint64_t)len, fl);
	else if (o.compressed)
		r = img_pwritec(io_img, b, (size_t)len, (uint64_t)off);
	else
		r = img_pwrite(io_img, b, (size_t)len, (uint64_t)off, fl);
	free(b);
	if (r) {
		printf("%s failed: %s\n", argv[0], strerror(errno));
		return 1;
	}
	if (!o.quiet)
		report("wrote", off, len, len, 1, o.csv);
	return 0;
}

int
do_discard(int argc, char **argv)
{
	struct rw o;
	int64_t off, len;

	if (options(argc, argv, "Cq", &o))
		return 1;
	if (argc - optind != 2)
		return io_usage(argv[0]);
	if (io_number(argv[optind], &off) || io_number(argv[optind + 1], &len))
		return 1;
	begin();
	if (img_discard(io_img, (uint64_t)off, (uint64_t)len)) {
		printf("discard failed: %s\n", strerror(errno));
		return 1;
	}
	if (!o.quiet)
		report("discard", off, len, len, 1, o.csv);
	return 0;
}

int
do_truncate(int argc, char **argv)
{
	enum prealloc pre = PRE_OFF;
	struct imgerr e;
	int64_t n;
	int c;

	optind = 0;
	while ((c = getopt(argc, argv, "m:")) != -1) {
		if (c != 'm')
			return io_usage(argv[0]);
		if (prealloc_parse(optarg, "preallocation", true, &pre, &e)) {
			warnx("Invalid preallocation mode '%s'", optarg);
			return 1;
		}
	}
	if (optind >= argc)
		return io_usage(argv[0]);
	if (io_number(argv[optind], &n))
		return 1;
	if (img_truncate(io_img, (uint64_t)n, pre, &e)) {
		warnx("%s", e.s);
		return 1;
	}
	return 0;
}
