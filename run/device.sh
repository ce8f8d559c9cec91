# -device and -object.

slots=' '

device_list() {
	cat <<-X
	virtio-blk-pci      disk, virtio 1.2 over PCI
	virtio-net-pci      network card, virtio 1.2 over PCI
	e1000               network card, Intel 82540EM
	rtl8139             network card, Realtek RTL8139C
	pcnet               network card, AMD Am79C970A
	ne2k_pci            network card, NE2000 on PCI
	ne2k_isa            network card, NE2000 on the ISA bus
	virtio-rng-pci      entropy, virtio 1.2 over PCI
	virtio-serial-pci   console controller, virtio 1.2 over PCI
	virtconsole         the console of a virtio-serial-pci
	virtio-balloon-pci  memory balloon, virtio 1.2 over PCI
	isa-serial          16550A serial port
	isa-debugcon        port that prints what is written to it
	isa-debug-exit      port that ends the machine with a status
	pc-testdev          ports and memory for test programs
	hpet                high precision event timer
	pvpanic             port that tells of the guest's panic
	X
}

# device_keys DRIVER: $keys and $chip; status 1 if there is no such driver
device_keys() {
	case $1 in
	virtio-blk-pci|virtio-blk) chip=virtio-blk
		keys="drive serial num-queues queue-size logical_block_size"
		keys="$keys physical_block_size share-rw werror rerror addr id" ;;
	virtio-net-pci|virtio-net) chip=virtio-net
		keys="netdev mac queues queue-size host_mtu mrg_rxbuf csum host_tso4"
		keys="$keys host_tso6 guest_csum guest_tso4 guest_tso6 addr id" ;;
	e1000|e1000-82540em) chip=e1000 keys="netdev mac addr id" ;;
	rtl8139|pcnet|ne2k_pci) chip=$1 keys="netdev mac addr id" ;;
	ne2k_isa) chip=$1 keys="netdev mac iobase irq id" ;;
	virtio-rng-pci|virtio-rng) chip=virtio-rng
		keys="rng max-bytes period addr id" ;;
	virtio-serial-pci|virtio-serial) chip=virtio-console
		keys="addr id" ;;
	virtconsole) chip=port keys="chardev id" ;;
	virtio-balloon-pci|virtio-balloon) chip=virtio-balloon
		keys="free-page-reporting deflate-on-oom addr id" ;;
	isa-serial) chip=uart16550 keys="chardev index iobase irq id" ;;
	isa-debugcon) chip=debugcon keys="chardev iobase readback id" ;;
	isa-debug-exit) chip=debugexit keys="iobase iosize id" ;;
	pc-testdev) chip=testdev keys="id" ;;
	hpet) chip=hpet keys="id" ;;
	pvpanic) chip=pvpanic keys="id" ;;
	*) return 1 ;;
	esac
}

