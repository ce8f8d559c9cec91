# What a running machine's disks do beside serving the guest: stopping on errors,
# snapshots and block jobs.  Real guests write meanwhile, and the peer's check,
# compare and convert say what is in the images.

load helpers

setup() {
	vm_setup
	command -v qemu-img >/dev/null || skip "qemu-img is not installed"
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR"
	cd "$BATS_TEST_TMPDIR"
	full=
}

teardown() {
	vm_teardown
	[ ! "$full" ] || umount "$full"
}

# start NAME OPTIONS -- COMMANDS: the guest runs them, its console is file NAME
start() {
	local name=$1 opts=() k
	shift
	while [ "$1" != -- ]; do opts+=("$1"); shift; done
	k=$2
	vm_start "$name" -m 256 -display none -serial "file:$PWD/$name" \
		-kernel "$guest/vmlinuz" -initrd "$guest/initrd.img" "${opts[@]}" \
		-append "console=ttyS0 quiet vm.run=\"$k\""
}

content() {
	qemu-img convert -U -f "$1" -O raw "$2" .raw
	sha256sum <.raw | cut -c 1-64
}

# seen FILE WORD: a line of a guest's console
seen() {
	until_true grep -q "$2" "$1" || { cat "$1"; return 1; }
}

status_is() {
	[ "$(vm-mon "$1" info status)" = "VM status: $2" ]
}

mon() {
	run vm-mon m "$@"
	echo "$* -> $status: $output"
}

@test "a full host disk stops the machine; cont goes on and nothing is lost" {
	full=$PWD/full
	mkdir full
	mount -t tmpfs -o size=40m tmpfs full 2>/dev/null || {
		full=
		skip "no tmpfs can be mounted"
	}
	truncate -s 32M full/raw
	qemu-img create -q -f qcow2 full/q 32M
	head -c 36M /dev/zero >full/other
	start m -drive if=virtio,file=full/raw,format=raw,id=r \
		-drive if=virtio,file=full/q,format=qcow2,id=q -- \
		'for d in vda vdb; do dd if=/dev/urandom of=/dev/$d bs=64k seek=9 count=160 & done; wait; sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/vda /dev/vdb; dmesg | grep [I]/O'
	until_true status_is m "paused (io-error)"
	grep -q "No space left on device: the machine stops, cont tries again" m.out
	# not enough: it stops again
	head -c 30M /dev/zero >full/other
	vm-mon m cont
	until_true status_is m "paused (io-error)"
	rm full/other
	vm-mon m cont
	until_true gone "$pid"
	seen m "$(content raw full/raw)  /dev/vda"
	seen m "$(content qcow2 full/q)  /dev/vdb"
	qemu-img check full/q
	! grep -q 'I/O error' m
}

@test "rerror=stop, werror=report and ignore on a server that fails at times" {
	local S=$PWD/s
	command -v nbdkit >/dev/null || skip "nbdkit is not installed"
	head -c 8M /dev/urandom >data
	nbdkit -f -U "$S" --filter=error file data error-file="$PWD/fail" \
		error=EIO error-pread-rate=100% error-pwrite-rate=100% 3>&- &
	started="$started $!"
	until_true test -S "$S"
	start m -drive "if=virtio,file=nbd:unix:$S,format=raw,id=d,rerror=stop,werror=report" -- \
		'echo up; read x </dev/vda; until dd if=/dev/vda of=/dev/null skip=4 count=1 2>/dev/null; [ -e /tmp/n ]; do sleep 0.1; echo 3 >/proc/sys/vm/drop_caches; [ $((n = n + 1)) != 9 ] || : >/tmp/n; done; sha256sum /dev/vda; echo asked'
	seen m up
	touch fail
	until_true status_is m "paused (io-error)"
	vm-mon m cont
	until_true status_is m "paused (io-error)"
	# what waits is a part of the state that is saved
	vm-mon m ask bus save d "$PWD/state"
	grep -aq kept state
	vm-mon m ask bus load d "$PWD/state"
	rm fail
	vm-mon m cont
	until_true gone "$pid"
	seen m "$(sha256sum <data | cut -c 1-64)  /dev/vda"
	# a reset drops what was kept; werror=report tells the guest
	touch fail
	start m -drive "if=virtio,file=nbd:unix:$S,format=raw,id=d,rerror=report,werror=stop" -S -- \
		'dd if=/dev/vda of=/dev/null count=1; echo read $?; dd if=/dev/zero of=/dev/vda bs=4k count=1; sync; echo synced'
	vm-mon m cont
	seen m "read 1"
	until_true status_is m "paused (io-error)"
	rm fail
	vm-mon m system_reset
	vm-mon m cont
	seen m "read 0"
	seen m synced
}

