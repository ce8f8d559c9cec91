/*
 * smbios.c - SMBIOS 2.8 structures (DMTF DSP0134 2.8, sections 5.2, 6 and 7) in
 * the BIOS area: what a system inventory shows of the machine.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "boot.h"

enum { ENTRY_AT = 0xf0040, TABLE_AT = 0xf0100, TABLE_BYTES = 0x8000 };

struct out {
	uint8_t		*p;
	size_t		used, max;
	unsigned	count;
	size_t		start;		/* of the structure being made */
	char		str[512];	/* its strings, each with its NUL */
	size_t		nstr;
	unsigned	istr;
	bool		full;
};

static void
num(struct out *o, uint64_t v, unsigned size)
{
	for (; size; size--, v >>= 8) {
		if (o->used == TABLE_BYTES) {
			o->full = true;
			return;
		}
		o->p[o->used++] = (uint8_t)v;
	}
}

/* A string of the structure: its number goes into the formatted part. */
static void
string(struct out *o, const char *s)
{
	size_t n = strlen(s) + 1;

	if (n == 1 || n > sizeof o->str - o->nstr) {
		num(o, 0, 1);
		return;
	}
	memcpy(o->str + o->nstr, s, n);
	o->nstr += n;
	num(o, ++o->istr, 1);
}

static void
begin(struct out *o, unsigned type, unsigned handle)
{
	o->start = o->used;
	o->nstr = 0;
	o->istr = 0;
	num(o, type, 1);
	num(o, 0, 1);			/* length, in end() */
	num(o, handle, 2);
}

static void
end(struct out *o)
{
	size_t i, len = o->used - o->start;

	if (!o->full)
		o->p[o->start + 1] = (uint8_t)len;
	for (i = 0; i < o->nstr; i++)
		num(o, (uint8_t)o->str[i], 1);
	num(o, 0, o->nstr ? 1 : 2);
	if (o->used - o->start > o->max)
		o->max = o->used - o->start;
	o->count++;
}

