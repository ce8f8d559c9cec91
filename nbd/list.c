/*
 * list.c - what a server exports (the NBD project's doc/proto.md, NBD_OPT_LIST,
 * NBD_OPT_INFO, NBD_OPT_LIST_META_CONTEXT), by libnbd, as qemu-nbd prints it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "../img/net-nbd-tls.h"
#include "../img/net.h"
#include "nbd.h"

#define CALLS(X) X(create) X(close) X(get_error) X(set_opt_mode) \
	X(set_full_info) X(set_export_name) X(connect_socket) X(opt_list) \
	X(opt_info) X(opt_abort) X(opt_list_meta_context) X(get_size) \
	X(get_block_size) X(is_read_only) X(can_flush) X(can_fua) \
	X(is_rotational) X(can_trim) X(can_zero) X(can_df) X(can_multi_conn) \
	X(can_cache) X(can_fast_zero)
#define NAME(f) "nbd_" #f,
static const char *const calls[] = { CALLS(NAME) };
#define MEMBER(f) __typeof__(nbd_##f) *f;
static union {
	struct { CALLS(MEMBER) };
	void *p[sizeof(calls) / sizeof(calls[0])];
} lib;

enum { EXPORTS_MAX = 65536 };		/* no server needs more of our memory */
struct names {
	char	**name, **text;
	size_t	n;
};

static void
forget(struct names *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->name[i]);
		free(l->text[i]);
	}
	free(l->name);
	free(l->text);
	*l = (struct names){ 0 };
}

static int
remember(void *arg, const char *name, const char *text)
{
	struct names *l = arg;
	char **a, **b;

	if (l->n == EXPORTS_MAX)
		return -1;
	a = realloc(l->name, (l->n + 1) * sizeof(*a));
	if (a)
		l->name = a;
	b = realloc(l->text, (l->n + 1) * sizeof(*b));
	if (b)
		l->text = b;
	if (!a || !b)
		return -1;
	a[l->n] = strdup(name);
	b[l->n++] = strdup(text ? text : "");
	return 0;
}

static int
remember_context(void *arg, const char *name)
{
	return remember(arg, name, NULL);
}

/* The transmission flags, put together again. */
static void
flags(struct nbd_handle *h)
{
	const struct { const char *name; unsigned bit; int on; } tab[] = {
		{ "readonly", 1, lib.is_read_only(h) },
		{ "flush", 2, lib.can_flush(h) }, { "fua", 3, lib.can_fua(h) },
		{ "rotational", 4, lib.is_rotational(h) },
		{ "trim", 5, lib.can_trim(h) },
		{ "zeroes", 6, lib.can_zero(h) }, { "df", 7, lib.can_df(h) },
		{ "multi", 8, lib.can_multi_conn(h) },
		{ "cache", 10, lib.can_cache(h) },
		{ "fast-zero", 11, lib.can_fast_zero(h) },
	};
	unsigned bits = 1;			/* there are flags */

	for (size_t i = 0; i < sizeof(tab) / sizeof(tab[0]); i++)
		bits |= (tab[i].on > 0) << tab[i].bit;
	printf("  flags: 0x%x (", bits);
	for (size_t i = 0; i < sizeof(tab) / sizeof(tab[0]); i++)
		if (tab[i].on > 0)
			printf(" %s", tab[i].name);
	printf(" )\n");
}

static void
describe(struct nbd_handle *h, const char *name, const char *text)
{
	static const struct { const char *name; int type; } blocks[] = {
		{ "min", LIBNBD_SIZE_MINIMUM },
		{ "opt", LIBNBD_SIZE_PREFERRED },
		{ "max", LIBNBD_SIZE_MAXIMUM },
	};
	struct names l = { 0 };

	printf(" export: '%s'\n", name);
	if (*text)
		printf("  description: %s\n", text);
	if (lib.set_export_name(h, name) || lib.opt_info(h))
		return;			/* gone meanwhile, or not for us */
	printf("  size:  %lld\n", (long long)lib.get_size(h));
	flags(h);
	for (int i = 0; i < 3; i++) {
		int64_t v = lib.get_block_size(h, blocks[i].type);

		if (v > 0)
			printf("  %s block: %lld\n", blocks[i].name,
			    (long long)v);
	}
	if (lib.opt_list_meta_context(h, (nbd_context_callback){
	    .callback = remember_context, .user_data = &l }) > 0) {
		printf("  available meta contexts: %zu\n", l.n);
		for (size_t i = 0; i < l.n; i++)
			printf("   %s\n", l.name[i]);
	}
	forget(&l);
}

int
nbd_list(const char *host, const char *port, const char *path,
    const struct tls_creds *creds, const char *hostname, struct imgerr *e)
{
	struct address a = { (char *)(uintptr_t)host,
		(char *)(uintptr_t)port, (char *)(uintptr_t)path };
	struct names l = { 0 };
	struct nbd_handle *h = NULL;
	struct nbd_tls *tls = NULL;
	int fd, r = -1;

	if (library("libnbd.so.0", calls, sizeof(lib.p) / sizeof(lib.p[0]),
	    lib.p, e) || (fd = address_connect(&a, e)) < 0)
		return -1;
	if (creds && (fd = nbd_tls_start(fd, creds, hostname, &tls, e)) < 0)
		return -1;
	h = lib.create();
	if (!h || lib.set_opt_mode(h, true) || lib.set_full_info(h, true)) {
		close(fd);
		goto bad;
	}
	if (lib.connect_socket(h, fd) || lib.opt_list(h, (nbd_list_callback){
	    .callback = remember, .user_data = &l }) < 0)
		goto bad;
	printf("exports available: %zu\n", l.n);
	for (size_t i = 0; i < l.n; i++)
		describe(h, l.name[i], l.text[i]);
	lib.opt_abort(h);
	r = 0;
	goto out;
bad:
	err_set(e, EIO, "Failed to list exports: %s", lib.get_error());
out:
	forget(&l);
	if (h)
		lib.close(h);
	nbd_tls_end(tls, r ? e : NULL);
	return r;
}
