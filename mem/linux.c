/*
 * linux.c - Linux kernels as bzImage: the x86 boot protocol 2.00 to 2.15
 * (Linux Documentation/arch/x86/boot.rst and zero-page.rst).
 *
 * The setup header is copied from the file to the zero page after its fields
 * were checked; the protected-mode part goes to its preferred address; the
 * initrd as high as the header allows.  Entry: 64-bit when the kernel offers
 * it, 32-bit otherwise, 16-bit real mode for protocols older than 2.06 or when
 * forced (the interrupt stubs of bios16.c then stand in for a BIOS).
 */
#include <stdlib.h>
#include <string.h>

#include "boot.h"

enum {					/* offsets in file and zero page */
	ZP_RSDP = 0x070, ZP_EXT_RD_IMAGE = 0x0c0, ZP_EXT_RD_SIZE = 0x0c4,
	ZP_ALT_MEM_K = 0x1e0, ZP_E820_N = 0x1e8, ZP_E820 = 0x2d0,
	H_SECTS = 0x1f1, H_VID_MODE = 0x1fa, H_JUMP = 0x201, H_VERSION = 0x206,
	H_LOADER = 0x210, H_FLAGS = 0x211, H_CODE32 = 0x214, H_RD_IMAGE = 0x218,
	H_RD_SIZE = 0x21c, H_HEAP_END = 0x224, H_CMDLINE = 0x228,
	H_RD_MAX = 0x22c, H_XLOADFLAGS = 0x236, H_CMDLINE_SIZE = 0x238,
	H_PREF = 0x258, H_INIT_SIZE = 0x260, H_END = 0x290,
	OLD_CMDLINE = 0xf000,		/* protocol < 2.02: behind the setup */
};
enum { LOADED_HIGH = 1, CAN_USE_HEAP = 0x80, XLF_KERNEL_64 = 1,
	XLF_ABOVE_4G = 2 };

struct image {
	const uint8_t	*file;
	size_t		len;
	unsigned	proto, xload;
	size_t		setup;		/* bytes of boot sector and setup */
	uint64_t	load, init_size;
	uint64_t	rd_max;		/* highest address of initrd */
	uint32_t	cmd_max;
};

static int
check(struct boot *b, const struct blob *k, struct image *im)
{
	const uint8_t *f = k->p;
	unsigned sects;

	memset(im, 0, sizeof *im);
	if (k->n < H_END || memcmp(f + 0x202, "HdrS", 4))
		return boot_fail(b, b->kernel, "truncated bzImage: no setup "
		    "header");
	im->file = f;
	im->len = k->n;
	im->proto = le16(f + H_VERSION);
	if (im->proto < 0x200)
		return boot_fail(b, b->kernel, "boot protocol %u.%02u is too "
		    "old", im->proto >> 8, im->proto & 255);
	if (!(f[H_FLAGS] & LOADED_HIGH))
		return boot_fail(b, b->kernel, "is a zImage; only bzImage is "
		    "supported");
	sects = f[H_SECTS] ? f[H_SECTS] : 4;
	im->setup = (sects + 1) * 512;
	if (sects > 64 || im->setup >= k->n)
		return boot_fail(b, b->kernel, "truncated bzImage: setup takes "
		    "%zu bytes, file has %zu", im->setup, k->n);
	im->load = BOOT_KERNEL_MIN;
	im->init_size = k->n - im->setup;
	if (im->proto >= 0x20a) {
		im->load = le64(f + H_PREF);
		if (le32(f + H_INIT_SIZE) > im->init_size)
			im->init_size = le32(f + H_INIT_SIZE);
	} else {
		im->init_size += im->init_size * 3;	/* room to unpack */
	}
	if (im->load < BOOT_KERNEL_MIN || im->load >= RAM_HOLE)
		return boot_fail(b, b->kernel, "preferred address 0x%llx is "
		    "out of range", (unsigned long long)im->load);
	im->rd_max = im->proto >= 0x203 ? le32(f + H_RD_MAX) : 0x37ffffff;
	im->cmd_max = im->proto >= 0x206 ? le32(f + H_CMDLINE_SIZE) : 255;
	if (im->cmd_max >= BOOT_CMDLINE_MAX)
		im->cmd_max = BOOT_CMDLINE_MAX - 1;
	im->xload = im->proto >= 0x20c ? le16(f + H_XLOADFLAGS) : 0;
	return 0;
}

