# Words: comma lists, quoting, sizes.  A function leaves its answer in a
# variable, since $(...) would fork.

implied=

# next_kv: take the next item of the comma list in $rest; sets $k and $v, and
# $has to "=" when there was one.  A doubled comma stands for one comma.  The
# first item may be the value alone of the key in $implied.
next_kv() {
	[ "$rest" ] || { implied=; return 1; }
	kv=
	while :; do
		case $rest in
		*,*) kv=$kv${rest%%,*} rest=${rest#*,} ;;
		*) kv=$kv$rest rest=; break ;;
		esac
		case $rest in
		,*) kv=$kv, rest=${rest#,} ;;
		*) break ;;
		esac
	done
	k=${kv%%=*}
	case $kv in
	*=*) v=${kv#*=} has== ;;
	*) v= has=
		[ ! "$implied" ] || k=$implied v=$kv ;;
	esac
	implied=
	return 0
}

# quote STRING: $q is STRING as one word of the machine file
quote() {
	case $1 in
	*"$nl"*) die 2 "a newline in a value: $1" ;;
	'') q="''" ;;
	*[!A-Za-z0-9_./:,+@%=-]*)
		q= s=$1
		while :; do
			case $s in
			*\'*) q="$q${s%%\'*}'\\''" s=${s#*\'} ;;
			*) q="'$q$s'"; break ;;
			esac
		done ;;
	*) q=$1 ;;
	esac
}

# number WHAT VALUE MIN MAX: $n is VALUE, a decimal or 0x number
number() {
	case $2 in
	0[xX]*) n=${2#0[xX]}; case $n in
		''|*[!0-9a-fA-F]*|????????????????*)
			die 2 "$1: not a number: $2" ;;
		esac ;;
	''|*[!0-9]*|????????????????*) die 2 "$1: not a number: $2" ;;
	0?*) die 2 "$1: not a number: $2" ;;
	esac
	n=$(($2))
	[ "$n" -ge "$3" ] && [ "$n" -le "$4" ] ||
		die 2 "$1: $2 is not between $3 and $4"
}

# size WHAT VALUE UNIT: $n is VALUE in bytes; UNIT (k M G) if it has no suffix
size() {
	s=$2 unit=$3
	case $s in
	*[kK]) unit=k ;; *[mM]) unit=M ;; *[gG]) unit=G ;; *[tT]) unit=T ;;
	*[bB]) unit=b ;;
	esac
	s=${s%[kKmMgGtTbB]}
	case $s in
	*.*) frac=${s#*.} s=${s%%.*} ;;
	*) frac=0 ;;
	esac
	case $s in ''|*[!0-9]*|0?*|????????*) die 2 "$1: bad size: $2" ;; esac
	case $frac in ''|*[!0-9]*|????*) die 2 "$1: bad size: $2" ;; esac
	case $unit in
	b) m=1 ;; k) m=1024 ;; M) m=1048576 ;;
	G) m=1073741824 ;; T) m=1099511627776 ;;
	esac
	case $frac in
	??) frac=${frac}0 ;;
	?) frac=${frac}00 ;;
	esac
	while :; do
		case $frac in 0?*) frac=${frac#0} ;; *) break ;; esac
	done
	n=$((s * m + frac * m / 1000))
}

# hex N DIGITS: $h is N in hexadecimal, with at least so many digits
hex() {
	h= x=$1
	while [ $x -gt 0 ] || [ ${#h} -lt $2 ]; do
		case $((x % 16)) in
		10) h=a$h ;; 11) h=b$h ;; 12) h=c$h ;; 13) h=d$h ;; 14) h=e$h ;;
		15) h=f$h ;; *) h=$((x % 16))$h ;;
		esac
		x=$((x / 16))
	done
}

# onoff WHAT VALUE HAS: $n is on or off; an option without a value is on
onoff() {
	case $3$2 in
	''|=on|=yes|=true|=y) n=on ;;
	=off|=no|=false|=n) n=off ;;
	*) die 2 "$1=$2: on or off expected" ;;
	esac
}

# Small tables: put TABLE KEY VALUE; get TABLE KEY -> $value, or status 1.
put() {
	eval "count=\$((\${${1}_n:-0} + 1)); ${1}_n=\$count"
	eval "${1}_k_$count=\$2 ${1}_v_$count=\$3"
}
get() {
	eval "count=\${${1}_n:-0}"
	while [ "$count" -gt 0 ]; do
		eval "if [ \"\$${1}_k_$count\" = \"\$2\" ]; then
			value=\$${1}_v_$count; return 0
		fi"
		count=$((count - 1))
	done
	return 1
}
