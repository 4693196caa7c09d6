"""`python -m main_node`, and the entries of this side's commands."""

from __future__ import annotations

from console.entry import run as _run


def run() -> None:
    """Run `mnist-main`."""
    _run("main_node.commands.train:main")


def run_predict() -> None:
    """Run `mnist-predict`."""
    _run("main_node.commands.predict:main")


def run_runs() -> None:
    """Run `mnist-runs`."""
    _run("main_node.commands.runs:main")


def run_keys() -> None:
    """Run `mnist-keys`."""
    _run("main_node.commands.keys:main")


if __name__ == "__main__":
    run()
