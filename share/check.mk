# Tests, guests and checks: included by the Makefile.
# t/unit/NAME.c is built to build/t/NAME; it may link any of our libraries.
TLIBS	= $(wildcard $(B)/libswitch.a $(B)/libnbd-server.a $(B)/libimg.a)
$(B)/t/%: t/unit/%.c $(LIBBUS) $(LIBMEM) $(B)/libdev.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(B)/libdev.a $(LIBBUS) $(LIBMEM) $(TUNIT_LIBS_$*) $(LIBS_BASE)

# The first targets a newcomer types install what they need (share/packages)
# and then run make again, so that the new compiler and headers are seen.
T	?= t/*.bats
NPROC	= $(shell nproc 2>/dev/null || echo 2)

demo:
	@share/need build guest
	@$(MAKE) --no-print-directory -s -j$(NPROC) all
	@share/guest $(B)/guest cloud
	@share/demo

# Boots of 32-bit and full kernels are part of the tests.
check:
	@share/need build test guest rootfs
	@$(MAKE) --no-print-directory -j$(NPROC) all
	@share/guest $(B)/guest cloud amd64 686 debian ssh
	@share/check $(T)

guest:
	@share/need guest rootfs
	@share/guest $(B)/guest cloud amd64 686 debian ssh

# Half an hour; the scripts by themselves, with -n 1, take minutes.
bench:
	@share/need build guest rootfs bench
	@$(MAKE) --no-print-directory -s -j$(NPROC) all $(B)/bench/kernels
	@share/guest $(B)/guest cloud bench
	@t/bench/boot.sh
	@t/bench/kernels.sh
	@t/bench/programs.sh
	@t/bench/smp.sh
	@t/bench/net.sh

# One static program that runs on the host and in any Linux guest; its results
# must not depend on who compiled it how, so CFLAGS are not the user's.  No
# function of up to 1 KiB lies on two pages: by chance that can cost a lot.
KERNELS	= $(addprefix t/bench/,kernels.c int.c mem.c code.c fp.c sys.c)
$(B)/bench/netload: t/bench/netload.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(WERROR) -D_GNU_SOURCE -O2 -static -o $@ $<
$(B)/bench/kernels: $(KERNELS) t/bench/kernels.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(WERROR) -D_GNU_SOURCE -O2 -ffp-contract=off \
	    -falign-functions=1024 -static -o $@ $(KERNELS) -lm -lpthread

# Hours; the findings go to build/fuzz/found.
FUZZ	?= 1000000
fuzz:
	@share/need build test
	@$(MAKE) --no-print-directory -s -j$(NPROC) $(BIN)/vm-img $(BIN)/vm-io
	@$(MAKE) --no-print-directory -s -j$(NPROC) B=$(B)/fuzz CFLAGS="-O1 -g" \
	    SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined \
	    -fsanitize-coverage=trace-pc" $(B)/fuzz/t/img-fuzz $(B)/fuzz/t/nbd-fuzz
	@share/fuzz $(B)/fuzz $(FUZZ)

lint:
	@share/need lint
	@share/lint

pre-push: lint check

.PHONY: demo check guest bench fuzz lint pre-push

# The translator against the host CPU: everything in cpu/ but the process.
CPU_CORE = $(filter-out $(B)/cpu/vcpu.o $(B)/cpu/io.o $(B)/cpu/irq.o \
	$(B)/cpu/timer.o \
	$(B)/cpu/placed.o $(B)/cpu/info.o $(B)/cpu/stat.o,$(call obj,$(CPU_SRC)))
$(B)/t/difftest: t/unit/difftest.c $(wildcard t/unit/diff*.h) $(CPU_CORE) $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(CPU_CORE) $(LIBBUS) $(LIBMEM) -lZydis $(LIBS_BASE)

# The chips placed in the vcpu, without it.
$(B)/t/intc: t/unit/intc.c $(PLACED_OBJ) $(B)/dev/field.o $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(PLACED_OBJ) $(B)/dev/field.o $(LIBBUS) $(LIBMEM) $(LIBS_BASE)
IRQ_OBJ	= $(B)/cpu/irq.o $(B)/cpu/timer.o $(B)/cpu/io.o $(B)/cpu/placed.o $(PLACED_OBJ) \
	$(B)/dev/field.o
$(B)/t/irq: t/unit/irq.c $(IRQ_OBJ) $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(IRQ_OBJ) $(LIBBUS) $(LIBMEM) $(LIBS_BASE)

# The virtio chips, in one program, without a machine.
VIRTIO_OBJ = $(patsubst %,$(B)/placed/virtio-%.o,blk rng console balloon net) \
	$(patsubst %,$(B)/dev/%.o,pci virtio vring disk blk-io blk-ask blk-job blk-snap blk-nbd \
	field nic nic-filter netsum vnet-ctrl vnet-offload vnet-merge) $(B)/libswitch.a
$(B)/t/virtio: t/unit/virtio.c $(VIRTIO_OBJ) $(B)/libnbd-server.a $(LIBIMG) $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(VIRTIO_OBJ) $(B)/libnbd-server.a $(LIBIMG) $(LIBBUS) $(LIBMEM) $(LIBS_IMG) $(LIBS_BASE)

# The other network cards.
NICS_OBJ = $(patsubst %,$(B)/placed/%.o,e1000 rtl8139 ne2k_pci \
	ne2k_isa pcnet) $(patsubst %,$(B)/dev/%.o,\
	e1000-ring pcnet-ring dp8390 pci field nic nic-filter netsum eeprom) $(B)/libswitch.a
$(B)/t/nics: t/unit/nics.c $(NICS_OBJ) $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(NICS_OBJ) $(LIBBUS) $(LIBMEM) $(LIBS_BASE)

# The x86 vcpu's instructions in C, one at a time.
$(B)/t/x86mem $(B)/t/x86sem $(B)/t/x86exec $(B)/t/codetest $(B)/t/emitted: $(B)/t/%: \
    t/unit/%.c t/unit/x86sem.h $(wildcard t/unit/code*.h) $(CPU_CORE) $(LIBBUS) $(LIBMEM)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -I. -o $@ $< $(CPU_CORE) $(LIBBUS) $(LIBMEM) -lZydis $(LIBS_BASE)
