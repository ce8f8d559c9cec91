# cloop and dmg images, made here, read by us and by the peer.
load img-peer

setup() {
	peer_setup
	cd "$BATS_TEST_TMPDIR"
	{ head -c 300000 /dev/urandom; head -c 900000 /dev/zero; yes "some text" | head -c 700000; } > r
	truncate -s 2M r
}

# alike FORMAT FILE: what we read is r, and what the peer reads
alike() {
	"$B/vm-img" convert -f $1 -O raw $2 o
	cmp r o
	qemu-img convert -f $1 -O raw $2 p 2>/dev/null || return 0
	cmp r p
	cp $2 "$P/x"; cp $2 "$O/x"
	same img info -f $1 x
	same img info -f $1 --output=json x
	# the peer does not know where a dmg has zeros
	[ $1 = dmg ] || same img map -f $1 --output=json x
	same img check -f $1 x
	same img compare -f $1 -F $1 x x
	same io -r -f $1 -c "read -v 299990 20" -c "read 2097151 1" -c "read 2M 1" x
}

# hurt FORMAT FILE OFFSET...: an error or some content, soon, and no crash
hurt() {
	local f=$1 s=$2 at
	shift 2
	for at; do
		for v in '\377\377\377\377' '\177\377\377\377' '\0\0\0\0' '\0\0\1\0'; do
			cp $s bad
			printf "$v" | dd of=bad bs=1 seek=$at conv=notrunc status=none
			run timeout 10 bash -c "ulimit -v 800000; $B/vm-img convert -f $f -O raw bad $PWD/raw.b"
			[ "$status" -le 1 ]
			[ "${#lines[@]}" -le 1 ]
			rm -f raw.b
		done
	done
}

@test "cloop" {
	python3 "$BATS_TEST_DIRNAME/chunks.py" cloop r c
	"$B/vm-img" info c | grep -q "file format: cloop"
	alike cloop c
	run "$B/vm-io" -f cloop -c 'write 0 512' c
	[ "$status" -eq 1 ]
	hurt cloop c 128 132 136 140 144 148 300 392 400 2000
	head -c 1000 c > cut
	run "$B/vm-img" info -f cloop cut
	[ "$status" -le 1 ]
}

@test "dmg: a plain chunk of any size takes no memory" {
	python3 "$BATS_TEST_DIRNAME/chunks.py" raw r d.dmg rsrc
	x=$(grep -abo mish d.dmg | tail -n 1 | cut -d: -f1)
	# sectors and bytes of the last table's last row but one
	rows=$(od -An -tu4 --endian=big -j $((x + 200)) -N 4 d.dmg)
	row=$((x + 204 + (rows - 2) * 40))
	printf '\0\077\377\377\377\0\0\0' | dd of=d.dmg bs=1 seek=$((row + 16)) conv=notrunc status=none
	printf '\177\377\377\377\377\0\0\0' | dd of=d.dmg bs=1 seek=$((row + 32)) conv=notrunc status=none
	(ulimit -v 400000; "$B/vm-img" convert -f dmg -O raw d.dmg o)
	cmp r o
}

@test "dmg: zlib, bzip2, ADC, plain, zeros; property list and resource fork" {
	for k in zlib bz2 adc raw zlib,raw,zero bz2,adc,zlib,raw,zero; do
		python3 "$BATS_TEST_DIRNAME/chunks.py" $k r d.dmg
		"$B/vm-img" info d.dmg | grep -q "file format: dmg"
		alike dmg d.dmg
		python3 "$BATS_TEST_DIRNAME/chunks.py" $k r d.dmg rsrc
		alike dmg d.dmg
	done
	run "$B/vm-io" -f dmg -c 'write 0 512' d.dmg
	[ "$status" -eq 1 ]
	n=$(stat -c %s d.dmg)
	hurt dmg d.dmg $((n - 512)) $((n - 488)) $((n - 484)) $((n - 472)) $((n - 468)) \
		$((n - 464)) $((n - 460)) $((n - 20)) $((n - 16))
	x=$(grep -abo mish d.dmg | head -n 1 | cut -d: -f1)
	hurt dmg d.dmg $((x - 4)) $((x + 8)) $((x + 24)) $((x + 200)) $((x + 204)) \
		$((x + 212)) $((x + 220)) $((x + 224)) $((x + 228)) $((x + 232)) \
		$((x + 236)) $((x + 240))
	hurt dmg d.dmg 400 1000 2000
	python3 "$BATS_TEST_DIRNAME/chunks.py" lzfse r l.dmg
	run "$B/vm-img" info l.dmg
	[ "$status" -eq 1 ]
	[[ $output == *lzfse* ]]
}
