/*
 * bus.h - how the parts of a machine find and talk to each other: the shared
 * pages of the data path, the control connection, and the small services every
 * program needs (loop, options, log, sandbox, character back ends).
 *
 * bus/PROTOCOL.md is the law; section names in comments refer to it.
 */
#ifndef BUS_H
#define BUS_H

#include <stdio.h>
#include <poll.h>
#include "../mem/mem.h"

#define NVCPU_MAX	255
#define PART_MAX	64		/* parts in one machine */

/* -------------------------------------------- channel: one per device part
 *
 * Shared by the vcpu process and one part.  Per vcpu: a slot for round trips
 * and a ring for posted writes.  PROTOCOL.md "Channels".
 */
enum chan_op {
	CHAN_READ, CHAN_WRITE,		/* range register access, size 1,2,4,8 */
	CHAN_INS, CHAN_OUTS,		/* string port I/O: count items in buf */
	CHAN_CFGW,			/* PCI config write: off = register,
					 * range = devfn */
	/* only in traces */
	CHAN_BELL,			/* data = bits */
	CHAN_IRQ,			/* off = line, data = level */
	CHAN_MSI,			/* off = vector, data = MSI data */
	CHAN_NOP
};

enum slot_state { SLOT_IDLE, SLOT_ASKED, SLOT_DONE };

#define SLOT_BUF 2048
struct slot {
	_Atomic uint32_t state;		/* enum slot_state; also the futex */
	_Atomic uint32_t waiting;	/* the vcpu sleeps on `state` */
	uint8_t		op, size;
	uint16_t	range;
	uint32_t	count;		/* INS/OUTS: items; reply: items done */
	uint64_t	off, data;
	uint8_t		buf[SLOT_BUF];
} __attribute__((aligned(64)));

struct chan_cpu {
	struct slot	slot;
	struct ring	ring;
};

/*
 * What vm-tap reads: written by the part (any of its threads) while `on`,
 * otherwise never touched, so it costs no memory.  An entry is whole when its
 * `seq` is its index + 1; a reader that fell more than TRACE_N behind lost some.
 */
#define TRACE_N	2048
struct trace_ent {
	_Atomic uint64_t seq;
	int64_t		when;		/* CLOCK_MONOTONIC ns */
	uint64_t	off, data;
	uint32_t	count;
	uint16_t	range;
	uint8_t		op, size;	/* enum chan_op */
	uint8_t		vcpu, posted, pad[6];
};
_Static_assert(sizeof(struct trace_ent) == 48, "trace_ent");
struct trace {
	_Atomic uint64_t head __attribute__((aligned(64)));
	struct trace_ent ent[TRACE_N] __attribute__((aligned(64)));
};

/*
 * One slot and ring more than there are vcpus: number `nvcpu` belongs to the
 * monitor's side (vm-poke -m), which gets it from the broker exclusively.
 */
struct chan {
	_Atomic uint32_t sleeping;	/* the part is (about to be) in poll() */
	_Atomic uint32_t dead;		/* broker: part is gone; reads give ~0 */
	_Atomic uint64_t bell;		/* doorbell bits */
	_Atomic uint64_t asked;		/* any slot asked / ring filled: hint */
	_Atomic uint64_t n_sync, n_post, n_bell, n_kick; /* statistics */
	uint32_t	nvcpu;
	_Atomic uint32_t trace_on;	/* somebody taps: part, write `trace` */
	struct trace	trace;
	struct chan_cpu	cpu[] __attribute__((aligned(64)));
};
#define CHAN_BYTES(nvcpu) \
	((sizeof(struct chan) + ((nvcpu) + 1) * sizeof(struct chan_cpu) + \
	4095) & ~4095ul)
/* Add an entry to the trace; call only while chan->trace_on. */
void	chan_trace(struct chan *, enum chan_op, unsigned vcpu, unsigned range,
	    uint64_t off, unsigned size, uint64_t data, uint32_t count,
	    bool posted);

