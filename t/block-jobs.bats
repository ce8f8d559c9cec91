# What a running machine's disks do beside serving the guest: stopping on errors,
# snapshots and block jobs.  Real guests write meanwhile, and the peer's check,
# compare and convert say what is in the images.

load helpers

setup() {
	vm_setup
	command -v qemu-img >/dev/null || skip "qemu-img is not installed"
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR"
	cd "$BATS_TEST_TMPDIR"
	full=
}

teardown() {
	vm_teardown
	[ ! "$full" ] || umount "$full"
}

# start NAME OPTIONS -- COMMANDS: the guest runs them, its console is file NAME
start() {
	local name=$1 opts=() k
	shift
	while [ "$1" != -- ]; do opts+=("$1"); shift; done
	k=$2
	vm_start "$name" -m 256 -display none -serial "file:$PWD/$name" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" "${opts[@]}" \
		-append "console=ttyS0 quiet vm.run=\"$k\""
}

content() {
	qemu-img convert -U -f "$1" -O raw "$2" .raw
	sha256sum <.raw | cut -c 1-64
}

# seen FILE WORD: a line of a guest's console
seen() {
	until_true grep -q "$2" "$1" || { cat "$1"; return 1; }
}

status_is() {
	[ "$(vm-mon "$1" info status)" = "VM status: $2" ]
}

mon() {
	run vm-mon m "$@"
	echo "$* -> $status: $output"
}

@test "a full host disk stops the machine; cont goes on and nothing is lost" {
	full=$PWD/full
	mkdir full
	mount -t tmpfs -o size=40m tmpfs full 2>/dev/null || {
		full=
		skip "no tmpfs can be mounted"
	}
	truncate -s 32M full/raw
	qemu-img create -q -f qcow2 full/q 32M
	head -c 36M /dev/zero >full/other
	start m -drive if=virtio,file=full/raw,format=raw,id=r \
		-drive if=virtio,file=full/q,format=qcow2,id=q -- \
		'for d in vda vdb; do dd if=/dev/urandom of=/dev/$d bs=64k seek=9 count=160 & done; wait; sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/vda /dev/vdb; dmesg | grep [I]/O'
	until_true status_is m "paused (io-error)"
	# not enough: it stops again
	head -c 30M /dev/zero >full/other
	vm-mon m cont
	until_true status_is m "paused (io-error)"
	rm full/other
	vm-mon m cont
	until_true gone "$pid"
	seen m "$(content raw full/raw)  /dev/vda"
	seen m "$(content qcow2 full/q)  /dev/vdb"
	qemu-img check full/q
	! grep -q 'I/O error' m
}

@test "rerror=stop, werror=report and ignore on a server that fails at times" {
	local S=$PWD/s
	command -v nbdkit >/dev/null || skip "nbdkit is not installed"
	head -c 8M /dev/urandom >data
	nbdkit -f -U "$S" --filter=error file data error-file="$PWD/fail" \
		error=EIO error-pread-rate=100% error-pwrite-rate=100% 3>&- &
	started="$started $!"
	until_true test -S "$S"
	start m -drive "if=virtio,file=nbd:unix:$S,format=raw,id=d,rerror=stop,werror=report" -- \
		'echo up; read x </dev/vda; until dd if=/dev/vda of=/dev/null skip=4 count=1 2>/dev/null; [ -e /tmp/n ]; do sleep 0.2; echo 3 >/proc/sys/vm/drop_caches; [ $((n = n + 1)) != 9 ] || : >/tmp/n; done; sha256sum /dev/vda; echo asked'
	seen m up
	touch fail
	until_true status_is m "paused (io-error)"
	vm-mon m cont
	until_true status_is m "paused (io-error)"
	rm fail
	vm-mon m cont
	until_true gone "$pid"
	seen m "$(sha256sum <data | cut -c 1-64)  /dev/vda"
	# a reset drops what was kept; werror=report tells the guest
	touch fail
	start m -drive "if=virtio,file=nbd:unix:$S,format=raw,id=d,rerror=report,werror=stop" -S -- \
		'dd if=/dev/vda of=/dev/null count=1; echo read $?; dd if=/dev/zero of=/dev/vda bs=4k count=1; sync; echo synced'
	vm-mon m cont
	seen m "read 1"
	until_true status_is m "paused (io-error)"
	rm fail
	vm-mon m system_reset
	vm-mon m cont
	seen m "read 0"
	seen m synced
}
