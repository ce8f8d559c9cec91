/*
 * command.c - management commands as table rows; numeric replies: 0000 opens a
 * text ended by a lone dot, 1xxx is the result, xxx an errno value (000 is
 * success), 3xxx a debug message of a category asked for.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "switch.h"

static const struct command *tables[12];
static unsigned ntables;
unsigned debug_wanted;

static const struct { const char *path; int tag; const char *help; }
cats[D_N] = {
	[D_HASHP] = { "hash/+", 11, "hash: new element" },
	[D_HASHM] = { "hash/-", 12, "hash: discarded element" },
	[D_FSTATUS] = { "fstp/status", 44, "fstp: status change" },
	[D_FROOT] = { "fstp/root", 45, "fstp: rootswitch/port change" },
	[D_FPLUS] = { "fstp/+", 41, "fstp: port becomes active" },
	[D_FMINUS] = { "fstp/-", 42, "fstp: port becomes inactive" },
	[D_PORTP] = { "port/+", 21, "new port" },
	[D_PORTM] = { "port/-", 22, "closed port" },
	[D_PORTDESCR] = { "port/descr", 23, "set port description" },
	[D_EPP] = { "port/ep/+", 31, "new endpoint" },
	[D_EPM] = { "port/ep/-", 32, "closed endpoint" },
};

void
command_add(const struct command *t)
{
	tables[ntables++] = t;
}

/* Whole numbers separated by blanks, nothing else behind the n-th. */
int
arg_nums(const char *arg, int n, long *out)
{
	char *end;
	int i;

	for (i = 0; i < n; i++) {
		errno = 0;
		out[i] = strtol(arg, &end, 0);
		if (end == arg || errno || (*end && *end != ' '))
			return i;
		for (arg = end; *arg == ' '; arg++)
			;
	}
	return *arg ? n + 1 : n;
}

void
debug_out(enum dbg d, const char *fmt, ...)
{
	char line[300];
	va_list ap;
	int n;

	if (!(debug_wanted & 1u << d))
		return;
	n = snprintf(line, sizeof line, "3%03d %s ", cats[d].tag, cats[d].path);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	va_end(ap);
	strcat(line, "\n");
	console_debug(1u << d, line);
}

static const struct command *
find(const char *path)
{
	const struct command *c;

	for (unsigned i = 0; i < ntables; i++)
		for (c = tables[i]; c->path; c++)
			if (c->fn && !strcmp(c->path, path))
				return c;
	return NULL;
}

void
command_run(struct session *s, char *line, FILE *out)
{
	const struct command *c;
	char *arg, *text = NULL, *p;
	size_t n = 0;
	FILE *f;
	int e;

	line += strspn(line, " \t");
	n = strlen(line);
	while (n && strchr(" \t\r\n", line[n - 1]))
		line[--n] = 0;
	if (!*line || *line == '#')
		return;
	arg = line + strcspn(line, " \t");
	if (*arg)
		*arg++ = 0;
	arg += strspn(arg, " \t");
	c = find(line);
	if (!c) {
		fprintf(out, "1%03d %s\n", ENOSYS, strerror(ENOSYS));
		return;
	}
	f = open_memstream(&text, &n);
	if (!f)
		return;
	e = c->fn(s, f, arg);
	fclose(f);
	if (c->data) {
		fputs("0000 DATA END WITH '.'\n", out);
		for (p = text; *p; ) {
			n = strcspn(p, "\n");
			fprintf(out, "%.*s\n", (int)n, p);
			p += n + (p[n] == '\n');
		}
		fputs(".\n", out);
	}
	free(text);
	if (e == E_LOGOUT)
		fputs("9999 END OF SESSION", out);
	else
		fprintf(out, "1%03d %s\n", e, e ? strerror(e) : "Success");
}

int
command_load(struct session *s, const char *path)
{
	char line[1024], *text = NULL;
	FILE *f = fopen(path, "re"), *out;
	size_t n;

	if (!f)
		return errno;
	out = open_memstream(&text, &n);
	while (out && fgets(line, sizeof line, f))
		command_run(s, line, out);
	if (out)
		fclose(out);
	if (s->outfd >= 0 && text && !s->rc)
		(void)!write(s->outfd, text, strlen(text));
	free(text);
	fclose(f);
	return 0;
}

