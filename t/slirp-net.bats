# vm-slirp with a kernel's network stack as the guest: a tap in a namespace.
load switch-help

setup_file() { cd "$BATS_TEST_DIRNAME/.." && source t/switch-help.bash && net_build; }
setup() { net_setup; }
teardown() { net_teardown; }

# slirp OPTION...: on a tap, the tap in a namespace
slirp() {
	need_tap
	start "$B/vm-slirp" -M "$S/c" "$@" "tap:$TAP"
	until_ok test -S "$S/c"
	guest
}

# a web server on the host's loopback: PORT
serve() {
	need curl
	PORT=$(free_port)
	start socat "TCP-LISTEN:$PORT,bind=127.0.0.1,reuseaddr,fork" \
	    SYSTEM:"$1"
	up() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }
	until_ok up
}

@test "ping the gateway and the name server" {
	need ping
	slirp
	in_guest ping -c1 -W5 10.0.2.2
	in_guest ping -c1 -W5 -s 4000 10.0.2.3	# in fragments, both ways
	run in_guest ping -c1 -W1 10.0.2.77
	[ "$status" -ne 0 ]
}

@test "ping the world through the host" {
	need ping
	slirp
	# an address of this host that is not loopback
	local a=$(ip -4 -o addr show scope global | awk '{sub("/.*", "", $4); print $4; exit}')
	[ -n "$a" ] || skip "no address but loopback"
	in_guest ping -c2 -i0.2 -W5 "$a"
}

@test "DHCP: address by MAC, the same again, names resolve" {
	need busybox dig
	slirp -L "$S/leases" -o domainname=vm.test,hostname=box
	cat >"$D/s" <<-'X'
		#!/bin/sh
		[ "$1" = bound ] && env | sort
		exit 0
	X
	chmod +x "$D/s"
	in_guest busybox udhcpc -i "$TAP" -f -n -q -t5 -T1 -s "$D/s" \
	    -x hostname:pluto >"$D/lease"
	grep -qx ip=10.0.2.15 "$D/lease"
	grep -qx router=10.0.2.2 "$D/lease"
	grep -qx dns=10.0.2.3 "$D/lease"
	grep -qx domain=vm.test "$D/lease"
	grep -qx subnet=255.255.255.0 "$D/lease"
	ip -n "$NS" link set "$TAP" address 02:00:00:00:00:77
	in_guest busybox udhcpc -i "$TAP" -f -n -q -t5 -T1 -s "$D/s" \
	    -x hostname:mars >"$D/lease"
	grep -qx ip=10.0.2.16 "$D/lease"
	[ "$(in_guest dig +short +time=5 @10.0.2.3 pluto)" = 10.0.2.15 ]
	[ "$(in_guest dig +short +time=5 @10.0.2.3 MARS.vm.test)" = 10.0.2.16 ]
	[ "$(in_guest dig +short +time=5 @10.0.2.3 _gateway)" = 10.0.2.2 ]
	run ctl "$S/c" info leases
	[[ $output == *"10.0.2.16 02:00:00:00:00:77 mars"* ]]
	grep -q "02:00:00:00:00:77 mars" "$S/leases"
}

@test "TCP both ways, sums match" {
	head -c 8000000 /dev/urandom >"$D/f"
	local sum=$(sha1sum <"$D/f") p=$(free_port)
	slirp
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork" "EXEC:cat $D/f"
	start socat "TCP-LISTEN:$((p+1)),bind=127.0.0.1,reuseaddr,fork" "SYSTEM:sha1sum >$D/sum"
	bound "$p" $((p+1))
	[ "$(in_guest socat -u "TCP:10.0.2.2:$p" - | sha1sum)" = "$sum" ]
	in_guest socat -u - "TCP:10.0.2.2:$((p+1))" <"$D/f"
	ok() { [ "$(cat "$D/sum")" = "$sum" ]; }
	until_ok ok
}

@test "TCP under loss, duplication and reordering, sums match" {
	head -c 1500000 /dev/urandom >"$D/f"
	local sum=$(sha1sum <"$D/f") p=$(free_port)
	need_tap
	start "$B/vm-slirp" -M "$S/c" "stream:$S/s,server"
	until_ok test -S "$S/s"
	start "$B/vm-plug" -s 7 -M "$S/p.m" -f loss=2 -f dup=2 -f reorder=2 \
	    -f noise=5 -f delay=1 "tap:$TAP" "stream:$S/s"
	until_ok test -S "$S/p.m"
	guest
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork" "EXEC:cat $D/f"
	start socat "TCP-LISTEN:$((p+1)),bind=127.0.0.1,reuseaddr,fork" "SYSTEM:sha1sum >$D/sum"
	bound "$p" $((p+1))
	[ "$(in_guest socat -u "TCP:10.0.2.2:$p" - | sha1sum)" = "$sum" ]
	in_guest socat -u - "TCP:10.0.2.2:$((p+1))" <"$D/f"
	ok() { [ "$(cat "$D/sum")" = "$sum" ]; }
	until_ok ok
	run ctl "$S/c" stat
	[[ $output =~ "tcp-retransmits "[1-9] ]]
}

