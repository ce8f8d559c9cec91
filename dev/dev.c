/*
 * dev.c - main() of every chip that is a process of its own: options, the
 * chip's side of the bus, save and load (bus/PROTOCOL.md "Life cycle").
 *
 *	dev-CHIP VM/NAME [key=value...]	started by membus, descriptor 3: bus
 *	dev-CHIP --help			what it is and its options
 *	dev-CHIP --selftest [N[:SEED]] [key=value...]	see selftest.c
 *
 * The chip's state lives in the state memfd the broker keeps.  Behind it is a
 * mark, set after the first reset: who finds it set was started in place of a
 * dead process and carries on with what the memfd holds.
 *
 * #syscalls dup fcntl fstat newfstatat lseek read write close
 */
#include <bsd/stdlib.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev.h"
#include "selftest.h"

#define MARK		0x65636976656421ull
#define NTIMER		8

static const struct opt no_opts[] = { { 0 } };

struct timer {
	struct devctx	*d;
	void		(*fn)(struct devctx *);
};

static struct part part;
static struct devctx ctx;
static struct timer timers[NTIMER];
static uint64_t guest_errors;

static size_t
state_bytes(const struct dev *dev)
{
	return (dev->state_size + 7) & ~(size_t)7;
}

static uint64_t *
mark(void)
{
	return (uint64_t *)((uint8_t *)ctx.st + state_bytes(the_dev));
}

void
dev_guest_error(struct devctx *d, const char *what, uint64_t n)
{
	guest_errors++;
	if (log_on("guest_errors"))
		log_once(what, n, "guest error: %s 0x%" PRIx64, what, n);
}

/* -------------------------------------------------------- struct dev_host */

static int
host_range(struct devctx *d, unsigned range, enum space space, uint64_t start,
    uint64_t len, enum range_kind kind, uint64_t off, unsigned bits,
    unsigned prio)
{
	return part_range(&part, range, space, start, len, kind, off, bits,
	    prio);
}

static int
host_line(struct devctx *d, unsigned line)
{
	return part_line(&part, line);
}

static void
host_irq(struct devctx *d, unsigned line, int source, int level)
{
	if (line < IRQ_LINES && source >= 0)
		irq_set(&part.irq, line, (unsigned)source, level);
}

static void
host_msi(struct devctx *d, unsigned n, uint64_t addr, uint32_t data)
{
	if (n >= MSI_MAX)
		return;
	part.irq.page->msi[part.num].vec[n].addr = addr;
	part.irq.page->msi[part.num].vec[n].data = data;
	irq_msi(&part.irq, n);
}

static int
host_pci(struct devctx *d, int devfn)
{
	devfn = part_pci(&part, devfn);
	if (devfn >= 0 && devfn < 256) {
		d->devfn = devfn;
		d->cfg = part.pci->fn[devfn];
	}
	return devfn;
}

static int64_t
host_clock(struct devctx *d)
{
	return part_clock(&part);
}

static void
fire(void *arg)
{
	struct timer *t = arg;

	t->fn(t->d);
}

static void
host_timer(struct devctx *d, unsigned n, int64_t ns,
    void (*fn)(struct devctx *))
{
	if (n >= NTIMER)
		return;
	timers[n].d = d;
	timers[n].fn = fn;
	part_timer(&part, ns, fire, &timers[n]);
}

static int
host_event(struct devctx *d, const char *text)
{
	return part_event(&part, "%s", text);
}

static int
host_ask(struct devctx *d, const char *whom, const char *question, char **reply)
{
	return part_ask(&part, whom, question, -1, reply);
}

static const struct dev_host host = {
	.range = host_range,
	.line = host_line,
	.irq = host_irq,
	.msi = host_msi,
	.pci = host_pci,
	.clock = host_clock,
	.timer = host_timer,
	.event = host_event,
	.ask = host_ask,
};

/* -------------------------------------------------------- struct part_ops */

