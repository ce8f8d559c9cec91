/*
 * broker.c - the broker's desk: makes the shared pages, accepts tools, answers
 * what parts and tools ask for (PROTOCOL.md "Requests of a part", "Tools"),
 * and routes questions.  Never blocks on a peer: what a socket does not take is
 * queued; a peer that lets more than QUEUE_MAX packets pile up is dropped.
 */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "broker.h"

#define ROUTE_NS	20000000000ll
#define QUEUE_MAX	4096
#define STATE_MAX	(256u << 20)

/* ------------------------------------------------------------ shared pages */

static void *
page_new(const char *name, size_t len, int *fd, int seal)
{
	void *p;

	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*fd < 0)
		return NULL;
	if (ftruncate(*fd, (off_t)len) < 0)
		return NULL;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | seal);
	return p;
}

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

int
broker_pages(struct broker *b)
{
	struct map_ent e = { .part = MAP_RAM, .space = SPACE_MEM,
	    .kind = RANGE_RAM };

	if (ram_create(&b->ram, "vm-ram", b->mf->ram) < 0) {
		log_line("no room for %llu MiB of RAM: %s",
		    (unsigned long long)b->mf->ram >> 20, strerror(errno));
		return -1;
	}
	b->map = page_new("vm-map", MAP_BYTES, &b->map_fd,
	    F_SEAL_FUTURE_WRITE);
	b->irq = page_new("vm-irq", IRQ_BYTES, &b->irq_fd, 0);
	b->dirty = page_new("vm-dirty", DIRTY_BYTES(b->ram.size /
	    PAGE_SIZE_4K), &b->dirty_fd, 0);
	b->pci = page_new("vm-pci", PCI_BYTES, &b->pci_fd, 0);
	b->cpukick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->map == NULL || b->irq == NULL || b->dirty == NULL ||
	    b->pci == NULL || b->cpukick < 0 ||
	    (b->ranges = map_list_new(b->map)) == NULL) {
		log_line("shared pages: %s", strerror(errno));
		return -1;
	}
	b->dirty->npage = b->ram.size / PAGE_SIZE_4K;
	b->map->nvcpu = b->mf->smp;
	b->map->topo = b->mf->topo;
	b->map->ram_size = b->ram.size;
	e.last = b->ram.low - 1;
	map_list_set(b->ranges, &e);
	if (b->ram.size > b->ram.low) {
		e.range = 1;
		e.start = RAM_HIGH;
		e.last = RAM_HIGH + (b->ram.size - b->ram.low) - 1;
		e.off = b->ram.low;
		map_list_set(b->ranges, &e);
	}
	return 0;
}

/* ------------------------------------------------------------------- peers */

static void peer_cb(void *arg, int fd, short revents);
static void route_done(struct broker *, void *, uint64_t, int, char *, int *,
    int);

struct peer *
peer_new(struct broker *b, int fd, bool tool)
{
	struct peer *p;

	p = calloc(1, sizeof *p);
	if (p == NULL)
		return NULL;
	p->b = b;
	p->fd = fd;
	p->tool = tool;
	p->chan_fd = p->kick = p->state_fd = -1;
	LIST_INIT(&p->pends);
	STAILQ_INIT(&p->out);
	if (tool)
		LIST_INSERT_HEAD(&b->tools, p, link);
	if (fd >= 0)
		peer_open(p);
	return p;
}

int
peer_open(struct peer *p)
{
	return loop_fd(p->b->loop, p->fd, POLLIN, peer_cb, p);
}

/* A tool goes: nothing may point at it any more. */
static void
forget(struct broker *b, struct peer *gone)
{
	struct pend *d;
	unsigned i;

	for (i = 0; i < PART_MAX; i++) {
		if (b->part[i] == NULL)
			continue;
		LIST_FOREACH(d, &b->part[i]->pends, link)
			if (d->arg == gone)
				d->arg = NULL;
		if (gone->traced >> i & 1 && b->part[i]->chan != NULL)
			atomic_fetch_sub(&b->part[i]->chan->trace_on, 1);
	}
	life_forget(b, gone);
	if (b->poker == gone)
		b->poker = NULL;
}

