"""img-seeds.py DIRECTORY [FORMAT...]: small images of every format and variant,
made by our tools and by QEMU's, for t/unit/img-fuzz.c: DIRECTORY/FORMAT/NAME/ has
the image x, files it names and, in `options', how it is opened."""
import os, shutil, struct, subprocess, sys

top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(top, "build/bin")
out, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
SECRET = ["--object", "secret,id=s,data=xyzzy"]

def run(*words):
    subprocess.run([str(w) for w in words], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def makers():
    yield "ours", os.path.join(BIN, "vm-img"), os.path.join(BIN, "vm-io")
    if shutil.which("qemu-img"):
        yield "peer", "qemu-img", "qemu-io"

def wanted_format(fmt):
    return not wanted or fmt in wanted

def place(fmt, name):
    d = os.path.join(out, fmt, name)
    os.makedirs(d)
    os.chdir(d)

# Whole sectors of one byte each: the driver knows they are no metadata.
WRITES = ["write -P 90 0 2k", "write -P 91 300k 1k", "write -P 92 1M 512",
          "write -z 128k 64k", "write -P 93 3M 4k"]

def seed(fmt, name, options="", size="4M", writes=WRITES, opened="", after=()):
    """One of each maker; what a maker cannot make is left out."""
    for who, img, io in makers():
        place(fmt, f"{name}-{who}")
        keys = "encrypt.key-secret=s" if "encrypt" in options else \
            "key-secret=s" if "key-secret" in options else ""
        o = options + (",iter-time=1" if fmt == "luks" else
                       ",encrypt.iter-time=1" if "encrypt.format=luks" in options else "")
        spec = ["-f", fmt, "x"]
        if keys:
            spec = ["--image-opts", f"driver={fmt},file.filename=x,{keys}"]
        for attempt in range(20):       # a clock too coarse for iter-time=1
            try:
                run(img, "create", *SECRET, "-f", fmt, *(["-o", o] if o else []), "x", size)
                for w in writes:
                    run(io, *SECRET, "-c", w, *spec)
                for words in after:
                    run(img, *[w if w != "IMG" else "x" for w in words])
                break
            except subprocess.CalledProcessError:
                pass
        else:
            if who == "ours":
                raise SystemExit(f"img-seeds: {fmt} {o}: cannot be made")
            os.chdir(out)
            shutil.rmtree(os.path.join(out, fmt, f"{name}-{who}"))
            continue
        if keys:
            open("options", "w").write(keys)

def qcow2():
    for name, o in (("plain", ""), ("v2", "compat=0.10"), ("c512", "cluster_size=512"),
                    ("ext", "extended_l2=on,cluster_size=16k"), ("lazy", "lazy_refcounts=on"),
                    ("bits1", "refcount_bits=1,cluster_size=4k"),
                    ("bits64", "refcount_bits=64,cluster_size=1k")):
        seed("qcow2", name, o)
    snaps = [("snapshot", "-c", "one", "IMG"), ("snapshot", "-c", "two", "IMG")]
    seed("qcow2", "snap", "cluster_size=1k", after=snaps, writes=WRITES[:3])
    seed("qcow2", "snap512", "cluster_size=512,extended_l2=off", after=snaps[:1])
    maps = [("bitmap", "--add", "IMG", "b0"), ("bitmap", "--add", "-g", "4k", "IMG", "b1"),
            ("bitmap", "--disable", "IMG", "b1")]
    seed("qcow2", "bitmaps", "cluster_size=4k", after=maps)
    seed("qcow2", "aes", "encrypt.format=aes,encrypt.key-secret=s,cluster_size=4k")
    seed("qcow2", "luks", "encrypt.format=luks,encrypt.key-secret=s,cluster_size=4k")
    seed("qcow2", "data", "data_file=d,cluster_size=4k")
    seed("qcow2", "rawdata", "data_file=d,data_file_raw=on,cluster_size=4k")
    for who, img, io in makers():
        for z in ("zlib", "zstd"):
            place("qcow2", f"{z}-{who}")
            with open("r", "wb") as f:
                f.write(b"".join(b"%06d\n" % (i * i) for i in range(6000)).ljust(1 << 20, b"\0"))
            run(img, "convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
                f"compression_type={z},cluster_size=8k", "r", "x")
            os.unlink("r")
        place("qcow2", f"backed-{who}")
        run(img, "create", "-f", "raw", "base", "64k")
        run(img, "create", "-f", "qcow2", "-b", "base", "-F", "raw", "-o", "cluster_size=4k", "x", "1M")
        run(io, "-c", "write -P 90 3k 2k", "x")

def backed(fmt):
    for who, img, io in makers():
        place(fmt, f"backed-{who}")
        run(img, "create", "-f", fmt if fmt == "vmdk" else "raw", "base", "256k")
        run(img, "create", "-f", fmt, "-b", "base", "-F", fmt if fmt == "vmdk" else "raw", "x", "256k")
        run(io, "-f", fmt, "-c", "write -P 90 3k 2k", "x")

def qed():
    seed("qed", "plain")
    seed("qed", "small", "cluster_size=4k,table_size=1")
    backed("qed")

def qcow():
    seed("qcow", "plain")
    seed("qcow", "aes", "encrypt.format=aes,encrypt.key-secret=s")
    backed("qcow")

def vmdk():
    for sub in ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"):
        seed("vmdk", sub, f"subformat={sub}", size="1M", writes=WRITES[:2])
    seed("vmdk", "streamOptimized", "subformat=streamOptimized", writes=["write -c -P 90 0 64k", "write -c -P 91 128k 64k"])
    backed("vmdk")

def vdi():
    seed("vdi", "plain")
    seed("vdi", "static", "static=on", size="1M", writes=WRITES[:2])

def vpc():
    seed("vpc", "dynamic")
    seed("vpc", "fixed", "subformat=fixed", size="1M", writes=WRITES[:2])

def vhdx():
    seed("vhdx", "dynamic", "block_size=1M,log_size=1M", writes=WRITES[:2])
    seed("vhdx", "fixed", "subformat=fixed,block_size=1M", size="1M", writes=WRITES[:2])
    # what a writer leaves that was cut off: the region table is in the log
    run("make", "-s", "-C", top, "build/t/img-vhdx")
    for words in ((), ("round",)):
        place("vhdx", "log" + "".join(words))
        run(os.path.join(BIN, "vm-img"), "create", "-f", "vhdx", "-o", "block_size=1M", "x", "4M")
        run(os.path.join(top, "build/t/img-vhdx"), "x", 192 << 10, (3 << 20) + 65536, *words)

def luks():
    seed("luks", "xts", "key-secret=s", size="64k", writes=WRITES[:1])
    seed("luks", "cbc", "key-secret=s,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1,cipher-alg=aes-128",
         size="64k", writes=WRITES[:1])

def parallels():
    if not shutil.which("qemu-img"):
        place("parallels", "empty")
        open("x", "wb").write(struct.pack("<16sIIIIIIQIIIQ", b"WithouFreSpacExt", 2, 16, 8, 128,
                              2048, 64, 8192, 0x746f6e59, 0, 1, 0).ljust(1 << 20, b"\0"))
        return
    place("parallels", "plain")
    run("qemu-img", "create", "-f", "parallels", "x", "4M")
    for w in WRITES:
        run("qemu-io", "-f", "parallels", "-c", w, "x")

def bochs():
    for v in (1, 2):
        place("bochs", f"v{v}")
        h = struct.pack("<32s16s16sIIIII", b"Bochs Virtual HD Image", b"Redolog", b"Growing",
                        v << 16, 512, 5, 1, 4096) + (b"" if v == 1 else bytes(4)) + struct.pack("<Q", 20480)
        x = h.ljust(512, b"\0") + struct.pack("<5I", 1, 0xffffffff, 0xffffffff, 0, 2)
        for m in (0x81, 0xff, 0x5a):
            x += bytes([m]).ljust(512, b"\0") + bytes([m]) * 4096
        open("x", "wb").write(x)

def chunked(fmt, kinds):
    for kind in kinds:
        for how in ((), ("rsrc",)) if fmt == "dmg" else ((),):
            place(fmt, kind.replace(",", "-") + "".join(how))
            with open("r", "wb") as f:
                f.write(b"".join(b"%06d\n" % (i * i) for i in range(3000)) + bytes(150000))
                f.truncate(256 << 10)
            run(sys.executable, os.path.join(top, "t/chunks.py"), kind, "r", "x", *how)
            os.unlink("r")

def cloop():
    chunked("cloop", ["cloop"])

def dmg():
    chunked("dmg", ["zlib", "bz2", "adc", "raw", "zlib,raw,zero", "bz2,adc,zlib,raw,zero"])

for make in (qcow2, qed, qcow, vmdk, vdi, vpc, vhdx, luks, parallels, bochs, cloop, dmg):
    if wanted_format(make.__name__):
        make()
