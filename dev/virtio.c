/*
 * virtio.c - virtio over PCI, modern interface, split rings (Virtual I/O Device
 * version 1.2: 2.7 split virtqueues, 4.1 PCI transport).
 *
 * Theory of operation.  Three BARs, one for each cost of access: 1 holds the
 * MSI-X table, 2 the common configuration (0), ISR (100h) and device
 * configuration (200h), whose writes are posted, 4 the notification addresses,
 * a doorbell: the vcpu sets the bit of the queue the driver names and this
 * process finds all bits at once.
 *
 * A queue's rings are checked when it is enabled; from then on host pointers
 * are used.  Descriptors are copied before they are looked at, lengths and
 * addresses are checked by pci_dma, a chain is at most as long as the table.
 * Whatever breaks the rules sets DEVICE_NEEDS_RESET and stops the device.
 *
 * Registers and taking chains belong to the main thread; giving chains back
 * (used ring, interrupt) is under v->lock so that worker threads can do it.
 * Interrupts: one for all chains given back between two vq_notify calls, and
 * none the driver's event index or flag does not ask for.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtio.h"

enum { RANGE_MSIX, RANGE_REGS, RANGE_BELL };	/* of BARs 1, 2 and 4 */
enum { BAR_BYTES = 0x1000, ISR_OFF = 0x100, DEV_OFF = 0x200, COMMON_LEN = 0x3c,
	BELL_STEP = 4 };
enum {					/* common configuration, 4.1.4.3 */
	C_DFSEL = 0x00, C_DF = 0x04, C_GFSEL = 0x08, C_GF = 0x0c,
	C_MSIX = 0x10, C_NUMQ = 0x12, C_STATUS = 0x14, C_GEN = 0x15,
	C_QSEL = 0x16, C_QSIZE = 0x18, C_QMSIX = 0x1a, C_QENABLE = 0x1c,
	C_QOFF = 0x1e, C_QDESC = 0x20, C_QDRIVER = 0x28, C_QDEVICE = 0x30
};
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI };
enum { NO_VECTOR = 0xffff };

static struct virtio *
vio(struct devctx *d)
{
	return d->priv;
}

static uint16_t
le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t
le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

/* -------------------------------------------------------------- interrupts */

void
virtio_interrupt(struct virtio *v, uint16_t vector, uint8_t isr)
{
	bool msix = pci_msix_enabled(v->d);

	if (!msix || isr == ISR_CONFIG)
		v->s->isr |= isr;
	if (msix) {
		if (vector != NO_VECTOR)
			pci_msix(v->d, vector);
	} else {
		pci_intx(v->d, 1);
	}
}

void
virtio_config_changed(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	v->s->generation++;
	if (v->s->status & VS_DRIVER_OK)
		virtio_interrupt(v, v->s->cfg_vector, ISR_CONFIG);
	pthread_mutex_unlock(&v->lock);
}

void
virtio_broken(struct virtio *v, const char *what, uint64_t n)
{
	dev_guest_error(v->d, what, n);
	if (v->s->status & VS_NEEDS_RESET)
		return;
	v->s->status |= VS_NEEDS_RESET;
	virtio_config_changed(v);
}

/* --------------------------------------------------------------- registers */

/* The driver's reset (status 0), and the part of a machine reset it shares. */
static void
device_reset(struct virtio *v)
{
	struct virtio_state *s = v->s;
	unsigned i;

	if (v->type->drain)
		v->type->drain(v);
	memset((uint8_t *)s + sizeof s->pci, 0, sizeof *s - sizeof s->pci);
	s->cfg_vector = NO_VECTOR;
	for (i = 0; i < v->nq; i++) {
		s->size[i] = v->qsize;
		s->vector[i] = NO_VECTOR;
	}
	memset(v->q, 0, sizeof v->q);
	pci_intx(v->d, 0);
	if (v->type->reset)
		v->type->reset(v);
}

