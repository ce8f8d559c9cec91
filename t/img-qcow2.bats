# The same random script through qemu-io on one copy and vm-io on another:
# equal content, clean checks by both tools, with backing images, snapshots,
# discard and every table width in the mix.
load img-peer.bash
setup() { peer_setup; }

# rounds SEED CREATE-OPTIONS [BACKING]
rounds() {
	local seed=$1 opts=$2 back=$3 size=3145728 r i k off len cmds f
	RANDOM=$seed
	cd "$BATS_TEST_TMPDIR"
	for f in p o; do
		bk=
		if [ -n "$back" ]; then
			qemu-img create -q -f qcow2 $f.b 2M
			qemu-io -c "write -q -P 200 0 1M" \
			    -c "write -q -P 201 1100000 7777" $f.b
			bk="-b $f.b -F qcow2"
		fi
		tool=qemu-img; [ $f = p ] || tool="$B/vm-img"
		$tool create -q -f qcow2 ${opts:+-o "${opts//FILE/$f}"} $bk \
		    $f.q $size
	done
	for r in 1 2 3; do
		cmds=()
		for i in $(seq 40); do
			off=$(((RANDOM * 32768 + RANDOM) % size))
			len=$(((RANDOM * 32768 + RANDOM) % 100000 + 1))
			case $((RANDOM % 3)) in
			0) off=$((off / 512 * 512)) len=$((len / 512 * 512 + 512)) ;;
			1) off=$((off / 65536 * 65536)) len=65536 ;;
			esac
			[ $((off + len)) -le $size ] || len=$((size - off))
			case $((RANDOM % 9)) in
			0) k="write -z" ;;
			1) k="write -z -u" ;;
			2) k=discard ;;
			*) k="write -P $((RANDOM % 256))" ;;
			esac
			cmds+=(-c "$k -q $off $len")
		done
		qemu-io -t unsafe -d unmap "${cmds[@]}" p.q
		"$B/vm-io" -t unsafe -d unmap "${cmds[@]}" o.q
		case $opts in *data_file*|*refcount_bits=1) ;; *)
			case $r in
			1) a="-c s1" ;; 2) a="-a s1" ;; 3) a="-d s1" ;;
			esac
			qemu-img snapshot $a p.q
			"$B/vm-img" snapshot $a o.q ;;
		esac
		qemu-img check -q o.q
		"$B/vm-img" check -q p.q
		"$B/vm-img" check -q o.q
		qemu-img compare -q p.q o.q
		"$B/vm-img" compare -q p.q o.q
	done
}

@test "plain" { rounds 1 ""; }
@test "backing image" { rounds 2 "" b; }
@test "4 KiB clusters, backing" { rounds 3 cluster_size=4k b; }
@test "512-byte clusters" { rounds 4 cluster_size=512; }
@test "2 MiB clusters, backing" { rounds 5 cluster_size=2M b; }
@test "version 2, backing" { rounds 6 compat=0.10 b; }
@test "extended L2, backing" { rounds 7 extended_l2=on b; }
@test "extended L2, 16 KiB clusters" { rounds 8 extended_l2=on,cluster_size=16k; }
@test "1-bit refcounts" { rounds 9 refcount_bits=1; }
@test "64-bit refcounts, 1 KiB clusters" { rounds 10 refcount_bits=64,cluster_size=1k b; }
@test "lazy refcounts" { rounds 11 lazy_refcounts=on; }
@test "external data file" { rounds 12 data_file=ext.FILE; }

@test "compressed both ways, zlib and zstd" {
	cd "$BATS_TEST_TMPDIR"
	head -c 3000000 /dev/urandom > r
	yes "some text that compresses" | head -c 4000000 >> r
	truncate -s 10M r
	for z in zlib zstd; do
		"$B/vm-img" convert -c -f raw -O qcow2 -o compression_type=$z r o.q
		qemu-img convert -c -f raw -O qcow2 -o compression_type=$z r p.q
		qemu-img check -q o.q
		qemu-img compare -q -f raw -F qcow2 r o.q
		"$B/vm-img" compare -q -f raw -F qcow2 r p.q
		"$B/vm-img" check -q p.q
	done
}

