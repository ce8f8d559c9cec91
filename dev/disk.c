/*
 * disk.c - opening the image behind a disk with the image library.
 *
 * The locks keep other writers out as long as the machine runs, as QEMU's do
 * for its disks (img/lock.c).  With snapshot=on the image is opened read-only
 * and backs a temporary one, which goes with this process however that ends.
 *
 * Once the machine runs no file can be opened any more (bus/sandbox.c): what a
 * snapshot or a job writes to comes as a descriptor with the question.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"

const char *const disk_cache_values[] = { "writeback", "none",
	"writethrough", "unsafe", "directsync", NULL };
const char *const disk_discard_values[] = { "unmap", "on", "ignore", "off",
	NULL };
const char *const disk_zeroes_values[] = { "off", "on", "unmap", NULL };
const char *const disk_locking_values[] = { "auto", "on", "off", NULL };
const char *const disk_aio_values[] = { "threads", NULL };

const char *
disk_name(const struct disk_opts *o)
{
	return o->file ? o->file : o->image;
}

bool
disk_unmaps(const struct disk_opts *o)
{
	return o->discard < 2;
}

static int
flags(const struct disk_opts *o)
{
	int f = IMG_NORESIZERS | IMG_LATER;

	if (!o->share_rw)
		f |= IMG_NOWRITERS;
	if (o->cache == NONE || o->cache == DIRECTSYNC)
		f |= IMG_NOCACHE;
	if (o->cache == UNSAFE)
		f |= IMG_NOFLUSH;
	if (disk_unmaps(o))
		f |= IMG_UNMAP;
	return f;
}

/* One line: the library's messages may have two. */
static struct img *
failed(struct imgerr *e, const char *name, char *why, size_t whylen)
{
	char *p;

	while ((p = strchr(e->s, '\n')))
		*p = ' ';
	snprintf(why, whylen, "%s: %s", name, e->s);
	return NULL;
}

/* The words of throttle=, as the image's. */
static int
limits(struct opts *to, const char *words, struct imgerr *e)
{
	struct opts o = { 0 };
	char key[64];
	int r = opts_text(&o, words, NULL, e);

	for (struct optval *p = o.head; p && !r; p = p->next) {
		snprintf(key, sizeof(key), "throttling.%s", p->key);
		opts_set(to, key, p->val);
	}
	opts_free(&o);
	return r;
}

static struct img *
open_image(const struct disk_opts *o, int fl, struct imgerr *e)
{
	static const char *const zero[] = { "off", "on", "unmap" };
	struct opts w = { 0 };
	struct img *im;

	if (o->secret) {
		char *def;
		int r;

		if (asprintf(&def, "secret,%s", o->secret) < 0) {
			err_set(e, ENOMEM, "Out of memory");
			return NULL;
		}
		r = img_object_add(def, e);
		free(def);
		if (r)
			return NULL;
	}
	if (o->key)
		opts_set(&w, "key-secret", o->key);
	if (o->qkey)
		opts_set(&w, "encrypt.key-secret", o->qkey);
	if (o->image && opts_text(&w, o->image, NULL, e)) {
		opts_free(&w);
		return NULL;
	}
	if (o->throttle && limits(&w, o->throttle, e)) {
		opts_free(&w);
		return NULL;
	}
	if (o->locking)
		opts_set(&w, "file.locking", disk_locking_values[o->locking]);
	if (o->zeroes)
		opts_set(&w, "detect-zeroes", zero[o->zeroes]);
	im = img_open(o->file, o->format, &w, fl, e);
	if (im)
		img_guessed_warning(im);
	return im;
}

struct img *
disk_open(const struct disk_opts *o, char *why, size_t whylen)
{
	const char *name = disk_name(o);
	int fl = flags(o);
	struct imgerr e;
	struct img *im, *top;

	if (!name || !*name || (o->file && o->image)) {
		snprintf(why, whylen, name && *name ? "file= and image= are "
		    "both given" : "file= is missing");
		return NULL;
	}
	if (o->zeroes == 2 && !disk_unmaps(o)) {
		snprintf(why, whylen, "%s: detect-zeroes=unmap needs "
		    "discard=unmap", name);
		return NULL;
	}
	if (o->cor && o->readonly) {
		snprintf(why, whylen, "%s: copy-on-read=on needs a writable "
		    "disk", name);
		return NULL;
	}
	if (o->readonly)
		fl &= ~IMG_LATER;
	else if (!o->snapshot)
		fl |= IMG_RDWR | (o->cor ? IMG_COR : 0);
	im = open_image(o, fl, &e);
	if (!im)
		return failed(&e, name, why, whylen);
	if (!o->snapshot || o->readonly)
		return im;
	top = img_temporary(im, &e);
	if (!top) {
		img_close(im);
		return failed(&e, name, why, whylen);
	}
	if (o->cor)
		top->flags |= IMG_COR;
	top->detect_zero = im->detect_zero;
	top->detect_unmap = im->detect_unmap;
	return top;
}

struct img *
disk_target(const struct disk_opts *o, int fd, const char *name,
    const char *format, struct opts *create, struct imgerr *e)
{
	struct opts w = { 0 };
	struct img *im = NULL;

	if (img_lend(name, fd)) {
		close(fd);
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	if (o->locking)
		opts_set(&w, "file.locking", disk_locking_values[o->locking]);
	if (!create || !img_create(format, name, create, e))
		im = img_open(name, format, &w, flags(o) | IMG_RDWR |
		    IMG_NOBACKING, e);
	img_unlend(name);
	opts_free(&w);
	return im;
}

void
disk_hand_on(struct img *from, struct img *to)
{
	to->throttle = from->throttle;
	from->throttle = NULL;
	to->flags |= from->flags & IMG_COR;
	to->detect_zero = from->detect_zero;
	to->detect_unmap = from->detect_unmap;
}
