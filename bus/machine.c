/*
 * machine.c - the machine file (PROTOCOL.md "Machine file").
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "broker.h"

#define FILE_MAX_BYTES (1024 * 1024)

struct parse {
	struct mfile	*m;
	const char	*path;
	unsigned	lineno;
	char		*why;
	size_t		whylen;
	unsigned	cpu_line;	/* of the last cpu statement */
};

static int bad(struct parse *, const char *, ...)
    __attribute__((format(printf, 2, 3)));
static int
bad(struct parse *p, const char *fmt, ...)
{
	va_list ap;
	int n;

	n = snprintf(p->why, p->whylen, "machine file line %u: ", p->lineno);
	va_start(ap, fmt);
	if (n > 0 && (size_t)n < p->whylen)
		vsnprintf(p->why + n, p->whylen - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

bool
part_name_ok(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n < 32 && *s != '.' && *s != '-' &&
	    s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "0123456789._-")] == '\0';
}

/* Cut "key=value" at the '='; NULL if there is none. */
static char *
value(char *word)
{
	char *eq = strchr(word, '=');

	if (eq == NULL)
		return NULL;
	*eq = '\0';
	return eq + 1;
}

static int
pick(struct parse *p, const char *key, const char *v, const char *const *names,
    unsigned *out)
{
	unsigned i;

	for (i = 0; names[i] != NULL; i++) {
		if (strcmp(v, names[i]) == 0) {
			*out = i;
			return 0;
		}
	}
	return bad(p, "%s=%s: unknown value", key, v);
}

static int
do_ram(struct parse *p, char *key, char *v)
{
	if (strcmp(key, "size") != 0)
		return bad(p, "ram: unknown key '%s'", key);
	if (parse_size(v, &p->m->ram) < 0 || p->m->ram == 0)
		return bad(p, "ram: size '%s' is not a size", v);
	return 0;
}

static int
do_boot(struct parse *p, char *key, char *v)
{
	struct mfile *m = p->m;
	char **to;

	to = strcmp(key, "kernel") == 0 ? &m->kernel :
	    strcmp(key, "initrd") == 0 ? &m->initrd :
	    strcmp(key, "append") == 0 ? &m->append :
	    strcmp(key, "entry") == 0 ? &m->entry : NULL;
	if (to == NULL)
		return bad(p, "boot: unknown key '%s'", key);
	*to = v;
	return 0;
}

static int
do_run(struct parse *p, char *key, char *v)
{
	static const char *const offon[] = { "off", "on", NULL };
	static const char *const reboot[] = { "reset", "exit", NULL };
	static const char *const down[] = { "poweroff", "pause", NULL };
	static const char *const panic[] = { "exit", "pause", "none", NULL };
	struct mfile *m = p->m;
	unsigned n = 0;

	if (strcmp(key, "pidfile") == 0) {
		m->pidfile = v;
		return 0;
	}
	if (strcmp(key, "reboot") == 0) {
		if (pick(p, key, v, reboot, &n) < 0)
			return -1;
		m->reboot_exit = n;
	} else if (strcmp(key, "shutdown") == 0) {
		if (pick(p, key, v, down, &n) < 0)
			return -1;
		m->shutdown_pause = n;
	} else if (strcmp(key, "panic") == 0) {
		if (pick(p, key, v, panic, &n) < 0)
			return -1;
		m->panic = n;
	} else if (strcmp(key, "start") == 0) {
		if (pick(p, key, v, offon, &n) < 0)
			return -1;
		m->start = n;
	} else if (strcmp(key, "daemonize") == 0) {
		if (pick(p, key, v, offon, &n) < 0)
			return -1;
		m->daemonize = n;
	} else {
		return bad(p, "run: unknown key '%s'", key);
	}
	return 0;
}

static int
do_log(struct parse *p, char *key, char *v)
{
	if (strcmp(key, "items") == 0)
		p->m->log_items = v;
	else if (strcmp(key, "file") == 0)
		p->m->log_file = v;
	else
		return bad(p, "log: unknown key '%s'", key);
	return 0;
}

