/*
 * cmd-util.c - messages, option parsing and progress of vm-img.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"

const char *prog = "vm-img";

static void
vfail(const char *pre, const char *fmt, va_list ap)
{
	fflush(stdout);
	fprintf(stderr, "%s: %s", prog, pre);
	vfprintf(stderr, fmt, ap);
	putc('\n', stderr);
}

void
fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail("", fmt, ap);
	va_end(ap);
}

void
warning(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail("warning: ", fmt, ap);
	va_end(ap);
}

void
usage_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail("", fmt, ap);
	va_end(ap);
	fprintf(stderr, "Try '%s --help' for more information\n", prog);
	exit(1);
}

void
bad_option(int c, char **argv)
{
	const char *s = argv[optind - 1];

	usage_error(c == ':' ? "missing argument for option '%s'" :
	    "unrecognized option '%s'", s);
}

void
help(void)
{
	printf(
"usage: vm-img [standard options] command [command options]\n"
"Disk image utility, a stand-in for qemu-img\n"
"\n"
"    '-h', '--help'       display this help and exit\n"
"    '-V', '--version'    output version information and exit\n"
"\n"
"Command syntax:\n"
"  amend [--object def] [--image-opts] [-p] [-q] [-f fmt] [-t cache] "
"[--force] -o options filename\n"
"  bench [-c count] [-d depth] [-f fmt] [--flush-interval=n] [-i aio] "
"[-n] [--no-drain] [-o offset] [--pattern=byte] [-q] [-s buffer_size] "
"[-S step_size] [-t cache] [-w] [-U] filename\n"
"  bitmap (--merge source | --add | --remove | --clear | --enable | "
"--disable)... [-b source_file [-F source_fmt]] [-g granularity] "
"[--image-opts | -f fmt] filename bitmap\n"
"  check [--object def] [--image-opts] [-q] [-f fmt] [--output=ofmt] "
"[-r leaks|all] [-T src_cache] [-U] filename\n"
"  commit [--object def] [--image-opts] [-q] [-f fmt] [-t cache] [-b "
"base] [-r rate_limit] [-d] [-p] filename\n"
"  compare [--object def] [--image-opts] [-f fmt] [-F fmt] [-T "
"src_cache] [-p] [-q] [-s] [-U] filename1 filename2\n"
"  convert [--object def] [--image-opts] [--target-image-opts] "
"[--target-is-zero] [--bitmaps] [-U] [-C] [-c] [-p] [-q] [-n] [-f fmt] "
"[-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F "
"backing_fmt]] [-o options] [-l snapshot] [-S sparse_size] [-r "
"rate_limit] [-m threads] [-W] [--salvage] filename [...] "
"output_filename\n"
"  create [--object def] [-q] [-f fmt] [-b backing_file [-F "
"backing_fmt]] [-u] [-o options] filename [size]\n"
"  dd [--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=n] [count=n] "
"[skip=n] if=input of=output\n"
"  info [--object def] [--image-opts] [-f fmt] [--output=ofmt] "
"[--backing-chain] [-U] filename\n"
"  map [--object def] [--image-opts] [-f fmt] [--start-offset=n] "
"[--max-length=n] [--output=ofmt] [-U] filename\n"
"  measure [--output=ofmt] [-O output_fmt] [-o options] [--size N | "
"[--object def] [--image-opts] [-f fmt] [-l snapshot] filename]\n"
"  snapshot [--object def] [--image-opts] [-U] [-q] [-l | -a snapshot "
"| -c snapshot | -d snapshot] filename\n"
"  rebase [--object def] [--image-opts] [-U] [-q] [-f fmt] [-t cache] "
"[-T src_cache] [-p] [-u] -b backing_file [-F backing_fmt] filename\n"
"  resize [--object def] [--image-opts] [-f fmt] "
"[--preallocation=mode] [-q] [--shrink] filename [+ | -]size\n"
"\n"
"Supported formats:");
	for (int i = 0; i < img_ndrivers; i++)
		printf(" %s", img_drivers[i]->name);
	printf("\n");
	exit(0);
}

int
cache_flags(const char *m, int *flags)
{
	static const struct { const char *name; int f; } tab[] = {
		{ "none", IMG_NOCACHE }, { "off", IMG_NOCACHE },
		{ "writeback", 0 }, { "unsafe", IMG_NOFLUSH },
		{ "writethrough", IMG_WRTHROUGH },
		{ "directsync", IMG_NOCACHE | IMG_WRTHROUGH },
	};

	*flags &= ~(IMG_NOCACHE | IMG_NOFLUSH | IMG_WRTHROUGH);
	for (size_t i = 0; i < sizeof(tab) / sizeof(tab[0]); i++)
		if (!strcmp(tab[i].name, m)) {
			*flags |= tab[i].f;
			return 0;
		}
	return -1;
}

void
object(const char *def)
{
	struct imgerr e;

	if (img_object_add(def, &e)) {
		fail("%s", e.s);
		exit(1);
	}
}

void
create_opts(struct opts *o, const char *s)
{
	size_t n = strlen(s), commas = 0;
	struct imgerr e;

	/* ",," is a comma of a value */
	while (commas < n && s[n - 1 - commas] == ',')
		commas++;
	if (!n || *s == ',' || commas % 2) {
		fail("Invalid option list: %s", s);
		exit(1);
	}
	if (opts_text(o, s, NULL, &e)) {
		fail("%s", e.s);
		exit(1);
	}
}