@test "TCP without SO_PEEK_OFF, as on older kernels" {
	head -c 3000000 /dev/urandom >"$D/f"
	local sum=$(sha1sum <"$D/f") p=$(free_port)
	export SLUICE_NO_PEEK_OFF=1
	slirp
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork" "EXEC:cat $D/f"
	bound "$p"
	[ "$(in_guest socat -u "TCP:10.0.2.2:$p" - | sha1sum)" = "$sum" ]
}

@test "half-close: the answer comes after our end of file" {
	local p=$(free_port)
	slirp
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork" "SYSTEM:wc -c; sleep 0.2; echo done"
	bound "$p"
	run in_guest bash -c "head -c 100000 /dev/zero | socat -t5 - TCP:10.0.2.2:$p"
	[ "$output" = $'100000\ndone' ]
	left() { ctl "$S/c" stat | grep -qx "tcp 0"; }
	until_ok left		# nothing stays behind
}

@test "a refused port is refused, a reset is passed on" {
	need curl
	slirp
	local p=$(free_port)
	run in_guest curl -s -m 5 "http://10.0.2.2:$p/"
	[ "$status" -eq 7 ]	# refused, not timed out
	# the server resets: linger of zero
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork,so-linger=0" "SYSTEM:exit"
	bound "$p"
	run in_guest curl -s -m 5 "http://10.0.2.2:$p/"
	[ "$status" -ne 0 ] && [ "$status" -ne 28 ]
}

@test "a reader that stops: zero window, probes, then all of it" {
	head -c 12000000 /dev/urandom >"$D/f"
	local sum=$(sha1sum <"$D/f") p=$(free_port)
	slirp
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork" "EXEC:cat $D/f"
	start socat "TCP-LISTEN:$((p+1)),bind=127.0.0.1,reuseaddr,fork" "SYSTEM:sleep 1; sha1sum >$D/sum"
	bound "$p" $((p+1))
	[ "$(in_guest socat -u "TCP:10.0.2.2:$p" - | (sleep 1; sha1sum))" = "$sum" ]
	in_guest socat -u - "TCP:10.0.2.2:$((p+1))" <"$D/f"
	ok() { [ "$(cat "$D/sum")" = "$sum" ]; }
	until_ok ok
}

@test "UDP there and back, longer than the MTU" {
	local p=$(free_port)
	slirp
	start socat -b 20000 "UDP-LISTEN:$p,bind=127.0.0.1,fork" EXEC:cat
	bound "$p"
	head -c 9000 /dev/urandom >"$D/f"
	in_guest socat -b 20000 -t1 - "UDP:10.0.2.2:$p" <"$D/f" | cmp - "$D/f"
}

@test "hostfwd: tcp, udp and unix, at the start and later" {
	local p=$(free_port)
	slirp -o "hostfwd=tcp:127.0.0.1:$p-:7777"
	start ip netns exec "$NS" socat TCP-LISTEN:7777,reuseaddr,fork EXEC:"sed -u s/^/tcp-/"
	start ip netns exec "$NS" socat UDP-LISTEN:7778,fork EXEC:"sed -u s/^/udp-/"
	guest_bound 7777 7778
	[ "$(echo x | socat -t5 - "TCP:127.0.0.1:$p")" = tcp-x ]
	run ctl "$S/c" "hostfwd_add udp:127.0.0.1:$p-10.0.2.15:7778"
	[ "$output" = ok ]
	[ "$(echo y | socat -t2 - "UDP:127.0.0.1:$p")" = udp-y ]
	run ctl "$S/c" "hostfwd_add unix:$S/u-10.0.2.15:7777"
	[ "$output" = ok ]
	[ "$(echo z | socat -t5 - "UNIX:$S/u")" = tcp-z ]
	run ctl "$S/c" info usernet
	[[ $output == *"HOST_FORWARD"*"10.0.2.15:7777"* ]]
	run ctl "$S/c" "hostfwd_remove tcp:127.0.0.1:$p"
	[ "$output" = ok ]
	run socat - "TCP:127.0.0.1:$p" </dev/null
	[ "$status" -ne 0 ]
	run ctl "$S/c" "hostfwd_remove tcp:127.0.0.1:$p"
	[[ $output == err* ]]
	run ctl "$S/c" "hostfwd_add tcp:nonsense"
	[[ $output == err* ]]
}

