/*
 * crypt.c - disk encryption by sectors on libgcrypt.  Its handles are for one
 * thread at a time, so a struct crypt keeps as many as were needed at once.
 *
 * The initial vector of a sector is its number, little-endian, in 64 bits
 * (plain64) or 32 (plain), or that encrypted with the digest of the key (essiv).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <gcrypt.h>

#include "crypt.h"

static const struct { const char *name, *cipher; int alg; size_t key; } algs[] = {
	{ "aes-128", "aes", GCRY_CIPHER_AES128, 16 },
	{ "aes-192", "aes", GCRY_CIPHER_AES192, 24 },
	{ "aes-256", "aes", GCRY_CIPHER_AES256, 32 },
	{ "serpent-128", "serpent", GCRY_CIPHER_SERPENT128, 16 },
	{ "serpent-192", "serpent", GCRY_CIPHER_SERPENT192, 24 },
	{ "serpent-256", "serpent", GCRY_CIPHER_SERPENT256, 32 },
	{ "twofish-128", "twofish", GCRY_CIPHER_TWOFISH128, 16 },
	{ "twofish-256", "twofish", GCRY_CIPHER_TWOFISH, 32 },
};
static const struct { const char *name; int md; } hashes[] = {
	{ "sha1", GCRY_MD_SHA1 }, { "sha224", GCRY_MD_SHA224 },
	{ "sha256", GCRY_MD_SHA256 }, { "sha384", GCRY_MD_SHA384 },
	{ "sha512", GCRY_MD_SHA512 }, { "ripemd160", GCRY_MD_RMD160 },
};
enum { NALG = sizeof(algs) / sizeof(algs[0]),
	NHASH = sizeof(hashes) / sizeof(hashes[0]), STEP = 1 << 20 };

struct handle {
	gcry_cipher_hd_t data, iv;
	struct handle	*next;
};

struct crypt {
	pthread_rwlock_t rmw;	/* alone to change a part of a sector */
	pthread_mutex_t	lock;
	struct handle	*idle;
	int		alg, mode, iv_alg;	/* iv_alg 0: not essiv */
	bool		plain32;
	size_t		nkey, niv;
	uint8_t		key[CRYPT_KEY_MAX], ivkey[64];
};

static void
start(void)
{
	if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P))
		return;
	gcry_check_version(NULL);
	gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

static void
start_once(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
}

/* ----------------------------------------------------------------- digests */

static int
md(const char *hash)
{
	start_once();
	for (int i = 0; i < NHASH; i++)
		if (!strcmp(hashes[i].name, hash))
			return hashes[i].md;
	return 0;
}

bool
crypt_hash_known(const char *hash)
{
	return md(hash) != 0;
}

size_t
crypt_hash_len(const char *hash)
{
	return gcry_md_get_algo_dlen(md(hash));
}

void
crypt_hash(const char *hash, const void *a, size_t na, const void *b, size_t nb,
    uint8_t *out)
{
	gcry_buffer_t v[2] = {
		{ .data = (void *)(uintptr_t)a, .len = na },
		{ .data = (void *)(uintptr_t)b, .len = nb },
	};

	gcry_md_hash_buffers(md(hash), 0, out, v, 2);
}

int
crypt_pbkdf2(const char *hash, const void *pw, size_t npw, const uint8_t *salt,
    size_t nsalt, uint32_t iter, uint8_t *out, size_t n)
{
	if (!gcry_kdf_derive(pw, npw, GCRY_KDF_PBKDF2, md(hash), salt, nsalt,
	    iter, n, out))
		return 0;
	errno = EIO;
	return -1;
}

uint32_t
crypt_pbkdf2_rate(const char *hash, uint64_t ms)
{
	uint8_t salt[32] = { 0 }, out[20];
	struct timespec a, b;
	uint32_t iter = 4096;
	double s;

	for (;; iter *= 4) {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
		crypt_pbkdf2(hash, "password", 8, salt, 32, iter, out, 20);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
		s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec -
		    a.tv_nsec);
		if (s > 0.02 || iter > 1u << 24)
			break;
	}
	s = (double)iter / s * (double)ms / 1000;
	return s < 1000 ? 1000 : s > 1e9 ? 1000000000 : (uint32_t)s;
}

/* ----------------------------------------------------------------- ciphers */

