/*
 * qcow2-compress.c - compressed clusters: raw deflate (RFC 1951), by libdeflate
 * which does a whole buffer at once and several times as fast as zlib, or
 * zstd (RFC 8878).
 */
#include <errno.h>
#include <stdlib.h>

#include <libdeflate.h>
#include <zstd.h>

#include "qcow2.h"

static _Thread_local struct libdeflate_compressor *def;
static _Thread_local struct libdeflate_decompressor *inf;
static _Thread_local ZSTD_CCtx *zc;

size_t
q2_deflate(unsigned type, const void *in, size_t n, void *out, size_t cap)
{
	size_t r;

	if (!type) {
		if (!def && !(def = libdeflate_alloc_compressor(5)))
			return 0;
		return libdeflate_deflate_compress(def, in, n, out, cap);
	}
	if (!zc && !(zc = ZSTD_createCCtx()))
		return 0;
	r = ZSTD_compressCCtx(zc, out, cap, in, n, 3);
	return ZSTD_isError(r) ? 0 : r;
}

int
q2_inflate(unsigned type, const void *in, size_t n, void *out, size_t want)
{
	size_t used, made;

	if (!type) {
		if (!inf && !(inf = libdeflate_alloc_decompressor())) {
			errno = ENOMEM;
			return -1;
		}
		if (libdeflate_deflate_decompress_ex(inf, in, n, out, want,
		    &used, &made) || made != want)
			goto bad;
		return 0;
	}
	used = ZSTD_findFrameCompressedSize(in, n);
	if (ZSTD_isError(used))
		goto bad;
	made = ZSTD_decompress(out, want, in, used);
	if (!ZSTD_isError(made) && made == want)
		return 0;
bad:
	errno = EIO;
	return -1;
}
