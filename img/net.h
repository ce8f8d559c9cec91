/*
 * net.h - what the network protocols share: addresses, sockets, libraries that
 * are loaded when the first image wants them.
 */
#ifndef NET_H
#define NET_H

#include "img.h"

struct address {			/* `path`, or host and port */
	char	*host, *port, *path;
};
void	address_free(struct address *);
/* "/path" or "host:port", malloc'd. */
char	*address_text(const struct address *);
/* A connected stream socket; -1 with the text "Failed to connect to ...". */
int	address_connect(const struct address *, struct imgerr *);

/* "%41" and the like, in place. */
void	url_decode(char *);

/* The addresses of `n` functions of a shared library, at `fn` (zeros at first);
 * loaded here so that a disk without a network does not carry it. */
int	library(const char *soname, const char *const *names, size_t n,
	    void **fn, struct imgerr *);

#endif
