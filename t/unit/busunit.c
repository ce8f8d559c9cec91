/*
 * links: bus mem
 * busunit.c - the functions of mem/ and bus/ that need no second process:
 * `busunit NAME` runs one test and says what differs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus/bus.h"

static int bad;

#define CHECK(e) do { if (!(e)) { \
	printf("%s:%d: %s\n", __FILE__, __LINE__, #e); bad = 1; } } while (0)

static struct map_ent
ent(unsigned part, unsigned range, enum space space, uint64_t start,
    uint64_t last, enum range_kind kind, unsigned prio)
{
	struct map_ent e = { .start = start, .last = last,
	    .part = (uint16_t)part, .range = (uint16_t)range,
	    .space = (uint8_t)space, .kind = (uint8_t)kind,
	    .prio = (uint8_t)prio };

	return e;
}

static void
t_map(void)
{
	static struct map page;
	struct map_list *l = map_list_new(&page);
	struct map_ent e;

	/* PROTOCOL.md "Ranges": the higher priority is seen */
	e = ent(MAP_RAM, 0, SPACE_MEM, 0, 0x3ffffff, RANGE_RAM, 0);
	CHECK(map_list_set(l, &e) == 0);
	e = ent(1, 0, SPACE_MEM, 0xa0000, 0xbffff, RANGE_SYNC, 0);
	CHECK(map_list_set(l, &e) == 0);
	CHECK(page.nent == 3);
	CHECK(map_find(&page, SPACE_MEM, 0x9ffff, &e) && e.part == MAP_RAM &&
	    e.last == 0x9ffff);
	CHECK(map_find(&page, SPACE_MEM, 0xa0000, &e) && e.part == 1);
	CHECK(map_find(&page, SPACE_MEM, 0xc0000, &e) && e.part == MAP_RAM &&
	    e.start == 0xc0000 && e.off == 0xc0000 && e.base == 0);
	/* same priority, another part: taken */
	e = ent(2, 0, SPACE_MEM, 0xb0000, 0xb0fff, RANGE_SYNC, 0);
	CHECK(map_list_set(l, &e) < 0 && errno == EEXIST);
	e.prio = 1;
	CHECK(map_list_set(l, &e) == 0);
	CHECK(map_find(&page, SPACE_MEM, 0xb1000, &e) && e.part == 1 &&
	    e.start == 0xb1000 && e.base == 0xa0000);
	CHECK(map_find(&page, SPACE_MEM, 0xb0800, &e) && e.part == 2);
	/* moved, then withdrawn */
	e = ent(2, 0, SPACE_MEM, 0xfee00000, 0xfee00fff, RANGE_SYNC, 1);
	CHECK(map_list_set(l, &e) == 0);
	CHECK(map_find(&page, SPACE_MEM, 0xb0800, &e) && e.part == 1);
	CHECK(!map_find(&page, SPACE_MEM, 0xfedfffff, &e) &&
	    e.start == 0x4000000 && e.last == 0xfedfffff);
	CHECK(!map_find(&page, SPACE_MEM, ~0ull, &e) &&
	    e.start == 0xfee01000 && e.last == ~0ull);
	e = ent(2, 0, SPACE_MEM, 0, 0, RANGE_NONE, 0);
	CHECK(map_list_set(l, &e) == 0);
	CHECK(!map_find(&page, SPACE_MEM, 0xfee00000, &e));
	/* I/O space is apart, and 64 KiB */
	CHECK(!map_find(&page, SPACE_IO, 0x3f8, &e) && e.start == 0 &&
	    e.last == 0xffff);
	e = ent(3, 1, SPACE_IO, 0x3f8, 0x3ff, RANGE_STATUS, 0);
	e.off = 16;
	CHECK(map_list_set(l, &e) == 0);
	CHECK(map_find(&page, SPACE_IO, 0x3ff, &e) && e.range == 1 &&
	    e.off == 16);
	CHECK(!map_find(&page, SPACE_IO, 0x400, &e) && e.start == 0x400 &&
	    e.last == 0xffff);
	e = ent(3, 2, SPACE_IO, 0xfff0, 0x10000, RANGE_SYNC, 0);
	CHECK(map_list_set(l, &e) < 0 && errno == EINVAL);
	e = ent(3, 2, SPACE_MEM, 5, 4, RANGE_SYNC, 0);
	CHECK(map_list_set(l, &e) < 0 && errno == EINVAL);
	/* the whole space */
	e = ent(4, 0, SPACE_MEM, 0, ~0ull, RANGE_SYNC, 200);
	CHECK(map_list_set(l, &e) == 0);
	CHECK(map_find(&page, SPACE_MEM, ~0ull, &e) && e.part == 4);
	map_list_clear(l, 4, -1);
	CHECK(map_find(&page, SPACE_MEM, 0, &e) && e.part == MAP_RAM);
	CHECK((page.seq & 1) == 0);
	free(l);
}

