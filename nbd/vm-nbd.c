/*
 * vm-nbd.c - export an image over NBD, with qemu-nbd's command line.
 * One thread accepts; a thread per client negotiates and serves.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <bsd/stdlib.h>

#include "nbd.h"

static struct nbd_export ex = { .name = "" };
static const struct tls_creds *creds;
static const char *authz;
static int wake[2];			/* written to when a client leaves */
static int active;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int fds[1024];

static void
on_term(int sig)
{
	char c = 'T';

	if (write(wake[1], &c, 1) < 0)
		_exit(1);
}

static void *
client(void *arg)
{
	int slot = (int)(intptr_t)arg, one = 1;
	struct nbd_conn c;
	char w = 'c';

	nbd_conn_init(&c, &ex, fds[slot], fds[slot]);
	c.creds = creds;
	c.authz = authz;
	setsockopt(c.in, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!nbd_handshake(&c))
		nbd_serve(&c, 16);
	nbd_conn_end(&c);
	pthread_mutex_lock(&lock);
	close(c.in);
	fds[slot] = -1;
	active--;
	pthread_mutex_unlock(&lock);
	if (write(wake[1], &w, 1) < 0)
		warn("pipe");
	return NULL;
}

static int
listen_unix(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(a.sun_path))
		errx(1, "UNIX socket path '%s' is too long", path);
	strcpy(a.sun_path, path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(fd, 64))
		err(1, "Failed to bind socket to %s", path);
	return fd;
}