static uint64_t
op_read(void *arg, unsigned range, uint64_t off, unsigned size)
{
	return the_dev->read ? the_dev->read(&ctx, range, off, size) : ~0ull;
}

static void
op_write(void *arg, unsigned range, uint64_t off, unsigned size, uint64_t val)
{
	if (the_dev->write)
		the_dev->write(&ctx, range, off, size, val);
}

static void
op_bell(void *arg, uint64_t queues)
{
	if (the_dev->bell)
		the_dev->bell(&ctx, queues);
}

static void
op_config(void *arg, unsigned fn, unsigned off, unsigned size, uint32_t val)
{
	if (the_dev->config)
		the_dev->config(&ctx, fn, off, size, val);
}

static void
op_stop(void *arg)
{
	ctx.running = false;
	if (the_dev->stop)
		the_dev->stop(&ctx);
}

static void
op_run(void *arg)
{
	ctx.running = true;
	if (the_dev->run)
		the_dev->run(&ctx);
}

static void
op_reset(void *arg)
{
	if (the_dev->reset)
		the_dev->reset(&ctx);
}

static FILE *
stream(int fd, const char *mode)
{
	FILE *f;
	int copy = dup(fd);

	if (copy < 0)
		return NULL;
	f = fdopen(copy, mode);
	if (f == NULL)
		close(copy);
	return f;
}

static int
op_save(void *arg, int fd)
{
	FILE *f = stream(fd, "w");
	int ret;

	if (f == NULL)
		return -1;
	ret = dev_save(the_dev, ctx.st, f);
	return fclose(f) ? -1 : ret;
}

static int
op_load(void *arg, int fd)
{
	FILE *f = stream(fd, "r");
	int ret;

	if (f == NULL)
		return -1;
	ret = dev_load(the_dev, ctx.st, f);
	/* leave the shared offset behind what was used, not read ahead */
	if (ret == 0 && ftell(f) >= 0)
		lseek(fd, ftell(f), SEEK_SET);
	fclose(f);
	if (ret == 0 && the_dev->loaded)
		the_dev->loaded(&ctx);
	return ret;
}

static int
op_ask(void *arg, char **argv, FILE *out)
{
	int e = ENOTSUP;

	if (argv[0] == NULL)
		return EINVAL;
	if (the_dev->ask) {
		e = the_dev->ask(&ctx, argv, out);
		if (e != ENOTSUP && e != EINVAL)
			return e;
	}
	if (strcmp(argv[0], "info") == 0) {
		dev_info(the_dev, ctx.st, out);
		fprintf(out, "guest_errors = %" PRIu64 "\n", guest_errors);
		return 0;
	}
	if (strcmp(argv[0], "chardev") == 0 || strcmp(argv[0], "block") == 0 ||
	    strcmp(argv[0], "network") == 0)
		return EINVAL;
	return e;
}

static void
op_event(void *arg, const char *from, char **argv)
{
	if (the_dev->event && argv[0] != NULL)
		the_dev->event(&ctx, from, argv);
}

static void
op_quit(void *arg)
{
	if (the_dev->quit)
		the_dev->quit(&ctx);
}

static const struct part_ops ops = {
	.read = op_read,
	.write = op_write,
	.bell = op_bell,
	.config = op_config,
	.stop = op_stop,
	.run = op_run,
	.reset = op_reset,
	.save = op_save,
	.load = op_load,
	.ask = op_ask,
	.quit = op_quit,
	.event = op_event,
};

/* -------------------------------------------------------------------- main */

int
dev_claim(struct devctx *d)
{
	const struct dev_range *r = d->dev->ranges;
	unsigned i;

	for (i = 0; r != NULL && r[i].len != 0; i++)
		if (dev_range_set(d, i, r[i].space, r[i].start, r[i].len,
		    r[i].kind, r[i].shadow, r[i].bits, 0) < 0)
			return (int)i + 1;
	return 0;
}

