/*
 * cmd-convert.c - vm-img convert: copy what guests see into a new image.
 *
 * Theory of operation.  A cursor walks the source's block status; threads
 * take chunks from it under a lock, read, look for zeros and write outside
 * it.  Writes to a format that allocates go in the order of the chunks, so
 * that the result is not fragmented, unless -W; compressed ones do not wait,
 * since compressing is the work.  Zeros cost nothing where the target is
 * known to be zero.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"

struct conv {
	struct img	**src, *dst;
	uint64_t	*base;		/* where each source starts */
	int		nsrc;
	uint64_t	total, pos, data, moved;
	bool		has_zero, compressed, back, ordered, salvage, quiet;
	_Atomic bool	offload;	/* -C, until it has failed */
	uint64_t	sparse, cluster, shared_from;
	pthread_mutex_t	lock;
	pthread_cond_t	turn;
	uint64_t	next_seq, now_seq;
	int		failed;
	char		why[256];
};

static void
broke(struct conv *c, const char *what, uint64_t off)
{
	int eno = errno;

	pthread_mutex_lock(&c->lock);
	if (!c->failed) {
		c->failed = 1;
		snprintf(c->why, sizeof(c->why), "error while %s at byte "
		    "%llu: %s", what, (unsigned long long)off, strerror(eno));
	}
	pthread_cond_broadcast(&c->turn);
	pthread_mutex_unlock(&c->lock);
}

enum kind { K_DATA, K_ZERO, K_BACK, K_END, K_COPIED };

/* The next piece; lock held. */
static enum kind
take(struct conv *c, uint64_t *off, uint64_t *len, struct img **src)
{
	struct img_status s;
	uint64_t max, o;
	int i;

	if (c->failed || c->pos >= c->total)
		return K_END;
	for (i = c->nsrc - 1; c->base[i] > c->pos; i--)
		;
	*src = c->src[i];
	*off = c->pos;
	o = c->pos - c->base[i];
	if (o >= (*src)->size) {
		/* rounding between two sources: zeros */
		*len = (i + 1 < c->nsrc ? c->base[i + 1] : c->total) - c->pos;
		c->pos += *len;
		return K_ZERO;
	}
	max = (*src)->size - o;
	if (img_status(*src, c->back ? (*src)->backing : NULL, o, max, &s)) {
		if (!c->salvage) {
			c->failed = 1;
			snprintf(c->why, sizeof(c->why), "error while reading "
			    "block status at offset %llu: %s",
			    (unsigned long long)c->pos, strerror(errno));
			return K_END;
		}
		s.flags = IMG_DATA | IMG_ALLOC;
		s.depth = 1;
		s.len = umin(max, CHUNK);
	}
	if (c->back && !s.depth && *off >= c->shared_from) {
		s.depth = 1;
		s.flags = IMG_ZERO;
	}
	*len = s.len;
	if (c->compressed && s.len % c->cluster && s.len < max) {
		/* whole clusters only: mixed ones are data */
		if (s.len < c->cluster) {
			*len = umin(max, c->cluster);
			s.flags = IMG_DATA;
			s.depth = 1;
		} else
			*len = rdown(s.len, c->cluster);
	}
	if (!s.depth && c->back) {
		c->pos += *len;
		return K_BACK;
	}
	if (s.flags & IMG_ZERO || !s.depth) {
		if (c->sparse) {
			c->pos += *len;
			return K_ZERO;
		}
	}
	*len = umin(*len, CHUNK - (*off & (CHUNK - 1)));
	c->pos += *len;
	return K_DATA;
}

