/*
 * cpuid.c - processor models and CPUID (SDM 2, CPUID).
 *
 * A model is a set of features; what is offered is the model's, masked by what
 * the translator can do and the host has.  One table lists every feature.
 */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <Zydis/Zydis.h>

#include "sys.h"

enum { W_1D, W_1C, W_7B, W_7C, W_7D, W_D1A, W_80D, W_80C, W_87D, NWORD };

/* need: 1 the host must have it (the instruction runs natively).  level: least
 * level of the x86-64 ABI that has it; 0: only model "max", 9: only on demand
 * (fsrm: short `rep movs` go through C, so a guest should not prefer them). */
static const struct feature {
	const char	*name;
	uint8_t		word, bit, need, level;
} features[] = {
	{ "fpu", W_1D, 0, 1, 1 }, { "vme", W_1D, 1, 0, 1 },
	{ "de", W_1D, 2, 0, 1 }, { "pse", W_1D, 3, 0, 1 },
	{ "tsc", W_1D, 4, 0, 1 }, { "msr", W_1D, 5, 0, 1 },
	{ "pae", W_1D, 6, 0, 1 }, { "mce", W_1D, 7, 0, 1 },
	{ "cx8", W_1D, 8, 1, 1 }, { "apic", W_1D, 9, 0, 1 },
	{ "sep", W_1D, 11, 0, 1 }, { "mtrr", W_1D, 12, 0, 1 },
	{ "pge", W_1D, 13, 0, 1 }, { "mca", W_1D, 14, 0, 1 },
	{ "cmov", W_1D, 15, 1, 1 }, { "pat", W_1D, 16, 0, 1 },
	{ "pse36", W_1D, 17, 0, 1 }, { "clflush", W_1D, 19, 0, 1 },
	{ "mmx", W_1D, 23, 1, 1 }, { "fxsr", W_1D, 24, 1, 1 },
	{ "sse", W_1D, 25, 1, 1 }, { "sse2", W_1D, 26, 1, 1 },
	{ "ss", W_1D, 27, 0, 0 },
	{ "pni", W_1C, 0, 1, 1 }, { "pclmulqdq", W_1C, 1, 1, 0 },
	{ "ssse3", W_1C, 9, 1, 2 }, { "fma", W_1C, 12, 1, 3 },
	{ "cx16", W_1C, 13, 1, 1 }, { "pcid", W_1C, 17, 0, 0 },
	{ "sse4.1", W_1C, 19, 1, 2 }, { "sse4.2", W_1C, 20, 1, 2 },
	{ "x2apic", W_1C, 21, 0, 1 }, { "movbe", W_1C, 22, 1, 3 },
	{ "popcnt", W_1C, 23, 1, 2 }, { "tsc-deadline", W_1C, 24, 0, 1 },
	{ "aes", W_1C, 25, 1, 0 }, { "xsave", W_1C, 26, 1, 3 },
	{ "avx", W_1C, 28, 1, 3 }, { "f16c", W_1C, 29, 1, 3 },
	{ "rdrand", W_1C, 30, 1, 0 }, { "hypervisor", W_1C, 31, 0, 1 },
	{ "fsgsbase", W_7B, 0, 0, 0 }, { "tsc_adjust", W_7B, 1, 0, 0 },
	{ "bmi1", W_7B, 3, 1, 3 }, { "avx2", W_7B, 5, 1, 3 },
	{ "smep", W_7B, 7, 0, 0 }, { "bmi2", W_7B, 8, 1, 3 },
	{ "erms", W_7B, 9, 0, 0 }, { "invpcid", W_7B, 10, 0, 0 },
	{ "rdseed", W_7B, 18, 1, 0 }, { "adx", W_7B, 19, 1, 0 },
	{ "smap", W_7B, 20, 0, 0 }, { "clflushopt", W_7B, 23, 0, 0 },
	{ "clwb", W_7B, 24, 0, 0 }, { "sha-ni", W_7B, 29, 1, 0 },
	{ "umip", W_7C, 2, 0, 0 }, { "gfni", W_7C, 8, 1, 0 },
	{ "vaes", W_7C, 9, 1, 0 }, { "vpclmulqdq", W_7C, 10, 1, 0 },
	{ "rdpid", W_7C, 22, 0, 0 }, { "fsrm", W_7D, 4, 0, 9 },
	{ "arch-capabilities", W_7D, 29, 0, 1 },
	{ "xsaveopt", W_D1A, 0, 0, 0 },
	{ "syscall", W_80D, 11, 0, 1 }, { "nx", W_80D, 20, 0, 1 },
	{ "pdpe1gb", W_80D, 26, 0, 0 }, { "rdtscp", W_80D, 27, 0, 0 },
	{ "lm", W_80D, 29, 0, 1 }, { "lahf-lm", W_80C, 0, 1, 1 },
	{ "abm", W_80C, 5, 1, 3 }, { "3dnowprefetch", W_80C, 8, 0, 0 },
	{ "invtsc", W_87D, 8, 0, 1 },
};
#define NFEAT (sizeof(features) / sizeof(features[0]))

