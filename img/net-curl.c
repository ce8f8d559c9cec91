/*
 * net-curl.c - images on web and file servers, to read: http, https, ftp and
 * ftps by libcurl, a byte range a request (RFC 9110, 14; RFC 3659, 5).
 *
 * A few transfers may be under way at a time, each on a connection of its own
 * that stays for the next.  A transfer asks for `readahead` bytes more than was
 * wanted and keeps them until its next.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "net.h"

enum { TRANSFERS = 8, TRIES = 3 };

/* libcurl, as far as it is used here */
#define CALLS(X) X(global_init) X(easy_init) X(easy_setopt) X(easy_perform) \
	X(easy_getinfo) X(easy_cleanup) X(easy_strerror)
#define NAME(f) "curl_" #f,
static const char *const calls[] = { CALLS(NAME) };
#define MEMBER(f) __typeof__(curl_##f) *f;
static union {
	struct { CALLS(MEMBER) };
	void *p[sizeof(calls) / sizeof(calls[0])];
} lib;
_Static_assert(sizeof(lib) == sizeof(lib.p), "one pointer a call");

struct transfer {
	CURL		*c;
	bool		busy;
	uint8_t		*b;		/* [off, off+n) of the image */
	uint64_t	off;
	size_t		n, want, cap;
	char		why[CURL_ERROR_SIZE];
};

struct curl {
	pthread_mutex_t	lock;
	pthread_cond_t	cond;		/* a transfer is not busy any more */
	struct transfer	t[TRANSFERS];
	unsigned	turn;
	/* constant once open */
	char		*url, *cookie, *user, *password, *proxy_user;
	char		*proxy_password;
	uint64_t	timeout, readahead;
	bool		verify, http;
};

static size_t
on_data(char *p, size_t one, size_t n, void *arg)
{
	struct transfer *t = arg;

	if (n > t->want - t->n)
		return 0;		/* more than was asked for */
	memcpy(t->b + t->n, p, n);
	t->n += n;
	return n;
}

static CURL *
handle(const struct curl *k, struct transfer *t)
{
	CURL *c = lib.easy_init();
	bool bad = !c;

#define SET(opt, v) bad = bad || lib.easy_setopt(c, CURLOPT_##opt, v)
	SET(URL, k->url);
	SET(PROTOCOLS_STR, "http,https,ftp,ftps");
	SET(REDIR_PROTOCOLS_STR, k->http ? "http,https" : "ftp,ftps");
	SET(FOLLOWLOCATION, 1L);
	SET(MAXREDIRS, 10L);
	SET(AUTOREFERER, 1L);
	SET(FAILONERROR, 1L);
	SET(NOSIGNAL, 1L);
	SET(CONNECTTIMEOUT, (long)k->timeout);
	SET(LOW_SPEED_LIMIT, 1L);
	SET(LOW_SPEED_TIME, (long)k->timeout);
	SET(SSL_VERIFYPEER, (long)k->verify);
	SET(SSL_VERIFYHOST, k->verify ? 2L : 0L);
	SET(COOKIE, k->cookie);
	SET(USERNAME, k->user);
	SET(PASSWORD, k->password);
	SET(PROXYUSERNAME, k->proxy_user);
	SET(PROXYPASSWORD, k->proxy_password);
	SET(ERRORBUFFER, t->why);
	SET(WRITEFUNCTION, on_data);
	SET(WRITEDATA, t);
#undef SET
	if (!bad)
		return c;
	if (c)
		lib.easy_cleanup(c);
	return NULL;
}

/* ----------------------------------------------------------------- reading */

/* Bytes `off` to `off` + t->want into t->b. */
static int
range(const struct curl *k, struct transfer *t, uint64_t off)
{
	char r[64];
	long code = 0;
	CURLcode e;

	snprintf(r, sizeof(r), "%llu-%llu", (unsigned long long)off,
	    (unsigned long long)(off + t->want - 1));
	for (int i = 0; i < TRIES; i++) {
		if (!t->c && !(t->c = handle(k, t))) {
			errno = ENOMEM;
			return -1;
		}
		t->n = 0;
		e = lib.easy_setopt(t->c, CURLOPT_RANGE, r);
		if (!e)
			e = lib.easy_perform(t->c);
		if (!e && k->http) {
			/* 200 would be the file from its beginning */
			lib.easy_getinfo(t->c, CURLINFO_RESPONSE_CODE, &code);
			if (code != 206)
				break;
		}
		if (!e && t->n == t->want)
			return 0;
		lib.easy_cleanup(t->c);
		t->c = NULL;
		if (e == CURLE_HTTP_RETURNED_ERROR)
			break;
	}
	errno = EIO;
	return -1;
}

