/*
 * vhdx-create.c - making VHDX images, and the numbers that reading and making
 * them share: identifiers, sums ([MS-VHDX] 2).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vhdx.h"

const uint8_t vhdx_id_bat[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00,
	0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
const uint8_t vhdx_id_meta[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a,
	0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
const uint8_t vhdx_id_param[16] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43,
	0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
const uint8_t vhdx_id_size[16] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76,
	0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 };
const uint8_t vhdx_id_disk[16] = { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23,
	0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 };
const uint8_t vhdx_id_logical[16] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9,
	0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f };
const uint8_t vhdx_id_physical[16] = { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44,
	0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 };

/* CRC-32C (Castagnoli), reflected polynomial 0x82f63b78. */
static uint32_t crc_table[256];

static void
crc_fill(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
		crc_table[i] = c;
	}
}

uint32_t
vhdx_crc(uint32_t crc, const void *v, size_t n)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const uint8_t *p = v;

	pthread_once(&once, crc_fill);
	crc = ~crc;
	while (n--)
		crc = crc >> 8 ^ crc_table[(crc ^ *p++) & 255];
	return ~crc;
}

uint32_t
vhdx_sum(const void *v, size_t n)
{
	static const uint8_t zero[4];
	const uint8_t *p = v;
	uint32_t crc = vhdx_crc(0, p, 4);

	crc = vhdx_crc(crc, zero, 4);
	return vhdx_crc(crc, p + 8, n - 8);
}

/* A GUID of version 4 (RFC 4122). */
int
vhdx_random(uint8_t g[16])
{
	if (getrandom(g, 16, 0) != 16)
		return -1;
	g[7] = (g[7] & 0x0f) | 0x40;
	g[8] = (g[8] & 0x3f) | 0x80;
	return 0;
}

const struct opt_desc vhdx_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size; max of 64TB." },
	{ "log_size", VAL_SIZE, "Log size; min 1MB.", "1048576" },
	{ "block_size", VAL_SIZE, "Block Size; min 1MB, max 256MB. 0 means "
	    "auto-calculate based on image size.", "0" },
	{ "subformat", VAL_STR, "VHDX format type, can be either 'dynamic' or "
	    "'fixed'. Default is 'dynamic'." },
	{ "block_state_zero", VAL_BOOL, "Force use of payload blocks of type "
	    "'ZERO'. Non-standard, but default.  Do not set to 'off' when "
	    "using 'qemu-img convert' with subformat=dynamic." },
	{ 0 }
};

struct shape {
	uint64_t	size, log, bs, bat_off, bat_len, meta_off, data;
	bool		fixed, zero;
};

static int
shape(struct opts *o, struct shape *s, struct imgerr *e)
{
	const char *sub = opts_get(o, "subformat");

	if (opts_size(o, "size", 0, &s->size, e) ||
	    opts_size(o, "log_size", MiB, &s->log, e) ||
	    opts_size(o, "block_size", 0, &s->bs, e) ||
	    opts_bool(o, "block_state_zero", true, &s->zero, e))
		return -1;
	if (sub && strcmp(sub, "dynamic") && strcmp(sub, "fixed"))
		return err_set(e, EINVAL, "Parameter 'subformat' does not "
		    "accept value '%s'", sub);
	s->fixed = sub && !strcmp(sub, "fixed");
	s->size = rup(s->size, 512);
	if (s->size > 64ull << 40)
		return err_set(e, EINVAL, "Image size too large; max of 64TB");
	if (!s->bs)
		s->bs = s->size > 32ull << 40 ? 64 * MiB : s->size > 100 * GiB ?
		    32 * MiB : s->size > GiB ? 16 * MiB : 8 * MiB;
	if (s->log < MiB || s->log % MiB || s->log > VHDX_LOG_MAX)
		return err_set(e, EINVAL, "Log size must be 1 MB to 64 MB, in "
		    "whole MB");
	if (s->bs < MiB || s->bs > VHDX_BLOCK_MAX)
		return err_set(e, EINVAL, "Block size must be 1 MB to 256 MB");
	if (s->bs & (s->bs - 1))
		return err_set(e, EINVAL, "Block size must be a power of two");
	return 0;
}

