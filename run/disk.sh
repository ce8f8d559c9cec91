# Disk images: -hda to -hdd and -drive.

# hd INDEX FILE: -hda to -hdd
hd() {
	eval "[ ! \"\$ide$1\" ]" || die 2 "-hd$1 $2: index $1 is taken"
	dk_file=$2 dk_words=
	case $1 in
	0) disk_words -hda ;; 1) disk_words -hdb ;; 2) disk_words -hdc ;;
	3) disk_words -hdd ;;
	esac
	eval "ide$1=\$words"
}

# disk_words OPTION: $words from dk_file and dk_words; the format is looked at
# if it was not stated, since a qcow2 image used as raw would be destroyed.
disk_words() {
	case $dk_file in
	'') die 2 "$1: no file" ;;
	file:*) dk_file=${dk_file#file:} ;;
	*://*|nbd:*|rbd:*|ssh:*|fat:*|iscsi:*|sheepdog:*|json:*)
		not_yet "$1 file=$dk_file" ;;
	esac
	case $dk_words in
	*readonly=on*) put files "$1" "r:$dk_file" ;;
	*) put files "$1" "w:$dk_file" ;;
	esac
	[ "$dk_format" = raw ] || put probe "$1" "$dk_file"
	quote "file=$dk_file"
	words="$q$dk_words"
}

drive() {
	rest=$a dk_if=ide dk_file= dk_words= dk_format= dk_id= dk_index= dk_media=
	dk_addr=
	while next_kv; do
		case $k in
		file) dk_file=$v ;;
		if) dk_if=$v ;;
		id) dk_id=$v ;;
		index) number "-drive index" "$v" 0 31; dk_index=$n ;;
		format) dk_format=$v
			case $v in
			raw) ;;
			qcow2|qcow|qed|vmdk|vdi|vpc|vhdx|parallels|bochs|cloop|\
			dmg|luks|vvfat|nbd|ssh|http|https|ftp)
				not_yet "-drive format=$v" ;;
			*) die 2 "-drive format=$v: unknown format" ;;
			esac ;;
		media) dk_media=$v
			only "-drive media" "$v" "disk cdrom" ;;
		readonly|read-only) onoff "-drive $k" "$v" "$has"
			[ $n = off ] || dk_words="$dk_words readonly=on" ;;
		serial) quote "serial=$v"; dk_words="$dk_words $q" ;;
		addr) pci_slot "-drive addr" "$v"; dk_addr=$v ;;
		snapshot) onoff "-drive snapshot" "$v" "$has"
			[ $n = off ] || bad_key -drive ;;
		cache)
			only "-drive cache" "$v" \
				"writeback none writethrough unsafe directsync"
			[ "$v" = writeback ] || dk_words="$dk_words cache=$v" ;;
		discard) only "-drive discard" "$v" "unmap on ignore off"
			dk_words="$dk_words discard=$v" ;;
		detect-zeroes) only "-drive detect-zeroes" "$v" "off on unmap"
			dk_words="$dk_words detect-zeroes=$v" ;;
		werror|rerror) only "-drive $k" "$v" report ;;
		file.locking) only "-drive file.locking" "$v" "auto on off"
			dk_words="$dk_words locking=$v" ;;
		aio) only "-drive aio" "$v" threads ;;
		*) bad_key -drive ;;
		esac
	done
	case $dk_media$dk_if in
	cdromide) not_yet "-drive media=cdrom" ;;
	cdrom*)
		case $dk_words in
		*readonly=on*) ;;
		*) dk_words="$dk_words readonly=on" ;;
		esac ;;
	esac
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
