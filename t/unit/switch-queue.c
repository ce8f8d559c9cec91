/* links: switch */
/*
 * switch-queue: a wire whose reader sleeps keeps what the kernel does not take
 * and sends it later, whole and in order, on datagram and stream sockets.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "switch/wire.h"

static void
check(const char *kind, int type)
{
	static uint8_t f[BATCH][1600], b[70000];
	unsigned i, k, sent = 600, got = 0, len, fill = 0;
	struct wire *w;
	int sv[2], idle = 0;
	ssize_t n;

	if (socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, sv) < 0)
		err(1, "socketpair");
	w = wire_adopt(kind, sv[0]);
	for (i = 0; i < sent; i++) {
		len = 60 + i % 1400;
		memset(f[i % BATCH], i, len);
		put32(f[i % BATCH] + 14, i);
		wire_put(w, f[i % BATCH], len);
		if (i % BATCH == BATCH - 1)
			wire_flush(w);
	}
	wire_flush(w);
	if (w->drop || !wire_busy(w))
		errx(1, "%s: dropped %llu, busy %d", kind,
		    (unsigned long long)w->drop, wire_busy(w));
	while (got < sent && idle < 100) {
		loop_step(0);
		n = read(sv[1], b + fill, sizeof b - fill);
		if (n <= 0) {
			idle++;
			continue;
		}
		idle = 0;
		for (fill += n, k = 0; ; k += len) {
			if (type == SOCK_DGRAM) {
				len = fill;
			} else {
				if (fill - k < 4 || fill - k - 4 <
				    (len = get32(b + k)))
					break;
				k += 4;
			}
			if (len != 60 + got % 1400 || get32(b + k + 14) != got ||
			    b[k + len - 1] != (uint8_t)got)
				errx(1, "%s: frame %u: length %u", kind, got,
				    len);
			got++;
			if (type == SOCK_DGRAM) {
				k = fill;
				break;
			}
		}
		memmove(b, b + k, fill - k);
		fill -= k;
	}
	if (got != sent)
		errx(1, "%s: %u of %u", kind, got, sent);
	wire_close(w);
	close(sv[1]);
}

int
main(void)
{
	loop_init();
	check("stream", SOCK_STREAM);
	check("vdeport", SOCK_DGRAM);
	printf("ok\n");
	return 0;
}