# The guest writes here and there until the disk `s` is resized, then sums up.
writes='until [ $(cat /sys/block/vdb/size) != 2048 ]; do dd if=/dev/urandom of=/dev/vda bs=16k count=9 seek=$((RANDOM % 1500)) 2>/dev/null; dd if=/dev/urandom of=/dev/vda bs=512 count=9 seek=$((RANDOM % 32767)) oflag=direct 2>/dev/null; [ $((RANDOM % 8)) != 0 ] || blkdiscard -o $((RANDOM % 24))M -l 192k /dev/vda; [ $((n = n + 1)) != 6 ] || echo writing; done; sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /dev/vda'

# busy OPTIONS: the machine m, whose guest does that to its first disk, d
busy() {
	truncate -s 1M sig
	start m "$@" -drive if=virtio,file=sig,format=raw,id=s -- "$writes"
	seen m writing
}

# settle FORMAT FILE: it ends; what it has on its disk is in the image
settle() {
	vm-mon m block_resize s 2
	until_true gone "$pid"
	seen m "$(content "$1" "$2")  /dev/vda"
}

# a disk of 24 MiB: data, holes, data above
disk() {
	head -c 24M /dev/urandom >base
	truncate -s 16M base
	truncate -s 24M base
	qemu-img create -q -f qcow2 -b base -F raw mid
	qemu-io -f qcow2 -c 'write -P 7 3M 1M' -c 'write -z 5M 1M' -c 'write -P 9 20M 1M' mid >/dev/null
	qemu-img create -q -f qcow2 -b mid -F qcow2 top
	qemu-io -f qcow2 -c 'write -P 8 4M 2M' -c 'write -z 9M 64k' top >/dev/null
}

@test "snapshot_blkdev: the image stays as it was, new and existing overlays" {
	disk
	busy -drive if=virtio,file=top,format=qcow2,id=d,cache=none
	mon snapshot_blkdev d sub/o1
	[ "$status" -eq 1 ]
	[ "$output" = "Could not open 'sub/o1': No such file or directory" ]
	mon snapshot_blkdev none o1; [ "$output" = "Device 'none' not found" ]
	mon snapshot_blkdev d o1 raw
	[ "$output" = "Format 'raw' has no backing images" ]
	[ ! -e o1 ]
	mon snapshot_blkdev d top
	[[ $output == *'Failed to get '*' lock'* ]]
	mon snapshot_blkdev d base
	[[ $output == *'Failed to get '*' lock'* ]]
	[ "$(stat -c %s base)" = 25165824 ]
	mon snapshot_blkdev d o1; [ "$status" -eq 0 ]; [ -z "$output" ]
	sum=$(sha256sum <top)
	sleep 0.3
	mon info block d
	[[ $output == *"$PWD/o1 (qcow2)"*"Backing file:     top (chain depth: 3)"* ]]
	# the old image may be read by others, not written
	qemu-img info top | grep -q 'file format: qcow2'
	run qemu-io -f qcow2 -c 'write 0 512' top
	[[ $output == *'lock'* ]]
	qemu-img create -q -f qcow2 -b "$PWD/o1" -F qcow2 o2
	mon snapshot_blkdev -n d o2; [ "$status" -eq 0 ]
	sum1=$(sha256sum <o1)
	sleep 0.3
	vm-mon m block_resize s 2
	until_true gone "$pid"
	[ "$(sha256sum <top)" = "$sum" ]
	[ "$(sha256sum <o1)" = "$sum1" ]
	seen m "$(content qcow2 o2)  /dev/vda"
	qemu-img check o1
	qemu-img check o2
}

