# vm-slirp on its other wires, and what hostile frames do to it.
load switch-help

setup_file() { cd "$BATS_TEST_DIRNAME/.." && source t/switch-help.bash && net_build; }
setup() { net_setup; }
teardown() { net_teardown; }

@test "on a VDE switch: two guests reach each other and the gateway" {
	need_tap
	need ping
	start "$B/vm-switch" -s "$S/a" -M "$S/a.m" -t "$TAP"
	until_ok test -S "$S/a.m"
	start "$B/vm-slirp" -M "$S/c" "vde:$S/a,reconnect=1"
	until_ok test -S "$S/c"
	guest
	in_guest ping -c1 -W5 10.0.2.2
	run "$T/switch-frame" v="vde:$S/a" <<-'X'
		# ARP: who has 10.0.2.15, 10.0.2.2
		send v ffffffffffff 020000000009 0806 0001 0800 0604 0001 020000000009 0a000209 000000000000 0a00020f
		expect v 020000000009
		send v ffffffffffff 020000000009 0806 0001 0800 0604 0001 020000000009 0a000209 000000000000 0a000202
		expect v 020000000009 52550a000202 0806 0001 0800 0604 0002
	X
	[ "$output" = ok ]
}

@test "the switch is killed and comes back: slirp plugs in again" {
	need_tap
	need ping
	start "$B/vm-switch" -s "$S/a" -M "$S/a.m"
	until_ok test -S "$S/a.m"
	start "$B/vm-slirp" "vde:$S/a,reconnect=1"
	has() { mgmt "$S/a.m" port/print | grep -q "prog   : sluice"; }
	until_ok has
	kill -9 "${pids[0]}"
	wait "${pids[0]}" || :		# its sockets are free then
	start "$B/vm-switch" -s "$S/a" -M "$S/a.m"
	until_ok has
}

@test "on vde_switch, beside its own plug" {
	need vde_switch
	start vde_switch -s "$S/r" -M "$S/r.m"
	until_ok test -S "$S/r.m"
	start "$B/vm-slirp" -M "$S/c" "vde:$S/r"
	until_ok test -S "$S/c"
	run "$T/switch-frame" v="vde:$S/r" <<-'X'
		send v ffffffffffff 020000000009 0806 0001 0800 0604 0001 020000000009 0a000209 000000000000 0a000202
		expect v 020000000009 52550a000202 0806
	X
	[ "$output" = ok ]
}

@test "QEMU's framings: dgram sockets and standard input" {
	start "$B/vm-slirp" -M "$S/c" "dgram:$S/d1,remote=$S/d2"
	until_ok test -S "$S/c"
	run "$T/switch-frame" v="dgram:$S/d2,remote=$S/d1" <<-'X'
		send v ffffffffffff 020000000009 0806 0001 0800 0604 0001 020000000009 0a000209 000000000000 0a000202
		expect v 020000000009 52550a000202 0806
	X
	[ "$output" = ok ]
}

@test "hostile frames: addresses that lie, lengths that lie" {
	start "$B/vm-slirp" -M "$S/c" "stream:$S/s,server"
	until_ok test -S "$S/s"
	run "$T/switch-frame" v="stream:$S/s" <<-'X'
		# total length beyond the frame; header length 4; bad checksum
		send v 52550a000202 020000000009 0800 4500 05dc 0000 0000 4001 1cee 0a00020f 0a000202
		send v 52550a000202 020000000009 0800 4100 0014 0000 0000 4001 22b6 0a00020f 0a000202
		send v 52550a000202 020000000009 0800 4500 001c 0000 0000 4001 0000 0a00020f 0a000202 0800 f7ff 0000 0000
		# from an address outside the network, and from the gateway itself
		send v 52550a000202 020000000009 0800 4500 001c 0000 0000 4001 0000 01020304 0a000202 0800 f7ff 0000 0000
		none v 020000000009
		# still alive
		send v ffffffffffff 020000000009 0806 0001 0800 0604 0001 020000000009 0a000209 000000000000 0a000202
		expect v 020000000009 52550a000202 0806
	X
	echo "$output"
	[ "$output" = ok ]
	run ctl "$S/c" stat
	[[ $output =~ "bad "[4-9] ]]
}