@test "bitmaps follow writes, both ways" {
	cd "$BATS_TEST_TMPDIR"
	qemu-img create -q -f qcow2 p.q 4M
	qemu-img bitmap --add p.q b0
	"$B/vm-img" create -q -f qcow2 o.q 4M
	"$B/vm-img" bitmap --add o.q b0
	for i in 1 2; do
		"$B/vm-io" -c "write -q 1M 100k" p.q
		qemu-io -c "write -q 1M 100k" o.q
		"$B/vm-io" -c "write -q 3M 1" o.q
		qemu-io -c "write -q 3M 1" p.q
	done
	for q in p.q o.q; do
		qemu-img check -q $q
		"$B/vm-img" check -q $q
		qemu-img info $q | grep -q "name: b0"
		! qemu-img info $q | grep -q in-use
	done
	# merged into a third image they are the same
	qemu-img create -q -f qcow2 m.q 4M
	"$B/vm-img" bitmap --add --merge b0 -b p.q -F qcow2 m.q x
	qemu-img bitmap --add --merge b0 -b o.q -F qcow2 m.q y
	qemu-img check -q m.q
}

@test "repair: leaks, and a dirty image" {
	cd "$BATS_TEST_TMPDIR"
	"$B/vm-img" create -q -f qcow2 o.q 4M
	"$B/vm-io" -c "write -q 0 1M" o.q
	# drop one L2 entry: its cluster leaks
	printf '\0\0\0\0\0\0\0\0' | dd of=o.q bs=1 seek=262144 conv=notrunc status=none
	run "$B/vm-img" check o.q
	[ "$status" -eq 3 ]
	cp o.q p.q
	run qemu-img check -r leaks p.q
	a=$(printf '%s\n' "$output" | sed 's/qemu-img/X/')
	run "$B/vm-img" check -r leaks o.q
	[ "$status" -eq 0 ]
	[ "$a" = "$(printf '%s\n' "$output" | sed 's/vm-img/X/')" ]
	qemu-img check -q o.q
}

@test "locks: QEMU keeps us out, we keep QEMU out, -U looks anyway" {
	cd "$BATS_TEST_TMPDIR"
	"$B/vm-img" create -q -f qcow2 o.q 4M
	hold() {		# TOOL: holds o.q open until fd 8 closes
		mkfifo f.$1
		"$2" o.q < f.$1 >/dev/null 2>&1 3>&- &
		exec 8> f.$1
		until grep -q ":$(stat -c %i o.q) " /proc/locks; do :; done
	}
	hold a qemu-io
	run "$B/vm-img" info o.q
	[ "$status" -eq 1 ]
	[[ "$output" == *'Failed to get shared "write" lock'* ]]
	"$B/vm-img" info -U o.q
	exec 8>&-; wait
	hold b "$B/vm-io"
	run qemu-img info o.q
	[ "$status" -eq 1 ]
	run qemu-io -c "write 0 1" o.q
	[ "$status" -eq 1 ]
	exec 8>&-; wait
	qemu-img info o.q
}

@test "tables longer than what one refcount block counts" {
	cd "$BATS_TEST_TMPDIR"
	for o in cluster_size=512 cluster_size=512,refcount_bits=64; do
		"$B/vm-img" create -q -f qcow2 -o $o i 2G
		"$B/vm-io" -c "write -q -P 3 1G 1M" -c "write -q -P 4 2047M 1M" i
		qemu-img check -q i
		qemu-io -c "read -P 3 1G 1M" -c "read -P 4 2047M 1M" i
		[ "$(stat -c %s i)" -lt 10000000 ]
	done
}

@test "a snapshot that cannot be deleted is still there, once" {
	cd "$BATS_TEST_TMPDIR"
	qemu-img create -q -f qcow2 -o cluster_size=4k s 1M
	qemu-io -c "write -q 0 64k" s
	qemu-img snapshot -c a s
	qemu-img snapshot -c b s
	table=$(od -An -tu8 --endian=big -j 64 -N 8 s)
	counts=$(od -An -tu8 --endian=big -j 48 -N 8 s)
	# the second has 8 bytes more than we know; no counts can be changed
	printf '\0\0\0\040' | dd of=s bs=1 seek=$((table + 72 + 36)) conv=notrunc status=none
	printf '\042' | dd of=s bs=1 seek=$((counts + 6)) conv=notrunc status=none
	run "$B/vm-img" snapshot -d a s
	[ "$status" -eq 1 ]
	[ "$output" = "vm-img: Could not delete snapshot 'a': Input/output error" ]
}