no_job() {
	[ "$(vm-mon "$1" info block-jobs)" = "No active jobs" ]
}

# ended NAME HOW: its job does
ended() {
	until_true no_job "$1"
	last_job "$1" "$2"
}

last_job() {
	vm-mon "$1" info block d | grep -q "Last job: *$2"
}

@test "block_stream: all layers, stopped and begun again; down to a base" {
	disk
	cp base b2; cp mid mid2; cp top top2
	qemu-img rebase -q -u -f qcow2 -b b2 -F raw mid2
	qemu-img rebase -q -u -f qcow2 -b mid2 -F qcow2 top2
	sums=$(sha256sum base mid b2 mid2)
	busy -drive if=virtio,file=top,format=qcow2,id=d
	mon info block-jobs; [ "$output" = "No active jobs" ]
	mon block_job_cancel d
	[ "$output" = "No active block job on device 'd'" ]
	mon block_stream d 1M other
	[ "$output" = "'other' is no backing image of this disk" ]
	mon block_stream d 1; [ "$status" -eq 0 ]
	mon info block-jobs
	[[ $output == "Streaming device d: Completed "*" of 25165824 bytes, speed limit 1048576 bytes/s" ]]
	mon block_stream d
	[ "$output" = "Device 'd' is busy: a stream job is running" ]
	for c in "commit d" "block_resize d 32" "snapshot_blkdev d o" "drive_backup d o"; do
		mon $c
		[ "$status" -eq 1 ]
		[[ $output == *"Device 'd' is busy: a stream job is running" ]]
	done
	mon block_job_pause d
	mon block_job_cancel d
	[ "$output" = "The block job for device 'd' is currently paused" ]
	mon block_job_resume d
	mon block_job_cancel d; [ "$status" -eq 0 ]
	no_job m
	last_job m "stream cancelled"
	mon block_stream d 1
	mon block_job_set_speed d 0
	ended m "stream completed"
	mon info block d
	[[ $output != *"Backing file"* ]]
	settle qcow2 top
	qemu-img check top
	! qemu-img info top | grep -q backing
	busy -drive if=virtio,file=top2,format=qcow2,id=d
	mon block_stream d 0 b2; [ "$status" -eq 0 ]
	ended m "stream completed"
	mon info block d
	[[ $output == *"Backing file:     b2 (chain depth: 1)"* ]]
	settle qcow2 top2
	qemu-img check top2
	qemu-img info top2 | grep -q "^backing file: $PWD/b2"
	[ "$(sha256sum base mid b2 mid2)" = "$sums" ]
}

# at SNAPSHOT OPTIONS: a backup begins when an internal snapshot is made
at() {
	vm-mon m stop
	vm-mon m snapshot_blkdev_internal d "$1"
	shift
	printf '%s\n' "drive_backup $*" "block_job_pause d" | vm-mon m || true
	vm-mon m cont
	sleep 0.2
	vm-mon m block_job_resume d || true	# it may have been quicker
	ended m "backup completed"
}

# same SNAPSHOT FORMAT FILE
same() {
	qemu-img convert -U -f qcow2 -l snapshot.name="$1" -O raw top .snap
	qemu-img compare -f raw -F "$2" .snap "$3"
}

