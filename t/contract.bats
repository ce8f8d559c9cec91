#!/usr/bin/env bats
# The contract every chip keeps, found by wildcard: PROTOCOL.md "Life cycle",
# dev/dev.h.  What a chip needs to start is in options().

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	top=$PWD
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	export VM_SANDBOX=kill
	mkdir -p "$XDG_RUNTIME_DIR"
	lx=$top/build/libexec/vm
	poke=$top/build/bin/vm-poke
	chips=$(cd "$lx" && ls -d dev-* | sed s/dev-//)
	[ "$chips" ]
}

options() {
	case $1 in
	virtio-blk)
		[ -f "$BATS_TEST_TMPDIR/disk" ] ||
			truncate -s 1M "$BATS_TEST_TMPDIR/disk"
		echo "file=$BATS_TEST_TMPDIR/disk locking=off" ;;
	esac
}

# each COMMAND: for every chip; all are tried, the failed ones are named
each() {
	local c bad=
	for c in $chips; do
		"$@" "$c" >"$BATS_TEST_TMPDIR/out" 2>&1 || {
			echo "--- $c"
			cat "$BATS_TEST_TMPDIR/out"
			bad="$bad $c"
		}
	done
	echo "failed:$bad"
	[ ! "$bad" ]
}

help() {
	"$lx/dev-$1" --help | grep -q "^usage: dev-$1 VM/NAME"
}

@test "every chip says what it is" {
	each help
}

bad_option() {
	local status=0
	"$lx/dev-$1" vm/part nonsense=1 2>"$BATS_TEST_TMPDIR/err" || status=$?
	cat "$BATS_TEST_TMPDIR/err"
	[ "$status" -eq 2 ] && [ "$(wc -l <"$BATS_TEST_TMPDIR/err")" -eq 1 ] &&
		grep -q "dev-$1: vm/part: .*nonsense" "$BATS_TEST_TMPDIR/err"
}

@test "an unknown option is one line and status 2" {
	each bad_option
}

orphan() {
	local status=0
	"$lx/dev-$1" vm/part $(options "$1") 3</dev/null \
		2>"$BATS_TEST_TMPDIR/err" || status=$?
	cat "$BATS_TEST_TMPDIR/err"
	[ "$status" -eq 1 ] && [ "$(wc -l <"$BATS_TEST_TMPDIR/err")" -eq 1 ]
}

@test "without a broker: one line and status 1" {
	each orphan
}

selftest() {
	"$lx/dev-$1" --selftest 10000:1 $(options "$1")
}

@test "alone: test vectors, save and load, random accesses" {
	each selftest
}

life() {
	local d=$BATS_TEST_TMPDIR
	rm -f "$d"/save?
	printf '%s\n' ranges "random 10000 7" "save $d/save1" "load $d/save1" \
		"save $d/save2" stop stop run run "ask info" quit |
		"$poke" "$1" $(options "$1") || return 1
	printf '%s\n' "load $d/save1" "save $d/save3" reset "save $d/save4" \
		quit | "$poke" "$1" $(options "$1") || return 1
	[ -s "$d/save1" ] && cmp "$d/save1" "$d/save2" &&
		cmp "$d/save1" "$d/save3" && [ -s "$d/save4" ]
}

@test "on the bus: random accesses, save, load into a fresh one, stop twice" {
	each life
}

damaged() {
	local d=$BATS_TEST_TMPDIR
	printf '%s\n' "save $d/good" quit | "$poke" "$1" $(options "$1") ||
		return 1
	head -c 20 "$d/good" >"$d/short"
	printf '%s\n' "load $d/short" quit |
		"$poke" "$1" $(options "$1") && return 1
	return 0
}

@test "a truncated state is refused" {
	each damaged
}

# The process of chip $1 below vm-poke $2.
child() {
	ps -o pid=,args= --ppid "$2" | awk -v c="dev-$1" '$2 ~ "(^|/)" c "$" { print $1 }'
}

gone() {
	local n=0
	while kill -0 "$1" 2>/dev/null &&
	    [ "$(ps -o stat= -p "$1" | cut -c1)" != Z ]; do
		[ $((n += 1)) -le 400 ] || return 1
		sleep 0.05
	done
}

start() {
	mkfifo "$BATS_TEST_TMPDIR/script.$1"
	"$poke" "$1" $(options "$1") <"$BATS_TEST_TMPDIR/script.$1" \
		>"$BATS_TEST_TMPDIR/started.$1" 2>&1 3>&- 4>&- &
	pid=$!
	exec 7>"$BATS_TEST_TMPDIR/script.$1"
	echo "echo up" >&7
	local n=0
	until grep -q up "$BATS_TEST_TMPDIR/started.$1"; do
		[ $((n += 1)) -le 400 ] && kill -0 "$pid" || return 1
		sleep 0.05
	done
	dev=$(child "$1" "$pid")
	[ "$dev" ]
}

eof() {
	start "$1" || return 1
	kill -9 "$pid"
	exec 7>&-
	rm -f "$BATS_TEST_TMPDIR/script.$1"
	gone "$dev"
}

@test "EOF on the control socket ends a chip" {
	each eof
}

term() {
	start "$1" || return 1
	kill -TERM "$dev"
	gone "$dev" || return 1
	exec 7>&-
	rm -f "$BATS_TEST_TMPDIR/script.$1"
	wait "$pid"
	true
}

@test "SIGTERM ends a chip" {
	each term
}

sanitized() {
	local asan=$top/build/asan/libexec/vm
	export UBSAN_OPTIONS=halt_on_error=1
	"$asan/dev-$1" --selftest 10000:3 $(options "$1") || return 1
	# on the bus the sandbox hides /proc from the leak checker
	printf '%s\n' "random 10000 5" stop "save $BATS_TEST_TMPDIR/s" run quit |
		ASAN_OPTIONS=detect_leaks=0 VM_LIBEXEC=$asan \
		"$poke" "$1" $(options "$1")
}

@test "random accesses under ASan and UBSan" {
	local c bins=
	for c in $chips; do
		bins="$bins build/asan/libexec/vm/dev-$c"
	done
	make -s B=build/asan SAN="-fsanitize=address,undefined \
		-fno-sanitize-recover=undefined" CFLAGS="-O1 -g" $bins
	each sanitized
}
