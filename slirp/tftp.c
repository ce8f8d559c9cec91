/*
 * tftp.c - read-only TFTP (RFC 1350) with blksize, tsize and timeout (RFC
 * 2347 to 2349) from one directory, for network booting.  No path leads out
 * of the directory: openat2 with RESOLVE_BENEATH.  The client's repeated
 * acknowledgement is what brings a lost block again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/openat2.h>
#include <unistd.h>
#include "slirp.h"

#define NTFTP	16
#define IDLE	(60 * SEC)

static struct tftp {
	int	fd;		/* -1: free */
	ip	guest;
	uint16_t port;
	unsigned blk;
	int64_t	acked;		/* last block acknowledged */
	int64_t	last;
} ses[NTFTP];
static int dirfd_ = -1;

static void
drop(struct tftp *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

static void
age(struct timer *timer)
{
	bool any = false;

	for (struct tftp *t = ses; t < ses + NTFTP; t++)
		if (t->fd >= 0 && loop_now - t->last >= IDLE)
			drop(t);
		else if (t->fd >= 0)
			any = true;
	if (any)
		timer_set(timer, loop_now + IDLE);
}

static struct timer ager = { 0, age, NULL };

static void
error(struct pkt *k, unsigned code, const char *text)
{
	uint8_t *o = out_at(0, !is4(&k->src)) + 8;

	put16(o, 5);
	put16(o + 2, code);
	strcpy((char *)o + 4, text);
	udp_send(&k->dst, 69, &k->src, get16(k->l4), k->mac, o,
	    5 + strlen(text));
}

static void
block(struct pkt *k, struct tftp *t, uint64_t n)
{
	uint8_t *o = out_at(0, !is4(&k->src)) + 8;
	ssize_t len = pread(t->fd, o + 4, t->blk, (n - 1) * t->blk);

	if (len < 0) {
		error(k, 0, "read error");
		return;
	}
	put16(o, 3);
	put16(o + 2, n);
	udp_send(&k->dst, 69, &k->src, t->port, k->mac, o, len + 4);
}

static const char *
word(const uint8_t **p, const uint8_t *end)
{
	const char *s = (const char *)*p;
	const uint8_t *z = *p < end ? memchr(*p, 0, end - *p) : NULL;

	if (!z)
		return NULL;
	*p = z + 1;
	return s;
}

static struct tftp *
session(struct pkt *k, bool make)
{
	struct tftp *t, *old = NULL;

	for (t = ses; t < ses + NTFTP; t++) {
		if (t->fd >= 0 && t->port == get16(k->l4) &&
		    ipeq(&t->guest, &k->src))
			return t;
		if (!old || (old->fd >= 0 && (t->fd < 0 ||
		    t->last < old->last)))
			old = t;
	}
	if (!make)
		return NULL;
	drop(old);
	*old = (struct tftp){ -1, k->src, get16(k->l4), 512, 0,
	    loop_now };
	return old;
}

static void
request(struct pkt *k, const uint8_t *p, const uint8_t *end)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	const char *name = word(&p, end), *mode = word(&p, end), *o, *v;
	unsigned mtu = l4_room(!is4(&k->src)) - 12, n;
	char ack[128];
	size_t al = 0;
	struct tftp *t;
	struct stat sb;
	long x;

	if (!name || !mode || strcasecmp(mode, "octet")) {
		error(k, 4, "only octet mode");
		return;
	}
	while (*name == '/')
		name++;
	t = session(k, true);
	drop(t);
	t->last = loop_now;
	t->blk = 512;
	t->acked = 0;
	t->fd = syscall(SYS_openat2, dirfd_, name, &how, sizeof how);
	if (t->fd < 0 || fstat(t->fd, &sb) < 0 || !S_ISREG(sb.st_mode)) {
		drop(t);
		error(k, 1, "File not found");
		return;
	}
	st.tftp++;
	if (!ager.slot)
		timer_set(&ager, loop_now + IDLE);
	while ((o = word(&p, end)) && (v = word(&p, end)) && al < 64) {
		x = strtol(v, NULL, 10);
		n = 0;
		if (!strcasecmp(o, "blksize") && x >= 8 && x <= 65464) {
			t->blk = (unsigned long)x > mtu ? mtu : (unsigned)x;
			n = snprintf(ack + al, sizeof ack - al, "blksize%c%u",
			    0, t->blk);
		} else if (!strcasecmp(o, "tsize")) {
			n = snprintf(ack + al, sizeof ack - al, "tsize%c%lld",
			    0, (long long)sb.st_size);
		} else if (!strcasecmp(o, "timeout") && x > 0 && x < 256) {
			n = snprintf(ack + al, sizeof ack - al, "timeout%c%ld",
			    0, x);
		}
		if (n)
			al += n + 1;
	}
	if (al) {
		uint8_t *r = out_at(0, !is4(&k->src)) + 8;

		put16(r, 6);
		memcpy(r + 2, ack, al);
		udp_send(&k->dst, 69, &k->src, t->port, k->mac, r, al + 2);
	} else {
		block(k, t, 1);
	}
}

void
tftp_input(struct pkt *k)
{
	const uint8_t *p = k->l4 + 8, *end = k->l4 + k->len;
	struct tftp *t;
	uint64_t n, size;
	struct stat sb;

	if (end - p < 4)
		return;
	switch (get16(p)) {
	case 1:
		request(k, p + 2, end);
		break;
	case 2:
		error(k, 2, "read only");
		break;
	case 4:
		t = session(k, false);
		if (!t || fstat(t->fd, &sb) < 0)
			break;
		/* block numbers wrap: the one nearest to the last seen */
		n = get16(p + 2);
		size = sb.st_size / t->blk + 1;
		n |= t->acked & ~0xffffll;
		if ((int64_t)n + 0x8000 < t->acked)
			n += 0x10000;
		t->acked = n;
		t->last = loop_now;
		if (n >= size)
			drop(t);
		else
			block(k, t, n + 1);
		break;
	case 5:
		t = session(k, false);
		if (t)
			drop(t);
		break;
	}
}

int
tftp_start(void)
{
	for (struct tftp *t = ses; t < ses + NTFTP; t++)
		t->fd = -1;
	if (cf.tftp)
		dirfd_ = open(cf.tftp, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return cf.tftp && dirfd_ < 0 ? -1 : 0;
}
