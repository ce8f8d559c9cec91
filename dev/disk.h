/*
 * disk.h - the image behind a disk, as chips have it: their options for it, and
 * how those open it with the image library (img/img.h).
 */
#ifndef DISK_H
#define DISK_H

#include "dev.h"
#include "../img/img.h"

enum disk_cache { WRITEBACK, NONE, WRITETHROUGH, UNSAFE, DIRECTSYNC };

struct disk_opts {
	const char	*file;		/* name, or json:{...} */
	const char	*image;		/* instead: driver options, a=b,c.d=e */
	const char	*format;	/* NULL: probe */
	const char	*secret;	/* -object secret,...: NULL or its words */
	const char	*key;		/* its id, for the image: luks, */
	const char	*qkey;		/* and for qcow2 and qcow */
	const char	*throttle;	/* limits: bps-total=N,iops-read=N ... */
	bool		readonly, snapshot, cor, share_rw;
	int		cache, discard, zeroes, locking, aio;
};
extern const char *const disk_cache_values[], *const disk_discard_values[],
	*const disk_zeroes_values[], *const disk_locking_values[],
	*const disk_aio_values[];

/* Rows of a chip's option table, for member `m` (struct disk_opts) of `st`. */
#define DISK_O(st, m, f) (offsetof(struct st, m) + offsetof(struct disk_opts, f))
#define DISK_OPTS(st, m) \
	{ "file", OPT_STR, DISK_O(st, m, file), NULL, \
	    "image file or block device", NULL }, \
	{ "image", OPT_STR, DISK_O(st, m, image), NULL, \
	    "instead of file: options of its driver, a=b,c.d=e", NULL }, \
	{ "format", OPT_STR, DISK_O(st, m, format), NULL, \
	    "raw, qcow2, ...; looked for if not stated", NULL }, \
	{ "secret", OPT_STR, DISK_O(st, m, secret), NULL, \
	    "password: id=ID,file=FILE or data=TEXT", NULL }, \
	{ "key-secret", OPT_STR, DISK_O(st, m, key), NULL, \
	    "the id of it, for a luks image", NULL }, \
	{ "encrypt.key-secret", OPT_STR, DISK_O(st, m, qkey), NULL, \
	    "the same for an encrypted qcow2 or qcow image", NULL }, \
	{ "throttle", OPT_STR, DISK_O(st, m, throttle), NULL, \
	    "limits a second: bps-total=N,iops-read=N ...", NULL }, \
	{ "readonly", OPT_BOOL, DISK_O(st, m, readonly), "off", \
	    "refuse writes", NULL }, \
	{ "snapshot", OPT_BOOL, DISK_O(st, m, snapshot), "off", \
	    "keep writes in a temporary file", NULL }, \
	{ "copy-on-read", OPT_BOOL, DISK_O(st, m, cor), "off", \
	    "keep what is read from the backing image", NULL }, \
	{ "cache", OPT_ENUM, DISK_O(st, m, cache), "writeback", "host cache", \
	    disk_cache_values }, \
	{ "discard", OPT_ENUM, DISK_O(st, m, discard), "unmap", \
	    "what discard does", disk_discard_values }, \
	{ "detect-zeroes", OPT_ENUM, DISK_O(st, m, zeroes), "off", \
	    "writes of zeroes become write-zeroes", disk_zeroes_values }, \
	{ "aio", OPT_ENUM, DISK_O(st, m, aio), "threads", \
	    "how requests wait", disk_aio_values }, \
	{ "locking", OPT_ENUM, DISK_O(st, m, locking), "auto", \
	    "lock the image", disk_locking_values }, \
	{ "share-rw", OPT_BOOL, DISK_O(st, m, share_rw), "off", \
	    "other writers may open the image", NULL }

/* Open the image with its backing chain; before sandbox(), for files are
 * opened and, with snapshot, one is made.  NULL: "FILE: reason" in why.  The
 * caller closes it with img_close(). */
struct img *disk_open(const struct disk_opts *, char *why, size_t whylen);
/* An image for the disk to use from now on, in `fd`, which is open for reading
 * and writing and is the callee's: as it is, of the format given or looked for,
 * or made first with the options of `create`.  Without its backing image. */
struct img *disk_target(const struct disk_opts *, int fd, const char *name,
	    const char *format, struct opts *create, struct imgerr *);
/* `to` is used in place of `from` from now on. */
void	disk_hand_on(struct img *from, struct img *to);
/* What the user calls it. */
const char *disk_name(const struct disk_opts *);
/* discard= says that discarded space is given back. */
bool	disk_unmaps(const struct disk_opts *);

#endif
