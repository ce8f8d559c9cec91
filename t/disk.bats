# A machine's disks on images of all formats (dev/disk.c, virtio-blk.c, img/):
# what the guest wrote is what the peer reads, and the peer's check is content.

load helpers

setup() {
	vm_setup
	command -v qemu-img >/dev/null || skip "qemu-img is not installed"
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR"
	cd "$BATS_TEST_TMPDIR"
}

teardown() {
	vm_teardown
}

# guest OPTIONS -- COMMANDS: $output is what the commands print
guest() {
	local opts=() k
	while [ "$1" != -- ]; do opts+=("$1"); shift; done
	k=$2
	boot -m 256 -kernel "$top/build/guest/vmlinuz" \
		-initrd "$top/build/guest/initrd.img" "${opts[@]}" -- quiet \
		"vm.run=\"$k\""
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == *"vm.run: 0"* ]]
}

# content FORMAT FILE: sum of the disk in it, as the peer reads it
content() {
	qemu-img convert -f "$1" -O raw "$2" "$BATS_TEST_TMPDIR/.raw"
	sha256sum <"$BATS_TEST_TMPDIR/.raw" | cut -c 1-64
}

seen() {
	[[ $output == *"$1  /dev/$2"* ]] || { echo "no sum $1 of $2"; return 1; }
}

# the guest changes a disk: clusters new, partly and twice, zeroed, discarded
scribble='dd if=/dev/urandom of=/dev/D bs=64k seek=7 count=40 && dd if=/dev/urandom of=/dev/D bs=512 seek=9000 count=99 && dd if=/dev/zero of=/dev/D bs=4k seek=300 count=50 && blkdiscard -o 8M -l 1M /dev/D; sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/D'

@test "a qcow2 overlay on a raw base: written, clean, and the base as it was" {
	head -c 16M /dev/urandom >base
	qemu-img create -q -f qcow2 -b base -F raw top.qcow2 20M
	before=$(content qcow2 top.qcow2) base=$(sha256sum <base)
	guest -drive if=virtio,file=top.qcow2,format=qcow2 -- \
		"sha256sum /dev/vda && ${scribble//D/vda}"
	seen "$before" vda
	after=$(content qcow2 top.qcow2)
	[ "$after" != "$before" ]
	seen "$after" vda
	qemu-img check top.qcow2
	[ "$(sha256sum <base)" = "$base" ]
}

@test "every format the library writes backs a disk" {
	local f n=0 opts=() cmd= names=abcdefg
	head -c 12M /dev/urandom >raw
	for f in qcow2 qcow qed vdi vmdk vhdx vpc; do
		o=()
		[ $f != vpc ] || o=(-o force_size=on)
		qemu-img convert -f raw -O $f "${o[@]}" raw d.$f
		# VHD has a footer only, which probing may not see
		opts+=(-drive "if=virtio,file=d.$f$([ $f != vpc ] || echo ,format=vpc)")
		cmd="$cmd sha256sum /dev/vd${names:n:1};${scribble//D/vd${names:n:1}};"
		n=$((n + 1))
	done
	sum=$(sha256sum <raw | cut -c 1-64)
	guest "${opts[@]}" -- "${cmd%;}"
	n=0
	for f in qcow2 qcow qed vdi vmdk vhdx vpc; do
		seen "$sum" vd${names:n:1}
		seen "$(content $f d.$f)" vd${names:n:1}
		case $f in vpc|qcow) ;; *) qemu-img check -f $f d.$f ;; esac
		n=$((n + 1))
	done
}

