# The other formats beside the peer: same words, same guest content, and
# each tool reads what the other wrote.
load img-peer.bash
setup() { peer_setup; }

# The content id of a VMDK is random.
peer_norm() {
	sed -E -e 's/(vm|qemu)-(img|io)/X-\2/g' \
	    -e 's/^(disk size:|    "actual-size":) .*/\1/' \
	    -e 's/( *"?(parent )?cid"?:) [0-9]+/\1 N/' \
	    -e 's/[0-9.]+ sec \(.*/T/' "$@"
}

same_map() { same img map "$@"; }

# kind FORMAT [OPTIONS]
kind() {
	local f=$1 o=$2
	same img create -f $f ${o:+-o $o} x 10M
	same img info -f $f x
	same img info -f $f --output=json x
	same img check -f $f x
	same img check -f $f --output=json x
	same_map -f $f --output=json x
	same img create -f $f -o help
	both qemu-io -f $f -c "write -P 1 100k 300k" -c "write -P 3 7M 1k" \
	    -c "write -z 8M 512k" x
	same img info -f $f x
	same img check -f $f x
	same_map -f $f x
	same_map -f $f --output=json x
	same img snapshot -l x
	(cd "$P" && qemu-io -f $f -c "write -q -P 9 200k 3M" \
	    -c "write -q -P 5 9M 777" -c "write -q -z 1M 1M" x)
	(cd "$O" && "$B/vm-io" -f $f -c "write -q -P 9 200k 3M" \
	    -c "write -q -P 5 9M 777" -c "write -q -z 1M 1M" x)
	qemu-img compare -f $f -F $f "$P/x" "$O/x"
	"$B/vm-img" compare -f $f -F $f "$P/x" "$O/x"
	qemu-img check -q -f $f "$O/x" || [ $? -eq 63 ]
	"$B/vm-img" check -q -f $f "$P/x" || [ $? -eq 63 ]
	"$B/vm-img" convert -f $f -O $f ${o:+-o $o} "$P/x" "$O/y"
	qemu-img compare -f $f -F $f "$P/x" "$O/y"
}

@test "vdi" { kind vdi; }
@test "vdi static" { kind vdi static=on; }
@test "vpc dynamic" { kind vpc; }
@test "vpc fixed" { kind vpc subformat=fixed; }
@test "vpc of an exact size" { kind vpc force_size=on; }
@test "qed" { kind qed; }
@test "qcow" { kind qcow; }
@test "vmdk monolithicSparse" { kind vmdk; }
@test "vmdk monolithicFlat" { kind vmdk subformat=monolithicFlat; }
@test "vmdk twoGbMaxExtentSparse" { kind vmdk subformat=twoGbMaxExtentSparse; }
@test "vmdk twoGbMaxExtentFlat" { kind vmdk subformat=twoGbMaxExtentFlat; }
@test "vmdk zeroed grains" { kind vmdk zeroed_grain=on; }
@test "vmdk for lsilogic, version 6" { kind vmdk adapter_type=lsilogic,compat6=on; }

@test "vmdk streamOptimized both ways" {
	cd "$BATS_TEST_TMPDIR"
	yes "some text" | head -c 3000000 > r
	truncate -s 8M r
	for a in qemu-img "$B/vm-img"; do
		rm -f s.vmdk
		"$a" convert -f raw -O vmdk -o subformat=streamOptimized r s.vmdk
		qemu-img compare -q -f raw -F vmdk r s.vmdk
		"$B/vm-img" compare -q -f raw -F vmdk r s.vmdk
	done
}