static int
choose(struct boot *b, const struct image *im, enum boot_mode *mode)
{
	if (!b->entry) {
		*mode = im->xload & XLF_KERNEL_64 ? BOOT_LONG64 :
		    im->proto < 0x206 ? BOOT_REAL16 : BOOT_PROT32;
	} else if (!strcmp(b->entry, "64")) {
		if (!(im->xload & XLF_KERNEL_64))
			return boot_fail(b, b->kernel, "has no 64-bit entry");
		*mode = BOOT_LONG64;
	} else if (!strcmp(b->entry, "32")) {
		*mode = BOOT_PROT32;
	} else if (!strcmp(b->entry, "16")) {
		*mode = BOOT_REAL16;
	} else {
		return boot_fail(b, b->entry, "is not an entry (16, 32, 64)");
	}
	if (*mode == BOOT_LONG64 && im->len - im->setup < 0x201)
		return boot_fail(b, b->kernel, "truncated bzImage: no 64-bit "
		    "entry");
	return 0;
}

/* Value of a word WORD=... of the command line, or NULL. */
static const char *
word(const char *cmdline, const char *key)
{
	size_t n = strlen(key);
	const char *p, *hit = NULL;

	for (p = cmdline; (p = strstr(p, key)); p += n)
		if (p == cmdline || p[-1] == ' ')
			hit = p + n;
	return hit;
}

/* mem=N[KMG] bounds the initrd's place, as the protocol asks. */
static uint64_t
mem_limit(const char *cmdline)
{
	const char *s = word(cmdline, "mem=");
	unsigned long long v;
	char *end;

	if (!s || *s < '0' || *s > '9')
		return ~0ull;
	v = strtoull(s, &end, 0);
	switch (*end | 0x20) {
	case 'g':
		v <<= 10;
		/* fallthrough */
	case 'm':
		v <<= 10;
		/* fallthrough */
	case 'k':
		v <<= 10;
	}
	return v ? v : ~0ull;
}

static uint16_t
vid_mode(const char *cmdline)
{
	const char *s = word(cmdline, "vga=");

	if (!s)
		return 0xffff;			/* normal */
	if (!strncmp(s, "ext", 3))
		return 0xfffe;
	if (!strncmp(s, "ask", 3))
		return 0xfffd;
	if (*s < '0' || *s > '9')
		return 0xffff;
	return (uint16_t)strtoul(s, NULL, 0);
}

/* Place the initrd; returns its address, 0 after boot_fail. */
static uint64_t
place_initrd(struct ram *r, struct boot *b, const struct image *im,
    enum boot_mode mode, const char *cmdline, const struct blob *rd)
{
	uint64_t floor = im->load + im->init_size, top = boot_top(r), at;
	uint64_t limit = mem_limit(cmdline);

	if (top > im->rd_max + 1)
		top = im->rd_max + 1;
	if (top > limit)
		top = limit;
	if (rd->n <= top && ((top - rd->n) & ~4095ull) >= floor) {
		at = (top - rd->n) & ~4095ull;
	} else if (mode == BOOT_LONG64 && im->xload & XLF_ABOVE_4G &&
	    rd->n <= r->size - r->low && limit == ~0ull) {
		at = (RAM_HIGH + (r->size - r->low) - rd->n) & ~4095ull;
	} else {
		boot_fail(b, b->initrd, "%zu bytes do not fit between the "
		    "kernel's end at 0x%llx and 0x%llx", rd->n,
		    (unsigned long long)floor, (unsigned long long)top);
		return 0;
	}
	if (!ram_at(r, at, rd->n)) {
		boot_fail(b, b->initrd, "does not fit into the guest's memory");
		return 0;
	}
	memcpy(ram_at(r, at, rd->n), rd->p, rd->n);
	return at;
}

/* Fill the header fields a loader sets; `z` is the zero page or the setup. */
static void
fill_header(uint8_t *z, const struct image *im, const char *cmdline,
    uint64_t rd, uint64_t rd_len)
{
	z[H_LOADER] = 0xff;			/* no assigned number */
	put16(z + H_VID_MODE, vid_mode(cmdline));
	put32(z + H_RD_IMAGE, (uint32_t)rd);
	put32(z + H_RD_SIZE, (uint32_t)rd_len);
	if (im->proto >= 0x202) {
		put32(z + H_CMDLINE, BOOT_CMDLINE);
	} else {			/* relative to the setup's segment */
		put16(z + 0x20, 0xa33f);
		put16(z + 0x22, OLD_CMDLINE);
	}
	put32(z + H_CODE32, (uint32_t)im->load);
}

