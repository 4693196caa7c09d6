"""`python -m status_node`, and the entry of `mnist-status`."""

from __future__ import annotations

from console.entry import run as _run


def run() -> None:
    """Run `mnist-status`."""
    _run("status_node.command:main")


if __name__ == "__main__":
    run()
