/*
 * part.c - vm-switch as a part of a machine (bus/PROTOCOL.md): a hub.  Each
 * connection to the socket of our name in the machine's directory is a port, and
 * so is each wire= given:
 *
 *	vm-switch --part VM/NAME [wire=part:NAME | wire=WIRE]...
 */
#include <err.h>
#include <errno.h>
#include <string.h>
#include "../bus/bus.h"
#include "switch.h"

static struct part part;

static int
ask(void *arg, char **argv, FILE *out)
{
	unsigned n, up = 0;

	if (!argv[0] || strcmp(argv[0], "network"))
		return EINVAL;
	for (n = 1; n <= sw.numports; n++)
		up += sw.port[n] && sw.port[n]->eps;
	fprintf(out, "type=hub,ports=%u\n", up - 1);	/* one listens */
	return 0;
}

static void
quit(void *arg)
{
	port_close_all();
}

static const struct part_ops ops = { .ask = ask, .quit = quit };

static void
plug(const char *spec)
{
	static char why[300];

	if (port_open(spec, why, sizeof why) < 0)
		errx(1, "%s", why);
}

int
part_main(char **options)
{
	char path[sizeof part.dir + 64], spec[sizeof path + 32];
	char **o;

	for (o = options; *o; o++)
		if (strncmp(*o, "wire=", 5))
			errx(2, "%s: unknown option", *o);
	if (part_hello(&part, "hub", 0, &ops, NULL) < 0)
		return 1;
	ram_detach(&part.ram);		/* none of ours */
	switch_init(PORT_MAX_NUM - 1, true);
	snprintf(path, sizeof path, "%s/%s", part.dir, part.name);
	snprintf(spec, sizeof spec, "stream:%s,server", path);
	plug(spec);
	for (o = options; *o; o++)
		if (strncmp(*o + 5, "part:", 5)) {
			plug(*o + 5);
		} else {
			snprintf(spec, sizeof spec, "stream:%s/%.31s,reconnect=1",
			    part.dir, *o + 10);
			plug(spec);
		}
	if (part_cleanup(&part, path) < 0 || onbus(part.loop, NULL) < 0 ||
	    part_ready(&part) < 0) {
		warn("%s/%s", part.vm, part.name);
		return 1;
	}
	onbus_arm();
	return part_run(&part);
}