static void
t_mapfull(void)
{
	static struct map page;
	struct map_list *l = map_list_new(&page);
	struct map_ent e;
	unsigned i, n;

	for (i = 0; i < MAP_MAX + 10; i++) {
		e = ent(1, i, SPACE_MEM, i * 0x2000ull, i * 0x2000ull + 0xfff,
		    RANGE_SYNC, 0);
		if (map_list_set(l, &e) < 0)
			break;
	}
	CHECK(i == MAP_MAX && errno == ENOSPC);
	n = page.nent;
	CHECK(n == MAP_MAX);
	/* the refused one has left no trace */
	e = ent(1, 0, SPACE_MEM, 0, 0, RANGE_NONE, 0);
	CHECK(map_list_set(l, &e) == 0 && page.nent == MAP_MAX - 1);
	free(l);
}

static struct map shared_page;
static _Atomic int stop;

static void *
reader(void *arg)
{
	struct map_ent e;
	bool found;

	(void)arg;
	while (!stop) {
		found = map_find(&shared_page, SPACE_MEM, 0x5000, &e);
		/* either place, never a mixture */
		if (!found || e.last - e.start != e.off ||
		    e.start > 0x5000 || e.last < 0x5000)
			bad = 1;
	}
	return NULL;
}

static void
t_mapseq(void)
{
	struct map_list *l = map_list_new(&shared_page);
	struct map_ent e;
	pthread_t t;
	int i;

	e = ent(1, 0, SPACE_MEM, 0x5000, 0x5fff, RANGE_SYNC, 0);
	e.off = 0xfff;
	map_list_set(l, &e);
	pthread_create(&t, NULL, reader, NULL);
	for (i = 0; i < 20000; i++) {
		e = ent(1, 0, SPACE_MEM, i & 1 ? 0x5000 : 0x4000,
		    i & 1 ? 0x5fff : 0x7fff, RANGE_SYNC, 0);
		e.off = e.last - e.start;
		map_list_set(l, &e);
	}
	stop = 1;
	pthread_join(t, NULL);
	if (bad)
		printf("a reader saw a torn entry\n");
	free(l);
}

static struct ring ring;

static void *
producer(void *arg)
{
	struct ring_ent e = { 0 };
	uint64_t i;

	(void)arg;
	for (i = 0; i < 300000; i++) {
		e.data = i;
		e.off = ~i;
		while (!ring_put(&ring, &e))
			;
	}
	return NULL;
}

static void
t_ring(void)
{
	struct ring_ent e = { 0 };
	pthread_t t;
	uint64_t i;

	CHECK(ring_drained(&ring) && !ring_peek(&ring, &e));
	for (i = 0; i < RING_N; i++)
		CHECK(ring_put(&ring, &e));
	CHECK(!ring_put(&ring, &e) && !ring_drained(&ring));
	for (i = 0; i < RING_N; i++) {
		CHECK(ring_peek(&ring, &e));
		/* "tail forward only after it has acted" */
		CHECK(!ring_drained(&ring));
		ring_pop(&ring);
	}
	CHECK(ring_drained(&ring));
	pthread_create(&t, NULL, producer, NULL);
	for (i = 0; i < 300000; ) {
		if (!ring_peek(&ring, &e))
			continue;
		if (e.data != i || e.off != ~i) {
			CHECK(e.data == i);
			exit(1);
		}
		ring_pop(&ring);
		i++;
	}
	pthread_join(t, NULL);
	/* a wild head stays inside the ring */
	ring.head = ring.tail + 0x7fffffff;
	for (i = 0; i < 1000; i++) {
		CHECK(ring_peek(&ring, &e));
		ring_pop(&ring);
	}
	CHECK(!ring_put(&ring, &e));
}

static void
split(const char *line, int want, const char *a, const char *b)
{
	char copy[200], *argv[8];
	int n;

	strcpy(copy, line);
	n = line_split(copy, argv, 8);
	if (n != want || (n > 0 && a && strcmp(argv[0], a) != 0) ||
	    (n > 1 && b && strcmp(argv[1], b) != 0)) {
		printf("line_split <%s>: %d <%s> <%s>\n", line, n,
		    n > 0 ? argv[0] : "", n > 1 ? argv[1] : "");
		bad = 1;
	}
}

