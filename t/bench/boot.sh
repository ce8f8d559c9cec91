#!/bin/sh
# boot.sh - boot time until init runs, memory and idle cost, here and in the
# peer: the same kernel, initramfs and RAM, in turn, the median of RUNS (5).

cd "${0%/*}/../.." || exit 1
runs=${RUNS:-5}
. t/bench/vm.sh

# start WHO APPEND: run it, console into the fifo, $running
start() {
	rm -f "$tmp/console"
	mkfifo "$tmp/console"
	set -- "$1" -m 512 -kernel $guest/vmlinuz -initrd $guest/initrd.img \
		-no-reboot -nic none -vga none -display none -parallel none \
		-serial stdio -monitor none -append "console=ttyS0 quiet $2"
	case $1 in
	ours) shift; set -- build/bin/vm-run -name bench "$@" ;;
	peer) shift; set -- $peer -accel tcg -M pc "$@" ;;
	esac
	"$@" >"$tmp/console" 2>"$tmp/err" </dev/null &
	running=$!
}

now() { date +%s%N; }

# boot WHO: milliseconds until init's first line, in $ms
boot() {
	t0=$(now)
	start "$1" 'vm.run=true'
	{ grep -a -m 1 -q 'vm.init: running' && t1=$(now); cat >/dev/null; } \
		<"$tmp/console"
	wait "$running"
	status=$?
	running=
	[ "$t1" ] && [ $status = 0 ] || {
		echo "boot.sh: $1 did not boot (status $status)" >&2
		cat "$tmp/err" >&2
		exit 1
	}
	ms=$(((t1 - t0) / 1000000))
	t1=
}

median() { sort -n "$1" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

# pss PID: KiB of the process without guest RAM (the 512 MiB mapping)
pss() {
	awk '/^[0-9a-f]+-[0-9a-f]+ / { ram = 0 }
		/^Size:/ { ram = $2 == 524288 }
		/^Pss:/ && !ram { n += $2 }
		END { print n + 0 }' "/proc/$1/smaps"
}

# ticks PID...: CPU time used, in clock ticks
ticks() {
	for p; do cat "/proc/$p/stat"; done |
		sed 's/.*) //' | awk '{ n += $12 + $13 } END { print n }'
}

# idle WHO: a guest that sleeps; a line for each process
idle() {
	start "$1" 'vm.run="echo vm.idle; sleep 1000"'
	exec 4<"$tmp/console"
	grep -a -m 1 -q 'vm.idle' <&4
	cat <&4 >/dev/null &
	reader=$!
	sleep 2
	all="$running $(ps -o pid= --ppid "$running" | tr '\n' ' ')"
	# shellcheck disable=SC2086
	t0=$(ticks $all) && sleep 10 && t1=$(ticks $all)
	hz=$(getconf CLK_TCK)
	sum=0 rest=0
	for p in $all; do
		k=$(pss "$p")
		name=$(tr '\0' ' ' <"/proc/$p/cmdline" | cut -c 1-50)
		case $name in
		*$peer*) name=$peer ;;
		*vcpu*) ;;
		*) rest=$((rest + k)) ;;
		esac
		printf '  %-50s %8d KiB\n' "$name" "$k"
		sum=$((sum + k))
	done
	printf '  %-50s %8d KiB\n' "sum" "$sum"
	[ "$1" = peer ] || printf '  %-50s %8d KiB\n' "all but the vcpu" "$rest"
	awk -v t="$((t1 - t0))" -v hz="$hz" 'BEGIN {
		printf "  %-50s %8.2f %%\n", "CPU of the idle guest", t * 10 / hz }'
	kill "$running"
	[ "$1" = peer ] || kill -9 "$running" 2>/dev/null
	wait "$running" 2>/dev/null
	running=
	exec 4<&-
	kill $reader 2>/dev/null || :	# it ended with what it read
}

present
about "512 MiB, one vcpu"
echo
echo "Boot until init runs, ms:"
i=0
while [ $i -lt "$runs" ]; do
	boot peer
	echo $ms >>"$tmp/peer"
	p=$ms
	boot ours
	echo $ms >>"$tmp/ours"
	i=$((i + 1))
	printf '  run %d: peer %6d   ours %6d\n' $i "$p" "$ms"
done
p=$(median "$tmp/peer") o=$(median "$tmp/ours")
printf '  median: peer %5d   ours %6d   ratio %s\n\n' "$p" "$o" \
	"$(awk -v a="$o" -v b="$p" 'BEGIN { printf "%.2f", a / b }')"
echo "Memory without guest RAM (PSS), ours:"
idle ours
echo "The peer's:"
idle peer
