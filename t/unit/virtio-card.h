/*
 * virtio-card.h - the network card: frames both ways, offloads, merging, filters.
 */

#define NET_FEATURES (1ull << 5 | 1ull << 16 | 1ull << 17 | 1ull << 18 | \
    1ull << 19 | 1ull << 20 | 1ull << 23)
#define F_MRG (1ull << 15)
#define F_MERGE (1ull << 1 | 1ull << 7 | 1ull << 8)
#define F_OFFLOAD (1ull << 0 | 1ull << 11 | 1ull << 12 | 1ull << 13)

static int cable;			/* our end */

static void
arrive(const void *frame, size_t len)
{
	IS(send(cable, frame, len, MSG_DONTWAIT), len);
	loop_once(loop, 0, NULL, NULL);
}

/* What the card sent; 0: nothing. */
static unsigned
sent(uint8_t *buf, size_t size)
{
	ssize_t n = recv(cable, buf, size, MSG_DONTWAIT);

	return n < 0 ? 0 : (unsigned)n;
}

/* Receive buffers i.. of len bytes each, at DATA + i * 4096. */
static void
buffers(unsigned i, unsigned n, uint32_t len)
{
	for (; n--; i++) {
		desc(QBASE(0), i, DATA + i * 4096, len, WRITE, 0);
		avail(0, i);
	}
	kick(0);
	loop_once(loop, 0, NULL, NULL);
}

/* A command on the control queue; its answer. */
static unsigned
control(unsigned class, unsigned cmd, const void *data, uint32_t len)
{
	unsigned head;
	uint32_t n;

	mem(0x90000)[0] = (uint8_t)class;
	mem(0x90000)[1] = (uint8_t)cmd;
	memcpy(mem(0x90002), data, len);
	*mem(0x91000) = 0xee;
	desc(QBASE(2), 0, 0x90000, 2, NEXT, 1);
	desc(QBASE(2), 1, 0x90002, len, NEXT, 2);
	desc(QBASE(2), 2, 0x91000, 1, WRITE, 0);
	avail(2, 0);
	kick(2);
	IS(used(2, &head, &n), true);
	return *mem(0x91000);
}

static void
net_transmit(void)
{
	uint8_t got[4096];
	unsigned head, i, k;
	uint32_t n;

	for (i = 0; i < 200; i++)
		mem(DATA)[i] = (uint8_t)i;
	/* in one piece, header apart, and in ten */
	for (k = 0; k < 3; k++) {
		if (k == 0) {
			desc(QBASE(1), 0, DATA, 112, 0, 0);
		} else if (k == 1) {
			desc(QBASE(1), 0, DATA, 12, NEXT, 1);
			desc(QBASE(1), 1, DATA + 12, 100, 0, 0);
		} else {
			for (i = 0; i < 14; i++)
				desc(QBASE(1), i, DATA + i * 8, 8,
				    i < 13 ? NEXT : 0, i + 1);
		}
		avail(1, 0);
		kick(1);
		IS(used(1, &head, &n), true);
		IS(sent(got, sizeof got), 100);
		IS(memcmp(got, mem(DATA + 12), 100), 0);
	}
	desc(QBASE(1), 0, DATA, 25, 0, 0);	/* half an Ethernet header */
	avail(1, 0);
	desc(QBASE(1), 1, 0x200000, 70000, 0, 0);	/* too long */
	avail(1, 1);
	kick(1);
	IS(used(1, &head, &n), true);
	IS(used(1, &head, &n), true);
	IS(sent(got, sizeof got), 0);
	desc(QBASE(1), 0, DATA, 11, 0, 0);
	avail(1, 0);
	kick(1);
	IS(r(0x14, 1), 15 | 0x40);
	IS(sent(got, sizeof got), 0);
}

