/*
 * vm-mon - the monitor: talks to a running machine from outside, or is the part
 * that serves its monitor socket (--server, started by the broker).
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "mon.h"

static void
usage(FILE *f)
{
	fprintf(f, "usage: vm-mon NAME [command [argument ...]]\n"
	    "       vm-mon --server VM/PART [chardev=SPEC ...]\n");
}

int
main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc > 2 && strcmp(argv[1], "--server") == 0)
		return server(argc - 2, argv + 2);
	if (argc > 1 && (strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "-help") == 0 || strcmp(argv[1], "--help") == 0)) {
		usage(stdout);
		printf("\nThe commands are:\n");
		for (const struct command *c = commands; c->name; c++)
			printf("  %s%s%s\n", c->name, *c->args ? " " : "",
			    c->args);
		return 0;
	}
	if (argc < 2 || argv[1][0] == '-') {
		usage(stderr);
		return 2;
	}
	return client(argv[1], argc - 2, argv + 2);
}
