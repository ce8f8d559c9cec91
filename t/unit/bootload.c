/* links: mem */
/*
 * bootload.c - the boot loaders against images made here: right ones, where
 * the register state and the placed structures are checked, and the same ones
 * truncated at every length and with every header byte changed, where nothing
 * may be trusted.  bootload [DIR]; prints "ok" or the first failure.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mem/mem.h"
#include "mem/boot.h"

static char kpath[600], rpath[600];
static struct ram ram;

#define CHECK(c) do { if (!(c)) { \
	printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #c, bt.why); \
	exit(1); } } while (0)

static void
spill(const char *path, const void *p, size_t n)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		perror(path), exit(1);
	close(fd);
}

/* RAM without libmem's memfd: an anonymous mapping with a guard behind it. */
static void
make_ram(uint64_t size)
{
	ram.size = size;
	ram.low = size < RAM_HOLE ? size : RAM_HOLE;
	ram.base = mmap(NULL, size + 4096, PROT_NONE, MAP_PRIVATE |
	    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram.base == MAP_FAILED || mprotect(ram.base, size, PROT_READ |
	    PROT_WRITE))
		perror("mmap"), exit(1);
}

#define SETUP_SECTS 3
#define KLEN ((SETUP_SECTS + 1) * 512 + 3000)
static uint8_t k[KLEN];

static void
bzimage(unsigned proto, unsigned xload)
{
	memset(k, 0x90, sizeof k);
	memset(k + 0x1f1, 0, 0x290 - 0x1f1);
	k[0x1f1] = SETUP_SECTS;
	put16(k + 0x1fe, 0xaa55);
	k[0x200] = 0xeb;
	k[0x201] = 0x66;
	memcpy(k + 0x202, "HdrS", 4);
	put16(k + 0x206, (uint16_t)proto);
	k[0x211] = 1;
	put32(k + 0x22c, 0x7fffffff);
	put16(k + 0x236, (uint16_t)xload);
	put32(k + 0x238, 2047);
	put64(k + 0x258, 0x1000000);
	put32(k + 0x260, 0x800000);
	memset(k + (SETUP_SECTS + 1) * 512, 0xcc, 3000);
	spill(kpath, k, sizeof k);
}