static unsigned
sum16(const uint8_t *p, unsigned n)
{
	unsigned sum = 0, i;

	for (i = 0; i < n; i++)
		sum += i % 2 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* A TCP packet with 3000 bytes of data, to be cut at 1400; then lies. */
static void
net_offload(bool v6)
{
	uint8_t *h = mem(DATA), *f = h + 12, got[4096], ps[40];
	unsigned ip = v6 ? 40 : 20, tu = 14 + ip, hdr = tu + 20, len = hdr + 3000;
	unsigned i, n, head, data, al = v6 ? 32 : 8;
	uint32_t l;

	memset(h, 0, 12 + hdr);
	for (i = hdr; i < len; i++)
		f[i] = (uint8_t)rnd();
	h[0] = 1;				/* NEEDS_CSUM */
	h[1] = v6 ? 4 : 1;
	cfg16(h + 4, 1400);
	cfg16(h + 6, (uint16_t)tu);
	cfg16(h + 8, 16);
	f[12] = v6 ? 0x86 : 8;
	f[13] = v6 ? 0xdd : 0;
	f[14] = v6 ? 0x60 : 0x45;
	f[v6 ? 20 : 23] = 6;
	for (i = 0; i < al; i++)
		f[(v6 ? 22 : 26) + i] = (uint8_t)(i * 37 + 1);
	f[tu + 7] = 100;			/* sequence number */
	f[tu + 12] = 0x50;
	f[tu + 13] = 0x18;			/* ACK, PSH */
	desc(QBASE(1), 0, DATA, 12 + len, 0, 0);
	avail(1, 0);
	kick(1);
	IS(used(1, &head, &l), true);
	for (i = 0; i < 3; i++) {
		n = sent(got, sizeof got);
		data = i < 2 ? 1400 : 200;
		IS(n, hdr + data);
		IS(memcmp(got + hdr, f + hdr + i * 1400, data), 0);
		IS(got[tu + 6] << 8 | got[tu + 7], 100 + i * 1400);
		IS(got[tu + 13], i < 2 ? 0x10 : 0x18);
		if (v6) {
			IS(got[18] << 8 | got[19], 20 + data);
		} else {
			IS(got[16] << 8 | got[17], 40 + data);
			IS(got[19], i);		/* identification */
			IS(sum16(got + 14, 20), 0xffff);
		}
		memset(ps, 0, sizeof ps);
		memcpy(ps, got + (v6 ? 22 : 26), al);
		ps[al + 1] = 6;
		ps[al + 2] = (uint8_t)((20 + data) >> 8);
		ps[al + 3] = (uint8_t)(20 + data);
		IS((sum16(ps, al + 4) + sum16(got + tu, n - tu)) % 0xffff, 0);
	}
	IS(sent(got, sizeof got), 0);
	for (i = 0; i < 7; i++) {		/* dropped, and no more */
		h[0] = i != 0;
		h[1] = i == 1 ? 3 : v6 ? 4 : 1;
		cfg16(h + 4, i == 2 ? 0 : 1400);
		cfg16(h + 6, (uint16_t)(i == 3 ? len : i == 4 ? 20 : tu));
		f[tu + 12] = i == 5 ? 0xf0 : 0x50;
		f[14] = i == 6 ? 0x77 : v6 ? 0x60 : 0x45;
		desc(QBASE(1), 0, DATA, 12 + (i == 5 ? hdr + 10 : len), 0, 0);
		avail(1, 0);
		kick(1);
		IS(used(1, &head, &l), true);
		IS(sent(got, sizeof got), 0);
	}
	f[14] = v6 ? 0x60 : 0x45;
	f[tu + 12] = 0x50;
	for (i = 0; i < 3; i++) {		/* a checksum in or out of it */
		h[0] = 1;
		h[1] = 0;
		cfg16(h + 6, i == 2 ? 0xffff : (uint16_t)tu);
		cfg16(h + 8, i == 1 ? 0xffff : 16);
		f[tu + 16] = f[tu + 17] = 0;
		desc(QBASE(1), 0, DATA, 12 + hdr + 100, 0, 0);
		avail(1, 0);
		kick(1);
		IS(used(1, &head, &l), true);
		IS(sent(got, sizeof got), hdr + 100);
		IS(sum16(got + tu, 120), i ? sum16(f + tu, 120) : 0xffff);
	}
}

static void
net_receive(bool merge)
{
	uint8_t f[1500] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
	unsigned head, i;
	uint32_t n = 0;

	for (i = 12; i < sizeof f; i++)
		f[i] = (uint8_t)(i * 3);
	/* no buffer: it waits, and comes in order */
	arrive(f, 1000);
	arrive(f, 60);
	IS(used(0, &head, &n), false);
	buffers(0, 1, 2048);
	IS(used(0, &head, &n), true);
	IS(n, 1012);
	IS(get16(DATA + 10), 1);
	IS(memcmp(mem(DATA + 12), f, 1000), 0);
	IS(used(0, &head, &n), false);
	buffers(1, 1, 2048);
	IS(used(0, &head, &n), true);
	IS(head, 1);
	IS(n, 72);
	/* a buffer that holds a part of the frame */
	buffers(2, 3, 100);
	arrive(f, 300);
	if (merge) {
		IS(used(0, &head, &n), false);
		buffers(5, 1, 100);
		for (i = 0; i < 3; i++) {
			IS(used(0, &head, &n), true);
			IS(head, i + 2);
			IS(n, 100);
		}
		IS(get16(DATA + 2 * 4096 + 10), 4);
		IS(memcmp(mem(DATA + 3 * 4096), f + 88, 100), 0);
		IS(used(0, &head, &n), true);
		IS(n, 12);
	} else {				/* lost; the buffer is not */
		IS(used(0, &head, &n), false);
		arrive(f, 88);
		IS(used(0, &head, &n), true);
		IS(n, 100);
	}
	start(NET_FEATURES | (merge ? F_MRG : 0), 3);
	buffers(0, 1, 11);
	arrive(f, 60);
	IS(r(0x14, 1), 15 | 0x40);
}

/* A TCP segment of n bytes from `seq` on arrives, but is not looked at yet. */
static void
segment(bool v6, uint32_t seq, unsigned n, unsigned flags, bool broken_sum)
{
	uint8_t f[1600] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 }, ps[40] = { 0 };
	unsigned tu = v6 ? 54 : 34, i, al = v6 ? 32 : 8, sum;

	f[12] = v6 ? 0x86 : 8;
	f[13] = v6 ? 0xdd : 0;
	f[14] = v6 ? 0x60 : 0x45;
	f[v6 ? 20 : 23] = 6;
	f[v6 ? 18 : 16] = (uint8_t)((n + (v6 ? 20 : 40)) >> 8);
	f[v6 ? 19 : 17] = (uint8_t)(n + (v6 ? 20 : 40));
	for (i = 0; i < al; i++)
		f[(v6 ? 22 : 26) + i] = (uint8_t)(i * 37 + 1);
	if (!v6) {
		sum = ~sum16(f + 14, 20);
		f[24] = (uint8_t)(sum >> 8);
		f[25] = (uint8_t)sum;
	}
	for (i = 0; i < 4; i++)
		f[tu + 4 + i] = (uint8_t)(seq >> (24 - 8 * i));
	f[tu + 12] = 0x50;
	f[tu + 13] = (uint8_t)flags;
	for (i = 0; i < n; i++)
		f[tu + 20 + i] = (uint8_t)((seq + i) * 7 >> 3);
	memcpy(ps, f + (v6 ? 22 : 26), al);
	ps[al + 1] = 6;
	ps[al + 2] = (uint8_t)((20 + n) >> 8);
	ps[al + 3] = (uint8_t)(20 + n);
	sum = sum16(ps, al + 4) + sum16(f + tu, 20 + n);
	sum = ~((sum & 0xffff) + (sum >> 16)) + broken_sum;
	f[tu + 16] = (uint8_t)(sum >> 8);
	f[tu + 17] = (uint8_t)sum;
	IS(send(cable, f, tu + 20 + n, MSG_DONTWAIT), tu + 20 + n);
}

