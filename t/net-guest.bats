# What a guest does with a network: a lease, ping, a web server of the host, names,
# ssh from outside; machines on a switch.  The host is a network namespace with an
# address and a name server of its own, so nothing here needs the world.

load net-help

setup() {
	vm_setup
	T=$BATS_TEST_TMPDIR
	kernel= words= in_net=()
}

teardown() {
	vm_teardown
}

# a_host: the namespace: in_net; vm-run runs there.  host.test is 192.0.2.1 and
# 2001:db8::1, which are this host's.
a_host() {
	local holder n=0
	printf 'nameserver 127.0.0.1\n' >"$T/resolv.conf"
	unshare -rnm sh -c 'ip link set lo up
		ip addr add 192.0.2.1/32 dev lo
		ip addr add 2001:db8::1/128 dev lo
		mount --bind "$1/resolv.conf" /etc/resolv.conf
		echo "0 0" >/proc/sys/net/ipv4/ping_group_range && : >"$1/may-ping"
		: >"$1/ready"
		exec sleep 1000' sh "$T" 2>"$T/holder.err" 3>&- 4>&- &
	holder=$!
	started="$started $holder"
	until [ -e "$T/ready" ]; do
		kill -0 $holder 2>/dev/null && [ $((n += 1)) -lt 200 ] ||
			skip "no namespaces here: $(head -n 1 "$T/holder.err")"
		sleep 0.05
	done
	[ ! -s "$T/holder.err" ] ||
		skip "no namespace as wanted: $(head -n 1 "$T/holder.err")"
	in_net=(nsenter -t $holder --preserve-credentials -U -n -m "--wd=$top")
	mkdir "$T/bin"
	printf '#!/bin/sh\nexec %s %s/build/bin/vm-run "$@"\n' \
		"${in_net[*]}" "$top" >"$T/bin/vm-run"
	chmod +x "$T/bin/vm-run"
	PATH=$T/bin:$PATH
	"${in_net[@]}" python3 - "$T/dns" <<-'P' 3>&- 4>&- &
	import socket, sys
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	s.bind(("127.0.0.1", 53))
	open(sys.argv[1], "w").close()
	addr = {1: socket.inet_aton("192.0.2.1"),
	    28: socket.inet_pton(socket.AF_INET6, "2001:db8::1")}
	while True:
	    q, peer = s.recvfrom(512)
	    end = 12
	    while q[end]:
	        end += q[end] + 1
	    name, kind = q[12:end + 1], int.from_bytes(q[end + 1:end + 3], "big")
	    known = name == b"\x04host\x04test\0"
	    a = addr.get(kind, b"") if known else b""
	    r = q[:2] + (b"\x81\x80" if known else b"\x81\x83") + b"\0\1\0" + \
	        (b"\1" if a else b"\0") + b"\0\0\0\0" + q[12:end + 5]
	    if a:
	        r += b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + \
	            len(a).to_bytes(2, "big") + a
	    s.sendto(r, peer)
	P
	started="$started $!"
	until_true test -e "$T/dns"
}

# initramfs: $initrd, the guest's with an ssh server and /run.sh, standard input
initramfs() {
	local d=$T/add
	mkdir -p "$d/root/.ssh"
	cat >"$d/run.sh"
	cat "$guest/initrd.img" >"$T/initrd"
	if [ -e "$T/key.pub" ]; then
		cat "$guest/ssh.cpio" >>"$T/initrd"
		cp "$T/key.pub" "$d/root/.ssh/authorized_keys"
		chmod 700 "$d/root" "$d/root/.ssh"
		mkdir "$d/etc"
		echo 'root:x:0:0:root:/root:/bin/sh' >"$d/etc/passwd"
		mkdir "$d/etc/dropbear"
	fi
	(cd "$d" && find . | cpio -o -H newc -R 0:0 --quiet) >>"$T/initrd"
	initrd=$T/initrd
}

# ssh_in HOST COMMAND: in the guest, by the port $fwd of the host
ssh_in() {
	"${in_net[@]}" timeout 60 ssh -F none -i "$T/key" -p "$fwd" \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o BatchMode=yes -o LogLevel=ERROR "root@$1" "$2" </dev/null
}

ssh_needed() {
	[ -s "$guest/ssh.cpio" ] || [ "$CI" ] || skip "no ssh server: make guest"
	command -v ssh >/dev/null || skip "no ssh"
	ssh-keygen -q -t ed25519 -N '' -f "$T/key"
}

