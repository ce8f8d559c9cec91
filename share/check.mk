# Tests: included by the Makefile.
# t/unit/NAME.c is built to build/t/NAME; it may link any of our libraries.
TLIBS	= $(wildcard $(B)/libswitch.a $(B)/libnbd-server.a $(B)/libimg.a)
$(B)/t/%: t/unit/%.c $(LIBBUS) $(LIBMEM) $(B)/libdev.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(B)/libdev.a $(LIBBUS) $(LIBMEM) $(TUNIT_LIBS_$*) $(LIBS_BASE)

BATS	?= bats
check: all
	$(BATS) t/*.bats
.PHONY: check
