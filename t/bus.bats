# The broker and a part's side of the bus (bus/PROTOCOL.md), with a vcpu and
# devices that have no hardware in them (t/unit/busfake.c).

setup_file() {
	cd "$BATS_TEST_DIRNAME/.."
	make -s build/t/busfake build/t/busunit build/libexec/vm/membus \
		build/bin/vm-poke build/bin/vm-tap build/bin/vm-mem
}

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	top=$PWD
	PATH=$top/build/bin:$PATH
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	export VM_LIBEXEC=$BATS_TEST_TMPDIR/libexec
	mkdir -p "$XDG_RUNTIME_DIR" "$VM_LIBEXEC"
	for n in vcpu-x86_64 dev-fake dev-pm vm-mon; do
		ln -s "$top/build/t/busfake" "$VM_LIBEXEC/$n"
	done
	started=
}

teardown() {
	for p in $started; do
		kill -9 "$p" 2>/dev/null || true
	done
	wait
}

# machine VCPU-SCRIPT [STATEMENT...] : writes $file
machine() {
	file=$BATS_TEST_TMPDIR/machine
	{
		echo "name demo"
		echo "ram size=16M"
		echo "cpu smp=1 do='$1'"
		shift
		printf '%s\n' "$@"
	} >"$file"
}

membus() {
	run timeout -k 5 60 "$top/build/libexec/vm/membus" "$file" </dev/null
}

# In the background; returns when it answers.
background() {
	"$top/build/libexec/vm/membus" "$file" </dev/null \
		>"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
	pid=$!
	started="$started $pid"
	until_true answers
}

answers() {
	[ "$(echo 'ask bus status' | vm-poke -m demo 2>/dev/null)" = "${want:-running}" ]
}

until_true() {
	local n=0
	until "$@" 2>/dev/null; do
		[ $((n += 1)) -le 1200 ] || { echo "never true: $*"; return 1; }
		sleep 0.02
	done
}

gone() {
	! kill -0 "$1" 2>/dev/null
}

killed() {
	kill -TERM "$pid"
	gone "$pid"
}

ended() {
	until_true gone "$pid"
	status=0
	wait "$pid" || status=$?
	output=$(cat "$BATS_TEST_TMPDIR/out")
}

part_pid() {
	cat "$XDG_RUNTIME_DIR/vm/demo/part/$1/pid"
}

no_process() {
	! ps -eo stat=,args= | grep -v '^Z' | grep -q "[ ]demo/"
}

nothing_left() {
	until_true no_process
	[ -z "$(ls -A "$XDG_RUNTIME_DIR")" ]
}

d0="part d0 dev=fake"
pm="part pm0 dev=pm port=0x300"

@test "units: map, rings, lines, packets, options, RAM, interrupts, loop" {
	run build/t/busunit
	[ "$status" -eq 0 ] || { echo "$output"; false; }
}

@test "Life cycle: hello, ready, boot, run; the clock runs; poweroff is 0" {
	machine "boot,clock,event:poweroff" "$d0"
	membus
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = "boot: mode 0 rip 0" ]
	[ "${lines[1]}" = "clock: runs" ]
	[ "${#lines[@]}" -eq 2 ]
	nothing_left
}

@test "Channels: a read sees every write before it, posted ones too" {
	machine "posts:5000,rw:0x1234,posts:300,reads:20000,event:poweroff" "$d0"
	membus
	[ "$status" -eq 0 ]
	[[ $output == *"posts: saw 5000"* ]]
	[[ $output == *"posts: saw 5300"* ]]
	[[ $output == *"rw: 1234"* ]]
}

@test "Requests: a range that is taken is refused" {
	machine "claim:0x100,claim:0x200,event:poweroff" "$d0"
	membus
	[ "${lines[0]}" = "claim: 17" ]
	[ "${lines[1]}" = "claim: 0" ]
}

@test "Requests: two parts at one port is one line and status 1" {
	machine "" "$d0" "part d1 dev=fake port=0x110"
	membus
	[ "$status" -eq 1 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *"port 0x1"*"exists"* ]]
	nothing_left
}

