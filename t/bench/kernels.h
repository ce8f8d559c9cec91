/*
 * kernels.h - what the files of the benchmark program share.
 *
 * A kernel is a function that does a fixed unit of work, a few milliseconds on
 * a present-day CPU, and returns a checksum of its result.  The main program
 * repeats units; that the work is fixed makes the checksum the same on every
 * machine, however slow.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct kernel {
	const char	*name;
	const char	*op;		/* what an operation is */
	uint64_t	(*unit)(void);
	unsigned	ops;		/* operations in a unit */
	uint64_t	sum;		/* what unit returns */
	int		(*setup)(void);	/* or NULL; -1: cannot run here */
	void		(*end)(void);	/* or NULL */
};

/* Tables that end with a NULL name. */
extern const struct kernel int_kernels[], mem_kernels[], code_kernels[],
    fp_kernels[], sys_kernels[];

enum { ARENA = 64 << 20 };
/* Each kernel's to fill; zero and not resident when setup begins. */
extern uint8_t arena[ARENA];

static inline uint64_t
rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static inline uint64_t
mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

#endif
