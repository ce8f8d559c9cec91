/*
 * qcow2-crypt.c - encrypted qcow2 images (qcow2 specification, "crypt_method",
 * "Full disk encryption header pointer", "Data encryption"): LUKS, with its
 * header in clusters of its own and sectors numbered by their place in the file,
 * and the legacy aes, with sectors numbered by their place on the disk.
 * Metadata and compressed clusters are never encrypted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "luks.h"
#include "qcow2.h"

static const char *const names[] = { "", "aes", "luks" };

int
q2_crypt_method(struct opts *o, unsigned *method, struct imgerr *e)
{
	const char *fmt = opts_get(o, "encrypt.format");
	bool old;

	if (opts_bool(o, "encryption", false, &old, e))
		return -1;
	if (fmt && opts_peek(o, "encryption"))
		return err_set(e, EINVAL, "'encrypt.format' and its alias "
		    "'encryption' can't be used at the same time");
	*method = old ? Q2_AES : Q2_PLAIN;
	if (fmt && !strcmp(fmt, names[Q2_AES]))
		*method = Q2_AES;
	else if (fmt && !strcmp(fmt, names[Q2_LUKS]))
		*method = Q2_LUKS;
	else if (fmt)
		return err_set(e, EINVAL, "Parameter 'format' does not accept "
		    "value '%s'", fmt);
	for (struct optval *p = o->head; p && !*method; p = p->next)
		if (!strncmp(p->key, "encrypt.", 8))
			return err_set(e, EINVAL, "Parameter 'encrypt.format' "
			    "is missing");
	return 0;
}

int
q2_crypt_open(struct qcow2 *q, struct opts *o, struct imgerr *e)
{
	struct opts sub = { 0 };
	const char *pw = NULL, *fmt;
	int r = -1;

	opts_sub(o, "encrypt", &sub);
	if (!q->method) {
		if (sub.head)
			err_set(e, EINVAL, "No encryption in image header, but "
			    "options specified format '%s'",
			    (fmt = opts_get(&sub, "format")) ? fmt : "");
		else
			r = 0;
		goto out;
	}
	if (q->method == Q2_LUKS && !q->crypt_len) {
		err_set(e, EINVAL, "CRYPTO header pointer is missing");
		goto out;
	}
	fmt = opts_get(&sub, "format");
	if (fmt && strcmp(fmt, names[q->method])) {
		err_set(e, EINVAL, "Header reported '%s' encryption format but "
		    "options specify '%s'", names[q->method], fmt);
		goto out;
	}
	if (q->im->flags & IMG_NOIO)
		opts_get(&sub, "key-secret");
	else if (!(pw = crypt_password(&sub, "encrypt.", e)))
		goto out;
	for (struct optval *p = sub.head; p; p = p->next)
		if (!p->used) {
			err_set(e, EINVAL, "Block format 'qcow2' does not "
			    "support the option 'encrypt.%s'", p->key);
			goto out;
		}
	if (q->method == Q2_LUKS) {
		q->luks = luks_load(q->im->file, q->crypt_off, pw, e);
		if (!q->luks)
			goto out;
		q->crypt = luks_crypt(q->luks);
	} else if (pw && !(q->crypt = crypt_legacy(pw, e)))
		goto out;
	q->im->encrypted = true;
	r = 0;
out:
	opts_free(&sub);
	return r;
}

void
q2_crypt_free(struct qcow2 *q)
{
	if (q->luks)
		luks_free(q->luks);
	else
		crypt_free(q->crypt);
}

/* The numbers of sectors begin where this is 0. */
static uint64_t
number(struct qcow2 *q, uint64_t host, uint64_t off)
{
	return q->method == Q2_LUKS ? host : off;
}

int
q2_data_read(struct qcow2 *q, void *p, size_t n, uint64_t host, uint64_t off)
{
	return q->method ? crypt_pread(q->crypt, q2_data(q), p, n, host,
	    number(q, host, off)) : img_pread_backing(q2_data(q), p, n, host);
}

int
q2_data_write(struct qcow2 *q, const void *p, size_t n, uint64_t host,
    uint64_t off)
{
	return q->method ? crypt_pwrite(q->crypt, q2_data(q), p, n, host,
	    number(q, host, off)) : img_pwrite(q2_data(q), p, n, host, 0);
}

void
q2_crypt_info(struct qcow2 *q, struct js *d)
{
	struct js *j = js_add(d, "encrypt", js_new(JDICT));

	js_str(j, "format", names[q->method]);
	if (q->luks)
		luks_describe(q->luks, j);
}

/* The "encrypt." options; the originals stay. */
static void
own(struct opts *o, struct opts *sub)
{
	struct opts all = { 0 };

	opts_copy(&all, o);
	opts_sub(&all, "encrypt", sub);
	opts_free(&all);
}

int
q2_crypt_measure(unsigned method, struct opts *o, uint64_t *n,
    struct imgerr *e)
{
	struct opts sub = { 0 };
	int r = 0;

	*n = 0;
	own(o, &sub);
	if (method == Q2_LUKS)
		r = luks_length(&sub, "encrypt.", n, e);
	else if (method && !crypt_password(&sub, "encrypt.", e))
		r = -1;
	opts_get(&sub, "format");
	for (struct optval *p = sub.head; p && !r; p = p->next)
		if (!p->used)
			r = err_set(e, EINVAL, "Parameter 'encrypt.%s' is "
			    "unexpected", p->key);
	opts_free(&sub);
	return r;
}

int
q2_crypt_create(struct qcow2 *q, unsigned method, struct opts *o,
    struct imgerr *e)
{
	struct opts sub = { 0 };
	uint8_t *h = NULL;
	uint64_t all;
	size_t n;
	int r = -1;

	own(o, &sub);
	if (method == Q2_LUKS) {
		if (!(h = luks_make(&sub, "encrypt.", &n, &all, e)))
			goto out;
		pthread_mutex_lock(&q->lock);
		q->crypt_off = q2_alloc(q, (all + q->cs - 1) / q->cs);
		r = q->crypt_off && !q2_sync(q, true) ? 0 : -1;
		pthread_mutex_unlock(&q->lock);
		if (r || img_pwrite(q->im->file, h, n, q->crypt_off, 0)) {
			r = err_set(e, errno, "Could not write the encryption "
			    "header: %s", strerror(errno));
			goto out;
		}
		q->crypt_len = all;
		/* the unused slots are there to be filled */
		all = rup(q->crypt_off + all, q->cs);
		if (q->im->file->size < all && (r = img_truncate(q->im->file,
		    all, PRE_OFF, e)))
			goto out;
	}
	q->method = method;
	r = q2_write_header(q, e);
out:
	free(h);
	opts_free(&sub);
	return r;
}
