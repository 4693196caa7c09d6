"""Where every process of this project begins: with this project's own packages.

Their names are common ones. A `protocol` elsewhere on PYTHONPATH, or a `queue.py` in the folder in
which a command is started, is not what is meant: neither is imported.

    python .../mnist_merge.py MODULE ARGUMENT ...   # runs a module of ours in its own process

By its path, because `python -m` searches the current folder first, and because Python 3.10 has no
`-P`. So this file is imported before it is known what else may be: it imports what is built in, or
loaded whenever Python starts.
"""

from __future__ import annotations

import os
import sys

# What `pathlib` imports might be found in that folder, too.
ROOT = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
_BY_ITS_PATH = __name__ == "__main__"
_SAFE = getattr(sys.flags, "safe_path", False)  # then Python itself puts nothing first
if _BY_ITS_PATH and not _SAFE:
    del sys.path[0]  # this folder, in which all that is installed may be

from importlib import import_module  # noqa: E402
from importlib.machinery import ModuleSpec, PathFinder  # noqa: E402
from typing import Any  # noqa: E402

#: Ours, whatever else is called so.
PACKAGES = frozenset(
    {
        "computing_node", "console", "learning", "loaders", "main_node", "protocol", "relay_node",
        "status_node",
    }
)  # fmt: skip


class _Ours:
    """Finds our packages where this file is."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a package of ours is; None of any other module."""
        return PathFinder.find_spec(name, [ROOT]) if name in PACKAGES else None


def _keep_together() -> None:
    """Have this process import our packages from here, and nothing from the current folder."""
    if _Ours not in sys.meta_path:
        sys.meta_path.insert(0, _Ours)
    by_module = getattr(sys.modules["__main__"], "__spec__", None) is not None
    if by_module and not _BY_ITS_PATH and not _SAFE:
        del sys.path[0]  # `python -m` has put the current folder there


def take(package: str, place: str, name: str) -> Any:
    """Return what a module of a package of ours has.

    Args:
        package: the package's name.
        place: the module's, seen from there.
        name: of what it has.

    Raises:
        ImportError: it can't be imported; where something else bears the name of one of our
            packages, that is said.
    """
    try:
        return getattr(import_module(place, package), name)
    except ImportError as error:
        for each in sorted(PACKAGES & sys.modules.keys()):
            other = getattr(sys.modules[each], "__file__", None) or ROOT
            if not other.startswith(ROOT):
                raise ImportError(
                    f"{other} has the name of a package that this project's are built on ({each}):"
                    " give it another"
                ) from error
        raise


def command(*arguments: str) -> list[str]:
    """Return what starts a module of ours in a process of its own.

    Args:
        arguments: the module's name, and what it is given.
    """
    return [sys.executable, os.path.join(ROOT, "mnist_merge.py"), *arguments]  # noqa: PTH118


def run(place: str) -> None:
    """Run a command, and end with its exit code.

    Args:
        place: `package.module:command`, a `click.Command`.
    """
    _keep_together()
    from console.entry import run

    run(place)


def main() -> None:
    """Run `mnist-main`."""
    run("main_node.commands.train:main")


def predict() -> None:
    """Run `mnist-predict`."""
    run("main_node.commands.predict:main")


def runs() -> None:
    """Run `mnist-runs`."""
    run("main_node.commands.runs:main")


def keys() -> None:
    """Run `mnist-keys`."""
    run("main_node.commands.keys:main")


def compute() -> None:
    """Run `mnist-compute`."""
    run("computing_node.command:main")


def relay() -> None:
    """Run `mnist-relay`."""
    run("relay_node.command:main")


def status() -> None:
    """Run `mnist-status`."""
    run("status_node.command:main")


if __name__ == "__main__":
    _keep_together()
    del sys.argv[0]
    import runpy

    sys.modules["mnist_merge"] = sys.modules["__main__"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
