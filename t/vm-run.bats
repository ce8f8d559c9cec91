# vm-run: options become a machine file (PROTOCOL.md "Machine file"), and what
# cannot be done is refused in one line with the status the manual page states.

setup() {
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR/run
	mkdir "$XDG_RUNTIME_DIR"
	cd "$BATS_TEST_DIRNAME/.."
	make -s build/bin/vm-run build/share/vm/version
	vm=$PWD/build/bin/vm-run
	cd "$BATS_TEST_TMPDIR"
	echo kernel >k
	echo disk >d
}

# show OPTIONS: the machine file of a kernel with these options
show() {
	run "$vm" -print -kernel k "$@" </dev/null
	[ "$status" -eq 0 ]
}

has() {
	printf '%s\n' "$output" | grep -qxF -- "$1" || {
		printf 'no line: %s\nin:\n%s\n' "$1" "$output"
		return 1
	}
}

lacks() {
	[[ $output != *"$1"* ]]
}

# refuse STATUS MESSAGE OPTIONS: one line, exactly this
refuse() {
	local want=$1 text=$2
	shift 2
	run "$vm" "$@" </dev/null
	[ "$output" = "vm-run: $text" ] || {
		printf 'got:    %s\nwanted: vm-run: %s\n' "$output" "$text"
		return 1
	}
	[ "$status" -eq "$want" ]
	# nothing is left of a machine that did not start
	[ -z "$(ls -A "$XDG_RUNTIME_DIR")" ]
}

