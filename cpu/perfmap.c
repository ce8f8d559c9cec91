/*
 * perfmap.c - /tmp/perf-PID.map: what perf(1) reads to name code that is in no
 * file (tools/perf/Documentation/jit-interface.txt of Linux): a line `START SIZE
 * NAME' for each block and each group of stubs.
 *
 * A block's name is the guest's function, if a table of symbols has one that
 * begins at most SYMBOL_MAX before it, otherwise its address; its cold code has
 * `(cold)' behind that.  The table is System.map's or /proc/kallsyms's.  When the
 * translation cache is emptied the file begins anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "x86/jit.h"

#define SYMBOL_MAX	(1 << 20)

struct symbol {
	uint64_t	addr;
	char		name[56];
};

static int fd = -1;
static struct symbol *syms;
static size_t nsym;

static void
line(const uint8_t *from, const uint8_t *to, const char *name)
{
	dprintf(fd, "%llx %llx %s\n", (unsigned long long)(from + jit.rx_off),
	    (unsigned long long)(to - from), name);
}

static void
stubs(void)
{
	unsigned set;

	line(jit.rw, stub_ind[0], "vcpu: in and out");
	for (set = 0; set < MMU_N; set++) {
		line(stub_ind[set], stub_miss[set][0][0][0][0],
		    "vcpu: jump cache");
		line(stub_miss[set][0][0][0][0], set + 1 < MMU_N ?
		    stub_ind[set + 1] : jit.scratch, "vcpu: misses");
	}
	line(jit.scratch, jit.rw + jit.base, "vcpu: single steps");
}

static int
by_addr(const void *a, const void *b)
{
	uint64_t x = ((const struct symbol *)a)->addr;
	uint64_t y = ((const struct symbol *)b)->addr;

	return x < y ? -1 : x > y;
}

/* Functions of a file of lines `ADDRESS TYPE NAME'. */
int
perfmap_symbols(const char *path)
{
	FILE *f = fopen(path, "re");
	struct symbol s, *more;
	size_t room = 0;
	char type, text[256];

	if (f == NULL)
		return -1;
	while (fgets(text, sizeof(text), f)) {
		unsigned long long addr;

		if (sscanf(text, "%llx %c %55s", &addr, &type, s.name) != 3 ||
		    strchr("tTwW", type) == NULL)
			continue;
		s.addr = addr;
		if (nsym == room) {
			room = room ? 2 * room : 4096;
			more = realloc(syms, room * sizeof(*syms));
			if (more == NULL) {
				fclose(f);
				return -1;
			}
			syms = more;
		}
		syms[nsym++] = s;
	}
	fclose(f);
	if (nsym == 0) {
		errno = EINVAL;
		return -1;
	}
	qsort(syms, nsym, sizeof(*syms), by_addr);
	return 0;
}

int
perfmap_open(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	stubs();
	return 0;
}

void
perfmap_block(const struct block *b, uint64_t linear)
{
	size_t lo = 0, hi = nsym, mid;
	char name[24], cold[72];
	const char *n = name;

	if (fd < 0)
		return;
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (syms[mid].addr <= linear)
			lo = mid + 1;
		else
			hi = mid;
	}
	snprintf(name, sizeof(name), "guest %llx", (unsigned long long)linear);
	if (lo > 0 && linear - syms[lo - 1].addr < SYMBOL_MAX)
		n = syms[lo - 1].name;
	line(b->host, b->host + b->host_len, n);
	if (b->cold_len == 0)
		return;
	snprintf(cold, sizeof(cold), "%s (cold)", n);
	line(b->cold, b->cold + b->cold_len, cold);
}

void
perfmap_flush(void)
{
	if (fd < 0 || ftruncate(fd, 0) < 0)
		return;
	lseek(fd, 0, SEEK_SET);
	stubs();
}
