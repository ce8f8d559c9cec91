/*
 * net.c - who is who: the virtual gateway and name server, their images on the
 * host, the neighbours seen on the wire, and the host's resolver.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "slirp.h"

struct config cf;
struct stats st;

bool
is_host(const ip *a)
{
	return is4(a) ? cf.v4 && v4of(a) == cf.host :
	    cf.v6 && ipeq(a, &cf.host6);
}

bool
is_dns(const ip *a)
{
	return is4(a) ? cf.v4 && v4of(a) == cf.dns : cf.v6 && ipeq(a, &cf.dns6);
}

static const ip linklocal = { .s6_addr = { 0xfe, 0x80, [15] = 2 } };

bool
is_ours(const ip *a)
{
	return is_host(a) || is_dns(a) || (cf.v6 && ipeq(a, &linklocal)) ||
	    guestfwd_addr(a);
}

bool
in_net(const ip *a)
{
	if (is4(a))
		return (v4of(a) & cf.mask) == cf.net && v4of(a) != cf.net &&
		    v4of(a) != (cf.net | ~cf.mask);
	return !memcmp(a, &cf.net6, 8) ||
	    (a->s6_addr[0] == 0xfe && (a->s6_addr[1] & 0xc0) == 0x80);
}

static void
sock4(struct sockaddr_storage *ss, socklen_t *len, uint32_t a, uint16_t port)
{
	struct sockaddr_in *s = (void *)ss;

	memset(ss, 0, sizeof *ss);
	s->sin_family = AF_INET;
	s->sin_port = htons(port);
	s->sin_addr.s_addr = htonl(a);
	*len = sizeof *s;
}

static void
sock6(struct sockaddr_storage *ss, socklen_t *len, const ip *a, uint16_t port)
{
	struct sockaddr_in6 *s = (void *)ss;

	memset(ss, 0, sizeof *ss);
	s->sin6_family = AF_INET6;
	s->sin6_port = htons(port);
	s->sin6_addr = *a;
	*len = sizeof *s;
}

/* The first name server of resolv.conf, read again when the file changes. */
static void
resolver(struct sockaddr_storage *ss, socklen_t *len)
{
	static struct sockaddr_storage have;
	static socklen_t havelen;
	static struct timespec seen;
	static int64_t looked;
	char line[256], word[128];
	struct in6_addr a6;
	struct in_addr a4;
	struct stat sb;
	FILE *f;
	int fd;

	if (looked && loop_now - looked < SEC)
		goto out;
	looked = loop_now;
	if (stat("/etc/resolv.conf", &sb) < 0 ||
	    (seen.tv_sec == sb.st_mtim.tv_sec &&
	    seen.tv_nsec == sb.st_mtim.tv_nsec))
		goto out;
	seen = sb.st_mtim;
	fd = porter_resolver();
	if (fd < 0)
		goto out;
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		goto out;
	}
	havelen = 0;
	while (!havelen && fgets(line, sizeof line, f)) {
		if (sscanf(line, " nameserver %127s", word) != 1)
			continue;
		word[strcspn(word, "%")] = 0;
		if (inet_pton(AF_INET, word, &a4) == 1)
			sock4(&have, &havelen, ntohl(a4.s_addr), 53);
		else if (inet_pton(AF_INET6, word, &a6) == 1)
			sock6(&have, &havelen, &a6, 53);
	}
	fclose(f);
out:
	if (!havelen)
		sock4(&have, &havelen, INADDR_LOOPBACK, 53);
	*ss = have;
	*len = havelen;
}

bool
to_loopback(const ip *dst, uint16_t port, struct sockaddr_storage *ss,
    socklen_t *len)
{
	if (is4(dst))
		sock4(ss, len, INADDR_LOOPBACK, port);
	else
		sock6(ss, len, &in6addr_loopback, port);
	return cf.loopback;
}

