/*
 * cmd-rebase.c - vm-img rebase: another backing image.  Safe mode first
 * writes into the overlay whatever would read differently.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int
cmd_rebase(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "force-share", 0, 0, 'U' },
		{ 0 }
	};
	const char *fmt = NULL, *cache = "writeback", *sc = "writeback";
	const char *bname = NULL, *bfmt = NULL, *name;
	bool quiet = false, io = false, unsafe = false, prog_on = false;
	int c, flags, sflags = 0, r = 1;
	struct img *im, *nb = NULL, *ob;
	struct imgerr e;
	struct opts o = { 0 };
	uint8_t *a = NULL, *b = NULL;
	uint64_t off = 0, n;

	while ((c = getopt_long(argc, argv, ":hf:F:b:upt:T:qU", lo, NULL)) !=
	    -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'F': bfmt = optarg; break;
		case 'b': bname = optarg; break;
		case 'u': unsafe = true; break;
		case 'p': prog_on = true; break;
		case 't': cache = optarg; break;
		case 'T': sc = optarg; break;
		case 'q': quiet = true; break;
		case 'U': sflags |= IMG_SHARE; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (quiet)
		prog_on = false;
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	if (!unsafe && !bname)
		usage_error("Must specify backing file (-b) or use unsafe mode "
		    "(-u)");
	name = argv[optind];
	flags = IMG_RDWR | IMG_UNMAP | (unsafe ? IMG_NOBACKING : 0);
	if (cache_flags(cache, &flags)) {
		fail("Invalid cache option: %s", cache);
		return 1;
	}
	if (cache_flags(sc, &sflags)) {
		fail("Invalid source cache option: %s", sc);
		return 1;
	}
	if (!(im = cmd_open(io, name, fmt, flags, quiet)))
		return 1;
	progress_init(prog_on);
	if (bfmt && !img_driver_find(bfmt)) {
		fail("Invalid format name: '%s'", bfmt);
		goto out;
	}
	if (!im->drv->set_backing) {
		fail("Could not change the backing file to '%s': %s",
		    bname ? bname : "", "Operation not supported");
		goto out;
	}
	if (!unsafe && bname && *bname) {
		char *path = img_backing_path(im->filename, bname);

		if (bfmt)
			opts_set(&o, "driver", bfmt);
		nb = img_open(path, NULL, &o, sflags, &e);
		free(path);
		if (!nb) {
			fail("Could not open new backing file '%s': %s", bname,
			    e.s);
			goto out;
		}
	}
	if (bname && *bname && !bfmt) {
		fail("Could not change the backing file to '%s': backing format "
		    "must be specified", bname);
		goto out;
	}
	if (!unsafe) {
		a = malloc(CHUNK);
		b = malloc(CHUNK);
		if (!a || !b) {
			fail("Out of memory");
			goto out;
		}
		ob = im->backing;
		while (off < im->size) {
			struct img_status s;

			if (img_status1(im, off, im->size - off, &s)) {
				fail("error while reading image metadata: %s",
				    strerror(errno));
				goto out;
			}
			n = s.len;
			if (!(s.flags & IMG_ALLOC)) {
				n = umin(n, CHUNK);
				if (img_pread_backing(ob, a, n, off)) {
					fail("error while reading from old "
					    "backing file");
					goto out;
				}
				if (img_pread_backing(nb, b, n, off)) {
					fail("error while reading from new "
					    "backing file");
					goto out;
				}
				for (uint64_t i = 0, k; i < n; i += k) {
					uint64_t gr = im->cluster ? im->cluster
					    : 65536;

					k = umin(gr - (off + i) % gr, n - i);
					if (!memcmp(a + i, b + i, k))
						continue;
					if (is_zero(a + i, k) ? img_zero(im,
					    off + i, k, 0) : img_pwrite(im,
					    a + i, k, off + i, 0)) {
						fail("Error while writing to "
						    "COW image: %s",
						    strerror(errno));
						goto out;
					}
				}
			}
			off += n;
			progress((double)off * 100 / (double)im->size);
		}
	}
	if (img_flush(im) || im->drv->set_backing(im, bname && *bname ? bname :
	    NULL, bfmt)) {
		fail("Could not change the backing file to '%s': %s",
		    bname ? bname : "", strerror(errno));
		goto out;
	}
	progress(100);
	r = 0;
out:
	img_close(nb);
	if (img_close(im) && !r) {
		fail("Could not flush: %s", strerror(errno));
		r = 1;
	}
	if (prog_on)
		progress_end();
	free(a);
	free(b);
	return r;
}
