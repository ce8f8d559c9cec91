# Drives, devices and character back ends, and the machine file they end in.

taken=' ' chips= pci_n=0 stdio_user=

# add PART CHIP WORDS: one more part
add() {
	case $1 in
	''|.*|-*|*[!A-Za-z0-9_.-]*|????????????????????????????????*)
		die 2 "id=$1: at most 31 letters, digits and _.- expected" ;;
	esac
	case $taken in
	*" $1 "*) die 2 "id=$1: there is such a part already" ;;
	esac
	taken="$taken$1 "
	case " $chips " in
	*" $2 "*) ;;
	*) chips="$chips $2" ;;
	esac
	parts="$parts${nl}part $1 dev=$2${3:+ $3}"
}

# part_name BASE: $n is the first of BASE0, BASE1 ... that is free
part_name() {
	count=0
	while :; do
		n=$1$count
		case $taken in
		*" $n "*) count=$((count + 1)) ;;
		*) return ;;
		esac
	done
}

# ------------------------------------------------------------------- drives

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
		addr) dk_addr=$v ;;
		snapshot) onoff "-drive snapshot" "$v" "$has"
			[ $n = off ] || bad_key -drive ;;
		cache) only "-drive cache" "$v" writeback ;;
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

# ------------------------------------------------------------------ devices

device_list() {
	cat <<-X
	virtio-blk-pci      disk, virtio 1.2 over PCI
	virtio-rng-pci      entropy, virtio 1.2 over PCI
	virtio-serial-pci   console controller, virtio 1.2 over PCI
	virtconsole         the console of a virtio-serial-pci
	virtio-balloon-pci  memory balloon, virtio 1.2 over PCI
	isa-serial          16550A serial port
	isa-debugcon        port that prints what is written to it
	isa-debug-exit      port that ends the machine with a status
	pc-testdev          ports and memory for test programs
	hpet                high precision event timer
	X
}

# device_keys DRIVER: $keys and $chip; status 1 if there is no such driver
device_keys() {
	case $1 in
	virtio-blk-pci|virtio-blk) chip=virtio-blk
		keys="drive serial num-queues addr id" ;;
	virtio-rng-pci|virtio-rng) chip=virtio-rng
		keys="rng addr id" ;;
	virtio-serial-pci|virtio-serial) chip=virtio-console
		keys="addr id" ;;
	virtconsole) chip=port keys="chardev id" ;;
	virtio-balloon-pci|virtio-balloon) chip=virtio-balloon
		keys="free-page-reporting deflate-on-oom addr id" ;;
	isa-serial) chip=uart16550 keys="chardev index iobase irq id" ;;
	isa-debugcon) chip=debugcon keys="chardev iobase id" ;;
	isa-debug-exit) chip=debugexit keys="iobase iosize id" ;;
	pc-testdev) chip=testdev keys="id" ;;
	hpet) chip=hpet keys="id" ;;
	*) return 1 ;;
	esac
}

device_unknown() {
	case $1 in
	e1000*|rtl8139|ne2k_*|pcnet|vmxnet3|virtio-net*|i8255*|ide-*|scsi-*|\
	ahci|ich9-*|piix*|usb-*|*-usb-*|*-ehci*|*-uhci*|*-xhci|VGA|cirrus-vga|\
	qxl*|vmware-svga|virtio-vga*|virtio-gpu*|ramfb|bochs-display|virtio-*|\
	vhost-*|nvme*|megasas*|lsi*|mptsas*|pvscsi|AC97|ES1370|intel-hda|hda-*|\
	sb16|adlib|gus|cs4231a|floppy|isa-*|i6300esb|ib700|pvpanic*|tpm-*|\
	ivshmem-*|vfio-*|pci-*|pcie-*|pc-dimm|nvdimm|loader|generic-sdhci|\
	sdhci-*|edu|vmgenid|vmcoreinfo|intel-iommu|amd-iommu|qemu-xhci|\
	i82801b11-bridge|ioh3420|x3130-*|xio3130-*|virtserialport|igb|\
	ccid-*|smbus-eeprom|ipmi-*|vmmouse|vmport|pxb*|ccid-card-*)
		not_yet "-device $1" ;;
	*) die 2 "-device $1: unknown device; -device help lists them" ;;
	esac
}

