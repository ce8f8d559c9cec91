/*
 * handshake.c - fixed newstyle negotiation (proto.md, "Newstyle negotiation"):
 * options until the client picks the export.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nbd.h"

enum { O_EXPORT = 1, O_ABORT, O_LIST, O_TLS = 5, O_INFO, O_GO, O_STRUCT,
	O_LISTMETA, O_SETMETA };
enum {
	R_ACK = 1, R_SERVER, R_INFO, R_META,
	R_UNSUP = (int)0x80000001, R_INVALID = (int)0x80000003,
	R_TLS = (int)0x80000005,
	R_UNKNOWN = (int)0x80000006, R_TOOBIG = (int)0x80000009,
};

uint16_t
nbd_flags(const struct nbd_conn *c)
{
	unsigned f = NBD_F_HAS | NBD_F_FLUSH | NBD_F_FUA | NBD_F_CACHE;

	if (c->x->readonly)
		f |= NBD_F_RO;
	else
		f |= NBD_F_TRIM | NBD_F_ZERO | NBD_F_FASTZERO;
	if (c->x->multi)
		f |= NBD_F_MULTI;
	if (c->structured)
		f |= NBD_F_DF;
	return (uint16_t)f;
}

static int
reply(struct nbd_conn *c, uint32_t opt, int type, const void *d, size_t n)
{
	uint8_t h[20];

	pbe64(h, NBD_OPT_REPLY);
	pbe32(h + 8, opt);
	pbe32(h + 12, (uint32_t)type);
	pbe32(h + 16, (uint32_t)n);
	return nbd_send(c, h, 20, n > 0) || (n && nbd_send(c, d, n,
	    false)) ? -1 : 0;
}

static int
refuse(struct nbd_conn *c, uint32_t opt, int type, const char *why)
{
	return reply(c, opt, type, why, strlen(why));
}

static int
list(struct nbd_conn *c)
{
	size_t n = strlen(c->x->name), d = c->x->description ?
	    strlen(c->x->description) : 0;
	uint8_t *b = malloc(4 + n + d);
	int r;

	if (!b)
		return -1;
	pbe32(b, (uint32_t)n);
	memcpy(b + 4, c->x->name, n);
	if (d)
		memcpy(b + 4 + n, c->x->description, d);
	r = reply(c, O_LIST, R_SERVER, b, 4 + n + d);
	free(b);
	return r || reply(c, O_LIST, R_ACK, NULL, 0) ? -1 : 0;
}

static bool
is_ours(struct nbd_conn *c, const uint8_t *name, uint32_t n)
{
	return n == strlen(c->x->name) && !memcmp(name, c->x->name, n);
}

/* INFO and GO: 1 done with negotiation, 0 go on, -1 gone. */
static int
info(struct nbd_conn *c, uint32_t opt, const uint8_t *d, uint32_t n)
{
	uint32_t nn;
	uint16_t k;
	uint8_t b[16], *s;
	size_t len;

	if (n < 6 || (nn = be32(d)) > n - 6)
		return refuse(c, opt, R_INVALID, "bad length");
	k = be16(d + 4 + nn);
	if (n - 6 - nn != k * 2u)
		return refuse(c, opt, R_INVALID, "bad length");
	if (!is_ours(c, d + 4, nn))
		return refuse(c, opt, R_UNKNOWN, "export not present");
	for (uint16_t i = 0; i < k; i++) {
		uint16_t type = be16(d + 6 + nn + i * 2);
		const char *t = type == 1 ? c->x->name : type == 2 ?
		    c->x->description : NULL;

		if (!t)
			continue;
		len = strlen(t);
		if (!(s = malloc(2 + len)))
			return -1;
		pbe16(s, type);
		memcpy(s + 2, t, len);
		if (reply(c, opt, R_INFO, s, 2 + len)) {
			free(s);
			return -1;
		}
		free(s);
	}
	pbe16(b, 3);			/* block sizes */
	pbe32(b + 2, 1);
	pbe32(b + 6, 4096);
	pbe32(b + 10, NBD_MAX);
	if (reply(c, opt, R_INFO, b, 14))
		return -1;
	pbe16(b, 0);			/* the export */
	pbe64(b + 2, c->x->size);
	pbe16(b + 10, nbd_flags(c));
	if (reply(c, opt, R_INFO, b, 12) || reply(c, opt, R_ACK, NULL, 0))
		return -1;
	return opt == O_GO;
}

static int
context(struct nbd_conn *c, uint32_t opt, uint32_t id, const char *name)
{
	uint8_t b[4 + 1200];
	size_t n = strlen(name);

	pbe32(b, opt == O_SETMETA ? id : 0);
	memcpy(b + 4, name, n);
	return reply(c, opt, R_META, b, 4 + n);
}

