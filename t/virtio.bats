# virtio chips (dev/virtio*.c, rawimage.c, pci.c): a driver in t/unit/virtio.c,
# and what the programs say about their options and images.

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	blk=build/libexec/vm/dev-virtio-blk
	img=$BATS_TEST_TMPDIR/img
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
		"virtio-blk:file=$img share-rw=on"; do
		run build/libexec/vm/dev-${d%%:*} --selftest 10000 \
			$([ "${d#*:}" = "$d" ] || echo ${d#*:})
		echo "$d: $output"
		[ "$status" -eq 0 ]
	done
}

@test "an image open for writing is not opened twice" {
	truncate -s 1M "$img"
	# the self-test makes a second chip while the first has the image
	run $blk --selftest 1 file="$img"
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"dev-virtio-blk: $img: locked by another process"* ]]
	run $blk --selftest 1 file="$img" readonly=on
	[ "$status" -eq 0 ]
	run $blk --selftest 1 file="$img" locking=off
	[ "$status" -eq 0 ]
}

@test "qemu and the block device see each other's locks" {
	command -v qemu-io >/dev/null || skip "qemu-io is not installed"
	truncate -s 1M "$img"
	coproc qemu-io -f raw "$img"
	echo "read 0 512" >&"${COPROC[1]}"
	read -r -t 20 -u "${COPROC[0]}" line || true
	run $blk --selftest 1 file="$img"
	eval "exec ${COPROC[1]}>&-"
	wait
	echo "$output"
	[[ $output == *"locked by another process"* ]]
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
	[[ $output == *"$BATS_TEST_TMPDIR/none: No such file"* ]]
	bad file="$BATS_TEST_TMPDIR" readonly=on
	[[ $output == *"$BATS_TEST_TMPDIR: is neither a file nor"* ]]
	truncate -s 1M "$img"
	bad file="$img" format=qcow2
	[[ $output == *"format=qcow2"* ]]
	bad file="$img" queue-size=100
	[[ $output == *"queue-size=100"* ]]
	bad file="$img" queues=65
	bad file="$img" addr=40
	[[ $output == *"addr=40"* ]]
	bad file="$img" logical_block_size=4096
	[[ $output == *"physical_block_size=512"* ]]
	bad file="$img" nonsense=1
	[[ $output == *"nonsense"* ]]
}
