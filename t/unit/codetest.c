/* links: cpu without its process, bus, mem */
/*
 * codetest.c - what breaks translators: self-modifying code, mappings that
 * change under running code, instructions and operands on two pages, odd
 * segments, single step and breakpoints, status flags through everything, and
 * interrupts.
 */
#include "codetest.h"
#include "code-smc.h"
#include "code-map.h"
#include "code-cross.h"

int
main(void)
{
	world();
	smc();
	mappings();
	crossings();
	return result();
}