static int
fill(struct img *im, struct transfer *t, uint64_t off, uint64_t n)
{
	struct curl *k = im->priv;
	int r;

	t->n = 0;			/* what was kept is gone */
	t->want = umin(n + k->readahead, im->size - off);
	if (t->want > t->cap) {
		free(t->b);
		t->cap = 0;
		if (!(t->b = malloc(t->want)))
			return -1;
		t->cap = t->want;
	}
	t->busy = true;
	pthread_mutex_unlock(&k->lock);
	r = range(k, t, off);
	pthread_mutex_lock(&k->lock);
	t->busy = false;
	t->off = off;
	if (r)
		t->n = 0;
	pthread_cond_broadcast(&k->cond);
	return r;
}

static struct transfer *
idle(struct curl *k)
{
	for (unsigned i = 0; i < TRANSFERS; i++) {
		struct transfer *t = &k->t[(k->turn + i) % TRANSFERS];

		if (!t->busy) {
			k->turn = (k->turn + i + 1) % TRANSFERS;
			return t;
		}
	}
	return NULL;
}

/* At most a few MiB at a time. */
static int
piece(struct img *im, uint8_t *p, uint64_t n, uint64_t off)
{
	struct curl *k = im->priv;
	struct transfer *t;
	int r = 0;

	pthread_mutex_lock(&k->lock);
	for (;;) {
		for (t = k->t; t < k->t + TRANSFERS; t++)
			if (!t->busy && off >= t->off && off + n <= t->off +
			    t->n)
				break;
		if (t < k->t + TRANSFERS)
			break;
		if ((t = idle(k))) {
			r = fill(im, t, off, n);
			break;
		}
		pthread_cond_wait(&k->cond, &k->lock);
	}
	if (!r)
		memcpy(p, t->b + (off - t->off), n);
	pthread_mutex_unlock(&k->lock);
	return r;
}

static int
web_pread(struct img *im, void *v, size_t n, uint64_t off)
{
	uint8_t *p = v;
	size_t k;

	for (; n; n -= k, off += k, p += k) {
		k = umin(n, 4 * MiB);
		if (piece(im, p, k, off))
			return -1;
	}
	return 0;
}

static int
web_status(struct img *im, uint64_t off, uint64_t len, struct img_status *s)
{
	s->len = len;
	s->flags = off < im->size ? IMG_DATA | IMG_ALLOC | IMG_MAPPED :
	    IMG_ZERO | IMG_ALLOC | IMG_EOF;
	s->map = off;
	s->file = im;
	return 0;
}

/* ----------------------------------------------------------------- opening */

static size_t
on_header(char *p, size_t one, size_t n, void *arg)
{
	static const char word[] = "accept-ranges:";
	size_t w = sizeof(word) - 1, at = w;

	if (n <= w || strncasecmp(p, word, w))
		return n;
	while (at < n && (p[at] == ' ' || p[at] == '\t'))
		at++;
	if (n - at >= 5 && !strncasecmp(p + at, "bytes", 5))
		*(bool *)arg = true;
	return n;
}

/* For FTP the library makes headers up and hands them over as data. */
static size_t
on_nothing(char *p, size_t one, size_t n, void *arg)
{
	return n;
}

static char *
copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

static int
secret(struct opts *o, const char *key, char **to, struct imgerr *e)
{
	const char *id = opts_get(o, key), *s;

	if (!id)
		return 0;
	if (!(s = img_secret(id)))
		return err_set(e, ENOENT, "No secret with id '%s'", id);
	*to = strdup(s);
	return 0;
}

