/* links: img nbd */
/*
 * nbd-fuzz server|client FINDINGS COUNT [SEED]: COUNT hostile conversations in
 * the NBD protocol, in this process.  As a server, what we get is options and
 * requests near to right ones.  As a client, we use a disk on our own server,
 * some bytes of whose answers are changed on the way, or lost; nbd-fuzz client
 * DIRECTORY -r INPUT does one of these again.
 */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "nbd/nbd.h"
#include "fuzz.h"
#include "img-fuzz-use.h"

enum { MESSAGES = 20, PATCHES = 8, DISK = 3 << 20 };
enum kind { OPTION, REQUEST, JUNK, KINDS };
struct message {
	uint64_t	off;
	uint32_t	len;
	int32_t		lie;		/* in a length */
	uint16_t	type, flags;
	uint8_t		kind, n;
};
struct input {
	uint32_t	start;		/* the client's flags */
	uint32_t	n;
	uint64_t	ops;
	struct message	m[MESSAGES];
	uint64_t	at[PATCHES];	/* in what the server says */
	uint8_t		byte[PATCHES];
	uint32_t	npatch;
};
static struct nbd_export ex;
static bool client;
static char dir[] = "/dev/shm/nbd-fuzz.XXXXXX";

/* ----------------------------------------------------------------- inputs */

static void
make(void *v)
{
	struct input *in = v;
	static const uint16_t opening[] = { 8, 9, 10, 3, 6, 7, 1 };

	memset(in, 0, sizeof(*in));
	in->start = 3;
	in->ops = rnd(1u << 31);
	if (client)
		return;
	for (int i = 0; i < 7; i++)
		if (i == 5 || !rnd(2)) {
			struct message *m = &in->m[in->n++];

			*m = (struct message){ .type = opening[i],
				.n = (uint8_t)rnd(4) };
			if (i >= 5)
				break;
		}
	while (in->n < MESSAGES && rnd(12)) {
		struct message *m = &in->m[in->n++];

		*m = (struct message){ .kind = REQUEST, .type = (uint16_t)
			rnd(8), .off = rnd(DISK), .len = (uint32_t)rnd(70000),
			.flags = rnd(2) ? (uint16_t)rnd(32) : 0 };
		if (m->type == NBD_DISC)
			m->type = NBD_STATUS;
	}
}

static void
change(void *v, const void *o)
{
	struct input *in = v;
	const struct input *other = o;
	struct message *m;

	in->ops = rnd(1u << 31);
	for (int i = 1 + (int)rnd(3); client && i; i--) {
		uint32_t k = in->npatch < PATCHES ? in->npatch++ :
		    (uint32_t)rnd(PATCHES);

		in->at[k] = rnd(3) ? rnd(400) : rnd(rnd(2) ? 4000 : 400000);
		in->byte[k] = (uint8_t)fz_value(rnd(256), 255);
	}
	for (int i = 1 + (int)rnd(3); !client && i; i--) {
		m = in->n ? &in->m[rnd(in->n)] : NULL;
		switch (rnd(10)) {
		case 0: in->start = rnd(3) ? 3 : (uint32_t)fz_value(3, 1); break;
		case 1: if (m) m->off = fz_value(m->off, DISK); break;
		case 2: if (m) m->len = (uint32_t)fz_value(m->len, DISK); break;
		case 3: if (m) m->lie = rnd(2) ? (int32_t)fz_value(1, 70000) :
			    (int32_t)rnd(9) - 4; break;
		case 4: if (m) m->type = rnd(2) ? (uint16_t)fz_value(m->type,
			    1) : (uint16_t)rnd(12); break;
		case 5: if (m) m->flags = (uint16_t)fz_value(m->flags, 1); break;
		case 6: if (m) m->n = (uint8_t)rnd(256); break;
		case 7: if (m) m->kind = (uint8_t)rnd(KINDS); break;
		case 8: if (m && other->n) *m = other->m[rnd(other->n)]; break;
		case 9: if (m) *m = in->m[--in->n]; break;
		}
	}
}

static void
print(FILE *f, const void *v)
{
	const struct input *in = v;

	fprintf(f, "start %u ops %llx", in->start, (unsigned long long)in->ops);
	for (uint32_t i = 0; i < in->n; i++)
		fprintf(f, " %s:%u:%u:%llu:%u:%d:%u", in->m[i].kind == OPTION ?
		    "option" : in->m[i].kind == REQUEST ? "request" : "junk",
		    in->m[i].type, in->m[i].flags, (unsigned long long)
		    in->m[i].off, in->m[i].len, in->m[i].lie, in->m[i].n);
	for (uint32_t i = 0; i < in->npatch; i++)
		fprintf(f, " %llu=%02x", (unsigned long long)in->at[i],
		    in->byte[i]);
}