@test "Exit status: panic 3, triple fault with reboot=exit 3, exit N, quit 0" {
	while read -r run event want; do
		machine "event:$event" "$d0" "run $run"
		membus
		[ "$status" -eq "$want" ] || { echo "$event: $status"; false; }
		nothing_left
	done <<-E
		reboot=exit panic 3
		reboot=exit triple 3
		reboot=exit reset 0
		reboot=exit quit 0
		reboot=reset poweroff 0
	E
	machine "event:exit 63" "$d0"
	membus
	[ "$status" -eq 63 ]
}

@test "Life cycle: reset resets the vcpu and the devices, and runs again" {
	machine "rw:5,event:reset" "$d0" "run reboot=reset"
	background
	until_true grep -q "vcpu: reset" "$BATS_TEST_TMPDIR/out"
	until_true answers
	[ "$(echo 'r4 110' | vm-poke -m demo)" = 00000000 ]
	echo 'ask bus quit' | vm-poke -m demo
	ended
	[ "$status" -eq 0 ]
}

@test "shutdown=pause, panic=pause, start=off and cont" {
	machine "event:poweroff" "$d0" "run shutdown=pause"
	want="paused (shutdown)" background
	echo 'ask bus quit' | vm-poke -m demo
	ended
	[ "$status" -eq 0 ]
	machine "event:panic" "$d0" "run panic=pause"
	want="paused (panicked)" background
	echo 'ask bus quit' | vm-poke -m demo
	ended
	machine "event:poweroff" "$d0" "run start=off"
	want="paused (prelaunch)" background
	echo 'ask bus cont' | vm-poke -m demo
	ended
	[ "$status" -eq 0 ]
	nothing_left
}

@test "one process a part with machine and role in its title; pid files" {
	machine "" "$d0" "$pm"
	background
	[ "$(ps -o args= -p "$pid")" = "membus demo" ]
	[[ $(ps -o args= -p "$(part_pid d0)") == "dev-fake demo/d0"* ]]
	[[ $(ps -o args= -p "$(part_pid pm0)") == "dev-pm demo/pm0 port=0x300"* ]]
	[[ $(ps -o args= -p "$(part_pid cpu)") == "vcpu-x86_64 demo/cpu smp=1"* ]]
	[ "$(ps -o pid= --ppid "$pid" | wc -l)" -eq 3 ]
	cmp "$file" "$XDG_RUNTIME_DIR/vm/demo/machine"
}

@test "kill -9 of any part: one line that names it, status 1, nothing left" {
	for p in d0 pm0 cpu; do
		machine "" "$d0" "$pm"
		background
		kill -9 "$(part_pid $p)"
		ended
		[ "$status" -eq 1 ]
		[[ $output =~ ^membus:\ demo/$p\ \(pid\ [0-9]+\)\ killed\ by\ signal\ 9$ ]] ||
			{ echo "$output"; false; }
		nothing_left
	done
}

@test "Death: a vcpu that waits for a dead part reads all ones" {
	machine "dead" "$d0"
	background
	kill -9 "$(part_pid d0)"
	ended
	[ "$status" -eq 1 ]
}

@test "kill -9 of the broker ends all parts; the directory is taken over" {
	machine "" "$d0"
	background
	kill -9 "$pid"
	until_true no_process
	[ -S "$XDG_RUNTIME_DIR/vm/demo/bus" ]
	machine "event:poweroff" "$d0"
	membus
	[ "$status" -eq 0 ]
	nothing_left
}

@test "a name that runs is refused; it lives on" {
	machine "" "$d0"
	background
	membus
	[ "$status" -eq 1 ]
	[ "$output" = "membus: VM 'demo' is already running" ]
	answers
}

@test "SIGTERM is the power button, SIGHUP quits, a second SIGTERM kills" {
	machine "" "$d0" "$pm"
	background
	kill -TERM "$pid"
	ended
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	background
	kill -HUP "$pid"
	ended
	[ "$status" -eq 0 ]
	# no power button: it quits
	machine "" "$d0"
	background
	kill -TERM "$pid"
	ended
	[ "$status" -eq 0 ]
	nothing_left
}

@test "a button that nobody heeds, then a second SIGTERM" {
	# a pm0 that is stopped does not answer
	machine "" "$d0" "$pm"
	background
	kill -STOP "$(part_pid pm0)"
	# two at once may arrive as one
	until_true killed
	ended
	[ "$status" -eq 1 ]
	[ "$output" = "membus: demo: killed" ]
	nothing_left
}

