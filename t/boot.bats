#!/usr/bin/env bats
# Boot loaders (mem/linux.c elf.c multiboot.c bios16.c): placed structures and
# hostile images.

@test "boot loaders: register state, structures, truncated and hostile images" {
	mkdir -p "$BATS_TEST_TMPDIR/t"
	make -s "build/t/bootload"
	run "build/t/bootload" "$BATS_TEST_TMPDIR/t"
	[ "$status" -eq 0 ] || { echo "$output"; false; }
	[ "$output" = ok ]
}
