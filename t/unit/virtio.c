/* links: bus mem, img, switch, and dev's pci, virtio, disk, chario, field, nic,
 * virtio-* */
/*
 * virtio.c - a driver for the virtio chips: sends requests and looks at what
 * comes back.  Then the same with every kind of broken chain, and with random
 * ones.  virtio DIR [ROUNDS]; prints TAP.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio-drv.h"
#include "img/img.h"

extern const struct dev virtio_blk, virtio_rng, virtio_console, virtio_balloon,
    virtio_net;

#include "virtio-block.h"
#include "virtio-small.h"
#include "virtio-card.h"

static void
verdict(const char *what)
{
	static unsigned n, before;

	printf("%sok %u - %s\n", failed == before ? "" : "not ", ++n, what);
	fflush(stdout);
	before = failed;
}

int
main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : ".";
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 2000;

	test_block(dir, rounds, "raw");
	verdict("block: requests, broken chains, interrupts, configuration");
	test_block(dir, rounds, "qcow2");
	verdict("block: the same on a format whose requests go to threads");
	test_rng(rounds);
	verdict("rng: bytes, limit");
	test_balloon(rounds);
	verdict("balloon: inflate, reporting, statistics, target");
	test_console(dir, rounds);
	verdict("console: output");
	test_net(rounds);
	verdict("net: frames, filters, link");
	printf("1..6\n# %u checks, %u failed\n", checks, failed);
	return failed != 0;
}
