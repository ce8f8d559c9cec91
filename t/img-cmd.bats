# vm-img beside qemu-img: the same words give the same output and exit code.
load img-peer.bash
setup() { peer_setup; }

@test "usage errors" {
	same_lines img <<'X'
''
foo
create
create -f qcow2 x.q
create -f foo x 1M
create -f qcow2 /nonexist/x 1M
create -f qcow2 x.q 1Z
create -f qcow2 x.q -5
create -f qcow2 -o size=abc x.q
info
info a b
info -f foo nonex
info nonex
info --output=xml a
info -Z r
check nonex
compare nonex r
compare r
convert r
convert nonex y
map nonex
resize r
measure
measure --size 1G a
dd if=r
dd foo=bar
dd bs=0 if=r of=z
rebase b.qcow2
amend a.qcow2
bitmap a.qcow2 x
snapshot -c a -d b a.qcow2
info 'json:{"driver":"qcow2"'
info --image-opts foo
X
}

@test "create: options good and bad" {
	both qemu-img create -q -f qcow2 a.qcow2 10M
	same_lines img <<'X'
create -f qcow2 -o cluster_size=3k x.q 1M
create -f qcow2 -o foo=1 x.q 1M
create -f qcow2 -o lazy_refcounts=1 x.q 1M
create -f qcow2 -o compat=0.9 x.q 1M
create -f qcow2 -o refcount_bits=3 x.q 1M
create -f qcow2 -o preallocation=foo x.q 1M
create -f qcow2 -o extended_l2=on,cluster_size=4k x.q 1M
create -f qcow2 -o compat=v2,lazy_refcounts=on x.q 1M
create -f qcow2 -o compression_type=lz4 x.q 1M
create -f qcow2 -o data_file_raw=on x.q 1M
create -b a.qcow2 -f qcow2 x.q
create -b nonex -F qcow2 -f qcow2 x.q
create -f qcow2 -o help
create -f raw -o help
create -f qcow2 -o help x
amend -f qcow2 -o help
create -f qcow2 -o size=1M,help x
create -f raw r 1M
info r
map r
map --output=json r
check r
X
	for o in preallocation=metadata refcount_bits=1 refcount_bits=64 \
	    cluster_size=512 cluster_size=2M extended_l2=on compat=0.10 \
	    compression_type=zstd data_file=ext.raw,data_file_raw=on; do
		same img create -f qcow2 -o $o o.q 8M
		same img info -U o.q
		same img check o.q
		same img map --output=json o.q
	done
}

@test "info, check, map, measure, compare on images with content" {
	same img create -f qcow2 a.qcow2 10M
	same_lines img <<'X'
info --output=json a.qcow2
check --output=json a.qcow2
map --output=json a.qcow2
X
	both qemu-io -c "write -P 1 64k 128k" -c "write -z 1M 128k" \
	    -c "write -P 7 3M 1000" a.qcow2
	same img create -f qcow2 -F qcow2 -b a.qcow2 b.qcow2
	same img create -f raw r 1M
	same_lines img <<'X'
info a.qcow2
info --output=json a.qcow2
check a.qcow2
check --output=json a.qcow2
map a.qcow2
map --output=json a.qcow2
info --backing-chain b.qcow2
info --backing-chain --output=json b.qcow2
map b.qcow2
map --output=json b.qcow2
check b.qcow2
info --image-opts driver=qcow2,file.filename=a.qcow2
info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}'
compare a.qcow2 b.qcow2
compare -f qcow2 -F raw a.qcow2 r
compare -s a.qcow2 b.qcow2
measure --size 10G
measure -O qcow2 --size 10G
measure -O qcow2 --size 1M
measure -O qcow2 -o cluster_size=4k --size 100G --output=json
measure -O qcow2 a.qcow2
measure a.qcow2
measure -O qcow2 -o preallocation=full --size 1G
measure -O qcow2 -o extended_l2=on --size 1G
X
}

@test "resize, amend, snapshot, bitmap, rebase, commit, dd, convert" {
	both qemu-img create -q -f qcow2 a.qcow2 10M
	both qemu-io -c "write -P 1 64k 128k" -c "write -P 9 9M 1M" a.qcow2
	both qemu-img create -q -f qcow2 -F qcow2 -b a.qcow2 b.qcow2
	both qemu-io -c "write -P 2 100k 64k" b.qcow2
	both qemu-img create -q -f raw r 1M
	same_lines img <<'X'
resize a.qcow2 +foo
resize a.qcow2 +1M
check a.qcow2
resize a.qcow2 -1M
resize --shrink a.qcow2 -2M
check a.qcow2
map --output=json a.qcow2
resize -f raw r 2M
resize -f raw --shrink r 1M
snapshot -d foo a.qcow2
snapshot -a foo a.qcow2
snapshot -l r
bitmap --remove a.qcow2 x
bitmap --add a.qcow2 b0
bitmap --add a.qcow2 b0
info a.qcow2
bitmap --disable a.qcow2 b0
info a.qcow2
bitmap --remove a.qcow2 b0
check a.qcow2
convert -p -f raw -O qcow2 r y.q
info y.q
compare y.q a.qcow2
convert -O foo a.qcow2 y
convert -O raw a.qcow2 a.raw
map -f raw --output=json a.raw
convert -c -O qcow2 a.qcow2 c.q
map c.q
convert -O qcow2 -B a.qcow2 -F qcow2 b.qcow2 d.q
map --output=json d.q
dd if=a.qcow2 of=dd.raw bs=1M count=2 skip=1
dd if=a.qcow2 of=dd2.raw bs=1M skip=3
rebase -b nonex b.qcow2
commit b.qcow2
map --output=json b.qcow2
rebase -u -b '' b.qcow2
info b.qcow2
amend -o foo=1 a.qcow2
amend -o compat=1.1,lazy_refcounts=on a.qcow2
check a.qcow2
X
	for f in a.raw dd.raw dd2.raw; do
		cmp "$P/$f" "$O/$f"
	done
	qemu-img compare "$P/a.qcow2" "$O/a.qcow2"
	qemu-img check "$O/c.q"
}

