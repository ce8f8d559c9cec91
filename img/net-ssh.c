/*
 * net-ssh.c - images on SSH servers (draft-ietf-secsh-filexfer-02, SFTP 3), by
 * libssh, whose sessions are for one thread at a time.  The user's agent or keys
 * log in, the server's key must be known.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <libssh/libssh.h>
#include <libssh/sftp.h>

#include "net.h"

enum { PIECE = 32768 };			/* what every server takes */

/* libssh, as far as it is used here */
#define CALLS(X) X(ssh_new) X(ssh_options_set) X(ssh_connect) \
	X(ssh_session_is_known_server) X(ssh_get_server_publickey) \
	X(ssh_get_publickey_hash) X(ssh_clean_pubkey_hash) X(ssh_key_free) \
	X(ssh_userauth_none) X(ssh_userauth_publickey_auto) X(ssh_get_error) \
	X(ssh_disconnect) X(ssh_free) X(sftp_new) X(sftp_init) X(sftp_open) \
	X(sftp_fstat) X(sftp_attributes_free) X(sftp_seek64) X(sftp_read) \
	X(sftp_write) X(sftp_fsync) X(sftp_close) X(sftp_free) \
	X(sftp_get_error) X(sftp_extension_supported)
#define NAME(f) #f,
static const char *const calls[] = { CALLS(NAME) };
#define MEMBER(f) __typeof__(f) *f;
static union {
	struct { CALLS(MEMBER) } f;
	void *p[sizeof(calls) / sizeof(calls[0])];
} lib;

struct ssh {
	pthread_mutex_t	lock;
	struct address	a;
	char		*user, *path, *check;
	ssh_session	s;
	sftp_session	ftp;
	sftp_file	f;
	bool		sync;
};

/* ------------------------------------------------------------------- names */

static char *
copy(const char *s)
{
	return s ? strdup(s) : NULL;
}

/* ssh://[USER@]HOST[:PORT]/PATH[?host_key_check=WORD] */
static int
url(const char *name, struct ssh *s, struct imgerr *e)
{
	const char *at, *p, *end, *colon, *query;

	if (strncmp(name, "ssh://", 6) || !*(p = name + 6) || *p == '/')
		return err_set(e, EINVAL, "missing hostname in URI");
	end = p + strcspn(p, "/?");
	if ((at = memchr(p, '@', (size_t)(end - p)))) {
		s->user = strndup(p, (size_t)(at - p));
		url_decode(s->user);
		p = at + 1;
	}
	colon = memchr(p, ':', (size_t)(end - p));
	if (*p == '[' && (at = memchr(p, ']', (size_t)(end - p)))) {
		colon = at[1] == ':' ? at + 1 : NULL;
		s->a.host = strndup(p + 1, (size_t)(at - p - 1));
	} else
		s->a.host = strndup(p, (size_t)((colon ? colon : end) - p));
	s->a.port = colon && colon + 1 < end ? strndup(colon + 1, (size_t)(end -
	    colon - 1)) : strdup("22");
	query = strchr(end, '?');
	s->path = strndup(end, query ? (size_t)(query - end) : strlen(end));
	url_decode(s->path);
	if (!*s->path)
		return err_set(e, EINVAL, "missing remote path in URI");
	if (query && strncmp(query, "?host_key_check=", 16))
		return err_set(e, EINVAL, "unsupported query '%s' in URI",
		    query + 1);
	if (query)
		s->check = strdup(query + 16);
	return 0;
}

/* The modern spelling of the check, in the old one's words. */
static int
key_check(struct opts *o, struct ssh *s, struct imgerr *e)
{
	const char *mode = opts_get(o, "host-key-check.mode");
	const char *type = opts_get(o, "host-key-check.type");
	const char *hash = opts_get(o, "host-key-check.hash");
	const char *old = opts_get(o, "host_key_check");

	if (old) {
		free(s->check);
		s->check = strdup(old);
	}
	if (!mode)
		return 0;
	free(s->check);
	s->check = NULL;
	if (!strcmp(mode, "none"))
		s->check = strdup("no");
	else if (!strcmp(mode, "known_hosts"))
		s->check = strdup("yes");
	else if (strcmp(mode, "hash"))
		return err_set(e, EINVAL, "Parameter 'mode' does not accept "
		    "value '%s'", mode);
	else if (!type || !hash)
		return err_set(e, EINVAL, "Parameter '%s' is missing", type ?
		    "hash" : "type");
	else if (asprintf(&s->check, "%s:%s", type, hash) < 0)
		s->check = NULL;
	return 0;
}

