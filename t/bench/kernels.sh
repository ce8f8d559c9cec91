#!/bin/sh
# kernels.sh - the benchmark program t/bench/kernels.c natively, in our machine
# and in the peer's: same program, kernel and initramfs, one CPU, in turn, the
# median of the repetitions.
#
# kernels.sh [-n repetitions] [-t seconds] [-k name,...] [-c class,...]
#            [-w who,...] [-o "vm-run options"]
#   -t  time for each kernel and run (0.2)
#   -c  of int, code, fp, sys
#   -w  of native, ours, peer: -w native,ours leaves out the peer
#   CORE in the environment: the CPU; the idlest one otherwise
#
# The table goes to standard output, a JSON object for each kernel to
# build/bench/kernels.json.

cd "${0%/*}/../.." || exit 1
n=5 seconds=0.2 classes=
. t/bench/vm.sh
arguments n:t:k:c:w:o: "$@"
bench=build/bench
make -s $bench/kernels || die "cannot make the program"
[ -s $guest/vmlinuz ] || die "no guest: make guest"
present
args="-t $seconds${classes:+ -c $classes}${names:+ $names}"
$bench/kernels -l $args >"$tmp/list" || exit 2

# A second archive behind the first: the kernel unpacks both.
mkdir "$tmp/root"
cp $bench/kernels "$tmp/root/"
(cd "$tmp/root" && echo kernels | cpio -o -H newc -R 0:0 --quiet) |
	cat $guest/initrd.img - >"$tmp/initrd"

failed=0
about "one vcpu on CPU $core"
i=0
while [ $i -lt "$n" ]; do
	i=$((i + 1))
	for w in $present; do
		out=$tmp/$w.$i
		: >"$out"
		alone_begin
		case $w in
		native) taskset -c "$core" $bench/kernels $args \
			>"$out" 2>"$out.err" || { failed=1; cat "$out.err" >&2; } ;;
		ours|peer) machine $w "$out" "vm.run=\"/kernels $args\"" \
			-m 512 -initrd "$tmp/initrd" || failed=1
			grep -a '^kernels: ' "$out" >&2 && failed=1 ;;
		esac
		alone_end $w
		# console output of the guest's kernel may stand between
		grep -aE '^[a-z0-9-]+ [a-z]+ [0-9.]+ [0-9a-f]{16}$' "$out" |
			sed "s/^/$w /" >>"$tmp/lines"
	done
	[ "$n" = 1 ] || [ ! -t 2 ] || printf '\rrepetition %d of %d' $i "$n" >&2
done
[ "$n" = 1 ] || [ ! -t 2 ] || echo >&2
echo "$n repetitions of $seconds s a kernel"
echo
[ -s "$tmp/lines" ] || die "nothing was measured"
table kernel "nanoseconds an operation" $bench/kernels.json <"$tmp/lines" || failed=1
# what a run lost does not go unnoticed
for w in $present; do
	grep "^$w " "$tmp/lines" | cut -d ' ' -f 2 | sort -u >"$tmp/has"
	lost=$(cut -d ' ' -f 1 "$tmp/list" | sort | comm -23 - "$tmp/has" |
		tr '\n' ' ')
	[ ! "$lost" ] || echo "$w: not measured: $lost"
done
disturbed
exit $failed
