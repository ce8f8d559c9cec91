# vm.sh - what the benchmarks share: the three who run, one after the other on
# one CPU, and a few sums.  Sourced, in the project's folder.
#
# Sets: guest, peer, tmp (removed at exit), core (the CPU: CORE, or who is
# idlest), opts (more options for vm-run), limit (LIMIT: the seconds after which
# a machine is ended).

guest=build/guest
peer=qemu-system-x86_64
limit=${LIMIT:-1800}
names= who=native,ours,peer opts=
tmp=$(mktemp -d) || exit 1
export XDG_RUNTIME_DIR="$tmp"
running= space=
cleanup() {
	trap - EXIT INT TERM
	# shellcheck disable=SC2086
	[ ! "$running" ] || kill -9 $running 2>/dev/null
	wait
	[ ! "$space" ] || ip netns del "$space" 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'cleanup; exit 1' INT TERM

# usage: the lines of the script's first comment that say it
usage() {
	sed -n "/^# ${0##*/} \[/,/^#\$/s/^# \{0,1\}//p" "$0" >&2
	exit 2
}

# arguments GETOPTS "$@": into variables
arguments() {
	letters=$1
	shift
	while getopts "$letters" o; do
		case $o in
		n) n=$OPTARG ;;
		t) seconds=$OPTARG ;;
		s) size=$OPTARG ;;
		k) names=$OPTARG ;;
		c) classes=$OPTARG ;;
		w) who=$OPTARG ;;
		o) opts=$OPTARG ;;
		*) usage ;;
		esac
	done
	shift $((OPTIND - 1))
	[ $# -eq 0 ] || usage
	case $n in '' | *[!0-9]* | 0*) usage ;; esac
}

# busy: a line `CPU ticks' for each CPU, ticks it has worked
busy() {
	awk '/^cpu[0-9]/ { print substr($1, 4), $2 + $3 + $4 + $7 + $8 + $9 }' \
		/proc/stat
}

# used: ticks of CPU that what we waited for has used, from $tmp/times, as a
# subshell would say its own
used() {
	awk -v hz="$(getconf CLK_TCK)" -F '[ms ]+' 'NR == 2 {
		printf "%d\n", hz * (60 * ($1 + $3) + $2 + $4) }' "$tmp/times"
}

core=${CORE:-$(busy >"$tmp/busy"; sleep 0.5; busy | join "$tmp/busy" - |
	awk '{ print $3 - $2, $1 }' | sort -n | while read -r _ c; do
		taskset -c "$c" true 2>/dev/null && echo "$c" && break
	done)}

# alone_begin, alone_end WHO: was the CPU ours?  What others had of it goes to
# $tmp/others, in percent of the time it worked.
alone_begin() {
	busy0=$(busy | awk -v c="$core" '$1 == c { print $2 }')
	times >"$tmp/times"
	used0=$(used)
}
alone_end() {
	busy1=$(busy | awk -v c="$core" '$1 == c { print $2 }')
	times >"$tmp/times"
	used1=$(used)
	awk -v w="$1" -v b=$((busy1 - busy0)) -v u=$((used1 - used0)) 'BEGIN {
		if (b > u)
			printf "%s %d\n", w, (b - u) * 100 / b
	}' >>"$tmp/others"
}

# disturbed: says who was
disturbed() {
	awk -v c="$core" '$2 > m[$1] { m[$1] = $2 }
		END { for (w in m) if (m[w] >= 10)
			printf "disturbed: others had up to %d %% of CPU %d in the runs of %s\n",
			    m[w], c, w }' "$tmp/others" 2>/dev/null
}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# machine WHO OUTPUT COMMAND OPTIONS...: a guest that runs COMMAND, its console
# in the file OUTPUT; fails if it did not power off by itself
machine() {
	who=$1 out=$2 append="console=ttyS0 quiet $3"
	shift 3
	set -- -kernel $guest/vmlinuz -no-reboot -nic none -vga none \
		-display none -parallel none -serial stdio -monitor none \
		-append "$append" "$@"
	case $who in
	ours) set -- build/bin/vm-run -name bench "$@" $opts ;;
	peer) set -- $peer -accel tcg -M pc -cpu max "$@" ;;
	esac
	timeout -k 5 "$limit" taskset -c "$core" "$@" \
		</dev/null >"$out.raw" 2>"$out.err" &
	running=$!
	wait $running
	status=$?
	running=
	tr -d '\r' <"$out.raw" >"$out"
	[ $status = 0 ] && return
	echo "${0##*/}: $who: status $status; last words:" >&2
	tail -n 3 "$out.err" "$out" >&2
	return 1
}

