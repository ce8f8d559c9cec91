# A Debian root file system with systemd on virtio-blk: login on the serial line,
# work, power button; the file system is clean afterwards.

load helpers

setup() {
	vm_setup
	command -v expect >/dev/null || skip "expect is not installed"
	[ -s "$guest/debian.img" ] || [ "$CI" ] || skip "no root file system: make guest"
}

teardown() {
	vm_teardown
}

@test "systemd: login, apt-get, perl, sums of 64 MiB, power button, clean disk" {
	cp --sparse=always "$guest/debian.img" "$BATS_TEST_TMPDIR/d.img"
	# 64 MiB that are not all the same, made the same way on both sides
	make='perl -e '\''print pack("N", $_ * 2654435761 % 4294967296) for 0 .. 16777215'\'
	sh -c "$make" | sha256sum | cut -c 1-64 >"$BATS_TEST_TMPDIR/sum"
	cat >"$BATS_TEST_TMPDIR/x" <<-'E'
	set timeout 300
	set g [lindex $argv 0]
	set t [lindex $argv 1]
	spawn vm-run -name deb -m 512 -nographic -kernel $g/vmlinuz -initrd $g/initrd.img -append "console=ttyS0 quiet root=/dev/vda rw" -drive if=virtio,format=raw,file=$t/d.img
	proc want {what} {
		expect {
			-re $what { return }
			timeout { puts "\nnot seen: $what"; exit 9 }
			eof { puts "\nended before: $what"; exit 8 }
		}
	}
	want {login: $}
	send "root\r"
	want {assword: $}
	send "debian\r"
	want {root@sluice:.*# $}
	send "bind 'set enable-bracketed-paste off'; PS1='rea''dy> '\r"
	want {ready> $}
	send "apt-get --version | head -n 1\r"
	want {\napt [0-9.]+ \(amd64\)}
	want {ready> $}
	send "lspci | wc -l; systemctl is-system-running --wait\r"
	want {\n[4-9]\r}
	want {\nrunning\r}
	want {ready> $}
	set f [open $t/sum]
	set sum [gets $f]
	send "[lindex $argv 2] >/var/tmp/f; sha256sum /var/tmp/f | cut -c 1-64\r"
	want "\n$sum\r"
	want {ready> $}
	send "gzip -1 </var/tmp/f >/var/tmp/f.gz && rm /var/tmp/f && gzip -dc /var/tmp/f.gz | sha256sum | cut -c 1-64\r"
	want "\n$sum\r"
	want {ready> $}
	send "dmesg -l err,crit,alert,emerg | sed 's/^/trouble: /'; echo looked-\$((1+1))\r"
	expect {
		-re {\ntrouble: ([^\r]*)} { puts "\nthe kernel says: $expect_out(1,string)"; exit 6 }
		-re {\nlooked-2} {}
		timeout { exit 9 }
	}
	want {ready> $}
	exec vm-mon deb system_powerdown
	expect {
		eof {}
		timeout { puts "\ndid not power off"; exit 7 }
	}
	exit [lindex [wait] 3]
	E
	run expect "$BATS_TEST_TMPDIR/x" "$guest" "$BATS_TEST_TMPDIR" "$make"
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	nothing_left deb
	run env PATH="$PATH:/sbin:/usr/sbin" e2fsck -fn "$BATS_TEST_TMPDIR/d.img"
	[ "$status" -eq 0 ] || { echo "$output"; false; }
}
