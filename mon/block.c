/*
 * The commands and topics of disks.  A disk is named as its part; what it says
 * of itself is QEMU's text.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mon.h"

static const char *want;		/* one disk, or NULL for all */
static int	(*what)(struct mon *, const char *disk);
static bool	found;

static int
look(struct mon *m, const char *name, const char *chip, const char *line)
{
	if (strcmp(chip, "virtio-blk") != 0 ||
	    (want != NULL && strcmp(name, want) != 0))
		return 0;
	found = true;
	return what(m, name);
}

int
mon_disks(struct mon *m, const char *name, int (*fn)(struct mon *, const char *))
{
	want = name;
	what = fn;
	found = false;
	if (mon_parts(m, look) == -1)
		return -1;
	if (name != NULL && !found)
		return mon_fail(m, "Device '%s' not found", name);
	return 0;
}

static const char *question;

static int
show(struct mon *m, const char *disk)
{
	char *reply;

	if (mon_ask(m, &reply, disk, "%s", question) == -1)
		return -1;
	fprintf(m->out, "%s: %s\n", disk, reply);
	free(reply);
	return 0;
}

/* info block [disk], info blockstats */
int
info_block(struct mon *m, int argc, char **argv)
{
	question = argv[0];
	return mon_disks(m, argc > 1 ? argv[1] : NULL, show);
}

const char *
mon_size(char *s)
{
	size_t n = strlen(s);

	if (n > 0 && strspn(s, "0123456789") == n)
		return "M";
	if (n > 1 && strchr("bB", s[n - 1]) != NULL)
		s[n - 1] = '\0';
	return "";
}

static const char *new_size, *unit;

static int
resize(struct mon *m, const char *disk)
{
	char *reply;
	int e;

	if ((e = mon_question(m, &reply, disk, "resize %s%s", new_size,
	    unit)) != 0)
		mon_fail(m, "%s", reply);
	free(reply);
	return e ? -1 : 0;
}

int
cmd_block_resize(struct mon *m, int argc, char **argv)
{
	unit = mon_size(argv[2]);
	new_size = argv[2];
	return mon_disks(m, argv[1], resize);
}

static int
commit(struct mon *m, const char *disk)
{
	char *reply;
	int e;

	e = mon_question(m, &reply, disk, "commit");
	/* `all' is those that can */
	if (e == ENOTSUP && want == NULL)
		e = 0;
	if (e)
		mon_fail(m, "'commit' error for '%s': %s", disk, reply);
	free(reply);
	return e ? -1 : 0;
}

int
cmd_commit(struct mon *m, int argc, char **argv)
{
	return mon_disks(m, strcmp(argv[1], "all") == 0 ? NULL : argv[1], commit);
}

static int
fixed(struct mon *m, const char *disk)
{
	return mon_fail(m, "Device '%s' is not removable", disk);
}

/* eject [-f] device, change device filename: these disks stay. */
int
cmd_medium(struct mon *m, int argc, char **argv)
{
	bool force = strcmp(argv[1], "-f") == 0 && argc > 2;

	return mon_disks(m, argv[force ? 2 : 1], fixed);
}