device() {
	rest=$a
	next_kv || die 2 "-device: needs a driver"
	driver=$kv
	case $has$k in
	=driver) driver=$v ;;
	help|'?') device_list; exit 0 ;;
	esac
	device_keys "$driver" || device_unknown "$driver"
	case ,$rest, in
	*,help,*|*,\?,*)
		printf '%s options:\n' "$driver"
		for k in $keys; do printf '  %s\n' "$k"; done
		exit 0 ;;
	esac
	dv_id= dv_drive= dv_chardev= dv_rng= dv_index= words=
	while next_kv; do
		case " $keys " in
		*" $k "*) ;;
		*) bad_key "-device $driver" ;;
		esac
		[ "$has" ] || die 2 "-device $driver: $k needs a value"
		case $k in
		id|drive|chardev|rng|index) eval "dv_$k=\$v" ;;
		serial|addr) quote "$k=$v"; words="$words $q" ;;
		num-queues) number "-device $driver,$k" "$v" 1 64
			words="$words queues=$n" ;;
		iobase|iosize|irq) number "-device $driver,$k" "$v" 0 65535
			words="$words $k=$v" ;;
		free-page-reporting|deflate-on-oom)
			onoff "-device $driver,$k" "$v" "$has"
			words="$words $k=$n" ;;
		esac
	done
	words=${words# }
	case $driver in
	virtio-blk*)
		[ "$dv_drive" ] || die 2 "-device $a: needs drive=ID"
		put late "$driver" "virtio-blk disk $dv_id"
		eval "late_d_$late_n=\$dv_drive late_w_$late_n=\$words" ;;
	virtio-rng*)
		if [ "$dv_rng" ]; then
			get objects "$dv_rng" ||
				die 2 "-device $a: no -object rng-... has id $dv_rng"
			words="$words${value:+ $value}"
		fi
		put late "$driver" "virtio-rng rng $dv_id"
		eval "late_w_$late_n=\$words" ;;
	virtio-serial*)
		put late "$driver" "virtio-console vcon $dv_id"
		eval "late_w_$late_n=\$words"
		serial_bus=$late_n ;;
	virtconsole)
		[ "$serial_bus" ] ||
			die 2 "-device $a: needs a -device virtio-serial-pci before it"
		[ "$dv_chardev" ] || die 2 "-device $a: needs chardev=ID"
		eval "[ ! \"\$late_c_$serial_bus\" ]" ||
			not_yet "-device $driver: a second port"
		eval "late_c_$serial_bus=chardev:\$dv_chardev" ;;
	virtio-balloon*)
		put late "$driver" "virtio-balloon balloon $dv_id"
		eval "late_w_$late_n=\$words" ;;
	isa-serial|isa-debugcon)
		[ "$dv_chardev" ] || die 2 "-device $a: needs chardev=ID"
		case $driver in
		isa-serial) put late "$driver" "uart16550 uart $dv_id" ;;
		*) put late "$driver" "debugcon debugcon $dv_id" ;;
		esac
		[ ! "$dv_index" ] || number "-device $driver,index" "$dv_index" 0 3
		eval "late_w_$late_n=\$words late_c_$late_n=chardev:\$dv_chardev"
		eval "late_i_$late_n=\$dv_index" ;;
	isa-debug-exit)
		put late "$driver" "debugexit debugexit $dv_id"
		eval "late_w_$late_n=\$words" ;;
	pc-testdev)
		put late "$driver" "testdev testdev $dv_id"
		eval "late_w_$late_n=" ;;
	hpet) nohpet= ;;
	esac
}

