# Networks and cards: -nic, -netdev, -net.
#
# A netdev is either a part of the machine (vm-slirp), or the other end of a wire
# that the card itself opens (dev/nic.h, vm-plug's words); a card names it by
# link=part:NAME or link=WIRE.

user_data= seeded= nonet= net_said= hub_cards=0 hub_nets= hub_nnets=0

card_list() {
	cat <<-X
	virtio-net-pci  virtio 1.2 over PCI (the default; virtio is the same)
	e1000           Intel 82540EM Gigabit Ethernet
	rtl8139         Realtek RTL8139C Fast Ethernet
	pcnet           AMD Am79C970A PCnet-PCI II
	ne2k_pci        NE2000 on PCI, Realtek RTL8029AS
	ne2k_isa        NE2000 on the ISA bus (-device only)
	X
}

# card_chip WHAT MODEL: $chip
card_chip() {
	case $2 in
	virtio|virtio-net|virtio-net-pci) chip=virtio-net ;;
	e1000|e1000-82540em) chip=e1000 ;;
	rtl8139|pcnet|ne2k_pci) chip=$2 ;;
	help|'?') card_list; exit 0 ;;
	e1000*|ne2k_isa|vmxnet3|i8255*|igb|tulip|sungem|usb-net|\
	virtio-net-pci-*)
		not_yet "$1 $2" ;;
	*) die 2 "$1 $2: unknown card; -nic model=help lists them" ;;
	esac
}

# mac_address WHAT MAC: $mac
mac_address() {
	case $2 in
	[0-9a-fA-F][02468aceACE]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]:[0-9a-fA-F][0-9a-fA-F]) ;;
	*) die 2 "$1=$2: not the address of a card, xx:xx:xx:xx:xx:xx" ;;
	esac
	mac=$2
	put macs "$2" 1
}

# one_word WHAT VALUE: commas divide the words of a wire
one_word() {
	case $2 in
	*,*) die 2 "$1=$2: a comma" ;;
	'') die 2 "$1: needs a value" ;;
	esac
}

# backend OPTION: a type and its keys off $rest into nb_type, nb_id, nb_words (of
# a part) or nb_link (of a wire); keys of a card into nb_mac, nb_model.
backend() {
	next_kv || die 2 "$1: needs a type"
	[ "$k" != type ] || kv=$v
	nb_type=$kv
	nb_id= nb_words= nb_link= nb_mac= nb_model= nb_addr= nb_name=
	nb_at= nb_far= nb_opts= nb_server=
	nb_up=/etc/qemu-ifup nb_down=/etc/qemu-ifdown nb_helper=
	t="$1 $nb_type"
	case $nb_type in
	user|socket|stream|dgram|vde|l2tpv3|tap|bridge|hubport) ;;
	vhost-user|vhost-vdpa|netmap|af-xdp|passt|vmnet-*)
		not_yet "$t" ;;
	help|'?') echo "user socket stream dgram vde l2tpv3 tap bridge hubport"; exit 0 ;;
	*) die 2 "$t: unknown network" ;;
	esac
	[ "$1,$nb_type" != -net,hubport ] || die 2 "$t: unknown network"
	while next_kv; do
		case $1,$k in
		-netdev,id|-nic,id|-net,name) nb_id=$v; continue ;;
		-nic,mac) mac_address "-nic mac" "$v"; nb_mac=$v; continue ;;
		-nic,model) card_chip "-nic model" "$v"; nb_model=$chip
			continue ;;
		-nic,addr) pci_slot "-nic addr" "$v"; nb_addr=$v; continue ;;
		esac
		backend_key
	done
	case $nb_type in
	user) return ;;
	socket|stream)
		[ "$nb_link" ] || nb_link=${nb_far:+stream:$nb_far$nb_server}
		[ "$nb_link" ] || die 2 "$t: needs an address"
		[ ! "$nb_opts" ] || [ ! "$nb_server" ] ||
			die 2 "$t: reconnect is a client's"
		nb_link=$nb_link$nb_opts
		[ ! "$nb_at" ] || [ "$nb_type" = stream ] ||
			nb_link=$nb_link$nb_at ;;
	dgram)
		[ "$nb_far" ] || die 2 "$t: needs remote."
		case $nb_far in
		22[4-9].*|23[0-9].*)
			nb_link=mcast:$nb_far
			[ ! "${nb_at%%:*}" ] || nb_link=$nb_link,local=${nb_at%%:*} ;;
		*) [ "$nb_at" ] || die 2 "$t: needs local."
			nb_link=dgram:$nb_at,remote=$nb_far ;;
		esac ;;
	vde) nb_link=vde:$nb_at$nb_opts ;;
	l2tpv3)
		[ "$nb_at" ] && [ "$nb_far" ] || die 2 "$t: needs src and dst"
		case $nb_opts in
		*,txsession=*) ;;
		*) die 2 "$t: needs txsession" ;;
		esac
		nb_link=l2tpv3:$nb_at,dst=$nb_far$nb_opts ;;
	hubport)
		[ "$nb_at" ] || die 2 "$t: needs hubid"
		nb_link=hub:hub$nb_at
		put hubs "hub$nb_at" 1
		[ ! "$nb_far" ] || nb_link="netdev:$nb_at:$nb_far" ;;
	tap)
		[ ! "$nb_helper" ] || {
			[ ! "$nb_at" ] || die 2 "$t: ifname or helper, not both"
			nb_link=bridge:${nb_far:-br0},helper=$nb_helper
			return
		}
		[ ! "$nb_far" ] || die 2 "$t: br is for helper"
		nb_link=tap:$nb_at
		[ "$nb_up" = no ] || nb_link=$nb_link,script=$nb_up
		[ "$nb_down" = no ] || nb_link=$nb_link,downscript=$nb_down ;;
	bridge)
		nb_link=bridge:${nb_far:-br0},helper=${nb_helper:-/usr/lib/qemu/qemu-bridge-helper} ;;
	esac
}