/* ---------------------------------------------------------------- commands */

static int
c_help(struct session *s, FILE *out, char *arg)
{
	const struct command *c;
	size_t n = strlen(arg);

	fputs("COMMAND PATH       SYNTAX          HELP\n"
	    "------------       --------------  ------------\n", out);
	for (unsigned i = 0; i < ntables; i++)
		for (c = tables[i]; c->path; c++)
			if (!strncmp(c->path, arg, n))
				fprintf(out, "%-18s %-15s %s\n", c->path,
				    c->syntax, c->help);
	return 0;
}

static int
c_logout(struct session *s, FILE *out, char *arg)
{
	return E_LOGOUT;
}

static int
c_shutdown(struct session *s, FILE *out, char *arg)
{
	loop_quit = true;
	return E_LOGOUT;
}

static int
c_showinfo(struct session *s, FILE *out, char *arg)
{
	fprintf(out, "VDE switch V.2.3.2\n(compatible: vm-switch)\n\n"
	    "pid %d MAC %02x:%02x:%02x:%02x:%02x:%02x uptime %lld\n", getpid(),
	    sw.mac[0], sw.mac[1], sw.mac[2], sw.mac[3], sw.mac[4], sw.mac[5],
	    (long long)((loop_now - sw.started) / SEC));
	console_info(out);
	return 0;
}

static int
c_load(struct session *s, FILE *out, char *arg)
{
	static int depth;
	int e;

	if (depth > 8)
		return ELOOP;
	depth++;
	e = command_load(s, arg);
	depth--;
	return e;
}

static int
c_dlist(struct session *s, FILE *out, char *arg)
{
	fputs("CATEGORY               TAG STATUS HELP\n"
	    "------------           --- ------ ----\n", out);
	for (unsigned i = 0; i < D_N; i++)
		if (!strncmp(cats[i].path, arg, strlen(arg)))
			fprintf(out, "%-22s %03d %-6s %s\n", cats[i].path,
			    cats[i].tag, s->debug & 1u << i ? "ON" : "OFF",
			    cats[i].help);
	return 0;
}

static int
debug_set(struct session *s, const char *arg, bool on)
{
	unsigned hit = 0;

	for (unsigned i = 0; i < D_N; i++)
		if (!strncmp(cats[i].path, arg, strlen(arg)))
			hit |= 1u << i;
	if (!hit)
		return EINVAL;
	s->debug = on ? s->debug | hit : s->debug & ~hit;
	console_wanted();
	return 0;
}

static int
c_dadd(struct session *s, FILE *out, char *arg)
{
	return debug_set(s, arg, true);
}

static int
c_ddel(struct session *s, FILE *out, char *arg)
{
	return debug_set(s, arg, false);
}

static int
c_plist(struct session *s, FILE *out, char *arg)
{
	fputs("NAME                   HELP\n------------           ----\n", out);
	return ENOENT;
}

static int
c_pnone(struct session *s, FILE *out, char *arg)
{
	return EOPNOTSUPP;	/* plugins are code of another program */
}

const struct command base_cmds[] = {
	{ "help", "[arg]", "Help (limited to arg when specified)", c_help,
	    true },
	{ "logout", "", "logout from this mgmt terminal", c_logout },
	{ "shutdown", "", "shutdown of the switch", c_shutdown },
	{ "showinfo", "", "show switch version and info", c_showinfo, true },
	{ "load", "path", "load a configuration script", c_load },
	{ "debug", "============", "DEBUG MENU" },
	{ "debug/list", "", "list debug categories", c_dlist, true },
	{ "debug/add", "dbgpath", "enable debug info for a given category",
	    c_dadd },
	{ "debug/del", "dbgpath", "disable debug info for a given category",
	    c_ddel },
	{ "plugin", "============", "PLUGINS MENU" },
	{ "plugin/list", "", "list plugins", c_plist, true },
	{ "plugin/add", "library", "load a plugin (not supported)", c_pnone },
	{ "plugin/del", "name", "unload a plugin (not supported)", c_pnone },
	{ NULL }
};
