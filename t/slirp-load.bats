# vm-slirp's TCP against a kernel's in a network namespace: ways to end, bad wires,
# crowds; what it costs.
load switch-help

setup_file() { cd "$BATS_TEST_DIRNAME/.." && source t/switch-help.bash && net_build; }
setup() {
	net_setup
	need_tap
	need python3
	start python3 t/slirp-load.py server "$D/ports"
	until_ok test -s "$D/ports"
	read -r port crowd <"$D/ports"
	slirp_options=
}
teardown() { net_teardown; }

# slirp WIRE-FILTER...: behind a bad wire if there is one; $slirp its number
slirp() {
	if [ $# -eq 0 ]; then
		start "$B/vm-slirp" -M "$S/c" $slirp_options "tap:$TAP"
		slirp=${pids[-1]}
	else
		start "$B/vm-slirp" -M "$S/c" "stream:$S/s,server"
		slirp=${pids[-1]}
		until_ok test -S "$S/s"
		start "$B/vm-plug" -s 7 -M "$S/p.m" "$@" "tap:$TAP" "stream:$S/s"
		until_ok test -S "$S/p.m"
	fi
	until_ok test -S "$S/c"
	guest
}

# client N SCENARIO...
client() {
	ip netns exec "$NS" timeout 300 python3 t/slirp-load.py client 10.0.2.2 "$port" "$@"
}

# idle: no connection, and no descriptor more than $fds
idle() {
	ctl "$S/c" stat | grep -qx "tcp 0" && [ "$(ls "/proc/$slirp/fd" | wc -l)" -le "$fds" ]
}

# finally COMMAND...: a crowd takes its time on a busy host
finally() {
	local i
	for i in 1 2 3 4 5 6 7 8 9; do
		! until_ok "$@" 2>/dev/null || return 0
	done
	echo "never: $*"
	ctl "$S/c" stat
	descriptors
	return 1
}

descriptors() {
	ls "/proc/$slirp/fd" | wc -l
}

@test "the ends of a connection: after data, half, by reset, from either side" {
	slirp
	fds=$(descriptors)
	run client 3000000 send sum_ echo reset we_reset we_end refused slow stop
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$(grep -c ^ok <<<"$output")" -eq 9 ]
	finally idle
}

@test "TCP through a tap: pieces of many segments either way, over IPv4 and IPv6" {
	slirp
	run client 20000000 send sum_
	echo "$output"
	[ "$(grep -c ^ok <<<"$output")" -eq 2 ]
	if (exec 3<>"/dev/tcp/::1/$port") 2>/dev/null; then
		ip -n "$NS" addr add fec0::15/64 dev "$TAP" nodad
		ip netns exec "$NS" timeout 60 python3 t/slirp-load.py client \
		    fec0::2 "$port" 20000000 send sum_
	fi
	run ctl "$S/c" stat
	echo "$output"
	for way in in out; do
		[[ $output =~ bytes-$way\ ([0-9]+) ]]
		bytes=${BASH_REMATCH[1]}
		[[ $output =~ frames-$way\ ([0-9]+) ]]
		[ $((bytes / BASH_REMATCH[1])) -gt 4000 ]
	done
}

@test "sixty connections that do all of that, on a good wire" {
	slirp
	fds=$(descriptors)
	client 2000000 mix
	finally idle
}

@test "sixty connections on a wire that loses, doubles and reorders" {
	slirp -f loss=3 -f dup=3 -f reorder=3 -f delay=1
	fds=$(descriptors)
	client 100000 mix
	finally idle
	run ctl "$S/c" stat
	[[ $output =~ "tcp-retransmits "[1-9] ]]
}

@test "ten thousand connections stand; memory and descriptors are bounded" {
	local n=10000 round before rss
	[ "$(ulimit -Hn)" -ge 10200 ] || skip "no more than $(ulimit -Hn) descriptors"
	slirp
	port=$crowd
	mkfifo "$S/go"
	ip -n "$NS" addr add 10.0.2.16/24 dev "$TAP"
	until_ok grep -q '^Seccomp:.*2$' "/proc/$slirp/status" || skip "not in its sandbox"
	fds=$(descriptors)
	before=$(grep VmData "/proc/$slirp/status")
	for round in 1 2; do
		# a kernel whose ports rest from the first time is slow to find one
		export SRC=10.0.2.$((14 + round))
		(client $n crowd <"$S/go" >"$D/crowd" 2>"$D/took") 3>&- 9>&- &
		pids+=($!)
		exec 8>"$S/go"
		stand() { [ "$(cat "$D/crowd")" = "$n stand" ]; }
		finally stand
		run ctl "$S/c" stat
		[[ $output == *"tcp $n"* ]]
		rss=$(awk '/VmRSS/ { print $2 }' "/proc/$slirp/status")
		[ "$rss" -lt 20000 ]
		echo >&8
		exec 8>&-
		finally grep -q "ok crowd" "$D/crowd"
		echo "$rss KiB; $(cat "$D/took")"
		finally idle
	done
	# nothing was allocated
	[ "$before" = "$(grep VmData "/proc/$slirp/status")" ]
}

@test "more connections than the table holds: they wait, and all come through" {
	slirp_options="-o flows=20"
	slirp
	fds=$(descriptors)
	client 200000 mix
	run ctl "$S/c" stat
	[[ $output =~ "tcp-full "[1-9] ]]
	finally idle
}
