/*
 * mmu.c - linear to guest-physical: 32-bit, PAE and 4-level paging (SDM 3A
 * ch. 4), and linear accesses from C.
 */
#include "x86.h"

enum {
	PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40,
	PTE_PS = 0x80, PTE_G = 0x100,
};
#define PTE_NX		(1ull << 63)
#define PHYS_BITS	46
#define ADDR_MASK	(((1ull << PHYS_BITS) - 1) & ~0xfffull)
#define RSVD_MASK	(((1ull << 52) - 1) & ~((1ull << PHYS_BITS) - 1))
enum { ERR_P = 1, ERR_W = 2, ERR_U = 4, ERR_RSVD = 8, ERR_I = 16 };

/* A paging entry in RAM, or NULL: then it goes through io_read. */
static inline void *
entry(struct cpu *c, uint64_t gpa, unsigned size)
{
	return ram_at(machine.ram, gpa, size);
}

static inline uint64_t
get64(struct cpu *c, uint64_t gpa)
{
	uint64_t *p = entry(c, gpa, 8);

	return p ? __atomic_load_n(p, __ATOMIC_RELAXED) : io_read(c, gpa, 8);
}

static inline uint32_t
get32(struct cpu *c, uint64_t gpa)
{
	uint32_t *p = entry(c, gpa, 4);

	return p ? __atomic_load_n(p, __ATOMIC_RELAXED) :
	    (uint32_t)io_read(c, gpa, 4);
}

