# The x86 vcpu's instructions in C by the manual's rules (SDM volumes 2 and 3A),
# one at a time on a vcpu without a machine: cpu/x86/*.c.

vectors() {
	make -s "build/t/$1"
	run "build/t/$1"
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "paging and segmentation" {
	vectors x86mem
}

@test "exceptions, far transfers and tasks" {
	vectors x86sem
}

@test "strings, stack, system instructions, ports, debugging, CPUID" {
	vectors x86exec
}
