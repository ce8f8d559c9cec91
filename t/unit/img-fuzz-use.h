/* What is done to a hostile image: a bit of everything. */
#ifndef IMG_FUZZ_USE_H
#define IMG_FUZZ_USE_H

static uint64_t ops;			/* the state that chooses */
static struct img *im;

static uint64_t
pick(uint64_t n)
{
	return fz_rnd(&ops, n);
}

static void
silent(void *arg, bool bad, const char *s)
{
}

/* A place in the disk where something may be. */
static uint64_t
place(void)
{
	uint64_t c = im->cluster ? im->cluster : 4096;

	switch (pick(5)) {
	case 0: return 0;
	case 1: return pick(16) * c;
	case 2: return pick(1 << 20);
	case 3: return im->size - umin(im->size, pick(2 * c + 1));
	}
	return pick(im->size + 1);
}

static uint64_t
length(uint64_t off)
{
	uint64_t n = pick(3) ? pick(70000) : pick(600);

	return umin(n, off < im->size ? im->size - off : 0);
}

static void
look(void)
{
	struct js *j = js_new(JDICT);
	char *s;

	if (im->drv->info)
		im->drv->info(im, j);
	js_sort(j);
	s = js_text(j, true);
	free(s);
	s = js_human(j, 1);
	free(s);
	js_free(j);
	img_allocated(im);
}

static void
map(void)
{
	struct img_status s;
	uint64_t off = pick(2) ? 0 : place();

	for (int i = 0; i < 300 && off < im->size; i++, off += s.len) {
		if (img_status(im, NULL, off, im->size - off, &s))
			return;
		if (!s.len || s.len > im->size - off)
			fz_end("a status of no length, or beyond the end");
	}
}

static void
check(int fix)
{
	struct img_check c = { .say = silent, .fix = fix };
	struct imgerr e = { "" };

	if (im->drv->check && im->drv->check(im, &c, &e) && !*e.s)
		fz_end("a failed check says nothing");
}

static void
snapshots(void)
{
	struct imgerr e;
	struct img_snap *s = NULL, one = { .name = "new" };
	const char *id = "1";
	int n = 0;

	if (!im->drv->snap_list)
		return;
	if (!im->drv->snap_list(im, &s, &n) && n)
		id = pick(2) ? s[pick((uint64_t)n)].id :
		    s[pick((uint64_t)n)].name;
	switch (pick(5)) {
	case 0: im->drv->snap_create(im, &one, &e); break;
	case 1: im->drv->snap_apply(im, id, &e); break;
	case 2: im->drv->snap_delete(im, id, &e); break;
	case 3: im->drv->snap_load(im, id, NULL, &e); break;
	}
	free(s);
}

static void
bitmaps(void)
{
	static const uint32_t gran[] = { 0, 512, 65536, 2 << 20 };
	struct imgerr e;
	struct img_bitmap *b = NULL;
	const char *name = "b0";
	uint64_t run;
	bool dirty;
	int n = 0, op = (int)pick(8);

	if (!im->drv->bm_list)
		return;
	if (!im->drv->bm_list(im, &b, &n) && n)
		name = b[pick((uint64_t)n)].name;
	if (op <= BM_DISABLE)
		im->drv->bm_op(im, op, op == BM_ADD ? "new" : name,
		    gran[pick(4)], &e);
	else if (op == 5)
		im->drv->bm_merge(im, name, im, n ? b[0].name : "b1", &e);
	else
		for (uint64_t off = 0; off < im->size; off += run)
			if (im->drv->bm_status(im, name, off, im->size - off,
			    &dirty, &run) || pick(50) == 0)
				break;
			else if (!run)
				fz_end("a bitmap's run of no length");
	free(b);
}

static void
amend(void)
{
	static const char *const text[] = { "compat=0.10", "compat=1.1",
		"lazy_refcounts=on", "lazy_refcounts=off", "refcount_bits=64",
		"refcount_bits=1", "size=9M" };
	struct opts o = { 0 };
	struct imgerr e;

	if (!im->drv->amend || im->encrypted)
		return;
	opts_text(&o, text[pick(7)], NULL, &e);
	im->drv->amend(im, &o, pick(2), NULL, &e);
	opts_free(&o);
}

static void
other(void)
{
	struct img_measure m;
	struct opts o = { 0 };
	struct imgerr e;
	uint8_t b[3000] = { 1 };

	switch (pick(5)) {
	case 0:
		if (im->drv->measure)
			im->drv->measure(&o, im, &m, &e);
		opts_free(&o);
		break;
	case 1:
		if (im->drv->set_backing && im->flags & IMG_RDWR)
			im->drv->set_backing(im, pick(2) ? NULL : "base",
			    "raw");
		break;
	case 2:
		if (im->drv->empty && im->flags & IMG_RDWR)
			im->drv->empty(im);
		break;
	case 3:
		if (im->drv->vmstate)
			im->drv->vmstate(im, im->flags & IMG_RDWR && pick(2),
			    b, sizeof(b), pick(5000));
		break;
	case 4:
		img_truncate(im, pick(4) ? rup(im->size + pick(1 << 20), 512) :
		    pick(1 << 21) & ~511ull, PRE_OFF, &e);
	}
}

static void
operation(void)
{
	static uint8_t b[70000];
	uint64_t off = place(), n = length(off);

	switch (pick(12)) {
	case 0: look(); break;
	case 1: map(); break;
	case 2: case 3: img_pread(im, b, n, off); break;
	case 4: case 5: img_pwrite(im, b, n, off, 0); break;
	case 6:
		if (pick(2))
			img_zero(im, off, n, pick(2) ? IMG_MAYUNMAP : 0);
		else
			img_discard(im, off, n);
		break;
	case 7:
		n = im->cluster && im->cluster <= sizeof(b) ? im->cluster : 0;
		off = n ? rdown(off, n) : 0;
		b[0]++;
		if (n)
			img_pwritec(im, b, umin(n, im->size - off), off);
		break;
	case 8: check(im->flags & IMG_RDWR ? (int)pick(3) : 0); break;
	case 9: snapshots(); break;
	case 10: bitmaps(); break;
	case 11: pick(2) ? other() : amend(); break;
	}
}

/* True if it was an image. */
static bool
use(const char *path, const char *fmt, const char *options, uint64_t choose)
{
	struct opts o = { 0 };
	struct imgerr e;
	int fl = IMG_NOLOCK | IMG_NOFLUSH, n;
	bool taken;

	ops = choose;
	opts_text(&o, options, NULL, &e);
	if (pick(4))
		fl |= IMG_RDWR | IMG_UNMAP | (pick(4) ? 0 : IMG_RESIZE);
	if (!pick(4))
		fl |= IMG_CHECK;
	if (pick(2))
		fl |= IMG_NOBACKING;
	*e.s = 0;
	im = img_open(path, pick(16) ? fmt : NULL, &o, fl, &e);
	opts_free(&o);
	taken = im;
	if (!im && !*e.s)
		fz_end("it does not open and says nothing");
	if (im && fl & IMG_CHECK)
		check(fl & IMG_RDWR ? (int)pick(3) : 0);
	for (n = 1 + (int)pick(6); im && n; n--)
		operation();
	img_close(im);
	if (!taken || !(fl & IMG_RDWR) || pick(3))
		return taken;
	opts_text(&o, options, NULL, &e);
	im = img_open(path, fmt, &o, IMG_NOLOCK | IMG_NOBACKING, &e);
	opts_free(&o);
	if (im) {
		map();
		operation();
		check(0);
	}
	img_close(im);
	return taken;
}

#endif
