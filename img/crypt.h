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
