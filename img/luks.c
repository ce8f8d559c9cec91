/*
 * luks.c - LUKS version 1 ("LUKS On-Disk Format Specification" 1.2.3,
 * big-endian): a header with eight slots that each hold the disk's key, spread
 * over stripes and encrypted with a password; behind them the disk, encrypted by
 * sectors.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "crypt.h"

enum { HEADER = 592, SLOTS = 8, STRIPES = 4000, ENABLED = 0xac71f3,
	DISABLED = 0xdead, DIGEST = 20, ITER_MAX = 50000000, STEP = 1 << 20 };

struct slot {
	bool		active;
	uint32_t	iter, off, stripes;	/* off: sectors */
	uint8_t		salt[32];
};

struct luks {
	char		cipher[33], mode[33], hash[33], uuid[41];
	uint32_t	payload, nkey, iter;	/* payload: sectors */
	uint8_t		digest[DIGEST], salt[32];
	struct slot	slot[SLOTS];
	struct crypt	*crypt;			/* NULL: opened to look only */
	pthread_rwlock_t rmw;	/* alone to change a part of a sector */
};

static int
luks_probe(const uint8_t *b, size_t n, const char *name)
{
	return n >= 8 && !memcmp(b, "LUKS\xba\xbe", 6) && be16(b + 6) == 1 ?
	    100 : 0;
}

/* ------------------------------------------------------------------ header */

static int
parse(struct luks *l, const uint8_t *h, struct imgerr *e)
{
	if (memcmp(h, "LUKS\xba\xbe", 6))
		return err_set(e, EINVAL, "Volume is not in LUKS format");
	if (be16(h + 6) != 1)
		return err_set(e, ENOTSUP, "LUKS version %u is not supported",
		    be16(h + 6));
	memcpy(l->cipher, h + 8, 32);
	memcpy(l->mode, h + 40, 32);
	memcpy(l->hash, h + 72, 32);
	l->payload = be32(h + 104);
	l->nkey = be32(h + 108);
	memcpy(l->digest, h + 112, DIGEST);
	memcpy(l->salt, h + 132, 32);
	l->iter = be32(h + 164);
	memcpy(l->uuid, h + 168, 40);
	if (!crypt_hash_known(l->hash))
		return err_set(e, ENOTSUP, "Hash '%s' is not supported",
		    l->hash);
	if (!l->nkey || l->nkey > CRYPT_KEY_MAX || !l->iter ||
	    l->iter > ITER_MAX)
		return err_set(e, EINVAL, "LUKS header is corrupt");
	for (int i = 0; i < SLOTS; i++) {
		const uint8_t *p = h + 208 + i * 48;
		struct slot *s = &l->slot[i];

		*s = (struct slot){ be32(p) == ENABLED, be32(p + 4),
			be32(p + 40), be32(p + 44), { 0 } };
		memcpy(s->salt, p + 8, 32);
		if ((!s->active && be32(p) != DISABLED) ||
		    s->stripes != STRIPES || (s->active && (!s->iter ||
		    s->iter > ITER_MAX)) || s->off * 512ull < HEADER ||
		    s->off * 512ull + (uint64_t)l->nkey * STRIPES >
		    l->payload * 512ull)
			return err_set(e, EINVAL, "Keyslot %d is corrupted", i);
	}
	return 0;
}

static void
format(const struct luks *l, uint8_t *h)
{
	memcpy(h, "LUKS\xba\xbe", 6);
	pbe16(h + 6, 1);
	memcpy(h + 8, l->cipher, 32);
	memcpy(h + 40, l->mode, 32);
	memcpy(h + 72, l->hash, 32);
	pbe32(h + 104, l->payload);
	pbe32(h + 108, l->nkey);
	memcpy(h + 112, l->digest, DIGEST);
	memcpy(h + 132, l->salt, 32);
	pbe32(h + 164, l->iter);
	memcpy(h + 168, l->uuid, 40);
	for (int i = 0; i < SLOTS; i++) {
		uint8_t *p = h + 208 + i * 48;
		const struct slot *s = &l->slot[i];

		pbe32(p, s->active ? ENABLED : DISABLED);
		pbe32(p + 4, s->iter);
		memcpy(p + 8, s->salt, 32);
		pbe32(p + 40, s->off);
		pbe32(p + 44, s->stripes);
	}
}

