/*
 * switch.h - vm-switch: ports and their endpoints, VLANs, the forwarding
 * database, spanning tree, and management, as VDE 2's vde_switch does them.
 *
 * A port has a number from 1 on; an endpoint is a wire plugged into it.
 * Several endpoints may share a port: they all get what goes out there.
 */
#ifndef SWITCH_H
#define SWITCH_H

#include <stdio.h>
#include <sys/types.h>
#include "wire.h"

#define PORT_MAX_NUM	1024		/* ports are 1..PORT_MAX_NUM - 1 */
#define NVLAN		4096
#define WORDS		(PORT_MAX_NUM / 64)

struct bits { uint64_t w[WORDS]; };
static inline void
bit_set(struct bits *b, unsigned n, bool on)
{
	if (on)
		b->w[n / 64] |= 1ull << n % 64;
	else
		b->w[n / 64] &= ~(1ull << n % 64);
}
static inline bool
bit_is(const struct bits *b, unsigned n)
{
	return b->w[n / 64] >> n % 64 & 1;
}

struct endpoint {
	struct endpoint *next;
	struct wire	*wire;
	struct ev	ctl;		/* VDE control connection, or fd -1 */
	unsigned	port;
	int		id;
	const char	*module;
	char		descr[128], path[108];
};

struct port {
	struct endpoint	*eps;
	uint16_t	untagged;	/* VLAN; NVLAN - 1 = 4095: none */
	bool		noalloc, user_used;
	uid_t		user;		/* -1: no access control */
	gid_t		group;
	uid_t		current;
	uint64_t	inp, inb, outp, outb, limited;
	unsigned	mirror;		/* port that gets copies, 0: none */
	uint64_t	rate;		/* bytes a second taken in; 0: any */
	int64_t		credit, filled;
};

struct vlan {
	struct bits	member, tagged;	/* tagged is part of member */
	struct bits	active;		/* has an endpoint */
	struct bits	forward;	/* spanning tree lets it pass */
	struct stp	*stp;
};

extern struct switch_state {
	struct port	*port[PORT_MAX_NUM];
	struct vlan	*vlan[NVLAN];
	unsigned	numports;
	bool		hub, fstp;
	uint8_t		mac[6];
	uint16_t	prio;
	int64_t		started;
	struct wire	*capture;
	bool		quit;
} sw;

/* ---- vm-switch.c */
void	switch_init(unsigned ports, bool hub);	/* or exit */

/* ---- part.c: vm-switch --part VM/NAME, for the broker */
int	part_main(char **options);

/* ---- port.c: all return 0 or an errno value unless said otherwise */
int	port_create(unsigned n, bool explicit_);
struct endpoint *port_plug(unsigned n, struct wire *, const char *module,
	    const char *descr);		/* n 0: any; NULL with errno */
void	port_unplug(struct endpoint *);
void	port_close_all(void);
void	switch_rx(void *arg, struct wire *, struct frame *, unsigned n);
/* Send a frame of our own out of one port, with a tag if it is tagged there.
 * f must stay until the flush. */
void	port_send(unsigned port, unsigned vlan, const uint8_t *f, unsigned len);
int	port_open(const char *spec, char *why, size_t n);	/* -port */

/* ---- vlan.c */
int	vlan_create(unsigned v);
void	vlan_port_active(unsigned port, bool);
int	vlan_untag(unsigned port, unsigned v);

/* ---- fdb.c */
int	fdb_size(unsigned n);
void	fdb_learn(uint64_t mac, unsigned vlan, unsigned port);
unsigned fdb_find(uint64_t mac, unsigned vlan);		/* port or 0 */
void	fdb_flush(int vlan, int port);		/* -1: all; not this port */
void	fdb_forget_port(unsigned port);
static inline uint64_t
mac48(const uint8_t *p)
{
	return (uint64_t)get16(p) << 32 | get32(p + 2);
}

/* ---- stp.c */
void	stp_start(void);
void	stp_enable(bool);
void	stp_port(unsigned vlan, unsigned port, bool active);
void	stp_vlan(unsigned vlan, bool create);
void	stp_input(unsigned vlan, unsigned port, const uint8_t *f, unsigned len);
const char *stp_status(unsigned vlan, unsigned port);

/* ---- command.c */
struct session;
struct command {
	const char *path, *syntax, *help;	/* no function: a menu */
	/* data: the answer has a text part */
	int	(*fn)(struct session *, FILE *out, char *arg);
	bool	data;
};
void	command_add(const struct command *);	/* table ended by NULL path */
/* Run a line; writes the numeric reply. */
void	command_run(struct session *, char *line, FILE *out);
int	command_load(struct session *, const char *path);
enum { E_LOGOUT = 10000 };
/* Tell sessions that asked: tag as in debug/list. */
enum dbg { D_HASHP, D_HASHM, D_FSTATUS, D_FROOT, D_FPLUS, D_FMINUS, D_PORTP,
	D_PORTM, D_PORTDESCR, D_EPP, D_EPM, D_N };
void	debug_out(enum dbg, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
extern unsigned debug_wanted;		/* bit per enum dbg, any session */
int	arg_nums(const char *arg, int n, long *out);	/* numbers got */

extern const struct command port_cmds[], vlan_cmds[], fdb_cmds[], stp_cmds[],
	    ds_cmds[], base_cmds[];

/* ---- console.c */
struct session {
	struct ev	ev;
	int		outfd;
	bool		used, rc;
	unsigned	debug;
	char		buf[1024];
	unsigned	n;
};
int	console_mgmt(const char *path, unsigned mode, gid_t, char *why,
	    size_t n);
void	console_stdin(void);
void	console_info(FILE *);
void	console_debug(unsigned bit, const char *line);
void	console_wanted(void);
void	console_close(void);

/* ---- vdesock.c */
int	vdesock_open(const char *dir, unsigned mode, unsigned dirmode, gid_t,
	    char *why, size_t n);
void	vdesock_close(void);
void	vdesock_unplug(struct endpoint *);

#endif
