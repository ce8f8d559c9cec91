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
