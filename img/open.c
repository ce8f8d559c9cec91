/*
 * open.c - the table of drivers; opening a tree of nodes from names and
 * options, with probing; creating; closing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "throttle.h"

/* A format is one file and one word here. */
#define DRIVERS(X) X(raw) X(qcow2) X(qcow) X(vdi) X(vpc) X(vmdk) X(vhdx) \
	X(qed) X(parallels) X(bochs) X(luks) X(file) X(host_device) X(null) \
	X(nbd) X(http) X(https) X(ftp) X(ftps) X(cloop) X(dmg) \
	X(ssh)
#define DECL(n) extern const struct img_driver drv_##n;
DRIVERS(DECL)
#define SLOT(n) &drv_##n,
const struct img_driver *const img_drivers[] = { DRIVERS(SLOT) };
#define ONE(n) + 1
const int img_ndrivers = 0 DRIVERS(ONE);

const struct img_driver *
img_driver_find(const char *name)
{
	for (int i = 0; i < img_ndrivers; i++)
		if (!strcmp(img_drivers[i]->name, name))
			return img_drivers[i];
	return NULL;
}

static const char *
proto_end(const char *s)
{
	const char *c = strchr(s, ':'), *sl = strchr(s, '/');

	return c && c != s && (!sl || c < sl) ? c : NULL;
}

/* A protocol by its name or one of its other words. */
static const struct img_driver *
by_scheme(const char *word)
{
	const struct img_driver *d = img_driver_find(word);
	size_t n = strlen(word);

	if (d && d->protocol)
		return d;
	for (int i = 0; i < img_ndrivers; i++) {
		const char *p = img_drivers[i]->schemes;

		for (; p && *p; p += strspn(p, " ")) {
			size_t k = strcspn(p, " ");

			if (k == n && !strncmp(p, word, n))
				return img_drivers[i];
			p += k;
		}
	}
	return NULL;
}

const struct img_driver *
img_protocol(const char *name, bool *known)
{
	const char *c = proto_end(name);
	char word[32];
	struct stat st;
	const struct img_driver *d;

	*known = true;
	if (c && (size_t)(c - name) < sizeof(word)) {
		snprintf(word, sizeof(word), "%.*s", (int)(c - name), name);
		if ((d = by_scheme(word)))
			return d;
		*known = false;
	}
	if (!stat(name, &st) && S_ISBLK(st.st_mode))
		return &drv_host_device;
	return &drv_file;
}

static struct img *
node(const struct img_driver *d, const char *name, int flags)
{
	struct img *im = calloc(1, sizeof(*im));
	pthread_rwlockattr_t a;

	if (!im)
		return NULL;
	im->drv = d;
	im->filename = strdup(name ? name : "");
	im->flags = flags;
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a,
	    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&im->cor, &a);
	pthread_rwlockattr_destroy(&a);
	return im;
}

static int
common(struct opts *o, int *flags, struct img *dz, struct imgerr *e)
{
	bool b;
	const char *s;

	opts_get(o, "driver");
	opts_get(o, "node-name");
	if (opts_bool(o, "read-only", !(*flags & IMG_RDWR), &b, e))
		return -1;
	*flags = b ? *flags & ~IMG_RDWR : *flags | IMG_RDWR;
	if (opts_bool(o, "auto-read-only", false, &dz->auto_ro, e) ||
	    opts_bool(o, "cache.direct", *flags & IMG_NOCACHE, &b, e))
		return -1;
	*flags = b ? *flags | IMG_NOCACHE : *flags & ~IMG_NOCACHE;
	if (opts_bool(o, "cache.no-flush", *flags & IMG_NOFLUSH, &b, e))
		return -1;
	*flags = b ? *flags | IMG_NOFLUSH : *flags & ~IMG_NOFLUSH;
	if (opts_bool(o, "force-share", *flags & IMG_SHARE, &b, e))
		return -1;
	*flags = b ? *flags | IMG_SHARE : *flags & ~IMG_SHARE;
	if (*flags & IMG_SHARE && *flags & IMG_RDWR)
		return err_set(e, EINVAL,
		    "force-share=on can only be used with read-only images");
	if (throttle_parse(o, &dz->throttle, e))
		return -1;
	if ((s = opts_get(o, "discard"))) {
		if (!strcmp(s, "unmap") || !strcmp(s, "on"))
			*flags |= IMG_UNMAP;
		else if (strcmp(s, "ignore") && strcmp(s, "off"))
			return err_set(e, EINVAL, "Invalid discard option");
	}
	if ((s = opts_get(o, "detect-zeroes"))) {
		dz->detect_zero = strcmp(s, "off") != 0;
		dz->detect_unmap = !strcmp(s, "unmap");
	}
	return 0;
}

