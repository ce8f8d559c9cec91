/*
 * The monitor's commands, as a table: a command is a row.  Names, arguments
 * and messages are QEMU's human monitor's where it has the command.
 */
#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "mon.h"

#define WORDS_MAX 64

int
mon_fail(struct mon *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(m->err, fmt, ap);
	va_end(ap);
	fputc('\n', m->err);
	return -1;
}

static int
ask(struct mon *m, char **reply, const char *whom, const char *fmt,
    va_list ap)
{
	char *q;
	int error;

	*reply = NULL;
	if (vasprintf(&q, fmt, ap) == -1)
		return mon_fail(m, "%s", strerror(ENOMEM));
	error = m->ask(m, whom, q, reply);
	if (error) {
		mon_fail(m, "%s: %s: %s", whom, q, *reply && **reply ?
		    *reply : strerror(error));
		free(*reply);
		*reply = NULL;
		if (error == EPIPE || error == ECONNRESET)
			m->gone = true;
	} else if (*reply == NULL && (*reply = strdup("")) == NULL)
		error = ENOMEM;
	free(q);
	return error ? -1 : 0;
}

int
mon_ask(struct mon *m, char **reply, const char *whom, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = ask(m, reply, whom, fmt, ap);
	va_end(ap);
	return r;
}

int
mon_question(struct mon *m, char **reply, const char *whom, const char *fmt,
    ...)
{
	va_list ap;
	char *q;
	int e;

	*reply = NULL;
	va_start(ap, fmt);
	e = vasprintf(&q, fmt, ap) == -1 ? ENOMEM : 0;
	va_end(ap);
	if (e == 0) {
		e = m->ask(m, whom, q, reply);
		free(q);
	}
	if (e == EPIPE || e == ECONNRESET)
		m->gone = true;
	if (*reply == NULL || **reply == '\0') {
		free(*reply);
		*reply = strdup(e ? strerror(e) : "");
		if (*reply == NULL)
			err(1, NULL);
	}
	return e;
}

int
mon_tell(struct mon *m, const char *whom, const char *fmt, ...)
{
	va_list ap;
	char *reply;
	size_t n;
	int r;

	va_start(ap, fmt);
	r = ask(m, &reply, whom, fmt, ap);
	va_end(ap);
	if (r == -1)
		return -1;
	fputs(reply, m->out);
	n = strlen(reply);
	if (n > 0 && reply[n - 1] != '\n')
		fputc('\n', m->out);
	free(reply);
	return 0;
}

int
mon_parts(struct mon *m, int (*fn)(struct mon *, const char *, const char *,
    const char *))
{
	char *reply, *line, *save, *copy, *argv[WORDS_MAX];
	const char *name, *chip;
	int r = 0;

	if (mon_ask(m, &reply, "bus", "parts") == -1)
		return -1;
	for (line = strtok_r(reply, "\n", &save); line != NULL && r == 0;
	    line = strtok_r(NULL, "\n", &save)) {
		if ((copy = strdup(line)) == NULL)
			break;
		if (line_split(copy, argv, WORDS_MAX) > 0) {
			name = line_key(argv, "name");
			chip = line_key(argv, "chip");
			if (name != NULL)
				r = fn(m, name, chip ? chip : "", line);
		}
		free(copy);
	}
	free(reply);
	return r;
}

bool
mon_chip(const char *name, const char *chip)
{
	return strcmp(name, "cpu") != 0 && strcmp(chip, "monitor") != 0;
}

/* ----------------------------------------------------------- the commands */

static int
usage_of(struct mon *m, const struct command *c, const char *before)
{
	fprintf(m->out, "%s%s", before, c->name);
	if (c->alias)
		fprintf(m->out, "|%s", c->alias);
	fprintf(m->out, "%s%s -- %s\n", *c->args ? " " : "", c->args, c->help);
	return 0;
}

static int
cmd_help(struct mon *m, int argc, char **argv)
{
	const struct command *c, *t = commands;
	const char *before = "";

	if (argc > 1 && strcmp(argv[1], "info") == 0) {
		t = topics;
		before = "info ";
		argc--;
		argv++;
	}
	if (argc > 1) {
		if ((c = command_find(t, argv[1])) == NULL)
			return mon_fail(m, "unknown command: '%s%s'", before,
			    argv[1]);
		return usage_of(m, c, before);
	}
	for (c = t; c->name; c++)
		usage_of(m, c, before);
	return 0;
}