static void
set_status(struct virtio *v, uint8_t val)
{
	struct virtio_state *s = v->s;
	uint8_t old = s->status;

	if (val == 0) {
		device_reset(v);
		return;
	}
	val = (uint8_t)((val & ~VS_NEEDS_RESET) | old);
	if (val & ~old & VS_FEATURES_OK && (s->features & ~v->offered ||
	    !virtio_has(v, VIRTIO_F_VERSION_1)))
		val &= (uint8_t)~VS_FEATURES_OK;
	if (!(val & VS_FEATURES_OK))
		val &= (uint8_t)~VS_DRIVER_OK;
	s->status = val;
	if (val & ~old & VS_DRIVER_OK && v->type->driver_ok)
		v->type->driver_ok(v);
}

static uint64_t
common_read(struct virtio *v, unsigned off, unsigned size)
{
	const struct virtio_state *s = v->s;
	uint8_t b[COMMON_LEN] = { 0 };
	unsigned q = s->queue_sel;
	uint64_t val = 0;

	cfg32(b + C_DFSEL, s->dev_sel);
	if (s->dev_sel < 2)
		cfg32(b + C_DF, (uint32_t)(v->offered >> s->dev_sel * 32));
	cfg32(b + C_GFSEL, s->drv_sel);
	if (s->drv_sel < 2)
		cfg32(b + C_GF, (uint32_t)(s->features >> s->drv_sel * 32));
	cfg16(b + C_MSIX, s->cfg_vector);
	cfg16(b + C_NUMQ, (uint16_t)v->nq);
	b[C_STATUS] = s->status;
	b[C_GEN] = s->generation;
	cfg16(b + C_QSEL, s->queue_sel);
	if (q < v->nq) {
		cfg16(b + C_QSIZE, s->size[q]);
		cfg16(b + C_QMSIX, s->vector[q]);
		cfg16(b + C_QENABLE, s->enabled[q]);
		cfg16(b + C_QOFF, (uint16_t)q);
		cfg64(b + C_QDESC, s->desc[q]);
		cfg64(b + C_QDRIVER, s->avail[q]);
		cfg64(b + C_QDEVICE, s->used[q]);
	}
	if (off + size <= sizeof b)
		memcpy(&val, b + off, size);
	return val;
}

static void
enable_queue(struct virtio *v, unsigned q)
{
	if (v->s->enabled[q])
		return;
	v->s->enabled[q] = 1;
	if (!vring_map(v, q))
		virtio_broken(v, "virtio: queue enabled with bad addresses", q);
}

/* Write of half or whole of a 64-bit register; at: offset in it. */
static void
set_addr(uint64_t *reg, unsigned at, unsigned size, uint64_t val)
{
	if (size == 8 && at == 0)
		*reg = val;
	else if (size == 4 && at % 4 == 0)
		*reg = (*reg & ~(0xffffffffull << at * 8)) |
		    (val & 0xffffffff) << at * 8;
}

static uint16_t
check_vector(struct virtio *v, uint64_t val)
{
	return val < v->fn.msix_vectors ? (uint16_t)val : NO_VECTOR;
}

static void
queue_write(struct virtio *v, unsigned off, unsigned size, uint64_t val)
{
	struct virtio_state *s = v->s;
	unsigned q = s->queue_sel;

	if (q >= v->nq)
		return;
	if (off == C_QMSIX && size == 2) {
		s->vector[q] = check_vector(v, val);
		return;
	}
	if (s->enabled[q])		/* 4.1.4.3.2: not changed any more */
		return;
	if (off == C_QSIZE && size == 2) {
		if (val && val <= v->qsize && !(val & (val - 1)))
			s->size[q] = (uint16_t)val;
	} else if (off == C_QENABLE && size == 2) {
		if (val == 1)
			enable_queue(v, q);
	} else if (off >= C_QDESC && off < C_QDRIVER) {
		set_addr(&s->desc[q], off - C_QDESC, size, val);
	} else if (off >= C_QDRIVER && off < C_QDEVICE) {
		set_addr(&s->avail[q], off - C_QDRIVER, size, val);
	} else if (off >= C_QDEVICE && off < C_QDEVICE + 8) {
		set_addr(&s->used[q], off - C_QDEVICE, size, val);
	}
}

