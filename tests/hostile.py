"""What the tests on hostile data share: a guard, and images that are not what they say."""

import contextlib
import io
import os
import resource
import struct
import sys
import zlib

from PIL import Image

_STARTS = ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "pty.")
_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_seen = None  # what the guard saw; None where nobody asks


@contextlib.contextmanager
def harmless(root, output="out"):
    """Makes sure that the block starts and calls nothing, and writes to `root / output` only.

    Args:
        root: a folder; an output of ours is first written beside `output`, as .tmp-*.
        output: what may change in it.
    """
    global _seen  # noqa: PLW0603  (an audit hook cannot be taken away again)
    before = _files(root, output)
    _seen = []
    try:
        yield
    finally:
        seen, _seen = _seen, None
    own = (str(root / output), f"{root}/.tmp-", "/dev/null")
    assert [(what, path) for what, path in seen if not (path or "").startswith(own)] == []
    assert _files(root, output) == before


@contextlib.contextmanager
def modest(megabytes=300):
    """Makes sure that the block takes no more memory than that beyond what was taken before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < megabytes * 1024


def _watch(event, args):
    if _seen is None:
        return
    # A socket of this machine, with a path for its address, is how torch talks to its workers.
    is_call = event == "socket.connect" and isinstance(args[1], tuple)
    if event.startswith(_STARTS) or event == "socket.getaddrinfo" or is_call:
        _seen.append((event, None))
    elif event == "open" and isinstance(args[0], str | bytes | os.PathLike) and args[2] & _WRITE:
        _seen.append((event, os.fsdecode(args[0])))


sys.addaudithook(_watch)


def _files(root, output):
    """Each path below `root` but `output`, with what is there."""
    return {
        str(path): path.read_bytes() if path.is_file() and path.stat().st_size < 10**8 else None
        for path in sorted(root.rglob("*"))
        if output not in path.relative_to(root).parts
    }


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, pixels=None):
    """A PNG of zeros; `chunks` stand before them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = bytes(height * (1 + 3 * width)) if pixels is None else pixels
    chunks = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def encoded(kind, size=(50, 40), **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(width, height):
    """A JPEG that says it is so large."""
    data = bytearray(encoded("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width, height):
    """An animation on a canvas that is said to be so large."""

    def riff(kind, body):
        return kind + struct.pack("<I", len(body)) + body

    def uint24(*values):
        return b"".join(struct.pack("<I", value)[:3] for value in values)

    frame = bytes(6) + uint24(49, 39) + bytes(4) + encoded("WEBP")[12:]
    canvas = riff(b"VP8X", b"\x02" + bytes(3) + uint24(width - 1, height - 1))
    return riff(b"RIFF", b"WEBP" + canvas + riff(b"ANIM", bytes(6)) + riff(b"ANMF", frame))


def gif(width, height):
    """A GIF that says it is so large."""
    data = bytearray(encoded("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp(width, height, runs):
    """A run-length encoded BMP."""
    start = 54 + 1024
    sizes = struct.pack("<IHHI", start + len(runs), 0, 0, start)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + sizes + header + bytes(1024) + runs


_BOMB = zlib.compress(bytes(200_000_000), 9)
BOMBS = {
    "png of 60,000 x 60,000": png(60_000, 60_000, pixels=b""),
    "png of one row": png(60_000_000, 1, pixels=b""),
    "jpeg of 65,500 x 65,500": jpeg(65_500, 65_500),
    "jpeg strip, a square of 12 GB": jpeg(64_000, 1_000),
    "webp of 60,000 x 60,000": webp(60_000, 60_000),
    "gif of 65,535 x 65,535": gif(65_535, 65_535),
    "bmp that skips 15 GB": bmp(60_000_000, 1, b"\0\2\xff\xff"),
    "compressed text": png(8, 8, chunk(b"zTXt", b"a\0\0" + _BOMB)),
    "compressed colour profile": png(8, 8, chunk(b"iCCP", b"a\0\0" + _BOMB)),
    "much compressed text": png(
        8, 8, *[chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(999_999)))] * 100
    ),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch evil) (w) file",
    "drawing": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "web page": b"<html>404</html>",
    "nothing": b"\xff\xd8",
}
