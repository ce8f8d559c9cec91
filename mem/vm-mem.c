/*
 * vm-mem.c - looks into the RAM of a running machine: the broker hands out the
 * memfd, the rest is plain memory (PROTOCOL.md "Tools").
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../bus/access.h"

static struct access acc;
static const char *vm;
static bool raw;

static int
bad(const char *object, const char *why)
{
	fprintf(stderr, "vm-mem: %s: %s\n", object, why);
	return 1;
}

static void
usage(void)
{
	fputs("usage: vm-mem [-r] NAME [show]\n"
	    "       vm-mem [-r] NAME read ADDR LEN\n"
	    "       vm-mem NAME write ADDR <data\n"
	    "       vm-mem NAME search [-x] PATTERN\n", stderr);
	exit(2);
}

static int
number(const char *s, uint64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoull(s, &end, 0);
	if (errno == 0 && end != s && *end == '\0' && *s != '-')
		return 0;
	if (parse_size(s, n) == 0)
		return 0;
	fprintf(stderr, "vm-mem: '%s' is not a number\n", s);
	return -1;
}

/* Guest-physical address of an offset in the RAM file. */
static uint64_t
address(uint64_t off)
{
	return off < acc.ram.low ? off : RAM_HIGH + (off - acc.ram.low);
}

/* The part of [gpa, gpa+len) from gpa on that is one piece of RAM. */
static uint64_t
piece(uint64_t gpa, uint64_t len, uint8_t **p)
{
	uint64_t end;

	*p = ram_at(&acc.ram, gpa, 1);
	if (*p == NULL)
		return 0;
	end = gpa < acc.ram.low ? acc.ram.low :
	    RAM_HIGH + (acc.ram.size - acc.ram.low);
	return len < end - gpa ? len : end - gpa;
}

static int
show(void)
{
	const struct map *m = acc.map;
	unsigned char *vec;
	uint64_t n = acc.ram.size / PAGE_SIZE_4K, i, in = 0;

	printf("VM %s\n", vm);
	printf("RAM %llu MiB: 0-%llx", (unsigned long long)acc.ram.size >> 20,
	    (unsigned long long)acc.ram.low - 1);
	if (acc.ram.size > acc.ram.low)
		printf(" %llx-%llx", (unsigned long long)RAM_HIGH,
		    (unsigned long long)address(acc.ram.size - 1));
	putchar('\n');
	vec = malloc(n);
	if (vec != NULL && mincore(acc.ram.base, acc.ram.size, vec) == 0) {
		for (i = 0; i < n; i++)
			in += vec[i] & 1;
		printf("touched %llu KiB\n", (unsigned long long)in * 4);
	}
	free(vec);
	for (i = 0, in = 0; i < (acc.dirty->npage + 63) / 64 &&
	    acc.dirty->npage <= acc.ram.size / PAGE_SIZE_4K; i++)
		in += (uint64_t)__builtin_popcountll(acc.dirty->bits[i]);
	printf("pages with translated code %llu\n", (unsigned long long)in);
	printf("ranges %u, clock %s at %lld ms\n", m->nent,
	    m->running ? "runs" : "stands",
	    (long long)map_clock(m) / 1000000);
	return 0;
}

static void
hexline(uint64_t addr, const uint8_t *p, unsigned n)
{
	unsigned i;

	printf("%016llx:", (unsigned long long)addr);
	for (i = 0; i < 16; i++) {
		if (i < n)
			printf(" %02x", p[i]);
		else
			fputs("   ", stdout);
	}
	fputs("  ", stdout);
	for (i = 0; i < n; i++)
		putchar(isprint(p[i]) ? p[i] : '.');
	putchar('\n');
}

static int
read_mem(const char *sa, const char *sl)
{
	uint64_t addr, len, n, i;
	uint8_t *p, line[16];

	if (number(sa, &addr) < 0 || number(sl, &len) < 0)
		return 2;
	while (len > 0) {
		n = piece(addr, len, &p);
		if (n == 0) {
			fflush(stdout);
			fprintf(stderr, "vm-mem: %s: %llx is not RAM\n", vm,
			    (unsigned long long)addr);
			return 1;
		}
		if (raw && fwrite(p, 1, n, stdout) != n)
			return bad("standard output", strerror(errno));
		for (i = 0; !raw && i < n; i += 16) {
			/* the guest writes while we print */
			memcpy(line, p + i, n - i < 16 ? n - i : 16);
			hexline(addr + i, line, n - i < 16 ?
			    (unsigned)(n - i) : 16);
		}
		addr += n;
		len -= n;
	}
	if (fflush(stdout) != 0)
		return bad("standard output", strerror(errno));
	return 0;
}

static int
write_mem(const char *sa)
{
	uint8_t buf[65536], *p;
	uint64_t addr, n, k;
	size_t got, done;

	if (number(sa, &addr) < 0)
		return 2;
	while ((got = fread(buf, 1, sizeof buf, stdin)) > 0) {
		for (done = 0; done < got; done += k) {
			n = piece(addr, got - done, &p);
			if (n == 0) {
				fprintf(stderr, "vm-mem: %s: %llx is not "
				    "RAM\n", vm, (unsigned long long)addr);
				return 1;
			}
			k = n;
			memcpy(p, buf + done, k);
			access_wrote(&acc, p, k);
			addr += k;
		}
	}
	return ferror(stdin) ? bad("standard input", strerror(errno)) : 0;
}

static int
search(const char *pattern, bool hex)
{
	uint8_t want[256];
	size_t n = 0;
	unsigned byte;
	const uint8_t *p, *end = acc.ram.base + acc.ram.size;
	bool any = false;

	if (!hex) {
		n = strlen(pattern);
		if (n > sizeof want)
			return bad(pattern, "too long");
		memcpy(want, pattern, n);
	}
	for (; hex && *pattern != '\0'; pattern += 2) {
		if (n == sizeof want || pattern[1] == '\0' ||
		    sscanf(pattern, "%2x", &byte) != 1)
			return bad(pattern, "not bytes in hexadecimal");
		want[n++] = (uint8_t)byte;
	}
	if (n == 0)
		usage();
	for (p = acc.ram.base; (p = memmem(p, (size_t)(end - p), want, n))
	    != NULL; p++) {
		printf("%016llx\n", (unsigned long long)
		    address((uint64_t)(p - acc.ram.base)));
		any = true;
	}
	return any ? 0 : 1;
}

int
main(int argc, char **argv)
{
	char why[256];
	int c, fd;
	bool hex;

	while ((c = getopt(argc, argv, "+r")) != -1) {
		if (c != 'r')
			usage();
		raw = true;
	}
	argc -= optind;
	argv += optind;
	if (argc < 1)
		usage();
	vm = argv[0];
	if (argc >= 2 && strcmp(argv[1], "-r") == 0)
		usage();
	fd = bus_connect("vm-mem", vm, why, sizeof why);
	if (fd < 0) {
		fprintf(stderr, "vm-mem: %s\n", why);
		return 1;
	}
	if (access_open(&acc, fd, false) < 0)
		return bad(vm, acc.why);
	if (argc == 1 || (argc == 2 && strcmp(argv[1], "show") == 0))
		return show();
	if (argc == 4 && strcmp(argv[1], "read") == 0)
		return read_mem(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "write") == 0)
		return write_mem(argv[2]);
	if (argc >= 3 && strcmp(argv[1], "search") == 0) {
		hex = argc == 4 && strcmp(argv[2], "-x") == 0;
		if (argc == 3 + hex)
			return search(argv[2 + hex], hex);
	}
	usage();
	return 2;
}
