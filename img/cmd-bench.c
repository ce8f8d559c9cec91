/*
 * cmd-bench.c - vm-img bench: simple sequential requests, several at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"

struct bench {
	struct img	*im;
	pthread_mutex_t	lock;
	uint64_t	off, bs, step, left, done, flush_every;
	bool		write, fail, drain;
	int		pattern;
};

static void *
work(void *arg)
{
	struct bench *b = arg;
	uint8_t *buf = malloc(b->bs);
	uint64_t off, seq;

	if (!buf)
		return NULL;
	memset(buf, b->pattern, b->bs);
	for (;;) {
		pthread_mutex_lock(&b->lock);
		if (!b->left || b->fail) {
			pthread_mutex_unlock(&b->lock);
			break;
		}
		b->left--;
		off = b->off;
		b->off += b->step;
		if (b->im->size <= b->bs)
			b->off = 0;
		if (b->off + b->bs > b->im->size)
			b->off = 0;
		seq = ++b->done;
		pthread_mutex_unlock(&b->lock);
		if (b->write ? img_pwrite(b->im, buf, b->bs, off, 0) :
		    img_pread(b->im, buf, b->bs, off)) {
			fail("Failed request: %s", strerror(errno));
			b->fail = true;
		}
		if (b->flush_every && seq % b->flush_every == 0 &&
		    img_flush(b->im)) {
			fail("Failed flush request: %s", strerror(errno));
			b->fail = true;
		}
	}
	free(buf);
	return NULL;
}

static int
num(const char *what, const char *s, uint64_t max, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(s, &end, 0);
	if (errno || *end || end == s || *v > max) {
		fail("%s", what);
		return -1;
	}
	return 0;
}

int
cmd_bench(int argc, char **argv)
{
	enum { O_OBJ = 256, O_IO, O_PAT, O_FLUSH, O_NODRAIN };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "flush-interval", 1, 0, O_FLUSH },
		{ "pattern", 1, 0, O_PAT }, { "no-drain", 0, 0, O_NODRAIN },
		{ "image-opts", 0, 0, O_IO }, { "force-share", 0, 0, 'U' },
		{ "object", 1, 0, O_OBJ }, { 0 }
	};
	const char *fmt = NULL, *cache = "writeback";
	bool quiet = false, io = false;
	int c, flags = 0, r = 1, n = 0;
	uint64_t count = 75000, depth = 64, pat = 0, start;
	int64_t v;
	struct bench b = { .bs = 4096 };
	struct timespec t0, t1;
	pthread_t t[256];
	struct imgerr e;

	while ((c = getopt_long(argc, argv, ":hc:d:f:ni:o:qs:S:t:wU", lo,
	    NULL)) != -1)
		switch (c) {
		case ':': case '?': bad_option(c, argv);
		case 'h': help();
		case 'c':
			if (num("Invalid request count specified", optarg,
			    INT32_MAX, &count))
				return 1;
			break;
		case 'd':
			if (num("Invalid queue depth specified", optarg,
			    INT32_MAX, &depth))
				return 1;
			break;
		case 'f': fmt = optarg; break;
		case 'n': break;
		case 'i':
			if (aio_parse(optarg, &e)) {
				fail(errno == ENOTSUP ? "-i %s: %s" :
				    "Invalid aio option: %s", optarg, e.s);
				return 1;
			}
			break;
		case 'o':
			if ((v = size_arg("offset", optarg, 0, INT64_MAX)) < 0)
				return 1;
			b.off = (uint64_t)v;
			break;
		case 'q': quiet = true; break;
		case 's':
			if ((v = size_arg("buffer size", optarg, 1,
			    INT32_MAX)) < 0)
				return 1;
			b.bs = (uint64_t)v;
			break;
		case 'S':
			if ((v = size_arg("step_size", optarg, 1,
			    INT32_MAX)) < 0)
				return 1;
			b.step = (uint64_t)v;
			break;
		case 't': cache = optarg; break;
		case 'w': b.write = true; flags |= IMG_RDWR; break;
		case 'U': flags |= IMG_SHARE; break;
		case O_PAT:
			if (num("Invalid pattern byte specified", optarg, 0xff,
			    &pat))
				return 1;
			break;
		case O_FLUSH:
			if (num("Invalid flush interval specified", optarg,
			    INT32_MAX, &b.flush_every))
				return 1;
			break;
		case O_NODRAIN: break;
		case O_OBJ: object(optarg); break;
		case O_IO: io = true; break;
		}
	if (optind != argc - 1)
		usage_error("Expecting one image file name");
	if (!b.write && b.flush_every) {
		fail("--flush-interval is only available in write tests");
		return 1;
	}
	if (b.flush_every && b.flush_every < depth) {
		fail("Flush interval can't be smaller than depth");
		return 1;
	}
	if (cache_flags(cache, &flags)) {
		fail("Invalid cache mode");
		return 1;
	}
	if (!(b.im = cmd_open(io, argv[optind], fmt, flags, quiet)))
		return 1;
	if (!b.step)
		b.step = b.bs;
	b.left = count;
	b.pattern = (int)pat;
	start = b.off;
	if (start + b.bs > b.im->size) {
		fail("The image is too small for the requests");
		goto out;
	}
	if (!quiet) {
		printf("Sending %d %s requests, %d bytes each, %d in parallel "
		    "(starting at offset %lld, step size %lld)\n", (int)count,
		    b.write ? "write" : "read", (int)b.bs, (int)depth,
		    (long long)start, (long long)b.step);
		if (b.flush_every)
			printf("Sending flush every %d requests\n",
			    (int)b.flush_every);
	}
	fflush(stdout);
	pthread_mutex_init(&b.lock, NULL);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	while (n < (int)umin(depth, 32) && !pthread_create(&t[n], NULL, work,
	    &b))
		n++;
	while (n)
		pthread_join(t[--n], NULL);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	if (b.fail)
		goto out;
	if (!quiet)
		printf("Run completed in %3.3f seconds.\n",
		    (double)(t1.tv_sec - t0.tv_sec) +
		    (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
	r = 0;
out:
	img_close(b.im);
	return r;
}
