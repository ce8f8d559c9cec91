/*
 * qcow2.h - what the files of the qcow2 format share (not for others).
 *
 * Theory of operation.  All metadata is changed in memory under q->lock and
 * reaches the file in q2_sync(), which keeps this order so that the file is
 * sound at any moment of a power cut (leaked clusters at worst):
 *	1. guest data, and refcount blocks that only count upwards
 *	2. refcount table	3. L2 tables	4. L1 table
 *	5. only now are clusters that became unreferenced given back: until
 *	   then they sit in q->freed and cannot be allocated again.
 * Each step waits for the disk before the next one starts.
 *
 * Guest data moves without the lock.  A request registers the clusters it
 * touches: those that change the mapping (alloc, zero, discard) exclude all
 * others on the same clusters, reads and in-place writes only exclude those.
 */
#ifndef QCOW2_H
#define QCOW2_H

#include "img.h"

#define Q2_MAGIC	0x514649fbu
#define Q2_OFFS		0x00fffffffffffe00ull
#define Q2_COPIED	(1ull << 63)
#define Q2_COMPR	(1ull << 62)
#define Q2_ZERO		1ull
enum {
	Q2_I_DIRTY = 1, Q2_I_CORRUPT = 2, Q2_I_DATAFILE = 4, Q2_I_COMPR = 8,
	Q2_I_EXTL2 = 16, Q2_I_ALL = 31,
	Q2_C_LAZY = 1,
	Q2_I_PART = 63,		/* a bit of our own: an unfinished copy */
	Q2_A_BITMAPS = 1, Q2_A_RAWDATA = 2,
	Q2_L1_MAX = 32 << 20, Q2_RT_MAX = 8 << 20, Q2_SNAP_MAX = 65536,
	Q2_SNAPTAB_MAX = 64 << 20, Q2_BM_MAX = 65535,
};

struct tab {				/* a cached L2 table or refcount block */
	uint64_t	off;
	uint8_t		*buf;
	bool		dirty;
	struct tab	*hash, *prev, *next;
};

struct cache {
	struct tab	*hash[4096], lru;
	unsigned	n, max;
	bool		any_dirty;
};

struct run {				/* clusters */
	uint64_t	off;
	uint64_t	n;
};

struct req {
	uint64_t	off, end;
	bool		excl;
	struct req	*next;
};

struct q2ext {				/* a header extension we do not know */
	uint32_t	type, len;
	uint8_t		*data;
	struct q2ext	*next;
};

struct q2snap {
	uint64_t	l1_off;
	uint32_t	l1_size;
	struct img_snap	s;
	uint8_t		*extra;		/* unknown extra data */
	uint32_t	extra_len, unk_len;
};

struct q2bm;

struct qcow2 {
	struct img	*im;
	pthread_mutex_t	lock;
	pthread_cond_t	cond;
	struct req	*reqs;
	unsigned	version, cbits, rorder, hlen;
	uint64_t	cs, scs;	/* cluster, sub-cluster size */
	unsigned	nsub, l2bits;	/* entries of an L2 table, log2 */
	unsigned	l2e;		/* bytes of an L2 entry: 8 or 16 */
	uint64_t	incompat, compat, autoclear;
	unsigned	compr;		/* 0 zlib, 1 zstd */
	uint64_t	back_off;
	uint64_t	l1_off, *l1;
	uint32_t	l1_size, l1_lo, l1_hi;	/* dirty: [lo, hi) */
	uint64_t	rt_off, *rt;
	uint32_t	rt_size, rt_clusters, rt_lo, rt_hi;
	uint64_t	rb_n, rmax;	/* entries of a block; largest count */
	struct cache	l2c, rbc;
	uint64_t	hint;		/* no free cluster below this one */
	uint64_t	comp_next;	/* where compressed data may go on */
	struct run	*freed;
	size_t		nfreed, cfreed;
	bool		lazy;		/* leave refcounts behind */
	bool		dirty_marked;	/* lazy refcounts: header says dirty */
	char		*data_name;
	unsigned	method;		/* of encryption */
	uint64_t	crypt_off, crypt_len;	/* the LUKS header */
	struct luks	*luks;
	struct crypt	*crypt;		/* NULL: opened to look only */
	struct q2ext	*ext;
	uint64_t	snap_off;
	uint32_t	nsnap;
	struct q2snap	*snap;
	uint64_t	bm_off, bm_size;
	uint32_t	nbm;
	struct q2bm	*bm;
	bool		bm_loaded, bm_marked;
	bool		holes;		/* the file has them: see status */
	bool		loaded_snap;	/* reading an internal snapshot */
	uint64_t	active_size;
};

