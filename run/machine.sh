# What the options mean together: defaults, parts, and the machine file.

taken=' ' chips=

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
	case "$2, $3" in
	*" addr="*) ;;
	virtio-*|e1000,*|rtl8139,*|pcnet,*|ne2k_pci,*) free_slot; set -- "$1" "$2" "${3:+$3 }addr=$addr" ;;
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
	# one socket of cores goes without saying
	case $file_machine$sockets,$threads in 1,1) cores= threads= ;; esac
	w=
	[ ! "$model" ] || { quote "$model"; w="$w model=$q"; }
	w="$w${cpus:+ smp=$cpus}${cores:+ cores=$cores}${threads:+ threads=$threads}"
	w="$w${accel:+ accel=$accel}${tbsize:+ tb-size=$tbsize}$switches"
	[ ! "$symbols" ] || { quote "symbols=$symbols"; w="$w $q"
		put files "-accel symbols" "r:$symbols"; }
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
		add pvpanic pvpanic ''
		[ ! "$uuid" ] || fwcfg="$fwcfg uuid=$uuid"
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
		eval "x=\$late_i_$i dr=\$late_d_$i nd=\$late_t_$i m=\$late_m_$i"
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
		if [ "$base" = nic ]; then
			link=none
			[ ! "$nd" ] || use_net "-device $s" "$nd" "$part"
			card_mac "$m"
			cable "$nd"
			w="$q mac=$mac${w:+ $w}"
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
	cards
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

# What the files on the command line must be, before anything is started.
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
}
