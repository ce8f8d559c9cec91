# Encrypted qcow2 and qcow images beside QEMU's.
load img-peer

S="--object secret,id=s,data=xyzzy"
named() { echo "driver=${2-qcow2},file.filename=$1,encrypt.key-secret=s"; }

setup() { peer_setup; cd "$BATS_TEST_TMPDIR"; }

# create TOOL OPTIONS FILE: the peer now and then cannot measure its own speed
make_one() {
	local n=0
	until "$1" create -q -f qcow2 $S -o "encrypt.key-secret=s,$2" "$3" 10M; do
		[ $((n += 1)) -lt 20 ]
	done
}

# both_ways OPTIONS: images of both makers, written by both, read by both
both_ways() {
	local f
	make_one qemu-img "$1,${2-cluster_size=64k}" p
	make_one "$B/vm-img" "$1,${3-${2-cluster_size=64k}}" o
	for f in p o; do
		qemu-io $S --image-opts -c "write -q -P 5 1M 3M" \
			-c "write -q -P 6 9M 777" $(named $f)
		"$B/vm-io" $S --image-opts -c "write -q -P 7 2000999 100000" \
			-c "write -q -P 8 0 100" -c "write -q -z 5M 1M" \
			-c "discard -q 1M 64k" -c "write -q -P 9 7000001 70001" \
			-c "read -q -P 8 0 100" -c "read -q -P 0 100 412" $(named $f)
		qemu-io $S --image-opts -c "write -q -P 4 5999001 3999" $(named $f)
		qemu-img convert $S --image-opts -O raw $(named $f) $f.p
		"$B/vm-img" convert $S --image-opts -O raw $(named $f) $f.o
		cmp $f.p $f.o
		qemu-img check -q $S --image-opts $(named $f)
		"$B/vm-img" check -q $S --image-opts $(named $f)
		for a in qemu-img "$B/vm-img"; do
			"$a" info $f | peer_norm > i.$([ "$a" = qemu-img ]; echo $?)
			"$a" info --output=json $f | peer_norm > j.$([ "$a" = qemu-img ]; echo $?)
			"$a" map --output=json $S --image-opts $(named $f) > m.$([ "$a" = qemu-img ]; echo $?)
		done
		diff i.0 i.1
		diff j.0 j.1
		diff m.0 m.1
	done
	cmp p.p o.p
	rm -f p o
}

@test "qcow2 with LUKS, both ways" {
	L=encrypt.format=luks,encrypt.iter-time=10
	both_ways $L
	both_ways $L cluster_size=512
	both_ways $L cluster_size=2M
	both_ways $L extended_l2=on
	both_ways $L compat=0.10
	both_ways $L data_file=p.data data_file=o.data
	both_ways $L,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.hash-alg=sha1
}

@test "qcow2 with the legacy cipher, both ways" {
	A=encrypt.format=aes
	both_ways $A
	both_ways $A cluster_size=1k
	both_ways $A extended_l2=on
	both_ways $A compat=0.10
	both_ways encryption=on
}

@test "encrypted overlays, snapshots, conversion, resize" {
	head -c 3000000 /dev/urandom > r
	truncate -s 8M r
	O="encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
	"$B/vm-img" convert $S -f raw -O qcow2 -o $O r base
	qemu-img compare -q $S --image-opts driver=raw,file.filename=r $(named base)
	"$B/vm-img" compare -q $S --image-opts driver=raw,file.filename=r $(named base)
	qemu-img create -q -f qcow2 -b base -F qcow2 -u top 8M
	T="driver=qcow2,file.filename=top,backing.driver=qcow2,backing.file.filename=base,backing.encrypt.key-secret=s"
	"$B/vm-io" $S --image-opts -c "write -q -P 3 100000 70000" "$T"
	qemu-img convert $S --image-opts -O raw "$T" t.p
	"$B/vm-img" convert $S --image-opts -O raw "$T" t.o
	cmp t.p t.o
	"$B/vm-img" snapshot $S --image-opts -c one $(named base)
	"$B/vm-io" $S --image-opts -c "write -q -P 3 1M 1M" $(named base)
	"$B/vm-img" resize -q $S --image-opts $(named base) 12M
	qemu-img check -q $S --image-opts $(named base)
	"$B/vm-img" convert $S --image-opts -l one -O raw $(named base) s.o
	"$B/vm-img" snapshot $S --image-opts -a one $(named base)
	qemu-img compare -q $S --image-opts driver=raw,file.filename=r $(named base)
	cmp r s.o
	# what was allocated ahead is garbage until written
	"$B/vm-img" convert $S -f raw -O qcow2 -o $O,preallocation=metadata r pre
	qemu-img compare -q $S --image-opts driver=raw,file.filename=r $(named pre)
}

