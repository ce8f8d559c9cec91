/*
 * sandbox.c - what a part may still do once its descriptors are in hand.
 *
 * No new privileges, no core files, and (Linux 5.13) an empty Landlock rule
 * set: no path can be opened any more, whatever the guest made us do; open
 * descriptors and sockets go on working.  landlock(7), prctl(2).
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bus.h"

/* The kernel's interface (uapi/linux/landlock.h), here because build hosts may
 * have older headers: all file-system rights of ABI 1. */
struct ruleset_attr { uint64_t handled_access_fs; };
#define LANDLOCK_ABI_QUERY	1u
#define LANDLOCK_FS_ABI1	0x1fffull
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset	444
#define SYS_landlock_restrict_self	446
#endif

int
sandbox(const char *prog)
{
	struct ruleset_attr a = { LANDLOCK_FS_ABI1 };
	struct rlimit none = { 0, 0 };
	int fd, r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	setrlimit(RLIMIT_CORE, &none);
	if (syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_ABI_QUERY) < 1)
		return 0;	/* this kernel has none */
	fd = (int)syscall(SYS_landlock_create_ruleset, &a, sizeof a, 0);
	if (fd < 0)
		return errno == EOPNOTSUPP ? 0 : -1;
	r = (int)syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
	return r < 0 ? -1 : 0;
}