/* -------------------------------------------------------------------- keys */

/* The specification's 2.4, H1: each piece of a digest's length is replaced by
 * the digest of its number and itself. */
static void
diffuse(const char *hash, uint8_t *b, size_t n)
{
	size_t d = crypt_hash_len(hash), k;
	uint8_t out[64], num[4];

	for (uint32_t i = 0; i * d < n; i++) {
		k = umin(d, n - i * d);
		pbe32(num, i);
		crypt_hash(hash, num, 4, b + i * d, k, out);
		memcpy(b + i * d, out, k);
	}
}

/* 2.4: all stripes but the last, folded. */
static void
fold(const struct luks *l, const uint8_t *s, uint8_t *d)
{
	memset(d, 0, l->nkey);
	for (uint32_t i = 0; i < STRIPES - 1; i++) {
		for (uint32_t k = 0; k < l->nkey; k++)
			d[k] ^= s[(size_t)i * l->nkey + k];
		diffuse(l->hash, d, l->nkey);
	}
}

/* A slot's stripes, en- or decrypted with its password. */
static int
stripes(const struct luks *l, const struct slot *s, const char *pw, bool enc,
    uint8_t *b, struct imgerr *e)
{
	uint8_t key[CRYPT_KEY_MAX];
	struct crypt *c = NULL;
	int r = -1;

	if (!crypt_pbkdf2(l->hash, pw, strlen(pw), s->salt, 32, s->iter, key,
	    l->nkey) && (c = crypt_new(l->cipher, l->mode, key, l->nkey, e)))
		r = crypt_sectors(c, enc, 0, b, rup((size_t)l->nkey * STRIPES,
		    512));
	crypt_free(c);
	explicit_bzero(key, sizeof(key));
	return r;
}

/* 4.2: 1: the slot gave the key, 0: it did not, -1: cannot be tried. */
static int
try_slot(struct img *im, struct luks *l, const struct slot *s, const char *pw,
    uint8_t *key, struct imgerr *e)
{
	size_t n = rup((size_t)l->nkey * STRIPES, 512);
	uint8_t *b = malloc(n), digest[DIGEST];
	int r = -1;

	if (!b)
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(im->file, b, n, s->off * 512ull)) {
		err_set(e, errno, "Could not read key material: %s",
		    strerror(errno));
		goto out;
	}
	if (stripes(l, s, pw, false, b, e))
		goto out;
	fold(l, b, key);
	for (uint32_t k = 0; k < l->nkey; k++)
		key[k] ^= b[(size_t)(STRIPES - 1) * l->nkey + k];
	if (crypt_pbkdf2(l->hash, key, l->nkey, l->salt, 32, l->iter, digest,
	    DIGEST))
		goto out;
	r = !memcmp(digest, l->digest, DIGEST);
out:
	explicit_bzero(b, n);
	free(b);
	return r;
}

static int
unlock(struct img *im, struct luks *l, const char *pw, struct imgerr *e)
{
	uint8_t key[CRYPT_KEY_MAX];
	int r = 0;

	for (int i = 0; i < SLOTS && !r; i++)
		if (l->slot[i].active)
			r = try_slot(im, l, &l->slot[i], pw, key, e);
	if (!r)
		r = err_set(e, EPERM, "Invalid password, cannot unlock any "
		    "keyslot");
	else if (r > 0)
		l->crypt = crypt_new(l->cipher, l->mode, key, l->nkey, e);
	explicit_bzero(key, sizeof(key));
	return l->crypt ? 0 : -1;
}

static const char *
password(struct opts *o, struct imgerr *e)
{
	const char *id = opts_get(o, "key-secret"), *pw;

	if (!id) {
		err_set(e, EINVAL, "Parameter 'key-secret' is required for "
		    "cipher");
		return NULL;
	}
	if (!(pw = img_secret(id)))
		err_set(e, ENOENT, "No secret with id '%s'", id);
	return pw;
}

/* ------------------------------------------------------------------- image */

