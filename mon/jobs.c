/*
 * What disks do beside serving the guest: snapshots, block jobs, limits.  The
 * files they shall write to are opened here, on the user's side, and go with the
 * question as descriptors; their names are whole ones, since the disk's process
 * may be somewhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mon.h"

enum { NEW = 1, FULL = 2, COMPRESS = 4, FORCE = 8 };

static char *question;

/* The disk's answer is silence, or the reason. */
static int
put(struct mon *m, const char *disk)
{
	char *reply;
	int e = mon_question(m, &reply, disk, "%s", question);

	if (e)
		mon_fail(m, "%s", reply);
	free(reply);
	return e ? -1 : 0;
}

static FILE *
words(void)
{
	static size_t len;

	return open_memstream(&question, &len);
}

static void
speed(FILE *f, char *s)
{
	if (s != NULL) {
		const char *unit = mon_size(s);

		fputs(" speed=", f);
		line_quote(f, s);
		fputs(unit, f);
	}
}

/* Put what was written to `f` to the disk; `fd`: -1, or one that goes along. */
static int
ask(struct mon *m, const char *disk, FILE *f, int fd)
{
	int r;

	if (f == NULL || fclose(f) != 0)
		return mon_fail(m, "%s", strerror(ENOMEM));
	m->with = fd;
	r = mon_disks(m, disk, put);
	m->with = -1;
	free(question);
	return r;
}

/* Leading -n and the like; the flags, or -1. */
static int
flags(struct mon *m, int *argc, char ***argv, const char *known)
{
	const char *name = (*argv)[0], *p;
	int r = 0;

	while (*argc > 1 && (*argv)[1][0] == '-' && (*argv)[1][1]) {
		for (p = (*argv)[1] + 1; *p; p++) {
			if (strchr(known, *p) == NULL)
				return mon_fail(m, "%s: unsupported option -%c",
				    name, *p);
			r |= *p == 'n' ? NEW : *p == 'c' ? COMPRESS : *p == 'f' ?
			    FULL | FORCE : 0;
		}
		(*argc)--;
		(*argv)++;
	}
	return r ^ NEW;		/* -n: take the file that is there */
}

static void
key(FILE *f, const char *name, const char *val)
{
	char *s;

	if (val == NULL || asprintf(&s, "%s=%s", name, val) == -1)
		return;
	putc(' ', f);
	line_quote(f, s);
	free(s);
}

/* file= and new= to `f`, and the file's descriptor; -1: said why. */
static int
target(struct mon *m, const char *name, bool new, FILE *f, bool *made)
{
	char dir[4096] = "", *full = NULL;
	int fd, fl = O_RDWR | O_CLOEXEC | O_NONBLOCK;

	*made = false;
	if (strncmp(name, "file:", 5) == 0)
		name += 5;
	else if (strcspn(name, ":") < strcspn(name, "/") &&
	    name[strcspn(name, ":")] != '\0')
		return mon_fail(m, "%s: only files and block devices of the "
		    "host can be written to", name);
	if (*name != '/' && getcwd(dir, sizeof(dir)) == NULL)
		return mon_fail(m, "%s", strerror(errno));
	if ((fd = open(name, fl)) == -1 && errno == ENOENT && new)
		*made = (fd = open(name, fl | O_CREAT | O_EXCL, 0644)) != -1;
	if (fd == -1)
		return mon_fail(m, "Could not open '%s': %s", name,
		    strerror(errno));
	if (asprintf(&full, "%s%s%s", dir, *dir ? "/" : "", name) == -1) {
		close(fd);
		return mon_fail(m, "%s", strerror(ENOMEM));
	}
	key(f, "file", full);
	free(full);
	if (new)
		fputs(" new=on", f);
	return fd;
}

/* snapshot_blkdev [-n] device [file [format]]
 * drive_backup [-n] [-f] [-c] device file [format]
 * drive_mirror [-n] [-f] device file [format] */