static void
t_line(void)
{
	char *argv[8], *text = NULL, copy[300];
	static const char *const nasty[] = { "", " ", "a b", "it's", "\"q\"",
	    "back\\slash", "tab\there", "$(x)`y`;&|", "a=b c", "'", "\\",
	    "#x", "\xc3\xa9" };
	size_t len, i;
	FILE *f;

	split("", 0, NULL, NULL);
	split("  \t ", 0, NULL, NULL);
	split("a b", 2, "a", "b");
	split(" a   b ", 2, "a", "b");
	split("'a b' \"c d\"", 2, "a b", "c d");
	split("a\\ b c", 2, "a b", "c");
	split("x='y z'w q", 2, "x=y zw", "q");
	split("\"a\\\"b\" \"c\\n\"", 2, "a\"b", "c\\n");
	split("'a\\b' ''", 2, "a\\b", "");
	split("'open", -1, NULL, NULL);
	split("\"open", -1, NULL, NULL);
	split("end\\", -1, NULL, NULL);
	split("1 2 3 4 5 6 7", 7, "1", "2");
	split("1 2 3 4 5 6 7 8", -1, NULL, NULL);
	for (i = 0; i < sizeof nasty / sizeof nasty[0]; i++) {
		f = open_memstream(&text, &len);
		line_quote(f, nasty[i]);
		fputs(" tail", f);
		fclose(f);
		strcpy(copy, text);
		CHECK(line_split(copy, argv, 8) == 2);
		CHECK(strcmp(argv[0], nasty[i]) == 0);
		free(text);
	}
	strcpy(copy, "verb a=1 ab=2 a=3 =x");
	CHECK(line_split(copy, argv, 8) == 5);
	CHECK(strcmp(line_key(argv, "a"), "3") == 0);
	CHECK(strcmp(line_key(argv, "ab"), "2") == 0);
	CHECK(line_key(argv, "b") == NULL);
}

static void
t_packet(void)
{
	char buf[100];
	int sv[2], fds[4], nfd, p[2];
	char c = 0;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) == 0);
	CHECK(pipe(p) == 0);
	CHECK(line_send(sv[0], &p[1], 1, "hello %d\n", 7) == 0);
	nfd = 4;
	CHECK(line_recv(sv[1], buf, sizeof buf, fds, &nfd) == 7);
	CHECK(nfd == 1 && strcmp(buf, "hello 7") == 0);
	CHECK(write(fds[0], "x", 1) == 1 && read(p[0], &c, 1) == 1 &&
	    c == 'x');
	/* descriptors there is no room for are closed, not leaked */
	close(fds[0]);
	CHECK(line_send(sv[0], p, 2, "two") == 0);
	nfd = 0;
	CHECK(line_recv(sv[1], buf, sizeof buf, NULL, &nfd) == 3 && nfd == 0);
	close(p[1]);
	CHECK(read(p[0], &c, 1) == 0);
	/* too long for the room: dropped whole */
	CHECK(line_send(sv[0], NULL, 0, "%0200d", 1) == 0);
	CHECK(line_recv(sv[1], buf, sizeof buf, NULL, NULL) < 0 &&
	    errno == EMSGSIZE);
	CHECK(line_send(sv[0], NULL, 0, "%065537d", 1) < 0 &&
	    errno == EMSGSIZE);
	close(sv[0]);
	CHECK(line_recv(sv[1], buf, sizeof buf, NULL, NULL) == 0);
}

struct o { const char *s; bool b; uint32_t u; uint64_t z; int e; };
static const char *const colours[] = { "red", "blue", NULL };
static const struct opt table[] = {
	{ "s", OPT_STR, offsetof(struct o, s), "dflt" },
	{ "b", OPT_BOOL, offsetof(struct o, b), "on" },
	{ "u", OPT_U32, offsetof(struct o, u), "7" },
	{ "z", OPT_SIZE, offsetof(struct o, z) },
	{ "e", OPT_ENUM, offsetof(struct o, e), "blue", NULL, colours },
	{ 0 }
};

static int
parse(struct o *o, const char *a, const char *b)
{
	char *argv[3] = { (char *)a, (char *)b, NULL };
	char why[100] = "";
	int r;

	memset(o, 0, sizeof *o);
	r = opts_parse(table, argv, o, why, sizeof why);
	CHECK((r < 0) == (why[0] != '\0'));
	return r;
}

