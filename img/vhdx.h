/*
 * vhdx.h - between the files of the VHDX format: [MS-VHDX], "Virtual Hard Disk
 * v2 (VHDX) File Format", whose sections the comments name.
 */
#ifndef VHDX_H
#define VHDX_H

#include "img.h"

enum { VHDX_SECTOR = 4096, VHDX_HEADER = 4096, VHDX_TABLE = 65536,
	VHDX_LOG_MAX = 64 << 20, VHDX_BLOCK_MAX = 256 << 20 };
/* States of a block, 2.6.1.1. */
enum { B_NONE, B_UNDEFINED, B_ZERO, B_UNMAPPED, B_PRESENT = 6, B_PARTLY };

struct vhdx_header {			/* 2.2.2; the current one */
	uint8_t		b[VHDX_HEADER];	/* as in the file */
	uint64_t	seq, log_off;
	uint32_t	log_len;
	unsigned	slot;		/* 0 or 1 */
};

extern const uint8_t vhdx_id_bat[16], vhdx_id_meta[16], vhdx_id_param[16],
	vhdx_id_size[16], vhdx_id_disk[16], vhdx_id_logical[16],
	vhdx_id_physical[16];
extern const struct opt_desc vhdx_opts[];
int	vhdx_create(const char *name, struct opts *, struct imgerr *);

/* CRC-32C; `crc` is 0 or the value of the bytes before. */
uint32_t vhdx_crc(uint32_t crc, const void *, size_t);
/* Of a structure with its sum in bytes 4 to 7, which count as zeros. */
uint32_t vhdx_sum(const void *, size_t);
int	vhdx_random(uint8_t guid[16]);
/* Write the other header with a higher number: `data`: guests' data is going to
 * change; the log's GUID as given (NULL: none). */
int	vhdx_header_write(struct img *file, struct vhdx_header *, bool data,
	    const uint8_t *log_guid);
/* 2.3.3: what the log holds into the file, if `write`.  1: there is something,
 * 0: there is nothing, -1: damaged. */
int	vhdx_log(struct img *file, const struct vhdx_header *, bool write,
	    struct imgerr *);

#endif