# -object: only what -device virtio-rng-pci,rng=ID may name
object() {
	rest=$a ob_id= ob_file=
	next_kv || die 2 "-object: needs a type"
	ob_type=$kv
	case $ob_type in
	rng-random|rng-builtin) ;;
	*) not_yet "-object $ob_type" ;;
	esac
	while next_kv; do
		case $ob_type,$k in
		*,id) ob_id=$v ;;
		rng-random,filename) ob_file=$v
			put files -object "r:$v" ;;
		*) bad_key "-object $ob_type" ;;
		esac
	done
	[ "$ob_id" ] || die 2 "-object $ob_type: needs an id"
	if [ "$ob_file" ]; then
		quote "file=$ob_file"
		put objects "$ob_id" "$q"
	else
		put objects "$ob_id" ''
	fi
}

# ------------------------------------------------------ character back ends

chardev() {
	rest=$a
	next_kv || die 2 "-chardev: needs a back end"
	ch_kind=$kv
	case $ch_kind in
	help|'?') echo "null stdio pty file pipe socket udp"; exit 0 ;;
	null|stdio|pty|file|pipe|socket|udp) ;;
	vc|ringbuf|msmouse|braille|serial|tty|parallel|parport|console|\
	spicevmc|spiceport|wctablet|testdev|hub|memory|dbus|qemu-vdagent)
		not_yet "-chardev $ch_kind" ;;
	*) die 2 "-chardev $ch_kind: unknown back end" ;;
	esac
	ch_id= ch_mux= ch_path= ch_host= ch_port= ch_la= ch_lp= ch_server=
	ch_nowait= ch_telnet= ch_more=
	while next_kv; do
		case $ch_kind,$k in
		*,id) ch_id=$v ;;
		*,mux) onoff "-chardev mux" "$v" "$has"; ch_mux=$n ;;
		file,path|pipe,path|socket,path) ch_path=$v ;;
		stdio,signal) onoff "-chardev signal" "$v" "$has"
			[ $n = off ] || bad_key "-chardev stdio" ;;
		socket,host|udp,host) ch_host=$v ;;
		socket,port|udp,port) ch_port=$v ;;
		udp,localaddr) ch_la=$v ;;
		udp,localport) ch_lp=$v ;;
		socket,server) onoff "-chardev server" "$v" "$has"
			[ $n = off ] || ch_server=,server ;;
		socket,wait) onoff "-chardev wait" "$v" "$has"
			[ $n = on ] || ch_nowait=,nowait ;;
		socket,nowait) ch_nowait=,nowait ;;
		socket,telnet) onoff "-chardev telnet" "$v" "$has"
			[ $n = off ] || ch_telnet=1 ;;
		*) bad_key "-chardev $ch_kind" ;;
		esac
	done
	[ "$ch_id" ] || die 2 "-chardev $ch_kind: needs an id"
	! get chardevs "$ch_id" || die 2 "-chardev id=$ch_id: taken"
	case $ch_kind in
	null|stdio|pty) spec=$ch_kind ;;
	file|pipe)
		[ "$ch_path" ] || die 2 "-chardev $ch_kind: needs a path"
		spec=$ch_kind:$ch_path ;;
	socket)
		if [ "$ch_path" ]; then
			[ ! "$ch_telnet" ] || not_yet "-chardev socket,path=$ch_path,telnet=on"
			spec=unix:$ch_path$ch_server$ch_nowait
		else
			[ "$ch_port" ] || die 2 "-chardev socket: needs a path or a port"
			spec=tcp:
			[ ! "$ch_telnet" ] || spec=telnet:
			spec=$spec$ch_host:$ch_port$ch_server$ch_nowait
		fi ;;
	udp)
		[ "$ch_port" ] || die 2 "-chardev udp: needs a port"
		spec=udp:$ch_host:$ch_port
		[ ! "$ch_la$ch_lp" ] || spec=$spec@$ch_la:${ch_lp:-0} ;;
	esac
	put chardevs "$ch_id" "$spec"
	put muxes "$ch_id" "$ch_mux"
}

