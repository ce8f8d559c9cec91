/*
 * tls-creds.c - QEMU's objects for TLS:
 *	tls-creds-x509,id=,dir=,endpoint=client|server[,verify-peer=][,priority=]
 *	    [,passwordid=]: ca-cert.pem, ca-crl.pem and the end's own -cert.pem and
 *	    -key.pem in dir
 *	tls-creds-psk,id=,dir=,endpoint=[,username=][,priority=]: keys.psk in dir,
 *	    as psktool(1) makes it
 *	authz-simple,id=,identity=: the name of whom to let in
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tls.h"

static struct tls_creds *all;
static struct authz {
	char		*id, *identity;
	struct authz	*next;
} *authz;

/* DIR/FILE if it is there; malloc'd. */
static char *
in_dir(const struct tls_creds *c, const char *file, bool must, struct imgerr *e)
{
	char *s;

	if (asprintf(&s, "%s/%s", c->dir, file) < 0) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	if (!access(s, R_OK))
		return s;
	if (must || errno != ENOENT)
		err_set(e, errno, "Unable to access credentials %s: %s", s,
		    strerror(errno));
	free(s);
	return NULL;
}

/* Read up to 1 MiB; malloc'd. */
static char *
contents(const char *path, size_t *n, struct imgerr *e)
{
	FILE *f = fopen(path, "re");
	char *b = malloc(MiB);

	*n = f && b ? fread(b, 1, MiB - 1, f) : 0;
	if (f)
		fclose(f);
	if (!*n) {
		err_set(e, EINVAL, "Unable to read credentials %s", path);
		free(b);
		return NULL;
	}
	b[*n] = 0;
	return b;
}

/* A certificate of ours that nobody will take any more is better known now. */
static int
in_time(const char *path, struct imgerr *e)
{
	gnutls_x509_crt_t crt;
	gnutls_datum_t d;
	time_t now = time(NULL);
	size_t n;
	char *b = contents(path, &n, e);
	int r = 0;

	if (!b)
		return -1;
	d = (gnutls_datum_t){ (unsigned char *)b, (unsigned)n };
	if ((r = tls_lib.x509_crt_init(&crt)))
		goto out;
	if (tls_lib.x509_crt_import(crt, &d, GNUTLS_X509_FMT_PEM))
		r = err_set(e, EINVAL, "Cannot load certificate %s", path);
	else if (tls_lib.x509_crt_get_expiration_time(crt) < now)
		r = err_set(e, EINVAL, "The certificate %s has expired", path);
	else if (tls_lib.x509_crt_get_activation_time(crt) > now)
		r = err_set(e, EINVAL, "The certificate %s is not yet active",
		    path);
	tls_lib.x509_crt_deinit(crt);
out:
	free(b);
	return r;
}

static int
own_certificate(struct tls_creds *c, const char *cert, const char *key,
    const char *pw, struct imgerr *e)
{
	int r;

	if (in_time(cert, e))
		return -1;
	r = tls_lib.certificate_set_x509_key_file2(c->cert, cert, key,
	    GNUTLS_X509_FMT_PEM, pw, 0);
	return r < 0 ? err_set(e, EINVAL, "Cannot load certificate '%s' & key "
	    "'%s': %s", cert, key, tls_lib.strerror(r)) : 0;
}

static int
load_x509(struct tls_creds *c, const char *pw, struct imgerr *e)
{
	char *ca = in_dir(c, "ca-cert.pem", true, e), *crl, *cert, *key;
	int r = -1, k;

	if (!ca)
		return -1;
	*e->s = 0;
	crl = in_dir(c, "ca-crl.pem", false, e);
	cert = in_dir(c, c->server ? "server-cert.pem" : "client-cert.pem",
	    c->server, e);
	key = *e->s ? NULL : in_dir(c, c->server ? "server-key.pem" :
	    "client-key.pem", c->server || cert, e);
	if (*e->s || in_time(ca, e))
		goto out;
	if (tls_lib.certificate_allocate_credentials(&c->cert)) {
		err_set(e, ENOMEM, "Out of memory");
		goto out;
	}
	k = tls_lib.certificate_set_x509_trust_file(c->cert, ca,
	    GNUTLS_X509_FMT_PEM);
	if (k < 0) {
		err_set(e, EINVAL, "Cannot load CA certificate '%s': %s", ca,
		    tls_lib.strerror(k));
		goto out;
	}
	if (crl && (k = tls_lib.certificate_set_x509_crl_file(c->cert, crl,
	    GNUTLS_X509_FMT_PEM)) < 0) {
		err_set(e, EINVAL, "Cannot load CRL '%s': %s", crl,
		    tls_lib.strerror(k));
		goto out;
	}
	if (cert && own_certificate(c, cert, key, pw, e))
		goto out;
	r = 0;
out:
	free(ca);
	free(crl);
	free(cert);
	free(key);
	return r;
}

