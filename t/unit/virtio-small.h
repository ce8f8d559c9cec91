/*
 * virtio-small.h - entropy, balloon, console.
 */

static void
test_rng(unsigned rounds)
{
	char *argv[] = { "max-bytes=100", "period=1000", NULL };
	unsigned head, i, sum = 0;
	uint32_t len = 0;

	plug(&virtio_rng, argv);
	start(F_RINGS, 1);
	memset(mem(DATA), 0, 256);
	desc(QBASE(0), 0, DATA, 64, WRITE, 0);
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), true);
	IS(len, 64);
	for (i = 0; i < 64; i++)
		sum += mem(DATA)[i];
	IS(sum > 0, true);
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), true);
	IS(len, 36);				/* the rest of this period */
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), false);
	IS(host->timer, 1000000000);
	host->fn(&host->d);
	IS(used(0, &head, &len), true);
	IS(len, 64);
	fuzz(rounds, F_RINGS | 1ull << 32, 1);
	unplug();
}

static void
test_balloon(unsigned rounds)
{
	char *argv[] = { NULL };
	char *ask1[] = { "balloon", "12", NULL }, *ask2[] = { "stats", NULL };
	char text[512] = "";
	unsigned head, i;
	uint32_t len;
	FILE *f;

	plug(&virtio_balloon, argv);
	start(0x33 | F_RINGS, 4);
	/* give pages 0x300 to 0x303 and 0x310, with one that is none */
	memset(mem(0x300000), 0x77, 0x11000);
	for (i = 0; i < 4; i++)
		cfg32(mem(DATA + i * 4), 0x300 + i);
	cfg32(mem(DATA + 16), 0xfffffff);
	cfg32(mem(DATA + 20), 0x310);
	desc(QBASE(0), 0, DATA, 24, 0, 0);
	avail(0, 0);
	kick(0);
	IS(used(0, &head, &len), true);
	IS(*mem(0x300000), 0);
	IS(*mem(0x303fff), 0);
	IS(*mem(0x304000), 0x77);
	IS(*mem(0x30ffff), 0x77);
	IS(*mem(0x310000), 0);
	/* report 0x304 to 0x306, not whole at both ends */
	desc(QBASE(3), 0, 0x303800, 0x2900, WRITE, 0);
	avail(3, 0);
	kick(3);
	IS(used(3, &head, &len), true);
	IS(*mem(0x304000), 0);
	IS(*mem(0x305fff), 0);
	IS(*mem(0x306000), 0x77);
	/* statistics: kept until asked for */
	memset(mem(DATA), 0, 20);
	cfg16(mem(DATA), 4);
	cfg64(mem(DATA + 2), 123456);
	cfg16(mem(DATA + 10), 99);
	desc(QBASE(2), 0, DATA, 20, 0, 0);
	avail(2, 0);
	kick(2);
	IS(used(2, &head, &len), false);
	f = fmemopen(text, sizeof text, "w");
	IS(virtio_balloon.ask(&host->d, ask2, f), 0);
	fclose(f);
	IS(!!strstr(text, "free-memory=123456\n"), true);
	IS(used(2, &head, &len), true);
	f = fmemopen(text, sizeof text, "w");
	IS(virtio_balloon.ask(&host->d, ask1, f), 0);
	fclose(f);
	IS(r(0x200, 4), (4 << 20) / 4096);
	IS(r(0x100, 1), 3);			/* configuration changed */
	IS(strcmp(text, "actual=16\n"), 0);
	fuzz(rounds, 0x33 | F_RINGS | 1ull << 32, 4);
	unplug();
}

static void
test_console(const char *dir, unsigned rounds)
{
	char file[600], opt[640], got[64] = "";
	char *argv[] = { opt, NULL };
	unsigned head;
	uint32_t len;
	int fd;

	snprintf(file, sizeof file, "%s/console", dir);
	snprintf(opt, sizeof opt, "chardev=file:%s", file);
	plug(&virtio_console, argv);
	start(F_RINGS, 2);
	memcpy(mem(DATA), "hello, world\n", 13);
	desc(QBASE(1), 0, DATA, 7, NEXT, 1);
	desc(QBASE(1), 1, DATA + 7, 6, 0, 0);
	avail(1, 0);
	kick(1);
	IS(used(1, &head, &len), true);
	w(0x208, 4, '!');
	fd = open(file, O_RDONLY);
	IS(read(fd, got, sizeof got), 14);
	IS(strcmp(got, "hello, world\n!"), 0);
	close(fd);
	unplug();
	argv[0] = NULL;
	plug(&virtio_console, argv);
	fuzz(rounds, F_RINGS | 1ull << 32, 2);
	unplug();
}
