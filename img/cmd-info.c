/*
 * cmd-info.c - vm-img info: what an image (or its chain) is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"

void
print_snapshots(FILE *f, struct img *im)
{
	struct img_snap *s = NULL;
	int n = 0;

	if (!im->drv->snap_list || im->drv->snap_list(im, &s, &n) || !n) {
		free(s);
		return;
	}
	fprintf(f, "Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG",
	    "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	for (int i = 0; i < n; i++) {
		char date[64], clk[64], sz[32], ic[32] = "";
		time_t t = s[i].sec;
		struct tm tm;
		uint64_t sec = s[i].clock_nsec / 1000000000;

		localtime_r(&t, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
		snprintf(clk, sizeof(clk), "%02d:%02d:%02d.%03d",
		    (int)(sec / 3600), (int)(sec / 60 % 60), (int)(sec % 60),
		    (int)(s[i].clock_nsec / 1000000 % 1000));
		if (s[i].icount != UINT64_MAX)
			snprintf(ic, sizeof(ic), "%lld",
			    (long long)s[i].icount);
		fprintf(f, "%-9s %-16s %8s%20s%13s%11s\n", s[i].id, s[i].name,
		    size_human(s[i].vm_size, sz), date, clk, ic);
	}
	free(s);
}

static struct js *
snapshots_js(struct img *im)
{
	struct img_snap *s = NULL;
	struct js *l, *o;
	int n = 0;

	if (!im->drv->snap_list || im->drv->snap_list(im, &s, &n) || !n) {
		free(s);
		return NULL;
	}
	l = js_new(JLIST);
	for (int i = 0; i < n; i++) {
		o = js_add(l, NULL, js_new(JDICT));
		js_str(o, "id", s[i].id);
		js_str(o, "name", s[i].name);
		js_int(o, "vm-state-size", (int64_t)s[i].vm_size);
		js_int(o, "date-sec", s[i].sec);
		js_int(o, "date-nsec", s[i].nsec);
		js_int(o, "vm-clock-sec", (int64_t)(s[i].clock_nsec /
		    1000000000));
		js_int(o, "vm-clock-nsec", (int64_t)(s[i].clock_nsec %
		    1000000000));
		if (s[i].icount != UINT64_MAX)
			js_int(o, "icount", (int64_t)s[i].icount);
	}
	free(s);
	return l;
}

static struct js *
specific(struct img *im)
{
	struct js *d;

	if (!im->drv->info)
		return NULL;
	d = js_new(JDICT);
	im->drv->info(im, d);
	js_sort(d);
	return d;
}

static void
human(struct img *im)
{
	char b[32], c[32], *s, *path;
	int64_t a = img_allocated(im);
	struct js *d;

	printf("image: %s\nfile format: %s\nvirtual size: %s (%llu bytes)\n",
	    im->filename, im->drv->name, size_human(im->size, b),
	    (unsigned long long)im->size);
	printf("disk size: %s\n", a < 0 ? "unavailable" :
	    size_human((uint64_t)a, c));
	if (im->encrypted)
		printf("encrypted: yes\n");
	if (im->cluster)
		printf("cluster_size: %u\n", im->cluster);
	if (im->dirty)
		printf("cleanly shut down: no\n");
	if (im->backing_name) {
		printf("backing file: %s", im->backing_name);
		path = img_backing_path(im->filename, im->backing_name);
		if (strcmp(path, im->backing_name))
			printf(" (actual path: %s)", path);
		free(path);
		putchar('\n');
		if (im->backing_fmt)
			printf("backing file format: %s\n", im->backing_fmt);
	}
	print_snapshots(stdout, im);
	if ((d = specific(im))) {
		s = js_human(d, 1);
		printf("Format specific information:\n%s", s);
		free(s);
		js_free(d);
	}
}

extern const struct img_driver drv_raw;

static struct js *
json(struct img *im)
{
	struct js *o = js_new(JDICT), *d, *f;
	int64_t a = img_allocated(im);
	char *path;

	js_str(o, "filename", im->filename);
	js_str(o, "format", im->drv->name);
	js_int(o, "virtual-size", (int64_t)im->size);
	if (a >= 0)
		js_int(o, "actual-size", a);
	if (!im->drv->terse && !(im->drv == &drv_raw && im->file->drv->terse))
		js_bool(o, "dirty-flag", im->dirty);
	if (im->encrypted)
		js_bool(o, "encrypted", true);
	if (im->cluster)
		js_int(o, "cluster-size", im->cluster);
	if (im->backing_name) {
		path = img_backing_path(im->filename, im->backing_name);
		js_str(o, "backing-filename", im->backing_name);
		js_str(o, "full-backing-filename", path);
		free(path);
		if (im->backing_fmt)
			js_str(o, "backing-filename-format", im->backing_fmt);
	}
	if ((d = snapshots_js(im)))
		js_add(o, "snapshots", d);
	if ((d = specific(im))) {
		f = js_add(o, "format-specific", js_new(JDICT));
		js_str(f, "type", im->drv->name);
		js_add(f, "data", d);
	}
	return o;
}

int
cmd_info(int argc, char **argv)
{
	enum { O_OUT = 256, O_CHAIN, O_OBJ, O_IO };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "format", 1, 0, 'f' },
		{ "output", 1, 0, O_OUT }, { "backing-chain", 0, 0, O_CHAIN },
		{ "object", 1, 0, O_OBJ }, { "image-opts", 0, 0, O_IO },
		{ "force-share", 0, 0, 'U' }, { 0 }
	};
	const char *fmt = NULL, *bf = NULL, *outarg = NULL;
	bool chain = false, io = false, first = true;
	int c, out = OUT_HUMAN, flags = IMG_NOBACKING | IMG_NOIO, depth = 0;
	struct js *list = js_new(JLIST);
	char *name, *seen[256], *s;
	struct img *im;

	while ((c = getopt_long(argc, argv, ":hf:U", lo, NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'f': fmt = optarg; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_OUT: outarg = optarg; break;
		case O_CHAIN: chain = true; break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	if (outarg)
		out = output_arg(outarg);
	name = strdup(argv[optind]);
	while (name) {
		for (int i = 0; i < depth; i++)
			if (!strcmp(seen[i], name)) {
				fail("Backing file '%s' creates an infinite "
				    "loop.", name);
				return 1;
			}
		if (depth == 255) {
			fail("Backing chain of '%s' is too long", argv[optind]);
			return 1;
		}
		seen[depth++] = name;
		im = cmd_open(io, name, bf ? bf : fmt, flags, false);
		if (!im)
			return 1;
		if (out == OUT_JSON)
			js_add(list, NULL, json(im));
		else {
			if (!first)
				putchar('\n');
			human(im);
		}
		first = io = false;
		name = NULL;
		fmt = NULL;
		bf = NULL;
		if (chain && im->backing_name) {
			name = img_backing_path(im->filename,
			    im->backing_name);
			if (im->backing_fmt)
				bf = strdup(im->backing_fmt);
		}
		img_close(im);
	}
	if (out == OUT_JSON) {
		js_sort(list);
		s = js_text(chain ? list : list->kid, true);
		puts(s);
		free(s);
	}
	js_free(list);
	while (depth)
		free(seen[--depth]);
	return 0;
}
