# The corpus: the command lines of t/corpus/*.txt through the peer and through
# ours, in twin directories; standard output, standard error and exit code are the
# same.
#
#	== NAME		from here on in empty directories
#	img WORDS	qemu-img and vm-img; likewise io, nbd
#	! COMMAND	changes both directories alike
#	@ FORMAT FILE	both files have the same content for the peer, and ours is
#			clean for it
#	~ REASON: img WORDS	differs, and is to: only the exit code must be the
#			same, or with ~~ not even that
#	#		a comment
load img-peer

setup() { peer_setup; }

content() {
	local f
	for f in "$P" "$O"; do
		(cd "$f" && qemu-img convert -f "$1" -O raw "$2" .raw) || return 1
	done
	cmp "$P/.raw" "$O/.raw" || return 1
	case $1 in qcow2|qed|vdi|vhdx|vmdk) (cd "$O" && qemu-img check -q -f "$1" "$2") ;; esac
}

# on purpose CODE TOOL WORD...: it does differ, with the same exit code or not
on_purpose() {
	local code=$1 t=$2 a=0 b=0
	shift 2
	(cd "$P" && timeout 60 "qemu-$t" "$@") >"$P/.o" 2>"$P/.e" </dev/null || a=$?
	(cd "$O" && timeout 60 "$B/vm-$t" "$@") >"$O/.o" 2>"$O/.e" </dev/null || b=$?
	[ "$code" = '~~' ] || [ $a -eq $b ] || { echo "exit $a, ours $b"; return 1; }
	! diff <(peer_norm "$P/.o" "$P/.e") <(peer_norm "$O/.o" "$O/.e") >/dev/null &&
		[ $b -lt 124 ]
}

# nothing is left behind that the peer has not left
leftovers() {
	local more
	more=$(comm -13 <(cd "$P" && ls) <(cd "$O" && ls))
	[ ! "$more" ] || { echo "only ours left: $more"; return 1; }
}

corpus() {
	local line bad=0 n=0 f="$BATS_TEST_DIRNAME/corpus/$1.txt" done=0
	while IFS= read -r line; do
		n=$((n + 1))
		case $line in
		'== '*)
			leftovers || { echo "$1.txt:$n: before $line"; bad=1; }
			rm -rf "$P" "$O"
			mkdir "$P" "$O"
			continue ;;
		''|'#'*) continue ;;
		'img '*|'io '*|'nbd '*|img|io|nbd) eval "same $line" ;;
		'! '*) both sh -ec "${line#! }" ;;
		'@ '*) content ${line#@ } ;;
		'~'*) eval "on_purpose '${line%% *}' ${line#*: }" ;;
		*) echo "what is this?"; false ;;
		esac || { echo "$1.txt:$n: $line"; bad=1; }
		done=$((done + 1))
	done <"$f"
	leftovers || bad=1
	echo "$done lines of $1.txt"
	return $bad
}

@test "create" { corpus create; }
@test "info" { corpus info; }
@test "map" { corpus map; }
@test "convert" { corpus convert; }
@test "compare" { corpus compare; }
@test "check" { corpus check; }
@test "resize" { corpus resize; }
@test "snapshot" { corpus snapshot; }
@test "bitmap" { corpus bitmap; }
@test "rebase" { corpus rebase; }
@test "amend" { corpus amend; }
@test "measure" { corpus measure; }
@test "dd" { corpus dd; }
@test "bench" { corpus bench; }
@test "io" { corpus io; }
@test "io: numbers, options, formats" { corpus io-more; }
@test "nbd" { corpus nbd; }
@test "every file of the corpus is run" {
	for f in "$BATS_TEST_DIRNAME"/corpus/*.txt; do
		f=${f##*/}
		grep -q "corpus ${f%.txt};" "$BATS_TEST_FILENAME"
	done
}
