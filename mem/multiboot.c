/*
 * multiboot.c - kernels with a Multiboot 1 header (Multiboot Specification
 * version 0.6.96): ELF or "a.out kludge" images, modules, memory map.
 *
 * The initrd string is a list "file1 arguments,file2 arguments"; each becomes
 * a module whose string is the whole item; ",," stands for a comma.
 */
#include <stdlib.h>
#include <string.h>

#include "boot.h"

#define MAGIC_HEADER	0x1badb002u
#define MAGIC_EAX	0x2badb002u
enum { HF_ALIGN = 1, HF_MEMORY = 2, HF_VIDEO = 4, HF_ADDR = 0x10000 };
enum { IF_MEM = 1, IF_CMDLINE = 4, IF_MODS = 8, IF_MMAP = 0x40,
	IF_NAME = 0x200 };
enum { MMAP_OFF = 0x200, NAME_OFF = 0x80 };

/* Strings and module structures, filled upwards. */
struct strings { struct ram *r; uint64_t at, end; };

long
multiboot_find(const uint8_t *p, size_t n)
{
	size_t i;

	if (n > 8192)
		n = 8192;
	for (i = 0; i + 12 <= n; i += 4)
		if (le32(p + i) == MAGIC_HEADER && le32(p + i) +
		    le32(p + i + 4) + le32(p + i + 8) == 0)
			return (long)i;
	return -1;
}

/* 0 if it does not fit. */
static uint32_t
put_string(struct strings *s, const char *text)
{
	uint64_t at = s->at;

	if (boot_string(s->r, at, s->end - at, text))
		return 0;
	s->at += strlen(text) + 1;
	return (uint32_t)at;
}

/* The a.out kludge: load address fields of the header itself. */
static int
load_kludge(struct ram *r, struct boot *b, const struct blob *k, long at,
    uint64_t *end, uint64_t *entry)
{
	const uint8_t *h = k->p + at;
	uint64_t header, load, load_end, bss_end, off, len;
	uint8_t *to;

	if ((uint64_t)at + 32 > k->n)
		return boot_fail(b, b->kernel, "truncated multiboot header");
	header = le32(h + 12);
	load = le32(h + 16);
	load_end = le32(h + 20);
	bss_end = le32(h + 24);
	*entry = le32(h + 28);
	if (load > header || header - load > (uint64_t)at)
		return boot_fail(b, b->kernel, "multiboot load address 0x%llx "
		    "does not match the header's place",
		    (unsigned long long)load);
	off = (uint64_t)at - (header - load);
	len = load_end ? load_end - load : k->n - off;
	if ((load_end && load_end < load) || len > k->n - off)
		return boot_fail(b, b->kernel, "truncated: the multiboot "
		    "header names %llu bytes", (unsigned long long)len);
	if (bss_end < load + len)
		bss_end = load + len;
	to = load >= BOOT_KERNEL_MIN ? boot_place(r, load, bss_end - load) :
	    NULL;
	if (!to)
		return boot_fail(b, b->kernel, "load address 0x%llx (%llu "
		    "bytes) is not in the guest's memory above 1 MiB",
		    (unsigned long long)load,
		    (unsigned long long)(bss_end - load));
	memcpy(to, k->p + off, len);
	memset(to + len, 0, bss_end - load - len);
	*end = bss_end;
	return 0;
}

/* One item of the initrd string, unescaped, into `item`; NULL at the end. */
static const char *
next_item(const char *s, char *item, size_t size)
{
	size_t n = 0;

	while (*s && !(s[0] == ',' && s[1] != ',')) {
		if (s[0] == ',')
			s++;
		if (n + 1 < size)
			item[n++] = *s;
		s++;
	}
	item[n] = 0;
	return *s ? s + 1 : NULL;
}

static int
load_modules(struct ram *r, struct boot *b, struct strings *str, uint64_t end,
    uint8_t *info)
{
	const char *rest = b->initrd;
	char item[4096], path[4096];
	struct blob f;
	uint32_t n = 0, text;
	uint8_t *to, *e;

	while (rest) {
		rest = next_item(rest, item, sizeof item);
		memcpy(path, item, sizeof path);
		path[strcspn(path, " ")] = 0;
		if (!*path)
			return boot_fail(b, "initrd", "empty module name");
		if ((n + 1) * 16 > BOOT_MODS_MAX)
			return boot_fail(b, "initrd", "too many modules");
		if (boot_slurp(b, path, r->size, &f))
			return -1;
		end = (end + 4095) & ~4095ull;
		to = end < RAM_HOLE ? boot_place(r, end, f.n) : NULL;
		if (!to) {
			free(f.p);
			return boot_fail(b, path, "%zu bytes do not fit into "
			    "the guest's memory", f.n);
		}
		memcpy(to, f.p, f.n);
		free(f.p);
		text = put_string(str, item);
		if (!text)
			return boot_fail(b, "initrd", "module strings are too "
			    "long");
		e = ram_at(r, BOOT_MODS + n * 16, 16);
		put32(e, (uint32_t)end);
		put32(e + 4, (uint32_t)(end + f.n));
		put32(e + 8, text);
		put32(e + 12, 0);
		end += f.n;
		n++;
	}
	put32(info + 20, n);
	put32(info + 24, BOOT_MODS);
	put32(info, le32(info) | IF_MODS);
	return 0;
}