/* The vcpu's handle on a part. */
struct chan_ref {
	struct chan	*chan;
	int		kick;		/* eventfd */
	uint8_t		*state;		/* the part's state memfd, read-only */
	size_t		state_len;
	char		name[32];
};
/* Round trip; blocks until the part answers.  All-ones if the part is dead. */
uint64_t chan_read(struct chan_ref *, unsigned vcpu, unsigned range,
	    uint64_t off, unsigned size);
void	chan_write(struct chan_ref *, unsigned vcpu, unsigned range,
	    uint64_t off, unsigned size, uint64_t data);
/* Queue a write; waits only while the ring is full. */
void	chan_post(struct chan_ref *, unsigned vcpu, unsigned range,
	    uint64_t off, unsigned size, uint64_t data);
void	chan_bell(struct chan_ref *, uint64_t queue);
void	chan_config(struct chan_ref *, unsigned vcpu, unsigned fn, unsigned off,
	    unsigned size, uint32_t data);
/* String I/O of `count` items of `size` bytes; count*size <= SLOT_BUF. */
unsigned chan_string(struct chan_ref *, unsigned vcpu, int write,
	    unsigned range, uint64_t off, unsigned size, void *buf,
	    unsigned count);

/* --------------------------------------------------- interrupts: one page set
 *
 * Owned by the vcpu process, written by every part.  PROTOCOL.md "Interrupts".
 */
#define IRQ_LINES	32	/* 0-23: GSI as the I/O APIC sees them;
				 * 24-27: PIRQ A-D, routed by the PIIX3 page */
#define IRQ_PIRQ	24
#define MSI_MAX		64	/* vectors per part */

struct irq_msi {
	_Atomic uint64_t pending;	/* bit per vector */
	struct { uint64_t addr; uint32_t data, pad; } vec[MSI_MAX];
};

struct irq_page {
	/* line state: low 32 bits: bit per source that holds the line high
	 * (source = part number, folded mod 32 is not allowed: the broker
	 * hands out source bits with the line); high 32 bits: count of
	 * low-to-high transitions of the whole line. */
	_Atomic uint64_t line[IRQ_LINES];
	_Atomic uint32_t changed;	/* bit per line touched since last look */
	_Atomic uint32_t pad0;
	_Atomic uint64_t msi_parts;	/* bit per part with msi.pending != 0 */
	/* per vcpu: `poll` is what translated code looks at; `halted` is set
	 * before the vcpu sleeps and means the kick eventfd must be written */
	struct {
		_Atomic uint32_t poll, halted;
		uint8_t pad[56];
	} cpu[NVCPU_MAX + 1] __attribute__((aligned(64)));
	struct irq_msi	msi[PART_MAX];
};
#define IRQ_BYTES ((sizeof(struct irq_page) + 4095) & ~4095ul)

/* A source's handle.  `kick` is vcpu 0's eventfd: vcpu 0 collects. */
struct irq_ref {
	struct irq_page	*page;
	int		kick;
	unsigned	part;
	struct chan	*chan;		/* for traces; may be NULL */
};
/* Set this source's contribution to a line.  Idempotent. */
void	irq_set(struct irq_ref *, unsigned line, unsigned source, int level);
/* Post MSI vector n (its addr/data already in the page). */
void	irq_msi(struct irq_ref *, unsigned n);
/* Make vcpu n look: sets poll and writes its eventfd if it is halted. */
void	irq_kick(struct irq_page *, unsigned vcpu, int kickfd);

/* ------------------------------------------------------- PCI configuration
 * One 4 KiB page per function of bus 0 in a shared memfd; written by the
 * owning part, read by the vcpu.  PROTOCOL.md "PCI configuration".  The
 * owner's part number is in a table behind the pages (broker writes it).
 */
struct pci_space {
	uint8_t		fn[256][4096];
	uint16_t	owner[256];	/* part number + 1; 0: no such function */
};
#define PCI_BYTES ((sizeof(struct pci_space) + 4095) & ~4095ul)

/* ---------------------------------------------------------------- the loop */

