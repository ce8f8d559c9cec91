/*
 * qcow2-create.c - making qcow2 images, and how large they would be.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

const struct opt_desc q2_opts[] = {
	{ "backing_file", VAL_STR, "File name of a base image", NULL, true },
	{ "backing_fmt", VAL_STR, "Image format of the base image", NULL,
	    true },
	{ "cluster_size", VAL_SIZE, "qcow2 cluster size", "65536" },
	{ "compat", VAL_STR, "Compatibility level (v2 [0.10] or v3 [1.1])",
	    NULL, true },
	{ "compression_type", VAL_STR,
	    "Compression method used for image cluster compression", "zlib" },
	{ "data_file", VAL_STR, "File name of an external data file", NULL,
	    true },
	{ "data_file_raw", VAL_BOOL,
	    "The external data file must stay valid as a raw image", NULL,
	    true },
	{ "encrypt.cipher-alg", VAL_STR, "Name of encryption cipher algorithm" },
	{ "encrypt.cipher-mode", VAL_STR, "Name of encryption cipher mode" },
	{ "encrypt.format", VAL_STR,
	    "Encrypt the image, format choices: 'aes', 'luks'" },
	{ "encrypt.hash-alg", VAL_STR, "Name of encryption hash algorithm" },
	{ "encrypt.iter-time", VAL_NUM, "Time to spend in PBKDF in milliseconds",
	    NULL, true },
	{ "encrypt.keyslot", VAL_NUM,
	    "Select a single keyslot to modify explicitly", NULL, true, true },
	{ "encrypt.new-secret", VAL_STR, "New secret to set in the matching "
	    "keyslots. Empty string to erase", NULL, true, true },
	{ "encrypt.old-secret", VAL_STR,
	    "Select all keyslots that match this password", NULL, true, true },
	{ "encrypt.state", VAL_STR, "Select new state of affected keyslots "
	    "(active/inactive)", NULL, true, true },
	{ "encrypt.ivgen-alg", VAL_STR, "Name of IV generator algorithm" },
	{ "encrypt.ivgen-hash-alg", VAL_STR,
	    "Name of IV generator hash algorithm" },
	{ "encrypt.key-secret", VAL_STR,
	    "ID of secret providing qcow AES key or LUKS passphrase" },
	{ "encryption", VAL_BOOL, "Encrypt the image with format 'aes'. "
	    "(Deprecated in favor of encrypt.format=aes)" },
	{ "extended_l2", VAL_BOOL, "Extended L2 tables", "off" },
	{ "lazy_refcounts", VAL_BOOL, "Postpone refcount updates", "off",
	    true },
	{ "preallocation", VAL_STR, "Preallocation mode (allowed values: off, "
	    "metadata, falloc, full)" },
	{ "refcount_bits", VAL_NUM,
	    "Width of a reference count entry in bits", "16", true },
	{ "size", VAL_SIZE, "Virtual disk size", NULL, true },
	{ 0 }
};

struct layout {
	uint64_t	size, cs, rbits, compr;
	unsigned	version, method;
	bool		lazy, extl2, raw_data;
	enum prealloc	pre;
	const char	*back, *bfmt, *data;
};

static int
layout(struct opts *o, struct layout *l, bool create, struct imgerr *e)
{
	const char *s;

	if (opts_size(o, "size", 0, &l->size, e) ||
	    opts_size(o, "cluster_size", 65536, &l->cs, e) ||
	    opts_num(o, "refcount_bits", 16, &l->rbits, e) ||
	    opts_bool(o, "lazy_refcounts", false, &l->lazy, e) ||
	    opts_bool(o, "extended_l2", false, &l->extl2, e) ||
	    opts_bool(o, "data_file_raw", false, &l->raw_data, e) ||
	    q2_crypt_method(o, &l->method, e))
		return -1;
	s = opts_get(o, "preallocation");
	if (prealloc_parse(s, "preallocation", true, &l->pre, e))
		return create ? -1 : err_set(e, EINVAL, "invalid parameter "
		    "value: %s", s);
	l->size = rup(l->size, 512);
	s = opts_get(o, "compat");
	l->version = 3;
	if (s && (!strcmp(s, "0.10") || !strcmp(s, "v2")))
		l->version = 2;
	else if (s && strcmp(s, "1.1") && strcmp(s, "v3"))
		return err_set(e, EINVAL, "Parameter 'version' does not accept "
		    "value '%s'", s);
	s = opts_get(o, "compression_type");
	l->compr = 0;
	if (s && !strcmp(s, "zstd"))
		l->compr = 1;
	else if (s && strcmp(s, "zlib"))
		return err_set(e, EINVAL, "Parameter 'compression-type' does "
		    "not accept value '%s'", s);
	l->back = opts_get(o, "backing_file");
	l->bfmt = opts_get(o, "backing_fmt");
	if (l->back && !*l->back)
		l->back = NULL;
	l->data = opts_get(o, "data_file");
	if (l->bfmt && !l->back)
		return err_set(e, EINVAL, "Backing format cannot be used "
		    "without backing file");
	if (l->cs < 512 || l->cs > 2 * MiB || l->cs & (l->cs - 1))
		return err_set(e, EINVAL, "Cluster size must be a power of two "
		    "between 512 and 2048k");
	if (l->extl2 && l->version < 3)
		return err_set(e, EINVAL, "Extended L2 entries are only "
		    "supported with compatibility level 1.1 and above (use "
		    "version=v3 or greater)");
	if (l->extl2 && l->cs < 16384)
		return err_set(e, EINVAL, "Extended L2 entries are only "
		    "supported with cluster sizes of at least 16384 bytes");
	if (l->pre != PRE_OFF && l->back && !l->extl2)
		return err_set(e, EINVAL, "Backing file and preallocation can "
		    "only be used at the same time if extended_l2 is on");
	if (l->version < 3 && l->lazy)
		return err_set(e, EINVAL, "Lazy refcounts only supported with "
		    "compatibility level 1.1 and above (use version=v3 or "
		    "greater)");
	if (!l->rbits || l->rbits > 64 || l->rbits & (l->rbits - 1))
		return err_set(e, EINVAL, "Refcount width must be a power of two "
		    "and may not exceed 64 bits");
	if (l->version < 3 && l->rbits != 16)
		return err_set(e, EINVAL, "Different refcount widths than 16 "
		    "bits require compatibility level 1.1 or above (use "
		    "version=v3 or greater)");
	if (l->raw_data && !l->data)
		return err_set(e, EINVAL, "data-file-raw requires data-file");
	if (l->raw_data && l->back)
		return err_set(e, EINVAL, "Backing file and data-file-raw "
		    "cannot be used at the same time");
	if (l->raw_data && l->pre == PRE_OFF)
		l->pre = PRE_METADATA;
	if (l->data && l->version < 3)
		return err_set(e, EINVAL, "External data files are only "
		    "supported with compatibility level 1.1 and above (use "
		    "version=v3 or greater)");
	if (l->compr && l->version < 3)
		return err_set(e, EINVAL, "Non-zlib compression type is only "
		    "supported with compatibility level 1.1 and above (use "
		    "version=v3 or greater)");
	return 0;
}

int
q2_create(const char *name, struct opts *o, struct imgerr *e)
{
	struct layout l;
	struct opts fo = { 0 };
	struct img f = { 0 }, *im = NULL, *file = NULL;
	struct qcow2 q = { 0 };
	uint8_t *b = NULL;
	bool known;
	const struct img_driver *p;
	uint64_t head;
	int r = -1;

	if (layout(o, &l, true, e) || q2_crypt_measure(l.method, o, &head, e))
		return -1;
	if (l.data && (p = img_protocol(l.data, &known))->create) {
		opts_set(&fo, "size", "0");
		if (p->create(l.data, &fo, e))
			goto out;
		opts_free(&fo);
	}
	file = img_create_file(name, 0, o, e);
	if (!file)
		goto out;
	q.im = &f;
	f.file = file;
	q.version = l.version;
	q.cbits = (unsigned)__builtin_ctzll(l.cs);
	q.cs = l.cs;
	q.rorder = (unsigned)__builtin_ctzll(l.rbits);
	q.rt_off = l.cs;
	q.rt_clusters = 1;
	q.compr = (unsigned)l.compr;
	q.compat = l.lazy ? Q2_C_LAZY : 0;
	q.incompat = (l.data ? Q2_I_DATAFILE : 0) | (l.compr ? Q2_I_COMPR : 0) |
	    (l.extl2 ? Q2_I_EXTL2 : 0);
	q.autoclear = l.raw_data ? Q2_A_RAWDATA : 0;
	q.data_name = (char *)(uintptr_t)l.data;
	b = calloc(2, l.cs);
	if (!b) {
		err_set(e, ENOMEM, "Out of memory");
		goto out;
	}
	pbe64(b, 2 * l.cs);
	for (int i = 0; i < 3; i++)
		q2_rc_write(b + l.cs, q.rorder, (uint64_t)i, 1);
	if (img_pwrite(file, b, 2 * l.cs, l.cs, 0)) {
		err_set(e, errno, "Could not write: %s", strerror(errno));
		goto out;
	}
	if (q2_write_header(&q, e))
		goto out;
	img_close(file);
	file = NULL;
	im = img_open(name, "qcow2", NULL, IMG_RDWR | IMG_NOBACKING |
	    IMG_NOFLUSH | IMG_RESIZE, e);
	if (!im || (l.method && q2_crypt_create(im->priv, l.method, o, e)) ||
	    img_truncate(im, l.size, l.pre, e))
		goto out;
	if (l.back && im->drv->set_backing(im, l.back, l.bfmt)) {
		err_set(e, errno, "Could not assign backing file '%s' with "
		    "format '%s'", l.back, l.bfmt ? l.bfmt : "");
		goto out;
	}
	r = 0;
out:
	if (im && img_close(im) && !r)
		r = err_set(e, errno, "Could not flush: %s", strerror(errno));
	img_close(file);
	opts_free(&fo);
	free(b);
	return r;
}

/* Clusters of refcount blocks and table for `n` others. */
static uint64_t
refcount_clusters(uint64_t n, uint64_t cs, uint64_t rbits)
{
	uint64_t per = cs * 8 / rbits, blocks = 0, table = 0, last;

	do {
		last = blocks + table;
		blocks = (n + table + blocks + per - 1) / per;
		table = (blocks * 8 + cs - 1) / cs;
	} while (blocks + table != last);
	return last;
}