static void
t_opts(void)
{
	struct o o;
	uint64_t n;

	CHECK(parse(&o, NULL, NULL) == 0 && strcmp(o.s, "dflt") == 0 &&
	    o.b && o.u == 7 && o.e == 1);
	CHECK(parse(&o, "s=a=b", "b=off") == 0 && strcmp(o.s, "a=b") == 0 &&
	    !o.b);
	CHECK(parse(&o, "u=0xffffffff", "z=2M") == 0 && o.u == 0xffffffff &&
	    o.z == 2 << 20);
	CHECK(parse(&o, "e=red", NULL) == 0 && o.e == 0);
	CHECK(parse(&o, "u=0x100000000", NULL) < 0);
	CHECK(parse(&o, "u=-1", NULL) < 0);
	CHECK(parse(&o, "u=", NULL) < 0);
	CHECK(parse(&o, "u=1x", NULL) < 0);
	CHECK(parse(&o, "b=maybe", NULL) < 0);
	CHECK(parse(&o, "e=green", NULL) < 0);
	CHECK(parse(&o, "nope=1", NULL) < 0);
	CHECK(parse(&o, "ss=1", NULL) < 0);
	CHECK(parse(&o, "s", NULL) < 0);
	CHECK(parse(&o, "b", NULL) == 0 && o.b);
	CHECK(parse_size("1.5G", &n) == 0 && n == 3ull << 29);
	CHECK(parse_size("512", &n) == 0 && n == 512);
	CHECK(parse_size("4k", &n) == 0 && n == 4096);
	CHECK(parse_size("1GiB", &n) == 0 && n == 1 << 30);
	CHECK(parse_size("", &n) < 0 && parse_size("-1", &n) < 0);
	CHECK(parse_size("1Q", &n) < 0 && parse_size("M", &n) < 0);
	CHECK(parse_size("99999999999999999999", &n) < 0);
	CHECK(parse_size("18446744073709551615K", &n) < 0);
}

static void
t_ram(void)
{
	struct ram r, s;

	CHECK(ram_create(&r, "t", 0) < 0 && errno == EINVAL);
	CHECK(ram_create(&r, "t", 4097) < 0 && errno == EINVAL);
	CHECK(ram_create(&r, "t", 1ull << 55) < 0 && errno == ENOMEM);
	CHECK(ram_create(&r, "t", 64 << 20) == 0);
	CHECK(ram_at(&r, 0, 64 << 20) == r.base);
	CHECK(ram_at(&r, 0, (64 << 20) + 1) == NULL);
	CHECK(ram_at(&r, (64 << 20) - 1, 1) != NULL);
	CHECK(ram_at(&r, 64 << 20, 1) == NULL);
	CHECK(ram_at(&r, RAM_HIGH, 1) == NULL);
	CHECK(ram_at(&r, 5, ~0ull) == NULL);
	CHECK(ram_at(&r, ~0ull, 2) == NULL);
	CHECK(ftruncate(r.fd, 4096) < 0);	/* sealed */
	CHECK(ram_attach(&s, dup(r.fd), 64 << 20) == 0);
	r.base[123] = 77;
	CHECK(s.base[123] == 77);
	ram_detach(&s);
	ram_detach(&r);
	/* nothing above the hole needs to be touched to be tested */
	r.base = (void *)0x1000;
	r.size = 5ull << 30;
	r.low = RAM_HOLE;
	CHECK(ram_at(&r, RAM_HOLE - 1, 1) == r.base + RAM_HOLE - 1);
	CHECK(ram_at(&r, RAM_HOLE - 1, 2) == NULL);
	CHECK(ram_at(&r, RAM_HOLE, 1) == NULL);
	CHECK(ram_at(&r, RAM_HIGH - 1, 1) == NULL);
	CHECK(ram_at(&r, RAM_HIGH, 1) == r.base + RAM_HOLE);
	CHECK(ram_at(&r, RAM_HIGH + (2ull << 30) - 1, 1) != NULL);
	CHECK(ram_at(&r, RAM_HIGH + (2ull << 30), 1) == NULL);
}

static void
t_dirty(void)
{
	struct ram r;
	struct dirty *d;
	uint64_t n = 1024, w = n / 64;

	CHECK(ram_create(&r, "t", n * 4096) == 0);
	d = calloc(1, DIRTY_BYTES(n));
	d->npage = n;
	CHECK(!dirty_touch(d, &r, r.base, n * 4096) && !d->any);
	d->bits[100 / 64] |= 1ull << 100 % 64;
	CHECK(!dirty_touch(d, &r, r.base + 101 * 4096, 4096));
	CHECK(!dirty_touch(d, &r, r.base + 99 * 4096, 4096) && !d->any);
	CHECK(dirty_touch(d, &r, r.base + 99 * 4096, 4097) && d->any);
	CHECK(d->bits[w + 100 / 64] == 1ull << 100 % 64);
	CHECK(!dirty_touch(d, &r, r.base + 100 * 4096, 0));
	CHECK(!dirty_touch(d, &r, r.base - 1, 10));
	CHECK(!dirty_touch(d, &r, r.base + n * 4096 - 1, 2));
	free(d);
}

