/* links: none */
/*
 * slirp-fuzz SEED N: writes N damaged frames (slirp-gen.h) in QEMU's stream framing,
 * for
 *	slirp-fuzz 1 100000 | vm-slirp stdio,qemu | cat >/dev/null
 */
#include <stdio.h>
#include <stdlib.h>
#include "slirp-gen.h"

int
main(int argc, char **argv)
{
	unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
	static uint8_t f[4096];
	uint8_t h[4];
	unsigned len;

	seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	while (n--) {
		len = damaged(f, n);
		w32(h, len);
		fwrite(h, 1, 4, stdout);
		fwrite(f, 1, len, stdout);
	}
	return 0;
}
