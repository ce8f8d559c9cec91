/*
 * img-vhdx FILE TABLE ZERO [round] - put a VHDX image into the state of a writer that was
 * cut off: the sector at offset TABLE is in the log and wiped in the file, and
 * the one at ZERO is to be zeroed.  The log's active sequence is two entries that
 * lie at its start; `round': they go round the end of the ring, and an older one
 * is left before them.  [MS-VHDX] 2.3.
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "img/vhdx.h"

static struct img *f;
static struct vhdx_header h;
static uint8_t guid[16];

static void
put(uint64_t sector, const void *p, size_t n)
{
	if (img_pwrite(f, p, n, h.log_off + sector % (h.log_len / VHDX_SECTOR) *
	    VHDX_SECTOR, 0))
		err(1, "write");
}

static void
entry(uint64_t at, uint64_t seq, uint64_t tail, uint64_t off,
    const uint8_t *data)
{
	uint8_t b[2 * VHDX_SECTOR] = { 0 };
	size_t n = data ? 2 : 1;

	memcpy(b, "loge", 4);
	ple32(b + 8, (uint32_t)n * VHDX_SECTOR);
	ple32(b + 12, (uint32_t)(tail * VHDX_SECTOR));
	ple64(b + 16, seq);
	ple32(b + 24, 1);
	memcpy(b + 32, guid, 16);
	ple64(b + 48, f->size);
	ple64(b + 56, f->size);
	memcpy(b + 64, data ? "desc" : "zero", 4);
	if (data) {
		memcpy(b + 68, data + VHDX_SECTOR - 4, 4);
		memcpy(b + 72, data, 8);
		memcpy(b + VHDX_SECTOR, "data", 4);
		ple32(b + VHDX_SECTOR + 4, (uint32_t)(seq >> 32));
		memcpy(b + VHDX_SECTOR + 8, data + 8, VHDX_SECTOR - 12);
		ple32(b + 2 * VHDX_SECTOR - 4, (uint32_t)seq);
	} else
		ple64(b + 72, VHDX_SECTOR);
	ple64(b + 80, off);
	ple64(b + 88, seq);
	ple32(b + 4, vhdx_sum(b, n * VHDX_SECTOR));
	put(at, b, VHDX_SECTOR);
	if (data)
		put(at + 1, b + VHDX_SECTOR, VHDX_SECTOR);
}

int
main(int argc, char **argv)
{
	uint8_t t[VHDX_SECTOR], junk[VHDX_SECTOR], zero[VHDX_SECTOR] = { 0 };
	uint64_t table, gone, last;
	struct imgerr e;

	if (argc < 4)
		errx(2, "usage: img-vhdx file table zero [round]");
	table = strtoull(argv[2], NULL, 0);
	gone = strtoull(argv[3], NULL, 0);
	f = img_open(argv[1], NULL, NULL, IMG_RDWR | IMG_ISPROTO, &e);
	if (!f)
		errx(1, "%s", e.s);
	for (unsigned i = 0; i < 2; i++) {
		struct vhdx_header n = { .slot = i };

		if (img_pread(f, n.b, VHDX_HEADER, 65536 + i * 65536))
			err(1, "read");
		n.seq = le64(n.b + 8);
		n.log_len = le32(n.b + 68);
		n.log_off = le64(n.b + 72);
		if (!memcmp(n.b, "head", 4) && n.seq >= h.seq)
			h = n;
	}
	if (vhdx_random(guid) || img_pread(f, t, VHDX_SECTOR, table))
		err(1, "read");
	memset(junk, 0x5a, sizeof(junk));
	last = argc > 4 ? h.log_len / VHDX_SECTOR - 1 : 4;
	if (argc > 4)
		entry(3, 5, 3, table, junk);
	entry(last, 1ull << 32 | 8, last, table, t);
	entry(argc > 4 ? 1 : 6, 1ull << 32 | 9, last, gone, NULL);
	if (img_pwrite(f, zero, VHDX_SECTOR, table, 0) ||
	    vhdx_header_write(f, &h, true, guid))
		err(1, "write");
	return img_close(f) ? 1 : 0;
}
