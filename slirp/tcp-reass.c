/*
 * tcp-reass.c - segments from the guest that came before their turn, and the
 * selective acknowledgements that tell it so (RFC 2018).  One pool for all
 * connections, allocated at start; when it is empty such segments are dropped,
 * which costs time but no data (RFC 2018 section 8: the guest may not forget
 * what was only selectively acknowledged).
 */
#include <stdlib.h>
#include "tcp.h"

#define NCHUNK	4096
#define CHUNK	1524		/* longer ones (large MTU) take several */
#define PER_TCP	2048

struct chunk {
	struct chunk *next;
	uint32_t seq, len;
	uint8_t	data[CHUNK];
};

static struct chunk *pool, *freelist;
static unsigned npool;			/* so many were ever used */

void
reass_start(void)
{
	pool = malloc(NCHUNK * sizeof *pool);
	if (!pool)
		abort();
}

static void
give_back(struct tcp *t)
{
	struct chunk *c = t->ooo;

	t->ooo = c->next;
	t->nooo--;
	c->next = freelist;
	freelist = c;
}

void
reass_free(struct tcp *t)
{
	while (t->ooo)
		give_back(t);
}

/* Bytes of the sequence space from seq to the next chunk's beginning go in;
 * what overlaps is skipped. */
void
reass_add(struct tcp *t, uint32_t seq, const uint8_t *p, uint32_t len)
{
	struct chunk **at = &t->ooo, *c;
	uint32_t n, end;

	t->ooo_last = seq;
	while (len) {
		for (; *at && SEQ_LE((*at)->seq, seq); at = &(*at)->next) {
			end = (*at)->seq + (*at)->len;
			if (SEQ_LT(seq, end)) {
				n = end - seq;
				if (n >= len)
					return;
				seq += n;
				p += n;
				len -= n;
			}
		}
		n = len < CHUNK ? len : CHUNK;
		if (*at && SEQ_LT((*at)->seq, seq + n))
			n = (*at)->seq - seq;
		if ((!freelist && npool == NCHUNK) || t->nooo >= PER_TCP)
			return;
		c = freelist;
		if (c)
			freelist = c->next;
		else
			c = &pool[npool++];
		c->seq = seq;
		c->len = n;
		memcpy(c->data, p, n);
		c->next = *at;
		*at = c;
		t->nooo++;
		seq += n;
		p += n;
		len -= n;
	}
}

/* What is in order now, as pieces; their number.  reass_drop() after. */
unsigned
reass_ready(struct tcp *t, struct iovec *iov, unsigned max)
{
	uint32_t next = t->rcv_nxt, skip;
	struct chunk *c;
	unsigned n = 0;

	reass_drop(t);
	for (c = t->ooo; c && n < max && SEQ_LE(c->seq, next); c = c->next) {
		skip = next - c->seq;
		if (skip >= c->len)
			continue;
		iov[n++] = (struct iovec){ c->data + skip, c->len - skip };
		next = c->seq + c->len;
	}
	return n;
}

/* Forget what lies before rcv_nxt. */
void
reass_drop(struct tcp *t)
{
	while (t->ooo && SEQ_LE(t->ooo->seq + t->ooo->len, t->rcv_nxt))
		give_back(t);
}

/* The option, padded, at o; its length.  The block of the newest first. */
unsigned
reass_sack(struct tcp *t, uint8_t *o)
{
	uint32_t l[4], r[4], a, b;
	struct chunk *c = t->ooo;
	unsigned n = 0, i, k;

	if (!t->sack || !c)
		return 0;
	while (c) {
		a = c->seq;
		b = a + c->len;
		while ((c = c->next) && c->seq == b)
			b += c->len;
		if (SEQ_LE(a, t->ooo_last) && SEQ_LT(t->ooo_last, b)) {
			for (i = n < 3 ? n : 3; i > 0; i--) {
				l[i] = l[i - 1];
				r[i] = r[i - 1];
			}
			l[0] = a, r[0] = b;
			if (n < 4)
				n++;
		} else if (n < 4) {
			l[n] = a, r[n] = b;
			n++;
		}
	}
	o[0] = o[1] = 1;
	o[2] = 5;
	o[3] = 2 + 8 * n;
	for (i = 0, k = 4; i < n; i++, k += 8) {
		put32(o + k, l[i]);
		put32(o + k + 4, r[i]);
	}
	return k;
}
