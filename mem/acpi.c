/*
 * acpi.c - the ACPI tables of the machine `pc` (ACPI 6.5, 5.2; HPET table: IA-PC
 * HPET 1.0a, 3.2.4; MCFG: PCI Firmware 3.3, 4.1.2), all but the DSDT, which is
 * share/dsdt.asl.
 *
 * The RSDP is in the BIOS area, the rest in the last ACPI_BYTES of low RAM.
 * Register addresses are those of dev/pm.c, dev/hpet.c and the I/O APIC.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "boot.h"

enum {
	RSDP_AT = 0xf0000,
	IOAPIC_AT = 0xfec00000u, LAPIC_AT = 0xfee00000u, HPET_AT = 0xfed00000u,
	HPET_ID = 0x8086a201u,
	PM_BASE = 0xb000, GPE_BASE = 0xafe0, SMI_CMD = 0xb2,
	ACPI_ON = 0xf1, ACPI_OFF = 0xf0, RESET_PORT = 0xcf9, RESET_VALUE = 0x0f,
	CMOS_CENTURY = 0x32, SCI = 9,
};
enum { ISO_LEVEL_HIGH = 0x0d };
/* FADT flags, table 5.10 */
enum { F_WBINVD = 1 << 0, F_PROC_C1 = 1 << 2, F_SLP_BUTTON = 1 << 5,
	F_FIX_RTC = 1 << 6, F_RESET_REG = 1 << 10 };
/* IA-PC boot architecture, table 5.11 */
enum { ARCH_LEGACY = 1, ARCH_8042 = 2 };

/* Tables are laid one after the other; `len` is of the one being made. */
struct out {
	uint8_t		*base;
	uint64_t	gpa;		/* of base */
	size_t		room, used;
	uint8_t		*t;		/* table being made */
	size_t		len;
	bool		full;
};

static void
byte(struct out *o, unsigned v)
{
	if (o->used + o->len >= o->room) {
		o->full = true;
		return;
	}
	o->t[o->len++] = (uint8_t)v;
}

static void
num(struct out *o, uint64_t v, unsigned size)
{
	for (; size; size--, v >>= 8)
		byte(o, v & 0xff);
}

static void
text(struct out *o, const char *s, unsigned size)
{
	for (; size; size--)
		byte(o, (uint8_t)*s++);
}

/* Generic address structure */
static void
gas(struct out *o, unsigned space, unsigned bits, unsigned access,
    uint64_t addr)
{
	byte(o, space);
	byte(o, bits);
	byte(o, 0);
	byte(o, access);
	num(o, addr, 8);
}

static void
start(struct out *o, unsigned align)
{
	o->used = (o->used + align - 1) / align * align;
	if (o->used > o->room)
		o->full = true;
	o->t = o->base + (o->full ? 0 : o->used);
	o->len = 0;
}

static void
header(struct out *o, const char *sig, unsigned rev)
{
	start(o, 16);
	text(o, sig, 4);
	num(o, 0, 4);			/* length, in finish() */
	byte(o, rev);
	byte(o, 0);			/* checksum */
	text(o, "SLUICE", 6);
	text(o, "SLUICEPC", 8);
	num(o, 1, 4);
	text(o, "SLCE", 4);
	num(o, 1, 4);
}

static uint8_t
sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* Length and checksum; the guest address of the table. */
static uint64_t
finish(struct out *o)
{
	uint64_t at = o->gpa + o->used;

	if (!o->full) {
		put32(o->t + 4, (uint32_t)o->len);
		o->t[9] = 0;
		o->t[9] = (uint8_t)-sum(o->t, o->len);
	}
	o->used += o->len;
	return at;
}

/* ------------------------------------------------------------------ tables */

static uint64_t
facs(struct out *o)
{
	uint64_t at;

	start(o, 64);
	text(o, "FACS", 4);
	num(o, 64, 4);
	while (o->len < 32)
		byte(o, 0);
	byte(o, 2);			/* version */
	while (o->len < 64 && !o->full)
		byte(o, 0);
	at = o->gpa + o->used;
	o->used += o->len;
	return at;
}