/* The key of our user in a file of lines NAME:HEX. */
static int
client_key(struct tls_creds *c, const char *path, struct imgerr *e)
{
	size_t n, len = strlen(c->username);
	char *b = contents(path, &n, e), *line, *next;
	gnutls_datum_t d;
	int r = -1;

	for (line = b; line && *line; line = next) {
		next = line + strcspn(line, "\r\n");
		if (*next)
			*next++ = 0;
		if (strncmp(line, c->username, len) || line[len] != ':')
			continue;
		d = (gnutls_datum_t){ (unsigned char *)line + len + 1,
			(unsigned)strlen(line + len + 1) };
		if (tls_lib.psk_allocate_client_credentials(&c->psk_client) ||
		    tls_lib.psk_set_client_credentials(c->psk_client,
		    c->username, &d, GNUTLS_PSK_KEY_HEX))
			err_set(e, EINVAL, "The key of '%s' in %s is not "
			    "valid", c->username, path);
		else
			r = 0;
		break;
	}
	if (b && r && !*e->s)
		err_set(e, EINVAL, "Username %s not found in %s", c->username,
		    path);
	free(b);
	return r;
}

static int
load_psk(struct tls_creds *c, const char *file, struct imgerr *e)
{
	char *keys = file ? strdup(file) : in_dir(c, "keys.psk", true, e);
	int r = -1, k;

	if (!keys)
		return -1;
	*e->s = 0;
	if (!c->server)
		r = client_key(c, keys, e);
	else if (tls_lib.psk_allocate_server_credentials(&c->psk_server) ||
	    (k = tls_lib.psk_set_server_credentials_file(c->psk_server,
	    keys)) < 0)
		err_set(e, EINVAL, "Cannot load keys %s", keys);
	else
		r = 0;
	free(keys);
	return r;
}

/* *more: the password of the key, or the file of the keys. */
static int
parse(struct tls_creds *c, struct opts *o, const char **more,
    struct imgerr *e)
{
	const char *id = opts_get(o, "id"), *dir = opts_get(o, "dir");
	const char *end = opts_get(o, "endpoint"), *p, *secret;

	if (c->psk)
		*more = opts_get(o, "file");	/* of a URI */
	if (!id || (!dir && !*more))
		return err_set(e, EINVAL, id ? "Missing 'dir' property value" :
		    "Parameter 'id' is missing");
	if (end && strcmp(end, "server") && strcmp(end, "client"))
		return err_set(e, EINVAL, "Parameter 'endpoint' does not "
		    "accept value '%s'", end);
	c->server = end && !strcmp(end, "server");
	c->id = strdup(id);
	c->dir = strdup(dir ? dir : "");
	p = opts_get(o, "priority");
	if (asprintf(&c->priority, "%s%s", p ? p : "NORMAL", c->psk ?
	    ":+ECDHE-PSK:+DHE-PSK:+PSK" : "") < 0)
		c->priority = NULL;
	if (opts_bool(o, "verify-peer", true, &c->verify, e))
		return -1;
	if (c->psk) {
		p = opts_get(o, "username");
		if (p && c->server)
			return err_set(e, EINVAL, "username should not be set "
			    "when endpoint=server");
		c->username = strdup(p ? p : "qemu");
	} else if ((secret = opts_get(o, "passwordid")) &&
	    !(*more = img_secret(secret)))
		return err_set(e, ENOENT, "No secret with id '%s'", secret);
	for (struct optval *v = o->head; v; v = v->next)
		if (!v->used)
			return err_set(e, EINVAL, "Object '%s': invalid "
			    "parameter '%s'", id, v->key);
	return 0;
}

int
tls_creds_add(const char *type, struct opts *o, struct imgerr *e)
{
	struct tls_creds *c = calloc(1, sizeof(*c));
	const char *more = NULL;

	if (!c)
		return err_set(e, ENOMEM, "Out of memory");
	c->psk = !strcmp(type, "tls-creds-psk");
	if (tls_library(e) || parse(c, o, &more, e) || (c->psk ?
	    load_psk(c, more, e) : load_x509(c, more, e))) {
		free(c->id);
		free(c->dir);
		free(c->priority);
		free(c->username);
		free(c);
		return -1;
	}
	c->next = all;
	all = c;
	return 0;
}

const struct tls_creds *
tls_creds_find(const char *id, bool server, struct imgerr *e)
{
	for (struct tls_creds *c = all; c; c = c->next) {
		if (strcmp(c->id, id))
			continue;
		if (c->server == server)
			return c;
		err_set(e, EINVAL, "Expecting TLS credentials with a %s "
		    "endpoint", server ? "server" : "client");
		return NULL;
	}
	err_set(e, ENOENT, img_secret(id) ? "Object with id '%s' is not TLS "
	    "credentials" : "No TLS credentials with id '%s'", id);
	return NULL;
}

int
tls_authz_add(struct opts *o, struct imgerr *e)
{
	const char *id = opts_get(o, "id"), *who = opts_get(o, "identity");
	struct authz *a;

	if (!id || !who)
		return err_set(e, EINVAL, "Parameter '%s' is missing", id ?
		    "identity" : "id");
	if (!(a = calloc(1, sizeof(*a))))
		return err_set(e, ENOMEM, "Out of memory");
	a->id = strdup(id);
	a->identity = strdup(who);
	a->next = authz;
	authz = a;
	return 0;
}

const char *
tls_authz_find(const char *id, struct imgerr *e)
{
	for (struct authz *a = authz; a; a = a->next)
		if (!strcmp(a->id, id))
			return a->identity;
	err_set(e, ENOENT, "No authorization with id '%s'", id);
	return NULL;
}
