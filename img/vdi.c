/*
 * vdi.c - VirtualBox disk images, version 1.1 (dynamic and static).
 *
 * A header, a map of 32-bit block numbers, blocks of 1 MiB: see blockmap.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "blockmap.h"
#include "compact.h"

enum {
	H_TEXT = 0, H_SIG = 0x40, H_VER = 0x44, H_HLEN = 0x48, H_TYPE = 0x4c,
	H_BMAP = 0x154, H_DATA = 0x158, H_SECT = 0x168, H_SIZE = 0x170,
	H_BLK = 0x178, H_EXTRA = 0x17c, H_N = 0x180, H_USED = 0x184,
	H_UUID = 0x188, H_SNAP = 0x198, H_LINK = 0x1a8, H_PARENT = 0x1b8,
	T_DYNAMIC = 1, T_STATIC = 2,
};
#define VDI_SIG		0xbeda107fu
#define NONE		0xffffffffu
#define ZERO		0xfffffffeu
#define VDI_MAXN	0x1fffff80u	/* blocks, as QEMU has it */
enum { ERRORS_MAX = 100000 };		/* that check speaks of */

struct vdi {
	struct blockmap	m;
	uint8_t		h[512];
	uint32_t	used;
	uint64_t	data;			/* where the blocks begin */
};

static uint64_t
where(const struct blockmap *m, uint32_t e)
{
	return e >= ZERO ? NOWHERE : ((const struct vdi *)m)->data + e * m->bs;
}

static int
append(struct img *im, const uint8_t *p, size_t n, uint64_t in, uint32_t *e)
{
	struct vdi *v = im->priv;
	uint8_t *b;
	int r;

	if (v->used >= VDI_MAXN) {
		errno = EFBIG;
		return -1;
	}
	if (!(b = calloc(1, v->m.bs)))
		return -1;
	memcpy(b + in, p, n);
	r = img_pwrite(im->file, b, v->m.bs, v->data + v->used * v->m.bs, 0);
	free(b);
	if (!r)
		*e = v->used++;
	return r;
}

/* The count first: too high a one only leaks. */
static int
write_count(struct img *im)
{
	struct vdi *v = im->priv;

	ple32(v->h + H_USED, v->used);
	return img_pwrite(im->file, v->h, 512, 0, 0);
}

static int
vdi_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 512 && le32(b + H_SIG) == VDI_SIG ? 100 : 0;
}

