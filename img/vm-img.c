/*
 * vm-img.c - disk image utility with qemu-img's command line: the table of
 * sub-commands, one per file cmd-NAME.c.
 */
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static const struct {
	const char	*name;
	int		(*run)(int, char **);
} table[] = {
#define ROW(n) { #n, cmd_##n },
	CMDS(ROW)
};

static void
version(void)
{
	printf("vm-img version %s (Sluice; as qemu-img 7.2)\n", VERSION);
	exit(0);
}

int
main(int argc, char **argv)
{
	static const struct option lo[] = {
		{ "help", no_argument, 0, 'h' },
		{ "version", no_argument, 0, 'V' },
		{ "trace", required_argument, 0, 'T' },
		{ 0 }
	};
	const char *name;
	int c;

	while ((c = getopt_long(argc, argv, "+:hVT:", lo, NULL)) != -1)
		switch (c) {
		case ':':
		case '?':
			bad_option(c, argv);
		case 'h':
			help();
		case 'V':
			version();
		case 'T':
			break;
		}
	if (optind >= argc)
		usage_error("Not enough arguments");
	name = argv[optind];
	argc -= optind;
	argv += optind;
	optind = 0;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (!strcmp(table[i].name, name))
			return table[i].run(argc, argv);
	usage_error("Command not found: %s", name);
}
