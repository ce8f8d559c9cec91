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

#include "luks.h"

enum { HEADER = 592, SLOTS = 8, STRIPES = 4000, ENABLED = 0xac71f3,
	DISABLED = 0xdead, DIGEST = 20, ITER_MAX = 50000000 };

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
try_slot(struct img *f, uint64_t base, struct luks *l, const struct slot *s,
    const char *pw, uint8_t *key, struct imgerr *e)
{
	size_t n = rup((size_t)l->nkey * STRIPES, 512);
	uint8_t *b = malloc(n), digest[DIGEST];
	int r = -1;

	if (!b)
		return err_set(e, ENOMEM, "Out of memory");
	if (img_pread_backing(f, b, n, base + s->off * 512ull)) {
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
unlock(struct img *f, uint64_t base, struct luks *l, const char *pw,
    struct imgerr *e)
{
	uint8_t key[CRYPT_KEY_MAX];
	int r = 0;

	for (int i = 0; i < SLOTS && !r; i++)
		if (l->slot[i].active)
			r = try_slot(f, base, l, &l->slot[i], pw, key, e);
	if (!r)
		r = err_set(e, EPERM, "Invalid password, cannot unlock any "
		    "keyslot");
	else if (r > 0)
		l->crypt = crypt_new(l->cipher, l->mode, key, l->nkey, e);
	explicit_bzero(key, sizeof(key));
	return l->crypt ? 0 : -1;
}

struct luks *
luks_load(struct img *f, uint64_t base, const char *pw, struct imgerr *e)
{
	struct luks *l = calloc(1, sizeof(*l));
	uint8_t h[HEADER];

	if (!l) {
		err_set(e, ENOMEM, "Out of memory");
		return NULL;
	}
	if (img_pread_backing(f, h, HEADER, base)) {
		err_set(e, errno, "Unable to read LUKS header: %s",
		    strerror(errno));
		goto bad;
	}
	if (parse(l, h, e) || (pw && unlock(f, base, l, pw, e)))
		goto bad;
	return l;
bad:
	luks_free(l);
	return NULL;
}

void
luks_free(struct luks *l)
{
	if (l)
		crypt_free(l->crypt);
	free(l);
}

struct crypt *
luks_crypt(const struct luks *l)
{
	return l->crypt;
}

/* ------------------------------------------------------------------- image */

static int
luks_open(struct img *im, struct opts *o, struct imgerr *e)
{
	struct luks *l;
	const char *pw = NULL;

	if (im->flags & IMG_NOIO)
		opts_get(o, "key-secret");
	else if (!(pw = crypt_password(o, "", e)))
		return -1;
	if (!(l = luks_load(im->file, 0, pw, e)))
		return -1;
	if (im->file->size < l->payload * 512ull) {
		luks_free(l);
		return err_set(e, EINVAL, "LUKS payload is beyond the end of "
		    "the file");
	}
	im->size = rdown(im->file->size - l->payload * 512ull, 512);
	im->encrypted = true;
	im->priv = l;
	return 0;
}

static void
luks_close(struct img *im)
{
	luks_free(im->priv);
}

static int
luks_pread(struct img *im, void *p, size_t n, uint64_t off)
{
	struct luks *l = im->priv;

	return crypt_pread(l->crypt, im->file, p, n, l->payload * 512ull + off,
	    off);
}

static int
luks_pwrite(struct img *im, const void *p, size_t n, uint64_t off)
{
	struct luks *l = im->priv;

	return crypt_pwrite(l->crypt, im->file, p, n, l->payload * 512ull + off,
	    off);
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

void
luks_describe(const struct luks *l, struct js *d)
{
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
		const struct slot *s = &l->slot[i];
		struct js *j = js_add(slots, NULL, js_new(JDICT));

		js_bool(j, "active", s->active);
		if (s->active) {
			js_int(j, "iters", s->iter);
			js_int(j, "stripes", s->stripes);
		}
		js_int(j, "key-offset", s->off * 512ll);
	}
}

static int
luks_info(struct img *im, struct js *d)
{
	luks_describe(im->priv, d);
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

int
luks_length(struct opts *o, const char *prefix, uint64_t *all,
    struct imgerr *e)
{
	struct luks l = { 0 };
	uint64_t ms;

	if (!crypt_password(o, prefix, e) ||
	    opts_num(o, "iter-time", 2000, &ms, e) || shape(&l, o, e))
		return -1;
	places(&l);
	*all = l.payload * 512ull;
	return 0;
}

static int
luks_measure(struct opts *o, struct img *in, struct img_measure *m,
    struct imgerr *e)
{
	uint64_t size, all;
	enum prealloc mode;

	if (luks_length(o, "", &all, e) || opts_size(o, "size", 0, &size, e) ||
	    prealloc_parse(opts_get(o, "preallocation"), "preallocation", false,
	    &mode, e))
		return -1;
	m->required = m->full = all + rup(in ? in->size : size, 512);
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

uint8_t *
luks_make(struct opts *o, const char *prefix, size_t *n, uint64_t *all,
    struct imgerr *e)
{
	struct luks l = { 0 };
	const char *pw = crypt_password(o, prefix, e);
	uint64_t ms, at;
	uint8_t *b, *h;

	if (!pw || opts_num(o, "iter-time", 2000, &ms, e) || shape(&l, o, e) ||
	    !(b = make_key(&l, pw, ms, e)))
		return NULL;
	at = l.slot[0].off * 512ull;	/* the first thing behind the header */
	*n = at + rup((size_t)l.nkey * STRIPES, 512);
	*all = l.payload * 512ull;
	if ((h = calloc(1, *n))) {
		format(&l, h);
		memcpy(h + at, b, *n - at);
	} else
		err_set(e, ENOMEM, "Out of memory");
	free(b);
	return h;
}

static int
luks_create(const char *name, struct opts *o, struct imgerr *e)
{
	uint64_t size, all;
	struct img *f;
	enum prealloc mode;
	uint8_t *h;
	size_t n;
	int r;

	if (opts_size(o, "size", 0, &size, e) ||
	    prealloc_parse(opts_get(o, "preallocation"), "preallocation", false,
	    &mode, e))
		return -1;
	size = rup(size, 512);
	if (size > IMG_MAX - GiB)
		return err_set(e, EFBIG, "The requested file size is too large");
	if (!(h = luks_make(o, "", &n, &all, e)))
		return -1;
	if (!(f = img_create_file(name, 0, o, e))) {
		free(h);
		return -1;
	}
	r = img_truncate(f, all + size, mode, e);
	if (!r && img_pwrite(f, h, n, 0, 0))
		r = err_set(e, errno, "Unable to write the LUKS header: %s",
		    strerror(errno));
	img_close(f);
	free(h);
	return r;
}

const struct img_driver drv_luks = {
	.name = "luks", .late = true, .opts = luks_opts, .probe = luks_probe,
	.open = luks_open, .close = luks_close, .pread = luks_pread,
	.pwrite = luks_pwrite, .truncate = luks_truncate, .info = luks_info,
	.create = luks_create, .measure = luks_measure,
};