# present: those of $who that are there, in $present
present() {
	present=
	for w in $(echo "$who" | tr , ' '); do
		case $w in
		native|ours) ;;
		peer) command -v $peer >/dev/null || {
			echo "$peer is not installed: no peer"
			continue
		} ;;
		*) usage ;;
		esac
		present="$present $w"
	done
}

# about MACHINE: the host, the programs and what kind of machine
about() {
	printf '%s\n' "$(uname -m), $(nproc) CPUs, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(date -u +%Y-%m-%d)"
	case $present in *peer*) $peer --version | head -n 1 ;; esac
	echo "kernel: $(file -b $guest/vmlinuz 2>/dev/null | sed 's/.*version \([^ ]*\).*/\1/'), $1${opts:+, ours with $opts}"
}

# median of val[who, name, 1] to val[who, name, count[who, name]], for awk
# shellcheck disable=SC2016 # awk's
median='
	function median(who, name,   n, i, j, t, v) {
		n = count[who, name]
		for (i = 1; i <= n; i++)
			v[i] = val[who, name, i]
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j] < v[j - 1]; j--) {
				t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
			}
		if (!n)
			return 0
		return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
	}
'

# table WHAT UNIT JSON <LINES: lines `who name class value checksum' in any
# number to a table of medians with geometric means, and to a JSON object a line.
# Fails where checksums differ.
table() {
	awk -v what="$1" -v unit="$2" -v json="$3" "$median"'
	function show(v) {
		if (!v)
			return "-"
		return sprintf(v < 10 ? "%.3f" : v < 1000 ? "%.1f" : "%.0f", v)
	}
	function ratio(a, b) {
		return a && b ? sprintf("%.2f", a / b) : "-"
	}
	function null(v) {
		return v == "-" || !v ? "null" : v
	}
	function add(class, what, a, b) {
		if (!a || !b)
			return
		logs[class, what] += log(a / b)
		logn[class, what]++
	}
	function mean(class, what) {
		if (!logn[class, what])
			return "-"
		return sprintf("%.2f", exp(logs[class, what] / logn[class, what]))
	}
	function rule() {
		printf "%-15s %-5s %10s %10s %10s %12s %10s %10s\n", what,
		    "class", "native", "ours", "peer", "ours/native",
		    "peer/ours", "peer/native"
	}
	{
		if (!(($2) in class))
			name[++names] = $2
		class[$2] = $3
		all[$1]
		val[$1, $2, ++count[$1, $2]] = $4
		if (sum[$2] == "")
			sum[$2] = $5
		else if (sum[$2] != $5 && !wrong[$2]++)
			bad = 1
	}
	END {
		printf "%s; lower is better\n\n", unit
		rule()
		for (i = 1; i <= names; i++) {
			k = name[i]
			c = class[k]
			for (w in all)
				if (count[w, k] > runs[k])
					runs[k] = count[w, k]
			if (!known[c]++)
				classes[++nc] = c
			n = median("native", k)
			o = median("ours", k)
			p = median("peer", k)
			printf "%-15s %-5s %10s %10s %10s %12s %10s %10s%s\n",
			    k, c, show(n), show(o), show(p), ratio(o, n),
			    ratio(p, o), ratio(p, n),
			    wrong[k] ? "  RESULTS DIFFER" : ""
			printf "{\"" what "\":\"%s\",\"class\":\"%s\",\"unit\":\"%s\",\"native\":%s,\"ours\":%s,\"peer\":%s,\"ours_native\":%s,\"peer_ours\":%s,\"runs\":%d,\"checksum\":\"%s\"}\n",
			    k, c, unit, null(n), null(o), null(p),
			    null(ratio(o, n)), null(ratio(p, o)),
			    runs[k], sum[k] >json
			add(c, "on", o, n)
			add(c, "po", p, o)
			add(c, "pn", p, n)
			if (c == "int" || c == "fp") {
				add("user", "on", o, n)
				add("user", "po", p, o)
				add("user", "pn", p, n)
			}
		}
		if (known["int"] && known["fp"])
			classes[++nc] = "user"
		print ""
		for (i = 1; i <= nc; i++)
			printf "%-15s %-5s %32s %12s %10s %10s\n",
			    "geometric mean", classes[i], "",
			    mean(classes[i], "on"), mean(classes[i], "po"),
			    mean(classes[i], "pn")
		if (bad)
			print "\nResults differ: somebody computes wrongly."
		exit bad
	}'
}
