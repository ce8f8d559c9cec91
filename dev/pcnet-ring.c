/*
 * pcnet-ring.c - the descriptor rings of the Am79C970A, in the 16-bit and both
 * 32-bit software styles (see pcnet.c).
 */
#include <stdatomic.h>
#include <string.h>

#include "pcnet.h"

/* A descriptor, whatever its style. */
struct md { uint32_t base, status, bytes; void *at; };

/* ------------------------------------------------------------- descriptors */

static unsigned
style(const struct pcnet *s)
{
	return s->bcr[BCR_STYLE] & 0xff;
}

uint32_t
pcnet_base(const struct pcnet *s, unsigned csr)
{
	return s->csr[csr] | (uint32_t)s->csr[csr + 1] << 16;
}

static uint32_t
load32(const void *p)
{
	return atomic_load((_Atomic uint32_t *)(uintptr_t)p);
}

/* Descriptor i of the ring whose base is in `csr`; false: no memory. */
static bool
fetch(struct devctx *d, unsigned csr, unsigned i, struct md *m)
{
	struct pcnet *s = d->st;
	unsigned st = style(s);
	uint32_t w[4];
	uint8_t *p = pci_dma(d, (uint64_t)pcnet_base(s, csr) + i * (st ? 16 : 8),
	    st ? 16 : 8);

	if (!p || (uintptr_t)p % 4)
		return false;
	w[0] = load32(p);
	w[1] = load32(p + 4);
	m->at = p;
	if (st == 0) {			/* 8.2: address and status share a word */
		m->base = w[0] & 0xffffff;
		m->status = w[0] >> 16 & 0xff00;
		m->bytes = w[1] & 0xffff;
	} else {
		w[2] = load32(p + 8);
		m->base = st == 3 ? w[2] : w[0];
		m->status = w[1] >> 16;
		m->bytes = w[1] & 0xffff;
	}
	m->bytes = 4096 - (m->bytes & 0xfff);
	return true;
}

/* Give a descriptor back with this status; RX: the length of the message. */
static void
give_back(struct devctx *d, const struct md *m, unsigned status, int length)
{
	unsigned st = style(d->st);
	uint8_t *p = m->at;
	uint16_t v = (uint16_t)length;
	uint32_t w = (uint32_t)length;

	if (length >= 0) {
		if (st == 0)
			memcpy(p + 6, &v, 2);
		else
			memcpy(p + (st == 3 ? 0 : 8), &w, 4);
	}
	atomic_thread_fence(memory_order_release);
	if (st == 0)
		atomic_store((_Atomic uint8_t *)p + 3, (uint8_t)(status >> 8));
	else
		atomic_store((_Atomic uint16_t *)(void *)(p + 6),
		    (uint16_t)status);
	dev_dma_wrote(d, p, st ? 16 : 8);
}

/* ------------------------------------------------------------ transmission */

/* The frame from descriptor tx_at on; false: it is not all there. */
static bool
send_one(struct devctx *d)
{
	struct pcnet *s = d->st;
	struct pcnet_priv *p = d->priv;
	unsigned n = pcnet_len(s, 78), i, len = 0;
	uint8_t *f = NULL;
	bool bad = false, end = false;
	struct md m;
	void *from;

	for (i = 0; i < n && !end; i++) {
		if (!fetch(d, 30, (s->tx_at + i) % n, &m) || !(m.status & OWN))
			return false;
		end = m.status & ENP || (i == 0 && !(m.status & STP));
	}
	if (!end)				/* a ring without an end */
		bad = true;
	else
		f = nic_room(&p->nic, LONGEST);
	for (; i; i--, s->tx_at = (s->tx_at + 1) % n) {
		if (!fetch(d, 30, s->tx_at, &m))
			return false;
		from = pci_dma(d, m.base, m.bytes);
		if (!from || len + m.bytes > LONGEST || (!len &&
		    !(m.status & STP)))
			bad = true;
		else if (!bad)
			memcpy(f + len, from, m.bytes);
		len += m.bytes;
		give_back(d, &m, (m.status & ~OWN) | (bad ? ERR : 0), -1);
	}
	if (bad) {
		dev_guest_error(d, "pcnet: frame out of memory or bounds", len);
	} else if (s->csr[15] & MODE_LOOP) {
		if (len >= 14)
			p->nic.ops->rx(d, f, len);
	} else {
		nic_send(&p->nic, &(struct iovec){ f, len }, 1, 0);
	}
	return true;
}

