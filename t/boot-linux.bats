# Stock Debian kernels boot to busybox by -kernel/-initrd and say nothing wrong.

load helpers

setup() {
	vm_setup
}

teardown() {
	vm_teardown
}

look='cat /proc/cpuinfo /proc/interrupts; for d in /sys/bus/pci/devices/*; do echo pci ${d##*/} $(cat $d/vendor $d/device $d/class); done; echo mem $(sed -n s/^MemTotal://p /proc/meminfo); echo clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource); uname -r'

@test "cloud kernel: cpuinfo, interrupts, PCI, clean dmesg, poweroff" {
	boot -m 512 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-device virtio-rng-pci -device virtio-balloon-pci -- "vm.run=\"$look\""
	[ "$status" -eq 0 ]
	seen '^vm.init: running$'
	seen '^vm.run: 0$'
	seen '^processor.*: 0$'
	seen '^flags.*\bsse2\b.*\bnx\b'
	seen '^ *LOC:'
	seen '^pci 0000:00:00.0 0x8086 0x1237 0x060000$'
	seen '^pci 0000:00:01.0 0x8086 0x7000 0x060100$'
	seen '^pci 0000:00:01.3 0x8086 0x7113 0x068000$'
	seen '^pci 0000:00:[0-9a-f.]+ 0x1af4 0x1044 '
	seen '^pci 0000:00:[0-9a-f.]+ 0x1af4 0x1045 '
	seen '^clock tsc$'
	quiet_kernel
}

@test "cloud kernel with 128 MiB" {
	boot -m 128 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- "vm.run=\"$look\""
	[ "$status" -eq 0 ]
	seen '^vm.run: 0$'
	seen '^mem [0-9]+ kB$'
	quiet_kernel
}

@test "cloud kernel with 6 GiB" {
	local host
	host=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
	[ "$host" -gt 7000000 ] || skip "the host has not 7 GB of memory to spare"
	boot -m 6G -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- \
		"vm.run=\"$look; dd if=/dev/zero of=/tmp/f bs=1M count=1500 && md5sum /tmp/f\""
	[ "$status" -eq 0 ]
	seen '^mem (5[5-9]|6[0-9])[0-9]{5} kB$'
	# 1500 MiB of zeros
	seen "^$(head -c 1572864000 /dev/zero | md5sum | cut -c 1-32)  /tmp/f"
	quiet_kernel
}

@test "amd64 kernel" {
	boot -m 512 -kernel "$guest/amd64-vmlinuz" -initrd "$guest/amd64-initrd.img" -- "vm.run=\"$look\""
	[ "$status" -eq 0 ]
	seen '^vm.run: 0$'
	seen '-amd64$'
	quiet_kernel
}

@test "i386 686 kernel" {
	boot -m 512 -kernel "$guest/686-vmlinuz" -initrd "$guest/686-initrd.img" -- "vm.run=\"$look\""
	[ "$status" -eq 0 ]
	seen '^vm.run: 0$'
	seen '-686$'
	quiet_kernel
}

@test "no process needs what its sandbox forbids" {
	truncate -s 1M "$BATS_TEST_TMPDIR/d"
	VM_SANDBOX=kill boot -m 256 -smp 2 -drive if=virtio,format=raw,file="$BATS_TEST_TMPDIR/d" \
		-device virtio-rng-pci -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- quiet \
		'vm.run="ip link; dd if=/dev/vda of=/dev/null"'
	[ "$status" -eq 0 ]
	seen '^vm.run: 0$'
}

@test "two processors" {
	boot -m 512 -smp 2 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- \
		'vm.run="nproc; cat /proc/interrupts"'
	[ "$status" -eq 0 ]
	seen '^2$'
	quiet_kernel
}

