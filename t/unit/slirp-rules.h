/*
 * slirp-rules.h - what must be, with a clock that is put forward: connections of
 * guests that forgot them.
 */
#ifndef SLIRP_RULES_H
#define SLIRP_RULES_H

#define must(x) do { if (!(x)) errx(1, "line %d: not %s", __LINE__, #x); } \
	while (0)

/* A connection of the guest's port 41000 + i to the host's port 80. */
static struct conn *
connect_(unsigned i)
{
	struct conn *c = &conns[i];

	*c = (struct conn){ .me = mk4(0x0a00020f), .far = cf.host4, .fport = 80,
	    .mport = 41000 + i, .snd = 1000 * i + 5, .st = SYN_SENT };
	segment_(c, SYN, c->snd, 0, 65535, 0, false);
	deliver();
	for (int k = 0; k < 3; k++)
		round_(MSEC);
	if (c->st == OPEN) {
		segment_(c, ACK, c->snd, c->rcv, 65535, 0, false);
		deliver();
	}
	return c;
}

/* Do the guest's part for so many seconds: answers (ACK), a reset machine's (RST) to
 * what was asked, or none. */
static void
live(struct conn *c, unsigned seconds, uint8_t how)
{
	for (; seconds; seconds--) {
		c->last = 0;
		round_(SEC);
		if (c->last && how == RST)
			segment_(c, RST, c->una, 0, 0, 0, false);
		else if (c->last && how)
			segment_(c, ACK, c->snd, c->rcv, 65535, 0, false);
		deliver();
	}
}

static void
rules(void)
{
	struct conn *a, *b;
	uint64_t n;

	begin("16");
	arp(15, 1);
	deliver();
	/* one that lives stays, one that was reset goes, one that is silent too */
	a = connect_(1);
	must(a->st == OPEN && tcp_count() == 1);
	dhcp(15, 1, false);
	deliver();
	live(a, 40, ACK);
	must(tcp_count() == 1 && a->st == OPEN);
	/* our DHCP client's station has another number */
	memcpy(out, cf.mac, 6);
	tcp_doubt((const uint8_t[6]){ 0x52, 0x54, 0, 0x12, 0x34, 15 });
	live(a, 5, RST);
	must(tcp_count() == 0);
	a = connect_(2);
	must(a->st == OPEN && tcp_count() == 1);
	tcp_doubt((const uint8_t[6]){ 0x52, 0x54, 0, 0x12, 0x34, 16 });
	live(a, 40, 0);
	must(tcp_count() == 1);		/* that was another station */
	tcp_doubt(NULL);
	live(a, 28, 0);
	must(tcp_count() == 1);
	live(a, 3, 0);
	must(tcp_count() == 0 && st.tcp_lost == 1);
	/* a SYN in its place replaces it; its own SYN, late, does not */
	a = connect_(3);
	must(a->st == OPEN);
	segment_(a, SYN, 3005, 0, 65535, 0, false);
	deliver();
	must(tcp_count() == 1 && a->last == ACK);
	n = st.tcp_open;
	a->snd = 77777;
	a->st = SYN_SENT;
	segment_(a, SYN, a->snd, 0, 65535, 0, false);
	deliver();
	round_(MSEC);
	must(a->st == OPEN && a->una == 77778 && tcp_count() == 1 &&
	    st.tcp_open == n + 1);
	/* a full table: the idlest goes, but none that is in use */
	b = connect_(4);
	for (int i = 5; i < 19; i++)
		must(connect_(i)->st == OPEN);
	must(b->st == OPEN && tcp_count() == 16);
	must(connect_(19)->st == SYN_SENT && st.tcp_full == 1);
	conns[19].st = CLOSED;
	for (int k = 0; k < 6; k++) {
		round_(SEC);
		for (int i = 3; i < 19; i++)
			if (i != 4)
				segment_(&conns[i], ACK, conns[i].snd,
				    conns[i].rcv, 65535, 0, false);
		deliver();
	}
	must(connect_(19)->st == OPEN && tcp_count() == 16);
	must(b->st == CLOSED && b->rst == 1 && st.tcp_evicted == 1);
	/* a probe of a closed window that nobody answers ends, too */
	for (int i = 1; i < 20; i++)
		conns[i].st = CLOSED;
	for (int i = 0; i < 3; i++) {
		int fd;

		while ((fd = accept4(web[0], NULL, NULL, SOCK_CLOEXEC)) >= 0)
			close(fd);
		round_(SEC);
	}
	for (int i = 0; i < 600; i++)
		round_(SEC);
	must(tcp_count() == 0);
	a = connect_(20);
	must(a->st == OPEN);
	peer[0] = accept4(web[0], NULL, NULL, SOCK_CLOEXEC);
	segment_(a, ACK, a->snd, a->rcv, 0, 0, false);
	deliver();
	must(send(peer[0], "x", 1, 0) == 1);
	for (int i = 0; i < 900; i++) {
		round_(SEC);
		if (i < 300)
			segment_(a, ACK, a->snd, a->rcv, 0, 0, false);
		deliver();
		if (i == 299)
			must(tcp_count() == 1);
	}
	must(tcp_count() == 0);
	/* who declines all addresses there are still gets one */
	for (int i = 0; i < 600; i++) {
		memset(offered, 0, 4);
		dhcp(i, 1, false);
		deliver();
		must(get32(offered) >> 8 == 0x0a0002);
		dhcp(i, 4, false);
		deliver();
	}
	end();
}

#endif
