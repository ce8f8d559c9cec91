/*
 * net-nbd-name.c - the names of NBD servers: QEMU's
 *	nbd:HOST:PORT[:exportname=NAME]		nbd:unix:PATH[:exportname=NAME]
 * the URIs of the NBD project (doc/uri.md)
 *	nbd://HOST[:PORT]/[NAME]		nbd+unix:///[NAME]?socket=PATH
 * and options of the driver.
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
}

char *
nbd_name_url(const struct nbd_name *n)
{
	const char *x = n->export;
	char *at, *s;
	int r;

	if (n->a.path)
		r = asprintf(&s, *x ? "nbd+unix:///%s?socket=%s" :
		    "nbd+unix://%s?socket=%s", x, n->a.path);
	else {
		at = address_text(&n->a);
		r = asprintf(&s, *x ? "nbd://%s/%s" : "nbd://%s", at, x);
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

static int
url(const char *s, struct nbd_name *n, struct imgerr *e)
{
	bool local = !strncmp(s, "nbd+unix", 8);
	const char *at = strstr(s, "://") + 3, *slash, *query, *sock;
	size_t len = strcspn(at, "/?");

	slash = at + len;
	query = strchr(at, '?');
	if (*slash == '/')
		n->export = strndup(slash + 1, strcspn(slash + 1, "?"));
	else
		n->export = strdup("");
	url_decode(n->export);
	if (!local && query)
		return err_set(e, EINVAL, "error parsing address '%s'", s);
	if (!local)
		return host_port(at, len, &n->a) || !*n->a.host ?
		    err_set(e, EINVAL, "error parsing address '%s'", s) : 0;
	if (len || !query || strncmp(query, "?socket=", 8) ||
	    strchr(query, '&'))
		return err_set(e, EINVAL, "error parsing address '%s'", s);
	sock = query + 8;
	n->a.path = strdup(sock);
	url_decode(n->a.path);
	return 0;
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

int
nbd_name_parse(struct opts *o, struct nbd_name *n, struct imgerr *e)
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