@test "drive_backup: the disk at that moment, whatever the guest writes then" {
	disk
	busy -drive if=virtio,file=top,format=qcow2,id=d
	at 0 -f d full.raw raw
	at 1 -f d full.qcow2
	at 2 d top.qcow2
	at 3 -c -f d comp.qcow2
	# into those that are there, with other data in them
	head -c 24M /dev/urandom >old.raw
	qemu-img convert -f raw -O qcow2 old.raw old.qcow2
	at 4 -n -f d old.raw raw
	at 5 -n -f d old.qcow2
	qemu-img create -q -f qcow2 small 1M
	qemu-img create -q -f qcow2 large 40M
	# the machine's own monitor opens files too, where it was started
	printf '%s\n' "drive_backup -f d socket.raw raw" "info block-jobs" |
		timeout 20 nc -N -U "$XDG_RUNTIME_DIR/vm/m/mon" | grep -q "Type backup\|No active"
	ended m "backup completed"
	[ "$(stat -c %s socket.raw)" = 25165824 ]
	mon drive_backup -n -f d large
	[ "$output" = "'$PWD/large' has another size than the disk" ]
	mon drive_backup -f d x.vdi vdi
	[ "$output" = "Format 'vdi' cannot say that a copy is unfinished; raw and qcow2 can" ]
	[ ! -e x.vdi ]
	mon drive_backup -f d nbd:localhost:1
	[[ $output == *"only files and block devices of the host can be written to" ]]
	mon drive_backup -q d x
	[ "$output" = "drive_backup: unsupported option -q" ]
	settle qcow2 top
	same 0 raw full.raw
	same 1 qcow2 full.qcow2
	same 2 qcow2 top.qcow2
	same 3 qcow2 comp.qcow2
	same 4 raw old.raw
	same 5 qcow2 old.qcow2
	for f in top full.qcow2 top.qcow2 comp.qcow2 old.qcow2; do
		qemu-img check $f
	done
	qemu-img info top.qcow2 | grep -q "^backing file: $PWD/mid"
	qemu-img check comp.qcow2 | grep -q ' [1-9][0-9.]*% compressed'
}

@test "drive_mirror: converges, pivots; or becomes a copy; or is given up" {
	disk
	busy -drive if=virtio,file=top,format=qcow2,id=d,cache=none
	mon drive_mirror -f d m.raw raw; [ "$status" -eq 0 ]
	mon block_job_set_speed d 8M
	mon block_job_complete d
	[ "$output" = "The active block job for device 'd' cannot be completed" ]
	mon block_job_set_speed d 0
	until_true eval "vm-mon m info block-jobs | grep -q ready"
	mon block_job_cancel d
	ended m "mirror completed"
	qemu-img info m.raw | grep -q '24 MiB (25165824 bytes)'
	mon info block d
	[[ $output == "d: top (qcow2)"* ]]
	# to an image of the same layers, and the guest goes on there
	mon drive_mirror d m.qcow2; [ "$status" -eq 0 ]
	until_true eval "vm-mon m info block-jobs | grep -q ready"
	mon block_job_complete d; [ "$status" -eq 0 ]
	ended m "mirror completed"
	sum=$(sha256sum <top)
	mon info block d
	[[ $output == *"$PWD/m.qcow2 (qcow2)"*"(chain depth: 2)"* ]]
	# back to a whole raw one
	qemu-img info m.qcow2 -U | grep -q "^backing file: $PWD/mid"
	head -c 24M /dev/urandom >n.raw
	mon drive_mirror -n -f d n.raw raw; [ "$status" -eq 0 ]
	until_true eval "vm-mon m info block-jobs | grep -q ready"
	mon block_job_complete d
	ended m "mirror completed"
	sum2=$(sha256sum <m.qcow2)
	# a raw disk is backed up as well
	vm-mon m stop
	raw=$(sha256sum <n.raw | cut -c 1-64)
	printf '%s\n' "drive_backup -f d raw.qcow2 qcow2" "block_job_pause d" | vm-mon m || true
	vm-mon m cont
	sleep 0.2
	vm-mon m block_job_resume d || true
	ended m "backup completed"
	[ "$(content qcow2 raw.qcow2)" = "$raw" ]
	mon drive_mirror -f d given-up qcow2; [ "$status" -eq 0 ]
	until_true eval "vm-mon m info block-jobs | grep -q ready"
	mon block_job_cancel -f d
	last_job m "mirror cancelled"
	run qemu-img info given-up
	echo "$output"
	[[ $output == *"Unsupported qcow2 feature(s): unfinished copy"* ]]
	settle raw n.raw
	[ "$(sha256sum <top)" = "$sum" ]
	[ "$(sha256sum <m.qcow2)" = "$sum2" ]
	qemu-img check top
	qemu-img check m.qcow2
}

# half FILE FORMAT: a backup that stands in the middle of its way
half() {
	local file=$1
	shift
	until vm-mon m info block-jobs | grep -q paused; do
		rm -f "$file"
		printf '%s\n' "drive_backup -f d $file $1" "block_job_pause d" |
			vm-mon m 2>&1 | grep -v "No active block job" || true
	done
}