static int
luks_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct luks *l = calloc(1, sizeof(*l));
	uint8_t h[HEADER];
	const char *pw;

	if (!l)
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(im->file, h, HEADER, 0)) {
		err_set(e, errno, "Unable to read LUKS header: %s",
		    strerror(errno));
		goto bad;
	}
	if (parse(l, h, e))
		goto bad;
	if (im->flags & IMG_NOIO)
		opts_get(o, "key-secret");
	else if (!(pw = password(o, e)) || unlock(im, l, pw, e))
		goto bad;
	if (im->file->size < l->payload * 512ull) {
		err_set(e, EINVAL, "LUKS payload is beyond the end of the file");
		goto bad;
	}
	im->size = rdown(im->file->size - l->payload * 512ull, 512);
	im->encrypted = true;
	pthread_rwlock_init(&l->rmw, NULL);
	im->priv = l;
	return 0;
bad:
	crypt_free(l->crypt);
	free(l);
	return -1;
}

static void
luks_close(struct img *im)
{
	struct luks *l = im->priv;

	crypt_free(l->crypt);
	free(l);
}

static int
luks_pread(struct img *im, void *v, size_t n, uint64_t off)
{
	struct luks *l = im->priv;
	uint64_t lo = rdown(off, 512), hi = rup(off + n, 512), k;
	uint8_t *b = malloc(umin(hi - lo, STEP)), *p = v;
	int r = 0;

	if (!b)
		return -1;
	if (!l->crypt) {
		errno = EACCES;
		r = -1;
	}
	for (; lo < hi && !r; lo += k) {
		uint64_t from = umax(lo, off), to;

		k = umin(hi - lo, STEP);
		to = umin(lo + k, off + n);
		r = img_pread_backing(im->file, b, k, l->payload * 512ull + lo);
		if (!r)
			r = crypt_sectors(l->crypt, false, lo / 512, b, k);
		if (!r)
			memcpy(p + (from - off), b + (from - lo), to - from);
	}
	free(b);
	return r;
}

static int
luks_pwrite(struct img *im, const void *v, size_t n, uint64_t off)
{
	struct luks *l = im->priv;
	uint64_t lo = rdown(off, 512), hi = rup(off + n, 512), k;
	const uint8_t *p = v;
	uint8_t *b = malloc(umin(hi - lo, STEP));
	int r = 0;

	if (!b)
		return -1;
	if ((off | n) & 511)
		pthread_rwlock_wrlock(&l->rmw);
	else
		pthread_rwlock_rdlock(&l->rmw);
	for (; lo < hi && !r; lo += k) {
		uint64_t from = umax(lo, off), to;

		k = umin(hi - lo, STEP);
		to = umin(lo + k, off + n);
		/* a part of a sector: the rest of it as it was */
		if (from != lo)
			r = luks_pread(im, b, 512, lo);
		if (!r && to != lo + k && (k > 512 || from == lo))
			r = luks_pread(im, b + k - 512, 512, lo + k - 512);
		memcpy(b + (from - lo), p + (from - off), to - from);
		if (!r)
			r = crypt_sectors(l->crypt, true, lo / 512, b, k);
		if (!r)
			r = img_pwrite(im->file, b, k, l->payload * 512ull + lo,
			    0);
	}
	pthread_rwlock_unlock(&l->rmw);
	free(b);
	return r;
}

static int
luks_truncate(struct img *im, uint64_t size, enum prealloc pre,
    struct imgerr *e)
{
	struct luks *l = im->priv;

	if (size > IMG_MAX - l->payload * 512ull)
		return err_set(e, EFBIG, "The requested file size is too large");
	if (img_truncate(im->file, size + l->payload * 512ull, pre, e))
		return -1;
	im->size = size;
	return 0;
}

