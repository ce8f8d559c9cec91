/*
 * block.h - the translation cache: code memory, translation blocks and the
 * links between them.  Knows no guest instruction set.
 *
 * A block is guest code inside one physical page, valid for one mode word.  Its
 * host code is position-independent as to the guest's linear address: it knows
 * only its offset in the page and finds the page's rip in cpu->ripbase.
 *
 * Exits.  A direct jump that stays in the page is a host `jmp rel32`; until it
 * is linked it goes to a cold stub that loads the number of an exit record and
 * leaves to cpu_run(), which finds or makes the target and patches the jump.
 * All other jumps go through the jump cache (cpu->jc), which is emptied
 * whenever a mapping may have changed.
 *
 * Locking: see smp.c.  What changes blocks needs jit_lock(), what changes the
 * code or the tables of other vcpus jit_exclusive() as well.
 */
#ifndef BLOCK_H
#define BLOCK_H

#include "host/amd64.h"
#include "x86/x86.h"

struct pcmap { uint16_t host, guest; };	/* host offset -> page offset of insn */
#define PC_COLD	0x8000	/* or-ed to host: offset in the cold code */
#define PC_LAZY	0x8000	/* or-ed to guest: its flags are in cpu->lazy */

struct block {
	uint64_t	key;		/* physical address of the first byte */
	uint32_t	mode;
	struct block	*hash;		/* bucket chain */
	uint16_t	lo, hi;		/* page offsets this block depends on */
	uint8_t		*host;		/* writable view */
	uint8_t		*entry;		/* the same for who comes through the
					 * jump cache, */
	uint8_t		*link;		/* and for linked jumps, */
	uint8_t		*lazy;		/* those with the flags put away too */
	uint8_t		*cold;		/* what is seldom run, elsewhere */
	uint32_t	host_len, cold_len;
	uint16_t	ninsn, npc;
	uint16_t	live_out;	/* status flags that matter after it */
	struct pcmap	*pc;
	struct block	*page;		/* other blocks of the page */
	struct exit_rec	*in;		/* links that jump here */
	bool		dead;
	bool		busy;		/* made as one that runs often */
	/*
	 * One instruction on two pages: mode has MODE_CROSS, gpa2 is the second
	 * page, and the next block (of no code) stands for it in that page's
	 * list, with `twin` pointing here.  Nothing says that the pages are
	 * neighbours: linked jumps go to code that asks the jump cache.
	 */
	uint64_t	gpa2;
	struct block	*twin;
};
#define MODE_CROSS	(1u << 31)
#define MODE_SPLIT	(1u << 30)	/* every access is checked by itself */

enum { EXIT_LINK, EXIT_LEAVE, EXIT_DEAD };
struct exit_rec {
	struct block	*from, *to;
	struct exit_rec	*next;		/* in to->in */
	uint8_t		*patch;		/* rel32 in the writable view */
	uint8_t		*cold;		/* where it goes unlinked */
	int32_t		delta;		/* rip - ripbase of the target */
	uint8_t		kind;
	bool		lazy;		/* the flags are put away */
};

#define BLOCK_INSNS	64
#define BLOCK_ROOM	32768		/* host bytes one block may take */
#define BLOCK_MIN	16		/* host bytes it takes at least */

struct jit {
	/* code memory: `rw` is written, rw + rx_off is executed */
	uint8_t		*rw;
	int64_t		rx_off;
	size_t		size;
	/* offsets: stubs to base, blocks to used, their cold code from cold to
	 * cold_used, so that what runs lies close together */
	size_t		base, used, cold, cold_used;
	uint32_t	*at;		/* per GRAIN bytes of code: 1 + the number of
					 * the first block in them, 0: none yet */
	uint8_t		*scratch;	/* for step.c, per vcpu */
	const uint8_t	*stub_exit;	/* leave; r9: exit record number */
	/* blocks and records, thrown away together */
	struct block	*blk;
	uint32_t	nblk, maxblk;
	struct exit_rec	*ex;
	uint32_t	nex, maxex;
	struct pcmap	*pc;
	uint32_t	npc, maxpc;
	struct insn	*ins;		/* decoded, for helpers */
	uint32_t	nins, maxins;
	struct block	**hash;
	uint32_t	nhash;		/* power of two */
	struct block	**page;		/* per RAM page: list of blocks */
	uint64_t	npage;
	uint64_t	*chunks;	/* per RAM page: bit of each 64 bytes that
					 * blocks depend on, or did */
	_Atomic uint8_t	*wpage;		/* per RAM page: vcpus (bit index % 8) that
					 * may write to it by the fast path */
	uint64_t	n_made, n_killed, n_flush, n_link, n_exclusive,
			guest_bytes;
	_Atomic bool	syncing;	/* code_sync_dma() is not done */
};
extern struct jit jit;

