# Limits of bytes and requests a second, of an image and of a machine's disk.
load helpers

setup() {
	vm_setup
	B="$top/build/bin"
	cd "$BATS_TEST_TMPDIR"
	truncate -s 64M r
}
teardown() { vm_teardown; }

# takes MIN MAX COMMAND...: seconds in tenths
takes() {
	local min=$1 max=$2 t
	shift 2
	t=$(date +%s%N)
	"$@"
	t=$((($(date +%s%N) - t) / 100000000))
	[ $t -ge $min ] && [ $t -le $max ] || { echo "$t tenths: $*"; return 1; }
}
io() {
	local o=$1 c=() w
	shift
	for w; do c+=(-c "$w"); done
	"$B/vm-io" "${c[@]}" --image-opts "driver=raw,file.filename=r,$o"
}

@test "bytes and requests, together and apart, with bursts" {
	# the first fills the bucket, the next waits until it has leaked
	takes 16 60 io throttling.bps-total=2M "read -q 0 4M" "read -q 0 1k"
	takes 16 60 io throttling.bps-write=2M "write -q 0 4M" "write -q 0 1k"
	takes 0 14 io throttling.bps-write=2M "read -q 0 4M" "read -q 0 1k"
	takes 0 14 io throttling.bps-read=2M "write -q 0 4M" "write -q 0 1k"
	takes 7 40 io throttling.iops-total=4 "read -q 0 1" "read -q 0 1" \
		"write -q 0 1" "write -q 0 1" "read -q 0 1"
	takes 16 60 io throttling.iops-total=4,throttling.iops-size=4k \
		"read -q 0 32k" "read -q 0 1"
	# a burst is not held up
	takes 0 14 io throttling.bps-total=1M,throttling.bps-total-max=8M \
		"read -q 0 4M" "read -q 0 4M" "read -q 0 1k"
	takes 0 14 io throttling.bps-total=1M,throttling.bps-total-max=8M,throttling.bps-total-max-length=4 \
		"read -q 0 512k" "read -q 0 1k"
	takes 4 30 io throttling.bps-total=1M,throttling.bps-total-max=8M,throttling.bps-total-max-length=4 \
		"read -q 0 8M" "read -q 0 1k"
}

@test "limits that make no sense" {
	for o in bps-total=1k,throttling.bps-read=1k bps-total-max=1M foo=1 group=g \
	    bps-total=2M,throttling.bps-total-max=1M bps-total=x \
	    bps-total=1,throttling.bps-total-max-length=3 \
	    bps-total=1,throttling.bps-total-max=2,throttling.bps-total-max-length=0 \
	    bps-total=99999999999999999; do
		run "$B/vm-img" info --image-opts "driver=raw,file.filename=r,throttling.$o"
		[ "$status" -eq 1 ]
		[[ ${lines[0]} == "vm-img: Could not open "* ]]
	done
	for o in throttling.group=g bps=x iops_foo=1; do
		run vm-run -m 64 -kernel /dev/null -drive if=virtio,file=r,format=raw,$o
		[ "$status" -ne 0 ]
	done
}

@test "a machine's disk" {
	vm-run -print -m 64 -kernel /dev/null \
		-drive if=virtio,file=r,format=raw,bps_rd=1M,bps_rd_max=2M,bps_rd_max_length=3,throttling.iops-write=7,iops_size=4k \
		>out 2>&1 || true
	grep -q 'throttle=bps-read=1M,bps-read-max=2M,bps-read-max-length=3,iops-write=7,iops-size=4k' out
	boot -m 256 -kernel "$top/build/guest/vmlinuz" \
		-initrd "$top/build/guest/initrd.img" \
		-drive if=virtio,file=r,format=raw,bps=4M -- quiet \
		"vm.run=\"time dd if=/dev/vda of=/dev/null bs=1M count=12 iflag=direct\""
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output =~ real[^0-9]*([0-9]+)m[^0-9]*([0-9]+) ]]
	[ $((${BASH_REMATCH[1]} * 60 + ${BASH_REMATCH[2]})) -ge 2 ]
}