static int
luks_info(struct img *im, struct js *d)
{
	struct luks *l = im->priv;
	bool xts = !strncmp(l->mode, "xts-", 4);
	const char *alg = crypt_alg(l->cipher, xts, l->nkey);
	const char *iv = strchr(l->mode, '-'), *h;
	char mode[33];
	struct js *slots;

	snprintf(mode, sizeof(mode), "%.*s", (int)(iv ? iv - l->mode : 32),
	    l->mode);
	iv = iv ? iv + 1 : "";
	h = strchr(iv, ':');
	js_str(d, "cipher-alg", alg ? alg : l->cipher);
	js_str(d, "cipher-mode", mode);
	if (h) {
		char name[33];

		snprintf(name, sizeof(name), "%.*s", (int)(h - iv), iv);
		js_str(d, "ivgen-alg", name);
		js_str(d, "ivgen-hash-alg", h + 1);
	} else
		js_str(d, "ivgen-alg", iv);
	js_str(d, "hash-alg", l->hash);
	js_int(d, "payload-offset", l->payload * 512ll);
	js_int(d, "master-key-iters", l->iter);
	js_str(d, "uuid", l->uuid);
	slots = js_add(d, "slots", js_new(JLIST));
	for (int i = 0; i < SLOTS; i++) {
		struct slot *s = &l->slot[i];
		struct js *j = js_add(slots, NULL, js_new(JDICT));

		js_bool(j, "active", s->active);
		if (s->active) {
			js_int(j, "iters", s->iter);
			js_int(j, "stripes", s->stripes);
		}
		js_int(j, "key-offset", s->off * 512ll);
	}
	return 0;
}

/* ---------------------------------------------------------------- creation */

static const struct opt_desc luks_opts[] = {
	{ "size", VAL_SIZE, "Virtual disk size" },
	{ "key-secret", VAL_STR,
	    "ID of the secret that provides the keyslot passphrase" },
	{ "cipher-alg", VAL_STR, "Name of encryption cipher algorithm" },
	{ "cipher-mode", VAL_STR, "Name of encryption cipher mode" },
	{ "ivgen-alg", VAL_STR, "Name of IV generator algorithm" },
	{ "ivgen-hash-alg", VAL_STR, "Name of IV generator hash algorithm" },
	{ "hash-alg", VAL_STR, "Name of encryption hash algorithm" },
	{ "iter-time", VAL_NUM, "Time to spend in PBKDF in milliseconds" },
	{ 0 }
};

static int
refuse(const char *key, const char *val, struct imgerr *e)
{
	return err_set(e, EINVAL, "Parameter '%s' does not accept value '%s'",
	    key, val);
}

static int
shape(struct luks *l, struct opts *o, struct imgerr *e)
{
	const char *alg = opts_get(o, "cipher-alg");
	const char *mode = opts_get(o, "cipher-mode");
	const char *iv = opts_get(o, "ivgen-alg");
	const char *ivhash = opts_get(o, "ivgen-hash-alg");
	const char *hash = opts_get(o, "hash-alg");
	size_t nkey;

	alg = alg ? alg : "aes-256";
	mode = mode ? mode : "xts";
	iv = iv ? iv : "plain64";
	hash = hash ? hash : "sha256";
	if (!crypt_alg_parse(alg, !strcmp(mode, "xts"), l->cipher, &nkey))
		return refuse("cipher-alg", alg, e);
	if (strcmp(mode, "xts") && strcmp(mode, "cbc"))
		return refuse("cipher-mode", mode, e);
	if (strcmp(iv, "plain") && strcmp(iv, "plain64") && strcmp(iv, "essiv"))
		return refuse("ivgen-alg", iv, e);
	if (!crypt_hash_known(hash))
		return refuse("hash-alg", hash, e);
	if (ivhash && !crypt_hash_known(ivhash))
		return refuse("ivgen-hash-alg", ivhash, e);
	ivhash = ivhash ? ivhash : "sha256";
	if (!strcmp(iv, "essiv"))
		snprintf(l->mode, 32, "%s-essiv:%s", mode, ivhash);
	else
		snprintf(l->mode, 32, "%s-%s", mode, iv);
	snprintf(l->hash, 32, "%s", hash);
	l->nkey = (uint32_t)nkey;
	return 0;
}

/* Where the slots and the disk are. */
static void
places(struct luks *l)
{
	uint32_t gap = (uint32_t)(rup((uint64_t)l->nkey * STRIPES, 4096) / 512);

	l->payload = 8 + SLOTS * gap;
	for (uint32_t i = 0; i < SLOTS; i++) {
		l->slot[i].off = 8 + i * gap;
		l->slot[i].stripes = STRIPES;
	}
}

static int
luks_measure(struct opts *o, struct img *in, struct img_measure *m,
    struct imgerr *e)
{
	struct luks l = { 0 };
	uint64_t size, ms;
	enum prealloc mode;

