/*
 * The topics of `info'.  Those of one part are that part's own words; the rest
 * is put together from the broker's answers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mon.h"

#define WORDS_MAX 64

/* The vcpu process knows: its question is the topic's name. */
static int
info_cpu(struct mon *m, int argc, char **argv)
{
	if (argc > 1)
		return mon_tell(m, "cpu", "info %s %s", argv[0], argv[1]);
	if (strcmp(argv[0], "registers") == 0 ||
	    strcmp(argv[0], "lapic") == 0 || strcmp(argv[0], "mem") == 0 ||
	    strcmp(argv[0], "tlb") == 0)
		return mon_tell(m, "cpu", "info %s %u", argv[0], m->cpu);
	return mon_tell(m, "cpu", "info %s", argv[0]);
}

static int
info_bus(struct mon *m, int argc, char **argv)
{
	return mon_tell(m, "bus", "%s", argv[0]);
}

static int
info_status(struct mon *m, int argc, char **argv)
{
	char *reply;

	if (mon_ask(m, &reply, "bus", "status") == -1)
		return -1;
	fprintf(m->out, "VM status: %s\n", reply);
	free(reply);
	return 0;
}

static int
info_irq(struct mon *m, int argc, char **argv)
{
	return mon_tell(m, "bus", "lines");
}

static int
qtree_part(struct mon *m, const char *name, const char *chip, const char *line)
{
	char *reply = NULL, *p, *save;

	fprintf(m->out, "  part: %s, chip \"%s\"\n", name, chip);
	if (!mon_chip(name, chip))
		return 0;
	/* one that is dead or hung does not end the list */
	if (m->ask(m, name, "info", &reply) == 0 && reply != NULL)
		for (p = strtok_r(reply, "\n", &save); p != NULL;
		    p = strtok_r(NULL, "\n", &save))
			fprintf(m->out, "    %.74s%s\n", p,
			    strlen(p) > 74 ? "..." : "");
	else
		fprintf(m->out, "    (no answer: %s)\n", reply && *reply ?
		    reply : "it said no");
	free(reply);
	return 0;
}

static int
info_qtree(struct mon *m, int argc, char **argv)
{
	fprintf(m->out, "bus: main-system-bus\n");
	return mon_parts(m, qtree_part);
}

/* `info chardev': what the parts that have one say of it. */
static const char *end_question;

static int
end_part(struct mon *m, const char *name, const char *chip, const char *line)
{
	char *reply = NULL;

	if (!mon_chip(name, chip))
		return 0;
	if (m->ask(m, name, end_question, &reply) == 0 && reply && *reply) {
		reply[strcspn(reply, "\n")] = '\0';
		fprintf(m->out, "%s: %s\n", name, reply);
	}
	free(reply);
	return 0;
}

static int
info_end(struct mon *m, int argc, char **argv)
{
	end_question = argv[0];
	return mon_parts(m, end_part);
}

/* `info balloon' and the like: parts of that chip know. */
static int
chip_part(struct mon *m, const char *name, const char *chip, const char *line)
{
	return strcmp(chip, "virtio-balloon") == 0 ?
	    mon_tell(m, name, "%s", end_question) : 0;
}

static int
info_chip(struct mon *m, int argc, char **argv)
{
	end_question = argv[0];
	return mon_parts(m, chip_part);
}

/* What was loaded into memory before the first instruction. */
static int
info_roms(struct mon *m, int argc, char **argv)
{
	static const char *const keys[] = { "kernel", "initrd", "append", NULL };
	char *reply, *line, *save, *words[WORDS_MAX];
	const char *v;

	if (mon_ask(m, &reply, "bus", "machine") == -1)
		return -1;
	for (line = strtok_r(reply, "\n", &save); line != NULL;
	    line = strtok_r(NULL, "\n", &save)) {
		if (line_split(line, words, WORDS_MAX) < 2 ||
		    strcmp(words[0], "boot") != 0)
			continue;
		for (int i = 0; keys[i]; i++)
			if ((v = line_key(words + 1, keys[i])) != NULL)
				fprintf(m->out, "%s: %s\n", keys[i], v);
	}
	free(reply);
	return 0;
}

const struct command topics[] = {
	{ "status", NULL, "", "whether the machine runs", 0, 0, info_status },
	{ "version", NULL, "", "version of this program", 0, 0, info_bus },
	{ "name", NULL, "", "name of the machine", 0, 0, info_bus },
	{ "uuid", NULL, "", "its UUID", 0, 0, info_bus },
	{ "parts", NULL, "", "its processes", 0, 0, info_bus },
	{ "machine", NULL, "", "its machine file", 0, 0, info_bus },
	{ "cpus", NULL, "", "the vcpus", 0, 0, info_cpu },
	{ "registers", NULL, "[vcpu|-a]", "registers of a vcpu, -a: of all", 0, 1, info_cpu },
	{ "lapic", NULL, "[vcpu]", "its local APIC", 0, 1, info_cpu },
	{ "pic", NULL, "", "8259 pair and I/O APIC", 0, 0, info_cpu },
	{ "pit", NULL, "", "8254 timer", 0, 0, info_cpu },
	{ "irq", NULL, "", "interrupt lines", 0, 0, info_irq },
	{ "pci", NULL, "", "PCI functions", 0, 0, info_pci },
	{ "mtree", NULL, "", "memory and I/O map", 0, 0, info_bus },
	{ "mem", NULL, "[vcpu]", "virtual memory map of a vcpu", 0, 1,
	    info_cpu },
	{ "tlb", NULL, "[vcpu]", "its page tables", 0, 1, info_cpu },
	{ "qtree", NULL, "", "the devices and their state", 0, 0, info_qtree },
	{ "chardev", NULL, "", "character back ends", 0, 0, info_end },
	{ "block", NULL, "[device]", "disks", 0, 1, info_block },
	{ "blockstats", NULL, "", "what they did", 0, 0, info_block },
	{ "block-jobs", NULL, "", "their jobs", 0, 0, info_jobs },
	{ "balloon", NULL, "", "memory the guest has", 0, 0, info_chip },
	{ "network", NULL, "", "network cards and what they are on", 0, 0,
	    info_network },
	{ "usernet", NULL, "", "connections and forwards of user networks", 0,
	    0, info_usernet },
	{ "jit", NULL, "", "translation cache", 0, 0, info_cpu },
	{ "roms", NULL, "", "what was loaded before the start", 0, 0,
	    info_roms },
	{ NULL }
};
