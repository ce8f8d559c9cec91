/*
 * net-nbd-name.c - the names of NBD servers: QEMU's
 *	nbd:HOST:PORT[:exportname=NAME]		nbd:unix:PATH[:exportname=NAME]
 * the URIs of the NBD project (doc/uri.md)
 *	nbd://HOST[:PORT]/[NAME]		nbd+unix:///[NAME]?socket=PATH
 *	nbds://[USER@]HOST[:PORT]/[NAME]	nbds+unix:///[NAME]?socket=PATH
 * the secret ones with tls-certificates=DIRECTORY, tls-psk-file=FILE, and
 * tls-verify-peer=, tls-hostname= after the `?'; and options of the driver.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net-nbd.h"

#define PORT	"10809"

void
nbd_name_free(struct nbd_name *n)
{
	address_free(&n->a);
	free(n->export);
	free(n->hostname);
}

char *
nbd_name_url(const struct nbd_name *n)
{
	const char *x = n->export, *secret = n->tls ? "s" : "";
	char *at, *s;
	int r;

	if (n->a.path)
		r = asprintf(&s, *x ? "nbd%s+unix:///%s?socket=%s" :
		    "nbd%s+unix://%s?socket=%s", secret, x, n->a.path);
	else {
		at = address_text(&n->a);
		r = asprintf(&s, *x ? "nbd%s://%s/%s" : "nbd%s://%s", secret,
		    at, x);
		free(at);
	}
	return r < 0 ? NULL : s;
}

/* HOST, HOST:PORT, [HOST]:PORT of `n` bytes. */
static int
host_port(const char *s, size_t len, struct address *a)
{
	const char *end = s + len, *host = s, *hend, *colon;

	if (*s == '[') {
		host++;
		if (!(hend = memchr(s, ']', len)))
			return -1;
		colon = hend + 1 < end ? hend + 1 : NULL;
		if (colon && *colon != ':')
			return -1;
	} else {
		colon = memchr(s, ':', len);
		hend = colon ? colon : end;
	}
	a->host = strndup(host, (size_t)(hend - host));
	a->port = colon && colon + 1 < end ? strndup(colon + 1, (size_t)(end -
	    colon - 1)) : strdup(PORT);
	return 0;
}

/* What follows the `?': `key=value&...'; copies of those in `keys'. */
static int
query(const char *s, const char *const *keys, char **v, size_t n)
{
	while (*s) {
		size_t len = strcspn(s, "&"), key = strcspn(s, "="), i;

		for (i = 0; i < n; i++)
			if (strlen(keys[i]) == key && !strncmp(keys[i], s, key))
				break;
		if (i == n || key >= len || v[i])
			return -1;
		v[i] = strndup(s + key + 1, len - key - 1);
		url_decode(v[i]);
		s += len + (s[len] == '&');
	}
	return 0;
}

/* The credentials that a URI names. */
static int
url_creds(struct nbd_name *n, char *user, char *const *v, const char *s,
    struct imgerr *e)
{
	struct opts o = { 0 };

	if (!v[1] && !v[2])
		return 0;
	opts_set(&o, "id", s);
	opts_set(&o, "endpoint", "client");
	if (v[1])
		opts_set(&o, "dir", v[1]);
	else
		opts_set(&o, "file", v[2]);
	if (v[2] && user)
		opts_set(&o, "username", user);
	if (v[3])
		opts_set(&o, "verify-peer", v[3]);
	if (!tls_creds_add(v[1] ? "tls-creds-x509" : "tls-creds-psk", &o, e))
		n->creds = tls_creds_find(s, false, e);
	opts_free(&o);
	return n->creds ? 0 : -1;
}

static int
url(const char *s, struct nbd_name *n, struct imgerr *e)
{
	static const char *const keys[] = { "socket", "tls-certificates",
		"tls-psk-file", "tls-verify-peer", "tls-hostname" };
	char *v[5] = { NULL }, *user = NULL;
	const char *at = strstr(s, "://") + 3, *slash, *q, *u;
	size_t len = strcspn(at, "/?");
	int r = -1;

	n->tls = !strncmp(s, "nbds", 4);
	slash = at + len;
	if ((u = memchr(at, '@', len)) && n->tls) {
		user = strndup(at, (size_t)(u - at));
		url_decode(user);
		len -= (size_t)(u + 1 - at);
		at = u + 1;
	}
	n->export = strndup(*slash == '/' ? slash + 1 : "", strcspn(*slash ==
	    '/' ? slash + 1 : "", "?"));
	url_decode(n->export);
	q = strchr(slash, '?');
	if (q && query(q + 1, keys, v, n->tls ? 5 : 1))
		goto bad;
	if (!strncmp(s + 3 + n->tls, "+unix", 5)) {
		if (len || !v[0])
			goto bad;
		n->a.path = v[0];
		v[0] = NULL;
	} else if (v[0] || host_port(at, len, &n->a) || !*n->a.host)
		goto bad;
	n->hostname = v[4];
	v[4] = NULL;
	r = url_creds(n, user, v, s, e);
	goto out;
bad:
	err_set(e, EINVAL, "error parsing address '%s'", s);
out:
	for (int i = 0; i < 5; i++)
		free(v[i]);
	free(user);
	return r;
}

