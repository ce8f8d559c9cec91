/*
 * file.h - between the two files of the file and host_device protocols.
 */
#ifndef FILE_H
#define FILE_H

#include "img.h"

struct file {
	int	fd;
	bool	dev;			/* a block device */
	bool	rw;			/* so is the descriptor */
	bool	locking;
	bool	nozero, nopunch;	/* what fallocate refused before */
	bool	noseek;
	uint32_t dio;			/* O_DIRECT alignment, 0 without */
	pthread_rwlock_t rmw;		/* O_DIRECT: alone to change a part of
					 * a block, shared to write whole ones */
};

/* open(2), or a copy of the descriptor that is lent under this name. */
int	file_fd(const char *name, int flags);
/* All of it at `off`; -1 with errno. */
int	file_write(int fd, const uint8_t *, size_t, uint64_t off);
int	file_pread(struct img *, void *, size_t, uint64_t off);
int	file_pwrite(struct img *, const void *, size_t, uint64_t off);
int	file_preadv(struct img *, const struct iovec *, unsigned n,
	    uint64_t off, int flags);
int	file_pwritev(struct img *, const struct iovec *, unsigned n,
	    uint64_t off, int flags);
int	file_zero(struct img *, uint64_t off, uint64_t len, int flags);
int	file_discard(struct img *, uint64_t off, uint64_t len);
int	file_copy(struct img *, uint64_t off, struct img *, uint64_t to,
	    uint64_t len);
int	file_flush(struct img *);

#endif
