/*
 * cmd-measure.c - vm-img measure: how large would a converted file be?
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int
cmd_measure(int argc, char **argv)
{
	enum { O_OUT = 256, O_OBJ, O_IO, O_SIZE };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "output", 1, 0, O_OUT },
		{ "size", 1, 0, O_SIZE }, { "force-share", 0, 0, 'U' }, { 0 }
	};
	const char *fmt = NULL, *ofmt = "raw", *snap = NULL, *file = NULL;
	bool io = false;
	int c, out = OUT_HUMAN, flags = 0, r = 1;
	int64_t size = -1;
	struct opts o = { 0 };
	struct imgerr e;
	struct img_measure m = { 0 };
	const struct img_driver *d;
	struct img *im = NULL;

	while ((c = getopt_long(argc, argv, "hf:l:o:O:U", lo, NULL)) != -1)
		switch (c) {
		case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'l': snap = optarg; break;
		case 'o': create_opts(&o, optarg); break;
		case 'O': ofmt = optarg; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_OUT: out = output_arg(optarg); break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		case O_SIZE:
			if ((size = size_arg("image size", optarg, 0,
			    INT64_MAX)) < 0)
				return 1;
			break;
		}
	if (argc - optind > 1) {
		fail("At most one filename argument is allowed.");
		return 1;
	}
	if (argc - optind == 1)
		file = argv[optind];
	if (!file && (io || fmt || snap)) {
		fail("--image-opts, -f, and -l require a filename "
		    "argument.");
		return 1;
	}
	if (!file && size < 0) {
		fail("Either --size N or one filename must be specified.");
		return 1;
	}
	if (file && size >= 0) {
		fail("--size N cannot be used together with a filename.");
		return 1;
	}
	if (file && !(im = cmd_open(io, file, fmt, flags, false)))
		return 1;
	if (snap && (!im->drv->snap_load || (im->drv->snap_load(im, NULL, snap,
	    &e) && im->drv->snap_load(im, snap, NULL, &e)))) {
		fail("Failed to load snapshot: %s", im->drv->snap_load ? e.s :
		    "not supported");
		goto out;
	}
	if (!(d = img_driver_find(ofmt))) {
		fail("Unknown file format '%s'", ofmt);
		goto out;
	}
	if (!d->create) {
		fail("Format driver '%s' does not support image creation",
		    d->name);
		goto out;
	}
	if (check_opts(&o, d, img_driver_find("file"), &e)) {
		fail("%s", e.s);
		fail("Invalid options for file format '%s'", ofmt);
		goto out;
	}
	if (size >= 0)
		opts_setf(&o, "size", "%lld", (long long)size);
	if (!d->measure) {
		fail("Block driver '%s' does not support size measurement",
		    d->name);
		goto out;
	}
	if (d->measure(&o, im, &m, &e)) {
		fail("%s", e.s);
		goto out;
	}
	if (out == OUT_HUMAN) {
		printf("required size: %llu\nfully allocated size: %llu\n",
		    (unsigned long long)m.required, (unsigned long long)m.full);
		if (m.has_bitmaps)
			printf("bitmaps size: %llu\n",
			    (unsigned long long)m.bitmaps);
	} else {
		struct js *j = js_new(JDICT);
		char *s;

		js_int(j, "required", (int64_t)m.required);
		js_int(j, "fully-allocated", (int64_t)m.full);
		if (m.has_bitmaps)
			js_int(j, "bitmaps", (int64_t)m.bitmaps);
		js_sort(j);
		s = js_text(j, true);
		puts(s);
		free(s);
		js_free(j);
	}
	r = 0;
out:
	img_close(im);
	opts_free(&o);
	return r;
}
