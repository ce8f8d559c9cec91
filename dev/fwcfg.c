/*
 * fwcfg.c - QEMU's firmware configuration device (docs/specs/fw_cfg in QEMU):
 * selector and data at 510h, the DMA interface at 514h, numbered items and the
 * directory of named ones.
 *
 *	file.NAME=PATH, string.NAME=TEXT	named items
 *	kernel= initrd= append=			for firmware that boots them
 *
 * Items are of the host and do not change; what is saved is the guest's place
 * in them.  Files are read at the start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev.h"

enum { R_PORT, R_DMA };
enum { K_SIGNATURE, K_ID, K_UUID, K_RAM, K_NOGRAPHIC, K_NCPU,
	K_KERNEL_ADDR = 7, K_KERNEL_SIZE, K_INITRD_ADDR = 0xa, K_INITRD_SIZE,
	K_BOOTMENU = 0xe, K_MAXCPU = 0xf, K_KERNEL = 0x11, K_INITRD,
	K_CMDLINE_ADDR, K_CMDLINE_SIZE, K_CMDLINE, K_SETUP_ADDR, K_SETUP_SIZE,
	K_SETUP, K_DIR, K_FIRST = 0x20 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8,
	DMA_WRITE = 16 };

#define NFILE		64
#define NITEM		(K_FIRST + NFILE)
#define FILE_MAX	(1u << 30)
#define SETUP_AT	0x10000
#define CMDLINE_AT	0x20000
#define KERNEL_AT	0x100000

struct fwcfg {
	uint16_t	key;
	uint32_t	off;
	uint8_t		dma[8];		/* address, as written: big-endian */
};

struct opts {
	const char	*kernel, *initrd, *append, *uuid;
	const char	*unused;
};

struct item { uint8_t *p; uint32_t n; };

struct priv {
	struct item	item[NITEM];
	unsigned	nfile;
	char		name[NFILE][56];
};

static const struct field fields[] = {
	FIELD(fwcfg, key), FIELD(fwcfg, off), FIELDS(fwcfg, dma), FIELD_END
};

static const struct opt opts[] = {
	{ "kernel", OPT_STR, offsetof(struct opts, kernel), NULL,
	    "bzImage for the firmware to boot", NULL },
	{ "initrd", OPT_STR, offsetof(struct opts, initrd), NULL,
	    "and its initial RAM disk", NULL },
	{ "append", OPT_STR, offsetof(struct opts, append), NULL,
	    "and its command line", NULL },
	{ "uuid", OPT_STR, offsetof(struct opts, uuid), NULL,
	    "UUID of the machine", NULL },
	{ "file.", OPT_STR, offsetof(struct opts, unused), NULL,
	    "file.NAME=PATH: named item from a file", NULL },
	{ "string.", OPT_STR, offsetof(struct opts, unused), NULL,
	    "string.NAME=TEXT: named item", NULL },
	{ 0 }
};

static const struct dev_range ranges[] = {
	{ SPACE_IO, RANGE_POSTED, 0x510, 2, 0, 0, "selector, data" },
	{ SPACE_IO, RANGE_SYNC, 0x514, 8, 0, 0, "DMA address" },
	{ 0 }
};

/* ------------------------------------------------------------------- items */