@test "encryption: what goes wrong" {
	make_one qemu-img encrypt.format=luks,encrypt.iter-time=10 x
	cp x "$P"; cp x "$O"
	truncate -s 1M "$P/r" "$O/r"
	same_lines img <<'X'
map x
check x
convert -O raw x y
convert -O raw --object secret,id=s,data=a --image-opts driver=qcow2,file.filename=x,encrypt.key-secret=t y
convert -O raw --object secret,id=s,data=a --image-opts driver=qcow2,file.filename=x,encrypt.key-secret=s y
convert -O raw --object secret,id=s,data=xyzzy --image-opts driver=qcow2,file.filename=x,encrypt.key-secret=s,encrypt.format=aes y
create -f qcow2 -o encrypt.format=foo y 1M
create -f qcow2 -o encrypt.format=luks y 1M
create -f qcow2 -o encrypt.format=aes y 1M
create -f qcow2 -o encrypt.key-secret=s y 1M
create -f qcow2 -o encryption=on y 1M
create -f qcow2 -o encryption=on,encrypt.format=luks y 1M
create -f qcow2 --object secret,id=s,data=a -o encrypt.format=aes,encrypt.key-secret=s,encrypt.iter-time=10 y 1M
convert -c -O qcow2 --object secret,id=s,data=a -o encrypt.format=luks,encrypt.key-secret=s r y
measure -O qcow2 --size 10M -o encrypt.format=luks
measure -O qcow2 --size 10M --object secret,id=s,data=a -o encrypt.format=aes,encrypt.key-secret=s
amend -f qcow2 -o compat=0.10 x
X
	until qemu-img measure -O qcow2 --size 10M $S -o encrypt.format=luks,encrypt.key-secret=s >p; do :; done
	"$B/vm-img" measure -O qcow2 --size 10M $S -o encrypt.format=luks,encrypt.key-secret=s >o
	diff p o
	# a header, its extension and its slots, broken
	for at in 35 112 113 119 120 126 127 262152 262248 262252; do
		cp x d
		printf '\377' | dd of=d bs=1 seek=$at conv=notrunc status=none
		run timeout 20 "$B/vm-io" $S --image-opts -c "read 0 512" $(named d)
		[ "$status" -le 1 ]
	done
	run "$B/vm-io" $S --image-opts -c "write -c 0 64k" $(named x)
	[ "$status" -eq 1 ]
}

@test "qcow, both ways" {
	K="encrypt.format=aes,encrypt.key-secret=s"
	head -c 3000000 /dev/urandom > r
	truncate -s 4M r
	for a in qemu-img "$B/vm-img"; do
		rm -f q top
		"$a" create -q -f qcow $S -o $K q 4M
		qemu-io $S --image-opts -c "write -q -P 5 1M 1M" $(named q qcow)
		"$B/vm-io" $S --image-opts -c "write -q -P 6 1500001 100001" \
			-c "write -q -P 8 3M 10" $(named q qcow)
		"$B/vm-img" convert $S --image-opts -O raw $(named q qcow) o
		qemu-img convert $S --image-opts -O raw $(named q qcow) p
		cmp o p
		qemu-img convert -n $S --target-image-opts -f raw r $(named q qcow)
		"$B/vm-img" compare -q $S --image-opts driver=raw,file.filename=r $(named q qcow)
	done
	"$B/vm-img" convert $S -f raw -O qcow -o $K r q
	qemu-img compare -q $S --image-opts driver=raw,file.filename=r $(named q qcow)
	cp q "$P"; cp q "$O"
	same_lines img <<'X'
info q
info --output=json q
map q
map --output=json --object secret,id=s,data=xyzzy --image-opts driver=qcow,file.filename=q,encrypt.key-secret=s
convert -O raw --image-opts driver=qcow,file.filename=q,encrypt.format=luks y
convert -O raw --image-opts driver=qcow,file.filename=q,encrypt.key-secret=t y
create -f qcow --object secret,id=s,data=a -o encrypt.format=luks,encrypt.key-secret=s y 1M
create -f qcow --object secret,id=s,data=a -o encrypt.format=foo,encrypt.key-secret=s y 1M
create -f qcow -o encrypt.format=aes y 1M
create -f qcow -o encrypt.key-secret=s y 1M
create -f qcow --object secret,id=s,data=a -o encryption=on,encrypt.key-secret=s y 1M
X
}
