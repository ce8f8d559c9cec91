/*
 * cmd-map.c - vm-img map: where the guest's data is, image by image.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

struct ent {
	uint64_t	off, len, map;
	unsigned	flags;
	int		depth;
	struct img	*file;
};

/* One answer, merged by the caller. */
static int
ask(struct img *im, uint64_t off, uint64_t len, struct ent *e)
{
	struct img_status s;
	struct img *p = im;
	int depth = 0;

	for (;; p = p->backing, depth++) {
		if (img_status1(p, off, len, &s))
			return -1;
		if (s.flags & (IMG_ZERO | IMG_DATA) || !p->backing)
			break;
		len = s.len;
	}
	if (s.flags & IMG_EOF && off >= p->size)
		s.len = len;
	*e = (struct ent){ off, umin(s.len, len), s.map, s.flags, depth,
	    s.flags & IMG_MAPPED ? s.file : NULL };
	return 0;
}

static bool
joins(const struct ent *a, const struct ent *b)
{
	unsigned m = IMG_DATA | IMG_ZERO | IMG_MAPPED | IMG_ALLOC;

	return !((a->flags ^ b->flags) & m) && a->depth == b->depth &&
	    a->file == b->file && (!(a->flags & IMG_MAPPED) ||
	    a->map + a->len == b->map);
}

static int
print(const struct ent *e, const struct ent *next, int out)
{
	bool data = e->flags & IMG_DATA, zero = e->flags & IMG_ZERO;

	if (out == OUT_HUMAN) {
		if (data && !(e->flags & IMG_MAPPED)) {
			fail("File contains external, encrypted or compressed "
			    "clusters.");
			return -1;
		}
		if (data && !zero)
			printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64
			    "%s\n", e->off, e->len,
			    e->flags & IMG_MAPPED ? e->map : 0,
			    e->file ? e->file->filename : "");
		return 0;
	}
	printf("{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": "
	    "%d, \"present\": %s, \"zero\": %s, \"data\": %s", e->off, e->len,
	    e->depth, e->flags & IMG_ALLOC ? "true" : "false",
	    zero ? "true" : "false", data ? "true" : "false");
	if (e->flags & IMG_MAPPED)
		printf(", \"offset\": %" PRIu64, e->map);
	putchar('}');
	if (next)
		printf(",\n");
	return 0;
}

int
cmd_map(int argc, char **argv)
{
	enum { O_OUT = 256, O_OBJ, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "format", 1, 0, 'f' },
		{ "output", 1, 0, O_OUT }, { "object", 1, 0, O_OBJ },
		{ "image-opts", 0, 0, O_IO }, { "force-share", 0, 0, 'U' },
		{ "start-offset", 1, 0, 's' }, { "max-length", 1, 0, 'l' },
		{ 0 }
	};
	const char *fmt = NULL;
	bool io = false, any = false;
	int c, out = OUT_HUMAN, flags = 0, r = 1;
	int64_t start = 0, maxlen = -1;
	struct ent cur = { 0 }, e;
	uint64_t off, end;
	struct img *im;

	while ((c = getopt_long(argc, argv, ":f:s:l:hU", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_OUT: out = output_arg(optarg); break;
		case 's':
			if ((start = size_arg("start offset", optarg, 0,
			    INT64_MAX)) < 0)
				return 1;
			break;
		case 'l':
			if ((maxlen = size_arg("max length", optarg, 0,
			    INT64_MAX)) < 0)
				return 1;
			break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	if (!(im = cmd_open(io, argv[optind], fmt, flags, false)))
		return 1;
	if (out == OUT_HUMAN)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to",
		    "File");
	else
		putchar('[');
	end = im->size;
	off = (uint64_t)start;
	if (maxlen >= 0 && (uint64_t)maxlen < end - umin(off, end))
		end = off + (uint64_t)maxlen;
	while (off < end) {
		if (ask(im, off, umin(end - off, GiB), &e)) {
			fail("Failed to read image metadata: %s",
			    strerror(errno));
			goto out;
		}
		off += e.len;
		if (any && joins(&cur, &e)) {
			cur.len += e.len;
			continue;
		}
		if (any && print(&cur, &e, out))
			goto out;
		cur = e;
		any = true;
	}
	/* where there is nothing, a line about nothing */
	if (!any)
		cur.off = (uint64_t)start;
	if (print(&cur, NULL, out))
		goto out;
	if (out == OUT_JSON)
		printf("]\n");
	r = 0;
out:
	img_close(im);
	return r;
}
