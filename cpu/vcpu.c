/*
 * vcpu.c - the program vcpu-x86_64: part `cpu` of a machine.
 *
 * The main thread serves the control lines; each vcpu is a thread of its own,
 * because a guest's processors run at the same time.  A thread is in cpu_run()
 * or parked; everything the control thread does to a vcpu's state (boot, reset,
 * save, load) it does while all are parked.
 *
 * #syscalls read write close mmap munmap mprotect futex clock_gettime ppoll poll
 * #syscalls recvmsg sendmsg timer_create timer_settime rt_sigaction rt_sigprocmask
 * #syscalls rt_sigreturn gettid exit exit_group clone3 clone arch_prctl madvise
 * #syscalls set_robust_list rseq prctl brk fstat lseek getrandom sigaltstack
 * #syscalls sched_yield
 */
#include <bsd/stdlib.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vcpu.h"
#include "x86/jit.h"

#define ARCH_SET_GS	0x1001
#define STACK_BYTES	(512 * 1024)

struct machine machine;

static struct options {
	const char	*model;
	uint32_t	smp;
	int		accel;
	uint64_t	tb_size;
	struct switches	on;
	bool		perfmap, count;
	const char	*symbols;
} o;

static const char *const accels[] = { "translate", "tcg", "check", NULL };
static const struct opt opts[] = {
	{ "model", OPT_STR, offsetof(struct options, model), "max",
	    "processor model, with +feature and -feature", NULL },
	{ "smp", OPT_U32, offsetof(struct options, smp), "1",
	    "number of processors", NULL },
	{ "accel", OPT_ENUM, offsetof(struct options, accel), "translate",
	    "translate; check: compare each block with single steps", accels },
	{ "tb-size", OPT_SIZE, offsetof(struct options, tb_size), "256M",
	    "bytes of translated code kept", NULL },
#define SWITCH(field, key, what) \
	JIT_OPT(struct options, on., field, key, what)
	JIT_SWITCHES(SWITCH)
#undef SWITCH
	{ "count", OPT_BOOL, offsetof(struct options, count), "off",
	    "count memory accesses, for the hit rates of info jit", NULL },
	{ "perfmap", OPT_BOOL, offsetof(struct options, perfmap), "off",
	    "name translated code for perf(1)", NULL },
	{ "symbols", OPT_STR, offsetof(struct options, symbols), NULL,
	    "the guest's functions: System.map or /proc/kallsyms", NULL },
	{ NULL }
};

/* ---------------------------------------------------------------- threads */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go = PTHREAD_COND_INITIALIZER;
static pthread_cond_t parked = PTHREAD_COND_INITIALIZER;
static bool running;

static void *
cpu_thread(void *arg)
{
	struct cpu *c = arg;
	struct vcpu *v = vcpu(c);

	if (syscall(SYS_arch_prctl, ARCH_SET_GS, c) < 0) {
		log_line("cpu%u: arch_prctl: %m", c->index);
		_exit(1);
	}
	calls_thread();
	irq_thread(c);
	for (;;) {
		pthread_mutex_lock(&lock);
		while (!running) {
			v->parked = true;
			pthread_cond_broadcast(&parked);
			pthread_cond_wait(&go, &lock);
		}
		v->parked = false;
		pthread_mutex_unlock(&lock);
		irq_resume(c);
		cpu_run(c);
		cpu_fpu_flush(c);
	}
	return NULL;
}

static int
start_threads(void)
{
	sigset_t all, old;
	pthread_attr_t a;
	unsigned i;
	int e = 0;

	/* process signals are the control thread's */
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, STACK_BYTES);
	for (i = 0; i < machine.ncpu && e == 0; i++)
		e = pthread_create(&vcpu(machine.cpu[i])->thread, &a,
		    cpu_thread, machine.cpu[i]);
	pthread_attr_destroy(&a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (e) {
		errno = e;
		return -1;
	}
	vcpu_stop_all();		/* until each has parked itself */
	return 0;
}

