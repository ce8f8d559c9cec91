# Hostile images and hostile peers, in the sanitizers' programs.  FUZZ is how many
# of each; `make fuzz' runs a million, led by what code they reach.
setup() {
	cd "$BATS_TEST_DIRNAME/.."
	[ -w /dev/shm ] || skip "no /dev/shm"
	make -s build/bin/vm-img build/bin/vm-io
	make -s B=build/asan CFLAGS="-O1 -g" SAN="-fsanitize=address,undefined \
		-fno-sanitize-recover=undefined" build/asan/t/img-fuzz \
		build/asan/t/nbd-fuzz
	found="$BATS_TEST_TMPDIR/found"
}

teardown() { head -n 60 "$found"/* 2>/dev/null || true; }

@test "hostile images of every format" {
	python3 t/img-seeds.py "$BATS_TEST_TMPDIR/seeds"
	for f in "$BATS_TEST_TMPDIR"/seeds/*; do
		build/asan/t/img-fuzz "${f##*/}" "$BATS_TEST_TMPDIR/seeds" "$found" \
			"${FUZZ:-400}" "${SEED:-1}"
	done
}

@test "hostile NBD clients" {
	build/asan/t/nbd-fuzz server "$found" "${FUZZ:-2000}" "${SEED:-1}"
}

@test "hostile NBD servers" {
	build/asan/t/nbd-fuzz client "$found" "${FUZZ:-600}" "${SEED:-1}"
}