static int
options(struct img *im, struct curl *k, struct opts *o, struct imgerr *e)
{
	const char *url = opts_get(o, "filename"), *u = opts_get(o, "url");
	const char *name = im->drv->name;
	size_t n = strlen(name);

	url = u ? u : url;
	if (!url)
		return err_set(e, EINVAL, "curl block driver requires an 'url' "
		    "option");
	if (strncmp(url, name, n) || strncmp(url + n, "://", 3))
		return err_set(e, EINVAL, "%s curl driver cannot handle the URL "
		    "'%s' (does not start with '%s://')", name, url, name);
	k->url = strdup(url);
	k->http = !strncmp(name, "http", 4);
	k->cookie = copy(opts_get(o, "cookie"));
	k->user = copy(opts_get(o, "username"));
	k->proxy_user = copy(opts_get(o, "proxy-username"));
	if (k->cookie && opts_peek(o, "cookie-secret"))
		return err_set(e, EINVAL, "curl driver cannot handle both "
		    "cookie and cookie secret");
	if (opts_size(o, "readahead", 256 * KiB, &k->readahead, e) ||
	    opts_num(o, "timeout", 5, &k->timeout, e) ||
	    opts_bool(o, "sslverify", true, &k->verify, e) ||
	    secret(o, "cookie-secret", &k->cookie, e) ||
	    secret(o, "password-secret", &k->password, e) ||
	    secret(o, "proxy-password-secret", &k->proxy_password, e))
		return -1;
	if (k->readahead % 512)
		return err_set(e, EINVAL, "HTTP_READAHEAD_SIZE %llu is not a "
		    "multiple of 512", (unsigned long long)k->readahead);
	if (k->readahead > 64 * MiB)
		return err_set(e, EINVAL, "readahead is too large");
	if (k->timeout > 10000)
		return err_set(e, EINVAL, "timeout parameter is too large or "
		    "negative");
	return 0;
}

/* How long it is, and whether parts can be had. */
static int
look(struct img *im, struct curl *k, struct imgerr *e)
{
	struct transfer *t = &k->t[0];
	curl_off_t size = -1;
	bool ranges = !k->http;
	CURLcode r;

	if (!(t->c = handle(k, t)))
		return err_set(e, ENOMEM, "Out of memory");
	lib.easy_setopt(t->c, CURLOPT_NOBODY, 1L);
	lib.easy_setopt(t->c, CURLOPT_WRITEFUNCTION, on_nothing);
	lib.easy_setopt(t->c, CURLOPT_HEADERFUNCTION, on_header);
	lib.easy_setopt(t->c, CURLOPT_HEADERDATA, &ranges);
	r = lib.easy_perform(t->c);
	if (!r)
		lib.easy_getinfo(t->c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T,
		    &size);
	lib.easy_cleanup(t->c);
	t->c = NULL;
	if (r)
		return err_set(e, EIO, "CURL: Error opening file: %s",
		    *t->why ? t->why : lib.easy_strerror(r));
	if (size < 0 || (uint64_t)size > IMG_MAX)
		return err_set(e, EIO, "CURL: Error opening file: Server didn't "
		    "report file size.");
	if (!ranges)
		return err_set(e, EIO, "CURL: Error opening file: Server does "
		    "not support 'range' (byte ranges).");
	im->size = (uint64_t)size;
	return 0;
}

static void
release(struct curl *k)
{
	for (int i = 0; i < TRANSFERS; i++) {
		if (k->t[i].c)
			lib.easy_cleanup(k->t[i].c);
		free(k->t[i].b);
	}
	free(k->url);
	free(k->cookie);
	free(k->user);
	free(k->password);
	free(k->proxy_user);
	free(k->proxy_password);
	pthread_mutex_destroy(&k->lock);
	pthread_cond_destroy(&k->cond);
	free(k);
}

static int
web_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct curl *k;

	if (im->flags & IMG_RDWR) {
		if (!im->auto_ro)
			return err_set(e, EACCES, "curl driver does not support "
			    "writes");
		im->flags &= ~IMG_RDWR;
	}
	if (library("libcurl-gnutls.so.4", calls, sizeof(lib.p) /
	    sizeof(lib.p[0]), lib.p, e))
		return -1;
	/* counts its calls, and has a lock since 7.84 */
	if (lib.global_init(CURL_GLOBAL_DEFAULT))
		return err_set(e, EIO, "libcurl cannot be set up");
	if (!(k = calloc(1, sizeof(*k))))
		return err_set(e, ENOMEM, "Out of memory");
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->cond, NULL);
	if (options(im, k, o, e) || look(im, k, e)) {
		release(k);
		return -1;
	}
	free(im->filename);
	im->filename = strdup(k->url);
	im->priv = k;
	return 0;
}

static void
web_close(struct img *im)
{
	release(im->priv);
}

#define WEB(n) \
const struct img_driver drv_##n = { \
	.name = #n, .protocol = true, .terse = true, .open = web_open, \
	.close = web_close, .pread = web_pread, .preadv = img_bounce_read, \
	.status = web_status, \
};
WEB(http)
WEB(https)
WEB(ftp)
WEB(ftps)
