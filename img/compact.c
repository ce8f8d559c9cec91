/*
 * compact.c - moves the last units of a file to where nothing is: see compact.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "compact.h"

int
compact_copy(struct img *im, uint64_t from, uint64_t to, uint64_t len)
{
	uint8_t *b = malloc(len);
	int r;

	if (!b) {
		errno = ENOMEM;
		return -1;
	}
	r = img_pread_backing(im->file, b, len, from) ||
	    img_pwrite(im->file, b, len, to, 0) ? -1 : 0;
	free(b);
	return r;
}

int
compact(struct img *im, struct compact *k)
{
	for (uint64_t lo = 0;;) {
		while (k->n && !k->owner[k->n - 1])
			k->n--;
		while (lo < k->n && k->owner[lo])
			lo++;
		if (lo >= k->n || k->owner[k->n - 1] == UNIT_FIXED)
			return 0;
		if (k->move(im, k->owner[k->n - 1], k->n - 1, lo))
			return -1;
		k->owner[lo] = k->owner[k->n - 1];
		k->owner[k->n - 1] = 0;
	}
}