static int
options(struct opts *o, struct ssh *s, struct imgerr *e)
{
	const char *name = opts_get(o, "filename"), *user;
	const char *host = opts_get(o, "server.host"), *h = opts_get(o, "host");
	const char *port = opts_get(o, "server.port"), *p = opts_get(o, "port");
	const char *path = opts_get(o, "path");
	struct passwd *pw;

	if (name) {
		if (url(name, s, e))
			return -1;
	} else {
		s->a.host = copy(host ? host : h);
		s->a.port = strdup(port ? port : p ? p : "22");
		s->path = copy(path);
	}
	if (!s->a.host)
		return err_set(e, EINVAL, "Parameter 'server' is missing");
	if (!s->path)
		return err_set(e, EINVAL, "Parameter 'path' is missing");
	if ((user = opts_get(o, "user"))) {
		free(s->user);
		s->user = strdup(user);
	}
	if (!s->user && (pw = getpwuid(getuid())))
		s->user = strdup(pw->pw_name);
	if (key_check(o, s, e))
		return -1;
	if (!s->check)
		s->check = strdup("yes");
	return 0;
}

/* -------------------------------------------------------------- connecting */

/* "TYPE:HEX" against the server's key; colons between the digits are nothing. */
static int
same_hash(struct ssh *s, const char *want, struct imgerr *e)
{
	static const struct { const char *name; int type; } tab[] = {
		{ "md5:", SSH_PUBLICKEY_HASH_MD5 },
		{ "sha1:", SSH_PUBLICKEY_HASH_SHA1 },
		{ "sha256:", SSH_PUBLICKEY_HASH_SHA256 },
	};
	unsigned char *got = NULL;
	char hex[130] = "", *w = hex;
	int type = -1;
	ssh_key key;
	size_t n;

	for (int i = 0; i < 3; i++)
		if (!strncmp(want, tab[i].name, strlen(tab[i].name))) {
			type = tab[i].type;
			want += strlen(tab[i].name);
			break;
		}
	if (type < 0)
		return err_set(e, EINVAL, "unknown host_key_check setting (%s)",
		    want);
	if (lib.f.ssh_get_server_publickey(s->s, &key))
		return err_set(e, EINVAL, "failed to read remote host key");
	if (!lib.f.ssh_get_publickey_hash(key, type, &got, &n))
		for (size_t i = 0; i < umin(n, 64); i++)
			w += sprintf(w, "%02x", got[i]);
	lib.f.ssh_clean_pubkey_hash(&got);
	lib.f.ssh_key_free(key);
	for (w = hex; *w && *want; want++)
		if (*want != ':' && strncasecmp(w++, want, 1))
			break;
	return *w || *want || !*hex ? err_set(e, EPERM, "remote host key does "
	    "not match host_key_check '%s'", s->check) : 0;
}

static int
trusted(struct ssh *s, struct imgerr *e)
{
	if (!strcmp(s->check, "no"))
		return 0;
	if (strcmp(s->check, "yes"))
		return same_hash(s, s->check, e);
	switch (lib.f.ssh_session_is_known_server(s->s)) {
	case SSH_KNOWN_HOSTS_OK:
		return 0;
	case SSH_KNOWN_HOSTS_CHANGED: case SSH_KNOWN_HOSTS_OTHER:
		return err_set(e, EINVAL, "host key does not match the one in "
		    "known_hosts");
	case SSH_KNOWN_HOSTS_UNKNOWN: case SSH_KNOWN_HOSTS_NOT_FOUND:
		return err_set(e, EINVAL, "no host key was found in known_hosts");
	default:
		return err_set(e, EINVAL, "error while checking for known server: "
		    "%s", lib.f.ssh_get_error(s->s));
	}
}