@test "qcow: compressed both ways, written over, emptied; errors" {
	cd "$BATS_TEST_TMPDIR"
	yes "some text" | head -c 3000000 > r
	truncate -s 8M r
	for a in qemu-img "$B/vm-img"; do
		rm -f s
		# the peer does it, then fails without a word
		"$a" convert -c -f raw -O qcow r s || [ "$a" = qemu-img ]
		qemu-img compare -q -f raw -F qcow r s
		"$B/vm-img" compare -q -f raw -F qcow r s
		cp s t
		qemu-io -f qcow -c "write -q -P 4 5k 300k" s
		"$B/vm-io" -f qcow -c "write -q -P 4 5k 300k" t
		qemu-img compare -q -f qcow -F qcow s t
		"$B/vm-img" compare -q s t
		"$B/vm-img" create -q -f qcow -b s -F qcow top
		"$B/vm-io" -c "write -q -P 8 999 70k" top
		qemu-img compare -q -f qcow top top
		qemu-img convert -O raw top want
		"$B/vm-img" commit -q top
		qemu-img compare -q -f raw -F qcow want s
		qemu-img compare -q -f raw -F qcow want top
	done
	same img create -f qcow x 0
	same img create -f qcow x 1M
	same_lines img <<'X'
resize x 2M
amend -f qcow -o size=2M x
measure -O qcow --size 1M
create -f qcow -b x -F qcow y
info y
info --output=json y
rebase -u -b foo -F raw y
X
	cd "$O"
	for p in 4:9 20:20 32:1 32:40 33:2 33:60 36:7 24:377 40:377; do
		cp x h
		printf "\\${p#*:}" | dd of=h bs=1 seek=${p%:*} conv=notrunc status=none
		run "$B/vm-io" -f qcow -c 'read 0 1M' -c 'write 0 64k' h
		[ "$status" -le 1 ]
	done
}

@test "vhdx" {
	# the peer's map does not look into blocks
	same_map() { :; }
	kind vhdx
	same img create -f vhdx -o block_size=3M x 1M
	same img create -f vhdx -o subformat=xx x 1M
	same img create -f vhdx x 65T
	same img measure -O vhdx --size 1M
	same img create -f vhdx x 1M
	same img resize x 2M
	same img create -f vhdx -b x -F vhdx y
	for o in subformat=fixed block_size=1M block_size=256M,log_size=2M \
	    block_state_zero=off; do
		same img create -f vhdx -o $o x 600M
		same img info x
		same img check x
		for t in "$P" "$O"; do
			qemu-io -c "write -q -P 5 1M 3M" -c "write -q -P 7 555M 64k" "$t/x"
			"$B/vm-io" -c "write -q -P 8 2M 64k" -c "write -q -P 9 300M 7k" "$t/x"
			qemu-img check -q "$t/x"
		done
		qemu-img compare -q "$P/x" "$O/x"
		"$B/vm-img" compare -q "$P/x" "$O/x"
	done
}

@test "vhdx: the log of a writer that was cut off" {
	make -s build/t/img-vhdx
	t=$PWD/build/t/img-vhdx
	cd "$BATS_TEST_TMPDIR"
	qemu-img create -q -f vhdx x 100M
	qemu-io -c "write -q -P 5 1M 64k" -c "write -q -P 6 50M 64k" x
	# the table is at 2 MiB, the first block at 8 MiB
	cp x y
	"$t" x $((2 << 20)) $(((9 << 20) + 8192))
	for w in info check map; do
		run "$B/vm-img" $w x
		[ "$status" -eq 1 ]
		[[ $output == *"contains a log that needs to be replayed"* ]]
	done
	cp x peer
	mkdir p o && cp x p/x && cp x o/x
	(cd p && qemu-img check -r all x >../p.out)
	(cd o && "$B/vm-img" check -r all x >../o.out)
	diff p.out o.out
	qemu-img compare p/x o/x
	"$B/vm-io" -r -c "read -P 5 1M 8k" -c "read -P 0 1032k 4k" \
		-c "read -P 5 1036k 52k" -c "read -P 6 50M 64k" o/x >out
	! grep failed out
	# round the end of the ring, and an older entry is not the one: there
	# the peer loses what was logged
	"$t" y $((2 << 20)) $(((9 << 20) + 8192)) round
	"$B/vm-io" -c "read -P 5 1M 8k" -c "read -P 6 50M 64k" y >out
	! grep failed out
	qemu-img compare o/x y
	# damaged: an error or the truth, never a crash
	for off in 65608 1048584 1048600 196616 2097152 3145738 3211264; do
		cp x d
		printf '\377\377\377' | dd of=d bs=1 seek=$off conv=notrunc status=none
		run timeout 10 "$B/vm-io" -c "read 0 1M" -c "write 0 64k" d
		[ "$status" -le 1 ]
	done
}

