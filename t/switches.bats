# Every optimisation of the translator that can be switched off (cpu/x86/jit.h):
# without it everything is as right as with it.  A fault that one of these tests
# or a guest shows is looked for by switching them off.

load helpers

setup() {
	vm_setup
}

teardown() {
	vm_teardown
}

# keys: those of the vcpu that are on or off
keys() {
	build/libexec/vm/vcpu-x86_64 --help | sed -n 's/^  \([a-z]*\)=on|off .* (default on)$/\1/p'
}

# right KEY=off...: codetest, a slice of difftest and a boot are right with them
right() {
	local list
	make -s build/t/codetest build/t/difftest
	run timeout -k 5 60 build/t/codetest "$@"
	[ "$status" -eq 0 ] || { echo "codetest $*: $output"; false; }
	run timeout -k 5 60 build/t/difftest -n 50000 "$@"
	[ "$status" -eq 0 ] || { echo "difftest $*: $output"; false; }
	list="$*"
	boot -m 256 -nic none -accel "translate${list:+,${list// /,}}" -kernel "$guest/vmlinuz" \
		-initrd "$guest/initrd.img" -- 'quiet vm.run="ls -R /sys/class | wc -l"'
	[ "$status" -eq 0 ] && [[ $output == *$'\nvm.run: 0'* ]] ||
		{ echo "boot $*: $output"; false; }
}

@test "switches: vm-run and the vcpu have the same, others are refused" {
	local k
	[ "$(keys | wc -l)" -ge 10 ]
	for k in $(keys); do
		run vm-run -print -accel "translate,$k=off" -kernel "$guest/vmlinuz"
		[ "$status" -eq 0 ] || { echo "$output"; false; }
		[[ $output == *$'\n'cpu\ *" accel=translate $k=off"$'\n'* ]]
	done
	run vm-run -print -accel translate,warp=off -kernel "$guest/vmlinuz"
	[ "$status" -eq 2 ]
	[[ $output == *"-accel: warp=off: not supported yet" ]]
	run vm-run -print -accel translate,slots=maybe -kernel "$guest/vmlinuz"
	[ "$status" -eq 2 ]
	make -s build/t/codetest
	run build/t/codetest warp=off
	[ "$status" -eq 2 ]
}

@test "switches: each off" {
	local k
	for k in $(keys); do
		right "$k=off"
	done
}

# SWITCH_SEED=N does it again with the same ones.
@test "switches: a random set off" {
	local k seed=${SWITCH_SEED:-$((RANDOM * 32768 + RANDOM))} set=()
	echo "SWITCH_SEED=$seed"
	RANDOM=$seed
	for k in $(keys); do
		[ $((RANDOM / 64 % 2)) -eq 0 ] || set+=("$k=off")
	done
	echo "off: ${set[*]}"
	right "${set[@]}"
}

@test "perfmap: names of translated code, in the guest's symbols" {
	local map symbols=$BATS_TEST_TMPDIR/symbols
	# the kernel's text in halves, where it is without KASLR
	cat >"$symbols" <<-S
	0000000000000000 A not_code
	ffffffff81400000 t upper_half
	ffffffff81000000 T lower_half
	S
	vm_start perf -m 256 -nic none -display none -serial file:"$BATS_TEST_TMPDIR/con" \
		-accel translate,perfmap=on,symbols="$symbols" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-append 'console=ttyS0 quiet nokaslr vm.run="echo up; sleep 1000"'
	until_true grep -q '^up' "$BATS_TEST_TMPDIR/con"
	map=/tmp/perf-$(cat "$dir/part/cpu/pid").map
	cp "$map" "$BATS_TEST_TMPDIR/map"
	# it begins anew with the translation cache
	vm-mon perf ask cpu jit flush
	[ "$(wc -l <"$map")" -lt "$(wc -l <"$BATS_TEST_TMPDIR/map")" ]
	grep -q 'vcpu: misses' "$map"
	vm-mon perf quit
	wait "$pid" || true
	rm "$map"
	map=$BATS_TEST_TMPDIR/map
	run grep -vE '^[0-9a-f]+ [0-9a-f]+ ((lower_half|upper_half|guest [0-9a-f]+)( \(cold\))?|vcpu: [a-z ]+)$' "$map"
	[ -z "$output" ] || { printf '%s\n' "${lines[@]:0:5}"; false; }
	grep -q ' lower_half$' "$map"
	grep -q ' upper_half$' "$map"
	grep -q ' guest 4[0-9a-f]*$' "$map"
	# no two blocks overlap
	perl -lane 'print "$F[0] $F[1]"' "$map" | sort | perl -ane '
		my ($a, $n) = (hex $F[0], hex $F[1]);
		die "$_" if $a < ($end // 0) || $n == 0; $end = $a + $n'
}

@test "perfmap: symbols that are none, and symbols alone, are refused" {
	: >"$BATS_TEST_TMPDIR/empty"
	run vm-run -accel "translate,perfmap=on,symbols=$BATS_TEST_TMPDIR/empty" \
		-display none -serial null -kernel "$guest/vmlinuz"
	[ "$status" -ne 0 ]
	[[ $output == *"/empty: Invalid argument"* ]]
	run vm-run -accel "translate,symbols=$BATS_TEST_TMPDIR/none" \
		-kernel "$guest/vmlinuz"
	[ "$status" -eq 1 ]
	[[ $output == *"-accel symbols $BATS_TEST_TMPDIR/none: no such file"* ]]
	run vm-run -accel "translate,symbols=$BATS_TEST_TMPDIR/empty" \
		-display none -serial null -kernel "$guest/vmlinuz"
	[ "$status" -ne 0 ]
	[[ $output == *"only with perfmap=on"* ]]
}

@test "info jit and stat: why blocks are left" {
	local key
	vm_start count -m 256 -nic none -display none -serial file:"$BATS_TEST_TMPDIR/con" \
		-smp 2 -accel translate,chain=off,runs=off,count=on \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-append 'console=ttyS0 quiet vm.run="echo up; sleep 1000"'
	until_true grep -q '^up' "$BATS_TEST_TMPDIR/con"
	run vm-mon count info jit
	[ "$status" -eq 0 ]
	printf '%s\n' "$output"
	[ "$(printf '%s\n' "$output" | grep '^switched off' | tr -s ' \n' ' ')" = \
		"switched off chain switched off runs " ]
	printf '%s\n' "$output" | grep -qE '^linked +0 jumps$'
	for key in 'run loop' interrupts exceptions halts 'jump cache miss' \
	    'slots refilled' 'TLB misses' 'TLB fills' 'slow accesses' helpers \
	    '  stosq' '  cpu' '  uart0'; do
		printf '%s\n' "$output" | grep -qE "^$key +[1-9][0-9]*$" ||
			{ echo "no $key"; false; }
	done
	for key in slot TLB; do
		printf '%s\n' "$output" | grep -qE "^$key hits +[0-9]+ per mille of [1-9][0-9]*$"
	done
	# the ten lines of instructions come with the greatest first
	printf '%s\n' "$output" | sed -n '/^helpers/,/^accesses/s/^  [a-z].* //p' | sort -rnc
	run vm-mon count stat
	[ "$status" -eq 0 ]
	[[ ${lines[-3]} == vcpu*loop/s*irq/s*refill/s*new/s ]]
	[[ ${lines[-2]} =~ ^0(\ +[0-9]+){10}$ && ${lines[-1]} =~ ^1(\ +[0-9]+){10}$ ]]
	vm-mon count quit
	wait "$pid"
}