static void
drop_queue(struct peer *p)
{
	struct packet *k;
	int i;

	while ((k = STAILQ_FIRST(&p->out)) != NULL) {
		STAILQ_REMOVE_HEAD(&p->out, link);
		for (i = 0; i < k->nfd; i++)
			close(k->fds[i]);
		free(k);
	}
}

static void
hang_up(struct peer *p)
{
	if (p->fd < 0)
		return;
	loop_fd_del(p->b->loop, p->fd);
	close(p->fd);
	p->fd = -1;
	drop_queue(p);
}

void
peer_free(struct peer *p)
{
	hang_up(p);
	forget(p->b, p);
	if (p->tool)
		LIST_REMOVE(p, link);
	free(p);
}

void
peer_fail(struct peer *p)
{
	struct pend *d;

	hang_up(p);
	while ((d = LIST_FIRST(&p->pends)) != NULL) {
		LIST_REMOVE(d, link);
		if (!d->late)
			d->fn(p->b, d->arg, d->tag, ECONNRESET, NULL, NULL, 0);
		free(d);
	}
}

struct peer *
peer_named(struct broker *b, const char *name)
{
	unsigned i;

	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && strcmp(b->part[i]->name, name) == 0)
			return b->part[i];
	return NULL;
}

static void
flush(struct peer *p)
{
	struct packet *k;
	int i;

	while ((k = STAILQ_FIRST(&p->out)) != NULL) {
		if (line_sendv(p->fd, MSG_DONTWAIT, k->fds, k->nfd, k->text,
		    k->len) < 0 && (errno == EAGAIN || errno == ENOBUFS))
			break;
		STAILQ_REMOVE_HEAD(&p->out, link);
		for (i = 0; i < k->nfd; i++)
			close(k->fds[i]);
		free(k);
	}
	loop_fd(p->b->loop, p->fd, STAILQ_EMPTY(&p->out) ? POLLIN :
	    POLLIN | POLLOUT, peer_cb, p);
}

static void
send_raw(struct peer *p, const int *fds, int nfd, const char *text, size_t len)
{
	struct packet *k;
	unsigned depth = 0;
	int i;

	if (p->fd < 0)
		return;
	if (STAILQ_EMPTY(&p->out)) {
		if (line_sendv(p->fd, MSG_DONTWAIT, fds, nfd, text, len) == 0)
			return;
		if (errno != EAGAIN && errno != ENOBUFS)
			return;		/* EOF tells the rest */
	}
	STAILQ_FOREACH(k, &p->out, link)
		depth++;
	k = depth < QUEUE_MAX ? malloc(sizeof *k + len + 1) : NULL;
	if (k == NULL) {
		shutdown(p->fd, SHUT_RDWR);
		return;
	}
	k->len = len;
	k->nfd = nfd;
	memcpy(k->text, text, len);
	for (i = 0; i < nfd; i++)
		k->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 4);
	STAILQ_INSERT_TAIL(&p->out, k, link);
	loop_fd(p->b->loop, p->fd, POLLIN | POLLOUT, peer_cb, p);
}

void
peer_send(struct peer *p, const int *fds, int nfd, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	send_raw(p, fds, nfd, text, (size_t)n);
	free(text);
}