static void
common_write(struct virtio *v, unsigned off, unsigned size, uint64_t val)
{
	struct virtio_state *s = v->s;
	unsigned shift;

	if (off == C_DFSEL && size == 4) {
		s->dev_sel = (uint32_t)val;
	} else if (off == C_GFSEL && size == 4) {
		s->drv_sel = (uint32_t)val;
	} else if (off == C_GF && size == 4) {
		if (s->drv_sel > 1 || s->status & VS_FEATURES_OK)
			return;
		shift = s->drv_sel * 32;
		s->features = (s->features & ~(0xffffffffull << shift)) |
		    (val & 0xffffffff) << shift;
	} else if (off == C_MSIX && size == 2) {
		s->cfg_vector = check_vector(v, val);
	} else if (off == C_STATUS && size == 1) {
		set_status(v, (uint8_t)val);
	} else if (off == C_QSEL && size == 2) {
		s->queue_sel = (uint16_t)val;
	} else if (off >= C_QSIZE) {
		queue_write(v, off, size, val);
	}
}

static uint64_t
isr_read(struct virtio *v)
{
	uint8_t isr;

	pthread_mutex_lock(&v->lock);
	isr = v->s->isr;
	v->s->isr = 0;
	pci_intx(v->d, 0);
	pthread_mutex_unlock(&v->lock);
	return isr;
}

static uint64_t
device_read(struct virtio *v, unsigned off, unsigned size)
{
	uint8_t b[256] = { 0 };
	uint64_t val = 0;

	if (off + size > v->type->cfg_len)
		return 0;
	v->type->config(v, b);
	memcpy(&val, b + off, size);
	return val;
}

uint64_t
virtio_read(struct devctx *d, unsigned range, uint64_t off, unsigned size)
{
	struct virtio *v = vio(d);

	if (off >= BAR_BYTES)
		return 0;
	switch (range) {
	case RANGE_MSIX:
		return pci_msix_read(d, off, size);
	case RANGE_REGS:
		if (off < COMMON_LEN)
			return common_read(v, (unsigned)off, size);
		if (off == ISR_OFF)
			return isr_read(v);
		if (off >= DEV_OFF)
			return device_read(v, (unsigned)off - DEV_OFF, size);
	}
	return 0;
}

void
virtio_write(struct devctx *d, unsigned range, uint64_t off, unsigned size,
    uint64_t val)
{
	struct virtio *v = vio(d);

	if (off >= BAR_BYTES)
		return;
	switch (range) {
	case RANGE_MSIX:
		pthread_mutex_lock(&v->lock);
		pci_msix_write(d, off, size, val);
		pthread_mutex_unlock(&v->lock);
		break;
	case RANGE_REGS:
		if (off < COMMON_LEN)
			common_write(v, (unsigned)off, size, val);
		else if (off >= DEV_OFF && size <= 4 &&
		    off - DEV_OFF + size <= v->type->cfg_len &&
		    v->type->config_write)
			v->type->config_write(v, (unsigned)off - DEV_OFF, size,
			    (uint32_t)val);
		break;
	case RANGE_BELL:
		virtio_bell(d, 1ull << (val & 63));
		break;
	}
}

void
virtio_bell(struct devctx *d, uint64_t bits)
{
	struct virtio *v = vio(d);
	unsigned n;

	if (!d->running)
		return;			/* virtio_run looks at every queue */
	for (n = 0; bits && n < v->nq; n++, bits >>= 1)
		if (bits & 1 && vring_usable(v, n))
			v->type->kick(v, n);
}

static void
once_more(void *arg)
{
	struct virtio *v = arg;
	uint64_t bits = v->again;

	v->again = 0;
	virtio_bell(v->d, bits);
}

void
vq_again(struct virtio *v, unsigned n)
{
	v->again |= 1ull << n;
	loop_timer(v->d->loop, 1, once_more, v);
}

/* 4.1.4.9: BAR access through configuration space, for firmware. */
static void
window(struct virtio *v, unsigned off, unsigned size)
{
	uint8_t *w = v->d->cfg + v->window;
	uint8_t bar = w[4];
	uint32_t at = le32(w + 8), len = le32(w + 12);
	unsigned range = bar == 1 ? RANGE_MSIX : bar == 2 ? RANGE_REGS :
	    RANGE_BELL;

	if (off + size <= v->window + 4 || off >= v->window + 20)
		return;
	if ((bar != 1 && bar != 2 && bar != 4) || (len != 1 && len != 2 &&
	    len != 4) || at % len || at >= BAR_BYTES)
		return;
	if (off >= v->window + 16)
		virtio_write(v->d, range, at, len, le32(w + 16) &
		    (0xffffffffu >> (32 - len * 8)));
	pci_config(v->d, &v->fn, v->window + 16, 4,
	    (uint32_t)virtio_read(v->d, range, at, len));
}

