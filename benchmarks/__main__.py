"""Every benchmark in turn, as the table of docs/benchmarks.md. Some seven minutes.

`python -m benchmarks.soak` is beside it: it counts, and compares nothing.

Usage: python -m benchmarks
"""

from __future__ import annotations

from . import crowd, faults, memory, messages, relay, startup, training, transfer
from .common import HEAD, machine

if __name__ == "__main__":
    print(machine(), "", HEAD, sep="\n")
    for part in (messages, transfer, relay, startup, training, faults, crowd, memory):
        print(*part.measure(), sep="\n", flush=True)
