/*
 * cmd.h - what vm-img's sub-commands share.
 */
#ifndef CMD_H
#define CMD_H

#include <getopt.h>
#include <stdio.h>

#include "img.h"

extern const char *prog;		/* "vm-img" */
/* "vm-img: ...\n" on standard error. */
void	fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same with the hint at --help, and exit 1. */
void	usage_error(const char *fmt, ...)
	    __attribute__((format(printf, 1, 2), noreturn));
/* For getopt's ':' and '?'; exits. */
void	bad_option(int c, char **argv) __attribute__((noreturn));
void	help(void) __attribute__((noreturn));
/* Parse "none", "writeback", ... into flags; -1 if unknown. */
int	cache_flags(const char *mode, int *flags);
/* --object; exits on error. */
void	object(const char *def);
/* Open and complain; `name` may be options (image_opts). */
/* The words of -o; ends the program if they are none. */
void	create_opts(struct opts *, const char *);
struct img *cmd_open(bool image_opts, const char *name, const char *fmt,
	    int flags, bool quiet);
/* With these options too; they are consumed. */
struct img *cmd_open_with(bool image_opts, const char *name, const char *fmt,
	    struct opts *, int flags);
/* Size argument, with qemu-img's complaints; -1 or bytes. */
int64_t	size_arg(const char *name, const char *s, int64_t min, int64_t max);
int	print_create_help(const char *fmt, const char *file, bool amend);
/* Reject options no driver knows; -1 with text. */
int	check_opts(const struct opts *, const struct img_driver *,
	    const struct img_driver *, struct imgerr *);
/* "fmt=qcow2 cluster_size=65536 ..." as create prints it. */
void	create_line(FILE *, const char *file, const char *fmt, struct opts *);

/* Progress: -p, or on SIGUSR1. */
void	progress_init(bool on);
void	progress(double percent);
void	progress_end(void);

/* -r: at most so many bytes a second; 0, the start: no limit.  Any thread. */
void	rate_limit(uint64_t bytes);
void	rate_moved(uint64_t bytes);

void	print_snapshots(FILE *, struct img *);
/* Creates an image as `create` does, with its checks of the backing file. */
int	create_image(const char *file, const char *fmt, const char *back,
	    const char *bfmt, struct opts *, int64_t size, bool quiet,
	    bool unsafe, struct imgerr *);
/* Reads of two chains compared or copied in chunks of this size. */
enum { CHUNK = 2 << 20 };

enum { OUT_HUMAN, OUT_JSON };
int	output_arg(const char *);

#define CMDS(X) X(amend) X(bench) X(bitmap) X(check) X(commit) X(compare) \
	X(convert) X(create) X(dd) X(info) X(map) X(measure) X(rebase) \
	X(resize) X(snapshot)
#define CMD_DECL(n) int cmd_##n(int argc, char **argv);
CMDS(CMD_DECL)

#endif