static int
write_data(struct conv *c, const uint8_t *p, uint64_t off, size_t n)
{
	size_t at, k;
	bool z;

	if (c->compressed) {
		for (at = 0; at < n; at += k) {
			k = umin(c->cluster, n - at);
			if (c->sparse && is_zero(p + at, k)) {
				if (!c->has_zero && img_zero(c->dst, off + at,
				    k, IMG_MAYUNMAP))
					return -1;
				continue;
			}
			if (img_pwritec(c->dst, p + at, k, off + at))
				return -1;
		}
		return 0;
	}
	if (!c->sparse)
		return img_pwrite(c->dst, p, n, off, 0);
	for (at = 0; at < n; at += k) {
		k = zero_run(p + at, n - at, c->sparse, &z);
		if (!z) {
			/* short zero runs are not worth a hole */
			if (img_pwrite(c->dst, p + at, k, off + at, 0))
				return -1;
		} else if (!c->has_zero || c->back) {
			if (img_zero(c->dst, off + at, k, IMG_MAYUNMAP))
				return -1;
		}
	}
	return 0;
}

/* -C: have the kernel copy; true if it did.  After the first failure, data is
 * read and written, as the manual has it. */
static bool
offload(struct conv *c, struct img *src, uint64_t from, uint64_t to,
    uint64_t len)
{
	if (!c->offload)
		return false;
	if (!img_copy(src, from, c->dst, to, len))
		return true;
	c->offload = false;
	return false;
}

static void
salvage(struct conv *c, struct img *src, uint8_t *p, uint64_t off, size_t n)
{
	for (size_t i = 0; i < n; i += 512) {
		size_t k = umin(512, n - i);

		if (img_pread(src, p + i, k, off + i)) {
			memset(p + i, 0, k);
			if (!c->quiet)
				warning("error while reading offset %llu: %s",
				    (unsigned long long)(off + i),
				    strerror(errno));
		}
	}
}

static void *
work(void *arg)
{
	struct conv *c = arg;
	uint8_t *buf;
	uint64_t off = 0, len = 0, seq, base;
	struct img *src = NULL;
	enum kind k;
	int r;

	if (posix_memalign((void **)&buf, 4096, CHUNK)) {
		errno = ENOMEM;
		broke(c, "allocating memory", 0);
		return NULL;
	}
	for (;;) {
		pthread_mutex_lock(&c->lock);
		k = take(c, &off, &len, &src);
		seq = c->next_seq++;
		base = 0;
		for (int i = 0; i < c->nsrc; i++)
			if (c->src[i] == src && c->base[i] <= off)
				base = c->base[i];
		pthread_mutex_unlock(&c->lock);
		if (k == K_END)
			break;
		if (k == K_DATA && offload(c, src, off - base, off, len))
			k = K_COPIED;
		if (k == K_DATA && img_pread(src, buf, len, off - base)) {
			if (!c->salvage) {
				broke(c, "reading", off);
				break;
			}
			salvage(c, src, buf, off - base, len);
		}
		if (c->ordered) {
			pthread_mutex_lock(&c->lock);
			while (c->now_seq != seq && !c->failed)
				pthread_cond_wait(&c->turn, &c->lock);
			pthread_mutex_unlock(&c->lock);
			if (c->failed)
				break;
		}
		r = 0;
		if (k == K_DATA)
			r = write_data(c, buf, off, len);
		else if (k == K_ZERO && (!c->has_zero || c->back))
			r = img_zero(c->dst, off, len, IMG_MAYUNMAP);
		if (r) {
			broke(c, "writing", off);
			break;
		}
		if (k == K_DATA || k == K_COPIED)
			rate_moved(len);
		pthread_mutex_lock(&c->lock);
		if (c->ordered) {
			c->now_seq++;
			pthread_cond_broadcast(&c->turn);
		}
		c->moved += len;
		progress((double)c->moved * 100 / (double)c->total);
		pthread_mutex_unlock(&c->lock);
	}
	free(buf);
	return NULL;
}

static int
copy(struct conv *c, int threads)
{
	pthread_t t[64];
	int n = 0;

	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->turn, NULL);
	while (n < threads - 1 && !pthread_create(&t[n], NULL, work, c))
		n++;
	work(c);
	while (n)
		pthread_join(t[--n], NULL);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->turn);
	if (c->failed)
		fail("%s", c->why);
	return c->failed;
}

