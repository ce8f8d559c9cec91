# vm-switch as a VDE switch: forwarding, VLANs, management, and its peers.
load switch-help

setup_file() { cd "$BATS_TEST_DIRNAME/.." && source t/switch-help.bash && net_build; }
setup() { net_setup; }
teardown() { net_teardown; }

sw() {	# sw NAME OPTION...
	local n=$1
	shift
	start "$B/vm-switch" -s "$S/$n" -M "$S/$n.m" "$@"
	until_ok test -S "$S/$n.m"
}

@test "learning, flooding, hub mode" {
	sw a
	run "$T/switch-frame" a="vde:$S/a" b="vde:$S/a" c="vde:$S/a" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		expect b ffffffffffff 020000000001 0800 01
		expect c ffffffffffff 020000000001 0800 01
		send b 020000000001 020000000002 0800 02
		expect a 020000000001 020000000002
		none c 020000000001
		none a ffffffffffff		# never back to its sender
		send c 020000000099 020000000003 0800 03
		expect a 020000000099
		expect b 020000000099
	X
	[ "$output" = ok ]
	run mgmt "$S/a.m" port/sethub 1
	[[ $output == *"1000 Success"* ]]
	run "$T/switch-frame" a="vde:$S/a" b="vde:$S/a" c="vde:$S/a" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		send b 020000000001 020000000002 0800 02
		expect c 020000000001 020000000002
	X
	[ "$output" = ok ]
}

@test "VLANs: tags added, taken off, kept apart" {
	sw a
	for c in "vlan/create 5" "port/create 1" "port/create 2" \
	    "port/create 3" "port/setvlan 1 5" "vlan/addport 5 2"; do
		run mgmt "$S/a.m" "$c"
		[[ $output == *"1000 Success"* ]]
	done
	run "$T/switch-frame" a="vde:$S/a,port=1" b="vde:$S/a,port=2" \
	    c="vde:$S/a,port=3" <<-'X'
		send a ffffffffffff 020000000001 0800 aa
		expect b ffffffffffff 020000000001 8100 0005 0800 aa
		none c ffffffffffff 020000000001
		send b ffffffffffff 020000000002 8100 0005 0806 bb
		expect a ffffffffffff 020000000002 0806 bb
		send b ffffffffffff 020000000002 0806 cc
		expect c ffffffffffff 020000000002 0806 cc
		none a ffffffffffff 020000000002 0806 cc
		send c ffffffffffff 020000000003 8100 0005 0800 dd
		none a ffffffffffff 020000000003	# not a member
	X
	[ "$output" = ok ]
	run mgmt "$S/a.m" vlan/print 5
	[[ $output == *"VLAN 0005"* ]]
	run mgmt "$S/a.m" vlan/remove 5
	[[ $output == *"1098 "* ]]
}

@test "a hundred stations keep their places: none of their frames go everywhere" {
	sw a
	{
		for i in $(seq 100); do
			printf 'send one ffffffffffff 0200%08x 0806 00\n' $((i * 2654435761 % 4294967296))
		done
		echo "count two 100 ffffffffffff"
		for i in $(seq 100); do
			printf 'send two 0200%08x 060000000002 0800 00\n' $((i * 2654435761 % 4294967296))
		done
		echo "count one 100 02"
		echo "none three 02"
	} >"$D/script"
	run "$T/switch-frame" one="vde:$S/a" two="vde:$S/a" three="vde:$S/a" <"$D/script"
	echo "$output"
	[ "$output" = ok ]
}

@test "management: replies have vde_switch's numbers and layout" {
	sw a
	run mgmt "$S/a.m" port/create 40
	[[ $output == *"1022 Invalid argument"* ]]
	run mgmt "$S/a.m" nonsense
	[[ $output == *"1038 Function not implemented"* ]]
	run mgmt "$S/a.m" port/remove 5
	[[ $output == *"1006 No such device or address"* ]]
	run mgmt "$S/a.m" port/showinfo
	[[ $output == *"0000 DATA END WITH '.'"$'\n'"Numports=32"$'\n'"HUB=false"* ]]
	[[ $output == *$'\n.\n1000 Success'* ]]
	[[ $output == *"9999 END OF SESSION" ]]
	need vdecmd
	run vdecmd -s "$S/a.m" port/showinfo
	[ "$status" -eq 0 ]
}