static uint64_t
dsdt(struct out *o, const struct acpi_opts *a)
{
	const uint8_t *p = a->dsdt;
	uint64_t at;
	size_t i;

	start(o, 16);
	for (i = 0; i < a->dsdt_len; i++)
		byte(o, p[i]);
	at = o->gpa + o->used;
	o->used += o->len;
	return at;
}

static uint64_t
fadt(struct out *o, uint64_t facs_at, uint64_t dsdt_at)
{
	unsigned i;

	header(o, "FACP", 5);
	num(o, facs_at, 4);
	num(o, dsdt_at, 4);
	byte(o, 0);
	byte(o, 1);			/* profile: desktop */
	num(o, SCI, 2);
	num(o, SMI_CMD, 4);
	byte(o, ACPI_ON);
	byte(o, ACPI_OFF);
	num(o, 0, 2);			/* S4BIOS_REQ, PSTATE_CNT */
	num(o, PM_BASE, 4);		/* PM1a event, PM1b */
	num(o, 0, 4);
	num(o, PM_BASE + 4, 4);		/* PM1a control, PM1b */
	num(o, 0, 4);
	num(o, 0, 4);			/* PM2 control */
	num(o, PM_BASE + 8, 4);		/* PM timer */
	num(o, GPE_BASE, 4);		/* GPE0, GPE1 */
	num(o, 0, 4);
	byte(o, 4);			/* lengths, in the same order */
	byte(o, 2);
	byte(o, 0);
	byte(o, 4);
	byte(o, 4);
	byte(o, 0);
	num(o, 0, 2);			/* GPE1_BASE, CST_CNT */
	num(o, 0xfff, 2);		/* no C2, no C3 */
	num(o, 0xfff, 2);
	num(o, 0, 4);			/* flush size, stride */
	num(o, 0, 4);			/* duty offset, width; alarms */
	byte(o, CMOS_CENTURY);
	num(o, ARCH_LEGACY | ARCH_8042, 2);
	byte(o, 0);
	num(o, F_WBINVD | F_PROC_C1 | F_SLP_BUTTON | F_FIX_RTC | F_RESET_REG,
	    4);
	gas(o, 1, 8, 1, RESET_PORT);
	byte(o, RESET_VALUE);
	num(o, 0, 2);			/* ARM */
	byte(o, 1);			/* minor version: 5.1 */
	num(o, 0, 8);			/* X_FIRMWARE_CTRL: the short one */
	num(o, dsdt_at, 8);
	gas(o, 1, 32, 2, PM_BASE);
	gas(o, 0, 0, 0, 0);
	gas(o, 1, 16, 2, PM_BASE + 4);
	gas(o, 0, 0, 0, 0);
	gas(o, 0, 0, 0, 0);
	gas(o, 1, 32, 3, PM_BASE + 8);
	gas(o, 1, 32, 1, GPE_BASE);
	for (i = 0; i < 3; i++)		/* GPE1, sleep control, sleep status */
		gas(o, 0, 0, 0, 0);
	return finish(o);
}

/* Interrupt source override of an ISA interrupt. */
static void
override(struct out *o, unsigned irq, unsigned gsi, unsigned flags)
{
	byte(o, 2);
	byte(o, 10);
	byte(o, 0);
	byte(o, irq);
	num(o, gsi, 4);
	num(o, flags, 2);
}