/* Formats that are known by their first bytes, and not there: as raw they would
 * be read wrong and destroyed. */
static const struct { const char *name, *magic; size_t n; } strangers[] = {
	{ "qcow", "QFI\xfb\0\0\0\1", 8 },
	{ "vhdx", "vhdxfile", 8 },
	{ "luks", "LUKS\xba\xbe", 6 },
	{ "parallels", "WithoutFreeSpace", 16 },
	{ "parallels", "WithouFreSpacExt", 16 },
	{ "bochs", "Bochs Virtual HD Image", 22 },
};

static const struct img_driver *
probe(struct img *file, struct imgerr *e)
{
	uint8_t b[2048] = { 0 };
	const struct img_driver *best = &drv_raw;
	int top = 0;
	size_t n = umin(sizeof(b), file->size);

	if (n && img_pread(file, b, n, 0)) {
		err_set(e, errno, "Could not read image for determining its "
		    "format: %s", strerror(errno));
		return NULL;
	}
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++)
		if (!memcmp(b, strangers[i].magic, strangers[i].n) &&
		    !img_driver_find(strangers[i].name)) {
			err_set(e, ENOTSUP, "Image format '%s' is not "
			    "supported (format raw takes the file as it is)",
			    strangers[i].name);
			return NULL;
		}
	for (int i = 0; i < img_ndrivers; i++) {
		int s;

		if (!img_drivers[i]->probe)
			continue;
		s = img_drivers[i]->probe(b, n, file->filename);
		if (s > top) {
			top = s;
			best = img_drivers[i];
		}
	}
	return best;
}

static int
leftover(struct img *im, struct opts *o, struct imgerr *e)
{
	for (struct optval *p = o->head; p; p = p->next)
		if (!p->used)
			return err_set(e, EINVAL, im->drv->protocol ?
			    "Block protocol '%s' doesn't support the option "
			    "'%s'" : "Block format '%s' does not support the "
			    "option '%s'", im->drv->name, p->key);
	return 0;
}

static struct img *open_node(const char *name, struct opts *o, int flags,
    struct imgerr *e);

static struct img *
open_leaf(const struct img_driver *d, const char *name, struct opts *o,
    int flags, struct imgerr *e)
{
	struct img *im;
	bool known;

	if (!d) {
		const char *w = opts_peek(o, "driver");

		if (w && !(d = img_driver_find(w))) {
			err_set(e, EINVAL, "Unknown driver '%s'", w);
			return NULL;
		}
		if (w && !d->protocol)
			return open_node(name, o, flags, e);
		if (!d) {
			const char *fn = name ? name : opts_peek(o, "filename");

			d = img_protocol(fn ? fn : "", &known);
			if (!known && name) {
				err_set(e, EINVAL, "Unknown protocol '%.*s'",
				    (int)(proto_end(name) - name), name);
				return NULL;
			}
		}
	}
	im = node(d, name, flags);
	if (name)
		opts_set(o, "filename", !strncmp(name, "file:", 5) ? name + 5 :
		    name);
	if (common(o, &im->flags, im, e) || d->open(im, o, e))
		goto bad;
	if (leftover(im, o, e)) {
		int eno = errno;

		if (d->close)
			d->close(im);
		errno = eno;
		goto bad;
	}
	return im;
bad:
	throttle_free(im->throttle);
	free(im->filename);
	free(im);
	return NULL;
}

struct img *
img_open_child(struct img *im, struct opts *o, const char *key,
    const char *filename, bool format, int flags, struct imgerr *e)
{
	struct opts sub = { 0 };
	bool any = opts_sub(o, key, &sub);
	const char *ref = opts_get(o, key);
	struct img *c;
	int fl = flags | (format ? IMG_FORMAT : 0);

	if (ref) {
		err_set(e, EINVAL, "Cannot find device='%s' nor "
		    "node-name='%s'", ref, ref);
		opts_free(&sub);
		return NULL;
	}
	if (!any && !filename) {
		err_set(e, EINVAL, im->drv ? "A block device must be specified "
		    "for \"%s\"" : "Must specify either driver or file", key);
		return NULL;
	}
	c = open_leaf(NULL, any && opts_peek(&sub, "filename") ? NULL :
	    filename, &sub, fl, e);
	opts_free(&sub);
	return c;
}

