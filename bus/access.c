/*
 * access.c - what the vcpu does with an access that is not plain RAM, for tools
 * (PROTOCOL.md "Ranges").
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "access.h"
#include "private.h"

static int
bad(struct access *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->why, sizeof a->why, fmt, ap);
	va_end(ap);
	return -1;
}

static void *
map_fd(int fd, size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, MAP_SHARED, fd, 0);

	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* A request answered by words and descriptors. */
static int
words(struct access *a, const char *line, char **argv, int max, char **text,
    int *fds, int nfd)
{
	int got = nfd, e, i;

	e = bus_request(a->bus, text, fds, &got, "%s", line);
	if (e != 0)
		return bad(a, "%s: %s", line, strerror(e));
	if (got != nfd || line_split(*text, argv, max) < 0) {
		for (i = 0; i < got; i++)
			close(fds[i]);
		return bad(a, "%s: strange answer", line);
	}
	return 0;
}

int
access_open(struct access *a, int bus, bool poke)
{
	char *argv[32], *text = NULL;
	int fds[5], e;
	uint64_t size;

	memset(a, 0, sizeof *a);
	a->bus = bus;
	a->ram.fd = -1;
	if (words(a, "ram", argv, 32, &text, fds, 1) < 0)
		return -1;
	size = line_u64(argv, "size", 0);
	free(text);
	if (ram_attach(&a->ram, fds[0], size) < 0)
		return bad(a, "RAM: %s", strerror(errno));
	if (words(a, "pages", argv, 32, &text, fds, 5) < 0)
		return -1;
	free(text);
	a->map = map_fd(fds[0], MAP_BYTES, PROT_READ);
	a->irq = map_fd(fds[1], IRQ_BYTES, PROT_READ | PROT_WRITE);
	a->pci = map_fd(fds[2], PCI_BYTES, PROT_READ);
	a->dirty = map_fd(fds[3], DIRTY_BYTES(size / PAGE_SIZE_4K),
	    PROT_READ | PROT_WRITE);
	a->kick = fds[4];
	if (a->map == NULL || a->irq == NULL || a->pci == NULL ||
	    a->dirty == NULL)
		return bad(a, "pages: %s", strerror(errno));
	if (poke) {
		e = bus_request(bus, NULL, NULL, NULL, "poke");
		if (e != 0)
			return bad(a, e == EBUSY ? "another vm-poke is at it" :
			    "poke: %s", strerror(e));
	}
	return 0;
}

struct chan_ref *
access_part(struct access *a, unsigned num)
{
	struct chan_ref *r = &a->ref[num % PART_MAX];
	char *text = NULL, *line, *save, *argv[32], req[64];
	const char *name = NULL;
	int fds[3], n;

	if (num >= PART_MAX)
		return NULL;
	if (r->chan != NULL)
		return r;
	if (bus_ask(a->bus, "bus", "parts", -1, &text) != 0) {
		free(text);
		bad(a, "parts: no answer");
		return NULL;
	}
	for (line = strtok_r(text, "\n", &save); line != NULL;
	    line = strtok_r(NULL, "\n", &save))
		if (line_split(line, argv, 32) > 0 &&
		    line_u64(argv, "num", PART_MAX) == num)
			name = line_key(argv, "name");
	if (name == NULL) {
		free(text);
		bad(a, "no part %u", num);
		return NULL;
	}
	snprintf(r->name, sizeof r->name, "%s", name);
	free(text);
	snprintf(req, sizeof req, "chan %s", r->name);
	n = words(a, req, argv, 32, &text, fds, 3);
	if (n < 0)
		return NULL;
	a->nvcpu = (unsigned)line_u64(argv, "nvcpu", 0);
	r->state_len = line_u64(argv, "state", 0);
	free(text);
	r->kick = fds[1];
	r->state = r->state_len > 0 ? map_fd(fds[2], r->state_len, PROT_READ) :
	    (close(fds[2]), NULL);
	if (a->nvcpu > NVCPU_MAX) {
		close(fds[0]);
		bad(a, "%s: strange answer", req);
		return NULL;
	}
	r->chan = map_fd(fds[0], CHAN_BYTES(a->nvcpu), PROT_READ | PROT_WRITE);
	if (r->chan == NULL) {
		bad(a, "%s: %s", req, strerror(errno));
		return NULL;
	}
	return r;
}

