"""chunks.py KIND SOURCE IMAGE [rsrc]: a cloop or dmg image of the bytes of SOURCE.

KIND is cloop, or kinds of dmg chunks, in turn: zlib, bz2, adc, raw, zero, lzfse;
with rsrc the tables are in a resource fork, not in a property list.
"""
import base64, bz2, os, random, struct, sys, zlib
kind, src, out = sys.argv[1:4]
d = open(src, "rb").read()
def adc(b):         # literals, and long and short copies of zeros
    o, i = b"", 0
    while i < len(b):
        n = len(b) - i - len(b[i:].lstrip(b"\0"))
        if n > 70:
            o += b"\x80\0" + bytes([0x40 | 63, 0, 0]) ; i += 68
        elif n > 8:
            o += b"\x80\0" + bytes([5 << 2, 0]); i += 9
        else:
            n = min(128, len(b) - i)
            o += bytes([0x80 | n - 1]) + b[i:i + n]; i += n
    return o
if kind == "cloop":
    bs = 65536
    assert len(d) % bs == 0
    z = [zlib.compress(d[i:i + bs]) for i in range(0, len(d), bs)]
    h = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"
    h = h.ljust(128, b"\0") + struct.pack(">II", bs, len(z))
    at = len(h) + 8 * (len(z) + 1)
    offs = []
    for b in z + [b""]:
        offs.append(at); at += len(b)
    open(out, "wb").write(h + struct.pack(f">{len(offs)}Q", *offs) + b"".join(z))
    sys.exit()
types = {"zlib": 0x80000005, "bz2": 0x80000006, "adc": 0x80000004, "raw": 1, "zero": 0, "lzfse": 0x80000007}
pack = {"zlib": zlib.compress, "bz2": bz2.compress, "adc": adc, "raw": lambda b: b, "zero": lambda b: b"", "lzfse": bytes}
kinds = kind.split(",")
fork = b"" if "rsrc" not in sys.argv else b"pad" * 100
body, tables, cs = fork, [], 128 << 10
half = len(d) // 2 // cs * cs
base = len(fork)
for a, e in ((0, half), (half, len(d))):
    rows, first = [], a // 512
    for n, i in enumerate(range(a, e, cs)):
        b = d[i:min(i + cs, e)]
        k = kinds[n % len(kinds)]
        if not b.strip(b"\0") and "zero" in kinds: k = "zero"
        elif k == "zero": k = "raw"
        p = pack[k](b)
        rows.append(struct.pack(">IIQQQQ", types[k], 0, (i - a) // 512, len(b) // 512, len(body) - base, len(p)))
        body += p
    rows.append(struct.pack(">IIQQQQ", 0xffffffff, 0, (e - a) // 512, 0, len(body) - base, 0))
    m = b"mish" + struct.pack(">IQQQII", 1, first, (e - a) // 512, 0, 520, 0)
    m = m.ljust(200, b"\0") + struct.pack(">I", len(rows)) + b"".join(rows)
    tables.append(m)
if "rsrc" in sys.argv:
    data = b"".join(struct.pack(">I", len(m)) + m for m in tables)
    x = struct.pack(">IIII", 256, 256 + len(data), len(data), 0).ljust(256, b"\0") + data
    koly = (0, 0, len(body), len(x))
else:
    x = b"<?xml version=\"1.0\"?>\n<plist><dict><key>resource-fork</key><dict><key>blkx</key><array>\n"
    for m in tables:
        b = base64.b64encode(m).decode()
        x += b"<dict><key>Data</key><data>\n" + "\n\t\t".join(b[i:i + 60] for i in range(0, len(b), 60)).encode() + b"\n</data></dict>\n"
    x += b"</array></dict></dict></plist>\n"
    koly = (len(body), len(x), 0, 0)
t = b"koly" + struct.pack(">IIIQQQQQ", 4, 512, 1, 0, base, len(body) - base, koly[2], koly[3])
t = t.ljust(216, b"\0") + struct.pack(">QQ", koly[0], koly[1])
t = t.ljust(488, b"\0") + struct.pack(">IQ", 1, len(d) // 512)
open(out, "wb").write(body + x + t.ljust(512, b"\0"))