static uint32_t word[NWORD];
static struct cpu_model model;
static char model_name[48];

static void
host_words(uint32_t *h)
{
	uint32_t a, b, c, d;

	memset(h, 0, NWORD * sizeof(*h));
	__cpuid(1, a, b, c, d);
	h[W_1D] = d;
	h[W_1C] = c;
	__cpuid(0, a, b, c, d);
	if (a >= 7) {
		__cpuid_count(7, 0, a, b, c, d);
		h[W_7B] = b;
		h[W_7C] = c;
		h[W_7D] = d;
	}
	__cpuid(0x80000001, a, b, c, d);
	h[W_80C] = c;
	h[W_80D] = d;
}

/* other usual names */
static const struct { const char *alias, *name; } aliases[] = {
	{ "sse3", "pni" }, { "lzcnt", "abm" }, { "sha", "sha-ni" },
	{ "clfsh", "clflush" }, { "tsc-deadline-timer", "tsc-deadline" },
	{ "i64", "lm" }, { "xd", "nx" },
};

static int
feature(const char *name, size_t n)
{
	size_t i, j;

	for (i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strlen(aliases[i].alias) == n &&
		    !memcmp(aliases[i].alias, name, n))
			return feature(aliases[i].name,
			    strlen(aliases[i].name));

	for (i = 0; i < NFEAT; i++) {
		const char *f = features[i].name;

		for (j = 0; j < n && f[j]; j++)
			if (f[j] != name[j] && !((f[j] == '-' || f[j] == '_' ||
			    f[j] == '.') && (name[j] == '-' || name[j] == '_' ||
			    name[j] == '.')))
				break;
		if (j == n && !f[j])
			return (int)i;
	}
	return -1;
}

static const struct { const char *name, *desc; unsigned level; } names[] = {
	{ "max", "everything the translator and this host offer", 0 },
	{ "host", "the same", 0 },
	{ "base", "what every x86-64 has", 1 },
	{ "qemu64", "the same", 1 },
	{ "kvm64", "the same", 1 },
	{ "x86-64-v1", "the same", 1 },
	{ "x86-64-v2", "with SSE4.2 and POPCNT, as its ABI level says", 2 },
	{ "x86-64-v3", "with AVX2, BMI2 and FMA, as its ABI level says", 3 },
};
#define NNAME (sizeof(names) / sizeof(names[0]))

/* NAME[,+FEATURE][,-FEATURE][,FEATURE=on|off] */
const struct cpu_model *
x86_model(const char *spec, char *why, size_t n)
{
	uint32_t host[NWORD];
	const char *p = spec, *e, *f, *v;
	unsigned level;
	size_t len, i;
	bool on;
	int k;

	host_words(host);
	e = strchrnul(p, ',');
	len = (size_t)(e - p);
	for (i = 0; i < NNAME; i++)
		if (len == strlen(names[i].name) &&
		    !memcmp(p, names[i].name, len))
			break;
	if (i == NNAME) {
		snprintf(why, n, "cpu model '%.*s': unknown; --cpu help lists "
		    "them", (int)len, p);
		return NULL;
	}
	level = names[i].level;
	snprintf(model_name, sizeof(model_name), "%.*s", (int)len, p);
	memset(word, 0, sizeof(word));
	for (i = 0; i < NFEAT; i++) {
		unsigned l = features[i].level;

		if ((level ? l && l <= level : l != 9) && (!features[i].need ||
		    host[features[i].word] >> features[i].bit & 1))
			word[features[i].word] |= 1u << features[i].bit;
	}
	while (*e) {
		p = e + 1;
		e = strchrnul(p, ',');
		f = p;
		len = (size_t)(e - p);
		on = true;
		v = memchr(p, '=', len);
		if (*p == '+' || *p == '-') {
			on = *p == '+';
			f++;
			len--;
		} else if (v) {
			len = (size_t)(v - p);
			on = !strncmp(v, "=on", 3);
			if (!on && strncmp(v, "=off", 4)) {
				snprintf(why, n, "cpu feature '%.*s': wants "
				    "on or off", (int)len, f);
				return NULL;
			}
		}
		k = feature(f, len);
		if (k < 0) {
			snprintf(why, n, "cpu feature '%.*s': unknown",
			    (int)len, f);
			return NULL;
		}
		if (on && features[k].need &&
		    !(host[features[k].word] >> features[k].bit & 1)) {
			snprintf(why, n, "cpu feature '%s': the host has not",
			    features[k].name);
			return NULL;
		}
		if (on)
			word[features[k].word] |= 1u << features[k].bit;
		else
			word[features[k].word] &= ~(1u << features[k].bit);
	}
	/* what depends on another feature goes with it */
	if (!(word[W_1C] >> 26 & 1)) {
		word[W_1C] &= ~(1u << 28);
		word[W_D1A] = 0;
	}
	if (!(word[W_1C] >> 28 & 1)) {
		word[W_1C] &= ~(1u << 12 | 1u << 29);
		word[W_7B] &= ~(1u << 5);
		word[W_7C] &= ~(1u << 9 | 1u << 10);
	}
	model.name = model_name;
	model.desc = "";
	return &model;
}