@test "SIGTERM to the whole process group is still the power button" {
	machine "" "$d0" "$pm" "part s0 dev=fake port=0x400 chardev=stdio"
	file2=$file
	setsid "$top/build/libexec/vm/membus" "$file2" </dev/null \
		>"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
	pid=$!
	started="$started $pid"
	until_true answers
	kill -TERM -- "-$pid"
	ended
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	[ -z "$output" ]
}

@test "a part that fails to start: its own line, status 1 or 2, nothing left" {
	machine "" "$d0" "part bad dev=fake port=0x300 fail=2"
	membus
	[ "$status" -eq 2 ]
	[ "$output" = "dev-fake: demo/bad: failing as told" ]
	machine "" "$d0" "part bad dev=fake port=0x300 fail=7"
	membus
	[ "$status" -eq 1 ]
	machine "" "$d0" "part bad dev=fake port=0x300 fail=0"
	membus
	[ "$status" -eq 1 ]
	[[ $output == *"demo/bad"*"status 0"* ]]
	nothing_left
}

@test "Machine file: what is wrong is named with its line" {
	machine "" "part d0 dev=nonesuch"
	membus
	[ "$status" -eq 2 ]
	[ "$output" = "membus: unknown device 'nonesuch'" ]
	rm "$VM_LIBEXEC/vcpu-x86_64"
	machine "" "$d0"
	membus
	[ "$status" -eq 1 ]
	[[ $output == *"vcpu-x86_64: No such file"* ]]
	while IFS='|' read -r statement pattern; do
		machine "" "$statement"
		membus
		[ "$status" -eq 2 ] || { echo "$statement: $status"; false; }
		[[ $output == "membus: machine file line 4: "*$pattern* ]] ||
			{ echo "$output"; false; }
	done <<-E
		part x|dev=CHIP
		part cpu dev=fake|bad name
		part ../x dev=fake|bad name
		part x dev=../fake|dev=CHIP
		part x dev=fake port|not key=value
		frobnicate|unknown statement
		run reboot=maybe|unknown value
		run colour=red|unknown key
		ram size=lots|not a size
		cpu smp=0|not 1 to
		cpu cores=0|not 1 to
		cpu smp=4 cores=3|no sockets of 3 cores of 1 threads
		cpu smp=255 cores=5 threads=3|need APIC IDs over 254
		name a/b|bad name
		part x dev=fake y="open|quote
	E
	file=$BATS_TEST_TMPDIR/none
	membus
	[ "$status" -eq 2 ]
	[[ $output == *"none: No such file"* ]]
	nothing_left
}

@test "no room for RAM is one line" {
	machine "" "$d0" "ram size=4096G"
	membus
	[ "$status" -eq 1 ]
	[[ $output == "membus: no room for 4194304 MiB of RAM"* ]]
	nothing_left
}

@test "daemonize returns when the machine runs; pidfile comes and goes" {
	machine "" "$d0" "run daemonize=on pidfile=$BATS_TEST_TMPDIR/pid"
	membus
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	pid=$(cat "$BATS_TEST_TMPDIR/pid")
	started="$started $pid"
	answers
	echo 'ask bus quit' | vm-poke -m demo
	until_true gone "$pid"
	[ ! -e "$BATS_TEST_TMPDIR/pid" ]
	nothing_left
	machine "" "part d0 dev=fake fail=2" "run daemonize=on"
	membus
	[ "$status" -eq 2 ]
	[ "$output" = "dev-fake: demo/d0: failing as told" ]
	nothing_left
}

@test "Questions: routed, long answers too; errors are errors" {
	machine "" "$d0" "$pm"
	background
	[ "$(echo 'ask d0 big 10' | vm-poke -m demo)" = xxxxxxxxxx ]
	[ "$(echo 'ask d0 big 65000' | vm-poke -m demo | wc -c)" -eq 65001 ]
	[ "$(echo 'ask d0 big 3000000' | vm-poke -m demo | wc -c)" -eq 3000001 ]
	run vm-poke -m demo <<<"ask d0 nonsense"
	[ "$status" -eq 2 ]
	[[ $output == *"Invalid argument"* ]]
	run vm-poke -m demo <<<"ask nobody reg"
	[ "$status" -eq 2 ]
	[ "$(echo 'ask bus name' | vm-poke -m demo)" = demo ]
	[[ $(echo 'ask bus mtree' | vm-poke -m demo) == *"0100-011f (prio 0, sync): d0"* ]]
	[[ $(echo 'ask bus parts' | vm-poke -m demo) == *"num=1 name=d0 chip=fake pid=$(part_pid d0) state=ready"* ]]
	[[ $(echo 'ask bus stat' | vm-poke -m demo) == *"name=d0 "*"sync="* ]]
	[ "$(echo 'ask bus status' | vm-poke -m demo)" = running ]
	[ "$(printf 'stop\nask bus status\nrun\nask bus status\n' | vm-poke -m demo)" = $'paused\nrunning' ]
	echo 'ask bus system_powerdown' | vm-poke -m demo
	ended
	[ "$status" -eq 0 ]
}