static int
vdi_open(struct img *im, struct opts *o, struct imgerr *e)
{
	static const uint8_t none[16];
	struct vdi *v = calloc(1, sizeof(*v));
	uint32_t type;
	uint8_t *h;

	if (!v)
		return err_set(e, ENOMEM, "Out of memory");
	h = v->h;
	if (img_pread_backing(im->file, h, 512, 0)) {
		err_set(e, errno, "Could not read the VDI header: %s",
		    strerror(errno));
		goto bad;
	}
	if (le64(h + H_SIZE) > (uint64_t)VDI_MAXN * MiB) {
		err_set(e, ENOTSUP, "Unsupported VDI image size (size is "
		    "0x%llx, max supported is 0x%llx)",
		    (unsigned long long)le64(h + H_SIZE),
		    (unsigned long long)VDI_MAXN * MiB);
		goto bad;
	}
	if (le32(h + H_SIG) != VDI_SIG) {
		err_set(e, EINVAL, "Image not in VDI format (bad signature %08x)",
		    le32(h + H_SIG));
		goto bad;
	}
	type = le32(h + H_TYPE);
	v->used = le32(h + H_USED);
	v->data = le32(h + H_DATA);
	v->m = (struct blockmap){ .n = le32(h + H_N), .bs = le32(h + H_BLK),
		.off = le32(h + H_BMAP), .ahead = type == T_STATIC,
		.where = where, .append = append, .before_sync = write_count };
	im->size = le64(h + H_SIZE);
	if (le32(h + H_VER) != 0x00010001) {
		err_set(e, ENOTSUP, "unsupported VDI image (version %u.%u)",
		    le32(h + H_VER) >> 16, le32(h + H_VER) & 0xffff);
		goto bad;
	}
	if (v->m.bs != MiB || le32(h + H_SECT) != 512) {
		err_set(e, ENOTSUP, "unsupported VDI image (block size %llu is "
		    "not 1048576 or sector size %u is not 512)",
		    (unsigned long long)v->m.bs, le32(h + H_SECT));
		goto bad;
	}
	if (v->m.off & 511 || v->data & 511 || v->m.off < 512) {
		err_set(e, ENOTSUP, "unsupported VDI image (unaligned block map "
		    "or data)");
		goto bad;
	}
	if (im->size > (uint64_t)VDI_MAXN * MiB || rup(im->size, MiB) / MiB >
	    v->m.n || v->m.n > VDI_MAXN) {
		err_set(e, ENOTSUP, "unsupported VDI image (disk size %llu, "
		    "image bitmap has room for %llu)",
		    (unsigned long long)im->size,
		    (unsigned long long)v->m.n * MiB);
		goto bad;
	}
	if (memcmp(h + H_LINK, none, 16) || memcmp(h + H_PARENT, none, 16)) {
		err_set(e, ENOTSUP, "unsupported VDI image (non-NULL link or "
		    "parent UUID)");
		goto bad;
	}
	/* a map longer than the file is a lie: no memory for it */
	if (v->m.off + (uint64_t)v->m.n * 4 > im->file->size) {
		err_set(e, EINVAL, "VDI block map reaches beyond the end of the "
		    "file");
		goto bad;
	}
	if (blockmap_open(im, &v->m)) {
		err_set(e, errno, "Could not read the block map");
		goto bad;
	}
	im->size = rup(im->size, 512);
	im->cluster = MiB;
	im->zero_init = type != T_STATIC;
	im->priv = v;
	return 0;
bad:
	free(v);
	return -1;
}

static void
vdi_close(struct img *im)
{
	blockmap_close(im);
	free(im->priv);
}

static int
move(struct img *im, uint64_t owner, uint64_t from, uint64_t to)
{
	struct vdi *v = im->priv;

	v->m.map[owner] = (uint32_t)to;
	return compact_copy(im, v->data + from * v->m.bs, v->data + to *
	    v->m.bs, v->m.bs);
}

/* The blocks that are counted and not mapped; nothing else is wrong.  The count
 * goes down when nothing points above it any more. */
static int
fix_leaks(struct img *im, struct img_check *c)
{
	struct vdi *v = im->priv;
	struct compact k = { .move = move };
	uint32_t last = v->used;
	uint64_t n;

	for (uint32_t i = 0; i < v->m.n; i++)
		if (v->m.map[i] < ZERO && compact_add(&k, v->m.map[i], i)) {
			free(k.u);
			return -1;
		}
	v->m.lo = 0;
	v->m.hi = v->m.n;
	n = compact(im, &k);
	if (n == UINT64_MAX || blockmap_flush(im))
		return -1;
	v->used = (uint32_t)n;
	if (write_count(im) || img_flush(im->file) || img_truncate(im->file,
	    v->data + n * v->m.bs, PRE_OFF, NULL))
		return -1;
	c->leaks_fixed = last - v->used;
	c->leaks -= c->leaks_fixed;
	return 0;
}

