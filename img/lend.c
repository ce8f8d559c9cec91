/*
 * lend.c - files by descriptors that somebody else has opened, for a process
 * that may not open any: what is lent under a name is what the file protocol
 * finds there, for making an image and for opening it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

struct lent {
	struct lent	*next;
	int		fd;
	char		name[];
};
static struct lent *list;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int
img_lend(const char *name, int fd)
{
	struct lent *l = malloc(sizeof(*l) + strlen(name) + 1);

	if (!l)
		return -1;
	strcpy(l->name, name);
	l->fd = fd;
	pthread_mutex_lock(&lock);
	l->next = list;
	list = l;
	pthread_mutex_unlock(&lock);
	return 0;
}

void
img_unlend(const char *name)
{
	struct lent **p, *l = NULL;

	pthread_mutex_lock(&lock);
	for (p = &list; *p && strcmp((*p)->name, name); )
		p = &(*p)->next;
	if ((l = *p))
		*p = l->next;
	pthread_mutex_unlock(&lock);
	if (l)
		close(l->fd);
	free(l);
}

bool
img_lent(const char *name)
{
	struct lent *l;

	pthread_mutex_lock(&lock);
	for (l = list; l && strcmp(l->name, name); )
		l = l->next;
	pthread_mutex_unlock(&lock);
	return l;
}

int
file_fd(const char *name, int flags)
{
	struct lent *l;
	int fd = -1, had;

	pthread_mutex_lock(&lock);
	for (l = list; l && strcmp(l->name, name); )
		l = l->next;
	if (l)
		fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&lock);
	if (!l)
		return open(name, flags, 0644);
	if (fd < 0)
		return -1;
	/* of the modes, direct I/O is the one that can be had later */
	had = fcntl(fd, F_GETFL);
	if ((had ^ flags) & O_DIRECT &&
	    fcntl(fd, F_SETFL, (had & ~O_DIRECT) | (flags & O_DIRECT))) {
		int eno = errno;

		close(fd);
		errno = eno;
		return -1;
	}
	return fd;
}
