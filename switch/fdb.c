/*
 * fdb.c - the forwarding database: (MAC, VLAN) -> port, 4-way set-associative,
 * entries age by comparison, so nothing ever has to sweep it.  It is much larger
 * than asked for: a station that lost its place to others in its set would have
 * its frames sent everywhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "switch.h"

#define WAYS	4

struct entry { uint64_t key; uint32_t seen; uint16_t port, used; };

static struct entry *tab;
static unsigned nset = 0, asked = 128, gc = 2, expire = 100, minper = 3;
static uint64_t salt = 0x9e3779b97f4a7c15ull;

static uint32_t
secs(void)
{
	return loop_now / SEC;
}

static struct entry *
set_of(uint64_t key)
{
	uint64_t h = (key ^ salt) * 0xd6e8feb86659fd93ull;

	return &tab[(h >> 32 & (nset - 1)) * WAYS];
}

int
fdb_size(unsigned n)
{
	struct entry *new;
	unsigned sets = 1024;

	if (n < 1 || n > 1 << 20)
		return EINVAL;
	while (sets < 4 * n)
		sets *= 2;
	new = calloc(sets * WAYS, sizeof *new);
	if (!new)
		return ENOMEM;
	free(tab);
	tab = new;
	nset = sets;
	asked = n;
	return 0;
}

static bool
live(const struct entry *e)
{
	return e->used && secs() - e->seen <= expire;
}

static void
say(enum dbg d, const struct entry *e)
{
	uint64_t m = e->key >> 12;

	if (debug_wanted & 1u << d)
		debug_out(d, "%02x:%02x:%02x:%02x:%02x:%02x VLAN %02x:%02x "
		    "Port %d", (int)(m >> 40 & 255), (int)(m >> 32 & 255),
		    (int)(m >> 24 & 255), (int)(m >> 16 & 255),
		    (int)(m >> 8 & 255), (int)(m & 255),
		    (int)(e->key >> 8 & 15), (int)(e->key & 255), e->port);
}

void
fdb_learn(uint64_t mac, unsigned vlan, unsigned port)
{
	uint64_t key = mac << 12 | vlan;
	struct entry *e = set_of(key), *old = e;
	unsigned i;

	for (i = 0; i < WAYS; i++) {
		if (e[i].used && e[i].key == key) {
			/* a station does not move that fast: a loop would */
			if (e[i].port != port && live(&e[i]) &&
			    secs() - e[i].seen < minper)
				return;
			e[i].port = port;
			e[i].seen = secs();
			return;
		}
		if (!live(&e[i]) ? live(old) || &e[i] == old :
		    live(old) && e[i].seen < old->seen)
			old = &e[i];
	}
	if (old->used)
		say(D_HASHM, old);
	*old = (struct entry){ key, secs(), port, 1 };
	say(D_HASHP, old);
}

unsigned
fdb_find(uint64_t mac, unsigned vlan)
{
	uint64_t key = mac << 12 | vlan;
	struct entry *e = set_of(key);

	for (unsigned i = 0; i < WAYS; i++)
		if (e[i].key == key && live(&e[i]))
			return e[i].port;
	return 0;
}

void
fdb_flush(int vlan, int port)
{
	for (unsigned i = 0; i < nset * WAYS; i++)
		if (tab[i].used && (vlan < 0 || (tab[i].key & 4095) ==
		    (unsigned)vlan) && (port < 0 || tab[i].port != port))
			tab[i].used = 0;
}

void
fdb_forget_port(unsigned port)
{
	for (unsigned i = 0; i < nset * WAYS; i++)
		if (tab[i].used && tab[i].port == port) {
			say(D_HASHM, &tab[i]);
			tab[i].used = 0;
		}
}

/* ---------------------------------------------------------------- commands */

static void
print(FILE *out, const struct entry *e)
{
	uint64_t m = e->key >> 12;

	fprintf(out, "Hash: %04d Addr: %02x:%02x:%02x:%02x:%02x:%02x VLAN %04d "
	    "to port: %03d  age %u secs\n", (int)((e - tab) / WAYS),
	    (int)(m >> 40 & 255), (int)(m >> 32 & 255), (int)(m >> 24 & 255),
	    (int)(m >> 16 & 255), (int)(m >> 8 & 255), (int)(m & 255),
	    (int)(e->key & 4095), e->port, secs() - e->seen);
}

static int
c_showinfo(struct session *s, FILE *out, char *arg)
{
	fprintf(out, "Hash size %u\nGC interval %u secs\nGC expire %u secs\n"
	    "Min persistence %u secs\n", asked, gc, expire, minper);
	return 0;
}

static int
c_print(struct session *s, FILE *out, char *arg)
{
	for (unsigned i = 0; i < nset * WAYS; i++)
		if (live(&tab[i]))
			print(out, &tab[i]);
	return 0;
}

static int
c_find(struct session *s, FILE *out, char *arg)
{
	unsigned m[6], vlan = 0, i;
	uint64_t key = 0;
	struct entry *e;

	if (sscanf(arg, "%2x:%2x:%2x:%2x:%2x:%2x %u", &m[0], &m[1], &m[2],
	    &m[3], &m[4], &m[5], &vlan) < 6 || vlan >= NVLAN)
		return EINVAL;
	for (i = 0; i < 6; i++)
		key = key << 8 | m[i];
	key = key << 12 | vlan;
	for (e = set_of(key), i = 0; i < WAYS; i++)
		if (e[i].key == key && live(&e[i])) {
			print(out, &e[i]);
			return 0;
		}
	return ENODEV;
}

static int
number(char *arg, unsigned *to)
{
	long v;

	if (arg_nums(arg, 1, &v) != 1 || v < 0 || v > 1000000)
		return EINVAL;
	*to = v;
	return 0;
}

static int
c_setsize(struct session *s, FILE *out, char *arg)
{
	unsigned n;

	return number(arg, &n) ? EINVAL : fdb_size(n);
}

static int
c_setgcint(struct session *s, FILE *out, char *arg)
{
	return number(arg, &gc);
}

static int
c_setexpire(struct session *s, FILE *out, char *arg)
{
	return number(arg, &expire);
}

static int
c_setminper(struct session *s, FILE *out, char *arg)
{
	return number(arg, &minper);
}

const struct command fdb_cmds[] = {
	{ "hash", "============", "HASH TABLE MENU" },
	{ "hash/showinfo", "", "show hash info", c_showinfo, true },
	{ "hash/setsize", "N", "change hash size", c_setsize },
	{ "hash/setgcint", "N", "change garbage collector interval",
	    c_setgcint },
	{ "hash/setexpire", "N", "change hash entries expire time",
	    c_setexpire },
	{ "hash/setminper", "N", "minimum persistence time", c_setminper },
	{ "hash/print", "", "print the hash table", c_print, true },
	{ "hash/find", "MAC [VLAN]", "MAC lookup", c_find, true },
	{ NULL }
};