void
peer_answer(struct peer *p, uint64_t id, int err, const char *text, size_t len)
{
	int mem = -1;

	if (id == 0 || p->fd < 0)
		return;
	if (err == 0 && len + 64 > LINE_MAX_BYTES) {
		mem = memfd_create("answer", MFD_CLOEXEC);
		if (mem < 0 || write(mem, text, len) != (ssize_t)len) {
			err = ENOMEM;
			text = "answer too large";
			len = strlen(text);
		} else {
			peer_send(p, &mem, 1, "@%llu ok",
			    (unsigned long long)id);
		}
		if (mem >= 0)
			close(mem);
		if (err == 0)
			return;
	}
	if (err == 0)
		peer_send(p, NULL, 0, "@%llu ok%s%.*s", (unsigned long long)id,
		    len > 0 ? " " : "", (int)len, text);
	else
		peer_send(p, NULL, 0, "@%llu err %d %.*s",
		    (unsigned long long)id, err, (int)(len < 4096 ? len : 4096),
		    text);
}

static void
fail(struct peer *p, uint64_t id, int err)
{
	const char *s = strerror(err);

	peer_answer(p, id, err, s, strlen(s));
}

static void
expire(void *arg)
{
	struct peer *p = arg;
	struct pend *d, *next;
	int64_t now = now_ns(), soon = 0;

	for (d = LIST_FIRST(&p->pends); d != NULL; d = next) {
		next = LIST_NEXT(d, link);
		if (d->late)
			continue;
		if (d->deadline <= now) {
			d->late = true;
			if (!p->b->ending)
				log_line("%s (pid %d) does not answer '%s'",
				    p->name, (int)p->pid, d->what);
			d->fn(p->b, d->arg, d->tag, ETIMEDOUT, NULL, NULL, 0);
		} else if (soon == 0 || d->deadline < soon) {
			soon = d->deadline;
		}
	}
	if (soon != 0)
		loop_timer(p->b->loop, soon, expire, p);
}

void
peer_ask(struct peer *p, answer_fn *fn, void *arg, uint64_t tag,
    int64_t timeout, const int *fds, int nfd, const char *fmt, ...)
{
	struct pend *d;
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	d = n >= 0 ? calloc(1, sizeof *d) : NULL;
	if (d == NULL || p->fd < 0) {
		if (n >= 0)
			free(text);
		free(d);
		fn(p->b, arg, tag, d == NULL ? ENOMEM : ECONNRESET, NULL, NULL,
		    0);
		return;
	}
	d->id = ++p->last_id;
	d->fn = fn;
	d->arg = arg;
	d->tag = tag;
	d->deadline = now_ns() + timeout;
	strlcpy(d->what, text, sizeof d->what);
	LIST_INSERT_HEAD(&p->pends, d, link);
	loop_timer(p->b->loop, d->deadline, expire, p);
	peer_send(p, fds, nfd, "@%llu %s", (unsigned long long)d->id, text);
	free(text);
}

void
broker_event(struct broker *b, const char *from, const char *text)
{
	struct peer *t;
	unsigned i;

	for (i = 0; i < PART_MAX; i++)
		if (b->part[i] != NULL && b->part[i]->subscribed &&
		    strcmp(b->part[i]->name, from) != 0)
			peer_send(b->part[i], NULL, 0, "event %s %s", from,
			    text);
	LIST_FOREACH(t, &b->tools, link)
		if (t->subscribed)
			peer_send(t, NULL, 0, "event %s %s", from, text);
}

/* ---------------------------------------------------------- hello of a part */

static void
tell_vcpu(struct broker *b, struct peer *p)
{
	int fds[3] = { p->chan_fd, p->kick, p->state_fd };

	if (p->num == 0 || p->state == PEER_GONE || b->part[0] == NULL ||
	    b->part[0]->state <
	    PEER_HELLO || b->part[0]->state == PEER_GONE)
		return;
	peer_send(b->part[0], fds, 3, "part num=%u name=%s chip=%s state=%zu",
	    p->num, p->name, p->chip, p->state_len);
}