/* Set bits in an entry that still reads `old`; false: it changed meanwhile. */
static bool
mark64(struct cpu *c, uint64_t gpa, uint64_t old, uint64_t bits)
{
	uint64_t *p = entry(c, gpa, 8);

	if ((old & bits) == bits)
		return true;
	if (!p)
		return true;
	if (!__atomic_compare_exchange_n(p, &old, old | bits, false,
	    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return false;
	if (dirty_code(machine.dirty, (uint64_t)((uint8_t *)p -
	    machine.ram->base) >> 12))
		code_wrote(c, (uint64_t)((uint8_t *)p - machine.ram->base), 8);
	return true;
}

static bool
mark32(struct cpu *c, uint64_t gpa, uint32_t old, uint32_t bits)
{
	uint32_t *p = entry(c, gpa, 4);

	if ((old & bits) == bits || !p)
		return true;
	if (!__atomic_compare_exchange_n(p, &old, old | bits, false,
	    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return false;
	if (dirty_code(machine.dirty, (uint64_t)((uint8_t *)p -
	    machine.ram->base) >> 12))
		code_wrote(c, (uint64_t)((uint8_t *)p - machine.ram->base), 4);
	return true;
}

/* SDM 3A 4.6: the rights of an access, given the and-ed U/S and R/W bits and
 * the or-ed XD.  True: allowed; *write: would a write be. */
static inline bool
rights(struct cpu *c, int access, unsigned mmu, bool user, bool wr, bool nx,
    bool *write)
{
	*write = mmu == 2 ? wr : wr || !(c->cr0 & CR0_WP);
	if (mmu == 2) {
		if (!user)
			return false;
		if (access == ACC_EXEC)
			return !nx;
		return access == ACC_READ || wr;
	}
	if (access == ACC_EXEC)
		return !nx && !(user && c->cr4 & CR4_SMEP);
	if (user && mmu == 1)
		return false;
	return access == ACC_READ || *write;
}

static uint32_t
errcode(struct cpu *c, int access, unsigned mmu, uint32_t err)
{
	if (access == ACC_WRITE)
		err |= ERR_W;
	if (mmu == 2)
		err |= ERR_U;
	if (access == ACC_EXEC && (c->cr4 & CR4_SMEP ||
	    (c->efer & EFER_NXE && c->cr4 & CR4_PAE)))
		err |= ERR_I;
	return err;
}

static int
walk32(struct cpu *c, uint64_t lin, int access, unsigned mmu, struct walk *w)
{
	uint64_t pdea, ptea = 0, gpa;
	uint32_t pde, pte;
	bool user, wr, write, d = access == ACC_WRITE;

again:
	pdea = (c->cr3 & 0xfffff000) | (lin >> 20 & 0xffc);
	pde = get32(c, pdea);
	if (!(pde & PTE_P))
		goto absent;
	user = pde & PTE_U;
	wr = pde & PTE_W;
	if (pde & PTE_PS && c->cr4 & CR4_PSE) {
		if (pde & 1u << 21)
			goto reserved;
		if (!rights(c, access, mmu, user, wr, false, &write))
			goto denied;
		if (!mark32(c, pdea, pde, PTE_A | (d ? PTE_D : 0)))
			goto again;
		gpa = (pde & 0xffc00000ull) |
		    (uint64_t)(pde >> 13 & 0xff) << 32;
		w->page = 4 << 20;
		w->gpa = gpa | (lin & 0x3fffff);
		pte = pde;
	} else {
		ptea = (pde & 0xfffff000ull) | (lin >> 10 & 0xffc);
		pte = get32(c, ptea);
		if (!(pte & PTE_P))
			goto absent;
		user = user && pte & PTE_U;
		wr = wr && pte & PTE_W;
		if (!rights(c, access, mmu, user, wr, false, &write))
			goto denied;
		if (!mark32(c, pdea, pde, PTE_A) ||
		    !mark32(c, ptea, pte, PTE_A | (d ? PTE_D : 0)))
			goto again;
		w->page = 4096;
		w->gpa = (pte & 0xfffff000ull) | (lin & 0xfff);
	}
	w->write = write && (d || pte & PTE_D);
	w->global = pte & PTE_G && c->cr4 & CR4_PGE;
	w->user = user;
	w->nx = false;
	return 0;
absent:
	w->err = errcode(c, access, mmu, 0);
	return -1;
denied:
	w->err = errcode(c, access, mmu, ERR_P);
	return -1;
reserved:
	w->err = errcode(c, access, mmu, ERR_P | ERR_RSVD);
	return -1;
}

static int
walk64(struct cpu *c, uint64_t lin, int access, unsigned mmu, struct walk *w)
{
	uint64_t e, ea[4], ev[4], table, size, bits;
	bool user = true, wr = true, nx = false, write, pae;
	bool d = access == ACC_WRITE;
	int level, n, i, shift;

again:
	pae = !(c->efer & EFER_LMA);
	user = wr = true;
	nx = false;
	n = 0;
	if (pae) {
		/* PDPTEs: loaded with CR3 in hardware; read here */
		e = get64(c, (c->cr3 & 0xffffffe0) | (lin >> 27 & 0x18));
		if (!(e & PTE_P))
			goto absent;
		table = e & ADDR_MASK;
		level = 2;
	} else {
		table = c->cr3 & ADDR_MASK;
		level = 4;
	}
	for (;; level--) {
		shift = 12 + 9 * (level - 1);
		ea[n] = table | (lin >> shift & 511) << 3;
		e = ev[n] = get64(c, ea[n]);
		n++;
		if (!(e & PTE_P))
			goto absent;
		if (e & RSVD_MASK || (e & PTE_NX && !(c->efer & EFER_NXE)) ||
		    (pae && e & 0x7ff0000000000000ull))
			goto reserved;
		user = user && e & PTE_U;
		wr = wr && e & PTE_W;
		nx = nx || e & PTE_NX;
		if (level == 1)
			break;
		if (e & PTE_PS) {
			if (level == 4)
				goto reserved;
			break;
		}
		table = e & ADDR_MASK;
	}
	size = 1ull << shift;
	if (level > 1 && e & ((size - 1) & ~0x1fffull & ADDR_MASK))
		goto reserved;
	if (!rights(c, access, mmu, user, wr, nx, &write))
		goto denied;
	for (i = 0; i < n; i++) {
		bits = PTE_A | (i == n - 1 && d ? PTE_D : 0);
		if (!mark64(c, ea[i], ev[i], bits))
			goto again;
	}
	w->page = size;
	w->gpa = (e & ADDR_MASK & ~(size - 1)) | (lin & (size - 1));
	w->write = write && (d || e & PTE_D);
	w->global = e & PTE_G && c->cr4 & CR4_PGE;
	w->user = user;
	w->nx = nx;
	return 0;
absent:
	w->err = errcode(c, access, mmu, 0);
	return -1;
denied:
	w->err = errcode(c, access, mmu, ERR_P);
	return -1;
reserved:
	w->err = errcode(c, access, mmu, ERR_P | ERR_RSVD);
	return -1;
}

int
x86_walk(struct cpu *c, uint64_t lin, int access, unsigned mmu, struct walk *w)
{
	int r = 0;

	if (!(c->cr0 & CR0_PG)) {
		*w = (struct walk){ .gpa = lin & 0xffffffff, .write = true,
			.user = true, .page = 4096 };
	} else if (c->cr4 & CR4_PAE)
		r = walk64(c, lin, access, mmu, w);
	else
		r = walk32(c, lin, access, mmu, w);
	if (r == 0 && !c->a20)
		w->gpa &= ~(1ull << 20);
	return r;
}