struct img *
cmd_open(bool image_opts, const char *name, const char *fmt, int flags,
    bool quiet)
{
	struct opts o = { 0 };

	return cmd_open_with(image_opts, name, fmt, &o, flags);
}

struct img *
cmd_open_with(bool image_opts, const char *name, const char *fmt,
    struct opts *o, int flags)
{
	struct imgerr e;
	struct img *im;

	if (image_opts) {
		if (fmt) {
			fail("--image-opts and --format are mutually exclusive");
			return NULL;
		}
		if (!strchr(name, '=')) {
			fail("Could not open '%s': Cannot find device='%s' nor "
			    "node-name='%s'", name, name, name);
			return NULL;
		}
		if (opts_text(o, name, NULL, &e)) {
			fail("%s", e.s);
			return NULL;
		}
		im = img_open(NULL, NULL, o, flags, &e);
	} else
		im = img_open(name, fmt, o, flags, &e);
	if (!im) {
		fail("Could not open '%s': %s", name, e.s);
		return NULL;
	}
	img_guessed_warning(im);
	return im;
}

int64_t
size_arg(const char *name, const char *s, int64_t min, int64_t max)
{
	uint64_t v;

	if (size_parse(s, 'B', &v)) {
		if (errno == ERANGE)
			goto range;
		fail("Invalid %s specified. You may use k, M, G, T, P or E "
		    "suffixes for", name);
		fail("kilobytes, megabytes, gigabytes, terabytes, petabytes "
		    "and exabytes.");
		return -1;
	}
	if ((int64_t)v >= min && v <= (uint64_t)max)
		return (int64_t)v;
range:
	fail("Invalid %s specified. Must be between %lld and %lld.", name,
	    (long long)min, (long long)max);
	return -1;
}

static const char *const type_name[] = {
	[VAL_STR] = "str", [VAL_BOOL] = "bool (on/off)", [VAL_SIZE] = "size",
	[VAL_NUM] = "num",
};