void
access_wrote(struct access *a, const void *p, uint64_t len)
{
	if (dirty_touch(a->dirty, &a->ram, p, len))
		irq_kick(a->irq, 0, a->kick);
}

static uint64_t
ones(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
}

static uint64_t
counter(struct access *a, const struct map_ent *e)
{
	uint64_t ns = (uint64_t)map_clock(a->map);
	uint64_t v = (uint64_t)((unsigned __int128)ns * e->off / 1000000000u);

	return e->bits < 64 ? v & ((1ull << e->bits) - 1) : v;
}

static bool
in_state(struct chan_ref *r, const struct map_ent *e, uint64_t addr,
    unsigned size, uint64_t *val)
{
	uint64_t off = e->off + (addr - e->start);

	if (r->state == NULL || off > r->state_len ||
	    size > r->state_len - off)
		return false;
	*val = 0;
	memcpy(val, r->state + off, size);
	return true;
}

int
access_read(struct access *a, enum space space, uint64_t addr, unsigned size,
    uint64_t *val)
{
	struct chan_ref *r;
	struct map_ent e;
	void *p;

	*val = ones(size);
	if (!map_find(a->map, space, addr, &e))
		return 0;
	if (e.part == MAP_RAM) {
		p = ram_at(&a->ram, addr, size);
		if (p != NULL) {
			*val = 0;
			memcpy(val, p, size);
		}
		return 0;
	}
	if (e.kind == RANGE_COUNTER) {
		*val = counter(a, &e) & ones(size);
		return 0;
	}
	if (e.part == 0)
		return bad(a, "%llx: inside the vcpu process",
		    (unsigned long long)addr);
	r = access_part(a, e.part);
	if (r == NULL)
		return -1;
	switch (e.kind) {
	case RANGE_RAM:
	case RANGE_ROM:
	case RANGE_STATUS:
		if (in_state(r, &e, addr, size, val))
			return 0;
		break;
	case RANGE_SHADOW:
		if (ring_drained(&r->chan->cpu[a->nvcpu].ring) &&
		    in_state(r, &e, addr, size, val))
			return 0;
		break;
	}
	*val = chan_read(r, a->nvcpu, e.range, addr - e.base, size);
	return 0;
}

int
access_write(struct access *a, enum space space, uint64_t addr, unsigned size,
    uint64_t val)
{
	struct chan_ref *r;
	struct map_ent e;
	void *p;

	if (!map_find(a->map, space, addr, &e))
		return 0;
	if (e.part == MAP_RAM) {
		p = ram_at(&a->ram, addr, size);
		if (p != NULL) {
			memcpy(p, &val, size);
			access_wrote(a, p, size);
		}
		return 0;
	}
	if (e.part == 0)
		return bad(a, "%llx: inside the vcpu process",
		    (unsigned long long)addr);
	r = access_part(a, e.part);
	if (r == NULL)
		return -1;
	switch (e.kind) {
	case RANGE_ROM:
		break;
	case RANGE_DOORBELL:
		chan_bell(r, val);
		break;
	case RANGE_SYNC:
	case RANGE_RAM:
		chan_write(r, a->nvcpu, e.range, addr - e.base, size, val);
		break;
	default:
		chan_post(r, a->nvcpu, e.range, addr - e.base, size, val);
		break;
	}
	return 0;
}

int
access_string(struct access *a, int write, uint64_t port, unsigned size,
    void *buf, unsigned count)
{
	struct chan_ref *r;
	struct map_ent e;

	if (!map_find(a->map, SPACE_IO, port, &e)) {
		if (!write)
			memset(buf, 0xff, (size_t)size * count);
		return (int)count;
	}
	if (e.part == 0)
		return bad(a, "%llx: inside the vcpu process",
		    (unsigned long long)port);
	r = access_part(a, e.part);
	if (r == NULL)
		return -1;
	return (int)chan_string(r, a->nvcpu, write, e.range, port - e.base,
	    size, buf, count);
}

int
access_config(struct access *a, unsigned devfn, unsigned off, unsigned size,
    uint32_t val)
{
	struct chan_ref *r;
	unsigned owner = a->pci->owner[devfn & 0xff];

	if (owner == 0)
		return 0;
	r = access_part(a, owner - 1);
	if (r == NULL)
		return -1;
	chan_config(r, a->nvcpu, devfn & 7, off, size, val);
	return 0;
}
