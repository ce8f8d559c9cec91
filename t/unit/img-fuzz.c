/* links: img */
/*
 * img-fuzz FORMAT SEEDS FINDINGS COUNT [SEED]: COUNT hostile images of FORMAT,
 * made from those of SEEDS/FORMAT (see t/fuzz-seeds), are opened and used in
 * this process.  img-fuzz FORMAT SEEDS -r INPUT [FILE] runs one input as a
 * finding has it, or leaves its image in FILE.
 *
 * A seed is a directory with the image `x', perhaps files it names, and the
 * options to open it with in `options'.  An input is a seed and a few changes
 * of its files.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <gcrypt.h>

#include "img/img.h"
#include "img/vhdx.h"
#include "fuzz.h"
#include "img-fuzz-use.h"

enum { PATCHES = 10, FILES = 4, BLOCK = 512 };
enum op { SET, CUT, SWAP, COPY, NOPS };
static const char *const op_name[NOPS] = { "set", "cut", "swap", "copy" };
struct patch {
	uint64_t	at, to;
	uint8_t		op, file, n, b[16];
};
struct input {
	uint32_t	seed, n;
	uint64_t	ops;
	struct patch	p[PATCHES];
};
struct file {
	char		name[64];
	uint64_t	size;
	uint8_t		*data;
	uint32_t	*word;			/* where a number is */
	uint32_t	*part;			/* what is not zeros: from, to */
	size_t		nword, npart;
	int		fd;
};
static struct seed {
	char		name[128], options[200];
	struct file	f[FILES];
	unsigned	n;
} seeds[64];
static unsigned nseeds;
static const char *format;
static char dir[] = "/dev/shm/img-fuzz.XXXXXX";

/* Keys from passwords take long on purpose: those seen before are remembered,
 * others have few rounds. */
gcry_error_t
gcry_kdf_derive(const void *pw, size_t npw, int algo, int sub, const void *salt,
    size_t nsalt, unsigned long iter, size_t n, void *out)
{
	static struct {
		unsigned long iter;
		size_t	nsalt, n;
		int	sub;
		uint8_t	pw[64], salt[64], out[128];
	} known[64];
	static unsigned used;
	static gcry_error_t (*real)(const void *, size_t, int, int,
	    const void *, size_t, unsigned long, size_t, void *);
	gcry_error_t r;
	unsigned i;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "gcry_kdf_derive");
	for (i = 0; i < used; i++)
		if (known[i].iter == iter && known[i].nsalt == nsalt &&
		    known[i].n == n && known[i].sub == sub &&
		    !memcmp(known[i].pw, pw, umin(npw, 64)) &&
		    !memcmp(known[i].salt, salt, nsalt)) {
			memcpy(out, known[i].out, n);
			return 0;
		}
	if (fz->running && iter > 100)
		iter = 100;
	r = real(pw, npw, algo, sub, salt, nsalt, iter, n, out);
	if (!fz->running && used < 64 && n <= 128 && nsalt <= 64) {
		known[used].iter = iter;
		known[used].nsalt = nsalt;
		known[used].n = n;
		known[used].sub = sub;
		memcpy(known[used].pw, pw, umin(npw, 64));
		memcpy(known[used].salt, salt, nsalt);
		memcpy(known[used++].out, out, n);
	}
	return r;
}

/* ------------------------------------------------------------------ seeds */

/* Words that are not zero nor what the seeds' disks are filled with. */
static void
find_words(struct file *f)
{
	f->word = malloc((f->size / 4 + 1) * sizeof(*f->word));
	for (uint64_t i = 0; f->word && i + 4 <= f->size; i += 4) {
		uint32_t w = le32(f->data + i);

		if (w && w != (w & 0xff) * 0x01010101u)
			f->word[f->nword++] = (uint32_t)i;
	}
	f->word[f->nword++] = 0;
}

static void
find_parts(struct file *f)
{
	f->part = malloc((f->size / BLOCK + 2) * 2 * sizeof(*f->part));
	for (uint64_t i = 0, j; f->part && i < f->size; i = j + BLOCK) {
		for (j = i; j < f->size && !is_zero(f->data + j, umin(BLOCK,
		    f->size - j)); j += BLOCK)
			;
		if (j > i) {
			f->part[f->npart++] = (uint32_t)i;
			f->part[f->npart++] = (uint32_t)umin(j, f->size);
		}
	}
}

