/*
 * blk-snap.c - a disk's snapshots while the machine runs: an overlay that takes
 * what is written from now on, and the image's own (blk-ask.c tells when).
 * The files of overlays and of jobs' targets come as descriptors.
 */
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "blk.h"

char *
blk_full_name(const char *s)
{
	size_t colon = strcspn(s, ":"), slash = strcspn(s, "/");
	char dir[512], *full;

	if (!slash || (s[colon] && colon < slash) || !getcwd(dir, sizeof dir))
		return strdup(s);
	return asprintf(&full, "%s/%s", dir, s) < 0 ? NULL : full;
}

/* What the new image's header shall say. */
static int
creation(struct blk_priv *b, const char *format, struct img *backing,
    struct opts *o, struct imgerr *e)
{
	const struct img_driver *d = img_driver_find(format);
	char *name;

	if (!d || d->protocol)
		return err_set(e, EINVAL, "Unknown file format '%s'", format);
	opts_setf(o, "size", "%llu", (unsigned long long)b->img->size);
	if (!backing)
		return 0;
	if (!d->backing)
		return err_set(e, ENOTSUP, "Format '%s' has no backing images",
		    format);
	if (!strcmp(backing->drv->name, "raw") &&
	    backing->size + 512 <= backing->file->size)
		return err_set(e, ENOTSUP, "'%s' is a part of its file: its "
		    "name does not say which", backing->filename);
	if (!(name = blk_full_name(backing->filename)))
		return err_set(e, ENOMEM, "Out of memory");
	opts_set(o, "backing_file", name);
	opts_set(o, "backing_fmt", backing->drv->name);
	free(name);
	return 0;
}

struct img *
blk_target(struct blk_priv *b, char **argv, struct img *backing, FILE *out)
{
	const char *file = line_key(argv, "file");
	const char *format = line_key(argv, "format");
	const char *new = line_key(argv, "new");
	bool make = new && !strcmp(new, "on");
	int fd = part_take_fd(b->v.d->part), r = 0;
	struct opts o = { 0 };
	struct img *im = NULL;
	struct imgerr e = { "" };

	if (fd < 0 || !file) {
		fprintf(out, "no file to write to");
		errno = EINVAL;
		return NULL;
	}
	if (make && !format)
		format = b->img->drv->name;
	r = make ? creation(b, format, backing, &o, &e) : 0;
	if (r)
		close(fd);
	else
		im = disk_target(&options(b)->d, fd, file, format,
		    make ? &o : NULL, &e);
	opts_free(&o);
	if (im && im->size < b->img->size && img_truncate(im, b->img->size,
	    PRE_OFF, &e))
		r = -1;
	else if (im && im->size != b->img->size)
		r = err_set(&e, EINVAL, "'%s' has another size than the disk",
		    file);
	else if (im && backing && !im->backing_name)
		r = err_set(&e, EINVAL, "'%s' has no backing image", file);
	if (!im || r) {
		r = blk_say(out, &e);
		img_close(im);
		errno = r;
		return NULL;
	}
	return im;
}

int
blk_snapshot(struct blk_priv *b, char **argv, FILE *out)
{
	struct img *old = b->img, *im;
	struct imgerr e;

	if (blk_busy(b, out))
		return EBUSY;
	if (b->ro || b->temp) {
		fprintf(out, b->ro ? "the disk is read-only" :
		    "the disk is a temporary snapshot");
		return ENOTSUP;
	}
	blk_quiet(b);
	if (!(im = blk_target(b, argv, old, out)))
		return errno;
	if (img_flush(old)) {
		err_set(&e, errno, "Could not flush '%s': %s", old->filename,
		    strerror(errno));
		img_close(im);
		return blk_say(out, &e);
	}
	disk_hand_on(old, im);
	old->flags &= ~IMG_COR;
	im->backing = old;
	blk_use(b, im);
	/* what it holds is on the disk: no writer any more, for others too */
	return img_writable(old, false, &e) ? blk_say(out, &e) : 0;
}

int
blk_snap_internal(struct blk_priv *b, char **argv, FILE *out)
{
	struct img_snap s = { 0 };
	struct timeval tv;
	struct imgerr e;

	if (blk_busy(b, out))
		return EBUSY;
	if (!argv[1] || !*argv[1] || strlen(argv[1]) >= sizeof s.name) {
		fprintf(out, "a snapshot needs a name of up to 255 bytes");
		return EINVAL;
	}
	if (!b->img->drv->snap_create || b->ro) {
		fprintf(out, b->ro ? "the disk is read-only" : "Block format "
		    "'%s' does not support internal snapshots",
		    b->img->drv->name);
		return ENOTSUP;
	}
	strcpy(s.name, argv[1]);
	gettimeofday(&tv, NULL);
	s.sec = (uint32_t)tv.tv_sec;
	s.nsec = (uint32_t)tv.tv_usec * 1000;
	s.clock_nsec = (uint64_t)dev_clock(b->v.d);
	blk_quiet(b);
	if (img_flush(b->img) || b->img->drv->snap_create(b->img, &s, &e)) {
		fprintf(out, "Could not make the snapshot: %s",
		    strerror(errno));
		return errno;
	}
	return 0;
}

int
blk_snap_delete(struct blk_priv *b, char **argv, FILE *out)
{
	const char *id = NULL;
	struct img_snap *s = NULL;
	struct imgerr e;
	int n = 0, i, r;

	if (blk_busy(b, out))
		return EBUSY;
	if (!argv[1])
		return EINVAL;
	if (!b->img->drv->snap_delete || b->ro) {
		fprintf(out, b->ro ? "the disk is read-only" : "Block format "
		    "'%s' does not support internal snapshots",
		    b->img->drv->name);
		return ENOTSUP;
	}
	blk_quiet(b);
	if (b->img->drv->snap_list(b->img, &s, &n)) {
		fprintf(out, "%s", strerror(errno));
		return errno;
	}
	for (i = 0; i < n && !id; i++)
		if (!strcmp(s[i].name, argv[1]) && (!argv[2] ||
		    !strcmp(s[i].id, argv[2])))
			id = s[i].id;
	if (!id)
		err_set(&e, ENOENT, "Snapshot with name '%s' does not exist",
		    argv[1]);
	r = !id || b->img->drv->snap_delete(b->img, id, &e) ||
	    (img_flush(b->img) && err_set(&e, errno, "%s", strerror(errno))) ?
	    blk_say(out, &e) : 0;
	free(s);
	return r;
}
