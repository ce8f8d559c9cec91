/*
 * Expressions of the monitor: C's operators on 64-bit unsigned numbers,
 * 'c' characters, and $name for a register of the current vcpu.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "mon.h"

struct expr {
	struct mon	*m;
	const char	*p;
	int		depth;
	bool		failed;
};

static uint64_t binary(struct expr *, int);

static uint64_t
bad(struct expr *e, const char *why)
{
	if (!e->failed)
		mon_fail(e->m, "expression: %s%s%s%s", why, *e->p ? " at '" :
		    "", e->p, *e->p ? "'" : "");
	e->failed = true;
	return 0;
}

static void
blank(struct expr *e)
{
	while (isspace((unsigned char)*e->p))
		e->p++;
}

static uint64_t
reg(struct expr *e)
{
	char name[32], q[64], *reply = NULL;
	size_t n = 0;
	uint64_t v;

	while ((isalnum((unsigned char)*e->p) || *e->p == '_') &&
	    n < sizeof(name) - 1)
		name[n++] = tolower((unsigned char)*e->p++);
	name[n] = '\0';
	if (n == 0)
		return bad(e, "a register name is missing");
	snprintf(q, sizeof(q), "reg %u %s", e->m->cpu, name);
	if (e->m->ask(e->m, "cpu", q, &reply) != 0) {
		free(reply);
		mon_fail(e->m, "$%s: no such register", name);
		e->failed = true;
		return 0;
	}
	v = strtoull(reply, NULL, 0);
	free(reply);
	return v;
}

static uint64_t
primary(struct expr *e)
{
	uint64_t v;
	char *end;

	if (e->depth > 100)
		return bad(e, "nested too deeply");
	blank(e);
	switch (*e->p) {
	case '(':
		e->p++;
		e->depth++;
		v = binary(e, 0);
		e->depth--;
		blank(e);
		if (*e->p != ')')
			return bad(e, "')' is missing");
		e->p++;
		return v;
	case '-': case '+': case '~': case '!': {
		char op = *e->p++;

		e->depth++;
		v = primary(e);
		e->depth--;
		return op == '-' ? -v : op == '~' ? ~v : op == '!' ? !v : v;
	}
	case '\'':
		if (e->p[1] == '\0' || e->p[2] != '\'')
			return bad(e, "bad character");
		v = (unsigned char)e->p[1];
		e->p += 3;
		return v;
	case '$':
		e->p++;
		return reg(e);
	}
	if (!isdigit((unsigned char)*e->p))
		return bad(e, *e->p ? "a number is expected" :
		    "a number is missing");
	errno = 0;
	v = strtoull(e->p, &end, 0);
	if (errno)
		return bad(e, "number too large");
	if (isalnum((unsigned char)*end))
		return bad(e, "bad number");
	e->p = end;
	return v;
}

/* Operators by strength, weakest first; those of one row bind alike. */
static const char *const ops[][4] = {
	{ "|" }, { "^" }, { "&" }, { "<<", ">>" }, { "+", "-" },
	{ "*", "/", "%" },
};

static uint64_t
binary(struct expr *e, int row)
{
	uint64_t v, w;
	const char *op;
	size_t i;

	if (row == sizeof(ops) / sizeof(ops[0]))
		return primary(e);
	v = binary(e, row + 1);
	for (;;) {
		if (e->failed)
			return 0;
		blank(e);
		op = NULL;
		for (i = 0; i < 4 && ops[row][i]; i++)
			if (strncmp(e->p, ops[row][i],
			    strlen(ops[row][i])) == 0)
				op = ops[row][i];
		if (op == NULL)
			return v;
		e->p += strlen(op);
		w = binary(e, row + 1);
		if (e->failed)
			return 0;
		switch (*op) {
		case '|': v |= w; break;
		case '^': v ^= w; break;
		case '&': v &= w; break;
		case '<': v = w > 63 ? 0 : v << w; break;
		case '>': v = w > 63 ? 0 : v >> w; break;
		case '+': v += w; break;
		case '-': v -= w; break;
		case '*': v *= w; break;
		default:
			if (w == 0)
				return bad(e, "division by zero");
			v = *op == '/' ? v / w : v % w;
		}
	}
}

int
expr_eval(struct mon *m, int argc, char **argv, uint64_t *val)
{
	struct expr e = { .m = m };
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return mon_fail(m, "expression: %s", strerror(errno));
	for (int i = 0; i < argc; i++)
		fprintf(f, "%s%s", i ? " " : "", argv[i]);
	fclose(f);
	e.p = text;
	*val = binary(&e, 0);
	blank(&e);
	if (!e.failed && *e.p)
		bad(&e, "not understood");
	free(text);
	return e.failed ? -1 : 0;
}