static struct img *
open_node(const char *name, struct opts *o, int flags, struct imgerr *e)
{
	const char *w = opts_peek(o, "driver");
	const struct img_driver *d = NULL;
	struct img *im = NULL, *f = NULL;
	struct opts keep = { 0 };
	struct imgerr be;
	bool nullb;

	if (w && !(d = img_driver_find(w))) {
		err_set(e, EINVAL, "Unknown driver '%s'", w);
		return NULL;
	}
	if (d && d->protocol)
		return open_leaf(d, name, o, flags, e);
	if (!name && (name = opts_peek(o, "filename"))) {
		char *s = strdup(name);

		opts_del(o, "filename");
		opts_set(o, "file.filename", s);
		free(s);
		name = NULL;
	}
	if (!(im = node(d, name, flags)))
		return NULL;
	im->probed = !d;
	if (common(o, &im->flags, im, e))
		goto bad;
	flags = im->flags;
	if (!d) {
		/* look, then open again as what it is */
		opts_copy(&keep, o);
		f = img_open_child(im, &keep, "file", name, false,
		    (flags & ~(IMG_RDWR | IMG_NOCACHE)) | IMG_NOLOCK, e);
		opts_free(&keep);
		if (!f)
			goto bad;
		d = probe(f, e);
		img_close(f);
		if (!d)
			goto bad;
		im->drv = d;
		im->probed = d == &drv_raw;
	}
	im->file = img_open_child(im, o, "file", name, d != &drv_raw,
	    flags & ~IMG_NOBACKING, e);
	if (!im->file)
		goto bad;
	if (flags & IMG_RDWR && !(im->file->flags & IMG_RDWR)) {
		if (!im->auto_ro) {
			err_set(e, EACCES, "'%s' is read-only",
			    im->file->filename);
			goto bad;
		}
		flags &= ~IMG_RDWR;
	}
	free(im->filename);
	im->filename = strdup(im->file->filename);
	im->has_backing_opts = opts_sub(o, "backing", &im->backing_opts);
	w = opts_get(o, "backing");
	nullb = w && (!*w || !strcmp(w, "\001null"));
	if (w && !nullb) {
		err_set(e, EINVAL, "Cannot find device='' nor node-name='%s'",
		    w);
		goto bad;
	}
	im->flags = flags;
	if (d->open(im, o, e))
		goto bad;
	if (leftover(im, o, e))
		goto bad2;
	if ((im->backing_name || im->has_backing_opts) && !nullb &&
	    !(flags & IMG_NOBACKING) && img_open_backing(im, &be)) {
		err_set(e, errno, "Could not open backing file: %s", be.s);
		goto bad2;
	}
	return im;
bad2:
	{
		int eno = errno;

		img_close(im);
		errno = eno;
	}
	return NULL;
bad:
	{
		int eno = errno;

		img_close(im->file);
		opts_free(&im->backing_opts);
		free(im->backing_name);
		free(im->backing_fmt);
		free(im->filename);
		throttle_free(im->throttle);
		free(im);
		errno = eno;
	}
	return NULL;
}

char *
img_backing_path(const char *of, const char *b)
{
	const char *sl = strrchr(of, '/');
	char *s;

	if (!strncmp(b, "json:", 5) || proto_end(b) || *b == '/' || !sl ||
	    !strncmp(of, "json:", 5))
		return strdup(b);
	if (asprintf(&s, "%.*s%s", (int)(sl - of + 1), of, b) < 0)
		return NULL;
	return s;
}

int
img_open_backing(struct img *im, struct imgerr *e)
{
	static _Thread_local int depth;
	struct opts o = { 0 };
	char *path = NULL;
	int fl = (im->flags & ~(IMG_RDWR | IMG_RESIZE | IMG_CHECK | IMG_COR)) |
	    IMG_ISBACKING;

	if (!(im->flags & IMG_RDWR))
		fl &= ~IMG_LATER;	/* one layer below what is written */

	if (depth > 200)
		return err_set(e, ELOOP, "Backing file '%s' creates an infinite "
		    "loop.", im->filename);
	opts_copy(&o, &im->backing_opts);
	if (im->backing_name && !opts_peek(&o, "file.filename") &&
	    !opts_peek(&o, "filename"))
		path = img_backing_path(im->filename, im->backing_name);
	if (im->backing_fmt && *im->backing_fmt && !opts_peek(&o, "driver"))
		opts_set(&o, "driver", im->backing_fmt);
	depth++;
	im->backing = img_open(path, NULL, &o, fl, e);
	depth--;
	free(path);
	return im->backing ? 0 : -1;
}

