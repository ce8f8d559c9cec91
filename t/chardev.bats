# Character back ends (bus/chardev.c), seen through a 16550 that vm-poke drives.

setup_file() {
	cd "$BATS_TEST_DIRNAME/.."
	make -s build/libexec/vm/dev-uart16550 build/bin/vm-poke
}

setup() {
	cd "$BATS_TEST_DIRNAME/.."
	PATH=$PWD/build/bin:$PATH
	cd "$BATS_TEST_TMPDIR"
}

teardown() {
	wait
}

# drive SPEC : python on standard input, with p (the uart), tx, rx, info
drive() {
	{
		cat <<-'E'
			import subprocess, sys, socket, os, time, re
			spec = sys.argv[1]
			p = subprocess.Popen(['vm-poke', 'uart16550', 'index=0', 'chardev=' + spec],
			    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
			def cmd(c):
			    p.stdin.write(c + '\necho .\n'); p.stdin.flush()
			    out = []
			    while True:
			        l = p.stdout.readline()
			        assert l, 'vm-poke ended: ' + p.stderr.read()
			        if l == '.\n': return out
			        out.append(l.strip())
			def until(f, what):
			    end = time.time() + 60
			    while True:
			        try: r = f()
			        except BlockingIOError: r = None
			        if r: return r
			        assert time.time() < end, 'never: ' + what
			        time.sleep(0.005)
			def tx(data):
			    for b in data:
			        until(lambda: int(cmd('r1 3fd')[0], 16) & 0x20, 'THRE')
			        cmd('w1 3f8 %x' % b)
			    until(lambda: int(cmd('r1 3fd')[0], 16) & 0x20, 'THRE')
			def rx(n):
			    out = b''
			    while len(out) < n:
			        until(lambda: int(cmd('r1 3fd')[0], 16) & 1, 'data, after %r' % out)
			        out += bytes([int(cmd('r1 3f8')[0], 16)])
			    return out
			def info(): return cmd('ask chardev')[0]
			def quit(code=0):
			    p.stdin.close(); r = p.wait(); e = p.stderr.read()
			    assert r == code and (code or not e), (r, e)
			def get(s, n):
			    out = b''
			    while len(out) < n:
			        d = s.recv(n - len(out)); assert d, 'EOF after %r' % out
			        out += d
			    return out
			cmd('w1 3fb 3')
		E
		cat
	} >drive.py
	timeout 120 python3 drive.py "$1"
}

@test "unix server: nobody, somebody, gone, the next; the socket goes" {
	drive "unix:sock,server,nowait" <<-'E'
		tx(b'into the void')
		assert 'disconnected' in info()
		for word in b'one', b'two':
		    s = socket.socket(socket.AF_UNIX); s.connect('sock')
		    until(lambda: '(connected)' in info(), 'connected')
		    tx(word); got = get(s, len(word)); assert got == word, got
		    s.sendall(b'back'); assert rx(4) == b'back'
		    s.close()
		    until(lambda: 'disconnected' in info(), 'disconnected')
		    tx(b'dropped')
		quit()
		assert not os.path.exists('sock')
	E
}

@test "unix server: a stale socket is replaced, a live one is not" {
	python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("sock")'
	[ -S sock ]
	drive "unix:sock,server=on,wait=off" <<-'E'
		s = socket.socket(socket.AF_UNIX); s.connect('sock')
		tx(b'x'); assert get(s, 1) == b'x'
		r = subprocess.run(['vm-poke', 'uart16550', 'chardev=unix:sock,server,nowait'],
		    stdin=subprocess.DEVNULL, capture_output=True, text=True)
		assert r.returncode != 0 and 'in use' in r.stderr and r.stderr.count('\n') == 1, r
		quit()
	E
}

@test "unix client, its server gone, and reconnect" {
	drive "unix:sock,reconnect=1" <<-'E'
		l = socket.socket(socket.AF_UNIX); l.bind('sock'); l.listen(1)
		for i in range(2):
		    s, _ = l.accept()
		    until(lambda: '(connected)' in info(), 'connected')
		    tx(b'hi'); assert get(s, 2) == b'hi'
		    s.close()
		quit()
	E
	run vm-poke uart16550 chardev=unix:none </dev/null
	[ "$status" -ne 0 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *"unix:none: No such file"* ]]
}

@test "tcp server on a free port, every byte value both ways" {
	drive "tcp:127.0.0.1:0,server,nowait" <<-'E'
		port = int(re.search(r'tcp:127.0.0.1:(\d+)', info()).group(1))
		s = socket.create_connection(('127.0.0.1', port))
		all = bytes(range(256))
		tx(all); assert get(s, 256) == all
		s.sendall(all); assert rx(256) == all
		quit()
	E
}

