/*
 * net-nbd-tls.h - a connection to an NBD server made secret before anything is
 * said on it.
 */
#ifndef NET_NBD_TLS_H
#define NET_NBD_TLS_H

#include "tls.h"

struct nbd_tls;
/* Takes the connected `fd`; another that speaks plain NBD from its first byte on,
 * or -1. */
int	nbd_tls_start(int fd, const struct tls_creds *, const char *hostname,
	    struct nbd_tls **, struct imgerr *);
/* After the plain end is closed; what was written to it is sent first.  If TLS
 * was why the connection ended, the text says so. */
void	nbd_tls_end(struct nbd_tls *, struct imgerr *);

#endif
