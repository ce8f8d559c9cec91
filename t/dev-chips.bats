#!/usr/bin/env bats
# What single chips do beyond the vectors in their files: back ends, options,
# questions, events.

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	export VM_SANDBOX=kill
	mkdir -p "$XDG_RUNTIME_DIR"
	d=$BATS_TEST_TMPDIR
	PATH=$PWD/build/bin:$PATH
}

# poke CHIP OPTIONS: script on standard input
poke() {
	vm-poke "$@"
}

@test "acpi: tables are whole for every size of machine" {
	make -s build/t/acpitest build/share/vm/dsdt.aml
	mkdir "$d/tables"
	run build/t/acpitest build/share/vm/dsdt.aml "$d/tables"
	[ "$output" = ok ]
	command -v iasl || skip "no iasl"
	for t in "$d"/tables/*.dat; do
		run iasl -d "$t"
		[ "$status" -eq 0 ]
		! [[ $output =~ [Ii]nvalid|Error|Warning|[Bb]ad ]]
	done
}

@test "uart16550: what is written comes out, in order, at the chosen port" {
	{
		for i in $(seq 0 299); do
			printf 'w1 2f8'
			printf ' %x' $((i / 100 + 48)) $((i / 10 % 10 + 48)) \
				$((i % 10 + 48)) 10
			echo
		done
		echo quit
	} | poke uart16550 index=1 chardev=file:"$d/out"
	seq -f %03.0f 0 299 | cmp - "$d/out"
}

@test "uart16550: string output, and reset loses nothing" {
	printf '%s\n' 'outs1 3f8 48656c6c6f' reset 'w1 3f8 21' stop run quit |
		poke uart16550 chardev=file:"$d/out"
	[ "$(cat "$d/out")" = 'Hello!' ]
}

@test "uart16550: input waits for the guest, FIFO by FIFO" {
	mkfifo "$d/p.in" "$d/p.out"
	: >"$d/log"
	seq 1 2000 >"$d/want"
	# not before the FIFO is on: turning it on empties it
	{
		until grep -q go "$d/log"; do sleep 0.05; done
		cat "$d/want" >"$d/p.in"
	} 3>&- 4>&- &
	cat "$d/p.out" >/dev/null 3>&- 4>&- &
	{
		echo 'w1 3fa 1'
		echo 'w1 3f9 1'
		echo 'echo go'
		for i in $(seq "$(wc -c <"$d/want")"); do
			echo 'irq 4 1'
			echo 'r1 3f8'
		done
		echo 'r1 3fd 60'
		echo quit
	} | poke uart16550 chardev=pipe:"$d/p" >"$d/log"
	grep -E '^[0-9a-f]{2}$' "$d/log" | head -n -1 | sed 's/^/\\x/' |
		tr -d '\n' >"$d/hex"
	printf '%b' "$(cat "$d/hex")" | cmp - "$d/want"
}

@test "uart16550: bad options" {
	run build/libexec/vm/dev-uart16550 vm/uart index=x
	[ "$status" -eq 2 ]
	run poke uart16550 index=4 </dev/null
	[ "$status" -eq 1 ]
	[[ $output =~ "index is 0-3" ]]
	run poke uart16550 chardev=file:/nonexistent/x </dev/null
	[ "$status" -eq 1 ]
	[[ $output =~ /nonexistent/x ]]
}

@test "debugcon: port and back end" {
	printf '%s\n' 'r1 e9 e9' 'outs1 e9 68690a' quit |
		poke debugcon iobase=0xe9 chardev=file:"$d/out"
	[ "$(cat "$d/out")" = hi ]
}

@test "debugexit: status is (value << 1) | 1" {
	run poke debugexit iobase=0xf4 iosize=4 <<-END
		w4 f4 10
		event exit 33
		quit
	END
	[ "$status" -eq 0 ]
}

@test "rtc: base=DATE, binary and 12 hour modes" {
	run poke rtc base=2031-12-31T23:30:00 clock=vm <<-END
		w1 70 b
		w1 71 2
		w1 70 9
		r1 71 31
		w1 70 8
		r1 71 12
		w1 70 7
		r1 71 31
		w1 70 4
		r1 71 23
		w1 70 32
		r1 71 20
		w1 70 6
		r1 71 4
		w1 70 b
		w1 71 4
		w1 70 4
		r1 71 8b
		w1 70 9
		r1 71 1f
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
	run poke rtc base=2031-13-01 </dev/null
	[ "$status" -eq 1 ]
	[[ $output =~ base=2031-13-01 ]]
}

@test "rtc: memory sizes for firmware" {
	# 64 MiB: 63 MiB above 1 MiB, 48 MiB above 16 MiB
	poke rtc <<-END
		w1 70 30
		r1 71 0
		w1 70 31
		r1 71 fc
		w1 70 34
		r1 71 0
		w1 70 35
		r1 71 3
		quit
	END
}

@test "i8042: sendkey gives scan codes, a reset pulse an event" {
	run poke i8042 <<-END
		ask sendkey ctrl-alt-delete
		irq 1 1
		r1 60 1d
		r1 60 38
		r1 60 e0
		r1 60 53
		irq 1 1
		r1 60 e0
		r1 60 d3
		r1 60 b8
		r1 60 9d
		r1 64 14
		w1 64 fe
		event reset
		w1 64 d1
		w1 60 dd
		event a20 0
		r1 92 0
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
	run poke i8042 <<-END
		ask sendkey ctrl-nosuchkey
		quit
	END
	[[ $output =~ nosuchkey ]]
}

@test "pm: power button, ACPI on, soft off" {
	run poke pm <<-END
		cfg 1.3 0 71138086
		w1 b2 f1
		r2 b004 1
		w2 b002 100
		irq 9 0
		ask powerbutton
		irq 9 1
		r2 b000 100
		w2 b000 100
		irq 9 0
		w2 b004 2000
		event poweroff
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "pm: I/O base follows the configuration" {
	run poke pm setup=off <<-END
		r2 b004 ffff
		cfg 1.3 40 1
		cfgw4 1.3 40 600
		cfgw1 1.3 80 1
		r2 604 0
		cfgw1 1.3 80 0
		r2 604 ffff
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "hpet: a periodic timer interrupts and its event is told" {
	run poke hpet <<-END
		r4 mfed00000 8086a201
		r4 mfed00004 989680
		w4 mfed00100 2a0c
		w4 mfed00108 1000
		w4 mfed00010 1
		irq 21
		w4 mfed00010 3
		event hpet-legacy 1
		w4 mfed00010 0
		event hpet-legacy 0
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "fwcfg: named items by port and by DMA" {
	printf abcdefgh >"$d/file"
	run poke fwcfg string.opt/org.x/s=hello file.opt/org.x/f="$d/file" <<-END
		w2 510 20
		r1 511 68
		r1 511 65
		ins1 511 3
		r1 511 0
		w2 510 21
		ins1 511 8
		w8 m1000 0200000002002100
		w8 m1008 0020000000000000
		w4 514 0
		w4 518 00100000
		r4 m1000
		r4 m514
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output =~ 6c6c6f ]]
	[[ $output =~ 6162636465666768 ]]
}

@test "fwcfg: DMA reads, skips, selects; errors are the control word" {
	# control = select 0x20 | read, 4 bytes to 0x2000, all big-endian
	run poke fwcfg string.a=wxyz1234 <<-END
		w4 m1000 0a002000
		w4 m1004 04000000
		w8 m1008 0020000000000000
		w4 518 00100000
		r4 m1000 0
		r4 m2000 7a797877
		w4 m1000 04000000
		w4 m1004 02000000
		w4 518 00100000
		r4 m1000 0
		w4 m1000 02000000
		w4 518 00100000
		r4 m2000 7a793433
		w4 m1000 10000000
		w4 518 00100000
		r4 m1000 1000000
		w4 m1000 02000000
		w8 m1008 ffffffffffffffff
		w4 518 00100000
		r4 m1000 1000000
		quit
	END
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "fwcfg: a missing file, a name given twice" {
	run poke fwcfg file.x=/nonexistent </dev/null
	[ "$status" -eq 1 ]
	[[ $output =~ "/nonexistent: No such file" ]]
	run poke fwcfg string.x=1 string.x=2 </dev/null
	[ "$status" -eq 1 ]
	[[ $output =~ "x: given twice" ]]
}

@test "testdev: interrupt lines" {
	poke testdev <<-END
		w1 2005 1
		irq 5 1
		w1 2005 0
		irq 5 0
		w4 e0 12345678
		r2 e2 1234
		w4 mff000010 55
		r4 mff000010 55
		quit
	END
}