@test "four processors: a socket of two cores of two threads" {
	boot -m 512 -smp 4,sockets=1,cores=2,threads=2 -kernel "$guest/vmlinuz" \
		-initrd "$guest/initrd.img" -- \
		'vm.run="cd /sys/devices/system/cpu; for c in cpu[0-9]*; do echo $c $(cat $c/topology/physical_package_id $c/topology/core_id $c/topology/thread_siblings_list $c/topology/core_siblings_list $c/cache/index0/shared_cpu_list $c/cache/index3/shared_cpu_list); done; grep -E apicid\|siblings\|cores /proc/cpuinfo | sort | uniq -c; dmesg | grep smp:"'
	[ "$status" -eq 0 ]
	seen '^cpu0 0 0 0-1 0-3 0-1 0-3$'
	seen '^cpu1 0 0 0-1 0-3 0-1 0-3$'
	seen '^cpu2 0 1 2-3 0-3 2-3 0-3$'
	seen '^cpu3 0 1 2-3 0-3 2-3 0-3$'
	seen ' 4 siblings.*: 4$'
	seen ' 4 cpu cores.*: 2$'
	quiet_kernel
}

@test "four processors: two sockets" {
	boot -m 512 -smp 4,sockets=2 -kernel "$guest/vmlinuz" \
		-initrd "$guest/initrd.img" -- \
		'vm.run="cd /sys/devices/system/cpu; for c in cpu[0-9]*; do echo $c $(cat $c/topology/physical_package_id $c/topology/core_id $c/topology/thread_siblings_list $c/topology/core_siblings_list); done"'
	[ "$status" -eq 0 ]
	seen '^cpu1 0 1 1 0-1$'
	seen '^cpu2 1 0 2 2-3$'
	quiet_kernel
}

@test "six processors: sockets of three cores, with gaps between their APIC IDs" {
	boot -m 512 -smp 6,sockets=2,cores=3 -kernel "$guest/vmlinuz" \
		-initrd "$guest/initrd.img" -- \
		'vm.run="cd /sys/devices/system/cpu; for c in cpu[0-9]*; do echo $c $(cat $c/topology/physical_package_id $c/topology/core_id $c/topology/core_siblings_list); done; grep ^apicid /proc/cpuinfo | tr -dc 0-9; echo; taskset 20 true; cat /proc/interrupts"'
	[ "$status" -eq 0 ]
	seen '^cpu2 0 2 0-2$'
	seen '^cpu5 1 2 3-5$'
	seen '^012456$'
	quiet_kernel
}

@test "reboot -f with -no-reboot ends with 0" {
	boot -m 256 -no-reboot -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- quiet vm.reboot vm.run=true
	[ "$status" -eq 0 ]
	seen '^vm.run: 0$'
}

@test "a reset boots again" {
	# the second time round the disk says so
	truncate -s 1M "$BATS_TEST_TMPDIR/d"
	boot -m 256 -drive if=virtio,format=raw,file="$BATS_TEST_TMPDIR/d" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- quiet \
		'vm.run="grep -q again /dev/vda && poweroff -f; echo again >/dev/vda; sync; reboot -f"'
	[ "$status" -eq 0 ]
	[ "$(printf '%s\n' "$output" | grep -c '^vm.init: running$')" -eq 2 ]
}

@test "a stock kernel's panic has a status of its own" {
	local k
	for k in '' amd64- 686-; do
		boot -m 256 -kernel "$guest/${k}vmlinuz" \
			-initrd "$guest/${k}initrd.img" -- quiet \
			'vm.run="echo c >/proc/sysrq-trigger"'
		[ "$status" -eq 3 ]
		seen 'Kernel panic'
	done
}

@test "a panic that ends in a triple fault has a status of its own" {
	boot -m 256 -no-reboot -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- \
		quiet panic=-1 reboot=t 'vm.run="echo c >/proc/sysrq-trigger"'
	[ "$status" -eq 3 ]
	seen 'Kernel panic'
}

@test "a virtio disk: what the guest writes is in the image, and the other way" {
	local img=$BATS_TEST_TMPDIR/disk sum
	head -c 8M /dev/urandom >"$img"
	sum=$(md5sum <"$img" | cut -c 1-32)
	boot -m 256 -drive if=virtio,format=raw,file="$img",serial=abc123 \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- quiet \
		'vm.run="cat /sys/block/vda/serial; echo; md5sum /dev/vda; dd if=/dev/zero of=/dev/vda bs=4k seek=16 count=1; sync"'
	[ "$status" -eq 0 ]
	seen '^abc123$'
	seen "^$sum  /dev/vda"
	[ "$(dd if="$img" bs=4k skip=16 count=1 2>/dev/null | tr -d '\0' | wc -c)" -eq 0 ]
	[ "$(stat -c %s "$img")" -eq 8388608 ]
}
