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