static void
test_linux(void)
{
	struct boot bt = { .kernel = kpath, .initrd = rpath,
		.append = "console=ttyS0 quiet", .rsdp = 0xf0010 };
	const uint8_t *z = ram.base + BOOT_PARAMS;
	char longline[4000];
	uint32_t rd;

	bzimage(0x20f, 3);
	spill(rpath, "initrd contents", 15);
	CHECK(boot_load(&ram, &bt) == 0);
	CHECK(bt.mode == BOOT_LONG64 && bt.rip == 0x1000200);
	CHECK(bt.rsi == BOOT_PARAMS && bt.cs == 0x10 && bt.ds == 0x18);
	CHECK(le64(ram.base + bt.gdt + 0x10) >> 48 == 0x00af);
	CHECK(le64(ram.base + bt.cr3) == (bt.cr3 + 0x1003));
	CHECK(le64(ram.base + bt.cr3 + 0x2000 + 8) == 0x200083);
	CHECK(le32(z + 0x202) == 0x53726448 && le64(z + 0x70) == 0xf0010);
	CHECK(z[0x210] == 0xff && le32(z + 0x228) == BOOT_CMDLINE);
	CHECK(!strcmp((char *)ram.base + BOOT_CMDLINE, bt.append));
	rd = le32(z + 0x218);
	CHECK(le32(z + 0x21c) == 15 && rd % 4096 == 0);
	CHECK(rd + 15 <= ram.low - ACPI_BYTES && rd > ram.low - ACPI_BYTES -
	    0x2000);
	CHECK(!memcmp(ram.base + rd, "initrd contents", 15));
	CHECK(ram.base[0x1000000] == 0xcc && ram.base[0x1000000 + 2999] ==
	    0xcc);
	CHECK(z[0x1e8] >= 5 && le64(z + 0x2d0) == 0 &&
	    le64(z + 0x2d8) == 0x9fc00 && le32(z + 0x2e0) == 1);

	bt.entry = "32";
	CHECK(boot_load(&ram, &bt) == 0 && bt.mode == BOOT_PROT32 &&
	    bt.rip == 0x1000000);
	CHECK(le64(ram.base + bt.gdt + 0x10) >> 48 == 0x00cf);
	bt.entry = "16";
	CHECK(boot_load(&ram, &bt) == 0 && bt.mode == BOOT_REAL16);
	CHECK(bt.cs == 0x1020 && bt.ds == 0x1000 && bt.rip == 0);
	CHECK(le32(ram.base + 0x10000 + 0x214) == 0x1000000);
	CHECK(le16(ram.base + 0x15 * 4 + 2) == BOOT_BIOS16 >> 4);
	bt.entry = "8";
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "8: "));
	bt.entry = NULL;

	bzimage(0x20f, 0);			/* a 32-bit kernel */
	CHECK(boot_load(&ram, &bt) == 0 && bt.mode == BOOT_PROT32);
	bt.entry = "64";
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "64-bit"));
	bt.entry = NULL;
	put32(k + 0x260, 0x7fffffff);		/* does not fit */
	spill(kpath, k, sizeof k);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "needs memory"));
	put64(k + 0x258, ~0ull - 100);
	spill(kpath, k, sizeof k);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "out of range"));
	bzimage(0x202, 0);			/* an old kernel */
	CHECK(boot_load(&ram, &bt) == 0 && bt.mode == BOOT_REAL16);

	bzimage(0x20f, 1);
	memset(longline, 'x', sizeof longline - 1);
	longline[sizeof longline - 1] = 0;
	bt.append = longline;
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "append: "));
	bt.append = "mem=32M";
	CHECK(boot_load(&ram, &bt) == 0 && le32(z + 0x218) == 0x1fff000);
	bt.append = NULL;
	if (truncate(rpath, (off_t)ram.size + 1))
		perror("truncate"), exit(1);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "do not fit"));
	if (truncate(rpath, (off_t)ram.size - 0x1000000))
		perror("truncate"), exit(1);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "do not fit"));
	bt.initrd = "/nonexistent/initrd";
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "No such file"));
	bt.initrd = NULL;
	bt.kernel = "/dev/null";
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "/dev/null: "));
	bt.kernel = "/";
	CHECK(boot_load(&ram, &bt) == -1 && !strncmp(bt.why, "/: ", 3));
	bt.kernel = NULL;
	CHECK(boot_load(&ram, &bt) == 0 && bt.mode == BOOT_RESET);
}

static uint8_t elf[8192];
#define ELEN 0x1400

static void
make_elf(bool is64, bool note)
{
	unsigned ph = is64 ? 64 : 52, i;
	uint8_t *n = elf + 0x200, *p;

	memset(elf, 0, sizeof elf);
	memcpy(elf, "\177ELF", 4);
	elf[4] = is64 ? 2 : 1;
	elf[5] = elf[6] = 1;
	put16(elf + 16, 2);
	put16(elf + 18, is64 ? 62 : 3);
	put32(elf + 20, 1);
	if (is64) {
		put64(elf + 24, 0xffffffff81000010ull);
		put64(elf + 32, ph);
		put16(elf + 54, 56);
		put16(elf + 56, 2);
	} else {
		put32(elf + 24, 0x00200010);
		put32(elf + 28, ph);
		put16(elf + 42, 32);
		put16(elf + 44, 2);
	}
	for (i = 0; i < 2; i++) {
		uint64_t off = i ? 0x200 : 0x1000, len = i ? 40 : 0x400;
		uint64_t mem = i ? 40 : 0x3000;
		p = elf + ph + i * (is64 ? 56 : 32);
		put32(p, i ? 4 : 1);
		if (is64) {
			put64(p + 8, off);
			put64(p + 16, 0xffffffff81000000ull);
			put64(p + 24, 0x200000);
			put64(p + 32, len);
			put64(p + 40, mem);
		} else {
			put32(p + 4, (uint32_t)off);
			put32(p + 8, 0x200000);
			put32(p + 12, 0x200000);
			put32(p + 16, (uint32_t)len);
			put32(p + 20, (uint32_t)mem);
		}
	}
	put32(n, 4);				/* another note first */
	put32(n + 4, 4);
	put32(n + 8, 1);
	memcpy(n + 12, "Xen", 4);
	n += 20;
	put32(n, 4);
	put32(n + 4, 4);
	put32(n + 8, note ? 18 : 17);
	memcpy(n + 12, "Xen", 4);
	put32(n + 16, 0x200040);
	memset(elf + 0x1000, 0xdd, 0x400);
	spill(kpath, elf, ELEN);
}

