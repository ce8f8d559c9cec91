/*
 * rundir.c - the run directory ${XDG_RUNTIME_DIR:-/tmp}/vm/NAME: made, locked,
 * taken over from a dead machine, removed.
 *
 * The lock on the directory itself says whether its owner lives; the kernel
 * lets it go with the process, however that ended.
 */
#include <bsd/string.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker.h"

/* Empty a directory; no symbolic link is followed. Takes over dfd. */
static void
empty(int dfd, int depth)
{
	struct dirent *e;
	DIR *d;
	int sub;

	d = fdopendir(dfd);
	if (d == NULL) {
		close(dfd);
		return;
	}
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dfd, e->d_name, 0) == 0 || depth > 8)
			continue;
		sub = openat(dfd, e->d_name, O_RDONLY | O_DIRECTORY |
		    O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			empty(sub, depth + 1);
		unlinkat(dfd, e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

static void
empty_fd(int dfd)
{
	int fd = openat(dfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		empty(fd, 0);
}

static int
make_parent(char *dir)
{
	char *slash = strrchr(dir, '/');
	int r = 0;

	*slash = '\0';
	if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
		/* the run-time directory itself may be missing too */
		if (errno == ENOENT && slash - dir > 1) {
			r = make_parent(dir);
			if (r == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
				r = -1;
		} else {
			r = -1;
		}
	}
	*slash = '/';
	return r;
}

int
rundir_make(struct broker *b)
{
	struct stat st, now;
	int tries;

	if (bus_dir(b->mf->name, b->dir, sizeof b->dir) < 0) {
		log_line("%s: %s", b->mf->name, strerror(errno));
		return -1;
	}
	for (tries = 0; tries < 100; tries++) {
		if (make_parent(b->dir) < 0 ||
		    (mkdir(b->dir, 0700) < 0 && errno != EEXIST)) {
			if (errno == ENOENT)
				continue;	/* somebody cleaned up */
			break;
		}
		b->dirfd = open(b->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
		    O_CLOEXEC);
		if (b->dirfd < 0) {
			if (errno == ENOENT)
				continue;
			break;
		}
		if (fstat(b->dirfd, &st) < 0 || st.st_uid != geteuid()) {
			errno = EPERM;
			break;
		}
		if (flock(b->dirfd, LOCK_EX | LOCK_NB) < 0) {
			if (errno != EWOULDBLOCK)
				break;
			log_line("VM '%s' is already running", b->mf->name);
			close(b->dirfd);
			b->dirfd = -1;
			return -1;
		}
		/* removed between open and lock? */
		if (lstat(b->dir, &now) == 0 && now.st_ino == st.st_ino &&
		    now.st_dev == st.st_dev) {
			empty_fd(b->dirfd);
			mkdirat(b->dirfd, "part", 0700);
			return 0;
		}
		close(b->dirfd);
		b->dirfd = -1;
	}
	log_line("%s: %s", b->dir, strerror(errno));
	if (b->dirfd >= 0)
		close(b->dirfd);
	b->dirfd = -1;
	return -1;
}

void
rundir_remove(struct broker *b)
{
	char *slash;

	if (b->dirfd < 0)
		return;
	empty_fd(b->dirfd);
	rmdir(b->dir);
	close(b->dirfd);
	b->dirfd = -1;
	slash = strrchr(b->dir, '/');
	*slash = '\0';
	rmdir(b->dir);		/* the last machine turns off the light */
	*slash = '/';
}

/* Write a small file below the run directory, with the folder it is in. */
int
rundir_put(struct broker *b, const char *name, const char *text)
{
	char sub[128], *slash;
	int fd, r;

	if (b->dirfd < 0)
		return 0;
	strlcpy(sub, name, sizeof sub);
	slash = strrchr(sub, '/');
	if (slash != NULL) {
		*slash = '\0';
		mkdirat(b->dirfd, sub, 0700);
	}
	fd = openat(b->dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
	    O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	r = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	close(fd);
	return r;
}