static int
hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	    (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Text UUID to the bytes of 7.2.1: the first three fields little-endian. */
static void
uuid(struct out *o, const char *s)
{
	static const uint8_t order[16] = {
		3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15
	};
	uint8_t b[16] = { 0 };
	unsigned i, n = 0;

	for (; s && *s && n < 32; s++) {
		if (hex(*s) < 0)
			continue;
		b[n / 2] = (uint8_t)(b[n / 2] << 4 | hex(*s));
		n++;
	}
	if (n != 32)
		memset(b, 0, sizeof b);		/* not present */
	for (i = 0; i < 16; i++)
		num(o, b[order[i]], 1);
}

static void
system_structures(struct out *o, const struct acpi_opts *a)
{
	begin(o, 0, 0);				/* BIOS */
	string(o, "Sluice");
	string(o, "1");
	num(o, 0xf000, 2);
	string(o, "01/01/2024");
	num(o, 0, 1);
	num(o, 0x08, 8);			/* characteristics: none */
	num(o, 0, 1);
	num(o, 0x1c, 1);			/* a virtual machine; UEFI not */
	num(o, 1, 1);
	num(o, 0, 1);
	num(o, 0xffff, 2);			/* no embedded controller */
	end(o);

	begin(o, 1, 0x100);			/* system */
	string(o, "Sluice");
	string(o, "Standard PC (i440FX + PIIX)");
	string(o, "1");
	string(o, a->name ? a->name : "");
	uuid(o, a->uuid);
	num(o, 6, 1);				/* wake-up: power switch */
	num(o, 0, 2);
	end(o);

	begin(o, 3, 0x300);			/* enclosure */
	string(o, "Sluice");
	num(o, 1, 1);				/* other */
	num(o, 0, 3);
	num(o, 3, 1);				/* boot-up, supply, thermal:
						 * safe */
	num(o, 3, 1);
	num(o, 3, 1);
	num(o, 2, 1);				/* security: unknown */
	num(o, 0, 4);
	num(o, 0, 5);
	end(o);
}

static void
processor(struct out *o, unsigned socket, const struct topology *t)
{
	unsigned cores = t->cores, n = t->cores * t->threads;
	char name[16];

	snprintf(name, sizeof name, "CPU %u", socket);
	begin(o, 4, 0x400 + socket);
	string(o, name);
	num(o, 3, 1);				/* central processor */
	num(o, 1, 1);				/* family: other */
	string(o, "Sluice");
	num(o, 0, 8);				/* ID */
	string(o, "1");
	num(o, 0, 1);				/* voltage */
	num(o, 0, 6);				/* clocks: unknown */
	num(o, 0x41, 1);			/* populated, enabled */
	num(o, 1, 1);				/* upgrade: other */
	num(o, 0xffff, 2);			/* caches: not told */
	num(o, 0xffff, 2);
	num(o, 0xffff, 2);
	num(o, 0, 3);
	num(o, cores > 255 ? 255 : cores, 1);	/* cores, enabled, threads */
	num(o, cores > 255 ? 255 : cores, 1);
	num(o, n > 255 ? 255 : n, 1);
	num(o, 4, 2);				/* 64-bit capable */
	num(o, 1, 2);
	num(o, cores, 2);
	num(o, cores, 2);
	num(o, n, 2);
	end(o);
}

static void
mapped(struct out *o, unsigned handle, uint64_t from, uint64_t last)
{
	begin(o, 19, handle);
	if (last >> 10 < 0xffffffff) {
		num(o, from >> 10, 4);
		num(o, last >> 10, 4);
	} else {
		num(o, 0xffffffff, 4);
		num(o, 0xffffffff, 4);
	}
	num(o, 0x1000, 2);			/* array */
	num(o, 1, 1);
	num(o, last >> 10 < 0xffffffff ? 0 : from, 8);
	num(o, last >> 10 < 0xffffffff ? 0 : last, 8);
	end(o);
}

static void
memory(struct out *o, const struct ram *r)
{
	uint64_t mb = r->size >> 20, high = r->size - r->low;

	begin(o, 16, 0x1000);			/* array */
	num(o, 1, 1);
	num(o, 3, 1);				/* system memory */
	num(o, 3, 1);				/* no error correction */
	num(o, r->size >> 10 < 0x80000000 ? r->size >> 10 : 0x80000000, 4);
	num(o, 0xfffe, 2);
	num(o, 1, 2);
	num(o, r->size >> 10 < 0x80000000 ? 0 : r->size, 8);
	end(o);

	begin(o, 17, 0x1100);			/* device */
	num(o, 0x1000, 2);
	num(o, 0xfffe, 2);
	num(o, 0xffff, 2);			/* widths: unknown */
	num(o, 0xffff, 2);
	num(o, mb < 0x7fff ? mb : 0x7fff, 2);
	num(o, 9, 1);				/* DIMM */
	num(o, 0, 1);
	string(o, "DIMM 0");
	num(o, 0, 1);
	num(o, 7, 1);				/* RAM */
	num(o, 2, 2);				/* other */
	num(o, 0, 2);
	string(o, "Sluice");
	num(o, 0, 3);
	num(o, 0, 1);
	num(o, mb < 0x7fff ? 0 : mb, 4);
	num(o, 0, 2);
	num(o, 0, 6);				/* voltages */
	end(o);

	mapped(o, 0x1300, 0, r->low - 1);
	if (high)
		mapped(o, 0x1301, RAM_HIGH, RAM_HIGH + high - 1);
}

static uint8_t
sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

int
smbios_write(struct ram *r, const struct acpi_opts *a)
{
	struct out o = { .p = ram_at(r, TABLE_AT, TABLE_BYTES) };
	uint8_t *e = ram_at(r, ENTRY_AT, 31);
	unsigned i;

	if (o.p == NULL || e == NULL) {
		errno = ENOMEM;
		return -1;
	}
	memset(o.p, 0, TABLE_BYTES);
	system_structures(&o, a);
	for (i = 0; i * a->topo.cores * a->topo.threads < a->ncpu; i++)
		processor(&o, i, &a->topo);
	memory(&o, r);
	begin(&o, 32, 0x2000);			/* boot: no error */
	num(&o, 0, 7);
	end(&o);
	begin(&o, 127, 0x7f00);
	end(&o);
	if (o.full) {
		errno = E2BIG;
		return -1;
	}
	memset(e, 0, 31);
	memcpy(e, "_SM_", 4);
	e[5] = 31;
	e[6] = 2;				/* 2.8 */
	e[7] = 8;
	put16(e + 8, (uint16_t)o.max);
	memcpy(e + 16, "_DMI_", 5);
	put16(e + 22, (uint16_t)o.used);
	put32(e + 24, TABLE_AT);
	put16(e + 28, (uint16_t)o.count);
	e[30] = 0x28;
	e[21] = (uint8_t)-sum(e + 16, 15);
	e[4] = (uint8_t)-sum(e, 31);
	return 0;
}