static void
test_elf(void)
{
	struct boot bt = { .kernel = kpath, .append = "a b", .rsdp = 0xf0020 };
	const uint8_t *s = ram.base + BOOT_PARAMS, *m;
	int is64;

	for (is64 = 0; is64 < 2; is64++) {
		make_elf(is64, true);
		memset(ram.base + 0x200000, 0x77, 0x4000);
		bt.initrd = NULL;
		CHECK(boot_load(&ram, &bt) == 0);
		CHECK(bt.mode == BOOT_PROT32 && bt.rip == 0x200040);
		CHECK(bt.rbx == BOOT_PARAMS && le32(s) == 0x336ec578);
		CHECK(le32(s + 4) == 1 && le32(s + 12) == 0);
		CHECK(le64(s + 32) == 0xf0020 && le32(s + 48) >= 5);
		CHECK(!strcmp((char *)ram.base + le64(s + 24), "a b"));
		m = ram.base + le64(s + 40);
		CHECK(le64(m) == 0 && le64(m + 8) == 0x9fc00 &&
		    le32(m + 16) == 1);
		CHECK(ram.base[0x2003ff] == 0xdd && ram.base[0x200400] == 0 &&
		    ram.base[0x202fff] == 0 && ram.base[0x203000] == 0x77);
		spill(rpath, "r", 1);
		bt.initrd = rpath;
		CHECK(boot_load(&ram, &bt) == 0 && le32(s + 12) == 1);
		CHECK(ram.base[le64(ram.base + le64(s + 16))] == 'r');
		make_elf(is64, false);
		CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "PVH"));
	}
	bt.initrd = NULL;
	make_elf(true, true);
	put64(elf + 64 + 24, 0x8000);
	spill(kpath, elf, ELEN);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "below"));
	put64(elf + 64 + 24, ~0ull - 0x1000);
	spill(kpath, elf, ELEN);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "not in"));
	make_elf(true, true);
	put16(elf + 18, 183);
	spill(kpath, elf, ELEN);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "another"));
}

static uint8_t mb[4096];

static void
make_multiboot(void)
{
	uint8_t *h = mb + 0x40;

	memset(mb, 0xee, sizeof mb);
	put32(h, 0x1badb002);
	put32(h + 4, 0x10003);
	put32(h + 8, -(0x1badb002u + 0x10003u));
	put32(h + 12, 0x100040);
	put32(h + 16, 0x100000);
	put32(h + 20, 0);
	put32(h + 24, 0x105000);
	put32(h + 28, 0x100100);
	spill(kpath, mb, sizeof mb);
}

