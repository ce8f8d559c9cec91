/*
 * vmdk.h - what the files of the VMware disk format share (not for others):
 * vmdk.c opens, vmdk-io.c reads and writes, vmdk-create.c creates.
 *
 * Changed grain table entries stay in memory until a flush has brought the
 * grains to disk; then both copies of the table are written.
 */
#ifndef VMDK_H
#define VMDK_H

#include "img.h"

enum {
	SECT = 512, DESC_MAX = 64 << 10, NEXT_MAX = 4096, GTES = 512,
	F_RGD = 2, F_ZGTE = 4, F_COMPR = 1 << 16, F_MARK = 1 << 17,
};

struct gt {				/* a grain table in memory */
	uint32_t	e[GTES];
	bool		dirty;
};

struct ext {
	struct img	*file;
	bool		own, flat, zero, compressed, zgte;
	uint64_t	start, size;	/* bytes of the disk */
	uint64_t	off;		/* flat: offset in the file */
	uint64_t	grain, gd_off, rgd_off, end;
	uint32_t	ngd, *gd, *rgd;
	struct gt	**gt;
	char		*name, *type;
};

struct vmdk {
	pthread_mutex_t	lock;
	struct ext	*x;
	int		n;
	char		*desc, type[64];
	uint64_t	desc_off, desc_len;	/* of the embedded one */
	uint32_t	cid, pcid;
	bool		cid_new, any_dirty;
};

/* vmdk-io.c */
/* The entry of the grain at `in` bytes of an extent: 0 none, 1 zeros (if zgte),
 * else its sector; and the table it is in, NULL if there is none.  Locked. */
int	vmdk_grain(struct img *, struct ext *, uint64_t in, uint32_t *,
	    struct gt **);
int	vmdk_flush(struct img *);
int	vmdk_pread(struct img *, void *, size_t, uint64_t);
int	vmdk_pwrite(struct img *, const void *, size_t, uint64_t);
int	vmdk_pwritec(struct img *, const void *, size_t, uint64_t);
int	vmdk_zero(struct img *, uint64_t, uint64_t, int);
int	vmdk_status(struct img *, uint64_t, uint64_t, struct img_status *);

/* vmdk-create.c */
extern const struct opt_desc vmdk_opts[];
int	vmdk_create(const char *, struct opts *, struct imgerr *);

#endif