enum { Q2_PLAIN, Q2_AES, Q2_LUKS };	/* q->method, as in the header */
enum q2type { Q2_UNALLOC, Q2_ZEROED, Q2_NORMAL, Q2_COMPRESSED };
struct q2map {
	enum q2type	type;
	uint64_t	host;		/* NORMAL, or of a zeroed cluster */
	uint64_t	len;		/* bytes from the asked offset */
	uint64_t	entry;
};

/* qcow2-cache.c */
int	q2_cache_init(struct cache *, unsigned max);
void	q2_cache_free(struct cache *);
void	q2_cache_drop(struct cache *, uint64_t off);
/* The table at `off`: read, or zeroed if `fresh`.  Valid until the next get
 * of the same cache. */
struct tab *q2_get(struct qcow2 *, struct cache *, uint64_t off, bool fresh);
void	q2_dirty(struct cache *, struct tab *);
int	q2_sync(struct qcow2 *, bool data);	/* lock held */

/* qcow2-refcount.c; all with the lock held */
int	q2_rc_get(struct qcow2 *, uint64_t cluster, uint64_t *);
int	q2_rc_add(struct qcow2 *, uint64_t cluster, uint64_t n, int delta);
int	q2_rc_set(struct qcow2 *, uint64_t cluster, uint64_t v);
uint64_t q2_rc_read(const uint8_t *blk, unsigned order, uint64_t i);
void	q2_rc_write(uint8_t *blk, unsigned order, uint64_t i, uint64_t v);
/* Contiguous clusters with count 1; 0 and errno on failure. */
uint64_t q2_alloc(struct qcow2 *, uint64_t n);
uint64_t q2_alloc_some(struct qcow2 *, uint64_t max, uint64_t *got);
uint64_t q2_alloc_bytes(struct qcow2 *, uint64_t n);
void	q2_unref(struct qcow2 *, uint64_t off, uint64_t clusters);
int	q2_apply_freed(struct qcow2 *);

/* qcow2-map.c; with the lock held */
/* Wait until nothing in flight stands in the way of [off, off+len); true if the
 * lock was let go meanwhile. */
bool	q2_await(struct qcow2 *, uint64_t off, uint64_t len, bool excl);
void	q2_enter(struct qcow2 *, struct req *, uint64_t off, uint64_t len,
	    bool excl);
void	q2_leave(struct qcow2 *, struct req *);
uint64_t q2_l1_index(struct qcow2 *, uint64_t off);
unsigned q2_l2_index(struct qcow2 *, uint64_t off);
/* An entry and its sub-cluster bits. */
uint64_t q2_entry(struct qcow2 *, struct tab *, unsigned i, uint64_t *bits);
void	q2_set_entry(struct qcow2 *, struct tab *, unsigned i, uint64_t e,
	    uint64_t bits);
enum q2type q2_kind(struct qcow2 *, uint64_t e, uint64_t bits, unsigned sub);
/* The bits of the sub-clusters that [from, to) of a cluster touches. */
uint64_t q2_sub_mask(struct qcow2 *, uint64_t from, uint64_t to);
/* The L2 table of `off`; NULL with errno 0: there is none. */
struct tab *q2_l2_table(struct qcow2 *, uint64_t off);
struct tab *q2_l2_for_write(struct qcow2 *, uint64_t off);
int	q2_lookup(struct qcow2 *, uint64_t off, uint64_t len, struct q2map *);
void	q2_compr_span(struct qcow2 *, uint64_t entry, uint64_t *off,
	    uint64_t *len);
void	q2_free_entry(struct qcow2 *, uint64_t entry);
int	q2_begin_change(struct qcow2 *);
int	q2_trim_freed(struct qcow2 *);

/* qcow2-cluster.c */
int	q2_pread(struct img *, void *, size_t, uint64_t);
int	q2_pwrite(struct img *, const void *, size_t, uint64_t);
int	q2_pwritec(struct img *, const void *, size_t, uint64_t);
int	q2_status(struct img *, uint64_t, uint64_t, struct img_status *);
int	q2_preallocate(struct qcow2 *, uint64_t from, uint64_t to,
	    enum prealloc, struct imgerr *);
