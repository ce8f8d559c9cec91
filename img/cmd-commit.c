/*
 * cmd-commit.c - vm-img commit: write what an overlay holds into the image
 * below it, then empty the overlay.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

/* The base again, for writing. */
static struct img *
writable(struct img *base, int flags)
{
	struct opts o = { 0 };
	struct imgerr e;
	struct img *w;

	opts_set(&o, "driver", base->drv->name);
	w = img_open(base->filename, NULL, &o, flags, &e);
	if (!w)
		fail("Could not open '%s': %s", base->filename, e.s);
	return w;
}

static void
moved(uint64_t data, uint64_t off, uint64_t size)
{
	rate_moved(data);
	progress((double)off * 100 / (double)size);
}

int
cmd_commit(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { 0 }
	};
	const char *fmt = NULL, *cache = "writeback", *bname = NULL, *name;
	bool quiet = false, io = false, drop = false, prog_on = false;
	int c, flags = IMG_RDWR | IMG_UNMAP, r = 1;
	struct img *im, *base, *w = NULL;
	struct imgerr e;
	int64_t rate = 0;

	while ((c = getopt_long(argc, argv, ":f:ht:b:dpqr:", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 't': cache = optarg; break;
		case 'b':
			bname = optarg;
			drop = true;	/* the overlay stays as it is */
			break;
		case 'd': drop = true; break;
		case 'p': prog_on = true; break;
		case 'q': quiet = true; break;
		case 'r':
			if ((rate = size_arg("rate limit", optarg, 0,
			    INT64_MAX)) < 0)
				return 1;
			break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (quiet)
		prog_on = false;
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	name = argv[optind];
	if (cache_flags(cache, &flags)) {
		fail("Invalid cache option: %s", cache);
		return 1;
	}
	if (!(im = cmd_open(io, name, fmt, flags, quiet)))
		return 1;
	progress_init(prog_on);
	if (bname) {
		for (base = im->backing; base; base = base->backing) {
			char *p = img_backing_path(im->filename, bname);
			bool same = !strcmp(base->filename, p) ||
			    !strcmp(base->filename, bname);

			free(p);
			if (same)
				break;
		}
		if (!base) {
			fail("Did not find '%s' in the backing chain of '%s'",
			    bname, name);
			goto out;
		}
	} else if (!(base = im->backing)) {
		fail("Image does not have a backing file");
		goto out;
	}
	/* our reading of the base would lock others' writing out: let go */
	{
		char *top = strdup(im->filename), *tf = strdup(im->drv->name);
		char *bn = strdup(base->filename);
		char *bf = strdup(base->drv->name);
		struct img fake = { .filename = bn };

		fake.drv = img_driver_find(bf);
		img_close(im);
		w = writable(&fake, flags & ~IMG_SHARE);
		im = w ? cmd_open(io, name, io ? NULL : tf, flags | IMG_NOLOCK,
		    quiet) : NULL;
		free(top);
		free(tf);
		free(bn);
		free(bf);
		if (!im)
			goto out;
		for (base = im->backing; base; base = base->backing)
			if (!strcmp(base->filename, w->filename))
				break;
	}
	rate_limit((uint64_t)rate);
	if (img_commit(im, base, w, moved, &e)) {
		fail("%s", e.s);
		goto out;
	}
	if (!drop && im->drv->empty && im->drv->empty(im)) {
		fail("Could not empty %s: %s", name, strerror(errno));
		goto out;
	}
	r = 0;
out:
	if (prog_on)
		progress_end();
	img_close(w);
	img_close(im);
	if (!r && !quiet)
		printf("Image committed.\n");
	return r;
}
