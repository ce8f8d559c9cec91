/*
 * field.c - a chip's state through its field table: save, load, print.
 *
 * Saved form, little-endian: the magic, the chip's name, then every field that
 * is not derived in table order, then an empty name.
 *
 *	string: u8 length, bytes
 *	field:  string name, u32 element size, u32 elements, data
 *
 * Elements of 1, 2, 4 and 8 bytes are numbers; any other size is opaque bytes.
 * The same state always gives the same bytes.  Loading wants exactly the fields
 * the table has, in its order, and changes nothing unless all of it is right.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dev.h"

static const char magic[8] = "SLUICE1";

static bool
is_number(uint32_t size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static uint64_t
get(const uint8_t *p, uint32_t size)
{
	uint16_t h;
	uint32_t w;
	uint64_t d;

	switch (size) {
	case 1:
		return *p;
	case 2:
		memcpy(&h, p, 2);
		return h;
	case 4:
		memcpy(&w, p, 4);
		return w;
	default:
		memcpy(&d, p, 8);
		return d;
	}
}

static void
set(uint8_t *p, uint32_t size, uint64_t v)
{
	uint16_t h = (uint16_t)v;
	uint32_t w = (uint32_t)v;

	switch (size) {
	case 1:
		*p = (uint8_t)v;
		break;
	case 2:
		memcpy(p, &h, 2);
		break;
	case 4:
		memcpy(p, &w, 4);
		break;
	default:
		memcpy(p, &v, 8);
		break;
	}
}

static void
put_le(FILE *f, uint64_t v, unsigned size)
{
	for (; size; size--, v >>= 8)
		putc((int)(v & 0xff), f);
}

static int
get_le(FILE *f, unsigned size, uint64_t *v)
{
	uint64_t x = 0;
	unsigned i;
	int c;

	for (i = 0; i < size; i++) {
		c = getc(f);
		if (c == EOF)
			return -1;
		x |= (uint64_t)c << (8 * i);
	}
	*v = x;
	return 0;
}

static void
put_str(FILE *f, const char *s)
{
	size_t n = strlen(s);

	putc((int)n, f);
	fwrite(s, 1, n, f);
}

static int
want_str(FILE *f, const char *s)
{
	char got[256];
	size_t n = strlen(s);
	int c = getc(f);

	if (c == EOF || (size_t)c != n || fread(got, 1, n, f) != n)
		return -1;
	return memcmp(got, s, n) ? -1 : 0;
}

int
dev_save(const struct dev *dev, const void *st, FILE *f)
{
	const struct field *e;
	const uint8_t *p;
	uint32_t i;

	fwrite(magic, 1, sizeof magic, f);
	put_str(f, dev->name);
	for (e = dev->fields; e && e->name; e++) {
		if (e->derived)
			continue;
		p = (const uint8_t *)st + e->off;
		put_str(f, e->name);
		put_le(f, e->size, 4);
		put_le(f, e->n, 4);
		if (!is_number(e->size) || e->size == 1) {
			fwrite(p, e->size, e->n, f);
			continue;
		}
		for (i = 0; i < e->n; i++)
			put_le(f, get(p + (size_t)i * e->size, e->size),
			    e->size);
	}
	putc(0, f);
	return ferror(f) ? -1 : 0;
}

static int
load_field(const struct field *e, uint8_t *p, FILE *f)
{
	uint64_t v;
	uint32_t i;

	if (want_str(f, e->name) || get_le(f, 4, &v) || v != e->size ||
	    get_le(f, 4, &v) || v != e->n)
		return -1;
	if (!is_number(e->size) || e->size == 1)
		return fread(p, e->size, e->n, f) == e->n ? 0 : -1;
	for (i = 0; i < e->n; i++) {
		if (get_le(f, e->size, &v))
			return -1;
		set(p + (size_t)i * e->size, e->size, v);
	}
	return 0;
}

int
dev_load(const struct dev *dev, void *st, FILE *f)
{
	const struct field *e;
	char m[sizeof magic];
	uint8_t *tmp;
	int ret = -1;

	tmp = malloc(dev->state_size ? dev->state_size : 1);
	if (!tmp)
		return -1;
	memcpy(tmp, st, dev->state_size);
	if (fread(m, 1, sizeof m, f) != sizeof m ||
	    memcmp(m, magic, sizeof m) || want_str(f, dev->name))
		goto out;
	for (e = dev->fields; e && e->name; e++)
		if (!e->derived && load_field(e, tmp + e->off, f))
			goto out;
	if (getc(f) != 0)
		goto out;
	memcpy(st, tmp, dev->state_size);
	ret = 0;
out:
	free(tmp);
	if (ret)
		errno = EINVAL;
	return ret;
}

void
dev_info(const struct dev *dev, const void *st, FILE *f)
{
	const struct field *e;
	const uint8_t *p;
	uint32_t i, n, size;

	for (e = dev->fields; e && e->name; e++) {
		p = (const uint8_t *)st + e->off;
		size = is_number(e->size) ? e->size : 1;
		n = is_number(e->size) ? e->n : e->size * e->n;
		fprintf(f, "%s =", e->name);
		for (i = 0; i < n && i < 64; i++)
			fprintf(f, " %0*" PRIx64, (int)size * 2,
			    get(p + (size_t)i * size, size));
		fprintf(f, "%s\n", i < n ? " ..." : "");
	}
}
