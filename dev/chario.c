/*
 * chario.c - see chario.h.
 */
#include <errno.h>
#include <string.h>

#include "chario.h"

static void
writable(void *arg)
{
	struct chario *c = arg;

	chario_flush(c);
	if (c->space && !chario_full(c))
		c->space(c->d);
}

int
chario_open(struct chario *c, struct devctx *d, const char *spec, uint8_t *buf,
    uint32_t *len, chardev_in_fn *in, char *why, size_t whylen)
{
	c->d = d;
	c->buf = buf;
	c->len = len;
	if (spec == NULL || strcmp(spec, "none") == 0)
		return 0;
	c->cd = chardev_open(d->loop, spec, d->part, in, d, why, whylen);
	if (c->cd == NULL)
		return -1;
	chardev_writable(c->cd, writable, c);
	return 0;
}

bool
chario_put(struct chario *c, uint8_t b)
{
	if (c->cd == NULL)
		return true;
	if (*c->len >= CHARIO_MAX)
		chario_flush(c);
	if (*c->len >= CHARIO_MAX)
		return false;
	c->buf[(*c->len)++] = b;
	return true;
}

void
chario_flush(struct chario *c)
{
	uint32_t len = *c->len;
	size_t n;

	if (len > CHARIO_MAX)
		len = *c->len = CHARIO_MAX;	/* from a damaged state */
	if (len == 0)
		return;
	n = c->cd ? chardev_write(c->cd, c->buf, len) : len;
	if (n > len)
		n = len;
	memmove(c->buf, c->buf + n, len - n);
	*c->len = len - (uint32_t)n;
}

bool
chario_full(const struct chario *c)
{
	return *c->len > CHARIO_HIGH;
}

void
chario_close(struct chario *c)
{
	if (c->cd == NULL)
		return;
	chario_flush(c);
	chardev_close(c->cd);
	c->cd = NULL;
}

int
chario_info(const struct chario *c, FILE *out)
{
	if (c->cd == NULL)
		return EINVAL;
	fprintf(out, "%s\n", chardev_info(c->cd));
	return 0;
}
