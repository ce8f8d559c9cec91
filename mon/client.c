/*
 * vm-mon NAME: commands for a running machine, from its user's side.  It speaks
 * to the bus itself, so it works as long as the broker does; readline edits and
 * completes, one command given as arguments is run and its status is ours.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <readline/readline.h>
#include <readline/history.h>
#include "mon.h"

struct side {
	int		bus;
	struct ram	ram;
	struct pci_space *pci;
};

static struct mon *the_mon;	/* for readline's callbacks */

static int
client_ask(struct mon *m, const char *whom, const char *question, char **reply)
{
	struct side *s = m->arg;

	return bus_ask(s->bus, whom, question, m->with, reply);
}

/* The pages are fetched when first wanted. */
static int
client_pages(struct mon *m, struct ram **ram, struct pci_space **pci)
{
	struct side *s = m->arg;
	int fds[3], n = 1, error;
	char *reply = NULL, *words[16], *copy = NULL;
	const char *size;

	if (s->ram.base == NULL) {
		if ((error = bus_request(s->bus, &reply, fds, &n, "ram")) != 0)
			goto fail;
		if (n != 1 || (copy = strdup(reply)) == NULL ||
		    line_split(copy, words, 16) < 1 ||
		    (size = line_key(words, "size")) == NULL) {
			error = EPROTO;
			goto fail;
		}
		if (ram_attach(&s->ram, fds[0], strtoull(size, NULL, 0)) == -1) {
			error = errno;
			goto fail;
		}
		free(reply);
		free(copy);
		reply = copy = NULL;
	}
	if (s->pci == NULL) {
		void *p;

		n = 3;
		if ((error = bus_request(s->bus, &reply, fds, &n, "pages")) != 0)
			goto fail;
		if (n != 3) {
			error = EPROTO;
			goto fail;
		}
		p = mmap(NULL, PCI_BYTES, PROT_READ, MAP_SHARED, fds[2], 0);
		error = errno;
		for (int i = 0; i < 3; i++)
			close(fds[i]);
		if (p == MAP_FAILED)
			goto fail;
		s->pci = p;
		free(reply);
	}
	*ram = &s->ram;
	*pci = s->pci;
	return 0;
fail:
	free(reply);
	free(copy);
	errno = error;
	return -1;
}

/* --------------------------------------------------------------- completion */

static const struct command *table;
static size_t table_at;

static char *
complete_row(const char *text, int state)
{
	if (state == 0)
		table_at = 0;
	while (table[table_at].name) {
		const char *name = table[table_at++].name;

		if (strncmp(name, text, strlen(text)) == 0)
			return strdup(name);
	}
	return NULL;
}

static char	*names[PART_MAX + 1];
static int	name_n, name_at;

static int
keep_name(struct mon *m, const char *name, const char *chip, const char *line)
{
	if (name_n < PART_MAX)
		names[name_n++] = strdup(name);
	return 0;
}

static char *
complete_part(const char *text, int state)
{
	if (state == 0) {
		FILE *err = the_mon->err, *null = fopen("/dev/null", "we");

		while (name_n > 0)
			free(names[--name_n]);
		names[name_n++] = strdup("bus");
		if (null != NULL) {
			the_mon->err = null;
			mon_parts(the_mon, keep_name);
			the_mon->err = err;
			fclose(null);
		}
		name_at = 0;
	}
	while (name_at < name_n) {
		const char *name = names[name_at++];

		if (name && strncmp(name, text, strlen(text)) == 0)
			return strdup(name);
	}
	return NULL;
}

static char **
complete(const char *text, int start, int end)
{
	const char *line = rl_line_buffer + strspn(rl_line_buffer, " ");
	int before = start - (line - rl_line_buffer);

	rl_attempted_completion_over = 1;
	table = commands;
	if (before <= 0)
		return rl_completion_matches(text, complete_row);
	if (strncmp(line, "help info ", 10) == 0 ||
	    (strncmp(line, "info ", 5) == 0 && before == 5))
		table = topics;
	else if (strncmp(line, "ask ", 4) == 0 && before == 4)
		return rl_completion_matches(text, complete_part);
	else if (strstr(line, "save ") != NULL) {
		rl_attempted_completion_over = 0;	/* a file's name */
		return NULL;
	} else if (strncmp(line, "help ", 5) != 0)
		return NULL;
	return rl_completion_matches(text, complete_row);
}

/* ${XDG_STATE_HOME:-~/.local/state}/vm/mon_history; the directory is made. */
static int
history_path(char *buf, size_t len)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *p;
	int n;

	if (state && *state == '/')
		n = snprintf(buf, len, "%s/vm/mon_history", state);
	else if (home && *home == '/')
		n = snprintf(buf, len, "%s/.local/state/vm/mon_history", home);
	else
		return -1;
	if (n < 0 || (size_t)n >= len)
		return -1;
	for (p = buf + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		if (mkdir(buf, 0700) == -1 && errno != EEXIST)
			return -1;
		*p = '/';
	}
	return 0;
}

static void
person(struct mon *m, const char *name)
{
	char history[4096], *line, *expanded;
	bool keep;

	the_mon = m;
	rl_readline_name = "vm-mon";
	rl_attempted_completion_function = complete;
	rl_basic_word_break_characters = " ";
	using_history();
	stifle_history(1000);
	if ((keep = history_path(history, sizeof(history)) == 0))
		read_history(history);
	printf("Machine '%s' - type 'help' for the commands, Ctrl-d to leave\n",
	    name);
	while (!m->gone && (line = readline("(vm) ")) != NULL) {
		expanded = line + strspn(line, " \t");
		if (*expanded) {
			add_history(line);
			mon_line(m, line);
		}
		free(line);
		fflush(stdout);
	}
	if (!m->gone)
		putchar('\n');
	if (keep)
		write_history(history);
}

int
client(const char *name, int argc, char **argv)
{
	char why[512], *line = NULL;
	struct side side = { 0 };
	struct mon m = {
		.out = stdout, .err = stderr, .ask = client_ask,
		.pages = client_pages, .arg = &side, .with = -1,
	};
	size_t len = 0;
	int r = 0;

	side.bus = bus_connect("vm-mon", name, why, sizeof(why));
	if (side.bus == -1) {
		fprintf(stderr, "vm-mon: %s\n", why);
		return 1;
	}
	if (argc > 0) {
		/* several arguments are words; a single one is a line */
		FILE *f = open_memstream(&line, &len);

		if (f == NULL) {
			perror("vm-mon");
			return 1;
		}
		for (int i = 0; i < argc; i++) {
			if (i)
				fputc(' ', f);
			if (i > 0 && !command_raw(argv[0]) &&
			    strpbrk(argv[i], " \t\"'\\"))
				line_quote(f, argv[i]);
			else
				fputs(argv[i], f);
		}
		fclose(f);
		fflush(stdout);
		r = mon_line(&m, line);
	} else if (isatty(0)) {
		person(&m, name);
	} else {
		while (!m.gone && getline(&line, &len, stdin) != -1) {
			if (mon_line(&m, line) == -1)
				r = -1;
			fflush(stdout);
		}
	}
	free(line);
	mon_end(&m);
	close(side.bus);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("vm-mon: standard output");
		r = -1;
	}
	return r == 0 ? 0 : 1;
}