static void
test_multiboot(void)
{
	const uint8_t *i = ram.base + BOOT_PARAMS, *m;
	char list[2400];
	struct boot bt = { .kernel = kpath, .append = "arg", .initrd = list };

	make_multiboot();
	spill(rpath, "module", 6);
	snprintf(list, sizeof list, "%s one 1,%s,%s a,,b", rpath, rpath, rpath);
	CHECK(boot_load(&ram, &bt) == 0);
	CHECK(bt.mode == BOOT_PROT32 && bt.rip == 0x100100);
	CHECK(bt.rax == 0x2badb002 && bt.rbx == BOOT_PARAMS);
	CHECK(le32(i) == 0x24d && le32(i + 4) == 639);
	CHECK(ram.base[0x100fff] == 0xee && ram.base[0x101000] == 0);
	CHECK(strstr((char *)ram.base + le32(i + 16), " arg"));
	CHECK(le32(i + 20) == 3);
	m = ram.base + le32(i + 24);
	CHECK(le32(m) == 0x105000 && le32(m + 4) == 0x105006);
	CHECK(le32(m + 16) == 0x106000);
	CHECK(!memcmp(ram.base + 0x106000, "module", 6));
	CHECK(strstr((char *)ram.base + le32(m + 8), " one 1"));
	CHECK(strstr((char *)ram.base + le32(m + 40), " a,b"));
	CHECK(le32(i + 44) >= 5 * 24 && le32(ram.base + le32(i + 48)) == 20);
	snprintf(list, sizeof list, "%s,,x", rpath);
	CHECK(boot_load(&ram, &bt) == -1);
	snprintf(list, sizeof list, "%s,", rpath);
	CHECK(boot_load(&ram, &bt) == 0 || strstr(bt.why, "empty"));

	bt.initrd = NULL;
	put32(mb + 0x44, 0x10103);
	put32(mb + 0x48, -(0x1badb002u + 0x10103u));
	spill(kpath, mb, sizeof mb);
	CHECK(boot_load(&ram, &bt) == -1 && strstr(bt.why, "unknown"));

	make_elf(false, false);			/* ELF with a header */
	memcpy(elf + 0x300, mb + 0x40, 4);
	put32(elf + 0x304, 0);
	put32(elf + 0x308, -0x1badb002u);
	spill(kpath, elf, ELEN);
	CHECK(boot_load(&ram, &bt) == 0 && bt.rip == 0x200010);
}

/* Every truncation, and every byte of the headers with hostile values. */
static void
abuse(const uint8_t *img, size_t len, size_t header, size_t step)
{
	static const uint8_t evil[] = { 0, 1, 0x7f, 0x80, 0xff };
	struct boot bt = { .kernel = kpath, .initrd = rpath, .append = "x" };
	size_t n, i;
	uint8_t *c;

	spill(rpath, "rd", 2);
	for (n = 0; n < len; n += step) {
		spill(kpath, img, n);
		if (boot_load(&ram, &bt))
			CHECK(strstr(bt.why, ": "));
	}
	c = malloc(len);
	for (n = 0; n < header; n++)
		for (i = 0; i < sizeof evil; i++) {
			memcpy(c, img, len);
			c[n] = evil[i];
			if (i == 4 && n + 8 <= header)
				memset(c + n, 0xff, 8);
			spill(kpath, c, len);
			if (boot_load(&ram, &bt))
				CHECK(strstr(bt.why, ": "));
		}
	free(c);
}

static void
test_map(uint64_t size, bool high)
{
	struct boot bt = { 0 };
	struct e820 e[16];
	uint64_t sum = 0;
	struct ram r = { .size = size, .low = size < RAM_HOLE ? size :
		RAM_HOLE };
	int i, n = boot_e820(&r, e, 16);

	CHECK(n > 0 && n < 16);
	for (i = 0; i < n; i++) {
		if (i)
			CHECK(e[i].addr >= e[i - 1].addr + e[i - 1].size);
		if (e[i].type == 1)
			sum += e[i].size;
	}
	CHECK((e[n - 1].addr == RAM_HIGH) == high);
	CHECK(sum == size - (0x100000 - 0x9fc00) - ACPI_BYTES);
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "/tmp";

	snprintf(kpath, sizeof kpath, "%s/bootload.%d.k", dir, (int)getpid());
	snprintf(rpath, sizeof rpath, "%s/bootload.%d.r", dir, (int)getpid());
	make_ram(64 << 20);
	test_linux();
	test_elf();
	test_multiboot();
	test_map(16 << 20, false);
	test_map(RAM_HOLE, false);
	test_map(6ull << 30, true);
	bzimage(0x20f, 3);
	abuse(k, KLEN, 0, 97);
	abuse(k + 0, 0x290 + 512, 0x290, 64);
	make_elf(true, true);
	abuse(elf, ELEN, 0x240, 61);
	make_elf(false, true);
	abuse(elf, ELEN, 0x240, 61);
	make_multiboot();
	abuse(mb, sizeof mb, 0x60, 61);
	unlink(kpath);
	unlink(rpath);
	puts("ok");
	return 0;
}