	if (!password(o, e) || opts_size(o, "size", 0, &size, e) ||
	    opts_num(o, "iter-time", 2000, &ms, e) ||
	    prealloc_parse(opts_get(o, "preallocation"), "preallocation", false,
	    &mode, e) || shape(&l, o, e))
		return -1;
	places(&l);
	m->required = m->full = l.payload * 512ull + rup(in ? in->size : size,
	    512);
	return 0;
}

/* A fresh key, in slot 0 under `pw`; the stripes are the caller's to free. */
static uint8_t *
make_key(struct luks *l, const char *pw, uint64_t ms, struct imgerr *e)
{
	size_t n = rup((size_t)l->nkey * STRIPES, 512), all = n;
	uint8_t key[CRYPT_KEY_MAX], d[CRYPT_KEY_MAX], *b = calloc(1, n), u[16];
	uint32_t rate = crypt_pbkdf2_rate(l->hash, ms ? ms : 2000);
	bool ok = b && getrandom(key, l->nkey, 0) == (ssize_t)l->nkey &&
	    getrandom(l->salt, 32, 0) == 32 && getrandom(u, 16, 0) == 16 &&
	    getrandom(l->slot[0].salt, 32, 0) == 32;

	for (size_t at = 0; ok && at < all; at += 256)
		ok = getrandom(b + at, umin(256, all - at), 0) ==
		    (ssize_t)umin(256, all - at);
	/* a digest's length is 8 to 16 rounds less work than a slot is to
	 * cost, so that trying all slots stays quick */
	l->iter = (uint32_t)umax(1000, rate / 8);
	places(l);
	l->slot[0].active = true;
	l->slot[0].iter = (uint32_t)umin(ITER_MAX, umax(1000, rate /
	    ((l->nkey + crypt_hash_len(l->hash) - 1) /
	    crypt_hash_len(l->hash))));
	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	snprintf(l->uuid, sizeof(l->uuid), "%02x%02x%02x%02x-%02x%02x-%02x%02x-"
	    "%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4],
	    u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
	    u[15]);
	if (ok) {
		fold(l, b, d);
		for (uint32_t k = 0; k < l->nkey; k++)
			b[(size_t)(STRIPES - 1) * l->nkey + k] = d[k] ^ key[k];
		ok = !crypt_pbkdf2(l->hash, key, l->nkey, l->salt, 32, l->iter,
		    l->digest, DIGEST) && !stripes(l, &l->slot[0], pw, true, b,
		    e);
	} else
		err_set(e, EIO, "No random numbers for a key");
	explicit_bzero(key, sizeof(key));
	if (!ok) {
		free(b);
		return NULL;
	}
	return b;
}

static int
luks_create(const char *name, struct opts *o, struct imgerr *e)
{
	struct luks l = { 0 };
	uint8_t h[4096] = { 0 }, *b;
	uint64_t size, ms;
	struct img *f;
	const char *pw = password(o, e), *pre = opts_get(o, "preallocation");
	enum prealloc mode;
	int r;

	if (!pw || opts_size(o, "size", 0, &size, e) ||
	    opts_num(o, "iter-time", 2000, &ms, e) ||
	    prealloc_parse(pre, "preallocation", false, &mode, e) ||
	    shape(&l, o, e))
		return -1;
	size = rup(size, 512);
	if (size > IMG_MAX - GiB)
		return err_set(e, EFBIG, "The requested file size is too large");
	if (!(b = make_key(&l, pw, ms, e)))
		return -1;
	format(&l, h);
	f = img_create_file(name, 0, o, e);
	if (!f) {
		free(b);
		return -1;
	}
	r = img_truncate(f, l.payload * 512ull + size, mode, e);
	if (!r && (img_pwrite(f, b, rup((size_t)l.nkey * STRIPES, 512),
	    l.slot[0].off * 512ull, 0) || img_pwrite(f, h, sizeof(h), 0, 0)))
		r = err_set(e, errno, "Unable to write the LUKS header: %s",
		    strerror(errno));
	img_close(f);
	free(b);
	return r;
}

const struct img_driver drv_luks = {
	.name = "luks", .late = true, .opts = luks_opts, .probe = luks_probe,
	.open = luks_open, .close = luks_close, .pread = luks_pread,
	.pwrite = luks_pwrite, .truncate = luks_truncate, .info = luks_info,
	.create = luks_create, .measure = luks_measure,
};
