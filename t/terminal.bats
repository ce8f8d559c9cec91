# A person at a terminal: the shell with job control, Ctrl-a keys, the monitor.

load helpers

setup() {
	vm_setup
	command -v expect >/dev/null || skip "expect is not installed"
}

teardown() {
	vm_teardown
}

@test "shell, job control, monitor and back, poweroff" {
	cat >"$BATS_TEST_TMPDIR/x" <<-'E'
	set timeout 120
	set g [lindex $argv 0]
	spawn vm-run -name tty -m 256 -nographic -kernel $g/vmlinuz -initrd $g/initrd.img -append "console=ttyS0 quiet"
	proc want {what} {
		expect {
			-re $what { return }
			timeout { puts "\nnot seen: $what"; exit 9 }
			eof { puts "\nended before: $what"; exit 8 }
		}
	}
	want {guest:/# $}
	send "echo one-\$((1+1))\r"
	want {one-2}
	want {guest:/# $}
	send "sleep 1000\r"
	want {sleep 1000}
	send "\003"
	want {guest:/# $}
	send "tty; echo \$?\r"
	want {ttyS0}
	want {guest:/# $}
	send "\001h"
	want {[Cc]-?a|Ctrl-a}
	send "\001c"
	want {\(vm\) $}
	send "info status\r"
	want {VM status: running}
	want {\(vm\) $}
	send "nonsense\r"
	want {unknown command: 'nonsense'}
	want {\(vm\) $}
	send "\001c"
	send "\r"
	want {guest:/# $}
	send "poweroff -f\r"
	expect {
		eof {}
		timeout { puts "\ndid not power off"; exit 7 }
	}
	exit [lindex [wait] 3]
	E
	run expect "$BATS_TEST_TMPDIR/x" "$guest"
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	nothing_left tty
}

@test "Ctrl-a x ends the machine and the terminal is as before" {
	cat >"$BATS_TEST_TMPDIR/x" <<-'E'
	set timeout 60
	set g [lindex $argv 0]
	spawn sh
	expect -re {[#$] $}
	send "stty -a >before; vm-run -name tty -S -m 128 -nographic -kernel $g/vmlinuz; echo status-\$?; stty -a >after\r"
	while {![file exists [lindex $argv 1]/vm/tty/mon]} { after 50 }
	send "\001x"
	expect {
		-re {status-0} {}
		timeout { puts "\nno end"; exit 9 }
	}
	send "exit\r"
	expect eof
	E
	cd "$BATS_TEST_TMPDIR"
	run expect "$BATS_TEST_TMPDIR/x" "$guest" "$XDG_RUNTIME_DIR"
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	cmp before after
	nothing_left tty
}