@test "fifty thousand damaged frames: no crash, memory bounded" {
	mkdir "$S/t"
	run bash -c "set -o pipefail; $T/slirp-fuzz 42 50000 | $B/vm-slirp -o tftp=$S/t,loopback=off stdio,qemu | cat >/dev/null"
	[ "$status" -eq 0 ]
}

# inside WHAT...: all of vm-slirp in one program with its guests and peers
inside() {
	make -s build/t/slirp-inside >&2
	run timeout -k 5 900 build/t/slirp-inside "$@"
	echo "$output"
	[ "$status" -ne 77 ] || skip "no network of its own"
	[ "$status" -eq 0 ]
	[ "${lines[-1]}" = ok ]
}

@test "connections that their guest forgot go; a full table gives up the idlest" {
	inside rules
}

# SLIRP_EVENTS=1000000 for a long one
@test "guests and peers that do anything, in all states: nothing is left of it" {
	inside frames 1 "${SLIRP_EVENTS:-30000}"
	inside peers 2 "${SLIRP_EVENTS:-30000}"
	inside peers 3 "${SLIRP_EVENTS:-30000}"
}

# SLIRP_HOURS=24 for a long one
@test "hours of stations that come and go: memory and descriptors do not grow" {
	inside day 1 "${SLIRP_HOURS:-3}"
}

