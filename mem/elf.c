/*
 * elf.c - ELF kernels (ELF-32 and ELF-64, little-endian, x86) and the PVH
 * direct boot protocol: entry from the Xen note PHYS32_ENTRY, struct
 * hvm_start_info version 1 in EBX (Xen public/arch-x86/hvm/start_info.h
 * describes it; docs/misc/pvh.pandoc the register state).
 */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot.h"

#define NOTE_PHYS32_ENTRY	18
#define START_INFO_MAGIC	0x336ec578u

struct phdr { uint64_t off, vaddr, paddr, filesz, memsz; uint32_t type; };

static int
truncated(struct boot *b, const char *obj)
{
	return boot_fail(b, obj, "truncated or malformed ELF file");
}

/* Program header i; false if it is not in the file. */
static bool
phdr(const struct blob *f, unsigned i, struct phdr *p)
{
	bool is64 = f->p[EI_CLASS] == ELFCLASS64;
	uint64_t off = is64 ? le64(f->p + 32) : le32(f->p + 28);
	unsigned size = le16(f->p + (is64 ? 54 : 42));
	unsigned want = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	const uint8_t *h;

	if (size < want || off > f->n ||
	    (uint64_t)(i + 1) * size > f->n - off)
		return false;
	h = f->p + off + (uint64_t)i * size;
	p->type = le32(h);
	p->off = is64 ? le64(h + 8) : le32(h + 4);
	p->vaddr = is64 ? le64(h + 16) : le32(h + 8);
	p->paddr = is64 ? le64(h + 24) : le32(h + 12);
	p->filesz = is64 ? le64(h + 32) : le32(h + 16);
	p->memsz = is64 ? le64(h + 40) : le32(h + 20);
	return true;
}

static unsigned
phnum(const struct blob *f)
{
	return le16(f->p + (f->p[EI_CLASS] == ELFCLASS64 ? 56 : 44));
}

/* The entry in a note segment [p, p+n), or 0. */
static uint32_t
find_note(const uint8_t *p, uint64_t n)
{
	uint64_t name, desc, step;

	while (n >= 12) {
		name = le32(p);
		desc = le32(p + 4);
		step = 12 + ((name + 3) & ~3ull) + ((desc + 3) & ~3ull);
		if (step > n)
			return 0;
		if (le32(p + 8) == NOTE_PHYS32_ENTRY && name == 4 &&
		    !memcmp(p + 12, "Xen", 4) && (desc == 4 || desc == 8))
			return le32(p + 16);
		p += step;
		n -= step;
	}
	return 0;
}

int
elf_check(struct boot *b, const char *obj, const struct blob *f,
    struct elf_image *im)
{
	struct phdr p;
	unsigned i, machine, loads = 0;

	memset(im, 0, sizeof *im);
	if (f->n < 64 || memcmp(f->p, ELFMAG, SELFMAG))
		return truncated(b, obj);
	im->is64 = f->p[EI_CLASS] == ELFCLASS64;
	if ((!im->is64 && f->p[EI_CLASS] != ELFCLASS32) ||
	    f->p[EI_DATA] != ELFDATA2LSB)
		return boot_fail(b, obj, "is not a little-endian ELF file");
	machine = le16(f->p + 18);
	if (machine != EM_386 && machine != EM_X86_64)
		return boot_fail(b, obj, "is an ELF file for another processor "
		    "(machine %u)", machine);
	if (le16(f->p + 16) != ET_EXEC && le16(f->p + 16) != ET_DYN)
		return boot_fail(b, obj, "is an ELF file but not a program");
	im->entry = im->is64 ? le64(f->p + 24) : le32(f->p + 24);
	for (i = 0; i < phnum(f); i++) {
		if (!phdr(f, i, &p))
			return truncated(b, obj);
		if (p.type != PT_LOAD && p.type != PT_NOTE)
			continue;
		if (p.off > f->n || p.filesz > f->n - p.off)
			return truncated(b, obj);
		if (p.type == PT_NOTE && !im->pvh)
			im->pvh = find_note(f->p + p.off, p.filesz);
		loads += p.type == PT_LOAD;
	}
	if (!loads)
		return boot_fail(b, obj, "ELF file has nothing to load");
	return 0;
}

