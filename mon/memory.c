/*
 * Looking at guest memory: x and xp dump it in gdb's formats, print evaluates,
 * memsave and pmemsave copy it to a file.  Physical memory is read from the
 * shared RAM; virtual memory through the vcpu, which knows the page tables.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <Zydis/Zydis.h>
#include "mon.h"

#define CHUNK 8192

struct fmt {
	unsigned	count;
	char		kind;		/* x d u o c i */
	unsigned	size;		/* bytes */
};

static int
fmt_parse(struct mon *m, const char *s, struct fmt *f)
{
	const char *at = s;

	f->count = 1;
	f->kind = 'x';
	f->size = 0;
	if (*s++ != '/')
		return mon_fail(m, "bad format: '%s'", at);
	if (isdigit((unsigned char)*s)) {
		unsigned long n = strtoul(s, (char **)&s, 10);

		if (n > 65536)
			return mon_fail(m, "format: count over 65536: %lu", n);
		f->count = n;
	}
	for (; *s; s++) {
		switch (*s) {
		case 'x': case 'd': case 'u': case 'o': case 'c': case 'i':
			f->kind = *s;
			break;
		case 'b': f->size = 1; break;
		case 'h': f->size = 2; break;
		case 'w': f->size = 4; break;
		case 'g': f->size = 8; break;
		default:
			return mon_fail(m, "bad format: '%s'", at);
		}
	}
	return 0;
}

/* Copy guest memory out; -1: said why. */
static int
peek(struct mon *m, bool phys, uint64_t addr, void *buf, size_t len)
{
	struct pci_space *pci;
	struct ram *ram;
	uint8_t *p = buf, *at;
	char *reply;
	size_t n, i;

	if (phys) {
		if (m->pages(m, &ram, &pci) == -1)
			return mon_fail(m, "guest memory: %s", strerror(errno));
		for (; len > 0; len -= n, addr += n, p += n) {
			n = 4096 - addr % 4096;
			if (n > len)
				n = len;
			if ((at = ram_at(ram, addr, n)) == NULL)
				return mon_fail(m, "cannot access memory at "
				    "0x%" PRIx64, addr);
			memcpy(p, at, n);
		}
		return 0;
	}
	for (; len > 0; len -= n, addr += n, p += n) {
		n = len < CHUNK ? len : CHUNK;
		if (mon_ask(m, &reply, "cpu", "vmem %u 0x%" PRIx64 " %zu",
		    m->cpu, addr, n) == -1)
			return -1;
		if (strspn(reply, "0123456789abcdef") < 2 * n) {
			free(reply);
			return mon_fail(m, "cannot access memory at 0x%" PRIx64,
			    addr);
		}
		for (i = 0; i < n; i++) {
			char hex[3] = { reply[2 * i], reply[2 * i + 1], 0 };

			p[i] = strtoul(hex, NULL, 16);
		}
		free(reply);
	}
	return 0;
}

static void
put_char(struct mon *m, unsigned char c)
{
	static const char from[] = "\n\r\t\\'", to[] = "nrt\\'";
	const char *p = c ? strchr(from, c) : NULL;

	if (p)
		fprintf(m->out, "'\\%c'", to[p - from]);
	else if (c >= 32 && c < 127)
		fprintf(m->out, "'%c'", c);
	else
		fprintf(m->out, "'\\x%02x'", c);
}

static void
put_value(struct mon *m, const struct fmt *f, uint64_t v)
{
	unsigned bits = 8 * f->size;
	int64_t s = bits < 64 ? (int64_t)(v << (64 - bits)) >> (64 - bits) :
	    (int64_t)v;

	switch (f->kind) {
	case 'x':
		fprintf(m->out, "0x%0*" PRIx64, 2 * f->size, v);
		break;
	case 'o':
		fprintf(m->out, "0%0*" PRIo64, (bits + 2) / 3, v);
		break;
	case 'd':
		fprintf(m->out, "%*" PRId64, bits / 4 + (bits > 8), s);
		break;
	case 'u':
		fprintf(m->out, "%*" PRIu64, bits / 4 + (bits > 8), v);
		break;
	default:
		put_char(m, v);
	}
}

static bool
decode(int bits, uint64_t addr, const uint8_t *buf, size_t n,
    ZydisDisassembledInstruction *insn)
{
	return ZYAN_SUCCESS(ZydisDisassembleIntel(bits == 64 ?
	    ZYDIS_MACHINE_MODE_LONG_64 : bits == 32 ?
	    ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_REAL_16, addr,
	    buf, n, insn));
}

