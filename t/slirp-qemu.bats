# QEMU's firmware as the guest: DHCP and TFTP boot over its stream and vde
# netdevs.
load switch-help

setup_file() { cd "$BATS_TEST_DIRNAME/.." && source t/switch-help.bash && net_build; }
setup() {
	net_setup
	need qemu-system-x86_64 socat
	mkdir "$S/t"
	printf '#!ipxe\necho SLUICE-BOOTED\nshell\n' >"$S/t/boot.ipxe"
}
teardown() { net_teardown; }

boot() {	# boot NETDEV
	start qemu-system-x86_64 -m 64 -nographic -monitor none \
	    -serial "file:$D/serial" -netdev "$1" \
	    -device e1000,netdev=n -boot n
	booted() { grep -aq SLUICE-BOOTED "$D/serial"; }
	local i
	for i in $(seq 6); do until_ok booted && return 0; done
	cat "$D/serial"
	return 1
}

@test "network boot over -netdev stream" {
	qemu-system-x86_64 -netdev help 2>&1 | grep -qx stream || skip "no -netdev stream"
	start "$B/vm-slirp" -M "$S/c" -o "tftp=$S/t,bootfile=boot.ipxe" "stream:$S/s,server"
	until_ok test -S "$S/c"
	boot "stream,id=n,addr.type=unix,addr.path=$S/s,server=off"
	run ctl "$S/c" info leases
	[[ $output == *"10.0.2.15 52:54:00:12:34:56"* ]]
}

@test "network boot over -netdev vde and vm-switch" {
	qemu-system-x86_64 -netdev help 2>&1 | grep -qx vde || skip "no -netdev vde"
	start "$B/vm-switch" -s "$S/a" -M "$S/a.m"
	until_ok test -S "$S/a.m"
	start "$B/vm-slirp" -o "tftp=$S/t,bootfile=boot.ipxe" "vde:$S/a"
	boot "vde,id=n,sock=$S/a"
	run mgmt "$S/a.m" port/print
	[[ $output == *"Port 0002"* ]]
}
