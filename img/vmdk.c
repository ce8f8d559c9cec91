/*
 * vmdk.c - VMware disks ("Virtual Disk Format 5.0"): hosted sparse extents,
 * flat extents, split in 2 GiB pieces or not, streamOptimized (grains of
 * deflate streams).  The text descriptor names the extents; in a monolithic
 * sparse file it is embedded and the file is its own extent.  Here they are
 * opened, described and checked; vmdk.h says where the rest is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmdk.h"

static int
vmdk_probe(const uint8_t *b, size_t n, const char *name)
{
	size_t i = 0;

	if (n >= 4 && !memcmp(b, "KDMV", 4))
		return 100;
	/* a descriptor: comments, then version=1..3 */
	while (i < n) {
		if (b[i] == '#' || b[i] == '\n' || b[i] == '\r' || b[i] == ' ')
			while (i < n && b[i] != '\n')
				i++;
		else
			return n - i > 9 && !memcmp(b + i, "version=", 8) &&
			    b[i + 8] >= '1' && b[i + 8] <= '3' ? 100 : 0;
		i++;
	}
	return 0;
}

static const char *
value(const char *desc, const char *key, char *out, size_t n)
{
	const char *p = desc;
	size_t k = strlen(key), i = 0;

	while ((p = strstr(p, key)) && p != desc && p[-1] != '\n')
		p += k;
	if (!p)
		return NULL;
	p += k;
	if (*p == '"')
		p++;
	while (*p && *p != '"' && *p != '\n' && *p != '\r' && i + 1 < n)
		out[i++] = *p++;
	out[i] = 0;
	return out;
}

static int
sparse(struct ext *x, struct imgerr *e, struct vmdk *v, bool top)
{
	uint8_t h[512];
	uint64_t cap, flags, n;
	uint32_t *t;

	if (img_pread_backing(x->file, h, 512, 0))
		return err_set(e, errno, "Could not read header from file '%s'",
		    x->file->filename);
	if (memcmp(h, "KDMV", 4))
		return err_set(e, EINVAL, "Extent '%s' is not a hosted sparse "
		    "extent", x->file->filename);
	/* streams: the real directory is in the footer */
	if (le64(h + 56) == UINT64_MAX && x->file->size > 2048) {
		if (img_pread_backing(x->file, h, 512, x->file->size - 1024) ||
		    memcmp(h, "KDMV", 4))
			return err_set(e, EINVAL, "Invalid footer");
	}
	if (le32(h + 4) > 3)
		return err_set(e, ENOTSUP, "Unsupported VMDK version %u",
		    le32(h + 4));
	flags = le32(h + 8);
	cap = le64(h + 12);
	x->grain = le64(h + 20) * SECT;
	x->compressed = flags & F_COMPR;
	x->zgte = flags & F_ZGTE;
	if (x->compressed && le16(h + 77) != 1)
		return err_set(e, ENOTSUP, "Unsupported compression %u",
		    le16(h + 77));
	if (x->grain < 4096 || x->grain > 4 * MiB || x->grain & (x->grain - 1))
		return err_set(e, EINVAL, "Invalid granularity, image may be "
		    "corrupt");
	if (le32(h + 44) != GTES)
		return err_set(e, EINVAL, "Invalid number of entries in a grain "
		    "table");
	if (cap > IMG_MAX / SECT)
		return err_set(e, EFBIG, "Image is too big");
	x->size = cap * SECT;
	n = (cap * SECT + x->grain * GTES - 1) / (x->grain * GTES);
	x->gd_off = le64(h + 56) * SECT;
	x->rgd_off = flags & F_RGD ? le64(h + 48) * SECT : 0;
	if (n > 64 * MiB / 4 || le64(h + 56) > IMG_MAX / SECT ||
	    x->gd_off + n * 4 > x->file->size || (x->rgd_off &&
	    (le64(h + 48) > IMG_MAX / SECT || x->rgd_off + n * 4 >
	    x->file->size)))
		return err_set(e, EINVAL, "L1 table of '%s' reaches beyond the "
		    "end of the file", x->file->filename);
	x->ngd = (uint32_t)n;
	x->gd = malloc(n * 4 + 4);
	x->rgd = x->rgd_off ? malloc(n * 4 + 4) : NULL;
	x->gt = calloc(n + 1, sizeof(*x->gt));
	if (!x->gd || !x->gt || (x->rgd_off && !x->rgd))
		return err_set(e, ENOMEM, "Out of memory");
	t = x->gd;
	if (img_pread_backing(x->file, t, n * 4, x->gd_off) || (x->rgd &&
	    img_pread_backing(x->file, x->rgd, n * 4, x->rgd_off)))
		return err_set(e, errno, "Could not read the grain directory");
	x->end = rup(x->file->size, SECT);
	if (top) {
		v->desc_off = le64(h + 28) * SECT;
		v->desc_len = le64(h + 36) * SECT;
		if (le64(h + 28) > IMG_MAX / SECT || v->desc_off >
		    x->file->size || v->desc_len > DESC_MAX)
			return err_set(e, EINVAL, "Invalid descriptor");
	}
	return 0;
}

