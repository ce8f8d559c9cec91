/* links: mem bus */
/*
 * acpitest.c - the tables of mem/acpi.c and mem/smbios.c for many sizes of
 * machine: reachable from RSDP, checksums, and what must be in them.
 *
 *	acpitest DSDT.aml [DIRECTORY for the tables]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem/mem.h"

static int bad;
static struct ram ram;
static char dsdt[65536];
static size_t dsdt_len;

static void
want(int ok, const char *what, uint64_t mb, unsigned ncpu)
{
	if (!ok) {
		printf("%s (%llu MiB, %u CPUs)\n", what,
		    (unsigned long long)mb, ncpu);
		bad = 1;
	}
}

static uint8_t
sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static uint32_t
u32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t
u64(const uint8_t *p)
{
	return u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* A table with a good checksum, or NULL. */
static const uint8_t *
table(uint64_t gpa, const char *sig)
{
	const uint8_t *t = ram_at(&ram, gpa, 36);

	if (t == NULL || memcmp(t, sig, 4) || !ram_at(&ram, gpa, u32(t + 4)))
		return NULL;
	if (strcmp(sig, "FACS") && sum(t, u32(t + 4)))
		return NULL;
	return t;
}

static void
dump(const char *dir, const uint8_t *t)
{
	char path[512];
	FILE *f;

	if (dir == NULL)
		return;
	snprintf(path, sizeof path, "%s/%.4s.dat", dir, (const char *)t);
	f = fopen(path, "w");
	if (f == NULL || fwrite(t, 1, u32(t + 4), f) != u32(t + 4) ||
	    fclose(f)) {
		perror(path);
		bad = 1;
	}
}

/* Enabled processors with the APIC IDs of the topology. */
static unsigned
madt_cpus(const uint8_t *t, const struct topology *topo)
{
	unsigned i, n = 0;
	uint32_t id, flags;

	for (i = 44; i + 2 <= u32(t + 4) && t[i + 1] >= 2; i += t[i + 1]) {
		if (t[i] != 0 && t[i] != 9)
			continue;
		id = t[i] == 0 ? t[i + 3] : u32(t + i + 4);
		flags = u32(t + i + (t[i] == 0 ? 4 : 8));
		n += id == topo_apic_id(topo, n) && flags == 1;
	}
	return i == u32(t + 4) ? n : ~0u;
}

static void
smbios(uint64_t mb, unsigned ncpu, const struct topology *topo)
{
	const uint8_t *e, *p, *end;
	unsigned n = 0, cpus = 0;
	int last = -1;
	uint64_t a;

	for (a = 0xf0000; a < 0x100000; a += 16)
		if (!memcmp(ram_at(&ram, a, 16), "_SM_", 4))
			break;
	want(a < 0x100000, "no SMBIOS entry point", mb, ncpu);
	if (a == 0x100000)
		return;
	e = ram_at(&ram, a, 31);
	want(!sum(e, e[5]) && !sum(e + 16, 15), "SMBIOS checksum", mb, ncpu);
	p = ram_at(&ram, u32(e + 24), e[22] | e[23] << 8);
	end = p + (e[22] | e[23] << 8);
	while (p + 4 <= end) {
		last = p[0];
		n++;
		if (p[0] == 4) {	/* 7.5: count of cores and threads */
			cpus += p[0x2e] | p[0x2f] << 8;
			want((p[0x2a] | p[0x2b] << 8) == (int)topo->cores,
			    "cores of a processor", mb, ncpu);
		}
		p += p[1];
		while (p + 2 <= end && (p[0] || p[1]))
			p++;
		p += 2;
	}
	want(p == end && last == 127 && n == (unsigned)(e[28] | e[29] << 8),
	    "SMBIOS structures", mb, ncpu);
	want(cpus == ncpu, "processors in SMBIOS", mb, ncpu);
}

static void
machine(uint64_t mb, unsigned ncpu, unsigned cores, unsigned threads, bool hpet,
    const char *dir)
{
	struct acpi_opts o = { .ncpu = ncpu, .topo = { cores, threads },
	    .dsdt = dsdt,
	    .dsdt_len = dsdt_len, .hpet = hpet, .name = "test",
	    .uuid = "00112233-4455-6677-8899-aabbccddeeff" };
	const uint8_t *r, *x, *t, *fadt = NULL, *madt = NULL;
	uint64_t at;
	unsigned i, n = 0;

	if (ram_create(&ram, "acpitest", mb << 20)) {
		perror("ram_create");
		exit(1);
	}
	at = acpi_write(&ram, &o);
	want(at && !smbios_write(&ram, &o), "not written", mb, ncpu);
	r = at ? ram_at(&ram, at, 36) : NULL;
	want(r && !memcmp(r, "RSD PTR ", 8) && !sum(r, 20) && !sum(r, 36),
	    "RSDP", mb, ncpu);
	if (r == NULL)
		exit(1);
	want(table(u32(r + 16), "RSDT") != NULL, "RSDT", mb, ncpu);
	x = table(u64(r + 24), "XSDT");
	want(x != NULL, "XSDT", mb, ncpu);
	for (i = 36; x && i < u32(x + 4); i += 8, n++) {
		t = ram_at(&ram, u64(x + i), 36);
		want(t && table(u64(x + i), (char[]){ t[0], t[1], t[2], t[3],
		    0 }), "table of the XSDT", mb, ncpu);
		if (t && !memcmp(t, "FACP", 4))
			fadt = t;
		if (t && !memcmp(t, "APIC", 4))
			madt = t;
		if (t)
			dump(dir, t);
	}
	want(n == (hpet ? 4 : 3), "number of tables", mb, ncpu);
	want(fadt && table(u32(fadt + 36), "FACS") && u32(fadt + 36) % 64 == 0
	    && table(u64(fadt + 140), "DSDT"), "FADT", mb, ncpu);
	want(madt && madt_cpus(madt, &o.topo) == ncpu, "processors in the MADT", mb,
	    ncpu);
	smbios(mb, ncpu, &o.topo);
	ram_detach(&ram);
}

int
main(int argc, char **argv)
{
	static const uint64_t mb[] = { 16, 128, 3071, 3072, 6144 };
	struct acpi_opts o = { .ncpu = 1, .topo = { 1, 1 }, .dsdt = dsdt };
	unsigned i;
	FILE *f;

	f = argc > 1 ? fopen(argv[1], "r") : NULL;
	if (f == NULL) {
		perror(argc > 1 ? argv[1] : "acpitest");
		return 2;
	}
	dsdt_len = fread(dsdt, 1, sizeof dsdt, f);
	fclose(f);
	for (i = 0; i < sizeof mb / sizeof mb[0]; i++) {
		machine(mb[i], 1, 1, 1, true, NULL);
		machine(mb[i], 255, 255, 1, false, NULL);
		machine(mb[i], 255, 1, 1, false, NULL);
		machine(mb[i], 18, 3, 3, false, NULL);
	}
	machine(256, 300, 50, 3, true, argc > 2 ? argv[2] : NULL);
	/* a DSDT that is none, and one of the wrong length */
	if (ram_create(&ram, "acpitest", 16 << 20))
		return 1;
	o.dsdt_len = 10;
	want(acpi_write(&ram, &o) == 0, "short DSDT", 16, 1);
	o.dsdt_len = dsdt_len - 1;
	want(acpi_write(&ram, &o) == 0, "cut DSDT", 16, 1);
	if (!bad)
		puts("ok");
	return bad;
}
