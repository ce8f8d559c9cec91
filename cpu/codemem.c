/*
 * codemem.c - memory for translated code, mapped twice: once writable, once
 * executable, never both in one mapping.
 *
 * It is in no file, so that perf(1) takes it for generated code and looks into
 * perfmap.c's: a shared mapping, and mremap(2) from a length of 0, which maps
 * the same pages again.
 */
#include <sys/mman.h>

#include "block.h"

int
codemem_init(size_t bytes)
{
	uint8_t *rx;

	jit.rw = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (jit.rw == MAP_FAILED)
		return -1;
	rx = mremap(jit.rw, 0, bytes, MREMAP_MAYMOVE);
	if (rx == MAP_FAILED ||
	    mprotect(rx, bytes, PROT_READ | PROT_EXEC) < 0) {
		munmap(jit.rw, bytes);
		return -1;
	}
	jit.rx_off = rx - jit.rw;
	jit.size = bytes;
	return 0;
}