# readonly FORMAT FILE: both read the same out of it, and neither writes
readonly_format() {
	local w
	cp "$2" "$P/x"
	cp "$2" "$O/x"
	for w in info "info --output=json" check "check --output=json"; do
		same img $w -f $1 x
	done
	same img compare -f $1 -F $1 x x
	"$B/vm-img" convert -f $1 -O raw "$2" raw.o
	qemu-img convert -f $1 -O raw "$2" raw.p
	cmp raw.o raw.p
	"$B/vm-img" info "$2" | grep "file format: $1"
	run "$B/vm-io" -f $1 -c 'write 0 512' "$2"
	[ "$status" -eq 1 ]
	[[ $output == *"can only be read"* ]]
	run "$B/vm-img" create -f $1 new 1M
	[ "$output" = "vm-img: new: Format driver '$1' does not support image creation" ] ||
		[[ $output == *"'$1' does not support image creation" ]]
	# damage in the header: an error or some content, never a crash
	for off in $3; do
		cp "$2" bad
		printf '\377\377\377\177' | dd of=bad bs=1 seek=$off conv=notrunc status=none
		run timeout 10 "$B/vm-img" convert -f $1 -O raw bad raw.b
		[ "$status" -le 1 ]
	done
}

@test "parallels, to read" {
	cd "$BATS_TEST_TMPDIR"
	qemu-img create -q -f parallels p 10M
	readonly_format parallels p
	qemu-io -f parallels -c "write -q -P 5 1M 3M" -c "write -q -P 6 9M 100k" \
		-c "write -q -P 7 6M 1k" p
	readonly_format parallels p "28 32 36 64 68"
	same img map -f parallels x
	same img map -f parallels --output=json x
	truncate -s +3M p
	readonly_format parallels p
	# two clusters are cut off; the peer counts one
	truncate -s 4M p
	run "$B/vm-img" check -f parallels p
	[ "$status" -eq 2 ]
	[[ $output == *"2 errors were found on the image."* ]]
}

