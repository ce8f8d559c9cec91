/*
 * vm-poke.c - drives a device from a script, without a vcpu: alone, as a broker
 * with one part, or attached to a running machine (-m).
 *
 * The broker runs on the main thread (it is the part's parent); the script runs
 * on a second one, because a round trip blocks while the part may be asking the
 * broker for something.  The script's thread is a tool like any other: it talks
 * to the broker over a socket.
 */
#include <bsd/string.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "broker.h"

#define HANG_NS		20000000000ll
#define WAIT_NS		10000000000ll
#define EVENTS		64

static struct access acc;
static bool attached;		/* -m */
static const char *who = "";	/* the part, alone */
static unsigned lineno;
static unsigned wrong;		/* comparisons that failed */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char events[EVENTS][128];
static unsigned nevent;
static _Atomic int64_t busy_since;
static unsigned edges[IRQ_LINES];

/* A mistake in the script, or an access that cannot be made: ends it. */
static int bad(const char *, ...) __attribute__((format(printf, 1, 2)));
static int
bad(const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "vm-poke: line %u: %s\n", lineno, buf);
	return -1;
}

static int
hex(const char *s, uint64_t *n)
{
	char *end;

	if (s == NULL)
		return bad("a number is missing");
	errno = 0;
	*n = strtoull(s, &end, 16);
	if (errno != 0 || end == s || *end != '\0')
		return bad("'%s' is not a hexadecimal number", s);
	return 0;
}

/* PORT, io:PORT, mADDR, mem:ADDR */
static int
address(const char *s, enum space *space, uint64_t *addr)
{
	*space = SPACE_IO;
	if (s == NULL)
		return bad("an address is missing");
	if (strncmp(s, "mem:", 4) == 0) {
		*space = SPACE_MEM;
		s += 4;
	} else if (*s == 'm') {
		*space = SPACE_MEM;
		s++;
	} else if (strncmp(s, "io:", 3) == 0) {
		s += 3;
	}
	if (hex(s, addr) < 0)
		return -1;
	if (*space == SPACE_IO && *addr > 0xffff)
		return bad("port %s is above ffff", s);
	return 0;
}

/* DEV.FN of bus 0, hexadecimal, or devfn */
static int
function(const char *s, unsigned *devfn)
{
	unsigned d, f;
	char c;

	if (s == NULL || sscanf(s, "%x.%x%c", &d, &f, &c) != 2 || d > 31 ||
	    f > 7)
		return bad("'%s' is not DEV.FN", s != NULL ? s : "");
	*devfn = d << 3 | f;
	return 0;
}

static unsigned
size_of(const char *verb, size_t prefix)
{
	char c = verb[prefix];

	if (verb[prefix] != '\0' && verb[prefix + 1] == '\0' &&
	    (c == '1' || c == '2' || c == '4' || c == '8'))
		return (unsigned)(c - '0');
	return 0;
}

