/*
 * vnet-ctrl.c - the virtio network device's receive filter and the control
 * queue that sets it (virtio 1.2, 5.1.6.5).
 */
#include <string.h>

#include "vnet.h"

static bool
in_table(const uint8_t *t, unsigned n, const uint8_t *mac)
{
	unsigned i;

	if (n > MACS_MAX)
		return true;
	for (i = 0; i < n; i++)
		if (memcmp(t + i * 6, mac, 6) == 0)
			return true;
	return false;
}

/* 5.1.6.5.1 to 5.1.6.5.3 */
bool
vnet_wanted(const struct net *s, bool vlans, const uint8_t *p)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	unsigned id;

	if (s->mode[RX_PROMISC])
		return true;
	if (vlans && p[12] == 0x81 && p[13] == 0) {
		id = (p[14] & 15u) << 8 | p[15];
		if (!(s->vlan[id / 8] >> id % 8 & 1))
			return false;
	}
	if (memcmp(p, all, 6) == 0)
		return !s->mode[RX_NOBCAST];
	if (p[0] & 1)
		return !s->mode[RX_NOMULTI] && (s->mode[RX_ALLMULTI] ||
		    in_table(s->multi, s->n_multi, p));
	return !s->mode[RX_NOUNI] && (s->mode[RX_ALLUNI] ||
	    memcmp(p, s->mac, 6) == 0 || in_table(s->uni, s->n_uni, p));
}

/* ------------------------------------------------------------ control queue */

static bool
one_table(const struct vq_elem *e, size_t *at, uint8_t *t, uint16_t *count)
{
	uint8_t b[4];
	uint32_t n;

	if (iov_get(e->iov, e->n_out, *at, b, 4) != 4)
		return false;
	n = b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
	*at += 4;
	if (n > (e->out_len - *at) / 6)
		return false;
	*count = n > MACS_MAX ? MACS_MAX + 1 : (uint16_t)n;
	iov_get(e->iov, e->n_out, *at, t, (n > MACS_MAX ? MACS_MAX : n) * 6);
	*at += (size_t)n * 6;
	return true;
}

static bool
mac_tables(struct net *s, const struct vq_elem *e)
{
	static uint8_t uni[MACS_MAX * 6], multi[MACS_MAX * 6];
	uint16_t n_uni, n_multi;
	size_t at = 2;

	if (!one_table(e, &at, uni, &n_uni) ||
	    !one_table(e, &at, multi, &n_multi))
		return false;
	memcpy(s->uni, uni, sizeof uni);
	memcpy(s->multi, multi, sizeof multi);
	s->n_uni = n_uni;
	s->n_multi = n_multi;
	return true;
}

/* One command; false: refused. */
static bool
command(struct virtio *v, const struct vq_elem *e)
{
	struct net_priv *p = net(v);
	struct net *s = v->d->st;
	uint8_t c[2], b[6];
	size_t n;
	unsigned val;

	iov_get(e->iov, e->n_out, 0, c, 2);
	n = iov_get(e->iov, e->n_out, 2, b, sizeof b);
	val = n >= 2 ? b[0] | b[1] << 8u : 0;
	switch (c[0]) {
	case CTRL_RX:
		if (!virtio_has(v, c[1] < RX_ALLUNI ? F_CTRL_RX :
		    F_CTRL_RX_EXTRA) || c[1] >= RX_N || n < 1)
			return false;
		s->mode[c[1]] = b[0] & 1;
		return true;
	case CTRL_MAC:
		if (c[1] == 0 && virtio_has(v, F_CTRL_RX))
			return mac_tables(s, e);
		if (c[1] != 1 || n < 6 || !virtio_has(v, F_CTRL_MAC_ADDR))
			return false;
		memcpy(s->mac, b, 6);
		return true;
	case CTRL_VLAN:
		if (c[1] > 1 || n < 2 || val > 4095 ||
		    !virtio_has(v, F_CTRL_VLAN))
			return false;
		if (c[1] == 0)
			s->vlan[val / 8] |= (uint8_t)(1 << val % 8);
		else
			s->vlan[val / 8] &= (uint8_t)~(1 << val % 8);
		return true;
	case CTRL_ANNOUNCE:
		if (c[1] || !p->announce)
			return false;
		p->announce = false;
		return true;
	case CTRL_MQ:
		if (c[1] || n < 2 || val < 1 || val > max_pairs(v) ||
		    !virtio_has(v, F_MQ))
			return false;
		s->pairs = (uint16_t)val;
		memset(p->flow, 0, sizeof p->flow);
		return true;
	}
	return false;
}

void
vnet_control(struct virtio *v, unsigned q)
{
	struct net_priv *p = net(v);
	struct vq_elem e = { .iov = p->iov, .cap = NIC_PIECES };
	unsigned left = VQ_BUDGET;
	uint8_t ack;

	do {
		while (left && vq_pop(v, q, &e)) {
			left--;
			if (e.out_len < 2 || e.in_len < 1) {
				virtio_broken(v, "virtio-net: command without "
				    "class or answer", e.out_len);
				return;
			}
			ack = !command(v, &e);
			iov_put(v->d, e.iov + e.n_out, e.n_in, 0, &ack, 1);
			vq_done(v, &e, 1);
		}
	} while (vq_want(v, q, true) && left);
	if (!left)
		vq_again(v, q);
	vq_flush(v, q);
}
