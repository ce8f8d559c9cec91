/*
 * cmd-create.c - vm-img create: a new, empty image.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int
create_image(const char *file, const char *fmt, const char *back,
    const char *bfmt, struct opts *o, int64_t size, bool quiet, bool unsafe,
    struct imgerr *e)
{
	const struct img_driver *d = img_driver_find(fmt), *p;
	struct imgerr be;
	struct img *b = NULL;
	struct opts bo = { 0 };
	const char *bf, *ff;
	char *path;
	bool known;
	int r;

	if (!d || (d->protocol && !d->create))
		return err_set(e, EINVAL, "Unknown file format '%s'", fmt);
	p = img_protocol(file, &known);
	if (!known)
		return err_set(e, EINVAL, "Unknown protocol '%.*s'",
		    (int)strcspn(file, ":"), file);
	if (!d->create)
		return err_set(e, ENOTSUP, "Format driver '%s' does not support "
		    "image creation", fmt);
	if (!p->create)
		return err_set(e, ENOTSUP, "Protocol driver '%s' does not "
		    "support image creation", p->name);
	if (check_opts(o, d, p, e))
		return -1;
	if (size >= 0 && opts_peek(o, "size"))
		return err_set(e, EINVAL, "The image size must be specified "
		    "only once");
	if (size >= 0)
		opts_setf(o, "size", "%lld", (long long)size);
	if (back) {
		if (!d->backing)
			return err_set(e, EINVAL, "Backing file not supported "
			    "for file format '%s'", fmt);
		opts_set(o, "backing_file", back);
	}
	if (bfmt) {
		if (!d->backing)
			return err_set(e, EINVAL, "Backing format not supported "
			    "for file format '%s'", fmt);
		opts_set(o, "backing_fmt", bfmt);
	}
	bf = opts_peek(o, "backing_file");
	ff = opts_peek(o, "backing_fmt");
	if (bf && !*bf)
		return err_set(e, EINVAL, "Expected backing file name, got empty "
		    "string");
	if (bf && !strcmp(bf, file))
		return err_set(e, EINVAL, "Error: Trying to create an image with "
		    "the same filename as the backing file");
	if (ff && (!bf || unsafe) && !img_driver_find(ff))
		return err_set(e, EINVAL, "Unknown backing file format '%s'",
		    ff);
	if (bf && !unsafe) {
		path = img_backing_path(file, bf);
		if (ff)
			opts_set(&bo, "driver", ff);
		b = img_open(path, NULL, &bo, 0, &be);
		free(path);
		if (!b)
			return err_set(e, errno, "%s\nCould not open backing "
			    "image.", be.s);
		if (!ff) {
			err_set(e, EINVAL, "Backing file specified without "
			    "backing format\nDetected format of %s.",
			    b->drv->name);
			img_close(b);
			return -2;
		}
		if (!opts_peek(o, "size"))
			opts_setf(o, "size", "%llu",
			    (unsigned long long)b->size);
		img_close(b);
	} else if (bf && !ff && unsafe)
		return err_set(e, EINVAL, "Backing file specified without "
		    "backing format");
	if (!opts_peek(o, "size"))
		return err_set(e, EINVAL, "Image creation needs a size "
		    "parameter");
	if (!quiet)
		create_line(stdout, file, fmt, o);
	fflush(stdout);
	r = img_create(fmt, file, o, e);
	if (r && errno == EFBIG)
		err_set(e, EFBIG, "The image size is too large for file format "
		    "'%s'%s", fmt, d->opts && !strcmp(fmt, "qcow2") ?
		    " (try using a larger cluster size)" : "");
	return r;
}

int
cmd_create(int argc, char **argv)
{
	enum { O_OBJ = 256 };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ }, { 0 }
	};
	const char *fmt = "raw", *back = NULL, *bfmt = NULL;
	struct opts o = { 0 };
	struct imgerr e;
	bool quiet = false, unsafe = false;
	int64_t size = -1;
	int c, r;

	while ((c = getopt_long(argc, argv, ":F:b:f:ho:qu", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'F': bfmt = optarg; break;
		case 'b': back = optarg; break;
		case 'f': fmt = optarg; break;
		case 'o': create_opts(&o, optarg); break;
		case 'q': quiet = true; break;
		case 'u': unsafe = true; break;
		case O_OBJ: object(optarg); break;
		}
	if (opts_peek(&o, "help"))
		return print_create_help(fmt, optind < argc ? argv[optind] :
		    NULL, false);
	if (optind >= argc)
		usage_error("Expecting image file name");
	if (optind + 1 < argc) {
		size = size_arg("image size", argv[optind + 1], 0, INT64_MAX);
		if (size < 0)
			return 1;
	}
	if (optind + 2 < argc)
		usage_error("Unexpected argument: %s", argv[optind + 2]);
	r = create_image(argv[optind], fmt, back, bfmt, &o, size, quiet, unsafe,
	    &e);
	if (r) {
		fprintf(stderr, "%s: %s: %s%s", prog, argv[optind], e.s,
		    r == -2 ? "" : "\n");
		return 1;
	}
	opts_free(&o);
	return 0;
}