/* codemem.c: -1 errno */
int	codemem_init(size_t bytes);
static inline bool
codemem_has(const void *rx)
{
	return (uint64_t)((const uint8_t *)rx - (jit.rw + jit.rx_off)) <
	    jit.size;
}

/* block.c */
int	block_init(size_t tb_size, const struct ram *);
struct block *block_find(uint64_t key, uint32_t mode);
struct block *block_next(const struct block *);	/* of the same key and mode */
/* The rest, but for questions, with jit_lock() held. */
void	block_drop(struct cpu *, const struct block *);	/* to be made again */
struct block *block_new(uint64_t key, uint32_t mode);	/* host = free space */
void	block_commit(struct block *);	/* host_len and cold_len are set */
/* It depends on `n` bytes at the start of page gpa2 as well. */
void	block_twin(struct block *, uint64_t gpa2, unsigned n);
struct exit_rec *exit_new(struct block *, int kind, int32_t delta);
void	block_link(struct exit_rec *, struct block *to);
struct block *block_of(const void *rx);	/* by host pc; NULL: stub */
/* page offset of the guest instruction at host pc `rx`; -1 */
int	block_guest(const struct block *, const void *rx);
bool	block_lazy(const struct block *, const void *rx);	/* PC_LAZY there */
bool	block_room(void);
/* Where n bytes of a page that holds code are in RAM if they are not among the
 * translated ones; NULL.  Good for one store. */
uint8_t	*code_beside(struct cpu *, uint64_t gpa, unsigned n);
/* Stores to this page, which a block is of now, take the slow path from here
 * on.  Those made before can be seen, those made by it drop the block. */
void	block_protect(struct cpu *, uint64_t gpa);
/* May the vcpu store to this RAM page by the fast path, and be known to? */
bool	block_writer(struct cpu *, uint64_t page);
void	block_flush(void);		/* everything; nobody is in it */
void	block_info(FILE *);

/* smp.c */
void	jit_lock(struct cpu *);		/* the same vcpu may do so again */
bool	jit_trylock(struct cpu *);
void	jit_unlock(struct cpu *);
void	jit_unlock_all(struct cpu *);	/* if held: after cpu_exit_loop() */
/* With the lock held: all other vcpus are away until it is released. */
void	jit_exclusive(struct cpu *);

/* check.c */
bool	check_before(struct cpu *, struct block *);
void	check_after(struct cpu *, struct block *, uint16_t flags);
void	check_abort(struct cpu *);

/* perfmap.c: before the sandbox. -1 errno */
int	perfmap_symbols(const char *path);	/* the guest's functions */
int	perfmap_open(void);
void	perfmap_block(const struct block *, uint64_t linear);
void	perfmap_flush(void);

/* x86/calls.c */
int	calls_init(struct cpu *);	/* -1 errno */
void	calls_thread(void);		/* this thread runs a vcpu */
/* Did it fault as there was no more room for calls? What rsp is then. */
bool	calls_full(struct cpu *, const void *address);
int64_t	calls_emptied(struct cpu *, int64_t rsp);
/* Run scratch code, for C that emitted code may have called. */
void	calls_nested(struct cpu *, const uint8_t *host);

/* chain.c */
/* The block at c->rip, made if need be, with ripbase set; raises what fetching
 * raises.  NULL: this instruction is for x86_step(). */
struct block *block_here(struct cpu *);
/* Where to go on at c->rip without coming back to the run loop: host code, or
 * the way back to it when there is something to do between instructions.
 * eflags are true; they and the FPU are made ready. */
const uint8_t *jit_next(struct cpu *);

/* x86/profile.c */
/* The vcpu was seen at host pc, by a signal handler of its own. */
void	profile_look(struct cpu *, const void *pc);
void	profile_looked(struct cpu *);	/* see to what was seen */
int64_t	profile_every(struct cpu *);	/* host ns until the next look, 0: none */
void	profile_forget(void);

/* tlb.c */
static inline void
flush_log(struct flush_log *l, uint16_t i)
{
	if (l->n < FLUSH_LOG)
		l->i[l->n] = i;
	if (l->n <= FLUSH_LOG)
		l->n++;
}
/* Bit of a linear page in jcache.pages: halves of the address space apart. */
static inline unsigned
jc_page_bit(uint64_t page)
{
	return (page & (JC_PAGES / 2 - 1)) | (page >> 51 ? JC_PAGES / 2 : 0);
}
void	tlb_init(struct cpu *);
void	tlb_fill(struct cpu *, uint64_t linear, int access, unsigned mmu,
	    const struct walk *);
void	tlb_drop_write(struct cpu *, uint64_t ram_off);
void	jc_flush(struct cpu *, unsigned set);

#endif