static int
cmd_info(struct mon *m, int argc, char **argv)
{
	const struct command *c;

	if (argc < 2)
		return cmd_help(m, 2, (char *[]){ "help", "info", NULL });
	if ((c = command_find(topics, argv[1])) == NULL)
		return mon_fail(m, "unknown command: 'info %s'", argv[1]);
	if (c->max != -1 && argc - 2 > c->max)
		return mon_fail(m, "info %s: extraneous characters: '%s'",
		    c->name, argv[c->max + 2]);
	return c->fn(m, argc - 1, argv + 1);
}

/* What the bus does by itself: the question is the command's name. */
static int
cmd_bus(struct mon *m, int argc, char **argv)
{
	const struct command *c = command_find(commands, argv[0]);

	return mon_tell(m, "bus", "%s", c->name);
}

static int
cmd_cont(struct mon *m, int argc, char **argv)
{
	return mon_tell(m, "bus", "cont");
}

static int
cmd_quit(struct mon *m, int argc, char **argv)
{
	if (mon_tell(m, "bus", "quit") == -1 && !m->gone)
		return -1;
	m->gone = true;
	return 0;
}

static int
cmd_log(struct mon *m, int argc, char **argv)
{
	return mon_tell(m, "bus", "log %s", argv[1]);
}

static int
cmd_cpu(struct mon *m, int argc, char **argv)
{
	uint64_t n;
	char *reply;

	if (expr_eval(m, argc - 1, argv + 1, &n) == -1)
		return -1;
	if (n >= NVCPU_MAX || mon_ask(m, &reply, "cpu", "reg %u rip",
	    (unsigned)n) == -1)
		return mon_fail(m, "cpu: no such vcpu: %ju", (uintmax_t)n);
	free(reply);
	m->cpu = n;
	return 0;
}

static int
join(struct mon *m, const char *whom, int argc, char **argv)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (f == NULL)
		return mon_fail(m, "%s", strerror(errno));
	for (int i = 0; i < argc; i++) {
		if (i)
			fputc(' ', f);
		line_quote(f, argv[i]);
	}
	fclose(f);
	r = mon_tell(m, whom, "%s", text);
	free(text);
	return r;
}

static int
cmd_ask(struct mon *m, int argc, char **argv)
{
	return join(m, argv[1], argc - 2, argv + 2);
}

/* The first part that is this chip; false: there is none (and said so). */
struct wanted {
	const char	*chip;
	char		name[32];
};
static struct wanted wanted;

static int
is_wanted(struct mon *m, const char *name, const char *chip, const char *line)
{
	if (!*wanted.name && strcmp(chip, wanted.chip) == 0)
		snprintf(wanted.name, sizeof(wanted.name), "%s", name);
	return 0;
}

static bool
find_chip(struct mon *m, const char *command, const char *chip,
    const char *what)
{
	wanted = (struct wanted){ .chip = chip };
	if (mon_parts(m, is_wanted) == -1)
		return false;
	if (!*wanted.name)
		mon_fail(m, "%s: this machine has no %s", command, what);
	return *wanted.name;
}

/* sendkey, mouse_move, mouse_button: the question is the line. */
static int
cmd_i8042(struct mon *m, int argc, char **argv)
{
	return find_chip(m, argv[0], "i8042", "keyboard") ?
	    join(m, wanted.name, argc, argv) : -1;
}

static int
cmd_balloon(struct mon *m, int argc, char **argv)
{
	uint64_t mib;
	char *reply;

	if (expr_eval(m, 1, argv + 1, &mib) == -1 ||
	    !find_chip(m, "balloon", "virtio-balloon", "balloon") ||
	    mon_ask(m, &reply, wanted.name, "balloon %juM",
	    (uintmax_t)mib) == -1)
		return -1;
	free(reply);
	return 0;
}

