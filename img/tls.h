/*
 * tls.h - TLS for streams, by GnuTLS, which is loaded when somebody wants it:
 * credentials as QEMU's objects tls-creds-x509 and tls-creds-psk, and sessions.
 */
#ifndef TLS_H
#define TLS_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "img.h"

struct tls_creds {
	char		*id, *dir, *priority, *username;
	bool		psk, server, verify;
	gnutls_certificate_credentials_t cert;
	gnutls_psk_server_credentials_t psk_server;
	gnutls_psk_client_credentials_t psk_client;
	struct tls_creds *next;
};
/* An object of `type`; its files are read now. */
int	tls_creds_add(const char *type, struct opts *, struct imgerr *);
/* By id, for the end that is ours; NULL with text. */
const struct tls_creds *tls_creds_find(const char *id, bool server,
	    struct imgerr *);
/* An authz-simple object, and whom `id` of them lets in. */
int	tls_authz_add(struct opts *, struct imgerr *);
const char *tls_authz_find(const char *id, struct imgerr *);

struct tls;
/* A session on a connected socket, after its handshake; the descriptor stays the
 * caller's.  A client checks that the server is `hostname`, if not NULL. */
struct tls *tls_open(const struct tls_creds *, int fd, const char *hostname,
	    struct imgerr *);
/* Like read(2) and write(2), but for the errno EPROTO of damaged or forbidden
 * data.  One thread may read while another writes. */
ssize_t	tls_read(struct tls *, void *, size_t);
ssize_t	tls_write(struct tls *, const void *, size_t);
/* Why the last call failed. */
const char *tls_reason(const struct tls *);
/* The other end's distinguished name or user name, malloc'd; NULL: it has none. */
char	*tls_peer(struct tls *);
void	tls_bye(struct tls *);		/* nothing more will be written */
void	tls_close(struct tls *);

/* The library's functions, after tls_library(). */
#define TLS_CALLS(X) X(strerror) X(init) X(deinit) X(priority_set_direct) \
	X(credentials_set) X(certificate_server_set_request) \
	X(session_set_verify_cert) X(session_get_verify_cert_status) \
	X(server_name_set) X(transport_set_int2) X(handshake) \
	X(handshake_set_timeout) X(record_recv) X(record_send) X(bye) \
	X(alert_get) X(alert_get_name) X(alert_send_appropriate) X(error_is_fatal) \
	X(certificate_allocate_credentials) \
	X(certificate_set_x509_trust_file) X(certificate_set_x509_crl_file) \
	X(certificate_set_x509_key_file2) X(certificate_get_peers) \
	X(psk_allocate_server_credentials) \
	X(psk_set_server_credentials_file) \
	X(psk_allocate_client_credentials) X(psk_set_client_credentials) \
	X(psk_server_get_username) X(x509_crt_init) X(x509_crt_deinit) \
	X(x509_crt_import) X(x509_crt_get_dn) \
	X(x509_crt_get_activation_time) X(x509_crt_get_expiration_time)
#define TLS_MEMBER(f) __typeof__(gnutls_##f) *f;
extern union tls_lib {
	struct { TLS_CALLS(TLS_MEMBER) };
	void *p[1];
} tls_lib;
int	tls_library(struct imgerr *);

#endif
