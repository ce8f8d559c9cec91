/*
 * json.c - JSON values (RFC 8259): a parser for json: file names, and the two
 * layouts of qemu-img's output.
 *
 * QEMU keeps dictionaries in a table of 512 hash buckets and prints them in
 * bucket order, so its key order is that of the hash of TDB, Samba's trivial
 * database, over the key.  Scripts should not care; byte-equal output does.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img.h"

struct js *
js_new(enum jtype t)
{
	struct js *j = calloc(1, sizeof(*j));

	if (!j)
		abort();
	j->type = t;
	return j;
}

struct js *
js_add(struct js *to, const char *key, struct js *v)
{
	free(v->key);
	v->key = key ? strdup(key) : NULL;
	v->next = NULL;
	if (to->last)
		to->last->next = v;
	else
		to->kid = v;
	to->last = v;
	return v;
}

struct js *
js_str(struct js *to, const char *key, const char *s)
{
	struct js *j = js_new(JSTR);

	j->s = strdup(s);
	return to ? js_add(to, key, j) : j;
}

struct js *
js_int(struct js *to, const char *key, int64_t i)
{
	struct js *j = js_new(JINT);

	j->i = i;
	return to ? js_add(to, key, j) : j;
}

struct js *
js_bool(struct js *to, const char *key, bool b)
{
	struct js *j = js_new(JBOOL);

	j->b = b;
	return to ? js_add(to, key, j) : j;
}

struct js *
js_get(const struct js *o, const char *key)
{
	struct js *k;

	for (k = o->kid; k; k = k->next)
		if (k->key && !strcmp(k->key, key))
			return k;
	return NULL;
}

void
js_free(struct js *j)
{
	struct js *k, *n;

	if (!j)
		return;
	for (k = j->kid; k; k = n) {
		n = k->next;
		js_free(k);
	}
	free(j->key);
	free(j->s);
	free(j);
}

static unsigned
bucket(const char *s)
{
	uint32_t v = 0x238F13AFu * (uint32_t)strlen(s);

	for (int i = 0; s[i]; i++)
		v += (uint32_t)(unsigned char)s[i] << (i * 5 % 24);
	return (1103515243u * v + 12345u) % 512;
}

void
js_sort(struct js *j)
{
	struct js *k, *n, *out = NULL, **p;

	for (k = j->kid; k; k = k->next)
		js_sort(k);
	if (j->type != JDICT)
		return;
	for (k = j->kid; k; k = n) {
		n = k->next;
		/* a later key goes in front of its bucket */
		for (p = &out; *p && bucket((*p)->key) < bucket(k->key);)
			p = &(*p)->next;
		k->next = *p;
		*p = k;
	}
	j->kid = out;
	for (j->last = out; j->last && j->last->next;)
		j->last = j->last->next;
}

/* --------------------------------------------------------------- output */

static void
quote(FILE *f, const char *s)
{
	putc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		switch (c) {
		case '"': fputs("\\\"", f); break;
		case '\\': fputs("\\\\", f); break;
		case '\b': fputs("\\b", f); break;
		case '\f': fputs("\\f", f); break;
		case '\n': fputs("\\n", f); break;
		case '\r': fputs("\\r", f); break;
		case '\t': fputs("\\t", f); break;
		default:
			if (c < 0x20 || c == 0x7f)
				fprintf(f, "\\u%04X", c);
			else
				putc(c, f);
		}
	}
	putc('"', f);
}

static void
nl(FILE *f, bool pretty, int lv)
{
	if (pretty)
		fprintf(f, "\n%*s", lv * 4, "");
}

static void
emit(FILE *f, const struct js *j, bool pretty, int lv)
{
	const struct js *k;
	char end;

	switch (j->type) {
	case JNULL: fputs("null", f); return;
	case JBOOL: fputs(j->b ? "true" : "false", f); return;
	case JINT: fprintf(f, "%lld", (long long)j->i); return;
	case JUINT: fprintf(f, "%llu", (unsigned long long)j->u); return;
	case JDOUBLE: fprintf(f, "%.17g", j->d); return;
	case JSTR: quote(f, j->s); return;
	case JLIST:
	case JDICT: break;
	}
	putc(j->type == JLIST ? '[' : '{', f);
	end = j->type == JLIST ? ']' : '}';
	for (k = j->kid; k; k = k->next) {
		nl(f, pretty, lv + 1);
		if (k->key && j->type == JDICT) {
			quote(f, k->key);
			fputs(": ", f);
		}
		emit(f, k, pretty, lv + 1);
		if (k->next)
			fputs(pretty ? "," : ", ", f);
	}
	nl(f, pretty, lv);
	putc(end, f);
}