static int
keys(struct parse *p, char **argv,
    int (*fn)(struct parse *, char *key, char *v))
{
	char *v, *kind = *argv++;

	for (; *argv != NULL; argv++) {
		v = value(*argv);
		if (v == NULL)
			return bad(p, "%s: '%s' is not key=value", kind,
			    *argv);
		if (fn(p, *argv, v) < 0)
			return -1;
	}
	return 0;
}

/* Words of a part or the cpu; a later key replaces an earlier one if `over`. */
static int
add_words(struct parse *p, struct mpart *mp, char **argv, bool over)
{
	size_t k;
	int i;

	for (; *argv != NULL; argv++) {
		if (strchr(*argv, '=') == NULL)
			return bad(p, "%s: '%s' is not key=value", mp->name,
			    *argv);
		k = (size_t)(strchr(*argv, '=') - *argv) + 1;
		for (i = 0; over && i < mp->n; i++)
			if (strncmp(mp->argv[i], *argv, k) == 0)
				break;
		if (!over || i == mp->n) {
			if (mp->n == WORDS_MAX - 1)
				return bad(p, "%s: too many words", mp->name);
			i = mp->n++;
		}
		mp->argv[i] = *argv;
	}
	return 0;
}

/* The number of a key of the cpu, if it is there. */
static int
cpu_count(struct parse *p, const char *key, unsigned *val)
{
	const char *s = line_key(p->m->cpu.argv, key);
	uint64_t n = line_u64(p->m->cpu.argv, key, 0);

	if (s != NULL && (n < 1 || n > NVCPU_MAX))
		return bad(p, "cpu: %s=%s: not 1 to %d", key, s, NVCPU_MAX);
	if (s != NULL)
		*val = (unsigned)n;
	return 0;
}

/* cores= and threads= are ours: the vcpu reads them in the map. */
static int
do_cpu(struct parse *p, char **argv)
{
	struct mpart *c = &p->m->cpu;
	int i, n = 0;

	p->cpu_line = p->lineno;
	if (add_words(p, c, argv + 1, true) < 0 ||
	    cpu_count(p, "smp", &p->m->smp) < 0 ||
	    cpu_count(p, "cores", &p->m->topo.cores) < 0 ||
	    cpu_count(p, "threads", &p->m->topo.threads) < 0)
		return -1;
	for (i = 0; i < c->n; i++)
		if (strncmp(c->argv[i], "cores=", 6) != 0 &&
		    strncmp(c->argv[i], "threads=", 8) != 0)
			c->argv[n++] = c->argv[i];
	while (c->n > n)
		c->argv[--c->n] = NULL;
	return 0;
}

/* Sockets are as many as it takes; one, if it is not said how many cores. */
static int
topology(struct parse *p)
{
	struct topology *t = &p->m->topo;
	unsigned n = p->m->smp;

	p->lineno = p->cpu_line;
	if (t->threads == 0)
		t->threads = 1;
	if (t->cores == 0)
		t->cores = n >= t->threads ? n / t->threads : 1;
	if (n % (t->cores * t->threads) != 0)
		return bad(p, "cpu: smp=%u: no sockets of %u cores of %u "
		    "threads", n, t->cores, t->threads);
	/* a message has eight bits for it, and 255 means all */
	if (topo_apic_id(t, n - 1) >= 255)
		return bad(p, "cpu: smp=%u: sockets of %u cores of %u threads "
		    "need APIC IDs over 254", n, t->cores, t->threads);
	return 0;
}