device_unknown() {
	case $1 in
	e1000*|vmxnet3|virtio-net*|i8255*|ide-*|scsi-*|\
	ahci|ich9-*|piix*|usb-*|*-usb-*|*-ehci*|*-uhci*|*-xhci|VGA|cirrus-vga|\
	qxl*|vmware-svga|virtio-vga*|virtio-gpu*|ramfb|bochs-display|virtio-*|\
	vhost-*|nvme*|megasas*|lsi*|mptsas*|pvscsi|AC97|ES1370|intel-hda|hda-*|\
	sb16|adlib|gus|cs4231a|floppy|isa-*|i6300esb|ib700|pvpanic-*|tpm-*|\
	ivshmem-*|vfio-*|pci-*|pcie-*|pc-dimm|nvdimm|loader|generic-sdhci|\
	sdhci-*|edu|vmgenid|vmcoreinfo|intel-iommu|amd-iommu|\
	i82801b11-bridge|ioh3420|x3130-*|xio3130-*|virtserialport|igb|\
	ccid-*|smbus-eeprom|ipmi-*|vmmouse|vmport|pxb*)
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
	dv_id= dv_drive= dv_chardev= dv_rng= dv_index= dv_netdev= dv_mac= words=
	while next_kv; do
		case " $keys " in
		*" $k "*) ;;
		*) bad_key "-device $driver" ;;
		esac
		[ "$has" ] || die 2 "-device $driver: $k needs a value"
		case $k in
		id|drive|chardev|rng|index|netdev) eval "dv_$k=\$v" ;;
		serial) quote "serial=$v"; words="$words $q" ;;
		werror|rerror) on_error "-device $driver"; words="$words$q" ;;
		addr) pci_slot "-device $driver,addr" "$v"
			words="$words addr=$v" ;;
		mac) mac_address "-device $driver,mac" "$v"; dv_mac=$v ;;
		queues) number "-device $driver,$k" "$v" 1 31
			words="$words $k=$v" ;;
		num-queues) number "-device $driver,$k" "$v" 1 64
			words="$words queues=$n" ;;
		iobase|iosize|irq|readback|queue-size|host_mtu|*_block_size|max-bytes|period)
			number "-device $driver,$k" "$v" 0 1073741824
			words="$words $k=$v" ;;
		free-page-reporting|deflate-on-oom|share-rw|mrg_rxbuf|\
		csum|host_tso4|host_tso6|guest_csum|guest_tso4|guest_tso6)
			onoff "-device $driver,$k" "$v" "$has"
			words="$words $k=$n" ;;
		esac
	done
	words=${words# }
	case $driver in
	virtio-blk*) base=disk
		[ "$dv_drive" ] || die 2 "-device $a: needs drive=ID" ;;
	virtio-net*|e1000*|rtl8139|pcnet|ne2k_*) base=nic ;;
	virtio-rng*) base=rng
		if [ "$dv_rng" ]; then
			get objects "$dv_rng" ||
				die 2 "-device $a: no -object rng-... has id $dv_rng"
			words="$words${value:+${words:+ }$value}"
		fi ;;
	virtio-serial*) base=vcon serial_bus=$((${late_n:-0} + 1)) ;;
	virtconsole)
		[ "$serial_bus" ] ||
			die 2 "-device $a: needs a -device virtio-serial-pci before it"
		[ "$dv_chardev" ] || die 2 "-device $a: needs chardev=ID"
		eval "[ ! \"\$late_c_$serial_bus\" ]" ||
			not_yet "-device $driver: a second port"
		eval "late_c_$serial_bus=chardev:\$dv_chardev"
		return ;;
	virtio-balloon*) base=balloon ;;
	isa-serial|isa-debugcon) base=$chip
		[ "$driver" = isa-debugcon ] || base=uart
		[ "$dv_chardev" ] || die 2 "-device $a: needs chardev=ID"
		[ ! "$dv_index" ] || number "-device $driver,index" "$dv_index" 0 3 ;;
	isa-debug-exit|pc-testdev) base=$chip ;;
	hpet) nohpet=; return ;;
	pvpanic) return ;;		# always there
	esac
	# the part is made when all options are known
	put late "$driver" "$chip $base $dv_id"
	eval "late_w_$late_n=\$words late_d_$late_n=\$dv_drive"
	eval "late_c_$late_n=\${dv_chardev:+chardev:\$dv_chardev}"
	eval "late_i_$late_n=\$dv_index late_t_$late_n=\$dv_netdev"
	eval "late_m_$late_n=\$dv_mac"
}

# pci_slot WHAT ADDR: takes the slot of SLOT[.FUNCTION], hexadecimal
pci_slot() {
	s=${2%%.*}
	s=${s#0[xX]}
	case $s in
	''|*[!0-9a-fA-F]*|???*) die 2 "$1=$2: not SLOT[.FUNCTION]" ;;
	esac
	s=$((0x$s))
	[ $s -ge 2 ] && [ $s -le 31 ] || die 2 "$1=$2: slots are 2 to 1f"
	slots="$slots$s "
}

# free_slot: $addr is the first slot nobody has; stated, so that the guest finds
# its disks in the order of the options whichever process is ready first
free_slot() {
	s=2
	while :; do
		case $slots in
		*" $s "*) s=$((s + 1)) ;;
		*) break ;;
		esac
	done
	slots="$slots$s "
	[ $s -le 31 ] || die 2 "no PCI slot is left"
	hex $s 1
	addr=$h
}

# -object: what -device virtio-rng-pci,rng=ID and an image's key-secret=ID name,
# and the filters of networks (net.sh)
object() {
	rest=$a ob_id= ob_file= ob_words=
	next_kv || die 2 "-object: needs a type"
	ob_type=$kv
	case $ob_type in
	rng-random|rng-builtin|secret) ;;
	filter-dump|filter-mirror|filter-redirector|filter-buffer)
		net_filter
		return ;;
	*) not_yet "-object $ob_type" ;;
	esac
	while next_kv; do
		case $ob_type,$k in
		*,id) ob_id=$v ;;
		secret,data|secret,file|secret,format)
			[ $k != file ] || put files -object "r:$v"
			bd=$ob_words
			bd_item "$k" "$v"
			ob_words=$bd ;;
		rng-random,filename) ob_file=$v
			put files -object "r:$v" ;;
		*) bad_key "-object $ob_type" ;;
		esac
	done
	[ "$ob_id" ] || die 2 "-object $ob_type: needs an id"
	if [ $ob_type = secret ]; then
		put secrets "$ob_id" "id=$ob_id,$ob_words"
	elif [ "$ob_file" ]; then
		quote "file=$ob_file"
		put objects "$ob_id" "$q"
	else
		put objects "$ob_id" ''
	fi
}