static bool
prefixed(const struct opt *o, const char *word)
{
	size_t n;

	for (; o->name != NULL; o++) {
		n = strlen(o->name);
		if (o->name[n - 1] == '.' && strncmp(o->name, word, n) == 0)
			return true;
	}
	return false;
}

/* An option whose name ends with a dot stands for any that begins so; the chip
 * finds those words in d->argv. */
int
dev_opts(const struct dev *dev, char *const *argv, void *dst, char *why,
    size_t whylen)
{
	const struct opt *table = dev->opts ? dev->opts : no_opts;
	char **plain;
	size_t n = 0, i = 0;
	int ret;

	while (argv[n] != NULL)
		n++;
	plain = calloc(n + 1, sizeof *plain);
	if (plain == NULL) {
		snprintf(why, whylen, "%s", strerror(errno));
		return -1;
	}
	for (; *argv != NULL; argv++)
		if (!prefixed(table, *argv))
			plain[i++] = *argv;
	ret = opts_parse(table, plain, dst, why, whylen);
	free(plain);
	return ret;
}

static int
help(const struct dev *dev)
{
	printf("usage: dev-%s VM/NAME [key=value...]\n%s\n", dev->name,
	    dev->desc ? dev->desc : dev->name);
	if (dev->spec)
		printf("after: %s\n", dev->spec);
	if (dev->opts)
		opts_help(dev->opts, stdout);
	return ferror(stdout) || fflush(stdout) ? 1 : 0;
}

static int
setup(const struct dev *dev)
{
	const struct dev_range *r;
	char why[256] = "";
	int bad;

	ctx.name = part.name;
	ctx.ram = &part.ram;
	ctx.st = part.state;
	ctx.loop = part.loop;
	ctx.part = &part;
	bad = dev_claim(&ctx);
	if (bad) {
		r = &dev->ranges[bad - 1];
		log_line("%s 0x%" PRIx64 ": %s", r->space == SPACE_IO ? "port" :
		    "memory", r->start, strerror(errno));
		return -1;
	}
	if (dev->init && dev->init(&ctx, why, sizeof why)) {
		log_line("%s", *why ? why : "cannot start");
		return -1;
	}
	if (dev->event && part_subscribe(&part)) {
		log_line("subscribe: %s", strerror(errno));
		return -1;
	}
	if (*mark() == MARK) {
		if (dev->loaded)
			dev->loaded(&ctx);
	} else if (dev->reset) {
		dev->reset(&ctx);
	}
	*mark() = MARK;
	return 0;
}

int
main(int argc, char **argv)
{
	const struct dev *dev = the_dev;
	char prog[64], why[256];

	snprintf(prog, sizeof prog, "dev-%s", dev->name);
	setprogname(prog);
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return help(dev);
	if (argc >= 2 && strcmp(argv[1], "--selftest") == 0)
		return selftest(dev, argv + 2);
	if (argc < 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: %s VM/NAME [key=value...]\n", prog);
		return 2;
	}
	ctx.dev = dev;
	ctx.host = &host;
	ctx.devfn = -1;
	ctx.argv = argv + 2;
	ctx.opts = calloc(1, dev->opts_size + 1);
	ctx.priv = calloc(1, dev->priv_size + 1);
	if (ctx.opts == NULL || ctx.priv == NULL) {
		fprintf(stderr, "%s: %s: %s\n", prog, argv[1], strerror(errno));
		return 1;
	}
	if (dev_opts(dev, argv + 2, ctx.opts, why, sizeof why) < 0) {
		fprintf(stderr, "%s: %s: %s\n", prog, argv[1], why);
		return 2;
	}
	if (part_hello(&part, dev->name, state_bytes(dev) + sizeof(uint64_t),
	    &ops, NULL) < 0)
		return 1;
	if (setup(dev) < 0)
		return 1;
	if (sandbox(prog) < 0) {
		log_line("sandbox: %s", strerror(errno));
		return 1;
	}
	if (part_ready(&part) < 0) {
		log_line("ready: %s", strerror(errno));
		return 1;
	}
	return part_run(&part);
}
