/*
 * arena.c - guest RAM: one sealed memfd, mapped once by every part.
 *
 * The file cannot shrink or grow any more once it is made, so that no peer can
 * turn another's access into SIGBUS.  Pages come into being when the guest
 * touches them; nothing is reserved.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "mem.h"

static int
map_ram(struct ram *r)
{
	void *p;

	p = mmap(NULL, r->size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_NORESERVE, r->fd, 0);
	if (p == MAP_FAILED)
		return -1;
	/* best effort: shmem huge pages are the administrator's choice */
	madvise(p, r->size, MADV_HUGEPAGE);
	madvise(p, r->size, MADV_DONTDUMP);
	r->base = p;
	r->low = r->size < RAM_HOLE ? r->size : RAM_HOLE;
	return 0;
}

int
ram_create(struct ram *r, const char *name, uint64_t size)
{
	struct sysinfo si;
	int e;

	memset(r, 0, sizeof *r);
	r->fd = -1;
	if (size == 0 || size % PAGE_SIZE_4K != 0 || size > INT64_MAX) {
		errno = EINVAL;
		return -1;
	}
	/* A memfd is never refused for its size; what cannot ever fit is. */
	if (sysinfo(&si) == 0 &&
	    size > ((uint64_t)si.totalram + si.totalswap) * si.mem_unit) {
		errno = ENOMEM;
		return -1;
	}
	r->size = size;
	r->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (r->fd < 0)
		return -1;
	if (ftruncate(r->fd, (off_t)size) < 0 ||
	    fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW |
	    F_SEAL_SEAL) < 0 || map_ram(r) < 0) {
		e = errno;
		close(r->fd);
		r->fd = -1;
		errno = e;
		return -1;
	}
	return 0;
}

int
ram_attach(struct ram *r, int fd, uint64_t size)
{
	memset(r, 0, sizeof *r);
	r->fd = fd;
	r->size = size;
	if (size == 0 || size % PAGE_SIZE_4K != 0) {
		errno = EINVAL;
		return -1;
	}
	return map_ram(r);
}

void
ram_detach(struct ram *r)
{
	if (r->base != NULL)
		munmap(r->base, r->size);
	if (r->fd >= 0)
		close(r->fd);
	memset(r, 0, sizeof *r);
	r->fd = -1;
}