@test "server that waits for its client" {
	drive "unix:sock,server" <<-'E' &
		# cmd() above has come back, so somebody has connected
		tx(b'z')
		quit_ok = p.stdin.close()
		assert p.wait() == 0
		assert 'waiting for connection' in p.stderr.read()
	E
	python3 - <<-'E'
		import socket, time
		while True:
		    try:
		        s = socket.socket(socket.AF_UNIX); s.connect('sock'); break
		    except OSError: time.sleep(0.01)
		assert s.recv(1) == b'z'
	E
	wait $!
}

@test "telnet: negotiation, IAC doubled, commands taken out" {
	drive "telnet:127.0.0.1:0,server,nowait" <<-'E'
		port = int(re.search(r'127.0.0.1:(\d+)', info()).group(1))
		s = socket.create_connection(('127.0.0.1', port))
		assert get(s, 12) == bytes([255,251,1, 255,251,3, 255,251,0, 255,253,0])
		tx(b'a\xffb'); assert get(s, 4) == b'a\xff\xffb'
		s.sendall(bytes([255,253,1, 255,253,3]) + b'h' + bytes([255,250,24,1,2,255,240]) + b'i\xff\xff!\r\0x\r\ny')
		assert rx(8) == b'hi\xff!\rx\ry'
		quit()
	E
}

@test "udp" {
	drive "udp:127.0.0.1:1@127.0.0.1:0" <<-'E'
		tx(b'nobody listens')
		quit()
	E
	python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0))
open("port", "w").write(str(s.getsockname()[1]))'
	drive "udp:127.0.0.1:$(cat port)" <<-'E'
		s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		s.bind(('127.0.0.1', int(open('port').read())))
		tx(b'u'); d, peer = s.recvfrom(100); assert d == b'u'
		s.sendto(b'down', peer); assert rx(4) == b'down'
		quit()
	E
}

@test "pty: its name is told; close and open again" {
	drive "pty" <<-'E'
		name = re.search(r'pty:(/dev/pts/\d+)', info()).group(1)
		line = p.stderr.readline()
		assert line == 'char device redirected to %s (label uart16550)\n' % name, line
		tx(b'dropped')
		for i in range(2):
		    fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
		    # the other side looks twice a second whether somebody came
		    os.set_blocking(fd, False)
		    def heard():
		        tx(b'k')
		        return os.read(fd, 100)
		    assert until(heard, 'output')[:1] == b'k'
		    os.write(fd, b'typed'); assert rx(5) == b'typed'
		    os.close(fd)
		quit()
	E
}

@test "file and its append option, pipe" {
	echo old >f
	drive "file:f" <<-'E'
		tx(b'new\n'); quit()
	E
	[ "$(cat f)" = new ]
	drive "file:f,append=on" <<-'E'
		tx(b'more\n'); quit()
	E
	[ "$(cat f)" = "$(printf 'new\nmore')" ]
	mkfifo p.in p.out
	drive "pipe:p" <<-'E'
		i = os.open('p.in', os.O_WRONLY); o = os.open('p.out', os.O_RDONLY | os.O_NONBLOCK)
		tx(b'out'); assert b''.join(until(lambda: os.read(o, 1), 'out') for i in range(3)) == b'out'
		os.write(i, b'in'); assert rx(2) == b'in'
		quit()
	E
}

@test "a client that does not read stops the line, and loses nothing" {
	drive "unix:sock,server,nowait" <<-'E'
		s = socket.socket(socket.AF_UNIX)
		s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
		s.connect('sock')
		until(lambda: '(connected)' in info(), 'connected')
		n = 0
		while int(cmd('r1 3fd')[0], 16) & 0x20 and n < 600000:
		    cmd('w1 3f8 ' + ' '.join('%x' % ((n + i) & 255) for i in range(16)) if 0 else 'w1 3f8 %x' % (n & 255)); n += 1
		    if n % 1000 == 0 and n > 4000: break
		got = get(s, n)
		assert got == bytes(i & 255 for i in range(n)), n
		quit()
	E
}

@test "what cannot be opened is one line" {
	while IFS='|' read -r spec pattern; do
		run vm-poke uart16550 "chardev=$spec" </dev/null
		[ "$status" -ne 0 ] || { echo "$spec"; false; }
		[ "${#lines[@]}" -eq 1 ] || { echo "$output"; false; }
		[[ $output == *$pattern* ]] || { echo "$output"; false; }
	done <<-E
		vc|no virtual console
		vc:80x25|no virtual console
		frob|unknown kind
		file:/nonexistent/x|/nonexistent/x: No such file
		pipe:/nonexistent/x|/nonexistent/x: No such file
		unix:/nonexistent/x,server,nowait|No such file
		unix:x,server,frob|bad option 'frob'
		unix:|bad path
		tcp:12|not HOST:PORT
		tcp:127.0.0.1:1|refused
		tcp:127.0.0.1:1,reconnect=x|bad option 'reconnect'
		udp:x|not HOST:PORT
	E
}

