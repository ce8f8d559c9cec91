/*
 * cmd-resize.c - vm-img resize: another virtual size.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int
cmd_resize(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO, O_PRE, O_SHRINK };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO },
		{ "preallocation", 1, 0, O_PRE },
		{ "shrink", 0, 0, O_SHRINK }, { 0 }
	};
	const char *fmt = NULL, *size, *name;
	bool quiet = false, io = false, shrink = false;
	enum prealloc pre = PRE_OFF;
	struct imgerr e;
	struct opts o = { 0 };
	struct img *im;
	uint64_t n, total;
	int c, rel = 0, r = 1;

	/* the size may look like an option: it is the last word */
	if (argc < 3)
		usage_error("Not enough arguments");
	size = argv[--argc];
	while ((c = getopt_long(argc, argv, ":f:hq", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'q': quiet = true; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		case O_PRE:
			if (prealloc_parse(optarg, "preallocation", true, &pre,
			    &e)) {
				fail("Invalid preallocation mode '%s'", optarg);
				return 1;
			}
			break;
		case O_SHRINK: shrink = true; break;
		}
	if (optind != argc - 1)
		usage_error("Expecting image file name and size");
	name = argv[optind];
	if (*size == '+' || *size == '-')
		rel = *size++ == '+' ? 1 : -1;
	opts_set(&o, "size", size);
	if (opts_size(&o, "size", 0, &n, &e)) {
		fail("%s", e.s);
		return 1;
	}
	opts_free(&o);
	if (!(im = cmd_open(io, name, fmt, IMG_RDWR | IMG_RESIZE | IMG_UNMAP,
	    quiet)))
		return 1;
	total = rel > 0 ? im->size + n : rel < 0 ? im->size - n : n;
	if (rel > 0 && total < n)
		total = IMG_MAX + 1;
	if (!total || (rel < 0 && n > im->size)) {
		fail("New image size must be positive");
		goto out;
	}
	if (total <= im->size && pre != PRE_OFF) {
		fail("Preallocation can only be used for growing images");
		goto out;
	}
	if (total < im->size && !shrink) {
		fail("Use the --shrink option to perform a shrink operation.");
		warning("Shrinking an image will delete all data beyond the "
		    "shrunken image's end. Before performing such an "
		    "operation, make sure there is no important data there.");
		goto out;
	}
	if (img_truncate(im, rup(total, 512), pre, &e)) {
		fail("%s", e.s);
		goto out;
	}
	r = 0;
	if (!quiet)
		printf("Image resized.\n");
out:
	if (img_close(im) && !r) {
		fail("Could not flush: %s", strerror(errno));
		r = 1;
	}
	return r;
}