void
vcpu_stop_all(void)
{
	unsigned i;

	pthread_mutex_lock(&lock);
	running = false;
	for (i = 0; i < machine.ncpu; i++)
		cpu_request(machine.cpu[i], REQ_STOP);
	for (i = 0; i < machine.ncpu; i++)
		while (!vcpu(machine.cpu[i])->parked)
			pthread_cond_wait(&parked, &lock);
	pthread_mutex_unlock(&lock);
}

void
vcpu_run_all(void)
{
	unsigned i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < machine.ncpu; i++)
		__atomic_fetch_and(&machine.cpu[i]->req, ~(uint32_t)REQ_STOP,
		    __ATOMIC_SEQ_CST);
	running = true;
	pthread_cond_broadcast(&go);
	pthread_mutex_unlock(&lock);
}

bool
vcpu_pause(void)
{
	if (!running)			/* only this thread changes it */
		return false;
	vcpu_stop_all();
	return true;
}

/* ----------------------------------------------------------- save and load
 * A file of sections: "section NAME BYTES\n", then that many bytes made by
 * dev_save().  Every section must be there, in this order.
 */

#define F(m)	FIELD(cpu, m)
#define FN(m)	FIELDS(cpu, m)
#define SUB(m)	{ #m, offsetof(struct cpu, m), sizeof(((struct cpu *)0)->m), \
	1, false }
#define SEGMENT(n, s) { n ".sel", offsetof(struct cpu, seg[s].sel), 2, 1, false }, \
	{ n ".attr", offsetof(struct cpu, seg[s].attr), 4, 1, false }, \
	{ n ".limit", offsetof(struct cpu, seg[s].limit), 4, 1, false }, \
	{ n ".base", offsetof(struct cpu, seg[s].base), 8, 1, false }

static const struct field cpu_fields[] = {
	FN(gpr), F(rip), F(eflags),
	SEGMENT("es", ES), SEGMENT("cs", CS), SEGMENT("ss", SS),
	SEGMENT("ds", DS), SEGMENT("fs", FS), SEGMENT("gs", GS),
	SEGMENT("ldtr", LDTR), SEGMENT("tr", TR),
	SUB(gdt.base), SUB(gdt.limit), SUB(idt.base), SUB(idt.limit),
	F(cr0), F(cr2), F(cr3), F(cr4), FN(dr), F(xcr0), F(efer), F(star),
	F(lstar), F(cstar), F(sfmask), F(kernel_gs_base), F(sysenter_cs),
	F(sysenter_esp), F(sysenter_eip), F(pat), F(tsc_aux), F(tsc_adjust),
	F(misc_enable), F(spec_ctrl), F(xss), F(mtrr_def), FN(mtrr_fix),
	FN(mtrr_var), F(mcg_status), F(tsc_off), F(cpl), F(halted), F(shadow),
	F(nmi_blocked), F(nmi_pending), F(wait_sipi), F(a20), F(sipi_vector),
	{ "xsave", offsetof(struct cpu, xsave), sizeof(struct xsave_area), 1,
	    false },
	FIELD_END
};
static const struct dev cpu_dev = { .name = "cpu",
	.state_size = sizeof(struct cpu), .fields = cpu_fields };

struct globals { uint32_t cf8; uint8_t cf9; };
static const struct field global_fields[] = {
	FIELD(globals, cf8), FIELD(globals, cf9), FIELD_END
};
static const struct dev global_dev = { .name = "machine",
	.state_size = sizeof(struct globals), .fields = global_fields };

struct section {
	char		name[24];
	const struct dev *dev;
	void		*st;
	struct devctx	*d;		/* a chip, or NULL */
	void		*new;		/* while loading */
};

