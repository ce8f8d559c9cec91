/*
 * vm-io-look.c - vm-io's commands that describe the image.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm-io.h"

const char *
io_size(double v, char *b, size_t n)
{
	static const char *const u[] = { "bytes", "KiB", "MiB", "GiB", "TiB",
		"PiB", "EiB" };
	int i = 0;
	char num[48];
	size_t k;

	while (v >= 1024 && i < 6) {
		v /= 1024;
		i++;
	}
	snprintf(num, sizeof(num), "%.3f", v);
	k = strlen(num);
	if (k > 4 && !strcmp(num + k - 4, ".000"))
		num[k - 4] = 0;
	snprintf(b, n, "%s %s", num, u[i]);
	return b;
}

int
do_length(int argc, char **argv)
{
	char b[64];

	printf("%s\n", io_size((double)io_img->size, b, sizeof(b)));
	return 0;
}

int
do_info(int argc, char **argv)
{
	char b[64];
	struct js *d;
	char *s;

	printf("format name: %s\n", io_img->drv->name);
	printf("cluster size: %s\n", io_size(io_img->cluster, b, sizeof(b)));
	printf("vm state offset: %s\n", io_size((double)io_img->vmstate_off, b,
	    sizeof(b)));
	if (io_img->drv->info) {
		d = js_new(JDICT);
		io_img->drv->info(io_img, d);
		js_sort(d);
		s = js_human(d, 1);
		printf("Format specific information:\n%s", s);
		free(s);
		js_free(d);
	}
	return 0;
}

int
do_alloc(int argc, char **argv)
{
	struct img_status s;
	int64_t off, n = 512, left, sum = 0, at;
	char b[64];

	if (io_number(argv[1], &off) || (argc > 2 && io_number(argv[2], &n)))
		return 1;
	if ((uint64_t)off > io_img->size)
		n = 0;
	for (at = off, left = n; left; at += (int64_t)s.len,
	    left -= (int64_t)s.len) {
		if (img_status1(io_img, (uint64_t)at, (uint64_t)left, &s)) {
			printf("is_allocated failed: %s\n", strerror(errno));
			return 1;
		}
		if ((uint64_t)at >= io_img->size) {
			n -= left;
			break;
		}
		if (s.flags & IMG_ALLOC)
			sum += (int64_t)s.len;
	}
	printf("%" PRId64 "/%" PRId64 " bytes allocated at offset %s\n", sum, n,
	    io_size((double)off, b, sizeof(b)));
	return 0;
}

int
do_map(int argc, char **argv)
{
	struct img_status s;
	uint64_t off = 0, n;
	char a[64], b[64];
	bool al;

	if (!io_img->size) {
		printf("empty image\n");
		return 0;
	}
	while (off < io_img->size) {
		if (img_status1(io_img, off, io_img->size - off, &s)) {
			printf("Failed to get allocation status: %s\n",
			    strerror(errno));
			return 1;
		}
		al = s.flags & IMG_ALLOC;
		n = s.len;
		while (off + n < io_img->size && !img_status1(io_img, off + n,
		    io_img->size - off - n, &s) &&
		    !!(s.flags & IMG_ALLOC) == al)
			n += s.len;
		printf("%s (0x%" PRIx64 ") bytes %s allocated at offset %s (0x%"
		    PRIx64 ")\n", io_size((double)n, a, sizeof(a)), n, al ?
		    "   " : "not", io_size((double)off, b, sizeof(b)), off);
		off += n;
	}
	return 0;
}