static uint64_t
big(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

static void
put_big(uint8_t *p, uint64_t v, unsigned n)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

static void
put_little(uint8_t *p, uint64_t v, unsigned n)
{
	for (; n; n--, v >>= 8)
		*p++ = (uint8_t)v;
}

static int
set_bytes(struct priv *p, unsigned key, const void *data, size_t n)
{
	uint8_t *c = malloc(n + 1);

	if (c == NULL)
		return -1;
	if (n)
		memcpy(c, data, n);
	free(p->item[key].p);
	p->item[key].p = c;
	p->item[key].n = (uint32_t)n;
	return 0;
}

static int
set_num(struct priv *p, unsigned key, uint64_t v, unsigned n)
{
	uint8_t b[8];

	put_little(b, v, n);
	return set_bytes(p, key, b, n);
}

static int
slurp(const char *path, struct item *out, char *why, size_t whylen)
{
	struct stat st;
	ssize_t n;
	int fd, ret = -1;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		snprintf(why, whylen, "%s: %s", path, strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
		snprintf(why, whylen, "%s: %s", path, S_ISREG(st.st_mode) ?
		    "is larger than 1 GiB" : "is not a regular file");
		goto out;
	}
	free(out->p);
	out->n = 0;
	out->p = malloc((size_t)st.st_size + 1);
	if (out->p == NULL) {
		snprintf(why, whylen, "%s: %s", path, strerror(errno));
		goto out;
	}
	while (out->n < (size_t)st.st_size) {
		n = read(fd, out->p + out->n, (size_t)st.st_size - out->n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		out->n += (uint32_t)n;
	}
	if (out->n != (size_t)st.st_size) {
		snprintf(why, whylen, "%s: cannot read all of it", path);
		goto out;
	}
	ret = 0;
out:
	if (fd >= 0)
		close(fd);
	return ret;
}

/* A slot for a named item: its key, or -1. */
static int
add_name(struct priv *p, const char *name, size_t len, char *why,
    size_t whylen)
{
	unsigned i;

	if (len == 0 || len >= sizeof p->name[0]) {
		snprintf(why, whylen, "%.*s: a name has 1 to 55 characters",
		    (int)len, name);
		return -1;
	}
	for (i = 0; i < p->nfile; i++)
		if (strlen(p->name[i]) == len &&
		    memcmp(p->name[i], name, len) == 0) {
			snprintf(why, whylen, "%.*s: given twice", (int)len,
			    name);
			return -1;
		}
	if (p->nfile == NFILE) {
		snprintf(why, whylen, "%.*s: more than %d items", (int)len,
		    name, NFILE);
		return -1;
	}
	memcpy(p->name[p->nfile], name, len);
	return (int)(K_FIRST + p->nfile++);
}

static int
named_items(struct devctx *d, char *why, size_t whylen)
{
	struct priv *p = d->priv;
	const char *w, *eq, *name;
	unsigned i;
	int key;

	for (i = 0; d->argv && d->argv[i]; i++) {
		w = d->argv[i];
		name = strchr(w, '.');
		eq = strchr(w, '=');
		if (name == NULL || eq == NULL || eq < name ||
		    (strncmp(w, "file.", 5) && strncmp(w, "string.", 7)))
			continue;
		name++;
		key = add_name(p, name, (size_t)(eq - name), why, whylen);
		if (key < 0)
			return -1;
		if (*w == 'f' ? slurp(eq + 1, &p->item[key], why, whylen) :
		    set_bytes(p, (unsigned)key, eq + 1, strlen(eq + 1)))
			return -1;
	}
	return 0;
}

/* RAM as firmware wants it: packed address, size, type 1. */
static int
e820(struct devctx *d, char *why, size_t whylen)
{
	struct priv *p = d->priv;
	uint64_t high = d->ram->size - d->ram->low;
	uint8_t b[40] = { 0 };
	int key = add_name(p, "etc/e820", 8, why, whylen);

	if (key < 0)
		return -1;
	put_little(b + 8, d->ram->low, 8);
	b[16] = 1;
	put_little(b + 20, RAM_HIGH, 8);
	put_little(b + 28, high, 8);
	b[36] = 1;
	return set_bytes(p, (unsigned)key, b, high ? 40 : 20);
}

static int
directory(struct priv *p)
{
	uint8_t b[4 + NFILE * 64] = { 0 }, *e = b + 4;
	unsigned i;

	put_big(b, p->nfile, 4);
	for (i = 0; i < p->nfile; i++, e += 64) {
		put_big(e, p->item[K_FIRST + i].n, 4);
		put_big(e + 4, K_FIRST + i, 2);
		memcpy(e + 8, p->name[i], 56);
	}
	return set_bytes(p, K_DIR, b, (size_t)(e - b));
}

static int
uuid_item(struct priv *p, const char *s)
{
	uint8_t b[16] = { 0 };
	unsigned n = 0, v;

	for (; s && *s && n < 32; s++) {
		if (sscanf((char[]){ *s, 0 }, "%1x", &v) != 1)
			continue;
		b[n / 2] = (uint8_t)(b[n / 2] << 4 | v);
		n++;
	}
	return set_bytes(p, K_UUID, b, 16);
}

/* Split a bzImage into setup and kernel, and fill in the boot header as a boot
 * loader does (Linux boot protocol 2.02 and later). */
static int
linux_items(struct devctx *d, char *why, size_t whylen)
{
	struct opts *o = d->opts;
	struct priv *p = d->priv;
	struct item *k = &p->item[K_KERNEL], *rd = &p->item[K_INITRD], all;
	const char *cmd = o->append ? o->append : "";
	uint64_t at = 0, max = 0x37ffffff, top = d->ram->low - ACPI_BYTES;
	size_t setup;
	uint8_t *h;

	if (o->kernel == NULL) {
		if (o->initrd || o->append) {
			snprintf(why, whylen, "initrd or append without kernel");
			return -1;
		}
		return 0;
	}
	if (slurp(o->kernel, k, why, whylen) ||
	    (o->initrd && slurp(o->initrd, rd, why, whylen)))
		return -1;
	all = *k;
	setup = all.n > 0x1f1 && all.p[0x1f1] ? all.p[0x1f1] : 4u;
	setup = (setup + 1) * 512;
	if (all.n < setup || memcmp(all.p + 0x202, "HdrS", 4) != 0 ||
	    all.p[0x206] + all.p[0x207] * 256 < 0x202) {
		snprintf(why, whylen, "%s: is not a bzImage", o->kernel);
		return -1;
	}
	h = all.p;
	if (h[0x206] + h[0x207] * 256 >= 0x203)
		max = h[0x22c] | (uint32_t)h[0x22d] << 8 |
		    (uint32_t)h[0x22e] << 16 | (uint64_t)h[0x22f] << 24;
	if (max >= top)
		max = top - 1;
	if (rd->n) {
		if (rd->n > max || max - rd->n < KERNEL_AT + all.n) {
			snprintf(why, whylen, "%s: does not fit into RAM",
			    o->initrd);
			return -1;
		}
		at = (max - rd->n) & ~4095ull;
	}
	h[0x210] = 0xb0;			/* loader: as QEMU's */
	h[0x211] |= 0x80;			/* heap end is valid */
	put_little(h + 0x224, CMDLINE_AT - SETUP_AT - 0x200, 2);
	put_little(h + 0x218, at, 4);
	put_little(h + 0x21c, rd->n, 4);
	put_little(h + 0x228, CMDLINE_AT, 4);
	if (set_bytes(p, K_SETUP, h, setup))
		goto nomem;
	k->p = NULL;
	if (set_bytes(p, K_KERNEL, all.p + setup, all.n - setup) ||
	    set_num(p, K_KERNEL_ADDR, KERNEL_AT, 4) ||
	    set_num(p, K_KERNEL_SIZE, all.n - setup, 4) ||
	    set_num(p, K_SETUP_ADDR, SETUP_AT, 4) ||
	    set_num(p, K_SETUP_SIZE, setup, 4) ||
	    set_num(p, K_INITRD_ADDR, at, 4) ||
	    set_num(p, K_INITRD_SIZE, rd->n, 4) ||
	    set_num(p, K_CMDLINE_ADDR, CMDLINE_AT, 4) ||
	    set_num(p, K_CMDLINE_SIZE, strlen(cmd) + 1, 4) ||
	    set_bytes(p, K_CMDLINE, cmd, strlen(cmd) + 1)) {
		free(all.p);
		goto nomem;
	}
	free(all.p);
	return 0;
nomem:
	snprintf(why, whylen, "%s: %s", o->kernel, strerror(ENOMEM));
	return -1;
}

/* --------------------------------------------------------------- registers */

static uint8_t
next(struct devctx *d)
{
	struct fwcfg *f = d->st;
	struct priv *p = d->priv;
	const struct item *i;

	if (f->key >= NITEM)
		return 0;
	i = &p->item[f->key];
	return f->off < i->n ? i->p[f->off++] : 0;
}

static void
select_item(struct devctx *d, uint16_t key)
{
	struct fwcfg *f = d->st;

	f->key = key & 0x3fff;		/* bit 14: "write", which none allows */
	if (key & 0x8000)
		f->key = NITEM;		/* items of the architecture: none */
	f->off = 0;
}

/* 0, or the error bit. */
static uint32_t
transfer(struct devctx *d, uint32_t control, uint32_t len, uint64_t gpa)
{
	struct fwcfg *f = d->st;
	struct priv *p = d->priv;
	uint32_t left = 0;
	uint8_t *to;

	if (control & DMA_SELECT)
		select_item(d, (uint16_t)(control >> 16));
	if (f->key < NITEM && f->off < p->item[f->key].n)
		left = p->item[f->key].n - f->off;
	if (left > len)
		left = len;
	if (control & DMA_READ) {
		to = ram_at(d->ram, gpa, len);
		if (to == NULL && len)
			return DMA_ERROR;
		if (left)
			memcpy(to, p->item[f->key].p + f->off, left);
		if (len > left)
			memset(to + left, 0, len - left);
		if (len)
			dev_dma_wrote(d, to, len);
	} else if (control & DMA_WRITE) {
		return DMA_ERROR;		/* no item is writable */
	} else if (!(control & DMA_SKIP)) {
		return 0;
	}
	f->off += left;
	return 0;
}

static void
dma(struct devctx *d)
{
	struct fwcfg *f = d->st;
	uint64_t gpa = big(f->dma, 8);
	uint8_t c[16], *at = ram_at(d->ram, gpa, sizeof c);
	uint32_t ret;

	memset(f->dma, 0, sizeof f->dma);
	if (at == NULL) {
		dev_guest_error(d, "DMA outside RAM", gpa);
		return;
	}
	memcpy(c, at, sizeof c);
	ret = transfer(d, (uint32_t)big(c, 4), (uint32_t)big(c + 4, 4),
	    big(c + 8, 8));
	put_big(c, ret, 4);
	dev_dma_wrote(d, at, 4);
	memcpy(at, c, 4);
}

static uint64_t
cfg_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	static const uint8_t signature[8] = {
		'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'
	};
	uint64_t v = 0;
	unsigned i;

	if (range == R_PORT)
		return off == 1 ? next(d) : 0;
	if (range == R_DMA)
		for (i = 0; i < size && off < 8 && off + i < 8; i++)
			v |= (uint64_t)signature[off + i] << i * 8;
	return v;
}

static void
cfg_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct fwcfg *f = d->st;
	unsigned i;

	if (range == R_PORT) {
		if (off == 0)
			select_item(d, (uint16_t)val);
		return;
	}
	if (range != R_DMA || off >= 8)
		return;
	for (i = 0; i < size && off + i < 8; i++)
		f->dma[off + i] = (uint8_t)(val >> i * 8);
	if (off + size >= 8)
		dma(d);
}