pings() {
	if [ -e "$T/may-ping" ]; then
		console vm
		seen "$1 answers"
	else
		echo "# no pings by users: net.ipv4.ping_group_range" >&3
	fi
}

@test "lease, ping, web, names, ssh by a forward of the running machine" {
	ssh_needed
	a_host
	serve 0.0.0.0
	initramfs <<-X
		ip link set lo up
		udhcpc -i eth0 -n -q -t 20 -T 1 >/dev/null 2>&1
		ip -4 addr show dev eth0
		ping -c 2 -i 0.2 -W 5 10.0.2.2 >/dev/null && echo the gateway answers
		ping -c 2 -i 0.2 -W 5 192.0.2.1 >/dev/null && echo the host answers
		wget -q -O - http://10.0.2.2:$port/hello
		wget -q -O - http://host.test:$port/big | sha256sum
		nslookup host.test
		nslookup nowhere.test || echo nowhere.test is unknown
		dropbear -R -s && echo serving
		while :; do sleep 1000; done
	X
	machine vm "sh /run.sh"
	until_true says vm serving
	console vm
	echo "$output"
	seen "inet 10.0.2.15/24"
	seen "the gateway answers"
	pings "the host"
	seen "from the host"
	seen "$(sha256sum <"$T/www/big")"
	seen "Address: 192.0.2.1"
	seen "nowhere.test is unknown"
	fwd=2222
	run ssh_in 127.0.0.1 "uname -m"
	[ "$status" -ne 0 ]
	vm-mon vm "hostfwd_add tcp:127.0.0.1:2222-:22"
	run ssh_in 127.0.0.1 "uname -m; ip -4 addr show dev eth0"
	echo "$output"
	[ "$status" -eq 0 ]
	seen x86_64
	seen "inet 10.0.2.15/24"
	run ssh_in 127.0.0.1 "wget -q -O - http://10.0.2.2:$port/big"
	[ "$status" -eq 0 ]
	vm-mon vm "hostfwd_remove tcp:127.0.0.1:2222"
	run ssh_in 127.0.0.1 "uname -m"
	[ "$status" -ne 0 ]
}

@test "the same over IPv6" {
	ssh_needed
	a_host
	serve ::
	initramfs <<-X
		ip link set lo up
		echo 0 >/proc/sys/net/ipv6/conf/eth0/dad_transmits
		ip link set eth0 up
		n=0
		until ip -6 addr show dev eth0 scope site | grep -v tentative | grep -q fec0::; do
			[ \$((n += 1)) -lt 100 ] || break
			usleep 100000
		done
		ip -6 addr show dev eth0
		ping -6 -c 2 -i 0.2 -W 5 fec0::2 >/dev/null && echo the gateway answers
		ping -6 -c 2 -i 0.2 -W 5 2001:db8::1 >/dev/null && echo the host answers
		wget -q -O - http://[fec0::2]:$port/hello
		echo nameserver fec0::3 >/etc/resolv.conf
		wget -q -O - http://host.test:$port/big | sha256sum
		nslookup host.test
		dropbear -R -s && echo serving
		while :; do sleep 1000; done
	X
	machine vm "sh /run.sh" -nic user,ipv4=off
	until_true says vm serving
	console vm
	echo "$output"
	seen "fec0::5054:ff:fe12:3456/64"
	seen "the gateway answers"
	pings "the host"
	seen "from the host"
	seen "$(sha256sum <"$T/www/big")"
	seen "Address: 2001:db8::1"
	fwd=2222
	vm-mon vm "hostfwd_add tcp:[::1]:2222-[fec0::5054:ff:fe12:3456]:22"
	run ssh_in ::1 "uname -m; ip -6 addr show dev eth0"
	echo "$output"
	[ "$status" -eq 0 ]
	seen x86_64
	seen "fec0::5054:ff:fe12:3456/64"
}

# a_switch OPTIONS: on $T/sw, with a vm-slirp in a_host's namespace; $switch, $slirp
a_switch() {
	vm-switch -sock "$T/sw" "$@" </dev/null >"$T/sw.out" 2>&1 3>&- 4>&- &
	switch=$!
	started="$started $switch"
	until_true test -S "$T/sw/ctl"
	a_slirp
}

