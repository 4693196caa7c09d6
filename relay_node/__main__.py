"""`python -m relay_node`, and the entry of `mnist-relay`."""

from __future__ import annotations

from console.entry import run as _run


def run() -> None:
    """Run `mnist-relay`."""
    _run("relay_node.command:main")


if __name__ == "__main__":
    run()
