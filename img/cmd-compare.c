/*
 * cmd-compare.c - vm-img compare: is the guest's view of two images equal?
 * Exit: 0 identical, 1 different, 2 open failed, 3 block status failed,
 * 4 read failed.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static bool quiet;

static void __attribute__((format(printf, 1, 2)))
say(const char *fmt, ...)
{
	va_list ap;

	if (quiet)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
}

/* First differing 512-byte block, or n. */
static size_t
differ(const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t i;

	if (!memcmp(a, b, n))
		return n;
	for (i = 0; i < n && !memcmp(a + i, b + i, umin(512, n - i)); i += 512)
		;
	return i;
}

/* [off, off+n) of `im` reads as zeros: 0, 1 mismatch, 4 error. */
static int
zeros(struct img *im, const char *name, uint64_t off, uint64_t n, uint8_t *buf,
    uint64_t *bad)
{
	while (n) {
		size_t k = umin(n, CHUNK);

		if (img_pread(im, buf, k, off)) {
			fail("Error while reading offset %llu of %s: %s",
			    (unsigned long long)off, name, strerror(errno));
			return 4;
		}
		if (!is_zero(buf, k)) {
			size_t i = 0;

			while (is_zero(buf + i, umin(512, k - i)))
				i += 512;
			*bad = off + i;
			return 1;
		}
		off += k;
		n -= k;
	}
	return 0;
}

int
cmd_compare(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "force-share", 0, 0, 'U' },
		{ 0 }
	};
	const char *f1 = NULL, *f2 = NULL, *cache = "writeback", *n1, *n2;
	bool prog_on = false, strict = false, io = false;
	int c, flags = 0, r;
	struct img *a, *b, *longer;
	struct img_status s, t;
	uint64_t off = 0, total, max, n, bad;
	uint8_t *p, *q;

	while ((c = getopt_long(argc, argv, ":hf:F:T:pqsU", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': f1 = optarg; break;
		case 'F': f2 = optarg; break;
		case 'T': cache = optarg; break;
		case 'p': prog_on = true; break;
		case 'q': quiet = true; break;
		case 's': strict = true; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (quiet)
		prog_on = false;
	if (optind != argc - 2)
		usage_error("Expecting two image file names");
	n1 = argv[optind];
	n2 = argv[optind + 1];
	progress_init(false);
	if (cache_flags(cache, &flags)) {
		fail("Invalid source cache option: %s", cache);
		return 2;
	}
	if (!(a = cmd_open(io, n1, f1, flags, quiet)))
		return 2;
	if (!(b = cmd_open(io, n2, f2, flags, quiet)))
		return 2;
	progress_init(prog_on);
	p = malloc(CHUNK);
	q = malloc(CHUNK);
	total = umin(a->size, b->size);
	max = umax(a->size, b->size);
	r = 1;
	if (strict && a->size != b->size) {
		say("Strict mode: Image size mismatch!\n");
		goto out;
	}
	while (off < total) {
		unsigned mask = IMG_DATA | IMG_ZERO | IMG_ALLOC | IMG_MAPPED;

		if (img_status(a, NULL, off, total - off, &s)) {
			fail("Sector allocation test failed for %s", n1);
			r = 3;
			goto out;
		}
		if (img_status(b, NULL, off, total - off, &t)) {
			fail("Sector allocation test failed for %s", n2);
			r = 3;
			goto out;
		}
		n = umin(s.len, t.len);
		if (strict && ((s.flags ^ t.flags) & mask)) {
			say("Strict mode: Offset %llu block status mismatch!\n",
			    (unsigned long long)off);
			goto out;
		}
		if ((s.flags & IMG_ZERO || !s.depth) && (t.flags & IMG_ZERO ||
		    !t.depth)) {
			/* nothing to look at */
		} else if (!(s.flags & IMG_ZERO || !s.depth) &&
		    !(t.flags & IMG_ZERO || !t.depth)) {
			size_t d;

			n = umin(n, CHUNK);
			if (img_pread(a, p, n, off)) {
				fail("Error while reading offset %llu of %s: %s",
				    (unsigned long long)off, n1,
				    strerror(errno));
				r = 4;
				goto out;
			}
			if (img_pread(b, q, n, off)) {
				fail("Error while reading offset %llu of %s: %s",
				    (unsigned long long)off, n2,
				    strerror(errno));
				r = 4;
				goto out;
			}
			d = differ(p, q, n);
			if (d < n) {
				say("Content mismatch at offset %llu!\n",
				    (unsigned long long)(off + d));
				goto out;
			}
		} else {
			bool za = s.flags & IMG_ZERO || !s.depth;

			n = umin(n, 8 * CHUNK);
			r = zeros(za ? b : a, za ? n2 : n1, off, n, p, &bad);
			if (r) {
				if (r == 1)
					say("Content mismatch at offset "
					    "%llu!\n", (unsigned long long)bad);
				goto out;
			}
			r = 1;
		}
		off += n;
		progress((double)off * 100 / (double)max);
	}
	if (a->size != b->size) {
		longer = a->size > b->size ? a : b;
		say("Warning: Image size mismatch!\n");
		while (off < max) {
			if (img_status(longer, NULL, off, max - off, &s)) {
				fail("Sector allocation test failed for %s",
				    longer == a ? n1 : n2);
				r = 3;
				goto out;
			}
			n = umin(s.len, 8 * CHUNK);
			if (s.depth && !(s.flags & IMG_ZERO) && (r = zeros(
			    longer, longer == a ? n1 : n2, off, n, p, &bad))) {
				if (r == 1)
					say("Content mismatch at offset "
					    "%llu!\n", (unsigned long long)bad);
				goto out;
			}
			r = 1;
			off += n;
			progress((double)off * 100 / (double)max);
		}
	}
	say("Images are identical.\n");
	r = 0;
out:
	free(p);
	free(q);
	img_close(a);
	img_close(b);
	if (prog_on)
		progress_end();
	return r;
}