static void
load_file(struct seed *s, const char *path, const char *name)
{
	struct file *f = &s->f[s->n];
	int fd = open(path, O_RDONLY);
	off_t n = lseek(fd, 0, SEEK_END);

	if (!strcmp(name, "options")) {
		if (pread(fd, s->options, sizeof(s->options) - 1, 0) < 0)
			err(1, "%s", path);
		close(fd);
		return;
	}
	if (s->n == FILES)
		errx(1, "%s: too many files", path);
	snprintf(f->name, sizeof(f->name), "%.63s", name);
	f->size = (uint64_t)n;
	f->data = calloc(1, f->size + 16);
	if (fd < 0 || !f->data || pread(fd, f->data, f->size, 0) != n)
		err(1, "%s", path);
	close(fd);
	find_words(f);
	find_parts(f);
	s->n++;
	if (!strcmp(name, "x") && s->n > 1) {	/* the image is the first */
		struct file t = s->f[0];

		s->f[0] = *f;
		*f = t;
	}
}

static void
load_seeds(const char *top)
{
	char path[600], file[900];
	struct dirent *d, *g;
	DIR *dp, *sub;

	snprintf(path, sizeof(path), "%s/%s", top, format);
	if (!(dp = opendir(path)))
		err(1, "%s", path);
	while ((d = readdir(dp)) && nseeds < 64) {
		struct seed *s = &seeds[nseeds];

		if (*d->d_name == '.')
			continue;
		snprintf(s->name, sizeof(s->name), "%.127s", d->d_name);
		snprintf(path, sizeof(path), "%s/%s/%s", top, format,
		    d->d_name);
		if (!(sub = opendir(path)))
			err(1, "%s", path);
		while ((g = readdir(sub))) {
			if (*g->d_name == '.')
				continue;
			snprintf(file, sizeof(file), "%s/%s", path, g->d_name);
			load_file(s, file, g->d_name);
		}
		closedir(sub);
		nseeds++;
	}
	closedir(dp);
	if (!nseeds)
		errx(1, "%s: no seeds", top);
}

/* ----------------------------------------------------------------- inputs */

static void
make(void *v)
{
	struct input *in = v;

	memset(in, 0, sizeof(*in));
	in->seed = (uint32_t)rnd(nseeds);
	in->ops = rnd(1u << 31);
}

static uint64_t
somewhere(const struct file *f)
{
	switch (rnd(6)) {
	case 0: return rnd(1024) & ~3ull;
	case 1: return f->size - umin(f->size, (rnd(1024) + 4) & ~3ull);
	case 2: return rnd(f->size);
	}
	return f->word[rnd(f->nword)];
}

static void
number(struct patch *p, const struct file *f)
{
	unsigned w = 1u << rnd(4);
	bool big = rnd(2);
	uint64_t near = 0, v;
	const uint8_t *was = f->data + umin(p->at, f->size);

	if (rnd(3) == 0 && p->at < f->size) {	/* text, perhaps */
		w = 1 + (unsigned)rnd(3);
		for (unsigned i = 0; i < w; i++)
			p->b[i] = (uint8_t)" 0123456789\n\"=-\tRW"[rnd(18)];
		p->n = (uint8_t)w;
		return;
	}
	if (rnd(4) == 0)
		was = f->data + umin(somewhere(f), f->size);
	for (unsigned i = 0; i < w; i++)
		near |= (uint64_t)was[big ? w - 1 - i : i] << 8 * i;
	v = fz_value(near, f->size);
	for (unsigned i = 0; i < w; i++)
		p->b[big ? w - 1 - i : i] = (uint8_t)(v >> 8 * i);
	p->n = (uint8_t)w;
}

static void
patch(struct patch *p, const struct seed *s)
{
	const struct file *f;

	memset(p, 0, sizeof(*p));
	p->file = (uint8_t)(rnd(8) ? 0 : rnd(s->n));
	f = &s->f[p->file];
	p->at = somewhere(f);
	p->to = somewhere(f);
	switch (rnd(16)) {
	case 0:
		p->op = CUT;
		p->at = rnd(4) ? rnd(f->size + 1) : f->size + (rnd(64) << 12);
		if (!rnd(8))		/* it claims more than anybody has */
			p->at = 1ull << (20 + rnd(30));
		break;
	case 1: case 2:
		p->op = rnd(2) ? SWAP : COPY;
		p->n = (uint8_t)(4u << rnd(5));
		break;
	default:
		p->op = SET;
		number(p, f);
	}
}

static void
change(void *v, const void *o)
{
	struct input *in = v;
	const struct input *other = o;
	uint32_t k;

	for (int i = 1 + (int)rnd(3); i; i--)
		switch (rnd(8)) {
		case 0:
			in->ops = rnd(1u << 31);
			break;
		case 1:
			if (in->n) {
				in->n--;
				in->p[rnd(in->n + 1)] = in->p[in->n];
			}
			break;
		case 2:
			if (in->n < PATCHES && other->n && other->seed ==
			    in->seed)
				in->p[in->n++] = other->p[rnd(other->n)];
			break;
		default:
			k = in->n < PATCHES ? in->n++ : (uint32_t)rnd(PATCHES);
			patch(&in->p[k], &seeds[in->seed]);
		}
}