@test "a luks disk, by -drive and by -blockdev" {
	printf 'open, sesame' >pw
	s="--object secret,id=s,file=pw"
	for f in a b; do
		"$top/build/bin/vm-img" create -q -f luks $s -o key-secret=s,iter-time=10 $f 4M
	done
	guest -object secret,id=s,file=pw -drive if=virtio,file=a,format=luks,key-secret=s \
		-blockdev driver=file,node-name=f,filename=b \
		-blockdev driver=luks,node-name=n,file=f,key-secret=s -device virtio-blk-pci,drive=n \
		-- "for d in vda vdb; do dd if=/dev/urandom of=/dev/\$d bs=5k count=300 seek=7; done; sync; sha256sum /dev/vda /dev/vdb"
	for f in a:vda b:vdb; do
		qemu-img convert $s --image-opts -O raw driver=luks,file.filename=${f%:*},key-secret=s .raw
		seen "$(sha256sum <.raw | cut -c 1-64)" ${f#*:}
	done
	echo wrong >pw
	run vm-run -kernel "$guest/vmlinuz" -object secret,id=s,file=pw \
		-drive if=virtio,file=a,format=luks,key-secret=s
	[ "$status" -eq 1 ]
	[[ $output == *"a: Invalid password, cannot unlock any keyslot" ]]
}

@test "encrypted qcow2 disks, by -drive and by -blockdev" {
	printf 'open, sesame' >pw
	s="--object secret,id=s,file=pw"
	for f in a:luks b:aes; do
		"$top/build/bin/vm-img" create -q -f qcow2 $s \
			-o encrypt.format=${f#*:},encrypt.key-secret=s ${f%:*} 8M
	done
	guest -object secret,id=s,file=pw \
		-drive if=virtio,file=a,format=qcow2,encrypt.key-secret=s \
		-blockdev driver=file,node-name=f,filename=b \
		-blockdev driver=qcow2,node-name=n,file=f,encrypt.key-secret=s \
		-device virtio-blk-pci,drive=n -- \
		"for d in vda vdb; do dd if=/dev/urandom of=/dev/\$d bs=5k count=300 seek=7; done; sync; sha256sum /dev/vda /dev/vdb"
	for f in a:vda b:vdb; do
		o=driver=qcow2,file.filename=${f%:*},encrypt.key-secret=s
		qemu-img check $s --image-opts $o
		qemu-img convert $s --image-opts -O raw $o .raw
		seen "$(sha256sum <.raw | cut -c 1-64)" ${f#*:}
	done
	run vm-run -kernel "$guest/vmlinuz" -drive if=virtio,file=a,format=qcow2
	[ "$status" -eq 1 ]
	[[ $output == *"Parameter 'encrypt.key-secret' is required for cipher" ]]
}

@test "host caches, direct I/O, zero detection and copy on read" {
	qemu-img create -q -f raw raw 16M
	head -c 4M /dev/urandom | dd of=raw bs=1M conv=notrunc status=none
	for f in none writethrough directsync unsafe cor; do
		qemu-img create -q -f qcow2 -b raw -F raw $f.q
	done
	guest -drive if=virtio,file=none.q,cache=none \
		-drive if=virtio,file=writethrough.q,cache=writethrough,detect-zeroes=unmap \
		-drive if=virtio,file=directsync.q,cache=directsync \
		-drive if=virtio,file=unsafe.q,cache=unsafe,discard=ignore \
		-drive if=virtio,file=cor.q,copy-on-read=on,detect-zeroes=on \
		-- "for d in vda vdb vdc vdd; do ${scribble//D/\$d}; done; dd if=/dev/vde of=/dev/null bs=64k count=32; dd if=/dev/urandom of=/dev/vde bs=4k seek=700 count=9; sync; sha256sum /dev/vde"
	seen "$(content qcow2 none.q)" vda
	seen "$(content qcow2 writethrough.q)" vdb
	seen "$(content qcow2 directsync.q)" vdc
	seen "$(content qcow2 unsafe.q)" vdd
	seen "$(content qcow2 cor.q)" vde
	for f in *.q; do qemu-img check $f; done
	# what was read is there: 2 MiB at least
	qemu-img map --output=json cor.q |
		grep -q '"start": 0, "length": 2[0-9]*, "depth": 0'
}

@test "snapshot=on leaves the image as it was, and nothing behind" {
	head -c 8M /dev/urandom >raw
	qemu-img convert -f raw -O qcow2 raw q
	sums=$(sha256sum raw q)
	guest -snapshot -drive if=virtio,file=raw,format=raw \
		-drive if=virtio,file=q,format=qcow2 -- \
		"for d in vda vdb; do ${scribble//D/\$d}; done"
	[ "$(sha256sum raw q)" = "$sums" ]
	[ "$(printf '%s\n' "$output" | grep -c '  /dev/vd[ab]$')" -eq 2 ]
	[[ $output != *"$(sha256sum <raw | cut -c 1-64)  "* ]]
	[ -z "$(ls "$TMPDIR")" ]
}

@test "kill -9 of the device: the image is sound, at worst with leaks" {
	qemu-img create -q -f qcow2 q 256M
	for i in 1 2 3; do
		vm_start k$i -m 256 -display none -serial "file:$BATS_TEST_TMPDIR/out$i" \
			-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
			-drive if=virtio,file=q,format=qcow2,id=disk \
			-append 'console=ttyS0 quiet vm.run="echo go; while :; do dd if=/dev/urandom of=/dev/vda bs=96k count=900 seek=$((RANDOM % 1500)); sync; done"'
		until_true grep -q 'records out' "$BATS_TEST_TMPDIR/out$i"
		sleep 0.$((i * 3))
		kill -9 "$(cat "$XDG_RUNTIME_DIR/vm/k$i/part/disk/pid")"
		until_true gone "$pid"
		status=0
		qemu-img check q || status=$?
		[ "$status" -eq 0 ] || [ "$status" -eq 3 ]
	done
	build=$top/build/bin
	"$build/vm-img" check q || [ $? -eq 3 ]
}

@test "an image in use: the peer is kept out, of the base too, and keeps us out" {
	qemu-img create -q -f raw base 4M
	qemu-img create -q -f qcow2 -b base -F raw q
	vm_paused lock -drive if=virtio,file=q,format=qcow2
	run qemu-io -f qcow2 -c 'write 0 512' q
	[[ $output == *'Failed to get '*' lock'* ]]
	run qemu-io -f raw -c 'write 0 512' base
	[[ $output == *'Failed to get '*' lock'* ]]
	run qemu-img info q
	[ "$status" -eq 1 ]
	qemu-img info -U q
	vm-mon lock quit
	until_true gone "$pid"
	coproc qemu-io -f qcow2 q
	echo "read 0 512" >&"${COPROC[1]}"
	read -r -t 20 -u "${COPROC[0]}" line || true
	run vm-run -kernel "$guest/vmlinuz" -drive if=virtio,file=q,format=qcow2
	eval "exec ${COPROC[1]}>&-"
	wait
	[ "$status" -eq 1 ]
	[[ $output == *'disk0: q: Failed to get "'*'" lock Is another process using the image [q]?'* ]]
}

@test "a guessed raw image does not become a qcow2 image" {
	truncate -s 1M raw
	qemu-img create -q -f qcow2 -b /etc/passwd -F raw evil 1M
	head -c 512 evil >head
	(cd "$BATS_TEST_TMPDIR" && echo head | cpio -o -H newc --quiet | gzip) >more.gz
	cat "$guest/initrd.img" more.gz >i.gz
	boot -m 256 -kernel "$guest/vmlinuz" -initrd i.gz -drive if=virtio,file=raw \
		-- quiet 'vm.run="dd if=/head of=/dev/vda; sync; echo ok >/dev/vda; sync"'
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == *"WARNING: Image format was not specified for 'raw' and probing guessed raw."* ]]
	[[ $output == *"write at sector 0: Operation not permitted"* ]]
	[ "$(head -c 2 raw)" = ok ]
	boot -m 256 -kernel "$guest/vmlinuz" -initrd i.gz -drive if=virtio,file=raw,format=raw \
		-- quiet 'vm.run="dd if=/head of=/dev/vda; sync"'
	[ "$status" -eq 0 ]
	[ "$(head -c 3 raw)" = QFI ]
}

@test "images that cannot be used end vm-run with one line" {
	refused() {
		run timeout -k 5 60 vm-run -kernel "$guest/vmlinuz" "$@" </dev/null
		echo "$output"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	}
	qemu-img create -q -f raw base 1M
	qemu-img create -q -f qcow2 -b base -F raw q
	rm base
	refused -drive if=virtio,file=q
	[[ $output == *"q: Could not open backing file: Could not open 'base': No such file or directory" ]]
	qemu-img create -q -f vhdx x 1M
	truncate -s 1M short
	refused -drive if=virtio,file=short,format=qcow2
	[[ $output == *"short: Image is not in qcow2 format" ]]
	refused -blockdev driver=raw,file.driver=file,file.filename=short,node-name=n,gears=2 \
		-device virtio-blk-pci,drive=n
	[[ $output == *"does not support the option 'gears'" ]]
}

@test "monitor: info block, blockstats, block_resize, eject, change" {
	head -c 1M /dev/urandom >base
	qemu-img create -q -f qcow2 -b base -F raw top 4M
	vm_start m -m 256 -display none -serial "file:$BATS_TEST_TMPDIR/out" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-drive if=virtio,file=top,format=qcow2,id=a,cache=none \
		-drive if=virtio,file=base,snapshot=on,format=raw,id=b,locking=off \
		-drive if=virtio,file=base,snapshot=on,readonly=on,format=raw,id=r,locking=off \
		-append 'console=ttyS0 quiet vm.run="dd if=/dev/urandom of=/dev/vda bs=4k count=3 conv=fsync; echo went; sleep 1; until grep -q 16384.vda /proc/partitions; do sleep 1; done; dd if=/dev/vda of=/dev/null bs=1M skip=15 count=1 && echo grown; sleep 1000"'
	until_true grep -q went out
	mon() { run vm-mon m "$@"; echo "$output"; }
	mon info block
	[[ $output == "a: top (qcow2)"*"4194304 bytes"*"writeback, direct"*"Backing file:     base (chain depth: 1)"*"b: base (raw, snapshot)"* ]]
	mon info block b
	[[ $output == "b: "* ]]
	[[ $output != *"r: "* ]]
	mon info block r
	[[ $output == "r: base (raw, read-only)"* ]]
	mon info blockstats
	[[ $output == *"a: rd_bytes="*" wr_bytes=12288 "*" flush_operations=1 "*"failed_operations=0"*"b: rd_bytes="* ]]
	mon info block c; [ "$status" -eq 1 ]; [ "$output" = "Device 'c' not found" ]
	mon eject a; [ "$output" = "Device 'a' is not removable" ]
	mon change a other; [ "$output" = "Device 'a' is not removable" ]
	mon block_resize none 1; [ "$output" = "Device 'none' not found" ]
	mon block_resize a 1025b; [ "$output" = "The new size must be a multiple of 512" ]
	mon block_resize a 10Q; [ "$status" -eq 1 ]
	mon block_resize a 16; [ "$status" -eq 0 ]; [ -z "$output" ]
	until_true grep -q grown out
	vm-mon m quit
	until_true gone "$pid"
	qemu-img check top
	qemu-img info top | grep -q '(16777216 bytes)'
}

@test "monitor: commit writes an overlay, or a snapshot, into its base" {
	local f
	for f in raw qcow2; do
		head -c 4M /dev/urandom >raw
		qemu-img convert -f raw -O $f raw base.$f
		qemu-img create -q -f qcow2 -b base.$f -F $f top.$f 6M
	done
	cp base.raw snap
	vm_start m -m 256 -display none -serial "file:$BATS_TEST_TMPDIR/out" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-drive if=virtio,file=top.raw,format=qcow2,id=r \
		-drive if=virtio,file=top.qcow2,format=qcow2,id=q \
		-drive if=virtio,file=snap,format=raw,id=s,snapshot=on \
		-drive if=virtio,file=base.raw,format=raw,id=ro,readonly=on,locking=off \
		-append 'console=ttyS0 quiet vm.run="for d in vda vdb vdc; do dd if=/dev/urandom of=/dev/$d bs=4k seek=9 count=700; done; sync; sha256sum /dev/vda /dev/vdb /dev/vdc; echo went; read x; sleep 1000"'
	until_true grep -q went out
	run vm-mon m commit ro
	[ "$status" -eq 1 ]
	[ "$output" = "'commit' error for 'ro': there is no backing image" ]
	run vm-mon m commit none
	[ "$output" = "Device 'none' not found" ]
	# a base that somebody else has open stays as it is, and says so
	coproc qemu-io -f qcow2 -r base.qcow2
	echo "read 0 512" >&"${COPROC[1]}"
	read -r -t 20 -u "${COPROC[0]}" line || true
	run vm-mon m commit q
	eval "exec ${COPROC[1]}>&-"
	wait "$COPROC_PID" || true
	[ "$status" -eq 1 ]
	[[ $output == *"'commit' error for 'q': "*"lock"* ]]
	vm-mon m commit r
	vm-mon m commit all
	vm-mon m quit
	until_true gone "$pid"
	for f in vda:raw:base.raw vdb:qcow2:base.qcow2 vdc:raw:snap; do
		IFS=: read -r d fmt file <<<"$f"
		grep -q "$(content $fmt $file)  /dev/$d" out || { echo "$f"; cat out; false; }
	done
	qemu-img check base.qcow2
	qemu-img check top.qcow2
	[ "$(content qcow2 top.qcow2)" = "$(content qcow2 base.qcow2)" ]
	# the overlays are empty
	! qemu-img map top.raw | grep -q top.raw
}

@test "Ctrl-a s writes a snapshot back" {
	command -v expect >/dev/null || skip "expect is not installed"
	truncate -s 1M img
	cat >x.exp <<-X
	set timeout 60
	spawn vm-run -m 256 -nographic -snapshot -drive if=virtio,file=img,format=raw,id=d \
	    -kernel $guest/vmlinuz -initrd $guest/initrd.img \
	    -append "console=ttyS0 quiet vm.run=\"echo kept >/dev/vda; sync; echo went; read x; echo lost >/dev/vda; sync; poweroff -f\""
	expect went
	send "\001s"
	expect { "d is written back" {} timeout { exit 5 } }
	send "\r"
	expect { eof {} timeout { exit 6 } }
	X
	expect x.exp
	[ "$(head -c 4 img)" = kept ]
}

@test "a disk on an NBD server" {
	local S=$BATS_TEST_TMPDIR/s
	head -c 16M /dev/urandom >raw
	sum=$(sha256sum <raw | cut -c 1-64)
	qemu-img convert -f raw -O qcow2 raw d.qcow2
	qemu-nbd -t -e 4 -f raw -k "$S" d.qcow2 3>&- &
	qemu-nbd -t -e 4 -f raw -k "$S.2" raw 3>&- &
	while [ ! -S "$S" ] || [ ! -S "$S.2" ]; do sleep 0.02; done
	r=0
	guest -drive "if=virtio,file=nbd+unix:///?socket=$S,format=qcow2" \
		-drive "if=virtio,file=nbd:unix:$S.2,format=raw" -- \
		"sha256sum /dev/vda /dev/vdb; ${scribble//D/vda}; ${scribble//D/vdb}" || r=$?
	kill %1 %2
	wait
	[ $r = 0 ]
	seen "$sum" vda
	seen "$sum" vdb
	qemu-img check d.qcow2
	seen "$(content qcow2 d.qcow2)" vda
	seen "$(content raw raw)" vdb
}