/* ------------------------------------------------------------- the server */

static uint8_t talk[2 << 20];
static size_t said;

static void
put(const void *p, size_t n)
{
	n = umin(n, sizeof(talk) - said);
	memmove(talk + said, p, n);
	said += n;
}

static void
put32(uint32_t v)
{
	uint8_t b[4];

	pbe32(b, v);
	put(b, 4);
}

/* The data of an option. */
static void
option(const struct message *m)
{
	static const char *const query[] = { "base:allocation", "base:",
		"qemu:", "qemu:allocation-depth", "qemu:dirty-bitmap:",
		"qemu:dirty-bitmap:b0", "qemu:dirty-bitmap:b1", "x", "" };
	uint8_t h[16], w[2] = { 0 };
	size_t at = said;

	pbe64(h, NBD_IHAVEOPT);
	pbe32(h + 8, m->type);
	put(h, 16);
	switch (m->type) {
	case 1:
		put("disk", m->n & 0x80 ? 3 : 4);
		break;
	case 6: case 7:
		put32(4 + (m->n & 0x40 ? (uint32_t)m->lie : 0));
		put("disk", 4);
		w[1] = m->n & 7;
		put(w, 2);
		for (unsigned i = 0; i < (m->n & 7u); i++) {
			w[1] = (uint8_t)i;
			put(w, 2);
		}
		break;
	case 9: case 10:
		put32(4 + (m->n & 0x40 ? (uint32_t)m->lie : 0));
		put("disk", 4);
		put32(m->n & 0x20 ? m->len : m->n & 15u);
		for (unsigned i = 0; i < (m->n & 15u); i++) {
			const char *q = query[(i + m->off) % 9];

			put32((uint32_t)strlen(q) + (m->flags == i ?
			    (uint32_t)m->lie : 0));
			put(q, strlen(q));
		}
		break;
	default:
		put(talk, m->n & 63);
	}
	pbe32(talk + umin(at + 12, sizeof(talk) - 4), (uint32_t)(said - at - 16)
	    + (m->n & 0x60 ? 0 : (uint32_t)m->lie));
}

static void
message(const struct message *m, uint32_t i)
{
	uint8_t h[28];

	switch (m->kind) {
	case OPTION:
		option(m);
		break;
	case REQUEST:
		pbe32(h, NBD_REQUEST);
		pbe16(h + 4, m->flags);
		pbe16(h + 6, m->type);
		pbe64(h + 8, i);
		pbe64(h + 16, m->off);
		pbe32(h + 24, m->len);
		put(h, 28);
		if (m->type == NBD_WRITE)
			put(talk, umin(umin(m->len, 1 << 17) + (uint32_t)
			    m->lie % 5, said));
		break;
	default:
		pbe64(h, m->off);
		put(h, m->n % 28u);
	}
}

static int to_server, from_server = -1;

static void
serve(const struct input *in)
{
	struct nbd_conn c;

	nbd_conn_init(&c, &ex, to_server, from_server);
	said = 0;
	put32(in->start);
	for (uint32_t i = 0; i < in->n; i++)
		message(&in->m[i], i);
	if (ftruncate(to_server, 0) || pwrite(to_server, talk, said, 0) < 0 ||
	    lseek(to_server, 0, SEEK_SET))
		err(1, "memory");
	if (!nbd_handshake(&c)) {
		fz->ok++;
		nbd_serve(&c, 1);
	}
	nbd_conn_end(&c);
}

/* ------------------------------------------------------------- the client */

static const struct input *played;
static int player = -1, listener = -1;
static uint64_t answered;

/* What a server says goes through here: nothing of it is kept, or some of it
 * changed.  The library of our client side has its own descriptors. */
ssize_t
send(int fd, const void *p, size_t n, int flags)
{
	uint8_t b[65536];

	if (fd == from_server)
		return (ssize_t)n;
	if (fd != player || !played)
		return syscall(SYS_sendto, fd, p, n, flags, NULL, 0);
	n = umin(n, sizeof(b));
	memcpy(b, p, n);
	for (uint32_t i = 0; i < played->npatch; i++) {
		uint64_t at = played->at[i];

		if (at < answered || at >= answered + n)
			continue;
		if (played->byte[i] == 0xee) {
			errno = EPIPE;		/* it dies here */
			return -1;
		}
		b[at - answered] = played->byte[i];
	}
	answered += n;
	return syscall(SYS_sendto, fd, b, n, flags, NULL, 0);
}

