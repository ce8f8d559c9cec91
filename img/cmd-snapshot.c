/*
 * cmd-snapshot.c - vm-img snapshot: list, create, apply, delete internal
 * snapshots.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "cmd.h"

int
cmd_snapshot(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "force-share", 0, 0, 'U' },
		{ 0 }
	};
	const char *name = NULL;
	bool quiet = false, io = false;
	int c, op = 0, flags = IMG_RDWR | IMG_UNMAP, r = 0;
	struct img_snap s;
	struct imgerr e;
	struct img *im;
	struct timeval tv;

	while ((c = getopt_long(argc, argv, ":la:c:d:hqU", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'l': case 'a': case 'c': case 'd':
			if (op)
				usage_error("Cannot mix '-l', '-a', '-c', "
				    "'-d'");
			op = c;
			if (c == 'l')
				flags &= ~IMG_RDWR;
			else
				name = optarg;
			break;
		case 'q': quiet = true; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	if (!op) {
		op = 'l';
		flags &= ~IMG_RDWR;
	}
	if (!(im = cmd_open(io, argv[optind], NULL, flags, quiet)))
		return 1;
	switch (op) {
	case 'l':
		print_snapshots(stdout, im);
		break;
	case 'c':
		memset(&s, 0, sizeof(s));
		strncpy(s.name, name, sizeof(s.name) - 1);
		gettimeofday(&tv, NULL);
		s.sec = (uint32_t)tv.tv_sec;
		s.nsec = (uint32_t)tv.tv_usec * 1000;
		if (!im->drv->snap_create)
			errno = ENOTSUP;
		if (!im->drv->snap_create || im->drv->snap_create(im, &s, &e)) {
			fail("Could not create snapshot '%s': %d (%s)", name,
			    -errno, strerror(errno));
			r = 1;
		}
		break;
	case 'a':
		if (!im->drv->snap_apply)
			err_set(&e, ENOTSUP, "Block format '%s' used by device "
			    "'' does not support feature 'snapshots'",
			    im->drv->name);
		if (!im->drv->snap_apply || im->drv->snap_apply(im, name, &e)) {
			fail("Could not apply snapshot '%s': %s", name, e.s);
			r = 1;
		}
		break;
	case 'd':
		if (!im->drv->snap_delete)
			err_set(&e, ENOTSUP, "snapshot not found");
		if (!im->drv->snap_delete ||
		    im->drv->snap_delete(im, name, &e)) {
			fail("Could not delete snapshot '%s': %s", name, e.s);
			r = 1;
		}
		break;
	}
	if (img_close(im) && !r) {
		fail("Could not flush: %s", strerror(errno));
		r = 1;
	}
	return r;
}
