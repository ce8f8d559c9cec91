/*
 * netload.c - TCP load for the network benchmarks: a server on the host, a client
 * in a namespace or a guest.  Static, so that it runs in any Linux guest.
 *
 * netload server [FILE]	on a port of its choice, which it prints (to FILE)
 * netload WHAT HOST PORT N	prints `WHAT RESULT UNIT'; WHAT is
 *	up	N MiB to the server		Gb/s
 *	down	N MiB from it			Gb/s
 *	rr	N questions of a byte each	us, the median answer
 *	conn	N connections, one after the other, with a byte's answer	/s
 *
 * A connection begins with a letter and eight bytes of length.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char buf[256 << 10];

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int
exactly(int fd, void *p, size_t n)
{
	ssize_t k;

	for (; n; n -= k, p = (char *)p + k)
		if ((k = read(fd, p, n)) <= 0)
			return -1;
	return 0;
}

static void
pour(int fd, uint64_t n)
{
	ssize_t k;

	for (; n; n -= k)
		if ((k = write(fd, buf, n < sizeof buf ? n : sizeof buf)) <= 0)
			return;
}

static uint64_t
drain(int fd, uint64_t n)
{
	uint64_t got = 0;
	ssize_t k;

	while (got < n && (k = read(fd, buf, sizeof buf)) > 0)
		got += k;
	return got;
}

static void
no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void
serve(int fd)
{
	uint64_t n;
	char c;

	no_delay(fd);
	if (exactly(fd, &c, 1) < 0 || exactly(fd, &n, 8) < 0)
		return;
	switch (c) {
	case 'u':
		drain(fd, n);
		break;
	case 'd':
		pour(fd, n);
		break;
	case 'r':
		while (exactly(fd, &c, 1) == 0)
			if (write(fd, &c, 1) != 1)
				break;
		return;
	}
	if (write(fd, &c, 1) != 1)
		return;
}

static int
server(const char *file)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof a;
	FILE *f = file ? fopen(file, "w") : stdout;
	int s = socket(AF_INET, SOCK_STREAM, 0), fd;

	if (!f || s < 0 || bind(s, (void *)&a, n) < 0 || listen(s, 64) < 0 ||
	    getsockname(s, (void *)&a, &n) < 0)
		err(1, "server");
	fprintf(f, "%d\n", ntohs(a.sin_port));
	fflush(f);
	for (;;)
		if ((fd = accept(s, NULL, NULL)) >= 0) {
			serve(fd);
			close(fd);
		}
}

static int
dial(const struct sockaddr_in *a, char what, uint64_t n)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char h[9] = { what };

	memcpy(h + 1, &n, 8);
	if (fd < 0 || connect(fd, (const void *)a, sizeof *a) < 0)
		err(1, "connect");
	no_delay(fd);
	if (write(fd, h, 9) != 9)
		err(1, "write");
	return fd;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
answer(int fd, unsigned long n)
{
	double *t = calloc(n, sizeof *t), t0, m;
	unsigned long i;
	char c = 0;

	if (!t)
		err(1, "%lu", n);
	for (i = 0; i < n; i++) {
		t0 = now();
		if (write(fd, &c, 1) != 1 || exactly(fd, &c, 1) < 0)
			err(1, "rr");
		t[i] = now() - t0;
	}
	qsort(t, n, sizeof *t, by_value);
	m = t[n / 2];
	free(t);
	return m;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	uint64_t n, bytes, i;
	double t0, t;
	char c;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	if (argc >= 2 && !strcmp(argv[1], "server"))
		return server(argv[2]);
	if (argc != 5 || inet_pton(AF_INET, argv[2], &a.sin_addr) != 1 ||
	    !(n = strtoul(argv[4], NULL, 10)))
		errx(2, "usage: netload server [file] | what address port n");
	a.sin_port = htons(atoi(argv[3]));
	bytes = n << 20;
	t0 = now();
	if (!strcmp(argv[1], "up") || !strcmp(argv[1], "down")) {
		fd = dial(&a, *argv[1], bytes);
		if (*argv[1] == 'u')
			pour(fd, i = bytes);
		else		/* the answer may come with the last of it */
			i = drain(fd, bytes);
		if (i < bytes || (i == bytes && exactly(fd, &c, 1) < 0))
			errx(1, "cut short");
		t = now() - t0;
		printf("%s %.3f Gb/s\n", argv[1], bytes * 8 / t / 1e9);
	} else if (!strcmp(argv[1], "rr")) {
		fd = dial(&a, 'r', 0);
		answer(fd, n < 100 ? n : 100);
		printf("rr %.1f us\n", answer(fd, n) * 1e6);
	} else if (!strcmp(argv[1], "conn")) {
		for (i = 0; i < n; i++) {
			fd = dial(&a, 'c', 0);
			if (exactly(fd, &c, 1) < 0)
				errx(1, "conn: no answer");
			close(fd);
		}
		printf("conn %.0f /s\n", n / (now() - t0));
	} else {
		errx(2, "%s: no such load", argv[1]);
	}
	return 0;
}