static int
copy_bitmaps(struct img *src, struct img *dst)
{
	struct img_bitmap *b = NULL;
	struct imgerr e;
	int n = 0, r = 0;

	if (!src->drv->bm_list || src->drv->bm_list(src, &b, &n))
		n = 0;
	for (int i = 0; i < n && !r; i++) {
		if (b[i].in_use) {
			fail("Cannot copy inconsistent bitmap '%s'", b[i].name);
			r = 1;
		} else if (dst->drv->bm_op(dst, BM_ADD, b[i].name,
		    b[i].granularity, &e) || dst->drv->bm_merge(dst, b[i].name,
		    src, b[i].name, &e) || (!b[i].enabled && dst->drv->bm_op(
		    dst, BM_DISABLE, b[i].name, 0, &e))) {
			fail("Failed to populate bitmap %s: %s", b[i].name,
			    e.s);
			r = 1;
		}
	}
	free(b);
	return r;
}

static int
load_snapshot(struct img *im, const char *param)
{
	struct opts o = { 0 };
	struct imgerr e;
	const char *id = NULL, *name = NULL;
	int r;

	if (!im->drv->snap_load) {
		fail("Failed to load snapshot: Block format '%s' used by device "
		    "'' does not support temporarily loading internal "
		    "snapshots", im->drv->name);
		return -1;
	}
	if (!strncmp(param, "snapshot.", 9)) {
		opts_text(&o, param, NULL, &e);
		id = opts_get(&o, "snapshot.id");
		name = opts_get(&o, "snapshot.name");
		r = im->drv->snap_load(im, id, name, &e);
	} else {
		r = im->drv->snap_load(im, param, NULL, &e);
		if (r)
			r = im->drv->snap_load(im, NULL, param, &e);
	}
	if (r)
		fail("Failed to load snapshot: %s", e.s);
	opts_free(&o);
	return r;
}

/* What it takes to open what these creation options make. */
static void
secrets(const struct opts *o, struct opts *to)
{
	for (const struct optval *p = o->head; p; p = p->next) {
		size_t n = strlen(p->key);

		if (!strcmp(p->key, "key-secret") || (n > 11 &&
		    !strcmp(p->key + n - 11, ".key-secret")))
			opts_set(to, p->key, p->val);
	}
}