static unsigned
sections(struct section *s, struct globals *g)
{
	struct placed_chip chip[8];
	unsigned i, k, n = 0;

	s[n++] = (struct section){ "machine", &global_dev, g, NULL, NULL };
	k = placed_list(chip, 8);
	for (i = 0; i < k; i++) {
		s[n] = (struct section){ "", chip[i].d->dev, chip[i].d->st,
			chip[i].d, NULL };
		snprintf(s[n++].name, sizeof(s->name), "%s", chip[i].name);
	}
	for (i = 0; i < machine.ncpu; i++) {
		struct devctx *l = irq_lapic(machine.cpu[i]);

		s[n] = (struct section){ "", &cpu_dev, machine.cpu[i], NULL,
			NULL };
		snprintf(s[n++].name, sizeof(s->name), "cpu%u", i);
		s[n] = (struct section){ "", l->dev, l->st, l, NULL };
		snprintf(s[n++].name, sizeof(s->name), "lapic%u", i);
	}
	return n;
}
#define SECTIONS_MAX (16 + 2 * NVCPU_MAX)

int
vcpu_save(void *arg, int fd)
{
	static struct section s[SECTIONS_MAX];
	struct globals g = { machine.cf8, io_cf9 };
	unsigned i, n = sections(s, &g);
	FILE *f, *m;
	size_t len;
	char *buf;
	int ret = -1, d = dup(fd);

	f = d < 0 ? NULL : fdopen(d, "w");
	if (!f) {
		if (d >= 0)
			close(d);
		return -1;
	}
	for (i = 0; i < n; i++) {
		buf = NULL;
		m = open_memstream(&buf, &len);
		if (!m)
			goto out;
		if (dev_save(s[i].dev, s[i].st, m) < 0 || fclose(m) != 0) {
			free(buf);
			goto out;
		}
		fprintf(f, "section %s %zu\n", s[i].name, len);
		fwrite(buf, 1, len, f);
		free(buf);
	}
	ret = ferror(f) ? -1 : 0;
out:
	if (fclose(f) != 0)
		ret = -1;
	return ret;
}

/* Read one section into s->new, a copy of the present state. */
static int
load_section(struct section *s, FILE *f)
{
	char name[24], *buf;
	size_t len;
	FILE *m;
	int ret = -1;

	if (fscanf(f, "section %23s %zu", name, &len) != 2 ||
	    fgetc(f) != '\n' || strcmp(name, s->name) != 0 ||
	    len == 0 || len > 1 << 20) {
		errno = EINVAL;
		return -1;
	}
	buf = malloc(len);
	s->new = malloc(s->dev->state_size);
	if (!buf || !s->new)
		goto out;
	memcpy(s->new, s->st, s->dev->state_size);
	if (fread(buf, 1, len, f) != len) {
		errno = EINVAL;
		goto out;
	}
	m = fmemopen(buf, len, "r");
	if (!m)
		goto out;
	ret = dev_load(s->dev, s->new, m);
	fclose(m);
out:
	free(buf);
	return ret;
}

static void
adopt(struct section *s)
{
	const struct field *fd;

	for (fd = s->dev->fields; fd->name; fd++)
		if (!fd->derived)
			memcpy((char *)s->st + fd->off,
			    (char *)s->new + fd->off,
			    (size_t)fd->size * fd->n);
}

int
vcpu_load(void *arg, int fd)
{
	static struct section s[SECTIONS_MAX];
	struct globals g = { 0 };
	unsigned i, n = sections(s, &g);
	int ret = -1, d = dup(fd);
	FILE *f;

	f = d < 0 ? NULL : fdopen(d, "r");
	if (!f) {
		if (d >= 0)
			close(d);
		return -1;
	}
	for (i = 0; i < n; i++)
		if (load_section(&s[i], f) < 0)
			goto out;
	ret = 0;
	for (i = 0; i < n; i++)
		adopt(&s[i]);
	machine.cf8 = g.cf8;
	io_cf9 = g.cf9;
	irq_lock();
	for (i = 0; i < n; i++)
		if (s[i].d && s[i].dev->loaded)
			s[i].dev->loaded(s[i].d);
	irq_unlock();
	irq_loaded();
	block_flush();
	for (i = 0; i < machine.ncpu; i++) {
		struct cpu *c = machine.cpu[i];

		c->exc_vector = -1;
		x86_mode(c);
		tlb_flush_all(c);
	}
out:
	for (i = 0; i < n; i++) {
		free(s[i].new);
		s[i].new = NULL;
	}
	fclose(f);
	return ret;
}

