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
	build/libexec/vm/vcpu-x86_64 --help | sed -n 's/^  \([a-z]*\)=on|off .*/\1/p'
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