static void
ext_free(struct ext *x)
{
	for (uint32_t i = 0; x->gt && i < x->ngd; i++)
		free(x->gt[i]);
	free(x->gt);
	free(x->gd);
	free(x->rgd);
	free(x->name);
	free(x->type);
	if (x->own)
		img_close(x->file);
}

static void
vmdk_free(struct vmdk *v)
{
	for (int i = 0; i < v->n; i++)
		ext_free(&v->x[i]);
	free(v->x);
	free(v->desc);
	free(v);
}

/* "RW 20480 SPARSE "name" [offset]" lines. */
static int
extents(struct img *im, struct vmdk *v, struct imgerr *e)
{
	const char *p = v->desc;
	char acc[16], type[16], name[512], *path;
	unsigned long long sect, off;
	uint64_t at = 0;
	int k;

	for (; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		struct ext *x;

		off = 0;
		name[0] = 0;
		k = sscanf(p, "%15s %llu %15s \"%511[^\n\r\"]\" %llu", acc,
		    &sect, type, name, &off);
		if (k < 3 || (strcmp(acc, "RW") && strcmp(acc, "RDONLY") &&
		    strcmp(acc, "NOACCESS")))
			continue;
		if (strcmp(acc, "RW"))
			continue;
		if (sect > IMG_MAX / SECT || off > IMG_MAX / SECT ||
		    v->n >= NEXT_MAX)
			return err_set(e, EINVAL, "Invalid extent line: %.64s",
			    p);
		if ((x = realloc(v->x, (size_t)(v->n + 1) * sizeof(*x))) ==
		    NULL)
			return err_set(e, ENOMEM, "Out of memory");
		v->x = x;
		x += v->n++;
		memset(x, 0, sizeof(*x));
		x->type = strdup(type);
		x->start = at;
		x->size = sect * SECT;
		at += x->size;
		if (!strcmp(type, "ZERO")) {
			x->zero = true;
			continue;
		}
		if (k < 4)
			return err_set(e, EINVAL, "Invalid extent line: %.64s",
			    p);
		if (strcmp(type, "FLAT") && strcmp(type, "VMFS") &&
		    strcmp(type, "SPARSE"))
			return err_set(e, ENOTSUP, "Unsupported extent type "
			    "'%s'", type);
		path = img_backing_path(im->filename, name);
		x->name = strdup(path);
		x->file = img_open(path, NULL, NULL, (im->flags &
		    ~(IMG_NOBACKING | IMG_CHECK)) | IMG_ISPROTO | IMG_FORMAT,
		    e);
		free(path);
		if (!x->file)
			return -1;
		x->own = true;
		if (!strcmp(type, "SPARSE")) {
			uint64_t size = x->size;

			if (sparse(x, e, v, false))
				return -1;
			x->size = size;
		} else {
			x->flat = true;
			x->off = off * SECT;
		}
	}
	if (!v->n)
		return err_set(e, EINVAL, "No extents in the descriptor");
	im->size = at;
	return 0;
}