@test "vm-io beside qemu-io" {
	for fo in compat=1.1 compat=0.10 cluster_size=4k extended_l2=on \
	    lazy_refcounts=on; do
		both qemu-img create -q -f qcow2 -o $fo z.q 4M
		same io -c "write -P 3 0 4k" -c "read -v 0 32" \
		    -c "read -P 4 0 4k" -c "read -P 3 0 4k" -c "alloc 0" \
		    -c "alloc 0 1M" -c map -c length -c info \
		    -c "write -z 64k 64k" -c "write -zu 64k 64k" \
		    -c "discard 0 64k" -c flush -c "truncate 5M" \
		    -c "writev -P 5 0 512 1k" -c "readv -P 5 0 512 1k" \
		    -c "aio_write -P 6 0 4k" -c aio_flush \
		    -c "aio_read -P 6 0 4k" -c aio_flush -c foo -c read \
		    -c "read 0" -c "read 1 -1" -c "read abc 1" \
		    -c "read 10M 1k" -c "write -c 64k 64k" -c "write -q 0 1" \
		    -c "read -C 0 4k" -c "read -s 1 0 4k" \
		    -c "read -P 300 0 1" -c "write -z -P 1 0 1" \
		    -c "write -u 0 1" -c sleep -c map -c quit z.q
		qemu-img check "$O/z.q"
	done
	same io nonex
	same io -r -c "write 0 1k" z.q
	same io -c "open z.q" -c length -c close -c length
}

@test "measure counts the bitmaps" {
	both qemu-img create -q -f qcow2 a.qcow2 10G
	both qemu-img bitmap --add -g 4k a.qcow2 one
	both qemu-img bitmap --add a.qcow2 second-and-longer
	same_lines img <<'X'
measure -O qcow2 a.qcow2
measure -O qcow2 --output=json a.qcow2
measure -O qcow2 -o cluster_size=4k a.qcow2
measure -O raw a.qcow2
X
}

@test "convert -C and -r, commit -r" {
	both sh -c 'head -c 4M /dev/zero | tr "\0" x >r; truncate -s 6M r'
	same_lines img <<'X'
convert -C -c -O qcow2 r b
convert -C -S 4k r b
convert -r 1x r b
convert -C -O raw r b
compare r b
convert -C -O qcow2 r c.qcow2
compare r c.qcow2
check c.qcow2
convert -C -O raw c.qcow2 d
compare r d
X
	cd "$O"
	# 4 MiB at 3 MiB a second, however slow the machine
	t=$(date +%s%N)
	"$B/vm-img" convert -r 3M r e
	[ $(($(date +%s%N) - t)) -gt 1200000000 ]
	"$B/vm-img" create -q -f qcow2 -b e -F raw top
	"$B/vm-io" -c 'write -P 9 0 3M' top >/dev/null
	t=$(date +%s%N)
	"$B/vm-img" commit -q -r 3M top
	[ $(($(date +%s%N) - t)) -gt 900000000 ]
	qemu-io -f raw -c 'read -P 9 0 3M' e
}

@test "what is not there is an error that names it" {
	cd "$O"
	"$B/vm-img" create -q -f qcow2 a 1M
	no() {
		run "$B/$@"
		echo "$output"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	}
	no vm-img bench -i native -c 1 a
	[[ $output == *"-i native: "* ]]
	no vm-io -i io_uring -c 'read 0 512' a
	[[ $output == *"aio=io_uring"* ]]
	no vm-io -k -c 'read 0 512' a
	no vm-io -m -c 'read 0 512' a
	no vm-nbd --aio=native a
	[[ $output == *"--aio=native"* ]]
	for o in overlap-check=all cache-clean-interval=9 pass-discard-other=off \
	    l2-cache-entry-size=4k file.aio=native file.locking=maybe; do
		no vm-img info --image-opts driver=qcow2,file.filename=a,$o
		[[ $output == *"${o#file.}"* ]] || [[ $output == *"'locking'"*maybe* ]]
	done
	for o in overlap-check=none refcount-cache-size=1M cache-size=2M \
	    l2-cache-size=1M,refcount-cache-size=64k lazy-refcounts=on; do
		"$B/vm-io" --image-opts -c 'write 0 64k' driver=qcow2,file.filename=a,$o
	done
	qemu-img check a
}

@test "vm-io -s and vm-nbd -s leave the image as it was" {
	cd "$O"
	head -c 1M /dev/urandom >a
	sum=$(sha256sum <a)
	"$B/vm-io" -s -f raw -c 'write -P 5 0 64k' -c 'read -P 5 0 64k' a
	[ "$sum" = "$(sha256sum <a)" ]
	"$B/vm-nbd" -s -f raw -k "$PWD/s" a 3>&- &
	for i in $(seq 100); do [ ! -S s ] || break; sleep 0.05; done
	qemu-io -f raw -c 'write -P 5 0 64k' -c 'read -P 5 0 64k' "nbd+unix:///?socket=$PWD/s"
	wait
	[ "$sum" = "$(sha256sum <a)" ]
}
