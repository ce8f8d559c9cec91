#!/bin/sh
# programs.sh - real programs in the guest: compression, a C compiler,
# interpreters, a data base, cryptography; natively, in our machine and in the
# peer's, with the same inputs on the same root file system, results compared.
#
# programs.sh [-n repetitions] [-s MiB] [-k name,...] [-w who,...]
#             [-o "vm-run options"]
#   -s  size of what is compressed and digested (16; up to 64)
#   -w  of native, ours, peer: -w native,ours leaves out the peer
#   CORE in the environment: the CPU; the idlest one otherwise
#
# The table goes to standard output, a JSON object for each program to
# build/bench/programs.json.  Natively the programs run in the root file system
# by chroot, in name spaces of their own.

cd "${0%/*}/../.." || exit 1
n=3 size=16
. t/bench/vm.sh
arguments n:s:k:w:o: "$@"
case $size in '' | *[!0-9]* | 0*) usage ;; esac
[ "$size" -le 64 ] || usage
bench=build/bench
mkdir -p $bench
[ -s $guest/vmlinuz ] && [ -s $guest/bench.img ] ||
	die "no guest: share/guest build/guest cloud bench"
present

# The second disk is a tar archive with all that the programs work on; what is
# written is in memory.
mkdir -p "$tmp/in/src"
cp t/bench/*.[ch] "$tmp/in/src/"
cp t/bench/programs "$tmp/in/"
head -c $((size * 1048576)) $guest/bench.data >"$tmp/in/data"
gzip -1nc "$tmp/in/data" >"$tmp/in/data.gz"
openssl genrsa -out "$tmp/in/src/key.pem" 2048 2>/dev/null ||
	die "openssl makes no key"
tar -C "$tmp/in" --owner=0 --group=0 -cf "$tmp/in.tar" .
rm -rf "$tmp/in"

# native OUTPUT: what t/bench/programs prints
native() {
	user=
	[ "$(id -u)" = 0 ] || user=-r
	timeout -k 5 "$limit" taskset -c "$core" unshare $user -m -p -f sh -ec '
		root=$1 in=$2
		shift 2
		mount --rbind "$root" "$root"
		mount -t tmpfs tmpfs "$root/mnt"
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		tar -C "$root/mnt" -xf "$in"
		exec chroot "$root" /bin/sh /mnt/programs "$@"
	' sh "$PWD/$guest/bench.dir" "$tmp/in.tar" "$size" $names \
		>"$1" 2>"$1.err" </dev/null
}

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
		native) native "$out" || { failed=1; cat "$out.err" >&2; } ;;
		ours|peer) machine $w "$out" "root=/dev/vda vm.bench=$size:$names" \
			-m 1024 -initrd $guest/initrd.img \
			-drive if=virtio,format=raw,readonly=on,file=$guest/bench.img \
			-drive if=virtio,format=raw,readonly=on,file="$tmp/in.tar" ||
			failed=1 ;;
		esac
		alone_end $w
		grep -aE '^[a-z0-9-]+( real [0-9.]+ [0-9a-f]+|: status.*)$' "$out" |
			sed "s/^/$w /" >"$tmp/new"
		grep -a ' real ' "$tmp/new" >>"$tmp/lines"
		grep -a ': status' "$tmp/new" >&2 && failed=1
		grep -aq '^programs: done' "$out" || {
			echo "programs.sh: $w did not finish" >&2
			failed=1
		}
	done
done
echo "$n repetitions, $size MiB"
echo
[ -s "$tmp/lines" ] || die "nothing was measured"
table program "milliseconds" $bench/programs.json <"$tmp/lines" || failed=1
disturbed
exit $failed