void
x86_model_help(FILE *f)
{
	uint32_t host[NWORD];
	size_t i;
	int col = 0;

	host_words(host);
	fprintf(f, "models:\n");
	for (i = 0; i < NNAME; i++)
		fprintf(f, "  %-10s %s\n", names[i].name, names[i].desc);
	fprintf(f, "features (* on this host):\n");
	for (i = 0; i < NFEAT; i++) {
		bool can = !features[i].need ||
		    host[features[i].word] >> features[i].bit & 1;

		fprintf(f, col == 3 ? " %c %s" : col ? " %c %-17s" :
		    "  %c %-17s", can ? '*' : ' ', features[i].name);
		if (++col == 4) {
			fputc('\n', f);
			col = 0;
		}
	}
	if (col)
		fputc('\n', f);
}

static bool
has(unsigned w, unsigned bit)
{
	return word[w] >> bit & 1;
}

uint64_t
model_cr4(void)
{
	static const struct { uint8_t w, bit; uint32_t cr4; } t[] = {
		{ W_1D, 1, CR4_VME | CR4_PVI }, { W_1D, 2, CR4_DE },
		{ W_1D, 3, CR4_PSE }, { W_1D, 6, CR4_PAE },
		{ W_1D, 7, CR4_MCE }, { W_1D, 13, CR4_PGE },
		{ W_1D, 24, CR4_OSFXSR }, { W_1D, 25, CR4_OSXMMEXCPT },
		{ W_7C, 2, CR4_UMIP }, { W_7B, 0, CR4_FSGSBASE },
		{ W_1C, 17, CR4_PCIDE }, { W_1C, 26, CR4_OSXSAVE },
		{ W_7B, 7, CR4_SMEP }, { W_7B, 20, CR4_SMAP },
	};
	uint64_t v = CR4_TSD | CR4_PCE;
	unsigned i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		if (has(t[i].w, t[i].bit))
			v |= t[i].cr4;
	return v;
}

uint64_t
model_xcr0(void)
{
	return has(W_1C, 28) ? 7 : 3;
}