struct loop;
struct loop	*loop_new(void);
void	loop_free(struct loop *);	/* descriptors stay open */
typedef void	loop_fd_fn(void *arg, int fd, short revents);
typedef void	loop_timer_fn(void *arg);
/* events: POLLIN|POLLOUT; 0 keeps it registered but ignored. */
int	loop_fd(struct loop *, int fd, short events, loop_fd_fn *, void *arg);
void	loop_fd_del(struct loop *, int fd);
/* One-shot timers keyed by (fn, arg): re-arming replaces. `ns` is
 * CLOCK_MONOTONIC; 0 disarms. */
void	loop_timer(struct loop *, int64_t ns, loop_timer_fn *, void *arg);
/* When the next timer is due; INT64_MAX: none. */
int64_t	loop_next(const struct loop *);
/* One iteration; sleeps at most until `deadline` (CLOCK_MONOTONIC ns, -1
 * for ever).  `before_sleep` (may be NULL) returns non-zero to forbid
 * sleeping.  Returns when something was dispatched or the time came. */
int	loop_once(struct loop *, int64_t deadline, int (*before_sleep)(void *),
	    void *arg);
void	loop_run(struct loop *);	/* until loop_stop */
void	loop_stop(struct loop *);
int64_t	now_ns(void);			/* CLOCK_MONOTONIC */

/* ------------------------------------------------------------ control lines
 * One packet, one line.  `ok ...` / `err ERRNO text` answers.
 */
#define LINE_MAX_BYTES	65536
#define LINE_FDS	16
/* Send one packet with nfd descriptors. -1 with errno. */
int	line_send(int fd, const int *fds, int nfd, const char *fmt, ...)
	    __attribute__((format(printf, 4, 5)));
/* Receive; NUL-terminates; *nfd in: room, out: got (CLOEXEC).  Length, 0 at
 * EOF, -1 with errno (EMSGSIZE: truncated, packet dropped, fds closed). */
ssize_t	line_recv(int fd, char *buf, size_t size, int *fds, int *nfd);
/* Split a line in place into words with shell-like quoting ("" '' \);
 * argv is NULL-terminated; count or -1 (EINVAL: quote left open). */
int	line_split(char *line, char **argv, int max);
/* Value of key= among the words, or NULL. */
const char *line_key(char *const *argv, const char *key);
/* Append `s` quoted so that line_split gives it back. */
void	line_quote(FILE *, const char *s);

/* ------------------------------------------------------------- a part's side
 *
 * A part program is started by the broker with its control socket as
 * descriptor 3 and its options as argv words key=value.
 */
struct part {
	int		bus;		/* control socket */
	unsigned	num;		/* part number */
	char		name[32];	/* "uart0" */
	char		vm[64];		/* machine name */
	struct ram	ram;
	const struct map *map;
	struct irq_ref	irq;
	struct dirty	*dirty;
	struct chan	*chan;
	int		kick;		/* eventfd: wake this part */
	struct pci_space *pci;
	void		*state;		/* state memfd mapping */
	size_t		state_len;
	struct loop	*loop;
	const struct part_ops *ops;
	void		*arg;
	bool		running;
	unsigned	nvcpu;		/* slots in use in chan: nvcpu + 1 */
	char		dir[256];	/* the VM's run directory, "" if none */
	struct boot	boot;		/* vcpu only: the latest `boot` line */
	struct chan_ref	*refs;		/* vcpu only: see part_hello_vcpu */
	struct part_priv *priv;		/* part.h */
};

struct part_ops {
	uint64_t (*read)(void *arg, unsigned range, uint64_t off, unsigned size);
	void	(*write)(void *arg, unsigned range, uint64_t off, unsigned size,
		    uint64_t val);
	void	(*bell)(void *arg, uint64_t queues);	/* bits */
	void	(*config)(void *arg, unsigned fn, unsigned off, unsigned size,
		    uint32_t val);
	void	(*stop)(void *arg);	/* clock stopped; must be idempotent */
	void	(*run)(void *arg);
	void	(*reset)(void *arg);
	int	(*save)(void *arg, int fd);
	int	(*load)(void *arg, int fd);
	/* `ask` from the monitor: words; write text to out; 0 or errno */
	int	(*ask)(void *arg, char **argv, FILE *out);
	void	(*quit)(void *arg);	/* last call before exit */
	/* an event of another part, to those who called part_subscribe;
	 * e.g. from "i8042", argv { "reset", NULL } */
	void	(*event)(void *arg, const char *from, char **argv);
	/* vcpu only: refs[num] was filled in (before its ranges are mapped) */
	void	(*newpart)(void *arg, unsigned num);
};

