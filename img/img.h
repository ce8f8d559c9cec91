/*
 * img.h - disk images as a library: formats, protocols, backing chains.
 *
 * An image is a tree of nodes: a format node (qcow2, raw, ...) stands on its
 * file node (a protocol) and may have a backing image.  Every call is
 * synchronous and may be made from many threads at once on one image;
 * img_close() must be the last.  Offsets and lengths are in bytes.
 * Calls return 0, or -1 with errno; those that take a struct imgerr also leave
 * the reason there as text.  Nothing in an image is trusted.
 */
#ifndef IMG_H
#define IMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/types.h>
#include <sys/uio.h>

#define KiB	1024ull
#define MiB	(1024 * KiB)
#define GiB	(1024 * MiB)
#define IMG_MAX	((1ull << 63) - 512)	/* largest size of an image */

struct imgerr {
	char	s[1400];
};
/* Set the text (printf style) and errno to `eno`; returns -1. */
int	err_set(struct imgerr *, int eno, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
/* Put text in front of what is there; keeps errno; returns -1. */
int	err_pre(struct imgerr *, const char *fmt, ...)
	    __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------ values and JSON */

enum jtype { JNULL, JBOOL, JINT, JUINT, JDOUBLE, JSTR, JLIST, JDICT };
struct js {
	enum jtype	type;
	char		*key;		/* in a dictionary */
	bool		b;
	int64_t		i;
	uint64_t	u;
	double		d;
	char		*s;
	struct js	*kid, *last, *next;
};
struct js *js_new(enum jtype);
struct js *js_add(struct js *to, const char *key, struct js *v);
struct js *js_str(struct js *to, const char *key, const char *);
struct js *js_int(struct js *to, const char *key, int64_t);
struct js *js_bool(struct js *to, const char *key, bool);
struct js *js_get(const struct js *, const char *key);
struct js *js_parse(const char *text, struct imgerr *);
/* The order of a dictionary's keys in QEMU's output: see json.c. */
void	js_sort(struct js *);
/* Text, malloc'd; pretty has QEMU's four-space layout. */
char	*js_text(const struct js *, bool pretty);
/* "name: value" lines at `indent` levels, dashes as spaces (qemu-img info). */
char	*js_human(const struct js *, int indent);
void	js_free(struct js *);

/* --------------------------------------------------------------- options */

struct optval {
	char		*key, *val;
	bool		used;
	struct optval	*next;
};
struct opts {
	struct optval	*head;
};
/* "a=b,c=d" (",," is a comma); a first word without '=' is `first`=word.
 * Appends. */
int	opts_text(struct opts *, const char *text, const char *first,
	    struct imgerr *);
int	opts_json(struct opts *, const struct js *, struct imgerr *);
void	opts_set(struct opts *, const char *key, const char *val);
void	opts_setf(struct opts *, const char *key, const char *fmt, ...)
	    __attribute__((format(printf, 3, 4)));
const char *opts_get(struct opts *, const char *key);	/* marks it used */
const char *opts_peek(const struct opts *, const char *key);
void	opts_del(struct opts *, const char *key);
/* Move every "prefix.x" to `to` as "x"; true if there was one. */
bool	opts_sub(struct opts *, const char *prefix, struct opts *to);
void	opts_copy(struct opts *to, const struct opts *);
void	opts_free(struct opts *);
int	opts_bool(struct opts *, const char *key, bool dflt, bool *,
	    struct imgerr *);
int	opts_size(struct opts *, const char *key, uint64_t dflt, uint64_t *,
	    struct imgerr *);
int	opts_num(struct opts *, const char *key, uint64_t dflt, uint64_t *,
	    struct imgerr *);
/* "10k", "1.5G", ...; `unit` is the suffix assumed ('B').  0, or -1 with
 * EINVAL or ERANGE. */
int	size_parse(const char *, char unit, uint64_t *);
/* "10 MiB", three significant digits. */
char	*size_human(uint64_t, char buf[32]);

/* The creation options a driver knows, for help and checking. */
enum val_type { VAL_STR, VAL_BOOL, VAL_SIZE, VAL_NUM };
struct opt_desc {
	const char	*name;
	enum val_type	type;
	const char	*help;
	const char	*dflt;		/* shown by create when not NULL */
	bool		amend;		/* amend can change it */
	bool		amend_only;
};
/* The value of the secret object `id`, or NULL with errno ENOENT. */
const char *img_secret(const char *id);
/* "TYPE,id=ID,...": a secret, TLS credentials, an authorization. */
int	img_object_add(const char *objectdef, struct imgerr *);

/* ---------------------------------------------------------------- images */

enum img_flags {
	IMG_RDWR	= 1 << 0,
	IMG_NOBACKING	= 1 << 1,	/* do not open the backing image */
	IMG_SHARE	= 1 << 2,	/* -U: take no locks */
	IMG_NOCACHE	= 1 << 3,	/* O_DIRECT */
	IMG_NOFLUSH	= 1 << 4,	/* cache=unsafe */
	IMG_WRTHROUGH	= 1 << 5,
	IMG_UNMAP	= 1 << 6,	/* discard=unmap */
	IMG_NOIO	= 1 << 7,	/* only to look at */
	IMG_CHECK	= 1 << 8,	/* opened by check: repair nothing yet */
	IMG_RESIZE	= 1 << 9,	/* the user may change the size */
	IMG_ISBACKING	= 1 << 10,
	IMG_COR		= 1 << 11,	/* copy on read */
	IMG_ISPROTO	= 1 << 12,	/* open the protocol layer only */
	IMG_NOLOCK	= 1 << 13,
	IMG_FORMAT	= 1 << 14,	/* a format node's own file (locks) */
	IMG_NOWRITERS	= 1 << 15,	/* locks: nobody else may write, */
	IMG_NORESIZERS	= 1 << 16,	/* or change the size */
	IMG_LATER	= 1 << 17,	/* may be made writable later; of a
					 * writable image: its backing may */
};

enum img_wflags {
	IMG_FUA		= 1 << 0,
	IMG_MAYUNMAP	= 1 << 1,	/* zero: may punch holes */
	IMG_NOFALLBACK	= 1 << 2,	/* zero: fail rather than write zeros */
	IMG_NOWAIT	= 1 << 3,	/* vectors: EAGAIN rather than wait for a
					 * disk or a lock; the host's cache is no
					 * waiting */
};

enum img_sflags {
	IMG_DATA	= 1 << 0,	/* reads come from `file` at `map` */
	IMG_ZERO	= 1 << 1,	/* reads as zeros */
	IMG_ALLOC	= 1 << 2,	/* this layer decides, not its backing */
	IMG_MAPPED	= 1 << 3,	/* `map` is valid */
	IMG_EOF		= 1 << 4,
	IMG_COMPRESSED	= 1 << 5,
	IMG_SUB		= 1 << 6,	/* ask the file below for zeros */
};

struct img_status {
	uint64_t	len;		/* bytes this applies to, at least 1 */
	unsigned	flags;
	uint64_t	map;
	struct img	*file;
	int		depth;		/* 0: none; 1: top; 2: its backing... */
};

enum prealloc { PRE_OFF, PRE_METADATA, PRE_FALLOC, PRE_FULL };
extern const char *const prealloc_name[4];

struct img_check {
	int		fix;		/* 1 leaks, 2 errors */
	bool		quiet;
	int64_t		corruptions, leaks, errors;
	int64_t		corruptions_fixed, leaks_fixed;
	uint64_t	end;		/* image end offset, 0 unknown */
	uint64_t	total, allocated, fragmented, compressed; /* clusters */
	void		(*say)(void *, bool err, const char *);
	void		*arg;
};

struct img_snap {
	char		id[128], name[256];
	uint64_t	vm_size, disk_size;
	uint32_t	sec, nsec;
	uint64_t	clock_nsec, icount;
};

struct img_bitmap {
	char		name[1024];
	uint32_t	granularity;
	bool		in_use, enabled;
};

struct img_measure {
	uint64_t	required, full;
	bool		has_bitmaps;
	uint64_t	bitmaps;
};

struct img;
struct img_driver {
	const char	*name;
	const char	*schemes;	/* words before ':' besides the name */
	bool		protocol;
	bool		backing;	/* supports backing images */
	bool		late;		/* IMG_LATER works */
	bool		terse;		/* qemu-img info has no dirty-flag */
	const struct opt_desc *opts;	/* of create; ends with a NULL name */
	const struct opt_desc *ropts;	/* of open, besides the common ones */
	/* How sure: 0 no, up to 100. */
	int	(*probe)(const uint8_t *buf, size_t n, const char *filename);
	int	(*open)(struct img *, struct opts *, struct imgerr *);
	void	(*close)(struct img *);
	int	(*pread)(struct img *, void *, size_t, uint64_t off);
	int	(*pwrite)(struct img *, const void *, size_t, uint64_t off);
	/* All of the vector; optional for formats, not for protocols. */
	int	(*preadv)(struct img *, const struct iovec *, unsigned n,
		    uint64_t off, int flags);
	int	(*pwritev)(struct img *, const struct iovec *, unsigned n,
		    uint64_t off, int flags);
	/* One cluster (or the tail of the image) at a cluster boundary;
	 * ENOTSUP if it cannot, EAGAIN if it does not shrink. */
	int	(*pwritec)(struct img *, const void *, size_t, uint64_t off);
	int	(*zero)(struct img *, uint64_t off, uint64_t len, int flags);
	int	(*discard)(struct img *, uint64_t off, uint64_t len);
	int	(*flush)(struct img *);
	int	(*status)(struct img *, uint64_t off, uint64_t len,
		    struct img_status *);
	int	(*truncate)(struct img *, uint64_t size, enum prealloc,
		    struct imgerr *);
	int64_t	(*allocated)(struct img *);	/* bytes on the host */
	/* Protocols: copy between two images of this driver. */
	int	(*copy)(struct img *from, uint64_t off, struct img *to,
		    uint64_t to_off, uint64_t len);
	/* Protocols: IMG_LATER's turn, and back. */
	int	(*writable)(struct img *, bool, struct imgerr *);
	/* Formats that are stretches of their file: where `off` is in it. */
	uint64_t (*place)(struct img *, uint64_t off);
	/* Create `filename` (a protocol driver) or lay the format out on it. */
	int	(*create)(const char *filename, struct opts *, struct imgerr *);
	int	(*info)(struct img *, struct js *data);
	int	(*check)(struct img *, struct img_check *, struct imgerr *);
	int	(*snap_list)(struct img *, struct img_snap **, int *n);
	int	(*snap_create)(struct img *, struct img_snap *,
		    struct imgerr *);
	int	(*snap_apply)(struct img *, const char *id, struct imgerr *);
	int	(*snap_delete)(struct img *, const char *id, struct imgerr *);
	int	(*snap_load)(struct img *, const char *id, const char *name,
		    struct imgerr *);
	int	(*set_backing)(struct img *, const char *file, const char *fmt);
	int	(*empty)(struct img *);		/* drop all data, after commit */
	int	(*amend)(struct img *, struct opts *, bool force,
		    void (*progress)(double), struct imgerr *);
	int	(*measure)(struct opts *, struct img *, struct img_measure *,
		    struct imgerr *);
	int	(*bm_list)(struct img *, struct img_bitmap **, int *n);
	int	(*bm_op)(struct img *, int op, const char *name,
		    uint64_t granularity, struct imgerr *);
	int	(*bm_merge)(struct img *, const char *to, struct img *src,
		    const char *from, struct imgerr *);
	/* [off, off+len): 1 dirty, 0 clean, and for how long */
	int	(*bm_status)(struct img *, const char *name, uint64_t off,
		    uint64_t len, bool *dirty, uint64_t *run);
	int	(*vmstate)(struct img *, bool wr, void *, size_t, uint64_t off);
	/* Have it say that what it holds is a part of a copy, until told
	 * otherwise: nobody takes it for a whole disk. */
	int	(*unfinished)(struct img *, bool);
};
enum { BM_ADD, BM_REMOVE, BM_CLEAR, BM_ENABLE, BM_DISABLE };

struct img {
	const struct img_driver *drv;
	char		*filename;	/* what the user calls it */
	int		flags;
	uint64_t	size;		/* what the reader sees */
	uint32_t	cluster;	/* 0: none */
	uint32_t	align;		/* zero/discard granularity hint, or 0 */
	uint64_t	vmstate_off;	/* where saved VM state would go */
	bool		probed;		/* the format was guessed */
	bool		encrypted;
	bool		only_compressed; /* takes compressed writes only */
	bool		zero_init;	/* a new one reads as zeros */
	bool		raw_ok;		/* `file` offsets are host offsets */
	bool		dirty;		/* shown as dirty-flag */
	bool		broken;		/* must not be written */
	bool		detect_zero, detect_unmap;
	bool		auto_ro;	/* read-only where it must be */
	struct throttle	*throttle;
	pthread_rwlock_t cor;		/* writers share it, a copy into this
					 * layer (IMG_COR, stream) has it alone */
	struct job	*job;		/* what goes on beside (job.h) */
	struct img	*file, *data, *backing;
	char		*backing_name, *backing_fmt;	/* as recorded */
	struct opts	backing_opts;
	bool		has_backing_opts;
	void		*priv;
};

extern const struct img_driver *const img_drivers[];
extern const int img_ndrivers;
const struct img_driver *img_driver_find(const char *name);
const struct img_driver *img_protocol(const char *filename, bool *known);

/* Open.  `fmt` NULL: the "driver" option, else probing.  `opts` may be NULL;
 * it is consumed (freed) in any case. */
struct img *img_open(const char *filename, const char *fmt, struct opts *opts,
	    int flags, struct imgerr *);
/* QEMU's words on stderr, if it is writable and was taken for raw by guessing. */
void	img_guessed_warning(const struct img *);
/* Open the child `name` of a format node: options "name.*" or `filename`. */
struct img *img_open_child(struct img *, struct opts *, const char *name,
	    const char *filename, bool format, int flags, struct imgerr *);
int	img_open_backing(struct img *, struct imgerr *);
int	img_close(struct img *);	/* flushes */
/* Make an image opened with IMG_LATER writable, or read-only again (flushes). */
int	img_writable(struct img *, bool, struct imgerr *);
/* Copy what the layers of `top` above `base` hold into `to`, which is `base`
 * opened for writing (perhaps the same).  Grows it if need be; flushes.  `moved`
 * is told of each step: `data` bytes written, `off` reached. */
int	img_commit(struct img *top, struct img *base, struct img *to,
	    void (*moved)(uint64_t data, uint64_t off, uint64_t size),
	    struct imgerr *);
/* The full name of a backing file `b` named in image `of`; malloc'd. */
char	*img_backing_path(const char *of, const char *b);
int	img_create(const char *fmt, const char *filename, struct opts *,
	    struct imgerr *);

int	img_pread(struct img *, void *, size_t, uint64_t off);
int	img_pwrite(struct img *, const void *, size_t, uint64_t off, int flags);
/* Vectors of `n` parts, whose memory may change meanwhile (a guest's).  Flags:
 * IMG_NOWAIT; writing also IMG_FUA.  After an error what was read or written
 * is undefined within the range. */
int	img_preadv(struct img *, const struct iovec *, unsigned n, uint64_t off,
	    int flags);
int	img_pwritev(struct img *, const struct iovec *, unsigned n,
	    uint64_t off, int flags);
/* For protocols whose requests have one part: a vector by way of a buffer. */
int	img_bounce_read(struct img *, const struct iovec *, unsigned n,
	    uint64_t off, int flags);
int	img_bounce_write(struct img *, const struct iovec *, unsigned n,
	    uint64_t off, int flags);
/* Bytes of a vector; copies between one, from byte `skip` on, and memory. */
uint64_t vec_len(const struct iovec *, unsigned n);
void	vec_get(const struct iovec *, unsigned n, uint64_t skip, void *,
	    size_t);
void	vec_put(const struct iovec *, unsigned n, uint64_t skip, const void *,
	    size_t);
int	img_pwritec(struct img *, const void *, size_t, uint64_t off);
int	img_zero(struct img *, uint64_t off, uint64_t len, int flags);
/* For a driver's zero(): the hard way, unless IMG_NOFALLBACK forbids it. */
int	img_write_zeros(struct img *, uint64_t off, uint64_t len, int flags);
int	img_discard(struct img *, uint64_t off, uint64_t len);
int	img_flush(struct img *);
/* Have the host's kernel copy, if both ends are stretches of files; ENOTSUP if
 * not.  After an error the target range is undefined. */
int	img_copy(struct img *from, uint64_t off, struct img *to, uint64_t to_off,
	    uint64_t len);
int	img_truncate(struct img *, uint64_t size, enum prealloc,
	    struct imgerr *);
/* One layer. */
int	img_status1(struct img *, uint64_t off, uint64_t len,
	    struct img_status *);
/* The chain down to but not including `base` (NULL: all of it). */
int	img_status(struct img *, struct img *base, uint64_t off, uint64_t len,
	    struct img_status *);
int64_t	img_allocated(struct img *);
/* Read, zeros past the end or without an image (a backing's view). */
int	img_pread_backing(struct img *, void *, size_t, uint64_t off);

/* How many bytes at `p` are alike (all zero or none of a `step`-sized block
 * zero): sets *zero. */
bool	is_zero(const void *, size_t);
size_t	zero_run(const uint8_t *p, size_t n, size_t step, bool *zero);

/* "off", "falloc", ... of option `key`; `meta`: "metadata" is valid too. */
int	prealloc_parse(const char *, const char *key, bool meta,
	    enum prealloc *, struct imgerr *);

/* An aio= mode: 0, or -1 with text for those that are not there. */
int	aio_parse(const char *, struct imgerr *);

/* A qcow2 image in ${TMPDIR:-/var/tmp} that has no name any more and stands on
 * `base`, which becomes its own: img_close() closes both and drops what was
 * written.  NULL: `base` is still the caller's. */
struct img *img_temporary(struct img *base, struct imgerr *);

/* A protocol's create() where nothing can be made: what is there must be large
 * enough, and loses its first sector. */
int	img_create_existing(const char *filename, struct opts *,
	    struct imgerr *);
/* For formats' create: make `name` of `size` bytes with its protocol and open
 * that for writing, without flushes. */
struct img *img_create_file(const char *name, uint64_t size, struct opts *,
	    struct imgerr *);

/* From now on `name` is the file behind `fd`, which becomes the library's, for a
 * process that cannot open it; until it is taken back.  Images opened meanwhile
 * keep a copy. */
int	img_lend(const char *name, int fd);
void	img_unlend(const char *name);
bool	img_lent(const char *name);

/* Locks: bits of enum perm held, and of those denied to others. */
enum perm { PERM_READ = 1, PERM_WRITE = 2, PERM_UNCHANGED = 4, PERM_RESIZE = 8 };
/* Give back what lock_file took of `perm`. */
void	unlock_file(int fd, int perm);
/* 1: the file system has no locks. */
int	lock_file(int fd, int perm, int deny, const char *name,
	    struct imgerr *);

/* Numbers in a file's byte order, at any alignment. */
#define ORDER(n, swap) \
static inline uint##n##_t be##n(const void *p) \
{ uint##n##_t v; __builtin_memcpy(&v, p, n / 8); return swap(v); } \
static inline uint##n##_t le##n(const void *p) \
{ uint##n##_t v; __builtin_memcpy(&v, p, n / 8); return v; } \
static inline void pbe##n(void *p, uint##n##_t v) \
{ v = swap(v); __builtin_memcpy(p, &v, n / 8); } \
static inline void ple##n(void *p, uint##n##_t v) \
{ __builtin_memcpy(p, &v, n / 8); }
ORDER(16, __builtin_bswap16)
ORDER(32, __builtin_bswap32)
ORDER(64, __builtin_bswap64)
#undef ORDER
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little endian");

static inline uint64_t rup(uint64_t v, uint64_t a) { return (v + a - 1) / a * a; }
static inline uint64_t rdown(uint64_t v, uint64_t a) { return v / a * a; }
static inline uint64_t umin(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t umax(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
