/*
 * temp.c - a temporary image over another one: snapshot=on, vm-io -s.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "img.h"

struct img *
img_temporary(struct img *base, struct imgerr *e)
{
	const char *dir = getenv("TMPDIR");
	struct opts w = { 0 };
	struct img *im = NULL;
	char *path;
	int fd;

	if (asprintf(&path, "%s/vm-snapshot-XXXXXX", dir && *dir ? dir :
	    "/var/tmp") < 0) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	if ((fd = mkstemp(path)) < 0) {
		err_set(e, errno, "snapshot: %s: %s", path, strerror(errno));
		free(path);
		return NULL;
	}
	close(fd);
	opts_setf(&w, "size", "%llu", (unsigned long long)base->size);
	if (!img_create("qcow2", path, &w, e))
		im = img_open(path, "qcow2", NULL, IMG_RDWR | IMG_NOFLUSH |
		    IMG_NOBACKING | IMG_UNMAP, e);
	if (!im)
		err_pre(e, "snapshot: ");
	else
		im->backing = base;
	unlink(path);
	opts_free(&w);
	free(path);
	return im;
}
