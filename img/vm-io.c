/*
 * vm-io.c - exercise an image with qemu-io's commands: a table of them, each
 * a function on its words.  The aio_ commands do their work at once; aio_flush
 * then has nothing to wait for.
 */
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "img.h"

static struct img *im;
static bool failed, quit_now;
static bool temp;			/* -s: what is written is thrown away */

struct cmd {
	const char	*name, *alt;
	int		(*run)(int, char **);
	int		min, max;	/* arguments; max -1: any number */
	bool		noopen;
	const char	*args, *help;
};
static const struct cmd cmds[];

static int
usage(const char *name)
{
	const struct cmd *c;

	for (c = cmds; c->name; c++)
		if (!strcmp(c->name, name))
			printf("%s%s%s -- %s\n", c->name, *c->args ? " " : "",
			    c->args, c->help);
	return 1;
}

static int
number(const char *s, int64_t *v)
{
	uint64_t u;

	if (size_parse(s, 'B', &u) || u > INT64_MAX) {
		if (errno == ERANGE)
			printf("Parsing error: argument too large -- %s\n", s);
		else
			printf("Parsing error: non-numeric argument, or "
			    "extraneous/unrecognized suffix -- %s\n", s);
		return -1;
	}
	*v = (int64_t)u;
	return 0;
}

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