/* Does the modelled CPU have the instruction? */
bool
x86_allowed(struct cpu *c, const struct insn *in)
{
	switch (in->isa) {
	case ZYDIS_ISA_EXT_BASE:
	case ZYDIS_ISA_EXT_LONGMODE:
	case ZYDIS_ISA_EXT_X87:
	case ZYDIS_ISA_EXT_MMX:
	case ZYDIS_ISA_EXT_SSE:
	case ZYDIS_ISA_EXT_SSE2:
	case ZYDIS_ISA_EXT_CLFSH:
	case ZYDIS_ISA_EXT_PAUSE:
		if (in->mnem == ZYDIS_MNEMONIC_POPCNT)
			return has(W_1C, 23);
		return true;
	case ZYDIS_ISA_EXT_SSE3:
		return has(W_1C, 0);
	case ZYDIS_ISA_EXT_SSSE3:
		return has(W_1C, 9);
	case ZYDIS_ISA_EXT_SSE4:
		if (in->mnem == ZYDIS_MNEMONIC_POPCNT)
			return has(W_1C, 23);
		return has(W_1C, in->mnem == ZYDIS_MNEMONIC_CRC32 ||
		    in->mnem == ZYDIS_MNEMONIC_PCMPGTQ ||
		    (in->mnem >= ZYDIS_MNEMONIC_PCMPESTRI &&
		    in->mnem <= ZYDIS_MNEMONIC_PCMPESTRM) ? 20 : 19);
	case ZYDIS_ISA_EXT_AES:
		return has(W_1C, 25);
	case ZYDIS_ISA_EXT_PCLMULQDQ:
		return has(W_1C, 1);
	case ZYDIS_ISA_EXT_AVX:
		return has(W_1C, 28);
	case ZYDIS_ISA_EXT_AVX2:
	case ZYDIS_ISA_EXT_AVX2GATHER:
		return has(W_7B, 5);
	case ZYDIS_ISA_EXT_AVXAES:
		return has(W_1C, 25) && has(W_1C, 28);
	case ZYDIS_ISA_EXT_FMA:
		return has(W_1C, 12);
	case ZYDIS_ISA_EXT_F16C:
		return has(W_1C, 29);
	case ZYDIS_ISA_EXT_BMI1:
		/* tzcnt is bsf where it is not known, and used as such */
		return has(W_7B, 3) || in->mnem == ZYDIS_MNEMONIC_TZCNT;
	case ZYDIS_ISA_EXT_BMI2:
		return has(W_7B, 8);
	case ZYDIS_ISA_EXT_LZCNT:
		return has(W_80C, 5);
	case ZYDIS_ISA_EXT_ADOX_ADCX:
		return has(W_7B, 19);
	case ZYDIS_ISA_EXT_SHA:
		return has(W_7B, 29);
	case ZYDIS_ISA_EXT_GFNI:
		return has(W_7C, 8);
	case ZYDIS_ISA_EXT_VAES:
		return has(W_7C, 9);
	case ZYDIS_ISA_EXT_VPCLMULQDQ:
		return has(W_7C, 10);
	case ZYDIS_ISA_EXT_MOVBE:
		return has(W_1C, 22);
	case ZYDIS_ISA_EXT_RDRAND:
		return has(W_1C, 30);
	case ZYDIS_ISA_EXT_RDSEED:
		return has(W_7B, 18);
	case ZYDIS_ISA_EXT_RDTSCP:
		return has(W_80D, 27);
	case ZYDIS_ISA_EXT_RDPID:
		return has(W_7C, 22);
	case ZYDIS_ISA_EXT_RDWRFSGS:
		return has(W_7B, 0);
	case ZYDIS_ISA_EXT_XSAVE:
		return has(W_1C, 26);
	case ZYDIS_ISA_EXT_XSAVEOPT:
		return has(W_D1A, 0);
	case ZYDIS_ISA_EXT_INVPCID:
		return has(W_7B, 10);
	case ZYDIS_ISA_EXT_SMAP:
		return has(W_7B, 20);
	case ZYDIS_ISA_EXT_CLFLUSHOPT:
		return has(W_7B, 23);
	case ZYDIS_ISA_EXT_CLWB:
		return has(W_7B, 24);
	case ZYDIS_ISA_EXT_AMD3DNOW_PREFETCH:	/* a hint on any of them */
	case ZYDIS_ISA_EXT_PREFETCHWT1:
		return true;
	}
	return false;
}

/* Bits of the APIC ID below the core's number, and below the package's. */
static unsigned
thread_bits(void)
{
	return topo_bits(machine.map->topo.threads);
}

static unsigned
package_bits(void)
{
	return topo_bits(machine.map->topo.cores) + thread_bits();
}

/* Extended topology (leaf 0xB) */
static void
topology(struct cpu *c, uint32_t sub, uint32_t r[4])
{
	const struct topology *t = &machine.map->topo;

	r[2] = sub;
	r[3] = c->apic_id;
	if (sub == 0) {			/* threads of a core */
		r[0] = thread_bits();
		r[1] = t->threads;
		r[2] |= 1 << 8;
	} else if (sub == 1) {		/* of the package */
		r[0] = package_bits();
		r[1] = t->cores * t->threads;
		r[2] |= 2 << 8;
	}
}

