/*
 * part.c - vm-slirp as a part of a machine (bus/PROTOCOL.md): the card's link
 * is the socket of our name in the machine's directory, and questions are the
 * control socket's commands.  One that was started in place of a dead one goes on
 * with its leases and forwards.
 */
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include "../bus/bus.h"
#include "slirp.h"

static struct part part;

static void
after(void)
{
	tcp_wake();
	wire_flush_all();
}

static int
ask(void *arg, char **argv, FILE *out)
{
	char line[1024] = "";
	size_t n = 0;
	int e;

	if (!argv[0] || !strcmp(argv[0], "quit"))
		return EINVAL;
	if (!strcmp(argv[0], "network")) {
		fprintf(out, "type=user,net=%s,restrict=%s\n",
		    ipstr(&(ip){ .s6_addr32 = { 0, 0, htonl(0xffff),
		    htonl(cf.net) } }), cf.restricted ? "on" : "off");
		return 0;
	}
	for (; *argv && n < sizeof line; argv++)
		n += snprintf(line + n, sizeof line - n, "%s%s", n ? " " : "",
		    *argv);
	if (n >= sizeof line)
		return E2BIG;
	e = control_ask(line, out);
	after();
	onbus_arm();
	return e;
}

static void
quit(void *arg)
{
	wire_close(cf.wire);
	porter_end();
}

static const struct part_ops ops = { .ask = ask, .quit = quit };

int
part_main(char **options)
{
	static char spec[sizeof part.dir + 64];

	for (; *options; options++)
		option(*options);
	if (part_hello(&part, "slirp", KEEP_BYTES, &ops, NULL) < 0)
		return 1;
	ram_detach(&part.ram);		/* none of ours */
	snprintf(spec, sizeof spec, "stream:%s/%s,server", part.dir, part.name);
	start(spec, keep_memory(part.state));
	if (part_cleanup(&part, cf.wire->bound) < 0 ||
	    onbus(part.loop, after) < 0) {
		warn("%s/%s", part.vm, part.name);
		return 1;
	}
	confine();
	if (part_ready(&part) < 0) {
		warn("%s/%s", part.vm, part.name);
		return 1;
	}
	onbus_arm();
	return part_run(&part);
}
