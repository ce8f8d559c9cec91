/*
 * vcpu.h - private to vcpu.c io.c irq.c timer.c placed.c info.c: what hangs off
 * a struct cpu besides the architecture, the interrupt lock, and system calls
 * that leave the vector registers alone (the guest's may be in them).
 *
 * The interrupt lock guards the placed chips, the timers and the line table.
 * It is a leaf: nothing that waits is called under it.
 */
#ifndef VCPU_H
#define VCPU_H

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "../dev/intc.h"
#include "x86/x86.h"

enum { T_LAPIC, T_DEADLINE, T_CHIP, NTIMER = T_CHIP + 8 };

struct vtimer {
	int64_t		when;		/* guest ns, -1: off */
	void		(*fn)(struct devctx *);
	struct devctx	*d;
};

#define IOC_N	32
struct vcpu {
	struct cpu	*c;
	/* vcpu.c */
	pthread_t	thread;
	unsigned	tid;
	bool		parked;
	/* io.c: ranges seen lately, good for map sequence `seq` */
	uint32_t	seq;
	struct map_ent	io[IOC_N], mem[IOC_N];
	struct map_ent	plain[4];	/* RAM or nothing */
	unsigned	turn;
	/* irq.c */
	struct devctx	lapic;
	uint64_t	lapic_page;	/* ~0: not in memory */
	bool		extint;		/* an ExtINT message came */
	bool		collecting;
	bool		spin;		/* the last halt was short */
	struct vtimer	timer[NTIMER];
	uint64_t	deadline;	/* guest TSC of T_DEADLINE */
	timer_t		ptimer;
	bool		has_ptimer;
	int64_t		armed;		/* host ns it is set for, 0: not */
	timer_t		looker;
	bool		has_looker;
	int64_t		look;		/* host ns of the next look */
};
static inline struct vcpu *
vcpu(struct cpu *c)
{
	return c->irq;
}

/* irq.c */
extern pthread_mutex_t irq_mutex;
void	irq_lock(void);
void	irq_unlock(void);		/* passes on what changed first */
void	irq_reset(void);		/* after placed_reset */
void	irq_loaded(void);		/* after the chips' state was loaded */
void	irq_route(void);		/* the PIIX3's PIRQ registers changed */
void	irq_nmi(void);			/* the monitor's */
void	irq_virtual_wire(void);	/* as firmware leaves the LAPIC */

/* timer.c */
int64_t	guest_clock(void);
int	timer_init(void);
void	irq_thread(struct cpu *);	/* a vcpu thread starts */
void	irq_resume(struct cpu *);	/* it goes on after a stop */
void	irq_timer(struct vcpu *, unsigned slot, int64_t guest_ns,
	    void (*)(struct devctx *), struct devctx *);
void	timer_deadline(struct vcpu *, uint64_t tsc);	/* 0: none */
void	timer_run(struct vcpu *);	/* fire what is due */
int64_t	timer_next(const struct vcpu *);	/* guest ns, -1: none */

/* io.c */
extern uint8_t io_cf9;			/* reset control register */
void	io_map_changed(struct cpu *);	/* look at the map's sequence */
void	io_boundary(struct cpu *);	/* what waits for a boundary */

/* placed.c */
extern struct devctx placed_pic, placed_pit, placed_ioapic;
extern const struct dev_host placed_host;
extern __thread struct cpu *this_cpu;	/* NULL: the control thread */
struct placed_chip { const char *name; struct devctx *d; };
unsigned placed_list(struct placed_chip *, unsigned max);
void	*placed_alloc(struct devctx *, const struct dev *, const char *name);

/* vcpu.c */
void	vcpu_stop_all(void);
void	vcpu_run_all(void);
bool	vcpu_pause(void);		/* true: they ran; then vcpu_run_all */
int	vcpu_save(void *, int fd);
int	vcpu_load(void *, int fd);

static inline long
raw4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b),
	    "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return ret;
}

static inline void
raw_kick(int eventfd)
{
	uint64_t one = 1;

	raw4(SYS_write, eventfd, (long)&one, 8, 0);
}

#endif