static void
memory_map(struct ram *r, uint8_t *info)
{
	struct e820 e[16];
	uint8_t *m = info + MMAP_OFF;
	int i, n = boot_e820(r, e, 16);

	for (i = 0; i < n; i++, m += 24) {
		put32(m, 20);			/* size of the rest */
		put64(m + 4, e[i].addr);
		put64(m + 12, e[i].size);
		put32(m + 20, e[i].type);
	}
	put32(info + 4, 0x9fc00 >> 10);
	put32(info + 8, (uint32_t)((boot_top(r) - 0x100000) >> 10));
	put32(info + 44, (uint32_t)n * 24);
	put32(info + 48, BOOT_PARAMS + MMAP_OFF);
	put32(info, le32(info) | IF_MEM | IF_MMAP);
}

static int
command_line(struct boot *b, struct strings *str, uint8_t *info)
{
	size_t n = strlen(b->kernel) + (b->append ? strlen(b->append) : 0) + 2;
	char *s = malloc(n);
	uint32_t at;

	if (!s)
		return boot_fail(b, "append", "no memory");
	strcpy(s, b->kernel);
	if (b->append) {
		strcat(s, " ");
		strcat(s, b->append);
	}
	at = put_string(str, s);
	free(s);
	if (!at)
		return boot_fail(b, "append", "command line is too long");
	put32(info + 16, at);
	put32(info, le32(info) | IF_CMDLINE);
	return 0;
}

int
boot_multiboot(struct ram *r, struct boot *b)
{
	struct strings str = { r, BOOT_CMDLINE,
		BOOT_CMDLINE + BOOT_CMDLINE_MAX };
	uint8_t *info = ram_at(r, BOOT_PARAMS, 4096);
	struct blob k = { 0 };
	struct elf_image im;
	uint64_t end = 0, entry = 0;
	uint32_t flags;
	int ret = -1;
	long at;

	if (boot_slurp(b, b->kernel, ~0ull >> 1, &k))
		goto out;
	at = multiboot_find(k.p, k.n);
	if (at < 0) {
		boot_fail(b, b->kernel, "no multiboot header");
		goto out;
	}
	flags = le32(k.p + at + 4);
	if (flags & 0xffff & ~(HF_ALIGN | HF_MEMORY | HF_VIDEO)) {
		boot_fail(b, b->kernel, "multiboot header needs unknown "
		    "features (flags 0x%x)", flags);
		goto out;
	}
	if (b->entry && strcmp(b->entry, "32")) {
		boot_fail(b, b->kernel, "has no %s-bit entry; multiboot is "
		    "32-bit", b->entry);
		goto out;
	}
	if (flags & HF_ADDR) {
		if (load_kludge(r, b, &k, at, &end, &entry))
			goto out;
	} else {
		if (elf_check(b, b->kernel, &k, &im) ||
		    elf_place(r, b, b->kernel, &k, &im))
			goto out;
		end = im.end;
		entry = im.entry;
	}
	if (entry < BOOT_KERNEL_MIN || entry >= end) {
		boot_fail(b, b->kernel, "entry 0x%llx is outside the image",
		    (unsigned long long)entry);
		goto out;
	}
	memset(info, 0, 4096);
	memory_map(r, info);
	if (command_line(b, &str, info))
		goto out;
	if (b->initrd && load_modules(r, b, &str, end, info))
		goto out;
	strcpy((char *)info + NAME_OFF, "sluice");
	put32(info + 64, BOOT_PARAMS + NAME_OFF);
	put32(info, le32(info) | IF_NAME);
	boot_flat(r, b, BOOT_PROT32, entry);
	b->rax = MAGIC_EAX;
	b->rbx = BOOT_PARAMS;
	ret = 0;
out:
	free(k.p);
	return ret;
}