void
pcnet_transmit(struct devctx *d)
{
	struct pcnet *s = d->st;
	struct pcnet_priv *p = d->priv;
	unsigned n = pcnet_len(s, 78), left = TX_BUDGET, causes = 0;

	if (!d->running || !(s->csr[0] & C0_TXON) || s->csr[5] & 1 || !n)
		return;
	s->tx_at %= n;
	while (left && !nic_full(&p->nic) && send_one(d)) {
		causes = C0_TINT;
		left--;
	}
	nic_flush(&p->nic);
	if (p->pending)				/* looped back */
		causes |= C0_RINT;
	p->pending = false;
	if (causes)
		pcnet_irq(d, causes);
	if (!left)
		dev_timer(d, 0, dev_clock(d), pcnet_transmit);
}

/* --------------------------------------------------------------- reception */

/* The bit of the match, else 0. */
static unsigned
match(const struct pcnet *s, const uint8_t *f)
{
	unsigned mode = s->csr[15], h, i;

	if (memcmp(f, "\377\377\377\377\377\377", 6) == 0 &&
	    !(mode & MODE_DRCVBC))
		return RX_BAM;
	if (f[0] & 1) {
		h = ~nic_fcs(f, 6) >> 26;
		if (s->csr[8 + h / 16] >> h % 16 & 1)
			return RX_LAFM;
	} else if (!(mode & MODE_DRCVPA)) {
		for (i = 0; i < 3 && (f[2 * i] | f[2 * i + 1] << 8) ==
		    s->csr[12 + i]; i++)
			;
		if (i == 3)
			return RX_PAM;
	}
	return mode & MODE_PROM ? RX_PAM : 0;
}

bool
pcnet_rx(struct devctx *d, const uint8_t *f, uint32_t len)
{
	static uint8_t b[LONGEST + 64];
	struct pcnet *s = d->st;
	struct pcnet_priv *p = d->priv;
	unsigned n = pcnet_len(s, 76), how, room, i, k, off, part, status;
	uint32_t fcs;
	struct md m;
	void *to;

	if (!(s->csr[0] & C0_RXON) || s->csr[5] & 1 || !n ||
	    len > LONGEST - 4 || !(how = match(s, f)))
		return true;
	s->rx_at %= n;
	memcpy(b, f, len);
	if (len < 60) {
		memset(b + len, 0, 60 - len);
		len = 60;
	}
	fcs = nic_fcs(b, len);
	memcpy(b + len, &fcs, 4);
	len += 4;
	for (room = k = 0; room < len; k++) {
		if (k == n)
			return true;		/* the ring cannot hold it */
		if (!fetch(d, 24, (s->rx_at + k) % n, &m) || !(m.status & OWN))
			return false;
		room += m.bytes;
	}
	for (off = i = 0; i < k; i++, off += part) {
		if (!fetch(d, 24, s->rx_at, &m))
			return true;
		part = len - off < m.bytes ? len - off : m.bytes;
		status = (i ? 0 : STP | how) | (i == k - 1 ? ENP : 0);
		to = pci_dma(d, m.base, part);
		if (to) {
			memcpy(to, b + off, part);
			dev_dma_wrote(d, to, part);
		} else {
			status |= ERR;
			dev_guest_error(d, "pcnet: receive buffer is no memory",
			    m.base);
		}
		give_back(d, &m, status, (int)len);
		s->rx_at = (s->rx_at + 1) % n;
	}
	p->pending = true;
	return true;
}

void
pcnet_rx_end(struct devctx *d)
{
	struct pcnet_priv *p = d->priv;

	if (p->pending)
		pcnet_irq(d, C0_RINT);
	p->pending = false;
}
