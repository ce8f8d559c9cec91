# What the tests that run machines share.  Every machine has its run directory
# in the test's own, and what a test leaves running its teardown ends.

vm_setup() {
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	export XDG_STATE_HOME=$BATS_TEST_TMPDIR/state
	mkdir -p "$XDG_RUNTIME_DIR"
	cd "$BATS_TEST_DIRNAME/.."
	top=$PWD
	guest=$top/build/guest
	PATH=$top/build/bin:$PATH
	started=
	[ -x "$top/build/libexec/vm/membus" ] || skip "membus is not built"
	[ -x "$top/build/libexec/vm/vcpu-x86_64" ] || skip "vcpu-x86_64 is not built"
	[ -s "$guest/vmlinuz" ] || [ "$CI" ] || skip "no guest: make guest"
}

vm_teardown() {
	local p
	for p in $started; do
		kill -9 "$p" 2>/dev/null || true
	done
	wait
}

# vm_start NAME OPTIONS: a machine in the background, $pid; its terminal output
# is in $BATS_TEST_TMPDIR/NAME.out.  Returns when its monitor answers.
vm_start() {
	local name=$1 n=0
	shift
	vm-run -name "$name" "$@" </dev/null \
		>"$BATS_TEST_TMPDIR/$name.out" 2>&1 3>&- 4>&- &
	pid=$!
	started="$started $pid"
	dir=$XDG_RUNTIME_DIR/vm/$name
	until vm-mon "$name" info status >/dev/null 2>&1; do
		if ! kill -0 "$pid" 2>/dev/null || [ $((n += 1)) -gt 600 ]; then
			cat "$BATS_TEST_TMPDIR/$name.out"
			return 1
		fi
		sleep 0.05
	done
}

# vm_paused NAME OPTIONS: one that never executes an instruction
vm_paused() {
	local name=$1
	shift
	vm_start "$name" -S -m 128 -display none -serial null -kernel "$guest/vmlinuz" "$@"
}

# until_true COMMAND: wait for the event, at most a minute
until_true() {
	local n=0
	until "$@" 2>/dev/null; do
		[ $((n += 1)) -le 1200 ] || { echo "never true: $*"; return 1; }
		sleep 0.05
	done
}

gone() {
	! kill -0 "$1" 2>/dev/null
}

# of_vm NAME: pids of the machine's processes, broker not among them
of_vm() {
	ps -eo pid=,args= | awk -v vm="$1/" '$0 ~ "[ :]" vm { print $1 }'
}

# nothing_left NAME: no process, no directory
nothing_left() {
	until_true no_process "$1"
	[ ! -e "$XDG_RUNTIME_DIR/vm/$1" ] || {
		ls -lR "$XDG_RUNTIME_DIR/vm/$1"
		return 1
	}
}

no_process() {
	[ -z "$(of_vm "$1")" ]
}

# boot OPTIONS -- KERNEL COMMAND LINE: run a guest to its end, or for $limit (300)
# seconds; $output is its console, $status vm-run's
boot() {
	local opts=()
	while [ "$1" != -- ]; do
		opts+=("$1")
		shift
	done
	shift
	run timeout -k 5 "${limit:-300}" vm-run -nographic "${opts[@]}" \
		-append "console=ttyS0 $*" </dev/null
	output=${output//$'\r'/}
}

# quiet_kernel: no line of the kernel's in the console output looks like trouble
quiet_kernel() {
	local bad
	bad=$(printf '%s\n' "$output" | grep -E '^\[ *[0-9]+\.[0-9]+\]' |
		grep -E \
'\bBUG\b|Oops|Call Trace|WARNING:|[Ll]ockup|unstable|rcu.*stall|Unable to handle|general protection|segfault|I/O error|ACPI.*[Ee]rror|ACPI BIOS|not responding|timed out|timeout waiting|[Ss]purious|nobody cared|clocksource.*skew|alibration failed|Firmware Bug|irq.*unhandled|IO-APIC.*(fail|err)|MP-BIOS' || true)
	[ -z "$bad" ] || {
		printf 'the kernel says:\n%s\n' "$bad"
		return 1
	}
}

seen() {
	printf '%s\n' "$output" | grep -qE -- "$1" || {
		printf 'not seen: %s in\n%s\n' "$1" "$output"
		return 1
	}
}