static int
do_hello(struct peer *p, uint64_t id, char **argv)
{
	struct broker *b = p->b;
	const char *chip = line_key(argv, "chip");
	uint64_t state = line_u64(argv, "state", 0);
	uint64_t ncpu = line_u64(argv, "nvcpu", b->mf->smp);
	void *v;
	unsigned i;

	if (p->state != PEER_STARTED)
		return EALREADY;
	if (chip == NULL || !part_name_ok(chip) || state > STATE_MAX)
		return EINVAL;
	if (p->num == 0 && ncpu != b->mf->smp)
		return EINVAL;
	strlcpy(p->chip, chip, sizeof p->chip);
	state = (state + 4095) & ~4095ull;
	if (p->chan != NULL) {		/* in place of a dead one */
		if (state != p->state_len)
			return EINVAL;
		atomic_store(&p->chan->dead, 0);
		goto known;
	}
	p->state_len = state;
	p->chan = page_new("vm-chan", CHAN_BYTES(b->mf->smp), &p->chan_fd, 0);
	v = page_new("vm-state", p->state_len > 0 ? p->state_len : 4096,
	    &p->state_fd, 0);
	p->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->chan == NULL || v == NULL || p->kick < 0)
		return ENOMEM;
	munmap(v, p->state_len > 0 ? p->state_len : 4096);
	p->chan->nvcpu = b->mf->smp;
	tell_vcpu(b, p);
known:
	p->state = PEER_HELLO;
	int fds[9] = { b->ram.fd, b->map_fd, b->irq_fd, b->dirty_fd, b->pci_fd,
	    p->chan_fd, p->kick, p->state_fd, b->cpukick };
	peer_send(p, fds, 9, "@%llu ok num=%u name=%s vm=%s nvcpu=%u ram=%llu "
	    "state=%zu dir=%s", (unsigned long long)id, p->num, p->name,
	    b->mf->name, b->mf->smp, (unsigned long long)b->ram.size,
	    p->state_len, b->dir);
	if (p->num == 0)
		for (i = 1; i < PART_MAX; i++)
			if (b->part[i] != NULL &&
			    b->part[i]->state >= PEER_HELLO)
				tell_vcpu(b, b->part[i]);
	return 0;
}

static int
do_range(struct peer *p, char **argv)
{
	struct map_ent e = { .part = (uint16_t)p->num };
	const char *kind = line_key(argv, "kind");
	const char *space = line_key(argv, "space");
	uint64_t len, bytes;
	unsigned k;
	char *end;

	if (argv[1] == NULL || kind == NULL)
		return EINVAL;
	e.range = (uint16_t)strtoul(argv[1], &end, 0);
	if (end == argv[1] || *end != '\0')
		return EINVAL;
	for (k = 0; k < RANGE_NKIND; k++)
		if (strcmp(kind, range_kind_name[k]) == 0)
			break;
	if (k == RANGE_NKIND)
		return EINVAL;
	e.kind = (uint8_t)k;
	e.space = space != NULL && strcmp(space, "io") == 0 ? SPACE_IO :
	    SPACE_MEM;
	e.start = line_u64(argv, "start", 0);
	len = line_u64(argv, "len", 0);
	e.off = line_u64(argv, "off", 0);
	e.bits = (uint8_t)line_u64(argv, "bits", 0);
	e.prio = (uint8_t)line_u64(argv, "prio", 0);
	if (e.kind != RANGE_NONE) {
		if (len == 0 || e.start + (len - 1) < e.start)
			return EINVAL;
		e.last = e.start + (len - 1);
		bytes = p->state_len;
		if ((k == RANGE_ROM || k == RANGE_SHADOW ||
		    k == RANGE_STATUS || k == RANGE_RAM) &&
		    (e.off > bytes || len > bytes - e.off))
			return EINVAL;	/* would read beyond the memfd */
	}
	return map_list_set(p->b->ranges, &e) < 0 ? errno : 0;
}