# backend_key: $k and $v are a key of nb_type
backend_key() {
	case $nb_type,$k in
	user,ipv[46]|user,restrict|user,loopback)
		onoff "$t,$k" "$v" "$has"
		nb_words="$nb_words $k=$n" ;;
	user,ipv6-net)
		case $v in
		*/64) v=${v%/64} ;;
		*/*) not_yet "$t,ipv6-net=$v" ;;
		esac
		quote "ipv6-prefix=$v"; nb_words="$nb_words $q" ;;
	user,ipv6-prefixlen) only "$t,$k" "$v" 64 ;;
	user,net|user,host|user,dns|user,dhcpstart|user,hostname|\
	user,domainname|user,dnssearch|user,bootfile|user,tftp|\
	user,tftp-server-name|user,hostfwd|user,guestfwd|user,ipv6-prefix|\
	user,ipv6-host|user,ipv6-dns|user,mtu|user,flows|user,user-data|user,smb|user,smbserver)
		[ "$v" ] || die 2 "$t,$k: needs a value"
		quote "$k=$v"
		nb_words="$nb_words $q" ;;
	socket,listen)
		one_word "$t,$k" "$v"
		case $v in *:*) ;; *) v=:$v ;; esac
		nb_link=stream:$v,server ;;
	socket,connect) one_word "$t,$k" "$v"; nb_link=stream:$v ;;
	socket,mcast) one_word "$t,$k" "$v"; nb_link=mcast:$v ;;
	socket,udp) one_word "$t,$k" "$v"; nb_far=$v nb_server= ;;
	socket,localaddr) one_word "$t,$k" "$v"
		nb_at=,local=$v
		[ ! "$nb_far" ] || { nb_link=dgram:$v,remote=$nb_far nb_at=; } ;;
	stream,server) onoff "$t,$k" "$v" "$has"
		nb_server=
		[ $n = off ] || nb_server=,server ;;
	stream,addr.type) only "$t,$k" "$v" "inet unix" ;;
	stream,addr.path|stream,addr.host) one_word "$t,$k" "$v"; nb_far=$v$nb_far ;;
	stream,addr.port) one_word "$t,$k" "$v"; nb_far=$nb_far:$v ;;
	stream,reconnect) number "$t,$k" "$v" 0 3600
		nb_opts=
		[ "$n" = 0 ] || nb_opts=,reconnect=$n ;;
	dgram,local.type|dgram,remote.type) only "$t,$k" "$v" "inet unix" ;;
	dgram,local.path|dgram,local.host) one_word "$t,$k" "$v"; nb_at=$v$nb_at ;;
	dgram,local.port) one_word "$t,$k" "$v"; nb_at=$nb_at:$v ;;
	dgram,remote.path|dgram,remote.host) one_word "$t,$k" "$v"; nb_far=$v$nb_far ;;
	dgram,remote.port) one_word "$t,$k" "$v"; nb_far=$nb_far:$v ;;
	vde,sock) one_word "$t,$k" "$v"; nb_at=$v ;;
	vde,port) number "$t,$k" "$v" 1 65535; nb_opts=,port=$n ;;
	l2tpv3,src) one_word "$t,$k" "$v"; nb_at=$v ;;
	l2tpv3,dst) one_word "$t,$k" "$v"; nb_far=$v ;;
	l2tpv3,srcport|l2tpv3,dstport|l2tpv3,txsession|l2tpv3,rxsession|\
	l2tpv3,txcookie|l2tpv3,rxcookie)
		one_word "$t,$k" "$v"; nb_opts=$nb_opts,$k=$v ;;
	l2tpv3,udp|l2tpv3,cookie64|l2tpv3,counter|l2tpv3,pincounter)
		onoff "$t,$k" "$v" "$has"
		[ $n = off ] || nb_opts=$nb_opts,$k ;;
	l2tpv3,ipv6) onoff "$t,$k" "$v" "$has" ;;	# the addresses say so
	hubport,hubid) number "$t,$k" "$v" 0 999; nb_at=$n ;;
	hubport,netdev) one_word "$t,$k" "$v"; nb_far=$v ;;
	tap,ifname) one_word "$t,$k" "$v"; nb_at=$v ;;
	tap,script) one_word "$t,$k" "$v"; nb_up=$v ;;
	tap,downscript) one_word "$t,$k" "$v"; nb_down=$v ;;
	tap,helper|bridge,helper) one_word "$t,$k" "$v"; nb_helper=$v ;;
	tap,br|bridge,br) one_word "$t,$k" "$v"; nb_far=$v ;;
	tap,vhost) onoff "$t,$k" "$v" "$has"; [ $n = off ] || bad_key "$t" ;;
	*) bad_key "$t" ;;
	esac
}

# net_filter: -object filter-KIND, $ob_type and the rest of its keys
net_filter() {
	nf_id= nf_net= nf_words= nf_in= nf_out= nf_file= nf_len=
	t="-object $ob_type"
	nf=${ob_type#filter-}
	while next_kv; do
		case $nf,$k in
		*,id) nf_id=$v ;;
		*,netdev) nf_net=$v ;;
		*,queue) only "$t,$k" "$v" "all rx tx"
			nf_words="$nf_words queue=$v" ;;
		*,status) only "$t,$k" "$v" "on off"
			nf_words="$nf_words status=$v" ;;
		dump,file) one_word "$t,$k" "$v"; nf_file=$v ;;
		dump,maxlen) number "$t,$k" "$v" 1 65536; nf_len=,snap=$n ;;
		buffer,interval) number "$t,$k" "$v" 1 3600000000
			nf_words="$nf_words interval=$n" ;;
		mirror,outdev|redirector,outdev) nf_out=$v ;;
		redirector,indev) nf_in=$v ;;
		*) bad_key "$t" ;;
		esac
	done
	case $nf_id in
	''|*[!A-Za-z0-9_-]*|????????????????????????????????*)
		die 2 "$t: needs an id of at most 31 letters, digits and _-" ;;
	esac
	[ "$nf_net" ] || die 2 "$t: needs a netdev"
	! get filter_ids "$nf_id" || die 2 "$t,id=$nf_id: taken"
	put filter_ids "$nf_id" 1
	case $nf in
	dump)
		nf_file=${nf_file:-qemu-vlan0.pcap}
		nf_out=pcap:$nf_file$nf_len ;;
	buffer)
		case $nf_words in
		*interval=*) ;;
		*) die 2 "$t: needs an interval" ;;
		esac ;;
	mirror) [ "$nf_out" ] || die 2 "$t: needs outdev" ;;
	redirector)
		[ "$nf_in$nf_out" ] || die 2 "$t: needs indev or outdev"
		[ "$nf_in" != "$nf_out" ] || die 2 "$t: indev and outdev are one" ;;
	esac
	put net_filters "$nf_net" "$nf_id"
	eval "filter_kind_$net_filters_n=\$nf filter_words_$net_filters_n=\$nf_words"
	eval "filter_in_$net_filters_n=\$nf_in filter_out_$net_filters_n=\$nf_out"
}

# filter_wire WHAT CHARDEV: $link, the same socket as a wire
filter_wire() {
	resolve "$1" "chardev:$2"
	link=${spec%,nowait}
	case $link in
	unix:*) link=stream:${link#unix:} ;;
	tcp:*,telnet*|*,reconnect=*) not_yet "$1 $2: $link" ;;
	tcp:*) link=stream:${link#tcp:} ;;
	*) die 2 "$1=$2: not a socket" ;;
	esac
}

# filters ID: $filters, the words for the card on network ID
filters() {
	filters= fi=1
	while [ $fi -le ${net_filters_n:-0} ]; do
		eval "nf_net=\$net_filters_k_$fi nf_id=\$net_filters_v_$fi"
		eval "nf=\$filter_kind_$fi nf_words=\$filter_words_$fi"
		eval "nf_in=\$filter_in_$fi nf_out=\$filter_out_$fi"
		fi=$((fi + 1))
		[ "$nf_net" = "$1" ] || continue
		put filters_used "$nf_id" 1
		p=filter.$nf_id
		filters="$filters $p.kind=$nf"
		for nf_word in $nf_words; do
			filters="$filters $p.$nf_word"
		done
		for nf_end in in out; do
			eval "v=\$nf_$nf_end"
			[ "$v" ] || continue
			case $v in
			pcap:*) link=$v ;;
			*) filter_wire "-object filter-$nf,${nf_end}dev" "$v" ;;
			esac
			quote "$p.$nf_end=$link"
			filters="$filters $q"
		done
	done
}

# keep_net: a network for a card to name
keep_net() {
	! get nets "$nb_id" || die 2 "$1 id=$nb_id: taken"
	put nets "$nb_id" "$nb_link"
	put net_words "$nb_id" "${nb_words# }"
}

# keep_card: a card on the network nb_id, or on the hub
keep_card() {
	put cards "$nb_id" "${nb_model:-virtio-net}"
	eval "card_mac_$cards_n=\$nb_mac card_addr_$cards_n=\$nb_addr"
	eval "card_name_$cards_n=\$nb_name"
}

netdev() {
	net_said=1 rest=$a
	backend -netdev
	[ "$nb_id" ] || die 2 "$t: needs an id"
	keep_net -netdev
}

# unnamed_net: an id for a network nobody names
unnamed_net() {
	[ ! "$nb_id" ] || return 0
	i=0
	while get nets net$i; do i=$((i + 1)); done
	nb_id=net$i
}

nic() {
	case $a in
	none) nonet=1; return ;;
	model=help|help|'?') card_list; exit 0 ;;
	esac
	net_said=1 rest=$a
	backend -nic
	unnamed_net
	keep_net -nic
	keep_card
}

# -net nic and -net user meet on hub 0; there is none if they are one of a kind
net() {
	case $a in
	none) nonet=1; return ;;
	esac
	net_said=1 rest=$a
	case $a in
	nic|nic,*) ;;
	*)
		backend -net
		unnamed_net
		keep_net -net
		hub_nets="$hub_nets $nb_id" hub_nnets=$((hub_nnets + 1))
		return ;;
	esac
	next_kv
	nb_id= nb_mac= nb_model= nb_addr= nb_name=
	while next_kv; do
		case $k in
		netdev) nb_id=$v ;;
		macaddr) mac_address "-net nic,macaddr" "$v"; nb_mac=$v ;;
		model) card_chip "-net nic,model" "$v"; nb_model=$chip ;;
		name) nb_name=$v ;;
		addr) pci_slot "-net nic,addr" "$v"; nb_addr=$v ;;
		*) bad_key "-net nic" ;;
		esac
	done
	[ "$nb_id" ] || hub_cards=$((hub_cards + 1))
	keep_card
}

# use_net WHAT ID CARD: $link; the network's part, if it is one, is added.  A card
# may have the name of its network: then the part is ID.net.
use_net() {
	get nets "$2" || die 2 "$1,netdev=$2: no -netdev has this id"
	link=$value
	case $link in
	hub:*) return ;;
	netdev:*) die 2 "$1,netdev=$2: a hubport of another network" ;;
	esac
	! get net_used "$2" || die 2 "$1,netdev=$2: the network is in use already"
	put net_used "$2" 1
	if [ ! "$link" ]; then
		get net_words "$2"
		n=$2
		[ "$n" != "$3" ] || n=$n.net
		link=part:$n
		if [ "$user_data" ]; then
			quote "user-data=$user_data"
			value="${value:+$value }$q" seeded=1
		fi
		add "$n" slirp "$value"
	fi
}

# cable ID: $q, link= and filters of the card on network ID, whose $link it is
cable() {
	nf_link=$link
	filters "$1"
	quote "link=$nf_link"
	q="$q$filters"
}

# hub_wire HUB ID: the network ID is on it
hub_wire() {
	use_net "-netdev hubport" "$2" ''
	quote "wire=$link"
	get hub_wires "$1" || value=
	put hub_wires "$1" "${value:+$value }$q"
}

# The hubs of -netdev hubport and -net.
hubs() {
	i=1
	while [ $i -le ${nets_n:-0} ]; do
		eval "id=\$nets_k_$i link=\$nets_v_$i"
		i=$((i + 1))
		case $link in
		hub:*) put net_used "$id" 1 ;;
		netdev:*)
			put net_used "$id" 1
			hub=${link#netdev:}
			hub_wire "hub${hub%%:*}" "${hub#*:}" ;;
		esac
	done
	if [ $hub_cards -gt 1 ] || [ $hub_nnets -gt 1 ]; then
		put hubs hub0 1
		for id in $hub_nets; do
			hub_wire hub0 "$id"
		done
		hub_nets=hub
	fi
	i=1
	while [ $i -le ${hubs_n:-0} ]; do
		eval "hub=\$hubs_k_$i"
		i=$((i + 1))
		! get hubs_there "$hub" || continue
		put hubs_there "$hub" 1
		get hub_wires "$hub" || value=
		add "$hub" hub "$value"
	done
}

# card_mac MAC: $mac is it, or the next of ours
mac_next=86
card_mac() {
	mac=$1
	while [ ! "$mac" ]; do
		hex $mac_next 2
		mac=52:54:00:12:34:$h
		mac_next=$((mac_next + 1))
		! get macs "$mac" || mac=
	done
}

# The cards of -nic and -net, and the one that is there unless told otherwise.
cards() {
	if [ ! "$net_said$nonet$nodefaults$file_machine" ]; then
		nb_id=net0 nb_link= nb_words=
		keep_net -nic
		put cards net0 virtio-net
	fi
	hubs
	card=1
	while [ $card -le ${cards_n:-0} ]; do
		eval "id=\$cards_k_$card chip=\$cards_v_$card"
		eval "m=\$card_mac_$card at=\$card_addr_$card n=\$card_name_$card"
		card=$((card + 1))
		link=none
		[ "$id" ] || id=${hub_nets# }
		[ "$n" ] || part_name nic
		part=$n
		case $id in
		'') ;;
		hub) link=hub:hub0 ;;
		*) use_net "-net nic" "$id" "$part" ;;
		esac
		card_mac "$m"
		cable "$id"
		add "$part" "$chip" "$q mac=$mac${at:+ addr=$at}"
	done
	[ ! "$user_data" ] || [ "$seeded" ] ||
		die 2 "-user-data: there is no user network"
	i=1
	while [ $i -le ${net_filters_n:-0} ]; do
		eval "n=\$net_filters_k_$i id=\$net_filters_v_$i"
		get filters_used "$id" ||
			die 2 "-object filter id=$id: no card is on netdev=$n"
		i=$((i + 1))
	done
	i=1
	while [ $i -le ${nets_n:-0} ]; do
		eval "id=\$nets_k_$i"
		get net_used "$id" ||
			printf '%s: warning: network %s: no card uses it\n' \
				"$prog" "$id" >&2
		i=$((i + 1))
	done
}