/* hello: announce, receive the shared pages.  `state_len` bytes of state
 * memfd are asked for (kept by the broker over this part's death).  fd 3 is
 * used.  0 or -1 (message already printed). */
int	part_hello(struct part *, const char *chip, size_t state_len,
	    const struct part_ops *, void *arg);
/*
 * The vcpu process instead says hello with this.  It is part number 0 ("cpu")
 * and claims the ranges and lines of the chips placed in it like any part.
 * `nvcpu` is its smp= option (the broker checks it).  `refs` (PART_MAX entries,
 * zeroed here) is filled by `part` lines as the other parts come up, all of
 * them before the first ops->reset.  p->irq.kick is vcpu 0's eventfd, made by
 * the broker; those of the other vcpus are the process's own affair.
 * p->chan exists for chan_trace only.
 *
 * Order of calls, on the thread in part_run: newpart..., then whenever the
 * machine starts or is reset: p->boot filled, ops->reset (put the boot state
 * into vcpu 0, park the others in wait-for-SIPI), ops->run (let the threads go;
 * does not wait), ops->stop (returns when all are parked and have drained
 * nothing more into rings; idempotent).  ask("nmi") is the monitor's NMI.
 * A triple fault is part_event(p, "triple"); INIT by port 0xcf9 and the like
 * come from the chips as "reset".
 *
 * part_range, part_line, part_event and part_ask may be called by any thread
 * of the process at any time after hello.
 */
int	part_hello_vcpu(struct part *, const char *chip, unsigned nvcpu,
	    struct chan_ref *refs, const struct part_ops *, void *arg);
/* Ask for ops->event calls. */
int	part_subscribe(struct part *);
/* Claim or move a range; kind RANGE_NONE withdraws it.  Waits for the
 * broker's answer, so the map is true on return.  0 or -1 errno (EEXIST: the
 * I/O or memory is taken at the same priority). */
int	part_range(struct part *, unsigned range, enum space, uint64_t start,
	    uint64_t len, enum range_kind, uint64_t off, unsigned bits,
	    unsigned prio);
/* Get a source bit for an interrupt line. Returns source or -1. */
int	part_line(struct part *, unsigned line);
/* Claim a PCI function.  devfn -1: the next free slot >= 2.  Returns devfn. */
int	part_pci(struct part *, int devfn);
/* Tell the broker an event: "reset", "poweroff", "panic", "sleep", "exit N"...
 * PROTOCOL.md "Events". Does not wait. */
int	part_event(struct part *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));
/* Ask another part (or "bus" itself) a question and wait for its text.
 * *reply is malloc'ed. 0 or errno value. */
int	part_ask(struct part *, const char *whom, const char *question, int fd,
	    char **reply);
/* While a question is answered: the last descriptor that came with it and was
 * not taken, the caller's now; or -1. */
int	part_take_fd(struct part *);
int	part_ready(struct part *);
/* A socket this part made in the file system: the broker removes it at the end.
 * Before part_ready only. */
int	part_cleanup(struct part *, const char *path);
/* Serve until quit or EOF: control lines, channel, loop. Returns exit code. */
int	part_run(struct part *);
/* Guest clock (ns), and a timer on it (fires only while running). */
int64_t	part_clock(struct part *);
void	part_timer(struct part *, int64_t guest_ns, loop_timer_fn *, void *arg);

/* ------------------------------------------------------------ a tool's side
 * vm-mon, vm-mem, vm-tap, vm-poke: they connect to DIR/bus of a running VM.
 */
