"""Files that are damaged at random, from a seed: each is read, or told of, within bounds."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pyarrow as pa

import loaders
from loaders import LoaderError

SEED = 20261127
#: Bytes that may be asked for beyond those that the process has to begin with.
ROOM = 2 << 30
#: What is put into files: numbers at the edge, and what means something to a format.
WORDS = (
    b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x10", b'"', b"'", b"\n", b",",
    b"(", b"99999999999", b"PK\x03\x04", b"PAR1", b"\x93NUMPY", b"O", b"nan", b"-1",
    b"\xef\xbb\xbf",
)  # fmt: skip


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with some changed, cut off, doubled or put in."""
    new = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(new) + 1)
        if chance.random() < 0.4:  # where formats have their headers and footers
            at = chance.choice((at % 200, max(0, len(new) - 1 - at % 400)))
        how = chance.randrange(5)
        if how == 0 and at < len(new):
            new[at] = chance.randrange(256)
        elif how == 1:
            word = chance.choice(WORDS)
            new[at : at + len(word)] = word
        elif how == 2:
            del new[at : at + chance.choice((1, 4, 100, 1 << 20))]
        elif how == 3:
            new[at:at] = new[max(0, at - 50) : at]
        elif at < len(new):
            new[at] ^= 1 << chance.randrange(8)
    return bytes(new)


def fuzz(folder: Path, kind: str, count: int) -> None:
    """Open so many damaged copies of files; raise unless each is read, or told of, in bounds."""
    chance = random.Random(f"{SEED} {kind}")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    contents = {file: file.read_bytes() for file in files}
    name = folder / "mnist.npz" if kind == "npz" else folder
    read = 0
    for _ in range(count):
        file = chance.choice(files)
        file.write_bytes(damaged(contents[file], chance))
        begun = time.process_time()
        try:
            loaders.open_source(name)
            read += 1
        except LoaderError as error:
            assert str(error).isprintable(), error
        assert time.process_time() - begun < 5
        file.write_bytes(contents[file])
    print(f"{kind}: {read} of {count} were read; the others are told of")


def bound() -> None:
    """Bound the memory that this process may still ask for."""
    loaders.from_arrays([[1]], [0])
    pa.total_allocated_bytes()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