static uint64_t
madt(struct out *o, const struct acpi_opts *a)
{
	static const uint8_t level[] = { 5, SCI, 10, 11 };
	bool x2 = false;
	unsigned i;

	header(o, "APIC", 3);
	num(o, LAPIC_AT, 4);
	num(o, 1, 4);			/* there are 8259s, too */
	for (i = 0; i < a->ncpu; i++) {
		uint32_t id = topo_apic_id(&a->topo, i);

		if (i < 255 && id < 255) {
			byte(o, 0);	/* local APIC */
			byte(o, 8);
			byte(o, i);	/* processor, APIC ID */
			byte(o, id);
			num(o, 1, 4);
		} else {
			byte(o, 9);	/* local x2APIC */
			byte(o, 16);
			num(o, 0, 2);
			num(o, id, 4);
			num(o, 1, 4);
			num(o, i, 4);
			x2 = true;
		}
	}
	byte(o, 1);			/* I/O APIC 0, from GSI 0 on */
	byte(o, 12);
	num(o, 0, 2);
	num(o, IOAPIC_AT, 4);
	num(o, 0, 4);
	override(o, 0, 2, 0);
	for (i = 0; i < sizeof level; i++)
		override(o, level[i], level[i], ISO_LEVEL_HIGH);
	byte(o, 4);			/* NMI: LINT1 of every processor */
	byte(o, 6);
	byte(o, 0xff);
	num(o, 0, 2);
	byte(o, 1);
	if (x2) {
		byte(o, 10);
		byte(o, 12);
		num(o, 0, 2);
		num(o, 0xffffffff, 4);
		byte(o, 1);
		num(o, 0, 3);
	}
	return finish(o);
}

static uint64_t
hpet(struct out *o)
{
	header(o, "HPET", 1);
	num(o, HPET_ID, 4);
	gas(o, 0, 64, 0, HPET_AT);
	byte(o, 0);			/* number */
	num(o, 100, 2);			/* least period, in ticks */
	byte(o, 0);
	return finish(o);
}

static uint64_t
mcfg(struct out *o)
{
	header(o, "MCFG", 1);
	num(o, 0, 8);
	num(o, ECAM_BASE, 8);
	num(o, 0, 2);			/* segment */
	byte(o, 0);			/* buses */
	byte(o, ECAM_BYTES / 0x100000 - 1);
	num(o, 0, 4);
	return finish(o);
}

static uint64_t
root(struct out *o, const char *sig, unsigned size, const uint64_t *t,
    unsigned n)
{
	unsigned i;

	header(o, sig, 1);
	for (i = 0; i < n; i++)
		num(o, t[i], size);
	return finish(o);
}

static void
rsdp(uint8_t *p, uint64_t rsdt, uint64_t xsdt)
{
	memset(p, 0, 36);
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "SLUICE", 6);
	p[15] = 2;
	put32(p + 16, (uint32_t)rsdt);
	put32(p + 20, 36);
	put64(p + 24, xsdt);
	p[8] = (uint8_t)-sum(p, 20);
	p[32] = (uint8_t)-sum(p, 36);
}

uint64_t
acpi_write(struct ram *r, const struct acpi_opts *a)
{
	struct out o = { .gpa = boot_top(r), .room = ACPI_BYTES };
	uint8_t *p = ram_at(r, RSDP_AT, 36);
	uint64_t tables[4], xsdt, rsdt, facs_at, dsdt_at;
	unsigned n = 0;

	o.base = ram_at(r, o.gpa, o.room);
	if (p == NULL || o.base == NULL || o.gpa < 0x100000) {
		errno = ENOMEM;
		return 0;
	}
	if (a->dsdt_len < 36 || a->ncpu == 0 || a->topo.cores == 0 ||
	    a->topo.threads == 0 || memcmp(a->dsdt, "DSDT", 4) ||
	    le32((const uint8_t *)a->dsdt + 4) != a->dsdt_len) {
		errno = EINVAL;
		return 0;
	}
	memset(o.base, 0, o.room);
	facs_at = facs(&o);
	dsdt_at = dsdt(&o, a);
	tables[n++] = fadt(&o, facs_at, dsdt_at);
	tables[n++] = madt(&o, a);
	if (a->hpet)
		tables[n++] = hpet(&o);
	tables[n++] = mcfg(&o);
	rsdt = root(&o, "RSDT", 4, tables, n);
	xsdt = root(&o, "XSDT", 8, tables, n);
	if (o.full) {
		errno = E2BIG;
		return 0;
	}
	rsdp(p, rsdt, xsdt);
	return RSDP_AT;
}
