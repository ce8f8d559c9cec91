/*
 * nbd.h - the NBD protocol, server side: one export on any number of
 * connections (the NBD project's doc/proto.md; section names in the files).
 * Everything a client sends is checked before use; a bad client loses its
 * own connection and nothing else.
 */
#ifndef NBD_H
#define NBD_H

#include "../img/img.h"
#include "../img/tls.h"

#define NBD_PASSWD	0x4e42444d41474943ull	/* "NBDMAGIC" */
#define NBD_IHAVEOPT	0x49484156454f5054ull
#define NBD_OPT_REPLY	0x0003e889045565a9ull
#define NBD_REQUEST	0x25609513u
#define NBD_SIMPLE	0x67446698u
#define NBD_CHUNK	0x668e33efu

enum {
	NBD_MAX		= 32 << 20,	/* bytes of one request */
	NBD_OPT_MAX	= 64 << 10,	/* bytes of one option */
	NBD_NAME_MAX	= 4096,
	NBD_CTX_MAX	= 64,
	NBD_HELD	= 64 << 20,	/* of a connection's buffers, about */
	NBD_KEPT	= 1 << 20,	/* of one between requests */
};
enum {
	NBD_F_HAS = 1, NBD_F_RO = 2, NBD_F_FLUSH = 4, NBD_F_FUA = 8,
	NBD_F_TRIM = 32, NBD_F_ZERO = 64, NBD_F_DF = 128, NBD_F_MULTI = 256,
	NBD_F_CACHE = 1024, NBD_F_FASTZERO = 2048,
};
enum { NBD_READ, NBD_WRITE, NBD_DISC, NBD_FLUSH, NBD_TRIM, NBD_CACHE,
	NBD_WZERO, NBD_STATUS };
enum { NBD_C_FUA = 1, NBD_C_NOHOLE = 2, NBD_C_DF = 4, NBD_C_ONE = 8,
	NBD_C_FAST = 16 };

struct nbd_export {
	struct img	*im;
	const char	*name, *description;
	uint64_t	off, size;	/* the part of the image shown */
	bool		readonly, multi, depth;
	const char	*bitmap[NBD_CTX_MAX];
	int		nbitmap;
	pthread_rwlock_t *gate;		/* held to read while the image is in
					 * use; NULL: nobody wants it */
};

struct nbd_conn {
	struct nbd_export *x;
	int		in, out;
	const struct tls_creds *creds;	/* NULL: no TLS; else nothing without */
	const char	*authz;		/* whom to let in, or NULL */
	struct tls	*tls;		/* from STARTTLS on */
	bool		structured, dead;
	uint64_t	ctx;		/* bit 0 allocation, 1 depth, 2.. maps */
	pthread_mutex_t	rlock, wlock;
	pthread_mutex_t	mlock;		/* of what follows */
	pthread_cond_t	mcond;
	size_t		held;		/* bytes of large buffers */
};

void	nbd_conn_init(struct nbd_conn *, struct nbd_export *, int in, int out);

/* conn.c: read or write all; -1 at end of file or error.  `more' follows. */
int	nbd_recv(struct nbd_conn *, void *, size_t);
int	nbd_send(struct nbd_conn *, const void *, size_t, bool more);

/* handshake.c: 0 when the client wants to go on, -1 when it is gone. */
int	nbd_handshake(struct nbd_conn *);
uint16_t nbd_flags(const struct nbd_conn *);
/* Ends TLS, and closes nothing. */
void	nbd_conn_end(struct nbd_conn *);
/* serve.c: until the client leaves. */
void	nbd_serve(struct nbd_conn *, int threads);

/* Print what the server at host and port, or at the socket `path`, exports. */
int	nbd_list(const char *host, const char *port, const char *path,
	    const struct tls_creds *, const char *tls_hostname, struct imgerr *);

#endif
