/*
 * net-nbd.h - between the two files of the nbd protocol: net-nbd-name.c knows
 * what users call a server, net-nbd.c talks to it.
 */
#ifndef NET_NBD_H
#define NET_NBD_H

#include "net.h"
#include "net-nbd-tls.h"

struct nbd_name {
	struct address	a;
	char		*export;
	bool		tls;		/* nbds://: wanted */
	const struct tls_creds *creds;	/* NULL: a plain connection */
	char		*hostname;	/* of the server's certificate */
};
/* From the options: filename (any of QEMU's forms), server.*, host, port, path,
 * export, tls-creds, tls-hostname. */
int	nbd_name_parse(struct opts *, struct nbd_name *, struct imgerr *);
void	nbd_name_free(struct nbd_name *);
char	*nbd_name_url(const struct nbd_name *);	/* malloc'd */

#endif
