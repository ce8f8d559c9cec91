# Network cards in a guest: the user network, a switch, links that come and go.

load net-help

setup() {
	vm_setup
	T=$BATS_TEST_TMPDIR
	in_net=()
}

teardown() {
	vm_teardown
}

# every_way NAME OPTIONS: lease, gateway, host's loopback, names, a big file.  One
# that is not the same in the guest is written to the guest's disk, and kept.
every_way() {
	local name=$1 sum
	shift
	serve 127.0.0.1
	sum=$(sha256sum <"$T/www/big")
	truncate -s 4M "$T/got"
	boot -m 192 -kernel "$guest/${kernel}vmlinuz" -initrd "$guest/${kernel}initrd.img" \
		-drive file="$T/got",format=raw,if=virtio \
		"$@" -- quiet $words "vm.run=\"$up; ping -c 2 -i 0.2 -W 5 10.0.2.2; wget -q -O - http://10.0.2.2:$port/hello; wget -q -O /tmp/big http://10.0.2.2:$port/big; sha256sum </tmp/big; sha256sum </tmp/big | grep -q ${sum%% *} || dd if=/tmp/big of=/dev/vda; cat /etc/resolv.conf; cat /sys/class/net/eth0/address; grep eth0: /proc/net/dev\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "2 packets transmitted, 2 packets received"
	seen "from the host"
	seen "${sum%% *}" || { keep "$name" "$T/www/big" "$T/got"; return 1; }
	seen "nameserver 10.0.2.3"
	seen "52:54:00:12:34:56"
}

@test "virtio: lease, ping, host's loopback" {
	kernel= words=
	every_way virtio
}

@test "virtio without MSI-X, unmerged, small queues" {
	kernel= words=pci=nomsi
	every_way virtio-small -netdev user,id=n -device virtio-net-pci,netdev=n,mrg_rxbuf=off,queue-size=32
}

@test "e1000: lease, ping, host's loopback" {
	kernel=amd64- words=vm.load=e1000
	every_way e1000 -nic user,model=e1000
}

@test "rtl8139: lease, ping, host's loopback" {
	kernel=amd64- words=vm.load=8139too
	every_way rtl8139 -nic user,model=rtl8139
}

@test "ne2k_pci: lease, ping, host's loopback" {
	kernel=amd64- words=vm.load=ne2k_pci
	every_way ne2k_pci -nic user,model=ne2k_pci
}

@test "pcnet: lease, ping, host's loopback" {
	kernel=amd64- words=vm.load=pcnet32
	every_way pcnet -nic user,model=pcnet
}