@test "bochs, to read" {
	cd "$BATS_TEST_TMPDIR"
	le() { local i; for ((i = 0; i < $1; i++)); do printf "\\x$(printf %02x $(($2 >> 8 * i & 255)))"; done; }
	text() { printf %s "$2"; head -c $(($1 - ${#2})) /dev/zero; }
	local v
	for v in 1 2; do
		{	text 32 "Bochs Virtual HD Image"
			text 16 Redolog; text 16 Growing
			le 4 $((v << 16)); le 4 512; le 4 5; le 4 1; le 4 4096
			[ $v = 1 ] || le 4 0
			le 8 20480; } >h
		truncate -s 512 h
		# parts 3, 0 and 4 are in the file, in this order
		{ le 4 1; le 4 0xffffffff; le 4 0xffffffff; le 4 0; le 4 2; } >c
		{	cat h c
			for m in 0x81 0xff 0x5a; do
				{ le 1 $m; head -c 511 /dev/zero; head -c 4096 /dev/urandom; }
			done; } >b
		readonly_format bochs b "68 72 76 80 84 88 512 516"
		! cmp -s raw.o /dev/zero
	done
}

@test "luks, both ways" {
	s="--object secret,id=s,data=xyzzy"
	named() { echo "driver=luks,file.filename=$1,key-secret=s"; }
	cd "$BATS_TEST_TMPDIR"
	for o in cipher-alg=aes-256 cipher-alg=aes-128,hash-alg=sha512 \
	    cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1 \
	    cipher-mode=cbc,cipher-alg=aes-256,ivgen-alg=plain \
	    cipher-alg=serpent-256; do
		# now and then the peer cannot measure its own speed
		n=0
		until qemu-img create -q -f luks $s -o key-secret=s,iter-time=10,$o p 10M; do
			[ $((n += 1)) -lt 20 ]
		done
		"$B/vm-img" create -q -f luks $s -o key-secret=s,iter-time=10,$o o 10M
		for f in p o; do
			cp $f "$P/x"; cp $f "$O/x"
			same img info x
			same img info --output=json x
			qemu-io $s --image-opts -c "write -q -P 5 1M 3M" \
				-c "write -q -P 6 9M 777" $(named $f)
			"$B/vm-io" $s --image-opts -c "write -q -P 7 2000999 100000" \
				-c "write -q -P 8 0 100" -c "write -q -z 5M 1M" $(named $f)
			qemu-img convert $s --image-opts -O raw $(named $f) $f.p
			"$B/vm-img" convert $s --image-opts -O raw $(named $f) $f.o
			cmp $f.p $f.o
		done
		rm p o
	done
	same_lines img <<'X'
create -f luks -o help
create -f luks y 1M
create -f luks --object secret,id=s,data=abc -o key-secret=t y 1M
create -f luks --object secret,id=s,data=abc -o key-secret=s,cipher-alg=foo y 1M
create -f luks --object secret,id=s,data=abc -o key-secret=s,hash-alg=foo y 1M
map x
check x
convert -O raw x y
resize --object secret,id=s,data=xyzzy --image-opts driver=luks,file.filename=x,key-secret=s 20M
info x
resize --object secret,id=s,data=wrong --image-opts driver=luks,file.filename=x,key-secret=s 20M
X
	cd "$O"
	for off in 6 8 40 72 104 108 164 208 212 248 252; do
		cp x d
		printf '\377\377' | dd of=d bs=1 seek=$off conv=notrunc status=none
		run timeout 20 "$B/vm-io" $s --image-opts -c "read 0 512" $(named d)
		[ "$status" -eq 1 ]
	done
}

@test "qed and vmdk over a backing image, both ways" {
	cd "$BATS_TEST_TMPDIR"
	for f in qed vmdk; do
		rm -f base p o
		qemu-img create -q -f $f base 4M
		qemu-io -f $f -c "write -q -P 1 0 3M" base
		qemu-img create -q -f $f -b base -F $f p
		"$B/vm-img" create -q -f $f -b base -F $f o
		qemu-io -f $f -c "write -q -P 2 100k 300k" p
		"$B/vm-io" -f $f -c "write -q -P 2 100k 300k" o
		qemu-img compare -q -f $f -F $f p o
		"$B/vm-img" compare -q -f $f -F $f p o
		qemu-img check -q -f $f o
	done
}

@test "a compressed write of nothing to an empty disk" {
	cd "$BATS_TEST_TMPDIR"
	for f in vmdk qcow2; do
		"$B/vm-img" create -q -f $f e 0
		"$B/vm-io" -f $f -c "write -c 0 0" e
	done
}

@test "hostile headers: an error, never a crash" {
	cd "$BATS_TEST_TMPDIR"
	for f in qcow2 vdi vpc vmdk qed; do
		qemu-img create -q -f $f s 4M
		qemu-io -f $f -c "write -q 0 300k" s
		for at in 4 8 16 20 24 28 36 40 48 56 60 64 72 80 100 104 \
		    256 340 344 368 376 384 516 528 540 544; do
			for v in '\xff\xff\xff\xff' '\x7f\xff\xff\xff' \
			    '\x80\0\0\0' '\0\0\0\x80' '\0\0\0\0'; do
				cp s x
				printf "$v" | dd of=x bs=1 seek=$at \
				    conv=notrunc status=none
				for c in "check -q" "info"; do
					r=0
					(ulimit -v 2000000
					timeout 10 "$B/vm-img" $c -f $f x \
					    >/dev/null 2>&1) || r=$?
					if [ $r -ge 124 ]; then
						echo "$f $at $v $c: $r"
						return 1
					fi
				done
			done
		done
	done
}

@test "check of files that claim to be huge takes no memory" {
	cd "$BATS_TEST_TMPDIR"
	# check FORMAT STATUS OPTION...
	check() {
		local f=$1 want=$2
		shift 2
		s=0
		(ulimit -v 700000; timeout 60 "$B/vm-img" check "$@" -q -f $f h) || s=$?
		[ $s -eq $want ] || { echo "$f $*: $s"; return 1; }
	}
	make_one() { qemu-img create -q -f "$@" h 4M; qemu-io -f $1 -c "write -q 0 300k" h; }
	poke() { printf "$2" | dd of=h bs=1 seek=$1 conv=notrunc status=none; }
	# blocks that are counted and not there
	make_one vdi
	poke 388 '\177\377\377\037'
	check vdi 3
	check vdi 0 -r leaks
	check vdi 0
	# a block somewhere
	make_one vhdx
	poke $((2 << 20)) '\006\0\0\0\0\0\377\007'
	check vhdx 2
	# more clusters than anybody counts
	make_one qed
	truncate -s 15T h
	check qed 3
	make_one qcow2 -o cluster_size=4k,refcount_bits=64
	truncate -s 15T h
	check qcow2 0
}
