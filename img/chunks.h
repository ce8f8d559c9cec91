/*
 * chunks.h - disks to read whose pieces are compressed each for itself: what
 * cloop and dmg have in common.  The piece unpacked last is kept.
 */
#ifndef CHUNKS_H
#define CHUNKS_H

#include "img.h"

enum { CHUNK_MAX = 64 << 20 };		/* bytes of one, packed or not */
enum chunk_kind { CHUNK_ZERO, CHUNK_PLAIN, CHUNK_ZLIB, CHUNK_BZ2, CHUNK_ADC };

struct chunk {
	uint64_t	at, off;	/* where on the disk, in the file */
	uint64_t	len;		/* bytes there */
	uint32_t	packed;
	enum chunk_kind	kind;
};
struct chunks {
	pthread_mutex_t	lock;
	struct chunk	*c;
	size_t		n, room;
	struct chunk	*now;		/* in buf, or NULL */
	uint8_t		*buf;
};

struct chunks *chunks_new(void);
void	chunks_free(struct chunks *);
/* -1 with errno if memory is short or a chunk is larger than they may be.
 * CHUNK_ZERO and CHUNK_PLAIN may have any length. */
int	chunks_add(struct chunks *, enum chunk_kind, uint64_t at, uint64_t len,
	    uint64_t off, uint64_t packed);
/* All are there: sort them, load what unpacks them. */
int	chunks_ready(struct chunks *, struct imgerr *);
/* For an image whose priv they are; what no chunk has is zeros. */
int	chunks_pread(struct img *, void *, size_t, uint64_t off);
/* Tells zeros, which QEMU's drivers do not. */
int	chunks_status(struct img *, uint64_t off, uint64_t len,
	    struct img_status *);
void	chunks_close(struct img *);

#endif
