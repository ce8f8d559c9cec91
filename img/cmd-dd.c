/*
 * cmd-dd.c - vm-img dd: copy blocks into a new image.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static int
number(const char *name, const char *s, int64_t max, int64_t *v)
{
	if ((*v = size_arg(name, s, max == INT32_MAX, max)) < 0)
		return -1;
	return 0;
}

int
cmd_dd(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "force-share", 0, 0, 'U' },
		{ 0 }
	};
	const char *fmt = NULL, *ofmt = "raw", *in = NULL, *out = NULL;
	int64_t bs = 512, count = -1, skip = 0;
	bool io = false;
	int c, flags = 0, r = 1;
	struct opts o = { 0 };
	struct imgerr e;
	struct img *a = NULL, *b = NULL;
	const struct img_driver *d;
	uint64_t size, off, to;
	uint8_t *buf = NULL;

	while ((c = getopt_long(argc, argv, ":hf:O:U", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'O': ofmt = optarg; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	for (int i = optind; i < argc; i++) {
		char *eq = strchr(argv[i], '=');
		int bad = 0;

		if (!eq) {
			fail("unrecognized operand %s", argv[i]);
			return 1;
		}
		*eq++ = 0;
		if (!strcmp(argv[i], "if"))
			in = eq;
		else if (!strcmp(argv[i], "of"))
			out = eq;
		else if (!strcmp(argv[i], "bs"))
			bad = number("bs", eq, INT32_MAX, &bs);
		else if (!strcmp(argv[i], "count"))
			bad = number("count", eq, INT64_MAX, &count);
		else if (!strcmp(argv[i], "skip"))
			bad = number("skip", eq, INT64_MAX, &skip);
		else {
			fail("unrecognized operand %s", argv[i]);
			return 1;
		}
		if (bad)
			return 1;
	}
	if (!in || !out) {
		fail("Must specify both input and output files");
		return 1;
	}
	if (!(a = cmd_open(io, in, fmt, flags, false)))
		return 1;
	if (!(d = img_driver_find(ofmt))) {
		fail("Unknown file format");
		goto out;
	}
	if (!d->create) {
		fail("Format driver '%s' does not support image creation",
		    ofmt);
		goto out;
	}
	size = a->size;
	if (count >= 0 && (uint64_t)count <= INT64_MAX / (uint64_t)bs &&
	    (uint64_t)count * (uint64_t)bs < size)
		size = (uint64_t)(count * bs);
	off = (uint64_t)skip > INT64_MAX / (uint64_t)bs ? a->size :
	    (uint64_t)(skip * bs);
	/* the input ends at `size` when counted from its start */
	opts_setf(&o, "size", "%llu", (unsigned long long)(size > off ? size -
	    off : 0));
	if (img_create(ofmt, out, &o, &e)) {
		fail("%s: error while creating output image: %s", out, e.s);
		goto out;
	}
	if (!(b = cmd_open(false, out, ofmt, IMG_RDWR | IMG_UNMAP, false)))
		goto out;
	if (off > a->size)
		fail("%s: cannot skip to specified offset", in);
	if (!(buf = malloc((size_t)umax(bs, 512)))) {
		fail("Out of memory");
		goto out;
	}
	for (to = 0; off < size; ) {
		size_t n = umin((uint64_t)bs, size - off);

		if (img_pread(a, buf, n, off)) {
			fail("error while reading from input image file: %s",
			    strerror(errno));
			goto out;
		}
		if (img_pwrite(b, buf, n, to, 0)) {
			fail("error while writing to output image file: %s",
			    strerror(errno));
			goto out;
		}
		off += n;
		to += n;
	}
	r = 0;
out:
	if (img_close(b) && !r)
		r = 1;
	img_close(a);
	opts_free(&o);
	free(buf);
	return r;
}
