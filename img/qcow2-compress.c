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

/* A thread's own, made when first needed; they go with it. */
struct tools {
	struct libdeflate_compressor *def;
	struct libdeflate_decompressor *inf;
	ZSTD_CCtx	*zc;
};
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
done(void *arg)
{
	struct tools *t = arg;

	libdeflate_free_compressor(t->def);
	libdeflate_free_decompressor(t->inf);
	ZSTD_freeCCtx(t->zc);
	free(t);
}

static void
begin(void)
{
	pthread_key_create(&key, done);
}

static struct tools *
tools(void)
{
	struct tools *t;

	pthread_once(&once, begin);
	t = pthread_getspecific(key);
	if (!t && (t = calloc(1, sizeof(*t))) && pthread_setspecific(key, t)) {
		free(t);
		return NULL;
	}
	return t;
}

size_t
q2_deflate(unsigned type, const void *in, size_t n, void *out, size_t cap)
{
	struct tools *t = tools();
	size_t r;

	if (!t)
		return 0;
	if (!type) {
		if (!t->def && !(t->def = libdeflate_alloc_compressor(5)))
			return 0;
		return libdeflate_deflate_compress(t->def, in, n, out, cap);
	}
	if (!t->zc && !(t->zc = ZSTD_createCCtx()))
		return 0;
	r = ZSTD_compressCCtx(t->zc, out, cap, in, n, 3);
	return ZSTD_isError(r) ? 0 : r;
}

int
q2_inflate(unsigned type, const void *in, size_t n, void *out, size_t want)
{
	struct tools *t;
	size_t used, made;

	if (!type) {
		if (!(t = tools()) || (!t->inf &&
		    !(t->inf = libdeflate_alloc_decompressor()))) {
			errno = ENOMEM;
			return -1;
		}
		if (libdeflate_deflate_decompress_ex(t->inf, in, n, out, want,
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