# resolve OPTION SPEC: $spec is SPEC with chardev:ID replaced; checked
resolve() {
	spec=$2
	case $spec in
	chardev:*)
		ch_id=${spec#chardev:}
		get chardevs "$ch_id" ||
			die 2 "$1 $spec: no -chardev has id $ch_id"
		spec=$value
		get muxes "$ch_id"
		if [ "$value" = on ]; then
			case $1 in
			-serial) get mon_muxes "$ch_id" && spec=mon:$spec ;;
			esac
		else
			! get ch_used "$ch_id" ||
				die 2 "$1 chardev:$ch_id: in use already (mux=on shares it)"
		fi
		put ch_used "$ch_id" 1 ;;
	esac
	sp=$spec
	case $sp in mon:*)
		[ "$1" = -serial ] || die 2 "$1 $spec: mon: is for -serial"
		sp=${sp#mon:} ;;
	esac
	case $sp in
	stdio)
		[ ! "$stdio_user" ] ||
			die 2 "$1 $spec: stdio is in use by $stdio_user"
		[ ! "$daemonize" ] ||
			die 2 "$1 $spec: stdio cannot be used with -daemonize"
		stdio_user=$1 ;;
	pty|null|none|file:?*|pipe:?*|unix:?*|tcp:*:?*|udp:*:?*|udp:?*|\
	telnet:*:?*) ;;
	vc|vc:*|/dev/*|msmouse|braille|con:|COM[0-9]*|ws:*)
		not_yet "$1 $spec" ;;
	*) die 2 "$1 $spec: unknown character device" ;;
	esac
}

monitor() {
	hasmonitor=1
	put mons x "$1"
}

mon() {
	rest=$a first=1 mn_id=
	while next_kv; do
		[ "$has" ] || [ ! "$first" ] || k=chardev v=$kv
		first=
		case $k in
		chardev) mn_id=$v ;;
		mode) only "-mon mode" "$v" readline ;;
		*) bad_key -mon ;;
		esac
	done
	[ "$mn_id" ] || die 2 "-mon $a: needs chardev=ID"
	hasmonitor=1
	put mon_ids "$mn_id" 1
	put mons x "chardev:$mn_id"
}

# -------------------------------------------------------------- what it means

# Fill in what was not said.
defaults() {
	if [ ! "$kernel" ] && [ ! "$file_machine" ]; then
		die 2 "no -kernel: starting from firmware is not supported yet"
	fi
	case $file_machine in
	*"${nl}boot "*|"boot "*) ;;
	*)
		[ ! "$given_append" ] || [ "$kernel" ] ||
			die 2 "-append: only with -kernel"
		[ ! "$given_initrd" ] || [ "$kernel" ] ||
			die 2 "-initrd: only with -kernel"
		;;
	esac
	[ "$file_machine" ] && return

	[ $nserial -gt 0 ] || [ "$nodefaults" ] || noserial=1
	uses_stdio=
	i=0
	while [ $i -lt $nserial ]; do
		eval "s=\$serial$i"
		case $s in
		stdio|mon:stdio) uses_stdio=1 ;;
		chardev:*) get chardevs "${s#chardev:}" && [ "$value" = stdio ] &&
			uses_stdio=1 ;;
		esac
		case $s in
		mon:*) hasmonitor=1 ;;
		esac
		i=$((i + 1))
	done
	# a text machine on a terminal, as -nographic, unless told otherwise
	if [ ! "$nographic$nodisplay$nodefaults$daemonize" ] && [ -t 0 ]; then
		nographic=1
	fi
	if [ "$noserial" ]; then
		nserial=1
		case $nographic$daemonize,$hasmonitor in
		1,) serial0=mon:stdio hasmonitor=1 ;;
		1,1) serial0=stdio
			i=1
			while [ $i -le ${mons_n:-0} ]; do
				eval "s=\$mons_v_$i"
				[ "$s" != stdio ] || serial0=null
				i=$((i + 1))
			done ;;
		*) serial0=null ;;
		esac
	elif [ "$nographic" ] && [ ! "$hasmonitor$uses_stdio$nodefaults$daemonize" ]
	then
		monitor stdio
	fi
}

# The machine file, in $machine.
statements() {
	machine=$file_machine
	say() { machine=$machine${machine:+$nl}$1; }

	[ "$name" ] || [ "$print" ] || name=vm-$$
	[ "$name" = "$file_name" ] || say "name $name"
	[ ! "$uuid" ] || say "uuid $uuid"
	if [ ! "$file_machine" ]; then
		mem=${mem:-128M} model=${model:-max} cpus=${cpus:-1}
		accel=${accel:-translate} reboot=${reboot:-reset}
		shutdown=${shutdown:-poweroff} panic=${panic:-exit}
		start=${start:-on}
	fi
	[ ! "$mem" ] || say "ram size=$mem"
	w=
	[ ! "$model" ] || { quote "$model"; w="$w model=$q"; }
	w="$w${cpus:+ smp=$cpus}${accel:+ accel=$accel}${tbsize:+ tb-size=$tbsize}"
	[ ! "$w" ] || say "cpu$w"
	w=
	[ ! "$kernel" ] || { quote "$kernel"; w="$w kernel=$q"
		put files -kernel "r:$kernel"; }
	[ ! "$initrd" ] || { quote "$initrd"; w="$w initrd=$q"
		initrd_files; }
	[ ! "$append" ] || { quote "$append"; w="$w append=$q"; }
	[ ! "$w" ] || say "boot$w"
	w="${reboot:+ reboot=$reboot}${shutdown:+ shutdown=$shutdown}"
	w="$w${panic:+ panic=$panic}${start:+ start=$start}"
	[ ! "$pidfile" ] || { quote "$pidfile"; w="$w pidfile=$q"; }
	w="$w${daemonize:+ daemonize=on}"
	[ ! "$w" ] || say "run$w"
	w="${logitems:+ items=$logitems}"
	[ ! "$logfile" ] || { quote "$logfile"; w="$w file=$q"; }
	[ ! "$w" ] || say "log$w"

	if [ ! "$file_machine" ]; then
		add hostbridge hostbridge ''
		add pm0 pm ''
		add rtc rtc "${rtcbase:+base=$rtcbase}"
		add i8042 i8042 ''
		[ "$nohpet" ] || add hpet hpet ''
		add fwcfg fwcfg "${fwcfg# }"
	fi

	# which chardevs a monitor shares, before the serial lines are looked at
	i=1
	while [ $i -le ${mon_ids_n:-0} ]; do
		eval "put mon_muxes \"\$mon_ids_k_$i\" 1"
		i=$((i + 1))
	done
	i=0
	while [ $i -lt $nserial ]; do
		eval "s=\$serial$i"
		resolve -serial "$s"
		case $spec in mon:*)
			s=${s#chardev:}
			put mon_done "$s" 1 ;;
		esac
		if [ "$spec" != none ]; then
			quote "$spec"
			add uart$i uart16550 "index=$i chardev=$q"
		fi
		i=$((i + 1))
	done
	monwords=
	i=1
	while [ $i -le ${mons_n:-0} ]; do
		eval "s=\$mons_v_$i"
		i=$((i + 1))
		case $s in
		none|null) continue ;;
		chardev:*) ! get mon_done "${s#chardev:}" || continue ;;
		esac
		resolve -monitor "$s"
		quote "$spec"
		monwords="$monwords chardev=$q"
	done
	[ "$file_machine" ] && [ ! "$monwords" ] || add mon monitor "${monwords# }"
	if [ "$debugcon" ]; then
		resolve -debugcon "$debugcon"
		quote "$spec"
		[ "$spec" = none ] || add debugcon0 debugcon "iobase=0xe9 chardev=$q"
	fi
	for i in 0 1 2 3; do
		eval "w=\$ide$i"
		[ ! "$w" ] || { part_name disk; add "$n" virtio-blk "$w"; }
	done
	i=0
	while [ $i -lt ${vd_max:-0} ]; do
		if get vd $i; then
			w=$value
			get vd_id $i
			n=$value
			[ "$n" ] || part_name disk
			add "$n" virtio-blk "$w"
		fi
		i=$((i + 1))
	done
	i=1
	while [ $i -le ${late_n:-0} ]; do
		eval "s=\$late_k_$i d=\$late_v_$i w=\$late_w_$i c=\$late_c_$i"
		eval "x=\$late_i_$i dr=\$late_d_$i"
		i=$((i + 1))
		chip=${d%% *} d=${d#* }
		base=${d%% *} n=${d#* }
		[ "$n" ] || part_name "$base"
		part=$n
		if [ "$dr" ]; then
			get drives "$dr" ||
				die 2 "-device $s,drive=$dr: no -drive if=none has this id"
			! get dr_used "$dr" ||
				die 2 "-device $s,drive=$dr: the drive is in use already"
			put dr_used "$dr" 1
			get drives "$dr"
			w="$value${w:+ $w}"
		fi
		if [ "$s" = isa-serial ]; then
			case $w in
			*iobase=*) ;;
			*)
				while [ ! "$x" ]; do
					case $nserial in
					4) die 2 "-device isa-serial: more than four" ;;
					esac
					x=$nserial nserial=$((nserial + 1))
				done
				w="index=$x${w:+ $w}" ;;
			esac
		fi
		if [ "$c" ]; then
			resolve "-device $s" "$c"
			quote "$spec"
			w="$w${w:+ }chardev=$q"
		fi
		add "$part" "$chip" "$w"
	done
	machine=$machine$parts
}

# -initrd FILE, or the multiboot form "FILE ARGS,FILE ARGS"
initrd_files() {
	case $initrd in
	*,*|*' '*) [ -e "$initrd" ] || {
		list=$initrd
		while [ "$list" ]; do
			s=${list%%,*}
			put files -initrd "r:${s%% *}"
			case $list in
			*,*) list=${list#*,} ;;
			*) list= ;;
			esac
		done
		return
	} ;;
	esac
	put files -initrd "r:$initrd"
}

check_files() {
	i=1
	while [ $i -le ${files_n:-0} ]; do
		eval "o=\$files_k_$i f=\$files_v_$i"
		i=$((i + 1))
		mode=${f%%:*} f=${f#*:}
		[ -e "$f" ] || die 1 "$o $f: no such file"
		[ ! -d "$f" ] || die 1 "$o $f: is a directory"
		[ -r "$f" ] || die 1 "$o $f: cannot read"
		[ $mode = r ] || [ -w "$f" ] ||
			die 1 "$o $f: cannot write (readonly=on?)"
	done
	i=1
	while [ $i -le ${probe_n:-0} ]; do
		eval "o=\$probe_k_$i f=\$probe_v_$i"
		i=$((i + 1))
		[ -f "$f" ] || continue
		magic=$(head -c 4 -- "$f" | od -An -tx1)
		case $magic in
		*"51 46 49 fb") s=qcow2 ;;
		*"4b 44 4d 56") s=vmdk ;;
		*"51 45 44 00") s=qed ;;
		*"63 6f 6e 65") s=vpc ;;
		*"76 68 64 78") s=vhdx ;;
		*) continue ;;
		esac
		die 2 "$o $f: a $s image: not supported yet (format=raw forces raw)"
	done
}
