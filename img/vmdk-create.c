/*
 * vmdk-create.c - making VMware disks: the descriptor, the extents it names,
 * their empty tables ("Virtual Disk Format 5.0").
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmdk.h"

static int
make_sparse(struct img *f, uint64_t size, bool compressed, bool zgte,
    const char *desc, struct imgerr *e)
{
	uint64_t cap = size / SECT, gts, gds, rgd, gd, first;
	uint8_t h[512] = "KDMV", *b;
	int r = -1;

	gts = (cap + 128 * GTES - 1) / (128 * GTES);
	gds = (gts * 4 + SECT - 1) / SECT;
	rgd = 1 + 20;
	gd = rgd + gds + 4 * gts;
	first = rup(gd + gds + 4 * gts, 128);
	ple32(h + 4, compressed ? 3 : zgte ? 2 : 1);
	ple32(h + 8, 1 | F_RGD | (compressed ? F_COMPR | F_MARK : 0) |
	    (zgte ? F_ZGTE : 0));
	ple64(h + 12, cap);
	ple64(h + 20, 128);
	ple64(h + 28, 1);
	ple64(h + 36, 20);
	ple32(h + 44, GTES);
	ple64(h + 48, rgd);
	ple64(h + 56, gd);
	ple64(h + 64, first);
	memcpy(h + 73, "\n \r\n", 4);
	ple16(h + 77, compressed);
	if (!(b = calloc(1, (gd - rgd) * SECT + 20 * SECT)))
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pwrite(f, h, 512, 0, 0))
		goto io;
	if (desc) {
		if (strlen(desc) > 20 * SECT) {
			err_set(e, EINVAL, "Descriptor is too long");
			goto out;
		}
		memcpy(b, desc, strlen(desc));
		if (img_pwrite(f, b, 20 * SECT, SECT, 0))
			goto io;
		memset(b, 0, 20 * SECT);
	}
	for (int i = 0; i < 2; i++) {
		uint64_t base = i ? gd : rgd;

		for (uint64_t k = 0; k < gts; k++)
			ple32(b + k * 4, (uint32_t)(base + gds + k * 4));
		if (img_pwrite(f, b, gds * SECT, base * SECT, 0))
			goto io;
	}
	if (img_truncate(f, first * SECT, PRE_OFF, e))
		goto out;
	r = 0;
	goto out;
io:
	err_set(e, errno, "Could not write the VMDK: %s", strerror(errno));
out:
	free(b);
	return r;
}

int
vmdk_create(const char *name, struct opts *o, struct imgerr *e)
{
	static const char *const kinds[] = { "monolithicSparse",
		"monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
		"streamOptimized" };
	static const char *const adapters[] = { "ide", "buslogic", "lsilogic",
		"legacyESX" };
	const char *sub = opts_get(o, "subformat"), *ad, *hw, *tv, *back, *base;
	uint64_t size, left, n;
	bool compat6, zgte, flat, split, ok = false;
	char *desc = NULL, *ext = NULL, hwbuf[64], *path = NULL;
	uint32_t cid, pcid = UINT32_MAX;
	size_t dn, en;
	FILE *f;
	struct img *im;
	int r = -1, kind;

	ad = opts_get(o, "adapter_type");
	hw = opts_get(o, "hwversion");
	tv = opts_get(o, "toolsversion");
	back = opts_get(o, "backing_file");
	opts_get(o, "backing_fmt");
	if (opts_size(o, "size", 0, &size, e) ||
	    opts_bool(o, "compat6", false, &compat6, e) ||
	    opts_bool(o, "zeroed_grain", false, &zgte, e))
		return -1;
	size = rup(size, SECT);
	ad = ad ? ad : "ide";
	for (int i = 0; i < 4; i++)
		ok |= !strcasecmp(ad, adapters[i]);
	if (!ok)
		return err_set(e, EINVAL, "invalid parameter value: %s", ad);
	if (hw && strcmp(hw, "undefined")) {
		if (compat6)
			return err_set(e, EINVAL, "compat6 cannot be enabled "
			    "with hwversion set");
		snprintf(hwbuf, sizeof(hwbuf), "%s", hw);
	} else
		strcpy(hwbuf, compat6 ? "6" : "4");
	for (kind = 0; kind < 5; kind++)
		if (!strcasecmp(sub ? sub : kinds[0], kinds[kind]))
			break;
	if (kind == 5)
		return err_set(e, EINVAL, "invalid parameter value: %s", sub);
	flat = kind == 1 || kind == 3;
	split = kind == 2 || kind == 3;
	if (flat && back)
		return err_set(e, ENOTSUP, "Flat image can't have backing file");
	if (flat && zgte)
		return err_set(e, ENOTSUP, "Flat image can't enable zeroed "
		    "grain");
	if (back) {
		char *bp = img_backing_path(name, back);
		struct img *b = img_open(bp, NULL, NULL, IMG_NOBACKING, e);

		free(bp);
		if (!b)
			return -1;
		if (strcmp(b->drv->name, "vmdk")) {
			img_close(b);
			return err_set(e, EINVAL, "backing_file must be a vmdk "
			    "image");
		}
		pcid = ((struct vmdk *)b->priv)->cid;
		img_close(b);
	}
	if (getrandom(&cid, 4, 0) != 4)
		return -1;
	base = strrchr(name, '/');
	base = base ? base + 1 : name;
	if (!(f = open_memstream(&ext, &en)))
		return -1;
	if (!flat && !split) {
		fprintf(f, "RW %llu SPARSE \"%s\"\n", (unsigned long long)size /
		    SECT, base);
	} else {
		const char *dot = strrchr(base, '.');
		int stem = dot ? (int)(dot - base) : (int)strlen(base), i = 1;

		for (left = size; left || i == 1; left -= n, i++) {
			char fn[600];

			n = split ? umin(left, 2047 * MiB) : left;
			if (split)
				snprintf(fn, sizeof(fn), "%.*s-%c%03d%s", stem,
				    base, flat ? 'f' : 's', i, dot ? dot : "");
			else
				snprintf(fn, sizeof(fn), "%.*s-flat%s", stem,
				    base, dot ? dot : "");
			free(path);
			if (asprintf(&path, "%.*s%s", (int)(base - name), name,
			    fn) < 0)
				path = NULL;
			if (!path || !(im = img_create_file(path, flat ? n : 0,
			    o, e))) {
				fclose(f);
				goto out;
			}
			if (!flat && make_sparse(im, n, false, zgte, NULL, e)) {
				img_close(im);
				fclose(f);
				goto out;
			}
			img_close(im);
			fprintf(f, "RW %llu %s \"%s\"%s\n",
			    (unsigned long long)n / SECT, flat ? "FLAT" :
			    "SPARSE", fn, flat ? " 0" : "");
		}
	}
	fclose(f);
	if (!(f = open_memstream(&desc, &dn)))
		goto out;
	fprintf(f, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\n"
	    "createType=\"%s\"\n", cid, pcid, kinds[kind]);
	if (back)
		fprintf(f, "parentFileNameHint=\"%s\"\n", back);
	n = strcasecmp(ad, "ide") ? 255 : 16;
	fprintf(f, "\n# Extent description\n%s\n# The Disk Data Base\n#DDB\n\n"
	    "ddb.virtualHWVersion = \"%s\"\n"
	    "ddb.geometry.cylinders = \"%llu\"\n"
	    "ddb.geometry.heads = \"%llu\"\n"
	    "ddb.geometry.sectors = \"63\"\n"
	    "ddb.adapterType = \"%s\"\n"
	    "ddb.toolsVersion = \"%s\"\n", ext, hwbuf,
	    (unsigned long long)(size / (63 * n * 512)),
	    (unsigned long long)n, ad, tv ? tv : "2147483647");
	fclose(f);
	if (!(im = img_create_file(name, 0, o, e)))
		goto out;
	if (flat || split)
		r = img_pwrite(im, desc, dn, 0, 0) ? err_set(e, errno,
		    "Could not write the descriptor") : 0;
	else
		r = make_sparse(im, size, kind == 4, zgte, desc, e);
	img_close(im);
out:
	free(path);
	free(ext);
	free(desc);
	return r;
}

const struct opt_desc vmdk_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "adapter_type", VAL_STR, "Virtual adapter type, can be one of ide "
	    "(default), lsilogic, buslogic or legacyESX" },
	{ "backing_file", VAL_STR, "File name of a base image" },
	{ "backing_fmt", VAL_STR, "Must be 'vmdk' if present" },
	{ "compat6", VAL_BOOL, "VMDK version 6 image", "off" },
	{ "hwversion", VAL_STR, "VMDK hardware version", "undefined" },
	{ "toolsversion", VAL_STR, "VMware guest tools version" },
	{ "subformat", VAL_STR, "VMDK flat extent format, can be one of "
	    "{monolithicSparse (default) | monolithicFlat | "
	    "twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} " },
	{ "zeroed_grain", VAL_BOOL, "Enable efficient zero writes using the "
	    "zeroed-grain GTE feature" },
	{ 0 }
};