/* Metadata region: a table of items at its start, the items from 64 KiB on. */
static void
metadata(uint8_t *b, const struct shape *s)
{
	static const struct { const uint8_t *id; uint32_t len, flags; } tab[] = {
		{ vhdx_id_param, 8, 4 }, { vhdx_id_size, 8, 6 }, { vhdx_id_disk, 16, 6 },
		{ vhdx_id_logical, 4, 6 }, { vhdx_id_physical, 4, 6 },
	};
	uint32_t at = VHDX_TABLE;

	memcpy(b, "metadata", 8);
	ple16(b + 10, 5);
	for (unsigned i = 0; i < 5; i++) {
		uint8_t *p = b + 32 + i * 32;

		memcpy(p, tab[i].id, 16);
		ple32(p + 16, at);
		ple32(p + 20, tab[i].len);
		ple32(p + 24, tab[i].flags);
		switch (i) {
		case 0: ple32(b + at, (uint32_t)s->bs);
			ple32(b + at + 4, s->fixed); break;
		case 1: ple64(b + at, s->size); break;
		case 2: vhdx_random(b + at); break;
		case 3: ple32(b + at, 512); break;
		case 4: ple32(b + at, 512); break;
		}
		at += tab[i].len;
	}
}

static void
regions(uint8_t *b, const struct shape *s)
{
	memcpy(b, "regi", 4);
	ple32(b + 8, 2);
	memcpy(b + 16, vhdx_id_bat, 16);
	ple64(b + 32, s->bat_off);
	ple32(b + 40, (uint32_t)s->bat_len);
	ple32(b + 44, 1);
	memcpy(b + 48, vhdx_id_meta, 16);
	ple64(b + 64, s->meta_off);
	ple32(b + 72, MiB);
	ple32(b + 76, 1);
	ple32(b + 4, vhdx_sum(b, VHDX_TABLE));
}

static int
table(struct img *f, const struct shape *s, uint64_t blocks, uint64_t ratio)
{
	uint64_t n = VHDX_SECTOR / 8, e[VHDX_SECTOR / 8], i, k, b = 0;

	/* zeros mean "not present", which is what is wanted then */
	if (!s->fixed && !s->zero)
		return 0;
	for (i = 0; b < blocks; i += n) {
		for (k = 0; k < n; k++) {
			bool bitmap = (i + k) % (ratio + 1) == ratio;

			e[k] = bitmap || b >= blocks ? 0 : s->fixed ?
			    (s->data + b * s->bs) | B_PRESENT : B_ZERO;
			b += !bitmap;
		}
		if (img_pwrite(f, e, sizeof(e), s->bat_off + i * 8, 0))
			return -1;
	}
	return 0;
}

static int
lay_out(struct img *f, struct shape *s, struct imgerr *e)
{
	uint64_t blocks = (s->size + s->bs - 1) / s->bs;
	uint64_t ratio = (8ull << 20) * 512 / s->bs;
	struct vhdx_header h = { .seq = 0, .slot = 1 };
	uint8_t *b = calloc(1, MiB);
	static const char creator[] = "Sluice";
	int r = -1;

	if (!b)
		return err_set(e, ENOMEM, "Out of memory");
	s->meta_off = MiB + s->log;
	s->bat_off = s->meta_off + MiB;
	s->bat_len = rup(umax(1, blocks ? (blocks + (blocks - 1) / ratio) * 8 :
	    1), MiB);
	s->data = s->bat_off + s->bat_len;
	memcpy(b, "vhdxfile", 8);
	for (size_t i = 0; creator[i]; i++)
		b[8 + i * 2] = (uint8_t)creator[i];
	regions(b + 3 * 65536, s);
	memcpy(b + 4 * 65536, b + 3 * 65536, VHDX_TABLE);
	memcpy(h.b, "head", 4);
	ple16(h.b + 66, 1);
	ple32(h.b + 68, (uint32_t)s->log);
	ple64(h.b + 72, MiB);
	if (img_pwrite(f, b, MiB, 0, 0) ||
	    vhdx_header_write(f, &h, true, NULL) ||
	    vhdx_header_write(f, &h, false, NULL))
		goto out;
	memset(b, 0, MiB);
	metadata(b, s);
	if (img_pwrite(f, b, MiB, s->meta_off, 0) || img_truncate(f, s->data +
	    (s->fixed ? blocks * s->bs : 0), PRE_OFF, e) ||
	    table(f, s, blocks, ratio))
		goto out;
	r = 0;
out:
	if (r)
		err_set(e, errno, "Could not write: %s", strerror(errno));
	free(b);
	return r;
}

int
vhdx_create(const char *name, struct opts *o, struct imgerr *e)
{
	struct shape s;
	struct img *f;
	int r;

	if (shape(o, &s, e) || !(f = img_create_file(name, 0, o, e)))
		return -1;
	r = lay_out(f, &s, e);
	img_close(f);
	return r;
}