int
cmd_copy(struct mon *m, int argc, char **argv)
{
	const char *cmd = argv[0], *known = *cmd == 's' ? "n" :
	    strcmp(cmd, "drive_backup") == 0 ? "nfc" : "nf";
	int fl = flags(m, &argc, &argv, known), fd, r;
	const char *format;
	bool made;
	FILE *f;

	if (fl == -1)
		return -1;
	if (argc < 3 || argc > 4)
		return mon_fail(m, "%s: device and file name are wanted", cmd);
	format = argc > 3 ? argv[3] : *cmd == 's' && fl & NEW ? "qcow2" : NULL;
	if ((f = words()) == NULL)
		return mon_fail(m, "%s", strerror(ENOMEM));
	fputs(*cmd == 's' ? "snapshot" : cmd + strlen("drive_"), f);
	if ((fd = target(m, argv[2], fl & NEW, f, &made)) == -1) {
		fclose(f);
		free(question);
		return -1;
	}
	key(f, "format", format);
	key(f, "sync", fl & FULL ? "full" : "top");
	key(f, "compress", fl & COMPRESS ? "on" : NULL);
	r = ask(m, argv[1], f, fd);
	close(fd);
	if (r == -1 && made)
		unlink(argv[2]);
	return r;
}

/* block_stream device [speed [base]] */
int
cmd_stream(struct mon *m, int argc, char **argv)
{
	FILE *f = words();

	if (f != NULL) {
		fputs("stream", f);
		speed(f, argc > 2 ? argv[2] : NULL);
		key(f, "base", argc > 3 ? argv[3] : NULL);
	}
	return ask(m, argv[1], f, -1);
}

/* block_job_VERB device */
int
cmd_job(struct mon *m, int argc, char **argv)
{
	const char *verb = argv[0] + strlen("block_job_");
	bool set = strcmp(verb, "set_speed") == 0;
	int fl = flags(m, &argc, &argv, strcmp(verb, "cancel") == 0 ? "f" : "");
	FILE *f;

	if (fl == -1)
		return -1;
	if (argc != (set ? 3 : 2))
		return mon_fail(m, set ? "block_job_set_speed: device and "
		    "speed are wanted" : "block_job_%s: a device is wanted",
		    verb);
	if ((f = words()) != NULL) {
		fprintf(f, "job %s%s", set ? "set" : verb,
		    fl & FORCE ? " force" : "");
		speed(f, set ? argv[2] : NULL);
	}
	return ask(m, argv[1], f, -1);
}

/* snapshot_blkdev_internal device name,
 * snapshot_delete_blkdev_internal device name [id] */
int
cmd_internal(struct mon *m, int argc, char **argv)
{
	FILE *f = words();
	int i;

	if (f != NULL) {
		fputs(strstr(argv[0], "delete") != NULL ? "snapshot-delete" :
		    "snapshot-internal", f);
		for (i = 2; i < argc; i++) {
			putc(' ', f);
			line_quote(f, argv[i]);
		}
	}
	return ask(m, argv[1], f, -1);
}

/* block_set_io_throttle device bps bps_rd bps_wr iops iops_rd iops_wr */
int
cmd_limits(struct mon *m, int argc, char **argv)
{
	static const char *const name[] = { "bps-total", "bps-read",
		"bps-write", "iops-total", "iops-read", "iops-write" };
	FILE *f = words();
	int i;

	if (f != NULL) {
		fputs("limits", f);
		for (i = 0; i < 6; i++)
			key(f, name[i], argv[2 + i]);
	}
	return ask(m, argv[1], f, -1);
}

static bool any;

static int
show(struct mon *m, const char *disk)
{
	char *reply;

	if (mon_ask(m, &reply, disk, "job") == -1)
		return -1;
	if (*reply) {
		any = true;
		fprintf(m->out, "%s\n", reply);
	}
	free(reply);
	return 0;
}

int
info_jobs(struct mon *m, int argc, char **argv)
{
	any = false;
	if (mon_disks(m, NULL, show) == -1)
		return -1;
	if (!any)
		fputs("No active jobs\n", m->out);
	return 0;
}
