# The options: read into variables, with QEMU's names and forms; the manual's
# options that do not exist here yet are listed in later() and refused by name.

version=unknown
[ ! -r "$share/version" ] || read -r version <"$share/version"

name= file_name= uuid= mem= model= cpus= sockets= cores= threads= accel= switches= symbols= tbsize= print= file_machine=
kernel= initrd= append= start= reboot= shutdown= panic= pidfile= daemonize=
logitems= logfile= rtcbase= nographic= nodisplay= nodefaults= nohpet=
serials= nserial=0 monitors= hasmonitor= noserial= debugcon= fwcfg= parts=
given_append= given_initrd=

not_yet() {
	die 2 "$1: not supported yet"
}

# bad_key OPTION: the key in $k is not one we have
bad_key() {
	die 2 "$1: $k${has:+=$v}: not supported yet"
}

# only OPTION VALUE WORDS...: refuse a value that is not among the words
only() {
	case " $3 " in
	*" $2 "*) ;;
	*) not_yet "$1 $2" ;;
	esac
}

options() {
	while [ $# -gt 0 ]; do
		o=$1
		shift
		case $o in
		--) continue ;;
		--?*) o=${o#-} ;;
		-?*) ;;
		*.vm) machine_file "$o"; continue ;;
		'') die 2 "empty argument" ;;
		*) put disk -hda "$o"; continue ;;
		esac
		case $o in
		# options without an argument
		-h|-help) . "$lib/help.sh"; help; exit 0 ;;
		-version) echo "Sluice vm-run version $version"; exit 0 ;;
		-print) print=1; continue ;;
		-nographic) nographic=1; continue ;;
		-nodefaults) nodefaults=1; continue ;;
		-daemonize) daemonize=on; continue ;;
		-no-reboot) reboot=exit; continue ;;
		-no-shutdown) shutdown=pause; continue ;;
		-no-hpet) nohpet=1; continue ;;
		-no-user-config|-nodefconfig) continue ;;
		-S) start=off; continue ;;
		-snapshot) snapshot=on; continue ;;
		# options with one
		-machine|-M|-accel|-cpu|-m|-smp|-kernel|-initrd|-append|\
		-name|-uuid|-drive|-blockdev|-hd[abcd]|-device|-object|-chardev|-serial|\
		-monitor|-mon|-parallel|-debugcon|-display|-vga|-pidfile|\
		-action|-d|-D|-rtc|-fw_cfg|-nic|-net|-netdev|-user-data|-tb-size)
			;;
		*)
			later "$o"
			die 2 "$o: unknown option" ;;
		esac
		[ $# -gt 0 ] || die 2 "$o: needs an argument"
		a=$1
		shift
		case $o in
		-machine|-M) machine_type ;;
		-accel) accel_list ;;
		-cpu) cpu_model ;;
		-m) memory ;;
		-smp) processors ;;
		-kernel) kernel=$a ;;
		-initrd) initrd=$a given_initrd=1 ;;
		-append) append=$a given_append=1 ;;
		-name) guest_name ;;
		-uuid) guest_uuid ;;
		-drive|-blockdev|-hd[abcd]) put disk "$o" "$a" ;;
		-device) device ;;
		-object) object ;;
		-user-data) user_data=$a ;;
		-chardev) chardev ;;
		-serial)
			[ $nserial -lt 4 ] || die 2 "-serial: more than four"
			eval "serial$nserial=\$a"
			nserial=$((nserial + 1)) ;;
		-monitor) monitor "$a" ;;
		-mon) mon ;;
		-parallel) only -parallel "$a" none ;;
		-debugcon) debugcon=$a ;;
		-display) only -display "$a" none; nodisplay=1 ;;
		-vga) only -vga "$a" none ;;
		-nic) nic ;;
		-net) net ;;
		-netdev) netdev ;;
		-pidfile) pidfile=$a ;;
		-action) action ;;
		-d) log_items ;;
		-D) logfile=$a ;;
		-rtc) rtc ;;
		-fw_cfg) fw_cfg ;;
		-tb-size) tb_size -tb-size "$a" ;;
		esac
	done
	disks
}

machine_type() {
	rest=$a
	case $a in
	help|'?')
		echo "pc      standard PC: I440FX and PIIX3, 1996 (the default)"
		exit 0 ;;
	esac
	implied=type
	while next_kv; do
		case $k in
		type)
			case $v in
			pc) ;;
			q35|isapc|microvm|none|pc-*|x-remote|xenfv*|xenpv)
				not_yet "$o $v" ;;
			*) die 2 "$o $v: unknown machine; $o help lists them" ;;
			esac ;;
		accel) accels "$v" ;;
		hpet) onoff "$o hpet" "$v" "$has"
			case $n in off) nohpet=1 ;; *) nohpet= ;; esac ;;
		acpi) onoff "$o acpi" "$v" "$has"
			[ $n = on ] || bad_key "$o" ;;
		usb|graphics|nvdimm|vmport) onoff "$o $k" "$v" "$has"
			[ $n = off ] || bad_key "$o" ;;
		*) bad_key "$o" ;;
		esac
	done
}

