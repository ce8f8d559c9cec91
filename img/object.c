/*
 * object.c - what --object makes: secrets (here), credentials and authorizations
 * for TLS.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

struct secret {
	char		*id, *data;
	struct secret	*next;
};
static struct secret *secrets;

const char *
img_secret(const char *id)
{
	for (struct secret *s = secrets; s; s = s->next)
		if (!strcmp(s->id, id))
			return s->data;
	errno = ENOENT;
	return NULL;
}

static char *
slurp(const char *file)
{
	FILE *f = fopen(file, "re");
	char *s = NULL;
	size_t cap = 0, n = 0;

	if (!f)
		return NULL;
	for (;;) {
		if (n + 1025 > cap && !(s = realloc(s, cap = n + 4096)))
			abort();
		size_t k = fread(s + n, 1, 1024, f);
		if (!k)
			break;
		n += k;
		if (n > 1 << 20)
			break;
	}
	s[n] = 0;
	fclose(f);
	return s;
}

static char *
unbase64(const char *s)
{
	static const char tab[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
	    "qrstuvwxyz0123456789+/";
	char *out = calloc(1, strlen(s) + 1), *w = out;
	unsigned acc = 0, bits = 0;

	for (; *s && *s != '='; s++) {
		const char *p = strchr(tab, *s);

		if (*s == '\n')
			continue;
		if (!p) {
			free(out);
			return NULL;
		}
		acc = acc << 6 | (unsigned)(p - tab);
		if ((bits += 6) >= 8)
			*w++ = (char)(acc >> (bits -= 8));
	}
	return out;
}

static int
secret_add(struct opts *o, struct imgerr *e)
{
	const char *id = opts_get(o, "id"), *data = opts_get(o, "data");
	const char *file = opts_get(o, "file"), *fmt = opts_get(o, "format");
	struct secret *s;
	char *v, *d;

	if (!id)
		return err_set(e, EINVAL, "Parameter 'id' is missing");
	if (!data == !file)
		return err_set(e, EINVAL, data ? "'file' and 'data' are "
		    "mutually exclusive" : "Either 'file' or 'data' must be "
		    "provided");
	if (opts_peek(o, "keyid"))
		return err_set(e, ENOTSUP, "secret '%s': encrypted secrets "
		    "(keyid) are not implemented", id);
	v = file ? slurp(file) : strdup(data);
	if (!v)
		return err_set(e, errno, "Unable to read %s: %s", file,
		    strerror(errno));
	if (fmt && !strcmp(fmt, "base64")) {
		d = unbase64(v);
		free(v);
		if (!(v = d))
			return err_set(e, EINVAL, "Base64 data '%s' is not "
			    "valid", data ? data : file);
	}
	s = calloc(1, sizeof(*s));
	s->id = strdup(id);
	s->data = v;
	s->next = secrets;
	secrets = s;
	return 0;
}

/* --------------------------------------------------------------- objects */

int
img_object_add(const char *def, struct imgerr *e)
{
	struct opts o = { 0 };
	const char *type;
	int r = -1;

	if (opts_text(&o, def, "qom-type", e))
		goto out;
	if (!(type = opts_get(&o, "qom-type")))
		err_set(e, EINVAL, "Parameter 'qom-type' is missing");
	else if (!strcmp(type, "secret"))
		r = secret_add(&o, e);
	else if (!strcmp(type, "tls-creds-x509") ||
	    !strcmp(type, "tls-creds-psk"))
		r = tls_creds_add(type, &o, e);
	else if (!strcmp(type, "authz-simple"))
		r = tls_authz_add(&o, e);
	else
		err_set(e, ENOTSUP, "Parameter 'qom-type' does not accept value "
		    "'%s'", type);
out:
	opts_free(&o);
	return r;
}
