/*
 * reset.c - the states a vcpu starts in: power-on (SDM 3A table 9-1), INIT,
 * SIPI, and what a boot loader leaves behind (mem.h, struct boot).
 */
#include "sys.h"

static void
reset_fpu(struct cpu *c)
{
	unsigned i;

	c->xlive = 0;
	for (i = 0; i < sizeof(c->xsave); i += 8)
		*(volatile uint64_t *)(c->xsave.b + i) = 0;
	c->xsave.b[0] = 0x40;		/* FCW after RESET# */
	*(uint32_t *)(c->xsave.b + 24) = 0x1f80;
	*(uint32_t *)(c->xsave.b + 28) = 0xffff;
	*(uint64_t *)(c->xsave.b + 512) = 3;
}

void
x86_init_ap(struct cpu *c)
{
	int i;

	for (i = 0; i < 16; i++)
		c->gpr[i] = 0;
	c->gpr[RDX] = 0x806f8;
	c->eflags = 2;
	c->rip = 0xfff0;
	for (i = 0; i < NSEG; i++)
		c->seg[i] = (struct seg){ .attr = 0x93, .limit = 0xffff };
	c->seg[CS].sel = 0xf000;
	c->seg[CS].base = 0xffff0000;
	c->seg[CS].attr = 0x9b;
	c->seg[LDTR].attr = 0x82;
	c->seg[TR].attr = 0x8b;
	c->gdt.base = c->idt.base = 0;
	c->gdt.limit = c->idt.limit = 0xffff;
	c->cr0 = (c->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
	c->cr2 = c->cr3 = c->cr4 = 0;
	for (i = 0; i < 4; i++)
		c->dr[i] = 0;
	c->dr[6] = 0xffff0ff0;
	c->dr[7] = 0x400;
	c->efer = 0;
	c->cpl = 0;
	c->halted = c->shadow = c->nmi_blocked = c->nmi_pending = 0;
	c->exc_vector = c->exc_pending = -1;
	c->int_rip = ~0ull;
	c->wait_sipi = c->index != 0;
	tlb_flush_all(c);
	x86_mode(c);
}

void
x86_reset(struct cpu *c)
{
	int i;

	c->cr0 = CR0_CD | CR0_NW | CR0_ET;
	c->xcr0 = 1;
	c->star = c->lstar = c->cstar = c->sfmask = c->kernel_gs_base = 0;
	c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
	c->pat = 0x0007040600070406ull;
	c->tsc_aux = c->tsc_adjust = c->spec_ctrl = c->xss = 0;
	c->tsc_off = 0;
	c->misc_enable = 1;		/* fast strings */
	c->mtrr_def = 0xc06;		/* firmware's usual: enabled, WB */
	for (i = 0; i < 11; i++)
		c->mtrr_fix[i] = 0x0606060606060606ull;
	for (i = 0; i < 16; i++)
		c->mtrr_var[i] = 0;
	c->mcg_status = 0;
	c->a20 = 1;
	reset_fpu(c);
	x86_init_ap(c);
}

void
x86_sipi(struct cpu *c, unsigned vector)
{
	c->wait_sipi = 0;
	seg_real(c, CS, (uint16_t)(vector << 8));
	c->seg[CS].attr = 0x9b;
	c->rip = 0;
	x86_mode(c);
}

void
x86_boot(struct cpu *c, const struct boot *b)
{
	int i;

	if (b->mode == BOOT_RESET)
		return;
	c->gpr[RSI] = b->rsi;
	c->gpr[RBX] = b->rbx;
	c->gpr[RAX] = b->rax;
	c->gpr[RSP] = b->rsp;
	c->gpr[RDX] = 0;
	c->rip = b->rip;
	c->cr0 = CR0_ET | CR0_NE;
	if (b->mode == BOOT_REAL16) {
		seg_real(c, CS, b->cs);
		for (i = 0; i <= GS; i++)
			if (i != CS)
				seg_real(c, (unsigned)i, b->ds);
		x86_mode(c);
		return;
	}
	c->cr0 |= CR0_PE;
	c->gdt.base = b->gdt;
	c->gdt.limit = 8 * 8 - 1;
	for (i = 0; i <= GS; i++)
		c->seg[i] = (struct seg){ .sel = 0x18, .attr = 0xc093,
			.limit = 0xffffffff };
	c->seg[CS] = (struct seg){ .sel = 0x10, .attr = 0xc09b,
		.limit = 0xffffffff };
	if (b->mode == BOOT_LONG64) {
		c->cr4 = CR4_PAE;
		c->cr3 = b->cr3;
		c->efer = EFER_LME | EFER_LMA;
		c->cr0 |= CR0_PG;
		c->seg[CS].attr = 0xa09b;
	}
	tlb_flush_all(c);
	x86_mode(c);
}
