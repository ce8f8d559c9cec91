/*
 * crypt.h - disk encryption by sectors of 512 bytes, and what guards its keys,
 * on libgcrypt.
 */
#ifndef CRYPT_H
#define CRYPT_H

#include "img.h"

enum { CRYPT_SECTOR = 512, CRYPT_KEY_MAX = 64 };

/* "aes" + "xts-plain64" + 64 bytes of key, as LUKS names them. */
struct crypt;
struct crypt *crypt_new(const char *cipher, const char *mode, const uint8_t *key,
	    size_t nkey, struct imgerr *);
void	crypt_free(struct crypt *);
/* In place, whole sectors, the first has this number.  Any thread.  -1 EIO. */
int	crypt_sectors(struct crypt *, bool encrypt, uint64_t sector, uint8_t *,
	    size_t n);
/* Any bytes at `off` of a file whose sectors have the numbers of byte `num` on;
 * `off` and `num` are the same within a sector.  A NULL crypt is EACCES. */
int	crypt_pread(struct crypt *, struct img *, void *, size_t, uint64_t off,
	    uint64_t num);
int	crypt_pwrite(struct crypt *, struct img *, const void *, size_t,
	    uint64_t off, uint64_t num);
/* What QEMU called "aes" before it had LUKS: AES-128-CBC, plain64, and the first
 * 16 bytes of the password are the key. */
struct crypt *crypt_legacy(const char *password, struct imgerr *);
/* The secret that option `prefix`key-secret names, or NULL. */
const char *crypt_password(struct opts *, const char *prefix, struct imgerr *);
/* "aes-256", from the cipher and the bytes of a key; NULL: there is none. */
const char *crypt_alg(const char *cipher, bool xts, size_t nkey);
/* The reverse; false: unknown. */
bool	crypt_alg_parse(const char *alg, bool xts, char cipher[32], size_t *nkey);
bool	crypt_hash_known(const char *hash);
size_t	crypt_hash_len(const char *hash);
/* One digest of two pieces. */
void	crypt_hash(const char *hash, const void *, size_t, const void *, size_t,
	    uint8_t *out);
/* PBKDF2 (RFC 8018, 5.2) with HMAC.  -1 EIO. */
int	crypt_pbkdf2(const char *hash, const void *pw, size_t npw,
	    const uint8_t *salt, size_t nsalt, uint32_t iter, uint8_t *out,
	    size_t n);
/* Iterations that take about `ms` for one piece of a digest's length. */
uint32_t crypt_pbkdf2_rate(const char *hash, uint64_t ms);

#endif
