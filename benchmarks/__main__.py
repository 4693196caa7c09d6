"""Every benchmark in turn, as the table of docs/benchmarks.md. Some three minutes.

Usage: python -m benchmarks
"""

from __future__ import annotations

from . import messages, startup, training, transfer
from .common import HEAD, machine

if __name__ == "__main__":
    print(machine(), "", HEAD, sep="\n")
    for part in (messages, transfer, startup, training):
        print(*part.measure(), sep="\n", flush=True)