static int
do_pci(struct peer *p, const char *arg, char *out, size_t len)
{
	struct pci_space *pci = p->b->pci;
	int devfn = (int)strtol(arg, NULL, 0);

	if (devfn < 0) {
		for (devfn = 2 << 3; devfn < 256; devfn += 8)
			if (pci->owner[devfn] == 0)
				break;
	}
	if (devfn > 255)
		return ENOSPC;
	if (pci->owner[devfn] != 0 && pci->owner[devfn] != p->num + 1)
		return EEXIST;
	pci->owner[devfn] = (uint16_t)(p->num + 1);
	snprintf(out, len, "devfn=%d", devfn);
	return 0;
}

static int
do_line(struct peer *p, const char *arg, char *out, size_t len)
{
	unsigned long n = strtoul(arg, NULL, 0);

	if (n >= IRQ_LINES)
		return EINVAL;
	if (p->b->nsource[n] >= 32)
		return ENOSPC;
	snprintf(out, len, "source=%u", p->b->nsource[n]++);
	return 0;
}

/* A socket made for the user by a part still coming up, or by his tools: ours to
 * remove. */
int
peer_cleanup(struct peer *p, const char *path)
{
	struct broker *b = p->b;
	struct socket_file *s;
	struct stat st;

	if (p->state != PEER_HELLO && !p->tool &&
	    strcmp(p->chip, "monitor") != 0)
		return EPERM;
	if (lstat(path, &st) < 0)
		return errno;
	if (!S_ISSOCK(st.st_mode))
		return EINVAL;
	for (s = b->sock; s < b->sock + b->nsock; s++)
		if (strcmp(s->path, path) == 0)
			break;
	if (s == b->sock + sizeof b->sock / sizeof b->sock[0])
		return ENOSPC;
	if (s == b->sock + b->nsock) {
		s->path = strdup(path);
		if (s->path == NULL)
			return ENOMEM;
		b->nsock++;
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	return 0;
}

/* ------------------------------------------------------------------- asking */

static void
route_done(struct broker *b, void *arg, uint64_t tag, int err, char *text,
    int *fds, int nfd)
{
	struct peer *from = arg;

	(void)b;
	if (from == NULL || from->fd < 0)
		return;
	if (text == NULL)
		fail(from, tag, err);
	else
		peer_send(from, fds, nfd, "@%llu %s", (unsigned long long)tag,
		    text);
}

static void
do_ask(struct peer *p, uint64_t id, char *words, int *fds, int nfd)
{
	struct broker *b = p->b;
	char name[32], *argv[64];
	struct peer *to;
	size_t n;

	words += strspn(words, " \t");
	n = strcspn(words, " \t");
	if (n == 0 || n >= sizeof name) {
		fail(p, id, EINVAL);
		return;
	}
	memcpy(name, words, n);
	name[n] = '\0';
	words += n;
	words += strspn(words, " \t");
	if (strcmp(name, "bus") == 0) {
		if (line_split(words, argv, 64) < 1)
			fail(p, id, EINVAL);
		else
			query(b, p, id, argv);
		return;
	}
	to = peer_named(b, name);
	if (to == NULL || to->state < PEER_HELLO || to->state == PEER_GONE)
		fail(p, id, ENOENT);
	else
		peer_ask(to, route_done, p, id, ROUTE_NS, fds, nfd, "ask %s",
		    words);
}

static void
do_trace(struct peer *p, uint64_t id, char **argv)
{
	struct peer *to = argv[1] != NULL ? peer_named(p->b, argv[1]) : NULL;
	bool on = argv[1] != NULL && argv[2] != NULL &&
	    strcmp(argv[2], "on") == 0;

	if (to == NULL || to->chan == NULL) {
		fail(p, id, ENOENT);
		return;
	}
	if (on && !(p->traced >> to->num & 1)) {
		p->traced |= 1ull << to->num;
		atomic_fetch_add(&to->chan->trace_on, 1);
	} else if (!on && p->traced >> to->num & 1) {
		p->traced &= ~(1ull << to->num);
		atomic_fetch_sub(&to->chan->trace_on, 1);
	}
	peer_answer(p, id, 0, "", 0);
}

static void
tool_request(struct peer *p, uint64_t id, char **argv)
{
	struct broker *b = p->b;
	struct peer *to;
	int fds[5];

	if (strcmp(argv[0], "hello") == 0) {
		p->state = PEER_READY;
		peer_send(p, NULL, 0, "@%llu ok name=%s nvcpu=%u ram=%llu",
		    (unsigned long long)id, b->mf->name, b->mf->smp,
		    (unsigned long long)b->ram.size);
	} else if (strcmp(argv[0], "ram") == 0) {
		peer_send(p, &b->ram.fd, 1, "@%llu ok size=%llu",
		    (unsigned long long)id, (unsigned long long)b->ram.size);
	} else if (strcmp(argv[0], "pages") == 0) {
		fds[0] = b->map_fd;
		fds[1] = b->irq_fd;
		fds[2] = b->pci_fd;
		fds[3] = b->dirty_fd;
		fds[4] = b->cpukick;
		peer_send(p, fds, 5, "@%llu ok", (unsigned long long)id);
	} else if (strcmp(argv[0], "chan") == 0) {
		to = argv[1] != NULL ? peer_named(b, argv[1]) : NULL;
		if (to == NULL || to->chan == NULL) {
			fail(p, id, ENOENT);
			return;
		}
		fds[0] = to->chan_fd;
		fds[1] = to->kick;
		fds[2] = to->state_fd;
		peer_send(p, fds, 3, "@%llu ok num=%u nvcpu=%u state=%zu",
		    (unsigned long long)id, to->num, b->mf->smp,
		    to->state_len);
	} else if (strcmp(argv[0], "poke") == 0) {
		if (b->poker != NULL && b->poker != p) {
			fail(p, id, EBUSY);
			return;
		}
		b->poker = p;
		peer_answer(p, id, 0, "", 0);
	} else if (strcmp(argv[0], "trace") == 0) {
		do_trace(p, id, argv);
	} else {
		fail(p, id, ENOSYS);
	}
}

static void
part_request(struct peer *p, uint64_t id, char **argv)
{
	char out[64] = "";
	int e;

	if (strcmp(argv[0], "hello") == 0) {
		e = do_hello(p, id, argv);
		if (e != 0)
			fail(p, id, e);
		return;
	}
	if (p->state == PEER_STARTED)
		e = EPROTO;
	else if (strcmp(argv[0], "range") == 0)
		e = do_range(p, argv);
	else if (strcmp(argv[0], "line") == 0 && argv[1] != NULL)
		e = do_line(p, argv[1], out, sizeof out);
	else if (strcmp(argv[0], "pci") == 0 && argv[1] != NULL)
		e = do_pci(p, argv[1], out, sizeof out);
	else if (strcmp(argv[0], "cleanup") == 0 && argv[1] != NULL)
		e = peer_cleanup(p, argv[1]);
	else if (strcmp(argv[0], "ready") == 0)
		e = p->state == PEER_READY ? EALREADY : 0;
	else
		e = ENOSYS;
	if (e != 0) {
		fail(p, id, e);
		return;
	}
	peer_answer(p, id, 0, out, strlen(out));
	if (strcmp(argv[0], "ready") == 0) {
		p->state = PEER_READY;
		life_ready(p->b, p);
	}
}

static void
take_answer(struct peer *p, uint64_t id, char *line, int *fds, int nfd)
{
	struct pend *d;
	char *text;
	int e;

	LIST_FOREACH(d, &p->pends, link)
		if (d->id == id)
			break;
	if (d == NULL)
		return;
	LIST_REMOVE(d, link);
	if (!d->late) {
		/* routed answers go on as they are; others are taken apart */
		if (d->fn == route_done) {
			d->fn(p->b, d->arg, d->tag, 0, line, fds, nfd);
		} else {
			e = answer_parse(line, &text);
			d->fn(p->b, d->arg, d->tag, e, text, fds, nfd);
		}
	}
	free(d);
}

static void
request(struct peer *p, char *line, int *fds, int nfd)
{
	char *argv[64];
	uint64_t id;

	line = line_id(line, &id);
	if (strncmp(line, "ok", 2) == 0 || strncmp(line, "err ", 4) == 0) {
		take_answer(p, id, line, fds, nfd);
		return;
	}
	if (strncmp(line, "ask ", 4) == 0 && p->state != PEER_STARTED) {
		do_ask(p, id, line + 4, fds, nfd);
		return;
	}
	if (line_split(line, argv, 64) < 1) {
		fail(p, id, EINVAL);
	} else if (strcmp(argv[0], "event") == 0 && argv[1] != NULL) {
		if (!p->tool)
			life_event(p->b, p, argv + 1);
	} else if (strcmp(argv[0], "subscribe") == 0) {
		p->subscribed = true;
		peer_answer(p, id, 0, "", 0);
	} else if (p->tool) {
		tool_request(p, id, argv);
	} else {
		part_request(p, id, argv);
	}
}

static void
peer_cb(void *arg, int fd, short revents)
{
	static char buf[LINE_MAX_BYTES + 1];
	struct peer *p = arg;
	int fds[LINE_FDS], nfd = LINE_FDS, i;
	ssize_t n;

	if (revents & POLLOUT)
		flush(p);
	if ((revents & (POLLIN | POLLHUP | POLLERR)) == 0)
		return;
	n = line_recv(fd, buf, sizeof buf, fds, &nfd);
	if (n < 0 && (errno == EAGAIN || errno == EMSGSIZE))
		return;
	if (n <= 0) {
		if (p->tool)
			peer_free(p);
		else
			part_lost(p);
		return;
	}
	request(p, buf, fds, nfd);	/* may free p */
	for (i = 0; i < nfd; i++)
		close(fds[i]);
}

/* What a part said before it died still counts. */
void
peer_drain(struct peer *p)
{
	struct pollfd one = { p->fd, POLLIN, 0 };

	while (p->fd >= 0 && poll(&one, 1, 0) > 0)
		peer_cb(p, p->fd, POLLIN);
}

/* ------------------------------------------------------------------- tools */

static void
accept_cb(void *arg, int fd, short revents)
{
	struct broker *b = arg;
	int c;

	(void)revents;
	c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (c >= 0 && peer_new(b, c, true) == NULL)
		close(c);
}

int
broker_listen(struct broker *b)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int n;

	n = snprintf(sun.sun_path, sizeof sun.sun_path, "%s/bus", b->dir);
	if (n < 0 || (size_t)n >= sizeof sun.sun_path) {
		log_line("%s/bus: name too long for a socket", b->dir);
		return -1;
	}
	b->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0);
	if (b->listen < 0 || bind(b->listen, (struct sockaddr *)&sun,
	    sizeof sun) < 0 || listen(b->listen, 16) < 0) {
		log_line("%s: %s", sun.sun_path, strerror(errno));
		return -1;
	}
	chmod(sun.sun_path, 0600);
	return 0;
}

/* Tools that came early are let in when the machine is up. */
int
broker_open(struct broker *b)
{
	return b->listen < 0 ? 0 :
	    loop_fd(b->loop, b->listen, POLLIN, accept_cb, b);
}

void
broker_close(struct broker *b)
{
	struct stat st;
	unsigned i;

	for (i = 0; i < b->nsock; i++)
		if (lstat(b->sock[i].path, &st) == 0 &&
		    st.st_dev == b->sock[i].dev && st.st_ino == b->sock[i].ino)
			unlink(b->sock[i].path);
	b->nsock = 0;
}
