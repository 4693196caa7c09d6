"""What a file is, by its first bytes, whatever it is called."""

from __future__ import annotations

import re

from protocol.wire.words import safe_line

#: So many bytes tell.
HEAD = 512
GZIP = b"\x1f\x8b"
#: Excel's first line of a table in text, that says what stands between its cells.
BETWEEN_TOLD = re.compile(rb'\A"?sep=([^\w\s"]|\t)"?\r?\n', re.IGNORECASE)
_BREAKS = str.maketrans("\r\n\t", "   ")
#: What is taken for data by mistake, by how it begins (in small letters), and what to do.
_OTHERS = (
    (b"<!doctype html", "an HTML page, not data: its download went wrong; fetch it again"),
    (b"<html", "an HTML page, not data: its download went wrong; fetch it again"),
    (b"<?xml", "an XML page, not data: its download went wrong; fetch it again"),
    (b"version https://git-lfs", "a pointer of git-lfs, not the data; run: git lfs pull"),
    (b"outs:", "a pointer of dvc, not the data; run: dvc pull"),
    (b"md5:", "a pointer of dvc, not the data; run: dvc pull"),
    (b"/annex/objects/", "a pointer of git-annex, not the data; run: git annex get"),
    (b"pk\x03\x04", "a zip archive; unpack it"),
    (b"bzh", "compressed by bzip2; unpack it"),
    (b"\xfd7zxz", "compressed by xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (GZIP, "compressed by gzip twice; unpack it once"),
    (b"\x93numpy", "an array of NumPy's"),
)


def sign(head: bytes) -> str:
    """Return what a file is, and what to do, if it is known for what is taken for data by mistake.

    Args:
        head: its first bytes.
    """
    begins = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((what for begin, what in _OTHERS if begins.startswith(begin)), "")


def tell(head: bytes, wanted: str = "an IDX file") -> str:
    """Return what a file is that is not what it should be, and what to do.

    Args:
        head: its first bytes.
        wanted: what it should be, in words.
    """
    what = sign(head)
    if what:
        return what if "; " in what else f"{what}, not {wanted}"
    text = head[:40].decode("utf-8", "replace")
    if "\ufffd" not in text[:-1] and text.translate(_BREAKS).isprintable():  # the last may be cut
        return f"not {wanted}, but text: {safe_line(text)!r}"
    return f"not {wanted}: it begins with the bytes {head[:4].hex(' ')}"
