# vm-nbd beside its clients: libnbd's tools and QEMU's.
setup() {
	command -v nbdcopy >/dev/null || skip "nbdcopy (libnbd-bin) is not installed"
	command -v qemu-img >/dev/null || skip "qemu-img is not installed"
	make -s build/bin/vm-nbd build/bin/vm-img
	B="$PWD/build/bin"
	cd "$BATS_TEST_TMPDIR"
	S="$BATS_TEST_TMPDIR/s"
	U="nbd+unix:///?socket=$S"
	head -c 5000000 /dev/urandom > r
	truncate -s 20M r
	"$B/vm-img" convert -f raw -O qcow2 r q
}
teardown() { [ ! -f pid ] || kill "$(cat pid)" 2>/dev/null || true; }
serve() { "$B/vm-nbd" --fork --pid-file="$PWD/pid" -k "$S" "$@"; }
# SIGTERM, then until it has closed the image (its pid file is gone)
stop() { kill "$(cat pid)"; while [ -e pid ]; do sleep 0.02; done; }

@test "nbdcopy out and in, nbdinfo sees holes" {
	serve -t -e 8 -f qcow2 -x name -D words q
	nbdinfo --list "$U" > info
	grep -q 'export="name"' info
	grep -q 'description: words' info
	grep -q 'can_multi_conn: true' info
	U="nbd+unix:///name?socket=$S"
	nbdcopy "$U" out
	cmp r out
	nbdinfo --map "$U" | grep -q hole
	head -c 20971520 /dev/urandom > n
	nbdcopy n "$U"
	stop
	qemu-img compare -f raw -F qcow2 n q
	qemu-img check -q q
}

@test "QEMU as the client: reads, writes, discards" {
	serve -t -e 8 -f qcow2 q
	qemu-img compare -f raw -F raw r "$U"
	qemu-io -f raw -c "write -q -P 7 1M 1M" -c "discard -q 3M 1M" \
	    -c "write -q -z 5M 1M" -c "write -q -z -u 10M 1M" -c flush "$U"
	qemu-io -f raw -c "write -q -P 7 1M 1M" -c "write -q -z 3M 1M" \
	    -c "write -q -z 5M 1M" -c "write -q -z 10M 1M" r
	stop
	qemu-img compare -f raw -F qcow2 r q
	qemu-img check -q q
}

@test "dirty bitmaps and allocation depth as contexts" {
	"$B/vm-img" bitmap --add q b0
	"$B/vm-img" create -q -f qcow2 -b q -F qcow2 top 20M
	qemu-io -c "write -q 1M 64k" q
	serve -t -r -A -B b0 -f qcow2 q
	nbdinfo --map=qemu:dirty-bitmap:b0 "$U" | grep -q '1048576 *65536 *1'
	nbdinfo --map=qemu:allocation-depth "$U" | grep -q 'local'
	run qemu-io -f raw -c "write 0 1k" "$U"
	[ "$status" -ne 0 ]
	stop
}

@test "the last client leaving ends it; hostile bytes only end themselves" {
	serve -e 4 -f qcow2 q
	head -c 100000 /dev/urandom | "$B/vm-nbd" --stdin -r -f raw r > /dev/null || true
	nbdinfo "$U" > /dev/null
	while [ -e pid ]; do sleep 0.02; done
	[ ! -e s ]
}

@test "-L prints what servers export, as qemu-nbd does" {
	"$B/vm-img" bitmap --add q b0
	serve -t -r -A -B b0 -D words -x name -f qcow2 q
	"$B/vm-nbd" -L -k "$S" > o
	qemu-nbd -L -k "$S" > p
	diff p o
	stop
	qemu-nbd -t -f raw -k "$S" -x exp r 3>&- &
	peer=$!
	while [ ! -S "$S" ]; do sleep 0.02; done
	"$B/vm-nbd" -L -k "$S" > o || true
	qemu-nbd -L -k "$S" > p || true
	kill $peer
	diff p o
	for w in "-L -k /tmp/nosuch" "-L -b 127.0.0.1 -p 1" "-L r" "-L -x foo"; do
		run qemu-nbd $w
		want=${output/qemu-nbd:/vm-nbd:}
		run "$B/vm-nbd" $w
		[ "$status" -eq 1 ]
		[ "$output" = "$want" ]
	done
}

@test "a client that asks for much and takes nothing costs little" {
	command -v python3 >/dev/null || skip "python3 is not installed"
	truncate -s 64M big
	serve -t -f raw big
	python3 - "$S" "$(cat pid)" <<'X'
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
def get(n):
    while n:
        n -= len(s.recv(min(n, 1 << 20)))
get(18)
s.sendall(struct.pack(">IQII", 3, 0x49484156454F5054, 1, 0))
get(10)
for i in range(40):
    s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, 0, 32 << 20))
for i in range(40):
    get(16 + (32 << 20))
high = [l.split()[1] for l in open(f"/proc/{sys.argv[2]}/status") if l.startswith("VmHWM")]
print(high[0], "KiB")
assert int(high[0]) < 150000
X
	stop
}

@test "-l: a snapshot by its name, its number, or both" {
	"$B/vm-img" snapshot -c one q
	"$B/vm-io" -f qcow2 -c "write -q -P 1 0 1M" q
	for l in one 1 snapshot.name=one snapshot.id=1 snapshot.id=1,snapshot.name=one; do
		serve -f qcow2 -l $l q
		nbdcopy "$U" out
		cmp r out
		while [ -e pid ]; do sleep 0.02; done
	done
}