static int
vmdk_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	char b[1024];
	uint8_t m[4];
	uint64_t n;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	v->desc = calloc(1, DESC_MAX + 1);
	if (!v->desc || img_pread_backing(im->file, m, 4, 0)) {
		err_set(e, errno, "Could not read header from file '%s'",
		    im->file->filename);
		goto bad;
	}
	if (!memcmp(m, "KDMV", 4)) {
		if (!(v->x = calloc(1, sizeof(*v->x))))
			goto bad;
		v->n = 1;
		v->x->file = im->file;
		v->x->name = strdup(im->filename);
		v->x->type = strdup("");
		if (sparse(v->x, e, v, true))
			goto bad;
		im->size = v->x->size;
		if (img_pread_backing(im->file, v->desc, v->desc_len,
		    v->desc_off)) {
			err_set(e, errno, "Could not read the descriptor");
			goto bad;
		}
	} else {
		n = umin(im->file->size, DESC_MAX);
		if (img_pread_backing(im->file, v->desc, n, 0)) {
			err_set(e, errno, "Could not read the descriptor");
			goto bad;
		}
		if (!vmdk_probe((uint8_t *)v->desc, n, "")) {
			err_set(e, EINVAL, "invalid VMDK image descriptor");
			goto bad;
		}
		v->desc_len = DESC_MAX;
		if (extents(im, v, e))
			goto bad;
	}
	if (value(v->desc, "createType=", b, sizeof(b)))
		snprintf(v->type, sizeof(v->type), "%.63s", b);
	v->cid = value(v->desc, "CID=", b, sizeof(b)) ? (uint32_t)strtoul(b,
	    NULL, 16) : UINT32_MAX;
	v->pcid = value(v->desc, "parentCID=", b, sizeof(b)) ?
	    (uint32_t)strtoul(b, NULL, 16) : UINT32_MAX;
	if (v->pcid != UINT32_MAX && value(v->desc, "parentFileNameHint=", b,
	    sizeof(b))) {
		im->backing_name = strdup(b);
		im->backing_fmt = strdup("vmdk");
	}
	for (int i = 0; i < v->n; i++)
		if (v->x[i].grain)
			im->cluster = (uint32_t)v->x[i].grain;
	pthread_mutex_init(&v->lock, NULL);
	im->zero_init = true;
	im->only_compressed = v->n == 1 && v->x->compressed;
	im->priv = v;
	return 0;
bad:
	vmdk_free(v);
	return -1;
}

static void
vmdk_close(struct img *im)
{
	struct vmdk *v = im->priv;

	if (im->flags & IMG_RDWR)
		vmdk_flush(im);
	pthread_mutex_destroy(&v->lock);
	vmdk_free(v);
}

static int64_t
vmdk_allocated(struct img *im)
{
	struct vmdk *v = im->priv;
	int64_t n = img_allocated(im->file), k;

	for (int i = 0; i < v->n; i++)
		if (v->x[i].own && (k = img_allocated(v->x[i].file)) > 0)
			n += k;
	return n;
}

static int
vmdk_info(struct img *im, struct js *d)
{
	struct vmdk *v = im->priv;
	struct js *l;

	js_int(d, "cid", v->cid);
	js_int(d, "parent-cid", v->pcid);
	js_str(d, "create-type", v->type);
	l = js_add(d, "extents", js_new(JLIST));
	for (int i = 0; i < v->n; i++) {
		struct ext *x = &v->x[i];
		struct js *o = js_add(l, NULL, js_new(JDICT));

		js_str(o, "filename", x->name ? x->name : "");
		js_str(o, "format", x->type);
		js_int(o, "virtual-size", (int64_t)x->size);
		if (x->compressed)
			js_bool(o, "compressed", true);
		if (x->grain)
			js_int(o, "cluster-size", (int64_t)x->grain);
	}
	return 0;
}

static int
vmdk_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct vmdk *v = im->priv;
	char s[160];

	if (c->fix)
		return err_set(e, ENOTSUP, "Repair is not supported for VMDK");
	for (int i = 0; i < v->n; i++) {
		struct ext *x = &v->x[i];

		if (x->flat || x->zero)
			continue;
		for (uint64_t in = 0; in < x->size; in += x->grain) {
			struct gt *t;
			uint32_t g;

			if (vmdk_grain(im, x, in, &g, &t)) {
				snprintf(s, sizeof(s), "ERROR: could not get "
				    "the grain table for offset %llu",
				    (unsigned long long)(x->start + in));
				c->say(c->arg, true, s);
				c->corruptions++;
				in += x->grain * (GTES - 1);
				continue;
			}
			if (!t) {	/* a whole table missing */
				in = (in / (x->grain * GTES) + 1) * x->grain *
				    GTES - x->grain;
				continue;
			}
			if (g > 1 && g * 512ull >= x->file->size) {
				snprintf(s, sizeof(s), "ERROR: grain of offset "
				    "%llu is beyond the end of the file",
				    (unsigned long long)(x->start + in));
				c->say(c->arg, true, s);
				c->corruptions++;
			}
		}
	}
	return 0;
}

const struct img_driver drv_vmdk = {
	.name = "vmdk", .backing = true, .opts = vmdk_opts,
	.probe = vmdk_probe, .open = vmdk_open, .close = vmdk_close,
	.pread = vmdk_pread, .pwrite = vmdk_pwrite, .pwritec = vmdk_pwritec,
	.zero = vmdk_zero, .flush = vmdk_flush, .status = vmdk_status,
	.allocated = vmdk_allocated, .create = vmdk_create, .info = vmdk_info,
	.check = vmdk_check,
};
