/*
 * boot.c - what every boot protocol needs: the memory map, reading a file,
 * flat descriptors and identity page tables, and the choice of a loader.
 *
 * Memory map as INT 15h AX=E820h defines it (ACPI 6.5, section 15); types:
 * 1 RAM, 2 reserved, 3 ACPI tables.  Intel SDM 3A 3.4.5 and 4.5 for the
 * descriptors and page tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"

int
boot_fail(struct boot *b, const char *object, const char *fmt, ...)
{
	va_list ap;
	int n;

	n = snprintf(b->why, sizeof b->why, "%.160s: ", object);
	if (n < 0 || (size_t)n >= sizeof b->why)
		return -1;
	va_start(ap, fmt);
	vsnprintf(b->why + n, sizeof b->why - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

int
boot_slurp(struct boot *b, const char *path, uint64_t max, struct blob *out)
{
	struct stat st;
	size_t done = 0;
	ssize_t n;
	int fd, ret = -1;

	out->p = NULL;
	out->n = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return boot_fail(b, path, "%s", strerror(errno));
	if (fstat(fd, &st) < 0) {
		boot_fail(b, path, "%s", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		boot_fail(b, path, "is not a regular file");
		goto out;
	}
	if ((uint64_t)st.st_size > max) {
		boot_fail(b, path, "%lld bytes do not fit into the guest's "
		    "memory", (long long)st.st_size);
		goto out;
	}
	out->p = malloc((size_t)st.st_size + 1);
	if (!out->p) {
		boot_fail(b, path, "%s", strerror(ENOMEM));
		goto out;
	}
	while (done < (size_t)st.st_size) {
		n = read(fd, out->p + done, (size_t)st.st_size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			boot_fail(b, path, "%s", strerror(errno));
			goto out;
		}
		if (n == 0)
			break;		/* truncated under our hands */
		done += (size_t)n;
	}
	out->n = done;
	ret = 0;
out:
	if (ret) {
		free(out->p);
		out->p = NULL;
	}
	close(fd);
	return ret;
}

uint64_t
boot_top(const struct ram *r)
{
	return r->low > ACPI_BYTES ? r->low - ACPI_BYTES : 0;
}

void *
boot_place(const struct ram *r, uint64_t gpa, uint64_t len)
{
	if (gpa < r->low && (len > boot_top(r) || gpa > boot_top(r) - len))
		return NULL;
	return ram_at(r, gpa, len);
}

int
boot_string(struct ram *r, uint64_t gpa, uint64_t room, const char *s)
{
	size_t n = strlen(s) + 1;
	void *p = n <= room ? boot_place(r, gpa, n) : NULL;

	if (!p)
		return -1;
	memcpy(p, s, n);
	return 0;
}

static int
add(struct e820 *e, int n, int max, uint64_t start, uint64_t end,
    uint32_t type)
{
	if (start >= end || n >= max)
		return n;
	e[n].addr = start;
	e[n].size = end - start;
	e[n].type = type;
	return n + 1;
}

int
boot_e820(const struct ram *r, struct e820 *e, int max)
{
	uint64_t low = r->low < 0xa0000 ? r->low : 0x9fc00;
	int n = 0;

	n = add(e, n, max, 0, low, 1);
	n = add(e, n, max, 0x9fc00, 0xa0000, 2);
	n = add(e, n, max, 0xf0000, 0x100000, 2);
	n = add(e, n, max, 0x100000, boot_top(r), 1);
	if (boot_top(r) > 0x100000)
		n = add(e, n, max, boot_top(r), r->low, 2);
	n = add(e, n, max, ECAM_BASE, ECAM_BASE + ECAM_BYTES, 2);
	n = add(e, n, max, RAM_HIGH, RAM_HIGH + (r->size - r->low), 1);
	return n;
}

void
boot_bda(struct ram *r)
{
	uint8_t *p = ram_at(r, 0x400, 0x100);

	if (!p)
		return;
	memset(p, 0, 0x100);
	put16(p + 0x13, 0x9fc00 >> 10);		/* KiB of base memory */
	p[0x49] = 3;				/* video mode */
	put16(p + 0x4a, 80);			/* columns */
	put16(p + 0x4c, 0x1000);		/* bytes of a page */
	put16(p + 0x63, 0x3d4);			/* CRTC */
	p[0x84] = 24;				/* rows - 1 */
	put16(p + 0x85, 16);			/* font height */
	put16(p + 0x80, 0x1e);			/* keyboard buffer */
	put16(p + 0x82, 0x3e);
	put16(p + 0x1a, 0x1e);
	put16(p + 0x1c, 0x1e);
}

void
boot_flat(struct ram *r, struct boot *b, enum boot_mode mode, uint64_t entry)
{
	uint8_t *g = ram_at(r, BOOT_GDT, 64);
	uint8_t *t = ram_at(r, BOOT_TABLES, 6 * 4096);
	uint64_t i;

	memset(g, 0, 64);
	/* code: execute/read, accessed; L or D; data: read/write, accessed */
	put64(g + 0x10, mode == BOOT_LONG64 ? 0x00af9b000000ffff :
	    0x00cf9b000000ffff);
	put64(g + 0x18, 0x00cf93000000ffff);
	b->gdt = BOOT_GDT;
	b->mode = mode;
	b->cs = 0x10;
	b->ds = 0x18;
	b->rip = entry;
	b->rsp = BOOT_STACK;
	if (mode != BOOT_LONG64)
		return;
	memset(t, 0, 6 * 4096);
	put64(t, (BOOT_TABLES + 0x1000) | 3);
	for (i = 0; i < 4; i++)
		put64(t + 0x1000 + i * 8, (BOOT_TABLES + 0x2000 + i * 0x1000)
		    | 3);
	for (i = 0; i < 4 * 512; i++)		/* 2 MiB pages, first 4 GiB */
		put64(t + 0x2000 + i * 8, i << 21 | 0x83);
	b->cr3 = BOOT_TABLES;
}

int
boot_load(struct ram *r, struct boot *b)
{
	uint8_t head[8192];
	size_t n = 0;
	ssize_t got;
	int fd;

	b->why[0] = 0;
	if (!b->kernel) {
		if (b->initrd)
			return boot_fail(b, b->initrd, "an initrd needs a "
			    "kernel");
		b->mode = BOOT_RESET;
		return 0;
	}
	if (boot_top(r) < 0x200000)
		return boot_fail(b, "ram", "%llu KiB are too small to load a "
		    "kernel", (unsigned long long)r->size >> 10);
	fd = open(b->kernel, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return boot_fail(b, b->kernel, "%s", strerror(errno));
	while (n < sizeof head) {
		got = read(fd, head + n, sizeof head - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			boot_fail(b, b->kernel, "%s", strerror(errno));
			close(fd);
			return -1;
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	close(fd);

	boot_bda(r);
	if (n >= 0x206 && !memcmp(head + 0x202, "HdrS", 4))
		return boot_linux(r, b);
	if (n >= 4 && !memcmp(head, "\177ELF", 4)) {
		errno = 0;
		if (!boot_elf(r, b))
			return 0;
		if (errno != ENOEXEC || multiboot_find(head, n) < 0)
			return -1;
	}
	if (multiboot_find(head, n) >= 0)
		return boot_multiboot(r, b);
	return boot_fail(b, b->kernel, "is not a kernel (bzImage, ELF with a "
	    "PVH note, or multiboot)");
}