char *
js_text(const struct js *j, bool pretty)
{
	char *s = NULL;
	size_t n;
	FILE *f = open_memstream(&s, &n);

	emit(f, j, pretty, 0);
	fclose(f);
	return s;
}

static void
human(FILE *f, const struct js *j, int lv)
{
	const struct js *k;
	int i = 0;

	for (k = j->kid; k; k = k->next, i++) {
		bool comp = k->type == JLIST || k->type == JDICT;

		fprintf(f, "%*s", lv * 4, "");
		if (j->type == JLIST)
			fprintf(f, "[%d]:", i);
		else {
			for (const char *p = k->key; *p; p++)
				putc(*p == '-' ? ' ' : *p, f);
			putc(':', f);
		}
		putc(comp ? '\n' : ' ', f);
		if (comp) {
			human(f, k, lv + 1);
			continue;
		}
		if (k->type == JSTR)
			fputs(k->s, f);
		else
			emit(f, k, false, 0);
		putc('\n', f);
	}
}

char *
js_human(const struct js *j, int lv)
{
	char *s = NULL;
	size_t n;
	FILE *f = open_memstream(&s, &n);

	human(f, j, lv);
	fclose(f);
	return s;
}

/* --------------------------------------------------------------- parser */

struct in {
	const char	*p;
	int		depth;
	struct imgerr	*e;
};

static void
ws(struct in *in)
{
	while (*in->p && strchr(" \t\r\n", *in->p))
		in->p++;
}

static void
utf8(FILE *f, unsigned c)
{
	if (c < 0x80) {
		putc((int)c, f);
	} else if (c < 0x800) {
		putc((int)(0xc0 | c >> 6), f);
		putc((int)(0x80 | (c & 63)), f);
	} else if (c < 0x10000) {
		putc((int)(0xe0 | c >> 12), f);
		putc((int)(0x80 | (c >> 6 & 63)), f);
		putc((int)(0x80 | (c & 63)), f);
	} else {
		putc((int)(0xf0 | c >> 18), f);
		putc((int)(0x80 | (c >> 12 & 63)), f);
		putc((int)(0x80 | (c >> 6 & 63)), f);
		putc((int)(0x80 | (c & 63)), f);
	}
}

static int
hex4(struct in *in, unsigned *v)
{
	char b[5] = { 0 };
	char *end;

	for (int i = 0; i < 4; i++)
		if (!(b[i] = in->p[i]))
			return -1;
	*v = (unsigned)strtoul(b, &end, 16);
	if (*end)
		return -1;
	in->p += 4;
	return 0;
}

static char *
str(struct in *in)
{
	char q = *in->p++, *s = NULL;
	size_t n;
	FILE *f = open_memstream(&s, &n);
	unsigned u, lo;

	for (; *in->p && *in->p != q; ) {
		char c = *in->p++;

		if (c != '\\') {
			putc(c, f);
			continue;
		}
		c = *in->p ? *in->p++ : 0;
		switch (c) {
		case 'b': putc('\b', f); break;
		case 'f': putc('\f', f); break;
		case 'n': putc('\n', f); break;
		case 'r': putc('\r', f); break;
		case 't': putc('\t', f); break;
		case '"': case '\'': case '\\': case '/': putc(c, f); break;
		case 'u':
			if (hex4(in, &u) || !u)
				goto bad;
			if (u >= 0xd800 && u < 0xdc00) {
				if (in->p[0] != '\\' || in->p[1] != 'u')
					goto bad;
				in->p += 2;
				if (hex4(in, &lo) || lo < 0xdc00 || lo > 0xdfff)
					goto bad;
				u = 0x10000 + ((u & 0x3ff) << 10) +
				    (lo & 0x3ff);
			}
			utf8(f, u);
			break;
		default:
			goto bad;
		}
	}
	if (*in->p != q)
		goto bad;
	in->p++;
	fclose(f);
	return s;
bad:
	fclose(f);
	free(s);
	err_set(in->e, EINVAL, *in->p ? "JSON parse error, invalid string" :
	    "JSON parse error, premature EOI");
	return NULL;
}