struct img *
img_open(const char *name, const char *fmt, struct opts *opts, int flags,
    struct imgerr *e)
{
	struct opts o = { 0 };
	struct img *im = NULL;
	struct js *j;
	struct imgerr je;

	if (opts) {
		o = *opts;
		opts->head = NULL;
	}
	if (e)
		e->s[0] = 0;
	if (name && !strncmp(name, "json:", 5)) {
		struct opts jo = { 0 };

		if (!(j = js_parse(name + 5, &je))) {
			err_set(e, EINVAL, "Could not parse the JSON options: "
			    "%s", je.s);
			goto out;
		}
		if (opts_json(&jo, j, e)) {
			js_free(j);
			goto out;
		}
		js_free(j);
		for (struct optval *p = jo.head; p; p = p->next)
			if (!opts_peek(&o, p->key))
				opts_set(&o, p->key, p->val);
		opts_free(&jo);
		name = NULL;
	}
	if (fmt)
		opts_set(&o, "driver", fmt);
	if (flags & IMG_ISPROTO)
		im = open_leaf(NULL, name, &o, flags & ~IMG_ISPROTO, e);
	else
		im = open_node(name, &o, flags, e);
out:
	opts_free(&o);
	return im;
}

void
img_guessed_warning(const struct img *im)
{
	if (im->probed && im->flags & IMG_RDWR)
		fprintf(stderr, "WARNING: Image format was not specified for "
		    "'%s' and probing guessed raw.\n"
		    "         Automatically detecting the format is dangerous "
		    "for raw images, write operations on block 0 will be "
		    "restricted.\n"
		    "         Specify the 'raw' format explicitly to remove the "
		    "restrictions.\n", im->file->filename);
}

int
img_close(struct img *im)
{
	int r = 0;

	if (!im)
		return 0;
	if (im->flags & IMG_RDWR && !im->drv->protocol)
		r = img_flush(im);
	if (im->drv->close)
		im->drv->close(im);
	img_close(im->backing);
	img_close(im->data);
	img_close(im->file);
	opts_free(&im->backing_opts);
	free(im->backing_name);
	free(im->backing_fmt);
	free(im->filename);
	throttle_free(im->throttle);
	free(im);
	return r;
}

int
img_create(const char *fmt, const char *name, struct opts *o,
    struct imgerr *e)
{
	const struct img_driver *d = img_driver_find(fmt);
	const char *path = !strncmp(name, "file:", 5) ? name + 5 : name;
	bool ours, known;

	if (!d)
		return err_set(e, EINVAL, "Unknown file format '%s'", fmt);
	if (!d->create)
		return err_set(e, ENOTSUP, "Format driver '%s' does not support "
		    "image creation", fmt);
	ours = img_protocol(name, &known) == &drv_file && !img_lent(path) &&
	    access(path, F_OK);
	if (!d->create(name, o, e))
		return 0;
	if (ours) {			/* a half is nothing */
		int eno = errno;

		unlink(path);
		errno = eno;
	}
	return -1;
}

struct img *
img_create_file(const char *name, uint64_t size, struct opts *o,
    struct imgerr *e)
{
	struct opts fo = { 0 };
	bool known;
	const struct img_driver *p = img_protocol(name, &known);
	const char *s;
	int r;

	if (!known || !p->create) {
		err_set(e, ENOTSUP, "Unknown protocol in '%s'", name);
		return NULL;
	}
	opts_setf(&fo, "size", "%llu", (unsigned long long)size);
	if ((s = opts_get(o, "nocow")))
		opts_set(&fo, "nocow", s);
	opts_get(o, "extent_size_hint");
	r = p->create(name, &fo, e);
	opts_free(&fo);
	if (r)
		return NULL;
	return img_open(name, NULL, NULL, IMG_RDWR | IMG_ISPROTO | IMG_FORMAT |
	    IMG_NOFLUSH, e);
}

int
img_create_existing(const char *name, struct opts *o, struct imgerr *e)
{
	static const uint8_t z[512];
	struct img *im;
	uint64_t size;
	int r = 0;

	if (opts_size(o, "size", 0, &size, e) || !(im = img_open(name, NULL,
	    NULL, IMG_RDWR | IMG_ISPROTO | IMG_FORMAT, e)))
		return -1;
	if (size > im->size)
		r = img_truncate(im, size, PRE_OFF, e);
	else if (img_pwrite(im, z, umin(im->size, sizeof(z)), 0, 0))
		r = err_set(e, errno, "Could not clear the first sector: %m");
	img_close(im);
	return r;
}