@test "registers, descriptors and frames of a hostile guest" {
	make -s build/t/nics
	run timeout 60 build/t/nics
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "names: the gateway's, and what a guest called itself" {
	boot -m 192 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-nic user,domainname=test.example -- quiet \
		"vm.run=\"ip link set lo up; ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1 -x hostname:karl; ping -c 1 karl.test.example; ping -c 1 _gateway; cat /etc/resolv.conf\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "PING karl.test.example (10.0.2.15)"
	seen "PING _gateway (10.0.2.2)"
	seen "search test.example"
}

@test "IPv6: an address by router advertisement, a file over it" {
	serve ::1
	boot -m 192 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" -- quiet \
		"vm.run=\"echo 0 >/proc/sys/net/ipv6/conf/eth0/dad_transmits; ip link set eth0 up; n=0; until ip -6 addr show dev eth0 scope site | grep -v tentative | grep -q fec0:: || [ \$n = 100 ]; do n=\$((n + 1)); usleep 100000; done; ip -6 addr show dev eth0; ping -6 -c 1 -W 5 fec0::2; wget -q -O - http://[fec0::2]:$port/hello\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "fec0::5054:ff:fe12:3456/64"
	seen "1 packets received"
	seen "from the host"
}

@test "monitor: a forward while it runs, the link off and on" {
	local p n=0
	kernel= words=
	machine mm "$up; sha256sum </bin/busybox; httpd -p 80 -h /; echo serving; while [ ! -e /tmp/off ]; do grep -q 0 /sys/class/net/eth0/carrier && echo link is down && touch /tmp/off; usleep 50000; done; while grep -q 0 /sys/class/net/eth0/carrier; do usleep 50000; done; echo link is up; sleep 1000"
	until_true says mm serving
	# the port is ours if nobody has it: try some
	until p=$((20000 + RANDOM % 12000)) && vm-mon mm "hostfwd_add tcp:127.0.0.1:$p-:80"; do
		[ $((n += 1)) -lt 20 ]
	done
	run vm-mon mm info usernet
	seen "$p"
	fetch() {
		python3 -c "import urllib.request as u, sys; sys.stdout.buffer.write(u.urlopen('http://127.0.0.1:$p/bin/busybox', timeout=20).read())"
	}
	says mm "$(fetch | sha256sum)"
	# in pieces of many segments
	run vm-mon mm info network
	[[ $output =~ ,tx=([0-9]+),tx_bytes=([0-9]+), ]]
	[ "$((BASH_REMATCH[2] / BASH_REMATCH[1]))" -gt 3000 ]
	vm-mon mm "hostfwd_remove tcp:127.0.0.1:$p"
	run fetch
	[ "$status" -ne 0 ]
	run vm-mon mm hostfwd_remove tcp:127.0.0.1:$p
	[ "$status" -eq 1 ]
	run vm-mon mm hostfwd_add nonsense
	[ "$status" -eq 1 ]
	[ "${#lines[@]}" -eq 1 ]
	run vm-mon mm "device_add e1000,netdev=net0"
	[ "$status" -eq 1 ]
	seen "device_add e1000,netdev=net0: this machine's bus has no hot plug"
	vm-mon mm set_link nic0 off
	until_true says mm "link is down"
	run vm-mon mm info network
	seen "nic0: type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56,link=down"
	vm-mon mm set_link net0 on		# by the network's name
	until_true says mm "link is up"
	renewed() {
		[ "$(cat "$dir/part/net0/pid")" != "$n" ] &&
			vm-mon mm info network | grep -q link=up
	}
	run vm-mon mm set_link nobody on
	[ "$status" -eq 1 ]
	run vm-mon mm set_link nic0 maybe
	[ "$status" -eq 1 ]
	seen "on or off expected"
	# the machine lives without its network, which comes back twice, or more
	# often on a slow host
	given_up() { grep -q "died three times" "$T/mm.out"; }
	settled() { given_up || renewed; }
	for p in 1 2 3 4 5 6 7 8 9; do
		n=$(cat "$dir/part/net0/pid")
		kill -9 "$n"
		until_true gone "$n"
		until_true settled
		! given_up || break
	done
	[ $p -ge 3 ]
	given_up
	down() { vm-mon mm info network | grep -q link=down; }
	until_true down
	[ "$(vm-mon mm info status)" = "VM status: running" ]
	vm-mon mm quit
	until_true gone "$pid"
	nothing_left mm
}

@test "an e1000 and a virtio guest on a switch reach each other and the host" {
	kernel= words=
	# what one sends in segments cut by its card the other checks
	vm-switch -sock "$T/sw" </dev/null >"$T/sw.out" 2>&1 3>&- 4>&- &
	started="$started $!"
	until_true test -S "$T/sw/ctl"
	vm-slirp "vde:$T/sw" 3>&- 4>&- &
	started="$started $!"
	kernel=amd64- words=vm.load=e1000
	machine a "$up; ip addr add 192.168.7.1/24 dev eth0; httpd -p 80 -h /; echo ready; sleep 1000" \
		-nic "vde,sock=$T/sw,model=e1000"
	kernel= words=
	serve 127.0.0.1
	machine b "$up; ip addr add 192.168.7.2/24 dev eth0; n=0; until ping -c 1 -W 1 192.168.7.1 || [ \$n = 50 ]; do n=\$((n + 1)); done; wget -q -O - http://192.168.7.1/bin/busybox | sha256sum; sha256sum </bin/busybox; wget -q -O - http://10.0.2.2:$port/hello; echo done; sleep 1000" \
		-nic "vde,sock=$T/sw,mac=52:54:00:12:34:99"
	until_true says a ready
	until_true says b done
	console b
	echo "$output"
	[ "$(printf '%s\n' "$output" | grep -c '^[0-9a-f]\{64\}  -$')" -eq 2 ]
	[ "$(printf '%s\n' "$output" | grep '^[0-9a-f]\{64\}  -$' | sort -u | wc -l)" -eq 1 ]
	seen "from the host"
	vm-mon a quit
	vm-mon b quit
	# the cards leave no socket behind; vm-slirp's is there
	plugs() { [ "$(find "$T/sw" -name '.*' -type s | wc -l)" -eq 1 ]; }
	until_true plugs
}

@test "two machines by a stream socket; one ends, the other sees it" {
	kernel= words=
	machine s "ip addr add 192.168.7.1/24 dev eth0; ip link set eth0 up; echo ready; sleep 1000" \
		-nic stream,server=on,addr.type=unix,addr.path="$T/wire"
	until_true test -S "$T/wire"
	machine c "ip addr add 192.168.7.2/24 dev eth0; ip link set eth0 up; n=0; until ping -c 1 -W 1 192.168.7.1 || [ \$n = 50 ]; do n=\$((n + 1)); done; echo pinged; until grep -q 0 /sys/class/net/eth0/carrier; do usleep 50000; done; echo link is down; sleep 1000" \
		-nic stream,addr.type=unix,addr.path="$T/wire"
	until_true says c pinged
	console c
	seen "1 packets received"
	vm-mon s quit
	until_true says c "link is down"
	[ ! -e "$T/wire" ]
	vm-mon c quit
	until_true no_process c
}

@test "a network that cannot be had: one line, status" {
	bad() {
		local want=$1
		shift
		run vm-run -m 64 -display none -serial null -kernel "$guest/vmlinuz" "$@" </dev/null
		echo "$output"
		[ "$status" -eq "$want" ]
		[ "${#lines[@]}" -eq 1 ]
	}
	bad 1 -nic vde,sock="$T/none"
	seen "$T/none"
	bad 1 -nic stream,addr.type=unix,addr.path="$T/none"
	seen "$T/none"
	bad 1 -nic user,hostfwd=tcp:192.0.2.1:80-:80
	seen "hostfwd=tcp:192.0.2.1:80-:80"
	bad 2 -nic user,net=elsewhere
	seen elsewhere
}

@test "two cards and two networks on a hub" {
	local n
	kernel= words=
	serve 127.0.0.1
	machine s "ip addr add 10.0.2.77/24 dev eth0; ip link set eth0 up; echo ready; sleep 1000" \
		-nic stream,server=on,addr.type=unix,addr.path="$T/wire"
	until_true test -S "$T/wire"
	machine h "ip link set lo up; for i in 0 1; do udhcpc -i eth\$i -n -q -t 20 -T 1 >/dev/null 2>&1; ip -4 addr show dev eth\$i; ip route add 10.0.2.2 dev eth\$i; ping -c 1 -W 5 10.0.2.2; wget -q -O - http://10.0.2.2:$port/hello; ip route del 10.0.2.2; done; n=0; until ping -c 1 -W 1 10.0.2.77 >/dev/null; do [ \$((n += 1)) -lt 30 ] || break; done; echo done; sleep 1000" \
		-net nic -net nic,model=virtio -net user -net socket,connect="$T/wire"
	until_true says h done
	console h
	echo "$output"
	seen "inet 10.0.2.15/24"
	seen "inet 10.0.2.16/24"
	[ "$(grep -c "1 packets received" "$T/h.con")" -eq 2 ]
	[ "$(grep -c "from the host" "$T/h.con")" -eq 2 ]
	run vm-mon h info network
	echo "$output"
	seen "peer=hub:hub0"
	seen "hub0: type=hub,ports=4"
	n=$(cat "$dir/part/hub0/pid")
	kill -9 "$n"
	until_true gone "$n"
	renewed() { [ "$(cat "$dir/part/hub0/pid")" != "$n" ]; }
	until_true renewed
	up2() { [ "$(vm-mon h info network | grep -c link=up)" -eq 2 ]; }
	until_true up2
	vm-mon h quit
	vm-mon s quit
	until_true gone "$pid"
	nothing_left h
}

@test "filters: dump, mirror, a redirector by way of somebody, a buffer" {
	kernel= words=
	# mirror.sock gets copies; what comes from away.sock goes to back.sock
	python3 - "$T" 3>&- 4>&- <<-'P' &
	import os, socket, struct, sys, threading
	os.chdir(sys.argv[1])
	def listen(name):
	    s = socket.socket(socket.AF_UNIX)
	    s.bind(name)
	    s.listen()
	    return s
	def frames(s):
	    b = b""
	    while True:
	        x = s.recv(65536)
	        if not x:
	            return
	        b += x
	        while len(b) >= 4 and len(b) >= 4 + struct.unpack(">I", b[:4])[0]:
	            n = 4 + struct.unpack(">I", b[:4])[0]
	            yield b[:n]
	            b = b[n:]
	mirror, away, back = [listen(x) for x in ("mirror.sock", "away.sock", "back.sock")]
	open("listening", "w").close()
	def copy():
	    with open("sources", "w") as o:
	        for f in frames(mirror.accept()[0]):
	            print(f[10:16].hex(), file=o, flush=True)
	threading.Thread(target=copy).start()
	a, b = away.accept()[0], back.accept()[0]
	with open("carried", "w") as o:
	    for f in frames(a):
	        print(len(f), file=o, flush=True)
	        b.sendall(f)
	P
	started="$started $!"
	until_true test -e "$T/listening"
	boot -m 192 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-nic user,id=n \
		-chardev "socket,id=m,path=$T/mirror.sock" \
		-chardev "socket,id=a,path=$T/away.sock" \
		-chardev "socket,id=b,path=$T/back.sock" \
		-object "filter-dump,id=f1,netdev=n,file=$T/all.pcap,maxlen=60" \
		-object filter-mirror,id=f2,netdev=n,queue=rx,outdev=m \
		-object filter-redirector,id=f3,netdev=n,queue=tx,outdev=a,indev=b \
		-object filter-buffer,id=f4,netdev=n,queue=rx,interval=100000 \
		-object filter-buffer,id=f5,netdev=n,interval=1000000,status=off \
		-- quiet "vm.run=\"$up; ping -s 200 -c 5 -i 0.1 -W 5 10.0.2.2\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "5 packets transmitted, 5 packets received"
	# half an interval on the average, and no more than one
	[[ $output =~ "min/avg/max = "([0-9]+)\.[0-9]+/([0-9]+)\.[0-9]+/([0-9]+) ]]
	[ "${BASH_REMATCH[3]}" -ge 10 ] && [ "${BASH_REMATCH[3]}" -lt 1000 ]
	[ "$(sort -u "$T/sources")" = 525400123456 ]
	[ "$(wc -l <"$T/carried")" -ge 6 ]
	run python3 - "$T/all.pcap" <<-'P'
	import struct, sys
	b = open(sys.argv[1], "rb").read()
	at, sources, cut, longest = 24, set(), 0, 0
	while at < len(b):
	    cap, size = struct.unpack("<II", b[at + 8:at + 16])
	    sources.add(b[at + 22:at + 28].hex())
	    cut += size > cap
	    longest = max(longest, cap)
	    at += 16 + cap
	print(sorted(sources), cut >= 10, longest, at == len(b))
	P
	echo "$output"
	[ "$output" = "['525400123456', '52550a000202'] True 60 True" ]
}

@test "a seed for cloud-init" {
	head -c 300000 /dev/zero | tr '\0' x | fold -w 70 >"$T/seed"
	printf '\n#cloud-config, the end\n' >>"$T/seed"
	boot -m 192 -kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" \
		-nic user,hostname=karl,restrict=on -user-data "$T/seed" -- quiet \
		"vm.run=\"$up; wget -q -O - http://10.0.2.4/user-data | sha256sum; wget -q -O - http://10.0.2.4/meta-data; wget -q -O /tmp/v http://10.0.2.4/vendor-data && wc -c </tmp/v; wget -O - http://10.0.2.4/../etc/passwd; (echo PUT / HTTP/1.0; echo) | nc 10.0.2.4 80; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 60 | nc 10.0.2.4 80 & done; sleep 1; killall nc; wget -q -O - http://10.0.2.4/meta-data | head -n 1; wget -q -O - http://10.0.2.4/user-data | tail -n 1\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "$(sha256sum <"$T/seed")"
	[ "$(grep -c "^instance-id: iid-" <<<"$output")" -eq 2 ]
	seen "local-hostname: karl"
	seen "404 Not Found"
	seen "400 Bad Request"
	seen "#cloud-config, the end"
	run vm-run -display none -kernel "$guest/vmlinuz" -user-data "$T/none"
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"user-data=$T/none: No such file or directory" ]]
	run vm-run -display none -kernel "$guest/vmlinuz" -nic none -user-data "$T/seed"
	[ "$output" = "vm-run: -user-data: there is no user network" ]
	[ "$status" -eq 2 ]
}

@test "a guest is reset: its connections go when it has asked for its address again" {
	kernel= words=
	python3 - "$T/port" >"$T/peer" <<-'P' 3>&- 4>&- &
	import os, socket, sys
	s = socket.create_server(("127.0.0.1", 0))
	open(sys.argv[1] + "~", "w").write(str(s.getsockname()[1]))
	os.rename(sys.argv[1] + "~", sys.argv[1])
	a = s.accept()[0]
	a.sendall(b"first\n")
	b = s.accept()[0]
	b.sendall(b"second\n")
	a.settimeout(50)
	try:
	    print("ended" if a.recv(1) == b"" else "said something", flush=True)
	except ConnectionResetError:
	    print("reset", flush=True)
	P
	started="$started $!"
	until_true test -s "$T/port"
	machine again "$up; mkfifo /in; (sleep 1000 >/in) & nc 10.0.2.2 $(cat "$T/port") </in >/out & n=0; until grep . /out; do usleep 50000; done; grep -q first /out && reboot -f; sleep 1000"
	until_true says again second
	until_true grep -qx reset "$T/peer"
}