@test "guestfwd to a command and to a unix socket; restrict stops the rest" {
	local p=$(free_port)
	need_tap
	start socat "UNIX-LISTEN:$S/u,fork" EXEC:"sed -u s/^/unix-/"
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork" EXEC:cat
	bound "$p"
	until_ok test -S "$S/u"
	slirp -o "restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:sed -u s/^/cmd-/,guestfwd=tcp:10.0.2.101:8-unix:$S/u"
	[ "$(echo a | in_guest socat -t3 - TCP:10.0.2.100:7)" = cmd-a ]
	[ "$(echo b | in_guest socat -t3 - TCP:10.0.2.101:8)" = unix-b ]
	run in_guest socat -t1 - "TCP:10.0.2.2:$p,connect-timeout=3" </dev/null
	[ "$status" -ne 0 ]
}

@test "TFTP: whole, with options, and not outside its directory" {
	need busybox
	mkdir "$S/t"
	head -c 100000 /dev/urandom >"$S/t/kernel"
	echo secret >"$S/secret"
	ln -s ../secret "$S/t/link"
	slirp -o "tftp=$S/t"
	cd "$D"
	in_guest busybox tftp -g -r kernel -l k1 10.0.2.2
	cmp k1 "$S/t/kernel"
	in_guest busybox tftp -b 1400 -g -r /kernel -l k2 10.0.2.2
	cmp k2 "$S/t/kernel"
	run in_guest busybox tftp -g -r ../secret -l k3 10.0.2.2
	[ "$status" -ne 0 ]
	run in_guest busybox tftp -g -r link -l k4 10.0.2.2
	[ "$status" -ne 0 ]
}

@test "IPv6: address by advertisement, ping, TCP" {
	need ping
	[ -e /proc/net/if_inet6 ] || skip "no IPv6 on this host"
	local p=$(free_port)
	slirp
	addr() { ip -n "$NS" -6 addr show dev "$TAP" scope site | grep -q "fec0::" ||
	    ip -n "$NS" -6 addr show dev "$TAP" | grep -v tentative | grep -q "fec0:"; }
	until_ok addr
	ready() { ! ip -n "$NS" -6 addr show dev "$TAP" tentative | grep -q inet6; }
	until_ok ready
	in_guest ping -6 -c1 -W5 fec0::2
	start socat "TCP6-LISTEN:$p,bind=[::1],reuseaddr,fork" EXEC:"sed -u s/^/six-/"
	bound "$p"
	[ "$(echo x | in_guest socat -t5 - "TCP6:[fec0::2]:$p")" = six-x ]
}

@test "a hundred connections at a time" {
	local p=$(free_port)
	slirp
	start socat "TCP-LISTEN:$p,bind=127.0.0.1,reuseaddr,fork,backlog=200" EXEC:cat
	bound "$p"
	cat >"$D/many" <<-X
		for i in \$(seq 100); do
			exec {fd}<>/dev/tcp/10.0.2.2/$p || exit 1
			echo "hello \$i" >&\$fd
			fds[\$i]=\$fd
		done
		for i in \$(seq 100); do
			read -r l <&\${fds[\$i]}
			[ "\$l" = "hello \$i" ] || exit 1
		done
		echo all
	X
	run in_guest bash "$D/many"
	[ "$output" = all ]
}

@test "a directory by SMB: read, write, and nothing left" {
	need smbclient
	[ -x /usr/sbin/smbd ] || skip "no smbd"
	mkdir "$S/share"
	head -c 3000000 /dev/urandom >"$S/share/big"
	slirp -o "restrict=on,smb=$S/share"
	local before=$(ls -d /tmp/vm-slirp.* | wc -l)
	cd "$D"
	in_guest smbclient -s /dev/null -N //10.0.2.4/qemu -c 'get big; put big copy'
	cmp "$S/share/big" big
	cmp "$S/share/big" "$S/share/copy"
	kill "${pids[-1]}"
	fewer() { [ "$(ls -d /tmp/vm-slirp.* | wc -l)" -lt "$before" ]; }
	until_ok fewer
	run "$B/vm-slirp" -M "$S/none/c" -o "smb=$S/share" "stream:$S/s,server"
	[ "$status" -eq 1 ]
	fewer
	run "$B/vm-slirp" -o "smb=$S/none" "stream:$S/s,server"
	[ "$status" -eq 1 ]
	[[ $output == *"smb=$S/none: No such file or directory" ]]
}
