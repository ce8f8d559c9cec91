/*
 * e1000-ring.c - descriptor rings of the 82540EM: transmission with checksums
 * and TCP segmentation, reception with filters (SDM, see e1000.h, chapter 3).
 *
 * A frame is sent when its last descriptor is there, so nothing of it need be
 * remembered.  A frame received waits in the nic until there are descriptors for
 * all of it.  Descriptors are copied before they are looked at, and written back
 * with one store, since the driver polls their status.
 */
#include <stdatomic.h>
#include <string.h>

#include "e1000.h"

enum { CMD_EOP = 1, CMD_IC = 4, CMD_TSE = 4, CMD_RS = 8, CMD_DEXT = 0x20,
	CMD_VLE = 0x40 };		/* IC of legacy, TSE of extended ones */
enum { POPTS_IXSM = 1, POPTS_TXSM = 2 };
enum { TU_TCP = 1, TU_IP = 2 };
enum { RX_DD = 1, RX_EOP = 2, RX_IXSM = 4, RX_VP = 8, RX_TCPCS = 0x20,
	RX_IPCS = 0x40, RX_PIF = 0x80 };
enum { RX_TCPE = 0x20, RX_IPE = 0x40, RX_RXE = 0x80 };
enum { CSUM_IP = 0x100, CSUM_TU = 0x200 };

#define PACKET_MAX	(0x10000 + 256)	/* before segmentation */
#define FRAME_LONGEST	16384
#define TX_BUDGET	512		/* descriptors at a time */

struct desc { uint64_t addr, rest; };

static uint8_t packet[PACKET_MAX];	/* to be segmented */

static unsigned
be16(const uint8_t *p)
{
	return p[0] << 8u | p[1];
}

