/*
 * commit.c - writing what an overlay holds into an image below it, also while
 * the overlay is in use, and making that image writable for the time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "img.h"

enum { STEP = 2 << 20 };

/* The file first, so that a format never writes to what is not; and last. */
int
img_writable(struct img *im, bool on, struct imgerr *e)
{
	int r = 0;

	if (on == !!(im->flags & IMG_RDWR))
		return 0;
	if (!on) {
		r = img_flush(im) ? err_set(e, errno, "Could not flush '%s': %s",
		    im->filename, strerror(errno)) : 0;
		im->flags &= ~IMG_RDWR;
	}
	if (im->drv->protocol) {
		if (!im->drv->writable)
			return err_set(e, ENOTSUP, "'%s' is read-only",
			    im->filename);
		if (im->drv->writable(im, on, e))
			return -1;
	} else {
		if (on && !im->drv->late)
			return err_set(e, ENOTSUP, "'%s': format '%s' cannot be "
			    "written to while it is in use", im->filename,
			    im->drv->name);
		if (on && (im->dirty || im->broken))
			return err_set(e, EACCES, "'%s' needs a check first",
			    im->filename);
		if (img_writable(im->file, on, e))
			return -1;
		if (im->data && img_writable(im->data, on, e)) {
			img_writable(im->file, false, NULL);
			return -1;
		}
	}
	if (on)
		im->flags |= IMG_RDWR;
	return r;
}

int
img_commit(struct img *top, struct img *base, struct img *to,
    void (*moved)(uint64_t, uint64_t, uint64_t), struct imgerr *e)
{
	struct img_status s;
	uint64_t off = 0, n;
	uint8_t *buf;
	int r = -1;

	if (to->size < top->size && img_truncate(to, top->size, PRE_OFF, e))
		return -1;
	if (!(buf = malloc(STEP)))
		return err_set(e, ENOMEM, "Out of memory");
	for (; off < top->size; off += n) {
		bool zero, data;

		if (img_status(top, base, off, top->size - off, &s)) {
			err_set(e, errno, "Error while reading block status: %s",
			    strerror(errno));
			goto out;
		}
		n = s.len;
		zero = s.depth && s.flags & IMG_ZERO;
		data = s.depth && !zero;
		if (data)
			n = umin(n, STEP);
		if ((zero && img_zero(to, off, n, IMG_MAYUNMAP)) ||
		    (data && (img_pread(top, buf, n, off) ||
		    img_pwrite(to, buf, n, off, 0))))
			goto io;
		if (moved)
			moved(data ? n : 0, off + n, top->size);
	}
	r = img_flush(to);
io:
	if (r)
		err_set(e, errno, "Error while committing: %s",
		    strerror(errno));
out:
	free(buf);
	return r;
}