static int
by_name(const void *a, const void *b)
{
	const struct opt_desc *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

int
print_create_help(const char *fmt, const char *file, bool amend)
{
	const struct img_driver *d = img_driver_find(fmt), *p;
	const struct opt_desc *all[128], *o;
	size_t n = 0;
	bool known;

	if (!d) {
		fail("Unknown file format '%s'", fmt);
		return 1;
	}
	if (amend && !d->amend) {
		fail("Format driver '%s' does not support option amendment",
		    fmt);
		return 1;
	}
	if (!d->create) {
		fail("Format driver '%s' does not support image creation",
		    fmt);
		return 1;
	}
	for (o = d->opts; o && o->name; o++)
		if (amend ? o->amend : !o->amend_only)
			all[n++] = o;
	if (file && !amend) {
		p = img_protocol(file, &known);
		for (o = p->opts; o && o->name; o++) {
			size_t i;

			for (i = 0; i < n && strcmp(all[i]->name, o->name); i++)
				;
			if (i == n)
				all[n++] = o;
		}
	}
	qsort(all, n, sizeof(all[0]), by_name);
	if (amend)
		printf("Amend options for '%s':\n", fmt);
	else if (file)
		printf("Supported options:\n");
	else
		printf("Supported %s options:\n", fmt);
	for (size_t i = 0; i < n; i++) {
		int w = printf("  %s=<%s>", all[i]->name,
		    type_name[all[i]->type]);

		printf("%*s - %s\n", w < 24 ? 24 - w : 0, "", all[i]->help);
	}
	if (!amend && !file)
		printf("\nThe protocol level may support further options.\n"
		    "Specify the target filename to include those options.\n");
	return 0;
}

static const struct opt_desc *
desc(const struct img_driver *d, const char *key)
{
	const struct opt_desc *o;

	for (o = d ? d->opts : NULL; o && o->name; o++)
		if (!strcmp(o->name, key))
			return o;
	return NULL;
}

int
check_opts(const struct opts *o, const struct img_driver *d,
    const struct img_driver *p, struct imgerr *e)
{
	struct opts one = { 0 };
	int r = 0;

	for (struct optval *i = o->head; i && !r; i = i->next) {
		const struct opt_desc *k = desc(d, i->key);
		uint64_t v;
		bool b;

		if (!k)
			k = desc(p, i->key);
		if (!k)
			return err_set(e, EINVAL, "Invalid parameter '%s'",
			    i->key);
		opts_set(&one, i->key, i->val);
		switch (k->type) {
		case VAL_BOOL:
			r = opts_bool(&one, i->key, false, &b, e);
			break;
		case VAL_SIZE:
			r = opts_size(&one, i->key, 0, &v, e);
			break;
		case VAL_NUM:
			r = opts_num(&one, i->key, 0, &v, e);
			break;
		case VAL_STR:
			break;
		}
		opts_free(&one);
	}
	return r;
}

/* qcow2's options are shown in this order, others' as they are listed. */
static const char *const order[] = {
	"encryption", "encrypt.format", "encrypt.key-secret",
	"encrypt.cipher-alg", "encrypt.cipher-mode", "encrypt.ivgen-alg",
	"encrypt.ivgen-hash-alg", "encrypt.hash-alg", "encrypt.iter-time",
	"cluster_size", "extended_l2", "preallocation", "compression_type",
	"size", "compat", "backing_file", "backing_fmt", "data_file",
	"data_file_raw", "lazy_refcounts", "refcount_bits",
};

static bool
listed(const char *name)
{
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (!strcmp(order[i], name))
			return true;
	return false;
}

static void
put_option(FILE *f, const struct opts *o, const struct opt_desc *k)
{
	const char *v = k ? opts_peek(o, k->name) : NULL, *q;
	struct opts one = { 0 };
	uint64_t n;
	bool b;

	if (!k || (!v && !(v = k->dflt)))
		return;
	opts_set(&one, k->name, v);
	if (k->type == VAL_SIZE) {
		opts_size(&one, k->name, 0, &n, NULL);
		fprintf(f, " %s=%llu", k->name, (unsigned long long)n);
	} else if (k->type == VAL_BOOL) {
		opts_bool(&one, k->name, false, &b, NULL);
		fprintf(f, " %s=%s", k->name, b ? "on" : "off");
	} else {
		q = strpbrk(v, " ',\\\"") ? "\"" : "";
		fprintf(f, " %s=%s%s%s", k->name, q, v, q);
	}
	opts_free(&one);
}

void
create_line(FILE *f, const char *file, const char *fmt, struct opts *o)
{
	const struct img_driver *d = img_driver_find(fmt), *p;
	bool known, ordered = !strcmp(fmt, "qcow2");
	const struct opt_desc *k;

	p = img_protocol(file, &known);
	fprintf(f, "Formatting '%s', fmt=%s", file, fmt);
	for (size_t i = 0; ordered && i < sizeof(order) / sizeof(order[0]); i++)
		put_option(f, o, desc(d, order[i]));
	for (k = d->opts; k && k->name; k++)
		if (!ordered || !listed(k->name))
			put_option(f, o, k);
	for (k = p->opts; k && k->name; k++)
		if (!desc(d, k->name))
			put_option(f, o, k);
	putc('\n', f);
}

/* ------------------------------------------------------------- progress */

static volatile sig_atomic_t asked;
static bool show;
static double now = -1;

static void
on_usr1(int sig)
{
	asked = 1;
}

void
progress_init(bool on)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };

	show = on;
	sigaction(SIGUSR1, &sa, NULL);
	now = -1;
	if (on)
		progress(0);
}

void
progress(double pc)
{
	if (asked && !show) {
		asked = 0;
		fprintf(stderr, "    (%3.2f/100%%)\n", pc);
	}
	if (!show || (pc < 100 && now >= 0 && pc - now < 2))
		return;
	now = pc;
	printf("    (%3.2f/100%%)\r", pc);
	fflush(stdout);
}

void
progress_end(void)
{
	if (show)
		printf("\n");
}

/* ----------------------------------------------------------------- rate */

static uint64_t rate, rate_total;
static struct timespec rate_start;
static pthread_mutex_t rate_lock = PTHREAD_MUTEX_INITIALIZER;

void
rate_limit(uint64_t bytes)
{
	rate = bytes;
	rate_total = 0;
	clock_gettime(CLOCK_MONOTONIC, &rate_start);
}

/* Sleep until the time has come for what was moved so far. */
void
rate_moved(uint64_t bytes)
{
	struct timespec t;
	double due;

	if (!rate)
		return;
	pthread_mutex_lock(&rate_lock);
	rate_total += bytes;
	due = (double)rate_total / (double)rate;
	pthread_mutex_unlock(&rate_lock);
	due += (double)rate_start.tv_sec + 1e-9 * (double)rate_start.tv_nsec;
	t.tv_sec = (time_t)due;
	t.tv_nsec = (long)((due - (double)t.tv_sec) * 1e9);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) ==
	    EINTR)
		;
}

int
output_arg(const char *s)
{
	if (!strcmp(s, "human"))
		return OUT_HUMAN;
	if (!strcmp(s, "json"))
		return OUT_JSON;
	fail("--output must be used with human or json as argument.");
	exit(1);
}
