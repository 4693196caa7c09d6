"""Runs a program of a document as it stands, but for port 5555: others may have that here."""

from __future__ import annotations

import sys
from pathlib import Path

from protocol.wire import addresses

port, file = sys.argv[1:]
addresses.DEFAULT_ADDRESS = addresses.DEFAULT_ADDRESS.replace("5555", port)
code = Path(file).read_text().replace(":5555", f":{port}")
exec(compile(code, file, "exec"), {"__name__": "__main__"})