static struct js *value(struct in *);

static struct js *
compound(struct in *in, bool dict)
{
	struct js *j = js_new(dict ? JDICT : JLIST), *v;
	char end = dict ? '}' : ']', *key = NULL;

	in->p++;
	if (++in->depth > 256) {
		err_set(in->e, EINVAL, "JSON parse error, nested too deeply");
		goto bad;
	}
	ws(in);
	while (*in->p != end) {
		key = NULL;
		if (dict) {
			if (*in->p != '"' && *in->p != '\'') {
				err_set(in->e, EINVAL, *in->p ?
				    "JSON parse error, key is not a string in "
				    "object" :
				    "JSON parse error, premature EOI");
				goto bad;
			}
			if (!(key = str(in)))
				goto bad;
			ws(in);
			if (*in->p != ':') {
				err_set(in->e, EINVAL, *in->p ?
				    "JSON parse error, missing : in object "
				    "pair" : "JSON parse error, premature EOI");
				goto bad;
			}
			in->p++;
		}
		if (!(v = value(in)))
			goto bad;
		if (dict && js_get(j, key)) {
			js_free(v);
			err_set(in->e, EINVAL, "JSON parse error, duplicate key");
			goto bad;
		}
		js_add(j, key, v);
		free(key);
		key = NULL;
		ws(in);
		if (*in->p == ',') {
			in->p++;
			ws(in);
			if (*in->p != end)
				continue;
		} else if (*in->p == end)
			break;
		err_set(in->e, EINVAL, *in->p ? dict ?
		    "JSON parse error, expected separator in dict" :
		    "JSON parse error, expected separator in list" :
		    "JSON parse error, premature EOI");
		goto bad;
	}
	in->p++;
	in->depth--;
	return j;
bad:
	free(key);
	js_free(j);
	return NULL;
}

static struct js *
value(struct in *in)
{
	static const struct { const char *w; enum jtype t; bool b; } word[] = {
		{ "true", JBOOL, true }, { "false", JBOOL, false },
		{ "null", JNULL, false },
	};
	struct js *j;
	char *end;
	size_t i;

	ws(in);
	if (*in->p == '{' || *in->p == '[')
		return compound(in, *in->p == '{');
	if (*in->p == '"' || *in->p == '\'') {
		char *s = str(in);

		if (!s)
			return NULL;
		j = js_new(JSTR);
		j->s = s;
		return j;
	}
	for (i = 0; i < 3; i++)
		if (!strncmp(in->p, word[i].w, strlen(word[i].w))) {
			in->p += strlen(word[i].w);
			j = js_new(word[i].t);
			j->b = word[i].b;
			return j;
		}
	if (*in->p == '-' || (*in->p >= '0' && *in->p <= '9')) {
		size_t n = strspn(in->p, "-+.eE0123456789");

		j = js_new(JINT);
		errno = 0;
		if (memchr(in->p, '.', n) || memchr(in->p, 'e', n) ||
		    memchr(in->p, 'E', n)) {
			j->type = JDOUBLE;
			j->d = strtod(in->p, &end);
		} else {
			j->i = strtoll(in->p, &end, 10);
			if (errno && *in->p != '-') {
				j->type = JUINT;
				j->u = strtoull(in->p, &end, 10);
			}
		}
		in->p = end;
		return j;
	}
	err_set(in->e, EINVAL, *in->p ? "JSON parse error, invalid keyword" :
	    "JSON parse error, premature EOI");
	return NULL;
}

struct js *
js_parse(const char *text, struct imgerr *e)
{
	struct in in = { text, 0, e };
	struct js *j = value(&in);

	if (!j)
		return NULL;
	ws(&in);
	if (*in.p) {
		js_free(j);
		err_set(e, EINVAL, "JSON parse error, expecting value");
		return NULL;
	}
	return j;
}
