# Power cuts at many places of a random workload: see t/unit/img-cut.c.
setup() { make -s build/t/img-cut; }

@test "qcow2: power cuts leave leaks at worst, and all that was flushed" {
	for o in compat=1.1 cluster_size=512 compat=0.10 \
	    cluster_size=4k,refcount_bits=64 extended_l2=on \
	    lazy_refcounts=on; do
		for s in 1 2; do
			build/t/img-cut qcow2 $o $s 150 40 "$BATS_TEST_TMPDIR"
		done
	done
}

@test "qed, vdi, vpc, vmdk: the same" {
	for f in qed vdi vpc vmdk; do
		for s in 1 2; do
			build/t/img-cut $f size=1 $s 150 40 "$BATS_TEST_TMPDIR"
		done
	done
}
