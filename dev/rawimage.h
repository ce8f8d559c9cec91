/*
 * rawimage.h - a raw disk image, file or block device, as chips use it: opened
 * and locked, read and written with guest memory in place.
 */
#ifndef RAWIMAGE_H
#define RAWIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define SECTOR	512u

enum img_cache { WRITEBACK, NONE, WRITETHROUGH, UNSAFE, DIRECTSYNC };
enum img_locking { LOCK_AUTO, LOCK_ON, LOCK_OFF };

struct rawimage {
	const char	*path;
	int		fd;
	bool		ro, direct;
	bool		unsafe;		/* flush does nothing */
	uint64_t	bytes;		/* size, whole sectors */
	uint32_t	align;		/* of buffers and lengths if direct */
};

/* What of a transfer is still to be done. */
struct xfer {
	const struct iovec *iov;
	unsigned	n;
	size_t		skip;		/* bytes of iov[0] that are done */
	off_t		off;
	uint64_t	len;
};

/* Open and lock.  0, or -1 with "PATH: reason" in why.  auto: a file system
 * without locks is no error. */
int	img_open(struct rawimage *, const char *path, bool ro,
	    enum img_cache, enum img_locking, bool share_rw, char *why,
	    size_t whylen);
void	img_close(struct rawimage *);

/* All of these: 0 or errno value; any thread. */
int	img_transfer(const struct rawimage *, struct xfer *, bool write,
	    int flags);
int	img_buf(const struct rawimage *, void *buf, uint64_t len, off_t off,
	    bool write);
int	img_sync(const struct rawimage *);
/* Make a range read as zeros; `unmap`: it need not stay allocated. */
int	img_zero(const struct rawimage *, off_t off, uint64_t len, bool unmap);
int	img_discard(const struct rawimage *, off_t off, uint64_t len);

#endif
