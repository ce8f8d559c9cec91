/*
 * log.c - messages: one line, one write, on stderr and in the log file.
 */
#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus.h"

#define ONCE_MAX 512

static char prefix[160];
static char items[256];
static int file = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
log_open(const char *prog, const char *vm, const char *part)
{
	const char *p;

	if (vm != NULL && *vm != '\0')
		snprintf(prefix, sizeof prefix, "%s: %s%s%s: ", prog, vm,
		    part != NULL ? "/" : "", part != NULL ? part : "");
	else
		snprintf(prefix, sizeof prefix, "%s: ", prog);
	p = getenv("VM_LOG_FILE");
	if (p != NULL && *p != '\0' && file < 0)
		file = open(p, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	p = getenv("VM_LOG_ITEMS");
	if (p != NULL)
		log_items(p);
}

static void
vlog(const char *fmt, va_list ap)
{
	char buf[2048];
	size_t n;

	n = strlcpy(buf, prefix, sizeof buf);
	vsnprintf(buf + n, sizeof buf - n - 1, fmt, ap);
	n = strlen(buf);
	if (n == 0 || buf[n - 1] != '\n')
		buf[n++] = '\n';
	if (write(STDERR_FILENO, buf, n) < 0) {
		/* nowhere left to say so */
	}
	if (file >= 0 && write(file, buf, n) < 0) {
		/* said on stderr */
	}
}

void
log_line(const char *fmt, ...)
{
	va_list ap;
	int e = errno;

	va_start(ap, fmt);
	vlog(fmt, ap);
	va_end(ap);
	errno = e;
}

void
log_once(const char *key, uint64_t n, const char *fmt, ...)
{
	static uint64_t seen[ONCE_MAX];
	uint64_t h = 0xcbf29ce484222325ull ^ n;
	const char *p;
	unsigned i, at;
	bool old = true;
	va_list ap;

	for (p = key; *p != '\0'; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
	h = (h ^ n >> 32 ^ n << 17) * 0x100000001b3ull;
	h |= 1;		/* 0: free */
	pthread_mutex_lock(&lock);
	at = (unsigned)(h >> 32) % ONCE_MAX;
	for (i = 0; i < 16; i++, at = (at + 1) % ONCE_MAX) {
		if (seen[at] == h)
			break;
		if (seen[at] == 0) {
			seen[at] = h;
			old = false;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	if (old)
		return;
	va_start(ap, fmt);
	vlog(fmt, ap);
	va_end(ap);
}

void
log_items(const char *list)
{
	pthread_mutex_lock(&lock);
	strlcpy(items, strcmp(list, "none") == 0 ? "" : list, sizeof items);
	pthread_mutex_unlock(&lock);
}

bool
log_on(const char *item)
{
	size_t n = strlen(item);
	const char *p;

	for (p = items; (p = strstr(p, item)) != NULL; p += n)
		if ((p == items || p[-1] == ',') &&
		    (p[n] == ',' || p[n] == '\0'))
			return true;
	return false;
}