# accels NAME[:NAME...]: the first that can be had
accels() {
	list=$1
	while :; do
		one=${list%%:*}
		case $one in
		translate|tcg) accel=translate; return ;;
		check) accel=check; return ;;
		kvm|xen|hax|hvf|nvmm|whpx|qtest) ;;
		*) die 2 "-accel $one: unknown accelerator; -accel help lists them" ;;
		esac
		case $list in
		*:*) list=${list#*:} ;;
		*) not_yet "-accel $1" ;;
		esac
	done
}

accel_list() {
	case $a in
	help|'?')
		echo "translate  translate guest code to host code (the default; tcg is the same)"
		echo "check      translate, and compare every block with single steps"
		exit 0 ;;
	esac
	rest=$a implied=accel
	while next_kv; do
		case $k in
		accel) accels "$v" ;;
		thread) only "-accel thread" "$v" "multi" ;;
		tb-size) tb_size "-accel tb-size" "$v" ;;
		# of the vcpu, one by one
		slots|tiers|regions|groups|chain|calls|jcache|lazy|runs|inline|liveness|crossing|\
		sampling|global)
			onoff "-accel $k" "$v" "$has"
			switches="$switches $k=$n" ;;
		perfmap|count) onoff "-accel $k" "$v" "$has"
			switches="$switches $k=$n" ;;
		symbols) symbols=$v ;;
		*) bad_key -accel ;;
		esac
	done
}

tb_size() {
	number "$1" "$2" 4 1024
	tbsize=${n}M
}

cpu_model() {
	case $a in
	help|'?')
		[ -x "$libexec/vcpu-x86_64" ] ||
			die 1 "$libexec/vcpu-x86_64: program missing"
		exec "$libexec/vcpu-x86_64" --cpu help ;;
	'') die 2 "-cpu: needs a model" ;;
	esac
	model=$a
}

memory() {
	rest=$a implied=size
	while next_kv; do
		case $k in
		size) size -m "$v" M
			[ $n -ge 1048576 ] || die 2 "-m $v: less than 1M"
			[ $n -le 1099511627776 ] || die 2 "-m $v: more than 1T"
			case $((n % 1048576)) in
			0) mem=$((n / 1048576))M ;;
			*) mem=$(((n + 4095) / 4096 * 4))k ;;
			esac ;;
		*) bad_key -m ;;
		esac
	done
	[ "$mem" ] || die 2 "-m $a: no size"
}

processors() {
	cpus= sockets= cores= dies= clusters= threads= maxcpus=
	rest=$a implied=cpus
	while next_kv; do
		case $k in
		cpus|sockets|cores|threads|maxcpus|dies|clusters)
			number "-smp $k" "$v" 1 255
			eval "$k=\$n" ;;
		*) bad_key -smp ;;
		esac
	done
	for k in dies clusters; do
		eval "v=\${$k:-1}"
		[ "$v" = 1 ] || not_yet "-smp $k=$v"
	done
	# what was not said follows: cores before sockets
	total=${maxcpus:-$cpus}
	if [ ! "$total" ]; then
		sockets=${sockets:-1} cores=${cores:-1} threads=${threads:-1}
		total=$((sockets * cores * threads))
		number "-smp $a" $total 1 255
	elif [ ! "$cores" ]; then
		sockets=${sockets:-1} threads=${threads:-1}
		cores=$((total / (sockets * threads)))
	elif [ ! "$sockets" ]; then
		threads=${threads:-1}
		sockets=$((total / (cores * threads)))
	elif [ ! "$threads" ]; then
		threads=$((total / (sockets * cores)))
	fi
	[ $((sockets * cores * threads)) = "$total" ] ||
		die 2 "-smp $a: $sockets sockets * $cores cores * $threads threads are not $total CPUs"
	cpus=${cpus:-$total}
	[ "$total" -ge "$cpus" ] ||
		die 2 "-smp $a: maxcpus is less than cpus"
	[ "$total" = "$cpus" ] || not_yet "-smp maxcpus=$maxcpus: CPUs to plug in"
}

guest_name() {
	rest=$a implied=guest
	while next_kv; do
		case $k in
		guest) name=$v ;;
		process|debug-threads) ;;	# each process says its role
		*) bad_key -name ;;
		esac
	done
	check_name
}

check_name() {
	case $name in
	''|.*|-*|*[!A-Za-z0-9_.+@=-]*)
		die 2 "-name $name: letters, digits and _.+@=- expected" ;;
	?????????????????????????????????????????????????*)
		die 2 "-name $name: longer than 48" ;;
	esac
}

guest_uuid() {
	h4='[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]'
	case $a in
	$h4$h4-$h4-$h4-$h4-$h4$h4$h4) uuid=$a ;;
	*) die 2 "-uuid $a: not a UUID" ;;
	esac
}

