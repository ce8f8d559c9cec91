# vm-run -h

help() {
	cat <<'X'
usage: vm-run [options] [machine.vm | disk-image]

Machine
  -machine, -M pc[,prop=value...]  board; -machine help lists them
  -accel translate|check|tcg[,tb-size=N][,OPTIMISATION=off][,perfmap|count=on]
                                   how guest code runs; tcg means translate
  -cpu MODEL[,+feature|-feature]   processor; -cpu help lists them
  -smp [cpus=]N[,sockets=N][,cores=N][,threads=N]
                                   virtual CPUs (1)
  -m SIZE                          memory in MiB, or with suffix k M G T (128M)
  -rtc base=utc|localtime|DATE[,clock=host|vm]
                                   what the clock starts from (utc)
  -uuid UUID                       system UUID
  -fw_cfg name=NAME,file=F|string=S
                                   a file for the guest's firmware interface
  -no-hpet                         leave out the high precision event timer
  -nodefaults                      no serial line, no card unless stated

Start
  -kernel FILE                     Linux bzImage, ELF with a PVH note, multiboot
  -initrd FILE                     initial RAM disk, or multiboot modules
  -append TEXT                     kernel command line

Disks
  -hda, -hdb, -hdc, -hdd FILE      disk 0 to 3 (virtio-blk on this board)
  -drive file=F[,if=virtio|ide|none][,id=ID][,index=N][,addr=SLOT]
         [,format=raw|qcow2|qcow|qed|vdi|vpc|vmdk|vhdx|luks]
         [,key-secret=ID][,media=disk|cdrom][,serial=TEXT]
         [,readonly=on][,snapshot=on][,copy-on-read=on]
         [,cache=writeback|none|writethrough|unsafe|directsync]
         [,discard=unmap|ignore][,detect-zeroes=on|off|unmap]
         [,werror=report|ignore|enospc|stop][,rerror=report|ignore|stop]
         [,locking=auto|on|off]
                                   disk image
  -blockdev driver=D,node-name=N[,file=NODE][,option=value...]
                                   the same, by the options of its driver
  -snapshot                        snapshot=on for every -drive and -hd

Devices
  -device DRIVER[,key=value...]    add a device; -device help lists them,
                                   -device DRIVER,help lists its keys
  -object secret,id=ID,file=F      password for key-secret=ID
  -object rng-random,id=ID,filename=F
                                   entropy source for virtio-rng-pci,rng=ID
  -object filter-dump,id=ID,netdev=N,file=F
                                   a capture; and filter-mirror, -redirector,
                                   -buffer
  -serial DEV                      serial line, up to four times
  -monitor DEV                     where the monitor is, besides its socket
  -mon chardev=ID[,mode=readline]  the same, for a -chardev
  -debugcon DEV                    debug console at port 0xe9
  -chardev BACKEND,id=ID[,mux=on][,key=value...]
                                   null stdio pty file pipe socket udp
  -parallel none                   accepted: there is none
  DEV is stdio, mon:stdio, pty, null, none, file:PATH, pipe:PATH,
  unix:PATH[,server][,nowait], tcp:[HOST]:PORT[,server][,nowait],
  telnet:[HOST]:PORT[,server][,nowait], udp:[HOST]:PORT[@[HOST]:PORT],
  chardev:ID

Network (a user network with a virtio card unless stated, or -nodefaults)
  -nic NET[,key=value...][,mac=ADDR][,model=CARD]
                                   a network and its card; -nic none: no card
  -netdev NET,id=ID[,key=value...] a network for -device CARD,netdev=ID
  -net nic[,model=CARD][,macaddr=ADDR][,netdev=ID] -net NET[,key=value...]
                                   the old form: one card, one network
  -user-data FILE                  a seed for cloud-init, at http://10.0.2.4/
  NET is one of
  user[,net=ADDR/BITS][,hostfwd=tcp::PORT-:PORT][,...]
                                   vm-slirp; keys as its -o
  socket,listen=[HOST]:PORT | connect=HOST:PORT | mcast=GROUP:PORT |
         udp=HOST:PORT,localaddr=[HOST]:PORT
  stream,addr.type=unix|inet,addr.path=|addr.host=,addr.port=[,server=on]
  dgram,local.type=...,local.path=...,remote.type=...,remote.path=...
  vde[,sock=DIR][,port=N]          a switch: vm-switch, vde_switch
  tap,ifname=NAME,script=no        a tap interface that is there
  l2tpv3,src=ADDR,dst=ADDR,txsession=N[,...]

Screen
  -nographic                       serial line and monitor on this terminal
  -display none  -vga none         accepted: there is none

Life
  -name NAME                       directory and process titles (vm-PID)
  -S                               wait for `cont' before the first instruction
  -no-reboot                       end where the guest would reboot
  -no-shutdown                     pause where the guest would power off
  -action reboot=reset|shutdown,shutdown=poweroff|pause,
          panic=shutdown|pause|none
                                   the same, and what a panic does
  -daemonize                       go to the background when ready
  -pidfile FILE                    write the process id to FILE

Diagnosis
  -d ITEMS                         log these; -d help lists them
  -D FILE                          log to FILE instead of standard error
  -tb-size N                       translation cache in MiB
  -print                           print the machine file and do not run it
  -version                         print the version
  -h, -help                        print this

On the terminal: Ctrl-a h lists the keys, Ctrl-a c switches between serial line
and monitor, Ctrl-a x ends the machine.  vm-mon NAME talks to it from outside.
X
}