/* -------------------------------------------------------- the bus's requests */

static void
op_run(void *arg)
{
	vcpu_run_all();
}

static void
op_stop(void *arg)
{
	vcpu_stop_all();
}

static void
op_reset(void *arg)
{
	const struct boot *b = &machine.part.boot;
	unsigned i;

	vcpu_stop_all();
	for (i = 0; i < machine.ncpu; i++) {
		struct cpu *c = machine.cpu[i];

		c->req = 0;
		c->halted = c->shadow = c->nmi_pending = c->nmi_blocked = 0;
		x86_reset(c);
		if (i > 0) {
			x86_init_ap(c);
			c->wait_sipi = 1;
		}
	}
	machine.cf8 = 0;
	io_cf9 = 0;
	placed_reset();
	x86_boot(machine.cpu[0], b);
	if (b->mode != BOOT_RESET)
		irq_virtual_wire();
	block_flush();
	for (i = 0; i < machine.ncpu; i++)
		tlb_flush_all(machine.cpu[i]);
	if (log_on("cpu_reset"))
		log_line("reset: %u processors, boot mode %d, rip 0x%llx",
		    machine.ncpu, b->mode,
		    (unsigned long long)machine.cpu[0]->rip);
}

static void
op_quit(void *arg)
{
	_exit(0);			/* the threads need not be asked */
}

/* "a20 0|1" is the gate's, whoever has it (i8042, port 0x92). */
static void
op_event(void *arg, const char *from, char **argv)
{
	unsigned i;

	if (argv[0] == NULL || strcmp(argv[0], "a20") != 0 || argv[1] == NULL)
		return;
	for (i = 0; i < machine.ncpu; i++) {
		machine.cpu[i]->a20 = strcmp(argv[1], "0") != 0 &&
		    strcmp(argv[1], "off") != 0;
		cpu_request(machine.cpu[i], REQ_FLUSH);
	}
}

static void
op_newpart(void *arg, unsigned num)
{
	unsigned i;

	for (i = 0; i < machine.ncpu; i++)	/* its ROM may have moved */
		cpu_request(machine.cpu[i], REQ_FLUSH);
}

static const struct part_ops ops = {
	.run = op_run,
	.stop = op_stop,
	.reset = op_reset,
	.save = vcpu_save,
	.load = vcpu_load,
	.ask = info_ask,
	.quit = op_quit,
	.event = op_event,
	.newpart = op_newpart,
};

/* ------------------------------------------------------------------- start */

static int
make_cpus(void)
{
	unsigned i;

	for (i = 0; i < machine.ncpu; i++) {
		struct vcpu *v = calloc(1, sizeof(*v));
		struct cpu *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (!v || c == MAP_FAILED)
			return -1;
		madvise(c, sizeof(*c), MADV_HUGEPAGE);	/* the TLB in it */
		c->index = i;
		c->apic_id = topo_apic_id(&machine.map->topo, i);
		c->m = &machine;
		c->irq = v;
		c->a20 = 1;
		c->exc_vector = -1;
		c->poll = &machine.irqs->cpu[i].poll;
		c->kick = i == 0 ? machine.part.irq.kick :
		    eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (c->kick < 0)
			return -1;
		v->c = c;
		v->seq = ~0u;
		machine.cpu[i] = c;
	}
	return 0;
}

static int
fail(const char *what)
{
	log_line("%s: %m", what);
	return 1;
}

