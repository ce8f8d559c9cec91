# Power cuts at every write of random workloads, and what of it may have reached
# the disk: see t/unit/img-cut.c.  CUTS is how many points for each line.
setup() { make -s build/t/img-cut; }

cuts() {
	build/t/img-cut "$1" "$2" "${SEED:-1}" "${CUTS:-250}" "$BATS_TEST_TMPDIR"
}

@test "qcow2: power cuts leave leaks at worst, and all that was flushed" {
	for o in compat=1.1 cluster_size=512 compat=0.10 \
	    cluster_size=4k,refcount_bits=64 extended_l2=on \
	    lazy_refcounts=on cluster_size=4k,data_file=x; do
		cuts qcow2 $o
	done
}

@test "qcow2 with snapshots: the same once check has repaired it" {
	cuts qcow2 snapshots,cluster_size=4k
}

@test "qed, vdi, vpc, vmdk, vhdx: the same" {
	for f in qed vdi vpc vmdk; do
		cuts $f size=1
	done
	cuts qed cluster_size=4k,table_size=1
	cuts vdi static=on
	cuts vhdx block_size=1M
	cuts vhdx subformat=fixed
}
