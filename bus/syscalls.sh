#!/bin/sh
# Collects the `#syscalls` comments of the sources into a table for sandbox.c:
# who may make which system call.  A line of a comment
#	#syscalls read write ...
# in bus/ or mem/ is for every part; in a dev/ file that is no chip, for every
# chip; in a chip, in cpu/ or in slirp/, for that program.

files() {
	grep -l '#syscalls' "$@" 2>/dev/null
}

table() {	# WHO FILE...
	who=$1
	shift
	[ $# -gt 0 ] || return 0
	sed -n 's/.*#syscalls *//p' "$@" | tr -s ' \t*/' '\n' |
	    grep -x '[a-z_0-9]*' | sort -u | while read -r s; do
		[ "$s" ] && printf '#ifdef SYS_%s\n\t{ "%s", SYS_%s },\n#endif\n' \
		    "$s" "$who" "$s"
	done
}

table "" $(files bus/*.c mem/*.c)
for f in $(files dev/*.c); do
	if grep -q '^DEV_MAIN' "$f"; then
		n=${f##*/}
		table "dev-${n%.c}" "$f"
	else
		table "dev-" "$f"
	fi
done
table "vcpu-" $(files cpu/*.c cpu/*/*.c)
table "vm-slirp" $(files slirp/*.c)
