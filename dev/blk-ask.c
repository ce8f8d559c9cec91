/*
 * blk-ask.c - what the monitor asks a disk: what it is, how much it did, a new
 * size, new limits, commit, snapshots and jobs.  All that changes something is
 * done on the main thread with the workers idle, so that no request of the guest
 * is under way; the guest's wait.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../img/throttle.h"
#include "blk.h"

/* As QEMU's `info block' shows it.  Of a snapshot, the image under it. */
static void
block(struct blk_priv *b, FILE *out)
{
	const struct disk_opts *o = &options(b)->d;
	bool snap = b->temp && b->img->backing;
	const struct img *im = snap ? b->img->backing : b->img, *p;
	int depth = 0;

	fprintf(out, "%s (%s%s%s)\n", im->filename, im->drv->name,
	    b->ro ? ", read-only" : "", snap ? ", snapshot" : "");
	fprintf(out, "    Size:             %" PRIu64 " bytes\n", b->bytes);
	fprintf(out, "    Cache mode:       %s%s%s\n", o->cache ==
	    WRITETHROUGH || o->cache == DIRECTSYNC ? "writethrough" :
	    "writeback", im->flags & IMG_NOCACHE ? ", direct" : "",
	    im->flags & IMG_NOFLUSH ? ", ignore flushes" : "");
	if (o->zeroes)
		fprintf(out, "    Detect zeroes:    %s\n",
		    disk_zeroes_values[o->zeroes]);
	for (p = im->backing; p; p = p->backing)
		depth++;
	if (depth)
		fprintf(out, "    Backing file:     %s (chain depth: %d)\n",
		    im->backing->filename, depth);
	if (*b->last)
		fprintf(out, "    Last job:         %s\n", b->last);
}

static void
blockstats(struct blk_priv *b, FILE *out)
{
	fprintf(out, "rd_bytes=%" PRIu64 " wr_bytes=%" PRIu64
	    " rd_operations=%" PRIu64 " wr_operations=%" PRIu64
	    " flush_operations=%" PRIu64 " unmap_operations=%" PRIu64
	    " rd_total_time_ns=%" PRIu64 " wr_total_time_ns=%" PRIu64
	    " flush_total_time_ns=%" PRIu64 " failed_operations=%" PRIu64 "\n",
	    b->rd_bytes, b->wr_bytes, b->rd_ops, b->wr_ops, b->flush_ops,
	    b->unmap_ops, b->rd_ns, b->wr_ns, b->flush_ns, b->errors);
}

static int
resize(struct blk_priv *b, char **argv, FILE *out)
{
	const char *arg = argv[1];
	uint64_t size;
	struct imgerr e;

	if (blk_busy(b, out) || blk_nbd_busy(b, out))
		return EBUSY;
	blk_quiet(b);
	if (parse_size(arg, &size)) {
		fprintf(out, "%s: not a size", arg);
		return EINVAL;
	}
	if (size % SECTOR || size == 0) {
		fprintf(out, "The new size must be a multiple of 512");
		return EINVAL;
	}
	if (img_truncate(b->img, size, PRE_OFF, &e)) {
		fprintf(out, "%s", e.s);
		return errno;
	}
	b->bytes = b->img->size & ~(uint64_t)(options(b)->lbs - 1);
	virtio_config_changed(&b->v);
	return 0;
}

static int
commit(struct blk_priv *b, char **argv, FILE *out)
{
	struct img *base = b->img->backing;
	struct imgerr e;
	int r;

	if (blk_busy(b, out))
		return EBUSY;
	blk_quiet(b);
	if (!base || b->ro) {
		fprintf(out, base ? "the disk is read-only" :
		    "there is no backing image");
		return ENOTSUP;		/* nothing that `all' means */
	}
	if (img_writable(base, true, &e)) {
		fprintf(out, "%s", e.s);
		return errno;
	}
	r = img_commit(b->img, base, base, NULL, &e) ? errno : 0;
	if (img_writable(base, false, r ? NULL : &e) && !r)
		r = errno;
	if (!r && b->img->drv->empty && b->img->drv->empty(b->img)) {
		r = errno;
		err_set(&e, r, "Could not empty the image: %s", strerror(r));
	}
	if (r)
		fprintf(out, "%s", e.s);
	return r;
}

/* The words are the image library's: bps-total=N ... */
static int
limits(struct blk_priv *b, char **argv, FILE *out)
{
	struct throttle *t;
	struct opts o = { 0 };
	struct imgerr e;
	char key[64];

	for (argv++; *argv; argv++) {
		size_t n = strcspn(*argv, "=");

		snprintf(key, sizeof key, "throttling.%.*s", (int)n, *argv);
		if ((*argv)[n] && strcmp(*argv + n, "=0"))
			opts_set(&o, key, *argv + n + 1);
	}
	if (throttle_parse(&o, &t, &e)) {
		opts_free(&o);
		return blk_say(out, &e);
	}
	opts_free(&o);
	blk_quiet(b);
	throttle_free(b->img->throttle);
	b->img->throttle = t;
	return 0;
}

static int
block_info(struct blk_priv *b, char **argv, FILE *out)
{
	block(b, out);
	return 0;
}

static int
stats(struct blk_priv *b, char **argv, FILE *out)
{
	blockstats(b, out);
	return 0;
}

static const struct {
	const char	*word;
	int		words;		/* at least */
	int		(*fn)(struct blk_priv *, char **argv, FILE *out);
} table[] = {
	{ "block", 1, block_info },
	{ "blockstats", 1, stats },
	{ "resize", 2, resize },
	{ "limits", 1, limits },
	{ "commit", 1, commit },
	{ "snapshot", 2, blk_snapshot },
	{ "snapshot-internal", 2, blk_snap_internal },
	{ "snapshot-delete", 2, blk_snap_delete },
	{ "stream", 1, blk_stream },
	{ "backup", 2, blk_copy },
	{ "mirror", 2, blk_copy },
	{ "job", 1, blk_job_ask },
	{ "nbd", 2, blk_nbd_ask },
};

int
blk_ask(struct devctx *d, char **argv, FILE *out)
{
	unsigned i;
	int n = 0, e = ENOTSUP;

	while (argv[n])
		n++;
	for (i = 0; i < sizeof table / sizeof table[0]; i++)
		if (!strcmp(argv[0], table[i].word) && n >= table[i].words) {
			e = table[i].fn(d->priv, argv, out);
			break;
		}
	blk_go_on(d->priv);
	return e;
}
