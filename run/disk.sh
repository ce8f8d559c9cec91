# Disk images: -hda to -hdd, -drive and -blockdev.

snapshot=

# disks: the disks the options named, in their order; -snapshot is for all of
# them wherever it stood
disks() {
	disk_i=1
	while [ $disk_i -le ${disk_n:-0} ]; do
		eval "o=\$disk_k_$disk_i a=\$disk_v_$disk_i"
		disk_i=$((disk_i + 1))
		dk_file= dk_words= dk_format= dk_ro= dk_snap=$snapshot
		case $o in
		-hda) hd 0 "$a" ;; -hdb) hd 1 "$a" ;;
		-hdc) hd 2 "$a" ;; -hdd) hd 3 "$a" ;;
		-drive) drive ;;
		-blockdev) blockdev ;;
		esac
	done
}

# hd INDEX FILE: -hda to -hdd
hd() {
	eval "[ ! \"\$ide$1\" ]" || die 2 "$o $2: index $1 is taken"
	dk_file=$2
	disk_words "$o"
	eval "ide$1=\$words"
}

# disk_words OPTION: $words of the part, from the dk_ variables
disk_words() {
	case $dk_file in
	'') die 2 "$1: no file" ;;
	json:*) ;;
	file:*) dk_file=${dk_file#file:} ;;
	nbd:*|nbd+tcp://*|nbd+unix://*) ;;
	*://*|rbd:*|ssh:*|fat:*|iscsi:*|sheepdog:*)
		not_yet "$1 file=$dk_file" ;;
	esac
	case $dk_file,$dk_ro$dk_snap in
	json:*|nbd:*|*://*) ;;
	*,) put files "$1" "w:$dk_file" ;;
	*) put files "$1" "r:$dk_file" ;;
	esac
	quote "file=$dk_file"
	words="$q${dk_format:+ format=$dk_format}${dk_ro:+ readonly=on}"
	words="$words${dk_snap:+ snapshot=on}$dk_words"
}

# image_format OPTION NAME: one that the image library has
image_format() {
	case $2 in
	raw|qcow2|qcow|qed|vdi|vpc|vmdk|vhdx|luks|parallels|bochs|cloop|dmg|nbd) ;;
	vvfat|http|https|ftp|ftps|ssh|rbd|iscsi|gluster|nfs|null-*|\
	blkdebug|blkverify|quorum|throttle|copy-on-read|preallocate|\
	replication|blklogwrites|nvme)
		not_yet "$1=$2" ;;
	*) die 2 "$1=$2: unknown format" ;;
	esac
}

drive() {
	rest=$a dk_if=ide dk_id= dk_index= dk_media= dk_addr=
	dk_direct= dk_through= dk_noflush= dk_cor= dk_limits=
	while next_kv; do
		case $k in
		file) dk_file=$v ;;
		if) dk_if=$v ;;
		id) dk_id=$v ;;
		index) number "-drive index" "$v" 0 31; dk_index=$n ;;
		format|driver) image_format "-drive $k" "$v"; dk_format=$v ;;
		media) dk_media=$v
			only "-drive media" "$v" "disk cdrom" ;;
		readonly|read-only) yes "-drive $k"; dk_ro=$n ;;
		snapshot) yes "-drive $k"; dk_snap=$n ;;
		copy-on-read) yes "-drive $k"; dk_cor=$n ;;
		serial) quote "serial=$v"; dk_words="$dk_words $q" ;;
		addr) pci_slot "-drive addr" "$v"; dk_addr=$v ;;
		cache) dk_direct= dk_through= dk_noflush=
			case $v in
			writeback) ;;
			none|off) dk_direct=on ;;
			writethrough) dk_through=on ;;
			directsync) dk_direct=on dk_through=on ;;
			unsafe) dk_noflush=on ;;
			*) die 2 "-drive cache=$v: invalid cache option" ;;
			esac ;;
		cache.direct) yes "-drive $k"; dk_direct=$n ;;
		cache.no-flush) yes "-drive $k"; dk_noflush=$n ;;
		cache.writeback) yes "-drive $k"; dk_through=on
			[ ! "$n" ] || dk_through= ;;
		discard) only "-drive discard" "$v" "unmap on ignore off"
			dk_words="$dk_words discard=$v" ;;
		detect-zeroes) only "-drive detect-zeroes" "$v" "off on unmap"
			dk_words="$dk_words detect-zeroes=$v" ;;
		werror|rerror) on_error -drive; dk_words="$dk_words$q" ;;
		locking|file.locking) only "-drive $k" "$v" "auto on off"
			dk_words="$dk_words locking=$v" ;;
		key-secret|encrypt.key-secret)
			quote "$k=$v"; dk_words="$dk_words $q"
			secret "-drive $k" "$v"; dk_words="$dk_words $q" ;;
		aio|file.aio) only "-drive $k" "$v" threads ;;
		throttling.*|bps*|iops*|group) limit ;;
		*) bad_key -drive ;;
		esac
	done
	[ ! "$dk_limits" ] || dk_words="$dk_words throttle=$dk_limits"
	[ ! "$dk_cor" ] || dk_words="$dk_words copy-on-read=on"
	case $dk_noflush,$dk_direct,$dk_through in
	on,on,*) not_yet "-drive cache.direct=on,cache.no-flush=on" ;;
	on,*) dk_words="$dk_words cache=unsafe" ;;
	,on,on) dk_words="$dk_words cache=directsync" ;;
	,on,) dk_words="$dk_words cache=none" ;;
	,,on) dk_words="$dk_words cache=writethrough" ;;
	esac
	case $dk_media$dk_if in
	cdromide) not_yet "-drive media=cdrom" ;;
	cdrom*) dk_ro=on ;;
	esac
	[ ! "$dk_cor$dk_ro" = onon ] ||
		die 2 "-drive $a: copy-on-read on a read-only drive"
	disk_words -drive
	case $dk_if in
	ide)
		if [ ! "$dk_index" ]; then
			for dk_index in 0 1 2 3 none; do
				eval "[ \"\$ide$dk_index\" ]" || break
			done
		fi
		case $dk_index in
		[0-3]) ;;
		*) die 2 "-drive $a: an IDE machine has drives 0 to 3" ;;
		esac
		eval "[ ! \"\$ide$dk_index\" ]" ||
			die 2 "-drive $a: index $dk_index is taken"
		eval "ide$dk_index=\$words ide_id$dk_index=\$dk_id" ;;
	virtio)
		if [ ! "$dk_index" ]; then
			dk_index=0
			while get vd $dk_index; do dk_index=$((dk_index + 1)); done
		fi
		! get vd "$dk_index" || die 2 "-drive $a: index $dk_index is taken"
		put vd "$dk_index" "$words${dk_addr:+ addr=$dk_addr}"
		put vd_id "$dk_index" "$dk_id"
		[ "$dk_index" -lt "${vd_max:-0}" ] || vd_max=$((dk_index + 1)) ;;
	none)
		[ "$dk_id" ] || die 2 "-drive $a: if=none needs an id"
		! get drives "$dk_id" || die 2 "-drive $a: id $dk_id is taken"
		put drives "$dk_id" "$words" ;;
	scsi|sd|mtd|floppy|pflash) not_yet "-drive if=$dk_if" ;;
	*) die 2 "-drive if=$dk_if: unknown interface" ;;
	esac
}

