/*
 * keep.c - what outlives this process: leases, and the forwards that lead to the
 * guests, as lines of text in a file (-L), or in the memory that the broker keeps
 * for a part of a machine.
 *
 *	INDEX MAC NAME		a lease
 *	hostfwd RULE		a forward added while it ran
 *	option RULE		one of the command line
 *
 * A file may be older than the command line, so there the latter are left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "slirp.h"

static char text[KEEP_BYTES];
static char *memory;
static int fd = -1;

int
keep_file(const char *path)
{
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? -1 : 0;
}

bool
keep_memory(char *p)
{
	memory = p;
	return *memory;
}

void
keep_save(void)
{
	FILE *f;
	long n;

	if (fd < 0 && !memory)
		return;
	f = fmemopen(text, sizeof text, "w");
	if (!f)
		return;
	leases_write(f);
	forwards_write(f);
	n = ftell(f);
	if (fclose(f) != 0 || n < 0 || n >= KEEP_BYTES)
		return;
	text[n] = 0;
	if (memory)
		memcpy(memory, text, n + 1);
	else if (pwrite(fd, text, n, 0) == n && ftruncate(fd, n) < 0)
		return;			/* old lines behind the new ones */
}

void
keep_load(void)
{
	char *line, *s = text;
	ssize_t n;

	if (memory) {
		memcpy(text, memory, sizeof text - 1);
	} else {
		n = fd < 0 ? 0 : pread(fd, text, sizeof text - 1, 0);
		text[n < 0 ? 0 : n] = 0;
	}
	while ((line = strsep(&s, "\n")))
		if (!strncmp(line, "hostfwd ", 8))
			forward_again(line + 8, false);
		else if (strncmp(line, "option ", 7))
			lease_again(line);
		else if (memory)
			forward_again(line + 7, true);
}