@test "a tool that speaks nonsense, or goes, harms nobody" {
	machine "" "$d0"
	background
	python3 - "$XDG_RUNTIME_DIR/vm/demo/bus" <<-'E'
		import socket, sys, os
		def con():
		    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		    s.connect(sys.argv[1])
		    return s
		for line in [b'', b'@', b'@x', b'@1', b'@1 ', b'@1 ask', b'@1 ask ', b'@1 ask bus',
		    b'@1 hello', b'@1 range 0', b'@1 ready', b'@1 chan', b'@1 trace', b"@1 'open",
		    b'@99999999999999999999 ram', b'ok', b'@1 ok', b'@1 err', b'\0\0\0', os.urandom(500),
		    b'@1 ask bus pmem 0 99999999', b'@1 ask bus save d0', b'x ' * 20000]:
		    s = con()
		    s.send(line)
		    s.close()
		s = con()
		s.send(b'@1 hello tool=t')
		assert s.recv(100).startswith(b'@1 ok name=demo nvcpu=1')
		for i in range(300):
		    s.send(b'@%d ask d0 big 1000' % (i + 2))
		s.close()           # with answers on their way
		s = con()
		s.send(b'@5 bogus')
		assert s.recv(100).startswith(b'@5 err 38 '), 'ENOSYS'
	E
	answers
	echo 'ask bus quit' | vm-poke -m demo
	ended
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "Channels: a part survives any contents of its channel" {
	machine "garbage:3000,event:poweroff" "$d0"
	membus
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	[ "$output" = "garbage: 600d" ]
}

@test "Control lines: the broker survives a part that speaks nonsense" {
	machine "" "$d0" "part x dev=fake port=0x900 noise=20000"
	background
	# it may have laid claim to anything, but the others still answer
	[ "$(echo 'ask d0 reg' | vm-poke -m demo)" = 0 ]
	echo 'ask bus quit' | vm-poke -m demo
	ended
	[ "$status" -eq 0 ]
	[ -z "$output" ] || { echo "$output"; false; }
}

@test "vm-poke: a device alone, driven by a script" {
	cat >"$BATS_TEST_TMPDIR/script" <<-E
		# registers of t/unit/busfake.c
		w4 100 11223344
		r4 100 11223344
		r2 100 3344/ffff
		w4 118 1
		irq 5 1
		w4 118 0
		w4 118 1
		irq 5
		save $BATS_TEST_TMPDIR/st
		w4 100 5
		load $BATS_TEST_TMPDIR/st
		ask reg
		reset
		r4 100 0
		wm 0
	E
	sed -i '$d' "$BATS_TEST_TMPDIR/script"
	printf '%s\n' "w4 m1000 1 2 3" "r8 mem:1004" "r1 200" "cfg 02.0 00" \
		"outs2 100 aabbccdd" "ins1 100 2" "random 20000 7" \
		>>"$BATS_TEST_TMPDIR/script"
	run vm-poke fake <"$BATS_TEST_TMPDIR/script"
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	[ "$(tr '\n' ' ' <<<"$output")" = \
		"11223344 3344 1 1 1 1 11223344 00000000 0000000300000002 ff ffffffff cccc random 20000 done " ] ||
		{ echo "$output"; false; }
}

@test "vm-poke: mistakes, wrong values and deaths have a status" {
	run vm-poke fake <<<"r4 100 7"
	[ "$status" -eq 1 ]
	[ "${lines[1]}" = "vm-poke: line 1: 100 is 0, not 7" ]
	run vm-poke fake <<<"nonsense"
	[ "$status" -eq 2 ]
	run vm-poke nonesuch <<<"r4 100"
	[ "$status" -eq 2 ]
	[ "$output" = "vm-poke: unknown device 'nonesuch'" ]
	run vm-poke fake fail=2 <<<"r4 100"
	[ "$status" -eq 2 ]
	run vm-poke -m nobody <<<"r4 100"
	[ "$status" -eq 1 ]
	[ "$output" = "vm-poke: VM 'nobody' is not running" ]
	mkfifo "$BATS_TEST_TMPDIR/in"
	vm-poke fake <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
	pid=$!
	exec 9>"$BATS_TEST_TMPDIR/in"
	echo "r4 100" >&9
	until_true grep -q 0000 "$BATS_TEST_TMPDIR/out"
	kill -9 "$(ps -o pid= --ppid "$pid" | tr -d ' ')"
	ended
	exec 9>&-
	[ "$status" -eq 1 ]
	[[ $output == *"killed by signal 9"* ]]
}

@test "vm-poke -m: one at a time; stop, state, run of a running machine" {
	machine "" "$d0"
	background
	vm-poke -m demo <<-E >"$BATS_TEST_TMPDIR/got"
		w4 100 77
		save d0 $BATS_TEST_TMPDIR/st
		w4 100 78
		load d0 $BATS_TEST_TMPDIR/st
		r4 100
	E
	[ "$(cat "$BATS_TEST_TMPDIR/got")" = 00000077 ]
	mkfifo "$BATS_TEST_TMPDIR/in"
	vm-poke -m demo <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/one" 3>&- &
	one=$!
	exec 9>"$BATS_TEST_TMPDIR/in"
	echo "r4 100" >&9
	until_true grep -q 77 "$BATS_TEST_TMPDIR/one"
	run vm-poke -m demo <<<"r4 100"
	[ "$status" -eq 1 ]
	[[ $output == *"another vm-poke"* ]]
	exec 9>&-
	wait "$one"
	[ "$(echo 'r4 100' | vm-poke -m demo)" = 00000077 ]
}

@test "vm-tap: accesses and interrupts as text, filters, detach" {
	machine "" "$d0" "$pm"
	background
	vm-tap -n 4 demo >"$BATS_TEST_TMPDIR/tap" 2>"$BATS_TEST_TMPDIR/taperr" 3>&- &
	tap=$!
	until_true grep -q tapping "$BATS_TEST_TMPDIR/taperr"
	printf '%s\n' "w4 104 55" "r2 100" "w4 118 1" "w1 300 9" | vm-poke -m demo
	wait "$tap"
	sed 's/^[0-9.]* //' "$BATS_TEST_TMPDIR/tap" >"$BATS_TEST_TMPDIR/text"
	diff "$BATS_TEST_TMPDIR/text" - <<-E
		d0 w4 104 00000055
		d0 r2 100 0055
		d0 irq 5 1
		d0 w4 118 00000001
	E
	vm-tap -n 1 -p pm0 -r 300-30f demo >"$BATS_TEST_TMPDIR/tap" 2>"$BATS_TEST_TMPDIR/taperr" 3>&- &
	tap=$!
	until_true grep -q "tapping 1 parts" "$BATS_TEST_TMPDIR/taperr"
	printf '%s\n' "r4 104" "r4 318" "r4 308" | vm-poke -m demo
	wait "$tap"
	[[ $(cat "$BATS_TEST_TMPDIR/tap") == *"pm0 r4 308 "* ]]
	run vm-tap -p nobody demo
	[ "$status" -eq 1 ]
	run vm-tap -r zz demo
	[ "$status" -eq 2 ]
	# killed while attached: the flag goes with it
	vm-tap demo >/dev/null 2>"$BATS_TEST_TMPDIR/taperr" 3>&- &
	tap=$!
	until_true grep -q tapping "$BATS_TEST_TMPDIR/taperr"
	kill -9 "$tap"
	wait "$tap" || true
	answers
}

@test "an idle machine sleeps: no part wakes up by itself" {
	machine "" "$d0" "$pm"
	background
	count() {
		for p in cpu d0 pm0; do
			grep ^voluntary "/proc/$(part_pid $p)/status"
		done
	}
	a=$(count)
	sleep 1
	[ "$a" = "$(count)" ]
}
