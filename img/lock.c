/*
 * lock.c - image locks that QEMU honours, and that honour QEMU's.
 *
 * Open-file-description locks (fcntl(2)) on single bytes of the image file:
 * byte 100+i read-locked says "I use permission i", byte 200+i "I do not let
 * others use permission i" (0 consistent read, 1 write, 2 write unchanged,
 * 3 resize).  After taking its own bytes a user tests that nobody holds the
 * opposite ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "img.h"

enum { USE = 100, DENY = 200, NPERM = 4 };
static const char *const perm_name[NPERM] = {
	"consistent read", "write", "write unchanged", "resize",
};

static int
ofd(int fd, int cmd, short type, off_t at)
{
	struct flock l = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1,
	};

	if (fcntl(fd, cmd, &l))
		return -1;
	if (cmd == F_OFD_GETLK && l.l_type != F_UNLCK) {
		errno = EAGAIN;
		return -1;
	}
	return 0;
}

int
lock_file(int fd, int perm, int deny, const char *name, struct imgerr *e)
{
	int i;

	for (i = 0; i < NPERM; i++) {
		if (perm >> i & 1 && ofd(fd, F_OFD_SETLK, F_RDLCK, USE + i)) {
			/* a file system without locks: QEMU goes on too */
			if (errno == EINVAL || errno == ENOTSUP ||
			    errno == ENOLCK)
				return 1;
			return err_set(e, EAGAIN, "Failed to lock byte %d",
			    USE + i);
		}
		if (deny >> i & 1 && ofd(fd, F_OFD_SETLK, F_RDLCK, DENY + i))
			return err_set(e, EAGAIN, "Failed to lock byte %d",
			    DENY + i);
	}
	for (i = 0; i < NPERM; i++) {
		if (perm >> i & 1 && ofd(fd, F_OFD_GETLK, F_WRLCK, DENY + i))
			return err_set(e, EAGAIN, "Failed to get \"%s\" lock\n"
			    "Is another process using the image [%s]?",
			    perm_name[i], name);
		if (deny >> i & 1 && ofd(fd, F_OFD_GETLK, F_WRLCK, USE + i))
			return err_set(e, EAGAIN, "Failed to get shared \"%s\" "
			    "lock\nIs another process using the image [%s]?",
			    perm_name[i], name);
	}
	return 0;
}

void
unlock_file(int fd, int perm)
{
	for (int i = 0; i < NPERM; i++)
		if (perm >> i & 1)
			ofd(fd, F_OFD_SETLK, F_UNLCK, USE + i);
}