# on_error WHAT: $q is the part's word for $k=$v, werror or rerror, with a blank
# before it; empty for the default
on_error() {
	case $k in
	werror) only "$1 $k" "$v" "report ignore enospc stop" ;;
	*) only "$1 $k" "$v" "report ignore stop" ;;
	esac
	q=" $k=$v"
	case $q in ' werror=enospc'|' rerror=report') q= ;; esac
}

# limit: $k=$v, throttling.iops-total-max or iops_max, to $dk_limits; the image
# library knows which there are
limit() {
	m=
	case $k in
	throttling.group|group) not_yet "-drive $k=$v" ;;
	throttling.*) l=${k#throttling.} ;;
	iops_size) l=iops-size ;;
	*_max_length) m=-max-length l=${k%_max_length} ;;
	*_max) m=-max l=${k%_max} ;;
	*) l=$k ;;
	esac
	case $l in
	bps|iops) l=$l-total ;;
	*_rd) l=${l%_rd}-read ;;
	*_wr) l=${l%_wr}-write ;;
	esac
	case $v in
	''|*[!0-9kKMGT]*) die 2 "-drive $k=$v: not a number" ;;
	esac
	dk_limits=${dk_limits:+$dk_limits,}$l$m=$v
}

# secret WHAT ID: $q is the part's word for -object secret,id=ID
secret() {
	get secrets "$2" || die 2 "$1=$2: no -object secret has this id"
	quote "secret=$value"
}

# yes WHAT: $n is "on" or empty
yes() {
	onoff "$1" "$v" "$has"
	[ $n = on ] || n=
}

# -blockdev driver=D,node-name=N,...: the options of the image library's nodes,
# in its words; file=NODE stands for the options of that node.
blockdev() {
	rest=$a bd_name= bd_driver= bd= bd_secret=
	case $a in '{'*) not_yet "-blockdev {...}" ;; esac
	while next_kv; do
		[ "$has" ] || die 2 "-blockdev: $k needs a value"
		case $k in
		node-name) bd_name=$v; continue ;;
		key-secret|*.key-secret) secret "-blockdev $k" "$v"
			bd_secret=$q ;;
		driver) bd_driver=$v
			case $v in
			file|host_device) ;;
			*) image_format "-blockdev driver" "$v" ;;
			esac ;;
		filename) [ ! -d "$v" ] || die 1 "-blockdev $v: is a directory"
			[ -e "$v" ] || die 1 "-blockdev $v: no such file" ;;
		file|backing|data-file)
			get nodes "$v" ||
				die 2 "-blockdev $k=$v: no -blockdev has this node-name"
			! get node_used "$v" ||
				die 2 "-blockdev $k=$v: the node is in use already"
			put node_used "$v" 1
			get nodes "$v"
			bd_prefix=$k bd_rest=$rest rest=$value
			while next_kv; do
				bd_item "$bd_prefix.$k" "$v"
			done
			rest=$bd_rest
			continue ;;
		esac
		bd_item "$k" "$v"
	done
	[ "$bd_driver" ] || die 2 "-blockdev $a: needs a driver"
	[ "$bd_name" ] || die 2 "-blockdev $a: needs a node-name"
	! get nodes "$bd_name" || die 2 "-blockdev $a: node-name $bd_name is taken"
	put nodes "$bd_name" "$bd"
	quote "image=$bd"
	put drives "$bd_name" "$q${bd_secret:+ $bd_secret}"
}

# bd_item KEY VALUE: append to $bd, commas doubled
bd_item() {
	bd=$bd${bd:+,}$1= s=$2
	while :; do
		case $s in
		*,*) bd=$bd${s%%,*},, s=${s#*,} ;;
		*) bd=$bd$s; return ;;
		esac
	done
}
