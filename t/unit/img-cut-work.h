/* A random workload, and what each block of the disk may hold at any time. */
#ifndef IMG_CUT_WORK_H
#define IMG_CUT_WORK_H

enum { SIZE = 2 << 20, BLK = 512, NBLK = SIZE / BLK };
static struct was {			/* a block's contents, oldest first */
	struct turn {
		uint32_t	start;	/* records when its write began */
		uint16_t	tag;	/* 0: zeros */
	}		*t;
	size_t		n, room;
} was[NBLK];
static uint16_t snapshot[NBLK];

static void
fill(uint8_t *b, uint16_t tag)
{
	memset(b, tag & 0xff, BLK);
	ple16(b, tag);
}

static void
becomes(uint64_t blk, size_t start, uint16_t tag)
{
	struct was *w = &was[blk];

	if (w->n == w->room && !(w->t = realloc(w->t, (w->room = w->room * 2 +
	    4) * sizeof(*w->t))))
		err(1, "realloc");
	w->t[w->n++] = (struct turn){ (uint32_t)start, tag };
}

/* May block `blk` be `b` after a cut before record `at`? */
static bool
may_be(uint64_t blk, size_t at, const uint8_t *b)
{
	const struct was *w = &was[blk];
	uint8_t want[BLK];
	size_t promised = 0, i;

	/* what was complete when the last flush began is promised */
	for (i = at; i && !promised; i--)
		if (rec[i - 1].op == PROMISE)
			promised = (size_t)rec[i - 1].off;
	for (i = w->n; i; i--) {
		if (w->t[i - 1].start >= at)
			continue;	/* not begun yet */
		fill(want, w->t[i - 1].tag);
		if (!memcmp(b, want, BLK))
			return true;
		if (w->t[i - 1].start < promised)
			return false;	/* that is it */
	}
	return is_zero(b, BLK);
}

static int
snap(struct img *im, bool *have)
{
	struct img_snap s = { .name = "s" };
	struct imgerr e;
	int r;

	if (!*have) {
		r = im->drv->snap_create(im, &s, &e);
		for (uint64_t j = 0; j < NBLK; j++)
			snapshot[j] = was[j].n ? was[j].t[was[j].n - 1].tag : 0;
		*have = true;
	} else if (rnd(3)) {
		r = im->drv->snap_delete(im, "s", &e);
		*have = false;
	} else {
		for (uint64_t j = 0; j < NBLK; j++)
			becomes(j, nrec, snapshot[j]);
		r = im->drv->snap_apply(im, "s", &e);
	}
	return r;
}

static void
work(struct img *im, int ops, bool snaps)
{
	static uint8_t b[256 * BLK];
	uint16_t tag = 0;
	size_t start;
	bool have = false;

	for (uint64_t j = 0; j < NBLK; j++)
		was[j].n = 0;
	for (int i = 0; i < ops; i++) {
		uint64_t blk = rnd(NBLK), n = rnd(rnd(4) ? 64 : 256) + 1, j;
		int k = (int)rnd(20), r;

		if (!rnd(3))
			blk = rnd(NBLK / 16);	/* often the same places */
		n = umin(n, NBLK - blk);
		start = nrec;
		if (k < 2) {
			r = img_flush(im);
			note(PROMISE, -1, start, 0, NULL);
		} else if (k < 6) {
			for (j = 0; j < n; j++)
				becomes(blk + j, start, 0);
			r = img_zero(im, blk * BLK, n * BLK, k < 4 ?
			    IMG_MAYUNMAP : 0);
		} else if (k == 6 && snaps) {
			r = snap(im, &have);
		} else {
			tag++;
			for (j = 0; j < n; j++) {
				fill(b + j * BLK, tag);
				becomes(blk + j, start, tag);
			}
			r = img_pwrite(im, b, n * BLK, blk * BLK, k == 7 ?
			    IMG_FUA : 0);
			if (k == 7)
				note(PROMISE, -1, start, 0, NULL);
		}
		if (r)
			err(1, "operation %d", i);
	}
}

#endif