static int
login(struct ssh *s, struct imgerr *e)
{
	int r = lib.f.ssh_userauth_none(s->s, NULL);

	if (r != SSH_AUTH_SUCCESS && r != SSH_AUTH_ERROR)
		r = lib.f.ssh_userauth_publickey_auto(s->s, NULL, NULL);
	return r == SSH_AUTH_SUCCESS ? 0 : err_set(e, EPERM, "failed to "
	    "authenticate using publickey authentication and the identities "
	    "held by your ssh-agent");
}

/* Up to an SFTP session. */
static int
attach(struct ssh *s, struct imgerr *e)
{
	int fd = address_connect(&s->a, e);
	unsigned port = (unsigned)strtoul(s->a.port, NULL, 10);
	const char *home = getenv("HOME");
	char dir[4096] = "";
	long timeout = 30;

	if (fd < 0)
		return -1;
	if (home && strlen(home) < sizeof(dir) - 8)
		sprintf(dir, "%s/.ssh", home);
	s->s = lib.f.ssh_new();
	if (!s->s || lib.f.ssh_options_set(s->s, SSH_OPTIONS_HOST, s->a.host) ||
	    lib.f.ssh_options_set(s->s, SSH_OPTIONS_PORT, &port) ||
	    (s->user && lib.f.ssh_options_set(s->s, SSH_OPTIONS_USER,
	    s->user)) ||
	    (*dir && lib.f.ssh_options_set(s->s, SSH_OPTIONS_SSH_DIR, dir)) ||
	    lib.f.ssh_options_set(s->s, SSH_OPTIONS_TIMEOUT, &timeout) ||
	    lib.f.ssh_options_set(s->s, SSH_OPTIONS_FD, &fd)) {
		close(fd);
		return err_set(e, EINVAL, "failed to set up an ssh session");
	}
	/* the session owns the descriptor now */
	if (lib.f.ssh_connect(s->s))
		return err_set(e, EIO, "failed to establish SSH session: %s",
		    lib.f.ssh_get_error(s->s));
	if (trusted(s, e) || login(s, e))
		return -1;
	s->ftp = lib.f.sftp_new(s->s);
	if (!s->ftp || lib.f.sftp_init(s->ftp) < 0)
		return err_set(e, EIO, "failed to initialize sftp handle: %s",
		    lib.f.ssh_get_error(s->s));
	s->sync = lib.f.sftp_extension_supported(s->ftp, "fsync@openssh.com",
	    "1");
	return 0;
}

static void
release(struct ssh *s)
{
	if (s->f)
		lib.f.sftp_close(s->f);
	if (s->ftp)
		lib.f.sftp_free(s->ftp);
	if (s->s) {
		lib.f.ssh_disconnect(s->s);
		lib.f.ssh_free(s->s);
	}
	address_free(&s->a);
	free(s->user);
	free(s->path);
	free(s->check);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct ssh *
start(struct opts *o, struct imgerr *e)
{
	struct ssh *s;

	if (library("libssh.so.4", calls, sizeof(lib.p) / sizeof(lib.p[0]),
	    lib.p, e))
		return NULL;
	if (!(s = calloc(1, sizeof(*s)))) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	if (!options(o, s, e) && !attach(s, e))
		return s;
	release(s);
	return NULL;
}

static int
file(struct ssh *s, int flags, struct imgerr *e)
{
	s->f = lib.f.sftp_open(s->ftp, s->path, flags, 0644);
	return s->f ? 0 : err_set(e, lib.f.sftp_get_error(s->ftp) ==
	    SSH_FX_NO_SUCH_FILE ? ENOENT : EIO, "failed to open remote file "
	    "'%s': %s", s->path, lib.f.ssh_get_error(s->s));
}

/* ------------------------------------------------------------------- image */

static int
remote_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct ssh *s = start(o, e);
	sftp_attributes a;

	if (!s)
		return -1;
	if (file(s, im->flags & (IMG_RDWR | IMG_LATER) ? O_RDWR : O_RDONLY, e))
		goto bad;
	if (!(a = lib.f.sftp_fstat(s->f))) {
		err_set(e, EIO, "failed to read remote file attributes: %s",
		    lib.f.ssh_get_error(s->s));
		goto bad;
	}
	im->size = a->size;
	lib.f.sftp_attributes_free(a);
	if (im->size > IMG_MAX) {
		err_set(e, EFBIG, "The file is too large");
		goto bad;
	}
	im->zero_init = true;
	im->priv = s;
	return 0;
bad:
	release(s);
	return -1;
}

