/*
 * cloop.c - compressed loop images of the cloop 2 package (create_compressed_fs),
 * read only: a shell script of 128 bytes, then big-endian the bytes of a block,
 * the number of blocks and where each of them and the end is; the blocks are
 * deflated.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chunks.h"

enum { HEADER = 136, BLOCKS_MAX = 2 << 20 };

static int
cloop_probe(const uint8_t *b, size_t n, const char *name)
{
	static const char magic[] = "#!/bin/sh\n#V2.0 Format\n"
	    "modprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";

	return n >= sizeof(magic) && !memcmp(b, magic, sizeof(magic) - 1) ? 2 :
	    0;
}

static int
table(struct img *im, struct chunks *k, uint64_t bs, uint32_t n,
    struct imgerr *e)
{
	uint64_t *t, off, end = 0;
	int r = 0;

	if (HEADER + (n + 1ull) * 8 > im->file->size)
		return err_set(e, EINVAL, "The table of blocks reaches beyond "
		    "the end of the file");
	if (!(t = malloc((n + 1ull) * 8)))
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(im->file, t, (n + 1ull) * 8, HEADER))
		r = err_set(e, errno, "Could not read the table of blocks: %m");
	for (uint32_t i = 0; i <= n && !r; i++, end = off) {
		off = be64(t + i);
		if (!i)
			continue;
		if (off < end)
			r = err_set(e, EINVAL, "offsets not monotonically "
			    "increasing at index %u, image file is corrupt", i);
		else if (off - end > 2 * CHUNK_MAX || chunks_add(k, CHUNK_ZLIB,
		    (i - 1) * bs, bs, end, off - end))
			r = err_set(e, EINVAL, "invalid compressed block size "
			    "at index %u, image file is corrupt", i);
	}
	free(t);
	return r;
}

static int
cloop_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct chunks *k;
	uint8_t h[HEADER];
	uint32_t bs, n;

	if (im->flags & IMG_RDWR)
		return err_set(e, EACCES, "cloop images can only be read");
	if (img_pread_backing(im->file, h, HEADER, 0))
		return err_set(e, errno, "Could not read the cloop header: %m");
	bs = be32(h + 128);
	n = be32(h + 132);
	if (!bs)
		return err_set(e, EINVAL, "block_size cannot be zero");
	if (bs % 512)
		return err_set(e, EINVAL, "block_size %u must be a multiple of "
		    "512", bs);
	if (bs > CHUNK_MAX)
		return err_set(e, EINVAL, "block_size %u must be %u MB or less",
		    bs, CHUNK_MAX >> 20);
	if (n > BLOCKS_MAX)
		return err_set(e, EINVAL, "n_blocks %u must be %u or less", n,
		    BLOCKS_MAX);
	if (!(k = chunks_new()))
		return err_set(e, ENOMEM, "Out of memory");
	if (table(im, k, bs, n, e) || chunks_ready(k, e)) {
		chunks_free(k);
		return -1;
	}
	im->size = (uint64_t)n * bs;
	im->priv = k;
	return 0;
}

const struct img_driver drv_cloop = {
	.name = "cloop", .terse = true, .probe = cloop_probe,
	.open = cloop_open, .close = chunks_close, .pread = chunks_pread,
};
