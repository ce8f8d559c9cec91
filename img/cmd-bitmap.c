/*
 * cmd-bitmap.c - vm-img bitmap: persistent dirty bitmaps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int
cmd_bitmap(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO, O_ADD, O_REM, O_CLR, O_ENA, O_DIS, O_MERGE };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "add", 0, 0, O_ADD },
		{ "remove", 0, 0, O_REM }, { "clear", 0, 0, O_CLR },
		{ "enable", 0, 0, O_ENA }, { "disable", 0, 0, O_DIS },
		{ "merge", 1, 0, O_MERGE }, { "granularity", 1, 0, 'g' },
		{ "source-file", 1, 0, 'b' }, { "source-format", 1, 0, 'F' },
		{ 0 }
	};
	static const char *const verb[] = { "add", "remove", "clear", "enable",
		"disable", "merge" };
	const char *fmt = NULL, *sname = NULL, *sfmt = NULL, *bm;
	struct { int op; const char *src; } act[64];
	int n = 0, c, r = 1;
	bool io = false, add = false, merge = false;
	int64_t gran = 0;
	struct img *im, *src = NULL;
	struct imgerr e;

	while ((c = getopt_long(argc, argv, ":b:f:F:g:h", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'b': sname = optarg; break;
		case 'f': fmt = optarg; break;
		case 'F': sfmt = optarg; break;
		case 'g':
			if ((gran = size_arg("granularity", optarg, 1,
			    INT64_MAX)) < 0)
				return 1;
			break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		default:
			if (n == 64) {
				fail("Too many actions");
				return 1;
			}
			act[n].op = c - O_ADD;
			act[n++].src = optarg;
			add |= c == O_ADD;
			merge |= c == O_MERGE;
		}
	if (!n) {
		fail("Need at least one of --add, --remove, --clear, --enable, "
		    "--disable, or --merge");
		return 1;
	}
	if (optind != argc - 2) {
		fail("Expecting filename and bitmap name");
		return 1;
	}
	if (gran && !add) {
		fail("granularity only supported with --add");
		return 1;
	}
	if (sfmt && !sname) {
		fail("-F only supported with -b");
		return 1;
	}
	if (sname && !merge) {
		fail("Merge bitmap source file only supported with --merge");
		return 1;
	}
	bm = argv[optind + 1];
	if (!(im = cmd_open(io, argv[optind], fmt, IMG_RDWR, false)))
		return 1;
	if (sname && !(src = cmd_open(false, sname, sfmt, 0, false)))
		goto out;
	for (int i = 0; i < n; i++) {
		int op = act[i].op, bad;

		if (!im->drv->bm_op) {
			err_set(&e, ENOTSUP, "Driver '%s' does not support "
			    "bitmaps", im->drv->name);
			bad = -1;
		} else if (op == 5)
			bad = im->drv->bm_merge(im, bm, src ? src : im,
			    act[i].src, &e);
		else
			bad = im->drv->bm_op(im, op, bm, (uint64_t)gran, &e);
		if (bad) {
			fail("Operation %s on bitmap %s failed: %s", verb[op],
			    bm, e.s);
			goto out;
		}
	}
	r = 0;
out:
	img_close(src);
	if (img_close(im) && !r)
		r = 1;
	return r;
}
