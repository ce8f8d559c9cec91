/*
 * tls.c - sessions of TLS (RFC 8446, RFC 5246) over sockets: see tls.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net.h"
#include "tls.h"

enum { HANDSHAKE_MS = 30000 };
struct tls {
	const struct tls_creds *creds;
	gnutls_session_t s;
	int		err;		/* of the last call */
};

#define NAME(f) "gnutls_" #f,
static const char *const calls[] = { TLS_CALLS(NAME) };
union tls_lib tls_lib;
#define NCALLS (sizeof(calls) / sizeof(calls[0]))
_Static_assert(sizeof(tls_lib) == NCALLS * sizeof(void *), "one pointer a call");

int
tls_library(struct imgerr *e)
{
	return library("libgnutls.so.30", calls, NCALLS, tls_lib.p, e);
}

/* What is wrong with the other end's certificate. */
static int
distrust(struct tls *t, const char *hostname, struct imgerr *e)
{
	static const struct { unsigned bit; const char *text; } tab[] = {
		{ GNUTLS_CERT_REVOKED, "is revoked" },
		{ GNUTLS_CERT_EXPIRED, "has expired" },
		{ GNUTLS_CERT_NOT_ACTIVATED, "is not valid yet" },
		{ GNUTLS_CERT_SIGNER_NOT_FOUND, "is not signed by an authority "
		    "of ca-cert.pem" },
		{ GNUTLS_CERT_INSECURE_ALGORITHM, "uses an insecure "
		    "algorithm" },
		{ GNUTLS_CERT_PURPOSE_MISMATCH, "is not for this purpose" },
	};
	const char *whose = t->creds->server ? "client" : "server";
	unsigned st = tls_lib.session_get_verify_cert_status(t->s);

	for (size_t i = 0; i < sizeof(tab) / sizeof(tab[0]); i++)
		if (st & tab[i].bit)
			return err_set(e, EACCES, "TLS: the %s's certificate "
			    "%s", whose, tab[i].text);
	if (st & GNUTLS_CERT_UNEXPECTED_OWNER)
		return err_set(e, EACCES, "TLS: the %s's certificate is not "
		    "for the host '%s'", whose, hostname);
	return err_set(e, EACCES, "TLS: the %s's certificate is not valid",
	    whose);
}

static int
credentials(struct tls *t, const char *hostname)
{
	const struct tls_creds *c = t->creds;
	uint8_t addr[16];

	if (c->psk)
		return tls_lib.credentials_set(t->s, GNUTLS_CRD_PSK, c->server ?
		    (void *)c->psk_server : (void *)c->psk_client);
	if (c->server && c->verify)
		tls_lib.certificate_server_set_request(t->s,
		    GNUTLS_CERT_REQUIRE);
	if (c->verify)
		tls_lib.session_set_verify_cert(t->s, c->server ? NULL :
		    hostname, 0);
	/* RFC 6066, section 3: names only */
	if (!c->server && hostname && inet_pton(AF_INET, hostname, addr) != 1 &&
	    inet_pton(AF_INET6, hostname, addr) != 1)
		tls_lib.server_name_set(t->s, GNUTLS_NAME_DNS, hostname,
		    strlen(hostname));
	return tls_lib.credentials_set(t->s, GNUTLS_CRD_CERTIFICATE, c->cert);
}

struct tls *
tls_open(const struct tls_creds *c, int fd, const char *hostname,
    struct imgerr *e)
{
	struct tls *t = calloc(1, sizeof(*t));
	const char *bad;
	int r;

	if (!t) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	t->creds = c;
	if ((r = tls_lib.init(&t->s, (c->server ? GNUTLS_SERVER :
	    GNUTLS_CLIENT) | GNUTLS_NO_SIGNAL)))
		goto bad;
	if ((r = tls_lib.priority_set_direct(t->s, c->priority, &bad))) {
		err_set(e, EINVAL, "TLS: priority '%s': %s", c->priority,
		    tls_lib.strerror(r));
		goto out;
	}
	if ((r = credentials(t, hostname)))
		goto bad;
	tls_lib.transport_set_int2(t->s, fd, fd);
	tls_lib.handshake_set_timeout(t->s, HANDSHAKE_MS);
	while ((r = tls_lib.handshake(t->s)) < 0 &&
	    !tls_lib.error_is_fatal(r))
		;
	if (!r)
		return t;
	t->err = r;
	tls_lib.alert_send_appropriate(t->s, r);
	if (r == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
		distrust(t, hostname, e);
	else
		err_set(e, EACCES, "TLS handshake failed: %s", tls_reason(t));
	goto out;
bad:
	err_set(e, EINVAL, "TLS: %s", tls_lib.strerror(r));
out:
	tls_close(t);
	return NULL;
}

ssize_t
tls_read(struct tls *t, void *p, size_t n)
{
	ssize_t k;

	do
		k = tls_lib.record_recv(t->s, p, n);
	while (k < 0 && !tls_lib.error_is_fatal((int)k));
	if (k >= 0)
		return k;
	t->err = (int)k;
	errno = EPROTO;
	return -1;
}

ssize_t
tls_write(struct tls *t, const void *p, size_t n)
{
	ssize_t k;

	do
		k = tls_lib.record_send(t->s, p, n);
	while (k == GNUTLS_E_INTERRUPTED || k == GNUTLS_E_AGAIN);
	if (k >= 0)
		return k;
	if (!t->err)
		t->err = (int)k;
	errno = EPROTO;
	return -1;
}

const char *
tls_reason(const struct tls *t)
{
	const char *s;

	if (t->err == GNUTLS_E_FATAL_ALERT_RECEIVED) {
		s = tls_lib.alert_get_name(tls_lib.alert_get(t->s));
		return s ? s : "refused by the other end";
	}
	if (t->err == GNUTLS_E_PREMATURE_TERMINATION ||
	    t->err == GNUTLS_E_PULL_ERROR || t->err == GNUTLS_E_PUSH_ERROR)
		return t->creds->server ? "the client closed the connection" :
		    "the server closed the connection: it may not accept this "
		    "client's certificate or key";
	return t->err ? tls_lib.strerror(t->err) : NULL;
}

char *
tls_peer(struct tls *t)
{
	const gnutls_datum_t *chain;
	gnutls_x509_crt_t crt;
	unsigned n = 0;
	char dn[1024];
	size_t len = sizeof(dn);
	const char *s = NULL;

	if (t->creds->psk) {
		s = tls_lib.psk_server_get_username(t->s);
		return s ? strdup(s) : NULL;
	}
	chain = tls_lib.certificate_get_peers(t->s, &n);
	if (!chain || !n || tls_lib.x509_crt_init(&crt))
		return NULL;
	if (!tls_lib.x509_crt_import(crt, chain, GNUTLS_X509_FMT_DER) &&
	    !tls_lib.x509_crt_get_dn(crt, dn, &len))
		s = dn;
	tls_lib.x509_crt_deinit(crt);
	return s ? strdup(s) : NULL;
}

void
tls_bye(struct tls *t)
{
	tls_lib.bye(t->s, GNUTLS_SHUT_WR);
}

void
tls_close(struct tls *t)
{
	if (!t)
		return;
	if (t->s)
		tls_lib.deinit(t->s);
	free(t);
}
