# The benchmarks measure what they say and get the right results; how long it
# took decides nothing here.

load helpers

setup() {
	vm_setup
	make -s build/bench/kernels
}

teardown() {
	vm_teardown
}

@test "the benchmark program: every kernel's checksum, natively" {
	run build/bench/kernels -n 1
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	[ "$(build/bench/kernels -l | wc -l)" -ge 50 ]
	# a kernel that the processor cannot run prints nothing
	[ "$(build/bench/kernels -l | grep -vcxf <(printf '%s\n' "$output" |
		cut -d ' ' -f 1 | sed 's/.*/& .*/'))" -le 1 ]
	printf '%s\n' "$output" | while read -r name class ns sum rest; do
		[[ $name =~ ^[a-z0-9-]+$ && $class =~ ^(int|code|fp|sys)$ &&
		    $ns =~ ^[0-9]+\.[0-9]{4}$ && $sum =~ ^[0-9a-f]{16}$ &&
		    -z $rest ]] || { echo "$name $class $ns $sum $rest"; false; }
	done
	# known from elsewhere: fib(27), queens on 9x9, steps of 3n+1 to 10^4
	[[ $output == *$'\nfib int '*' 000000000002ff42'* ]]
	[[ $output == *$'\nqueens int '*' 0000000000000160'* ]]
	[[ $output == *$'\ncollatz int '*' 00000000000cf702'* ]]
}

@test "the benchmark program: names and classes select, wrong ones do not" {
	run build/bench/kernels -n 1 -c sys fib,getppid clock
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 2 ]
	[[ ${lines[0]} == getppid\ sys\ * && ${lines[1]} == clock\ sys\ * ]]
	run build/bench/kernels nosuch
	[ "$status" -eq 2 ]
	run build/bench/kernels -t nonsense
	[ "$status" -eq 2 ]
}

@test "kernels.sh: a table and JSON of two kernels" {
	run t/bench/kernels.sh -n 1 -t 0.05 -k crc32,getppid
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	# native and ours are numbers, the peer's if it is installed
	printf '%s\n' "$output" | grep -E '^crc32 +int( +[0-9.]+){2} +([0-9.]+|-) +[0-9.]+ '
	printf '%s\n' "$output" | grep -E '^getppid +sys( +[0-9.]+){2} '
	[ "$(printf '%s\n' "$output" | grep -c '^geometric mean ')" -eq 2 ]
	[ "$(grep -c '^{"kernel":.*}$' build/bench/kernels.json)" -eq 2 ]
	command -v python3 >/dev/null || return 0
	python3 -c 'import json, sys
for l in sys.stdin: assert json.loads(l)["ours"] > 0' <build/bench/kernels.json
}

@test "net.sh: a table and JSON of a namespace behind vm-slirp" {
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	ip netns add "probe$$" 2>/dev/null || skip "no network namespaces here"
	ip netns del "probe$$"
	run t/bench/net.sh -n 1 -k nat -s 20
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	for w in up down rr conn; do
		printf '%s\n' "$output" | grep -E "^nat-1500-$w +(Gb/s|us|/s)( +[0-9.]+) +([0-9.]+|-) "
	done
	[ "$(grep -c '^{"network":.*}$' build/bench/net.json)" -eq 8 ]
}

@test "net.sh: a load that fails ends it, with nothing left" {
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	ip netns add "probe$$" 2>/dev/null || skip "no network namespaces here"
	ip netns del "probe$$"
	n=$(ip netns list | wc -l)
	mkdir "$BATS_TEST_TMPDIR/bin"
	printf '#!/bin/sh\nexit 1\n' >"$BATS_TEST_TMPDIR/bin/timeout"
	chmod +x "$BATS_TEST_TMPDIR/bin/timeout"
	run timeout -k 5 60 env PATH="$BATS_TEST_TMPDIR/bin:$PATH" \
		t/bench/net.sh -n 1 -k nat -s 20
	[ "$status" -eq 1 ]
	[[ $output == *"failed"* ]]
	[ "$(ip netns list | wc -l)" -eq "$n" ]
}

@test "table: medians, ratios, means; a wrong result is a failure" {
	tmp=$BATS_TEST_TMPDIR
	sums() {
		bash -c '. t/bench/vm.sh; table kernel ns "$1"' sh "$tmp/json"
	}
	run sums <<-'E'
	native a int 1 f
	native a int 9 f
	native a int 2 f
	ours a int 4 f
	peer a int 16 f
	native b int 1 e
	ours b int 8 e
	E
	[ "$status" -eq 0 ]
	[[ $output =~ a\ +int\ +2.000\ +4.000\ +16.0\ +2.00\ +4.00\ +8.00 ]]
	[[ $output =~ b\ +int\ +1.000\ +8.000\ +-\ +8.00\ +-\ +- ]]
	[[ $output =~ mean\ +int\ +4.00\ +4.00\ +8.00 ]]
	grep '"kernel":"b".*"peer":null' "$tmp/json"
	run sums <<-'E'
	native a int 1 f
	ours a int 1 e
	E
	[ "$status" -eq 1 ]
	[[ $output == *"RESULTS DIFFER"* ]]
}