unfinished() {
	run qemu-img info -U "$1"
	echo "$output"
	[[ $output == *"unfinished copy"* ]] ||
		[ "$(tail -c 512 "$1" | grep -a -c "unfinished copy")" = 1 ]
}

@test "a job in its middle: reset, kill -9, quit, a full disk under the target" {
	disk
	sums=$(sha256sum base mid)
	busy -drive if=virtio,file=top,format=qcow2,id=d
	half b.raw raw
	unfinished b.raw
	vm-mon m system_reset
	vm-mon m info block-jobs | grep -q "Type backup"
	vm-mon m block_job_resume d
	ended m "backup completed"
	! unfinished b.raw
	mkdir full
	if mount -t tmpfs -o size=8m tmpfs full 2>/dev/null; then
		full=$PWD/full
		vm-mon m drive_backup -f d full/b raw
		ended m "backup failed: writing '.*/full/b': No space left on device"
		unfinished full/b
		rm full/b
		vm-mon m drive_mirror -f d full/b qcow2
		ended m "mirror failed: writing '.*/full/b': No space left on device"
		unfinished full/b
	fi
	half b.qcow2 qcow2
	vm-mon m quit
	until_true gone "$pid"
	unfinished b.qcow2
	qemu-img check top || [ $? = 3 ]
	for how in backup stream; do
		rm -f m sig
		busy -drive if=virtio,file=top,format=qcow2,id=d
		if [ $how = backup ]; then
			half b.qcow2 qcow2
		else
			vm-mon m block_stream d 1
		fi
		kill -9 "$(cat "$XDG_RUNTIME_DIR/vm/m/part/d/pid")"
		until_true gone "$pid"
		[ $how = stream ] || unfinished b.qcow2
		qemu-img check top || [ $? = 3 ]
	done
	qemu-img info top | grep -q '^backing file: mid'
	[ "$(sha256sum base mid)" = "$sums" ]
}

@test "internal snapshots and limits while the guest runs" {
	disk
	busy -drive if=virtio,file=top,format=qcow2,id=d,bps=900M
	mon snapshot_blkdev_internal d one; [ "$status" -eq 0 ]
	mon snapshot_blkdev_internal d two; [ "$status" -eq 0 ]
	mon snapshot_delete_blkdev_internal d one 9
	[ "$output" = "Snapshot with name 'one' does not exist" ]
	mon snapshot_delete_blkdev_internal d one; [ "$status" -eq 0 ]
	mon snapshot_blkdev_internal s one
	[ "$status" -eq 1 ]
	[ "$output" = "Block format 'raw' does not support internal snapshots" ]
	mon block_set_io_throttle d 1 1 0 0 0 0
	[[ $output == *"cannot be used at the same time" ]]
	mon block_set_io_throttle d 0 0 0 0 0 20; [ "$status" -eq 0 ]
	a=$(vm-mon m info blockstats | sed -n 's/^d:.* wr_operations=\([0-9]*\).*/\1/p')
	sleep 1
	b=$(vm-mon m info blockstats | sed -n 's/^d:.* wr_operations=\([0-9]*\).*/\1/p')
	echo "$a $b"
	[ $((b - a)) -lt 200 ]		# hundreds without
	mon block_set_io_throttle d 0 0 0 0 0 0; [ "$status" -eq 0 ]
	# what an overlay took goes back into the image that was under it
	vm-mon m snapshot_blkdev d over
	sleep 0.2
	vm-mon m commit d
	vm-mon m stop
	vm-mon m commit d
	[ "$(content qcow2 over)" = "$(content qcow2 top)" ]
	vm-mon m cont
	settle qcow2 over
	qemu-img check over
	qemu-img check top
	[ "$(qemu-img snapshot -l top | grep -c two)" = 1 ]
	! qemu-img snapshot -l top | grep -q one
}

