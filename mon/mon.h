/*
 * mon.h - the monitor: one set of commands, two ways to reach it.
 *
 *   vm-mon.c   main(): which way
 *   client.c   vm-mon NAME: a person with readline, or one command
 *   hmp.c      vm-mon --server: the part behind DIR/mon
 *   command.c  the table of commands       info.c  the table of `info' topics
 *   memory.c   x, xp, print, memsave       pci.c   `info pci'
 *   expr.c     expressions with $registers stat.c  what each part costs
 *   net.c      networks and cards          block.c   disks
 *   jobs.c     what disks do beside: snapshots and block jobs
 *   nbd.c      disks for others
 */
#ifndef MON_H
#define MON_H

#include "../bus/bus.h"

struct mon_stat;

/* A session.  The two ways differ in `ask` and `pages`. */
struct mon {
	FILE		*out, *err;
	unsigned	cpu;		/* the vcpu `x' and $rip mean */
	bool		gone;		/* the machine went away */
	bool		server;		/* must not sleep */
	/* As part_ask: 0 or errno value; *reply malloc'ed, also on error */
	int		(*ask)(struct mon *, const char *whom,
			    const char *question, char **reply);
	/* Guest RAM and PCI pages; 0 or -1 errno */
	int		(*pages)(struct mon *, struct ram **,
			    struct pci_space **);
	int		with;		/* a descriptor for the next question, or
					 * -1 */
	void		*arg;
	struct mon_stat	*stat;		/* the last reading */
};

/* Run one line.  0, or -1: it failed and m->err says why. */
int	mon_line(struct mon *, const char *line);
void	mon_end(struct mon *);

/* "REASON" on m->err; returns -1. */
int	mon_fail(struct mon *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
/* Ask; on error say so as "what: reason" and return -1.  Otherwise *reply is
 * the caller's to free. */
int	mon_ask(struct mon *, char **reply, const char *whom, const char *fmt,
	    ...) __attribute__((format(printf, 4, 5)));
/* Ask; 0 or errno value; *reply is the caller's in any case: the answer, or the
 * reason. */
int	mon_question(struct mon *, char **reply, const char *whom,
	    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Ask and print the answer. */
int	mon_tell(struct mon *, const char *whom, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* Call fn for every line of `parts'; name, chip and the whole line. */
int	mon_parts(struct mon *, int (*fn)(struct mon *, const char *name,
	    const char *chip, const char *line));

/* Is it a chip?  The vcpu and monitors answer no questions to a device. */
bool	mon_chip(const char *name, const char *chip);

/* One row of a table.  `min`, `max`: words after the name, max -1: any. */
struct command {
	const char	*name, *alias, *args, *help;
	int		min, max;
	int		(*fn)(struct mon *, int argc, char **argv);
};
extern const struct command commands[], topics[];
const struct command *command_find(const struct command *, const char *name);

/* Commands whose words are split at blanks only, since single quotes are their
 * expressions' own ('a'); all others by the shell's rules. */
bool	command_raw(const char *line);

/* expr.c: words joined; 0, or -1 (said why). */
int	expr_eval(struct mon *, int argc, char **argv, uint64_t *val);

/* memory.c */
int	cmd_x(struct mon *, int argc, char **argv);
int	cmd_xp(struct mon *, int argc, char **argv);
int	cmd_print(struct mon *, int argc, char **argv);
int	cmd_memsave(struct mon *, int argc, char **argv);
int	cmd_pmemsave(struct mon *, int argc, char **argv);

/* block.c */
/* Call fn for the disk of this name, or NULL: for all.  -1: said why. */
int	mon_disks(struct mon *, const char *name,
	    int (*fn)(struct mon *, const char *));
int	cmd_block_resize(struct mon *, int argc, char **argv);
int	cmd_commit(struct mon *, int argc, char **argv);
int	cmd_medium(struct mon *, int argc, char **argv);
int	info_block(struct mon *, int argc, char **argv);
/* QEMU's sizes are in MiB if they have no suffix: the one for our own, which
 * are not; a B is taken off. */
const char *mon_size(char *);
/* jobs.c */
int	cmd_copy(struct mon *, int argc, char **argv);
int	cmd_stream(struct mon *, int argc, char **argv);
int	cmd_job(struct mon *, int argc, char **argv);
int	cmd_internal(struct mon *, int argc, char **argv);
int	cmd_limits(struct mon *, int argc, char **argv);
int	info_jobs(struct mon *, int argc, char **argv);
/* nbd.c */
int	cmd_nbd(struct mon *, int argc, char **argv);
/* net.c */
int	info_network(struct mon *, int argc, char **argv);
int	info_usernet(struct mon *, int argc, char **argv);
int	cmd_hostfwd(struct mon *, int argc, char **argv);
int	cmd_hotplug(struct mon *, int argc, char **argv);
int	cmd_set_link(struct mon *, int argc, char **argv);

int	cmd_stat(struct mon *, int argc, char **argv);
int	info_pci(struct mon *, int argc, char **argv);

int	client(const char *name, int argc, char **argv);
int	server(int argc, char **argv);

#endif
