/*
 * opts.c - key=value words into an options struct by a table.
 * An OPT_ENUM is an int: the index of the value.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus.h"

int
parse_size(const char *s, uint64_t *out)
{
	static const char units[] = "bkmgtp";
	unsigned shift = 0;
	const char *u;
	char *end;
	uint64_t n;
	double frac = 0, scale = 0.1;

	if (*s < '0' || *s > '9')
		goto bad;
	errno = 0;
	n = strtoull(s, &end, 0);
	if (errno != 0)
		goto bad;
	if (*end == '.') {
		for (end++; *end >= '0' && *end <= '9'; end++, scale /= 10)
			frac += (*end - '0') * scale;
	}
	if (*end != '\0') {
		u = strchr(units, *end | 0x20);
		if (u == NULL)
			goto bad;
		shift = (unsigned)(u - units) * 10;
		end++;
		if (shift != 0 && (*end | 0x20) == 'i')
			end++;
		if (shift != 0 && (*end | 0x20) == 'b')
			end++;
		if (*end != '\0')
			goto bad;
	}
	if (n > UINT64_MAX >> shift)
		goto bad;
	*out = (n << shift) + (uint64_t)(frac * (double)(1ull << shift));
	return 0;
bad:
	errno = EINVAL;
	return -1;
}

static int
parse_num(const char *s, uint64_t max, uint64_t *out)
{
	char *end;

	if (*s < '0' || *s > '9')
		return -1;
	errno = 0;
	*out = strtoull(s, &end, 0);
	return errno != 0 || *end != '\0' || *out > max ? -1 : 0;
}

static int
parse_bool(const char *s, bool *out)
{
	static const char *const yes[] = { "on", "yes", "true", "1", "y" };
	static const char *const no[] = { "off", "no", "false", "0", "n" };
	unsigned i;

	for (i = 0; i < sizeof yes / sizeof yes[0]; i++) {
		if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
			*out = strcmp(s, yes[i]) == 0;
			return 0;
		}
	}
	return -1;
}

/* NULL, or what a value should have been. */
static const char *
set(const struct opt *o, const char *v, void *dst)
{
	void *p = (char *)dst + o->off;
	uint64_t n;
	int i;

	switch (o->type) {
	case OPT_STR:
		*(const char **)p = v;
		return NULL;
	case OPT_BOOL:
		return parse_bool(v, p) == 0 ? NULL : "'on' or 'off'";
	case OPT_U32:
		if (parse_num(v, UINT32_MAX, &n) < 0)
			return "a 32-bit number";
		*(uint32_t *)p = (uint32_t)n;
		return NULL;
	case OPT_U64:
		if (parse_num(v, UINT64_MAX, &n) < 0)
			return "a number";
		*(uint64_t *)p = n;
		return NULL;
	case OPT_SIZE:
		return parse_size(v, p) == 0 ? NULL :
		    "a size (number with K, M, G or T)";
	case OPT_ENUM:
		for (i = 0; o->values[i] != NULL; i++) {
			if (strcmp(v, o->values[i]) == 0) {
				*(int *)p = i;
				return NULL;
			}
		}
		return "one of the values in the help";
	}
	return "of a known type";
}

int
opts_parse(const struct opt *table, char *const *argv, void *dst, char *why,
    size_t whylen)
{
	const struct opt *o;
	const char *eq, *v, *bad;
	size_t n;

	for (o = table; o != NULL && o->name != NULL; o++)
		if (o->def != NULL && (bad = set(o, o->def, dst)) != NULL) {
			snprintf(why, whylen, "default of %s is not %s",
			    o->name, bad);
			return -1;
		}
	for (; *argv != NULL; argv++) {
		eq = strchr(*argv, '=');
		n = eq != NULL ? (size_t)(eq - *argv) : strlen(*argv);
		for (o = table; o != NULL && o->name != NULL; o++)
			if (strlen(o->name) == n &&
			    memcmp(o->name, *argv, n) == 0)
				break;
		if (o == NULL || o->name == NULL) {
			snprintf(why, whylen, "unknown option '%.*s'", (int)n,
			    *argv);
			return -1;
		}
		v = eq != NULL ? eq + 1 : "on";
		if (eq == NULL && o->type != OPT_BOOL) {
			snprintf(why, whylen, "option '%s' needs a value",
			    o->name);
			return -1;
		}
		bad = set(o, v, dst);
		if (bad != NULL) {
			snprintf(why, whylen, "%s=%s: not %s", o->name, v, bad);
			return -1;
		}
	}
	return 0;
}

void
opts_help(const struct opt *o, FILE *f)
{
	static const char *const type[] = {
		"text", "on|off", "number", "number", "size", ""
	};
	int i;

	for (; o != NULL && o->name != NULL; o++) {
		fprintf(f, "  %s=", o->name);
		if (o->type == OPT_ENUM)
			for (i = 0; o->values[i] != NULL; i++)
				fprintf(f, "%s%s", i > 0 ? "|" : "",
				    o->values[i]);
		else
			fputs(type[o->type], f);
		if (o->help != NULL)
			fprintf(f, "  %s", o->help);
		if (o->def != NULL)
			fprintf(f, " (default %s)", o->def);
		putc('\n', f);
	}
}
