"""Where every process of this project begins: with this project's own packages.

Their names are common ones. A `protocol` elsewhere on PYTHONPATH, or a `queue.py` in the folder in
which a command is started, is not what is meant: neither is imported.

    python .../mnist_merge.py MODULE ARGUMENT ...   # runs a module of ours in its own process

By its path, because `python -m` searches the current folder first, and because Python 3.10 has no
`-P`. Until its own folder is off the path, it imports only what is built in, or loaded whenever
Python starts.
"""

from __future__ import annotations

import os
import sys

# What `pathlib` imports might be found in that folder, too.
ROOT = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
_BY_ITS_PATH = __name__ == "__main__"
# Then Python itself puts nothing first; before 3.11 only an isolated one did so.
_SAFE = bool(getattr(sys.flags, "safe_path", sys.flags.isolated))
if _BY_ITS_PATH and not _SAFE:
    del sys.path[0]  # this folder, in which all that is installed may be


def _forget_unnamed(first: int) -> None:
    """Take off the path what nobody named: an empty part of PYTHONPATH is the current folder.

    `PYTHONPATH=$PYTHONPATH:/mine` leaves one wherever there was nothing before.

    Args:
        first: where on the path PYTHONPATH begins.
    """
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [each for each in named if each]
    if not kept or kept == named or sys.flags.ignore_environment:
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(kept)  # for processes that are started from here
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # it is gone
        here = ""
    if here not in map(os.path.abspath, kept):
        sys.path[first:] = [each for each in sys.path[first:] if each not in ("", here)]


if _BY_ITS_PATH:
    _forget_unnamed(0)
elif os.path.basename(sys.argv[0]).startswith("mnist-"):  # noqa: PTH119
    _forget_unnamed(0 if _SAFE else 1)  # a program that calls a command keeps its own path

from functools import partial  # noqa: E402
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

#: In the environment of what trains: the pools of the libraries below numpy and torch have one
#: thread. There is a process for each place; a job that is to have more threads says so to torch.
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
    ),
    "1",
)  # fmt: skip
#: ... and glibc keeps what is given back, 256 MiB of it: a step takes and gives back the same
#: megabytes again and again, and to have the system clear them each time is a sixth of its time.
_KEPT = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}

_MAINS = frozenset(f"{package}.__main__" for package in PACKAGES)


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
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name in _MAINS and not _BY_ITS_PATH and not _SAFE:
        del sys.path[0]  # `python -m` of ours has put the current folder there
        _forget_unnamed(0)


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
            inside = os.path.join(ROOT, "")  # noqa: PTH118
            other = getattr(sys.modules[each], "__file__", None) or inside
            if not other.startswith(inside):
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


def training_environment() -> dict[str, str]:
    """Return the environment of a process that trains."""
    return {**_KEPT, **os.environ, **ONE_THREAD}


def run(place: str) -> None:
    """Run a command, and end with its exit code.

    Args:
        place: `package.module:command`, a `click.Command`.
    """
    _keep_together()
    from console.entry import run

    run(place)


#: The commands, `mnist-main` and so on.
main = partial(run, "main_node.commands.train:main")
predict = partial(run, "main_node.commands.predict:main")
merge = partial(run, "main_node.commands.merge:main")
runs = partial(run, "main_node.commands.runs:main")
datasets = partial(run, "main_node.commands.datasets:main")
keys = partial(run, "main_node.commands.keys:main")
compute = partial(run, "computing_node.command:main")
relay = partial(run, "relay_node.command:main")
status = partial(run, "status_node.command:main")

if __name__ == "__main__":
    _keep_together()
    del sys.argv[0]
    import runpy

    sys.modules["mnist_merge"] = sys.modules["__main__"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