/* Where guest data is. */
static inline struct img *
q2_data(struct qcow2 *q)
{
	return q->im->data ? q->im->data : q->im->file;
}

/* qcow2-zero.c */
int	q2_zero(struct img *, uint64_t, uint64_t, int);
int	q2_discard(struct img *, uint64_t, uint64_t);
int	q2_unmap(struct img *, uint64_t, uint64_t, bool full);

/* qcow2-compress.c */
/* Bytes of `out` used, 0 if it does not get smaller than `cap`. */
size_t	q2_deflate(unsigned type, const void *in, size_t n, void *out,
	    size_t cap);
int	q2_inflate(unsigned type, const void *in, size_t n, void *out,
	    size_t want);

/* qcow2-crypt.c */
/* What the options of create ask for. */
int	q2_crypt_method(struct opts *, unsigned *, struct imgerr *);
int	q2_crypt_open(struct qcow2 *, struct opts *, struct imgerr *);
void	q2_crypt_free(struct qcow2 *);
/* Guest data of offset `off`, which is at `host` in its file. */
int	q2_data_read(struct qcow2 *, void *, size_t, uint64_t host,
	    uint64_t off);
int	q2_data_write(struct qcow2 *, const void *, size_t, uint64_t host,
	    uint64_t off);
void	q2_crypt_info(struct qcow2 *, struct js *);
/* Make a new, empty image an encrypted one. */
int	q2_crypt_create(struct qcow2 *, unsigned method, struct opts *,
	    struct imgerr *);
int	q2_crypt_measure(unsigned method, struct opts *, uint64_t *bytes,
	    struct imgerr *);

/* qcow2.c */
int	q2_write_header(struct qcow2 *, struct imgerr *);
int	q2_header_field(struct qcow2 *, unsigned at, const void *, size_t);

/* qcow2-create.c */
extern const struct opt_desc q2_opts[];
int	q2_create(const char *, struct opts *, struct imgerr *);
int	q2_measure(struct opts *, struct img *, struct img_measure *,
	    struct imgerr *);

/* qcow2-change.c */
int	q2_l1_grow(struct qcow2 *, uint64_t entries);
int	q2_truncate(struct img *, uint64_t, enum prealloc, struct imgerr *);
int	q2_set_backing(struct img *, const char *file, const char *fmt);
int	q2_empty(struct img *);
int	q2_amend(struct img *, struct opts *, bool force,
	    void (*progress)(double), struct imgerr *);

/* qcow2-snapshot.c */
int	q2_snap_read(struct qcow2 *, uint64_t off, uint32_t n, struct imgerr *);
void	q2_snap_free(struct qcow2 *);
int	q2_snap_list(struct img *, struct img_snap **, int *);
int	q2_snap_create(struct img *, struct img_snap *, struct imgerr *);
int	q2_snap_apply(struct img *, const char *, struct imgerr *);
int	q2_snap_delete(struct img *, const char *, struct imgerr *);
int	q2_snap_load(struct img *, const char *, const char *,
	    struct imgerr *);

/* qcow2-check.c */
int	q2_check(struct img *, struct img_check *, struct imgerr *);

/* qcow2-bitmap.c */
int	q2_bm_read(struct qcow2 *, struct imgerr *);
int	q2_bm_store(struct qcow2 *);
void	q2_bm_free(struct qcow2 *);
int	q2_bm_mark(struct qcow2 *, uint64_t off, uint64_t len); /* locked */
int	q2_bm_resize(struct qcow2 *, uint64_t size);
int	q2_bm_list(struct img *, struct img_bitmap **, int *);
int	q2_bm_op(struct img *, int, const char *, uint64_t, struct imgerr *);
int	q2_bm_merge(struct img *, const char *, struct img *, const char *,
	    struct imgerr *);
int	q2_bm_status(struct img *, const char *, uint64_t, uint64_t, bool *,
	    uint64_t *);
void	q2_bm_js(struct qcow2 *, struct js *);
/* Call fn(arg, cluster offset, clusters) for every cluster bitmaps use. */
int	q2_bm_walk(struct qcow2 *, int (*fn)(void *, uint64_t, uint64_t),
	    void *);

#endif
