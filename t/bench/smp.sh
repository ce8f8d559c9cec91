#!/bin/sh
# smp.sh - what several vcpus gain: the same four jobs at the same time with one
# vcpu and with four, in our machine and in the peer's, in turn, on all CPUs of
# the host; seconds in the guest, the median of the repetitions.
#
# smp.sh [-n repetitions] [-w who,...] [-o "vm-run options"]
#   -w  of ours, peer
#
# The table goes to standard output, a JSON object for each work to
# build/bench/smp.json.

cd "${0%/*}/../.." || exit 1
CORE=0-$(($(nproc) - 1))
n=5
. t/bench/vm.sh
who=ours,peer
arguments n:w:o: "$@"
[ -s $guest/vmlinuz ] || die "no guest: make guest"
present
mkdir -p build/bench "$tmp/root"
cat >"$tmp/root/work" <<'X'
# four JOB: it four times at once, the seconds of it
four() {
	read -r a b </proc/uptime
	for i in 1 2 3 4; do "$1" >/dev/null & done
	wait
	read -r z b </proc/uptime
	echo "work $1 $a $z"
}
digest() { for i in $(seq 16); do sha256sum /data; done; }
compress() { for i in 1 2 3 4; do gzip -9 </data; done; }
processes() { for i in $(seq 500); do /bin/busybox true; done; }
pipes() { dd if=/dev/zero bs=512 count=120000 2>/dev/null | dd of=/dev/null bs=512 2>/dev/null; }
pages() { for i in $(seq 40); do dd if=/dev/zero of=/dev/null bs=8M count=1 2>/dev/null; done; }
for j in digest compress processes pipes pages; do four $j; done
X
head -c 6000000 build/bench/kernels >"$tmp/root/data"
(cd "$tmp/root" && printf 'work\ndata\n' | cpio -o -H newc -R 0:0 --quiet) |
	cat $guest/initrd.img - >"$tmp/initrd"

about "one vcpu and four"
i=0
while [ $i -lt "$n" ]; do
	i=$((i + 1))
	for w in $present; do
		for cpus in 1 4; do
			machine $w "$tmp/out" 'vm.run="sh /work"' -smp $cpus \
				-m 512 -initrd "$tmp/initrd" || exit 1
			awk -v w="$w" -v c=$cpus '$1 == "work" {
				print w, c, $2, $4 - $3 }' "$tmp/out" >>"$tmp/lines"
		done
	done
done
echo "$n repetitions"
echo
awk -v json=build/bench/smp.json "$median"'
	function ratio(a, b) {
		return a && b ? a / b : 0
	}
	{
		if (!seen[$3]++)
			name[++names] = $3
		val[$1 $2, $3, ++count[$1 $2, $3]] = $4
	}
	END {
		f = "%-10s %8s %8s %6s %10s %8s %6s %10s\n"
		printf f, "s", "ours 1", "ours 4", "gain", "peer 1",
		    "peer 4", "gain", "peer/ours 4"
		for (i = 1; i <= names; i++) {
			for (w = 1; w <= 2; w++) {
				who = w == 1 ? "ours" : "peer"
				one[w] = median(who 1, name[i])
				four[w] = median(who 4, name[i])
				g[w] = ratio(one[w], four[w])
				if (g[w])
					logs[w] += log(g[w])
			}
			printf "%-10s %8.2f %8.2f %6.2f %10.2f %8.2f %6.2f %10.2f\n",
			    name[i], one[1], four[1], g[1], one[2], four[2],
			    g[2], ratio(four[2], four[1])
			printf "{\"work\":\"%s\",\"unit\":\"s\",\"ours1\":%.3f,\"ours4\":%.3f,\"peer1\":%.3f,\"peer4\":%.3f}\n",
			    name[i], one[1], four[1], one[2], four[2] >json
		}
		printf "\ngeometric mean of the gains: ours %.2f, peer %.2f\n",
		    exp(logs[1] / names), exp(logs[2] / names)
	}' "$tmp/lines"
