# The translator against the host CPU (testing.md, 1): a fixed slice of what
# `build/t/difftest -n 10000000` does at length.

@test "random 64-, 32- and 16-bit code: registers, flags, vectors and memory as on the host" {
	make -s build/t/difftest
	for seed in 1 2 3 4; do
		run build/t/difftest -n 300000 -s $seed
		echo "$output"
		[ "$status" -eq 0 ]
	done
}