a_slirp() {
	"${in_net[@]}" vm-slirp -M "$T/slirp.ctl" -L "$T/leases" "vde:$T/sw,reconnect=1" \
		>"$T/slirp.out" 2>&1 3>&- 4>&- &
	slirp=$!
	started="$started $slirp"
	until_true test -S "$T/slirp.ctl"
}

# NET_COPY_MIB is how much is copied; 1024 for the whole
@test "two machines on a switch: ping, a copy, and the host by one vm-slirp" {
	local mib=${NET_COPY_MIB:-32} began
	a_host
	a_switch
	serve 127.0.0.1
	head -c $((mib << 20)) /dev/urandom >"$T/from"
	truncate -s "${mib}M" "$T/to"
	initramfs <<-X
		ip link set lo up
		udhcpc -i eth0 -n -q -t 20 -T 1 >/dev/null 2>&1
		wget -q -O - http://10.0.2.2:$port/hello
		ip addr add 192.168.7.\$1/24 dev eth0
		n=0
		until ping -c 1 -W 1 192.168.7.\$2 >/dev/null; do
			[ \$((n += 1)) -lt 60 ] || exit 1
		done
		echo the other answers
		if [ \$1 = 1 ]; then
			nc -l -p 99 -e dd if=/dev/vda bs=64k
		else
			mkfifo /tmp/open
			until nc 192.168.7.1 99 <>/tmp/open >/dev/vda; do usleep 100000; done
			sync
			echo received
		fi
		while :; do sleep 1000; done
	X
	machine a "sh /run.sh 1 2" -nic "vde,sock=$T/sw" \
		-drive "file=$T/from,format=raw,if=virtio"
	machine b "sh /run.sh 2 1" -nic "vde,sock=$T/sw,mac=52:54:00:12:34:99" \
		-drive "file=$T/to,format=raw,if=virtio"
	until_true says b "the other answers"
	began=$SECONDS
	until [ $((SECONDS - began)) -gt $((60 + mib)) ] || says b received; do
		sleep 0.5
	done
	for console in a b; do
		console $console
		echo "$output"
		seen "from the host"
		seen "the other answers"
	done
	seen received
	[ "$mib" -lt 1024 ] || echo "# $mib MiB in $((SECONDS - began)) s" >&3
	vm-mon a quit
	vm-mon b quit
	until_true no_process b
	cmp "$T/from" "$T/to" || { keep switch "$T/from" "$T/to"; return 1; }
}

# leases: what vm-slirp on the switch gave
leases() {
	echo "info leases" | socat -t0.5 - "UNIX:$T/slirp.ctl"
}

@test "the switch or its vm-slirp is killed and comes back: leases, forwards" {
	a_host
	a_switch
	serve 127.0.0.1
	initramfs <<-X
		ip link set lo up
		udhcpc -i eth0 -n -q -t 20 -T 1 -x hostname:karl >/dev/null 2>&1
		httpd -p 80 -h /
		echo serving
		grep -q 1 /sys/class/net/eth0/carrier && echo link is up
		while grep -q 1 /sys/class/net/eth0/carrier; do usleep 20000; done
		echo link is down
		until grep -q 1 /sys/class/net/eth0/carrier; do usleep 20000; done
		n=0
		until timeout 2 wget -q -O - http://10.0.2.2:$port/hello; do
			[ \$((n += 1)) -lt 60 ] || break
		done
		echo back
		while :; do sleep 1000; done
	X
	machine vm "sh /run.sh" -nic "vde,sock=$T/sw"
	until_true says vm serving
	until_true says vm "link is up"
	printf 'hostfwd_add tcp:127.0.0.1:8080-:80\nhostfwd_add tcp:127.0.0.1:8081-:80\nhostfwd_remove tcp:127.0.0.1:8081\n' |
		socat -t0.5 - "UNIX:$T/slirp.ctl"
	fetch() {
		"${in_net[@]}" curl -s -m 10 "http://127.0.0.1:$1/run.sh"
	}
	fetch 8080 | grep -q hostname:karl
	[[ $(leases) == *"10.0.2.15 52:54:00:12:34:56 karl"* ]]

	kill -9 $switch
	until_true says vm "link is down"
	vm-switch -sock "$T/sw" </dev/null >"$T/sw2.out" 2>&1 3>&- 4>&- &
	started="$started $!"
	until_true says vm back
	console vm
	seen "from the host"
	until_true fetch 8080

	kill -9 $slirp
	until_true test ! -e "$T/slirp.ctl"
	until_true gone $slirp
	a_slirp
	[[ $(leases) == *"10.0.2.15 52:54:00:12:34:56 karl"* ]]
	until_true fetch 8080
	fetch 8080 | grep -q hostname:karl
	! fetch 8081
}

