# Life and death of a machine (PROTOCOL.md "Life cycle", "Exit status of a
# machine"): processes, signals, killed parts, refused starts; nothing is left.

load helpers

setup() {
	vm_setup
}

teardown() {
	vm_teardown
}

# ended NAME: $status of the machine in $pid, $output what it said
ended() {
	until_true gone "$pid"
	status=0
	wait "$pid" || status=$?
	output=$(cat "$BATS_TEST_TMPDIR/$1.out")
}

part_pid() {
	cat "$XDG_RUNTIME_DIR/vm/$1/part/$2/pid"
}

@test "one process per device, with machine and role in its title" {
	vm_paused life -device virtio-rng-pci
	for p in cpu hostbridge pm0 rtc i8042 hpet pvpanic fwcfg uart0 mon rng0 net0 nic0; do
		[ "$(ps -eo args= | grep -c "[ :]life/$p\b")" -eq 1 ] ||
			{ echo "not one process: $p"; ps -eo pid,args; false; }
	done
	[ "$(of_vm life | wc -l)" -eq 13 ]
	# the children of the broker are exactly these
	[ "$(ps -o pid= --ppid "$pid" | wc -l)" -eq 13 ]
}

@test "quit: status 0, nothing left" {
	vm_paused life
	vm-mon life quit
	ended life
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	nothing_left life
}

@test "kill -9 of a device ends the machine with one line that names it" {
	for p in uart0 rtc mon hostbridge nic0; do
		vm_paused life
		kill -9 "$(part_pid life $p)"
		ended life
		[ "$status" -eq 1 ]
		[ "$(printf '%s\n' "$output" | wc -l)" -eq 1 ]
		[[ $output == *"$p"* ]] || { echo "$output"; false; }
		nothing_left life
	done
}

@test "kill -9 of the vcpu ends the machine with one line that names it" {
	vm_paused life
	kill -9 "$(part_pid life cpu)"
	ended life
	[ "$status" -eq 1 ]
	[ "$(printf '%s\n' "$output" | wc -l)" -eq 1 ]
	[[ $output == *cpu* ]]
	nothing_left life
}

@test "kill -9 of a device of a running guest" {
	vm_start life -m 256 -display none -serial file:"$BATS_TEST_TMPDIR/con" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-append 'console=ttyS0 quiet vm.run="sleep 1000"'
	until_true grep -q 'vm.init: running' "$BATS_TEST_TMPDIR/con"
	kill -9 "$(part_pid life uart0)"
	ended life
	[ "$status" -eq 1 ]
	[[ $output == *uart0* ]]
	nothing_left life
}

@test "kill -9 of the broker ends all parts; the name is free again" {
	vm_paused life
	kill -9 "$pid"
	until_true no_process life
	vm_paused life
	vm-mon life quit
	ended life
	[ "$status" -eq 0 ]
	nothing_left life
}

@test "SIGTERM is the power button, a second one ends it" {
	vm_start life -m 128 -display none -serial null -kernel "$guest/vmlinuz" \
		-append "console=ttyS0"
	kill -TERM "$pid"
	sleep 0.3
	kill -0 "$pid"
	kill -TERM "$pid"
	ended life
	nothing_left life
}

@test "a name that is running is refused, and the running one lives on" {
	vm_paused life
	run vm-run -name life -S -m 128 -display none -serial null -kernel "$guest/vmlinuz" </dev/null
	[ "$status" -eq 1 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *life*running* ]] || [[ $output == *running*life* ]] || { echo "$output"; false; }
	vm-mon life info status
}

# refused PATTERN OPTIONS: one line, status 1, nothing left
refused() {
	local pattern=$1
	shift
	run timeout 60 vm-run -name bad -display none -serial null "$@" </dev/null
	[ "$status" -eq 1 ] || { echo "status $status: $output"; return 1; }
	[ "${#lines[@]}" -eq 1 ] || { echo "$output"; return 1; }
	[[ $output =~ $pattern ]] || { echo "$output"; return 1; }
	nothing_left bad
}

@test "wrong, truncated and empty kernels" {
	cd "$BATS_TEST_TMPDIR"
	echo "this is not a kernel" >text
	: >empty
	head -c 20000 "$guest/vmlinuz" >short
	head -c 300 "$guest/vmlinuz" >shorter
	refused "text: " -m 128 -kernel text
	refused "empty: " -m 128 -kernel empty
	refused "short: " -m 128 -kernel short
	refused "shorter: " -m 128 -kernel shorter
}

@test "an initrd larger than memory" {
	truncate -s 200M "$BATS_TEST_TMPDIR/big"
	refused "big: " -m 128 -kernel "$guest/vmlinuz" -initrd "$BATS_TEST_TMPDIR/big"
}

@test "no room for memory" {
	refused "memory|RAM|ram" -m 1T -kernel "$guest/vmlinuz"
}

@test "an image locked by another machine" {
	truncate -s 1M "$BATS_TEST_TMPDIR/img"
	vm_paused life -drive if=virtio,format=raw,file="$BATS_TEST_TMPDIR/img"
	refused "img: " -m 128 -kernel "$guest/vmlinuz" -drive if=virtio,format=raw,file="$BATS_TEST_TMPDIR/img"
	vm-mon life info status
}

@test "an unknown option of a part in a machine file" {
	vm-run -print -kernel "$guest/vmlinuz" </dev/null |
		sed 's/^part rtc .*/part rtc dev=rtc colour=blue/' >"$BATS_TEST_TMPDIR/m.vm"
	run vm-run -name bad "$BATS_TEST_TMPDIR/m.vm" </dev/null
	[ "$status" -eq 1 ] || [ "$status" -eq 2 ]
	[[ $output == *rtc*colour* ]]
	nothing_left bad
}

@test "-daemonize returns when ready; -pidfile names the broker and goes" {
	run vm-run -name life -S -m 128 -display none -serial null -daemonize \
		-pidfile "$BATS_TEST_TMPDIR/pid" -kernel "$guest/vmlinuz" </dev/null 3>&-
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	pid=$(cat "$BATS_TEST_TMPDIR/pid")
	started="$started $pid"
	kill -0 "$pid"
	run vm-mon life info status
	[ "$status" -eq 0 ]
	[[ $output == "VM status: paused"* ]]
	vm-mon life quit
	until_true gone "$pid"
	[ ! -e "$BATS_TEST_TMPDIR/pid" ]
	nothing_left life
}

@test "-daemonize: an error still reaches the terminal and the status" {
	echo x >"$BATS_TEST_TMPDIR/k"
	refused "k: " -daemonize -m 128 -kernel "$BATS_TEST_TMPDIR/k"
}