static void
print(FILE *f, const void *v)
{
	const struct input *in = v;

	fprintf(f, "%s %llx", seeds[in->seed].name, (unsigned long long)in->ops);
	for (unsigned i = 0; i < in->n; i++) {
		const struct patch *p = &in->p[i];

		fprintf(f, " %s:%u:%llu:%llu:%u:", op_name[p->op], p->file,
		    (unsigned long long)p->at, (unsigned long long)p->to, p->n);
		for (unsigned j = 0; p->op == SET && j < p->n; j++)
			fprintf(f, "%02x", p->b[j]);
	}
}

static void
parse(struct input *in, char *text)
{
	char *w = strtok(text, " "), op[8], hex[40];
	unsigned i, x;

	memset(in, 0, sizeof(*in));
	while (w && in->seed < nseeds && strcmp(seeds[in->seed].name, w))
		in->seed++;
	if (!w || in->seed == nseeds)
		errx(1, "no such seed");
	in->ops = strtoull((w = strtok(NULL, " ")) ? w : "0", NULL, 16);
	while ((w = strtok(NULL, " ")) && in->n < PATCHES) {
		struct patch *p = &in->p[in->n++];
		unsigned file, n;
		unsigned long long at, to;

		*hex = 0;
		if (sscanf(w, "%7[a-z]:%u:%llu:%llu:%u:%39s", op, &file, &at,
		    &to, &n, hex) < 5 || file >= FILES)
			errx(1, "'%s'?", w);
		*p = (struct patch){ at, to, 0, (uint8_t)file, (uint8_t)n };
		while (p->op < NOPS && strcmp(op_name[p->op], op))
			p->op++;
		for (i = 0; sscanf(hex + 2 * i, "%2x", &x) == 1 && i < 16; i++)
			p->b[i] = (uint8_t)x;
	}
}

/* ----------------------------------------------------------------- running */

static void
apply(int fd, const struct patch *p)
{
	uint8_t a[64], b[64];
	size_t n = umin(p->n, 64);

	switch (p->op) {
	case SET:
		if (pwrite(fd, p->b, p->n, (off_t)p->at) < 0)
			err(1, "pwrite");
		break;
	case CUT:
		if (ftruncate(fd, (off_t)p->at))
			err(1, "ftruncate");
		break;
	default:
		if (pread(fd, a, n, (off_t)p->at) != (ssize_t)n ||
		    pread(fd, b, n, (off_t)p->to) != (ssize_t)n)
			break;
		if (pwrite(fd, a, n, (off_t)p->to) < 0 || (p->op == SWAP &&
		    pwrite(fd, b, n, (off_t)p->at) < 0))
			err(1, "pwrite");
	}
}

/* Sums that would give every change away: of the headers, the region tables and
 * what looks like an entry at the log's start. */
static void
mend_vhdx(int fd)
{
	static const uint32_t at[] = { 64 << 10, 128 << 10, 192 << 10,
		256 << 10 };
	static uint8_t b[65536];

	for (uint32_t i = 0; i < 4 + 8; i++) {
		off_t off = i < 4 ? at[i] : (1 << 20) + (i - 4) * 4096;
		size_t n = i < 2 ? 4096 : 65536;

		if (pread(fd, b, n, off) != (ssize_t)n || is_zero(b, 64))
			continue;
		if (i >= 4)
			n = umax(64, umin(n, le32(b + 8)));
		ple32(b + 4, vhdx_sum(b, n));
		if (pwrite(fd, b + 4, 4, off + 4) != 4)
			err(1, "pwrite");
	}
}

static void
mend_vpc(int fd)
{
	static const struct { uint32_t n, sum; } part[] = { { 512, 64 },
		{ 1024, 36 }, { 512, 64 } };
	off_t end = lseek(fd, 0, SEEK_END) & ~511;
	uint8_t b[1024];

	for (int i = 0; i < 3; i++) {
		off_t at = i == 2 ? end - 512 : i * 512;
		uint32_t sum = 0;

		if (pread(fd, b, part[i].n, at) != (ssize_t)part[i].n)
			continue;
		pbe32(b + part[i].sum, 0);
		for (uint32_t k = 0; k < part[i].n; k++)
			sum += b[k];
		pbe32(b + part[i].sum, ~sum);
		if (pwrite(fd, b + part[i].sum, 4, at + part[i].sum) != 4)
			err(1, "pwrite");
	}
}

