# The monitor: one-shot, lines, the socket for nc and telnet, a terminal.
# bus/PROTOCOL.md "Questions to the bus", "Questions to the vcpu".

load helpers

setup() {
	vm_setup
	cd "$BATS_TEST_TMPDIR"
}

teardown() {
	vm_teardown
}

ask() {
	run vm-mon m "$@"
}

# told TEXT: the last one-shot succeeded and said TEXT somewhere
told() {
	[ "$status" -eq 0 ] || { echo "status $status: $output"; return 1; }
	[[ $output == *"$1"* ]] || { echo "no '$1' in: $output"; return 1; }
}

# refused TEXT: it failed with exactly this
refused() {
	[ "$status" -eq 1 ] || { echo "status $status: $output"; return 1; }
	[ "$output" = "$1" ] || { echo "not '$1' but: $output"; return 1; }
}

@test "no machine, no command: status and message" {
	run vm-mon nobody info status
	[ "$status" -eq 1 ]
	[ "$output" = "vm-mon: VM 'nobody' is not running" ]
	run vm-mon
	[ "$status" -eq 2 ]
	run vm-mon -h
	[ "$status" -eq 0 ]
	[[ $output == *system_powerdown* ]]
}

@test "every topic of info answers" {
	vm_paused m -uuid 01234567-89ab-cdef-0123-456789abcdef \
		-device virtio-rng-pci -append hello
	for t in status version name uuid parts machine cpus registers lapic pic \
	    irq pci mtree mem tlb qtree chardev block network usernet jit roms; do
		ask info $t
		[ "$status" -eq 0 ] || { echo "info $t: $output"; false; }
	done
	ask info status; told "VM status: paused"
	ask info name; [ "$output" = m ]
	ask info uuid; told 01234567-89ab-cdef-0123-456789abcdef
	ask info pci; told "8086:1237"; told "8086:7113"; told "1af4:1044"
	ask info mtree; told "uart0"
	ask info registers; told "RIP"
	ask info parts; told "name=rng0 chip=virtio-rng"
	ask info qtree; told "part: uart0, chip \"uart16550\""
	ask info roms; told "append: hello"
	ask info chardev; told "uart0: null"
	ask info network; told "nic0: type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56,link=up"
	told " \\ net0: type=user,net=10.0.2.0,restrict=off"
}

@test "help lists every command; unknown ones are named" {
	vm_paused m
	ask help
	for c in help info stop cont system_reset system_powerdown nmi quit cpu x \
	    xp print memsave pmemsave sendkey set_link hostfwd_add hostfwd_remove device_add netdev_del log stat ask; do
		printf '%s\n' "$output" | grep -qE "^$c(\\||[ /]| --)" || { echo "$c"; false; }
	done
	ask help xp; told "xp /fmt addr -- dump physical memory"
	ask help info; told "info mtree -- memory and I/O map"
	ask help jump; refused "unknown command: 'jump'"
	ask jump; refused "unknown command: 'jump'"
	ask info weather; refused "unknown command: 'info weather'"
	ask memsave 1 2; refused "memsave: an argument is missing: memsave addr size file"
	ask stop now; refused "stop: extraneous characters: 'now'"
}

@test "stop and cont" {
	vm_start m -m 128 -display none -serial null -kernel "$guest/vmlinuz"
	ask info status; told "VM status: running"
	ask stop; told ""
	ask stop; told ""
	ask info status; told "VM status: paused"
	ask c; told ""
	ask info status; told "VM status: running"
	ask q; told ""
	until_true gone "$pid"
	nothing_left m
}

@test "expressions" {
	vm_paused m
	# value expression
	while read -r want expr; do
		ask print "$expr"
		[ "$status" -eq 0 ] && [ "$output" = "$want" ] ||
			{ echo "$expr: $output, not $want"; false; }
	done <<-'E'
	0x7 1+2*3
	0x9 (1+2)*3
	0xffffffffffffffff -1
	0x41 'A'
	0x5 0xf & 5
	0xf 0xa | 5
	0xff 0xf0 ^ 0xf
	0x100 1 << 8
	0x1 256 >> 8
	0x0 1 << 64
	0x2 17 % 5
	0xfffffffffffffff0 ~15
	0x0 !3
	0x8 010
	0x6 10-3-1
	E
	ask p/d -1; told "-1"
	ask print /u 0x10; told "16"
	ask p/o 8; told "010"
	ask p/c 65; told "'A'"
	ask print 1/0; refused "expression: division by zero"
	ask 'print (1'; refused "expression: ')' is missing"
	ask print 1+; refused "expression: a number is missing"
	ask print 12abc; refused "expression: bad number at '12abc'"
	ask print '$nothing'; refused '$nothing: no such register'
	ask print '$rip'; told "0x"
	ask print 99999999999999999999; refused "expression: number too large at '99999999999999999999'"
	ask "print $(printf '(%.0s' {1..300})"
	[ "$status" -eq 1 ]
}

@test "physical memory: dump and save" {
	vm_paused m
	ask pmemsave 0 0x8000000 ram
	[ "$status" -eq 0 ]
	[ "$(stat -c %s ram)" -eq 134217728 ]
	# the same bytes another way
	off=$((0x10000))
	want=$(dd if=ram bs=1 skip=$off count=16 2>/dev/null | od -An -tx1 | sed 's/ \(..\)/ 0x\1/g')
	ask xp/16xb $off
	[ "$output" = "0000000000010000:$want" ]
	ask xp /2xg 0
	[[ ${lines[0]} =~ ^0000000000000000:\ 0x[0-9a-f]{16}\ 0x[0-9a-f]{16}$ ]]
	ask xp/5dw 0
	[ "${#lines[@]}" -eq 2 ]
	ask xp 0x80000000; refused "cannot access memory at 0x80000000"
	ask xp/99999x 0; refused "format: count over 65536: 99999"
	ask xp/4q 0; refused "bad format: '/4q'"
	ask pmemsave 0x7fff000 0x2000 past; refused "cannot access memory at 0x8000000"
	ask pmemsave 0 16 /nonexistent/x
	refused "/nonexistent/x: No such file or directory"
}

