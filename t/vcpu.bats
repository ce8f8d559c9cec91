# The vcpu program: its command line (cpu/vcpu.c), its answers (cpu/info.c,
# PROTOCOL.md "Questions to the vcpu"), save and load of its state.

LX=build/libexec/vm
VCPU=$LX/vcpu-x86_64

setup() {
	make -s $LX/membus $VCPU build/bin/vm-mon
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR
}

teardown() {
	[ -z "$bus" ] || build/bin/vm-mon v quit >/dev/null 2>&1 || kill $bus
	[ -z "$bus" ] || wait $bus || :
}

# le32 N...: little-endian words
le32() {
	for w; do
		printf "\\$(printf %o $((w & 255)))"
		printf "\\$(printf %o $((w >> 8 & 255)))"
		printf "\\$(printf %o $((w >> 16 & 255)))"
		printf "\\$(printf %o $((w >> 24 & 255)))"
	done
}

# A machine of a processor alone.  Its multiboot kernel loads rbx, counts in
# rsi what comes back from hlt, and sleeps with interrupts off.
machine() {
	k=$BATS_TEST_TMPDIR/kernel
	{
		le32 0x1badb002 0x10000 $((-(0x1badb002 + 0x10000))) \
		    0x100000 0x100000 0 0 0x100020
		# mov $0x12345678,%ebx; 1: hlt; inc %esi; jmp 1b
		printf '\273\170\126\064\022\364\106\353\374'
		head -c 64 /dev/zero
	} >$k
	cat >$BATS_TEST_TMPDIR/v.vm <<X
name v
ram size=16M
cpu model=max smp=${1-1} accel=translate tb-size=8M
boot kernel=$k
X
	$LX/membus $BATS_TEST_TMPDIR/v.vm 3>&- </dev/null \
	    >$BATS_TEST_TMPDIR/out 2>&1 &
	bus=$!
	# the question is answered when the machine is up, and sees the kernel
	for i in $(seq 300); do
		[ "$(build/bin/vm-mon v print '$rbx' 2>/dev/null)" != \
		    0x12345678 ] || return 0
		kill -0 $bus || break
		sleep 0.1
	done
	cat $BATS_TEST_TMPDIR/out
	return 1
}

mon() {
	build/bin/vm-mon v "$@"
}

@test "--help, --version, --cpu help" {
	run $VCPU --help
	[ $status -eq 0 ]
	[[ $output == *tb-size* ]]
	run $VCPU --version
	[ $status -eq 0 ]
	[[ $output == *"$(cat share/version)"* ]]
	run $VCPU --cpu help
	[ $status -eq 0 ]
	[[ $output == *max* ]]
	[[ $output == *tsc-deadline* ]]
}

@test "wrong usage: one line naming the object, status 2" {
	for a in --bogus model=nonsense smp=0 smp=1000 accel=warp tb-size=1 \
	    tb-size=many colour=red model=max,+nonsense; do
		run $VCPU v/cpu $a
		echo "$a: $output"
		[ $status -eq 2 ]
		[ ${#lines[@]} -eq 1 ]
		[[ $output == "vcpu-x86_64: "* ]]
	done
	run $VCPU
	[ $status -eq 2 ]
	run $VCPU v/cpu 3</dev/null
	[ $status -eq 1 ]
	[[ $output == *"not started by membus"* ]]
}

@test "registers, memory and controllers through the monitor" {
	machine
	run mon info registers
	[ $status -eq 0 ]
	[[ $output == *"RBX=0000000012345678"* ]]
	[[ $output == *"CPL=0"* ]]
	[[ $output == *"HLT=1"* ]]
	[ "$(mon print '$bits')" = 0x20 ] || [ "$(mon ask cpu reg 0 bits)" = 32 ]
	[ "$(mon print '$rip')" = 0x100026 ]
	mon x /1wx 0x100000 | grep -q 0x1badb002
	run mon ask cpu vmem 0 0x100025 2
	[ "$output" = f446 ]
	run mon ask cpu vmem 0 0xd0000000 4
	[ $status -ne 0 ]
	run mon ask cpu reg 0 nonsense
	[ $status -ne 0 ]
	run mon ask cpu reg 7 rip
	[ $status -ne 0 ]
	mon info cpus | grep -q '^\* CPU #0: pc=0x0*100026 (halted)'
	mon info lapic | grep -q 'LVT0.*ExtINT'
	mon info pic | grep -q '^pic1: irr='
	mon info pic | grep -q 'pin 23 '
	mon info jit | grep -q '^blocks'
	[ "$(mon info tlb)" = "PG disabled" ]
	mon info mtree | grep -q 'fee00000-00000000fee00fff'
}

@test "state: saved, loaded and saved again it is the same; a bad one is refused" {
	machine
	mon stop
	mon ask bus save cpu $BATS_TEST_TMPDIR/a
	mon ask bus load cpu $BATS_TEST_TMPDIR/a
	mon ask bus save cpu $BATS_TEST_TMPDIR/b
	cmp $BATS_TEST_TMPDIR/a $BATS_TEST_TMPDIR/b
	n=$(stat -c %s $BATS_TEST_TMPDIR/a)
	[ $n -gt 5000 ]
	for k in 0 10 100 1000 $((n - 1)); do
		head -c $k $BATS_TEST_TMPDIR/a >$BATS_TEST_TMPDIR/c
		run mon ask bus load cpu $BATS_TEST_TMPDIR/c
		[ $status -ne 0 ]
	done
	sed 's/lapic0/lapic7/' $BATS_TEST_TMPDIR/a >$BATS_TEST_TMPDIR/c
	run mon ask bus load cpu $BATS_TEST_TMPDIR/c
	[ $status -ne 0 ]
	mon ask bus save cpu $BATS_TEST_TMPDIR/b
	cmp $BATS_TEST_TMPDIR/a $BATS_TEST_TMPDIR/b
	mon cont
	[ "$(mon print '$rbx')" = 0x12345678 ]
}

@test "a halted vcpu sleeps; stop, cont and reset leave it in order" {
	machine
	mon ask cpu stat | grep -q 'halts=[1-9]'
	for i in 1 2 3; do
		mon stop
		mon stop
		mon cont
	done
	mon info status | grep -q running
	mon system_reset
	for i in $(seq 100); do
		[ "$(mon print '$rip' 2>/dev/null)" != 0x100026 ] || break
		sleep 0.1
	done
	[ "$(mon print '$rbx')" = 0x12345678 ]
	[ "$(mon print '$rsi')" = 0x0 ]
}
