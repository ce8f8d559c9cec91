/*
 * codemem.c - memory for translated code, mapped twice: once writable, once
 * executable, never both in one mapping.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block.h"

int
codemem_init(size_t bytes)
{
	uint8_t *rx;
	int fd;

	fd = memfd_create("code", MFD_CLOEXEC);
	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)bytes) < 0)
		goto bad;
	jit.rw = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (jit.rw == MAP_FAILED)
		goto bad;
	rx = mmap(NULL, bytes, PROT_READ | PROT_EXEC,
	    MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (rx == MAP_FAILED) {
		munmap(jit.rw, bytes);
		goto bad;
	}
	close(fd);
	jit.rx_off = rx - jit.rw;
	jit.size = bytes;
	return 0;
bad:
	close(fd);
	return -1;
}
