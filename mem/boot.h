/*
 * boot.h - what the boot loaders (boot.c linux.c elf.c multiboot.c bios16.c)
 * share among themselves; everybody else uses mem.h.
 */
#ifndef BOOT_H
#define BOOT_H

#include "mem.h"

/*
 * Where loaders put their own data below 1 MiB.  Nothing of a kernel is ever
 * loaded below BOOT_KERNEL_MIN.
 */
enum {
	BOOT_BIOS16 = 0x600,		/* interrupt stubs for 16-bit entry */
	BOOT_GDT = 0x7000,
	BOOT_STACK = 0x7ff0,
	BOOT_TABLES = 0x9000,		/* PML4, PDPT, 4 page directories */
	BOOT_PARAMS = 0x10000,		/* zero page, start info, 16-bit setup */
	BOOT_CMDLINE = 0x20000,		/* and module strings behind it */
	BOOT_CMDLINE_MAX = 0x10000,
	BOOT_MODS = 0x30000,		/* module lists */
	BOOT_MODS_MAX = 0x10000,
	BOOT_KERNEL_MIN = 0x100000,
};

struct blob { uint8_t *p; size_t n; };

/* Sets b->why to "object: text"; returns -1. */
int	boot_fail(struct boot *, const char *object, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* Read a whole regular file of at most `max` bytes; free(p) is the caller's. */
int	boot_slurp(struct boot *, const char *path, uint64_t max,
	    struct blob *);
/* First address of low RAM that is reserved for tables; loaders stay below. */
uint64_t boot_top(const struct ram *);
/* Host address of [gpa, gpa+len) if a loader may write it, or NULL. */
void	*boot_place(const struct ram *, uint64_t gpa, uint64_t len);
/* Put a string (with its NUL) at gpa. */
int	boot_string(struct ram *, uint64_t gpa, uint64_t room, const char *);
/* Common register state: flat GDT at BOOT_GDT and, for LONG64, page tables. */
void	boot_flat(struct ram *, struct boot *, enum boot_mode, uint64_t entry);
/* Interrupt vectors and stubs with a memory map, for 16-bit entry. */
void	boot_bios16(struct ram *);
/* BIOS data area: what kernels read even when they are not started by one. */
void	boot_bda(struct ram *);

/* ELF: load the PT_LOAD segments at their physical addresses. */
struct elf_image {
	uint64_t	entry;		/* physical */
	uint64_t	end;		/* first byte behind everything loaded */
	uint32_t	pvh;		/* PHYS32_ENTRY of the Xen note, 0: none */
	bool		is64;
};
/* Check headers and find the note; loads nothing. */
int	elf_check(struct boot *, const char *obj, const struct blob *,
	    struct elf_image *);
int	elf_place(struct ram *, struct boot *, const char *obj,
	    const struct blob *, struct elf_image *);

/* Offset of the multiboot header in the first 8 KiB, or -1. */
long	multiboot_find(const uint8_t *, size_t);

static inline uint16_t
le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t
le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static inline uint64_t
le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static inline void
put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void
put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)v);
	put16(p + 2, (uint16_t)(v >> 16));
}

static inline void
put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

#endif