/* -------------------------------------------------------------- life cycle */

static int
cfg_init(struct devctx *d, char *why, size_t whylen)
{
	struct opts *o = d->opts;
	struct priv *p = d->priv;
	unsigned ncpu = d->part && d->part->nvcpu ? d->part->nvcpu : 1;

	if (named_items(d, why, whylen) || e820(d, why, whylen) ||
	    linux_items(d, why, whylen))
		return -1;
	if (set_bytes(p, K_SIGNATURE, "QEMU", 4) || set_num(p, K_ID, 3, 4) ||
	    uuid_item(p, o->uuid) || set_num(p, K_RAM, d->ram->size, 8) ||
	    set_num(p, K_NOGRAPHIC, 1, 2) || set_num(p, K_NCPU, ncpu, 2) ||
	    set_num(p, K_BOOTMENU, 0, 2) || set_num(p, K_MAXCPU, ncpu, 2) ||
	    directory(p)) {
		snprintf(why, whylen, "%s", strerror(ENOMEM));
		return -1;
	}
	return 0;
}

static void
cfg_reset(struct devctx *d)
{
	memset(d->st, 0, sizeof(struct fwcfg));
}

static void
cfg_quit(struct devctx *d)
{
	struct priv *p = d->priv;
	unsigned i;

	for (i = 0; i < NITEM; i++)
		free(p->item[i].p);
	memset(p, 0, sizeof *p);
}