/* Bitmaps whole, their tables, and their directory ("Bitmaps": an entry has 24
 * bytes and the name, rounded up to 8). */
static int
bitmaps_size(struct img *in, uint64_t cs, uint64_t *size)
{
	struct img_bitmap *b = NULL;
	uint64_t dir = 0, bytes, n;
	int nb = 0;

	*size = 0;
	if (in->drv->bm_list(in, &b, &nb))
		return -1;
	for (int i = 0; i < nb; i++) {
		if (b[i].in_use)
			continue;
		bytes = (in->size + b[i].granularity - 1) / b[i].granularity;
		n = ((bytes + 7) / 8 + cs - 1) / cs;
		*size += n * cs + rup(n * 8, cs);
		dir += rup(24 + strlen(b[i].name), 8);
	}
	*size += rup(dir, cs);
	free(b);
	return 0;
}

int
q2_measure(struct opts *o, struct img *in, struct img_measure *m,
    struct imgerr *e)
{
	struct layout l;
	uint64_t l2e, nl2, meta, alloc = 0, size, head;
	struct img_status s;

	if (layout(o, &l, false, e) ||
	    q2_crypt_measure(l.method, o, &head, e))
		return -1;
	size = in ? in->size : l.size;
	l2e = l.extl2 ? 16 : 8;
	nl2 = (size + l.cs - 1) / l.cs;
	nl2 = (nl2 * l2e + l.cs - 1) / l.cs;
	head = rup(head, l.cs);
	meta = 1 + nl2 + (nl2 * 8 + l.cs - 1) / l.cs;
	meta += refcount_clusters(meta + (size + l.cs - 1) / l.cs, l.cs,
	    l.rbits);
	if (in) {
		uint64_t off = 0, n;

		while (off < size) {
			if (img_status(in, NULL, off, size - off, &s))
				return err_set(e, errno, "Unable to get block "
				    "status: %s", strerror(errno));
			n = s.len;
			if (!(s.flags & IMG_ZERO) && s.flags & IMG_DATA) {
				uint64_t a = rup(off + n, l.cs);

				alloc += a - rdown(off, l.cs);
				n = a - off;
			}
			off += n;
		}
	} else if (l.pre == PRE_FALLOC || l.pre == PRE_FULL)
		alloc = size;
	meta = meta * l.cs + head;
	m->full = meta + rup(size, l.cs);
	m->required = meta + (l.pre == PRE_FALLOC || l.pre == PRE_FULL ?
	    rup(size, l.cs) : alloc);
	if (in && in->drv->bm_list && !strcmp(in->drv->name, "qcow2")) {
		m->has_bitmaps = true;
		if (bitmaps_size(in, l.cs, &m->bitmaps))
			return err_set(e, errno, "Unable to list bitmaps: %s",
			    strerror(errno));
	}
	if (l.back && !in)
		m->required = meta;
	return 0;
}