@test "a kernel alone is the default machine" {
	show
	[ "$output" = "ram size=128M
cpu model=max smp=1 accel=translate
boot kernel=k
run reboot=reset shutdown=poweroff panic=exit start=on
part hostbridge dev=hostbridge
part pm0 dev=pm
part rtc dev=rtc
part i8042 dev=i8042
part hpet dev=hpet
part pvpanic dev=pvpanic
part fwcfg dev=fwcfg
part uart0 dev=uart16550 index=0 chardev=null
part mon dev=monitor
part net0 dev=slirp
part nic0 dev=virtio-net link=part:net0 mac=52:54:00:12:34:56 addr=2" ]
}

@test "memory sizes" {
	show -m 512; has "ram size=512M"
	show -m 2G; has "ram size=2048M"
	show -m size=1.5G; has "ram size=1536M"
	show -m 5000k; has "ram size=5000k"
	show -m 16; has "ram size=16M"
	refuse 2 "-m 0: less than 1M" -kernel k -m 0
	refuse 2 "-m: bad size: many" -kernel k -m many
	refuse 2 "-m: bad size: -5" -kernel k -m -5
	refuse 2 "-m: bad size: 99999999M" -kernel k -m 99999999M
	refuse 2 "-m 2T: more than 1T" -kernel k -m 2T
	refuse 2 "-m: slots=2: not supported yet" -kernel k -m 512,slots=2
	refuse 2 "-m: maxmem=2G: not supported yet" -kernel k -m 512,maxmem=2G
}

@test "processors" {
	show -smp 4 -cpu qemu64,+avx2; has "cpu model=qemu64,+avx2 smp=4 accel=translate"
	show -smp cpus=2,sockets=2,cores=1,threads=1; has "cpu model=max smp=2 cores=1 threads=1 accel=translate"
	show -smp sockets=3; has "cpu model=max smp=3 cores=1 threads=1 accel=translate"
	show -smp 4,sockets=1,cores=2,threads=2; has "cpu model=max smp=4 cores=2 threads=2 accel=translate"
	show -smp 8,threads=2; has "cpu model=max smp=8 cores=4 threads=2 accel=translate"
	show -smp 8,sockets=2; has "cpu model=max smp=8 cores=4 threads=1 accel=translate"
	show -smp 8,cores=2; has "cpu model=max smp=8 cores=2 threads=1 accel=translate"
	show -smp cores=4,threads=2; has "cpu model=max smp=8 cores=4 threads=2 accel=translate"
	show -smp maxcpus=4; has "cpu model=max smp=4 accel=translate"
	show -smp 4,cores=4,maxcpus=4; has "cpu model=max smp=4 accel=translate"
	show -accel check; has "cpu model=max smp=1 accel=check"
	show -accel tcg,thread=multi,tb-size=64; has "cpu model=max smp=1 accel=translate tb-size=64M"
	show -M pc,accel=kvm:tcg; has "cpu model=max smp=1 accel=translate"
	show -tb-size 32; has "cpu model=max smp=1 accel=translate tb-size=32M"
	refuse 2 "-smp cpus: 0 is not between 1 and 255" -smp 0
	refuse 2 "-smp cpus: 256 is not between 1 and 255" -smp 256
	refuse 2 "-smp cpus: not a number: two" -smp two
	refuse 2 "-smp 4,cores=3: 1 sockets * 3 cores * 1 threads are not 4 CPUs" -smp 4,cores=3
	refuse 2 "-smp 2,sockets=3: 3 sockets * 0 cores * 1 threads are not 2 CPUs" -smp 2,sockets=3
	refuse 2 "-smp 4,maxcpus=2: maxcpus is less than cpus" -smp 4,maxcpus=2
	refuse 2 "-smp maxcpus=4: CPUs to plug in: not supported yet" -smp 2,maxcpus=4
	refuse 2 "-smp dies=2: not supported yet" -smp 4,dies=2
	refuse 2 "-smp sockets=8,cores=8,threads=8: 512 is not between 1 and 255" -smp sockets=8,cores=8,threads=8
	refuse 2 "-accel kvm: not supported yet" -accel kvm
	refuse 2 "-accel warp: unknown accelerator; -accel help lists them" -accel warp
	refuse 2 "-M q35: not supported yet" -M q35
	refuse 2 "-machine vax: unknown machine; -machine help lists them" -machine vax
	refuse 2 "-machine: kernel_irqchip=on: not supported yet" -machine pc,kernel_irqchip=on
}

@test "boot" {
	show -initrd d -append "console=ttyS0 root='/dev/v da' \"x\" \$HOME"
	has "boot kernel=k initrd=d append='console=ttyS0 root='\\''/dev/v da'\\'' \"x\" \$HOME'"
	refuse 2 "no -kernel: starting from firmware is not supported yet" -append x
	refuse 2 "no -kernel: starting from firmware is not supported yet" -m 64
	refuse 2 "no -kernel: starting from firmware is not supported yet"
	refuse 2 "-boot: not supported yet" -boot order=c
	refuse 2 "-bios: not supported yet" -bios x
}

@test "life of the machine" {
	show -name demo -no-reboot -no-shutdown -S -pidfile "p id"
	has "name demo"
	has "run reboot=exit shutdown=pause panic=exit start=off pidfile='p id'"
	show -name guest=g1,process=x; has "name g1"
	show -action reboot=shutdown,shutdown=pause,panic=none
	has "run reboot=exit shutdown=pause panic=none start=on"
	show -daemonize; has "run reboot=reset shutdown=poweroff panic=exit start=on daemonize=on"
	show -d guest_errors,unimp -D log; has "log items=guest_errors,unimp file=log"
	show -uuid 01234567-89ab-cdef-0123-456789abcdef
	has "uuid 01234567-89ab-cdef-0123-456789abcdef"
	refuse 2 "-uuid 123: not a UUID" -uuid 123
	refuse 2 "-name a/b: letters, digits and _.+@=- expected" -name a/b
	refuse 2 "-name : letters, digits and _.+@=- expected" -name ""
	refuse 2 "-action: watchdog=none: not supported yet" -action watchdog=none
	refuse 2 "-d in_asm: not supported yet" -d in_asm
}

@test "serial lines and monitors" {
	show -nographic; has "part uart0 dev=uart16550 index=0 chardev=mon:stdio"; has "part mon dev=monitor"
	show -serial stdio; has "part uart0 dev=uart16550 index=0 chardev=stdio"
	show -serial none; lacks uart
	show -nographic -serial null -monitor none -serial file:x
	has "part uart0 dev=uart16550 index=0 chardev=null"
	has "part uart1 dev=uart16550 index=1 chardev=file:x"
	has "part mon dev=monitor"
	show -serial pty -monitor stdio; has "part mon dev=monitor chardev=stdio"
	show -serial unix:/x,server,nowait; has "part uart0 dev=uart16550 index=0 chardev=unix:/x,server,nowait"
	show -monitor telnet::4444,server,nowait; has "part mon dev=monitor chardev=telnet::4444,server,nowait"
	show -nographic -serial tcp:host:1; has "part mon dev=monitor chardev=stdio"
	show -nodefaults; lacks uart
	refuse 2 "-serial telephone: unknown character device" -kernel k -serial telephone
	refuse 2 "-serial vc: not supported yet" -kernel k -serial vc
	refuse 2 "-monitor stdio: stdio is in use by -serial" -kernel k -serial stdio -monitor stdio
	refuse 2 "-serial mon:stdio: stdio cannot be used with -daemonize" -kernel k -daemonize -serial mon:stdio
	refuse 2 "-serial: more than four" -serial null -serial null -serial null -serial null -serial null
	refuse 2 "-parallel pty: not supported yet" -parallel pty
	refuse 2 "-qmp: not supported yet" -qmp stdio
}

@test "chardevs" {
	show -chardev socket,id=a,path=/s,server=on,wait=off -serial chardev:a
	has "part uart0 dev=uart16550 index=0 chardev=unix:/s,server,nowait"
	show -chardev socket,id=a,host=h,port=7,telnet=on -serial chardev:a
	has "part uart0 dev=uart16550 index=0 chardev=telnet:h:7"
	show -chardev udp,id=a,host=h,port=7,localport=8 -serial chardev:a
	has "part uart0 dev=uart16550 index=0 chardev=udp:h:7@:8"
	show -chardev file,id=a,path=/f,,g -serial chardev:a
	has "part uart0 dev=uart16550 index=0 chardev=file:/f,g"
	show -chardev stdio,mux=on,id=m,signal=off -serial chardev:m -mon chardev=m,mode=readline
	has "part uart0 dev=uart16550 index=0 chardev=mon:stdio"; has "part mon dev=monitor"
	show -chardev pty,id=m -mon m -serial none; has "part mon dev=monitor chardev=pty"
	refuse 2 "-serial chardev:z: no -chardev has id z" -kernel k -serial chardev:z
	refuse 2 "-serial chardev:a: in use already (mux=on shares it)" \
		-kernel k -chardev pty,id=a -serial chardev:a -serial chardev:a
	refuse 2 "-chardev id=a: taken" -chardev pty,id=a -chardev null,id=a
	refuse 2 "-chardev pty: needs an id" -chardev pty
	refuse 2 "-chardev ringbuf: not supported yet" -chardev ringbuf,id=a
	refuse 2 "-chardev magic: unknown back end" -chardev magic,id=a
	refuse 2 "-chardev file: needs a path" -chardev file,id=a
	refuse 2 "-chardev null: logfile=x: not supported yet" -chardev null,id=a,logfile=x
	refuse 2 "-mon mode control: not supported yet" -mon chardev=a,mode=control
}

@test "drives" {
	show -hda d -hdc d2; has "part disk0 dev=virtio-blk file=d addr=2"; has "part disk1 dev=virtio-blk file=d2 addr=3"
	show d; has "part disk0 dev=virtio-blk file=d addr=2"
	show -drive file=a,,b,format=raw -drive if=virtio,file=c,readonly=on,serial=s1,id=root
	has "part disk0 dev=virtio-blk file=a,b format=raw addr=2"
	has "part root dev=virtio-blk file=c readonly=on serial=s1 addr=3"
	show -drive if=virtio,file=2,index=1 -drive if=virtio,file=1,index=0
	has "part disk0 dev=virtio-blk file=1 addr=2"; has "part disk1 dev=virtio-blk file=2 addr=3"
	show -drive if=none,id=x,file=f -device virtio-blk-pci,drive=x,id=blk,num-queues=2
	has "part blk dev=virtio-blk file=f queues=2 addr=2"
	show -drive if=virtio,file=f,cache=none,discard=unmap,detect-zeroes=on,file.locking=off,addr=3 \
		-device virtio-rng-pci -device virtio-rng-pci -device virtio-rng-pci,addr=1f
	has "part disk0 dev=virtio-blk file=f discard=unmap detect-zeroes=on locking=off cache=none addr=3"
	has "part rng0 dev=virtio-rng addr=2"
	has "part rng1 dev=virtio-rng addr=4"
	has "part rng2 dev=virtio-rng addr=1f"
	refuse 2 "-device virtio-rng-pci,addr=40: slots are 2 to 1f" -device virtio-rng-pci,addr=40
	refuse 2 "-drive: no file" -drive if=virtio
	show -drive file=d,format=qcow2,cache.direct=on,cache.writeback=off,copy-on-read=on,werror=ignore,rerror=report,aio=threads
	has "part disk0 dev=virtio-blk file=d format=qcow2 werror=ignore copy-on-read=on cache=directsync addr=2"
	show -hda d -snapshot -drive file=e,snapshot=off -drive file=f,snapshot=on,if=virtio
	has "part disk0 dev=virtio-blk file=d snapshot=on addr=2"
	has "part disk1 dev=virtio-blk file=e addr=3"
	has "part disk2 dev=virtio-blk file=f snapshot=on addr=4"
	refuse 2 "-drive format=ssh: not supported yet" -drive file=d,format=ssh
	refuse 2 "-drive format=zip: unknown format" -drive file=d,format=zip
	refuse 2 "-drive if=scsi: not supported yet" -drive file=d,if=scsi
	refuse 2 "-drive if=tape: unknown interface" -drive file=d,if=tape
	refuse 2 "-drive cache=warm: invalid cache option" -drive file=d,cache=warm
	refuse 2 "-drive aio native: not supported yet" -drive file=d,aio=native
	show -drive file=d,werror=stop,rerror=stop -drive file=e,werror=enospc -drive file=f,werror=report
	has "part disk0 dev=virtio-blk file=d werror=stop rerror=stop addr=2"
	has "part disk1 dev=virtio-blk file=e addr=3"
	has "part disk2 dev=virtio-blk file=f werror=report addr=4"
	show -drive if=none,id=n,file=f -device virtio-blk-pci,drive=n,werror=stop,rerror=report
	has "part disk0 dev=virtio-blk file=f werror=stop addr=2"
	refuse 2 "-drive rerror enospc: not supported yet" -drive file=d,rerror=enospc
	refuse 2 "-drive file=d,copy-on-read=on,readonly=on: copy-on-read on a read-only drive" -drive file=d,copy-on-read=on,readonly=on
	refuse 2 "-drive group=g: not supported yet" -drive file=d,group=g
	refuse 2 "-drive media=cdrom: not supported yet" -drive file=d,media=cdrom
	refuse 2 "-drive file=d,index=0: index 0 is taken" -hda d -drive file=d,index=0
	refuse 2 "-drive file=d,if=none: if=none needs an id" -drive file=d,if=none
	refuse 2 "-device virtio-blk-pci,drive=x: no -drive if=none has this id" \
		-kernel k -device virtio-blk-pci,drive=x
	refuse 2 "-device virtio-blk-pci,drive=x: the drive is in use already" \
		-kernel k -drive if=none,id=x,file=d -device virtio-blk-pci,drive=x \
		-device virtio-blk-pci,drive=x
	refuse 2 "-drive file=http://h/x: not supported yet" -drive file=http://h/x
	refuse 2 "-cdrom: not supported yet" -cdrom d
}

@test "blockdev" {
	: >a,b
	show -blockdev driver=file,node-name=f,filename=a,,b,locking=off \
		-blockdev driver=qcow2,node-name=q,file=f,discard=unmap \
		-device virtio-blk-pci,drive=q,id=x
	has "part x dev=virtio-blk image=driver=qcow2,file.driver=file,file.filename=a,,b,file.locking=off,discard=unmap addr=2"
	show -blockdev driver=raw,node-name=r,file.driver=file,file.filename=d,read-only=on -device virtio-blk-pci,drive=r
	has "part disk0 dev=virtio-blk image=driver=raw,file.driver=file,file.filename=d,read-only=on addr=2"
	show -object secret,id=s,data=a,,b -drive file=d,format=luks,key-secret=s
	has "part disk0 dev=virtio-blk file=d format=luks key-secret=s secret=id=s,data=a,,b addr=2"
	refuse 2 "-drive key-secret=t: no -object secret has this id" -drive file=d,key-secret=t
	refuse 2 "-object secret: keyid=x: not supported yet" -object secret,id=s,keyid=x
	refuse 2 "-blockdev driver=file,filename=d: needs a node-name" -blockdev driver=file,filename=d
	refuse 2 "-blockdev node-name=d: needs a driver" -blockdev node-name=d
	refuse 1 "-blockdev none: no such file" -blockdev driver=file,filename=none,node-name=n
	refuse 2 "-blockdev file=n: no -blockdev has this node-name" -blockdev driver=raw,file=n,node-name=m
	refuse 2 "-blockdev driver=ssh: not supported yet" -blockdev driver=ssh,node-name=m
	refuse 2 "-blockdev driver=zip: unknown format" -blockdev driver=zip,node-name=m
}

@test "devices" {
	show -device virtio-rng-pci -device virtio-rng-pci,id=e2 -device virtio-balloon-pci
	has "part rng0 dev=virtio-rng addr=2"; has "part e2 dev=virtio-rng addr=3"; has "part balloon0 dev=virtio-balloon addr=4"
	show -chardev null,id=c -device virtio-serial-pci -device virtconsole,chardev=c
	has "part vcon0 dev=virtio-console chardev=null addr=2"
	show -object rng-random,id=r,filename=/dev/zero -device virtio-rng-pci,rng=r
	printf '%s\n' "$output" | grep -x "part rng0 dev=virtio-rng file=/dev/zero addr=2"
	show -debugcon file:x; has "part debugcon0 dev=debugcon iobase=0xe9 chardev=file:x"
	show -device isa-debug-exit,iobase=0xf4,iosize=0x04
	has "part debugexit0 dev=debugexit iobase=0xf4 iosize=0x04"
	show -no-hpet; lacks hpet
	show -M pc,hpet=off; lacks hpet
	show -rtc base=2006-06-17T16:01:21; has "part rtc dev=rtc base=2006-06-17T16:01:21"
	refuse 2 "-device vmxnet3: not supported yet" -device vmxnet3
	refuse 2 "-device coffee: unknown device; -device help lists them" -device coffee
	refuse 2 "-device virtio-rng-pci: bootindex=4: not supported yet" -device virtio-rng-pci,bootindex=4
	refuse 2 "id=rtc: there is such a part already" -kernel k -device virtio-rng-pci,id=rtc
	refuse 2 "id=a/b: at most 31 letters, digits and _.- expected" -kernel k -device virtio-rng-pci,id=a/b
	refuse 2 "-device virtconsole,chardev=c: needs a -device virtio-serial-pci before it" -device virtconsole,chardev=c
	refuse 2 "-rtc base=tomorrow: utc, localtime or YYYY-MM-DD[THH:MM:SS] expected" -rtc base=tomorrow
	refuse 2 "-rtc clock rt: not supported yet" -rtc clock=rt
	show -rtc clock=vm,base=localtime; has "part rtc dev=rtc base=localtime clock=vm"
	refuse 2 "-nic vhost-user: not supported yet" -nic vhost-user
	refuse 2 "-vga std: not supported yet" -vga std
	refuse 2 "-display gtk: not supported yet" -display gtk
	show -nic none -net none; lacks nic0; lacks slirp
	show -nic none -net none -vga none -display none -parallel none -no-user-config
}

@test "networks and cards" {
	card() { has "part $1 dev=virtio-net link=$2 mac=52:54:00:12:34:${3:-56} addr=${4:-2}"; }
	show -nodefaults; lacks nic0
	show -nic user,id=n,model=virtio,mac=52:54:00:aa:bb:cc,addr=9
	has "part n dev=slirp"; has "part nic0 dev=virtio-net link=part:n mac=52:54:00:aa:bb:cc addr=9"
	# every key of the user network that vm-slirp has
	show -netdev user,id=n,ipv4=on,ipv6=off,net=10.1.0.0/24,host=10.1.0.9,restrict=y,hostname=h,dhcpstart=10.1.0.20,dns=10.1.0.3,dnssearch=a.org,dnssearch=b.org,domainname=d,tftp=/t,,x,bootfile=b,hostfwd=tcp::1-:2,hostfwd=udp::1-:2,guestfwd=tcp:10.1.0.4:5-cmd:nc\ h\ 1 \
		-device virtio-net-pci,netdev=n
	has "part n dev=slirp ipv4=on ipv6=off net=10.1.0.0/24 host=10.1.0.9 restrict=on hostname=h dhcpstart=10.1.0.20 dns=10.1.0.3 dnssearch=a.org dnssearch=b.org domainname=d tftp=/t,x bootfile=b hostfwd=tcp::1-:2 hostfwd=udp::1-:2 'guestfwd=tcp:10.1.0.4:5-cmd:nc h 1'"
	card nic0 part:n
	show -nic user,ipv6-net=fd00::/64,ipv6-host=fd00::9
	has "part net0 dev=slirp ipv6-prefix=fd00:: ipv6-host=fd00::9"
	# the wires
	show -nic socket,listen=:1234; card nic0 stream::1234,server
	show -nic socket,connect=h:1234; card nic0 stream:h:1234
	show -nic socket,mcast=230.0.0.1:1234,localaddr=1.2.3.4; card nic0 mcast:230.0.0.1:1234,local=1.2.3.4
	show -nic socket,udp=h:1,localaddr=:2; card nic0 dgram::2,remote=h:1
	show -nic stream,server=on,addr.type=unix,addr.path=/s; card nic0 stream:/s,server
	show -nic stream,addr.type=inet,addr.host=h,addr.port=5; card nic0 stream:h:5
	show -nic dgram,local.type=unix,local.path=/a,remote.type=unix,remote.path=/b; card nic0 dgram:/a,remote=/b
	show -nic dgram,remote.type=inet,remote.host=230.0.0.1,remote.port=7; card nic0 mcast:230.0.0.1:7
	show -nic vde; card nic0 vde:
	show -nic vde,sock=/tmp/sw,port=3; card nic0 vde:/tmp/sw,port=3
	show -nic tap,ifname=tap3,script=no,downscript=no; card nic0 tap:tap3
	show -nic tap,ifname=t,downscript=/d; card nic0 tap:t,script=/etc/qemu-ifup,downscript=/d
	show -nic tap,helper=/h,br=b; card nic0 bridge:b,helper=/h
	show -nic bridge; card nic0 bridge:br0,helper=/usr/lib/qemu/qemu-bridge-helper
	show -nic l2tpv3,src=1.1.1.1,dst=2.2.2.2,udp,srcport=1,dstport=2,txsession=0xf,counter
	card nic0 l2tpv3:1.1.1.1,dst=2.2.2.2,udp,srcport=1,dstport=2,txsession=0xf,counter
	# several cards: addresses count up; a card may be named as its network
	show -netdev user,id=h0 -device virtio-net-pci,netdev=h0,id=h0 -nic user -nic vde,mac=52:54:00:12:34:58 -nic vde -device virtio-net-pci
	has "part h0.net dev=slirp"; card h0 part:h0.net
	card nic0 none 57 3
	card nic1 part:net0 59 4
	# the old form
	show -net nic,model=virtio,macaddr=52:54:00:00:00:01,name=eth,addr=5 -net user,hostname=x
	has "part net0 dev=slirp hostname=x"
	has "part eth dev=virtio-net link=part:net0 mac=52:54:00:00:00:01 addr=5"
	show -netdev user,id=n -device e1000,netdev=n,id=x,addr=4 -nic vde,model=e1000
	has "part x dev=e1000 link=part:n mac=52:54:00:12:34:56 addr=4"
	has "part nic0 dev=e1000 link=vde: mac=52:54:00:12:34:57 addr=2"
	show -device ne2k_isa,iobase=0x320,irq=5 -nic vde,model=ne2k_pci
	has "part nic0 dev=ne2k_isa link=none mac=52:54:00:12:34:56 iobase=0x320 irq=5"
	has "part nic1 dev=ne2k_pci link=vde: mac=52:54:00:12:34:57 addr=2"
	show -nic vde,model=pcnet; has "part nic0 dev=pcnet link=vde: mac=52:54:00:12:34:56 addr=2"
	show -nic vde,model=rtl8139; has "part nic0 dev=rtl8139 link=vde: mac=52:54:00:12:34:56 addr=2"
	show -netdev vde,id=v -net nic,netdev=v; card nic0 vde:
	refuse 2 "-netdev user: needs an id" -netdev user
	refuse 2 "-nic user: fd=5: not supported yet" -nic user,fd=5
	refuse 2 "-nic user: colour=red: not supported yet" -nic user,colour=red
	refuse 2 "-nic carrier-pigeon: unknown network" -nic carrier-pigeon
	refuse 2 "-nic model token-ring: unknown card; -nic model=help lists them" -nic user,model=token-ring
	refuse 2 "-nic model vmxnet3: not supported yet" -nic user,model=vmxnet3
	refuse 2 "-nic mac=01:00:00:00:00:00: not the address of a card, xx:xx:xx:xx:xx:xx" -nic user,mac=01:00:00:00:00:00
	refuse 2 "-nic tap: br is for helper" -nic tap,br=b
	refuse 2 "-nic tap: ifname or helper, not both" -nic tap,ifname=t,helper=/h
	refuse 2 "-nic vde: group=g: not supported yet" -nic vde,group=g
	refuse 2 "-nic socket: fd=3: not supported yet" -nic socket,fd=3
	refuse 2 "-netdev hubport: needs hubid" -netdev hubport,id=a
	refuse 2 "-netdev hubport,netdev=b: no -netdev has this id" -kernel k -netdev hubport,id=a,hubid=0,netdev=b
	refuse 2 "-device virtio-net-pci,netdev=z: no -netdev has this id" -kernel k -device virtio-net-pci,netdev=z
	refuse 2 "-device virtio-net-pci,netdev=n: the network is in use already" -kernel k \
		-netdev user,id=n -device virtio-net-pci,netdev=n -device virtio-net-pci,netdev=n
	refuse 2 "-netdev id=n: taken" -netdev user,id=n -netdev vde,id=n
	run "$vm" -print -kernel k -netdev user,id=n </dev/null
	[ "$status" -eq 0 ]
	[[ $output == *"vm-run: warning: network n: no card uses it"* ]]
}

@test "options of the manual are known by name" {
	# what the manual lists and this machine has not got
	for o in numa add-fd set global boot mem-path mem-prealloc k audio-help \
	    soundhw balloon fda fdb cdrom mtdblock sd pflash \
	    fsdev virtfs virtfs_synth iscsi usb usbdevice curses no-frame \
	    alt-grab ctrl-grab no-quit sdl spice portrait rotate full-screen g \
	    vnc win2k-hack no-fd-bootchk no-acpi acpitable smbios bt \
	    tpmdev dtb qmp qmp-pretty singlestep realtime gdb s dfilter L bios \
	    enable-kvm enable-hax xen-domid xen-create xen-attach loadvm \
	    option-rom icount watchdog watchdog-action echr virtioconsole \
	    show-cursor incoming only-migratable chroot runas prom-env \
	    semihosting semihosting-config old-param sandbox readconfig \
	    writeconfig trace-unassigned trace enable-fips msg dump-vmstate \
	    redir tftp bootp smb localtime startdate rtc-td-hack no-kvm; do
		refuse 2 "-$o: not supported yet" -$o
	done
	refuse 2 "-foo: unknown option" -foo
	refuse 2 "-foo: unknown option" --foo
	refuse 2 "-kernel: needs an argument" -kernel
	# and the peer's own list, where it is installed
	command -v qemu-system-x86_64 >/dev/null || return 0
	for o in $(qemu-system-x86_64 -help | grep -oE '^-[a-zA-Z0-9_-]+' | sort -u); do
		run "$vm" "$o" </dev/null
		[[ $output != *"unknown option"* ]] || { echo "$output"; false; }
	done
}

@test "help is complete and fits the screen" {
	run "$vm" -h
	[ "$status" -eq 0 ]
	[ -z "$(printf '%s\n' "$output" | grep -E '^.{81}')" ]
	for o in machine accel cpu smp m rtc uuid fw_cfg no-hpet nodefaults kernel \
	    initrd append hda drive blockdev snapshot device object nic netdev net serial monitor mon debugcon \
	    chardev parallel nographic display name S no-reboot no-shutdown \
	    action daemonize pidfile d D tb-size print version h; do
		printf '%s\n' "$output" | grep -qE -- "-$o( |,|\$)" || { echo "-$o"; false; }
	done
	for o in -machine -accel -device -chardev -d -netdev -nic; do
		run "$vm" $o help
		[ "$status" -eq 0 ]
		[ "${#lines[@]}" -ge 1 ]
	done
	run "$vm" -device virtio-blk-pci,help
	[ "$status" -eq 0 ]
	[[ $output == *drive* ]]
	run "$vm" -version
	[[ $output == "Sluice vm-run version "[0-9]* ]]
}

@test "a machine file says the same as options" {
	"$vm" -print -name m -m 64 -smp 2 -kernel k -append "a 'b' c" -hda d \
		-no-reboot -device virtio-rng-pci </dev/null >m.vm
	run "$vm" -print m.vm
	[ "$status" -eq 0 ]
	[ "$output" = "$(cat m.vm)" ]
	# options beside it are added
	# all of a topology takes the place of all of the file's
	"$vm" -print -smp 4,cores=1,threads=2 -kernel k >smp.vm </dev/null
	run "$vm" -print smp.vm -smp 8
	[[ $output == *$'\ncpu smp=8 cores=8 threads=1\n'* ]] ||
		[[ $output == *$'\ncpu smp=8 cores=8 threads=1' ]]
	run "$vm" -print m.vm -S -m 96 -name other
	[ "$status" -eq 0 ]
	has "ram size=96M"
	has "run start=off"
	has "name other"
	refuse 2 "none.vm: no such machine file" none.vm
	echo "gears many" >bad.vm
	refuse 2 "bad.vm:1: unknown statement: gears" bad.vm
	: >empty.vm
	refuse 2 "empty.vm: an empty machine file" empty.vm
}

@test "what the host has not got is named" {
	refuse 1 "-kernel none: no such file" -kernel none
	mkdir dir
	refuse 1 "-kernel dir: is a directory" -kernel dir
	refuse 1 "-initrd none: no such file" -kernel k -initrd none
	refuse 1 "-hda none: no such file" -kernel k -hda none
	refuse 1 "-drive none: no such file" -kernel k -drive if=virtio,file=none
	refuse 1 "-fw_cfg none: no such file" -kernel k -fw_cfg name=opt/x,file=none
}

@test "a missing program is named" {
	mkdir -p inst/bin inst/share/vm inst/libexec/vm
	cp "$vm" inst/bin
	cp -R "$BATS_TEST_DIRNAME/../build/share/vm/run" "$BATS_TEST_DIRNAME/../build/share/vm/version" inst/share/vm
	vm=$PWD/inst/bin/vm-run
	refuse 1 "$PWD/inst/libexec/vm/membus: program missing" -kernel k
	chips=$("$vm" -print -kernel k </dev/null | sed -n 's/^part .* dev=\([^ ]*\).*/dev-\1/p')
	for p in membus vcpu-x86_64 $chips; do
		printf '#!/bin/sh\ncat "$1"\n' >inst/libexec/vm/$p
		chmod +x inst/libexec/vm/$p
	done
	cp inst/libexec/vm/membus inst/bin/vm-mon
	refuse 1 "$PWD/inst/bin/vm-slirp: program missing" -kernel k
	cp inst/libexec/vm/membus inst/bin/vm-slirp
	rm inst/libexec/vm/dev-hpet
	refuse 1 "$PWD/inst/libexec/vm/dev-hpet: program missing" -kernel k
	cp inst/libexec/vm/dev-pm inst/libexec/vm/dev-hpet
	# and then the broker gets the machine file, whatever is in it
	run "$vm" -kernel k -name x -append "\$(id) \`id\` \\ 'q'" </dev/null
	[ "$status" -eq 0 ]
	has "boot kernel=k append='\$(id) \`id\` \\ '\\''q'\\'''"
	# also through a symbolic link
	ln -s inst/bin/vm-run link
	run ./link -kernel k -name x </dev/null
	[ "$status" -eq 0 ]
	has "name x"
}
