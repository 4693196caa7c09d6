"""`python -m computing_node`, and the entry of `mnist-compute`."""

from __future__ import annotations

from console.entry import run as _run


def run() -> None:
    """Run `mnist-compute`."""
    _run("computing_node.command:main")


if __name__ == "__main__":
    run()