static int
listen_tcp(const char *host, const char *port)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM, .ai_flags =
	    AI_PASSIVE }, *ai, *p;
	int fd = -1, one = 1, e;

	if ((e = getaddrinfo(host, port, &hint, &ai)))
		errx(1, "address resolution failed for %s:%s: %s", host ? host :
		    "", port, gai_strerror(e));
	for (p = ai; p; p = p->ai_next) {
		fd = socket(p->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (!bind(fd, p->ai_addr, p->ai_addrlen) && !listen(fd, 64))
			break;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(ai);
	if (fd < 0)
		err(1, "Failed to find an available port");
	return fd;
}

static int
cache(const char *s, int *f)
{
	static const struct { const char *n; int f; } tab[] = {
		{ "none", IMG_NOCACHE }, { "writeback", 0 },
		{ "unsafe", IMG_NOFLUSH }, { "writethrough", IMG_WRTHROUGH },
		{ "directsync", IMG_NOCACHE | IMG_WRTHROUGH },
	};

	for (size_t i = 0; i < sizeof(tab) / sizeof(tab[0]); i++)
		if (!strcmp(s, tab[i].n)) {
			*f |= tab[i].f;
			return 0;
		}
	return -1;
}

/* NAME or ID, or snapshot.id=ID,snapshot.name=NAME. */
static int
load_snapshot(const char *s, struct imgerr *e)
{
	int (*load)(struct img *, const char *, const char *, struct imgerr *) =
	    ex.im->drv->snap_load;
	struct opts o = { 0 };
	const char *id, *name;

	if (!load)
		return err_set(e, ENOTSUP, "Block format '%s' used by device '' "
		    "does not support temporarily loading internal snapshots",
		    ex.im->drv->name);
	if (strncmp(s, "snapshot.", 9))
		return load(ex.im, s, NULL, e) && load(ex.im, NULL, s, e) ? -1 :
		    0;
	if (opts_text(&o, s, NULL, e))
		return -1;
	id = opts_get(&o, "snapshot.id");
	name = opts_get(&o, "snapshot.name");
	for (struct optval *v = o.head; v; v = v->next)
		if (!v->used)
			return err_set(e, EINVAL, "Invalid parameter '%s'",
			    v->key);
	return load(ex.im, id, name, e);
}

static void
help(void)
{
	printf(
"Usage: vm-nbd [OPTIONS] FILE\n"
"Export a disk image over NBD, with qemu-nbd's options\n"
"  -p, --port=PORT           port to listen on (default 10809)\n"
"  -b, --bind=IFACE          interface to bind to\n"
"  -k, --socket=PATH         path to the unix socket\n"
"  -e, --shared=NUM          clients at a time (default 1, 0 unlimited)\n"
"  -t, --persistent          do not exit on the last connection\n"
"  -x, --export-name=NAME    export name (default is empty)\n"
"  -D, --description=TEXT    description\n"
"  -o, --offset=OFFSET       offset into the image\n"
"  -A, --allocation-depth    expose the allocation depth\n"
"  -B, --bitmap=NAME         expose a persistent dirty bitmap\n"
"  -f, --format=FORMAT       image format\n"
"  -r, --read-only           export read-only\n"
"  -l, --load-snapshot=PARAM export an internal snapshot\n"
"  -L, --list                print what a server at PORT or PATH exports\n"
"      --fork                go to the background when ready\n"
"      --pid-file=PATH       write the process id there\n"
"      --cache=MODE --aio=MODE --discard=MODE --detect-zeroes=MODE\n"
"      --image-opts --object=DEF\n"
"      --tls-creds=ID            demand TLS, with the credentials --object ID\n"
"      --tls-authz=ID            let in whom the authorization --object ID names\n"
"      --tls-hostname=NAME       -L: the name in the server's certificate\n"
"      --stdin               one client on standard input and output\n");
	exit(0);
}

static int
room(int shared)
{
	int i;

	pthread_mutex_lock(&lock);
	i = shared && active >= shared ? -1 : 0;
	for (; i >= 0 && i < 1024 && fds[i] >= 0; i++)
		;
	pthread_mutex_unlock(&lock);
	return i < 1024 ? i : -1;
}

static void
accept_loop(int ls, int shared, bool persistent)
{
	struct pollfd p[2] = { { ls, POLLIN, 0 }, { wake[0], POLLIN, 0 } };
	bool seen = false;
	pthread_t t;
	char w;
	int slot, fd;

	for (;;) {
		slot = room(shared);
		p[0].fd = slot >= 0 ? ls : -1;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			err(1, "poll");
		if (p[1].revents && read(wake[0], &w, 1) == 1) {
			if (w == 'T')
				return;
			pthread_mutex_lock(&lock);
			fd = active;
			pthread_mutex_unlock(&lock);
			if (!fd && seen && !persistent)
				return;
			continue;
		}
		if (!(p[0].revents & POLLIN) || slot < 0)
			continue;
		fd = accept4(ls, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		seen = true;
		pthread_mutex_lock(&lock);
		fds[slot] = fd;
		active++;
		pthread_mutex_unlock(&lock);
		if (pthread_create(&t, NULL, client, (void *)(intptr_t)slot)) {
			pthread_mutex_lock(&lock);
			close(fd);
			fds[slot] = -1;
			active--;
			pthread_mutex_unlock(&lock);
			continue;
		}
		pthread_detach(t);
	}
}

int
main(int argc, char **argv)
{
	enum { O_CACHE = 256, O_AIO, O_DISCARD, O_DZ, O_OBJ, O_TLS, O_IO,
		O_FORK, O_PID, O_STDIN, O_AUTHZ, O_HOSTNAME, O_SEL };
	static const struct option lo[] = {
		{ "help", 0, 0, 'h' }, { "version", 0, 0, 'V' },
		{ "port", 1, 0, 'p' }, { "bind", 1, 0, 'b' },
		{ "socket", 1, 0, 'k' }, { "shared", 1, 0, 'e' },
		{ "persistent", 0, 0, 't' }, { "verbose", 0, 0, 'v' },
		{ "export-name", 1, 0, 'x' }, { "description", 1, 0, 'D' },
		{ "offset", 1, 0, 'o' }, { "allocation-depth", 0, 0, 'A' },
		{ "bitmap", 1, 0, 'B' }, { "list", 0, 0, 'L' },
		{ "object", 1, 0, O_OBJ }, { "tls-creds", 1, 0, O_TLS },
		{ "tls-authz", 1, 0, O_AUTHZ },
		{ "tls-hostname", 1, 0, O_HOSTNAME }, { "trace", 1, 0, 'T' },
		{ "fork", 0, 0, O_FORK }, { "pid-file", 1, 0, O_PID },
		{ "selinux-label", 1, 0, O_SEL }, { "connect", 1, 0, 'c' },
		{ "disconnect", 0, 0, 'd' }, { "format", 1, 0, 'f' },
		{ "read-only", 0, 0, 'r' }, { "snapshot", 0, 0, 's' },
		{ "load-snapshot", 1, 0, 'l' }, { "nocache", 0, 0, 'n' },
		{ "cache", 1, 0, O_CACHE }, { "aio", 1, 0, O_AIO },
		{ "discard", 1, 0, O_DISCARD },
		{ "detect-zeroes", 1, 0, O_DZ }, { "image-opts", 0, 0, O_IO },
		{ "partition", 1, 0, 'P' }, { "stdin", 0, 0, O_STDIN }, { 0 }
	};
	const char *port = "10809", *host = NULL, *path = NULL, *fmt = NULL;
	const char *snap = NULL, *pidfile = NULL;
	const char *tlsid = NULL, *authzid = NULL, *hostname = NULL;
	bool persistent = false, dofork = false, io = false, use_stdin = false;
	bool temp = false, list = false;
	int c, shared = 1, fl = IMG_RDWR | IMG_UNMAP, ls = -1, ready[2];
	struct opts o = { 0 };
	struct imgerr e;
	struct sigaction sa = { .sa_handler = on_term };
	int once[3] = { 0 };		/* -n and --cache, --aio, --discard */
	const char *why;
	static char self[] = "vm-nbd";

	argv[0] = self;			/* getopt's messages */
	while ((c = getopt_long(argc, argv,
	    "hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:LP:", lo, NULL)) != -1)
		switch (c) {
		case 'h': help(); break;
		case 'V':
			printf("vm-nbd %s (Sluice)\n", VERSION);
			return 0;
		case 'p': port = optarg; break;
		case 'b': host = optarg; break;
		case 'k':
			path = optarg;
			if (*path != '/')
				errx(1, "socket path must be absolute");
			break;
		case 'e':
			shared = (int)strtonum(optarg, 0, INT32_MAX, &why);
			if (why)
				errx(1, "Invalid shared device number '%s'",
				    optarg);
			break;
		case 't': persistent = true; break;
		case 'v': break;
		case 'x':
			ex.name = optarg;
			if (strlen(optarg) > NBD_NAME_MAX)
				errx(1, "export name '%s' too long", optarg);
			break;
		case 'D':
			ex.description = optarg;
			if (strlen(optarg) > NBD_NAME_MAX)
				errx(1, "export description '%s' too long",
				    optarg);
			break;
		case 'o':
			if (size_parse(optarg, 'B', &ex.off))
				errx(1, "Invalid offset '%s'", optarg);
			break;
		case 'A': ex.depth = true; break;
		case 'B':
			if (ex.nbitmap == NBD_CTX_MAX - 2)
				errx(1, "too many bitmaps");
			ex.bitmap[ex.nbitmap++] = optarg;
			break;
		case 'f': fmt = optarg; break;
		case 'r': fl &= ~IMG_RDWR; break;
		case 'l':
			snap = optarg;
			fl &= ~IMG_RDWR;
			break;
		case 'n': case O_CACHE:
			if (once[0]++)
				errx(1, "-n and --cache can only be specified "
				    "once");
			if (cache(c == 'n' ? "none" : optarg, &fl))
				errx(1, "Invalid cache mode `%s'", optarg);
			break;
		case O_AIO:
			if (once[1]++)
				errx(1, "--aio can only be specified once");
			if (aio_parse(optarg, &e))
				errx(1, errno == ENOTSUP ? "--aio=%s: %s" :
				    "Invalid aio mode '%s'", optarg, e.s);
			break;
		case O_DISCARD:
			if (once[2]++)
				errx(1, "--discard can only be specified once");
			if (!strcmp(optarg, "ignore") || !strcmp(optarg,
			    "off"))
				fl &= ~IMG_UNMAP;
			else if (strcmp(optarg, "unmap") && strcmp(optarg,
			    "on"))
				errx(1, "Invalid discard mode `%s'", optarg);
			break;
		case O_DZ:
			if (strcmp(optarg, "off") && strcmp(optarg, "on") &&
			    strcmp(optarg, "unmap"))
				errx(1, "Failed to parse detect_zeroes mode: "
				    "invalid parameter value: %s", optarg);
			opts_set(&o, "detect-zeroes", optarg);
			break;
		case O_OBJ:
			if (img_object_add(optarg, &e))
				errx(1, "%s", e.s);
			break;
		case O_IO: io = true; break;
		case O_FORK: dofork = true; break;
		case O_PID: pidfile = optarg; break;
		case O_STDIN: use_stdin = true; break;
		case 'T': break;
		case 's': temp = true; break;
		case 'c': case 'd':
			errx(1, "the kernel's NBD client is not supported: use "
			    "nbd-client");
		case 'L': list = true; break;
		case 'P':
			errx(1, "--partition is gone: use --image-opts with "
			    "raw's offset and size");
		case O_TLS: tlsid = optarg; break;
		case O_AUTHZ: authzid = optarg; break;
		case O_HOSTNAME: hostname = optarg; break;
		case O_SEL:
			errx(1, "--selinux-label is not implemented");
		default:
			errx(1, "Try `vm-nbd --help' for more information.");
		}
	if (!tlsid && (authzid || hostname))
		errx(1, "--tls-%s is not permitted without --tls-creds",
		    authzid ? "authz" : "hostname");
	if (tlsid && !(creds = tls_creds_find(tlsid, !list, &e)))
		errx(1, "Failed to get TLS creds: %s", e.s);
	if (authzid && !(authz = tls_authz_find(authzid, &e)))
		errx(1, "%s", e.s);
	if (hostname && !list)
		errx(1, "TLS hostname is only supported with export list");
	if (list) {
		if (optind < argc)
			errx(1, "List mode is incompatible with a file name");
		if (*ex.name || ex.description || ex.off || ex.depth ||
		    ex.nbitmap || fmt || snap || once[0] || once[1] || once[2])
			errx(1, "List mode is incompatible with per-device "
			    "settings");
		if (dofork)
			errx(1, "List mode is incompatible with forking");
		if (nbd_list(host ? host : "0.0.0.0", port, path, creds,
		    hostname ? hostname : path ? NULL : host, &e))
			errx(1, "%s", e.s);
		return 0;
	}
	if (argc - optind != 1) {
		warnx("Invalid number of arguments");
		fprintf(stderr, "Try `vm-nbd --help' for more information.\n");
		return 1;
	}
	if (io && fmt)
		errx(1, "--image-opts and -f are mutually exclusive");
	/* before anything has a thread: an image by TLS has some */
	if (dofork) {
		pid_t pid;
		char ok;

		if (pipe(ready) || (pid = fork()) < 0)
			err(1, "fork");
		if (pid) {
			close(ready[1]);
			return read(ready[0], &ok, 1) == 1 ? 0 : 1;
		}
		close(ready[0]);
		setsid();
	}
	ex.readonly = !(fl & IMG_RDWR);
	if (temp)
		fl &= ~IMG_RDWR;
	if (io) {
		opts_text(&o, argv[optind], "file", &e);
		ex.im = img_open(NULL, NULL, &o, fl, &e);
	} else
		ex.im = img_open(argv[optind], fmt, &o, fl, &e);
	if (!ex.im)
		errx(1, "Failed to blk_new_open '%s': %s", argv[optind], e.s);
	if (snap && load_snapshot(snap, &e))
		errx(1, "Failed to load snapshot: %s", e.s);
	if (temp) {
		struct img *top = img_temporary(ex.im, &e);

		if (!top)
			errx(1, "%s", e.s);
		ex.im = top;
	}
	if (ex.off > ex.im->size)
		errx(1, "Offset (%llu) cannot be greater than size of the "
		    "containing file (%llu)", (unsigned long long)ex.off,
		    (unsigned long long)ex.im->size);
	ex.size = ex.im->size - ex.off;
	ex.multi = shared != 1;
	for (int i = ex.nbitmap - 1; i >= 0; i--) {
		bool d;
		uint64_t n;

		if (!ex.im->drv->bm_status || (ex.im->size &&
		    ex.im->drv->bm_status(ex.im, ex.bitmap[i], 0, 1, &d, &n)))
			errx(1, "Bitmap '%s' is not found", ex.bitmap[i]);
	}
	signal(SIGPIPE, SIG_IGN);
	if (use_stdin) {
		struct nbd_conn sc = { .x = &ex, .in = 0, .out = 1 };

		if (creds)
			errx(1, "TLS is for sockets, not --stdin");

		pthread_mutex_init(&sc.rlock, NULL);
		pthread_mutex_init(&sc.wlock, NULL);
		if (!nbd_handshake(&sc))
			nbd_serve(&sc, 1);
		return img_close(ex.im) ? 1 : 0;
	}
	if (pipe(wake))
		err(1, "pipe");
	memset(fds, 0xff, sizeof(fds));
	if (getenv("LISTEN_PID") && atoi(getenv("LISTEN_PID")) == getpid() &&
	    getenv("LISTEN_FDS") && atoi(getenv("LISTEN_FDS")) == 1)
		ls = 3;
	else
		ls = path ? listen_unix(path) : listen_tcp(host, port);
	if (pidfile) {
		FILE *f = fopen(pidfile, "we");

		if (!f || fprintf(f, "%ld\n", (long)getpid()) < 0 || fclose(f))
			err(1, "Failed to store PID in %s", pidfile);
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	if (dofork) {
		if (freopen("/dev/null", "r", stdin) == NULL ||
		    freopen("/dev/null", "w", stdout) == NULL ||
		    freopen("/dev/null", "w", stderr) == NULL ||
		    write(ready[1], "r", 1) != 1)
			return 1;
		close(ready[1]);
	}
	accept_loop(ls, shared, persistent);
	/* those still connected end, then the image can be closed */
	pthread_mutex_lock(&lock);
	for (int i = 0; i < 1024; i++)
		if (fds[i] >= 0)
			shutdown(fds[i], SHUT_RDWR);
	pthread_mutex_unlock(&lock);
	for (;;) {
		char w;

		pthread_mutex_lock(&lock);
		c = active;
		pthread_mutex_unlock(&lock);
		if (!c || read(wake[0], &w, 1) < 0)
			break;
	}
	if (path)
		unlink(path);
	c = img_close(ex.im);
	if (pidfile)
		unlink(pidfile);	/* gone: the image is closed */
	return c ? 1 : 0;
}
