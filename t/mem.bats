# vm-mem on a machine without hardware (t/unit/busfake.c).

load helpers

setup_file() {
	cd "$BATS_TEST_DIRNAME/.."
	make -s build/t/busfake build/libexec/vm/membus build/bin/vm-mem \
		build/bin/vm-poke
}

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	top=$PWD
	PATH=$top/build/bin:$PATH
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	export VM_LIBEXEC=$BATS_TEST_TMPDIR/libexec
	mkdir -p "$XDG_RUNTIME_DIR" "$VM_LIBEXEC"
	for n in vcpu-x86_64 dev-fake; do
		ln -s "$top/build/t/busfake" "$VM_LIBEXEC/$n"
	done
	printf '%s\n' "name m" "ram size=${ram:-16M}" "part d0 dev=fake" \
		>"$BATS_TEST_TMPDIR/machine"
	"$top/build/libexec/vm/membus" "$BATS_TEST_TMPDIR/machine" \
		</dev/null >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
	started=$!
	until_true vm-mem m show >/dev/null
}

teardown() {
	kill -HUP $started
	wait
}

@test "show, write, read, search" {
	[[ $(vm-mem m) == *"RAM 16 MiB: 0-ffffff"* ]]
	printf 'hello, guest' | vm-mem m write 0x1ffa
	[ "$(vm-mem -r m read 0x1ffa 12)" = "hello, guest" ]
	run vm-mem m read 0x1ff0 32
	[ "${lines[0]}" = "0000000000001ff0: 00 00 00 00 00 00 00 00 00 00 68 65 6c 6c 6f 2c  ..........hello," ]
	[ "${#lines[@]}" -eq 2 ]
	[ "$(vm-mem m search guest)" = 0000000000002001 ]
	[ "$(vm-mem m search -x 6c6c6f)" = 0000000000001ffc ]
	run vm-mem m search nothing-like-it
	[ "$status" -eq 1 ]
	# the same memory that the bus sees
	[ "$(echo 'r4 m1ffa' | vm-poke -m m)" = 6c6c6568 ]
}

@test "outside of RAM, and wrong usage" {
	run vm-mem m read 0x1000000 1
	[ "$status" -eq 1 ]
	[ "$output" = "vm-mem: m: 1000000 is not RAM" ]
	run vm-mem -r m read 0xfffff0 32
	[ "$status" -eq 1 ]
	run vm-mem m write 0xffffff <<<"xx"
	[ "$status" -eq 1 ]
	run vm-mem m read 12
	[ "$status" -eq 2 ]
	run vm-mem m read zz 1
	[ "$status" -eq 2 ]
	run vm-mem m frob
	[ "$status" -eq 2 ]
	run vm-mem nobody
	[ "$status" -eq 1 ]
	[ "$output" = "vm-mem: VM 'nobody' is not running" ]
}
