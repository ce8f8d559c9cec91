/*
 * virtio.h - what a virtio device over PCI is (virtio 1.2): a type, a state
 * that begins with struct virtio_state, a private part that begins with struct
 * virtio.  virtio.c has the transport and the rings; the device gives the
 * callbacks of its type.
 */
#ifndef VIRTIO_H
#define VIRTIO_H

#include <pthread.h>
#include <sys/uio.h>
#include "dev.h"

#define VQ_MAX	64
#define VQ_SIZE_MAX 1024

enum { VIRTIO_F_INDIRECT = 28, VIRTIO_F_EVENT_IDX = 29, VIRTIO_F_VERSION_1 = 32 };
enum { VS_ACK = 1, VS_DRIVER = 2, VS_DRIVER_OK = 4, VS_FEATURES_OK = 8,
	VS_NEEDS_RESET = 0x40, VS_FAILED = 0x80 };

/* Guest-visible state; first member of a device's state struct. */
struct virtio_state {
	struct pci_state pci;
	uint64_t	features;	/* what the driver accepted */
	uint32_t	dev_sel, drv_sel;
	uint16_t	cfg_vector, queue_sel;
	uint8_t		status, isr, generation;
	uint64_t	desc[VQ_MAX], avail[VQ_MAX], used[VQ_MAX];
	uint16_t	size[VQ_MAX], vector[VQ_MAX], enabled[VQ_MAX];
	uint16_t	avail_idx[VQ_MAX];	/* next to take */
	uint16_t	used_idx[VQ_MAX];	/* next to fill */
	uint16_t	told_idx[VQ_MAX];	/* used_idx at the last notify */
	uint8_t		told[VQ_MAX];		/* told_idx means something */
};
#define VIRTIO_FIELDS(st, m) \
	PCI_FIELDS(st, m.pci), FIELD(st, m.features), FIELD(st, m.dev_sel), \
	FIELD(st, m.drv_sel), FIELD(st, m.cfg_vector), \
	FIELD(st, m.queue_sel), FIELD(st, m.status), FIELD(st, m.isr), \
	FIELD(st, m.generation), FIELDS(st, m.desc), FIELDS(st, m.avail), \
	FIELDS(st, m.used), FIELDS(st, m.size), FIELDS(st, m.vector), \
	FIELDS(st, m.enabled), FIELDS(st, m.avail_idx), \
	FIELDS(st, m.used_idx), FIELDS(st, m.told_idx), FIELDS(st, m.told)

struct virtio;

struct virtio_type {
	uint16_t	id;		/* virtio device id: PCI 1040h + id */
	uint32_t	class_rev;
	unsigned	cfg_len;	/* bytes of device configuration, <= 256 */
	/* Fill the device configuration. */
	void	(*config)(struct virtio *, uint8_t *buf);
	void	(*config_write)(struct virtio *, unsigned off, unsigned size,
		    uint32_t val);
	/* Queue n was kicked (or may hold something); main thread, running. */
	void	(*kick)(struct virtio *, unsigned n);
	/* Finish or drop everything in flight; idempotent. */
	void	(*drain)(struct virtio *);
	/* The driver resets the device: device state back to its defaults.
	 * Comes after drain. */
	void	(*reset)(struct virtio *);
	void	(*driver_ok)(struct virtio *);
};

/* Host pointers of a queue that is enabled and sound. */
struct vring { uint8_t *desc, *avail, *used; uint16_t mask; bool ready; };

/* First member of a device's private part. */
struct virtio {
	struct devctx	*d;
	struct virtio_state *s;
	const struct virtio_type *type;
	struct pci_fn	fn;
	uint64_t	offered;	/* set before virtio_init; transport
					 * features are added */
	unsigned	nq;		/* set before virtio_init */
	uint16_t	qsize;		/* largest; set before virtio_init */
	unsigned	window;		/* PCI configuration access capability */
	uint64_t	again;		/* queues to look at once more */
	pthread_mutex_t	lock;		/* used rings, ISR, interrupts */
	struct vring	q[VQ_MAX];
};