static const char *
sz(double v, char *b, size_t n)
{
	static const char *const u[] = { "bytes", "KiB", "MiB", "GiB", "TiB",
		"PiB", "EiB" };
	int i = 0;
	char num[48];
	size_t k;

	while (v >= 1024 && i < 6) {
		v /= 1024;
		i++;
	}
	snprintf(num, sizeof(num), "%.3f", v);
	k = strlen(num);
	if (k > 4 && !strcmp(num + k - 4, ".000"))
		num[k - 4] = 0;
	snprintf(b, n, "%s %s", num, u[i]);
	return b;
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
	    sz((double)total, a, sizeof(a)), ops, sec, cs,
	    sz((double)total / s, b, sizeof(b)), ops / s);
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
		for (int k = 0; k < 16; k++)
			if (i + k < n)
				printf("%02x ", p[i + k]);
			else
				printf("   ");
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
			if (number(optarg, &o->plen))
				return -1;
			o->has_plen = true;
			break;
		case 's':
			o->src = optarg;
			o->has_poff = true;
			break;
		default:
			usage(argv[0]);
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

	if (number(argv[optind++], off))
		return NULL;
	*len = 0;
	for (; optind < argc; optind++) {
		if (number(argv[optind], &k))
			return NULL;
		*len += k;
		if (*len > INT32_MAX - 512) {
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

static int
do_read(int argc, char **argv)
{
	struct rw o;
	int64_t off, len;
	uint8_t *b;
	bool vec = strcmp(argv[0], "read") != 0;
	int r = 0;

	if (options(argc, argv, vec ? "CiP:qv" : "abCl:pP:qs:v", &o))
		return 1;
	if (argc - optind < 2 || (!vec && argc - optind != 2))
		return usage(argv[0]);
	if (o.vmstate) {
		printf("%s: reading the VM state is not implemented\n",
		    argv[0]);
		return 1;
	}
	if (o.has_poff && number(o.src, &o.poff))
		return 1;
	if (!o.has_pat && (o.has_plen || o.has_poff))
		return usage(argv[0]);
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
	if (img_pread(im, b, (size_t)len, (uint64_t)off)) {
		printf("%s failed: %s\n", !strncmp(argv[0], "aio", 3) ?
		    "aio_read" : argv[0], strerror(errno));
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
	return r;
}

static int
source(const char *file, uint8_t *b, int64_t n)
{
	FILE *f = fopen(file, "re");
	size_t k;

	if (!f) {
		printf("%s: %s\n", file, strerror(errno));
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

static int
do_write(int argc, char **argv)
{
	struct rw o;
	int64_t off, len;
	uint8_t *b;
	bool vec = strcmp(argv[0], "write") != 0;
	int r, fl;

	if (options(argc, argv, vec ? !strcmp(argv[0], "writev") ? "CfqP:" :
	    "CfiP:quz" : "bcCfnpP:qs:uz", &o))
		return 1;
	if (argc - optind < 2 || (!vec && argc - optind != 2))
		return usage(argv[0]);
	if (o.vmstate) {
		printf("%s: writing the VM state is not implemented\n",
		    argv[0]);
		return 1;
	}
	if (o.fua && o.compressed) {
		printf("-f and -c cannot be specified at the same time\n");
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
	if ((o.zero + o.has_pat + (o.src != NULL)) > 1) {
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
		r = img_zero(im, (uint64_t)off, (uint64_t)len, fl);
	else if (o.compressed)
		r = img_pwritec(im, b, (size_t)len, (uint64_t)off);
	else
		r = img_pwrite(im, b, (size_t)len, (uint64_t)off, fl);
	free(b);
	if (r) {
		printf("%s failed: %s\n", argv[0], strerror(errno));
		return 1;
	}
	if (!o.quiet)
		report("wrote", off, len, len, 1, o.csv);
	return 0;
}

static int
do_discard(int argc, char **argv)
{
	struct rw o;
	int64_t off, len;

	if (options(argc, argv, "Cq", &o))
		return 1;
	if (argc - optind != 2)
		return usage(argv[0]);
	if (number(argv[optind], &off) || number(argv[optind + 1], &len))
		return 1;
	begin();
	if (img_discard(im, (uint64_t)off, (uint64_t)len)) {
		printf("discard failed: %s\n", strerror(errno));
		return 1;
	}
	if (!o.quiet)
		report("discard", off, len, len, 1, o.csv);
	return 0;
}

static int
do_flush(int argc, char **argv)
{
	return img_flush(im) ? 1 : 0;
}

static int
do_nothing(int argc, char **argv)
{
	return 0;
}

static int
do_truncate(int argc, char **argv)
{
	enum prealloc pre = PRE_OFF;
	struct imgerr e;
	int64_t n;
	int c;

	optind = 0;
	while ((c = getopt(argc, argv, "m:")) != -1) {
		if (c != 'm')
			return usage(argv[0]);
		if (prealloc_parse(optarg, "preallocation", true, &pre, &e)) {
			warnx("%s", e.s);
			return 1;
		}
	}
	if (optind >= argc)
		return usage(argv[0]);
	if (number(argv[optind], &n))
		return 1;
	if (img_truncate(im, (uint64_t)n, pre, &e)) {
		warnx("%s", e.s);
		return 1;
	}
	return 0;
}

static int
do_length(int argc, char **argv)
{
	char b[64];

	printf("%s\n", sz((double)im->size, b, sizeof(b)));
	return 0;
}

static int
do_info(int argc, char **argv)
{
	char b[64];
	struct js *d;
	char *s;

	printf("format name: %s\n", im->drv->name);
	printf("cluster size: %s\n", sz(im->cluster, b, sizeof(b)));
	printf("vm state offset: %s\n", sz((double)im->vmstate_off, b, sizeof(b)));
	if (im->drv->info) {
		d = js_new(JDICT);
		im->drv->info(im, d);
		js_sort(d);
		s = js_human(d, 1);
		printf("Format specific information:\n%s", s);
		free(s);
		js_free(d);
	}
	return 0;
}

static int
do_alloc(int argc, char **argv)
{
	struct img_status s;
	int64_t off, n = 512, left, sum = 0, at;
	char b[64];

	if (number(argv[1], &off) || (argc > 2 && number(argv[2], &n)))
		return 1;
	if ((uint64_t)off > im->size)
		n = 0;
	for (at = off, left = n; left; at += (int64_t)s.len,
	    left -= (int64_t)s.len) {
		if (img_status1(im, (uint64_t)at, (uint64_t)left, &s)) {
			printf("is_allocated failed: %s\n", strerror(errno));
			return 1;
		}
		if ((uint64_t)at >= im->size) {
			n -= left;
			break;
		}
		if (s.flags & IMG_ALLOC)
			sum += (int64_t)s.len;
	}
	printf("%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", sum, n,
	    sz((double)off, b, sizeof(b)));
	return 0;
}

static int
do_map(int argc, char **argv)
{
	struct img_status s;
	uint64_t off = 0, n;
	char a[64], b[64];
	bool al;

	if (!im->size) {
		printf("empty image\n");
		return 0;
	}
	while (off < im->size) {
		if (img_status1(im, off, im->size - off, &s)) {
			printf("Failed to get allocation status: %s\n",
			    strerror(errno));
			return 1;
		}
		al = s.flags & IMG_ALLOC;
		n = s.len;
		while (off + n < im->size && !img_status1(im, off + n,
		    im->size - off - n, &s) && !!(s.flags & IMG_ALLOC) == al)
			n += s.len;
		printf("%s (0x%" PRIx64 ") bytes %s allocated at offset %s (0x%"
		    PRIx64 ")\n", sz((double)n, a, sizeof(a)), n, al ? "   " :
		    "not", sz((double)off, b, sizeof(b)), off);
		off += n;
	}
	return 0;
}

static int
do_sleep(int argc, char **argv)
{
	char *end;
	long ms = strtol(argv[1], &end, 0);
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	if (*end || ms < 0) {
		printf("%s is not a valid argument for sleep\n", argv[1]);
		return 1;
	}
	nanosleep(&t, NULL);
	return 0;
}

static int
do_abort(int argc, char **argv)
{
	abort();
}

static int
do_raise(int argc, char **argv)
{
	int64_t n;

	if (number(argv[1], &n))
		return 1;
	fflush(stdout);
	raise((int)n);
	return 0;
}

static int
do_quit(int argc, char **argv)
{
	quit_now = true;
	return 0;
}

static int
do_close(int argc, char **argv)
{
	img_close(im);
	im = NULL;
	return 0;
}

static int open_image(const char *, struct opts *, const char *, int, bool);

static int
cache(const char *s, int *f)
{
	static const struct { const char *n; int f; } tab[] = {
		{ "none", IMG_NOCACHE }, { "off", IMG_NOCACHE },
		{ "writeback", 0 }, { "unsafe", IMG_NOFLUSH },
		{ "writethrough", IMG_WRTHROUGH },
		{ "directsync", IMG_NOCACHE | IMG_WRTHROUGH },
	};

	for (size_t i = 0; i < sizeof(tab) / sizeof(tab[0]); i++)
		if (!strcmp(s, tab[i].n)) {
			*f &= ~(IMG_NOCACHE | IMG_NOFLUSH | IMG_WRTHROUGH);
			*f |= tab[i].f;
			return 0;
		}
	return -1;
}

static int
do_open(int argc, char **argv)
{
	struct opts o = { 0 };
	struct imgerr e;
	int c, fl = IMG_RDWR | IMG_UNMAP;
	bool wr = true;

	optind = 0;
	while ((c = getopt(argc, argv, "snCro:ki:t:d:U")) != -1)
		switch (c) {
		case 's': temp = true; break;
		case 'n': fl |= IMG_NOCACHE | IMG_WRTHROUGH; break;
		case 'C': fl |= IMG_COR; break;
		case 'r': wr = false; break;
		case 'U': opts_set(&o, "force-share", "on"); break;
		case 'k': optarg = "native"; /* FALLTHROUGH */
		case 'i':
			if (aio_parse(optarg, &e)) {
				warnx("%s", e.s);
				return 1;
			}
			break;
		case 't':
			if (cache(optarg, &fl)) {
				warnx("Invalid cache option: %s", optarg);
				return 1;
			}
			break;
		case 'd':
			if (!strcmp(optarg, "ignore") || !strcmp(optarg,
			    "off"))
				fl &= ~IMG_UNMAP;
			break;
		case 'o': opts_text(&o, optarg, NULL, &e); break;
		default:
			opts_free(&o);
			return usage(argv[0]);
		}
	if (!wr)
		fl &= ~IMG_RDWR;
	if (im) {
		warnx("file open already, try 'help close'");
		opts_free(&o);
		return 1;
	}
	if (optind == argc - 1)
		return open_image(argv[optind], &o, NULL, fl, false);
	if (optind == argc)
		return open_image(NULL, &o, NULL, fl, false);
	opts_free(&o);
	return usage(argv[0]);
}

static int do_help(int, char **);

static const struct cmd cmds[] = {
	{ "abort", "", do_abort, 0, 0, true, "",
	    "simulate a program crash using abort(3)" },
	{ "aio_flush", "", do_nothing, 0, 0, false, "",
	    "completes all outstanding aio requests" },
	{ "aio_read", "", do_read, 2, -1, false,
	    "[-Ciqv] [-P pattern] off len [len..]",
	    "asynchronously reads a number of bytes" },
	{ "aio_write", "", do_write, 2, -1, false,
	    "[-Cfiquz] [-P pattern] off len [len..]",
	    "asynchronously writes a number of bytes" },
	{ "alloc", "a", do_alloc, 1, 2, false, "offset [count]",
	    "checks if offset is allocated in the file" },
	{ "close", "c", do_close, 0, 0, true, "",
	    "close the current open file" },
	{ "discard", "d", do_discard, 2, -1, false, "[-Cq] off len",
	    "discards a number of bytes at a specified offset" },
	{ "flush", "f", do_flush, 0, 0, false, "",
	    "flush all in-core file state to disk" },
	{ "help", "?", do_help, 0, 1, true, "[command]",
	    "help for one or all commands" },
	{ "info", "i", do_info, 0, 0, false, "",
	    "prints information about the current file" },
	{ "length", "l", do_length, 0, 0, false, "",
	    "gets the length of the current file" },
	{ "map", "", do_map, 0, 1, false, "",
	    "prints the allocated areas of a file" },
	{ "open", "o", do_open, 0, -1, true,
	    "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
	    "open the file specified by path" },
	{ "quit", "q", do_quit, 0, 0, true, "", "exit the program" },
	{ "read", "r", do_read, 2, -1, false,
	    "[-abCqv] [-P pattern [-s off] [-l len]] off len",
	    "reads a number of bytes at a specified offset" },
	{ "readv", "", do_read, 2, -1, false,
	    "[-Cqv] [-P pattern] off len [len..]",
	    "reads a number of bytes at a specified offset" },
	{ "sigraise", "", do_raise, 1, 1, true, "signal", "raises a signal" },
	{ "sleep", "", do_sleep, 1, 1, true, "",
	    "waits for the given value in milliseconds" },
	{ "truncate", "t", do_truncate, 1, -1, false, "[-m prealloc_mode] off",
	    "truncates the current file at the given offset" },
	{ "write", "w", do_write, 2, -1, false,
	    "[-bcCfnquz] [-P pattern | -s source_file] off len",
	    "writes a number of bytes at a specified offset" },
	{ "writev", "", do_write, 2, -1, false,
	    "[-Cfq] [-P pattern] off len [len..]",
	    "writes a number of bytes at a specified offset" },
	{ 0 }
};

static const struct cmd *
find(const char *name)
{
	const struct cmd *c;

	for (c = cmds; c->name; c++)
		if (!strcmp(c->name, name) || (*c->alt &&
		    !strcmp(c->alt, name)))
			return c;
	return NULL;
}

static int
do_help(int argc, char **argv)
{
	const struct cmd *c;

	if (argc > 1) {
		if (!(c = find(argv[1]))) {
			printf("command %s not found\n", argv[1]);
			return 1;
		}
		usage(c->name);
		return 0;
	}
	for (c = cmds; c->name; c++)
		usage(c->name);
	printf("\nUse 'help commandname' for extended help.\n");
	return 0;
}

static void
command(const char *line)
{
	char *s = strdup(line), *p = s, *argv[64];
	const struct cmd *c;
	int argc = 0, n;

	for (char *w; argc < 63 && (w = strsep(&p, " \t\n"));)
		if (*w)
			argv[argc++] = w;
	argv[argc] = NULL;
	if (!argc)
		goto out;
	c = find(argv[0]);
	if (!c) {
		fflush(stdout);
		fprintf(stderr, "command \"%s\" not found\n", argv[0]);
		failed = true;
		goto out;
	}
	n = argc - 1;
	if (!c->noopen && !im) {
		fflush(stdout);
		fprintf(stderr, "no file open, try 'help open'\n");
		failed = true;
		goto out;
	}
	if (n < c->min || (c->max >= 0 && n > c->max)) {
		fflush(stdout);
		if (c->max < 0)
			fprintf(stderr, "bad argument count %d to %s, expected "
			    "at least %d arguments\n", n, argv[0], c->min);
		else if (c->min == c->max)
			fprintf(stderr, "bad argument count %d to %s, expected "
			    "%d arguments\n", n, argv[0], c->min);
		else
			fprintf(stderr, "bad argument count %d to %s, expected "
			    "between %d and %d arguments\n", n, argv[0],
			    c->min, c->max);
		failed = true;
		goto out;
	}
	if (c->run != do_write && c->run != do_discard && c->run !=
	    do_truncate) {
		if (c->run(argc, argv))
			failed = true;
	} else if (!(im->flags & IMG_RDWR)) {
		fflush(stdout);
		fprintf(stderr, "vm-io: Block node is read-only\n");
		failed = true;
	} else if (c->run(argc, argv))
		failed = true;
	fflush(stdout);
out:
	free(s);
}

static int
open_image(const char *name, struct opts *o, const char *fmt, int fl,
    bool image_opts)
{
	struct imgerr e;
	struct img *top = NULL;

	if (temp)
		fl &= ~IMG_RDWR;
	if (image_opts) {
		opts_text(o, name, NULL, &e);
		im = img_open(NULL, NULL, o, fl, &e);
	} else
		im = img_open(name, fmt, o, fl, &e);
	if (im && temp && !(top = img_temporary(im, &e))) {
		img_close(im);
		im = NULL;
	}
	if (top)
		im = top;
	temp = false;
	if (!im) {
		warnx("can't open%s%s: %s", name ? " device " : "", name ?
		    name : "", e.s);
		return 1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "version", 0, 0, 'V' },
		{ "cmd", 1, 0, 'c' }, { "format", 1, 0, 'f' },
		{ "read-only", 0, 0, 'r' }, { "snapshot", 0, 0, 's' },
		{ "nocache", 0, 0, 'n' }, { "copy-on-read", 0, 0, 'C' },
		{ "misalign", 0, 0, 'm' }, { "native-aio", 0, 0, 'k' },
		{ "aio", 1, 0, 'i' }, { "discard", 1, 0, 'd' },
		{ "cache", 1, 0, 't' }, { "trace", 1, 0, 'T' },
		{ "force-share", 0, 0, 'U' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { 0 }
	};
	const char *fmt = NULL, *cmd[256];
	int c, ncmd = 0, fl = IMG_RDWR | IMG_UNMAP;
	struct opts o = { 0 };
	struct imgerr e;
	bool ro = false, io = false;
	char *line = NULL;
	size_t cap = 0;

	while ((c = getopt_long(argc, argv, "hVc:d:f:rsnCmki:t:T:U", lo,
	    NULL)) != -1)
		switch (c) {
		case 's': temp = true; break;
		case 'n': fl |= IMG_NOCACHE; break;
		case 'C': fl |= IMG_COR; break;
		case 'r': ro = true; break;
		case 'U': opts_set(&o, "force-share", "on"); break;
		case 'm': case 'T':
			warnx("-%c is not supported", c);
			return 1;
		case 'k': optarg = "native"; /* FALLTHROUGH */
		case 'i':
			if (aio_parse(optarg, &e)) {
				warnx("%s", e.s);
				return 1;
			}
			break;
		case 'd':
			if (!strcmp(optarg, "unmap") || !strcmp(optarg, "on"))
				fl |= IMG_UNMAP;
			else if (!strcmp(optarg, "ignore") || !strcmp(optarg,
			    "off")) {
				fl &= ~IMG_UNMAP;
			} else {
				warnx("Invalid discard option: %s", optarg);
				return 1;
			}
			break;
		case 't':
			if (cache(optarg, &fl)) {
				warnx("Invalid cache option: %s", optarg);
				return 1;
			}
			break;
		case 'f': fmt = optarg; break;
		case 'c':
			if (ncmd < 256)
				cmd[ncmd++] = optarg;
			break;
		case 'V':
			printf("vm-io version %s (Sluice)\n", VERSION);
			return 0;
		case 'h':
			printf("Usage: vm-io [OPTIONS]... [-c STRING]... "
			    "[file]\nExercise a disk image with qemu-io's "
			    "commands; see 'vm-io -c help'.\n");
			return 0;
		case O_OBJ:
			if (img_secret_add(optarg, &e)) {
				warnx("%s", e.s);
				return 1;
			}
			break;
		case O_IO: io = true; break;
		default:
			fprintf(stderr, "Try 'vm-io --help' for more "
			    "information.\n");
			return 1;
		}
	if (argc - optind > 1) {
		fprintf(stderr, "Try 'vm-io --help' for more information.\n");
		return 1;
	}
	if (ro)
		fl &= ~IMG_RDWR;
	fl |= IMG_RESIZE;
	if (argc - optind == 1 && open_image(argv[optind], &o, fmt, fl, io))
		return 1;
	for (int i = 0; i < ncmd && !quit_now; i++)
		command(cmd[i]);
	if (!ncmd)
		for (;;) {
			printf("vm-io> ");
			fflush(stdout);
			if (getline(&line, &cap, stdin) < 0 )
				break;
			command(line);
			if (quit_now)
				break;
		}
	free(line);
	if (im && img_close(im))
		failed = true;
	return failed;
}
