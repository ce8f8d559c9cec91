# Several processors at the same time: t/guest/smp.c in a guest.  SMP_SECONDS
# (9) is how long it runs; half an hour is a stress test.

load helpers

setup() {
	vm_setup
	${CC:-cc} -O2 -Wall -static -pthread -o "$BATS_TEST_TMPDIR/smp" t/guest/smp.c
	# A second archive behind the first: the kernel unpacks both.
	(cd "$BATS_TEST_TMPDIR" && echo smp | cpio -o -H newc -R 0:0 --quiet) |
		cat "$guest/initrd.img" - >"$BATS_TEST_TMPDIR/initrd"
	seconds=${SMP_SECONDS:-9}
	limit=$((seconds + 200))
}

teardown() {
	vm_teardown
}

# all_good OPTION...: every part of smp.c says what it did, the kernel nothing
all_good() {
	boot -m 512 -kernel "$guest/vmlinuz" -initrd "$BATS_TEST_TMPDIR/initrd" \
		"$@" -- "vm.run=\"/smp $seconds\""
	[ "$status" -eq 0 ]
	for p in locked order stamps modify beside shoot-down fork futex churn; do
		seen "^$p: [1-9][0-9]* rounds\$"
	done
	seen '^smp: good$'
	quiet_kernel
}

@test "two processors" {
	all_good -smp 2
}

@test "four processors and a code cache that is full all the time" {
	all_good -smp 4 -accel translate,tb-size=4
}

@test "eleven processors on fewer" {
	all_good -smp 11
}
