/*
 * vm-io.h - what the files of vm-io share: the image, words, and the commands
 * that vm-io.c's table names.  A command takes its words and returns 0, or 1
 * when it failed and has said so.
 */
#ifndef VM_IO_H
#define VM_IO_H

#include "img.h"

extern struct img *io_img;

/* A command's line of help; returns 1. */
int	io_usage(const char *name);
/* A size or an offset; -1 with a line on stdout. */
int	io_number(const char *, int64_t *);
/* "1.500 MiB" */
const char *io_size(double, char *, size_t);

/* vm-io-rw.c */
int	do_read(int, char **);
int	do_write(int, char **);
int	do_discard(int, char **);
int	do_truncate(int, char **);

/* vm-io-look.c */
int	do_length(int, char **);
int	do_info(int, char **);
int	do_alloc(int, char **);
int	do_map(int, char **);

#endif
