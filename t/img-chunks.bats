# cloop and dmg images, made here, read by us and by the peer.
load img-peer

setup() {
	peer_setup
	cd "$BATS_TEST_TMPDIR"
	cat > make.py <<'X'
import base64, bz2, os, random, struct, sys, zlib
kind, src, out = sys.argv[1:4]
d = open(src, "rb").read()
def adc(b):         # literals, and long and short copies of zeros
    o, i = b"", 0
    while i < len(b):
        n = len(b) - i - len(b[i:].lstrip(b"\0"))
        if n > 70:
            o += b"\x80\0" + bytes([0x40 | 63, 0, 0]) ; i += 68
        elif n > 8:
            o += b"\x80\0" + bytes([5 << 2, 0]); i += 9
        else:
            n = min(128, len(b) - i)
            o += bytes([0x80 | n - 1]) + b[i:i + n]; i += n
    return o
if kind == "cloop":
    bs = 65536
    assert len(d) % bs == 0
    z = [zlib.compress(d[i:i + bs]) for i in range(0, len(d), bs)]
    h = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
    h = h.ljust(128, b"\0") + struct.pack(">II", bs, len(z))
    at = len(h) + 8 * (len(z) + 1)
    offs = []
    for b in z + [b""]:
        offs.append(at); at += len(b)
    open(out, "wb").write(h + struct.pack(f">{len(offs)}Q", *offs) + b"".join(z))
    sys.exit()
types = {"zlib": 0x80000005, "bz2": 0x80000006, "adc": 0x80000004, "raw": 1, "zero": 0, "lzfse": 0x80000007}
pack = {"zlib": zlib.compress, "bz2": bz2.compress, "adc": adc, "raw": lambda b: b, "zero": lambda b: b"", "lzfse": bytes}
kinds = kind.split(",")
fork = b"" if "rsrc" not in sys.argv else b"pad" * 100
body, tables, cs = fork, [], 128 << 10
half = len(d) // 2 // cs * cs
base = len(fork)
for a, e in ((0, half), (half, len(d))):
    rows, first = [], a // 512
    for n, i in enumerate(range(a, e, cs)):
        b = d[i:min(i + cs, e)]
        k = kinds[n % len(kinds)]
        if not b.strip(b"\0") and "zero" in kinds: k = "zero"
        elif k == "zero": k = "raw"
        p = pack[k](b)
        rows.append(struct.pack(">IIQQQQ", types[k], 0, (i - a) // 512, len(b) // 512, len(body) - base, len(p)))
        body += p
    rows.append(struct.pack(">IIQQQQ", 0xffffffff, 0, (e - a) // 512, 0, len(body) - base, 0))
    m = b"mish" + struct.pack(">IQQQII", 1, first, (e - a) // 512, 0, 520, 0)
    m = m.ljust(200, b"\0") + struct.pack(">I", len(rows)) + b"".join(rows)
    tables.append(m)
if "rsrc" in sys.argv:
    data = b"".join(struct.pack(">I", len(m)) + m for m in tables)
    x = struct.pack(">IIII", 256, 256 + len(data), len(data), 0).ljust(256, b"\0") + data
    koly = (0, 0, len(body), len(x))
else:
    x = b"<?xml version=\"1.0\"?>\n<plist><dict><key>resource-fork</key><dict><key>blkx</key><array>\n"
    for m in tables:
        b = base64.b64encode(m).decode()
        x += b"<dict><key>Data</key><data>\n" + "\n\t\t".join(b[i:i + 60] for i in range(0, len(b), 60)).encode() + b"\n</data></dict>\n"
    x += b"</array></dict></dict></plist>\n"
    koly = (len(body), len(x), 0, 0)
t = b"koly" + struct.pack(">IIIQQQQQ", 4, 512, 1, 0, base, len(body) - base, koly[2], koly[3])
t = t.ljust(216, b"\0") + struct.pack(">QQ", koly[0], koly[1])
t = t.ljust(488, b"\0") + struct.pack(">IQ", 1, len(d) // 512)
open(out, "wb").write(body + x + t.ljust(512, b"\0"))
X
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
	python3 make.py cloop r c
	"$B/vm-img" info c | grep -q "file format: cloop"
	alike cloop c
	run "$B/vm-io" -f cloop -c 'write 0 512' c
	[ "$status" -eq 1 ]
	hurt cloop c 128 132 136 140 144 148 300 392 400 2000
	head -c 1000 c > cut
	run "$B/vm-img" info -f cloop cut
	[ "$status" -le 1 ]
}

@test "dmg: zlib, bzip2, ADC, plain, zeros; property list and resource fork" {
	for k in zlib bz2 adc raw zlib,raw,zero bz2,adc,zlib,raw,zero; do
		python3 make.py $k r d.dmg
		"$B/vm-img" info d.dmg | grep -q "file format: dmg"
		alike dmg d.dmg
		python3 make.py $k r d.dmg rsrc
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
	python3 make.py lzfse r l.dmg
	run "$B/vm-img" info l.dmg
	[ "$status" -eq 1 ]
	[[ $output == *lzfse* ]]
}
