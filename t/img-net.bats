# Images behind network protocols, served by the peers: qemu-nbd, nbdkit, ours,
# and python3's HTTP server.
load img-peer

setup() {
	peer_setup
	make -s build/bin/vm-nbd
	cd "$BATS_TEST_TMPDIR"
	S="$BATS_TEST_TMPDIR/s"
	U="nbd+unix://?socket=$S"
	pids=
}
teardown() { for p in $pids; do kill "$p" 2>/dev/null; done; wait; }

# serve FILE FORMAT OPTIONS: qemu-nbd on $S
serve() {
	local f=$1 t=$2
	shift 2
	rm -f "$S"
	qemu-nbd -t -e 8 -f "$t" -k "$S" "$@" "$f" 3>&- &
	pids="$pids $!" last=$!
	while [ ! -S "$S" ]; do sleep 0.02; done
}
unserve() { kill "$last"; wait "$last" || true; }
kit() {
	command -v nbdkit >/dev/null || skip "nbdkit is not installed"
	rm -f "$S"
	nbdkit -f -U "$S" "$@" 3>&- &
	pids="$pids $!" last=$!
	while [ ! -S "$S" ]; do sleep 0.02; done
}

@test "nbd: what it is called, what is said of it" {
	qemu-img create -q -f raw d 10M
	qemu-io -f raw -c "write -q -P 3 1M 1M" d
	serve d raw
	same_lines img <<X
info nbd:unix:$S
info --output=json $U
info nbd+unix:///?socket=$S
map nbd:unix:$S
map --output=json $U
info nbd:unix:/tmp/nosuch
info nbd:foo
info nbd:
info nbd://localhost:1
info nbd:localhost:1
info --image-opts driver=nbd,server.type=unix,server.path=$S,foo=1
info --image-opts driver=nbd,server.type=unix,server.path=$S
info --image-opts driver=nbd,path=$S
info --image-opts driver=nbd
info --image-opts driver=nbd,host=x,path=y
info --image-opts driver=nbd,server.type=inet,server.host=x
resize -f raw $U 20M
resize --shrink -f raw $U 5M
create -f raw $U 50M
X
	same_lines io <<X
-f raw -c 'read -P 3 1M 1M' -c 'write -P 4 3M 77' -c 'write -z 5M 1M' $U
-f raw -c 'read -P 4 3M 77' -c 'discard 1M 64k' -c map -c length $U
-f raw -c 'write 10M 1k' $U
X
	unserve
	serve d raw -r -x foo
	same img info nbd:unix:$S:exportname=foo
	same img info "nbd+unix:///foo?socket=$S"
	same io -c "read 0 1k" "nbd+unix:///foo?socket=$S"
	run "$B/vm-io" -f raw -c "write 0 1k" "nbd+unix:///foo?socket=$S"
	[ "$status" -eq 1 ]
	run "$B/vm-img" info "$U"
	[ "$status" -eq 1 ]
	[[ $output == *"Requested export not available"* ]]
}

@test "nbd: formats on servers of three makers, both ways" {
	head -c 5000000 /dev/urandom > r
	truncate -s 20M r
	for by in qemu-nbd nbdkit vm-nbd; do
		truncate -s 0 d; truncate -s 30M d
		rm -f "$S"
		case $by in
		qemu-nbd) serve d raw ;;
		nbdkit) kit file d ;;
		vm-nbd) "$B/vm-nbd" -t -e 8 -f raw -k "$S" d 3>&- &
			last=$! pids="$pids $!"
			while [ ! -S "$S" ]; do sleep 0.02; done ;;
		esac
		"$B/vm-img" convert -f raw -O qcow2 r "$U"
		"$B/vm-img" compare -f raw -F qcow2 r "$U"
		qemu-img compare -f raw -F qcow2 r "$U"
		qemu-img check -q "$U"
		"$B/vm-img" check -q "$U"
		"$B/vm-io" -c "write -q -P 9 1M 70000" -c "read -q -P 9 1M 70000" "$U"
		"$B/vm-img" convert -O raw "$U" o
		qemu-img convert -O raw "$U" p
		cmp o p
		"$B/vm-img" convert -n -f raw -O raw r "$U"
		unserve
		"$B/vm-img" compare -f raw -F raw r d
	done
}