/* What came in: bytes of data, segment size (0: one frame), flags. */
static void
merged(bool v6, unsigned data, unsigned mss, unsigned flags, uint32_t seq)
{
	unsigned head, i, tu = v6 ? 54 : 34, bad = 0;
	uint8_t *h, *f;
	uint32_t n = 0;

	IS(used(0, &head, &n), true);
	h = mem(DATA + head * 8192);
	f = h + 12;
	IS(n, 12 + tu + 20 + data);
	IS(h[0], flags);
	IS(h[1], mss ? (v6 ? 4 : 1) : 0);
	IS(h[4] | h[5] << 8, mss);
	for (i = 0; i < data; i++)
		bad += f[tu + 20 + i] != (uint8_t)((seq + i) * 7 >> 3);
	IS(bad, 0);
	if (mss) {
		IS(h[6] | h[7] << 8, tu);
		IS(h[8], 16);
		IS(f[v6 ? 18 : 16] << 8 | f[v6 ? 19 : 17],
		    data + 20 + (v6 ? 0 : 20));
		IS(v6 ? 0xffff : sum16(f + 14, 20), 0xffff);
	}
}

static void
net_merge(bool v6)
{
	unsigned i;

	for (i = 0; i < 20; i++) {
		desc(QBASE(0), i, DATA + i * 8192, 8192, WRITE, 0);
		avail(0, i);
	}
	kick(0);
	for (i = 0; i < 3; i++)			/* three, the last one short */
		segment(v6, 1000 + i * 1400, i < 2 ? 1400 : 30, 0x10, false);
	segment(v6, 3830, 100, 0x10, false);	/* after a short one */
	segment(v6, 3930, 100, 0x18, false);	/* PSH ends it */
	segment(v6, 4030, 100, 0x10, false);
	segment(v6, 9000, 100, 0x10, false);	/* a gap */
	segment(v6, 9100, 100, 0x11, false);	/* FIN stays alone */
	segment(v6, 9200, 100, 0x10, true);
	loop_once(loop, 0, NULL, NULL);
	merged(v6, 2830, 1400, 1, 1000);
	merged(v6, 200, 100, 1, 3830);
	merged(v6, 100, 0, 2, 4030);
	merged(v6, 100, 0, 2, 9000);
	merged(v6, 100, 0, 2, 9100);
	merged(v6, 100, 0, 0, 9200);
}

