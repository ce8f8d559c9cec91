#!/bin/sh
# net.sh - networks against their peers, in turn: a namespace behind vm-slirp and
# behind slirp4netns, a guest in our machine and in the peer's on a user network,
# a switch with VDE's plugs and vde_switch.  The median of the repetitions, and the
# CPU time of the network's own process.
#
# net.sh [-n repetitions] [-k part,...] [-s MiB] [-t seconds]
#   -k  of nat,guest,switch
#   -s  bytes to carry: to a namespace, 1/8 of it from and to a guest
#   -t  of a measurement of the switch
#
# A table goes to standard output, a JSON object for each row to
# build/bench/net.json.  Namespaces need root.

cd "${0%/*}/../.." || exit 1
CORE=0-$(($(nproc) - 1))
n=5 seconds=1 size=2000
. t/bench/vm.sh
names=nat,guest,switch
arguments n:k:s:t: "$@"
make -s build/bin/vm-slirp build/bin/vm-switch build/t/switch-bench \
	build/bench/netload || exit 1
load=$PWD/build/bench/netload
rm -f "$tmp/lines"

part() { case ,$names, in *,$1,*) ;; *) return 1 ;; esac; }

# spent PID: seconds of CPU of all its threads
spent() { cat "/proc/$1"/task/*/schedstat | awk '{ n += $1 } END { print n / 1e9 }'; }

# row WHO NAME VALUE UNIT CPU
row() { echo "$*" >>"$tmp/lines"; }

server() {
	rm -f "$tmp/port"
	"$load" server "$tmp/port" &
	server=$!
	running="$running $server"
	until [ -s "$tmp/port" ]; do sleep 0.05; done
	read -r port <"$tmp/port"
}

ended() {
	kill $running 2>/dev/null
	wait
	running=
}

# ---- a namespace; the far side is the host's kernel
tap=bt$$
namespace() {
	ip netns add b$$ || die "no network namespaces here"
	space=b$$
	server
	if [ "$1" = ours ]; then
		build/bin/vm-slirp -M "$tmp/ctl" -o mtu="$2" tap:$tap &
		nat=$!
		until [ -S "$tmp/ctl" ]; do sleep 0.05; done
		ip link set $tap netns $space
		ip -n $space link set lo up
		ip -n $space link set $tap mtu "$2" up
		ip -n $space addr add 10.0.2.100/24 dev $tap
		ip -n $space route add default via 10.0.2.2
	else
		slirp4netns --configure --mtu="$2" --netns-type=path \
			/run/netns/$space tap0 >/dev/null 2>&1 &
		nat=$!
		until ip -n $space route | grep -q default; do sleep 0.05; done
	fi
	running="$running $nat"
	for what in "up $size" "down $size" "rr 2000" "conn 500"; do
		a=$(spent $nat)
		# shellcheck disable=SC2086
		# shellcheck disable=SC2046
		set -- "$1" "$2" $(timeout -k 5 120 ip netns exec $space \
			"$load" ${what% *} 10.0.2.2 "$port" ${what#* })
		[ $# = 5 ] || die "$1, MTU $2: $what failed"
		row "$1" "nat-$2-$3" "$4" "$5" "$(spent $nat | awk -v a="$a" \
			'{ print $1 - a }')"
	done
	ended
	ip netns del $space
	space=
}

nat() {
	peers=ours
	if command -v slirp4netns >/dev/null; then
		peers="ours peer"
		slirp4netns --version | head -n 1
	else
		echo "slirp4netns is not installed: no peer"
	fi
	for mtu in 1500 65520; do
		for who in $peers; do
			namespace "$who" $mtu
		done
	done
}

# ---- a guest; the far side is the host's kernel
guest() {
	[ -s $guest/vmlinuz ] || die "no guest: make guest"
	who=ours,peer
	present
	mkdir -p "$tmp/root"
	cp "$load" "$tmp/root/netload"
	cat >"$tmp/root/work" <<-'X'
	ip link set lo up
	udhcpc -i eth0 -n -q -t 20 -T 1 >/dev/null 2>&1
	port=$1 size=$2
	for what in "up $size" "down $size" "rr 1000" "conn 200"; do
		echo "work $(/netload ${what% *} 10.0.2.2 $port ${what#* })"
	done
	X
	(cd "$tmp/root" && printf 'work\nnetload\n' |
		cpio -o -H newc -R 0:0 --quiet) |
		cat $guest/initrd.img - >"$tmp/initrd"
	for w in $present; do
		server
		keep=$running
		machine "$w" "$tmp/out" "vm.run=\"sh /work $port $((size / 8))\"" \
			-m 256 -initrd "$tmp/initrd" -netdev user,id=n \
			-device virtio-net-pci,netdev=n || exit 1
		running=$keep
		ended
		awk -v w="$w" '$1 == "work" && NF == 4 {
			print w, "guest-" $2, $3, $4, 0 }' "$tmp/out" >>"$tmp/lines"
	done
}

# ---- a switch: frames a second through pairs of plugs
switch() {
	peers=ours
	command -v vde_switch >/dev/null && peers="ours peer" ||
		echo "vde_switch is not installed: no peer"
	for ports in 2 8 64; do
		for bytes in 64 1500; do
			for w in $peers; do
				case $w in
				ours) set -- build/bin/vm-switch ;;
				peer) set -- vde_switch ;;
				esac
				"$@" -n 80 -s "$tmp/sw" -M "$tmp/sw.m" </dev/null \
					-d -p "$tmp/pid" >/dev/null
				until [ -s "$tmp/pid" ]; do sleep 0.05; done
				running=$(cat "$tmp/pid")
				# shellcheck disable=SC2046
				set -- $(timeout -k 5 60 build/t/switch-bench "$tmp/sw" \
					$bytes "$seconds" $((ports / 2)) "$running")
				[ $# = 2 ] || die "switch-bench failed"
				row "$w" "switch-$ports-$bytes" "$1" frames/s "$2"
				kill "$running"
				while kill -0 "$running" 2>/dev/null; do sleep 0.05; done
				running=
				rm -rf "$tmp/sw" "$tmp/sw.m" "$tmp/pid"
			done
		done
	done
}

# also what an interrupted run leaves
trap 'cleanup; ip netns del $space 2>/dev/null' EXIT

mkdir -p build/bench
about "networks"
i=0
while [ $i -lt "$n" ]; do
	i=$((i + 1))
	for p in nat guest switch; do
		! part $p || $p
	done
done
echo "$n repetitions"
echo
awk -v json=build/bench/net.json "$median"'
	{
		if (!($2 in unit))
			name[++names] = $2
		unit[$2] = $4
		val[$1, $2, ++count[$1, $2]] = $3
		val[$1 " cpu", $2, ++count[$1 " cpu", $2]] = $5
	}
	function num(v) {
		return v ? sprintf(v < 100 ? "%.3f" : "%.0f", v) : "-"
	}
	# more is better, but for times
	function gain(k, a, b) {
		if (!a || !b)
			return "-"
		return sprintf("%.2f", unit[k] == "us" ? b / a : a / b)
	}
	function null(v) {
		return v == "-" ? "null" : v
	}
	END {
		f = "%-16s %-9s %10s %10s %7s %10s %10s\n"
		printf f, "network", "unit", "ours", "peer", "better",
		    "CPU, ours", "CPU, peer"
		for (i = 1; i <= names; i++) {
			k = name[i]
			a = median("ours", k)
			b = median("peer", k)
			ca = median("ours cpu", k)
			cb = median("peer cpu", k)
			printf f, k, unit[k], num(a), num(b), gain(k, a, b),
			    num(ca), num(cb)
			printf "{\"network\":\"%s\",\"unit\":\"%s\",\"ours\":%s,\"peer\":%s,\"better\":%s,\"ours_cpu\":%s,\"peer_cpu\":%s,\"runs\":%d}\n",
			    k, unit[k], null(num(a)), null(num(b)),
			    null(gain(k, a, b)), null(num(ca)), null(num(cb)),
			    count["ours", k] >json
		}
	}' "$tmp/lines"