@test "nbd: a server with large blocks, few and slow answers" {
	head -c 3000000 /dev/urandom > r
	truncate -s 8M r
	cp r d
	kit --filter=blocksize-policy --filter=delay file d blocksize-minimum=4096 \
		blocksize-maximum=64k blocksize-error-policy=error delay-read=2ms
	"$B/vm-img" compare -f raw -F raw r "$U"
	"$B/vm-io" -f raw -c "write -q -P 5 1000 10000" -c "write -q -P 6 4095 2" \
		-c "write -q -z 7M 5000" -c "read -q -P 5 5000 6000" "$U"
	qemu-io -f raw -c "write -q -P 5 1000 10000" -c "write -q -P 6 4095 2" \
		-c "write -q -z 7M 5000" r
	unserve
	cmp r d
	# no extents, no flush, no trim, no zero
	kit --filter=noextents --filter=nozero file d
	"$B/vm-img" compare -f raw -F raw r "$U"
	"$B/vm-io" -f raw -c "write -q -z 1M 1M" -c flush -c "discard -q 0 1M" "$U"
}

@test "nbd: a connection that breaks loses no request" {
	head -c 20M /dev/urandom > r
	truncate -s 20M d
	N="driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=$S,file.reconnect-delay=10"
	kit file d
	"$B/vm-img" convert -n -f raw --target-image-opts -r 10M r "$N" 3>&- &
	job=$! pids="$pids $job"
	for i in 1 2 3; do
		sleep 0.3
		kill -9 "$last"; wait "$last" || true
		sleep 0.3
		kit file d
	done
	wait $job
	unserve
	cmp r d
	# without a delay, and no server: an error, soon
	kit file d
	(sleep 0.5; kill -9 "$last") 3>&- &
	run timeout 10 "$B/vm-io" -f raw -c "sleep 1000" -c "read 0 1k" "$U"
	[ "$status" -eq 1 ]
	[[ $output == *"read failed: Input/output error"* ]]
}

@test "nbd: a server that lies, stops or says nothing" {
	cat > bad.py <<'X'
import os, socket, struct, sys
kind, path = sys.argv[1:]
s = socket.socket(socket.AF_UNIX)
s.bind(path + ".new"); s.listen(5); os.rename(path + ".new", path)
while True:
    c, _ = s.accept()
    try:
        if kind == "noise":
            c.sendall(os.urandom(100000))
        elif kind == "close":
            pass
        else:
            # oldstyle, then answers to nothing that was asked
            c.sendall(b"NBDMAGIC" + struct.pack(">QQI", 0x00420281861253, 1 << 20, 1) + b"\0" * 124)
            c.recv(4096)
            c.sendall(struct.pack(">IIQ", 0x67446698, 0, 0x4141414141414141) * 100)
    except OSError:
        pass
    c.close()
X
	for k in noise close reply; do
		rm -f "$S"
		python3 bad.py $k "$S" 3>&- &
		pids="$pids $!"
		while [ ! -S "$S" ]; do sleep 0.02; done
		run timeout 20 "$B/vm-img" info "$U"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	done
}

# A web server that knows ranges, or does what its argument says; its port is in
# the file `port'.
web() {
	cat > web.py <<'X'
import http.server, os, re, sys, time
kind = sys.argv[1]
n = 0
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_HEAD(self): self.go(False)
    def do_GET(self): self.go(True)
    def go(self, body):
        global n
        n += 1
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/r")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if kind == "cookie" and self.headers.get("Cookie") != "a=b":
            self.send_response(403)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        try:
            d = open("." + self.path, "rb").read()
        except OSError:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if kind == "flaky" and body and n % 3 == 0:
            return self.connection.close()
        m = re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if kind == "whole" and body:
            m = None
        if m:
            a, b = int(m[1]), min(int(m[2]), len(d) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {a}-{b}/{len(d)}")
            d = d[a:b + 1]
        else:
            self.send_response(200)
        if kind == "long" and body:
            d += b"x" * 100000
        if kind == "short" and body:
            d = d[:-1]
        if kind != "plain":
            self.send_header("Accept-Ranges", "bytes")
        if kind != "nosize" or body:
            self.send_header("Content-Length", str(len(d)))
        self.end_headers()
        if kind == "stall" and body:
            time.sleep(20)
        if body:
            self.wfile.write(d)
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), H)
open("port.new", "w").write(str(s.server_port))
os.rename("port.new", "port")
s.serve_forever()
X
	rm -f port
	python3 web.py "$1" 2>/dev/null 3>&- &
	pids="$pids $!" last=$!
	while [ ! -e port ]; do sleep 0.02; done
	W="http://127.0.0.1:$(cat port)"
}

