/*
 * virtio-block.h - the disk: requests, broken chains, interrupts, configuration.
 */

/* A request of header, one data buffer of `len` and status; its status. */
static unsigned
request(unsigned type, uint64_t sector, uint32_t len, bool in, bool indirect,
    uint32_t *wrote)
{
	uint64_t table = indirect ? 0x80000 : QBASE(0), h = 0x90000;
	unsigned head, n = 0;
	uint32_t got = 0;

	cfg32(mem(h), type);
	cfg32(mem(h + 4), 0);
	cfg64(mem(h + 8), sector);
	*mem(h + 16) = 0xee;
	desc(table, n, h, 16, NEXT, n + 1), n++;
	if (len)
		desc(table, n, DATA, len, NEXT | (in ? WRITE : 0), n + 1), n++;
	desc(table, n, h + 16, 1, WRITE, 0), n++;
	if (indirect)
		desc(QBASE(0), 0, table, n * 16, INDIRECT, 0);
	avail(0, 0);
	kick(0);
	settle();
	head = 99;
	if (!used(0, &head, &got))
		return 0x100;
	IS(head, 0);
	if (wrote)
		*wrote = got;
	return *mem(h + 16);
}

static void
block_io(bool indirect)
{
	unsigned i;
	uint32_t n;

	for (i = 0; i < 8192; i++)
		mem(DATA)[i] = (uint8_t)(i * 7 + 3);
	IS(request(1, 5, 8192, false, indirect, &n), 0);
	IS(n, 1);
	memset(mem(DATA), 0, 8192);
	IS(request(0, 5, 8192, true, indirect, &n), 0);
	IS(n, 8193);
	IS(mem(DATA)[0], 3);
	IS(mem(DATA)[8191], (uint8_t)(8191 * 7 + 3));
	IS(request(0, 6, 512, true, indirect, &n), 0);
	IS(mem(DATA)[0], (uint8_t)(512 * 7 + 3));
	IS(request(4, 0, 0, false, indirect, &n), 0);
	IS(request(8, 0, 20, true, indirect, &n), 0);
	IS(memcmp(mem(DATA), "serial-0123456789abc", 20), 0);
	/* the last sector, one past it, far past it, wrapping */
	IS(request(0, 2047, 512, true, indirect, &n), 0);
	IS(request(0, 2047, 1024, true, indirect, &n), 1);
	IS(request(0, 2048, 512, true, indirect, &n), 1);
	IS(request(0, ~0ull, 512, true, indirect, &n), 1);
	IS(request(0, 1ull << 55, 512, true, indirect, &n), 1);
	IS(request(1, 2048, 512, false, indirect, &n), 1);
	IS(request(0, 0, 100, true, indirect, &n), 1);
	IS(request(77, 0, 512, true, indirect, &n), 2);
	/* write zeroes, discard: sectors 5 to 8 */
	cfg64(mem(DATA), 5);
	cfg32(mem(DATA + 8), 4);
	cfg32(mem(DATA + 12), 0);
	IS(request(13, 0, 16, false, indirect, &n), 0);
	memset(mem(DATA), 0x55, 4096);
	IS(request(0, 5, 4096, true, indirect, &n), 0);
	IS(mem(DATA)[0], 0);
	IS(mem(DATA)[2047], 0);
	IS(mem(DATA)[2048], (uint8_t)(2048 * 7 + 3));
	cfg64(mem(DATA), 9);
	cfg32(mem(DATA + 8), 1);
	cfg32(mem(DATA + 12), 1);		/* discard has no flags */
	IS(request(11, 0, 16, false, indirect, &n), 2);
	cfg32(mem(DATA + 12), 0);
	IS(request(11, 0, 16, false, indirect, &n), 0);
	cfg64(mem(DATA), 2040);
	cfg32(mem(DATA + 8), 9);
	IS(request(11, 0, 16, false, indirect, &n), 1);
	IS(request(13, 0, 16, false, indirect, &n), 1);
	IS(request(11, 0, 15, false, indirect, &n), 1);
}

#define BLK_FEATURES (1ull << 9 | 1ull << 11 | 1ull << 13 | 1ull << 14)

/* Chains that break the rules: the device asks for a reset, and works again
 * after it. */
