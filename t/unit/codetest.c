/* links: cpu without its process, bus, mem */
/*
 * codetest.c - what breaks translators: self-modifying code, mappings that
 * change under running code, instructions and operands on two pages, odd
 * segments, single step and breakpoints, status flags through everything, and
 * interrupts.  Words KEY=off switch optimisations off (cpu/x86/jit.h).  It runs
 * under AddressSanitizer as it is:
 *
 *	make B=DIR CFLAGS='-O1 -g -fsanitize=address' \
 *	    LDFLAGS=-fsanitize=address DIR/t/codetest
 */
#include "codetest.h"
#include "code-smc.h"
#include "code-map.h"
#include "code-cross.h"
#include "code-irq.h"
#include "code-flags.h"
#include "code-debug.h"
#include "code-seg.h"
#include "code-hot.h"
#include "code-region.h"
#include "code-calls.h"

int
main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	switches(argv + 1);
	world();
	smc();
	mappings();
	crossings();
	interrupts();
	flags();
	debugging();
	segments();
	hot();
	regions();
	calls();
	return result();
}
