/*
 * blk-nbd.c - a running disk as an NBD server (nbd/): the listening socket comes
 * with the question, to all disks of the machine, and the one that is exported
 * accepts.  Each client has threads of its own, which share the image with the
 * guest's requests.  What must have the image alone closes the gate;
 * a client that holds it, since it does not read what it asked for, is cut off.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../img/throttle.h"
#include "../nbd/nbd.h"
#include "blk.h"

enum { CLIENTS = 16, THREADS = 4, PATIENCE = 2 };

struct client {
	struct blk_nbd	*n;
	struct nbd_conn	c;
	pthread_t	thread;
	bool		used;
	_Atomic bool	gone;
};

struct blk_nbd {
	struct blk_priv	*b;
	struct nbd_export x;
	pthread_rwlock_t gate;
	int		fd;
	bool		exported;
	char		*address, name[256];
	struct client	client[CLIENTS];
};

static void *
serve(void *arg)
{
	struct client *c = arg;

	if (!nbd_handshake(&c->c))
		nbd_serve(&c->c, THREADS);
	shutdown(c->c.in, SHUT_RDWR);
	atomic_store(&c->gone, true);
	return NULL;
}

static void
bury(struct client *c)
{
	pthread_join(c->thread, NULL);
	close(c->c.in);
	c->used = false;
}

static unsigned
clients(struct blk_nbd *n)
{
	unsigned i, left = 0;

	for (i = 0; i < CLIENTS; i++) {
		if (n->client[i].used && atomic_load(&n->client[i].gone))
			bury(&n->client[i]);
		left += n->client[i].used;
	}
	return left;
}

static void
come(void *arg, int fd, short revents)
{
	struct blk_nbd *n = arg;
	struct client *c = n->client;
	sigset_t all, old;
	int s = accept4(fd, NULL, NULL, SOCK_CLOEXEC), r;

	if (s < 0)
		return;
	if (clients(n) == CLIENTS) {
		close(s);
		return;
	}
	while (c->used)
		c++;
	memset(c, 0, sizeof *c);
	c->n = n;
	c->c = (struct nbd_conn){ .x = &n->x, .in = s, .out = s };
	pthread_mutex_init(&c->c.rlock, NULL);
	pthread_mutex_init(&c->c.wlock, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&c->thread, NULL, serve, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		close(s);
	else
		c->used = true;
}

static void
cut(struct blk_nbd *n)
{
	unsigned i;

	for (i = 0; i < CLIENTS; i++)
		if (n->client[i].used)
			shutdown(n->client[i].c.in, SHUT_RDWR);
}

void
blk_nbd_gate(struct blk_nbd *n, bool closed)
{
	struct timespec t;

	if (!closed) {
		pthread_rwlock_unlock(&n->gate);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += PATIENCE;
	if (pthread_rwlock_clockwrlock(&n->gate, CLOCK_MONOTONIC, &t)) {
		cut(n);
		pthread_rwlock_wrlock(&n->gate);
	}
}

void
blk_nbd_use(struct blk_nbd *n, struct img *im)
{
	n->x.im = im;
}

bool
blk_nbd_busy(const struct blk_priv *b, FILE *out)
{
	if (!b->nbd || !b->nbd->exported)
		return false;
	fprintf(out, "Device '%s' is busy: it is exported", b->v.d->name);
	return true;
}

/* No clients, and no more of them. */
static void
end_export(struct blk_nbd *n)
{
	unsigned i;

	if (!n->exported)
		return;
	loop_fd_del(n->b->v.d->loop, n->fd);
	cut(n);
	throttle_off(n->x.im->throttle, true);
	for (i = 0; i < CLIENTS; i++)
		if (n->client[i].used)
			bury(&n->client[i]);
	throttle_off(n->x.im->throttle, false);
	n->exported = false;
}

void
blk_nbd_quit(struct blk_priv *b)
{
	struct blk_nbd *n = b->nbd;

	if (!n)
		return;
	end_export(n);
	close(n->fd);
	pthread_rwlock_destroy(&n->gate);
	free(n->address);
	free(n);
	b->nbd = NULL;
}

static int
begin(struct blk_priv *b, const char *address, int fd, FILE *out)
{
	pthread_rwlockattr_t a;
	struct blk_nbd *n;

	if (b->nbd || fd < 0 || !address) {
		fprintf(out, b->nbd ? "NBD server already running" :
		    "no socket to listen at");
		return b->nbd ? EBUSY : EINVAL;
	}
	if (!(n = calloc(1, sizeof *n)) || !(n->address = strdup(address))) {
		free(n);
		return ENOMEM;
	}
	n->b = b;
	n->fd = fd;
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a,
	    PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&n->gate, &a);
	pthread_rwlockattr_destroy(&a);
	b->nbd = n;
	return 0;
}

static int
add(struct blk_priv *b, const char *name, bool rw, FILE *out)
{
	struct blk_nbd *n = b->nbd;

	if (blk_nbd_busy(b, out))
		return EBUSY;
	if (!name || strlen(name) >= sizeof n->name || (rw && b->ro)) {
		fprintf(out, rw && b->ro ? "the disk is read-only" :
		    "an export needs a name of up to 255 bytes");
		return EINVAL;
	}
	strcpy(n->name, name);
	n->x = (struct nbd_export){ .im = b->img, .name = n->name,
	    .size = b->bytes, .readonly = !rw, .multi = true,
	    .gate = &n->gate };
	if (loop_fd(b->v.d->loop, n->fd, POLLIN, come, n))
		return ENOMEM;
	n->exported = true;
	return 0;
}

int
blk_nbd_ask(struct blk_priv *b, char **argv, FILE *out)
{
	const char *verb = argv[1];
	struct blk_nbd *n = b->nbd;
	int fd, e;

	if (!strcmp(verb, "start")) {
		fd = part_take_fd(b->v.d->part);
		if ((e = begin(b, line_key(argv, "address"), fd, out)) &&
		    fd >= 0)
			close(fd);
		return e;
	}
	if (!n) {
		fprintf(out, "NBD server not running");
		return ESRCH;
	}
	if (!strcmp(verb, "add"))
		return add(b, line_key(argv, "name"),
		    line_key(argv, "writable"), out);
	if (!strcmp(verb, "export")) {
		fputs(n->exported ? n->name : "", out);
	} else if (!strcmp(verb, "remove")) {
		if (!line_key(argv, "force") && clients(n)) {
			fprintf(out, "export '%s' still in use", n->name);
			return EBUSY;
		}
		end_export(n);
	} else if (!strcmp(verb, "stop")) {
		fputs(n->address, out);
		blk_nbd_quit(b);
	} else {
		return EINVAL;
	}
	return 0;
}
