#!/usr/bin/env bats
# Boot loaders (mem/linux.c elf.c multiboot.c bios16.c): placed structures,
# hostile images, and the protocols that t/boot-linux.bats does not use.

load helpers

setup() {
	cd "$BATS_TEST_DIRNAME/.."
}

teardown() {
	[ ! "$guest" ] || vm_teardown
}

@test "boot loaders: register state, structures, truncated and hostile images" {
	mkdir -p "$BATS_TEST_TMPDIR/t"
	make -s build/t/bootload
	run build/t/bootload "$BATS_TEST_TMPDIR/t"
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = ok ]
}

# entry BITS: the cloud kernel from a machine file that forces its entry
entry() {
	vm-run -print -nographic -m 256 -kernel "$guest/vmlinuz" \
		-initrd "$guest/initrd.img" \
		-append 'console=ttyS0 quiet vm.run="uname -r; grep -c System.RAM /proc/iomem"' \
		>"$BATS_TEST_TMPDIR/m.vm"
	echo "boot entry=$1" >>"$BATS_TEST_TMPDIR/m.vm"
	run timeout 120 vm-run "$BATS_TEST_TMPDIR/m.vm" </dev/null
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == *"vm.run: 0"* ]]
}

@test "bzImage by its 32-bit entry" {
	vm_setup
	entry 32
}

@test "bzImage by its 16-bit entry" {
	vm_setup
	entry 16
}

# unpack BZIMAGE: the ELF kernel in it (payload_offset, payload_length)
unpack() {
	local k=$1 sects off len
	sects=$(od -An -tu1 -j 497 -N1 "$k")
	off=$(od -An -tu4 -j 584 -N4 "$k")
	len=$(od -An -tu4 -j 588 -N4 "$k")
	tail -c +$(((sects + 1) * 512 + off + 1)) "$k" |
		head -c $((len - 4)) >"$BATS_TEST_TMPDIR/payload"
	xz -dc "$BATS_TEST_TMPDIR/payload" 2>/dev/null ||
		lz4 -dc "$BATS_TEST_TMPDIR/payload" 2>/dev/null ||
		zstd -dc "$BATS_TEST_TMPDIR/payload" 2>/dev/null
}

@test "ELF kernel by PVH" {
	vm_setup
	unpack "$guest/amd64-vmlinuz" >"$BATS_TEST_TMPDIR/vmlinux"
	[ -s "$BATS_TEST_TMPDIR/vmlinux" ] || {
		[ ! "$CI" ]
		skip "nothing that unpacks this kernel"
	}
	boot -m 256 -kernel "$BATS_TEST_TMPDIR/vmlinux" \
		-initrd "$guest/amd64-initrd.img" -- \
		'quiet vm.run="dmesg | grep RSDP; cat /proc/cmdline"'
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == *"RSDP 0x00000000000F0000"*"console=ttyS0 quiet"*"vm.run: 0"* ]]
}

@test "multiboot kernel with modules" {
	vm_setup
	local t=$BATS_TEST_TMPDIR
	${CC:-cc} -m32 -O1 -ffreestanding -fno-pic -fno-stack-protector \
		-fcf-protection=none -mno-sse -nostdlib -static \
		-Wl,-melf_i386,-Ttext=0x101000,--section-start=.multiboot=0x100000 \
		-Wl,-n,--build-id=none,-z,noexecstack \
		-o "$t/kernel" t/guest/multiboot.c
	printf 'first module' >"$t/one"
	printf 'the second' >"$t/two"
	run timeout 60 vm-run -nographic -m 64 -kernel "$t/kernel" \
		-append 'some words' -initrd "$t/one a b,$t/two" </dev/null
	echo "$output"
	output=${output//$'\r'/}
	[ "$status" -eq 0 ]
	[[ $output == *"magic 0x2badb002 protected"* ]]
	[[ $output == *"flags 0x0000004d"* ]]
	[[ $output == *"cmdline $t/kernel some words"* ]]
	[[ $output == *"module $t/one a b: first module"* ]]
	[[ $output == *"module $t/two: the second"* ]]
	# 64 MiB without the BIOS's part and the tables'
	[[ $output == *"ram 0x0000fdff"* || $output == *"ram 0x0000ff"* ]]
}

# refused ARGS: vm-run ends with 1 and one line
refused() {
	run timeout 60 vm-run -nographic "$@" </dev/null
	echo "$output"
	[ "$status" -eq 1 ]
	[ "${#lines[@]}" -eq 1 ]
}

@test "bad kernels and initrds: one line naming the file, status 1" {
	vm_setup
	local t=$BATS_TEST_TMPDIR
	head -c 1000 "$guest/vmlinuz" >"$t/short"
	refused -m 256 -kernel "$t/short"
	[[ $output == *"$t/short: truncated bzImage"* ]]
	head -c 100000 /dev/zero >"$t/zeros"
	refused -m 256 -kernel "$t/zeros"
	[[ $output == *"$t/zeros: is not a kernel"* ]]
	truncate -s 300M "$t/big"
	refused -m 256 -kernel "$guest/vmlinuz" -initrd "$t/big"
	[[ $output == *"$t/big: "*"do not fit"* ]]
	refused -m 16 -kernel "$guest/vmlinuz"
	[[ $output == *"vmlinuz: needs memory"* ]]
}
