/*
 * `info pci': the configuration pages of bus 0, decoded.  PCI Local Bus 3.0,
 * chapter 6: type 0 header.  The pages are shared memory that guests and parts
 * write: each value is read once and nothing in it is an index.
 */
#include <inttypes.h>
#include <errno.h>
#include <string.h>
#include "mon.h"

static uint32_t
get(const uint8_t *cfg, unsigned off, unsigned size)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint32_t)cfg[off + i] << 8 * i;
	return v;
}

static const char *
class_name(unsigned class)
{
	static const struct { uint16_t class; const char *name; } t[] = {
		{ 0x00ff, "Unclassified device" }, { 0x0100, "SCSI controller" },
		{ 0x0101, "IDE controller" }, { 0x0106, "SATA controller" },
		{ 0x0180, "Storage controller" },
		{ 0x0200, "Ethernet controller" }, { 0x0300, "VGA controller" },
		{ 0x0380, "Display controller" }, { 0x0500, "RAM controller" },
		{ 0x0600, "Host bridge" }, { 0x0601, "ISA bridge" },
		{ 0x0604, "PCI bridge" }, { 0x0680, "Bridge" },
		{ 0x0780, "Communication controller" },
		{ 0x0c03, "USB controller" }, { 0x0c05, "SMBus" },
		{ 0x1000, "Entropy device" },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if (t[i].class == class)
			return t[i].name;
	return "Class";
}

static void
bars(struct mon *m, const uint8_t *cfg)
{
	unsigned cmd = get(cfg, 4, 2);

	for (unsigned i = 0; i < 6; i++) {
		uint32_t v = get(cfg, 0x10 + 4 * i, 4);
		uint64_t addr;

		if (v & 1) {
			fprintf(m->out, "      BAR%u: I/O at 0x%04x%s\n", i,
			    v & ~3u, cmd & 1 ? "" : " [off]");
			continue;
		}
		addr = v & ~15u;
		if ((v & 6) == 4 && i < 5)
			addr |= (uint64_t)get(cfg, 0x14 + 4 * i, 4) << 32;
		if (v != 0)
			fprintf(m->out, "      BAR%u: %d bit%s memory at 0x%08"
			    PRIx64 "%s\n", i, (v & 6) == 4 ? 64 : 32, v & 8 ?
			    " prefetchable" : "", addr, cmd & 2 ? "" :
			    " [off]");
		if ((v & 6) == 4)
			i++;
	}
}

int
info_pci(struct mon *m, int argc, char **argv)
{
	struct pci_space *pci;
	struct ram *ram;

	if (m->pages(m, &ram, &pci) == -1)
		return mon_fail(m, "info pci: %s", strerror(errno));
	for (unsigned fn = 0; fn < 256; fn++) {
		const uint8_t *cfg = pci->fn[fn];
		unsigned pin, class;

		if (pci->owner[fn] == 0 || get(cfg, 0, 2) == 0xffff)
			continue;
		class = get(cfg, 10, 2);
		fprintf(m->out, "  Bus  0, device %3u, function %u:\n", fn >> 3,
		    fn & 7);
		fprintf(m->out, "    %s: PCI device %04x:%04x, class %04x, "
		    "revision %02x\n", class_name(class), get(cfg, 0, 2),
		    get(cfg, 2, 2), class, cfg[8]);
		if (get(cfg, 0x2c, 4))
			fprintf(m->out, "      PCI subsystem %04x:%04x\n",
			    get(cfg, 0x2c, 2), get(cfg, 0x2e, 2));
		if ((pin = cfg[0x3d]) >= 1 && pin <= 4)
			fprintf(m->out, "      IRQ %u, pin %c\n", cfg[0x3c],
			    'A' + pin - 1);
		if ((cfg[0x0e] & 0x7f) == 0)
			bars(m, cfg);
	}
	return 0;
}