action() {
	rest=$a
	while next_kv; do
		case $k=$v in
		reboot=reset) reboot=reset ;;
		reboot=shutdown) reboot=exit ;;
		shutdown=poweroff|shutdown=pause) shutdown=$v ;;
		panic=pause|panic=none) panic=$v ;;
		panic=exit-failure|panic=shutdown) panic=exit ;;
		*) bad_key -action ;;
		esac
	done
}

log_items() {
	case $a in
	help|'?')
		echo "guest_errors  what the guest asked of a chip and the chip has not got"
		echo "unimp         what this machine does not do yet"
		exit 0 ;;
	esac
	list=$a
	while :; do
		only -d "${list%%,*}" "guest_errors unimp"
		case $list in
		*,*) list=${list#*,} ;;
		*) break ;;
		esac
	done
	logitems=$a
}

rtc() {
	rest=$a implied=base
	while next_kv; do
		case $k in
		base)
			case $v in
			utc|localtime) ;;
			[12][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]) ;;
			[12][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]) ;;
			*) die 2 "-rtc base=$v: utc, localtime or YYYY-MM-DD[THH:MM:SS] expected" ;;
			esac
			rtcbase="$v${rtcbase#"${rtcbase%% *}"}" ;;
		clock) only "-rtc clock" "$v" "host vm"
			rtcbase="${rtcbase:-utc} clock=$v" ;;
		driftfix) only "-rtc driftfix" "$v" none ;;
		*) bad_key -rtc ;;
		esac
	done
}

fw_cfg() {
	rest=$a implied=name fname= fkey= fval=
	while next_kv; do
		case $k in
		name) fname=$v ;;
		file|string)
			[ ! "$fkey" ] || die 2 "-fw_cfg $a: file or string, not both"
			fkey=$k fval=$v ;;
		*) bad_key -fw_cfg ;;
		esac
	done
	[ "$fname" ] && [ "$fkey" ] ||
		die 2 "-fw_cfg $a: name and one of file and string expected"
	case $fname in
	*,*|*=*|????????????????????????????????????????????????????????*)
		die 2 "-fw_cfg name=$fname: bad name" ;;
	esac
	[ "$fkey" = string ] || put files -fw_cfg "r:$fval"
	quote "$fkey.$fname=$fval"
	fwcfg="$fwcfg $q"
}

# A machine file: its statements come first, those of the options after them.
machine_file() {
	[ ! "$file_machine" ] || die 2 "$1: a second machine file"
	[ -f "$1" ] || die 2 "$1: no such machine file"
	[ -r "$1" ] || die 1 "$1: cannot read"
	file_machine= lineno=0
	while IFS= read -r line || [ "$line" ]; do
		lineno=$((lineno + 1))
		while :; do
			case $line in
			[\ \	]*) line=${line#?} ;;
			*) break ;;
			esac
		done
		case $line in
		''|\#*) continue ;;
		name\ *) name=${line#name } file_name=$name ;;
		part\ *" dev="*) c=${line#* dev=}; chips="$chips ${c%% *}"
			c=${line#part }; taken="$taken ${c%% *} " ;;
		part\ *) die 2 "$1:$lineno: part without dev=" ;;
		uuid\ *|ram\ *|cpu\ *|boot\ *|run\ *|log\ *) ;;
		*) die 2 "$1:$lineno: unknown statement: ${line%% *}" ;;
		esac
		file_machine=$file_machine$nl$line
	done <"$1"
	file_machine=${file_machine#"$nl"}
	[ "$file_machine" ] || die 2 "$1: an empty machine file"
	[ ! "$name" ] || check_name
}

# later OPTION: refuse what the manual has and this machine has not yet
later() {
	case ${1#-} in
	acpi-table|acpitable|add-fd|alt-grab|async-teardown|audio|audio-help|audiodev|balloon|bios|\
	boot|bootp|bt|cdrom|chroot|clock|compat|ctrl-grab|curses|\
	dfilter|display|drive|dtb|dump-vmstate|echr|enable-fips|enable-hax|\
	enable-kvm|enable-sync-profile|fda|fdb|fsdev|full-screen|g|gdb|\
	global|icount|incoming|iscsi|k|kvm-shadow-memory|L|loadvm|localtime|\
	mem-path|mem-prealloc|msg|mtdblock|no-acpi|no-fd-bootchk|\
	no-frame|no-kvm|no-quit|numa|old-param|only-migratable|option-rom|\
	overcommit|perfmap|pflash|plugin|portrait|preconfig|prom-env|qmp|\
	qmp-pretty|qtest|qtest-log|readconfig|realtime|redir|rotate|\
	rtc-td-hack|run-with|runas|s|sandbox|sd|sdl|seed|semihosting|\
	semihosting-config|set|show-cursor|singlestep|smb|smbios|\
	soundhw|spice|startdate|std-vga|tdf|tftp|tpmdev|trace|\
	trace-unassigned|usb|usbdevice|virtfs|virtfs_synth|virtioconsole|\
	vnc|watchdog|watchdog-action|win2k-hack|writeconfig|xen-attach|\
	xen-create|xen-domid|xen-domid-restrict|jitdump)
		not_yet "$1" ;;
	esac
}
