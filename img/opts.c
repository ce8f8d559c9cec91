/*
 * opts.c - options as flat key=value lists ("file.filename=x"), the form that
 * -o, --image-opts and json: names all come down to; sizes; secrets.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "img.h"

int
err_set(struct imgerr *e, int eno, const char *fmt, ...)
{
	va_list ap;

	if (e) {
		va_start(ap, fmt);
		vsnprintf(e->s, sizeof(e->s), fmt, ap);
		va_end(ap);
	}
	errno = eno;
	return -1;
}

int
err_pre(struct imgerr *e, const char *fmt, ...)
{
	int eno = errno;
	char old[sizeof(e->s)];
	va_list ap;
	size_t n;

	if (e) {
		memcpy(old, e->s, sizeof(old));
		va_start(ap, fmt);
		vsnprintf(e->s, sizeof(e->s), fmt, ap);
		va_end(ap);
		n = strlen(e->s);
		snprintf(e->s + n, sizeof(e->s) - n, "%s", old);
	}
	errno = eno;
	return -1;
}

static struct optval *
find(const struct opts *o, const char *key)
{
	struct optval *p;

	for (p = o ? o->head : NULL; p; p = p->next)
		if (!strcmp(p->key, key))
			return p;
	return NULL;
}

void
opts_set(struct opts *o, const char *key, const char *val)
{
	struct optval *p = find(o, key), **q;
	char *v = strdup(val);

	if (p) {
		free(p->val);
		p->val = v;
		return;
	}
	for (q = &o->head; *q; q = &(*q)->next)
		;
	*q = calloc(1, sizeof(**q));
	if (!*q)
		abort();
	(*q)->key = strdup(key);
	(*q)->val = v;
}

void
opts_setf(struct opts *o, const char *key, const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	opts_set(o, key, s);
	free(s);
}

const char *
opts_get(struct opts *o, const char *key)
{
	struct optval *p = find(o, key);

	if (!p)
		return NULL;
	p->used = true;
	return p->val;
}

const char *
opts_peek(const struct opts *o, const char *key)
{
	struct optval *p = find(o, key);

	return p ? p->val : NULL;
}

static void
opt_free(struct optval *p)
{
	free(p->key);
	free(p->val);
	free(p);
}

void
opts_del(struct opts *o, const char *key)
{
	struct optval **q, *p;

	for (q = &o->head; (p = *q);) {
		if (!strcmp(p->key, key)) {
			*q = p->next;
			opt_free(p);
		} else
			q = &p->next;
	}
}

bool
opts_sub(struct opts *o, const char *prefix, struct opts *to)
{
	size_t n = strlen(prefix);
	struct optval **q, *p;
	bool any = false;

	for (q = &o->head; (p = *q);) {
		if (!strncmp(p->key, prefix, n) && p->key[n] == '.') {
			opts_set(to, p->key + n + 1, p->val);
			*q = p->next;
			opt_free(p);
			any = true;
		} else
			q = &p->next;
	}
	return any;
}

void
opts_copy(struct opts *to, const struct opts *from)
{
	struct optval *p;

	for (p = from ? from->head : NULL; p; p = p->next)
		opts_set(to, p->key, p->val);
}

void
opts_free(struct opts *o)
{
	struct optval *p, *n;

	if (!o)
		return;
	for (p = o->head; p; p = n) {
		n = p->next;
		opt_free(p);
	}
	o->head = NULL;
}

int
opts_text(struct opts *o, const char *s, const char *first, struct imgerr *e)
{
	char *buf = malloc(strlen(s) + 4), *w, *eq;
	bool head = true;

	if (!buf)
		return err_set(e, ENOMEM, "Out of memory");
	while (*s) {
		for (w = buf; *s; *w++ = *s++)
			if (*s == ',' && *++s != ',') {
				s--;
				break;
			}
		*w = 0;
		if (*s == ',')
			s++;
		eq = strchr(buf, '=');
		if (eq) {
			*eq = 0;
			opts_set(o, buf, eq + 1);
		} else if (head && first) {
			opts_set(o, first, buf);
		} else if (!strcmp(buf, "help") || !strcmp(buf, "?")) {
			opts_set(o, "help", "on");
		} else if (!strncmp(buf, "no", 2) && buf[2]) {
			opts_set(o, buf + 2, "off");
		} else if (*buf) {
			opts_set(o, buf, "on");
		}
		head = false;
	}
	free(buf);
	return 0;
}

static int
flat(struct opts *o, const char *pre, const struct js *v, struct imgerr *e)
{
	char key[512], num[40];
	const struct js *k;
	int i = 0;

	switch (v->type) {
	case JNULL: opts_set(o, pre, "\001null"); return 0;
	case JBOOL: opts_set(o, pre, v->b ? "on" : "off"); return 0;
	case JSTR: opts_set(o, pre, v->s); return 0;
	case JINT: snprintf(num, sizeof(num), "%lld", (long long)v->i); break;
	case JUINT: snprintf(num, sizeof(num), "%llu", (unsigned long long)v->u); break;
	case JDOUBLE: snprintf(num, sizeof(num), "%.17g", v->d); break;
	case JLIST:
	case JDICT:
		for (k = v->kid; k; k = k->next, i++) {
			if (v->type == JLIST)
				snprintf(num, sizeof(num), "%d", i);
			snprintf(key, sizeof(key), "%s%s%s", pre,
			    *pre ? "." : "", v->type == JLIST ? num : k->key);
			if (flat(o, key, k, e))
				return -1;
		}
		return 0;
	}
	opts_set(o, pre, num);
	return 0;
}

int
opts_json(struct opts *o, const struct js *j, struct imgerr *e)
{
	if (j->type != JDICT)
		return err_set(e, EINVAL, "Invalid JSON object given");
	return flat(o, "", j, e);
}

int
opts_bool(struct opts *o, const char *key, bool dflt, bool *v,
    struct imgerr *e)
{
	const char *s = opts_get(o, key);
	static const char *const yes[] = { "on", "yes", "true", "y" };
	static const char *const no[] = { "off", "no", "false", "n" };

	*v = dflt;
	if (!s)
		return 0;
	for (int i = 0; i < 4; i++) {
		if (!strcmp(s, yes[i])) {
			*v = true;
			return 0;
		}
		if (!strcmp(s, no[i])) {
			*v = false;
			return 0;
		}
	}
	return err_set(e, EINVAL, "Parameter '%s' expects 'on' or 'off'", key);
}

int
opts_size(struct opts *o, const char *key, uint64_t dflt, uint64_t *v,
    struct imgerr *e)
{
	const char *s = opts_get(o, key);

	*v = dflt;
	if (!s || !size_parse(s, 'B', v))
		return 0;
	if (errno == ERANGE)
		return err_set(e, EINVAL,
		    "Value '%s' is out of range for parameter '%s'", s, key);
	return err_set(e, EINVAL,
	    "Parameter '%s' expects a non-negative number below 2^64\n"
	    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, "
	    "tera-, peta-\nand exabytes, respectively.", key);
}

int
opts_num(struct opts *o, const char *key, uint64_t dflt, uint64_t *v,
    struct imgerr *e)
{
	const char *s = opts_get(o, key);
	char *end;

	*v = dflt;
	if (!s)
		return 0;
	errno = 0;
	*v = strtoull(s, &end, 0);
	if (errno || *end || end == s || *s == '-')
		return err_set(e, EINVAL, "Parameter '%s' expects a number",
		    key);
	return 0;
}

static int
shift(char c)
{
	switch (toupper((unsigned char)c)) {
	case 'B': return 0;
	case 'K': return 10;
	case 'M': return 20;
	case 'G': return 30;
	case 'T': return 40;
	case 'P': return 50;
	case 'E': return 60;
	}
	return -1;
}

int
size_parse(const char *s, char unit, uint64_t *v)
{
	const char *p = s;
	char *end;
	uint64_t n;
	long double frac = 0;
	int sh;

	while (isspace((unsigned char)*p))
		p++;
	if (*p == '+')
		p++;
	if (!isdigit((unsigned char)*p) && *p != '.')
		goto inval;
	errno = 0;
	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		n = strtoull(p, &end, 16);
		if (end == p + 1 || *end == '.')
			goto inval;
	} else {
		n = strtoull(p, &end, 10);
		if (*end == '.') {
			long double unit1 = 0.1L;

			if (!isdigit((unsigned char)end[1]) && end == p)
				goto inval;
			for (end++; isdigit((unsigned char)*end); end++) {
				frac += (*end - '0') * unit1;
				unit1 /= 10;
			}
			if (*end == 'e' && isdigit((unsigned char)end[1]))
				goto inval;
		}
	}
	if (errno == ERANGE)
		return -1;
	sh = shift(*end ? *end : unit);
	if (sh < 0)
		goto inval;
	if (*end)
		end++;
	if (*end)
		goto inval;
	if (frac != 0 && !sh)
		goto inval;
	if (n >> (63 - sh) > 1 || (sh && n > (UINT64_MAX >> sh))) {
		errno = ERANGE;
		return -1;
	}
	*v = (n << sh) + (uint64_t)(frac * (long double)(1ull << sh) + 0.5L);
	return 0;
inval:
	errno = EINVAL;
	return -1;
}

char *
size_human(uint64_t v, char buf[32])
{
	static const char *const suf[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi",
		"Ei" };
	int i, ex;
	double d;

	/* the unit changes at 1000, so that three digits always suffice */
	frexp((double)v / (1000.0 / 1024.0), &ex);
	i = (ex - 1) / 10;
	if (i < 0)
		i = 0;
	d = (double)v / (double)(1ull << (i * 10));
	snprintf(buf, 32, "%0.3g %sB", d, suf[i]);
	return buf;
}
