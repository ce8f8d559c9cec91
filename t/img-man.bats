# The EXAMPLES of the man pages run.
setup() {
	make -s build/bin/vm-img build/bin/vm-io build/bin/vm-nbd
	T="$PWD"
	PATH="$PWD/build/bin:$PATH"
	cd "$BATS_TEST_TMPDIR"
}
examples() {
	awk '/^\.Sh/ { x = /EXAMPLES/ } /^\.Bd/ && x { p = 1; next }
	    /^\.Ed/ { p = 0 } p' "$1" > script
	[ -s script ]
	bash -e script
}
@test "vm-img" { examples "$T/img/vm-img.1"; }
@test "vm-io" { examples "$T/img/vm-io.1"; }
@test "vm-nbd" {
	command -v nbdinfo >/dev/null || skip "nbdinfo (libnbd-bin) is not installed"
	examples "$T/nbd/vm-nbd.1"
}