static void
broken(void)
{
	unsigned i;

	for (i = 0; i < 12; i++) {
		start(BLK_FEATURES | (i & 1 ? F_RINGS : 1ull << 28), 1);
		desc(QBASE(0), 0, 0x90000, 16, NEXT, 1);
		desc(QBASE(0), 1, DATA, 512, NEXT | WRITE, 2);
		desc(QBASE(0), 2, 0x90010, 1, WRITE, 0);
		switch (i) {
		case 0:				/* a loop */
			desc(QBASE(0), 1, DATA, 512, NEXT | WRITE, 1);
			break;
		case 1:				/* next out of the table */
			desc(QBASE(0), 0, 0x90000, 16, NEXT, QSIZE);
			break;
		case 2:				/* memory that is none */
			desc(QBASE(0), 1, 1 << 24, 512, NEXT | WRITE, 2);
			break;
		case 3:				/* runs out of memory */
			desc(QBASE(0), 1, (1 << 24) - 100, 512, NEXT | WRITE,
			    2);
			break;
		case 4:
			desc(QBASE(0), 1, ~0ull - 100, 512, NEXT | WRITE, 2);
			break;
		case 5:				/* readable behind writable */
			desc(QBASE(0), 2, 0x90010, 1, 0, 0);
			break;
		case 6:				/* no status */
			desc(QBASE(0), 0, 0x90000, 16, 0, 0);
			break;
		case 7:				/* half a header */
			desc(QBASE(0), 0, 0x90000, 8, NEXT, 2);
			break;
		case 8:				/* indirect in indirect */
			desc(QBASE(0), 0, QBASE(0) + 16, 16, INDIRECT, 0);
			desc(QBASE(0), 1, QBASE(0), 16, INDIRECT, 0);
			break;
		case 9:				/* indirect and next */
			desc(QBASE(0), 0, QBASE(0) + 16, 16, INDIRECT | NEXT,
			    1);
			break;
		case 10:			/* table of no whole entries */
			desc(QBASE(0), 0, QBASE(0) + 16, 20, INDIRECT, 0);
			break;
		case 11:			/* head out of the table */
			break;
		}
		avail(0, i == 11 ? QSIZE : 0);
		kick(0);
		settle();
		IS(r(0x14, 1), 15 | 0x40);
		kick(0);
	}
	start(BLK_FEATURES | F_RINGS, 1);	/* available index too far */
	cfg16(mem(QBASE(0) + 0x1000 + 2), QSIZE + 1);
	kick(0);
	IS(r(0x14, 1), 15 | 0x40);
	start(BLK_FEATURES | F_RINGS, 1);
	IS(request(0, 0, 512, true, true, NULL), 0);
}

static void
interrupts(void)
{
	unsigned cap = find_cap(0x11), line = IRQ_PIRQ + 3, i, head;
	uint32_t n;

	/* INTx and ISR: slot 3, INTA is PIRQD */
	start(BLK_FEATURES, 1);
	IS(host->line[line], 0);
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->line[line], 1);
	IS(host->cfg[6] & 8, 8);
	cfgw(4, 2, 0x406);			/* interrupt disable */
	IS(host->line[line], 0);
	cfgw(4, 2, 6);
	IS(host->line[line], 1);
	IS(r(0x100, 1), 1);
	IS(r(0x100, 1), 0);
	IS(host->line[line], 0);
	cfg16(mem(QBASE(0) + 0x1000), 1);	/* none wanted */
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->line[line], 0);
	IS(r(0x100, 1), 0);

	/* MSI-X: masked first, pending, then unmasked */
	for (i = 0; i < 2; i++) {
		host->d.dev->write(&host->d, 0, i * 16, 4, 0xfee00000);
		host->d.dev->write(&host->d, 0, i * 16 + 8, 4, 0x40 + i);
	}
	cfgw(cap + 2, 2, 0x8000);
	start(BLK_FEATURES | F_RINGS, 1);
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->msi[1], 0);
	IS(host->d.dev->read(&host->d, 0, 0x800, 8), 2);
	host->d.dev->write(&host->d, 0, 16 + 12, 4, 0);
	IS(host->msi[1], 1);
	IS(host->d.dev->read(&host->d, 0, 0x800, 8), 0);
	cfgw(cap + 2, 2, 0xc000);		/* function mask */
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(host->msi[1], 1);
	cfgw(cap + 2, 2, 0x8000);
	IS(host->msi[1], 2);
	IS(host->line[line], 0);

	/* event index: an interrupt for the third completion only */
	cfg16(mem(QBASE(0) + 0x1000 + 4 + QSIZE * 2),
	    (uint16_t)(drv[0].used + 2));
	event_idx = false;		/* `used` leaves it alone */
	for (i = 0; i < 3; i++) {
		IS(host->msi[1], 2);
		IS(request(0, 0, 512, true, false, NULL), 0);
	}
	IS(host->msi[1], 3);
	cfgw(cap + 2, 2, 0);

	/* many at once, one interrupt; the device works as they come */
	start(BLK_FEATURES, 1);
	cfg32(mem(0x90000), 0);
	cfg64(mem(0x90008), 0);
	for (i = 0; i + 2 < QSIZE; i += 3) {
		desc(QBASE(0), i, 0x90000, 16, NEXT, i + 1);
		desc(QBASE(0), i + 1, DATA + i * 512, 512, NEXT | WRITE,
		    i + 2);
		desc(QBASE(0), i + 2, 0x90010 + i, 1, WRITE, 0);
		avail(0, i);
	}
	kick(0);
	settle();
	for (i = 0; used(0, &head, &n); i++)
		IS(n, 513);
	IS(i, QSIZE / 3);
}