const struct command commands[] = {
	{ "help", "?", "[command]", "show what commands there are", 0, 2,
	    cmd_help },
	{ "info", NULL, "[topic [argument]]", "show the state of the machine",
	    0, -1, cmd_info },
	{ "stop", "s", "", "pause the machine", 0, 0, cmd_bus },
	{ "cont", "c", "", "let it go on", 0, 0, cmd_cont },
	{ "system_reset", NULL, "", "press the reset button", 0, 0, cmd_bus },
	{ "system_powerdown", NULL, "", "press the power button", 0, 0,
	    cmd_bus },
	{ "nmi", NULL, "", "inject a non-maskable interrupt", 0, 0, cmd_bus },
	{ "quit", "q", "", "end the machine", 0, 0, cmd_quit },
	{ "cpu", NULL, "index", "the vcpu that x and $registers mean", 1, -1,
	    cmd_cpu },
	{ "x", NULL, "/fmt addr",
	    "dump virtual memory; fmt is [count][xduoci][bhwg]", 1, -1, cmd_x },
	{ "xp", NULL, "/fmt addr", "dump physical memory", 1, -1, cmd_xp },
	{ "print", "p", "/fmt expr", "print an expression; $reg is a register",
	    1, -1, cmd_print },
	{ "memsave", NULL, "addr size file", "save virtual memory to a file",
	    3, 3, cmd_memsave },
	{ "pmemsave", NULL, "addr size file", "save physical memory to a file",
	    3, 3, cmd_pmemsave },
	{ "sendkey", NULL, "keys [hold_ms]", "press keys, e.g. ctrl-alt-f1",
	    1, 2, cmd_i8042 },
	{ "mouse_move", NULL, "dx dy [dz]", "move the mouse", 2, 3,
	    cmd_i8042 },
	{ "mouse_button", NULL, "state", "buttons down: 1 left, 2 right, 4 "
	    "middle", 1, 1, cmd_i8042 },
	{ "balloon", NULL, "target", "memory the guest shall have, in MiB", 1,
	    1, cmd_balloon },
	{ "block_resize", NULL, "device size",
	    "give a disk another size, in MiB or with a suffix", 2, 2,
	    cmd_block_resize },
	{ "commit", NULL, "device|all",
	    "write a disk's changes into its backing image", 1, 1,
	    cmd_commit },
	{ "block_set_io_throttle", NULL,
	    "device bps bps_rd bps_wr iops iops_rd iops_wr",
	    "limit a disk's bytes and requests a second, 0: do not", 7, 7,
	    cmd_limits },
	{ "snapshot_blkdev", NULL, "[-n] device file [format]",
	    "write to a new image from now on, -n: to one that is there", 2, 4,
	    cmd_copy },
	{ "snapshot_blkdev_internal", NULL, "device name",
	    "take a snapshot within the image", 2, 2, cmd_internal },
	{ "snapshot_delete_blkdev_internal", NULL, "device name [id]",
	    "delete one", 2, 3, cmd_internal },
	{ "drive_backup", NULL, "[-n] [-f] [-c] device file [format]",
	    "copy a disk as it is now, -f: with its backing images, "
	    "-c: compressed", 2, 6, cmd_copy },
	{ "drive_mirror", NULL, "[-n] [-f] device file [format]",
	    "copy a disk and what is written to it meanwhile", 2, 5,
	    cmd_copy },
	{ "block_stream", NULL, "device [speed [base]]",
	    "copy backing images into the disk's image", 1, 3, cmd_stream },
	{ "block_job_set_speed", NULL, "device speed",
	    "limit a job to bytes a second", 2, 2, cmd_job },
	{ "block_job_cancel", NULL, "[-f] device",
	    "end a job; a mirror that is ready becomes a copy, -f: does not", 1,
	    2, cmd_job },
	{ "block_job_complete", NULL, "device",
	    "go on with the copy of a mirror that is ready", 1, 1, cmd_job },
	{ "block_job_pause", NULL, "device", "pause a job", 1, 1, cmd_job },
	{ "block_job_resume", NULL, "device", "let it go on", 1, 1, cmd_job },
	{ "nbd_server_start", NULL, "[-a] [-w] host:port|unix:path",
	    "serve a disk by NBD there, -a: the machine's only one, -w: "
	    "writable", 1, 3, cmd_nbd },
	{ "nbd_server_add", NULL, "[-w] device [name]", "this one", 1, 3,
	    cmd_nbd },
	{ "nbd_server_remove", NULL, "[-f] name",
	    "no more, -f: though clients are there", 1, 2, cmd_nbd },
	{ "nbd_server_stop", NULL, "", "end the server", 0, 0, cmd_nbd },
	{ "eject", NULL, "[-f] device", "take out a medium", 1, 2,
	    cmd_medium },
	{ "change", NULL, "device filename", "change a medium", 2, 3,
	    cmd_medium },
	{ "set_link", NULL, "name on|off", "plug or unplug a network cable", 2,
	    2, cmd_set_link },
	{ "hostfwd_add", NULL,
	    "[network] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
	    "lead a port of the host to the guest", 1, 2, cmd_hostfwd },
	{ "hostfwd_remove", NULL,
	    "[network] [tcp|udp]:[hostaddr]:hostport", "and no more", 1, 2,
	    cmd_hostfwd },
	{ "device_add", NULL, "driver[,key=value...]", "add a device", 1, 1,
	    cmd_hotplug },
	{ "device_del", NULL, "id", "take one out", 1, 1, cmd_hotplug },
	{ "netdev_add", NULL, "net,id=id[,key=value...]", "add a network", 1,
	    1, cmd_hotplug },
	{ "netdev_del", NULL, "id", "take one out", 1, 1, cmd_hotplug },
	{ "log", NULL, "item1[,...]|none", "log these from now on", 1, 1,
	    cmd_log },
	{ "stat", NULL, "", "exits per second and CPU time of each part", 0,
	    0, cmd_stat },
	{ "ask", NULL, "part words", "put a question to a part, or to bus", 2,
	    -1, cmd_ask },
	{ NULL }
};

