/*
 * cmd-check.c - vm-img check: consistency, and repair with -r.
 * Exit: 0 good, 1 check failed, 2 corruptions, 3 leaks, 63 not supported.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static void
say(void *quiet, bool err, const char *s)
{
	if (err)
		fprintf(stderr, "%s\n", s);
	else if (!*(bool *)quiet)
		printf("%s\n", s);
}

static void
human(const struct img_check *c)
{
	if (!(c->corruptions || c->leaks || c->errors))
		printf("No errors were found on the image.\n");
	else {
		if (c->corruptions)
			printf("\n%lld errors were found on the image.\n"
			    "Data may be corrupted, or further writes to the "
			    "image may corrupt it.\n",
			    (long long)c->corruptions);
		if (c->leaks)
			printf("\n%lld leaked clusters were found on the "
			    "image.\nThis means waste of disk space, but no "
			    "harm to data.\n", (long long)c->leaks);
		if (c->errors)
			printf("\n%lld internal errors have occurred during the "
			    "check.\n", (long long)c->errors);
	}
	if (c->total && c->allocated)
		printf("%llu/%llu = %0.2f%% allocated, %0.2f%% fragmented, "
		    "%0.2f%% compressed clusters\n",
		    (unsigned long long)c->allocated,
		    (unsigned long long)c->total,
		    (double)c->allocated * 100 / (double)c->total,
		    (double)c->fragmented * 100 / (double)c->allocated,
		    (double)c->compressed * 100 / (double)c->allocated);
	if (c->end)
		printf("Image end offset: %llu\n", (unsigned long long)c->end);
}

static void
opt_int(struct js *o, const char *key, int64_t v)
{
	if (v)
		js_int(o, key, v);
}

static void
json(struct img *im, const char *name, const struct img_check *c)
{
	struct js *o = js_new(JDICT);
	char *s;

	js_str(o, "filename", name);
	js_str(o, "format", im->drv->name);
	js_int(o, "check-errors", c->errors);
	opt_int(o, "image-end-offset", (int64_t)c->end);
	opt_int(o, "corruptions", c->corruptions);
	opt_int(o, "leaks", c->leaks);
	opt_int(o, "corruptions-fixed", c->corruptions_fixed);
	opt_int(o, "leaks-fixed", c->leaks_fixed);
	opt_int(o, "total-clusters", (int64_t)c->total);
	opt_int(o, "allocated-clusters", (int64_t)c->allocated);
	opt_int(o, "fragmented-clusters", (int64_t)c->fragmented);
	opt_int(o, "compressed-clusters", (int64_t)c->compressed);
	js_sort(o);
	s = js_text(o, true);
	puts(s);
	free(s);
	js_free(o);
}

int
cmd_check(int argc, char **argv)
{
	enum { O_OUT = 256, O_OBJ, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "format", 1, 0, 'f' },
		{ "repair", 1, 0, 'r' }, { "output", 1, 0, O_OUT },
		{ "object", 1, 0, O_OBJ }, { "image-opts", 0, 0, O_IO },
		{ "force-share", 0, 0, 'U' }, { 0 }
	};
	const char *fmt = NULL, *cache = "writeback";
	bool quiet = false, io = false;
	int ch, out = OUT_HUMAN, fix = 0, flags = IMG_CHECK | IMG_NOBACKING;
	struct img_check c, f;
	struct imgerr e;
	struct img *im;

	while ((ch = getopt_long(argc, argv, ":hf:r:T:qU", lo, NULL)) != -1)
		switch (ch) {
		case ':': case '?': bad_option(ch, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'q': quiet = true; break;
		case 'T': cache = optarg; break;
		case 'U': flags |= IMG_SHARE; break;
		case 'r':
			flags |= IMG_RDWR;
			if (!strcmp(optarg, "leaks"))
				fix = 1;
			else if (!strcmp(optarg, "all"))
				fix = 2;
			else
				usage_error("Unknown option value for -r "
				    "(expecting 'leaks' or 'all'): %s", optarg);
			break;
		case O_OUT: out = output_arg(optarg); break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	if (cache_flags(cache, &flags)) {
		fail("Invalid source cache option: %s", cache);
		return 1;
	}
	im = cmd_open(io, argv[optind], fmt, flags, quiet);
	if (!im)
		return 1;
	if (!im->drv->check) {
		fail("This image format does not support checks");
		img_close(im);
		return 63;
	}
	memset(&c, 0, sizeof(c));
	c.fix = fix;
	c.say = say;
	c.arg = &quiet;
	if (im->drv->check(im, &c, &e)) {
		fail("Check failed: %s", e.s);
		img_close(im);
		return 1;
	}
	if (c.corruptions_fixed || c.leaks_fixed) {
		f = c;
		if (out == OUT_HUMAN && !quiet)
			printf("The following inconsistencies were found and "
			    "repaired:\n\n    %lld leaked clusters\n"
			    "    %lld corruptions\n\n"
			    "Double checking the fixed image now...\n",
			    (long long)f.leaks_fixed,
			    (long long)f.corruptions_fixed);
		memset(&c, 0, sizeof(c));
		c.say = say;
		c.arg = &quiet;
		if (out == OUT_HUMAN && !quiet)
			fflush(stdout);
		if (im->drv->check(im, &c, &e)) {
			fail("Check failed: %s", e.s);
			img_close(im);
			return 1;
		}
		c.corruptions_fixed = f.corruptions_fixed;
		c.leaks_fixed = f.leaks_fixed;
	}
	if (out == OUT_JSON)
		json(im, argv[optind], &c);
	else if (!quiet)
		human(&c);
	if (img_close(im))
		fail("Could not flush: %s", strerror(errno));
	if (c.errors)
		return 1;
	if (c.corruptions)
		return 2;
	return c.leaks ? 3 : 0;
}
