# Character back ends and who uses them: -chardev, -serial, -monitor, -mon.

stdio_user=

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
	rest=$a implied=chardev mn_id=
	while next_kv; do
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