/* Does a frame to this address come through? */
static bool
passes(unsigned a0, unsigned a5, unsigned vlan)
{
	uint8_t f[64] = { (uint8_t)a0, 0x54, 0, 0x12, 0x34, (uint8_t)a5 };
	unsigned head;
	uint32_t n;

	if (a0 == 255)
		memset(f, 255, 6);
	if (vlan) {
		f[12] = 0x81;
		f[14] = (uint8_t)(vlan >> 8);
		f[15] = (uint8_t)vlan;
	}
	if (get16(QBASE(0) + 0x1002) == drv[0].used)
		buffers(0, 1, 2048);
	arrive(f, sizeof f);
	return used(0, &head, &n);
}

static void
net_filter(void)
{
	static const uint8_t macs[] = { 1, 0, 0, 0, 0x52, 0x54, 0, 0x12, 0x34, 9,
		1, 0, 0, 0, 0x33, 0x54, 0, 0x12, 0x34, 7 };
	uint8_t many[2 + 8 + 100 * 6] = { 100 };

	IS(passes(0x52, 0x99, 0), true);	/* promiscuous at first */
	IS(control(0, 0, "\0", 1), 0);
	IS(passes(0x52, 0x99, 0), false);
	IS(passes(0x52, 0x56, 0), true);
	IS(passes(255, 0, 0), true);
	IS(control(0, 5, "\1", 1), 0);		/* no broadcast */
	IS(passes(255, 0, 0), false);
	IS(passes(0x33, 7, 0), false);
	IS(control(1, 0, macs, sizeof macs), 0);
	IS(passes(0x33, 7, 0), true);
	IS(passes(0x52, 9, 0), true);
	IS(passes(0x33, 8, 0), false);
	IS(control(1, 0, macs, sizeof macs - 1), 1);	/* cut off */
	IS(passes(0x33, 7, 0), true);		/* and without effect */
	IS(control(1, 0, "\xff\xff\xff\xff\0\0\0\0", 8), 1);
	IS(control(1, 0, many, 4 + 600 + 4), 0);	/* table too small: all */
	IS(passes(0x52, 0x77, 0), true);
	IS(control(1, 0, "\0\0\0\0\0\0\0\0", 8), 0);
	IS(passes(0x52, 0x77, 0), false);
	IS(control(0, 1, "\1", 1), 0);		/* all multicast */
	IS(passes(0x33, 8, 0), true);
	IS(passes(0x52, 0x56, 5), false);
	IS(control(2, 0, "\5\0", 2), 0);
	IS(passes(0x52, 0x56, 5), true);
	IS(control(2, 1, "\5\0", 2), 0);
	IS(passes(0x52, 0x56, 5), false);
	IS(control(2, 0, "\0\x10", 2), 1);	/* no such VLAN */
	IS(control(1, 1, "\x52\x54\0\x12\x34\x77", 6), 0);
	IS(passes(0x52, 0x77, 0), true);
	IS(r(0x204, 2), 0x7734);
	IS(control(4, 0, "\2\0", 2), 1);		/* one pair only */
	IS(control(3, 0, "", 0), 1);		/* nothing announced */
	IS(control(9, 9, "x", 1), 1);
}