const struct command *
command_find(const struct command *t, const char *name)
{
	for (; t->name; t++)
		if (strcmp(t->name, name) == 0 || (t->alias &&
		    strcmp(t->alias, name) == 0))
			return t;
	return NULL;
}

bool
command_raw(const char *line)
{
	static const char *const raw[] = { "x", "xp", "p", "print" };
	size_t n = strcspn(line, " \t/");

	for (size_t i = 0; i < sizeof(raw) / sizeof(raw[0]); i++)
		if (n == strlen(raw[i]) && strncmp(line, raw[i], n) == 0)
			return true;
	return false;
}

static int
split(char *line, char **argv, int max)
{
	int n = 0;

	line += strspn(line, " \t");
	if (!command_raw(line))
		return line_split(line, argv, max);
	while (*line) {
		if (n == max - 1)
			return -1;
		argv[n++] = line;
		line += strcspn(line, " \t");
		if (*line)
			*line++ = '\0';
		line += strspn(line, " \t");
	}
	argv[n] = NULL;
	return n;
}

int
mon_line(struct mon *m, const char *text)
{
	char *argv[WORDS_MAX + 2], *line = NULL, *slash;
	const struct command *c;
	int argc, r = -1;

	if ((line = strdup(text)) == NULL)
		return mon_fail(m, "%s", strerror(ENOMEM));
	line[strcspn(line, "\r\n")] = '\0';
	argc = split(line, argv, WORDS_MAX);
	if (argc == -1) {
		mon_fail(m, "quote left open, or too many words");
		goto out;
	}
	if (argc == 0 || *argv[0] == '#') {
		r = 0;
		goto out;
	}
	/* "x/4xw addr" is "x /4xw addr" */
	if ((slash = strchr(argv[0], '/')) != NULL && slash != argv[0]) {
		memmove(argv + 2, argv + 1, argc * sizeof(argv[0]));
		argv[1] = strdupa(slash);
		*slash = '\0';
		argc++;
	}
	if ((c = command_find(commands, argv[0])) == NULL) {
		mon_fail(m, "unknown command: '%s'", argv[0]);
		goto out;
	}
	if (argc - 1 < c->min) {
		mon_fail(m, "%s: an argument is missing: %s %s", c->name,
		    c->name, c->args);
		goto out;
	}
	if (c->max != -1 && argc - 1 > c->max) {
		mon_fail(m, "%s: extraneous characters: '%s'", c->name,
		    argv[c->max + 1]);
		goto out;
	}
	r = c->fn(m, argc, argv);
out:
	free(line);
	return r;
}

void
mon_end(struct mon *m)
{
	free(m->stat);
	m->stat = NULL;
}