static int
dump_insns(struct mon *m, bool phys, uint64_t addr, unsigned count)
{
	ZydisDisassembledInstruction insn;
	uint8_t buf[15];
	char *reply;
	int bits;
	size_t n;

	if (mon_ask(m, &reply, "cpu", "reg %u bits", m->cpu) == -1)
		return -1;
	bits = atoi(reply);
	free(reply);
	for (; count-- > 0; addr += insn.info.length) {
		/* the next page is looked at only if the instruction is in it */
		n = 4096 - addr % 4096;
		if (n > sizeof(buf))
			n = sizeof(buf);
		if (peek(m, phys, addr, buf, n) == -1)
			return -1;
		if (!decode(bits, addr, buf, n, &insn)) {
			if (n < sizeof(buf) && peek(m, phys, addr, buf,
			    sizeof(buf)) == -1)
				return -1;
			if (n == sizeof(buf) || !decode(bits, addr, buf,
			    sizeof(buf), &insn)) {
				fprintf(m->out, "0x%08" PRIx64 ":  (bad)\n",
				    addr);
				insn.info.length = 1;
				continue;
			}
		}
		fprintf(m->out, "0x%08" PRIx64 ":  ", addr);
		for (unsigned i = 0; i < insn.info.length; i++)
			fprintf(m->out, "%02x ", buf[i]);
		fprintf(m->out, "%*s%s\n", insn.info.length < 8 ?
		    3 * (8 - insn.info.length) + 1 : 1, "", insn.text);
	}
	return 0;
}

static int
dump(struct mon *m, bool phys, int argc, char **argv)
{
	struct fmt f = { 1, 'x', 0 };
	uint64_t addr;
	uint8_t buf[16];
	unsigned per, n;

	if (argc > 1 && *argv[1] == '/') {
		if (fmt_parse(m, argv[1], &f) == -1)
			return -1;
		argc--;
		argv++;
	}
	if (expr_eval(m, argc - 1, argv + 1, &addr) == -1)
		return -1;
	if (f.kind == 'i')
		return dump_insns(m, phys, addr, f.count);
	if (f.size == 0)
		f.size = f.kind == 'c' ? 1 : 4;
	if (f.kind == 'c')
		f.size = 1;
	per = f.kind == 'c' ? 8 : 16 / f.size;
	for (; f.count > 0; f.count -= n, addr += n * f.size) {
		n = f.count < per ? f.count : per;
		if (peek(m, phys, addr, buf, n * f.size) == -1)
			return -1;
		fprintf(m->out, "%016" PRIx64 ":", addr);
		for (unsigned i = 0; i < n; i++) {
			uint64_t v = 0;

			for (unsigned b = 0; b < f.size; b++)
				v |= (uint64_t)buf[i * f.size + b] << 8 * b;
			fputc(' ', m->out);
			put_value(m, &f, v);
		}
		fputc('\n', m->out);
	}
	return 0;
}

int
cmd_x(struct mon *m, int argc, char **argv)
{
	return dump(m, false, argc, argv);
}

int
cmd_xp(struct mon *m, int argc, char **argv)
{
	return dump(m, true, argc, argv);
}

int
cmd_print(struct mon *m, int argc, char **argv)
{
	struct fmt f = { 1, 'x', 8 };
	uint64_t v;

	if (argc > 1 && *argv[1] == '/') {
		if (fmt_parse(m, argv[1], &f) == -1)
			return -1;
		argc--;
		argv++;
	}
	if (expr_eval(m, argc - 1, argv + 1, &v) == -1)
		return -1;
	switch (f.kind) {
	case 'x': fprintf(m->out, "0x%" PRIx64 "\n", v); break;
	case 'o': fprintf(m->out, "0%" PRIo64 "\n", v); break;
	case 'd': fprintf(m->out, "%" PRId64 "\n", (int64_t)v); break;
	case 'u': fprintf(m->out, "%" PRIu64 "\n", v); break;
	case 'c':
		put_char(m, v);
		fputc('\n', m->out);
		break;
	default:
		return mon_fail(m, "print: format /i is for x and xp");
	}
	return 0;
}

static int
save(struct mon *m, bool phys, char **argv)
{
	uint64_t addr, size, done;
	static uint8_t buf[CHUNK];
	FILE *f;
	int r = -1;

	if (expr_eval(m, 1, argv + 1, &addr) == -1 ||
	    expr_eval(m, 1, argv + 2, &size) == -1)
		return -1;
	if ((f = fopen(argv[3], "we")) == NULL)
		return mon_fail(m, "%s: %s", argv[3], strerror(errno));
	for (done = 0; done < size; done += sizeof(buf)) {
		size_t n = size - done < sizeof(buf) ? size - done :
		    sizeof(buf);

		if (peek(m, phys, addr + done, buf, n) == -1)
			goto out;
		if (fwrite(buf, 1, n, f) != n) {
			mon_fail(m, "%s: %s", argv[3], strerror(errno));
			goto out;
		}
	}
	r = 0;
out:
	if (fclose(f) != 0 && r == 0)
		r = mon_fail(m, "%s: %s", argv[3], strerror(errno));
	return r;
}

int
cmd_memsave(struct mon *m, int argc, char **argv)
{
	return save(m, false, argv);
}

int
cmd_pmemsave(struct mon *m, int argc, char **argv)
{
	return save(m, true, argv);
}