static void
noise(void)
{
	static uint8_t f[9000];
	unsigned i;

	for (i = 0; i < 6; i++)
		f[i] = rnd() % 2 ? 255 : (uint8_t)rnd();
	if (rnd() % 2)
		(void)!send(cable, f, rnd() % sizeof f, MSG_DONTWAIT);
	while (recv(cable, f, sizeof f, MSG_DONTWAIT) > 0)
		;
	loop_once(loop, 0, NULL, NULL);
}

static void
test_net(unsigned rounds)
{
	char link[32], *argv[] = { link, NULL, NULL };
	char *off[] = { "set_link", "off", NULL };
	char *on[] = { "set_link", "on", NULL };
	int sv[2], k;

	for (k = 0; k < 3; k++) {
		if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sv))
			perror("socketpair"), exit(1);
		cable = sv[0];
		snprintf(link, sizeof link, "link=fd:%d", sv[1]);
		if (k == 2)
			argv[1] = "queues=4";
		plug(&virtio_net, argv);
		start(NET_FEATURES | (k ? F_MRG : 0), 3);
		IS(r(0x206, 2), 1);
		IS(virtio_net.ask(&host->d, off, stdout), 0);
		IS(r(0x206, 2), 0);
		IS(r(0x100, 1), 2);
		IS(virtio_net.ask(&host->d, on, stdout), 0);
		IS(r(0x206, 2), 1);
		net_transmit();
		start(NET_FEATURES | F_OFFLOAD, 3);
		net_offload(k);
		start(NET_FEATURES | (k ? F_MRG : 0), 3);
		net_receive(k);
		start(NET_FEATURES | F_MRG | F_MERGE, 3);
		net_merge(k);
		start(NET_FEATURES | F_MRG, 3);
		net_filter();
		between = noise;
		fuzz(rounds, NET_FEATURES | F_MRG | F_OFFLOAD |
		    F_MERGE | F_RINGS | 1ull << 32 |
		    (k == 2 ? 1ull << 22 : 0), k == 2 ? 8 : 3);
		between = NULL;
		unplug();
		close(cable);
	}
}