/* Deterministic caches: 32K + 32K L1, 1M L2, 16M shared L3 (leaf 4) */
static void
caches(uint32_t sub, uint32_t r[4])
{
	static const uint32_t t[4][4] = {
		{ 0x00000121, 7u << 22 | 63, 63, 0 },
		{ 0x00000122, 7u << 22 | 63, 63, 0 },
		{ 0x00000143, 15u << 22 | 63, 1023, 0 },
		{ 0x00000163, 15u << 22 | 63, 16383, 4 },
	};
	unsigned i, cores = 1u << topo_bits(machine.map->topo.cores);

	if (sub >= 4)
		return;
	for (i = 0; i < 4; i++)
		r[i] = t[sub][i];
	/* IDs there is room for in the package, and among those that share the
	 * cache, less one */
	r[0] |= (cores > 64 ? 63 : cores - 1) << 26;
	r[0] |= ((1u << (sub == 3 ? package_bits() : thread_bits())) - 1) << 14;
}

static void
text(uint32_t r[4], const char *s)
{
	unsigned i, j;

	for (i = 0; i < 4; i++)
		for (r[i] = 0, j = 0; j < 4; j++)
			r[i] |= (uint32_t)(uint8_t)s[i * 4 + j] << 8 * j;
}

void
x86_cpuid(struct cpu *c, uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	static const char brand[49] =
	    "Sluice translated x86-64 processor\0\0\0\0\0\0\0\0\0\0\0\0\0";
	/* Guests take the crystal of leaf 0x15 for the APIC timer's clock, which
	 * it is not: only those that use the TSC deadline see the leaf. */
	uint32_t t[4], top = has(W_1C, 24) ? 0x16 : 0xd, khz, n;

	r[0] = r[1] = r[2] = r[3] = 0;
	if ((leaf > top && leaf < 0x40000000) || leaf > 0x80000008)
		leaf = top;
	switch (leaf) {
	case 0:
		r[0] = top;
		r[1] = 0x756e6547;	/* "Genu" "ineI" "ntel" */
		r[3] = 0x49656e69;
		r[2] = 0x6c65746e;
		break;
	case 1:
		r[0] = 0x806f8;
		n = 1u << package_bits();	/* IDs there is room for */
		r[1] = c->apic_id << 24 | (n > 255 ? 255 : n) << 16 | 8 << 8;
		r[2] = word[W_1C];
		if (c->cr4 & CR4_OSXSAVE)
			r[2] |= 1 << 27;
		r[3] = word[W_1D];
		if (n > 1)
			r[3] |= 1 << 28;	/* HTT: more than one */
		break;
	case 2:
		r[0] = 0x00feff01;	/* prefetch 64, leaf 0x18, leaf 4 */
		break;
	case 4:
		caches(sub, r);
		break;
	case 6:
		r[0] = 4;		/* ARAT */
		break;
	case 7:
		if (sub == 0) {
			r[1] = word[W_7B];
			r[2] = word[W_7C];
			r[3] = word[W_7D];
		}
		break;
	case 0xb:
		topology(c, sub, r);
		break;
	case 0xd:
		if (!has(W_1C, 26))
			break;
		if (sub == 0) {
			r[0] = (uint32_t)model_xcr0();
			r[1] = c->xcr0 & 4 ? 832 : 576;
			r[2] = has(W_1C, 28) ? 832 : 576;
		} else if (sub == 1) {
			r[0] = word[W_D1A];
		} else if (sub == 2 && has(W_1C, 28)) {
			r[0] = 256;
			r[1] = 576;
		}
		break;
	case 0x15:
		/* TSC = crystal * b / a; Linux multiplies b by the crystal's kHz
		 * in 32 bits */
		khz = (uint32_t)machine.map->tsc_khz;
		r[0] = 1000;
		while ((uint64_t)khz * 1000 >> 32) {
			khz /= 10;
			r[0] /= 10;
		}
		r[1] = khz;
		r[2] = 1000000;
		break;
	case 0x16:
		r[0] = r[1] = (uint32_t)(machine.map->tsc_khz / 1000);
		r[2] = 100;
		break;
	case 0x40000000:
		r[0] = 0x40000000;
		text(t, "SluiceSluice\0\0\0\0");
		r[1] = t[0];
		r[2] = t[1];
		r[3] = t[2];
		break;
	case 0x80000000:
		r[0] = 0x80000008;
		break;
	case 0x80000001:
		r[2] = word[W_80C];
		r[3] = word[W_80D];
		if ((c->mode & M_SIZE) != M_64)
			r[3] &= ~(1u << 11);
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		text(r, brand + (leaf - 0x80000002) * 16);
		break;
	case 0x80000006:
		r[2] = 0x04008040;
		break;
	case 0x80000007:
		r[3] = word[W_87D];
		break;
	case 0x80000008:
		r[0] = 48 << 8 | 46;
		break;
	}
}