static void
pause_ms(unsigned ms)
{
	struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

static int
done(int r)
{
	atomic_store(&busy_since, 0);
	return r < 0 ? bad("%s", acc.why) : 0;
}

static void
start(void)
{
	atomic_store(&busy_since, now_ns());
}

/* ---------------------------------------------------------------- commands */

/* EXPECT[/MASK] */
static int
compare(const char *what, const char *expect, uint64_t v, unsigned size)
{
	char copy[64], *slash;
	uint64_t want, mask = size >= 8 ? ~0ull : (1ull << size * 8) - 1;

	if (expect == NULL)
		return 0;
	strlcpy(copy, expect, sizeof copy);
	slash = strchr(copy, '/');
	if (slash != NULL) {
		*slash++ = '\0';
		if (hex(slash, &mask) < 0)
			return -1;
	}
	if (hex(copy, &want) < 0)
		return -1;
	if ((v & mask) != (want & mask)) {
		fflush(stdout);
		fprintf(stderr, "vm-poke: line %u: %s is %llx, not %s\n",
		    lineno, what, (unsigned long long)v, expect);
		wrong++;
	}
	return 0;
}

static int
do_read(unsigned size, char **argv)
{
	enum space space;
	uint64_t addr, v;

	if (address(argv[1], &space, &addr) < 0)
		return -1;
	start();
	if (done(access_read(&acc, space, addr, size, &v)) < 0)
		return -1;
	printf("%0*llx\n", (int)size * 2, (unsigned long long)v);
	return compare(argv[1], argv[2], v, size);
}

static int
do_write(unsigned size, char **argv)
{
	enum space space;
	uint64_t addr, v;
	int i;

	if (address(argv[1], &space, &addr) < 0)
		return -1;
	if (argv[2] == NULL)
		return bad("a value is missing");
	for (i = 2; argv[i] != NULL; i++) {
		if (hex(argv[i], &v) < 0)
			return -1;
		start();
		if (done(access_write(&acc, space, addr, size, v)) < 0)
			return -1;
		if (space == SPACE_MEM)
			addr += size;	/* a row of values fills memory */
	}
	return 0;
}

static int
do_ins(unsigned size, char **argv)
{
	uint8_t buf[SLOT_BUF];
	uint64_t port, count;
	int n, i;

	if (hex(argv[1], &port) < 0 || hex(argv[2], &count) < 0)
		return -1;
	if (port > 0xffff || count == 0 || count > SLOT_BUF / size)
		return bad("too many items, or no port");
	start();
	n = access_string(&acc, 0, port, size, buf, (unsigned)count);
	if (done(n) < 0)
		return -1;
	for (i = 0; i < n * (int)size; i++)
		printf("%02x", buf[i]);
	putchar('\n');
	return 0;
}

static int
do_outs(unsigned size, char **argv)
{
	uint8_t buf[SLOT_BUF];
	uint64_t port;
	unsigned n = 0, byte;
	const char *s;

	if (hex(argv[1], &port) < 0)
		return -1;
	for (s = argv[2]; s != NULL && *s != '\0'; s += 2) {
		if (n == sizeof buf || sscanf(s, "%2x", &byte) != 1 ||
		    s[1] == '\0')
			return bad("bytes in hexadecimal are missing");
		buf[n++] = (uint8_t)byte;
	}
	if (port > 0xffff || n == 0 || n % size != 0)
		return bad("no whole number of items");
	start();
	return done(access_string(&acc, 1, port, size, buf, n / size));
}

static int
do_config(char **argv, bool write, unsigned size)
{
	unsigned devfn = 0;
	uint64_t off, v;

	if (function(argv[1], &devfn) < 0 || hex(argv[2], &off) < 0)
		return -1;
	if (off + size > 4096)
		return bad("offset %s is beyond the page", argv[2]);
	if (write) {
		if (hex(argv[3], &v) < 0)
			return -1;
		start();
		return done(access_config(&acc, devfn, (unsigned)off, size,
		    (uint32_t)v));
	}
	v = size == 4 ? 0xffffffff : size == 2 ? 0xffff : 0xff;
	if (acc.pci->owner[devfn] != 0) {
		v = 0;
		memcpy(&v, acc.pci->fn[devfn] + off, size);
	}
	printf("%0*llx\n", (int)size * 2, (unsigned long long)v);
	return compare(argv[2], argv[3], v, size);
}

/* irq LINE: level and edges since the last look. irq LINE LEVEL: wait for it. */
static int
do_irq(char **argv)
{
	int64_t end = now_ns() + WAIT_NS;
	uint64_t n, w;
	unsigned level;
	char *stop;

	n = argv[1] != NULL ? strtoul(argv[1], &stop, 10) : IRQ_LINES;
	if (n >= IRQ_LINES)
		return bad("no such line");
	for (;;) {
		w = atomic_load(&acc.irq->line[n]);
		level = (uint32_t)w != 0;
		if (argv[2] == NULL || level == (unsigned)atoi(argv[2]))
			break;
		if (now_ns() > end)
			return bad("line %u does not become %s", (unsigned)n,
			    argv[2]);
		pause_ms(1);
	}
	printf("%u %u\n", level, (unsigned)(w >> 32) - edges[n]);
	edges[n] = (unsigned)(w >> 32);
	return 0;
}

/* msi: take and show the pending vectors. msi wait: wait for one first. */
static int
do_msi(char **argv)
{
	int64_t end = now_ns() + WAIT_NS;
	struct irq_msi *m;
	uint64_t parts, bits;
	unsigned p, n;

	while (argv[1] != NULL && atomic_load(&acc.irq->msi_parts) == 0) {
		if (now_ns() > end)
			return bad("no MSI comes");
		pause_ms(1);
	}
	parts = atomic_exchange(&acc.irq->msi_parts, 0);
	for (p = 0; p < PART_MAX; p++) {
		if (!(parts >> p & 1))
			continue;
		m = &acc.irq->msi[p];
		bits = atomic_exchange(&m->pending, 0);
		for (n = 0; n < MSI_MAX; n++)
			if (bits >> n & 1)
				printf("msi %u %llx %x\n", n,
				    (unsigned long long)m->vec[n].addr,
				    m->vec[n].data);
	}
	return 0;
}

/* event: show those that came. event WORDS: wait for one that begins so. */
static int
do_event(char **argv)
{
	int64_t end = now_ns() + WAIT_NS;
	char want[128] = "";
	unsigned i;
	bool found = false;

	for (i = 1; argv[i] != NULL; i++) {
		if (i > 1)
			strlcat(want, " ", sizeof want);
		strlcat(want, argv[i], sizeof want);
	}
	for (;;) {
		pthread_mutex_lock(&lock);
		for (i = 0; i < nevent; i++)
			if (*want != '\0' && strncmp(events[i], want,
			    strlen(want)) == 0)
				found = true;
		if (*want == '\0' || found) {
			for (i = 0; i < nevent; i++)
				printf("event %s\n", events[i]);
			nevent = 0;
		}
		pthread_mutex_unlock(&lock);
		if (*want == '\0' || found)
			return 0;
		if (now_ns() > end)
			return bad("event '%s' does not come", want);
		pause_ms(1);
	}
}

static int
ask(const char *whom, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static int
ask(const char *whom, const char *fmt, ...)
{
	char *q, *reply = NULL;
	va_list ap;
	int e;

	va_start(ap, fmt);
	e = vasprintf(&q, fmt, ap);
	va_end(ap);
	if (e < 0)
		return bad("out of memory");
	e = bus_ask(acc.bus, whom, q, -1, &reply);
	if (e != 0) {
		bad("%s %s: %s", whom, q, reply != NULL && *reply != '\0' ?
		    reply : strerror(e));
	} else if (reply != NULL && *reply != '\0') {
		fputs(reply, stdout);
		if (reply[strlen(reply) - 1] != '\n')
			putchar('\n');
	}
	free(q);
	free(reply);
	return e == 0 ? 0 : -1;
}

/* `rest` is the line after the verb, as written. */
static int
do_ask(const char *rest)
{
	char part[32];
	size_t n;

	if (!attached)
		return ask(who, "%s", rest);
	n = strcspn(rest, " \t");
	if (n == 0 || n >= sizeof part)
		return bad("ask whom?");
	memcpy(part, rest, n);
	part[n] = '\0';
	rest += n;
	rest += strspn(rest, " \t");
	return ask(part, "%s", rest);
}

/* save FILE, alone; save PART FILE, attached. The machine is stopped for it. */
static int
do_state(char **argv)
{
	const char *part = attached ? argv[1] : who;
	const char *file = attached ? argv[1] != NULL ? argv[2] : NULL :
	    argv[1];
	char cwd[1024] = "";

	if (file == NULL)
		return bad("%s: which file?", argv[0]);
	if (*file != '/' && getcwd(cwd, sizeof cwd - 1) != NULL)
		strlcat(cwd, "/", sizeof cwd);
	if (ask("bus", "stop") < 0 ||
	    ask("bus", "%s %s '%s%s'", argv[0], part, cwd, file) < 0)
		return -1;
	return ask("bus", "cont");
}

static uint64_t seed;

static uint64_t
rnd(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static int
random_one(void)
{
	static const uint64_t special[] = { 0, 1, 0x80, 0xff, 0xffff,
	    0x80000000, 0xffffffff, ~0ull };
	unsigned n = acc.map->nent, pick, size, devfn, i;
	struct map_ent e;
	uint64_t addr, v;
	uint8_t buf[256];

	if (rnd() % 8 == 0) {		/* PCI configuration */
		devfn = (unsigned)(rnd() % 256);
		for (i = 0; i < 256 && acc.pci->owner[devfn] < 2; i++)
			devfn = (devfn + 1) % 256;
		if (i < 256) {
			size = 1u << rnd() % 3;
			return access_config(&acc, devfn, (unsigned)
			    (rnd() % (rnd() % 4 == 0 ? 4096 : 256)) &
			    ~(size - 1), size, (uint32_t)rnd());
		}
	}
	/* the map may change under us: an entry is only a hint */
	pick = n > 0 ? (unsigned)(rnd() % n) : 0;
	for (i = 0; i < n; i++) {
		e = acc.map->ent[(pick + i) % n];
		if (e.part != MAP_RAM && e.part != 0)
			break;
	}
	if (i == n)
		return 0;
	size = 1u << rnd() % (e.space == SPACE_IO ? 3 : 4);
	addr = e.start + rnd() % (e.last - e.start + 1);
	v = rnd() % 4 == 0 ? special[rnd() % 8] : rnd();
	if (rnd() % 2)
		v &= 0xff;
	if (e.space == SPACE_IO && rnd() % 64 == 0) {
		memset(buf, (int)v, sizeof buf);
		return access_string(&acc, rnd() & 1, addr, size, buf,
		    256 / size);
	}
	if (rnd() % 2)
		return access_read(&acc, e.space, addr, size, &v);
	return access_write(&acc, e.space, addr, size, v);
}

static int
do_random(char **argv)
{
	unsigned long n, i;

	if (argv[1] == NULL)
		return bad("random: how many?");
	n = strtoul(argv[1], NULL, 0);
	seed = argv[2] != NULL ? strtoull(argv[2], NULL, 0) : 1;
	for (i = 0; i < n; i++) {
		start();
		if (done(random_one()) < 0)
			return -1;
	}
	printf("random %lu done\n", n);
	return 0;
}

static int
do_ranges(void)
{
	return ask("bus", "mtree");
}

/* 0, -1 a mistake, 1: quit */
static int
command(char *line)
{
	char copy[8192], *argv[64], *rest;
	const char *v;
	unsigned size;
	int n;

	strlcpy(copy, line, sizeof copy);
	rest = copy + strspn(copy, " \t");
	rest += strcspn(rest, " \t");
	rest += strspn(rest, " \t");
	n = line_split(line, argv, 64);
	if (n < 0)
		return bad("a quote is left open, or too many words");
	if (n == 0)
		return 0;
	v = argv[0];
	if ((size = size_of(v, 1)) != 0 && *v == 'r')
		return do_read(size, argv);
	if (size != 0 && *v == 'w')
		return do_write(size, argv);
	if (strncmp(v, "ins", 3) == 0 && (size = size_of(v, 3)) != 0)
		return do_ins(size, argv);
	if (strncmp(v, "outs", 4) == 0 && (size = size_of(v, 4)) != 0)
		return do_outs(size, argv);
	if (strcmp(v, "cfg") == 0)
		return do_config(argv, false, 4);
	if (strncmp(v, "cfgw", 4) == 0 && (size = size_of(v, 4)) != 0 &&
	    size < 8)
		return do_config(argv, true, size);
	if (strncmp(v, "cfg", 3) == 0 && (size = size_of(v, 3)) != 0 &&
	    size < 8)
		return do_config(argv, false, size);
	if (strcmp(v, "irq") == 0)
		return do_irq(argv);
	if (strcmp(v, "msi") == 0)
		return do_msi(argv);
	if (strcmp(v, "event") == 0)
		return do_event(argv);
	if (strcmp(v, "ask") == 0)
		return do_ask(rest);
	if (strcmp(v, "save") == 0 || strcmp(v, "load") == 0)
		return do_state(argv);
	if (strcmp(v, "reset") == 0)
		return ask("bus", "system_reset");
	if (strcmp(v, "stop") == 0)
		return ask("bus", "stop");
	if (strcmp(v, "run") == 0)
		return ask("bus", "cont");
	if (strcmp(v, "random") == 0)
		return do_random(argv);
	if (strcmp(v, "ranges") == 0)
		return do_ranges();
	if (strcmp(v, "echo") == 0)
		return puts(rest) < 0 ? -1 : 0;
	if (strcmp(v, "sleep") == 0) {
		pause_ms((unsigned)atoi(argv[1] != NULL ? argv[1] : "0"));
		return 0;
	}
	if (strcmp(v, "quit") == 0)
		return 1;
	return bad("unknown command '%s'", v);
}

/* The script on standard input; the exit status. */
static int
script(void)
{
	char line[8192];
	int r = 0;

	while (r == 0 && fgets(line, sizeof line, stdin) != NULL) {
		lineno++;
		line[strcspn(line, "\n")] = '\0';
		if (line[strspn(line, " \t")] != '#')
			r = command(line);
		fflush(stdout);
	}
	if (r < 0)
		return 2;
	return wrong > 0 ? 1 : 0;
}

/* ------------------------------------------------------- alone with a chip */

static struct broker bus;
static int tool_fd;
static int script_code;

static void *
script_thread(void *arg)
{
	char *reply = NULL;

	(void)arg;
	if (bus_request(tool_fd, &reply, NULL, NULL, "hello tool=vm-poke")
	    != 0 || access_open(&acc, tool_fd, true) < 0) {
		bad("%s", acc.why);
		script_code = 2;
	} else {
		script_code = script();
	}
	free(reply);
	bus_ask(tool_fd, "bus", "quit", -1, NULL);
	return NULL;
}

static void
watch(void *arg)
{
	int64_t since = atomic_load(&busy_since);

	if (since != 0 && now_ns() - since > HANG_NS && !bus.ending) {
		log_line("%s (pid %d) does not answer", who,
		    (int)bus.part[1]->pid);
		life_end(&bus, 1);
		part_kill_all(&bus, SIGKILL);
	}
	loop_timer(bus.loop, now_ns() + 1000000000, watch, arg);
}

static void
on_started(struct broker *b)
{
	pthread_t t;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0 ||
	    peer_new(b, sv[0], true) == NULL) {
		log_line("%s", strerror(errno));
		life_end(b, 1);
		return;
	}
	tool_fd = sv[1];
	watch(NULL);
	if (pthread_create(&t, NULL, script_thread, NULL) != 0)
		life_end(b, 1);
}

static void
on_event(struct broker *b, const char *text)
{
	(void)b;
	pthread_mutex_lock(&lock);
	if (nevent < EVENTS)
		strlcpy(events[nevent++], text, sizeof events[0]);
	pthread_mutex_unlock(&lock);
}

static int
alone(char **argv, uint64_t ram)
{
	static const struct hooks hooks = { on_started, on_event };
	static struct mfile m;
	static char name[40];
	struct broker *b = &bus;
	struct peer *p;
	int i;

	log_open("vm-poke", NULL, NULL);
	m.name = (char *)"poke";
	m.ram = ram;
	m.smp = m.topo.cores = m.topo.threads = 1;
	m.start = true;
	m.part[0].chip = argv[0];
	snprintf(name, sizeof name, "%.31s", argv[0]);
	m.part[0].name = name;
	for (i = 1; argv[i] != NULL && i < WORDS_MAX; i++)
		m.part[0].argv[m.part[0].n++] = argv[i];
	m.npart = 1;
	who = name;
	b->dirfd = b->tell = b->errpipe = b->logfd = b->listen = -1;
	b->mf = &m;
	b->hooks = &hooks;
	LIST_INIT(&b->tools);
	STAILQ_INIT(&b->jobs);
	part_places(b);
	i = part_find_programs(b);
	if (i != 0)
		return i;
	b->loop = loop_new();
	if (b->loop == NULL || part_signals(b) < 0 || broker_pages(b) < 0)
		return 1;
	p = peer_new(b, -1, false);
	if (p == NULL)
		return 1;
	p->num = 1;
	b->part[1] = p;
	b->npart = 2;
	if (part_start(b, p, &m.part[0]) < 0 || peer_open(p) < 0)
		return 1;
	loop_run(b->loop);
	broker_close(b);
	fflush(stdout);
	return b->code != 0 ? b->code : script_code;
}

static int
running(const char *name)
{
	char why[256];
	int fd;

	fd = bus_connect("vm-poke", name, why, sizeof why);
	if (fd < 0) {
		fprintf(stderr, "vm-poke: %s\n", why);
		return 1;
	}
	attached = true;
	if (access_open(&acc, fd, true) < 0) {
		fprintf(stderr, "vm-poke: %s: %s\n", name, acc.why);
		return 1;
	}
	return script();
}

static void
usage(void)
{
	fputs("usage: vm-poke [-r SIZE] CHIP [key=value...] <script\n"
	    "       vm-poke -m NAME <script\n", stderr);
	exit(2);
}

int
main(int argc, char **argv)
{
	const char *vm = NULL;
	uint64_t ram = 64 << 20;
	int c;

	while ((c = getopt(argc, argv, "+m:r:")) != -1) {
		switch (c) {
		case 'm':
			vm = optarg;
			break;
		case 'r':
			if (parse_size(optarg, &ram) < 0 || ram == 0 ||
			    ram % PAGE_SIZE_4K != 0) {
				fprintf(stderr, "vm-poke: -r %s: not a "
				    "multiple of 4K\n", optarg);
				return 2;
			}
			break;
		default:
			usage();
		}
	}
	if ((vm != NULL) == (optind < argc))
		usage();
	if (vm != NULL)
		return running(vm);
	return alone(argv + optind, ram);
}