# slow_guest SACK: fetches a megabyte, and looks at nothing for a while at each
# fifth of it; prints the sum, and the segments it had already
slow_guest() {
	python3 - "$S/s" "$1" <<-'P' 3>&- 9>&-
	import hashlib, socket, struct, sys, threading, time
	data = hashlib.shake_128(b"x").digest(1000000)
	srv = socket.create_server(("127.0.0.1", 0))
	def serve():
	    c = srv.accept()[0]
	    c.sendall(data)
	    c.shutdown(1)
	    time.sleep(60)
	threading.Thread(target=serve, daemon=True).start()
	sack = sys.argv[2] == "sack"
	port = struct.pack(">H", srv.getsockname()[1])
	me, gw = bytes([10, 0, 2, 15]), bytes([10, 0, 2, 2])
	wire = socket.socket(socket.AF_UNIX)
	wire.connect(sys.argv[1])
	wire.settimeout(20)
	def exactly(n):
	    b = b""
	    while len(b) < n:
	        x = wire.recv(n - len(b))
	        if not x: sys.exit("the wire is gone")
	        b += x
	    return b
	def csum(b):
	    s = sum(struct.unpack(">%dH" % (len(b) // 2), b))
	    s = (s & 0xffff) + (s >> 16)
	    return 0xffff & ~((s & 0xffff) + (s >> 16))
	def send(seq, ack, flags, opt=b""):
	    t = struct.pack(">HHIIBBHHH", 4000, srv.getsockname()[1], seq, ack,
	        (20 + len(opt)) // 4 << 4, flags, 65535, 0, 0) + opt
	    c = csum(me + gw + struct.pack(">HH", 6, len(t)) + t)
	    t = t[:16] + struct.pack(">H", c) + t[18:]
	    h = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(t), 0, 0, 64, 6, 0) + me + gw
	    h = h[:10] + struct.pack(">H", csum(h)) + h[12:]
	    f = bytes.fromhex("52550a000202 020000000009 0800") + h + t
	    wire.sendall(struct.pack(">I", len(f)) + f)
	send(1000, 0, 2, bytes.fromhex("020405b4") + (bytes.fromhex("04020101") if sack else b""))
	got, twice, nxt, stop = b"", 0, None, 200000
	while True:
	    f = exactly(struct.unpack(">I", exactly(4))[0])
	    if f[12:14] != b"\x08\0" or f[23] != 6 or f[34:36] != port:
	        continue
	    t = f[34:14 + struct.unpack(">H", f[16:18])[0]]
	    seq, body = struct.unpack(">I", t[4:8])[0], t[(t[12] >> 4) * 4:]
	    if t[13] & 2:
	        nxt = seq + 1 & 0xffffffff
	        send(1001, nxt, 16)
	        continue
	    opt = b""
	    if body and seq != nxt:
	        twice += 1
	        if sack:
	            opt = struct.pack(">BBBBII", 1, 1, 5, 10, seq, seq + len(body) & 0xffffffff)
	    elif body:
	        got += body
	        nxt = nxt + len(body) & 0xffffffff
	    elif not t[13] & 1:
	        continue
	    if len(got) >= stop:
	        time.sleep(1)
	        stop += 200000
	    time.sleep(.001)
	    send(1001, nxt, 16, opt)
	    if t[13] & 1 and seq + len(body) & 0xffffffff == nxt:
	        send(1001, nxt, 4)
	        break
	print("right" if got == data else "wrong", twice)
	P
}

@test "TCP to a guest that stops now and then: little comes twice" {
	need python3
	start "$B/vm-slirp" -M "$S/c" "stream:$S/s,server"
	until_ok test -S "$S/s"
	for how in sack none; do
		run slow_guest $how
		echo "$how: $output"
		[[ $output =~ ^"right "([0-9]+)$ ]]
		# four stops, each long enough for two or three timeouts
		[ "${BASH_REMATCH[1]}" -le 16 ]
	done
	run ctl "$S/c" stat
	echo "$output"
	[[ $output =~ "tcp-retransmits "([0-9]+) ]]
	[ "${BASH_REMATCH[1]}" -le 32 ]
}

@test "TCP from a guest: a window left narrow opens again when there is room" {
	need python3
	start "$B/vm-slirp" "stream:$S/s,server"
	until_ok test -S "$S/s"
	run python3 - "$S/s" <<-'P' 3>&- 9>&-
	import socket, struct, sys
	srv = socket.create_server(("127.0.0.1", 0))
	srv.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
	me, gw = bytes([10, 0, 2, 15]), bytes([10, 0, 2, 2])
	wire = socket.socket(socket.AF_UNIX)
	wire.connect(sys.argv[1])
	wire.settimeout(20)
	def exactly(n):
	    b = b""
	    while len(b) < n:
	        x = wire.recv(n - len(b))
	        if not x: sys.exit("the wire is gone")
	        b += x
	    return b
	def csum(b):
	    b += b"\0" * (len(b) & 1)
	    s = sum(struct.unpack(">%dH" % (len(b) // 2), b))
	    s = (s & 0xffff) + (s >> 16)
	    return 0xffff & ~((s & 0xffff) + (s >> 16))
	def send(seq, ack, flags, opt=b"", data=b""):
	    t = struct.pack(">HHIIBBHHH", 4000, srv.getsockname()[1], seq, ack,
	        (20 + len(opt)) // 4 << 4, flags, 65535, 0, 0) + opt + data
	    c = csum(me + gw + struct.pack(">HH", 6, len(t)) + t)
	    t = t[:16] + struct.pack(">H", c) + t[18:]
	    h = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(t), 0, 0, 64, 6, 0) + me + gw
	    h = h[:10] + struct.pack(">H", csum(h)) + h[12:]
	    f = bytes.fromhex("52550a000202 020000000009 0800") + h + t
	    wire.sendall(struct.pack(">I", len(f)) + f)
	def edge():		# the next segment's acknowledgement, and the window's end
	    while True:
	        f = exactly(struct.unpack(">I", exactly(4))[0])
	        if f[12:14] == b"\x08\0" and f[23] == 6:
	            s, a, x, fl, w = struct.unpack(">IIBBH", f[38:50])
	            return s, a, a + (w if fl & 2 else w << 8)
	send(999, 0, 2, bytes.fromhex("020405b4 01030300"))
	me_seq = 1000
	nxt, ack, end = edge()
	nxt += 1
	send(me_seq, nxt, 16)
	conn = srv.accept()[0]
	# all but 600 bytes of what is allowed, until no more is
	while end - me_seq > 600:
	    n = min(1460, end - me_seq - 600)
	    send(me_seq, nxt, 16, data=b"x" * n)
	    me_seq += n
	    while ack < me_seq:
	        s, ack, e = edge()
	        end = max(end, e)
	narrow, got = end - me_seq, 0
	while got < me_seq - 1000:
	    got += len(conn.recv(1 << 20))
	while end - me_seq < 1460:	# told, with nothing sent
	    end = max(end, edge()[2])
	print("from", narrow, "to", "enough")
	P
	echo "$output"
	[[ $output == "from "*" to enough" ]]
}

@test "idle, it does not wake up" {
	start "$B/vm-slirp" -M "$S/c" -o "ipv6=off,hostfwd=udp:127.0.0.1:$(free_port)-:53" \
	    "stream:$S/s,server"
	until_ok test -S "$S/c"
	# a flow that ages, of one query to a closed port
	run "$T/switch-frame" v="stream:$S/s" <<-'X'
		send v 52550a000202 020000000009 0800 4500 001d 0000 0000 4011 62c0 0a00020f 0a000202 0fa0 0001 0009 0000 61
		send v ffffffffffff 020000000009 0806 0001 0800 0604 0001 020000000009 0a00020f 000000000000 0a000202
		expect v 020000000009 52550a000202 0806
	X
	[ "$output" = ok ]
	run ctl "$S/c" stat
	[[ $output =~ "udp 2" ]]
	count() { grep ^voluntary "/proc/${pids[0]}/status"; }
	quiet() {
		local before=$(count)
		sleep 1
		[ "$before" = "$(count)" ]
	}
	quiet || quiet		# the end of the question is an event
}

@test "usage and errors" {
	run "$B/vm-slirp"
	[ "$status" -eq 2 ]
	run "$B/vm-slirp" -o bogus=1 "stream:$S/s,server"
	[ "$status" -eq 2 ]
	run "$B/vm-slirp" -o host=1.2.3.4 "stream:$S/s,server"
	[ "$status" -eq 2 ]
	run "$B/vm-slirp" -o hostfwd=tcp::x-:1 "stream:$S/s,server"
	[ "$status" -eq 1 ]
	run "$B/vm-slirp" "vde:$S/none"
	[ "$status" -eq 1 ]
	[[ $output == *"No such file"* ]]
}

@test "it is in a sandbox; killed, it leaves no socket behind" {
	mkdir "$S/t"
	start "$B/vm-slirp" -M "$S/c" -p "$S/pid" -o "tftp=$S/t,hostfwd=unix:$S/u-:80" \
	    "stream:$S/s,server"
	until_ok test -S "$S/c"
	confined() { grep -q '^Seccomp:.*2$' "/proc/${pids[0]}/status"; }
	[ "${NETBIN:-}" ] || until_ok confined
	grep -q '^NoNewPrivs:.*1$' "/proc/${pids[0]}/status"
	run ctl "$S/c" "hostfwd_add unix:$S/later-:80"
	[ "$output" = ok ]
	[ -S "$S/later" ]
	run ctl "$S/c" "hostfwd_add unix:$S/none/later-:80"
	[[ $output == "err 2 "*"No such file or directory" ]]
	run ctl "$S/c" "hostfwd_remove unix:$S/later"
	[ "$output" = ok ]
	[ ! -e "$S/later" ]
	kill -9 "${pids[0]}"
	empty() { [ "$(ls "$S")" = "$(printf 'in\nt')" ]; }
	until_ok empty || { ls "$S"; return 1; }
	run "$B/vm-slirp" -o "tftp=$S/none" "stream:$S/s,server"
	[ "$status" -eq 1 ]
	[[ $output == *"tftp=$S/none: No such file or directory" ]]
}