const char *
crypt_alg(const char *cipher, bool xts, size_t nkey)
{
	for (int i = 0; i < NALG; i++)
		if (!strcmp(algs[i].cipher, cipher) && algs[i].key *
		    (xts ? 2 : 1) == nkey && (!xts || algs[i].key != 24))
			return algs[i].name;
	return NULL;
}

bool
crypt_alg_parse(const char *alg, bool xts, char cipher[32], size_t *nkey)
{
	for (int i = 0; i < NALG; i++)
		if (!strcmp(algs[i].name, alg)) {
			strcpy(cipher, algs[i].cipher);
			*nkey = algs[i].key * (xts ? 2 : 1);
			return true;
		}
	return false;
}

static int
find(const char *name)
{
	for (int i = 0; i < NALG; i++)
		if (!strcmp(algs[i].name, name))
			return algs[i].alg;
	return 0;
}

static struct handle *
handle_new(struct crypt *c)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	if (gcry_cipher_open(&h->data, c->alg, c->mode, 0) ||
	    gcry_cipher_setkey(h->data, c->key, c->nkey))
		goto bad;
	if (c->iv_alg && (gcry_cipher_open(&h->iv, c->iv_alg,
	    GCRY_CIPHER_MODE_ECB, 0) || gcry_cipher_setkey(h->iv, c->ivkey,
	    c->niv)))
		goto bad;
	return h;
bad:
	gcry_cipher_close(h->data);
	gcry_cipher_close(h->iv);
	free(h);
	errno = EIO;
	return NULL;
}

static int
iv_kind(struct crypt *c, const char *cipher, const char *iv)
{
	const char *hash = iv + 6;

	if (!strcmp(iv, "plain") || !strcmp(iv, "plain64")) {
		c->plain32 = !strcmp(iv, "plain");
		return 0;
	}
	if (strncmp(iv, "essiv:", 6) || !crypt_hash_known(hash))
		return -1;
	crypt_hash(hash, c->key, c->nkey, NULL, 0, c->ivkey);
	c->niv = crypt_hash_len(hash);
	if (!crypt_alg(cipher, false, c->niv))
		return -1;
	c->iv_alg = find(crypt_alg(cipher, false, c->niv));
	return 0;
}

struct crypt *
crypt_new(const char *cipher, const char *mode, const uint8_t *key, size_t nkey,
    struct imgerr *e)
{
	struct crypt *c = calloc(1, sizeof(*c));
	bool xts = !strncmp(mode, "xts-", 4), cbc = !strncmp(mode, "cbc-", 4);
	const char *alg = crypt_alg(cipher, xts, nkey);

	start_once();
	if (!c) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_rwlock_init(&c->rmw, NULL);
	if (alg && nkey <= CRYPT_KEY_MAX) {
		memcpy(c->key, key, nkey);
		c->nkey = nkey;
		c->alg = find(alg);
		c->mode = xts ? GCRY_CIPHER_MODE_XTS : GCRY_CIPHER_MODE_CBC;
	}
	if (!alg || (!xts && !cbc) || iv_kind(c, cipher, mode + 4) ||
	    !(c->idle = handle_new(c))) {
		err_set(e, ENOTSUP, "Cipher %s-%s with a key of %zu bytes is "
		    "not supported", cipher, mode, nkey);
		crypt_free(c);
		return NULL;
	}
	return c;
}

void
crypt_free(struct crypt *c)
{
	struct handle *h;

	if (!c)
		return;
	while ((h = c->idle)) {
		c->idle = h->next;
		gcry_cipher_close(h->data);
		gcry_cipher_close(h->iv);
		free(h);
	}
	pthread_mutex_destroy(&c->lock);
	pthread_rwlock_destroy(&c->rmw);
	explicit_bzero(c, sizeof(*c));
	free(c);
}