@test "virtual memory: dump, instructions, save" {
	vm_paused m
	ask 'x/2i $rip'
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 2 ]
	ask 'x /4xb $rip'
	[[ ${lines[0]} =~ :\ 0x[0-9a-f]{2} ]]
	ask memsave '$rip' 64 code
	[ "$(stat -c %s code)" -eq 64 ]
}

@test "stat: a row for every part" {
	vm_paused m
	ask stat
	told "sync/s"
	for p in cpu uart0 rtc mon; do
		printf '%s\n' "$output" | grep -q "^$p " || { echo "$output"; false; }
	done
}

@test "log, ask, sendkey, nmi" {
	vm_paused m
	ask log guest_errors; told ""
	ask log none; told ""
	ask ask bus status; told "paused"
	ask ask nobody info
	[ "$status" -eq 1 ]
	[[ $output == "nobody: info: "* ]]
	ask nmi; told ""
	ask cpu 0; told ""
	ask cpu 7; [ "$status" -eq 1 ]
	ask sendkey ctrl-alt-f1; told ""
	ask sendkey hyper; [ "$status" -eq 1 ]; [[ $output == *"unknown key: 'hyper'" ]]
	ask mouse_move 1 2; told ""
	ask balloon 64; refused "balloon: this machine has no balloon"
}

@test "lines on standard input" {
	vm_paused m
	run sh -c 'printf "info name\n# a remark\n\nnonsense\ninfo status\n" | vm-mon m'
	[ "$status" -eq 1 ]
	[ "${lines[0]}" = m ]
	[[ $output == *"unknown command: 'nonsense'"* ]]
	[[ $output == *"VM status: paused"* ]]
}

@test "the socket serves nc, several at once, and outlives rude ones" {
	vm_paused m
	command -v socat >/dev/null || skip "socat is not installed"
	[ "$(stat -c %a "$dir/mon")" = 700 ]
	run sh -c "echo info name | socat -t 5 - UNIX-CONNECT:$dir/mon"
	[[ $output == *"(vm) m"* ]]
	# no newline at the end is a line too
	run sh -c "printf 'info status' | socat -t 5 - UNIX-CONNECT:$dir/mon"
	[[ $output == *"VM status: paused"* ]]
	# two that stay, and one that works beside them
	sleep 1000 3>&- | socat - UNIX-CONNECT:"$dir/mon" >a 3>&- &
	sleep 1000 3>&- | socat - UNIX-CONNECT:"$dir/mon" >b 3>&- &
	until_true test -s a
	until_true test -s b
	run sh -c "echo 'help info' | socat -t 5 - UNIX-CONNECT:$dir/mon"
	[[ $output == *"info mtree"* ]]
	# long lines, binary, a client that leaves at once
	head -c 100000 /dev/zero | tr '\0' x | socat -t 2 - UNIX-CONNECT:"$dir/mon" >/dev/null || true
	head -c 100000 /dev/urandom | socat -t 2 - UNIX-CONNECT:"$dir/mon" >/dev/null || true
	socat -u /dev/null UNIX-CONNECT:"$dir/mon" || true
	yes help | head -n 20000 | socat -u - UNIX-CONNECT:"$dir/mon" || true
	ask info status; told "VM status: paused"
	if command -v ncat >/dev/null; then
		run sh -c "echo info name | ncat -i 2 -U $dir/mon"
		[[ $output == *"(vm) m"* ]]
	fi
	kill %% %- 2>/dev/null || true
}

@test "system_powerdown by nc as in the wikis; -monitor unix" {
	vm_paused m -monitor unix:"$PWD/mon.sock",server,nowait
	run sh -c "echo info name | socat -t 5 - UNIX-CONNECT:$PWD/mon.sock"
	[[ $output == *m* ]]
	run sh -c "echo quit | socat -t 5 - UNIX-CONNECT:$PWD/mon.sock"
	until_true gone "$pid"
	nothing_left m
}

@test "a terminal in raw mode gets echo and erase" {
	vm_paused m
	command -v socat >/dev/null || skip "socat is not installed"
	{ printf i; sleep 0.3; printf 'nfx\177o name\r'; sleep 0.5; } |
		socat -t 1 - UNIX-CONNECT:"$dir/mon" >raw
	grep -q $'^m\r$' raw
	# telnet's negotiation is taken out
	printf '\377\375\001info name\r\n' | socat -t 5 - UNIX-CONNECT:"$dir/mon" >tel
	grep -q '^(vm) m' tel
}

@test "a person: completion, history, the end of the machine" {
	vm_paused m
	command -v expect >/dev/null || skip "expect is not installed"
	cat >x <<-'E'
	set timeout 30
	proc want {what} {
		expect {
			-re $what { return }
			timeout { puts "\nnot seen: $what"; exit 9 }
			eof { puts "\nended before: $what"; exit 8 }
		}
	}
	spawn vm-mon m
	want {\(vm\) $}
	send "inf\tstat\t\r"
	want {VM status: paused}
	want {\(vm\) $}
	send "ask uar\t"
	want {ask uart0 $}
	send "info\r"
	want {\(vm\) $}
	send "\033\[A\033\[A\r"
	want {VM status: paused}
	want {\(vm\) $}
	send "quit\r"
	expect eof
	exit [lindex [wait] 3]
	E
	run expect x
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	grep -q '^info status *$' "$XDG_STATE_HOME/vm/mon_history"
}
