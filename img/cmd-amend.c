/*
 * cmd-amend.c - vm-img amend: change format options of an image.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

int
cmd_amend(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO, O_FORCE };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "force", 0, 0, O_FORCE },
		{ 0 }
	};
	const char *fmt = NULL, *cache = "writeback";
	bool quiet = false, io = false, force = false, any = false;
	bool prog_on = false;
	int c, flags = IMG_RDWR | IMG_RESIZE, r = 1;
	struct opts o = { 0 };
	struct imgerr e;
	struct img *im;

	while ((c = getopt_long(argc, argv, ":ho:f:t:pq", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'o':
			create_opts(&o, optarg);
			any = true;
			break;
		case 'f': fmt = optarg; break;
		case 't': cache = optarg; break;
		case 'p': prog_on = true; break;
		case 'q': quiet = true; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		case O_FORCE: force = true; break;
		}
	if (!any)
		usage_error("Must specify options (-o)");
	if (quiet)
		prog_on = false;
	if (opts_peek(&o, "help") && fmt)
		return print_create_help(fmt, NULL, true);
	if (optind != argc - 1) {
		fail("Expecting one image file name");
		return 1;
	}
	if (cache_flags(cache, &flags)) {
		fail("Invalid cache option: %s", cache);
		return 1;
	}
	if (!(im = cmd_open(io, argv[optind], fmt, flags, quiet)))
		return 1;
	if (opts_peek(&o, "help")) {
		r = print_create_help(im->drv->name, NULL, true);
		goto out;
	}
	if (!im->drv->amend) {
		fail("Format driver '%s' does not support option amendment",
		    im->drv->name);
		goto out;
	}
	progress_init(prog_on);
	for (struct optval *p = o.head; p; p = p->next) {
		const struct opt_desc *k;

		for (k = im->drv->opts; k->name && strcmp(k->name, p->key);
		    k++)
			;
		if (!k->name || !k->amend) {
			fail("Invalid parameter '%s'", p->key);
			if (k->name)
				fprintf(stderr, "This option is only supported "
				    "for image creation\n");
			goto out;
		}
	}
	if (check_opts(&o, im->drv, im->drv, &e)) {
		fail("%s", e.s);
		goto out;
	}
	if (im->drv->amend(im, &o, force, prog_on ? progress : NULL, &e)) {
		fail("%s", e.s);
		goto out;
	}
	progress(100);
	r = 0;
out:
	if (prog_on)
		progress_end();
	if (img_close(im) && !r)
		r = 1;
	opts_free(&o);
	return r;
}