int
crypt_sectors(struct crypt *c, bool enc, uint64_t sector, uint8_t *p, size_t n)
{
	struct handle *h;
	uint8_t iv[16];
	bool bad = false;

	pthread_mutex_lock(&c->lock);
	if ((h = c->idle))
		c->idle = h->next;
	pthread_mutex_unlock(&c->lock);
	if (!h && !(h = handle_new(c)))
		return -1;
	for (; n && !bad; n -= CRYPT_SECTOR, p += CRYPT_SECTOR, sector++) {
		memset(iv, 0, 16);
		ple64(iv, c->plain32 ? (uint32_t)sector : sector);
		bad = (h->iv && gcry_cipher_encrypt(h->iv, iv, 16, NULL, 0)) ||
		    gcry_cipher_setiv(h->data, iv, 16) ||
		    (enc ? gcry_cipher_encrypt(h->data, p, CRYPT_SECTOR, NULL,
		    0) : gcry_cipher_decrypt(h->data, p, CRYPT_SECTOR, NULL, 0));
	}
	pthread_mutex_lock(&c->lock);
	h->next = c->idle;
	c->idle = h;
	pthread_mutex_unlock(&c->lock);
	if (bad)
		errno = EIO;
	return bad ? -1 : 0;
}

int
crypt_pread(struct crypt *c, struct img *f, void *v, size_t n, uint64_t off,
    uint64_t num)
{
	uint64_t lo = rdown(off, CRYPT_SECTOR), k;
	uint64_t hi = rup(off + n, CRYPT_SECTOR);
	uint8_t *b, *p = v;
	int r = 0;

	if (!c) {
		errno = EACCES;
		return -1;
	}
	if (!(b = malloc(umin(hi - lo, STEP))))
		return -1;
	for (num -= off; lo < hi && !r; lo += k) {
		uint64_t from = umax(lo, off), to;

		k = umin(hi - lo, STEP);
		to = umin(lo + k, off + n);
		r = img_pread_backing(f, b, k, lo);
		if (!r)
			r = crypt_sectors(c, false, (lo + num) / CRYPT_SECTOR,
			    b, k);
		if (!r)
			memcpy(p + (from - off), b + (from - lo), to - from);
	}
	free(b);
	return r;
}

int
crypt_pwrite(struct crypt *c, struct img *f, const void *v, size_t n,
    uint64_t off, uint64_t num)
{
	uint64_t lo = rdown(off, CRYPT_SECTOR), k;
	uint64_t hi = rup(off + n, CRYPT_SECTOR);
	const uint8_t *p = v;
	uint8_t *b;
	int r = 0;

	if (!c) {
		errno = EACCES;
		return -1;
	}
	if (!(b = malloc(umin(hi - lo, STEP))))
		return -1;
	if ((off | n) % CRYPT_SECTOR)
		pthread_rwlock_wrlock(&c->rmw);
	else
		pthread_rwlock_rdlock(&c->rmw);
	for (num -= off; lo < hi && !r; lo += k) {
		uint64_t from = umax(lo, off), to, last;

		k = umin(hi - lo, STEP);
		to = umin(lo + k, off + n);
		last = lo + k - CRYPT_SECTOR;
		/* a part of a sector: the rest of it as it was */
		if (from != lo)
			r = crypt_pread(c, f, b, CRYPT_SECTOR, lo, lo + num);
		if (!r && to != lo + k && (last > lo || from == lo))
			r = crypt_pread(c, f, b + (last - lo), CRYPT_SECTOR,
			    last, last + num);
		memcpy(b + (from - lo), p + (from - off), to - from);
		if (!r)
			r = crypt_sectors(c, true, (lo + num) / CRYPT_SECTOR, b,
			    k);
		if (!r)
			r = img_pwrite(f, b, k, lo, 0);
	}
	pthread_rwlock_unlock(&c->rmw);
	free(b);
	return r;
}

/* ---------------------------------------------------------------- passwords */

struct crypt *
crypt_legacy(const char *pw, struct imgerr *e)
{
	uint8_t key[16] = { 0 };
	struct crypt *c;

	memcpy(key, pw, umin(strlen(pw), sizeof(key)));
	c = crypt_new("aes", "cbc-plain64", key, sizeof(key), e);
	explicit_bzero(key, sizeof(key));
	return c;
}

const char *
crypt_password(struct opts *o, const char *prefix, struct imgerr *e)
{
	const char *id = opts_get(o, "key-secret"), *pw;

	if (!id) {
		err_set(e, EINVAL, "Parameter '%skey-secret' is required for "
		    "cipher", prefix);
		return NULL;
	}
	if (!(pw = img_secret(id)))
		err_set(e, ENOENT, "No secret with id '%s'", id);
	return pw;
}
