/* links: switch */
/*
 * switch-frame: Ethernet frames by hand.
 *
 *	switch-frame NAME=WIRE... <script
 *
 * Script lines: `send NAME HEX`, `expect NAME HEX` (a prefix; others are
 * skipped for up to five seconds), `none NAME HEX` (nothing with this prefix
 * before a `send` of ours comes back round: waits 200 ms), `burst NAME N HEX`,
 * `count NAME N HEX`.  Blanks in HEX do not count; frames are padded to 60.
 * Exit status 1 and the line at the first failure.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "switch/wire.h"

static struct end {
	char	name[16];
	struct wire *w;
	struct { uint8_t d[2048]; unsigned len; } q[2048];
	unsigned nq;
} ends[16];
static unsigned nends, lineno;

static void
rx(void *arg, struct wire *w, struct frame *f, unsigned n)
{
	struct end *e = arg;

	for (unsigned i = 0; i < n; i++) {
		if (e->nq == 2048 || f[i].len > 2048)
			continue;
		memcpy(e->q[e->nq].d, f[i].p, f[i].len);
		e->q[e->nq++].len = f[i].len;
	}
}

static struct end *
by_name(const char *s)
{
	for (unsigned i = 0; i < nends; i++)
		if (!strcmp(ends[i].name, s))
			return &ends[i];
	errx(2, "line %u: %s: no such wire", lineno, s);
}

static unsigned
hex(const char *s, uint8_t *out)
{
	unsigned n = 0, v;

	for (; *s; s++) {
		if (*s == ' ' || *s == '\t' || *s == ':')
			continue;
		if (sscanf(s, "%2x", &v) != 1 || n == 2000)
			errx(2, "line %u: bad hex", lineno);
		out[n++] = v;
		s++;
	}
	return n;
}

/* Take the first queued frame with the prefix. */
static bool
take(struct end *e, const uint8_t *p, unsigned n)
{
	for (unsigned i = 0; i < e->nq; i++)
		if (e->q[i].len >= n && !memcmp(e->q[i].d, p, n)) {
			memmove(&e->q[i], &e->q[i + 1], (e->nq - i - 1) *
			    sizeof e->q[0]);
			e->nq--;
			return true;
		}
	return false;
}

int
main(int argc, char **argv)
{
	char line[8192], verb[16], name[16], why[200], *p;
	static uint8_t b[2048];
	struct end *e;
	unsigned n, want, got;
	int64_t end;
	int at;

	loop_init();
	for (int i = 1; i < argc; i++) {
		p = strchr(argv[i], '=');
		if (!p || p - argv[i] > 15 || nends == 16)
			errx(2, "NAME=WIRE...");
		e = &ends[nends++];
		memcpy(e->name, argv[i], p - argv[i]);
		e->w = wire_open(p + 1, rx, e, why, sizeof why);
		if (!e->w)
			errx(2, "%s", why);
	}
	while (fgets(line, sizeof line, stdin)) {
		lineno++;
		line[strcspn(line, "\n#")] = 0;
		want = 1;
		if (sscanf(line, "%15s %15s %n", verb, name, &at) < 2)
			continue;
		if (!strcmp(verb, "burst") || !strcmp(verb, "count")) {
			want = strtoul(line + at, &p, 10);
			at = p - line;
		}
		e = by_name(name);
		memset(b, 0, sizeof b);
		n = hex(line + at, b);
		if (!strcmp(verb, "send") || !strcmp(verb, "burst")) {
			for (; want; want--) {
				wire_put(e->w, b, n < 60 ? 60 : n);
				wire_flush_all();
				loop_step(0);
			}
			continue;
		}
		end = mono() + (*verb == 'n' ? 200 * MSEC : 5 * SEC);
		for (got = 0; got < want && mono() < end; ) {
			if (take(e, b, n))
				got++;
			else
				loop_step(end - mono());
		}
		if (*verb == 'n' ? got != 0 : got != want) {
			printf("line %u: %s: got %u\n", lineno, line, got);
			for (n = 0; n < e->nq && n < 5; n++) {
				printf("  have:");
				for (unsigned k = 0; k < 48; k++)
					printf(" %02x", e->q[n].d[k]);
				printf("\n");
			}
			return 1;
		}
	}
	for (n = 0; n < nends; n++)
		wire_close(ends[n].w);
	printf("ok\n");
	return 0;
}