/* A buffer chain: iov[0..n_out) is for the device to read, then n_in parts for
 * it to write.  The memory is the guest's and changes under our hands. */
struct vq_elem {
	uint16_t	queue, head;
	unsigned	n_out, n_in, cap;
	uint64_t	out_len, in_len;
	struct iovec	*iov;
};

/* Of struct dev, for a device that has nothing to add. */
int	virtio_init(struct devctx *, const struct virtio_type *,
	    const char *addr, char *why, size_t whylen);
void	virtio_reset(struct devctx *);
uint64_t virtio_read(struct devctx *, unsigned, uint64_t, unsigned);
void	virtio_write(struct devctx *, unsigned, uint64_t, unsigned, uint64_t);
void	virtio_bell(struct devctx *, uint64_t);
void	virtio_config(struct devctx *, unsigned, unsigned, unsigned, uint32_t);
void	virtio_loaded(struct devctx *);
void	virtio_stop(struct devctx *);
void	virtio_run(struct devctx *);

static inline bool
virtio_has(const struct virtio *v, unsigned feature)
{
	return v->s->features >> feature & 1;
}

/* Main thread: take the next chain.  e->iov and e->cap are the caller's.
 * False: nothing there, or the queue is broken (then the device needs reset). */
bool	vq_pop(struct virtio *, unsigned n, struct vq_elem *e);
bool	vq_more(struct virtio *, unsigned n);	/* is there another chain? */
/* Put back the chain that vq_pop gave last: the next vq_pop gives it again. */
void	vq_unpop(struct virtio *, const struct vq_elem *);
/* The chain that begins at `head` and was taken before, once more. */
bool	vq_refetch(struct virtio *, unsigned n, unsigned head,
	    struct vq_elem *e);
/* A chain all of whose work is done: push, under the lock. */
void	vq_done(struct virtio *, const struct vq_elem *, uint32_t len);
/* vq_notify under the lock. */
void	vq_flush(struct virtio *, unsigned n);
/* A kick that has taken VQ_BUDGET chains leaves the rest for later, so that a
 * guest that never stops cannot keep the part from its control lines. */
#define VQ_BUDGET 256
void	vq_again(struct virtio *, unsigned n);
/* Driver's notifications wanted or not.  Wanting returns true if something
 * came in meanwhile, which will not be notified. */
bool	vq_want(struct virtio *, unsigned n, bool want);
/* Any thread, with v->lock held: give a chain back with `len` bytes written;
 * then, once for any number of them, publish and interrupt if asked for. */
void	vq_push(struct virtio *, const struct vq_elem *, uint32_t len);
void	vq_notify(struct virtio *, unsigned n);
/* The driver broke the rules: DEVICE_NEEDS_RESET.  Main thread. */
void	virtio_broken(struct virtio *, const char *what, uint64_t n);
/* The device configuration changed: tell the driver. */
void	virtio_config_changed(struct virtio *);

/* Between virtio.c and vring.c.  Map: host pointers for an enabled queue; false
 * if its addresses are no good.  Usable: may the device look at the queue now?
 * Interrupt: with v->lock held. */
bool	vring_map(struct virtio *, unsigned n);
bool	vring_usable(const struct virtio *, unsigned n);
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };
void	virtio_interrupt(struct virtio *, uint16_t vector, uint8_t isr);

/* Bytes of guest buffers [iov, n): copy to or from `buf` from byte `off` on;
 * returns how many there were.  To the guest, dev_dma_wrote is called. */
size_t	iov_get(const struct iovec *, unsigned n, size_t off, void *buf,
	    size_t len);
size_t	iov_put(struct devctx *, const struct iovec *, unsigned n, size_t off,
	    const void *buf, size_t len);

/* Little-endian stores for configuration structures. */
static inline void
cfg16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void
cfg32(uint8_t *p, uint32_t v)
{
	cfg16(p, (uint16_t)v);
	cfg16(p + 2, (uint16_t)(v >> 16));
}

static inline void
cfg64(uint8_t *p, uint64_t v)
{
	cfg32(p, (uint32_t)v);
	cfg32(p + 4, (uint32_t)(v >> 32));
}

#endif