static int
serve(void)
{
	struct part *p = &machine.part;
	unsigned i;

	if (part_hello_vcpu(p, getprogname(), machine.ncpu, machine.chan, &ops,
	    NULL) < 0)
		return 1;
	machine.ram = &p->ram;
	machine.map = p->map;
	machine.irqs = p->irq.page;
	machine.dirty = p->dirty;
	machine.pci = p->pci;
	machine.ecam = ECAM_BASE;
	if (make_cpus() < 0)
		return fail("processors");
	jit_count = o.count;
	if (jit_start(machine.tb_size) < 0)
		return fail("code cache");
	if (o.symbols && perfmap_symbols(o.symbols) < 0)
		return fail(o.symbols);
	if (o.perfmap && perfmap_open() < 0)
		return fail("perfmap");
	for (i = 0; i < machine.ncpu; i++)
		if (jit_cpu(machine.cpu[i]) < 0)
			return fail("processors");
	if (placed_init() < 0)
		return fail("interrupt controllers");
	for (i = 0; i < machine.ncpu; i++)
		x86_reset(machine.cpu[i]);
	if (part_subscribe(p) < 0)
		return fail("subscribe");
	if (sandbox("vcpu-x86_64") < 0)
		return fail("sandbox");
	if (start_threads() < 0)
		return fail("threads");
	if (part_ready(p) < 0)
		return fail("ready");
	return part_run(p);
}

static void
usage(FILE *f)
{
	fprintf(f, "usage: vcpu-x86_64 VM/cpu [option=value ...]   "
	    "(started by membus)\n"
	    "       vcpu-x86_64 --cpu help | --help | --version\n"
	    "options:\n");
	opts_help(opts, f);
	fprintf(f, "  --check         same as accel=check\n");
}

int
main(int argc, char **argv)
{
	char *words[64], why[256];
	int i, n = 0;
	bool check = false, named = false;

	setprogname("vcpu-x86_64");
	for (i = 1; i < argc; i++) {
		const char *a = argv[i];

		if (strcmp(a, "--help") == 0) {
			usage(stdout);
			return 0;
		}
		if (strcmp(a, "--version") == 0) {
			printf("vcpu-x86_64 (Sluice) %s\n", VERSION);
			return 0;
		}
		if ((strcmp(a, "--cpu") == 0 && argv[i + 1] &&
		    strcmp(argv[i + 1], "help") == 0) ||
		    strcmp(a, "--cpu=help") == 0) {
			x86_model_help(stdout);
			return 0;
		}
		if (strcmp(a, "--check") == 0)
			check = true;
		else if (a[0] == '-' || n == 63) {
			fprintf(stderr, "vcpu-x86_64: %s: unknown option\n", a);
			return 2;
		} else if (strchr(a, '='))
			words[n++] = argv[i];
		else if (!named)
			named = true;
		else {
			fprintf(stderr, "vcpu-x86_64: %s: option=value "
			    "expected\n", a);
			return 2;
		}
	}
	words[n] = NULL;
	if (!named) {
		usage(stderr);
		return 2;
	}
	if (opts_parse(opts, words, &o, why, sizeof(why)) < 0) {
		fprintf(stderr, "vcpu-x86_64: %s\n", why);
		return 2;
	}
	if (o.smp < 1 || o.smp > NVCPU_MAX) {
		fprintf(stderr, "vcpu-x86_64: smp=%u: 1 to %d\n", o.smp,
		    NVCPU_MAX);
		return 2;
	}
	if (o.symbols && !o.perfmap) {
		fprintf(stderr, "vcpu-x86_64: symbols=%s: only with perfmap=on\n",
		    o.symbols);
		return 2;
	}
	if (o.tb_size < 4 << 20 || o.tb_size > 1ull << 30) {
		fprintf(stderr, "vcpu-x86_64: tb-size=%llu: 4M to 1G\n",
		    (unsigned long long)o.tb_size);
		return 2;
	}
	machine.model = x86_model(o.model, why, sizeof(why));
	if (!machine.model) {
		fprintf(stderr, "vcpu-x86_64: %s\n", why);
		return 2;
	}
	machine.ncpu = o.smp;
	machine.tb_size = o.tb_size;
	machine.check = check || o.accel == 2;
	jit_on = o.on;
	return serve();
}