void
virtio_config(struct devctx *d, unsigned fn, unsigned off, unsigned size,
    uint32_t val)
{
	struct virtio *v = vio(d);

	pthread_mutex_lock(&v->lock);
	pci_config(d, &v->fn, off, size, val);
	pthread_mutex_unlock(&v->lock);
	window(v, off, size);
	if (off <= 4 && off + size > 4)	/* bus mastering may have come on */
		virtio_bell(d, ~0ull);
}

/* --------------------------------------------------------------- life cycle */

static void
capability(struct virtio *v, uint8_t type, uint8_t bar, uint32_t off,
    uint32_t len, unsigned extra)
{
	uint8_t b[18] = { 0 };

	b[0] = (uint8_t)(16 + extra);
	b[1] = type;
	b[2] = bar;
	cfg32(b + 6, off);
	cfg32(b + 10, len);
	if (type == CAP_NOTIFY)
		cfg32(b + 14, BELL_STEP);
	v->window = pci_cap(v->d, 9, b, 14 + extra);
}

int
virtio_init(struct devctx *d, const struct virtio_type *type,
    const char *addr, char *why, size_t whylen)
{
	struct virtio *v = vio(d);

	v->d = d;
	v->s = d->st;
	v->type = type;
	pthread_mutex_init(&v->lock, NULL);
	v->offered |= 1ull << VIRTIO_F_INDIRECT | 1ull << VIRTIO_F_EVENT_IDX |
	    1ull << VIRTIO_F_VERSION_1;
	v->fn = (struct pci_fn){
		.vendor = 0x1af4, .device = 0x1040 + type->id,
		.subvendor = 0x1af4, .subdevice = 0x1100,
		.class_rev = type->class_rev, .intpin = 1,
		.msix_vectors = v->nq + 1 < MSI_MAX ? v->nq + 1 : MSI_MAX,
		.msix_bar = 1,
		.bar = {
			[1] = { BAR_BYTES, SPACE_MEM, RANGE_POSTED, false,
			    false, RANGE_MSIX },
			[2] = { BAR_BYTES, SPACE_MEM, RANGE_POSTED, false,
			    false, RANGE_REGS },
			[4] = { BAR_BYTES, SPACE_MEM, RANGE_DOORBELL, false,
			    false, RANGE_BELL },
		},
		.state = offsetof(struct virtio_state, pci) + 1,
	};
	if (pci_place(d, &v->fn, addr, why, whylen) < 0)
		return -1;
	capability(v, CAP_COMMON, 2, 0, COMMON_LEN, 0);
	capability(v, CAP_ISR, 2, ISR_OFF, 1, 0);
	if (type->cfg_len)
		capability(v, CAP_DEVICE, 2, DEV_OFF, type->cfg_len, 0);
	capability(v, CAP_NOTIFY, 4, 0, v->nq * BELL_STEP, 4);
	capability(v, CAP_PCI, 0, 0, 0, 4);
	pci_writable(d, v->window + 4, 1, 0xff);
	pci_writable(d, v->window + 8, 12, 0xff);
	return 0;
}

void
virtio_reset(struct devctx *d)
{
	struct virtio *v = vio(d);

	device_reset(v);
	pci_reset(d, &v->fn);
}

void
virtio_loaded(struct devctx *d)
{
	struct virtio *v = vio(d);
	struct virtio_state *s = v->s;
	unsigned n;

	pci_loaded(d, &v->fn);
	memset(v->q, 0, sizeof v->q);
	for (n = 0; n < v->nq; n++)
		if (s->enabled[n] && !vring_map(v, n))
			s->status |= VS_NEEDS_RESET;
}

void
virtio_stop(struct devctx *d)
{
	struct virtio *v = vio(d);

	if (v->type->drain)
		v->type->drain(v);
}

void
virtio_run(struct devctx *d)
{
	virtio_bell(d, ~0ull);
}
