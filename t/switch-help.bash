# What the network tests share.  Every process started is ended by its number.

net_setup() {
	# a call that is not on the list is a death
	export VM_SANDBOX=kill
	cd "$BATS_TEST_DIRNAME/.."
	B=${NETBIN:-$PWD/build/bin}	# another build, as with ASan
	D=$BATS_TEST_TMPDIR
	T=$PWD/build/t
	pids=()
	nets=()
	# the tools' own names would be too long for a socket in deep folders
	S=$(mktemp -d /tmp/swXXXXXX)
	# an input that never ends and never says anything
	mkfifo "$S/in"
	exec 9<>"$S/in"
}

net_build() {
	make -s build/bin/vm-switch build/bin/vm-plug build/bin/vm-slirp \
	    build/t/switch-frame build/t/slirp-fuzz >&2
}

net_teardown() {
	local p
	for p in "${pids[@]}"; do kill "$p" 2>/dev/null || :; done
	for p in "${pids[@]}"; do wait "$p" 2>/dev/null || :; done
	for p in "${nets[@]}"; do ip netns del "$p" 2>/dev/null || :; done
	rm -rf "$S"
}

# start COMMAND...: in the background, standard input open and silent
start() {
	"$@" <&9 >"$D/out.${#pids[@]}" 2>&1 3>&- 9>&- &
	pids+=($!)
}

# until_ok COMMAND...: try for ten seconds
until_ok() {
	local i
	for i in $(seq 200); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	echo "never: $*" >&2
	return 1
}

need() {
	local c
	for c; do command -v "$c" >/dev/null || skip "no $c"; done
}

# mgmt SOCKET COMMAND...: one command to a numeric console, its answer
mgmt() {
	local s=$1
	shift
	printf '%s\nlogout\n' "$*" | socat -t2 - "UNIX:$s"
}

# ctl SOCKET COMMAND...: one command to vm-slirp
ctl() {
	local s=$1
	shift
	printf '%s\n' "$*" | socat -t0.3 - "UNIX:$s"
}

# guest: a network namespace with the tap $TAP as its only card
guest() {
	NS=n$$-$BATS_TEST_NUMBER
	ip netns add "$NS" 2>/dev/null || skip "no network namespaces here"
	nets+=("$NS")
	ip link set "$TAP" netns "$NS"
	ip -n "$NS" link set lo up
	ip -n "$NS" link set "$TAP" up
	ip -n "$NS" addr add 10.0.2.15/24 dev "$TAP"
	ip -n "$NS" route add default via 10.0.2.2
}

in_guest() {
	ip netns exec "$NS" timeout 30 "$@"
}

need_tap() {
	need ip socat
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	ip netns add "probe$$" 2>/dev/null || skip "no network namespaces here"
	ip netns del "probe$$"
	TAP=t$$x$BATS_TEST_NUMBER
}

# a TCP port of this host nobody uses, nor the next one; below those that the
# kernel gives to connections, which rest for a minute
free_port() {
	local p
	while :; do
		p=$((20000 + RANDOM % 12000))
		(exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null ||
			(exec 3<>"/dev/tcp/127.0.0.1/$((p + 1))") 2>/dev/null || break
	done
	echo "$p"
}

# bound PORT...: until something is bound to each, TCP or UDP, here
bound() {
	local p
	for p; do
		until_ok grep -q "^ *[0-9]*: [0-9A-F]*:$(printf %04X "$p") [0-9A-F]*:0000 0[7A]" \
		    /proc/net/tcp /proc/net/tcp6 /proc/net/udp
	done
}

guest_bound() {
	local p
	for p; do
		until_ok ip netns exec "$NS" grep -q "^ *[0-9]*: [0-9A-F]*:$(printf %04X "$p") [0-9A-F]*:0000 0[7A]" \
		    /proc/net/tcp /proc/net/udp
	done
}