bool
to_host(const ip *dst, uint16_t port, struct sockaddr_storage *ss,
    socklen_t *len)
{
	uint32_t a;

	if (cf.restricted)
		return false;
	if (is_dns(dst)) {
		resolver(ss, len);
		return port == 53;
	}
	if (is_host(dst))
		return to_loopback(dst, port, ss, len);
	if (is4(dst)) {
		a = v4of(dst);
		/* not our own network, loopback, multicast, this-net */
		if (!cf.v4 || (a & cf.mask) == cf.net || a >> 24 == 127 ||
		    a >> 28 >= 14 || a >> 24 == 0)
			return false;
		sock4(ss, len, a, port);
		return true;
	}
	if (!cf.v6 || in_net(dst) || IN6_IS_ADDR_LOOPBACK(dst) ||
	    IN6_IS_ADDR_UNSPECIFIED(dst) || IN6_IS_ADDR_MULTICAST(dst))
		return false;
	sock6(ss, len, dst, port);
	return true;
}

void
from_host(const struct sockaddr_storage *ss, ip *a, uint16_t *port)
{
	const struct sockaddr_in *s4 = (const void *)ss;
	const struct sockaddr_in6 *s6 = (const void *)ss;
	uint32_t x;

	if (ss->ss_family == AF_INET) {
		x = ntohl(s4->sin_addr.s_addr);
		*port = ntohs(s4->sin_port);
		*a = mk4(x >> 24 == 127 ? cf.host : x);
	} else if (ss->ss_family == AF_INET6) {
		*port = ntohs(s6->sin6_port);
		*a = IN6_IS_ADDR_LOOPBACK(&s6->sin6_addr) ? cf.host6 :
		    s6->sin6_addr;
	} else {
		*port = 0;
		*a = mk4(cf.host);
	}
}

const char *
ipstr(const ip *a)
{
	static char buf[4][INET6_ADDRSTRLEN];
	static unsigned k;
	char *b = buf[k++ & 3];

	if (is4(a))
		inet_ntop(AF_INET, a->s6_addr + 12, b, sizeof *buf);
	else
		inet_ntop(AF_INET6, a, b, sizeof *buf);
	return b;
}

uint32_t
random32(void)
{
	static uint32_t pool[256];
	static unsigned left;

	if (!left) {
		if (getrandom(pool, sizeof pool, 0) != sizeof pool)
			abort();
		left = 256;
	}
	return pool[--left];
}

/* Keyed: guests and peers choose the numbers. */
uint32_t
flow_hash(const ip *a, uint16_t ap, const ip *b, uint16_t bp)
{
	static uint64_t key[2];
	uint64_t x[4], h;
	unsigned i;

	if (!key[0]) {
		key[0] = (uint64_t)random32() << 32 | random32() | 1;
		key[1] = (uint64_t)random32() << 32 | random32();
	}
	memcpy(x, a, 16);
	memcpy(x + 2, b, 16);
	h = key[1] ^ ap ^ (uint64_t)bp << 16;
	for (i = 0; i < 4; i++) {
		h = (h ^ x[i]) * (key[0] | 1);
		h ^= h >> 29;
		h = h << 23 | h >> 41;
	}
	h *= 0x9e3779b97f4a7c15ull;
	return h >> 32;
}

/* -------------------------------------------------------------- neighbours */

#define NB	1024		/* power of two; 4 places per address */

static struct nb { ip a; uint8_t mac[6]; bool used; uint32_t tick; } nbs[NB];
static uint32_t nb_tick;

static struct nb *
nb_find(const ip *a, bool make)
{
	unsigned h = flow_hash(a, 0, a, 0) & (NB - 1) & ~3u, i;
	struct nb *old = &nbs[h];

	for (i = h; i < h + 4; i++) {
		if (nbs[i].used && ipeq(&nbs[i].a, a))
			return &nbs[i];
		if (!nbs[i].used || nbs[i].tick < old->tick)
			old = &nbs[i];
	}
	if (!make)
		return NULL;
	old->used = true;
	old->a = *a;
	return old;
}

void
nb_learn(const ip *a, const uint8_t mac[6])
{
	struct nb *n;

	if (!in_net(a) || is_ours(a) || mac[0] & 1)
		return;
	n = nb_find(a, true);
	memcpy(n->mac, mac, 6);
	n->tick = ++nb_tick;
}

bool
nb_get(const ip *a, uint8_t mac[6])
{
	struct nb *n = nb_find(a, false);

	if (n) {
		memcpy(mac, n->mac, 6);
		return true;
	}
	if (is4(a))
		arp_ask(v4of(a));
	else
		ndp_ask(a);
	return false;
}