int
cmd_convert(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO, O_TIO, O_TZ, O_SALV, O_BM, O_SKIP };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "source-image-opts", 0, 0, O_IO },
		{ "image-opts", 0, 0, O_IO },
		{ "force-share", 0, 0, 'U' },
		{ "target-image-opts", 0, 0, O_TIO },
		{ "salvage", 0, 0, O_SALV }, { "target-is-zero", 0, 0, O_TZ },
		{ "bitmaps", 0, 0, O_BM },
		{ "skip-broken-bitmaps", 0, 0, O_SKIP }, { 0 }
	};
	const char *fmt = NULL, *ofmt = "raw", *cache = "unsafe", *out;
	const char *scache = "writeback", *snap = NULL, *bname = NULL;
	const char *bfmt = NULL;
	bool io = false, tio = false, tzero = false, bitmaps = false;
	bool skip_broken = false;
	bool sparse_said = false, nocreate = false, prog_on = false, wild = false;
	int ch, flags = 0, sflags = 0, threads = 0, r = 1;
	int64_t sparse = 4096, rate = 0;
	struct conv c = { 0 };
	struct opts o = { 0 }, to = { 0 };
	struct imgerr e;
	const struct img_driver *d = NULL;
	struct img *b = NULL;
	bool known;

	while ((ch = getopt_long(argc, argv, ":hf:O:B:CcF:o:l:S:pt:T:qnm:WUr:",
	    lo, NULL)) != -1)
		switch (ch) {
		case ':': case '?': bad_option(ch, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'O': ofmt = optarg; break;
		case 'B': bname = optarg; break;
		case 'F': bfmt = optarg; break;
		case 'C': c.offload = true; break;
		case 'c': c.compressed = true; break;
		case 'o': create_opts(&o, optarg); break;
		case 'l': snap = optarg; break;
		case 'S':
			sparse = size_arg("buffer size for sparse output",
			    optarg, 0, INT64_MAX);
			if (sparse < 0)
				return 1;
			sparse_said = true;
			if (sparse & 511 || sparse > 16 << 20) {
				fail("Invalid buffer size for sparse output "
				    "specified. Valid sizes are multiples of "
				    "512 up to 16777216. Select 0 to disable "
				    "sparse detection (fully allocates "
				    "output).");
				return 1;
			}
			break;
		case 'p': prog_on = true; break;
		case 't': cache = optarg; break;
		case 'T': scache = optarg; break;
		case 'q': c.quiet = true; break;
		case 'n': nocreate = true; break;
		case 'm':
			threads = atoi(optarg);
			if (threads < 1 || threads > 16 ||
			    optarg[strspn(optarg, "0123456789")]) {
				fail("Invalid number of coroutines. Allowed "
				    "number of coroutines is between 1 and "
				    "16");
				return 1;
			}
			break;
		case 'W': wild = true; break;
		case 'U': sflags |= IMG_SHARE; break;
		case 'r':
			if ((rate = size_arg("rate limit", optarg, 0,
			    INT64_MAX)) < 0)
				return 1;
			break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		case O_TIO: tio = true; break;
		case O_TZ: tzero = true; break;
		case O_SALV: c.salvage = true; break;
		case O_BM: bitmaps = true; break;
		case O_SKIP: skip_broken = true; break;
		}
	if (opts_peek(&o, "help"))
		return print_create_help(ofmt, optind < argc ?
		    argv[argc - 1] : NULL, false);
	if (c.compressed && c.offload) {
		fail("Cannot enable copy offloading when -c is used");
		return 1;
	}
	if (sparse_said && c.offload) {
		fail("Cannot enable copy offloading when -S is used");
		return 1;
	}
	if (tio && !nocreate) {
		fail("--target-image-opts requires use of -n flag");
		return 1;
	}
	if (tzero && !nocreate) {
		fail("--target-is-zero requires use of -n flag");
		return 1;
	}
	if (cache_flags(scache, &sflags)) {
		fail("Invalid source cache option: %s", scache);
		return 1;
	}
	if (c.quiet)
		prog_on = false;
	c.nsrc = argc - optind - 1;
	if (c.nsrc < 1) {
		fail("Must specify image file name");
		return 1;
	}
	out = argv[argc - 1];
	c.src = calloc((size_t)c.nsrc, sizeof(*c.src));
	c.base = calloc((size_t)c.nsrc, sizeof(*c.base));
	if (skip_broken && !bitmaps) {
		fail("Use of --skip-broken-bitmaps requires --bitmaps");
		goto out;
	}
	/* who writes to a source destroys what is read from it */
	sflags |= IMG_NOWRITERS | IMG_NORESIZERS;
	for (int i = 0; i < c.nsrc; i++) {
		c.src[i] = cmd_open(io, argv[optind + i], fmt, sflags,
		    c.quiet);
		if (!c.src[i])
			goto out;
		c.base[i] = c.total;
		c.total += c.src[i]->size;
	}
	if (snap) {
		if (c.nsrc > 1) {
			fail("No support for concatenating multiple snapshot");
			goto out;
		}
		if (load_snapshot(c.src[0], snap))
			goto out;
		c.total = c.src[0]->size;
	}
	if (!nocreate) {
		if (!(d = img_driver_find(ofmt))) {
			fail("Unknown file format '%s'", ofmt);
			goto out;
		}
		if (!d->create) {
			fail("Format driver '%s' does not support image "
			    "creation", ofmt);
			goto out;
		}
		if (!img_protocol(out, &known)->create) {
			fail("Protocol driver '%s' does not support image "
			    "creation", img_protocol(out, &known)->name);
			goto out;
		}
		if (check_opts(&o, d, img_protocol(out, &known), &e)) {
			fail("%s", e.s);
			goto out;
		}
		if (bname)
			opts_set(&o, "backing_file", bname);
		if (bfmt)
			opts_set(&o, "backing_fmt", bfmt);
		bname = opts_peek(&o, "backing_file");
		bfmt = opts_peek(&o, "backing_fmt");
		if (bname && !d->backing) {
			fail("Backing file not supported for file format '%s'",
			    ofmt);
			goto out;
		}
		if (bname && !bfmt) {
			fail("Use of backing file requires explicit backing "
			    "format");
			goto out;
		}
	}
	if (bname && c.nsrc > 1) {
		fail("Having a backing file for the target makes no sense when "
		    "concatenating multiple input images");
		goto out;
	}
	if (bname) {
		struct opts bo = { 0 };
		char *path = img_backing_path(out, bname);

		if (bfmt)
			opts_set(&bo, "driver", bfmt);
		b = img_open(path, NULL, &bo, 0, &e);
		free(path);
		if (!b) {
			fail("Could not open backing image: %s", e.s);
			goto out;
		}
		c.shared_from = b->size;
		img_close(b);
		c.back = true;
	}
	if (d && c.compressed) {
		const char *pre = opts_peek(&o, "preallocation");

		if (!d->pwritec) {
			fail("Compression not supported for this file format");
			goto out;
		}
		if (opts_peek(&o, "encryption") ||
		    opts_peek(&o, "encrypt.format")) {
			fail("Compression and encryption not supported at the "
			    "same time");
			goto out;
		}
		if (pre && strcmp(pre, "off")) {
			fail("Compression and preallocation not supported at "
			    "the same time");
			goto out;
		}
	}
	if (bitmaps && !c.src[0]->drv->bm_op) {
		fail("Source lacks bitmap support");
		goto out;
	}
	if (bitmaps && d && !d->bm_op) {
		fail("Format driver '%s' does not support bitmaps", ofmt);
		goto out;
	}
	if (!nocreate) {
		secrets(&o, &to);
		if (!opts_peek(&o, "size"))
			opts_setf(&o, "size", "%llu",
			    (unsigned long long)c.total);
		if (img_create(ofmt, out, &o, &e)) {
			fail("%s: error while converting %s: %s", out, ofmt,
			    e.s);
			goto out;
		}
	}
	flags = IMG_RDWR | IMG_UNMAP;
	if (cache_flags(cache, &flags)) {
		fail("Invalid cache option: %s", cache);
		goto out;
	}
	c.dst = cmd_open_with(tio, out, tio ? NULL : ofmt, &to, flags);
	if (!c.dst)
		goto out;
	if (c.total > c.dst->size && nocreate) {
		fail("output file is smaller than input file");
		goto out;
	}
	c.compressed |= c.dst->only_compressed;
	if (c.compressed && !c.dst->drv->pwritec) {
		fail("Compression not supported for this file format");
		goto out;
	}
	c.total = umin(c.total, c.dst->size);
	c.has_zero = tzero || (!nocreate && c.dst->zero_init &&
	    !c.dst->backing);
	c.sparse = (uint64_t)sparse;
	c.cluster = c.dst->cluster ? c.dst->cluster : 65536;
	c.ordered = !wild && !c.compressed && c.dst->cluster;
	if (!threads) {		/* not asked: what the machine has */
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);

		threads = cpus < 2 ? 2 : cpus > 16 ? 16 : (int)cpus;
	}
	rate_limit((uint64_t)rate);
	progress_init(prog_on);
	if (!c.has_zero && !c.back && c.sparse && c.dst->drv->zero) {
		/* one go at all of it, if that is cheap */
		if (!img_zero(c.dst, 0, c.dst->size, IMG_MAYUNMAP |
		    IMG_NOFALLBACK))
			c.has_zero = true;
	}
	if (c.total && copy(&c, threads))
		goto out;
	progress(100);
	if (bitmaps && copy_bitmaps(c.src[0], c.dst))
		goto out;
	r = 0;
out:
	if (img_close(c.dst) && !r) {
		fail("Could not flush: %s", strerror(errno));
		r = 1;
	}
	if (prog_on && c.dst)
		progress_end();
	for (int i = 0; i < c.nsrc; i++)
		img_close(c.src[i]);
	free(c.src);
	free(c.base);
	opts_free(&o);
	opts_free(&to);
	return r;
}
