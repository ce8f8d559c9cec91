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
compact_add(struct compact *k, uint64_t at, uint64_t owner)
{
	if (k->n == k->room) {
		size_t room = k->room ? k->room * 2 : 256;
		struct unit *u = realloc(k->u, room * sizeof(*u));

		if (!u) {
			errno = ENOMEM;
			return -1;
		}
		k->u = u;
		k->room = room;
	}
	k->u[k->n++] = (struct unit){ at, owner };
	return 0;
}

static int
by_place(const void *a, const void *b)
{
	const struct unit *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

uint64_t
compact(struct img *im, struct compact *k)
{
	uint64_t to = 0;
	size_t i = 0;

	if (k->n)
		qsort(k->u, k->n, sizeof(*k->u), by_place);
	while (i < k->n) {
		struct unit *last = &k->u[k->n - 1];

		if (k->u[i].at == to) {
			i++;
			to++;
		} else if (last->owner == UNIT_FIXED) {
			to = last->at + 1;
			break;
		} else if (k->move(im, last->owner, last->at, to++)) {
			to = UINT64_MAX;
			break;
		} else
			k->n--;
	}
	free(k->u);
	*k = (struct compact){ 0 };
	return to;
}