static int
plain(const char *s, struct nbd_name *n, struct imgerr *e)
{
	const char *x = strstr(s, ":exportname=");
	size_t len = x ? (size_t)(x - s) : strlen(s);

	n->export = strdup(x ? x + 12 : "");
	if (!len)
		return err_set(e, EINVAL, "NBD server address missing");
	if (!strncmp(s, "unix:", 5)) {
		n->a.path = strndup(s + 5, len - 5);
		return 0;
	}
	if (!memchr(s, ':', len) || host_port(s, len, &n->a))
		return err_set(e, EINVAL, "error parsing address '%.*s'",
		    (int)len, s);
	return 0;
}

static char *
copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static int
server(struct opts *o, struct nbd_name *n, struct imgerr *e)
{
	const char *type = opts_get(o, "server.type");
	const char *prefix = type ? "server." : "";
	static const char *const what[] = { "host", "port", "path" };
	const char *v[3];
	char key[32];

	for (int i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), "%s%s", prefix, what[i]);
		v[i] = opts_get(o, key);
	}
	n->a = (struct address){ copy(v[0]), copy(v[1]), copy(v[2]) };
	n->export = strdup(opts_peek(o, "export") ? opts_get(o, "export") : "");
	if (!type && v[0] && v[2])
		return err_set(e, EINVAL, "path and host may not be used at "
		    "the same time");
	if (type && strcmp(type, "inet") && strcmp(type, "unix"))
		return err_set(e, EINVAL, "Parameter 'server.type' does not "
		    "accept value '%s'", type);
	if (type && !strcmp(type, "unix") ? !v[2] : type && (!v[0] || !v[1]))
		return err_set(e, EINVAL, "Parameter '%s' is missing",
		    !strcmp(type, "unix") ? "path" : v[0] ? "port" : "host");
	if (!v[0] && !v[2])
		return err_set(e, EINVAL, "NBD server address missing");
	if (!n->a.path && !n->a.port)
		n->a.port = strdup(PORT);
	return 0;
}

static int
tls(struct opts *o, struct nbd_name *n, struct imgerr *e)
{
	const char *id = opts_get(o, "tls-creds");
	const char *host = opts_get(o, "tls-hostname");

	if (id) {
		if (!(n->creds = tls_creds_find(id, false, e)))
			return -1;
		n->tls = true;
	}
	if (n->tls && !n->creds)
		return err_set(e, EINVAL, "TLS needs credentials: tls-creds=, "
		    "or tls-certificates= or tls-psk-file= in the URI");
	if (host && !n->creds)
		return err_set(e, EINVAL, "tls-hostname without tls-creds");
	if (host) {
		free(n->hostname);
		n->hostname = strdup(host);
	}
	if (n->creds && !n->hostname && n->a.host)
		n->hostname = strdup(n->a.host);
	if (n->creds && !n->creds->psk && n->creds->verify && !n->hostname)
		return err_set(e, EINVAL, "TLS on a local socket needs "
		    "tls-hostname, the name in the server's certificate");
	return 0;
}

static int
where(struct opts *o, struct nbd_name *n, struct imgerr *e)
{
	const char *name = opts_get(o, "filename");

	if (!name)
		return server(o, n, e);
	if (opts_peek(o, "host") || opts_peek(o, "port") ||
	    opts_peek(o, "path"))
		return err_set(e, EINVAL, "host/port/path and file names may "
		    "not be specified at the same time");
	if (strstr(name, "://"))
		return url(name, n, e);
	return plain(!strncmp(name, "nbd:", 4) ? name + 4 : name, n, e);
}

int
nbd_name_parse(struct opts *o, struct nbd_name *n, struct imgerr *e)
{
	return where(o, n, e) || tls(o, n, e) ? -1 : 0;
}