static void
zero_page(struct ram *r, struct boot *b, const struct image *im,
    const char *cmdline, uint64_t rd, uint64_t rd_len)
{
	uint8_t *z = ram_at(r, BOOT_PARAMS, 4096);
	size_t end = 0x202 + im->file[H_JUMP];
	struct e820 e[16];
	int i, n;

	if (end > H_END || end < 0x22c)
		end = im->proto >= 0x20a ? H_END : 0x22c;
	memset(z, 0, 4096);
	memcpy(z + H_SECTS, im->file + H_SECTS, end - H_SECTS);
	fill_header(z, im, cmdline, rd, rd_len);
	put32(z + ZP_EXT_RD_IMAGE, (uint32_t)(rd >> 32));
	put32(z + ZP_EXT_RD_SIZE, (uint32_t)(rd_len >> 32));
	put64(z + ZP_RSDP, b->rsdp);
	put32(z + ZP_ALT_MEM_K, (uint32_t)((boot_top(r) - 0x100000) >> 10));
	n = boot_e820(r, e, 16);
	for (i = 0; i < n; i++) {
		put64(z + ZP_E820 + i * 20, e[i].addr);
		put64(z + ZP_E820 + i * 20 + 8, e[i].size);
		put32(z + ZP_E820 + i * 20 + 16, e[i].type);
	}
	z[ZP_E820_N] = (uint8_t)n;
}

/*
 * Real mode: boot sector and setup at 1000:0000, heap and stack behind it up
 * to 1000:e000, entry 1020:0000.
 */
static void
real_mode(struct ram *r, struct boot *b, const struct image *im,
    const char *cmdline, uint64_t rd, uint64_t rd_len)
{
	uint8_t *s = ram_at(r, BOOT_PARAMS, OLD_CMDLINE);

	memset(s, 0, OLD_CMDLINE);
	memcpy(s, im->file, im->setup);
	fill_header(s, im, cmdline, rd, rd_len);
	if (im->proto >= 0x201) {
		put16(s + H_HEAP_END, 0xe000 - 0x200);
		s[H_FLAGS] |= CAN_USE_HEAP;
	}
	boot_bios16(r);
	b->mode = BOOT_REAL16;
	b->ds = BOOT_PARAMS >> 4;
	b->cs = b->ds + 0x20;
	b->rip = 0;
	b->rsp = 0xe000;
}

int
boot_linux(struct ram *r, struct boot *b)
{
	const char *cmdline = b->append ? b->append : "";
	struct blob k = { 0 }, rd = { 0 };
	uint64_t rd_at = 0, body;
	enum boot_mode mode;
	struct image im;
	int ret = -1;

	if (boot_slurp(b, b->kernel, r->size, &k) || check(b, &k, &im) ||
	    choose(b, &im, &mode))
		goto out;
	body = im.len - im.setup;
	if (!boot_place(r, im.load, im.init_size)) {
		boot_fail(b, b->kernel, "needs memory from 0x%llx to 0x%llx; "
		    "the guest has %llu MiB", (unsigned long long)im.load,
		    (unsigned long long)(im.load + im.init_size),
		    (unsigned long long)r->size >> 20);
		goto out;
	}
	if (strlen(cmdline) > im.cmd_max) {
		boot_fail(b, "append", "command line has %zu bytes, the kernel "
		    "takes %u", strlen(cmdline), im.cmd_max);
		goto out;
	}
	if (b->initrd && (boot_slurp(b, b->initrd, r->size, &rd) ||
	    (rd.n && !(rd_at = place_initrd(r, b, &im, mode, cmdline, &rd)))))
		goto out;

	memcpy(ram_at(r, im.load, body), im.file + im.setup, body);
	boot_string(r, BOOT_CMDLINE, BOOT_CMDLINE_MAX, cmdline);
	boot_string(r, BOOT_PARAMS + OLD_CMDLINE, 0x1000, im.proto < 0x202 ?
	    cmdline : "");
	if (mode == BOOT_REAL16) {
		real_mode(r, b, &im, cmdline, rd_at, rd.n);
	} else {
		zero_page(r, b, &im, cmdline, rd_at, rd.n);
		boot_flat(r, b, mode, im.load +
		    (mode == BOOT_LONG64 ? 0x200 : 0));
		b->rsi = BOOT_PARAMS;
	}
	ret = 0;
out:
	free(k.p);
	free(rd.p);
	return ret;
}