static int
vdi_check(struct img *im, struct img_check *c, struct imgerr *e)
{
	struct vdi *v = im->priv;
	uint8_t *seen;
	uint32_t n = 0;
	char s[128];

	if (!(seen = calloc(1, v->m.n / 8 + 1)))
		return err_set(e, ENOMEM, "Out of memory");
	for (uint32_t i = 0; i < v->m.n; i++) {
		uint32_t b = v->m.map[i];

		if (b >= ZERO)
			continue;
		n++;
		s[0] = 0;
		if (b >= v->m.n)
			snprintf(s, sizeof(s), "ERROR: block index %u out of "
			    "range, is %u", i, b);
		else if (seen[b / 8] >> (b % 8) & 1)
			snprintf(s, sizeof(s), "ERROR: block index %u also used "
			    "by %u", b, b);
		else
			seen[b / 8] |= (uint8_t)(1 << b % 8);
		if (!*s)
			continue;
		c->corruptions++;
		c->say(c->arg, true, s);
		if (c->corruptions == ERRORS_MAX) {
			c->say(c->arg, true, "ERROR: too many of them, the rest "
			    "is not looked at");
			goto out;
		}
	}
	/* QEMU calls any difference an error; blocks counted and not mapped
	 * are what a power cut leaves, and only waste space */
	if (n < v->used)
		c->leaks += v->used - n;
	if (n > v->used) {
		snprintf(s, sizeof(s), "ERROR: allocated blocks mismatch, is "
		    "%u, should be %u", n, v->used);
		c->corruptions++;
		c->say(c->arg, true, s);
	}
out:
	free(seen);
	if (!c->fix || (!c->leaks && !c->corruptions))
		return 0;
	if (c->corruptions)
		return err_set(e, ENOTSUP, "Only leaks can be repaired in VDI "
		    "images");
	return fix_leaks(im, c) ? err_set(e, errno, "Could not repair: %s",
	    strerror(errno)) : 0;
}

static int
vdi_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size, n, data;
	uint8_t h[512] = "<<< QEMU VM Virtual Disk Image >>>\n";
	uint32_t *map = NULL;
	struct img *f = NULL;
	bool fixed;
	int r = -1;

	if (opts_size(o, "size", 0, &size, e) ||
	    opts_bool(o, "static", false, &fixed, e))
		return -1;
	size = rup(size, 512);
	if (size > (uint64_t)VDI_MAXN * MiB)
		return err_set(e, ENOTSUP, "Unsupported VDI image size (size is "
		    "0x%llx, max supported is 0x%llx)",
		    (unsigned long long)size, (unsigned long long)VDI_MAXN *
		    MiB);
	n = rup(size, MiB) / MiB;
	data = 512 + rup(n * 4, 512);
	if (!(f = img_create_file(name, 0, o, e)))
		return -1;
	ple32(h + H_SIG, VDI_SIG);
	ple32(h + H_VER, 0x00010001);
	ple32(h + H_HLEN, 0x180);
	ple32(h + H_TYPE, fixed ? T_STATIC : T_DYNAMIC);
	ple32(h + H_BMAP, 512);
	ple32(h + H_DATA, (uint32_t)data);
	ple32(h + H_SECT, 512);
	ple64(h + H_SIZE, size);
	ple32(h + H_BLK, MiB);
	ple32(h + H_N, (uint32_t)n);
	ple32(h + H_USED, fixed ? (uint32_t)n : 0);
	if (getrandom(h + H_UUID, 32, 0) != 32)
		goto io;
	if (!(map = calloc(data - 512 + 4, 1)))
		goto io;
	for (uint64_t i = 0; i < n; i++)
		map[i] = fixed ? (uint32_t)i : NONE;
	if (img_pwrite(f, h, 512, 0, 0) || (n && img_pwrite(f, map, data - 512,
	    512, 0)))
		goto io;
	if (fixed && img_truncate(f, data + n * MiB, PRE_OFF, e))
		goto out;
	r = 0;
	goto out;
io:
	err_set(e, errno, "Error writing VDI image: %s", strerror(errno));
out:
	free(map);
	img_close(f);
	return r;
}

static const struct opt_desc vdi_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "static", VAL_BOOL, "VDI static (pre-allocated) image", "off" },
	{ 0 }
};

const struct img_driver drv_vdi = {
	.name = "vdi", .late = true, .opts = vdi_opts, .probe = vdi_probe,
	.open = vdi_open, .close = vdi_close, .pread = blockmap_pread,
	.pwrite = blockmap_pwrite, .zero = blockmap_zero,
	.flush = blockmap_flush, .status = blockmap_status,
	.create = vdi_create, .check = vdi_check,
};