@test "http: formats, overlays, ranges" {
	head -c 5000001 /dev/urandom > r
	qemu-img convert -f raw -O qcow2 r q
	web good
	"$B/vm-img" info "$W/q" > i
	grep -q "^image: $W/q" i
	grep -q "^file format: qcow2" i
	"$B/vm-img" check -q "$W/q" || [ $? = 0 ]
	"$B/vm-img" compare -f raw -F raw r "$W/r"
	"$B/vm-img" compare -f raw -F qcow2 r "$W/q"
	"$B/vm-img" compare -f raw -F raw r "$W/moved"
	"$B/vm-img" compare --image-opts driver=raw,file.filename=r \
		"driver=raw,file.driver=http,file.url=$W/r,file.readahead=0,file.timeout=3"
	"$B/vm-io" -r -f raw -c "read 4999990 11" "$W/r"
	"$B/vm-img" create -q -f qcow2 -b "$W/r" -F raw top
	"$B/vm-io" -c "write -q -P 3 1M 64k" top
	"$B/vm-img" convert -O raw top o
	cp r r2; truncate -s 5000192 r2
	qemu-io -f raw -c "write -q -P 3 1M 64k" r2
	cmp o r2
	"$B/vm-img" map --output=json "$W/r" | grep -q '"data": true, "offset": 0'
	run "$B/vm-img" info "$W/nosuch"
	[ "$status" -eq 1 ]
	[ "$output" = "vm-img: Could not open '$W/nosuch': CURL: Error opening file: The requested URL returned error: 404" ]
	run "$B/vm-io" -f raw -c "write 0 1k" "$W/r"
	[ "$status" -eq 1 ]
	[[ $output == *"curl driver does not support writes"* ]]
	run "$B/vm-img" create -f raw "$W/r" 1M
	[ "$status" -eq 1 ]
	# beside the peer, if it has the driver
	qemu-img info "$W/r" >/dev/null 2>&1 || return 0
	same_lines img <<X
info $W/q
info --output=json $W/r
map --output=json $W/r
info $W/nosuch
create -f raw $W/r 1M
resize -f raw $W/r 1M
convert -O raw $W/q $W/r
info --image-opts driver=http,url=$W/r,foo=1
X
}

@test "http: cookies, timeouts and bad servers" {
	head -c 700001 /dev/urandom > r
	web cookie
	run "$B/vm-img" info "$W/r"
	[ "$status" -eq 1 ]
	O="driver=raw,file.driver=http,file.url=$W/r"
	"$B/vm-img" compare --image-opts driver=raw,file.filename=r "$O,file.cookie=a=b"
	"$B/vm-img" compare --object secret,id=c,data=a=b --image-opts \
		driver=raw,file.filename=r "$O,file.cookie-secret=c"
	web flaky
	"$B/vm-img" compare -f raw -F raw r "$W/r"
	# what cannot be read is said, and nothing hangs
	for k in plain nosize; do
		web $k
		run timeout 10 "$B/vm-img" info "$W/r"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	done
	for k in whole long short; do
		web $k
		run timeout 10 "$B/vm-io" -r -f raw -c "read 1k 1k" "$W/r"
		[ "$status" -eq 1 ]
		[[ $output == *"Input/output error"* ]]
	done
	web stall
	run timeout 15 "$B/vm-io" -r --image-opts -c "read 1k 1k" \
		"driver=raw,file.driver=http,file.url=$W/r,file.timeout=1"
	[ "$status" -eq 1 ]
	for o in url=ftp://x/y readahead=1000,url=http://x timeout=99999,url=http://x \
	    cookie=a,cookie-secret=b,url=http://x readahead=1T,url=http://x; do
		run "$B/vm-img" info --image-opts "driver=http,$o"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	done
}

@test "ftp: ranges by REST" {
	cat > ftp.py <<'X'
import os, socket, socketserver
class H(socketserver.StreamRequestHandler):
    def say(self, s): self.wfile.write(s.encode() + b"\r\n")
    def handle(self):
        rest, data = 0, None
        self.say("220 hello")
        for line in self.rfile:
            w = line.decode().strip().split(" ", 1)
            c, a = w[0].upper(), w[1] if len(w) > 1 else ""
            path = "." + a if a.startswith("/") else a
            if c == "USER": self.say("331 password")
            elif c == "PASS": self.say("230 in")
            elif c == "PWD": self.say('257 "/"')
            elif c in ("TYPE", "CWD"): self.say("200 ok")
            elif c == "SIZE" and os.path.isfile(path): self.say(f"213 {os.path.getsize(path)}")
            elif c == "EPSV":
                data = socket.create_server(("127.0.0.1", 0))
                self.say(f"229 here (|||{data.getsockname()[1]}|)")
            elif c == "REST": rest = int(a); self.say("350 go on")
            elif c == "RETR" and data:
                f = open(path, "rb"); f.seek(rest)
                self.say("150 coming")
                d, _ = data.accept()
                try: d.sendall(f.read()); ok = True
                except OSError: ok = False
                d.close(); data.close(); data = None; rest = 0
                self.say("226 done" if ok else "426 broken off")
            elif c == "QUIT": return self.say("221 bye")
            else: self.say("550 no")
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
s = S(("127.0.0.1", 0), H)
open("port.new", "w").write(str(s.server_address[1]))
os.rename("port.new", "port")
s.serve_forever()
X
	head -c 3000001 /dev/urandom > r
	rm -f port
	python3 ftp.py 2>/dev/null 3>&- &
	pids="$pids $!"
	while [ ! -e port ]; do sleep 0.02; done
	F="ftp://127.0.0.1:$(cat port)"
	"$B/vm-img" compare -f raw -F raw r "$F/r"
	"$B/vm-io" -r -f raw -c "read 3000000 1" "$F/r"
	run timeout 10 "$B/vm-img" info "$F/nosuch"
	[ "$status" -eq 1 ]
}

# An SSH server with keys of its own, for whoever runs this.
sshd_start() {
	sshd=$(command -v sshd || echo /usr/sbin/sshd)
	[ -x "$sshd" ] || skip "sshd (openssh-server) is not installed"
	[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
	port=$((20000 + $$ % 20000))
	export HOME=$PWD/home
	mkdir -p -m 700 "$HOME/.ssh"
	ssh-keygen -q -t ed25519 -N '' -f host
	ssh-keygen -q -t ed25519 -N '' -f "$HOME/.ssh/id_ed25519"
	cp "$HOME/.ssh/id_ed25519.pub" keys
	cat > conf <<-X
	Port $port
	ListenAddress 127.0.0.1
	HostKey $PWD/host
	AuthorizedKeysFile $PWD/keys
	StrictModes no
	UsePAM no
	PasswordAuthentication no
	PermitRootLogin yes
	PidFile none
	Subsystem sftp internal-sftp
	X
	"$sshd" -D -e -f "$PWD/conf" 2>sshd.log 3>&- &
	pids="$pids $!"
	for _ in $(seq 100); do
		(exec 9<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
		sleep 0.1
	done
	H="ssh://127.0.0.1:$port$PWD"
}

@test "ssh: made, written, read; keys and what goes wrong" {
	sshd_start
	head -c 3000000 /dev/urandom > r
	truncate -s 5M r
	# the server is a stranger
	run "$B/vm-img" info "$H/r"
	[ "$status" -eq 1 ]
	[[ $output == *known_hosts* ]]
	"$B/vm-img" compare -f raw -F raw r "$H/r?host_key_check=no"
	hash=$(ssh-keygen -l -E md5 -f host.pub | cut -d' ' -f2)
	hash=$(echo "${hash#MD5:}" | tr A-F a-f)
	"$B/vm-img" info "$H/r?host_key_check=md5:$hash"
	run "$B/vm-img" info "$H/r?host_key_check=md5:00$hash"
	[ "$status" -eq 1 ]
	echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 host.pub)" > "$HOME/.ssh/known_hosts"
	"$B/vm-img" compare -f raw -F raw r "$H/r"
	"$B/vm-img" create -q -f qcow2 "$H/q" 5M
	"$B/vm-img" convert -n -f raw -O qcow2 r "$H/q"
	"$B/vm-img" compare -f raw -F qcow2 r "$H/q"
	qemu-img compare -f raw -F qcow2 r q
	"$B/vm-img" convert -f raw -O raw r "$H/c"
	cmp r c
	"$B/vm-io" -f raw -c "write -q -P 5 1000 100000" -c flush -c "read -q -P 5 1000 100000" "$H/c"
	qemu-io -f raw -c "read -q -P 5 1000 100000" c
	"$B/vm-img" resize -q -f raw "$H/c" 6M
	[ "$(stat -c %s c)" = 6291456 ]
	run "$B/vm-img" resize -f raw --shrink "$H/c" 1M
	[ "$status" -eq 1 ]
	O="driver=ssh,server.host=127.0.0.1,server.port=$port,path=$PWD/r"
	"$B/vm-img" info --image-opts "$O,host-key-check.mode=none"
	"$B/vm-img" info --image-opts "$O,host-key-check.mode=hash,host-key-check.type=md5,host-key-check.hash=$hash"
	for u in "$H/nosuch" "$H/r?foo=1" ssh:foo ssh://127.0.0.1:1/x "ssh://nobody@127.0.0.1:$port/x"; do
		run timeout 20 "$B/vm-img" info "$u"
		[ "$status" -eq 1 ]
		[ "${#lines[@]}" -eq 1 ]
	done
	for o in driver=ssh driver=ssh,host=x host-key-check.mode=x,$O host-key-check.mode=hash,$O; do
		run timeout 20 "$B/vm-img" info --image-opts "$o"
		[ "$status" -eq 1 ]
	done
	: > keys
	run timeout 20 "$B/vm-img" info "$H/r"
	[ "$status" -eq 1 ]
	[[ $output == *authenticate* ]]
}
