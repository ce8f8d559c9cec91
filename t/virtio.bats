# virtio chips (dev/virtio*.c, disk.c, pci.c): a driver in t/unit/virtio.c,
# and what the programs say about their options and images.

load helpers

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	blk=build/libexec/vm/dev-virtio-blk
	img=$BATS_TEST_TMPDIR/img
}

teardown() {
	[ ! "$guest" ] || vm_teardown
}

@test "virtio devices: requests, broken chains, interrupts, random rings" {
	make -s build/t/virtio
	run build/t/virtio "$BATS_TEST_TMPDIR"
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "host bridge and virtio devices pass their self-test" {
	make -s $blk build/libexec/vm/dev-hostbridge \
		build/libexec/vm/dev-virtio-{rng,console,balloon}
	truncate -s 1M "$img"
	for d in hostbridge virtio-rng virtio-console virtio-balloon \
		"virtio-blk:file=$img format=raw share-rw=on"; do
		run build/libexec/vm/dev-${d%%:*} --selftest 10000 \
			$([ "${d#*:}" = "$d" ] || echo ${d#*:})
		echo "$d: $output"
		[ "$status" -eq 0 ]
	done
}

@test "an image open for writing is not opened twice" {
	truncate -s 1M "$img"
	# the self-test makes a second chip while the first has the image
	run $blk --selftest 1 format=raw file="$img"
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"dev-virtio-blk: $img: Failed to get "*" lock Is another process using the image [$img]?"* ]]
	run $blk --selftest 1 format=raw file="$img" readonly=on
	[ "$status" -eq 0 ]
	run $blk --selftest 1 format=raw file="$img" locking=off
	[ "$status" -eq 0 ]
}

@test "qemu and the block device see each other's locks" {
	command -v qemu-io >/dev/null || skip "qemu-io is not installed"
	truncate -s 1M "$img"
	coproc qemu-io -f raw "$img"
	echo "read 0 512" >&"${COPROC[1]}"
	read -r -t 20 -u "${COPROC[0]}" line || true
	run $blk --selftest 1 format=raw file="$img"
	eval "exec ${COPROC[1]}>&-"
	wait
	echo "$output"
	[[ $output == *"Is another process using the image"* ]]
}

@test "bad images and options: one line naming the object and the reason" {
	bad() {
		run $blk --selftest 1 "$@"
		echo "$output"
		[ "$status" -ne 0 ]
		[ "${#lines[@]}" -eq 1 ]
	}
	bad
	[[ $output == *"file= is missing"* ]]
	bad file="$BATS_TEST_TMPDIR/none"
	[[ $output == *"$BATS_TEST_TMPDIR/none'"*": No such file"* ]]
	bad file="$BATS_TEST_TMPDIR" readonly=on
	[[ $output == *"$BATS_TEST_TMPDIR'"*" to be a regular file"* ]]
	truncate -s 1M "$img"
	bad file="$img" format=qcow2
	[[ $output == *"$img: Image is not in qcow2 format"* ]]
	bad file="$img" format=zip
	[[ $output == *"$img: Unknown driver 'zip'"* ]]
	bad file="$img" aio=native
	[[ $output == *"aio=native"* ]]
	bad file="$img" format=raw detect-zeroes=unmap discard=ignore
	[[ $output == *"detect-zeroes=unmap needs discard=unmap"* ]]
	bad image="driver=qcow2,file.filename=$img,gears=5"
	[[ $output == *"Image is not in qcow2 format"* ]]
	bad image="driver=raw,file.filename=$img,gears=5"
	[[ $output == *"'raw' does not support the option 'gears'"* ]]
	bad file="$img" format=raw queue-size=100
	[[ $output == *"queue-size=100"* ]]
	bad file="$img" format=raw queues=65
	bad file="$img" format=raw addr=40
	[[ $output == *"addr=40"* ]]
	bad file="$img" format=raw logical_block_size=4096
	[[ $output == *"physical_block_size=512"* ]]
	bad file="$img" format=raw nonsense=1
	[[ $output == *"nonsense"* ]]
}

@test "a guest uses every device, with MSI-X and with INTx" {
	vm_setup
	head -c 16M /dev/urandom >"$img"
	local k sum
	for k in "" pci=nomsi; do
		sum=$(sha256sum <"$img" | cut -c 1-64)
		boot -m 256 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
			-drive if=none,id=d,format=raw,file="$img" \
			-device virtio-blk-pci,drive=d,num-queues=4 \
			-device virtio-rng-pci -device virtio-balloon-pci \
			-device virtio-serial-pci -device virtconsole,chardev=c \
			-chardev file,id=c,path="$BATS_TEST_TMPDIR/hvc" -- \
			quiet $k 'vm.run="sha256sum /dev/vda && echo to the console >/dev/hvc0 && dd if=/dev/hwrng bs=1k count=8 of=/dev/null && dd if=/dev/urandom of=/dev/vda bs=128k count=40 conv=fsync && sync && echo 3 >/proc/sys/vm/drop_caches && sha256sum /dev/vda && grep virtio /proc/interrupts"'
		echo "$output"
		[ "$status" -eq 0 ]
		[[ $output == *"$sum  /dev/vda"*"vm.run: 0"* ]]
		sum=$(sha256sum <"$img" | cut -c 1-64)
		[[ $output == *"$sum  /dev/vda"* ]]
		[ "$k" ] || [[ $output == *"PCI-MSI"*"virtio0-req.0"* ]]
		[ ! "$k" ] || [[ $output == *"IO-APIC"*fasteoi*virtio* ]]
		[ "$(tr -d '\r' <"$BATS_TEST_TMPDIR/hvc" | tail -n 1)" = "to the console" ]
	done
}

@test "the monitor takes memory from the guest and gives it back" {
	vm_setup
	vm_start ball -m 512 -display none -serial "file:$BATS_TEST_TMPDIR/out" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-device virtio-balloon-pci \
		-append 'console=ttyS0 quiet vm.run="echo it runs; sleep 1000"'
	until_true grep -q "it runs" "$BATS_TEST_TMPDIR/out"
	actual() { vm-mon ball info balloon | grep -q "actual=$1"; }
	actual 512
	vm-mon ball balloon 300
	until_true actual 300
	vm-mon ball balloon 512
	until_true actual 512
	vm-mon ball quit
	until_true gone "$pid"
}