/* ${XDG_RUNTIME_DIR:-/tmp}/vm/NAME; a name with a slash is taken as the
 * directory itself.  0, or -1 ENAMETOOLONG. */
int	bus_dir(const char *name, char *buf, size_t len);
/* Connected socket, hello said as tool `prog`; -1 with one line in why. */
int	bus_connect(const char *prog, const char *name, char *why,
	    size_t whylen);
/* Send one request and wait for its answer.  *reply (may be NULL) is
 * malloc'ed: the text after "ok", or the error text.  fds as line_recv (NULL:
 * none wanted).  0 or errno value. */
int	bus_request(int fd, char **reply, int *fds, int *nfd,
	    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* A question to a part or to "bus": PROTOCOL.md "Questions to the bus". */
/* `with`: a descriptor for it, or -1. */
int	bus_ask(int fd, const char *whom, const char *question, int with,
	    char **reply);

/* ------------------------------------------------------------------ options */

enum opt_type { OPT_STR, OPT_BOOL, OPT_U32, OPT_U64, OPT_SIZE, OPT_ENUM };
struct opt {
	const char	*name;
	enum opt_type	type;
	size_t		off;		/* offset in the options struct */
	const char	*def;		/* default as text, NULL: 0 / NULL */
	const char	*help;
	const char	*const *values;	/* OPT_ENUM: NULL-terminated */
};
/* Parse key=value words into *dst (strings point into argv).  Unknown key or
 * bad value: -1 and one line in why. Sizes: bytes, suffix k M G T (binary). */
int	opts_parse(const struct opt *, char *const *argv, void *dst, char *why,
	    size_t whylen);
int	parse_size(const char *, uint64_t *);
void	opts_help(const struct opt *, FILE *);

/* ---------------------------------------------------------------------- log */

/* One line on stderr: "PROG: VM/PART: text"; also to the part's log file. */
void	log_open(const char *prog, const char *vm, const char *part);
void	log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* As log_line, but only the first time for this (key, n). */
void	log_once(const char *key, uint64_t n, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* -d items: comma list; log_on("guest_errors") */
void	log_items(const char *items);
bool	log_on(const char *item);

/* ------------------------------------------------------------------ sandbox */
/* No new privileges, rlimits, empty Landlock rule set where the kernel has it,
 * and the seccomp list made from the program's `#syscalls` comments. Call once,
 * after every descriptor is in hand. */
int	sandbox(const char *prog);
/* The same, but files beneath dir (may be NULL) can be read. */
int	sandbox_reading(const char *prog, const char *dir);

/* --------------------------------------------------- character back ends
 * chardev.c: stdio, mon:stdio, pty, null, none, file:PATH, pipe:PATH,
 * unix:PATH[,server][,nowait], tcp:HOST:PORT[,server][,nowait][,telnet],
 * [,reconnect=SECONDS],
 * udp:[RH]:RP[@[LH]:LP], telnet:HOST:PORT[,server][,nowait], vc is an error.
 */
struct chardev;
typedef void chardev_in_fn(void *arg, const uint8_t *buf, size_t n);
/* `why` gets one line on failure (NULL returned).  A terminal and mon:stdio
 * have the keys after Ctrl-a. */
struct chardev *chardev_open(struct loop *, const char *spec, struct part *,
	    chardev_in_fn *, void *arg, char *why, size_t whylen);
/* Never blocks; returns bytes taken (the rest is retried by the caller when
 * `writable` is called, or dropped if nobody is connected). */
size_t	chardev_write(struct chardev *, const uint8_t *buf, size_t n);
void	chardev_writable(struct chardev *, void (*fn)(void *), void *arg);
/* Called for a break on the line (Ctrl-a b, telnet BRK). */
void	chardev_break(struct chardev *, void (*fn)(void *), void *arg);
/* Flow control: no input is delivered while paused. */
void	chardev_pause(struct chardev *, bool);
const char *chardev_info(struct chardev *);	/* "pty:/dev/pts/3" */
void	chardev_close(struct chardev *);	/* restores the terminal */

#endif