@test "stop does not wait for what the limits hold back" {
	truncate -s 8M img
	start m -drive if=virtio,file=img,format=raw,id=d,iops_wr=1 -- \
		'exec 3</dev/vda; while [ $((i = i + 1)) -le 90 ]; do echo $i | dd of=/dev/vda bs=4k seek=$((i * 9)) 2>/dev/null; done; echo full; sync; echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/vda'
	seen m full
	sleep 1		# for more to wait than can be waited for
	timeout 15 "$top/build/bin/vm-mon" m stop
	status_is m paused
	timeout 15 "$top/build/bin/vm-mon" m block_set_io_throttle d 0 0 0 0 0 0
	vm-mon m cont
	until_true gone "$pid"
	seen m "$(md5sum <img | cut -c 1-32)  /dev/vda"
}

@test "nbd_server_*: the running disk for others" {
	local u="nbd+unix:///d?socket=$PWD/nbd"
	command -v nbdcopy >/dev/null || skip "nbdcopy is not installed"
	disk
	busy -drive if=virtio,file=top,format=qcow2,id=d
	mon nbd_server_add d; [ "$output" = "NBD server not running" ]
	mon nbd_server_stop; [ "$output" = "NBD server not running" ]
	mon nbd_server_start nowhere
	[ "$output" = "nowhere: host:port or unix:path is wanted" ]
	mon nbd_server_start -a unix:nbd
	[ "$output" = "-a: there is more than one disk, and one at a time can be exported" ]
	mon nbd_server_start unix:nbd; [ "$status" -eq 0 ]
	mon nbd_server_start unix:other
	[ "$output" = "NBD server already running" ]
	[ ! -e other ]
	mon nbd_server_add d; [ "$status" -eq 0 ]
	mon nbd_server_add s
	[ "$output" = "one disk at a time can be exported; 'd' is" ]
	nbdinfo "$u" | grep -q 'export-size: 25165824'
	run qemu-io -f raw -c 'write 0 512' "$u"
	[[ $output == *"Permission denied"* ]]
	# a copy, a new image under it and a backup, while the guest writes
	nbdcopy "$u" copy 3>&- &
	copier=$!
	vm-mon m snapshot_blkdev d o1
	vm-mon m drive_backup d b.qcow2
	wait "$copier"
	[ "$(stat -c %s copy)" = 25165824 ]
	until_true no_job m
	mon block_resize d 64
	[ "$output" = "Device 'd' is busy: it is exported" ]
	# one that asks for a lot and reads nothing does not hold up the rest
	python3 - "$PWD/nbd" 3>&- <<-'PY' &
	import socket, struct, sys, time
	s = socket.socket(socket.AF_UNIX)
	s.connect(sys.argv[1])
	s.recv(18)
	s.sendall(struct.pack('>I8sII', 3, b'IHAVEOPT', 1, 1) + b'd')
	s.recv(10)
	for i in range(40):
	    s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, i, 0, 8 << 20))
	open('asked', 'w')
	time.sleep(1000)
	PY
	greedy=$!
	started="$started $greedy"
	until_true test -e asked
	sleep 0.2
	mon snapshot_blkdev d o2; [ "$status" -eq 0 ]
	kill "$greedy"
	# one that stays
	coproc qemu-io -f raw -r "$u"
	echo "read 0 512" >&"${COPROC[1]}"
	read -r -t 20 -u "${COPROC[0]}" line || true
	mon nbd_server_remove d
	[ "$output" = "export 'd' still in use" ]
	mon nbd_server_remove -f d; [ "$status" -eq 0 ]
	eval "exec ${COPROC[1]}>&-"
	wait "$COPROC_PID" || true
	mon nbd_server_remove d
	[ "$output" = "Export 'd' is not found" ]
	mon nbd_server_add -w d; [ "$status" -eq 0 ]
	qemu-io -f raw -c 'write -P 3 5M 64k' -c 'flush' "$u"
	mon nbd_server_stop; [ "$status" -eq 0 ]
	[ ! -e nbd ]
	# one that is there at the end goes with the machine
	mon nbd_server_start unix:nbd; [ "$status" -eq 0 ]
	mon nbd_server_add d; [ "$status" -eq 0 ]
	vm-mon m block_resize s 2
	until_true gone "$pid"
	[ ! -e nbd ]
	seen m "$(content qcow2 o2)  /dev/vda"
	qemu-img check o2
}