static void
lay_file(struct file *f)
{
	if (!f->fd && (f->fd = open(f->name, O_RDWR | O_CREAT, 0600)) < 0)
		err(1, "%s", f->name);
	if (ftruncate(f->fd, 0) || ftruncate(f->fd, (off_t)f->size))
		err(1, "ftruncate");
	for (size_t i = 0; i < f->npart; i += 2)
		if (pwrite(f->fd, f->data + f->part[i], f->part[i + 1] -
		    f->part[i], f->part[i]) < 0)
			err(1, "pwrite");
}

static void
lay(const struct input *in)
{
	static unsigned last = ~0u;
	struct seed *s = &seeds[in->seed];

	for (unsigned i = 0; last < nseeds && last != in->seed && i <
	    seeds[last].n; i++) {
		unlink(seeds[last].f[i].name);
		close(seeds[last].f[i].fd);
		seeds[last].f[i].fd = 0;
	}
	last = in->seed;
	for (unsigned i = 0; i < s->n; i++)
		lay_file(&s->f[i]);
	for (unsigned i = 0; i < in->n; i++)
		if (in->p[i].file < s->n)
			apply(s->f[in->p[i].file].fd, &in->p[i]);
	if (in->ops & 7) {
		if (!strcmp(format, "vhdx"))
			mend_vhdx(s->f[0].fd);
		if (!strcmp(format, "vpc"))
			mend_vpc(s->f[0].fd);
	}
}

static void
run(const void *v)
{
	const struct input *in = v;
	struct stat st;

	lay(in);
	if (use("x", format, seeds[in->seed].options, in->ops))
		fz->ok++;
	if (!fstat(seeds[in->seed].f[0].fd, &st) && st.st_blocks > 128 << 11)
		fz_end("the image grew by 128 MiB");
}

static void
tidy(void)
{
	for (unsigned i = 0; i < nseeds; i++)
		for (unsigned j = 0; j < seeds[i].n; j++)
			unlink(seeds[i].f[j].name);
	if (chdir("/") || rmdir(dir))
		warn("%s", dir);
}

/* Plain seeds must open; and their keys are remembered from then on. */
static void
try_seeds(void)
{
	struct imgerr e;

	for (unsigned i = 0; i < nseeds; i++) {
		struct input in = { .seed = i };
		struct opts o = { 0 };
		struct img *m = NULL;

		lay(&in);
		for (int rw = 1; rw >= 0; rw--) {
			opts_text(&o, seeds[i].options, NULL, &e);
			if ((m = img_open("x", format, &o, IMG_NOLOCK |
			    IMG_NOFLUSH | (rw ? IMG_RDWR : 0), &e)))
				break;
		}
		if (!m)
			errx(1, "seed %s: %s", seeds[i].name, e.s);
		img_close(m);
	}
}

static const struct fuzz target = { sizeof(struct input), 0, make, change,
	run, print };

/* One input, here; with a file, only its image. */
static int
replay(char *text, const char *file)
{
	struct input in;

	parse(&in, text);
	if (file) {
		lay(&in);
		return rename("x", file) ? 1 : 0;
	}
	memcpy(fz->cur, &in, sizeof(in));
	fz_target = &target;
	signal(SIGPROF, fz_alarm);
	signal(SIGALRM, fz_alarm);
	fz_one();
	return 0;
}

int
main(int argc, char **argv)
{
	struct imgerr e;
	char *out = NULL;
	uint64_t n = 1;
	bool one = argc > 4 && !strcmp(argv[3], "-r");

	if (argc < 5)
		errx(2, "usage: img-fuzz FORMAT SEEDS FINDINGS COUNT [SEED]");
	fz_init(&target);
	format = argv[1];
	load_seeds(argv[2]);
	if (img_object_add("secret,id=s,data=xyzzy", &e))
		errx(1, "%s", e.s);
	if (!one && mkdir(argv[3], 0777) && errno != EEXIST)
		err(1, "%s", argv[3]);
	if (!one && !(out = realpath(argv[3], NULL)))
		err(1, "%s", argv[3]);
	if (!mkdtemp(dir) || chdir(dir))
		err(1, "%s", dir);
	try_seeds();
	if (one)
		n = (uint64_t)replay(argv[4], argc > 5 ? argv[5] : NULL);
	else
		n = fz_main(&target, format, out, argc > 5 ? strtoull(argv[5],
		    NULL, 0) : 1, strtoull(argv[4], NULL, 0));
	tidy();
	return n != 0;
}
