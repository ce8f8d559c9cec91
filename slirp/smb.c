/*
 * smb.c - a directory for the guests by SMB, smb=DIR: Samba's smbd (smb.conf(5)),
 * started by the porter for each connection to port 445 or 139 of the fourth
 * address, as inetd would.  What it keeps lies in a directory of its own, which
 * the porter removes in the end.
 */
#include <err.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "slirp.h"

static char dir[64];

static const char *
find_smbd(void)
{
	static const char *const places[] = { "/usr/sbin/smbd",
	    "/usr/local/sbin/smbd", "/sbin/smbd" };

	for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

void
smb_start(const char *share, uint32_t server)
{
	static const char *const own[] = { "private dir", "pid directory",
	    "lock directory", "state directory", "cache directory",
	    "binddns dir", "ncalrpc dir" };
	const char *smbd = find_smbd();
	struct passwd *pw = getpwuid(geteuid());
	char conf[80], cmd[180], whole[PATH_MAX];
	struct stat sb;
	unsigned i;
	FILE *f;

	if (stat(share, &sb) < 0 || !realpath(share, whole))
		err(1, "smb=%s", share);
	if (!S_ISDIR(sb.st_mode) || strpbrk(whole, "\n%"))
		errx(1, "smb=%s: not a directory to share", share);
	if (!smbd || !pw)
		errx(1, "smb=%s: no %s on this host", share, smbd ?
		    "user of our number" : "smbd");
	strcpy(dir, "/tmp/vm-slirp.XXXXXX");
	if (!mkdtemp(dir))
		err(1, "%s", dir);
	atexit(smb_end);		/* of an error, before the porter */
	snprintf(conf, sizeof conf, "%s/smb.conf", dir);
	f = fopen(conf, "we");
	if (!f)
		err(1, "%s", conf);
	fputs("[global]\n", f);
	for (i = 0; i < sizeof own / sizeof *own; i++)
		fprintf(f, "%s = %s\n", own[i], dir);
	fprintf(f, "log file = %s/log\nsmb passwd file = %s/passwd\n"
	    "interfaces = lo\nbind interfaces only = yes\n"
	    "map to guest = Bad User\nload printers = no\nprinting = bsd\n"
	    "disable spoolss = yes\nusershare max shares = 0\n"
	    "[qemu]\npath = %s\nread only = no\nguest ok = yes\n"
	    "force user = %s\n", dir, dir, whole, pw->pw_name);
	if (fclose(f) != 0)
		err(1, "%s", conf);
	snprintf(cmd, sizeof cmd, "smb:exec %s -s %s -l %s", smbd, conf, dir);
	guestfwd_own(server, 445, cmd);
	guestfwd_own(server, 139, cmd);
}

static int
gone(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
	remove(path);
	return 0;
}

void
smb_end(void)
{
	if (*dir)
		nftw(dir, gone, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void
smb_leave(void)
{
	*dir = 0;
}
