# Sluice: one Makefile, outputs under build/.
# A new .c file in a folder is found by wildcard: it belongs to the folder's
# library unless it is named below as a program (PROGS_*), is a chip (dev/*.c
# with DEV_MAIN), or is placed in the vcpu.

PREFIX	?= /usr/local
DESTDIR	?=
B	?= build
CC	?= gcc
CFLAGS	?= -O2 -g
WARN	= -Wall -Wextra -Wshadow -Wmissing-prototypes -Wimplicit-fallthrough \
	  -Wno-unused-parameter -Wno-missing-field-initializers
ALL_CFLAGS = -std=gnu11 $(WARN) $(WERROR) $(CFLAGS) $(SAN) -D_GNU_SOURCE \
	  -DLIBEXEC='"$(PREFIX)/libexec/vm"' -DSHARE='"$(PREFIX)/share/vm"' \
	  -MMD -MP
ALL_LDFLAGS = $(LDFLAGS) $(SAN)
WERROR	= $(if $(CI),-Werror)

BIN	= $(B)/bin
LX	= $(B)/libexec/vm

obj	= $(patsubst %.c,$(B)/%.o,$(1))

# ---- mem, bus
MEM_SRC	= $(filter-out mem/vm-mem.c,$(wildcard mem/*.c))
BUS_SRC	= $(filter-out bus/membus.c bus/vm-poke.c bus/vm-tap.c,$(wildcard bus/*.c))
LIBMEM	= $(B)/libmem.a
LIBBUS	= $(B)/libbus.a
LIBIMG	= $(if $(IMG_SRC),$(B)/libimg.a)

# ---- chips: every dev/*.c that has DEV_MAIN and is not placed in the vcpu;
# the other files of dev/ are their library
PLACED	= lapic ioapic i8259 i8254
PLACED_SRC = $(PLACED) lapic-timer lapic-msr
PLACED_OBJ = $(PLACED_SRC:%=$(B)/placed/%.o)
DEV_LIB	= $(filter-out $(PLACED_SRC:%=dev/%.c),$(shell grep -L '^DEV_MAIN' dev/*.c 2>/dev/null))
DEV_CHIPS = $(patsubst dev/%.c,%,$(shell grep -l '^DEV_MAIN' dev/*.c 2>/dev/null))
DEV_PROCS = $(filter-out $(PLACED),$(DEV_CHIPS))
DEV_BINS = $(DEV_PROCS:%=$(LX)/dev-%)

# ---- cpu: C that runs between guest instructions must leave the FPU alone
CPU_SRC	= $(wildcard cpu/*.c cpu/x86/*.c cpu/host/*.c)
CPU_OBJ	= $(call obj,$(CPU_SRC)) $(PLACED_OBJ)

# ---- img, nbd, slirp, switch, mon
IMG_SRC	= $(filter-out img/vm-%.c img/cmd-%.c,$(wildcard img/*.c))
NBD_SRC	= $(filter-out nbd/vm-nbd.c,$(wildcard nbd/*.c))
SLIRP_SRC = $(wildcard slirp/*.c)
SWITCH_SRC = $(filter-out switch/vm-%.c switch/part.c,$(wildcard switch/*.c))
MON_SRC	= $(wildcard mon/*.c)

LIBS_BASE = -lbsd -lpthread
LIBS_IMG = -lz -lzstd -ldeflate -lgcrypt -lpthread
have	= $(if $(wildcard $(1)),$(2))
PROGS	= $(call have,mem/vm-mem.c,$(BIN)/vm-mem) \
	  $(call have,bus/vm-poke.c,$(BIN)/vm-poke) \
	  $(call have,bus/vm-tap.c,$(BIN)/vm-tap) \
	  $(call have,bus/membus.c,$(LX)/membus) \
	  $(call have,cpu/vcpu.c,$(LX)/vcpu-x86_64) \
	  $(call have,mon/vm-mon.c,$(BIN)/vm-mon) \
	  $(call have,run/vm-run,$(BIN)/vm-run) \
	  $(call have,img/vm-img.c,$(BIN)/vm-img) \
	  $(call have,img/vm-io.c,$(BIN)/vm-io) \
	  $(call have,nbd/vm-nbd.c,$(BIN)/vm-nbd) \
	  $(call have,slirp/vm-slirp.c,$(BIN)/vm-slirp) \
	  $(call have,switch/vm-switch.c,$(BIN)/vm-switch) \
	  $(call have,switch/vm-plug.c,$(BIN)/vm-plug)
DATA	= $(call have,share/dsdt.asl,$(B)/share/vm/dsdt.aml) $(B)/share/vm/version

all: $(PROGS) $(DEV_BINS) $(DATA)

# who may make which system call, from the sources' comments
$(B)/bus/syscalls.h: bus/syscalls.sh $(wildcard bus/*.c mem/*.c dev/*.c cpu/*.c cpu/*/*.c slirp/*.c)
	@mkdir -p $(@D)
	@sh bus/syscalls.sh >$@.$$$$ && if cmp -s $@.$$$$ $@; then \
	    rm $@.$$$$; else mv $@.$$$$ $@; fi
$(B)/bus/sandbox.o: $(B)/bus/syscalls.h
CFLAGS_bus = -I$(B)/bus
$(LIBMEM): $(call obj,$(MEM_SRC))
$(LIBBUS): $(call obj,$(BUS_SRC))
$(B)/libdev.a: $(call obj,$(DEV_LIB))
$(B)/libimg.a: $(call obj,$(IMG_SRC))
$(B)/libnbd-server.a: $(call obj,$(NBD_SRC))
$(B)/libswitch.a: $(call obj,$(SWITCH_SRC))
%.a:
	@rm -f $@
	ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(CFLAGS_$(subst /,_,$(*D))) -c -o $@ $<
VERSION	:= $(shell cat share/version)
CFLAGS_cpu = -mgeneral-regs-only -DVERSION='"$(VERSION)"'
CFLAGS_cpu_x86 = -mgeneral-regs-only
CFLAGS_cpu_host = -mgeneral-regs-only
$(B)/placed/%.o: dev/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DPLACED -mgeneral-regs-only -c -o $@ $<

link	= @mkdir -p $(@D) && echo "LD $@" && $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

$(BIN)/vm-mem: $(B)/mem/vm-mem.o $(LIBBUS) $(LIBMEM)
	$(link) $(LIBS_BASE)
$(BIN)/vm-poke: $(B)/bus/vm-poke.o $(LIBBUS) $(LIBMEM)
	$(link) $(LIBS_BASE)
$(BIN)/vm-tap: $(B)/bus/vm-tap.o $(LIBBUS) $(LIBMEM)
	$(link) $(LIBS_BASE)
$(LX)/membus: $(B)/bus/membus.o $(LIBBUS) $(LIBMEM)
	$(link) $(LIBS_BASE)
$(DEV_BINS): $(LX)/dev-%: $(B)/dev/%.o $(B)/libdev.a $(B)/libswitch.a $(LIBBUS) $(LIBMEM)
	$(link) $(LIBS_$*) $(LIBS_BASE)
# chips that have a disk
$(LX)/dev-virtio-blk: $(B)/libnbd-server.a $(LIBIMG)
LIBS_virtio-blk = $(LIBS_IMG)
$(LX)/vcpu-x86_64: $(CPU_OBJ) $(B)/dev/field.o $(LIBBUS) $(LIBMEM)
	$(link) -lZydis $(LIBS_BASE)
$(BIN)/vm-mon: $(call obj,$(MON_SRC)) $(LIBBUS) $(LIBMEM)
	$(link) -lreadline -lZydis $(LIBS_BASE)
$(BIN)/vm-run: run/vm-run $(wildcard run/*)
	@mkdir -p $(@D) $(B)/share/vm/run
	install -m 755 run/vm-run $@
	$(if $(wildcard run/*.sh),install -m 644 $(wildcard run/*.sh) $(B)/share/vm/run/)
$(BIN)/vm-img: $(B)/img/vm-img.o $(call obj,$(wildcard img/cmd-*.c)) $(B)/libimg.a
	$(link) $(LIBS_IMG) $(LIBS_BASE)
$(BIN)/vm-io: $(call obj,$(wildcard img/vm-io*.c)) $(B)/libimg.a
	$(link) $(LIBS_IMG) $(LIBS_BASE)
$(BIN)/vm-nbd: $(B)/nbd/vm-nbd.o $(B)/libnbd-server.a $(B)/libimg.a
	$(link) $(LIBS_IMG) $(LIBS_BASE)
CFLAGS_img = -DVERSION='"$(VERSION)"'
CFLAGS_nbd = -DVERSION='"$(VERSION)"'
$(B)/t/img-%: t/unit/img-%.c $(B)/libimg.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(B)/libimg.a $(LIBS_IMG)
$(B)/t/nbd-%: t/unit/nbd-%.c $(B)/libnbd-server.a $(B)/libimg.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(B)/libnbd-server.a $(B)/libimg.a $(LIBS_IMG)
$(BIN)/vm-slirp: $(call obj,$(SLIRP_SRC)) $(B)/libswitch.a $(LIBBUS) $(LIBMEM)
	$(link) $(LIBS_BASE)
$(BIN)/vm-switch $(BIN)/vm-plug: $(BIN)/%: $(B)/switch/%.o $(B)/libswitch.a
	$(link) -lm $(LIBS_BASE)
$(BIN)/vm-switch: $(B)/switch/part.o $(LIBBUS) $(LIBMEM)
# all of vm-switch but its main() and the part
$(B)/t/switch-main.o: switch/vm-switch.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -Dmain=switch_main -c -o $@ $<
$(B)/t/switch-fuzz: t/unit/switch-fuzz.c t/unit/slirp-gen.h $(B)/t/switch-main.o \
    $(B)/switch/part.o $(B)/libswitch.a $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $(filter %.c %.o %.a,$^) $(LIBS_BASE) -lm
# the network tests' tools stand on libswitch alone
$(B)/t/switch-%: t/unit/switch-%.c $(B)/libswitch.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(B)/libswitch.a $(LIBS_BASE) -lm
$(B)/t/slirp-%: t/unit/slirp-%.c $(B)/libswitch.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(B)/libswitch.a $(LIBS_BASE)
# all of vm-slirp, in a program that is its guests and its peers, too
$(B)/t/slirp-main.o: slirp/vm-slirp.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -Dmain=slirp_main -c -o $@ $<
INSIDE	= $(B)/t/slirp-main.o $(filter-out %/vm-slirp.o,$(call obj,$(SLIRP_SRC))) \
	  $(B)/libswitch.a $(LIBBUS) $(LIBMEM)
$(B)/t/slirp-inside: t/unit/slirp-inside.c $(wildcard t/unit/slirp-*.h) $(INSIDE)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes $(ALL_LDFLAGS) -I. -o $@ $< \
	    $(INSIDE) $(LIBS_BASE)
$(B)/t/slirp-fuzz: t/unit/slirp-gen.h
$(B)/share/vm/version: share/version
	@mkdir -p $(@D)
	install -m 644 $< $@
$(B)/share/vm/dsdt.aml: share/dsdt.asl
	@mkdir -p $(@D)
	iasl -va -p $@ $< > $(B)/iasl.log || { cat $(B)/iasl.log; exit 1; }

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/vm \
	    $(DESTDIR)$(PREFIX)/share/vm $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BIN)/* $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(LX)/* $(DESTDIR)$(PREFIX)/libexec/vm/
	if [ -d $(B)/share/vm ]; then cp -R $(B)/share/vm/. $(DESTDIR)$(PREFIX)/share/vm/; fi
	for m in */*.1; do [ ! -f "$$m" ] || install -m 644 "$$m" $(DESTDIR)$(PREFIX)/share/man/man1/; done

clean:
	rm -rf $(B)

-include share/check.mk
-include $(shell find $(B) -path $(B)/guest -prune -o -name '*.d' -type f -print 2>/dev/null)

.PHONY: all install clean
.SECONDARY:
