# NBD over TLS, with certificates and with shared keys: our server and our clients
# among each other and beside QEMU's and libnbd's.
load nbd-tls

setup() {
	command -v qemu-nbd >/dev/null || skip "qemu-nbd is not installed"
	B="$PWD/build/bin"
	make -s build/bin/vm-nbd build/bin/vm-img build/bin/vm-io
	tls_setup
	cd "$BATS_TEST_TMPDIR"
	head -c 2000000 /dev/urandom > disk
	truncate -s 3M disk
	cp disk was
	servers=
}

teardown() { for p in $servers; do kill "$p" 2>/dev/null; done; wait; }

x509() { echo "--object tls-creds-x509,id=t,dir=$T/$1,endpoint=${2:-client}"; }
psk() { echo "--object tls-creds-psk,id=t,dir=$T/$1,endpoint=${2:-client}"; }

# serve TOOL OPTION...: the disk at a port of its own, $I the options of a client
serve() {
	local tool=$1 n
	shift
	port=$((20000 + RANDOM % 10000))
	"$tool" "$@" --tls-creds t -b 127.0.0.1 -p $port -t -e 0 -f raw disk \
		>"server.$port" 2>&1 3>&- &
	servers="$servers $!"
	for ((n = 0; n < 200; n++)); do
		(exec 5<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break
		sleep 0.05
	done
	at=127.0.0.1:$port
	I=driver=nbd,host=127.0.0.1,port=$port,tls-creds=t
}

# gets TOOL OPTION... : the whole disk is read
gets() {
	local tool=$1
	shift
	rm -f got
	timeout 60 "$tool" convert "$@" -O raw got
	cmp was got
}

# refused TEXT TOOL OPTION...: one line with TEXT
refused() {
	local text=$1 tool=$2
	shift 2
	run timeout 60 "$tool" convert "$@" -O raw got
	[ "$status" -eq 1 ]
	[[ $output == *"$text"* ]] || { echo "$output"; false; }
	[ "${#lines[@]}" -eq 1 ]
}

@test "our client and QEMU's server, certificates" {
	serve qemu-nbd $(x509 good server)
	gets "$B/vm-img" $(x509 good) --image-opts $I
	gets "$B/vm-img" $(x509 good) --image-opts $I,tls-hostname=localhost
	gets "$B/vm-img" "nbds://$at/?tls-certificates=$T/good"
	gets "$B/vm-img" $(x509 good),verify-peer=off --image-opts $I,tls-hostname=nobody
	"$B/vm-io" $(x509 good) --image-opts -c "write -q -P 7 1M 64k" -c flush $I
	! cmp -s disk was
	"$B/vm-io" $(x509 good) --image-opts -c "read -q -P 7 1M 64k" $I
	refused "not for the host 'nobody'" "$B/vm-img" $(x509 good) --image-opts $I,tls-hostname=nobody
	refused "not signed by an authority" "$B/vm-img" $(x509 other) --image-opts $I
	refused "may not accept this client's" "$B/vm-img" $(x509 nocert) --image-opts $I
	refused "requires TLS" "$B/vm-img" nbd://$at/
	"$B/vm-nbd" -L -b 127.0.0.1 -p $port $(x509 good) --tls-creds t >o
	qemu-nbd -L -b 127.0.0.1 -p $port $(x509 good) --tls-creds t >p
	diff o p
}

@test "our client and QEMU's server, keys" {
	serve qemu-nbd $(psk psk server)
	gets "$B/vm-img" $(psk psk) --image-opts $I
	gets "$B/vm-img" $(psk psk),username=alice --image-opts $I
	gets "$B/vm-img" "nbds://alice@$at/?tls-psk-file=$T/psk/keys.psk"
	refused "TLS handshake failed" "$B/vm-img" $(psk psk2) --image-opts $I
	refused "Username bob not found" "$B/vm-img" $(psk psk),username=bob --image-opts $I
}

@test "QEMU's and libnbd's clients and our server, certificates" {
	serve "$B/vm-nbd" $(x509 good server)
	gets qemu-img $(x509 good) --image-opts $I
	qemu-img convert -n $(x509 good) --target-image-opts was $I
	nbdcopy "nbds://$at/?tls-certificates=$T/good" got
	cmp was got
	nbdinfo "nbds://$at/?tls-certificates=$T/good" | grep -q "with TLS"
	! nbdinfo "nbd://$at/" >/dev/null 2>&1
	! qemu-img info nbd://$at/ 2>/dev/null
	! nbdinfo "nbds://$at/?tls-certificates=$T/nocert" >/dev/null 2>&1
	! nbdinfo "nbds://$at/?tls-certificates=$T/other" >/dev/null 2>&1
	gets "$B/vm-img" $(x509 good) --image-opts $I
	refused "equire" "$B/vm-img" $(x509 nocert) --image-opts $I
	refused "TLS" "$B/vm-img" $(x509 other),verify-peer=off --image-opts $I
	refused "requires TLS" "$B/vm-img" nbd://$at/
	# many requests at once, both ways
	dd if=/dev/urandom of=new bs=1M count=3 status=none
	nbdcopy --requests=64 new "nbds://$at/?tls-certificates=$T/good"
	cmp new disk
}

@test "QEMU's and libnbd's clients and our server, keys" {
	serve "$B/vm-nbd" $(psk psk server) --object authz-simple,id=a,identity=alice \
		--tls-authz a
	gets qemu-img $(psk psk),username=alice --image-opts $I
	nbdcopy "nbds://alice@$at/?tls-psk-file=$T/psk/keys.psk" got
	cmp was got
	! qemu-img info $(psk psk) --image-opts $I 2>/dev/null
	refused "disconnected" "$B/vm-img" $(psk psk) --image-opts $I
	refused "TLS handshake failed" "$B/vm-img" $(psk psk2) --image-opts $I
}

@test "authorization by the name in a certificate, and without asking for one" {
	serve "$B/vm-nbd" $(x509 good server) --tls-authz a \
		--object authz-simple,id=a,identity=O=Example,,CN=client.example
	gets qemu-img $(x509 good) --image-opts $I
	serve "$B/vm-nbd" $(x509 good server) --tls-authz a \
		--object authz-simple,id=a,identity=CN=somebody
	! qemu-img info $(x509 good) --image-opts $I 2>/dev/null
	serve "$B/vm-nbd" $(x509 good server),verify-peer=no
	gets qemu-img $(x509 nocert) --image-opts $I
	gets "$B/vm-img" $(x509 nocert) --image-opts $I
}

@test "sockets of the host, and a server behind a server" {
	"$B/vm-nbd" $(x509 good server) --tls-creds t -k "$PWD/s" -t -f raw disk 3>&- &
	servers="$servers $!"
	for ((n = 0; n < 200; n++)); do [ -S s ] && break; sleep 0.05; done
	gets "$B/vm-img" "nbds+unix:///?socket=$PWD/s&tls-certificates=$T/good&tls-hostname=localhost"
	refused "needs tls-hostname" "$B/vm-img" "nbds+unix:///?socket=$PWD/s&tls-certificates=$T/good"
	"$B/vm-nbd" --fork --pid-file=pid $(x509 good) -k "$PWD/plain" -t --image-opts \
		driver=nbd,path="$PWD/s",tls-creds=t,tls-hostname=localhost
	servers="$servers $(cat pid)"
	nbdcopy "nbd+unix:///?socket=$PWD/plain" got
	cmp was got
}

@test "bad objects and options have one line" {
	bad() {
		local text=$1
		shift
		run timeout 20 "$B/vm-nbd" "$@" -k "$PWD/s" -f raw disk
		[ "$status" -eq 1 ]
		[[ $output == *"$text"* ]] || { echo "$output"; false; }
		[ "${#lines[@]}" -eq 1 ]
	}
	bad "No TLS credentials with id 'x'" --tls-creds x
	bad "is not TLS credentials" --object secret,id=x,data=y --tls-creds x
	bad "Expecting TLS credentials with a server endpoint" $(x509 good) --tls-creds t
	bad "server-cert.pem has expired" $(x509 old server) --tls-creds t
	bad "Unable to access credentials $T/nocert/server-cert.pem" $(x509 nocert server)
	bad "Unable to access credentials $T/psk2/no/keys.psk" $(psk psk2/no server)
	bad "Unable to access credentials /nowhere/ca-cert.pem" \
		--object tls-creds-x509,id=t,dir=/nowhere,endpoint=server
	bad "username should not be set" $(psk psk server),username=x
	bad "'endpoint' does not accept value 'both'" $(x509 good both)
	bad "invalid parameter 'colour'" $(x509 good server),colour=red
	bad "'qom-type' does not accept value 'tls-creds-anon'" --object tls-creds-anon,id=t
	bad "not permitted without --tls-creds" --object authz-simple,id=a,identity=b --tls-authz a
	bad "No authorization with id 'z'" $(x509 good server) --tls-creds t --tls-authz z
	bad "TLS hostname is only supported" $(x509 good server) --tls-creds t --tls-hostname x
	run "$B/vm-img" info nbds://localhost/
	[ "$status" -eq 1 ]
	[[ $output == *"TLS needs credentials"* ]]
	cp -r "$T/good" k
	echo junk >k/server-key.pem
	bad "Cannot load certificate" --object tls-creds-x509,id=t,dir=k,endpoint=server
	echo junk >k/server-cert.pem
	bad "Cannot load certificate k/server-cert.pem" --object tls-creds-x509,id=t,dir=k,endpoint=server
}