static void *
play(void *arg)
{
	/* whoever waits for more than comes gets the end of the connection */
	struct timeval soon = { 0, 3000 };
	struct nbd_conn c;

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			break;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
		nbd_conn_init(&c, &ex, fd, fd);
		player = fd;
		if (!nbd_handshake(&c))
			nbd_serve(&c, 1);
		player = -1;
		nbd_conn_end(&c);
		close(fd);
	}
	return NULL;
}

static void
ask(const struct input *in)
{
	static const char name[] = "nbd+unix:///disk?socket=s";
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "s" };
	pthread_t t;

	unlink("s");
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(listener, 8))
		err(1, "socket");
	answered = 0;
	played = in;
	if (pthread_create(&t, NULL, play, NULL))
		err(1, "thread");
	if (use(name, "raw", "", in->ops))
		fz->ok++;
	shutdown(listener, SHUT_RDWR);
	pthread_join(t, NULL);
	close(listener);
	played = NULL;
}

/* ---------------------------------------------------------------------- */

static void
run(const void *v)
{
	if (client)
		ask(v);
	else
		serve(v);
}

/* libnbd keeps the text of a thread's last error. */
static const struct fuzz target = { sizeof(struct input), 400, make, change,
	run, print };

/* A disk with holes, a backing image and bitmaps. */
static void
disk(void)
{
	struct opts o = { 0 };
	struct imgerr e;
	uint8_t b[8192] = { 7 };

	opts_setf(&o, "size", "%d", 1 << 20);
	if (img_create("raw", "base", &o, &e))
		errx(1, "%s", e.s);
	opts_free(&o);
	opts_setf(&o, "size", "%d", DISK);
	opts_set(&o, "backing_file", "base");
	opts_set(&o, "backing_fmt", "raw");
	if (img_create("qcow2", "x", &o, &e) || !(ex.im = img_open("x", "qcow2",
	    NULL, IMG_RDWR | IMG_UNMAP | IMG_NOFLUSH | IMG_NOLOCK, &e)))
		errx(1, "%s", e.s);
	if (ex.im->drv->bm_op(ex.im, BM_ADD, "b0", 0, &e) ||
	    ex.im->drv->bm_op(ex.im, BM_ADD, "b1", 4096, &e) ||
	    img_pwrite(ex.im, b, sizeof(b), 100000, 0))
		errx(1, "the disk cannot be filled");
	ex.name = "disk";
	ex.description = "a disk";
	ex.size = DISK - 4096 - 100;
	ex.off = 4096;
	ex.depth = true;
	ex.bitmap[0] = "b0";
	ex.bitmap[1] = "b1";
	ex.nbitmap = 2;
}

/* One input of the client's, as a finding has it. */
static void
replay(const char *text)
{
	struct input in = { .start = 3 };
	unsigned long long v;
	unsigned byte;
	int k;

	if (sscanf(text, "start %*u ops %llx%n", &v, &k) != 1)
		errx(2, "'%s'?", text);
	in.ops = v;
	for (text += k; in.npatch < PATCHES && sscanf(text, " %llu=%x%n", &v,
	    &byte, &k) == 2; text += k) {
		in.at[in.npatch] = v;
		in.byte[in.npatch++] = (uint8_t)byte;
	}
	memcpy(fz->cur, &in, sizeof(in));
	signal(SIGPROF, fz_alarm);
	signal(SIGALRM, fz_alarm);
	fz_one();
}

int
main(int argc, char **argv)
{
	uint64_t n = 0;
	char *out;

	if (argc < 4 || (strcmp(argv[1], "server") && strcmp(argv[1],
	    "client")))
		errx(2, "usage: nbd-fuzz server|client FINDINGS COUNT [SEED]");
	client = *argv[1] == 'c';
	fz_init(&target);
	if ((mkdir(argv[2], 0777) && errno != EEXIST) ||
	    !(out = realpath(argv[2], NULL)))
		err(1, "%s", argv[2]);
	if (!mkdtemp(dir) || chdir(dir))
		err(1, "%s", dir);
	signal(SIGPIPE, SIG_IGN);
	disk();
	to_server = memfd_create("in", MFD_CLOEXEC);
	if (!client)
		from_server = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (client && !strcmp(argv[3], "-r"))
		replay(argv[4]);
	else
		n = fz_main(&target, client ? "nbd-client" : "nbd-server", out,
	    argc > 4 ? strtoull(argv[4], NULL, 0) : 1, strtoull(argv[3], NULL,
	    0));
	for (int i = 0; i < 3; i++)
		unlink(i == 0 ? "x" : i == 1 ? "base" : "s");
	if (chdir("/") || rmdir(dir))
		warn("%s", dir);
	return n != 0;
}
