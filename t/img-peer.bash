# Run a command line with the peer and with ours in twin directories and
# compare output, exit code and messages.  Sourced by t/img-*.bats.
peer_setup() {
	command -v qemu-img >/dev/null || skip "qemu-img is not installed"
	command -v qemu-io >/dev/null || skip "qemu-io is not installed"
	B="$PWD/build/bin"
	make -s build/bin/vm-img build/bin/vm-io build/bin/vm-nbd
	P="$BATS_TEST_TMPDIR/peer" O="$BATS_TEST_TMPDIR/ours"
	mkdir -p "$P" "$O"
	LANG=C; export LANG
}

# Names, times, and blocks used on the host: these may differ.
peer_norm() {
	sed -E -e '/^qemu: module .* not found/d' \
	    -e 's/(vm|qemu)-(img|io|nbd)/X-\2/g' \
	    -e 's/^(disk size:|    "actual-size":) .*/\1/' \
	    -e 's/(^|; )[0-9:.]+( sec)? \(.*/\1T/' \
	    -e 's/(completed in) [0-9.]+/\1/' \
	    -e 's/( *\([0-9.]+\/100%\)\r?)+/P/g' -e 's/^[0-9]+,[0-9]+,0:.*/CSV/' "$@"
}

# same TOOL WORD...: TOOL is img or io
same() {
	local t=$1 a=0 b=0
	shift
	(cd "$P" && timeout ${limit:-60} "qemu-$t" "$@") >"$P/.o" 2>"$P/.e" </dev/null || a=$?
	(cd "$O" && timeout ${limit:-60} "$B/vm-$t" "$@") >"$O/.o" 2>"$O/.e" </dev/null || b=$?
	if [ $a -ne $b ] || [ $a -eq 124 ] ||
	    ! diff <(peer_norm "$P/.o") <(peer_norm "$O/.o") ||
	    ! diff <(peer_norm "$P/.e") <(peer_norm "$O/.e"); then
		echo "differs: $t $* (exit $a, ours $b)"
		return 1
	fi
}

# Lines of command lines on standard input; # comments.
same_lines() {
	local t=$1 line bad=0
	while read -r line; do
		case $line in ''|'#'*) continue ;; esac
		eval "same $t $line" || bad=1
	done
	return $bad
}

# Change both copies with the peer.
both() {
	(cd "$P" && "$@" >/dev/null)
	(cd "$O" && "$@" >/dev/null)
}
