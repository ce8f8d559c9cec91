/*
 * arp.c - RFC 826: we answer for the virtual addresses, learn from what is
 * asked and announced, and ask for guests that a forward wants to reach.
 */
#include "slirp.h"

static void
send_arp(uint16_t op, uint32_t us, const uint8_t usmac[6], uint32_t them,
    const uint8_t themmac[6], const uint8_t dst[6])
{
	uint8_t *p = out_raw();

	memcpy(p, "\0\1\x08\0\6\4", 6);
	put16(p + 6, op);
	memcpy(p + 8, usmac, 6);
	put32(p + 14, us);
	memcpy(p + 18, themmac, 6);
	put32(p + 24, them);
	memset(p + 28, 0, 18);		/* to Ethernet's minimum */
	out_eth(p, 46, 0x0806, dst);
}

void
arp_input(const uint8_t *p, unsigned len, const uint8_t *mac)
{
	uint32_t sa, ta;
	ip s, t;

	if (len < 28 || memcmp(p, "\0\1\x08\0\6\4", 6) ||
	    memcmp(p + 8, mac, 6)) {
		st.bad++;
		return;
	}
	st.arp++;
	sa = get32(p + 14);
	ta = get32(p + 24);
	s = mk4(sa);
	t = mk4(ta);
	if (sa)
		nb_learn(&s, p + 8);
	/* a probe for one of our addresses is answered too: it is taken */
	if (get16(p + 6) == 1 && sa != ta && is_ours(&t))
		send_arp(2, ta, ta == cf.dns ? cf.dnsmac : cf.mac, sa, p + 8,
		    p + 8);
}

void
arp_ask(uint32_t addr)
{
	static const uint8_t none[6];

	send_arp(1, cf.host, cf.mac, addr, none,
	    (const uint8_t *)"\377\377\377\377\377\377");
}