static void
remote_close(struct img *im)
{
	release(im->priv);
}

/* Locked. */
static int
transfer(struct ssh *s, bool wr, uint8_t *p, size_t n, uint64_t off)
{
	ssize_t k;

	if (lib.f.sftp_seek64(s->f, off))
		goto bad;
	for (; n; n -= (size_t)k, p += k) {
		k = wr ? lib.f.sftp_write(s->f, p, umin(n, PIECE)) :
		    lib.f.sftp_read(s->f, p, umin(n, PIECE));
		if (k < 0 || (wr && !k))
			goto bad;
		if (!k) {		/* the end */
			memset(p, 0, n);
			break;
		}
	}
	return 0;
bad:
	errno = EIO;
	return -1;
}

static int
remote_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct ssh *s = im->priv;
	int r;

	pthread_mutex_lock(&s->lock);
	r = transfer(s, false, p, n, off);
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int
remote_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct ssh *s = im->priv;
	int r;

	pthread_mutex_lock(&s->lock);
	r = transfer(s, true, (uint8_t *)(uintptr_t)p, n, off);
	if (!r)
		im->size = umax(im->size, off + n);
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int
remote_flush(struct img *im)
{
	struct ssh *s = im->priv;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->sync && lib.f.sftp_fsync(s->f)) {
		errno = EIO;
		r = -1;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

static int
remote_status(struct img *im, uint64_t off, uint64_t len, struct img_status *st)
{
	st->len = len;
	st->flags = off < im->size ? IMG_DATA | IMG_ALLOC | IMG_MAPPED :
	    IMG_ZERO | IMG_ALLOC | IMG_EOF;
	st->map = off;
	st->file = im;
	return 0;
}

static int
remote_zero(struct img *im, uint64_t off, uint64_t len, int flags)
{
	errno = ENOTSUP;
	return -1;
}

static int
remote_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	if (pre != PRE_OFF)
		return err_set(e, ENOTSUP, "Unsupported preallocation mode: %s",
		    prealloc_name[pre]);
	if (size < im->size)
		return err_set(e, ENOTSUP, "ssh driver does not support "
		    "shrinking files");
	if (size > im->size && remote_pwrite(im, "", 1, size - 1))
		return err_set(e, errno, "Failed to grow file: %m");
	return 0;
}

static int
remote_create(const char *name, struct opts *o, struct imgerr *e)
{
	struct opts so = { 0 };
	struct ssh *s;
	uint64_t size;
	int r;

	if (opts_size(o, "size", 0, &size, e))
		return -1;
	opts_set(&so, "filename", name);
	s = start(&so, e);
	opts_free(&so);
	if (!s)
		return -1;
	r = file(s, O_RDWR | O_CREAT | O_TRUNC, e);
	size = rup(size, 512);
	if (!r && size && transfer(s, true, (uint8_t[]){ 0 }, 1, size - 1))
		r = err_set(e, errno, "Failed to grow file: %m");
	release(s);
	return r;
}

static const struct opt_desc create_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ 0 }
};

const struct img_driver drv_ssh = {
	.name = "ssh", .protocol = true, .terse = true, .opts = create_opts,
	.open = remote_open, .close = remote_close, .pread = remote_pread,
	.pwrite = remote_pwrite, .preadv = img_bounce_read,
	.pwritev = img_bounce_write, .flush = remote_flush,
	.status = remote_status, .zero = remote_zero,
	.truncate = remote_truncate, .create = remote_create,
};
