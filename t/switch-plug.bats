# vm-plug: a cable, and a bad one.
load switch-help

setup_file() { cd "$BATS_TEST_DIRNAME/.." && source t/switch-help.bash && net_build; }
setup() { net_setup; }
teardown() { net_teardown; }

plug() { start "$B/vm-plug" -M "$S/p.m" "$@"; until_ok test -S "$S/p.m"; }

@test "frames pass, in order" {
	plug "stream:$S/a,server" "stream:$S/b,server"
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		burst a 500 ffffffffffff 020000000001 0800 01
		count b 500 ffffffffffff
		send b 020000000001 020000000002 0800 02
		expect a 020000000001
	X
	[ "$output" = ok ]
}

@test "loss and duplication, per direction, changed while it runs" {
	plug -s 3 -f LR:loss=100 "stream:$S/a,server" "stream:$S/b,server"
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		send b ffffffffffff 020000000002 0800 01
		expect a ffffffffffff 020000000002
		none b ffffffffffff
	X
	[ "$output" = ok ]
	run mgmt "$S/p.m" "loss LR30"
	[[ $output == *"1000 Success"* ]]
	run mgmt "$S/p.m" "dup 50"
	run mgmt "$S/p.m" "bogus 50"
	[[ $output == *1038* ]]
	run mgmt "$S/p.m" "loss x"
	[[ $output == *1022* ]]
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		burst a 1000 ffffffffffff 020000000001 0800 01
		count b 700 ffffffffffff
	X
	[ "$output" = ok ]
	run mgmt "$S/p.m" showinfo
	[[ $output =~ "in 1001 out "[0-9]+" lost "([0-9]+)" full 0 dup "([0-9]+) ]]
	# three sigma about 300, and of the geometric number of copies
	[ "${BASH_REMATCH[1]}" -gt 250 ] && [ "${BASH_REMATCH[1]}" -lt 350 ]
	[ "${BASH_REMATCH[2]}" -gt 500 ]
}

@test "delay holds a frame back, noise damages it, mtu drops it" {
	plug -f delay=300 "stream:$S/a,server" "stream:$S/b,server"
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		none b ffffffffffff
		expect b ffffffffffff
	X
	[ "$output" = ok ]
	mgmt "$S/p.m" "delay 0" >/dev/null
	mgmt "$S/p.m" "noise 1000000" >/dev/null
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		send a ffffffffffff 020000000001 0800 00
		none b ffffffffffff 020000000001 0800 000000000000000000000000000000000000000000000000000000000000000000000000000000
	X
	[ "$output" = ok ]
	mgmt "$S/p.m" "noise 0" >/dev/null
	mgmt "$S/p.m" "mtu 59" >/dev/null
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		send a ffffffffffff 020000000001 0800 00
		none b ffffffffffff
	X
	[ "$output" = ok ]
}

@test "stdin/stdout as vde_plug: dpipe joins the two kinds" {
	need vde_plug dpipe
	start "$B/vm-switch" -s "$S/a" -M "$S/a.m"
	start "$B/vm-switch" -s "$S/b" -M "$S/b.m"
	until_ok test -S "$S/a.m"
	until_ok test -S "$S/b.m"
	start dpipe "$B/vm-plug" "$S/a" = vde_plug "vde://$S/b"
	up() { mgmt "$S/$1.m" port/print | grep -q "ACTIVE - "; }
	until_ok up a
	until_ok up b
	run "$T/switch-frame" a="vde:$S/a" b="vde:$S/b" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		expect b ffffffffffff 020000000001
		send b 020000000001 020000000002 0800 02
		expect a 020000000001 020000000002
	X
	[ "$output" = ok ]
}

@test "capture and playback" {
	plug -c "$D/x.pcap" "stream:$S/a,server" "stream:$S/b,server"
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		burst a 50 ffffffffffff 020000000001 0800 07
		count b 50 ffffffffffff
	X
	[ "$output" = ok ]
	start "$B/vm-plug" "stream:$S/c,server" "stream:$S/d,server"
	until_ok test -S "$S/d"
	"$T/switch-frame" d="stream:$S/d" >"$D/res" <<-'X' 3>&- &
		count d 50 ffffffffffff 020000000001 0800 07
	X
	local w=$!
	sleep 0.3
	"$B/vm-plug" "pcap:$D/x.pcap,read" "stream:$S/c"
	wait $w
	[ "$(cat "$D/res")" = ok ]
}

@test "a stream with an impossible length is closed, the next one served" {
	plug "stream:$S/a,server" "stream:$S/b,server"
	printf '\377\377\377\377garbage' | socat -t1 - "UNIX:$S/a"
	head -c 65536 /dev/urandom | socat -t1 - "UNIX:$S/a" || :
	run "$T/switch-frame" a="stream:$S/a" b="stream:$S/b" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		expect b ffffffffffff
	X
	[ "$output" = ok ]
}

@test "usage and errors" {
	run "$B/vm-plug"
	[ "$status" -eq 2 ]
	run "$B/vm-plug" nonsense:x stdio
	[ "$status" -eq 1 ]
	[[ $output == *"no such kind of wire"* ]]
	run "$B/vm-plug" -f loss=many "stream:$S/a,server" "stream:$S/b,server"
	[ "$status" -eq 2 ]
	run "$B/vm-plug" "stream:$S/nobody" stdio
	[ "$status" -eq 1 ]
	[[ $output == *"No such file"* ]]
}
