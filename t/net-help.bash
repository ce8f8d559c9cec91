# What the tests of networks in guests share.  T is the test's directory, in_net a
# command in front of what must run where the machines' network is.

load helpers

# serve ADDRESS: a web server of this host on a port of its choice, $port
serve() {
	mkdir -p "$T/www"
	echo "from the host" >"$T/www/hello"
	head -c 3000000 /dev/urandom >"$T/www/big"
	"${in_net[@]}" python3 - "$1" "$T/www" "$T/port" <<-'P' 3>&- 4>&- &
	import http.server, os, socket, sys
	os.chdir(sys.argv[2])
	class S(http.server.ThreadingHTTPServer):
	    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
	class H(http.server.SimpleHTTPRequestHandler):
	    def log_message(self, *a): pass
	s = S((sys.argv[1], 0), H)
	open(sys.argv[3] + "~", "w").write(str(s.server_address[1]))
	os.rename(sys.argv[3] + "~", sys.argv[3])
	s.serve_forever()
	P
	started="$started $!"
	until_true test -s "$T/port"
	port=$(cat "$T/port")
	rm "$T/port"
}

seen() {
	[[ $output == *"$1"* ]] || { printf 'not seen: %s in\n%s\n' "$1" "$output"; return 1; }
}

# in the guest: an address on eth0
up='ip link set lo up; udhcpc -i eth0 -n -q -t 20 -T 1 >/dev/null 2>&1'

# console NAME: what a machine in the background said
console() {
	output=$(tr -d '\r' <"$T/$1.con")
}

# machine NAME COMMAND OPTIONS: in the background, console in NAME.con
machine() {
	local name=$1 run=$2
	shift 2
	vm_start "$name" -m 192 -display none -serial "file:$T/$name.con" \
		-kernel "$guest/${kernel}vmlinuz" \
		-initrd "${initrd:-$guest/${kernel}initrd.img}" \
		-append "console=ttyS0 quiet $words vm.run=\"$run\"" "$@"
}

says() {
	tr -d '\r' <"$T/$1.con" | grep -qxF -- "$2"
}

# keep NAME SENT GOT: two files that should be the same outlive the test
keep() {
	mkdir -p "$top/build/kept"
	cp "$2" "$top/build/kept/$1.sent"
	cp --sparse=always "$3" "$top/build/kept/$1.got"
	echo "kept: build/kept/$1.sent and build/kept/$1.got"
}