static void
t_irq(void)
{
	static struct irq_page page;
	struct irq_ref r = { &page, eventfd(0, EFD_NONBLOCK), 3, NULL };
	uint64_t n;

	irq_set(&r, 4, 0, 1);
	CHECK(page.line[4] == (1ull << 32 | 1));
	CHECK(page.changed == 1u << 4 && page.cpu[0].poll == 1);
	CHECK(read(r.kick, &n, 8) < 0);		/* it runs: no kick */
	irq_set(&r, 4, 0, 1);			/* idempotent */
	irq_set(&r, 4, 5, 1);			/* held already: no edge */
	CHECK(page.line[4] == (1ull << 32 | 0x21));
	irq_set(&r, 4, 0, 0);
	irq_set(&r, 4, 5, 0);
	CHECK(page.line[4] == 1ull << 32);
	page.cpu[0].halted = 1;
	irq_set(&r, 4, 31, 1);
	CHECK(page.line[4] == (2ull << 32 | 1ull << 31));
	CHECK(read(r.kick, &n, 8) == 8);
	irq_set(&r, 99, 0, 1);			/* nowhere */
	irq_set(&r, 4, 40, 1);
	page.cpu[0].halted = 0;
	irq_msi(&r, 63);
	CHECK(page.msi[3].pending == 1ull << 63 && page.msi_parts == 8);
	irq_msi(&r, 64);
	CHECK(page.msi[3].pending == 1ull << 63);
}

static int fired[4], nfired;

static void
tick(void *arg)
{
	fired[nfired++ % 4] = (int)(intptr_t)arg;
}

static void
self_remove(void *arg, int fd, short ev)
{
	char c;

	(void)ev;
	if (read(fd, &c, 1) == 1)
		loop_fd_del(arg, fd);
	nfired++;
}

static void
t_loop(void)
{
	struct loop *l = loop_new();
	int64_t now = now_ns();
	int p[2];

	loop_timer(l, now + 3000000, tick, (void *)3);
	loop_timer(l, now + 1000000, tick, (void *)1);
	loop_timer(l, now + 2000000, tick, (void *)2);
	loop_timer(l, now + 2500000, tick, (void *)9);
	loop_timer(l, 0, tick, (void *)9);		/* disarmed */
	loop_timer(l, now + 4000000, tick, (void *)1);	/* moved */
	while (nfired < 3)
		loop_once(l, -1, NULL, NULL);
	CHECK(fired[0] == 2 && fired[1] == 3 && fired[2] == 1);
	CHECK(now_ns() >= now + 4000000);
	nfired = 0;
	CHECK(pipe(p) == 0 && write(p[1], "ab", 2) == 2);
	loop_fd(l, p[0], POLLIN, self_remove, l);
	loop_once(l, 0, NULL, NULL);
	loop_once(l, 0, NULL, NULL);
	CHECK(nfired == 1);
	loop_fd(l, p[0], 0, self_remove, l);		/* ignored */
	loop_once(l, 0, NULL, NULL);
	CHECK(nfired == 1);
	close(p[1]);
	loop_once(l, 0, NULL, NULL);			/* even a hang-up */
	CHECK(nfired == 1);
	loop_fd(l, p[0], POLLIN, self_remove, l);
	loop_once(l, -1, NULL, NULL);
	CHECK(nfired == 2);
}

int
main(int argc, char **argv)
{
	static const struct { const char *name; void (*fn)(void); } tests[] = {
		{ "map", t_map }, { "mapfull", t_mapfull },
		{ "mapseq", t_mapseq }, { "ring", t_ring },
		{ "line", t_line }, { "packet", t_packet },
		{ "opts", t_opts }, { "ram", t_ram }, { "dirty", t_dirty },
		{ "irq", t_irq }, { "loop", t_loop },
	};
	size_t i;

	for (i = 0; i < sizeof tests / sizeof tests[0]; i++) {
		if (argc > 1 && strcmp(argv[1], tests[i].name) != 0)
			continue;
		tests[i].fn();
		if (argc > 1)
			return bad;
	}
	return argc > 1 ? 2 : bad;
}
