/*
 * blk.h - the virtio block device's two parts: virtio-blk.c takes requests and
 * answers what needs no I/O, blk-io.c does the rest, at once or by workers.
 * blk-ask.c answers the monitor, with blk-job.c for block jobs, blk-snap.c for
 * snapshots and blk-nbd.c for serving the disk to others.
 */
#ifndef BLK_H
#define BLK_H

#include <errno.h>
#include <string.h>
#include "disk.h"
#include "virtio.h"

#define SECTOR		512u
#define SEG_MAX		254u
#define IOV_CAP		(SEG_MAX + 4)	/* parts of one request */
#define NWORKER		4
#define MAX_SECTORS	(1u << 22)	/* of a discard or write-zeroes */
#define MAX_RANGES	32u

enum { F_SEG_MAX = 2, F_GEOMETRY = 4, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9,
	F_TOPOLOGY = 10, F_WCE = 11, F_MQ = 12, F_DISCARD = 13,
	F_WRITE_ZEROES = 14 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11,
	T_WRITE_ZEROES = 13 };
enum { REPORT, IGNORE, STOP, ON_ENOSPC };
enum { S_OK, S_IOERR, S_UNSUPP };
enum { CFG_LEN = 60, CFG_WCE = 32 };

struct blk {
	struct virtio_state v;
	uint8_t		wce;		/* write cache enabled */
	/* Heads of chains that failed and are done again on `run', a bit each
	 * by queue; under m. */
	uint8_t		kept[VQ_MAX][VQ_SIZE_MAX / 8];
};

struct blk_opts {
	struct disk_opts d;
	const char	*serial, *addr;
	uint32_t	queues, queue_size, lbs, pbs;
	int		werror, rerror;		/* enum { REPORT, ... } */
};

struct req {
	struct req	*next;
	struct vq_elem	e;
	struct iovec	iov[IOV_CAP];
	uint32_t	type;
	uint64_t	sector;
	struct iovec	*data;		/* in iov */
	unsigned	n_data;
	uint64_t	len;
	uint8_t		*status;	/* in guest memory */
	uint32_t	written;	/* bytes for the used ring */
};

struct blk_priv {
	struct virtio	v;
	struct img	*img;
	bool		ro, direct, temp;	/* temp: a snapshot that goes */
	uint64_t	bytes;		/* capacity, whole logical blocks */
	_Atomic uint64_t rd_ops, wr_ops, flush_ops, unmap_ops, rd_bytes, wr_bytes;
	_Atomic uint64_t rd_ns, wr_ns, flush_ns, errors;
	struct req	*free;
	/* under m */
	pthread_mutex_t	m;
	pthread_cond_t	work, idle;
	struct req	*head, **tail;
	unsigned	inflight, nthread;
	bool		quit;
	bool		halted;		/* asked for the machine to stop */
	struct blk_job	*job;
	struct blk_nbd	*nbd;		/* NULL: none */
	bool		quiet;
	int		wake;		/* eventfd: the job's thread has ended */
	char		last[320];	/* how the last job ended */
	pthread_t	thread[NWORKER];
};

static inline struct blk_priv *
blk(struct virtio *v)
{
	return (struct blk_priv *)v;
}

static inline const struct blk_opts *
options(const struct blk_priv *b)
{
	return b->v.d->opts;
}

/* Must a write be on stable storage before it is completed? */
bool	blk_write_through(const struct blk_priv *);
/* Carry out a request; `nowait`: only if that does not sleep.  DONE: the status
 * in guest memory and r->written are set.  SLEEPS: it would.  KEPT: it failed,
 * the machine shall stop, and the request is done again when it runs. */
enum performed { DONE, SLEEPS, KEPT };
enum performed blk_perform(struct blk_priv *, struct req *, bool nowait);
/* Have a worker do and complete it; false if there are no threads to be had. */
bool	blk_hand_over(struct blk_priv *, struct req *);
/* Wait until the workers hold nothing; limits do not count meanwhile. */
void	blk_drain(struct virtio *);
/* Questions of the monitor: bus/PROTOCOL.md, "Questions to a device". */
int	blk_ask(struct devctx *, char **argv, FILE *out);
/* The image to use from now on; the workers hold nothing. */
void	blk_use(struct blk_priv *, struct img *);

/* Nobody uses the image until blk_go_on, the guest or a client: main thread. */
void	blk_quiet(struct blk_priv *);
void	blk_go_on(struct blk_priv *);

/* blk-nbd.c; gate: wait for the requests of clients, and hold them off. */
int	blk_nbd_ask(struct blk_priv *, char **argv, FILE *out);
void	blk_nbd_gate(struct blk_nbd *, bool closed);
bool	blk_nbd_busy(const struct blk_priv *, FILE *out);
void	blk_nbd_quit(struct blk_priv *);
void	blk_nbd_use(struct blk_nbd *, struct img *);

/* blk-job.c, blk-snap.c: answers as blk_ask. */
int	blk_stream(struct blk_priv *, char **argv, FILE *out);
int	blk_copy(struct blk_priv *, char **argv, FILE *out); /* backup, mirror */
int	blk_job_ask(struct blk_priv *, char **argv, FILE *out);
int	blk_snapshot(struct blk_priv *, char **argv, FILE *out);
int	blk_snap_internal(struct blk_priv *, char **argv, FILE *out);
int	blk_snap_delete(struct blk_priv *, char **argv, FILE *out);
/* Say so if a job has the image. */
bool	blk_busy(const struct blk_priv *, FILE *out);
int	blk_job_init(struct blk_priv *);
void	blk_job_quit(struct blk_priv *);
/* file=, format=, sync=, new= and the descriptor of a question: the image that
 * will be a copy of the disk or stand on it.  NULL: said why, errno is set. */
struct img *blk_target(struct blk_priv *, char **argv, struct img *backing,
	    FILE *out);
/* A name from wherever this process is; malloc'd. */
char	*blk_full_name(const char *);

static inline int
blk_say(FILE *out, const struct imgerr *e)
{
	int eno = errno;
	const char *s = e->s;

	for (; *s; s++)
		putc(*s == '\n' ? ' ' : *s, out);
	return eno ? eno : EIO;
}

void	blk_end_workers(struct blk_priv *);
void	blk_req_free(struct blk_priv *, struct req *);	/* under b->m */

#endif
