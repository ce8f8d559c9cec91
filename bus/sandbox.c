/*
 * sandbox.c - what a part may still do once its descriptors are in hand.
 *
 * No new privileges, no core files; an empty Landlock rule set (Linux 5.13): no
 * path can be opened or removed any more, but files read beneath one directory if
 * there is one; open descriptors and sockets go on
 * working; and a seccomp filter made from the `#syscalls` comments of the files
 * the program consists of (syscalls.sh).  landlock(7), seccomp(2), prctl(2).
 *
 * A call that is not on the list fails with ENOSYS, which libraries take for an
 * old kernel.  Starting a program or a process kills at once, and so does
 * everything not on the list with VM_SANDBOX=kill, for tests.
 * VM_SANDBOX=off leaves only the privileges dropped, for debuggers.  Sanitizers
 * need /proc and more calls than a part does, so their builds do that always.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bus.h"

/* The kernel's interface (uapi/linux/landlock.h), here because build hosts may
 * have older headers: all file-system rights of ABI 1. */
struct ruleset_attr { uint64_t handled_access_fs; };
struct beneath_attr { uint64_t allowed; int32_t dir; } __attribute__((packed));
#define LANDLOCK_BENEATH	1
#define LANDLOCK_READ		0xcull
#define LANDLOCK_ABI_QUERY	1u
#define LANDLOCK_FS_ABI1	0x1fffull
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset	444
#define SYS_landlock_add_rule		445
#define SYS_landlock_restrict_self	446
#endif

#if defined(__x86_64__)
#define THIS_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCH AUDIT_ARCH_AARCH64
#endif

#define RULES_MAX 400

static const struct { const char *who; int nr; } allowed[] = {
#include "syscalls.h"
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static int
landlock(const char *dir)
{
	struct ruleset_attr a = { LANDLOCK_FS_ABI1 };
	struct beneath_attr b = { LANDLOCK_READ, -1 };
	int fd, r = 0;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_ABI_QUERY) < 1)
		return 0;	/* this kernel has none */
	fd = (int)syscall(SYS_landlock_create_ruleset, &a, sizeof a, 0);
	if (fd < 0)
		return errno == EOPNOTSUPP ? 0 : -1;
	if (dir != NULL) {
		b.dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = b.dir < 0 ? -1 : (int)syscall(SYS_landlock_add_rule, fd,
		    LANDLOCK_BENEATH, &b, 0);
		if (b.dir >= 0)
			close(b.dir);
	}
	if (r == 0)
		r = (int)syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
	return r < 0 ? -1 : 0;
}

#ifdef THIS_ARCH
static bool
concerns(const char *who, const char *prog)
{
	size_t n = strlen(who);

	if (n > 0 && who[n - 1] == '-')
		return strncmp(who, prog, n) == 0;
	return n == 0 || strcmp(who, prog) == 0;
}

static int
filter(const char *prog, bool strict)
{
	static struct sock_filter f[2 * RULES_MAX + 32];
	static const int deadly[] = {
		SYS_execve, SYS_execveat, SYS_ptrace,
#ifdef SYS_fork
		SYS_fork, SYS_vfork,
#endif
	};
	struct sock_fprog p = { .filter = f };
	unsigned n = 0, i;

#define OP(c, v, t, e) (f[n++] = (struct sock_filter){ (c), (t), (e), (v) })
#define LOAD(m) OP(BPF_LD | BPF_W | BPF_ABS, \
	offsetof(struct seccomp_data, m), 0, 0)
#define IF_EQ(v, t, e) OP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(v), t, e)
#define RET(v) OP(BPF_RET | BPF_K, (uint32_t)(v), 0, 0)

	LOAD(arch);
	IF_EQ(THIS_ARCH, 1, 0);
	RET(SECCOMP_RET_KILL_PROCESS);
	LOAD(nr);
	for (i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
		IF_EQ(deadly[i], 0, 1);
		RET(SECCOMP_RET_KILL_PROCESS);
	}
	/* A thread is no process.  clone3 hides its flags in memory: without
	 * it the C library uses clone. */
	IF_EQ(SYS_clone3, 0, 1);
	RET(SECCOMP_RET_ERRNO | ENOSYS);
	IF_EQ(SYS_clone, 0, 4);
	LOAD(args[0]);
	OP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1);
	RET(SECCOMP_RET_ALLOW);
	RET(SECCOMP_RET_KILL_PROCESS);
	for (i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
		if (!concerns(allowed[i].who, prog))
			continue;
		if (n > 2 * RULES_MAX) {
			errno = E2BIG;
			return -1;
		}
		IF_EQ(allowed[i].nr, 0, 1);
		RET(SECCOMP_RET_ALLOW);
	}
	RET(strict ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | ENOSYS);
	p.len = (unsigned short)n;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p, 0, 0) == 0)
		return 0;
	return errno == EINVAL || errno == ENOSYS ? 0 : -1;
}
#else
static int
filter(const char *prog, bool strict)
{
	(void)prog, (void)strict, (void)allowed;
	return 0;
}
#endif

int
sandbox(const char *prog)
{
	return sandbox_reading(prog, NULL);
}

int
sandbox_reading(const char *prog, const char *dir)
{
	const char *mode = getenv("VM_SANDBOX");
	struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (SANITIZED || (mode != NULL && strcmp(mode, "off") == 0))
		return 0;
	setrlimit(RLIMIT_CORE, &none);
	if (landlock(dir) < 0)
		return -1;
	return filter(prog, mode != NULL && strcmp(mode, "kill") == 0);
}
