#!/usr/bin/env python3
# slirp-load.py server PORTFILE | client HOST PORT SCENARIO... - TCP that closes,
# resets, stops and comes in crowds.  A connection begins with a line that says
# what the server shall do; the client checks all it can see of it.

import hashlib, os, random, resource, selectors, socket, struct, sys, threading, time


def data(seed, n):
    return hashlib.shake_128(b"%d" % seed).digest(n)


def rst(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def read_all(s):
    b = []
    while x := s.recv(65536):
        b.append(x)
    return b"".join(b)


def serve(c):
    try:
        line = b""
        while not line.endswith(b"\n"):
            x = c.recv(1)
            if not x:
                return
            line += x
        verb, seed, n = line.split()
        seed, n = int(seed), int(n)
        if verb == b"send":                     # and close
            c.sendall(data(seed, n))
        elif verb == b"sum":                    # after the other's end of file
            c.sendall(hashlib.sha256(read_all(c)).hexdigest().encode())
        elif verb == b"echo":                   # both ways at a time
            while x := c.recv(65536):
                c.sendall(x)
        elif verb == b"reset":                  # in the middle of sending
            c.sendall(data(seed, n))
            time.sleep(.2)
            rst(c)
        elif verb == b"stop":                   # reads nothing for a while
            time.sleep(1)
            c.sendall(hashlib.sha256(read_all(c)).hexdigest().encode())
        elif verb == b"watch":                  # how does it end?
            try:
                read_all(c)
                seen.append("end")
            except ConnectionResetError:
                seen.append("reset")
        elif verb == b"seen":
            c.sendall(" ".join(seen).encode())
            seen.clear()
    except OSError as e:
        print("server:", line, e, file=sys.stderr)
    finally:
        c.close()


seen = []


def server(portfile):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    s = socket.create_server(("127.0.0.1", 0), backlog=4096)
    crowd = socket.create_server(("127.0.0.1", 0), backlog=4096)
    crowd.setblocking(False)
    with open(portfile + "~", "w") as f:
        f.write("%d %d\n" % (s.getsockname()[1], crowd.getsockname()[1]))
    os.rename(portfile + "~", portfile)
    threading.Thread(target=echo_crowd, args=(crowd,), daemon=True).start()
    try:
        six = socket.create_server(("::1", s.getsockname()[1]), family=socket.AF_INET6)
        threading.Thread(target=take, args=(six,), daemon=True).start()
    except OSError:
        pass    # no IPv6 here, or the port is another's
    take(s)


def take(s):
    while True:
        c = s.accept()[0]
        threading.Thread(target=serve, args=(c,), daemon=True).start()


def echo_crowd(s):
    sel = selectors.EpollSelector()
    sel.register(s, selectors.EVENT_READ)
    while True:
        for key, _ in sel.select():
            c = key.fileobj
            if c is s:
                try:
                    while True:
                        c = s.accept()[0]
                        c.setblocking(False)
                        sel.register(c, selectors.EVENT_READ)
                except BlockingIOError:
                    continue
            try:
                x = c.recv(4096)
            except ConnectionResetError:
                x = b""
            if x:
                c.send(x)
            else:
                sel.unregister(c)
                c.close()


# ------------------------------------------------------------------- the client

def connect(to):
    return socket.create_connection(to, 60, (os.environ.get("SRC", ""), 0))


def start(to, verb, seed, n):
    s = connect(to)
    s.sendall(b"%s %d %d\n" % (verb, seed, n))
    return s


def send(to, seed, n):
    assert read_all(start(to, b"send", seed, n)) == data(seed, n)


def sum_(to, seed, n, verb=b"sum"):
    s = start(to, verb, seed, n)
    s.sendall(data(seed, n))
    s.shutdown(socket.SHUT_WR)
    assert read_all(s).decode() == hashlib.sha256(data(seed, n)).hexdigest()


def echo(to, seed, n):
    s = start(to, b"echo", seed, n)
    d = data(seed, n)
    t = threading.Thread(target=lambda: (s.sendall(d), s.shutdown(socket.SHUT_WR)))
    t.start()
    assert read_all(s) == d
    t.join()


def reset(to, seed, n):
    s = start(to, b"reset", seed, n)
    got = 0
    s.settimeout(3)
    for _ in range(10):
        try:
            while x := s.recv(65536):
                got += len(x)
            assert False, "an end where there was a reset"
        except TimeoutError:
            pass
        except ConnectionResetError:
            break
        # a reset that was lost comes again only as an answer
        try:
            s.send(b"?")
        except ConnectionError:
            break
    else:
        raise TimeoutError("no reset")
    assert got <= n


def stop(to, seed, n):
    sum_(to, seed, n, b"stop")


def slow(to, seed, n):
    s = start(to, b"send", seed, n)
    time.sleep(1)
    assert read_all(s) == data(seed, n)


def we_reset(to, seed, n):
    s = start(to, b"watch", seed, n)
    s.sendall(data(seed, n % 100000))
    time.sleep(.3)
    rst(s)
    time.sleep(1)
    assert read_all(start(to, b"seen", 0, 0)) == b"reset"


def we_end(to, seed, n):
    s = start(to, b"watch", seed, n)
    s.close()
    time.sleep(1)
    assert read_all(start(to, b"seen", 0, 0)) == b"end"


def refused(to, seed, n):
    s = socket.create_server(("127.0.0.1", 0))
    try:
        connect((to[0], 1))
        assert False, "port 1 answers"
    except ConnectionRefusedError:
        pass


def mix(to, seed, n):
    kinds = [send, sum_, echo, slow, stop, reset]
    rnd = random.Random(seed)
    failed = []

    def one(i):
        try:
            kinds[i % len(kinds)](to, i, rnd.randrange(1, n))
        except Exception as e:
            failed.append("%s: %r" % (kinds[i % len(kinds)].__name__, e))
    ts = [threading.Thread(target=one, args=(i,)) for i in range(60)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    assert not failed, failed


# n connections stand, and each carries something
def crowd(to, seed, n):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    began, socks = time.time(), []
    for i in range(n):
        s = connect(to)
        s.sendall(b"%d" % i)
        socks.append(s)
    opened = time.time()
    for i, s in enumerate(socks):
        assert s.recv(100) == b"%d" % i, i
    print("%d stand" % n, flush=True)
    sys.stdin.readline()
    for i, s in enumerate(socks):
        s.sendall(b"again %d" % i)
    for i, s in enumerate(socks):
        assert s.recv(100) == b"again %d" % i, i
        s.close()
    print("opened in %.1f s, all in %.1f s" % (opened - began, time.time() - began),
        file=sys.stderr)


if sys.argv[1] == "server":
    server(sys.argv[2])
else:
    host, port, n = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    for name in sys.argv[5:]:
        globals()[name]((host, port), 7, n)
        print("ok", name, flush=True)
