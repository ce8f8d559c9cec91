/*
 * vm-io.c - exercise an image with qemu-io's commands: a table of them, each
 * a function on its words.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vm-io.h"

struct img *io_img;
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

int
io_usage(const char *name)
{
	const struct cmd *c;

	for (c = cmds; c->name; c++)
		if (!strcmp(c->name, name))
			printf("%s%s%s -- %s\n", c->name, *c->args ? " " : "",
			    c->args, c->help);
	return 1;
}

int
io_number(const char *s, int64_t *v)
{
	uint64_t u;

	bool bad = size_parse(s, 'B', &u);

	if (bad || u > INT64_MAX) {
		if (!bad || errno == ERANGE)
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
do_flush(int argc, char **argv)
{
	return img_flush(io_img) ? 1 : 0;
}

static int
do_nothing(int argc, char **argv)
{
	return 0;
}

static int
do_sleep(int argc, char **argv)
{
	char *end;
	long ms = strtol(argv[1], &end, 0);
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	if (*end || ms < 0) {
		printf("%s is not a valid number\n", argv[1]);
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

	if (io_number(argv[1], &n))
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
	img_close(io_img);
	io_img = NULL;
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
			return io_usage(argv[0]);
		}
	if (!wr)
		fl &= ~IMG_RDWR;
	if (io_img) {
		warnx("file open already, try 'help close'");
		opts_free(&o);
		return 1;
	}
	if (optind == argc - 1)
		return open_image(argv[optind], &o, NULL, fl, false);
	if (optind == argc)
		return open_image(NULL, &o, NULL, fl, false);
	opts_free(&o);
	return io_usage(argv[0]);
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
	{ "map", "", do_map, 0, 0, false, "",
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
	{ "truncate", "t", do_truncate, 1, 3, false, "[-m prealloc_mode] off",
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
		io_usage(c->name);
		return 0;
	}
	for (c = cmds; c->name; c++)
		io_usage(c->name);
	printf("\nUse 'help commandname' for extended help.\n");
	return 0;
}

static void
command(const char *line)
{
	char *s = strdup(line), *p = s, *argv[64];
	const struct cmd *c;
	int argc = 0, n;

	for (char *w; argc < 63 && (w = strsep(&p, " \n"));)
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
	if (!c->noopen && !io_img) {
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
	} else if (!(io_img->flags & IMG_RDWR)) {
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
		io_img = img_open(NULL, NULL, o, fl, &e);
	} else
		io_img = img_open(name, fmt, o, fl, &e);
	if (io_img && temp && !(top = img_temporary(io_img, &e))) {
		img_close(io_img);
		io_img = NULL;
	}
	if (top)
		io_img = top;
	temp = false;
	if (io_img && !top)
		img_guessed_warning(io_img);
	if (!io_img) {
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
			if (img_object_add(optarg, &e)) {
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
	if (io && fmt) {
		warnx("--image-opts and -f are mutually exclusive");
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
	if (io_img && img_close(io_img))
		failed = true;
	return failed;
}