@test "a machine's own network is killed and comes back: leases, forwards" {
	local was
	a_host
	serve 127.0.0.1
	initramfs <<-X
		ip link set lo up
		udhcpc -i eth0 -n -q -t 20 -T 1 -x hostname:karl >/dev/null 2>&1
		httpd -p 80 -h /
		echo serving
		until timeout 5 wget -q -O - http://10.0.2.2:$port/go; do usleep 100000; done
		ping -c 1 karl
		echo back
		while :; do sleep 1000; done
	X
	machine vm "sh /run.sh" \
		-nic user,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:8081-:80
	until_true says vm serving
	vm-mon vm "hostfwd_add tcp:127.0.0.1:8082-:80"
	vm-mon vm "hostfwd_remove tcp:127.0.0.1:8081"
	fetch() {
		"${in_net[@]}" curl -s -m 10 "http://127.0.0.1:$1/run.sh"
	}
	was=$(cat "$dir/part/net0/pid")
	kill -9 "$was"
	renewed() { [ "$(cat "$dir/part/net0/pid")" != "$was" ]; }
	until_true renewed
	echo "from the host" >"$T/www/go"
	until_true says vm back
	console vm
	echo "$output"
	seen "from the host"
	seen "PING karl (10.0.2.15)"
	for port in 8080 8082; do
		fetch $port | grep -q hostname:karl
	done
	! fetch 8081
	run vm-mon vm info network
	seen "link=up"
	vm-mon vm quit
	until_true gone "$pid"
	nothing_left vm
}

@test "tap: a script puts it up, another takes it down; a bridge's helper" {
	[ -w /dev/net/tun ] || skip "no /dev/net/tun"
	a_host
	cat >"$T/up" <<-X
		#!/bin/sh
		echo "up \$1" >>$T/log
		ip addr add 10.9.9.1/24 dev \$1 && ip link set \$1 up
	X
	cat >"$T/down" <<-X
		#!/bin/sh
		echo "down \$(ip -o link show \$1 | cut -d: -f2)" >>$T/log
	X
	cat >"$T/helper" <<-'P'
		#!/usr/bin/env python3
		import array, fcntl, os, socket, struct, sys
		assert sys.argv[1:] == ["--fd=3", "--br=lab"]
		t = os.open("/dev/net/tun", os.O_RDWR)
		fcntl.ioctl(t, 0x400454ca, struct.pack("16sH22x", b"helped", 0x1002))
		os.system("ip addr add 10.9.9.1/24 dev helped; ip link set helped up")
		socket.socket(fileno=3).sendmsg([b"x"], [(socket.SOL_SOCKET,
		    socket.SCM_RIGHTS, array.array("i", [t]))])
	P
	chmod +x "$T/up" "$T/down" "$T/helper"
	serve 0.0.0.0
	initramfs <<-X
		ip addr add 10.9.9.2/24 dev eth0
		ip link set eth0 up
		n=0
		until ping -c 1 -W 1 10.9.9.1; do [ \$((n += 1)) -lt 20 ] || break; done
		wget -q -O - http://10.9.9.1:$port/big | sha256sum
	X
	sum=$(sha256sum <"$T/www/big")
	export VM_SANDBOX=kill
	boot -kernel "$guest/vmlinuz" -initrd "$initrd" -nic \
		"tap,ifname=lab0,script=$T/up,downscript=$T/down" -- quiet \
		"vm.run=\"sh /run.sh\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "1 packets received"
	seen "$sum"
	down() { [ "$(cat "$T/log")" = "$(printf 'up lab0\ndown  lab0')" ]; }
	until_true down
	boot -kernel "$guest/vmlinuz" -initrd "$initrd" -nic \
		"bridge,br=lab,helper=$T/helper" -- quiet "vm.run=\"sh /run.sh\""
	echo "$output"
	[ "$status" -eq 0 ]
	seen "1 packets received"
	for way in "tap,script=$T/none" "tap,script=no,downscript=$T/none" \
	    "tap,script=/bin/false" "bridge,helper=/bin/true"; do
		boot -kernel "$guest/vmlinuz" -nic "$way" --
		echo "$output"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	done
}
