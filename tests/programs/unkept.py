"""A main node with a run's memory: one job that is kept, and in its first life one that is not.

Usage: unkept.py FOLDER NAME [ADDRESS]      with an address it is the second life
"""

from __future__ import annotations

import sys
from pathlib import Path

from main_node import AsyncMainNode
from main_node.store.database import RunDatabase
from main_node.store.directory import RunDirectory
from main_node.store.memory import Expected, RunMemory
from protocol import JobDataType

SECONDS = 30


def main(folder: Path, address: str) -> None:
    runs = list(folder.iterdir())
    directory = RunDirectory(runs[0], new=False) if runs else RunDirectory.make(folder)
    memory = RunMemory(directory, RunDatabase(directory.path / "run.db"))
    memory.begin()
    memory.expect({"kept": Expected("work", str, str)})
    with AsyncMainNode("main", address=address or "tcp://127.0.0.1:0", journal=memory) as node:
        print("at", node.address, flush=True)
        kept = node.submit(JobDataType("kept"), "kept")
        if not address:
            node.submit(JobDataType("not kept", kept=False), "not kept")
        node.wait_for_nodes(1, SECONDS)
        print("node is here", flush=True)
        kept.result(SECONDS)
        print("solved kept", flush=True)
        view = node.view()
        print("open", view.queued + view.running, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[3] if len(sys.argv) > 3 else "")