@test "the same answers as vde_switch to the same commands" {
	need vde_switch
	sw a
	start vde_switch -s "$S/r" -M "$S/r.m"
	until_ok test -S "$S/r.m"
	# vde_switch takes what one read gives as one command: wait for prompts
	coproc A { exec socat - "UNIX:$S/a.m" 3>&-; }
	coproc R { exec socat - "UNIX:$S/r.m" 3>&-; }
	pids+=($A_PID $R_PID)
	one() {
		IFS= read -r -d '$' -t 10 ans <&"$1"
		sed -e "s#$S/[ar]##" <<<"$ans" >"$2"
	}
	ask() {
		printf '%s\n' "$1" >&"${A[1]}"
		printf '%s\n' "$1" >&"${R[1]}"
		one "${A[0]}" "$D/a"
		one "${R[0]}" "$D/r"
	}
	one "${A[0]}" "$D/a"
	one "${R[0]}" "$D/r"
	local c
	for c in ds/showinfo port/showinfo port/print port/allprint \
	    hash/showinfo hash/print "vlan/create 3" "vlan/create 3" \
	    "vlan/create 5000" vlan/print "vlan/print 3" "vlan/print 9" \
	    "port/create 4" "port/create 4" "port/create 99" \
	    "port/setvlan 4 3" "port/setvlan 4 7" "port/remove 5" \
	    "port/print 4" "port/print 90" "vlan/addport 9 4" \
	    "vlan/delport 3 4" "vlan/remove 9" "vlan/remove 3" \
	    "hash/setsize 64" "hash/setgcint 5" "hash/setexpire 5" \
	    "hash/setminper 5" "hash/find aa:bb:cc:dd:ee:ff" \
	    hash/showinfo "port/setnumports 40" "port/setuser 4 root" \
	    "port/setgroup 4 root" "port/resetcounter 4" \
	    "fstp/bonus 4 0 4" "debug/list" "debug/add xx" "plugin/list" \
	    "load /nonexistent" exit; do
		ask "$c"
		diff "$D/r" "$D/a" || { echo "differs: $c"; false; }
	done
}

@test "vde_plug connects, both ways" {
	need vde_plug dpipe
	sw a
	sw b
	start dpipe vde_plug "vde://$S/a" = vde_plug "vde://$S/b"
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
	run mgmt "$S/a.m" port/print
	[[ $output == *"module unix prog   : "* ]]
}

@test "our plug on vde_switch" {
	need vde_switch
	start vde_switch -s "$S/r" -M "$S/r.m"
	until_ok test -S "$S/r.m"
	run "$T/switch-frame" a="vde:$S/r" b="vde:$S/r,port=7" <<-'X'
		burst a 100 ffffffffffff 020000000001 0800 01
		count b 100 ffffffffffff 020000000001
	X
	[ "$output" = ok ]
}

@test "hostile control requests are turned away, the switch lives" {
	sw a
	printf 'garbage' | socat -t0.2 - "UNIX:$S/a/ctl" || :
	head -c 122 /dev/zero | socat -t0.2 - "UNIX:$S/a/ctl" || :
	{ printf '\316\372\355\376\003\0\0\0\0\377\377\377'; head -c 110 /dev/urandom; } |
	    socat -t0.2 - "UNIX:$S/a/ctl" || :
	head -c 4096 /dev/urandom | socat -t0.2 - "UNIX:$S/a.m" >/dev/null || :
	run "$T/switch-frame" a="vde:$S/a" b="vde:$S/a" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		expect b ffffffffffff
	X
	[ "$output" = ok ]
}

@test "spanning tree: a loop of two cables does not storm" {
	sw a -F -priority 100
	sw b -F
	start "$B/vm-plug" "vde:$S/a" "vde:$S/b"
	start "$B/vm-plug" "vde:$S/a" "vde:$S/b"
	alt() { mgmt "$S/b.m" fstp/print | grep -q 'role=Alternate' &&
	    mgmt "$S/b.m" fstp/print | grep -q 'role=Root'; }
	until_ok alt
	run mgmt "$S/a.m" fstp/print
	[[ $output == *ROOTSWITCH* ]]
	mgmt "$S/a.m" "fstp/setedge 0 9 1" >/dev/null
	mgmt "$S/b.m" "fstp/setedge 0 9 1" >/dev/null
	# a port set to edge beforehand forwards at once
	run "$T/switch-frame" a="vde:$S/a,port=9" b="vde:$S/b,port=9" <<-'X'
		send a ffffffffffff 020000000001 0800 01
		expect b ffffffffffff 020000000001
		none b ffffffffffff 020000000001
	X
	echo "$output"
	[ "$output" = ok ]
}