static int
do_part(struct parse *p, char **argv)
{
	struct mfile *m = p->m;
	struct mpart *mp;
	unsigned i;

	if (argv[1] == NULL || !part_name_ok(argv[1]) ||
	    strcmp(argv[1], "cpu") == 0 || strcmp(argv[1], "bus") == 0)
		return bad(p, "part: bad name '%s'",
		    argv[1] != NULL ? argv[1] : "");
	for (i = 0; i < m->npart; i++)
		if (strcmp(m->part[i].name, argv[1]) == 0)
			return bad(p, "part '%s' is there twice", argv[1]);
	if (argv[2] == NULL || strncmp(argv[2], "dev=", 4) != 0 ||
	    !part_name_ok(argv[2] + 4))
		return bad(p, "part %s: dev=CHIP must follow the name",
		    argv[1]);
	if (m->npart == PART_MAX - 1)
		return bad(p, "more than %d parts", PART_MAX - 1);
	mp = &m->part[m->npart++];
	mp->name = argv[1];
	mp->chip = argv[2] + 4;
	return add_words(p, mp, argv + 3, false);
}

static int
statement(struct parse *p, char **argv)
{
	struct mfile *m = p->m;
	const char *k = argv[0];

	if (strcmp(k, "name") == 0) {
		if (argv[1] == NULL || argv[2] != NULL ||
		    strlen(argv[1]) > 60 || strchr(argv[1], '/') != NULL ||
		    argv[1][0] == '.' || argv[1][0] == '\0')
			return bad(p, "bad name '%s'",
			    argv[1] != NULL ? argv[1] : "");
		m->name = argv[1];
		return 0;
	}
	if (strcmp(k, "uuid") == 0) {
		if (argv[1] == NULL || argv[2] != NULL ||
		    strlen(argv[1]) != 36)
			return bad(p, "bad uuid");
		m->uuid = argv[1];
		return 0;
	}
	if (strcmp(k, "ram") == 0)
		return keys(p, argv, do_ram);
	if (strcmp(k, "boot") == 0)
		return keys(p, argv, do_boot);
	if (strcmp(k, "run") == 0)
		return keys(p, argv, do_run);
	if (strcmp(k, "log") == 0)
		return keys(p, argv, do_log);
	if (strcmp(k, "cpu") == 0)
		return do_cpu(p, argv);
	if (strcmp(k, "part") == 0)
		return do_part(p, argv);
	return bad(p, "unknown statement '%s'", k);
}

static char *
slurp(const char *path)
{
	char *buf;
	size_t n;
	FILE *f;

	f = fopen(path, "re");
	if (f == NULL)
		return NULL;
	buf = malloc(FILE_MAX_BYTES + 1);
	if (buf != NULL) {
		n = fread(buf, 1, FILE_MAX_BYTES, f);
		buf[n] = '\0';
		if (ferror(f) || n == FILE_MAX_BYTES) {
			errno = ferror(f) ? EIO : EFBIG;
			free(buf);
			buf = NULL;
		}
	}
	fclose(f);
	return buf;
}

int
mfile_read(struct mfile *m, const char *path, char *why, size_t whylen)
{
	struct parse p = { m, path, 0, why, whylen };
	char *argv[WORDS_MAX + 8], *line, *next, *copy;
	int n;

	memset(m, 0, sizeof *m);
	m->ram = 128 << 20;
	m->smp = 1;
	m->start = true;
	m->hpet = false;
	m->cpu.name = m->cpu.chip = "cpu";
	m->text = slurp(path);
	if (m->text == NULL || (copy = strdup(m->text)) == NULL) {
		snprintf(why, whylen, "%s: %s", path, strerror(errno));
		return -1;
	}
	for (line = copy; line != NULL; line = next) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		p.lineno++;
		line += strspn(line, " \t");
		if (*line == '#' || *line == '\0')
			continue;
		n = line_split(line, argv, WORDS_MAX + 8);
		if (n < 0)
			return bad(&p, "%s", errno == E2BIG ? "too many words" :
			    "a quote is left open");
		if (n > 0 && statement(&p, argv) < 0)
			return -1;
	}
	p.lineno++;
	if (m->name == NULL)
		return bad(&p, "there is no name statement");
	if (topology(&p) < 0)
		return -1;
	if (m->ram % PAGE_SIZE_4K != 0)
		m->ram -= m->ram % PAGE_SIZE_4K;
	for (n = 0; (unsigned)n < m->npart; n++)
		if (strcmp(m->part[n].chip, "hpet") == 0)
			m->hpet = true;
	return 0;
}