static uint32_t
le32(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

static void
put_be16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* A ring's entries and their number; NULL: there is none. */
static struct desc *
ring(struct devctx *d, unsigned base, unsigned *n)
{
	struct e1000 *s = d->st;
	uint64_t at = *e1000_reg(s, base) |
	    (uint64_t)*e1000_reg(s, base + 4) << 32;
	uint32_t len = *e1000_reg(s, base + 8);

	*n = len / 16;
	return len ? pci_dma(d, at, len) : NULL;
}

static struct desc
fetch(const struct desc *p)
{
	struct desc c;

	c.addr = atomic_load((_Atomic uint64_t *)(uintptr_t)&p->addr);
	c.rest = atomic_load((_Atomic uint64_t *)(uintptr_t)&p->rest);
	return c;
}

static void
write_back(struct devctx *d, struct desc *p, uint64_t rest)
{
	atomic_store((_Atomic uint64_t *)&p->rest, rest);
	dev_dma_wrote(d, p, sizeof *p);
}

/* ------------------------------------------------------------ transmission */

static void
frame_out(struct devctx *d, uint8_t *f, unsigned len)
{
	struct e1000 *s = d->st;
	struct e1000_priv *p = d->priv;
	struct iovec iov = { f, len };
	static const uint16_t edge[] = { 64, 127, 255, 511, 1023, 65535 };
	unsigned i;

	for (i = 0; edge[i] < len + 4 && i < 5; i++)
		;
	e1000_count(s, PTC64 + i * 4, 1);
	e1000_count(s, GPTC, 1);
	e1000_count(s, TPT, 1);
	e1000_count64(s, GOTCL, len + 4);
	e1000_count64(s, TOTL, len + 4);
	if (f[0] & 1)
		e1000_count(s, memcmp(f, "\377\377\377\377\377\377", 6) ?
		    MPTC : BPTC, 1);
	if (*e1000_reg(s, RCTL) & RCTL_LBM || s->phy[PHY_CTRL] & PHY_LOOPBACK)
		e1000_rx(d, f, len);
	else
		nic_send(&p->nic, &iov, 1, 0);
}

/* SDM 3.3.6: offsets of the context descriptor. */
static void
offload(const struct e1000 *s, uint8_t *f, unsigned len, unsigned popts)
{
	const uint8_t *c = s->ctx;

	if (popts & POPTS_IXSM)
		nic_put_sum(f, len, c[0], c[1], c[2] | c[3] << 8u);
	if (popts & POPTS_TXSM)
		nic_put_sum(f, len, c[4], c[5], c[6] | c[7] << 8u);
}

/* Room of 4 bytes lies before f: for the VLAN tag. */
static void
finish(struct devctx *d, uint8_t *f, unsigned len, bool vlan, unsigned tci)
{
	struct e1000 *s = d->st;

	if (vlan && *e1000_reg(s, CTRL) & CTRL_VME) {
		f -= 4;
		memmove(f, f + 4, 12);
		put_be16(f + 12, *e1000_reg(s, VET) & 0xffff);
		put_be16(f + 14, tci);
		len += 4;
	}
	if (len < 60 && *e1000_reg(s, TCTL) & TCTL_PSP) {
		memset(f + len, 0, 60 - len);
		len = 60;
	}
	frame_out(d, f, len);
}

/* SDM 3.5: TCP and UDP segmentation of `packet`. */
static void
segment(struct devctx *d, unsigned len, unsigned popts, bool vlan, unsigned tci)
{
	struct e1000_priv *p = d->priv;
	struct e1000 *s = d->st;
	const uint8_t *c = s->ctx;
	struct nic_seg g = { c[0], c[4], c[13], popts & POPTS_TXSM ? c[5] : 0,
	    c[14] | c[15] << 8u, c[11] & TU_IP, c[11] & TU_TCP };
	unsigned off, part, n = 0;
	uint8_t *f;

	if (!nic_seg_ok(&g, len)) {
		dev_guest_error(d, "e1000: segmentation of no packet", g.data);
		return;
	}
	e1000_count(s, TSCTC, 1);
	for (off = g.data; off < len; off += part) {
		part = len - off < g.mss ? len - off : g.mss;
		f = nic_room(&p->nic, g.data + part + 64) + 4;
		nic_seg(&g, packet, len, off, n++, f);
		offload(s, f, g.data + part, popts);
		finish(d, f, g.data + part, vlan, tci);
	}
}

/* The packet of descriptors r[from] to r[last] of n. */
static void
one_packet(struct devctx *d, struct desc *r, unsigned n, unsigned from,
    unsigned last)
{
	struct e1000 *s = d->st;
	struct desc t;
	unsigned i, len = 0, part, cmd, popts = 0, css = 0, cso = 0, tci = 0;
	bool first = true, ext = false, tse = false, vlan = false, bad = false;
	uint8_t *f = packet;
	void *p;

	for (i = from; ; i = (i + 1) % n) {
		t = fetch(&r[i]);
		cmd = t.rest >> 24 & 0xff;
		if (cmd & CMD_DEXT && (t.rest >> 20 & 15) == 0) {
			memcpy(s->ctx, &t, sizeof s->ctx);
		} else {
			if (first) {
				ext = cmd & CMD_DEXT;
				tse = ext && cmd & CMD_TSE;
				popts = ext ? t.rest >> 40 & 0xff : 0;
				if (!ext && cmd & CMD_IC) {
					cso = t.rest >> 16 & 0xff;
					css = t.rest >> 40 & 0xff;
				}
				first = false;
			}
			vlan = cmd & CMD_VLE;
			tci = t.rest >> 48 & 0xffff;
			part = t.rest & (cmd & CMD_DEXT ? 0xfffff : 0xffff);
			p = pci_dma(d, t.addr, part);
			if (!p || len + part > PACKET_MAX - 128)
				bad = true;
			else
				memcpy(f + len, p, part);
			len += bad ? 0 : part;
		}
		if (i == last)
			break;
	}
	if (bad || len < 14 || (!tse && len > FRAME_LONGEST)) {
		dev_guest_error(d, "e1000: frame out of memory or bounds", len);
		return;
	}
	if (tse) {
		segment(d, len, popts, vlan, tci);
		return;
	}
	f = nic_room(&((struct e1000_priv *)d->priv)->nic, len + 64 + 4) + 4;
	memcpy(f, packet, len);
	if (ext)
		offload(s, f, len, popts);
	else if (cso)
		nic_put_sum(f, len, css, cso, 0);
	finish(d, f, len, vlan, tci);
}

static void
once_more(void *arg)
{
	struct devctx *d = arg;

	if (d->running)
		e1000_transmit(d);
}

void
e1000_transmit(struct devctx *d)
{
	struct e1000 *s = d->st;
	struct e1000_priv *p = d->priv;
	unsigned n, head, tail, i, cmd, done = 0;
	uint32_t causes = 0;
	struct desc *r, t;
	bool eop, more = true;

	r = ring(d, TDBAL, &n);
	if (!r || !d->running || !(*e1000_reg(s, TCTL) & TCTL_EN))
		return;
	tail = *e1000_reg(s, TDT);
	head = *e1000_reg(s, TDH);
	if (tail >= n || head >= n) {
		dev_guest_error(d, "e1000: tail or head out of the ring", tail);
		return;
	}
	while (more && head != tail && done < TX_BUDGET && !nic_full(&p->nic)) {
		eop = false;
		for (i = head; i != tail && !eop; i = (i + 1) % n) {
			t = fetch(&r[i]);
			cmd = t.rest >> 24 & 0xff;
			eop = cmd & CMD_EOP && !(cmd & CMD_DEXT &&
			    (t.rest >> 20 & 15) == 0);
		}
		if (!eop) {
			if ((tail + 1) % n != head)
				break;		/* the rest is to come */
			dev_guest_error(d, "e1000: a ring without an end", n);
			more = false;
		} else {
			one_packet(d, r, n, head, (i + n - 1) % n);
		}
		for (; head != i; head = (head + 1) % n, done++) {
			t = fetch(&r[head]);
			if (!(t.rest >> 24 & CMD_RS))
				continue;
			write_back(d, &r[head], t.rest | 1ull << 32);
			causes |= INT_TXDW;
		}
	}
	nic_flush(&p->nic);
	*e1000_reg(s, TDH) = head;
	if (done && head == tail)
		causes |= INT_TXQE;
	if (causes)
		e1000_cause(d, causes);
	if (done >= TX_BUDGET && d->loop)
		loop_timer(d->loop, 1, once_more, d);
}

/* --------------------------------------------------------------- reception */

/* SDM 3.2.1 */
static bool
wanted(struct e1000 *s, const uint8_t *f)
{
	static const uint8_t shift[] = { 4, 3, 2, 0 };
	uint32_t rctl = *e1000_reg(s, RCTL), lo, hi;
	unsigned i, h, id;

	if (rctl & RCTL_VFE && be16(f + 12) == (*e1000_reg(s, VET) & 0xffff)) {
		id = be16(f + 14) & 0xfff;
		if (!(*e1000_reg(s, VFTA + id / 32 * 4) >> id % 32 & 1))
			return false;
	}
	if (f[0] & 1) {
		if (rctl & RCTL_MPE || (rctl & RCTL_BAM &&
		    memcmp(f, "\377\377\377\377\377\377", 6) == 0))
			return true;
	} else if (rctl & RCTL_UPE) {
		return true;
	}
	for (i = 0; i < 16; i++) {
		lo = *e1000_reg(s, RA + i * 8);
		hi = *e1000_reg(s, RA + i * 8 + 4);
		if (hi >> 31 && le32(f) == lo && le32(f + 2) >> 16 ==
		    (hi & 0xffff))
			return true;
	}
	if (!(f[0] & 1))
		return false;
	h = (f[4] | f[5] << 8u) >> shift[rctl >> 12 & 3] & 0xfff;
	return *e1000_reg(s, MTA + h / 32 * 4) >> h % 32 & 1;
}

/* SDM 3.2.9: status and errors << 8 for the checksums of an IP packet. */
static unsigned
check_sums(struct e1000 *s, const uint8_t *f, unsigned len)
{
	uint32_t on = *e1000_reg(s, RXCSUM);
	unsigned at = 14, ihl, total, proto, r = 0, sum;

	if (be16(f + 12) != 0x800 || len < 34 || f[at] >> 4 != 4)
		return RX_IXSM;
	ihl = (f[at] & 15) * 4u;
	total = be16(f + at + 2);
	if (ihl < 20 || total < ihl || at + total > len)
		return RX_IXSM;
	if (on & CSUM_IP) {
		r |= RX_IPCS;
		if (nic_sum(f + at, ihl) != 0xffff)
			r |= RX_IPE << 8;
	}
	proto = f[at + 9];
	if (!(on & CSUM_TU) || be16(f + at + 6) & 0x3fff ||
	    (proto != 6 && proto != 17) || total - ihl < (proto == 6 ? 20 : 8))
		return r ? r : RX_IXSM;
	if (proto == 17 && be16(f + at + ihl + 6) == 0)
		return r ? r : RX_IXSM;
	sum = nic_sum(f + at + 12, 8) + proto + total - ihl +
	    nic_sum(f + at + ihl, total - ihl);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	r |= RX_TCPCS;
	if (sum != 0xffff)
		r |= RX_TCPE << 8;
	return r;
}

static void
count_rx(struct e1000 *s, const uint8_t *f, unsigned len)
{
	static const uint16_t edge[] = { 64, 127, 255, 511, 1023, 65535 };
	unsigned i;

	for (i = 0; edge[i] < len + 4 && i < 5; i++)
		;
	e1000_count(s, PRC64 + i * 4, 1);
	e1000_count(s, GPRC, 1);
	e1000_count64(s, GORCL, len + 4);
	if (f[0] & 1)
		e1000_count(s, memcmp(f, "\377\377\377\377\377\377", 6) ?
		    MPRC : BPRC, 1);
}

/* Copy the bytes from `off` on of a frame and its checksum behind it. */
static void
copy_out(uint8_t *to, const uint8_t *f, unsigned len, const uint8_t fcs[4],
    unsigned off, unsigned part)
{
	unsigned n = off < len ? len - off : 0;

	if (n > part)
		n = part;
	memcpy(to, f + off, n);
	for (; n < part; n++)
		to[n] = fcs[off + n - len];
}

static bool
receive(struct devctx *d, const uint8_t *f, uint32_t len)
{
	static uint8_t copy[FRAME_LONGEST + 64];
	struct e1000 *s = d->st;
	struct e1000_priv *p = d->priv;
	uint32_t rctl = *e1000_reg(s, RCTL), fcs = 0;
	unsigned n, head, tail, size, total, off, part, bits, vp = 0, tci = 0;
	unsigned room, need, errors;
	struct desc *r, t;
	uint8_t *to;

	if (!(rctl & RCTL_EN))
		return true;
	if (len > FRAME_LONGEST || (len > 1518 && !(rctl & RCTL_LPE))) {
		e1000_count(s, ROC, 1);
		return true;
	}
	if (len < 60) {			/* there are no shorter ones on a cable */
		memcpy(copy, f, len);
		memset(copy + len, 0, 60 - len);
		f = copy;
		len = 60;
	}
	if (!wanted(s, f))
		return true;
	r = ring(d, RDBAL, &n);
	head = *e1000_reg(s, RDH);
	tail = *e1000_reg(s, RDT);
	if (!r || head >= n || tail >= n)
		return false;
	bits = check_sums(s, f, len);
	if (*e1000_reg(s, CTRL) & CTRL_VME &&
	    be16(f + 12) == (*e1000_reg(s, VET) & 0xffff)) {
		tci = be16(f + 14);
		vp = RX_VP;
		memmove(copy, f, 12);
		memmove(copy + 12, f + 16, len - 16);
		f = copy;
		len -= 4;
	}
	size = 2048 >> (rctl >> 16 & 3);
	if (rctl & RCTL_BSEX && size < 2048)
		size *= 16;
	total = len;
	if (!(rctl & RCTL_SECRC)) {
		fcs = nic_fcs(f, len);
		total += 4;
	}
	need = (total + size - 1) / size;
	room = (tail + n - head) % n;
	if (need >= n)
		return true;
	if (room < need)
		return false;
	count_rx(s, f, len);
	for (off = 0; off < total; off += part) {
		part = total - off < size ? total - off : size;
		t = fetch(&r[head]);
		to = pci_dma(d, t.addr, part);
		errors = bits >> 8;
		if (to) {
			copy_out(to, f, len, (uint8_t *)&fcs, off, part);
			dev_dma_wrote(d, to, part);
		} else {
			errors |= RX_RXE;
			dev_guest_error(d, "e1000: receive buffer is no memory",
			    t.addr);
		}
		write_back(d, &r[head], part | (uint64_t)(RX_DD | vp |
		    (bits & 0xff) | (off + part == total ? RX_EOP : 0)) << 32 |
		    (uint64_t)errors << 40 | (uint64_t)tci << 48);
		head = (head + 1) % n;
	}
	*e1000_reg(s, RDH) = head;
	if (room - need <= n >> (1 + (rctl >> 8 & 3)))
		*e1000_reg(s, ICR) |= INT_RXDMT0;
	p->pending = true;
	return true;
}

bool
e1000_rx(struct devctx *d, const uint8_t *f, uint32_t len)
{
	struct e1000 *s = d->st;

	if (!receive(d, f, len))
		return false;
	if (*e1000_reg(s, RCTL) & RCTL_EN) {
		e1000_count(s, TPR, 1);
		e1000_count64(s, TORL, len + 4);
	}
	return true;
}