#define SEL(k)	{ 'w', R_PORT, 2, 0, k }
#define GET(v)	{ 'r', R_PORT, 1, 1, v }

static const struct dev_test tests[] = {
	GET('Q'), SEL(0), GET('Q'), GET('E'), GET('M'), GET('U'), GET(0),
	SEL(K_ID), GET(3), GET(0), GET(0), GET(0),
	SEL(K_NCPU), GET(1), GET(0),
	SEL(K_DIR), GET(0), GET(0), GET(0), GET(1), GET(0), GET(0), GET(0),
	GET(20), GET(0), GET(0x20), GET(0), GET(0), GET('e'), GET('t'),
	SEL(0x1234), GET(0), SEL(0x8003), GET(0),
	{ 'r', R_DMA, 4, 0, 0x554d4551 }, { 'r', R_DMA, 4, 4, 0x47464320 },
	/* a DMA address outside RAM does nothing */
	{ 'w', R_DMA, 4, 0, 0xffffffff }, { 'w', R_DMA, 4, 4, 0xffffffff },
	{ 'R' }, GET('Q'),
	{ 0 }
};

static const struct dev fwcfg = {
	.name = "fwcfg",
	.desc = "firmware configuration device",
	.spec = "QEMU docs/specs/fw_cfg",
	.state_size = sizeof(struct fwcfg),
	.fields = fields,
	.opts_size = sizeof(struct opts),
	.opts = opts,
	.ranges = ranges,
	.priv_size = sizeof(struct priv),
	.init = cfg_init,
	.reset = cfg_reset,
	.read = cfg_read,
	.write = cfg_write,
	.quit = cfg_quit,
	.tests = tests,
};
DEV_MAIN(fwcfg);