int
elf_place(struct ram *r, struct boot *b, const char *obj,
    const struct blob *f, struct elf_image *im)
{
	uint64_t entry = im->entry;
	struct phdr p;
	uint8_t *to;
	unsigned i;

	for (i = 0; i < phnum(f); i++) {
		if (!phdr(f, i, &p))
			return truncated(b, obj);
		if (p.type != PT_LOAD || p.memsz == 0)
			continue;
		if (p.filesz > p.memsz || p.off > f->n ||
		    p.filesz > f->n - p.off)
			return truncated(b, obj);
		if (p.paddr < BOOT_KERNEL_MIN)
			return boot_fail(b, obj, "segment at 0x%llx is below "
			    "1 MiB", (unsigned long long)p.paddr);
		to = boot_place(r, p.paddr, p.memsz);
		if (!to)
			return boot_fail(b, obj, "segment of %llu bytes at "
			    "0x%llx is not in the guest's memory",
			    (unsigned long long)p.memsz,
			    (unsigned long long)p.paddr);
		memcpy(to, f->p + p.off, p.filesz);
		memset(to + p.filesz, 0, p.memsz - p.filesz);
		if (entry >= p.vaddr && entry - p.vaddr < p.memsz)
			im->entry = entry - p.vaddr + p.paddr;
		if (p.paddr + p.memsz > im->end)
			im->end = p.paddr + p.memsz;
	}
	return 0;
}

static void
start_info(struct ram *r, struct boot *b, uint64_t rd, uint64_t rd_len)
{
	uint8_t *s = ram_at(r, BOOT_PARAMS, 4096);
	uint8_t *map = s + 0x200, *mod = s + 0x100;
	struct e820 e[16];
	int i, n;

	memset(s, 0, 4096);
	n = boot_e820(r, e, 16);
	for (i = 0; i < n; i++) {
		put64(map + i * 24, e[i].addr);
		put64(map + i * 24 + 8, e[i].size);
		put32(map + i * 24 + 16, e[i].type);
	}
	put32(s, START_INFO_MAGIC);
	put32(s + 4, 1);			/* version */
	if (rd) {
		put32(s + 12, 1);		/* modules */
		put64(s + 16, BOOT_PARAMS + 0x100);
		put64(mod, rd);
		put64(mod + 8, rd_len);
	}
	put64(s + 24, BOOT_CMDLINE);
	put64(s + 32, b->rsdp);
	put64(s + 40, BOOT_PARAMS + 0x200);
	put32(s + 48, (uint32_t)n);
}

int
boot_elf(struct ram *r, struct boot *b)
{
	const char *cmdline = b->append ? b->append : "";
	struct blob k = { 0 }, rd = { 0 };
	struct elf_image im;
	uint64_t at = 0;
	int ret = -1, err = 0;

	if (boot_slurp(b, b->kernel, ~0ull >> 1, &k) ||
	    elf_check(b, b->kernel, &k, &im))
		goto out;
	if (!im.pvh) {
		boot_fail(b, b->kernel, "ELF file without a PVH note");
		err = ENOEXEC;
		goto out;
	}
	if (b->entry && strcmp(b->entry, "32")) {
		boot_fail(b, b->kernel, "has no %s-bit entry; PVH is 32-bit",
		    b->entry);
		goto out;
	}
	if (elf_place(r, b, b->kernel, &k, &im))
		goto out;
	if (im.pvh < BOOT_KERNEL_MIN || im.pvh >= im.end) {
		boot_fail(b, b->kernel, "PVH entry 0x%x is outside the image",
		    im.pvh);
		goto out;
	}
	if (boot_string(r, BOOT_CMDLINE, BOOT_CMDLINE_MAX, cmdline)) {
		boot_fail(b, "append", "command line is too long");
		goto out;
	}
	if (b->initrd) {
		if (boot_slurp(b, b->initrd, r->size, &rd))
			goto out;
		at = rd.n <= boot_top(r) ?
		    (boot_top(r) - rd.n) & ~4095ull : 0;
		if (rd.n && at < im.end) {
			boot_fail(b, b->initrd, "%zu bytes do not fit behind "
			    "the kernel", rd.n);
			goto out;
		}
		if (rd.n)
			memcpy(ram_at(r, at, rd.n), rd.p, rd.n);
		else
			at = 0;
	}
	start_info(r, b, at, rd.n);
	boot_flat(r, b, BOOT_PROT32, im.pvh);
	b->rbx = BOOT_PARAMS;
	ret = 0;
out:
	free(k.p);
	free(rd.p);
	errno = err;
	return ret;
}
