/*
 * The commands and topics of disks.  A disk is named as its part; what it says
 * of itself is QEMU's text.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mon.h"

static const char *want;		/* one disk, or NULL for all */
static bool	found;

static bool
is_disk(const char *chip)
{
	return strcmp(chip, "virtio-blk") == 0;
}

static int
look(struct mon *m, const char *name, const char *chip, const char *line)
{
	found |= is_disk(chip) && strcmp(name, want) == 0;
	return 0;
}

/* Is there such a disk?  If not, says so. */
static bool
disk(struct mon *m, const char *name)
{
	want = name;
	found = false;
	if (mon_parts(m, look) == -1)
		return false;
	if (!found)
		mon_fail(m, "Device '%s' not found", name);
	return found;
}

static const char *question;

static int
show(struct mon *m, const char *name, const char *chip, const char *line)
{
	char *reply;

	if (!is_disk(chip) || (want != NULL && strcmp(name, want) != 0))
		return 0;
	if (mon_ask(m, &reply, name, "%s", question) == -1)
		return -1;
	fprintf(m->out, "%s: %s\n", name, reply);
	free(reply);
	return 0;
}

/* info block [disk], info blockstats */
int
info_block(struct mon *m, int argc, char **argv)
{
	if (argc > 1 && !disk(m, argv[1]))
		return -1;
	question = argv[0];
	want = argc > 1 ? argv[1] : NULL;
	return mon_parts(m, show);
}

/* QEMU's size: in MiB if it has no suffix. */
int
cmd_block_resize(struct mon *m, int argc, char **argv)
{
	size_t n = strlen(argv[2]);
	bool plain = n > 0 && strspn(argv[2], "0123456789") == n;
	bool bytes = n > 1 && strchr("bB", argv[2][n - 1]) != NULL;
	char *reply;
	int e;

	if (!disk(m, argv[1]))
		return -1;
	if (bytes)
		argv[2][n - 1] = '\0';
	if ((e = mon_question(m, &reply, argv[1], "resize %s%s", argv[2],
	    plain ? "M" : "")) != 0)
		mon_fail(m, "%s", reply);
	free(reply);
	return e ? -1 : 0;
}

static int
commit_one(struct mon *m, const char *name, const char *chip,
    const char *line)
{
	char *reply;
	int e;

	if (!is_disk(chip) || (want != NULL && strcmp(name, want) != 0))
		return 0;
	e = mon_question(m, &reply, name, "commit");
	/* `all' is those that can */
	if (e == ENOTSUP && want == NULL)
		e = 0;
	if (e)
		mon_fail(m, "'commit' error for '%s': %s", name, reply);
	free(reply);
	return e ? -1 : 0;
}

int
cmd_commit(struct mon *m, int argc, char **argv)
{
	bool all = strcmp(argv[1], "all") == 0;

	if (!all && !disk(m, argv[1]))
		return -1;
	want = all ? NULL : argv[1];
	return mon_parts(m, commit_one);
}

/* eject [-f] device, change device filename: these disks stay. */
int
cmd_medium(struct mon *m, int argc, char **argv)
{
	const char *name = argv[1];

	if (strcmp(name, "-f") == 0 && argc > 2)
		name = argv[2];
	if (!disk(m, name))
		return -1;
	return mon_fail(m, "Device '%s' is not removable", name);
}