static int
meta(struct nbd_conn *c, uint32_t opt, const uint8_t *d, uint32_t n)
{
	uint32_t nn, k, at;
	uint64_t want = 0;
	char name[1200];

	if (!c->structured)
		return refuse(c, opt, R_INVALID, "request option '"
		    "structured reply' first");
	if (opt == O_SETMETA)
		c->ctx = 0;
	if (n < 8 || (nn = be32(d)) > n - 8)
		return refuse(c, opt, R_INVALID, "bad length");
	if (!is_ours(c, d + 4, nn))
		return refuse(c, opt, R_UNKNOWN, "export not present");
	k = be32(d + 4 + nn);
	at = 8 + nn;
	if (opt == O_LISTMETA && !k)
		want = ~0ull;
	for (; k; k--) {
		uint32_t len;
		const char *q = (const char *)d + at + 4;

		if (n - at < 4 || (len = be32(d + at)) > n - at - 4)
			return refuse(c, opt, R_INVALID, "bad length");
		at += 4 + len;
#define IS(s) (len == sizeof(s) - 1 && !memcmp(q, s, len))
		if (IS("base:allocation") || (IS("base:") && opt == O_LISTMETA))
			want |= 1;
		else if (IS("qemu:allocation-depth") ||
		    (IS("qemu:") && opt == O_LISTMETA))
			want |= 2;
		if (opt == O_LISTMETA && (IS("qemu:") ||
		    IS("qemu:dirty-bitmap:")))
			want |= ~3ull;
		if (len > 18 && !memcmp(q, "qemu:dirty-bitmap:", 18))
			for (int i = 0; i < c->x->nbitmap; i++)
				if (strlen(c->x->bitmap[i]) == len - 18 &&
				    !memcmp(q + 18, c->x->bitmap[i], len - 18))
					want |= 4ull << i;
	}
	if (!c->x->depth)
		want &= ~2ull;
	if (c->x->nbitmap < 62)
		want &= (4ull << c->x->nbitmap) - 1;
	if (want & 1 && context(c, opt, 0, "base:allocation"))
		return -1;
	if (want & 2 && context(c, opt, 1, "qemu:allocation-depth"))
		return -1;
	for (int i = 0; i < c->x->nbitmap; i++) {
		snprintf(name, sizeof(name), "qemu:dirty-bitmap:%s",
		    c->x->bitmap[i]);
		if (want >> (2 + i) & 1 && context(c, opt, 2 + (uint32_t)i,
		    name))
			return -1;
	}
	if (opt == O_SETMETA)
		c->ctx = want;
	return reply(c, opt, R_ACK, NULL, 0);
}

/* "TLS versions", "NBD_OPT_STARTTLS": what was said before it counts no more. */
static int
starttls(struct nbd_conn *c, uint32_t n)
{
	struct imgerr e;
	char *peer;
	bool known;

	if (n)
		return refuse(c, O_TLS, R_INVALID, "no data expected");
	if (!c->creds)
		return refuse(c, O_TLS, R_UNSUP, "TLS not configured");
	if (c->tls)
		return refuse(c, O_TLS, R_INVALID, "TLS is in use already");
	if (reply(c, O_TLS, R_ACK, NULL, 0) || !(c->tls = tls_open(c->creds,
	    c->in, NULL, &e)))
		return -1;
	c->structured = false;
	c->ctx = 0;
	if (!c->authz)
		return 0;
	peer = tls_peer(c->tls);
	known = peer && !strcmp(peer, c->authz);
	free(peer);
	return known ? 0 : -1;
}

int
nbd_handshake(struct nbd_conn *c)
{
	uint8_t b[134], h[16], *d = NULL;
	uint32_t flags, opt, n;
	int r = 0;
	bool nozero, locked;

	pbe64(b, NBD_PASSWD);
	pbe64(b + 8, NBD_IHAVEOPT);
	pbe16(b + 16, 3);		/* fixed newstyle, no zeroes */
	if (nbd_send(c, b, 18, false) || nbd_recv(c, b, 4))
		return -1;
	flags = be32(b);
	if (flags & ~3u)
		return -1;
	nozero = flags & 2;
	for (int rounds = 0; rounds < 10000; rounds++) {
		if (nbd_recv(c, h, 16) || be64(h) != NBD_IHAVEOPT)
			goto gone;
		opt = be32(h + 8);
		n = be32(h + 12);
		if (n > NBD_OPT_MAX) {
			/* too long to look at: skip, refuse */
			if (n > NBD_MAX)
				goto gone;
			for (; n; n -= (uint32_t)umin(n, sizeof(b)))
				if (nbd_recv(c, b, umin(n, sizeof(b))))
					goto gone;
			if (refuse(c, opt, R_TOOBIG, "option too long"))
				goto gone;
			continue;
		}
		free(d);
		if (!(d = malloc(n + 1)) || nbd_recv(c, d, n))
			goto gone;
		if (!(flags & 1) && opt != O_EXPORT)
			goto gone;
		r = 0;
		locked = c->creds && !c->tls;
		if (locked && opt != O_EXPORT && opt != O_ABORT &&
		    opt != O_TLS) {
			if (refuse(c, opt, R_TLS, "TLS first"))
				goto gone;
			continue;
		}
		switch (opt) {
		case O_EXPORT:
			if (!is_ours(c, d, n) || locked)
				goto gone;
			memset(b, 0, sizeof(b));
			pbe64(b, c->x->size);
			pbe16(b + 8, nbd_flags(c));
			r = nbd_send(c, b, nozero ? 10 : 134, false);
			free(d);
			return r;
		case O_ABORT:
			reply(c, opt, R_ACK, NULL, 0);
			goto gone;
		case O_LIST:
			r = n ? refuse(c, opt, R_INVALID, "no data expected") :
			    list(c);
			break;
		case O_TLS:
			r = starttls(c, n);
			break;
		case O_INFO:
		case O_GO:
			r = info(c, opt, d, n);
			if (r == 1) {
				free(d);
				return 0;
			}
			break;
		case O_STRUCT:
			if (n) {
				r = refuse(c, opt, R_INVALID,
				    "no data expected");
				break;
			}
			c->structured = true;
			r = reply(c, opt, R_ACK, NULL, 0);
			break;
		case O_LISTMETA:
		case O_SETMETA:
			r = meta(c, opt, d, n);
			break;
		default:
			r = refuse(c, opt, R_UNSUP, "unsupported option");
		}
		if (r < 0)
			goto gone;
	}
gone:
	free(d);
	return -1;
}