@test "mirror, limit, capture" {
	sw a
	run mgmt "$S/a.m" "port/capture $D/all.pcap"
	[[ $output == *"1000 Success"* ]]
	mgmt "$S/a.m" "port/create 1" >/dev/null
	mgmt "$S/a.m" "port/create 9" >/dev/null
	mgmt "$S/a.m" "port/mirror 1 9" >/dev/null
	run "$T/switch-frame" a="vde:$S/a,port=1" b="vde:$S/a,port=2" \
	    m="vde:$S/a,port=9" <<-'X'
		send b ffffffffffff 020000000002 0800 01
		expect a ffffffffffff
		send a 020000000002 020000000001 0800 02
		expect b 020000000002
		expect m 020000000002 020000000001 0800 02
	X
	[ "$output" = ok ]
	mgmt "$S/a.m" "port/limit 1 1000" >/dev/null
	run "$T/switch-frame" a="vde:$S/a,port=1" b="vde:$S/a,port=2" <<-'X'
		send b ffffffffffff 020000000002 0800 01
		burst a 200 020000000002 020000000001 0800 03
		expect b 020000000002 020000000001 0800 03
	X
	[ "$output" = ok ]
	run mgmt "$S/a.m" port/allprint 1
	[[ $output =~ "LIMIT: 1000 bytes/s, "[1-9] ]]
	mgmt "$S/a.m" "port/capture" >/dev/null
	need tcpdump
	run tcpdump -nn -e -r "$D/all.pcap"
	[[ $output == *"02:00:00:00:00:01 > 02:00:00:00:00:02"* ]]
}

@test "wires as ports: stream, dgram, tcp, mcast, l2tpv3" {
	local p=$(free_port) q=$((RANDOM % 10000 + 50000))
	sw a -P "stream:$S/s,server" -P "dgram:$S/d1,remote=$S/d2" \
	    -P "stream:127.0.0.1:$p,server" \
	    -P "mcast:239.9.8.7:$q,local=127.0.0.1" \
	    -P "l2tpv3:127.0.0.1,dst=127.0.0.1,udp,srcport=$((q+1)),dstport=$((q+2)),txsession=7,rxsession=8,txcookie=1,rxcookie=2,counter"
	run "$T/switch-frame" v="vde:$S/a" s="stream:$S/s" s2="stream:$S/s" \
	    d="dgram:$S/d2,remote=$S/d1" t="stream:127.0.0.1:$p" \
	    m="mcast:239.9.8.7:$q,local=127.0.0.1" \
	    l="l2tpv3:127.0.0.1,dst=127.0.0.1,udp,srcport=$((q+2)),dstport=$((q+1)),txsession=8,rxsession=7,txcookie=2,rxcookie=1,counter" <<-'X'
		send s ffffffffffff 020000000001 0800 01
		expect v ffffffffffff 020000000001
		expect s2 ffffffffffff 020000000001
		expect d ffffffffffff 020000000001
		expect t ffffffffffff 020000000001
		expect m ffffffffffff 020000000001
		expect l ffffffffffff 020000000001
		send d ffffffffffff 020000000002 0800 02
		expect t ffffffffffff 020000000002
		send t 020000000002 020000000003 0800 03
		expect d 020000000002 020000000003
		send m 020000000003 020000000004 0800 04
		expect t 020000000003 020000000004
		send l 020000000004 020000000005 0800 05
		expect m 020000000004 020000000005
	X
	echo "$output"
	[ "$output" = ok ]
}

@test "daemon, pidfile, rcfile; SIGTERM leaves nothing behind" {
	printf '# first\nvlan/create 12\nport/setnumports 7\n' >"$D/rc"
	"$B/vm-switch" -sock "$S/a" -mgmt "$S/a.m" -daemon -pidfile "$S/pid" \
	    -mode 660 -rcfile "$D/rc" </dev/null 3>&-
	run mgmt "$S/a.m" vlan/print
	[[ $output == *"VLAN 0012"* ]]
	run mgmt "$S/a.m" port/showinfo
	[[ $output == *Numports=7* ]]
	[ "$(stat -c %a "$S/a/ctl")" = 660 ]
	# a second one on the same directory is refused
	run "$B/vm-switch" -s "$S/a" </dev/null
	[ "$status" -eq 1 ]
	kill "$(cat "$S/pid")"
	gone() { [ ! -e "$S/a" ] && [ ! -e "$S/a.m" ] && [ ! -e "$S/pid" ]; }
	until_ok gone
}

@test "what a sleeping reader leaves waits, whole and in order" {
	make -s build/t/switch-queue
	run "$T/switch-queue"
	echo "$output"
	[ "$output" = ok ]
}

# SWITCH_EVENTS=1000000 for a long one
@test "stations, plugs and managers that do anything: nothing is left of it" {
	make -s build/t/switch-fuzz >&2
	mkdir "$S/f"
	cd "$S/f"
	run timeout -k 5 900 "$T/switch-fuzz" 7 "${SWITCH_EVENTS:-30000}" "$S/f"
	echo "$output"
	[ "$status" -eq 0 ]
	[ "${lines[-1]}" = ok ]
	[ -z "$(ls "$S/f")" ]
}