/* PCI: capabilities lie in BARs, sizing, relocation, access by the window. */
static void
configuration(void)
{
	unsigned at, types = 0, w5 = 0;

	IS(host->bar[0], 0xfd180000);
	IS(host->bar[1], 0xfd181000);
	IS(host->bar[2], 0xfd182000);
	for (at = host->cfg[0x34]; at; at = host->cfg[at + 1])
		if (host->cfg[at] == 9) {
			types |= 1u << host->cfg[at + 3];
			if (host->cfg[at + 3] == 5)
				w5 = at;
		}
	IS(types, 0x3e);
	IS(host->cfg[6] & 0x10, 0x10);
	cfgw(4, 2, 0);
	IS(host->bar[1], 0);
	cfgw(0x18, 4, 0xffffffff);
	IS(host->cfg[0x18], 0);
	IS(host->cfg[0x19], 0xf0);
	cfgw(0x18, 4, 0xe8001000);
	cfgw(4, 2, 6);
	IS(host->bar[1], 0xe8001000);
	cfgw(0x18, 4, 0xfd181000);
	IS(host->bar[1], 0xfd181000);
	w(0x16, 2, 0);
	cfgw(w5 + 4, 1, 2);
	cfgw(w5 + 12, 4, 2);
	cfgw(w5 + 8, 4, 0x12);			/* num_queues */
	IS(host->cfg[w5 + 16], 1);
	cfgw(w5 + 8, 4, 0x16);			/* queue_select */
	cfgw(w5 + 16, 4, 5);
	IS(r(0x16, 2), 5);
	cfgw(w5 + 8, 4, 0xfffffffe);
	cfgw(w5 + 16, 4, 5);
	cfgw(0, 4, 0xffffffff);
	IS(host->cfg[0], 0xf4);
}

static void
test_block(const char *dir, unsigned rounds, const char *format)
{
	char file[600], opt[640], fmt[40];
	char *argv[] = { opt, "serial=serial-0123456789abcdef", NULL, fmt,
		NULL };
	static const char *const cache[] = { "cache=writeback",
		"cache=writethrough", "cache=unsafe" };
	struct opts o = { 0 };
	struct imgerr e;
	unsigned i;

	snprintf(fmt, sizeof fmt, "format=%s", format);
	snprintf(file, sizeof file, "%s/disk", dir);
	snprintf(opt, sizeof opt, "file=%s", file);
	for (i = 0; i < 3; i++) {
		opts_set(&o, "size", "1M");
		if (img_create(format, file, &o, &e))
			fprintf(stderr, "%s\n", e.s), exit(1);
		opts_free(&o);
		argv[2] = (char *)cache[i];
		plug(&virtio_blk, argv);
		configuration();
		start(BLK_FEATURES, 1);
		IS(r(0x200, 8), 2048);
		block_io(false);
		start(BLK_FEATURES | F_RINGS, 1);
		block_io(true);
		broken();
		interrupts();
		fuzz(rounds, BLK_FEATURES | F_RINGS | 1ull << 32, 1);
		unplug();
	}
	argv[2] = "readonly=on";
	plug(&virtio_blk, argv);
	start(F_RINGS, 1);
	w(0x00, 4, 0);
	IS(r(0x04, 4) >> 5 & 1, 1);		/* RO */
	IS(r(0x04, 4) >> 13 & 3, 0);		/* no discard, no zeroing */
	IS(request(0, 0, 512, true, false, NULL), 0);
	IS(request(1, 0, 512, false, false, NULL), 1);
	unplug();
}
